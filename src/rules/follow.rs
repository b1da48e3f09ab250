//! What a route says about further requests: flows (several steps make one login) and follow-ups
//! (the client's next request decides).
//!
//! Only what the file says stands here; who is in which step, and what waits for which request,
//! is state, and the pipeline's.

use std::time::Duration;

use super::condition::{self, Condition, Needs};
use super::route::{OUTCOMES, Rule, event_type, outcome_of};
use super::source::{Secrets, Source};
use crate::config::node::{Node, Value};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::event::Text;

/// How long a follow-up waits without `within`.
const WITHIN: Duration = Duration::from_secs(15);
/// The longest that one may wait.
const MAX_WITHIN: Duration = Duration::from_secs(300);
/// How long a flow is remembered without `ttl`.
const FLOW_TTL: Duration = Duration::from_secs(600);

const RULE: &[Field] = &[
    Field::new("name", Kind::Str, "RULE-N", "what `source.rule` of the event says"),
    Field::new("when", condition::CONDITION, "always", "what must hold of the next request and its answer"),
    Field::required("outcome", Kind::Word(OUTCOMES), "what it decides about the request that waits"),
    Field::new("reason", Kind::Str, "", "one word why"),
    Field::new("emit", Kind::Str, "", "event type, instead of what the route's `emit` says"),
    Field::new("also", Kind::OneOrList(&Kind::Str), "", "further event types"),
];

/// The keys of `follow`.
pub const FIELDS: &[Field] = &[
    Field::new(
        "within",
        Kind::Duration,
        "15s",
        "how long to wait for the next request; after it the outcome is unknown",
    ),
    Field::required("rules", Kind::List(&Kind::Map(RULE)), "tried in order on the next request and its answer"),
];

/// The keys of `flow`.
pub const FLOW: &[Field] = &[
    Field::new("name", Kind::Str, "login", "the same in every step; flows of different names do not meet"),
    Field::required(
        "key",
        Kind::OneOrList(&Kind::Str),
        "what the steps have in common, a source or several; a cookie or query field is followed when the answer \
         changes it; `session` is whatever carries the session. Kept only as a keyed hash",
    ),
    Field::new("ttl", Kind::Duration, "10m", "how long after a step the next one may come"),
];

/// The next request decides.
#[derive(Debug)]
pub struct Follow {
    /// How long to wait for it.
    pub within: Duration,
    /// The rules, about that request and its answer.
    pub rules: Vec<Rule>,
}

impl Follow {
    /// Reads a `follow`; `rule` is the name of the rule it stands in.
    pub fn check(node: &Node, rule: &Text, cookies: &[String], problems: &mut Problems) -> Option<Follow> {
        let map = node.map(FIELDS, problems)?;
        let within = map.duration("within", problems).unwrap_or(WITHIN);
        if let Some(at) = map.get("within").filter(|_| within.is_zero() || within > MAX_WITHIN) {
            problems.error_hint(at, "nobody's next request comes then".into(), "write a time up to 5m, like 15s");
        }
        let items = map.list("rules", problems);
        if let Some(at) = map.get("rules").filter(|n| matches!(&n.value, Value::Seq(items) if items.is_empty())) {
            problems.error_hint(
                at,
                "no rule can decide".into(),
                "say which next request means what: - { when: { path: /login }, outcome: failure }",
            );
        }
        let mut rules = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let Some(inner) = item.map(RULE, problems) else { continue };
            let when = match inner.get("when") {
                Some(at) => match Condition::check_when(at, cookies, problems) {
                    Some(when) => Some(when),
                    None => continue,
                },
                None => None,
            };
            let name = inner.str("name", problems).and_then(Text::other);
            let Some(outcome) = outcome_of(inner.one_of("outcome", OUTCOMES, problems)) else { continue };
            rules.push(Rule {
                name: name.or_else(|| Text::other(&format!("{rule}-{}", i + 1)))?,
                when,
                outcome,
                follow: None,
                reason: inner.str("reason", problems).and_then(Text::other),
                emit: inner.get("emit").and_then(|n| event_type(n, problems)),
                also: inner.items("also").iter().filter_map(|n| event_type(n, problems)).collect(),
            });
        }
        Some(Follow { within, rules })
    }

    /// Which bodies of the next exchange its rules may read.
    pub fn needs(&self) -> Needs {
        self.rules.iter().filter_map(|r| r.when.as_ref()).map(Condition::needs).fold(Needs::default(), Needs::or)
    }
}

/// What the steps of a flow have in common.
#[derive(Clone, Debug)]
pub enum FlowKey {
    /// Whatever carries the session.
    Session,
    /// A value of the exchange.
    Source(Source),
}

/// The login of several steps that a route is one of.
#[derive(Clone, Debug)]
pub struct FlowPlan {
    /// The same in every step.
    pub name: Text,
    /// What the steps have in common.
    pub keys: Vec<FlowKey>,
    /// How long after a step the next may come.
    pub ttl: Duration,
}

impl FlowPlan {
    /// Reads a `flow`. The sources are added to `used`.
    pub fn check<'n>(node: &'n Node, used: &mut Vec<(Source, &'n Node)>, problems: &mut Problems) -> Option<FlowPlan> {
        let map = node.map(FLOW, problems)?;
        let mut keys = Vec::new();
        for item in map.items("key") {
            if item.scalar() == Some("session") {
                keys.push(FlowKey::Session);
            } else if let Some(source) = Source::check(item, Secrets::Hashed, problems) {
                used.push((source.clone(), item));
                keys.push(FlowKey::Source(source));
            }
        }
        let ttl = map.duration("ttl", problems).unwrap_or(FLOW_TTL);
        if let Some(at) = map.get("ttl").filter(|_| ttl.is_zero()) {
            problems.error_hint(at, "every step would be forgotten at once".into(), "write a time like 10m");
        }
        let name = map.str("name", problems).and_then(Text::other).unwrap_or(Text::fixed("login"));
        Some(FlowPlan { name, keys, ttl })
    }
}
