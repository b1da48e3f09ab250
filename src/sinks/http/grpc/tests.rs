// Behind a feature clippy does not see that this is a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use http::Response;
use proptest::prelude::*;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::sinks::http::receiver::{built, problems};
use crate::sinks::{Sink, Verdict};
use crate::spool::Stored;
use crate::spool::sample::stored;
use crate::tls::fixture::{Authority, replace};
use crate::tls::provider::provider;

/// A call as it came, its message unpacked.
#[derive(Clone)]
struct Got {
    path: String,
    authority: String,
    headers: HeaderMap,
    message: Vec<u8>,
}

/// What the receiver does with a call.
#[derive(Clone)]
enum Does {
    /// Answers: head, message, trailers.
    Says(u16, Vec<(&'static str, String)>, Option<Vec<u8>>, Option<Vec<(&'static str, String)>>),
    /// Takes the stream back with this reason.
    Resets(h2::Reason),
    Nothing,
}

/// An answer with a message and this status behind it.
fn status(code: u32, more: &[(&'static str, &str)], message: &[u8]) -> Does {
    let mut trailers = vec![("grpc-status", code.to_string()), ("grpc-message", "the event of alice is bad".into())];
    trailers.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    Does::Says(200, vec![("content-type", "application/grpc+proto".into())], Some(message.to_vec()), Some(trailers))
}

struct Receiver {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    connections: Arc<Mutex<usize>>,
    /// Told to close a connection after each answer.
    closing: Arc<AtomicBool>,
    /// A connection has ended.
    closed: Arc<Notify>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Receiver {
    async fn start(tls: Option<TlsAcceptor>, script: impl Fn(&Got, usize) -> Does + Send + Sync + 'static) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (got, connections): (Arc<Mutex<Vec<Got>>>, Arc<Mutex<usize>>) = Default::default();
        let (closing, closed): (Arc<AtomicBool>, Arc<Notify>) = Default::default();
        let (remember, count, script) = (got.clone(), connections.clone(), Arc::new(script));
        let (close, ended) = (closing.clone(), closed.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *count.lock().unwrap() += 1;
                let (tls, remember, script) = (tls.clone(), remember.clone(), script.clone());
                let (close, ended) = (close.clone(), ended.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &remember, &close, &*script).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &remember, &close, &*script).await;
                            }
                        }
                    }
                    ended.notify_one();
                });
            }
        });
        Receiver { address, got, connections, closing, closed, accepting }
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve<S>(
    stream: S,
    remember: &Mutex<Vec<Got>>,
    close: &AtomicBool,
    script: &(impl Fn(&Got, usize) -> Does + Send + Sync),
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut waiting = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (head, mut body) = request.into_parts();
        let mut framed = Vec::new();
        // The connection is polled by whoever accepts: both at once.
        let read = async {
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
                framed.extend_from_slice(&data);
            }
        };
        tokio::select! {
            () = read => {}
            _ = connection.accept() => return,
        }
        let (prefix, content) = framed.split_at(PREFIX);
        assert_eq!(prefix[1..], u32::try_from(content.len()).unwrap().to_be_bytes());
        let mut message = Vec::new();
        match (prefix[0], head.headers.get("grpc-encoding").map(HeaderValue::as_bytes)) {
            (0, None) => message.extend_from_slice(content),
            (1, Some(b"gzip")) => drop(flate2::read::GzDecoder::new(content).read_to_end(&mut message).unwrap()),
            (1, Some(b"zstd")) => {
                let mut decoder = ruzstd::decoding::StreamingDecoder::new(content).unwrap();
                decoder.read_to_end(&mut message).unwrap();
            }
            other => panic!("{other:?}"),
        }
        let got = Got {
            path: head.uri.path().to_owned(),
            authority: head.uri.authority().map(ToString::to_string).unwrap_or_default(),
            headers: head.headers,
            message,
        };
        let turn = {
            let mut all = remember.lock().unwrap();
            all.push(got.clone());
            all.len()
        };
        match script(&got, turn) {
            Does::Nothing => waiting.push((respond, body)),
            Does::Resets(reason) => respond.send_reset(reason),
            Does::Says(status, headers, message, trailers) => {
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                let ends = message.is_none() && trailers.is_none();
                let mut stream = respond.send_response(response.body(()).unwrap(), ends).unwrap();
                if let Some(message) = message {
                    let mut framed = vec![0];
                    framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
                    framed.extend_from_slice(&message);
                    stream.send_data(framed.into(), trailers.is_none()).unwrap();
                }
                if let Some(trailers) = trailers {
                    let trailers = trailers.into_iter().map(|(name, value)| {
                        (http::HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap())
                    });
                    stream.send_trailers(trailers.collect()).unwrap();
                }
                if close.load(Relaxed) {
                    connection.graceful_shutdown();
                }
            }
        }
    }
}

