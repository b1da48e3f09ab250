//! One HTTP/2 connection to the application, which requests share, and one request's way over it.
//!
//! The connection has a task of its own; a request needs none, but for what is left of its body when
//! the answer has begun. A request must never be told to be unsent if a byte of it may have gone out.
//!
//! The invariant: a stream is given up (RST_STREAM) as soon as nobody waits for it any more, because
//! then both its ends are dropped.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::RecvStream;
use h2::client::ResponseFuture;
use h2::client::{Builder, SendRequest};
use http::{Method, header};
use http_body::Body;

use tokio::sync::Notify;

use super::deadline::within;
use super::websocket;
use super::wire::Counted;
use crate::headers::Headers;
use crate::proxy::body::{Broke, RequestBody};
use crate::proxy::clock;
use crate::proxy::error::ProxyError;
use crate::proxy::http2::heartbeat::{Heard, Heartbeat};
use crate::proxy::http2::{Duplex, Received, Sending};
use crate::proxy::idle::Alarm;
use crate::proxy::inbound::Inbound;
use crate::proxy::message::{Parts, Request, Response};
use crate::proxy::passage::Passage;

/// The most requests at once on one connection, if the application allows as many.
const MAX_STREAMS: usize = 100;
/// How much of one answer may wait here for a slow client, in bytes.
const STREAM_WINDOW: u32 = 128 << 10;
/// Room for all streams at once: clients that do not read must not hold up the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * 128;
/// The longest head of an answer, in bytes as RFC 9113 section 6.5.2 counts them.
const MAX_HEADER_LIST: u32 = 128 << 10;
/// How much of one request's body may wait here for the application, in bytes.
const SEND_BUFFER: usize = 256 << 10;
/// How many streams that were given up are remembered, so that what still comes for them is
/// no error.
const REMEMBERED_RESETS: usize = 256;
/// How often an application that is silent while requests wait is asked whether it is there. Servers
/// of gRPC end a connection that asks more often than every five minutes ("too many pings").
const PING_EVERY: Duration = Duration::from_secs(330);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection; ends when it and its streams are dropped.
pub(super) struct Connection {
    sender: SendRequest<Bytes>,
    known: Rc<Known>,
}

/// What the connection's task and its requests know of each other.
struct Known {
    /// How many streams the application allows at once (SETTINGS_MAX_CONCURRENT_STREAMS), as far as
    /// it has said so.
    allowed: Cell<usize>,
    /// How many there are.
    streams: Cell<usize>,
    /// The connection has ended.
    ended: Cell<bool>,
    /// The application's settings have come, or never will.
    settled: Cell<bool>,
    settling: Notify,
}

/// A place among the streams of a connection, until it is dropped.
pub(super) struct Place(Rc<Known>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get().saturating_sub(1));
    }
}

/// Why a request got no answer.
pub(super) enum Failed {
    /// Nothing was written; the request is whole.
    NotSent(Box<Request<RequestBody>>, h2::Error),
    /// It was, or may have been.
    Lost(ProxyError, Processed),
}

/// Whether a request that failed may have had an effect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Processed {
    /// The application has said that it had none (RFC 9113 sections 6.8 and 8.7).
    No,
    Maybe,
}

