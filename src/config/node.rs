//! A YAML value that remembers where it stands, and the readers that take typed values out of it.
//!
//! The tree is built from the events of `granit-parser` (the parser below `serde-saphyr`), not by
//! serde: serde stops at the first problem, and `check` must report all of them, each with its
//! place. Every reader reports what is wrong and answers `None`, so that checking goes on.
//!
//! It must never panic or run away on any input. The invariant: every span lies inside the source
//! on character boundaries, and size, depth, and what aliases multiply are bounded.

use std::ops::Range;
use std::time::Duration;

use super::parse;
use super::problem::{Problem, Problems, Severity};
use super::shape::{Field, Kind};

/// Keys that the design names and this version does not have, so that whoever read of them is told so.
const NOT_BUILT: &[&str] = &["detect"];

/// A YAML value with its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// Byte range in the source.
    pub span: Range<usize>,
    /// Where it stands in the tree, for messages: `routes[2].rules[0].when`.
    pub path: String,
    /// What it is.
    pub value: Value,
}

/// What a node is. Scalars keep their text: what it means is for the reader to say, so that
/// `NO`, `off`, `0755` and `30x` stay what was written.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar; `plain` is false if it was quoted.
    Scalar {
        /// The text.
        text: String,
        /// True if it stood without quotes.
        plain: bool,
    },
    /// A list.
    Seq(Vec<Node>),
    /// A mapping in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping with its place.
#[derive(Clone, Debug)]
pub struct Key {
    /// The text.
    pub text: String,
    /// Byte range in the source.
    pub span: Range<usize>,
}

impl Node {
    /// Reads one document. A second document, a syntax error, a duplicate key, or more than the
    /// limits allow are problems.
    pub fn parse(source: &str, problems: &mut Problems) -> Option<Node> {
        parse::document(source, problems)
    }

