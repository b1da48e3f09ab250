//! How it went, as far as the evidence says.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a rule decides about an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was refused on its merits: wrong password, wrong code.
    Failure,
    /// A further proof is asked for.
    Challenge,
    /// It was asked for; whether it will happen is not known.
    Requested,
    /// Refused before it was looked at: CSRF, validation, rate limit.
    Rejected,
    /// The evidence does not decide.
    Unknown,
    /// Nothing happened; nothing is emitted.
    Ignore,
}

impl Outcome {
    /// Every outcome, in the order of the documentation.
    pub const ALL: [Outcome; 7] = [
        Outcome::Success,
        Outcome::Failure,
        Outcome::Challenge,
        Outcome::Requested,
        Outcome::Rejected,
        Outcome::Unknown,
        Outcome::Ignore,
    ];

    /// The word used in configuration and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Failure => "failure",
            Outcome::Challenge => "challenge",
            Outcome::Requested => "requested",
            Outcome::Rejected => "rejected",
            Outcome::Unknown => "unknown",
            Outcome::Ignore => "ignore",
        }
    }

    /// The outcome of that word.
    pub fn parse(word: &str) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|o| o.as_str() == word)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
