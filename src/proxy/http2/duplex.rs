//! One stream of HTTP/2 as a tunnel: what extended CONNECT opens (RFC 8441).
//!
//! The invariant: what is written waits for the windows, and room is given back only for what was
//! read, so that a tunnel holds up whoever sends when whoever reads is slow.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::sending::PIECE;

/// Both directions of a stream. Dropped, it ends the one that sends in order, because a reset would take
/// what was written before with it. A reset that comes (CANCEL, what a reset is to TCP, RFC 8441 section 5)
/// reads as an end, as after a closing handshake it often is no more than that.
#[derive(Debug)]
pub struct Duplex {
    send: SendStream<Bytes>,
    recv: RecvStream,
    /// What came and was not read yet.
    rest: Bytes,
    ended: bool,
}

impl Duplex {
    /// A stream whose heads are said.
    pub fn new(send: SendStream<Bytes>, recv: RecvStream) -> Duplex {
        Duplex { send, recv, rest: Bytes::new(), ended: false }
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        if !self.ended {
            // Reset already: then it is over.
            let _ = self.send.send_data(Bytes::new(), true);
        }
    }
}

impl AsyncRead for Duplex {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(data)) => self.rest = data,
                None => return Poll::Ready(Ok(())),
                // What came before it is whole, and the other way is told when something is sent.
                Some(Err(error)) if matches!(error.reason(), Some(Reason::CANCEL | Reason::NO_ERROR)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let taken = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..taken]);
        self.rest.advance(taken);
        // Fails only for more than was received.
        let _ = self.recv.flow_control().release_capacity(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.send.reserve_capacity(buf.len().min(PIECE));
        let room = loop {
            match self.send.capacity() {
                0 => match ready!(self.send.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                },
                room => break room,
            }
        };
        let taken = buf.len().min(room).min(PIECE);
        self.send.send_data(Bytes::copy_from_slice(&buf[..taken]), false).map_err(broken)?;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task does it.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended {
            self.ended = true;
            self.send.send_data(Bytes::new(), true).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}
