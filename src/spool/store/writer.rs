//! The one thread that writes: it commits what came together, deletes what is too old, and makes
//! texts searchable when it has nothing better to do.
//!
//! It must never give up: whatever the disk answers, events go on from the ring to the sinks and
//! the next try comes within [`RETRY`]. A file that is broken is set aside under a name that says
//! when, never deleted. The invariant: a block is deleted only when every sink that counts is past
//! it, or when the file is larger than it may be.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::db::{Block, Db, Found};
use super::lock::{self, Lock};
use super::schema::{self, BLOCK};
use super::{FULL, Shared, Stored, Work};
use crate::event::notice::{STORE_DAMAGED, STORE_DEGRADED, STORE_RECOVERED, notice};
use crate::event::{Event, Outcome, Timestamp};
use crate::spool::settings::Durability;

/// How soon a disk that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often sizes and ages are looked at.
const TIDY: Duration = Duration::from_secs(1);
/// How often that is while nothing comes at all.
const TIDY_ASLEEP: Duration = Duration::from_secs(30);
/// Events whose texts are indexed in one transaction.
const TEXTS: usize = 512;
/// Texts are indexed only while fewer events than this come in a second: searching reads what is
/// not indexed yet, so it costs nothing but time to be late.
const QUIET: u64 = 100;
/// Free pages given back in one step.
const PAGES: u32 = 1024;
/// Free space that is kept for what comes, in bytes.
const SPARE: u64 = 8 << 20;
/// The longest message of an error that is kept.
const MESSAGE: usize = 200;

/// The writer's own state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    lock: Option<Lock>,
    db: Option<Db>,
    /// Up to where the texts are indexed.
    searchable: u64,
    /// When the last commit ended.
    wrote: Option<Instant>,
    retry_at: Instant,
    tidy_at: Instant,
    second: Instant,
    in_second: u64,
    rate: u64,
}

/// What is left to tidy, and so how soon.
enum Next {
    Nothing,
    /// Room is to be made: no more than half of the time.
    Room,
    /// Texts of a flood that is over: a 64th of the time. Whoever searches before they are indexed waits
    /// a little longer; the traffic beside it must not.
    Texts,
}

enum Turn {
    Write(Work),
    Tidy,
    End(Work),
}

impl Writer {
    /// Opens the file, or begins without.
    pub(super) fn begin(shared: Arc<Shared>, lock: Option<Lock>) -> Writer {
        let now = Instant::now();
        let mut writer = Writer {
            shared,
            lock,
            db: None,
            searchable: 0,
            wrote: None,
            retry_at: now,
            tidy_at: now + TIDY,
            second: now,
            in_second: 0,
            rate: 0,
        };
        if writer.lock.is_none() {
            writer.degrade("the data folder cannot be used");
            return writer;
        }
        match Db::open(&writer.shared.path) {
            Ok((db, found)) => writer.adopt(db, found),
            Err(error) if schema::is_damaged(&error) => writer.replace_damaged(&error),
            Err(error) => writer.degrade(&error.to_string()),
        }
        writer
    }

    /// Takes over what a file holds, at the beginning.
    fn adopt(&mut self, db: Db, found: Found) {
        let mut state = self.shared.state();
        state.newest = found.newest;
        state.visible = found.newest;
        state.committed = found.newest;
        state.origin = found.newest;
        state.before_oldest = found.before_oldest;
        state.blocks = found.blocks;
        state.cursors = found.cursors.into_iter().collect();
        drop(state);
        self.searchable = found.searchable;
        self.db = Some(db);
        self.shared.metrics.store_healthy.set(1);
    }

    pub(super) fn run(mut self) {
        loop {
            match self.next_turn() {
                Turn::Write(work) => {
                    self.write(work);
                    self.tidy(false);
                }
                Turn::Tidy => self.tidy(true),
                Turn::End(work) => {
                    self.write(work);
                    if let Some(db) = &self.db
                        && let Err(error) = db.checkpoint()
                    {
                        tracing::debug!(%error, "the log of the event store was not cut");
                    }
                    return;
                }
            }
        }
    }

