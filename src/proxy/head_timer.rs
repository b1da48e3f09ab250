//! The clock that hyper has for the heads of one client connection.
//!
//! hyper wants a new timer for each head and drops it when the head is there, which nearly always is
//! soon. Entering a timer in the runtime and taking it out again cost more than reading the head, so
//! the runtime's timer is kept with the connection: the next head takes it over as it is, and it is
//! set anew only when it has run out before its deadline. A connection is woken for it at most once
//! more in each span of time allowed.
//!
//! The invariant: a head is ready to be given up at its deadline, and never earlier.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Instant as TokioInstant;

use super::idle::Alarm;

/// The clock of one connection; whoever waits does so on the connection's task.
///
/// Everything happens on one thread; the lock is there because hyper wants its timers to be `Sync`.
#[derive(Clone, Debug, Default)]
pub struct HeadTimer(Arc<Mutex<Alarm>>);

impl hyper::rt::Timer for HeadTimer {
    fn sleep(&self, duration: std::time::Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Head { deadline: deadline.into(), alarm: self.0.clone() })
    }

    /// The runtime's time, which a test can hold.
    fn now(&self) -> Instant {
        TokioInstant::now().into_std()
    }
}

/// Waits for one deadline.
struct Head {
    deadline: TokioInstant,
    alarm: Arc<Mutex<Alarm>>,
}

impl Future for Head {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.alarm.lock().unwrap_or_else(PoisonError::into_inner).poll(self.deadline, cx)
    }
}

impl hyper::rt::Sleep for Head {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::rt::Timer;

    use super::*;

    const ALLOWED: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn each_head_has_its_own_deadline_though_the_timer_is_one() {
        let timer = HeadTimer::default();
        let began = TokioInstant::now();
        // Waited for, then dropped: its timer stays.
        let first = tokio::time::timeout(Duration::from_secs(20), timer.sleep(ALLOWED)).await;
        assert!(first.is_err());
        assert!(timer.0.lock().unwrap().is_set());
        timer.sleep(ALLOWED).await;
        assert_eq!(began.elapsed(), Duration::from_secs(50), "twenty seconds, then its own thirty");
        timer.sleep(Duration::from_secs(1)).await;
        assert_eq!(began.elapsed(), Duration::from_secs(51), "a timer that has run out serves again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_before_the_last_one_is_kept() {
        let timer = HeadTimer::default();
        let began = TokioInstant::now();
        assert!(tokio::time::timeout(Duration::from_secs(1), timer.sleep(ALLOWED)).await.is_err());
        timer.sleep(Duration::from_secs(2)).await;
        assert_eq!(began.elapsed(), Duration::from_secs(3));
    }
}
