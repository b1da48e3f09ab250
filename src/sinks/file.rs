//! Events in a file, one a line (JSON, or the sink's `format`), rotated by size, by age, or by another program.
//!
//! A batch is one write of whole lines at the end of the file. What a failed write left behind
//! (disk full) is taken back, so that the file holds whole lines at all times and a batch that is
//! tried again stands there once. The file must never be written where nobody looks for it: when
//! the path no longer leads to the open file (moved or deleted, looked at before a write, at most
//! once a second) or [`Sink::reopen`] was called, the path is opened anew, and while that fails
//! the events wait in the spool. A rotation that fails delays no event: the file grows meanwhile.
//!
//! Nothing keeps two processes from writing the same file. Their lines do not mix, as each batch
//! is one appending write, but both would rotate it, and a broken write is then left in place (its
//! line is ended, not taken back). Give each process a file of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use super::{BoxFuture, BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan, Verdict, Worker, write_counted};
use crate::config::node::{Map, Node, clip};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::format;
use crate::spool::Stored;

#[cfg(test)]
mod tests;

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "file",
    doc: "a file of JSON lines (or of another format), rotated if wanted",
    fields: FIELDS,
    formats: Formats::Any("native"),
    check,
};

const FIELDS: &[Field] = &[
    Field::required("path", Kind::Str, "the file; relative to the folder of the configuration file"),
    Field::new("rotate", Kind::Map(ROTATE), "", "when to begin a new file; without it the file grows"),
    Field::new(
        "mode",
        Kind::Str,
        "0640",
        "permissions of a file made here, in octal; narrowed by the umask if not given",
    ),
    Field::new("sync", Kind::Bool, "off", "wait until each batch is on the disk"),
    format::field("native"),
];

const ROTATE: &[Field] = &[
    Field::new("size", Kind::Size, "", "before it grows larger than this (one batch alone may)"),
    Field::new("age", Kind::Duration, "", "before the first write after its first line is this old"),
    Field::new("keep", Kind::Int(1, MAX_KEEP), "7", "how many old files stay; the newest is called `.1`"),
];

const MAX_KEEP: u64 = 1000;
const DEFAULT_KEEP: u64 = 7;
/// A smaller `size` is a slip (a forgotten unit), and would rotate at nearly every event.
const MIN_SIZE: u64 = 1024;
const DEFAULT_MODE: u32 = 0o640;

/// How often it is looked at whether the path still leads to the open file.
const LOOK: Duration = Duration::from_secs(1);
/// How long a rotation that failed is left alone.
const ROTATE_AGAIN: Duration = Duration::from_secs(60);
/// Room kept for the next batch, in bytes; a larger one gives its room back.
const KEPT: usize = 64 * 1024;

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let path = map.get("path").and_then(|at| {
        let path = at.str(problems)?;
        if path.is_empty() || path.ends_with('/') {
            problems.error_hint(at, "`path` names no file".into(), "write one like events.jsonl");
            return None;
        }
        Some(PathBuf::from(path))
    });
    let rotate = map.get("rotate").and_then(|at| check_rotate(at, problems));
    let mode = map.get("mode").and_then(|at| check_mode(at, problems));
    let sync = map.bool("sync", problems).unwrap_or(false);
    Some(Box::new(Plan { path: path?, rotate, mode, sync }))
}

fn check_rotate(at: &Node, problems: &mut Problems) -> Option<Rotate> {
    let map = at.map(ROTATE, problems)?;
    if map.get("size").is_none() && map.get("age").is_none() {
        problems.error_hint(at, "`rotate` does not say when".into(), "give it a `size`, an `age`, or both");
    }
    let size = map.size("size", problems);
    if let (Some(bytes), Some(at)) = (size, map.get("size"))
        && bytes < MIN_SIZE
    {
        problems.error_hint(
            at,
            format!("{bytes} bytes are too small a file"),
            "write a unit: 100MB; the least is 1KiB",
        );
    }
    let age = map.duration("age", problems);
    if let (Some(Duration::ZERO), Some(at)) = (age, map.get("age")) {
        problems.error_hint(at, "an age of zero is no age".into(), "leave `age` out to rotate by size alone");
    }
    let keep = map.int("keep", 1..=MAX_KEEP, problems).unwrap_or(DEFAULT_KEEP);
    Some(Rotate { size, age, keep })
}

