//! Clients of HTTP/2: interim answers, heads that are too large, answers before the request's end,
//! windows, resets, tunnels, the orderly end.

use std::process::Command;

use bytes::Bytes;
use h2::Reason;
use h2::client::SendRequest;
use h2::ext::Protocol;
use tokio::sync::mpsc;

use crate::harness::binary::Running;
use crate::harness::h2::{dial, head, interim, within_patience};
use crate::harness::origin::Gate;
use crate::harness::{Client, Origin, Proxy, answer, eventually, get};

/// The whole body of an answer.
async fn text(answer: http::Response<h2::RecvStream>) -> String {
    let mut body = answer.into_body();
    let mut taken = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.expect("whole");
        body.flow_control().release_capacity(data.len()).expect("what came");
        taken.extend_from_slice(&data);
    }
    String::from_utf8(taken).expect("text")
}

fn metric(proxy: &Proxy, line: &str) -> bool {
    get(proxy.admin, "/metrics").text().lines().any(|l| l == line)
}

#[test]
fn hints_of_the_application_arrive_before_its_answer_in_their_order() {
    within_patience(async {
        let gate = Gate::default();
        let held = gate.clone();
        let origin = Origin::raw(move |conn| {
            conn.request();
            conn.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x-gone\r\nX-Gone: 1\r\n\r\n");
            conn.send(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n");
            held.pass();
            conn.send(&answer("200 OK", &["Link: </c.css>"], "said"));
            conn.await_end();
        });
        let proxy = Proxy::before(origin.address, "");
        let mut client = dial(proxy.address).await;
        let (mut asked, _) = client.send_request(head("GET", "/", &[]), true).expect("sent");
        for (status, link) in [(103, Some("</a.css>")), (102, None), (103, Some("</b.css>"))] {
            let hint = interim(&mut asked).await.expect("an interim answer");
            assert_eq!(hint.status(), status);
            assert_eq!(hint.headers().get("link").map(|link| link.to_str().expect("text")), link);
            assert!(!hint.headers().contains_key("x-gone"));
        }
        gate.open();
        assert!(interim(&mut asked).await.is_none());
        let answered = asked.await.expect("an answer");
        assert_eq!((answered.status().as_u16(), &answered.headers()["link"]), (200, &"</c.css>".parse().expect("one")));
        assert_eq!(text(answered).await, "said");
    });
}

#[test]
fn a_flood_of_hints_is_cut_and_the_answer_comes_all_the_same() {
    within_patience(async {
        let origin = Origin::raw(|conn| {
            conn.request();
            for _ in 0..500 {
                conn.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
            }
            conn.send(&answer("200 OK", &[], "said"));
            conn.await_end();
        });
        let proxy = Proxy::before(origin.address, "");
        let mut client = dial(proxy.address).await;
        let (mut asked, _) = client.send_request(head("GET", "/", &[]), true).expect("sent");
        let mut hints = 0;
        while interim(&mut asked).await.is_some() {
            hints += 1;
        }
        assert_eq!(hints, 16);
        assert_eq!(text(asked.await.expect("an answer")).await, "said");
    });
}

const UPLOAD: &[(&str, &str)] = &[("expect", "100-continue"), ("content-length", "4")];

/// Waits for 100, then sends what was announced.
async fn goes_on(client: &mut SendRequest<Bytes>) -> (http::Response<()>, http::Response<h2::RecvStream>) {
    let (mut asked, mut body) = client.send_request(head("POST", "/", UPLOAD), false).expect("sent");
    let told = interim(&mut asked).await.expect("an interim answer");
    assert_eq!(told.status(), 100);
    body.send_data(Bytes::from_static(b"body"), true).expect("sent");
    (told, asked.await.expect("an answer"))
}

#[test]
fn who_asks_whether_its_body_may_come_hears_the_applications_own_word() {
    within_patience(async {
        let origin = Origin::raw(|conn| {
            while let Some(mut request) = conn.head() {
                assert_eq!(request.field("expect").as_deref(), Some("100-continue"));
                conn.send(b"HTTP/1.1 100 Continue\r\nX-From: application\r\n\r\n");
                conn.body(&mut request);
                conn.send(&answer("200 OK", &[], request.body));
            }
        });
        let proxy = Proxy::before(origin.address, "");
        let mut client = dial(proxy.address).await;
        let (told, answered) = goes_on(&mut client).await;
        assert_eq!(told.headers()["x-from"], "application");
        assert_eq!(text(answered).await, "body");
    });
}

#[test]
fn an_application_that_says_nothing_is_spoken_for_and_one_that_refuses_is_heard() {
    within_patience(async {
        let origin = Origin::raw(|conn| {
            while let Some(mut request) = conn.head() {
                if request.target() == "/no" {
                    conn.send(&answer("417 Expectation Failed", &["Connection: close"], "no"));
                    return;
                }
                conn.body(&mut request);
                conn.send(&answer("200 OK", &[], request.body));
            }
        });
        let proxy = Proxy::before(origin.address, "");
        let mut client = dial(proxy.address).await;
        let (told, answered) = goes_on(&mut client).await;
        assert!(told.headers().is_empty());
        assert_eq!(text(answered).await, "body");

        let (mut asked, _body) = client.send_request(head("POST", "/no", UPLOAD), false).expect("sent");
        assert!(interim(&mut asked).await.is_none());
        assert_eq!(asked.await.expect("an answer").status(), 417);
    });
}

#[test]
fn a_head_that_is_too_large_is_answered_431_and_counted() {
    within_patience(async {
        let origin = Origin::answering(|_| answer("200 OK", &[], "said"));
        let proxy = Proxy::before(origin.address, "limits: { header_bytes: 8KiB, headers: 30 }");
        let mut client = dial(proxy.address).await;
        let mut large = head("GET", "/", &[]);
        large.headers_mut().insert("x-large", "x".repeat(9 << 10).parse().expect("a value"));
        let mut many = head("GET", "/", &[]);
        for n in 0..40 {
            many.headers_mut().append("x-many", n.to_string().parse().expect("a value"));
        }
        for refused in [large, many] {
            let (asked, _) = client.send_request(refused, true).expect("sent");
            let answered = asked.await.expect("an answer");
            assert_eq!(
                (answered.status().as_u16(), &answered.headers()["server"]),
                (431, &"authtap".parse().expect(""))
            );
            assert!(!text(answered).await.is_empty());
        }
        assert!(metric(&proxy, "authtap_requests_refused_total 2"));
        // Beyond twice the size the answer is `h2`'s; the connection serves on.
        let mut huge = head("GET", "/", &[]);
        huge.headers_mut().insert("x-huge", "x".repeat(20 << 10).parse().expect("a value"));
        let (asked, _) = client.send_request(huge, true).expect("sent");
        assert_eq!(asked.await.expect("an answer").status(), 431);
        let (asked, _) = client.send_request(head("GET", "/", &[]), true).expect("sent");
        assert_eq!(asked.await.expect("an answer").status(), 200);
        assert_eq!(origin.requests().len(), 1);
    });
}

#[test]
fn an_answer_of_our_own_to_head_has_a_length_and_no_body() {
    within_patience(async {
        let proxy = Proxy::before(crate::harness::ports::nobody(), "");
        let mut client = dial(proxy.address).await;
        let (asked, _) = client.send_request(head("GET", "/", &[]), true).expect("sent");
        let got = asked.await.expect("an answer");
        let length = got.headers()["content-length"].clone();
        assert_eq!(text(got).await.len().to_string(), length.to_str().expect("a number"));
        let (asked, _) = client.send_request(head("HEAD", "/", &[]), true).expect("sent");
        let headed = asked.await.expect("an answer");
        assert_eq!((headed.status().as_u16(), headed.headers()["content-length"].clone()), (502, length));
        assert!(headed.body().is_end_stream());
    });
}

#[test]
fn an_early_answer_is_whole_and_what_is_left_of_the_body_is_refused_without_an_error() {
    within_patience(async {
        let origin = Origin::raw(|conn| {
            conn.head();
            conn.send(&answer("403 Forbidden", &["Connection: close"], "no"));
        });
        let proxy = Proxy::before(origin.address, "");
        let mut client = dial(proxy.address).await;
        let (asked, mut body) = client.send_request(head("POST", "/", &[]), false).expect("sent");
        body.send_data(Bytes::from_static(b"some"), false).expect("sent");
        let answered = asked.await.expect("an answer");
        assert_eq!(answered.status(), 403);
        assert_eq!(text(answered).await, "no");
        let reason = std::future::poll_fn(|cx| body.poll_reset(cx)).await.expect("a reset");
        assert_eq!(reason, Reason::NO_ERROR);
    });
}

#[test]
fn an_upload_that_nobody_reads_is_held_up_by_its_window() {
    within_patience(async {
        let gate = Gate::default();
        let held = gate.clone();
        let origin = Origin::raw(move |conn| {
            let Some(mut request) = conn.head() else { return };
            held.pass();
            conn.body(&mut request);
            conn.send(&answer("200 OK", &[], request.body.len().to_string()));
            conn.await_end();
        });
        let proxy = Proxy::before(origin.address, "");
        let mut client = dial(proxy.address).await;
        let (asked, mut body) =
            client.send_request(head("POST", "/", &[("content-length", "33554432")]), false).expect("sent");
        const ALL: usize = 32 << 20;
        let mut sent = 0;
        let mut opened = false;
        while sent < ALL {
            body.reserve_capacity(64 << 10);
            let room = std::future::poll_fn(|cx| body.poll_capacity(cx));
            match tokio::time::timeout(std::time::Duration::from_millis(500), room).await {
                Ok(room) => {
                    let part = room.expect("it streams").expect("no reset").min(ALL - sent);
                    body.send_data(vec![7; part].into(), false).expect("sent");
                    sent += part;
                }
                Err(_) if !opened => {
                    // Sockets hold some megabytes; all of it would be more.
                    assert!(sent < ALL * 3 / 4, "{sent} bytes were taken though nobody reads them");
                    opened = true;
                    gate.open();
                }
                Err(_) => {}
            }
        }
        body.send_data(Bytes::new(), true).expect("sent");
        assert!(opened);
        assert_eq!(text(asked.await.expect("an answer")).await, ALL.to_string());
    });
}

#[test]
fn a_body_that_its_client_resets_never_ends_as_a_whole_one_whatever_the_reason() {
    for reason in [Reason::NO_ERROR, Reason::CANCEL] {
        within_patience(async {
            let (tell, mut told) = mpsc::channel(10);
            let origin = Origin::raw(move |conn| {
                let Some(mut request) = conn.head() else { return };
                conn.body(&mut request);
                tell.blocking_send(request).expect("the test waits");
            });
            let proxy = Proxy::before(origin.address, "");
            let mut client = dial(proxy.address).await;
            let (_asked, mut body) = client.send_request(head("POST", "/", &[]), false).expect("sent");
            body.send_data(Bytes::from_static(b"half of it"), false).expect("sent");
            let waited = tokio::task::spawn_blocking(move || {
                origin.await_heads(1);
                origin
            });
            let _origin = waited.await.expect("no panic");
            body.send_reset(reason);
            let request = told.recv().await.expect("a request");
            assert!(!request.whole, "{reason:?}: {request:?}");
        });
    }
}

#[test]
fn the_application_learns_that_a_client_has_left() {
    within_patience(async {
        let (tell, mut told) = mpsc::channel(10);
        let origin = Origin::raw(move |conn| {
            conn.request();
            tell.blocking_send(conn.await_end()).expect("the test waits");
        });
        let proxy = Proxy::before(origin.address, "");
        let mut client = dial(proxy.address).await;
        // One stream, by its reset.
        let (asked, mut stream) = client.send_request(head("GET", "/", &[]), true).expect("sent");
        let origin = tokio::task::spawn_blocking(move || {
            origin.await_heads(1);
            origin
        });
        let origin = origin.await.expect("no panic");
        stream.send_reset(Reason::CANCEL);
        assert_eq!(told.recv().await, Some(true));
        drop((asked, stream));
        // All of a connection, by its end.
        let (asked, stream) = client.send_request(head("GET", "/", &[]), true).expect("sent");
        tokio::task::spawn_blocking(move || origin.await_heads(2)).await.expect("no panic");
        drop((asked, stream, client));
        assert_eq!(told.recv().await, Some(true));
    });
}

fn websocket() -> http::Request<()> {
    let mut request = head("CONNECT", "/ws", &[("sec-websocket-version", "13")]);
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    request
}

#[test]
fn a_websocket_over_http2_is_a_tunnel_both_ways_until_both_have_ended() {
    within_patience(async {
        let origin = Origin::raw(|conn| {
            let request = conn.request().expect("a handshake");
            assert_eq!(request.field("upgrade").as_deref(), Some("websocket"));
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
            conn.send(head.as_bytes());
            let mut some = vec![0; 64 << 10];
            loop {
                let n = conn.some(&mut some);
                if n == 0 || !conn.send(&some[..n]) {
                    return;
                }
            }
        });
        let proxy = Proxy::before(origin.address, "");
        let mut client = dial(proxy.address).await;
        // The settings that allow it may still be on their way.
        while !client.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let (asked, mut send) = client.send_request(websocket(), false).expect("sent");
        let answered = asked.await.expect("an answer");
        assert_eq!(answered.status(), 200);
        for gone in ["upgrade", "connection", "sec-websocket-accept"] {
            assert!(!answered.headers().contains_key(gone), "{gone}");
        }
        assert!(metric(&proxy, "authtap_tunnels_open 1"));
        let mut recv = answered.into_body();
        // More than any window, so that both directions wait for theirs.
        const ALL: usize = 8 << 20;
        let sending = async {
            let mut sent = 0;
            while sent < ALL {
                send.reserve_capacity(64 << 10);
                let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.expect("open").expect("no reset");
                let part = room.min(ALL - sent);
                send.send_data((sent..sent + part).map(|n| (n % 251) as u8).collect::<Vec<_>>().into(), false)
                    .expect("sent");
                sent += part;
            }
            send.send_data(Bytes::new(), true).expect("sent");
        };
        let reading = async {
            let mut taken = 0;
            while let Some(data) = recv.data().await {
                let data = data.expect("no reset");
                assert!(data.iter().zip(taken..).all(|(byte, n)| *byte == (n % 251) as u8), "changed after {taken}");
                taken += data.len();
                recv.flow_control().release_capacity(data.len()).expect("what came");
            }
            taken
        };
        let ((), taken) = tokio::join!(sending, reading);
        assert_eq!(taken, ALL);
        tokio::task::spawn_blocking(move || {
            eventually("the tunnel is over", || metric(&proxy, "authtap_tunnels_open 0"))
        })
        .await
        .expect("no panic");
    });
}

#[test]
fn a_websocket_that_the_application_answers_without_switching_is_no_tunnel() {
    within_patience(async {
        let origin = Origin::answering(|request| match request.target().as_str() {
            "/ws" => answer("200 OK", &[], "a page"),
            _ => answer("403 Forbidden", &[], "no"),
        });
        let proxy = Proxy::before(origin.address, "");
        let mut client = dial(proxy.address).await;
        while !client.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let (asked, _send) = client.send_request(websocket(), false).expect("sent");
        assert_eq!(asked.await.expect("an answer").status(), 502, "success would mean that it is open");
        let mut refused = websocket();
        *refused.uri_mut() = "http://app.example.test/no".parse().expect("a URI");
        refused.headers_mut().insert("content-length", "5".parse().expect("a value"));
        let (asked, _send) = client.send_request(refused, false).expect("sent");
        let answered = asked.await.expect("an answer");
        assert_eq!(answered.status(), 403);
        assert_eq!(text(answered).await, "no");
        assert_eq!(origin.requests()[1].field("content-length"), None, "what would follow is no body");
    });
}

#[test]
fn at_the_end_streams_in_flight_end_and_none_begins() {
    within_patience(async {
        let gate = Gate::default();
        let held = gate.clone();
        let origin = Origin::raw(move |conn| {
            conn.request();
            held.pass();
            conn.send(&answer("200 OK", &[], "said"));
        });
        let mut proxy = Proxy::before(origin.address, "timeouts: { drain: 20s }");
        let at = proxy.address;
        let mut client = dial(at).await;
        let (asked, _) = client.send_request(head("GET", "/", &[]), true).expect("sent");
        let waited = tokio::task::spawn_blocking(move || origin.await_heads(1));
        waited.await.expect("no panic");
        proxy.tell_to_stop();
        let refused = move || eventually("new connections are refused", || Client::try_connect(at).is_err());
        tokio::task::spawn_blocking(refused).await.expect("no panic");
        // GOAWAY has arrived when nothing more can be asked for.
        while std::future::poll_fn(|cx| client.poll_ready(cx)).await.is_ok() {
            tokio::task::yield_now().await;
        }
        gate.open();
        assert_eq!(text(asked.await.expect("an answer")).await, "said");
        tokio::task::spawn_blocking(move || proxy.await_end()).await.expect("no panic");
    });
}

#[test]
fn requests_of_one_client_take_no_more_descriptors_than_there_are_and_health_stays_green() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::raw(move |conn| {
        conn.request();
        held.pass();
        conn.send(&answer("200 OK", &["Connection: close"], "said"));
    });
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("a.yaml"), format!("version: 1\nupstream: http://{}\n", origin.address))
        .expect("a file");
    // 400: 200 are kept back, 100 are for clients, and 100 for the application.
    let program = ["-c", "ulimit -n 400 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_authtap"), "run"];
    let arguments = ["--config", "a.yaml", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", "data"];
    let running = Running::spawn(Command::new("sh").args(program).args(arguments).current_dir(folder.path()));
    let (address, admin) = (running.await_address("listening"), running.await_address("admin listening"));
    within_patience(async {
        let mut client = dial(address).await;
        let asked: Vec<_> = (0..128)
            .map(|_| {
                let (asked, _) = client.send_request(head("GET", "/", &[]), true).expect("sent");
                tokio::spawn(async move { asked.await.expect("an answer").status().as_u16() })
            })
            .collect();
        let waited = tokio::task::spawn_blocking(move || {
            let full = "authtap_upstream_errors_total{reason=\"full\"} 28";
            eventually("28 find no place", || get(admin, "/metrics").text().contains(full));
            origin.await_heads(100);
            assert_eq!(get(admin, "/healthz").status(), 200);
        });
        waited.await.expect("no panic");
        gate.open();
        let mut statuses = Vec::new();
        for one in asked {
            statuses.push(one.await.expect("no panic"));
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [vec![200; 100], vec![503; 28]].concat());
        // The places are given back.
        let (asked, _) = client.send_request(head("GET", "/", &[]), true).expect("sent");
        assert_eq!(asked.await.expect("an answer").status(), 200);
    });
}
