//! How many events a sink is given at once: `batch:`.

use std::time::Duration;

use crate::config::node::Node;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::spool::Stored;

/// The most events a sink is given at once, unless `batch:` says otherwise.
pub const MAX_EVENTS: usize = 500;
/// The most bytes of lines it is given at once.
const MAX_BYTES: usize = 4 << 20;

/// The keys of `batch:`.
pub const FIELDS: &[Field] = &[
    Field::new("max_events", Kind::Int(1, 10_000), "500", "the most events at once"),
    Field::new("max_bytes", Kind::Size, "4MiB", "the most bytes of JSON at once; a single event may have more"),
    Field::new("max_wait", Kind::Duration, "0", "how long to wait for a batch to fill up (at most 1h)"),
];

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

impl BatchLimits {
    /// Reads `batch:`.
    pub fn check(node: Option<&Node>, problems: &mut Problems) -> BatchLimits {
        let mut limits = BatchLimits::default();
        let Some(map) = node.and_then(|node| node.map(FIELDS, problems)) else { return limits };
        if let Some(events) = map.int("max_events", 1..=10_000, problems) {
            limits.max_events = usize::try_from(events).unwrap_or(MAX_EVENTS);
        }
        if let Some(bytes) = map.size("max_bytes", problems) {
            limits.max_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        }
        if let Some(wait) = map.duration("max_wait", problems) {
            limits.max_wait = wait.min(Duration::from_secs(3600));
        }
        limits
    }

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
