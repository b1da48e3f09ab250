//! Conditions: what must hold of an exchange for a rule to decide it.
//!
//! In a rule's `when`, `header`, `json`, `body` and `content_type` speak of the answer; `method`,
//! `path`, `host`, `query`, `form` and `cookie` can only speak of the request and do;
//! `request: { … }` holds what would be ambiguous. In a route's `match` all of them speak of the
//! request.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use http::{HeaderName, Method, Uri, header};
use regex::Regex;
use serde_json::Value as Json;

use super::calls::Scope;
use super::facts::{BodyFacts, Facts, Truth, select};
use super::matcher::{self, Matcher, compile};
use super::path::{PathPattern, compared};
use super::{graphql, method, xmlrpc};
use crate::body;
use crate::body::cookie::{self, CookieChange};
use crate::body::form::Fields;
use crate::body::json::scalar_text;
use crate::body::wanted::Wanted;
use crate::config::node::{Map, Node, Value, clip, suggest};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::headers::Headers;

pub(super) const MATCHER: Kind = Kind::Named("matcher", || &matcher::SHAPE);
const BY_NAME: Kind = Kind::Dict(&MATCHER);
/// A value of JSON may be null, and be compared with it.
pub(super) const BY_POINTER: Kind = Kind::Dict(&Kind::Any(&[MATCHER, Kind::Null]));

/// Where a condition has a place of its own in the schema, since conditions contain conditions.
pub const CONDITION: Kind = Kind::Named("condition", || &Kind::Map(WHEN));

const BODY_FIELDS: &[Field] = &[
    Field::new("contains", Kind::OneOrList(&Kind::Str), "", "one of these texts is in the body"),
    Field::new("omits", Kind::OneOrList(&Kind::Str), "", "none of these texts is in the body"),
    Field::new("regex", Kind::Str, "", "the regex is found in the body"),
];

const LOCATION_FIELDS: &[Field] = &[
    Field::new("path", MATCHER, "", "the path of `Location`, resolved against the request"),
    Field::new("query", BY_NAME, "", "query fields of `Location`"),
    Field::new("host", MATCHER, "", "the host of an absolute `Location`"),
];

/// The keys of `when`.
pub const WHEN: &[Field] = &[
    Field::new(
        "status",
        Kind::OneOrList(&Kind::Str),
        "",
        "status: 302, a class 30x or 4xx, a range 200-204, or a list",
    ),
    Field::new("header", BY_NAME, "", "headers of the answer"),
    Field::new("location", Kind::Any(&[MATCHER, Kind::Map(LOCATION_FIELDS)]), "", "where the answer redirects to"),
    Field::new("location.path", MATCHER, "", "short for `location: { path: … }`"),
    Field::new("location.query", BY_NAME, "", "short for `location: { query: … }`"),
    Field::new("location.host", MATCHER, "", "short for `location: { host: … }`"),
    Field::new(
        "set_cookie",
        Kind::Dict(&Kind::Word(&["present", "absent", "changed", "deleted"])),
        "",
        "cookies the answer sets, against the request's; a name may end in `*`",
    ),
    Field::new("json", BY_POINTER, "", "JSON of the answer by pointer (RFC 6901; `*` stands for every element)"),
    Field::new("body", Kind::Any(&[Kind::Str, Kind::Map(BODY_FIELDS)]), "", "text of the answer, decompressed"),
    Field::new("content_type", MATCHER, "", "media type of the answer, without parameters"),
    Field::new(
        "session",
        Kind::Word(&["known", "unknown", "changed"]),
        "",
        "known: the request's session has an actor; changed: the answer sets another session cookie",
    ),
    Field::new(
        "form_changed",
        Kind::OneOrList(&Kind::Str),
        "",
        "one of these form fields differs from the page as it was served; the route's `compare` names them",
    ),
    Field::new("graphql", Kind::Map(graphql::WHEN), "", "a GraphQL field and what became of it"),
    Field::new("xmlrpc", Kind::Map(xmlrpc::WHEN), "", "an XML-RPC call and what became of it"),
    Field::new("method", Kind::OneOrList(&Kind::Str), "", "method of the request"),
    Field::new("path", Kind::OneOrList(&Kind::Str), "", "path of the request, as in `match`"),
    Field::new("host", Kind::OneOrList(&Kind::Str), "", "host of the request"),
    Field::new("query", BY_NAME, "", "query fields of the request"),
    Field::new("form", BY_NAME, "", "form fields of the request"),
    Field::new("cookie", BY_NAME, "", "cookies of the request"),
    Field::new("request", Kind::Map(REQUEST), "", "the request's `header`, `json` and `content_type`"),
    Field::new("all", Kind::List(&CONDITION), "", "every one of these holds"),
    Field::new("any", Kind::List(&CONDITION), "", "one of these holds"),
    Field::new("not", CONDITION, "", "this does not hold"),
];

