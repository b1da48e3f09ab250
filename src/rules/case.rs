//! Tests written beside a route: an exchange in a few words, and the event it must give.
//!
//! A test proves a configuration without an application: its exchange is built whole and goes the
//! way of real traffic, through the same questions in the same order, with every route of the file
//! in place. It must never touch the world or read the clock. The invariant: a body reaches a
//! condition here only if capture would have kept it there.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use serde_json::Value as Json;

use super::condition::{Condition, HEADER_HINT, location_path};
use super::facts::Facts;
use super::follow::Follow;
use super::path::PathPattern;
use super::route::{OUTCOMES, Route};
use super::{Decision, RuleSet, extract};
use crate::config::node::{Map, Node, Value, clip};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::event::{Actor, Event, EventType, Outcome, Text, Timestamp};
use crate::exchange::{ClientTls, Ended, Exchange, Kept, Request, Response};
use crate::headers::Headers;
use crate::served::ServedForm;

/// When every test's answer is given (2026-01-15T09:32:17Z): what a cookie's expiry is held against.
const ANSWERED: Timestamp = Timestamp::from_millis(1_768_469_537_000);
/// The client of every test (RFC 5737: for documentation).
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

const NONE: &[&str] = &["none"];
const TEXTS: Kind = Kind::OneOrList(&Kind::Str);

const SESSION: &[Field] = &[
    Field::new("id", Kind::Str, "", "the actor's id"),
    Field::new("login", Kind::Str, "", "what the actor typed to sign in"),
    Field::new("email", Kind::Str, "", "the actor's address"),
];

const TLS_CLIENT: &[Field] = &[
    Field::new("subject", Kind::Str, "", "the whole subject, as in CN=alice,O=Acme"),
    Field::new("cn", Kind::Str, "", "the common name in it"),
    Field::new("email", Kind::Str, "", "its first e-mail address"),
];

const TLS: &[Field] = &[
    Field::new("sni", Kind::Str, "", "the name the client asked for"),
    Field::new("ja4", Kind::Str, "", "the fingerprint of its hello"),
    Field::new("client", Kind::Map(TLS_CLIENT), "none", "the certificate it showed, verified"),
];

const REQUEST: &[Field] = &[
    Field::new("method", Kind::Str, "the first of the route, or GET", "method"),
    Field::new("path", Kind::Str, "the first plain one of the route", "path, without the query"),
    Field::new("host", Kind::Str, "app.example.test", "host"),
    Field::new("query", Kind::Dict(&TEXTS), "", "fields of the query"),
    Field::new("headers", Kind::Dict(&TEXTS), "", "headers"),
    Field::new("cookies", Kind::Dict(&Kind::Str), "", "cookies the request brings"),
    Field::new("form", Kind::Dict(&TEXTS), "", "fields of a urlencoded form; any made-up password will do"),
    Field::new("json", Kind::Json, "", "a JSON body"),
    Field::new("body", Kind::Str, "", "any other body, as text; say its `content-type` among the headers"),
    Field::new("served", Kind::Dict(&TEXTS), "", "the form as the page served it before, for `form_changed`"),
    Field::new(
        "session",
        Kind::Map(SESSION),
        "that of nobody",
        "whose session it carries, as an earlier login bound it",
    ),
    Field::new(
        "tls",
        Kind::Map(TLS),
        "nothing known",
        "what is known of the client's TLS, for sources like `tls.client.cn`",
    ),
];

const RESPONSE: &[Field] = &[
    Field::required("status", Kind::Int(100, 999), "the status of the answer"),
    Field::new("headers", Kind::Dict(&TEXTS), "", "headers"),
    Field::new(
        "set_cookie",
        Kind::Any(&[Kind::Dict(&Kind::Str), TEXTS]),
        "",
        "cookies it sets, by name: a value, or `deleted`; or whole `Set-Cookie` lines",
    ),
    Field::new("location", Kind::Str, "", "where it redirects to"),
    Field::new("json", Kind::Json, "", "a JSON body"),
    Field::new("body", Kind::Str, "", "any other body, as text; HTML unless a `content-type` says otherwise"),
];

const TARGET: &[Field] = &[
    Field::new("type", Kind::Str, "", "as in the event"),
    Field::new("id", Kind::Str, "", "as in the event"),
    Field::new("email", Kind::Str, "", "as in the event"),
];

