//! Events for tests, made in one place so that a new field of the event is added in one.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    Actor, Event, EventId, EventType, Metadata, Mode, Outcome, Request, SCHEMA_VERSION, Source, Text, Timestamp,
};

/// A failed login by `user`.
pub(crate) fn login(user: &str) -> Event {
    of_type("user.login.failed", user)
}

/// An event of this type by `user`.
pub(crate) fn of_type(event_type: &str, user: &str) -> Event {
    Event {
        schema_version: SCHEMA_VERSION,
        id: EventId::new(),
        event_type: EventType::parse(event_type).unwrap(),
        timestamp: Timestamp::from_millis(1_768_469_537_123),
        outcome: Outcome::Failure,
        reason: Some(Text::fixed("invalid_credentials")),
        actor: Actor { login: Text::identifier(user), ..Actor::default() },
        target: None,
        organization: None,
        metadata: Metadata {
            ip_address: Some(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 42))),
            user_agent: None,
            method: None,
            provider: None,
            session_id: None,
            geo: None,
            network: None,
            client: None,
            tls: None,
            request: Some(Request {
                id: Text::fixed("r1"),
                method: Text::fixed("POST"),
                host: None,
                path: Text::fixed("/login"),
                status: Some(200),
                duration_ms: 1.5,
                ended: None,
                trace_id: None,
            }),
            fields: Vec::new(),
        },
        source: Source {
            route: Some(Text::fixed("login")),
            rule: None,
            preset: None,
            mode: Mode::Routes,
            confidence: 1.0,
        },
    }
}
