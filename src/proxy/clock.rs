//! The time, as a traffic thread last read it.
//!
//! Reading the clock costs a request as much as finding its route, and what happens within one turn of the
//! thread (the work that one look for events brought) happens at one time for all that is decided by it: how
//! long a connection was idle, when an answer is late, how long it took. So a thread reads it once a turn.
//!
//! The invariant: [`recent`] is never later than now, and as old at most as the turn.

use std::cell::Cell;

use tokio::runtime::Builder;
use tokio::time::Instant;

thread_local! {
    static TURN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Lets the thread of a runtime read the clock whenever it has looked for events.
pub fn at_each_turn(runtime: &mut Builder) -> &mut Builder {
    runtime.on_thread_unpark(|| TURN.set(Some(Instant::now())))
}

/// When the turn began; on other threads than those above, now.
pub fn recent() -> Instant {
    TURN.get().unwrap_or_else(Instant::now)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn within_a_turn_it_stands_still_and_what_was_waited_for_is_over_by_it() {
        let runtime = at_each_turn(Builder::new_current_thread().enable_time()).build().unwrap();
        runtime.block_on(async {
            let waited = Duration::from_millis(1);
            tokio::time::sleep(waited).await;
            let turn = recent();
            while Instant::now() == turn {}
            assert_eq!(recent(), turn);
            let before = Instant::now();
            tokio::time::sleep(waited).await;
            assert!(recent() >= before + waited);
        });
    }

    #[test]
    fn without_turns_it_is_now() {
        let before = recent();
        while Instant::now() == before {}
        assert!(recent() > before);
    }
}
