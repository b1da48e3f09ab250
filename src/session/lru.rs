//! A bounded map by keyed hash that gives up what was not used for longest.
//!
//! One allocation for all entries, a list through them by index, and an index by hash. Every
//! operation takes constant time. It must never hold more than its capacity; whoever inserts into a
//! full one is told what went.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::Handle;

const NONE: u32 = u32::MAX;

/// Handles are keyed hashes already, which nobody outside can choose: their first bytes will do.
#[derive(Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            self.0 ^= u64::from(*byte) << (8 * (i % 8));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

struct Node<V> {
    key: Handle,
    older: u32,
    newer: u32,
    /// `None` in a free place.
    value: Option<V>,
}

/// The map.
pub struct Lru<V> {
    index: HashMap<Handle, u32, BuildHasherDefault<AsItIs>>,
    nodes: Vec<Node<V>>,
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
    capacity: usize,
}

impl<V> Lru<V> {
    /// An empty map that holds at most `capacity` entries, at least one.
    pub fn new(capacity: usize) -> Lru<V> {
        let capacity = capacity.clamp(1, NONE as usize - 1);
        Lru { index: HashMap::default(), nodes: Vec::new(), free: Vec::new(), oldest: NONE, newest: NONE, capacity }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Another capacity from now on; the longest unused go if there are too many.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity.clamp(1, NONE as usize - 1);
        while self.len() > self.capacity {
            self.pop_oldest();
        }
    }

    /// The entry, without counting as a use.
    pub fn get(&self, key: &Handle) -> Option<&V> {
        self.node(*self.index.get(key)?)?.value.as_ref()
    }

    /// The entry, which becomes the most recently used.
    pub fn touch(&mut self, key: &Handle) -> Option<&mut V> {
        let at = *self.index.get(key)?;
        self.unlink(at);
        self.link_newest(at);
        self.nodes.get_mut(at as usize)?.value.as_mut()
    }

    /// Puts an entry in, as the most recently used; answers the one that had to go for it, if one had to.
    pub fn insert(&mut self, key: Handle, value: V) -> Option<(Handle, V)> {
        if let Some(known) = self.touch(&key) {
            *known = value;
            return None;
        }
        let gone = if self.len() >= self.capacity { self.pop_oldest() } else { None };
        let node = Node { key, older: NONE, newer: NONE, value: Some(value) };
        let at = match self.free.pop() {
            Some(at) => {
                if let Some(place) = self.nodes.get_mut(at as usize) {
                    *place = node;
                }
                at
            }
            None => {
                // By half, and never beyond the capacity: doubling would waste up to half of it.
                if self.nodes.len() == self.nodes.capacity() {
                    let more = (self.nodes.len() / 2).max(16);
                    self.nodes.reserve_exact(more.min(self.capacity.saturating_sub(self.nodes.len())).max(1));
                }
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        self.index.insert(key, at);
        self.link_newest(at);
        gone
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &Handle) -> Option<V> {
        let at = self.index.remove(key)?;
        self.unlink(at);
        self.free.push(at);
        self.nodes.get_mut(at as usize)?.value.take()
    }

    /// The longest unused.
    pub fn oldest(&self) -> Option<(&Handle, &V)> {
        let node = self.node(self.oldest)?;
        Some((&node.key, node.value.as_ref()?))
    }

    /// Takes the longest unused out.
    pub fn pop_oldest(&mut self) -> Option<(Handle, V)> {
        let key = self.node(self.oldest)?.key;
        Some((key, self.remove(&key)?))
    }

    /// Every entry, the longest unused first.
    pub fn iter(&self) -> impl Iterator<Item = (&Handle, &V)> {
        let mut at = self.oldest;
        std::iter::from_fn(move || {
            let node = self.node(at)?;
            at = node.newer;
            Some((&node.key, node.value.as_ref()?))
        })
    }

    fn node(&self, at: u32) -> Option<&Node<V>> {
        self.nodes.get(at as usize)
    }

    fn unlink(&mut self, at: u32) {
        let Some((older, newer)) = self.node(at).map(|n| (n.older, n.newer)) else { return };
        match self.nodes.get_mut(older as usize) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
        match self.nodes.get_mut(newer as usize) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let before = self.newest;
        if let Some(node) = self.nodes.get_mut(at as usize) {
            (node.older, node.newer) = (before, NONE);
        }
        match self.nodes.get_mut(before as usize) {
            Some(node) => node.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn handle(n: u64) -> Handle {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        bytes[8..].copy_from_slice(&n.to_be_bytes());
        Handle(bytes)
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let mut lru = Lru::new(2);
        assert!(lru.insert(handle(1), 'a').is_none() && lru.insert(handle(2), 'b').is_none());
        assert!(lru.touch(&handle(1)).is_some());
        assert_eq!(lru.insert(handle(3), 'c'), Some((handle(2), 'b')));
        assert_eq!(lru.iter().map(|(_, v)| *v).collect::<String>(), "ac");
        assert_eq!(lru.remove(&handle(1)), Some('a'));
        assert_eq!(lru.oldest(), Some((&handle(3), &'c')));
        lru.insert(handle(4), 'd');
        lru.set_capacity(1);
        assert_eq!(lru.iter().map(|(_, v)| *v).collect::<String>(), "d");
    }

    #[test]
    fn a_million_strangers_leave_no_more_than_the_capacity() {
        let mut lru = Lru::new(1000);
        for n in 0..1_000_000 {
            lru.insert(handle(n), ());
        }
        assert_eq!((lru.len(), lru.nodes.len(), lru.nodes.capacity()), (1000, 1000, 1000));
        assert!(lru.iter().map(|(key, ())| *key).eq((999_000..1_000_000).map(handle)));
    }

    proptest! {
        /// Against a list that is searched: the same entries in the same order after whatever was done.
        #[test]
        fn it_does_what_a_plain_list_would(steps in prop::collection::vec((0..4_u8, 0..12_u64), 0..200), capacity in 1..8_usize) {
            let mut lru = Lru::new(capacity);
            let mut list: Vec<(u64, usize)> = Vec::new();
            for (step, (what, key)) in steps.into_iter().enumerate() {
                let at = list.iter().position(|(k, _)| *k == key);
                match what {
                    0 | 1 => {
                        lru.insert(handle(key), step);
                        if let Some(at) = at {
                            list.remove(at);
                        } else if list.len() == capacity {
                            list.remove(0);
                        }
                        list.push((key, step));
                    }
                    2 => {
                        prop_assert_eq!(lru.touch(&handle(key)).copied(), at.map(|at| list[at].1));
                        if let Some(at) = at {
                            let entry = list.remove(at);
                            list.push(entry);
                        }
                    }
                    _ => {
                        prop_assert_eq!(lru.remove(&handle(key)), at.map(|at| list.remove(at).1));
                    }
                }
                prop_assert_eq!(lru.len(), list.len());
                prop_assert!(lru.iter().map(|(k, v)| (*k, *v)).eq(list.iter().map(|(k, v)| (handle(*k), *v))));
            }
        }
    }
}
