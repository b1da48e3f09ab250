//! Whatever headers arrive: no panic, an untrusted peer decides nothing, the answer is canonical.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use authtap::headers::Headers;
use authtap::proxy::client_ip::{ClientIp, read_address};
use http::{HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The first byte chooses the form, the rest is the lines of the header.
    let Some((form, rest)) = data.split_first() else { return };
    let name = ["x-forwarded-for", "forwarded", "x-real-ip"][usize::from(*form) % 3];
    let name = HeaderName::from_static(name);
    let mut headers = Headers::new();
    for line in rest.split(|b| *b == b'\n').take(50) {
        let _ = read_address(line);
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(&name, value);
        }
    }
    let nets = ["127.0.0.0/8", "10.0.0.0/8", "::1/128"].map(|net| net.parse().expect("a network"));
    let client_ip = ClientIp::new(&nets, name);

    let stranger = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
    assert_eq!(client_ip.decide(Some(stranger), &headers), stranger);
    for peer in [None, Some(IpAddr::V4(Ipv4Addr::LOCALHOST))] {
        let found = client_ip.decide(peer, &headers);
        assert_eq!(found, found.to_canonical());
    }
});
