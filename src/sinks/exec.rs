//! A program of one's own, fed one event a line, which answers each with a line.
//!
//! The program reads events on its standard input and writes, for each and in order, one line that
//! begins with `ok`, `retry` or `refused`. What it has not answered when it ends is given to the
//! next one. It must never be given authtap's environment, which holds secrets, and what it says
//! is never repeated, since it may be an event. The invariant: at most one program runs for a sink,
//! and a program whose answers are not understood is ended, as nobody knows what it answers next.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::http::answer::{Answer, Fate};
use super::http::parts::{Courier, Ledger, Limits};
use super::net::check_timeout;
use super::{BoxFuture, BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan, Verdict};
use crate::config::node::{Map, clip};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::format;
use crate::spool::Stored;

#[cfg(test)]
mod tests;

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "exec",
    doc: "a program of your own that reads one event a line and answers each",
    fields: FIELDS,
    formats: Formats::Any("native"),
    check,
};

const FIELDS: &[Field] = &[
    Field::required(
        "command",
        Kind::OneOrList(&Kind::Str),
        "the program and its arguments, as a list; no shell reads it",
    ),
    Field::new(
        "ack",
        Kind::Bool,
        "on",
        "the program answers each event with a line: `ok`, `retry` or `refused`. off: what it was given counts as delivered",
    ),
    Field::new(
        "env",
        Kind::OneOrList(&Kind::Str),
        "",
        "environment variables it is given, by name; without it PATH, HOME, LANG and TZ alone",
    ),
    Field::new("timeout", Kind::Duration, "10s", "for one batch; a program that is slower is ended"),
    format::field("native"),
];

/// Variables that every program is given.
const USUAL_ENV: &[&str] = &["PATH", "HOME", "LANG", "TZ"];
/// The most arguments and variables.
const MAX_WORDS: usize = 64;
/// The longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 1024;
/// After a program has failed the next one starts no sooner than this, doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long a program may go on after its input has ended.
const FAREWELL: Duration = Duration::from_secs(5);

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let timeout = check_timeout(map, problems);
    let ack = map.bool("ack", problems).unwrap_or(true);
    let words = |key: &str, problems: &mut Problems| -> Option<Vec<String>> {
        let items = map.items(key);
        if let Some(beyond) = items.get(MAX_WORDS) {
            problems.error(beyond, format!("more than {MAX_WORDS} words"));
            return None;
        }
        items.iter().map(|item| item.str(problems).map(str::to_owned)).collect()
    };
    let command = words("command", problems);
    let env = words("env", problems);
    for item in map.items("env") {
        let text = item.scalar().unwrap_or_default();
        if text.is_empty() || text.contains(['=', '\0']) {
            // Not repeated: it may be a secret.
            let hint = "write the name of the variable alone";
            problems.error_blotted(item, "this is no name of an environment variable".into(), hint);
            return None;
        }
    }
    let command = command?;
    let at = map.get("command")?;
    match command.as_slice() {
        [] => {
            problems.error_hint(at, "`command` names no program".into(), "write [/usr/local/bin/forward, --to, siem]");
            return None;
        }
        [only] if only.trim().contains(char::is_whitespace) => {
            let hint = "no shell reads it: write a list, [program, argument, …]";
            problems.error_hint(at, format!("`{}` is no program", clip(only)), hint);
            return None;
        }
        [program, ..] if program.is_empty() || command.iter().any(|word| word.contains('\0')) => {
            problems.error_hint(at, "`command` names no program".into(), "write [/usr/local/bin/forward, --to, siem]");
            return None;
        }
        _ => {}
    }
    Some(Box::new(Plan { command, env: env?, ack, timeout: timeout? }))
}

#[derive(Debug)]
struct Plan {
    command: Vec<String>,
    env: Vec<String>,
    ack: bool,
    timeout: Duration,
}

impl SinkPlan for Plan {
    /// Starts nothing: a program starts with the first event.
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        let (name, arguments) = self.command.split_first().map_or(("", &[][..]), |(name, rest)| (name.as_str(), rest));
        // A name without a slash is looked for in PATH; any other is relative to the configuration.
        let program = if name.contains('/') { cx.base.join(name) } else { PathBuf::from(name) };
        Ok(Box::new(Exec {
            courier: Messenger {
                program,
                arguments: arguments.to_vec(),
                env: USUAL_ENV.iter().map(|name| (*name).to_owned()).chain(self.env.iter().cloned()).collect(),
                base: cx.base.clone(),
                ack: self.ack,
                timeout: self.timeout,
                state: Mutex::default(),
            },
            ledger: Ledger::default(),
        }))
    }
}

struct Exec {
    courier: Messenger,
    ledger: Ledger,
}

impl Sink for Exec {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        let limits = Limits { events: usize::MAX, bytes: usize::MAX };
        Box::pin(self.ledger.deliver(&self.courier, limits, batch))
    }

    /// Looks whether the program is there; starting it might do something.
    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async { self.courier.find() })
    }
}

/// Whoever runs the program.
struct Messenger {
    program: PathBuf,
    arguments: Vec<String>,
    env: Vec<String>,
    base: PathBuf,
    ack: bool,
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    /// Programs that failed since one last answered a batch.
    failures: u32,
    /// No program is started before this.
    not_before: Option<Instant>,
}

