//! Session memory: which actor a session belongs to.
//!
//! A session cookie, bearer token or token header is never kept: only its keyed hash is, beside
//! the actor that a login bound to it. Later exchanges that carry the same session then know who
//! acts. The memory is bounded, forgets after a time without use, and lives on the pipeline's
//! thread alone, so it takes no lock. A session whose login still waits for a second factor is
//! bound as pending: it names the actor of the challenge, but counts as nobody's session.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use quick_cache::unsync::Cache;

use crate::body::{cookie, credentials};
use crate::config::node::Node;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::event::{Actor, Text, Timestamp};

/// The most sessions remembered; the least recently used go first.
pub const CAPACITY: usize = 200_000;

/// The keys of `session:`.
pub const FIELDS: &[Field] = &[
    Field::new("cookies", Kind::OneOrList(&Kind::Str), "[]", "names of session cookies; a name may end in `*`"),
    Field::new("bearer", Kind::Bool, "true", "take the token of `Authorization` as a session"),
    Field::new("headers", Kind::OneOrList(&Kind::Str), "[]", "headers that carry a session token"),
    Field::new("ttl", Kind::Duration, "12h", "forget a session that was not used for so long"),
];

/// Where sessions are carried, and for how long they are remembered.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Names of session cookies.
    pub cookies: Vec<String>,
    /// Whether `Authorization` carries sessions.
    pub bearer: bool,
    /// Headers that carry them.
    pub headers: Vec<HeaderName>,
    /// How long an unused one is remembered.
    pub ttl: Duration,
}

impl Default for SessionConfig {
    fn default() -> Self {
        SessionConfig { cookies: Vec::new(), bearer: true, headers: Vec::new(), ttl: Duration::from_secs(12 * 3600) }
    }
}

impl SessionConfig {
    /// Reads `session:`.
    pub fn check(node: Option<&Node>, problems: &mut Problems) -> SessionConfig {
        let mut config = SessionConfig::default();
        let Some(map) = node.and_then(|n| n.map(FIELDS, problems)) else { return config };
        config.cookies = map.items("cookies").iter().filter_map(|i| i.str(problems).map(str::to_owned)).collect();
        for item in map.items("headers") {
            match item.str(problems).map(|t| HeaderName::from_bytes(t.as_bytes())) {
                Some(Ok(name)) => config.headers.push(name),
                Some(Err(_)) => problems.error_hint(
                    item,
                    format!("{} is not a header name", item.describe()),
                    "a header name is letters, digits and `-`, like x-auth-token",
                ),
                None => {}
            }
        }
        config.bearer = map.bool("bearer", problems).unwrap_or(config.bearer);
        config.ttl = map.duration("ttl", problems).unwrap_or(config.ttl);
        if let Some(at) = map.get("ttl").filter(|_| config.ttl.is_zero()) {
            problems.error_hint(at, "every session would be forgotten at once".into(), "write a time like 12h");
        }
        config
    }
}

/// Keyed hash of a session; the only form in which one is ever held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle([u8; 16]);

impl Handle {
    /// What an event shows: `s_` and 16 hexadecimal digits.
    pub fn shown(self) -> Option<Text> {
        let hex: String = self.0.iter().take(8).map(|b| format!("{b:02x}")).collect();
        Text::other(&format!("s_{hex}"))
    }
}

/// What is remembered of a session.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// Whose it is.
    pub actor: Actor,
    /// True while a second factor is awaited.
    pub pending: bool,
    used: Timestamp,
}

/// The memory itself.
pub struct Sessions {
    key: [u8; 32],
    config: SessionConfig,
    memory: Cache<Handle, Remembered>,
}

impl Sessions {
    /// An empty memory whose hashes are keyed with `key`.
    pub fn new(config: SessionConfig, key: [u8; 32]) -> Sessions {
        // The estimate sizes the first allocation; the capacity is the bound.
        Sessions { key, config, memory: Cache::with_weighter(64, CAPACITY as u64, quick_cache::UnitWeighter) }
    }

