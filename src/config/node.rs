//! A YAML value that remembers where it stands, and the readers that take typed values out of it.
//!
//! The tree is built from the events of `granit-parser` (the parser below `serde-saphyr`), not by
//! serde: serde stops at the first problem, and `check` must report all of them, each with its
//! place. Every reader reports what is wrong and answers `None`, so that checking goes on.

use std::ops::Range;
use std::time::Duration;

use granit_parser::{Event, Parser, ScalarStyle};

use super::problem::{Problem, Problems};
use super::shape::Field;

/// The most nodes a file may have, aliases expanded: ends "billion laughs" early.
const MAX_NODES: usize = 200_000;
/// The deepest nesting a file may have.
const MAX_DEPTH: usize = 64;

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
    /// Reads one document. A second document, a syntax error, a duplicate key, too many nodes or
    /// too deep nesting are problems.
    pub fn parse(source: &str, problems: &mut Problems) -> Option<Node> {
        let mut builder = Builder { source, problems, nodes: 0, anchors: Vec::new() };
        builder.document()
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
            problems.error(self, format!("expected a mapping, found {}", self.describe()));
            return None;
        };
        for (key, _) in entries {
            if !fields.iter().any(|f| f.name == key.text) {
                let mut problem =
                    Problem::error(key.span.clone(), &self.path, format!("unknown key `{}`", clip(&key.text)));
                let names: Vec<&str> = fields.iter().map(|f| f.name).collect();
                problem.hint = Some(suggest(&key.text, &names));
                problems.push(problem);
            }
        }
        for field in fields.iter().filter(|f| f.required) {
            if !entries.iter().any(|(k, _)| k.text == field.name) {
                problems.error_hint(self, format!("`{}` is missing", field.name), field.doc);
            }
        }
        Some(Map { node: self, entries })
    }

    /// The items of a list, or the node itself as the only item.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::Seq(items) => items,
            Value::Null => &[],
            _ => std::slice::from_ref(self),
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
                "write a number and its unit: 250ms, 15s, 10m, 12h, 90d",
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
    let near = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(word, k), *k))
        .filter(|(distance, k)| *distance <= 1 + k.len() / 4)
        .min_by_key(|(distance, _)| *distance);
    match near {
        Some((_, k)) => format!("did you mean `{k}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// A scalar cut to a length that suits a message.
pub fn clip(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

struct Builder<'s, 'p> {
    source: &'s str,
    problems: &'p mut Problems,
    nodes: usize,
    anchors: Vec<(usize, Node)>,
}

/// An unfinished collection while its children are read.
enum Open {
    Seq { span: Range<usize>, path: String, anchor: usize, items: Vec<Node> },
    Map { span: Range<usize>, path: String, anchor: usize, entries: Vec<(Key, Node)>, key: Option<Key> },
}

impl Builder<'_, '_> {
    fn document(&mut self) -> Option<Node> {
        let options = granit_parser::options! { emit_comments: false };
        let mut stack: Vec<Open> = Vec::new();
        let mut root: Option<Node> = None;
        for next in Parser::new_from_str_with_options(self.source, options) {
            let (event, span) = match next {
                Ok(pair) => pair,
                Err(error) => {
                    let at = error.marker().byte_offset().unwrap_or(0).min(self.source.len());
                    self.problems.push(Problem::error(at..at, "", format!("not readable as YAML: {}", error.info())));
                    return None;
                }
            };
            let at = |m: &granit_parser::Marker| m.byte_offset().unwrap_or(0).min(self.source.len());
            let span = at(&span.start)..at(&span.end);
            let path = child_path(&stack);
            let done = match event {
                Event::Scalar(text, style, anchor, _) => {
                    let plain = style == ScalarStyle::Plain;
                    let value = if plain && matches!(&*text, "" | "~" | "null") {
                        Value::Null
                    } else {
                        Value::Scalar { text: text.into_owned(), plain }
                    };
                    let node = Node { span, path, value };
                    if anchor > 0 {
                        self.anchors.push((anchor, node.clone()));
                    }
                    node
                }
                Event::SequenceStart(_, anchor, _) => {
                    stack.push(Open::Seq { span, path, anchor, items: Vec::new() });
                    if stack.len() > MAX_DEPTH {
                        return self.refuse("nested too deeply");
                    }
                    continue;
                }
                Event::MappingStart(_, anchor, _) => {
                    stack.push(Open::Map { span, path, anchor, entries: Vec::new(), key: None });
                    if stack.len() > MAX_DEPTH {
                        return self.refuse("nested too deeply");
                    }
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    let Some(open) = stack.pop() else { continue };
                    let (node, anchor) = close(open, span.end);
                    if anchor > 0 {
                        self.anchors.push((anchor, node.clone()));
                    }
                    node
                }
                Event::Alias(anchor) => {
                    let Some((_, node)) = self.anchors.iter().rev().find(|(a, _)| *a == anchor) else { continue };
                    let node = node.clone();
                    self.nodes += count(&node);
                    node
                }
                Event::DocumentStart(..) if root.is_some() => return self.refuse("more than one document in the file"),
                _ => continue,
            };
            self.nodes += 1;
            if self.nodes > MAX_NODES {
                return self.refuse("too many values (aliases expanded)");
            }
            match stack.last_mut() {
                None => root = Some(done),
                Some(Open::Seq { items, .. }) => items.push(done),
                Some(Open::Map { entries, key, .. }) => match key.take() {
                    None => match done.value {
                        Value::Scalar { text, .. } => *key = Some(Key { text, span: done.span }),
                        Value::Null => *key = Some(Key { text: String::new(), span: done.span }),
                        _ => {
                            self.problems.error(&done, "a key must be a plain text".into());
                            *key = Some(Key { text: String::new(), span: done.span });
                        }
                    },
                    Some(key) => {
                        if entries.iter().any(|(k, _)| k.text == key.text) {
                            let message = format!("the key `{}` stands twice", clip(&key.text));
                            self.problems.push(Problem::error(key.span, &done.path, message));
                        } else {
                            entries.push((key, done));
                        }
                    }
                },
            }
        }
        Some(root.unwrap_or(Node { span: 0..0, path: String::new(), value: Value::Map(Vec::new()) }))
    }

    fn refuse(&mut self, why: &str) -> Option<Node> {
        self.problems.push(Problem::error(0..0, "", format!("the file is refused: {why}")));
        None
    }
}

fn close(open: Open, end: usize) -> (Node, usize) {
    match open {
        Open::Seq { span, path, anchor, items } => {
            let end = items.last().map_or(end, |n| n.span.end).max(span.end);
            (Node { span: span.start..end, path, value: Value::Seq(items) }, anchor)
        }
        Open::Map { span, path, anchor, entries, .. } => {
            // A block mapping's own span is empty: point at its first key.
            let start = entries.first().map_or(span.start, |(k, _)| k.span.start.min(span.start.max(k.span.start)));
            let end = entries.last().map_or(end, |(_, n)| n.span.end).max(start);
            (Node { span: start..end, path, value: Value::Map(entries) }, anchor)
        }
    }
}

fn child_path(stack: &[Open]) -> String {
    match stack.last() {
        None => String::new(),
        Some(Open::Seq { path, items, .. }) => format!("{path}[{}]", items.len()),
        Some(Open::Map { path, key, .. }) => match key {
            Some(key) if path.is_empty() => key.text.clone(),
            Some(key) => format!("{path}.{}", key.text),
            None => path.clone(),
        },
    }
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::Seq(items) => items.iter().map(count).sum(),
        Value::Map(entries) => entries.iter().map(|(_, n)| count(n)).sum(),
        _ => 0,
    }
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
