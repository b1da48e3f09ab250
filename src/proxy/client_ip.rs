//! Whose request is it? One address a request, decided once and then carried along.
//!
//! Only a peer named in `client_ip.trusted_proxies` is asked, and only by the one header that is
//! configured. It must never believe a word of anybody else: with no trusted proxies, or behind an
//! untrusted peer, the answer is the address of the connection.
//!
//! The invariant: the answer is the peer, or an entry that every hop between it and us vouches
//! for. Whatever cannot be read ends the walk, so junk can hide an address but never choose one.
//! All addresses are canonical: `::ffff:192.0.2.1` is `192.0.2.1`, here, in CIDRs and in headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{self, HeaderName};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::node::{Node, clip};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::headers::Headers;

use super::forwarded::is_client_claim;
use super::headers::{is_end_to_end, is_hop_by_hop};

/// The most entries of a list header that are looked at, from the right; no honest chain of
/// proxies comes near it.
const MAX_ENTRIES: usize = 64;

/// The longest text that can be an address: brackets, 45 characters, a zone, a port.
const MAX_ENTRY_BYTES: usize = 96;

/// The address of a peer that has none (a Unix socket).
pub const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Headers that proxies are known to send, for spotting a misspelling.
const KNOWN: [&str; 8] = [
    "x-forwarded-for",
    "forwarded",
    "x-real-ip",
    "cf-connecting-ip",
    "true-client-ip",
    "x-client-ip",
    "fastly-client-ip",
    "x-envoy-external-address",
];

/// The fields of `client_ip:`.
pub const FIELDS: &[Field] = &[
    Field::new(
        "trusted_proxies",
        Kind::OneOrList(&Kind::Str),
        "[]",
        "addresses and CIDRs of the proxies in front of authtap; only these are believed",
    ),
    Field::new(
        "header",
        Kind::Str,
        "x-forwarded-for",
        "the header in which trusted proxies name the client: x-forwarded-for, forwarded, or one that holds a single address",
    ),
];

/// Whom to believe about the client's address, and by which header.
#[derive(Clone, Debug)]
pub struct ClientIp {
    trusted: Trusted,
    header: HeaderName,
    form: Form,
}

/// How the header is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A comma-separated list of addresses, each hop appending.
    List,
    /// RFC 7239.
    Forwarded,
    /// One address on one line.
    Single,
}

impl Default for ClientIp {
    /// Nobody is believed.
    fn default() -> Self {
        ClientIp { trusted: Trusted::default(), header: X_FORWARDED_FOR, form: Form::List }
    }
}

impl ClientIp {
    /// Checks `client_ip:`; without it nobody is believed. `None` if there was an error.
    pub fn check(node: Option<&Node>, problems: &mut Problems) -> Option<ClientIp> {
        let Some(node) = node else { return Some(ClientIp::default()) };
        let map = node.map(FIELDS, problems)?;
        let items = map.items("trusted_proxies");
        let nets: Vec<Option<IpNet>> = items.iter().map(|item| check_net(item, problems)).collect();
        let header = match map.get("header") {
            None => Some(X_FORWARDED_FOR),
            Some(header) if items.is_empty() => {
                problems.warn(
                    header,
                    "this header is never believed, because no proxy is trusted".into(),
                    "name the proxies in front of authtap in `trusted_proxies`",
                );
                check_header(header, problems)
            }
            Some(header) => check_header(header, problems),
        };
        let nets: Vec<IpNet> = nets.into_iter().collect::<Option<_>>()?;
        Some(ClientIp::new(&nets, header?))
    }

    /// Believes these networks, by this header.
    pub fn new(trusted: &[IpNet], header: HeaderName) -> ClientIp {
        let form = if header == X_FORWARDED_FOR {
            Form::List
        } else if header == header::FORWARDED {
            Form::Forwarded
        } else {
            Form::Single
        };
        ClientIp { trusted: Trusted::new(trusted), header, form }
    }

