//! A text by a template of the operator's own, for receivers that want something odd.
//!
//! The template sees the event as `event` and nothing else: no file, no environment, no network.
//! What it writes is bounded, and so is its work (fuel), whatever an event holds. A line end in the
//! result becomes a space, so that one event stays one record; `tojson` escapes for JSON.

use std::fmt;
use std::sync::Arc;

use minijinja::{Environment, UndefinedBehavior};

use super::{Format, FormatError, FormatKind, Media, Record};
use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};

/// The table's entry.
pub const KIND: FormatKind = FormatKind {
    name: "template",
    doc: "a text by a template (Jinja syntax), for odd receivers",
    fields: &[Field::required(
        "template",
        Kind::Str,
        "Jinja syntax, with the event as `event`: {{ event.actor.login }} {{ event.metadata|tojson }}",
    )],
    media: Media::text("template"),
    check,
};

/// The most that one event may become, in bytes.
const MAX_OUTPUT: usize = 64 * 1024;
/// Instructions of the template engine for one event.
const FUEL: u64 = 50_000;
/// The longest template, in bytes.
const MAX_TEMPLATE: usize = 16 * 1024;

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Arc<dyn Format>> {
    let at = map.get("template")?;
    let source = at.str(problems)?;
    if source.trim().is_empty() || source.len() > MAX_TEMPLATE {
        problems.error(at, format!("a template has 1 to {MAX_TEMPLATE} bytes"));
        return None;
    }
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_fuel(Some(FUEL));
    if let Err(error) = environment.template_from_str(source) {
        let hint = "see docs/sinks.md for what a template can do; {{ event.actor.login }} is the simplest";
        problems.error_hint(at, format!("the template cannot be read: {}", error.kind()), hint);
        return None;
    }
    Some(Arc::new(Template { environment, source: source.to_owned() }))
}

struct Template {
    environment: Environment<'static>,
    source: String,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Template")
    }
}

impl Format for Template {
    fn write(&self, record: &Record<'_>) -> Result<String, FormatError> {
        // Of an error only its kind is told: its text may quote a value.
        let failed = |error: minijinja::Error| FormatError::Template(error.kind().to_string());
        let template = self.environment.template_from_str(&self.source).map_err(failed)?;
        let mut out = Bounded { text: Vec::new(), full: false };
        let context = minijinja::context! { event => minijinja::Value::from_serialize(record.tree) };
        match template.render_captured_to(context, &mut out) {
            Ok(_) => {}
            Err(_) if out.full => return Err(FormatError::TooLong(MAX_OUTPUT)),
            Err(error) => return Err(failed(error)),
        }
        let text = String::from_utf8_lossy(&out.text);
        Ok(text.chars().map(|c| if matches!(c, '\n' | '\r' | '\0') { ' ' } else { c }).collect())
    }
}

/// A buffer that refuses to grow beyond its bound.
struct Bounded {
    text: Vec<u8>,
    full: bool,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.text.len().saturating_add(bytes.len()) > MAX_OUTPUT {
            self.full = true;
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