const REQUEST: &[Field] = &[
    Field::new("header", BY_NAME, "", "headers of the request"),
    Field::new("json", BY_POINTER, "", "JSON of the request by pointer"),
    Field::new("content_type", MATCHER, "", "media type of the request, without parameters"),
];

/// The keys of `match`.
pub const MATCH: &[Field] = &[
    Field::new("method", Kind::OneOrList(&Kind::Str), "any", "method of the request, or several"),
    Field::new(
        "path",
        Kind::OneOrList(&Kind::Str),
        "any",
        "`/exact`, `prefix:/a/`, `glob:/a/*/b`, `template:/users/{id}`, `regex:^/a$`, or several",
    ),
    Field::new("host", Kind::OneOrList(&Kind::Str), "any", "host without port; `*.example.test` for every name below"),
    Field::new("query", BY_NAME, "", "query fields"),
    Field::new("form", BY_NAME, "", "form fields (urlencoded or multipart); `user[email]` names a nested one"),
    Field::new("json", BY_POINTER, "", "JSON of the request by pointer"),
    Field::new("header", BY_NAME, "", "headers"),
    Field::new("cookie", BY_NAME, "", "cookies"),
    Field::new("content_type", MATCHER, "", "media type, without parameters"),
    Field::new(
        "graphql",
        Kind::Map(graphql::MATCH),
        "",
        "a GraphQL field, by any of the ways in which GraphQL is sent; each field of a request is looked at",
    ),
    Field::new("xmlrpc", Kind::Map(xmlrpc::MATCH), "", "an XML-RPC call; each call of a multicall is looked at"),
    Field::new(
        "method_override",
        Kind::Bool,
        "false",
        "a POST counts as the method it names in the field `_method` or in `X-HTTP-Method-Override`",
    ),
];

/// What must hold.
#[derive(Clone, Debug)]
pub enum Condition {
    /// Every one holds.
    All(Vec<Condition>),
    /// One holds.
    Any(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// The request's method is one of these.
    Method(Vec<Method>),
    /// The same where a POST may name another method.
    Overridden(Vec<Method>),
    /// What a GraphQL field asks for, or what became of it.
    Graphql(graphql::Demand),
    /// What an XML-RPC call asks for, or what became of it.
    XmlRpc(xmlrpc::Demand),
    /// The request's path matches one of these.
    Path(Vec<PathPattern>),
    /// The request's host is one of these.
    Host(Vec<Matcher>),
    /// A query field.
    Query(String, Matcher),
    /// A form field.
    Form(String, Matcher),
    /// A value of the request's JSON.
    RequestJson(String, Matcher),
    /// A request header.
    RequestHeader(HeaderName, Matcher),
    /// A request cookie.
    Cookie(String, Matcher),
    /// The request's media type.
    RequestType(Matcher),
    /// The answer's status.
    Status(Vec<RangeInclusive<u16>>),
    /// A header of the answer.
    Header(HeaderName, Matcher),
    /// `Location` as it was sent.
    Location(Matcher),
    /// The path `Location` leads to.
    LocationPath(Matcher),
    /// A query field of `Location`.
    LocationQuery(String, Matcher),
    /// The host `Location` leads to.
    LocationHost(Matcher),
    /// What the answer does to a cookie.
    SetCookie(String, CookieState),
    /// A value of the answer's JSON.
    Json(String, Matcher),
    /// One of these texts is in the answer.
    Contains(Vec<String>),
    /// None of these texts is in the answer.
    Omits(Vec<String>),
    /// A regex is found in the answer.
    BodyRegex(Regex),
    /// The answer's media type.
    ContentType(Matcher),
    /// Whether the request's session has an actor.
    SessionKnown(bool),
    /// One of these form fields differs from the page as it was served.
    FormChanged(Vec<String>),
    /// Whether the answer sets another session cookie; the names are those of `session.cookies`.
    SessionChanged(Vec<String>),
}

/// What an answer may do to a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieState {
    /// It sets it, to whatever value.
    Present,
    /// It does not mention it.
    Absent,
    /// It sets it to another value than the request had.
    Changed,
    /// It deletes it.
    Deleted,
}

