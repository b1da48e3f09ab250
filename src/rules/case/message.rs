//! Reads what a request and an answer of a test have alike: headers, cookies and a body.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};

use crate::config::node::{Map, Node, Value, clip};
use crate::config::problem::Problems;
use crate::headers::Headers;
use crate::rules::condition::HEADER_HINT;

/// Fields as a query or a urlencoded form.
pub(super) fn encoded(fields: &Node, problems: &mut Problems) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    for (key, value) in fields.entries(problems) {
        for item in value.items() {
            if let Some(text) = item.str(problems) {
                out.append_pair(&key.text, text);
            }
        }
    }
    out.finish()
}

pub(super) fn insert(headers: &mut Headers, name: HeaderName, value: &str) {
    if !headers.contains_key(&name)
        && let Ok(value) = HeaderValue::from_str(value)
    {
        headers.insert(name, value);
    }
}

pub(super) fn value(at: &Node, text: &str, problems: &mut Problems) -> Option<HeaderValue> {
    let value = HeaderValue::from_str(text).ok();
    if value.is_none() {
        problems.error_hint(at, "this cannot be sent in a header".into(), "write it on one line");
    }
    value
}

/// The most headers of a message: what `limits.headers` may be at most.
const MAX_HEADERS: usize = 4096;

pub(super) fn headers(map: &Map<'_>, problems: &mut Problems) -> Headers {
    let mut headers = Headers::new();
    let Some(at) = map.get("headers") else { return headers };
    for (key, values) in at.entries(problems) {
        let Ok(name) = HeaderName::from_bytes(key.text.as_bytes()) else {
            problems.error_key(at, key, format!("`{}` is not a header name", clip(&key.text)), HEADER_HINT);
            continue;
        };
        for item in values.items() {
            let sent = item.str(problems).and_then(|text| value(item, text, problems));
            let Some(sent) = sent else { continue };
            if headers.len() < MAX_HEADERS {
                headers.append(&name, sent);
            } else {
                problems.error_hint(item, "more headers than a message can have".into(), "keep a few");
                return headers;
            }
        }
    }
    headers
}

pub(super) fn cookies(request: &Map<'_>, headers: &mut Headers, problems: &mut Problems) {
    let Some(at) = request.get("cookies") else { return };
    let mut pairs = Vec::new();
    for (key, item) in at.entries(problems) {
        pairs.extend(item.str(problems).map(|text| format!("{}={text}", key.text)));
    }
    if let Some(sent) = value(at, &pairs.join("; "), problems) {
        headers.insert(header::COOKIE, sent);
    }
}

/// The one body a message may have, and its media type unless a header says it.
pub(super) fn body(map: &Map<'_>, at: &Node, kinds: &[&str], problems: &mut Problems) -> Option<(Bytes, &'static str)> {
    let mut found = kinds.iter().filter_map(|kind| Some((*kind, map.get(kind)?)));
    let (kind, node) = found.next()?;
    if found.next().is_some() {
        problems.error_hint(at, "a message has one body".into(), &format!("keep one of: {}", kinds.join(", ")));
    }
    Some(match kind {
        "form" => (encoded(node, problems).into(), "application/x-www-form-urlencoded"),
        "json" => (node.to_json().to_string().into(), "application/json"),
        _ => (node.str(problems).unwrap_or_default().to_owned().into(), "text/html; charset=utf-8"),
    })
}

pub(super) fn request_body(request: &Map<'_>, at: &Node, headers: &mut Headers, problems: &mut Problems) -> Bytes {
    let Some((bytes, media_type)) = body(request, at, &["form", "json", "body"], problems) else { return Bytes::new() };
    if request.get("body").is_none() {
        insert(headers, header::CONTENT_TYPE, media_type);
    }
    bytes
}

pub(super) fn set_cookies(at: &Node, headers: &mut Headers, problems: &mut Problems) {
    let mut lines: Vec<(String, &Node)> = Vec::new();
    if let Value::Map(entries) = &at.value {
        for (key, item) in entries {
            let Some(text) = item.str(problems) else { continue };
            let deleted = matches!(&item.value, Value::Scalar { text, plain: true } if text == "deleted");
            let line = if deleted { format!("{}=; Max-Age=0", key.text) } else { format!("{}={text}", key.text) };
            lines.push((line, item));
        }
    } else {
        lines.extend(at.items().iter().filter_map(|item| Some((item.str(problems)?.to_owned(), item))));
    }
    for (line, item) in lines {
        let Some(sent) = value(item, &line, problems) else { continue };
        if headers.len() < MAX_HEADERS {
            headers.append(header::SET_COOKIE, sent);
        } else {
            problems.error_hint(item, "more headers than a message can have".into(), "keep a few");
            return;
        }
    }
}
