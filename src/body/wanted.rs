//! Names that are looked for in every request: of cookies, of query fields.
//!
//! Almost no request has any of them, and however many are wanted, to say so costs one look a name
//! that it has.

/// True if `name` is what `pattern` names; a trailing `*` stands for any rest.
pub fn fits(pattern: &str, name: &[u8]) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start.as_bytes()),
        None => name == pattern.as_bytes(),
    }
}

/// Wanted names; see [`fits`] for a trailing `*`.
#[derive(Clone, Debug)]
pub struct Wanted {
    names: Vec<String>,
    /// By the first byte of a name: bit `n` if one of `n` bytes is wanted, the last for all longer ones.
    lengths: Box<[u64; 256]>,
}

impl Default for Wanted {
    fn default() -> Self {
        Wanted::new(Vec::new())
    }
}

impl Wanted {
    /// These names.
    pub fn new(names: Vec<String>) -> Wanted {
        let mut lengths = Box::new([0_u64; 256]);
        for name in &names {
            let (start, longer) = match name.strip_suffix('*') {
                Some(start) => (start, true),
                None => (name.as_str(), false),
            };
            let bit = 1_u64 << start.len().min(63);
            let bits = if longer { !(bit - 1) } else { bit };
            match start.as_bytes().first() {
                Some(first) => lengths[usize::from(*first)] |= bits,
                // `*` alone: every name.
                None => lengths.fill(u64::MAX),
            }
        }
        Wanted { names, lengths }
    }

    /// The names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// False if none of them begins so.
    #[inline]
    pub fn begins(&self, first: u8) -> bool {
        self.lengths[usize::from(first)] != 0
    }

    /// True if this is one of them.
    pub fn has(&self, name: &[u8]) -> bool {
        let first = name.first().map_or(0, |first| self.lengths[usize::from(*first)]);
        first & (1 << name.len().min(63)) != 0 && self.names.iter().any(|wanted| fits(wanted, name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wanted_name_is_found_as_if_each_were_compared(
            names in proptest::collection::vec("[ab_]{0,3}[*]?|[a]{60,66}[*]?", 0..6),
            name in "[ab_]{1,4}|[a]{60,68}",
        ) {
            let compared = names.iter().any(|wanted| fits(wanted, name.as_bytes()));
            prop_assert_eq!(Wanted::new(names).has(name.as_bytes()), compared);
        }
    }
}
