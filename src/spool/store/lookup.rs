//! Names and addresses of one block of events, gathered while they come, so that they are written once
//! and together; and how they are found again.
//!
//! A block's names are 64 texts and its addresses 64 more, each name and address in the one that its hash
//! chooses: a question for a person reads one text of a few kilobytes a block, and a block costs 128 rows,
//! where a row for each name would cost as much as the events themselves. A text is the
//! inside of a list in JSON, `["alice",17],["bob",23]`, so that SQL can read it as well (`docs/store.md`);
//! numbers are positions within the block, addresses 32 hexadecimal digits.
//!
//! It must never be taken for the truth: what it does not have (a process that began within the block, a
//! turn that failed) is read from the events. The invariant: [`Lookup::parts`] answers for a block only
//! if every event since `first` was seen.

use std::net::IpAddr;

use super::Stored;
use super::db::{address_key, names};
use super::schema::BLOCK;
use crate::event::json;

/// Texts of names in a block; of addresses there are as many, which come after them.
const PARTS: usize = 64;

/// What is found by a name or an address of one block.
pub(super) struct Lookup {
    block: u64,
    /// The first position that was seen.
    first: u64,
    parts: Vec<String>,
}

impl Default for Lookup {
    fn default() -> Lookup {
        Lookup { block: 0, first: 0, parts: vec![String::new(); 2 * PARTS] }
    }
}

/// Where a name, in lower case, is written: the number of the part, and how its entries begin.
pub fn place_of_name(name: &str) -> (usize, String) {
    (part(name.as_bytes()), begin(name))
}

/// Where an address is written (see [`address_key`]).
pub fn place_of_address(key: [u8; 16]) -> (usize, String) {
    (PARTS + part(&key), begin(&String::from_utf8_lossy(&hexadecimal(key))))
}

/// The parts that hold names.
pub fn parts_of_names() -> std::ops::Range<usize> {
    0..PARTS
}

/// The parts that hold addresses.
pub fn parts_of_addresses() -> std::ops::Range<usize> {
    PARTS..2 * PARTS
}

/// Positions within the block of all entries that begin so.
pub fn found<'e>(entries: &'e str, begin: &'e str) -> impl Iterator<Item = u64> + 'e {
    // A quote within a name is escaped, so this stands nowhere else.
    memchr::memmem::find_iter(entries.as_bytes(), begin.as_bytes()).filter_map(move |at| {
        let rest = entries.get(at.checked_add(begin.len())?..)?;
        rest.split_once(']')?.0.parse().ok()
    })
}

/// Every entry: a name, or an address in hexadecimal, and its position within the block. What cannot be
/// read has none.
pub fn each(entries: &str) -> Vec<(String, u64)> {
    serde_json::from_str(&format!("[{entries}]")).unwrap_or_default()
}

impl Lookup {
    /// Takes in an event that was written. What is held of another block is forgotten.
    pub fn add(&mut self, stored: &Stored) {
        let block = stored.seq / BLOCK;
        if block != self.block || self.first == 0 {
            // The room stays: the next block has about as many names. 4096 events with five names of a
            // kilobyte each are 20 MB.
            (self.block, self.first) = (block, stored.seq);
            self.parts.iter_mut().for_each(String::clear);
        }
        names(&stored.event, |name| self.put(part(name.as_bytes()), name, stored.seq));
        if let Some(ip) = stored.event.metadata.ip_address {
            self.add_address(ip, stored.seq);
        }
    }

    fn add_address(&mut self, ip: IpAddr, seq: u64) {
        let key = address_key(ip);
        let digits = hexadecimal(key);
        self.put(PARTS + part(&key), std::str::from_utf8(&digits).unwrap_or_default(), seq);
    }

    fn put(&mut self, part: usize, key: &str, seq: u64) {
        let Some(entries) = self.parts.get_mut(part) else { return };
        entries.push_str(if entries.is_empty() { "[" } else { ",[" });
        json::text(entries, key);
        entries.push(',');
        json::whole(entries, seq % BLOCK);
        entries.push(']');
    }

    /// The parts of a block that hold something, by number, if all of it was seen from `first` on.
    pub fn parts(&self, block: u64, first: u64) -> Option<impl Iterator<Item = (usize, &str)>> {
        if self.block != block || self.first == 0 || self.first > first {
            return None;
        }
        Some(self.parts.iter().map(String::as_str).enumerate().filter(|(_, entries)| !entries.is_empty()))
    }
}

/// How an entry of this key begins: as [`Lookup::put`] writes it.
fn begin(key: &str) -> String {
    let mut begin = String::from("[");
    json::text(&mut begin, key);
    begin.push(',');
    begin
}

/// FNV-1a, folded to the number of parts: stable for ever, as files remember what it said. Somebody who
/// chooses names that share a part makes a text longer, which is read once, and nothing quadratic.
fn part(key: &[u8]) -> usize {
    let hash = key.iter().fold(0x811c_9dc5_u32, |hash, b| (hash ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    (hash ^ hash >> 16) as usize % PARTS
}

fn hexadecimal(key: [u8; 16]) -> [u8; 32] {
    let mut digits = [0; 32];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(key) {
        let digit = |n: u8| if n < 10 { b'0' + n } else { b'a' + n - 10 };
        *pair = [digit(byte >> 4), digit(byte & 0xf)];
    }
    digits
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::event::{Text, sample};

    proptest! {
        #[test]
        fn each_name_is_found_where_it_was_put_and_nowhere_else(users in prop::collection::vec(r#"[a-cA-C"\\\[\],é1 ]{1,6}"#, 1..60)) {
            let mut lookup = Lookup::default();
            let events: Vec<_> = users.iter().map(|user| sample::login(user)).collect();
            for (seq, event) in (BLOCK..).zip(&events) {
                lookup.add(&Stored { seq, event: Arc::new(event.clone()), line: "".into() });
            }
            prop_assert!(lookup.parts(1, BLOCK - 1).is_none() && lookup.parts(2, BLOCK).is_none());
            let parts: Vec<(usize, &str)> = lookup.parts(1, BLOCK).into_iter().flatten().collect();
            for asked in users.iter().filter_map(|user| Text::identifier(user)) {
                let asked = asked.as_str().to_lowercase();
                let (part, begin) = place_of_name(&asked);
                let entries = parts.iter().find(|(number, _)| *number == part).map_or("", |(_, entries)| *entries);
                let by_name: Vec<u64> = found(entries, &begin).collect();
                let same = |event: &crate::event::Event| event.actor.login.as_ref().is_some_and(|l| l.as_str().to_lowercase() == asked);
                let expected: Vec<u64> = (0..).zip(&events).filter(|(_, event)| same(event)).map(|(at, _)| at).collect();
                prop_assert_eq!(&by_name, &expected);
                let read: Vec<u64> = each(entries).into_iter().filter(|(name, _)| *name == asked).map(|(_, at)| at).collect();
                prop_assert_eq!(&read, &expected);
            }
            let (part, begin) = place_of_address(address_key("203.0.113.42".parse().unwrap()));
            let entries = parts.iter().find(|(number, _)| *number == part).map_or("", |(_, entries)| *entries);
            prop_assert_eq!(found(entries, &begin).count(), events.len());
        }
    }

    #[test]
    fn the_part_of_a_name_is_what_files_of_before_have() {
        assert_eq!(["alice", "bob", "", "ü"].map(|name| place_of_name(name).0), [5, 18, 25, 23]);
    }
}
