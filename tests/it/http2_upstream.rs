//! An application that speaks HTTP/2: what reaches it, how many connections it takes, what happens
//! when it refuses, ends or stalls, and gRPC through it.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use authtap::proxy::http2::Duplex;
use authtap::tls::provider::provider;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Response, StatusCode, Version};
use http_body::Body;
use http_body_util::BodyExt;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, Notify, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::harness::certificate::Authority;
use crate::harness::h2::{
    AnyBody, H2Origin, connect, dial, head, interim, piece, piecewise, request, whole, within_patience,
};
use crate::harness::{Client, LOGIN, Proxy, ask, at, eventually, form, get, post};

/// The keys for an application at one address that speaks HTTP/2 by prior knowledge.
fn h2c(origin: &H2Origin, yaml: &str) -> Proxy {
    Proxy::of(&format!("upstream: {{ servers: http://{}, protocol: h2 }}\n{yaml}", origin.address))
}

/// Off the runtime, which serves the application meanwhile.
async fn blocking<T: Send + 'static>(does: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(does).await.expect("no panic")
}

fn status(status: u16) -> Response<AnyBody> {
    let mut response = Response::new(whole("said"));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

#[test]
fn a_request_of_http1_arrives_as_one_of_http2_and_its_answer_comes_back() {
    within_patience(async {
        let (tell, mut told) = mpsc::channel(1000);
        let origin = H2Origin::serving(100, move |request| {
            let tell = tell.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.expect("a body").to_bytes();
                tell.try_send((parts, body)).expect("the test waits");
                let mut answer = status(201);
                answer.headers_mut().insert("x-from", "application".parse().expect("a value"));
                answer
            }
        })
        .await;
        let proxy = h2c(&origin, LOGIN);
        let address = proxy.address;
        let answer = blocking(move || {
            let mut request = form("/login?next=%2F", "username=alice&password=wonderland");
            let head = b"POST /login?next=%2F HTTP/1.1\r\n".len();
            request.splice(head..head, *b"TE: trailers\r\nConnection: te, keep-alive\r\n");
            ask(address, request)
        })
        .await;
        assert_eq!((answer.status(), answer.text()), (201, "said".to_owned()));
        assert_eq!(answer.field("x-from").as_deref(), Some("application"));
        let (parts, body) = told.recv().await.expect("a request");
        assert_eq!(parts.version, Version::HTTP_2);
        assert_eq!(parts.uri, "http://app.example.test/login?next=%2F");
        assert_eq!(parts.headers["te"], "trailers");
        for gone in ["host", "connection", "transfer-encoding", "keep-alive"] {
            assert!(!parts.headers.contains_key(gone), "{gone}");
        }
        assert_eq!(parts.headers["x-forwarded-for"], "127.0.0.1");
        assert_eq!(body, "username=alice&password=wonderland");
        let events = blocking(move || proxy.await_events(1)).await;
        assert_eq!((at(&events[0], "/event_type"), at(&events[0], "/actor/login")), ("user.login.unknown", "alice"));
    });
}

#[test]
fn requests_share_a_connection_up_to_what_the_application_allows() {
    within_patience(async {
        let all = Arc::new(Barrier::new(6));
        let origin = H2Origin::serving(2, move |request| {
            let all = all.clone();
            async move {
                if request.uri().path() == "/together" {
                    all.wait().await;
                }
                status(200)
            }
        })
        .await;
        let proxy = h2c(&origin, "");
        let address = proxy.address;
        // From now on it is known how many are allowed.
        for _ in 0..3 {
            assert_eq!(blocking(move || get(address, "/").status()).await, 200);
        }
        assert_eq!(origin.connections(), 1, "one after the other use the same");
        let ask = || tokio::spawn(blocking(move || get(address, "/together").status()));
        let together: Vec<_> = (0..6).map(|_| ask()).collect();
        for one in together {
            assert_eq!(one.await.expect("no panic"), 200);
        }
        assert!((3..=6).contains(&origin.connections()), "{}", origin.connections());
    });
}

