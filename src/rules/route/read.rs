//! Reads and compiles one entry of `routes:` and its rules.
//!
//! It runs when a configuration is loaded, never on the traffic path. What is left out gets its
//! default here, so that whoever asks a compiled route need not know the short forms.

use super::emit::{Emit, all_types, emit, event_type, with_defaults};
use super::fields::{ACTOR, COMPARE, FIELDS, OUTCOMES, RULE, SESSION, TARGET};
use super::warnings::{silent_outcomes, unreachable_rules};
use super::{ActorSources, Compare, Route, Rule, TargetSources};
use crate::config::node::{Node, Value, clip, suggest};
use crate::config::problem::Problems;
use crate::event::{MAX_FIELDS, Outcome, Text};
use crate::rules::case::Case;
use crate::rules::condition::{Condition, Needs};
use crate::rules::follow::{FlowPlan, Follow};
use crate::rules::path::PathPattern;
use crate::rules::sample::Sample;
use crate::rules::source::{Secrets, Source};

impl Route {
    /// Reads one entry of `routes:`. `cookies` are the names of session cookies.
    pub fn check(node: &Node, cookies: &[String], problems: &mut Problems) -> Option<Route> {
        let map = node.map(FIELDS, problems)?;
        let id = map.get("id").and_then(|at| check_id(at, problems));
        let demands = map.get("match").and_then(|n| Condition::check_match(n, problems)).unwrap_or_default();
        if let Some(at) = map.get("match").filter(|n| matches!(&n.value, Value::Map(entries) if entries.is_empty())) {
            problems.warn(at, "the route is about every request".into(), "say which: { method: POST, path: /login }");
        }
        let paths: Vec<PathPattern> = demands
            .iter()
            .find_map(|d| if let Condition::Path(paths) = d { Some(paths.clone()) } else { None })
            .unwrap_or_default();
        let parameters: Vec<&str> = paths.iter().flat_map(PathPattern::parameters).collect();

        let mut used: Vec<(Source, &Node)> = Vec::new();
        let mut actor = ActorSources::default();
        if let Some(inner) = map.get("actor").and_then(|n| n.map(ACTOR, problems)) {
            actor.id = sources(inner.get("id"), &mut used, problems);
            actor.login = sources(inner.get("login"), &mut used, problems);
            actor.email = sources(inner.get("email"), &mut used, problems);
            actor.kind = inner.str("type", problems).and_then(Text::other);
        }
        let target = map.get("target").and_then(|n| n.map(TARGET, problems)).map(|inner| TargetSources {
            kind: inner.str("type", problems).and_then(Text::other),
            id: sources(inner.get("id"), &mut used, problems),
            email: sources(inner.get("email"), &mut used, problems),
        });
        let organization = sources(map.get("organization"), &mut used, problems);
        let mut single = |key: &str, problems: &mut Problems| {
            let node = map.get(key)?;
            let source = Source::check_or_text(node, problems)?;
            used.push((source.clone(), node));
            Some(source)
        };
        let method = single("method", problems);
        let provider = single("provider", problems);
        let mut fields = Vec::new();
        if let Some(at) = map.get("fields") {
            let entries = at.entries(problems);
            if let Some((key, _)) = entries.get(MAX_FIELDS) {
                let message = format!("{} fields, but an event holds {MAX_FIELDS}", entries.len());
                problems.error_key(at, key, message, "from here on there is no room: keep what an investigation needs");
            }
            for (key, value) in entries {
                let from = sources(Some(value), &mut used, problems);
                fields.extend(Text::other(&key.text).map(|name| (name, from)));
            }
        }
        let (mut tokens, mut carried) = (Vec::new(), Vec::new());
        if let Some(inner) = map.get("session").and_then(|n| n.map(SESSION, problems)) {
            for (key, into) in [("token", &mut tokens), ("carried", &mut carried)] {
                for item in inner.items(key) {
                    let source = Source::check(item, Secrets::Hashed, problems);
                    used.extend(source.clone().map(|source| (source, item)));
                    into.extend(source);
                }
            }
        }
        let flow = map.get("flow").and_then(|at| FlowPlan::check(at, &mut used, problems));
        let compare = map.get("compare").and_then(|n| n.map(COMPARE, problems)).map(|inner| Compare {
            fields: inner.items("fields").iter().filter_map(|n| n.str(problems).map(str::to_owned)).collect(),
            key: sources(inner.get("key"), &mut used, problems),
        });
        let mut also = Vec::new();
        for item in map.items("also") {
            also.extend(event_type(item, problems));
        }
        let before = problems.counts().0;
        let emit = emit(map.get("emit"), problems);
        let short = map.get("rules").is_none();
        let (mut rules, default) = if short {
            let when = match map.get("when") {
                Some(at) => Condition::check_when(at, cookies, problems),
                None => Some(Condition::Status(vec![200..=399])),
            };
            let outcome = outcome_of(map.one_of("outcome", OUTCOMES, problems)).unwrap_or(Outcome::Success);
            let default = outcome_of(map.one_of("default", OUTCOMES, problems)).unwrap_or(Outcome::Ignore);
            let rule = Rule {
                name: Text::fixed("when"),
                when,
                outcome,
                follow: None,
                reason: None,
                emit: None,
                also: Vec::new(),
            };
            (vec![rule], default)
        } else {
            for key in ["when", "outcome"] {
                if let Some(at) = map.get(key) {
                    problems.error_hint(
                        at,
                        format!("`{key}` cannot stand beside `rules`"),
                        "put it into the rules: - { when: …, outcome: … }",
                    );
                }
            }
            let rules = map.list("rules", problems);
            if let Some(at) = map.get("rules").filter(|n| matches!(&n.value, Value::Seq(items) if items.is_empty())) {
                problems.warn(
                    at,
                    "no rule can decide".into(),
                    "write at least one, or use the short form: when: { … }",
                );
            }
            let rules: Vec<Rule> =
                rules.iter().enumerate().filter_map(|(i, n)| Rule::check(i, n, cookies, problems)).collect();
            (rules, outcome_of(map.one_of("default", OUTCOMES, problems)).unwrap_or(Outcome::Unknown))
        };
        for rule in &mut rules {
            let decide = match &mut rule.follow {
                Some(follow) => follow.rules.iter_mut().collect(),
                None => vec![rule],
            };
            for rule in decide {
                if matches!(rule.outcome, Outcome::Success | Outcome::Requested) {
                    rule.also.extend(also.iter().cloned());
                }
            }
        }
        // The short form emits its one type for whatever outcome it names.
        let emit = match (short, rules.first(), emit) {
            (true, Some(rule), Emit::One(event_type)) => vec![(rule.outcome, event_type)],
            // One type stands for what happened, whether it is known to be done or only asked for.
            (_, _, Emit::One(event_type)) => {
                with_defaults(vec![(Outcome::Success, event_type.clone()), (Outcome::Requested, event_type)])
            }
            (_, _, Emit::Each(each)) => with_defaults(each),
        };
        // What was misread is not judged further: one slip is told once.
        if problems.counts().0 == before {
            unreachable_rules(&rules, map.items("rules"), problems);
            silent_outcomes(&map, &rules, default, &emit, problems);
        }

        let compared = compare.as_ref().map_or(&[][..], |compare| &compare.fields);
        let changed = rules.iter().filter_map(|rule| rule.when.as_ref()).flat_map(Condition::changed_fields);
        for name in changed.filter(|name| !compared.iter().any(|field| field == name)) {
            let hint = format!("name it beside the route's rules: compare: {{ fields: [{}] }}", clip(name));
            problems.error_hint(
                node,
                format!("`form_changed` names `{}`, which `compare` does not", clip(name)),
                &hint,
            );
        }
        let types = all_types(&emit, &rules);
        let sample = Sample::check(map.get("sample"), &types, &mut used, problems);
        for (source, at) in &used {
            if let Source::Path(name) = source.innermost()
                && !parameters.contains(&name.as_str())
            {
                let hint = match parameters.is_empty() {
                    true => "give the path a parameter: template:/users/{id}".to_owned(),
                    false => suggest(name, &parameters),
                };
                problems.error_hint(at, format!("the path has no parameter `{}`", clip(name)), &hint);
            }
        }

        let tests = map.list("tests", problems).iter();
        let cases = tests.filter_map(|at| Case::check(at, &demands, &paths, problems)).collect();

        let needs = |all: &mut dyn Iterator<Item = Needs>| all.fold(Needs::default(), Needs::or);
        Some(Route {
            id: id?,
            preset: None,
            scope: demands
                .iter()
                .chain(rules.iter().filter_map(|r| r.when.as_ref()))
                .map(Condition::scope)
                .chain(used.iter().map(|(s, _)| s.scope()))
                .max()
                .unwrap_or_default(),
            demand_needs: needs(&mut demands.iter().map(Condition::needs)),
            source_needs: needs(&mut used.iter().map(|(s, _)| s.needs())),
            rule_needs: needs(&mut rules.iter().filter_map(|r| r.when.as_ref()).map(Condition::needs)),
            paths,
            demands,
            actor,
            target,
            organization,
            method,
            provider,
            fields,
            tokens,
            carried,
            flow,
            compare,
            sample,
            rules,
            default,
            emit,
            cases,
        })
    }
}

