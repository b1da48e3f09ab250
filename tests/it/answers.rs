//! Answers on their way to the client: what comes before them, and clients that do not take them.

use crate::harness::h2::within_patience;
use crate::harness::{Client, Gate, Origin, Proxy, answer};

#[test]
fn early_hints_reach_a_client_of_http11_at_once_and_never_one_of_http10() {
    let gate = Gate::default();
    let passing = gate.clone();
    let origin = Origin::raw(move |conn| {
        while conn.request().is_some() {
            conn.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: close\r\n\r\n");
            passing.pass();
            if !conn.send(&answer("200 OK", &[], "final")) {
                return;
            }
        }
    });
    let proxy = Proxy::before(origin.address, "");
    let mut client = Client::connect(proxy.address);
    let hint = client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").head();
    assert_eq!(hint.start(), "HTTP/1.1 103 Early Hints");
    assert_eq!(hint.fields, [(b"Link".to_vec(), b"</a.css>".to_vec())]);
    gate.open();
    assert_eq!(client.answer("GET").text(), "final");
    // Pipelined: each hint before its own answer.
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    for _ in 0..2 {
        assert_eq!(client.head().status(), 103);
        assert_eq!(client.answer("GET").text(), "final");
    }
    let old = Client::connect(proxy.address).send("GET / HTTP/1.0\r\n\r\n").answer("GET");
    assert_eq!((old.status(), old.text()), (200, "final".to_owned()));
}

#[test]
fn a_stream_whose_window_stays_closed_is_reset_and_its_connection_serves_on() {
    let origin = Origin::raw(|conn| {
        let Some(request) = conn.request() else { return };
        if request.target() == "/" {
            conn.send(&answer("204 No Content", &[], ""));
            return;
        }
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        while conn.send(&[b'x'; 64 << 10]) {}
    });
    let proxy = Proxy::before(origin.address, "limits: { keep_alive_idle: 1s }");
    within_patience(async {
        let stream = tokio::net::TcpStream::connect(proxy.address).await.expect("a connection");
        let (client, connection) = h2::client::Builder::new()
            .initial_window_size(0)
            .handshake::<_, bytes::Bytes>(stream)
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        let mut client = client.ready().await.expect("room");
        let ask = |target| http::Request::get(format!("http://a{target}")).body(()).expect("a request");
        let (large, _) = client.send_request(ask("/large"), true).expect("sent");
        let mut body = large.await.expect("a head").into_body();
        let error = body.data().await.expect("an end").expect_err("it is reset");
        assert!(error.is_reset() && error.is_remote(), "{error}");
        let (small, _) = client.send_request(ask("/"), true).expect("sent");
        assert_eq!(small.await.expect("a head").status(), 204);
    });
}
