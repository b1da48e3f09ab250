#![no_main]
//! A HAR file of a stranger: never a panic, never more of a body than is allowed.

use authtap::capture::Limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { request_body: 64, response_body: 64 };
    if let Ok(recorded) = authtap::har::read(bytes, limits) {
        for exchange in &recorded.exchanges {
            assert!(exchange.request.body.bytes.len() <= 64);
        }
    }
});
