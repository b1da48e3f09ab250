//! Datadog by its logs intake.
//!
//! Datadog reads JSON in `message` by itself, `timestamp` included, so the event goes there as it is
//! written; beside it only what its index goes by. An intake has no idempotency key: what is sent
//! twice is there twice, under the same `id`.

use serde_json::{Map as Object, Value};

use super::http::answer::Answer;
use super::http::client::{Client, Outgoing};
use super::http::parts::{Courier, Ledger, Limits};
use super::http::{self as shared, Compressions, HttpPlan, Usual};
use super::lanes::CONCURRENCY;
use super::{BoxFuture, BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan, Verdict};
use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind, joined};
use crate::event::Outcome;
use crate::format;
use crate::spool::Stored;

#[cfg(test)]
mod tests;

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "datadog",
    doc: "Datadog, by its logs intake",
    fields: FIELDS,
    formats: Formats::Any("native"),
    check,
};

const FIELDS: &[Field] = joined!(OWN, shared::TOKEN, &shared::fields(&USUAL), &[CONCURRENCY]);

const USUAL: Usual = Usual {
    url: Some(URL),
    path: "/api/v2/logs",
    compressions: Compressions::GZIP,
    token: ("dd-api-key", ""),
    token_required: true,
};

const OWN: &[Field] = &[
    Field::new("url", Kind::Str, URL, "the intake of your site: https://http-intake.logs.datadoghq.eu/api/v2/logs"),
    Field::new("service", Kind::Str, "authtap", "the service"),
    Field::new("host", Kind::Str, "", "the host"),
    Field::new("tags", Kind::OneOrList(&Kind::Str), "", "tags, `env:production`"),
    format::field("native"),
];

const URL: &str = "https://http-intake.logs.datadoghq.com/api/v2/logs";
/// The most tags.
const MAX_TAGS: usize = 32;

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let http = HttpPlan::check(map, &USUAL, problems);
    let mut envelope = Object::from_iter([("ddsource".to_owned(), Value::from("authtap"))]);
    let service = shared::check_word(map, "service", problems)?.unwrap_or_else(|| "authtap".to_owned());
    envelope.insert("service".into(), service.into());
    envelope.extend(shared::check_word(map, "host", problems)?.map(|host| ("hostname".to_owned(), Value::from(host))));
    let mut tags = Vec::new();
    for tag in map.items("tags") {
        let text = tag.str(problems)?;
        if text.is_empty()
            || text.len() > 200
            || text.contains(',')
            || text.chars().any(char::is_control)
            || tags.len() == MAX_TAGS
        {
            problems.error_hint(tag, "this is no tag".into(), "at most 32 of 1 to 200 characters without a comma");
            return None;
        }
        tags.push(text);
    }
    if !tags.is_empty() {
        envelope.insert("ddtags".into(), tags.join(",").into());
    }
    Some(Box::new(Plan { http: http?, envelope }))
}

#[derive(Debug)]
struct Plan {
    http: HttpPlan,
    envelope: Object<String, Value>,
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(Datadog {
            client: self.http.build(cx)?,
            limits: cx.batch.sent(shared::USUAL_LIMITS),
            envelope: self.envelope.clone(),
            ledger: Ledger::default(),
        }))
    }
}

struct Datadog {
    client: Client,
    limits: Limits,
    envelope: Object<String, Value>,
    ledger: Ledger,
}

impl Sink for Datadog {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(self.ledger.deliver(self, self.limits, batch))
    }

    /// An empty list: the intake looks at the key and has nothing to store.
    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            let reply = self.client.send(Outgoing::post("application/json", b"[]".to_vec())).await?;
            if reply.status == 400 { Ok(()) } else { shared::probed(&reply, &self.client) }
        })
    }
}

impl Courier for Datadog {
    fn carry<'a>(&'a self, part: &'a [Stored]) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            let items: Vec<Value> = part
                .iter()
                .map(|one| {
                    let mut item = self.envelope.clone();
                    let status = match one.event.outcome {
                        _ if one.event.event_type.as_str().starts_with("detection.") => "error",
                        Outcome::Failure | Outcome::Rejected => "warn",
                        _ => "info",
                    };
                    item.insert("status".into(), status.into());
                    item.insert("message".into(), (&*one.line).into());
                    item.into()
                })
                .collect();
            let request = Outgoing::post("application/json", Value::from(items).to_string().into_bytes());
            match self.client.send(request).await {
                Ok(reply) => Answer::by_status(&reply, &self.client.place()),
                Err(why) => Answer::lost(why),
            }
        })
    }
}
