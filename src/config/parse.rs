//! From the text of a file to its tree of nodes.
//!
//! The tree is built from the events of `granit-parser`. What a stranger's file could blow up (size,
//! number, depth, repetition by aliases) is bounded, and what is refused says why and where.

use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError};

use super::node::{Key, Node, Value, clip};
use super::problem::{Problem, Problems};

/// The largest file, in bytes; ten thousand routes of a usual size fit in.
const MAX_SOURCE: usize = 8 << 20;
/// The most nodes a file may have, aliases expanded: ends "billion laughs" early.
const MAX_NODES: usize = 200_000;
/// The deepest nesting a file may have, aliases expanded.
const MAX_DEPTH: usize = 64;
/// The most text that aliases may repeat, in bytes.
const MAX_REPEATED: usize = 8 << 20;
/// The longest path of a node, in bytes; deeper nodes go by the path of the one that reached it.
const MAX_PATH: usize = 200;

/// Reads one document; what is wrong goes to the problems.
pub(super) fn document(source: &str, problems: &mut Problems) -> Option<Node> {
    let mut builder = Builder { source, problems, nodes: 0, repeated: 0, anchors: HashMap::new() };
    if source.len() > MAX_SOURCE {
        return builder.refuse(0..0, &format!("it is larger than {} MiB", MAX_SOURCE >> 20));
    }
    builder.document()
}

struct Builder<'s, 'p> {
    source: &'s str,
    problems: &'p mut Problems,
    nodes: usize,
    /// Bytes of text that aliases repeated.
    repeated: usize,
    anchors: HashMap<usize, (Node, Size)>,
}

/// What an alias to a node multiplies.
#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    depth: usize,
    bytes: usize,
}

/// An unfinished collection while its children are read.
enum Open {
    Seq {
        span: Range<usize>,
        path: String,
        anchor: usize,
        items: Vec<Node>,
    },
    Map {
        span: Range<usize>,
        path: String,
        anchor: usize,
        entries: Vec<(Key, Node)>,
        /// Where each key first stood.
        seen: HashMap<String, usize>,
        key: Option<Key>,
    },
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
                    self.problems.push(unreadable(&error, self.source));
                    return None;
                }
            };
            let (start, end) = (self.place(&span.start), self.place(&span.end));
            let span = start..end.max(start);
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
                    self.anchor(anchor, &node);
                    node
                }
                Event::SequenceStart(_, anchor, _) => {
                    stack.push(Open::Seq { span: span.clone(), path, anchor, items: Vec::new() });
                    if stack.len() > MAX_DEPTH {
                        return self.refuse(span, "it is nested too deeply");
                    }
                    continue;
                }
                Event::MappingStart(_, anchor, _) => {
                    let (entries, seen) = (Vec::new(), HashMap::new());
                    stack.push(Open::Map { span: span.clone(), path, anchor, entries, seen, key: None });
                    if stack.len() > MAX_DEPTH {
                        return self.refuse(span, "it is nested too deeply");
                    }
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    let Some(open) = stack.pop() else { continue };
                    let (node, anchor) = close(open, span.end);
                    self.anchor(anchor, &node);
                    node
                }
                Event::Alias(anchor) => {
                    let Some((node, size)) = self.anchors.get(&anchor) else { continue };
                    self.nodes = self.nodes.saturating_add(size.nodes);
                    self.repeated = self.repeated.saturating_add(size.bytes);
                    if self.repeated > MAX_REPEATED || self.nodes > MAX_NODES {
                        return self.refuse(span, "its aliases repeat too much");
                    }
                    if stack.len() + size.depth > MAX_DEPTH {
                        return self.refuse(span, "it is nested too deeply");
                    }
                    node.clone()
                }
                Event::DocumentStart(..) if root.is_some() => {
                    let problem = Problem::error(span, "", "a second document begins here".into());
                    self.problems.push(problem.hint("keep one; everything after the first would be passed over"));
                    return None;
                }
                _ => continue,
            };
            self.nodes += 1;
            if self.nodes > MAX_NODES || self.repeated > MAX_REPEATED {
                return self.refuse(done.span, "it has too many values");
            }
            match stack.last_mut() {
                None => root = Some(done),
                Some(Open::Seq { items, .. }) => items.push(done),
                Some(Open::Map { entries, seen, key, path, .. }) => match key.take() {
                    None => match done.value {
                        Value::Scalar { text, .. } => *key = Some(Key { text, span: done.span }),
                        Value::Null => *key = Some(Key { text: String::new(), span: done.span }),
                        _ => {
                            self.problems.error(&done, "a key must be a plain text".into());
                            *key = Some(Key { text: String::new(), span: done.span });
                        }
                    },
                    Some(key) => {
                        if let Some(first) = seen.get(&key.text) {
                            let (line, _) = self.problems.line_column(*first);
                            let message = format!("the key `{}` stands twice", clip(&key.text));
                            let hint = format!("the first is in line {line}: keep one of them");
                            self.problems.push(Problem::error(key.span, path, message).hint(&hint));
                        } else {
                            seen.insert(key.text.clone(), key.span.start);
                            entries.push((key, done));
                        }
                    }
                },
            }
        }
        Some(root.unwrap_or(Node { span: 0..0, path: String::new(), value: Value::Map(Vec::new()) }))
    }

    fn refuse(&mut self, at: Range<usize>, why: &str) -> Option<Node> {
        self.problems.push(Problem::error(at, "", format!("the file is refused: {why}")));
        None
    }

    /// A place of the parser's as a byte of the source, on a character boundary.
    fn place(&self, marker: &granit_parser::Marker) -> usize {
        boundary(self.source, marker.byte_offset().unwrap_or(0))
    }

    fn anchor(&mut self, anchor: usize, node: &Node) {
        if anchor > 0 {
            let size = size(node);
            // The copy kept here costs as much as an alias would.
            self.nodes = self.nodes.saturating_add(size.nodes);
            self.repeated = self.repeated.saturating_add(size.bytes);
            self.anchors.insert(anchor, (node.clone(), size));
        }
    }
}

