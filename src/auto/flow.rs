//! Who a client without a session says to be, while a sign-in or reset takes several requests.
//!
//! Kept under keyed hashes of whatever the client carries from one request to the next (cookies,
//! states, tokens), bounded in number and time. Must never hold a secret itself.

use quick_cache::UnitWeighter;
use quick_cache::unsync::Cache;

use super::intent::Stage;
use crate::event::{Actor, Timestamp};
use crate::session::Handle;

/// The most hashes remembered; the least recently used go first.
const CAPACITY: usize = 50_000;
/// How long a sign-in may take, in milliseconds.
const LOGIN_MS: i64 = 15 * 60 * 1000;
/// How long a reset may take, in milliseconds.
const RESET_MS: i64 = 24 * 3600 * 1000;

/// How far a client has come.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Where it is.
    pub stage: Stage,
    /// Who it says to be.
    pub actor: Actor,
    since: Timestamp,
}

/// What is remembered of all.
pub struct Flows {
    memory: Cache<Handle, Flow>,
    uses: Cache<Handle, i64>,
}

impl Default for Flows {
    fn default() -> Self {
        // The estimate sizes the first allocation; the capacity is the bound.
        let memory = Cache::with_weighter(64, CAPACITY as u64, UnitWeighter);
        Flows { memory, uses: Cache::with_weighter(64, CAPACITY as u64 / 5, UnitWeighter) }
    }
}

impl Flows {
    /// The newest of what is remembered under these.
    pub fn recall(&mut self, handles: &[Handle], now: Timestamp) -> Option<Flow> {
        let mut newest: Option<Flow> = None;
        for handle in handles {
            let Some(found) = self.memory.get(handle) else { continue };
            let long = matches!(found.stage, Stage::Reset | Stage::NewAddress);
            let limit = if long { RESET_MS } else { LOGIN_MS };
            let age = now.as_millis().saturating_sub(found.since.as_millis());
            if age <= limit && newest.as_ref().is_none_or(|n| n.since < found.since) {
                newest = Some(found.clone());
            }
        }
        newest
    }

    /// Remembers.
    pub fn bind(&mut self, handles: &[Handle], stage: Stage, actor: Actor, now: Timestamp) {
        for handle in handles {
            self.memory.insert(*handle, Flow { stage, actor: actor.clone(), since: now });
        }
    }

    /// Forgets.
    pub fn forget(&mut self, handles: &[Handle]) {
        for handle in handles {
            self.memory.remove(handle);
        }
    }

    /// True if this was not used for so many milliseconds; notes that it is now.
    pub fn first_use(&mut self, handle: Handle, now: Timestamp, again_after_ms: i64) -> bool {
        let now = now.as_millis();
        if self.uses.get(&handle).is_some_and(|last| now.saturating_sub(*last) < again_after_ms) {
            return false;
        }
        self.uses.insert(handle, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Text;
    use crate::session::{SessionConfig, Sessions};

    fn actor(login: &str) -> Actor {
        Actor { login: Text::identifier(login), ..Actor::default() }
    }

    #[test]
    fn the_newest_step_counts_and_each_is_forgotten_in_its_time() {
        let sessions = Sessions::new(SessionConfig::default(), [7; 32]);
        let at = Timestamp::from_millis;
        let (one, other) = (sessions.handle(b"one"), sessions.handle(b"other"));
        let mut flows = Flows::default();
        flows.bind(&[one], Stage::Identified, actor("alice"), at(0));
        flows.bind(&[other], Stage::Reset, actor("bob"), at(1));
        assert_eq!(flows.recall(&[one, other], at(2)).map(|f| f.stage), Some(Stage::Reset));
        assert_eq!(flows.recall(&[one], at(LOGIN_MS + 1)).map(|f| f.stage), None);
        assert!(flows.recall(&[other], at(LOGIN_MS + 1)).is_some());
        flows.forget(&[other]);
        assert!(flows.recall(&[other], at(2)).is_none());
    }

    #[test]
    fn a_million_invented_clients_take_no_more_than_the_bound() {
        let sessions = Sessions::new(SessionConfig::default(), [7; 32]);
        let mut flows = Flows::default();
        for i in 0..1_000_000_u32 {
            flows.bind(
                &[sessions.handle(&i.to_le_bytes())],
                Stage::Identified,
                Actor::default(),
                Timestamp::from_millis(0),
            );
        }
        assert!(flows.memory.len() <= CAPACITY);
    }

    #[test]
    fn a_use_is_told_once_in_a_while() {
        let sessions = Sessions::new(SessionConfig::default(), [7; 32]);
        let key = sessions.handle(b"key");
        let mut flows = Flows::default();
        let mut first = |ms| flows.first_use(key, Timestamp::from_millis(ms), 100);
        assert_eq!([first(0), first(50), first(100), first(199)], [true, false, true, false]);
    }
}
