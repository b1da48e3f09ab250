// Behind a feature clippy does not see that this is a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::sinks::Verdict;
use crate::sinks::http::receiver::{built, problems};
use crate::sinks::net::service::{Service, batch, free_port, lines, output, until, wanted};
use crate::spool::Stored;
use crate::tls::fixture::{Authority, replace};

const PACKAGE: &str = "Debian: mosquitto";

fn broker(folder: &std::path::Path, port: u16, config: &str) -> Service {
    let file = folder.join("mosquitto.conf");
    std::fs::write(&file, config).unwrap();
    Service::at(port, Command::new("mosquitto").arg("-c").arg(&file), PACKAGE)
}

/// A subscriber that remembers its session, so that nothing is lost while it is not there.
fn subscribe(port: u16, count: usize) -> (std::process::Child, std::thread::JoinHandle<Vec<String>>) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services/mqtt_read.py");
    let mut child = Command::new("python3")
        .args([script, &port.to_string(), "auth/#", &count.to_string()])
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .expect("python3 is there");
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "subscribed");
    (child, std::thread::spawn(move || out.lines().map(Result::unwrap).collect()))
}

#[tokio::test]
async fn every_event_is_acknowledged_and_read_by_a_subscriber_in_order() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let yaml = format!("{{ type: mqtt, address: '127.0.0.1:{port}', topic: 'auth/{{type}}', timeout: 5s }}");
    let sink = built(&yaml, folder.path()).unwrap();
    assert!(matches!(sink.send(&batch(1)).await, Verdict::Retry { .. }), "nobody is there yet");
    assert!(sink.probe().await.is_err());
    let config = format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n");
    let first = broker(folder.path(), port, &config);
    sink.probe().await.unwrap();
    let (mut child, read) = subscribe(port, 350);
    let mut all = batch(351);
    all[7] = Stored { line: "x".repeat(2 << 20).into(), ..all[7].clone() };
    match sink.send(&all).await {
        Verdict::Refused { which, .. } => assert_eq!(which, [7]),
        verdict => panic!("{verdict:?}"),
    }
    all.remove(7);
    let expected: Vec<String> = lines(&all).into_iter().map(|line| format!("auth/user.login.failed {line}")).collect();
    assert_eq!(read.join().unwrap(), expected);
    child.wait().unwrap();
    first.end();
    assert!(matches!(sink.send(&batch(2)).await, Verdict::Retry { .. }));
    let _second = broker(folder.path(), port, &config);
    assert!(matches!(sink.send(&batch(2)).await, Verdict::Delivered));
}

#[tokio::test]
async fn it_signs_in_over_tls() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().display().to_string();
    let authority = Authority::new("mqtt");
    replace(folder.path(), "ca.pem", &authority.pem());
    replace(folder.path(), "good", "hunter2hunter2\n");
    replace(folder.path(), "bad", "hunter3hunter3\n");
    authority.server(&["127.0.0.1"]).write(folder.path(), "server");
    let passwords = folder.path().join("passwords");
    output(Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&passwords).args(["authtap", "hunter2hunter2"]));
    let port = free_port();
    let config = format!(
        "user root\nlistener {port} 127.0.0.1\nallow_anonymous false\npassword_file {base}/passwords\ncertfile {base}/server.pem\nkeyfile {base}/server.key\n"
    );
    let _broker = broker(folder.path(), port, &config);
    let with = |password: &str, tls: &str| {
        let yaml = format!(
            "{{ type: mqtt, address: '127.0.0.1:{port}', user: authtap, password_file: {password}, timeout: 5s, tls: {tls} }}"
        );
        built(&yaml, folder.path()).unwrap()
    };
    let good = until("the sink", || Some(with("good", "{ ca: ca.pem }")));
    good.probe().await.unwrap();
    assert!(matches!(good.send(&batch(3)).await, Verdict::Delivered));
    let error = with("bad", "{ ca: ca.pem }").probe().await.unwrap_err().to_string();
    assert!(error.contains("does not let this user in") && !error.contains("hunter"), "{error}");
    assert!(with("good", "on").probe().await.is_err(), "the system does not know our authority");
}

#[test]
fn settings_that_cannot_be_are_told() {
    for (yaml, expected) in [
        ("address: a.test, topic: 'a/#'", "`topic` cannot be"),
        ("address: a.test, client_id: 'a b'", "`client_id` cannot be"),
        ("address: a.test, password_env: A", "a password without a `user`"),
    ] {
        let told = problems(&format!("{{ type: mqtt, {yaml} }}"));
        assert!(told.contains(expected), "{yaml}: {told}");
    }
}
