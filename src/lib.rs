//! authtap: a reverse-proxy sidecar that turns the logins of an application nobody can change
//! into security events. `ARCHITECTURE.md` is the map; this is the list of rooms.

pub mod body;
pub mod admin;
pub mod cmd;
pub mod config;
pub mod demo;
pub mod enrich;
pub mod deliver;
pub mod event;
pub mod exchange;
pub mod filter;
pub mod sinks;
pub mod spool;
pub mod telemetry;
