//! One entry of `routes:`, checked and compiled.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use http::Method;
use http::header::AUTHORIZATION;

use super::Carries;
use super::calls::Scope;
use super::case::{self, Case};
use super::condition::{self, Condition, Needs};
use super::facts::Facts;
use super::follow;
use super::follow::{FlowPlan, Follow};
use super::path::PathPattern;
use super::sample::{self, Sample};
use super::source::{Secrets, Source};
use crate::config::node::{Map, Node, Value, clip, suggest};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::event::kind::VOCABULARY;
use crate::event::{EventType, MAX_FIELDS, Outcome, Text};

pub(super) const OUTCOMES: &[&str] = &["success", "failure", "challenge", "requested", "rejected", "unknown", "ignore"];
const SOURCES: Kind = Kind::OneOrList(&Kind::Str);

const ACTOR: &[Field] = &[
    Field::new("id", SOURCES, "", "the application's immutable id; the first source with a value wins"),
    Field::new("login", SOURCES, "", "what was typed into the user field"),
    Field::new("email", SOURCES, "", "an address"),
    Field::new("type", Kind::Str, "", "user, service, admin, …"),
];

const TARGET: &[Field] = &[
    Field::new("type", Kind::Str, "", "user, api_key, team, …"),
    Field::new("id", SOURCES, "", "whom or what it was done to"),
    Field::new("email", SOURCES, "", "its address"),
];

const SESSION: &[Field] = &[
    Field::new(
        "token",
        SOURCES,
        "",
        "where the answer hands out tokens that later requests carry; kept only as a keyed hash",
    ),
    Field::new(
        "carried",
        SOURCES,
        "",
        "where this request carries such a token, beside the headers and cookies of the file's `session`: json:/refresh_token",
    ),
];

const COMPARE: &[Field] = &[
    Field::required(
        "fields",
        Kind::OneOrList(&Kind::Str),
        "fields whose served values are remembered, as keyed hashes",
    ),
    Field::new(
        "key",
        SOURCES,
        "",
        "what tells one form of the path from another: a source of the page's request or of this one",
    ),
];

const EMIT: &[Field] = &[
    Field::new("success", Kind::Str, "", "event type of this outcome"),
    Field::new("failure", Kind::Str, "", "event type of this outcome"),
    Field::new("challenge", Kind::Str, "", "event type of this outcome"),
    Field::new("requested", Kind::Str, "", "event type of this outcome"),
    Field::new("rejected", Kind::Str, "", "event type of this outcome"),
    Field::new("unknown", Kind::Str, "", "event type of this outcome"),
];

pub(super) const RULE: &[Field] = &[
    Field::new("name", Kind::Str, "rule-N", "what `source.rule` of the event says"),
    Field::new("when", condition::CONDITION, "always", "what must hold for this rule to decide"),
    Field::new(
        "outcome",
        Kind::Word(OUTCOMES),
        "",
        "what it decides: success, failure, challenge, requested, rejected, unknown or ignore; required without `follow`",
    ),
    Field::new("follow", Kind::Map(follow::FIELDS), "", "instead of an outcome: the client's next request decides"),
    Field::new("reason", Kind::Str, "", "one word why"),
    Field::new("emit", Kind::Str, "", "event type, instead of what the route's `emit` says"),
    Field::new("also", Kind::OneOrList(&Kind::Str), "", "further event types of the same exchange"),
];

/// The keys of a route.
pub const FIELDS: &[Field] = &[
    Field::required("id", Kind::Str, "a name of your choice, unique in the file"),
    Field::required(
        "match",
        Kind::Map(condition::MATCH),
        "which requests the route is about, for example { method: POST, path: /login }",
    ),
    Field::new("actor", Kind::Map(ACTOR), "", "who did it"),
    Field::new("target", Kind::Map(TARGET), "", "whom or what it was done to"),
    Field::new("organization", SOURCES, "", "the tenant"),
    Field::new("method", Kind::Str, "", "how the person proved themselves: password, sso, mfa, … or a source"),
    Field::new("provider", Kind::Str, "", "the identity provider, or a source"),
    Field::new("fields", Kind::Dict(&SOURCES), "", "further values to keep, at most 32"),
    Field::new("session", Kind::Map(SESSION), "", "tokens this route hands out"),
    Field::new("flow", Kind::Map(follow::FLOW), "", "the steps of one login, over several requests"),
    Field::new(
        "compare",
        Kind::Map(COMPARE),
        "",
        "hold form fields against the page as the same session was last served it (GET of the same path): `form_changed`",
    ),
    Field::new(
        "sample",
        sample::KIND,
        "per key, every 1h, where api_key.used is emitted; else off",
        "say a success once per key and interval, and refusals always",
    ),
    Field::new("rules", Kind::List(&Kind::Map(RULE)), "", "tried in order; the first that holds decides"),
    Field::new("default", Kind::Word(OUTCOMES), "unknown", "the outcome if no rule holds"),
    Field::new(
        "when",
        condition::CONDITION,
        "status 2xx or 3xx",
        "short form without `rules`: success when this holds, else ignore",
    ),
    Field::new("outcome", Kind::Word(OUTCOMES), "success", "short form: another outcome than success"),
    Field::required("emit", Kind::Any(&[Kind::Str, Kind::Map(EMIT)]), "the event type, or one for each outcome"),
    Field::new("also", Kind::OneOrList(&Kind::Str), "", "further event types on success"),
    Field::new(
        "tests",
        Kind::List(&Kind::Map(case::FIELDS)),
        "[]",
        "exchanges and the events they must give, for `authtap test`",
    ),
];

