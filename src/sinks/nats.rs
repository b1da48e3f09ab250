//! NATS JetStream: each event is published under its id and counts when a stream has stored it.
//!
//! `Nats-Msg-Id` is the event's id, so what is published twice within the stream's window for
//! duplicates is there once. It must never publish without asking for an acknowledgement: core
//! NATS drops what nobody listens to.

#[cfg(feature = "nats")]
mod client;
#[cfg(all(test, feature = "nats"))]
mod tests;

use std::time::Duration;

#[cfg(not(feature = "nats"))]
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
    name: "nats",
    doc: "NATS JetStream, acknowledged; needs the feature `nats`",
    fields: FIELDS,
    formats: Formats::Any("native"),
    check,
};

const FIELDS: &[Field] = &[
    Field::required(
        "servers",
        Kind::OneOrList(&Kind::Str),
        "HOST or HOST:PORT of one or more servers; without a port 4222",
    ),
    Field::new(
        "subject",
        Kind::Str,
        SUBJECT,
        "the subject, which a stream must cover; `{type}` and `{outcome}` stand for those of the event",
    ),
    Field::new("stream", Kind::Str, "", "the stream that must be the one to store it; any without it"),
    Field::new("token_env", Kind::Str, "", "environment variable that holds a token to sign in with"),
    Field::new("token_file", Kind::Str, "", "file that holds it instead, read at the start and at each reload"),
    USER,
    PASSWORD_ENV,
    PASSWORD_FILE,
    Field::new("creds_env", Kind::Str, "", "environment variable that holds credentials (a user's JWT and seed)"),
    Field::new("creds_file", Kind::Str, "", "file that holds them instead, as `nsc` writes it: user.creds"),
    Field::new("nkey_env", Kind::Str, "", "environment variable that holds the seed of a user's nkey, `SU…`"),
    Field::new("nkey_file", Kind::Str, "", "file that holds it instead, read at the start and at each reload"),
    TLS,
    TIMEOUT,
    format::field("native"),
];

const SUBJECT: &str = "authtap.events.{type}";
/// The most servers.
const MAX_SERVERS: usize = 32;
/// The longest name of a stream, in bytes.
const MAX_NAME: usize = 255;

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let servers = super::net::check_addresses(map, "servers", 4222, MAX_SERVERS, problems);
    let subject = Topic::check(map, "subject", SUBJECT, &['*', '>'], problems);
    let stream = match map.get("stream") {
        None => Some(None),
        Some(at) => at.str(problems).and_then(|name| {
            let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '/' | '\\');
            if name.is_empty() || name.len() > MAX_NAME || name.contains(bad) {
                let hint = "a name without spaces, `.`, `*`, `>` and slashes";
                problems.error_hint(at, format!("`stream` cannot be {}", at.describe()), hint);
                return None;
            }
            Some(Some(name.to_owned()))
        }),
    };
    let (token, password) = (
        SecretSource::check(map, "token_env", "token_file", problems),
        SecretSource::check(map, "password_env", "password_file", problems),
    );
    let creds = SecretSource::check(map, "creds_env", "creds_file", problems);
    let nkey = SecretSource::check(map, "nkey_env", "nkey_file", problems);
    let user = map.str("user", problems).map(str::to_owned);
    let tls = check_tls_of_library(map.get("tls"), problems);
    let timeout = check_timeout(map, problems);
    let (token, password, creds, nkey) = (token?, password?, creds?, nkey?);
    if user.is_some() != password.is_some() {
        problems.error_hint(map.node, "a user needs a password, and a password a `user`".into(), "add the other");
        return None;
    }
    let mut ways = token.map(SignIn::Token).into_iter().collect::<Vec<_>>();
    ways.extend(user.zip(password).map(|(user, password)| SignIn::User(user, password)));
    ways.extend(creds.map(SignIn::Creds));
    ways.extend(nkey.map(SignIn::Nkey));
    if ways.len() > 1 {
        let message = "more than one of token, user, creds and nkey to sign in with".into();
        problems.error_hint(map.node, message, "leave the others out");
        return None;
    }
    let sign_in = ways.pop().unwrap_or(SignIn::Not);
    Some(Box::new(Plan {
        servers: servers?,
        subject: subject?,
        stream: stream?,
        sign_in,
        tls: tls?,
        timeout: timeout?,
    }))
}

#[derive(Debug)]
#[cfg_attr(not(feature = "nats"), expect(dead_code, reason = "only the client reads it"))]
struct Plan {
    servers: Vec<Address>,
    subject: Topic,
    stream: Option<String>,
    sign_in: SignIn,
    tls: Option<ClientPlan>,
    timeout: Duration,
}

#[derive(Debug)]
#[cfg_attr(not(feature = "nats"), expect(dead_code, reason = "only the client reads it"))]
enum SignIn {
    Not,
    Token(SecretSource),
    User(String, SecretSource),
    /// A JWT with the seed that proves it.
    Creds(SecretSource),
    /// The seed of a key that the server knows.
    Nkey(SecretSource),
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        client::build(self, cx)
    }
}
