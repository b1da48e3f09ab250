//! One event as one line for a person at a terminal.
//!
//! Takes the public JSON rather than an [`Event`](super::Event), because `tail` reads events that
//! came over a wire. All text in it may have been written by an attacker, so every piece is
//! cleaned and capped here once more; nothing of an event reaches the terminal but through
//! [`clean`]. The invariant: whatever the JSON holds, the result is one line, and the only escape
//! sequences in it are the colours set here (a caller without colours strips them with `anstream`).

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use super::text::Text;
use super::time::Timestamp;

#[cfg(test)]
mod tests;

/// Width of the column of event types: the longest name of the vocabulary.
const TYPE: usize = 29;
/// Width of the column of actors.
const ACTOR: usize = 24;
/// Width of the column of addresses: any IPv4 address.
const ADDRESS: usize = 15;
/// Width of the column of country codes.
const COUNTRY: usize = 2;
/// Width of the column of browsers and systems.
const CLIENT: usize = 18;
/// The most characters of a piece that may run over its column.
const LONGEST: usize = 48;
/// How much of a session's hash is shown, in characters: enough to tell sessions apart by eye.
const SESSION: usize = 10;

const PLAIN: Style = Style::new();
const DIM: Style = Style::new().dimmed();

/// The line, styled with ANSI colours, without a line end: UTC time, sign of the outcome, type,
/// actor, address, country, client, then what there is of reason, target, session and route.
/// What is missing or of the wrong kind stays blank; a missing actor is `-`.
pub fn pretty(event: &Value) -> String {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    let piece = |pointer: &str, cap: usize| text(pointer).and_then(|t| clean(t, cap)).unwrap_or_default();

    let mut line = Line::default();
    line.cell(&clock(text("/timestamp")), 8, DIM);
    let (sign, colour) = sign(text("/outcome").unwrap_or_default());
    line.cell(sign, 1, colour);
    line.cell(&piece("/event_type", LONGEST), TYPE, PLAIN);
    let actor = ["/actor/email", "/actor/login", "/actor/id"].into_iter().find_map(|p| clean(text(p)?, LONGEST));
    line.cell(actor.as_deref().unwrap_or("-"), ACTOR, Style::new().bold());
    line.cell(&piece("/metadata/ip_address", LONGEST), ADDRESS, PLAIN);
    line.cell(&piece("/metadata/geo/country", COUNTRY), COUNTRY, PLAIN);
    let client = joined(&piece("/metadata/client/browser", CLIENT), "/", &piece("/metadata/client/os", CLIENT));
    line.cell(&clean(&client, CLIENT).unwrap_or_default(), CLIENT, DIM);

    line.more(&piece("/reason", LONGEST), colour);
    let named = ["/target/email", "/target/id"].into_iter().find_map(|p| clean(text(p)?, LONGEST));
    let target = joined(&piece("/target/type", LONGEST), " ", &named.unwrap_or_default());
    if !target.is_empty() {
        line.more(&format!("→ {target}"), PLAIN);
    }
    // Cut without an ellipsis: the beginning of a hash is a name of its own.
    let session = text("/metadata/session_id").and_then(|t| Text::capped(t, SESSION));
    line.more(session.as_ref().map_or("", Text::as_str), DIM);
    line.more(&joined(&piece("/source/route", LONGEST), "/", &piece("/source/rule", LONGEST)), DIM);
    line.out
}

/// A sign of one character for each outcome, told apart by shape as well as by colour.
fn sign(outcome: &str) -> (&'static str, Style) {
    let colour = |c: AnsiColor| Style::new().fg_color(Some(c.into()));
    match outcome {
        "success" => ("✓", colour(AnsiColor::Green)),
        "failure" => ("✗", colour(AnsiColor::Red)),
        "challenge" => ("?", colour(AnsiColor::Yellow)),
        "requested" => ("+", colour(AnsiColor::Yellow)),
        "rejected" => ("!", colour(AnsiColor::Magenta)),
        _ => ("·", DIM),
    }
}

/// `HH:MM:SS` in UTC, whatever the zone of this machine: the same event reads the same everywhere.
fn clock(timestamp: Option<&str>) -> String {
    // RFC 3339 puts the time of day behind the first `T`; printing anew brings offsets to UTC.
    let moment = timestamp.filter(|t| t.len() <= 64).and_then(Timestamp::parse).map(|t| t.to_string());
    let time = moment.as_deref().and_then(|m| m.split_once('T')).and_then(|(_, time)| time.get(..8));
    time.unwrap_or("--:--:--").to_owned()
}

/// At most `cap` characters of one printable piece, the last an ellipsis if it was cut; `None` if
/// nothing is left.
fn clean(text: &str, cap: usize) -> Option<String> {
    let text = Text::capped(text, cap.saturating_add(1))?;
    // What has no width would only serve to make two names look alike.
    let shown = |c: &char| !matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}');
    let mut shown: Vec<char> = text.as_str().chars().filter(shown).collect();
    if shown.len() > cap {
        shown.truncate(cap.saturating_sub(1));
        shown.push('…');
    }
    (!shown.is_empty()).then(|| shown.into_iter().collect())
}

fn joined(left: &str, between: &str, right: &str) -> String {
    let between = if left.is_empty() || right.is_empty() { "" } else { between };
    format!("{left}{between}{right}")
}

/// Cells with one space between them; padding is written only when something follows it.
#[derive(Default)]
struct Line {
    out: String,
    owed: usize,
}

impl Line {
    /// A cell of a fixed column; a longer text pushes the rest to the right.
    fn cell(&mut self, text: &str, width: usize, style: Style) {
        if !text.is_empty() {
            self.out.extend(std::iter::repeat_n(' ', std::mem::take(&mut self.owed)));
            if style.is_plain() {
                self.out.push_str(text);
            } else {
                self.out.push_str(&format!("{style}{text}{style:#}"));
            }
        }
        self.owed += width.saturating_sub(text.chars().count()) + 1;
    }

    /// A piece after the columns; takes no room if it is empty.
    fn more(&mut self, text: &str, style: Style) {
        if !text.is_empty() {
            self.cell(text, 0, style);
        }
    }
}
