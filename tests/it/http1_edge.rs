//! HTTP/1 at its edges: answers that come before the request has, bodies that nobody reads, connections
//! that are told to stop, and what is said on the way.

use std::io::ErrorKind;
use std::time::Instant;

use crate::harness::{Client, Gate, Message, Origin, PATIENCE, Proxy, answer, get};

/// Bytes without a short period, so that a piece that is missing shows.
fn upload(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * n % 251) as u8).collect()
}

#[test]
fn an_upload_goes_on_whole_after_an_early_answer_even_if_the_connection_is_to_close() {
    const LEN: usize = 4 << 20;
    for connection in ["close", "keep-alive"] {
        let (taken, take) = std::sync::mpsc::sync_channel(1);
        let taken_on = std::sync::Mutex::new(taken);
        let gate = Gate::default();
        let passing = gate.clone();
        let origin = Origin::raw(move |conn| {
            while let Some(mut request) = conn.head() {
                if !conn.send(&answer("200 OK", &[], "early")) {
                    return;
                }
                passing.pass();
                conn.body(&mut request);
                taken_on.lock().expect("no panic under the lock").send(request).expect("the test waits");
            }
        });
        let proxy = Proxy::before(origin.address, "");
        let mut client = Client::connect(proxy.address);
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\nContent-Length: {LEN}\r\n\r\n"));
        assert_eq!(client.answer("PUT").text(), "early");
        let body = upload(LEN);
        // Part of it waits before anybody at the application reads.
        client.send(&body[..LEN / 4]);
        gate.open();
        client.send(&body[LEN / 4..]);
        let request: Message = take.recv_timeout(PATIENCE).expect("the application has the request");
        assert!(request.whole && request.body == body, "{} of {LEN} bytes, or others", request.body.len());
        if connection == "close" {
            assert!(client.ends());
        } else {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.answer("GET").text(), "early", "the connection serves on");
        }
    }
}

#[test]
fn an_upload_that_an_application_has_answered_and_does_not_read_is_given_up() {
    let gate = Gate::default();
    let passing = gate.clone();
    let origin = Origin::raw(move |conn| {
        conn.head();
        conn.send(&answer("200 OK", &[], "early"));
        // Neither reads nor closes.
        passing.pass();
    });
    let proxy = Proxy::before(origin.address, "timeouts: { answer: 300ms }");
    let mut client = Client::connect(proxy.address);
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
    assert_eq!(client.answer("PUT").text(), "early");
    let piece = upload(1 << 20);
    let answered = Instant::now();
    let error = loop {
        if let Err(error) = client.try_send(&piece) {
            break error;
        }
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "it was closed: {error}");
    assert!(answered.elapsed() < PATIENCE, "before the application went away");
    gate.open();
}

#[test]
fn who_waits_for_the_word_to_go_on_hears_it_after_any_number_of_hints() {
    let origin = Origin::raw(|conn| {
        let Some(mut request) = conn.head() else { return };
        conn.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(50).as_bytes());
        conn.send(b"HTTP/1.1 100 Continue\r\n\r\n");
        conn.body(&mut request);
        conn.send(&answer("200 OK", &[], &request.body));
    });
    let proxy = Proxy::before(origin.address, "");
    let mut client = Client::connect(proxy.address);
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    let mut hints = 0;
    while client.head().status() == 103 {
        hints += 1;
    }
    assert!((1..50).contains(&hints), "{hints} hints: bounded");
    assert_eq!(client.send("body").answer("PUT").text(), "body");
}

#[test]
fn hints_without_end_hold_up_neither_the_time_limit_nor_other_requests() {
    let origin = Origin::raw(|conn| {
        let Some(request) = conn.head() else { return };
        if request.start().contains("/quick") {
            conn.send(&answer("200 OK", &[], "quick"));
            return;
        }
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(1000);
        while conn.send(hints.as_bytes()) {}
    });
    let proxy = Proxy::before(origin.address, "timeouts: { answer: 300ms }");
    let mut client = Client::connect(proxy.address);
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().status(), 103);
    assert_eq!(get(proxy.address, "/quick").text(), "quick");
    let answered = loop {
        let head = client.head();
        if head.status() != 103 {
            break head;
        }
    };
    assert_eq!(answered.status(), 504);
}

#[test]
fn after_a_refusal_without_a_word_to_go_on_nothing_more_is_read() {
    let origin = Origin::raw(|conn| {
        while conn.head().is_some() {
            conn.send(&answer("401 Unauthorized", &[], ""));
        }
    });
    let proxy = Proxy::before(origin.address, "");
    let mut client = Client::connect(proxy.address);
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 40\r\n\r\n");
    let refused = client.answer("PUT");
    assert_eq!((refused.status(), refused.field("connection").as_deref()), (401, Some("close")));
    // The body, or another request: nobody can tell. It may be gone already.
    let _ = client.try_send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.ends());
}

