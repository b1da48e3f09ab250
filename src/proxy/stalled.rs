//! Answers over HTTP/2 that the client does not take: a stream whose window stays closed is reset
//! after a time (RFC 9113 section 10.5: a peer may hold our memory and the application's connection
//! that way for as long as we let it).
//!
//! hyper hands a piece of a body over only when the stream's window has room, and asks for no other
//! meanwhile. So a body is given out in pieces of at most one frame, and one that was given and not
//! asked for again stands still. It must never be taken for a stalled stream that the connection as
//! a whole is slow: while the socket itself takes nothing, no stream's time runs.
//!
//! The invariant: a stream of which one frame's worth of bytes moves in each span of the time
//! allowed is never reset.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::idle::{Alarm, Busy, after};

#[cfg(test)]
mod tests;

/// The most of a body that is given out at once, in bytes: the size of a frame that every client
/// takes (RFC 9113 section 6.5.2).
const PIECE: usize = 16 << 10;

/// Runs the streams of one HTTP/2 connection, on its thread, and ends those that stand still.
#[derive(Clone)]
pub struct Guard {
    idle: Duration,
    connection: Busy,
    /// Of the request that hyper is just about to run.
    next: Rc<Cell<Option<Pace>>>,
}

impl Guard {
    /// Allows a stream to stand still for `idle`; zero is no limit. `connection` is the connection's.
    pub fn new(idle: Duration, connection: Busy) -> Guard {
        Guard { idle, connection, next: Rc::default() }
    }

    /// The pace of the next stream: to be called in hyper's call of the service, whose future hyper
    /// gives to this executor as the very next thing.
    pub fn next(&self) -> Pace {
        let pace = Pace(Rc::default());
        self.next.set(Some(pace.clone()));
        pace
    }
}

impl<F> hyper::rt::Executor<F> for Guard
where
    F: Future + 'static,
{
    fn execute(&self, stream: F) {
        let connection = self.connection.clone();
        match self.next.take() {
            Some(pace) if !self.idle.is_zero() => {
                let guarded = Guarded { stream, pace, idle: self.idle, connection, alarm: Alarm::default() };
                tokio::task::spawn_local(guarded);
            }
            _ => {
                tokio::task::spawn_local(async move {
                    stream.await;
                });
            }
        }
    }
}

/// How one answer moves.
#[derive(Clone, Debug)]
pub struct Pace(Rc<Cell<Option<Instant>>>);

impl Pace {
    /// The body, watched.
    pub fn body<B>(self, inner: B) -> Paced<B> {
        Paced { inner, rest: Bytes::new(), pace: self }
    }
}

pin_project! {
    /// A body in pieces; its pace says since when a piece of it has been waiting.
    pub struct Paced<B> {
        #[pin]
        inner: B,
        rest: Bytes,
        pace: Pace,
    }
}

impl<B: Body<Data = Bytes>> Body for Paced<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if this.rest.is_empty() {
            this.pace.0.set(None);
            match std::task::ready!(this.inner.poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => *this.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return Poll::Ready(other),
            }
        }
        // From here on it is the client's turn.
        this.pace.0.set(Some(Instant::now()));
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let inner = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

pin_project! {
    /// A stream that ends when its answer stands still; its end resets it.
    struct Guarded<F> {
        #[pin]
        stream: F,
        pace: Pace,
        idle: Duration,
        connection: Busy,
        alarm: Alarm,
    }
}

impl<F: Future> Future for Guarded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(since) = this.pace.0.get() else { return Poll::Pending };
        let Some(deadline) = after(since.max(this.connection.last_full()), *this.idle) else { return Poll::Pending };
        std::task::ready!(this.alarm.poll(deadline, cx));
        tracing::debug!("a stream is reset: its client takes nothing of the answer");
        Poll::Ready(())
    }
}
