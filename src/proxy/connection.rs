//! One client connection: who it is from, which protocol it speaks, and serving it until it ends.
//!
//! In the order of its bytes: a PROXY header where the listener takes one, TLS where it speaks it,
//! then HTTP. The times allowed hold from the first byte on, below all of these.
//!
//! HTTP/2 is told by ALPN under TLS and by its preface (RFC 9113 section 3.4) without; everything
//! else is HTTP/1. A connection that the client resets is dropped with everything in flight on it.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use super::forwarded::Peer;
use super::handler::{Connection, Live, Place, Shared, handle};
use super::head_timer::HeadTimer;
use super::http2;
use super::idle::{Busy, IdleStream, IdleTimes};
use super::inbound::Inbound;
use super::interim::{Interim, InterimStream};
use super::limits::USUAL_HEADERS;
use super::proxy_protocol::{self, Prefixed};
use super::stream::Watched;
use crate::exchange::ClientTls;
use crate::tls::acme::{self, Issuer};
use crate::tls::server::ServerTls;

/// What an HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What is special about one place where clients come in.
#[derive(Clone, Debug, Default)]
pub struct Door {
    /// TLS, if it is spoken there.
    pub tls: Option<Arc<ServerTls>>,
    /// Whose PROXY headers are believed there, if any.
    pub proxy_protocol: Option<Arc<proxy_protocol::Policy>>,
    /// Who proves names by HTTP there.
    pub challenges: Vec<Arc<Issuer>>,
}

/// One connection from its first byte to the protocol it speaks.
pub struct Arrival {
    /// Where it came in.
    pub door: Door,
    /// The configuration in force.
    pub live: Arc<ArcSwap<Live>>,
    /// What the thread's requests share.
    pub shared: Rc<Shared>,
    /// Its place among the connections allowed.
    pub place: Place,
    /// Turns true when it is time to stop.
    pub stop: watch::Receiver<bool>,
}

impl Arrival {
    /// Serves it to its end. `peer` is `None` over a Unix socket, where no PROXY header is read.
    pub async fn serve(mut self, watched: Watched, mut peer: Option<SocketAddr>) -> io::Result<()> {
        let mut stop = self.stop.clone();
        let (within, idle) = {
            let live = self.live.load();
            (live.timeouts.header, live.limits.keep_alive_idle)
        };
        let mut local = watched.local();
        let mut stream = IdleStream::new(watched, IdleTimes { first_byte: within, idle });
        let mut rest = Bytes::new();
        if let (Some(policy), Some(from)) = (&self.door.proxy_protocol, peer) {
            let read = proxy_protocol::read(&mut stream, from, policy, within).await;
            let accepted = read.map_err(io::Error::other)?;
            (peer, rest) = (Some(accepted.peer), accepted.rest);
            local = accepted.local.or(local);
            if self.place.permit.name(accepted.peer.ip()).is_err() {
                self.shared.stats.connections_refused.fetch_add(1, Relaxed);
                return Ok(());
            }
        }
        let busy = stream.busy();
        let stream = Prefixed::new(rest, stream);
        match self.door.tls.clone() {
            Some(tls) => {
                let (mut stream, facts) = tokio::select! {
                    accepted = tls.accept(stream, within) => accepted.map_err(io::Error::other)?,
                    _ = stop.wait_for(|stop| *stop) => return Ok(()),
                };
                if facts.alpn.as_deref() == Some(acme::ALPN) {
                    // The handshake was all that was wanted (RFC 8737 section 3).
                    return stream.shutdown().await;
                }
                let protocol = match facts.alpn.as_deref() {
                    Some("h2") => Protocol::Http2,
                    _ => Protocol::Http1,
                };
                let facts = ClientTls {
                    version: Some(facts.version),
                    sni: facts.sni,
                    ja4: facts.ja4,
                    subject: facts.client_subject,
                    name: facts.client_name,
                    email: facts.client_email,
                };
                let serving = self.serving(peer.zip(local), "https", Some(Arc::new(facts)), busy);
                serve(stream, protocol, serving).await
            }
            None => {
                let (protocol, stream) = tokio::select! {
                    sniffed = sniff(stream, within) => sniffed?,
                    // Nothing was asked yet, so nothing is cut off.
                    _ = stop.wait_for(|stop| *stop) => return Ok(()),
                };
                let serving = self.serving(peer.zip(local), "http", None, busy);
                serve(stream, protocol, serving).await
            }
        }
    }