impl Rule {
    fn check(index: usize, node: &Node, cookies: &[String], problems: &mut Problems) -> Option<Rule> {
        let map = node.map(RULE, problems)?;
        let follow = map.get("follow");
        let outcome = map.get("outcome");
        match (outcome, follow) {
            (Some(at), Some(_)) => problems.error_hint(
                at,
                "`outcome` cannot stand beside `follow`".into(),
                "the next request decides: put the outcomes into the rules of `follow`",
            ),
            (None, None) => problems.error_hint(
                node,
                "the rule decides nothing: `outcome` is missing".into(),
                "add `outcome: success` (or failure, challenge, requested, rejected, unknown, ignore), or `follow`",
            ),
            _ => {}
        }
        if follow.is_some() {
            for key in ["reason", "emit", "also"] {
                if let Some(at) = map.get(key) {
                    let message = format!("`{key}` cannot stand beside `follow`");
                    problems.error_hint(at, message, "put it beside the outcome, into the rules of `follow`");
                }
            }
        }
        let when = match map.get("when") {
            Some(at) => Some(Condition::check_when(at, cookies, problems)?),
            None => None,
        };
        let name = match map.str("name", problems).and_then(Text::other) {
            Some(name) => name,
            None => Text::other(&format!("rule-{}", index + 1))?,
        };
        let follow = match follow {
            Some(at) => Some(Follow::check(at, &name, cookies, problems)?),
            None => None,
        };
        Some(Rule {
            name,
            when,
            outcome: match follow {
                Some(_) => Outcome::Unknown,
                None => outcome_of(map.one_of("outcome", OUTCOMES, problems))?,
            },
            follow,
            reason: map.str("reason", problems).and_then(Text::other),
            emit: map.get("emit").and_then(|n| event_type(n, problems)),
            also: map.items("also").iter().filter_map(|n| event_type(n, problems)).collect(),
        })
    }
}

/// The route's name; it stands in events, logs and tests.
fn check_id(at: &Node, problems: &mut Problems) -> Option<Text> {
    let id = Text::identifier(at.str(problems)?);
    if id.is_none() {
        problems.error_hint(at, "the id is empty".into(), "write a name of your choice, like login");
    }
    id
}

pub(in crate::rules) fn outcome_of(word: Option<&str>) -> Option<Outcome> {
    word.and_then(Outcome::parse)
}

fn sources<'n>(node: Option<&'n Node>, used: &mut Vec<(Source, &'n Node)>, problems: &mut Problems) -> Vec<Source> {
    let Some(node) = node else { return Vec::new() };
    let mut out = Vec::new();
    for item in node.items() {
        if let Some(source) = Source::check(item, Secrets::Refused, problems) {
            used.push((source.clone(), item));
            out.push(source);
        }
    }
    out
}