const ACTOR: &[Field] = &[
    Field::new("id", Kind::Str, "", "as in the event"),
    Field::new("login", Kind::Str, "", "as in the event"),
    Field::new("email", Kind::Str, "", "as in the event"),
    Field::new("type", Kind::Str, "", "as in the event"),
];

const EXPECT: &[Field] = &[
    Field::new("event_type", Kind::Str, "", "the type of the event"),
    Field::new("outcome", Kind::Word(OUTCOMES), "", "its outcome"),
    Field::new("reason", Kind::Str, "", "its reason"),
    Field::new("rule", Kind::Str, "", "the name of the rule that decides, or `default`"),
    Field::new("actor", Kind::Map(ACTOR), "", "who"),
    Field::new("target", Kind::Map(TARGET), "", "whom or what"),
    Field::new("organization", Kind::Str, "", "the tenant's id"),
    Field::new("method", Kind::Str, "", "how the person proved themselves"),
    Field::new("provider", Kind::Str, "", "the identity provider"),
    Field::new("fields", Kind::Dict(&Kind::Str), "", "further values"),
    Field::new("also", TEXTS, "", "the further event types, all of them in order"),
];

const NEXT: &[Field] = &[
    Field::new("request", Kind::Map(REQUEST), "where the answer leads", "what is asked next"),
    Field::required("response", Kind::Map(RESPONSE), "what is answered then"),
];

/// The keys of one entry of a route's `tests`.
pub const FIELDS: &[Field] = &[
    Field::required("name", Kind::Str, "what the test shows, in a few words"),
    Field::new("request", Kind::Map(REQUEST), "", "what is asked"),
    Field::required(
        "response",
        Kind::Any(&[Kind::Word(NONE), Kind::Map(RESPONSE)]),
        "what the application answers, for example { status: 302, location: / }; none if it gives no answer",
    ),
    Field::new("next", Kind::Map(NEXT), "none comes in time", "the client's next request, for rules with `follow`"),
    Field::required(
        "expect",
        Kind::Any(&[Kind::Word(NONE), Kind::Map(EXPECT)]),
        "what the event must say (what is not named may be anything; `absent`: it must not be there), or none",
    ),
];

/// One test.
#[derive(Debug)]
pub struct Case {
    /// What it shows.
    pub name: Text,
    method: Method,
    uri: Uri,
    host: String,
    headers: Headers,
    body: Bytes,
    session: Option<Actor>,
    served: Option<ServedForm>,
    tls: Option<Arc<ClientTls>>,
    response: Option<(StatusCode, Headers, Bytes)>,
    /// The next exchange of the client; what it expects is its own business.
    next: Option<Box<Case>>,
    expect: Expect,
}

#[derive(Debug)]
enum Expect {
    Nothing,
    Event { values: Vec<Wanted>, also: Option<Vec<String>> },
}

/// One value that the event must have.
#[derive(Debug)]
struct Wanted {
    /// What the test calls it.
    name: String,
    /// Where it stands in the event's JSON (RFC 6901).
    pointer: String,
    /// `None` if nothing may stand there.
    text: Option<String>,
}

/// What became of a test.
#[derive(Debug)]
pub struct Verdict {
    /// Each difference in one line; none if the test holds.
    pub differences: Vec<String>,
    /// The route and the rule that decided, if one did.
    pub decided: Option<(String, String)>,
}

