//! The header fields of a message, as lines of its head (RFC 9110 section 5).
//!
//! A proxy hands on nearly every line as it came. A map of names would put each into a table, in lower
//! case, and write each anew; here a line is where it lies in the bytes of the head, spelled as it was
//! sent, and lines that nobody changed are written in one piece. What is added lies in a buffer of its
//! own. Names are compared without case. A set of bits says of nearly every name that is not there that
//! it is not; the others are found by looking through the lines, which limits bound to some hundred.
//!
//! It must never hold what would end a line: a value with CR, LF or NUL gets spaces in their place
//! (RFC 9110 section 5.5). Lines stay in the order in which they came; what is replaced stays in its
//! place. [`Debug`](std::fmt::Debug) shows names alone, as values are secrets.
//!
//! The invariant: every line lies within the bytes it points into.

use std::borrow::Borrow;
use std::fmt;
use std::str::Utf8Error;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

#[cfg(test)]
mod tests;

/// See the module.
#[derive(Clone, Default)]
pub struct Headers {
    /// The bytes in which the lines lie that came.
    head: Bytes,
    /// Names and values that were added.
    added: Vec<u8>,
    lines: Vec<Line>,
    /// A bit for the tag of every line there is, and perhaps of some that were.
    maybe: u64,
}

/// Where a line lies.
#[derive(Clone, Copy)]
struct Line {
    tag: Tag,
    name_len: u16,
    place: Place,
    name: u32,
    value: u32,
    value_len: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the head, written `Name: value` and CR LF.
    Usual,
    /// In the head, written in another way.
    Unusual,
    /// Added, in the usual way. Nobody has spelled its name, which is in lower case.
    Added,
    /// The same, with a name as it is to be written.
    Spelled,
}

impl Place {
    fn is_added(self) -> bool {
        matches!(self, Place::Added | Place::Spelled)
    }
}

/// What two equal names share: their length, and something of their ends.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Tag(u16);

impl Tag {
    #[inline]
    fn of(name: &[u8]) -> Tag {
        let (Some(first), Some(last)) = (name.first(), name.last()) else { return Tag(0) };
        // The bit of case is left out, of what are no letters too.
        let ends = u16::from(first & 0x1f) << 5 | u16::from(last & 0x1f);
        Tag(((name.len() as u16) << 10) ^ ends)
    }

    #[inline]
    fn bit(self) -> u64 {
        // The high bits of a product depend on all of the low ones (Knuth, TAOCP 3, section 6.4).
        1 << (self.0.wrapping_mul(0x9e37) >> 10)
    }
}

/// The name of a line: as it was sent, or in lower case if it was added.
#[derive(Clone, Copy)]
pub struct Name<'h>(&'h [u8]);

impl<'h> Name<'h> {
    /// Its bytes, all ASCII.
    pub fn as_bytes(self) -> &'h [u8] {
        self.0
    }

    /// Its text.
    pub fn as_sent(self) -> &'h str {
        // A token is ASCII.
        std::str::from_utf8(self.0).unwrap_or_default()
    }

    /// True if it is this name, in any case.
    pub fn is(self, name: impl AsRef<str>) -> bool {
        self.0.eq_ignore_ascii_case(name.as_ref().as_bytes())
    }
}

impl AsRef<str> for Name<'_> {
    fn as_ref(&self) -> &str {
        self.as_sent()
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_sent())
    }
}

/// The value of a line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value<'h>(&'h [u8]);

/// A value is no text: it has bytes that are not visible ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value is not visible ASCII")]
pub struct NoText;

impl From<Utf8Error> for NoText {
    fn from(_: Utf8Error) -> NoText {
        NoText
    }
}

impl<'h> Value<'h> {
    /// Its bytes.
    pub fn as_bytes(self) -> &'h [u8] {
        self.0
    }

    /// Its text.
    ///
    /// # Errors
    /// It has bytes that are neither visible ASCII nor a space or tab.
    pub fn to_str(self) -> Result<&'h str, NoText> {
        let visible = self.0.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
        if visible { Ok(std::str::from_utf8(self.0)?) } else { Err(NoText) }
    }

    /// Its length in bytes.
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// True if there is nothing in it.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

impl AsRef<[u8]> for Value<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl fmt::Debug for Value<'_> {
    /// Its length alone: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl PartialEq<str> for Value<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Value<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

/// Why a line cannot be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Where something lies in the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    at: u32,
    len: u32,
}

