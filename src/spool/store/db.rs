//! What the writer does to the file: every statement that changes it, each in one transaction.
//!
//! It must never be called but by the one thread that writes. The invariant: a position moves in
//! the same transaction as what it says is dealt with, so no crash can leave the two apart.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::LazyLock;

use rusqlite::{Connection, OptionalExtension, Statement, Transaction, TransactionBehavior, params};

use super::lookup::Lookup;
use super::schema::{self, BLOCK};
use super::{Cursor, Stored, Work};
use crate::event::text::eight::{beyond, none, within};
use crate::event::{Event, Text, Timestamp, json};

/// The most dead letters that are kept, for all sinks together; the oldest go first.
pub const MAX_DEAD_LETTERS: i64 = 100_000;

/// Rows that are written by one statement, from many on down to one. More would not pay: what is bound to a
/// statement is given back after each commit.
const ROWS: [usize; 3] = [16, 4, 1];

/// What is known of one block of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// How many events it has.
    pub events: u64,
    /// Bytes of their lines.
    pub bytes: u64,
    /// The earliest moment of one of them, in milliseconds.
    pub first_time: i64,
    /// The latest.
    pub last_time: i64,
}

impl Block {
    /// Takes one more event in.
    pub fn add(&mut self, time: i64, bytes: u64) {
        self.events = self.events.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.first_time = self.first_time.min(time);
        self.last_time = self.last_time.max(time);
    }

    /// A block of one event.
    pub fn of(time: i64, bytes: u64) -> Block {
        Block { events: 1, bytes, first_time: time, last_time: time }
    }
}

/// What stands in a file at its opening.
#[derive(Debug, Default)]
pub struct Found {
    /// The position of the last event.
    pub newest: u64,
    /// The position before the first.
    pub before_oldest: u64,
    /// Every block.
    pub blocks: BTreeMap<u64, Block>,
    /// Every sink's position.
    pub cursors: Vec<(String, Cursor)>,
    /// Up to where the texts are indexed.
    pub searchable: u64,
    /// Up to where names and addresses are indexed.
    pub looked_up: u64,
}

/// The file, open for writing.
pub struct Db {
    connection: Connection,
    lookup: Lookup,
    /// Up to where names and addresses are indexed: to the end of a block, or a file's own beginning.
    looked_up: u64,
    /// True until the first event of a file.
    empty: bool,
}

impl Db {
    /// Opens the file, and says what is in it.
    pub fn open(path: &Path) -> rusqlite::Result<(Db, Found)> {
        let connection = schema::open(path)?;
        let found = found(&connection)?;
        let (looked_up, empty) = (found.looked_up, found.newest == 0);
        Ok((Db { connection, lookup: Lookup::default(), looked_up, empty }, found))
    }

