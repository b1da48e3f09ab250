//! Who may use the admin listener.
//!
//! On loopback no token is needed, so two other doors must be shut: a web page that points its own
//! name at 127.0.0.1 (DNS rebinding: the `Host` header must be a name of this machine) and a web
//! page that posts across origins. On any other address a bearer token is demanded (RFC 6750). The
//! token itself is not kept, only its hash, and never shown. Invariant: an [`AdminAuth`] without a
//! token is never used on an address that others can reach; `serve` checks it once more.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use subtle::ConstantTimeEq;

/// Who may use the admin listener.
#[derive(Clone)]
pub struct AdminAuth {
    token: Option<blake3::Hash>,
    host: Option<String>,
}

/// Why the admin listener cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Others can reach the address and there is no token.
    #[error(
        "the admin listener on {address} can be reached from other machines and has no token; \
         set a token, or listen on 127.0.0.1"
    )]
    NoToken {
        /// The address.
        address: SocketAddr,
    },
    /// The token cannot be sent in a header.
    #[error("the admin token is empty or has characters other than visible ASCII; choose another")]
    BadToken,
    /// The operating system does not say where the listener listens.
    #[error("the admin listener's address cannot be read: {0}")]
    Address(#[from] std::io::Error),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No `Host`, several, or one that is none (RFC 9112 section 3.2).
    NoHost,
    /// A `Host` that is not this machine.
    ForeignHost,
    /// No token, or another.
    Token,
    /// A browser on a page from elsewhere.
    CrossOrigin,
}

impl AdminAuth {
    /// What a listener on `address` demands. A token, if there is one, is demanded on loopback
    /// too. White space around it (a file's last line end) does not count.
    ///
    /// Fails if others can reach the address and there is no token, or if the token cannot be sent.
    pub fn for_listener(address: SocketAddr, token: Option<String>) -> Result<AdminAuth, AdminError> {
        let token = match token.as_deref().map(str::trim) {
            Some(token) if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) => {
                return Err(AdminError::BadToken);
            }
            Some(token) => Some(blake3::hash(token.as_bytes())),
            None => None,
        };
        let auth = AdminAuth { token, host: None };
        auth.suits(address)?;
        Ok(auth)
    }

    /// Also takes requests for this host name (a name given to the machine), without port.
    pub fn with_host(mut self, name: &str) -> AdminAuth {
        self.host = Some(plain_host(name));
        self
    }

    /// Fails if this would leave a listener on `address` open to other machines.
    pub(super) fn suits(&self, address: SocketAddr) -> Result<(), AdminError> {
        if self.token.is_some() || address.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        Err(AdminError::NoToken { address })
    }

    /// Whether a request may pass.
    pub(super) fn admit(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        match &self.token {
            Some(token) => {
                let sent = bearer(headers).ok_or(Refusal::Token)?;
                // Hashes have one length, so neither the length nor the first difference shows in the time.
                let same: bool = blake3::hash(sent).as_bytes().ct_eq(token.as_bytes()).into();
                if !same {
                    return Err(Refusal::Token);
                }
            }
            None => {
                let host = target(uri, headers).ok_or(Refusal::NoHost)?;
                if !self.is_ours(&plain_host(host.host())) {
                    return Err(Refusal::ForeignHost);
                }
            }
        }
        if method.is_safe() || same_origin(uri, headers) { Ok(()) } else { Err(Refusal::CrossOrigin) }
    }

    fn is_ours(&self, host: &str) -> bool {
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<IpAddr>().is_ok()
            || self.host.as_deref() == Some(host)
    }
}

impl fmt::Debug for AdminAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminAuth").field("token", &self.token.is_some()).field("host", &self.host).finish()
    }
}

/// Lets a request pass or answers it.
pub(super) async fn guard(State(auth): State<Arc<AdminAuth>>, request: Request, next: Next) -> Response {
    match auth.admit(request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Refusal::NoHost => (StatusCode::BAD_REQUEST, "one `Host` header is needed\n").into_response(),
            Refusal::ForeignHost => {
                let why = "this is not the host asked for; use an IP address or localhost, or configure the name\n";
                (StatusCode::MISDIRECTED_REQUEST, why).into_response()
            }
            Refusal::Token => {
                let why = "a token is needed; send `Authorization: Bearer TOKEN`\n";
                (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], why).into_response()
            }
            Refusal::CrossOrigin => {
                (StatusCode::FORBIDDEN, "a page from another origin may not do this\n").into_response()
            }
        }
    }
}

/// The one value of a header.
fn single(headers: &HeaderMap, name: header::HeaderName) -> Option<&[u8]> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then(|| first.as_bytes())
}

/// The token of `Authorization: Bearer TOKEN`; the scheme in any case (RFC 9110 section 11.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = single(headers, header::AUTHORIZATION)?.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// The authority asked for; that of an absolute target counts before `Host` (RFC 9112 section 3.2.2).
fn target(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let host = Authority::try_from(single(headers, header::HOST)?).ok()?;
    Some(uri.authority().cloned().unwrap_or(host)).filter(|a| !a.as_str().contains('@'))
}

