//! `authtap events`: the history, searched, counted, told as a story, or asked in SQL.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::Value;

use super::{DONE, FAILED, USAGE, complain, filter_of};
use crate::cli::{CountBy, Events};
use crate::config::settings::DEFAULT_DATA;
use crate::event::{Timestamp, line};
use crate::filter::{Filter, Since};
use crate::history::{History, HistoryError, Query, Row, story};

/// Columns of `--csv`, each with its place in the event.
const COLUMNS: &[(&str, &str)] = &[
    ("timestamp", "/timestamp"),
    ("event_type", "/event_type"),
    ("outcome", "/outcome"),
    ("reason", "/reason"),
    ("actor_id", "/actor/id"),
    ("actor_email", "/actor/email"),
    ("actor_login", "/actor/login"),
    ("ip_address", "/metadata/ip_address"),
    ("country", "/metadata/geo/country"),
    ("city", "/metadata/geo/city"),
    ("browser", "/metadata/client/browser"),
    ("os", "/metadata/client/os"),
    ("user_agent", "/metadata/user_agent"),
    ("method", "/metadata/method"),
    ("route", "/source/route"),
    ("id", "/id"),
];

/// Answers a question to the history.
pub fn run(options: &Events) -> u8 {
    let query = match query(options) {
        Ok(query) => query,
        Err(why) => {
            complain(&why);
            return USAGE;
        }
    };
    let folder = options.data.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_DATA));
    let answered = History::open(&folder).and_then(|mut history| {
        let mut out = io::BufWriter::new(anstream::stdout());
        match (&options.sql, options.count_by, options.story) {
            (Some(question), ..) => sql(&mut history, question, options, &mut out),
            (None, Some(by), _) => count(&history, &query, by, options, &mut out),
            (None, None, true) => story::tell(&history, &query, &mut |text| out.write_all(text.as_bytes())).map(drop),
            (None, None, false) => list(&history, &query, options, &mut out),
        }?;
        out.flush().map_err(HistoryError::from)
    });
    finish(answered)
}

