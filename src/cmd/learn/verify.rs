//! `authtap learn --verify`: a recording replayed by a file and by capture without routes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use super::seen;
use crate::cmd::{DIFFERENT, DONE, print, recorded};
use crate::event::{Event, Outcome};

/// Prints each exchange in which the file says something else than auto: what it misses, what it says
/// beyond that. Exit code 3 if there is one.
pub fn run(from: &Path, file: &Path, as_json: bool) -> Result<u8, u8> {
    let by_file = seen(from, &recorded::config(Some(file))?)?;
    let by_auto = seen(from, &recorded::config(None)?)?;
    let mut out = String::new();
    let (mut wanted, mut missed, mut further, mut differ) = (0_u64, 0_u64, 0_u64, 0_usize);
    for (number, (file, auto)) in by_file.seen.iter().zip(&by_auto.seen).enumerate() {
        let (said, expected) = (said(&file.events), said(&auto.events));
        wanted += expected.values().sum::<u64>();
        let misses = beyond(&expected, &said);
        let adds = beyond(&said, &expected);
        if misses.is_empty() && adds.is_empty() {
            continue;
        }
        differ += 1;
        missed += misses.values().sum::<u64>();
        further += adds.values().sum::<u64>();
        // Writing to a text cannot fail.
        if as_json {
            let line = json!({"number": number + 1, "method": auto.method, "path": auto.path,
                              "missed": misses, "further": adds});
            let _ = writeln!(out, "{line}");
            continue;
        }
        let _ = writeln!(out, "{} {} {}", number + 1, auto.method, auto.path);
        for what in misses.keys() {
            let _ = writeln!(out, "  missed       {what}");
        }
        for what in adds.keys() {
            let _ = writeln!(out, "  only by file {what}");
        }
    }
    let exchanges = by_auto.seen.len();
    let held = wanted - missed;
    if as_json {
        let line = json!({"file": file.display().to_string(), "exchanges": exchanges, "differ": differ,
                          "events": wanted, "missed": missed, "further": further});
        let _ = writeln!(out, "{line}");
    } else {
        let _ = writeln!(
            out,
            "{}: {held} of the {wanted} events that auto sees, {missed} missed, {further} that auto does not see; \
             {differ} of {exchanges} exchanges differ",
            file.display()
        );
    }
    print(&out);
    Ok(if differ == 0 { DONE } else { DIFFERENT })
}

/// Events as far as they are compared, with how often each is there.
fn said(events: &[Event]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for event in events {
        let who = event.actor.label().map_or_else(String::new, |who| format!(" by {who}"));
        // Auto cannot know that a reset may be asked for by anybody; a route says so.
        let outcome = match event.event_type.as_str() {
            "user.password.reset_requested" => Outcome::Requested,
            _ => event.outcome,
        };
        *counts.entry(format!("{} {outcome}{who}", event.event_type)).or_default() += 1;
    }
    counts
}

/// What one has more often than the other.
fn beyond(one: &BTreeMap<String, u64>, other: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let more = one.iter().filter_map(|(what, count)| {
        let more = count.saturating_sub(other.get(what).copied().unwrap_or(0));
        (more > 0).then(|| (what.clone(), more))
    });
    more.collect()
}
