//! One exchange as an entry of a HAR file, without its secrets.
//!
//! Everything goes through the [`Scrubber`]; a header, field or body that this module does not know how to
//! read is left out. Address and cuts stand under `_authtap`, where HAR has no place for them.

use http::{HeaderValue, header};
use serde_json::{Value as Json, json};

use super::page::page;
use super::scrub::{As, Scrubber};
use crate::auto::page::{Asks, Page};
use crate::body::cookie::request_cookies;
use crate::body::{self, graphql};
use crate::exchange::Exchange;
use crate::headers::Headers;
use crate::learn::{is_word, says_how_it_went, says_what};
use crate::rules::facts::{BodyFacts, Facts};

/// Headers about the way, not about what is said; or whose place the address of the entry takes.
const LEFT_OUT: [&str; 22] = [
    "host",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "date",
    "age",
    "expires",
    "etag",
    "last-modified",
    "via",
    "forwarded",
    "traceparent",
    "tracestate",
    "x-request-id",
    "x-real-ip",
    "content-security-policy",
    "server-timing",
];
/// Beginnings of such headers.
const LEFT_OUT_FROM: [&str; 5] = ["x-forwarded-", "if-", "cf-", "x-amzn-", "sec-ch-"];
/// The most headers of a section.
const MAX_HEADERS: usize = 200;
/// How deep JSON is looked into; what lies deeper is left out.
const MAX_DEPTH: usize = 32;

/// The entry.
pub fn entry(exchange: &Exchange, scrubber: &mut Scrubber) -> Json {
    let facts = Facts::of_exchange(exchange);
    // What the page asks for is known before its answer is posted.
    if let Some(answer) = facts.response_body().filter(|_| is_html(exchange.response.as_ref().map(|r| &r.headers))) {
        let read = Page::read(&answer.text(), !answer.cut());
        read.fields().for_each(|input| scrubber.knows_name(&input.name));
        for input in read.fields().filter(|input| matches!(input.asks, Asks::Password | Asks::NewPassword | Asks::Code))
        {
            scrubber.asks_a_secret(&input.name);
        }
    }
    let request = &exchange.request;
    let authority = request.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or(&request.host);
    let host = scrubber.host(if authority.is_empty() { "localhost" } else { authority });
    let target = scrubber.target(request.uri.path_and_query().map_or("/", |target| target.as_str()));
    let mut asked = json!({
        "method": scrubber.text(request.method.as_str(), As::Value), "httpVersion": "HTTP/1.1",
        "url": format!("{}://{host}{target}", exchange.scheme),
        "headers": headers(&request.headers, scrubber), "cookies": [], "queryString": [],
        "headersSize": -1, "bodySize": -1,
    });
    if let Some(data) = facts.request_body().and_then(|body| posted(&facts, body, &request.headers, scrubber)) {
        asked["postData"] = data;
    }
    let wait = exchange.answered.as_millis().saturating_sub(exchange.began.as_millis()).max(0);
    let time = exchange.duration.as_secs_f64() * 1000.0;
    let cut = |body: Option<&BodyFacts<'_>>| body.is_some_and(BodyFacts::cut);
    json!({
        "startedDateTime": exchange.began.to_string(), "time": time, "request": asked,
        "response": answered(exchange, &facts, scrubber), "cache": {},
        "timings": {"send": 0, "wait": wait, "receive": (time - wait as f64).max(0.0)},
        "_authtap": {"client": scrubber.client(exchange.client_ip).to_string(),
                     "requestCut": cut(facts.request_body()), "answerCut": cut(facts.response_body())},
    })
}

