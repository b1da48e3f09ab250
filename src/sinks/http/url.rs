//! Where a receiver is: `http://` or `https://`, a host, a port, a path.
//!
//! It must never show what may be a secret: messages leave the query out and mask what looks like
//! a token in the path. A user and password in front of the host are refused; they have keys of
//! their own.

use std::fmt;

use http::Uri;

use crate::config::node::Node;
use crate::config::problem::Problems;
use crate::event::text::{MASK, looks_like_a_token};

/// A checked URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// TLS is spoken.
    pub https: bool,
    /// A name or address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path, from its first `/`.
    pub path: String,
    /// What comes after `?`, if anything.
    pub query: Option<String>,
}

impl Url {
    /// Reads a URL of the configuration.
    pub fn check(at: &Node, problems: &mut Problems) -> Option<Url> {
        let text = at.str(problems)?;
        let parsed = Url::parse(text);
        if let Err(why) = &parsed {
            // Not repeated: it may hold a token.
            problems.error_blotted(at, (*why).into(), "write https://HOST/PATH or http://HOST:PORT/PATH");
        }
        parsed.ok()
    }

    /// Reads `https://HOST[:PORT][/PATH][?QUERY]`.
    ///
    /// # Errors
    /// What is wrong with it, without repeating it.
    pub fn parse(text: &str) -> Result<Url, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "this is no URL")?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("a receiver's URL begins with https:// or http://"),
        };
        let authority = uri.authority().ok_or("the URL has no host")?;
        if authority.as_str().contains('@') {
            return Err(
                "a user and password in the URL would be shown everywhere; name them with `user` and `password_env`",
            );
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match authority.port_u16() {
            Some(0) => return Err("port 0 is no port"),
            Some(port) => port,
            None if authority.as_str() != authority.host() => {
                return Err("the port is no port");
            }
            None if https => 443,
            None => 80,
        };
        if host.is_empty() || text.contains('#') {
            return Err("the URL has no host, or a `#`");
        }
        Ok(Url { https, host, port, path: uri.path().to_owned(), query: uri.query().map(str::to_owned) })
    }

    /// The same place with this path (and no query) in place of `/`, if there is no other path yet.
    pub fn or_path(mut self, path: &str) -> Url {
        if self.path == "/" && self.query.is_none() {
            path.clone_into(&mut self.path);
        }
        self
    }

    /// This path behind what the URL's own path is, without a query.
    pub fn under(&self, path: &str) -> String {
        format!("{}{path}", self.path.trim_end_matches('/'))
    }

    /// Scheme, host, port and path, without a slash at the end.
    pub fn base(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path.trim_end_matches('/'))
    }

    /// Path and query, as they are asked for.
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// The value of the header `Host`.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.https { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.https { "https" } else { "http" }, self.authority())?;
        for segment in self.path.split('/').skip(1) {
            write!(f, "/{}", if looks_like_a_token(segment) { MASK } else { segment })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_shown_without_what_may_be_secret() {
        let url = Url::parse("https://siem.example/hooks/Tq8ZxYw1Pd93LmVb77?token=s3cret").unwrap();
        assert_eq!((url.https, url.port, url.host.as_str()), (true, 443, "siem.example"));
        assert_eq!(url.target(), "/hooks/Tq8ZxYw1Pd93LmVb77?token=s3cret");
        assert_eq!(format!("{url} {url:?}"), "https://siem.example/hooks/*** https://siem.example/hooks/***");
        let url = Url::parse("http://[::1]:8123").unwrap();
        assert_eq!((url.host.as_str(), url.authority().as_str(), url.path.as_str()), ("::1", "[::1]:8123", "/"));
        assert_eq!(url.or_path("/x").target(), "/x");
        assert_eq!(Url::parse("https://a.test:8443/es/?x=1").unwrap().base(), "https://a.test:8443/es");
        assert_eq!(Url::parse("http://a.test/es/").unwrap().under("/_bulk"), "/es/_bulk");
    }

    #[test]
    fn what_is_no_receiver_is_refused() {
        for bad in [
            "",
            "siem.example",
            "ftp://a.test/",
            "https://u:p@a.test/",
            "https://",
            "http://a.test:0/",
            "http://a.test:99999/",
            "http://a.test/#x",
            "/path",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }
}
