//! Sortable unique ids (RFC 9562 section 5.7, UUID version 7).

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The stable id of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

impl EventId {
    /// A new id; ids of one process sort in the order they were made.
    pub fn new() -> EventId {
        EventId(Uuid::now_v7())
    }
}

impl Default for EventId {
    fn default() -> Self {
        EventId::new()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
