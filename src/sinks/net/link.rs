//! One receiver over TCP: how to connect to it, with TLS where that is configured.
//!
//! It must never send anything in clear where TLS was asked for, and never wait without a bound.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use rustls::ClientConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::address::Address;
use crate::config::node::{Map, Node};
use crate::config::problem::Problems;
use crate::sinks::SinkError;
use crate::tls::client::{ClientPlan, ClientTls};

/// After this much silence the system asks whether the receiver is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long a probe listens for a refusal of its certificate.
const REFUSAL: Duration = Duration::from_millis(300);

/// A connection, with or without TLS.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Wire for S {}

/// The checked settings of a connection. No file was looked at yet.
#[derive(Clone, Debug)]
pub struct LinkPlan {
    /// Where the receiver is.
    pub address: Address,
    /// TLS, if it is spoken.
    pub tls: Option<ClientPlan>,
    /// The time for one batch.
    pub timeout: Duration,
}

impl LinkPlan {
    /// Reads `address`, `tls` and `timeout`. `None` if there was an error.
    pub fn check(map: &Map<'_>, usual_port: Option<u16>, problems: &mut Problems) -> Option<LinkPlan> {
        let address = map.get("address").and_then(|at| Address::check(at, usual_port, problems));
        let tls = check_tls(map.get("tls"), problems);
        let timeout = super::check_timeout(map, problems);
        Some(LinkPlan { address: address?, tls: tls?, timeout: timeout? })
    }

    /// Reads the certificates; connects to nothing.
    ///
    /// # Errors
    /// A certificate cannot be had.
    pub fn build(&self, base: &Path) -> Result<Link, SinkError> {
        let tls = self.tls.as_ref().map(|plan| build_tls(plan, base, &self.address)).transpose()?;
        Ok(Link { address: self.address.clone(), tls, timeout: self.timeout })
    }
}

/// Reads `tls:`, which is `on`, `off` or a mapping. `Some(None)` is off, `None` an error.
pub fn check_tls(node: Option<&Node>, problems: &mut Problems) -> Option<Option<ClientPlan>> {
    let Some(node) = node else { return Some(None) };
    let settings = match node.scalar() {
        Some(_) if !node.bool(problems)? => return Some(None),
        Some(_) => None,
        None => Some(node),
    };
    ClientPlan::check_receiver(settings, problems).map(Some)
}

/// Reads the certificates of a `tls:` and tells its warnings.
///
/// # Errors
/// A certificate cannot be had.
pub fn build_tls(plan: &ClientPlan, base: &Path, address: &Address) -> Result<ClientTls, SinkError> {
    let tls = plan.build(base).map_err(|error| SinkError::Other(error.to_string()))?;
    for warning in tls.warnings() {
        tracing::warn!(receiver = %address, "{warning}");
    }
    Ok(tls)
}

/// A receiver that can be connected to.
pub struct Link {
    address: Address,
    tls: Option<ClientTls>,
    timeout: Duration,
}

impl Link {
    /// Where the receiver is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The time for one batch.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Connects, with the handshake.
    ///
    /// # Errors
    /// There is no connection, or no handshake, in time.
    pub async fn dial(&self) -> Result<Box<dyn Wire>, SinkError> {
        let connecting = async { self.secure(self.tcp().await?).await };
        match timeout(self.timeout, connecting).await {
            Ok(wire) => wire,
            Err(_) => Err(self.told(&format!("no connection within {:?}", self.timeout))),
        }
    }

    /// Connects without a handshake, for protocols that agree on TLS first. Has no bound of its own.
    ///
    /// # Errors
    /// There is no connection.
    pub async fn tcp(&self) -> Result<TcpStream, SinkError> {
        let stream = TcpStream::connect((self.address.host.as_str(), self.address.port)).await;
        let stream = stream.map_err(|error| self.told(&format!("no connection: {error}")))?;
        // Failure to set these costs latency, or a slower notice that the receiver is gone.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
        Ok(stream)
    }

    /// Performs the handshake, if TLS is spoken.
    ///
    /// # Errors
    /// There is no handshake.
    pub async fn secure(&self, stream: TcpStream) -> Result<Box<dyn Wire>, SinkError> {
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        match tls.connect(stream, &self.address.host, &[], self.timeout).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(self.told(&format!("no connection: {error}"))),
        }
    }

    /// True if TLS is spoken.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Connects, and waits a moment for a refusal of the certificate shown.
    ///
    /// # Errors
    /// There is no connection.
    pub async fn probe(&self) -> Result<(), SinkError> {
        let mut wire = self.dial().await?;
        // In TLS 1.3 the refusal of a client certificate comes after the handshake (RFC 8446
        // section 2).
        if self.tls.is_some()
            && let Ok(Err(error)) = timeout(REFUSAL, wire.read(&mut [0; 1])).await
        {
            return Err(self.told(&format!("the handshake was refused: {error}")));
        }
        Ok(())
    }

    /// An error that names the receiver.
    pub fn told(&self, what: &str) -> SinkError {
        SinkError::Other(format!("{}: {what}", self.address))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("address", &self.address).field("tls", &self.tls).finish_non_exhaustive()
    }
}

/// The same for a library that makes the handshake itself, by the name it connects to.
pub fn check_tls_of_library(node: Option<&Node>, problems: &mut Problems) -> Option<Option<ClientPlan>> {
    if let Some(at) = node.and_then(|node| node.child("sni")) {
        let hint = "connect to the name in the receiver's certificate";
        problems.error_hint(at, "`sni` cannot be chosen for this sink".into(), hint);
        return None;
    }
    check_tls(node, problems)
}

/// The settings for a library that makes the handshake itself. Without `tls:` they are the usual
/// ones, if there can be any: a library that is given none may ask for the provider of the
/// process, which is never set.
///
/// # Errors
/// A certificate cannot be had.
pub fn build_tls_of_library(plan: Option<&ClientPlan>, base: &Path) -> Result<Option<ClientConfig>, SinkError> {
    match plan {
        Some(plan) => {
            let tls = plan.build(base).map_err(|error| SinkError::Other(error.to_string()))?;
            for warning in tls.warnings() {
                tracing::warn!("{warning}");
            }
            Ok(Some(ClientConfig::clone(tls.config())))
        }
        None => {
            let usual = ClientPlan::check_receiver(None, &mut Problems::new("", ""));
            Ok(usual.and_then(|plan| plan.build(base).ok()).map(|tls| ClientConfig::clone(tls.config())))
        }
    }
}
