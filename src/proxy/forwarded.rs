//! What the application is told about the client: `X-Forwarded-*`, `X-Real-IP` and `Forwarded`.
//!
//! Behind a proxy an application sees only the proxy's address, so it believes headers. Before
//! authtap stood there, a client could already write such headers, but then the application saw
//! a stranger's connection; now it sees ours, from the machine beside it, and many trust that.
//! Therefore this module must never pass on what an untrusted peer says about who or where the
//! client is. RFC 7239 section 8.1 leaves that to the proxy; most keep forged `X-Forwarded-For`
//! entries and append to them, which is no help to a legacy application that reads the leftmost.
//!
//! The invariant, in every mode: a claim about the client reaches the application only if we make
//! it, or a trusted peer did, in the plain spelling. `X_Forwarded_For` becomes the same variable
//! as `X-Forwarded-For` in CGI, WSGI and PHP, and proxies that overwrite the one pass the other.

use std::fmt::{self, Write};
use std::net::IpAddr;

use bytes::Bytes;
use http::header::{FORWARDED, HeaderName};

use crate::config::node::Node;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::headers::{Headers, Value};

use super::client_ip::LOCALHOST;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Headers besides the `x-forwarded` family that applications and frameworks read to learn who the
/// client is or by which scheme and host it came, sorted into rows by their first letter. The
/// `http-` names are what Java code asks for when it mistakes a CGI variable for a header.
const CLAIMS: [(u8, &[&str]); 9] = [
    (
        b'c',
        &[
            "client-ip",
            "cluster-client-ip",
            "cf-connecting-ip",
            "cf-connecting-ipv6",
            "cf-pseudo-ipv4",
            "cloudfront-viewer-address",
        ],
    ),
    (b'd', &["do-connecting-ip"]),
    (b'f', &["forwarded", "forwarded-for", "forwarded-for-ip", "fastly-client-ip", "fly-client-ip", "front-end-https"]),
    (b'h', &["http-client-ip", "http-forwarded", "http-forwarded-for", "http-x-forwarded-for", "http-x-real-ip"]),
    (b'p', &["proxy-client-ip"]),
    (b'r', &["remote-addr"]),
    (b't', &["true-client-ip"]),
    (b'w', &["wl-proxy-client-ip"]),
    (
        b'x',
        &[
            "x-real-ip",
            "x-client-ip",
            "x-true-client-ip",
            "x-cluster-client-ip",
            "x-original-forwarded-for",
            "x-original-host",
            "x-originating-ip",
            "x-remote-ip",
            "x-remote-addr",
            "x-proxyuser-ip",
            "x-http-forwarded-for",
            "x-envoy-external-address",
            "x-azure-clientip",
            "x-azure-socketip",
            "x-appengine-user-ip",
            "x-vercel-forwarded-for",
            "x-nf-client-connection-ip",
            "x-url-scheme",
        ],
    ),
];

/// The first letters of the rows, as bits: the names of most headers begin otherwise.
const LETTERS: u32 = {
    let (mut letters, mut row) = (0, 0);
    while row < CLAIMS.len() {
        letters |= 1 << (CLAIMS[row].0 - b'a');
        row += 1;
    }
    letters
};

/// The family by which proxies talk to applications; it has no end (`-for`, `-proto`, `-user`).
const FAMILY: &[u8] = b"x-forwarded";

/// What is done to the headers about the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A trusted peer's chain is kept and the peer added to it; anybody else's is replaced.
    #[default]
    Append,
    /// Always only the client, for an application that counts hops or reads the leftmost entry.
    Replace,
    /// Nothing is added, and what a trusted peer sent stays as it is. Claims of untrusted peers
    /// are dropped all the same.
    Off,
}

/// `forwarded:`, checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// What is done to the headers.
    pub mode: Mode,
    /// True if `Forwarded` (RFC 7239) is sent even where no trusted peer sent one.
    pub rfc7239: bool,
}

const MODES: &[&str] = &["append", "replace", "off"];

/// The fields of `forwarded:` in its long form.
pub const FIELDS: &[Field] = &[
    Field::new(
        "mode",
        Kind::Word(MODES),
        "append",
        "append: a trusted proxy's X-Forwarded-For gets its address added; replace: it holds only the client; off: nothing is added",
    ),
    Field::new(
        "rfc7239",
        Kind::Bool,
        "off",
        "send the header Forwarded (RFC 7239) too, even where no trusted proxy sent one",
    ),
];

