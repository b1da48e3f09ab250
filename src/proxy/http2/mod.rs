//! HTTP/2 (RFC 9113) on both sides, on the `h2` crate itself: what hyper hides of it is needed here,
//! above all interim answers (1xx).
//!
//! [`server`] serves a client's connection; the application's is driven by `upstream/http2.rs`. What
//! both need is here: a body that comes in ([`received`]), one that goes out ([`sending`]), a stream
//! as a tunnel ([`duplex`]), interim answers on their way to a client's stream ([`interim`]), and the
//! question whether the other side is still there ([`heartbeat`]).
//!
//! The invariant of all of it: what waits here for the other side is bounded by a window, because
//! nothing is asked for before there is room for it, and room is given back only for what has been
//! passed on (RFC 9113 section 5.2).

pub mod duplex;
pub mod heartbeat;
mod interim;
pub mod received;
pub mod sending;
pub mod server;

pub use duplex::Duplex;
pub use interim::Heads;
pub use received::Received;
pub use sending::Sending;

/// What counts for a line of a head besides its name and value, in bytes (RFC 9113 section 6.5.2).
pub(super) const LINE: usize = 32;
