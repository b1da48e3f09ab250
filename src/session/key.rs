//! The key under which sessions are hashed, in a file that only its owner reads.
//!
//! Made at the first start. A key that others could read is taken away from them, and said: what
//! they may have copied is undone by deleting the file. Where no file can be kept, a key lives as
//! long as the process, and so does what is remembered.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// A key that no file knows.
///
/// # Errors
/// If the system has no random numbers.
pub fn fresh() -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(key)
}

/// The key in `<data>/keys/session.key`, made if there is none.
///
/// # Errors
/// If it can neither be read nor made.
pub fn load_or_create(data: &Path) -> io::Result<[u8; 32]> {
    let folder = data.join("keys");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let path = folder.join("session.key");
    match read(&path) {
        Ok(Some(key)) => return Ok(key),
        Ok(None) => {
            let aside = folder.join("session.key.damaged");
            fs::rename(&path, &aside)?;
            tracing::error!(file = %path.display(), aside = %aside.display(), "the session key has not 32 bytes and is set aside; a new one is made, and remembered sessions are forgotten");
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    create(&path)
}

/// `None` if the file has another length than a key.
fn read(path: &Path) -> io::Result<Option<[u8; 32]>> {
    let mut file = fs::File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let narrowed = file.set_permissions(Permissions::from_mode(0o600)).is_ok();
        let file = path.display();
        tracing::warn!(%file, mode = format!("{mode:03o}"), narrowed, "others could read the session key: delete the file and restart for a new one, if they may have");
    }
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(33).read_to_end(&mut bytes)?;
    Ok(<[u8; 32]>::try_from(bytes.as_slice()).ok())
}

fn create(path: &Path) -> io::Result<[u8; 32]> {
    let key = fresh()?;
    // Whole or not at all: a start that was cut short must not leave half a key. A second process
    // that starts at the same moment keeps whichever came first.
    let making = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&making)?;
    file.write_all(&key)?;
    file.sync_all()?;
    let linked = fs::hard_link(&making, path);
    fs::remove_file(&making)?;
    match linked {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            read(path)?.ok_or_else(|| io::Error::other("the session key was made twice at once"))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn the_key_is_made_once_for_its_owner_alone() {
        let data = tempfile::tempdir().expect("a folder");
        let key = load_or_create(data.path()).expect("made");
        let path = data.path().join("keys/session.key");
        assert_eq!((mode(&path), mode(&data.path().join("keys"))), (0o600, 0o700));
        assert_eq!(load_or_create(data.path()).expect("read"), key);
        assert_eq!(fs::read_dir(data.path().join("keys")).expect("listed").count(), 1, "nothing else is left");
    }

    #[test]
    fn a_key_that_others_could_read_is_narrowed() {
        let data = tempfile::tempdir().expect("a folder");
        let key = load_or_create(data.path()).expect("made");
        let path = data.path().join("keys/session.key");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("ours");
        assert_eq!(load_or_create(data.path()).expect("read"), key);
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn half_a_key_is_set_aside() {
        let data = tempfile::tempdir().expect("a folder");
        fs::create_dir(data.path().join("keys")).expect("made");
        let path = data.path().join("keys/session.key");
        fs::write(&path, b"half").expect("written");
        let key = load_or_create(data.path()).expect("made");
        assert_eq!(fs::read(&path).expect("there"), key);
        assert_eq!(fs::read(path.with_extension("key.damaged")).expect("there"), b"half");
    }
}
