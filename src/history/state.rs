//! What the store holds and whether it holds together: `authtap spool info | verify`, and a sink's
//! position moved while no proxy runs.

use std::path::Path;

use rusqlite::params;
use serde::Serialize;

use super::{History, HistoryError};
use crate::event::{Event, Timestamp};
use crate::spool::store::{self, lock, schema};

/// What the store holds.
#[derive(Debug, Serialize)]
pub struct Info {
    /// The file.
    pub file: String,
    /// Bytes of the file and its log.
    pub bytes: u64,
    /// Events.
    pub events: u64,
    /// Position of the first event; 0 if there is none.
    pub oldest: u64,
    /// Position of the last.
    pub newest: u64,
    /// When the first was.
    pub from: Option<Timestamp>,
    /// When the last was.
    pub to: Option<Timestamp>,
    /// Up to where texts are indexed.
    pub searchable: u64,
    /// The version of its tables.
    pub version: u64,
    /// True if a process has the folder now.
    pub in_use: bool,
    /// Each sink that ever had a position.
    pub sinks: Vec<SinkInfo>,
}

/// A sink's position and figures.
#[derive(Debug, Serialize)]
pub struct SinkInfo {
    /// Its name.
    pub sink: String,
    /// Everything up to here is dealt with.
    pub position: u64,
    /// Events behind it.
    pub lag_events: u64,
    /// Bytes of their lines.
    pub lag_bytes: u64,
    /// How long the oldest of them has waited.
    pub lag_seconds: u64,
    /// Events delivered so far.
    pub delivered: u64,
    /// Events it did not want.
    pub filtered: u64,
    /// Events refused for good.
    pub refused: u64,
    /// Events given up before they came to it.
    pub skipped: u64,
    /// Dead letters kept now.
    pub dead_letters: u64,
    /// When its position last moved.
    pub updated: Timestamp,
}