/// Which bodies a condition may have to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The request's.
    pub request_body: bool,
    /// The answer's.
    pub response_body: bool,
}

impl Needs {
    /// What either needs.
    pub fn or(self, other: Needs) -> Needs {
        Needs {
            request_body: self.request_body || other.request_body,
            response_body: self.response_body || other.response_body,
        }
    }
}

impl Condition {
    /// Reads a `when`. `cookies` are the names of session cookies.
    pub fn check_when(node: &Node, cookies: &[String], problems: &mut Problems) -> Option<Condition> {
        let map = node.map(WHEN, problems)?;
        let mut all = Vec::new();
        if let Some(at) = map.get("status") {
            let ranges: Vec<_> = at.some(problems).iter().filter_map(|i| status_range(i, problems)).collect();
            all.push(Condition::Status(ranges));
        }
        headers(&map, "header", Condition::Header, &mut all, problems);
        location(&map, &mut all, problems);
        if let Some(at) = map.get("set_cookie") {
            for (key, value) in at.entries(problems) {
                let state = match value.one_of(&["present", "absent", "changed", "deleted"], problems) {
                    Some("present") => CookieState::Present,
                    Some("absent") => CookieState::Absent,
                    Some("changed") => CookieState::Changed,
                    Some(_) => CookieState::Deleted,
                    None => continue,
                };
                all.push(Condition::SetCookie(key.text.clone(), state));
            }
        }
        pointers(&map, "json", Condition::Json, &mut all, problems);
        if let Some(at) = map.get("body") {
            body_texts(at, &mut all, problems);
        }
        one(&map, "content_type", Condition::ContentType, &mut all, problems);
        if let Some(at) = map.get("graphql") {
            graphql::check(at, graphql::WHEN, Condition::Graphql, &mut all, problems);
        }
        if let Some(at) = map.get("xmlrpc") {
            xmlrpc::check(at, xmlrpc::WHEN, Condition::XmlRpc, &mut all, problems);
        }
        let session = map.get("session");
        match session.and_then(|at| at.one_of(&["known", "unknown", "changed"], problems)) {
            Some("known") => all.push(Condition::SessionKnown(true)),
            Some("unknown") => all.push(Condition::SessionKnown(false)),
            Some(_) => {
                if cookies.is_empty() {
                    problems.error_hint(
                        session.unwrap_or(node),
                        "`session: changed` needs to know the session cookie".into(),
                        "name it at the top of the file: session: { cookies: [NAME] }",
                    );
                }
                all.push(Condition::SessionChanged(cookies.to_vec()));
            }
            None => {}
        }
        if let Some(at) = map.get("form_changed") {
            let names = at.some(problems).iter().filter_map(|item| item.str(problems).map(str::to_owned));
            all.push(Condition::FormChanged(names.collect()));
        }
        request_side(&map, &mut all, problems);
        if let Some(at) = map.get("request") {
            let inner = at.map(REQUEST, problems)?;
            headers(&inner, "header", Condition::RequestHeader, &mut all, problems);
            pointers(&inner, "json", Condition::RequestJson, &mut all, problems);
            one(&inner, "content_type", Condition::RequestType, &mut all, problems);
        }
        for (key, any) in [("all", false), ("any", true)] {
            let Some(at) = map.get(key) else { continue };
            at.some(problems);
            let items = at.list(problems).iter();
            let inner: Vec<_> = items.filter_map(|i| Condition::check_when(i, cookies, problems)).collect();
            match any {
                true => all.push(Condition::Any(inner)),
                false => all.extend(inner),
            }
        }
        if let Some(inner) = map.get("not") {
            all.push(Condition::Not(Box::new(Condition::check_when(inner, cookies, problems)?)));
        }
        if matches!(&node.value, Value::Map(entries) if entries.is_empty()) {
            problems.error_hint(
                node,
                "the condition demands nothing".into(),
                "leave `when` out for a rule that always holds",
            );
        }
        Some(if all.len() == 1 { all.remove(0) } else { Condition::All(all) })
    }

