//! XML-RPC: the method and parameters of a call, the value or fault of an answer.
//!
//! A scanner for this one small grammar and no XML parser: names of elements are compared as they
//! stand, attributes are skipped, and the five entities of XML itself and character references are
//! all that is replaced. Must never read a document type with declarations in it, so there is nothing
//! to expand or to fetch; a document with one is no call.
//!
//! The invariant: one pass, memory linear in the input, no recursion; of a cut body only what was
//! closed is kept, so that a prefix never yields a value that the whole would not have.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// How deep values may nest.
pub const MAX_DEPTH: usize = 64;
/// The most calls of a `system.multicall` that are looked at.
pub const MAX_CALLS: usize = 256;

/// One call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The method, as sent.
    pub method: String,
    /// Its parameters in order; scalars of every type are texts.
    pub params: Vec<Value>,
    /// True if there may be more parameters than these.
    pub cut: bool,
}

/// What a body asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Calls {
    /// One call, or those of a `system.multicall`.
    pub calls: Vec<Call>,
    /// True if they came as one `system.multicall`, whose answer is a list.
    pub multicall: bool,
    /// True if there may be more than these.
    pub cut: bool,
}

/// One result.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The value.
    Value(Value),
    /// `faultCode` and `faultString`.
    Fault(Value),
}