impl History {
    /// What the store holds.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn info(&self) -> Result<Info, HistoryError> {
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        let (oldest, newest) = self.db.query_row("SELECT min(seq), max(seq) FROM events", [], |row| {
            Ok((row.get::<_, Option<i64>>(0)?.unwrap_or(0), row.get::<_, Option<i64>>(1)?.unwrap_or(0)))
        })?;
        let (events, from, to) =
            self.db.query_row("SELECT sum(events), min(first_time), max(last_time) FROM blocks", [], |row| {
                Ok((
                    row.get::<_, Option<i64>>(0)?.unwrap_or(0),
                    row.get::<_, Option<i64>>(1)?,
                    row.get::<_, Option<i64>>(2)?,
                ))
            })?;
        let searchable = "SELECT coalesce(max(seq), 0) FROM progress WHERE name = 'search'";
        let mut statement = self.db.prepare(
            "SELECT c.sink, c.seq, c.delivered, c.filtered, c.refused, c.skipped, c.updated,
               (SELECT count(*) FROM dead_letters d WHERE d.sink = c.sink),
               (SELECT coalesce(sum(length(CAST(e.event AS BLOB))), 0) FROM events e WHERE e.seq > c.seq),
               (SELECT e.time FROM events e WHERE e.seq > c.seq ORDER BY e.seq LIMIT 1)
             FROM cursors c ORDER BY c.sink",
        )?;
        let now = Timestamp::now().as_millis();
        let sinks = statement.query_map([], |row| {
            let position: i64 = row.get(1)?;
            let waiting: Option<i64> = row.get(9)?;
            Ok(SinkInfo {
                sink: row.get(0)?,
                position: number(position),
                lag_events: number(newest.saturating_sub(position)),
                lag_bytes: number(row.get(8)?),
                lag_seconds: waiting.map_or(0, |since| number(now.saturating_sub(since) / 1000)),
                delivered: number(row.get(2)?),
                filtered: number(row.get(3)?),
                refused: number(row.get(4)?),
                skipped: number(row.get(5)?),
                dead_letters: number(row.get(7)?),
                updated: Timestamp::from_millis(row.get(6)?),
            })
        })?;
        Ok(Info {
            file: self.path.display().to_string(),
            bytes: length(&self.path).saturating_add(length(Path::new(&log))),
            events: number(events),
            oldest: number(oldest),
            newest: number(newest),
            from: from.map(Timestamp::from_millis),
            to: to.map(Timestamp::from_millis),
            searchable: number(self.db.query_row(searchable, [], |row| row.get(0))?),
            version: schema::version(&self.db)? as u64,
            in_use: self.path.parent().is_some_and(lock::is_held),
            sinks: sinks.collect::<Result<_, _>>()?,
        })
    }

    /// Everything that is wrong with the file, in words; empty if nothing is. Reads all of it.
    ///
    /// # Errors
    /// The file cannot be read at all.
    pub fn verify(&self) -> Result<Vec<String>, HistoryError> {
        let mut wrong = Vec::new();
        let mut statement = self.db.prepare("PRAGMA integrity_check(20)")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let said: String = row.get(0)?;
            if said != "ok" {
                wrong.push(format!("the database: {said}"));
            }
        }
        let newest: i64 = self.db.query_row("SELECT coalesce(max(seq), 0) FROM events", [], |row| row.get(0))?;
        let mut statement = self.db.prepare("SELECT sink, seq FROM cursors WHERE seq > ?1")?;
        let mut rows = statement.query([newest])?;
        while let Some(row) = rows.next()? {
            let (sink, seq) = (row.get::<_, String>(0)?, row.get::<_, i64>(1)?);
            wrong.push(format!("sink `{sink}` is at {seq}, beyond the newest event {newest}"));
        }
        let mut statement = self.db.prepare(
            "SELECT b.block, b.events, count(e.seq) FROM blocks b
             LEFT JOIN events e ON e.seq BETWEEN b.block * ?1 AND b.block * ?1 + ?1 - 1 GROUP BY b.block",
        )?;
        let block_size = i64::try_from(schema::BLOCK).unwrap_or(i64::MAX);
        let mut rows = statement.query([block_size])?;
        while let Some(row) = rows.next()? {
            let (block, told, there) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
            if told != there {
                wrong.push(format!("block {block} should have {told} events and has {there}"));
            }
        }
        let mut statement = self.db.prepare("SELECT seq, event FROM events ORDER BY seq")?;
        let mut rows = statement.query([])?;
        let (mut unreadable, mut missing, mut last) = (0_u64, 0_i64, None);
        while let Some(row) = rows.next()? {
            let seq: i64 = row.get(0)?;
            missing += last.map_or(0, |last: i64| seq.saturating_sub(last).saturating_sub(1));
            last = Some(seq);
            unreadable += u64::from(Event::from_line(row.get_ref(1)?.as_str().unwrap_or_default()).is_err());
        }
        if unreadable > 0 {
            wrong.push(format!("{unreadable} events cannot be read"));
        }
        if missing > 0 {
            wrong.push(format!("{missing} positions between events are empty: events that were never written"));
        }
        Ok(wrong)
    }

    /// The position before the first event at or after a moment; the newest if there is none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn position_at(&self, since: Timestamp) -> Result<u64, HistoryError> {
        Ok(store::position_at(&self.db, since)?)
    }
}

/// Moves a sink's position in the store of a folder that no process has, and asks for its dead
/// letters to be sent again at the next start. Answers the position.
///
/// # Errors
/// A process has the folder, there is no such sink, or the file cannot be written to.
pub fn rewind(folder: &Path, sink: &str, since: Option<Timestamp>, dead_letters: bool) -> Result<u64, HistoryError> {
    let path = folder.join(store::FILE);
    if !path.exists() {
        return Err(HistoryError::Missing(path));
    }
    let _lock = lock::take(folder).map_err(|_| {
        HistoryError::Refused("a running authtap has the data folder: name its admin listener with --admin".into())
    })?;
    let db = schema::open(&path)?;
    let position = since.map(|since| store::position_at(&db, since)).transpose()?;
    let position = position.map(|p| i64::try_from(p).unwrap_or(i64::MAX));
    let changed = db.execute(
        "UPDATE cursors SET seq = coalesce(?2, seq), replay_dead_letters = max(replay_dead_letters, ?3) WHERE sink = ?1",
        params![sink, position, i64::from(dead_letters)],
    )?;
    if changed == 0 {
        let mut statement = db.prepare("SELECT sink FROM cursors ORDER BY sink")?;
        let known = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
        return Err(HistoryError::Refused(format!("there is no sink `{sink}`; known here: {}", known.join(", "))));
    }
    let now = db.query_row("SELECT seq FROM cursors WHERE sink = ?1", [sink], |row| row.get::<_, i64>(0))?;
    Ok(u64::try_from(now).unwrap_or(0))
}
