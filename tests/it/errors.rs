//! What goes wrong is answered clearly: to the client by one status, to the operator by an exit
//! code and a message that names the thing and the remedy.

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use crate::harness::binary::run;
use crate::harness::ports::nobody;
use crate::harness::{Client, Message, Origin, Proxy, answer, ask, eventually, get, post};

fn asking(accept: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: a.test\r\nAccept: {accept}\r\nX-Request-Id: abc-123\r\n\r\n")
}

#[test]
fn an_application_that_is_down_is_a_502_in_the_form_that_was_asked_for() {
    let down = nobody();
    let proxy = Proxy::before(down, "");
    for (accept, content_type, has) in [
        ("*/*", "text/plain; charset=utf-8", "502 Bad gateway"),
        ("application/json", "application/json", "\"error\":\"bad_gateway\",\"status\":502,\"request_id\":\"abc-123\""),
        ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "text/html; charset=utf-8", "<h1>502 Bad gateway</h1>"),
    ] {
        let answer = ask(proxy.address, asking(accept));
        assert_eq!(answer.status(), 502, "{accept}");
        assert_eq!(answer.field("content-type").as_deref(), Some(content_type), "{accept}");
        assert!(answer.text().contains(has), "{accept}: {}", answer.text());
        assert!(answer.text().contains("abc-123"), "{accept}: the request is named");
        let inside = [down.port().to_string(), "127.0.0.1".to_owned(), "refused".to_owned()];
        assert!(!inside.iter().any(|i| answer.text().contains(i.as_str())), "nothing of the inside: {}", answer.text());
    }
    let metrics = get(proxy.admin, "/metrics").text();
    assert!(metrics.contains("authtap_upstream_errors_total{reason=\"connect\"} 3"), "{metrics}");
}

#[test]
fn an_application_that_says_nothing_in_time_is_a_504() {
    let origin = Origin::raw(|conn| {
        conn.request();
        conn.await_end();
    });
    let proxy = Proxy::before(origin.address, "timeouts: { answer: 100ms }");
    assert_eq!(ask(proxy.address, asking("*/*")).status(), 504);
}

#[test]
fn an_application_that_talks_nonsense_is_a_502() {
    for nonsense in [
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
    ] {
        let origin = Origin::answering(move |_| nonsense.into());
        let proxy = Proxy::before(origin.address, "");
        assert_eq!(ask(proxy.address, asking("*/*")).status(), 502, "{nonsense:?}");
    }
}

