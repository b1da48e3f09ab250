//! The time, as a traffic thread last read it.
//!
//! Reading the clock costs a request as much as finding its route, and what happens within one turn of the
//! thread (the tasks that were woken while it slept) happens at one time for all that is decided by it: how
//! long a connection was idle, when an answer is late, how long it took. So a thread reads it when it wakes,
//! and a thread that never sleeps after so many looks.
//!
//! The invariant: [`recent`] is never later than now, and as old at most as what a thread does between its
//! wake and [`LOOKS`] looks. Whoever reads or writes a connection looks, so that is some hundred of reads and
//! writes.

use std::cell::Cell;

use tokio::runtime::Builder;
use tokio::time::Instant;

/// How often the time is looked at before it is read anew.
const LOOKS: u32 = 256;

thread_local! {
    static TURN: Cell<Option<Turn>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Turn {
    began: Instant,
    looks: u32,
}

fn read() -> Instant {
    let began = Instant::now();
    TURN.set(Some(Turn { began, looks: 0 }));
    began
}

/// A thread of this runtime reads the clock whenever it wakes. The runtime tells nobody of its wake-ups while
/// there is no sleep between them.
pub fn read_at_each_turn(runtime: &mut Builder) -> &mut Builder {
    runtime.on_thread_unpark(|| {
        read();
    })
}

/// When the turn began; on other threads than those above, now.
pub fn recent() -> Instant {
    match TURN.get() {
        Some(Turn { began, looks }) if looks < LOOKS => {
            TURN.set(Some(Turn { began, looks: looks + 1 }));
            began
        }
        Some(_) => read(),
        None => Instant::now(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::runtime::LocalOptions;
    use tokio::task::{spawn_local, yield_now};

    use super::*;

    const WAITED: Duration = Duration::from_millis(1);

    /// Runs a task as a traffic thread does.
    fn in_turns(task: impl Future<Output = ()> + 'static) {
        let mut runtime = Builder::new_current_thread();
        let runtime = read_at_each_turn(runtime.enable_time()).build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            // Before its first sleep a thread has not read it.
            tokio::time::sleep(WAITED).await;
            spawn_local(task).await.unwrap();
        });
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