/// An application that does with the streams of its `n`-th connection, from 0, what `does` says.
async fn scripted<F, A>(does: F) -> (std::net::SocketAddr, Arc<AtomicUsize>)
where
    F: Fn(usize, h2::server::Connection<TcpStream, Bytes>) -> A + Send + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let connection = h2::server::handshake(stream).await.expect("HTTP/2");
            tokio::spawn(does(counted.fetch_add(1, SeqCst), connection));
        }
    });
    (address, connections)
}

fn fine(respond: &mut h2::server::SendResponse<Bytes>) {
    respond.send_response(Response::new(()), true).expect("an answer");
}

#[test]
fn a_refused_stream_is_sent_again_whatever_it_asks_for_unless_its_body_is_gone() {
    within_patience(async {
        let (address, connections) = scripted(|n, mut connection| async move {
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                match n % 2 {
                    0 => respond.send_reset(h2::Reason::REFUSED_STREAM),
                    _ => fine(&mut respond),
                }
            }
        })
        .await;
        let proxy = Proxy::of(&format!("upstream: {{ servers: http://{address}, protocol: h2 }}"));
        let at = proxy.address;
        let bare = "DELETE /thing HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(blocking(move || ask(at, bare).status()).await, 200, "nothing was done with it");
        assert_eq!(connections.load(SeqCst), 2);
    });
    within_patience(async {
        let (address, _) = scripted(|_, mut connection| async move {
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
            }
        })
        .await;
        let proxy = Proxy::of(&format!("upstream: {{ servers: http://{address}, protocol: h2 }}"));
        let at = proxy.address;
        assert_eq!(blocking(move || ask(at, post("/", "", "body")).status()).await, 502);
    });
}

/// Says with GOAWAY that it did not do what it was asked, whatever that was.
async fn goes_away(mut stream: TcpStream) {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.expect("a preface");
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("SETTINGS");
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.expect("a whole frame");
        match (head[3], head[4]) {
            // HEADERS: no stream was processed, and no error (RFC 9113 section 6.8).
            (1, _) => stream.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await.expect("GOAWAY"),
            (4, 0) => stream.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).await.expect("an ACK"),
            _ => {}
        }
    }
}

#[test]
fn a_stream_beyond_goaway_was_not_processed_and_is_sent_again() {
    within_patience(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        tokio::spawn(async move {
            tokio::spawn(goes_away(listener.accept().await.expect("the first").0));
            let mut second =
                h2::server::handshake(listener.accept().await.expect("the second").0).await.expect("HTTP/2");
            while let Some(Ok((_, mut respond))) = second.accept().await {
                fine(&mut respond);
            }
        });
        let proxy = Proxy::of(&format!("upstream: {{ servers: http://{address}, protocol: h2 }}"));
        let at = proxy.address;
        let bare = "DELETE /thing HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(blocking(move || ask(at, bare).status()).await, 200);
    });
}

#[test]
fn what_was_processed_is_not_sent_again() {
    within_patience(async {
        let seen = Arc::new(AtomicUsize::new(0));
        let counted = seen.clone();
        let (address, _) = scripted(move |_, mut connection| {
            let seen = seen.clone();
            async move {
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    seen.fetch_add(1, SeqCst);
                    respond.send_reset(h2::Reason::INTERNAL_ERROR);
                }
            }
        })
        .await;
        let proxy = Proxy::of(&format!("upstream: {{ servers: http://{address}, protocol: h2 }}"));
        let at = proxy.address;
        let bare = "DELETE /thing HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(blocking(move || ask(at, bare).status()).await, 502);
        assert_eq!(counted.load(SeqCst), 1);
    });
}