fn sink(url: &str, more: &str, base: &Path) -> Box<dyn Sink> {
    let yaml = format!("{{ type: otlp, url: '{url}', protocol: grpc, timeout: 5s, {more} }}");
    built(&yaml, base).unwrap_or_else(|e| panic!("{e}"))
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "s3cret").unwrap();
    folder
}

fn batch(count: u64) -> Vec<Stored> {
    (1..=count).map(|seq| stored(seq, "alice")).collect()
}

/// The verdict on three events after this answer, and what a second try gives.
async fn verdict(does: Does) -> Verdict {
    let folder = folder();
    let receiver = Receiver::start(None, move |_, _| does.clone()).await;
    sink(&format!("http://{}", receiver.address), "", folder.path()).send(&batch(3)).await
}

#[tokio::test]
async fn a_call_is_what_the_protocol_says() {
    let folder = folder();
    let receiver = Receiver::start(None, |_, _| status(0, &[], b"")).await;
    let url = format!("http://{}", receiver.address);
    for (compression, headers) in [("off", "x-tenant: a"), ("gzip", "x-tenant: a"), ("zstd", "x-tenant: a")] {
        let more = format!("token_file: token, compression: {compression}, headers: {{ {headers} }}");
        let sink = sink(&url, &more, folder.path());
        sink.probe().await.unwrap();
        assert!(matches!(sink.send(&batch(20)).await, Verdict::Delivered), "{compression}");
    }
    assert_eq!(*receiver.connections.lock().unwrap(), 3, "one for each sink");
    let got = receiver.got();
    assert!(got[0].message.is_empty(), "a probe carries no event");
    for sent in &got {
        assert_eq!(sent.path, "/opentelemetry.proto.collector.logs.v1.LogsService/Export");
        assert_eq!(sent.authority, receiver.address.to_string());
        for (name, value) in [
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("grpc-timeout", "5000m"),
            ("authorization", "Bearer s3cret"),
            ("x-tenant", "a"),
        ] {
            assert_eq!(sent.headers[name], value);
        }
        assert!(!sent.headers.contains_key("host"));
    }
    let records = |message: &[u8]| {
        let scope = Fields::bytes_of(Fields::bytes_of(message, 1), 2);
        Fields(scope).filter(|(number, _)| *number == 2).count()
    };
    assert_eq!([1, 3, 5].map(|at| records(&got[at].message)), [20, 20, 20]);
}

