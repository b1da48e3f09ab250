//! Where events wait for their sinks.
//!
//! A spool is an append-only sequence with positions. Whoever reads it (a sink's delivery loop, a
//! person's `tail`) keeps a position of its own and asks for what comes after it; a slow reader
//! delays nobody else. What the spool had to give up before a reader came is told to that reader
//! as a number, never passed over in silence.
//!
//! [`store::EventStore`] keeps events, the sinks' positions and dead letters in a database in the
//! data folder; [`memory::MemorySpool`] is a bounded ring that ends with the process.

pub mod memory;
pub mod settings;
pub mod store;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::event::{Event, Timestamp};

#[cfg(test)]
pub(crate) mod sample;

/// An event with its place in the spool.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Position, from 1, without gaps.
    pub seq: u64,
    /// The event.
    pub event: Arc<Event>,
    /// The event as one line of JSON, without the line end; made once for all readers.
    pub line: Arc<str>,
}

/// What a reader gets.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Events in order of `seq`.
    pub events: Vec<Stored>,
    /// How many events between the reader's position and the first of these are gone for ever.
    pub skipped: u64,
}

/// What a sink has dealt with since it last said so.
#[derive(Clone, Debug, Default)]
pub struct Ack {
    /// The sink's name.
    pub sink: String,
    /// Everything up to here is dealt with.
    pub position: u64,
    /// Events that are with the receiver.
    pub delivered: u64,
    /// Events the sink does not want.
    pub filtered: u64,
    /// Events that were given up before it came to them.
    pub skipped: u64,
    /// Events the receiver refused for good, and why: they become dead letters.
    pub refused: Vec<(Stored, String)>,
    /// Dead letters, by [`DeadLetter::id`], that are dealt with after all.
    pub settled: Vec<i64>,
    /// True if no dead letter waits to be sent again any more.
    pub dead_letters_done: bool,
}

/// An event that a receiver refused for good.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Its place among the dead letters.
    pub id: i64,
    /// The event.
    pub stored: Stored,
    /// What the receiver said.
    pub reason: String,
}

/// What waits behind a position.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Backlog {
    /// Events.
    pub events: u64,
    /// Bytes of their lines; to a block of events exact.
    pub bytes: u64,
    /// How long the oldest of them has waited; to a block of events exact.
    pub age: Duration,
}

/// Becomes ready when something is on disk, or when it is clear that it will not be.
#[derive(Debug, Default)]
pub struct Written(Option<oneshot::Receiver<()>>);

impl Written {
    /// Ready at once: nothing is to be written.
    pub fn already() -> Written {
        Written(None)
    }

    /// Ready when the sender is used or dropped.
    pub fn when(receiver: oneshot::Receiver<()>) -> Written {
        Written(Some(receiver))
    }

    /// Waits. A store that fails ends the wait too: it must not hold anybody up.
    pub async fn wait(self) {
        if let Some(receiver) = self.0 {
            let _ = receiver.await;
        }
    }

    /// The same on a thread that may block.
    pub fn wait_blocking(self) {
        if let Some(receiver) = self.0 {
            let _ = receiver.blocking_recv();
        }
    }
}

/// An append-only, bounded sequence of events with independent readers.
pub trait Spool: Send + Sync {
    /// Appends in order. Never waits for a reader or a disk: the oldest are given up when the
    /// bound is hit.
    fn append(&self, events: Vec<Event>) {
        self.append_shared(events.into_iter().map(Arc::new).collect());
    }

    /// The same, of events that are where they stay.
    fn append_shared(&self, events: Vec<Arc<Event>>);

    /// At most `max` events after position `after`. May read a file.
    fn read(&self, after: u64, max: usize) -> Batch;

    /// The same, if memory alone can answer.
    fn recent(&self, after: u64, max: usize) -> Option<Batch> {
        Some(self.read(after, max))
    }

    /// The position of the newest event that can be read; 0 if there was none yet.
    fn newest(&self) -> u64;

    /// The position before the oldest event still held.
    fn before_oldest(&self) -> u64;

    /// A watch that changes whenever something can be read; its value is [`Spool::newest`].
    fn appended(&self) -> tokio::sync::watch::Receiver<u64>;

    /// True if what a sink did not take is still there after a restart.
    fn outlives_the_process(&self) -> bool {
        false
    }

    /// Waits a moment while more is appended than can be written: called by the pipeline, which may
    /// wait, so that a burst stays in the queue of exchanges instead of being lost. Bounded.
    fn make_room(&self) {}

    /// The position after which everything came in this process.
    fn beginning(&self) -> u64 {
        0
    }

    /// The position from which a sink of this name goes on: where it was, or `otherwise` if the
    /// name is new.
    fn resume(&self, _sink: &str, otherwise: u64) -> u64 {
        otherwise
    }

    /// These sinks, and no others, are waited for by retention.
    fn wait_for(&self, _sinks: &[String]) {}

    /// Notes what a sink has dealt with.
    fn acknowledge(&self, _ack: Ack) -> Written {
        Written::already()
    }

    /// Ready when everything appended so far is on disk.
    fn on_disk(&self) -> Written {
        Written::already()
    }

    /// Uses these when everything appended so far is on disk; drops them if it will not be.
    fn when_on_disk(&self, tell: Vec<oneshot::Sender<()>>) {
        drop(tell);
    }

    /// What waits behind a position.
    fn backlog(&self, after: u64) -> Backlog {
        Backlog { events: self.newest().saturating_sub(after), ..Backlog::default() }
    }

    /// The position before the first event that may be as young as `since`. May read a file.
    fn position_at(&self, _since: Timestamp) -> u64 {
        self.before_oldest()
    }

    /// Moves a sink's position, for a replay; its next batch is read from there.
    fn rewind(&self, _sink: &str, _position: u64, _dead_letters: bool) {}

    /// True if a replay of this sink's dead letters was asked for and has not ended.
    fn wants_dead_letters(&self, _sink: &str) -> bool {
        false
    }

    /// At most `max` dead letters of a sink after `id`. May read a file.
    fn dead_letters(&self, _sink: &str, _after: i64, _max: usize) -> Vec<DeadLetter> {
        Vec::new()
    }

    /// Why events are not on disk at present, though they should be; `None` if all is well.
    fn degraded(&self) -> Option<String> {
        None
    }

    /// Writes what is left and ends. Bounded in time.
    fn close(&self) {}
}
