//! Sessions shared between replicas: the pipeline's end of it.
//!
//! A replica remembers what it sees, and tells the others through Redis: who a session belongs to,
//! under its keyed hash, sealed. What it does not know it asks for, once for a whole batch of
//! exchanges, and waits a few milliseconds at most; after [`PATIENT`] questions in vain it asks
//! nothing for a while. What it says is put into a queue that never blocks. So Redis, slow or away,
//! costs actors of sessions that began elsewhere, and nothing else.
//!
//! The invariant: a session of which another replica said something newer is not known here any
//! more, until it is asked for again. The other end is a task that owns the connection ([`Ends`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Handle;
use super::entry::Entry;
use crate::telemetry::Metrics;

#[cfg(test)]
mod tests;

/// What waits to be written or asked at most; what finds no room is counted and lost.
pub const WAITING: usize = 10_000;
/// What the others said that was not heard yet, at most.
const NEWS: usize = 4_096;
/// The most sessions that one batch of exchanges asks for.
pub const ASKED_AT_ONCE: usize = 1_024;
/// Questions in vain, one after another, after which nothing is asked for a while.
pub const PATIENT: u32 = 3;
/// That while, doubled each time up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Which room of the memory a shared value stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Somebody is signed in.
    Bound = 1,
    /// A second factor is awaited.
    Pending = 2,
    /// An answer replaced it a moment ago.
    Replaced = 3,
}

impl Room {
    /// From its byte.
    pub fn of(byte: u8) -> Option<Room> {
        [Room::Bound, Room::Pending, Room::Replaced].into_iter().find(|room| *room as u8 == byte)
    }
}

/// What is said of a session, or asked.
#[derive(Debug)]
pub enum Op {
    /// It is in this room.
    Put {
        /// Which.
        handle: Handle,
        /// Where.
        room: Room,
        /// What is remembered.
        entry: Entry,
        /// For how long, if nobody says anything again.
        lives: Duration,
        /// When it counts as expired, in milliseconds since the Unix epoch, if that is to be told.
        ends: Option<i64>,
        /// Whether another replica may remember something else.
        news: bool,
    },
    /// It is nobody's any more.
    Remove(Handle),
    /// Who are these?
    Ask {
        /// Which.
        handles: Vec<Handle>,
        /// After that nobody waits for the answer.
        until: Instant,
        /// Where the answer goes.
        answer: SyncSender<Vec<Found>>,
    },
}

/// An answer about one session.
pub type Found = (Handle, Room, Entry);

/// What other replicas, or time, did to a session.
#[derive(Debug)]
pub enum News {
    /// Another replica said something newer of it.
    Stale(Handle),
    /// It was not used for too long, and this replica is the one to tell.
    Expired(Entry),
}

/// The other end: what is to be done, where news go, and what is counted.
pub struct Ends {
    /// Said and asked, in order.
    pub ops: mpsc::Receiver<Op>,
    /// For the pipeline.
    pub news: mpsc::Sender<News>,
    /// True while there is a connection.
    pub up: Arc<AtomicBool>,
    /// Counts what became of it.
    pub metrics: Arc<Metrics>,
}

/// The pipeline's end.
pub struct Share {
    ops: mpsc::Sender<Op>,
    news: mpsc::Receiver<News>,
    up: Arc<AtomicBool>,
    timeout: Duration,
    in_vain: u32,
    pause: Duration,
    silent_until: Option<Instant>,
    /// True if the last question had no answer.
    unsure: bool,
    metrics: Arc<Metrics>,
}

impl Share {
    /// A pipeline's end that waits so long for an answer, and the other end.
    pub fn new(timeout: Duration, metrics: Arc<Metrics>) -> (Share, Ends) {
        let (sender, ops) = mpsc::channel(WAITING);
        let (said, news) = mpsc::channel(NEWS);
        let up = Arc::new(AtomicBool::new(false));
        let ends = Ends { ops, news: said, up: up.clone(), metrics: metrics.clone() };
        let (in_vain, pause, silent_until, unsure) = (0, PAUSE, None, false);
        (Share { ops: sender, news, up, timeout, in_vain, pause, silent_until, unsure, metrics }, ends)
    }

    /// Says something of a session, without waiting.
    pub fn say(&self, op: Op) {
        if self.ops.try_send(op).is_err() {
            self.metrics.share_write("dropped", 1);
        }
    }

    /// Who these are, as far as anybody knows and says so in time.
    pub fn ask(&mut self, mut handles: Vec<Handle>) -> Vec<Found> {
        let beyond = handles.len().saturating_sub(ASKED_AT_ONCE);
        handles.truncate(ASKED_AT_ONCE);
        self.metrics.share_lookup("skipped", beyond as u64);
        let asked = handles.len() as u64;
        if asked == 0 {
            return Vec::new();
        }
        self.unsure = true;
        let now = Instant::now();
        if !self.up.load(Relaxed) || self.silent_until.is_some_and(|until| now < until) {
            self.metrics.share_lookup("skipped", asked);
            return Vec::new();
        }
        let (answer, answers) = sync_channel(1);
        let sent = self.ops.try_send(Op::Ask { handles, until: now + self.timeout, answer }).is_ok();
        let found = match sent {
            true => answers.recv_timeout(self.timeout),
            false => Err(RecvTimeoutError::Timeout),
        };
        match found {
            Ok(found) => {
                (self.in_vain, self.pause, self.silent_until, self.unsure) = (0, PAUSE, None, false);
                self.metrics.share_lookup("found", found.len() as u64);
                self.metrics.share_lookup("absent", asked.saturating_sub(found.len() as u64));
                found
            }
            Err(_) => {
                self.metrics.share_lookup("failed", asked);
                self.in_vain += 1;
                if self.in_vain >= PATIENT {
                    self.silent_until = Some(Instant::now() + self.pause);
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                    // One question then shows whether it is any better.
                    self.in_vain = PATIENT - 1;
                }
                Vec::new()
            }
        }
    }

    /// True if the last question had no answer: what is not known here may be known elsewhere.
    pub fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// The next piece of news, if there is one.
    pub fn heard(&mut self) -> Option<News> {
        self.news.try_recv().ok()
    }
}
