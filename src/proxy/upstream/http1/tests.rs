//! Requests to an application that takes nothing, or says too much before its answer.

use tokio::net::UnixStream;

use super::*;
use crate::descriptors::Outward;
use crate::proxy::http1::server;
use crate::proxy::limits::Limits;
use crate::proxy::socket::Socket;
use crate::proxy::upstream::wire::Wire;

/// A request's body out of these bytes, which have all come.
fn body(chunks: &str) -> RequestBody {
    let bytes = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    let body = server::tests::body_of(bytes.as_bytes());
    let mut body = RequestBody::incoming(Inbound::Http1(body));
    body.pass_on(None, None, &Limits::default());
    body
}

#[tokio::test]
async fn a_body_of_which_nothing_was_sent_is_whole_when_it_is_sent_again() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    // The application has stopped reading long ago.
    while ours.try_write(&[0; 64 << 10]).is_ok() {}
    let outgoing = Outward::at_most(1).try_enter().unwrap();
    let mut wire = Wire::Plain(Socket::Unix(ours)).counted(outgoing);
    let (mut writer, mut encoder, mut ended, mut sent) = (Writer::default(), Encoder::Chunked, false, false);
    writer.head().extend_from_slice(b"POST / HTTP/1.1\r\n\r\n");
    let mut body = body("3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n");
    let cx = &mut Context::from_waker(std::task::Waker::noop());
    for _ in 0..3 {
        let polled = poll_send(&mut writer, &mut wire, cx, &mut body, &mut encoder, &mut ended, &mut sent);
        assert!(polled.is_pending());
    }
    drop(theirs);
    let failed =
        poll_fn(|cx| poll_send(&mut writer, &mut wire, cx, &mut body, &mut encoder, &mut ended, &mut sent)).await;
    assert!(matches!(failed, Err(Fault::Io(_))) && !sent);
    body.rewind();
    let mut all = Vec::new();
    while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(cx) {
        all.extend(frame.unwrap().into_data().unwrap());
    }
    assert_eq!(String::from_utf8_lossy(&all), "abcdef");
}

#[tokio::test]
async fn of_hints_without_pause_so_many_are_read_before_others_have_their_turn() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.writable().await.unwrap();
    let said = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(AT_ONCE * 3) + "HTTP/1.1 204 No Content\r\n\r\n";
    assert_eq!(theirs.try_write(said.as_bytes()).unwrap(), said.len());
    let outgoing = Outward::at_most(1).try_enter().unwrap();
    let http1 = Box::new(Http1::over(Wire::Plain(Socket::Unix(ours)).counted(outgoing)));
    let mut request = Request::from_parts(Default::default(), RequestBody::empty());
    let (passage, timeouts) = (Passage::closed(None), Timeouts::default());
    let mut asking = std::pin::pin!(http1.ask(&mut request, &passage, &timeouts, 16));
    let mut turns = 0;
    let answered = poll_fn(|cx| {
        turns += 1;
        asking.as_mut().poll(cx)
    });
    let Ok(answer) = answered.await else { panic!("no answer") };
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert!(turns > 3, "all in {turns} turns");
}
