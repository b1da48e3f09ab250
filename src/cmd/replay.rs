//! `authtap replay`: the events that recorded traffic gives.
//!
//! Touches nothing but the files it is given and standard output.

use std::io::{self, BufWriter, Write};

use super::{DONE, FAILED, complain, recorded, serve};
use crate::app::offline::Offline;
use crate::cli::ReplayRecording;
use crate::event::{Event, line};

/// Replays a recording.
pub fn run(options: &ReplayRecording) -> u8 {
    replayed(options).unwrap_or_else(|code| code)
}

fn replayed(options: &ReplayRecording) -> Result<u8, u8> {
    let config = recorded::config(options.config.as_deref())?;
    let mut offline = Offline::new(&config).map_err(|error| {
        complain(&error.to_string());
        serve::code_of(&error)
    })?;
    let exchanges = recorded::exchanges(&options.recording, offline.limits())?;
    let mut out = BufWriter::new(anstream::stdout());
    let write = || -> io::Result<()> {
        for exchange in exchanges {
            let captured = offline.captured(exchange);
            let waited = offline.before(&captured);
            show(&waited, options.pretty, &mut out)?;
            show(&offline.events_of(&captured), options.pretty, &mut out)?;
        }
        show(&offline.end(), options.pretty, &mut out)?;
        out.flush()
    };
    match write() {
        Ok(()) => Ok(DONE),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(DONE),
        Err(_) => Ok(FAILED),
    }
}

fn show(events: &[Event], pretty: bool, out: &mut dyn Write) -> io::Result<()> {
    for event in events {
        match pretty {
            true => writeln!(out, "{}", line::pretty(&serde_json::to_value(event).unwrap_or_default()))?,
            false => writeln!(out, "{}", event.to_line().trim_end())?,
        }
    }
    Ok(())
}
