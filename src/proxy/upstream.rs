//! The application: its address, connections to it, and one request's way there.
//!
//! Each traffic thread has a pool of its own (a stack, so that warm connections stay warm and cold
//! ones grow old), which no other thread sees and no lock guards. An idle connection is kept for
//! less time than common servers keep theirs, because the one who closes first wins a race that
//! costs a request. A request is sent a second time only if nothing of it can have had an effect
//! (RFC 9110 section 9.2.2).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, Response};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

use super::body::{BodyError, RequestBody};
use super::error::ProxyError;
use crate::config::node::{Node, clip};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::telemetry::Traffic;

/// The most idle connections a traffic thread keeps.
const MAX_IDLE: usize = 512;

/// The keys of `timeouts:`.
pub const TIMEOUT_FIELDS: &[Field] = &[
    Field::new("connect", Kind::Duration, "5s", "for a connection to the application; then 504"),
    Field::new("answer", Kind::Duration, "60s", "for the head of its answer; then 504"),
    Field::new(
        "upstream_idle",
        Kind::Duration,
        "1500ms",
        "how long an unused connection to it is kept; stay below its own keep-alive time",
    ),
    Field::new("header", Kind::Duration, "30s", "for a client to send the head of a request"),
    Field::new("drain", Kind::Duration, "10s", "for requests in flight when authtap is told to stop"),
];

/// Times allowed.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection to the application.
    pub connect: Duration,
    /// For the head of its answer.
    pub answer: Duration,
    /// How long an unused connection to it is kept.
    pub upstream_idle: Duration,
    /// For a client to send the head of a request.
    pub header: Duration,
    /// For requests in flight at the end.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(60),
            upstream_idle: Duration::from_millis(1500),
            header: Duration::from_secs(30),
            drain: Duration::from_secs(10),
        }
    }
}

impl Timeouts {
    /// Reads `timeouts:`.
    pub fn check(node: Option<&Node>, problems: &mut Problems) -> Timeouts {
        let mut timeouts = Timeouts::default();
        let Some(map) = node.and_then(|n| n.map(TIMEOUT_FIELDS, problems)) else { return timeouts };
        for (key, value) in [
            ("connect", &mut timeouts.connect),
            ("answer", &mut timeouts.answer),
            ("upstream_idle", &mut timeouts.upstream_idle),
            ("header", &mut timeouts.header),
            ("drain", &mut timeouts.drain),
        ] {
            let Some(found) = map.duration(key, problems) else { continue };
            // Zero ends the wait before it begins: every request would be refused.
            if found.is_zero()
                && key != "drain"
                && let Some(at) = map.get(key)
            {
                let hint = "take the key away for the usual time, or write a long one; it cannot be switched off";
                problems.error_hint(at, "no time at all is allowed".into(), hint);
            }
            *value = found;
        }
        timeouts
    }
}

/// Where the application listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host and port; a name is resolved at each connection.
    Tcp(String, u16),
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
    /// Reads `http://HOST[:PORT]` or `unix:/PATH`.
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
        if text.starts_with("https://") {
            let hint = "write http:// and the application's plain port; TLS ends in front of authtap";
            return error("https to the application is not built yet".into(), hint);
        }
        // Whatever stands before an `@` may be a password: it is not repeated.
        let shown = if text.contains('@') { "this".to_owned() } else { format!("`{}`", clip(text)) };
        let Some(rest) = text.strip_prefix("http://") else {
            return match text.contains("://")
                || text.contains('@')
                || Address::parse(&format!("http://{text}")).is_err()
            {
                true => {
                    error(format!("{shown} is not an upstream"), "write http://127.0.0.1:8000 or unix:/run/app.sock")
                }
                false => error(format!("{shown} has no scheme"), &format!("write http://{text}")),
            };
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if let Some(end) = authority.find(['/', '?', '#']) {
            let origin = authority.get(..end).unwrap_or_default();
            let meant = if text.contains('@') { String::new() } else { format!(": http://{}", clip(origin)) };
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
        Ok(Address::Tcp(host, port))
    }
}

