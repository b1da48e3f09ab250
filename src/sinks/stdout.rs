//! Events on standard output: one line each, for a person or for a pipe.
//!
//! The terminal may be paused and the pipe's reader slow, so all writing happens on a thread of
//! its own; only this sink waits. It must never tear a line: a write that broke off in the middle
//! is ended before the batch is tried again. When the reader is gone for good (broken pipe), every
//! batch is refused, not retried: nobody will ever come back to this pipe, and a spool that waits
//! for them would only fill up. A refused batch counts whole, though its first lines may have been
//! read.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use super::{BoxFuture, BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan, Verdict, Worker, write_counted};
use crate::config::shape::{Field, Kind};
use crate::event::line::pretty;
use crate::format;
use crate::spool::Stored;

#[cfg(test)]
mod tests;

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "stdout",
    doc: "standard output: readable lines on a terminal, JSON lines otherwise",
    fields: FIELDS,
    formats: Formats::Also(LOOKS),
    check: |_, _| Some(Box::new(Plan)),
};

/// Words of `format:` for the native form, besides those of [`format::FORMATS`].
const LOOKS: &[&str] = &["auto", "pretty", "json"];

const FIELDS: &[Field] = &[Field::new(
    "format",
    Kind::Any(&[Kind::Word(LOOKS), format::KIND]),
    "auto",
    "`pretty` for people, `json` for programs; `auto` is pretty on a terminal and JSON lines otherwise; or any format",
)];

/// Room kept for the next batch, in bytes; a larger one gives its room back.
const KEPT: usize = 64 * 1024;

#[derive(Debug)]
struct Plan;

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        let pretty = match cx.media.format {
            "pretty" => true,
            "auto" => io::stdout().is_terminal(),
            _ => false,
        };
        let style = match (pretty, cx.colour) {
            (false, _) => Style::Json,
            (true, false) => Style::Plain,
            (true, true) => Style::Colour,
        };
        Ok(Box::new(Stdout { worker: Worker::start("sink-stdout", Out::new(Box::new(io::stdout()), style))? }))
    }
}

struct Stdout {
    worker: Worker<Out>,
}

impl Sink for Stdout {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            let lines: Vec<Arc<str>> = batch.iter().map(|one| one.line.clone()).collect();
            match self.worker.run(move |out| out.write(&lines)).await {
                Ok(verdict) => verdict,
                Err(why) => Verdict::Retry { after: None, why },
            }
        })
    }

    /// There is nothing to try without writing.
    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Json,
    Plain,
    Colour,
}

/// The stream and how its last write ended.
struct Out {
    to: Box<dyn Write + Send>,
    style: Style,
    buffer: Vec<u8>,
    /// The last byte written ended no line.
    torn: bool,
    /// The reader is gone.
    closed: bool,
}

impl Out {
    fn new(to: Box<dyn Write + Send>, style: Style) -> Out {
        Out { to, style, buffer: Vec::new(), torn: false, closed: false }
    }

    /// Writes these lines in one go and flushes once.
    fn write(&mut self, lines: &[Arc<str>]) -> Verdict {
        if self.closed {
            return refuse_all(lines.len());
        }
        self.buffer.clear();
        if self.torn {
            self.buffer.push(b'\n');
        }
        for line in lines {
            render(line, self.style, &mut self.buffer);
        }
        let (written, result) = write_counted(&mut *self.to, &self.buffer);
        if let Some(last) = self.buffer.get(..written).and_then(<[u8]>::last) {
            self.torn = *last != b'\n';
        }
        let result = result.and_then(|()| self.to.flush());
        self.buffer.shrink_to(KEPT);
        match result {
            Ok(()) => Verdict::Delivered,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                refuse_all(lines.len())
            }
            Err(source) => Verdict::Retry {
                after: None,
                why: SinkError::Io { what: "cannot write to standard output".into(), source },
            },
        }
    }
}

fn refuse_all(count: usize) -> Verdict {
    let why = "standard output is closed: what read it has ended; restart authtap with a reader or remove this sink";
    Verdict::Refused { which: (0..count).collect(), why: SinkError::Other(why.into()) }
}

fn render(line: &str, style: Style, to: &mut Vec<u8>) {
    // What this program wrote as JSON reads back; if it ever did not, its text is still the event.
    let shown = match style {
        Style::Json => None,
        Style::Plain | Style::Colour => serde_json::from_str(line).ok().map(|event| pretty(&event)),
    };
    match shown {
        None => to.extend_from_slice(line.as_bytes()),
        Some(text) if style == Style::Colour => to.extend_from_slice(text.as_bytes()),
        Some(text) => to.extend_from_slice(anstream::adapter::strip_str(&text).to_string().as_bytes()),
    }
    to.push(b'\n');
}
