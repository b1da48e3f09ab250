//! The exporter: takes spans from the queue and brings them to the collector, batch by batch.
//!
//! What the collector cannot take at once (429, 502, 503, 504, no answer) is tried again a few times,
//! with growing waits or what `Retry-After` asks for; meanwhile the queue fills up, and what no
//! longer fits is counted by who offered it. Anything else is given up at once, as the protocol wants
//! it (opentelemetry.io/docs/specs/otlp, "Failures"). The invariant: each span is counted once, as
//! `exported`, `refused` or `lost`.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout_at};

use super::wire;
use crate::deliver::retry::Backoff;
use crate::proxy::spans::Record;
use crate::sinks::http::answer::shown;
use crate::sinks::http::client::{Client, Outgoing};
use crate::sinks::otlp::protobuf::rejected;
use crate::sinks::otlp::resource::Resource;
use crate::telemetry::Metrics;

/// Requests of one export.
const BATCH: usize = 512;
/// How often one export is tried.
const TRIES: u32 = 8;
/// The longest wait before the next try, whatever the collector asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub(super) struct Exporter {
    client: Client,
    resource: Resource,
    interval: Duration,
    ending: Arc<Notify>,
    exported: Counter,
    refused: Counter,
    lost: Counter,
}

/// What became of one try.
enum Tried {
    /// The collector has all but so many.
    Taken { rejected: u64 },
    /// Not now.
    Later { after: Option<Duration>, why: String },
    /// Never.
    Refused(String),
}

impl Exporter {
    pub(super) fn new(
        client: Client,
        resource: &Resource,
        interval: Duration,
        ending: Arc<Notify>,
        metrics: &Metrics,
    ) -> Exporter {
        Exporter {
            client,
            resource: resource.clone(),
            interval,
            ending,
            exported: metrics.trace_spans("exported"),
            refused: metrics.trace_spans("refused"),
            lost: metrics.trace_spans("lost"),
        }
    }

    /// Exports until the queue has ended, on a runtime of this thread's own: a collector that hangs
    /// holds up nothing else.
    pub(super) fn run(self, spans: mpsc::Receiver<Box<Record>>) {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.export_all(spans)),
            Err(error) => tracing::error!("traces are not exported: there is no runtime for them: {error}"),
        }
    }

    async fn export_all(self, mut spans: mpsc::Receiver<Box<Record>>) {
        let mut batch: Vec<Box<Record>> = Vec::with_capacity(BATCH);
        let mut ending = false;
        let mut failing = false;
        loop {
            let first = tokio::select! {
                biased;
                first = spans.recv() => first,
                () = self.ending.notified(), if !ending => {
                    ending = true;
                    spans.close();
                    continue;
                }
            };
            let Some(first) = first else { return };
            batch.push(first);
            let full_by = Instant::now() + self.interval;
            while batch.len() < BATCH {
                let next = tokio::select! {
                    biased;
                    next = timeout_at(full_by, spans.recv()) => next,
                    () = self.ending.notified(), if !ending => {
                        ending = true;
                        spans.close();
                        continue;
                    }
                };
                match next {
                    Ok(Some(record)) => batch.push(record),
                    Ok(None) | Err(_) => break,
                }
            }
            self.export(&batch, &mut ending, &mut failing).await;
            batch.clear();
        }
    }

    /// Brings one batch to the collector, or gives it up. Once the end has come, it is tried once.
    async fn export(&self, batch: &[Box<Record>], ending: &mut bool, failing: &mut bool) {
        let count = batch.iter().map(|record| wire::spans_of(record)).sum::<u64>();
        let body = wire::encode(&self.resource, batch);
        let mut backoff = Backoff::seeded_by_chance();
        for tried in 1.. {
            match self.attempt(body.clone()).await {
                Tried::Taken { rejected } => {
                    let rejected = rejected.min(count);
                    self.exported.inc_by(count - rejected);
                    self.refused.inc_by(rejected);
                    if rejected > 0 {
                        tracing::warn!(spans = rejected, "{} rejected spans", self.client.place());
                    }
                    if std::mem::take(failing) {
                        tracing::info!("{} takes spans again", self.client.place());
                    }
                    return;
                }
                Tried::Refused(why) => {
                    self.refused.inc_by(count);
                    tracing::warn!(spans = count, "{why}; these spans are given up");
                    return;
                }
                Tried::Later { after, why } => {
                    if !std::mem::replace(failing, true) {
                        tracing::warn!("spans are kept back: {why}");
                    }
                    if *ending || tried == TRIES {
                        self.lost.inc_by(count);
                        return;
                    }
                    tokio::select! {
                        () = sleep(backoff.next(after).min(LONGEST_WAIT)) => {}
                        () = self.ending.notified() => *ending = true,
                    }
                }
            }
        }
    }

    async fn attempt(&self, body: Vec<u8>) -> Tried {
        let reply = match self.client.send(Outgoing::post("application/x-protobuf", body)).await {
            Ok(reply) => reply,
            Err(why) => return Tried::Later { after: None, why: why.to_string() },
        };
        let why = || format!("{} answered {}", self.client.place(), shown(reply.status));
        match reply.status.as_u16() {
            200..=299 => Tried::Taken { rejected: rejected(&reply.body) },
            429 | 502 | 503 | 504 => Tried::Later { after: reply.retry_after, why: why() },
            _ => Tried::Refused(why()),
        }
    }
}

/// An export without spans.
pub(super) fn nothing() -> Outgoing {
    Outgoing::post("application/x-protobuf", Vec::new())
}
