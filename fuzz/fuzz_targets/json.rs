//! JSON: never a panic. The first line of the input is a pointer, the rest the document.
#![no_main]

use authtap::body::json;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let (pointer, document) = data.split_at(at);
    if let Some(value) = json::parse(document) {
        let _ = json::pointer(&value, &String::from_utf8_lossy(pointer)).and_then(json::scalar_text);
    }
});
