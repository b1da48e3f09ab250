//! What authtap says about itself: its log, and every metric with its unit and meaning.
//!
//! Traffic threads touch only [`Traffic`], a block of atomics of their own that the scrape adds
//! up; nothing on the request path takes a lock. Everything else counts through `prometheus-client`.

pub mod log;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of the latency histogram, in microseconds; the last bucket has no bound.
const LATENCY_BOUNDS_US: [u64; 14] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000, 30_000_000];

/// Why an event or exchange was lost. Each is a label of `authtap_events_dropped_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// The queue between traffic and pipeline was full.
    QueueFull,
    /// A rule, extractor or enricher panicked.
    Panic,
    /// An exchange held more calls than become events.
    Batch,
    /// A hint header said what cannot be read.
    Hint,
    /// A sink had not read it when the spool had to give it up.
    SpoolFull,
    /// The receiver refused it for good.
    Refused,
    /// The program ended before a sink had taken it.
    Shutdown,
    /// The disk was too slow or away for too long: it is not in the event store.
    StoreFull,
}

impl Drop {
    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Drop::QueueFull => "queue_full",
            Drop::Panic => "panic",
            Drop::Batch => "batch",
            Drop::Hint => "hint",
            Drop::SpoolFull => "spool_full",
            Drop::Refused => "refused",
            Drop::Shutdown => "shutdown",
            Drop::StoreFull => "store_full",
        }
    }
}

/// Counters of one traffic thread.
#[derive(Debug, Default)]
pub struct Traffic {
    status: [AtomicU64; 6],
    latency: [AtomicU64; LATENCY_BOUNDS_US.len() + 1],
    latency_sum_us: AtomicU64,
    upstream_errors: [AtomicU64; UpstreamError::ALL.len()],
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections open now.
    pub open: AtomicI64,
    /// Upgraded tunnels open now.
    pub tunnels: AtomicI64,
    /// Answers that could have been looked at for signs of a known application.
    pub glimpsed: AtomicU64,
    /// The round of suggestions in which these were counted.
    pub glimpse_round: AtomicU64,
    /// The second, since the start, in which one was last looked at.
    pub glimpse_second: AtomicU64,
    /// Exchanges handed to the pipeline.
    pub captured: AtomicU64,
    /// Exchanges lost because the queue was full.
    pub queue_full: AtomicU64,
    /// Answers that were held until their event is on disk, and let go because that took too long.
    pub let_go: AtomicU64,
    /// How often an address of the application was put out for a while, after failures in a row.
    pub ejections: AtomicU64,
    /// Connections closed because a limit of connections was reached.
    pub connections_refused: AtomicU64,
    /// Requests refused by a limit or because they could not be read.
    pub refused: AtomicU64,
}

/// How the application failed, or why it was not asked. Each is a label of `authtap_upstream_errors_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamError {
    /// No connection could be made.
    Connect,
    /// No answer within the time allowed.
    Timeout,
    /// The connection broke before an answer.
    Closed,
    /// The answer could not be read as HTTP.
    Invalid,
    /// There was no file descriptor left for a connection.
    Full,
}

impl UpstreamError {
    const ALL: [UpstreamError; 5] = [
        UpstreamError::Connect,
        UpstreamError::Timeout,
        UpstreamError::Closed,
        UpstreamError::Invalid,
        UpstreamError::Full,
    ];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            UpstreamError::Connect => "connect",
            UpstreamError::Timeout => "timeout",
            UpstreamError::Closed => "closed",
            UpstreamError::Invalid => "invalid",
            UpstreamError::Full => "full",
        }
    }
}

