//! Which host is asked for, so that authtap and the application cannot read it differently.
//!
//! A request may name its host twice (in the target and in `Host`) and badly; whoever picks
//! another name than the application attributes a login to the wrong site, or lets a request past
//! a route. This module must never mend a name: it refuses, or it applies a rule of the RFC.
//!
//! The invariant after [`settle`]: the target is in origin-form (or `*`), an HTTP/1.1 request has
//! exactly one `Host`, of valid syntax and without userinfo, and it is the host of the target
//! where the target had one.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use super::message::Parts;
use http::header::HOST;
use http::uri::{PathAndQuery, Uri};
use http::{Method, Version};

/// The longest name of a host, in bytes: RFC 3986 section 3.2.2 points at the DNS for it.
const MAX_HOST_BYTES: usize = 255;

/// Why a request's target or host was refused. Carries nothing of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// CONNECT asks for a tunnel (RFC 9110 section 9.3.6).
    #[error("the method CONNECT is not served: authtap is no forward proxy")]
    Connect,
    /// No `Host` in HTTP/1.1 (RFC 9112 section 3.2).
    #[error("the request has no Host header: send one")]
    NoHost,
    /// More than one `Host`, even if they agree (RFC 9112 section 3.2).
    #[error("the request has more than one Host header: send one")]
    ManyHosts,
    /// `Host` or the target's authority is no `uri-host [ ":" port ]` (RFC 9110 section 7.2).
    #[error("the host is malformed: send a name or an address, and a port if it is not the usual one")]
    BadHost,
    /// The target is in none of the forms for its method (RFC 9112 section 3.2).
    #[error("the request target is malformed: send a path that starts with a slash")]
    BadTarget,
}

/// Checks the target and the host of a request, and puts both into the one form that is passed on.
///
/// An absolute-form target wins over `Host`, which is rewritten from it, and only its path and
/// query remain (RFC 9112 section 3.2.2); so does the `:authority` of HTTP/2, except that there a
/// differing `Host` makes the request malformed (RFC 9113 section 8.3.1). HTTP/1.0 may have no
/// `Host`.
///
/// # Errors
/// [`TargetError`]; the request is then unchanged and must be answered by its status, and the
/// connection closed, since what follows it cannot be trusted either.
pub fn settle(parts: &mut Parts) -> Result<(), TargetError> {
    if parts.method == Method::CONNECT {
        return Err(TargetError::Connect);
    }
    let mut lines = parts.headers.get_all(HOST);
    let host = lines.next();
    if lines.next().is_some() {
        return Err(TargetError::ManyHosts);
    }
    if host.is_some_and(|host| HostPort::read(host.as_bytes()).is_none()) {
        return Err(TargetError::BadHost);
    }
    let Some(authority) = parts.uri.authority() else {
        if host.is_none() && parts.version > Version::HTTP_10 {
            return Err(TargetError::NoHost);
        }
        let path = parts.uri.path();
        let star = path == "*" && parts.method == Method::OPTIONS;
        return if path.starts_with('/') || star { Ok(()) } else { Err(TargetError::BadTarget) };
    };
    // Without a scheme it is the authority-form, which is for CONNECT alone.
    if !parts.uri.scheme_str().is_some_and(|scheme| scheme == "http" || scheme == "https") {
        return Err(TargetError::BadTarget);
    }
    let named = HostPort::read(authority.as_str().as_bytes()).ok_or(TargetError::BadHost)?;
    // RFC 9110 section 4.2.1: an http URI without a host is invalid.
    if named.host.is_empty() {
        return Err(TargetError::BadHost);
    }
    let multiplexed = parts.version >= Version::HTTP_2;
    match host {
        None if parts.version == Version::HTTP_11 => return Err(TargetError::NoHost),
        Some(host) if multiplexed && !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
            return Err(TargetError::BadHost);
        }
        _ => {}
    }
    if host.is_none_or(|host| host != *authority.as_str()) {
        parts.headers.insert(HOST, authority.as_str());
    }
    let path = match parts.uri.path_and_query() {
        Some(path) if path.path() != "/" || path.query().is_some() => path.clone(),
        // Of `http://a.test#b` the http crate keeps an empty path, which would make an empty target.
        _ => PathAndQuery::from_static("/"),
    };
    parts.uri = Uri::from(path);
    Ok(())
}