#[test]
fn after_goaway_the_next_request_goes_over_a_new_connection_with_its_body() {
    within_patience(async {
        let (address, connections) = scripted(|_, mut connection| async move {
            if let Some(Ok((request, mut respond))) = connection.accept().await {
                // All that came before counts; the body may follow.
                let mut body = request.into_body();
                connection.graceful_shutdown();
                let reading = async {
                    while let Some(Ok(data)) = body.data().await {
                        let _ = body.flow_control().release_capacity(data.len());
                    }
                    fine(&mut respond);
                };
                tokio::join!(reading, async { while connection.accept().await.is_some() {} });
            }
        })
        .await;
        let proxy = Proxy::of(&format!("upstream: {{ servers: http://{address}, protocol: h2 }}"));
        let at = proxy.address;
        for n in 1..=3 {
            assert_eq!(blocking(move || ask(at, post("/", "", "body")).status()).await, 200, "{n}");
        }
        assert_eq!(connections.load(SeqCst), 3);
    });
}

/// An application behind TLS that agrees to these protocols.
async fn secured(authority: &Authority, folder: &std::path::Path, alpn: &[&str]) -> H2Origin {
    let cert = authority.write(folder, "app", &["127.0.0.1"]);
    let key = PrivateKeyDer::from_pem_file(folder.join("app.key")).expect("a key");
    let builder = ServerConfig::builder_with_provider(provider().expect("TLS")).with_safe_default_protocol_versions();
    let chain = vec![cert];
    let mut config = builder.expect("versions").with_no_client_auth().with_single_cert(chain, key).expect("a pair");
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let wrap = move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(stream).await.ok()?;
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                return Some(stream);
            }
            // It has chosen HTTP/1.1, and says so.
            tokio::spawn(async move {
                let (mut stream, mut head) = (stream, Vec::new());
                while stream.read_buf(&mut head).await.is_ok_and(|n| n > 0) {
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        let said = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nby one\n";
                        stream.write_all(said).await.expect("authtap reads");
                    }
                }
            });
            None
        }
    };
    H2Origin::over(wrap, 100, |_| async { Response::new(whole("by two\n")) }).await
}

#[test]
fn over_tls_the_application_chooses_and_h2_means_h2() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    authority.write_itself(folder.path(), "ca.pem");
    for (offered, protocol, expected) in [
        (&["h2", "http/1.1"][..], "auto", Ok("by two\n")),
        (&["h2", "http/1.1"], "h2", Ok("by two\n")),
        (&["h2", "http/1.1"], "http1", Ok("by one\n")),
        (&["http/1.1"], "auto", Ok("by one\n")),
        (&["http/1.1"], "h2", Err(502)),
        (&[], "auto", Ok("by one\n")),
        (&[], "h2", Err(502)),
    ] {
        within_patience(async {
            let origin = secured(&authority, folder.path(), offered).await;
            let upstream = format!("{{ servers: https://{}, protocol: {protocol} }}", origin.address);
            let ca = folder.path().join("ca.pem");
            let proxy = Proxy::of(&format!("upstream: {upstream}\nupstream_tls: {{ ca: {} }}", ca.display()));
            let at = proxy.address;
            for _ in 0..2 {
                let answer = blocking(move || get(at, "/")).await;
                match expected {
                    Ok(said) => assert_eq!(answer.text(), said, "{offered:?} {protocol}"),
                    Err(status) => assert_eq!(answer.status(), status, "{offered:?} {protocol}"),
                }
            }
        });
    }
}

#[test]
fn an_upgrade_cannot_be_had_where_http2_is_spoken_without_extended_connect() {
    within_patience(async {
        let origin = H2Origin::serving(100, |_| async { status(200) }).await;
        let proxy = h2c(&origin, "");
        let at = proxy.address;
        let asked = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(blocking(move || ask(at, asked).status()).await, 501);
    });
}

