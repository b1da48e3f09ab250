//! The PROXY protocol (HAProxy's `proxy-protocol.txt` of 2020/03/05, versions 1 and 2): who a
//! connection is from, told by the load balancer in front of authtap, and told to the application.
//!
//! It must never believe a stranger: a header from a peer that is not trusted is an attempt to
//! choose one's own address and ends the connection. It must never guess: what begins like a header
//! and is none is refused, not handed on as a request. It reads a bounded number of bytes in a
//! bounded time.
//!
//! The invariant: [`Accepted::peer`] is either the other end of the connection or an address that a
//! trusted peer named, and `rest` followed by the stream is every byte after the header, in order.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use ipnet::IpNet;
use pin_project_lite::pin_project;
use proxy_header::{ParseConfig, Protocol, ProxiedAddress, ProxyHeader, Tlv};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::client_ip::{ClientIp, Trusted, check_net};
use crate::config::node::Node;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};

#[cfg(test)]
mod tests;

/// The longest header that is read, in bytes: 232 for version 2 with the longest addresses, and 536
/// for its TLVs (section 2.2: what every sender may count on).
pub const MAX_HEADER_BYTES: usize = 536 + 232;

/// The longest line of version 1 with its CRLF (section 2.1).
const MAX_V1_BYTES: usize = 107;
/// What version 1 begins with. The space tells it from a request whose method begins so.
const V1: &[u8] = b"PROXY ";
/// What version 2 begins with (section 2.2).
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The bytes of version 2 before its addresses.
const V2_HEAD_BYTES: usize = 16;
/// The longest name that is kept of an authority TLV (RFC 1035 section 2.3.4).
const MAX_AUTHORITY_BYTES: usize = 255;

const PP2_TYPE_CRC32C: u8 = 0x03;

/// The fields of a listener's `proxy_protocol:` in its long form.
pub const FIELDS: &[Field] = &[
    Field::new(
        "trusted",
        Kind::OneOrList(&Kind::Str),
        "",
        "addresses and CIDRs of the load balancers that send the header; without it those of client_ip.trusted_proxies",
    ),
    Field::new(
        "required",
        Kind::Bool,
        "on",
        "whether a connection of theirs without the header is closed; off lets their health checks in",
    ),
];

/// What a listener's `proxy_protocol:` may be: on, off, or a mapping.
pub const KIND: Kind = Kind::Any(&[Kind::Bool, Kind::Map(FIELDS)]);

const VERSIONS: &[&str] = &["off", "v1", "v2"];

/// What `proxy_protocol:` towards the application may be.
pub const OUT_KIND: Kind = Kind::Word(VERSIONS);

/// Whose headers a listener believes.
#[derive(Clone, Debug)]
pub struct Policy {
    trusted: Trusted,
    required: bool,
}

impl Policy {
    /// Believes these networks. With `required` a connection of theirs without a header is refused.
    pub fn new(trusted: &[IpNet], required: bool) -> Policy {
        Policy { trusted: Trusted::new(trusted), required }
    }

    /// Checks a listener's `proxy_protocol:`. `None` if it is absent or off, or if there was an
    /// error. That nobody is trusted is an error, because then every header would be refused.
    pub fn check(node: Option<&Node>, client_ip: &ClientIp, problems: &mut Problems) -> Option<Policy> {
        let node = node?;
        let (own, required) = match node.scalar() {
            Some(_) => {
                if !node.bool(problems)? {
                    return None;
                }
                (None, true)
            }
            None => {
                let map = node.map(FIELDS, problems)?;
                let own: Option<Option<Vec<IpNet>>> = map.get("trusted").map(|trusted| {
                    let nets: Vec<Option<IpNet>> =
                        trusted.items().iter().map(|item| check_net(item, problems)).collect();
                    nets.into_iter().collect()
                });
                let required = match map.get("required") {
                    Some(required) => required.bool(problems)?,
                    None => true,
                };
                match own {
                    Some(nets) => (Some(nets?), required),
                    None => (None, required),
                }
            }
        };
        let trusted = own.map_or_else(|| client_ip.trusted().clone(), |nets| Trusted::new(&nets));
        if trusted.is_empty() {
            problems.error_hint(
                node,
                "nobody is trusted to send the PROXY header, so every connection with one would be closed".into(),
                "name the load balancers in `trusted`, or in client_ip.trusted_proxies",
            );
            return None;
        }
        Some(Policy { trusted, required })
    }

