//! The proxy: what happens to a request on its way to the application, and to the answer on its
//! way back.
//!
//! The modules listed here are the pure part of it. They are called once a request on the traffic
//! threads, so they never lock, never wait and never panic on what a stranger sends, and the work
//! of each is linear in the size of the head. The order in which the handler uses them matters:
//!
//! 1. [`host::settle`] refuses a target or `Host` that two readers could read differently;
//! 2. [`client_ip::ClientIp::decide`] says who the client is, from the headers as they came;
//! 3. [`headers::strip_request`] removes what belongs to the connection, not to the message;
//! 4. [`forwarded::set_forwarded`] and [`request_id::ensure`] write what the application is told,
//!    after the strip, so that no client can name these headers in `Connection` and lose them.

pub mod access_log;
pub mod aside;
pub mod balance;
pub mod body;
pub mod client_ip;
pub mod client_tls;
pub mod clock;
pub mod connection;
pub mod error;
pub mod expect;
pub mod forwarded;
pub mod framing;
pub mod handler;
pub mod headers;
pub mod host;
pub mod http1;
pub mod http2;
pub mod idle;
pub mod in_force;
pub mod inbound;
pub mod limits;
pub mod listener;
pub mod message;
pub mod observed;
pub mod passage;
pub mod proxy_protocol;
pub mod request_id;
pub mod socket;
pub mod spans;
pub mod stream;
pub mod trace_context;
pub mod unix;
pub mod upgrade;
pub mod upstream;
