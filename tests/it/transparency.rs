//! What passes through is not changed: the same requests straight to the application and through
//! authtap, with capture on and routes about many of them, give the same answers, and give the
//! application the same requests. Only what belongs to a connection may differ, and what the
//! application is told about the client.

use std::sync::{Arc, Mutex};

use authtap::rules::presets;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};

use crate::harness::message::Message;
use crate::harness::{Client, Origin, Proxy};

/// Routes about most of the requests below, whose rules read both bodies.
const ROUTES: &str = r#"
session: { cookies: [SID] }
routes:
  - id: posts
    match: { method: [POST, PUT], path: "prefix:/" }
    actor: { login: [form.user, json:/user] }
    rules:
      - { when: { form: { action: never } }, outcome: failure }
      - { when: { body: { contains: welcome } }, outcome: success }
    emit: { success: user.login.success, failure: user.login.failed }
  - id: pages
    match: { path: "prefix:/page" }
    rules: [ { when: { body: { contains: welcome } }, outcome: success } ]
    emit: data.viewed
"#;

/// RFC 9110 section 7.6.1: they speak of one connection, and framing is each connection's own.
const HOP: [&str; 6] = ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];

/// What the application is told about the client.
const TOLD: [&str; 6] =
    ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "forwarded", "x-request-id"];

struct Case {
    name: &'static str,
    request: Vec<u8>,
    answer: Vec<u8>,
}

