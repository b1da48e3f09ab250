//! One receiver over gRPC: unary calls by hyper's HTTP/2 client, everything bounded
//! (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md).
//!
//! It borrows address, TLS, time, compression and headers from [`Client`]. A message is framed by a
//! flag and its length; what became of the call stands in the trailers, or in the head of an answer
//! that has nothing else. As over HTTP/1.1, a warm connection that was gone is replaced once and
//! nothing else is tried twice. It must never repeat what a receiver says in words: it may quote an
//! event.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::answer::Answer;
use super::client::{Client, MAX_ANSWER, with_source};
use crate::protobuf::{Field, Fields};
use crate::sinks::SinkError;

/// What stands before a message: a flag and four bytes of its length.
const PREFIX: usize = 5;
/// The most that is read of the details of a status, in bytes of base64.
const MAX_DETAILS: usize = 8192;
/// Where the time to wait stands among the details.
const RETRY_INFO: &[u8] = b"type.googleapis.com/google.rpc.RetryInfo";

/// A receiver.
pub struct Grpc {
    client: Client,
    warm: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

/// What came back of a call.
#[derive(Debug)]
pub struct Called {
    /// The status (doc/statuscodes.md of gRPC); 0 is success.
    pub code: u32,
    /// How long to wait before the next try, if the receiver said so.
    pub after: Option<Duration>,
    /// The answer's message; empty if there is none.
    pub message: Bytes,
}

/// Why there is no answer.
enum Failure {
    /// In words of our own.
    Told(String),
    /// The warm connection was gone.
    Stale,
    /// It broke off.
    Broken(hyper::Error),
}

impl Grpc {
    /// A receiver with the settings of this client, whose path is not used.
    pub fn new(client: Client) -> Grpc {
        Grpc { client, warm: Mutex::default() }
    }

    /// The receiver, for messages.
    pub fn place(&self) -> String {
        self.client.place()
    }

    /// Calls a method (`/package.Service/Method`) with one message, and reads the answer, both
    /// within the time allowed.
    ///
    /// # Errors
    /// There is no answer: no connection, no handshake, broken off, too slow, or not gRPC.
    pub async fn call(&self, method: &str, message: &[u8]) -> Result<Called, SinkError> {
        let told = |what: String| SinkError::Other(format!("{}: {what}", self.place()));
        match timeout(self.client.timeout, self.exchange(method, message)).await {
            Ok(Ok(called)) => Ok(called),
            Ok(Err(Failure::Told(why))) => Err(told(why)),
            Ok(Err(Failure::Stale)) => Err(told("no answer: the connection was closed".into())),
            Ok(Err(Failure::Broken(error))) => Err(told(format!("no answer: {}", with_source(&error)))),
            Err(_) => Err(told(format!("no answer within {:?}", self.client.timeout))),
        }
    }

    async fn exchange(&self, method: &str, message: &[u8]) -> Result<Called, Failure> {
        let request = self.prepare(method, message)?;
        // Taken out for the time of the call: after any failure it is not used again.
        let warm = self.warm().take();
        if let Some(mut sender) = warm
            && sender.ready().await.is_ok()
        {
            match self.ask(sender, request.clone(), true).await {
                Err(Failure::Stale) => {}
                answered => return answered,
            }
        }
        let sender = self.connect().await?;
        self.ask(sender, request, false).await
    }

    fn prepare(&self, method: &str, message: &[u8]) -> Result<Request<Full<Bytes>>, Failure> {
        let packed = self.client.compression.pack(message);
        let (content, flag) = packed.as_ref().map_or((message, 0), |(packed, _)| (packed.as_slice(), 1));
        let mut body = Vec::with_capacity(content.len() + PREFIX);
        body.push(flag);
        let long = |_| Failure::Told("a message is longer than gRPC can carry".into());
        body.extend_from_slice(&u32::try_from(content.len()).map_err(long)?.to_be_bytes());
        body.extend_from_slice(content);

        let url = self.client.url();
        let scheme = if url.https { "https" } else { "http" };
        let unusable = |_| Failure::Told("the URL cannot be asked for".into());
        let mut request = Request::builder()
            .version(Version::HTTP_2)
            .method(Method::POST)
            .uri(format!("{scheme}://{}{method}", url.authority()))
            .body(Full::new(Bytes::from(body)))
            .map_err(unusable)?;
        let headers = request.headers_mut();
        headers.extend(self.client.headers.clone());
        // The authority says it in HTTP/2 (RFC 9113 section 8.3.1), and only one type can come back.
        headers.remove(header::HOST);
        headers.remove(header::ACCEPT);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity"));
        if let Some((_, word)) = packed {
            headers.insert("grpc-encoding", HeaderValue::from_static(word));
        }
        if let Ok(value) = HeaderValue::try_from(format!("{}m", self.client.timeout.as_millis())) {
            headers.insert("grpc-timeout", value);
        }
        Ok(request)
    }

