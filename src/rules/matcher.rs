//! Matchers: what a value must look like.
//!
//! A bare text means "equals"; a mapping may hold several demands, all of which must hold. Where a
//! name has several values (a repeated header or field), one that matches is enough.

use regex::Regex;

use super::path::{REGEX_HINT, REGEX_SIZE_LIMIT, glob_to_regex, reason};
use crate::config::node::{Node, Value};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};

/// The keys of a matcher written as a mapping.
pub const FIELDS: &[Field] = &[
    Field::new("equals", Kind::Str, "", "the whole value"),
    Field::new("prefix", Kind::Str, "", "how the value begins"),
    Field::new("suffix", Kind::Str, "", "how the value ends"),
    Field::new("contains", Kind::Str, "", "a text within the value"),
    Field::new("regex", Kind::Str, "", "a regex found within the value"),
    Field::new("glob", Kind::Str, "", "the whole value, with `*` and `?`"),
    Field::new("in", Kind::List(&Kind::Str), "", "the whole value is one of these"),
    Field::new("present", Kind::Bool, "", "true: there is a value, even an empty one; false: there is none"),
    Field::new("empty", Kind::Bool, "", "true: absent or empty; false: there is a non-empty value"),
    Field::new("not", Kind::Named("matcher", || &SHAPE), "", "the inner matcher must not match"),
];

/// The shape of a matcher.
pub const SHAPE: Kind = Kind::Any(&[Kind::Str, Kind::List(&Kind::Str), Kind::Map(FIELDS)]);

/// What a value must look like.
#[derive(Clone, Debug)]
pub enum Matcher {
    /// The whole value.
    Equals(String),
    /// How it begins.
    Prefix(String),
    /// How it ends.
    Suffix(String),
    /// A text within it.
    Contains(String),
    /// A regex within it.
    Regex(Regex),
    /// One of these.
    In(Vec<String>),
    /// Whether there is a value.
    Present(bool),
    /// Whether it is absent or empty.
    Empty(bool),
    /// The inner one must not match.
    Not(Box<Matcher>),
    /// All must hold.
    All(Vec<Matcher>),
}

impl Matcher {
    /// Reads `text`, `[a, b]`, `present`, `absent` or a mapping of [`FIELDS`].
    pub fn check(node: &Node, problems: &mut Problems) -> Option<Matcher> {
        match &node.value {
            Value::Scalar { text, plain: true } if text == "present" => Some(Matcher::Present(true)),
            Value::Scalar { text, plain: true } if text == "absent" => Some(Matcher::Present(false)),
            Value::Scalar { text, .. } => Matcher::prefixed(text, node, problems),
            Value::Seq(_) => {
                let items = node.some(problems);
                Some(Matcher::In(items.iter().filter_map(|i| i.str(problems).map(str::to_owned)).collect()))
            }
            Value::Null => {
                problems.error_hint(node, "nothing to compare with".into(), "write a text, or `present`, or `absent`");
                None
            }
            Value::Map(entries) => {
                let map = node.map(FIELDS, problems)?;
                if entries.is_empty() {
                    let names: Vec<&str> = FIELDS.iter().map(|f| f.name).collect();
                    let hint = format!("write a text to compare with, or one of: {}", names.join(", "));
                    problems.error_hint(node, "the matcher demands nothing".into(), &hint);
                    return None;
                }
                let mut all = Vec::new();
                for (key, make) in [
                    ("equals", Matcher::Equals as fn(String) -> Matcher),
                    ("prefix", Matcher::Prefix),
                    ("suffix", Matcher::Suffix),
                    ("contains", Matcher::Contains),
                ] {
                    if let Some(text) = map.str(key, problems) {
                        all.push(make(text.to_owned()));
                    }
                }
                if let Some(at) = map.get("regex") {
                    all.push(Matcher::Regex(compile(at.str(problems)?, at, problems)?));
                }
                if let Some(at) = map.get("glob") {
                    all.push(Matcher::Regex(compile(&glob_to_regex(at.str(problems)?, false), at, problems)?));
                }
                if let Some(at) = map.get("in") {
                    at.list(problems);
                    let words = at.items().iter().filter_map(|i| i.str(problems).map(str::to_owned));
                    all.push(Matcher::In(words.collect()));
                }
                if let Some(yes) = map.bool("present", problems) {
                    all.push(Matcher::Present(yes));
                }
                if let Some(yes) = map.bool("empty", problems) {
                    all.push(Matcher::Empty(yes));
                }
                if let Some(inner) = map.get("not") {
                    all.push(Matcher::Not(Box::new(Matcher::check(inner, problems)?)));
                }
                match all.len() {
                    0 => None,
                    1 => all.pop(),
                    _ => Some(Matcher::All(all)),
                }
            }
        }
    }

