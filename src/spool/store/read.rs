//! Reading the file, on a connection of its own that is opened when it is first needed.
//!
//! It must never write, and never hold a transaction open: a reader that stays keeps the log from
//! being cut. A row that is no event of this version is passed over, and shows as a gap.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, params};

use super::super::{Batch, DeadLetter, Stored};
use super::db::{sql, unsigned};
use super::schema::{self, BLOCK};
use crate::event::{Event, Timestamp};

/// The most bytes of lines that are read at once, so that a few huge events do not fill memory.
const MAX_BYTES: usize = 8 << 20;

/// One connection for reading.
pub(super) struct Reader {
    path: PathBuf,
    connection: Mutex<Option<Connection>>,
}

impl Reader {
    pub(super) fn new(path: PathBuf) -> Reader {
        Reader { path, connection: Mutex::new(None) }
    }

    /// The file was replaced: the next question opens it anew.
    pub(super) fn forget(&self) {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn with<R>(&self, ask: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> rusqlite::Result<R> {
        let mut slot = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = match slot.take() {
            Some(connection) => connection,
            None => schema::open_to_read(&self.path)?,
        };
        let answer = ask(&connection)?;
        // Kept only after it worked: what is wrong with a connection goes with it.
        *slot = Some(connection);
        Ok(answer)
    }

    /// Events after `after` up to `until`, in order and without a gap between them.
    pub(super) fn events(&self, after: u64, until: u64, max: usize) -> rusqlite::Result<Batch> {
        self.with(|db| {
            let mut batch = Batch::default();
            let mut statement =
                db.prepare_cached("SELECT seq, event FROM events WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3")?;
            let mut rows = statement.query(params![sql(after), sql(until), sql(max as u64)])?;
            let (mut last, mut bytes) = (after, 0_usize);
            while let Some(row) = rows.next()? {
                let seq = unsigned(row.get(0)?);
                let Some(stored) = stored(seq, row.get_ref(1)?.as_str().unwrap_or_default()) else { continue };
                if seq != last.saturating_add(1) {
                    if !batch.events.is_empty() {
                        break;
                    }
                    batch.skipped = seq.saturating_sub(last).saturating_sub(1);
                }
                last = seq;
                bytes = bytes.saturating_add(stored.line.len());
                batch.events.push(stored);
                if bytes > MAX_BYTES {
                    break;
                }
            }
            Ok(batch)
        })
    }

    pub(super) fn position_at(&self, since: Timestamp) -> rusqlite::Result<u64> {
        self.with(|db| position_at(db, since))
    }

    pub(super) fn dead_letters(&self, sink: &str, after: i64, max: usize) -> rusqlite::Result<Vec<DeadLetter>> {
        self.with(|db| {
            let mut statement = db.prepare_cached(
                "SELECT id, seq, reason, event FROM dead_letters WHERE sink = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
            )?;
            let mut rows = statement.query(params![sink, after, sql(max as u64)])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                if let Some(stored) = stored(unsigned(row.get(1)?), row.get_ref(3)?.as_str().unwrap_or_default()) {
                    found.push(DeadLetter { id: row.get(0)?, stored, reason: row.get(2)? });
                }
            }
            Ok(found)
        })
    }
}

/// The position before the first event at or after a moment; the newest if there is none.
///
/// # Errors
/// The file cannot be read.
pub fn position_at(db: &Connection, since: Timestamp) -> rusqlite::Result<u64> {
    let at = since.as_millis();
    let block: Option<i64> =
        db.query_row("SELECT min(block) FROM blocks WHERE last_time >= ?1", [at], |row| row.get(0))?;
    let from = block.map_or(i64::MAX, |block| block.saturating_mul(sql(BLOCK)));
    let first: Option<i64> =
        db.query_row("SELECT min(seq) FROM events WHERE seq >= ?1 AND time >= ?2", params![from, at], |row| {
            row.get(0)
        })?;
    match first {
        Some(first) => Ok(unsigned(first).saturating_sub(1)),
        None => db.query_row("SELECT coalesce(max(seq), 0) FROM events", [], |row| row.get(0)).map(unsigned),
    }
}

fn stored(seq: u64, line: &str) -> Option<Stored> {
    let event = Event::from_line(line).ok()?;
    Some(Stored { seq, event: Arc::new(event), line: line.into() })
}
