//! `authtap test`: runs the tests written beside the routes of a file, and folders of recorded exchanges.
//!
//! Needs no application, no network and no data folder. Prints one line a test; what a line shows
//! of an exchange is what its event would show, never a body.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::{DIFFERENT, DONE, USAGE, check, graver, print};
use crate::app::{self, StartError};
use crate::cli::Test;
use crate::config::settings::Config;

mod folder;

/// Runs the tests of each file: 0 if all hold, 3 if one does not, 2 if a file cannot be used.
pub fn run(options: &Test) -> u8 {
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = options.files.iter().cloned().partition(|file| file.is_dir());
    let mut done = outcome(&files, options.json);
    for folder in &folders {
        done.add(folder::test(folder, options));
    }
    print(&done.out);
    // A closed standard error leaves the exit code to tell.
    let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), done.err.as_bytes());
    done.code
}

/// What the command says and how it ends.
pub struct Done {
    /// The exit code.
    pub code: u8,
    /// For standard output.
    pub out: String,
    /// For standard error.
    pub err: String,
}

impl Done {
    /// Adds what another gave.
    fn add(&mut self, other: Done) {
        self.out.push_str(&other.out);
        self.err.push_str(&other.err);
        self.code = graver(self.code, other.code);
    }
}

/// Runs the tests of each file and prints nothing.
pub fn outcome(files: &[PathBuf], json: bool) -> Done {
    let mut done = Done { code: DONE, out: String::new(), err: String::new() };
    for file in files {
        match load(file) {
            Ok(config) => {
                let report = report(&file.display().to_string(), &config, json);
                done.out.push_str(&report.text);
                // A file that cannot be used outweighs a test that does not hold.
                if report.failed > 0 && done.code == DONE {
                    done.code = DIFFERENT;
                }
            }
            Err(why) => {
                done.err.push_str(&why);
                done.code = USAGE;
            }
        }
    }
    done
}

fn load(file: &Path) -> Result<Config, String> {
    match app::load(file) {
        Ok((config, _)) => Ok(config),
        Err(StartError::Config(problems)) => Err(format!("{problems}authtap: {}\n", check::verdict(None, &problems))),
        Err(error) => Err(format!("authtap: {error}\n")),
    }
}

/// What the tests of one file gave.
pub struct Report {
    /// One line a test, each difference in a line of its own, and the sum; or JSON lines.
    pub text: String,
    /// How many ran.
    pub ran: usize,
    /// How many of them do not hold.
    pub failed: usize,
}

/// Runs every test of a configuration, in the order of the file.
pub fn report(file: &str, config: &Config, json: bool) -> Report {
    let mut report = Report { text: String::new(), ran: 0, failed: 0 };
    let mut untested: Vec<&str> = Vec::new();
    for route in config.rules.routes() {
        if route.cases.is_empty() {
            untested.push(route.id.as_str());
        }
        for case in &route.cases {
            let verdict = case.run(&config.rules, route);
            // Where two presets are about one address, the test of one says nothing of the other.
            let decider = verdict.decided.as_ref().and_then(|(id, _)| {
                config
                    .rules
                    .routes()
                    .iter()
                    .find(|other| other.id.as_str() == id)
                    .and_then(|other| other.preset.clone())
            });
            let elsewhere = route.preset.is_some() && decider.is_some() && decider != route.preset;
            let ok = verdict.differences.is_empty() || elsewhere;
            report.ran += 1;
            report.failed += usize::from(!ok);
            // Writing to a text cannot fail.
            if json {
                let decided = verdict.decided.as_ref();
                let line = serde_json::json!({
                    "file": file, "route": route.id, "test": case.name, "ok": ok,
                    "differences": verdict.differences,
                    "decided": decided.map(|(route, rule)| serde_json::json!({"route": route, "rule": rule})),
                });
                let _ = writeln!(report.text, "{line}");
                continue;
            }
            let word = if ok { "ok  " } else { "FAIL" };
            let _ = writeln!(report.text, "{word}  {}: {}", route.id, case.name);
            for difference in verdict.differences.iter().filter(|_| !ok) {
                let _ = writeln!(report.text, "      {difference}");
            }
            if let Some((route, rule)) = verdict.decided.as_ref().filter(|_| !ok) {
                let _ = writeln!(report.text, "      decided by the rule `{rule}` of the route `{route}`");
            }
        }
    }
    if !json {
        let _ = writeln!(report.text, "{file}: {}", sum(&report, &untested));
    }
    report
}

fn sum(report: &Report, untested: &[&str]) -> String {
    if report.ran == 0 {
        return "no tests; write some under `tests:` beside a route, as in docs/routes-reference.md".into();
    }
    let mut sum = format!("{} of {} tests hold", report.ran - report.failed, report.ran);
    if !untested.is_empty() {
        let _ = write!(sum, "; none beside {}", untested.join(", "));
    }
    sum
}
