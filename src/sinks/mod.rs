//! Where events go. A sink knows one destination; retries, cursors and dead letters are the work
//! of [`crate::deliver`], and no sink ever sees captured traffic.
//!
//! A sink must never retry by itself, drop an event without saying so in its [`Verdict`], or block
//! the runtime it is polled on: what may block goes to a [`Worker`]. The invariant: an event for
//! which a sink answered `Delivered` is with the receiver, whole.
//!
//! To add one: a file in this folder with its fields, `check`, `build` and `send`, and its `KIND`
//! in [`SINKS`]. `docs/writing-a-sink.md` walks through it.

pub mod amqp;
pub mod azure_blob;
pub mod batch;
pub mod clickhouse;
pub mod datadog;
pub mod elastic;
pub mod exec;
pub mod file;
mod filter;
pub mod gcs;
pub mod http;
pub mod kafka;
pub mod lanes;
pub mod litesoc;
pub mod loki;
pub mod mqtt;
pub mod nats;
pub mod net;
pub mod objects;
pub mod otlp;
pub mod postgres;
pub mod redis;
pub mod s3;
pub mod socket;
pub mod splunk_hec;
pub mod stdout;
pub mod syslog;
pub mod webhook;
mod worker;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use self::batch::Batch;
pub use self::filter::Filter;
use self::lanes::{CONCURRENCY, Lanes};
pub(crate) use self::worker::{Worker, write_counted};
use crate::config::node::{Key, Map, Node, Value, clip, suggest};
use crate::config::problem::{Problem, Problems};
use crate::config::shape::{Field, Kind};
use crate::format::shaped::Shaped;
use crate::format::{self, Media, Shape};
use crate::spool::Stored;

/// Every sink there is, in the order of the documentation.
pub const SINKS: &[SinkKind] = &[
    stdout::KIND,
    file::KIND,
    webhook::KIND,
    litesoc::KIND,
    otlp::KIND,
    elastic::ELASTICSEARCH,
    elastic::OPENSEARCH,
    splunk_hec::KIND,
    loki::KIND,
    datadog::KIND,
    clickhouse::KIND,
    syslog::KIND,
    socket::TCP,
    socket::UNIX,
    exec::KIND,
    s3::KIND,
    gcs::KIND,
    azure_blob::KIND,
    redis::KIND,
    nats::KIND,
    mqtt::KIND,
    amqp::KIND,
    kafka::KIND,
    postgres::KIND,
];

/// The sinks whose client library is behind a cargo feature: the sink, the feature, and whether
/// this build has it. Their configuration is known to every build.
const FEATURES: &[(&str, &str, bool)] = &[
    ("redis", "redis", cfg!(feature = "redis")),
    ("nats", "nats", cfg!(feature = "nats")),
    ("mqtt", "mqtt", cfg!(feature = "mqtt")),
    ("kafka", "kafka", cfg!(feature = "kafka")),
    ("postgres", "postgres", cfg!(feature = "postgres")),
    ("gcs", "object-store", cfg!(feature = "object-store")),
    ("azure_blob", "object-store", cfg!(feature = "object-store")),
];

/// The feature that a sink needs and this build lacks.
pub fn missing_feature(sink: &str) -> Option<&'static str> {
    FEATURES.iter().find(|(name, _, built)| *name == sink && !built).map(|(_, feature, _)| *feature)
}

/// Stands for the client of a sink that this build lacks.
#[cfg(not(all(
    feature = "redis",
    feature = "nats",
    feature = "mqtt",
    feature = "kafka",
    feature = "postgres",
    feature = "object-store"
)))]
mod absent {
    use super::{BuildCx, Sink, SinkError};

    /// `check` has said so before.
    pub(super) fn build<P>(_: &P, _: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        Err(SinkError::Other("this build of authtap lacks the sink's client; build it with the sink's feature".into()))
    }
}

/// The fields every sink has.
pub const COMMON: &[Field] = &[
    Field::required("type", Kind::Str, "which sink this is"),
    Field::new(
        "name",
        Kind::Str,
        "",
        "its name in metrics and logs; without it the type, numbered where that is taken",
    ),
    Field::new(
        "only",
        Kind::OneOrList(&Kind::Str),
        "",
        "event types it gets (`*` stands for anything); all without it",
    ),
    Field::new("except", Kind::OneOrList(&Kind::Str), "", "event types it does not get (`*` stands for anything)"),
    Field::new("outcome", Kind::OneOrList(&Kind::Word(OUTCOMES)), "", "outcomes it gets; all without it"),
    Field::new("organization", Kind::OneOrList(&Kind::Str), "", "organizations whose events it gets; all without it"),
    Field::new(
        "sample",
        Kind::Str,
        "1",
        "the share of events it gets, 0 to 1, chosen by id: the same event at every sink and every time; notices and findings are never left out",
    ),
    format::NAMES,
    format::SELECT,
    Field::new("batch", batch::KIND, "", "how many events it is given at once"),
];

