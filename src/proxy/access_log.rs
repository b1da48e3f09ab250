//! The access log: one JSON line a request, off unless asked for.
//!
//! A traffic thread only offers its record to a bounded queue; one thread writes. It must never
//! hold a request back: a full queue or a failing disk costs lines, which are counted, and nothing
//! else. It must never hold a secret: no header, no cookie, no body, no query is in a record, and
//! of the path what looks like a token is masked.
//!
//! The invariant: every record that was offered is written once, or counted in `dropped`; a line is
//! written whole or ended before the next one.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::{Method, StatusCode, Version};
use prometheus_client::metrics::counter::Counter;
use serde::{Serialize, Serializer};

use crate::config::node::Node;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::event::Timestamp;
use crate::event::text::{MASK, Text, looks_like_a_token};
use crate::exchange::Ended;

#[cfg(test)]
mod tests;

/// The fields of `access_log:`.
pub const FIELDS: &[Field] = &[Field::required(
    "path",
    Kind::Str,
    "a file, relative to the folder of the configuration file and opened anew at SIGHUP; or stdout",
)];

/// What `access_log:` may be: off, or a mapping.
pub const KIND: Kind = Kind::Any(&[Kind::Word(&["off"]), Kind::Map(FIELDS)]);

/// How many records may wait for the writer.
const QUEUE: usize = 8192;
/// The most records of one write.
const BATCH: usize = 256;
/// The longest path of a record, in characters.
const MAX_PATH: usize = 1024;
/// Who may read the file: its owner and group.
const MODE: u32 = 0o640;

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, opened for appending.
    File(PathBuf),
}

impl Target {
    /// The same place, if what is relative is relative to `base`.
    pub fn within(&self, base: &Path) -> Target {
        match self {
            Target::Stdout => Target::Stdout,
            Target::File(path) => Target::File(base.join(path)),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Stdout => f.write_str("stdout"),
            Target::File(path) => path.display().fmt(f),
        }
    }
}

/// Checks `access_log:`. `None` if it is absent or off, or if there was an error.
pub fn check(node: Option<&Node>, problems: &mut Problems) -> Option<Target> {
    let node = node?;
    if node.scalar().is_some() {
        node.one_of(&["off"], problems);
        return None;
    }
    let path = node.map(FIELDS, problems)?.get("path")?;
    match path.str(problems)? {
        "stdout" => Some(Target::Stdout),
        text if text.is_empty() || text.ends_with('/') => {
            problems.error_hint(path, "`path` names no file".into(), "write one like access.jsonl, or stdout");
            None
        }
        text => Some(Target::File(text.into())),
    }
}

/// One request, as it is logged.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// When the head of the request had arrived.
    pub time: Timestamp,
    /// Who asked.
    pub client_ip: IpAddr,
    /// The method.
    #[serde(serialize_with = "as_str")]
    pub method: Method,
    /// The host asked for, without the port; absent if none was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Text>,
    /// The path without the query, masked by [`shown_path`].
    pub path: Text,
    /// The status; absent if the client left before there was one.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "status")]
    pub status: Option<StatusCode>,
    /// Bytes of the answer's body that were handed on.
    pub bytes: u64,
    /// From the head of the request to the end of the answer.
    #[serde(rename = "duration_ms", serialize_with = "millis")]
    pub duration: Duration,
    /// From the request's way to the application to the head of its answer; absent if it was not
    /// asked or did not answer.
    #[serde(rename = "upstream_ms", skip_serializing_if = "Option::is_none", serialize_with = "some_millis")]
    pub upstream: Option<Duration>,
    /// `x-request-id`; absent if the request was refused before it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Text>,
    /// What the client speaks: 1.0, 1.1 or 2.
    #[serde(serialize_with = "version")]
    pub version: Version,
    /// How it ended.
    pub ended: Ended,
}

fn as_str<S: Serializer>(method: &Method, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&Text::other(method.as_str()).as_ref().map_or("", Text::as_str))
}

