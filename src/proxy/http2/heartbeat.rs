//! Whether the other end of an HTTP/2 connection is still there: asked by PING (RFC 9113 section 6.7)
//! when nothing came from it for a time.
//!
//! Every byte that comes is a sign of life, noted by [`Heard`] without a look at a clock. It must never
//! end a connection on which something comes.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::super::idle::{Alarm, after};

/// Asks when it is silent; to be polled by the connection's task.
pub struct Heartbeat {
    pings: PingPong,
    heard: Rc<Cell<bool>>,
    every: Duration,
    within: Duration,
    /// Since when it has been silent, or since when it has been asked.
    since: Instant,
    asked: bool,
    alarm: Alarm,
}

impl Heartbeat {
    /// Asks after `every` of silence and waits `within` for an answer. `heard` is the stream's.
    pub fn new(pings: PingPong, heard: Rc<Cell<bool>>, every: Duration, within: Duration) -> Heartbeat {
        Heartbeat { pings, heard, every, within, since: Instant::now(), asked: false, alarm: Alarm::default() }
    }

    /// Ready when the other end is gone. Without `wanted` it is not asked.
    pub fn poll(&mut self, wanted: bool, cx: &mut Context<'_>) -> Poll<()> {
        if self.heard.take() {
            (self.since, self.asked) = (Instant::now(), false);
        }
        loop {
            let wait = if self.asked { self.within } else { self.every };
            let Some(deadline) = after(self.since, wait) else { return Poll::Pending };
            ready!(self.alarm.poll(deadline, cx));
            if self.asked {
                return Poll::Ready(());
            }
            self.since = Instant::now();
            if wanted {
                // Its answer to the last one is taken note of here; one that never came, although
                // other things did, needs no second question.
                let _ = self.pings.poll_pong(cx);
                let _ = self.pings.send_ping(Ping::opaque());
                self.asked = true;
            }
        }
    }
}

pin_project! {
    /// A stream that notes when something comes.
    #[derive(Debug)]
    pub struct Heard<S> {
        #[pin]
        inner: S,
        heard: Rc<Cell<bool>>,
    }
}

impl<S> Heard<S> {
    /// Notes it in what [`Heard::note`] gives.
    pub fn new(inner: S) -> Heard<S> {
        Heard { inner, heard: Rc::default() }
    }

    /// True once something came; whoever reads it sets it back.
    pub fn note(&self) -> Rc<Cell<bool>> {
        self.heard.clone()
    }
}

impl<S: AsyncRead> AsyncRead for Heard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        let read = this.inner.poll_read(cx, buf);
        if buf.filled().len() > before {
            this.heard.set(true);
        }
        read
    }
}

impl<S: AsyncWrite> AsyncWrite for Heard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{DuplexStream, duplex};
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    const EVERY: Duration = Duration::from_secs(30);
    const WITHIN: Duration = Duration::from_secs(10);

    /// A server's end of a connection whose client does not answer until it is driven; how long it
    /// took until it was given up, if it was.
    async fn given_up(wanted: bool, client: impl AsyncFnOnce(DuplexStream)) -> Option<Duration> {
        let (near, far) = duplex(1 << 16);
        let began = Instant::now();
        let serving = async {
            let heard = Heard::new(near);
            let note = heard.note();
            let mut connection = h2::server::handshake(heard).await.unwrap();
            let mut heartbeat = Heartbeat::new(connection.ping_pong().unwrap(), note, EVERY, WITHIN);
            poll_fn(|cx| {
                if heartbeat.poll(wanted, cx).is_ready() {
                    return Poll::Ready(Some(began.elapsed()));
                }
                connection.poll_closed(cx).map(|_| None)
            })
            .await
        };
        tokio::join!(serving, client(far)).0
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_gone_and_who_does_is_not() {
        let silent = given_up(true, async |far| {
            let (_sender, mut connection) = h2::client::handshake(far).await.unwrap();
            // Read once, then never again.
            let _ = tokio::time::timeout(Duration::from_secs(1), &mut connection).await;
            tokio::time::sleep(EVERY * 10).await;
        });
        assert_eq!(silent.await, Some(EVERY + WITHIN));
        let test = async {
            given_up(true, async |far| {
                let (sender, connection) = h2::client::handshake(far).await.unwrap();
                spawn_local(async move { connection.await.unwrap() });
                tokio::time::sleep(EVERY * 10).await;
                drop(sender);
            })
            .await
        };
        assert_eq!(LocalSet::new().run_until(test).await, None, "its end is its own");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_whom_nothing_is_wanted_of() {
        let silent = given_up(false, async |far| {
            let (_sender, mut connection) = h2::client::handshake(far).await.unwrap();
            let _ = tokio::time::timeout(EVERY * 10, &mut connection).await;
        });
        assert_eq!(silent.await, None);
    }
}
