//! The time, as a traffic thread last read it.
//!
//! Reading the clock costs a request as much as finding its route, and what happens within one turn of the
//! thread (the tasks that were woken since the last one, some sixty at most) happens at one time for all that
//! is decided by it: how long a connection was idle, when an answer is late, how long it took. So a thread
//! reads it once a turn.
//!
//! The invariant: [`recent`] is never later than now, and as old at most as the turn.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;

use tokio::time::Instant;

thread_local! {
    static TURN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Does `work`, with the clock read whenever it is its turn. To be what a `LocalSet` runs: it asks this
/// before each of its rounds, also of those between which the thread did not sleep.
pub async fn at_each_turn<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        TURN.set(Some(Instant::now()));
        work.as_mut().poll(cx)
    })
    .await
}

/// When the turn began; on other threads than those above, now.
pub fn recent() -> Instant {
    TURN.get().unwrap_or_else(Instant::now)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::runtime::Builder;
    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;

    const WAITED: Duration = Duration::from_millis(1);

    /// Runs a task as a traffic thread does.
    fn in_turns(task: impl Future<Output = ()> + 'static) {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        LocalSet::new().block_on(&runtime, at_each_turn(async { spawn_local(task).await.unwrap() }));
    }

    #[test]
    fn within_a_turn_it_stands_still_and_what_was_waited_for_is_over_by_it() {
        in_turns(async {
            let turn = recent();
            while Instant::now() == turn {}
            assert_eq!(recent(), turn);
            let before = Instant::now();
            tokio::time::sleep(WAITED).await;
            assert!(recent() >= before + WAITED);
        });
    }

    #[test]
    fn it_goes_on_while_the_thread_never_sleeps() {
        in_turns(async {
            let (began, mut turns) = (Instant::now(), 0);
            while recent() < began + WAITED {
                yield_now().await;
                turns += 1;
                assert!(began.elapsed() < WAITED * 10_000, "the clock stood still for {turns} turns");
            }
        });
    }

    #[test]
    fn with_more_tasks_than_a_turn_has_room_for_it_goes_on_too() {
        in_turns(async {
            let began = Instant::now();
            let busy = (0..200).map(|_| {
                spawn_local(async move {
                    while recent() < began + WAITED {
                        yield_now().await;
                        assert!(began.elapsed() < WAITED * 10_000, "the clock stood still");
                    }
                })
            });
            for task in busy.collect::<Vec<_>>() {
                task.await.unwrap();
            }
        });
    }

    #[test]
    fn without_turns_it_is_now() {
        let before = recent();
        while Instant::now() == before {}
        assert!(recent() > before);
    }
}
