//! How much one client, and all of them together, may ask of the proxy.
//!
//! The limits are a configuration section; [`Connections`] enforces those that count connections.
//! It is asked once a connection, never once a request, and must never refuse more than the limit
//! says or forget to give a place back: a place is a [`Permit`], which ends with its connection.
//!
//! The invariant: an address has an entry only while it has a connection that was counted for it,
//! so the map is never larger than the number of open connections.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{CONTENT_LENGTH, COOKIE};

use super::error::ProxyError;
use super::http2;
use super::message::Parts;
use crate::config::node::{Map, Node};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::descriptors::{self, Outward};

#[cfg(test)]
mod tests;

/// Least and most of `header_bytes`: what is read at once, and what nobody needs.
const HEADER_BYTES: (u64, u64) = (8 << 10, 1 << 20);
/// Least and most of `uri_bytes`. The `http` crate cannot hold a longer target.
const URI_BYTES: (u64, u64) = (256, 65_534);
/// Least and most of `headers`. A browser alone sends about twenty.
const HEADERS: (u64, u64) = (20, 4096);
/// What `headers` and `answer_headers` are by themselves.
pub(super) const USUAL_HEADERS: usize = 100;
/// The most of what is counted in connections, streams and requests.
const COUNT: u64 = 10_000_000;

/// The keys of `limits:`.
pub const FIELDS: &[Field] = &[
    Field::new(
        "connections",
        Kind::Int(0, COUNT),
        "10000",
        "connections open at once, over all threads; further ones are closed; 0 is no limit",
    ),
    Field::new(
        "connections_per_ip",
        Kind::Int(0, COUNT),
        "0",
        "the same for one address, or one /64 of IPv6; 0 is no limit, as behind a load balancer all have its address",
    ),
    Field::new("header_bytes", Kind::Size, "64KiB", "the head of a request: line and headers; then 431; 8KiB to 1MiB"),
    Field::new(
        "headers",
        Kind::Int(HEADERS.0, HEADERS.1),
        "100",
        "headers of a request; then 431; more than 128 cost an allocation a request",
    ),
    Field::new(
        "answer_headers",
        Kind::Int(HEADERS.0, HEADERS.1),
        "100",
        "headers of the application's answer over HTTP/1; then 502; more than 128 cost an allocation an answer",
    ),
    Field::new("uri_bytes", Kind::Size, "16KiB", "the target of a request; then 414; 256B to 65534B"),
    Field::new("request_body", Kind::Size, "0", "bytes of a request's body; then 413; 0 is no limit"),
    Field::new("streams_per_connection", Kind::Int(1, 100_000), "128", "requests at once on one HTTP/2 connection"),
    Field::new(
        "requests_per_connection",
        Kind::Int(0, COUNT),
        "0",
        "requests after which an HTTP/1 connection is closed in an orderly way; 0 is no limit",
    ),
    Field::new(
        "body_idle",
        Kind::Duration,
        "30s",
        "how long a body that has begun to arrive may stand still; 0 is no limit",
    ),
    Field::new(
        "answer_idle",
        Kind::Duration,
        "0",
        "how long the application's answer may stand still once it has begun; 0 is no limit, as event streams may be silent",
    ),
    Field::new(
        "keep_alive_idle",
        Kind::Duration,
        "75s",
        "how long a connection waits for its next request; 0 is no limit",
    ),
];

