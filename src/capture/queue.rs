//! The bounded way from the traffic threads to the pipeline.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::mpsc;

use crate::exchange::Exchange;
use crate::rules::{Candidates, RuleSet};
use crate::telemetry::Traffic;

/// How many exchanges may wait. Each holds at most its two body prefixes and its headers; ordinary
/// logins hold about 4 KB.
pub const CAPACITY: usize = 4096;

/// A finished exchange with the routes it may belong to.
#[derive(Debug)]
pub struct Captured {
    /// The exchange.
    pub exchange: Exchange,
    /// The routes, by index into `rules`.
    pub candidates: Candidates,
    /// The rule set that was in force when the request came.
    pub rules: Arc<RuleSet>,
}

/// The sending side, one clone a traffic thread.
#[derive(Clone)]
pub struct Queue {
    sender: mpsc::Sender<Captured>,
}

impl Queue {
    /// A queue and its receiving side.
    pub fn new(capacity: usize) -> (Queue, mpsc::Receiver<Captured>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Queue { sender }, receiver)
    }

    /// Hands an exchange over, or drops and counts it if the queue is full. Never waits.
    pub fn offer(&self, captured: Captured, stats: &Traffic) {
        let counter = match self.sender.try_send(captured) {
            Ok(()) => &stats.captured,
            Err(_) => &stats.queue_full,
        };
        counter.fetch_add(1, Relaxed);
    }
}
