//! The event store: a spool whose events, positions and dead letters are in `events.db`.
//!
//! What is appended goes into a bounded ring in memory and gets its position there; one thread
//! (`store`) commits what came, together, and only then do readers see it. The newest events are
//! read from the ring, so that in the ordinary case no reader touches the disk.
//!
//! It must never make whoever appends wait for a disk, and never stop handing events to the sinks
//! because the disk fails: while it does, readers are served from the ring, positions are kept in
//! memory, and [`Spool::degraded`] says why. What falls out of the ring before it was written is
//! counted. The invariant: the ring holds every event that is not on disk yet and was not counted
//! as lost, and what a reader saw while the disk was well is on it.

mod db;
pub mod lock;
pub mod lookup;
mod read;
pub mod schema;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use self::db::Block;
pub use self::db::{MAX_DEAD_LETTERS, address_key, names, texts};
use self::lock::{Lock, LockError};
use self::read::Reader;
pub use self::read::position_at;
use self::schema::BLOCK;
use super::settings::{Durability, SpoolSettings};
use super::{Ack, Backlog, Batch, DeadLetter, Spool, Stored, Written};
use crate::event::{Event, Timestamp};
use crate::telemetry::{Drop, Metrics};

/// The name of the file in the data folder.
pub const FILE: &str = "events.db";

/// Committed events that stay in memory until every sink has taken them.
const RECENT: usize = 4096;
/// Those that stay although every sink has: for viewers, and for a file that turns out to be damaged.
const KEPT: usize = 512;
/// Bytes of lines of committed events that stay in memory.
const RECENT_BYTES: usize = 16 << 20;
/// The most events that may wait to be written.
pub const MAX_WAITING: usize = 32_768;
/// The most bytes of lines that may wait to be written.
pub const MAX_WAITING_BYTES: usize = 64 << 20;
/// So many waiting events are committed at once, before their time.
const FULL: usize = 2048;
/// The pipeline waits while more than this wait to be written,
const CROWDED: usize = MAX_WAITING / 2;
/// but no longer than this for each batch.
const ROOM: Duration = Duration::from_millis(500);
/// How long the end may take to write what is left.
const CLOSE: Duration = Duration::from_secs(10);

/// Why there is no event store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the data folder.
    #[error(
        "another authtap{} runs on the data folder {folder}: stop it, or give each its own with --data",
        .process.map(|id| format!(" (process {id})")).unwrap_or_default()
    )]
    Locked {
        /// The folder.
        folder: String,
        /// The other process.
        process: Option<u32>,
    },
    /// A thread cannot be had.
    #[error("cannot start the thread of the event store: {0}")]
    Thread(#[source] io::Error),
}

/// A spool on disk.
pub struct EventStore {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the writer's thread and everybody else share.
struct Shared {
    path: PathBuf,
    settings: SpoolSettings,
    state: Mutex<State>,
    /// The writer waits here for work.
    work: Condvar,
    /// The pipeline waits here for room.
    room: Condvar,
    appended: watch::Sender<u64>,
    reader: Reader,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    /// Events in order of position without gaps: those waiting to be written, and the newest before them.
    ring: VecDeque<Stored>,
    /// Bytes of the lines of events in the ring up to `committed`, and of those behind it.
    recent_bytes: usize,
    waiting_bytes: usize,
    /// The last position given out.
    newest: u64,
    /// Readers see events up to here.
    visible: u64,
    /// Everything up to here was written, or counted as lost.
    committed: u64,
    /// Before the oldest event on disk.
    before_oldest: u64,
    /// Where this process began.
    origin: u64,
    blocks: BTreeMap<u64, Block>,
    cursors: BTreeMap<String, Cursor>,
    /// Sinks whose position is not written yet.
    moved: BTreeSet<String>,
    /// Sinks that retention waits for.
    held: Vec<String>,
    refused: Vec<(String, Stored, String)>,
    settled: Vec<i64>,
    waiters: Vec<oneshot::Sender<()>>,
    /// Since when something waits to be written.
    pending: Option<Instant>,
    /// Somebody waits for the disk.
    urgent: bool,
    closing: bool,
    /// A reader met something that looks like damage.
    suspect: bool,
    degraded: Option<String>,
}

/// A sink's position and figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Everything up to here is dealt with.
    pub seq: u64,
    /// Events delivered so far.
    pub delivered: u64,
    /// Events the sink did not want.
    pub filtered: u64,
    /// Events the receiver refused.
    pub refused: u64,
    /// Events given up before they came to the sink.
    pub skipped: u64,
    /// Its dead letters are to be sent again.
    pub replay_dead_letters: bool,
}