fn status<S: Serializer>(status: &Option<StatusCode>, to: S) -> Result<S::Ok, S::Error> {
    status.map(|s| s.as_u16()).serialize(to)
}

/// Milliseconds with one decimal.
fn millis<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64((duration.as_secs_f64() * 10_000.0).round() / 10.0)
}

fn some_millis<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => millis(duration, to),
        None => to.serialize_none(),
    }
}

fn version<S: Serializer>(version: &Version, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match *version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    })
}

/// A path as it is logged: without its query, at most 1024 characters, and with [`MASK`] in the
/// place of each segment that looks like a token (reset links carry theirs in the path).
pub fn shown_path(path: &str) -> Text {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut shown = String::with_capacity(path.len().min(MAX_PATH));
    for (i, segment) in path.split('/').enumerate() {
        if i > 0 {
            shown.push('/');
        }
        shown.push_str(if looks_like_a_token(segment) { MASK } else { segment });
        if shown.len() > MAX_PATH * 4 {
            break;
        }
    }
    Text::capped(&shown, MAX_PATH).unwrap_or(Text::fixed("/"))
}

#[derive(Debug)]
enum Message {
    Record(Box<Record>),
    /// Look at the flags: a file that is to be opened anew should not wait for a request.
    Wake,
    /// Write what came before, and end.
    End,
}

#[derive(Debug)]
struct Shared {
    target: Target,
    reopen: AtomicBool,
    written: AtomicU64,
    dropped: Counter,
}

/// The way to the log; clones lead to the same one. It ends when the last clone is gone, or when
/// it is told to by [`AccessLog::end`].
#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
}

impl AccessLog {
    /// Opens the target and starts its thread, which ends when every [`AccessLog`] is gone and all
    /// is written; join it then. `dropped` counts the records that are lost; logs that follow one
    /// another may share it.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread be had.
    pub fn start(target: &Target, dropped: Counter) -> io::Result<(AccessLog, JoinHandle<()>)> {
        let out = match target {
            Target::Stdout => Out::Stdout,
            Target::File(path) => Out::File { file: Some(open(path)?), path: path.clone() },
        };
        AccessLog::to(out, target.clone(), QUEUE, dropped)
    }

    fn to(out: Out, target: Target, capacity: usize, dropped: Counter) -> io::Result<(AccessLog, JoinHandle<()>)> {
        let (queue, records) = sync_channel(capacity);
        let shared = Arc::new(Shared { target, reopen: AtomicBool::new(false), written: AtomicU64::new(0), dropped });
        let writer = Writer { out, shared: shared.clone(), text: Vec::new(), torn: false, failing: false };
        let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || writer.run(&records))?;
        Ok((AccessLog { queue, shared }, thread))
    }

    /// Offers a record; never waits. If there is no room it is dropped and counted.
    fn offer(&self, record: Box<Record>) {
        if self.queue.try_send(Message::Record(record)).is_err() {
            self.shared.dropped.inc();
        }
    }

    /// Lets the thread end once everything offered so far is written, whoever still has the log;
    /// records that come later are dropped and counted. Waits while the queue is full.
    pub fn end(&self) {
        // It may have ended before: then there is nobody to tell.
        let _ = self.queue.send(Message::End);
    }

    /// Opens the file anew before the next line, for whoever has moved it away.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Relaxed);
        // If the queue is full, the writer is awake anyhow.
        let _ = self.queue.try_send(Message::Wake);
    }

    /// Where it goes.
    pub fn target(&self) -> &Target {
        &self.shared.target
    }

    /// Lines written.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Relaxed)
    }

    /// Records lost, because the queue was full or the target failed.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.get()
    }

    /// Begins the record of a request. It is offered when the [`Entry`] is dropped.
    pub fn begin(&self, client_ip: IpAddr, method: &Method, host: &str, path: &str, version: Version) -> Entry {
        let record = Record {
            time: Timestamp::now(),
            client_ip,
            method: method.clone(),
            host: Text::other(host),
            path: shown_path(path),
            status: None,
            bytes: 0,
            duration: Duration::ZERO,
            upstream: None,
            request_id: None,
            version,
            ended: Ended::ClientGone,
        };
        Entry { log: self.clone(), record: Some(Box::new(record)), began: Instant::now() }
    }
}

