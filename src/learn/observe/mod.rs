//! What a recording shows, exchange by exchange: the events that auto gives, and the signs beside them.
//!
//! `observer` sees one after the other; `exchange` finds the signs of one.
//!
//! Values are held only to find out where an actor's name came from; they end with the observation.

mod cookies;
mod exchange;
mod observer;
mod tokens;
mod walk;

use std::collections::BTreeSet;

use super::sign::Sign;
use crate::event::{Actor, Event};
use crate::rules::presets::recognise::Recognised;

pub use observer::{Observer, observe};

/// The most places of a JSON document that are looked at.
const MAX_PLACES: usize = 200;
/// The longest value that may name somebody, in bytes.
const MAX_VALUE: usize = 254;

/// What a recording shows.
#[derive(Debug, Default)]
pub struct Observed {
    /// Each exchange that something may be learnt from.
    pub seen: Vec<Seen>,
    /// Applications that there is a preset for.
    pub presets: Vec<Recognised>,
    /// Headers in which tokens came back that an answer had handed out.
    pub token_headers: BTreeSet<String>,
}

/// What is called by an exchange whose address does not say it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// A field of a GraphQL operation: what the operation does, and the field.
    GraphQl(&'static str, String),
    /// A method of XML-RPC.
    XmlRpc(String),
}

/// One exchange.
#[derive(Debug)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path; segments that look like a token are `***`.
    pub path: String,
    /// What is called.
    pub call: Option<Call>,
    /// Names of the form's fields.
    pub form: Vec<String>,
    /// Pointers into the request's JSON.
    pub json: Vec<String>,
    /// What request and answer show.
    pub signs: BTreeSet<Sign>,
    /// What the page shows to which the answer redirected.
    pub next: Option<BTreeSet<Sign>>,
    /// Pointers to tokens that the answer hands out.
    pub tokens: Vec<String>,
    /// Sources in the request that had a token which an answer had handed out.
    pub carried: Vec<String>,
    /// What auto made of it, in order.
    pub events: Vec<Event>,
    /// Sources of the configuration with what they had.
    sources: Vec<(String, String)>,
    /// Cookies that the request brought or the answer set, with hashes of their values.
    cookies: Vec<(String, u64)>,
}

impl Seen {
    /// The sources in which a name of the actor stood.
    pub fn sources_of<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        self.sources.iter().filter(move |(_, value)| value == name).map(|(source, _)| source.as_str())
    }

    /// What these sources name, the first that has something.
    pub fn first_of(&self, sources: &[&String]) -> Option<&str> {
        let value = |source: &&String| self.sources.iter().find(|(name, _)| name == *source);
        sources.iter().find_map(value).map(|(_, value)| value.as_str())
    }

    /// The cookies that both exchanges have with one value.
    pub fn shared_cookies<'s>(&'s self, later: &'s Seen) -> impl Iterator<Item = &'s str> {
        self.cookies.iter().filter(|cookie| later.cookies.contains(cookie)).map(|(name, _)| name.as_str())
    }
}

/// The values by which an actor may be found again, each with its key in the configuration.
pub(super) fn names_of(actor: &Actor) -> [(&'static str, Option<&str>); 3] {
    [
        ("id", actor.id.as_ref().map(|v| v.as_str())),
        ("login", actor.login.as_ref().map(|v| v.as_str())),
        ("email", actor.email.as_ref().map(|v| v.as_str())),
    ]
}
