//! Events to a receiver over HTTP, signed as Standard Webhooks says (standardwebhooks.com).
//!
//! One event a request, or several as a JSON array or as lines. With a secret each request carries
//! `webhook-id`, `webhook-timestamp` and `webhook-signature`: HMAC-SHA256 over `id.timestamp.body`,
//! the body as it is before compression. The id stays the same when the same events are sent again,
//! so that a receiver can tell; it is repeated as `x-idempotency-key`. The secret must never leave
//! this file but as a signature.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use http::Method;
use sha2::Sha256;

use super::http::answer::Answer;
use super::http::client::{Client, Outgoing};
use super::http::parts::{Courier, Ledger, Limits, key_of};
use super::http::secret::{Secret, SecretSource};
use super::http::{self as shared, Compressions, HttpPlan, Usual};
use super::lanes::CONCURRENCY;
use super::{BoxFuture, BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan, Verdict};
use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind, joined};
use crate::event::Timestamp;
use crate::format::{self, FORMATS, Media};
use crate::spool::Stored;

#[cfg(test)]
mod tests;

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "webhook",
    doc: "a receiver over HTTP, signed as Standard Webhooks says",
    fields: FIELDS,
    formats: Formats::Any("native"),
    check,
};

const BODY: &[&str] = &["event", "array", "lines"];
const METHODS: &[&str] = &["POST", "PUT"];
/// Events of an array or of lines, unless `batch:` says otherwise: receivers of webhooks are small.
const USUAL_EVENTS: usize = 100;

const FIELDS: &[Field] = joined!(OWN, shared::TOKEN, shared::BASIC, &shared::fields(&USUAL), &[CONCURRENCY]);

const USUAL: Usual = Usual { compressions: Compressions::MAYBE_ANY, ..Usual::BEARER };

const OWN: &[Field] = &[
    Field::required("url", Kind::Str, "https://HOST/PATH"),
    Field::new("method", Kind::Word(METHODS), "POST", "the HTTP method"),
    Field::new(
        "secret_env",
        Kind::Str,
        "",
        "environment variable that holds the signing secret, `whsec_…`; several, set apart by a space, sign side by side",
    ),
    Field::new("secret_file", Kind::Str, "", "file that holds it instead, read at the start and at each reload"),
    Field::new(
        "body",
        Kind::Word(BODY),
        "event",
        "one event a request, or several events in a request: as a JSON array, or one a line",
    ),
    format::field("native"),
];

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let http = HttpPlan::check(map, &USUAL, problems);
    let secret = SecretSource::check(map, "secret_env", "secret_file", problems);
    let method = map.one_of("method", METHODS, problems).unwrap_or("POST");
    let body = map.one_of("body", BODY, problems).unwrap_or("event");
    if let (Some(at), Some(word)) = (map.get("body"), map.get("format").and_then(format::word_of))
        && body == "array"
        && FORMATS.iter().any(|kind| kind.name == word && kind.media.list.is_none())
    {
        problems.error_hint(at, format!("events in the format {word} are no JSON, and make no array"), "write `lines`");
        return None;
    }
    Some(Box::new(Plan { http: http?, secret: secret?, method, body }))
}

#[derive(Debug)]
struct Plan {
    http: HttpPlan,
    secret: Option<SecretSource>,
    method: &'static str,
    body: &'static str,
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        let keys = match &self.secret {
            Some(source) => Keys::read(&source.read(&cx.base)?)?,
            None => Keys::default(),
        };
        let limits = match self.body {
            "event" => Limits { events: 1, ..shared::USUAL_LIMITS },
            _ => cx.batch.sent(Limits { events: USUAL_EVENTS, ..shared::USUAL_LIMITS }),
        };
        Ok(Box::new(Webhook {
            client: self.http.build(cx)?,
            keys,
            limits,
            method: if self.method == "PUT" { Method::PUT } else { Method::POST },
            body: self.body,
            media: cx.media,
            ledger: Ledger::default(),
        }))
    }
}

struct Webhook {
    client: Client,
    keys: Keys,
    limits: Limits,
    method: Method,
    body: &'static str,
    media: Media,
    ledger: Ledger,
}

impl Sink for Webhook {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(self.ledger.deliver(self, self.limits, batch))
    }

    /// A receiver has no way of being asked without an event; that it can be reached is tried.
    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(self.client.connects())
    }
}

impl Courier for Webhook {
    fn carry<'a>(&'a self, part: &'a [Stored]) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            let lines: Vec<&str> = part.iter().map(|one| &*one.line).collect();
            let (body, media) = match self.body {
                "array" => (format!("[{}]", lines.join(",")), self.media.list.unwrap_or(self.media.one)),
                "lines" => (format!("{}\n", lines.join("\n")), self.media.lines()),
                _ => (lines.concat(), self.media.one),
            };
            let id = key_of(part);
            let mut request = Outgoing::post(media, Vec::new()).with("x-idempotency-key", &id);
            request.method = self.method.clone();
            if !self.keys.0.is_empty() {
                let now = (Timestamp::now().as_millis() / 1000).to_string();
                request = request
                    .with("webhook-id", &id)
                    .with("webhook-timestamp", &now)
                    .with("webhook-signature", &self.keys.sign(&id, &now, body.as_bytes()));
            }
            request.body = body.into_bytes();
            match self.client.send(request).await {
                Ok(reply) => Answer::by_status(&reply, &self.client.place()),
                Err(why) => Answer::lost(why),
            }
        })
    }
}

/// The most secrets that sign side by side.
const MAX_KEYS: usize = 4;

/// Keys that every request is signed with.
#[derive(Default)]
struct Keys(Vec<Arc<[u8]>>);

impl Keys {
    fn read(secret: &Secret) -> Result<Keys, SinkError> {
        let wrong = || {
            SinkError::Other(format!(
                "{} holds no signing secret; it begins with `whsec_`, followed by 24 to 64 bytes in base64",
                secret.place()
            ))
        };
        let mut keys = Vec::new();
        for word in secret.reveal().split_ascii_whitespace() {
            let text = word.strip_prefix("whsec_").unwrap_or(word);
            let key = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).map_err(|_| wrong())?;
            if key.len() < 16 || keys.len() == MAX_KEYS {
                return Err(wrong());
            }
            keys.push(key.into());
        }
        if keys.is_empty() { Err(wrong()) } else { Ok(Keys(keys)) }
    }

    /// The value of `webhook-signature`: one signature for each key.
    fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let sign = |key: &Arc<[u8]>| {
            // HMAC takes a key of any length (RFC 2104 section 3).
            let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
            mac.update(id.as_bytes());
            mac.update(b".");
            mac.update(timestamp.as_bytes());
            mac.update(b".");
            mac.update(body);
            Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
        };
        self.0.iter().filter_map(sign).collect::<Vec<_>>().join(" ")
    }
}
