//! Why a rule did not hold: every leaf of its condition, what it expected and what was there.
//!
//! For `authtap explain` only; nothing on the way of traffic comes here. What was there is told
//! without values that strangers may have typed: of a field, a cookie or a header only whether it was
//! there and how long it was; status, method, media type and paths (without what looks like a token) are
//! said. The invariant: [`Trace::held`] is what [`Condition::holds`] says, which a test holds against
//! every test of every preset.

use std::ops::RangeInclusive;

use http::header;
use serde_json::Value as Json;

use super::condition::{CookieState, location_fields, location_path};
use super::extract::shown_path;
use super::facts::{BodyFacts, Facts, Truth, select};
use super::matcher::Matcher;
use super::path::PathPattern;
use super::{condition::Condition, graphql, xmlrpc};
use crate::body;
use crate::body::cookie::{self, CookieChange};
use crate::config::node::clip;

/// How a condition came out, leaf by leaf.
#[derive(Clone, Debug)]
pub enum Trace {
    /// Every one must hold.
    All(Vec<Trace>),
    /// One must hold.
    Any(Vec<Trace>),
    /// It must not hold.
    Not(Box<Trace>),
    /// One demand.
    Leaf(Leaf),
}

/// One demand on an exchange.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Whether it holds; `None` if what is known leaves it open.
    pub held: Truth,
    /// What is looked at, in the words of the configuration: `status`, `form.login`.
    pub what: String,
    /// What is demanded of it.
    pub expected: String,
    /// What was there, without a secret.
    pub seen: String,
}

impl Trace {
    /// Looks at every leaf of a condition.
    pub fn of(condition: &Condition, facts: &Facts<'_>) -> Trace {
        let all = |inner: &[Condition]| inner.iter().map(|c| Trace::of(c, facts)).collect();
        match condition {
            Condition::All(inner) => Trace::All(all(inner)),
            Condition::Any(inner) => Trace::Any(all(inner)),
            Condition::Not(inner) => Trace::Not(Box::new(Trace::of(inner, facts))),
            leaf => {
                let (what, expected) = demanded(leaf);
                Trace::Leaf(Leaf { held: leaf.holds(facts), what, expected, seen: seen(leaf, facts) })
            }
        }
    }

    /// Whether the condition holds, as far as the facts say.
    pub fn held(&self) -> Truth {
        match self {
            Trace::Leaf(leaf) => leaf.held,
            Trace::Not(inner) => inner.held().map(|held| !held),
            Trace::All(inner) if inner.iter().any(|t| t.held() == Some(false)) => Some(false),
            Trace::All(inner) => inner.iter().all(|t| t.held().is_some()).then_some(true),
            Trace::Any(inner) if inner.iter().any(|t| t.held() == Some(true)) => Some(true),
            Trace::Any(inner) => inner.iter().all(|t| t.held().is_some()).then_some(false),
        }
    }

    /// The leaves to blame for its not holding, each in a line of its own.
    pub fn blame(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.blamed(true, &mut lines);
        lines
    }

    fn blamed(&self, wanted: bool, lines: &mut Vec<String>) {
        if self.held() == Some(wanted) {
            return;
        }
        match self {
            Trace::All(inner) | Trace::Any(inner) => inner.iter().for_each(|t| t.blamed(wanted, lines)),
            Trace::Not(inner) => inner.blamed(!wanted, lines),
            Trace::Leaf(leaf) => {
                let not = if wanted { "" } else { "not " };
                let open = if leaf.held.is_none() { "open: " } else { "" };
                lines.push(format!("{open}{}: expected {not}{}, found {}", leaf.what, leaf.expected, leaf.seen));
            }
        }
    }
}