impl Case {
    /// Reads one entry of a route's `tests`. What the request leaves out is taken from the route.
    pub fn check(node: &Node, demands: &[Condition], paths: &[PathPattern], problems: &mut Problems) -> Option<Case> {
        let before = problems.counts().0;
        let map = node.map(FIELDS, problems)?;
        let told = problems.counts().0 > before;
        let name = map.str("name", problems).and_then(Text::other);
        let empty = Node { span: node.span.clone(), path: node.path.clone(), value: Value::Map(Vec::new()) };
        let at = map.get("request").unwrap_or(&empty);
        let request = at.map(REQUEST, problems)?;
        let method = method(&request, demands, problems);
        let uri = uri(&request, at, paths, told, problems);
        let mut headers = headers(&request, problems);
        let host = request.str("host", problems).unwrap_or("app.example.test").to_ascii_lowercase();
        insert(&mut headers, header::HOST, &host);
        cookies(&request, &mut headers, problems);
        let body = request_body(&request, at, &mut headers, problems);
        let session = request.get("session").and_then(|at| session(at, problems));
        let served = request.get("served").map(|at| served(at, problems));
        let tls = request.get("tls").and_then(|at| tls(at, problems));
        let response = response(map.get("response")?, problems);
        let expect = expect(map.get("expect")?, problems);
        let (uri, response) = (uri?, response?);
        let next = match map.get("next") {
            Some(at) => {
                let leads_to = response.as_ref().and_then(|(_, headers, _)| location_path(headers, &uri));
                Some(Box::new(Case::next(at, &host, leads_to, problems)?))
            }
            None => None,
        };
        let (name, method, expect) = (name?, method?, expect?);
        Some(Case { name, method, uri, host, headers, body, session, served, tls, response, next, expect })
    }

    /// Reads the next exchange. What its request leaves out is what a browser would ask for.
    fn next(node: &Node, host: &str, leads_to: Option<String>, problems: &mut Problems) -> Option<Case> {
        let map = node.map(NEXT, problems)?;
        let empty = Node { span: node.span.clone(), path: node.path.clone(), value: Value::Map(Vec::new()) };
        let at = map.get("request").unwrap_or(&empty);
        let request = at.map(REQUEST, problems)?;
        let paths: Vec<PathPattern> = leads_to.into_iter().map(PathPattern::Exact).collect();
        let mut headers = headers(&request, problems);
        let host = request.str("host", problems).unwrap_or(host).to_ascii_lowercase();
        insert(&mut headers, header::HOST, &host);
        cookies(&request, &mut headers, problems);
        let body = request_body(&request, at, &mut headers, problems);
        Some(Case {
            name: Text::fixed("next"),
            method: method(&request, &[], problems)?,
            uri: uri(&request, at, &paths, false, problems)?,
            host,
            headers,
            body,
            session: request.get("session").and_then(|at| session(at, problems)),
            served: None,
            tls: request.get("tls").and_then(|at| tls(at, problems)),
            response: response(map.get("response")?, problems)?,
            next: None,
            expect: Expect::Nothing,
        })
    }

    /// True if its request carries somebody's session.
    pub fn in_session(&self) -> bool {
        self.session.is_some()
    }

    /// True if it shows that nothing is reported.
    pub fn expects_nothing(&self) -> bool {
        matches!(self.expect, Expect::Nothing)
    }

    /// Runs the test of `route` against the whole set.
    pub fn run(&self, rules: &RuleSet, route: &Route) -> Verdict {
        let Some((exchange, candidates)) = self.exchange(rules) else { return self.judge(None, route) };
        let mut facts = Facts::of_exchange(&exchange);
        facts.session_known = Some(self.session.is_some());
        facts.served = self.served.clone();
        // Of a batch the first call that gives an event counts.
        let mut first: Option<Found> = None;
        rules.decide_each(&candidates, &facts, |decision| {
            if first.as_ref().is_some_and(|(_, _, event)| event.is_some()) {
                return;
            }
            let mut event = extract::event(&decision, &facts, &exchange);
            let decision = match (decision.follow, &self.next) {
                (Some(follow), Some(next)) => {
                    let placeholder = EventType::fixed("user.login.unknown");
                    let waiting = extract::event_called(placeholder, &decision, &facts, &exchange);
                    let (decision, shown) = next.follows(decision, follow, waiting);
                    event = shown;
                    decision
                }
                _ => decision,
            };
            if let (Some(event), Some(known)) = (&mut event, &self.session) {
                event.actor_of_session(known);
            }
            let decided = (decision.route.id.to_string(), decision.rule.to_string());
            let found = event.map(|event| (event, decision.types.get(1..).unwrap_or_default().to_vec()));
            first = Some((decided, decision.outcome, found));
        });
        self.judge(first, route)
    }