/// A host and its port, as `Host` and authorities have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort<'a> {
    /// The name or address as it was sent, an IPv6 address in its brackets; may be empty.
    pub host: &'a str,
    /// The port; `None` if there is none or an empty one.
    pub port: Option<u16>,
}

impl<'a> HostPort<'a> {
    /// Reads `uri-host [ ":" port ]` (RFC 9110 section 7.2, RFC 3986 section 3.2.2); `None` if it
    /// is anything else.
    ///
    /// An empty host is valid in `Host`. A comma is refused, though RFC 3986 allows it: it is what
    /// two `Host` headers look like once an earlier hop has joined them (RFC 9110 section 5.3).
    /// IP addresses of a future version are refused, because no application can read them.
    pub fn read(bytes: &'a [u8]) -> Option<HostPort<'a>> {
        let text = std::str::from_utf8(bytes).ok()?;
        if let Some(plain) = HostPort::plain(text) {
            return Some(plain);
        }
        let (host, port) = if text.starts_with('[') {
            let (host, port) = text.split_at_checked(text.find(']')?.checked_add(1)?)?;
            let inside = host.strip_prefix('[')?.strip_suffix(']')?;
            inside.parse::<Ipv6Addr>().ok()?;
            (host, port)
        } else {
            text.split_at_checked(text.find(':').unwrap_or(text.len()))?
        };
        let valid = host.starts_with('[') || is_reg_name(host.as_bytes());
        if !valid || host.len() > MAX_HOST_BYTES {
            return None;
        }
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            None => return None,
            Some("") => None,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
        };
        Some(HostPort { host, port })
    }
}

impl<'a> HostPort<'a> {
    /// What nearly every host is: letters, digits, dots and hyphens, and perhaps a port. `None` is not
    /// known.
    fn plain(text: &'a str) -> Option<HostPort<'a>> {
        let bytes = text.as_bytes();
        let end = bytes.iter().position(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')));
        let Some(end) = end else {
            return (text.len() <= MAX_HOST_BYTES).then_some(HostPort { host: text, port: None });
        };
        let (host, port) = text.split_at_checked(end)?;
        let digits = port.strip_prefix(':')?.as_bytes();
        let usual = (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
        let port = digits
            .iter()
            .fold(0_u32, |port, digit| port.wrapping_mul(10).wrapping_add(u32::from(digit.wrapping_sub(b'0'))));
        let known = usual && host.len() <= MAX_HOST_BYTES;
        Some(HostPort { host, port: Some(u16::try_from(port).ok().filter(|_| known)?) })
    }
}

/// The host without its port and without the dot that may end a full name (RFC 1034 section 3.1),
/// in lower case: `App.Example.:8443` is `app.example`, as it is for the application. An IPv6
/// address keeps its brackets. What is not valid is empty. Allocates only to change a letter.
pub fn host_without_port_lowercase(host: &[u8]) -> Cow<'_, str> {
    lowercase(HostPort::read(host).map_or("", |read| read.host))
}

/// The same for a `Host` that [`settle`] has let through, or none, without looking at it again.
pub fn settled_name(host: &[u8]) -> Cow<'_, str> {
    let text = std::str::from_utf8(host).unwrap_or_default();
    let end = match text.starts_with('[') {
        true => text.find(']').map_or(text.len(), |end| end + 1),
        false => text.bytes().position(|b| b == b':').unwrap_or(text.len()),
    };
    lowercase(text.get(..end).unwrap_or_default())
}

fn lowercase(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    match host.bytes().fold(false, |upper, b| upper | b.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    }
}

/// `reg-name` of RFC 3986 section 3.2.2, which takes in IPv4 addresses, less the comma.
fn is_reg_name(name: &[u8]) -> bool {
    let mut rest = name.iter();
    while let Some(b) = rest.next() {
        let valid = match b {
            b'%' => [rest.next(), rest.next()].iter().all(|d| d.is_some_and(u8::is_ascii_hexdigit)),
            b => b.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(b),
        };
        if !valid {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests;
