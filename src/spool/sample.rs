//! Stored events for the tests of whatever reads a spool.

use std::sync::Arc;

use super::Stored;
pub(crate) use crate::event::sample::{login, of_type};

/// A failed login by `user` as a spool would give it at position `seq`.
pub(crate) fn stored(seq: u64, user: &str) -> Stored {
    let event = login(user);
    Stored { seq, line: event.to_line().into(), event: Arc::new(event) }
}
