//! How many events a sink is given at once, and sends at once: `batch:`.
//!
//! A sink is given what `batch:` says, or [`MAX_EVENTS`]. What a receiver takes in one request is
//! often less: there the sink cuts what it is given, by `batch:` if it says something, else by what is
//! usual for that receiver.

use std::time::Duration;

use crate::config::node::Node;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::sinks::http::parts::Limits;
use crate::spool::Stored;

/// The most events a sink is given at once, unless `batch:` says otherwise.
pub const MAX_EVENTS: usize = 500;
/// The most bytes of lines it is given at once.
const MAX_BYTES: usize = 4 << 20;

/// The keys of `batch:`.
const FIELDS: &[Field] = &[
    Field::new(
        "max_events",
        Kind::Int(1, 10_000),
        "500",
        "the most events at once; in one request what is usual for the receiver, unless it is written",
    ),
    Field::new(
        "max_bytes",
        Kind::Size,
        "4MiB",
        "the most bytes of JSON at once, likewise; a single event may have more",
    ),
    Field::new("max_wait", Kind::Duration, "0", "how long to wait for a batch to fill up (at most 1h)"),
];

/// What stands under `batch:`.
pub const KIND: Kind = Kind::Named("sink_batch", || &Kind::Map(FIELDS));

/// The limits of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Events.
    pub max_events: usize,
    /// Bytes of their lines; the first event always fits.
    pub max_bytes: usize,
    /// How long to wait for more.
    pub max_wait: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        BatchLimits { max_events: MAX_EVENTS, max_bytes: MAX_BYTES, max_wait: Duration::ZERO }
    }
}

/// What `batch:` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    events: Option<usize>,
    bytes: Option<usize>,
    wait: Option<Duration>,
}

impl Batch {
    /// Reads `batch:`.
    pub fn check(node: Option<&Node>, problems: &mut Problems) -> Batch {
        let Some(map) = node.and_then(|node| node.map(FIELDS, problems)) else { return Batch::default() };
        Batch {
            events: map.int("max_events", 1..=10_000, problems).and_then(|n| usize::try_from(n).ok()),
            bytes: map.size("max_bytes", problems).map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            wait: map.duration("max_wait", problems).map(|wait| wait.min(Duration::from_secs(3600))),
        }
    }

    /// What the sink is given at once.
    pub fn given(&self) -> BatchLimits {
        BatchLimits {
            max_events: self.events.unwrap_or(MAX_EVENTS),
            max_bytes: self.bytes.unwrap_or(MAX_BYTES),
            max_wait: self.wait.unwrap_or_default(),
        }
    }

    /// What it sends at once, if this much is usual for its receiver.
    pub fn sent(&self, usual: Limits) -> Limits {
        Limits { events: self.events.unwrap_or(usual.events), bytes: self.bytes.unwrap_or(usual.bytes) }
    }
}

impl BatchLimits {
    /// Cuts a batch to its bytes; one event stays whatever it has.
    pub fn cut(&self, events: &mut Vec<Stored>) {
        let mut bytes = 0_usize;
        let fits = events.iter().take_while(|one| {
            bytes = bytes.saturating_add(one.line.len());
            bytes <= self.max_bytes
        });
        let fits = fits.count().max(1);
        events.truncate(fits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::sample::stored;

    #[test]
    fn a_batch_is_cut_to_its_bytes_and_never_to_nothing() {
        let one = stored(1, "alice").line.len();
        let batch = |max_bytes| {
            let mut events: Vec<Stored> = (1..=5).map(|seq| stored(seq, "alice")).collect();
            BatchLimits { max_bytes, ..BatchLimits::default() }.cut(&mut events);
            events.len()
        };
        assert_eq!([batch(0), batch(one), batch(one * 3 + 1), batch(one * 50)], [1, 1, 3, 5]);
    }
}
