//! A preset moved to where its application is mounted: `base:` and `host:` of `presets:`.
//!
//! The routes are moved as they are written, before they are compiled, and their tests with them, so
//! that every test of a preset also shows that it can be moved. It must never touch a text that is
//! not a path of the application: names of fields, cookies and hosts stay as they are.

use crate::config::node::{Key, Node, Value};

/// The items of a list that stands under a key.
pub(super) fn list_mut<'n>(node: &'n mut Node, key: &str) -> Option<&'n mut Vec<Node>> {
    match &mut child_mut(node, key)?.value {
        Value::Seq(items) => Some(items),
        _ => None,
    }
}

fn child_mut<'n>(node: &'n mut Node, key: &str) -> Option<&'n mut Node> {
    let Value::Map(entries) = &mut node.value else { return None };
    entries.iter_mut().find(|(k, _)| k.text == key).map(|(_, node)| node)
}

/// Moves every route below `base` (empty is the root), and restricts it to `hosts` (none is any).
pub(super) fn mount(root: &mut Node, base: &str, hosts: &[Node]) {
    for route in list_mut(root, "routes").into_iter().flatten() {
        let Value::Map(entries) = &mut route.value else { continue };
        for (key, node) in entries {
            match key.text.as_str() {
                "match" => {
                    match child_mut(node, "path").is_some() {
                        true => condition(node, base),
                        // What is told by a query or a form alone is told so below the base only.
                        false => below(node, base),
                    }
                    restrict(node, "host", hosts);
                }
                "when" => condition(node, base),
                "rules" => rules(node, base),
                "tests" => tests(node, base, hosts),
                _ => sources(node, base),
            }
        }
    }
}

fn rules(node: &mut Node, base: &str) {
    let Value::Seq(items) = &mut node.value else { return };
    for item in items {
        if let Some(when) = child_mut(item, "when") {
            condition(when, base);
        }
        if let Some(inner) = child_mut(item, "follow").and_then(|follow| child_mut(follow, "rules")) {
            rules(inner, base);
        }
    }
}

/// A `match` or a `when`.
fn condition(node: &mut Node, base: &str) {
    let Value::Map(entries) = &mut node.value else { return };
    for (key, node) in entries {
        match key.text.as_str() {
            "path" | "location.path" => matcher(node, base),
            "location" => match child_mut(node, "path") {
                Some(path) => matcher(path, base),
                // With `query` or `host` alone there is no path to move, but a matcher may stand here.
                None => matcher(node, base),
            },
            "not" => condition(node, base),
            "all" | "any" => {
                if let Value::Seq(items) = &mut node.value {
                    items.iter_mut().for_each(|item| condition(item, base));
                }
            }
            _ => {}
        }
    }
}

/// Restricts a `match` that names no path.
fn below(node: &mut Node, base: &str) {
    if base.is_empty() {
        return;
    }
    let scalar = |text: String| Node { value: Value::Scalar { text, plain: false }, ..node.clone() };
    let everything = vec![scalar(base.to_owned()), scalar(format!("prefix:{base}/"))];
    let paths = Node { value: Value::Seq(everything), ..node.clone() };
    add(node, "path", paths);
}

/// One path pattern or matcher of paths, or several.
fn matcher(node: &mut Node, base: &str) {
    match &mut node.value {
        Value::Scalar { text, .. } => *text = pattern(text, base),
        Value::Seq(items) => items.iter_mut().for_each(|item| matcher(item, base)),
        Value::Map(entries) => {
            for (key, node) in entries {
                match (key.text.as_str(), &mut node.value) {
                    ("regex", Value::Scalar { text, .. }) => *text = regex(text, base),
                    ("equals" | "prefix" | "glob" | "in" | "not", _) => matcher(node, base),
                    // The end or the middle of a path is the same wherever it begins.
                    _ => {}
                }
            }
        }
        Value::Null => {}
    }
}

/// A pattern as one text, maybe with a scheme before it.
fn pattern(text: &str, base: &str) -> String {
    let (scheme, rest) = match text.split_once(':') {
        Some(("regex", rest)) => return format!("regex:{}", regex(rest, base)),
        Some((scheme @ ("prefix" | "glob" | "template"), rest)) => (Some(scheme), rest),
        _ => (None, text),
    };
    match scheme {
        _ if !rest.starts_with('/') => text.to_owned(),
        Some(scheme) => format!("{scheme}:{base}{rest}"),
        None => format!("{base}{rest}"),
    }
}

/// An anchored regex of paths; one that is not anchored holds anywhere.
fn regex(source: &str, base: &str) -> String {
    match source.strip_prefix('^') {
        Some(rest) if !base.is_empty() => format!("^{}{rest}", regex::escape(base)),
        _ => source.to_owned(),
    }
}

/// Sources that look for something in a path.
fn sources(node: &mut Node, base: &str) {
    const LOCATION: &str = "response.location:";
    match &mut node.value {
        Value::Scalar { text, .. } => {
            if let Some(source) = text.strip_prefix(LOCATION) {
                *text = format!("{LOCATION}{}", regex(source, base));
            }
        }
        Value::Seq(items) => items.iter_mut().for_each(|item| sources(item, base)),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, node)| sources(node, base)),
        Value::Null => {}
    }
}

/// The tests move along: they ask where the application now is.
fn tests(node: &mut Node, base: &str, hosts: &[Node]) {
    let Value::Seq(items) = &mut node.value else { return };
    for test in items {
        if let Some(at) = child_mut(test, "request").and_then(|message| child_mut(message, "path")) {
            matcher(at, base);
        }
        let answered = child_mut(test, "response").and_then(|message| child_mut(message, "location"));
        if let Some(Node { value: Value::Scalar { text, .. }, .. }) = answered {
            *text = location(text, base);
        }
        let Some(host) = hosts.first() else { continue };
        let mut asked = host.clone();
        if let Value::Scalar { text, .. } = &mut asked.value {
            *text = text.replace('*', "test");
        }
        if child_mut(test, "request").is_none() {
            let request = Node { value: Value::Map(Vec::new()), ..test.clone() };
            add(test, "request", request);
        }
        if let Some(request) = child_mut(test, "request") {
            restrict(request, "host", std::slice::from_ref(&asked));
        }
    }
}

/// A `Location`, with or without scheme and host.
fn location(text: &str, base: &str) -> String {
    let path = match text.split_once("://") {
        Some((scheme, rest)) => rest.find('/').map_or(text.len(), |at| scheme.len() + 3 + at),
        None => 0,
    };
    match text.split_at_checked(path) {
        Some((before, after)) if after.starts_with('/') => format!("{before}{base}{after}"),
        _ => text.to_owned(),
    }
}

/// Adds a key with these values, unless it is there.
fn restrict(node: &mut Node, key: &str, values: &[Node]) {
    if values.is_empty() || child_mut(node, key).is_some() {
        return;
    }
    let value = match values {
        [one] => one.value.clone(),
        several => Value::Seq(several.to_vec()),
    };
    add(node, key, Node { span: node.span.clone(), path: node.path.clone(), value });
}

fn add(node: &mut Node, key: &str, value: Node) {
    let key = Key { text: key.to_owned(), span: node.span.clone() };
    if let Value::Map(entries) = &mut node.value {
        entries.push((key, value));
    }
}