fn check_mode(at: &Node, problems: &mut Problems) -> Option<u32> {
    let text = at.str(problems)?;
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777 && !digits.starts_with('+'));
    let Some(mode) = mode else {
        let message = format!("`{}` is no file mode", clip(text));
        problems.error_hint(at, message, "write three octal digits, as for chmod: 0640");
        return None;
    };
    if mode & 0o200 == 0 {
        problems.error_hint(at, format!("with mode {mode:04o} the file could not be opened again"), "add 0200: 0640");
        return None;
    }
    if mode & 0o007 != 0 {
        let message = format!("mode {mode:04o} opens the events to every account of this machine");
        problems.warn(at, message, "0640 gives them to one group");
    }
    Some(mode)
}

#[derive(Debug)]
struct Plan {
    path: PathBuf,
    rotate: Option<Rotate>,
    /// Exactly this if given; the default is subject to the umask.
    mode: Option<u32>,
    sync: bool,
}

#[derive(Clone, Copy, Debug)]
struct Rotate {
    size: Option<u64>,
    age: Option<Duration>,
    keep: u64,
}

impl SinkPlan for Plan {
    /// Makes the file if there is none, so that a missing folder or permission shows at the start.
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        let path = cx.base.join(&self.path);
        refuse_hopeless(&path)?;
        let reopen = Arc::new(AtomicBool::new(false));
        let mut log = Log::new(self, path, reopen.clone(), Box::new(SystemTime::now));
        // A pipe would keep the start waiting for its reader; it is opened at the first write.
        if fs::metadata(&log.path).map_or(true, |m| m.is_file()) {
            log.opened()?;
        }
        Ok(Box::new(FileSink { worker: Worker::start("sink-file", log)?, reopen }))
    }
}

/// What can never work, told with its remedy.
fn refuse_hopeless(path: &Path) -> Result<(), SinkError> {
    let shown = path.display();
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        let folder = folder.display();
        let message = format!("cannot write {shown}: there is no folder {folder}; make it, or change `path`");
        return Err(SinkError::Other(message));
    }
    if path.is_dir() {
        let message = format!("cannot write {shown}: it is a folder; name a file in it, as {shown}/events.jsonl");
        return Err(SinkError::Other(message));
    }
    Ok(())
}

struct FileSink {
    worker: Worker<Log>,
    reopen: Arc<AtomicBool>,
}

impl Sink for FileSink {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            let lines: Vec<Arc<str>> = batch.iter().map(|one| one.line.clone()).collect();
            match self.worker.run(move |log| log.write(&lines)).await {
                Ok(Ok(())) => Verdict::Delivered,
                Ok(Err(why)) | Err(why) => Verdict::Retry { after: None, why },
            }
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move { self.worker.run(|log| log.opened().map(|_| ())).await? })
    }

    fn reopen(&self) {
        self.reopen.store(true, Relaxed);
        // At once if the thread is idle, so that a deleted file's space is freed; if its queue is
        // full, the write that waits there sees the flag.
        self.worker.nudge(Log::reopen_if_asked);
    }
}

/// An open file, as far as this sink needs one; a test puts a full disk in its place.
trait Out: Write + Send {
    /// Removes the last `count` bytes, if they are still the last of the file.
    fn take_back(&mut self, count: u64) -> io::Result<()>;
    /// Waits until all that was written is on the disk.
    fn sync(&mut self) -> io::Result<()>;
}