    /// The value as JSON: plain scalars are what they are in JSON (numbers, `true`, `false`),
    /// everything else is a text.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Scalar { text, plain } => match serde_json::from_str(text) {
                Ok(value @ (Json::Bool(_) | Json::Number(_))) if *plain => value,
                _ => Json::String(text.clone()),
            },
            Value::Seq(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => entries.iter().map(|(key, node)| (key.text.clone(), node.to_json())).collect(),
        }
    }

    /// A word for what this is, for messages.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Scalar { text, .. } => format!("`{}`", clip(text)),
            Value::Seq(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }

    /// The mapping with these fields, and no others. Reports a wrong kind, unknown keys (with a
    /// suggestion) and missing required keys.
    pub fn map<'n>(&'n self, fields: &'static [Field], problems: &mut Problems) -> Option<Map<'n>> {
        let Value::Map(entries) = &self.value else {
            let names: Vec<&str> = fields.iter().map(|f| f.name).collect();
            let message = format!("expected a mapping, found {}", self.describe());
            problems.error_hint(self, message, &format!("its keys are: {}", names.join(", ")));
            return None;
        };
        let mut meant: Vec<&str> = Vec::new();
        for (key, value) in entries {
            let Some(field) = fields.iter().find(|f| f.name == key.text) else {
                meant.extend(near(&key.text, fields.iter().map(|f| f.name)));
                problems.push(unknown_key(key, &self.path, fields));
                continue;
            };
            if matches!(value.value, Value::Null) {
                let path =
                    if self.path.is_empty() { field.name.to_owned() } else { format!("{}.{}", self.path, field.name) };
                let mut problem = Problem::error(key.span.clone(), &path, "nothing stands here".into());
                problem = match field.required {
                    true => problem.hint(&format!("write {}", field.doc)),
                    false => problem.hint("give the key a value, or take it away: it counts as absent"),
                };
                let severity = if field.required { Severity::Error } else { Severity::Warning };
                problems.push(Problem { severity, ..problem });
            }
        }
        // A misspelt key is told once, not a second time as missing; a merge key may have brought it.
        let merged = entries.iter().any(|(k, _)| k.text == "<<");
        for field in fields.iter().filter(|f| f.required && !merged && !meant.contains(&f.name)) {
            if !entries.iter().any(|(k, _)| k.text == field.name) {
                let message = format!("`{}` is missing", field.name);
                problems.error_hint(self, message, &format!("add `{}:`, {}", field.name, field.doc));
            }
        }
        Some(Map { node: self, entries })
    }

    /// The value of a key, if this is a mapping that has it; reports nothing.
    pub fn child(&self, key: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(k, _)| k.text == key).map(|(_, node)| node)
    }

    /// The items of a list, or the node itself as the only item.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::Seq(items) => items,
            Value::Null => &[],
            _ => std::slice::from_ref(self),
        }
    }

    /// The items of a list that must not be empty, or the node itself as the only item.
    pub fn some(&self, problems: &mut Problems) -> &[Node] {
        let items = self.items();
        if items.is_empty() {
            let hint = "name at least one, or take the key away";
            problems.error_hint(self, "an empty list never matches".into(), hint);
        }
        items
    }

    /// The items of what must be a list, even of one.
    pub fn list(&self, problems: &mut Problems) -> &[Node] {
        match &self.value {
            Value::Seq(items) => items,
            _ => {
                let message = format!("expected a list, found {}", self.describe());
                problems.error_hint(self, message, "begin each entry with `- `");
                &[]
            }
        }
    }

    /// The entries of a mapping whose keys are free.
    pub fn entries(&self, problems: &mut Problems) -> &[(Key, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => {
                problems.error(self, format!("expected a mapping, found {}", self.describe()));
                &[]
            }
        }
    }

    /// The text of a scalar, if it is one; reports nothing.
    pub fn scalar(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// A text.
    pub fn str(&self, problems: &mut Problems) -> Option<&str> {
        let text = self.scalar();
        if text.is_none() {
            problems.error(self, format!("expected a text, found {}", self.describe()));
        }
        text
    }

    /// `true` or `false` (also `on`, `off`, `yes`, `no`).
    pub fn bool(&self, problems: &mut Problems) -> Option<bool> {
        match self.scalar() {
            Some("true" | "on" | "yes") => Some(true),
            Some("false" | "off" | "no") => Some(false),
            _ => {
                problems.error(self, format!("expected true or false, found {}", self.describe()));
                None
            }
        }
    }

    /// A whole number within `range`.
    pub fn int(&self, range: std::ops::RangeInclusive<u64>, problems: &mut Problems) -> Option<u64> {
        match self.scalar().and_then(|t| t.parse::<u64>().ok()) {
            Some(n) if range.contains(&n) => Some(n),
            _ => {
                let (low, high) = (range.start(), range.end());
                problems
                    .error(self, format!("expected a whole number from {low} to {high}, found {}", self.describe()));
                None
            }
        }
    }

    /// A duration with its unit: `250ms`, `15s`, `10m`, `12h`, `90d`.
    pub fn duration(&self, problems: &mut Problems) -> Option<Duration> {
        let found = self.scalar().and_then(parse_duration);
        if found.is_none() {
            problems.error_hint(
                self,
                format!("expected a duration, found {}", self.describe()),
                match self.scalar().is_some_and(|t| t.parse::<f64>().is_ok()) {
                    true => "add the unit: ms, s, m, h or d, as in 15s",
                    false => "write a number and its unit: 250ms, 15s, 10m, 12h, 90d",
                },
            );
        }
        found
    }

    /// A size in bytes with its unit: `64KiB`, `100MB`.
    pub fn size(&self, problems: &mut Problems) -> Option<u64> {
        let found = self.scalar().and_then(parse_size);
        if found.is_none() {
            problems.error_hint(
                self,
                format!("expected a size, found {}", self.describe()),
                "write a number and its unit: 512B, 64KiB, 100MB, 2GB",
            );
        }
        found
    }

    /// One of a fixed set of words.
    pub fn one_of(&self, words: &[&'static str], problems: &mut Problems) -> Option<&'static str> {
        let text = self.str(problems)?;
        let found = words.iter().find(|w| **w == text).copied();
        if found.is_none() {
            problems.error_hint(self, format!("`{}` is not known here", clip(text)), &suggest(text, words));
        }
        found
    }
}

/// A mapping whose keys were checked against a table of fields.
#[derive(Clone, Copy)]
pub struct Map<'n> {
    /// The mapping itself.
    pub node: &'n Node,
    entries: &'n [(Key, Node)],
}

impl<'n> Map<'n> {
    /// The value of a key; `None` if it is absent or null.
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        let (_, node) = self.entries.iter().find(|(k, _)| k.text == key)?;
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    /// A text.
    pub fn str(&self, key: &str, problems: &mut Problems) -> Option<&'n str> {
        self.get(key).and_then(|n| n.str(problems))
    }

    /// A truth value.
    pub fn bool(&self, key: &str, problems: &mut Problems) -> Option<bool> {
        self.get(key).and_then(|n| n.bool(problems))
    }

    /// A whole number.
    pub fn int(&self, key: &str, range: std::ops::RangeInclusive<u64>, problems: &mut Problems) -> Option<u64> {
        self.get(key).and_then(|n| n.int(range, problems))
    }

    /// A duration.
    pub fn duration(&self, key: &str, problems: &mut Problems) -> Option<Duration> {
        self.get(key).and_then(|n| n.duration(problems))
    }

    /// A size in bytes.
    pub fn size(&self, key: &str, problems: &mut Problems) -> Option<u64> {
        self.get(key).and_then(|n| n.size(problems))
    }

    /// One of a fixed set of words.
    pub fn one_of(&self, key: &str, words: &[&'static str], problems: &mut Problems) -> Option<&'static str> {
        self.get(key).and_then(|n| n.one_of(words, problems))
    }

    /// The items of a key that must hold a list, even of one; empty if absent.
    pub fn list(&self, key: &str, problems: &mut Problems) -> &'n [Node] {
        self.get(key).map_or(&[], |n| n.list(problems))
    }

    /// The items of a list (or the single value) of a key; empty if absent.
    pub fn items(&self, key: &str) -> &'n [Node] {
        self.get(key).map_or(&[], |n| n.items())
    }
}

