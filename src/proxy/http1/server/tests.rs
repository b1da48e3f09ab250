//! Connections of which everything has come at once, and bodies that outlive their request.

use std::pin::Pin;

use http_body::Body as _;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::*;
use crate::proxy::idle::{IdleStream, IdleTimes};
use crate::proxy::proxy_protocol::Prefixed;
use crate::proxy::socket::Socket;
use crate::proxy::stream::Watched;

/// A connection on which these bytes have come, and its other end.
fn connected(bytes: &[u8]) -> (Rc<Wire>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let stream = IdleStream::new(Watched::new(Socket::Unix(ours)), IdleTimes::default());
    (Wire::new(ClientStream::Plain(Prefixed::new(Bytes::new(), stream)), BytesMut::from(bytes)), theirs)
}

/// The body of the request that these bytes are.
pub fn body_of(bytes: &[u8]) -> Body {
    let (wire, _) = connected(bytes);
    begin(&wire)
}

/// Begins the request whose head has come.
fn begin(wire: &Rc<Wire>) -> Body {
    wire.begin(head(wire).framing)
}

fn head(wire: &Wire) -> RequestHead {
    let cx = &mut Context::from_waker(Waker::noop());
    let allowed = Allowed { head: head::Allowed { headers: 100, bytes: 8 << 10 }, within: Duration::ZERO };
    match wire.poll_next(cx, &allowed, &mut None, |_| Poll::Pending) {
        Poll::Ready(Ok(Next::Request(head))) => head,
        _ => panic!("a whole head has come"),
    }
}

fn piece(body: &mut Body) -> Option<Bytes> {
    let cx = &mut Context::from_waker(Waker::noop());
    match Pin::new(body).poll_frame(cx) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
        Poll::Ready(None) => None,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_body_that_outlives_its_request_neither_reads_the_next_ones_nor_lets_go_of_it() {
    let one = "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n";
    let (wire, _peer) = connected(format!("{one}abc{one}def").as_bytes());
    let mut first = begin(&wire);
    assert_eq!(piece(&mut first).as_deref(), Some(&b"abc"[..]));
    // Its last piece is still being written to the application when the next request begins.
    let mut second = begin(&wire);
    assert!(first.is_end_stream());
    assert_eq!(piece(&mut first), None);
    drop(first);
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(wire.poll_let_go(cx).is_pending(), "the second body is held");
    assert_eq!(piece(&mut second).as_deref(), Some(&b"def"[..]));
    drop(second);
    assert!(wire.poll_let_go(cx).is_ready());
}

#[tokio::test]
async fn a_stop_ends_a_connection_on_which_nothing_has_come_though_its_first_head_is_awaited() {
    let (wire, _peer) = connected(b"");
    let cx = &mut Context::from_waker(Waker::noop());
    let allowed = Allowed { head: head::Allowed { headers: 100, bytes: 8 << 10 }, within: Duration::from_secs(9) };
    let mut since = Some(Instant::now());
    assert!(wire.poll_next(cx, &allowed, &mut since, |_| Poll::Pending).is_pending());
    let next = wire.poll_next(cx, &allowed, &mut since, |_| Poll::Ready(()));
    assert!(matches!(next, Poll::Ready(Ok(Next::End))));
}

#[tokio::test]
async fn whoever_may_still_speak_does_not_keep_a_connection_open() {
    let (wire, mut peer) = connected(b"GET / HTTP/1.1\r\n\r\n");
    drop(begin(&wire));
    let passage = crate::proxy::passage::Passage::http1(&wire, None);
    drop(wire);
    assert_eq!(tokio::io::AsyncReadExt::read(&mut peer, &mut [0; 1]).await.unwrap(), 0, "it is closed");
    passage.say(StatusCode::EARLY_HINTS, &Headers::new());
}

#[tokio::test(start_paused = true)]
async fn what_is_still_being_passed_on_of_a_body_is_not_read_by_anybody_else() {
    let upload: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    for says in ["", "Connection: close\r\n"] {
        let head = format!("PUT / HTTP/1.1\r\n{says}Content-Length: {}\r\n\r\n", upload.len());
        let (wire, mut peer) = connected(head.as_bytes());
        let allowed = Allowed { head: head::Allowed { headers: 100, bytes: 8 << 10 }, within: Duration::from_secs(9) };
        let (_stop, stop) = watch::channel(false);
        let (passed_on, arrived) = oneshot::channel();
        let (goes_on, go_on) = oneshot::channel::<()>();
        let once = RefCell::new(Some((passed_on, go_on)));
        let tasks = tokio::task::LocalSet::new();
        let answer = async |request: &mut Request<RequestBody>| {
            let (passed_on, go_on) = once.take().expect("one request");
            let mut body = std::mem::replace(request.body_mut(), RequestBody::empty());
            // It is answered at once, and read by the application much later.
            tasks.spawn_local(async move {
                go_on.await.unwrap();
                let mut all = Vec::new();
                while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                    all.extend(frame.unwrap().into_data().unwrap());
                }
                passed_on.send(all).unwrap();
            });
            Response::new(ResponseBody::from(Bytes::from_static(b"early")))
        };
        let serving = serve(wire, allowed, Arc::default(), stop, answer);
        let asking = async {
            let (half, rest) = upload.split_at(upload.len() / 2);
            peer.write_all(half).await.unwrap();
            tokio::time::sleep(PATIENCE * 5).await;
            goes_on.send(()).unwrap();
            peer.write_all(rest).await.unwrap();
            let all = arrived.await.unwrap();
            assert!(all == upload, "{says:?}: {} bytes of {}, or others", all.len(), upload.len());
            drop(peer);
        };
        // It leaves without having read its answer, so the connection may end as a reset one.
        let (_, ()) = tasks.run_until(async { tokio::join!(serving, asking) }).await;
    }
}
