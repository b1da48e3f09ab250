//! The shape of the configuration as data: one table of fields a mapping.
//!
//! The same tables refuse unknown keys (`config::node`), print the JSON Schema that editors use
//! (`authtap schema config`), and make the reference in `docs/routes-reference.md`, so that the
//! three cannot disagree.

use serde_json::{Map, Value, json};

/// One key of a mapping.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The key.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// True if it must be there.
    pub required: bool,
    /// What it does, in one sentence.
    pub doc: &'static str,
    /// What is in force without it, as written in YAML; empty if there is nothing to say.
    pub default: &'static str,
}

impl Field {
    /// An optional field.
    pub const fn new(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Field {
        Field { name, kind, required: false, doc, default }
    }

    /// A required field.
    pub const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Field {
        Field { name, kind, required: true, doc, default: "" }
    }
}

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A text.
    Str,
    /// `true`, `false`, `on`, `off`.
    Bool,
    /// A whole number within bounds.
    Int(u64, u64),
    /// A number with a unit of time.
    Duration,
    /// A number with a unit of bytes.
    Size,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list.
    List(&'static Kind),
    /// One, or a list.
    OneOrList(&'static Kind),
    /// A mapping with these fields.
    Map(&'static [Field]),
    /// A mapping with free keys.
    Dict(&'static Kind),
    /// One of these.
    Any(&'static [Kind]),
    /// Any JSON value, written as YAML.
    Json,
    /// Nothing: `null` or `~`.
    Null,
    /// A named shape, described once (it may contain itself). The function gives its fields.
    Named(&'static str, fn() -> &'static Kind),
    /// A mapping whose `type` selects one of a table of shapes: the sinks.
    Tagged(&'static str, fn() -> Vec<(&'static str, Vec<&'static Field>)>),
}

/// One table of fields made of several, in their order, so that fields that many mappings have are
/// written once: `joined!(OWN, http::FIELDS)`.
macro_rules! joined {
    ($($part:expr),+ $(,)?) => {{
        const PARTS: &[&[$crate::config::shape::Field]] = &[$($part),+];
        const LEN: usize = $crate::config::shape::len(PARTS);
        const ALL: [$crate::config::shape::Field; LEN] = $crate::config::shape::join(PARTS);
        &ALL
    }};
}
pub(crate) use joined;

/// How many fields several tables have together; for [`joined!`].
pub(crate) const fn len(parts: &[&[Field]]) -> usize {
    let (mut part, mut len) = (0, 0);
    while part < parts.len() {
        len += parts[part].len();
        part += 1;
    }
    len
}

/// Several tables as one; for [`joined!`]. Evaluated at compile time, where a wrong length is an error.
pub(crate) const fn join<const LEN: usize>(parts: &[&[Field]]) -> [Field; LEN] {
    let mut all = [Field::new("", Kind::Null, "", ""); LEN];
    let (mut part, mut to) = (0, 0);
    while part < parts.len() {
        let mut from = 0;
        while from < parts[part].len() {
            all[to] = parts[part][from];
            from += 1;
            to += 1;
        }
        part += 1;
    }
    all
}

/// The JSON Schema (draft 2020-12) of a mapping with these fields.
pub fn json_schema(title: &str, fields: &[Field]) -> Value {
    let mut defs = Map::new();
    let mut schema = object(fields, &mut defs);
    if let Value::Object(top) = &mut schema {
        top.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        top.insert("title".into(), json!(title));
        top.insert("$defs".into(), Value::Object(defs));
    }
    schema
}

fn object<'f>(fields: impl IntoIterator<Item = &'f Field> + Clone, defs: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for field in fields.clone() {
        let mut value = schema(&field.kind, defs);
        if let Value::Object(o) = &mut value {
            o.insert("description".into(), json!(field.doc));
            if !field.default.is_empty() {
                o.insert("x-default".into(), json!(field.default));
            }
        }
        properties.insert(field.name.into(), value);
    }
    let required: Vec<&str> = fields.into_iter().filter(|f| f.required).map(|f| f.name).collect();
    let mut out = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        out["required"] = json!(required);
    }
    out
}

fn schema(kind: &Kind, defs: &mut Map<String, Value>) -> Value {
    match kind {
        Kind::Str => json!({"type": ["string", "number", "boolean"]}),
        Kind::Bool => json!({"enum": [true, false, "on", "off", "yes", "no"]}),
        Kind::Int(low, high) => json!({"type": "integer", "minimum": low, "maximum": high}),
        Kind::Json => json!({}),
        Kind::Null => json!({"type": "null"}),
        Kind::Duration => {
            json!({"anyOf": [{"type": "string", "pattern": "^(0|[0-9.]+ *(ms|s|m|h|d))$"}, {"const": 0}]})
        }
        Kind::Size => json!({"type": ["string", "integer"], "pattern": "^[0-9.]+ *(B|[kK]B|MB|GB|KiB|MiB|GiB)?$"}),
        Kind::Word(words) => {
            let mut allowed: Vec<Value> = words.iter().map(|w| json!(w)).collect();
            // Editors that read YAML 1.1 take on and off for booleans.
            for (word, meant) in [("on", true), ("off", false)] {
                if words.contains(&word) {
                    allowed.push(json!(meant));
                }
            }
            json!({"enum": allowed})
        }
        Kind::List(item) => json!({"type": "array", "items": schema(item, defs)}),
        Kind::OneOrList(item) => {
            let item = schema(item, defs);
            json!({"anyOf": [item, {"type": "array", "items": item}]})
        }
        Kind::Map(fields) => object(*fields, defs),
        Kind::Dict(value) => json!({"type": "object", "additionalProperties": schema(value, defs)}),
        Kind::Any(kinds) => {
            let any: Vec<Value> = kinds.iter().map(|k| schema(k, defs)).collect();
            json!({"anyOf": any})
        }
        Kind::Named(name, inner) => {
            if !defs.contains_key(*name) {
                defs.insert((*name).into(), Value::Null);
                let inner = schema(inner(), defs);
                defs.insert((*name).into(), inner);
            }
            json!({"$ref": format!("#/$defs/{name}")})
        }
        Kind::Tagged(name, table) => {
            if !defs.contains_key(*name) {
                defs.insert((*name).into(), Value::Null);
                let any: Vec<Value> = table()
                    .into_iter()
                    .map(|(tag, fields)| {
                        let mut one = object(fields.iter().copied(), defs);
                        one["properties"]["type"] = json!({"const": tag});
                        one["required"] = json!(
                            std::iter::once("type")
                                .chain(fields.iter().filter(|f| f.required && f.name != "type").map(|f| f.name))
                                .collect::<Vec<_>>()
                        );
                        one
                    })
                    .collect();
                defs.insert((*name).into(), json!({"anyOf": any}));
            }
            json!({"$ref": format!("#/$defs/{name}")})
        }
    }
}