/// What `forwarded:` may be: one word, or a mapping.
pub const KIND: Kind = Kind::Any(&[Kind::Word(MODES), Kind::Map(FIELDS)]);

impl Policy {
    /// Checks `forwarded:`, in its short form (`forwarded: replace`) or its long one. `None` if
    /// there was an error.
    pub fn check(node: Option<&Node>, problems: &mut Problems) -> Option<Policy> {
        let Some(node) = node else { return Some(Policy::default()) };
        if node.scalar().is_some() {
            return Some(Policy { mode: check_mode(node, problems)?, rfc7239: false });
        }
        let map = node.map(FIELDS, problems)?;
        let mode = map.get("mode").map_or(Some(Mode::Append), |mode| check_mode(mode, problems));
        let rfc7239 = map.get("rfc7239").map_or(Some(false), |on| on.bool(problems));
        let policy = Policy { mode: mode?, rfc7239: rfc7239? };
        if policy == (Policy { mode: Mode::Off, rfc7239: true }) {
            problems.warn(node, "`rfc7239` does nothing with `mode: off`".into(), "leave one of the two out");
        }
        Some(policy)
    }
}

fn check_mode(node: &Node, problems: &mut Problems) -> Option<Mode> {
    Some(match node.one_of(MODES, problems)? {
        "replace" => Mode::Replace,
        "off" => Mode::Off,
        _ => Mode::Append,
    })
}

/// The other end of a connection. Its text is made once a connection, so that a request that came
/// straight from the client costs no further copy of it.
#[derive(Clone, Debug)]
pub struct Peer {
    ip: Option<IpAddr>,
    text: AddressText,
}

impl Peer {
    /// `None` is a Unix socket, which is written as the loopback address.
    pub fn new(ip: Option<IpAddr>) -> Peer {
        let ip = ip.map(|ip| ip.to_canonical());
        Peer { ip, text: AddressText::of(ip.unwrap_or(LOCALHOST)) }
    }

    /// The canonical address; `None` for a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    fn shown(&self) -> IpAddr {
        self.ip.unwrap_or(LOCALHOST)
    }
}

/// One request's way to us.
#[derive(Clone, Debug)]
pub struct Hop<'a> {
    /// The other end of the connection.
    pub peer: &'a Peer,
    /// The client, as [`super::client_ip::ClientIp::decide`] found it.
    pub client_ip: IpAddr,
    /// What [`super::client_ip::ClientIp::trusts`] says of the peer.
    pub trusted_peer: bool,
    /// [`super::client_ip::ClientIp::header`]: a claim too, whatever its name.
    pub claim: &'a HeaderName,
    /// `http` or `https`: what the connection to us speaks.
    pub scheme: &'static str,
    /// `Host` as settled by [`super::host::settle`]; `None` if there is none (HTTP/1.0). A clone
    /// of the header's value shares its bytes.
    pub host: Option<Bytes>,
}