#[test]
fn limits_and_times_hold_over_http2_and_cost_only_the_one_stream() {
    within_patience(async {
        let reset = Arc::new(Notify::new());
        let told = reset.clone();
        let origin = H2Origin::serving(100, move |request| {
            let told = told.clone();
            async move {
                match request.uri().path() {
                    "/slow" => {
                        // Ends with the stream.
                        struct Ended(Arc<Notify>);
                        impl Drop for Ended {
                            fn drop(&mut self) {
                                self.0.notify_one();
                            }
                        }
                        let _ended = Ended(told);
                        std::future::pending().await
                    }
                    "/read" => {
                        let read = request.into_body().collect().await;
                        status(if read.is_ok() { 200 } else { 400 })
                    }
                    _ => status(200),
                }
            }
        })
        .await;
        let proxy = h2c(&origin, "timeouts: { answer: 200ms }\nlimits: { request_body: 1KB, body_idle: 100ms }");
        let at = proxy.address;
        assert_eq!(blocking(move || get(at, "/").status()).await, 200);
        assert_eq!(blocking(move || get(at, "/slow").status()).await, 504);
        reset.notified().await;
        let chunk = format!("POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", 4096);
        let long = [chunk.into_bytes(), vec![b'x'; 4096], b"\r\n0\r\n\r\n".to_vec()].concat();
        assert_eq!(blocking(move || ask(at, long).status()).await, 413);
        let stalled = "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab";
        assert_eq!(blocking(move || ask(at, stalled).status()).await, 408);
        assert_eq!(blocking(move || get(at, "/").status()).await, 200);
        assert_eq!(origin.connections(), 2, "one that did not answer in time gets no further requests");
    });
}

#[test]
fn a_connection_nobody_uses_is_closed_after_a_while() {
    within_patience(async {
        let (tell, mut told) = mpsc::channel(1000);
        let (address, _) = scripted(move |_, mut connection| {
            let tell = tell.clone();
            async move {
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    fine(&mut respond);
                }
                tell.try_send(()).expect("the test waits");
            }
        })
        .await;
        let upstream = format!("upstream: {{ servers: http://{address}, protocol: h2 }}");
        let proxy = Proxy::of(&format!("{upstream}\ntimeouts: {{ upstream_idle: 100ms }}"));
        let at = proxy.address;
        assert_eq!(blocking(move || get(at, "/").status()).await, 200);
        told.recv().await.expect("the application sees its end");
    });
}

#[test]
fn grpc_streams_both_ways_message_by_message_and_ends_with_trailers() {
    within_patience(async {
        let origin = H2Origin::serving(100, |request| async move {
            if request.uri().path() == "/stands-still" {
                let _ = request.into_body().frame().await;
                return Response::new(piecewise().1);
            }
            assert_eq!(request.headers()["te"], "trailers");
            assert_eq!(request.headers()["content-type"], "application/grpc");
            let (mut send, body) = piecewise();
            tokio::spawn(async move {
                let mut asked = request.into_body();
                while let Some(frame) = asked.frame().await {
                    let Ok(data) = frame.expect("whole").into_data() else { break };
                    // The end of the stream may be a frame of its own.
                    if data.is_empty() {
                        continue;
                    }
                    send.send_data([b"echo ", &data[..]].concat().into()).await.expect("somebody reads");
                }
                let trailers = [("grpc-status", "9"), ("grpc-message", "not%20now"), ("x-bin", "AP8B")];
                let trailers = trailers
                    .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
                send.send_trailers(HeaderMap::from_iter(trailers)).await.expect("somebody reads");
            });
            let mut answer = Response::new(body);
            answer.headers_mut().insert("content-type", "application/grpc".parse().expect("a value"));
            answer
        })
        .await;
        let proxy = h2c(&origin, "limits: { body_idle: 1s }");
        let mut client = connect(proxy.address).await;
        let (mut send, body) = piecewise();
        let mut call = request("POST", "/pkg.Service/Method", body);
        call.headers_mut().insert("te", "trailers".parse().expect("a value"));
        call.headers_mut().insert("content-type", "application/grpc".parse().expect("a value"));
        let answer = client.send_request(call).await.expect("a head before the first message");
        assert_eq!(
            (answer.status(), &answer.headers()["content-type"]),
            (StatusCode::OK, &"application/grpc".parse().expect("one"))
        );
        let mut answer = answer.into_body();
        for n in 0..5 {
            send.send_data(format!("{n}").into()).await.expect("somebody reads");
            assert_eq!(piece(&mut answer).await.as_deref(), Some(format!("echo {n}").as_bytes()));
        }
        // Once both talk either may be silent, for longer than a body may stand still before: one that
        // begins to stand still now is ended first.
        let (_nothing, body) = piecewise();
        let still = client.send_request(request("POST", "/stands-still", body)).await.expect("an answer");
        assert_eq!(still.status(), StatusCode::REQUEST_TIMEOUT);
        send.send_data("still there".into()).await.expect("somebody reads");
        assert_eq!(piece(&mut answer).await.as_deref(), Some(&b"echo still there"[..]));
        drop(send);
        let trailers = answer.frame().await.expect("trailers").expect("whole").into_trailers().expect("trailers");
        assert_eq!(
            (&trailers["grpc-status"], &trailers["x-bin"]),
            (&"9".parse().expect("one"), &"AP8B".parse().expect("one"))
        );
        assert!(answer.frame().await.is_none());
    });
}

