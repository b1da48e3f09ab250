//! Forms and query strings (`application/x-www-form-urlencoded`, WHATWG URL section 5.1) as an
//! ordered list of fields. Multipart forms give the same list.
//!
//! Must never invent a field: of a cut body the last pair is dropped, since it may be half, and a
//! name that is too long is left out, not shortened into another. `Debug` shows no value, for a
//! form holds the password.
//!
//! The invariant: fields stand in the order in which they were sent, and [`Fields::complete`] is
//! true only if nothing was left out or shortened.

use std::borrow::Cow;
use std::fmt;

use crate::event::text::eight::{is, none};

/// How many pairs are kept.
pub const MAX_PAIRS: usize = 1_000;
/// The longest name kept, in bytes.
pub const MAX_NAME: usize = 256;
/// How much of a value is kept, in bytes.
pub const MAX_VALUE: usize = 64 << 10;

/// The fields of a form or query string, in order.
#[derive(Clone, PartialEq, Eq)]
pub struct Fields<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    complete: bool,
}

/// Reads a form body or query string (without its `?`). With `cut`, the input is known to be a
/// prefix. Invalid percent escapes stay as they are, invalid UTF-8 is replaced.
pub fn parse(bytes: &[u8], cut: bool) -> Fields<'_> {
    let mut fields = Fields::new();
    let whole = if cut {
        fields.complete = false;
        let end = bytes.iter().rposition(|b| *b == b'&').unwrap_or(0);
        bytes.get(..end).unwrap_or_default()
    } else {
        bytes
    };
    let text = std::str::from_utf8(whole).ok();
    let mut at = 0;
    while at < whole.len() {
        let rest = whole.get(at..).unwrap_or_default();
        let length = memchr::memchr(b'&', rest).unwrap_or(rest.len());
        let piece = at..at + length;
        at += length + 1;
        if piece.is_empty() {
            continue;
        }
        // What is between two `&` of a text is one.
        let (name, value) = match text.and_then(|text| text.get(piece.clone())) {
            Some(piece) => text_pair(piece),
            None => pair(whole.get(piece).unwrap_or_default()),
        };
        if !fields.push(name, value, MAX_PAIRS, MAX_VALUE) {
            break;
        }
    }
    fields
}

/// A piece between two `&`, of a body that is UTF-8 before its escapes are undone.
fn text_pair(piece: &str) -> (Cow<'_, str>, Cow<'_, str>) {
    // Names are short, so looking at each byte is soon done.
    let equals = piece.bytes().position(|b| b == b'=').unwrap_or(piece.len());
    let (name, value) = piece.split_at_checked(equals).unwrap_or_default();
    let value = value.get(1..).unwrap_or_default();
    let part = |part| match has_escapes(part) {
        true => decoded(part.as_bytes()),
        false => Cow::Borrowed(part),
    };
    (part(name), part(value))
}

/// The same of any bytes.
fn pair(piece: &[u8]) -> (Cow<'_, str>, Cow<'_, str>) {
    let equals = memchr::memchr(b'=', piece).unwrap_or(piece.len());
    let (name, value) = piece.split_at_checked(equals).unwrap_or_default();
    (decoded(name), decoded(value.get(1..).unwrap_or_default()))
}

fn has_escapes(part: &str) -> bool {
    !none(part.as_bytes(), |word| is(word, b'%') | is(word, b'+'))
}