    /// The header that is believed when a trusted proxy sends it.
    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    /// The networks of `trusted_proxies`.
    pub(super) fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    /// True if this peer's word about the client counts. `None` is a peer on a Unix socket: who
    /// may connect there was decided by the socket's file permissions.
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        peer.is_none_or(|ip| self.trusted.contains(ip.to_canonical()))
    }

    /// The client's address, canonical. `peer` is the other end of the connection (as the PROXY
    /// protocol gives it, where that is in use); `None` is a Unix socket.
    ///
    /// In a list the walk goes from the right, the entry nearest to us, over all lines of the
    /// header, and ends at the first address that is not a trusted proxy: what stands left of it
    /// was written by a stranger. If all are trusted, the leftmost is the client.
    pub fn decide(&self, peer: Option<IpAddr>, headers: &Headers) -> IpAddr {
        let fallback = peer.map_or(LOCALHOST, |ip| ip.to_canonical());
        if !self.trusts(peer) {
            return fallback;
        }
        match self.form {
            Form::List => self.walk_list(fallback, headers),
            Form::Forwarded => self.walk_forwarded(fallback, headers),
            Form::Single => self.single(headers).unwrap_or(fallback),
        }
    }

    fn walk_list(&self, peer: IpAddr, headers: &Headers) -> IpAddr {
        let lines = headers.get_all(&self.header).iter().rev();
        let entries = lines.flat_map(|line| line.as_bytes().rsplit(|b| *b == b','));
        let mut walk = Walk { trusted: &self.trusted, best: peer };
        for entry in entries.take(MAX_ENTRIES) {
            let entry = entry.trim_ascii();
            // RFC 9110 section 5.6.1.2: empty elements of a list do not count.
            if !entry.is_empty() && walk.step(read_address(entry)) {
                break;
            }
        }
        walk.best
    }

    fn walk_forwarded(&self, peer: IpAddr, headers: &Headers) -> IpAddr {
        let mut walk = Walk { trusted: &self.trusted, best: peer };
        let mut left = MAX_ENTRIES;
        for line in headers.get_all(&self.header).iter().rev() {
            // Quoted strings can only be read forwards; the last entries of the line are kept.
            let mut kept = [None; MAX_ENTRIES];
            let mut count = 0usize;
            for element in Elements::new(line.as_bytes()) {
                if let Some(slot) = kept.get_mut(count % MAX_ENTRIES) {
                    *slot = element;
                }
                count = count.saturating_add(1);
            }
            for back in 1..=count.min(left) {
                let entry = kept.get((count - back) % MAX_ENTRIES).copied().flatten();
                if walk.step(entry) {
                    return walk.best;
                }
            }
            left = left.saturating_sub(count);
            if left == 0 {
                break;
            }
        }
        walk.best
    }

    /// Two lines, or two addresses, mean that somebody added one: neither is believed.
    fn single(&self, headers: &Headers) -> Option<IpAddr> {
        let mut lines = headers.get_all(&self.header).iter();
        let line = lines.next()?;
        if lines.next().is_some() {
            return None;
        }
        read_address(line.as_bytes().trim_ascii())
    }
}

/// A walk along the hops, away from us.
struct Walk<'t> {
    trusted: &'t Trusted,
    best: IpAddr,
}

impl Walk<'_> {
    /// Takes one more hop; true if the walk ends here.
    fn step(&mut self, hop: Option<IpAddr>) -> bool {
        let Some(ip) = hop else { return true };
        self.best = ip;
        !self.trusted.contains(ip)
    }
}

/// Networks of canonical addresses, sorted and disjoint, so that even the long list of a CDN costs
/// a few comparisons.
#[derive(Clone, Debug, Default)]
pub(super) struct Trusted {
    v4: Vec<Ipv4Net>,
    v6: Vec<Ipv6Net>,
}

