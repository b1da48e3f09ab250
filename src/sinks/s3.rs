//! Objects in a store that speaks Amazon's S3: Amazon's own, MinIO, Ceph, R2, Google's with an HMAC key.
//!
//! Each part of a batch is one object of gzipped lines under the day of its events, written whole
//! by one signed request. Its name follows from the events in it, so a part that is sent again
//! replaces itself. Answers are never about an event, so none is refused but for its size. It must
//! never list, read or delete what is there.

pub mod sign;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::Method;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use self::sign::{Keys, Request, sha256_hex};
use super::http::answer::{Answer, shown};
use super::http::client::{Client, Outgoing, Reply};
use super::http::parts::{Courier, Ledger, Limits, key_of};
use super::http::secret::SecretSource;
use super::http::{self as shared, HttpPlan, Usual, check_word};
use super::{BoxFuture, BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan, Verdict};
use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::event::Timestamp;
use crate::format;
use crate::spool::Stored;

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "s3",
    doc: "objects of gzipped lines in S3, or any store that speaks it",
    fields: FIELDS,
    formats: Formats::Any("native"),
    check,
};

const FIELDS: &[Field] = &[
    Field::required(
        "url",
        Kind::Str,
        "where objects go: https://BUCKET.s3.REGION.amazonaws.com/PREFIX, or https://HOST/BUCKET/PREFIX",
    ),
    Field::new("region", Kind::Str, "us-east-1", "the region that requests are signed for"),
    Field::new("access_key_env", Kind::Str, "AWS_ACCESS_KEY_ID", "environment variable that holds the access key id"),
    Field::new(
        "secret_key_env",
        Kind::Str,
        "AWS_SECRET_ACCESS_KEY",
        "environment variable that holds the secret access key",
    ),
    Field::new(
        "session_token_env",
        Kind::Str,
        "",
        "environment variable that holds a session token, if the keys have one",
    ),
    Field::new(
        "interval",
        Kind::Duration,
        "5s",
        "the least time between two objects, unless an object is full: fewer and larger ones, later",
    ),
    shared::TIMEOUT,
    shared::TLS,
    format::field("native"),
];

const REGION: &str = "us-east-1";
const INTERVAL: Duration = Duration::from_secs(5);
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let http = HttpPlan::check(map, &Usual::BEARER, problems);
    let region = check_word(map, "region", problems);
    let variable = |key: &str, usual: &str, problems: &mut Problems| match map.get(key) {
        Some(at) => SecretSource::env(at, problems),
        None => Some(SecretSource::Env(usual.to_owned())),
    };
    let access = variable("access_key_env", "AWS_ACCESS_KEY_ID", problems);
    let secret = variable("secret_key_env", "AWS_SECRET_ACCESS_KEY", problems);
    let token = match map.get("session_token_env") {
        Some(at) => SecretSource::env(at, problems).map(Some),
        None => Some(None),
    };
    let interval = map.get("interval").map_or(Some(INTERVAL), |at| {
        let interval = at.duration(problems)?;
        if interval > MAX_INTERVAL {
            problems.error_hint(at, format!("`interval` cannot be {}", at.describe()), "at most 1h");
            return None;
        }
        Some(interval)
    });
    let http = http?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'/');
    if let Some(at) = map.get("url")
        && (!http.url().path.bytes().all(plain) || http.url().query.is_some())
    {
        let hint = "letters, digits, `-`, `.`, `_`, `~` and `/`, and no query";
        problems.error_blotted(at, "the path of the URL has other characters than its signature allows".into(), hint);
        return None;
    }
    Some(Box::new(Plan {
        http,
        region: region?.unwrap_or_else(|| REGION.to_owned()),
        access: access?,
        secret: secret?,
        token: token?,
        interval: interval?,
    }))
}

#[derive(Debug)]
struct Plan {
    http: HttpPlan,
    region: String,
    access: SecretSource,
    secret: SecretSource,
    token: Option<SecretSource>,
    interval: Duration,
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        let keys = Keys {
            access: self.access.read(&cx.base)?,
            secret: self.secret.read(&cx.base)?,
            token: self.token.as_ref().map(|source| source.read(&cx.base)).transpose()?,
            region: self.region.clone(),
        };
        Ok(Box::new(S3 {
            store: Store {
                client: self.http.build(cx)?,
                keys,
                ending: if cx.media.list.is_some() { "jsonl" } else { "log" },
            },
            limits: cx.batch.sent(shared::USUAL_LIMITS),
            interval: self.interval,
            last: Mutex::default(),
            ledger: Ledger::default(),
        }))
    }
}

struct S3 {
    store: Store,
    limits: Limits,
    interval: Duration,
    /// When the last batch was written.
    last: Mutex<Option<Instant>>,
    ledger: Ledger,
}