/// `limits:`, checked. Zero is no limit wherever the field's text says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once, over all threads.
    pub connections: u64,
    /// The same for one address.
    pub connections_per_ip: u64,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Headers of a request.
    pub headers: usize,
    /// Headers of an answer over HTTP/1.
    pub answer_headers: usize,
    /// Bytes of a request's target.
    pub uri_bytes: usize,
    /// Bytes of a request's body.
    pub request_body: u64,
    /// Requests at once on one HTTP/2 connection.
    pub streams_per_connection: u32,
    /// Requests after which a connection is closed.
    pub requests_per_connection: u64,
    /// How long a body may stand still.
    pub body_idle: Duration,
    /// How long an answer may stand still once it has begun.
    pub answer_idle: Duration,
    /// How long a connection waits for its next request.
    pub keep_alive_idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 10_000,
            connections_per_ip: 0,
            header_bytes: 64 << 10,
            headers: USUAL_HEADERS,
            answer_headers: USUAL_HEADERS,
            uri_bytes: 16 << 10,
            request_body: 0,
            streams_per_connection: 128,
            requests_per_connection: 0,
            body_idle: Duration::from_secs(30),
            answer_idle: Duration::ZERO,
            keep_alive_idle: Duration::from_secs(75),
        }
    }
}

impl Limits {
    /// Checks `limits:`; what is absent or wrong keeps its default.
    pub fn check(node: Option<&Node>, problems: &mut Problems) -> Limits {
        let mut limits = Limits::default();
        let Some(map) = node.and_then(|n| n.map(FIELDS, problems)) else { return limits };
        let (low, high) = HEADERS;
        for (key, range, slot) in [
            ("connections", 0..=COUNT, &mut limits.connections),
            ("connections_per_ip", 0..=COUNT, &mut limits.connections_per_ip),
            ("requests_per_connection", 0..=COUNT, &mut limits.requests_per_connection),
        ] {
            if let Some(found) = map.int(key, range, problems) {
                *slot = found;
            }
        }
        for (key, slot) in [("headers", &mut limits.headers), ("answer_headers", &mut limits.answer_headers)] {
            if let Some(found) = map.int(key, low..=high, problems) {
                *slot = usize::try_from(found).unwrap_or(*slot);
            }
        }
        if let Some(found) = map.int("streams_per_connection", 1..=100_000, problems) {
            limits.streams_per_connection = u32::try_from(found).unwrap_or(limits.streams_per_connection);
        }
        for (key, bounds, slot) in
            [("header_bytes", HEADER_BYTES, &mut limits.header_bytes), ("uri_bytes", URI_BYTES, &mut limits.uri_bytes)]
        {
            if let Some(found) = size_within(&map, key, bounds, problems) {
                *slot = found;
            }
        }
        if let Some(found) = map.size("request_body", problems) {
            limits.request_body = found;
        }
        for (key, slot) in [
            ("body_idle", &mut limits.body_idle),
            ("answer_idle", &mut limits.answer_idle),
            ("keep_alive_idle", &mut limits.keep_alive_idle),
        ] {
            if let Some(found) = map.duration(key, problems) {
                *slot = found;
            }
        }
        limits.warn_of_contradictions(&map, problems);
        limits
    }

    fn warn_of_contradictions(&self, map: &Map<'_>, problems: &mut Problems) {
        if let Some(at) = map.get("uri_bytes").filter(|_| self.uri_bytes > self.header_bytes) {
            let message = "the target is part of the head, so `header_bytes` limits it first".into();
            problems.warn(at, message, "raise `header_bytes` or lower `uri_bytes`");
        }
        let never = self.connections > 0 && self.connections_per_ip >= self.connections;
        if let Some(at) = map.get("connections_per_ip").filter(|_| never) {
            let message = "one address may have as many connections as all together".into();
            problems.warn(at, message, "lower `connections_per_ip`, or leave it out");
        }
    }

    /// Whether a head that came over HTTP/2 is within the limits, its size counted as RFC 9113 section
    /// 6.5.2 has it, the crumbs of a split `Cookie` as one line. Over HTTP/1 whoever reads heads sees to it.
    ///
    /// # Errors
    /// `HeadTooLarge` (431).
    pub fn admit_head(&self, parts: &Parts) -> Result<(), ProxyError> {
        let headers = &parts.headers;
        let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
        let authority = parts.uri.authority().map_or(0, |authority| authority.as_str().len());
        let lines = headers.iter().map(|(name, value)| name.as_bytes().len() + value.len() + http2::LINE);
        let bytes = lines.fold(target.saturating_add(authority), usize::saturating_add);
        let many =
            headers.len() > self.headers && headers.len() - headers.get_all(COOKIE).skip(1).count() > self.headers;
        if many || bytes > self.header_bytes { Err(ProxyError::HeadTooLarge) } else { Ok(()) }
    }

