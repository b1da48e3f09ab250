//! Heads in pieces, heads that lie, heads written again; and what hyper makes of the same bytes, which
//! read them before and is the other opinion.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use http::HeaderName;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const ALLOWED: Allowed = Allowed { headers: 100, bytes: 64 << 10 };

fn request(head: impl AsRef<[u8]>) -> Result<Option<RequestHead>, HeadFault> {
    HeadReader::default().request(&mut BytesMut::from(head.as_ref()), ALLOWED)
}

fn answer_to(method: &Method, head: impl AsRef<[u8]>) -> Result<Option<AnswerHead>, HeadFault> {
    HeadReader::default().answer(&mut BytesMut::from(head.as_ref()), method, ALLOWED)
}

fn answer(head: impl AsRef<[u8]>) -> Result<Option<AnswerHead>, HeadFault> {
    answer_to(&Method::GET, head)
}

/// A request with these lines after its first.
fn with(lines: &str) -> Result<Option<RequestHead>, HeadFault> {
    request(format!("POST /a HTTP/1.1\r\n{lines}\r\n"))
}

fn whole<T>(read: Result<Option<T>, HeadFault>) -> T {
    read.unwrap().expect("a whole head")
}

/// The head in these pieces, and what is left behind it; a fault may be seen later than in one piece.
fn in_pieces<'b>(pieces: impl Iterator<Item = &'b [u8]>) -> (Result<Option<RequestHead>, HeadFault>, Vec<u8>) {
    let (mut reader, mut buf, mut read) = (HeadReader::default(), BytesMut::new(), Ok(None));
    for piece in pieces {
        buf.extend_from_slice(piece);
        if matches!(read, Ok(None)) {
            read = reader.request(&mut buf, ALLOWED);
        }
    }
    (read, buf.to_vec())
}

fn shown(head: &RequestHead) -> String {
    let RequestHead { parts, framing, keep_alive, .. } = head;
    format!("{} {} {:?} {:?} {framing:?} {keep_alive}", parts.method, parts.uri, parts.version, parts.headers)
}

#[test]
fn empty_lines_before_a_head_are_ignored_in_any_pieces() {
    let bytes = b"\r\n\r\n\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
    for size in 1..=bytes.len() {
        let (read, left) = in_pieces(bytes.chunks(size));
        assert_eq!(whole(read).parts.headers.get("host").unwrap(), "a", "{size}");
        assert_eq!(left, b"rest", "{size}");
    }
    let mut reader = HeadReader::default();
    let mut buf = BytesMut::from("\r\n\r");
    assert!(matches!(reader.request(&mut buf, ALLOWED), Ok(None)));
    assert!(!reader.has_begun(), "nothing of a head has come");
}

#[test]
fn an_answer_after_empty_lines_is_read_as_well() {
    let bytes = b"\r\n\r\nHTTP/1.1 204 No\r\n\r\n";
    for size in 1..=bytes.len() {
        let (mut reader, mut buf, mut read) = (HeadReader::default(), BytesMut::new(), None);
        for piece in bytes.chunks(size) {
            buf.extend_from_slice(piece);
            read = reader.answer(&mut buf, &Method::GET, ALLOWED).unwrap();
        }
        assert_eq!(read.expect("a head").parts.status, 204, "{size}");
    }
}

#[test]
fn a_head_in_single_bytes_is_looked_at_once() {
    // Quadratic reading of this would be looking at two hundred million bytes twice over, and takes minutes.
    let allowed = Allowed { headers: 4096, bytes: 1 << 20 };
    let head = format!("GET / HTTP/1.1\r\n{}\r\n", format!("X: {}\r\n", "v".repeat(246)).repeat(4000));
    let (mut reader, mut buf) = (HeadReader::default(), BytesMut::new());
    for byte in &head.as_bytes()[..head.len() - 1] {
        buf.extend_from_slice(&[*byte]);
        assert!(reader.request(&mut buf, allowed).unwrap().is_none());
        assert_eq!(reader.seen, buf.len(), "the next look begins where this one ended");
    }
    buf.extend_from_slice(b"\n");
    assert_eq!(reader.request(&mut buf, allowed).unwrap().expect("a head").parts.headers.len(), 4000);
}