/// What one commit writes.
#[derive(Default)]
struct Work {
    events: Vec<Stored>,
    cursors: Vec<(String, Cursor)>,
    refused: Vec<(String, Stored, String)>,
    settled: Vec<i64>,
    waiters: Vec<oneshot::Sender<()>>,
}

impl EventStore {
    /// Opens the store in a data folder, making both if need be. A folder that cannot be used (full,
    /// read-only) is no error: the store begins in memory, says so loudly, and tries again; a damaged
    /// file is set aside.
    ///
    /// # Errors
    /// Another process has the folder, or there is no thread to be had.
    pub fn open(folder: &Path, settings: SpoolSettings, metrics: Arc<Metrics>) -> Result<EventStore, StoreError> {
        let made = make_folder(folder);
        let locked = match made.and_then(|()| lock_of(folder)) {
            Ok(lock) => lock?,
            Err(error) => {
                tracing::error!(folder = %folder.display(), %error, "the data folder cannot be used");
                None
            }
        };
        let path = folder.join(FILE);
        let shared = Arc::new(Shared {
            reader: Reader::new(path.clone()),
            path,
            settings,
            state: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
            appended: watch::channel(0).0,
            metrics,
        });
        let writer = writer::Writer::begin(shared.clone(), locked);
        shared.appended.send_replace(shared.state().visible);
        let thread =
            std::thread::Builder::new().name("store".into()).spawn(move || writer.run()).map_err(StoreError::Thread)?;
        Ok(EventStore { shared, thread: Mutex::new(Some(thread)) })
    }
}

/// The lock; `None` in the inner place if it cannot be had at all.
#[allow(clippy::type_complexity, reason = "two layers of one answer, used once")]
fn lock_of(folder: &Path) -> io::Result<Result<Option<Lock>, StoreError>> {
    match lock::take(folder) {
        Ok(lock) => Ok(Ok(Some(lock))),
        Err(LockError::Held(folder, process)) => {
            Ok(Err(StoreError::Locked { folder: folder.display().to_string(), process }))
        }
        Err(LockError::Io(error)) => Err(error),
    }
}

/// Makes the folder, readable for its owner only: events name people.
fn make_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is valid after every statement, so a panic elsewhere leaves nothing broken.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an event of the store's own.
    fn append(&self, event: Event) {
        self.append_shared(vec![Arc::new(event)]);
    }

    /// Appends under positions of their own.
    fn append_shared(&self, events: Vec<Arc<Event>>) {
        let lines: Vec<Stored> =
            events.into_iter().map(|event| Stored { seq: 0, line: event.to_shared_line(), event }).collect();
        if lines.is_empty() {
            return;
        }
        let (lost, wake) = {
            let mut state = self.state();
            let before = state.waiting();
            let idle = state.pending.is_none();
            for mut stored in lines {
                state.newest += 1;
                stored.seq = state.newest;
                state.waiting_bytes += stored.line.len();
                state.ring.push_back(stored);
            }
            let lost = state.trim();
            state.pending.get_or_insert_with(Instant::now);
            let wake = idle || (before < FULL && state.waiting() >= FULL);
            if state.degraded.is_some() {
                state.visible = state.newest;
                self.appended.send_replace(state.visible);
            }
            (lost, wake)
        };
        if wake {
            self.work.notify_one();
        }
        if lost > 0 {
            self.metrics.dropped(Drop::StoreFull, lost);
        }
    }
}

