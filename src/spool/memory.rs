//! A bounded ring in memory: nothing survives the process, the oldest go first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::{Batch, Spool, Stored};
use crate::event::Event;

/// The default bound, in events (about 1.5 KB each with their line).
pub const DEFAULT_CAPACITY: usize = 8192;

/// A ring of the last `capacity` events.
pub struct MemorySpool {
    capacity: usize,
    ring: Mutex<Ring>,
    appended: watch::Sender<u64>,
}

#[derive(Default)]
struct Ring {
    newest: u64,
    events: VecDeque<Stored>,
}

impl MemorySpool {
    /// An empty ring that holds at most `capacity` events.
    pub fn new(capacity: usize) -> MemorySpool {
        MemorySpool { capacity: capacity.max(1), ring: Mutex::default(), appended: watch::channel(0).0 }
    }

    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        // The ring is valid after every statement, so a panic elsewhere leaves nothing broken.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spool for MemorySpool {
    fn append(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let mut stored: Vec<Stored> = events
            .into_iter()
            .map(|event| Stored { seq: 0, line: event.to_line().into(), event: Arc::new(event) })
            .collect();
        let newest = {
            let mut ring = self.ring();
            for mut one in stored.drain(..) {
                ring.newest += 1;
                one.seq = ring.newest;
                if ring.events.len() == self.capacity {
                    ring.events.pop_front();
                }
                ring.events.push_back(one);
            }
            ring.newest
        };
        self.appended.send_replace(newest);
    }

    fn read(&self, after: u64, max: usize) -> Batch {
        let ring = self.ring();
        let oldest = ring.newest + 1 - ring.events.len() as u64;
        let first = (after + 1).max(oldest);
        let skipped = first - (after + 1).min(first);
        let from = usize::try_from(first - oldest).unwrap_or(usize::MAX);
        Batch { events: ring.events.iter().skip(from).take(max).cloned().collect(), skipped }
    }

    fn newest(&self) -> u64 {
        self.ring().newest
    }

    fn before_oldest(&self) -> u64 {
        let ring = self.ring();
        ring.newest - ring.events.len() as u64
    }

    fn appended(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }
}
