//! Forms: never a panic, always within the bounds, and a prefix gives a prefix of the fields.
#![no_main]

use authtap::body::form::{self, MAX_NAME, MAX_PAIRS, MAX_VALUE};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let whole = form::parse(data, false);
    assert!(whole.len() <= MAX_PAIRS);
    assert!(whole.iter().all(|(name, value)| name.len() <= MAX_NAME && value.len() <= MAX_VALUE));
    if let Some((name, _)) = whole.iter().next_back() {
        assert!(whole.first(name).is_some());
    }
    let half = form::parse(&data[..data.len() / 2], true);
    assert!(half.len() <= whole.len() && half.iter().zip(whole.iter()).all(|(h, w)| h == w));
});
