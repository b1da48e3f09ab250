//! What somebody wrote into a route that would never be said: rules that are not reached, outcomes
//! without an event type.
//!
//! Such a route is warned of and works; it is never refused for it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::Rule;
use crate::config::node::{Map, Node};
use crate::config::problem::Problems;
use crate::event::{EventType, Outcome};

/// A rule after one that always holds, or that repeats an earlier condition, is never reached.
pub(super) fn unreachable_rules(rules: &[Rule], nodes: &[Node], problems: &mut Problems) {
    if rules.len() != nodes.len() {
        return;
    }
    let mut always: Option<usize> = None;
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (i, (rule, node)) in rules.iter().zip(nodes).enumerate() {
        if let Some(before) = always {
            let message = format!("this rule is never reached: rule {} always holds", before + 1);
            problems.warn(node, message, "the first rule that holds decides: put the one without `when` last");
            continue;
        }
        match &rule.when {
            None => always = Some(i),
            Some(when) => match seen.entry(format!("{when:?}")) {
                Entry::Vacant(free) => {
                    free.insert(i);
                }
                Entry::Occupied(before) => {
                    let message = format!("this rule is never reached: rule {} has the same `when`", before.get() + 1);
                    problems.warn(node, message, "the first rule that holds decides: make this one's `when` narrower and put it first, or remove it");
                }
            },
        }
    }
}

/// Outcomes that somebody wrote down and that would still give no event.
pub(super) fn silent_outcomes(
    map: &Map<'_>,
    rules: &[Rule],
    default: Outcome,
    emit: &[(Outcome, EventType)],
    problems: &mut Problems,
) {
    if map.get("emit").is_none() {
        return;
    }
    let silent = |outcome: Outcome| {
        !matches!(outcome, Outcome::Ignore | Outcome::Unknown) && !emit.iter().any(|(o, _)| *o == outcome)
    };
    let mut warn = |at: &Node, outcome: Outcome| {
        problems.warn(
            at,
            format!("the outcome `{outcome}` has no event type: nothing is emitted"),
            &format!("add `{outcome}: TYPE` to the route's `emit`, or say `ignore` to stay silent on purpose"),
        );
    };
    let nodes = map.items("rules");
    let inner = rules.iter().zip(nodes).filter_map(|(rule, node)| Some((rule.follow.as_ref()?, node.child("follow")?)));
    let inner = inner.flat_map(|(follow, at)| follow.rules.iter().zip(at.child("rules").map_or(&[][..], Node::items)));
    let all = rules.iter().zip(nodes).chain(inner);
    for (rule, node) in all.filter(|(rule, _)| rule.emit.is_none() && silent(rule.outcome)) {
        warn(node.child("outcome").unwrap_or(node), rule.outcome);
    }
    if nodes.is_empty()
        && let Some(rule) = rules.first().filter(|rule| silent(rule.outcome))
    {
        warn(map.get("outcome").or(map.get("emit")).unwrap_or(map.node), rule.outcome);
    }
    if let Some(at) = map.get("default").filter(|_| silent(default)) {
        warn(at, default);
    }
}