/// What a leaf looks at, and what it demands.
fn demanded(condition: &Condition) -> (String, String) {
    let of = |what: &str, name: &str, matcher: &Matcher| (format!("{what}.{name}"), matcher_text(matcher));
    let one = |what: &str, matcher: &Matcher| (what.to_owned(), matcher_text(matcher));
    let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(" or ");
    match condition {
        Condition::All(_) | Condition::Any(_) | Condition::Not(_) => (String::new(), String::new()),
        Condition::Method(m) => ("method".into(), list(&mut m.iter().map(ToString::to_string))),
        Condition::Overridden(m) => {
            ("method, or the one it names".into(), list(&mut m.iter().map(ToString::to_string)))
        }
        Condition::Graphql(demand) => (format!("graphql {}", graphql_name(demand)), graphql_text(demand)),
        Condition::XmlRpc(demand) => match demand {
            xmlrpc::Demand::Method(matcher) => one("xmlrpc method", matcher),
            xmlrpc::Demand::Fault(there) => ("xmlrpc fault".into(), presence(*there)),
            xmlrpc::Demand::Code(matcher) => one("xmlrpc code", matcher),
        },
        Condition::Path(patterns) => ("path".into(), list(&mut patterns.iter().map(pattern_text))),
        Condition::Host(hosts) => ("host".into(), list(&mut hosts.iter().map(matcher_text))),
        Condition::Query(name, m) => of("query", name, m),
        Condition::Form(name, m) => of("form", name, m),
        Condition::RequestJson(pointer, m) => of("request.json", pointer, m),
        Condition::RequestHeader(name, m) => of("request.header", name.as_str(), m),
        Condition::Cookie(name, m) => of("cookie", name, m),
        Condition::RequestType(m) => one("request.content_type", m),
        Condition::Status(ranges) => ("status".into(), list(&mut ranges.iter().map(range_text))),
        Condition::Header(name, m) => of("header", name.as_str(), m),
        Condition::Location(m) => one("location", m),
        Condition::LocationPath(m) => one("location.path", m),
        Condition::LocationQuery(name, m) => of("location.query", name, m),
        Condition::LocationHost(m) => one("location.host", m),
        Condition::SetCookie(name, state) => {
            let state = match state {
                CookieState::Present => "set",
                CookieState::Absent => "not mentioned",
                CookieState::Changed => "changed",
                CookieState::Deleted => "deleted",
            };
            (format!("set_cookie.{name}"), state.into())
        }
        Condition::Json(pointer, m) => of("json", pointer, m),
        Condition::Contains(texts) => ("body".into(), format!("one of {}", quoted(texts))),
        Condition::Omits(texts) => ("body".into(), format!("none of {}", quoted(texts))),
        Condition::BodyRegex(regex) => ("body".into(), format!("the regex {}", clip(regex.as_str()))),
        Condition::ContentType(m) => one("content_type", m),
        Condition::SessionKnown(true) => ("session".into(), "known".into()),
        Condition::SessionKnown(false) => ("session".into(), "unknown".into()),
        Condition::FormChanged(names) => ("form_changed".into(), names.join(" or ")),
        Condition::SessionChanged(names) => ("session".into(), format!("changed ({})", names.join(" or "))),
    }
}

fn graphql_name(demand: &graphql::Demand) -> String {
    match demand {
        graphql::Demand::Operation(_) => "operation".into(),
        graphql::Demand::Name(_) => "name".into(),
        graphql::Demand::Field(_) => "field".into(),
        graphql::Demand::Argument(pointer, _) => format!("argument {pointer}"),
        graphql::Demand::Errors(_) => "errors".into(),
        graphql::Demand::Code(_) => "code".into(),
        graphql::Demand::Data(_) => "data".into(),
        graphql::Demand::Result(pointer, _) => format!("result {pointer}"),
    }
}

fn graphql_text(demand: &graphql::Demand) -> String {
    match demand {
        graphql::Demand::Operation(kind) => format!("{kind:?}").to_ascii_lowercase(),
        graphql::Demand::Name(m)
        | graphql::Demand::Field(m)
        | graphql::Demand::Argument(_, m)
        | graphql::Demand::Code(m)
        | graphql::Demand::Result(_, m) => matcher_text(m),
        graphql::Demand::Errors(there) | graphql::Demand::Data(there) => presence(*there),
    }
}

fn presence(there: bool) -> String {
    if there { "present" } else { "absent" }.into()
}

fn quoted(texts: &[String]) -> String {
    texts.iter().map(|text| format!("`{}`", clip(text))).collect::<Vec<_>>().join(", ")
}

fn pattern_text(pattern: &PathPattern) -> String {
    match pattern {
        PathPattern::Exact(path) => path.clone(),
        PathPattern::Prefix(prefix) => format!("prefix:{prefix}"),
        PathPattern::Regex { written, .. } => clip(written).to_string(),
    }
}

fn range_text(range: &RangeInclusive<u16>) -> String {
    match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{}-{}", range.start(), range.end()),
    }
}