/// True if no page sent this, or one of our own (RFC 6454 section 5: scheme, host and port).
fn same_origin(uri: &Uri, headers: &HeaderMap) -> bool {
    if !headers.contains_key(header::ORIGIN) {
        return true;
    }
    let origin = single(headers, header::ORIGIN).and_then(|o| Uri::try_from(o).ok());
    let (Some(origin), Some(ours)) = (origin, target(uri, headers)) else { return false };
    let Some(theirs) = origin.authority() else { return false };
    // Whoever ends TLS before us leaves the port of https out of `Host`.
    let usual = match origin.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return false,
    };
    plain_host(theirs.host()) == plain_host(ours.host())
        && theirs.port_u16().unwrap_or(usual) == ours.port_u16().unwrap_or(usual)
}

/// A host in lower case, without the brackets of IPv6 and the dot of a full name.
fn plain_host(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> AdminAuth {
        AdminAuth::for_listener(SocketAddr::from(([127, 0, 0, 1], 0)), None).expect("loopback")
    }

    fn demanding() -> AdminAuth {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        AdminAuth::for_listener(any, Some("right-token\n".into())).expect("a token")
    }

    fn ask(auth: &AdminAuth, method: Method, headers: &[(header::HeaderName, &str)]) -> Result<(), Refusal> {
        let headers = headers.iter().map(|(k, v)| (k.clone(), v.parse().expect("a header value"))).collect();
        auth.admit(&method, &Uri::from_static("/config"), &headers)
    }

    #[test]
    fn an_address_that_others_reach_needs_a_token() {
        for address in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
            let address: SocketAddr = address.parse().expect("an address");
            let error = AdminAuth::for_listener(address, None).expect_err("refused").to_string();
            assert!(error.contains("set a token") && error.contains(&address.to_string()), "{error}");
        }
        for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(AdminAuth::for_listener(address.parse().expect("an address"), None).is_ok(), "{address}");
        }
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_refused_and_never_shown() {
        for token in ["", " \n", "top secret", "sécret"] {
            let address = SocketAddr::from(([127, 0, 0, 1], 0));
            let error = AdminAuth::for_listener(address, Some(token.into())).expect_err("refused").to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(!format!("{:?}", demanding()).contains("right"));
    }

    #[test]
    fn only_the_token_opens() {
        let with = |value| ask(&demanding(), Method::GET, &[(header::AUTHORIZATION, value)]);
        assert_eq!(with("Bearer right-token"), Ok(()));
        assert_eq!(with("bearer  right-token"), Ok(()));
        for wrong in ["Bearer right-toke", "Bearer right-token2", "Bearer ", "Basic right-token", "right-token", ""] {
            assert_eq!(with(wrong), Err(Refusal::Token), "{wrong}");
        }
        assert_eq!(ask(&demanding(), Method::GET, &[]), Err(Refusal::Token));
        let mut twice = HeaderMap::new();
        for value in ["Bearer right-token", "Bearer wrong"] {
            twice.append(header::AUTHORIZATION, value.parse().expect("a header value"));
        }
        assert_eq!(demanding().admit(&Method::GET, &Uri::from_static("/"), &twice), Err(Refusal::Token));
    }

    #[test]
    fn without_a_token_the_host_must_be_this_machine() {
        let auth = open().with_host("Box.Internal");
        let with = |host| ask(&auth, Method::GET, &[(header::HOST, host)]);
        for ours in ["127.0.0.1:9", "[::1]:9", "localhost", "LocalHost.:9", "a.localhost", "box.internal:9"] {
            assert_eq!(with(ours), Ok(()), "{ours}");
        }
        for foreign in ["evil.test", "localhost.evil.test", "127.0.0.1.evil.test", "notlocalhost", "internal"] {
            assert_eq!(with(foreign), Err(Refusal::ForeignHost), "{foreign}");
        }
        assert_eq!(with("evil.test@localhost"), Err(Refusal::NoHost));
        assert_eq!(ask(&auth, Method::GET, &[]), Err(Refusal::NoHost));
        // With a token there is nothing for a foreign page to reach.
        let headers = [(header::HOST, "evil.test"), (header::AUTHORIZATION, "Bearer right-token")];
        assert_eq!(ask(&demanding(), Method::GET, &headers), Ok(()));
    }

    #[test]
    fn the_host_of_an_absolute_target_counts_first() {
        let headers = HeaderMap::from_iter([(header::HOST, "localhost".parse().expect("a header value"))]);
        let foreign = Uri::from_static("http://evil.test/config");
        assert_eq!(open().admit(&Method::GET, &foreign, &headers), Err(Refusal::ForeignHost));
    }

    #[test]
    fn a_page_from_elsewhere_may_not_change_anything() {
        let post = |host, origin| ask(&open(), Method::POST, &[(header::HOST, host), (header::ORIGIN, origin)]);
        assert_eq!(ask(&open(), Method::POST, &[(header::HOST, "localhost:9")]), Ok(()));
        assert_eq!(post("localhost:9", "http://localhost:9"), Ok(()));
        assert_eq!(post("localhost", "http://localhost:80"), Ok(()));
        assert_eq!(post("localhost", "https://localhost"), Ok(()));
        for foreign in
            ["http://evil.test", "http://localhost:8", "http://127.0.0.1:9", "null", "", "file://localhost:9"]
        {
            assert_eq!(post("localhost:9", foreign), Err(Refusal::CrossOrigin), "{foreign}");
        }
        let get = [(header::HOST, "localhost"), (header::ORIGIN, "http://evil.test")];
        assert_eq!(ask(&open(), Method::GET, &get), Ok(()), "no answer carries CORS headers, so it cannot be read");
    }
}
