//! HTTP/1 as this proxy reads and writes it (RFC 9112), on both sides.
//!
//! It must never read a message in a way in which another reader could read it differently: what is
//! doubtful is a fault, and a connection on which there was a fault carries nothing more.
//!
//! [`head`] and [`decode`] read heads and bodies, [`encode`] and [`writer`] write them; [`server`] is a
//! client's connection. A connection to the application is in `upstream/http1.rs`, as the pool is there.

pub mod decode;
pub mod encode;
pub mod head;
pub mod reader;
pub mod server;
pub mod stream;
pub mod trailers;
pub mod writer;

pub use server::Body;
