//! Sortable unique ids (RFC 9562 section 5.7, UUID version 7).

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{LazyLock, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Timestamp;

/// The stable id of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

/// What the last id was made of.
struct Last {
    millis: u64,
    /// Counts up within a millisecond, from a number at random: 42 bits.
    count: u64,
    /// Ids made so far: what is at random is its keyed hash.
    made: u64,
    key: RandomState,
}

impl Last {
    /// A new id at this moment, or at that of the last where the clock went back (RFC 9562 section 6.2,
    /// method 1).
    fn next(&mut self, now: u64) -> EventId {
        let random = self.key.hash_one(self.made);
        self.made = self.made.wrapping_add(1);
        self.count += 1;
        if now > self.millis || self.count >= 1 << 42 {
            self.millis = now.max(self.millis + u64::from(now <= self.millis));
            // Its highest bit is left free, so that there is room to count.
            self.count = random >> 32 << 9;
        }
        let moment = u128::from(self.millis & 0xffff_ffff_ffff) << 80;
        let (high, low) = (u128::from(self.count >> 30), u128::from(self.count & 0x3fff_ffff));
        // The version, and the variant of RFC 9562 section 4.
        let fixed = 7 << 76 | 2 << 62;
        EventId(Uuid::from_u128(moment | fixed | high << 64 | low << 32 | u128::from(random as u32)))
    }
}

impl EventId {
    /// A new id; ids of one process sort in the order they were made. By hand, as the library asks the
    /// kernel for random bytes each time.
    pub fn new() -> EventId {
        static LAST: LazyLock<Mutex<Last>> =
            LazyLock::new(|| Mutex::new(Last { millis: 0, count: 0, made: 0, key: RandomState::new() }));
        let now = u64::try_from(Timestamp::now().as_millis()).unwrap_or(0);
        // Valid after every statement.
        LAST.lock().unwrap_or_else(PoisonError::into_inner).next(now)
    }

    /// The id in its usual form, written into `room`.
    pub(super) fn write_to(self, room: &mut [u8; 36]) -> &str {
        self.0.hyphenated().encode_lower(room)
    }
}

impl Default for EventId {
    fn default() -> Self {
        EventId::new()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last() -> Last {
        Last { millis: 0, count: 0, made: 0, key: RandomState::new() }
    }

    #[test]
    fn an_id_is_of_version_7_and_says_its_moment() {
        let EventId(id) = last().next(1_768_469_537_123);
        assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
        assert_eq!(id.get_timestamp().map(|t| t.to_unix()), Some((1_768_469_537, 123_000_000)));
        let now = Timestamp::now().as_millis();
        let (seconds, nanos) = EventId::new().0.get_timestamp().unwrap().to_unix();
        assert!((seconds as i64 * 1000 + i64::from(nanos) / 1_000_000 - now).abs() < 60_000);
    }

    #[test]
    fn ids_sort_as_they_were_made_also_while_the_clock_stands_or_goes_back() {
        let mut last = last();
        let mut before = last.next(1000);
        for now in [1000, 1000, 1001, 5, 900, 1001, 1002, 1002, 1001] {
            let id = last.next(now);
            assert!(id > before, "{id} after {before}");
            before = id;
        }
        // As many as a millisecond has room for: the next one begins.
        last.count = (1 << 42) - 1;
        assert!(last.next(1002) > before && last.millis == 1003);
    }

    #[test]
    fn ids_of_two_processes_of_one_moment_differ() {
        let (mut one, mut other) = (last(), last());
        let ids: std::collections::HashSet<EventId> =
            (0..1000).flat_map(|n| [one.next(1000 + n / 9), other.next(1000 + n / 9)]).collect();
        assert_eq!(ids.len(), 2000);
    }
}