    /// Reads a `match`: every demand on the request, cheapest first.
    pub fn check_match(node: &Node, problems: &mut Problems) -> Option<Vec<Condition>> {
        let map = node.map(MATCH, problems)?;
        let mut all = Vec::new();
        request_side(&map, &mut all, problems);
        headers(&map, "header", Condition::RequestHeader, &mut all, problems);
        one(&map, "content_type", Condition::RequestType, &mut all, problems);
        pointers(&map, "json", Condition::RequestJson, &mut all, problems);
        if let Some(at) = map.get("graphql") {
            graphql::check(at, graphql::MATCH, Condition::Graphql, &mut all, problems);
        }
        if let Some(at) = map.get("xmlrpc") {
            xmlrpc::check(at, xmlrpc::MATCH, Condition::XmlRpc, &mut all, problems);
        }
        if map.bool("method_override", problems) == Some(true) {
            let Some(demand) = all.iter_mut().find(|c| matches!(c, Condition::Method(_))) else {
                let at = map.get("method_override").unwrap_or(node);
                let hint = "name the method that is meant: { method: DELETE, method_override: true }";
                problems.error_hint(at, "no method is demanded that another could stand for".into(), hint);
                return None;
            };
            if let Condition::Method(methods) = demand {
                *demand = Condition::Overridden(std::mem::take(methods));
            }
        }
        all.sort_by_key(|c| c.needs().request_body);
        Some(all)
    }