impl Headers {
    /// None.
    pub const fn new() -> Headers {
        Headers { head: Bytes::new(), added: Vec::new(), lines: Vec::new(), maybe: 0 }
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// True if there is no line.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Forgets all lines, and the bytes they lie in; their memory serves again.
    pub fn clear(&mut self) {
        self.head = Bytes::new();
        self.added.clear();
        self.lines.clear();
        self.maybe = 0;
    }

    /// How many bytes of memory it holds, besides those of the head.
    pub fn capacity(&self) -> usize {
        self.added.capacity() + self.lines.capacity() * size_of::<Line>()
    }

    /// Begins anew with the bytes of a head, of which lines are told by [`Headers::found`].
    pub fn begin(&mut self, head: Bytes, lines: usize) {
        self.clear();
        self.head = head;
        self.lines.reserve(lines);
    }

    /// A line of the head: the name, a token, and the value are parts of its bytes.
    ///
    /// # Errors
    /// It is longer than can be held, or no part of the head.
    #[inline]
    pub fn found(&mut self, name: &str, value: &[u8]) -> Result<(), TooLong> {
        let at = self.span(name.as_bytes()).ok_or(TooLong)?;
        let name_len = u16::try_from(name.len()).map_err(|_| TooLong)?;
        let (mut place, mut lies) = (Place::Unusual, Span { at: at.at, len: 0 });
        if !value.is_empty() {
            lies = self.span(value).ok_or(TooLong)?;
            let (behind, end) = ((at.at + at.len) as usize, (lies.at + lies.len) as usize);
            let usual = behind + 2 == lies.at as usize
                && self.head.get(behind..).is_some_and(|rest| rest.starts_with(b": "))
                && self.head.get(end..).is_some_and(|rest| rest.starts_with(b"\r\n"));
            if usual {
                place = Place::Usual;
            }
        }
        let tag = Tag::of(name.as_bytes());
        self.maybe |= tag.bit();
        self.lines.push(Line { tag, name_len, place, name: at.at, value: lies.at, value_len: lies.len });
        Ok(())
    }

    /// Where a part of the head lies in it; `None` if it is no part.
    #[inline]
    pub fn span(&self, part: &[u8]) -> Option<Span> {
        let at = (part.as_ptr() as usize).checked_sub(self.head.as_ptr() as usize)?;
        let end = at.checked_add(part.len())?;
        let fits = end <= self.head.len() && u32::try_from(end).is_ok();
        fits.then_some(Span { at: at as u32, len: part.len() as u32 })
    }

    /// What lies there.
    pub fn part(&self, span: Span) -> &[u8] {
        slice(&self.head, span.at, span.len)
    }

    /// The value of the first line of this name.
    #[inline]
    pub fn get(&self, name: impl AsRef<str>) -> Option<Value<'_>> {
        let name = name.as_ref().as_bytes();
        let tag = Tag::of(name);
        if self.maybe & tag.bit() == 0 {
            return None;
        }
        self.lines.iter().find(|line| self.is(line, tag, name)).map(|line| self.value_of(line))
    }

