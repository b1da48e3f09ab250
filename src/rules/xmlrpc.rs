//! Conditions about XML-RPC: the method of a call, its parameters, and whether it failed.
//!
//! XML-RPC answers 200 whatever happened; the outcome is a fault or none. Of a body that was cut,
//! what was read counts and what is missing is open.

use super::condition::{MATCHER, Needs};
use super::facts::{Facts, Truth, select};
use super::matcher::Matcher;
use crate::body::json::scalar_text;
use crate::body::xmlrpc::Answer;
use crate::config::node::Node;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};

const METHOD: Field =
    Field::new("method", MATCHER, "", "the method, also of each call within a `system.multicall`: wp.getUsersBlogs");

/// The keys under `match`.
pub const MATCH: &[Field] = &[METHOD];

/// The keys under `when`.
pub const WHEN: &[Field] = &[
    METHOD,
    Field::new("fault", Kind::Word(&["present", "absent"]), "", "whether the call failed"),
    Field::new("code", MATCHER, "", "`faultCode`"),
];

/// One demand on a call.
#[derive(Clone, Debug)]
pub enum Demand {
    /// Its method.
    Method(Matcher),
    /// Whether it failed.
    Fault(bool),
    /// The code of the failure.
    Code(Matcher),
}

/// Reads `xmlrpc:` of a `match` or a `when`; `make` wraps each demand.
pub(super) fn check<C>(
    node: &Node,
    fields: &'static [Field],
    make: fn(Demand) -> C,
    all: &mut Vec<C>,
    problems: &mut Problems,
) {
    let Some(map) = node.map(fields, problems) else { return };
    if node.entries(problems).is_empty() {
        let hint = "say which: { method: wp.getUsersBlogs }";
        problems.error_hint(node, "the condition demands nothing".into(), hint);
    }
    for (key, demand) in [("method", Demand::Method as fn(Matcher) -> Demand), ("code", Demand::Code)] {
        all.extend(map.get(key).and_then(|at| Matcher::check(at, problems)).map(|m| make(demand(m))));
    }
    let fault = map.one_of("fault", &["present", "absent"], problems);
    all.extend(fault.map(|word| make(Demand::Fault(word == "present"))));
}

impl Demand {
    /// Which bodies it reads.
    pub fn needs(&self) -> Needs {
        // To know which result is meant, the request has to be read.
        Needs { request_body: true, response_body: !matches!(self, Demand::Method(_)) }
    }

    /// Whether it holds of the call that is looked at.
    pub fn holds(&self, facts: &Facts<'_>) -> Truth {
        let body = facts.request_body()?;
        let Some(call) = facts.xmlrpc() else { return if body.cut() { None } else { Some(false) } };
        if let Demand::Method(matcher) = self {
            return Some(matcher.matches(Some(&call.method)));
        }
        let answer = facts.response_body()?;
        let Some(found) = facts.xmlrpc_answer() else { return if answer.cut() { None } else { Some(false) } };
        Some(match (self, found) {
            (Demand::Fault(wanted), found) => matches!(found, Answer::Fault(_)) == *wanted,
            (Demand::Code(matcher), Answer::Fault(fault)) => {
                matcher.matches(fault.get("faultCode").and_then(scalar_text).as_deref().map(str::trim))
            }
            (Demand::Code(matcher), Answer::Value(_)) => matcher.accepts_absence(),
            (Demand::Method(_), _) => false,
        })
    }
}

/// The text at a pointer whose first step is a parameter's position, counted from 0.
pub(super) fn param(facts: &Facts<'_>, pointer: &str) -> Option<String> {
    let call = facts.xmlrpc()?;
    let (position, rest) = pointer.strip_prefix('/')?.split_once('/').map_or((pointer.get(1..)?, ""), |(p, r)| (p, r));
    let param = call.params.get(position.parse::<usize>().ok()?)?;
    let rest = if rest.is_empty() { String::new() } else { format!("/{rest}") };
    select(param, &rest).into_iter().find_map(|v| scalar_text(v).map(|t| t.into_owned()))
}
