//! One request and its response, as capture saw them.
//!
//! This is the only place where raw bodies exist, and only as bounded prefixes. An exchange is
//! made on a traffic thread, handed to the pipeline, read there and dropped; it is never logged,
//! stored or printed, and its `Debug` shows sizes, not contents; nor the path, which may carry a token.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, Uri};

pub use crate::event::Ended;
use crate::event::Timestamp;
use crate::headers::Headers;

/// One request and its response.
pub struct Exchange {
    /// When the request's head had arrived.
    pub began: Timestamp,
    /// When the response's head had arrived; `began` plus the wait if none came.
    pub answered: Timestamp,
    /// From the request's head to the end of the answer.
    pub duration: Duration,
    /// The client's address, decided once.
    pub client_ip: IpAddr,
    /// `http` or `https`, as the client sees it.
    pub scheme: &'static str,
    /// What is known of the client's TLS connection, if it speaks TLS with us or with a trusted proxy
    /// that says so.
    pub tls: Option<Arc<ClientTls>>,
    /// `x-request-id`, kept or made.
    pub request_id: String,
    /// The request.
    pub request: Request,
    /// The response; `None` if none came.
    pub response: Option<Response>,
    /// How it ended.
    pub ended: Ended,
}

/// What is known of a client's TLS connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// `1.2` or `1.3`, and of a balancer `1.0` and `1.1` too; absent if it did not say.
    pub version: Option<&'static str>,
    /// The name the client asked for (SNI), lower case.
    pub sni: Option<String>,
    /// The JA4 fingerprint of its ClientHello.
    pub ja4: Option<String>,
    /// The subject of its verified certificate (RFC 4514).
    pub subject: Option<String>,
    /// The common name in that subject; absent where a balancer read the certificate.
    pub name: Option<String>,
    /// The first e-mail address in that certificate.
    pub email: Option<String>,
}

/// What was asked.
pub struct Request {
    /// Method as sent.
    pub method: Method,
    /// Target as sent (path and query).
    pub uri: Uri,
    /// `Host` without the port, lower case; empty if none was sent.
    pub host: String,
    /// All headers as sent by the client.
    pub headers: Headers,
    /// The kept prefix of the body.
    pub body: Kept,
}

/// What was answered.
pub struct Response {
    /// Status code.
    pub status: StatusCode,
    /// All headers as sent by the application.
    pub headers: Headers,
    /// The kept prefix of the body, as sent (maybe compressed).
    pub body: Kept,
}

/// A bounded copy of the beginning of a body.
#[derive(Clone, Default)]
pub struct Kept {
    /// The copy; empty if nobody asked for it.
    pub bytes: Bytes,
    /// True if the body had more bytes than were kept, or did not arrive to its end.
    pub cut: bool,
    /// True if the body was asked for; then empty `bytes` mean an empty body.
    pub asked: bool,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("method", &self.request.method)
            .field("status", &self.response.as_ref().map(|r| r.status.as_u16()))
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("len", &self.bytes.len()).field("cut", &self.cut).finish()
    }
}
