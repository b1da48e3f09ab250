//! What authtap emits: the public event, version 1.
//!
//! One [`Event`] is one JSON object on one line. The order of the fields below is the order of
//! the keys, absent values are left out, and every text that came from a client passes through
//! [`text`] first, so that nothing a client sends can break a line, a log or a limit.
//! `docs/event-schema.md` describes the same object for readers; a test holds the two together.

pub mod ended;
pub mod id;
pub(crate) mod json;
pub mod kind;
pub mod line;
pub mod names;
pub mod notice;
pub mod outcome;
#[cfg(test)]
pub(crate) mod sample;
pub mod schema;
pub mod text;
pub mod time;

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use ended::Ended;
pub use id::EventId;
pub use kind::EventType;
pub use outcome::Outcome;
pub use text::Text;
pub use time::Timestamp;

/// The version that `schema_version` states; it changes with the shape of [`Event`].
pub const SCHEMA_VERSION: u32 = 1;

/// The most entries that [`Metadata::fields`] holds.
pub const MAX_FIELDS: usize = 32;

/// The room for a line that a thread keeps for the next, in bytes.
const KEPT_ROOM: usize = 16 << 10;

/// One security event: who, what, from where, and how we know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Always [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Stable and time-ordered (RFC 9562 UUID version 7); sinks de-duplicate by it.
    pub id: EventId,
    /// What happened, from the vocabulary of [`kind`] or a name of the operator's own.
    pub event_type: EventType,
    /// When the response began; never rewritten by a later delivery.
    pub timestamp: Timestamp,
    /// What the evidence says about how it went.
    pub outcome: Outcome,
    /// Why, in one word of the route's author (`invalid_credentials`, `csrf`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Actor::is_empty")]
    pub actor: Actor,
    /// Whom or what it was done to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// The tenant it happened in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<Organization>,
    /// From where and by what means.
    pub metadata: Metadata,
    /// Which route and which evidence made the event.
    pub source: Source,
}

/// Who did it. The three names are three different things and are never mixed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The application's immutable id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Text>,
    /// An address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Text>,
    /// What was typed into the user field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<Text>,
    /// `user`, `service`, `admin`: what the route says.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Text>,
}

impl Actor {
    /// True if nothing names anybody (a bare `type` names nobody).
    pub fn is_empty(&self) -> bool {
        self.id.is_none() && self.email.is_none() && self.login.is_none()
    }

    /// The best single name for a person to read: address, then login, then id.
    pub fn label(&self) -> Option<&str> {
        let best = self.email.as_ref().or(self.login.as_ref()).or(self.id.as_ref());
        best.map(Text::as_str)
    }

    /// Takes from `other` what is unknown here.
    pub fn fill_from(&mut self, other: &Actor) {
        for (mine, theirs) in [
            (&mut self.id, &other.id),
            (&mut self.email, &other.email),
            (&mut self.login, &other.login),
            (&mut self.kind, &other.kind),
        ] {
            if mine.is_none() {
                mine.clone_from(theirs);
            }
        }
    }
}

/// Whom or what it was done to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// `user`, `api_key`, `team`: what the route says.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Text>,
    /// The application's id of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Text>,
    /// Its address, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Text>,
}

impl Target {
    /// True if nothing names anything.
    pub fn is_empty(&self) -> bool {
        self.id.is_none() && self.email.is_none()
    }
}

/// The tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    /// The application's id or name of it.
    pub id: Text,
}

/// From where and by what means.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Metadata {
    /// The client's address, decided once (see `proxy::client_ip`); absent in notices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<IpAddr>,
    /// The `User-Agent` header as sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Text>,
    /// How the person proved themselves: `password`, `sso`, `mfa`, `api_key`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Text>,
    /// The identity provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Text>,
    /// Keyed hash of the session, `s_…`; never the session itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Text>,
    /// Where the address is said to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub geo: Option<Geo>,
    /// Whose network the address belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// What the user agent says it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<Client>,
    /// What the client's TLS connection to authtap says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The request that carried it; absent in notices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
    /// Further values that the route names, in the order it names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty", serialize_with = "as_map", deserialize_with = "from_map")]
    pub fields: Vec<(Text, Text)>,
}

/// Where an address is said to be, by a GeoIP database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Geo {
    /// ISO 3166-1 alpha-2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<Text>,
    /// ISO 3166-2 subdivision, without the country.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Text>,
    /// English name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city: Option<Text>,
    /// Degrees north.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latitude: Option<f64>,
    /// Degrees east.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longitude: Option<f64>,
}

/// Whose network an address belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Autonomous system number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// Who runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<Text>,
    /// True if the database lists it as a hosting provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosting: Option<bool>,
    /// True if the database lists it as a VPN, proxy or other anonymiser.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<bool>,
    /// True if the database lists it as a Tor exit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tor: Option<bool>,
}