    /// Commits events, positions and dead letters together.
    pub fn write(&mut self, work: &Work) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        append(&transaction, work)?;
        acknowledge(&transaction, work)?;
        transaction.commit()?;
        if let Some(first) = work.events.first().filter(|_| std::mem::take(&mut self.empty)) {
            // In place of a file that was damaged, positions begin where they were.
            self.looked_up = first.seq.saturating_sub(1);
        }
        Ok(())
    }

    /// Takes in what can be found by name and address from now on. After the events were shown: when a
    /// block becomes whole, this takes longer than a commit.
    pub fn look_up(&mut self, written: &[Stored]) {
        for stored in written {
            self.look_up_to(stored.seq / BLOCK);
            self.lookup.add(stored);
        }
    }

    /// Makes names and addresses of what comes before a block searchable, if they are not. A failure is
    /// made good with the next block: until then the events are found by reading them.
    fn look_up_to(&mut self, block: u64) {
        while self.looked_up.saturating_add(1) / BLOCK < block {
            let (number, first) = (self.looked_up.saturating_add(1) / BLOCK, self.looked_up.saturating_add(1));
            let end = number.saturating_mul(BLOCK).saturating_add(BLOCK - 1);
            if let Err(error) = self.index_block(number, first, end) {
                tracing::debug!(%error, block = number, "names of a block of events are not indexed yet");
                return;
            }
            self.looked_up = end;
        }
    }

    fn index_block(&mut self, block: u64, first: u64, end: u64) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            // Not seen whole: the process began within it, or its turn failed before.
            let mut read = Lookup::default();
            let parts = match self.lookup.parts(block, first) {
                Some(parts) => Some(parts),
                None => {
                    read_block(&transaction, first, end, &mut read)?;
                    read.parts(block, first)
                }
            };
            if let Some(parts) = parts {
                let mut write = transaction.prepare_cached("INSERT OR REPLACE INTO lookup VALUES (?1, ?2, ?3)")?;
                for (part, entries) in parts {
                    write.execute(params![sql(block), part as i64, entries])?;
                }
            }
            let mut note = transaction.prepare_cached("INSERT OR REPLACE INTO progress VALUES ('lookup', ?1)")?;
            note.execute(params![sql(end)])?;
        }
        transaction.commit()
    }

    /// Deletes a whole block.
    pub fn delete_block(&mut self, block: u64) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (first, last) = (block.saturating_mul(BLOCK), block.saturating_mul(BLOCK).saturating_add(BLOCK - 1));
        transaction.execute("DELETE FROM events WHERE seq BETWEEN ?1 AND ?2", params![sql(first), sql(last)])?;
        for table in ["lookup", "names_2", "addresses_2"] {
            transaction.execute(&format!("DELETE FROM {table} WHERE block = ?1"), params![sql(block)])?;
        }
        transaction.execute("DELETE FROM search WHERE rowid BETWEEN ?1 AND ?2", params![sql(first), sql(last)])?;
        transaction.execute("DELETE FROM blocks WHERE block = ?1", params![sql(block)])?;
        transaction.commit()
    }

    /// Makes the texts of up to `max` events after `after` searchable; answers the position reached.
    pub fn index_texts(&mut self, after: u64, max: usize) -> rusqlite::Result<u64> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut reached = after;
        {
            let mut read =
                transaction.prepare_cached("SELECT seq, event FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
            let mut write = transaction.prepare_cached("INSERT INTO search (rowid, text) VALUES (?1, ?2)")?;
            let mut rows = read.query(params![sql(after), sql(max as u64)])?;
            while let Some(row) = rows.next()? {
                let seq: i64 = row.get(0)?;
                write.execute(params![seq, texts(row.get_ref(1)?.as_str().unwrap_or_default())])?;
                reached = u64::try_from(seq).unwrap_or(reached);
            }
        }
        let mut note = transaction.prepare_cached("INSERT OR REPLACE INTO progress VALUES ('search', ?1)")?;
        note.execute(params![sql(reached)])?;
        drop(note);
        transaction.commit()?;
        Ok(reached)
    }

    /// Bytes of the file that hold something, and bytes that are free within it.
    pub fn size(&self) -> rusqlite::Result<(u64, u64)> {
        let pragma = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
        let (pages, free, bytes) = (pragma("page_count")?, pragma("freelist_count")?, pragma("page_size")?);
        let used = u64::from(pages.saturating_sub(free)).saturating_mul(u64::from(bytes));
        Ok((used, u64::from(free).saturating_mul(u64::from(bytes))))
    }

    /// Gives at most so many free pages back to the file system.
    pub fn shrink(&self, pages: u32) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    /// True if the file is whole, as far as a quick look tells.
    pub fn is_whole(&self) -> bool {
        let answer = self.connection.pragma_query_value(None, "quick_check(1)", |row| row.get::<_, String>(0));
        answer.is_ok_and(|answer| answer == "ok")
    }

    /// Brings the log into the file and cuts it, if no reader is in the way.
    pub fn checkpoint(&self) -> rusqlite::Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }
}

fn found(db: &Connection) -> rusqlite::Result<Found> {
    let mut found = Found::default();
    let ends = db.query_row("SELECT min(seq), max(seq) FROM events", [], |row| {
        Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?))
    })?;
    found.newest = ends.1.map_or(0, unsigned);
    found.before_oldest = ends.0.map_or(found.newest, |first| unsigned(first).saturating_sub(1));
    let mut statement = db.prepare("SELECT block, events, bytes, first_time, last_time FROM blocks")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let block = Block {
            events: unsigned(row.get(1)?),
            bytes: unsigned(row.get(2)?),
            first_time: row.get(3)?,
            last_time: row.get(4)?,
        };
        found.blocks.insert(unsigned(row.get(0)?), block);
    }
    let mut statement =
        db.prepare("SELECT sink, seq, delivered, filtered, refused, skipped, replay_dead_letters FROM cursors")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let cursor = Cursor {
            seq: unsigned(row.get(1)?).min(found.newest),
            delivered: unsigned(row.get(2)?),
            filtered: unsigned(row.get(3)?),
            refused: unsigned(row.get(4)?),
            skipped: unsigned(row.get(5)?),
            replay_dead_letters: row.get::<_, i64>(6)? != 0,
        };
        found.cursors.push((row.get(0)?, cursor));
    }
    let searchable = db.query_row("SELECT seq FROM progress WHERE name = 'search'", [], |row| row.get(0)).optional()?;
    found.searchable = searchable.map_or(0, unsigned).min(found.newest);
    let looked_up = db.query_row("SELECT seq FROM progress WHERE name = 'lookup'", [], |row| row.get(0)).optional()?;
    found.looked_up = looked_up.map_or(0, unsigned).min(found.newest);
    // All else is read on demand: that it can be read at all shows that the tables are there.
    db.query_row("SELECT count(*) FROM (SELECT 1 FROM dead_letters LIMIT 1)", [], |_| Ok(()))?;
    Ok(found)
}

