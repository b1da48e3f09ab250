//! What is known about an event beyond the exchange itself: where its address is, what its
//! client says it is.
//!
//! Enrichers never do I/O while an event waits, never fail an event and never change what
//! another part has put in: they only fill [`crate::event::Metadata`]'s `geo`, `network` and `client`.
//! Whatever an enricher does not know stays absent.
//!
//! To add one: a file in this folder with its fields, `check`, plan and `enrich`, and its `KIND`
//! in [`ENRICHERS`].

pub mod geoip;
#[cfg(test)]
pub(crate) mod mmdb_fixture;
pub mod user_agent;

use std::fmt;
use std::path::{Path, PathBuf};

use maxminddb::MaxMindDbError;

use crate::config::node::{Map, Node};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::event::Event;
use crate::exchange::Exchange;

pub use geoip::GEOIP_FIELDS;
pub use user_agent::USER_AGENT_FIELDS;

/// Every enricher there is, in the order in which they run.
pub const ENRICHERS: &[EnricherKind] = &[geoip::KIND, user_agent::KIND];

/// One source of knowledge, ready for use.
pub trait Enricher: Send + Sync {
    /// Adds what is known. Takes no lock that another thread may hold for long.
    fn enrich(&self, facts: &Exchange, event: &mut Event);

    /// Makes ready what the first event would wait for; most enrichers are ready. May take long.
    fn warm_up(&self) {}

    /// Reads changed files again; most enrichers have none.
    fn refresh(&self) -> Vec<Refreshed> {
        Vec::new()
    }
}

/// An enricher's checked configuration; nothing is open yet.
pub trait EnricherPlan: fmt::Debug + Send + Sync {
    /// Opens what is needed. Relative paths are relative to `base`; `None` if it is switched off.
    ///
    /// # Errors
    /// A configured file cannot be read or used.
    fn build(&self, base: &Path) -> Result<Option<Box<dyn Enricher>>, EnrichError>;
}

/// One entry of [`ENRICHERS`].
pub struct EnricherKind {
    /// Its key at the top level of the configuration.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub doc: &'static str,
    /// What is in force without the key, in words.
    pub default: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
    /// Checks the key's value, which may be absent, without touching the world. What is wrong goes
    /// to the problems; the plan is then the one of an absent key.
    pub check: fn(Option<&Node>, &mut Problems) -> Box<dyn EnricherPlan>,
}

impl EnricherKind {
    /// The enricher's key for the top-level table of fields: a mapping, or `on` or `off`.
    pub const fn field(&self, shape: &'static [Kind]) -> Field {
        Field::new(self.name, Kind::Any(shape), self.default, self.doc)
    }
}

/// The checked configuration of every enricher.
#[derive(Debug)]
pub struct EnrichPlan(Vec<Box<dyn EnricherPlan>>);

impl Default for EnrichPlan {
    /// What is in force without a configuration.
    fn default() -> EnrichPlan {
        // Absent keys have nothing that could be wrong.
        let mut problems = Problems::new("", "");
        EnrichPlan(ENRICHERS.iter().map(|kind| (kind.check)(None, &mut problems)).collect())
    }
}

/// Checks the keys of every enricher in the configuration's top level, without touching the world.
pub fn check(top: &Map<'_>, problems: &mut Problems) -> EnrichPlan {
    EnrichPlan(ENRICHERS.iter().map(|kind| (kind.check)(top.get(kind.name), problems)).collect())
}

impl EnrichPlan {
    /// Opens what the enrichers need; `base` is the folder that relative paths are relative to.
    ///
    /// # Errors
    /// A configured file cannot be read or used; the error names it and says what to do.
    pub fn build(&self, base: &Path) -> Result<Enrichers, EnrichError> {
        let mut list = Vec::new();
        for plan in &self.0 {
            list.extend(plan.build(base)?);
        }
        Ok(Enrichers(list))
    }
}

/// Every enricher that is switched on.
#[derive(Default)]
pub struct Enrichers(Vec<Box<dyn Enricher>>);

impl Enrichers {
    /// Lets each enricher add what it knows.
    pub fn enrich(&self, facts: &Exchange, event: &mut Event) {
        for enricher in &self.0 {
            enricher.enrich(facts, event);
        }
    }

    /// Makes ready what the first event would wait for. May take long: call it on a thread of its own.
    pub fn warm_up(&self) {
        self.0.iter().for_each(|enricher| enricher.warm_up());
    }

    /// Reads the configured files that changed since the last call, checks them and puts them to
    /// use; a bad file is reported once a change and leaves the old one in use.
    ///
    /// Blocks on reading files: call it every few seconds, away from traffic and pipeline.
    pub fn refresh(&self) -> Vec<Refreshed> {
        self.0.iter().flat_map(|enricher| enricher.refresh()).collect()
    }
}

impl fmt::Debug for Enrichers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Enrichers").field(&self.0.len()).finish()
    }
}

/// One file that had changed.
#[derive(Debug)]
pub struct Refreshed {
    /// The configuration's name for it: `geoip.city`.
    pub what: &'static str,
    /// The file.
    pub file: PathBuf,
    /// Whether the new content is in use; if not, the old one still is.
    pub result: Result<(), EnrichError>,
}

/// Why an enricher's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EnrichError {
    /// The operating system refused.
    #[error("cannot read the {what} database {}: {source}; check the path and its permissions, or remove {what}", file.display())]
    Read {
        /// The configuration's name for it: `geoip.city`.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// What stands at the path is no file, or is too large for one.
    #[error("the {what} database {} is {why}; name a MaxMind DB file (.mmdb)", file.display())]
    NoDatabase {
        /// The configuration's name for it: `geoip.city`.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What it is instead.
        why: &'static str,
    },
    /// The file was read, and is no sound database.
    #[error("the {what} database {} is damaged or no MaxMind DB file: {source}; download it again", file.display())]
    Damaged {
        /// The configuration's name for it: `geoip.city`.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: MaxMindDbError,
    },
}

/// `Some(true)` for `on`, `Some(false)` for `off`, `None` for anything that is to be read as a
/// mapping. The one reading of the on/off short form that all enrichers share.
fn switch(node: &Node) -> Option<bool> {
    match node.scalar() {
        Some("on" | "true" | "yes") => Some(true),
        Some("off" | "false" | "no") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
