//! The hint header: an application that can be changed a little says itself what happened.
//!
//! Off unless `hint:` names a response header. Then the header is taken out of every answer, and what
//! it says is an event, in place of what the routes would say of the exchange:
//!
//! ```text
//! X-Authtap-Event: user.login.failed; actor=alice; reason=invalid_credentials
//! ```
//!
//! Must never believe a request: only the application's answers are read. The invariant: with `hint:`
//! set no answer reaches a client with the header in it.

use std::sync::Arc;

use http::HeaderName;

use crate::body;
use crate::config::node::{Node, clip};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::event::{Actor, Event, EventType, Outcome, Target, Text};
use crate::headers::{Headers, Value};
use crate::rules::Decision;
use crate::rules::route::Route;

/// The most events that one answer may name.
pub const MAX_HINTS: usize = 8;

/// The keys of `hint:`.
pub const FIELDS: &[Field] = &[Field::required(
    "header",
    Kind::Str,
    "a response header by which the application says what happened, like X-Authtap-Event; it never reaches the client",
)];

/// Which header is believed.
#[derive(Clone, Debug)]
pub struct Hint {
    /// Its name.
    pub header: HeaderName,
    /// What its events are said to come from.
    route: Arc<Route>,
}

/// What one header says.
#[derive(Clone, Debug, PartialEq)]
pub struct Hinted {
    event_type: EventType,
    outcome: Outcome,
    reason: Option<Text>,
    actor: Actor,
    target: Target,
    method: Option<Text>,
    provider: Option<Text>,
}

impl Hint {
    /// Reads `hint:`.
    pub fn check(node: Option<&Node>, problems: &mut Problems) -> Option<Hint> {
        let map = node?.map(FIELDS, problems)?;
        let at = map.get("header")?;
        let text = at.str(problems)?;
        let header = HeaderName::from_bytes(text.as_bytes()).ok().filter(|name| name.as_str().starts_with("x-"));
        let Some(header) = header else {
            // Taking any other header out would change what the client is told.
            let message = format!("`{}` cannot be a hint", clip(text));
            problems.error_hint(at, message, "choose a header of your own that begins with X-, like X-Authtap-Event");
            return None;
        };
        Some(Hint { header, route: Arc::new(source_route()?) })
    }

    /// What the answer says, and how many of its headers cannot be read.
    pub fn read(&self, answer: &Headers) -> (Vec<Hinted>, usize) {
        let values = || answer.get_all(&self.header).iter();
        let found: Vec<Hinted> = values().take(MAX_HINTS).filter_map(Hinted::parse).collect();
        let unread = values().count().saturating_sub(found.len());
        (found, unread)
    }

    /// What it decides.
    pub fn decision<'h>(&'h self, hinted: &Hinted) -> Decision<'h> {
        Decision {
            route: &self.route,
            rule: Text::fixed("hint"),
            outcome: hinted.outcome,
            reason: hinted.reason.clone(),
            types: vec![hinted.event_type.clone()],
            follow: None,
        }
    }
}

/// A route of that name without rules or sources, made as any other is.
fn source_route() -> Option<Route> {
    let source = "{ id: hint, match: { path: / }, rules: [], emit: {} }";
    let mut none = Problems::new("hint", source);
    Route::check(&Node::parse(source, &mut none)?, &[], &mut none)
}

impl Hinted {
    /// Reads an event type and its parameters (RFC 9110 section 5.6.6); `None` if the type is none.
    pub fn parse(value: Value<'_>) -> Option<Hinted> {
        let text = String::from_utf8_lossy(value.as_bytes());
        let event_type = EventType::parse(text.split(';').next().unwrap_or_default().trim())?;
        let parameter = |name: &str| body::param(&text, name);
        let identifier = |name: &str| parameter(name).and_then(|v| Text::identifier(&v));
        let other = |name: &str| parameter(name).and_then(|v| Text::other(&v));
        let outcome = match parameter("outcome") {
            // `ignore` is no outcome that an event can have.
            Some(word) => Outcome::parse(&word).filter(|o| *o != Outcome::Ignore)?,
            None => outcome_of(event_type.as_str()),
        };
        Some(Hinted {
            outcome,
            reason: other("reason"),
            actor: Actor {
                id: identifier("actor.id"),
                email: identifier("actor.email"),
                login: identifier("actor"),
                kind: other("actor.type"),
            },
            target: Target { kind: other("target.type"), id: identifier("target"), email: identifier("target.email") },
            method: other("method"),
            provider: other("provider"),
            event_type,
        })
    }

    /// Says in the event what the application said.
    pub fn fill(&self, event: &mut Event) {
        event.actor = self.actor.clone();
        event.target = Some(self.target.clone()).filter(|t| !t.is_empty());
        event.metadata.method.clone_from(&self.method);
        event.metadata.provider.clone_from(&self.provider);
    }
}

/// The outcome that the name of a type speaks of.
fn outcome_of(event_type: &str) -> Outcome {
    match event_type.rsplit(['.', '_']).next().unwrap_or_default() {
        "failed" | "failure" | "denied" => Outcome::Failure,
        "requested" => Outcome::Requested,
        "rejected" => Outcome::Rejected,
        "unknown" => Outcome::Unknown,
        _ => Outcome::Success,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Option<Hinted> {
        let headers = Headers::from_iter([(http::header::VIA, text)]);
        Hinted::parse(headers.get("via").expect("a value"))
    }

    #[test]
    fn type_and_parameters_are_read() {
        let hint =
            parse("user.role.updated; actor=alice; actor.id=\"7\"; target=\"u;8\"; method=password").expect("a hint");
        let text = |t: &Option<Text>| t.as_ref().map(|t| t.to_string()).unwrap_or_default();
        let found = [&hint.actor.login, &hint.actor.id, &hint.target.id, &hint.method, &hint.actor.email].map(text);
        assert_eq!(found, ["alice", "7", "u;8", "password", ""]);
        assert_eq!((hint.event_type.as_str(), hint.outcome), ("user.role.updated", Outcome::Success));
    }

    #[test]
    fn the_outcome_is_what_is_said_or_what_the_name_says() {
        for (text, outcome) in [
            ("user.login.failed", Outcome::Failure),
            ("user.password.reset_requested", Outcome::Requested),
            ("user.mfa.challenge.requested", Outcome::Requested),
            ("access.denied", Outcome::Failure),
            ("acme.badge.printed", Outcome::Success),
            ("acme.badge.printed; outcome=rejected", Outcome::Rejected),
        ] {
            assert_eq!(parse(text).map(|h| h.outcome), Some(outcome), "{text}");
        }
        for text in
            ["", "login", "User.Login", "user.login.success; outcome=ignore", "user.login.success; outcome=x", ";"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_a_header_of_ones_own_can_be_a_hint() {
        for (yaml, right) in [
            ("{ header: X-Authtap-Event }", true),
            ("{ header: Set-Cookie }", false),
            ("{ header: content-length }", false),
            ("{ header: 'x y' }", false),
        ] {
            let mut problems = Problems::new("t", yaml);
            let node = Node::parse(yaml, &mut problems).expect("yaml");
            assert_eq!(Hint::check(Some(&node), &mut problems).is_some(), right, "{yaml}");
            assert_eq!(problems.has_errors(), !right, "{yaml}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_a_hint_or_not(bytes in proptest::collection::vec(0x20_u8..0x7f, 0..100)) {
            let headers = Headers::from_iter([(http::header::VIA, bytes)]);
            let _ = Hinted::parse(headers.get("via").expect("a value"));
        }
    }
}
