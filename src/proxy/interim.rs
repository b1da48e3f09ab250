//! Interim answers of the application (1xx, RFC 9110 section 15.2) on their way to a client of
//! HTTP/1.1: 103 Early Hints, 102 Processing, and whatever comes.
//!
//! The server side of hyper cannot send them, so they are written below it, by the stream that it
//! writes to. That must never happen inside another message: an interim answer goes out only while
//! hyper has nothing of its own under way, which is so from a flush to its next write, and only for
//! the request that is being answered. What finds no such moment before the final answer is dropped.
//!
//! The invariant: what the client reads is hyper's messages, whole and in order, with interim answers
//! only before the final answer of the request they belong to.

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use http::StatusCode;
use http::header::{self, HeaderMap};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::headers::strip_hop_by_hop;
use super::passage::{MAX_BYTES, MAX_HEADS};

#[cfg(test)]
mod tests;

/// One connection's way for interim answers, from its requests to its stream.
///
/// Everything happens on one thread; the lock is there because hyper wants what it holds to be
/// `Send`, and is taken only when there is an interim answer.
#[derive(Clone, Debug, Default)]
pub struct Interim(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// True while there is something to write.
    waiting: AtomicBool,
    /// True while hyper has written nothing since its last flush: between two messages, or at the
    /// beginning of one.
    clean: AtomicBool,
    state: Mutex<State>,
    /// The connection's task.
    task: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    /// True from a request's arrival to its final answer.
    open: bool,
    /// The number of the request: what is said about an earlier one comes too late.
    request: u64,
    heads: usize,
    bytes: Vec<u8>,
    /// How much of `bytes` is written.
    written: usize,
}

impl Interim {
    /// Nothing was said yet.
    pub fn new() -> Interim {
        let interim = Interim::default();
        interim.0.clean.store(true, Relaxed);
        interim
    }

    /// Opens the way for what the application says to the next request before its answer, until the
    /// answer: [`Interim::end`] must follow. Gives the request's number. To be called on the task of the
    /// connection.
    pub async fn begin(&self) -> u64 {
        let task = std::future::poll_fn(|cx| {
            self.0.task.register(cx.waker());
            Poll::Ready(())
        });
        task.await;
        let mut state = self.state();
        (state.open, state.heads) = (true, 0);
        state.request = state.request.wrapping_add(1);
        state.request
    }

    /// The final answer is there. What could not be written before it is dropped.
    pub fn end(&self) {
        let mut state = self.state();
        state.open = false;
        // What has begun to be written must end; hyper waits for it.
        if !state.bytes.is_empty() && state.written == 0 && !self.0.clean.load(Relaxed) {
            state.bytes.clear();
            self.0.waiting.store(false, Relaxed);
        }
    }

    /// What the application said to the request of this number.
    pub(super) fn say(&self, request: u64, status: StatusCode, headers: &HeaderMap) {
        let mut state = self.state();
        if !state.open || state.request != request || state.heads >= MAX_HEADS {
            return;
        }
        let before = state.bytes.len();
        render(&mut state.bytes, status, headers);
        if state.bytes.len() > MAX_BYTES {
            state.bytes.truncate(before);
            return;
        }
        state.heads += 1;
        self.0.waiting.store(true, Relaxed);
        self.0.task.wake();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Valid after every statement.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A head as it stands on the wire. The names and values were checked when they were read.
fn render(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    let mut headers = headers.clone();
    strip_hop_by_hop(&mut headers);
    // There is no body to describe (RFC 9110 section 8.6).
    headers.remove(header::CONTENT_LENGTH);
    // Writing to a Vec cannot fail.
    let _ = write!(out, "HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
    for (name, value) in &headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

pin_project! {
    /// The stream under hyper's HTTP/1.1, which slips interim answers in.
    #[derive(Debug)]
    pub struct InterimStream<S> {
        #[pin]
        inner: S,
        interim: Interim,
    }
}

impl<S> InterimStream<S> {
    /// Writes what `interim` is told.
    pub fn new(inner: S, interim: Interim) -> InterimStream<S> {
        InterimStream { inner, interim }
    }
}

impl<S: AsyncWrite> InterimStream<S> {
    /// Ready when what waits is written, if this is the moment.
    fn poll_interim(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let Inner { waiting, clean, .. } = &*this.interim.0;
        if !waiting.load(Relaxed) || !clean.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let mut state = this.interim.state();
        let mut inner = this.inner;
        while let Some(rest) = state.bytes.get(state.written..).filter(|rest| !rest.is_empty()) {
            let written = ready!(inner.as_mut().poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            state.written = state.written.saturating_add(written);
        }
        state.written = 0;
        state.bytes.clear();
        waiting.store(false, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead> AsyncRead for InterimStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_read(cx, buf)
    }
}

impl<S: AsyncWrite> AsyncWrite for InterimStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.as_mut().poll_interim(cx))?;
        let this = self.project();
        this.interim.0.clean.store(false, Relaxed);
        this.inner.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.as_mut().poll_interim(cx))?;
        let this = self.project();
        this.interim.0.clean.store(false, Relaxed);
        this.inner.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// hyper flushes when it has nothing left to write, and only then.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.interim.0.clean.store(true, Relaxed);
        ready!(self.as_mut().poll_interim(cx))?;
        self.project().inner.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(cx)
    }
}