#[test]
fn an_answer_of_trailers_only_and_one_that_nobody_waits_for() {
    within_patience(async {
        let (tell, mut told) = mpsc::channel(1000);
        let origin = H2Origin::serving(100, move |request| {
            struct Gone(mpsc::Sender<()>);
            impl Drop for Gone {
                fn drop(&mut self) {
                    // The test may have ended.
                    let _ = self.0.try_send(());
                }
            }
            let gone = Gone(tell.clone());
            async move {
                if request.uri().path() == "/slow" {
                    let _gone = gone;
                    std::future::pending::<()>().await;
                }
                let mut answer = Response::new(whole(""));
                answer.headers_mut().insert("grpc-status", "12".parse().expect("a value"));
                answer
            }
        })
        .await;
        let proxy = h2c(&origin, "");
        let mut client = connect(proxy.address).await;
        let answer = client.send_request(request("POST", "/pkg.Service/Nope", whole("x"))).await.expect("an answer");
        assert_eq!(answer.headers()["grpc-status"], "12");
        assert!(answer.into_body().is_end_stream());
        told.recv().await.expect("the first is over");
        let slow = tokio::spawn(client.send_request(request("POST", "/slow", whole("x"))));
        while origin.connections() == 0 {
            tokio::task::yield_now().await;
        }
        slow.abort();
        told.recv().await.expect("the application learns that nobody waits");
    });
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody_else_on_the_same_connection() {
    within_patience(async {
        let origin = H2Origin::serving(100, |request| async move {
            match request.uri().path() {
                "/endless" => {
                    let (mut send, body) = piecewise();
                    tokio::spawn(async move { while send.send_data(vec![b'x'; 64 << 10].into()).await.is_ok() {} });
                    Response::new(body)
                }
                _ => status(200),
            }
        })
        .await;
        let proxy = h2c(&origin, "");
        let at = proxy.address;
        let idlers: Vec<Client> = blocking(move || {
            let endless = "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n";
            (0..40)
                .map(|_| {
                    let mut client = Client::connect(at);
                    assert_eq!(client.send(endless).head().status(), 200);
                    client
                })
                .collect()
        })
        .await;
        assert_eq!(blocking(move || get(at, "/").text()).await, "said");
        assert_eq!(origin.connections(), 1);
        drop(idlers);
    });
}

/// An interim answer with one line.
fn says(respond: &mut h2::server::SendResponse<Bytes>, status: u16, name: &'static str, value: &'static str) {
    let mut interim = Response::new(());
    *interim.status_mut() = StatusCode::from_u16(status).expect("a status");
    interim.headers_mut().insert(name, value.parse().expect("a value"));
    respond.send_informational(interim).expect("a stream that is open");
}

#[test]
fn hints_of_the_application_reach_clients_of_both_protocols_before_its_answer() {
    within_patience(async {
        let seen = Arc::new(Notify::new());
        let waits = seen.clone();
        let (address, _) = scripted(move |_, mut connection| {
            let waits = waits.clone();
            async move {
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let waits = waits.clone();
                    tokio::spawn(async move {
                        says(&mut respond, 103, "link", "</a.css>");
                        says(&mut respond, 102, "x-n", "2");
                        // Only whoever has heard them lets the answer come.
                        waits.notified().await;
                        fine(&mut respond);
                    });
                }
            }
        })
        .await;
        let proxy = Proxy::of(&format!("upstream: {{ servers: http://{address}, protocol: h2 }}"));
        let at = proxy.address;
        let heard = seen.clone();
        let old = blocking(move || {
            let mut client = Client::connect(at);
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let hints = [client.head(), client.head()];
            heard.notify_one();
            (hints, client.head())
        });
        let ([first, second], last) = old.await;
        assert_eq!((first.status(), first.field("link").as_deref()), (103, Some("</a.css>")));
        assert_eq!((second.status(), second.field("x-n").as_deref()), (102, Some("2")));
        assert_eq!(last.status(), 200);

        let mut client = dial(at).await;
        let (mut asked, _) = client.send_request(head("GET", "/", &[]), true).expect("sent");
        let hint = interim(&mut asked).await.expect("an interim answer");
        assert_eq!((hint.status().as_u16(), &hint.headers()["link"]), (103, &"</a.css>".parse().expect("one")));
        assert_eq!(interim(&mut asked).await.expect("another").status(), 102);
        seen.notify_one();
        assert_eq!(asked.await.expect("an answer").status(), 200);
    });
}

