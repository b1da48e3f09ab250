//! Names and addresses of the newest block's events, until the block is whole.
//!
//! Written with each event, they would touch nearly every page of the block's indexes in every commit,
//! which cost more than the events themselves. Sorted, and once for a whole block, each page is written
//! once. What is not in the indexes yet is found by reading it: the events of one block at most. It must
//! never hold more than one block. The invariant: [`Lookup::rows`] answers for a block only if it has
//! seen every one of its events; else the file is read.

use super::super::Stored;
use super::db::{address_key, names};
use super::schema::BLOCK;

/// What is found by a name or an address of one block.
#[derive(Default)]
pub(super) struct Lookup {
    block: u64,
    /// The first position that was seen.
    first: u64,
    /// All names, one after another.
    text: String,
    /// Where a name stands in `text`, and whose it is.
    names: Vec<(u32, u32, u64)>,
    addresses: Vec<([u8; 16], u64)>,
}

/// The rows of a whole block, sorted as its indexes are.
pub(super) struct Rows<'l> {
    lookup: &'l Lookup,
}

impl Lookup {
    /// Takes in an event that was written. What is held of another block is forgotten.
    pub fn add(&mut self, stored: &Stored) {
        let block = stored.seq / BLOCK;
        if block != self.block || self.first == 0 {
            // The room stays: the next block has about as many names.
            (self.block, self.first) = (block, stored.seq);
            self.text.clear();
            self.names.clear();
            self.addresses.clear();
        }
        for name in names(&stored.event) {
            let place = (u32::try_from(self.text.len()), u32::try_from(name.len()));
            // 4096 events with five names of a kilobyte each are 20 MB.
            let (Ok(start), Ok(length)) = place else { continue };
            self.names.push((start, length, stored.seq));
            self.text.push_str(&name);
        }
        self.addresses.extend(stored.event.metadata.ip_address.map(|ip| (address_key(ip), stored.seq)));
    }

    /// The rows of a block, if all of it was seen from `first` on.
    pub fn rows(&mut self, block: u64, first: u64) -> Option<Rows<'_>> {
        if self.block != block || self.first == 0 || self.first > first {
            return None;
        }
        let text = &self.text;
        self.names.sort_unstable_by(|one, other| (name(text, one), one.2).cmp(&(name(text, other), other.2)));
        self.addresses.sort_unstable();
        Some(Rows { lookup: self })
    }
}

impl Rows<'_> {
    /// Each name with the position of its event.
    pub fn names(&self) -> impl Iterator<Item = (&str, u64)> {
        self.lookup.names.iter().map(|entry| (name(&self.lookup.text, entry), entry.2))
    }

    /// Each address with the position of its event.
    pub fn addresses(&self) -> impl Iterator<Item = ([u8; 16], u64)> {
        self.lookup.addresses.iter().copied()
    }
}

fn name<'t>(text: &'t str, (start, length, _): &(u32, u32, u64)) -> &'t str {
    let start = *start as usize;
    text.get(start..start.saturating_add(*length as usize)).unwrap_or_default()
}
