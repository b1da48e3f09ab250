//! What sinks that write objects share: how an object is named, packed, and when one is due.
//!
//! Not a sink. Each part of a batch is one object for each day in it, written whole under a name
//! that follows from its events, so a part that is sent again replaces itself. A store's answer is
//! about a bucket, a right or a size, and so no event is ever refused but for its size. Packing
//! takes time and never runs on the runtime's own thread.

#[cfg(feature = "object-store")]
mod crypto;
#[cfg(feature = "parquet")]
pub mod parquet;
#[cfg(feature = "object-store")]
pub(super) mod remote;
#[cfg(test)]
pub(crate) mod tests;

use std::io::Write;
use std::ops::RangeInclusive;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::http::answer::Answer;
use super::http::client::Reply;
use super::http::parts::{Courier, Ledger, Limits, key_of};
use super::http::url::Url;
use super::http::{self as shared};
use super::{BoxFuture, BuildCx, Sink, SinkError, Verdict};
use crate::config::node::{Map, Node};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::spool::Stored;
use crate::tls::client::ClientPlan;

/// Under what objects stand.
pub const PREFIX: Field = Field::new("prefix", Kind::Str, "", "what objects stand under, such as auth/prod");
/// How long objects are gathered.
pub const INTERVAL: Field = Field::new(
    "interval",
    Kind::Duration,
    "5s",
    "the least time between two objects, unless an object is full: fewer and larger ones, later",
);
/// What an object is.
pub const ENCODING: Field = Field::new(
    "encoding",
    Kind::Word(ENCODINGS),
    "jsonl",
    "gzipped lines in the sink's `format`, or `parquet`: columns of the native event; needs the feature `parquet`",
);
const ENCODINGS: &[&str] = &["jsonl", "parquet"];
const USUAL_INTERVAL: Duration = Duration::from_secs(5);
const MAX_INTERVAL: Duration = Duration::from_secs(3600);
/// The longest prefix of objects' names, in bytes; a store takes 1024 for all of a name.
const MAX_PREFIX: usize = 512;

/// The checked settings that all such sinks have.
#[derive(Debug)]
pub struct ObjectsPlan {
    interval: Duration,
    encoding: Encoding,
}

#[derive(Clone, Copy, Debug)]
enum Encoding {
    Lines,
    Parquet,
}

impl ObjectsPlan {
    /// Reads [`INTERVAL`] and [`ENCODING`].
    pub fn check(map: &Map<'_>, problems: &mut Problems) -> Option<ObjectsPlan> {
        let interval = map.get("interval").map_or(Some(USUAL_INTERVAL), |at| {
            let interval = at.duration(problems)?;
            if interval > MAX_INTERVAL {
                problems.error_hint(at, format!("`interval` cannot be {}", at.describe()), "at most 1h");
                return None;
            }
            Some(interval)
        });
        let encoding = match map.get("encoding") {
            None => Some(Encoding::Lines),
            Some(at) => at.one_of(ENCODINGS, problems).and_then(|word| match word {
                "parquet" => check_parquet(at, map.get("format"), problems),
                _ => Some(Encoding::Lines),
            }),
        };
        Some(ObjectsPlan { interval: interval?, encoding: encoding? })
    }

    /// The sink that writes to this store.
    pub fn sink<S: Store + 'static>(&self, store: S, cx: &BuildCx) -> Box<dyn Sink> {
        let packer = match self.encoding {
            Encoding::Lines if cx.media.list.is_some() => Packer { ending: "jsonl.gz", ..LINES },
            Encoding::Lines => LINES,
            Encoding::Parquet => PARQUET,
        };
        Box::new(Objects {
            writer: Writer { store, packer },
            limits: cx.batch.sent(shared::USUAL_LIMITS),
            interval: self.interval,
            last: Mutex::default(),
            ledger: Ledger::default(),
        })
    }
}

fn check_parquet(at: &Node, format: Option<&Node>, problems: &mut Problems) -> Option<Encoding> {
    if cfg!(not(feature = "parquet")) {
        let hint = "build it with `cargo build --release --features parquet`, or `full`";
        let message = "this build of authtap has no `parquet`: it lacks the feature `parquet`".into();
        problems.error_hint(at, message, hint);
        return None;
    }
    if let Some(format) = format
        && !matches!(format.scalar(), Some("native" | "json"))
    {
        let hint = "leave `format` out, or write encoding: jsonl";
        problems.error_hint(format, "Parquet has the columns of the native event alone".into(), hint);
        return None;
    }
    Some(Encoding::Parquet)
}

/// Reads a name of the store's: small letters, digits, and the `more` characters. `None` if there
/// was an error.
pub fn check_name(
    map: &Map<'_>,
    key: &str,
    length: RangeInclusive<usize>,
    more: &[char],
    problems: &mut Problems,
) -> Option<String> {
    let at = map.get(key)?;
    let name = at.str(problems)?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || more.contains(&c);
    if !length.contains(&name.len()) || !name.chars().all(plain) {
        let more: String = more.iter().map(|c| format!(", `{c}`")).collect();
        let hint = format!("{} to {} small letters, digits{more}", length.start(), length.end());
        problems.error_hint(at, format!("`{key}` cannot be {}", at.describe()), &hint);
        return None;
    }
    Some(name.to_owned())
}

