//! Reading certificates and keys from files, and telling whether a file has changed.
//!
//! A file may hold a private key even where none is expected, so no error ever shows a byte of one.
//! Blocks: called when the program starts, when it reloads, and from the refresh, never on a
//! traffic thread.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, crypto::CryptoProvider, sign::CertifiedKey};

use super::TlsError;

/// The largest file that is read: several times the bundle of every public authority.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

impl Stamp {
    /// The stamp of a file as it is now; `None` if there is none. To be taken *before* the file is
    /// read: a change in between is then seen at the next look, and not missed.
    pub(super) fn of(file: &Path) -> Option<Stamp> {
        let metadata = fs::metadata(file).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Stamp { modified: metadata.modified().ok(), len: metadata.len(), inode })
    }
}

/// A whole file. `what` names its content in messages.
pub(super) fn read(what: &'static str, file: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |source| TlsError::Read { what, file: file.to_owned(), source };
    let no_file = |why| TlsError::NoFile { what, file: file.to_owned(), why };
    // Opening a pipe would wait for somebody to write into it.
    if !fs::metadata(file).map_err(unreadable)?.is_file() {
        return Err(no_file("no file"));
    }
    let mut bytes = Vec::new();
    File::open(file).and_then(|opened| opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(no_file("larger than 4 MiB"));
    }
    Ok(bytes)
}

/// Every certificate in a file, at least one.
pub(super) fn certificates(what: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(what, file)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Pem { what, file: file.to_owned(), why: why(&error) })?;
    if found.is_empty() {
        return Err(TlsError::NoCertificate { what, file: file.to_owned() });
    }
    Ok(found)
}

/// The first private key in a file.
fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read("key", file)?;
    // `ENCRYPTED PRIVATE KEY` (RFC 7468 section 11), or a header of the older form.
    if bytes.split(|byte| *byte == b'\n').any(is_lock) {
        return Err(TlsError::LockedKey { file: file.to_owned() });
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey { file: file.to_owned() },
        error => TlsError::Pem { what: "key", file: file.to_owned(), why: why(&error) },
    })
}

fn is_lock(line: &[u8]) -> bool {
    line.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY") || line.starts_with(b"Proc-Type: 4,ENCRYPTED")
}

/// A certificate with its chain and key, proven to belong together, and what is to be warned of.
pub(super) fn certified_key(
    cert: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, Vec<String>), TlsError> {
    let chain = certificates("certificate", cert)?;
    let certified = CertifiedKey::from_der(chain, private_key(key)?, provider).map_err(|source| match source {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { cert: cert.to_owned(), key: key.to_owned() },
        rustls::Error::InvalidCertificate(_) => {
            TlsError::BadCertificate { what: "certificate", file: cert.to_owned(), source }
        }
        source => TlsError::BadKey { file: key.to_owned(), source },
    })?;
    let mut warnings = Vec::new();
    if fs::metadata(key).is_ok_and(|metadata| everybody_may_read(&metadata)) {
        warnings.push(format!(
            "the key file {} can be read by every user of this machine; take that right away with `chmod o-r`",
            key.display()
        ));
    }
    Ok((certified, warnings))
}

#[cfg(unix)]
fn everybody_may_read(metadata: &Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o004 != 0
}

#[cfg(not(unix))]
fn everybody_may_read(_: &Metadata) -> bool {
    false
}

/// The certificate authorities in a file.
pub(super) fn roots(what: &'static str, file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(what, file)? {
        roots.add(certificate).map_err(|source| TlsError::BadCertificate { what, file: file.to_owned(), source })?;
    }
    Ok(roots)
}

/// What is wrong with a section, in words that show nothing of it.
fn why(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is not well formed",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "a section cannot be read",
    }
}
