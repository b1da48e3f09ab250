//! Where the interim answers (1xx, RFC 9110 section 15.2) to one request go: to its client, and to the
//! gate that keeps its body back until somebody says 100.
//!
//! Whoever speaks to the application tells each of them here, over HTTP/1.1 by hyper's callback, over
//! HTTP/2 as `h2` gives it. A 101 must never pass: it is a final answer, whatever its number says. The
//! client hears 100 once: from the application, or from us when that says nothing for too long.

use std::sync::Arc;

use http::{HeaderMap, Request, StatusCode};

use super::expect::Gate;
use super::http2::Heads;
use super::interim::Interim;

/// The most interim answers to one request that are passed on.
pub(super) const MAX_HEADS: usize = 16;
/// The most bytes of them that wait to be sent; over HTTP/2 the most of one request.
pub(super) const MAX_BYTES: usize = 16 << 10;

/// See the module.
#[derive(Clone, Debug)]
pub struct Passage {
    way: Way,
    gate: Option<Gate>,
}

/// The way to the client.
#[derive(Clone, Debug)]
enum Way {
    /// A client of HTTP/1.0 knows no interim answer.
    None,
    /// Below hyper, for the request of this number on the connection.
    Http1(Interim, u64),
    /// To a stream.
    Http2(Arc<Heads>),
}

impl Passage {
    /// For a client that is told nothing.
    pub fn closed(gate: Option<Gate>) -> Passage {
        Passage { way: Way::None, gate }
    }

    /// To a client of HTTP/1.1, for the request that [`Interim::begin`] gave this number.
    pub fn http1(interim: Interim, number: u64, gate: Option<Gate>) -> Passage {
        Passage { way: Way::Http1(interim, number), gate }
    }

    /// To a client's stream.
    pub fn http2(heads: Arc<Heads>, gate: Option<Gate>) -> Passage {
        Passage { way: Way::Http2(heads), gate }
    }

    /// What the application said before its answer.
    pub fn say(&self, status: StatusCode, headers: &HeaderMap) {
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        if let (StatusCode::CONTINUE, Some(gate)) = (status, &self.gate) {
            // Over HTTP/1 hyper says it as soon as the body is asked for.
            if !gate.open() || matches!(self.way, Way::Http1(..)) {
                return;
            }
        }
        match &self.way {
            Way::None => {}
            Way::Http1(interim, number) => interim.say(*number, status, headers),
            Way::Http2(heads) => heads.say(status, headers),
        }
    }

    /// Has hyper's client side tell them.
    pub fn listen<B>(&self, request: &mut Request<B>) {
        if matches!((&self.way, &self.gate), (Way::None, None)) {
            return;
        }
        let told = self.clone();
        hyper::ext::on_informational(request, move |answer| told.say(answer.status(), answer.headers()));
    }
}
