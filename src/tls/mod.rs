//! TLS: on the listeners towards clients, and on the connections towards the application.
//!
//! [`client_hello`] reads what a client offered, and [`recorder`] keeps the bytes for it.

pub mod client_hello;
pub mod recorder;
