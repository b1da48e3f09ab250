//! What capture keeps when no route names it: the questions of the traffic path.
//!
//! Runs on the traffic threads, so nothing here waits, locks or allocates. What the threads share
//! are two tables of atomics of fixed size: pages whose forms were read lately, and clients whose
//! next page tells how something ended. Both hold hashes and a second, and may forget at any time:
//! then a page is read once more, or an outcome is decided without its next page.

use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::{Method, StatusCode, Uri, header};

use crate::body;
use crate::event::Timestamp;
use crate::headers::Headers;

/// How many pages are remembered as read.
const PAGES: usize = 4096;
/// How many clients are remembered as awaited.
const CLIENTS: usize = 4096;
/// How long a page counts as read, in seconds.
const READ_AGAIN_AFTER: i64 = 600;
/// How long a client's next page is awaited, in seconds.
const AWAITED_FOR: i64 = 15;
/// The most that is copied of a page, in bytes.
pub const PAGE_BYTES: usize = 128 << 10;

/// What is kept of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: the exchange is let go.
    Nothing,
    /// Its head.
    Head,
    /// A page, for its forms.
    Page,
    /// The body, as far as capture goes.
    Body,
}

/// The shared tables.
pub struct Gate {
    hasher: std::collections::hash_map::RandomState,
    pages: Box<[AtomicU64]>,
    clients: Box<[AtomicU64]>,
    all: bool,
}

