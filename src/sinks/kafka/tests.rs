// Behind a feature clippy does not see that this is a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::partition::partition;
use crate::sinks::Verdict;
use crate::sinks::http::receiver::{built, problems};
use crate::sinks::net::service::{batch, free_port, output, wanted};
use crate::spool::sample::stored;

fn script(name: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(format!("{}/tests/services/{name}", env!("CARGO_MANIFEST_DIR"))).stdin(Stdio::null());
    command
}

/// librdkafka's own broker; ended with the test.
struct Broker {
    child: Child,
    address: String,
}

impl Broker {
    fn start() -> Broker {
        Broker::of(script("kafka.py").arg("1"))
    }

    /// One with the topic `authtap.events` of one partition, which answers the first requests to store
    /// records with these codes of the protocol.
    fn failing(codes: &[i16]) -> Broker {
        Broker::of(script("kafka_errors.py").args(codes.iter().map(ToString::to_string)))
    }

    fn of(command: &mut Command) -> Broker {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        assert!(address.contains(':'), "no broker (PyPI: confluent-kafka)");
        Broker { child, address }
    }

    /// Makes a topic of four partitions.
    fn topic(&self, name: &str) {
        output(script("kafka_topic.py").args([&self.address, name]));
    }

    /// Partition, offset, key, value, headers and time of each record.
    #[expect(clippy::type_complexity, reason = "as it is printed")]
    fn read(
        &self,
        topic: &str,
        count: usize,
    ) -> Vec<(i32, i64, Option<String>, String, BTreeMap<String, String>, i64)> {
        let text = output(script("kafka_read.py").args([&self.address, topic, &count.to_string()]));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn records_are_read_back_by_another_client_in_order_by_key_with_their_headers() {
    if !wanted() {
        return;
    }
    let broker = Broker::start();
    let folder = tempfile::tempdir().unwrap();
    for compression in ["none", "gzip", "snappy"] {
        let topic = format!("auth-{compression}");
        broker.topic(&topic);
        let yaml = format!(
            "{{ type: kafka, brokers: '{}', topic: {topic}, compression: {compression}, timeout: 20s }}",
            broker.address
        );
        let sink = built(&yaml, folder.path()).unwrap();
        sink.probe().await.unwrap();
        let all = batch(300);
        for part in all.chunks(110) {
            let verdict = sink.send(part).await;
            assert!(matches!(verdict, Verdict::Delivered), "{compression}: {verdict:?}");
        }
        let read = broker.read(&topic, all.len());
        let mut last: BTreeMap<String, usize> = BTreeMap::new();
        for (at, _, key, value, headers, time) in &read {
            let place = all.iter().position(|one| *one.line == **value).expect("an event of ours, whole");
            let one = &all[place];
            let key = key.clone().unwrap();
            assert_eq!(Some(key.as_str()), one.event.actor.login.as_ref().map(|login| login.as_str()));
            assert_eq!(*at as usize, partition(key.as_bytes(), 4));
            assert!(last.insert(key, place).is_none_or(|before| before < place), "one person's events stay in order");
            assert_eq!(headers["id"], one.event.id.to_string());
            assert_eq!(
                (headers["type"].as_str(), headers["content-type"].as_str()),
                ("user.login.failed", "application/json")
            );
            assert_eq!(*time, one.event.timestamp.as_millis());
        }
    }
}

#[tokio::test]
async fn a_key_is_made_of_what_is_sent_and_nothing_else() {
    if !wanted() {
        return;
    }
    let broker = Broker::start();
    let folder = tempfile::tempdir().unwrap();
    for (topic, settings, expected) in [
        ("hidden", "fields: { drop: /actor }", None),
        ("without", "key: none", None),
        ("pointer", "key: /metadata/request/path", Some("/login")),
    ] {
        broker.topic(topic);
        let yaml =
            format!("{{ type: kafka, brokers: '{}', topic: {topic}, timeout: 20s, {settings} }}", broker.address);
        let sink = built(&yaml, folder.path()).unwrap();
        assert!(matches!(sink.send(&[stored(1, "alice")]).await, Verdict::Delivered), "{topic}");
        let read = broker.read(topic, 1);
        assert_eq!(read[0].2.as_deref(), expected, "{topic}");
        assert_eq!(read[0].3.contains("alice"), topic != "hidden");
    }
}

#[tokio::test]
async fn a_broker_away_or_without_the_topic_means_again_within_the_time_allowed() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let yaml = format!("{{ type: kafka, brokers: '127.0.0.1:{}', timeout: 1s }}", free_port());
    let sink = built(&yaml, folder.path()).unwrap();
    let began = std::time::Instant::now();
    match sink.send(&batch(2)).await {
        Verdict::Retry { why, .. } => assert!(!why.to_string().contains("alice"), "{why}"),
        verdict => panic!("{verdict:?}"),
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "the library alone would try for ever");
    assert!(sink.probe().await.is_err());

    let broker = Broker::start();
    let yaml = format!("{{ type: kafka, brokers: '{}', topic: 'a.{{type}}', timeout: 20s }}", broker.address);
    let sink = built(&yaml, folder.path()).unwrap();
    match sink.send(&batch(2)).await {
        Verdict::Retry { why, .. } => {
            assert!(why.to_string().contains("there is no topic a.user.login.failed"), "{why}");
        }
        verdict => panic!("{verdict:?}"),
    }
    broker.topic("a.user.login.failed");
    assert!(matches!(sink.send(&batch(2)).await, Verdict::Delivered), "the topic is found when it is there");
}

#[tokio::test]
async fn a_record_that_the_broker_finds_too_large_is_found_and_the_others_are_stored() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    const TOO_LARGE: i16 = 10;
    // All three at once, then each by itself.
    let broker = Broker::failing(&[TOO_LARGE, 0, TOO_LARGE, 0]);
    let yaml = format!("{{ type: kafka, brokers: '{}', timeout: 20s }}", broker.address);
    let sink = built(&yaml, folder.path()).unwrap();
    let all = batch(3);
    match sink.send(&all).await {
        Verdict::Refused { which, why } => {
            assert_eq!(which, [1]);
            assert!(why.to_string().contains("MessageTooLarge"), "{why}");
        }
        verdict => panic!("{verdict:?}"),
    }
    assert!(matches!(sink.send(&batch(2)).await, Verdict::Delivered), "the sink goes on");
    let read = broker.read("authtap.events", 4);
    assert_eq!([&read[0].3, &read[1].3], [&*all[0].line, &*all[2].line]);

    // One alone is not tried twice.
    let broker = Broker::failing(&[TOO_LARGE]);
    let yaml = format!("{{ type: kafka, brokers: '{}', timeout: 20s }}", broker.address);
    let sink = built(&yaml, folder.path()).unwrap();
    assert!(matches!(sink.send(&all[..1]).await, Verdict::Refused { which, .. } if which == [0]));
}

#[test]
fn settings_that_cannot_be_are_told() {
    for (yaml, expected) in [
        ("brokers: []", "an empty list"),
        ("brokers: ['a.test', 'b c']", "no HOST:PORT"),
        ("brokers: a.test, key: login", "`key` cannot be"),
        ("brokers: a.test, topic: a/b", "`topic` cannot be"),
        ("brokers: a.test, user: u", "a user needs a password"),
        ("brokers: a.test, user: u, password_env: A", "in clear"),
        ("brokers: a.test, compression: lz4", "is not known here"),
    ] {
        let told = problems(&format!("{{ type: kafka, {yaml} }}"));
        assert!(told.contains(expected), "{yaml}: {told}");
    }
}
