//! Where the account's key and the certificates with their keys are kept: one file each, readable by
//! their owner only, replaced in one step. A file is named after what it is for, so that another
//! authority or another set of names never takes it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rustls_acme::{AccountCache, CertCache};

/// The most bytes of a file that are read: a chain of a hundred names has some ten thousand.
const MAX_BYTES: u64 = 1 << 20;

/// A folder of files.
#[derive(Clone, Debug)]
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    fn file(&self, what: &str, names: &[String], directory: &str) -> PathBuf {
        let mut hash = blake3::Hasher::new();
        for part in names.iter().map(String::as_str).chain([directory]) {
            hash.update(&(part.len() as u64).to_be_bytes()).update(part.as_bytes());
        }
        let hash = hash.finalize().to_hex();
        self.0.join(format!("{what}-{}.pem", hash.get(..32).unwrap_or_default()))
    }
}

fn load(file: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut content = Vec::new();
    match fs::File::open(file) {
        Ok(open) => open.take(MAX_BYTES).read_to_end(&mut content)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(told(file, &error)),
    };
    Ok(Some(content))
}

fn store(file: &Path, content: &[u8]) -> io::Result<()> {
    let write = || {
        if let Some(folder) = file.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let making = file.with_extension(format!("{}.new", std::process::id()));
        // One that was left behind may have been opened to others.
        let _ = fs::remove_file(&making);
        let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&making)?;
        new.write_all(content)?;
        new.sync_all()?;
        fs::rename(&making, file)
    };
    write().map_err(|error| told(file, &error))
}

fn told(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}; check the folder and its permissions", file.display()))
}

/// Files are small, but a disk may hang: never on the thread that also answers `/healthz`.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[async_trait]
impl CertCache for Folder {
    type EC = io::Error;

    async fn load_cert(&self, domains: &[String], directory: &str) -> io::Result<Option<Vec<u8>>> {
        let file = self.file("certificate", domains, directory);
        aside(move || load(&file)).await
    }

    async fn store_cert(&self, domains: &[String], directory: &str, cert: &[u8]) -> io::Result<()> {
        let (file, cert) = (self.file("certificate", domains, directory), cert.to_owned());
        aside(move || store(&file, &cert)).await
    }
}

#[async_trait]
impl AccountCache for Folder {
    type EA = io::Error;

    async fn load_account(&self, contact: &[String], directory: &str) -> io::Result<Option<Vec<u8>>> {
        let file = self.file("account", contact, directory).with_extension("key");
        aside(move || load(&file)).await
    }

    async fn store_account(&self, contact: &[String], directory: &str, account: &[u8]) -> io::Result<()> {
        let file = self.file("account", contact, directory).with_extension("key");
        let account = account.to_owned();
        aside(move || store(&file, &account)).await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_found_again_by_its_owner_and_its_names_only() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder(data.path().join("acme"));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (one, other) = (names(&["a.test", "b.test"]), names(&["a.testb.test"]));
        assert!(folder.load_cert(&one, "https://ca/").await.unwrap().is_none());
        folder.store_cert(&one, "https://ca/", b"first").await.unwrap();
        folder.store_cert(&one, "https://ca/", b"second").await.unwrap();
        folder.store_account(&one, "https://ca/", b"key").await.unwrap();
        assert_eq!(folder.load_cert(&one, "https://ca/").await.unwrap().as_deref(), Some(&b"second"[..]));
        assert_eq!(folder.load_account(&one, "https://ca/").await.unwrap().as_deref(), Some(&b"key"[..]));
        assert!(folder.load_cert(&other, "https://ca/").await.unwrap().is_none());
        assert!(folder.load_cert(&one, "https://other/").await.unwrap().is_none());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.0), 0o700);
        let files: Vec<_> = fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.iter().map(|file| mode(file)).collect::<Vec<_>>(), [0o600, 0o600], "{files:?}");
    }
}