fn answered(exchange: &Exchange, facts: &Facts<'_>, scrubber: &mut Scrubber) -> Json {
    let Some(response) = &exchange.response else {
        return json!({"status": 0, "statusText": "", "httpVersion": "", "headers": [], "cookies": [],
                      "content": {"size": 0, "mimeType": ""}, "redirectURL": "", "headersSize": -1, "bodySize": -1});
    };
    let kind = body::media_type(body::content_type(&response.headers)).to_ascii_lowercase();
    let mut content = json!({"size": response.body.bytes.len(), "mimeType": scrubber.text(&kind, As::Value)});
    if let Some(body) = facts.response_body() {
        let text = match body.json() {
            Some(value) => Some(json_of(value, "", 0, scrubber).to_string()),
            // Half of a document says less than nothing of what it holds.
            None if kind.contains("json") => None,
            None if kind.is_empty() || kind.starts_with("text/") || kind.contains("xml") => {
                Some(page(&body.text(), false, scrubber))
            }
            None => None,
        };
        if let Some(text) = text.filter(|_| !body.decoded().is_empty()) {
            content["size"] = text.len().into();
            content["text"] = text.into();
        }
    }
    json!({
        "status": response.status.as_u16(), "statusText": "", "httpVersion": "HTTP/1.1",
        "headers": headers(&response.headers, scrubber), "cookies": [], "content": content, "redirectURL": "",
        "headersSize": -1, "bodySize": -1,
    })
}

fn is_html(headers: Option<&Headers>) -> bool {
    headers.is_some_and(|headers| body::media_type(body::content_type(headers)).eq_ignore_ascii_case("text/html"))
}

/// What a request sends.
fn posted(facts: &Facts<'_>, sent: &BodyFacts<'_>, headers: &Headers, scrubber: &mut Scrubber) -> Option<Json> {
    if sent.decoded().is_empty() {
        return None;
    }
    let kind = body::media_type(body::content_type(headers)).to_ascii_lowercase();
    let shown = scrubber.text(&kind, As::Value);
    if let Some(fields) = sent.fields() {
        let params: Vec<Json> = fields
            .iter()
            .map(|(name, value)| {
                let shown = if value.is_empty() { scrubber.lone_name(name) } else { scrubber.name_of_value(name) };
                json!({"name": shown, "value": field(name, value, scrubber)})
            })
            .collect();
        return Some(json!({"mimeType": shown, "params": params}));
    }
    let text = match sent.json() {
        Some(value) => json_of(value, "", 0, scrubber).to_string(),
        None if kind == "application/graphql" && facts.graphql().is_some() => document(&sent.text(), scrubber),
        None if sent.decoded().trim_ascii_start().starts_with(b"<") => page(&sent.text(), true, scrubber),
        // Nothing can be said of it: not even where a value begins.
        None => scrubber.secret(&sent.text()),
    };
    Some(json!({"mimeType": shown, "text": text}))
}

/// A value of a form.
fn field(name: &str, value: &str, scrubber: &mut Scrubber) -> String {
    match says_what(name) && is_word(value) {
        true => scrubber.name(value),
        false => scrubber.named(name, value),
    }
}

fn json_of(value: &Json, name: &str, depth: usize, scrubber: &mut Scrubber) -> Json {
    match value {
        _ if depth > MAX_DEPTH => Json::Null,
        Json::Object(members) => members
            .iter()
            .map(|(name, value)| (scrubber.name(name), json_of(value, name, depth + 1, scrubber)))
            .collect(),
        Json::Array(items) => items.iter().map(|item| json_of(item, name, depth + 1, scrubber)).collect(),
        Json::String(text) if name == "query" && is_graphql(text) => document(text, scrubber).into(),
        Json::String(text) if says_what(name) && is_word(text) => scrubber.name(text).into(),
        Json::String(text) if says_how_it_went(name, text) => scrubber.name(text).into(),
        Json::String(text) => scrubber.named(name, text).into(),
        Json::Number(_) => scrubber.number(name, value),
        other => other.clone(),
    }
}

fn is_graphql(text: &str) -> bool {
    text.contains('{') && graphql::parse(text).is_some()
}