/// Reads a call; `None` if the body is none. With `cut`, the input is known to be a prefix.
pub fn calls(bytes: &[u8], cut: bool) -> Option<Calls> {
    let read = read(bytes, cut, "methodCall")?;
    let (method, params) = (read.method?, read.params);
    if method != "system.multicall" {
        return Some(Calls { calls: vec![Call { method, params, cut: read.cut }], multicall: false, cut: false });
    }
    let listed = match params.into_iter().next() {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let more = listed.len() > MAX_CALLS;
    let calls = listed.into_iter().take(MAX_CALLS).filter_map(|item| {
        let Value::Object(mut call) = item else { return None };
        let Some(Value::String(method)) = call.remove("methodName") else { return None };
        let params = match call.remove("params") {
            Some(Value::Array(params)) => params,
            _ => Vec::new(),
        };
        Some(Call { method, params, cut: false })
    });
    Some(Calls { calls: calls.collect(), multicall: true, cut: more || read.cut })
}

/// Reads an answer: one result, or with `multicall` one for each call. `None` if the body is none.
pub fn answers(bytes: &[u8], cut: bool, multicall: bool) -> Option<Vec<Answer>> {
    let read = read(bytes, cut, "methodResponse")?;
    if let Some(fault) = read.fault {
        return Some(vec![Answer::Fault(fault)]);
    }
    let value = read.params.into_iter().next()?;
    if !multicall {
        // A value that was cut may still become another.
        return (!read.cut).then(|| vec![Answer::Value(value)]);
    }
    let Value::Array(items) = value else { return None };
    let results = items.into_iter().take(MAX_CALLS).map(|item| match item {
        // A result is a list of one, a fault is a struct.
        Value::Array(mut one) if !one.is_empty() => Answer::Value(one.swap_remove(0)),
        Value::Object(fault) if fault.contains_key("faultCode") => Answer::Fault(Value::Object(fault)),
        other => Answer::Value(other),
    });
    Some(results.collect())
}

/// What was read of a document.
#[derive(Default)]
struct Read {
    method: Option<String>,
    params: Vec<Value>,
    fault: Option<Value>,
    cut: bool,
}

/// An element that is open.
enum Open {
    /// One that only holds others.
    Plain,
    Fault,
    MethodName(String),
    /// `<value>`: a text until an element says otherwise.
    Value {
        text: String,
        value: Option<Value>,
    },
    /// A scalar's type.
    Scalar(String),
    /// `<nil/>`
    Nil,
    Array(Vec<Value>),
    Struct(Map<String, Value>),
    Member {
        name: Option<String>,
        value: Option<Value>,
    },
    Name(String),
}

fn read(bytes: &[u8], cut: bool, root: &str) -> Option<Read> {
    let text = String::from_utf8_lossy(bytes);
    let mut scanner = Scanner { rest: text.strip_prefix('\u{feff}').unwrap_or(&text).trim_start(), ends: false };
    let mut out = Read { cut, ..Read::default() };
    let mut open: Vec<Open> = Vec::new();
    let mut begun = false;
    loop {
        match scanner.next() {
            Scanned::Begin(name) if !begun => {
                if name != root {
                    return None;
                }
                begun = true;
                open.push(Open::Plain);
            }
            Scanned::Begin(name) => {
                if open.len() > MAX_DEPTH * 4 {
                    return None;
                }
                open.push(match name {
                    "methodName" => Open::MethodName(String::new()),
                    "fault" => Open::Fault,
                    "value" => Open::Value { text: String::new(), value: None },
                    "array" => Open::Array(Vec::new()),
                    "struct" => Open::Struct(Map::new()),
                    "member" => Open::Member { name: None, value: None },
                    "name" => Open::Name(String::new()),
                    "params" | "param" | "data" => Open::Plain,
                    "nil" | "ex:nil" => Open::Nil,
                    _ => Open::Scalar(String::new()),
                });
            }
            Scanned::Text(text) => {
                if let Some(
                    Open::MethodName(into)
                    | Open::Value { text: into, value: None }
                    | Open::Scalar(into)
                    | Open::Name(into),
                ) = open.last_mut()
                {
                    into.push_str(&text);
                }
            }
            Scanned::End => {
                let closed = open.pop()?;
                close(closed, &mut open, &mut out);
                if open.is_empty() {
                    return Some(out);
                }
            }
            Scanned::Over => break,
        }
    }
    if !(begun && cut) {
        return None;
    }
    // Of a list of calls or results that was cut the complete ones count; of anything else nothing does.
    if out.method.as_deref().is_some_and(|m| m != "system.multicall") {
        return Some(out);
    }
    while let Some(left) = open.pop() {
        match left {
            Open::Array(items) => {
                if let Some(Open::Value { value, .. }) = open.last_mut() {
                    *value = Some(Value::Array(items));
                }
            }
            Open::Value { value: Some(list @ Value::Array(_)), .. }
                if open.iter().all(|o| matches!(o, Open::Plain)) =>
            {
                out.params.push(list);
            }
            _ => {}
        }
    }
    Some(out)
}

/// Hands what an element held to the one around it.
fn close(closed: Open, open: &mut [Open], out: &mut Read) {
    let value = match closed {
        Open::MethodName(name) => {
            out.method.get_or_insert_with(|| name.trim().to_owned());
            return;
        }
        Open::Name(text) => {
            if let Some(Open::Member { name, .. }) = open.last_mut() {
                *name = Some(text);
            }
            return;
        }
        Open::Member { name, value } => {
            if let (Some(Open::Struct(members)), Some(name), Some(value)) = (open.last_mut(), name, value) {
                members.insert(name, value);
            }
            return;
        }
        Open::Scalar(text) => Value::String(text),
        Open::Nil => Value::Null,
        Open::Array(items) => Value::Array(items),
        Open::Struct(members) => Value::Object(members),
        Open::Value { text, value } => {
            let value = value.unwrap_or(Value::String(text));
            // `<data>` stands between a list and its values.
            let holder = open.iter_mut().rev().find(|o| !matches!(o, Open::Plain));
            match holder {
                Some(Open::Array(items)) => items.push(value),
                Some(Open::Member { value: slot, .. }) => *slot = Some(value),
                Some(Open::Fault) => out.fault = Some(value),
                None => out.params.push(value),
                Some(_) => {}
            }
            return;
        }
        Open::Plain | Open::Fault => return,
    };
    // The first counts, so that what a prefix held is not taken back.
    if let Some(Open::Value { value: slot, .. }) = open.last_mut() {
        slot.get_or_insert(value);
    }
}

enum Scanned<'d> {
    Begin(&'d str),
    Text(Cow<'d, str>),
    End,
    Over,
}

struct Scanner<'d> {
    rest: &'d str,
    /// True after `<name/>`, whose end is still to be told.
    ends: bool,
}

impl<'d> Scanner<'d> {
    fn next(&mut self) -> Scanned<'d> {
        if std::mem::take(&mut self.ends) {
            return Scanned::End;
        }
        loop {
            if self.rest.is_empty() {
                return Scanned::Over;
            }
            let Some(markup) = self.rest.strip_prefix('<') else {
                // Text that nothing follows may be half an entity, or half a value: it is dropped.
                let Some(end) = self.rest.find('<') else { return Scanned::Over };
                let text = self.rest.get(..end).unwrap_or_default();
                self.rest = self.rest.get(end..).unwrap_or_default();
                return Scanned::Text(replaced(text));
            };
            if let Some(section) = markup.strip_prefix("![CDATA[") {
                let Some((text, rest)) = section.split_once("]]>") else { return Scanned::Over };
                self.rest = rest;
                return Scanned::Text(Cow::Borrowed(text));
            }
            if let Some(comment) = markup.strip_prefix("!--") {
                let Some((_, rest)) = comment.split_once("-->") else { return Scanned::Over };
                self.rest = rest;
                continue;
            }
            let Some((tag, rest)) = markup.split_once('>') else { return Scanned::Over };
            if tag.starts_with(['?', '!']) {
                // A document type that declares something is not read.
                if tag.starts_with('!') && tag.contains('[') {
                    return Scanned::Over;
                }
                self.rest = rest;
                continue;
            }
            if tag.starts_with('/') {
                self.rest = rest;
                return Scanned::End;
            }
            self.rest = rest;
            let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
            self.ends = empty;
            return Scanned::Begin(tag.split_ascii_whitespace().next().unwrap_or_default());
        }
    }
}

/// A text with its references replaced; what is no reference stays as it is.
fn replaced(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut parts = text.split('&');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let named = part.split_once(';').and_then(|(name, rest)| {
            let c = match name {
                "lt" => '<',
                "gt" => '>',
                "amp" => '&',
                "quot" => '"',
                "apos" => '\'',
                _ => {
                    let digits = name.strip_prefix('#')?;
                    let code = match digits.strip_prefix(['x', 'X']) {
                        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                        None => digits.parse().ok()?,
                    };
                    char::from_u32(code)?
                }
            };
            Some((c, rest))
        });
        match named {
            Some((c, rest)) => {
                out.push(c);
                out.push_str(rest);
            }
            None => {
                out.push('&');
                out.push_str(part);
            }
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests;