/// The words of `outcome:`.
const OUTCOMES: &[&str] = &["success", "failure", "challenge", "requested", "rejected", "unknown"];

/// The longest `name:`, in bytes.
const MAX_NAME: usize = 64;

/// A boxed future: the one indirection a batch pays.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One destination, ready to be written to.
pub trait Sink: Send + Sync {
    /// Writes a batch (never empty) and says what became of it. Must not retry by itself.
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict>;

    /// Tries the destination without writing an event: for `check --connect`.
    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>>;

    /// Opens its file anew (SIGHUP after log rotation); most sinks have nothing to do.
    fn reopen(&self) {}
}

/// What became of a batch.
#[derive(Debug)]
pub enum Verdict {
    /// All of it is with the receiver.
    Delivered,
    /// None of it, or an unknown part, is; try the same batch again.
    Retry {
        /// Not before this, if the receiver said so.
        after: Option<Duration>,
        /// Why.
        why: SinkError,
    },
    /// The receiver will never take these; the others of the batch are delivered.
    Refused {
        /// Indexes into the batch.
        which: Vec<usize>,
        /// Why.
        why: SinkError,
    },
}

/// Why a sink failed. Carries no event and no secret.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, and on what.
        what: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

/// A sink's checked configuration, not yet connected to anything.
pub trait SinkPlan: fmt::Debug + Send + Sync {
    /// Makes the sink; may touch the world.
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError>;
}

/// What a sink may need to know of its surroundings when it is built.
#[derive(Clone, Debug)]
pub struct BuildCx {
    /// Relative paths in a configuration file are relative to this folder.
    pub base: PathBuf,
    /// True if standard output is a terminal that takes colours.
    pub colour: bool,
    /// What the lines are that this sink is given; set by [`SinkSpec::build`].
    pub media: Media,
    /// What its `batch:` says; set by [`SinkSpec::build`].
    pub batch: Batch,
}

impl BuildCx {
    /// Surroundings in which every sink is given native lines.
    pub fn new(base: PathBuf, colour: bool) -> BuildCx {
        BuildCx { base, colour, media: Shape::default().media(), batch: Batch::default() }
    }
}

/// What a sink does with the format of events.
#[derive(Clone, Copy, Debug)]
pub enum Formats {
    /// It writes lines of any format, and this one without a `format:` (its fields have
    /// [`format::field`]).
    Any(&'static str),
    /// The same, with words of its own for the native form; the first of them without a `format:`.
    Also(&'static [&'static str]),
    /// It makes its own form of the native one.
    Own,
}

/// One entry of [`SINKS`].
pub struct SinkKind {
    /// The word of `type:`.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub doc: &'static str,
    /// Its fields, besides those every sink has ([`COMMON`]).
    pub fields: &'static [Field],
    /// What it does with the format of events.
    pub formats: Formats,
    /// Checks its own fields without touching the world; the mapping holds none of [`COMMON`].
    pub check: fn(&Map<'_>, &mut Problems) -> Option<Box<dyn SinkPlan>>,
}

/// One configured sink.
#[derive(Debug)]
pub struct SinkSpec {
    /// Its name in metrics and logs: `name:`, or its type (with a number where that is taken).
    pub name: String,
    /// The word of `type:`.
    pub kind: &'static str,
    /// Which events it gets.
    pub filter: Filter,
    /// In what shape it gets them.
    pub shape: Shape,
    /// How many at once.
    pub batch: Batch,
    /// How many of it there are side by side, at least 1.
    pub lanes: u64,
    /// Its checked configuration.
    pub plan: Box<dyn SinkPlan>,
}

impl SinkSpec {
    /// Makes the sink, with its shape before it; may touch the world.
    ///
    /// # Errors
    /// The sink cannot be made.
    pub fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        let cx = BuildCx { media: self.shape.media(), batch: self.batch, ..cx.clone() };
        let sink = match self.lanes {
            0 | 1 => self.plan.build(&cx)?,
            lanes => {
                let lanes: Result<Vec<_>, _> = (0..lanes).map(|_| self.plan.build(&cx)).collect();
                Box::new(Lanes::new(lanes?))
            }
        };
        Ok(Shaped::wrap(sink, &self.shape))
    }
}

/// Every sink with all its fields, for [`Kind::Tagged`]: the schema and the reference.
pub fn schema_table() -> Vec<(&'static str, Vec<&'static Field>)> {
    SINKS.iter().map(|kind| (kind.name, COMMON.iter().chain(kind.fields).collect())).collect()
}