struct Running {
    child: Option<Child>,
    input: Option<ChildStdin>,
    /// Absent if it is not asked for answers.
    output: Option<BufReader<ChildStdout>>,
}

impl Running {
    /// Itself, unless the program has ended.
    fn if_alive(mut self) -> Option<Running> {
        let alive = self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        alive.then_some(self)
    }
}

impl Drop for Running {
    /// Ends its input and leaves it a moment to finish; then it is killed.
    fn drop(&mut self) {
        drop((self.input.take(), self.output.take()));
        // Without a runtime the process is ending, and the child is killed as it goes.
        if let (Some(mut child), Ok(runtime)) = (self.child.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                if timeout(FAREWELL, child.wait()).await.is_err() {
                    let _ = child.kill().await;
                }
            });
        }
    }
}

impl Messenger {
    /// Looks for the program where it would be started from.
    fn find(&self) -> Result<(), SinkError> {
        use std::os::unix::fs::PermissionsExt;
        let runs = |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        let bare = self.program.components().count() == 1;
        let places = std::env::var_os("PATH").unwrap_or_default();
        let found = match bare {
            true => std::env::split_paths(&places).any(|folder| runs(&folder.join(&self.program))),
            false => runs(&self.program),
        };
        match found {
            true => Ok(()),
            false => Err(self.told("there is no such program, or it may not be run")),
        }
    }

    fn start(&self) -> Result<Running, SinkError> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.base).env_clear();
        for name in &self.env {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let answers = if self.ack { Stdio::piped() } else { Stdio::null() };
        // In a group of its own, so that an interrupt at the terminal ends it by the end of its
        // input, not in the middle of a batch.
        command.stdin(Stdio::piped()).stdout(answers).stderr(Stdio::inherit()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| self.told(&format!("not started: {error}")))?;
        let (input, output) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        Ok(Running { child: Some(child), input, output })
    }

    /// Gives it these events, and reads its answers while it does.
    async fn exchange(&self, running: &mut Running, part: &[Stored], fates: &mut Vec<Fate>) -> Result<(), SinkError> {
        let Some(input) = running.input.as_mut() else { return Err(self.told("it takes no input")) };
        let writing = async {
            let mut lines = Vec::with_capacity(part.iter().map(|one| one.line.len() + 1).sum());
            for one in part {
                lines.extend_from_slice(one.line.as_bytes());
                lines.push(b'\n');
            }
            input.write_all(&lines).await.map_err(|error| self.told(&format!("it takes no input: {error}")))?;
            input.flush().await.map_err(|error| self.told(&format!("it takes no input: {error}")))
        };
        let reading = async {
            let Some(output) = running.output.as_mut() else {
                fates.extend(part.iter().map(|_| Fate::Taken));
                return Ok(());
            };
            while fates.len() < part.len() {
                let mut line = Vec::new();
                let read = output.take(MAX_ANSWER).read_until(b'\n', &mut line).await;
                read.map_err(|error| self.told(&format!("its answers cannot be read: {error}")))?;
                if line.last() != Some(&b'\n') {
                    return Err(self.told("it ended, or broke off, before it had answered everything"));
                }
                let word = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
                fates.push(match word {
                    b"ok" => Fate::Taken,
                    b"refused" => Fate::Refused("the program refused it".into()),
                    b"retry" => Fate::Later(format!("{}: it asks to try again", self.program.display())),
                    // What it said may be an event.
                    _ => return Err(self.told("it answered something else than `ok`, `retry` or `refused`")),
                });
            }
            Ok(())
        };
        tokio::try_join!(writing, reading).map(drop)
    }

    fn told(&self, what: &str) -> SinkError {
        SinkError::Other(format!("{}: {what}", self.program.display()))
    }
}

impl State {
    /// One more program has failed.
    fn failed(&mut self) {
        let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST_WAIT);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(Instant::now() + wait);
    }
}

impl Courier for Messenger {
    fn carry<'a>(&'a self, part: &'a [Stored]) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            let mut state = self.state.lock().await;
            let before = state.running.take();
            let had_one = before.is_some();
            let mut running = match before.and_then(Running::if_alive) {
                Some(running) => running,
                None => {
                    if had_one {
                        state.failed();
                    }
                    let wait = state.not_before.map(|at| at.saturating_duration_since(Instant::now()));
                    if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
                        return Answer::Later { after: Some(wait), why: self.told("it ended, and is started again") };
                    }
                    match self.start() {
                        Ok(running) => running,
                        Err(why) => {
                            state.failed();
                            return Answer::Later { after: None, why };
                        }
                    }
                }
            };
            let mut fates = Vec::with_capacity(part.len());
            let why = match timeout(self.timeout, self.exchange(&mut running, part, &mut fates)).await {
                Ok(Ok(())) => {
                    state.running = Some(running);
                    state.failures = 0;
                    state.not_before = None;
                    return Answer::Items(fates);
                }
                Ok(Err(why)) => why,
                Err(_) => self.told(&format!("no answer within {:?}; set `ack: off` if it gives none", self.timeout)),
            };
            state.failed();
            fates.resize(part.len(), Fate::Later(why.to_string()));
            Answer::Items(fates)
        })
    }
}