#[tokio::test]
async fn a_status_means_what_the_table_says_and_no_words_are_repeated() {
    for code in 0..18 {
        let verdict = verdict(status(code, &[], b"")).await;
        let said = format!("{verdict:?}");
        assert!(!said.contains("alice"), "{said}");
        match code {
            0 => assert!(matches!(verdict, Verdict::Delivered)),
            3 | 6 | 8 | 9 | 17 => {
                assert!(matches!(verdict, Verdict::Refused { which, .. } if which == [0, 1, 2]), "{code}: {said}")
            }
            _ => assert!(matches!(verdict, Verdict::Retry { after: None, .. }), "{code}: {said}"),
        }
    }
    for (http, word) in [(401, "UNAUTHENTICATED"), (404, "UNIMPLEMENTED"), (503, "UNAVAILABLE"), (500, "UNKNOWN")] {
        match verdict(Does::Says(http, vec![("content-type", "text/html".into())], None, None)).await {
            Verdict::Retry { why, .. } => assert!(why.to_string().contains(word), "{http}: {why}"),
            verdict => panic!("{http}: {verdict:?}"),
        }
    }
    let head_alone = vec![("content-type", "application/grpc".into()), ("grpc-status", "16".into())];
    match verdict(Does::Says(200, head_alone, None, None)).await {
        Verdict::Retry { why, .. } => assert!(why.to_string().contains("UNAUTHENTICATED; check the secret"), "{why}"),
        verdict => panic!("{verdict:?}"),
    }
}

#[tokio::test]
async fn the_receiver_says_when_to_come_back() {
    // google.rpc.Status { details: [Any { type_url, value: RetryInfo { retry_delay { 3 s, 500 ms } } }] }
    let mut details = Vec::new();
    crate::protobuf::message(&mut details, 3, |out| {
        crate::protobuf::bytes(out, 1, RETRY_INFO);
        crate::protobuf::message(out, 2, |out| {
            crate::protobuf::message(out, 1, |out| {
                crate::protobuf::number(out, 1, 3);
                crate::protobuf::number(out, 2, 500_000_000);
            });
        });
    });
    let (padded, bare) = (STANDARD.encode(&details), STANDARD_NO_PAD.encode(&details));
    let some = Some(Duration::from_millis(3500));
    for (code, trailers, expected) in [
        (14, vec![("grpc-status-details-bin", padded.as_str())], some),
        (8, vec![("grpc-status-details-bin", bare.as_str())], some),
        (14, vec![("grpc-retry-pushback-ms", "250")], Some(Duration::from_millis(250))),
        (14, vec![("grpc-retry-pushback-ms", "-1")], None),
        (14, vec![("grpc-status-details-bin", "no base64!")], None),
    ] {
        match verdict(status(code, &trailers, b"")).await {
            Verdict::Retry { after, .. } => assert_eq!(after, expected, "{trailers:?}"),
            verdict => panic!("{trailers:?}: {verdict:?}"),
        }
    }
}

#[tokio::test]
async fn records_that_are_rejected_are_found_and_the_others_delivered() {
    let folder = folder();
    let receiver = Receiver::start(None, |got, _| {
        let rejected = u8::from(String::from_utf8_lossy(&got.message).contains("mallory"));
        // partial_success { rejected_log_records, error_message }
        status(0, &[], &[0x0a, 0x05, 0x08, rejected, 0x12, 0x01, b'x'])
    })
    .await;
    let sink = sink(&format!("http://{}", receiver.address), "", folder.path());
    let batch = [stored(1, "alice"), stored(2, "mallory"), stored(3, "bob")];
    assert!(matches!(sink.send(&batch).await, Verdict::Refused { which, .. } if which == [1]));
    assert!(matches!(sink.send(&[stored(4, "carol")]).await, Verdict::Delivered));
}

#[tokio::test]
async fn what_the_receiver_did_not_look_at_is_sent_once_more_on_a_new_connection() {
    let folder = folder();
    let refuses = |_: &Got, turn: usize| match turn {
        2 => Does::Resets(h2::Reason::REFUSED_STREAM),
        _ => status(0, &[], b""),
    };
    let receiver = Receiver::start(None, refuses).await;
    let sink = sink(&format!("http://{}", receiver.address), "", folder.path());
    for _ in 0..2 {
        assert!(matches!(sink.send(&batch(1)).await, Verdict::Delivered));
    }
    assert_eq!((receiver.got().len(), *receiver.connections.lock().unwrap()), (3, 2));
    assert!(matches!(verdict(Does::Resets(h2::Reason::INTERNAL_ERROR)).await, Verdict::Retry { .. }));
}