    fn serving(
        self,
        ends: Option<(SocketAddr, SocketAddr)>,
        scheme: &'static str,
        tls: Option<Arc<ClientTls>>,
        busy: Busy,
    ) -> Serving {
        let (peer, place) = (Peer::new(ends.map(|(peer, _)| peer.ip())), self.place);
        let interim = Interim::new();
        let (served, challenges) = (Cell::new(0), self.door.challenges);
        let connection = Connection { peer, ends, scheme, tls, challenges, busy, interim, served, place };
        Serving { live: self.live, shared: self.shared, connection: Rc::new(connection), stop: self.stop }
    }
}

/// What serving a connection needs besides the stream.
struct Serving {
    live: Arc<ArcSwap<Live>>,
    shared: Rc<Shared>,
    connection: Rc<Connection>,
    stop: watch::Receiver<bool>,
}

/// Reads just enough to tell the protocol, and gives it all back.
async fn sniff<S: AsyncRead + Unpin>(mut stream: S, within: Duration) -> io::Result<(Protocol, Prefixed<S>)> {
    let mut first = BytesMut::with_capacity(8 << 10);
    let reading = async {
        loop {
            if stream.read_buf(&mut first).await? == 0 {
                return Ok::<_, io::Error>(Protocol::Http1);
            }
            let seen = first.len().min(PREFACE.len());
            if first[..seen] != PREFACE[..seen] {
                return Ok(Protocol::Http1);
            }
            if seen == PREFACE.len() {
                return Ok(Protocol::Http2);
            }
        }
    };
    let protocol = tokio::time::timeout(within, reading).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))?;
    Ok((protocol, Prefixed::new(first.freeze(), stream)))
}

/// Serves a connection until it ends, or until told to stop and its requests in flight have ended.
async fn serve<S>(stream: S, protocol: Protocol, serving: Serving) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Serving { live, shared, connection, mut stop } = serving;
    let (header_timeout, limits) = {
        let live = live.load();
        (live.timeouts.header, live.limits)
    };
    let stats = shared.stats.clone();
    let (interim, busy) = (connection.interim.clone(), connection.busy.clone());
    let answer = move |request, asked| {
        let (live, shared, connection) = (live.clone(), shared.clone(), connection.clone());
        async move {
            let live = live.load();
            handle(&shared, &live, &connection, request, asked).await
        }
    };
    match protocol {
        Protocol::Http1 => {
            let stream = InterimStream::new(stream, interim);
            let mut builder = http1::Builder::new();
            if limits.headers != USUAL_HEADERS {
                builder.max_headers(limits.headers);
            }
            let serving = builder
                .timer(HeadTimer::default())
                .header_read_timeout(header_timeout)
                .max_buf_size(limits.header_bytes)
                .preserve_header_case(true)
                .auto_date_header(false)
                .half_close(true)
                .serve_connection(
                    TokioIo::new(stream),
                    service_fn(|request: Request<Incoming>| answered(answer(request.map(Inbound::Http1), None))),
                )
                .with_upgrades();
            tokio::pin!(serving);
            let served = tokio::select! {
                served = serving.as_mut() => served,
                _ = stop.wait_for(|stop| *stop) => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            };
            // A head that hyper cannot read, or not within the limits, it answers itself: 400 or 431.
            if served.as_ref().is_err_and(hyper::Error::is_parse) {
                stats.refused.fetch_add(1, Relaxed);
            }
            served.map_err(io::Error::other)
        }
        Protocol::Http2 => {
            let allowed = http2::server::Allowed {
                streams: limits.streams_per_connection,
                header_bytes: limits.header_bytes,
                pong: header_timeout,
                idle: limits.keep_alive_idle,
            };
            let answer = move |request, asked| answer(request, Some(asked));
            http2::server::serve(stream, allowed, busy, stop, answer).await.map_err(io::Error::other)
        }
    }
}

/// What hyper wants of a service: nothing fails, an error is an answer too. Not an `async fn`, which
/// would keep room for the answer's making twice and move it as often, with each request.
fn answered<F: Future>(answer: F) -> Answered<F> {
    Answered { answer }
}

pin_project! {
    /// See [`answered`].
    struct Answered<F> {
        #[pin]
        answer: F,
    }
}

impl<F: Future> Future for Answered<F> {
    type Output = Result<F::Output, std::convert::Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().answer.poll(cx).map(Ok)
    }
}
