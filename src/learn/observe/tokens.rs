//! Where tokens stand in a request, which keys of an answer hand them out, and what is claimed in them.

use serde_json::Value as Json;

use super::MAX_PLACES;
use super::walk::{last, walk};
use crate::body::credentials;
use crate::body::json::scalar_text;
use crate::learn::words::is_name;
use crate::rules::facts::Facts;
use crate::rules::source::is_secret_name;

/// The most claims of a token that are looked at.
const MAX_CLAIMS: usize = 50;

/// Secrets of the request by their sources: of fields, keys and the query.
pub(super) fn secrets(facts: &Facts<'_>) -> impl Iterator<Item = (String, String)> {
    let mut found = Vec::new();
    let mut note = |source: String, name: &str, value: &str| {
        if is_secret_name(name, false) && value.len() >= 16 && is_name(name) {
            found.push((source, value.to_owned()));
        }
    };
    facts.query().iter().take(MAX_PLACES).for_each(|(name, value)| note(format!("query.{name}"), name, value));
    let fields = facts.request_body().and_then(|body| body.fields());
    let fields = fields.into_iter().flat_map(|fields| fields.iter()).take(MAX_PLACES);
    fields.for_each(|(name, value)| note(format!("form.{name}"), name, value));
    walk(facts.request_json(), &mut |pointer, value| {
        if let Some(text) = value.as_str().filter(|_| !pointer.contains('*')) {
            note(format!("json:{pointer}"), last(pointer), text);
        }
    });
    found.into_iter()
}

/// The claims of a token that are texts, each with its pointer.
pub(super) fn claims(token: &str, mut found: impl FnMut(String, String)) {
    let claims = credentials::jwt_claims(token);
    let members = claims.as_ref().and_then(Json::as_object).into_iter().flatten();
    for (name, value) in members.take(MAX_CLAIMS).filter(|(name, _)| is_name(name)) {
        if let Some(text) = scalar_text(value) {
            found(format!("/{name}"), text.into_owned());
        }
    }
}

/// A key under which answers hand out what later requests carry.
pub(super) fn carries_a_session(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["token", "session", "jwt"].iter().any(|word| name.contains(word))
        && !name.contains("csrf")
        && !name.contains("xsrf")
}
