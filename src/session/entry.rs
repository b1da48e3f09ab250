//! One remembered value, and its bytes as the snapshot and other replicas read them.

use super::packed::Packed;
use super::{Over, Shown};

/// One remembered value: about 30 bytes beside the actor's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whose it is.
    pub actor: Packed,
    /// What events show of it.
    pub shown: Shown,
    /// Seconds since the Unix epoch.
    pub used: u32,
    /// A further value of a session that has another: its end is no session's end.
    pub further: bool,
}

impl Entry {
    /// True if the other one says the same, whenever it was used.
    pub fn is_but_for_its_use(&self, other: &Entry) -> bool {
        let Entry { actor, shown, used: _, further } = self;
        (actor, shown, further) == (&other.actor, &other.shown, &other.further)
    }

    /// What is told of it when it is over.
    pub fn over(&self) -> Over {
        Over { actor: self.actor.actor(), shown: self.shown }
    }

    /// What events show, when it was used, whether it is a further value, whose it is.
    pub fn to_bytes(&self) -> Vec<u8> {
        let used = self.used.to_le_bytes();
        [&self.shown.0[..], &used, &[u8::from(self.further)], self.actor.as_bytes()].concat()
    }

    /// `None` if they are no entry.
    pub fn from_bytes(bytes: &[u8]) -> Option<Entry> {
        let (shown, rest) = bytes.split_first_chunk::<8>()?;
        let (used, rest) = rest.split_first_chunk::<4>()?;
        let ([further], rest) = rest.split_first_chunk::<1>()?;
        Some(Entry {
            actor: Packed::from_bytes(rest)?,
            shown: Shown(*shown),
            used: u32::from_le_bytes(*used),
            further: *further != 0,
        })
    }
}
