//! `HOST:PORT` of a receiver.
//!
//! It must never hold a secret: what looks like a user and password before the host is refused
//! without being repeated.

use std::fmt;

use crate::config::node::Node;
use crate::config::problem::Problems;

/// The longest host, in bytes (RFC 1035 section 2.3.4).
const MAX_HOST: usize = 253;

/// Where a receiver is.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// Reads `HOST:PORT`, or `HOST` alone where there is a usual port.
    pub fn check(at: &Node, usual: Option<u16>, problems: &mut Problems) -> Option<Address> {
        let text = at.str(problems)?;
        let found = Address::parse(text, usual);
        if found.is_none() {
            let hint = match usual {
                Some(port) => format!("write HOST or HOST:PORT; the usual port is {port}"),
                None => "write HOST:PORT".into(),
            };
            let message = "this is no HOST:PORT".to_owned();
            // A URL may carry a password.
            if text.contains(['@', '/']) {
                let hint = format!("{hint}, without a scheme, and name user and password by their own keys");
                problems.error_blotted(at, message, &hint);
            } else {
                problems.error_hint(at, message, &hint);
            }
        }
        found
    }

    /// Reads it from a text; an IPv6 address stands in brackets.
    pub fn parse(text: &str, usual: Option<u16>) -> Option<Address> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, port)
            }
            None => match text.find(':') {
                Some(at) => text.split_at_checked(at)?,
                None => (text, ""),
            },
        };
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
        if host.is_empty() || host.len() > MAX_HOST || !host.bytes().all(known) {
            return None;
        }
        let port = match port.strip_prefix(':') {
            Some(digits) => digits.parse::<u16>().ok().filter(|port| *port > 0 && !digits.starts_with('+'))?,
            None if port.is_empty() => usual?,
            None => return None,
        };
        Some(Address { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_a_port_are_read_and_the_usual_port_fills_in() {
        let read = |text: &str, usual| Address::parse(text, usual).map(|address| address.to_string());
        assert_eq!(read("siem.example:514", None).as_deref(), Some("siem.example:514"));
        assert_eq!(read("siem.example", Some(6514)).as_deref(), Some("siem.example:6514"));
        assert_eq!(read("[::1]:601", None).as_deref(), Some("[::1]:601"));
        assert_eq!(read("[::1]", Some(601)).as_deref(), Some("[::1]:601"));
        for bad in
            ["", ":1", "a:", "a:0", "a:65536", "a:+1", "a b:1", "u:p@a:1", "tcp://a:1", "[::1", "[a]:1", "::1", "é:1"]
        {
            assert_eq!(read(bad, Some(1)), None, "{bad}");
        }
        assert_eq!(read("siem.example", None), None);
    }
}
