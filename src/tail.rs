//! `authtap tail` against a running proxy: follows `GET /events` of its admin listener.
//!
//! What arrives is a stranger's bytes until it is parsed: lines and events are bounded, and
//! nothing that arrives can make it panic or grow. It must never show an event twice or pass over
//! a gap in silence. Invariant: `position` is the id of the last event handled whole, and every
//! connection after the first asks for what comes after it.

use std::future::Future;
use std::io::{self, Write};
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::event::Text;
use crate::filter::Filter;

/// The longest line, and the longest data of one event, that is taken; in bytes.
pub const MAX_LINE_BYTES: usize = 1024 * 1024;

/// The first pause before another connection is tried; it doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause before another connection is tried.
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How long a connection and the head of its answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence after which a connection is taken for dead: three heartbeats of the listener.
const SILENCE: Duration = Duration::from_secs(45);
/// The most of a refusal's body that is read, in bytes.
const MAX_REFUSAL_BYTES: usize = 4096;

/// What to follow, and how.
#[derive(Clone)]
pub struct TailOptions {
    /// The admin listener: `host:port` or `http://host:port`.
    pub admin: String,
    /// Its bearer token, if it demands one.
    pub token: Option<String>,
    /// Which events; with a `limit`, `tail` ends after so many.
    pub filter: Filter,
    /// True to write the events' own JSON lines instead of rendering them.
    pub json: bool,
    /// True to wait for a proxy that is not there yet; false to fail if the first connection does.
    pub wait: bool,
}