/// A name or value without its escapes, as the standard reads it; what is none stays, and what is no UTF-8
/// is replaced. Most have none.
fn decoded(escaped: &[u8]) -> Cow<'_, str> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    // What is between two signs goes over as a whole.
    while let Some(at) = rest.iter().position(|b| matches!(b, b'%' | b'+')) {
        let (plain, sign) = rest.split_at_checked(at).unwrap_or_default();
        bytes.extend_from_slice(plain);
        let (byte, after) = match sign {
            [b'+', after @ ..] => (b' ', after),
            [sign, after @ ..] => match escape(after) {
                Some(byte) => (byte, after.get(2..).unwrap_or_default()),
                None => (*sign, after),
            },
            [] => break,
        };
        bytes.push(byte);
        rest = after;
    }
    bytes.extend_from_slice(rest);
    let text = String::from_utf8(bytes);
    Cow::Owned(text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The byte that two digits behind a `%` say.
fn escape(digits: &[u8]) -> Option<u8> {
    let [high, low, ..] = digits else { return None };
    Some(hexadecimal(*high)? << 4 | hexadecimal(*low)?)
}

fn hexadecimal(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

impl<'a> Fields<'a> {
    pub(super) fn new() -> Fields<'a> {
        Fields { pairs: Vec::new(), complete: true }
    }

    /// Adds a field within the bounds; false if there is no room for any other.
    pub(super) fn push(&mut self, name: Cow<'a, str>, value: Cow<'a, str>, pairs: usize, longest: usize) -> bool {
        if self.pairs.len() >= pairs {
            self.complete = false;
            return false;
        }
        if name.len() > MAX_NAME {
            self.complete = false;
            return true;
        }
        if value.len() > longest {
            self.complete = false;
        }
        self.pairs.push((name, shortened(value, longest)));
        true
    }

    pub(super) fn set_incomplete(&mut self) {
        self.complete = false;
    }

    /// The same fields, apart from the bytes they were read from.
    pub fn into_owned(self) -> Fields<'static> {
        let own = |(name, value): (Cow<'a, str>, Cow<'a, str>)| {
            (Cow::Owned(name.into_owned()), Cow::Owned(value.into_owned()))
        };
        Fields { pairs: self.pairs.into_iter().map(own).collect(), complete: self.complete }
    }

    /// The value of the last field of that name: the one that counts in PHP, Rails and Django.
    pub fn last<'s>(&'s self, name: &'s str) -> Option<&'s str> {
        self.all(name).next_back()
    }

    /// True if every field that was sent is here in full. If not, that a field is absent proves
    /// nothing.
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Names and values in the order in which they were sent.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value of the first field of that name; see [`same_name`] for names with brackets.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.iter().find(|(found, _)| same_name(found, name)).map(|(_, value)| value)
    }

    /// Every value of that name, in order; the last one counts in PHP, Rails and Django.
    pub fn all<'s>(&'s self, name: &'s str) -> impl DoubleEndedIterator<Item = &'s str> {
        self.iter().filter(move |(found, _)| same_name(found, name)).map(|(_, value)| value)
    }
}

/// True if two field names mean the same place: `user[email]` is also written `user.email`. A
/// list's `tags[]` is `tags.`, never plain `tags`.
pub fn same_name(one: &str, other: &str) -> bool {
    let brackets = |name: &str| name.bytes().any(|b| b == b'[');
    one == other || (brackets(one) != brackets(other) && dotted(one).eq(dotted(other)))
}

fn dotted(name: &str) -> impl Iterator<Item = u8> {
    let mut open = false;
    name.bytes().filter_map(move |byte| match byte {
        b'[' if !open => {
            open = true;
            Some(b'.')
        }
        b']' if open => {
            open = false;
            None
        }
        _ => Some(byte),
    })
}

fn shortened(text: Cow<'_, str>, longest: usize) -> Cow<'_, str> {
    if text.len() <= longest {
        return text;
    }
    let end = text.floor_char_boundary(longest);
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(..end).unwrap_or_default()),
        Cow::Owned(mut text) => {
            text.truncate(end);
            text.shrink_to_fit();
            Cow::Owned(text)
        }
    }
}

