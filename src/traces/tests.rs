// Behind a feature clippy does not see that this is a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use http::{Method, StatusCode, Version};

use super::*;
use crate::event::text::Text;
use crate::exchange::Ended;
use crate::headers::Headers;
use crate::ports::nobody;
use crate::protobuf::{Field, Fields};
use crate::proxy::spans::{Head, Span};
use crate::proxy::trace_context::TRACEPARENT;
use crate::proxy::upstream::Address;
use crate::sinks::http::receiver::{Receiver, Says, says};
use crate::sinks::http::services::Python;
use crate::sinks::net::service::wanted;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn plan(yaml: &str) -> TracesPlan {
    let mut problems = Problems::new("routes.yaml", yaml);
    let node = Node::parse(yaml, &mut problems).expect("parses");
    let plan = TracesPlan::check(Some(&node), &mut problems);
    assert!(problems.is_empty(), "{problems}");
    plan.expect("a plan")
}

fn problems(yaml: &str) -> String {
    let mut problems = Problems::new("routes.yaml", yaml);
    let node = Node::parse(yaml, &mut problems).expect("parses");
    assert!(TracesPlan::check(Some(&node), &mut problems).is_none(), "{yaml}");
    problems.to_string()
}

fn started(yaml: &str, metrics: &Metrics) -> (Tracer, Running) {
    plan(yaml).start(Path::new("."), metrics).unwrap()
}

fn begin(tracer: &Tracer, traceparent: Option<&'static str>) -> Span {
    let headers: Headers = traceparent.into_iter().map(|value| (TRACEPARENT, value)).collect();
    let head = Head {
        client: Ipv4Addr::new(203, 0, 113, 42).into(),
        method: &Method::POST,
        scheme: "https",
        host: ("app.test", None),
        path: "/users/7/role?token=s3cret",
        version: Version::HTTP_2,
    };
    tracer.sample(&headers).expect("recorded").begin(&head)
}

/// A request that went well, or as `ended` says.
fn request(tracer: &Tracer, traceparent: Option<&'static str>, status: u16, ended: Ended) {
    let status = StatusCode::from_u16(status).unwrap();
    let mut span = begin(tracer, traceparent);
    span.request_id("r-1");
    span.route(Text::fixed("role"), Some(Text::fixed("/users/{id}/role")));
    let server = Address::parse("http://127.0.0.1:8000").unwrap();
    span.called(std::time::Instant::now(), Ok((status, Some(&server))));
    span.answered(status, None);
    span.finish(ended);
}

/// The spans of an export request, each as its fields by number.
fn spans(body: &[u8]) -> Vec<Vec<(u64, Field<'_>)>> {
    let scope = Fields::bytes_of(Fields::bytes_of(body, 1), 2);
    let spans = Fields(scope).filter_map(|(number, field)| match field {
        Field::Bytes(span) if number == 2 => Some(Fields(span).collect()),
        _ => None,
    });
    spans.collect()
}

fn bytes_of<'b>(span: &[(u64, Field<'b>)], number: u64) -> &'b [u8] {
    let found = span.iter().find_map(|(n, field)| match field {
        Field::Bytes(bytes) if *n == number => Some(*bytes),
        _ => None,
    });
    found.unwrap_or_default()
}

fn attributes(span: &[(u64, Field<'_>)]) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let all = span.iter().filter_map(|(number, field)| match field {
        Field::Bytes(one) if *number == 9 => {
            let value = Fields::bytes_of(one, 2);
            let shown = match Fields::bytes_of(value, 1) {
                b"" => Fields::number_of(value, 3).to_string(),
                written => text(written),
            };
            Some((text(Fields::bytes_of(one, 1)), shown))
        }
        _ => None,
    });
    all.collect()
}

/// What became of spans so far.
fn counted(metrics: &Metrics) -> [u64; 4] {
    ["exported", "refused", "lost", "queue_full"].map(|result| metrics.trace_spans(result).get())
}

