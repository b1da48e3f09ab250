//! Whatever a request carries: strip and set never panic, an untrusted peer's claims never reach
//! the application, and what the application needs is never stripped.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use authtap::headers::{Headers, Name};
use authtap::proxy::forwarded::{Hop, Mode, Peer, Policy, client_scheme, is_client_claim, set_forwarded};
use authtap::proxy::headers::{is_upgrade, strip_request, strip_response};
use http::{HeaderName, HeaderValue, header};
use libfuzzer_sys::fuzz_target;

const CLAIM: HeaderName = HeaderName::from_static("x-forwarded-for");

fuzz_target!(|data: &[u8]| {
    // The first byte chooses peer and policy, the rest is the lines of a head.
    let Some((choice, rest)) = data.split_first() else { return };
    let mut headers = Headers::new();
    for line in rest.split(|b| *b == b'\n').take(90) {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let mode = [Mode::Append, Mode::Replace, Mode::Off][usize::from(choice >> 2) % 3];
    let policy = Policy { mode, rfc7239: choice & 1 != 0 };
    let trusted_peer = choice & 2 != 0;
    let end_to_end = [header::HOST, header::CONTENT_LENGTH, header::COOKIE, header::AUTHORIZATION];
    let before: Vec<usize> = end_to_end.iter().map(|name| headers.get_all(name).iter().count()).collect();

    let mut answer = headers.clone();
    strip_response(&mut answer, choice & 64 != 0);
    let upgrade = is_upgrade(&headers);
    strip_request(&mut headers, upgrade);
    assert_eq!(headers.contains_key(header::UPGRADE), upgrade);
    let after: Vec<usize> = end_to_end.iter().map(|name| headers.get_all(name).iter().count()).collect();
    assert_eq!(before, after);

    let address = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
    let peer = Peer::new(Some(address));
    let scheme = client_scheme(&headers, trusted_peer, "http");
    let host = headers.get(header::HOST).map(|host| headers.shared(host));
    let hop = Hop { peer: &peer, client_ip: address, trusted_peer, claim: &CLAIM, scheme, host };
    set_forwarded(&mut headers, &hop, policy);

    let ours = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "forwarded"];
    for name in headers.keys().map(Name::as_sent).filter(|name| is_client_claim(name)) {
        assert!(trusted_peer || ours.contains(&name), "{name} passed");
    }
    if !trusted_peer && mode != Mode::Off {
        for name in ["x-forwarded-for", "x-real-ip"] {
            assert!(headers.get_all(name).iter().eq(["203.0.113.9"]));
        }
    }
});