#[test]
fn an_answer_with_more_headers_than_allowed_is_a_502_and_the_limit_can_be_raised() {
    let headers = |count: usize| {
        let further: String = (1..count).map(|n| format!("X-{n}: {n}\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{further}\r\n")
    };
    for (limits, count, status) in [
        ("", 100, 200),
        ("", 101, 502),
        ("limits: { answer_headers: 200 }", 200, 200),
        ("limits: { answer_headers: 20 }", 21, 502),
    ] {
        let origin = Origin::answering(move |_| headers(count).into());
        let proxy = Proxy::before(origin.address, limits);
        assert_eq!(ask(proxy.address, asking("*/*")).status(), status, "{count} headers with {limits:?}");
        if status == 502 {
            let metrics = get(proxy.admin, "/metrics").text();
            assert!(metrics.contains("authtap_upstream_errors_total{reason=\"invalid\"} 1"), "{metrics}");
        }
    }
}

#[test]
fn a_head_that_is_too_large_is_a_431_and_one_that_is_not_passes() {
    let origin = Origin::answering(|_| answer("200 OK", &[], "ok"));
    let proxy = Proxy::before(origin.address, "");
    let with = |fields: String| format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
    let cookie = |bytes: usize| with(format!("Cookie: {}\r\n", "c".repeat(bytes)));
    assert_eq!(ask(proxy.address, cookie(32 << 10)).status(), 200);
    assert_eq!(refused(&proxy, cookie(128 << 10).as_bytes()), 431);
    let many = |count: usize| with((0..count).map(|n| format!("X-{n}: 1\r\n")).collect());
    assert_eq!(ask(proxy.address, many(90)).status(), 200);
    assert_eq!(refused(&proxy, many(120).as_bytes()), 431);
    // hyper answers these by itself; they count all the same.
    eventually("both are counted", || {
        get(proxy.admin, "/metrics").text().contains("authtap_requests_refused_total 2\n")
    });
    assert_eq!(origin.requests().len(), 2, "the application saw only what passed");
}

/// The status of an answer that may come before the request was taken to its end.
fn refused(proxy: &Proxy, request: &[u8]) -> u16 {
    let mut client = Client::connect(proxy.address);
    // The proxy may close while we still send.
    let _ = client.try_send(request);
    let status = client.answer("GET").status();
    assert!(client.ends(), "nothing more is read from this connection");
    status
}

#[test]
fn requests_that_two_readers_could_read_differently_never_reach_the_application() {
    let origin = Origin::answering(|_| answer("200 OK", &[], "ok"));
    let proxy = Proxy::before(origin.address, "");
    for bad in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX : 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX\u{b}Y: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\u{0}b\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.7x\r\nHost: a.test\r\n\r\n",
        "G<T / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: +1\r\n\r\na",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n",
    ] {
        assert_eq!(refused(&proxy, bad.as_bytes()), 400, "{bad:?}");
    }
    assert_eq!(refused(&proxy, b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"), 501);
    let whole: Vec<String> = origin.requests().iter().filter(|r| r.whole).map(|r| r.start()).collect();
    assert!(whole.is_empty(), "{whole:?}");
}

#[test]
fn length_and_chunks_together_are_never_two_requests() {
    let origin = Origin::answering(|request| answer("200 OK", &[], &request.body));
    let proxy = Proxy::before(origin.address, "");
    let mut client = Client::connect(proxy.address);
    client.send(
        "POST /one HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n",
    );
    let first = client.answer("POST");
    // RFC 9112 section 6.1: refused, or read as chunks alone and the connection closed after the answer.
    assert!(first.status() == 400 || first.status() == 200, "{}", first.start());
    assert!(client.ends(), "what follows may be a smuggled request, and is not read");
    let targets: Vec<String> = origin.requests().iter().map(Message::target).collect();
    assert!(!targets.contains(&"/smuggled".to_owned()), "{targets:?}");
}

/// Runs the program in a folder with this file, to its end.
fn program(yaml: Option<&str>, arguments: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a folder");
    if let Some(yaml) = yaml {
        std::fs::write(folder.path().join("routes.yaml"), yaml).expect("a file");
    }
    ended(folder.path(), arguments)
}

fn ended(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = run(folder, arguments);
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

/// The same with what it printed on standard output.
fn said(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = run(folder, arguments);
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

const FREE: [&str; 7] = ["run", "--listen", "127.0.0.1:0", "--admin", "off", "--upstream", "http://127.0.0.1:9"];

#[test]
fn a_port_in_use_ends_the_start_with_1_and_the_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    for workers in ["1", "2"] {
        let arguments =
            ["run", "--listen", &address, "--admin", "off", "--upstream", "http://127.0.0.1:9", "--workers", workers];
        let (code, said) = program(None, &arguments);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains(&format!("cannot listen on {address}")) && said.contains("choose another with --listen"),
            "{said}"
        );
    }
    let (code, said) =
        program(None, &["run", "--listen", "127.0.0.1:0", "--admin", &address, "--upstream", "http://127.0.0.1:9"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
}

#[test]
fn the_demo_names_a_remedy_that_it_has() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let (code, said) = program(None, &["demo", "--drive", "--listen", &address]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("leave --listen out for a free one") && !said.contains("--admin"), "{said}");
}

#[test]
fn an_admin_address_that_is_none_is_wrong_usage_of_tail() {
    for wrong in ["nonsense", "http://", "127.0.0.1:x"] {
        let (code, said) = program(None, &["tail", "--no-wait", "--admin", wrong]);
        assert_eq!(code, Some(2), "{wrong}: {said}");
        assert!(said.contains("the address of the admin listener"), "{said}");
    }
    assert_eq!(program(None, &["tail", "--no-wait", "--admin", "127.0.0.1:1"]).0, Some(1), "nobody is there");
}

#[test]
fn an_upstream_that_is_authtap_itself_ends_the_start_with_2_and_the_remedy() {
    let circle = ["run", "--listen", "127.0.0.1:18080", "--admin", "off", "--upstream", "http://localhost:18080"];
    let (code, said) = program(None, &circle);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("is authtap itself, which listens on 127.0.0.1:18080: name the address of the"), "{said}");
}

#[test]
fn without_an_upstream_the_start_ends_with_2_and_says_how_to_name_one() {
    let (code, said) = program(None, &["run", "--listen", "127.0.0.1:0", "--admin", "off"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--upstream http://127.0.0.1:8000"), "{said}");
}

#[test]
fn a_file_that_is_missing_or_is_no_yaml_ends_the_start_with_2_and_its_place() {
    let (code, said) = program(None, &[&FREE[..], &["--config", "nowhere.yaml"]].concat());
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("cannot read nowhere.yaml"), "{said}");

    let (code, said) = program(Some("version: 1\nroutes: [ {\n"), &FREE);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("routes.yaml:"), "{said}");
}

#[test]
fn a_missing_database_ends_the_start_with_its_name() {
    let (code, said) = program(Some("version: 1\ngeoip: { city: nowhere.mmdb }\n"), &FREE);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nowhere.mmdb"), "{said}");
}

#[test]
fn a_sink_nobody_knows_ends_the_start_with_2_and_a_suggestion() {
    let (code, said) = program(Some("version: 1\nsinks: [ { type: fiel, path: x } ]\n"), &FREE);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("fiel") && said.contains("did you mean `file`?"), "{said}");
}

#[test]
fn an_admin_listener_for_everybody_without_a_token_ends_the_start_with_2() {
    let arguments = ["run", "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0", "--upstream", "http://127.0.0.1:9"];
    let (code, said) = program(None, &arguments);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("has no token") && said.contains("listen on 127.0.0.1"), "{said}");
}

