//! Session memory: strange snapshots are refused or read and never panic, what is read is written
//! again, and no cookie is too strange to be asked whether it is a session.
#![no_main]

use authtap::session::packed::Packed;
use authtap::session::recognise::looks_like_a_session;
use authtap::session::{SessionConfig, Sessions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut sessions = Sessions::new(SessionConfig::default(), [7; 32]);
    let _ = sessions.load_snapshot(data);
    // No fuzzer finds a seal: here what stands behind it.
    sessions.take_records(data);
    if let Some(packed) = Packed::from_bytes(data) {
        assert_eq!(Packed::from_bytes(packed.as_bytes()), Some(packed));
    }
    let (name, value) = data.split_at(data.len() / 2);
    let _ = looks_like_a_session(&String::from_utf8_lossy(name), value, true);
    let mut other = Sessions::new(SessionConfig::default(), [7; 32]);
    // None in a build without a cryptographic library, which seals nothing.
    if let Some(again) = sessions.to_snapshot() {
        assert!(other.load_snapshot(&again).is_ok());
    }
});
