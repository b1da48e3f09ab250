//! One client's connection over HTTP/2: its requests handed to the handler, one task each, and the
//! answers sent.
//!
//! Many things a client may do to harm are `h2`'s to see to: rapid resets, streams that are reset before
//! anybody looks at them, floods of CONTINUATION, of empty frames and of errors, all of which end the
//! connection with GOAWAY (ENHANCE_YOUR_CALM). What is left is here: how many streams, how large a head,
//! how long a stream may stand still.
//!
//! A request that its client resets, or whose connection ends, is dropped with all that is done for it.
//! An answer that comes before the end of the request's body is whole; what is left of the body is
//! refused then by RST_STREAM with NO_ERROR (RFC 9113 section 8.1), which `h2` sends when nobody wants
//! it any more.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::{Method, header};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{oneshot, watch};

use super::heartbeat::{Heard, Heartbeat};
use super::sending::Patience;
use super::{Duplex, Heads, Received, Sending};
use crate::proxy::body::{RequestBody, ResponseBody};
use crate::proxy::headers::strip_hop_by_hop;
use crate::proxy::idle::Busy;
use crate::proxy::inbound::Inbound;
use crate::proxy::message::{Request, Response};

/// How often a silent client is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How much of one request's body may wait here, in bytes.
const STREAM_WINDOW: u32 = 1 << 20;
/// How much of all bodies of a connection may.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// How much of one answer may wait for the socket, in bytes.
const SEND_BUFFER: usize = 128 << 10;
/// How many streams may be reset before anybody has looked at them. More end the connection
/// (CVE-2023-44487).
const RESET_UNSEEN: usize = 32;

/// What a connection is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// Requests at once.
    pub streams: u32,
    /// The size of a head, in bytes as RFC 9113 section 6.5.2 counts them. The handler refuses larger
    /// ones; those of more than twice the size `h2` does by itself.
    pub header_bytes: usize,
    /// How long it may take to answer a PING.
    pub pong: Duration,
    /// How long a stream may take nothing of its answer; zero is no limit.
    pub idle: Duration,
}

/// What can be done for a request besides answering it.
#[derive(Debug)]
pub struct Stream {
    /// Where its interim answers go.
    pub interim: Rc<Heads>,
    /// Its tunnel, once CONNECT is answered with success.
    pub tunnel: Option<oneshot::Receiver<Duplex>>,
}

