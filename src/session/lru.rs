//! A bounded map by keyed hash that gives up what was not used for longest.
//!
//! One allocation for all entries, a list through them by index, and an index by hash. Every
//! operation takes constant time. It must never hold more than its capacity; whoever inserts into a
//! full one is told what went.

use super::Handle;

const NONE: u32 = u32::MAX;

/// Where entries stand, by hash: open addressing with linear probing, four bytes a slot. The keys
/// stand in the entries alone; in a usual map they would stand twice, a fifth of the whole memory.
struct Index {
    /// Places, or [`NONE`]; the length is a power of two, or zero.
    slots: Vec<u32>,
    len: usize,
}

/// The slot where the search for a key begins. Handles are keyed hashes already, which nobody
/// outside can choose; the product spreads whatever else is used as a key.
fn home(key: &Handle, mask: usize) -> usize {
    let (first, _) = key.0.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    (u64::from_be_bytes(*first).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask
}

impl Index {
    fn mask(&self) -> usize {
        self.slots.len().wrapping_sub(1)
    }

    /// The slot of a key and the place it names.
    fn find<V>(&self, key: &Handle, nodes: &[Node<V>]) -> Option<(usize, u32)> {
        let mask = self.mask();
        // At most seven eighths are taken, so that a free slot ends every search.
        let mut slot = home(key, mask);
        loop {
            let place = *self.slots.get(slot)?;
            if nodes.get(place as usize)?.key == *key {
                return Some((slot, place));
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Adds a key that is not there.
    fn add<V>(&mut self, place: u32, nodes: &[Node<V>]) {
        if (self.len + 1) * 8 > self.slots.len() * 7 {
            let size = (self.slots.len() * 2).max(16);
            let before = std::mem::replace(&mut self.slots, vec![NONE; size]);
            before.into_iter().filter(|place| *place != NONE).for_each(|place| self.put(place, nodes));
        }
        self.put(place, nodes);
        self.len += 1;
    }

    fn put<V>(&mut self, place: u32, nodes: &[Node<V>]) {
        let Some(node) = nodes.get(place as usize) else { return };
        let mask = self.mask();
        let mut slot = home(&node.key, mask);
        while let Some(taken) = self.slots.get_mut(slot) {
            if *taken == NONE {
                *taken = place;
                return;
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Takes a key away, and moves up those that were pushed on by it.
    fn take<V>(&mut self, key: &Handle, nodes: &[Node<V>]) -> Option<u32> {
        let (mut hole, place) = self.find(key, nodes)?;
        let mask = self.mask();
        let mut slot = hole;
        loop {
            slot = (slot + 1) & mask;
            let Some(node) = self.slots.get(slot).and_then(|place| nodes.get(*place as usize)) else { break };
            // It may move to the hole if that is no nearer to its home's front than its home.
            let from_home = slot.wrapping_sub(home(&node.key, mask)) & mask;
            if from_home >= slot.wrapping_sub(hole) & mask {
                self.slots.swap(hole, slot);
                hole = slot;
            }
        }
        if let Some(free) = self.slots.get_mut(hole) {
            *free = NONE;
        }
        self.len -= 1;
        Some(place)
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
    index: Index,
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
        Lru {
            index: Index { slots: Vec::new(), len: 0 },
            nodes: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            capacity,
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.index.len
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.index.len == 0
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
        self.node(self.index.find(key, &self.nodes)?.1)?.value.as_ref()
    }

    /// The entry, which becomes the most recently used.
    pub fn touch(&mut self, key: &Handle) -> Option<&mut V> {
        let (_, at) = self.index.find(key, &self.nodes)?;
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
        self.index.add(at, &self.nodes);
        self.link_newest(at);
        gone
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &Handle) -> Option<V> {
        let at = self.index.take(key, &self.nodes)?;
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
pub(crate) mod tests {
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

    /// How many strangers a test of bounds invents: all of the million where it is quick.
    pub(crate) const STRANGERS: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };

    #[test]
    fn a_million_strangers_leave_no_more_than_the_capacity() {
        let mut lru = Lru::new(1000);
        for n in 0..STRANGERS {
            lru.insert(handle(n), ());
        }
        assert_eq!((lru.len(), lru.nodes.len(), lru.nodes.capacity()), (1000, 1000, 1000));
        assert!(lru.iter().map(|(key, ())| *key).eq((STRANGERS - 1000..STRANGERS).map(handle)));
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
