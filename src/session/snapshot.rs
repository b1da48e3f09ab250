//! The session memory as bytes, and the file in which they outlive the process.
//!
//! [`Sessions::to_snapshot`] and [`Sessions::load_snapshot`] know the format, [`Keeper`] knows the
//! file; between them there are only bytes. The bytes carry a version and are sealed as a whole: what
//! was damaged, or made under another key, is refused whole and set aside, never half believed. The
//! file is replaced by renaming, on a thread of its own, so that the pipeline waits for no disk.
//!
//! Hashes of sessions stand in it, never sessions. Names of people do, whole even where `identity:`
//! hides them from events: without the key, which stands in another file, nobody reads them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use super::entry::Entry;
use super::lru::Lru;
use super::packed::Packed;
use super::sealed::Seal;
use super::{Handle, Sessions, key};

/// The first bytes; the last of them is the version of the format.
const MAGIC: &[u8; 8] = b"AUTHTAP\x02";
/// The largest file that is read: more than ten million sessions with names of the usual length.
const MAX_BYTES: u64 = 1 << 30;

const BOUND: u8 = 1;
const PENDING: u8 = 2;
const ACCOUNT: u8 = 3;
const LEARNT: u8 = 4;

/// Why a snapshot is not believed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Damage {
    /// Another format, or no snapshot at all.
    #[error("it is no snapshot of this version")]
    Format,
    /// It was cut or changed, or made under another key.
    #[error("its seal does not fit: it was damaged, or made under another key")]
    Seal,
}

impl Sessions {
    /// Everything that is to outlive the process, the longest unused first. `None` if it cannot be
    /// sealed: without random numbers, or in a build without a cryptographic library.
    pub fn to_snapshot(&self) -> Option<Vec<u8>> {
        let sealed = self.seal()?.seal(MAGIC, self.records())?;
        Some([&MAGIC[..], &sealed].concat())
    }

    fn seal(&self) -> Option<Seal> {
        Seal::new("authtap 2026 sealed snapshot of the session memory", &self.key)
    }

    fn records(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + 72 * (self.len() + self.accounts.len()));
        for (host, names) in self.learnt.iter() {
            for name in names {
                record(&mut out, LEARNT, &[host.as_bytes(), b"\0", name.as_bytes()]);
            }
        }
        for (handle, account) in self.accounts.iter() {
            record(&mut out, ACCOUNT, &[&handle.0, account.as_bytes()]);
        }
        for (kind, room) in [(PENDING, &self.pending), (BOUND, &self.bound)] {
            for (handle, entry) in room.iter() {
                record(&mut out, kind, &[&handle.0, &entry.to_bytes()]);
            }
        }
        out
    }

    /// Takes over what a snapshot holds, within the bounds of this memory; answers how many
    /// sessions there were in it.
    ///
    /// # Errors
    /// If the bytes are not to be believed; then nothing is taken over.
    pub fn load_snapshot(&mut self, bytes: &[u8]) -> Result<usize, Damage> {
        let sealed = bytes.strip_prefix(MAGIC).ok_or(Damage::Format)?;
        let records = self.seal().and_then(|seal| seal.open(MAGIC, sealed)).ok_or(Damage::Seal)?;
        Ok(self.take_records(&records))
    }

    /// Takes over what stands behind the seal, as far as it makes sense.
    pub fn take_records(&mut self, mut rest: &[u8]) -> usize {
        let mut sessions = 0;
        while let Some((kind, payload, after)) = next_record(rest) {
            rest = after;
            match kind {
                BOUND => sessions += usize::from(take_entry(&mut self.bound, payload)),
                PENDING => sessions += usize::from(take_entry(&mut self.pending, payload)),
                ACCOUNT => {
                    if let Some((handle, rest)) = payload.split_first_chunk::<16>()
                        && let Some(actor) = Packed::from_bytes(rest)
                    {
                        self.accounts.insert(Handle(*handle), actor);
                    }
                }
                LEARNT => {
                    let text = std::str::from_utf8(payload).ok().and_then(|t| t.split_once('\0'));
                    if let Some((host, name)) = text {
                        self.learnt.add(host, name);
                    }
                }
                // A kind of a later version: what is known is still right.
                _ => {}
            }
        }
        sessions
    }
}