#[test]
fn the_bounds_are_exact() {
    let head = "GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\n\r\n";
    let read = |headers, bytes| {
        let mut buf = BytesMut::from(format!("{head}next").as_str());
        HeadReader::default().request(&mut buf, Allowed { headers, bytes }).map(|head| head.is_some())
    };
    assert_eq!(read(2, head.len()), Ok(true));
    assert_eq!(read(1, head.len()), Err(HeadFault::TooLarge));
    assert_eq!(read(2, head.len() - 1), Err(HeadFault::TooLarge));
    // As many bytes as allowed without an end can have none within the bound.
    let part = |len: usize| {
        let mut buf = BytesMut::from(&head[..len]);
        HeadReader::default().request(&mut buf, Allowed { headers: 2, bytes: 20 }).map(|head| head.is_some())
    };
    assert_eq!((part(19), part(20)), (Ok(false), Err(HeadFault::TooLarge)));
    // More headers than the usual room holds.
    let many = |count: usize| {
        let head = format!("GET / HTTP/1.1\r\n{}\r\n", "A: 1\r\n".repeat(count));
        let allowed = Allowed { headers: 200, bytes: 64 << 10 };
        HeadReader::default().request(&mut BytesMut::from(head.as_str()), allowed).map(|head| head.is_some())
    };
    assert_eq!((many(129), many(200), many(201)), (Ok(true), Ok(true), Err(HeadFault::TooLarge)));
    let target = |len: usize| request(format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(len - 1)));
    let bytes = Allowed { headers: 100, bytes: 1 << 20 };
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(MAX_TARGET));
    let read = HeadReader::default().request(&mut BytesMut::from(long.as_str()), bytes);
    assert_eq!(read.err(), Some(HeadFault::TargetTooLong));
    assert_eq!(whole(target(60_000)).parts.uri.path().len(), 60_000);
}

#[test]
fn nonsense_is_refused_before_its_end_has_come() {
    for nonsense in ["\u{16}\u{3}\u{1}\u{2}", "G<T /", "GET / HTTP/2", "GET / HTTP/1.1\r\nA b", "\rGET"] {
        assert!(matches!(request(nonsense), Err(HeadFault::Syntax(_))), "{nonsense:?}");
    }
    for nonsense in ["HTTP/1.1 2x", "FTP/1", "HTTP/1.1 200 OK\r\nA\0"] {
        assert!(matches!(answer(nonsense), Err(HeadFault::Syntax(_))), "{nonsense:?}");
    }
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    for lines in [
        "A: b\r\n folded\r\n",
        "A: b\r\n\tfolded\r\n",
        " A: b\r\n",
        "A : b\r\n",
        "A\t: b\r\n",
        "A b\r\n",
        ": b\r\n",
        "A: b\0c\r\n",
        "A: b\rc\r\n",
        "A: b\r\r\n",
        "A: b\x7f\r\n",
        "A\0: b\r\n",
        "A\u{e9}: b\r\n",
    ] {
        assert!(matches!(with(lines), Err(HeadFault::Syntax(_))), "{lines:?}");
        let read = answer(format!("HTTP/1.1 200 OK\r\n{lines}\r\n"));
        assert!(matches!(read, Err(HeadFault::Syntax(_))), "{lines:?}");
    }
    for first in [
        "GET /a b HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.2",
        "GET / http/1.1",
        "GET /",
        "GET / HTTP/1.1\rX",
    ] {
        assert!(matches!(request(format!("{first}\r\n\r\n")), Err(HeadFault::Syntax(_))), "{first:?}");
    }
    for first in ["HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "HTTP/1.1  200 OK", "HTTP/2.0 200 OK", "HTTP/1.1 099 No"] {
        assert!(matches!(answer(format!("{first}\r\n\r\n")), Err(HeadFault::Syntax(_))), "{first:?}");
    }
}

#[test]
fn lines_that_end_with_a_bare_lf_are_one_message_with_one_end() {
    let (read, left) = in_pieces([&b"GET / HTTP/1.1\nHost: a\nContent-Length: 3\n\nabc"[..]].into_iter());
    assert_eq!(whole(read).framing, Framing::Length(3));
    assert_eq!(left, b"abc");
    // The empty line ends it, however it and the one before it end.
    for end in ["\n\n", "\r\n\n", "\n\r\n", "\r\n\r\n"] {
        let (read, left) = in_pieces([format!("GET / HTTP/1.1\r\nHost: a{end}\nX: y\r\n\r\n").as_bytes()].into_iter());
        assert_eq!((whole(read).parts.headers.len(), &left[..]), (1, &b"\nX: y\r\n\r\n"[..]), "{end:?}");
    }
}