/// Reads all of `sinks:` (a list, or one sink) and gives each a name of its own. A `name:` that
/// stands twice is an error. A sink without one is called by its type, then `file-2`, `file-3`, …
/// in the order of the file, passing over what a `name:` has taken.
pub fn check_all(node: &Node, problems: &mut Problems) -> Vec<SinkSpec> {
    let read: Vec<_> = node.items().iter().filter_map(|item| read_one(item, problems)).collect();
    let mut taken: HashSet<String> = HashSet::new();
    for (spec, named) in &read {
        if let Some(at) = named
            && !taken.insert(spec.name.clone())
        {
            let message = format!("two sinks are called `{}`", spec.name);
            problems.error_hint(at, message, "metrics, logs and positions go by the name: give each its own");
        }
    }
    let mut specs = Vec::with_capacity(read.len());
    for (mut spec, named) in read {
        if named.is_none() {
            let mut number = 1_usize;
            while !taken.insert(spec.name.clone()) {
                number += 1;
                spec.name = format!("{}-{number}", spec.kind);
            }
        }
        specs.push(spec);
    }
    specs
}

/// Reads one entry of `sinks:`; its name is not compared with those of others.
pub fn check(node: &Node, problems: &mut Problems) -> Option<SinkSpec> {
    read_one(node, problems).map(|(spec, _)| spec)
}

/// One sink, and where its `name:` stands if it has one.
fn read_one<'n>(node: &'n Node, problems: &mut Problems) -> Option<(SinkSpec, Option<&'n Node>)> {
    let names: Vec<&str> = SINKS.iter().map(|k| k.name).collect();
    let Value::Map(entries) = &node.value else {
        problems.error_hint(
            node,
            format!("expected a mapping, found {}", node.describe()),
            &format!("write `type:` and one of: {}", names.join(", ")),
        );
        return None;
    };
    let Some((_, kind_node)) = entries.iter().find(|(k, _)| k.text == "type") else {
        problems.error_hint(node, "a sink needs a `type`".into(), &format!("known here: {}", names.join(", ")));
        return None;
    };
    let word = kind_node.str(problems)?;
    let Some(kind) = SINKS.iter().find(|k| k.name == word) else {
        problems.error_hint(kind_node, format!("there is no sink `{}`", clip(word)), &suggest(word, &names));
        return None;
    };

    if let Some(feature) = missing_feature(kind.name) {
        let message = format!("this build of authtap has no sink `{}`: it lacks the feature `{feature}`", kind.name);
        let hint = format!("build it with `cargo build --release --features {feature}`, or `full` for every sink");
        problems.error_hint(kind_node, message, &hint);
    }

    let all: Vec<&str> = COMMON.iter().chain(kind.fields).map(|f| f.name).collect();
    for (key, _) in entries.iter().filter(|(k, _)| !all.contains(&k.text.as_str())) {
        let mut problem = Problem::error(key.span.clone(), &node.path, format!("unknown key `{}`", clip(&key.text)));
        problem.hint = Some(suggest(&key.text, &all));
        problems.push(problem);
    }
    // Each table reads its own part, so that neither refuses the keys of the other.
    let (shared, own) = (part(node, entries, COMMON), part(node, entries, kind.fields));
    let shared = shared.map(COMMON, problems)?;
    let filter = Filter::check(&shared, problems);
    let (default, words): (&str, &'static [&'static str]) = match kind.formats {
        Formats::Any(default) => (default, &[]),
        Formats::Also(words) => (words.first().copied().unwrap_or("native"), words),
        Formats::Own => ("native", &[]),
    };
    let format = match kind.formats {
        Formats::Own => None,
        Formats::Any(_) | Formats::Also(_) => {
            entries.iter().find(|(k, v)| k.text == "format" && !matches!(v.value, Value::Null)).map(|(_, v)| v)
        }
    };
    let shape = Shape::check(&shared, format, default, words, problems);
    let batch = Batch::check(shared.get("batch"), problems);
    let named = entries.iter().find(|(k, v)| k.text == "name" && !matches!(v.value, Value::Null)).map(|(_, v)| v);
    let name = match named {
        Some(at) => check_name(at, problems)?,
        None => kind.name.to_owned(),
    };
    let own = own.map(kind.fields, problems)?;
    let lanes = match kind.fields.iter().any(|field| field.name == CONCURRENCY.name) {
        true => own.int(CONCURRENCY.name, 1..=lanes::MOST, problems).unwrap_or(1),
        false => 1,
    };
    let plan = (kind.check)(&own, problems)?;
    Some((SinkSpec { name, kind: kind.name, filter, shape: shape?, batch, lanes, plan }, named))
}

fn part(node: &Node, entries: &[(Key, Node)], fields: &[Field]) -> Node {
    let entries = entries.iter().filter(|(k, _)| fields.iter().any(|f| f.name == k.text)).cloned().collect();
    Node { span: node.span.clone(), path: node.path.clone(), value: Value::Map(entries) }
}

fn check_name(at: &Node, problems: &mut Problems) -> Option<String> {
    let name = at.str(problems)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain) {
        let message = format!("`{}` cannot be the name of a sink", clip(name));
        problems.error_hint(at, message, "a name is 1 to 64 letters, digits, `-`, `_` or `.`");
        return None;
    }
    Some(name.to_owned())
}
