//! HTTP/1.1 as this proxy reads and writes it (RFC 9112).
//!
//! What is here works on bytes that were read and on bytes to be written, and touches no socket. It
//! must never read a message in a way in which another reader could read it differently: what is
//! doubtful is a fault, and a connection on which there was a fault carries nothing more.

pub mod decode;
pub mod encode;
pub mod trailers;