#[test]
fn a_request_has_one_length_or_is_refused() {
    for (lines, length) in [
        ("", Some(0)),
        ("Content-Length: 0\r\n", Some(0)),
        ("Content-Length: 007\r\n", Some(7)),
        ("Content-Length: 5 \r\n", Some(5)),
        ("Content-Length: 5\r\ncontent-length: 5\r\n", Some(5)),
        ("Content-Length: 18446744073709551615\r\n", Some(u64::MAX)),
        ("Content-Length: 18446744073709551616\r\n", None),
        ("Content-Length: 5, 5\r\n", None),
        ("Content-Length: 5,\r\n", None),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", None),
        ("Content-Length: 5\r\nContent-Length: 05 5\r\n", None),
        ("Content-Length: 5\r\nContent-Length:\r\n", None),
        ("Content-Length:\r\n", None),
        ("Content-Length: +5\r\n", None),
        ("Content-Length: -5\r\n", None),
        ("Content-Length: 0x5\r\n", None),
        ("Content-Length: 5.0\r\n", None),
        ("Content-Length: 5\u{a0}\r\n", None),
    ] {
        let found = with(lines).ok().map(|head| head.expect("all of it").framing);
        assert_eq!(found, length.map(Framing::Length), "{lines:?}");
    }
    let told = whole(with("Content-Length: 5\r\nContent-Length: 5\r\n")).parts.headers;
    assert_eq!(told.get_all(header::CONTENT_LENGTH).iter().collect::<Vec<_>>(), ["5"], "and is passed on as one");
}

