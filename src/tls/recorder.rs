//! A stream that remembers the first bytes read from it.
//!
//! rustls does not give out the hello of a client as it came, and peeking at a socket does not show
//! a hello that arrives in several segments. So the bytes are copied on their way, at most
//! [`LIMIT`] of them, until [`Recorder::stop`]; from then on a read costs one test of a flag. It
//! must never change, hold back or add a byte.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most bytes that are kept.
pub const LIMIT: usize = super::client_hello::MAX_HELLO_BYTES;

/// A stream that remembers the first bytes read from it.
#[derive(Debug)]
pub struct Recorder<S> {
    stream: S,
    /// `None` once stopped.
    first: Option<Vec<u8>>,
}

impl<S> Recorder<S> {
    /// Remembers from now on.
    pub fn new(stream: S) -> Recorder<S> {
        Recorder { stream, first: Some(Vec::new()) }
    }

    /// Gives out what was read and remembers no more; empty if stopped before.
    pub fn stop(&mut self) -> Vec<u8> {
        self.first.take().unwrap_or_default()
    }

    /// The stream itself.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The stream itself; what was remembered is dropped.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Recorder<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Some(first) = &mut this.first {
            let read = buf.filled().get(before..).unwrap_or_default();
            let room = LIMIT.saturating_sub(first.len());
            first.extend(read.iter().take(room));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recorder<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_read_is_remembered_until_stopped_and_passes_unchanged() {
        let (mut far, near) = tokio::io::duplex(64);
        let mut recorder = Recorder::new(near);
        far.write_all(b"hello ").await.unwrap();
        let mut got = [0; 3];
        recorder.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hel");
        recorder.read_exact(&mut got).await.unwrap();
        assert_eq!(recorder.stop(), b"hello ");
        far.write_all(b"you").await.unwrap();
        recorder.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"you");
        assert_eq!(recorder.stop(), b"");
        recorder.write_all(b"bye").await.unwrap();
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"bye");
    }

    #[tokio::test]
    async fn no_more_than_the_limit_is_remembered() {
        let sent: Vec<u8> = (0..LIMIT + 5000).map(|i| (i % 251) as u8).collect();
        let mut recorder = Recorder::new(tokio::io::join(sent.as_slice(), tokio::io::sink()));
        let mut got = Vec::new();
        recorder.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, sent);
        assert_eq!(recorder.stop(), sent[..LIMIT]);
    }

    #[tokio::test]
    async fn bytes_that_stood_in_the_callers_buffer_are_not_taken_for_read_ones() {
        let mut recorder = Recorder::new(tokio::io::join(&b"new"[..], tokio::io::sink()));
        let mut space = [0; 16];
        let mut buf = ReadBuf::new(&mut space);
        buf.put_slice(b"old");
        std::future::poll_fn(|cx| Pin::new(&mut recorder).poll_read(cx, &mut buf)).await.unwrap();
        assert_eq!(buf.filled(), b"oldnew");
        assert_eq!(recorder.stop(), b"new");
    }
}
