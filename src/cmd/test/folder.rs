//! A folder of recorded exchanges, and beside them the events that they must give.
//!
//! The recordings are replayed as `authtap replay` does it, by one configuration. What is expected stands
//! in `expected.jsonl`: an event a line, with the number of its exchange and any of the keys of
//! [`KEYS`]; what a line does not name may be anything. Without a line for it, an exchange gives no event.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::super::{DIFFERENT, DONE, FAILED, USAGE, recorded};
use super::{Done, load};
use crate::app::offline::Offline;
use crate::cli::Test;
use crate::event::Event;
use crate::har;
use crate::rules::extract::shown_path;
use crate::rules::path::compared;

/// The file of expectations.
const EXPECTED: &str = "expected.jsonl";
/// The configuration of a folder, and of the working directory.
const ROUTES: &str = "routes.yaml";
/// What of an event is compared.
const KEYS: [&str; 8] = ["event_type", "outcome", "reason", "actor", "target", "organization", "method", "rule"];
/// The largest file of expectations that is read, in bytes.
const MAX_EXPECTED: u64 = 64 << 20;

/// Events by the number of their exchange, from 1; those of no exchange under 0.
type ByExchange = BTreeMap<usize, Vec<Map<String, Value>>>;

/// Replays a folder and compares, or writes what it gives.
pub fn test(folder: &Path, options: &Test) -> Done {
    match outcome(folder, options) {
        Ok(done) => done,
        Err((code, why)) => {
            let err = if why.is_empty() { why } else { format!("authtap: {why}\n") };
            Done { code, out: String::new(), err }
        }
    }
}

fn outcome(folder: &Path, options: &Test) -> Result<Done, (u8, String)> {
    let file = options.config.clone().unwrap_or_else(|| {
        Some(folder.join(ROUTES)).filter(|own| own.exists()).unwrap_or_else(|| PathBuf::from(ROUTES))
    });
    let config = load(&file).map_err(|why| (USAGE, why.trim_end().trim_start_matches("authtap: ").to_owned()))?;
    let mut offline =
        Offline::new(&config).map_err(|error| (super::super::serve::code_of(&error), error.to_string()))?;
    // What is wrong with a recording is said by the one who reads it.
    let exchanges = recorded::exchanges(folder, offline.limits()).map_err(|code| (code, String::new()))?;
    let mut names = Vec::new();
    let mut found = ByExchange::new();
    for (i, mut exchange) in exchanges.into_iter().enumerate() {
        let path = shown_path(&compared(exchange.request.uri.path()), &[]);
        names.push(format!("{} {path}", exchange.request.method));
        // Whatever id it had may be a stranger's, and not its own alone.
        exchange.request_id = (i + 1).to_string();
        let captured = offline.captured(exchange);
        let waited = offline.before(&captured);
        note(&waited, &mut found);
        note(&offline.events_of(&captured), &mut found);
    }
    note(&offline.end(), &mut found);
    let at = folder.join(EXPECTED);
    if options.bless {
        let events: usize = found.values().map(Vec::len).sum();
        write(&at, &found).map_err(|error| (FAILED, format!("cannot write {}: {error}", at.display())))?;
        let out = format!("{}: {events} events of {} exchanges are expected from now on\n", at.display(), names.len());
        return Ok(Done { code: DONE, out: if options.json { String::new() } else { out }, err: String::new() });
    }
    let expected = read(&at)?;
    Ok(compare(folder, &names, &expected, found, options.json))
}

/// Puts events beside their exchanges.
fn note(events: &[Event], found: &mut ByExchange) {
    for event in events {
        let id = event.metadata.request.as_ref().and_then(|request| request.id.as_str().parse().ok());
        found.entry(id.unwrap_or(0)).or_default().push(summary(event));
    }
}

