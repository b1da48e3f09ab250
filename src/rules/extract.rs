//! From a decision to the event: what its sources find, cleaned and capped.

use std::borrow::Cow;

use super::Decision;
use super::facts::Facts;
use super::path::PathPattern;
use super::route::Route;
use super::source::{Source, is_secret_name};
use crate::event::text::{MASK, looks_like_a_token};
use crate::event::{
    Actor, Event, EventId, EventType, Metadata, Mode, Organization, Outcome, Request, SCHEMA_VERSION,
    Source as EventSource, Target, Text, Tls,
};
use crate::exchange::{Ended, Exchange};

/// The primary event of a decision, before enrichment. `event_type` is the first of its types.
pub fn event(decision: &Decision<'_>, facts: &Facts<'_>, exchange: &Exchange) -> Option<Event> {
    Some(event_called(decision.types.first()?.clone(), decision, facts, exchange))
}

/// Who the sources of a route name.
pub fn actor(route: &Route, facts: &Facts<'_>) -> Actor {
    let first = |sources: &[Source]| sources.iter().find_map(|s| s.read(facts, &route.paths));
    let identifier = |sources: &[Source]| first(sources).and_then(|v| Text::identifier(&v));
    Actor {
        id: identifier(&route.actor.id),
        email: identifier(&route.actor.email),
        login: identifier(&route.actor.login),
        kind: route.actor.kind.clone(),
    }
}

/// The event of a decision that has no type yet, or emits none: what its sources find.
pub fn event_called(event_type: EventType, decision: &Decision<'_>, facts: &Facts<'_>, exchange: &Exchange) -> Event {
    let route = decision.route;
    let first = |sources: &[Source]| sources.iter().find_map(|s| s.read(facts, &route.paths));
    let identifier = |sources: &[Source]| first(sources).and_then(|v| Text::identifier(&v));
    let target = route.target.as_ref().map(|t| Target {
        kind: t.kind.clone(),
        id: identifier(&t.id),
        email: identifier(&t.email),
    });
    let text = |source: &Option<Source>| {
        source.as_ref().and_then(|s| s.read(facts, &route.paths)).and_then(|v| Text::other(&v))
    };
    let fields = route.fields.iter().filter_map(|(name, from)| {
        let value = first(from).and_then(|v| Text::other(&v))?;
        Some((name.clone(), value))
    });
    let mut event = Event {
        event_type,
        outcome: decision.outcome,
        reason: decision.reason.clone(),
        actor: actor(route, facts),
        target: target.filter(|t| !t.is_empty()),
        organization: identifier(&route.organization).map(|id| Organization { id }),
        source: EventSource {
            route: Some(route.id.clone()),
            rule: Some(decision.rule.clone()),
            preset: route.preset.clone(),
            mode: if route.preset.is_some() { Mode::Preset } else { Mode::Routes },
            confidence: 1.0,
        },
        ..of_exchange(facts, exchange, &route.paths)
    };
    event.metadata.method = text(&route.method);
    event.metadata.provider = text(&route.provider);
    event.metadata.fields = fields.collect();
    event
}

/// An event that says where and when, and nothing yet of what happened or who did it: capture
/// without routes fills that in.
pub fn bare(facts: &Facts<'_>, exchange: &Exchange) -> Event {
    of_exchange(facts, exchange, &[])
}

fn of_exchange(facts: &Facts<'_>, exchange: &Exchange, paths: &[PathPattern]) -> Event {
    Event {
        schema_version: SCHEMA_VERSION,
        id: EventId::new(),
        event_type: EventType::fixed("user.login.unknown"),
        timestamp: exchange.answered,
        outcome: Outcome::Unknown,
        reason: None,
        actor: Actor::default(),
        target: None,
        organization: None,
        metadata: Metadata {
            ip_address: Some(exchange.client_ip),
            user_agent: facts.headers.get(http::header::USER_AGENT).and_then(|v| Text::user_agent(v.as_bytes())),
            method: None,
            provider: None,
            session_id: None,
            geo: None,
            network: None,
            client: None,
            tls: exchange.tls.as_ref().map(|tls| Tls {
                version: tls.version.map(Text::fixed),
                sni: tls.sni.as_deref().and_then(Text::other),
                ja4: tls.ja4.as_deref().and_then(Text::other),
                subject: tls.subject.as_deref().and_then(Text::other),
            }),
            request: Some(request(facts, exchange, paths)),
            fields: Vec::new(),
        },
        source: EventSource { route: None, rule: None, preset: None, mode: Mode::Auto, confidence: 0.0 },
    }
}

fn request(facts: &Facts<'_>, exchange: &Exchange, paths: &[PathPattern]) -> Request {
    Request {
        id: Text::other(&exchange.request_id).unwrap_or(Text::fixed("-")),
        method: Text::other(facts.method.as_str()).unwrap_or(Text::fixed("-")),
        host: Text::other(facts.host),
        path: Text::other(&shown(&facts.path, paths)).unwrap_or(Text::fixed("/")),
        status: exchange.response.as_ref().map(|r| r.status.as_u16()),
        duration_ms: (exchange.duration.as_secs_f64() * 10_000.0).round() / 10.0,
        ended: (exchange.ended != Ended::Complete).then_some(exchange.ended),
        trace_id: trace_id(facts),
    }
}

/// The path as an event shows it: parameters with the name of a secret, and segments long and
/// mixed enough to be a token (a reset link, a confirmation key), are replaced.
pub fn shown_path(path: &str, patterns: &[PathPattern]) -> String {
    shown(path, patterns).into_owned()
}

/// The same, and as it came where there is nothing to hide.
fn shown<'p>(path: &'p str, patterns: &[PathPattern]) -> Cow<'p, str> {
    let mut hidden: Vec<&str> = Vec::new();
    for pattern in patterns.iter().filter(|p| p.matches(path)) {
        for name in pattern.parameters() {
            if is_secret_name(name, false) || name == "key" || name == "hash" {
                hidden.extend(pattern.parameter(path, name));
            }
        }
    }
    let secret = |segment: &str| hidden.contains(&segment) || looks_like_a_token(segment);
    if !path.split('/').any(secret) {
        return Cow::Borrowed(path);
    }
    let shown = path.split('/').map(|segment| if secret(segment) { MASK } else { segment });
    Cow::Owned(shown.collect::<Vec<_>>().join("/"))
}

/// The trace id of `traceparent` (W3C Trace Context section 3.2.2).
fn trace_id(facts: &Facts<'_>) -> Option<Text> {
    crate::proxy::request_id::trace_id(facts.headers).and_then(Text::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_in_a_path_are_not_shown_and_words_are() {
        assert_eq!(shown_path("/reset/c0ffee1234567890abcdef/", &[]), "/reset/***/");
        assert_eq!(shown_path("/confirm-email/MTA:1uKx9Y:Zm9vYmFyYmF6/", &[]), "/confirm-email/***/");
        assert_eq!(shown_path("/admin/auth/user/6/change/", &[]), "/admin/auth/user/6/change/");
        assert_eq!(
            shown_path("/accounts/password/reset/key/2-set-password/", &[]),
            "/accounts/password/reset/key/2-set-password/"
        );
        assert_eq!(shown_path("/two-factor-authentication-settings", &[]), "/two-factor-authentication-settings");
    }
}
