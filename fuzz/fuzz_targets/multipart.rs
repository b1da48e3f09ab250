//! Multipart forms: never a panic, always within the bounds, and a prefix gives a prefix of the
//! fields. The first line of the input is the content type's end, from the boundary on.
#![no_main]

use authtap::body::multipart::{self, MAX_PARTS, MAX_VALUE};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let (line, body) = data.split_at(at);
    let content_type = format!("multipart/form-data; boundary={}", String::from_utf8_lossy(line));
    let Some(whole) = multipart::parse(body, &content_type) else { return };
    assert!(whole.len() <= MAX_PARTS && whole.iter().all(|(_, value)| value.len() <= MAX_VALUE));
    let Some(half) = multipart::parse(&body[..body.len() / 2], &content_type) else { return };
    assert!(half.len() <= whole.len() && half.iter().zip(whole.iter()).all(|(h, w)| h == w));
});