    /// True if this peer may say who its client is.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.contains(peer.to_canonical())
    }
}

/// A connection whose beginning has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Who it is from; its address is canonical.
    pub peer: SocketAddr,
    /// Where the client connected to, if a header says so.
    pub local: Option<SocketAddr>,
    /// Bytes that were read and belong to the next layer: put a [`Prefixed`] before the stream.
    pub rest: Bytes,
    /// What the header says about TLS and the name asked for, if anything.
    pub tls: Option<Tls>,
}

/// What the TLVs of version 2 say about the client's connection (section 2.2.2 and 2.2.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// True if the client speaks TLS with the load balancer (PP2_CLIENT_SSL).
    pub encrypted: bool,
    /// The name the client asked for (PP2_TYPE_AUTHORITY, its SNI): visible ASCII, at most 255
    /// bytes. The client chose it.
    pub authority: Option<Box<str>>,
}

/// Why a connection is closed before its first request.
#[derive(Debug, thiserror::Error)]
pub enum ProxyProtocolError {
    /// A header from somebody who may not send one.
    #[error("a PROXY header from a peer that is not trusted: if it is a load balancer, add it to `trusted`")]
    Untrusted,
    /// No header from somebody who must send one.
    #[error("no PROXY header from a trusted peer: turn it on there, or set `required: off`")]
    Missing,
    /// It begins like a header and is none; the text says where.
    #[error("malformed PROXY header: {0}")]
    Malformed(&'static str),
    /// The header is longer than is read.
    #[error("the PROXY header is longer than {MAX_HEADER_BYTES} bytes: let the sender leave out TLVs")]
    TooLong,
    /// The header's CRC32c is not that of its bytes.
    #[error("the checksum of the PROXY header is wrong")]
    Checksum,
    /// The other end closed before the header was complete.
    #[error("the connection was closed before its PROXY header was complete")]
    Closed,
    /// The header did not arrive in time.
    #[error("the PROXY header did not arrive in time")]
    Timeout,
    /// The connection broke.
    #[error("the connection broke before its PROXY header was complete: {0}")]
    Io(#[from] io::Error),
}

impl ProxyProtocolError {
    /// A word for metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            ProxyProtocolError::Untrusted => "untrusted",
            ProxyProtocolError::Missing => "missing",
            ProxyProtocolError::Malformed(_) => "malformed",
            ProxyProtocolError::TooLong => "too_long",
            ProxyProtocolError::Checksum => "checksum",
            ProxyProtocolError::Closed => "closed",
            ProxyProtocolError::Timeout => "timeout",
            ProxyProtocolError::Io(_) => "io",
        }
    }
}

/// Reads the header of a new connection, if there is one, within `timeout`.
///
/// A header of version 2 is read exactly. What follows a line of version 1, or stands in the place
/// of a header, may be read too (at most [`MAX_HEADER_BYTES`] in all) and is then in
/// [`Accepted::rest`]. A LOCAL command, UNKNOWN, and addresses of Unix sockets leave the real peer.
///
/// # Errors
/// Every error means that the connection must be closed without an answer.
pub async fn read<S>(
    stream: &mut S,
    peer: SocketAddr,
    policy: &Policy,
    timeout: Duration,
) -> Result<Accepted, ProxyProtocolError>
where
    S: AsyncRead + Unpin,
{
    tokio::time::timeout(timeout, read_unbounded(stream, peer, policy))
        .await
        .unwrap_or(Err(ProxyProtocolError::Timeout))
}