/// Kind, length, payload. Texts are capped, so that no payload reaches the length's bound.
fn record(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let Ok(length) = u16::try_from(parts.iter().map(|p| p.len()).sum::<usize>()) else { return };
    out.push(kind);
    out.extend_from_slice(&length.to_le_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn next_record(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let ([kind, low, high], rest) = bytes.split_first_chunk::<3>()?;
    let (payload, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))?;
    Some((*kind, payload, rest))
}

fn take_entry(room: &mut Lru<Entry>, payload: &[u8]) -> bool {
    let taken = payload.split_first_chunk::<16>().and_then(|(handle, rest)| Some((*handle, Entry::from_bytes(rest)?)));
    taken.is_some_and(|(handle, entry)| {
        room.insert(Handle(handle), entry);
        true
    })
}

/// Keeps the memory in a file of the data directory. Without one, nothing outlives the process.
#[derive(Debug)]
pub struct Keeper {
    file: Option<PathBuf>,
    writer: Option<(SyncSender<Vec<u8>>, JoinHandle<()>)>,
}

impl Keeper {
    /// A keeper that keeps nothing.
    pub fn none() -> Keeper {
        Keeper { file: None, writer: None }
    }

    /// A keeper of the snapshot in the data directory, whatever key it is sealed under. In a build that
    /// cannot seal, a keeper of nothing, with one warning.
    pub fn of(data: &Path) -> Keeper {
        if !crate::tls::provider::COMPILED_IN {
            tracing::warn!(
                "remembered sessions are lost at the end: this build has no cryptographic library to seal them with"
            );
            return Keeper::none();
        }
        Keeper { file: Some(data.join("sessions.snapshot")), writer: None }
    }

    /// The key of the data directory and a keeper of its snapshot. Where the directory cannot be
    /// used, a key for this process and a keeper of nothing, with one warning.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn open(data: &Path) -> io::Result<([u8; 32], Keeper)> {
        match key::load_or_create(data) {
            Ok(key) => Ok((key, Keeper::of(data))),
            Err(error) => {
                tracing::warn!(data = %data.display(), "the data directory cannot be used ({error}): remembered sessions are lost at the end; make it writable, or name another with --data");
                Ok((key::fresh()?, Keeper::none()))
            }
        }
    }

    /// Fills a memory from the file. A file that is not to be believed is set aside.
    pub fn load(&self, sessions: &mut Sessions) {
        let Some(path) = &self.file else { return };
        let file = path.display();
        let problem = match read(path) {
            Ok(bytes) => match sessions.load_snapshot(&bytes) {
                Ok(count) => {
                    tracing::info!(%file, sessions = count, "remembered sessions are back");
                    return;
                }
                Err(damage) => damage.to_string(),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => error.to_string(),
        };
        let aside = path.with_extension("snapshot.damaged");
        let moved = fs::rename(path, &aside).is_ok();
        tracing::error!(%file, aside = %aside.display(), moved, "the snapshot of sessions cannot be used and is set aside: {problem}; sessions are known again after their next login");
    }

    /// True if something is kept at all.
    pub fn keeps(&self) -> bool {
        self.file.is_some()
    }

    /// Hands a snapshot to the writing thread; false if that still writes those before.
    pub fn save(&mut self, bytes: Vec<u8>) -> bool {
        let Some(path) = &self.file else { return true };
        if self.writer.is_none() {
            let (sender, receiver) = sync_channel::<Vec<u8>>(1);
            let path = path.clone();
            let writing = move || {
                let mut failing = false;
                for bytes in receiver {
                    match write(&path, &bytes) {
                        Ok(()) => failing = false,
                        // Said once, until it works again.
                        Err(error) if !failing => {
                            failing = true;
                            tracing::warn!(file = %path.display(), "remembered sessions could not be written: {error}");
                        }
                        Err(_) => {}
                    }
                }
            };
            match std::thread::Builder::new().name("session-memory".into()).spawn(writing) {
                Ok(thread) => self.writer = Some((sender, thread)),
                Err(_) => return false,
            }
        }
        let sent = self.writer.as_ref().map(|(sender, _)| sender.try_send(bytes));
        !matches!(sent, Some(Err(TrySendError::Full(_))))
    }

    /// Writes the last snapshot, if there is one, and waits until it is written.
    pub fn end(mut self, last: Option<Vec<u8>>) {
        if let Some((sender, thread)) = self.writer.take() {
            drop(sender);
            // Its panic was said already.
            let _ = thread.join();
        }
        if let (Some(path), Some(bytes)) = (&self.file, last)
            && let Err(error) = write(path, &bytes)
        {
            tracing::warn!(file = %path.display(), "remembered sessions could not be written: {error}");
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.len() > MAX_BYTES {
        return Err(io::Error::other("it is larger than a snapshot can be"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whole or not at all: written beside, made durable, then renamed.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let making = path.with_extension("snapshot.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&making)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&making, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
