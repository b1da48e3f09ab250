//! Requests to an application that takes nothing.

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
