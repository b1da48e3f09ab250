//! CloudEvents 1.0 in JSON (structured mode; the webhook sink sends a batch as a JSON array).
//!
//! The attributes say what a router needs (id, type, time, subject); `data` is the event itself.
//! It must never put into an attribute what the sink was not to see.

use std::sync::Arc;

use serde_json::{Map as Object, Value, json};

use super::{Format, FormatError, FormatKind, Media, Record};
use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};

/// The table's entry.
pub const KIND: FormatKind = FormatKind {
    name: "cloudevents",
    doc: "CloudEvents 1.0, structured",
    fields: FIELDS,
    media: Media {
        format: "cloudevents",
        one: "application/cloudevents+json",
        list: Some("application/cloudevents-batch+json"),
    },
    check,
};

const FIELDS: &[Field] = &[
    Field::new("source", Kind::Str, "/authtap", "the attribute `source`: a URI that names this authtap"),
    Field::new("prefix", Kind::Str, "", "stands before the event type in the attribute `type`: io.example."),
];

/// The longest `source` or `prefix`, in bytes.
const MAX: usize = 256;

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Arc<dyn Format>> {
    let source = attribute(map, "source", "/authtap", problems)?;
    let prefix = attribute(map, "prefix", "", problems)?;
    Some(Arc::new(CloudEvents { source, prefix }))
}

fn attribute(map: &Map<'_>, key: &str, default: &str, problems: &mut Problems) -> Option<String> {
    let Some(at) = map.get(key) else { return Some(default.to_owned()) };
    let text = at.str(problems)?;
    if text.is_empty() || text.len() > MAX || !text.bytes().all(|b| b.is_ascii_graphic()) {
        let hint = "write 1 to 256 visible ASCII characters without spaces, such as /authtap/shop";
        problems.error_hint(at, format!("`{key}` cannot be {}", at.describe()), hint);
        return None;
    }
    Some(text.to_owned())
}

#[derive(Debug)]
struct CloudEvents {
    source: String,
    prefix: String,
}

impl Format for CloudEvents {
    fn write(&self, record: &Record<'_>) -> Result<String, FormatError> {
        let mut event = Object::new();
        let mut put = |key: &str, value: Value| event.insert(key.to_owned(), value);
        put("specversion", "1.0".into());
        put("id", record.event.id.to_string().into());
        put("source", self.source.as_str().into());
        put("type", format!("{}{}", self.prefix, record.event_type()).into());
        put("time", record.event.timestamp.to_string().into());
        put("datacontenttype", "application/json".into());
        let subject = ["/actor/id", "/actor/login", "/actor/email"].into_iter().find_map(|p| record.tree.str(p));
        if let Some(subject) = subject {
            put("subject", subject.into());
        }
        put("data", json!(record.tree));
        Ok(Value::Object(event).to_string())
    }
}
