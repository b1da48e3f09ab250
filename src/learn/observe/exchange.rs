//! The signs of one exchange: what its request carries and what its answer shows.
//!
//! Names and words of programs become signs; values only stand beside their sources.

use std::collections::BTreeSet;
use std::hash::RandomState;

use http::header;
use serde_json::Value as Json;

use super::cookies::cookies;
use super::tokens::{carries_a_session, claims, secrets};
use super::walk::{last, walk};
use super::{Call, MAX_PLACES, MAX_VALUE, Seen};
use crate::auto::page::Page;
use crate::auto::request::Request;
use crate::body::{credentials, form, xmlrpc};
use crate::learn::sign::Sign;
use crate::learn::words::{is_name, is_word, says_how_it_went, says_what};
use crate::rules::condition::location_path;
use crate::rules::extract::shown_path;
use crate::rules::facts::Facts;
use crate::rules::graphql;
use crate::rules::source::is_secret_name;

/// The most signs of an exchange.
const MAX_SIGNS: usize = 120;
/// The most parameters of a call that are looked at.
const MAX_PARAMS: usize = 8;

pub(super) fn seen(facts: &Facts<'_>, hasher: &RandomState) -> Seen {
    let mut seen = Seen {
        method: facts.method.to_string(),
        path: shown_path(&facts.path, &[]),
        call: call(facts),
        form: Vec::new(),
        json: Vec::new(),
        signs: BTreeSet::new(),
        next: None,
        tokens: Vec::new(),
        carried: Vec::new(),
        events: Vec::new(),
        sources: Vec::new(),
        cookies: Vec::new(),
    };
    asked(facts, &mut seen);
    answered(facts, &mut seen);
    cookies(facts, hasher, &mut seen);
    seen.sources.extend(credentials::basic_user(facts.headers).map(|user| ("basic.user".to_owned(), user)));
    for (source, value) in secrets(facts) {
        claims(&value, |claim, text| seen.sources.push((format!("jwt:{source}#{claim}"), text)));
    }
    seen.sources.retain(|(_, value)| !value.is_empty() && value.len() <= MAX_VALUE);
    seen.signs.extend(facts.session_known.map(Sign::SessionKnown));
    while seen.signs.len() > MAX_SIGNS {
        seen.signs.pop_last();
    }
    seen
}

/// What is called where one address serves several things.
fn call(facts: &Facts<'_>) -> Option<Call> {
    if let (Some(asked), Some(field)) = (facts.graphql(), facts.graphql_field()) {
        return Some(Call::GraphQl(asked.operation.as_ref()?.kind.as_str(), field.name.clone()))
            .filter(|_| is_name(&field.name));
    }
    facts.xmlrpc().filter(|call| is_name(&call.method)).map(|call| Call::XmlRpc(call.method.clone()))
}

/// What the request carries: names, and words that say what is done.
fn asked(facts: &Facts<'_>, seen: &mut Seen) {
    for (name, value) in facts.query().iter().take(MAX_PLACES).filter(|(name, _)| is_name(name)) {
        let word = is_word(value).then(|| Sign::QueryDoes(name.to_owned(), value.to_owned()));
        seen.signs.insert(word.filter(|_| says_what(name)).unwrap_or(Sign::Query(name.to_owned())));
        if !is_secret_name(name, false) {
            seen.sources.push((format!("query.{name}"), value.to_owned()));
        }
    }
    let body = facts.request_body();
    for (name, value) in body.and_then(|b| b.fields()).into_iter().flat_map(|fields| fields.iter()).take(MAX_PLACES) {
        if !is_name(name) || seen.form.iter().any(|known| known == name) {
            continue;
        }
        seen.form.push(name.to_owned());
        if says_what(name) && is_word(value) {
            seen.signs.insert(Sign::Does(name.to_owned(), value.to_owned()));
        } else if !value.is_empty() {
            seen.signs.insert(Sign::Filled(name.to_owned()));
        }
        if !is_secret_name(name, false) {
            seen.sources.push((format!("form.{name}"), value.to_owned()));
        }
    }
    match (&seen.call, facts.xmlrpc()) {
        (Some(Call::GraphQl(..)), _) => {
            let request = Request::read(facts, &|_| None);
            for field in request.fields.iter().filter(|f| is_name(&f.name) && !is_secret_name(&f.name, false)) {
                let places = ["", "/data", "/input"].map(|above| format!("{above}/{}", field.name));
                let there =
                    |pointer: &&String| graphql::argument(facts, pointer).is_some_and(|text| text == *field.value);
                if let Some(pointer) = places.iter().find(there) {
                    seen.sources.push((format!("graphql:{pointer}"), field.value.to_string()));
                }
            }
        }
        (Some(Call::XmlRpc(_)), Some(call)) => {
            for (i, value) in call.params.iter().take(MAX_PARAMS).enumerate() {
                seen.sources.extend(value.as_str().map(|text| (format!("xmlrpc.{i}"), text.to_owned())));
            }
        }
        _ => walk(facts.request_json(), &mut |pointer, value| {
            match value.as_str().filter(|word| says_what(last(pointer)) && is_word(word)) {
                Some(word) => seen.signs.insert(Sign::Says(pointer.to_owned(), word.to_owned())),
                None => seen.signs.insert(Sign::Has(pointer.to_owned())),
            };
            if !value.is_object() && !value.is_array() {
                seen.json.push(pointer.to_owned());
            }
            if let Json::String(text) = value
                && !is_secret_name(last(pointer), false)
                && !pointer.contains('*')
            {
                seen.sources.push((format!("json:{pointer}"), text.clone()));
            }
        }),
    }
}