/// A compiled route.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub id: Text,
    /// The preset it came from.
    pub preset: Option<Text>,
    /// The path patterns, apart so that the index can use them; empty means any path.
    pub paths: Vec<PathPattern>,
    /// All demands on the request, cheapest first (the paths among them).
    pub demands: Vec<Condition>,
    /// Who did it.
    pub actor: ActorSources,
    /// Whom or what it was done to.
    pub target: Option<TargetSources>,
    /// The tenant.
    pub organization: Vec<Source>,
    /// How the person proved themselves.
    pub method: Option<Source>,
    /// The identity provider.
    pub provider: Option<Source>,
    /// Further values.
    pub fields: Vec<(Text, Vec<Source>)>,
    /// Tokens that the answer hands out.
    pub tokens: Vec<Source>,
    /// Where the request carries a token that an earlier answer handed out.
    pub carried: Vec<Source>,
    /// The login of several steps that this is one of.
    pub flow: Option<FlowPlan>,
    /// The form that its requests send back, if it is held against the page.
    pub compare: Option<Compare>,
    /// How successes are sampled, if they are.
    pub sample: Option<Sample>,
    /// The rules in order.
    pub rules: Vec<Rule>,
    /// The outcome if none holds.
    pub default: Outcome,
    /// Event types by outcome.
    pub emit: Vec<(Outcome, EventType)>,
    /// The tests written beside it.
    pub cases: Vec<Case>,
    /// How much of an exchange it is about: each call of a batch, if it looks at calls.
    pub scope: Scope,
    /// Which bodies the demands read.
    pub demand_needs: Needs,
    /// Which bodies the sources read.
    pub source_needs: Needs,
    /// Which bodies the rules may read.
    pub rule_needs: Needs,
}

/// Sources of an actor.
#[derive(Debug, Default)]
pub struct ActorSources {
    /// Immutable id.
    pub id: Vec<Source>,
    /// What was typed.
    pub login: Vec<Source>,
    /// Address.
    pub email: Vec<Source>,
    /// Kind.
    pub kind: Option<Text>,
}

/// Sources of a target.
#[derive(Debug, Default)]
pub struct TargetSources {
    /// Kind.
    pub kind: Option<Text>,
    /// Id.
    pub id: Vec<Source>,
    /// Address.
    pub email: Vec<Source>,
}

