//! A bounded ring in memory: nothing survives the process, the oldest go first.
//!
//! It must never wait for a reader, and never let a reader's position, whatever it is, break it.
//! The invariant: the ring holds the last events, in order, without gaps: as many as both bounds, of
//! their number and of their bytes, allow, and at least one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::{Batch, Spool, Stored};
use crate::event::Event;

#[cfg(test)]
mod tests;

/// The default bound, in events (about 1.5 KB each with their line).
pub const DEFAULT_CAPACITY: usize = 8192;

/// The bound in bytes of the events' lines: long ones fill the ring before many do.
pub const MAX_BYTES: usize = 32 << 20;

/// A ring of the last `capacity` events.
pub struct MemorySpool {
    capacity: usize,
    max_bytes: usize,
    ring: Mutex<Ring>,
    appended: watch::Sender<u64>,
}

#[derive(Default)]
struct Ring {
    newest: u64,
    /// Of the lines of `events`.
    bytes: usize,
    events: VecDeque<Stored>,
}

impl MemorySpool {
    /// An empty ring that holds at most `capacity` events, and [`MAX_BYTES`] of them.
    pub fn new(capacity: usize) -> MemorySpool {
        MemorySpool::bounded(capacity, MAX_BYTES)
    }

    fn bounded(capacity: usize, max_bytes: usize) -> MemorySpool {
        MemorySpool { capacity: capacity.max(1), max_bytes, ring: Mutex::default(), appended: watch::channel(0).0 }
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
                ring.bytes += one.line.len();
                ring.events.push_back(one);
                while ring.events.len() > self.capacity || (ring.bytes > self.max_bytes && ring.events.len() > 1) {
                    let gone = ring.events.pop_front().map_or(0, |gone| gone.line.len());
                    ring.bytes -= gone;
                }
            }
            ring.newest
        };
        // Two appends may come here in the other order; the watch must not go back.
        self.appended.send_modify(|value| *value = newest.max(*value));
    }

    fn read(&self, after: u64, max: usize) -> Batch {
        let ring = self.ring();
        let before_oldest = ring.newest - ring.events.len() as u64;
        let skipped = before_oldest.saturating_sub(after);
        let past = after.saturating_sub(before_oldest);
        let from = usize::try_from(past).unwrap_or(usize::MAX).min(ring.events.len());
        Batch { events: ring.events.range(from..).take(max).cloned().collect(), skipped }
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