    /// Takes a new configuration over; what is remembered stays.
    pub fn reconfigure(&mut self, config: SessionConfig) {
        self.config = config;
    }

    /// How many sessions are remembered.
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.memory.len() == 0
    }

    /// The hash of a session or token.
    pub fn handle(&self, value: &[u8]) -> Handle {
        let hash = blake3::keyed_hash(&self.key, value);
        let mut short = [0; 16];
        short.copy_from_slice(&hash.as_bytes()[..16]);
        Handle(short)
    }

    /// The sessions a request carries, most telling first.
    pub fn presented(&self, headers: &HeaderMap) -> Vec<Handle> {
        let mut found = Vec::new();
        for name in &self.config.headers {
            found.extend(headers.get(name).map(|v| self.handle(v.as_bytes())));
        }
        if self.config.bearer {
            found.extend(credentials::bearer(headers).map(|t| self.handle(t.as_bytes())));
        }
        for name in &self.config.cookies {
            found.extend(cookie::request_cookie(headers, name).filter(|v| !v.is_empty()).map(|v| self.handle(v)));
        }
        found
    }

    /// The sessions an answer hands out in cookies.
    pub fn handed_out(&self, answer: &HeaderMap, at: Timestamp) -> Vec<Handle> {
        let cookies = self.config.cookies.iter();
        cookies.filter_map(|name| cookie::handed_out(answer, name, at)).map(|v| self.handle(v)).collect()
    }

    /// What is remembered of the first of these that is known; touches it.
    pub fn recall(&mut self, handles: &[Handle], now: Timestamp) -> Option<Remembered> {
        for handle in handles {
            let Some(found) = self.memory.get(handle) else { continue };
            let idle = now.as_millis().saturating_sub(found.used.as_millis());
            if u128::try_from(idle).is_ok_and(|idle| idle > self.config.ttl.as_millis()) {
                self.memory.remove(handle);
                continue;
            }
            let mut found = found.clone();
            found.used = found.used.max(now);
            self.memory.insert(*handle, found.clone());
            return Some(found);
        }
        None
    }

    /// Binds sessions to their actor.
    pub fn bind(&mut self, handles: &[Handle], actor: &Actor, pending: bool, now: Timestamp) {
        for handle in handles {
            self.memory.insert(*handle, Remembered { actor: actor.clone(), pending, used: now });
        }
    }

    /// Forgets sessions.
    pub fn forget(&mut self, handles: &[Handle]) {
        for handle in handles {
            self.memory.remove(handle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(login: &str) -> Actor {
        Actor { login: Text::identifier(login), ..Actor::default() }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_bound_session_is_recalled_until_it_is_forgotten_or_unused_too_long() {
        let config = SessionConfig { ttl: Duration::from_secs(60), ..SessionConfig::default() };
        let mut sessions = Sessions::new(config, [7; 32]);
        let handle = [sessions.handle(b"abc")];
        assert!(sessions.recall(&handle, at(0)).is_none());
        sessions.bind(&handle, &actor("alice"), false, at(0));
        assert_eq!(sessions.recall(&handle, at(50)).map(|r| r.actor), Some(actor("alice")));
        assert!(sessions.recall(&handle, at(100)).is_some(), "use prolongs it");
        assert!(sessions.recall(&handle, at(200)).is_none(), "unused for longer than ttl");
        sessions.bind(&handle, &actor("alice"), false, at(200));
        sessions.forget(&handle);
        assert!(sessions.recall(&handle, at(200)).is_none());
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut sessions = Sessions::new(SessionConfig::default(), [7; 32]);
        for i in 0..CAPACITY as u64 + 50_000 {
            let handle = sessions.handle(&i.to_be_bytes());
            sessions.bind(&[handle], &actor("x"), false, at(0));
        }
        assert!(sessions.len() <= CAPACITY, "{}", sessions.len());
    }
}
