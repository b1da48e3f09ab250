//! Spans in protobuf: `ExportTraceServiceRequest` of opentelemetry-proto 1.x (`trace.proto`), with
//! the names of the semantic conventions for HTTP (opentelemetry.io/docs/specs/semconv/http).
//!
//! A test has the official messages read what is written. It must never write a query or anything
//! else that a [`Record`] does not hold.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode, Version};

use crate::event::text::Text;
use crate::exchange::Ended;
use crate::protobuf::{bytes, fixed32, fixed64, message, number};
use crate::proxy::spans::{Call, Record};
use crate::proxy::trace_context::Context;
use crate::proxy::upstream::Address;
use crate::sinks::otlp::resource::Resource;

/// `SpanKind`.
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
/// `Status.code` of what failed.
const FAILED: u64 = 2;
/// `SpanFlags`: it is known whether the parent is of another process, and that it is.
const PARENT_KNOWN: u32 = 0x100;
const PARENT_ELSEWHERE: u32 = 0x200;

/// An export request with the spans of these requests.
pub(super) fn encode(resource: &Resource, records: &[Box<Record>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(records.len() * 600);
    if records.is_empty() {
        return out;
    }
    message(&mut out, 1, |out| {
        message(out, 1, |out| {
            for (key, value) in &resource.0 {
                attribute(out, 1, key, Value::Text(value));
            }
        });
        message(out, 2, |out| {
            message(out, 1, |out| {
                bytes(out, 1, b"authtap");
                bytes(out, 2, env!("CARGO_PKG_VERSION").as_bytes());
            });
            for record in records {
                message(out, 2, |out| server(out, record));
                if let Some(call) = &record.call {
                    message(out, 2, |out| client(out, record, call));
                }
            }
        });
    });
    out
}

/// How many spans a request becomes.
pub(super) fn spans_of(record: &Record) -> u64 {
    1 + u64::from(record.call.is_some())
}

/// The span of the request itself.
fn server(out: &mut Vec<u8>, record: &Record) {
    let method = method(&record.method);
    let route = record.route.as_ref().and_then(|(_, path)| path.as_ref());
    let name = match (method, route) {
        ("_OTHER", None) => "HTTP".to_owned(),
        ("_OTHER", Some(route)) => format!("HTTP {}", route.as_str()),
        (method, Some(route)) => format!("{method} {}", route.as_str()),
        (method, None) => method.to_owned(),
    };
    let flags = match &record.parent {
        Some(parent) => u32::from(parent.flags()) | PARENT_KNOWN | PARENT_ELSEWHERE,
        None => u32::from(flags(record)),
    };
    let ids = Ids { trace: &record.trace, span: &record.span, parent: record.parent.as_ref().map(|p| &p.span) };
    let failure = match (record.error, record.status, record.ended) {
        (Some(word), ..) => Some((Text::fixed(word), true)),
        (None, Some(status), _) if status.is_server_error() => Some((number_of(status), true)),
        (None, _, Ended::UpstreamFailed) => Some((Text::fixed("upstream_failed"), true)),
        (None, _, Ended::RequestCut) => Some((Text::fixed("request_cut"), false)),
        (None, _, Ended::ClientGone) => Some((Text::fixed("client_gone"), false)),
        (None, _, Ended::Complete) => None,
    };
    span(out, &ids, &name, SERVER, (record.began, record.duration), flags, failure, |out| {
        attribute(out, 9, "http.request.method", Value::Text(method));
        attribute(out, 9, "url.scheme", Value::Text(record.scheme));
        attribute(out, 9, "url.path", Value::Text(record.path.as_str()));
        attribute(out, 9, "client.address", Value::Text(&record.client.to_string()));
        attribute(out, 9, "network.protocol.version", Value::Text(version(record.version)));
        if let Some(host) = &record.host {
            attribute(out, 9, "server.address", Value::Text(host.as_str()));
        }
        if let Some(port) = record.port {
            attribute(out, 9, "server.port", Value::Number(port.into()));
        }
        if let Some(status) = record.status {
            attribute(out, 9, "http.response.status_code", Value::Number(status.as_u16().into()));
        }
        if let Some(route) = route {
            attribute(out, 9, "http.route", Value::Text(route.as_str()));
        }
        if let Some((id, _)) = &record.route {
            attribute(out, 9, "authtap.route", Value::Text(id.as_str()));
        }
        if let Some(id) = &record.request_id {
            attribute(out, 9, "authtap.request.id", Value::Text(id.as_str()));
        }
    });
}

/// The span of the application's part.
fn client(out: &mut Vec<u8>, record: &Record, call: &Call) {
    let method = method(&record.method);
    let name = if method == "_OTHER" { "HTTP" } else { method };
    let ids = Ids { trace: &record.trace, span: &call.span, parent: Some(&record.span) };
    let failure = match (call.error, call.status) {
        (Some(word), _) => Some((Text::fixed(word), true)),
        (None, Some(status)) if status.is_client_error() || status.is_server_error() => Some((number_of(status), true)),
        _ => None,
    };
    let when = (record.began + call.after, call.duration);
    span(out, &ids, name, CLIENT, when, u32::from(flags(record)) | PARENT_KNOWN, failure, |out| {
        attribute(out, 9, "http.request.method", Value::Text(method));
        if let Some(server) = &call.server {
            let (scheme, host, port) = match server {
                Address::Tcp(host, port) => ("http", host.clone(), Some(*port)),
                Address::Tls(host, port) => ("https", host.clone(), Some(*port)),
                Address::Unix(path) => ("http", path.display().to_string(), None),
            };
            let authority = server.host_header();
            let full = format!("{scheme}://{}{}", authority.to_str().unwrap_or_default(), record.path.as_str());
            attribute(out, 9, "url.full", Value::Text(&full));
            attribute(out, 9, "server.address", Value::Text(&host));
            if let Some(port) = port {
                attribute(out, 9, "server.port", Value::Number(port.into()));
            }
        }
        if let Some(status) = call.status {
            attribute(out, 9, "http.response.status_code", Value::Number(status.as_u16().into()));
        }
    });
}

struct Ids<'r> {
    trace: &'r [u8; 16],
    span: &'r [u8; 8],
    parent: Option<&'r [u8; 8]>,
}

