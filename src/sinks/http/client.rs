//! One receiver over HTTP/1.1: a warm connection, one request at a time, everything bounded.
//!
//! A sink sends one request after the other, so one connection is enough and a pool is not needed.
//! A warm connection that the receiver had just closed is tried once more on a new one; nothing
//! else is tried twice here. It must never follow a redirect (a secret would go to wherever it
//! leads), and never read an answer without a bound.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer::retry_after;
use super::url::Url;
use crate::sinks::SinkError;
use crate::tls::client::ClientTls;

/// The most that is read of an answer, in bytes; the answer to 500 events fits many times over.
pub(super) const MAX_ANSWER: usize = 4 << 20;
/// Bodies below this are not worth compressing.
const MIN_COMPRESSED: usize = 256;
/// How long a probe listens for a refusal of its certificate.
const REFUSAL: Duration = Duration::from_millis(300);

/// A receiver.
pub struct Client {
    pub(super) url: Url,
    pub(super) tls: Option<Arc<ClientTls>>,
    pub(super) timeout: Duration,
    pub(super) compression: Compression,
    /// Sent with every request: the configured ones and the secret.
    pub(super) headers: HeaderMap,
    pub(super) warm: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

/// How bodies are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Off,
    /// RFC 1952, quickly.
    Gzip,
    /// RFC 8878, quickly.
    Zstd,
}

impl Compression {
    /// A body packed, and the word for it (RFC 9110 section 8.4.1); nothing if it goes as it is.
    pub(super) fn pack(self, body: &[u8]) -> Option<(Vec<u8>, &'static str)> {
        match self {
            _ if body.len() < MIN_COMPRESSED => None,
            Compression::Off => None,
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::fast());
                // Writing into memory cannot fail; if it did, the body goes as it is.
                encoder.write_all(body).and_then(|()| encoder.finish()).ok().map(|packed| (packed, "gzip"))
            }
            Compression::Zstd => Some((compress_to_vec(body, CompressionLevel::Fastest), "zstd")),
        }
    }
}

/// A request to the receiver.
#[derive(Debug)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// Path and query in place of those of the URL.
    pub target: Option<String>,
    /// Headers of this request; they give way to configured ones.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body, not compressed yet.
    pub body: Vec<u8>,
}

impl Outgoing {
    /// A POST of this media type to the URL itself.
    pub fn post(media: &'static str, body: Vec<u8>) -> Outgoing {
        let headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static(media))];
        Outgoing { method: Method::POST, target: None, headers, body }
    }

    /// A GET of this path and query.
    pub fn get(target: String) -> Outgoing {
        Outgoing { method: Method::GET, target: Some(target), headers: Vec::new(), body: Vec::new() }
    }

    /// The same to another path and query.
    pub fn to(mut self, target: String) -> Outgoing {
        self.target = Some(target);
        self
    }

    /// The same with a header more; a value that no header can carry is left out.
    pub fn with(mut self, name: &'static str, value: &str) -> Outgoing {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((HeaderName::from_static(name), value));
        }
        self
    }
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// How long to wait before the next try, if the receiver said so.
    pub retry_after: Option<Duration>,
    /// All that its head says.
    pub headers: HeaderMap,
    /// The beginning of the body, at most [`MAX_ANSWER`].
    pub body: Bytes,
    /// True if that is all of it.
    pub whole: bool,
}

/// Why there is no answer.
enum Failure {
    /// The connection could not be made.
    Connect(String),
    /// The warm connection was gone before it answered.
    Stale(hyper::Error),
    /// It broke off.
    Broken(hyper::Error),
}

impl Client {
    /// A client that sends no headers of its own but those that every request has.
    ///
    /// # Errors
    /// The host cannot be asked for.
    pub fn new(url: Url, tls: Option<Arc<ClientTls>>, timeout: Duration) -> Result<Client, SinkError> {
        let headers = usual_headers(&url)?;
        Ok(Client { url, tls, timeout, compression: Compression::Off, headers, warm: Mutex::new(None) })
    }

    /// The receiver, for messages: without its query and without what looks like a token.
    pub fn place(&self) -> String {
        self.url.to_string()
    }