    /// The exchange as capture would hand it over, and the routes it may belong to.
    pub(super) fn exchange(&self, rules: &RuleSet) -> Option<(Exchange, super::Candidates)> {
        let mut head = Facts::of_request(&self.method, &self.uri, &self.host, &self.headers);
        let candidates = rules.candidates(&head)?;
        let mut exchange = self.whole();
        if !candidates.wants_request_body {
            exchange.request.body = Kept::default();
        }
        if let (Some((status, headers, _)), Some(response)) = (&self.response, &mut exchange.response) {
            head.response = Some((*status, headers));
            head.at = ANSWERED;
            if !rules.wants_answer(&candidates, &head) {
                response.body = Kept::default();
            }
        }
        Some((exchange, candidates))
    }

    /// What this exchange, which is the next one, makes of an event that waited for it.
    fn follows<'r>(&self, decision: Decision<'r>, follow: &'r Follow, waiting: Event) -> (Decision<'r>, Option<Event>) {
        let exchange = self.whole();
        let mut facts = Facts::of_exchange(&exchange);
        facts.session_known = Some(self.session.is_some());
        let decision = RuleSet::decide_followed(decision.route, follow, &facts).unwrap_or(decision);
        let event = decision.types.first().map(|first| Event {
            event_type: first.clone(),
            outcome: decision.outcome,
            reason: decision.reason.clone(),
            source: crate::event::Source { rule: Some(decision.rule.clone()), ..waiting.source.clone() },
            ..waiting
        });
        (decision, event)
    }

    /// The exchange with both bodies.
    pub fn whole(&self) -> Exchange {
        let kept = |bytes: &Bytes| Kept { bytes: bytes.clone(), cut: false, asked: true };
        let response = self.response.as_ref().map(|(status, headers, body)| Response {
            status: *status,
            headers: headers.clone(),
            body: kept(body),
        });
        Exchange {
            tls: self.tls.clone(),
            began: ANSWERED,
            answered: ANSWERED,
            duration: Duration::ZERO,
            client_ip: CLIENT,
            scheme: "https",
            request_id: "test".into(),
            request: Request {
                method: self.method.clone(),
                uri: self.uri.clone(),
                host: self.host.clone(),
                headers: self.headers.clone(),
                body: kept(&self.body),
            },
            ended: if response.is_some() { Ended::Complete } else { Ended::UpstreamFailed },
            response,
        }
    }

    fn judge(&self, found: Option<Found>, route: &Route) -> Verdict {
        let mut differences = Vec::new();
        let decided = found.as_ref().map(|(decided, ..)| decided.clone());
        match (&self.expect, found) {
            (Expect::Nothing, Some((_, _, Some((event, _))))) => {
                differences.push(format!("expected no event, found {}", event.event_type));
            }
            (Expect::Nothing, _) => {}
            (Expect::Event { .. }, None) => {
                differences.push("expected an event, but no route is about this request".into())
            }
            (Expect::Event { .. }, Some((_, outcome, None))) => {
                differences.push(format!("expected an event, but the outcome is `{outcome}` and emits nothing"));
            }
            (Expect::Event { values, also }, Some(((decider, _), _, Some((event, further))))) => {
                if decider != route.id.as_str() {
                    differences.push(format!("expected the route `{}` to decide, but `{decider}` did", route.id));
                }
                differences.extend(compare(values, &event));
                let further: Vec<&str> = further.iter().map(EventType::as_str).collect();
                if let Some(also) = also.as_ref().filter(|also| **also != further) {
                    differences.push(format!("also: expected {}, found {}", list(also), list(&further)));
                }
            }
        }
        Verdict { differences, decided }
    }
}

/// Route and rule, outcome, and the event with its further types.
type Found = ((String, String), Outcome, Option<(Event, Vec<EventType>)>);

fn compare(values: &[Wanted], event: &Event) -> Vec<String> {
    let json: Json = serde_json::to_value(event).unwrap_or_default();
    let mut differences = Vec::new();
    for Wanted { name, pointer, text } in values {
        let found = json.pointer(pointer).and_then(Json::as_str);
        if found != text.as_deref() {
            differences.push(format!("{name}: expected {}, found {}", shown(text.as_deref()), shown(found)));
        }
    }
    differences
}

fn shown(value: Option<&str>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |text| format!("`{}`", clip(text)))
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".into();
    }
    items.iter().map(|item| format!("`{item}`")).collect::<Vec<_>>().join(", ")
}

