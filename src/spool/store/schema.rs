//! The tables of `events.db`, and how they came to be what they are.
//!
//! `docs/store.md` describes the same tables for whoever opens the file with another tool. The
//! invariant: [`MIGRATIONS`] only grows; `user_version` says how many of them a file has had.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// Events of one block: positions `block * BLOCK` to `block * BLOCK + BLOCK - 1`. Small enough that
/// the pages a commit touches stay few, large enough that a question to every block is quick.
pub const BLOCK: u64 = 4096;

/// Each brings a file from the version of its index to the next.
const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE events (
  seq INTEGER PRIMARY KEY,
  time INTEGER NOT NULL,
  type TEXT NOT NULL,
  outcome TEXT NOT NULL,
  actor TEXT,
  ip TEXT,
  country TEXT,
  event TEXT NOT NULL
) STRICT;
CREATE TABLE blocks (
  block INTEGER PRIMARY KEY,
  events INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  first_time INTEGER NOT NULL,
  last_time INTEGER NOT NULL
) STRICT;
CREATE TABLE names (
  block INTEGER NOT NULL,
  name TEXT NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (block, name, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE addresses (
  block INTEGER NOT NULL,
  address BLOB NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (block, address, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE cursors (
  sink TEXT PRIMARY KEY,
  seq INTEGER NOT NULL,
  delivered INTEGER NOT NULL DEFAULT 0,
  filtered INTEGER NOT NULL DEFAULT 0,
  refused INTEGER NOT NULL DEFAULT 0,
  skipped INTEGER NOT NULL DEFAULT 0,
  replay_dead_letters INTEGER NOT NULL DEFAULT 0,
  updated INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE dead_letters (
  id INTEGER PRIMARY KEY,
  sink TEXT NOT NULL,
  seq INTEGER NOT NULL,
  refused INTEGER NOT NULL,
  reason TEXT NOT NULL,
  event TEXT NOT NULL
) STRICT;
CREATE INDEX dead_letters_of_sink ON dead_letters (sink, id);
CREATE TABLE progress (name TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE VIRTUAL TABLE search USING fts5(text, content='', contentless_delete=1);
",
    // From here on names and addresses come with whole blocks; a file of before has all of them.
    "INSERT INTO progress SELECT 'lookup', coalesce(max(seq), 0) FROM events;",
    // From here on a block's names and addresses are 128 texts instead of thousands of rows. The rows of
    // before stay until their blocks go; whoever asks in SQL sees both as the tables that were there.
    "
ALTER TABLE names RENAME TO names_2;
ALTER TABLE addresses RENAME TO addresses_2;
CREATE TABLE lookup (
  block INTEGER NOT NULL,
  part INTEGER NOT NULL,
  entries TEXT NOT NULL,
  PRIMARY KEY (block, part)
) STRICT;
CREATE VIEW names AS SELECT block, name, seq FROM names_2
UNION ALL SELECT l.block, e.value ->> 0, l.block * 4096 + (e.value ->> 1)
  FROM lookup l, json_each('[' || l.entries || ']') e WHERE l.part < 64;
CREATE VIEW addresses AS SELECT block, address, seq FROM addresses_2
UNION ALL SELECT l.block, unhex(e.value ->> 0), l.block * 4096 + (e.value ->> 1)
  FROM lookup l, json_each('[' || l.entries || ']') e WHERE l.part >= 64;
",
];

/// From this version on names and addresses are in `lookup`, and rows of before in `names_2` and
/// `addresses_2`.
pub const WITH_LOOKUP: usize = 3;

/// The version of a file that has had every migration.
pub const VERSION: usize = MIGRATIONS.len();

/// How long a statement waits for another program that writes to the file.
const BUSY: Duration = Duration::from_secs(2);
/// Bytes of a page of a new file: each is one write to the log and one to the file, and a few lines fit.
const PAGE: u32 = 8192;
/// Pages of the write-ahead log after which it is brought into the file: 16 MiB.
const CHECKPOINT_PAGES: u32 = 2048;
/// The write-ahead log is cut to this when it can be, in bytes.
const LOG_LIMIT: u32 = 64 << 20;

/// Opens the file for the one writer, with its tables brought up to date. Makes it if it is not
/// there.
///
/// # Errors
/// SQLite's; [`is_damaged`] tells a broken file from one that cannot be had now.
pub fn open(path: &Path) -> rusqlite::Result<Connection> {
    private(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    // Before the first table, or never.
    db.pragma_update(None, "page_size", PAGE)?;
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    db.pragma_update(None, "journal_size_limit", LOG_LIMIT)?;
    // What is written is at the end of a table, or sorted: more pages would not be used again.
    db.pragma_update(None, "cache_size", -4_096)?;
    db.set_prepared_statement_cache_capacity(64);
    migrate(&mut db)?;
    Ok(db)
}

/// Makes the file for its owner only, if it is not there: events name people. The log gets the same
/// mode from SQLite.
fn private(path: &Path) {
    use std::os::unix::fs::OpenOptionsExt;
    // Why it cannot be made, SQLite says next.
    let _ = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
}

/// Opens the file to read. Works beside a running writer, and on a folder that cannot be written
/// to if nobody writes.
///
/// # Errors
/// SQLite's.
pub fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    let looked = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
    let db = match looked {
        // The memory shared with a writer cannot be made here: then there is no writer either.
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen) && path.exists() => {
            let uri = format!("file:{}?immutable=1", percent(path));
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?
        }
        Err(error) => return Err(error),
        Ok(_) => db,
    };
    db.pragma_update(None, "query_only", true)?;
    db.set_prepared_statement_cache_capacity(32);
    Ok(db)
}

fn percent(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    const KEPT: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');
    percent_encoding::percent_encode(path.as_os_str().as_bytes(), KEPT).to_string()
}

/// The version of an open file.
pub fn version(db: &Connection) -> rusqlite::Result<usize> {
    let version = db.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

fn migrate(db: &mut Connection) -> rusqlite::Result<()> {
    let had = version(db)?;
    if had > VERSION {
        let message = format!(
            "it was written by a newer authtap (version {had} of its tables, this one knows {VERSION}): run that one, \
             or name another data folder"
        );
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        return Err(rusqlite::Error::SqliteFailure(code, Some(message)));
    }
    let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for migration in MIGRATIONS.get(had..).unwrap_or_default() {
        transaction.execute_batch(migration)?;
    }
    if had < VERSION {
        transaction.pragma_update(None, "user_version", VERSION as i64)?;
    }
    transaction.commit()
}

/// True if the file is broken and will not get better by waiting.
pub fn is_damaged(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error {
        rusqlite::Error::SqliteFailure(failure, message) => {
            matches!(failure.code, DatabaseCorrupt | NotADatabase)
                // A file whose tables are gone was overwritten by something else.
                || message.as_deref().is_some_and(|m| m.starts_with("no such table") || m.starts_with("no such column"))
        }
        rusqlite::Error::SqlInputError { msg, .. } => {
            msg.starts_with("no such table") || msg.starts_with("no such column")
        }
        rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::FromSqlConversionFailure(..) => true,
        _ => false,
    }
}