/// What the answer shows.
fn answered(facts: &Facts<'_>, seen: &mut Seen) {
    let Some((status, headers)) = facts.response else { return };
    seen.signs.insert(Sign::Status(status.as_u16()));
    if let Some(to) = location_path(headers, facts.uri) {
        // A path with a number or a token in it is that of one thing.
        let one = |segment: &str| !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit());
        if shown_path(&to, &[]) == to && !to.split('/').any(one) {
            seen.signs.insert(Sign::Location(to));
        }
        let query = headers.get(header::LOCATION).and_then(|to| to.to_str().ok()?.split_once('?'));
        let query = query.map_or("", |(_, query)| query.split('#').next().unwrap_or_default());
        for (name, _) in form::parse(query.as_bytes(), false).iter().take(20).filter(|(name, _)| is_name(name)) {
            seen.signs.insert(Sign::LocationQuery(name.to_owned()));
        }
    }
    match (&seen.call, facts.xmlrpc_answer()) {
        (Some(Call::GraphQl(..)), _) => {
            let errors = facts.response_json().and_then(|json| json.get("errors")?.as_array());
            let failed = errors.is_some_and(|errors| !errors.is_empty());
            seen.signs.insert(Sign::Errors(failed));
            let code = errors.and_then(|errors| errors.first()?.pointer("/extensions/code")?.as_str());
            seen.signs.extend(code.filter(|code| is_word(code)).map(|code| Sign::ErrorCode(code.to_owned())));
        }
        (Some(Call::XmlRpc(_)), answer) => {
            seen.signs.extend(answer.map(|answer| Sign::Fault(matches!(answer, xmlrpc::Answer::Fault(_)))));
        }
        _ => {
            let mut jwts = Vec::new();
            walk(facts.response_json(), &mut |pointer, value| {
                let text = match value {
                    Json::Null => return,
                    Json::Bool(yes) => {
                        seen.signs.insert(Sign::Json(pointer.to_owned(), Some(*yes)));
                        return;
                    }
                    Json::String(text) => text.clone(),
                    Json::Number(number) => number.to_string(),
                    Json::Array(_) | Json::Object(_) => String::new(),
                };
                seen.signs.insert(Sign::Json(pointer.to_owned(), None));
                if says_how_it_went(last(pointer), &text) {
                    seen.signs.insert(Sign::Code(pointer.to_owned(), text.clone()));
                }
                if is_secret_name(last(pointer), false) {
                    if text.len() >= 16 && !pointer.contains('*') && carries_a_session(last(pointer)) {
                        seen.tokens.push(pointer.to_owned());
                        jwts.push((pointer.to_owned(), text));
                    }
                } else if !pointer.contains('*') {
                    seen.sources.push((format!("response.json:{pointer}"), text));
                }
            });
            for (pointer, token) in jwts {
                claims(&token, |claim, text| seen.sources.push((format!("response.jwt:{pointer}#{claim}"), text)));
            }
        }
    }
    if let Some(body) = facts.response_body()
        && Page::read(&body.text(), !body.cut()).shows_password()
    {
        seen.signs.insert(Sign::AsksPassword);
    }
}
