//! Capture: what of the traffic is kept, and how it reaches the pipeline.
//!
//! Runs on the traffic threads and must never hold traffic back: nothing here waits, locks or
//! panics. An exchange that no route is about costs one look at its path. For the others, headers
//! are cloned (their values are shared, not copied), bodies are forwarded frame by frame while a
//! bounded prefix is copied, and the finished exchange is offered to a bounded queue: full means
//! counted and gone.

pub mod hold;
pub mod pending;
pub mod queue;
pub mod rotation;
pub mod tee;
pub mod watch;

use std::sync::Arc;

use http::HeaderName;

use crate::auto::gate::Gate;
use crate::body::wanted::Wanted;
use crate::config::node::Node;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::rules::RuleSet;
use watch::Watch;

/// The keys of `capture:`.
pub const FIELDS: &[Field] = &[
    Field::new("request_body", Kind::Size, "64KiB", "the most that is copied of a request's body"),
    Field::new("response_body", Kind::Size, "256KiB", "the most that is copied of an answer's body"),
];

/// How much of a body is copied.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request's body.
    pub request_body: usize,
    /// Bytes of an answer's body.
    pub response_body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { request_body: 64 << 10, response_body: 256 << 10 }
    }
}

impl Limits {
    /// Reads `capture:`.
    pub fn check(node: Option<&Node>, problems: &mut Problems) -> Limits {
        let mut limits = Limits::default();
        let Some(map) = node.and_then(|n| n.map(FIELDS, problems)) else { return limits };
        for (key, limit) in [("request_body", &mut limits.request_body), ("response_body", &mut limits.response_body)] {
            if let Some(size) = map.size(key, problems) {
                *limit = usize::try_from(size).unwrap_or(usize::MAX);
                if *limit > 16 << 20
                    && let Some(at) = map.get(key)
                {
                    let hint = "write 16MiB or less; rules and sources need the beginning of a body";
                    problems.error_hint(at, "more of a body than can be kept".into(), hint);
                }
            }
        }
        limits
    }
}

/// What capture needs of the configuration; replaced as a whole at a reload.
#[derive(Debug, Default)]
pub struct CaptureConfig {
    /// The routes.
    pub rules: Arc<RuleSet>,
    /// How much is kept.
    pub limits: Limits,
    /// Names of session cookies; if there is none, those that were learnt count.
    pub session_cookies: Wanted,
    /// What to look at beyond the routes; one for the life of the process.
    pub watch: Arc<Watch>,
    /// The header by which the application names events: any answer may have it.
    pub hint: Option<HeaderName>,
    /// True if the end of an answer is held until its event is on disk.
    pub hold: bool,
    /// What is kept of exchanges that no route is about, if capture without routes is on.
    pub auto: Option<Arc<Gate>>,
}
