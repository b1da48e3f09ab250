//! What a broker sends over AMQP: frames of any bytes are read without a panic and never beyond
//! what arrived.
#![no_main]

use authtap::sinks::amqp::frame::first;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut left = data;
    while let Ok(Some((frame, length))) = first(left) {
        assert!(length > 0 && length <= left.len());
        let _ = frame.heard();
        left = &left[length..];
    }
});
