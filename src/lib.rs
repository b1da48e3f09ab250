//! authtap: a reverse-proxy sidecar that turns the logins of an application nobody can change
//! into security events. `ARCHITECTURE.md` is the map; this is the list of rooms.

pub mod admin;
pub mod app;
pub mod auto;
pub mod body;
pub mod capture;
pub mod cli;
pub mod cmd;
pub mod config;
pub mod deliver;
pub mod demo;
pub mod descriptors;
pub mod enrich;
pub mod event;
pub mod exchange;
pub mod filter;
pub mod flow;
pub mod format;
pub mod glimpse;
pub mod har;
pub mod headers;
pub mod hint;
pub mod history;
pub mod identity;
pub mod learn;
pub mod pipeline;
#[cfg(test)]
mod ports;
pub mod protobuf;
pub mod proxy;
pub mod record;
pub mod replicas;
pub mod rules;
pub mod served;
pub mod session;
pub mod sinks;
pub mod socket_activation;
pub mod spool;
pub mod tail;
pub mod telemetry;
pub mod tls;
pub mod traces;
