//! A draft of routes.yaml, made of what capture without routes saw in a recording.
//!
//! [`observe`] holds events against the exchanges they came from; [`draft`] looks for the signs
//! that tell the outcomes of a place apart, and writes them as rules with a test each. Nothing that
//! somebody typed gets into a draft: names of fields, cookies and keys do, values are made up. A place
//! whose outcomes no sign tells apart is left to auto, and the draft says so.

mod draft;
pub mod live;
mod observe;

pub use draft::{Head, draft};
pub use observe::{Observed, Observer, observe};

/// A sign that an answer gives, by how well it tells outcomes apart in other traffic too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sign {
    /// A session cookie got another value.
    Cookie(String),
    /// A pointer into the answer's JSON, with the value if that is true or false.
    Json(String, Option<bool>),
    /// The page asks for a password.
    AsksPassword,
    /// The status.
    Status(u16),
    /// The path of `Location`.
    Location(String),
    /// Whether the request's session had an actor.
    SessionKnown(bool),
}

#[cfg(test)]
mod tests;