/// Reads `250ms`, `15s`, `10m`, `12h`, `90d`; a bare `0` is zero.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (number, unit) = split_unit(text)?;
    let millis = match unit {
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 60e3,
        "h" => 3600e3,
        "d" => 86_400e3,
        _ => return None,
    };
    let total = number * millis;
    (total <= 1e13).then(|| Duration::from_micros((total * 1e3) as u64))
}

/// Reads `512B`, `64KiB`, `100MB`, `2GB`; a bare number is bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    if let Ok(bytes) = text.parse::<u64>() {
        return Some(bytes);
    }
    let (number, unit) = split_unit(text)?;
    let factor = match unit {
        "B" => 1.0,
        "KB" | "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let total = number * factor;
    (total <= 1e18).then_some(total as u64)
}

fn split_unit(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim_start()))
}

/// A hint for a word that is not one of `known`.
pub fn suggest(word: &str, known: &[&str]) -> String {
    match near(word, known.iter().copied()) {
        Some(k) => format!("did you mean `{k}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// The known word that a slip or an abbreviation may have meant.
fn near<'k>(word: &str, known: impl Iterator<Item = &'k str> + Clone) -> Option<&'k str> {
    // Nothing known is nearly as long, and the comparison is quadratic.
    if word.len() > 120 {
        return None;
    }
    let slips = known.clone().map(|k| (strsim::damerau_levenshtein(word, k), k));
    let slip = slips.filter(|(distance, k)| *distance <= 1 + k.len() / 4).min_by_key(|(distance, _)| *distance);
    let mut longer = known.filter(|k| word.len() >= 3 && k.starts_with(word));
    slip.map(|(_, k)| k).or_else(|| longer.next().filter(|_| longer.next().is_none()))
}

/// Words that other proxies have for keys of this file.
const OF_OTHERS: &[(&str, &str)] =
    &[("headers", "forwarded"), ("backend", "upstream"), ("bind", "listen"), ("outputs", "sinks")];

/// What is said of a key that the mapping does not have.
fn unknown_key(key: &Key, path: &str, fields: &'static [Field]) -> Problem {
    let error = |message: String, hint: &str| Problem::error(key.span.clone(), path, message).hint(hint);
    let shown = clip(&key.text);
    if key.text == "<<" {
        let hint = "write the keys out; an alias may stand for a whole value: `match: *there`";
        return error("merge keys are not supported".into(), hint);
    }
    if NOT_BUILT.contains(&key.text.as_str()) {
        return error(format!("`{shown}` is not built yet"), "take it out; the file works without it");
    }
    let meant = OF_OTHERS.iter().find(|(word, _)| *word == key.text).map(|(_, meant)| *meant);
    if let Some(meant) = meant.filter(|meant| path.is_empty() && fields.iter().any(|f| f.name == *meant)) {
        return error(format!("unknown key `{shown}`"), &format!("did you mean `{meant}`?"));
    }
    let holds = |field: &&Field| inner_fields(&field.kind).iter().any(|inner| inner.name == key.text);
    let homes: Vec<String> = fields.iter().filter(holds).map(|f| format!("`{}`", f.name)).collect();
    // The first is the one that says which requests; conditions hold almost every word.
    if let Some(home) = homes.first() {
        return error(format!("unknown key `{shown}`"), &format!("it belongs into {home}"));
    }
    let names: Vec<&str> = fields.iter().map(|f| f.name).collect();
    error(format!("unknown key `{shown}`"), &suggest(&key.text, &names))
}

/// The fields one level further down.
fn inner_fields(kind: &Kind) -> &'static [Field] {
    match kind {
        Kind::Map(fields) => fields,
        Kind::List(inner) | Kind::OneOrList(inner) => inner_fields(inner),
        Kind::Any(kinds) => kinds.iter().map(inner_fields).find(|f| !f.is_empty()).unwrap_or_default(),
        Kind::Named(_, inner) => inner_fields(inner()),
        _ => &[],
    }
}

