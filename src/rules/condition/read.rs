//! Reads conditions out of `when` and `match`.
//!
//! It runs when a configuration is loaded, never on the traffic path. What it cannot read is a
//! problem that names the place, and no condition comes of it.

use std::ops::RangeInclusive;

use http::{HeaderName, Method};

use super::fields::{BODY_FIELDS, LOCATION_FIELDS, MATCH, REQUEST, WHEN};
use super::{Condition, CookieState};
use crate::config::node::{Map, Node, Value, clip, suggest};
use crate::config::problem::Problems;
use crate::rules::matcher::{Matcher, compile};
use crate::rules::path::PathPattern;
use crate::rules::{graphql, xmlrpc};

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

pub(in crate::rules) fn pointers<C>(
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
pub(in crate::rules) const HEADER_HINT: &str = "a header name is letters, digits and `-`, like x-request-id";

/// The JSON pointer (RFC 6901) that was probably meant.
pub(in crate::rules) fn pointer_hint(written: &str) -> String {
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
