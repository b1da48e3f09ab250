//! OpenTelemetry logs: OTLP over HTTP in JSON or protobuf, or over gRPC in a build with the feature
//! `otlp-grpc` (opentelemetry-proto 1.x, `ExportLogsServiceRequest`).
//!
//! In JSON, 64-bit numbers are texts and ids are hexadecimal. Attributes have the names of the
//! semantic conventions where there is one, and `authtap.…` otherwise. A collector that rejects some
//! records of a request does not say which, so the request is halved until they are known; what it
//! had taken is then there twice, under the same `authtap.id`.

use serde_json::{Value, json};

use self::resource::Resource;
use super::http::answer::Answer;
use super::http::client::{Client, Outgoing};
#[cfg(feature = "otlp-grpc")]
use super::http::grpc::{Grpc, meaning};
use super::http::parts::{Courier, Ledger, Limits};
use super::http::{self as shared, Compressions, HttpPlan, Usual};
use super::lanes::CONCURRENCY;
use super::{BoxFuture, BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan, Verdict};
use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind, joined};
use crate::event::{Outcome, Timestamp};
use crate::format::tree::Tree;
use crate::spool::Stored;

pub(crate) mod protobuf;
pub mod resource;
#[cfg(test)]
mod tests;

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "otlp",
    doc: "OpenTelemetry logs, OTLP over HTTP in JSON or protobuf, or over gRPC",
    fields: FIELDS,
    formats: Formats::Own,
    check,
};

const FIELDS: &[Field] = joined!(OWN, shared::TOKEN, &shared::fields(&USUAL), &[CONCURRENCY]);

const USUAL: Usual = Usual { path: "/v1/logs", compressions: Compressions::GZIP_OR_ZSTD, ..Usual::BEARER };

const OWN: &[Field] = &[
    Field::required("url", Kind::Str, "https://HOST:4318, or for gRPC https://HOST:4317"),
    Field::new(
        "protocol",
        Kind::Word(PROTOCOLS),
        "http",
        "what the collector is spoken to by; grpc needs the feature `otlp-grpc`",
    ),
    resource::FIELD,
    Field::new("encoding", Kind::Word(ENCODINGS), "json", "of requests; protobuf is smaller, JSON can be read"),
];

const PROTOCOLS: &[&str] = &["http", "grpc"];
const ENCODINGS: &[&str] = &["json", "protobuf"];
/// The method of gRPC.
#[cfg(feature = "otlp-grpc")]
const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// Where a value stands in an event, and its name in the semantic conventions or of our own.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("/actor/id", "user.id"),
    ("/actor/login", "user.name"),
    ("/actor/email", "user.email"),
    ("/metadata/ip_address", "client.address"),
    ("/metadata/user_agent", "user_agent.original"),
    ("/metadata/client/browser", "user_agent.name"),
    ("/metadata/client/os", "user_agent.os.name"),
    ("/metadata/geo/country", "geo.country.iso_code"),
    ("/metadata/geo/city", "geo.locality.name"),
    ("/metadata/request/method", "http.request.method"),
    ("/metadata/request/status", "http.response.status_code"),
    ("/metadata/request/path", "url.path"),
    ("/metadata/request/host", "server.address"),
    ("/metadata/session_id", "session.id"),
    ("/metadata/tls/version", "tls.protocol.version"),
    ("/outcome", "authtap.outcome"),
    ("/reason", "authtap.reason"),
    ("/actor/type", "authtap.actor.type"),
    ("/target/type", "authtap.target.type"),
    ("/target/id", "authtap.target.id"),
    ("/target/email", "authtap.target.email"),
    ("/organization/id", "authtap.organization.id"),
    ("/metadata/method", "authtap.method"),
    ("/metadata/provider", "authtap.provider"),
    ("/metadata/geo/region", "authtap.geo.region"),
    ("/metadata/network/asn", "authtap.network.asn"),
    ("/metadata/network/organization", "authtap.network.organization"),
    ("/metadata/client/device", "authtap.device"),
    ("/metadata/client/bot", "authtap.bot"),
    ("/metadata/tls/ja4", "authtap.ja4"),
    ("/metadata/request/id", "authtap.request.id"),
    ("/metadata/request/duration_ms", "authtap.request.duration_ms"),
    ("/source/route", "authtap.route"),
    ("/source/rule", "authtap.rule"),
    ("/source/mode", "authtap.mode"),
    ("/source/confidence", "authtap.confidence"),
];

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let grpc = map.one_of("protocol", PROTOCOLS, problems) == Some("grpc");
    let http = match grpc {
        true => check_grpc(map, problems),
        false => HttpPlan::check(map, &USUAL, problems),
    };
    let protobuf = map.one_of("encoding", ENCODINGS, problems) == Some("protobuf");
    let resource = Resource::check(map.get("resource"), problems);
    Some(Box::new(Plan { http: http?, grpc, resource: resource?, protobuf }))
}