    /// The fields that some `form_changed` in it names.
    pub fn changed_fields(&self) -> Vec<&str> {
        match self {
            Condition::All(inner) | Condition::Any(inner) => inner.iter().flat_map(Condition::changed_fields).collect(),
            Condition::Not(inner) => inner.changed_fields(),
            Condition::FormChanged(names) => names.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Which bodies it may have to read.
    pub fn needs(&self) -> Needs {
        match self {
            Condition::All(inner) | Condition::Any(inner) => {
                inner.iter().fold(Needs::default(), |needs, c| needs.or(c.needs()))
            }
            Condition::Not(inner) => inner.needs(),
            Condition::Form(..) | Condition::RequestJson(..) | Condition::Overridden(_) | Condition::FormChanged(_) => {
                Needs { request_body: true, response_body: false }
            }
            Condition::Graphql(demand) => demand.needs(),
            Condition::XmlRpc(demand) => demand.needs(),
            Condition::Json(..) | Condition::Contains(_) | Condition::Omits(_) | Condition::BodyRegex(_) => {
                Needs { request_body: false, response_body: true }
            }
            _ => Needs::default(),
        }
    }

    /// How much of an exchange it speaks of.
    pub fn scope(&self) -> Scope {
        match self {
            Condition::All(inner) | Condition::Any(inner) => {
                inner.iter().map(Condition::scope).max().unwrap_or_default()
            }
            Condition::Not(inner) => inner.scope(),
            Condition::Graphql(_) | Condition::XmlRpc(_) => Scope::Field,
            Condition::RequestJson(..) | Condition::Json(..) => Scope::Entry,
            _ => Scope::Exchange,
        }
    }

    /// Whether it holds, as far as the facts say.
    pub fn holds(&self, facts: &Facts<'_>) -> Truth {
        let response = || facts.response.map(|(_, headers)| headers);
        match self {
            Condition::All(inner) => {
                let mut sure = true;
                for condition in inner {
                    match condition.holds(facts) {
                        Some(false) => return Some(false),
                        Some(true) => {}
                        None => sure = false,
                    }
                }
                sure.then_some(true)
            }
            Condition::Any(inner) => {
                let mut sure = true;
                for condition in inner {
                    match condition.holds(facts) {
                        Some(true) => return Some(true),
                        Some(false) => {}
                        None => sure = false,
                    }
                }
                sure.then_some(false)
            }
            Condition::Not(inner) => inner.holds(facts).map(|held| !held),
            Condition::Method(methods) => Some(methods.contains(facts.method)),
            Condition::Overridden(methods) => method::overridden(methods, facts),
            Condition::Graphql(demand) => demand.holds(facts),
            Condition::XmlRpc(demand) => demand.holds(facts),
            Condition::Path(patterns) => Some(patterns.iter().any(|p| p.matches(&facts.path))),
            Condition::Host(hosts) => Some(hosts.iter().any(|h| h.matches(Some(facts.host)))),
            Condition::Query(name, matcher) => Some(match may_have(facts.uri.query(), name) {
                true => matcher.matches_any(facts.query().all(name)),
                false => matcher.matches(None),
            }),
            Condition::RequestHeader(name, matcher) => Some(header_matches(facts.headers, name, matcher)),
            Condition::Cookie(name, matcher) => {
                let value = cookie::request_cookie(facts.headers, name).map(String::from_utf8_lossy);
                Some(matcher.matches(value.as_deref()))
            }
            Condition::RequestType(matcher) => Some(matcher.matches(media_type(facts.headers).as_deref())),
            Condition::Form(name, matcher) => form_holds(facts.request_body()?, name, matcher),
            Condition::RequestJson(pointer, matcher) => {
                json_holds(facts.request_body()?, facts.request_json(), pointer, matcher)
            }
            Condition::Status(ranges) => {
                let (status, _) = facts.response?;
                Some(ranges.iter().any(|r| r.contains(&status.as_u16())))
            }
            Condition::Header(name, matcher) => Some(header_matches(response()?, name, matcher)),
            Condition::Location(matcher) => {
                let sent = response()?.get(header::LOCATION).map(|v| String::from_utf8_lossy(v.as_bytes()));
                Some(matcher.matches(sent.as_deref()))
            }
            Condition::LocationPath(matcher) => Some(matcher.matches(location_path(response()?, facts.uri).as_deref())),
            Condition::LocationQuery(name, matcher) => {
                Some(matcher.matches_any(location_fields(response()?).all(name)))
            }
            Condition::LocationHost(matcher) => {
                let sent = response()?.get(header::LOCATION).and_then(|v| v.to_str().ok());
                let host = sent.and_then(|l| l.parse::<Uri>().ok()).and_then(|u| u.host().map(str::to_ascii_lowercase));
                Some(matcher.matches(host.as_deref()))
            }
            Condition::SetCookie(name, state) => {
                let change = cookie::change(facts.headers, response()?, name, facts.at);
                Some(match state {
                    CookieState::Present => matches!(change, CookieChange::Same | CookieChange::Changed),
                    CookieState::Absent => change == CookieChange::Absent,
                    CookieState::Changed => change == CookieChange::Changed,
                    CookieState::Deleted => change == CookieChange::Deleted,
                })
            }
            Condition::Json(pointer, matcher) => {
                json_holds(facts.response_body()?, facts.response_json(), pointer, matcher)
            }
            Condition::Contains(texts) => {
                let body = facts.response_body()?;
                found(texts.iter().any(|t| body.text().contains(t.as_str())), body)
            }
            Condition::Omits(texts) => {
                let body = facts.response_body()?;
                found(texts.iter().any(|t| body.text().contains(t.as_str())), body).map(|held| !held)
            }
            Condition::BodyRegex(regex) => {
                let body = facts.response_body()?;
                found(regex.is_match(&body.text()), body)
            }
            Condition::ContentType(matcher) => Some(matcher.matches(media_type(response()?).as_deref())),
            Condition::FormChanged(names) => form_changed(facts, names),
            Condition::SessionKnown(wanted) => facts.session_known.map(|known| known == *wanted),
            Condition::SessionChanged(names) => {
                let answer = response()?;
                Some(names.iter().any(|n| cookie::change(facts.headers, answer, n, facts.at) == CookieChange::Changed))
            }
        }
    }
}

/// False if the query certainly has no such field: so that the requests no route is about are told
/// without reading their fields, which allocates.
pub(super) fn may_have(query: Option<&str>, name: &str) -> bool {
    query.is_some_and(|query| !is_plain(name) || query.contains('%') || query.contains(name))
}

/// The same of many names at once: of [`is_plain`] ones, or `*`.
pub(super) fn may_have_any(query: &str, names: &Wanted) -> bool {
    let mut fields = query.as_bytes().split(|b| *b == b'&');
    memchr::memchr(b'%', query.as_bytes()).is_some()
        || fields
            .any(|field| names.has(field.get(..memchr::memchr(b'=', field).unwrap_or(field.len())).unwrap_or(field)))
}

/// True if a name is written in one way only, but for escapes.
pub(super) fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// One changed field is enough; a field that was not served is open.
fn form_changed(facts: &Facts<'_>, names: &[String]) -> Truth {
    let served = facts.served.as_ref()?;
    let body = facts.request_body()?;
    let sent = body.fields()?;
    let mut sure = !body.cut() && sent.complete();
    for name in names {
        match served.changed(name, sent) {
            Some(true) if sure => return Some(true),
            Some(false) => {}
            _ => sure = false,
        }
    }
    sure.then_some(false)
}

/// What was found is found; what was not found in a cut body may stand in the rest of it.
fn found(hit: bool, body: &BodyFacts<'_>) -> Truth {
    if hit || !body.cut() { Some(hit) } else { None }
}

fn form_holds(body: &BodyFacts<'_>, name: &str, matcher: &Matcher) -> Truth {
    match body.fields() {
        Some(fields) => {
            if fields.first(name).is_none() && (body.cut() || !fields.complete()) {
                return None;
            }
            Some(matcher.matches_any(fields.all(name)))
        }
        None => Some(matcher.accepts_absence()),
    }
}

fn json_holds(body: &BodyFacts<'_>, json: Option<&Json>, pointer: &str, matcher: &Matcher) -> Truth {
    match json {
        Some(json) => {
            let selected = select(json, pointer);
            if selected.is_empty() {
                return Some(matcher.accepts_absence());
            }
            let texts: Vec<Cow<'_, str>> = selected.into_iter().map(compared_text).collect();
            Some(matcher.matches_any(texts.iter().map(|t| &**t)))
        }
        None if body.cut() => None,
        None => Some(matcher.accepts_absence()),
    }
}

/// A value of JSON as a text to compare. Null is written `null`; a list or an object is there, but
/// has no text.
pub(super) fn compared_text(value: &Json) -> Cow<'_, str> {
    match value {
        Json::Null => Cow::Borrowed("null"),
        value => scalar_text(value).unwrap_or(Cow::Borrowed("\u{0}")),
    }
}

fn header_matches(headers: &Headers, name: &HeaderName, matcher: &Matcher) -> bool {
    let values: Vec<Cow<'_, str>> =
        headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
    matcher.matches_any(values.iter().map(|v| &**v))
}

fn media_type(headers: &Headers) -> Option<String> {
    let content_type = body::content_type(headers);
    (!content_type.is_empty()).then(|| body::media_type(content_type).to_ascii_lowercase())
}

/// The query fields of `Location`.
pub fn location_fields(response: &Headers) -> Fields<'static> {
    let sent = response.get(header::LOCATION).map(|v| String::from_utf8_lossy(v.as_bytes()));
    let query = sent.as_deref().and_then(|l| l.split('#').next()).and_then(|l| l.split_once('?'));
    crate::body::form::parse(query.map_or("", |(_, q)| q).as_bytes(), false).into_owned()
}

