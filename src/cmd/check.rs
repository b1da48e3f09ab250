//! `authtap check`: every problem of a configuration, or of several, at once.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::{DIFFERENT, DONE, FAILED, USAGE, complain, control_runtime, graver};
use crate::cli::Check;
use crate::config;
use crate::config::problem::{Problems, Severity};
use crate::config::settings::{self, Config};
use crate::proxy::upstream::{self, Upstream};
use crate::rules::presets::Chosen;
use crate::sinks::BuildCx;

/// The file that is checked if none is named.
const USUAL_FILE: &str = "routes.yaml";

/// Checks every file that was named and says what it found. What cannot be used outweighs what cannot
/// be reached.
pub fn run(options: &Check) -> u8 {
    let mut files: Vec<PathBuf> = options.config.iter().chain(&options.files).cloned().collect();
    if files.is_empty() {
        let named = std::env::var_os("AUTHTAP_CONFIG").filter(|name| !name.is_empty());
        files.push(named.map_or_else(|| USUAL_FILE.into(), PathBuf::from));
    }
    files.iter().fold(DONE, |code, file| graver(code, check(file, options)))
}

fn check(file: &Path, options: &Check) -> u8 {
    let name = file.display().to_string();
    let source = match config::file::read(file) {
        Ok(source) => source,
        Err(error) => {
            complain(&error.to_string());
            return USAGE;
        }
    };
    let (config, problems) = settings::check(&name, &source);
    let (_, warnings) = problems.counts();
    let last = verdict(config.as_ref(), &problems);
    show(&problems, options.json);
    let Some(config) = config else {
        complain(&last);
        return USAGE;
    };
    let mut code = if options.strict && warnings > 0 { USAGE } else { DONE };
    if options.connect {
        code = graver(code, connect(&config));
    }
    if !options.json {
        super::print(&format!("{last}\n"));
    }
    code
}

/// The last line of the report: what the file has if it can be used, else how much is wrong.
pub fn verdict(config: Option<&Config>, problems: &Problems) -> String {
    let (errors, warnings) = problems.counts();
    let (errors, warnings) = (count(errors, "error"), count(warnings, "warning"));
    match config {
        Some(config) => {
            let shipped: usize = config.rules.routes().iter().filter(|route| route.preset.is_some()).count();
            let mut routes = count(config.rules.routes().len() - shipped, "route");
            if !config.presets.is_empty() {
                let presets: Vec<String> = config.presets.iter().map(brought).collect();
                routes = format!("{routes} and {shipped} of presets ({})", presets.join(", "));
            }
            let sinks = count(config.sinks.len(), "sink");
            format!("{}: {routes}, {sinks}, {warnings}", problems.file)
        }
        None => format!("{}: {errors}, {warnings}", problems.file),
    }
}

/// A preset with where it is mounted and how many routes it brought.
fn brought(preset: &Chosen) -> String {
    match preset.base.as_str() {
        "" => format!("{} {}", preset.name, preset.routes),
        base => format!("{} at {base} {}", preset.name, preset.routes),
    }
}

fn count(n: usize, what: &str) -> String {
    match n {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

/// Prints every problem: to standard error for people, to standard output as JSON lines.
pub(super) fn show(problems: &Problems, json: bool) {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for problem in problems.sorted() {
        let (line, column) = problems.line_column(problem.span.start);
        if json {
            let severity = if problem.severity == Severity::Error { "error" } else { "warning" };
            let line = serde_json::json!({
                "severity": severity, "file": problems.file, "line": line, "column": column,
                "path": problem.path, "message": problem.message, "hint": problem.hint,
            });
            super::print(&format!("{line}\n"));
        } else {
            // A closed standard error leaves the exit code to tell.
            let _ = writeln!(std::io::stderr(), "{}\n", problems.render(problem, colour));
        }
    }
    if problems.not_shown() > 0 && !json {
        let _ = writeln!(std::io::stderr(), "and {} more like these, not shown\n", problems.not_shown());
    }
}

/// Tries what the configuration names: the application, the databases, the sinks.
fn connect(config: &Config) -> u8 {
    let Ok(runtime) = control_runtime() else { return FAILED };
    let mut code = DONE;
    let mut say = |what: String, result: Result<(), String>| match result {
        Ok(()) => {
            super::print(&format!("ok    {what}\n"));
        }
        Err(why) => {
            super::print(&format!("fail  {what}: {why}\n"));
            code = DIFFERENT;
        }
    };
    if let Some(upstreams) = &config.upstream {
        match Upstream::build(upstreams.clone(), config.upstream_tls.as_ref(), &config.base) {
            Ok(upstream) => {
                for address in upstream.servers() {
                    let tried = runtime.block_on(upstream::probe(&upstream, address, &config.timeouts));
                    say(format!("upstream {address}"), tried.map_err(|error| with_source(&error)));
                }
            }
            Err(error) => say("upstream_tls".into(), Err(error.to_string())),
        }
    }
    say("databases".into(), config.enrich.build(&config.base).map(drop).map_err(|e| e.to_string()));
    let cx = BuildCx::new(config.base.clone(), false);
    for spec in &config.sinks {
        let tried = spec.build(&cx).and_then(|sink| runtime.block_on(sink.probe()));
        say(format!("sink {}", spec.name), tried.map_err(|e| e.to_string()));
    }
    if let Some(traces) = &config.traces {
        say("traces".into(), runtime.block_on(traces.probe(&config.base)).map_err(|e| e.to_string()));
    }
    if let Some(share) = &config.session.share {
        let tried = share.build(&config.base).and_then(|shared| runtime.block_on(shared.probe()));
        say("session.share".into(), tried.map_err(|e| e.to_string()));
    }
    code
}

/// An error with what caused it: here the reader is the operator, who must know which certificate.
fn with_source(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error} ({source})"))
}
