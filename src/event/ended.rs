//! How the exchange that an event speaks of ended.

use serde::{Deserialize, Serialize};

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The answer was sent to its end.
    Complete,
    /// The client left before the end of the answer.
    ClientGone,
    /// The application failed before the end of its answer, or never answered.
    UpstreamFailed,
    /// The client's request body broke off.
    RequestCut,
}

impl Ended {
    /// The word used in events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Ended::Complete => "complete",
            Ended::ClientGone => "client_gone",
            Ended::UpstreamFailed => "upstream_failed",
            Ended::RequestCut => "request_cut",
        }
    }
}
