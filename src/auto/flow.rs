//! Who a client without a session says to be, while a sign-in or reset takes several requests.
//!
//! Kept under keyed hashes of whatever the client carries from one request to the next (cookies,
//! states, tokens), bounded in number and time. Must never hold a secret itself.

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
        Flows { memory: Cache::new(CAPACITY), uses: Cache::new(CAPACITY / 5) }
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