    /// Waits for something to do.
    fn next_turn(&self) -> Turn {
        let mut state = self.shared.state();
        loop {
            if state.closing {
                return Turn::End(state.take());
            }
            let now = Instant::now();
            let due = match state.pending {
                None => self.tidy_at,
                Some(_) if state.degraded.is_some() => self.retry_at,
                Some(_) if state.urgent || state.waiting() >= FULL => now,
                // What comes after a while in which nothing did need not wait; what follows it waits until
                // there may be another commit, and never longer than the interval.
                Some(since) => self.wrote.map_or(since, |wrote| wrote + self.interval()),
            };
            if due <= now {
                return if state.pending.is_some() { Turn::Write(state.take()) } else { Turn::Tidy };
            }
            let waited = self.shared.work.wait_timeout(state, due - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.suspect {
                return Turn::Tidy;
            }
        }
    }

    fn interval(&self) -> Duration {
        match self.shared.settings.durability {
            Durability::Interval(every) => every,
            Durability::Sync | Durability::Memory => Duration::ZERO,
        }
    }

    fn write(&mut self, work: Work) {
        if self.db.is_none() && !self.try_open() {
            return self.put_back(work);
        }
        let Some(db) = &mut self.db else { return self.put_back(work) };
        match db.write(&work) {
            Ok(()) => {
                let written = self.committed(work);
                if let Some(db) = &mut self.db {
                    db.look_up(&written);
                }
            }
            Err(error) if schema::is_damaged(&error) => {
                self.put_back(work);
                self.replace_damaged(&error);
            }
            Err(error) => {
                self.put_back(work);
                self.degrade(&error.to_string());
            }
        }
    }

    /// Shows what was written, and gives the events back.
    fn committed(&mut self, work: Work) -> Vec<Stored> {
        self.count(work.events.len() as u64);
        self.wrote = Some(Instant::now());
        self.tidy_at = self.tidy_at.min(Instant::now() + TIDY);
        let shared = self.shared.clone();
        let mut state = shared.state();
        let recovered = state.degraded.take().is_some();
        for stored in &work.events {
            let (time, bytes) = (stored.event.timestamp.as_millis(), stored.line.len() as u64);
            let block = state.blocks.entry(stored.seq / BLOCK);
            block.and_modify(|b| b.add(time, bytes)).or_insert_with(|| Block::of(time, bytes));
        }
        if let Some(last) = work.events.last() {
            state.commit_up_to(last.seq);
        }
        state.visible = state.visible.max(state.committed);
        let lost = state.trim();
        let more = state.waiting() > 0 || !state.moved.is_empty();
        state.pending = more.then(Instant::now);
        // Who came while this was written, and waits for no more than that.
        let satisfied = if more { Vec::new() } else { std::mem::take(&mut state.waiters) };
        let visible = state.visible;
        drop(state);
        shared.appended.send_if_modified(|value| std::mem::replace(value, visible.max(*value)) < visible);
        shared.room.notify_all();
        for waiter in work.waiters.into_iter().chain(satisfied) {
            // Nobody waits any more: fine.
            let _ = waiter.send(());
        }
        if lost > 0 {
            shared.metrics.dropped(crate::telemetry::Drop::StoreFull, lost);
        }
        if recovered {
            shared.metrics.store_healthy.set(1);
            tracing::info!("the event store can be written to again");
            shared.append(notice(STORE_RECOVERED, Outcome::Success, &[]));
        }
        work.events
    }

    /// What could not be written waits for the next try; nobody waits for it meanwhile.
    fn put_back(&mut self, work: Work) {
        self.retry_at = Instant::now() + RETRY;
        let mut state = self.shared.state();
        for (sink, _) in work.cursors {
            state.moved.insert(sink);
        }
        let mut refused = work.refused;
        refused.append(&mut state.refused);
        refused.truncate(super::MAX_WAITING);
        state.refused = refused;
        state.settled.extend(work.settled);
        state.pending.get_or_insert_with(Instant::now);
    }

    /// Events go on to the sinks without having been written.
    fn degrade(&mut self, why: &str) {
        self.retry_at = Instant::now() + RETRY;
        let why: String = why.chars().take(MESSAGE).collect();
        let shared = self.shared.clone();
        let mut state = shared.state();
        let begins = state.degraded.replace(why.clone()).is_none();
        state.visible = state.newest;
        let visible = state.visible;
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        drop(waiters);
        shared.appended.send_if_modified(|value| std::mem::replace(value, visible.max(*value)) < visible);
        shared.room.notify_all();
        shared.metrics.store_healthy.set(0);
        if begins {
            tracing::error!(file = %shared.path.display(), why, "events are not kept on disk; they go on from memory");
            shared.append(told(&STORE_DEGRADED, &[("reason", why)]));
        }
    }

    /// Tries to open a file that could not be had at the beginning. Only an empty one can still be
    /// begun with: positions that are on disk already were given to other events meanwhile.
    fn try_open(&mut self) -> bool {
        self.retry_at = Instant::now() + RETRY;
        if self.lock.is_none() {
            let folder = self.shared.path.parent().unwrap_or(Path::new("."));
            match super::make_folder(folder).map_err(lock::LockError::Io).and_then(|()| lock::take(folder)) {
                Ok(lock) => self.lock = Some(lock),
                Err(_) => return false,
            }
        }
        match Db::open(&self.shared.path) {
            Ok((db, found)) if found.newest == 0 => {
                self.db = Some(db);
                true
            }
            Ok(_) => {
                self.degrade("the store can be had again, but has events of before: restart authtap");
                false
            }
            Err(error) if schema::is_damaged(&error) => {
                self.replace_damaged(&error);
                self.db.is_some()
            }
            Err(error) => {
                self.degrade(&error.to_string());
                false
            }
        }
    }

    /// Sets a broken file aside and begins a new one with what memory has.
    fn replace_damaged(&mut self, error: &rusqlite::Error) {
        self.db = None;
        self.shared.reader.forget();
        let aside = match set_aside(&self.shared.path) {
            Ok(aside) => aside,
            Err(moving) => return self.degrade(&format!("{error}; it cannot be set aside either: {moving}")),
        };
        let name = aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
        tracing::error!(
            file = %self.shared.path.display(), set_aside_as = name, %error,
            "the event store is damaged: it was set aside and a new one is begun; what sinks had not read is in the old one"
        );
        match Db::open(&self.shared.path) {
            Ok((db, _)) => self.db = Some(db),
            Err(error) => return self.degrade(&error.to_string()),
        }
        self.searchable = 0;
        {
            let mut state = self.shared.state();
            state.suspect = false;
            state.blocks.clear();
            // Everything in memory is written once more, and every position.
            let before = state.ring.front().map_or(state.newest, |first| first.seq.saturating_sub(1));
            state.before_oldest = before;
            state.committed = before;
            state.waiting_bytes += std::mem::take(&mut state.recent_bytes);
            let sinks: Vec<String> = state.cursors.keys().cloned().collect();
            state.moved.extend(sinks);
            state.pending.get_or_insert_with(Instant::now);
        }
        self.retry_at = Instant::now();
        self.shared.metrics.store_healthy.set(1);
        self.shared.append(told(&STORE_DAMAGED, &[("set_aside_as", name)]));
    }

    fn count(&mut self, events: u64) {
        self.in_second = self.in_second.saturating_add(events);
        let elapsed = self.second.elapsed();
        if elapsed >= Duration::from_secs(1) {
            self.rate = self.in_second / elapsed.as_secs().max(1);
            self.in_second = 0;
            self.second = Instant::now();
        }
    }

    /// One step of deleting, shrinking or indexing, if it is time for one.
    fn tidy(&mut self, idle: bool) {
        let began = Instant::now();
        if self.shared.state().suspect {
            self.shared.state().suspect = false;
            if self.db.as_ref().is_some_and(|db| !db.is_whole()) {
                let error = rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
                    Some("a check found it damaged".into()),
                );
                return self.replace_damaged(&error);
            }
        }
        if began < self.tidy_at {
            return;
        }
        self.count(0);
        let stepped = self.step(idle);
        let after = Instant::now();
        self.tidy_at = match stepped {
            Ok(Next::Room) => after + (after - began).min(TIDY),
            Ok(Next::Texts) => after + ((after - began) * 63).min(TIDY),
            Ok(Next::Nothing) if self.rate == 0 && self.in_second == 0 => after + TIDY_ASLEEP,
            Ok(Next::Nothing) => after + TIDY,
            Err(error) if schema::is_damaged(&error) => {
                self.replace_damaged(&error);
                after + TIDY
            }
            Err(error) => {
                tracing::warn!(%error, "the event store cannot be tidied now");
                after + TIDY
            }
        };
    }

