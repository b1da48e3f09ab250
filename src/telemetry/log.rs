//! The program's log: lines on standard error, written by a thread of their own.
//!
//! Whoever reads standard error may stop reading (a container's log driver, a full pipe), and then a
//! write waits for as long as that lasts. So a line is handed over, and where [`ROOM`] lines wait
//! already it is lost and counted. It must never make whoever logs wait.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait; ordinary ones have some 200 bytes.
const ROOM: usize = 8192;
/// How long [`finish`] waits for the last lines.
const LAST: Duration = Duration::from_secs(1);

static LINES: OnceLock<SyncSender<Said>> = OnceLock::new();

/// Lines that found no room.
pub(super) static LOST: LazyLock<Counter> = LazyLock::new(Counter::default);

enum Said {
    Line(Vec<u8>),
    /// Answered when every line before it is written.
    End(SyncSender<()>),
}

/// Starts the program's log on standard error: `AUTHTAP_LOG` filters it (`info` if unset),
/// JSON lines where standard error is no terminal and `AUTHTAP_LOG_FORMAT=json`.
pub fn start_log() {
    let filter = EnvFilter::try_from_env("AUTHTAP_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let json = std::env::var("AUTHTAP_LOG_FORMAT").is_ok_and(|f| f == "json");
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (lines, said) = sync_channel(ROOM);
    let writer = std::thread::Builder::new().name("log".into()).spawn(move || write(&said, &mut io::stderr()));
    // Without a thread the lines go the direct way.
    if writer.is_ok() {
        // A second start (a test, an embedding program) keeps the first log.
        let _ = LINES.set(lines);
    }
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(HandOver).with_target(false).with_ansi(colour);
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}

/// Waits, for at most a second, until what was said is written: the last thing before an exit.
pub fn finish() {
    let Some(lines) = LINES.get() else { return };
    let (done, written) = sync_channel(1);
    if lines.try_send(Said::End(done)).is_ok() {
        let _ = written.recv_timeout(LAST);
    }
}

fn write(said: &Receiver<Said>, out: &mut dyn Write) {
    while let Ok(said) = said.recv() {
        match said {
            // Nobody reads it any more: there is nobody to tell.
            Said::Line(line) => drop(out.write_all(&line)),
            Said::End(done) => drop(done.try_send(())),
        }
    }
}

/// Where the subscriber writes: each call is a whole line.
struct HandOver;

impl<'a> MakeWriter<'a> for HandOver {
    type Writer = HandOver;

    fn make_writer(&'a self) -> HandOver {
        HandOver
    }
}

impl Write for HandOver {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match LINES.get() {
            Some(lines) if lines.try_send(Said::Line(line.to_vec())).is_err() => {
                LOST.inc();
            }
            Some(_) => {}
            None => return io::stderr().write(line),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
