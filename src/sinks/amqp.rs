//! AMQP 0-9-1, as RabbitMQ speaks it: each event is a persistent message that counts when the broker
//! has confirmed it.
//!
//! A confirmation says that every queue the message was routed to has it on disk. With `mandatory`
//! a message that no queue is bound for comes back and is refused, so that it is a dead letter and
//! not lost. It must never publish without confirmation, and never declare anything: exchanges and
//! queues are their owner's.
//!
//! The protocol is written here by hand ([`frame`], `client`), as far as a publisher needs it.
//! The usual library logs every returned message whole, keeps a thread and 8 MB of buffers for
//! each connection, and leaves both behind when a broker falls silent in the middle of a handshake.

mod client;
pub mod frame;
#[cfg(test)]
mod tests;

use super::http::secret::SecretSource;
use super::net::address::Address;
use super::net::link::{LinkPlan, check_tls};
use super::net::topic::Topic;
use super::net::{PASSWORD_ENV, PASSWORD_FILE, TIMEOUT, TLS, USER, check_timeout};
use super::{BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan};
use crate::config::node::{Map, Node};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::format;

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "amqp",
    doc: "AMQP 0-9-1 (RabbitMQ), persistent and confirmed",
    fields: FIELDS,
    formats: Formats::Any("native"),
    check,
};

const FIELDS: &[Field] = &[
    Field::required("address", Kind::Str, "the broker, HOST or HOST:PORT; without a port 5672, over TLS 5671"),
    Field::new("vhost", Kind::Str, VHOST, "the virtual host"),
    Field::new(
        "exchange",
        Kind::Str,
        EXCHANGE,
        "the exchange, which must exist; an empty text is the default one, where the routing key names a queue",
    ),
    Field::new(
        "routing_key",
        Kind::Str,
        ROUTING_KEY,
        "the routing key; `{type}` and `{outcome}` stand for those of the event",
    ),
    Field::new(
        "mandatory",
        Kind::Bool,
        "on",
        "an event that no queue is bound for is refused; off: the broker drops it",
    ),
    Field::new("sasl", Kind::Word(SASL), "plain", "`external` signs in by the certificate of `tls`"),
    Field::new("user", Kind::Str, USUAL, USER.doc),
    PASSWORD_ENV,
    PASSWORD_FILE,
    TLS,
    TIMEOUT,
    format::field("native"),
];

const VHOST: &str = "/";
/// A topic exchange that every virtual host has.
const EXCHANGE: &str = "amq.topic";
const ROUTING_KEY: &str = "authtap.events.{type}";
const SASL: &[&str] = &["plain", "external"];
/// The user, and its password, that a fresh broker lets in from its own machine.
const USUAL: &str = "guest";
/// The longest name of an exchange (AMQP 0-9-1 `exchange-name`) and of a virtual host, in bytes.
const MAX_NAME: usize = 127;

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let tls = check_tls(map.get("tls"), problems);
    let usual = if matches!(tls, Some(Some(_))) { 5671 } else { 5672 };
    let address = map.get("address").and_then(|at| Address::check(at, Some(usual), problems));
    let timeout = check_timeout(map, problems);
    let vhost = check_name(map.get("vhost"), "vhost", VHOST, 1, problems);
    let exchange = check_name(map.get("exchange"), "exchange", EXCHANGE, 0, problems);
    let routing_key = Topic::check(map, "routing_key", ROUTING_KEY, &['*', '#'], problems);
    let mandatory = map.get("mandatory").map_or(Some(true), |at| at.bool(problems));
    let external = map.one_of("sasl", SASL, problems) == Some("external");
    let password = SecretSource::check(map, "password_env", "password_file", problems);
    let user = map.str("user", problems).map(str::to_owned);
    let (tls, password) = (tls?, password?);
    let sign_in = match (external, user, password) {
        (true, None, None) => SignIn::External,
        (true, ..) => {
            problems.error_hint(map.node, "`sasl: external` has no user and password".into(), "leave both out");
            return None;
        }
        (false, None, None) => SignIn::Usual,
        (false, Some(user), Some(password)) => SignIn::Plain(user, password),
        (false, ..) => {
            let message = "a user needs a password, and a password a `user`".into();
            problems.error_hint(map.node, message, "add the other");
            return None;
        }
    };
    match (&sign_in, map.get("user"), map.get("sasl")) {
        (SignIn::External, _, Some(at)) if tls.is_none() => {
            problems.error_hint(at, "`sasl: external` needs TLS".into(), "add `tls: { cert: FILE, key: FILE }`");
            return None;
        }
        (SignIn::Plain(..), Some(at), _) if tls.is_none() => {
            problems.warn(at, "the password crosses the network in clear".into(), "add `tls: on`");
        }
        _ => {}
    }
    Some(Box::new(Plan {
        link: LinkPlan { address: address?, tls, timeout: timeout? },
        vhost: vhost?,
        exchange: exchange?,
        routing_key: routing_key?,
        mandatory: mandatory?,
        sign_in,
    }))
}

/// Reads a name of the broker's, of at least `least` bytes.
fn check_name(at: Option<&Node>, key: &str, usual: &str, least: usize, problems: &mut Problems) -> Option<String> {
    let Some(at) = at else { return Some(usual.to_owned()) };
    let name = at.str(problems)?;
    if !(least..=MAX_NAME).contains(&name.len()) || name.contains(char::is_control) {
        let hint = format!("{least} to {MAX_NAME} bytes without control characters");
        problems.error_hint(at, format!("`{key}` cannot be {}", at.describe()), &hint);
        return None;
    }
    Some(name.to_owned())
}

#[derive(Debug)]
struct Plan {
    link: LinkPlan,
    vhost: String,
    /// Empty is the default exchange.
    exchange: String,
    routing_key: Topic,
    mandatory: bool,
    sign_in: SignIn,
}

#[derive(Debug)]
enum SignIn {
    /// As [`USUAL`].
    Usual,
    Plain(String, SecretSource),
    External,
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        client::build(self, cx)
    }
}
