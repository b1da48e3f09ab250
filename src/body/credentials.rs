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
use http::{HeaderMap, header};
use serde_json::Value;

use super::{encoding, json};

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
pub fn basic_user(headers: &HeaderMap) -> Option<String> {
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
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    token(headers).map(|(_, token)| token)
}

/// As [`bearer`], with the scheme.
pub fn token(headers: &HeaderMap) -> Option<(Scheme, &str)> {
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
fn authorization(headers: &HeaderMap) -> Option<(&str, &str)> {
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
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
    use http::HeaderValue;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn with(value: impl AsRef<[u8]>) -> HeaderMap {
        [(header::AUTHORIZATION, HeaderValue::from_bytes(value.as_ref()).unwrap())].into_iter().collect()
    }

    fn basic(credential: impl AsRef<[u8]>) -> HeaderMap {
        with(format!("Basic {}", BASE64_STANDARD.encode(credential)))
    }

    fn jwt(claims: &str) -> String {
        format!("{}.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode("{}"), BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn the_user_of_basic_is_found_and_the_password_is_not() {
        let cases: [(&[u8], Option<&str>); 9] = [
            (b"alice:hunter2", Some("alice")),
            (b"a:b:c", Some("a")),
            (b"ab:c", Some("ab")),
            (b"abc:d", Some("abc")),
            ("jörg:x".as_bytes(), Some("jörg")),
            (b"j\xf6rg:x", Some("jörg")),
            (b":password", None),
            (b"sk_live_key:", None),
            (b"no colon", None),
        ];
        for (credential, expected) in cases {
            assert_eq!(basic_user(&basic(credential)).as_deref(), expected, "{}", credential.escape_ascii());
        }
    }

    #[test]
    fn odd_spellings_of_basic_are_read_and_others_are_not() {
        let cases = [
            ("bAsIc YWxpY2U6eA==", Some("alice")),
            ("Basic  YWxpY2U6eA ", Some("alice")),
            ("Basic YWxpY2U6eB==", Some("alice")),
            ("Basic", None),
            ("Basic ", None),
            ("Basic !!!!", None),
            ("Basic Y", None),
            ("Bearer YWxpY2U6eA==", None),
        ];
        for (value, expected) in cases {
            assert_eq!(basic_user(&with(value)).as_deref(), expected, "{value}");
        }
        assert_eq!(basic_user(&HeaderMap::new()), None);
        assert_eq!(basic_user(&basic(format!("{}:x", "a".repeat(MAX_TOKEN)))), None);
    }

    #[test]
    fn tokens_are_found_under_each_scheme() {
        let cases = [
            ("Bearer abc.def", Some((Scheme::Bearer, "abc.def"))),
            ("bearer   abc", Some((Scheme::Bearer, "abc"))),
            ("Token abc", Some((Scheme::Token, "abc"))),
            ("Token token=\"abc\", nonce=\"x\"", Some((Scheme::Token, "abc"))),
            ("Bearer token=abc", Some((Scheme::Bearer, "token=abc"))),
            ("ApiKey abc==", Some((Scheme::ApiKey, "abc=="))),
            ("Token token=", None),
            ("Bearer", None),
            ("Basic abc", None),
            ("Digest username=\"x\"", None),
        ];
        for (value, expected) in cases {
            let headers = with(value);
            assert_eq!(token(&headers), expected, "{value}");
            assert_eq!(bearer(&headers), expected.map(|(_, token)| token), "{value}");
        }
    }

    #[test]
    fn the_claims_of_a_token_are_read_and_other_tokens_have_none() {
        assert_eq!(jwt_claims(&jwt(r#"{"sub":"42"}"#)), Some(json!({"sub": "42"})));
        let unsigned = jwt(r#"{"sub":"42"}"#).replace("c2ln", "");
        assert_eq!(jwt_claims(&unsigned), Some(json!({"sub": "42"})));
        let encrypted = format!("{}.a.b", jwt("{}"));
        let large = jwt(&json!({"a": "x".repeat(MAX_TOKEN)}).to_string());
        for bad in ["", "a.b", "..", "a.!.c", &jwt("[1]"), &jwt("{\"a\""), &jwt("\"x\""), &encrypted, &large] {
            assert_eq!(jwt_claims(bad), None);
        }
    }

    #[test]
    fn claims_are_found_by_name_pointer_and_path() {
        let claims = json!({
            "sub": "u1", "https://x.test/mail": "a@x", "realm_access": {"roles": ["admin", 7]}, "a.b": true, "aud": ["x"],
        });
        let cases = [
            ("sub", Some("u1")),
            ("https://x.test/mail", Some("a@x")),
            ("realm_access.roles.0", Some("admin")),
            ("/realm_access/roles/1", Some("7")),
            ("a.b", Some("true")),
            ("aud", None),
            ("aud.1", None),
            ("nobody", None),
            ("", None),
        ];
        for (path, expected) in cases {
            assert_eq!(claim(&claims, path).as_deref(), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_some_credential_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in ".*") {
            for scheme in [&b""[..], b"Basic ", b"Bearer ", b"Token token="] {
                if let Ok(value) = HeaderValue::from_bytes(&[scheme, &bytes].concat()) {
                    let headers: HeaderMap = [(header::AUTHORIZATION, value)].into_iter().collect();
                    let _ = (basic_user(&headers), bearer(&headers));
                }
            }
            let _ = jwt_claims(&text);
            if let Some(claims) = jwt_claims(&jwt(&String::from_utf8_lossy(&bytes))) {
                let _ = claim(&claims, &text);
            }
        }

        #[test]
        fn every_user_is_given_back_whole(user in "[^:]{1,20}", password in ".{1,20}") {
            prop_assert_eq!(basic_user(&basic(format!("{user}:{password}"))), Some(user));
        }
    }
}
