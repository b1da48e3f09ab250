//! Sampling: events that would come with every request are said once in a while.
//!
//! An API key is used thousands of times a minute. What is worth knowing is that it is in use, by
//! whom and from where, so a route may say one success per key and interval. Only successes are
//! sampled: a refusal is always told. The key is never kept, only its keyed hash is; a request that
//! carries none counts by its client's address, so that nothing floods.

use std::time::Duration;

use http::header::AUTHORIZATION;
use quick_cache::unsync::Cache;

use super::Decision;
use super::facts::Facts;
use super::source::{Secrets, Source};
use crate::config::node::Node;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::event::{EventType, Outcome, Timestamp};
use crate::exchange::Exchange;

/// The most keys remembered, of all routes; the least recently used go first.
pub const CAPACITY: u64 = 10_000;

/// How often a key is told, unless the route says otherwise.
const EVERY: Duration = Duration::from_secs(3600);

/// Where applications take keys, beside `Authorization`.
const HEADERS: [&str; 6] = ["x-api-key", "api-key", "apikey", "x-auth-token", "x-access-token", "private-token"];
const QUERY: [&str; 6] = ["access_token", "api_key", "apikey", "token", "auth_token", "key"];

/// The keys of `sample:`.
pub const FIELDS: &[Field] = &[
    Field::new(
        "per",
        Kind::OneOrList(&Kind::Str),
        "key",
        "key: the credential, wherever it usually stands; ip: the client; or sources of a key, which is only hashed",
    ),
    Field::new("every", Kind::Duration, "1h", "say it again after so long"),
];

/// What `sample:` may be.
pub const KIND: Kind = Kind::Any(&[Kind::Word(&["off"]), Kind::Map(FIELDS)]);

/// How the successes of a route are sampled.
#[derive(Clone, Debug)]
pub struct Sample {
    per: Per,
    every: Duration,
}

#[derive(Clone, Debug)]
enum Per {
    Key,
    Client,
    Sources(Vec<Source>),
}

impl Sample {
    /// Reads `sample:` of a route; without it, a route that says when API keys are used has the usual
    /// one. The sources it reads are added to `used`.
    pub fn check<'n>(
        node: Option<&'n Node>,
        types: &[&EventType],
        used: &mut Vec<(Source, &'n Node)>,
        problems: &mut Problems,
    ) -> Option<Sample> {
        let Some(node) = node else {
            let keys = types.iter().any(|t| t.as_str() == "api_key.used");
            return keys.then_some(Sample { per: Per::Key, every: EVERY });
        };
        if matches!(node.scalar(), Some("off" | "false" | "no")) {
            return None;
        }
        let map = node.map(FIELDS, problems)?;
        let every = map.duration("every", problems).unwrap_or(EVERY);
        if let Some(at) = map.get("every").filter(|_| every.is_zero()) {
            problems.error_hint(at, "this samples nothing".into(), "write a time like 1h, or `sample: off`");
        }
        let per = match map.get("per").map(Node::scalar) {
            None | Some(Some("key")) => Per::Key,
            Some(Some("ip")) => Per::Client,
            Some(_) => {
                let mut sources = Vec::new();
                for item in map.items("per") {
                    if let Some(source) = Source::check(item, Secrets::Hashed, problems) {
                        used.push((source.clone(), item));
                        sources.push(source);
                    }
                }
                Per::Sources(sources)
            }
        };
        Some(Sample { per, every })
    }

    /// What is counted as one, apart from other routes.
    fn unit(&self, decision: &Decision<'_>, facts: &Facts<'_>, exchange: &Exchange) -> Vec<u8> {
        let key = match &self.per {
            Per::Key => credential(facts),
            Per::Client => None,
            Per::Sources(sources) => {
                sources.iter().find_map(|s| s.read(facts, &decision.route.paths)).map(String::into_bytes)
            }
        };
        let unit = key.unwrap_or_else(|| exchange.client_ip.to_string().into_bytes());
        [decision.route.id.as_str().as_bytes(), b"\0", &unit].concat()
    }
}

/// The credential of a request, wherever keys usually stand.
fn credential(facts: &Facts<'_>) -> Option<Vec<u8>> {
    let headers = std::iter::once(AUTHORIZATION.as_str()).chain(HEADERS);
    let header = headers.filter_map(|name| facts.headers.get(name)).find(|v| !v.is_empty());
    let query = || QUERY.iter().filter_map(|name| facts.query().last(name)).find(|v| !v.is_empty());
    header.map(|v| v.as_bytes().to_vec()).or_else(|| query().map(|v| v.as_bytes().to_vec()))
}

/// When each key was last told.
pub struct Sampler {
    key: [u8; 32],
    told: Cache<[u8; 16], Timestamp>,
}

impl Sampler {
    /// One that has told nothing; its hashes are keyed with `key`.
    pub fn new(key: [u8; 32]) -> Sampler {
        Sampler { key, told: Cache::with_weighter(64, CAPACITY, quick_cache::UnitWeighter) }
    }

    /// True if the event is to be told; then it counts as told.
    pub fn due(&mut self, decision: &Decision<'_>, facts: &Facts<'_>, exchange: &Exchange) -> bool {
        let Some(sample) = decision.route.sample.as_ref().filter(|_| decision.outcome == Outcome::Success) else {
            return true;
        };
        self.passes(&sample.unit(decision, facts, exchange), sample.every, exchange.answered)
    }

    fn passes(&mut self, unit: &[u8], every: Duration, now: Timestamp) -> bool {
        let hash = blake3::keyed_hash(&self.key, unit);
        let mut unit = [0; 16];
        unit.copy_from_slice(&hash.as_bytes()[..16]);
        if let Some(told) = self.told.get(&unit) {
            let since = now.as_millis().saturating_sub(told.as_millis());
            // Exchanges end out of order: one from before the last that was told belongs to its interval.
            if u128::try_from(since).map_or(true, |since| since < every.as_millis()) {
                return false;
            }
        }
        self.told.insert(unit, now);
        true
    }

    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        self.told.len()
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.told.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_again_after_its_interval_and_not_before() {
        let mut sampler = Sampler::new([7; 32]);
        let mut at = |key: &str, seconds: i64| {
            sampler.passes(key.as_bytes(), Duration::from_secs(60), Timestamp::from_millis(seconds * 1000))
        };
        let told = [at("a", 100), at("a", 159), at("b", 159), at("a", 90), at("a", 160), at("a", 219), at("a", 220)];
        assert_eq!(told, [true, false, true, false, true, false, true]);
    }

    #[test]
    fn a_million_invented_keys_take_no_more_room_than_ten_thousand() {
        let mut sampler = Sampler::new([7; 32]);
        for n in 0..1_000_000_u32 {
            sampler.passes(&n.to_le_bytes(), EVERY, Timestamp::from_millis(0));
        }
        assert!(sampler.len() as u64 <= CAPACITY && !sampler.is_empty(), "{}", sampler.len());
    }
}
