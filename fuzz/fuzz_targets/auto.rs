//! Capture without routes over strangers' bytes: a page and a request of any shape are read without
//! a panic, and what is kept of them is bounded.
#![no_main]

use authtap::headers::Headers;
use authtap::auto::page::{MAX_FIELDS, MAX_FORMS, Page};
use authtap::auto::request::Request;
use authtap::event::Timestamp;
use authtap::exchange::{Ended, Exchange, Kept, Request as Asked};
use authtap::rules::facts::Facts;
use http::{HeaderValue, Method, Uri, header};
use libfuzzer_sys::fuzz_target;

const KINDS: [&str; 4] = ["application/x-www-form-urlencoded", "application/json", "text/xml", "text/plain"];

fuzz_target!(|data: &[u8]| {
    let Some((kind, body)) = data.split_first() else { return };
    let page = Page::read(&String::from_utf8_lossy(body), true);
    assert!(page.forms.len() <= MAX_FORMS && page.fields().count() <= MAX_FIELDS);
    let kind = HeaderValue::from_static(KINDS[usize::from(*kind) % KINDS.len()]);
    let exchange = Exchange {
        began: Timestamp::from_millis(0),
        answered: Timestamp::from_millis(0),
        duration: std::time::Duration::ZERO,
        client_ip: std::net::Ipv4Addr::LOCALHOST.into(),
        scheme: "http",
        tls: None,
        request_id: String::new(),
        request: Asked {
            method: Method::POST,
            uri: Uri::from_static("/x?action=y"),
            host: String::new(),
            headers: Headers::from_iter([(header::CONTENT_TYPE, kind)]),
            body: Kept { bytes: body.to_vec().into(), cut: false, asked: true },
        },
        response: None,
        ended: Ended::Complete,
    };
    let facts = Facts::of_exchange(&exchange);
    let request = Request::read(&facts, &|_| None);
    assert!(request.fields.len() <= 256 + 64);
    let _ = request.identifier();
});