fn case(name: &'static str, request: impl AsRef<[u8]>, answer: impl AsRef<[u8]>) -> Case {
    Case { name, request: request.as_ref().to_vec(), answer: answer.as_ref().to_vec() }
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: app.example.test\r\n\r\n").into_bytes()
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(
            "several cookies are set, one twice",
            get("/page/cookies"),
            "HTTP/1.1 200 OK\r\nSet-Cookie: b=2; Path=/\r\nX-One: 1\r\nSet-Cookie: a=1; HttpOnly\r\n\
             set-cookie: b=3; Secure\r\nContent-Length: 0\r\n\r\n",
        ),
        case(
            "values that are not UTF-8, empty, and with inner blanks",
            [&b"GET /page/latin HTTP/1.1\r\nHost: app.example.test\r\nX-Name: Jos\xe9\r\nX-Empty:\r\n\r\n"[..]].concat(),
            b"HTTP/1.1 200 OK\r\nX-Name: caf\xe9 \xff\x80\r\nX-Empty: \r\nX-Blanks: a  b\tc\r\nContent-Length: 0\r\n\r\n",
        ),
        case(
            "odd case of names",
            "GET /page/case HTTP/1.1\r\nhOST: app.example.test\r\nX-ODD-case: 1\r\naCCEPT: */*\r\nx-odd-CASE: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nsErVeR: Legacy/0.9\r\nETAG: \"x\"\r\ncontent-LENGTH: 1\r\n\r\nx",
        ),
        case(
            "its own reason phrase and status",
            get("/page/phrase"),
            "HTTP/1.1 299 Fine By Me\r\nContent-Length: 0\r\n\r\n",
        ),
        case("no reason phrase", get("/page/none"), "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"),
        case(
            "dates and servers are its own, or missing",
            get("/page/date"),
            "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: old\r\nContent-Length: 0\r\n\r\n",
        ),
        case(
            "an answer in gzip stays in gzip",
            "GET /page/gzip HTTP/1.1\r\nHost: app.example.test\r\nAccept-Encoding: gzip\r\n\r\n",
            with_length("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nVary: Accept-Encoding\r\n", &gzip(b"welcome back")),
        ),
        case(
            "a part of a file",
            "GET /page/file HTTP/1.1\r\nHost: app.example.test\r\nRange: bytes=2-4\r\nIf-Range: \"v1\"\r\n\r\n",
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-4/10\r\nETag: \"v1\"\r\nContent-Length: 3\r\n\r\n234",
        ),
        case(
            "chunks with trailers, for a client that takes them",
            "GET /page/trailers HTTP/1.1\r\nHost: app.example.test\r\nTE: trailers\r\nConnection: TE\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             7\r\nwelcome\r\n6;ext=1\r\n again\r\n0\r\nX-Sum: 13\r\n\r\n",
        ),
        case(
            "an answer to HEAD has a length and no body",
            "HEAD /page/head HTTP/1.1\r\nHost: app.example.test\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nContent-Type: text/html\r\n\r\n",
        ),
        case("no content", get("/page/204"), "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n"),
        case(
            "not modified",
            "GET /page/304 HTTP/1.1\r\nHost: app.example.test\r\nIf-None-Match: \"x\"\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nCache-Control: max-age=1\r\n\r\n",
        ),
        case(
            "a redirect keeps its location to the letter",
            get("/page/redirect"),
            "HTTP/1.1 302 Found\r\nLocation: //Other.example.test:8443/a/../b?x=%2f&y=ü#f\r\nContent-Length: 0\r\n\r\n",
        ),
        case(
            "a form",
            form("user=al%40x&password=p%26q+r&empty=&flag"),
            "HTTP/1.1 302 Found\r\nLocation: /home\r\nSet-Cookie: SID=n3w; HttpOnly\r\nContent-Length: 0\r\n\r\n",
        ),
        case("an empty form", form(""), OK),
        case(
            "a form in chunks with trailers",
            "POST /chunked HTTP/1.1\r\nHost: app.example.test\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4\r\nuser\r\n3;a=b\r\n=al\r\n0\r\nX-Sum: 7\r\n\r\n",
            OK,
        ),
        case(
            "a body that is not UTF-8, put",
            with_length("PUT /put HTTP/1.1\r\nHost: app.example.test\r\nContent-Type: text/plain\r\n", b"\x00\xff\xfe\r\n\r\n"),
            OK,
        ),
        case(
            "a file in a multipart form",
            with_length(
                "POST /upload HTTP/1.1\r\nHost: app.example.test\r\nContent-Type: multipart/form-data; boundary=\"b 1\"\r\n",
                b"preamble\r\n--b 1\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nal\r\n--b 1\r\n\
                  Content-Disposition: form-data; name=\"f\"; filename=\"a.bin\"\r\n\r\n\x00\x01\xff\r\n--b 1--\r\nepilogue",
            ),
            OK,
        ),
        case(
            "a body with GET",
            with_length("GET /page/body HTTP/1.1\r\nHost: app.example.test\r\n", b"query"),
            OK,
        ),
        case(
            "chunks with GET",
            "GET /page/body HTTP/1.1\r\nHost: app.example.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nquery\r\n0\r\n\r\n",
            OK,
        ),
        case(
            "a method nobody knows",
            "FROBNICATE /page HTTP/1.1\r\nHost: app.example.test\r\n\r\n",
            "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nContent-Length: 0\r\n\r\n",
        ),
        case("options of the server", "OPTIONS * HTTP/1.1\r\nHost: app.example.test\r\n\r\n", OK),
        case(
            "credentials and many cookies",
            "GET /page/auth HTTP/1.1\r\nHost: app.example.test\r\nAuthorization: Basic YTpi\r\n\
             Cookie: a=1; SID=\"x y\"\r\nCookie: b=2\r\n\r\n",
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a, b\"\r\nWWW-Authenticate: Negotiate\r\n\
             Content-Length: 0\r\n\r\n",
        ),
        case("a long answer", get("/page/long"), with_length("HTTP/1.1 200 OK\r\n", &vec![b'x'; 3 << 20])),
    ];
    for target in [
        "/",
        "/page/a%2Fb",
        "/page/a%2fb",
        "/page/../b",
        "/page/./b/..",
        "//page//b",
        "/page//",
        "/page?",
        "/page/a?",
        "/page?a=%zz&&b",
        "/page?x=/../?y",
        "/page;v=1/x,y",
        "/page/%00%ff%",
        "/page/~!$&'()*+,;=:@",
        "/page/{a}|b",
        "/page?q=[1]",
    ] {
        cases.push(case("a target is passed on to the letter", get(target), OK));
    }
    cases
}

fn form(body: &str) -> Vec<u8> {
    let head = "POST /form HTTP/1.1\r\nHost: app.example.test\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    with_length(head, body.as_bytes())
}

fn with_length(head: &str, body: &[u8]) -> Vec<u8> {
    [head.as_bytes(), format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).expect("memory");
    encoder.finish().expect("memory")
}

/// The application: the case is known by the request's number on its connection, which is 1.
fn application(answer: Vec<u8>) -> Origin {
    Origin::answering(move |_| answer.clone())
}

