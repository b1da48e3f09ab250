//! Text that came from a stranger, made safe to store, print and forward.
//!
//! Control characters (C0, DEL, C1), bidirectional overrides and line separators are removed,
//! invalid UTF-8 is replaced, and the length is capped in characters, never inside one.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

/// Cap of identifiers (actor, target, organization), in characters (RFC 5321 section 4.5.3.1).
pub const IDENTIFIER: usize = 254;
/// Cap of a user agent, in characters.
pub const USER_AGENT: usize = 512;
/// Cap of everything else, in characters.
pub const OTHER: usize = 256;

/// A cleaned, capped string. Up to 23 bytes stand in it; a copy of a longer one shares its bytes: the name
/// of a route stands in thousands of events, and an event's actor in the flow and the session as well.
#[derive(Clone)]
pub struct Text(Held);

/// Whether JSON has something to escape in it is known from the moment the text is cleaned, since then
/// each byte is looked at: its line need not look again. All are no larger than the first.
#[derive(Clone)]
enum Held {
    /// Without a quote or a backslash.
    Plain(SmolStr),
    /// With one.
    Quoted(Arc<str>),
    /// A constant with one.
    QuotedFixed(&'static str),
}

impl Text {
    /// A constant of our own: trusted as it is.
    pub const fn fixed(value: &'static str) -> Text {
        let (bytes, mut at) = (value.as_bytes(), 0);
        while at < bytes.len() {
            if bytes[at] < 0x20 || bytes[at] == b'"' || bytes[at] == b'\\' {
                return Text(Held::QuotedFixed(value));
            }
            at += 1;
        }
        Text(Held::Plain(SmolStr::new_static(value)))
    }

    /// An identifier: surrounding white space is dropped; `None` if nothing is left.
    pub fn identifier(value: &str) -> Option<Text> {
        // What is taken out, or cut off, would bare white space behind it: one name must stay one name
        // however often it is cleaned.
        let visible = |b: Option<&u8>| b.is_some_and(u8::is_ascii_graphic);
        if visible(value.as_bytes().first()) && visible(value.as_bytes().last()) && value.len() <= IDENTIFIER {
            let text = Text::capped(value, IDENTIFIER)?;
            // Nothing was taken out, so there is no white space that could stand bare.
            if text.as_str().len() == value.len() {
                return Some(text);
            }
        }
        let text = Text::capped(value.trim_matches(|c: char| c.is_whitespace() || is_unsafe(c)), IDENTIFIER)?;
        let end = text.as_str().trim_end();
        Some(if end.len() == text.as_str().len() { text } else { Text::of(end) })
    }

    /// A user agent; `None` if nothing is left.
    pub fn user_agent(value: &[u8]) -> Option<Text> {
        Text::capped(&lossy(value), USER_AGENT)
    }

    /// Any other text; `None` if nothing is left.
    pub fn other(value: &str) -> Option<Text> {
        Text::capped(value, OTHER)
    }

    /// Any other text given as bytes; `None` if nothing is left.
    pub fn other_bytes(value: &[u8]) -> Option<Text> {
        Text::capped(&lossy(value), OTHER)
    }

    /// At most `cap` characters of `value` without control characters; `None` if nothing is left.
    pub fn capped(value: &str, cap: usize) -> Option<Text> {
        // As nearly every text is: nothing to clean, nothing to cut.
        if value.len() <= cap && is_plain(value.as_bytes()) {
            return if value.is_empty() { None } else { Some(Text(Held::Plain(value.into()))) };
        }
        // The scan is bounded too: a megabyte of control characters is not walked to its end.
        let clean: String = value.chars().take(cap.saturating_mul(4)).filter(|c| !is_unsafe(*c)).take(cap).collect();
        if clean.is_empty() { None } else { Some(Text::of(&clean)) }
    }

    /// A text that is clean.
    fn of(clean: &str) -> Text {
        Text(if clean.contains(['"', '\\']) { Held::Quoted(clean.into()) } else { Held::Plain(clean.into()) })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Held::Plain(text) => text,
            Held::Quoted(text) => text,
            Held::QuotedFixed(text) => text,
        }
    }