impl Trusted {
    pub(super) fn new(nets: &[IpNet]) -> Trusted {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            match canonical_net(*net) {
                IpNet::V4(net) => v4.push(net),
                IpNet::V6(net) => v6.push(net),
            }
        }
        let (mut v4, mut v6) = (Ipv4Net::aggregate(&v4), Ipv6Net::aggregate(&v6));
        v4.sort_unstable_by_key(Ipv4Net::network);
        v6.sort_unstable_by_key(Ipv6Net::network);
        Trusted { v4, v6 }
    }

    /// True if nobody is trusted.
    pub(super) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// True if one of the networks holds this canonical address.
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => {
                let after = self.v4.partition_point(|net| net.network() <= ip);
                after.checked_sub(1).and_then(|at| self.v4.get(at)).is_some_and(|net| net.contains(&ip))
            }
            IpAddr::V6(ip) => {
                let after = self.v6.partition_point(|net| net.network() <= ip);
                after.checked_sub(1).and_then(|at| self.v6.get(at)).is_some_and(|net| net.contains(&ip))
            }
        }
    }
}

/// `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
fn canonical_net(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    match (v6.network().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(v4), Some(len)) => Ipv4Net::new(v4, len).map_or(net, IpNet::V4),
        _ => net,
    }
}

/// Reads an address or a CIDR; warns about one that is hardly meant.
pub(super) fn check_net(node: &Node, problems: &mut Problems) -> Option<IpNet> {
    let text = node.str(problems)?;
    let net = match text.parse::<IpAddr>() {
        Ok(ip) => Some(IpNet::from(ip.to_canonical())),
        Err(_) => text.parse::<IpNet>().ok(),
    };
    let Some(net) = net else {
        problems.error_hint(
            node,
            format!("`{}` is neither an address nor a network", clip(text)),
            "write an address (127.0.0.1, ::1) or a CIDR (10.0.0.0/8); names are not looked up",
        );
        return None;
    };
    if net.trunc() != net {
        let hint = format!("the network is {}; for the one host write {}", net.trunc(), net.addr());
        problems.warn(node, format!("`{text}` has bits set outside its prefix"), &hint);
    }
    if canonical_net(net).prefix_len() == 0 {
        problems.warn(
            node,
            "this trusts everybody, so that any client can choose its own address".into(),
            "name only the proxies in front of authtap",
        );
    }
    Some(net)
}

fn check_header(node: &Node, problems: &mut Problems) -> Option<HeaderName> {
    let text = node.str(problems)?;
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        problems.error_hint(
            node,
            format!("`{}` cannot be a header's name", clip(text)),
            "write one name, such as x-forwarded-for",
        );
        return None;
    };
    let text = name.as_str();
    let known = is_client_claim(text);
    // Of untrusted peers this header is dropped as a forgery, which these must never be.
    if !known && (is_end_to_end(text) || is_hop_by_hop(text)) {
        problems.error_hint(
            node,
            format!("`{name}` does not name a client"),
            "write the header in which the proxy in front of authtap puts the client's address",
        );
        return None;
    }
    let near = KNOWN.iter().find(|k| **k != text && strsim::damerau_levenshtein(k, text) <= 2);
    if let Some(near) = near {
        let message = format!("`{}` is not a header that proxies usually send", clip(text));
        problems.warn(node, message, &format!("did you mean `{near}`?"));
    }
    Some(name)
}

/// Reads one address as proxies write it: bare, in brackets, with a port, with a zone, in quotes.
/// `None` for everything else: `unknown` and `_obfuscated` (RFC 7239 sections 6.2 and 6.3), names,
/// CIDRs, octal or short forms. The answer is canonical and without its zone.
pub fn read_address(entry: &[u8]) -> Option<IpAddr> {
    if entry.len() > MAX_ENTRY_BYTES {
        return None;
    }
    let text = std::str::from_utf8(entry).ok()?;
    let text = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?.trim_ascii(),
        None => text,
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        let port = after.strip_prefix(':');
        return (after.is_empty() || port.is_some_and(is_port)).then(|| read_v6(inside)).flatten();
    }
    match text.split_once(':') {
        None => text.parse().ok().map(IpAddr::V4),
        // A second colon makes it a bare IPv6 address, which cannot have a port.
        Some((_, rest)) if rest.contains(':') => read_v6(text),
        Some((v4, port)) => is_port(port).then(|| v4.parse().ok().map(IpAddr::V4)).flatten(),
    }
}