#[tokio::test]
async fn a_request_is_a_span_of_the_server_and_one_of_the_call_under_its_parent() {
    let metrics = Metrics::new();
    let receiver = Receiver::start(|_, _| says(200, "")).await;
    let yaml = format!("{{ url: '{}', resource: {{ service.name: shop }} }}", receiver.url());
    let (tracer, running) = started(&yaml, &metrics);
    request(&tracer, Some(PARENT), 302, Ended::Complete);
    request(&tracer, None, 503, Ended::ClientGone);
    running.end().await;
    assert_eq!(counted(&metrics), [4, 0, 0, 0]);

    let got = &receiver.got()[0];
    assert_eq!((got.target.as_str(), got.header("content-type")), ("/v1/traces", Some("application/x-protobuf")));
    assert!(!String::from_utf8_lossy(&got.bytes).contains("s3cret"), "no query");
    let resource = Fields::bytes_of(Fields::bytes_of(&got.bytes, 1), 1);
    let name = Fields::bytes_of(resource, 1);
    assert_eq!(
        (Fields::bytes_of(name, 1), Fields::bytes_of(Fields::bytes_of(name, 2), 1)),
        (&b"service.name"[..], &b"shop"[..])
    );
    let all = spans(&got.bytes);
    let [server, client, failed, failed_call] = all.as_slice() else { panic!("{} spans", all.len()) };

    assert_eq!(
        bytes_of(server, 1),
        u128::from_str_radix("4bf92f3577b34da6a3ce929d0e0e4736", 16).unwrap().to_be_bytes()
    );
    assert_eq!(bytes_of(server, 4), 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes(), "the client's span is its parent");
    assert_eq!(bytes_of(server, 5), b"POST /users/{id}/role");
    assert!(server.contains(&(6, Field::Number(2))) && client.contains(&(6, Field::Number(3))));
    assert_eq!(bytes_of(server, 16), 0x301_u32.to_le_bytes(), "sampled, and the parent is elsewhere");
    assert_eq!((bytes_of(client, 1), bytes_of(client, 4)), (bytes_of(server, 1), bytes_of(server, 2)));
    let expected = [
        ("authtap.request.id", "r-1"),
        ("authtap.route", "role"),
        ("client.address", "203.0.113.42"),
        ("http.request.method", "POST"),
        ("http.response.status_code", "302"),
        ("http.route", "/users/{id}/role"),
        ("network.protocol.version", "2"),
        ("server.address", "app.test"),
        ("url.path", "/users/7/role"),
        ("url.scheme", "https"),
    ];
    assert_eq!(attributes(server), expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    let expected = [
        ("http.request.method", "POST"),
        ("http.response.status_code", "302"),
        ("server.address", "127.0.0.1"),
        ("server.port", "8000"),
        ("url.full", "http://127.0.0.1:8000/users/7/role"),
    ];
    assert_eq!(attributes(client), expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());

    assert!(bytes_of(failed, 4).is_empty(), "a trace of its own");
    for span in [failed, failed_call] {
        assert_eq!(attributes(span)["error.type"], "503");
        assert_eq!(Fields::number_of(bytes_of(span, 15), 3), 2, "failed");
    }
}

#[tokio::test]
async fn how_a_request_ended_is_told_in_one_word() {
    let metrics = Metrics::new();
    let receiver = Receiver::start(|_, _| says(200, "")).await;
    let (tracer, running) = started(&format!("{{ url: '{}' }}", receiver.url()), &metrics);
    for ended in [Ended::Complete, Ended::ClientGone, Ended::RequestCut, Ended::UpstreamFailed] {
        request(&tracer, None, 200, ended);
    }
    let mut span = begin(&tracer, None);
    span.called(std::time::Instant::now(), Err("timeout"));
    span.answered(StatusCode::GATEWAY_TIMEOUT, Some("timeout"));
    span.finish(Ended::UpstreamFailed);
    running.end().await;
    let got = receiver.got();
    let all = spans(&got[0].bytes);
    let told = all.iter().map(|span| {
        (attributes(span).remove("error.type").unwrap_or_default(), Fields::number_of(bytes_of(span, 15), 3) == 2)
    });
    let expected = [
        ("", false),
        ("", false),
        ("client_gone", false),
        ("", false),
        ("request_cut", false),
        ("", false),
        ("upstream_failed", true),
        ("", false),
        ("timeout", true),
        ("timeout", true),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected.map(|(word, failed)| (word.to_owned(), failed)));
}

#[tokio::test]
async fn what_the_collector_cannot_take_now_is_tried_again_and_the_rest_given_up_and_counted() {
    let metrics = Metrics::new();
    // Two spans a request. One rejected: field 1 of the answer, and of it field 1.
    let receiver = Receiver::start(|_, turn| match turn {
        1 => Says { headers: vec![("retry-after", "0".into())], ..says(503, "") },
        2 => says(200, "\u{a}\u{2}\u{8}\u{1}"),
        3 => says(400, "the span of alice"),
        _ => says(200, ""),
    })
    .await;
    let (tracer, running) = started(&format!("{{ url: '{}', interval: 1ms }}", receiver.url()), &metrics);
    for turns in [2, 3, 4] {
        request(&tracer, None, 200, Ended::Complete);
        let arrived = async {
            while receiver.got().len() < turns {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), arrived).await.expect("the collector is asked");
    }
    running.end().await;
    assert_eq!(counted(&metrics), [1 + 2, 1 + 2, 0, 0]);
    assert_eq!(receiver.got()[0].bytes, receiver.got()[1].bytes, "the same spans");
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_collector_that_is_away() {
    let metrics = Metrics::new();
    let (tracer, mut running) = started(&format!("{{ url: 'http://{}' }}", nobody()), &metrics);
    request(&tracer, None, 200, Ended::Complete);
    assert!(!running.has_ended());
    running.end().await;
    assert_eq!(counted(&metrics), [0, 0, 2, 0]);
    request(&tracer, None, 200, Ended::Complete);
    assert_eq!(counted(&metrics), [0, 0, 2, 1], "nobody takes it any more");
}

#[tokio::test]
async fn an_exporter_without_tracers_ends_by_itself_after_its_last_span() {
    let metrics = Metrics::new();
    let receiver = Receiver::start(|_, _| says(200, "")).await;
    let (tracer, mut running) = started(&format!("{{ url: '{}', interval: 60s }}", receiver.url()), &metrics);
    let mut span = begin(&tracer, None);
    drop(tracer);
    span.answered(StatusCode::OK, None);
    drop(span);
    (&mut running.ended).await.unwrap_err();
    assert_eq!(counted(&metrics), [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_probe_says_what_the_collector_says() {
    for (status, good) in [(200, true), (401, false), (404, false)] {
        let receiver = Receiver::start(move |_, _| says(status, "")).await;
        let plan = plan(&format!("{{ url: '{}/in' }}", receiver.url()));
        assert_eq!(plan.probe(Path::new(".")).await.is_ok(), good, "{status}");
        assert_eq!(receiver.got()[0].target, "/in", "a path of one's own is kept");
    }
}

#[tokio::test]
async fn the_official_messages_of_opentelemetry_read_the_spans() {
    if !wanted() {
        return;
    }
    let mut collector = Python::start("otlp.py");
    let metrics = Metrics::new();
    let (tracer, running) = started(&format!("{{ url: 'http://127.0.0.1:{}' }}", collector.port), &metrics);
    request(&tracer, Some(PARENT), 502, Ended::Complete);
    running.end().await;
    let (server, client) = (collector.line(), collector.line());
    // Bytes are base64 in the JSON of protobuf.
    assert_eq!(server["traceId"], "S/kvNXezTaajzpKdDg5HNg==");
    assert_eq!(server["parentSpanId"], "APBnqgupArc=");
    assert_eq!((&server["name"], &server["kind"]), (&"POST /users/{id}/role".into(), &"SPAN_KIND_SERVER".into()));
    assert_eq!((&client["name"], &client["kind"]), (&"POST".into(), &"SPAN_KIND_CLIENT".into()));
    assert_eq!((&client["traceId"], &client["parentSpanId"]), (&server["traceId"], &server["spanId"]));
    assert_eq!((&server["flags"], &client["flags"]), (&0x301.into(), &0x101.into()));
    for span in [&server, &client] {
        let time = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
        assert!(
            time("endTimeUnixNano") >= time("startTimeUnixNano")
                && time("startTimeUnixNano") > 1_700_000_000_000_000_000
        );
        assert_eq!(span["status"]["code"], "STATUS_CODE_ERROR");
        let attributes = span["attributes"].as_array().unwrap();
        let value =
            |key: &str| attributes.iter().find(|a| a["key"] == key).map(|a| a["value"].clone()).unwrap_or_default();
        assert_eq!(value("http.response.status_code"), serde_json::json!({"intValue": "502"}));
        assert_eq!(value("error.type"), serde_json::json!({"stringValue": "502"}));
    }
    assert_eq!(counted(&metrics), [2, 0, 0, 0]);
}

#[test]
fn settings_that_cannot_be_are_told() {
    for (yaml, expected) in [
        ("{}", "`url` is missing"),
        ("{ url: 'ftp://a.test' }", "begins with https:// or http://"),
        ("{ url: 'http://a.test', sample: 2 }", "`sample` cannot be"),
        ("{ url: 'http://a.test', sample: most }", "`sample` cannot be"),
        ("{ url: 'http://a.test', interval: 2m }", "`interval` cannot be"),
        ("{ url: 'http://a.test', headers: { authorization: x } }", "carries a secret"),
    ] {
        let told = problems(yaml);
        assert!(told.contains(expected), "{yaml}: {told}");
    }
    let shown = plan("{ url: 'http://a.test/x?key=hunter2', sample: 0.5, parent: off }").shown().to_string();
    assert_eq!(shown, r#"{"parent":false,"sample":0.5,"url":"http://a.test/x"}"#);
}
