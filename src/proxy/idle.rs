//! What stands still is ended: a body of which no frame comes, a connection on which nothing moves.
//!
//! The wrappers must never slow down what moves. A body's frames and a stream's bytes pass without
//! a timer being touched; one timer a wrapper, made when something waits for the first time, is set
//! again only when it has run out, to the moment that is due by then. So a wrapper wakes its task
//! at most once more in each span of time allowed.
//!
//! The invariant: nothing that stood still for the time allowed passes another wait, and nothing is
//! ended earlier.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep_until};

use super::clock;

#[cfg(test)]
mod tests;

/// A timer that is made when it is first needed, set anew only when it has run out, and told whom to wake
/// only when that is another task than before: asking a timer that runs costs five atomic operations.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whom the timer wakes as it is set.
    wakes: Option<Waker>,
}

impl Alarm {
    /// Ready if `deadline` has passed; else the task is woken then, or earlier.
    pub(super) fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
            self.wakes = None;
        }
        if !sleep.is_elapsed() && self.wakes.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.wakes = None;
        loop {
            if sleep.as_mut().poll(cx).is_pending() {
                // A task that has used up its turn is told the same, and the timer was not asked.
                self.wakes = has_budget_remaining().then(|| cx.waker().clone());
                return Poll::Pending;
            }
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

/// When a wait that began at `start` has lasted too long; `None` is never.
pub(super) fn after(start: Instant, wait: Duration) -> Option<Instant> {
    (!wait.is_zero()).then(|| start.checked_add(wait)).flatten()
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum IdleError<E> {
    /// Nothing of it came for the time allowed.
    #[error("the body stood still for longer than allowed")]
    Idle,
    /// The body's own error.
    #[error(transparent)]
    Body(E),
}

pin_project! {
    /// A body that fails when nothing of it comes for a time.
    ///
    /// The time runs from when somebody first waits for the next frame, so that a slow reader of
    /// the body is not taken for a slow sender.
    #[derive(Debug)]
    pub struct IdleBody<B> {
        #[pin]
        inner: B,
        idle: Duration,
        waits_since: Option<Instant>,
        alarm: Alarm,
        failed: bool,
    }
}

impl<B> IdleBody<B> {
    /// Fails with [`IdleError::Idle`] if no frame comes for `idle`; zero is no limit.
    pub fn new(inner: B, idle: Duration) -> IdleBody<B> {
        IdleBody { inner, idle, waits_since: None, alarm: Alarm::default(), failed: false }
    }

    /// It may stand still for so long from now on; zero is no limit.
    pub fn limit(&mut self, idle: Duration) {
        self.idle = idle;
    }

    /// The body itself.
    pub fn get_ref(&self) -> &B {
        &self.inner
    }

    /// The body itself.
    pub fn get_mut(&mut self) -> &mut B {
        &mut self.inner
    }
}

impl<B: Body> Body for IdleBody<B> {
    type Data = B::Data;
    type Error = IdleError<B::Error>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        if *this.failed {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = this.inner.poll_frame(cx) {
            *this.waits_since = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(IdleError::Body)));
        }
        if this.idle.is_zero() {
            return Poll::Pending;
        }
        let since = *this.waits_since.get_or_insert_with(clock::recent);
        let Some(deadline) = after(since, *this.idle) else { return Poll::Pending };
        ready!(this.alarm.poll(deadline, cx));
        *this.failed = true;
        Poll::Ready(Some(Err(IdleError::Idle)))
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Times allowed on a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdleTimes {
    /// From its beginning to the first byte read; zero is no limit but `idle`.
    pub first_byte: Duration,
    /// Without a byte read or written; zero is no limit.
    pub idle: Duration,
}

/// Tells a stream that its peer is waiting for us, not we for it. Of one thread, as the stream is.
#[derive(Clone, Debug)]
pub struct Busy(Rc<Holds>);

#[derive(Debug)]
struct Holds {
    count: Cell<u32>,
    /// When the last hold ended; at first, when the stream began.
    ended: Cell<Instant>,
    /// When the stream was last seen full, or began.
    full: Cell<Instant>,
}

impl Busy {
    pub(super) fn new() -> Busy {
        let began = Instant::now();
        Busy(Rc::new(Holds { count: Cell::new(0), ended: Cell::new(began), full: Cell::new(began) }))
    }

    /// While the guard lives, silence of the peer is no idleness; that it does not take what is
    /// written still is.
    pub fn hold(&self) -> Hold {
        self.0.count.update(|count| count + 1);
        Hold(self.0.clone())
    }

    fn held(&self) -> bool {
        self.0.count.get() > 0
    }

    /// When the stream last took no more: until then the connection itself held everything up. Its
    /// beginning, if that never was.
    pub(super) fn last_full(&self) -> Instant {
        self.0.full.get()
    }

    fn is_full(&self) {
        self.0.full.set(clock::recent());
    }
}

/// See [`Busy::hold`].
#[derive(Debug)]
pub struct Hold(Rc<Holds>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.ended.set(clock::recent());
        self.0.count.update(|count| count.saturating_sub(1));
    }
}

pin_project! {
    /// A stream that fails with `TimedOut` when nothing moves on it in either direction.
    ///
    /// Reading and writing must be done by one task, as a server's connection or a tunnel does:
    /// there is one timer, and it wakes whoever waited last.
    #[derive(Debug)]
    pub struct IdleStream<S> {
        #[pin]
        inner: S,
        state: State,
    }
}

#[derive(Debug)]
struct State {
    times: IdleTimes,
    busy: Busy,
    began: Instant,
    spoken: bool,
    moved: Instant,
    write_waits_since: Option<Instant>,
    alarm: Alarm,
    failed: bool,
}

impl<S> IdleStream<S> {
    /// The time for the first byte runs from now.
    pub fn new(inner: S, times: IdleTimes) -> IdleStream<S> {
        let now = Instant::now();
        let state = State {
            times,
            busy: Busy::new(),
            began: now,
            spoken: false,
            moved: now,
            write_waits_since: None,
            alarm: Alarm::default(),
            failed: false,
        };
        IdleStream { inner, state }
    }

    /// The handle that suspends the limit while a request is being answered: an application may
    /// think for longer than a client may sleep.
    pub fn busy(&self) -> Busy {
        self.state.busy.clone()
    }

    /// The stream itself.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Gives the stream up; the limits end.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.failed { Err(timed_out()) } else { Ok(()) }
    }

    /// A read that waits: for the first byte, or for more.
    fn read_waits(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let deadline = if !self.spoken && !self.times.first_byte.is_zero() {
            after(self.began, self.times.first_byte)
        } else if self.busy.held() {
            // Nothing is due; this only makes sure that it is looked at again.
            after(clock::recent(), self.times.idle)
        } else {
            after(self.moved.max(self.busy.0.ended.get()), self.times.idle)
        };
        self.wait(deadline, cx)
    }

    /// A write that waits: the peer does not take what we have for it.
    fn write_waits<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.busy.is_full();
        if self.times.idle.is_zero() {
            return Poll::Pending;
        }
        let since = *self.write_waits_since.get_or_insert_with(clock::recent);
        self.wait(after(self.moved.max(since), self.times.idle), cx)
    }

    fn wait<T>(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let Some(deadline) = deadline else { return Poll::Pending };
        ready!(self.alarm.poll(deadline, cx));
        self.failed = true;
        Poll::Ready(Err(timed_out()))
    }

    fn wrote(&mut self, result: io::Result<usize>) -> Poll<io::Result<usize>> {
        if self.write_waits_since.take().is_some() {
            self.busy.is_full();
        }
        self.moved = clock::recent();
        Poll::Ready(result)
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the connection stood still for longer than allowed")
}

impl<S: AsyncRead> AsyncRead for IdleStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        this.state.alive()?;
        let before = buf.filled().len();
        match this.inner.poll_read(cx, buf) {
            Poll::Ready(result) => {
                this.state.spoken |= buf.filled().len() > before;
                this.state.moved = clock::recent();
                Poll::Ready(result)
            }
            Poll::Pending => this.state.read_waits(cx),
        }
    }
}

impl<S: AsyncWrite> AsyncWrite for IdleStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        this.state.alive()?;
        match this.inner.poll_write(cx, buf) {
            Poll::Ready(result) => this.state.wrote(result),
            Poll::Pending => this.state.write_waits(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        this.state.alive()?;
        match this.inner.poll_write_vectored(cx, bufs) {
            Poll::Ready(result) => this.state.wrote(result),
            Poll::Pending => this.state.write_waits(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        this.state.alive()?;
        match this.inner.poll_flush(cx) {
            Poll::Ready(result) => {
                this.state.write_waits_since = None;
                Poll::Ready(result)
            }
            Poll::Pending => this.state.write_waits(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        this.state.alive()?;
        match this.inner.poll_shutdown(cx) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => this.state.write_waits(cx),
        }
    }
}
