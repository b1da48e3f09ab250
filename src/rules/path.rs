//! Paths: how they are written in a route, and what a request's path is before it is compared.
//!
//! Applications decode a path before they route it, so `/%6cogin` is `/login` to them and must be
//! to us: a login nobody sees would otherwise cost one character. The compared form is the path
//! percent-decoded once, with repeated slashes merged and dot segments removed (RFC 3986 section
//! 5.2.4). The forwarded path is never touched.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use regex::Regex;

use crate::config::node::{Node, clip};
use crate::config::problem::Problems;

/// The most bytes a compiled pattern may take.
pub(super) const REGEX_SIZE_LIMIT: usize = 1 << 20;

/// A path as written in a route.
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// This path and no other.
    Exact(String),
    /// Every path that begins so.
    Prefix(String),
    /// Globs, templates and regexes, all as one anchored or free regex.
    Regex {
        /// As written.
        written: String,
        /// As compiled; named groups are the path's parameters.
        regex: Regex,
    },
}

impl PathPattern {
    /// Reads `/exact`, `prefix:/a/`, `glob:/a/*/b`, `template:/users/{id}/role` or `regex:^/a$`.
    pub fn check(node: &Node, problems: &mut Problems) -> Option<PathPattern> {
        let text = node.str(problems)?;
        let compile = |source: String, problems: &mut Problems| {
            let built = regex::RegexBuilder::new(&source).size_limit(REGEX_SIZE_LIMIT).build();
            match built {
                Ok(regex) => Some(PathPattern::Regex { written: text.to_owned(), regex }),
                Err(error) => {
                    problems.error_hint(node, format!("not a usable regex: {}", reason(&error)), REGEX_HINT);
                    None
                }
            }
        };
        if let Some(prefix) = text.strip_prefix("prefix:") {
            leading_slash(prefix, node, problems)?;
            if !prefix.ends_with('/') {
                problems.warn(
                    node,
                    format!("the prefix `{prefix}` also catches siblings such as `{prefix}-old`"),
                    &format!("write `prefix:{prefix}/`, or list `{prefix}` and `prefix:{prefix}/`"),
                );
            }
            Some(PathPattern::Prefix(prefix.to_owned()))
        } else if let Some(glob) = text.strip_prefix("glob:") {
            leading_slash(glob, node, problems)?;
            compile(glob_to_regex(glob, true), problems)
        } else if let Some(template) = text.strip_prefix("template:") {
            leading_slash(template, node, problems)?;
            match template_to_regex(template) {
                Ok(source) => compile(source, problems),
                Err(why) => {
                    problems.error_hint(node, why, "write parameters as {name}: template:/users/{id}/role");
                    None
                }
            }
        } else if let Some(regex) = text.strip_prefix("regex:") {
            if !regex.starts_with('^') {
                problems.warn(
                    node,
                    "the regex is not anchored: it matches anywhere in a path".into(),
                    &format!("write `regex:^{}` if it is meant to match from the beginning", clip(regex)),
                );
            }
            compile(regex.to_owned(), problems)
        } else {
            leading_slash(text, node, problems)?;
            if text.contains(['*', '{']) {
                let scheme = if text.contains('{') { "template" } else { "glob" };
                problems.warn(
                    node,
                    format!("`{}` is compared letter by letter", clip(text)),
                    &format!("write `{scheme}:{}` if a pattern is meant", clip(text)),
                );
            }
            if text.contains('?') {
                problems.warn(node, "a path has no query".into(), "match the query with `query: { name: value }`");
            }
            Some(PathPattern::Exact(text.to_owned()))
        }
    }

