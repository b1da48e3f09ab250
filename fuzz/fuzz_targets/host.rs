//! Whatever host and target arrive: no panic, and what passes has one valid host and no authority
//! in its target, so that it passes again unchanged.
#![no_main]

use authtap::headers::Value;
use authtap::proxy::host::{HostPort, host_without_port_lowercase, settle, settled_name};
use authtap::proxy::message::Parts;
use http::{HeaderValue, Request, Uri, Version, header::HOST};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The first byte chooses the method and version, then one line is the target, the others hosts.
    let Some((choice, rest)) = data.split_first() else { return };
    let mut lines = rest.split(|b| *b == b'\n');
    let Ok(uri) = Uri::try_from(lines.next().unwrap_or_default()) else { return };
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    *request.method_mut() = ["GET", "OPTIONS", "CONNECT"][usize::from(*choice) % 3].parse().expect("a method");
    *request.version_mut() = [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2][usize::from(choice >> 2) % 3];
    for line in lines.take(4) {
        let name = host_without_port_lowercase(line);
        assert!(!name.bytes().any(|b| b.is_ascii_uppercase() || b.is_ascii_whitespace() || b == b'@' || b == b'/'));
        if let Ok(value) = HeaderValue::from_bytes(line) {
            request.headers_mut().append(HOST, value);
        }
    }
    let mut parts = Parts::from(request.into_parts().0);
    if settle(&mut parts).is_err() {
        return;
    }
    assert!(parts.uri.authority().is_none());
    let hosts: Vec<Value<'_>> = parts.headers.get_all(HOST).iter().collect();
    assert!(hosts.len() == 1 || (hosts.is_empty() && parts.version == Version::HTTP_10));
    assert!(hosts.iter().all(|host| HostPort::read(host.as_bytes()).is_some()));
    assert!(hosts.iter().all(|host| settled_name(host.as_bytes()) == host_without_port_lowercase(host.as_bytes())));
    let mut again = parts.clone();
    assert!(settle(&mut again).is_ok());
    assert_eq!((parts.uri, parts.headers), (again.uri, again.headers));
});
