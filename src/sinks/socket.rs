//! One event a line to a socket: `tcp` over the network, `unix` on this machine.
//!
//! A socket acknowledges nothing. What [`Stream`] does about that is all that can be done: a
//! receiver that reads, closes and forgets still loses events. It must never mix two lines or begin
//! a connection in the middle of one.

use std::path::PathBuf;
use std::time::Duration;

use super::net::link::LinkPlan;
use super::net::stream::{Stream, To};
use super::net::{TIMEOUT, TLS, check_timeout};
use super::{BoxFuture, BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan, Verdict};
use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::format;
use crate::spool::Stored;

#[cfg(test)]
mod tests;

/// The table's entry for TCP.
pub const TCP: SinkKind = SinkKind {
    name: "tcp",
    doc: "one event a line over TCP, with or without TLS",
    fields: TCP_FIELDS,
    formats: Formats::Any("native"),
    check: check_tcp,
};

/// The table's entry for Unix sockets.
pub const UNIX: SinkKind = SinkKind {
    name: "unix",
    doc: "one event a line to a Unix stream socket",
    fields: UNIX_FIELDS,
    formats: Formats::Any("native"),
    check: check_unix,
};

const TCP_FIELDS: &[Field] =
    &[Field::required("address", Kind::Str, "the receiver, HOST:PORT"), TLS, TIMEOUT, format::field("native")];

const UNIX_FIELDS: &[Field] = &[
    Field::required("path", Kind::Str, "the socket; relative to the folder of the configuration file"),
    TIMEOUT,
    format::field("native"),
];

fn check_tcp(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    Some(Box::new(Plan::Tcp(LinkPlan::check(map, None, problems)?)))
}

fn check_unix(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let timeout = check_timeout(map, problems);
    let at = map.get("path")?;
    let path = at.str(problems)?;
    if path.is_empty() || path.ends_with('/') {
        problems.error_hint(at, "`path` names no socket".into(), "write one like /run/collector.sock");
        return None;
    }
    Some(Box::new(Plan::Unix(PathBuf::from(path), timeout?)))
}

#[derive(Debug)]
enum Plan {
    Tcp(LinkPlan),
    Unix(PathBuf, Duration),
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        let to = match self {
            Plan::Tcp(link) => To::Tcp(link.build(&cx.base)?),
            Plan::Unix(path, within) => To::Unix(cx.base.join(path), *within),
        };
        Ok(Box::new(Socket { stream: Stream::new(to) }))
    }
}

struct Socket {
    stream: Stream,
}

impl Sink for Socket {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            let mut lines = Vec::with_capacity(batch.iter().map(|one| one.line.len() + 1).sum());
            for one in batch {
                lines.extend_from_slice(one.line.as_bytes());
                lines.push(b'\n');
            }
            match self.stream.write(lines).await {
                Ok(()) => Verdict::Delivered,
                Err(why) => Verdict::Retry { after: None, why },
            }
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(self.stream.probe())
    }
}
