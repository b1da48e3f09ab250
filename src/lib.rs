//! authtap: a reverse-proxy sidecar that turns the logins of an application nobody can change
//! into security events. `ARCHITECTURE.md` is the map; this is the list of rooms.

pub mod config;
pub mod event;
pub mod exchange;
pub mod proxy;
pub mod sinks;
pub mod spool;
pub mod telemetry;