    fn step(&mut self, idle: bool) -> rusqlite::Result<Next> {
        let Some(db) = &mut self.db else { return Ok(Next::Nothing) };
        let (used, free) = db.size()?;
        self.shared.metrics.store_bytes.set(i64::try_from(used).unwrap_or(i64::MAX));
        if let Some(block) = expendable(&self.shared, used) {
            db.delete_block(block)?;
            let mut state = self.shared.state();
            state.blocks.remove(&block);
            let end = block.saturating_mul(BLOCK).saturating_add(BLOCK - 1);
            state.before_oldest = state.before_oldest.max(end);
            return Ok(Next::Room);
        }
        if !idle {
            return Ok(Next::Nothing);
        }
        let committed = self.shared.state().committed;
        if self.searchable < committed && self.rate < QUIET {
            self.searchable = db.index_texts(self.searchable, TEXTS)?;
            // What was given up before it was written is not there to be indexed.
            let more = self.searchable.saturating_add(TEXTS as u64) < committed;
            return Ok(if more { Next::Texts } else { Next::Nothing });
        }
        if free > SPARE && free > used / 4 {
            db.shrink(PAGES)?;
            return Ok(Next::Room);
        }
        Ok(Next::Nothing)
    }
}

/// The oldest block, if it may go: too old and read by every sink, or too much. The newest stays.
fn expendable(shared: &Shared, used: u64) -> Option<u64> {
    let retention = shared.settings.retention;
    let state = shared.state();
    let (number, block) = state.blocks.first_key_value().filter(|_| state.blocks.len() > 1)?;
    let end = number.saturating_mul(BLOCK).saturating_add(BLOCK - 1);
    let too_old = block.last_time < Timestamp::now().minus(retention.age).as_millis() && end <= state.slowest();
    (used > retention.size || too_old).then_some(*number)
}

