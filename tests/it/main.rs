//! The program from outside: a scripted application, authtap before it (in this process, or as the
//! real program), and clients that send exact bytes. One binary, because linking is the slow part.
#![allow(clippy::expect_used, reason = "a failed expectation is how a test fails, in its helpers too")]

#[cfg(feature = "acme")]
mod acme;
mod answers;
mod auto;
mod capture;
mod config;
mod crowdsec;
mod demo;
mod docs;
mod doors;
mod drain;
mod errors;
mod examples;
mod faults;
mod harness;
mod http1_edge;
mod http2_edge;
mod http2_upstream;
mod identity;
mod layers;
mod learn;
mod operation;
mod outage;
mod overload;
mod presets;
mod proxy_out;
mod recorded;
mod reload;
mod secrets;
mod sessions;
#[cfg(feature = "redis")]
mod shared_sessions;
mod sinks;
mod spool;
mod streaming;
mod tls;
mod told;
#[cfg(feature = "otlp-traces")]
mod traces;
mod transparency;
mod traps;
mod upgrade;
mod upstream;
