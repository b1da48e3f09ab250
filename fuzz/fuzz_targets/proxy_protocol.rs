//! Whatever a connection begins with: no panic, the header is within the bytes, addresses are
//! canonical, and what is known of the first bytes does not change with what follows.
#![no_main]

use authtap::proxy::proxy_protocol::{Look, MAX_HEADER_BYTES, encode_v1, encode_v2, look};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The first byte says how much of the rest has arrived at first.
    let Some((cut, bytes)) = data.split_first() else { return };
    let whole = look(bytes);
    let part = bytes.get(..usize::from(*cut)).unwrap_or(bytes);
    match look(part) {
        Ok(Look::More(wanted)) => assert!(wanted > 0 && part.len() + wanted <= MAX_HEADER_BYTES),
        Ok(known) => assert_eq!(whole.as_ref().ok(), Some(&known)),
        Err(error) => assert_eq!(whole.as_ref().err().map(|e| e.as_str()), Some(error.as_str())),
    }
    let Ok(Look::Header(header, len)) = whole else { return };
    assert!(len <= bytes.len() && len <= MAX_HEADER_BYTES);
    let Some((client, local)) = header.addresses else { return };
    assert_eq!(client.ip(), client.ip().to_canonical());
    for again in [encode_v1(client, local), encode_v2(client, local)] {
        let Ok(Look::Header(found, _)) = look(&again) else { panic!("what we write we read") };
        assert_eq!(found.addresses, Some((client, local)));
    }
});
