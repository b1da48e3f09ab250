//! `authtap presets`: the shipped presets as a table, or the file of one to begin from.
//!
//! Touches nothing outside the binary.

use std::fmt::Write;

use super::{USAGE, complain, print};
use crate::cli::Presets;
use crate::config::node::{clip, suggest};
use crate::rules::presets::{Head, NAMES, PRESETS, Preset, Verified};

/// Prints the table, or one file.
pub fn run(options: &Presets) -> u8 {
    match &options.name {
        None => print(&if options.json { json_lines() } else { table() }),
        Some(name) => match Preset::named(name) {
            Some(preset) if options.json => print(&json_line(preset)),
            Some(preset) => print(preset.source),
            None => {
                complain(&format!("there is no preset `{}`: {}", clip(name), suggest(name, NAMES)));
                USAGE
            }
        },
    }
}

fn json_lines() -> String {
    PRESETS.iter().map(json_line).collect()
}

fn json_line(preset: &Preset) -> String {
    let head = preset.head();
    let verified = head.as_ref().map(
        |head| serde_json::json!({"how": head.verified.how, "versions": head.verified.versions, "note": head.verified.note}),
    );
    format!("{}\n", serde_json::json!({"name": preset.name, "title": head.map(|h| h.title), "verified": verified}))
}

/// One line a preset, aligned.
pub fn table() -> String {
    let rows: Vec<[String; 3]> = PRESETS
        .iter()
        .filter_map(|preset| {
            let head = preset.head()?;
            Some([preset.name.to_owned(), head.title, verified(&head.verified)])
        })
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    let mut out = String::new();
    for [name, title, verified] in &rows {
        // Writing to a text cannot fail.
        let _ = writeln!(out, "{name:<first$}  {title:<second$}  {verified}");
    }
    out
}

/// The same as Markdown, for `docs/presets.md`.
pub fn markdown() -> String {
    let mut out = String::from("\n| preset | application | known to be true | note |\n| --- | --- | --- | --- |\n");
    for preset in PRESETS {
        let Some(Head { title, verified, .. }) = preset.head() else { continue };
        let versions =
            if verified.versions.is_empty() { String::new() } else { format!(": {}", verified.versions.join(", ")) };
        let _ = writeln!(
            out,
            "| `{}` | {title} | {}{versions} | {} |",
            preset.name,
            verified.how,
            verified.note.replace('|', "\\|")
        );
    }
    out
}

/// How a preset is known to be true, in a few words.
pub fn verified(verified: &Verified) -> String {
    let how = match verified.how {
        "run" => "run against",
        "source" => "from the source of",
        _ => "from the documents of",
    };
    match verified.versions.is_empty() {
        true => how.rsplit_once(' ').map_or(how, |(before, _)| before).to_owned(),
        false => format!("{how} {}", verified.versions.join(", ")),
    }
}
