//! Stands for Redis in a build without it; `check` has said so before anything is built.

use std::path::Path;

use super::SharePlan;
use crate::session::share::Ends;
use crate::sinks::SinkError;
use crate::sinks::net::link::LinkPlan;

pub(super) struct Server;

impl Server {
    pub fn build(_: &SharePlan, _: &LinkPlan, _: &[u8; 32], _: &Path) -> Result<Server, SinkError> {
        Err(SinkError::Other("this build of authtap cannot share sessions; build it with the feature `redis`".into()))
    }

    pub async fn probe(&self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// The task that talks to Redis.
pub struct Task;

impl Task {
    pub(super) fn new(_: Server, _: Ends) -> Task {
        Task
    }

    /// Nothing to do.
    pub async fn run(self) {}
}
