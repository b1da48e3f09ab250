//! Notices: what authtap says of itself in the stream of events (`authtap.*`).
//!
//! They go the way of every other event, so that whoever watches the stream knows when it began,
//! under which configuration, and when something is missing from it.

use super::{
    Actor, Event, EventId, EventType, MAX_FIELDS, Metadata, Mode, Outcome, SCHEMA_VERSION, Source, Text, Timestamp,
};

/// authtap began to serve.
pub const STARTED: EventType = EventType::fixed("authtap.started");
/// A new configuration is in force, or was refused.
pub const RELOADED: EventType = EventType::fixed("authtap.config.reloaded");
/// The application looks like one there is a preset for.
pub const SUGGESTED: EventType = EventType::fixed("authtap.preset.suggested");
/// Events were lost.
pub const DROPPED: EventType = EventType::fixed("authtap.events.dropped");
/// Events are not kept on disk at present.
pub const STORE_DEGRADED: EventType = EventType::fixed("authtap.store.degraded");
/// They are again.
pub const STORE_RECOVERED: EventType = EventType::fixed("authtap.store.recovered");
/// The store was damaged and set aside.
pub const STORE_DAMAGED: EventType = EventType::fixed("authtap.store.damaged");
/// A sink has failed for a while.
pub const SINK_DOWN: EventType = EventType::fixed("authtap.sink.down");
/// It takes events again.
pub const SINK_UP: EventType = EventType::fixed("authtap.sink.up");

/// A notice with further values.
pub fn notice(event_type: EventType, outcome: Outcome, fields: &[(&'static str, String)]) -> Event {
    let fields = fields.iter().take(MAX_FIELDS);
    Event {
        schema_version: SCHEMA_VERSION,
        id: EventId::new(),
        event_type,
        timestamp: Timestamp::now(),
        outcome,
        reason: None,
        actor: Actor::default(),
        target: None,
        organization: None,
        metadata: Metadata {
            fields: fields.filter_map(|(name, value)| Some((Text::fixed(name), Text::other(value)?))).collect(),
            ..Metadata::default()
        },
        source: Source { route: None, rule: None, preset: None, mode: Mode::Internal, confidence: 1.0 },
    }
}
