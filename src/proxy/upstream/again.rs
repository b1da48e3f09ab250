//! A request once more: for connections that close, or refuse a stream, just as they are used again.
//!
//! Whether it may be sent twice is decided by who lost it; here is only what that takes.

use http::{HeaderName, HeaderValue, Method, Request, Uri};
use hyper::body::Body;

use crate::proxy::body::RequestBody;

/// True for methods that cannot do a thing twice (RFC 9110 section 9.2.2), of those that have no body.
pub(super) fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// What a second try of a request without a body needs.
pub(super) struct Again {
    method: Method,
    uri: Uri,
    headers: Box<[(HeaderName, HeaderValue)]>,
}

impl Again {
    /// `None` if the request has a body, which is gone once it was sent. The names and values share their bytes with the
    /// request's, and are kept flat: a second map, and a second map of the names' cases, cost as much
    /// as all else that is done to a request, for a race that is nearly never lost.
    pub fn of(request: &Request<RequestBody>) -> Option<Again> {
        if !request.body().is_end_stream() {
            return None;
        }
        let headers = request.headers().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        Some(Again { method: request.method().clone(), uri: request.uri().clone(), headers })
    }

    /// True if it cannot do a thing twice (RFC 9110 section 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        is_idempotent(&self.method)
    }

    /// The request once more. HTTP/2 knows no case of names.
    pub fn request(self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        for (name, value) in self.headers {
            request.headers_mut().append(name, value);
        }
        request
    }
}