#[test]
fn a_client_that_waits_to_go_on_hears_the_applications_word_over_http2_too() {
    within_patience(async {
        let (address, _) = scripted(|_, mut connection| async move {
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                tokio::spawn(async move {
                    assert_eq!(request.headers()["expect"], "100-continue");
                    let mut body = request.into_body();
                    if body.is_end_stream() {
                        panic!("it did not wait");
                    }
                    says(&mut respond, 100, "x-from", "application");
                    let mut all = Vec::new();
                    while let Some(data) = body.data().await {
                        all.extend_from_slice(&data.expect("whole"));
                    }
                    let mut sending = respond.send_response(Response::new(()), false).expect("an answer");
                    sending.send_data(all.into(), true).expect("an open window");
                });
            }
        })
        .await;
        let proxy = Proxy::of(&format!("upstream: {{ servers: http://{address}, protocol: h2 }}"));
        let at = proxy.address;
        let fields = [("expect", "100-continue"), ("content-length", "4")];
        let mut client = dial(at).await;
        let (mut asked, mut body) = client.send_request(head("POST", "/", &fields), false).expect("sent");
        let told = interim(&mut asked).await.expect("an interim answer");
        // Ours, for an application that says nothing, would have no such line.
        assert_eq!((told.status().as_u16(), &told.headers()["x-from"]), (100, &"application".parse().expect("one")));
        body.send_data(Bytes::from_static(b"body"), true).expect("sent");
        let mut answered = asked.await.expect("an answer").into_body();
        assert_eq!(answered.data().await.expect("a piece").expect("whole"), "body");

        let old = blocking(move || {
            let mut client = Client::connect(at);
            client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
            assert_eq!(client.head().status(), 100);
            client.send("body").answer("POST").text()
        });
        assert_eq!(old.await, "body");
    });
}

