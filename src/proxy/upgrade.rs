//! Tunnels: what follows a `101 Switching Protocols` (RFC 9110 section 7.8), WebSocket above all.
//!
//! Bytes are passed on both ways until both sides have ended; nothing of them is captured.
//!
//! The invariant: while a tunnel lives, its connection counts as open, for the limits, the metrics
//! and the drain, although the protocol before it has ended.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use base64::Engine;
use http::{Method, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::handler::Connection;
use super::http1::server::Switched;
use super::http1::stream::ClientStream;
use super::http2::Duplex;
use super::idle::Hold;
use super::message::{Parts, Response};
use super::proxy_protocol::Prefixed;
use super::upstream::Lease;
use super::upstream::http1::Http1;
use super::upstream::wire;
use crate::telemetry::Traffic;

/// Turns a WebSocket of HTTP/2 (extended CONNECT, RFC 8441) into one of HTTP/1.1 (RFC 6455 section
/// 4.1), which is what applications speak; true if it was one.
pub fn translate_websocket(parts: &mut Parts) -> bool {
    let asked = parts.method == Method::CONNECT
        && parts.protocol.take().is_some_and(|protocol| protocol.as_str() == "websocket");
    if !asked {
        return false;
    }
    parts.method = Method::GET;
    // What follows is no body, whatever the request says: announced, the tunnel's first bytes would be one.
    parts.headers.remove(header::CONTENT_LENGTH);
    // HTTP/2 has no key, because no intermediary could mistake the exchange for another.
    let key = base64::engine::general_purpose::STANDARD.encode(uuid::Uuid::now_v7().as_bytes());
    parts.headers.insert(header::SEC_WEBSOCKET_KEY, key);
    parts.headers.insert(header::UPGRADE, "websocket");
    parts.headers.insert(header::CONNECTION, "upgrade");
    true
}

/// Turns the application's 101 into the 200 that means the same in HTTP/2 (RFC 8441 section 5).
pub fn translate_answer<B>(response: &mut Response<B>) {
    *response.status_mut() = StatusCode::OK;
    for name in [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_ACCEPT] {
        response.headers_mut().remove(name);
    }
}

/// One side of a tunnel that is about to be.
pub enum Side {
    /// A client's connection of HTTP/1, once it has its 101.
    Client(oneshot::Receiver<Switched>),
    /// A connection of HTTP/1 to the application.
    Application(Box<Http1>),
    /// A stream of HTTP/2.
    Http2(oneshot::Receiver<Duplex>),
    /// The same, open already.
    Open(Box<Duplex>),
}

impl Side {
    /// The side, once it has switched; `None` if it went away before.
    async fn end(self) -> Option<End> {
        match self {
            Side::Client(switching) => {
                let (rest, stream) = switching.await.ok()?;
                Some(End::Client(Prefixed::new(rest, stream)))
            }
            Side::Application(http1) => {
                let (rest, stream) = http1.into_tunnel();
                Some(End::Application(Prefixed::new(rest, stream)))
            }
            Side::Http2(opening) => Some(End::Http2(opening.await.ok()?)),
            Side::Open(stream) => Some(End::Http2(*stream)),
        }
    }
}

/// One end of a tunnel.
enum End {
    Client(Prefixed<ClientStream>),
    Application(Prefixed<wire::Counted>),
    Http2(Duplex),
}

/// Calls the same method of whichever it is.
macro_rules! either {
    ($end:expr, $stream:ident => $call:expr) => {
        match $end.get_mut() {
            End::Client($stream) => $call,
            End::Application($stream) => $call,
            End::Http2($stream) => $call,
        }
    };
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// How much of a tunnel is read at once: for messages, of which most are small, in many tunnels at once.
const PIECE: usize = 4 << 10;

/// Connects the two sides as soon as both have switched, on a task of its own. It counts as open
/// from here on, so that whoever has its 101 finds it counted; `connection` keeps its place, `lease`
/// that on a connection to the application which others share.
pub fn tunnel(
    client: Side,
    application: Side,
    stats: &Arc<Traffic>,
    hold: Hold,
    connection: Rc<Connection>,
    lease: Lease,
) {
    let counted = Counted::new(stats);
    tokio::task::spawn_local(Box::pin(async move {
        let _guards = (counted, hold, connection, lease);
        let (Some(mut client), Some(mut application)) = tokio::join!(client.end(), application.end()) else {
            tracing::debug!("a tunnel was agreed upon, but one side went away");
            return;
        };
        // Either side's end, or its failure, is the tunnel's ordinary end.
        let _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut application, PIECE, PIECE).await;
    }));
}

struct Counted(Arc<Traffic>);

impl Counted {
    fn new(stats: &Arc<Traffic>) -> Counted {
        stats.tunnels.fetch_add(1, Relaxed);
        Counted(stats.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Relaxed);
    }
}
