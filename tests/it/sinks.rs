//! From traffic to a receiver of events, by the real program: filters, formats, a receiver that is
//! away at first, and a secret that is nowhere but in the request to the receiver.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::harness::binary::{Running, run};
use crate::harness::{Client, LOGIN, Origin, answer, form};

const SECRET: &str = "tok-n3v3r-shown-0123456789";

#[test]
fn a_login_reaches_a_receiver_that_was_away_in_its_format_and_no_other_event_does() {
    let application = Origin::answering(|_| answer("200 OK", &[], "<p>Sorry, wrong password</p>"));
    let turns = AtomicUsize::new(0);
    let receiver = Origin::answering(move |_| match turns.fetch_add(1, Relaxed) {
        0 => answer("503 Service Unavailable", &[], ""),
        _ => answer("204 No Content", &[], ""),
    });
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("token"), SECRET).expect("a file");
    let sink = format!(
        "sinks:\n  - {{ type: webhook, url: 'http://{}/in', token_file: token, only: 'user.login.*', outcome: failure, format: ocsf }}\n",
        receiver.address
    );
    let file = format!("version: 1\nupstream: http://{}\nworkers: 1\n{LOGIN}\n{sink}", application.address);
    fs::write(folder.path().join("routes.yaml"), file).expect("a file");

    let (_running, address, admin) = Running::start(folder.path(), &["--config", "routes.yaml"]);
    Client::connect(address).send(form("/login", "username=alice&password=wrong")).answer("POST");
    // The first attempt is answered 503, the second taken.
    receiver.await_heads(2);
    let shown = Client::connect(admin).send("GET /config HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").answer("GET").text();
    assert!(shown.contains("webhook") && !shown.contains(SECRET), "{shown}");
    let checked = run(folder.path(), &["check", "--connect", "routes.yaml"]);
    let said = format!("{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert!(said.contains("sink webhook") && !said.contains(SECRET), "{said}");

    let first = receiver.requests().remove(0);
    assert_eq!(first.field("authorization"), Some(format!("Bearer {SECRET}")));
    let event: serde_json::Value = serde_json::from_str(&first.text()).expect("JSON");
    assert_eq!((&event["class_uid"], &event["user"]["name"]), (&3002.into(), &"alice".into()), "{event}");
    assert_eq!(first.field("x-idempotency-key").as_deref(), event["metadata"]["uid"].as_str());
}