/// The record of a request that is on its way. Whatever its ending, it is logged once: dropped
/// without [`Entry::finish`], as `client_gone`.
#[derive(Debug)]
pub struct Entry {
    log: AccessLog,
    record: Option<Box<Record>>,
    began: Instant,
}

impl Entry {
    /// Its id.
    pub fn request_id(&mut self, id: &str) {
        if let Some(record) = &mut self.record {
            record.request_id = Text::other(id);
        }
    }

    /// The head of the answer; `upstream` is how long the application took for it, if it was asked.
    pub fn answered(&mut self, status: StatusCode, upstream: Option<Duration>) {
        if let Some(record) = &mut self.record {
            record.status = Some(status);
            record.upstream = upstream;
        }
    }

    /// So many bytes more of the answer's body were handed on.
    pub fn sent(&mut self, bytes: usize) {
        if let Some(record) = &mut self.record {
            record.bytes = record.bytes.saturating_add(bytes as u64);
        }
    }

    /// The end. What comes after it is not logged.
    pub fn finish(&mut self, ended: Ended) {
        if let Some(mut record) = self.record.take() {
            record.ended = ended;
            record.duration = self.began.elapsed();
            self.log.offer(record);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.finish(Ended::ClientGone);
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

enum Out {
    Stdout,
    File {
        path: PathBuf,
        file: Option<File>,
    },
    #[cfg(test)]
    Other(Box<dyn Write + Send>),
}

impl Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Out::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()
            }
            Out::File { path, file } => {
                let file = match file {
                    Some(file) => file,
                    None => file.insert(open(path)?),
                };
                file.write_all(bytes)
            }
            #[cfg(test)]
            Out::Other(out) => out.write_all(bytes),
        }
    }
}

struct Writer {
    out: Out,
    shared: Arc<Shared>,
    text: Vec<u8>,
    /// A write failed and may have left half a line.
    torn: bool,
    failing: bool,
}

impl Writer {
    fn run(mut self, records: &Receiver<Message>) {
        while let Ok(first) = records.recv() {
            self.text.clear();
            let (mut lines, mut ends) = (0u64, false);
            for message in std::iter::once(first).chain(records.try_iter().take(BATCH - 1)) {
                let record = match message {
                    Message::Record(record) => record,
                    Message::Wake => continue,
                    Message::End => {
                        ends = true;
                        break;
                    }
                };
                // Of what a record holds nothing can fail to be written as JSON.
                if serde_json::to_writer(&mut self.text, &record).is_ok() {
                    self.text.push(b'\n');
                    lines += 1;
                }
            }
            if self.shared.reopen.swap(false, Relaxed) {
                self.reopen();
            }
            if lines > 0 {
                self.write(lines);
            }
            if ends {
                // What slipped in behind the end is lost, and counted like all that is.
                let late = records.try_iter().filter(|message| matches!(message, Message::Record(_))).count();
                self.shared.dropped.inc_by(late as u64);
                return;
            }
        }
    }

    /// Opens the path anew. What the old file still has open is better than nothing, so it is
    /// given up only for a new one.
    fn reopen(&mut self) {
        let Out::File { path, file } = &mut self.out else { return };
        match open(path) {
            Ok(new) => {
                *file = Some(new);
                self.torn = false;
            }
            Err(error) => tracing::error!(file = %path.display(), "cannot open the access log anew: {error}"),
        }
    }

    fn write(&mut self, lines: u64) {
        if self.torn {
            self.text.insert(0, b'\n');
        }
        match self.out.write(&self.text) {
            Ok(()) => {
                self.shared.written.fetch_add(lines, Relaxed);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the access log is written again");
                }
                self.torn = false;
            }
            Err(error) => {
                self.shared.dropped.inc_by(lines);
                self.torn = true;
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!("the access log cannot be written, its lines are lost: {error}");
                }
            }
        }
    }
}
