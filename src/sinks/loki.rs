//! Grafana Loki by its push API.
//!
//! Labels make streams, and many streams are what breaks Loki; so labels are the configured ones and
//! the outcome (six words at most), never something a client chooses. Id and type of an event go
//! beside its line as structured metadata.

use serde_json::{Map as Object, Value, json};

use super::http::answer::Answer;
use super::http::client::{Client, Outgoing};
use super::http::parts::{Courier, Ledger, Limits};
use super::http::{self as shared, Compressions, HttpPlan, Usual};
use super::lanes::CONCURRENCY;
use super::{BoxFuture, BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan, Verdict};
use crate::config::node::{Map, clip};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind, joined};
use crate::format;
use crate::spool::Stored;

#[cfg(test)]
mod tests;

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "loki",
    doc: "Grafana Loki, by its push API",
    fields: FIELDS,
    formats: Formats::Any("native"),
    check,
};

const FIELDS: &[Field] = joined!(OWN, shared::TOKEN, shared::BASIC, &shared::fields(&USUAL), &[CONCURRENCY]);

const USUAL: Usual = Usual { path: "/loki/api/v1/push", compressions: Compressions::GZIP, ..Usual::BEARER };

const OWN: &[Field] = &[
    Field::required("url", Kind::Str, "https://HOST:3100"),
    Field::new("labels", Kind::Dict(&Kind::Str), "{ job: authtap }", "labels of every stream; `outcome` is added"),
    Field::new("tenant", Kind::Str, "", "the tenant (X-Scope-OrgID)"),
    Field::new(
        "metadata",
        Kind::Bool,
        "on",
        "event_id and event_type as structured metadata (Loki 3; off for older ones)",
    ),
    format::field("native"),
];

/// The most labels; Loki allows 15 without further settings, of which `outcome` is one.
const MAX_LABELS: usize = 14;

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let http = HttpPlan::check(map, &USUAL, problems);
    let labels = check_labels(map, problems);
    let tenant = shared::check_word(map, "tenant", problems);
    let metadata = map.bool("metadata", problems).unwrap_or(true);
    Some(Box::new(Plan { http: http?, labels: labels?, tenant: tenant?, metadata }))
}

fn check_labels(map: &Map<'_>, problems: &mut Problems) -> Option<Object<String, Value>> {
    let Some(at) = map.get("labels") else {
        return Some(Object::from_iter([("job".to_owned(), Value::from("authtap"))]));
    };
    let mut labels = Object::new();
    for (key, value) in at.entries(problems) {
        let name = key.text.as_str();
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if name.is_empty() || !plain || name.starts_with(|c: char| c.is_ascii_digit()) || name == "outcome" {
            let hint = "letters, digits and `_`; `outcome` is set by authtap";
            problems.error_key(at, key, format!("`{}` cannot be a label", clip(name)), hint);
            return None;
        }
        labels.insert(name.to_owned(), value.str(problems)?.into());
    }
    if labels.is_empty() || labels.len() > MAX_LABELS {
        problems.error(at, format!("a stream has 1 to {MAX_LABELS} labels"));
        return None;
    }
    Some(labels)
}

#[derive(Debug)]
struct Plan {
    http: HttpPlan,
    labels: Object<String, Value>,
    tenant: Option<String>,
    metadata: bool,
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(Loki {
            client: self.http.build(cx)?,
            limits: cx.batch.sent(shared::USUAL_LIMITS),
            labels: self.labels.clone(),
            tenant: self.tenant.clone(),
            metadata: self.metadata,
            ledger: Ledger::default(),
        }))
    }
}

struct Loki {
    client: Client,
    limits: Limits,
    labels: Object<String, Value>,
    tenant: Option<String>,
    metadata: bool,
    ledger: Ledger,
}

impl Sink for Loki {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(self.ledger.deliver(self, self.limits, batch))
    }

    /// A push without a stream: Loki looks at secret and tenant, and has nothing to store.
    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            let reply = self.client.send(self.request(r#"{"streams":[]}"#.into())).await?;
            // Some versions call an empty push a bad request; whoever says so has let it in.
            if reply.status == 400 || reply.status == 422 { Ok(()) } else { shared::probed(&reply, &self.client) }
        })
    }
}

impl Loki {
    fn request(&self, body: String) -> Outgoing {
        let request = Outgoing::post("application/json", body.into_bytes());
        match &self.tenant {
            Some(tenant) => request.with("x-scope-orgid", tenant),
            None => request,
        }
    }
}

impl Courier for Loki {
    fn carry<'a>(&'a self, part: &'a [Stored]) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            // One stream an outcome, in the order of the batch.
            let mut streams: Vec<(&str, Vec<Value>)> = Vec::new();
            for one in part {
                let nanos = format!("{}000000", one.event.timestamp.as_millis());
                let mut value = vec![Value::from(nanos), Value::from(&*one.line)];
                if self.metadata {
                    let (id, kind) = (one.event.id.to_string(), one.event.event_type.as_str());
                    value.push(json!({ "event_id": id, "event_type": kind }));
                }
                let outcome = one.event.outcome.as_str();
                match streams.iter_mut().find(|(name, _)| *name == outcome) {
                    Some((_, values)) => values.push(value.into()),
                    None => streams.push((outcome, vec![value.into()])),
                }
            }
            let streams: Vec<Value> = streams
                .into_iter()
                .map(|(outcome, values)| {
                    let mut labels = self.labels.clone();
                    labels.insert("outcome".into(), outcome.into());
                    json!({ "stream": labels, "values": values })
                })
                .collect();
            match self.client.send(self.request(json!({ "streams": streams }).to_string())).await {
                Ok(reply) => Answer::by_status(&reply, &self.client.place()),
                Err(why) => Answer::lost(why),
            }
        })
    }
}
