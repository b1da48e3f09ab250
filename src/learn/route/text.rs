//! A route of a draft as text.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Route, Then};
use crate::event::Outcome;
use crate::learn::observe::Call;
use crate::learn::place::{Went, pattern};
use crate::learn::sign::{Part, condition};
use crate::learn::yaml::Yaml;

impl Route<'_> {
    /// The route as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a text cannot fail.
        let _ = match self.examples.len() {
            0 | 1 => writeln!(out, "  # Seen once."),
            times => writeln!(out, "  # Seen {times} times."),
        };
        let _ = writeln!(out, "  - id: {}\n    match: {}", self.id, self.matched());
        if !self.actor.is_empty() {
            let mut actor = Yaml::map();
            for (key, sources) in &self.actor {
                actor.put(&[key], one_or_list(sources));
            }
            let _ = writeln!(out, "    actor: {actor}");
        }
        if let Some(method) = &self.method {
            let _ = writeln!(out, "    method: {method}");
        }
        let mut session = Yaml::map();
        let tokens: Vec<String> = self.tokens.iter().map(|pointer| format!("response.json:{pointer}")).collect();
        for (key, sources) in [("token", &tokens), ("carried", &self.carried)] {
            if !sources.is_empty() {
                session.put(&[key], one_or_list(sources));
            }
        }
        if !session.is_empty() {
            let _ = writeln!(out, "    session: {session}");
        }
        if let Some((name, keys)) = &self.flow {
            let _ = writeln!(out, "    flow: {{ name: {name}, key: {}, ttl: 1h }}", one_or_list(keys));
        }
        if self.step {
            out.push_str("    rules: [ { name: no-event, outcome: ignore } ]\n    emit: user.login.success\n");
            return out;
        }
        let emit = self.emit();
        out.push_str("    rules:\n");
        for (signs, then) in &self.rules {
            let mut rule = Yaml::map();
            // Two signs that contradict each other were never in one list.
            rule.put(&["when"], condition(signs, Part::When).unwrap_or(Yaml::map()));
            match then {
                Then::Decides(went) => decides(&mut rule, went, &emit),
                Then::Follows(next) => {
                    let rules = next.iter().map(|telling| {
                        let when = condition(&telling.signs, Part::When).unwrap_or(Yaml::map());
                        let mut rule = Yaml::map().with("when", when);
                        decides(&mut rule, &telling.class, &emit);
                        rule
                    });
                    let follow = Yaml::map().with("within", Yaml::word("15s"));
                    rule.put(&["follow"], follow.with("rules", Yaml::List(rules.collect())));
                }
            }
            let _ = writeln!(out, "      - {rule}");
        }
        let default = if self.topic.name == "login" { "unknown" } else { "ignore" };
        let mut types = Yaml::map();
        for (outcome, name) in &emit {
            types.put(&[outcome.as_str()], Yaml::word(name));
        }
        let _ = writeln!(out, "    default: {default}\n    emit: {types}\n    tests:");
        for test in self.tests() {
            let _ = writeln!(out, "      - {test}");
        }
        out
    }

    fn matched(&self) -> Yaml {
        let (path, _) = pattern(&self.place.path);
        let mut matched = Yaml::map().with("method", Yaml::word(&self.place.method)).with("path", Yaml::text(&path));
        match &self.place.call {
            Some(Call::GraphQl(operation, field)) => {
                matched.put(&["graphql", "operation"], Yaml::word(operation));
                matched.put(&["graphql", "field"], Yaml::text(field));
            }
            Some(Call::XmlRpc(method)) => {
                matched.put(&["xmlrpc", "method"], Yaml::text(method));
            }
            None => {}
        }
        self.narrowed.iter().for_each(|sign| {
            sign.put(Part::Match, &mut matched);
        });
        matched
    }

    /// The type of each outcome, unless a rule says otherwise.
    fn emit(&self) -> BTreeMap<Outcome, String> {
        let mut emit = BTreeMap::new();
        for (_, example) in &self.examples {
            if let Went::Said { outcome, types, .. } = &example.class
                && let Some(first) = types.first()
            {
                emit.entry(*outcome).or_insert_with(|| first.clone());
            }
        }
        emit
    }
}

/// What a rule says beside its condition.
fn decides(rule: &mut Yaml, went: &Went, emit: &BTreeMap<Outcome, String>) {
    let Went::Said { outcome, types, reason } = went else {
        rule.put(&["outcome"], Yaml::word("ignore"));
        return;
    };
    rule.put(&["outcome"], Yaml::word(outcome.as_str()));
    if let Some(reason) = reason {
        rule.put(&["reason"], Yaml::word(reason));
    }
    if let Some((first, further)) = types.split_first() {
        if emit.get(outcome) != Some(first) {
            rule.put(&["emit"], Yaml::word(first));
        }
        if !further.is_empty() {
            rule.put(&["also"], Yaml::List(further.iter().map(|name| Yaml::word(name)).collect()));
        }
    }
}

fn one_or_list(sources: &[String]) -> Yaml {
    match sources {
        [one] => Yaml::text(one),
        several => Yaml::List(several.iter().map(|source| Yaml::text(source)).collect()),
    }
}