    /// Whether a request's target and announced body are within the limits.
    ///
    /// A body without `Content-Length` says nothing yet: count it as it arrives, with
    /// [`Limits::body_allows`]. What `Content-Length` says must have been checked by the HTTP
    /// parser; what is no number is left to it.
    ///
    /// # Errors
    /// `UriTooLong` (414) or `BodyTooLarge` (413).
    pub fn admit(&self, parts: &Parts) -> Result<(), ProxyError> {
        let target = match parts.uri.path_and_query() {
            Some(target) => target.as_str().len(),
            None => 0,
        };
        let authority = parts.uri.authority().map_or(0, |a| a.as_str().len());
        if target.saturating_add(authority) > self.uri_bytes {
            return Err(ProxyError::UriTooLong);
        }
        let announced = parts.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.trim().parse::<u64>().ok());
        self.body_allows(announced.unwrap_or(0))
    }

    /// Whether a body may be so long, in bytes.
    ///
    /// # Errors
    /// `BodyTooLarge` (413).
    pub fn body_allows(&self, bytes: u64) -> Result<(), ProxyError> {
        if self.request_body > 0 && bytes > self.request_body {
            return Err(ProxyError::BodyTooLarge);
        }
        Ok(())
    }
}

fn size_within(map: &Map<'_>, key: &str, (low, high): (u64, u64), problems: &mut Problems) -> Option<usize> {
    let size = map.size(key, problems)?;
    if let Some(at) = map.get(key).filter(|_| !(low..=high).contains(&size)) {
        problems.error(at, format!("expected a size from {low}B to {high}B, found {size}B"));
        return None;
    }
    usize::try_from(size).ok()
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// So many connections are open in all.
    #[error("too many connections: raise limits.connections, or the limit of file descriptors, if they are legitimate")]
    Total,
    /// So many connections of this address are open.
    #[error("too many connections of one address: raise limits.connections_per_ip if they are legitimate")]
    Address,
}

const SHARDS: usize = 64;
/// A shard whose map has had more room than this gives it back when it is empty.
const KEPT_ENTRIES: usize = 64;

type Shard = Mutex<HashMap<IpAddr, u64>>;

/// The open connections of all threads, counted.
///
/// The total is one atomic. Addresses are counted in a map of 64 locked parts, which one finds by a
/// hash keyed with this process's own randomness, so that nobody can aim all at one part; without
/// a limit for each address no lock is taken at all.
#[derive(Debug)]
pub struct Connections {
    limit: AtomicU64,
    limit_per_ip: AtomicU64,
    shards: Box<[Shard]>,
    hasher: RandomState,
    /// Those to the application.
    pub outward: Arc<Outward>,
    /// Connections open now.
    pub open: AtomicU64,
    /// Connections refused because of `connections`.
    pub refused_total: AtomicU64,
    /// Connections refused because of `connections_per_ip`.
    pub refused_address: AtomicU64,
}

/// As many connections as are wanted, or as there are file descriptors for; 0 is as many as there are.
fn within_descriptors(wanted: u64) -> u64 {
    match (wanted, descriptors::connections()) {
        (0, u64::MAX) => 0,
        (0, possible) => possible,
        (wanted, possible) => wanted.min(possible),
    }
}

