//! Credentials: never a panic, and no user name holds the colon that begins a password. The first
//! byte chooses the scheme.
#![no_main]

use authtap::headers::Headers;
use authtap::body::credentials;
use http::{HeaderValue, header};
use libfuzzer_sys::fuzz_target;

const SCHEMES: [&[u8]; 4] = [b"", b"Basic ", b"Bearer ", b"Token token="];

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let Ok(value) = HeaderValue::from_bytes(&[SCHEMES[usize::from(*choice) % 4], rest].concat()) else { return };
    let mut headers = Headers::new();
    headers.insert(header::AUTHORIZATION, value);
    assert!(credentials::basic_user(&headers).is_none_or(|user| !user.contains(':')));
    if let Some(claims) = credentials::bearer(&headers).and_then(credentials::jwt_claims) {
        let _ = credentials::claim(&claims, "realm_access.roles.0");
    }
});