/// What of an event may be expected.
fn summary(event: &Event) -> Map<String, Value> {
    let whole = serde_json::to_value(event).unwrap_or_default();
    let place = |key: &str| match key {
        "method" => whole.pointer("/metadata/method").cloned(),
        "rule" => {
            let part = |name: &str| whole.pointer(&format!("/source/{name}")).and_then(Value::as_str);
            part("rule")
                .map(|rule| part("route").map_or_else(|| rule.to_owned(), |route| format!("{route}/{rule}")).into())
        }
        key => whole.get(key).cloned(),
    };
    KEYS.iter().filter_map(|key| Some(((*key).to_owned(), place(key)?))).collect()
}

fn write(at: &Path, found: &ByExchange) -> std::io::Result<()> {
    let mut out = String::new();
    for (number, events) in found {
        for event in events {
            // The number first, for whoever reads it.
            let rest = Value::Object(event.clone()).to_string();
            let rest = rest.strip_prefix('{').unwrap_or(&rest);
            // Writing to a text cannot fail.
            let _ = writeln!(out, "{{\"exchange\":{number},{rest}");
        }
    }
    std::fs::write(at, out)
}

fn read(at: &Path) -> Result<ByExchange, (u8, String)> {
    if !at.exists() {
        let why = "is not there; look at what `authtap explain` shows, then write it with --bless";
        return Err((USAGE, format!("{} {why}", at.display())));
    }
    let bytes = har::bounded(at, MAX_EXPECTED).map_err(|error| (USAGE, error.to_string()))?;
    let text = String::from_utf8_lossy(&bytes);
    let mut expected = ByExchange::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |why: &str| (USAGE, format!("{}, line {}: {why}", at.display(), i + 1));
        let mut event: Map<String, Value> = serde_json::from_str(line).map_err(|_| wrong("not a JSON object"))?;
        let number = event.remove("exchange").and_then(|n| n.as_u64()).and_then(|n| usize::try_from(n).ok());
        let number = number.ok_or_else(|| wrong("`exchange` says which exchange gives the event, from 1"))?;
        if let Some(key) = event.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(wrong(&format!("`{key}` is not compared; {} are", KEYS.join(", "))));
        }
        expected.entry(number).or_default().push(event);
    }
    Ok(expected)
}

fn compare(folder: &Path, names: &[String], expected: &ByExchange, mut found: ByExchange, as_json: bool) -> Done {
    let mut out = String::new();
    let (mut compared, mut failed) = (0_usize, 0_usize);
    let mut numbers: Vec<usize> = expected.keys().chain(found.keys()).copied().collect();
    numbers.sort_unstable();
    numbers.dedup();
    for number in numbers {
        let mut left = found.remove(&number).unwrap_or_default();
        let mut missing = Vec::new();
        for wanted in expected.get(&number).into_iter().flatten() {
            compared += 1;
            let fits = |event: &Map<String, Value>| wanted.iter().all(|(key, value)| event.get(key) == Some(value));
            match left.iter().position(fits) {
                Some(at) => {
                    left.remove(at);
                }
                None => missing.push(wanted),
            }
        }
        let ok = missing.is_empty() && left.is_empty();
        failed += usize::from(!ok);
        let name = number.checked_sub(1).and_then(|at| names.get(at)).map_or("no exchange", String::as_str);
        // Writing to a text cannot fail.
        if as_json {
            let line = json!({"folder": folder.display().to_string(), "exchange": number, "ok": ok,
                              "missing": missing, "unexpected": left});
            let _ = writeln!(out, "{line}");
        } else if !ok {
            let _ = writeln!(out, "FAIL  {number} {name}");
            for wanted in missing {
                let _ = writeln!(out, "      expected {}", shown(wanted));
            }
            for event in left {
                let _ = writeln!(out, "      found    {}", shown(&event));
            }
        }
    }
    if !as_json {
        let _ = writeln!(
            out,
            "{}: {compared} events expected of {} exchanges, {failed} exchanges differ",
            folder.display(),
            names.len()
        );
    }
    Done { code: if failed == 0 { DONE } else { DIFFERENT }, out, err: String::new() }
}

fn shown(event: &Map<String, Value>) -> String {
    let parts = event.iter().map(|(key, value)| match value {
        Value::String(text) => format!("{key} {text}"),
        other => format!("{key} {other}"),
    });
    parts.collect::<Vec<_>>().join(", ")
}