/// The path `Location` leads to, resolved against the request's (RFC 3986 section 5.2), in its
/// compared form; query and fragment, which may hold names and codes, are left behind.
pub fn location_path(response: &Headers, request: &Uri) -> Option<String> {
    let sent = response.get(header::LOCATION)?;
    let sent = String::from_utf8_lossy(sent.as_bytes());
    let end = sent.find(['?', '#']).unwrap_or(sent.len());
    let target = sent[..end].trim();
    let path = if let Some((_, rest)) = target.split_once("://") {
        rest.find('/').map_or("/", |at| &rest[at..]).to_owned()
    } else if let Some(rest) = target.strip_prefix("//") {
        rest.find('/').map_or("/", |at| &rest[at..]).to_owned()
    } else if target.starts_with('/') {
        target.to_owned()
    } else if target.is_empty() {
        request.path().to_owned()
    } else {
        let base = request.path();
        format!("{}{target}", &base[..base.rfind('/').map_or(0, |at| at + 1)])
    };
    Some(compared(&path).into_owned())
}

fn status_range(node: &Node, problems: &mut Problems) -> Option<RangeInclusive<u16>> {
    let text = node.str(problems)?;
    let number = |t: &str| t.trim().parse::<u16>().ok().filter(|n| (100..=999).contains(n));
    let range = if let Some(class) = text.strip_suffix("xx") {
        class.parse::<u16>().ok().filter(|c| (1..=9).contains(c)).map(|c| c * 100..=c * 100 + 99)
    } else if let Some(ten) = text.strip_suffix('x') {
        ten.parse::<u16>().ok().filter(|t| (10..=99).contains(t)).map(|t| t * 10..=t * 10 + 9)
    } else if let Some((low, high)) = text.split_once('-') {
        number(low).zip(number(high)).filter(|(l, h)| l <= h).map(|(l, h)| l..=h)
    } else {
        number(text).map(|n| n..=n)
    };
    if range.is_none() {
        problems.error_hint(
            node,
            format!("`{text}` is not a status"),
            "write 302, 30x, 4xx, 200-204, or a list of these: [200, 204]",
        );
    }
    range
}

