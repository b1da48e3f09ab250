//! From traffic to events: what is said, and what is not said when an exchange is cut short, too
//! large, compressed or broken. Traffic goes on in every case.

use std::io::Write;

use base64::Engine;
use serde_json::Value;

use crate::harness::message::Message;
use crate::harness::{Client, Gate, LOGIN, Origin, Proxy, answer, ask, at, form, post};

/// An application that knows the right password, and a second factor.
fn application() -> Origin {
    Origin::answering(|request| {
        let body = request.text();
        let moved = |to: &str| answer("302 Found", &[&format!("Location: {to}"), "Set-Cookie: SID=n3w-s3ss10n"], "");
        if body.contains("password=right") {
            moved("/home")
        } else if body.contains("password=second") {
            moved("/mfa")
        } else if body.contains("password=again") {
            moved("/again")
        } else if body.contains("password=odd") {
            answer("500 Oops", &[], "")
        } else {
            answer("200 OK", &["Content-Type: text/html"], "<p>Sorry, wrong password</p>")
        }
    })
}

/// The only event there is.
fn one(events: Vec<Value>) -> Value {
    assert_eq!(events.len(), 1, "one event: {events:#?}");
    events.into_iter().next().unwrap_or_default()
}

fn ended(event: &Value) -> &str {
    at(event, "/metadata/request/ended")
}

#[test]
fn each_answer_to_a_login_becomes_its_event() {
    let origin = application();
    let proxy = Proxy::before(origin.address, LOGIN);
    let mut client = Client::connect(proxy.address);
    for password in ["right", "wrong", "second", "again", "odd"] {
        client.send(form("/login", format!("username=alice&password={password}"))).answer("POST");
    }
    // Not about a login: another path, another method.
    client.send(form("/other", "username=alice&password=right")).answer("POST");
    client.send("GET /login?username=alice HTTP/1.1\r\nHost: app.example.test\r\n\r\n").answer("GET");

    let events = proxy.stop();
    let said: Vec<(&str, &str, &str, &str)> = events
        .iter()
        .map(|e| (at(e, "/event_type"), at(e, "/outcome"), at(e, "/source/rule"), at(e, "/actor/login")))
        .collect();
    assert_eq!(
        said,
        [
            ("user.login.success", "success", "signed-in", "alice"),
            ("user.login.failed", "failure", "wrong", "alice"),
            ("user.mfa.challenge.requested", "challenge", "second-factor", "alice"),
            ("user.login.unknown", "unknown", "default", "alice"),
        ]
    );
    let first = &events[0];
    assert_eq!(at(first, "/metadata/ip_address"), "127.0.0.1");
    assert_eq!(at(first, "/metadata/method"), "password");
    assert_eq!(at(first, "/metadata/request/host"), "app.example.test");
    assert_eq!(first.pointer("/metadata/request/status"), Some(&Value::from(302)));
    assert_eq!(ended(first), "", "what ended in order says nothing of it");
    assert_eq!(at(&events[1], "/reason"), "invalid_credentials");
}

#[test]
fn an_application_that_is_gone_before_its_answer_leaves_an_undecided_event() {
    let origin = Origin::raw(|conn| {
        conn.request();
    });
    let proxy = Proxy::before(origin.address, LOGIN);
    assert_eq!(ask(proxy.address, form("/login", "username=alice&password=right")).status(), 502);
    let event = one(proxy.stop());
    assert_eq!((at(&event, "/event_type"), at(&event, "/reason")), ("user.login.unknown", "no_answer"));
    assert_eq!((at(&event, "/actor/login"), ended(&event)), ("alice", "upstream_failed"));
    assert_eq!(event.pointer("/metadata/request/status"), None, "a status that was ours is not the application's");
}

