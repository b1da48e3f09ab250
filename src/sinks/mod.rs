//! Where events go. A sink knows one destination; retries, cursors and dead letters are the work
//! of [`crate::deliver`], and no sink ever sees captured traffic.
//!
//! To add one: a file in this folder with its fields, `check`, `build` and `send`, and its `KIND`
//! in [`SINKS`]. `docs/writing-a-sink.md` walks through it.

pub mod file;
pub mod stdout;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use crate::config::node::{Map, Node, suggest};
use crate::config::problem::Problems;
use crate::config::shape::Field;
use crate::spool::Stored;

/// Every sink there is, in the order of the documentation.
pub const SINKS: &[SinkKind] = &[stdout::KIND, file::KIND];

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
}

/// One entry of [`SINKS`].
pub struct SinkKind {
    /// The word of `type:`.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub doc: &'static str,
    /// Its fields, besides those every sink has ([`COMMON`]).
    pub fields: &'static [Field],
    /// Checks the fields without touching the world.
    pub check: fn(&Map<'_>, &mut Problems) -> Option<Box<dyn SinkPlan>>,
}

/// One configured sink.
#[derive(Debug)]
pub struct SinkSpec {
    /// Its name in metrics and logs: `name:`, or its type (with a number where that is taken).
    pub name: String,
    /// The word of `type:`.
    pub kind: &'static str,
    /// Its checked configuration.
    pub plan: Box<dyn SinkPlan>,
}

/// Reads one entry of `sinks:`.
pub fn check(node: &Node, problems: &mut Problems) -> Option<SinkSpec> {
    let names: Vec<&str> = SINKS.iter().map(|k| k.name).collect();
    let entries = node.entries(problems);
    let Some((_, kind_node)) = entries.iter().find(|(k, _)| k.text == "type") else {
        problems.error_hint(node, "a sink needs a `type`".into(), &format!("known here: {}", names.join(", ")));
        return None;
    };
    let word = kind_node.str(problems)?;
    let Some(kind) = SINKS.iter().find(|k| k.name == word) else {
        problems.error_hint(kind_node, format!("there is no sink `{word}`"), &suggest(word, &names));
        return None;
    };
    let map = node.map(kind.fields, problems)?;
    let plan = (kind.check)(&map, problems)?;
    let name = map.str("name", problems).unwrap_or(kind.name).to_owned();
    Some(SinkSpec { name, kind: kind.name, plan })
}
