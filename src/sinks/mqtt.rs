//! MQTT 3.1.1 with quality of service 1: each event counts when the broker has acknowledged it.
//!
//! An acknowledgement says that the broker took the message, not that anybody was there to read
//! it, and this version of the protocol cannot say that a topic was forbidden. It must never
//! publish with less than quality 1.

#[cfg(feature = "mqtt")]
mod client;
#[cfg(all(test, feature = "mqtt"))]
mod tests;

#[cfg(not(feature = "mqtt"))]
use super::absent as client;
use super::http::secret::SecretSource;
use super::net::address::Address;
use super::net::link::check_tls_of_library;
use super::net::topic::Topic;
use super::net::{PASSWORD_ENV, PASSWORD_FILE, TIMEOUT, TLS, USER, check_timeout};
use super::{BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan};
use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::format;
use crate::tls::client::ClientPlan;

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "mqtt",
    doc: "MQTT 3.1.1, quality of service 1; needs the feature `mqtt`",
    fields: FIELDS,
    formats: Formats::Any("native"),
    check,
};

const FIELDS: &[Field] = &[
    Field::required("address", Kind::Str, "the broker, HOST or HOST:PORT; without a port 1883, over TLS 8883"),
    Field::new("topic", Kind::Str, TOPIC, "the topic; `{type}` and `{outcome}` stand for those of the event"),
    Field::new(
        "client_id",
        Kind::Str,
        "",
        "the name the broker knows this sink by, of which it takes one connection; made at random without it",
    ),
    USER,
    PASSWORD_ENV,
    PASSWORD_FILE,
    TLS,
    TIMEOUT,
    format::field("native"),
];

const TOPIC: &str = "authtap/events";
/// The longest client identifier, in bytes; brokers must take 23 (MQTT 3.1.1 section 3.1.3.1).
const MAX_ID: usize = 128;

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let tls = check_tls_of_library(map.get("tls"), problems);
    let usual = if matches!(tls, Some(Some(_))) { 8883 } else { 1883 };
    let address = map.get("address").and_then(|at| Address::check(at, Some(usual), problems));
    let topic = Topic::check(map, "topic", TOPIC, &['+', '#'], problems);
    let client_id = match map.get("client_id") {
        None => Some(None),
        Some(at) => at.str(problems).and_then(|id| {
            if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(|b| b.is_ascii_graphic()) {
                let hint = "1 to 128 visible ASCII characters without spaces";
                problems.error_hint(at, format!("`client_id` cannot be {}", at.describe()), hint);
                return None;
            }
            Some(Some(id.to_owned()))
        }),
    };
    let password = SecretSource::check(map, "password_env", "password_file", problems);
    let user = map.str("user", problems).map(str::to_owned);
    let timeout = check_timeout(map, problems);
    let password = password?;
    if user.is_none() && password.is_some() {
        problems.error_hint(map.node, "a password without a `user`".into(), "add `user:`");
        return None;
    }
    Some(Box::new(Plan {
        address: address?,
        topic: topic?,
        client_id: client_id?,
        user,
        password,
        tls: tls?,
        timeout: timeout?,
    }))
}

#[derive(Debug)]
#[cfg_attr(not(feature = "mqtt"), expect(dead_code, reason = "only the client reads it"))]
struct Plan {
    address: Address,
    topic: Topic,
    client_id: Option<String>,
    user: Option<String>,
    password: Option<SecretSource>,
    tls: Option<ClientPlan>,
    timeout: std::time::Duration,
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        client::build(self, cx)
    }
}
