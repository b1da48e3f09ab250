//! What replicas tell each other of sessions, through Redis: the configuration of it, and the task
//! that owns the connection.
//!
//! The pipeline's end is [`session::share`](crate::session::share); between the two there are only
//! queues. It must never hold up the pipeline, and never hand a name or a session to Redis in the
//! clear. In a build without the feature `redis` there is the configuration alone, which says so.

mod plan;
#[cfg(test)]
mod tests;

#[cfg(not(feature = "redis"))]
#[path = "absent.rs"]
mod client;
#[cfg(feature = "redis")]
#[path = "redis.rs"]
mod client;

use std::sync::Arc;
use std::time::Duration;

pub use client::Task;
pub use plan::{FIELDS, SharePlan};

use crate::session::share::Share;
use crate::sinks::SinkError;
use crate::telemetry::Metrics;

/// Ready to be shared: the common key, and where to.
pub struct Shared {
    /// The key under which every replica hashes sessions.
    pub key: [u8; 32],
    timeout: Duration,
    server: client::Server,
}

impl Shared {
    /// The pipeline's end, and the task of the other, which ends with it.
    pub fn start(self, metrics: Arc<Metrics>) -> (Share, Task) {
        let (share, ends) = Share::new(self.timeout, metrics);
        (share, Task::new(self.server, ends))
    }

    /// Asks Redis whether it is there.
    ///
    /// # Errors
    /// It is not, or lets nobody in.
    pub async fn probe(&self) -> Result<(), SinkError> {
        self.server.probe().await
    }
}
