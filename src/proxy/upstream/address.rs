//! Where the application listens, as it is written in the configuration.
//!
//! Reading an address must never touch the network, and never repeat what may be a password. The
//! invariant: what `Display` writes is read back as the same address.

use std::fmt;
use std::path::PathBuf;

use http::HeaderValue;

use crate::config::node::clip;

/// Where the application listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host and port; a name is resolved at each connection.
    Tcp(String, u16),
    /// The same with TLS.
    Tls(String, u16),
    /// A Unix domain socket.
    Unix(PathBuf),
}

/// Why a text is no address of an application.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}: {hint}")]
pub struct AddressError {
    /// What is wrong with it.
    pub why: String,
    /// What to write instead.
    pub hint: String,
}

impl Address {
    /// Reads `http://HOST[:PORT]`, `https://HOST[:PORT]` or `unix:/PATH`.
    ///
    /// # Errors
    /// The text is none of them; the error never repeats what may be a password.
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        let error = |why: String, hint: &str| Err(AddressError { why, hint: hint.to_owned() });
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.starts_with('/') {
                true => Ok(Address::Unix(path.into())),
                false => error(
                    format!("`{}` is not an absolute path", clip(path)),
                    "write the whole path of the socket: unix:/run/app.sock",
                ),
            };
        }
        // Whatever stands before an `@` may be a password: it is not repeated.
        let shown = if text.contains('@') { "this".to_owned() } else { format!("`{}`", clip(text)) };
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (scheme, Some(rest)),
            _ => ("http", None),
        };
        let Some(rest) = rest else {
            return match text.contains("://")
                || text.contains('@')
                || Address::parse(&format!("http://{text}")).is_err()
            {
                true => error(
                    format!("{shown} is not an upstream"),
                    "write http://127.0.0.1:8000, https://app.internal or unix:/run/app.sock",
                ),
                false => error(format!("{shown} has no scheme"), &format!("write http://{text}")),
            };
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if let Some(end) = authority.find(['/', '?', '#']) {
            let origin = authority.get(..end).unwrap_or_default();
            let meant = if text.contains('@') { String::new() } else { format!(": {scheme}://{}", clip(origin)) };
            return error(
                "an upstream has no path".into(),
                &format!("requests keep the path they came with, so leave it out{meant}"),
            );
        }
        if authority.contains('@') {
            let hint = "leave the part before the `@` out; authtap passes on what clients send";
            return error("an upstream has no user or password".into(), hint);
        }
        let Ok(parsed) = authority.parse::<http::uri::Authority>() else {
            return error(format!("{shown} is not a host and port"), "write it like http://127.0.0.1:8000");
        };
        // The parser of URIs takes `:99999` for no port at all, and accepts `host:` and `:8000`.
        let port = match authority.get(parsed.host().len()..).unwrap_or_default() {
            "" if scheme == "https" => 443,
            "" => 80,
            rest => match rest.trim_start_matches(':').parse::<u16>() {
                Ok(port) if port > 0 => port,
                _ => return error(format!("{shown} has no usable port"), "a port is a number from 1 to 65535"),
            },
        };
        let host = parsed.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return error(format!("{shown} has no host"), "write it like http://127.0.0.1:8000");
        }
        Ok(if scheme == "https" { Address::Tls(host, port) } else { Address::Tcp(host, port) })
    }
}

impl Address {
    /// The host and port as `Host` says them.
    pub fn host_header(&self) -> HeaderValue {
        let text = match self {
            Address::Tcp(host, port) | Address::Tls(host, port) => authority(host, *port),
            Address::Unix(_) => "localhost".to_owned(),
        };
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("localhost"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host, port) => write!(f, "http://{}", authority(host, *port)),
            Address::Tls(host, port) => write!(f, "https://{}", authority(host, *port)),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// HOST:PORT, with an IPv6 address in brackets (RFC 3986 section 3.2.2).
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_wrong_ones_say_why() {
        assert_eq!(Address::parse("http://127.0.0.1:8000"), Ok(Address::Tcp("127.0.0.1".into(), 8000)));
        assert_eq!(Address::parse("http://app/"), Ok(Address::Tcp("app".into(), 80)));
        assert_eq!(Address::parse("http://[::1]:81"), Ok(Address::Tcp("::1".into(), 81)));
        assert_eq!(Address::parse("https://app"), Ok(Address::Tls("app".into(), 443)));
        assert_eq!(Address::parse("https://[::1]:8443/"), Ok(Address::Tls("::1".into(), 8443)));
        assert_eq!(Address::parse("unix:/run/app.sock"), Ok(Address::Unix("/run/app.sock".into())));
        for bad in [
            "",
            "127.0.0.1:8000",
            "ftp://x",
            "http://",
            "http://a/b",
            "http://u@a",
            "unix:app.sock",
            "http://a:99999",
            "https://",
            "https://a/b",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Address::Tcp("::1".into(), 81).to_string(), "http://[::1]:81");
        assert_eq!(Address::Tls("app".into(), 443).to_string(), "https://app:443");
        assert_eq!(Address::Tls("::1".into(), 81).host_header(), "[::1]:81");
    }
}