fn method_of(request: &[u8]) -> String {
    String::from_utf8_lossy(request).split(' ').next().unwrap_or_default().to_owned()
}

fn exchange(to: std::net::SocketAddr, case: &Case) -> Message {
    Client::connect(to).send(&case.request).answer(&method_of(&case.request))
}

/// hyper keeps the case of names in a head, not in trailers, where it makes them lower case.
fn trailers(message: &Message) -> Vec<(Vec<u8>, Vec<u8>)> {
    message.trailers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
}

#[test]
fn answers_and_requests_are_the_same_with_and_without_authtap() {
    for case in cases() {
        let origin = application(case.answer.clone());
        let proxy = Proxy::before(origin.address, ROUTES);
        let name =
            format!("{}: {}", case.name, String::from_utf8_lossy(&case.request).lines().next().unwrap_or_default());

        let straight = exchange(origin.address, &case);
        let through = exchange(proxy.address, &case);
        assert_eq!(through.start(), straight.start(), "{name}: status line");
        assert_eq!(through.fields_less(&HOP), straight.fields_less(&HOP), "{name}: fields of the answer");
        assert!(through.body == straight.body, "{name}: body of the answer");
        assert_eq!(trailers(&through), trailers(&straight), "{name}: trailers of the answer");
        assert!(straight.whole && through.whole, "{name}: the answer is whole");

        let requests = origin.requests();
        let [straight, through] = &requests[..] else { panic!("{name}: {} requests", requests.len()) };
        let less: Vec<&str> = HOP.into_iter().chain(TOLD).collect();
        assert_eq!(through.start(), straight.start(), "{name}: request line");
        assert_eq!(through.fields_less(&less), straight.fields_less(&less), "{name}: fields of the request");
        assert!(through.body == straight.body, "{name}: body of the request");
        assert_eq!(trailers(through), trailers(straight), "{name}: trailers of the request");
        assert!(straight.whole && through.whole, "{name}: the request is whole");
    }
}

#[test]
fn the_cases_are_captured_and_so_are_not_compared_in_vain() {
    let origin = application(gzip_answer());
    let proxy = Proxy::before(origin.address, ROUTES);
    exchange(proxy.address, &case("", get("/page/gzip"), ""));
    exchange(proxy.address, &case("", form("user=al%40x"), ""));
    let events = proxy.stop();
    let types: Vec<&str> = events.iter().filter_map(|e| e["event_type"].as_str()).collect();
    assert_eq!(types, ["data.viewed", "user.login.success"]);
    assert_eq!(events[1].pointer("/actor/login").and_then(|v| v.as_str()), Some("al@x"));
}

fn gzip_answer() -> Vec<u8> {
    with_length("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n", &gzip(b"welcome back"))
}

#[test]
fn an_answer_that_ends_with_its_connection_arrives_whole() {
    let origin = Origin::raw(|conn| {
        conn.request();
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end");
    });
    let proxy = Proxy::before(origin.address, ROUTES);
    let answer = exchange(proxy.address, &case("", get("/page/old"), ""));
    assert_eq!((answer.status(), answer.text().as_str(), answer.whole), (200, "until the end", true));
}

#[test]
fn many_requests_on_one_connection_keep_their_order_and_their_answers() {
    let origin = Origin::answering(|request| {
        let body = format!("{} {}", request.target(), request.text());
        crate::harness::answer("200 OK", &[], body)
    });
    let proxy = Proxy::before(origin.address, ROUTES);
    let mut client = Client::connect(proxy.address);
    // Sent at once, before any answer.
    let mut pipelined = Vec::new();
    for n in 0..20 {
        pipelined
            .extend(with_length(&format!("POST /p/{n} HTTP/1.1\r\nHost: a.test\r\n"), format!("body-{n}").as_bytes()));
    }
    client.send(pipelined);
    for n in 0..20 {
        assert_eq!(client.answer("POST").text(), format!("/p/{n} body-{n}"));
    }
}

#[test]
fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let origin = Origin::answering(|request| crate::harness::answer("200 OK", &[], &request.body));
    let proxy = Proxy::before(origin.address, ROUTES);
    let mut client = Client::connect(proxy.address);
    client.send("PUT /put HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(client.head().status(), 100);
    assert_eq!(client.send("body").answer("PUT").text(), "body");
}