/// Why `tail` ended early.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The address of the admin listener is none.
    #[error("the address of the admin listener {0}; write host:port or http://host:port")]
    Address(&'static str),
    /// The token cannot be sent in a header.
    #[error("the token has characters that cannot be sent; check where it comes from")]
    Token,
    /// Nobody answered, and waiting was not asked for.
    #[error("no authtap answers at {address} ({why}); start `authtap run`, or name its admin listener")]
    Unreachable {
        /// The address.
        address: String,
        /// What happened.
        why: String,
    },
    /// The listener answered, and trying again will not change the answer.
    #[error("the admin listener at {address} refused with status {status}: {why}")]
    Refused {
        /// The address.
        address: String,
        /// The HTTP status.
        status: u16,
        /// What it said, cleaned and cut, or the remedy.
        why: String,
    },
    /// The output cannot be written.
    #[error("cannot write the events: {0}")]
    Output(#[source] io::Error),
}

/// Whether a text can be the address of an admin listener.
///
/// # Errors
/// [`TailError::Address`] says what is wrong with it.
pub fn check_address(text: &str) -> Result<(), TailError> {
    Address::parse(text).map(drop).map_err(TailError::Address)
}

/// Follows events until `stop` is ready, the filter's limit is reached or `out` is closed by its
/// reader (which is a quiet end), and gives the number of events written. Connections that fail or
/// break off are tried again, without showing anything twice. `render` makes a line of an event,
/// without the line end; `err` gets what a person should know.
pub async fn tail(
    options: TailOptions,
    render: &(dyn Fn(&Value) -> String + Sync),
    out: &mut dyn Write,
    err: &mut dyn Write,
    stop: impl Future<Output = ()>,
) -> Result<u64, TailError> {
    let address = Address::parse(&options.admin).map_err(TailError::Address)?;
    let mut token = None;
    if let Some(text) = &options.token {
        let mut value = HeaderValue::try_from(format!("Bearer {}", text.trim())).map_err(|_| TailError::Token)?;
        value.set_sensitive(true);
        token = Some(value);
    }
    let mut tail = Tail { options, address, token, render, out, err, shown: 0, position: None };
    // Nothing below waits between the halves of a write, so it can be dropped at any wait.
    let ended = {
        let mut follow = pin!(tail.follow());
        let mut stop = pin!(stop);
        tokio::select! {
            biased;
            () = &mut stop => Ok(()),
            ended = &mut follow => ended,
        }
    };
    match ended {
        Ok(()) => Ok(tail.shown),
        Err(TailError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(tail.shown),
        Err(error) => Err(error),
    }
}

struct Tail<'a> {
    options: TailOptions,
    address: Address,
    token: Option<HeaderValue>,
    render: &'a (dyn Fn(&Value) -> String + Sync),
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    shown: u64,
    position: Option<u64>,
}

/// How one connection ended, short of an error that ends all.
enum Ended {
    /// All that was wanted was shown.
    Done,
    /// It broke off after an answer.
    Lost,
    /// There was no answer, or one that may change.
    NoAnswer(String),
}

impl Tail<'_> {
    async fn follow(&mut self) -> Result<(), TailError> {
        let mut pause = FIRST_PAUSE;
        let mut waiting = false;
        let mut wait = self.options.wait;
        loop {
            match self.connection().await? {
                Ended::Done => return Ok(()),
                Ended::Lost => {
                    pause = FIRST_PAUSE;
                    waiting = false;
                }
                Ended::NoAnswer(why) if !wait => {
                    return Err(TailError::Unreachable { address: self.address.to_string(), why });
                }
                Ended::NoAnswer(_) if waiting => {}
                Ended::NoAnswer(why) => {
                    waiting = true;
                    let address = self.address.to_string();
                    self.say(&format!("waiting for authtap at {address} … ({why})"));
                }
            }
            // Whoever was there once may come back.
            wait = true;
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// One connection from its beginning to its end.
    async fn connection(&mut self) -> Result<Ended, TailError> {
        if self.left() == Some(0) {
            return Ok(Ended::Done);
        }
        let request = self.request();
        let answer = match timeout(ANSWER_TIMEOUT, ask(&self.address, request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => return Ok(Ended::NoAnswer(why)),
            Err(_) => return Ok(Ended::NoAnswer("no answer in time".to_owned())),
        };
        let (head, mut body) = answer.response.into_parts();
        if head.status != StatusCode::OK {
            return self.refused(head.status, body).await;
        }
        let kind = head.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            let why = "this is no stream of events; is it the admin listener of authtap?".to_owned();
            return Err(TailError::Refused { address: self.address.to_string(), status: head.status.as_u16(), why });
        }
        let mut parser = SseParser::new();
        let mut messages = Vec::new();
        while let Ok(Some(Ok(frame))) = timeout(SILENCE, body.frame()).await {
            let Ok(chunk) = frame.into_data() else { continue };
            parser.feed(&chunk, &mut |message| messages.push(message));
            for message in messages.drain(..) {
                self.message(&message)?;
                if self.left() == Some(0) {
                    break;
                }
            }
            self.out.flush().map_err(TailError::Output)?;
            if self.left() == Some(0) {
                return Ok(Ended::Done);
            }
            if let Some(position) = parser.last_id().and_then(|id| id.parse().ok()) {
                self.position = Some(position);
            }
        }
        Ok(Ended::Lost)
    }

    fn request(&self) -> Request<Empty<Bytes>> {
        let mut filter = self.options.filter.clone();
        filter.limit = self.left();
        if self.position.is_some() {
            // The position says better than a time where to go on.
            filter.since = None;
        }
        let mut request = Request::new(Empty::new());
        // A query that this crate encoded is a valid one, and so is the authority parsed before.
        *request.uri_mut() = Uri::try_from(format!("/events?{}", filter.to_query())).unwrap_or_default();
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::try_from(self.address.to_string()) {
            headers.insert(header::HOST, host);
        }
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(token) = &self.token {
            headers.insert(header::AUTHORIZATION, token.clone());
        }
        if let Some(position) = self.position {
            headers.insert("last-event-id", HeaderValue::from(position));
        }
        request
    }

    /// What to make of an answer other than 200: overload passes, everything else stays as it is.
    async fn refused(&mut self, status: StatusCode, body: Incoming) -> Result<Ended, TailError> {
        let read = timeout(ANSWER_TIMEOUT, Limited::new(body, MAX_REFUSAL_BYTES).collect()).await;
        let body = read.ok().and_then(Result::ok).map(|b| b.to_bytes()).unwrap_or_default();
        let said = serde_json::from_slice::<Value>(&body).ok();
        let said = said.as_ref().and_then(|v| v.get("error")).and_then(Value::as_str).and_then(Text::other);
        let why = match status {
            StatusCode::UNAUTHORIZED => "it demands a token; give the one it was started with".to_owned(),
            _ => said.or_else(|| Text::other_bytes(&body)).map(|t| t.to_string()).unwrap_or("no reason given".into()),
        };
        if status.is_server_error() {
            return Ok(Ended::NoAnswer(why));
        }
        Err(TailError::Refused { address: self.address.to_string(), status: status.as_u16(), why })
    }

    fn message(&mut self, message: &Message) -> Result<(), TailError> {
        if message.cut {
            self.say("left out an event of more than 1 MiB");
            return Ok(());
        }
        let value = serde_json::from_str::<Value>(&message.data);
        match (message.event.as_str(), value) {
            ("event", Ok(value)) => {
                // Between the tokens of JSON a line end is only white space.
                let line = if self.options.json { message.data.replace('\n', " ") } else { (self.render)(&value) };
                writeln!(self.out, "{line}").map_err(TailError::Output)?;
                self.shown = self.shown.saturating_add(1);
            }
            ("skipped", Ok(value)) => {
                let count = value.get("skipped").and_then(Value::as_u64).unwrap_or(1);
                self.say(&format!("skipped {count} events that authtap no longer holds"));
            }
            ("event" | "skipped", Err(_)) => self.say("left out an event that is not JSON"),
            // A newer authtap may have more to tell than this one knows.
            _ => {}
        }
        Ok(())
    }

    /// How many more events are wanted.
    fn left(&self) -> Option<u64> {
        self.options.filter.limit.map(|limit| limit.saturating_sub(self.shown))
    }

    /// Tells the person. That they cannot be told is no reason to stop.
    fn say(&mut self, what: &str) {
        let _ = self.out.flush();
        let _ = writeln!(self.err, "{what}");
        let _ = self.err.flush();
    }
}

/// An answer, with the task that carries its connection.
struct Answer {
    response: http::Response<Incoming>,
    _connection: Carried,
}

/// Ends the task with its owner.
struct Carried(JoinHandle<()>);

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn ask(address: &Address, request: Request<Empty<Bytes>>) -> Result<Answer, String> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(|e| e.to_string())?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(64 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let carried = Carried(tokio::spawn(async move {
        // How it ends is seen where the answer is read.
        let _ = connection.await;
    }));
    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    Ok(Answer { response, _connection: carried })
}

/// Where the admin listener is.
struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// What is wrong is said without repeating the text: it may hold a password.
    fn parse(text: &str) -> Result<Address, &'static str> {
        let text = text.trim();
        let text = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err("has a scheme other than http"),
            None => text,
        };
        let text = text.strip_suffix('/').unwrap_or(text);
        if text.contains(['/', '?', '#']) {
            return Err("has a path");
        }
        if text.contains('@') {
            return Err("has a user name");
        }
        let authority = Authority::try_from(text).map_err(|_| "is not valid")?;
        let port = authority.port_u16().filter(|port| *port != 0).ok_or("has no port")?;
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err("has no host");
        }
        Ok(Address { host: host.to_owned(), port })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(v6)) => write!(f, "[{v6}]:{}", self.port),
            _ => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// One server-sent event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Its type; `message` if the stream did not name one.
    pub event: String,
    /// Its data, the lines joined by `\n`; empty if `cut`.
    pub data: String,
    /// True if a line or the data was longer than [`MAX_LINE_BYTES`] and is left out.
    pub cut: bool,
}

