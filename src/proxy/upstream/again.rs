//! A request once more: for connections that close, or refuse a stream, just as they are used again.
//!
//! Whether it may be sent twice is decided by who lost it; here is only what that takes.

use http::Method;
use http_body::Body;

use crate::proxy::body::RequestBody;
use crate::proxy::message::{Parts, Request};

/// True for methods that cannot do a thing twice (RFC 9110 section 9.2.2), of those that have no body.
pub(super) fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// What a second try of a request without a body needs: its head, whose lines share their bytes.
pub(super) struct Again(Parts);

impl Again {
    /// `None` if the request has a body, which is gone once it was sent.
    pub fn of(request: &Request<RequestBody>) -> Option<Again> {
        request.body().is_end_stream().then(|| Again(request.head().clone()))
    }

    /// True if it cannot do a thing twice (RFC 9110 section 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        is_idempotent(&self.0.method)
    }

    /// The request once more.
    pub fn request(self) -> Request<RequestBody> {
        Request::from_parts(self.0, RequestBody::empty())
    }
}
