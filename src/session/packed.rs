//! An actor in as few bytes as it needs: one allocation, lengths before texts.
//!
//! Two hundred thousand of them are remembered at once, and four separate strings would take three
//! times the room. What is unpacked is what was packed, cleaned and capped as every text is.

use crate::event::{Actor, Text};

/// The length that says "absent"; texts are capped far below it.
const ABSENT: u16 = u16::MAX;
/// The length that says "the same as the text before": a login is often an address.
const SAME: u16 = u16::MAX - 1;

/// An actor, packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed(Box<[u8]>);

impl Packed {
    /// Packs an actor.
    pub fn new(actor: &Actor) -> Packed {
        let parts = [&actor.id, &actor.login, &actor.email, &actor.kind].map(|t| t.as_ref().map(Text::as_str));
        let mut bytes = Vec::with_capacity(8 + parts.iter().flatten().map(|t| t.len()).sum::<usize>());
        let mut before = None;
        for part in parts {
            let length = match part {
                None => ABSENT,
                Some(text) if before == Some(text) => SAME,
                Some(text) => u16::try_from(text.len()).ok().filter(|l| *l < SAME).unwrap_or(ABSENT),
            };
            bytes.extend_from_slice(&length.to_le_bytes());
            if length < SAME {
                bytes.extend_from_slice(part.unwrap_or_default().as_bytes());
            }
            before = part.or(before);
        }
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

fn unpack(mut bytes: &[u8]) -> Option<Actor> {
    let mut before: Option<Text> = None;
    let mut next = || {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let length = u16::from_le_bytes(*length);
        bytes = rest;
        Some(match length {
            ABSENT => None,
            SAME => before.clone(),
            length => {
                let (text, rest) = bytes.split_at_checked(usize::from(length))?;
                bytes = rest;
                let text = Text::identifier(&String::from_utf8_lossy(text));
                before = text.clone().or(before.take());
                text
            }
        })
    };
    let (id, login, email, kind) = (next()?, next()?, next()?, next()?);
    bytes.is_empty().then_some(Actor { id, login, email, kind })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_unpacked_is_what_was_packed(parts in prop::array::uniform4(prop::option::of("[a-c@é]{1,6}"))) {
            let [id, login, email, kind] = parts.map(|p| p.as_deref().and_then(Text::identifier));
            let actor = Actor { id, login, email, kind };
            let packed = Packed::new(&actor);
            prop_assert_eq!(packed.actor(), actor);
            prop_assert_eq!(Packed::from_bytes(packed.as_bytes()), Some(packed));
        }

        #[test]
        fn strange_bytes_are_refused_or_read_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(packed) = Packed::from_bytes(&bytes) {
                prop_assert!(packed.as_bytes().len() < 400);
            }
        }
    }
}
