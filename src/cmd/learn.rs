//! `authtap learn`: a draft of routes.yaml from live or recorded traffic, and what a file misses of it.
//!
//! Writes one file, and never over one that is there; with `--record` also recordings without secrets.
//! What it prints of an exchange is what events show.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use super::{DONE, FAILED, USAGE, complain, print, recorded, serve, test};
use crate::app::offline::Offline;
use crate::cli::Learn;
use crate::config::settings::{self, Config};
use crate::learn::{Head, Observed, draft, observe};

mod live;
mod verify;

/// What the draft's `upstream` is if nobody said.
const UPSTREAM: &str = "http://127.0.0.1:8000";

/// Learns from traffic or from a recording, or verifies what was learnt.
pub fn run(options: &Learn) -> u8 {
    let done = match &options.from {
        None => live::run(options),
        Some(from) if options.verify => verify::run(from, &options.output, options.json),
        Some(from) => recording(options, from),
    };
    done.unwrap_or_else(|code| code)
}

/// What a recording shows by this configuration.
fn seen(from: &Path, config: &Config) -> Result<Observed, u8> {
    let mut offline = offline(config)?;
    let exchanges = recorded::exchanges(from, offline.limits())?;
    Ok(observe(&mut offline, exchanges))
}

fn offline(config: &Config) -> Result<Offline, u8> {
    Offline::new(config).map_err(|error| {
        complain(&error.to_string());
        serve::code_of(&error)
    })
}

fn recording(options: &Learn, from: &Path) -> Result<u8, u8> {
    let observed = seen(from, &recorded::config(None)?)?;
    if observed.seen.is_empty() {
        let why = "holds no exchange, so nothing is written: record while somebody uses the application";
        complain(&format!("{} {why}", from.display()));
        return Err(FAILED);
    }
    let from = from.file_name().unwrap_or_default().to_string_lossy();
    let upstream = options.upstream.as_deref().unwrap_or(UPSTREAM);
    write(options, &observed, &Head { upstream, listen: None, from: &from, presets: !options.no_presets })
}

/// Writes the draft, runs its tests, and says what became of it.
fn write(options: &Learn, observed: &Observed, head: &Head<'_>) -> Result<u8, u8> {
    let text = draft(observed, head);
    let name = options.output.display();
    let (config, problems) = settings::check(&name.to_string(), &text);
    let Some(config) = config else {
        complain(&format!("what was learnt makes no configuration; this is a bug worth a report:\n{problems}"));
        return Err(FAILED);
    };
    let opened = OpenOptions::new().write(true).create_new(true).open(&options.output);
    if let Err(error) = opened.and_then(|mut file| file.write_all(text.as_bytes())) {
        let why = match error.kind() {
            std::io::ErrorKind::AlreadyExists => "it is there already; name another with -o".to_owned(),
            _ => error.to_string(),
        };
        complain(&format!("cannot write {name}: {why}; the draft is on standard output"));
        // What was learnt took its time.
        print(&text);
        return Err(USAGE);
    }
    let tests = test::report(&name.to_string(), &config, false);
    let own = config.rules.routes().iter().filter(|route| route.preset.is_none()).count();
    let events: usize = observed.seen.iter().map(|seen| seen.events.len()).sum();
    let said = match config.presets.first() {
        Some(preset) => format!("the preset {}", preset.name),
        None => format!("{own} routes, {} of {} tests hold", tests.ran - tests.failed, tests.ran),
    };
    print(&format!("{name}: {events} events in {} exchanges; {said}\n", observed.seen.len()));
    Ok(DONE)
}
