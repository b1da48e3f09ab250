//! `authtap learn`: a draft of routes.yaml from recorded traffic, and whether a file says what auto says.
//!
//! Writes one file, and never over one that is there. What it prints of a difference is what events show.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;

use super::{DIFFERENT, DONE, FAILED, USAGE, complain, print, recorded, serve, test};
use crate::app::offline::Offline;
use crate::cli::Learn;
use crate::config::settings::{self, Config};
use crate::learn::{Observed, draft, observe};

/// Learns from a recording, or verifies what was learnt.
pub fn run(options: &Learn) -> u8 {
    let done = if options.verify { verify(options) } else { write(options) };
    done.unwrap_or_else(|code| code)
}

/// What a recording shows by this configuration.
fn seen(options: &Learn, config: &Config) -> Result<Observed, u8> {
    let mut offline = Offline::new(config).map_err(|error| {
        complain(&error.to_string());
        serve::code_of(&error)
    })?;
    let exchanges = recorded::exchanges(&options.from, offline.limits())?;
    Ok(observe(&mut offline, exchanges))
}

fn write(options: &Learn) -> Result<u8, u8> {
    let observed = seen(options, &recorded::config(None)?)?;
    let from = options.from.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = draft(&observed, &options.upstream, &from);
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
        complain(&format!("cannot write {name}: {why}"));
        return Err(USAGE);
    }
    let tests = test::report(&name.to_string(), &config, false);
    let shipped = config.rules.routes().iter().filter(|route| route.preset.is_some()).count();
    let own = config.rules.routes().len() - shipped;
    let events: usize = observed.seen.iter().map(|seen| seen.events.len()).sum();
    let said = match config.presets.first() {
        Some(preset) => format!("the preset {}", preset.name),
        None => format!("{own} routes, {} of {} tests hold", tests.ran - tests.failed, tests.ran),
    };
    print(&format!("{name}: {events} events in {} exchanges; {said}\n", observed.seen.len()));
    Ok(DONE)
}

/// Replays the recording twice, by the file and by auto, and prints where they differ.
fn verify(options: &Learn) -> Result<u8, u8> {
    let by_file = seen(options, &recorded::config(Some(&options.output))?)?;
    let by_auto = seen(options, &recorded::config(None)?)?;
    let mut out = String::new();
    let mut differences = 0_usize;
    for (number, (file, auto)) in by_file.seen.iter().zip(&by_auto.seen).enumerate() {
        let (file, auto) = (said(&file.events), said(&auto.events));
        if file == auto {
            continue;
        }
        differences += 1;
        let place = &by_auto.seen[number];
        // Writing to a text cannot fail.
        let _ = writeln!(out, "{} {} {}", number + 1, place.method, place.path);
        for (what, count) in &auto {
            if file.get(what) != Some(count) {
                let _ = writeln!(out, "  auto says    {what}");
            }
        }
        for (what, count) in &file {
            if auto.get(what) != Some(count) {
                let _ = writeln!(out, "  the file says {what}");
            }
        }
    }
    let _ = writeln!(out, "{}: {differences} of {} exchanges differ", options.output.display(), by_auto.seen.len());
    print(&out);
    Ok(if differences == 0 { DONE } else { DIFFERENT })
}

/// Events as far as they are compared, with how often each is there.
fn said(events: &[crate::event::Event]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for event in events {
        let who = event.actor.label().map_or_else(String::new, |who| format!(" by {who}"));
        *counts.entry(format!("{} {}{who}", event.event_type, event.outcome)).or_default() += 1;
    }
    counts
}
