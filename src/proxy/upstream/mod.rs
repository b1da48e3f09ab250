//! The application: its addresses, connections to them, and one request's way there.
//!
//! [`address`] reads where it listens, [`connect`] makes one connection, [`http1`] is one of HTTP/1.1, [`http2`]
//! drives one that requests share, [`pool`] keeps those of a traffic thread and sends requests, [`translate`] turns them into those of HTTP/2 and back,
//! [`health`] asks each address how it is. What all threads share is here: [`Upstream`], which never
//! changes; a reload makes a new one.

pub mod address;
mod again;
pub mod connect;
mod deadline;
pub mod health;
pub mod http1;
mod http2;
pub mod pool;
pub mod translate;
mod websocket;
pub(super) mod wire;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

pub use address::{Address, AddressError};
pub use connect::probe;
pub use pool::{Client, Lease, Pool};

use super::balance::{Balancer, Health, Upstreams};
use super::proxy_protocol;
use crate::config::node::Node;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::tls::TlsError;
use crate::tls::client::{ClientPlan, ClientTls};

/// The keys of `timeouts:`.
pub const TIMEOUT_FIELDS: &[Field] = &[
    Field::new("connect", Kind::Duration, "5s", "for a connection to the application; then 504"),
    Field::new("answer", Kind::Duration, "60s", "for the head of its answer; then 504"),
    Field::new(
        "upstream_idle",
        Kind::Duration,
        "1500ms",
        "how long an unused connection to it is kept; stay below its own keep-alive time",
    ),
    Field::new("header", Kind::Duration, "30s", "for a client to send the head of a request"),
    Field::new("drain", Kind::Duration, "10s", "for requests in flight when authtap is told to stop"),
];

/// Times allowed.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection to the application.
    pub connect: Duration,
    /// For the head of its answer.
    pub answer: Duration,
    /// How long an unused connection to it is kept.
    pub upstream_idle: Duration,
    /// For a client to send the head of a request.
    pub header: Duration,
    /// For requests in flight at the end.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(60),
            upstream_idle: Duration::from_millis(1500),
            header: Duration::from_secs(30),
            drain: Duration::from_secs(10),
        }
    }
}

impl Timeouts {
    /// Reads `timeouts:`.
    pub fn check(node: Option<&Node>, problems: &mut Problems) -> Timeouts {
        let mut timeouts = Timeouts::default();
        let Some(map) = node.and_then(|n| n.map(TIMEOUT_FIELDS, problems)) else { return timeouts };
        for (key, value) in [
            ("connect", &mut timeouts.connect),
            ("answer", &mut timeouts.answer),
            ("upstream_idle", &mut timeouts.upstream_idle),
            ("header", &mut timeouts.header),
            ("drain", &mut timeouts.drain),
        ] {
            let Some(found) = map.duration(key, problems) else { continue };
            // Zero ends the wait before it begins: every request would be refused.
            if found.is_zero()
                && key != "drain"
                && let Some(at) = map.get(key)
            {
                let hint = "take the key away for the usual time, or write a long one; it cannot be switched off";
                problems.error_hint(at, "no time at all is allowed".into(), hint);
            }
            *value = found;
        }
        timeouts
    }
}

/// What is spoken with the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, agreed on by ALPN in TLS, by prior knowledge without (RFC 9113 sections 3.2 and 3.3).
    Http2,
    /// What an `https:` address chooses in TLS; HTTP/1.1 without TLS.
    Auto,
}

impl Protocol {
    /// How they are written.
    pub(crate) const NAMES: &[&str] = &["http1", "h2", "auto"];

    /// Checks `protocol:`.
    pub(crate) fn check(node: &Node, problems: &mut Problems) -> Option<Protocol> {
        Some(match node.one_of(Protocol::NAMES, problems)? {
            "h2" => Protocol::Http2,
            "auto" => Protocol::Auto,
            _ => Protocol::Http1,
        })
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http1 => "http1",
            Protocol::Http2 => "h2",
            Protocol::Auto => "auto",
        }
    }

    /// What is left to find out at an address: without TLS there is nothing to agree on.
    fn towards(self, address: &Address) -> Protocol {
        match (self, address) {
            (Protocol::Auto, Address::Tcp(..) | Address::Unix(_)) => Protocol::Http1,
            (protocol, _) => protocol,
        }
    }
}

/// The application, for all traffic threads: where it listens, how it is spoken to, and which of
/// its addresses are in.
#[derive(Debug)]
pub struct Upstream {
    servers: Box<[Address]>,
    /// There if one of the addresses needs it.
    tls: Option<ClientTls>,
    protocol: Protocol,
    proxy_protocol: Option<proxy_protocol::Version>,
    health: Option<Health>,
    balancer: Balancer,
    since: Instant,
}

impl Upstream {
    /// Reads the files of `plan` (the default without one) if an address is `https:`. Relative paths
    /// are relative to `base`. Addresses beyond [`super::balance::MAX_SERVERS`] are never used.
    ///
    /// # Errors
    /// A certificate or key cannot be used, or the system has no authorities to verify with.
    pub fn build(upstreams: Upstreams, plan: Option<&ClientPlan>, base: &Path) -> Result<Upstream, TlsError> {
        let Upstreams { servers, protocol, proxy_protocol, health } = upstreams;
        let secured = servers.iter().any(|server| matches!(server, Address::Tls(..)));
        let tls = match plan {
            _ if !secured => None,
            Some(plan) => Some(plan.build(base)?),
            None => Some(ClientPlan::default().build(base)?),
        };
        for warning in tls.iter().flat_map(ClientTls::warnings) {
            tracing::warn!("{warning}");
        }
        let balancer = Balancer::new(servers.len());
        let servers = servers.into();
        Ok(Upstream { servers, tls, protocol, proxy_protocol, health, balancer, since: Instant::now() })
    }

    /// Takes over what is known of the addresses that were there before: a reload makes no address
    /// better than it is.
    pub fn inherit(&mut self, before: &Upstream) {
        // Ejections are counted in time since then.
        self.since = before.since;
        for (at, server) in self.servers.iter().enumerate() {
            if let Some(other) = before.servers.iter().position(|other| other == server) {
                self.balancer.inherit(at, &before.balancer, other, self.health.is_some());
            }
        }
    }

    /// Its addresses, in the order of the file.
    pub fn servers(&self) -> &[Address] {
        &self.servers
    }

    /// TLS towards it, if an address needs it.
    pub fn tls(&self) -> Option<&ClientTls> {
        self.tls.as_ref()
    }

    /// True if connections to it begin with a PROXY header, and so belong to one client.
    pub fn tells_client(&self) -> bool {
        self.proxy_protocol.is_some()
    }

    /// What `Host` says where the client sent none: the first address.
    pub fn host_header(&self) -> HeaderValue {
        self.servers.first().map_or(HeaderValue::from_static("localhost"), Address::host_header)
    }

    /// True if connections to `other` may serve for this one. With TLS they may not: the certificates
    /// may be others behind the same names.
    fn same_connections(&self, other: &Upstream) -> bool {
        let how = |upstream: &Upstream| (upstream.protocol, upstream.proxy_protocol);
        self.servers == other.servers && how(self) == how(other) && self.tls.is_none() && other.tls.is_none()
    }

    /// The time as the balancer counts it: milliseconds since this was built.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, server) in self.servers.iter().enumerate() {
            let before = if n == 0 { "" } else { ", " };
            write!(f, "{before}{server}")?;
        }
        Ok(())
    }
}
