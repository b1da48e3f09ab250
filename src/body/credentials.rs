//! What an `Authorization` header says about who is asking: the user of Basic, a bearer token, the
//! claims inside a JSON Web Token.
//!
//! Must never hand out a password: the part of a Basic credential behind the colon is not even
//! decoded, but for the two bytes that share a group with the colon, and those are dropped at once.
//! A bearer token is a secret too: its reader hashes it or reads its claims, and keeps neither the
//! token nor its signature.
//!
//! The invariant: nothing here is verified. A claim says what the client sent; whether the
//! application accepted it is shown by its answer alone.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header;
use serde_json::Value;

use super::{encoding, json};
use crate::headers::Headers;

/// The longest credential that is looked at, in bytes.
pub const MAX_TOKEN: usize = 16 << 10;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// The schemes under which applications take a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RFC 6750.
    Bearer,
    /// `Token abc` or `Token token="abc"`.
    Token,
    /// `ApiKey abc`.
    ApiKey,
}

/// The user of Basic authentication (RFC 7617). UTF-8, or windows-1252 if it is not that. `None`
/// also if there is no password: then what stands in the place of the user is an API key, and a
/// secret.
pub fn basic_user(headers: &Headers) -> Option<String> {
    let (scheme, credential) = authorization(headers)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut user = Vec::new();
    let mut groups = credential.trim_end_matches('=').as_bytes().chunks(4);
    let password_begins = loop {
        let mut group = [0; 3];
        let len = STANDARD.decode_slice(groups.next()?, &mut group).ok()?;
        let mut parts = group.get(..len)?.splitn(2, |b| *b == b':');
        user.extend_from_slice(parts.next()?);
        if let Some(password) = parts.next() {
            break !password.is_empty();
        }
    };
    if user.is_empty() || !(password_begins || groups.next().is_some()) {
        return None;
    }
    Some(String::from_utf8(user).unwrap_or_else(|not| encoding::western(not.as_bytes()).into_owned()))
}

/// The token of an `Authorization` header with one of the schemes of [`Scheme`]. It is a secret.
pub fn bearer(headers: &Headers) -> Option<&str> {
    token(headers).map(|(_, token)| token)
}

/// As [`bearer`], with the scheme.
pub fn token(headers: &Headers) -> Option<(Scheme, &str)> {
    let (scheme, credential) = authorization(headers)?;
    let scheme = [("bearer", Scheme::Bearer), ("token", Scheme::Token), ("apikey", Scheme::ApiKey)]
        .into_iter()
        .find(|(name, _)| scheme.eq_ignore_ascii_case(name))?
        .1;
    let token = match credential.strip_prefix("token=") {
        Some(parameters) if scheme == Scheme::Token => {
            parameters.split([',', ';']).next().unwrap_or_default().trim().trim_matches('"')
        }
        _ => credential,
    };
    (!token.is_empty()).then_some((scheme, token))
}

/// Scheme and credential of the first `Authorization` header (RFC 9110 section 11.4).
fn authorization(headers: &Headers) -> Option<(&str, &str)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credential) = value.trim().split_once([' ', '\t'])?;
    (credential.len() <= MAX_TOKEN).then_some((scheme, credential.trim()))
}

/// The claims of a JSON Web Token in compact form (RFC 7519), **unverified**: anybody can write
/// them. `None` if it is none, is encrypted, or is longer than [`MAX_TOKEN`].
pub fn jwt_claims(token: &str) -> Option<Value> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    let mut parts = token.split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    json::parse(&URL_SAFE.decode(payload).ok()?).filter(Value::is_object)
}

/// One of the claims as text: the claim of exactly that name, else a JSON Pointer if `path` begins
/// with a slash, else a path with dots (`realm_access.roles.0`).
pub fn claim<'v>(claims: &'v Value, path: &str) -> Option<Cow<'v, str>> {
    let found = match claims.get(path) {
        Some(found) => Some(found),
        None if path.starts_with('/') => json::pointer(claims, path),
        None => path.split('.').try_fold(claims, |value, step| match value {
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            other => other.get(step),
        }),
    };
    found.and_then(json::scalar_text)
}

#[cfg(test)]
mod tests;