impl Default for Gate {
    fn default() -> Self {
        let table = |size: usize| (0..size).map(|_| AtomicU64::new(0)).collect();
        Gate {
            hasher: std::collections::hash_map::RandomState::new(),
            pages: table(PAGES),
            clients: table(CLIENTS),
            all: false,
        }
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

impl Gate {
    /// A gate that keeps every exchange that may matter with its bodies, for whoever learns from
    /// traffic and decides later what of it counts.
    pub fn of_everything() -> Gate {
        Gate { all: true, ..Gate::default() }
    }

    /// False for a request that cannot matter, by its head. No allocation.
    pub fn may_matter(method: &Method, uri: &Uri, headers: &Headers) -> bool {
        if *method == Method::GET {
            !is_asset(uri.path()) && !wants_asset(headers) && !headers.contains_key(header::UPGRADE)
        } else {
            // `SEARCH`, `REPORT`, `PROPFIND` read; what writes is one of four.
            [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method)
        }
    }

    /// True if the request's body may be looked at.
    pub fn wants_request_body(method: &Method, headers: &Headers) -> bool {
        if *method == Method::GET {
            return false;
        }
        let kind = body::media_type(body::content_type(headers));
        let ends = |end: &str| {
            kind.len() >= end.len()
                && kind.is_char_boundary(kind.len() - end.len())
                && kind[kind.len() - end.len()..].eq_ignore_ascii_case(end)
        };
        kind.is_empty()
            || [
                "application/x-www-form-urlencoded",
                "multipart/form-data",
                "text/plain",
                "text/xml",
                "application/xml",
                "application/graphql",
            ]
            .iter()
            .any(|k| kind.eq_ignore_ascii_case(k))
            || ends("json")
    }

    /// What is kept of an exchange, now that the answer's head is there.
    pub fn keep(
        &self,
        (method, uri, host, request): (&Method, &Uri, &str, &Headers),
        client: IpAddr,
        (status, answer): (StatusCode, &Headers),
        now: Timestamp,
    ) -> Keep {
        if self.all {
            return Keep::Body;
        }
        let now = now.as_millis() / 1000;
        let content_type = body::media_type(body::content_type(answer));
        let html = content_type.eq_ignore_ascii_case("text/html")
            || content_type.eq_ignore_ascii_case("application/xhtml+xml");
        let client = self.hasher.hash_one(client);
        if *method != Method::GET {
            if status.is_redirection() {
                note(&self.clients, client, now + AWAITED_FOR);
                return Keep::Head;
            }
            let text = html
                || content_type.is_empty()
                || content_type.starts_with("text/")
                || content_type.contains("json")
                || content_type.contains("xml");
            return if text { Keep::Body } else { Keep::Head };
        }
        let awaited = fresh(&self.clients, client, now);
        if awaited && status.is_redirection() {
            note(&self.clients, client, now + AWAITED_FOR);
        }
        let way_out = names_a_way_out(uri);
        if html && (status == StatusCode::OK || awaited) {
            let page = (host, uri.path(), uri.query());
            let page = {
                let mut hasher = self.hasher.build_hasher();
                page.hash(&mut hasher);
                std::hash::Hasher::finish(&hasher)
            };
            let read = fresh(&self.pages, page, now);
            // Whether a page ends a session or asks first, it shows each time.
            if !read || awaited || way_out {
                note(&self.pages, page, now + READ_AGAIN_AFTER);
                return Keep::Page;
            }
        }
        if content_type.contains("json") && status == StatusCode::OK && is_link_of_reset(uri) {
            return Keep::Body;
        }
        let told = awaited
            || answer.contains_key(header::SET_COOKIE)
            || way_out
            || request
                .get(header::AUTHORIZATION)
                .is_some_and(|a| a.as_bytes().get(..6).is_some_and(|s| s.eq_ignore_ascii_case(b"basic ")));
        if told { Keep::Head } else { Keep::Nothing }
    }
}

fn slot(table: &[AtomicU64], key: u64) -> Option<&AtomicU64> {
    table.get(usize::try_from(key).unwrap_or_default() % table.len().max(1))
}

/// Half of the hash, and the second until which it holds.
fn entry(key: u64, until: i64) -> u64 {
    (key & 0xffff_ffff_0000_0000) | (u64::try_from(until).unwrap_or_default() & 0xffff_ffff)
}

fn note(table: &[AtomicU64], key: u64, until: i64) {
    if let Some(slot) = slot(table, key) {
        slot.store(entry(key, until), Relaxed);
    }
}

fn fresh(table: &[AtomicU64], key: u64, now: i64) -> bool {
    let Some(slot) = slot(table, key) else { return false };
    let held = slot.load(Relaxed);
    (held ^ key) >> 32 == 0 && (held & 0xffff_ffff) >= (u64::try_from(now).unwrap_or_default() & 0xffff_ffff)
}

/// Ends of paths that are never pages.
fn is_asset(path: &str) -> bool {
    const ENDS: [&str; 26] = [
        "js", "mjs", "css", "map", "png", "jpg", "jpeg", "gif", "svg", "ico", "webp", "avif", "woff", "woff2", "ttf",
        "otf", "eot", "mp4", "webm", "mp3", "ogg", "wasm", "txt", "pdf", "zip", "gz",
    ];
    let Some((_, end)) = path.rsplit_once('.') else { return false };
    end.len() <= 5 && ENDS.iter().any(|e| end.eq_ignore_ascii_case(e))
}

/// What a browser says it will use the answer for (Fetch Metadata, `Sec-Fetch-Dest`).
fn wants_asset(headers: &Headers) -> bool {
    const PAGES: [&[u8]; 4] = [b"document", b"empty", b"iframe", b"frame"];
    headers.get("sec-fetch-dest").is_some_and(|dest| !PAGES.contains(&dest.as_bytes()))
}

/// The parts of [`super::words::LOGOUT`] that a plain look at the bytes finds; others are found by
/// the cookie that the answer takes away.
fn names_a_way_out(uri: &Uri) -> bool {
    const PARTS: [&[u8]; 8] =
        [b"logout", b"signout", b"log_out", b"sign_out", b"logoff", b"log-out", b"sign-out", b"signoff"];
    let target = uri.path_and_query().map_or("", |t| t.as_str()).as_bytes();
    let target = target.get(..target.len().min(512)).unwrap_or_default();
    // One pass: nearly every byte is no `o`.
    target.iter().enumerate().any(|(at, byte)| {
        matches!(byte, b'l' | b'L' | b's' | b'S')
            && PARTS.iter().any(|p| target.get(at..at + p.len()).is_some_and(|t| t.eq_ignore_ascii_case(p)))
    })
}

/// True for a target that brings the secret of a reset (`/reset/validate?token=…`): its answer may say
/// whose it is.
fn is_link_of_reset(uri: &Uri) -> bool {
    const PLACES: [&[u8]; 4] = [b"reset", b"recover", b"forgot", b"password"];
    let holds = |text: &str, part: &[u8]| {
        let text = text.as_bytes();
        text.get(..text.len().min(512)).unwrap_or_default().windows(part.len()).any(|w| w.eq_ignore_ascii_case(part))
    };
    uri.query().is_some_and(|query| holds(query, b"token=") && PLACES.iter().any(|p| holds(uri.path(), p)))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http::HeaderValue;

    use super::*;

    fn get(target: &'static str) -> (Method, Uri, Headers) {
        (Method::GET, Uri::from_static(target), Headers::new())
    }

    fn html() -> Headers {
        Headers::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))])
    }

    #[test]
    fn assets_and_reads_cannot_matter() {
        for target in ["/a.css", "/static/app.min.JS", "/logo.png?x=1"] {
            let (method, uri, headers) = get(target);
            assert!(!Gate::may_matter(&method, &uri, &headers), "{target}");
        }
        let (_, uri, headers) = get("/login");
        assert!(Gate::may_matter(&Method::GET, &uri, &headers) && Gate::may_matter(&Method::POST, &uri, &headers));
        assert!(
            !Gate::may_matter(&Method::OPTIONS, &uri, &headers) && !Gate::may_matter(&Method::HEAD, &uri, &headers)
        );
        let image =
            Headers::from_iter([(http::HeaderName::from_static("sec-fetch-dest"), HeaderValue::from_static("image"))]);
        assert!(!Gate::may_matter(&Method::GET, &uri, &image));
    }

    #[test]
    fn a_page_is_read_once_in_a_while_and_again_after_something_happened() {
        let gate = Gate::default();
        let client = IpAddr::from(Ipv4Addr::LOCALHOST);
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let (method, uri, headers) = get("/login");
        let look = |now, method: &Method, status, answer: &Headers| {
            gate.keep((method, &uri, "app", &headers), client, (status, answer), at(now))
        };
        assert_eq!(look(0, &method, StatusCode::OK, &html()), Keep::Page);
        assert_eq!(look(1, &method, StatusCode::OK, &html()), Keep::Nothing);
        assert_eq!(look(READ_AGAIN_AFTER + 1, &method, StatusCode::OK, &html()), Keep::Page);
        let now = READ_AGAIN_AFTER + 2;
        assert_eq!(look(now, &Method::POST, StatusCode::FOUND, &Headers::new()), Keep::Head);
        assert_eq!(look(now + 1, &method, StatusCode::OK, &html()), Keep::Page);
        assert_eq!(look(now + 1 + AWAITED_FOR, &method, StatusCode::OK, &html()), Keep::Nothing);
    }

    #[test]
    fn a_way_out_and_a_cookie_are_kept_and_other_reads_are_let_go() {
        let gate = Gate::default();
        let client = IpAddr::from(Ipv4Addr::LOCALHOST);
        let json = Headers::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let look = |target, answer: &Headers| {
            let (method, uri, headers) = get(target);
            gate.keep((&method, &uri, "app", &headers), client, (StatusCode::OK, answer), Timestamp::from_millis(0))
        };
        assert_eq!(look("/api/items", &json), Keep::Nothing);
        assert_eq!(look("/users/Sign_Out", &json), Keep::Head);
        assert_eq!(look("/index.php?action=logout", &json), Keep::Head);
        assert_eq!(look("/auth/reset/validate?token=x", &json), Keep::Body, "it may say whose link this is");
        assert_eq!(look("/api/items?token=x", &json), Keep::Nothing);
        assert_eq!((look("/logout", &html()), look("/logout", &html())), (Keep::Page, Keep::Page));
        let mut cookie = json;
        cookie.insert(header::SET_COOKIE, HeaderValue::from_static("a=b"));
        assert_eq!(look("/api/items", &cookie), Keep::Head);
    }
}