#[test]
fn a_coding_overrides_a_length_and_ends_the_connection() {
    for (lines, keeps) in [
        ("Transfer-Encoding: chunked\r\n", true),
        ("Transfer-Encoding: gzip\r\ntransfer-encoding: Chunked \r\n", true),
        ("Transfer-Encoding: gzip,\tchunked\r\n", true),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", false),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", false),
    ] {
        let head = whole(with(lines));
        assert_eq!((head.framing, head.keep_alive), (Framing::Chunked, keeps), "{lines:?}");
        assert!(!head.parts.headers.contains_key(header::CONTENT_LENGTH), "{lines:?}");
    }
    for lines in [
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked,\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: x\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    ] {
        assert!(matches!(with(lines), Err(HeadFault::Syntax(_))), "{lines:?}");
    }
    let old = request("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert!(matches!(old, Err(HeadFault::Syntax(_))), "HTTP/1.0 has none");
    let old = answer("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert!(matches!(old, Err(HeadFault::Syntax(_))));
}

#[test]
fn the_connection_goes_on_if_nobody_says_otherwise() {
    for (version, lines, keeps) in [
        (1, "", true),
        (1, "Connection: close\r\n", false),
        (1, "Connection: x,\tCLOSE \r\n", false),
        (1, "Connection: keep-alive\r\nConnection: close\r\n", false),
        (1, "Connection: closed\r\n", true),
        (0, "", false),
        (0, "Connection: Keep-Alive\r\n", true),
        (0, "Connection: keep-alive, close\r\n", false),
    ] {
        let head = whole(request(format!("GET / HTTP/1.{version}\r\n{lines}\r\n")));
        assert_eq!(head.keep_alive, keeps, "1.{version} {lines:?}");
        let head = whole(answer(format!("HTTP/1.{version} 200 OK\r\n{lines}\r\n")));
        assert_eq!(head.keep_alive, keeps, "1.{version} {lines:?}");
    }
}

#[test]
fn the_body_of_an_answer_ends_where_rfc_9112_says() {
    let coded = "Transfer-Encoding: chunked\r\n";
    for (asked, status, lines, framing) in [
        (Method::GET, "200", "Content-Length: 5\r\n", Framing::Length(5)),
        (Method::GET, "200", "Content-Length: 5, 5\r\nContent-Length: 5\r\n", Framing::Length(5)),
        (Method::GET, "200", coded, Framing::Chunked),
        (Method::GET, "200", "Transfer-Encoding: gzip\r\n", Framing::UntilClose),
        (Method::GET, "200", "", Framing::UntilClose),
        (Method::HEAD, "200", "Content-Length: 5\r\n", Framing::Length(0)),
        (Method::HEAD, "200", coded, Framing::Length(0)),
        (Method::GET, "204", "Content-Length: 5\r\n", Framing::Length(0)),
        (Method::GET, "304", "Content-Length: 5\r\n", Framing::Length(0)),
        (Method::GET, "103", "Content-Length: 5\r\n", Framing::Length(0)),
        (Method::GET, "205", "Content-Length: 5\r\n", Framing::Length(5)),
    ] {
        let head = whole(answer_to(&asked, format!("HTTP/1.1 {status} X\r\n{lines}\r\n")));
        assert_eq!(head.framing, framing, "{asked} {status} {lines:?}");
    }
    for lines in ["Content-Length: 5, 6\r\n", "Content-Length: 5\r\nContent-Length: 6\r\n", "Content-Length: x\r\n"] {
        assert!(matches!(answer(format!("HTTP/1.1 200 OK\r\n{lines}\r\n")), Err(HeadFault::Syntax(_))), "{lines:?}");
    }
}

#[test]
fn a_head_is_written_as_it_was_spelled() {
    let bytes = "GET /a?b HTTP/1.1\r\nHOST: a\r\nX-ID: 1\r\ncoOkie: c\r\nx-Id: 2\r\n\r\n";
    let RequestHead { mut parts, .. } = whole(request(bytes));
    let written = |parts: &Parts| {
        let mut out = Vec::new();
        write_request(&mut out, parts);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(written(&parts), bytes);
    parts.headers.remove("cookie");
    parts.headers.insert(HeaderName::from_static("x-added-here"), "3");
    parts.headers.insert(header::HOST, "b");
    assert_eq!(written(&parts), "GET /a?b HTTP/1.1\r\nHost: b\r\nX-ID: 1\r\nx-Id: 2\r\nX-Added-Here: 3\r\n\r\n");

    let bytes = "HTTP/1.1 200 Alles gut\r\nsErver: a\r\nX-B:  c \r\n\r\n";
    let AnswerHead { parts, .. } = whole(answer(bytes));
    let mut out = Vec::new();
    write_answer(&mut out, Version::HTTP_11, &parts);
    assert_eq!(out, b"HTTP/1.1 200 Alles gut\r\nsErver: a\r\nX-B: c\r\n");
}

#[test]
fn a_target_without_a_path_is_written_with_one() {
    for (target, written) in [("http://a.test?b", "/?b"), ("http://a.test", "/"), ("*", "*"), ("/x?", "/x?")] {
        let uri: Uri = target.parse().unwrap();
        let uri = Uri::from(uri.path_and_query().expect("a path").clone());
        let mut out = Vec::new();
        write_request(&mut out, &Parts { uri, ..Parts::default() });
        assert_eq!(String::from_utf8(out).unwrap(), format!("GET {written} HTTP/1.1\r\n\r\n"));
    }
}

/// What hyper's server makes of these bytes: its first request, and the bytes of its body.
fn hypers_request(bytes: &[u8]) -> Option<(http::request::Parts, Result<Vec<u8>, ()>)> {
    let seen = Rc::new(RefCell::new(None));
    let noted = seen.clone();
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let noted = noted.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = collected(body).await;
            noted.borrow_mut().get_or_insert((parts, body));
            Ok::<_, Infallible>(http::Response::new(String::new()))
        }
    });
    in_memory(async move |mut client, server| {
        let serving = hyper::server::conn::http1::Builder::new().half_close(true).serve_connection(server, service);
        let asking = async {
            let _ = client.write_all(bytes).await;
            let _ = client.shutdown().await;
            let _ = client.read_to_end(&mut Vec::new()).await;
        };
        let _ = tokio::join!(serving, asking);
    });
    seen.take()
}

/// What hyper's client makes of these bytes as the answer to a request of this method.
fn hypers_answer(method: Method, bytes: &[u8]) -> Option<(http::response::Parts, Result<Vec<u8>, ()>)> {
    let mut answered = None;
    let found = &mut answered;
    in_memory(async move |mut server, client| {
        let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake::<_, String>(client).await else {
            return;
        };
        let answering = async {
            let _ = server.read(&mut [0; 1024]).await;
            let _ = server.write_all(bytes).await;
            let _ = server.shutdown().await;
        };
        let asking = async {
            let request = http::Request::builder().method(method).uri("/").header("host", "a").body(String::new());
            if let Ok(answer) = sender.send_request(request.unwrap()).await {
                let (parts, body) = answer.into_parts();
                let body = collected(body).await;
                *found = Some((parts, body));
            }
            drop(sender);
        };
        let _ = tokio::join!(connection, answering, asking);
    });
    answered
}

/// Two ends of a connection, with time that does not wait.
fn in_memory<F: AsyncFnOnce(tokio::io::DuplexStream, TokioIo<tokio::io::DuplexStream>)>(talk: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (ours, hypers) = tokio::io::duplex(64 << 10);
    runtime.block_on(talk(ours, TokioIo::new(hypers)));
}

