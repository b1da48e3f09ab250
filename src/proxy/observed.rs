//! Who is told of one request, besides capture: its line in the access log, and its span.
//!
//! Both begin with the head as it came, so that what is refused is told too, and end with the
//! answer's body. Neither is waited for. Where neither is configured nothing here allocates.

use std::time::Instant;

use http::{HeaderValue, StatusCode, header};

use super::access_log::Entry;
use super::error::{ProxyError, Side};
use super::forwarded::client_scheme;
use super::handler::{Connection, Live};
use super::host::{self, HostPort};
use super::message::Request;
use super::request_id::RequestId;
use super::spans::{Head, Span};
use super::upstream::Address;
use crate::event::text::Text;
use crate::exchange::Ended;
use crate::headers::{Headers, Value};

/// What is told of a request while it is on its way.
#[derive(Debug, Default)]
pub struct Observed {
    /// In boxes, as is the span: they are seldom there, and go along with every answer.
    log: Option<Box<Entry>>,
    span: Option<Box<Span>>,
    /// When the application was asked, until what came of it is told.
    asked: Option<Instant>,
}

impl Observed {
    /// Begins with the head of a request as it came.
    pub fn begin<B>(live: &Live, connection: &Connection, request: &Request<B>) -> Observed {
        let sampled = live.tracer.as_ref().and_then(|tracer| tracer.sample(request.headers()));
        if live.access_log.is_none() && sampled.is_none() {
            return Observed::default();
        }
        let peer = connection.peer.ip();
        let client = live.client_ip.decide(peer, request.headers());
        // An authority in the target goes before the header (RFC 9112 section 3.2.2).
        let authority = match request.uri().authority() {
            Some(authority) => authority.as_str().as_bytes(),
            None => request.headers().get(header::HOST).map_or(b"".as_slice(), Value::as_bytes),
        };
        let host = host::host_without_port_lowercase(authority);
        let (method, path, version) = (request.method(), request.uri().path(), request.version());
        Observed {
            log: live.access_log.as_ref().map(|log| Box::new(log.begin(client, method, &host, path, version))),
            span: sampled.map(|sampled| {
                let scheme = client_scheme(request.headers(), live.client_ip.trusts(peer), connection.scheme);
                let port = HostPort::read(authority).and_then(|read| read.port);
                Box::new(sampled.begin(&Head { client, method, scheme, host: (&*host, port), path, version }))
            }),
            asked: None,
        }
    }

    /// The application is asked now.
    pub fn asks(&mut self) {
        self.asked = (self.log.is_some() || self.span.is_some()).then(Instant::now);
    }

    /// True if the request is recorded in a trace.
    pub fn is_traced(&self) -> bool {
        self.span.is_some()
    }

    /// The id of the request.
    pub fn request_id(&mut self, id: &RequestId) {
        if let Some(log) = &mut self.log {
            log.request_id(id.as_str());
        }
        if let Some(span) = &mut self.span {
            span.request_id(id.as_str());
        }
    }

    /// Tells the application which span asks it; what stands in its `traceparent` then, if anything
    /// was changed.
    pub fn tell(&self, headers: &mut Headers) -> Option<HeaderValue> {
        self.span.as_ref()?.tell(headers)
    }

    /// The route that is about the request, and the path it is written for.
    pub fn route(&mut self, route: Option<(Text, Option<Text>)>) {
        if let (Some(span), Some((id, path))) = (&mut self.span, route) {
            span.route(id, path);
        }
    }

    /// The head of the answer: the application's at this of its addresses, if it was asked.
    pub fn answered(&mut self, status: StatusCode, server: Option<&Address>) {
        let asked = self.asked.take();
        if let Some(log) = &mut self.log {
            log.answered(status, asked.map(|asked| asked.elapsed()));
        }
        if let Some(span) = &mut self.span {
            if let Some(asked) = asked {
                span.called(asked, Ok((status, server)));
            }
            span.answered(status, None);
        }
    }

    /// So many bytes more of the answer's body were handed on.
    pub fn sent(&mut self, bytes: usize) {
        if let Some(log) = &mut self.log {
            log.sent(bytes);
        }
    }

    /// The request is answered by ourselves, with so many bytes.
    pub fn refused(&mut self, error: &ProxyError, status: StatusCode, bytes: usize) {
        if let Some(log) = &mut self.log {
            log.answered(status, None);
            log.sent(bytes);
        }
        if let Some(span) = &mut self.span {
            if let Some(asked) = self.asked.take() {
                span.called(asked, Err(word(error).unwrap_or("cancelled")));
            }
            span.answered(status, word(error));
        }
        self.finish(match error {
            ProxyError::RequestTimeout | ProxyError::BodyTooLarge => Ended::RequestCut,
            _ if error.side() == Side::Upstream => Ended::UpstreamFailed,
            _ => Ended::Complete,
        });
    }

    /// The end. What comes after it is not told.
    pub fn finish(&mut self, ended: Ended) {
        if let Some(mut log) = self.log.take() {
            log.finish(ended);
        }
        if let Some(mut span) = self.span.take() {
            span.finish(ended);
        }
    }
}

/// The word for a failure that is not the client's.
fn word(error: &ProxyError) -> Option<&'static str> {
    match error.side() {
        Side::Client => None,
        Side::Internal => Some("overloaded"),
        Side::Upstream => error.upstream_error().map(|kind| kind.as_str()),
    }
}
