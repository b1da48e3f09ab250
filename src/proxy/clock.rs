//! The time, as a traffic thread last read it.
//!
//! Reading the clock costs a request as much as finding its route, and what happens within one turn of a
//! task happens at one time for all that is decided by it: how long a connection was idle, when an answer
//! is late, when a request began. Whoever has waited for something reads the clock anew.
//!
//! It must never be asked for the time of something that was waited for. The invariant: [`recent`] is
//! never later than now, and as old at most as what this thread has done since it last read or wrote.

use std::cell::Cell;

use tokio::time::Instant;

thread_local! {
    static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Now.
pub fn now() -> Instant {
    let now = Instant::now();
    LAST.set(Some(now));
    now
}

/// When the thread last asked.
pub fn recent() -> Instant {
    LAST.get().unwrap_or_else(now)
}
