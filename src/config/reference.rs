//! The tables of `docs/routes-reference.md`, made from the fields that also check the file.
//!
//! It must say nothing that the tables do not say: what is worth explaining is written in the
//! document by hand, above these tables. The invariant: every mapping stands here once, with every
//! key it may have, and every link leads to a heading.

use std::collections::HashSet;
use std::fmt::Write;

use super::settings::FIELDS;
use super::shape::{Field, Kind};

/// Every mapping of the file as Markdown: a heading and a table each.
pub fn markdown() -> String {
    let mut pages = Pages { out: String::new(), seen: HashSet::new() };
    pages.mapping("the file", FIELDS.iter().collect());
    pages.out
}

struct Pages {
    out: String,
    seen: HashSet<String>,
}

impl Pages {
    /// The table of one mapping, and of those it contains, depth first.
    fn mapping(&mut self, title: &str, fields: Vec<&'static Field>) {
        if !self.seen.insert(title.to_owned()) {
            return;
        }
        // Writing to a text cannot fail.
        let _ = writeln!(self.out, "\n### {}\n", heading(title));
        let _ = writeln!(self.out, "| key | value | default | meaning |\n| --- | --- | --- | --- |");
        for field in &fields {
            let name = if field.required { format!("**`{}`**", field.name) } else { format!("`{}`", field.name) };
            let value = value(&field.kind, &child(title, field));
            let default = if field.required { "required".into() } else { default(field) };
            let _ = writeln!(self.out, "| {name} | {} | {default} | {} |", cell(&value), cell(field.doc));
        }
        for field in fields {
            self.inner(&field.kind, &child(title, field));
        }
    }

    /// The mappings within a value.
    fn inner(&mut self, kind: &'static Kind, title: &str) {
        match kind {
            Kind::Map(fields) => self.mapping(title, fields.iter().collect()),
            Kind::List(inner) | Kind::OneOrList(inner) | Kind::Dict(inner) => self.inner(inner, title),
            Kind::Any(kinds) => kinds.iter().for_each(|kind| self.inner(kind, title)),
            Kind::Named(name, inner) => self.inner(inner(), &named(name)),
            Kind::Tagged(name, table) => {
                for (tag, fields) in table() {
                    self.mapping(&format!("{name} {tag}"), fields);
                }
            }
            _ => {}
        }
    }
}

/// What a mapping within a field is called: its path, or the name of a shape used in many places.
fn child(title: &str, field: &Field) -> String {
    let title = match title {
        "the file" => String::new(),
        title => format!("{title}."),
    };
    format!("{title}{}", field.name)
}

fn named(name: &str) -> String {
    format!("a {name}")
}

/// Paths are code, names of shapes are words.
fn heading(title: &str) -> String {
    if title.contains(' ') { title.to_owned() } else { format!("`{title}`") }
}

/// The anchor that GitHub gives to a heading.
fn anchor(title: &str) -> String {
    let kept = title
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .collect::<String>();
    kept.replace(' ', "-")
}

fn link(title: &str) -> String {
    format!("[{}](#{})", heading(title), anchor(title))
}

fn default(field: &Field) -> String {
    let written = ["{", "[", "-"].iter().any(|c| field.default.starts_with(c)) || !field.default.contains(' ');
    match field.default {
        "" => String::new(),
        text if written => format!("`{}`", cell(text)),
        text => cell(text),
    }
}

/// What a value may be, in words.
fn value(kind: &'static Kind, title: &str) -> String {
    match kind {
        Kind::Str => "text".into(),
        Kind::Bool => "`on` or `off`".into(),
        Kind::Int(low, high) if low == high => format!("`{low}`"),
        Kind::Int(low, high) => format!("number, {low} to {high}"),
        Kind::Duration => "duration: `250ms`, `15s`, `10m`, `12h`, `90d`".into(),
        Kind::Size => "size: `512B`, `64KiB`, `100MB`, `2GB`".into(),
        Kind::Word(words) => words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "),
        Kind::List(inner) => format!("list of: {}", value(inner, title)),
        Kind::OneOrList(inner) => format!("{}, or a list of these", value(inner, title)),
        Kind::Map(_) => format!("mapping: {}", link(title)),
        Kind::Dict(inner) => format!("mapping of names to: {}", value(inner, title)),
        Kind::Any(kinds) => kinds.iter().map(|kind| value(kind, title)).collect::<Vec<_>>().join("; or "),
        Kind::Json => "any YAML value".into(),
        Kind::Null => "`null`".into(),
        Kind::Named(name, _) => link(&named(name)),
        Kind::Tagged(name, table) => {
            table().iter().map(|(tag, _)| link(&format!("{name} {tag}"))).collect::<Vec<_>>().join(" or ")
        }
    }
}

/// A text as a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
