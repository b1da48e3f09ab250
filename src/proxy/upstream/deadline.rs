//! How long the application may take for the head of its answer.

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::proxy::body::Watch;
use crate::proxy::idle::{Alarm, after};

/// Waits for the head of an answer for at most `allowed`, from when the last piece of the request was
/// passed on: an upload may take longer than an answer. The request began at `began`.
pub(super) async fn within<T>(
    began: Instant,
    allowed: Duration,
    alarm: &mut Alarm,
    body: Option<&Watch>,
    exchange: impl Future<Output = T>,
) -> Option<T> {
    let mut exchange = std::pin::pin!(exchange);
    // `None` if the time allowed is longer than any clock runs.
    let mut deadline = after(began, allowed);
    let answered = poll_fn(|cx| {
        if let Poll::Ready(answered) = exchange.as_mut().poll(cx) {
            return Poll::Ready(Some(answered));
        }
        loop {
            let Some(due) = deadline else { return Poll::Pending };
            ready!(alarm.poll(due, cx));
            let moved = body.and_then(Watch::moved).and_then(|moved| after(moved, allowed));
            match moved {
                Some(later) if later > due => deadline = moved,
                _ => return Poll::Ready(None),
            }
        }
    });
    answered.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_for_an_answer_runs_from_the_last_piece_of_the_request() {
        let allowed = Duration::from_secs(60);
        let body = Watch::default();
        // One for all, as a connection has it for all of its requests.
        let alarm = &mut Alarm::default();
        let began = Instant::now();
        let uploading = async {
            for _ in 0..10 {
                tokio::time::sleep(allowed * 9 / 10).await;
                body.moves();
            }
            std::future::pending::<()>().await;
        };
        assert_eq!(within(Instant::now(), allowed, alarm, Some(&body), uploading).await, None);
        assert_eq!(began.elapsed().as_secs(), 60 * 9 + 60);
        for silent in [None, Some(&Watch::default())] {
            let began = Instant::now();
            assert_eq!(within(Instant::now(), allowed, alarm, silent, std::future::pending::<()>()).await, None);
            assert_eq!(began.elapsed().as_secs(), 60);
        }
        let began = Instant::now();
        assert_eq!(within(Instant::now(), allowed, alarm, None, tokio::time::sleep(allowed / 2)).await, Some(()));
        assert_eq!(within(Instant::now(), allowed, alarm, None, std::future::pending::<()>()).await, None);
        assert_eq!(began.elapsed().as_secs(), 30 + 60, "the time of an answer that came is not the next one's");
    }
}
