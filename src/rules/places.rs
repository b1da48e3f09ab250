//! Which routes a path may belong to: one look, however many they are.
//!
//! It runs on the traffic path for every request, and must not allocate to say that there is none. The
//! invariant: a route whose path fits is never left out, and one whose pattern is not in the set is named by
//! [`Places::of`], to be asked by itself.

use std::collections::HashMap;

use regex::RegexSet;

use ends::Ends;

use super::path::PathPattern;
use super::route::Route;

mod ends;

/// How much the patterns of a set may take, compiled and while they are looked for, in bytes.
const SET: usize = 256 << 20;
const SEARCH: usize = 32 << 20;

/// An index over the paths of routes.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Routes by literal path, in order.
    exact: HashMap<String, Vec<u16>>,
    /// By the last byte of a literal path: bit `n` if one has `n` bytes, the last for all longer ones.
    /// Most paths are told by it without being hashed.
    endings: Endings,
    /// How paths begin and end that fit a pattern.
    ends: Ends,
    /// Patterns looked for at once.
    patterns: RegexSet,
    /// The route each of them belongs to.
    owners: Vec<u16>,
}

#[derive(Debug)]
struct Endings(Box<[u64; 256]>);

impl Default for Endings {
    fn default() -> Self {
        Endings(Box::new([0; 256]))
    }
}

impl Endings {
    fn place(path: &str) -> (usize, u64) {
        (path.as_bytes().last().map_or(0, |last| usize::from(*last)), 1 << path.len().min(63))
    }

    fn add(&mut self, path: &str) {
        let (last, length) = Endings::place(path);
        self.0[last] |= length;
    }

    fn may_have(&self, path: &str) -> bool {
        let (last, length) = Endings::place(path);
        self.0[last] & length != 0
    }
}

impl Places {
    /// Those of these routes. Answers too whose patterns are too much for one set: they are in none.
    pub fn of<'r>(routes: impl Iterator<Item = (u16, &'r Route)>) -> (Places, Vec<u16>) {
        let mut places = Places::default();
        let mut sources = Vec::new();
        for (i, path) in routes.flat_map(|(i, route)| route.paths.iter().map(move |path| (i, path))) {
            sources.push(match path {
                PathPattern::Exact(path) => {
                    places.endings.add(path);
                    places.exact.entry(path.clone()).or_default().push(i);
                    continue;
                }
                PathPattern::Prefix(prefix) => format!("^{}", regex::escape(prefix)),
                PathPattern::Regex { regex, .. } => regex.as_str().to_owned(),
            });
            places.owners.push(i);
        }
        sources.iter().for_each(|source| places.ends.add(source));
        match regex::RegexSetBuilder::new(&sources).size_limit(SET).dfa_size_limit(SEARCH).build() {
            Ok(patterns) => (Places { patterns, ..places }, Vec::new()),
            // Each compiled alone.
            Err(_) => {
                let owners = std::mem::take(&mut places.owners);
                (places, owners)
            }
        }
    }

    /// The routes that name this path, in order.
    pub fn exact(&self, path: &str) -> &[u16] {
        match self.endings.may_have(path) {
            true => self.exact.get(path).map_or(&[], Vec::as_slice),
            false => &[],
        }
    }

    /// True if the path fits one of the patterns.
    pub fn fits(&self, path: &str) -> bool {
        self.ends.may_fit(path) && self.patterns.is_match(path)
    }

    /// The patterns that say neither how a path begins nor how it ends.
    #[cfg(test)]
    pub fn loose(&self) -> Vec<&str> {
        self.patterns.patterns().iter().map(String::as_str).filter(|pattern| ends::is_loose(pattern)).collect()
    }

    /// The routes whose patterns the path fits.
    pub fn patterned(&self, path: &str) -> impl Iterator<Item = u16> {
        self.patterns.matches(path).into_iter().filter_map(|hit| self.owners.get(hit).copied())
    }
}
