//! A draft of routes.yaml, made of what capture without routes saw in traffic or a recording.
//!
//! [`observe`] holds events against the exchanges they came from; `place` sorts them by where they
//! happened and what they were about, `rules` looks for the signs that tell the outcomes apart, and
//! `route` writes them down with a test each. Nothing that somebody typed gets into a draft: names of
//! fields, cookies and keys do, values are made up. What no sign tells apart is left to auto, and the
//! draft says so.

mod draft;
pub mod live;
mod observe;
mod place;
mod route;
mod rules;
mod sign;
mod words;
mod yaml;

pub use draft::{Head, draft};
pub use observe::{Observed, Observer, observe};
pub use words::{is_word, says_how_it_went, says_what};

#[cfg(test)]
mod tests;