fn check_grpc(map: &Map<'_>, problems: &mut Problems) -> Option<HttpPlan> {
    if let Some(at) = map.get("protocol").filter(|_| !cfg!(feature = "otlp-grpc")) {
        let hint = "build it with `cargo build --release --features otlp-grpc`, or write `protocol: http`";
        problems.error_hint(at, "this build of authtap has no gRPC: it lacks the feature `otlp-grpc`".into(), hint);
    }
    if let Some(at) = map.get("encoding").filter(|at| at.scalar() == Some("json")) {
        problems.error_hint(at, "gRPC carries protobuf and no JSON".into(), "leave `encoding` out");
    }
    let plan = HttpPlan::check(map, &Usual { path: "/", ..USUAL }, problems)?;
    if let Some(at) = map.get("url").filter(|_| plan.url().target() != "/") {
        problems.error_blotted(at, "over gRPC a URL has no path".into(), "write https://HOST:4317");
        return None;
    }
    Some(plan)
}

#[derive(Debug)]
struct Plan {
    http: HttpPlan,
    grpc: bool,
    resource: Resource,
    protobuf: bool,
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        let resource =
            self.resource.0.iter().map(|(key, value)| attribute(key, &Value::from(value.as_str()))).collect();
        Ok(Box::new(Otlp {
            way: Way::of(self.http.build(cx)?, self.grpc),
            limits: cx.batch.sent(shared::USUAL_LIMITS),
            resource,
            protobuf: self.protobuf,
            ledger: Ledger::default(),
        }))
    }
}

/// How the collector is spoken to.
enum Way {
    Http(Client),
    #[cfg(feature = "otlp-grpc")]
    Grpc(Grpc),
}

impl Way {
    /// Without the feature there is one way: `check` has refused the other.
    #[cfg(not(feature = "otlp-grpc"))]
    fn of(client: Client, _grpc: bool) -> Way {
        Way::Http(client)
    }

    #[cfg(feature = "otlp-grpc")]
    fn of(client: Client, grpc: bool) -> Way {
        if grpc { Way::Grpc(Grpc::new(client)) } else { Way::Http(client) }
    }
}

struct Otlp {
    way: Way,
    limits: Limits,
    resource: Value,
    protobuf: bool,
    ledger: Ledger,
}

impl Otlp {
    fn request(&self, records: Vec<Value>) -> Value {
        let scope = json!({ "name": "authtap", "version": env!("CARGO_PKG_VERSION") });
        let resource = json!({ "attributes": self.resource });
        match records.is_empty() {
            true => json!({ "resourceLogs": [] }),
            false => json!({
                "resourceLogs": [{ "resource": resource, "scopeLogs": [{ "scope": scope, "logRecords": records }] }]
            }),
        }
    }

    fn outgoing(&self, request: &Value) -> Outgoing {
        match self.protobuf {
            true => Outgoing::post("application/x-protobuf", protobuf::encode(request)),
            false => Outgoing::post("application/json", request.to_string().into_bytes()),
        }
    }

