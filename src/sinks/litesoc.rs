//! LiteSOC by its collect API: at most 100 events a request, under its own names
//! ([`crate::format::litesoc`]).
//!
//! The server stamps its own time on an event; that of the event travels in its metadata. Its
//! answer says how many events it accepted, not which, so that a request it accepted in part is
//! halved until the refused ones are known; the others are then there twice, under the same
//! `event_id`.

use serde_json::Value;

use super::http::answer::Answer;
use super::http::client::{Client, Outgoing};
use super::http::parts::{Courier, Ledger, Limits, key_of};
use super::http::{self as shared, Compressions, HttpPlan, Usual};
use super::lanes::CONCURRENCY;
use super::{BoxFuture, BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan, Verdict};
use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind, joined};
use crate::spool::Stored;

#[cfg(test)]
mod tests;

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "litesoc",
    doc: "LiteSOC, by its collect API",
    fields: FIELDS,
    formats: Formats::Any("litesoc"),
    check,
};

const FIELDS: &[Field] = joined!(OWN, shared::TOKEN, &shared::fields(&USUAL), &[CONCURRENCY]);

const USUAL: Usual = Usual {
    url: Some(URL),
    path: "/collect",
    compressions: Compressions::MAYBE_GZIP,
    token: ("x-api-key", ""),
    token_required: true,
};

const OWN: &[Field] = &[Field::new("url", Kind::Str, URL, "the collect API")];

const URL: &str = "https://api.litesoc.io/collect";
/// The most events that the API takes at once.
const MAX_EVENTS: usize = 100;

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let http = HttpPlan::check(map, &USUAL, problems);
    Some(Box::new(Plan { http: http? }))
}

#[derive(Debug)]
struct Plan {
    http: HttpPlan,
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(LiteSoc {
            client: self.http.build(cx)?,
            limits: cx.batch.sent(shared::USUAL_LIMITS).at_most(MAX_EVENTS),
            ledger: Ledger::default(),
        }))
    }
}

struct LiteSoc {
    client: Client,
    limits: Limits,
    ledger: Ledger,
}

impl Sink for LiteSoc {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(self.ledger.deliver(self, self.limits, batch))
    }

    /// The API has no way of being asked without an event; that it can be reached is tried.
    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(self.client.connects())
    }
}

impl Courier for LiteSoc {
    fn carry<'a>(&'a self, part: &'a [Stored]) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            let lines: Vec<&str> = part.iter().map(|one| &*one.line).collect();
            // A single event is sent by itself: that form every version of the API takes.
            let body = match &lines[..] {
                [one] => (*one).to_owned(),
                several => format!("{{\"events\":[{}]}}", several.join(",")),
            };
            let request =
                Outgoing::post("application/json", body.into_bytes()).with("x-idempotency-key", &key_of(part));
            let reply = match self.client.send(request).await {
                Ok(reply) => reply,
                Err(why) => return Answer::lost(why),
            };
            if !reply.status.is_success() {
                return Answer::by_status(&reply, &self.client.place());
            }
            let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            let accepted = answer["events_accepted"].as_u64();
            let why = |what: &str| SinkError::Other(format!("{}: {what}", self.client.place()));
            if answer["success"] == false {
                Answer::lost(why("the API says that it had no success"))
            } else if accepted.is_some_and(|accepted| accepted < part.len() as u64) {
                Answer::Refused { why: why("the API did not accept an event"), divisible: true }
            } else {
                Answer::Taken
            }
        })
    }
}