fn method(request: &Map<'_>, demands: &[Condition], problems: &mut Problems) -> Option<Method> {
    let Some(at) = request.get("method") else {
        let first = demands.iter().find_map(|d| match d {
            Condition::Method(all) => all.first(),
            Condition::Overridden(_) => Some(&Method::POST),
            _ => None,
        });
        return Some(first.cloned().unwrap_or(Method::GET));
    };
    let text = at.str(problems)?;
    let method = Method::from_bytes(text.as_bytes()).ok();
    if method.is_none() {
        problems.error_hint(at, format!("`{}` is not a method", clip(text)), "write one like POST");
    }
    method
}

fn uri(request: &Map<'_>, at: &Node, paths: &[PathPattern], told: bool, problems: &mut Problems) -> Option<Uri> {
    let plain = paths.iter().find_map(|p| if let PathPattern::Exact(path) = p { Some(path.as_str()) } else { None });
    let (path, at) = match request.get("path") {
        Some(at) => (at.str(problems)?, at),
        None => match (plain, paths.is_empty()) {
            (Some(path), _) => (path, at),
            (None, true) => ("/", at),
            // A misspelt `request` is told already.
            (None, false) if told => return None,
            (None, false) => {
                let hint = "say which path is asked for: request: { path: /users/7/role }";
                problems.error_hint(at, "the route's path is a pattern".into(), hint);
                return None;
            }
        },
    };
    let mut target = path.to_owned();
    if let Some(fields) = request.get("query") {
        target.push('?');
        target.push_str(&encoded(fields, problems));
    }
    let uri = target.parse::<Uri>().ok().filter(|uri| uri.path().starts_with('/') && uri.host().is_none());
    if uri.is_none() {
        let hint = "write it as a browser sends it: /a%20b begins with `/` and has spaces and accents encoded";
        problems.error_hint(at, format!("`{}` is not a path that can be asked for", clip(path)), hint);
    }
    uri
}

/// Fields as a query or a urlencoded form.
fn encoded(fields: &Node, problems: &mut Problems) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    for (key, value) in fields.entries(problems) {
        for item in value.items() {
            if let Some(text) = item.str(problems) {
                out.append_pair(&key.text, text);
            }
        }
    }
    out.finish()
}

fn insert(headers: &mut Headers, name: HeaderName, value: &str) {
    if !headers.contains_key(&name)
        && let Ok(value) = HeaderValue::from_str(value)
    {
        headers.insert(name, value);
    }
}

fn value(at: &Node, text: &str, problems: &mut Problems) -> Option<HeaderValue> {
    let value = HeaderValue::from_str(text).ok();
    if value.is_none() {
        problems.error_hint(at, "this cannot be sent in a header".into(), "write it on one line");
    }
    value
}

/// The most headers of a message: what `limits.headers` may be at most.
const MAX_HEADERS: usize = 4096;

fn headers(map: &Map<'_>, problems: &mut Problems) -> Headers {
    let mut headers = Headers::new();
    let Some(at) = map.get("headers") else { return headers };
    for (key, values) in at.entries(problems) {
        let Ok(name) = HeaderName::from_bytes(key.text.as_bytes()) else {
            problems.error_key(at, key, format!("`{}` is not a header name", clip(&key.text)), HEADER_HINT);
            continue;
        };
        for item in values.items() {
            let sent = item.str(problems).and_then(|text| value(item, text, problems));
            let Some(sent) = sent else { continue };
            if headers.len() < MAX_HEADERS {
                headers.append(&name, sent);
            } else {
                problems.error_hint(item, "more headers than a message can have".into(), "keep a few");
                return headers;
            }
        }
    }
    headers
}

fn cookies(request: &Map<'_>, headers: &mut Headers, problems: &mut Problems) {
    let Some(at) = request.get("cookies") else { return };
    let mut pairs = Vec::new();
    for (key, item) in at.entries(problems) {
        pairs.extend(item.str(problems).map(|text| format!("{}={text}", key.text)));
    }
    if let Some(sent) = value(at, &pairs.join("; "), problems) {
        headers.insert(header::COOKIE, sent);
    }
}