/// A GraphQL document: its names stay, its texts go.
fn document(text: &str, scrubber: &mut Scrubber) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '#' {
            rest = rest.find('\n').and_then(|end| rest.get(end..)).unwrap_or_default();
        } else if let Some(block) = rest.strip_prefix("\"\"\"") {
            let end = block.find("\"\"\"").unwrap_or(block.len());
            let inner = scrubber.secret(block.get(..end).unwrap_or_default());
            out.push_str(&format!("\"\"\"{inner}\"\"\""));
            rest = block.get(end + 3..).unwrap_or_default();
        } else if let Some(quoted) = rest.strip_prefix('"') {
            let mut escaped = false;
            let end = quoted.char_indices().find(|(_, c)| {
                let ends = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                ends
            });
            let end = end.map_or(quoted.len(), |(at, _)| at);
            let inner = quoted.get(..end).unwrap_or_default();
            let value: String = serde_json::from_str(&format!("\"{inner}\"")).unwrap_or_else(|_| inner.to_owned());
            out.push_str(&Json::from(scrubber.secret(&value)).to_string());
            rest = quoted.get(end + 1..).unwrap_or_default();
        } else {
            let end = rest.find(['"', '#']).unwrap_or(rest.len());
            out.push_str(&scrubber.name(rest.get(..end).unwrap_or_default()));
            rest = rest.get(end..).unwrap_or_default();
        }
    }
    out
}

fn headers(headers: &Headers, scrubber: &mut Scrubber) -> Vec<Json> {
    let mut all = Vec::new();
    for (name, value) in headers.iter().take(MAX_HEADERS) {
        let (name, text) = (name.as_sent().to_ascii_lowercase(), String::from_utf8_lossy(value.as_bytes()));
        if let Some(made) = header_value(&name, &text, scrubber) {
            // A placeholder of what was no ASCII is.
            let fits = HeaderValue::from_str(&made).is_ok();
            all.extend(fits.then(|| json!({"name": scrubber.name(&name), "value": made})));
        }
    }
    all
}

/// `text` is the name in lower case.
fn header_value(text: &str, value: &str, scrubber: &mut Scrubber) -> Option<String> {
    if LEFT_OUT.contains(&text) || LEFT_OUT_FROM.iter().any(|start| text.starts_with(start)) {
        return None;
    }
    Some(match text {
        "cookie" => {
            let line = Headers::from_iter([(header::COOKIE, HeaderValue::from_str(value).ok()?)]);
            let pairs = request_cookies(&line).map(|(name, value)| {
                let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
                format!("{}={}", scrubber.name(&name), scrubber.cookie(&name, &value))
            });
            pairs.collect::<Vec<_>>().join("; ")
        }
        "set-cookie" => set_cookie(value, scrubber),
        "authorization" | "proxy-authorization" => scrubber.credentials(value),
        "location" | "referer" | "origin" | "content-location" | "refresh" => scrubber.url(value),
        "user-agent" => scrubber.agent(value),
        "content-type" => {
            let kind = scrubber.text(body::media_type(value), As::Value);
            if kind.starts_with("text/") { format!("{kind}; charset=utf-8") } else { kind }
        }
        _ => scrubber.named(text, value),
    })
}

fn set_cookie(line: &str, scrubber: &mut Scrubber) -> String {
    let mut pieces = line.split(';');
    let pair = pieces.next().unwrap_or_default();
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let mut out =
        format!("{}={}", scrubber.name(name.trim()), scrubber.cookie(name.trim(), value.trim().trim_matches('"')));
    for piece in pieces {
        let (name, value) = piece.split_once('=').map_or((piece.trim(), None), |(n, v)| (n.trim(), Some(v.trim())));
        let kept = match (name.to_ascii_lowercase().as_str(), value) {
            ("httponly" | "secure" | "partitioned", _) => Some(name.to_owned()),
            ("samesite", Some(value)) => Some(format!("SameSite={}", scrubber.text(value, As::Value))),
            ("path", Some(value)) => Some(format!("Path={}", scrubber.path(value))),
            // When it ends, and nothing else: whatever cannot be read as that is left out.
            ("max-age", Some(value)) => value.parse::<i64>().ok().map(|age| format!("Max-Age={age}")),
            ("expires", Some(value)) => {
                let at =
                    httpdate::parse_http_date(&value.replace('-', " ")).or_else(|_| httpdate::parse_http_date(value));
                at.ok().map(|at| format!("Expires={}", httpdate::fmt_http_date(at)))
            }
            // The host is another one now.
            _ => None,
        };
        if let Some(kept) = kept {
            out.push_str(&format!("; {kept}"));
        }
    }
    out
}
