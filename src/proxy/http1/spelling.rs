//! How a head was spelled: `X-Custom-ID` stays `X-Custom-ID`, and the words after a status stay.
//!
//! HTTP says that the case of names means nothing; old applications and clients believe otherwise. A
//! second map of names costs as much as all else that is done to a request, so the bytes of the head
//! are kept instead: a value that nobody has changed still lies in them, right behind its name.
//!
//! It must never decide what is written, only in which case. The invariant: a [`Spelling::line`] is the
//! name, a colon, a space, the value and CR LF, of the very name and value that were asked for.

use std::ops::Range;

use bytes::Bytes;

/// The most lines that are looked at in vain for one head, lest many names in a head of many lines be
/// quadratic.
pub(super) const MAX_LOOKS: usize = 4096;

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

    /// The bytes of the head.
    pub fn bytes(&self) -> &[u8] {
        &self.head
    }

    /// Where the whole line of a field stands, if the value lies where it was read and the line is
    /// written in the usual way. `name` is in lower case.
    pub fn line(&self, name: &str, value: &[u8]) -> Option<Range<usize>> {
        let at = self.place(value)?;
        let start = at.checked_sub(name.len() + 2)?;
        let end = at.checked_add(value.len() + 2)?;
        let line = self.head.get(start..end)?;
        let (before, rest) = line.split_at_checked(name.len())?;
        let usual = rest.starts_with(b": ")
            && line.ends_with(b"\r\n")
            && before.eq_ignore_ascii_case(name.as_bytes())
            && start.checked_sub(1).is_some_and(|last| self.head.get(last) == Some(&b'\n'));
        usual.then_some(start..end)
    }

    /// The name as it is spelled in the first line that has it, for fields that are not written in the
    /// usual way, or whose value is empty and so lies nowhere. `looks` counts lines up to [`MAX_LOOKS`].
    pub fn name(&self, name: &str, value: &[u8], looks: &mut usize) -> Option<&[u8]> {
        if !value.is_empty() {
            self.place(value)?;
        }
        for end in memchr::memchr_iter(b'\n', &self.head) {
            if *looks >= MAX_LOOKS {
                return None;
            }
            *looks += 1;
            let line = self.head.get(end + 1..)?;
            if line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name.as_bytes()) {
                return line.get(..name.len());
            }
        }
        None
    }

    /// Where a value lies in the head.
    fn place(&self, value: &[u8]) -> Option<usize> {
        let at = (value.as_ptr() as usize).checked_sub(self.head.as_ptr() as usize)?;
        (at < self.head.len()).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "GET / HTTP/1.1\r\nHOST: a\r\nX-Custom-ID: 12\r\nodd:b\r\nEmpty:\r\naCCEPT: b\r\nlone: c\n\r\n";

    fn spelling() -> Spelling {
        Spelling::of_request(Bytes::from_static(HEAD.as_bytes()))
    }

    /// The value as it lies in the head.
    fn value(spelling: &Spelling, text: &str) -> Bytes {
        let at = HEAD.find(text).unwrap();
        let start = at + text.find(": ").map_or(text.len() - 1, |colon| colon + 2);
        spelling.head.slice(start..at + text.len())
    }

    #[test]
    fn a_line_of_the_usual_form_is_found_by_its_value_alone() {
        let spelling = spelling();
        for (name, text) in [("host", "HOST: a"), ("x-custom-id", "X-Custom-ID: 12"), ("accept", "aCCEPT: b")] {
            let line = spelling.line(name, &value(&spelling, text)).unwrap();
            assert_eq!(&spelling.bytes()[line], format!("{text}\r\n").as_bytes());
        }
    }

    #[test]
    fn a_value_that_was_changed_moved_to_another_name_or_cut_has_no_line() {
        let spelling = spelling();
        assert_eq!(spelling.line("host", b"a"), None, "the same bytes elsewhere");
        assert_eq!(spelling.line("x-forwarded-host", &value(&spelling, "HOST: a")), None, "another name");
        assert_eq!(spelling.line("ost", &value(&spelling, "HOST: a")), None, "the end of a name");
        assert_eq!(spelling.line("x-custom-id", &value(&spelling, "X-Custom-ID: 1")), None, "a part of it");
        assert_eq!(spelling.line("odd", &value(&spelling, "odd:b")), None, "no space");
        assert_eq!(spelling.line("lone", &value(&spelling, "lone: c")), None, "a bare LF");
    }

    #[test]
    fn the_name_of_an_unusual_line_or_of_an_empty_value_is_looked_for() {
        let spelling = spelling();
        let mut looks = 0;
        assert_eq!(spelling.name("odd", &value(&spelling, "odd:b"), &mut looks), Some(&b"odd"[..]));
        assert_eq!(spelling.name("empty", b"", &mut looks), Some(&b"Empty"[..]));
        assert_eq!(spelling.name("host", b"another", &mut 0), None, "what was put in has no spelling");
    }

    #[test]
    fn what_is_looked_for_in_vain_is_bounded() {
        let head = format!("GET / HTTP/1.1\r\n{}\r\n", "A: 1\r\n".repeat(200));
        let spelling = Spelling::of_request(Bytes::from(head));
        let mut looks = 0;
        for _ in 0..10_000 {
            assert_eq!(spelling.name("b", b"", &mut looks), None);
        }
        assert_eq!(looks, MAX_LOOKS);
    }
}
