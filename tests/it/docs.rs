//! The documents say what the program does: no name of the vocabulary, key of the event or metric
//! is left out, and no link leads nowhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use authtap::config::settings;
use authtap::event::kind::VOCABULARY;
use authtap::event::{Outcome, schema};
use authtap::telemetry::Metrics;
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn every_name_of_the_vocabulary_is_in_the_event_schema_with_its_tier() {
    let document = read("docs/event-schema.md");
    for known in VOCABULARY {
        let row = document.lines().find(|line| line.starts_with(&format!("| `{}` |", known.name)));
        let row = row.unwrap_or_else(|| panic!("docs/event-schema.md has no row for {}", known.name));
        let tier = known.tier.map_or(String::new(), |t| format!("{t:?}").to_lowercase());
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!(cells.get(2), Some(&tier.as_str()), "the tier of {}", known.name);
        assert_eq!(cells.get(3), Some(&known.meaning), "the meaning of {}", known.name);
    }
}

/// Every key of the schema, with those of the objects in it: `actor.email`.
fn keys(schema: &Value, before: &str, found: &mut Vec<String>) {
    for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if before.is_empty() { name.clone() } else { format!("{before}.{name}") };
        keys(inner, &path, found);
        found.push(path);
    }
}

#[test]
fn every_key_of_an_event_is_in_the_event_schema() {
    let document = read("docs/event-schema.md");
    let mut all = Vec::new();
    keys(&schema::json_schema(), "", &mut all);
    assert!(all.len() > 40, "the schema was not walked: {all:?}");
    for key in all {
        assert!(document.contains(&format!("| `{key}` |")), "docs/event-schema.md has no row for {key}");
    }
}

#[test]
fn every_outcome_is_in_the_event_schema() {
    let document = read("docs/event-schema.md");
    for outcome in Outcome::ALL {
        assert!(document.contains(&format!("| `{outcome}` |")), "docs/event-schema.md has no row for {outcome}");
    }
}

#[test]
fn every_metric_is_in_the_operations_page_and_no_other() {
    let document = read("docs/operations.md");
    let metrics = Metrics::new();
    // A family with labels is shown once it has counted something.
    metrics.undecided("login");
    metrics.events("user.logout", "success", 1);
    metrics.reload(true);
    metrics.flows_ended("finished", 1);
    metrics.follow_up("decided");
    metrics.share_lookup("found", 1);
    metrics.share_write("written", 1);
    metrics.sink("stdout", "delivered", 1);
    metrics.sink_lag("stdout", 0, 0, std::time::Duration::ZERO);
    let rendered = metrics.render();
    let there: BTreeSet<&str> = rendered.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(there.len() > 10, "{rendered}");
    let told: BTreeSet<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next())
        .filter(|name| name.starts_with("authtap_"))
        .collect();
    // A counter's samples end in `_total`, its family does not.
    let told: BTreeSet<&str> = told.into_iter().map(|name| name.strip_suffix("_total").unwrap_or(name)).collect();
    assert_eq!(there, told);
}

#[test]
fn every_limit_and_time_is_in_the_table_of_limits_with_its_default() {
    let document = read("docs/deployment.md");
    let table =
        document.split("\n## Limits\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the section");
    let limits = authtap::proxy::limits::FIELDS.iter().map(|field| ("limits", field));
    let timeouts = authtap::proxy::upstream::TIMEOUT_FIELDS.iter().map(|field| ("timeouts", field));
    // The drain has a section of its own.
    for (section, field) in limits.chain(timeouts).filter(|(_, field)| field.name != "drain") {
        let key = format!("`{section}.{}`", field.name);
        let digits = |text: &str| -> String { text.chars().filter(char::is_ascii_digit).collect() };
        let told = table.split(&key).skip(1).any(|after| {
            let default = after.trim_start_matches(',').trim_start();
            let number = default.split(' ').next().unwrap_or_default();
            let seconds = number.parse::<f64>().map(|s| format!("{}", s * 1000.0)).unwrap_or_default();
            digits(number) == digits(field.default) || seconds == digits(field.default)
        });
        assert!(told, "the table of limits in docs/deployment.md lacks {key} with its default {}", field.default);
    }
}

/// The fenced blocks of a language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let parts = text.split("\n```").skip(1).step_by(2);
    parts.filter_map(|part| part.split_once('\n')).filter(|(tag, _)| *tag == language).map(|(_, body)| body).collect()
}

#[test]
fn the_configuration_of_the_readme_has_neither_errors_nor_warnings() {
    let document = read("README.md");
    let whole: Vec<&str> = blocks(&document, "yaml").into_iter().filter(|b| b.starts_with("version:")).collect();
    assert_eq!(whole.len(), 1);
    let (config, problems) = settings::check("routes.yaml", whole[0]);
    assert!(problems.is_empty(), "{problems}");
    assert_eq!(config.map(|c| c.rules.routes().len()), Some(2));
}

#[test]
fn every_trap_has_the_test_that_the_page_of_traps_names() {
    let document = read("docs/traps.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| ")).skip(2);
    let mut named = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> =
            row.trim_end_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`')).collect();
        let [_, test, file] = cells[..] else { panic!("docs/traps.md: a row without trap, test and file: {row}") };
        assert!(read(file).contains(&format!("\n#[test]\nfn {test}()")), "{file} has no test {test}");
        named.insert(test.to_owned());
    }
    // And no trap's test is left out of the page.
    let file = read("tests/it/traps.rs");
    for test in file.split("#[test]\nfn ").skip(1).filter_map(|rest| rest.split('(').next()) {
        assert!(named.contains(test), "docs/traps.md does not name {test}");
    }
    assert!(named.len() > 40, "{}", named.len());
}

fn markdown(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
            markdown(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The targets of `[text](target)` outside fenced code.
fn links(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if !fenced {
            found.extend(line.split("](").skip(1).filter_map(|rest| rest.split(')').next()));
        }
    }
    found
}

/// The anchor that a heading gets: lower case, punctuation dropped, spaces as hyphens.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_relative_link_resolves() {
    let mut files = Vec::new();
    markdown(Path::new(ROOT), &mut files);
    assert!(files.iter().any(|f| f.ends_with("README.md")));
    let mut broken = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for link in links(&text).into_iter().filter(|l| !l.contains("://") && !l.starts_with("mailto:")) {
            let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { file.clone() } else { file.with_file_name(path) };
            let resolves = target.exists()
                && (fragment.is_empty() || {
                    let text = fs::read_to_string(&target).unwrap_or_default();
                    text.lines().any(|l| l.starts_with('#') && anchor(l.trim_start_matches('#')) == fragment)
                });
            if !resolves {
                broken.push(format!("{}: {link}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}
