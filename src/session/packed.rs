//! An actor in as few bytes as it needs: one allocation, lengths before texts.
//!
//! Two hundred thousand of them are remembered at once, and four separate strings would take three
//! times the room. What is unpacked is what was packed, cleaned and capped as every text is.

use crate::event::{Actor, Text};

/// The bits of the first byte: two a part.
const ABSENT: u8 = 0;
/// A length, then the text.
const THERE: u8 = 1;
/// The same as the text before: a login is often an address.
const SAME: u8 = 2;

/// An actor, packed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed(Box<[u8]>);

impl Packed {
    /// Packs an actor.
    pub fn new(actor: &Actor) -> Packed {
        let parts = [&actor.id, &actor.login, &actor.email, &actor.kind].map(|t| t.as_ref().map(Text::as_str));
        // Exactly what it will be in the usual case of one short name; else it is cut at the end.
        let lengths = parts.iter().flatten().map(|t| t.len() + 1 + usize::from(t.len() >= 0x80));
        let mut bytes = Vec::with_capacity(1 + lengths.sum::<usize>());
        let (mut before, mut kinds) = (None, 0);
        bytes.push(kinds);
        for (i, part) in parts.into_iter().enumerate() {
            let kind = match part {
                None => ABSENT,
                Some(text) if before == Some(text) => SAME,
                Some(_) => THERE,
            };
            kinds |= kind << (2 * i);
            if let Some(text) = part.filter(|_| kind == THERE) {
                // Texts have at most 254 characters of four bytes; the second byte is for those over 127.
                let length = text.len().min(0x7fff);
                match u8::try_from(length) {
                    Ok(short @ 0..0x80) => bytes.push(short),
                    _ => bytes.extend_from_slice(&[0x80 | (length >> 8) as u8, length as u8]),
                }
                bytes.extend_from_slice(text.as_bytes().get(..length).unwrap_or_default());
            }
            before = part.or(before);
        }
        bytes[0] = kinds;
        Packed(bytes.into_boxed_slice())
    }

    /// The actor.
    pub fn actor(&self) -> Actor {
        unpack(&self.0).unwrap_or_default()
    }

    /// The bytes, as a snapshot keeps them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// From the bytes of a snapshot; `None` if they are no packed actor.
    pub fn from_bytes(bytes: &[u8]) -> Option<Packed> {
        unpack(bytes).map(|actor| Packed::new(&actor))
    }
}

fn unpack(bytes: &[u8]) -> Option<Actor> {
    let (kinds, mut bytes) = bytes.split_first()?;
    let mut before: Option<Text> = None;
    let mut next = |i: u8| {
        let text = match kinds >> (2 * i) & 3 {
            ABSENT => return Some(None),
            SAME => before.clone(),
            THERE => {
                let (first, rest) = bytes.split_first()?;
                let (length, rest) = match first {
                    0..0x80 => (usize::from(*first), rest),
                    _ => {
                        let (second, rest) = rest.split_first()?;
                        (usize::from(first & 0x7f) << 8 | usize::from(*second), rest)
                    }
                };
                let (text, rest) = rest.split_at_checked(length)?;
                bytes = rest;
                Text::identifier(&String::from_utf8_lossy(text))
            }
            _ => return None,
        };
        before = text.clone().or(before.take());
        Some(text)
    };
    let (id, login, email, kind) = (next(0)?, next(1)?, next(2)?, next(3)?);
    bytes.is_empty().then_some(Actor { id, login, email, kind })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_behind_control_characters_is_the_same_however_often_it_is_packed() {
        for text in ["\n\0 \0V", "V\0 \0", &format!("{} x", "v".repeat(253))] {
            let bytes = [&[THERE << 2][..], &Packed::new(&Actor::default()).0[1..]].concat();
            let length = u8::try_from(text.len() & 0xff).unwrap();
            let length = if text.len() < 0x80 { vec![length] } else { vec![0x80 | (text.len() >> 8) as u8, length] };
            let packed = Packed::from_bytes(&[&bytes[..], &length, text.as_bytes()].concat()).unwrap();
            assert_eq!(Packed::from_bytes(packed.as_bytes()), Some(packed), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_unpacked_is_what_was_packed(parts in prop::array::uniform4(prop::option::of("[a-c@é]{1,6}|[a-z😀]{100,254}"))) {
            let [id, login, email, kind] = parts.map(|p| p.as_deref().and_then(Text::identifier));
            let actor = Actor { id, login, email, kind };
            let packed = Packed::new(&actor);
            prop_assert_eq!(packed.actor(), actor);
            prop_assert_eq!(Packed::from_bytes(packed.as_bytes()), Some(packed));
        }

        #[test]
        fn strange_bytes_are_refused_or_read_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(packed) = Packed::from_bytes(&bytes) {
                prop_assert!(packed.as_bytes().len() < 1000);
                prop_assert_eq!(Packed::from_bytes(packed.as_bytes()), Some(packed));
            }
        }
    }
}
