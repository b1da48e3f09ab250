//! `traceparent` of a request: what is read is written back as the same context.
#![no_main]

use authtap::headers::Headers;
use authtap::proxy::trace_context::{Context, TRACEPARENT, trace_id};
use http::HeaderValue;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let mut headers = Headers::new();
    headers.insert(TRACEPARENT, value);
    let Some(context) = Context::of(&headers) else {
        assert_eq!(trace_id(&headers), None);
        return;
    };
    assert!(trace_id(&headers).is_some());
    headers.insert(TRACEPARENT, context.header());
    let again = Context::of(&headers).expect("what is written is valid");
    assert_eq!((again.trace, again.span, again.flags()), (context.trace, context.span, context.flags()));
});
