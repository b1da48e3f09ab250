//! Content codings and character sets: never a panic, never more than the cap. The first byte
//! chooses a stack of two codings.
#![no_main]

use authtap::headers::Headers;
use authtap::body::encoding;
use http::{HeaderValue, header};
use libfuzzer_sys::fuzz_target;

const CAP: usize = 64 << 10;
const CODINGS: [&str; 5] = ["gzip", "deflate", "br", "zstd", "identity"];
const TYPES: [&str; 2] = ["text/html", "text/html; charset=windows-1252"];

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else { return };
    let choice = usize::from(*choice);
    let mut headers = Headers::new();
    for name in [CODINGS[choice % 5], CODINGS[choice / 5 % 5]] {
        headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    let decoded = encoding::decode(body, &headers, CAP);
    assert!(decoded.bytes.len() <= CAP);
    assert!(decoded.failed.is_none() || decoded.cut);
    let _ = encoding::text(&decoded.bytes, TYPES[choice % 2]);
});