/// Tells the application who the client is. To be called after the strip of hop-by-hop headers.
///
/// - Of an untrusted peer every claim ([`is_client_claim`], and `hop.claim`) is dropped; of a
///   trusted one those whose spelling is not plain.
/// - `X-Forwarded-For`: the peer, after what a trusted peer sent, joined into one line, since many
///   applications read only the first or the last. If a trusted peer named the client by another
///   header, the chain begins with that client.
/// - `X-Forwarded-Proto`, `X-Forwarded-Host`: a trusted peer's, else what we saw.
/// - `X-Forwarded-Port` is never made: our port is seldom the public one, and applications build
///   redirects from it. The public port, if it is not the usual one, stands in the host. A trusted
///   peer's stays.
/// - `X-Real-IP`: the client, and nothing else.
/// - `Forwarded`: our element is added if a trusted peer sent the header or the policy wants it.
pub fn set_forwarded(headers: &mut Headers, hop: &Hop<'_>, policy: Policy) {
    let told = drop_claims(headers, hop);
    if policy.mode == Mode::Off {
        return;
    }
    let peer = hop.peer.shown();
    let client_ip = hop.client_ip.to_canonical();
    let client = if client_ip == peer { hop.peer.text } else { AddressText::of(client_ip) };

    if policy.rfc7239 || told.forwarded {
        let element = element(if policy.mode == Mode::Replace { client_ip } else { peer }, hop);
        let value = match policy.mode {
            Mode::Replace => element,
            _ => joined(headers, &FORWARDED, &element),
        };
        headers.insert(FORWARDED, value);
    }
    let chain = match policy.mode {
        Mode::Append if told.chain && !is_blank(headers, &X_FORWARDED_FOR) => {
            Some(joined(headers, &X_FORWARDED_FOR, hop.peer.text.as_bytes()))
        }
        Mode::Append if client_ip != peer => Some(list(96, [client.as_bytes(), hop.peer.text.as_bytes()].into_iter())),
        _ => None,
    };
    say(headers, told.chain, X_FORWARDED_FOR, "X-Forwarded-For", chain.as_deref().unwrap_or(client.as_bytes()));
    say(headers, told.real_ip, X_REAL_IP, "X-Real-IP", client.as_bytes());
    if !told.proto || is_blank(headers, &X_FORWARDED_PROTO) {
        say(headers, told.proto, X_FORWARDED_PROTO, "X-Forwarded-Proto", hop.scheme.as_bytes());
    }
    if !told.host || is_blank(headers, &X_FORWARDED_HOST) {
        match &hop.host {
            Some(host) => say(headers, told.host, X_FORWARDED_HOST, "X-Forwarded-Host", host),
            None => _ = headers.remove(X_FORWARDED_HOST),
        }
    }
}

/// Makes this the only line of its name. Where there is none it is added without a look for one:
/// nearly every request.
fn say(headers: &mut Headers, there: bool, name: HeaderName, spelled: &'static str, value: &[u8]) {
    match there {
        true => headers.insert(name, value),
        false => headers.append_spelled(spelled, value),
    }
}

/// What a trusted peer told, of what we tell ourselves.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    forwarded: bool,
    chain: bool,
    real_ip: bool,
    proto: bool,
    host: bool,
}

impl Told {
    fn note(&mut self, name: &[u8]) {
        let is = |known: &HeaderName| name.eq_ignore_ascii_case(known.as_str().as_bytes());
        // One length at a time: a balancer's headers come with every request.
        match name.len() {
            15 => self.chain |= is(&X_FORWARDED_FOR),
            17 => self.proto |= is(&X_FORWARDED_PROTO),
            16 => self.host |= is(&X_FORWARDED_HOST),
            9 if is(&FORWARDED) => self.forwarded = true,
            9 => self.real_ip |= is(&X_REAL_IP),
            _ => {}
        }
    }
}

