//! `session:` of the configuration: where sessions are carried, and for how long they are remembered.

use std::time::Duration;

use http::HeaderName;

use crate::config::node::Node;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::replicas::{self, SharePlan};

/// The most bound sessions remembered, unless `session.capacity` says otherwise; the least recently
/// used go first.
pub const CAPACITY: usize = 200_000;
const EVENTS: &[&str] = &["created", "revoked"];

/// The keys of `session:`.
pub const FIELDS: &[Field] = &[
    Field::new(
        "cookies",
        Kind::OneOrList(&Kind::Str),
        "recognised at logins",
        "names of session cookies; a name may end in `*`",
    ),
    Field::new("bearer", Kind::Bool, "true", "take the token of `Authorization` as a session"),
    Field::new("headers", Kind::OneOrList(&Kind::Str), "[]", "headers that carry a session token"),
    Field::new("ttl", Kind::Duration, "12h", "forget a session that was not used for so long"),
    Field::new("capacity", Kind::Int(100, 10_000_000), "200000", "how many sessions are remembered at most"),
    Field::new(
        "events",
        Kind::OneOrList(&Kind::Word(EVENTS)),
        "[]",
        "created: `session.created` when a login binds a session; revoked: `session.revoked` when one ends, with the reason user, deleted or expired",
    ),
    Field::new(
        "share",
        Kind::Map(replicas::FIELDS),
        "",
        "share sessions with other replicas through Redis; needs the feature `redis`",
    ),
];

/// Where sessions are carried, and for how long they are remembered.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Names of session cookies; if there is none, they are recognised at logins.
    pub cookies: Vec<String>,
    /// Whether `Authorization` carries sessions.
    pub bearer: bool,
    /// Headers that carry them.
    pub headers: Vec<HeaderName>,
    /// How long an unused one is remembered.
    pub ttl: Duration,
    /// How many are remembered.
    pub capacity: usize,
    /// Whether `session.created` is emitted.
    pub created: bool,
    /// Whether `session.revoked` is emitted.
    pub revoked: bool,
    /// Through what they are shared with other replicas; read at the start only.
    pub share: Option<SharePlan>,
}

impl Default for SessionConfig {
    fn default() -> Self {
        SessionConfig {
            cookies: Vec::new(),
            bearer: true,
            headers: Vec::new(),
            ttl: Duration::from_secs(12 * 3600),
            capacity: CAPACITY,
            created: false,
            revoked: false,
            share: None,
        }
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
        let capacity = map.int("capacity", 100..=10_000_000, problems).and_then(|n| usize::try_from(n).ok());
        config.capacity = capacity.unwrap_or(config.capacity);
        for item in map.items("events") {
            match item.one_of(EVENTS, problems) {
                Some("created") => config.created = true,
                Some(_) => config.revoked = true,
                None => {}
            }
        }
        config.share = map.get("share").and_then(|at| SharePlan::check(at, problems));
        config
    }

    /// `ttl` in seconds.
    pub(super) fn ttl_seconds(&self) -> u32 {
        u32::try_from(self.ttl.as_secs()).unwrap_or(u32::MAX)
    }

    /// Warns of what only shows once presets have added their cookies: names that are recognised at
    /// logins are those of the logins that one replica sees.
    pub fn check_shared(&self, node: Option<&Node>, problems: &mut Problems) {
        let at = node.and_then(|n| n.child("share"));
        if let Some(at) = at.filter(|_| self.cookies.is_empty() && self.headers.is_empty()) {
            let message = "without named cookies a replica knows a session only after a login that it saw itself";
            problems.warn(at, message.into(), "name them: `cookies: [sessionid]` under `session`");
        }
    }
}
