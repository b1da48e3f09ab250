//! Whatever a client sends first: no panic, a fingerprint of the right form, and the same answer
//! when the hello is cut into other records.
#![no_main]

use authtap::tls::client_hello::{HelloError, MAX_HELLO_BYTES, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // As it comes from a stranger.
    let _ = parse(data);
    // As the body of a hello, cut into records whose size the first byte chooses.
    let Some((size, body)) = data.split_first() else { return };
    let Ok(length) = u16::try_from(body.len()) else { return };
    let [high, low] = length.to_be_bytes();
    let message = [&[1, 0, high, low], body].concat();
    let records = |size: usize| -> Vec<u8> {
        let part = |part: &[u8]| [&[22, 3, 1], &(part.len() as u16).to_be_bytes()[..], part].concat();
        message.chunks(size).flat_map(part).collect()
    };
    let whole = parse(&records(16_384));
    assert_eq!(whole, parse(&records(usize::from(*size) + 1)));
    match whole {
        Ok(hello) => {
            let ja4 = hello.ja4();
            assert!(ja4.len() == 36 && ja4.is_ascii(), "{ja4}");
            let bytes = 2 * (hello.cipher_suites.len() + hello.extensions.len() + hello.signature_algorithms.len());
            assert!(bytes <= body.len());
        }
        Err(HelloError::TooLong) => assert!(body.len() > MAX_HELLO_BYTES),
        Err(HelloError::Malformed(_)) => {}
        Err(error) => panic!("a whole hello is called {error}"),
    }
});