async fn collected(mut body: hyper::body::Incoming) -> Result<Vec<u8>, ()> {
    let mut all = Vec::new();
    while let Some(frame) =
        std::future::poll_fn(|cx| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), cx)).await
    {
        all.extend(frame.map_err(drop)?.into_data().unwrap_or_default());
    }
    Ok(all)
}

/// Bytes out of what heads are made of, near to right ones.
fn field() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        3 => Just("Content-Length".to_owned()),
        3 => Just("Transfer-Encoding".to_owned()),
        2 => Just("Connection".to_owned()),
        1 => Just("Host".to_owned()),
        2 => "[A-Za-z-]{1,8}",
        1 => "[ -~\t]{0,6}",
    ];
    let value = prop_oneof![
        4 => "[0-6]",
        3 => Just("chunked".to_owned()),
        1 => Just("gzip, chunked".to_owned()),
        1 => Just("close".to_owned()),
        1 => Just("keep-alive".to_owned()),
        1 => "[0-9, +x-]{0,6}",
        2 => "[ -~\t\u{e9}]{0,12}",
        1 => "[\0-\x1f a:]{0,6}",
    ];
    let colon = prop_oneof![8 => Just(": "), 2 => Just(":"), 1 => Just(" : "), 1 => Just(" ")];
    let end = prop_oneof![12 => Just("\r\n"), 2 => Just("\n"), 1 => Just("\r\n "), 1 => Just("\r")];
    (name, colon, value, end).prop_map(|(name, colon, value, end)| format!("{name}{colon}{value}{end}"))
}