/// A form that is held against the page as it was served.
#[derive(Debug)]
pub struct Compare {
    /// The fields.
    pub fields: Vec<String>,
    /// What tells one form of the path from another.
    pub key: Vec<Source>,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name.
    pub name: Text,
    /// What must hold; `None` holds always.
    pub when: Option<Condition>,
    /// What it decides.
    pub outcome: Outcome,
    /// Decided by the next request instead; `outcome` is `unknown` then.
    pub follow: Option<Follow>,
    /// Why.
    pub reason: Option<Text>,
    /// Event type instead of the route's.
    pub emit: Option<EventType>,
    /// Further event types.
    pub also: Vec<EventType>,
}

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

    /// A POST counts as the method that it names, where this route demands methods that one may name.
    pub fn honour_overrides(&mut self) {
        for demand in &mut self.demands {
            // No framework takes a POST for a GET; such a route need not read forms.
            if let Condition::Method(methods) = demand
                && methods.iter().any(|m| ![Method::GET, Method::HEAD, Method::OPTIONS].contains(m))
            {
                *demand = Condition::Overridden(std::mem::take(methods));
            }
        }
        self.demands.sort_by_key(|c| c.needs().request_body);
        self.demand_needs = self.demands.iter().map(Condition::needs).fold(Needs::default(), Needs::or);
    }

    /// True if the request is for the page whose form this route's requests send back.
    pub fn is_page(&self, facts: &Facts<'_>) -> bool {
        self.compare.is_some()
            && *facts.method == Method::GET
            && self.demands.iter().all(|demand| match demand {
                Condition::Path(_) | Condition::Host(_) => demand.holds(facts) == Some(true),
                _ => true,
            })
    }

    /// True if it is about the place and method of the request, whatever else it demands.
    pub fn is_about(&self, facts: &Facts<'_>) -> bool {
        self.paths.iter().any(|path| path.names_a_place() && path.matches(&facts.path))
            && self.demands.iter().all(|demand| match demand {
                Condition::Method(_) | Condition::Overridden(_) | Condition::Host(_) => {
                    demand.holds(facts) == Some(true)
                }
                _ => true,
            })
    }

    /// True if a GET may belong to it, or serve the page of its form.
    pub fn allows_get(&self) -> bool {
        self.compare.is_some()
            || self.demands.iter().all(|demand| match demand {
                Condition::Method(methods) | Condition::Overridden(methods) => methods.contains(&Method::GET),
                _ => true,
            })
    }

    /// What a GET must carry to belong to it.
    pub(super) fn carries_of_get(&self) -> Carries<'_> {
        if self.compare.is_some() {
            return Carries::Anything;
        }
        fn carries(demand: &Condition) -> Option<Carries<'_>> {
            match demand {
                Condition::Query(name, matcher) if !matcher.matches(None) => Some(Carries::Query(name)),
                Condition::RequestHeader(name, matcher) if *name == AUTHORIZATION && !matcher.matches(None) => {
                    Some(Carries::Credentials)
                }
                _ => None,
            }
        }
        self.demands.iter().find_map(carries).unwrap_or(Carries::Anything)
    }

    /// True if it says which methods it is about.
    pub fn names_methods(&self) -> bool {
        self.demands.iter().any(|d| matches!(d, Condition::Method(_) | Condition::Overridden(_)))
    }

    /// The event type of an outcome, if the route emits it.
    pub fn type_of(&self, outcome: Outcome) -> Option<&EventType> {
        self.emit.iter().find(|(o, _)| *o == outcome).map(|(_, t)| t)
    }

    /// The event types that some exchange can get from the route: those of rules that are reached, of
    /// the default where no rule always holds, and of what is left open. What `emit` names for an
    /// outcome that nothing decides is none of them.
    pub fn possible_types(&self) -> Vec<&EventType> {
        let mut types = Vec::new();
        // What is not known of an exchange (no answer, a cut body) leaves a condition open.
        let mut open = false;
        for rule in reached(&self.rules) {
            open |= rule.when.is_some() || rule.follow.is_some();
            match &rule.follow {
                Some(follow) => types.extend(reached(&follow.rules).flat_map(|rule| self.types_by(rule))),
                None => types.extend(self.types_by(rule)),
            }
        }
        if self.rules.iter().all(|rule| rule.when.is_some()) {
            types.extend(self.type_of(self.default));
        }
        if open {
            types.extend(self.type_of(Outcome::Unknown));
        }
        types
    }

    /// What a rule of the route emits when it decides.
    fn types_by<'r>(&'r self, rule: &'r Rule) -> impl Iterator<Item = &'r EventType> {
        let emits = rule.outcome != Outcome::Ignore;
        let first = rule.emit.as_ref().or_else(|| self.type_of(rule.outcome));
        first.into_iter().chain(&rule.also).filter(move |_| emits)
    }
}

/// The rules that can decide: up to the first that always holds, without those that repeat the
/// condition of an earlier one.
fn reached(rules: &[Rule]) -> impl Iterator<Item = &Rule> {
    let mut seen = HashSet::new();
    let always = rules.iter().position(|rule| rule.when.is_none());
    let until = always.map_or(rules.len(), |last| last + 1);
    rules.iter().take(until).filter(move |rule| seen.insert(format!("{:?}", rule.when)))
}

fn all_types<'r>(emit: &'r [(Outcome, EventType)], rules: &'r [Rule]) -> Vec<&'r EventType> {
    let inner = rules.iter().filter_map(|r| r.follow.as_ref()).flat_map(|f| &f.rules);
    let of_rules = rules.iter().chain(inner).flat_map(|r| r.emit.iter().chain(&r.also));
    emit.iter().map(|(_, t)| t).chain(of_rules).collect()
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

enum Emit {
    One(EventType),
    Each(Vec<(Outcome, EventType)>),
}

fn emit(node: Option<&Node>, problems: &mut Problems) -> Emit {
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
fn with_defaults(mut emit: Vec<(Outcome, EventType)>) -> Vec<(Outcome, EventType)> {
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

/// The route's name; it stands in events, logs and tests.
fn check_id(at: &Node, problems: &mut Problems) -> Option<Text> {
    let id = Text::identifier(at.str(problems)?);
    if id.is_none() {
        problems.error_hint(at, "the id is empty".into(), "write a name of your choice, like login");
    }
    id
}

pub(super) fn outcome_of(word: Option<&str>) -> Option<Outcome> {
    word.and_then(Outcome::parse)
}

pub(super) fn event_type(node: &Node, problems: &mut Problems) -> Option<EventType> {
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

/// A rule after one that always holds, or that repeats an earlier condition, is never reached.
fn unreachable_rules(rules: &[Rule], nodes: &[Node], problems: &mut Problems) {
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
fn silent_outcomes(
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