/// Shows how many fields there are, and nothing that was typed into them.
impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fields").field("len", &self.pairs.len()).field("complete", &self.complete).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text.as_bytes(), false).iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }

    proptest! {
        #[test]
        fn pieces_are_read_as_the_standard_reads_them(form in "[ab=&%+4Ff9é\u{0}]{0,40}") {
            let standard: Vec<(String, String)> = form_urlencoded::parse(form.as_bytes()).into_owned().collect();
            prop_assert_eq!(pairs(&form), standard);
        }
    }

    #[test]
    fn odd_forms_are_read_as_browsers_and_frameworks_write_them() {
        let cases: [(&str, &[(&str, &str)]); 8] = [
            ("", &[]),
            ("&&a=1&&", &[("a", "1")]),
            ("a", &[("a", "")]),
            ("=b", &[("", "b")]),
            ("a=b=c", &[("a", "b=c")]),
            ("a+b=c%20d%2Be", &[("a b", "c d+e")]),
            ("a=100%&b=%zz%4", &[("a", "100%"), ("b", "%zz%4")]),
            ("a=%ff&b=%C3%BC", &[("a", "\u{fffd}"), ("b", "ü")]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            assert_eq!(pairs(text), expected, "{text}");
        }
    }

    #[test]
    fn bracketed_names_equal_their_escaped_and_dotted_spellings() {
        for body in ["x=1&user[email]=a", "x=1&user%5Bemail%5D=a", "x=1&user.email=a"] {
            let fields = parse(body.as_bytes(), false);
            assert_eq!(fields.first("user.email"), Some("a"), "{body}");
            assert_eq!(fields.first("user[email]"), Some("a"), "{body}");
            assert_eq!(fields.first("user"), None, "{body}");
        }
        let fields = parse(b"a[b][c]=1&tags[]=2&ab]c=3&a[0]=4", false);
        assert_eq!(fields.first("a.b.c"), Some("1"));
        assert_eq!(fields.first("tags[]"), Some("2"));
        assert_eq!(fields.first("tags"), None);
        assert_eq!(fields.first("abc"), None);
        assert_eq!(fields.first("a.0"), Some("4"));
    }

    #[test]
    fn every_value_of_a_name_is_given_in_order() {
        let fields = parse(b"a=1&b=2&a=3", false);
        assert_eq!(fields.all("a").collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!(fields.all("a").next_back(), Some("3"));
        assert_eq!(fields.first("a"), Some("1"));
    }

    #[test]
    fn the_last_pair_of_a_cut_body_is_dropped() {
        for (body, expected) in [("login=a&pass", 1), ("login=a&password=hun", 1), ("login=a&", 1), ("login=a", 0)] {
            let fields = parse(body.as_bytes(), true);
            assert_eq!((fields.len(), fields.complete()), (expected, false), "{body}");
        }
        assert!(parse(b"login=a&b=c", false).complete());
    }

    #[test]
    fn too_many_too_long_and_too_large_are_bounded_and_said() {
        let many = "a=1&".repeat(MAX_PAIRS + 1);
        let fields = parse(many.as_bytes(), false);
        assert_eq!((fields.len(), fields.complete()), (MAX_PAIRS, false));
        let just = "a=1&".repeat(MAX_PAIRS);
        assert!(parse(just.as_bytes(), false).complete());

        let long_name = format!("{}=1&b=2", "n".repeat(MAX_NAME + 1));
        let fields = parse(long_name.as_bytes(), false);
        assert_eq!((fields.len(), fields.first("b"), fields.complete()), (1, Some("2"), false));

        for letter in ["x", "ü", "%C3%BC"] {
            let large = format!("a=y{}", letter.repeat(MAX_VALUE));
            let fields = parse(large.as_bytes(), false);
            let kept = fields.first("a").map_or(0, str::len);
            assert!((MAX_VALUE - 1..=MAX_VALUE).contains(&kept) && !fields.complete(), "{letter}: {kept}");
        }
    }

    #[test]
    fn debug_shows_no_value() {
        assert_eq!(format!("{:?}", parse(b"password=hunter2", false)), "Fields { len: 1, complete: true }");
    }

    proptest! {
        #[test]
        fn complete_bodies_agree_with_form_urlencoded(body in "[a-c=&%+\\[\\]2Cü]{0,60}") {
            let expected: Vec<_> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
            prop_assert_eq!(pairs(&body), expected);
        }

        #[test]
        fn any_bytes_are_some_form(body in proptest::collection::vec(any::<u8>(), 0..300), cut: bool, name in ".*") {
            let fields = parse(&body, cut);
            prop_assert_eq!(fields.first(&name), fields.all(&name).next());
        }

        #[test]
        fn a_cut_body_yields_a_prefix_of_the_pairs(body in "[ab=&%2]{0,60}", at: proptest::sample::Index) {
            let whole = parse(body.as_bytes(), false);
            let prefix = parse(&body.as_bytes()[..at.index(body.len() + 1)], true);
            prop_assert!(whole.iter().zip(prefix.iter()).all(|(w, p)| w == p) && prefix.len() <= whole.len());
        }
    }
}
