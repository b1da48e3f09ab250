//! HAR 1.2 as browsers and tools export it, read into exchanges.
//!
//! What a browser wrote down is not what went over the wire: bodies are decoded already, cookies may
//! stand beside the headers, HTTP/2 has fields with a colon. Each entry is put back into the shape in
//! which capture would have kept it, bodies cut where capture cuts them, so that rules and auto read it
//! like live traffic. The file is a stranger's: its size and the number of entries are bounded, an
//! entry that is no HTTP exchange is left out and counted. Nothing of a body reaches an error.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use serde::Deserialize;

use crate::body;
use crate::capture::Limits;
use crate::event::Timestamp;
use crate::exchange::{Ended, Exchange, Kept, Request, Response};
use crate::headers::Headers;
use crate::proxy::host::host_without_port_lowercase;

/// The largest file that is read, in bytes.
pub const MAX_FILE: u64 = 256 << 20;
/// The most entries of a file that are read.
pub const MAX_ENTRIES: usize = 100_000;
/// The most fields of one header section.
const MAX_HEADERS: usize = 500;
/// The most parameters of one form.
const MAX_PARAMS: usize = 1_000;
/// A recording does not say who asked: itself, then, unless a trusted header does.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Parts of a form that only its fields are left of.
const BOUNDARY: &str = "authtap-har-part";

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HarError {
    /// The file is not there or not readable.
    #[error("cannot read {file}: {source}")]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// More than [`MAX_FILE`].
    #[error("{0} is larger than 256 MiB: export fewer requests, or without the bodies of assets")]
    Large(PathBuf),
    /// It is not HAR.
    #[error(
        "{} is not a HAR file ({source}): export one by `Save all as HAR` in the browser's network panel", .file.display()
    )]
    Format {
        /// The file.
        file: PathBuf,
        /// Where it ceases to be one.
        source: NotHar,
    },
}

/// A text that is not HAR.
#[derive(Debug, thiserror::Error)]
#[error("line {line}, column {column}")]
pub struct NotHar {
    /// Line of the first error, from 1.
    line: usize,
    /// Column of the first error, from 1.
    column: usize,
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Recorded {
    /// The exchanges, in the order in which their answers ended.
    pub exchanges: Vec<Exchange>,
    /// Entries that are no HTTP exchange: of caches, extensions, WebSockets, or beyond the bound.
    pub skipped: usize,
}

/// Reads a file.
pub fn read_file(file: &Path, limits: Limits) -> Result<Recorded, HarError> {
    read(&bounded(file, MAX_FILE)?, limits).map_err(|source| HarError::Format { file: file.to_owned(), source })
}

/// The bytes of a file of at most `most`.
pub fn bounded(file: &Path, most: u64) -> Result<Vec<u8>, HarError> {
    let failed = |source| HarError::Io { file: file.to_owned(), source };
    let opened = std::fs::File::open(file).map_err(failed)?;
    let mut bytes = Vec::new();
    opened.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(HarError::Large(file.to_owned()));
    }
    Ok(bytes)
}

/// Reads the text of a file.
pub fn read(source: &[u8], limits: Limits) -> Result<Recorded, NotHar> {
    // Some tools put a byte order mark before it.
    let source = source.strip_prefix(b"\xef\xbb\xbf").unwrap_or(source);
    let har: Har =
        serde_json::from_slice(source).map_err(|error| NotHar { line: error.line(), column: error.column() })?;
    let mut recorded = Recorded::default();
    for (i, entry) in har.log.entries.into_iter().enumerate() {
        match (i < MAX_ENTRIES).then(|| entry.exchange(i, limits)).flatten() {
            Some(exchange) => recorded.exchanges.push(exchange),
            None => recorded.skipped = recorded.skipped.saturating_add(1),
        }
    }
    // As the pipeline sees them: an exchange is handed over at its end.
    recorded.exchanges.sort_by_key(|exchange| exchange.began.plus(exchange.duration));
    Ok(recorded)
}

#[derive(Deserialize)]
struct Har {
    log: Log,
}

#[derive(Deserialize)]
struct Log {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    started_date_time: Option<String>,
    time: Option<f64>,
    timings: Option<Timings>,
    request: Asked,
    response: Option<Answered>,
    /// Our own recordings: what HAR has no place for.
    #[serde(rename = "_authtap")]
    ours: Option<Ours>,
    /// Chrome: the answer came out of a cache, the application was not asked.
    #[serde(rename = "_fromCache")]
    from_cache: Option<String>,
}