/// Counts in a traffic thread's own block. Nobody else writes there, so that the sum needs no lock of its
/// cache line, which costs as much as the rest of a look at a clock.
fn count(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

impl Traffic {
    /// Counts one answered request. To be called by the thread that the block belongs to.
    pub fn request(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100).min(5);
        count(&self.status[class], 1);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < us);
        count(&self.latency[bucket], 1);
        count(&self.latency_sum_us, us);
    }

    /// Counts one failure of the application.
    pub fn upstream_error(&self, error: UpstreamError) {
        self.upstream_errors[error as usize].fetch_add(1, Relaxed);
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EventLabels {
    event_type: String,
    outcome: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SinkLabel {
    sink: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SinkResult {
    sink: String,
    result: String,
}

/// Every metric of the program.
pub struct Metrics {
    registry: Registry,
    traffic: Arc<Mutex<Vec<Arc<Traffic>>>>,
    events: Family<EventLabels, Counter>,
    dropped: Family<ReasonLabel, Counter>,
    undecided: Family<RouteLabel, Counter>,
    reloads: Family<ResultLabel, Counter>,
    sink_events: Family<SinkResult, Counter>,
    sink_lag: Family<SinkLabel, Gauge>,
    /// 1 if the configuration in force is the one on disk, 0 if that one was refused.
    pub config_current: Gauge,
    /// Lines of the access log that were lost: its queue was full, or its target failed.
    pub access_log_dropped: Counter,
    /// Sessions remembered now.
    pub sessions: Gauge,
    /// Flows under way now, by their keys.
    pub flows: Gauge,
    /// Events that wait for their client's next request now.
    pub follow_ups_waiting: Gauge,
    flows_ended: Family<ResultLabel, Counter>,
    follow_ups: Family<ResultLabel, Counter>,
    /// Successes that were not told, because their key had been told within the interval.
    pub sampled: Counter,
    /// Addresses of the application that are down by their health checks.
    pub upstream_down: Gauge,
    /// 1 while events are kept on disk as they should be.
    pub store_healthy: Gauge,
    /// Bytes of the event store that hold something.
    pub store_bytes: Gauge,
    sink_lag_bytes: Family<SinkLabel, Gauge>,
    sink_lag_seconds: Family<SinkLabel, Gauge>,
    trace_spans: Family<ResultLabel, Counter>,
    /// 1 while there is a connection through which sessions are shared.
    pub share_up: Gauge,
    share_lookups: Family<ResultLabel, Counter>,
    share_writes: Family<ResultLabel, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("authtap");
        let traffic: Arc<Mutex<Vec<Arc<Traffic>>>> = Arc::default();
        registry.register_collector(Box::new(TrafficCollector(traffic.clone())));
        let metrics = Metrics {
            traffic,
            events: Family::default(),
            dropped: Family::default(),
            undecided: Family::default(),
            reloads: Family::default(),
            sink_events: Family::default(),
            sink_lag: Family::default(),
            config_current: Gauge::default(),
            access_log_dropped: Counter::default(),
            sessions: Gauge::default(),
            flows: Gauge::default(),
            follow_ups_waiting: Gauge::default(),
            flows_ended: Family::default(),
            follow_ups: Family::default(),
            sampled: Counter::default(),
            upstream_down: Gauge::default(),
            store_healthy: Gauge::default(),
            store_bytes: Gauge::default(),
            sink_lag_bytes: Family::default(),
            sink_lag_seconds: Family::default(),
            trace_spans: Family::default(),
            share_up: Gauge::default(),
            share_lookups: Family::default(),
            share_writes: Family::default(),
            registry: Registry::default(),
        };
        registry.register("events", "events emitted, by type and outcome", metrics.events.clone());
        registry.register("events_dropped", "events or exchanges lost, by reason", metrics.dropped.clone());
        registry.register(
            "exchanges_undecided",
            "exchanges of a route whose outcome the evidence did not decide, whether or not an event says so",
            metrics.undecided.clone(),
        );
        registry.register("config_reloads", "reloads of the configuration, by result", metrics.reloads.clone());
        registry.register("sink_events", "events a sink has dealt with, by result", metrics.sink_events.clone());
        registry.register("sink_lag_events", "events waiting for a sink", metrics.sink_lag.clone());
        registry.register(
            "config_current",
            "1 if the configuration in force is the one on disk, 0 if that one was refused",
            metrics.config_current.clone(),
        );
        registry.register(
            "access_log_dropped",
            "lines of the access log lost, because its queue was full or its target failed",
            metrics.access_log_dropped.clone(),
        );
        registry.register("sessions", "sessions remembered now", metrics.sessions.clone());
        registry.register("flows", "logins of several steps under way now, by key", metrics.flows.clone());
        registry.register("flows_ended", "logins of several steps that ended, by result", metrics.flows_ended.clone());
        registry.register(
            "follow_ups_waiting",
            "events that wait for their client's next request now",
            metrics.follow_ups_waiting.clone(),
        );
        registry.register(
            "follow_ups",
            "events that waited for the next request, by result",
            metrics.follow_ups.clone(),
        );
        registry.register(
            "events_sampled",
            "successes not told, because their key had been told within the route's interval",
            metrics.sampled.clone(),
        );
        registry.register(
            "upstream_down",
            "addresses of the application that are down by their health checks",
            metrics.upstream_down.clone(),
        );
        registry.register(
            "store_healthy",
            "1 while events are kept on disk as they should be",
            metrics.store_healthy.clone(),
        );
        registry.register("store_bytes", "bytes of the event store that hold something", metrics.store_bytes.clone());
        registry.register("sink_lag_bytes", "bytes of the events waiting for a sink", metrics.sink_lag_bytes.clone());
        registry.register(
            "sink_lag_seconds",
            "how long the oldest event waiting for a sink has waited",
            metrics.sink_lag_seconds.clone(),
        );
        registry.register("log_lines_dropped", "lines of the log that nobody took in time", log::LOST.clone());
        registry.register("trace_spans", "spans of traces, by what became of them", metrics.trace_spans.clone());
        for result in ["exported", "refused", "lost", "queue_full"] {
            let _ = metrics.trace_spans(result);
        }
        registry.register(
            "session_share_up",
            "1 while there is a connection through which sessions are shared",
            metrics.share_up.clone(),
        );
        registry.register(
            "session_share_lookups",
            "sessions that other replicas were asked for, by result",
            metrics.share_lookups.clone(),
        );
        registry.register(
            "session_share_writes",
            "changes of sessions told to other replicas, by result",
            metrics.share_writes.clone(),
        );
        // Every reason is shown from the start, so that an alert on it has a series to watch.
        for reason in
            [Drop::Panic, Drop::Batch, Drop::Hint, Drop::SpoolFull, Drop::Refused, Drop::Shutdown, Drop::StoreFull]
        {
            let _ = metrics.dropped.get_or_create(&ReasonLabel { reason: reason.as_str().into() });
        }
        metrics.config_current.set(1);
        metrics.store_healthy.set(1);
        Metrics { registry, ..metrics }
    }

    /// A block of counters for one more traffic thread.
    pub fn add_traffic(&self) -> Arc<Traffic> {
        let block = Arc::<Traffic>::default();
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner).push(block.clone());
        block
    }

    /// How many requests were answered, over all traffic threads.
    pub fn requests_answered(&self) -> u64 {
        let blocks = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.iter().flat_map(|block| &block.status).map(|count| count.load(Relaxed)).sum()
    }

    /// Counts emitted events of one type and outcome. Types come from the configuration, so their number
    /// is bounded.
    pub fn events(&self, event_type: &str, outcome: &str, count: u64) {
        let labels = EventLabels { event_type: event_type.into(), outcome: outcome.into() };
        self.events.get_or_create(&labels).inc_by(count);
    }

    /// Counts an exchange that the evidence did not decide. Routes come from the configuration, so
    /// their number is bounded.
    pub fn undecided(&self, route: &str) {
        self.undecided.get_or_create(&RouteLabel { route: route.into() }).inc();
    }

    /// Counts lost events.
    pub fn dropped(&self, reason: Drop, count: u64) {
        self.dropped.get_or_create(&ReasonLabel { reason: reason.as_str().into() }).inc_by(count);
    }

    /// How many were lost for a reason, not counting the traffic threads' own.
    pub fn dropped_so_far(&self, reason: Drop) -> u64 {
        self.dropped.get_or_create(&ReasonLabel { reason: reason.as_str().into() }).get()
    }

    /// Everything lost so far, by reason.
    pub fn losses(&self) -> Vec<(&'static str, u64)> {
        let blocks = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        let full = blocks.iter().map(|b| b.queue_full.load(Relaxed)).sum();
        let mut losses = vec![(Drop::QueueFull.as_str(), full)];
        for reason in [Drop::Panic, Drop::Batch, Drop::Hint, Drop::SpoolFull, Drop::Refused, Drop::StoreFull] {
            losses.push((reason.as_str(), self.dropped_so_far(reason)));
        }
        losses
    }

    /// Counts logins of several steps that ended: `finished`, `abandoned`, `evicted`.
    pub fn flows_ended(&self, result: &'static str, count: u64) {
        self.flows_ended.get_or_create(&ResultLabel { result: result.into() }).inc_by(count);
    }

    /// Counts what became of an event that waited: `decided`, `undecided` (the next request did not
    /// decide it), `timeout`, `no_room`, `repeated` (the same form sent twice: one event).
    pub fn follow_up(&self, result: &'static str) {
        self.follow_ups.get_or_create(&ResultLabel { result: result.into() }).inc();
    }

    /// The counter of spans with this fate: `exported`, `refused` (the collector will never take
    /// them), `lost` (it was away too long), `queue_full` (requests, each with its spans).
    pub fn trace_spans(&self, result: &'static str) -> Counter {
        self.trace_spans.get_or_create(&ResultLabel { result: result.into() }).clone()
    }

    /// Counts sessions that other replicas were asked for: `found`, `absent`, `failed` (no answer in
    /// time), `skipped` (not asked, as there is no connection or were no answers lately).
    pub fn share_lookup(&self, result: &'static str, count: u64) {
        if count > 0 {
            self.share_lookups.get_or_create(&ResultLabel { result: result.into() }).inc_by(count);
        }
    }

    /// Counts changes of sessions told to other replicas: `written`, `refused` by Redis, `dropped` (no
    /// room to wait in, or the program ended).
    pub fn share_write(&self, result: &'static str, count: u64) {
        if count > 0 {
            self.share_writes.get_or_create(&ResultLabel { result: result.into() }).inc_by(count);
        }
    }

    /// Counts a reload.
    pub fn reload(&self, good: bool) {
        let result = if good { "applied" } else { "refused" };
        self.reloads.get_or_create(&ResultLabel { result: result.into() }).inc();
        self.config_current.set(i64::from(good));
    }

    /// Counts what a sink did with events: `delivered`, `retried`, `refused`, `skipped`.
    pub fn sink(&self, sink: &str, result: &'static str, count: u64) {
        let labels = SinkResult { sink: sink.into(), result: result.into() };
        self.sink_events.get_or_create(&labels).inc_by(count);
    }

    /// States what waits for a sink: events, bytes of their lines, and how long the oldest has waited.
    pub fn sink_lag(&self, sink: &str, events: u64, bytes: u64, age: Duration) {
        let label = SinkLabel { sink: sink.into() };
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.sink_lag.get_or_create(&label).set(number(events));
        self.sink_lag_bytes.get_or_create(&label).set(number(bytes));
        self.sink_lag_seconds.get_or_create(&label).set(number(age.as_secs()));
    }

    /// All metrics in the OpenMetrics text format, which Prometheus reads.
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut out, &self.registry);
        out
    }
}