/// A span. `failure` is `error.type`, and whether the span itself failed by it.
#[allow(clippy::too_many_arguments, reason = "the fields of one message, in its order")]
fn span(
    out: &mut Vec<u8>,
    ids: &Ids<'_>,
    name: &str,
    kind: u64,
    (began, duration): (SystemTime, Duration),
    flags: u32,
    failure: Option<(Text, bool)>,
    attributes: impl FnOnce(&mut Vec<u8>),
) {
    let began = began.duration_since(UNIX_EPOCH).unwrap_or_default();
    bytes(out, 1, ids.trace);
    bytes(out, 2, ids.span);
    if let Some(parent) = ids.parent {
        bytes(out, 4, parent);
    }
    bytes(out, 5, name.as_bytes());
    number(out, 6, kind);
    fixed64(out, 7, nanos(began));
    fixed64(out, 8, nanos(began.saturating_add(duration)));
    attributes(out);
    if let Some((word, failed)) = failure {
        attribute(out, 9, "error.type", Value::Text(word.as_str()));
        if failed {
            message(out, 15, |out| number(out, 3, FAILED));
        }
    }
    fixed32(out, 16, flags);
}

/// The flags of the trace, as the application was told them.
fn flags(record: &Record) -> u8 {
    Context::recorded(record.trace, record.span, record.parent.as_ref()).flags()
}

fn nanos(since: Duration) -> u64 {
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The method, if it is one that is known: others are a stranger's words.
fn method(method: &Method) -> &'static str {
    const KNOWN: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"];
    KNOWN.iter().find(|known| *known == &method.as_str()).copied().unwrap_or("_OTHER")
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

fn number_of(status: StatusCode) -> Text {
    Text::other(status.as_str()).unwrap_or(Text::fixed("500"))
}

enum Value<'v> {
    Text(&'v str),
    Number(u64),
}

/// A `KeyValue`.
fn attribute(out: &mut Vec<u8>, field: u64, key: &str, value: Value<'_>) {
    message(out, field, |out| {
        bytes(out, 1, key.as_bytes());
        message(out, 2, |out| match value {
            Value::Text(text) => bytes(out, 1, text.as_bytes()),
            Value::Number(whole) => number(out, 3, whole),
        });
    });
}