/// Serves a connection until it ends, or until `stop` turns true and its requests in flight have ended.
/// To be called on a thread of a `LocalRuntime` or inside a `LocalSet`. `answer` makes the answer to each request.
///
/// # Errors
/// The connection failed: the client broke the protocol, left, or did not answer.
pub async fn serve<S, F, A>(
    stream: S,
    allowed: Allowed,
    busy: Busy,
    mut stop: watch::Receiver<bool>,
    answer: F,
) -> Result<(), h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Request<RequestBody>, Stream) -> A,
    A: Future<Output = Response<ResponseBody>> + 'static,
{
    let stream = Heard::new(stream);
    let signs = stream.signs();
    let header_list = u32::try_from(allowed.header_bytes.saturating_mul(2)).unwrap_or(u32::MAX);
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(allowed.streams)
        .max_header_list_size(header_list)
        .max_pending_accept_reset_streams(RESET_UNSEEN)
        .enable_connect_protocol();
    let mut connection = tokio::select! {
        biased;
        shaken = builder.handshake::<_, Bytes>(stream) => shaken?,
        // Nothing was asked yet, so nothing is cut off.
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    let mut heartbeat = connection.ping_pong().map(|pings| Heartbeat::new(pings, signs, PING_EVERY, allowed.pong));
    let mut stopped = std::pin::pin!(stop.wait_for(|stop| *stop));
    let mut stopping = false;
    loop {
        let next = poll_fn(|cx| {
            if heartbeat.as_mut().is_some_and(|heartbeat| heartbeat.poll(true, cx).is_ready()) {
                tracing::debug!("a connection ends: its client does not answer");
                return Poll::Ready(None);
            }
            if !stopping && stopped.as_mut().poll(cx).is_ready() {
                // GOAWAY: no new streams, those in flight may end.
                connection.graceful_shutdown();
                stopping = true;
            }
            connection.poll_accept(cx)
        });
        let Some(accepted) = next.await else { return Ok(()) };
        let (request, respond) = accepted?;
        let head = request.method() == Method::HEAD;
        let (parts, body) = request.into_parts();
        let interim = Rc::new(Heads::default());
        // What follows a CONNECT is no body, but the tunnel, if there will be one.
        let (body, tunnel, opened) = if parts.method == Method::CONNECT {
            let (open, opened) = oneshot::channel();
            (None, Some((open, body)), Some(opened))
        } else {
            (Some(Received::new(body, &parts.headers)), None, None)
        };
        let request = Request::from_parts(parts.into(), RequestBody::incoming(Inbound::Http2(body)));
        let answer = answer(request, Stream { interim: interim.clone(), tunnel: opened });
        let patience = Patience::new(allowed.idle, busy.clone());
        let state = State::Answering { answer };
        tokio::task::spawn_local(Exchange { state, respond, interim, head, tunnel, patience: Some(patience) });
    }
}

pin_project! {
    /// One request and its answer.
    struct Exchange<A> {
        #[pin]
        state: State<A>,
        respond: SendResponse<Bytes>,
        interim: Rc<Heads>,
        // The request is a HEAD.
        head: bool,
        // What a tunnel is made of, and who waits for it, if it is a CONNECT.
        tunnel: Option<(oneshot::Sender<Duplex>, RecvStream)>,
        patience: Option<Patience>,
    }
}

pin_project! {
    #[project = StateProject]
    enum State<A> {
        Answering {
            #[pin]
            answer: A,
        },
        Sending {
            #[pin]
            body: Sending<ResponseBody>,
        },
    }
}

impl<A: Future<Output = Response<ResponseBody>>> Future for Exchange<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        loop {
            let answer = match this.state.as_mut().project() {
                StateProject::Sending { body } => {
                    if let Err(error) = ready!(body.poll(cx)) {
                        tracing::debug!("an answer is not sent to its end: {error}");
                    }
                    return Poll::Ready(());
                }
                StateProject::Answering { answer } => answer,
            };
            this.interim.wake(cx.waker());
            let answered = answer.poll(cx);
            // Nobody waits for what a reset stream would get.
            if this.respond.poll_reset(cx).is_ready() {
                return Poll::Ready(());
            }
            for head in this.interim.take() {
                // What cannot be sent is not owed: the final answer says it all.
                let _ = this.respond.send_informational(head);
            }
            let (mut head, body) = ready!(answered).into_parts();
            strip_hop_by_hop(&mut head.headers);
            if !body.is_end_stream()
                && !head.headers.contains_key(header::CONTENT_LENGTH)
                && let Some(length) = body.size_hint().exact()
            {
                head.headers.insert(header::CONTENT_LENGTH, length.to_string());
            }
            // An answer of our own has a body even where none may be.
            let ended = body.is_end_stream() || (*this.head && matches!(body, ResponseBody::Own(_)));
            let tunnel = this.tunnel.take().filter(|(open, _)| head.status.is_success() && !open.is_closed());
            let head = http::Response::from(Response::from_parts(head, ()));
            let sent = this.respond.send_response(head, ended && tunnel.is_none());
            let Ok(stream) = sent else {
                this.respond.send_reset(Reason::INTERNAL_ERROR);
                return Poll::Ready(());
            };
            if let Some((open, recv)) = tunnel {
                // Whoever waited may be gone: then the stream ends with this.
                let _ = open.send(Duplex::new(stream, recv));
                return Poll::Ready(());
            }
            if ended {
                return Poll::Ready(());
            }
            let body = Sending::new(body, stream, this.patience.take());
            this.state.set(State::Sending { body });
        }
    }
}
