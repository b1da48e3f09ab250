//! The admin listener: health, metrics, live events, the effective configuration and reload.
//!
//! It is handed read-only handles and a reload function by whoever wires the program; it never
//! touches traffic and never keeps an event. Invariant: what it serves beyond health and readiness
//! is reached only over loopback under a name that is this machine's, or with the token.

pub mod auth;
pub mod events;
pub mod health;
pub mod server;

pub use auth::{AdminAuth, AdminError};
pub use health::{Readiness, ReadyGuard};
pub use server::{AdminState, ConfigText, Reload, Replay, serve};

#[cfg(test)]
pub(crate) mod tests;