/// The zone (RFC 4007 section 11) means something only on the machine that wrote it.
fn read_v6(text: &str) -> Option<IpAddr> {
    let (address, zone) = text.split_once('%').map_or((text, None), |(a, z)| (a, Some(z)));
    let zone_char = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'~');
    if zone.is_some_and(|z| z.is_empty() || !z.bytes().all(zone_char)) {
        return None;
    }
    Some(IpAddr::V6(address.parse::<Ipv6Addr>().ok()?).to_canonical())
}

/// A port, or an obfuscated one (RFC 7239 section 6.3).
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(rest) => {
            !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        }
        None => text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok(),
    }
}

/// What one hop says: an address, or nothing that can be read.
type Entry = Option<IpAddr>;

/// The elements of one `Forwarded` line, from the left: what each says in `for=`.
///
/// A line that breaks the grammar of RFC 7239 section 4 ends with one unreadable element, even if
/// text follows: after a stray quote nobody can tell which text a stranger wrote.
struct Elements<'h> {
    rest: &'h [u8],
    done: bool,
}

impl<'h> Elements<'h> {
    fn new(line: &'h [u8]) -> Elements<'h> {
        Elements { rest: line, done: false }
    }

    /// Reads up to and over the element's comma. `Some(None)` is an empty element, `None` breaks
    /// the grammar.
    fn element(&mut self) -> Option<Option<Entry>> {
        let mut found: Option<&'h [u8]> = None;
        let mut pairs = false;
        loop {
            self.rest = self.rest.trim_ascii_start();
            match self.rest.split_first() {
                None => {
                    self.done = true;
                    break;
                }
                Some((b',', rest)) => {
                    self.rest = rest;
                    break;
                }
                Some((b';', rest)) => self.rest = rest,
                Some(_) => {
                    let (name, value) = self.pair()?;
                    pairs = true;
                    // "Each parameter MUST NOT occur more than once" (section 4).
                    if name.eq_ignore_ascii_case(b"for") && found.replace(value).is_some() {
                        return None;
                    }
                }
            }
        }
        if !pairs {
            return Some(None);
        }
        Some(Some(found.and_then(read_address)))
    }

    /// Reads `name=value`, the value with its quotes, and sees that a separator follows.
    fn pair(&mut self) -> Option<(&'h [u8], &'h [u8])> {
        let equals = self.rest.iter().position(|b| !is_token(*b))?;
        let (name, rest) = self.rest.split_at_checked(equals)?;
        let rest = rest.strip_prefix(b"=")?;
        if name.is_empty() {
            return None;
        }
        let len = match rest.strip_prefix(b"\"") {
            Some(inside) => quoted_len(inside)?.checked_add(2)?,
            // Brackets and colons should be quoted (section 6); senders forget it, and without
            // quotes they are as clear.
            None => rest.iter().position(|b| !is_token(*b) && !matches!(b, b'[' | b']' | b':')).unwrap_or(rest.len()),
        };
        let (value, rest) = rest.split_at_checked(len)?;
        self.rest = rest.trim_ascii_start();
        matches!(self.rest.first(), None | Some(b',' | b';')).then_some((name, value))
    }
}

impl Iterator for Elements<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            match self.element() {
                Some(Some(element)) => return Some(element),
                Some(None) => {}
                None => {
                    self.done = true;
                    return Some(None);
                }
            }
        }
        None
    }
}

/// The bytes of a quoted string (RFC 9110 section 5.6.4) before its closing quote.
fn quoted_len(inside: &[u8]) -> Option<usize> {
    let mut escaped = false;
    inside.iter().position(|b| match b {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' => {
            escaped = true;
            false
        }
        b => *b == b'"',
    })
}

/// RFC 9110 section 5.6.2.
pub(super) fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests;
