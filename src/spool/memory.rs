//! A bounded ring in memory: nothing survives the process, the oldest go first.
//!
//! It must never wait for a reader, and never let a reader's position, whatever it is, break it.
//! The invariant: the ring holds the last events, in order, without gaps: as many as both bounds, of
//! their number and of their bytes, allow, and at least one. What every sink has taken is held as its
//! line alone, and read back for the seldom reader that comes for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::{Ack, Batch, Spool, Stored, Written};
use crate::event::Event;

#[cfg(test)]
mod tests;

/// The default bound, in events (about 2.3 KB each with their line, which is a third of it).
pub const DEFAULT_CAPACITY: usize = 8192;

/// Events that are held whole although every sink has taken them: viewers are a little behind.
const WHOLE: usize = 256;

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
    /// Of all lines.
    bytes: usize,
    /// The lines of events that every sink has taken, before those of `events`.
    lines: VecDeque<Arc<str>>,
    events: VecDeque<Stored>,
    /// The sinks there are, and up to where each of them is.
    sinks: BTreeMap<String, u64>,
}

impl Ring {
    fn len(&self) -> usize {
        self.lines.len() + self.events.len()
    }

    fn before_oldest(&self) -> u64 {
        self.newest - self.len() as u64
    }

    /// Lets go of all but the lines of what was taken.
    fn age(&mut self) {
        let taken = self.sinks.values().copied().min().unwrap_or(u64::MAX);
        while self.events.len() > WHOLE && self.events.front().is_some_and(|first| first.seq <= taken) {
            self.lines.extend(self.events.pop_front().map(|taken| taken.line));
        }
    }

    /// Gives the oldest up.
    fn drop_oldest(&mut self) {
        let gone = self.lines.pop_front().or_else(|| self.events.pop_front().map(|gone| gone.line));
        self.bytes -= gone.map_or(0, |line| line.len());
    }
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
    fn append_shared(&self, events: Vec<Arc<Event>>) {
        if events.is_empty() {
            return;
        }
        let mut stored: Vec<Stored> =
            events.into_iter().map(|event| Stored { seq: 0, line: event.to_shared_line(), event }).collect();
        let newest = {
            let mut ring = self.ring();
            for mut one in stored.drain(..) {
                ring.newest += 1;
                one.seq = ring.newest;
                ring.bytes += one.line.len();
                ring.events.push_back(one);
                while ring.len() > self.capacity || (ring.bytes > self.max_bytes && ring.len() > 1) {
                    ring.drop_oldest();
                }
            }
            ring.age();
            ring.newest
        };
        // Two appends may come here in the other order; the watch must not go back.
        self.appended.send_modify(|value| *value = newest.max(*value));
    }

    fn read(&self, after: u64, max: usize) -> Batch {
        let (skipped, first, lines, events) = {
            let ring = self.ring();
            let before_oldest = ring.before_oldest();
            let past = usize::try_from(after.saturating_sub(before_oldest)).unwrap_or(usize::MAX).min(ring.len());
            let from = past.min(ring.lines.len());
            let lines: Vec<Arc<str>> = ring.lines.range(from..).take(max).cloned().collect();
            let events = ring.events.range(past - from..).take(max - lines.len()).cloned().collect();
            (before_oldest.saturating_sub(after), before_oldest + from as u64 + 1, lines, events)
        };
        if lines.is_empty() {
            return Batch { events, skipped };
        }
        // Without the lock, for whoever appends must not wait for this.
        let mut whole: Vec<Stored> = (first..).zip(lines).filter_map(|(seq, line)| read_back(seq, line)).collect();
        whole.extend(events);
        Batch { events: whole, skipped }
    }

    fn newest(&self) -> u64 {
        self.ring().newest
    }

    fn before_oldest(&self) -> u64 {
        self.ring().before_oldest()
    }

    fn wait_for(&self, sinks: &[String]) {
        let mut ring = self.ring();
        let positions = sinks.iter().map(|sink| (sink.clone(), ring.sinks.get(sink).copied().unwrap_or(0)));
        ring.sinks = positions.collect();
    }

    fn acknowledge(&self, ack: Ack) -> Written {
        if let Some(position) = self.ring().sinks.get_mut(&ack.sink) {
            *position = ack.position;
        }
        Written::already()
    }

    fn appended(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }
}

/// The event of a line that was written here.
fn read_back(seq: u64, line: Arc<str>) -> Option<Stored> {
    match Event::from_line(&line) {
        Ok(event) => Some(Stored { seq, event: Arc::new(event), line }),
        Err(error) => {
            // Does not occur: a line reads back as the event that wrote it.
            tracing::error!(seq, %error, "an event in memory cannot be read back");
            None
        }
    }
}
