//! What belongs to one connection and must not travel further (RFC 9110 section 7.6.1).
//!
//! The client says in `Connection` which of its headers end here, and that is a lever for anybody
//! who can reach us: `Connection: X-Forwarded-For` made Apache (CVE-2022-31813) and Go's reverse
//! proxy (CVE-2021-33197) drop what an earlier hop had vouched for, and `Connection: X-F5-Auth-Token`
//! opened BIG-IP (CVE-2022-1388). So this module must never take away, on a stranger's word, a
//! header that is meant for the application: [`is_end_to_end`] lists them.
//!
//! The invariant: after the strip no header describes the connection the message came by, except
//! the `Upgrade` that was asked to stay and a `TE: trailers`; everything end-to-end is as it came.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};

use super::forwarded::is_client_claim;
use crate::headers::{Headers, Name};

/// What ends at every hop, named in `Connection` or not.
static HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    // RFC 9113 does away with the h2c upgrade, and with the header it needs.
    HeaderName::from_static("http2-settings"),
    // RFC 9110 section 11.7: proxy credentials belong to the next proxy that asked for them. We
    // never ask, and what stands behind us is an application, not a proxy (CONNECT is refused), so
    // relaying would only hand a client's proxy password to it, or let it ask for one.
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
];

/// End-to-end headers that `Connection` cannot take away. RFC 9110 section 7.6.1: "a sender MUST
/// NOT send a connection option corresponding to a field that is intended for all recipients of
/// the content".
///
/// - Framing and target: without `Content-Length` or `Host` the application would read another
///   request than we did (request smuggling, cache poisoning).
/// - What describes the body: capture reads the form by the same `Content-Type` as the application.
/// - Credentials and sessions: capture would report an actor whose cookie never arrived.
/// - Conditions and negotiation: the answer to another request than the client's would come back.
/// - Of answers: sessions, redirects, challenges, and the policies that protect the browser.
static END_TO_END: [&str; 62] = [
    "host",
    "content-length",
    "expect",
    "trailer",
    "content-type",
    "content-encoding",
    "content-language",
    "content-location",
    "content-range",
    "content-disposition",
    "authorization",
    "cookie",
    "origin",
    "referer",
    "user-agent",
    "x-requested-with",
    "x-csrf-token",
    "x-xsrf-token",
    "x-http-method-override",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "cache-control",
    "pragma",
    "date",
    "via",
    "max-forwards",
    "x-request-id",
    "traceparent",
    "tracestate",
    "baggage",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "sec-websocket-accept",
    "set-cookie",
    "location",
    "refresh",
    "allow",
    "retry-after",
    "www-authenticate",
    "authentication-info",
    "etag",
    "last-modified",
    "expires",
    "age",
    "vary",
    "accept-ranges",
    "clear-site-data",
    "content-security-policy",
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
    "access-control-allow-origin",
];

/// True for a header, in any case, that `Connection` cannot take away: the list above, every
/// `Sec-Fetch-*` and every header in which applications look for the client (RFC 9110 section 7.6.1).
pub fn is_end_to_end(name: &str) -> bool {
    END_TO_END.iter().any(|known| known.eq_ignore_ascii_case(name))
        || name.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("sec-fetch-"))
        || is_client_claim(name)
}

/// True for a header, in any case, that describes the connection (RFC 9110 section 7.6.1).
pub fn is_hop_by_hop(name: &str) -> bool {
    name.eq_ignore_ascii_case("upgrade") || HOP_BY_HOP.iter().any(|known| known.as_str().eq_ignore_ascii_case(name))
}

/// Strips a request on its way to the application. With `upgrade` (see [`is_upgrade`]) it keeps
/// `Upgrade` and says `Connection: upgrade` itself.
///
/// `TE: trailers` stays, alone and with its `Connection: te` (RFC 9110 section 10.1.4): it tells
/// the application that trailers will be passed on, as they are. Any other `TE` is about codings of
/// this connection.
///
/// `Transfer-Encoding` goes, because the next connection frames the body anew.
pub fn strip_request(headers: &mut Headers, upgrade: bool) {
    let trailers = !upgrade && takes_trailers(headers);
    strip(headers, upgrade);
    if trailers {
        headers.insert(header::TE, "trailers");
        headers.insert(header::CONNECTION, "te");
    }
}

/// Joins the `cookie` fields into which an HTTP/2 client may split one (RFC 9113 section 8.2.3):
/// HTTP/1 applications read only the first, or the last.
pub fn join_cookies(headers: &mut Headers) {
    let mut crumbs = headers.get_all(header::COOKIE);
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let mut joined = Vec::new();
    for crumb in headers.get_all(header::COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(crumb.as_bytes());
    }
    headers.insert(header::COOKIE, joined);
}

/// Strips an answer on its way to the client. With `upgrade` it keeps `Upgrade` and says
/// `Connection: upgrade` itself: for 101, and for 426, which must name the protocol that is
/// required (RFC 9110 section 15.5.22).
pub fn strip_response(headers: &mut Headers, upgrade: bool) {
    strip(headers, upgrade);
}

