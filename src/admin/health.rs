//! Whether the process serves, and whether it should be sent traffic.
//!
//! Readiness is a list of names that are still awaited. It must never be stored apart from the
//! guards: each name is there exactly as long as its guard lives, so none is forgotten on an error
//! path. Once draining, the process does not become ready again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is awaited before the process should be sent traffic.
#[derive(Debug, Default)]
pub struct Readiness {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    draining: bool,
    awaited: Vec<(u64, String)>,
}

/// Keeps the process from being ready until it is dropped.
#[derive(Debug)]
#[must_use = "the process is ready as soon as the guard is dropped"]
pub struct ReadyGuard {
    id: u64,
    readiness: Arc<Readiness>,
}

impl Readiness {
    /// Nothing is awaited yet: ready.
    pub fn new() -> Arc<Readiness> {
        Arc::default()
    }

    /// Awaits `name` until the guard is dropped. A name may be awaited more than once.
    pub fn guard(self: &Arc<Self>, name: &str) -> ReadyGuard {
        // `/readyz` shows one name a line.
        let name = name.replace(char::is_control, " ");
        let mut state = self.state();
        state.next += 1;
        let id = state.next;
        state.awaited.push((id, name));
        ReadyGuard { id, readiness: self.clone() }
    }

    /// The process is about to end: not ready from now on.
    pub fn drain(&self) {
        self.state().draining = true;
    }

    /// True if traffic may be sent.
    pub fn is_ready(&self) -> bool {
        self.awaited().is_empty()
    }

    /// What is awaited, in the order it was asked for; `draining` first if that is so.
    pub fn awaited(&self) -> Vec<String> {
        let state = self.state();
        let draining = state.draining.then(|| "draining".to_owned());
        draining.into_iter().chain(state.awaited.iter().map(|(_, name)| name.clone())).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The list is valid after every statement, so a panic elsewhere leaves nothing broken.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ReadyGuard {
    fn drop(&mut self) {
        self.readiness.state().awaited.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_guard_blocks_until_it_is_dropped() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let spool = readiness.guard("spool");
        let first = readiness.guard("sink\nwebhook");
        let second = readiness.guard("sink\nwebhook");
        assert_eq!(readiness.awaited(), ["spool", "sink webhook", "sink webhook"]);
        drop(first);
        assert_eq!(readiness.awaited(), ["spool", "sink webhook"]);
        drop(spool);
        assert!(!readiness.is_ready());
        drop(second);
        assert!(readiness.is_ready());
    }

    #[test]
    fn draining_is_for_good() {
        let readiness = Readiness::new();
        let guard = readiness.guard("listener");
        readiness.drain();
        assert_eq!(readiness.awaited(), ["draining", "listener"]);
        drop(guard);
        assert_eq!(readiness.awaited(), ["draining"]);
        assert!(!readiness.is_ready());
    }
}