/// A scalar cut to a length that suits a message, without what could break a line.
pub fn clip(text: &str) -> String {
    let mut shown: String = text.chars().take(60).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_keep_their_text_and_nodes_know_their_path_and_place() {
        let source = "a:\n  - b: NO\n    c: 0755\nd: &x [30x]\ne: *x\n";
        let mut problems = Problems::new("t.yaml", source);
        let root = Node::parse(source, &mut problems).expect("parses");
        assert!(problems.is_empty());
        let Value::Map(entries) = &root.value else { panic!("map") };
        let Value::Seq(items) = &entries[0].1.value else { panic!("list") };
        let Value::Map(inner) = &items[0].value else { panic!("map") };
        assert_eq!(inner[0].1.scalar(), Some("NO"));
        assert_eq!(inner[1].1.scalar(), Some("0755"));
        assert_eq!(inner[1].1.path, "a[0].c");
        assert_eq!(&source[inner[1].1.span.clone()], "0755");
        assert_eq!(entries[2].1.items()[0].scalar(), Some("30x"));
    }

    #[test]
    fn a_billion_laughs_and_a_deep_nest_are_refused() {
        let mut laugh = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..10 {
            let refs = vec![format!("*a{}", i - 1); 10].join(",");
            laugh.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        for source in [laugh, "[".repeat(100_000)] {
            let mut problems = Problems::new("t.yaml", &source);
            assert!(Node::parse(&source, &mut problems).is_none());
            assert!(problems.has_errors());
        }
    }

    #[test]
    fn durations_and_sizes_need_their_unit() {
        assert_eq!(parse_duration("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(parse_duration("90d"), Some(Duration::from_secs(90 * 86_400)));
        assert_eq!(parse_duration("15"), None);
        assert_eq!(parse_size("64KiB"), Some(65_536));
        assert_eq!(parse_size("2GB"), Some(2_000_000_000));
        assert_eq!(parse_size("many"), None);
    }

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_gets_the_list() {
        assert_eq!(suggest("upstraem", &["listen", "upstream"]), "did you mean `upstream`?");
        assert_eq!(suggest("zzz", &["listen", "upstream"]), "known here: listen, upstream");
    }
}
