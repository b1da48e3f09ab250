//! Spans of requests through the whole program: what the collector gets, and what the application is
//! told. Only with `--features otlp-traces`.

use authtap::protobuf::{Field, Fields};

use crate::harness::client::ask;
use crate::harness::message::Message;
use crate::harness::origin::{Origin, answer};
use crate::harness::proxy::Proxy;
use crate::harness::{LOGIN, at};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn collector() -> Origin {
    Origin::answering(|_| answer("200 OK", &[], ""))
}

fn before(app: &Origin, collector: &Origin, keys: &str) -> Proxy {
    let traces = format!("traces: {{ url: 'http://{}', compression: off, {keys} }}\n", collector.address);
    Proxy::before(app.address, &format!("{traces}{LOGIN}"))
}

/// A GET of this path with this `traceparent`.
fn get(proxy: &Proxy, path: &str, traceparent: &str) -> Message {
    let header = if traceparent.is_empty() { String::new() } else { format!("traceparent: {traceparent}\r\n") };
    ask(proxy.address, format!("GET {path} HTTP/1.1\r\nHost: a.test\r\ntracestate: a=b\r\n{header}\r\n"))
}

/// One span as the collector got it: trace, id, parent, name, kind and `error.type`.
#[derive(Debug, PartialEq, Eq)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    kind: u64,
    error: String,
}

/// Every span that the collector got, in order.
fn spans(collector: &Origin) -> Vec<Span> {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut all = Vec::new();
    for request in collector.requests() {
        assert_eq!(request.target(), "/v1/traces");
        for (number, field) in Fields(Fields::bytes_of(Fields::bytes_of(&request.body, 1), 2)) {
            let (2, Field::Bytes(span)) = (number, field) else { continue };
            let errors = Fields(span).filter_map(|(number, field)| match field {
                Field::Bytes(one) if number == 9 && Fields::bytes_of(one, 1) == b"error.type" => {
                    Some(String::from_utf8_lossy(Fields::bytes_of(Fields::bytes_of(one, 2), 1)).into_owned())
                }
                _ => None,
            });
            all.push(Span {
                trace: hex(Fields::bytes_of(span, 1)),
                id: hex(Fields::bytes_of(span, 2)),
                parent: hex(Fields::bytes_of(span, 4)),
                name: String::from_utf8_lossy(Fields::bytes_of(span, 5)).into_owned(),
                kind: Fields::number_of(span, 6),
                error: errors.collect(),
            });
        }
    }
    all
}

#[test]
fn the_application_is_told_the_span_of_its_part_if_the_request_is_recorded() {
    let app = Origin::answering(|_| answer("200 OK", &[], "ok"));
    let collector = collector();
    let proxy = before(&app, &collector, "sample: 1");
    let recorded = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let unrecorded = format!("00-{TRACE}-00f067aa0ba902b7-00");
    for traceparent in [recorded.as_str(), unrecorded.as_str(), "nonsense", ""] {
        assert_eq!(get(&proxy, "/", traceparent).status(), 200);
    }
    proxy.stop();
    let spans = spans(&collector);
    let told: Vec<(String, bool)> = app
        .requests()
        .iter()
        .map(|told| (told.field("traceparent").unwrap_or_default(), told.field("tracestate").is_some()))
        .collect();
    let [a, a_call, b, b_call, c, c_call] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!((a.trace.as_str(), a.parent.as_str(), a.kind), (TRACE, "00f067aa0ba902b7", 2));
    assert_eq!((&a_call.trace, &a_call.parent, a_call.kind), (&a.trace, &a.id, 3));
    for begun in [b, c] {
        assert!(begun.parent.is_empty() && begun.trace != TRACE, "a trace of its own");
    }
    let context = |call: &Span| format!("00-{}-{}-01", call.trace, call.id);
    let expected =
        [(context(a_call), true), (unrecorded.clone(), true), (context(b_call), false), (context(c_call), false)];
    assert_eq!(told, expected, "unrecorded: kept as it is; begun here: without the state of another");
    assert!(spans.iter().all(|span| span.error.is_empty()), "{spans:?}");
}

#[test]
fn where_clients_are_not_believed_none_of_them_decides() {
    let app = Origin::answering(|_| answer("200 OK", &[], "ok"));
    let collector = collector();
    let sent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let proxy = before(&app, &collector, "parent: off, sample: 0");
    get(&proxy, "/", &sent);
    proxy.stop();
    assert_eq!(app.requests()[0].field("traceparent"), Some(sent), "nothing was recorded, so nothing is changed");
    assert_eq!(collector.requests().len(), 0);
}

#[test]
fn an_event_names_the_trace_that_began_here_and_the_span_the_route() {
    let app = Origin::answering(|_| answer("302 Found", &["Location: /home", "Set-Cookie: SID=x1"], ""));
    let collector = collector();
    let proxy = before(&app, &collector, "sample: 1");
    let body = "login=alice&password=hunter2hunter2";
    ask(
        proxy.address,
        format!(
            "POST /login?next=s3cret HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    let trace = at(&proxy.await_events(1)[0], "/metadata/request/trace_id").to_owned();
    proxy.stop();
    let spans = spans(&collector);
    assert_eq!((spans[0].trace.as_str(), spans[0].name.as_str()), (trace.as_str(), "POST /login"));
    let sent = String::from_utf8_lossy(&collector.requests()[0].body).into_owned();
    assert!(!sent.contains("s3cret") && !sent.contains("hunter2") && !sent.contains("alice"), "{sent}");
}

#[test]
fn what_gets_no_answer_or_is_refused_is_recorded_too() {
    let app = Origin::raw(|conn| drop(conn.request()));
    let collector = collector();
    let proxy = before(&app, &collector, "sample: 1");
    assert_eq!(get(&proxy, "/", "").status(), 502);
    assert_eq!(ask(proxy.address, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n").status(), 400);
    proxy.stop();
    let told: Vec<(u64, String)> = spans(&collector).into_iter().map(|span| (span.kind, span.error)).collect();
    assert_eq!(told, [(2, "closed".to_owned()), (3, "closed".to_owned()), (2, String::new())]);
}

#[test]
fn a_collector_that_hangs_holds_up_no_request() {
    let app = Origin::answering(|_| answer("200 OK", &[], "ok"));
    // Takes what is sent, and never answers.
    let collector = Origin::raw(|conn| while conn.request().is_some() {});
    let proxy = before(&app, &collector, "sample: 1, interval: 0");
    get(&proxy, "/", "");
    collector.await_heads(1);
    for _ in 0..50 {
        assert_eq!(get(&proxy, "/", "").status(), 200);
    }
}