fn message(first: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<u8>> {
    let before = prop_oneof![8 => Just(""), 1 => Just("\r\n"), 1 => Just("\n\r\n")];
    let end = prop_oneof![6 => Just("\r\n"), 2 => Just("\n"), 1 => Just("")];
    let body = prop_oneof![
        Just("3\r\nabc\r\n0\r\n\r\n".to_owned()),
        Just("abcdefgh".to_owned()),
        Just("\r\nGET / HTTP/1.1\r\n\r\n".to_owned()),
        "[0-9a-c\r\n]{0,12}",
    ];
    let parts = (before, first, proptest::collection::vec(field(), 0..5), end, body);
    parts.prop_map(|(before, first, fields, end, body)| {
        format!("{before}{first}{}{end}{body}", fields.concat()).into_bytes()
    })
}

fn request_line() -> impl Strategy<Value = String> {
    let method =
        prop_oneof![6 => Just("GET"), 6 => Just("POST"), 1 => Just("HEAD"), 1 => Just("x~Y"), 1 => Just("G T")];
    let target = prop_oneof![
        6 => Just("/".to_owned()), 2 => "/[ -~]{0,8}", 1 => Just("*".to_owned()),
        1 => Just("http://a.test?b".to_owned()), 1 => "[ -~\u{e9}]{0,8}",
    ];
    let version = prop_oneof![8 => Just("1.1"), 3 => Just("1.0"), 1 => Just("2.0"), 1 => Just("1.1 ")];
    let end = prop_oneof![10 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r")];
    (method, target, version, end)
        .prop_map(|(method, target, version, end)| format!("{method} {target} HTTP/{version}{end}"))
}

fn status_line() -> impl Strategy<Value = String> {
    let version = prop_oneof![8 => Just("1.1"), 3 => Just("1.0"), 1 => Just("2.0")];
    let status = prop_oneof![
        6 => Just("200"), 1 => Just("204"), 1 => Just("304"), 1 => Just("404"), 1 => Just("999"), 1 => Just("20"),
    ];
    let reason = prop_oneof![4 => Just(" OK".to_owned()), 1 => Just(String::new()), 2 => " [ -~\t\u{e9}]{0,8}"];
    let end = prop_oneof![10 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r")];
    (version, status, reason, end)
        .prop_map(|(version, status, reason, end)| format!("HTTP/{version} {status}{reason}{end}"))
}

/// The body as this framing cuts it out; `None` if it is not whole or malformed.
fn cut_out(framing: Framing, by: crate::proxy::http1::decode::Peer, rest: &[u8]) -> Option<Vec<u8>> {
    use crate::proxy::http1::decode::{Decoder, Step};
    let mut decoder = match framing {
        Framing::Length(length) => Decoder::length(length),
        Framing::Chunked => Decoder::chunked(by),
        Framing::UntilClose => Decoder::until_close(),
    };
    let (mut buf, mut all) = (BytesMut::from(rest), Vec::new());
    loop {
        match decoder.next(&mut buf).ok()? {
            Step::Data(data) => all.extend_from_slice(&data),
            Step::Trailers(_) => {}
            Step::End => return Some(all),
            Step::Wait => {
                decoder.end().ok()?;
            }
        }
    }
}

/// The headers without what both may rightly drop: a length beside a coding, and its repetitions.
fn told(headers: &Headers) -> Headers {
    let mut headers = headers.clone();
    headers.remove(header::CONTENT_LENGTH);
    headers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_head_is_the_same_in_any_pieces(bytes in message(request_line()), sizes in proptest::collection::vec(1_usize..9, 1..20)) {
        let (whole, left) = in_pieces(std::iter::once(&bytes[..]));
        let mut sizes = sizes.into_iter().cycle();
        let mut rest = &bytes[..];
        let pieces = std::iter::from_fn(|| {
            let (piece, more) = rest.split_at(sizes.next()?.min(rest.len()));
            rest = more;
            (!piece.is_empty()).then_some(piece)
        });
        let (pieces, left_of_pieces) = in_pieces(pieces);
        match (whole, pieces) {
            (Ok(Some(a)), Ok(Some(b))) => {
                prop_assert_eq!(shown(&a), shown(&b));
                prop_assert_eq!(left, left_of_pieces);
            }
            // A fault may be seen only at the end, which has not come.
            (Ok(None), Ok(None)) | (Err(_), Err(_) | Ok(None)) => {}
            (a, b) => prop_assert!(false, "in one piece {:?}, in many {:?}", a.map(|a| a.is_some()), b.map(|b| b.is_some())),
        }
    }

    #[test]
    fn what_hyper_refuses_of_a_request_is_refused_and_the_rest_is_read_alike(bytes in message(request_line())) {
        let (read, rest) = in_pieces(std::iter::once(&bytes[..]));
        if let Ok(Some(head)) = read {
            let Some((parts, body)) = hypers_request(&bytes) else { panic!("hyper refuses it") };
            prop_assert_eq!(&head.parts.method, &parts.method);
            prop_assert_eq!(&head.parts.uri, &parts.uri);
            prop_assert_eq!(head.parts.version, parts.version);
            prop_assert_eq!(told(&head.parts.headers), told(&Headers::from(&parts.headers)));
            // Where a body is malformed to us hyper may be more patient, never the other way round.
            if let Some(cut_out) = cut_out(head.framing, crate::proxy::http1::decode::Peer::Client, &rest) {
                prop_assert_eq!(Ok(cut_out), body);
            }
        }
    }

    #[test]
    fn what_hyper_refuses_of_an_answer_is_refused_and_the_rest_is_read_alike(
        bytes in message(status_line()), method in prop_oneof![Just(Method::GET), Just(Method::HEAD)],
    ) {
        let mut buf = BytesMut::from(&bytes[..]);
        if let Ok(Some(head)) = HeadReader::default().answer(&mut buf, &method, ALLOWED) {
            let Some((parts, body)) = hypers_answer(method, &bytes) else { panic!("hyper refuses it") };
            prop_assert_eq!(head.parts.status, parts.status);
            prop_assert_eq!(told(&head.parts.headers), told(&Headers::from(&parts.headers)));
            if let Some(cut_out) = cut_out(head.framing, crate::proxy::http1::decode::Peer::Application, &buf) {
                prop_assert_eq!(Ok(cut_out), body);
            }
        }
    }

    #[test]
    fn what_is_written_of_a_request_is_read_as_it_was(bytes in message(request_line())) {
        if let (Ok(Some(head)), _) = in_pieces(std::iter::once(&bytes[..]))
            && head.parts.uri.path_and_query().is_some()
        {
            let mut out = Vec::new();
            let parts = &head.parts;
            write_request(&mut out, parts);
            // Nothing of a head can end it, or begin a line in it.
            prop_assert_eq!(memchr::memmem::find(&out, b"\r\n\r\n"), Some(out.len() - 4));
            prop_assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), parts.headers.len() + 2);
            let again = whole(request(&out));
            prop_assert_eq!(&again.parts.headers, &parts.headers);
            prop_assert_eq!(again.parts.uri.path(), parts.uri.path());
            prop_assert_eq!(again.parts.uri.query(), parts.uri.query());
            prop_assert_eq!(again.framing, head.framing);
        }
    }
}
