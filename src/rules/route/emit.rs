//! Reads which event types a route emits for which outcome.

use super::Rule;
use super::fields::EMIT;
use crate::config::node::{Node, Value, clip, suggest};
use crate::config::problem::Problems;
use crate::event::kind::VOCABULARY;
use crate::event::{EventType, Outcome};

pub(super) enum Emit {
    One(EventType),
    Each(Vec<(Outcome, EventType)>),
}

pub(super) fn emit(node: Option<&Node>, problems: &mut Problems) -> Emit {
    let Some(node) = node else { return Emit::Each(Vec::new()) };
    if node.scalar().is_some() {
        return event_type(node, problems).map_or(Emit::Each(Vec::new()), Emit::One);
    }
    if matches!(node.value, Value::Seq(_)) {
        let hint =
            "write one type, or one for each outcome: { success: user.login.success }; further ones go into `also`";
        problems.error_hint(node, "expected an event type or a mapping, found a list".into(), hint);
        return Emit::Each(Vec::new());
    }
    let Some(map) = node.map(EMIT, problems) else { return Emit::Each(Vec::new()) };
    let each = Outcome::ALL.into_iter().filter_map(|outcome| {
        let node = map.get(outcome.as_str())?;
        Some((outcome, event_type(node, problems)?))
    });
    Emit::Each(each.collect())
}

/// A route about logins says so by what it emits; what its other outcomes are called follows.
pub(super) fn with_defaults(mut emit: Vec<(Outcome, EventType)>) -> Vec<(Outcome, EventType)> {
    let login = emit.iter().any(|(_, t)| matches!(t.as_str(), "user.login.success" | "user.login.failed"));
    if login {
        for (outcome, name) in [
            (Outcome::Unknown, "user.login.unknown"),
            (Outcome::Rejected, "user.login.rejected"),
            (Outcome::Challenge, "user.mfa.challenge.requested"),
        ] {
            if !emit.iter().any(|(o, _)| *o == outcome) {
                emit.push((outcome, EventType::fixed(name)));
            }
        }
    }
    emit
}

pub(in crate::rules) fn event_type(node: &Node, problems: &mut Problems) -> Option<EventType> {
    let text = node.str(problems)?;
    let Some(event_type) = EventType::parse(text) else {
        problems.error_hint(
            node,
            format!("`{}` is not an event type", clip(text)),
            "a type is two or more lower-case words with dots between, like user.login.success",
        );
        return None;
    };
    if !event_type.is_known() {
        let names: Vec<&str> = VOCABULARY.iter().map(|k| k.name).collect();
        let hint = suggest(text, &names);
        if hint.starts_with("did you mean") {
            let message = format!("`{text}` is no known event type, though one is spelt much like it");
            problems.warn(node, message, &hint);
        }
    }
    Some(event_type)
}

pub(super) fn all_types<'r>(emit: &'r [(Outcome, EventType)], rules: &'r [Rule]) -> Vec<&'r EventType> {
    let inner = rules.iter().filter_map(|r| r.follow.as_ref()).flat_map(|f| &f.rules);
    let of_rules = rules.iter().chain(inner).flat_map(|r| r.emit.iter().chain(&r.also));
    emit.iter().map(|(_, t)| t).chain(of_rules).collect()
}
