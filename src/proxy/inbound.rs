//! A body as it comes in, from a client or from the application, over whichever protocol.
//!
//! An enum and no type parameter: whoever watches, copies and passes on bodies is compiled once. It
//! must never hold back, join or copy a piece.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::http1;
use super::http2::sending::Fails;
use super::http2::{Duplex, Received};
use super::upstream::http1::{Answer, Http1};

/// A body that comes in.
#[derive(Debug)]
pub enum Inbound {
    /// From a client over HTTP/1.
    Http1(http1::Body),
    /// From the application over HTTP/1.
    Answer(Answer),
    /// Over HTTP/2; `None` is none, for a CONNECT.
    Http2(Option<Received>),
    /// None, but the stream of HTTP/2 that the answer has opened.
    Tunnel(Box<Duplex>),
}

/// Why it broke off.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// Over HTTP/1.
    #[error(transparent)]
    Http1(#[from] http1::server::Cut),
    /// Over HTTP/2.
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

impl Fails for Cut {
    fn reason(&self) -> Option<h2::Reason> {
        match self {
            Cut::Http1(_) => None,
            Cut::Http2(error) => error.reason(),
        }
    }
}

impl Inbound {
    /// The connection to the application that it comes over, if that is HTTP/1; what is left of the body
    /// is lost.
    pub fn connection(&mut self) -> Option<Box<Http1>> {
        match self {
            Inbound::Answer(answer) => answer.connection(),
            _ => None,
        }
    }

    /// Sends on what is left of the request, while nobody reads the answer.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        if let Inbound::Answer(answer) = self {
            answer.drive(cx);
        }
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Inbound::Http1(body) => Pin::new(body).poll_frame(cx).map_err(Cut::Http1),
            Inbound::Answer(body) => Pin::new(body).poll_frame(cx).map_err(Cut::Http1),
            Inbound::Http2(Some(body)) => Pin::new(body).poll_frame(cx).map_err(Cut::Http2),
            Inbound::Http2(None) | Inbound::Tunnel(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Inbound::Http1(body) => body.is_end_stream(),
            Inbound::Answer(body) => body.is_end_stream(),
            Inbound::Http2(body) => body.as_ref().is_none_or(Body::is_end_stream),
            Inbound::Tunnel(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Inbound::Http1(body) => body.size_hint(),
            Inbound::Answer(body) => body.size_hint(),
            Inbound::Http2(body) => body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint),
            Inbound::Tunnel(_) => SizeHint::with_exact(0),
        }
    }
}