/// What one side sends: the bytes of a body, and how they are cut into chunks; none is one length.
type Sent = (Vec<u8>, Option<Vec<usize>>);

/// The ways on which presets, or the routes above, look for something.
const TARGETS: [&str; 8] = [
    "/page/x",
    "/wp-login.php",
    "/accounts/login/",
    "/xmlrpc.php",
    "/graphql",
    "/users/sign_in",
    "/api/auth/callback/credentials",
    "/oauth/token",
];

/// What bodies claim to be, true or not.
const CLAIMS: [&str; 7] = [
    "Content-Type: application/x-www-form-urlencoded\r\n",
    "Content-Type: application/json\r\n",
    "Content-Type: multipart/form-data; boundary=b\r\n",
    "Content-Type: text/xml\r\n",
    "Content-Type: text/html; charset=utf-16\r\n",
    "Content-Type: text/html\r\nContent-Encoding: gzip\r\n",
    "",
];

fn sent() -> impl Strategy<Value = Sent> {
    let some = |of: &'static str| any::<u8>().prop_map(move |n| of.repeat(usize::from(n) * 8).into_bytes());
    let body = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..3000),
        some("log=al&pwd=hunter2&"),
        some("{\"query\":\"mutation{login(a:1){b}}\"},"),
        some("<form><input type=password name=p>"),
        some("--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n"),
        Just(gzip(&b"welcome".repeat(5000))),
    ];
    let chunks = proptest::option::of(proptest::collection::vec(1..700_usize, 1..8));
    (body, chunks)
}

/// A head's end and the body as it goes over the wire.
fn framed((body, chunks): &Sent) -> Vec<u8> {
    let Some(sizes) = chunks else {
        return [format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat();
    };
    let mut bytes = b"Transfer-Encoding: chunked\r\n\r\n".to_vec();
    let mut left = &body[..];
    for size in sizes.iter().cycle() {
        let (chunk, rest) = left.split_at((*size).min(left.len()));
        bytes.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        left = rest;
        if chunk.is_empty() {
            return bytes;
        }
    }
    bytes
}

#[test]
fn no_byte_of_any_body_is_changed_in_any_framing_with_every_preset_and_auto_at_work() {
    let next = Arc::new(Mutex::new(Vec::new()));
    let answer = next.clone();
    let origin = Origin::answering(move |_| answer.lock().expect("no panic under the lock").clone());
    let routes = ROUTES.replace("prefix:/\"", "prefix:/page\"");
    let proxy = Proxy::before(origin.address, &format!("auto: on\npresets: [{}]\n{routes}", presets::NAMES.join(", ")));
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let method = prop_oneof![Just("POST"), Just("PUT"), Just("PATCH"), Just("DELETE"), Just("GET")];
    let claims = || proptest::sample::select(&CLAIMS[..]);
    let status = prop_oneof![Just("200 OK"), Just("302 Found"), Just("401 Unauthorized"), Just("422 No")];
    let case = (method, proptest::sample::select(&TARGETS[..]), claims(), sent(), status, claims(), sent());
    let went = runner.run(&case, |(method, target, asks, request, status, says, response)| {
        let head = format!("HTTP/1.1 {status}\r\nSet-Cookie: SID=s; Path=/\r\nLocation: /home\r\n{says}");
        *next.lock().expect("no panic under the lock") = [head.into_bytes(), framed(&response)].concat();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: app.example.test\r\nCookie: SID=t\r\n{asks}");
        let sent = [head.into_bytes(), framed(&request)].concat();
        let answer = Client::connect(proxy.address).send(sent).answer(method);
        proptest::prop_assert!(answer.whole && answer.body == response.0, "the answer of {} bytes", response.0.len());
        proptest::prop_assert!(answer.start().ends_with(status), "{}", answer.start());
        let arrived = origin.requests().pop().expect("a request");
        proptest::prop_assert!(arrived.whole && arrived.body == request.0, "the request of {} bytes", request.0.len());
        proptest::prop_assert_eq!((arrived.start(), answer.trailers.len()), (format!("{method} {target} HTTP/1.1"), 0));
        Ok(())
    });
    went.unwrap_or_else(|failed| panic!("{failed}"));
    assert!(!proxy.stop().is_empty(), "presets were at work");
}
