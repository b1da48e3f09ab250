//! One person's story: their events in order, with places and devices marked that were not seen of
//! them before.
//!
//! What is known of a person grows only by what succeeded: an attacker who fails from a new country
//! must not make that country an ordinary one.

use std::collections::HashSet;

use serde_json::Value;

use super::{History, HistoryError, Query};
use crate::event::Timestamp;
use crate::event::line;

/// Writes the story, a line for each event, days apart; answers how many events it has.
///
/// # Errors
/// The file cannot be read, or `write` failed.
pub fn tell(
    history: &History,
    query: &Query,
    write: &mut dyn FnMut(&str) -> std::io::Result<()>,
) -> Result<u64, HistoryError> {
    let mut known = Known::default();
    let mut day = String::new();
    let mut told = 0;
    let shown = query.filter.clone().from_now();
    let since = shown.since.map_or(i64::MIN, |since| since.moment().as_millis());
    // What came before is read too: without it everything would be new.
    let mut whole = Query { with_targets: true, ..query.clone() };
    whole.filter.since = None;
    whole.filter.limit = None;
    history.each(&whole, &mut |row| {
        let event: Value = serde_json::from_str(row.line).unwrap_or_default();
        let marks = known.see(&event);
        if row.time < since {
            return Ok(true);
        }
        let moment = Timestamp::from_millis(row.time).to_string();
        let today = moment.get(..10).unwrap_or_default();
        if today != day {
            let gap = if day.is_empty() { "" } else { "\n" };
            write(&format!("{gap}{today}\n"))?;
            today.clone_into(&mut day);
        }
        let marks = if marks.is_empty() { String::new() } else { format!("  ← {}", marks.join(", ")) };
        write(&format!("{}{marks}\n", line::pretty(&event)))?;
        told += 1;
        Ok(shown.limit.is_none_or(|limit| told < limit))
    })?;
    Ok(told)
}

#[derive(Default)]
struct Known {
    begun: bool,
    places: HashSet<String>,
    devices: HashSet<String>,
}

impl Known {
    /// What of the event was not known of this person. Of their first event nothing is.
    fn see(&mut self, event: &Value) -> Vec<String> {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let joined = |parts: [&str; 2]| -> String {
            let there: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            there.join(" ")
        };
        let place = joined([text("/metadata/geo/country"), text("/metadata/geo/city")]);
        let device = joined([text("/metadata/client/browser"), text("/metadata/client/os")]);
        let mut marks = Vec::new();
        for (what, seen, known) in [("place", place, &mut self.places), ("device", device, &mut self.devices)] {
            if seen.is_empty() {
                continue;
            }
            if self.begun && !known.contains(&seen) {
                // Whatever a database or a header says is a stranger's text: one line, no escapes.
                let shown = crate::event::Text::other(&seen).map(|t| t.to_string()).unwrap_or_default();
                marks.push(format!("new {what}: {shown}"));
            }
            if text("/outcome") == "success" {
                known.insert(seen);
            }
        }
        self.begun |= text("/outcome") == "success";
        marks
    }
}