impl super::State {
    /// Everything that waits to be written, out of the queue but for the events, which stay in the
    /// ring until they are.
    fn take(&mut self) -> Work {
        self.pending = None;
        self.urgent = false;
        let from = self.ring.len().saturating_sub(self.waiting());
        let moved = std::mem::take(&mut self.moved);
        let cursors =
            moved.into_iter().filter_map(|sink| self.cursors.get(&sink).map(|c| (sink.clone(), *c))).collect();
        Work {
            events: self.ring.range(from..).cloned().collect(),
            cursors,
            refused: std::mem::take(&mut self.refused),
            settled: std::mem::take(&mut self.settled),
            waiters: std::mem::take(&mut self.waiters),
        }
    }
}

fn told(event_type: &crate::event::EventType, fields: &[(&'static str, String)]) -> Event {
    notice(event_type.clone(), Outcome::Failure, fields)
}

/// Renames the file, and what belongs to it, to a name that says when.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let now = Timestamp::now().to_string().replace([':', '-'], "");
    let named = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let aside = named(&format!(".damaged-{now}"));
    std::fs::rename(path, &aside)?;
    for end in ["-wal", "-shm"] {
        // A log without its file would be taken for that of the new one.
        match std::fs::rename(named(end), named(&format!(".damaged-{now}{end}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}
