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
    signs: Rc<Signs>,
    every: Duration,
    within: Duration,
    /// Since when it has been silent, or since when it has been asked.
    since: Instant,
    asked: bool,
    alarm: Alarm,
}

impl Heartbeat {
    /// Asks after `every` of silence and waits `within` for an answer. `signs` are the stream's.
    pub fn new(pings: PingPong, signs: Rc<Signs>, every: Duration, within: Duration) -> Heartbeat {
        Heartbeat { pings, signs, every, within, since: Instant::now(), asked: false, alarm: Alarm::default() }
    }

    /// Ready when the other end is gone. Without `wanted` it is not asked.
    pub fn poll(&mut self, wanted: bool, cx: &mut Context<'_>) -> Poll<()> {
        if self.signs.lately.take() {
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

/// The length of a frame's head, in bytes, and of the length in it (RFC 9113 section 4.1).
const FRAME_HEAD: usize = 9;
const FRAME_LENGTH: usize = 3;

/// What has come by a stream.
#[derive(Debug, Default)]
pub struct Signs {
    /// Something did since the heart was listened to last.
    lately: Cell<bool>,
    /// How much, in bytes.
    all: Cell<usize>,
    /// Its first three bytes.
    first: Cell<[u8; FRAME_LENGTH]>,
}

impl Signs {
    fn came(&self, bytes: &[u8]) {
        self.lately.set(true);
        let before = self.all.get();
        self.all.set(before.saturating_add(bytes.len()));
        if before < FRAME_LENGTH {
            let mut first = self.first.get();
            first.iter_mut().skip(before).zip(bytes).for_each(|(kept, byte)| *kept = *byte);
            self.first.set(first);
        }
    }

    /// True once the first frame is there as a whole; a server's are its SETTINGS (RFC 9113 section
    /// 3.4).
    pub fn first_frame(&self) -> bool {
        let length = self.first.get().into_iter().fold(0, |length, byte| length << 8 | usize::from(byte));
        self.all.get() >= FRAME_HEAD.saturating_add(length)
    }
}

pin_project! {
    /// A stream that notes what comes.
    #[derive(Debug)]
    pub struct Heard<S> {
        #[pin]
        inner: S,
        signs: Rc<Signs>,
    }
}

impl<S> Heard<S> {
    /// Notes it in what [`Heard::signs`] gives.
    pub fn new(inner: S) -> Heard<S> {
        Heard { inner, signs: Rc::default() }
    }

    /// What has come.
    pub fn signs(&self) -> Rc<Signs> {
        self.signs.clone()
    }
}

impl<S: AsyncRead> AsyncRead for Heard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        let read = this.inner.poll_read(cx, buf);
        if let Some(came) = buf.filled().get(before..).filter(|came| !came.is_empty()) {
            this.signs.came(came);
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
            let signs = heard.signs();
            let mut connection = h2::server::handshake(heard).await.unwrap();
            let mut heartbeat = Heartbeat::new(connection.ping_pong().unwrap(), signs, EVERY, WITHIN);
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

    #[test]
    fn the_first_frame_is_there_when_its_last_byte_is_however_it_comes() {
        let frame = [&[0, 0, 6, 4, 0, 0, 0, 0, 0][..], &[0, 8, 0, 0, 0, 1]].concat();
        for cut in 0..frame.len() {
            let signs = Signs::default();
            signs.came(&frame[..cut]);
            assert!(!signs.first_frame(), "{cut}");
            signs.came(&frame[cut..]);
            assert!(signs.first_frame(), "{cut}");
        }
        let signs = Signs::default();
        frame.iter().for_each(|byte| signs.came(&[*byte]));
        assert!(signs.first_frame());
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