    /// The values of all lines of this name, in their order.
    #[inline]
    pub fn get_all<N: AsRef<str>>(&self, name: N) -> All<'_, N> {
        let tag = Tag::of(name.as_ref().as_bytes());
        let lines = if self.maybe & tag.bit() == 0 { &[] } else { self.lines.as_slice() };
        All { headers: self, lines: lines.iter(), name, tag }
    }

    /// True if there is a line of this name.
    #[inline]
    pub fn contains_key(&self, name: impl AsRef<str>) -> bool {
        self.get(name).is_some()
    }

    /// All lines, in their order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Name<'_>, Value<'_>)> + Clone {
        self.lines.iter().map(|line| (Name(self.name_of(line)), self.value_of(line)))
    }

    /// The names of all lines, in their order; one that stands in several comes several times.
    pub fn keys(&self) -> impl Iterator<Item = Name<'_>> + Clone {
        self.lines.iter().map(|line| Name(self.name_of(line)))
    }

    /// Adds a line at the end.
    pub fn append(&mut self, name: impl Borrow<HeaderName>, value: impl AsRef<[u8]>) {
        self.push(name.borrow().as_str(), value.as_ref(), Place::Added);
    }

    /// The same with a name, a token, that is written as it is, in whatever message.
    pub fn append_spelled(&mut self, name: &'static str, value: impl AsRef<[u8]>) {
        self.push(name, value.as_ref(), Place::Spelled);
    }

    /// Makes this the only line of its name: in the place of the first there was, else at the end.
    pub fn insert(&mut self, name: impl Borrow<HeaderName>, value: impl AsRef<[u8]>) {
        let name = name.borrow().as_str();
        let first = self.first(name);
        if let Some(first) = first {
            self.remove_from(first + 1, name);
        }
        let Some(line) = self.written(name, value.as_ref(), Place::Added) else { return };
        // In its place at once: a line that was written last is slow to move.
        match first.and_then(|first| self.lines.get_mut(first)) {
            Some(place) => *place = line,
            None => self.lines.push(line),
        }
    }

    /// Takes all lines of this name out; true if there was one.
    pub fn remove(&mut self, name: impl AsRef<str>) -> bool {
        let name = name.as_ref();
        match self.first(name) {
            Some(first) => {
                self.remove_from(first, name);
                true
            }
            None => false,
        }
    }

    /// Keeps the lines of which this is true.
    pub fn retain(&mut self, mut keep: impl FnMut(Name<'_>, Value<'_>) -> bool) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.retain(|line| keep(Name(self.name_of(line)), self.value_of(line)));
        self.lines = lines;
    }

    /// Bytes in which this value lies, for who keeps it beyond the message.
    pub fn shared(&self, value: Value<'_>) -> Bytes {
        match self.span(value.0) {
            Some(span) if !value.is_empty() => self.head.slice(span.at as usize..span.at as usize + span.len as usize),
            _ => Bytes::copy_from_slice(value.0),
        }
    }

    /// Writes all lines, each with CR LF. Names that nobody has spelled are written in lower case, or
    /// `Like-This`.
    pub fn write(&self, out: &mut Vec<u8>, titled: bool) {
        // Lines that stand one behind the other are copied at once.
        let (mut from, mut run) = (&*self.head, 0_usize..0);
        for line in &self.lines {
            let title_it = titled && line.place == Place::Added;
            if line.place == Place::Unusual || title_it {
                out.extend_from_slice(from.get(std::mem::take(&mut run)).unwrap_or_default());
                let start = out.len();
                out.extend_from_slice(self.name_of(line));
                if title_it {
                    title(out.get_mut(start..).unwrap_or_default());
                }
                out.extend_from_slice(b": ");
                out.extend_from_slice(self.value_of(line).0);
                out.extend_from_slice(b"\r\n");
                continue;
            }
            let bytes = self.bytes_of(line);
            let (start, end) = (line.name as usize, line.value as usize + line.value_len as usize + 2);
            if run.end != start || !std::ptr::eq(from, bytes) {
                out.extend_from_slice(from.get(run).unwrap_or_default());
                (from, run) = (bytes, start..start);
            }
            run.end = end;
        }
        out.extend_from_slice(from.get(run).unwrap_or_default());
    }

    /// How many bytes [`Headers::write`] takes, or some more.
    pub fn room(&self) -> usize {
        self.head.len() + self.added.len() + 4 * self.lines.len()
    }

    /// The same as a map, whose values share the bytes of the head.
    pub fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.len() + 2);
        for (name, value) in self.iter() {
            let value_read = HeaderValue::from_maybe_shared(self.shared(value));
            // What stands in a line is a name and a value.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.0), value_read) {
                map.append(name, value);
            }
        }
        map
    }

    fn first(&self, name: &str) -> Option<usize> {
        let tag = Tag::of(name.as_bytes());
        if self.maybe & tag.bit() == 0 {
            return None;
        }
        self.lines.iter().position(|line| self.is(line, tag, name.as_bytes()))
    }

    fn remove_from(&mut self, from: usize, name: &str) {
        let tag = Tag::of(name.as_bytes());
        if self.lines.iter().skip(from).all(|line| !self.is(line, tag, name.as_bytes())) {
            return;
        }
        let mut n = 0;
        let mut lines = std::mem::take(&mut self.lines);
        lines.retain(|line| {
            n += 1;
            n <= from || !self.is(line, tag, name.as_bytes())
        });
        self.lines = lines;
    }

    #[inline]
    fn is(&self, line: &Line, tag: Tag, name: &[u8]) -> bool {
        line.tag == tag && same(self.name_of(line), name)
    }

    fn push(&mut self, name: &str, value: &[u8], place: Place) {
        if let Some(line) = self.written(name, value, place) {
            self.lines.push(line);
        }
    }

    /// Writes a line that stands nowhere yet. `name` is a token. `None` if there is no room, which limits
    /// are far below.
    fn written(&mut self, name: &str, value: &[u8], place: Place) -> Option<Line> {
        let at = self.added.len();
        let (value_at, end) = (at + name.len() + 2, at + name.len() + 2 + value.len());
        let (true, Ok(name_len)) = (u32::try_from(end).is_ok(), u16::try_from(name.len())) else { return None };
        self.added.reserve(end + 2 - at);
        self.added.extend_from_slice(name.as_bytes());
        self.added.extend_from_slice(b": ");
        self.added.extend_from_slice(value);
        // All are looked at, as that takes no jump: nearly none has a control character.
        if value.iter().fold(false, |control, byte| control | (*byte < b' ')) {
            let added = self.added.get_mut(value_at..).unwrap_or_default();
            for byte in added.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
                *byte = b' ';
            }
        }
        self.added.extend_from_slice(b"\r\n");
        let tag = Tag::of(name.as_bytes());
        self.maybe |= tag.bit();
        let (name, value, value_len) = (at as u32, value_at as u32, value.len() as u32);
        Some(Line { tag, name_len, place, name, value, value_len })
    }

    #[inline]
    fn bytes_of(&self, line: &Line) -> &[u8] {
        if line.place.is_added() { &self.added } else { &self.head }
    }

    #[inline]
    fn name_of(&self, line: &Line) -> &[u8] {
        slice(self.bytes_of(line), line.name, line.name_len.into())
    }

    #[inline]
    fn value_of(&self, line: &Line) -> Value<'_> {
        Value(slice(self.bytes_of(line), line.value, line.value_len))
    }
}

