//! Learning while traffic goes by: the proxy of `authtap run` with the learner in the pipeline's place.
//!
//! Traffic goes through as in `run`. Everything that can be wrong with the command line is said before
//! the first request is taken; the draft is written when the proxy has drained.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use super::{UPSTREAM, offline, verify, write};
use crate::app::{self, Overrides, StartError};
use crate::cli::Learn;
use crate::cmd::{FAILED, USAGE, complain, control_runtime, recorded, serve, told_to_stop};
use crate::config::node::parse_duration;
use crate::config::settings::{Config, ListenAt};
use crate::learn::Head;
use crate::learn::live::{self, Learnt, Progress};
use crate::proxy::upstream::Address;
use crate::record::{Recorder, Written};
use crate::telemetry;

/// How often the line on a terminal is drawn at most.
const REDRAWN: Duration = Duration::from_millis(200);

/// Watches until told to stop, then writes the draft.
pub fn run(options: &Learn) -> Result<u8, u8> {
    if options.verify && options.record.is_none() {
        complain(
            "live traffic cannot be verified while it passes: --verify holds a recording against the file, \
             so write one with --record DIR, or name one with --from",
        );
        return Err(USAGE);
    }
    if options.output.exists() {
        let name = options.output.display();
        let remedy = match (options.verify, &options.record) {
            (true, Some(folder)) => format!(
                "name another draft with -o, or record first and then hold it against this file: authtap learn --from {} --output {name} --verify",
                folder.display()
            ),
            _ => "name another with -o".to_owned(),
        };
        complain(&format!("cannot write {name}: it is there already; {remedy}"));
        return Err(USAGE);
    }
    if let Some(folder) = options.output.parent().filter(|folder| *folder != Path::new("") && !folder.is_dir()) {
        complain(&format!("cannot write {}: there is no folder {}", options.output.display(), folder.display()));
        return Err(USAGE);
    }
    let until = options.for_.as_deref().map(time).transpose()?;
    let config = config(options)?;
    let upstream = options.upstream.clone().or_else(|| Some(config.upstream.as_ref()?.servers.first()?.to_string()));
    let overrides = overrides(options).map_err(|why| failed(&StartError::Usage(why)))?;
    let listen = overrides.listen.as_ref().map(ToString::to_string);
    telemetry::log::start_log();
    telemetry::quiet_panics();
    // It asks as little as auto does; what only the file knows of clients was decided by the proxy.
    let learner = offline(&recorded::config(None)?)?;

    let recorder = options.record.as_deref().map(|folder| recorder(folder, options)).transpose()?;
    let runtime = control_runtime().map_err(|error| failed(&StartError::System(error)))?;
    // Bound within the runtime: the listeners register with it.
    let entered = runtime.enter();
    let bound = app::bind(config, None, overrides, false).map_err(|error| failed(&error))?;
    let metrics = bound.metrics.clone();
    let (sender, receiver) = sync_channel(1);
    let mut status = Status::new();
    let ran = runtime.block_on(bound.run_into(
        |queue| {
            let show = move |progress: &Progress| status.show(progress);
            // The receiver outlives the thread.
            live::start(queue, learner, show, recorder, move |learnt| {
                let _ = sender.send(learnt);
            })
        },
        stopped(until),
    ));
    drop(entered);
    ran.map_err(|error| failed(&error))?;
    let Ok(Learnt { observed, progress, recorded }) = receiver.recv() else {
        complain("the learner ended without a result; this is a bug worth a report");
        return Err(FAILED);
    };
    complain(&summary(&progress));
    let missed: u64 = metrics.losses().iter().map(|(_, count)| count).sum::<u64>() + progress.lost as u64;
    if missed > 0 {
        complain(&format!("{missed} exchanges were not looked at: there was no room for them, or one was too much"));
    }
    let kept = recorded.is_none_or(|recorded| told(recorded, options));
    if progress.exchanges == 0 {
        complain(
            "no exchange was seen, so nothing is written: send the application's traffic through authtap while it learns",
        );
        return Err(FAILED);
    }
    let from = format!("{} exchanges of live traffic", progress.exchanges);
    let head = Head {
        upstream: upstream.as_deref().unwrap_or(UPSTREAM),
        listen: listen.as_deref(),
        from: &from,
        presets: !options.no_presets,
    };
    let code = write(options, &observed, &head)?;
    if !kept {
        return Err(FAILED);
    }
    match &options.record {
        Some(folder) if options.verify => verify::run(folder, &options.output, options.json),
        _ => Ok(code),
    }
}