#[tokio::test]
async fn a_connection_that_the_receiver_has_closed_is_replaced() {
    let folder = folder();
    let receiver = Receiver::start(None, |_, _| status(0, &[], b"")).await;
    receiver.closing.store(true, Relaxed);
    let sink = sink(&format!("http://{}", receiver.address), "", folder.path());
    for calls in 1..4 {
        assert!(matches!(sink.send(&batch(1)).await, Verdict::Delivered));
        receiver.closed.notified().await;
        assert_eq!((receiver.got().len(), *receiver.connections.lock().unwrap()), (calls, calls));
    }
}

#[tokio::test]
async fn no_answer_and_no_grpc_are_later() {
    let folder = folder();
    let receiver = Receiver::start(None, |_, _| Does::Nothing).await;
    let url = format!("http://{}", receiver.address);
    let yaml = format!("{{ type: otlp, url: '{url}', protocol: grpc, timeout: 50ms }}");
    match built(&yaml, folder.path()).unwrap().send(&batch(1)).await {
        Verdict::Retry { why, .. } => assert!(why.to_string().contains("no answer within"), "{why}"),
        verdict => panic!("{verdict:?}"),
    }
    let page = Does::Says(200, vec![("content-type", "text/html".into())], Some(b"<html>".to_vec()), None);
    match verdict(page).await {
        Verdict::Retry { why, .. } => assert!(why.to_string().contains("does not speak gRPC"), "{why}"),
        verdict => panic!("{verdict:?}"),
    }
    let cut = Does::Says(200, vec![("content-type", "application/grpc".into())], Some(b"x".to_vec()), None);
    assert!(matches!(verdict(cut).await, Verdict::Retry { .. }), "no status is no success");
}

#[tokio::test]
async fn over_tls_it_is_agreed_on_by_alpn() {
    let folder = folder();
    let authority = Authority::new("grpc");
    replace(folder.path(), "ca.pem", &authority.pem());
    let acceptor = |protocols: &[&str]| {
        let identity = authority.server(&["127.0.0.1"]);
        let builder = ServerConfig::builder_with_provider(provider().unwrap().clone());
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut config = builder.with_single_cert(vec![identity.der.clone()], identity.key_der()).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    };
    for (protocols, good) in [(&["h2"][..], true), (&[][..], false)] {
        let receiver = Receiver::start(Some(acceptor(protocols)), |_, _| status(0, &[], b"")).await;
        let sink = sink(&format!("https://{}", receiver.address), "tls: { ca: ca.pem }", folder.path());
        match sink.send(&batch(1)).await {
            Verdict::Delivered => assert!(good),
            Verdict::Retry { why, .. } => assert!(!good && why.to_string().contains("does not speak HTTP/2"), "{why}"),
            verdict => panic!("{verdict:?}"),
        }
    }
}

#[test]
fn settings_that_do_not_fit_grpc_are_told() {
    for (yaml, expected) in
        [("url: 'http://a.test:4317/v1/logs'", "has no path"), ("url: 'http://a.test:4317', encoding: json", "no JSON")]
    {
        let told = problems(&format!("{{ type: otlp, protocol: grpc, {yaml} }}"));
        assert!(told.contains(expected), "{yaml}: {told}");
    }
    assert!(problems("{ type: otlp, protocol: grpc, encoding: protobuf, url: 'http://a.test:4317' }").is_empty());
}

proptest! {
    #[test]
    fn no_trailers_and_no_body_make_it_panic(
        details in prop::collection::vec(any::<u8>(), 0..64), body in prop::collection::vec(any::<u8>(), 0..32),
        pushback in "[-0-9]{0,24}",
    ) {
        let mut status = HeaderMap::new();
        status.insert("grpc-status-details-bin", HeaderValue::from_str(&STANDARD.encode(&details)).unwrap());
        let _ = after(&status);
        status.insert("grpc-retry-pushback-ms", HeaderValue::from_str(&pushback).unwrap());
        let _ = after(&status);
        prop_assert!(unframed(body.clone()).len() <= body.len());
    }
}
