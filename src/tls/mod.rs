//! TLS: on the listeners towards clients, and on the connections towards the application.
//!
//! [`server::ServerPlan`] and [`client::ClientPlan`] are checked without touching the world and
//! then built into [`server::ServerTls`] and [`client::ClientTls`], which every traffic thread
//! shares. [`client_hello`] reads what a client offered, and [`recorder`] keeps the bytes for it.
//!
//! Types of rustls leave this module only where a stream or a configuration must. It must never
//! lean on a process-wide default provider, and never put a key, or a line of a file that may hold
//! one, into an error. The invariant of a reload: a listener has at all times a whole and working
//! set of certificates, and connections that exist are not touched.

pub mod acme;
pub mod client;
pub mod client_hello;
mod der;
mod files;
#[cfg(test)]
pub(crate) mod fixture;
pub mod provider;
pub mod recorder;
pub mod server;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::node::Map;
use crate::config::problem::Problems;

/// The protocols that can be agreed on (RFC 7301).
const PROTOCOLS: &[&str] = &["h2", "http/1.1"];

/// What is known about a TLS connection, for events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// The name that the client asked for (RFC 6066 section 3), in lower case; absent for an address.
    pub sni: Option<String>,
    /// The protocol agreed on (RFC 7301): `h2` or `http/1.1`; absent if the client offered none.
    pub alpn: Option<String>,
    /// The cipher suite by its IANA name.
    pub cipher: Option<String>,
    /// The subject of the client's verified certificate (RFC 4514); absent without one.
    pub client_subject: Option<String>,
    /// The common name in that subject, as it is.
    pub client_name: Option<String>,
    /// The first e-mail address among that certificate's alternative names.
    pub client_email: Option<String>,
    /// The JA4 fingerprint of the client's hello; absent if the hello was too long to be kept.
    pub ja4: Option<String>,
}

/// One set of files that had changed.
#[derive(Debug)]
pub struct Refreshed {
    /// The configuration's name for it: `tls.cert` or `tls.client_auth.ca`.
    pub what: &'static str,
    /// The file; of a certificate with its key, the certificate's.
    pub file: PathBuf,
    /// Whether the new content is in use; if not, the old one still is.
    pub result: Result<(), TlsError>,
    /// What works, but hardly as meant.
    pub warnings: Vec<String>,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Neither cryptographic library was compiled in.
    #[error("{}", provider::MISSING)]
    NoProvider,
    /// The operating system refused.
    #[error("cannot read the {what} file {}: {source}; check the path and its permissions", file.display())]
    Read {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// What stands at the path is no file, or too large for one.
    #[error("the {what} file {} is {why}; name the file itself", file.display())]
    NoFile {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What it is instead.
        why: &'static str,
    },
    /// The file has a section that is not sound PEM. The section is not shown: it may be a key.
    #[error("the {what} file {} is not sound PEM: {why}; write it anew", file.display())]
    Pem {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// There is no certificate in it.
    #[error(
        "the {what} file {} has no certificate in it; it must hold one in PEM form, from `-----BEGIN CERTIFICATE-----` on",
        file.display()
    )]
    NoCertificate {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        file: PathBuf,
    },
    /// There is no key in it.
    #[error(
        "the key file {} has no private key in it; it must hold one in PEM form, from `-----BEGIN PRIVATE KEY-----` on",
        file.display()
    )]
    NoKey {
        /// The file.
        file: PathBuf,
    },
    /// The key is locked with a passphrase.
    #[error("the key in {} is locked with a passphrase; unlock it with `openssl pkey`", file.display())]
    LockedKey {
        /// The file.
        file: PathBuf,
    },
    /// The key is broken, or of a kind that TLS has no use for.
    #[error("the key in {} is damaged or of a kind that cannot be used; make an ECDSA, Ed25519 or RSA key", file.display())]
    BadKey {
        /// The file.
        file: PathBuf,
        /// What the cryptographic library says.
        source: rustls::Error,
    },
    /// The certificate is broken.
    #[error("the {what} file {} has a certificate that cannot be read: {source}; get it anew", file.display())]
    BadCertificate {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// The key is not the certificate's.
    #[error(
        "the key in {} does not belong to the certificate in {}; name the key it was made with, and let the server's own certificate stand first in its file",
        key.display(), cert.display()
    )]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The system has no certificate authorities.
    #[error(
        "the system has no certificate authorities to verify the other side with{0}; install them or name one with `ca`"
    )]
    NoRoots(String),
    /// rustls refuses the whole.
    #[error("the TLS settings cannot be used: {0}")]
    Setup(#[from] rustls::Error),
}

/// Why a connection did not become a TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer took too long.
    #[error("no TLS handshake within {0:?}")]
    TimedOut(Duration),
    /// The handshake failed; the source says on which side and why.
    #[error("the TLS handshake failed: {0}")]
    Failed(#[source] io::Error),
    /// The application's host is no name that a certificate could have.
    #[error("`{0}` is neither a host name nor an address; set `sni` to the name in the other side's certificate")]
    Name(String),
}

impl HandshakeError {
    /// True if the other side's certificate was the reason: its chain, its name, its dates.
    pub fn is_certificate(&self) -> bool {
        matches!(self.rustls(), Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
    }

    fn rustls(&self) -> Option<&rustls::Error> {
        match self {
            HandshakeError::Failed(error) => error.get_ref()?.downcast_ref(),
            _ => None,
        }
    }
}

/// The path of a file; `None` if it is missing, which the field's table reports, or empty.
fn path(map: &Map<'_>, key: &str, problems: &mut Problems) -> Option<PathBuf> {
    let at = map.get(key)?;
    let file = at.str(problems)?;
    if file.trim().is_empty() {
        problems.error_hint(at, "the path is empty".into(), "name a file");
        return None;
    }
    Some(file.into())
}

/// `alpn:`, in its order; an empty list is no protocol at all.
fn alpn_names(map: &Map<'_>, default: &[&'static str], problems: &mut Problems) -> Option<Vec<&'static str>> {
    let Some(at) = map.get("alpn") else { return Some(default.to_vec()) };
    let mut names = Vec::new();
    for item in at.items() {
        let name = item.one_of(PROTOCOLS, problems)?;
        if names.contains(&name) {
            problems.warn(item, format!("`{name}` stands twice"), "leave one of the two out");
        } else {
            names.push(name);
        }
    }
    Some(names)
}
