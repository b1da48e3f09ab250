// Behind a feature clippy does not see that this is a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::sinks::Verdict;
use crate::sinks::http::receiver::{built, problems, spec};
use crate::sinks::net::service::{Service, batch, free_port, output, until, wanted};
use crate::tls::fixture::{Authority, replace};

const PACKAGE: &str = "Debian: redis-server";

fn server(port: u16, folder: &Path, more: &[&str]) -> Service {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(folder).args(more);
    Service::at(port, &mut command, PACKAGE)
}

fn ask(port: u16, arguments: &[&str]) -> String {
    output(Command::new("redis-cli").args(["-p", &port.to_string(), "--json"]).args(arguments))
}

#[tokio::test]
async fn every_event_is_an_entry_in_order_and_the_stream_is_trimmed() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = server(port, folder.path(), &[]);
    let sink =
        built(&format!("{{ type: redis, address: '127.0.0.1:{port}', stream: 'auth:{{type}}' }}"), folder.path());
    let sink = sink.unwrap();
    sink.probe().await.unwrap();
    let all = batch(300);
    assert!(matches!(sink.send(&all).await, Verdict::Delivered));
    let text = ask(port, &["XRANGE", "auth:user.login.failed", "-", "+"]);
    let entries: Vec<(String, Vec<String>)> = serde_json::from_str(&text).unwrap();
    assert_eq!(entries.len(), all.len());
    for ((_, fields), one) in entries.iter().zip(&all) {
        let expected = ["id", &one.event.id.to_string(), "type", "user.login.failed", "event", &one.line];
        assert_eq!(fields, &expected);
    }
    let short =
        built(&format!("{{ type: redis, address: '127.0.0.1:{port}', stream: s, maxlen: 100 }}"), folder.path());
    let short = short.unwrap();
    for _ in 0..4 {
        assert!(matches!(short.send(&batch(500)).await, Verdict::Delivered));
    }
    let length: u64 = ask(port, &["XLEN", "s"]).trim().parse().unwrap();
    // Redis trims by whole nodes of 100 entries.
    assert!((100..=300).contains(&length), "{length}");
}

#[tokio::test]
async fn redis_away_full_or_of_another_mind_means_again_and_nothing_is_lost_or_twice() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let sink = built(&format!("{{ type: redis, address: '127.0.0.1:{port}', stream: 'a:{{type}}' }}"), folder.path());
    let sink = sink.unwrap();
    let mut two = batch(2);
    let other = crate::spool::sample::of_type("api_key.created", "bob");
    two[1] = crate::spool::Stored { seq: 2, line: other.to_line().into(), event: other.into() };
    let again = |verdict: Verdict, expected: &str| match verdict {
        Verdict::Retry { why, .. } => {
            let why = why.to_string();
            assert!(why.contains(expected) && !why.contains("alice") && !why.contains("bob"), "{expected}: {why}");
        }
        verdict => panic!("{expected}: {verdict:?}"),
    };
    again(sink.send(&two).await, "no connection");
    let first = server(port, folder.path(), &[]);
    ask(port, &["SET", "a:api_key.created", "x"]);
    again(sink.send(&two).await, "WRONGTYPE");
    ask(port, &["DEL", "a:api_key.created"]);
    assert!(matches!(sink.send(&two).await, Verdict::Delivered));
    assert_eq!(ask(port, &["XLEN", "a:user.login.failed"]).trim(), "1", "what was stored is not added again");
    assert_eq!(ask(port, &["XLEN", "a:api_key.created"]).trim(), "1");
    first.end();
    again(sink.send(&batch(1)).await, "127.0.0.1");
    let _second = server(port, folder.path(), &[]);
    assert!(matches!(sink.send(&batch(1)).await, Verdict::Delivered));
}

#[tokio::test]
async fn it_signs_in_over_tls_and_keeps_the_password_to_itself() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("redis");
    replace(folder.path(), "ca.pem", &authority.pem());
    replace(folder.path(), "good", "hunter2hunter2\n");
    replace(folder.path(), "bad", "hunter3hunter3\n");
    authority.server(&["127.0.0.1"]).write(folder.path(), "server");
    let (plain, tls) = (free_port(), free_port());
    let tls_port = tls.to_string();
    let base = folder.path().display().to_string();
    let (cert, key, ca) = (format!("{base}/server.pem"), format!("{base}/server.key"), format!("{base}/ca.pem"));
    let _server = server(
        plain,
        folder.path(),
        &[
            "--tls-port",
            &tls_port,
            "--tls-cert-file",
            &cert,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
            "--tls-auth-clients",
            "no",
            "--requirepass",
            "hunter2hunter2",
        ],
    );
    let with = |password: &str, tls: &str| {
        let yaml = format!("{{ type: redis, address: '127.0.0.1:{tls_port}', password_file: {password}, tls: {tls} }}");
        assert!(!format!("{:?}", spec(&yaml)).contains("hunter"));
        built(&yaml, folder.path()).unwrap()
    };
    let good = until("the second port", || Some(with("good", "{ ca: ca.pem }")));
    good.probe().await.unwrap();
    assert!(matches!(good.send(&batch(3)).await, Verdict::Delivered));
    let error = with("bad", "{ ca: ca.pem }").probe().await.unwrap_err().to_string();
    assert!(error.contains("does not let this user in"), "{error}");
    assert!(!error.contains("hunter"), "{error}");
    assert!(with("good", "on").probe().await.is_err(), "the system does not know our authority");
}

#[tokio::test]
async fn a_server_that_never_answers_costs_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sink = built(&format!("{{ type: redis, address: '{address}', timeout: 100ms }}"), folder.path()).unwrap();
    match sink.send(&batch(1)).await {
        Verdict::Retry { why, .. } => assert!(why.to_string().contains("within 100ms"), "{why}"),
        verdict => panic!("{verdict:?}"),
    }
    // What is no answer of Redis is one more reason to try again.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let verdict = sink.send(&batch(1)).await;
    assert!(matches!(verdict, Verdict::Retry { .. }), "{verdict:?}");
}

#[test]
fn a_user_needs_a_password_and_a_stream_a_name() {
    for (yaml, expected) in [
        ("address: a.test, user: u", "a `user` without a password"),
        ("address: a.test, stream: 'a b'", "`stream` cannot be"),
        ("address: a.test, db: -1", "whole number"),
    ] {
        let told = problems(&format!("{{ type: redis, {yaml} }}"));
        assert!(told.contains(expected), "{yaml}: {told}");
    }
}
