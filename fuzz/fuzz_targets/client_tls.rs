//! Whatever headers about TLS arrive: no panic, a stranger is not believed, and of each header that is
//! named at most one line, in the plain spelling, goes on.
#![no_main]

use std::sync::LazyLock;

use authtap::headers::Headers;
use authtap::config::settings::check;
use authtap::proxy::client_tls::Policy;
use http::{HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 5] = ["x-tls-version", "x-tls-sni", "x-ja4", "x-ssl-dn", "x-ssl-mail"];

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let file = "version: 1\nupstream: http://127.0.0.1:1\nclient_ip: { trusted_proxies: [127.0.0.1] }\n\
        tls_header: { version: x-tls-version, sni: x-tls-sni, ja4: x-ja4, subject: x-ssl-dn, email: x-ssl-mail }\n\
        client_cert: { header: x-ssl-dn, email_header: x-cert-email }\n";
    check("routes.yaml", file).0.expect("a sound file").client_tls
});

fuzz_target!(|data: &[u8]| {
    let mut headers = Headers::new();
    for line in data.split(|b| *b == b'\n').take(50) {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let name = match line[..colon] {
            [which] => HeaderName::from_static(NAMES[usize::from(which) % NAMES.len()]),
            ref name => match HeaderName::from_bytes(name) {
                Ok(name) => name,
                Err(_) => continue,
            },
        };
        if let Ok(value) = HeaderValue::from_bytes(&line[colon + 1..]) {
            headers.append(name, value);
        }
    }
    assert!(POLICY.read(&headers, false).is_none());
    for said in [None, POLICY.read(&headers, true)] {
        if let Some(facts) = said.as_ref().and_then(|said| said.facts()) {
            assert!(facts.ja4.is_none_or(|ja4| ja4.len() <= 512) && facts.sni.is_none_or(|sni| !sni.is_empty()));
        }
        let mut sent = headers.clone();
        POLICY.tell(&mut sent, said.as_ref(), None);
        for name in NAMES {
            let lines = sent.get_all(name).iter().count();
            assert!(lines <= usize::from(said.is_some()), "{name}");
            assert!(!sent.contains_key(name.replace('-', "_").as_str()));
        }
        assert!(!sent.contains_key("x_cert_email"));
    }
});
