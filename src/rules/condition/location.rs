//! Where an answer's `Location` leads to.
//!
//! A malformed one leads somewhere or nowhere, and is never an error.

use http::{Uri, header};

use crate::body::form::{self, Fields};
use crate::headers::Headers;
use crate::rules::path::compared;

/// The query fields of `Location`.
pub fn location_fields(response: &Headers) -> Fields<'static> {
    let sent = response.get(header::LOCATION).map(|v| String::from_utf8_lossy(v.as_bytes()));
    let query = sent.as_deref().and_then(|l| l.split('#').next()).and_then(|l| l.split_once('?'));
    form::parse(query.map_or("", |(_, q)| q).as_bytes(), false).into_owned()
}

/// The path `Location` leads to, resolved against the request's (RFC 3986 section 5.2), in its
/// compared form; query and fragment, which may hold names and codes, are left behind.
pub fn location_path(response: &Headers, request: &Uri) -> Option<String> {
    let sent = response.get(header::LOCATION)?;
    let sent = String::from_utf8_lossy(sent.as_bytes());
    let end = sent.find(['?', '#']).unwrap_or(sent.len());
    let target = sent[..end].trim();
    let path = if let Some((_, rest)) = target.split_once("://") {
        rest.find('/').map_or("/", |at| &rest[at..]).to_owned()
    } else if let Some(rest) = target.strip_prefix("//") {
        rest.find('/').map_or("/", |at| &rest[at..]).to_owned()
    } else if target.starts_with('/') {
        target.to_owned()
    } else if target.is_empty() {
        request.path().to_owned()
    } else {
        let base = request.path();
        format!("{}{target}", &base[..base.rfind('/').map_or(0, |at| at + 1)])
    };
    Some(compared(&path).into_owned())
}