/// What `authtap learn --record` writes beside an entry.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Ours {
    client: Option<IpAddr>,
    request_cut: Option<bool>,
    answer_cut: Option<bool>,
}

/// Milliseconds; -1 where a phase did not happen.
#[derive(Deserialize, Default)]
struct Timings {
    blocked: Option<f64>,
    dns: Option<f64>,
    connect: Option<f64>,
    send: Option<f64>,
    wait: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    method: String,
    url: String,
    headers: Option<Vec<Pair>>,
    cookies: Option<Vec<CookiePair>>,
    post_data: Option<PostData>,
}

#[derive(Deserialize)]
struct Pair {
    name: String,
    value: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CookiePair {
    name: String,
    value: Option<String>,
    path: Option<String>,
    domain: Option<String>,
    expires: Option<String>,
    http_only: Option<bool>,
    secure: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostData {
    mime_type: Option<String>,
    text: Option<String>,
    params: Option<Vec<Param>>,
    /// Not of the standard, but written by some: `base64`.
    #[serde(alias = "_encoding")]
    encoding: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Param {
    name: String,
    value: Option<String>,
    file_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    status: Option<i64>,
    headers: Option<Vec<Pair>>,
    cookies: Option<Vec<CookiePair>>,
    content: Option<Content>,
    #[serde(rename = "redirectURL")]
    redirect_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    size: Option<f64>,
    mime_type: Option<String>,
    text: Option<String>,
    encoding: Option<String>,
}

impl Entry {
    fn exchange(self, number: usize, limits: Limits) -> Option<Exchange> {
        if self.from_cache.is_some() {
            return None;
        }
        let (scheme, authority, target) = parts(&self.request.url)?;
        let uri: Uri = target.parse().ok()?;
        let method = Method::from_bytes(self.request.method.as_bytes()).ok()?;
        let mut headers = fields(self.request.headers);
        if !headers.contains_key(header::HOST) {
            headers.insert(header::HOST, HeaderValue::from_str(authority).ok()?);
        }
        if !headers.contains_key(header::COOKIE) {
            cookie_line(self.request.cookies, &mut headers);
        }
        let host = host_without_port_lowercase(authority.as_bytes()).into_owned();
        let ours = self.ours.unwrap_or_default();
        let mut body = self.request.post_data.map_or_else(
            || whole(Bytes::new(), limits.request_body),
            |data| data.body(&mut headers, limits.request_body),
        );
        let began = self.started_date_time.as_deref().and_then(Timestamp::parse).unwrap_or(Timestamp::from_millis(0));
        let duration = millis(self.time.unwrap_or(0.0));
        let timings = self.timings.unwrap_or_default();
        let waited = [timings.blocked, timings.dns, timings.connect, timings.send, timings.wait];
        let waited = millis(waited.into_iter().flatten().filter(|ms| *ms > 0.0).sum());
        body.cut |= ours.request_cut == Some(true);
        let mut response = self.response.and_then(|answer| answer.response(limits.response_body));
        if let Some(response) = &mut response {
            response.body.cut |= ours.answer_cut == Some(true);
        }
        let request_id = headers.get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        Some(Exchange {
            began,
            answered: began.plus(waited.min(duration)),
            duration,
            client_ip: ours.client.unwrap_or(NOBODY),
            scheme,
            tls: None,
            request_id: request_id.unwrap_or_else(|| format!("har-{}", number + 1)),
            request: Request { method, uri, host, headers, body },
            ended: if response.is_some() { Ended::Complete } else { Ended::UpstreamFailed },
            response,
        })
    }
}

impl PostData {
    fn body(self, headers: &mut Headers, limit: usize) -> Kept {
        // The text is what the browser had, whatever coding went over the wire.
        headers.remove(header::CONTENT_ENCODING);
        let declared = self.mime_type.as_deref().and_then(|kind| HeaderValue::from_str(kind).ok());
        if let (None, Some(kind)) = (headers.get(header::CONTENT_TYPE), declared) {
            headers.insert(header::CONTENT_TYPE, kind);
        }
        let params = self.params.unwrap_or_default();
        match self.text.filter(|text| !text.is_empty() || params.is_empty()) {
            Some(text) => decoded(text, self.encoding.as_deref(), limit),
            None => {
                let kind = body::media_type(body::content_type(headers)).to_ascii_lowercase();
                let multipart = kind == "multipart/form-data";
                if multipart {
                    let kind = HeaderValue::from_static("multipart/form-data; boundary=authtap-har-part");
                    headers.insert(header::CONTENT_TYPE, kind);
                } else if kind.is_empty() {
                    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
                    headers.insert(header::CONTENT_TYPE, kind);
                }
                let made = if multipart { parts_of(&params, limit) } else { pairs_of(&params, limit) };
                whole(Bytes::from(made), limit)
            }
        }
    }
}

fn pairs_of(params: &[Param], limit: usize) -> Vec<u8> {
    let mut made = form_urlencoded::Serializer::new(String::new());
    let mut length = 0_usize;
    for param in params.iter().take(MAX_PARAMS) {
        if length > limit {
            break;
        }
        made.append_pair(&param.name, param.value.as_deref().unwrap_or_default());
        length = length.saturating_add(param.name.len() + param.value.as_ref().map_or(0, String::len));
    }
    made.finish().into_bytes()
}

fn parts_of(params: &[Param], limit: usize) -> Vec<u8> {
    let mut made = Vec::new();
    let quoted = |text: &str| text.replace(['"', '\r', '\n'], "%22");
    for param in params.iter().take(MAX_PARAMS) {
        if made.len() > limit {
            break;
        }
        let file =
            param.file_name.as_deref().map_or_else(String::new, |name| format!("; filename=\"{}\"", quoted(name)));
        made.extend_from_slice(
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{}\"{file}\r\n\r\n", quoted(&param.name))
                .as_bytes(),
        );
        made.extend_from_slice(param.value.as_deref().unwrap_or_default().as_bytes());
        made.extend_from_slice(b"\r\n");
    }
    made.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    made
}

impl Answered {
    fn response(self, limit: usize) -> Option<Response> {
        // Zero: none came.
        let status = StatusCode::from_u16(u16::try_from(self.status?).ok()?).ok()?;
        let mut headers = fields(self.headers);
        headers.remove(header::CONTENT_ENCODING);
        headers.remove(header::TRANSFER_ENCODING);
        if let (None, Some(to)) = (headers.get(header::LOCATION), self.redirect_url.filter(|to| !to.is_empty()))
            && let Ok(to) = HeaderValue::from_str(&to)
        {
            headers.insert(header::LOCATION, to);
        }
        if !headers.contains_key(header::SET_COOKIE) {
            for cookie in self.cookies.unwrap_or_default().into_iter().take(MAX_HEADERS) {
                if let Ok(line) = HeaderValue::from_str(&cookie.line()) {
                    headers.append(header::SET_COOKIE, line);
                }
            }
        }
        let body = match self.content {
            Some(content) => content.body(&mut headers, limit),
            None => whole(Bytes::new(), limit),
        };
        Some(Response { status, headers, body })
    }
}

impl Content {
    fn body(self, headers: &mut Headers, limit: usize) -> Kept {
        if let (None, Some(kind)) = (headers.get(header::CONTENT_TYPE), self.mime_type)
            && let Ok(kind) = HeaderValue::from_str(&kind)
        {
            headers.insert(header::CONTENT_TYPE, kind);
        }
        let Some(text) = self.text else {
            // There was a body, and the export left it out: what it said stays open.
            let missing = self.size.is_some_and(|size| size > 0.0);
            return Kept { bytes: Bytes::new(), cut: missing, asked: true };
        };
        if self.encoding.is_none() {
            let kind = body::media_type(body::content_type(headers)).to_owned();
            // The text is UTF-8 now, whatever it was.
            if !kind.is_empty()
                && let Ok(kind) = HeaderValue::from_str(&format!("{kind}; charset=utf-8"))
            {
                headers.insert(header::CONTENT_TYPE, kind);
            }
        }
        decoded(text, self.encoding.as_deref(), limit)
    }
}

impl CookiePair {
    /// The `Set-Cookie` line of a cookie that only stands beside the headers.
    fn line(&self) -> String {
        let mut line = format!("{}={}", self.name, self.value.as_deref().unwrap_or_default());
        let text =
            |text: &Option<String>| text.as_ref().filter(|text| !text.is_empty() && !text.contains(';')).cloned();
        if let Some(path) = text(&self.path) {
            line.push_str(&format!("; Path={path}"));
        }
        if let Some(domain) = text(&self.domain) {
            line.push_str(&format!("; Domain={domain}"));
        }
        let expires = self.expires.as_deref().and_then(Timestamp::parse);
        if let Some(at) = expires.and_then(|at| u64::try_from(at.as_millis()).ok()) {
            let at = std::time::UNIX_EPOCH.checked_add(Duration::from_millis(at));
            // Beyond the year 9999 there is no such date.
            if let Some(at) = at.filter(|at| *at < std::time::UNIX_EPOCH + Duration::from_secs(253_402_300_799)) {
                line.push_str(&format!("; Expires={}", httpdate::fmt_http_date(at)));
            }
        }
        for (set, word) in [(self.secure, "; Secure"), (self.http_only, "; HttpOnly")] {
            line.push_str(if set == Some(true) { word } else { "" });
        }
        line
    }
}

fn cookie_line(cookies: Option<Vec<CookiePair>>, headers: &mut Headers) {
    let cookies = cookies.unwrap_or_default();
    let pairs = cookies.iter().take(MAX_HEADERS);
    let pairs: Vec<String> =
        pairs.map(|cookie| format!("{}={}", cookie.name, cookie.value.as_deref().unwrap_or_default())).collect();
    if let (false, Ok(line)) = (pairs.is_empty(), HeaderValue::from_str(&pairs.join("; "))) {
        headers.insert(header::COOKIE, line);
    }
}

fn fields(pairs: Option<Vec<Pair>>) -> Headers {
    let mut headers = Headers::new();
    for pair in pairs.unwrap_or_default().into_iter().take(MAX_HEADERS) {
        // HTTP/2's own fields begin with a colon (RFC 9113 section 8.3); the URL says the same.
        let Ok(name) = HeaderName::from_bytes(pair.name.as_bytes()) else { continue };
        // Browsers write several lines of one name into one value.
        for value in pair.value.as_deref().unwrap_or_default().split('\n') {
            if let Ok(value) = HeaderValue::from_bytes(value.trim().as_bytes()) {
                headers.append(&name, value);
            }
        }
    }
    headers
}

/// Scheme, authority and target of an absolute URL of HTTP.
fn parts(url: &str) -> Option<(&'static str, &str, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = match scheme {
        "http" => "http",
        "https" => "https",
        _ => return None,
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at_checked(end)?;
    let authority = authority.rsplit('@').next().unwrap_or_default();
    if authority.is_empty() {
        return None;
    }
    let mut shown = String::with_capacity(target.len() + 1);
    if !target.starts_with('/') {
        shown.push('/');
    }
    for c in target.chars() {
        // As a browser's address line shows it, not as it was sent.
        match c {
            ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' => shown.push_str(&format!("%{:02X}", c as u32)),
            c if c.is_ascii_graphic() => shown.push(c),
            c if c.is_ascii() => {}
            c => shown.extend(c.encode_utf8(&mut [0; 4]).bytes().map(|b| format!("%{b:02X}"))),
        }
    }
    Some((scheme, authority, shown))
}

fn decoded(text: String, encoding: Option<&str>, limit: usize) -> Kept {
    match encoding {
        Some(name) if name.eq_ignore_ascii_case("base64") => {
            let compact: Vec<u8> = text.into_bytes().into_iter().filter(|b| !b.is_ascii_whitespace()).collect();
            match STANDARD.decode(compact) {
                Ok(bytes) => whole(Bytes::from(bytes), limit),
                Err(_) => Kept { bytes: Bytes::new(), cut: true, asked: true },
            }
        }
        _ => whole(Bytes::from(text.into_bytes()), limit),
    }
}

fn whole(bytes: Bytes, limit: usize) -> Kept {
    let cut = bytes.len() > limit;
    Kept { bytes: if cut { Bytes::copy_from_slice(&bytes[..limit]) } else { bytes }, cut, asked: true }
}

fn millis(ms: f64) -> Duration {
    // A day is longer than any exchange; what is no number is none.
    let ms = if ms.is_finite() { ms.clamp(0.0, 86_400_000.0) } else { 0.0 };
    Duration::from_micros((ms * 1000.0) as u64)
}

#[cfg(test)]
mod tests;