impl Connection {
    /// Speaks HTTP/2 over `wire`. To be called on a thread of a `LocalRuntime` or inside a `LocalSet`.
    ///
    /// # Errors
    /// [`ProxyError::Connect`] if its beginning cannot be sent.
    pub(super) async fn over(wire: Counted) -> Result<Connection, ProxyError> {
        let wire = Heard::new(wire);
        let signs = wire.signs();
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(MAX_STREAMS)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADER_LIST)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_reset_streams(REMEMBERED_RESETS);
        let shaken = builder.handshake(wire).await;
        let (sender, mut connection) = shaken.map_err(|error| ProxyError::Connect(error.into()))?;
        let known = Rc::new(Known {
            allowed: Cell::new(MAX_STREAMS),
            streams: Cell::new(0),
            ended: Cell::new(false),
            settled: Cell::new(false),
            settling: Notify::new(),
        });
        let mut heartbeat =
            connection.ping_pong().map(|pings| Heartbeat::new(pings, signs.clone(), PING_EVERY, PING_TIMEOUT));
        let told = known.clone();
        tokio::task::spawn_local(poll_fn(move |cx| {
            let waited_for = told.streams.get() > 0;
            let gone = heartbeat.as_mut().is_some_and(|heartbeat| heartbeat.poll(waited_for, cx).is_ready());
            // What went wrong reaches the requests that wait.
            let ended = gone || Pin::new(&mut connection).poll(cx).is_ready();
            told.allowed.set(connection.max_concurrent_send_streams());
            told.ended.set(ended);
            if !told.settled.get() && (ended || signs.first_frame()) {
                told.settled.set(true);
                told.settling.notify_waiters();
            }
            if ended { Poll::Ready(()) } else { Poll::Pending }
        }));
        Ok(Connection { sender, known })
    }

    /// Whether one more request may be sent.
    pub(super) fn has_room(&self) -> bool {
        // An application that allows none for now is waited for on the first.
        !self.has_ended() && self.streams() < self.known.allowed.get().clamp(1, MAX_STREAMS)
    }

    /// True once nothing can be sent or come any more.
    pub(super) fn has_ended(&self) -> bool {
        self.known.ended.get()
    }

    /// How many streams there are.
    pub(super) fn streams(&self) -> usize {
        self.known.streams.get()
    }

    /// Takes a place for a stream.
    pub(super) fn enter(&self) -> Place {
        self.known.streams.set(self.streams().saturating_add(1));
        Place(self.known.clone())
    }

    /// Sends a request, in the words of HTTP/2, and waits for the head of its answer for at most
    /// `allowed`. Interim answers go to `passage`.
    pub(super) async fn exchange(
        &self,
        mut request: Request<RequestBody>,
        passage: &Passage,
        allowed: Duration,
    ) -> Result<Response<Inbound>, Failed> {
        let mut sender = self.sender.clone();
        if let Err(error) = poll_fn(|cx| sender.poll_ready(cx)).await {
            return Err(Failed::NotSent(Box::new(request), error));
        }
        let watch = request.body_mut().watch();
        let (mut parts, body) = request.into_parts();
        say_length(&mut parts, &body);
        let ended = body.is_end_stream();
        let sent = sender.send_request(Request::from_parts(parts, ()).into(), ended);
        let (mut answer, stream) = sent.map_err(|error| lost(error, None))?;
        drop(sender);
        let mut sending = (!ended).then(|| Sending::new(body, stream, None));
        let answering = poll_fn(|cx| {
            // However it ended, the answer will tell.
            if sending.as_mut().is_some_and(|sending| Pin::new(sending).poll(cx).is_ready()) {
                sending = None;
            }
            poll_answer(&mut answer, passage, cx)
        });
        match within(clock::recent(), allowed, &mut Alarm::default(), watch.as_deref(), answering).await {
            None => Err(Failed::Lost(ProxyError::UpstreamTimeout, Processed::Maybe)),
            Some(Err(error)) => Err(lost(error, watch.and_then(|watch| watch.broke()))),
            Some(Ok(answer)) => {
                if let Some(watch) = watch {
                    watch.answered();
                }
                if let Some(sending) = sending {
                    tokio::task::spawn_local(sending);
                }
                Ok(received(answer))
            }
        }
    }

    /// The same for a request that asks for a WebSocket: success is a 101, and its body the tunnel.
    pub(super) async fn websocket(
        &self,
        request: Request<RequestBody>,
        passage: &Passage,
        allowed: Duration,
    ) -> Result<Response<Inbound>, Failed> {
        if !request.body().is_end_stream() {
            let why = "a WebSocket's handshake has no body (RFC 6455 section 4.1)";
            return Err(Failed::Lost(ProxyError::BadRequest(why), Processed::Maybe));
        }
        let late = || Failed::Lost(ProxyError::UpstreamTimeout, Processed::Maybe);
        let alarm = &mut Alarm::default();
        within(clock::recent(), allowed, alarm, None, self.settled()).await.ok_or_else(late)?;
        let mut sender = self.sender.clone();
        if let Err(error) = poll_fn(|cx| sender.poll_ready(cx)).await {
            return Err(Failed::NotSent(Box::new(request), error));
        }
        if !sender.is_extended_connect_protocol_enabled() {
            let why = "a WebSocket, as the application speaks HTTP/2 only, without extended CONNECT (RFC 8441)";
            return Err(Failed::Lost(ProxyError::NotImplemented(why), Processed::Maybe));
        }
        let (mut parts, _) = request.into_parts();
        let key = websocket::ask(&mut parts);
        let sent = sender.send_request(Request::from_parts(parts, ()).into(), false);
        let (mut answer, mut stream) = sent.map_err(|error| lost(error, None))?;
        drop(sender);
        let answering = poll_fn(|cx| poll_answer(&mut answer, passage, cx));
        let answer = within(clock::recent(), allowed, alarm, None, answering).await.ok_or_else(late)?;
        let answer = answer.map_err(|error| lost(error, None))?;
        if answer.status().is_success() {
            let (mut parts, recv) = Response::from(answer).into_parts();
            websocket::opened(&mut parts, key.as_deref());
            return Ok(Response::from_parts(parts, Inbound::Tunnel(Box::new(Duplex::new(stream, recv)))));
        }
        // Nothing will follow. Whether that can still be said does not matter.
        let _ = stream.send_data(Bytes::new(), true);
        Ok(received(answer))
    }

    /// Waits for the application's settings.
    pub(super) async fn settled(&self) {
        loop {
            let settling = self.known.settling.notified();
            if self.known.settled.get() {
                return;
            }
            settling.await;
        }
    }
}