async fn read_unbounded<S>(stream: &mut S, peer: SocketAddr, policy: &Policy) -> Result<Accepted, ProxyProtocolError>
where
    S: AsyncRead + Unpin,
{
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let trusted = policy.trusts(peer.ip());
    let mut buffer = [0u8; MAX_HEADER_BYTES];
    let mut filled = 0usize;
    loop {
        let bytes = buffer.get(..filled).unwrap_or_default();
        if !trusted && begins(bytes) == Begins::Header {
            return Err(ProxyProtocolError::Untrusted);
        }
        let wanted = match look(bytes)? {
            Look::Absent if trusted && policy.required => return Err(ProxyProtocolError::Missing),
            Look::Absent => {
                return Ok(Accepted { peer, local: None, rest: Bytes::copy_from_slice(bytes), tls: None });
            }
            Look::Header(header, len) => {
                let rest = Bytes::copy_from_slice(bytes.get(len..).unwrap_or_default());
                let (client, local) = header.addresses.map_or((peer, None), |(client, local)| (client, Some(local)));
                return Ok(Accepted { peer: client, local, rest, tls: header.tls });
            }
            Look::More(wanted) => wanted,
        };
        let end = filled.saturating_add(wanted).min(MAX_HEADER_BYTES);
        let Some(room) = buffer.get_mut(filled..end).filter(|room| !room.is_empty()) else {
            return Err(ProxyProtocolError::TooLong);
        };
        match stream.read(room).await? {
            0 => return Err(ProxyProtocolError::Closed),
            n => filled = filled.saturating_add(n),
        }
    }
}

/// What a header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Client and destination, canonical; `None` if the header leaves the real ones.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// What it says about TLS.
    pub tls: Option<Tls>,
}

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// No header, whatever follows.
    Absent,
    /// Not known yet. At most so many bytes (at least one) should be read before the next look.
    More(usize),
    /// A header of this many bytes.
    Header(Header, usize),
}

/// Looks at the first bytes of a connection. The answer for more bytes of the same connection is
/// the same, once it is not [`Look::More`].
///
/// # Errors
/// `Malformed`, `TooLong` or `Checksum` for what begins like a header and is none.
pub fn look(bytes: &[u8]) -> Result<Look, ProxyProtocolError> {
    match begins(bytes) {
        Begins::Other => Ok(Look::Absent),
        Begins::Maybe => Ok(Look::More(V2_HEAD_BYTES.saturating_sub(bytes.len()).max(1))),
        Begins::Header if bytes.starts_with(V1) => look_v1(bytes),
        Begins::Header => look_v2(bytes),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    Header,
    Other,
    Maybe,
}

fn begins(bytes: &[u8]) -> Begins {
    if bytes.starts_with(V1) || bytes.starts_with(V2) {
        Begins::Header
    } else if V1.starts_with(bytes) || V2.starts_with(bytes) {
        Begins::Maybe
    } else {
        Begins::Other
    }
}

fn look_v1(bytes: &[u8]) -> Result<Look, ProxyProtocolError> {
    let window = bytes.get(..MAX_V1_BYTES).unwrap_or(bytes);
    let Some(end) = window.iter().position(|b| *b == b'\n') else {
        let left = MAX_V1_BYTES.saturating_sub(bytes.len());
        return if left == 0 { Err(ProxyProtocolError::TooLong) } else { Ok(Look::More(left)) };
    };
    let len = end.saturating_add(1);
    let line = window.get(..len).unwrap_or_default();
    let text = line.strip_suffix(b"\r\n").ok_or(ProxyProtocolError::Malformed("the line does not end with CRLF"))?;
    let fields = text.get(V1.len()..).unwrap_or_default();
    // Section 2.1: what follows UNKNOWN must be ignored.
    if fields == b"UNKNOWN" || fields.starts_with(b"UNKNOWN ") {
        return Ok(Look::Header(Header::default(), len));
    }
    let mut ports = fields.rsplit(|b| *b == b' ').take(2);
    if !ports.all(is_plain_number) {
        return Err(ProxyProtocolError::Malformed("a port is no plain number"));
    }
    let header = parse(line)?;
    let addresses = header.proxied_address().map(canonical);
    Ok(Look::Header(Header { addresses, tls: None }, len))
}

/// Digits without a leading zero (section 2.1: lest somebody reads octal).
fn is_plain_number(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_digit) && (text.len() == 1 || text.first().is_some_and(|first| *first != b'0'))
}

