//! The fields after a chunked body (RFC 9112 section 7.1.2).
//!
//! They come when everything has been decided by the header section, from whoever wrote the body,
//! and some applications read them as if they were headers. So what frames, routes, authenticates or
//! describes a message must never travel here, in either direction: [`may_trail`] is asked on the
//! way in and on the way out.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::proxy::headers::{is_end_to_end, is_hop_by_hop};

/// The most fields of one trailer section.
pub const MAX_TRAILERS: usize = 100;

/// The longest trailer section, in bytes, with the line ends of its fields.
pub const MAX_TRAILER_BYTES: usize = 16 * 1024;

/// Those that [`is_end_to_end`] knows and that may be known only at the end of the content: RFC 9110
/// sections 8.8.3, 11.6.3 and 14.3 say so of them.
const LATE: [&str; 3] = ["etag", "authentication-info", "accept-ranges"];

/// True for a field, in any case, that may stand after the content. RFC 9110 section 6.5.1 leaves
/// out "those that describe message framing, routing, authentication, request modifiers, response
/// controls, or content format".
pub fn may_trail(name: &str) -> bool {
    let late = || LATE.iter().any(|known| known.eq_ignore_ascii_case(name));
    !is_hop_by_hop(name) && (!is_end_to_end(name) || late())
}

/// Reads a whole trailer section, from its first field to the empty line. `None` if it is malformed
/// or has more than [`MAX_TRAILERS`] fields. What may not trail is left out.
pub(super) fn parse(section: &[u8]) -> Option<HeaderMap> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILERS];
    let Ok(httparse::Status::Complete((read, fields))) = httparse::parse_headers(section, &mut fields) else {
        return None;
    };
    if read != section.len() {
        return None;
    }
    let mut trailers = HeaderMap::new();
    for field in fields {
        // All are looked at: one that is left out is no excuse for a malformed one.
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(field.value).ok()?;
        if may_trail(name.as_str()) {
            trailers.append(name, value);
        }
    }
    Some(trailers)
}

/// Writes the fields that may trail, without the empty line after them.
pub(super) fn write(trailers: &HeaderMap, to: &mut Vec<u8>) {
    for (name, value) in trailers {
        if may_trail(name.as_str()) {
            to.extend_from_slice(name.as_str().as_bytes());
            to.extend_from_slice(b": ");
            to.extend_from_slice(value.as_bytes());
            to.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_frames_routes_or_authenticates_may_not_trail() {
        for name in [
            "transfer-encoding",
            "Content-Length",
            "host",
            "connection",
            "Upgrade",
            "te",
            "trailer",
            "authorization",
            "cookie",
            "set-cookie",
            "content-type",
            "content-encoding",
            "content-range",
            "cache-control",
            "expect",
            "max-forwards",
            "x-forwarded-for",
            "X_Forwarded_For",
            "forwarded",
            "x-request-id",
            "sec-fetch-site",
        ] {
            assert!(!may_trail(name), "{name}");
        }
        for name in ["grpc-status", "x-sum", "server-timing", "content-digest", "ETag", "authentication-info"] {
            assert!(may_trail(name), "{name}");
        }
    }

    #[test]
    fn a_malformed_field_is_a_fault_even_if_it_would_be_left_out() {
        assert!(parse(b"host: a\r\n\r\n").is_some_and(|fields| fields.is_empty()));
        assert!(parse(b"host: a\0\r\n\r\n").is_none());
        assert!(parse(b"host : a\r\n\r\n").is_none());
        assert!(parse(b"x-sum: 1\r\n\r\nx").is_none());
    }
}
