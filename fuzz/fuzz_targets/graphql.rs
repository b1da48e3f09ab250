//! GraphQL: never a panic, never more fields than the bound. The first line of the input is a
//! pointer, the rest the document.
#![no_main]

use authtap::body::graphql;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let (pointer, document) = data.split_at(at);
    let Some(document) = graphql::parse(&String::from_utf8_lossy(document)) else { return };
    let Some(operation) = document.operation(None) else { return };
    assert!(operation.fields.len() <= graphql::MAX_FIELDS);
    for field in &operation.fields {
        let _ = operation.argument(field, &String::from_utf8_lossy(pointer), None);
    }
});
