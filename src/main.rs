//! Arguments in, exit code out.

use std::process::ExitCode;

use authtap::cli::Cli;
use clap::Parser;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    authtap::cmd::run(Cli::parse())
}