/// The answer, once those before it are told to `passage`.
fn poll_answer(
    answer: &mut ResponseFuture,
    passage: &Passage,
    cx: &mut Context<'_>,
) -> Poll<Result<http::Response<RecvStream>, h2::Error>> {
    while let Some(Ok(interim)) = ready!(answer.poll_informational(cx)) {
        passage.say(interim.status(), &Headers::from(interim.headers()));
    }
    Pin::new(answer).poll(cx)
}

fn received(answer: http::Response<RecvStream>) -> Response<Inbound> {
    let (parts, body) = answer.into_parts();
    let body = Received::new(body, &parts.headers);
    http::Response::from_parts(parts, Inbound::Http2(Some(body))).into()
}

/// Says how long the body is, where that is known and not said: none counts for methods that usually
/// have one (RFC 9110 section 8.6).
fn say_length(parts: &mut Parts, body: &RequestBody) {
    let usual = !matches!(parts.method, Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT);
    if let Some(length) = body.size_hint().exact()
        && (length > 0 || usual)
        && !parts.headers.contains_key(header::CONTENT_LENGTH)
    {
        parts.headers.insert(header::CONTENT_LENGTH, length.to_string());
    }
}

/// What a failed stream means; `broke` is how the request's body ended early, if it did.
fn lost(error: h2::Error, broke: Option<Broke>) -> Failed {
    if broke.is_some() {
        return Failed::Lost(ProxyError::of_the_client(broke), Processed::Maybe);
    }
    let refused = error.is_remote()
        && (error.is_go_away() || (error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM)));
    let processed = if refused { Processed::No } else { Processed::Maybe };
    let invalid = error.is_library();
    let error = if invalid { ProxyError::Invalid(error.into()) } else { ProxyError::Closed(error.into()) };
    Failed::Lost(error, processed)
}
