//! What is to be written to a connection, and how much of it is.
//!
//! A head and a short body go out in one piece, a long piece of a body as it is, beside what frames it:
//! one system call for both, and nothing long is copied. At most one piece waits; whoever has another
//! waits until it is written, and so it does if many short pieces wait: what is held is bounded by one
//! head and one piece, whatever wakes whoever writes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use super::encode::Around;

/// A piece up to this length is copied behind the head: cheaper than a second place to write from.
const COPIED: usize = 4 << 10;
/// From so many bytes on nothing is added, and a buffer that has grown beyond is given back once it is
/// written.
const KEPT: usize = 16 << 10;

/// See the module.
#[derive(Debug, Default)]
pub struct Writer {
    /// Heads, what frames pieces, and short pieces.
    first: Vec<u8>,
    /// How much of it is written.
    at: usize,
    /// A long piece, after it.
    piece: Bytes,
    /// What frames the end of the piece.
    last: Bytes,
}

impl Writer {
    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.piece.is_empty() && self.last.is_empty()
    }

    /// How many bytes wait.
    pub fn left(&self) -> usize {
        self.first.len() - self.at + self.piece.len() + self.last.len()
    }

    /// True if no piece of a body may be added, because a long one waits or many short ones do.
    pub fn is_full(&self) -> bool {
        self.has_piece() || self.first.len() - self.at >= KEPT
    }

    fn has_piece(&self) -> bool {
        !self.piece.is_empty() || !self.last.is_empty()
    }

    /// Where heads are written to. Not to be called while a long piece waits.
    pub fn head(&mut self) -> &mut Vec<u8> {
        &mut self.first
    }

    /// Adds a piece of a body with what frames it. Not to be called while it is full.
    pub fn piece(&mut self, around: Around, piece: Bytes) {
        self.first.extend_from_slice(around.before.as_ref());
        if piece.len() <= COPIED {
            self.first.extend_from_slice(&piece);
            self.first.extend_from_slice(around.after);
        } else {
            self.piece = piece;
            self.last = Bytes::from_static(around.after);
        }
    }

    /// Adds the end of a body. Not to be called while a long piece waits.
    pub fn end(&mut self, end: &[u8]) {
        self.first.extend_from_slice(end);
    }

    /// Ready when all of it is written.
    pub fn poll_flush<S: AsyncWrite>(&mut self, cx: &mut Context<'_>, mut stream: Pin<&mut S>) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let first = self.first.get(self.at..).unwrap_or_default();
            let written = if self.has_piece() {
                let slices = [IoSlice::new(first), IoSlice::new(&self.piece), IoSlice::new(&self.last)];
                ready!(stream.as_mut().poll_write_vectored(cx, &slices))?
            } else {
                ready!(stream.as_mut().poll_write(cx, first))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written(written);
        }
        Poll::Ready(Ok(()))
    }

    fn written(&mut self, mut written: usize) {
        let of_first = written.min(self.first.len() - self.at);
        self.at += of_first;
        written -= of_first;
        if self.at == self.first.len() {
            self.at = 0;
            self.first.clear();
            if self.first.capacity() > KEPT {
                self.first = Vec::new();
            }
        }
        let of_piece = written.min(self.piece.len());
        self.piece.advance(of_piece);
        let of_last = (written - of_piece).min(self.last.len());
        self.last.advance(of_last);
        if self.piece.is_empty() {
            // Its memory is somebody's buffer.
            self.piece = Bytes::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode::Encoder;
    use super::*;

    /// Takes a few bytes at a time.
    struct Slow(Vec<u8>, usize);

    impl AsyncWrite for Slow {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            let n = buf.len().min(this.1);
            this.0.extend_from_slice(&buf[..n]);
            Poll::Ready(Ok(n))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
            let n = all.len().min(this.1);
            this.0.extend_from_slice(&all[..n]);
            Poll::Ready(Ok(n))
        }
    }

    #[test]
    fn what_is_written_is_the_same_however_little_is_taken_at_once() {
        let long = Bytes::from(vec![b'x'; COPIED + 1]);
        for at_once in [1, 2, 7, 4096, usize::MAX] {
            let mut writer = Writer::default();
            let mut encoder = Encoder::Chunked;
            let mut stream = Slow(Vec::new(), at_once);
            let cx = &mut Context::from_waker(std::task::Waker::noop());
            let mut flush = |writer: &mut Writer| {
                assert!(writer.poll_flush(cx, Pin::new(&mut stream)).is_ready());
                assert!(writer.is_empty() && !writer.is_full());
            };
            writer.head().extend_from_slice(b"head\r\n\r\n");
            writer.piece(encoder.piece(2).unwrap(), Bytes::from_static(b"ab"));
            writer.piece(encoder.piece(long.len()).unwrap(), long.clone());
            flush(&mut writer);
            writer.end(&encoder.finish(None).unwrap());
            flush(&mut writer);
            let expected = [b"head\r\n\r\n2\r\nab\r\n1001\r\n", &long[..], b"\r\n0\r\n\r\n"].concat();
            assert_eq!(stream.0, expected, "{at_once}");
        }
    }

    #[test]
    fn a_buffer_that_has_grown_is_given_back() {
        let mut writer = Writer::default();
        writer.head().extend_from_slice(&vec![b'h'; KEPT * 2]);
        let mut stream = Slow(Vec::new(), usize::MAX);
        assert!(
            writer.poll_flush(&mut Context::from_waker(std::task::Waker::noop()), Pin::new(&mut stream)).is_ready()
        );
        assert!(writer.first.capacity() <= KEPT);
    }
}