/// A matcher in words.
fn matcher_text(matcher: &Matcher) -> String {
    match matcher {
        Matcher::Equals(text) => format!("`{}`", clip(text)),
        Matcher::Prefix(text) => format!("a beginning `{}`", clip(text)),
        Matcher::Suffix(text) => format!("an end `{}`", clip(text)),
        Matcher::Contains(text) => format!("`{}` within it", clip(text)),
        Matcher::Regex(regex) => format!("the regex {}", clip(regex.as_str())),
        Matcher::In(words) => words.iter().map(|w| format!("`{}`", clip(w))).collect::<Vec<_>>().join(" or "),
        Matcher::Present(there) => presence(*there),
        Matcher::Empty(true) => "nothing in it".into(),
        Matcher::Empty(false) => "something in it".into(),
        Matcher::Not(inner) => format!("not {}", matcher_text(inner)),
        Matcher::All(all) => all.iter().map(matcher_text).collect::<Vec<_>>().join(" and "),
    }
}

/// What was there, as far as it may be told.
fn seen(condition: &Condition, facts: &Facts<'_>) -> String {
    let answer = facts.response.map(|(_, headers)| headers);
    let no_answer = || "no answer".to_owned();
    match condition {
        Condition::Method(_) | Condition::Overridden(_) => facts.method.to_string(),
        Condition::Path(_) => shown_path(&facts.path, &[]),
        Condition::Host(_) => clip(facts.host).to_string(),
        Condition::Query(name, _) => values(facts.query().all(name)),
        Condition::RequestHeader(name, _) => {
            values(facts.headers.get_all(name).iter().map(|v| v.to_str().unwrap_or("?")))
        }
        Condition::Cookie(name, _) => {
            let value = cookie::request_cookie(facts.headers, name).map(String::from_utf8_lossy);
            values(value.as_deref().into_iter())
        }
        Condition::RequestType(_) => media(facts.headers),
        Condition::Form(name, _) => match facts.request_body() {
            None => "no body".into(),
            Some(body) => match body.fields() {
                Some(fields) => values(fields.all(name)),
                None => "no form".into(),
            },
        },
        Condition::RequestJson(pointer, _) => json_seen(facts.request_body(), facts.request_json(), pointer),
        Condition::Json(pointer, _) => json_seen(facts.response_body(), facts.response_json(), pointer),
        Condition::Status(_) => facts.response.map_or_else(no_answer, |(status, _)| status.as_u16().to_string()),
        Condition::Header(name, _) => {
            answer.map_or_else(no_answer, |a| values(a.get_all(name).iter().map(|v| v.to_str().unwrap_or("?"))))
        }
        Condition::Location(_) | Condition::LocationPath(_) => answer.map_or_else(no_answer, |a| {
            location_path(a, facts.uri).map_or_else(|| "no Location".into(), |path| shown_path(&path, &[]))
        }),
        Condition::LocationQuery(name, _) => answer.map_or_else(no_answer, |a| values(location_fields(a).all(name))),
        Condition::LocationHost(_) => answer.map_or_else(no_answer, |a| {
            let absolute = a.get(header::LOCATION).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("//"));
            if absolute { "another host".into() } else { "no host".into() }
        }),
        Condition::SetCookie(name, _) => answer.map_or_else(no_answer, |a| change_text(facts, a, name).into()),
        Condition::SessionChanged(names) => answer.map_or_else(no_answer, |a| {
            names.iter().map(|n| format!("{n} {}", change_text(facts, a, n))).collect::<Vec<_>>().join(", ")
        }),
        Condition::Contains(_) | Condition::Omits(_) | Condition::BodyRegex(_) => body_seen(facts.response_body()),
        Condition::ContentType(_) => answer.map_or_else(no_answer, media),
        Condition::SessionKnown(_) => match facts.session_known {
            Some(true) => "a session with an actor".into(),
            Some(false) => "no session with an actor".into(),
            None => "nothing known of the session".into(),
        },
        Condition::FormChanged(_) => match &facts.served {
            Some(_) => "the form as it was served".into(),
            None => "no page of this form before it".into(),
        },
        Condition::Graphql(_) => match facts.graphql() {
            None => "no GraphQL request".into(),
            Some(asked) => {
                let field = facts.graphql_field().map(|f| f.name.as_str());
                format!(
                    "operation {}, field {}",
                    asked.name.as_deref().unwrap_or("without a name"),
                    field.unwrap_or("unknown")
                )
            }
        },
        Condition::XmlRpc(_) => match facts.xmlrpc() {
            None => "no XML-RPC call".into(),
            Some(call) => format!("a call of {}", clip(&call.method)),
        },
        Condition::All(_) | Condition::Any(_) | Condition::Not(_) => String::new(),
    }
}