/// The exit code; a reader that has gone away is a quiet end.
pub(super) fn finish(answered: Result<(), HistoryError>) -> u8 {
    match answered {
        Ok(()) => DONE,
        Err(HistoryError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => DONE,
        Err(error @ HistoryError::Refused(_)) => {
            complain(&error.to_string());
            USAGE
        }
        Err(error) => {
            complain(&error.to_string());
            FAILED
        }
    }
}

fn query(options: &Events) -> Result<Query, String> {
    let filter = filter_of(&options.which, options.limit)?;
    let until = options.until.as_deref().map(|text| moment("--until", text)).transpose()?;
    if options.story && options.which.actor.is_none() {
        return Err("--story tells of one person: name them with --actor".into());
    }
    Ok(Query { filter, until, search: options.search.clone(), with_targets: false })
}

/// A moment as the flags have it.
pub(super) fn moment(flag: &str, text: &str) -> Result<Since, String> {
    let read =
        Filter::from_query([("since", text)]).map_err(|e| e.to_string().replace("`since`", &format!("`{flag}`")))?;
    read.since.ok_or_else(|| format!("`{flag}` needs a moment"))
}

/// Writes what a question finds, in the wanted form.
pub(super) fn list(
    history: &History,
    query: &Query,
    options: &Events,
    out: &mut dyn Write,
) -> Result<(), HistoryError> {
    if options.csv {
        let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        writeln!(out, "{}", names.join(","))?;
    }
    history.each(query, &mut |row| {
        show(row, options.json, options.csv, out)?;
        Ok(true)
    })
}

/// Writes one event.
pub(super) fn show(row: &Row<'_>, json: bool, csv: bool, out: &mut dyn Write) -> io::Result<()> {
    if json {
        return writeln!(out, "{}", row.line);
    }
    let event: Value = serde_json::from_str(row.line).unwrap_or_default();
    if csv {
        let cells: Vec<String> =
            COLUMNS.iter().map(|(_, place)| event.pointer(place).map(cell).unwrap_or_default()).collect();
        return writeln!(out, "{}", cells.join(","));
    }
    // The day stands before the time of day, which is all that a live line has.
    let moment = Timestamp::from_millis(row.time).to_string();
    writeln!(out, "{} {}", moment.get(..10).unwrap_or_default(), line::pretty(&event))
}

/// One cell (RFC 4180). What a spreadsheet would take for a formula gets a quote before it: these
/// texts were written by strangers.
fn cell(value: &Value) -> String {
    let mut text = match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    if value.is_string() && text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        text.insert(0, '\'');
    }
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

fn count(
    history: &History,
    query: &Query,
    by: CountBy,
    options: &Events,
    out: &mut dyn Write,
) -> Result<(), HistoryError> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut whole = query.clone();
    whole.filter.limit = None;
    history.each(&whole, &mut |row| {
        let hour;
        let key = match by {
            CountBy::Type => row.event_type,
            CountBy::Actor => row.actor.unwrap_or("-"),
            CountBy::Ip => row.ip.unwrap_or("-"),
            CountBy::Country => row.country.unwrap_or("-"),
            CountBy::Hour => {
                hour = format!("{}:00Z", Timestamp::from_millis(row.time).to_string().get(..13).unwrap_or_default());
                &hour
            }
        };
        match counts.get_mut(key) {
            Some(count) => *count += 1,
            None => drop(counts.insert(key.to_owned(), 1)),
        }
        Ok(true)
    })?;
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    match by {
        CountBy::Hour => counts.sort(),
        _ => counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0))),
    }
    let most = options.limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let name = by.as_str();
    if options.csv {
        writeln!(out, "{name},events")?;
    }
    for (key, count) in counts.iter().take(most) {
        match (options.json, options.csv) {
            (true, _) => writeln!(out, "{}", serde_json::json!({ name: key, "events": count }))?,
            (_, true) => writeln!(out, "{},{count}", cell(&Value::String(key.clone())))?,
            _ => writeln!(out, "{count:>10}  {key}")?,
        }
    }
    Ok(())
}

fn sql(history: &mut History, question: &str, options: &Events, out: &mut dyn Write) -> Result<(), HistoryError> {
    let names = std::cell::RefCell::new(Vec::<String>::new());
    let out = std::cell::RefCell::new(out);
    let plain = |value: &Value| match value {
        // A terminal takes no control characters of strangers.
        Value::String(text) => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    history.sql(
        question,
        &mut |columns| {
            names.borrow_mut().extend_from_slice(columns);
            match (options.json, options.csv) {
                (true, _) => Ok(()),
                (_, true) => writeln!(out.borrow_mut(), "{}", columns.join(",")),
                _ => writeln!(out.borrow_mut(), "{}", columns.join("\t")),
            }
        },
        &mut |values| {
            let mut out = out.borrow_mut();
            if options.json {
                let object: serde_json::Map<String, Value> = names.borrow().iter().cloned().zip(values).collect();
                return writeln!(out, "{}", Value::Object(object));
            }
            match options.csv {
                true => writeln!(out, "{}", values.iter().map(cell).collect::<Vec<_>>().join(",")),
                false => writeln!(out, "{}", values.iter().map(plain).collect::<Vec<_>>().join("\t")),
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_quoted_where_it_must_be_and_never_a_formula() {
        let cells = ["plain", "a,b", "say \"x\"", "=1+1", "@x", "-1"].map(|text| cell(&Value::String(text.into())));
        assert_eq!(cells, ["plain", "\"a,b\"", "\"say \"\"x\"\"\"", "'=1+1", "'@x", "'-1"]);
        assert_eq!(cell(&serde_json::json!(-1.5)), "-1.5", "a number is one");
    }
}