impl State {
    /// How many events wait to be written.
    fn waiting(&self) -> usize {
        usize::try_from(self.newest.saturating_sub(self.committed)).unwrap_or(usize::MAX).min(self.ring.len())
    }

    /// Keeps the ring within its bounds; answers how many events were lost to the disk.
    fn trim(&mut self) -> u64 {
        let mut lost = 0;
        while self.waiting() > MAX_WAITING || (self.waiting_bytes > MAX_WAITING_BYTES && self.waiting() > 1) {
            // Whatever is before it in the ring is committed, and goes first.
            let Some(gone) = self.ring.pop_front() else { break };
            if gone.seq <= self.committed {
                self.recent_bytes = self.recent_bytes.saturating_sub(gone.line.len());
            } else {
                self.waiting_bytes = self.waiting_bytes.saturating_sub(gone.line.len());
                self.committed = gone.seq;
                lost += 1;
            }
        }
        let taken = self.slowest();
        loop {
            let recent = self.ring.len().saturating_sub(self.waiting());
            let passed = self.ring.front().is_some_and(|first| first.seq <= taken);
            let many = recent > RECENT || (recent > KEPT && passed) || (self.recent_bytes > RECENT_BYTES && recent > 0);
            if !many {
                break;
            }
            let Some(gone) = self.ring.pop_front() else { break };
            self.recent_bytes = self.recent_bytes.saturating_sub(gone.line.len());
        }
        lost
    }

    /// Everything up to `seq` is on disk: moves it from the waiting part of the ring to the recent one.
    fn commit_up_to(&mut self, seq: u64) {
        let waiting = self.waiting();
        let from = self.ring.len().saturating_sub(waiting);
        let mut moved = 0_usize;
        for stored in self.ring.range(from..).take_while(|stored| stored.seq <= seq) {
            moved += stored.line.len();
        }
        self.waiting_bytes = self.waiting_bytes.saturating_sub(moved);
        self.recent_bytes += moved;
        self.committed = self.committed.max(seq);
    }

    /// The position up to which every sink that counts is.
    fn slowest(&self) -> u64 {
        let positions = self.held.iter().filter_map(|sink| self.cursors.get(sink)).map(|cursor| cursor.seq);
        positions.min().unwrap_or(u64::MAX)
    }

    /// Events after `after` that memory has; `None` if the disk must be asked.
    fn recent(&self, after: u64, max: usize) -> Option<Batch> {
        if after >= self.visible {
            return Some(Batch::default());
        }
        let first = self.ring.front()?.seq;
        if after.saturating_add(1) < first {
            return None;
        }
        let from = usize::try_from(after.saturating_add(1).saturating_sub(first)).unwrap_or(usize::MAX);
        let there = usize::try_from(self.visible.saturating_sub(after)).unwrap_or(usize::MAX);
        let from = from.min(self.ring.len());
        Some(Batch { events: self.ring.range(from..).take(max.min(there)).cloned().collect(), skipped: 0 })
    }
}

impl Spool for EventStore {
    fn append_shared(&self, events: Vec<Arc<Event>>) {
        self.shared.append_shared(events);
    }