/// How many values, and how long; never what they are.
fn values<'v>(values: impl Iterator<Item = &'v str>) -> String {
    let lengths: Vec<usize> = values.take(10).map(|v| v.chars().count()).collect();
    match lengths.as_slice() {
        [] => "nothing".into(),
        [0] => "an empty value".into(),
        [n] => format!("a value of {n} characters"),
        several => format!("{} values", several.len()),
    }
}

fn media(headers: &crate::headers::Headers) -> String {
    match body::media_type(body::content_type(headers)) {
        "" => "no content type".into(),
        kind => clip(kind).to_string(),
    }
}

fn change_text(facts: &Facts<'_>, answer: &crate::headers::Headers, name: &str) -> &'static str {
    match cookie::change(facts.headers, answer, name, facts.at) {
        CookieChange::Absent => "not mentioned",
        CookieChange::Same => "set to the same value",
        CookieChange::Changed => "changed",
        CookieChange::Deleted => "deleted",
    }
}

fn body_seen(body: Option<&BodyFacts<'_>>) -> String {
    match body {
        None => "no body".into(),
        Some(body) => {
            let cut = if body.cut() { ", cut" } else { "" };
            format!("a body of {} bytes{cut}", body.decoded().len())
        }
    }
}

fn json_seen(body: Option<&BodyFacts<'_>>, json: Option<&Json>, pointer: &str) -> String {
    let Some(json) = json else { return format!("no JSON, {}", body_seen(body)) };
    match select(json, pointer).as_slice() {
        [] => "nothing there".into(),
        [Json::Null] => "null".into(),
        [Json::Bool(yes)] => yes.to_string(),
        [Json::Number(_)] => "a number".into(),
        [Json::String(text)] => values(std::iter::once(text.as_str())),
        [Json::Array(_)] => "a list".into(),
        [Json::Object(_)] => "an object".into(),
        several => format!("{} values", several.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;
    use crate::rules::presets::NAMES;

    #[test]
    fn a_trace_says_what_the_condition_says_over_every_test_of_every_preset() {
        let mut compared = 0;
        for name in NAMES {
            let (config, problems) = settings::check("t", &format!("version: 1\npreset: {name}\n"));
            let config = config.unwrap_or_else(|| panic!("{problems}"));
            let routes = config.rules.routes();
            for case in routes.iter().flat_map(|route| &route.cases) {
                let Some((exchange, _)) = case.exchange(&config.rules) else { continue };
                let facts = Facts::of_exchange(&exchange);
                let conditions = routes.iter().flat_map(|r| &r.demands);
                let whens = routes.iter().flat_map(|r| r.rules.iter().filter_map(|rule| rule.when.as_ref()));
                for condition in conditions.chain(whens) {
                    let trace = Trace::of(condition, &facts);
                    assert_eq!(trace.held(), condition.holds(&facts), "{name}: {condition:?}");
                    // Who says that it did not hold names a reason, and only then.
                    assert_eq!(trace.blame().is_empty(), trace.held() == Some(true), "{name}: {condition:?}");
                    compared += 1;
                }
            }
        }
        assert!(compared > 10_000, "{compared}");
    }

    #[test]
    fn what_was_seen_is_told_without_what_was_typed() {
        let source = "version: 1\nroutes: [{ id: a, match: { path: /login, method: POST, form: { user: root } }, emit: data.viewed, \
            tests: [{ name: t, request: { form: { user: hunter22 } }, response: { status: 200 }, expect: none }] }]";
        let (config, problems) = settings::check("t", source);
        let config = config.unwrap_or_else(|| panic!("{problems}"));
        let route = &config.rules.routes()[0];
        let (exchange, _) = route.cases[0].exchange(&config.rules).expect("an exchange");
        let facts = Facts::of_exchange(&exchange);
        let blame = Trace::of(&Condition::All(route.demands.clone()), &facts).blame();
        assert_eq!(blame, ["form.user: expected `root`, found a value of 8 characters"]);
    }
}