fn request_side(map: &Map<'_>, all: &mut Vec<Condition>, problems: &mut Problems) {
    if let Some(at) = map.get("method") {
        let methods = at.some(problems).iter().filter_map(|item| {
            let text = item.str(problems)?;
            if text.bytes().any(|b| b.is_ascii_lowercase()) {
                problems.error_hint(
                    item,
                    format!("`{text}` is not a method"),
                    &format!("did you mean `{}`?", text.to_ascii_uppercase()),
                );
                return None;
            }
            const USUAL: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"];
            if !USUAL.contains(&text) && USUAL.iter().any(|u| strsim::levenshtein(u, text) == 1) {
                problems.warn(item, format!("`{text}` is an unusual method"), &suggest(text, &USUAL));
            }
            Method::from_bytes(text.as_bytes()).ok()
        });
        let methods = methods.collect();
        all.push(Condition::Method(methods));
    }
    if let Some(at) = map.get("path") {
        let patterns = at.some(problems).iter().filter_map(|item| PathPattern::check(item, problems)).collect();
        all.push(Condition::Path(patterns));
    }
    if let Some(at) = map.get("host") {
        let hosts = at.some(problems).iter().filter_map(|item| {
            let text = item.str(problems)?.to_ascii_lowercase();
            Some(match text.strip_prefix('*') {
                Some(rest) => Matcher::Suffix(rest.to_owned()),
                None => Matcher::Equals(text),
            })
        });
        all.push(Condition::Host(hosts.collect()));
    }
    for (key, make) in [
        ("query", Condition::Query as fn(String, Matcher) -> Condition),
        ("cookie", Condition::Cookie),
        ("form", Condition::Form),
    ] {
        if let Some(at) = map.get(key) {
            for (name, value) in at.entries(problems) {
                all.extend(Matcher::check(value, problems).map(|m| make(name.text.clone(), m)));
            }
        }
    }
}

fn headers(
    map: &Map<'_>,
    key: &str,
    make: fn(HeaderName, Matcher) -> Condition,
    all: &mut Vec<Condition>,
    problems: &mut Problems,
) {
    let Some(at) = map.get(key) else { return };
    for (name, value) in at.entries(problems) {
        match HeaderName::from_bytes(name.text.as_bytes()) {
            Ok(header) => all.extend(Matcher::check(value, problems).map(|m| make(header, m))),
            Err(_) => {
                let message = format!("`{}` is not a header name", clip(&name.text));
                problems.error_key(at, name, message, HEADER_HINT);
            }
        }
    }
}