    /// Brings a request to the collector: the answer, and how many records it rejected of what it took.
    async fn export(&self, request: Value) -> (Answer, u64) {
        match &self.way {
            Way::Http(client) => match client.send(self.outgoing(&request)).await {
                Ok(reply) if reply.status.is_success() && self.protobuf => {
                    (Answer::Taken, protobuf::rejected(&reply.body))
                }
                Ok(reply) if reply.status.is_success() => (Answer::Taken, rejected(&reply.body)),
                Ok(reply) => (Answer::by_status(&reply, &client.place()), 0),
                Err(why) => (Answer::lost(why), 0),
            },
            #[cfg(feature = "otlp-grpc")]
            Way::Grpc(grpc) => match grpc.call(EXPORT, &protobuf::encode(&request)).await {
                Ok(called) => (meaning(&called, &grpc.place()), protobuf::rejected(&called.message)),
                Err(why) => (Answer::lost(why), 0),
            },
        }
    }

    fn place(&self) -> String {
        match &self.way {
            Way::Http(client) => client.place(),
            #[cfg(feature = "otlp-grpc")]
            Way::Grpc(grpc) => grpc.place(),
        }
    }
}

impl Sink for Otlp {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(self.ledger.deliver(self, self.limits, batch))
    }

    /// An export without records, which a collector answers like any other.
    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            match self.export(self.request(Vec::new())).await.0 {
                Answer::Taken | Answer::Items(_) => Ok(()),
                Answer::Refused { why, .. } | Answer::Later { why, .. } => Err(why),
            }
        })
    }
}

impl Courier for Otlp {
    fn carry<'a>(&'a self, part: &'a [Stored]) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            let Some(records) = part.iter().map(record).collect::<Option<Vec<_>>>() else {
                let why = SinkError::Other("an event cannot be read back".into());
                return Answer::Refused { why, divisible: true };
            };
            match self.export(self.request(records)).await {
                (Answer::Taken, rejected) if rejected > 0 => {
                    let why = SinkError::Other(format!("{} rejected records", self.place()));
                    Answer::Refused { why, divisible: rejected < part.len() as u64 }
                }
                (answer, _) => answer,
            }
        })
    }
}

/// How many records an answer in JSON says were rejected; a 64-bit number may be a text there.
fn rejected(answer: &[u8]) -> u64 {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let count = &answer["partialSuccess"]["rejectedLogRecords"];
    count.as_u64().or_else(|| count.as_str().and_then(|n| n.parse().ok())).unwrap_or(0)
}

/// One event as a log record.
fn record(one: &Stored) -> Option<Value> {
    let tree = Tree::parse(&one.line).ok()?;
    let nanos = |at: Timestamp| format!("{}000000", at.as_millis().max(0));
    let (number, word) = match one.event.outcome {
        _ if one.event.event_type.as_str().starts_with("detection.") => (17, "ERROR"),
        Outcome::Failure | Outcome::Rejected => (13, "WARN"),
        _ => (9, "INFO"),
    };
    let name = tree.str("/event_type").unwrap_or_else(|| one.event.event_type.as_str());
    let mut attributes = vec![attribute("authtap.id", &one.event.id.to_string().into())];
    for (pointer, name) in ATTRIBUTES {
        attributes.extend(tree.leaf(pointer).map(|value| attribute(name, value)));
    }
    for (key, value) in tree.entries("/metadata/fields") {
        if let Tree::Leaf(value) = value {
            attributes.push(attribute(&format!("authtap.fields.{key}"), value));
        }
    }
    let mut record = json!({
        "timeUnixNano": nanos(one.event.timestamp),
        "observedTimeUnixNano": nanos(Timestamp::now()),
        "severityNumber": number,
        "severityText": word,
        "eventName": name,
        "body": { "stringValue": one.event.event_type.meaning() },
        "attributes": attributes,
    });
    let trace = tree.str("/metadata/request/trace_id");
    if let Some(trace) = trace.filter(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())) {
        record["traceId"] = trace.into();
    }
    Some(record)
}

fn attribute(key: &str, value: &Value) -> Value {
    let value = match value {
        Value::Bool(truth) => json!({ "boolValue": truth }),
        Value::Number(number) if number.is_f64() => json!({ "doubleValue": number }),
        Value::Number(number) => json!({ "intValue": number.to_string() }),
        Value::String(text) => json!({ "stringValue": text }),
        other => json!({ "stringValue": other.to_string() }),
    };
    json!({ "key": key, "value": value })
}
