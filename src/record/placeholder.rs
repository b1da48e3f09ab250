//! What stands in a secret's place: as long, of the same kinds of characters, and always the same for
//! the same secret within a recording.
//!
//! Made by a keyed hash whose key lives as long as the recording is written, so that nobody can find
//! out what it stands for by trying. Two secrets share a placeholder only where they are so short that
//! there is no third. The invariant: it never equals what it stands for.

use std::collections::HashMap;

/// Letters of placeholders: no vowels, so that no word comes about.
const LETTERS: &[u8; 18] = b"bcfghjklmnqrstvwxz";
/// How many placeholders are held against each other; beyond, two secrets may share one.
const MAX_HELD: usize = 200_000;
/// How often another one is tried.
const TRIES: u8 = 16;

/// Makes placeholders.
pub struct Placeholders {
    key: [u8; 32],
    /// Which secret, by its hash, has which try.
    tries: HashMap<[u8; 16], u8>,
    /// Whose each placeholder is, both by hashes.
    taken: HashMap<[u8; 16], [u8; 16]>,
}

impl Placeholders {
    /// Under this key.
    pub fn new(key: [u8; 32]) -> Placeholders {
        Placeholders { key, tries: HashMap::new(), taken: HashMap::new() }
    }

    /// What stands for this run of letters and digits.
    pub fn of(&mut self, run: &str) -> String {
        let whose = self.short(run);
        if let Some(known) = self.tries.get(&whose) {
            return self.made(run, *known);
        }
        let mut made = String::new();
        for number in 0..TRIES {
            made = self.made(run, number);
            let at = self.short(&made);
            if made != run && self.taken.get(&at).is_none_or(|other| *other == whose) {
                if self.taken.len() < MAX_HELD {
                    self.taken.insert(at, whose);
                    self.tries.insert(whose, number);
                }
                return made;
            }
        }
        if made == run { self.other(run) } else { made }
    }

    /// True if this stood for a secret before.
    pub fn knows(&self, run: &str) -> bool {
        self.tries.contains_key(&self.short(run))
    }

    fn made(&self, run: &str, number: u8) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&[number]);
        hasher.update(run.as_bytes());
        let mut stream = hasher.finalize_xof();
        let mut next = || {
            let mut byte = [0];
            stream.fill(&mut byte);
            usize::from(byte[0])
        };
        let mut first = true;
        run.chars()
            .map(|c| {
                let letter = char::from(LETTERS[next() % LETTERS.len()]);
                let made = match c {
                    // A number stays a number.
                    '1'..='9' if first => char::from(b'1' + (next() % 9) as u8),
                    '0'..='9' => char::from(b'0' + (next() % 10) as u8),
                    c if c.is_uppercase() => letter.to_ascii_uppercase(),
                    _ => letter,
                };
                first = false;
                made
            })
            .collect()
    }

    /// Where no try gave another one: of single digits, say.
    fn other(&self, run: &str) -> String {
        run.chars()
            .map(|c| match c {
                '9' => '1',
                '0'..='8' => char::from(c as u8 + 1),
                'b' => 'c',
                c if c.is_uppercase() => 'B',
                _ => 'b',
            })
            .collect()
    }

    fn short(&self, text: &str) -> [u8; 16] {
        let mut short = [0; 16];
        short.copy_from_slice(&blake3::keyed_hash(&self.key, text.as_bytes()).as_bytes()[..16]);
        short
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_as_long_and_of_the_same_kinds_and_never_the_secret(secrets in proptest::collection::vec("[a-zA-Z0-9äß日]{1,40}", 1..20)) {
            let mut placeholders = Placeholders::new([7; 32]);
            for secret in &secrets {
                let made = placeholders.of(secret);
                prop_assert_ne!(&made, secret);
                prop_assert_eq!(&made, &placeholders.of(secret), "the same each time");
                prop_assert_eq!(made.chars().count(), secret.chars().count());
                for (was, is) in secret.chars().zip(made.chars()) {
                    prop_assert_eq!(was.is_ascii_digit(), is.is_ascii_digit());
                    prop_assert_eq!(was.is_uppercase(), is.is_uppercase());
                }
            }
        }
    }

    #[test]
    fn two_secrets_have_two_placeholders() {
        let mut placeholders = Placeholders::new([7; 32]);
        let all: std::collections::HashSet<String> = (1000..3000).map(|n| placeholders.of(&n.to_string())).collect();
        assert!(all.len() > 1_900, "{}", all.len());
    }
}
