//! Splunk by its HTTP Event Collector, with indexer acknowledgement if it is wanted.
//!
//! Without `ack` an event counts as delivered once Splunk has taken the request; with it, once an
//! indexer says that it has written it. What is not acknowledged in time is sent again, and may then
//! be there twice, under the same id. The channel of the acknowledgements is new at each start.

use std::time::Duration;

use serde_json::{Map as Object, Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::http::answer::Answer;
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

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "splunk_hec",
    doc: "Splunk, by its HTTP Event Collector",
    fields: FIELDS,
    formats: Formats::Any("native"),
    check,
};

const FIELDS: &[Field] = joined!(OWN, shared::TOKEN, &shared::fields(&USUAL), &[CONCURRENCY]);

const USUAL: Usual = Usual {
    path: PATH,
    compressions: Compressions::GZIP,
    token: ("authorization", "Splunk "),
    token_required: true,
    ..Usual::BEARER
};

const OWN: &[Field] = &[
    Field::required("url", Kind::Str, "https://HOST:8088"),
    Field::new("index", Kind::Str, "", "the index; without it the token's own"),
    Field::new("sourcetype", Kind::Str, "authtap:event", "the source type"),
    Field::new("source", Kind::Str, "authtap", "the source"),
    Field::new("host", Kind::Str, "", "the host"),
    Field::new(
        "ack",
        Kind::Bool,
        "off",
        "wait until an indexer has acknowledged each request (the token must have it enabled)",
    ),
    Field::new("ack_interval", Kind::Duration, "1s", "how often it is asked for"),
    Field::new("ack_timeout", Kind::Duration, "60s", "after this long the request is sent again"),
    format::field("native"),
];

const PATH: &str = "/services/collector/event";

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let http = HttpPlan::check(map, &USUAL, problems);
    let mut envelope = Object::new();
    for (key, default) in
        [("index", None), ("sourcetype", Some("authtap:event")), ("source", Some("authtap")), ("host", None)]
    {
        let value = shared::check_word(map, key, problems)?;
        envelope.extend(value.or(default.map(str::to_owned)).map(|value| (key.to_owned(), Value::from(value))));
    }
    let ack = map.bool("ack", problems).unwrap_or(false);
    let interval = map.duration("ack_interval", problems).unwrap_or(Duration::from_secs(1));
    let within = map.duration("ack_timeout", problems).unwrap_or(Duration::from_secs(60));
    if interval.is_zero() || interval > within || within > Duration::from_secs(600) {
        let hint = "0 < ack_interval <= ack_timeout <= 10m";
        problems.error_hint(map.node, "the times of `ack` do not fit together".into(), hint);
        return None;
    }
    Some(Box::new(Plan { http: http?, envelope, ack: ack.then_some((interval, within)) }))
}

#[derive(Debug)]
struct Plan {
    http: HttpPlan,
    envelope: Object<String, Value>,
    ack: Option<(Duration, Duration)>,
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(Splunk {
            client: self.http.build(cx)?,
            limits: cx.batch.sent(shared::USUAL_LIMITS),
            envelope: self.envelope.clone(),
            ack: self.ack,
            channel: Uuid::now_v7().to_string(),
            media: cx.media,
            ledger: Ledger::default(),
        }))
    }
}

struct Splunk {
    client: Client,
    limits: Limits,
    envelope: Object<String, Value>,
    ack: Option<(Duration, Duration)>,
    channel: String,
    media: Media,
    ledger: Ledger,
}

impl Sink for Splunk {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(self.ledger.deliver(self, self.limits, batch))
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            let reply = self.client.send(Outgoing::get("/services/collector/health".into())).await?;
            shared::probed(&reply, &self.client)
        })
    }
}

impl Courier for Splunk {
    fn carry<'a>(&'a self, part: &'a [Stored]) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            let mut body = String::new();
            for one in part {
                let mut wrapped = self.envelope.clone();
                let millis = one.event.timestamp.as_millis();
                wrapped.insert("time".into(), json!(millis as f64 / 1000.0));
                let parsed = self.media.list.and_then(|_| serde_json::from_str::<Value>(&one.line).ok());
                wrapped.insert("event".into(), parsed.unwrap_or_else(|| Value::from(&*one.line)));
                body.push_str(&Value::Object(wrapped).to_string());
                body.push('\n');
            }
            let request =
                Outgoing::post("application/json", body.into_bytes()).with("x-splunk-request-channel", &self.channel);
            let reply = match self.client.send(request).await {
                Ok(reply) => reply,
                Err(why) => return Answer::lost(why),
            };
            if !reply.status.is_success() {
                return refusal(&reply, &self.client.place());
            }
            match self.ack {
                None => Answer::Taken,
                Some((interval, within)) => self.acknowledged(&reply, interval, within).await,
            }
        })
    }
}

impl Splunk {
    /// Asks until an indexer has written what this answer is about.
    async fn acknowledged(&self, reply: &Reply, interval: Duration, within: Duration) -> Answer {
        let later = |why: &str| Answer::lost(SinkError::Other(format!("{}: {why}", self.client.place())));
        let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let Some(id) = answer["ackId"].as_u64() else {
            return later("no acknowledgement was promised; enable it for the token, or set `ack: off`");
        };
        let by = Instant::now() + within;
        loop {
            let body = json!({ "acks": [id] }).to_string();
            let request = Outgoing::post("application/json", body.into_bytes())
                .to(format!("/services/collector/ack?channel={}", self.channel))
                .with("x-splunk-request-channel", &self.channel);
            match self.client.send(request).await {
                Ok(reply) if reply.status.is_success() => {
                    let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
                    if answer["acks"][id.to_string()] == true {
                        return Answer::Taken;
                    }
                }
                Ok(reply) => return refusal(&reply, &self.client.place()),
                // One question without an answer is not the end of the wait.
                Err(_) => {}
            }
            if Instant::now() + interval > by {
                return later("no indexer acknowledged the events in time; they are sent again");
            }
            sleep(interval).await;
        }
    }
}

/// What Splunk means by an answer that is no success. Some of its 400 are about the configuration.
fn refusal(reply: &Reply, place: &str) -> Answer {
    let code = serde_json::from_slice::<Value>(&reply.body).ok().and_then(|answer| answer["code"].as_u64());
    let remedy = match code {
        Some(7) => "the token may not write to this `index`",
        Some(10 | 11) => "the token wants a channel that Splunk does not take",
        Some(14) => "the token has no acknowledgement: enable it, or set `ack: off`",
        _ => return Answer::by_status(reply, place),
    };
    Answer::Later { after: reply.retry_after, why: SinkError::Other(format!("{place}: {remedy}")) }
}