pub(super) fn pointers<C>(
    map: &Map<'_>,
    key: &str,
    make: fn(String, Matcher) -> C,
    all: &mut Vec<C>,
    problems: &mut Problems,
) {
    let Some(at) = map.get(key) else { return };
    for (name, value) in at.entries(problems) {
        if !name.text.starts_with('/') && !name.text.is_empty() {
            let message = format!("`{}` is not a JSON pointer", clip(&name.text));
            problems.error_key(at, name, message, &pointer_hint(&name.text));
            continue;
        }
        let matcher = match &value.value {
            Value::Null => Some(Matcher::Equals("null".into())),
            _ => Matcher::check(value, problems),
        };
        all.extend(matcher.map(|m| make(name.text.clone(), m)));
    }
}

/// What is said beside a text that is no header name (RFC 9110 section 5.1).
pub(super) const HEADER_HINT: &str = "a header name is letters, digits and `-`, like x-request-id";

/// The JSON pointer (RFC 6901) that was probably meant.
pub(super) fn pointer_hint(written: &str) -> String {
    let steps = written.trim_start_matches('$').trim_start_matches('.');
    format!("write `/{}` (RFC 6901)", clip(&steps.replace('.', "/")))
}

fn one(map: &Map<'_>, key: &str, make: fn(Matcher) -> Condition, all: &mut Vec<Condition>, problems: &mut Problems) {
    if let Some(at) = map.get(key) {
        all.extend(Matcher::check(at, problems).map(make));
    }
}

fn location(map: &Map<'_>, all: &mut Vec<Condition>, problems: &mut Problems) {
    let mut parts: Vec<(&str, &Node)> = Vec::new();
    for (key, part) in [("location.path", "path"), ("location.query", "query"), ("location.host", "host")] {
        parts.extend(map.get(key).map(|n| (part, n)));
    }
    if let Some(at) = map.get("location") {
        let whole = match &at.value {
            Value::Map(entries) => !entries.iter().any(|(k, _)| LOCATION_FIELDS.iter().any(|f| f.name == k.text)),
            _ => true,
        };
        if whole {
            all.extend(Matcher::check(at, problems).map(Condition::Location));
        } else if let Some(inner) = at.map(LOCATION_FIELDS, problems) {
            parts.extend(["path", "query", "host"].into_iter().filter_map(|p| inner.get(p).map(|n| (p, n))));
        }
    }
    for (part, node) in parts {
        match part {
            "path" => all.extend(Matcher::check(node, problems).map(Condition::LocationPath)),
            "host" => all.extend(Matcher::check(node, problems).map(Condition::LocationHost)),
            _ => {
                for (name, value) in node.entries(problems) {
                    let matcher = Matcher::check(value, problems);
                    all.extend(matcher.map(|m| Condition::LocationQuery(name.text.clone(), m)));
                }
            }
        }
    }
}

fn body_texts(at: &Node, all: &mut Vec<Condition>, problems: &mut Problems) {
    if let Some(text) = at.scalar() {
        all.push(Condition::Contains(vec![text.to_owned()]));
        return;
    }
    let Some(map) = at.map(BODY_FIELDS, problems) else { return };
    for (key, make) in [("contains", Condition::Contains as fn(Vec<String>) -> Condition), ("omits", Condition::Omits)]
    {
        if let Some(texts) = map.get(key) {
            all.push(make(texts.some(problems).iter().filter_map(|i| i.str(problems).map(str::to_owned)).collect()));
        }
    }
    if let Some(node) = map.get("regex") {
        let regex = node.str(problems).and_then(|source| compile(source, node, problems));
        all.extend(regex.map(Condition::BodyRegex));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::body::form;

    proptest! {
        #[test]
        fn a_query_field_that_is_there_is_never_looked_past(
            query in "([ab+%\\[\\]=&.-]|%61|%62){0,12}",
            names in proptest::collection::vec("[ab-]{1,3}", 0..4),
        ) {
            let fields = form::parse(query.as_bytes(), false);
            let there: Vec<_> = names.iter().filter(|name| fields.all(name).next().is_some()).collect();
            prop_assert!(there.iter().all(|name| may_have(Some(&query), name)));
            prop_assert!(there.is_empty() || may_have_any(&query, &Wanted::new(names.clone())));
        }
    }
}
