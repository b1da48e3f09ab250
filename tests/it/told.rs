//! What the application is told, over whatever it listens on, and how soon it can be told.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use crate::harness::binary::{Running, authtap};
use crate::harness::client::{ask, get};
use crate::harness::origin::{Origin, answer};
use crate::harness::proxy::Proxy;
use crate::harness::{LOGIN, at};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn the_application_is_told_who_asks_and_under_which_id() {
    let origin = Origin::answering(|_| answer("200 OK", &[], "ok"));
    let proxy = Proxy::before(origin.address, "client_ip: { trusted_proxies: [127.0.0.1] }");
    let asked = |fields: &str| ask(proxy.address, format!("GET / HTTP/1.1\r\nHost: a.test:8080\r\n{fields}\r\n"));
    asked("");
    asked(&format!(
        "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Request-Id: abc-1\r\ntraceparent: {TRACE}\r\n"
    ));
    let told = origin.requests();

    assert_eq!(told[0].field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(told[0].field("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(told[0].field("x-forwarded-host").as_deref(), Some("a.test:8080"));
    assert_eq!(told[0].field("x-request-id").map(|id| id.len()), Some(36), "one is made");
    assert_eq!(told[0].field("traceparent"), None, "none is made");

    assert_eq!(told[1].field("x-forwarded-for").as_deref(), Some("203.0.113.7, 127.0.0.1"));
    assert_eq!(told[1].field("x-forwarded-proto").as_deref(), Some("https"), "the trusted peer knows");
    assert_eq!(told[1].field("x-request-id").as_deref(), Some("abc-1"), "one that is there is kept");
    assert_eq!(told[1].field("traceparent").as_deref(), Some(TRACE), "passed on as it is");
}

#[test]
fn an_event_carries_the_ids_that_the_application_was_told() {
    let origin = Origin::answering(|_| answer("302 Found", &["Location: /home", "Set-Cookie: SID=x1"], ""));
    let proxy = Proxy::before(origin.address, LOGIN);
    let body = "login=alice&password=secret";
    ask(
        proxy.address,
        format!(
            "POST /login HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: abc-2\r\ntraceparent: {TRACE}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    let event = &proxy.await_events(1)[0];
    assert_eq!(at(event, "/metadata/request/id"), "abc-2");
    assert_eq!(at(event, "/metadata/request/trace_id"), "0af7651916cd43dd8448eb211c80319c");
}

#[test]
fn an_application_on_a_unix_socket_is_reached() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("app.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let application = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("a request") == 1 {
            head.push(byte[0]);
        }
        stream.write_all(&answer("200 OK", &[], "over the socket")).expect("answered");
        String::from_utf8_lossy(&head).into_owned()
    });
    let file = folder.path().join("routes.yaml");
    let yaml = format!("version: 1\nupstream: unix:{}\nworkers: 1\nsinks: []\n", socket.display());
    std::fs::write(&file, yaml).expect("written");
    let proxy = Proxy::with_file(file);
    assert_eq!(get(proxy.address, "/page?x=1").text(), "over the socket");
    assert!(application.join().expect("no panic").starts_with("GET /page?x=1 HTTP/1.1\r\n"));
}

#[test]
fn what_the_first_event_needs_is_made_ready_when_the_first_request_was_answered() {
    let origin = Origin::answering(|_| answer("200 OK", &[], "ok"));
    let folder = tempfile::tempdir().expect("a folder");
    let upstream = format!("http://{}", origin.address);
    let arguments = ["run", "--listen", "127.0.0.1:0", "--admin", "off", "--upstream", &upstream];
    let running = Running::spawn(authtap(folder.path(), &arguments).env("AUTHTAP_LOG", "authtap=debug"));
    let address = running.await_address("listening");
    // No login, and nothing that any rule is about.
    assert_eq!(get(address, "/style.css").status(), 200);
    running.await_line("what the first event needs is ready");
}

#[test]
fn two_seconds_after_its_start_the_program_serves() {
    let origin = Origin::answering(|_| answer("200 OK", &[], "ok"));
    let folder = tempfile::tempdir().expect("a folder");
    let began = Instant::now();
    let upstream = format!("http://{}", origin.address);
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/routes.yaml");
    // What it remembers stays out of the folder of the sources.
    let arguments = ["--config", config, "--upstream", &upstream, "--data", "data"];
    let (_running, address, admin) = Running::start(folder.path(), &arguments);
    assert_eq!(get(admin, "/readyz").status(), 200);
    assert_eq!(get(address, "/").status(), 200);
    assert!(began.elapsed() < Duration::from_secs(2), "it took {:?}", began.elapsed());
}
