//! Text that came from a stranger, made safe to store, print and forward.
//!
//! Control characters (C0, DEL, C1), bidirectional overrides and line separators are removed,
//! invalid UTF-8 is replaced, and the length is capped in characters, never inside one.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

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
pub struct Text(SmolStr);

impl Text {
    /// A constant of our own: trusted as it is.
    pub const fn fixed(value: &'static str) -> Text {
        Text(SmolStr::new_static(value))
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
        Some(if end.len() == text.as_str().len() { text } else { Text(end.into()) })
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
        if value.len() <= cap && all_bytes(value.as_bytes(), is_printable) {
            return if value.is_empty() { None } else { Some(Text(value.into())) };
        }
        // The scan is bounded too: a megabyte of control characters is not walked to its end.
        let clean: String = value.chars().take(cap.saturating_mul(4)).filter(|c| !is_unsafe(*c)).take(cap).collect();
        if clean.is_empty() { None } else { Some(Text(clean.into())) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// True if it holds of all bytes. Sixteen are looked at together, without a way out of the loop, and the
/// last of them a second time: what is asked is asked of every text of every event.
pub(crate) fn all_bytes(bytes: &[u8], holds: impl Fn(u8) -> bool + Copy) -> bool {
    let all = |bytes: &[u8]| bytes.iter().fold(true, |all, b| all & holds(*b));
    let (whole, rest) = bytes.as_chunks::<16>();
    match (bytes.last_chunk::<16>(), bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(last), ..) => whole.iter().fold(all(last), |so_far, chunk| so_far & all(chunk)),
        (None, Some(first), Some(last)) => all(first) & all(last),
        _ => all(rest),
    }
}

/// ASCII from space to tilde.
fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e)
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
        fn many_bytes_are_looked_at_as_each_would_be(plain in "[ -~]{0,30}", other in any::<Option<u8>>(), at: prop::sample::Index) {
            let mut bytes = plain.into_bytes();
            if let Some(other) = other {
                bytes.insert(at.index(bytes.len() + 1), other);
            }
            prop_assert_eq!(all_bytes(&bytes, is_printable), bytes.iter().all(|b| matches!(b, 0x20..=0x7e)));
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
