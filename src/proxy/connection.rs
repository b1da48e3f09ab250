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
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::body::RequestBody;
use super::forwarded::Peer;
use super::handler::{Connection, Local, Place, Shared, handle};
use super::http1::head;
use super::http1::server::Wire;
use super::http1::stream::ClientStream;
use super::idle::{Busy, IdleStream, IdleTimes};
use super::limits::Limits;
use super::message::Request;
use super::proxy_protocol::{self, Prefixed};
use super::stream::Watched;
use super::{http1, http2};
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
            let live = self.shared.live.get();
            (live.timeouts.header, live.limits.keep_alive_idle)
        };
        let mut local = Local::Of(watched.clone());
        let mut stream = IdleStream::new(watched, IdleTimes { first_byte: within, idle });
        let mut rest = Bytes::new();
        if let (Some(policy), Some(from)) = (&self.door.proxy_protocol, peer) {
            let read = proxy_protocol::read(&mut stream, from, policy, within).await;
            let accepted = read.map_err(io::Error::other)?;
            (peer, rest) = (Some(accepted.peer), accepted.rest);
            local = accepted.local.map_or(local, Local::Told);
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
                let stream = ClientStream::Tls(Box::new(stream));
                let from =
                    From { ends: peer.map(|peer| (peer, local)), scheme: "https", tls: Some(Arc::new(facts)), busy };
                match protocol {
                    Protocol::Http1 => self.http1(stream, BytesMut::new(), from).await,
                    Protocol::Http2 => self.http2(stream, from).await,
                }
            }
            None => {
                let (protocol, first, stream) = tokio::select! {
                    sniffed = sniff(stream, within) => sniffed?,
                    // Nothing was asked yet, so nothing is cut off.
                    _ = stop.wait_for(|stop| *stop) => return Ok(()),
                };
                let from = From { ends: peer.map(|peer| (peer, local)), scheme: "http", tls: None, busy };
                match protocol {
                    Protocol::Http1 => self.http1(ClientStream::Plain(stream), first, from).await,
                    Protocol::Http2 => {
                        let (mut first, (rest, stream)) = (first, stream.into_parts());
                        first.extend_from_slice(&rest);
                        self.http2(ClientStream::Plain(Prefixed::new(first.freeze(), stream)), from).await
                    }
                }
            }
        }
    }

    /// Serves HTTP/1, of which `first` was read already.
    async fn http1(self, stream: ClientStream, first: BytesMut, from: From) -> io::Result<()> {
        let (header, limits) = self.limits();
        let head = head::Allowed { headers: limits.headers, bytes: limits.header_bytes };
        let allowed = http1::server::Allowed { head, within: header };
        let wire = Wire::new(stream, first);
        let (stats, stop) = (self.shared.stats.clone(), self.stop.clone());
        let shared = self.shared.clone();
        let connection = self.connection(from, Some(wire.clone()));
        let answer = async move |request: &mut Request<RequestBody>| {
            handle(&shared, &shared.live.get(), &connection, request, None).await
        };
        http1::server::serve(wire, allowed, stats, stop, answer).await
    }

    /// Serves HTTP/2.
    async fn http2(self, stream: ClientStream, from: From) -> io::Result<()> {
        let (header, limits) = self.limits();
        let allowed = http2::server::Allowed {
            streams: limits.streams_per_connection,
            header_bytes: limits.header_bytes,
            pong: header,
            idle: limits.keep_alive_idle,
        };
        let (stop, busy) = (self.stop.clone(), from.busy.clone());
        let shared = self.shared.clone();
        let connection = self.connection(from, None);
        let answer = move |mut request, asked| {
            let (shared, connection) = (shared.clone(), connection.clone());
            // In a box: it is moved into a task of its own.
            Box::pin(async move { handle(&shared, &shared.live.get(), &connection, &mut request, Some(asked)).await })
        };
        http2::server::serve(stream, allowed, busy, stop, answer).await.map_err(io::Error::other)
    }

    fn limits(&self) -> (Duration, Limits) {
        let live = self.shared.live.get();
        (live.timeouts.header, live.limits)
    }

    fn connection(self, from: From, wire: Option<Rc<Wire>>) -> Rc<Connection> {
        let From { ends, scheme, tls, busy } = from;
        let (peer, place) = (Peer::new(ends.as_ref().map(|(peer, _)| peer.ip())), self.place);
        let (served, challenges) = (Cell::new(0), self.door.challenges);
        Rc::new(Connection { peer, ends, scheme, tls, challenges, busy, wire, served, place })
    }
}

/// What is known of a connection when its protocol is.
struct From {
    ends: Option<(SocketAddr, Local)>,
    scheme: &'static str,
    tls: Option<Arc<ClientTls>>,
    busy: Busy,
}

/// Reads just enough to tell the protocol; what was read goes before what is left of the stream.
async fn sniff<S: AsyncRead + Unpin>(mut stream: S, within: Duration) -> io::Result<(Protocol, BytesMut, S)> {
    let mut first = BytesMut::with_capacity(4 << 10);
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
    Ok((protocol, first, stream))
}
