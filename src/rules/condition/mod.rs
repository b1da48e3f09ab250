//! Conditions: what must hold of an exchange for a rule to decide it.
//!
//! In a rule's `when`, `header`, `json`, `body` and `content_type` speak of the answer; `method`,
//! `path`, `host`, `query`, `form` and `cookie` can only speak of the request and do;
//! `request: { … }` holds what would be ambiguous. In a route's `match` all of them speak of the
//! request.
//!
//! Here stands what a condition is and what it needs; `fields` has the keys, `read` makes conditions
//! of them when a configuration is loaded, and `holds` asks whether one holds of an exchange.

mod fields;
mod holds;
mod location;
mod query;
mod read;

use std::ops::RangeInclusive;

use http::{HeaderName, Method};
use regex::Regex;

use super::calls::Scope;
use super::matcher::Matcher;
use super::path::PathPattern;
use super::{graphql, xmlrpc};

pub use fields::{CONDITION, MATCH, WHEN};
pub use location::{location_fields, location_path};

pub(super) use fields::{BY_POINTER, MATCHER};
pub(super) use holds::compared_text;
pub(super) use query::{is_plain, may_have, may_have_any};
pub(super) use read::{HEADER_HINT, pointer_hint, pointers};

/// What must hold.
#[derive(Clone, Debug)]
pub enum Condition {
    /// Every one holds.
    All(Vec<Condition>),
    /// One holds.
    Any(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// The request's method is one of these.
    Method(Vec<Method>),
    /// The same where a POST may name another method.
    Overridden(Vec<Method>),
    /// What a GraphQL field asks for, or what became of it.
    Graphql(graphql::Demand),
    /// What an XML-RPC call asks for, or what became of it.
    XmlRpc(xmlrpc::Demand),
    /// The request's path matches one of these.
    Path(Vec<PathPattern>),
    /// The request's host is one of these.
    Host(Vec<Matcher>),
    /// A query field.
    Query(String, Matcher),
    /// A form field.
    Form(String, Matcher),
    /// A value of the request's JSON.
    RequestJson(String, Matcher),
    /// A request header.
    RequestHeader(HeaderName, Matcher),
    /// A request cookie.
    Cookie(String, Matcher),
    /// The request's media type.
    RequestType(Matcher),
    /// The answer's status.
    Status(Vec<RangeInclusive<u16>>),
    /// A header of the answer.
    Header(HeaderName, Matcher),
    /// `Location` as it was sent.
    Location(Matcher),
    /// The path `Location` leads to.
    LocationPath(Matcher),
    /// A query field of `Location`.
    LocationQuery(String, Matcher),
    /// The host `Location` leads to.
    LocationHost(Matcher),
    /// What the answer does to a cookie.
    SetCookie(String, CookieState),
    /// A value of the answer's JSON.
    Json(String, Matcher),
    /// One of these texts is in the answer.
    Contains(Vec<String>),
    /// None of these texts is in the answer.
    Omits(Vec<String>),
    /// A regex is found in the answer.
    BodyRegex(Regex),
    /// The answer's media type.
    ContentType(Matcher),
    /// Whether the request's session has an actor.
    SessionKnown(bool),
    /// One of these form fields differs from the page as it was served.
    FormChanged(Vec<String>),
    /// Whether the answer sets another session cookie; the names are those of `session.cookies`.
    SessionChanged(Vec<String>),
}

/// What an answer may do to a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieState {
    /// It sets it, to whatever value.
    Present,
    /// It does not mention it.
    Absent,
    /// It sets it to another value than the request had.
    Changed,
    /// It deletes it.
    Deleted,
}

/// Which bodies a condition may have to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The request's.
    pub request_body: bool,
    /// The answer's.
    pub response_body: bool,
}

impl Needs {
    /// What either needs.
    pub fn or(self, other: Needs) -> Needs {
        Needs {
            request_body: self.request_body || other.request_body,
            response_body: self.response_body || other.response_body,
        }
    }
}

impl Condition {
    /// The fields that some `form_changed` in it names.
    pub fn changed_fields(&self) -> Vec<&str> {
        match self {
            Condition::All(inner) | Condition::Any(inner) => inner.iter().flat_map(Condition::changed_fields).collect(),
            Condition::Not(inner) => inner.changed_fields(),
            Condition::FormChanged(names) => names.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Which bodies it may have to read.
    pub fn needs(&self) -> Needs {
        match self {
            Condition::All(inner) | Condition::Any(inner) => {
                inner.iter().fold(Needs::default(), |needs, c| needs.or(c.needs()))
            }
            Condition::Not(inner) => inner.needs(),
            Condition::Form(..) | Condition::RequestJson(..) | Condition::Overridden(_) | Condition::FormChanged(_) => {
                Needs { request_body: true, response_body: false }
            }
            Condition::Graphql(demand) => demand.needs(),
            Condition::XmlRpc(demand) => demand.needs(),
            Condition::Json(..) | Condition::Contains(_) | Condition::Omits(_) | Condition::BodyRegex(_) => {
                Needs { request_body: false, response_body: true }
            }
            _ => Needs::default(),
        }
    }

    /// How much of an exchange it speaks of.
    pub fn scope(&self) -> Scope {
        match self {
            Condition::All(inner) | Condition::Any(inner) => {
                inner.iter().map(Condition::scope).max().unwrap_or_default()
            }
            Condition::Not(inner) => inner.scope(),
            Condition::Graphql(_) | Condition::XmlRpc(_) => Scope::Field,
            Condition::RequestJson(..) | Condition::Json(..) => Scope::Entry,
            _ => Scope::Exchange,
        }
    }
}
