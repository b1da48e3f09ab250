//! The subcommands, one a file. Each answers with its exit code and prints its own errors.

pub mod check;
pub mod coverage;
pub mod demo;
pub mod events;
pub mod explain;
pub mod health;
pub mod learn;
pub mod presets;
pub mod recorded;
pub mod replay;
pub mod serve;
pub mod spool;
pub mod tail;
pub mod test;

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::{Cli, Command, SchemaOf, Which};
use crate::filter::Filter;

/// Done.
pub const DONE: u8 = 0;
/// Failed at run time.
pub const FAILED: u8 = 1;
/// Wrong usage or configuration.
pub const USAGE: u8 = 2;
/// A check or test found a difference.
pub const DIFFERENT: u8 = 3;

/// Which of two codes says more of several things done: what cannot be used outweighs what differs.
fn graver(one: u8, other: u8) -> u8 {
    let weight = |code: u8| [DONE, DIFFERENT, USAGE, FAILED].iter().position(|known| *known == code);
    if weight(other) > weight(one) { other } else { one }
}

/// Carries out a command line.
pub fn run(cli: Cli) -> ExitCode {
    let code = match cli.command {
        Command::Run(options) => serve::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Tail(options) => tail::run(&options),
        Command::Explain(options) => explain::run(&options),
        Command::Replay(options) => replay::run(&options),
        Command::Learn(options) => learn::run(&options),
        Command::Coverage(options) => coverage::run(&options),
        Command::Presets(options) => presets::run(&options),
        Command::Events(options) => events::run(&options),
        Command::Spool(options) => spool::run(&options),
        Command::Health(options) => health::run(&options),
        Command::Schema(options) => print(&match options.of {
            SchemaOf::Config => pretty(&crate::config::settings::json_schema()),
            SchemaOf::Event => pretty(&crate::event::schema::json_schema()),
            SchemaOf::Reference => crate::config::reference::markdown(),
        }),
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "authtap", &mut out);
            print(&String::from_utf8_lossy(&out))
        }
    };
    crate::telemetry::log::finish();
    ExitCode::from(code)
}

/// The filter that flags ask for.
fn filter_of(which: &Which, limit: Option<u64>) -> Result<Filter, String> {
    let limit = limit.map(|n| n.to_string());
    let pairs = [
        ("type", which.event_type.as_deref()),
        ("actor", which.actor.as_deref()),
        ("ip", which.ip.as_deref()),
        ("outcome", which.outcome.as_deref()),
        ("since", which.since.as_deref()),
        ("limit", limit.as_deref()),
    ];
    Filter::from_query(pairs.into_iter().filter_map(|(k, v)| v.map(|v| (k, v)))).map_err(|e| e.to_string())
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

/// Writes to standard output; a reader that has gone away is a quiet end.
pub(crate) fn print(text: &str) -> u8 {
    match anstream::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => DONE,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => DONE,
        Err(_) => FAILED,
    }
}

/// Says what went wrong, on standard error.
pub(crate) fn complain(message: &str) {
    // If standard error is closed there is nobody to tell.
    let _ = writeln!(anstream::stderr().lock(), "authtap: {message}");
}

/// A runtime for everything but traffic.
pub(crate) fn control_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("control").enable_all().build()
}

/// Ready at SIGTERM or SIGINT. They are listened for from the call on, not only once somebody waits: who
/// tells a program to stop that has just begun is heard too. To be called inside a runtime.
pub(crate) fn told_to_stop() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| {
        let listening = signal(kind);
        async move {
            match listening {
                Ok(mut signal) => _ = signal.recv().await,
                // Failing to listen must not look like being told.
                Err(_) => std::future::pending().await,
            }
        }
    };
    let (terminated, interrupted) = (listen(SignalKind::terminate()), listen(SignalKind::interrupt()));
    async {
        tokio::select! {
            () = terminated => {}
            () = interrupted => {}
        }
    }
}