/// Reads `url`, where a store's interface is.
pub fn check_endpoint(map: &Map<'_>, usual: &str, problems: &mut Problems) -> Option<Url> {
    let Some(at) = map.get("url") else { return Url::parse(usual).ok() };
    let url = Url::check(at, problems)?;
    if url.query.is_some() {
        problems.error_blotted(at, "the URL has a query".into(), "name secrets by their own keys");
        return None;
    }
    Some(url)
}

/// Reads `tls` of a sink that asks several hosts: the store, and where tokens come from.
pub fn check_tls(map: &Map<'_>, problems: &mut Problems) -> Option<ClientPlan> {
    let node = map.get("tls");
    if let Some(at) = node.and_then(|node| node.child("sni")) {
        let hint = "connect to the name in the store's certificate";
        problems.error_hint(at, "`sni` cannot be chosen for this sink".into(), hint);
        return None;
    }
    ClientPlan::check_receiver(node, problems)
}

/// Reads `prefix`, under which objects stand; without slashes at its ends.
pub fn check_prefix(map: &Map<'_>, problems: &mut Problems) -> Option<String> {
    let Some(at) = map.get("prefix") else { return Some(String::new()) };
    let text = at.str(problems)?;
    let prefix = text.trim_matches('/');
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'=');
    let segment = |s: &str| !s.is_empty() && s.bytes().all(plain) && s.bytes().any(|b| b != b'.');
    if prefix.len() > MAX_PREFIX || !(prefix.is_empty() || prefix.split('/').all(segment)) {
        let hint = "letters, digits, `-`, `.`, `_`, `~`, `=` and single slashes";
        problems.error_hint(at, format!("`prefix` cannot be {}", at.describe()), hint);
        return None;
    }
    Some(prefix.to_owned())
}

/// One object, ready to be written.
#[derive(Debug)]
pub struct Object {
    /// `date=2026-01-15/ID-HASH.jsonl.gz`, to go under the sink's prefix.
    pub name: String,
    /// Its media type.
    pub media: &'static str,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// Where objects go.
pub trait Store: Send + Sync {
    /// Writes an object, over one of the same name.
    fn put(&self, object: Object) -> BoxFuture<'_, Answer>;

    /// Asks for an object that is not there.
    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>>;
}

/// What a store's refusal means: nothing is thrown away for a wrong key or a missing bucket.
pub fn refusal(status: u16, code: Option<&str>, after: Option<Duration>, why: SinkError) -> Answer {
    if status == 413 || matches!(code, Some("EntityTooLarge" | "RequestBodyTooLarge")) {
        return Answer::Refused { why, divisible: true };
    }
    Answer::Later { after, why }
}

/// `<Code>` of an error, if it is a plain word: Amazon's stores, Google's and Azure's all have it.
pub fn code(reply: &Reply) -> Option<&str> {
    let text = std::str::from_utf8(&reply.body).ok()?;
    let (_, after) = text.split_once("<Code>")?;
    let (code, _) = after.split_once("</Code>")?;
    (code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric())).then_some(code)
}

struct Objects<S> {
    writer: Writer<S>,
    limits: Limits,
    interval: Duration,
    /// When the last batch was written.
    last: Mutex<Option<Instant>>,
    ledger: Ledger,
}

impl<S: Store> Sink for Objects<S> {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            let mut last = self.last.lock().await;
            // While one waits the next batch fills up. Given up in between, it begins again later.
            if let Some(last) = *last
                && batch.len() < self.limits.events
            {
                sleep_until(last + self.interval).await;
            }
            let verdict = self.ledger.deliver(&self.writer, self.limits, batch).await;
            *last = Some(Instant::now());
            verdict
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.writer.store.probe()
    }
}

struct Writer<S> {
    store: S,
    packer: Packer,
}

impl<S: Store> Courier for Writer<S> {
    /// A part whose events are of several days becomes an object for each run of one day.
    fn carry<'a>(&'a self, part: &'a [Stored]) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            for run in part.chunk_by(|one, next| day(one) == day(next)) {
                let Some(first) = run.first() else { continue };
                let Packer { ending, media, pack } = self.packer;
                let name = format!("date={}/{}-{}.{ending}", day(first), first.event.id, short_key(run));
                let events = run.to_vec();
                let body = match tokio::task::spawn_blocking(move || pack(&events)).await {
                    Ok(Ok(body)) => body,
                    Ok(Err(why)) => return Answer::lost(why),
                    Err(_) => return Answer::lost(SinkError::Other("packing an object failed".into())),
                };
                match self.store.put(Object { name, media, body }).await {
                    Answer::Taken => {}
                    other => return other,
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

/// How events become an object.
#[derive(Clone, Copy)]
struct Packer {
    /// What names end with.
    ending: &'static str,
    media: &'static str,
    pack: fn(&[Stored]) -> Result<Vec<u8>, SinkError>,
}

const LINES: Packer = Packer { ending: "log.gz", media: "application/gzip", pack: lines };

#[cfg(feature = "parquet")]
const PARQUET: Packer = Packer { ending: "parquet", media: "application/vnd.apache.parquet", pack: parquet::file };
/// `check` has said so before.
#[cfg(not(feature = "parquet"))]
const PARQUET: Packer = LINES;

fn lines(run: &[Stored]) -> Result<Vec<u8>, SinkError> {
    let cannot = |source| SinkError::Io { what: "cannot compress".into(), source };
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for one in run {
        encoder.write_all(one.line.as_bytes()).and_then(|()| encoder.write_all(b"\n")).map_err(cannot)?;
    }
    encoder.finish().map_err(cannot)
}