#[test]
fn an_application_that_dies_within_its_answer_leaves_what_was_seen() {
    for (seen, event_type, reason) in [
        ("<p>Sorry, wrong password</p> and then", "user.login.failed", "invalid_credentials"),
        ("<p>Sorry, wro", "user.login.unknown", "body_cut"),
    ] {
        let origin = Origin::raw(move |conn| {
            conn.request();
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{seen}").as_bytes());
        });
        let proxy = Proxy::before(origin.address, LOGIN);
        let answer = ask(proxy.address, form("/login", "username=alice&password=x"));
        assert_eq!((answer.whole, answer.text().as_str()), (false, seen), "the client sees that it is cut");
        let event = one(proxy.stop());
        assert_eq!((at(&event, "/event_type"), at(&event, "/reason")), (event_type, reason));
        assert_eq!((at(&event, "/actor/login"), ended(&event)), ("alice", "upstream_failed"));
    }
}

#[test]
fn a_request_whose_body_breaks_off_is_marked_and_claims_nothing() {
    let origin = application();
    let proxy = Proxy::before(origin.address, LOGIN);
    let mut client = Client::connect(proxy.address);
    client.send(
        "POST /login HTTP/1.1\r\nHost: app.example.test\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: 1000\r\n\r\nusername=alice&password=ri",
    );
    client.half_close();
    if let Ok(Some(answer)) = client.try_answer("POST") {
        assert_eq!(answer.status(), 400);
    }
    let event = one(proxy.stop());
    assert_eq!((at(&event, "/event_type"), ended(&event)), ("user.login.unknown", "request_cut"));
}

#[test]
fn a_client_that_leaves_within_the_answer_is_marked() {
    let left = Gate::default();
    let door = left.clone();
    let origin = Origin::raw(move |conn| {
        conn.request();
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1c\r\n<p>Sorry, wrong password</p>\r\n");
        door.pass();
        // Goes on until the proxy has learned that nobody takes it.
        let block = [b"4000\r\n".as_slice(), &[b'x'; 0x4000], b"\r\n"].concat();
        while conn.send(&block) {}
    });
    let proxy = Proxy::before(origin.address, LOGIN);
    let mut client = Client::connect(proxy.address);
    client.send(form("/login", "username=alice&password=x"));
    assert_eq!(client.head().status(), 200);
    drop(client);
    left.open();
    let event = one(proxy.await_events(1));
    assert_eq!((at(&event, "/event_type"), ended(&event)), ("user.login.failed", "client_gone"));
}

#[test]
fn a_client_that_leaves_before_the_answer_does_not_hide_what_the_application_did() {
    let left = Gate::default();
    let door = left.clone();
    let origin = Origin::raw(move |conn| {
        conn.request();
        door.pass();
        conn.send(&answer("302 Found", &["Location: /home"], ""));
        conn.await_end();
    });
    let proxy = Proxy::before(origin.address, LOGIN);
    let mut client = Client::connect(proxy.address);
    client.send(form("/login", "username=alice&password=right"));
    origin.await_heads(1);
    drop(client);
    left.open();
    let event = one(proxy.await_events(1));
    assert_eq!((at(&event, "/event_type"), at(&event, "/actor/login")), ("user.login.success", "alice"));
}

#[test]
fn an_application_that_stays_silent_leaves_an_undecided_event() {
    let origin = Origin::raw(|conn| {
        conn.request();
        conn.await_end();
    });
    let proxy = Proxy::before(origin.address, &format!("timeouts: {{ answer: 100ms }}\n{LOGIN}"));
    assert_eq!(ask(proxy.address, form("/login", "username=alice&password=right")).status(), 504);
    let event = one(proxy.stop());
    assert_eq!((at(&event, "/event_type"), at(&event, "/reason")), ("user.login.unknown", "no_answer"));
    assert_eq!((at(&event, "/actor/login"), ended(&event)), ("alice", "upstream_failed"));
}

/// `username` within what is kept, or after it; ten megabytes either way.
fn large_form(early: bool) -> Vec<u8> {
    let filler = vec![b'x'; 10 << 20];
    match early {
        true => [b"username=alice&password=right&action=login&filler=".as_slice(), &filler].concat(),
        false => [b"password=right&filler=".as_slice(), &filler, b"&username=alice&action=login"].concat(),
    }
}