impl Out for File {
    fn take_back(&mut self, count: u64) -> io::Result<()> {
        // An appending write leaves the position at its own end.
        let (end, len) = (self.stream_position()?, self.metadata()?.len());
        if end != len {
            return Err(io::Error::other("another process writes to the file"));
        }
        self.set_len(len.saturating_sub(count))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

struct Open {
    out: Box<dyn Out>,
    /// Device and inode if it is a regular file. Only such a file is rotated, looked for, cut and synced.
    id: Option<(u64, u64)>,
    /// Length in bytes, by what was seen and written.
    len: u64,
    /// When its first line was written, as far as the file system knows.
    born: SystemTime,
    /// Its last line has no end.
    torn: bool,
}

type Clock = Box<dyn Fn() -> SystemTime + Send>;

/// The state of the thread: the file, and what is known of it.
struct Log {
    path: PathBuf,
    rotate: Option<Rotate>,
    mode: Option<u32>,
    sync: bool,
    reopen: Arc<AtomicBool>,
    now: Clock,
    open: Option<Open>,
    looked: SystemTime,
    rotation_failed: Option<SystemTime>,
    buffer: Vec<u8>,
}

impl Log {
    fn new(plan: &Plan, path: PathBuf, reopen: Arc<AtomicBool>, now: Clock) -> Log {
        Log {
            path,
            rotate: plan.rotate,
            mode: plan.mode,
            sync: plan.sync,
            reopen,
            looked: now(),
            now,
            open: None,
            rotation_failed: None,
            buffer: Vec::new(),
        }
    }

    /// Appends these lines, all or none.
    fn write(&mut self, lines: &[Arc<str>]) -> Result<(), SinkError> {
        self.reopen_if_asked();
        self.look();
        let size: usize = lines.iter().map(|line| line.len().saturating_add(1)).sum();
        if self.rotation_due(size as u64) {
            self.rotate();
        }
        let torn = self.opened()?.torn;

        self.buffer.clear();
        self.buffer.reserve(size.saturating_add(1));
        if torn {
            self.buffer.push(b'\n');
        }
        for line in lines {
            self.buffer.extend_from_slice(line.as_bytes());
            self.buffer.push(b'\n');
        }
        let result = self.append();
        self.buffer.shrink_to(KEPT);
        result.map_err(|source| self.error("cannot write to", source))
    }

    /// Writes the buffer, or leaves the file as it was.
    fn append(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Err(io::ErrorKind::NotFound.into()) };
        if open.len == 0 {
            open.born = (self.now)();
        }
        let (written, result) = write_counted(&mut *open.out, &self.buffer);
        open.len = open.len.saturating_add(written as u64);
        if let Err(error) = result {
            if written > 0 {
                match open.out.take_back(written as u64) {
                    Ok(()) => open.len = open.len.saturating_sub(written as u64),
                    Err(_) => open.torn = self.buffer.get(..written).and_then(<[u8]>::last) != Some(&b'\n'),
                }
            }
            // A full disk is the same disk when there is room again; any other failure may be one
            // of this handle (a network file system that went away), which a new one gets over.
            if !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                self.open = None;
            }
            return Err(error);
        }
        open.torn = false;
        if self.sync && open.id.is_some() {
            // After a failed sync nobody knows what is on the disk: the batch is written once more.
            open.out.sync()?;
        }
        Ok(())
    }

    fn reopen_if_asked(&mut self) {
        if self.reopen.swap(false, Relaxed) {
            self.open = None;
            if let Err(why) = self.opened() {
                tracing::warn!(error = %why, "a file sink could not open its file anew; events wait in the spool");
            }
        }
    }