#[test]
fn an_answer_that_is_reset_before_its_end_is_not_taken_for_a_whole_one() {
    for reason in [h2::Reason::NO_ERROR, h2::Reason::CANCEL] {
        within_patience(async {
            let read = Arc::new(Notify::new());
            let waits = read.clone();
            let (address, _) = scripted(move |_, mut connection| {
                let waits = waits.clone();
                async move {
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        let waits = waits.clone();
                        tokio::spawn(async move {
                            let mut sending = respond.send_response(Response::new(()), false).expect("an answer");
                            sending.send_data(Bytes::from_static(b"half"), false).expect("an open window");
                            waits.notified().await;
                            sending.send_reset(reason);
                        });
                    }
                }
            })
            .await;
            let proxy = Proxy::of(&format!("upstream: {{ servers: http://{address}, protocol: h2 }}"));
            let at = proxy.address;
            let ended = blocking(move || {
                let mut client = Client::connect(at);
                assert_eq!(client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").head().status(), 200);
                let (mut taken, mut some) = (Vec::new(), [0; 100]);
                loop {
                    let n = client.some(&mut some);
                    taken.extend_from_slice(&some[..n]);
                    if n == 0 {
                        return taken;
                    }
                    if taken.ends_with(b"half\r\n") {
                        read.notify_one();
                    }
                }
            });
            let taken = ended.await;
            assert!(taken.ends_with(b"half\r\n"), "{reason:?}: {}", String::from_utf8_lossy(&taken));
        });
    }
}

#[test]
fn an_early_answer_is_heard_while_the_upload_goes_on_and_lets_it_end() {
    within_patience(async {
        let (tell, mut told) = mpsc::channel(10);
        let (address, _) = scripted(move |_, mut connection| {
            let tell = tell.clone();
            async move {
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let tell = tell.clone();
                    tokio::spawn(async move {
                        let mut sending = respond.send_response(Response::new(()), false).expect("an answer");
                        sending.send_data(Bytes::from_static(b"early"), false).expect("an open window");
                        let mut body = request.into_body();
                        let mut length = 0;
                        while let Some(data) = body.data().await {
                            let data = data.expect("whole");
                            length += data.len();
                            body.flow_control().release_capacity(data.len()).expect("what came");
                        }
                        tell.send(length).await.expect("the test waits");
                        sending.send_data(Bytes::new(), true).expect("an open stream");
                    });
                }
            }
        })
        .await;
        let proxy = Proxy::of(&format!("upstream: {{ servers: http://{address}, protocol: h2 }}"));
        let mut client = connect(proxy.address).await;
        let (mut send, body) = piecewise();
        let answer = client.send_request(request("POST", "/", body)).await.expect("an answer before the body");
        let mut answer = answer.into_body();
        assert_eq!(piece(&mut answer).await.as_deref(), Some(&b"early"[..]));
        for _ in 0..64 {
            send.send_data(vec![7; 64 << 10].into()).await.expect("somebody reads");
        }
        drop(send);
        assert_eq!(told.recv().await, Some(64 * (64 << 10)));
        assert!(
            answer.frame().await.is_none_or(|frame| frame.is_ok_and(|f| f.data_ref().is_some_and(Bytes::is_empty)))
        );
    });
}

#[test]
fn a_connection_that_nobody_uses_is_closed_in_order() {
    within_patience(async {
        let (tell, mut told) = mpsc::channel(10);
        let (address, _) = scripted(move |_, mut connection| {
            let tell = tell.clone();
            async move {
                let ended = loop {
                    match connection.accept().await {
                        Some(Ok((_, mut respond))) => fine(&mut respond),
                        Some(Err(error)) => break Err(error.to_string()),
                        None => break Ok(()),
                    }
                };
                tell.send(ended).await.expect("the test waits");
            }
        })
        .await;
        let yaml = "timeouts: { upstream_idle: 100ms }";
        let proxy = Proxy::of(&format!("upstream: {{ servers: http://{address}, protocol: h2 }}\n{yaml}"));
        let at = proxy.address;
        assert_eq!(blocking(move || get(at, "/").status()).await, 200);
        assert_eq!(told.recv().await, Some(Ok(())), "while authtap goes on");
    });
}

