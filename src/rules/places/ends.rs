//! Whether a path can fit any of many patterns at all, told by how it begins and ends.
//!
//! Running the automaton of all patterns over a path costs some hundred instructions, and nearly every path
//! fits none. But nearly every pattern demands a word where the path begins (`/users/{id}`) or where it ends
//! (`/{scope}/password`): two bytes of each are noted here, and a path with neither is not looked at further.
//! Of a few others a word is sought that lies between.
//!
//! It runs on the traffic path for every request. The invariant: a path that fits a pattern is never denied.

use memchr::memmem::Finder;
use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Hir, HirKind, Look};

/// So many words are sought in each path; the automaton is quicker than more.
const WORDS: usize = 4;
/// The length of a word that tells something.
const TELLING: usize = 3;

/// Beginnings and ends of paths.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// By the second byte of a path (the first is a slash): a bit for the third.
    begin: Option<Bits>,
    /// By its last byte: a bit for the one before.
    end: Option<Bits>,
    /// A word within it.
    words: Vec<Finder<'static>>,
    /// Some pattern demands none of these.
    any: bool,
}

type Bits = Box<[u64; 256]>;

/// Two bytes that are demanded: where to look, and the bit.
type Pair = (usize, u64);

fn pair(first: u8, second: u8) -> Pair {
    (usize::from(first), 1 << (second & 63))
}

fn beginning(text: &[u8]) -> Option<Pair> {
    if let [_, first, second, ..] = text { Some(pair(*first, *second)) } else { None }
}

fn ending(text: &[u8]) -> Option<Pair> {
    if let [.., before, last] = text { Some(pair(*last, *before)) } else { None }
}

/// The pairs of all literals of which a match has one at its begin or end; `None` if there is no such list.
fn pairs(hir: &Hir, kind: ExtractKind, at: fn(&[u8]) -> Option<Pair>) -> Option<Vec<Pair>> {
    let found = Extractor::new().kind(kind).extract(hir);
    found.literals()?.iter().map(|literal| at(literal.as_bytes())).collect()
}

/// The longest text that is in each match.
fn word(hir: &Hir) -> Option<&[u8]> {
    match hir.kind() {
        HirKind::Literal(literal) => Some(&literal.0),
        HirKind::Concat(parts) => parts.iter().filter_map(word).max_by_key(|word| word.len()),
        HirKind::Capture(group) => word(&group.sub),
        _ => None,
    }
}

impl Ends {
    /// Notes a pattern, as `regex` reads it.
    pub fn add(&mut self, pattern: &str) {
        let Ok(hir) = regex_syntax::parse(pattern) else {
            self.any = true;
            return;
        };
        // Literals say nothing of where in the path they are: that is said by the anchors.
        let (starts, ends) = (hir.properties().look_set_prefix(), hir.properties().look_set_suffix());
        let begins = starts.contains(Look::Start).then(|| pairs(&hir, ExtractKind::Prefix, beginning)).flatten();
        let ending = || ends.contains(Look::End).then(|| pairs(&hir, ExtractKind::Suffix, ending)).flatten();
        let (bits, pairs) = match begins {
            Some(pairs) => (&mut self.begin, pairs),
            None => match ending() {
                Some(pairs) => (&mut self.end, pairs),
                None => return self.add_word(word(&hir)),
            },
        };
        let bits = bits.get_or_insert_with(|| Box::new([0; 256]));
        for (byte, bit) in pairs {
            bits[byte] |= bit;
        }
    }

    fn add_word(&mut self, word: Option<&[u8]>) {
        match word {
            Some(word) if word.len() >= TELLING && self.words.len() < WORDS => {
                self.words.push(Finder::new(word).into_owned());
            }
            _ => self.any = true,
        }
    }

    /// False if no pattern fits the path.
    pub fn may_fit(&self, path: &str) -> bool {
        let has = |bits: &Option<Bits>, pair: Option<Pair>| match (bits, pair) {
            (Some(bits), Some((byte, bit))) => bits[byte] & bit != 0,
            _ => false,
        };
        let path = path.as_bytes();
        self.any
            || has(&self.begin, beginning(path))
            || has(&self.end, ending(path))
            || self.words.iter().any(|word| word.find(path).is_some())
    }
}

/// True if a path that fits the pattern may begin and end in any way.
#[cfg(test)]
pub(super) fn is_loose(pattern: &str) -> bool {
    let mut ends = Ends::default();
    ends.add(pattern);
    ends.any
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    fn ends(patterns: &[&str]) -> Ends {
        let mut ends = Ends::default();
        patterns.iter().for_each(|pattern| ends.add(pattern));
        ends
    }

    fn may_fit(pattern: &str, path: &str) -> bool {
        ends(&[pattern]).may_fit(path)
    }

    #[test]
    fn a_path_that_neither_begins_nor_ends_as_a_pattern_is_denied() {
        let ends = ends(&["^/users/[^/]+$", "^/[^/]+/(?:password|sign_out)/?$", "^(/auth)?/realms/"]);
        for path in ["/users/7", "/a/password", "/a/sign_out/", "/realms/x", "/auth/realms/x"] {
            assert!(ends.may_fit(path), "{path}");
        }
        for path in ["/", "/u", "", "*", "/items/42", "/static/app.css", "/blog/a-title"] {
            assert!(!ends.may_fit(path), "{path}");
        }
        assert!(
            may_fit("^(/[a-z]{2})?/reset/[0-9]+$", "/de/reset/7") && !may_fit("^(/[a-z]{2})?/reset/[0-9]+$", "/a/7")
        );
        assert!(!Ends::default().may_fit("/users/7"), "no pattern");
    }

    #[test]
    fn what_may_lie_anywhere_denies_nothing() {
        for pattern in ["^/[^/]+$", "(?i)login", "^/login|logout$", "(?m)^/[a-z]?in$", "[0-9]+/", "(ab)*", "/a"] {
            assert!(may_fit(pattern, "/xyz/LOGIN"), "{pattern}");
        }
        let words: Vec<String> = (0..=WORDS).map(|n| format!("word{n}")).collect();
        assert!(ends(&words.iter().map(String::as_str).collect::<Vec<_>>()).may_fit("/"), "too many to be sought");
    }

    proptest! {
        #[test]
        fn a_path_that_fits_is_never_denied(
            pattern in "\\^?(/|/abb?|\\(/[ab]{1,2}\\)\\?/|/\\(a\\|b\\)/|\\.\\*|[ab]|\\[ab\\]|[ab]\\?|\\(ab\\|b\\)){1,5}\\$?",
            path in "(/[ab]{0,2}){0,3}",
        ) {
            let regex = Regex::new(&pattern).unwrap();
            prop_assert!(!regex.is_match(&path) || ends(&[&pattern]).may_fit(&path), "{pattern} {path}");
        }
    }
}