/// `http` or `https`, as the client sees it: the first `X-Forwarded-Proto` of a trusted peer, else
/// what the connection to us speaks.
pub fn client_scheme(headers: &Headers, trusted_peer: bool, scheme: &'static str) -> &'static str {
    if !trusted_peer {
        return scheme;
    }
    let said = headers.get(X_FORWARDED_PROTO).and_then(|value| value.to_str().ok());
    let first = said.and_then(|text| text.split(',').next()).unwrap_or_default().trim_ascii();
    if ["https", "wss"].iter().any(|known| known.eq_ignore_ascii_case(first)) {
        "https"
    } else if ["http", "ws"].iter().any(|known| known.eq_ignore_ascii_case(first)) {
        "http"
    } else {
        scheme
    }
}

/// True for a header by which applications are told who the client is, in any case and in every
/// spelling that CGI folds into the same variable (RFC 3875 section 4.1.18).
pub fn is_client_claim(name: &str) -> bool {
    is_claim(name.as_bytes())
}

fn is_claim(name: &[u8]) -> bool {
    let Some(first) = name.first().map(u8::to_ascii_lowercase) else { return false };
    if !first.is_ascii_lowercase() || LETTERS & (1 << (first - b'a')) == 0 {
        return false;
    }
    let Some((_, row)) = CLAIMS.iter().find(|(letter, _)| *letter == first) else { return false };
    (first == b'x' && is_family(name)) || row.iter().any(|known| folds_to(name, known.as_bytes()))
}

fn is_family(name: &[u8]) -> bool {
    name.split_at_checked(FAMILY.len())
        .is_some_and(|(start, rest)| folds_to(start, FAMILY) && rest.first().is_none_or(|b| !b.is_ascii_alphanumeric()))
}

/// True if two names are the same variable for servers that make `HTTP_…` variables: case does not
/// count, and every byte that is no letter or digit becomes an underscore.
pub(super) fn folds_to(name: &[u8], other: &[u8]) -> bool {
    let fold = |b: u8| if b.is_ascii_alphanumeric() { b.to_ascii_lowercase() } else { b'_' };
    name.len() == other.len() && name.iter().zip(other).all(|(a, b)| fold(*a) == fold(*b))
}

/// Drops what nobody may claim; answers what stays.
fn drop_claims(headers: &mut Headers, hop: &Hop<'_>) -> Told {
    let claim = hop.claim.as_str();
    let mut told = Told::default();
    headers.retain(|name, _| {
        let name = name.as_bytes();
        if !is_claim(name) && !folds_to(name, claim.as_bytes()) {
            return true;
        }
        let plain = || {
            name.eq_ignore_ascii_case(claim.as_bytes()) || name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        };
        let stays = hop.trusted_peer && plain();
        if stays {
            told.note(name);
        }
        stays
    });
    told
}

fn is_blank(headers: &Headers, name: &HeaderName) -> bool {
    headers.get_all(name).all(Value::is_empty)
}

/// Our element: the node that spoke to us, the scheme and the host it asked for. No `by`: our own
/// address is nobody's business.
fn element(node: IpAddr, hop: &Hop<'_>) -> Vec<u8> {
    let mut text = String::with_capacity(96);
    // Writing to a String cannot fail.
    let _ = match node {
        IpAddr::V4(ip) => write!(text, "for={ip}"),
        // RFC 7239 section 6: brackets, and therefore quotes.
        IpAddr::V6(ip) => write!(text, "for=\"[{ip}]\""),
    };
    let _ = write!(text, ";proto={}", hop.scheme);
    let host = hop.host.as_deref().and_then(|host| std::str::from_utf8(host).ok());
    // What would need an escape is no host; a reader that knows no escapes would see a new element.
    if let Some(host) = host.filter(|host| !host.is_empty() && host.is_ascii() && !host.contains(['"', '\\'])) {
        let _ = write!(text, ";host=\"{host}\"");
    }
    text.into_bytes()
}

/// All lines of a header and one more element, as one line.
fn joined(headers: &Headers, name: &HeaderName, last: &[u8]) -> Vec<u8> {
    let lines = || headers.get_all(name).map(|line| line.as_bytes().trim_ascii());
    let len = lines().map(|line| line.len() + 2).sum::<usize>() + last.len();
    list(len, lines().filter(|line| !line.is_empty()).chain([last]))
}

/// The parts with commas between them; `capacity` is what they need.
fn list<'v>(capacity: usize, parts: impl Iterator<Item = &'v [u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity);
    for part in parts {
        if !out.is_empty() {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(part);
    }
    out
}

/// An address as a header has it, without brackets.
#[derive(Clone, Copy)]
struct AddressText {
    /// The longest address has 45 characters.
    bytes: [u8; 48],
    len: usize,
}

impl AddressText {
    fn of(ip: IpAddr) -> AddressText {
        let mut text = AddressText { bytes: [0; 48], len: 0 };
        // There is room for it.
        let _ = match ip {
            // A few digits, made for every request behind another proxy.
            IpAddr::V4(ip) => text.octets(ip.octets()),
            IpAddr::V6(ip) => write!(text, "{ip}"),
        };
        text
    }

    fn octets(&mut self, octets: [u8; 4]) -> fmt::Result {
        for (n, octet) in octets.into_iter().enumerate() {
            let digits = [b'0' + octet / 100, b'0' + octet / 10 % 10, b'0' + octet % 10];
            let unused = usize::from(octet < 100) + usize::from(octet < 10);
            if n > 0 {
                self.push(b".")?;
            }
            self.push(digits.get(unused..).unwrap_or_default())?;
        }
        Ok(())
    }

    fn push(&mut self, more: &[u8]) -> fmt::Result {
        let end = self.len + more.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(more);
        self.len = end;
        Ok(())
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl fmt::Write for AddressText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes())
    }
}

impl fmt::Debug for AddressText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests;
