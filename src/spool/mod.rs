//! Where events wait for their sinks.
//!
//! A spool is an append-only sequence with positions. Whoever reads it (a sink's delivery loop, a
//! person's `tail`) keeps a position of its own and asks for what comes after it; a slow reader
//! delays nobody else. What the spool had to give up before a reader came is told to that reader
//! as a number, never passed over in silence.
//!
//! [`memory::MemorySpool`] is a bounded ring; a durable store takes its place behind the same
//! trait without moving a wall.

pub mod memory;

use std::sync::Arc;

use crate::event::Event;

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

/// An append-only, bounded sequence of events with independent readers.
pub trait Spool: Send + Sync {
    /// Appends in order. Never waits for a reader: the oldest are given up when the bound is hit.
    fn append(&self, events: Vec<Event>);

    /// At most `max` events after position `after`.
    fn read(&self, after: u64, max: usize) -> Batch;

    /// The position of the newest event; 0 if there was none yet.
    fn newest(&self) -> u64;

    /// The position before the oldest event still held.
    fn before_oldest(&self) -> u64;

    /// A watch that changes whenever something was appended; its value is [`Spool::newest`].
    fn appended(&self) -> tokio::sync::watch::Receiver<u64>;
}
