//! One client connection: which protocol it speaks, and serving it until it ends.
//!
//! HTTP/2 is told by ALPN under TLS and by its preface (RFC 9113 section 3.4) without; everything
//! else is HTTP/1. A connection that the client resets is dropped with everything in flight on it.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::watch;

use super::handler::{Connection, Live, Shared, handle};
use super::stream::Prefixed;

/// The most bytes of a request's head (line and headers): more is answered 431. The most headers
/// are hyper's 100, as Apache's: any other number costs an allocation a request.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// The most requests in flight on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// How often a silent HTTP/2 client is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// What an HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What serving a connection needs besides the stream.
pub struct Serving {
    /// The configuration in force.
    pub live: Arc<ArcSwap<Live>>,
    /// What the thread's requests share.
    pub shared: Rc<Shared>,
    /// What this connection's requests share.
    pub connection: Rc<Connection>,
    /// Turns true when it is time to stop.
    pub stop: watch::Receiver<bool>,
}

/// Reads just enough to tell the protocol, and gives it all back.
pub async fn sniff<S: AsyncRead + Unpin>(mut stream: S, within: Duration) -> io::Result<(Protocol, Prefixed<S>)> {
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
pub async fn serve<S>(stream: S, protocol: Protocol, serving: Serving) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Serving { live, shared, connection, mut stop } = serving;
    let header_timeout = live.load().timeouts.header;
    let service = service_fn(move |request| {
        let (live, shared, connection) = (live.clone(), shared.clone(), connection.clone());
        async move {
            let live = live.load();
            Ok::<_, std::convert::Infallible>(handle(&shared, &live, &connection, request).await)
        }
    });
    match protocol {
        Protocol::Http1 => {
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(header_timeout)
                .max_buf_size(MAX_HEAD_BYTES)
                .preserve_header_case(true)
                .auto_date_header(false)
                .half_close(true)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            tokio::pin!(serving);
            tokio::select! {
                served = serving.as_mut() => served,
                _ = stop.wait_for(|stop| *stop) => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            }
        }
        Protocol::Http2 => {
            let serving = http2::Builder::new(OnThisThread)
                .timer(TokioTimer::new())
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(MAX_HEAD_BYTES as u32)
                .max_pending_accept_reset_streams(32)
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(header_timeout)
                .auto_date_header(false)
                .serve_connection(TokioIo::new(stream), service);
            tokio::pin!(serving);
            tokio::select! {
                served = serving.as_mut() => served,
                _ = stop.wait_for(|stop| *stop) => {
                    // GOAWAY: no new streams, those in flight may end.
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            }
        }
    }
}

/// Runs the streams of an HTTP/2 connection on the connection's own thread.
#[derive(Clone, Copy, Debug)]
pub struct OnThisThread;

impl<F> hyper::rt::Executor<F> for OnThisThread
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