fn look_v2(bytes: &[u8]) -> Result<Look, ProxyProtocolError> {
    let Some(&[command, family, high, low]) =
        bytes.get(V2.len()..V2_HEAD_BYTES).and_then(|head| <&[u8; 4]>::try_from(head).ok())
    else {
        return Ok(Look::More(V2_HEAD_BYTES.saturating_sub(bytes.len()).max(1)));
    };
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyProtocolError::Malformed("its version or command is unknown")),
    };
    let len = V2_HEAD_BYTES.saturating_add(usize::from(u16::from_be_bytes([high, low])));
    if len > MAX_HEADER_BYTES {
        return Err(ProxyProtocolError::TooLong);
    }
    let Some(whole) = bytes.get(..len) else { return Ok(Look::More(len.saturating_sub(bytes.len()).max(1))) };
    // Section 2.2: a LOCAL connection is the sender's own; its block is discarded unread.
    if local {
        return Ok(Look::Header(Header::default(), len));
    }
    let addresses_len = match family {
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        // Datagrams among them: nothing that arrives here by TCP began as one.
        _ => return Err(ProxyProtocolError::Malformed("its address family is not one of a TCP connection")),
    };
    let tlvs = V2_HEAD_BYTES.saturating_add(addresses_len);
    let tls = whole.get(tlvs..).ok_or(ProxyProtocolError::Malformed("it is shorter than its addresses"))?;
    let tls = read_tlvs(whole, tls)?;
    let header = parse(whole)?;
    let addresses = header.proxied_address().map(canonical);
    Ok(Look::Header(Header { addresses, tls }, len))
}

/// The parser's reading of exactly these bytes.
fn parse(whole: &[u8]) -> Result<ProxyHeader<'_>, ProxyProtocolError> {
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    match ProxyHeader::parse(whole, config) {
        Ok((header, len)) if len == whole.len() => Ok(header),
        _ => Err(ProxyProtocolError::Malformed("its addresses cannot be read")),
    }
}

fn canonical(address: &ProxiedAddress) -> (SocketAddr, SocketAddr) {
    let canonical = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
    (canonical(address.source), canonical(address.destination))
}

/// Walks the TLVs of version 2 (section 2.2.1) and checks the checksum, if there is one.
fn read_tlvs(whole: &[u8], mut tlvs: &[u8]) -> Result<Option<Tls>, ProxyProtocolError> {
    const BROKEN: ProxyProtocolError = ProxyProtocolError::Malformed("a TLV cannot be read");
    let (mut tls, mut told, mut checked) = (Tls::default(), false, false);
    while let Some((&[kind, high, low], rest)) = tlvs.split_first_chunk::<3>() {
        let (value, after) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low]))).ok_or(BROKEN)?;
        if kind == PP2_TYPE_CRC32C {
            let at = whole.len().saturating_sub(rest.len());
            let sent = <[u8; 4]>::try_from(value).map_err(|_| BROKEN)?;
            // A second checksum could not be right: each is computed with only itself as zeros.
            if checked || crc32c_without(whole, at) != u32::from_be_bytes(sent) {
                return Err(ProxyProtocolError::Checksum);
            }
            checked = true;
        }
        match Tlv::decode(kind, value).map_err(|_| BROKEN)? {
            Tlv::Ssl(info) => (told, tls.encrypted) = (true, info.client_ssl()),
            Tlv::Authority(name) if is_name(&name) => (told, tls.authority) = (true, Some(name.into())),
            _ => {}
        }
        tlvs = after;
    }
    if !tlvs.is_empty() {
        return Err(BROKEN);
    }
    Ok(told.then_some(tls))
}