/// What the client's TLS connection says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// `1.2` or `1.3`; behind a balancer `1.0` or `1.1` too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Text>,
    /// The name the client asked for (SNI).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<Text>,
    /// JA4 fingerprint of the ClientHello.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ja4: Option<Text>,
    /// Subject of the client's verified certificate (RFC 4514).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Text>,
}

/// What a user agent says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Browser or tool family (`Firefox`, `curl`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub browser: Option<Text>,
    /// Operating system family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<Text>,
    /// `desktop`, `mobile`, `tablet` or `other`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Text>,
    /// True for crawlers, scripts and headless browsers that say so.
    pub bot: bool,
}

/// The request that carried the event. The path is kept, the query never is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// `x-request-id`, kept or made.
    pub id: Text,
    /// HTTP method.
    pub method: Text,
    /// The host the client asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Text>,
    /// Path without query; segments that look like secrets are masked.
    pub path: Text,
    /// Status of the answer; absent if none came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Milliseconds from the request's head to the end of the answer.
    pub duration_ms: f64,
    /// How the exchange ended, if it did not end well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// W3C trace context: the trace id of `traceparent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Text>,
}

/// Which route and which evidence made the event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Source {
    /// `id` of the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Text>,
    /// Name of the rule that decided, or `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Text>,
    /// The preset the route came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Text>,
    /// `routes`, `preset`, `auto` or `internal`.
    pub mode: Mode,
    /// 0 to 1; 1 where a rule decided.
    pub confidence: f64,
}

/// Where the knowledge came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A route of the operator's own configuration.
    Routes,
    /// A shipped preset.
    Preset,
    /// Recognised without configuration.
    Auto,
    /// authtap speaking about itself.
    Internal,
}

impl Event {
    /// Takes the actor of the request's session where the exchange itself names nobody; a `type`
    /// that the route gave stays.
    pub fn actor_of_session(&mut self, known: &Actor) {
        if self.actor.is_empty() {
            let kind = self.actor.kind.take();
            self.actor = known.clone();
            self.actor.kind = kind.or(self.actor.kind.take());
        }
    }

    /// The event as one line of JSON, without the line end.
    pub fn to_line(&self) -> String {
        json::line(self)
    }

    /// The same, for many readers.
    pub fn to_shared_line(&self) -> Arc<str> {
        thread_local! {
            // The room of the line before: what is shared is copied to a place of its own anyway.
            static ROOM: RefCell<String> = const { RefCell::new(String::new()) };
        }
        ROOM.with_borrow_mut(|room| {
            room.clear();
            json::write(self, room);
            let line = Arc::from(room.as_str());
            room.shrink_to(KEPT_ROOM);
            line
        })
    }

    /// Reads a line that [`Event::to_line`] wrote. Texts are cleaned and capped once more, because
    /// the file they come from may have been written to by others.
    ///
    /// # Errors
    /// What is wrong with it; the message quotes no value of the event.
    pub fn from_line(line: &str) -> Result<Event, UnreadableEvent> {
        serde_json::from_str(line).map_err(|e| UnreadableEvent { column: e.column() })
    }
}

/// A stored line that is no event of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no event of this version can be read there (column {column})")]
pub struct UnreadableEvent {
    /// Where reading ended, from 1.
    pub column: usize,
}

fn as_map<S: serde::Serializer>(fields: &[(Text, Text)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(fields.iter().map(|(key, value)| (key, value)))
}

fn from_map<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<(Text, Text)>, D::Error> {
    struct Fields;
    impl<'de> serde::de::Visitor<'de> for Fields {
        type Value = Vec<(Text, Text)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a mapping of texts")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::new();
            while let Some(pair) = map.next_entry()? {
                // As many as an event may have; more did not come from here.
                if fields.len() < MAX_FIELDS {
                    fields.push(pair);
                }
            }
            Ok(fields)
        }
    }
    from.deserialize_map(Fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_as_the_event_that_wrote_it() {
        let mut event = sample::login("alice");
        event.metadata.fields =
            vec![(Text::fixed("remember"), Text::fixed("on")), (Text::fixed("a"), Text::fixed("b"))];
        event.metadata.geo = Some(Geo { country: Some(Text::fixed("GB")), latitude: Some(51.5), ..Geo::default() });
        event.metadata.client = Some(Client { browser: Some(Text::fixed("Firefox")), ..Client::default() });
        event.target = Some(Target { id: Some(Text::fixed("usr_1")), ..Target::default() });
        for event in [event, notice::notice(notice::STARTED, Outcome::Success, &[("version", "1".into())])] {
            let line = event.to_line();
            assert_eq!(Event::from_line(&line).map(|read| read.to_line()), Ok(line));
        }
    }

    #[test]
    fn what_is_no_event_is_an_error_without_a_quotation() {
        for line in ["", "{}", "null", "{\"schema_version\":1,\"id\":\"hunter2\"}"] {
            let error = Event::from_line(line).map(|_| ()).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let forged = sample::login("alice").to_line().replace("alice", "al\\u001b[31mice");
        let read = Event::from_line(&forged).map(|e| e.to_line());
        assert!(read.is_ok_and(|line| line.contains("al[31mice")));
    }
}
