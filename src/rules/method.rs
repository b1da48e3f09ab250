//! Which method a request means, where a form stands for what forms cannot send.
//!
//! Frameworks take a POST for the method it names: in the form field `_method`, the header
//! `X-HTTP-Method-Override`, or the query field `_method`. They differ in which of these wins, so
//! where several are sent, each counts: a request that one framework takes for a DELETE must not
//! hide behind another's reading. Only a POST may name another method.

use http::Method;

use super::facts::{Facts, Truth};

const HEADERS: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
const FIELD: &str = "_method";

/// True if the request means one of these methods; open until a form that may name one is known.
pub(super) fn overridden(methods: &[Method], facts: &Facts<'_>) -> Truth {
    if facts.method != Method::POST {
        return Some(methods.contains(facts.method));
    }
    let meant = |name: &str| methods.iter().any(|m| m.as_str().eq_ignore_ascii_case(name.trim()));
    let headers = HEADERS.iter().filter_map(|h| facts.headers.get(*h)?.to_str().ok());
    let mut named = headers.chain(facts.query().last(FIELD)).peekable();
    let names_any = named.peek().is_some();
    if named.any(meant) {
        return Some(true);
    }
    let body = facts.request_body()?;
    match body.fields().and_then(|fields| fields.last(FIELD)) {
        Some(name) => Some(meant(name)),
        // The rest of a form may still name one.
        None if body.cut() => None,
        None => Some(!names_any && methods.contains(facts.method)),
    }
}