/// The one body a message may have, and its media type unless a header says it.
fn body(map: &Map<'_>, at: &Node, kinds: &[&str], problems: &mut Problems) -> Option<(Bytes, &'static str)> {
    let mut found = kinds.iter().filter_map(|kind| Some((*kind, map.get(kind)?)));
    let (kind, node) = found.next()?;
    if found.next().is_some() {
        problems.error_hint(at, "a message has one body".into(), &format!("keep one of: {}", kinds.join(", ")));
    }
    Some(match kind {
        "form" => (encoded(node, problems).into(), "application/x-www-form-urlencoded"),
        "json" => (node.to_json().to_string().into(), "application/json"),
        _ => (node.str(problems).unwrap_or_default().to_owned().into(), "text/html; charset=utf-8"),
    })
}

fn request_body(request: &Map<'_>, at: &Node, headers: &mut Headers, problems: &mut Problems) -> Bytes {
    let Some((bytes, media_type)) = body(request, at, &["form", "json", "body"], problems) else { return Bytes::new() };
    if request.get("body").is_none() {
        insert(headers, header::CONTENT_TYPE, media_type);
    }
    bytes
}

fn session(at: &Node, problems: &mut Problems) -> Option<Actor> {
    let map = at.map(SESSION, problems)?;
    let mut text = |key| map.str(key, problems).and_then(Text::identifier);
    let actor = Actor { id: text("id"), login: text("login"), email: text("email"), kind: None };
    if actor.is_empty() {
        let hint = "name whose it is: session: { login: alice }; leave it out for a request without a known session";
        problems.error_hint(at, "the session is nobody's".into(), hint);
    }
    Some(actor)
}

/// What is known of the client's TLS.
fn tls(at: &Node, problems: &mut Problems) -> Option<Arc<ClientTls>> {
    let map = at.map(TLS, problems)?;
    let mut tls = ClientTls { version: Some("1.3"), ..ClientTls::default() };
    tls.sni = map.str("sni", problems).map(str::to_ascii_lowercase);
    tls.ja4 = map.str("ja4", problems).map(str::to_owned);
    if let Some(client) = map.get("client").and_then(|at| at.map(TLS_CLIENT, problems)) {
        let mut text = |key| client.str(key, problems).map(str::to_owned);
        (tls.subject, tls.name, tls.email) = (text("subject"), text("cn"), text("email"));
    }
    Some(Arc::new(tls))
}

/// The form as it was served.
fn served(at: &Node, problems: &mut Problems) -> ServedForm {
    let fields = at.entries(problems).iter();
    ServedForm::of_values(
        fields.map(|(key, value)| (key.text.as_str(), value.items().iter().filter_map(Node::scalar).collect())),
    )
}

/// The outer `None` means that a problem was reported, the inner one that no answer came.
#[allow(clippy::option_option, clippy::type_complexity)]
fn response(at: &Node, problems: &mut Problems) -> Option<Option<(StatusCode, Headers, Bytes)>> {
    if at.scalar() == Some("none") {
        return Some(None);
    }
    let map = at.map(RESPONSE, problems)?;
    let status = map.int("status", 100..=999, problems);
    let mut headers = headers(&map, problems);
    if let Some(node) = map.get("location")
        && let Some(sent) = node.str(problems).and_then(|text| value(node, text, problems))
    {
        headers.insert(header::LOCATION, sent);
    }
    if let Some(node) = map.get("set_cookie") {
        set_cookies(node, &mut headers, problems);
    }
    let mut bytes = Bytes::new();
    if let Some((sent, media_type)) = body(&map, at, &["json", "body"], problems) {
        insert(&mut headers, header::CONTENT_TYPE, media_type);
        bytes = sent;
    }
    let status = StatusCode::from_u16(u16::try_from(status?).ok()?).ok()?;
    Some(Some((status, headers, bytes)))
}

fn set_cookies(at: &Node, headers: &mut Headers, problems: &mut Problems) {
    let mut lines: Vec<(String, &Node)> = Vec::new();
    if let Value::Map(entries) = &at.value {
        for (key, item) in entries {
            let Some(text) = item.str(problems) else { continue };
            let deleted = matches!(&item.value, Value::Scalar { text, plain: true } if text == "deleted");
            let line = if deleted { format!("{}=; Max-Age=0", key.text) } else { format!("{}={text}", key.text) };
            lines.push((line, item));
        }
    } else {
        lines.extend(at.items().iter().filter_map(|item| Some((item.str(problems)?.to_owned(), item))));
    }
    for (line, item) in lines {
        let Some(sent) = value(item, &line, problems) else { continue };
        if headers.len() < MAX_HEADERS {
            headers.append(header::SET_COOKIE, sent);
        } else {
            problems.error_hint(item, "more headers than a message can have".into(), "keep a few");
            return;
        }
    }
}