    /// True if the compared form of a path (see [`compared`]) matches.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            PathPattern::Exact(exact) => exact == path,
            PathPattern::Prefix(prefix) => path.starts_with(prefix.as_str()),
            PathPattern::Regex { regex, .. } => regex.is_match(path),
        }
    }

    /// True if it says of single places what they are: an exact path, or a pattern with a word of its
    /// own. A whole folder says nothing of each place in it.
    pub fn names_a_place(&self) -> bool {
        match self {
            PathPattern::Exact(_) => true,
            PathPattern::Prefix(_) => false,
            PathPattern::Regex { written, .. } => match written.split_once(':') {
                Some(("template" | "glob", path)) => {
                    path.split('/').any(|segment| !segment.is_empty() && !segment.contains(['{', '*', '?', '[']))
                }
                _ => true,
            },
        }
    }

    /// The value of a parameter (`{id}` of a template, a named group of a regex).
    pub fn parameter<'p>(&self, path: &'p str, name: &str) -> Option<&'p str> {
        match self {
            PathPattern::Regex { regex, .. } => regex.captures(path)?.name(name).map(|m| m.as_str()),
            _ => None,
        }
    }

    /// The names of the parameters.
    pub fn parameters(&self) -> Vec<&str> {
        match self {
            PathPattern::Regex { regex, .. } => regex.capture_names().flatten().collect(),
            _ => Vec::new(),
        }
    }

    /// The path as it is written, if it is one path or a template: what stands for all paths that
    /// match without being one of many.
    pub fn low_cardinality(&self) -> Option<&str> {
        match self {
            PathPattern::Exact(path) => Some(path),
            PathPattern::Regex { written, .. } => written.strip_prefix("template:"),
            PathPattern::Prefix(_) => None,
        }
    }

    /// The source for the set of all patterns, if it is a regex.
    pub fn as_regex(&self) -> Option<&str> {
        match self {
            PathPattern::Regex { regex, .. } => Some(regex.as_str()),
            _ => None,
        }
    }

    /// True if every path that `other` can match matches here first (only certain cases are seen).
    pub fn covers(&self, other: &PathPattern) -> bool {
        match (self, other) {
            (PathPattern::Exact(a), PathPattern::Exact(b)) => a == b,
            (PathPattern::Prefix(a), PathPattern::Exact(b) | PathPattern::Prefix(b)) => b.starts_with(a.as_str()),
            (PathPattern::Regex { regex, .. }, PathPattern::Exact(b)) => regex.is_match(b),
            (PathPattern::Regex { regex: a, .. }, PathPattern::Regex { regex: b, .. }) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

/// What is said beside a regex that does not compile.
pub(super) const REGEX_HINT: &str = "the syntax is that of the Rust regex crate: no look-around, no back-references";

/// The last line of a regex error: the reason without the drawing.
pub(super) fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => format!("it compiles to more than {limit} bytes"),
        other => {
            let text = other.to_string();
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    }
}

fn leading_slash(path: &str, node: &Node, problems: &mut Problems) -> Option<()> {
    if path.starts_with('/') || path == "*" {
        return Some(());
    }
    let hint = match path.split_once("://") {
        Some(_) => "write the path alone, like /login; the host goes into `host:`".to_owned(),
        None => format!("a path begins with `/`: /{}", clip(path)),
    };
    problems.error_hint(node, format!("`{}` is not a path", clip(path)), &hint);
    None
}

/// `*` is a run within a segment, `**` any run, `?` one character of a segment.
pub(super) fn glob_to_regex(glob: &str, segments: bool) -> String {
    let mut out = String::from("^");
    let mut chars = glob.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.peek() == Some(&'*') => {
                chars.next();
                out.push_str(".*");
            }
            '*' => out.push_str(if segments { "[^/]*" } else { ".*" }),
            '?' => out.push_str(if segments { "[^/]" } else { "." }),
            c => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    out.push('$');
    out
}

/// `{name}` is one whole, non-empty segment or the rest of one; `{name*}` is any rest.
fn template_to_regex(template: &str) -> Result<String, String> {
    let mut out = String::from("^");
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let Some(length) = rest[open..].find('}') else { return Err("a `{` is not closed".into()) };
        out.push_str(&regex::escape(&rest[..open]));
        let inner = &rest[open + 1..open + length];
        let (name, pattern) = match inner.strip_suffix('*') {
            Some(name) => (name, ".+"),
            None => (inner, "[^/]+"),
        };
        let valid = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if !valid {
            return Err(format!("`{{{inner}}}` is not a parameter"));
        }
        out.push_str(&format!("(?P<{name}>{pattern})"));
        rest = &rest[open + length + 1..];
    }
    out.push_str(&regex::escape(rest));
    out.push('$');
    Ok(out)
}

/// The form of a path that routes are compared with. Borrows, and so allocates nothing, unless
/// the path holds an escape, a repeated slash or a dot segment.
pub fn compared(path: &str) -> Cow<'_, str> {
    let plain = |before: u8, byte: u8| byte != b'%' && !(before == b'/' && matches!(byte, b'/' | b'.'));
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'%') && bytes.iter().zip(bytes.get(1..).unwrap_or_default()).all(|(a, b)| plain(*a, *b))
    {
        return Cow::Borrowed(path);
    }
    let decoded: Cow<'_, str> =
        if path.contains('%') { percent_decode_str(path).decode_utf8_lossy() } else { Cow::Borrowed(path) };
    if !decoded.contains("//") && !decoded.contains("/.") {
        return decoded;
    }
    let mut kept: Vec<&str> = Vec::new();
    let trailing = decoded.ends_with('/') || decoded.ends_with("/.") || decoded.ends_with("/..");
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(decoded.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if trailing || out.is_empty() {
        out.push('/');
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> PathPattern {
        let source = format!("'{text}'");
        let mut problems = Problems::new("t", &source);
        let node = Node::parse(&source, &mut problems).expect("yaml");
        let found = PathPattern::check(&node, &mut problems);
        assert!(!problems.has_errors(), "{problems}");
        found.expect("pattern")
    }

    #[test]
    fn an_encoded_or_untidy_path_is_compared_as_the_application_reads_it() {
        for (raw, want) in [
            ("/login", "/login"),
            ("/%6cogin", "/login"),
            ("//login", "/login"),
            ("/a/../login", "/login"),
            ("/./login/", "/login/"),
            ("/../..", "/"),
            ("/a%2Fb", "/a/b"),
            ("/.well-known/x", "/.well-known/x"),
            ("*", "*"),
        ] {
            assert_eq!(compared(raw), want, "{raw}");
        }
        assert!(matches!(compared("/login"), Cow::Borrowed(_)));
    }

    #[test]
    fn each_way_to_write_a_path() {
        assert!(pattern("/login").matches("/login") && !pattern("/login").matches("/login/"));
        assert!(pattern("prefix:/a/").matches("/a/b/c") && !pattern("prefix:/a/").matches("/ab"));
        assert!(pattern("glob:/a/*/c").matches("/a/b/c") && !pattern("glob:/a/*/c").matches("/a/b/b/c"));
        assert!(pattern("glob:/a/**").matches("/a/b/b/c"));
        assert!(pattern("regex:^/(en|de)/login$").matches("/de/login"));
        let template = pattern("template:/users/{id}/role");
        assert!(template.matches("/users/7/role") && !template.matches("/users/7/8/role"));
        assert_eq!(template.parameter("/users/7/role", "id"), Some("7"));
        assert!(!pattern("template:/a.b/{x}").matches("/aXb/1"), "literal parts are literal");
    }
}