/// An application that takes WebSockets by extended CONNECT and says their messages back, but refuses
/// those of `/no`.
async fn websockets() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut builder = h2::server::Builder::new();
                let mut connection =
                    builder.enable_connect_protocol().handshake::<_, Bytes>(stream).await.expect("HTTP/2");
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let (parts, recv) = request.into_parts();
                    assert_eq!(parts.method, http::Method::CONNECT);
                    let protocol = parts.extensions.get::<h2::ext::Protocol>().expect(":protocol");
                    assert_eq!((protocol.as_str(), parts.uri.scheme_str()), ("websocket", Some("http")));
                    for gone in ["upgrade", "connection", "sec-websocket-key", "host"] {
                        assert!(!parts.headers.contains_key(gone), "{gone}");
                    }
                    if parts.uri.path() == "/no" {
                        let refused = Response::builder().status(403).body(()).expect("an answer");
                        respond.send_response(refused, true).expect("an open stream");
                        continue;
                    }
                    let send = respond.send_response(Response::new(()), false).expect("an open stream");
                    tokio::spawn(async move {
                        let stream = Duplex::new(send, recv);
                        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
                        while let Some(Ok(message)) = socket.next().await {
                            if !message.is_close() {
                                socket.send(message).await.expect("somebody reads");
                            }
                        }
                    });
                }
            });
        }
    });
    address
}

/// Says messages of every size and hears them again, then closes in order.
async fn talks<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>) {
    for size in [0, 1, 125, 126, 65_535, 65_536, 2 << 20] {
        let sent = Message::binary((0..size).map(|n| (n % 251) as u8).collect::<Vec<u8>>());
        socket.send(sent.clone()).await.expect("sent");
        let back = socket.next().await.expect("an answer").expect("a message");
        assert!(back == sent, "{size} bytes came back changed");
    }
    socket.close(None).await.expect("a close");
    while let Some(last) = socket.next().await {
        assert!(last.expect("a message").is_close());
    }
}

#[test]
fn a_websocket_reaches_an_application_of_http2_by_extended_connect_from_clients_of_both_protocols() {
    within_patience(async {
        let application = websockets().await;
        let proxy = Proxy::of(&format!("upstream: {{ servers: http://{application}, protocol: h2 }}"));
        let (at, admin) = (proxy.address, proxy.admin);
        // Checks the answer to its key (RFC 6455 section 4.1).
        let stream = TcpStream::connect(at).await.expect("a connection");
        let (socket, answer) =
            tokio_tungstenite::client_async(format!("ws://{at}/ws"), stream).await.expect("a handshake");
        assert_eq!(answer.status(), 101);
        talks(socket).await;

        let mut client = dial(at).await;
        while !client.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let websocket = |target| {
            let mut request = head("CONNECT", target, &[("sec-websocket-version", "13")]);
            request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
            request
        };
        let (asked, send) = client.send_request(websocket("/ws"), false).expect("sent");
        let answer = asked.await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let stream = Duplex::new(send, answer.into_body());
        talks(WebSocketStream::from_raw_socket(stream, Role::Client, None).await).await;

        let (asked, _send) = client.send_request(websocket("/no"), false).expect("sent");
        assert_eq!(asked.await.expect("an answer").status(), 403);
        let asked = "GET /no HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(blocking(move || ask(at, asked).status()).await, 403);
        let asked =
            "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 4\r\n\r\nbody";
        assert_eq!(blocking(move || ask(at, asked).status()).await, 400, "what would be the body?");
        blocking(move || {
            eventually("the tunnels are over", || get(admin, "/metrics").text().contains("authtap_tunnels_open 0"));
        })
        .await;
    });
}
