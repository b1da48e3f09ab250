//! OpenTelemetry logs: OTLP over HTTP, in JSON or protobuf (opentelemetry-proto 1.x,
//! `ExportLogsServiceRequest`).
//!
//! In JSON, 64-bit numbers are texts and ids are hexadecimal. Attributes have the names of the
//! semantic conventions where there is one, and `authtap.…` otherwise. A collector that rejects some
//! records of a request does not say which, so the request is halved until they are known; what it
//! had taken is then there twice, under the same `authtap.id`.

use serde_json::{Value, json};

use self::resource::Resource;
use super::http::answer::Answer;
use super::http::client::{Client, Outgoing};
use super::http::parts::{Courier, Ledger, Limits};
use super::http::{self as shared, Compressions, HttpPlan, Usual};
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
    doc: "OpenTelemetry logs, OTLP over HTTP in JSON or protobuf",
    fields: FIELDS,
    formats: Formats::Own,
    check,
};

const FIELDS: &[Field] = joined!(OWN, shared::TOKEN, &shared::fields(&USUAL));

const USUAL: Usual = Usual { path: "/v1/logs", compressions: Compressions::GZIP_OR_ZSTD, ..Usual::BEARER };

const OWN: &[Field] = &[
    Field::required("url", Kind::Str, "https://HOST:4318"),
    resource::FIELD,
    Field::new("encoding", Kind::Word(ENCODINGS), "json", "of requests; protobuf is smaller, JSON can be read"),
];

const ENCODINGS: &[&str] = &["json", "protobuf"];

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
    let http = HttpPlan::check(map, &USUAL, problems);
    let protobuf = map.one_of("encoding", ENCODINGS, problems) == Some("protobuf");
    let resource = Resource::check(map.get("resource"), problems);
    Some(Box::new(Plan { http: http?, resource: resource?, protobuf }))
}

#[derive(Debug)]
struct Plan {
    http: HttpPlan,
    resource: Resource,
    protobuf: bool,
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        let resource =
            self.resource.0.iter().map(|(key, value)| attribute(key, &Value::from(value.as_str()))).collect();
        Ok(Box::new(Otlp {
            client: self.http.build(cx)?,
            limits: cx.batch.sent(shared::USUAL_LIMITS),
            resource,
            protobuf: self.protobuf,
            ledger: Ledger::default(),
        }))
    }
}

struct Otlp {
    client: Client,
    limits: Limits,
    resource: Value,
    protobuf: bool,
    ledger: Ledger,
}

impl Otlp {
    fn request(&self, records: Vec<Value>) -> Outgoing {
        let scope = json!({ "name": "authtap", "version": env!("CARGO_PKG_VERSION") });
        let resource = json!({ "attributes": self.resource });
        let body = match records.is_empty() {
            true => json!({ "resourceLogs": [] }),
            false => json!({
                "resourceLogs": [{ "resource": resource, "scopeLogs": [{ "scope": scope, "logRecords": records }] }]
            }),
        };
        match self.protobuf {
            true => Outgoing::post("application/x-protobuf", protobuf::encode(&body)),
            false => Outgoing::post("application/json", body.to_string().into_bytes()),
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
            let reply = self.client.send(self.request(Vec::new())).await?;
            shared::probed(&reply, &self.client)
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
            let reply = match self.client.send(self.request(records)).await {
                Ok(reply) => reply,
                Err(why) => return Answer::lost(why),
            };
            if !reply.status.is_success() {
                return Answer::by_status(&reply, &self.client.place());
            }
            let rejected = match self.protobuf {
                true => protobuf::rejected(&reply.body),
                false => rejected(&reply.body),
            };
            if rejected == 0 {
                return Answer::Taken;
            }
            let why = SinkError::Other(format!("{} rejected records", self.client.place()));
            Answer::Refused { why, divisible: rejected < part.len() as u64 }
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
