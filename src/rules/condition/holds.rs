//! Whether a condition holds of an exchange.
//!
//! It runs on the traffic path, for the demands of a `match`, and in the pipeline. It must never read
//! a body that a condition does not need. The invariant: what the facts leave open, such as the rest
//! of a cut body, is neither held nor denied.

use std::borrow::Cow;

use http::{HeaderName, Uri, header};
use serde_json::Value as Json;

use super::location::{location_fields, location_path};
use super::query::may_have;
use super::{Condition, CookieState};
use crate::body;
use crate::body::cookie::{self, CookieChange};
use crate::body::json::scalar_text;
use crate::headers::Headers;
use crate::rules::facts::{BodyFacts, Facts, Truth, select};
use crate::rules::matcher::Matcher;
use crate::rules::method;

impl Condition {
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
pub(in crate::rules) fn compared_text(value: &Json) -> Cow<'_, str> {
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
