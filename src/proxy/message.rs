//! A request and an answer on their way through, over whichever protocol they came.
//!
//! Like the types of the `http` crate, but for the headers, which are lines (see
//! [`crate::headers`]) and no map.

use h2::ext::Protocol;
use http::{Method, StatusCode, Uri, Version};

use crate::headers::{Headers, Span};

/// The head of a request.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// What is asked for.
    pub method: Method,
    /// Of what.
    pub uri: Uri,
    /// In which version it came.
    pub version: Version,
    /// Its headers.
    pub headers: Headers,
    /// What a CONNECT over HTTP/2 opens (RFC 8441 section 4), if it says so.
    pub protocol: Option<Box<Protocol>>,
}

/// A request.
#[derive(Debug)]
pub struct Request<B> {
    parts: Parts,
    body: B,
}

impl<B> Request<B> {
    /// Of its head and its body.
    pub fn from_parts(parts: Parts, body: B) -> Request<B> {
        Request { parts, body }
    }

    /// Its head and its body.
    pub fn into_parts(self) -> (Parts, B) {
        (self.parts, self.body)
    }

    /// What is asked for.
    pub fn method(&self) -> &Method {
        &self.parts.method
    }

    /// Of what.
    pub fn uri(&self) -> &Uri {
        &self.parts.uri
    }

    /// In which version it came.
    pub fn version(&self) -> Version {
        self.parts.version
    }

    /// Its headers.
    pub fn headers(&self) -> &Headers {
        &self.parts.headers
    }

    /// Its headers, to be changed.
    pub fn headers_mut(&mut self) -> &mut Headers {
        &mut self.parts.headers
    }

    /// Its head.
    pub fn head(&self) -> &Parts {
        &self.parts
    }

    /// Its head, to be changed.
    pub fn head_mut(&mut self) -> &mut Parts {
        &mut self.parts
    }

    /// Its head and its body, both to be changed.
    pub fn split(&mut self) -> (&mut Parts, &mut B) {
        (&mut self.parts, &mut self.body)
    }

    /// Its body.
    pub fn body(&self) -> &B {
        &self.body
    }

    /// Its body, to be read.
    pub fn body_mut(&mut self) -> &mut B {
        &mut self.body
    }
}

/// The head of an answer.
#[derive(Clone, Debug, Default)]
pub struct AnswerParts {
    /// How it went.
    pub status: StatusCode,
    /// The words after the status, where they stand in the bytes of the headers; `None` is the usual
    /// ones.
    pub reason: Option<Span>,
    /// Its headers.
    pub headers: Headers,
}

/// An answer.
#[derive(Debug)]
pub struct Response<B> {
    parts: AnswerParts,
    body: B,
}

impl<B> Response<B> {
    /// 200 without headers.
    pub fn new(body: B) -> Response<B> {
        Response { parts: AnswerParts::default(), body }
    }

    /// Of its head and its body.
    pub fn from_parts(parts: AnswerParts, body: B) -> Response<B> {
        Response { parts, body }
    }

    /// Its head and its body.
    pub fn into_parts(self) -> (AnswerParts, B) {
        (self.parts, self.body)
    }

    /// How it went.
    pub fn status(&self) -> StatusCode {
        self.parts.status
    }

    /// How it went, to be changed.
    pub fn status_mut(&mut self) -> &mut StatusCode {
        &mut self.parts.status
    }

    /// Its headers.
    pub fn headers(&self) -> &Headers {
        &self.parts.headers
    }

    /// Its headers, to be changed.
    pub fn headers_mut(&mut self) -> &mut Headers {
        &mut self.parts.headers
    }

    /// Its body.
    pub fn body(&self) -> &B {
        &self.body
    }

    /// Its body, to be read.
    pub fn body_mut(&mut self) -> &mut B {
        &mut self.body
    }

    /// The same with another body.
    pub fn map<C>(self, change: impl FnOnce(B) -> C) -> Response<C> {
        Response { parts: self.parts, body: change(self.body) }
    }
}

impl From<http::request::Parts> for Parts {
    fn from(mut parts: http::request::Parts) -> Parts {
        let protocol = parts.extensions.remove::<Protocol>().map(Box::new);
        let headers = Headers::from(&parts.headers);
        Parts { method: parts.method, uri: parts.uri, version: parts.version, headers, protocol }
    }
}

impl<B> From<http::Request<B>> for Request<B> {
    fn from(request: http::Request<B>) -> Request<B> {
        let (parts, body) = request.into_parts();
        Request { parts: parts.into(), body }
    }
}

impl<B> From<Request<B>> for http::Request<B> {
    fn from(request: Request<B>) -> http::Request<B> {
        let Request { parts, body } = request;
        let mut made = http::Request::new(body);
        *made.headers_mut() = parts.headers.to_map();
        *made.method_mut() = parts.method;
        *made.uri_mut() = parts.uri;
        *made.version_mut() = parts.version;
        if let Some(protocol) = parts.protocol {
            made.extensions_mut().insert(*protocol);
        }
        made
    }
}

impl<B> From<http::Response<B>> for Response<B> {
    fn from(response: http::Response<B>) -> Response<B> {
        let (parts, body) = response.into_parts();
        let parts = AnswerParts { status: parts.status, reason: None, headers: Headers::from(&parts.headers) };
        Response { parts, body }
    }
}

impl<B> From<Response<B>> for http::Response<B> {
    fn from(response: Response<B>) -> http::Response<B> {
        let Response { parts, body } = response;
        let mut made = http::Response::new(body);
        *made.status_mut() = parts.status;
        *made.headers_mut() = parts.headers.to_map();
        made
    }
}
