//! XML-RPC: never a panic, and what a prefix holds the whole holds too. The first byte says where
//! the input is cut.
#![no_main]

use authtap::body::xmlrpc;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((at, body)) = data.split_first() else { return };
    let _ = xmlrpc::answers(body, false, at % 2 == 0);
    let prefix = body.get(..body.len() * usize::from(*at) / 256).unwrap_or_default();
    if let (Some(whole), Some(part)) = (xmlrpc::calls(body, false), xmlrpc::calls(prefix, true)) {
        assert!(whole.calls.len() <= xmlrpc::MAX_CALLS);
        assert_eq!(
            whole.calls.first().map(|c| &c.method).filter(|_| !part.calls.is_empty()),
            part.calls.first().map(|c| &c.method)
        );
    }
});
