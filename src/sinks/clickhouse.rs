//! ClickHouse over HTTP: `INSERT … FORMAT JSONEachRow` into the table of `examples/clickhouse`.
//!
//! A part is one insert with a deduplication token that stays the same when it is sent again, so
//! that a table that keeps such tokens has it once; the table of the example also drops doubles of
//! an id when it merges. Only the columns of that table are written, whatever an event holds.

use serde_json::{Map as Object, Value, json};

use super::http::answer::Answer;
use super::http::client::{Client, Outgoing};
use super::http::parts::{Courier, Ledger, Limits, key_of};
use super::http::{self as shared, Compressions, HttpPlan, Usual};
use super::lanes::CONCURRENCY;
use super::{BoxFuture, BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan, Verdict};
use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind, joined};
use crate::format::tree::Tree;
use crate::spool::Stored;

#[cfg(test)]
mod tests;

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "clickhouse",
    doc: "ClickHouse, by inserts over HTTP",
    fields: FIELDS,
    formats: Formats::Own,
    check,
};

const FIELDS: &[Field] = joined!(OWN, shared::BASIC, &shared::fields(&USUAL), &[CONCURRENCY]);

const USUAL: Usual = Usual { compressions: Compressions::MAYBE_ANY, ..Usual::BEARER };

const OWN: &[Field] = &[
    Field::required("url", Kind::Str, "http://HOST:8123"),
    Field::new(
        "table",
        Kind::Str,
        "authtap_events",
        "the table, `database.table`; its definition is in examples/clickhouse",
    ),
    Field::new(
        "async_insert",
        Kind::Bool,
        "off",
        "let the server gather inserts; it still answers only when they are written",
    ),
];

/// Columns of texts and numbers, and where their values stand in an event.
const COLUMNS: &[(&str, &str)] = &[
    ("reason", "/reason"),
    ("actor_id", "/actor/id"),
    ("actor_email", "/actor/email"),
    ("actor_login", "/actor/login"),
    ("actor_type", "/actor/type"),
    ("target_type", "/target/type"),
    ("target_id", "/target/id"),
    ("target_email", "/target/email"),
    ("organization", "/organization/id"),
    ("ip_address", "/metadata/ip_address"),
    ("user_agent", "/metadata/user_agent"),
    ("method", "/metadata/method"),
    ("provider", "/metadata/provider"),
    ("session_id", "/metadata/session_id"),
    ("country", "/metadata/geo/country"),
    ("region", "/metadata/geo/region"),
    ("city", "/metadata/geo/city"),
    ("asn", "/metadata/network/asn"),
    ("network", "/metadata/network/organization"),
    ("browser", "/metadata/client/browser"),
    ("os", "/metadata/client/os"),
    ("device", "/metadata/client/device"),
    ("request_id", "/metadata/request/id"),
    ("host", "/metadata/request/host"),
    ("path", "/metadata/request/path"),
    ("status", "/metadata/request/status"),
    ("duration_ms", "/metadata/request/duration_ms"),
    ("route", "/source/route"),
    ("rule", "/source/rule"),
    ("mode", "/source/mode"),
];

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let http = HttpPlan::check(map, &USUAL, problems);
    let gathered = map.bool("async_insert", problems).unwrap_or(false);
    let table = match map.get("table") {
        None => "authtap_events",
        Some(at) => {
            let table = at.str(problems)?;
            let word = |w: &str| {
                let plain = w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                !w.is_empty() && w.len() <= 100 && plain && !w.starts_with(|c: char| c.is_ascii_digit())
            };
            if table.split('.').count() > 2 || !table.split('.').all(word) {
                let hint = "letters, digits and `_`: authtap_events, or security.authtap_events";
                problems.error_hint(at, format!("`table` cannot be {}", at.describe()), hint);
                return None;
            }
            table
        }
    };
    Some(Box::new(Plan { http: http?, table: table.to_owned(), gathered }))
}

#[derive(Debug)]
struct Plan {
    http: HttpPlan,
    table: String,
    gathered: bool,
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(ClickHouse {
            client: self.http.build(cx)?,
            limits: cx.batch.sent(shared::USUAL_LIMITS),
            table: self.table.clone(),
            gathered: self.gathered,
            ledger: Ledger::default(),
        }))
    }
}

struct ClickHouse {
    client: Client,
    limits: Limits,
    table: String,
    gathered: bool,
    ledger: Ledger,
}

impl ClickHouse {
    /// Path and query of a statement with these settings.
    fn target(&self, statement: &str, settings: &[(&str, &str)]) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("query", statement);
        for (name, value) in settings {
            query.append_pair(name, value);
        }
        format!("{}?{}", self.client.url().path, query.finish())
    }
}

impl Sink for ClickHouse {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(self.ledger.deliver(self, self.limits, batch))
    }

    /// Asks for nothing of the table: user, password and table must be right for that.
    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            let statement = format!("SELECT id FROM {} LIMIT 0", self.table);
            let reply = self.client.send(Outgoing::get(self.target(&statement, &[]))).await?;
            shared::probed(&reply, &self.client)
        })
    }
}

impl Courier for ClickHouse {
    fn carry<'a>(&'a self, part: &'a [Stored]) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            let mut body = String::new();
            for one in part {
                let Some(row) = row(one) else {
                    let why = SinkError::Other("an event cannot be read back".into());
                    return Answer::Refused { why, divisible: true };
                };
                body.push_str(&row);
                body.push('\n');
            }
            let key = key_of(part);
            let mut settings =
                vec![("insert_deduplication_token", key.as_str()), ("date_time_input_format", "best_effort")];
            if self.gathered {
                settings.extend([("async_insert", "1"), ("wait_for_async_insert", "1")]);
            }
            let target = self.target(&format!("INSERT INTO {} FORMAT JSONEachRow", self.table), &settings);
            let request = Outgoing::post("application/x-ndjson", body.into_bytes()).to(target);
            match self.client.send(request).await {
                Ok(reply) => Answer::by_status(&reply, &self.client.place()),
                Err(why) => Answer::lost(why),
            }
        })
    }
}

/// One event as a row.
fn row(one: &Stored) -> Option<String> {
    let tree = Tree::parse(&one.line).ok()?;
    let mut row = Object::new();
    row.insert("id".into(), one.event.id.to_string().into());
    row.insert("timestamp".into(), one.event.timestamp.to_string().into());
    row.insert("event_type".into(), tree.str("/event_type").unwrap_or_else(|| one.event.event_type.as_str()).into());
    row.insert("outcome".into(), one.event.outcome.as_str().into());
    for (column, pointer) in COLUMNS {
        row.extend(tree.leaf(pointer).map(|value| ((*column).to_owned(), value.clone())));
    }
    if let Some(bot) = tree.leaf("/metadata/client/bot").and_then(Value::as_bool) {
        row.insert("bot".into(), u8::from(bot).into());
    }
    if let Some(fields) = tree.at("/metadata/fields") {
        row.insert("fields".into(), json!(fields));
    }
    row.insert("event".into(), (&*one.line).into());
    Some(Value::Object(row).to_string())
}