    async fn ask(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
        warm: bool,
    ) -> Result<Called, Failure> {
        let answer = sender.send_request(request).await.map_err(|error| match warm {
            // Not sent, or not looked at: the receiver was about to close.
            true if error.is_canceled() || error.is_closed() || unseen(&error) => Failure::Stale,
            _ => Failure::Broken(error),
        })?;
        let (head, mut body) = answer.into_parts();
        if head.status != StatusCode::OK {
            *self.warm() = Some(sender);
            return Ok(Called { code: code_of(head.status), after: None, message: Bytes::new() });
        }
        let media = head.headers.get(header::CONTENT_TYPE).map_or(b"".as_slice(), HeaderValue::as_bytes);
        if !media.starts_with(b"application/grpc") {
            return Err(Failure::Told("what answers does not speak gRPC; check the URL".into()));
        }
        let mut read = Vec::new();
        let mut trailers = None;
        while let Some(frame) = body.frame().await {
            match frame.map_err(Failure::Broken)?.into_data() {
                Ok(data) if data.len() <= MAX_ANSWER - read.len() => read.extend_from_slice(&data),
                Ok(_) => return Err(Failure::Told("the answer is too long".into())),
                Err(frame) => trailers = frame.into_trailers().ok().or(trailers),
            }
        }
        let status = trailers.as_ref().unwrap_or(&head.headers);
        let Some(code) = number(status, "grpc-status").and_then(|code| u32::try_from(code).ok()) else {
            return Err(Failure::Told("the answer broke off".into()));
        };
        *self.warm() = Some(sender);
        Ok(Called { code, after: after(status), message: unframed(read) })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let failed = |why: String| Failure::Told(format!("no connection: {why}"));
        let stream = self.client.dial().await.map_err(failed)?;
        match &self.client.tls {
            None => speak(stream).await,
            Some(tls) => {
                let secured = tls.connect(stream, &self.client.url().host, &["h2"], self.client.timeout).await;
                let secured = secured.map_err(|error| failed(error.to_string()))?;
                if secured.get_ref().1.alpn_protocol() != Some(b"h2") {
                    return Err(failed("the receiver does not speak HTTP/2 over TLS; check the port".into()));
                }
                speak(secured).await
            }
        }
    }

    fn warm(&self) -> MutexGuard<'_, Option<SendRequest<Full<Bytes>>>> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call's status means for the events it carried. `place` names the receiver.
///
/// | status | meaning |
/// | --- | --- |
/// | `OK` | taken |
/// | `CANCELLED`, `UNKNOWN`, `DEADLINE_EXCEEDED`, `ABORTED`, `OUT_OF_RANGE`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`, and `RESOURCE_EXHAUSTED` with a time to wait | later |
/// | `NOT_FOUND`, `PERMISSION_DENIED`, `UNIMPLEMENTED`, `UNAUTHENTICATED` | later: the configuration or the account is wrong, not the event |
/// | `RESOURCE_EXHAUSTED` without one (a message too long), any other | refused; of several events, each is tried by itself |
pub fn meaning(called: &Called, place: &str) -> Answer {
    let word = word(called.code);
    let why = |remedy: &str| SinkError::Other(format!("{place} answered {word}{remedy}"));
    let later = |remedy: &str| Answer::Later { after: called.after, why: why(remedy) };
    match called.code {
        0 => Answer::Taken,
        1 | 2 | 4 | 10 | 11 | 13 | 14 | 15 => later(""),
        8 if called.after.is_some() => later(""),
        5 | 12 => later("; check the URL"),
        7 | 16 => later("; check the secret and what it is allowed to do"),
        _ => Answer::Refused { why: why(""), divisible: true },
    }
}

fn word(code: u32) -> String {
    const WORDS: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let word = usize::try_from(code).ok().and_then(|at| WORDS.get(at));
    word.map_or_else(|| format!("gRPC status {code}"), |word| (*word).to_owned())
}

/// The status for an answer that is not gRPC's (doc/http-grpc-status-mapping.md).
fn code_of(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// How long to wait: what the receiver asks of every client (gRFC A6), else what the details of the
/// status say (google.rpc.RetryInfo). A negative time says not to try by oneself: then it is for the
/// delivery to choose.
fn after(status: &HeaderMap) -> Option<Duration> {
    if let Some(millis) = number(status, "grpc-retry-pushback-ms") {
        return u64::try_from(millis).ok().map(Duration::from_millis);
    }
    let details = status.get("grpc-status-details-bin").filter(|details| details.len() <= MAX_DETAILS)?;
    let details = STANDARD.decode(details).or_else(|_| STANDARD_NO_PAD.decode(details)).ok()?;
    let delay = Fields(&details).find_map(|(field, value)| match value {
        Field::Bytes(any) if field == 3 && Fields::bytes_of(any, 1) == RETRY_INFO => {
            Some(Fields::bytes_of(Fields::bytes_of(any, 2), 1))
        }
        _ => None,
    })?;
    let nanos = u32::try_from(Fields::number_of(delay, 2)).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    // A negative number of seconds is huge as what is read here.
    let seconds = i64::try_from(Fields::number_of(delay, 1)).ok()?;
    Some(Duration::new(u64::try_from(seconds).ok()?, nanos))
}

fn number(headers: &HeaderMap, name: &str) -> Option<i64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// The first message of a body; empty if it is none, or packed although nobody asked for that.
fn unframed(body: Vec<u8>) -> Bytes {
    let body = Bytes::from(body);
    let length = match body.first_chunk::<PREFIX>() {
        Some([0, length @ ..]) => usize::try_from(u32::from_be_bytes(*length)).ok(),
        _ => None,
    };
    let end = length.and_then(|length| length.checked_add(PREFIX)).filter(|end| *end <= body.len());
    end.map_or_else(Bytes::new, |end| body.slice(PREFIX..end))
}

/// True if the receiver says that it did nothing with the request (RFC 9113 section 8.7).
fn unseen(error: &hyper::Error) -> bool {
    let reason = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    reason.is_some_and(|error| {
        error.is_remote() && (error.reason() == Some(h2::Reason::REFUSED_STREAM) || error.is_go_away())
    })
}

async fn speak<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(Failure::Broken)?;
    // The task ends with the connection, and the connection with its last sender; what goes wrong
    // reaches the request that uses it.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

#[cfg(test)]
mod tests;