#[test]
fn check_shows_every_problem_at_once_with_its_place() {
    let yaml =
        "version: 1\nlisten: nonsense\nroutes:\n  - { id: a, match: { path: /a }, emit: user.logout, rulez: [] }\n";
    let (code, said) = program(Some(yaml), &["check", "routes.yaml"]);
    assert_eq!(code, Some(2), "{said}");
    for has in ["routes.yaml:2:", "routes.yaml:4:", "rulez", "did you mean `rules`?"] {
        assert!(said.contains(has), "{has} is missing in {said}");
    }
}

#[test]
fn check_looks_at_every_file_that_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("right.yaml"), "version: 1\n").expect("written");
    std::fs::write(folder.path().join("wrong.yaml"), "version: 1\nsesion: {}\n").expect("written");
    std::fs::write(
        folder.path().join("warned.yaml"),
        "version: 1\nroutes: [{ id: a, match: {}, emit: user.logout }]\n",
    )
    .expect("written");
    let both = said(folder.path(), &["check", "-c", "right.yaml", "wrong.yaml"]);
    assert_eq!(both.0, Some(2), "{}", both.1);
    assert!(both.1.contains("right.yaml: no routes") && both.1.contains("wrong.yaml:2:1"), "{}", both.1);
    assert_eq!(ended(folder.path(), &["check", "wrong.yaml", "right.yaml"]).0, Some(2), "in any order");
    let fine = said(folder.path(), &["check", "warned.yaml", "-c", "right.yaml"]);
    assert_eq!(fine.0, Some(0), "{}", fine.1);
    assert!(fine.1.contains("warned.yaml: 1 route") && fine.1.contains("right.yaml: no routes"), "{}", fine.1);
    assert_eq!(ended(folder.path(), &["check", "--strict", "warned.yaml", "right.yaml"]).0, Some(2));
    assert_eq!(ended(folder.path(), &["check", "right.yaml", "missing.yaml"]).0, Some(2));
    // Without a name the usual one, which is not there.
    let usual = said(folder.path(), &["check"]);
    assert!(usual.0 == Some(2) && usual.1.contains("cannot read routes.yaml"), "{}", usual.1);
}

#[test]
fn a_file_in_another_encoding_is_told_by_its_line_and_the_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("latin.yaml"), b"version: 1\n# f\xfcr alle\n").expect("written");
    for command in [&["check", "latin.yaml"][..], &["run", "--config", "latin.yaml"], &["test", "latin.yaml"]] {
        let (code, said) = ended(folder.path(), command);
        assert_eq!(code, Some(2), "{command:?}: {said}");
        assert!(said.contains("latin.yaml: line 2 is not UTF-8; save the file as UTF-8"), "{command:?}: {said}");
    }
}

#[test]
fn check_with_connect_tells_what_cannot_be_reached() {
    let folder = tempfile::tempdir().expect("a folder");
    let yaml = format!("version: 1\nupstream: http://{}\nsinks: []\n", nobody());
    std::fs::write(folder.path().join("routes.yaml"), yaml).expect("a file");
    let output = run(folder.path(), &["check", "--connect", "--config", "routes.yaml"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("fail  upstream"), "{said}");
}

#[test]
fn an_answer_to_head_with_two_lengths_is_a_502_and_not_the_end_of_the_connection() {
    let origin = Origin::answering(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n".to_vec());
    let proxy = Proxy::before(origin.address, "");
    let mut client = Client::connect(proxy.address);
    for _ in 0..2 {
        let answer = client.send("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n").answer("HEAD");
        assert_eq!((answer.status(), answer.field("connection")), (502, None));
    }
}

#[test]
fn a_failure_before_the_body_was_read_says_that_the_connection_closes_and_one_after_does_not() {
    let announced = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\nnot all";
    let down = Proxy::before(nobody(), "");
    let answer = Client::connect(down.address).send(announced).answer("POST");
    assert_eq!((answer.status(), answer.field("connection").as_deref()), (502, Some("close")));

    let origin = Origin::raw(|conn| drop(conn.request()));
    let proxy = Proxy::before(origin.address, "");
    let mut client = Client::connect(proxy.address);
    for _ in 0..2 {
        let answer = client.send(post("/", "", "read to its end")).answer("POST");
        assert_eq!((answer.status(), answer.field("connection")), (502, None));
    }
}
