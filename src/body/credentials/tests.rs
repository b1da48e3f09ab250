use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use http::HeaderValue;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn with(value: impl AsRef<[u8]>) -> Headers {
    [(header::AUTHORIZATION, HeaderValue::from_bytes(value.as_ref()).unwrap())].into_iter().collect()
}

fn basic(credential: impl AsRef<[u8]>) -> Headers {
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
    assert_eq!(basic_user(&Headers::new()), None);
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
                let headers: Headers = [(header::AUTHORIZATION, value)].into_iter().collect();
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
