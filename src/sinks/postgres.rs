//! PostgreSQL: events as rows of a table, each under its own id.
//!
//! A part of a batch is one `INSERT … ON CONFLICT (id) DO NOTHING`, so a row that is sent twice is
//! there once. The columns are taken out of the JSON by the server, from the line as the sink may
//! see it. It must never make or change a table: its definition is shipped, and whoever owns the
//! database applies it.

#[cfg(feature = "postgres")]
mod client;
#[cfg(all(test, feature = "postgres"))]
mod tests;

#[cfg(not(feature = "postgres"))]
use super::absent as client;
use super::http::secret::SecretSource;
use super::net::link::LinkPlan;
use super::net::{PASSWORD_ENV, PASSWORD_FILE, TIMEOUT, TLS};
use super::{BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan};
use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "postgres",
    doc: "rows of a PostgreSQL table; needs the feature `postgres`",
    fields: FIELDS,
    formats: Formats::Own,
    check,
};

const FIELDS: &[Field] = &[
    Field::required("address", Kind::Str, "HOST or HOST:PORT; without a port 5432"),
    Field::required("database", Kind::Str, "the database"),
    Field::new("table", Kind::Str, TABLE, "the table, with its schema if that is not in the search path"),
    Field::required("user", Kind::Str, "name to sign in with; it needs INSERT on the table, and SELECT on its `id`"),
    PASSWORD_ENV,
    PASSWORD_FILE,
    TLS,
    super::lanes::CONCURRENCY,
    TIMEOUT,
];

const TABLE: &str = "authtap_events";
/// The longest identifier, in bytes (PostgreSQL's NAMEDATALEN - 1).
const MAX_IDENTIFIER: usize = 63;

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let link = LinkPlan::check(map, Some(5432), problems);
    let word = |key: &str, problems: &mut Problems| {
        let at = map.get(key)?;
        let text = at.str(problems)?;
        if text.is_empty() || text.len() > MAX_IDENTIFIER || text.contains(char::is_control) {
            let hint = format!("1 to {MAX_IDENTIFIER} bytes");
            problems.error_hint(at, format!("`{key}` cannot be {}", at.describe()), &hint);
            return None;
        }
        Some(text.to_owned())
    };
    let (database, user) = (word("database", problems), word("user", problems));
    let table = match map.get("table") {
        None => Some(TABLE.to_owned()),
        Some(at) => at.str(problems).and_then(|text| {
            let plain = |part: &str| {
                let letters = part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                letters && part.len() <= MAX_IDENTIFIER && part.bytes().next().is_some_and(|b| !b.is_ascii_digit())
            };
            // Nothing else goes into a statement, so nothing needs to be quoted but for its case.
            if text.split('.').count() > 2 || !text.split('.').all(plain) {
                let hint = "letters, digits and `_`: authtap_events, or security.authtap_events";
                problems.error_hint(at, format!("`table` cannot be {}", at.describe()), hint);
                return None;
            }
            Some(text.to_owned())
        }),
    };
    let password = SecretSource::check(map, "password_env", "password_file", problems);
    Some(Box::new(Plan { link: link?, database: database?, user: user?, password: password?, table: table? }))
}

#[derive(Debug)]
#[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "only the client reads it"))]
struct Plan {
    link: LinkPlan,
    database: String,
    user: String,
    password: Option<SecretSource>,
    /// Plain identifiers, with a `.` between them.
    table: String,
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        client::build(self, cx)
    }
}