fn expect(at: &Node, problems: &mut Problems) -> Option<Expect> {
    if at.scalar() == Some("none") {
        return Some(Expect::Nothing);
    }
    let map = at.map(EXPECT, problems)?;
    if matches!(&at.value, Value::Map(entries) if entries.is_empty()) {
        let hint = "name what the event must say: { event_type: user.login.failed }, or write `expect: none`";
        problems.error_hint(at, "nothing is expected".into(), hint);
    }
    let mut values = Vec::new();
    if let Some(word) = map.one_of("outcome", OUTCOMES, problems) {
        values.push(Wanted { name: "outcome".into(), pointer: "/outcome".into(), text: Some(word.to_owned()) });
    }
    for (key, pointer) in [
        ("event_type", "/event_type"),
        ("reason", "/reason"),
        ("rule", "/source/rule"),
        ("organization", "/organization/id"),
        ("method", "/metadata/method"),
        ("provider", "/metadata/provider"),
    ] {
        values.extend(map.get(key).and_then(|n| wanted(key, pointer, n, problems)));
    }
    for (key, fields) in [("actor", ACTOR), ("target", TARGET)] {
        let Some(inner) = map.get(key).and_then(|n| n.map(fields, problems)) else { continue };
        for field in fields {
            let (name, pointer) = (format!("{key}.{}", field.name), format!("/{key}/{}", field.name));
            values.extend(inner.get(field.name).and_then(|n| wanted(&name, &pointer, n, problems)));
        }
    }
    if let Some(fields) = map.get("fields") {
        for (key, item) in fields.entries(problems) {
            let pointer = format!("/metadata/fields/{}", key.text.replace('~', "~0").replace('/', "~1"));
            values.extend(wanted(&format!("fields.{}", clip(&key.text)), &pointer, item, problems));
        }
    }
    let also = map.get("also").map(|n| n.items().iter().filter_map(|i| i.str(problems).map(str::to_owned)).collect());
    Some(Expect::Event { values, also })
}

fn wanted(name: &str, pointer: &str, at: &Node, problems: &mut Problems) -> Option<Wanted> {
    let text = match &at.value {
        Value::Scalar { text, plain: true } if text == "absent" => None,
        _ => Some(at.str(problems)?.to_owned()),
    };
    Some(Wanted { name: name.to_owned(), pointer: pointer.to_owned(), text })
}

#[cfg(test)]
mod tests {
    use crate::config::settings;

    #[test]
    fn a_test_says_what_the_clients_certificate_says() {
        let yaml = r#"
version: 1
upstream: http://127.0.0.1:1
routes:
  - id: device
    match: { method: POST, path: /enrol }
    actor: { login: tls.client.cn, email: tls.client.email }
    fields: { subject: tls.client.subject, name: tls.sni, hello: tls.ja4 }
    when: { status: 204 }
    emit: acme.device.enrolled
    tests:
      - name: by its certificate
        request:
          tls: { sni: App.example.test, ja4: t13d, client: { subject: "CN=alice,O=Acme", cn: alice, email: a@example.test } }
        response: { status: 204 }
        expect:
          actor: { login: alice, email: a@example.test }
          fields: { subject: "CN=alice,O=Acme", name: app.example.test, hello: t13d }
      - name: without one
        request: { tls: { sni: app.example.test } }
        response: { status: 204 }
        expect: { actor: { login: absent }, fields: { name: app.example.test } }
"#;
        let (config, problems) = settings::check("t.yaml", yaml);
        let rules = config.unwrap_or_else(|| panic!("{problems}")).rules;
        let route = &rules.routes()[0];
        assert_eq!(route.cases.len(), 2, "{problems}");
        for case in &route.cases {
            assert_eq!(case.run(&rules, route).differences, Vec::<String>::new(), "{}", case.name);
        }
    }
}
