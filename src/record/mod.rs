//! A recorder safe by construction: exchanges of live traffic as HAR files that hold no secret.
//!
//! What is not known to be harmless is replaced before it is written, and kept nowhere; see [`scrub`].
//! Names, structure, lengths and kinds of characters stay, and one secret has one placeholder within a
//! recording, so that sessions, tokens and flows still join up and rules decide as they did. Bounded in
//! entries and bytes; what does not fit is counted. Files belong to their owner alone, and appear under
//! their name only when they are whole.

mod entry;
mod page;
mod placeholder;
pub mod scrub;
mod vocabulary;

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub use page::page;
use scrub::Scrubber;
pub use vocabulary::Vocabulary;

use crate::exchange::Exchange;
use crate::session::key;

/// The most entries of a recording.
pub const MAX_ENTRIES: usize = 50_000;
/// The most bytes of a recording.
pub const MAX_BYTES: usize = 512 << 20;
/// After how many entries another file is begun.
const FILE_ENTRIES: usize = 500;
/// After how many bytes.
const FILE_BYTES: usize = 8 << 20;

/// Writes a recording.
pub struct Recorder {
    folder: PathBuf,
    scrubber: Scrubber,
    waiting: Vec<String>,
    bytes: usize,
    written: Written,
    failed: Option<io::Error>,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Entries, those that wait for their file among them.
    pub entries: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Files.
    pub files: usize,
    /// Exchanges for which there was no room, or whose file could not be written.
    pub left_out: usize,
}

impl Recorder {
    /// A recording in this folder, which is made if it is not there. `routes` is the text of a
    /// configuration whose routes are to decide alike: the words they look for are kept.
    ///
    /// # Errors
    /// The folder cannot be made, or holds a recording already.
    pub fn create(folder: &Path, routes: Option<&str>) -> io::Result<Recorder> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        for entry in std::fs::read_dir(folder)? {
            if entry?.path().extension().is_some_and(|end| end.eq_ignore_ascii_case("har")) {
                return Err(io::Error::new(
                    ErrorKind::AlreadyExists,
                    "it holds a recording already; name another folder",
                ));
            }
        }
        let mut vocabulary = Vocabulary::default();
        routes.into_iter().for_each(|routes| vocabulary.add_routes(routes));
        Ok(Recorder {
            folder: folder.to_owned(),
            scrubber: Scrubber::new(key::fresh()?, vocabulary),
            waiting: Vec::new(),
            bytes: 0,
            written: Written::default(),
            failed: None,
        })
    }

    /// Records an exchange, or counts it where there is no room.
    pub fn record(&mut self, exchange: &Exchange) {
        let full = self.written.entries >= MAX_ENTRIES || self.written.bytes >= MAX_BYTES;
        if full || self.failed.is_some() {
            self.written.left_out += 1;
            return;
        }
        let text = self.entry(exchange);
        self.bytes += text.len();
        self.written.bytes += text.len();
        self.written.entries += 1;
        self.waiting.push(text);
        if self.waiting.len() >= FILE_ENTRIES || self.bytes >= FILE_BYTES {
            self.flush();
        }
    }

    /// An exchange without its secrets. What is known for a secret only at its end may have stood at its
    /// beginning: then it is gone through once more.
    fn entry(&mut self, exchange: &Exchange) -> String {
        let known = self.scrubber.spelled();
        let made = entry::entry(exchange, &mut self.scrubber);
        match self.scrubber.spelled() == known {
            true => made.to_string(),
            false => entry::entry(exchange, &mut self.scrubber).to_string(),
        }
    }

    /// Writes what waits, and says what was written.
    ///
    /// # Errors
    /// A file could not be written; what came after it is left out.
    pub fn finish(mut self) -> io::Result<Written> {
        self.flush();
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.written),
        }
    }

    fn flush(&mut self) {
        let entries = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        if entries.is_empty() {
            return;
        }
        let name = format!("{:05}.har", self.written.files + 1);
        match write(&self.folder, &name, &entries) {
            Ok(()) => self.written.files += 1,
            Err(error) => {
                self.written.left_out += entries.len();
                self.failed = Some(error);
            }
        }
    }
}

fn write(folder: &Path, name: &str, entries: &[String]) -> io::Result<()> {
    let part = folder.join(format!("{name}.part"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    let creator = serde_json::json!({"name": "authtap", "version": env!("CARGO_PKG_VERSION")});
    let mut out = format!("{{\"log\":{{\"version\":\"1.2\",\"creator\":{creator},\"entries\":[\n");
    out.push_str(&entries.join(",\n"));
    out.push_str("\n]}}\n");
    file.write_all(out.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(part, folder.join(name))
}

#[cfg(test)]
mod tests;
