//! Spans: what a trace is told of one request, made on the traffic threads.
//!
//! Whether a request is recorded is decided once, at its head: by its `traceparent`, if that is
//! believed and valid, else by chance. What is not recorded costs that decision and allocates
//! nothing. What is recorded is handed over when its answer has ended, through a bounded queue that
//! is never waited for. A span carries no query, no header but the request's id, and no segment of a
//! path that looks like a token.
//!
//! The invariant: every span that was begun is handed over once, or counted as lost.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderValue, Method, StatusCode, Version};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use super::access_log::shown_path;
use super::request_id;
use super::trace_context::{Context, TRACEPARENT, TRACESTATE};
use super::upstream::Address;
use crate::event::text::Text;
use crate::exchange::Ended;
use crate::headers::Headers;

/// How many spans may wait for the exporter.
pub const QUEUE: usize = 2048;

/// Decides which requests are recorded, and takes their spans. Clones lead to the same queue.
#[derive(Clone, Debug)]
pub struct Tracer {
    queue: mpsc::Sender<Box<Record>>,
    /// What a request's number must be below to be recorded; `None` is every one.
    below: Option<u64>,
    /// Whether a client's `traceparent` decides.
    believes: bool,
    lost: Counter,
}

impl Tracer {
    /// A tracer and where its spans come out. `share` (0 to 1) is what is recorded of requests that
    /// nobody has decided about; with `believes` a valid `traceparent` has. `lost` counts the spans
    /// for which there was no room.
    pub fn new(share: f64, believes: bool, lost: Counter) -> (Tracer, mpsc::Receiver<Box<Record>>) {
        let (queue, spans) = mpsc::channel(QUEUE);
        // Rounded down to what a double can say: never more than was asked for.
        let below = (share < 1.0).then_some((share.max(0.0) * (u64::MAX as f64)) as u64);
        (Tracer { queue, below, believes, lost }, spans)
    }

    /// The beginning of a span, if this request is to be recorded.
    pub fn sample(&self, headers: &Headers) -> Option<Sampled<'_>> {
        let parent = if self.believes { Context::of(headers) } else { None };
        let recorded = match (&parent, self.below) {
            (Some(parent), _) => parent.is_sampled(),
            (None, None) => true,
            (None, Some(0)) => false,
            (None, Some(below)) => request_id::random().first_chunk().is_some_and(|n| u64::from_le_bytes(*n) < below),
        };
        recorded.then_some(Sampled { tracer: self, parent })
    }
}

/// That a request is to be recorded.
#[derive(Debug)]
pub struct Sampled<'t> {
    tracer: &'t Tracer,
    parent: Option<Context>,
}

/// What is known of a request at its head.
#[derive(Debug)]
pub struct Head<'r> {
    /// Who asks.
    pub client: IpAddr,
    /// The method.
    pub method: &'r Method,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host asked for, and its port if one was named.
    pub host: (&'r str, Option<u16>),
    /// The path.
    pub path: &'r str,
    /// What the client speaks.
    pub version: Version,
}

impl Sampled<'_> {
    /// Begins the span now.
    pub fn begin(self, head: &Head<'_>) -> Span {
        let trace = match &self.parent {
            Some(parent) => parent.trace,
            None => {
                let mut trace = [0; 16];
                fill(&mut trace);
                trace
            }
        };
        let record = Record {
            trace,
            span: span_id(),
            parent: self.parent,
            began: SystemTime::now(),
            duration: Duration::ZERO,
            client: head.client,
            method: head.method.clone(),
            scheme: head.scheme,
            host: Text::other(head.host.0),
            port: head.host.1,
            path: shown_path(head.path),
            version: head.version,
            route: None,
            request_id: None,
            status: None,
            call: None,
            error: None,
            ended: Ended::ClientGone,
        };
        Span { tracer: self.tracer.clone(), since: Instant::now(), call: span_id(), record: Some(Box::new(record)) }
    }
}

