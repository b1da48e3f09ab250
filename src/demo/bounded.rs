//! A map of at most [`MAX_ENTRIES`]; the oldest entry makes room for the newest.

use std::collections::{BTreeMap, HashMap};

use super::state::MAX_ENTRIES;

/// See the module.
pub(super) struct Bounded<V> {
    next: u64,
    entries: HashMap<String, (u64, V)>,
    order: BTreeMap<u64, String>,
}

impl<V> Bounded<V> {
    pub(super) fn new() -> Bounded<V> {
        Bounded { next: 0, entries: HashMap::new(), order: BTreeMap::new() }
    }

    pub(super) fn get(&self, key: &str) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    pub(super) fn put(&mut self, key: String, value: V) {
        self.remove(&key);
        if self.entries.len() >= MAX_ENTRIES
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.next += 1;
        self.order.insert(self.next, key.clone());
        self.entries.insert(key, (self.next, value));
    }

    pub(super) fn remove(&mut self, key: &str) {
        if let Some((place, _)) = self.entries.remove(key) {
            self.order.remove(&place);
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.entries.retain(|_, (_, value)| keep(value));
        self.order.retain(|_, key| self.entries.contains_key(key));
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.order.values().filter_map(|key| Some((key.as_str(), self.get(key)?)))
    }
}
