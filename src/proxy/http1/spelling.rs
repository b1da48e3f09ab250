//! How a head was spelled: `X-Custom-ID` stays `X-Custom-ID`, and the words after a status stay.
//!
//! HTTP says that the case of names means nothing; old applications and clients believe otherwise. A
//! second map of names costs as much as all else that is done to a request, so the bytes of the head
//! are kept instead, and looked at again when it is written. It must never decide what is written, only
//! in which case.
//!
//! The invariant: a spelling is the same name but for the case of its letters.

use bytes::Bytes;

/// The most lines of a head whose spelling is kept.
const MAX_LINES: usize = 128;
/// The most lines that are looked at for one head: names that were added are looked for in vain, and
/// many of them in a head of many lines must not be quadratic.
const MAX_LOOKS: usize = 4096;

/// The bytes of a head, as it was read.
#[derive(Clone, Debug)]
pub struct Spelling {
    head: Bytes,
    reason: Option<Bytes>,
}

impl Spelling {
    /// A request's.
    pub fn of_request(head: Bytes) -> Spelling {
        Spelling { head, reason: None }
    }

    /// An answer's, with the words after its status.
    pub fn of_answer(head: Bytes, reason: Bytes) -> Spelling {
        Spelling { head, reason: Some(reason) }
    }

    /// The words after the status.
    pub fn reason(&self) -> Option<&[u8]> {
        self.reason.as_deref()
    }
}

/// Finds the spelling of one name after the other.
#[derive(Debug)]
pub struct Speller<'h> {
    head: &'h [u8],
    /// Where lines begin.
    lines: [u32; MAX_LINES],
    /// How many there are.
    count: usize,
    /// The line after the last that was found.
    next: usize,
    looks: usize,
}

impl<'h> Speller<'h> {
    /// Nothing was asked yet.
    pub fn new(spelling: &'h Spelling) -> Speller<'h> {
        let head = &spelling.head[..];
        let mut lines = [0; MAX_LINES];
        let mut count = 0;
        for (line, end) in lines.iter_mut().zip(memchr::memchr_iter(b'\n', head)) {
            *line = u32::try_from(end + 1).unwrap_or(u32::MAX);
            count += 1;
        }
        Speller { head, lines, count, next: 0, looks: 0 }
    }

    /// The next line of this name, as it was spelled.
    pub fn spelled(&mut self, name: &str) -> Option<&'h [u8]> {
        // Names come in the order of the lines but for what was taken out or put in.
        let (before, after) = self.lines.get(..self.count)?.split_at(self.next.min(self.count));
        let from_next = (self.next..).zip(after);
        for (at, line) in from_next.chain((0..).zip(before)) {
            if self.looks == MAX_LOOKS {
                return None;
            }
            self.looks += 1;
            let line = self.head.get(*line as usize..)?;
            if line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name.as_bytes()) {
                self.next = at + 1;
                return line.get(..name.len());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(head: &'static str, names: &[&str]) -> Vec<Option<String>> {
        let spelling = Spelling::of_request(Bytes::from_static(head.as_bytes()));
        let mut speller = Speller::new(&spelling);
        names.iter().map(|name| speller.spelled(name).map(|s| String::from_utf8_lossy(s).into_owned())).collect()
    }

    #[test]
    fn names_are_spelled_as_they_came_whatever_was_taken_out_put_in_or_moved() {
        let head = "GET / HTTP/1.1\r\nHOST: a\r\nX-Custom-ID: 1\r\nconnection: close\r\naCCEPT: b\r\n\r\n";
        let some = |names: &[&str]| names.iter().map(|n| Some((*n).to_owned())).collect::<Vec<_>>();
        assert_eq!(spelled(head, &["host", "x-custom-id", "accept"]), some(&["HOST", "X-Custom-ID", "aCCEPT"]));
        assert_eq!(spelled(head, &["accept", "host"]), some(&["aCCEPT", "HOST"]));
        assert_eq!(spelled(head, &["x-added", "hos", "host"]), [None, None, Some("HOST".to_owned())]);
    }

    #[test]
    fn lines_of_one_name_keep_their_own_spelling() {
        let head = "GET / HTTP/1.1\r\nA: 1\r\nb: 2\r\na: 3\r\n\r\n";
        let found = spelled(head, &["a", "a", "b"]);
        assert_eq!(found, ["A", "a", "b"].map(|n| Some(n.to_owned())));
    }

    #[test]
    fn what_is_looked_for_in_vain_is_bounded() {
        let head = format!("GET / HTTP/1.1\r\n{}\r\n", "A: 1\r\n".repeat(MAX_LINES * 2));
        let spelling = Spelling::of_request(Bytes::from(head));
        let mut speller = Speller::new(&spelling);
        for _ in 0..10_000 {
            assert_eq!(speller.spelled("b"), None);
        }
        assert_eq!(speller.looks, MAX_LOOKS);
    }
}