/// A route that can only decide by a field of the form.
const BY_FIELD: &str = r#"
routes:
  - id: login
    match: { method: POST, path: /login }
    actor: { login: form.username }
    rules:
      - { name: signs-in, when: { status: 302, form: { action: login } }, outcome: success }
      - { name: anything-else, outcome: failure }
    emit: { success: user.login.success, failure: user.login.failed }
"#;

#[test]
fn a_field_early_in_a_large_form_is_found() {
    let origin = application();
    let proxy = Proxy::before(origin.address, BY_FIELD);
    let body = large_form(true);
    assert_eq!(ask(proxy.address, form("/login", &body)).status(), 302);
    assert!(origin.requests()[0].body == body, "the application gets every byte");
    let event = one(proxy.stop());
    assert_eq!((at(&event, "/event_type"), at(&event, "/actor/login")), ("user.login.success", "alice"));
}

#[test]
fn a_field_that_comes_after_what_is_kept_decides_nothing() {
    let origin = application();
    let proxy = Proxy::before(origin.address, BY_FIELD);
    let body = large_form(false);
    assert_eq!(ask(proxy.address, form("/login", &body)).status(), 302);
    assert!(origin.requests()[0].body == body, "the application gets every byte");
    let event = one(proxy.stop());
    assert_eq!((at(&event, "/event_type"), at(&event, "/reason")), ("user.login.unknown", "body_cut"));
    assert_eq!(event.pointer("/actor/login"), None, "nobody is named");
}

#[test]
fn a_large_multipart_form_gives_its_early_field_and_passes_whole() {
    let origin = application();
    let proxy = Proxy::before(origin.address, LOGIN);
    let part =
        |name: &str, more: &str| format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n");
    let body = [
        part("username", "").as_bytes(),
        b"alice\r\n",
        part("picture", "; filename=\"password=right\"\r\nContent-Type: image/png").as_bytes(),
        &vec![0xff; 10 << 20],
        b"\r\n--edge--\r\n",
    ]
    .concat();
    let request = post("/login", "Content-Type: multipart/form-data; boundary=edge\r\n", &body);
    assert_eq!(ask(proxy.address, request).status(), 302);
    assert!(origin.requests()[0].body == body, "the application gets every byte");
    let event = one(proxy.stop());
    assert_eq!((at(&event, "/event_type"), at(&event, "/actor/login")), ("user.login.success", "alice"));
}

/// The page below, by the `brotli` and `zstandard` packages of Python.
const PAGE_BROTLI: &str = "Gz0EgJzHAwAAANz6w1OnqaJ2SZPLUy9w6TPlljwKVDo5YP9fa+lRijlgDuqG0y8DpXQZFMQZGoED3tBdsGM1fLhHtJJ74CrjX5DuJySUvH9s2BW9Aw==";
const PAGE_ZSTD: &str = "KLUv/WA+Aw0DADIGFRiAt224zMpK3yFyesxVEXZNhq8IoFMuNmCArwNJxpzOs/YGphLlNR588WswYLAm3bmHmHJyQ2PW4oWV+RRBd67CLZ5IBpk6hlRxIuGboQT8OpCEAQIALeRBNulcTTM=";

fn page() -> Vec<u8> {
    let again = "<p>Try again, please.</p>".repeat(40);
    format!("<html><body><h1>Sign in</h1><p class=\"error\">Sorry, wrong password.</p>{again}</body></html>\n")
        .into_bytes()
}

fn encoded(coding: &str) -> Vec<u8> {
    let level = flate2::Compression::default();
    let base64 = |text| base64::engine::general_purpose::STANDARD.decode(text).expect("a fixture");
    match coding {
        "gzip" | "x-gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(&page()).and_then(|()| encoder.finish()).expect("memory")
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(&page()).and_then(|()| encoder.finish()).expect("memory")
        }
        "br" => base64(PAGE_BROTLI),
        "zstd" => base64(PAGE_ZSTD),
        _ => page(),
    }
}

/// The answer that the client got, and the only event.
fn answered(fields: &'static [&'static str], body: Vec<u8>) -> (Message, Value) {
    let origin = Origin::answering(move |_| answer("200 OK", fields, &body));
    let proxy = Proxy::before(origin.address, LOGIN);
    let got = ask(proxy.address, form("/login", "username=alice&password=x"));
    (got, one(proxy.stop()))
}