/// Reads a stream of server-sent events (WHATWG HTML, section 9.2.6) in whatever pieces it comes.
/// Holds at most one line and the data of one event.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    line_cut: bool,
    after_cr: bool,
    begun: bool,
    event: String,
    data: Vec<u8>,
    has_data: bool,
    cut: bool,
    id: Option<String>,
    last_id: Option<String>,
}

impl SseParser {
    /// A parser at the beginning of a stream.
    pub fn new() -> SseParser {
        SseParser::default()
    }

    /// Takes the next bytes and hands over the events they complete.
    pub fn feed(&mut self, mut bytes: &[u8], on: &mut dyn FnMut(Message)) {
        while let Some(first) = bytes.first() {
            if self.after_cr && *first == b'\n' {
                // The second half of a line end that came apart.
                self.after_cr = false;
                bytes = bytes.get(1..).unwrap_or_default();
                continue;
            }
            self.after_cr = false;
            let Some(end) = bytes.iter().position(|b| matches!(b, b'\n' | b'\r')) else {
                self.extend(bytes);
                return;
            };
            let (part, rest) = bytes.split_at(end);
            self.extend(part);
            self.after_cr = rest.first() == Some(&b'\r');
            bytes = rest.get(1..).unwrap_or_default();
            self.end_line(on);
        }
    }

    /// The last `id` of an event that is complete, also of one without data.
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    fn extend(&mut self, part: &[u8]) {
        if self.line.len().saturating_add(part.len()) > MAX_LINE_BYTES {
            self.line_cut = true;
            self.line.clear();
        }
        if !self.line_cut {
            self.line.extend_from_slice(part);
        }
    }

    fn end_line(&mut self, on: &mut dyn FnMut(Message)) {
        let mut line = std::mem::take(&mut self.line);
        if !self.begun {
            self.begun = true;
            if line.starts_with(b"\xef\xbb\xbf") {
                line.drain(..3);
            }
        }
        if std::mem::take(&mut self.line_cut) {
            self.cut = true;
        } else if line.is_empty() {
            self.dispatch(on);
        } else {
            self.field(&line);
        }
        // The room is used again for the next line.
        line.clear();
        self.line = line;
    }

    fn field(&mut self, line: &[u8]) {
        let mut halves = line.splitn(2, |b| *b == b':');
        let name = halves.next().unwrap_or_default();
        let value = halves.next().unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" if self.data.len().saturating_add(value.len()) >= MAX_LINE_BYTES => {
                self.cut = true;
                self.data = Vec::new();
            }
            b"data" if !self.cut => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
                self.has_data = true;
            }
            b"event" => self.event = String::from_utf8_lossy(value).into_owned(),
            b"id" if !value.contains(&0) => self.id = Some(String::from_utf8_lossy(value).into_owned()),
            // `retry` is for browsers; an empty name is a comment; others are to be ignored.
            _ => {}
        }
    }

    fn dispatch(&mut self, on: &mut dyn FnMut(Message)) {
        if let Some(id) = self.id.take() {
            self.last_id = Some(id);
        }
        let mut event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        let cut = std::mem::take(&mut self.cut);
        if !std::mem::take(&mut self.has_data) && !cut {
            return;
        }
        if event.is_empty() {
            event = "message".to_owned();
        }
        let data = if cut { String::new() } else { String::from_utf8_lossy(&data).into_owned() };
        on(Message { event, data, cut });
    }
}

#[cfg(test)]
mod tests;