    /// The text, if JSON has nothing to escape in it.
    pub(super) fn plain(&self) -> Option<&str> {
        match &self.0 {
            Held::Plain(text) => Some(text),
            Held::Quoted(_) | Held::QuotedFixed(_) => None,
        }
    }
}

/// Eight bytes looked at together. What is asked is asked of every text of every event, most of which are
/// short, and a loop over bytes costs several times as much. Each question answers with high bits: none at
/// all if it is true of no byte.
pub(crate) mod eight {
    const HIGH: u64 = all(0x80);

    const fn all(byte: u8) -> u64 {
        byte as u64 * 0x0101_0101_0101_0101
    }

    /// This byte.
    pub fn is(word: u64, byte: u8) -> u64 {
        below(word ^ all(byte), 1)
    }

    /// One below this, which is at most 0x80.
    pub fn below(word: u64, byte: u8) -> u64 {
        word.wrapping_sub(all(byte)) & !word & HIGH
    }

    /// One that is not ASCII.
    pub fn beyond(word: u64) -> u64 {
        word & HIGH
    }

    /// One from `first` to `last`, both ASCII.
    pub fn within(word: u64, first: u8, last: u8) -> u64 {
        let low = word & !HIGH;
        let (from, beyond) = (low.wrapping_add(all(0x80 - first)), low.wrapping_add(all(0x7f - last)));
        from & !beyond & !word & HIGH
    }

    /// True if what `odd` looks for is not there; it may not be the letter `a`.
    pub fn none(bytes: &[u8], odd: impl Fn(u64) -> u64) -> bool {
        let (whole, rest) = bytes.as_chunks::<8>();
        let found = whole.iter().fold(0, |found, word| found | odd(u64::from_le_bytes(*word)));
        let last = match bytes.last_chunk::<8>() {
            // Some of them a second time.
            Some(last) => u64::from_le_bytes(*last),
            None => rest.iter().fold(all(b'a'), |word, byte| word << 8 | u64::from(*byte)),
        };
        found | odd(last) == 0
    }
}

/// True for ASCII from space to tilde without quotes and backslashes.
fn is_plain(bytes: &[u8]) -> bool {
    use eight::{below, beyond, is, none};
    // One more than 0x7f is beyond ASCII, and so is whatever carries into the next byte.
    let delete = |word: u64| beyond(word.wrapping_add(0x0101_0101_0101_0101));
    none(bytes, |word| below(word, 0x20) | beyond(word) | delete(word) | is(word, b'"') | is(word, b'\\'))
}

/// Bytes as text; what is no UTF-8 is replaced.
fn lossy(value: &[u8]) -> Cow<'_, str> {
    // The way round it that nearly every header takes is much the quicker one.
    std::str::from_utf8(value).map_or_else(|_| String::from_utf8_lossy(value), Cow::Borrowed)
}

impl Default for Text {
    fn default() -> Text {
        Text::fixed("")
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Text) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Text) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

/// What stands in a path in the place of a segment that looks like a token.
pub const MASK: &str = "***";

/// True for a segment of a path that may prove somebody: sixteen or more characters with letters
/// and digits (reset links, confirmation keys, ids that are secrets), or a word longer than words are.
pub fn looks_like_a_token(segment: &str) -> bool {
    if segment.len() < 16 {
        return false;
    }
    let letters = segment.bytes().any(|b| b.is_ascii_alphabetic());
    let digits = segment.bytes().any(|b| b.is_ascii_digit());
    (letters && digits) || segment.split(['-', '_', '.']).any(|word| word.len() >= 20)
}

/// Characters that could forge a line, a colour or a reading direction in somebody's log.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