/// One request, as a trace has it: the span of the request itself, and of the application's part.
#[derive(Clone, Debug)]
pub struct Record {
    /// The trace.
    pub trace: [u8; 16],
    /// The span.
    pub span: [u8; 8],
    /// Whose child it is, if the client named a span.
    pub parent: Option<Context>,
    /// When the head of the request had arrived.
    pub began: SystemTime,
    /// From then to the end of the answer.
    pub duration: Duration,
    /// Who asked.
    pub client: IpAddr,
    /// The method.
    pub method: Method,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host asked for, without the port.
    pub host: Option<Text>,
    /// The port asked for, if one was named.
    pub port: Option<u16>,
    /// The path without its query, what looks like a token masked.
    pub path: Text,
    /// What the client speaks.
    pub version: Version,
    /// The route that is about the request, if that is certain by its head: its id, and the path it
    /// is written for, if it is one path or a template.
    pub route: Option<(Text, Option<Text>)>,
    /// `x-request-id`.
    pub request_id: Option<Text>,
    /// The status that the client saw, if it saw one.
    pub status: Option<StatusCode>,
    /// The application's part, if it was asked.
    pub call: Option<Call>,
    /// Why there was no answer of the application, in one word.
    pub error: Option<&'static str>,
    /// How it ended.
    pub ended: Ended,
}

/// The application's part of a request, to the head of its answer.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its span: what the application is told as its parent.
    pub span: [u8; 8],
    /// How long after the request's beginning it was asked.
    pub after: Duration,
    /// How long it took.
    pub duration: Duration,
    /// Which of its addresses answered, if one did.
    pub server: Option<Address>,
    /// Its status, if it answered.
    pub status: Option<StatusCode>,
    /// Why it did not, in one word.
    pub error: Option<&'static str>,
}

/// A request on its way that is recorded. Whatever its ending, it is handed over once: dropped
/// without [`Span::finish`], as `client_gone`.
#[derive(Debug)]
pub struct Span {
    tracer: Tracer,
    since: Instant,
    /// The id of the application's part, before it is known whether there will be one.
    call: [u8; 8],
    record: Option<Box<Record>>,
}

impl Span {
    /// Tells the application, in `traceparent`, that it is asked by this span. A trace that begins
    /// here takes no `tracestate` along (W3C Trace Context section 4.3).
    pub fn tell(&self, headers: &mut Headers) -> Option<HeaderValue> {
        let record = self.record.as_ref()?;
        let told = Context::recorded(record.trace, self.call, record.parent.as_ref()).header();
        headers.insert(TRACEPARENT, told.clone());
        if record.parent.is_none() {
            headers.remove(TRACESTATE);
        }
        Some(told)
    }

    /// The id of the request.
    pub fn request_id(&mut self, id: &str) {
        self.with(|record| record.request_id = Text::other(id));
    }

    /// The route that is about it, and the path it is written for.
    pub fn route(&mut self, id: Text, path: Option<Text>) {
        self.with(|record| record.route = Some((id, path)));
    }

    /// What came of asking the application at `asked`: a status from one of its addresses, or why not.
    pub fn called(&mut self, asked: Instant, answer: Result<(StatusCode, Option<&Address>), &'static str>) {
        let call = Call {
            span: self.call,
            after: asked.saturating_duration_since(self.since),
            duration: asked.elapsed(),
            server: answer.ok().and_then(|(_, server)| server.cloned()),
            status: answer.ok().map(|(status, _)| status),
            error: answer.err(),
        };
        self.with(|record| record.call = Some(call));
    }

    /// The head of the answer to the client; `error` is why it is our own, if it is.
    pub fn answered(&mut self, status: StatusCode, error: Option<&'static str>) {
        self.with(|record| {
            record.status = Some(status);
            record.error = error;
        });
    }

    /// The end. What comes after it is not recorded.
    pub fn finish(&mut self, ended: Ended) {
        let Some(mut record) = self.record.take() else { return };
        record.ended = ended;
        record.duration = self.since.elapsed();
        if self.tracer.queue.try_send(record).is_err() {
            self.tracer.lost.inc();
        }
    }