    fn read(&self, after: u64, max: usize) -> Batch {
        let (visible, first_recent) = {
            let state = self.shared.state();
            if let Some(batch) = state.recent(after, max) {
                return batch;
            }
            // What is not on disk is in the ring, so the disk is asked for what comes before it.
            (state.visible, state.ring.front().map(|first| first.seq))
        };
        let until = first_recent.map_or(visible, |first| visible.min(first.saturating_sub(1)));
        match self.shared.reader.events(after, until, max) {
            Ok(mut batch) if !batch.events.is_empty() => {
                let last = batch.events.last().map_or(after, |last| last.seq);
                // To the end of what the disk was asked for: the ring goes on.
                if last == until
                    && let Some(more) = self.shared.state().recent(last, max.saturating_sub(batch.events.len()))
                {
                    batch.events.extend(more.events);
                }
                batch
            }
            Ok(_) => {
                // Nothing up to `until`: the ring goes on from there.
                let mut batch = self.shared.state().recent(until, max).unwrap_or_default();
                batch.skipped = until.saturating_sub(after);
                batch
            }
            Err(error) => {
                tracing::warn!(%error, "events cannot be read from the store");
                if schema::is_damaged(&error) {
                    self.shared.state().suspect = true;
                    self.shared.work.notify_one();
                }
                Batch::default()
            }
        }
    }

    fn recent(&self, after: u64, max: usize) -> Option<Batch> {
        self.shared.state().recent(after, max)
    }

    #[allow(clippy::misnamed_getters, reason = "the newest that a reader can see")]
    fn newest(&self) -> u64 {
        self.shared.state().visible
    }

    fn before_oldest(&self) -> u64 {
        self.shared.state().before_oldest
    }

    fn appended(&self) -> watch::Receiver<u64> {
        self.shared.appended.subscribe()
    }

    fn outlives_the_process(&self) -> bool {
        self.shared.state().degraded.is_none()
    }

    fn make_room(&self) {
        let state = self.shared.state();
        if state.waiting() > CROWDED && state.degraded.is_none() {
            // Longer than that would only move the loss from here to the queue of exchanges.
            drop(self.shared.room.wait_timeout_while(state, ROOM, |s| s.waiting() > CROWDED && s.degraded.is_none()));
        }
    }

    fn beginning(&self) -> u64 {
        self.shared.state().origin
    }

    fn resume(&self, sink: &str, otherwise: u64) -> u64 {
        let mut state = self.shared.state();
        if let Some(cursor) = state.cursors.get(sink) {
            return cursor.seq;
        }
        // Written down at once: from here on retention waits for it, and a restart goes on from here.
        let seq = otherwise;
        state.cursors.insert(sink.to_owned(), Cursor { seq, ..Cursor::default() });
        state.moved.insert(sink.to_owned());
        state.pending.get_or_insert_with(Instant::now);
        drop(state);
        self.shared.work.notify_one();
        seq
    }

    fn wait_for(&self, sinks: &[String]) {
        self.shared.state().held = sinks.to_vec();
    }

    fn acknowledge(&self, ack: Ack) -> Written {
        let (sender, receiver) = oneshot::channel();
        let wake = {
            let mut state = self.shared.state();
            let cursor = state.cursors.entry(ack.sink.clone()).or_default();
            cursor.seq = ack.position;
            cursor.delivered = cursor.delivered.saturating_add(ack.delivered);
            cursor.filtered = cursor.filtered.saturating_add(ack.filtered);
            cursor.skipped = cursor.skipped.saturating_add(ack.skipped);
            cursor.refused = cursor.refused.saturating_add(ack.refused.len() as u64);
            if ack.dead_letters_done {
                cursor.replay_dead_letters = false;
            }
            let sink = ack.sink;
            state.refused.extend(ack.refused.into_iter().map(|(stored, reason)| (sink.clone(), stored, reason)));
            let too_many = state.refused.len().saturating_sub(MAX_WAITING);
            state.refused.drain(..too_many);
            state.settled.extend(ack.settled);
            state.moved.insert(sink);
            if state.degraded.is_some() {
                return Written::already();
            }
            state.waiters.push(sender);
            // A sink that has more to fetch would spend the interval waiting, batch after batch.
            state.urgent |= ack.position < state.visible;
            let idle = state.pending.is_none();
            state.pending.get_or_insert_with(Instant::now);
            idle || state.urgent
        };
        if wake {
            self.shared.work.notify_one();
        }
        Written::when(receiver)
    }