    /// Lets go of a file that the path no longer leads to.
    fn look(&mut self) {
        let now = (self.now)();
        // A clock that was set back makes the look due as well.
        if now.duration_since(self.looked).is_ok_and(|since| since < LOOK) {
            return;
        }
        self.looked = now;
        let Some(open) = &mut self.open else { return };
        let Some(id) = open.id else { return };
        match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == id => open.len = found.len(),
            _ => self.open = None,
        }
    }

    /// The open file; opens it if need be.
    fn opened(&mut self) -> Result<&mut Open, SinkError> {
        if self.open.is_none() {
            let opened = open_file(&self.path, self.mode, (self.now)());
            self.open = Some(opened.map_err(|source| self.error("cannot open", source))?);
        }
        // It was put there just now; the error is for the compiler.
        self.open.as_mut().ok_or_else(|| SinkError::Other("the file is not open".into()))
    }

    fn error(&self, what: &str, source: io::Error) -> SinkError {
        SinkError::Io { what: format!("{what} {}", self.path.display()), source }
    }

    fn rotation_due(&self, more: u64) -> bool {
        let (Some(rotate), Some(open)) = (&self.rotate, &self.open) else { return false };
        if open.len == 0 || open.id.is_none() {
            return false;
        }
        let now = (self.now)();
        let left_alone =
            self.rotation_failed.is_some_and(|at| now.duration_since(at).is_ok_and(|since| since < ROTATE_AGAIN));
        let large = rotate.size.is_some_and(|size| open.len.saturating_add(more) > size);
        let old = rotate.age.is_some_and(|age| now.duration_since(open.born).is_ok_and(|lived| lived >= age));
        (large || old) && !left_alone
    }

    /// Moves the file to `.1` and those before it one further. The next write opens a new one.
    fn rotate(&mut self) {
        let Some(Rotate { keep, .. }) = self.rotate else { return };
        let id = self.open.as_ref().and_then(|open| open.id);
        match fs::metadata(&self.path) {
            Ok(found) if Some((found.dev(), found.ino())) == id => {}
            // Somebody else moved it a moment ago; what stands there now is not ours to move.
            _ => {
                self.open = None;
                return;
            }
        }
        match shift(&self.path, keep) {
            Ok(()) => {
                self.open = None;
                self.rotation_failed = None;
            }
            Err(error) => {
                if self.rotation_failed.is_none() {
                    let file = self.path.display();
                    tracing::warn!(%file, %error, "a file sink cannot rotate its file; it goes on in the old one");
                }
                self.rotation_failed = Some((self.now)());
            }
        }
    }
}

/// `path.1` to `path.2` and so on, then `path` to `path.1`. Only up to the first number that is
/// free, so that a shift that was broken off goes on where it stopped and loses no file; if none
/// is free, the oldest is replaced.
fn shift(path: &Path, keep: u64) -> io::Result<()> {
    let free = (1..keep).find(|n| fs::symlink_metadata(numbered(path, *n)).is_err()).unwrap_or(keep);
    for n in (1..free).rev() {
        fs::rename(numbered(path, n), numbered(path, n + 1))?;
    }
    fs::rename(path, numbered(path, 1))
}

fn numbered(path: &Path, n: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

fn open_file(path: &Path, mode: Option<u32>, now: SystemTime) -> io::Result<Open> {
    let mut options = OpenOptions::new();
    options.append(true).mode(mode.unwrap_or(DEFAULT_MODE));
    let file = match options.clone().create_new(true).open(path) {
        Ok(file) => {
            // The umask narrowed it; a mode that was asked for is given exactly.
            if let Some(mode) = mode {
                file.set_permissions(fs::Permissions::from_mode(mode))?;
            }
            file
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.create(true).open(path)?,
        Err(error) => return Err(error),
    };
    let found = file.metadata()?;
    let regular = found.is_file();
    Ok(Open {
        id: regular.then(|| (found.dev(), found.ino())),
        len: if regular { found.len() } else { 0 },
        // Where the file system does not tell when a file was made, its last write is the best
        // guess left after a restart.
        born: found.created().or_else(|_| found.modified()).unwrap_or(now),
        torn: regular && found.len() > 0 && ends_mid_line(path, found.len()),
        out: Box::new(file),
    })
}

/// True if the last byte is known to end no line: a machine that went down in the middle of a write.
fn ends_mid_line(path: &Path, len: u64) -> bool {
    let mut last = [b'\n'];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut last, len.saturating_sub(1)));
    read.is_ok() && last != [b'\n']
}
