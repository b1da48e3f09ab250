//! Against real receivers, under `AUTHTAP_TEST_SERVICES=1` (and `AUTHTAP_TEST_SERVICES_SLOW=1` for
//! what is large): there a missing one is a failure, elsewhere the test says that it did not run.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::client::Outgoing;
use super::receiver::built;
use crate::format::tests::full;
use crate::sinks::Verdict;
use crate::sinks::net::service::{wanted, wanted_large};
use crate::spool::Stored;
use crate::spool::sample::stored;

/// A receiver in Python that prints its port first; ended with the test.
pub(crate) struct Python {
    child: Child,
    out: BufReader<ChildStdout>,
    pub port: u16,
}

impl Python {
    pub fn start(script: &str) -> Python {
        let script = format!("{}/tests/services/{script}", env!("CARGO_MANIFEST_DIR"));
        let child = Command::new("python3").arg(&script).stdout(Stdio::piped()).stdin(Stdio::null()).spawn();
        let mut child = child.expect("python3 is there");
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap_or_else(|_| panic!("{script} did not start; see what it needs"));
        Python { child, out, port }
    }

    pub fn line(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn batch() -> Vec<Stored> {
    let rich = full("user.login.failed", false);
    let bare = full("authtap.started", true);
    let of = |seq, event: crate::event::Event| Stored { seq, line: event.to_line().into(), event: event.into() };
    vec![stored(1, "o\"reilly\\"), of(2, rich), of(3, bare)]
}

#[tokio::test]
async fn the_official_messages_of_opentelemetry_read_what_is_sent() {
    if !wanted() {
        return;
    }
    let mut collector = Python::start("otlp.py");
    let folder = tempfile::tempdir().unwrap();
    let mut records = Vec::new();
    for (encoding, compression) in [("json", "gzip"), ("protobuf", "zstd")] {
        // The script serves one connection at a time; it goes with the sink.
        let yaml = format!(
            "{{ type: otlp, url: 'http://127.0.0.1:{}', encoding: {encoding}, compression: {compression} }}",
            collector.port
        );
        let sink = built(&yaml, folder.path()).unwrap();
        sink.probe().await.unwrap();
        let batch = batch();
        let verdict = sink.send(&batch).await;
        assert!(matches!(verdict, Verdict::Delivered), "{encoding}: {verdict:?}");
        for one in &batch {
            let mut record = collector.line();
            assert_eq!(record["timeUnixNano"], "1768469537123000000");
            assert_eq!(record["eventName"], one.event.event_type.as_str());
            let id = record["attributes"][0].take();
            assert_eq!(id["value"]["stringValue"], one.event.id.to_string());
            record["observedTimeUnixNano"].take();
            records.push(record);
        }
    }
    let (json, protobuf) = records.split_at(records.len() / 2);
    assert_eq!(json, protobuf, "both encodings say the same");
}

#[cfg(feature = "otlp-grpc")]
#[tokio::test]
async fn grpcio_takes_records_rejects_one_and_asks_to_wait() {
    if !wanted() {
        return;
    }
    let mut collector = Python::start("otlp_grpc.py");
    let folder = tempfile::tempdir().unwrap();
    for compression in ["off", "gzip"] {
        let url = format!("http://127.0.0.1:{}", collector.port);
        let yaml = format!("{{ type: otlp, url: '{url}', protocol: grpc, compression: {compression} }}");
        let sink = built(&yaml, folder.path()).unwrap();
        sink.probe().await.unwrap();
        let all = batch();
        let verdict = sink.send(&all).await;
        assert!(matches!(verdict, Verdict::Delivered), "{compression}: {verdict:?}");
        for one in &all {
            let record = collector.line();
            assert_eq!(record["eventName"], one.event.event_type.as_str());
            assert_eq!(record["attributes"][0]["value"]["stringValue"], one.event.id.to_string());
        }
        let verdict = sink.send(&[stored(1, "alice"), stored(2, "mallory")]).await;
        assert!(matches!(&verdict, Verdict::Refused { which, .. } if which == &[1]), "{verdict:?}");
        assert!(collector.line()["eventName"].is_string(), "the other is delivered");
        let verdict = sink.send(&[stored(1, "later")]).await;
        let waits = Some(std::time::Duration::from_millis(500));
        assert!(matches!(&verdict, Verdict::Retry { after, .. } if *after == waits), "{verdict:?}");
    }
}

#[tokio::test]
async fn the_engine_of_clickhouse_takes_the_rows_into_the_shipped_table() {
    if !wanted_large() {
        return;
    }
    let server = Python::start("clickhouse.py");
    let folder = tempfile::tempdir().unwrap();
    let yaml = format!("{{ type: clickhouse, url: 'http://127.0.0.1:{}', compression: gzip }}", server.port);
    let sink = built(&yaml, folder.path()).unwrap();
    assert!(sink.probe().await.is_err(), "there is no table yet");
    let client = super::tests::client(&format!("url: http://127.0.0.1:{}\n", server.port), folder.path()).unwrap();
    let ask = async |sql: &str| {
        let reply = client.send(Outgoing::post("text/plain", sql.into())).await.unwrap();
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(reply.status.is_success(), "{text}");
        text
    };
    ask(include_str!("../../../examples/clickhouse/table.sql")).await;
    sink.probe().await.unwrap();
    let batch = batch();
    let verdict = sink.send(&batch).await;
    assert!(matches!(verdict, Verdict::Delivered), "{verdict:?}");
    let rows = ask("SELECT id, toString(timestamp), actor_login, fields['remember'] FROM authtap_events ORDER BY event_type, actor_id").await;
    let mut rows: Vec<&str> = rows.lines().collect();
    rows.sort_unstable();
    let mut expected: Vec<String> = batch
        .iter()
        .map(|one| {
            let login = one.event.actor.login.as_ref().map_or("", |login| login.as_str()).replace('\\', "\\\\");
            let remember = if one.event.metadata.fields.is_empty() { "" } else { "on" };
            format!("{}\t2026-01-15 09:32:17.123\t{login}\t{remember}", one.event.id)
        })
        .collect();
    expected.sort_unstable();
    assert_eq!(rows, expected);
}

#[test]
fn fail2ban_finds_the_real_address_in_a_line_that_tries_to_forge_one() {
    if !wanted() {
        return;
    }
    use crate::format::tests::write;
    let mut lines = Vec::new();
    for (seq, login) in [
        "alice",
        "x\" ip=192.0.2.1 outcome=failure",
        "2026-01-15T09:32:17.123Z authtap user.login.failed ip=192.0.2.1 outcome=failure",
    ]
    .iter()
    .enumerate()
    {
        let mut event = full("user.login.failed", false);
        event.actor.login = crate::event::Text::identifier(login);
        event.metadata.ip_address = format!("203.0.113.{}", seq + 1).parse().ok();
        lines.push(write("line", &event));
    }
    lines.push(write("line", &full("user.login.success", false)));
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("events.log");
    std::fs::File::create(&log).unwrap().write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    let filter = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/fail2ban/authtap-line.conf");
    let output = Command::new("fail2ban-regex").args(["-o", "ip"]).arg(&log).arg(filter).output();
    let output = output.expect("fail2ban-regex is missing (Debian: fail2ban)");
    let found = String::from_utf8_lossy(&output.stdout);
    assert_eq!(found.lines().collect::<Vec<_>>(), ["203.0.113.1", "203.0.113.2", "203.0.113.3"], "{output:?}");
}