#[inline]
fn slice(bytes: &[u8], at: u32, len: u32) -> &[u8] {
    bytes.get(at as usize..at as usize + len as usize).unwrap_or_default()
}

/// True if two names are the same but for the case of letters, eight bytes at a time: names are short, and
/// this is asked for each that is found.
#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let eight = |a: &[u8; 8], b: &[u8; 8]| {
        let (a, b) = (u64::from_ne_bytes(*a), u64::from_ne_bytes(*b));
        // A letter in either case, in bytes below 128: from `a` on and not beyond `z`.
        let lower = (a | (ONES * 0x20)) & !HIGH;
        let letters = (lower + ONES * (0x80 - b'a' as u64)) & !(lower + ONES * (0x7f - b'z' as u64)) & HIGH & !a;
        (a ^ b) & !(letters >> 2) == 0
    };
    if a.len() != b.len() {
        return false;
    }
    let (Some((a_last, b_last)), true) = (a.last_chunk().zip(b.last_chunk()), a.len() >= 8) else {
        return a.eq_ignore_ascii_case(b);
    };
    // The last eight may be looked at twice.
    eight(a_last, b_last) && a.as_chunks().0.iter().zip(b.as_chunks().0).all(|(a, b)| eight(a, b))
}

/// `content-type` to `Content-Type`.
fn title(name: &mut [u8]) {
    let mut first = true;
    for byte in name {
        if first {
            byte.make_ascii_uppercase();
        }
        first = *byte == b'-';
    }
}

/// The values of one name.
#[derive(Clone)]
pub struct All<'h, N> {
    headers: &'h Headers,
    lines: std::slice::Iter<'h, Line>,
    name: N,
    tag: Tag,
}

impl<N: AsRef<str> + Clone> All<'_, N> {
    /// The same again from where it is.
    pub fn iter(&self) -> Self {
        self.clone()
    }
}

impl<'h, N: AsRef<str>> Iterator for All<'h, N> {
    type Item = Value<'h>;

    #[inline]
    fn next(&mut self) -> Option<Value<'h>> {
        let (headers, tag) = (self.headers, self.tag);
        let name = self.name.as_ref().as_bytes();
        self.lines.find(|line| headers.is(line, tag, name)).map(|line| headers.value_of(line))
    }
}

impl<'h, N: AsRef<str>> DoubleEndedIterator for All<'h, N> {
    fn next_back(&mut self) -> Option<Value<'h>> {
        let (headers, tag) = (self.headers, self.tag);
        let name = self.name.as_ref().as_bytes();
        self.lines.rfind(|line| headers.is(line, tag, name)).map(|line| headers.value_of(line))
    }
}

impl<V: AsRef<[u8]>> FromIterator<(HeaderName, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (HeaderName, V)>>(lines: I) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in lines {
            headers.append(name, value);
        }
        headers
    }
}

impl From<&HeaderMap> for Headers {
    fn from(map: &HeaderMap) -> Headers {
        let mut headers = Headers::new();
        headers.lines.reserve(map.len() + 8);
        for (name, value) in map {
            headers.push(name.as_str(), value.as_bytes(), Place::Added);
        }
        headers
    }
}

impl PartialEq for Headers {
    /// The same lines for each name, whatever the order of names.
    fn eq(&self, other: &Headers) -> bool {
        self.len() == other.len() && self.keys().all(|name| self.get_all(name).eq(other.get_all(name)))
    }
}

impl Eq for Headers {}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys()).finish()
    }
}
