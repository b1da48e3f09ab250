//! What is remembered, sealed before it leaves the process: AES-256-GCM by the library that TLS
//! stands on.
//!
//! Names of people are whole in the memory even where `identity:` lets no event say them, so
//! neither the snapshot nor another machine may hold them in the clear. Each message has a key of
//! its own, derived from the sealing key and a random salt of 24 bytes, so that no number of
//! messages wears a nonce out. What is opened is what was sealed, for the place it was sealed for,
//! or nothing.

/// Random bytes before each sealed message.
const SALT: usize = 24;
/// The tag behind it.
const TAG: usize = 16;

/// A key under which messages are sealed.
#[derive(Clone)]
pub struct Seal {
    #[cfg_attr(not(any(feature = "tls-aws-lc", feature = "tls-ring")), expect(dead_code, reason = "no cipher"))]
    key: [u8; 32],
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// The seal of a purpose. `None` in a build without a cryptographic library.
    pub fn new(purpose: &str, key: &[u8; 32]) -> Option<Seal> {
        crate::tls::provider::COMPILED_IN.then(|| Seal { key: blake3::derive_key(purpose, key) })
    }

    /// Salt, ciphertext, tag. `place` is not in it, and must be the same to open it. `None` if the
    /// system has no random numbers.
    pub fn seal(&self, place: &[u8], mut message: Vec<u8>) -> Option<Vec<u8>> {
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).ok()?;
        self.lock(&salt, place, &mut message)?;
        message.splice(..0, salt);
        Some(message)
    }

    /// The message, if it was sealed so for this place.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (salt, rest) = sealed.split_first_chunk::<SALT>()?;
        let length = rest.len().checked_sub(TAG)?;
        let mut message = rest.to_vec();
        self.unlock(salt, place, &mut message)?;
        message.truncate(length);
        Some(message)
    }
}

#[cfg(any(feature = "tls-aws-lc", feature = "tls-ring"))]
mod cipher {
    use super::{SALT, Seal};
    use crate::tls::provider::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

    impl Seal {
        /// The key is for one message alone, so its nonce may always be the same.
        fn key_of(&self, salt: &[u8; SALT]) -> Option<(LessSafeKey, Nonce)> {
            let key = blake3::keyed_hash(&self.key, salt);
            let key = UnboundKey::new(&AES_256_GCM, key.as_bytes()).ok()?;
            Some((LessSafeKey::new(key), Nonce::assume_unique_for_key([0; 12])))
        }

        pub(super) fn lock(&self, salt: &[u8; SALT], place: &[u8], message: &mut Vec<u8>) -> Option<()> {
            let (key, nonce) = self.key_of(salt)?;
            key.seal_in_place_append_tag(nonce, Aad::from(place), message).ok()
        }

        pub(super) fn unlock(&self, salt: &[u8; SALT], place: &[u8], message: &mut [u8]) -> Option<()> {
            let (key, nonce) = self.key_of(salt)?;
            key.open_in_place(nonce, Aad::from(place), message).ok().map(drop)
        }
    }
}

/// Without a library there is no seal, so nobody asks.
#[cfg(not(any(feature = "tls-aws-lc", feature = "tls-ring")))]
impl Seal {
    fn lock(&self, _: &[u8; SALT], _: &[u8], _: &mut Vec<u8>) -> Option<()> {
        None
    }

    fn unlock(&self, _: &[u8; SALT], _: &[u8], _: &mut [u8]) -> Option<()> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_opened_for_its_place_and_key_alone_and_unchanged() {
        let seal = Seal::new("test", &[7; 32]).expect("a library");
        let sealed = seal.seal(b"here", b"alice@example.test".to_vec()).expect("random numbers");
        assert!(!sealed.windows(5).any(|w| w == b"alice"));
        assert_eq!(seal.open(b"here", &sealed).as_deref(), Some(&b"alice@example.test"[..]));
        assert_eq!(seal.open(b"there", &sealed), None);
        assert_eq!(Seal::new("other", &[7; 32]).expect("a library").open(b"here", &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(seal.open(b"here", &changed), None, "{at}");
            assert_eq!(seal.open(b"here", &sealed[..at]), None, "{at}");
        }
        assert_ne!(seal.seal(b"here", b"alice@example.test".to_vec()), Some(sealed), "a salt each");
    }
}