fn append(transaction: &Transaction<'_>, work: &Work) -> rusqlite::Result<()> {
    if work.events.is_empty() {
        return Ok(());
    }
    let mut rest = work.events.as_slice();
    for rows in ROWS {
        let chunks = rest.chunks_exact(rows);
        rest = chunks.remainder();
        let mut prepared = [None, None];
        for chunk in chunks {
            let alike = chunk.first().is_some_and(|first| chunk.iter().all(|one| are_alike(&one.event, &first.event)));
            let slot = &mut prepared[usize::from(alike)];
            let statement = match slot {
                Some(statement) => statement,
                None => slot.insert(transaction.prepare_cached(statement(rows, alike))?),
            };
            insert(statement, alike, chunk)?;
        }
    }
    // In the order of positions, so that those of a block stand together.
    let mut touched: Vec<(u64, Block)> = Vec::new();
    for stored in &work.events {
        let (number, time) = (stored.seq / BLOCK, stored.event.timestamp.as_millis());
        let bytes = stored.line.len() as u64;
        match touched.last_mut() {
            Some((last, block)) if *last == number => block.add(time, bytes),
            _ => touched.push((number, Block::of(time, bytes))),
        }
    }
    let mut block = transaction.prepare_cached(
        "INSERT INTO blocks VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (block) DO UPDATE SET
           events = events + excluded.events, bytes = bytes + excluded.bytes,
           first_time = min(first_time, excluded.first_time), last_time = max(last_time, excluded.last_time)",
    )?;
    for (number, b) in touched {
        block.execute(params![sql(number), sql(b.events), sql(b.bytes), b.first_time, b.last_time])?;
    }
    Ok(())
}

fn are_alike(one: &Event, other: &Event) -> bool {
    (one.outcome, one.event_type.as_str()) == (other.outcome, other.event_type.as_str())
}

/// The statement that writes so many events at once: it finds the end of the table once for all of them.
/// Where they are alike, as in a flood of logins, their type and outcome are handed over once.
fn statement(rows: usize, alike: bool) -> &'static str {
    static TEXTS: LazyLock<[[String; 2]; ROWS.len()]> =
        LazyLock::new(|| ROWS.map(|rows| [false, true].map(|alike| text_of(rows, alike))));
    let place = ROWS.iter().position(|known| *known == rows).unwrap_or(ROWS.len() - 1);
    &TEXTS[place][usize::from(alike)]
}

fn text_of(rows: usize, alike: bool) -> String {
    let row = |at| {
        let (kind, rest) = numbers(at, alike);
        let [seq, time, actor, ip, country, event] = [1, 2, 3, 4, 5, 6].map(|column| rest + column);
        format!("(?{seq}, ?{time}, ?{kind}, ?{}, ?{actor}, ?{ip}, ?{country}, ?{event})", kind + 1)
    };
    format!("INSERT OR REPLACE INTO events VALUES {}", (0..rows).map(row).collect::<Vec<_>>().join(", "))
}

/// The number of a row's type, which its outcome's follows, and the number before those of its other six
/// columns.
fn numbers(at: usize, alike: bool) -> (usize, usize) {
    if alike { (1, at * 6 + 2) } else { (at * 8 + 1, at * 8 + 2) }
}