/// Removes every hop-by-hop header, `Upgrade` and `TE` too: for messages that upgrade nothing.
pub fn strip_hop_by_hop(headers: &mut Headers) {
    strip(headers, false);
}

/// The same for what follows a body.
pub fn strip_trailers(trailers: &mut HeaderMap) {
    let mut lines = Headers::from(&*trailers);
    strip(&mut lines, false);
    *trailers = lines.to_map();
}

/// True if the client asks to switch to a protocol that may be tunnelled: `Connection` names
/// `upgrade` and `Upgrade` names one protocol (RFC 9110 section 7.8).
///
/// Another version of HTTP, or TLS, is never an upgrade here: in a blind tunnel the requests inside
/// (`h2c` smuggling) would pass by everything this proxy is for. A server may ignore `Upgrade`, so
/// such a request goes on as a plain one. In HTTP/1.0 `Upgrade` must be ignored by the caller.
pub fn is_upgrade(headers: &Headers) -> bool {
    let mut lines = headers.get_all(header::UPGRADE).iter();
    let (Some(protocol), None) = (lines.next(), lines.next()) else { return false };
    let asked = options(headers).any(|option| option.eq_ignore_ascii_case("upgrade"));
    asked && protocol.to_str().is_ok_and(may_be_tunnelled)
}

/// One `name` or `name/version` (section 7.8), and neither HTTP nor TLS.
fn may_be_tunnelled(protocol: &str) -> bool {
    let protocol = protocol.trim_ascii();
    let (name, version) = protocol.split_once('/').map_or((protocol, None), |(n, v)| (n, Some(v)));
    let token = |text: &str| !text.is_empty() && text.bytes().all(super::client_ip::is_token);
    let opaque = ["h2", "h2c", "h3", "http", "https", "tls"].iter().any(|known| known.eq_ignore_ascii_case(name));
    token(name) && version.is_none_or(token) && !opaque
}

fn strip(headers: &mut Headers, upgrade: bool) {
    let found = Found::of(headers);
    if found.0 == 0 {
        return;
    }
    if found.has(0) {
        strip_named(headers);
    }
    for (n, name) in HOP_BY_HOP.iter().enumerate() {
        if found.has(n) {
            headers.remove(name);
        }
    }
    if !found.has(UPGRADE) {
        return;
    }
    if upgrade {
        headers.insert(header::CONNECTION, "upgrade");
    } else {
        headers.remove(header::UPGRADE);
    }
}

/// The place of `Upgrade` in [`Found`], after those of [`HOP_BY_HOP`]; a test holds them together.
const UPGRADE: usize = 9;

/// Which hop-by-hop headers a message has, a bit for each. Nearly every message has none or one, and
/// one pass over the names that are there costs a fifth of asking the map for each that may be.
#[derive(Clone, Copy)]
struct Found(u16);

impl Found {
    fn of(headers: &Headers) -> Found {
        Found(headers.keys().filter_map(Found::place).fold(0, |found, place| found | 1 << place))
    }

    fn has(self, place: usize) -> bool {
        self.0 & (1 << place) != 0
    }

    /// By length first: most names are none of these.
    fn place(name: Name<'_>) -> Option<usize> {
        let known = match name.as_bytes().len() {
            2 => 3,
            7 => UPGRADE,
            10 if name.is(header::CONNECTION) => 0,
            10 => 1,
            14 => 5,
            16 => 2,
            17 => 4,
            18 => 7,
            19 => 6,
            25 => 8,
            _ => return None,
        };
        name.is(HOP_BY_HOP.get(known).unwrap_or(&header::UPGRADE)).then_some(known)
    }
}

/// Removes the headers that `Connection` names and may name.
fn strip_named(headers: &mut Headers) {
    if !options(headers).any(|option| is_removable(option, headers)) {
        return;
    }
    // The lines share their bytes with the map; a copy of each option would let a long line grow.
    let lines: Vec<Bytes> = headers.get_all(header::CONNECTION).map(|line| headers.shared(line)).collect();
    for option in lines.iter().flat_map(|line| split(line)) {
        if is_removable(option, headers) {
            headers.remove(option);
        }
    }
}

fn is_removable(option: &str, headers: &Headers) -> bool {
    // `strip` sees to these itself; they are what nearly every Connection header says.
    let usual = ["close", "keep-alive", "upgrade", "te"].iter().any(|known| known.eq_ignore_ascii_case(option));
    !usual && headers.contains_key(option) && !is_end_to_end(option)
}

fn takes_trailers(headers: &Headers) -> bool {
    headers
        .get_all(header::TE)
        .flat_map(|line| split(line.as_bytes()))
        .any(|coding| coding.eq_ignore_ascii_case("trailers"))
}

fn options(headers: &Headers) -> impl Iterator<Item = &str> {
    headers.get_all(header::CONNECTION).flat_map(|line| split(line.as_bytes()))
}

/// The elements of a list; a line that is not ASCII has none.
fn split(line: &[u8]) -> impl Iterator<Item = &str> {
    let text = std::str::from_utf8(line).ok().filter(|text| text.is_ascii()).unwrap_or_default();
    text.split(',').map(str::trim_ascii).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests;
