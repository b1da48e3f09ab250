//! Elasticsearch and OpenSearch by their bulk API, into a data stream or an index.
//!
//! Each event is created under its own id, so an event that is sent twice is there once: the answer
//! 409 means that it is there already. A bulk request answers 200 with failed items inside; each
//! item decides about its own event. It must never update a document, only create.

use serde_json::Value;

use super::http::answer::{Answer, Fate};
use super::http::client::{Client, Outgoing, Reply};
use super::http::parts::{Courier, Ledger, Limits};
use super::http::{self as shared, Compressions, HttpPlan, Usual};
use super::lanes::CONCURRENCY;
use super::{BoxFuture, BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan, Verdict};
use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind, joined};
use crate::format::{self, Media};
use crate::spool::Stored;

#[cfg(test)]
mod tests;

/// The table's entry for Elasticsearch.
pub const ELASTICSEARCH: SinkKind = SinkKind {
    name: "elasticsearch",
    doc: "Elasticsearch, by its bulk API",
    fields: FIELDS,
    formats: Formats::Any("ecs"),
    check: |map, problems| check(map, &Usual { token: ("authorization", "ApiKey "), ..USUAL }, problems),
};

/// The table's entry for OpenSearch.
pub const OPENSEARCH: SinkKind = SinkKind {
    name: "opensearch",
    doc: "OpenSearch, by its bulk API",
    fields: FIELDS,
    formats: Formats::Any("ecs"),
    check: |map, problems| check(map, &USUAL, problems),
};

const USUAL: Usual = Usual { compressions: Compressions::GZIP, ..Usual::BEARER };

const FIELDS: &[Field] = joined!(OWN, shared::TOKEN, shared::BASIC, &shared::fields(&USUAL), &[CONCURRENCY]);

const OWN: &[Field] = &[
    Field::required("url", Kind::Str, "https://HOST:9200"),
    Field::new("index", Kind::Str, DEFAULT_INDEX, "the data stream (or index) to create events in"),
    Field::new("pipeline", Kind::Str, "", "an ingest pipeline that events go through"),
    format::field("ecs"),
];

const DEFAULT_INDEX: &str = "logs-authtap-default";

fn check(map: &Map<'_>, usual: &Usual, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let http = HttpPlan::check(map, usual, problems);
    let index = check_name(map, "index", problems);
    let pipeline = check_name(map, "pipeline", problems);
    Some(Box::new(Plan { http: http?, index: index?.unwrap_or_else(|| DEFAULT_INDEX.to_owned()), pipeline: pipeline? }))
}

fn check_name(map: &Map<'_>, key: &str, problems: &mut Problems) -> Option<Option<String>> {
    let Some(at) = map.get(key) else { return Some(None) };
    let name = at.str(problems)?;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 255 || !name.bytes().all(plain) || name.starts_with(['-', '_', '.']) {
        let hint = "lower-case letters, digits, `-`, `_` and `.`, such as logs-authtap-shop";
        problems.error_hint(at, format!("`{key}` cannot be {}", at.describe()), hint);
        return None;
    }
    Some(Some(name.to_owned()))
}

#[derive(Debug)]
struct Plan {
    http: HttpPlan,
    index: String,
    pipeline: Option<String>,
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        let client = self.http.build(cx)?;
        // Only what is read of the answer is asked for: it is as long as the request otherwise.
        let mut target = client.url().under(&format!("/{}/_bulk", self.index));
        target.push_str("?filter_path=errors,items.*.status,items.*.error.type");
        if let Some(pipeline) = &self.pipeline {
            target.push_str(&format!("&pipeline={pipeline}"));
        }
        Ok(Box::new(Elastic {
            client,
            target,
            limits: cx.batch.sent(shared::USUAL_LIMITS),
            media: cx.media,
            ledger: Ledger::default(),
        }))
    }
}

struct Elastic {
    client: Client,
    target: String,
    limits: Limits,
    media: Media,
    ledger: Ledger,
}

impl Sink for Elastic {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(self.ledger.deliver(self, self.limits, batch))
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            let reply = self.client.send(Outgoing::get(self.client.url().under("/"))).await?;
            // A key that may only write is known, though not let in here.
            if reply.status == 403 { Ok(()) } else { shared::probed(&reply, &self.client) }
        })
    }
}

impl Elastic {
    /// One event as a document: JSON with `@timestamp`, which a data stream demands.
    fn document(&self, one: &Stored) -> String {
        let time = one.event.timestamp;
        match one.line.strip_prefix('{') {
            Some(_) if self.media.format == "ecs" => one.line.to_string(),
            Some(rest) if self.media.list.is_some() => format!(r#"{{"@timestamp":"{time}",{rest}"#),
            _ => serde_json::json!({"@timestamp": time.to_string(), "message": &*one.line}).to_string(),
        }
    }
}

impl Courier for Elastic {
    fn carry<'a>(&'a self, part: &'a [Stored]) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            let mut body = String::new();
            for one in part {
                body.push_str(&format!("{{\"create\":{{\"_id\":\"{}\"}}}}\n{}\n", one.event.id, self.document(one)));
            }
            let request = Outgoing::post("application/x-ndjson", body.into_bytes()).to(self.target.clone());
            match self.client.send(request).await {
                Ok(reply) => read(&reply, part.len(), &self.client.place()),
                Err(why) => Answer::lost(why),
            }
        })
    }
}

/// What the answer to a bulk request says of each event.
fn read(reply: &Reply, count: usize, place: &str) -> Answer {
    if !reply.status.is_success() {
        return Answer::by_status(reply, place);
    }
    let strange = || Answer::lost(SinkError::Other(format!("{place} answered what no bulk API does; check the URL")));
    if !reply.whole {
        return strange();
    }
    let Ok(answer) = serde_json::from_slice::<Value>(&reply.body) else { return strange() };
    match answer["errors"].as_bool() {
        Some(false) => return Answer::Taken,
        Some(true) => {}
        None => return strange(),
    }
    let Some(items) = answer["items"].as_array().filter(|items| items.len() == count) else { return strange() };
    let fate = |item: &Value| {
        let result = &item["create"];
        // The kind of an error is a word of the receiver's own; its text may quote the event.
        let kind = result["error"]["type"]
            .as_str()
            .filter(|k| k.len() <= 80 && k.bytes().all(|b| b == b'_' || b.is_ascii_lowercase()));
        let told =
            |status: u64| format!("{place} answered {status} ({}) for an event", kind.unwrap_or("no reason given"));
        match result["status"].as_u64() {
            Some(200..=299 | 409) => Fate::Taken,
            Some(status @ (401..=404 | 408 | 429 | 500..)) => Fate::Later(told(status)),
            Some(status) => Fate::Refused(told(status)),
            None => Fate::Later(format!("{place} said nothing of an event")),
        }
    };
    Answer::Items(items.iter().map(fate).collect())
}