/// A recorder that keeps the words of the file's routes.
fn recorder(folder: &Path, options: &Learn) -> Result<Recorder, u8> {
    let routes = options.config.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
    Recorder::create(folder, routes.as_deref()).map_err(|error| {
        complain(&format!("cannot record into {}: {error}", folder.display()));
        USAGE
    })
}

/// Says what was recorded; false if that failed.
fn told(recorded: std::io::Result<Written>, options: &Learn) -> bool {
    let folder = options.record.as_deref().unwrap_or(Path::new("")).display();
    match recorded {
        Ok(Written { entries, files, left_out, .. }) => {
            let more = if left_out > 0 { format!("; {left_out} found no room") } else { String::new() };
            complain(&format!("recorded {entries} exchanges without their secrets in {files} files of {folder}{more}"));
            true
        }
        Err(error) => {
            complain(&format!("cannot record into {folder}: {error}"));
            false
        }
    }
}

fn failed(error: &StartError) -> u8 {
    complain(&error.to_string());
    serve::code_of(error)
}

fn time(text: &str) -> Result<Duration, u8> {
    parse_duration(text).filter(|time| !time.is_zero()).ok_or_else(|| {
        complain("`--for` needs a time with its unit: 10m, 2h");
        USAGE
    })
}

/// Told to stop, which is listened for from the call on, or the time is over.
fn stopped(until: Option<Duration>) -> impl Future<Output = ()> {
    let told = told_to_stop();
    async move {
        match until {
            None => told.await,
            Some(time) => tokio::select! {
                () = told => {}
                () = tokio::time::sleep(time) => {}
            },
        }
    }
}

/// The file's way of taking traffic, without what it makes of it.
fn config(options: &Learn) -> Result<Config, u8> {
    let mut config = recorded::config(options.config.as_deref())?;
    config.rules = std::sync::Arc::default();
    config.presets = Vec::new();
    config.sinks = Vec::new();
    config.hint = None;
    Ok(config)
}

fn overrides(options: &Learn) -> Result<Overrides, String> {
    Ok(Overrides {
        listen: options.listen.as_deref().map(ListenAt::parse).transpose()?,
        upstream: options.upstream.as_deref().map(Address::parse).transpose().map_err(|e| e.to_string())?,
        admin: Some(None),
        ephemeral: true,
        auto: Some(true),
        everything: true,
        ..Overrides::default()
    })
}

/// Says on standard error how far it is.
struct Status {
    terminal: bool,
    drawn: Instant,
    told: BTreeMap<String, u64>,
}

impl Status {
    fn new() -> Status {
        Status { terminal: std::io::stderr().is_terminal(), drawn: Instant::now(), told: BTreeMap::new() }
    }

    /// On a terminal one line that is drawn again and again; elsewhere a line for each kind of event
    /// when it is first seen.
    fn show(&mut self, progress: &Progress) {
        if self.terminal {
            if self.drawn.elapsed() >= REDRAWN {
                self.drawn = Instant::now();
                // If standard error is closed there is nobody to tell.
                let _ = write!(anstream::stderr().lock(), "\r\x1b[2K\x1b[1m{}\x1b[0m", summary(progress));
            }
            return;
        }
        for (name, _) in progress.events.iter().filter(|(name, _)| !self.told.contains_key(*name)) {
            complain(&format!("{name} was recognised, in exchange {}", progress.exchanges));
        }
        if self.told.len() < progress.events.len() {
            self.told.clone_from(&progress.events);
        }
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(anstream::stderr().lock(), "\r\x1b[2K");
        }
    }
}

/// Exchanges, and events by type, in one line.
fn summary(progress: &Progress) -> String {
    let mut text = format!("{} exchanges seen", progress.exchanges);
    for (i, (name, count)) in progress.events.iter().enumerate() {
        // Writing to a text cannot fail.
        let _ = write!(text, "{}{name} {count}", if i == 0 { ": " } else { ", " });
    }
    if !progress.presets.is_empty() {
        let _ = write!(text, "; there is a preset for it: {}", progress.presets.join(", "));
    }
    text
}
