//! Names for one request: `x-request-id`, kept or made, and the trace it belongs to.
//!
//! Both are for finding the same request in several logs. A client may choose its own, so nothing
//! may be decided by them, and neither is ever unique by promise. This module must never let a
//! value through that could break a log line or grow it.
//!
//! The invariant: after [`ensure`] the request has exactly one `x-request-id`, of 1 to 128 visible
//! ASCII characters.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use uuid::{Builder, Uuid};

use super::trace_context;

/// The header.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is kept, in bytes.
const MAX_ID_BYTES: usize = 128;

/// The request's id: what the client sent, if it is one line of 1 to 128 visible ASCII characters,
/// else a new UUID version 7 (RFC 9562 section 5.7), which then stands in the headers. The copy
/// shares its bytes with the header.
pub fn ensure(headers: &mut HeaderMap) -> HeaderValue {
    if let Some(id) = only(headers, &X_REQUEST_ID).filter(|id| is_id(id.as_bytes())) {
        return id.clone();
    }
    let mut text = Uuid::encode_buffer();
    let text: &str = new_id().hyphenated().encode_lower(&mut text);
    // Hexadecimal digits and hyphens are a header value.
    let id = HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
    headers.insert(X_REQUEST_ID, id.clone());
    id
}

/// The trace id of a valid `traceparent`, see [`trace_context::trace_id`].
pub fn trace_id(headers: &HeaderMap) -> Option<&str> {
    trace_context::trace_id(headers)
}

/// The value of a header that stands there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?;
    lines.next().is_none().then_some(line)
}

fn is_id(id: &[u8]) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// A thread's source of random bits.
#[derive(Clone, Copy)]
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
    static SOURCE: Cell<Option<Source>> = const { Cell::new(None) };
}

/// `Uuid::now_v7` takes a lock that all threads share and asks the system for random bits each
/// time. Here each thread asks once and derives the rest.
pub(super) fn random() -> [u8; ID_BYTES] {
    let mut source = SOURCE.get().unwrap_or_else(|| {
        let mut seed = blake3::Hasher::new();
        // 74 random bits each.
        for _ in 0..4 {
            seed.update(Uuid::now_v7().as_bytes());
        }
        Source { key: *seed.finalize().as_bytes(), used: 0, block: [0; 64] }
    });
    if source.used.is_multiple_of(IDS_A_BLOCK) {
        let mut hasher = blake3::Hasher::new_keyed(&source.key);
        hasher.update(&source.used.to_le_bytes()).finalize_xof().fill(&mut source.block);
    }
    let at = (source.used % IDS_A_BLOCK) as usize;
    let bits = source.block.chunks_exact(ID_BYTES).nth(at).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
    source.used = source.used.wrapping_add(1);
    SOURCE.set(Some(source));
    bits
}

fn new_id() -> Uuid {
    let bits = random();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since.as_millis()).unwrap_or_default();
    Builder::from_unix_timestamp_millis(millis, &bits).into_uuid()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn with(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn a_valid_id_is_kept_as_it_is() {
        for id in ["a", "req/1?x=\"y\"", &"~".repeat(128)] {
            let mut headers = with("x-request-id", &[id]);
            assert_eq!(ensure(&mut headers), id);
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
            assert_eq!(headers.get_all(X_REQUEST_ID).iter().collect::<Vec<_>>(), [&id], "{ids:?}");
            let uuid = Uuid::parse_str(id.to_str().unwrap()).expect("a UUID");
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
