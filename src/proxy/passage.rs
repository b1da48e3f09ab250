//! Where the interim answers (1xx, RFC 9110 section 15.2) to one request go: to its client, and to the
//! gate that keeps its body back until somebody says 100.
//!
//! Whoever speaks to the application tells each of them here. A 101 must never pass: it is a final answer, whatever its number says. The
//! client hears 100 once: from the application, or from us when that says nothing for too long.

use std::rc::{Rc, Weak};

use http::StatusCode;

use super::expect::Gate;
use super::http1::server::Wire;
use super::http2::Heads;
use crate::headers::Headers;

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
    /// To a connection, for its request of this number. Whoever may still speak must not keep it open.
    Http1(Weak<Wire>, u64),
    /// To a stream.
    Http2(Rc<Heads>),
}

impl Passage {
    /// For a client that is told nothing.
    pub fn closed(gate: Option<Gate>) -> Passage {
        Passage { way: Way::None, gate }
    }

    /// To a client of HTTP/1.1, for the request that is being answered there.
    pub fn http1(wire: &Rc<Wire>, gate: Option<Gate>) -> Passage {
        Passage { way: Way::Http1(Rc::downgrade(wire), wire.number()), gate }
    }

    /// To a client's stream.
    pub fn http2(heads: Rc<Heads>, gate: Option<Gate>) -> Passage {
        Passage { way: Way::Http2(heads), gate }
    }

    /// What the application said before its answer.
    pub fn say(&self, status: StatusCode, headers: &Headers) {
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        if let (StatusCode::CONTINUE, Some(gate)) = (status, &self.gate)
            && !gate.open()
        {
            return;
        }
        match &self.way {
            Way::None => {}
            Way::Http1(wire, number) => {
                if let Some(wire) = wire.upgrade() {
                    wire.say(*number, status, headers);
                }
            }
            Way::Http2(heads) => heads.say(status, headers),
        }
    }
}
