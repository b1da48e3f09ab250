//! What the configuration says about keeping events: `durability:` and `retention:`.

use std::time::Duration;

use crate::config::node::{Node, clip, parse_duration};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};

/// The key `durability`.
pub const DURABILITY: Field = Field::new(
    "durability",
    Kind::Str,
    "interval 50ms",
    "when an event is on disk: `interval 50ms` commits all that came within that time together; `sync` also holds \
     the end of the answer until its event is there; `memory` keeps nothing on disk",
);

/// The key `retention`.
pub const RETENTION: Field =
    Field::new("retention", Kind::Map(FIELDS), "", "how long events are kept in the data folder");

/// The keys of `retention:`.
pub const FIELDS: &[Field] = &[
    Field::new("age", Kind::Duration, "90d", "events older than this go, once every sink is past them"),
    Field::new("size", Kind::Size, "2GB", "beyond this the oldest go, also those that a sink still waits for"),
];

/// The time within which events are committed together, if none is named.
pub const INTERVAL: Duration = Duration::from_millis(50);
/// The longest `interval`: so much may be lost in a crash.
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);
/// The smallest `size`: a block of events and its indexes must fit several times.
const SMALLEST_SIZE: u64 = 16 << 20;

/// When an event is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// At the latest so long after it came.
    Interval(Duration),
    /// Before the end of the answer that it came from is sent on.
    Sync,
    /// Never: a bounded ring in memory.
    Memory,
}

impl std::fmt::Display for Durability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Durability::Interval(every) => write!(f, "interval {}ms", every.as_millis()),
            Durability::Sync => f.write_str("sync"),
            Durability::Memory => f.write_str("memory"),
        }
    }
}

/// How long events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Events older than this go, but not before every sink is past them.
    pub age: Duration,
    /// The most bytes of the database; the hard bound.
    pub size: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { age: Duration::from_secs(90 * 86_400), size: 2_000_000_000 }
    }
}

/// Both keys together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolSettings {
    /// When an event is on disk.
    pub durability: Durability,
    /// How long it stays there.
    pub retention: Retention,
}

impl Default for SpoolSettings {
    fn default() -> Self {
        SpoolSettings { durability: Durability::Interval(INTERVAL), retention: Retention::default() }
    }
}

impl SpoolSettings {
    /// Reads `durability:` and `retention:`.
    pub fn check(durability: Option<&Node>, retention: Option<&Node>, problems: &mut Problems) -> SpoolSettings {
        let mut settings = SpoolSettings::default();
        if let Some(node) = durability
            && let Some(text) = node.str(problems)
        {
            match parse(text) {
                Some(found) => settings.durability = found,
                None => {
                    let message = format!("`{}` is no durability", clip(text));
                    problems.error_hint(node, message, "write `interval 50ms` (at most 10s), `sync` or `memory`");
                }
            }
        }
        let Some(map) = retention.and_then(|node| node.map(FIELDS, problems)) else { return settings };
        if let Some(age) = map.duration("age", problems) {
            settings.retention.age = age;
        }
        if let Some(size) = map.size("size", problems) {
            settings.retention.size = size;
            if size < SMALLEST_SIZE
                && let Some(at) = map.get("size")
            {
                problems.error_hint(at, "too small for the event store".into(), "write 16MiB or more");
            }
        }
        settings
    }
}

fn parse(text: &str) -> Option<Durability> {
    let mut words = text.split_whitespace();
    let found = match (words.next()?, words.next()) {
        ("sync", None) => Durability::Sync,
        ("memory", None) => Durability::Memory,
        ("interval", None) => Durability::Interval(INTERVAL),
        ("interval", Some(every)) => {
            Durability::Interval(parse_duration(every).filter(|every| *every <= LONGEST_INTERVAL)?)
        }
        _ => return None,
    };
    words.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_of_writing_a_durability_is_read_and_nothing_else() {
        assert_eq!(parse("interval"), Some(Durability::Interval(INTERVAL)));
        assert_eq!(parse("interval 20ms"), Some(Durability::Interval(Duration::from_millis(20))));
        assert_eq!(parse("sync"), Some(Durability::Sync));
        assert_eq!(parse("memory"), Some(Durability::Memory));
        for wrong in ["", "always", "interval 5", "interval 11s", "interval 50ms x", "sync 5ms"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        for durability in [Durability::Sync, Durability::Memory, Durability::Interval(INTERVAL)] {
            assert_eq!(parse(&durability.to_string()), Some(durability), "it is shown as it is written");
        }
    }
}