fn boundary(source: &str, at: usize) -> usize {
    let at = at.min(source.len());
    (0..=at).rev().find(|at| source.is_char_boundary(*at)).unwrap_or_default()
}

/// The parser's complaint in words for the person who wrote the file.
fn unreadable(error: &ScanError, source: &str) -> Problem {
    let at = boundary(source, error.marker().byte_offset().unwrap_or(0));
    let quoting = "put a text with `: `, ` #`, `,` or brackets in it into quotes: 'Error: wrong password'";
    let (at, message, hint): (usize, String, &str) = match error.kind() {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart => {
            let line = source.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |n| n + 1);
            let tab = source.get(line..).and_then(|rest| rest.find('\t')).map_or(at, |n| line + n);
            (tab, "a tab cannot indent in YAML".into(), "indent with spaces")
        }
        ErrorKind::UnclosedQuotedScalar
        | ErrorKind::InvalidQuotedScalarIndent
        | ErrorKind::DocumentIndicatorInQuotedScalar => {
            // The complaint stands where the text broke off; the quote is the last before it.
            let quote = match source.get(at..).is_some_and(|rest| rest.starts_with(['"', '\''])) {
                true => Some(at),
                false => source.get(..at).and_then(|before| before.rfind(['"', '\''])),
            };
            (quote.unwrap_or(at), "this quote is not closed".into(), "close it at the end of the text")
        }
        ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar => {
            let hint = "within '…' write a quote as '', within \"…\" as \\\"";
            (at, "text goes on after the closing quote".into(), hint)
        }
        ErrorKind::UnknownQuotedScalarEscape | ErrorKind::InvalidQuotedScalarHexEscape => {
            let hint = "in single quotes a backslash is only a backslash: write regexes as 'regex:^/a\\.b$'";
            (at, "no escape begins so".into(), hint)
        }
        ErrorKind::UnclosedFlowCollection { open: '{' } => {
            (at, "this `{` is not closed".into(), "add the `}` where the mapping ends")
        }
        ErrorKind::UnclosedFlowCollection { .. } => {
            (at, "this `[` is not closed".into(), "add the `]` where the list ends")
        }
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => {
            (at, format!("`{open}` cannot be closed by `{close}`"), "close the innermost bracket first")
        }
        ErrorKind::ExpectedFlowMappingSeparator => (at, "expected `,` or `}` here".into(), quoting),
        ErrorKind::ExpectedFlowSequenceSeparator => (at, "expected `,` or `]` here".into(), quoting),
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => {
            (at, "no `:` can stand here".into(), quoting)
        }
        ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::InvalidIndentation
        | ErrorKind::InvalidFlowScalarIndent => {
            let hint = "keys of one mapping begin in one column, and so do the `-` of one list";
            (at, "the indentation fits nothing above".into(), hint)
        }
        ErrorKind::UnknownAnchor => {
            let hint = "put a text that begins with `*` into quotes: '*.example.test'";
            (at, "`*` refers to an anchor, and there is none of that name".into(), hint)
        }
        ErrorKind::UnexpectedCharacter { character } => {
            (at, format!("no text can begin with `{}`", character.escape_default()), "put the text into quotes")
        }
        _ => (at, format!("not readable as YAML: {}", clip(&error.info())), "a text in quotes is always only a text"),
    };
    let width = source.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    Problem::error(at..at + width, "", message).hint(hint)
}

fn close(open: Open, end: usize) -> (Node, usize) {
    match open {
        Open::Seq { span, path, anchor, items } => {
            let end = items.last().map_or(end, |n| n.span.end).max(span.end);
            (Node { span: span.start..end.max(span.start), path, value: Value::Seq(items) }, anchor)
        }
        Open::Map { span, path, anchor, entries, .. } => {
            // A block mapping's own span is empty: point at its first key.
            let start = entries.first().map_or(span.start, |(k, _)| k.span.start);
            let end = entries.last().map_or(end, |(_, n)| n.span.end).max(start);
            (Node { span: start..end, path, value: Value::Map(entries) }, anchor)
        }
    }
}

fn child_path(stack: &[Open]) -> String {
    match stack.last() {
        None => String::new(),
        Some(Open::Seq { path, .. } | Open::Map { path, .. }) if path.len() > MAX_PATH => path.clone(),
        Some(Open::Seq { path, items, .. }) => format!("{path}[{}]", items.len()),
        Some(Open::Map { path, key, .. }) => match key {
            Some(key) if path.is_empty() => clip(&key.text),
            Some(key) => format!("{path}.{}", clip(&key.text)),
            None => path.clone(),
        },
    }
}

fn size(node: &Node) -> Size {
    let mut total = Size { nodes: 1, depth: 0, bytes: node.path.len() };
    let mut add = |inner: &Node, key: usize| {
        let inner = size(inner);
        total.nodes += inner.nodes;
        total.depth = total.depth.max(inner.depth + 1);
        total.bytes += inner.bytes + key;
    };
    match &node.value {
        Value::Seq(items) => items.iter().for_each(|n| add(n, 0)),
        Value::Map(entries) => entries.iter().for_each(|(k, n)| add(n, k.text.len())),
        Value::Scalar { text, .. } => total.bytes += text.len(),
        Value::Null => {}
    }
    total
}