    /// Where the receiver is.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Sends a request and reads the answer, both within the time allowed.
    ///
    /// # Errors
    /// There is no answer: no connection, no handshake, broken off, or too slow.
    pub async fn send(&self, request: Outgoing) -> Result<Reply, SinkError> {
        let outcome = timeout(self.timeout, self.exchange(request)).await;
        let told = |what: String| SinkError::Other(format!("{}: {what}", self.place()));
        match outcome {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(Failure::Connect(why))) => Err(told(format!("no connection: {why}"))),
            Ok(Err(Failure::Stale(error) | Failure::Broken(error))) => {
                Err(told(format!("no answer: {}", with_source(&error))))
            }
            Err(_) => Err(told(format!("no answer within {:?}", self.timeout))),
        }
    }

    /// Connects, with the handshake, and sends nothing.
    ///
    /// # Errors
    /// There is no connection.
    pub async fn connects(&self) -> Result<(), SinkError> {
        let connecting = async {
            let stream = self.dial().await?;
            if let Some(tls) = &self.tls {
                let handshake = tls.connect(stream, &self.url.host, &["http/1.1"], self.timeout).await;
                let mut stream = handshake.map_err(|error| error.to_string())?;
                // In TLS 1.3 the refusal of a client certificate comes after the handshake (RFC 8446
                // section 2); a receiver that takes it says nothing before a request.
                if let Ok(Err(error)) = timeout(REFUSAL, stream.read(&mut [0; 1])).await {
                    return Err(format!("the handshake was refused: {error}"));
                }
            }
            Ok(())
        };
        let failed = |why: String| SinkError::Other(format!("{}: no connection: {why}", self.place()));
        match timeout(self.timeout, connecting).await {
            Ok(result) => result.map_err(failed),
            Err(_) => Err(failed(format!("not within {:?}", self.timeout))),
        }
    }

    async fn exchange(&self, request: Outgoing) -> Result<Reply, Failure> {
        let prepared = self.prepare(request)?;
        let warm = self.warm().take();
        if let Some(mut sender) = warm
            && sender.ready().await.is_ok()
        {
            match self.ask(sender, prepared.clone(), true).await {
                Err(Failure::Stale(_)) => {}
                answered => return answered,
            }
        }
        let sender = self.connect().await?;
        self.ask(sender, prepared, false).await
    }

    /// The request with everything that goes into its head, compressed if that is wanted.
    fn prepare(&self, request: Outgoing) -> Result<Request<Full<Bytes>>, Failure> {
        let target = request.target.unwrap_or_else(|| self.url.target());
        let mut body = request.body;
        let mut headers = HeaderMap::new();
        for (name, value) in request.headers {
            headers.insert(name, value);
        }
        if let Some((packed, word)) = self.compression.pack(&body) {
            body = packed;
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(word));
        }
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        if body.is_empty() && request.method != Method::GET {
            // A method with a body says so even of an empty one (RFC 9110 section 8.6).
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let unusable = |_| Failure::Connect("the URL cannot be asked for".into());
        let mut prepared = Request::builder()
            .method(request.method)
            .uri(target)
            .body(Full::new(Bytes::from(body)))
            .map_err(unusable)?;
        *prepared.headers_mut() = headers;
        Ok(prepared)
    }

    async fn ask(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
        warm: bool,
    ) -> Result<Reply, Failure> {
        let answer = sender.send_request(request).await.map_err(|error| match warm {
            true if error.is_canceled() || error.is_closed() || error.is_incomplete_message() => Failure::Stale(error),
            _ => Failure::Broken(error),
        })?;
        let (head, mut body) = answer.into_parts();
        let mut read = Vec::new();
        let mut whole = true;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(Failure::Broken)?.into_data() else { continue };
            let room = MAX_ANSWER - read.len();
            read.extend_from_slice(data.get(..room).unwrap_or(&data));
            if data.len() > room {
                whole = false;
                break;
            }
        }
        if whole {
            *self.warm() = Some(sender);
        }
        let retry_after = retry_after(&head.headers, SystemTime::now());
        Ok(Reply { status: head.status, retry_after, headers: head.headers, body: read.into(), whole })
    }

    fn warm(&self) -> std::sync::MutexGuard<'_, Option<SendRequest<Full<Bytes>>>> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn dial(&self) -> Result<TcpStream, String> {
        let stream = TcpStream::connect((self.url.host.as_str(), self.url.port)).await.map_err(|e| e.to_string())?;
        // Failure to set it costs only latency.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let stream = self.dial().await.map_err(Failure::Connect)?;
        match &self.tls {
            None => speak(stream).await,
            Some(tls) => {
                let secured = tls.connect(stream, &self.url.host, &["http/1.1"], self.timeout).await;
                speak(secured.map_err(|error| Failure::Connect(error.to_string()))?).await
            }
        }
    }
}

/// The headers that every request has.
///
/// # Errors
/// The host cannot be asked for.
pub(super) fn usual_headers(url: &Url) -> Result<HeaderMap, SinkError> {
    let mut headers = HeaderMap::new();
    let agent = concat!("authtap/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    let host = HeaderValue::from_str(&url.authority());
    headers.insert(header::HOST, host.map_err(|_| SinkError::Other("the URL's host cannot be asked for".into()))?);
    Ok(headers)
}

async fn speak<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http1::Builder::new().max_headers(128).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(Failure::Broken)?;
    // The task ends with the connection, and the connection with its sender; what goes wrong reaches
    // the request that uses it.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

pub(super) fn with_source(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn unpacked(packed: &[u8], word: &str) -> Vec<u8> {
        let mut body = Vec::new();
        match word {
            "gzip" => flate2::read::GzDecoder::new(packed).read_to_end(&mut body).unwrap(),
            _ => ruzstd::decoding::StreamingDecoder::new(packed).unwrap().read_to_end(&mut body).unwrap(),
        };
        body
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// Runs of pieces that repeat, as events do, up to a few blocks of zstd.
        #[test]
        fn what_is_packed_is_unpacked_to_the_same(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 1..8),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..700),
        ) {
            let body: Vec<u8> = order.iter().flat_map(|at| at.get(&pieces).iter().copied()).collect();
            for compression in [Compression::Gzip, Compression::Zstd] {
                match compression.pack(&body) {
                    Some((packed, word)) => prop_assert!(unpacked(&packed, word) == body, "{}", word),
                    None => prop_assert!(body.len() < MIN_COMPRESSED),
                }
            }
            prop_assert!(Compression::Off.pack(&body).is_none());
        }
    }
}