#[test]
fn an_application_that_switches_before_it_has_the_request_is_not_believed() {
    let origin = Origin::raw(|conn| {
        conn.head();
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        conn.await_end();
    });
    let proxy = Proxy::before(origin.address, "");
    let mut client = Client::connect(proxy.address);
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 10\r\n\r\nhalf ");
    assert_eq!(client.answer("POST").status(), 502);
    assert!(client.ends());
}

#[test]
fn bytes_that_follow_an_upgrade_at_once_are_the_tunnels_on_both_sides() {
    let origin = Origin::raw(|conn| {
        conn.request();
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nfirst,");
        let mut piece = [0; 64];
        loop {
            match conn.some(&mut piece) {
                0 => return,
                n => conn.send(&piece[..n]),
            };
        }
    });
    let proxy = Proxy::before(origin.address, "");
    let mut client = Client::connect(proxy.address);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly,");
    assert_eq!(client.head().status(), 101);
    client.send("late");
    client.half_close();
    let (mut all, mut piece) = (Vec::new(), [0; 64]);
    loop {
        match client.some(&mut piece) {
            0 => break,
            n => all.extend_from_slice(&piece[..n]),
        }
    }
    assert_eq!(String::from_utf8_lossy(&all), "first,early,late");
}

#[test]
fn lengths_of_answers_without_a_body_take_nothing_of_the_next_answer() {
    let origin = Origin::answering(|request| match request.target().as_str() {
        "/head" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n".to_vec(),
        "/204" => b"HTTP/1.1 204 No Content\r\nContent-Length: 100\r\n\r\n".to_vec(),
        _ => answer("200 OK", &[], "last"),
    });
    let proxy = Proxy::before(origin.address, "");
    let mut client = Client::connect(proxy.address);
    let asked = [("HEAD", "/head"), ("GET", "/304"), ("GET", "/204"), ("HEAD", "/head"), ("GET", "/last")];
    let all: Vec<String> =
        asked.iter().map(|(method, target)| format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(all.concat());
    let told = |client: &mut Client, method| client.answer(method).field("content-length");
    assert_eq!(told(&mut client, "HEAD").as_deref(), Some("100"));
    assert_eq!(told(&mut client, "GET").as_deref(), Some("100"));
    assert_eq!(told(&mut client, "GET"), None, "204 has none (RFC 9110 section 8.6)");
    assert_eq!(told(&mut client, "HEAD").as_deref(), Some("100"));
    assert_eq!(client.answer("GET").text(), "last");
}

#[test]
fn a_client_of_http10_keeps_its_connection_only_where_the_end_of_the_answer_is_told() {
    let origin = Origin::answering(|request| match request.target().as_str() {
        "/sized" => answer("200 OK", &[], "sized"),
        _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n".to_vec(),
    });
    let proxy = Proxy::before(origin.address, "");
    let mut client = Client::connect(proxy.address);
    for _ in 0..2 {
        let got = client.send("GET /sized HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").answer("GET");
        assert_eq!((got.text().as_str(), got.field("connection").as_deref()), ("sized", Some("keep-alive")));
    }
    let got = client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").answer("GET");
    assert_eq!((got.text().as_str(), got.field("connection").as_deref()), ("abcdef", Some("close")));
    assert_eq!(got.field("transfer-encoding"), None, "HTTP/1.0 knows no chunks");
    let mut once = Client::connect(proxy.address);
    assert_eq!(once.send("GET /sized HTTP/1.0\r\n\r\n").answer("GET").text(), "sized");
    assert!(once.ends());
}

#[test]
fn a_head_that_does_not_come_to_its_end_in_time_ends_the_connection() {
    let origin = Origin::answering(|_| answer("200 OK", &[], "ok"));
    let proxy = Proxy::before(origin.address, "timeouts: { header: 200ms }");
    for begun in ["GET / HT", "\r\n\r", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nX: "] {
        let mut client = Client::connect(proxy.address);
        client.send(begun);
        if begun.contains("\r\n\r\nGET") {
            assert_eq!(client.answer("GET").text(), "ok");
        }
        assert!(client.ends(), "{begun:?}");
    }
}

#[test]
fn a_body_that_turns_out_malformed_after_an_early_answer_ends_both_connections() {
    let gate = Gate::default();
    let passing = gate.clone();
    let origin = Origin::raw(move |conn| {
        let mut request = conn.head().expect("a head");
        conn.send(&answer("200 OK", &[], "early"));
        conn.body(&mut request);
        assert!(!request.whole, "a body that was cut is no whole one");
        passing.open();
    });
    let proxy = Proxy::before(origin.address, "");
    let mut client = Client::connect(proxy.address);
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    assert_eq!(client.answer("PUT").text(), "early");
    client.send("zz\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.ends());
    gate.pass();
    assert!(origin.requests().is_empty());
}