impl<'de> Deserialize<'de> for Text {
    /// Cleaned and capped like every text: what is read back may have been changed meanwhile.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Text, D::Error> {
        let text = <Cow<'de, str>>::deserialize(from)?;
        Ok(Text::capped(&text, USER_AGENT).unwrap_or_default())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_takes_no_more_room_than_a_string_and_knows_what_json_escapes() {
        assert_eq!((size_of::<Text>(), size_of::<Option<Text>>()), (24, 24));
        let long = "x".repeat(30);
        for plain in ["alice", "ü", &long] {
            assert_eq!(Text::other(plain).unwrap_or_default().plain(), Some(plain));
        }
        let long = format!("{long}\"");
        for quoted in ["al\"ice", "\\", "ü\"", &long] {
            let text = Text::other(quoted).unwrap_or_default();
            assert_eq!((text.plain(), text.as_str()), (None, quoted));
        }
        assert_eq!(
            (Text::fixed("a\"").plain(), Text::fixed("a\n").plain(), Text::fixed("a").plain()),
            (None, None, Some("a"))
        );
    }

    #[test]
    fn control_characters_and_reading_direction_are_removed() {
        let text = Text::other("a\r\n\u{1b}[31mb\u{202e}c\u{2028}d\u{85}").map(|t| t.to_string());
        assert_eq!(text.as_deref(), Some("a[31mbcd"));
    }

    #[test]
    fn length_is_capped_in_characters_and_nothing_stays_nothing() {
        assert_eq!(Text::capped(&"ü".repeat(10), 3).map(|t| t.to_string()).as_deref(), Some("üüü"));
        assert_eq!(Text::other("\r\n"), None);
        assert_eq!(Text::identifier("  \t "), None);
    }

    #[test]
    fn plain_text_is_kept_as_it_is_up_to_its_cap_and_compares_by_its_letters() {
        let plain: String = (' '..='~').collect();
        assert_eq!(Text::capped(&plain, plain.len()).map(|t| t.to_string()), Some(plain.clone()));
        assert_eq!(Text::capped(&plain, plain.len() - 1).map(|t| t.to_string()), Some(plain[..94].to_owned()));
        assert_eq!(Text::other("alice\u{7f}"), Some(Text::fixed("alice")));
        let hash = |text: &Text| {
            std::hash::BuildHasher::hash_one(
                &std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default(),
                text,
            )
        };
        let (fixed, shared) = (Text::fixed("alice"), Text::other("alice").unwrap_or_default());
        assert_eq!((hash(&fixed), &fixed), (hash(&shared), &shared));
    }

    proptest! {
        #[test]
        fn eight_bytes_are_looked_at_as_each_would_be(plain in "[ -~]{0,30}", others in prop::collection::vec(any::<u8>(), 0..3), at: prop::sample::Index, asked in 0..=0x80_u8, last in any::<u8>()) {
            let mut bytes = plain.into_bytes();
            others.into_iter().for_each(|other| bytes.insert(at.index(bytes.len() + 1), other));
            let plain = |b: &u8| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\');
            prop_assert_eq!(is_plain(&bytes), bytes.iter().all(plain));
            let none = |holds: &dyn Fn(u8) -> bool| !bytes.iter().any(|b| holds(*b));
            if asked <= b'a' {
                prop_assert_eq!(eight::none(&bytes, |word| eight::below(word, asked)), none(&|b| b < asked));
            }
            if asked != b'a' {
                prop_assert_eq!(eight::none(&bytes, |word| eight::is(word, asked)), none(&|b| b == asked));
            }
            prop_assert_eq!(eight::none(&bytes, eight::beyond), none(&|b| b >= 0x80));
            let (first, last) = (asked.min(last) & 0x7f, asked.max(last) & 0x7f);
            if !(first..=last).contains(&b'a') {
                prop_assert_eq!(eight::none(&bytes, |word| eight::within(word, first, last)), none(&|b| (first..=last).contains(&b)));
            }
        }

        #[test]
        fn an_identifier_has_no_white_space_around_it_however_often_it_is_cleaned(text in "[ a\\x00-\\x20ü\u{a0}\u{2028}]{0,20}") {
            let once = Text::identifier(&text);
            let again = once.as_ref().and_then(|t| Text::identifier(t.as_str()));
            prop_assert!(once.as_ref().is_none_or(|t| t.as_str().trim() == t.as_str()));
            prop_assert_eq!(once, again);
        }
    }

    #[test]
    fn invalid_utf8_is_replaced() {
        let text = Text::user_agent(b"a\xffb").map(|t| t.to_string());
        assert_eq!(text.as_deref(), Some("a\u{fffd}b"));
    }
}