    fn on_disk(&self) -> Written {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.shared.state();
            if state.degraded.is_some() || state.waiting() == 0 {
                return Written::already();
            }
            state.waiters.push(sender);
            state.urgent = true;
        }
        self.shared.work.notify_one();
        Written::when(receiver)
    }

    fn when_on_disk(&self, tell: Vec<oneshot::Sender<()>>) {
        if tell.is_empty() {
            return;
        }
        {
            let mut state = self.shared.state();
            if state.degraded.is_some() || state.waiting() == 0 {
                // Dropped: nobody is to wait for a disk that is not there, or for nothing.
                return;
            }
            state.waiters.extend(tell);
            state.urgent = true;
        }
        self.shared.work.notify_one();
    }

    fn backlog(&self, after: u64) -> Backlog {
        let state = self.shared.state();
        let events = state.visible.saturating_sub(after);
        if events == 0 {
            return Backlog::default();
        }
        let block = after.saturating_add(1) / BLOCK;
        let bytes = state.blocks.range(block..).map(|(number, b)| {
            // Of the first block only what is behind the position.
            let behind =
                number.saturating_mul(BLOCK).saturating_add(BLOCK - 1).min(state.visible).saturating_sub(after);
            let share = behind.min(b.events);
            b.bytes.saturating_mul(share).checked_div(b.events).unwrap_or(0)
        });
        let bytes = bytes.fold(0_u64, u64::saturating_add);
        let first =
            state.recent(after, 1).and_then(|batch| batch.events.first().map(|e| e.event.timestamp.as_millis()));
        let first = first.or_else(|| state.blocks.range(block..).next().map(|(_, b)| b.first_time));
        let now = Timestamp::now().as_millis();
        let age = first.map_or(0, |first| u64::try_from(now.saturating_sub(first)).unwrap_or(0));
        Backlog { events, bytes, age: Duration::from_millis(age) }
    }

    fn position_at(&self, since: Timestamp) -> u64 {
        self.shared.reader.position_at(since).unwrap_or_else(|error| {
            tracing::warn!(%error, "the event store cannot be asked for a moment");
            self.newest()
        })
    }

    fn rewind(&self, sink: &str, position: u64, dead_letters: bool) {
        let mut state = self.shared.state();
        let newest = state.visible;
        let cursor = state.cursors.entry(sink.to_owned()).or_default();
        cursor.seq = position.min(newest);
        cursor.replay_dead_letters |= dead_letters;
        state.moved.insert(sink.to_owned());
        state.pending.get_or_insert_with(Instant::now);
        drop(state);
        self.shared.work.notify_one();
    }

    fn wants_dead_letters(&self, sink: &str) -> bool {
        self.shared.state().cursors.get(sink).is_some_and(|cursor| cursor.replay_dead_letters)
    }

    fn dead_letters(&self, sink: &str, after: i64, max: usize) -> Vec<DeadLetter> {
        self.shared.reader.dead_letters(sink, after, max).unwrap_or_else(|error| {
            tracing::warn!(%error, "dead letters cannot be read from the store");
            Vec::new()
        })
    }

    fn degraded(&self) -> Option<String> {
        self.shared.state().degraded.clone()
    }

    fn close(&self) {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        self.shared.state().closing = true;
        self.shared.work.notify_all();
        let started = Instant::now();
        while !thread.is_finished() && started.elapsed() < CLOSE {
            // A disk that hangs must not keep the program from ending; there is no timed join.
            std::thread::park_timeout(Duration::from_millis(2));
        }
        if !thread.is_finished() {
            tracing::error!("the event store did not end in time; what was not written is lost");
        } else if thread.join().is_err() {
            tracing::error!("the thread of the event store panicked");
        }
    }
}

impl std::ops::Drop for EventStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl EventStore {
    /// When events are committed.
    pub fn durability(&self) -> Durability {
        self.shared.settings.durability
    }
}
