//! One process for one data folder.
//!
//! The lock is the operating system's on a file of its own, so it ends with the process however
//! that ends, and a file left behind means nothing. Two writers would give one position to two
//! events, which is why the second is refused instead of run beside the first.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The name of the file in the data folder.
pub const FILE: &str = "lock";

/// Held as long as it lives.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held, not used")] File);

/// Why there is no lock.
#[derive(Debug)]
pub enum LockError {
    /// Another process has it; its id, if it could be read.
    Held(PathBuf, Option<u32>),
    /// The file cannot be had.
    Io(io::Error),
}

/// Takes the lock of a data folder.
pub fn take(folder: &Path) -> Result<Lock, LockError> {
    let path = folder.join(FILE);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(LockError::Io)?;
    match file.try_lock() {
        Ok(()) => {
            // For a person's eye only: that it cannot be written is no reason not to run.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            Ok(Lock(file))
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.take(32).read_to_string(&mut text);
            Err(LockError::Held(folder.to_owned(), text.trim().parse().ok()))
        }
        Err(TryLockError::Error(error)) => Err(LockError::Io(error)),
    }
}

/// True if a process holds the lock of this folder now.
pub fn is_held(folder: &Path) -> bool {
    File::open(folder.join(FILE)).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_once_and_free_again_when_the_lock_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_held(folder.path()));
        let lock = take(folder.path()).unwrap();
        assert!(is_held(folder.path()));
        match take(folder.path()) {
            Err(LockError::Held(_, Some(pid))) => assert_eq!(pid, std::process::id()),
            other => panic!("{other:?}"),
        }
        drop(lock);
        assert!(take(folder.path()).is_ok());
    }
}
