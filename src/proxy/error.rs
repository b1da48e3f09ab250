//! Why a request got no answer from the application, and the one answer that the client sees then.
//!
//! The answer must never show anything of the inside (addresses, sources of errors) nor repeat
//! what the client sent, except a request id that needs no escaping anywhere. What went wrong in
//! detail is for the log: the error's `Display` and its source.
//!
//! The invariant: every error has one status and one word, and they do not depend on the path that
//! led here.

use std::error::Error;

use bytes::Bytes;
use http::StatusCode;
use http::header;
use http_body_util::Full;

use crate::headers::Headers;
use crate::telemetry::UpstreamError;

use super::body::Broke;
use super::host::TargetError;
use super::message::Response;

/// The most entries of `Accept` that are looked at.
const MAX_RANGES: usize = 32;

/// The cause of a failure towards the application; for the log, never for the client.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Which side failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client sent what cannot be served.
    Client,
    /// The application did not answer as it should.
    Upstream,
    /// authtap itself could not take the request.
    Internal,
}

/// Why a request got no answer from the application. Never carries a body, a header's value or an
/// address of the client.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The request breaks the protocol; the text says how. 400.
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    /// The target or host is refused. 400, or 501 for CONNECT.
    #[error("bad request target: {0}")]
    Target(#[from] TargetError),
    /// The request did not arrive in time. 408.
    #[error("the client did not send its request in time")]
    RequestTimeout,
    /// The body is longer than is allowed. 413.
    #[error("the request body is larger than allowed: raise the limit if it is legitimate")]
    BodyTooLarge,
    /// The target is longer than is allowed. 414.
    #[error("the request target is longer than allowed: raise the limit if it is legitimate")]
    UriTooLong,
    /// The name in TLS is not the one asked for. 421 (RFC 9110 section 15.5.20).
    #[error("the request is for a host that this connection does not serve")]
    Misdirected,
    /// The headers are more or longer than is allowed. 431 (RFC 6585 section 5).
    #[error("the request head is larger than allowed: raise the limit if it is legitimate")]
    HeadTooLarge,
    /// Something the protocol has and this proxy has not; the text names it. 501.
    #[error("not implemented: {0}")]
    NotImplemented(&'static str),
    /// No connection to the application. 502.
    #[error("no connection to the application: see that it runs and that `upstream` is right")]
    Connect(#[source] Cause),
    /// The application closed the connection before its answer. 502.
    #[error("the application closed the connection before it answered")]
    Closed(#[source] Cause),
    /// The application's answer is no valid HTTP. 502.
    #[error("the answer of the application is not valid HTTP")]
    Invalid(#[source] Cause),
    /// The head of the application's answer is larger than is allowed. 502.
    #[error(
        "the head of the application's answer is larger than allowed: raise `limits.answer_headers` if it has more \
         headers than that"
    )]
    AnswerHeadTooLarge(#[source] Cause),
    /// The application's answer cannot be framed in one way only; the text says why. 502.
    #[error("the answer of the application is ambiguous: {0}")]
    Ambiguous(&'static str),
    /// The application did not answer in time. 504.
    #[error("the application did not answer in time")]
    UpstreamTimeout,
    /// A limit of our own is reached; the text names it. 503.
    #[error("overloaded: {0}")]
    Overloaded(&'static str),
    /// The program is about to end. 503.
    #[error("shutting down")]
    ShuttingDown,
}

impl ProxyError {
    /// The status that the client sees.
    pub fn status(&self) -> StatusCode {
        match self {
            ProxyError::Target(TargetError::Connect) | ProxyError::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            ProxyError::BadRequest(_) | ProxyError::Target(_) => StatusCode::BAD_REQUEST,
            ProxyError::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            ProxyError::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ProxyError::UriTooLong => StatusCode::URI_TOO_LONG,
            ProxyError::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            ProxyError::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            ProxyError::Connect(_)
            | ProxyError::Closed(_)
            | ProxyError::Invalid(_)
            | ProxyError::AnswerHeadTooLarge(_)
            | ProxyError::Ambiguous(_) => StatusCode::BAD_GATEWAY,
            ProxyError::Overloaded(_) | ProxyError::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            ProxyError::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// What it means that the client's body ended early; `None` if it is not known how.
    pub fn of_the_client(broke: Option<Broke>) -> ProxyError {
        match broke {
            Some(Broke::Idle) => ProxyError::RequestTimeout,
            Some(Broke::TooLarge) => ProxyError::BodyTooLarge,
            _ => ProxyError::BadRequest("the body broke off"),
        }
    }

    /// Which side failed.
    pub fn side(&self) -> Side {
        match self {
            ProxyError::Connect(_)
            | ProxyError::Closed(_)
            | ProxyError::Invalid(_)
            | ProxyError::AnswerHeadTooLarge(_)
            | ProxyError::Ambiguous(_)
            | ProxyError::UpstreamTimeout => Side::Upstream,
            ProxyError::Overloaded(_) | ProxyError::ShuttingDown => Side::Internal,
            _ => Side::Client,
        }
    }

    /// The kind to count a failure towards the application under; `None` if it was the client.
    pub fn upstream_error(&self) -> Option<UpstreamError> {
        match self {
            ProxyError::Connect(_) => Some(UpstreamError::Connect),
            ProxyError::Closed(_) => Some(UpstreamError::Closed),
            ProxyError::Invalid(_) | ProxyError::AnswerHeadTooLarge(_) | ProxyError::Ambiguous(_) => {
                Some(UpstreamError::Invalid)
            }
            ProxyError::UpstreamTimeout => Some(UpstreamError::Timeout),
            ProxyError::Overloaded(_) => Some(UpstreamError::Full),
            _ => None,
        }
    }

    /// The answer: HTML or JSON if `Accept` in the request's headers prefers it by name, else text.
    ///
    /// After an error of the client's the connection is closed, because a part of the request may
    /// still be on its way (RFC 9110 section 15.5.9 for 408) and bytes after a malformed request
    /// may be anything.
    pub fn response(&self, request: &Headers, request_id: Option<&str>) -> Response<Full<Bytes>> {
        let status = self.status();
        let (word, title, text) = words(status);
        let id = request_id.and_then(plain_id);
        let number = status.as_u16();
        let (content_type, body) = match preferred(request) {
            Format::Html => ("text/html; charset=utf-8", html(number, title, text, id)),
            Format::Json => ("application/json", json(number, word, id)),
            Format::Text => ("text/plain; charset=utf-8", plain(number, title, text, id)),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, content_type);
        headers.insert(header::CACHE_CONTROL, "no-store");
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        // RFC 9110 section 10.2.4: whoever made the answer; so an operator sees it was not the application.
        headers.insert(header::SERVER, "authtap");
        if self.side() == Side::Client {
            headers.insert(header::CONNECTION, "close");
        }
        response
    }
}

/// The word for programs, the title, and what it means for the person who sees it.
fn words(status: StatusCode) -> (&'static str, &'static str, &'static str) {
    match status {
        StatusCode::BAD_REQUEST => ("bad_request", "Bad request", "The request could not be understood."),
        StatusCode::REQUEST_TIMEOUT => ("request_timeout", "Request timeout", "The request took too long to arrive."),
        StatusCode::PAYLOAD_TOO_LARGE => {
            ("content_too_large", "Content too large", "The request is larger than allowed.")
        }
        StatusCode::URI_TOO_LONG => ("uri_too_long", "Address too long", "The address is longer than allowed."),
        StatusCode::MISDIRECTED_REQUEST => {
            ("misdirected_request", "Misdirected request", "This connection does not serve that host.")
        }
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
            "request_header_fields_too_large",
            "Request headers too large",
            "The headers of the request are larger than allowed. Deleting this site's cookies may help.",
        ),
        StatusCode::NOT_IMPLEMENTED => {
            ("not_implemented", "Not implemented", "This kind of request is not served here.")
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            ("service_unavailable", "Service unavailable", "The service cannot take the request now. Please try again.")
        }
        StatusCode::GATEWAY_TIMEOUT => {
            ("gateway_timeout", "Gateway timeout", "The application took too long to answer. Please try again.")
        }
        _ => ("bad_gateway", "Bad gateway", "The application could not be reached. Please try again."),
    }
}

/// An id that can stand in HTML, JSON and text as it is. Others are known to whoever chose them.
fn plain_id(id: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    ((1..=128).contains(&id.len()) && id.bytes().all(plain)).then_some(id)
}

fn html(status: u16, title: &str, text: &str, id: Option<&str>) -> String {
    let id = id.map(|id| format!("<p>Request <code>{id}</code></p>\n")).unwrap_or_default();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{status} {title}</title>\n</head>\n\
         <body>\n<h1>{status} {title}</h1>\n<p>{text}</p>\n{id}<hr>\n<p><small>authtap</small></p>\n</body>\n</html>\n"
    )
}

fn json(status: u16, word: &str, id: Option<&str>) -> String {
    let id = id.map(|id| format!(",\"request_id\":\"{id}\"")).unwrap_or_default();
    format!("{{\"error\":\"{word}\",\"status\":{status}{id}}}\n")
}

fn plain(status: u16, title: &str, text: &str, id: Option<&str>) -> String {
    let id = id.map(|id| format!("request {id}\n")).unwrap_or_default();
    format!("{status} {title}\n{text}\n{id}-- authtap\n")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Html,
    Json,
    Text,
}

/// The format that `Accept` names with the highest weight (RFC 9110 section 12.5.1), the first of
/// equals. Wildcards name nothing: `*/*` is what programs send that do not care.
fn preferred(request: &Headers) -> Format {
    let mut best = (0, Format::Text);
    let lines = request.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    for range in lines.flat_map(|line| line.split(',')).take(MAX_RANGES) {
        let mut parts = range.split(';').map(str::trim_ascii);
        let Some(format) = parts.next().and_then(format_of) else { continue };
        let weight = parts.find_map(weight).unwrap_or(1000);
        if weight > best.0 {
            best = (weight, format);
        }
    }
    best.1
}

fn format_of(range: &str) -> Option<Format> {
    let (kind, subtype) = range.split_once('/')?;
    let is = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    if is(range, "text/html") || is(range, "application/xhtml+xml") {
        Some(Format::Html)
    } else if is(kind, "application") && (is(subtype, "json") || subtype.to_ascii_lowercase().ends_with("+json")) {
        Some(Format::Json)
    } else {
        is(range, "text/plain").then_some(Format::Text)
    }
}

/// `q=0.5` in thousandths; `None` for another parameter. A weight that is none counts as refusal.
fn weight(parameter: &str) -> Option<u32> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim_ascii().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, rest) = value.trim_ascii().split_once('.').unwrap_or((value.trim_ascii(), ""));
    let digits = |text: &str| text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(rest) {
        return Some(0);
    }
    let thousandths = rest.bytes().chain([b'0'; 3]).take(3).fold(0, |sum, b| sum * 10 + u32::from(b - b'0'));
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => Some(0),
    }
}

#[cfg(test)]
mod tests;
