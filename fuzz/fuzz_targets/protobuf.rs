//! The reader of protobuf on any bytes: it ends, and never reads past them.
#![no_main]

use authtap::protobuf::{Field, Fields};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut read = 0;
    for (number, field) in Fields(bytes) {
        read += 1;
        if let Field::Bytes(inner) = field {
            assert!(inner.len() <= bytes.len());
            let _ = (Fields::number_of(inner, number), Fields::bytes_of(inner, number));
        }
    }
    assert!(read <= bytes.len());
});
