//! Kafka: each event is a record, stored by all in-sync replicas before it counts.
//!
//! Records with one key go to one partition, the same that Java's client chooses, so that what one
//! person did stays in order. The key is looked up in the line as it is sent: what the sink may not
//! see (`fields`) is in no key. The producer is not idempotent; consumers know a double by the id
//! in the headers. It must never wait for a broker without a bound.

#[cfg(feature = "kafka")]
mod client;
pub mod partition;
#[cfg(all(test, feature = "kafka"))]
mod tests;

use std::time::Duration;

#[cfg(not(feature = "kafka"))]
use super::absent as client;
use super::http::secret::SecretSource;
use super::net::address::Address;
use super::net::link::check_tls_of_library;
use super::net::topic::Topic;
use super::net::{PASSWORD_ENV, PASSWORD_FILE, TIMEOUT, TLS, USER, check_addresses, check_timeout};
use super::{BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan};
use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::format;
use crate::tls::client::ClientPlan;

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "kafka",
    doc: "Kafka, with all acknowledgements; needs the feature `kafka`",
    fields: FIELDS,
    formats: Formats::Any("native"),
    check,
};

const FIELDS: &[Field] = &[
    Field::required(
        "brokers",
        Kind::OneOrList(&Kind::Str),
        "HOST or HOST:PORT of one or more brokers; without a port 9092",
    ),
    Field::new("topic", Kind::Str, TOPIC, "the topic; `{type}` and `{outcome}` stand for those of the event"),
    Field::new(
        "key",
        Kind::Str,
        "actor",
        "what decides the partition: `actor`, `id`, `none`, or a JSON pointer into what is sent",
    ),
    Field::new("compression", Kind::Word(COMPRESSIONS), "none", "of each batch of records"),
    Field::new("sasl", Kind::Word(SASL), "plain", "how `user` and password are shown"),
    USER,
    PASSWORD_ENV,
    PASSWORD_FILE,
    TLS,
    TIMEOUT,
    format::field("native"),
];

const TOPIC: &str = "authtap.events";
const COMPRESSIONS: &[&str] = &["none", "gzip", "snappy"];
const SASL: &[&str] = &["plain", "scram-sha-256", "scram-sha-512"];
/// The most brokers to begin with.
const MAX_BROKERS: usize = 32;
/// The longest pointer, in bytes.
const MAX_POINTER: usize = 200;

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let brokers = check_addresses(map, "brokers", 9092, MAX_BROKERS, problems);
    let topic = Topic::check(map, "topic", TOPIC, &['/', '\\', ',', ':', '*', '?', '"', '\''], problems);
    let key = match map.get("key") {
        None => Some(Key::Actor),
        Some(at) => at.str(problems).and_then(|text| match text {
            "actor" => Some(Key::Actor),
            "id" => Some(Key::At("/id".into())),
            "none" => Some(Key::None),
            pointer if pointer.starts_with('/') && pointer.len() <= MAX_POINTER => Some(Key::At(pointer.to_owned())),
            _ => {
                let hint = "write actor, id, none, or a pointer such as /organization/id";
                problems.error_hint(at, format!("`key` cannot be {}", at.describe()), hint);
                None
            }
        }),
    };
    let compression = map.one_of("compression", COMPRESSIONS, problems).unwrap_or("none");
    let password = SecretSource::check(map, "password_env", "password_file", problems);
    let user = map.str("user", problems).map(str::to_owned);
    let sasl = map.one_of("sasl", SASL, problems).unwrap_or("plain");
    let tls = check_tls_of_library(map.get("tls"), problems);
    let timeout = check_timeout(map, problems);
    let password = password?;
    if user.is_some() != password.is_some() {
        problems.error_hint(map.node, "a user needs a password, and a password a `user`".into(), "add the other");
        return None;
    }
    let tls = tls?;
    if sasl == "plain"
        && tls.is_none()
        && let (Some(at), Some(_)) = (map.get("user"), &password)
    {
        let hint = "add `tls: on`, or choose sasl: scram-sha-512";
        problems.warn(at, "the password crosses the network in clear".into(), hint);
    }
    Some(Box::new(Plan {
        brokers: brokers?,
        topic: topic?,
        key: key?,
        compression,
        sign_in: user.zip(password).map(|(user, password)| (sasl, user, password)),
        tls,
        timeout: timeout?,
    }))
}

#[derive(Debug)]
#[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "only the client reads it"))]
struct Plan {
    brokers: Vec<Address>,
    topic: Topic,
    key: Key,
    compression: &'static str,
    /// Mechanism, user and password.
    sign_in: Option<(&'static str, String, SecretSource)>,
    tls: Option<ClientPlan>,
    timeout: Duration,
}

/// What decides the partition of an event.
#[derive(Clone, Debug)]
enum Key {
    None,
    /// Who did it: by id, else by what was typed, else by address.
    Actor,
    /// What this pointer leads to.
    At(String),
}

impl Key {
    /// The key of a line; nothing if it has none of what the key is made of.
    #[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "only the client asks"))]
    fn of(&self, line: &str) -> Option<String> {
        let pointers: &[&str] = match self {
            Key::None => return None,
            Key::Actor => &["/actor/id", "/actor/login", "/actor/email"],
            Key::At(pointer) => &[pointer],
        };
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        pointers.iter().find_map(|pointer| match event.pointer(pointer)? {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    }
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        client::build(self, cx)
    }
}
