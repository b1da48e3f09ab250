//! Why authtap does not start, each with its remedy.

use std::io;

use crate::admin;
use crate::config::file::ReadError;
use crate::config::problem::Problems;
use crate::config::settings::ListenAt;
use crate::socket_activation;

/// Why authtap does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration has errors; they are shown with their places.
    #[error("{0}")]
    Config(Box<Problems>),
    /// A flag or variable says what cannot be.
    #[error("{0}")]
    Usage(String),
    /// The configuration file cannot be read.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// Nobody said where the application is.
    #[error(
        "no upstream: say where the application listens with `upstream:` in the file, or --upstream http://127.0.0.1:8000"
    )]
    NoUpstream,
    /// A port cannot be had.
    #[error("cannot listen on {address}: {source}{}", hint(.address, .source))]
    Bind {
        /// The address.
        address: ListenAt,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The admin listener would be open to others.
    #[error("{0}")]
    Admin(#[from] admin::AdminError),
    /// A database cannot be used.
    #[error("{0}")]
    Enrich(#[from] crate::enrich::EnrichError),
    /// The key of `identity` cannot be had.
    #[error("{0}")]
    Identity(#[from] crate::identity::IdentityError),
    /// A certificate or key cannot be used.
    #[error("{0}")]
    Tls(#[from] crate::tls::TlsError),
    /// The sockets of the service manager cannot be used.
    #[error("{0}")]
    Activation(#[from] socket_activation::ActivationError),
    /// The event store belongs to another process.
    #[error("{0}")]
    Store(#[from] crate::spool::store::StoreError),
    /// Sessions cannot be shared.
    #[error("session.share: {0}")]
    Share(crate::sinks::SinkError),
    /// A sink cannot be built.
    #[error("sink `{name}`: {source}")]
    Sink {
        /// Its name.
        name: String,
        /// Why.
        source: crate::sinks::SinkError,
    },
    /// The exporter of traces cannot be built.
    #[error("traces: {source}")]
    Traces {
        /// Why.
        source: crate::sinks::SinkError,
    },
    /// The access log cannot be opened.
    #[error("cannot open the access log {target}: {source}; its folder must be there and writable")]
    AccessLog {
        /// The file.
        target: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A thread or runtime cannot be had, or there is no randomness.
    #[error("cannot start: {0}")]
    System(io::Error),
}

fn hint(address: &ListenAt, error: &io::Error) -> &'static str {
    if let ListenAt::Unix(_) = address {
        return match error.kind() {
            io::ErrorKind::AddrInUse => "; another program listens there: stop it, or choose another path",
            io::ErrorKind::PermissionDenied => "; the folder must be writable",
            io::ErrorKind::NotFound => "; the folder must be there",
            _ => "",
        };
    }
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program has the port: stop it, or choose another with --listen (traffic) or --admin"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need the capability CAP_NET_BIND_SERVICE",
        _ => "",
    }
}