    /// A text, maybe with the scheme of a path pattern before it.
    fn prefixed(text: &str, node: &Node, problems: &mut Problems) -> Option<Matcher> {
        Some(if let Some(rest) = text.strip_prefix("prefix:") {
            Matcher::Prefix(rest.to_owned())
        } else if let Some(rest) = text.strip_prefix("regex:") {
            Matcher::Regex(compile(rest, node, problems)?)
        } else if let Some(rest) = text.strip_prefix("glob:") {
            Matcher::Regex(compile(&glob_to_regex(rest, false), node, problems)?)
        } else {
            Matcher::Equals(text.to_owned())
        })
    }

    /// True if the value, or its absence, is as demanded.
    pub fn matches(&self, value: Option<&str>) -> bool {
        match self {
            Matcher::Equals(text) => value == Some(text.as_str()),
            Matcher::Prefix(text) => value.is_some_and(|v| v.starts_with(text.as_str())),
            Matcher::Suffix(text) => value.is_some_and(|v| v.ends_with(text.as_str())),
            Matcher::Contains(text) => value.is_some_and(|v| v.contains(text.as_str())),
            Matcher::Regex(regex) => value.is_some_and(|v| regex.is_match(v)),
            Matcher::In(words) => value.is_some_and(|v| words.iter().any(|w| w == v)),
            Matcher::Present(yes) => value.is_some() == *yes,
            Matcher::Empty(yes) => value.is_none_or(str::is_empty) == *yes,
            Matcher::Not(inner) => !inner.matches(value),
            Matcher::All(all) => all.iter().all(|m| m.matches(value)),
        }
    }

    /// As [`Matcher::matches`] for a name with several values: for demands of absence all of them
    /// count, for the others one is enough.
    pub fn matches_any<'v>(&self, values: impl Iterator<Item = &'v str>) -> bool {
        let mut values = values.peekable();
        if values.peek().is_none() {
            return self.matches(None);
        }
        if self.demands_absence() {
            return values.all(|v| self.matches(Some(v)));
        }
        values.any(|v| self.matches(Some(v)))
    }

    fn demands_absence(&self) -> bool {
        match self {
            Matcher::Not(_) | Matcher::Present(false) | Matcher::Empty(true) => true,
            Matcher::All(all) => all.iter().any(Matcher::demands_absence),
            _ => false,
        }
    }

    /// True if a value that is not there satisfies it.
    pub fn accepts_absence(&self) -> bool {
        self.matches(None)
    }
}

/// Compiles a regex of the operator's within the size limit.
pub(super) fn compile(source: &str, at: &Node, problems: &mut Problems) -> Option<Regex> {
    match regex::RegexBuilder::new(source).size_limit(REGEX_SIZE_LIMIT).build() {
        Ok(regex) => Some(regex),
        Err(error) => {
            problems.error_hint(at, format!("not a usable regex: {}", reason(&error)), REGEX_HINT);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(yaml: &str) -> Matcher {
        let mut problems = Problems::new("t", yaml);
        let node = Node::parse(yaml, &mut problems).expect("yaml");
        let found = Matcher::check(&node, &mut problems);
        assert!(!problems.has_errors(), "{problems}");
        found.expect("matcher")
    }

    #[test]
    fn each_demand_holds_and_fails() {
        for (yaml, yes, no) in [
            ("abc", Some("abc"), Some("abcd")),
            ("[a, b]", Some("b"), Some("c")),
            ("present", Some(""), None),
            ("absent", None, Some("")),
            ("{ empty: true }", Some(""), Some("x")),
            ("{ empty: false }", Some("x"), None),
            ("{ prefix: a, suffix: c }", Some("abc"), Some("ab")),
            ("{ contains: b }", Some("abc"), None),
            ("{ regex: '^[0-9]+$' }", Some("42"), Some("4x")),
            ("{ glob: 'a*z' }", Some("a/z"), Some("a/")),
            ("{ not: abc }", None, Some("abc")),
            ("prefix:ab", Some("abc"), Some("b")),
            ("'present'", Some("present"), Some("x")),
        ] {
            let m = matcher(yaml);
            assert!(m.matches(yes), "{yaml} must match {yes:?}");
            assert!(!m.matches(no), "{yaml} must not match {no:?}");
        }
    }

    #[test]
    fn one_of_several_values_is_enough_but_absence_needs_all() {
        assert!(matcher("b").matches_any(["a", "b"].into_iter()));
        assert!(!matcher("{ not: b }").matches_any(["a", "b"].into_iter()));
        assert!(matcher("{ not: b }").matches_any(std::iter::empty()));
    }
}