impl Sink for S3 {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            let mut last = self.last.lock().await;
            // While one waits the next batch fills up. Given up in between, it begins again later.
            if let Some(last) = *last
                && batch.len() < self.limits.events
            {
                sleep_until(last + self.interval).await;
            }
            let verdict = self.ledger.deliver(&self.store, self.limits, batch).await;
            *last = Some(Instant::now());
            verdict
        })
    }

    /// Asks for an object that is not there: whose signature is wrong is told so.
    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            let path = self.store.client.url().under("/authtap-probe");
            let reply = self.store.ask(Method::GET, path, Vec::new()).await?;
            match (reply.status.as_u16(), code(&reply)) {
                (200..=299, _) | (404, Some("NoSuchKey")) => Ok(()),
                // Whoever may only write is not told what is there.
                (403, Some("AccessDenied")) => Ok(()),
                _ => Err(self.store.told(&reply)),
            }
        })
    }
}

struct Store {
    client: Client,
    keys: Keys,
    /// What names end with, before `.gz`.
    ending: &'static str,
}

impl Store {
    async fn ask(&self, method: Method, path: String, body: Vec<u8>) -> Result<Reply, SinkError> {
        let now = Timestamp::now().to_string();
        let request = Request {
            method: method.as_str(),
            path: &path,
            host: &self.client.url().authority(),
            body: &sha256_hex(&body),
            more: &[],
        };
        let signed = self.keys.sign(&request, &now);
        let mut outgoing = Outgoing { method, target: Some(path), headers: Vec::new(), body };
        for (name, value) in signed {
            outgoing = outgoing.with(name, &value);
        }
        if !outgoing.body.is_empty() {
            outgoing = outgoing.with("content-type", "application/gzip");
        }
        self.client.send(outgoing).await
    }

    /// An answer that is no success. Its code is a word of Amazon's list, and no event.
    fn told(&self, reply: &Reply) -> SinkError {
        let code = code(reply);
        let hint = match code {
            Some("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken") => {
                "; check the keys, and whether their session has ended"
            }
            Some("AccessDenied" | "AllAccessDisabled") => "; the keys need the right s3:PutObject",
            Some("NoSuchBucket") => "; check the bucket in the URL",
            Some("AuthorizationHeaderMalformed" | "PermanentRedirect") => "; check `region` and the URL",
            Some("RequestTimeTooSkewed") => "; the clock of this machine is wrong",
            _ => "",
        };
        let code = code.map(|code| format!(" {code}")).unwrap_or_default();
        SinkError::Other(format!("{} answered {}{code}{hint}", self.client.place(), shown(reply.status)))
    }
}

impl Courier for Store {
    /// A part whose events are of several days becomes an object for each run of one day.
    fn carry<'a>(&'a self, part: &'a [Stored]) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            for run in part.chunk_by(|one, next| day(one) == day(next)) {
                let Some(first) = run.first() else { continue };
                // `=` is written as it stands in the signature.
                let name = format!("/date%3D{}/{}-{}.{}.gz", day(first), first.event.id, short_key(run), self.ending);
                let path = self.client.url().under(&name);
                let reply = match pack(run) {
                    Ok(body) => self.ask(Method::PUT, path, body).await,
                    Err(why) => return Answer::lost(why),
                };
                match reply {
                    Ok(reply) if reply.status.is_success() => {}
                    Ok(reply) if reply.status == 413 || code(&reply) == Some("EntityTooLarge") => {
                        return Answer::Refused { why: self.told(&reply), divisible: true };
                    }
                    Ok(reply) => return Answer::Later { after: reply.retry_after, why: self.told(&reply) },
                    Err(why) => return Answer::lost(why),
                }
            }
            Answer::Taken
        })
    }
}

/// The day of an event in UTC, `2026-01-15`.
fn day(one: &Stored) -> String {
    one.event.timestamp.to_string().chars().take(10).collect()
}

/// A short name for exactly these events.
fn short_key(run: &[Stored]) -> String {
    let whole = key_of(run);
    // Of a single event it is the id, which begins with the time; its end is by chance.
    whole.get(whole.len().saturating_sub(8)..).unwrap_or(&whole).to_owned()
}

fn pack(run: &[Stored]) -> Result<Vec<u8>, SinkError> {
    let cannot = |source| SinkError::Io { what: "cannot compress".into(), source };
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for one in run {
        encoder.write_all(one.line.as_bytes()).and_then(|()| encoder.write_all(b"\n")).map_err(cannot)?;
    }
    encoder.finish().map_err(cannot)
}

/// `<Code>` of an error, if it is a plain word.
fn code(reply: &Reply) -> Option<&str> {
    let text = std::str::from_utf8(&reply.body).ok()?;
    let (_, after) = text.split_once("<Code>")?;
    let (code, _) = after.split_once("</Code>")?;
    (code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric())).then_some(code)
}