fn is_name(text: &str) -> bool {
    (1..=MAX_AUTHORITY_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// The CRC32c (RFC 4960 appendix B) of the bytes with four zeros at `at`, where the checksum stands.
fn crc32c_without(bytes: &[u8], at: usize) -> u32 {
    let end = at.saturating_add(4);
    let zeroed = bytes.iter().enumerate().map(|(i, b)| if (at..end).contains(&i) { 0 } else { *b });
    !zeroed.fold(u32::MAX, |crc, byte| {
        // A header in a few connections is no reason for a table.
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

/// The version in which the application is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl Version {
    /// Checks `proxy_protocol:` towards the application. `None` if it is absent or off, or if there
    /// was an error.
    pub fn check(node: Option<&Node>, problems: &mut Problems) -> Option<Version> {
        match node?.one_of(VERSIONS, problems)? {
            "v1" => Some(Version::V1),
            "v2" => Some(Version::V2),
            _ => None,
        }
    }

    /// The header for a client's connection.
    pub fn encode(self, client: SocketAddr, local: SocketAddr) -> Vec<u8> {
        match self {
            Version::V1 => encode_v1(client, local),
            Version::V2 => encode_v2(client, local),
        }
    }

    /// The header for a connection of authtap's own, such as a health check.
    pub fn encode_local(self) -> Vec<u8> {
        match self {
            Version::V1 => b"PROXY UNKNOWN\r\n".to_vec(),
            Version::V2 => [V2, b"\x20\0\0\0"].concat(),
        }
    }
}

/// The line of version 1 that names `client`, who connected to `local`.
pub fn encode_v1(client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAX_V1_BYTES);
    match header_of(client, local).encode_v1(&mut out) {
        Ok(()) => out,
        // Cannot be: both are of one family. The application then sees authtap's own address.
        Err(_) => Version::V1.encode_local(),
    }
}

/// The header of version 2 that names `client`, who connected to `local`.
pub fn encode_v2(client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(V2_HEAD_BYTES + 36);
    match header_of(client, local).encode_v2(&mut out) {
        Ok(()) => out,
        Err(_) => Version::V2.encode_local(),
    }
}

fn header_of(client: SocketAddr, local: SocketAddr) -> ProxyHeader<'static> {
    let canonical = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
    let (mut source, mut destination) = (canonical(client), canonical(local));
    if source.is_ipv4() != destination.is_ipv4() {
        // Both must be of one family, and only IPv6 can hold both.
        (source, destination) = (mapped(source), mapped(destination));
    }
    ProxyHeader::with_address(ProxiedAddress { protocol: Protocol::Stream, source, destination })
}

fn mapped(address: SocketAddr) -> SocketAddr {
    let ip: Ipv6Addr = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    SocketAddr::new(ip.into(), address.port())
}

pin_project! {
    /// A stream with bytes before it that were already read.
    #[derive(Debug)]
    pub struct Prefixed<S> {
        prefix: Bytes,
        #[pin]
        inner: S,
    }
}

impl<S> Prefixed<S> {
    /// Reads give `prefix` first, then what `inner` gives. Writes go to `inner`.
    pub fn new(prefix: Bytes, inner: S) -> Prefixed<S> {
        Prefixed { prefix, inner }
    }

    /// The stream itself.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// What is left of the prefix, and the stream.
    pub fn into_parts(self) -> (Bytes, S) {
        (self.prefix, self.inner)
    }
}

impl<S: AsyncRead> AsyncRead for Prefixed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        if this.prefix.is_empty() {
            return this.inner.poll_read(cx, buf);
        }
        let n = this.prefix.len().min(buf.remaining());
        buf.put_slice(this.prefix.get(..n).unwrap_or_default());
        this.prefix.advance(n);
        if this.prefix.is_empty() {
            // The bytes share their memory with nobody; give it back.
            *this.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite> AsyncWrite for Prefixed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
