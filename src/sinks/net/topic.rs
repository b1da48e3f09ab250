//! A topic, subject or routing key, in which `{type}` and `{outcome}` stand for those of the event.
//!
//! Only words of authtap's own vocabulary may be put in: nothing that a client sent ever decides
//! where an event goes.

use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::event::Event;

/// The longest topic, in bytes.
const MAX: usize = 200;

/// A checked topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic(String);

impl Topic {
    /// Reads `key`, or takes `usual`. `None` if there was an error. Characters of `never` mean
    /// something else to the receiver, and so do spaces and control characters.
    pub fn check(
        map: &Map<'_>,
        key: &str,
        usual: &'static str,
        never: &[char],
        problems: &mut Problems,
    ) -> Option<Topic> {
        let Some(at) = map.get(key) else { return Some(Topic(usual.to_owned())) };
        let text = at.str(problems)?;
        let bare = text.replace("{type}", "t").replace("{outcome}", "o");
        let wrong = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '{' | '}') || never.contains(&c);
        if text.is_empty() || text.len() > MAX || bare.contains(wrong) {
            let hint = "visible characters, at most 200 bytes; `{type}` and `{outcome}` stand for those of the event";
            problems.error_hint(at, format!("`{key}` cannot be {}", at.describe()), hint);
            return None;
        }
        Some(Topic(text.to_owned()))
    }

    /// The topic of this event, by the canonical name of its type.
    pub fn of(&self, event: &Event) -> String {
        if !self.0.contains('{') {
            return self.0.clone();
        }
        self.0.replace("{type}", event.event_type.as_str()).replace("{outcome}", event.outcome.as_str())
    }

    /// The text as it was configured.
    pub fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::node::Node;
    use crate::config::shape::{Field, Kind};

    const FIELDS: &[Field] = &[Field::new("topic", Kind::Str, "", "")];

    fn read(yaml: &str) -> (Option<Topic>, String) {
        let mut problems = Problems::new("t.yaml", yaml);
        let node = Node::parse(yaml, &mut problems).unwrap();
        let map = node.map(FIELDS, &mut problems).unwrap();
        (Topic::check(&map, "topic", "authtap.events", &['*', '>'], &mut problems), problems.to_string())
    }

    #[test]
    fn type_and_outcome_are_put_in_and_nothing_else_is() {
        let event = crate::spool::sample::login("alice");
        let topic = |yaml: &str| read(yaml).0.unwrap().of(&event);
        assert_eq!(topic("topic: auth.{type}.{outcome}\n"), "auth.user.login.failed.failure");
        assert_eq!(topic("{}\n"), "authtap.events");
        for bad in ["a b", "'a.*'", "'a.>'", "'{login}'", "''", "\"a\\u0001\""] {
            let (topic, problems) = read(&format!("topic: {bad}\n"));
            assert!(topic.is_none() && problems.contains("`topic` cannot be"), "{bad}: {problems}");
        }
    }
}
