//! Traces: spans of requests, exported by OTLP over HTTP in protobuf.
//!
//! The traffic threads make spans ([`crate::proxy::spans`]) and never wait for what happens here: a
//! thread of its own takes them in batches to the collector ([`export`]). It must never become a
//! reason for a request to fail or to wait, and never keep more than one batch beside the queue. The
//! invariant: every span that was handed over is exported, or counted with the reason why not.
//!
//! A build without the feature `otlp-traces` knows the settings, so that it can say what it lacks.

#[cfg(feature = "otlp-traces")]
mod export;
#[cfg(not(feature = "otlp-traces"))]
mod none;
#[cfg(feature = "otlp-traces")]
mod wire;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

#[cfg(feature = "otlp-traces")]
use self::export as exporter;
#[cfg(not(feature = "otlp-traces"))]
use self::none as exporter;
use crate::config::node::Node;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind, joined};
use crate::proxy::spans::Tracer;
use crate::sinks::http::{self as shared, Compressions, HttpPlan, Usual};
use crate::sinks::otlp::resource::{self, Resource};
use crate::sinks::{BuildCx, SinkError};
use crate::telemetry::Metrics;

/// Said where traces are configured and cannot be had.
pub const MISSING: &str = "this build of authtap has no traces: it lacks the feature `otlp-traces`";

/// The longest time that spans wait for their batch to fill up.
const INTERVAL: Duration = Duration::from_secs(5);
const MAX_INTERVAL: Duration = Duration::from_secs(60);

/// The fields of `traces:`.
pub const FIELDS: &[Field] = joined!(OWN, shared::TOKEN, &shared::fields(&USUAL));

const USUAL: Usual = Usual { path: "/v1/traces", compressions: Compressions::GZIP_OR_ZSTD, ..Usual::BEARER };

const OWN: &[Field] = &[
    Field::required("url", Kind::Str, "https://HOST:4318 of a collector; without a path, /v1/traces is asked for"),
    Field::new(
        "sample",
        Kind::Str,
        "1",
        "the share of requests that are recorded, 0 to 1, where no `traceparent` has decided",
    ),
    Field::new(
        "parent",
        Kind::Bool,
        "on",
        "a valid `traceparent` decides whether its request is recorded, and is its parent; off where clients are not believed",
    ),
    Field::new("interval", Kind::Duration, "5s", "how long spans wait at most for a batch to fill up"),
    resource::FIELD,
];

/// What `traces:` may be: off, or a mapping.
pub const KIND: Kind = Kind::Any(&[Kind::Word(&["off"]), Kind::Map(FIELDS)]);

/// A checked `traces:`. Nothing of it has touched the world yet.
#[derive(Debug)]
pub struct TracesPlan {
    http: HttpPlan,
    resource: Resource,
    share: f64,
    believes: bool,
    interval: Duration,
}

impl TracesPlan {
    /// Checks `traces:`. `None` if it is absent or off, or if there was an error.
    pub fn check(node: Option<&Node>, problems: &mut Problems) -> Option<TracesPlan> {
        let node = node?;
        if node.scalar().is_some() {
            node.one_of(&["off"], problems);
            return None;
        }
        let map = node.map(FIELDS, problems)?;
        if !cfg!(feature = "otlp-traces") {
            let hint = "build it with `cargo build --release --features otlp-traces`, or take `traces` away";
            problems.error_hint(node, MISSING.into(), hint);
        }
        let http = HttpPlan::check(&map, &USUAL, problems);
        let resource = Resource::check(map.get("resource"), problems);
        let share = match map.get("sample") {
            None => Some(1.0),
            Some(at) => {
                let share = at.scalar().and_then(|text| text.parse::<f64>().ok()).filter(|n| (0.0..=1.0).contains(n));
                if share.is_none() {
                    let hint = "write a share from 0 to 1: 0.1 is every tenth";
                    problems.error_hint(at, format!("`sample` cannot be {}", at.describe()), hint);
                }
                share
            }
        };
        let believes = map.get("parent").map_or(Some(true), |at| at.bool(problems));
        let interval = match map.get("interval") {
            None => Some(INTERVAL),
            Some(at) => at.duration(problems).filter(|interval| {
                let known = *interval <= MAX_INTERVAL;
                if !known {
                    problems.error_hint(at, format!("`interval` cannot be {}", at.describe()), "at most 60s");
                }
                known
            }),
        };
        Some(TracesPlan { http: http?, resource: resource?, share: share?, believes: believes?, interval: interval? })
    }

    /// Where spans go and how many, for people: without a secret.
    pub fn shown(&self) -> serde_json::Value {
        serde_json::json!({ "url": self.http.url().to_string(), "sample": self.share, "parent": self.believes })
    }

    /// Starts the exporter on a thread of its own; the tracer is for the traffic threads. Relative paths are relative to `base`.
    ///
    /// # Errors
    /// A secret or a certificate cannot be had, or no thread; or this build has no exporter.
    pub fn start(&self, base: &Path, metrics: &Metrics) -> Result<(Tracer, Running), SinkError> {
        let client = self.http.build(&BuildCx::new(base.to_owned(), false))?;
        let (tracer, spans) = Tracer::new(self.share, self.believes, metrics.trace_spans("queue_full"));
        let ending = Arc::<Notify>::default();
        let exporter = exporter::Exporter::new(client, &self.resource, self.interval, ending.clone(), metrics);
        let (alive, ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("traces".into()).spawn(move || {
            // Gone with the thread, however it ends.
            let _alive = alive;
            exporter.run(spans);
        });
        match thread {
            Ok(_) => Ok((tracer, Running { ending, ended })),
            Err(source) => Err(SinkError::Io { what: "cannot start the thread of traces".into(), source }),
        }
    }

    /// Asks the collector with an export of no spans: for `check --connect`.
    ///
    /// # Errors
    /// It cannot be reached, or does not take it.
    pub async fn probe(&self, base: &Path) -> Result<(), SinkError> {
        let client = self.http.build(&BuildCx::new(base.to_owned(), false))?;
        shared::probed(&client.send(exporter::nothing()).await?, &client)
    }
}

/// An exporter that runs. It ends by itself when every tracer and every span is gone.
#[derive(Debug)]
pub struct Running {
    ending: Arc<Notify>,
    ended: oneshot::Receiver<()>,
}

impl Running {
    /// True if it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.ended.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    /// Has it take what there is to the collector, trying once; what is answered waits until it has
    /// ended. Spans that come later are lost and counted.
    pub fn end(self) -> impl Future<Output = ()> + Send {
        self.ending.notify_one();
        async move {
            let _ = self.ended.await;
        }
    }
}

#[cfg(all(test, feature = "otlp-traces"))]
mod tests;

#[cfg(all(test, not(feature = "otlp-traces")))]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_traces_says_what_it_lacks() {
        let yaml = "{ url: 'http://a.test:4318' }";
        let mut problems = Problems::new("routes.yaml", yaml);
        let node = Node::parse(yaml, &mut problems).expect("parses");
        let _ = TracesPlan::check(Some(&node), &mut problems);
        assert!(problems.to_string().contains("--features otlp-traces"), "{problems}");
    }
}
