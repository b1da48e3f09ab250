//! How long to wait before a batch is tried again: exponential backoff with full jitter.
//!
//! The bound of the wait doubles from [`FIRST`] to [`LONGEST`], and the wait is any length up to
//! it, so that many sidecars do not come back to a recovering receiver at one moment. Nothing here
//! reads a clock or sleeps; the same seed gives the same waits.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The bound of the first wait.
pub const FIRST: Duration = Duration::from_millis(100);
/// The bound that is never exceeded, but by what the receiver itself asks for.
pub const LONGEST: Duration = Duration::from_secs(30);
/// The longest time a receiver may ask for: beyond it a slip of theirs would end delivery.
pub const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// The waits between attempts at one batch.
#[derive(Clone, Debug)]
pub struct Backoff {
    state: u64,
    failures: u32,
}

impl Backoff {
    /// Waits that follow from this seed.
    pub fn new(seed: u64) -> Backoff {
        Backoff { state: seed, failures: 0 }
    }

    /// Waits nobody can foresee.
    pub fn seeded_by_chance() -> Backoff {
        Backoff::new(RandomState::new().build_hasher().finish())
    }

    /// The wait after one more failure. `after` is what the receiver asked for: the wait is at
    /// least that (at most [`LONGEST_ASKED`] of it), with the jitter on top.
    pub fn next(&mut self, after: Option<Duration>) -> Duration {
        let bound = FIRST.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        let jitter = Duration::from_micros(self.random() % micros.saturating_add(1).max(1));
        after.unwrap_or_default().min(LONGEST_ASKED).saturating_add(jitter)
    }

    /// Begins again with the shortest waits.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014):
    /// spreading waits needs no better source.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_longest_and_the_jitter_uses_all_of_it() {
        let mut longest = [Duration::ZERO; 40];
        let mut shortest = [Duration::MAX; 40];
        for seed in 0..500 {
            let mut backoff = Backoff::new(seed);
            for (long, short) in longest.iter_mut().zip(&mut shortest) {
                let wait = backoff.next(None);
                *long = wait.max(*long);
                *short = wait.min(*short);
            }
        }
        for (n, (long, short)) in longest.iter().zip(&shortest).enumerate() {
            let bound = (FIRST * 2_u32.pow(n.min(20) as u32)).min(LONGEST);
            assert!(*long <= bound && *long > bound.mul_f64(0.9), "wait {n}: {long:?} of {bound:?}");
            assert!(*short < bound.mul_f64(0.1), "wait {n}: {short:?} of {bound:?}");
        }
    }

    #[test]
    fn one_seed_gives_one_sequence_and_another_seed_another() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            std::iter::repeat_with(|| backoff.next(None)).take(20).collect::<Vec<_>>()
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    }

    #[test]
    fn a_receiver_is_given_the_time_it_asks_for_but_not_for_ever() {
        let mut backoff = Backoff::new(1);
        let asked = Duration::from_secs(90);
        let wait = backoff.next(Some(asked));
        assert!(wait >= asked && wait <= asked + FIRST, "{wait:?}");
        assert!(backoff.next(Some(Duration::MAX)) <= LONGEST_ASKED + LONGEST);
    }

    #[test]
    fn after_a_success_the_waits_are_short_again() {
        let mut backoff = Backoff::new(1);
        for _ in 0..50 {
            backoff.next(None);
        }
        backoff.reset();
        assert!(backoff.next(None) <= FIRST);
    }
}