/// Adds the traffic threads' blocks up at each scrape.
#[derive(Debug)]
struct TrafficCollector(Arc<Mutex<Vec<Arc<Traffic>>>>);

impl Collector for TrafficCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sum = |of: &dyn Fn(&Traffic) -> u64| blocks.iter().map(|b| of(b)).sum::<u64>();
        let level = |of: &dyn Fn(&Traffic) -> i64| blocks.iter().map(|b| of(b)).sum::<i64>();

        let requests = ConstCounter::new(0u64);
        let mut family = encoder.encode_descriptor(
            "http_requests",
            "requests answered, by class of status",
            None,
            requests.metric_type(),
        )?;
        for (class, name) in ["other", "1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().enumerate() {
            let count = ConstCounter::new(sum(&|b| b.status[class].load(Relaxed)));
            count.encode(family.encode_family(&[("status", name)])?)?;
        }

        let mut buckets = Vec::with_capacity(LATENCY_BOUNDS_US.len() + 1);
        for (i, bound) in LATENCY_BOUNDS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]).enumerate() {
            buckets.push((bound, sum(&|b| b.latency[i].load(Relaxed))));
        }
        let count = buckets.iter().map(|(_, n)| n).sum::<u64>();
        let total_us = sum(&|b| b.latency_sum_us.load(Relaxed));
        let mut histogram = encoder.encode_descriptor(
            "http_request_duration",
            "from the request's head to the answer's head",
            Some(&Unit::Seconds),
            prometheus_client::metrics::MetricType::Histogram,
        )?;
        histogram.encode_histogram::<[(&str, &str); 0]>(total_us as f64 / 1e6, count, &buckets, None)?;

        let mut family = encoder.encode_descriptor(
            "upstream_errors",
            "failures of the application, by kind",
            None,
            requests.metric_type(),
        )?;
        for error in UpstreamError::ALL {
            let count = ConstCounter::new(sum(&|b| b.upstream_errors[error as usize].load(Relaxed)));
            count.encode(family.encode_family(&[("reason", error.as_str())])?)?;
        }

        for (name, help, value) in [
            ("connections_accepted", "connections accepted", sum(&|b| b.accepted.load(Relaxed))),
            ("exchanges_captured", "exchanges handed to the pipeline", sum(&|b| b.captured.load(Relaxed))),
            ("exchanges_dropped", "exchanges lost because the queue was full", sum(&|b| b.queue_full.load(Relaxed))),
            (
                "answers_let_go",
                "answers held for the disk (durability: sync) and let go after a second",
                sum(&|b| b.let_go.load(Relaxed)),
            ),
            (
                "connections_refused",
                "connections closed because a limit was reached",
                sum(&|b| b.connections_refused.load(Relaxed)),
            ),
            (
                "upstream_ejections",
                "how often an address of the application was put out for a while",
                sum(&|b| b.ejections.load(Relaxed)),
            ),
            ("requests_refused", "requests refused by a limit or unreadable", sum(&|b| b.refused.load(Relaxed))),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        for (name, help, value) in [
            ("connections_open", "connections open now", level(&|b| b.open.load(Relaxed))),
            ("tunnels_open", "upgraded tunnels (WebSocket) open now", level(&|b| b.tunnels.load(Relaxed))),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// Says where a panic happened, and never with what words: they may quote a stranger's bytes.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, thread = std::thread::current().name(), "a panic was caught or ends its thread");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latency_histogram_ends_with_the_bucket_that_prometheus_needs() {
        let metrics = Metrics::new();
        metrics.add_traffic().request(200, Duration::from_secs(60));
        let text = metrics.render();
        assert!(text.contains("authtap_http_request_duration_seconds_bucket{le=\"30.0\"} 0\n"), "{text}");
        assert!(text.contains("authtap_http_request_duration_seconds_bucket{le=\"+Inf\"} 1\n"), "{text}");
    }
}
