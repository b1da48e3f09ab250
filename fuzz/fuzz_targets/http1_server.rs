//! A client's whole conversation over HTTP/1: every request is answered in its turn and nothing else is
//! written, and what is handed on as a whole request is what hyper's server reads out of the same bytes.
#![no_main]

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use authtap::headers::Headers;
use authtap::proxy::body::{RequestBody, ResponseBody};
use authtap::proxy::http1::head;
use authtap::proxy::http1::server::{Allowed, Wire, serve};
use authtap::proxy::http1::stream::ClientStream;
use authtap::proxy::idle::{IdleStream, IdleTimes};
use authtap::proxy::message::{Parts, Request, Response};
use authtap::proxy::proxy_protocol::Prefixed;
use authtap::proxy::socket::Socket;
use authtap::proxy::stream::Watched;
use authtap::telemetry::Traffic;
use bytes::{Bytes, BytesMut};
use http::{HeaderName, Method, Uri, header};
use hyper::body::Body;
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// A request whose body came whole.
#[derive(Debug, PartialEq)]
struct Seen {
    method: Method,
    uri: Uri,
    headers: Headers,
    body: Vec<u8>,
}

/// Reads a body; `None` if it was cut.
async fn whole<B: Body<Data = Bytes> + Unpin>(mut body: B) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame.ok()?.into_data() {
            all.extend_from_slice(&data);
        }
    }
    Some(all)
}

fn seen(parts: Parts, body: Vec<u8>) -> Seen {
    let Parts { method, uri, mut headers, .. } = parts;
    // Both do away with a length beside chunks; hyper keeps further lines of the same length out too.
    headers.remove(header::CONTENT_LENGTH);
    Seen { method, uri, headers, body }
}

/// What the server under test hands on, and what it writes. `reads` says of which requests the body is read.
async fn ours(bytes: &[u8], step: usize, reads: u8) -> (Vec<Option<Seen>>, Vec<u8>) {
    let (client, server) = UnixStream::pair().expect("a pair");
    let stream = IdleStream::new(Watched::new(Socket::Unix(server)), IdleTimes::default());
    let wire = Wire::new(ClientStream::Plain(Prefixed::new(Bytes::new(), stream)), BytesMut::new());
    let allowed = Allowed { head: head::Allowed { headers: 100, bytes: 16 << 10 }, within: Duration::from_secs(3600) };
    let (_stop, stop) = watch::channel(false);
    let requests = Rc::new(RefCell::new(Vec::new()));
    let handled = requests.clone();
    let count = Cell::new(0_usize);
    let answer = async move |request: &mut Request<RequestBody>| {
        let n = count.get();
        count.set(n + 1);
        let wanted = reads >> (n % 8) & 1 == 1;
        // Refused by the handler, after which hyper would read a tunnel.
        let closes = request.method() == Method::CONNECT;
        let parts = request.head().clone();
        let body = if wanted { whole(request.body_mut()).await } else { None };
        handled.borrow_mut().push(body.map(|body| seen(parts, body)));
        let mut response = Response::new(ResponseBody::from(Bytes::from(format!("answer {n}"))));
        response.headers_mut().insert(HeaderName::from_static("x-number"), n.to_string());
        if closes {
            response.headers_mut().insert(header::CONNECTION, "close");
        }
        response
    };
    let serving = serve(wire, allowed, Arc::<Traffic>::default(), stop, answer);
    let (mut from, mut to) = client.into_split();
    let asking = async {
        for piece in bytes.chunks(step) {
            if to.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(to);
    };
    let mut written = Vec::new();
    let reading = async {
        // Reset if it closed before it had read everything.
        let _ = from.read_to_end(&mut written).await;
    };
    let (served, (), ()) = tokio::join!(serving, asking, reading);
    drop(served);
    let requests = Rc::into_inner(requests).expect("the server is gone").into_inner();
    (requests, written)
}

/// The same of hyper, up to the first that is not whole.
async fn hypers(bytes: &[u8]) -> Vec<Seen> {
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let requests = Rc::new(RefCell::new(Vec::new()));
    let handled = requests.clone();
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let handled = handled.clone();
        async move {
            let (parts, body) = request.into_parts();
            if let Some(body) = whole(body).await {
                handled.borrow_mut().push(seen(parts.into(), body));
            }
            Ok::<_, Infallible>(http::Response::new(String::new()))
        }
    });
    let serving =
        hyper::server::conn::http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service);
    let asking = async {
        let _ = client.write_all(bytes).await;
        let _ = client.shutdown().await;
        let _ = client.read_to_end(&mut Vec::new()).await;
    };
    let (served, ()) = tokio::join!(serving, asking);
    drop(served);
    Rc::into_inner(requests).map(RefCell::into_inner).unwrap_or_default()
}

/// Takes the answers apart: one after the other in order, at the end perhaps a refusal, and nothing else.
fn check_answers(mut written: &[u8], requests: usize) {
    let mut answers = 0;
    while !written.is_empty() {
        let mut headers = [httparse::EMPTY_HEADER; 20];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(len) = head.parse(written).expect("an answer") else {
            panic!("half a head of an answer");
        };
        let field = |name: &str| {
            let found = head.headers.iter().find(|field| field.name == name)?;
            std::str::from_utf8(found.value).ok()?.parse::<usize>().ok()
        };
        let (length, number) = (field("content-length"), field("x-number"));
        let code = head.code.expect("a status");
        written = &written[len..];
        if number.is_none() {
            // A refusal closes the connection. It has its body, as nobody knows the method.
            assert!((400..600).contains(&code) && Some(written.len()) == length, "{code}");
            return;
        }
        assert_eq!(number, Some(answers));
        let body = format!("answer {answers}");
        // An answer to HEAD has no body, and may leave its length out (RFC 9110 section 9.3.2).
        assert!(length.is_none_or(|length| length == body.len()));
        written = written.strip_prefix(body.as_bytes()).unwrap_or(written);
        answers += 1;
    }
    assert!(answers <= requests);
}

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
}

fuzz_target!(|data: &[u8]| {
    // The first bytes say how large the pieces are and which bodies are read.
    let [size, reads, bytes @ ..] = data else { return };
    let step = if *size == 0 { usize::MAX } else { usize::from(*size) };
    RUNTIME.with(|runtime| {
        let (requests, written) = runtime.block_on(ours(bytes, step, *reads));
        check_answers(&written, requests.len());
        let hypers = runtime.block_on(hypers(bytes));
        // Whatever is doubtful ends our reading, never hyper's alone.
        for (n, request) in requests.iter().enumerate() {
            if let Some(request) = request {
                assert_eq!(Some(request), hypers.get(n), "request {n}");
            }
        }
    });
});