impl Address {
    /// The host and port as `Host` says them.
    pub fn host_header(&self) -> HeaderValue {
        let text = match self {
            Address::Tcp(..) => self.to_string().trim_start_matches("http://").to_owned(),
            Address::Unix(_) => "localhost".to_owned(),
        };
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("localhost"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host, port) if host.contains(':') => write!(f, "http://[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "http://{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One traffic thread's connections to the application.
pub struct Pool {
    address: RefCell<Arc<Address>>,
    generation: Cell<u64>,
    idle: RefCell<Vec<Idle>>,
    stats: Arc<Traffic>,
}

struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

/// A connection in use; gives itself back or closes.
pub struct Lease {
    sender: SendRequest<RequestBody>,
    pool: Rc<Pool>,
    generation: u64,
}

impl Lease {
    /// The answer was read to its end: the connection may serve again.
    pub fn give_back(self) {
        let pool = self.pool;
        let mut idle = pool.idle.borrow_mut();
        if self.generation == pool.generation.get() && !self.sender.is_closed() && idle.len() < MAX_IDLE {
            idle.push(Idle { sender: self.sender, since: Instant::now() });
        }
    }
}

impl Pool {
    /// No connections yet.
    pub fn new(address: Arc<Address>, stats: Arc<Traffic>) -> Rc<Pool> {
        Rc::new(Pool { address: RefCell::new(address), generation: Cell::new(0), idle: RefCell::default(), stats })
    }

    /// Follows a reload: connections to another address are not used again.
    pub fn point_at(&self, address: &Arc<Address>) {
        if !Arc::ptr_eq(&self.address.borrow(), address) {
            if **self.address.borrow() != **address {
                self.generation.set(self.generation.get() + 1);
                self.idle.borrow_mut().clear();
            }
            *self.address.borrow_mut() = address.clone();
        }
    }

    /// Closes connections that have been idle for too long.
    pub fn sweep(&self, idle: Duration) {
        self.idle.borrow_mut().retain(|c| c.since.elapsed() < idle && !c.sender.is_closed());
    }

    /// Sends a request and waits for the head of the answer.
    pub async fn send(
        self: &Rc<Self>,
        mut request: Request<RequestBody>,
        timeouts: &Timeouts,
    ) -> Result<(Response<Incoming>, Lease), ProxyError> {
        if let Some(mut sender) = self.warm(timeouts.upstream_idle) {
            let again = replay(&request);
            request = match self.exchange(&mut sender, request, timeouts).await {
                Ok(response) => return Ok((response, self.lease(sender))),
                // Nothing of it was written: the connection had been closed meanwhile.
                Err(Failed::NotSent(unsent, _)) => *unsent,
                // Closed just as it was used again: repeated if that cannot do a thing twice.
                Err(Failed::Lost(error)) => match again.filter(|_| matches!(error, ProxyError::Closed(_))) {
                    Some(again) => again,
                    None => return Err(self.failed(error)),
                },
            };
        }
        let mut sender = self.connect(timeouts).await.map_err(|error| self.failed(error))?;
        match self.exchange(&mut sender, request, timeouts).await {
            Ok(response) => Ok((response, self.lease(sender))),
            Err(Failed::NotSent(_, error)) => Err(self.failed(ProxyError::Closed(error.into()))),
            Err(Failed::Lost(error)) => Err(self.failed(error)),
        }
    }

    /// The warmest idle connection that is still good.
    fn warm(&self, idle_for: Duration) -> Option<SendRequest<RequestBody>> {
        let mut idle = self.idle.borrow_mut();
        let mut busy = Vec::new();
        let found = loop {
            let Some(last) = idle.pop() else { break None };
            if last.sender.is_closed() || last.since.elapsed() >= idle_for {
                continue;
            }
            if last.sender.is_ready() {
                break Some(last.sender);
            }
            // Its last answer is not quite read yet (a request's body still on its way).
            busy.push(last);
        };
        idle.extend(busy);
        found
    }

    async fn connect(self: &Rc<Self>, timeouts: &Timeouts) -> Result<SendRequest<RequestBody>, ProxyError> {
        let address = self.address.borrow().clone();
        let connecting = async {
            match &*address {
                Address::Tcp(host, port) => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(refused)?;
                    // Small writes go out at once; failure to set it costs only latency.
                    let _ = stream.set_nodelay(true);
                    handshake(stream).await
                }
                Address::Unix(path) => handshake(UnixStream::connect(path).await.map_err(refused)?).await,
            }
        };
        tokio::time::timeout(timeouts.connect, connecting).await.unwrap_or(Err(ProxyError::UpstreamTimeout))
    }

    async fn exchange(
        &self,
        sender: &mut SendRequest<RequestBody>,
        request: Request<RequestBody>,
        timeouts: &Timeouts,
    ) -> Result<Response<Incoming>, Failed> {
        match tokio::time::timeout(timeouts.answer, sender.try_send_request(request)).await {
            Err(_) => Err(Failed::Lost(ProxyError::UpstreamTimeout)),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(mut error)) => Err(match error.take_message() {
                Some(unsent) => Failed::NotSent(Box::new(unsent), error.into_error()),
                None => Failed::Lost(lost(error.into_error())),
            }),
        }
    }

    fn lease(self: &Rc<Self>, sender: SendRequest<RequestBody>) -> Lease {
        Lease { sender, pool: self.clone(), generation: self.generation.get() }
    }

    /// Counts a failure of the application.
    pub fn failed(&self, error: ProxyError) -> ProxyError {
        // What is the client's doing is no failure of the application.
        if let Some(kind) = error.upstream_error() {
            self.stats.upstream_error(kind);
        }
        error
    }
}

fn refused(error: std::io::Error) -> ProxyError {
    ProxyError::Connect(error.into())
}

/// What a failed exchange means.
fn lost(error: hyper::Error) -> ProxyError {
    if error.is_parse() {
        ProxyError::Invalid(error.into())
    } else if error.is_user() {
        // The only thing we do to the client side of hyper is to feed it the client's body.
        match std::error::Error::source(&error).and_then(|source| source.downcast_ref::<BodyError>()) {
            Some(BodyError::Idle) => ProxyError::RequestTimeout,
            Some(BodyError::TooLarge) => ProxyError::BodyTooLarge,
            _ => ProxyError::BadRequest("the body broke off"),
        }
    } else {
        ProxyError::Closed(error.into())
    }
}

/// Tries to connect, for `check --connect`.
pub async fn probe(address: &Address, timeouts: &Timeouts) -> Result<(), ProxyError> {
    let connecting = async {
        match address {
            Address::Tcp(host, port) => TcpStream::connect((host.as_str(), *port)).await.map(drop),
            Address::Unix(path) => UnixStream::connect(path).await.map(drop),
        }
    };
    match tokio::time::timeout(timeouts.connect, connecting).await {
        Ok(result) => result.map_err(refused),
        Err(_) => Err(ProxyError::UpstreamTimeout),
    }
}

enum Failed {
    /// Nothing was written; the request is whole.
    NotSent(Box<Request<RequestBody>>, hyper::Error),
    /// It may have had an effect.
    Lost(ProxyError),
}

async fn handshake<S>(stream: S) -> Result<SendRequest<RequestBody>, ProxyError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .max_headers(256)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(lost)?;
    // The task ends with the connection; what went wrong reaches the request that uses it.
    tokio::task::spawn_local(async move {
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

/// A second copy of a request that may be sent twice: idempotent and without a body.
fn replay(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let idempotent = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    if !idempotent || !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(RequestBody::empty());
    again.method_mut().clone_from(request.method());
    again.uri_mut().clone_from(request.uri());
    again.headers_mut().clone_from(request.headers());
    again.extensions_mut().clone_from(request.extensions());
    Some(again)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_wrong_ones_say_why() {
        assert_eq!(Address::parse("http://127.0.0.1:8000"), Ok(Address::Tcp("127.0.0.1".into(), 8000)));
        assert_eq!(Address::parse("http://app/"), Ok(Address::Tcp("app".into(), 80)));
        assert_eq!(Address::parse("http://[::1]:81"), Ok(Address::Tcp("::1".into(), 81)));
        assert_eq!(Address::parse("unix:/run/app.sock"), Ok(Address::Unix("/run/app.sock".into())));
        for bad in
            ["", "127.0.0.1:8000", "ftp://x", "http://", "http://a/b", "http://u@a", "unix:app.sock", "http://a:99999"]
        {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Address::Tcp("::1".into(), 81).to_string(), "http://[::1]:81");
    }
}
