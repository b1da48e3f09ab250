//! Reads tests: whole exchanges out of a few words, and what is expected of them.
//!
//! What a test leaves out is taken from its route. It must never judge whether the test holds.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode, Uri, header};

use super::fields::{ACTOR, EXPECT, FIELDS, NEXT, REQUEST, RESPONSE, SESSION, TARGET, TLS, TLS_CLIENT};
use super::message::{body, cookies, encoded, headers, insert, request_body, set_cookies, value};
use super::{Case, Expect, Wanted};
use crate::config::node::{Map, Node, Value, clip};
use crate::config::problem::Problems;
use crate::event::{Actor, Text};
use crate::exchange::ClientTls;
use crate::headers::Headers;
use crate::rules::condition::{Condition, location_path};
use crate::rules::path::PathPattern;
use crate::rules::route::OUTCOMES;
use crate::served::ServedForm;

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
