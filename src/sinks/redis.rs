//! Redis streams: `XADD`, one entry an event, the stream kept to a length.
//!
//! A batch is one pipeline, and each reply decides about its own event: what Redis has stored is
//! not added again when the rest is tried again. No reply of Redis to an `XADD` is about the event
//! itself, so none is ever refused. The invariant: an event counts as delivered when Redis has
//! answered with the id of its entry; how long Redis keeps it is Redis's configuration.

#[cfg(feature = "redis")]
mod client;
#[cfg(all(test, feature = "redis"))]
mod tests;

#[cfg(not(feature = "redis"))]
use super::absent as client;
use super::http::secret::SecretSource;
use super::net::link::LinkPlan;
use super::net::topic::Topic;
use super::net::{PASSWORD_ENV, PASSWORD_FILE, TIMEOUT, TLS, USER};
use super::{BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan};
use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::format;

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "redis",
    doc: "a Redis stream (XADD); needs the feature `redis`",
    fields: FIELDS,
    formats: Formats::Any("native"),
    check,
};

const FIELDS: &[Field] = &[
    Field::required("address", Kind::Str, "HOST or HOST:PORT; without a port 6379"),
    Field::new(
        "stream",
        Kind::Str,
        STREAM,
        "the key of the stream; `{type}` and `{outcome}` stand for those of the event",
    ),
    Field::new(
        "maxlen",
        Kind::Int(0, 1_000_000_000_000),
        "1000000",
        "entries the stream is trimmed to, roughly (`MAXLEN ~`); 0 never trims",
    ),
    Field::new("db", Kind::Int(0, 65_535), "0", "the number of the database"),
    USER,
    PASSWORD_ENV,
    PASSWORD_FILE,
    TLS,
    TIMEOUT,
    format::field("native"),
];

const STREAM: &str = "authtap:events";
const MAXLEN: u64 = 1_000_000;

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let link = LinkPlan::check(map, Some(6379), problems);
    let stream = Topic::check(map, "stream", STREAM, &[], problems);
    let maxlen = map.int("maxlen", 0..=1_000_000_000_000, problems).unwrap_or(MAXLEN);
    let db = map.int("db", 0..=65_535, problems).unwrap_or(0);
    let password = SecretSource::check(map, "password_env", "password_file", problems);
    let user = map.str("user", problems).map(str::to_owned);
    let password = password?;
    if let (Some(at), None) = (map.get("user"), &password) {
        problems.error_hint(at, "a `user` without a password".into(), "add `password_env:`");
        return None;
    }
    Some(Box::new(Plan { link: link?, stream: stream?, maxlen, db, user, password }))
}

#[derive(Debug)]
#[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "only the client reads it"))]
struct Plan {
    link: LinkPlan,
    stream: Topic,
    /// 0 never trims.
    maxlen: u64,
    db: u64,
    user: Option<String>,
    password: Option<SecretSource>,
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        client::build(self, cx)
    }
}
