//! The program from outside: a scripted application, authtap before it (in this process, or as the
//! real program), and clients that send exact bytes. One binary, because linking is the slow part.
#![allow(clippy::expect_used, reason = "a failed expectation is how a test fails, in its helpers too")]

mod auto;
mod capture;
mod config;
mod demo;
mod docs;
mod drain;
mod errors;
mod examples;
mod harness;
mod layers;
mod operation;
mod reload;
mod secrets;
mod streaming;
mod tls;
mod told;
mod transparency;
mod upgrade;
mod upstream;