impl Connections {
    /// None open yet.
    pub fn new(limits: &Limits) -> Arc<Connections> {
        let limit = within_descriptors(limits.connections);
        Arc::new(Connections {
            limit: AtomicU64::new(limit),
            limit_per_ip: AtomicU64::new(limits.connections_per_ip),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: RandomState::new(),
            outward: Outward::beside(limit),
            open: AtomicU64::new(0),
            refused_total: AtomicU64::new(0),
            refused_address: AtomicU64::new(0),
        })
    }

    /// Follows a reload. Connections that are open stay open, and those that were let in while
    /// there was no limit for an address are not counted for theirs.
    pub fn follow(&self, limits: &Limits) {
        let limit = within_descriptors(limits.connections);
        self.limit.store(limit, Relaxed);
        self.outward.follow(limit);
        self.limit_per_ip.store(limits.connections_per_ip, Relaxed);
    }

    /// A place for a connection from this address.
    ///
    /// # Errors
    /// What is full; it has been counted.
    pub fn try_enter(self: &Arc<Self>, ip: IpAddr) -> Result<Permit, Full> {
        let mut permit = self.try_enter_unnamed()?;
        permit.name(ip)?;
        Ok(permit)
    }

    /// A place for a connection whose client is not known yet, because a PROXY header will name
    /// it: call [`Permit::name`] then.
    ///
    /// # Errors
    /// `Full::Total`; it has been counted.
    pub fn try_enter_unnamed(self: &Arc<Self>) -> Result<Permit, Full> {
        let limit = self.limit.load(Relaxed);
        // Not added and taken back: an attempt that fails must not take the place of one that would not.
        let taken = self
            .open
            .fetch_update(Relaxed, Relaxed, |open| (limit == 0 || open < limit).then_some(open.saturating_add(1)));
        if taken.is_err() {
            self.refused_total.fetch_add(1, Relaxed);
            return Err(Full::Total);
        }
        Ok(Permit { connections: self.clone(), counted: None })
    }

    /// How many connections are counted for an address (for its /64, if it is IPv6).
    pub fn of(&self, ip: IpAddr) -> u64 {
        let key = key(ip);
        self.shard(key).lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied().unwrap_or(0)
    }

    fn shard(&self, key: IpAddr) -> &Shard {
        let at = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        &self.shards[at]
    }

    fn count(&self, key: IpAddr, limit: u64) -> Result<(), Full> {
        let mut shard = self.shard(key).lock().unwrap_or_else(PoisonError::into_inner);
        let count = shard.get(&key).copied().unwrap_or(0);
        if count >= limit {
            self.refused_address.fetch_add(1, Relaxed);
            return Err(Full::Address);
        }
        shard.insert(key, count.saturating_add(1));
        Ok(())
    }

    fn leave(&self, key: IpAddr) {
        let mut shard = self.shard(key).lock().unwrap_or_else(PoisonError::into_inner);
        match shard.get_mut(&key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                shard.remove(&key);
                if shard.is_empty() && shard.capacity() > KEPT_ENTRIES {
                    shard.shrink_to(0);
                }
            }
        }
    }
}

/// A client is who holds the address; of IPv6 everybody holds a /64 at least (RFC 6177 section 2).
fn key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

/// A connection's place; dropping it gives the place back.
#[derive(Debug)]
pub struct Permit {
    connections: Arc<Connections>,
    counted: Option<IpAddr>,
}

impl Permit {
    /// Counts the connection for this address, instead of the one it was counted for.
    ///
    /// # Errors
    /// `Full::Address`; it has been counted, and the connection should be closed.
    pub fn name(&mut self, ip: IpAddr) -> Result<(), Full> {
        if let Some(before) = self.counted.take() {
            self.connections.leave(before);
        }
        let limit = self.connections.limit_per_ip.load(Relaxed);
        if limit > 0 {
            let key = key(ip);
            self.connections.count(key, limit)?;
            self.counted = Some(key);
        }
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(key) = self.counted {
            self.connections.leave(key);
        }
        self.connections.open.fetch_sub(1, Relaxed);
    }
}
