//! The thirty-second tour: a small legacy application, the configuration that watches it, and a
//! visitor who does everything worth an event.
//!
//! The application knows nothing of authtap, as the real ones do not; authtap sees it only over
//! the wire. It must never be given real accounts and never listens by itself: the caller hands it
//! a listener, on loopback. Everything it remembers is in memory, bounded, and gone with the
//! process.

pub mod app;
mod bounded;
mod pages;
mod state;
pub mod tour;
pub mod visitor;

/// The configuration that turns this application's traffic into events (routes only: listener,
/// upstream and sinks are for the caller to set).
pub const ROUTES: &str = include_str!("routes.yaml");
