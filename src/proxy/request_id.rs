//! Names for one request: `x-request-id`, kept or made, and the trace it belongs to.
//!
//! Both are for finding the same request in several logs. A client may choose its own, so nothing
//! may be decided by them, and neither is ever unique by promise. This module must never let a
//! value through that could break a log line or grow it.
//!
//! The invariant: after [`ensure`] the request has exactly one `x-request-id`, of 1 to 128 visible
//! ASCII characters.

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::HeaderName;
use tokio::time::Instant;
use uuid::{Builder, Uuid};

use super::{clock, trace_context};
use crate::headers::{Headers, Value};

/// The header.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is kept, in bytes.
const MAX_ID_BYTES: usize = 128;

/// The request's id: what the client sent, if it is one line of 1 to 128 visible ASCII characters,
/// else a new UUID version 7 (RFC 9562 section 5.7), which then stands in the headers. The copy
/// shares its bytes with the header.
pub fn ensure(headers: &mut Headers) -> RequestId {
    if let Some(id) = only(headers, &X_REQUEST_ID).filter(|id| is_id(id.as_bytes())) {
        return RequestId::Kept(headers.shared(id));
    }
    let mut text = [0; LEN];
    new_id().hyphenated().encode_lower(&mut text);
    headers.remove(X_REQUEST_ID);
    headers.append_spelled("X-Request-Id", text);
    RequestId::Made(text)
}

/// A request's id.
#[derive(Clone, Debug)]
pub enum RequestId {
    /// What the client sent.
    Kept(Bytes),
    /// A new one.
    Made([u8; LEN]),
}

/// The length of a UUID's text.
const LEN: usize = uuid::fmt::Hyphenated::LENGTH;

impl RequestId {
    /// Its text.
    pub fn as_str(&self) -> &str {
        let text = match self {
            RequestId::Kept(text) => text,
            RequestId::Made(text) => text.as_slice(),
        };
        // It is visible ASCII.
        std::str::from_utf8(text).unwrap_or_default()
    }
}

/// The trace id of a valid `traceparent`, see [`trace_context::trace_id`].
pub fn trace_id(headers: &Headers) -> Option<&str> {
    trace_context::trace_id(headers)
}

/// The value of a header that stands there once.
fn only<'h>(headers: &'h Headers, name: &HeaderName) -> Option<Value<'h>> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?;
    lines.next().is_none().then_some(line)
}

fn is_id(id: &[u8]) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// A thread's source of random bits.
struct Source {
    key: [u8; 32],
    /// How many ids were made.
    used: u64,
    /// What one hash gives: the bits of [`IDS_A_BLOCK`] ids.
    block: [u8; 64],
}

/// Random bytes of one id.
pub(super) const ID_BYTES: usize = 10;

/// The ids made of one hash.
const IDS_A_BLOCK: u64 = 6;

thread_local! {
    static SOURCE: RefCell<Option<Source>> = const { RefCell::new(None) };
    static WALL: Cell<Option<Wall>> = const { Cell::new(None) };
}

/// `Uuid::now_v7` takes a lock that all threads share and asks the system for random bits each
/// time. Here each thread asks once and derives the rest.
pub(super) fn random() -> [u8; ID_BYTES] {
    SOURCE.with_borrow_mut(|source| source.get_or_insert_with(Source::new).next())
}

impl Source {
    fn new() -> Source {
        let mut seed = blake3::Hasher::new();
        // 74 random bits each.
        for _ in 0..4 {
            seed.update(Uuid::now_v7().as_bytes());
        }
        Source { key: *seed.finalize().as_bytes(), used: 0, block: [0; 64] }
    }

    fn next(&mut self) -> [u8; ID_BYTES] {
        if self.used.is_multiple_of(IDS_A_BLOCK) {
            let mut hasher = blake3::Hasher::new_keyed(&self.key);
            hasher.update(&self.used.to_le_bytes()).finalize_xof().fill(&mut self.block);
        }
        let at = (self.used % IDS_A_BLOCK) as usize;
        self.used = self.used.wrapping_add(1);
        self.block.chunks_exact(ID_BYTES).nth(at).and_then(<[u8]>::first_chunk).copied().unwrap_or_default()
    }
}

/// What the clock on the wall showed at some moment.
#[derive(Clone, Copy)]
struct Wall {
    at: Instant,
    millis: u64,
}

/// After so long the clock on the wall is looked at again: it may have been set.
const TRUSTED: Duration = Duration::from_secs(1);

/// Milliseconds since 1970, to within what the thread has done since it last looked at its clock.
fn millis() -> u64 {
    let now = clock::recent();
    let wall = WALL.get().filter(|wall| now.duration_since(wall.at) < TRUSTED).unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let read = Wall { at: now, millis: u64::try_from(since.as_millis()).unwrap_or_default() };
        WALL.set(Some(read));
        read
    });
    let later = u64::try_from(now.duration_since(wall.at).as_millis()).unwrap_or_default();
    wall.millis.saturating_add(later)
}

fn new_id() -> Uuid {
    Builder::from_unix_timestamp_millis(millis(), &random()).into_uuid()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn with(name: &'static str, values: &[&str]) -> Headers {
        let mut headers = Headers::new();
        for value in values {
            headers.append(HeaderName::from_static(name), value);
        }
        headers
    }

    #[test]
    fn a_valid_id_is_kept_as_it_is() {
        for id in ["a", "req/1?x=\"y\"", &"~".repeat(128)] {
            let mut headers = with("x-request-id", &[id]);
            assert_eq!(ensure(&mut headers).as_str(), id);
            assert_eq!(headers.get_all(X_REQUEST_ID).iter().collect::<Vec<_>>(), [id]);
        }
    }

    #[test]
    fn anything_else_is_replaced_by_one_version_7_uuid() {
        for ids in
            [&[][..], &[""], &["a b"], &["a\tb"], &["café"], &["x".repeat(129).as_str()], &["a", "b"], &["a", "a"]]
        {
            let mut headers = with("x-request-id", ids);
            let id = ensure(&mut headers);
            assert_eq!(headers.get_all(X_REQUEST_ID).iter().collect::<Vec<_>>(), [id.as_str()], "{ids:?}");
            let uuid = Uuid::parse_str(id.as_str()).expect("a UUID");
            assert_eq!(uuid.get_version_num(), 7);
            let (seconds, _) = uuid.get_timestamp().expect("version 7 has a time").to_unix();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            assert!(now.abs_diff(seconds) <= 60, "{seconds} is not about {now}");
        }
    }

    #[test]
    fn made_ids_differ_within_a_thread_and_between_threads() {
        let make = || (0..1000).map(|_| new_id()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(make)).collect();
        let ids: HashSet<Uuid> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(ids.len(), 4000);
    }
}