    fn with(&mut self, what: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.record {
            what(record);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.finish(Ended::ClientGone);
    }
}

/// A new id; never all zeros (W3C Trace Context section 3.2.2.4).
fn span_id() -> [u8; 8] {
    let mut id = [0; 8];
    fill(&mut id);
    id
}

fn fill(id: &mut [u8]) {
    for part in id.chunks_mut(request_id::ID_BYTES) {
        for (byte, random) in part.iter_mut().zip(request_id::random()) {
            *byte = random;
        }
    }
    if let (true, Some(last)) = (id.iter().all(|b| *b == 0), id.last_mut()) {
        *last = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0";

    fn head() -> Head<'static> {
        Head {
            client: [192, 0, 2, 1].into(),
            method: &Method::GET,
            scheme: "https",
            host: ("app.test", Some(8443)),
            path: "/reset/c0ffee1234567890abcdef?q=secret",
            version: Version::HTTP_11,
        }
    }

    fn with(traceparent: &str) -> Headers {
        let headers = [(TRACEPARENT, traceparent), (TRACESTATE, "a=b")];
        headers.into_iter().map(|(name, value)| (name, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn a_parent_decides_where_it_is_believed_and_chance_where_there_is_none() {
        let sampled = |share, believes, headers: &Headers| {
            Tracer::new(share, believes, Counter::default()).0.sample(headers).is_some()
        };
        let (yes, no, none) = (with(&format!("{PARENT}1")), with(&format!("{PARENT}0")), with("nonsense"));
        for (share, believes, headers, expected) in [
            (0.0, true, &yes, true),
            (1.0, true, &no, false),
            (1.0, false, &no, true),
            (0.0, false, &yes, false),
            (1.0, true, &none, true),
            (0.0, true, &none, false),
        ] {
            assert_eq!(sampled(share, believes, headers), expected, "{share} {believes}");
        }
        let (tracer, _spans) = Tracer::new(0.25, true, Counter::default());
        let taken = (0..20_000).filter(|_| tracer.sample(&none).is_some()).count();
        assert!((4_500..5_500).contains(&taken), "{taken} of 20000 is no quarter");
    }

    #[test]
    fn the_application_is_told_the_span_of_its_own_part() {
        let (tracer, mut spans) = Tracer::new(1.0, true, Counter::default());
        for (parent, kept) in [(format!("{PARENT}1"), true), ("nonsense".to_owned(), false)] {
            let mut headers = with(&parent);
            let mut span = tracer.sample(&headers).unwrap().begin(&head());
            let told = span.tell(&mut headers).unwrap();
            assert_eq!(headers.get(TRACEPARENT).unwrap().as_bytes(), told.as_bytes());
            assert_eq!(headers.contains_key(TRACESTATE), kept, "{parent}");
            span.called(Instant::now(), Ok((StatusCode::OK, None)));
            span.answered(StatusCode::OK, None);
            span.finish(Ended::Complete);
            let record = spans.try_recv().unwrap();
            let told = Context::of(&headers).unwrap();
            assert_eq!((told.trace, Some(told.span)), (record.trace, record.call.as_ref().map(|call| call.span)));
            assert_eq!(record.parent.is_some_and(|parent| parent.trace == record.trace), kept);
            assert_eq!(record.path.as_str(), "/reset/***");
            assert!(told.is_sampled() && record.span != told.span);
        }
    }

    #[test]
    fn a_span_is_handed_over_once_and_counted_where_there_is_no_room() {
        let lost = Counter::default();
        let (tracer, mut spans) = Tracer::new(1.0, true, lost.clone());
        let begin = || tracer.sample(&Headers::new()).unwrap().begin(&head());
        drop(begin());
        assert_eq!(spans.try_recv().unwrap().ended, Ended::ClientGone);
        let mut span = begin();
        span.finish(Ended::Complete);
        drop(span);
        assert_eq!(spans.try_recv().unwrap().ended, Ended::Complete);
        assert!(spans.try_recv().is_err(), "once");
        for _ in 0..QUEUE + 3 {
            drop(begin());
        }
        assert_eq!(lost.get(), 3);
    }
}