/// Writes as many events as the statement has rows.
fn insert(statement: &mut Statement<'_>, alike: bool, events: &[Stored]) -> rusqlite::Result<()> {
    let mut ip = String::new();
    for (at, stored) in events.iter().enumerate() {
        let one = &*stored.event;
        ip.clear();
        if let Some(address) = one.metadata.ip_address {
            json::address(&mut ip, address);
        }
        let country = one.metadata.geo.as_ref().and_then(|geo| geo.country.as_ref());
        let (kind, rest) = numbers(at, alike);
        if at == 0 || !alike {
            statement.raw_bind_parameter(kind, one.event_type.as_str())?;
            statement.raw_bind_parameter(kind + 1, one.outcome.as_str())?;
        }
        statement.raw_bind_parameter(rest + 1, sql(stored.seq))?;
        statement.raw_bind_parameter(rest + 2, one.timestamp.as_millis())?;
        statement.raw_bind_parameter(rest + 3, one.actor.label())?;
        statement.raw_bind_parameter(rest + 4, one.metadata.ip_address.map(|_| ip.as_str()))?;
        statement.raw_bind_parameter(rest + 5, country.map(Text::as_str))?;
        statement.raw_bind_parameter(rest + 6, &*stored.line)?;
    }
    statement.raw_execute().map(|_| ())
}

/// Takes in what stands in the file from `first` to `end`.
fn read_block(db: &Connection, first: u64, end: u64, lookup: &mut Lookup) -> rusqlite::Result<()> {
    let mut read = db.prepare_cached("SELECT seq, event FROM events WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq")?;
    let mut rows = read.query(params![sql(first), sql(end)])?;
    while let Some(row) = rows.next()? {
        let line = row.get_ref(1)?.as_str().unwrap_or_default();
        // What cannot be read has no names.
        if let Ok(event) = Event::from_line(line) {
            lookup.add(&Stored { seq: unsigned(row.get(0)?), event: event.into(), line: "".into() });
        }
    }
    Ok(())
}

fn acknowledge(transaction: &Transaction<'_>, work: &Work) -> rusqlite::Result<()> {
    let now = Timestamp::now().as_millis();
    if !work.cursors.is_empty() {
        let mut cursor =
            transaction.prepare_cached("INSERT OR REPLACE INTO cursors VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
        for (sink, c) in &work.cursors {
            cursor.execute(params![
                sink,
                sql(c.seq),
                sql(c.delivered),
                sql(c.filtered),
                sql(c.refused),
                sql(c.skipped),
                i64::from(c.replay_dead_letters),
                now
            ])?;
        }
    }
    if !work.settled.is_empty() {
        let mut settled = transaction.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?;
        for id in &work.settled {
            settled.execute(params![id])?;
        }
    }
    if !work.refused.is_empty() {
        let mut refused = transaction.prepare_cached(
            "INSERT INTO dead_letters (sink, seq, refused, reason, event) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        for (sink, stored, reason) in &work.refused {
            refused.execute(params![sink, sql(stored.seq), now, reason, &*stored.line])?;
        }
        transaction.execute(
            "DELETE FROM dead_letters WHERE id <= (SELECT max(id) FROM dead_letters) - ?1",
            params![MAX_DEAD_LETTERS],
        )?;
    }
    Ok(())
}

/// Tells the names under which an event is found: its actor's and its target's, in lower case, each once.
pub fn names(event: &Event, mut tell: impl FnMut(&str)) {
    let actor = &event.actor;
    let target = event.target.as_ref();
    let all = [
        actor.id.as_ref(),
        actor.login.as_ref(),
        actor.email.as_ref(),
        target.and_then(|t| t.id.as_ref()),
        target.and_then(|t| t.email.as_ref()),
    ];
    for (at, name) in all.iter().enumerate() {
        let Some(name) = name.map(|name| lower_case(name.as_str())) else { continue };
        if !all.iter().take(at).flatten().any(|before| lower_case(before.as_str()) == name) {
            tell(&name);
        }
    }
}

/// In lower case, which names nearly always are.
fn lower_case(name: &str) -> Cow<'_, str> {
    if none(name.as_bytes(), |word| beyond(word) | within(word, b'A', b'Z')) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(name.to_lowercase())
    }
}

/// An address as sixteen bytes, so that a network is one range of keys; IPv4 as its mapped form
/// (RFC 4291 section 2.5.5.2).
pub fn address_key(ip: IpAddr) -> [u8; 16] {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Every text within an event, one after another: what free text is searched in.
pub fn texts(line: &str) -> String {
    fn walk(value: &serde_json::Value, out: &mut String) {
        match value {
            serde_json::Value::String(text) => {
                out.push_str(text);
                out.push('\n');
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| walk(item, out)),
            serde_json::Value::Object(map) => map.values().for_each(|item| walk(item, out)),
            _ => {}
        }
    }
    let mut out = String::with_capacity(line.len());
    // What cannot be read has no text to find; it is still there to be shown.
    if let Ok(value) = serde_json::from_str(line) {
        walk(&value, &mut out);
    }
    out
}

/// A position as SQLite has numbers.
pub fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number of the file as a position; what is below zero was never written by us.
pub fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
