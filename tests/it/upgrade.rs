//! WebSocket through authtap: the handshake, frames of every size both ways, the close.

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};

use crate::harness::{Client, Proxy, eventually, get};

/// An application that says every message back until the client closes; it tells how it ended.
async fn echo(listener: TcpListener) -> Option<Option<CloseFrame>> {
    let (stream, _) = listener.accept().await.ok()?;
    let mut socket = tokio_tungstenite::accept_async(stream).await.ok()?;
    while let Some(message) = socket.next().await {
        match message.ok()? {
            Message::Close(frame) => {
                // Answers the close, and so ends the connection.
                while socket.next().await.is_some() {}
                return Some(frame);
            }
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await.ok()?,
            _ => {}
        }
    }
    None
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

#[test]
fn a_websocket_echoes_frames_of_every_size_and_closes_in_order() {
    let runtime = runtime();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let upstream = listener.local_addr().expect("its address");
        let application = tokio::spawn(echo(listener));
        let proxy = Proxy::before(
            upstream,
            "routes: [ { id: ws, match: { path: /ws }, emit: data.viewed, when: { status: 101 } } ]",
        );

        let stream = TcpStream::connect(proxy.address).await.expect("a connection");
        let config = WebSocketConfig::default().max_frame_size(Some(64 << 20));
        let url = format!("ws://{}/ws?room=1", proxy.address);
        let (mut socket, answer) =
            tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await.expect("a handshake");
        assert_eq!(answer.status(), 101);
        assert!(get(proxy.admin, "/metrics").text().contains("authtap_tunnels_open 1"), "the tunnel is counted");

        for size in [0, 1, 125, 126, 65_535, 65_536, 5 << 20] {
            let sent = Message::binary((0..size).map(|i| (i % 251) as u8).collect::<Vec<u8>>());
            socket.send(sent.clone()).await.expect("sent");
            let back = socket.next().await.expect("an answer").expect("a message");
            assert!(back == sent, "{size} bytes came back changed");
        }
        for n in 0..500 {
            socket.feed(Message::text(format!("message {n}"))).await.expect("sent");
        }
        socket.flush().await.expect("sent");
        for n in 0..500 {
            let back = socket.next().await.expect("an answer").expect("a message");
            assert_eq!(back, Message::text(format!("message {n}")));
        }

        let farewell = CloseFrame { code: CloseCode::Library(4001), reason: "done here".into() };
        socket.close(Some(farewell.clone())).await.expect("a close");
        while let Some(Ok(_)) = socket.next().await {}
        drop(socket);
        assert_eq!(application.await.expect("no panic"), Some(Some(farewell)));
        eventually("the tunnel is over", || get(proxy.admin, "/metrics").text().contains("authtap_tunnels_open 0"));

        let events = tokio::task::spawn_blocking(|| proxy.stop()).await.expect("no panic");
        assert_eq!(events.len(), 1, "{events:#?}");
        assert_eq!(events[0].pointer("/metadata/request/status").and_then(|s| s.as_u64()), Some(101));
    });
}

#[test]
fn an_upgrade_that_the_application_declines_is_an_ordinary_answer() {
    let origin = crate::harness::Origin::answering(|_| {
        crate::harness::answer("426 Upgrade Required", &["Upgrade: websocket"], "no")
    });
    let proxy = Proxy::before(origin.address, "");
    let mut client = Client::connect(proxy.address);
    let request = "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n";
    let answer = client.send(request).answer("GET");
    assert_eq!((answer.status(), answer.text().as_str()), (426, "no"));
    assert_eq!(answer.field("upgrade").as_deref(), Some("websocket"));
    let [asked] = &origin.requests()[..] else { panic!("one request") };
    assert_eq!(asked.field("upgrade").as_deref(), Some("other"));
    // The connection serves on.
    assert_eq!(client.send(request).answer("GET").status(), 426);
}

#[test]
fn an_application_that_switches_unasked_is_not_believed() {
    let origin = crate::harness::Origin::raw(|conn| {
        conn.request();
        conn.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: smuggle\r\n\r\nHTTP/1.1 200 OK\r\n",
        );
        conn.await_end();
    });
    let proxy = Proxy::before(origin.address, "");
    assert_eq!(get(proxy.address, "/").status(), 502);
}
