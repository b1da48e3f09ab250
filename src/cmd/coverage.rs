//! `authtap coverage`: the vocabulary as a checklist against a configuration.
//!
//! Reads the configuration, and the history if asked to. What it names is what *can* be emitted; what
//! was observed stands beside it, and is never taken for what can be. A type that a route names for an
//! outcome that none of its rules decides, or behind one that takes all its requests, cannot be.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use serde_json::json;

use super::events::moment;
use super::{FAILED, USAGE, complain, print, recorded};
use crate::cli::Coverage;
use crate::config::settings::Config;
use crate::event::kind::{Known, Tier, VOCABULARY};
use crate::filter::Filter;
use crate::history::{History, Query};

/// The file that is read if none is named and this one is there.
const USUAL_FILE: &str = "routes.yaml";

/// What capture without routes can tell, as docs/auto.md has it.
pub const AUTO: &[&str] = &[
    "user.login.success",
    "user.login.failed",
    "user.login.rejected",
    "user.login.unknown",
    "user.mfa.challenge.requested",
    "user.mfa.challenge.success",
    "user.mfa.challenge.failed",
    "user.logout",
    "user.created",
    "user.password.reset_requested",
    "user.password.reset_completed",
    "user.password.changed",
    "user.mfa.enabled",
    "user.mfa.disabled",
    "user.email.changed",
    "api_key.created",
    "api_key.used",
];

/// Prints the checklist.
pub fn run(options: &Coverage) -> u8 {
    let file = options.config.clone().or_else(|| Some(PathBuf::from(USUAL_FILE)).filter(|usual| usual.exists()));
    let reported = recorded::config(file.as_deref()).and_then(|config| {
        let seen = if options.observed { Some(observed(options, &config)?) } else { None };
        Ok(report(&config, seen.as_ref(), options.json))
    });
    match reported {
        Ok(text) => print(&text),
        Err(code) => code,
    }
}

/// How many events of each type the history has.
type Observed = BTreeMap<String, u64>;

fn observed(options: &Coverage, config: &Config) -> Result<Observed, u8> {
    let since = moment("--since", &options.since).map_err(|why| {
        complain(&why);
        USAGE
    })?;
    let folder = options.data.clone().unwrap_or_else(|| config.data.clone());
    let query = Query {
        filter: Filter { since: Some(since), ..Filter::default() },
        until: None,
        search: None,
        with_targets: false,
    };
    let mut counts = Observed::new();
    let counted = History::open(&folder).and_then(|history| {
        history.each(&query, &mut |row| {
            *counts.entry(row.event_type.to_owned()).or_default() += 1;
            Ok(true)
        })
    });
    match counted {
        Ok(()) => Ok(counts),
        Err(error) => {
            complain(&error.to_string());
            Err(FAILED)
        }
    }
}

/// One name and what can emit it.
struct Row {
    name: String,
    tier: Option<Tier>,
    meaning: &'static str,
    by: Vec<String>,
    /// How often it was seen, if that was asked.
    seen: Option<u64>,
}

/// The checklist as a table, or as JSON lines.
pub fn report(config: &Config, seen: Option<&Observed>, as_json: bool) -> String {
    let rows = rows(config, seen);
    let mut out = String::new();
    if as_json {
        for row in &rows {
            let mut line =
                json!({"event_type": row.name, "tier": row.tier, "covered": !row.by.is_empty(), "by": row.by});
            if let Some(seen) = row.seen {
                line["observed"] = seen.into();
            }
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
            let seen = row.seen.map_or_else(String::new, |seen| format!("{seen:>8}  "));
            let _ = writeln!(out, "  {sign} {:<width$}  {seen}{by}", row.name);
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
fn rows(config: &Config, observed: Option<&Observed>) -> Vec<Row> {
    let mut by: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |name: &str, who: String| {
        let known = by.entry(name.to_owned()).or_default();
        if !known.contains(&who) {
            known.push(who);
        }
    };
    for route in config.rules.reachable() {
        for event_type in route.possible_types() {
            add(event_type.as_str(), route.id.to_string());
        }
    }
    if config.auto {
        for name in AUTO {
            add(name, "auto".into());
        }
    }
    // A session begins with a login that somebody tells of: a rule, auto, the application, a replica.
    let told_elsewhere = config.hint.is_some() || config.session.share.is_some();
    if told_elsewhere || by.contains_key("user.login.success") {
        for (wanted, name) in [(config.session.created, "session.created"), (config.session.revoked, "session.revoked")]
        {
            if wanted {
                by.entry(name.to_owned()).or_default().push("session memory".into());
            }
        }
    }
    // What was seen and nothing can emit now is worth a line of its own.
    for name in observed.into_iter().flatten().map(|(name, _)| name) {
        by.entry(name.clone()).or_default();
    }
    let seen = |name: &str| observed.map(|seen| seen.get(name).copied().unwrap_or(0));
    let of_the_application = |known: &&Known| !is_ours(known.name);
    let mut rows: Vec<Row> = VOCABULARY
        .iter()
        .filter(of_the_application)
        .map(|known| Row {
            name: known.name.to_owned(),
            tier: known.tier,
            meaning: known.meaning,
            by: by.remove(known.name).unwrap_or_default(),
            seen: seen(known.name),
        })
        .collect();
    by.retain(|name, _| !is_ours(name));
    rows.extend(by.into_iter().map(|(name, by)| Row { seen: seen(&name), name, tier: None, meaning: "", by }));
    rows
}

/// True for what authtap says of itself and what it concludes: no configuration of routes emits it.
fn is_ours(name: &str) -> bool {
    name.starts_with("authtap.") || name.starts_with("detection.")
}