#[test]
fn compressed_answers_are_understood_and_pass_as_they_are() {
    for fields in [
        &["Content-Encoding: gzip"][..],
        &["Content-Encoding: x-gzip"],
        &["Content-Encoding: deflate"],
        &["Content-Encoding: br"],
        &["Content-Encoding: zstd"],
        &["Content-Encoding: identity"],
        &[],
    ] {
        let coding = fields.first().map_or("", |f| f.trim_start_matches("Content-Encoding: "));
        let body = encoded(coding);
        let (got, event) = answered(fields, body.clone());
        assert!(got.body == body, "{coding}: the client gets the very bytes");
        assert_eq!((at(&event, "/event_type"), at(&event, "/source/rule")), ("user.login.failed", "wrong"), "{coding}");
    }
}

#[test]
fn answers_that_cannot_be_decoded_pass_and_are_left_undecided() {
    let mut torn = encoded("gzip");
    torn.truncate(20);
    for (fields, body) in [
        (&["Content-Encoding: gzip"][..], b"wrong password, but this is no gzip".to_vec()),
        (&["Content-Encoding: br"], vec![0xff; 300]),
        (&["Content-Encoding: zstd"], vec![0x00; 300]),
        (&["Content-Encoding: gzip"], torn),
        (&["Content-Encoding: rot13"], b"jebat cnffjbeq".to_vec()),
    ] {
        let (got, event) = answered(fields, body.clone());
        assert_eq!(got.status(), 200, "{fields:?}");
        assert!(got.body == body, "{fields:?}: the client gets the very bytes");
        let said = (at(&event, "/event_type"), at(&event, "/reason"), at(&event, "/actor/login"));
        assert_eq!(said, ("user.login.unknown", "body_cut", "alice"), "{fields:?}");
    }
}

#[test]
fn bodies_that_are_not_utf8_give_events_that_are() {
    let (got, event) = answered(&["Content-Type: text/html"], b"\xff\xfe wrong password \x80".to_vec());
    assert_eq!(got.body, b"\xff\xfe wrong password \x80");
    assert_eq!(at(&event, "/event_type"), "user.login.failed");

    let origin = application();
    // What is left of the name has the look of a password.
    let proxy = Proxy::before(origin.address, &format!("identity: {{ hide_passwords: off }}{LOGIN}"));
    let body = b"username=al\xffi%fece\x01%0a%1b[31m&password=x".as_slice();
    ask(proxy.address, form("/login", body));
    assert_eq!(origin.requests()[0].body, body);
    let line = proxy.stop_for_lines();
    let event = one(line.iter().map(|l| serde_json::from_str(l).expect("an event is JSON")).collect());
    let login = at(&event, "/actor/login");
    assert!(login.starts_with("al\u{fffd}i\u{fffd}ce"), "{login:?}");
    assert!(!login.chars().any(char::is_control), "{login:?}");
    assert!(!line[0].contains(['\n', '\u{1b}']), "one line without controls");
}

#[test]
fn a_panel_of_clients_at_once_loses_no_event_and_mixes_none() {
    let origin = application();
    let proxy = Proxy::before(origin.address, LOGIN);
    let address = proxy.address;
    let clients: Vec<_> = (0..8)
        .map(|c| {
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                for n in 0..50 {
                    let password = if n % 2 == 0 { "right" } else { "wrong" };
                    client.send(form("/login", format!("username=u{c}-{n}&password={password}"))).answer("POST");
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("no panic");
    }
    let events = proxy.stop();
    let mut said: Vec<(String, String)> =
        events.iter().map(|e| (at(e, "/actor/login").to_owned(), at(e, "/outcome").to_owned())).collect();
    said.sort();
    let outcome = |n: usize| if n.is_multiple_of(2) { "success" } else { "failure" };
    let mut expected: Vec<(String, String)> =
        (0..8).flat_map(|c| (0..50).map(move |n| (format!("u{c}-{n}"), outcome(n).to_owned()))).collect();
    expected.sort();
    assert_eq!(said, expected);
}
