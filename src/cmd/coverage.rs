//! `authtap coverage`: the vocabulary as a checklist against a configuration.
//!
//! Reads the configuration and nothing else. What it names is what *can* be emitted.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use serde_json::json;

use super::{print, recorded};
use crate::cli::Coverage;
use crate::config::settings::Config;
use crate::event::kind::{Known, Tier, VOCABULARY};

/// The file that is read if none is named and this one is there.
const USUAL_FILE: &str = "routes.yaml";

/// Prints the checklist.
pub fn run(options: &Coverage) -> u8 {
    let file = options.config.clone().or_else(|| Some(PathBuf::from(USUAL_FILE)).filter(|usual| usual.exists()));
    match recorded::config(file.as_deref()) {
        Ok(config) => print(&report(&config, options.json)),
        Err(code) => code,
    }
}

/// One name and what can emit it.
struct Row {
    name: String,
    tier: Option<Tier>,
    meaning: &'static str,
    by: Vec<String>,
}

/// The checklist as a table, or as JSON lines.
pub fn report(config: &Config, as_json: bool) -> String {
    let rows = rows(config);
    let mut out = String::new();
    if as_json {
        for row in &rows {
            let line = json!({"event_type": row.name, "tier": row.tier, "covered": !row.by.is_empty(), "by": row.by});
            // Writing to a text cannot fail.
            let _ = writeln!(out, "{line}");
        }
        return out;
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for (title, tier) in
        [("must", Some(Tier::Must)), ("should", Some(Tier::Should)), ("nice", Some(Tier::Nice)), ("further", None)]
    {
        let of_tier: Vec<&Row> = rows.iter().filter(|row| row.tier == tier).collect();
        let covered = of_tier.iter().filter(|row| !row.by.is_empty()).count();
        let _ = writeln!(out, "{title}: {covered} of {}", of_tier.len());
        for row in of_tier {
            let sign = if row.by.is_empty() { "-" } else { "+" };
            let by = if row.by.is_empty() { row.meaning.to_owned() } else { shortened(&row.by) };
            let _ = writeln!(out, "  {sign} {:<width$}  {by}", row.name);
        }
    }
    out
}

/// The first few, and how many more.
fn shortened(by: &[String]) -> String {
    const SHOWN: usize = 4;
    let first = by.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match by.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{first} and {more} more"),
        _ => first,
    }
}

/// Every name but authtap's own notices and findings, in the order of the vocabulary; then the
/// configuration's own.
fn rows(config: &Config) -> Vec<Row> {
    let mut by: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |name: &str, who: String| {
        let known = by.entry(name.to_owned()).or_default();
        if !known.contains(&who) {
            known.push(who);
        }
    };
    for route in config.rules.routes() {
        for event_type in route.all_types() {
            add(event_type.as_str(), route.id.to_string());
        }
    }
    if config.session.created {
        add("session.created", "session memory".into());
    }
    if config.session.revoked {
        add("session.revoked", "session memory".into());
    }
    let ours = |known: &&Known| !known.name.starts_with("authtap.") && !known.name.starts_with("detection.");
    let mut rows: Vec<Row> = VOCABULARY
        .iter()
        .filter(ours)
        .map(|known| Row {
            name: known.name.to_owned(),
            tier: known.tier,
            meaning: known.meaning,
            by: by.remove(known.name).unwrap_or_default(),
        })
        .collect();
    rows.extend(by.into_iter().map(|(name, by)| Row { name, tier: None, meaning: "", by }));
    rows
}
