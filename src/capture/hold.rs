//! `durability: sync`: the end of an answer is held until the event it gave is on disk.
//!
//! Whoever signed in and saw the answer is then in the store, whatever happens next. Only exchanges
//! that a route may be about are held, only their last piece is, and never for longer than
//! [`LONGEST`]: a disk or a pipeline that hangs costs that time, is counted, and the answer goes on.
//! The invariant: whatever becomes of the exchange (dropped, no event, a panic), the other end of
//! the channel goes away with it, and that ends the wait.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use crate::telemetry::Traffic;

/// The longest time an answer is held.
pub const LONGEST: Duration = Duration::from_secs(1);

/// Ready when the event is on disk, when there will be none, or when it took too long.
pub struct OnDisk {
    written: oneshot::Receiver<()>,
    /// Begun with the wait, not with the request.
    limit: Option<Pin<Box<Sleep>>>,
    stats: Arc<Traffic>,
}

impl OnDisk {
    /// Will wait for this.
    pub fn new(written: oneshot::Receiver<()>, stats: Arc<Traffic>) -> OnDisk {
        OnDisk { written, limit: None, stats }
    }

    /// The time that it may take begins now.
    pub fn begun(mut self) -> OnDisk {
        self.limit = Some(Box::pin(sleep(LONGEST)));
        self
    }
}

impl Future for OnDisk {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Pin::new(&mut self.written).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if self.limit.get_or_insert_with(|| Box::pin(sleep(LONGEST))).as_mut().poll(cx).is_ready() {
            self.stats.let_go.fetch_add(1, Relaxed);
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_the_word_with_its_sender_and_after_a_second_which_is_counted() {
        let stats = Arc::<Traffic>::default();
        let began = Instant::now();
        let (sender, receiver) = oneshot::channel();
        sender.send(()).unwrap();
        OnDisk::new(receiver, stats.clone()).await;
        let (sender, receiver) = oneshot::channel();
        drop(sender);
        OnDisk::new(receiver, stats.clone()).await;
        assert_eq!((began.elapsed(), stats.let_go.load(Relaxed)), (Duration::ZERO, 0));
        let (_sender, receiver) = oneshot::channel();
        OnDisk::new(receiver, stats.clone()).await;
        assert_eq!((began.elapsed() >= LONGEST, stats.let_go.load(Relaxed)), (true, 1));
    }
}
