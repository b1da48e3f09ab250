//! Sources: where in an exchange a value is taken from.
//!
//! Extraction is by allow-list: only what a source names leaves the exchange, and a source that
//! names a secret (a password, token, code or session cookie) is refused when the configuration is
//! read.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, header};
use regex::Regex;
use serde_json::Value;

use super::calls::Scope;
use super::condition::{HEADER_HINT, Needs, location_fields, location_path, pointer_hint};
use super::facts::{Facts, select};
use super::matcher::compile;
use super::path::PathPattern;
use super::{graphql, xmlrpc};
use crate::body::json::scalar_text;
use crate::body::{cookie, credentials};
use crate::config::node::{Node, clip};
use crate::config::problem::Problems;
use crate::event::text::looks_like_a_token;
use crate::exchange::ClientTls;
use crate::headers::Headers;

/// Where a value is taken from.
#[derive(Clone, Debug)]
pub enum Source {
    /// `form.NAME`: a field of a form.
    Form(String),
    /// `json:/POINTER`: a value of the request's JSON.
    Json(String),
    /// `query.NAME`: a field of the query.
    Query(String),
    /// `path.NAME`: a parameter of the path.
    Path(String),
    /// `header.NAME`: a request header.
    Header(HeaderName),
    /// `cookie.NAME`: a request cookie.
    Cookie(String),
    /// `cookie.NAME:REGEX`: the first group (or the whole match) in a request cookie, percent-decoded,
    /// for cookies that hold a name beside what proves it. Never the whole value, nor a token.
    CookiePart(String, Regex),
    /// `response.cookie.NAME:REGEX`: the same of a cookie that the answer sets.
    ResponseCookiePart(String, Regex),
    /// `basic.user`: the user of HTTP Basic (RFC 7617).
    BasicUser,
    /// `jwt:/POINTER`: a claim of the bearer token, unverified.
    Jwt(String),
    /// `jwt:SOURCE#/CLAIM`: a claim of a token that another source of the request finds, unverified.
    JwtIn(Box<Source>, String),
    /// `graphql.NAME` or `graphql:/POINTER`: an argument of the field, else a variable.
    Graphql(String),
    /// `xmlrpc.N` or `xmlrpc:/N/POINTER`: a parameter by its position, counted from 0.
    XmlRpc(String),
    /// `response.graphql:/POINTER`: a value of the field's result.
    ResponseGraphql(String),
    /// `response.json:/POINTER`: a value of the answer's JSON.
    ResponseJson(String),
    /// `response.header.NAME`: a header of the answer.
    ResponseHeader(HeaderName),
    /// `response.cookie.NAME`: a cookie the answer sets.
    ResponseCookie(String),
    /// `response.jwt:/POINTER#/CLAIM`: a claim of a token in the answer's JSON, unverified.
    ResponseJwt(String, String),
    /// `response.body:REGEX`: the first group (or the whole match) in the answer's text.
    ResponseBody(Regex),
    /// `response.location:REGEX`: the same in the path of `Location`.
    ResponseLocation(Regex),
    /// `response.location.query.NAME`: a query field of `Location`.
    ResponseLocationQuery(String),
    /// `tls.NAME`: what the client's TLS connection or its verified certificate says.
    Tls(TlsPart),
    /// `const:TEXT`: this text.
    Const(String),
    /// `uid36:SOURCE` and `uid64:SOURCE`: the account's number at the head of a link's key.
    Uid(LinkUid, Box<Source>),
}

/// What can be taken from a client's TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPart {
    /// `tls.sni`: the name that the client asked for.
    Sni,
    /// `tls.ja4`: the fingerprint of its hello.
    Ja4,
    /// `tls.client.subject`: the whole subject of its verified certificate (RFC 4514).
    Subject,
    /// `tls.client.cn`: the common name in that subject.
    CommonName,
    /// `tls.client.email`: the first e-mail address in that certificate.
    Email,
}

impl TlsPart {
    const NAMES: [(&str, TlsPart); 5] = [
        ("tls.sni", TlsPart::Sni),
        ("tls.ja4", TlsPart::Ja4),
        ("tls.client.subject", TlsPart::Subject),
        ("tls.client.cn", TlsPart::CommonName),
        ("tls.client.email", TlsPart::Email),
    ];

    fn of(self, tls: &ClientTls) -> Option<&str> {
        match self {
            TlsPart::Sni => tls.sni.as_deref(),
            TlsPart::Ja4 => tls.ja4.as_deref(),
            TlsPart::Subject => tls.subject.as_deref(),
            TlsPart::CommonName => tls.name.as_deref(),
            TlsPart::Email => tls.email.as_deref(),
        }
    }
}

/// The forms a source may take, for messages.
const FORMS: &str = "sources of the request: form.NAME, json:/POINTER, query.NAME, path.NAME, header.NAME, cookie.NAME, \
cookie.NAME:REGEX, basic.user, jwt:/CLAIM, jwt:SOURCE#/CLAIM, graphql.ARGUMENT, xmlrpc.POSITION\n\
the client's TLS: tls.client.subject, tls.client.cn, tls.client.email, tls.sni, tls.ja4\n\
sources of the answer: \
response.json:/POINTER, response.graphql:/POINTER, response.header.NAME, response.cookie.NAME, \
response.cookie.NAME:REGEX, response.jwt:/POINTER#/CLAIM, response.body:REGEX, response.location:REGEX, \
response.location.query.NAME\na constant: const:TEXT\n\
the account in the key of a mailed link: uid36:SOURCE, uid64:SOURCE";

/// What a text that is no source was probably meant to be.
fn meant(text: &str) -> String {
    const NAMED: [&str; 5] = ["form", "query", "path", "header", "cookie"];
    let word = |t: &str| {
        !t.is_empty() && t.len() <= 60 && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-[]".contains(&b))
    };
    let guess = match text.split_once([':', '.', '/']) {
        None if word(text) => Some(format!("form.{text}")),
        Some((stem, name)) if NAMED.contains(&stem) && word(name) => Some(format!("{stem}.{name}")),
        Some(("json" | "body", name)) if text.starts_with("json") && word(name) => Some(format!("json:/{name}")),
        _ => None,
    };
    match guess {
        Some(guess) => format!("did you mean `{guess}`?"),
        None => FORMS.to_owned(),
    }
}

/// Whether secrets may be named: only where the value is hashed at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// A source that names a secret is an error.
    Refused,
    /// The value never leaves but as a keyed hash.
    Hashed,
}

impl Source {
    /// The source whose value is read.
    pub fn innermost(&self) -> &Source {
        match self {
            Source::Uid(_, inner) => inner.innermost(),
            other => other,
        }
    }

    /// Reads a source.
    pub fn check(node: &Node, secrets: Secrets, problems: &mut Problems) -> Option<Source> {
        let text = node.str(problems)?;
        let Some(source) = Source::parse(text, node, problems)? else {
            problems.error_hint(node, format!("`{}` is not a source", clip(text)), &meant(text));
            return None;
        };
        if secrets == Secrets::Refused
            && let Some(name) = source.names_a_secret()
        {
            let hint = match source {
                Source::Cookie(_)
                | Source::CookiePart(..)
                | Source::ResponseCookie(_)
                | Source::ResponseCookiePart(..) => {
                    "to follow a session, name its cookie at the top of the file, which keeps a keyed hash: \
                     session: { cookies: [NAME] }"
                }
                _ => "name a field that says who the person is, not one that proves it",
            };
            problems.error_hint(node, format!("`{}` holds a secret and is never extracted", clip(name)), hint);
            return None;
        }
        Some(source)
    }

    /// A source, or a constant text where no source is meant (`method: password`).
    pub fn check_or_text(node: &Node, problems: &mut Problems) -> Option<Source> {
        let text = node.str(problems)?;
        const STEMS: [&str; 15] = [
            "form.",
            "json:",
            "query.",
            "path.",
            "header.",
            "cookie.",
            "response.",
            "jwt:",
            "const:",
            "graphql.",
            "graphql:",
            "xmlrpc.",
            "xmlrpc:",
            "uid36:",
            "uid64:",
        ];
        if text == "basic.user" || STEMS.iter().any(|s| text.starts_with(s)) {
            Source::check(node, Secrets::Refused, problems)
        } else {
            Some(Source::Const(text.to_owned()))
        }
    }

    /// The outer `None` means that a problem was reported, the inner one that the form is unknown.
    fn parse(text: &str, node: &Node, problems: &mut Problems) -> Option<Option<Source>> {
        let header = |name: &str, problems: &mut Problems| match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => Some(name),
            Err(_) => {
                problems.error_hint(node, format!("`{}` is not a header name", clip(name)), HEADER_HINT);
                None
            }
        };
        let pointer = |p: &str, problems: &mut Problems| {
            if p.starts_with('/') {
                return Some(p.to_owned());
            }
            problems.error_hint(node, format!("`{}` is not a JSON pointer", clip(p)), &pointer_hint(p));
            None
        };
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let uid = [("uid36:", LinkUid::Base36), ("uid64:", LinkUid::Base64)];
        if let Some((rest, form)) = uid.iter().find_map(|(stem, form)| Some((text.strip_prefix(stem)?, *form))) {
            let inner = Source::parse(rest, node, problems)?;
            let in_a_link =
                matches!(&inner, Some(Source::Path(_) | Source::Query(_) | Source::Form(_) | Source::Json(_)));
            return Some(inner.filter(|_| in_a_link).map(|inner| Source::Uid(form, Box::new(inner))));
        }
        Some(if let Some(rest) = text.strip_prefix("response.") {
            if let Some(p) = rest.strip_prefix("json:") {
                Some(Source::ResponseJson(pointer(p, problems)?))
            } else if let Some(p) = rest.strip_prefix("graphql:") {
                Some(Source::ResponseGraphql(pointer(p, problems)?))
            } else if let Some(name) = rest.strip_prefix("header.") {
                Some(Source::ResponseHeader(header(name, problems)?))
            } else if let Some(name) = rest.strip_prefix("cookie.") {
                match name.split_once(':') {
                    Some((name, regex)) => {
                        Some(Source::ResponseCookiePart(name.to_owned(), compile(regex, node, problems)?))
                    }
                    None => named(name).map(Source::ResponseCookie),
                }
            } else if let Some(both) = rest.strip_prefix("jwt:") {
                let Some((p, claim)) = both.split_once('#') else {
                    let hint =
                        format!("write where the token stands, `#`, and the claim: response.jwt:{}#/sub", clip(both));
                    problems.error_hint(node, "the claim of the token is missing".into(), &hint);
                    return None;
                };
                Some(Source::ResponseJwt(pointer(p, problems)?, pointer(claim, problems)?))
            } else if let Some(regex) = rest.strip_prefix("body:") {
                Some(Source::ResponseBody(compile(regex, node, problems)?))
            } else if let Some(name) = rest.strip_prefix("location.query.") {
                named(name).map(Source::ResponseLocationQuery)
            } else if let Some(regex) = rest.strip_prefix("location:") {
                Some(Source::ResponseLocation(compile(regex, node, problems)?))
            } else {
                None
            }
        } else if let Some(name) = text.strip_prefix("form.") {
            named(name).map(Source::Form)
        } else if let Some(p) = text.strip_prefix("json:") {
            Some(Source::Json(pointer(p, problems)?))
        } else if let Some(name) = text.strip_prefix("query.") {
            named(name).map(Source::Query)
        } else if let Some(name) = text.strip_prefix("path.") {
            named(name).map(Source::Path)
        } else if let Some(name) = text.strip_prefix("header.") {
            Some(Source::Header(header(name, problems)?))
        } else if let Some(name) = text.strip_prefix("cookie.") {
            match name.split_once(':') {
                Some((name, regex)) => Some(Source::CookiePart(name.to_owned(), compile(regex, node, problems)?)),
                None => named(name).map(Source::Cookie),
            }
        } else if let Some(p) = text.strip_prefix("graphql:") {
            Some(Source::Graphql(pointer(p, problems)?))
        } else if let Some(name) = text.strip_prefix("graphql.") {
            named(name).map(|name| Source::Graphql(format!("/{}", name.replace('.', "/"))))
        } else if let Some(p) = text.strip_prefix("xmlrpc:") {
            Some(Source::XmlRpc(position(pointer(p, problems)?, node, problems)?))
        } else if let Some(n) = text.strip_prefix("xmlrpc.") {
            Some(Source::XmlRpc(position(format!("/{n}"), node, problems)?))
        } else if let Some((_, part)) = TlsPart::NAMES.iter().find(|(name, _)| *name == text) {
            Some(Source::Tls(*part))
        } else if text == "basic.user" {
            Some(Source::BasicUser)
        } else if let Some(claim) = text.strip_prefix("jwt:") {
            match claim.split_once('#') {
                None => Some(Source::Jwt(pointer(claim, problems)?)),
                Some((token, claim)) => {
                    let within = Source::parse(token, node, problems)?.filter(|s| !matches!(s, Source::JwtIn(..)));
                    let claim = pointer(claim, problems)?;
                    within.map(|source| Source::JwtIn(Box::new(source), claim))
                }
            }
        } else {
            text.strip_prefix("const:").map(|t| Source::Const(t.to_owned()))
        })
    }

    /// The name it reads, if that name is one of a secret.
    fn names_a_secret(&self) -> Option<&str> {
        let (name, strict) = match self {
            Source::Form(n) | Source::Query(n) | Source::Path(n) | Source::ResponseLocationQuery(n) => {
                (n.as_str(), false)
            }
            Source::Json(p)
            | Source::ResponseJson(p)
            | Source::Jwt(p)
            | Source::JwtIn(_, p)
            | Source::ResponseJwt(_, p)
            | Source::Graphql(p)
            | Source::ResponseGraphql(p)
            | Source::XmlRpc(p) => (p.rsplit('/').next().unwrap_or_default(), false),
            Source::Cookie(n)
            | Source::CookiePart(n, _)
            | Source::ResponseCookie(n)
            | Source::ResponseCookiePart(n, _) => (n.as_str(), true),
            Source::Header(h) | Source::ResponseHeader(h) => {
                // The last two carry whole addresses, and with them reset links and codes.
                const HOLD_SECRETS: [HeaderName; 6] = [
                    header::COOKIE,
                    header::SET_COOKIE,
                    header::AUTHORIZATION,
                    header::PROXY_AUTHORIZATION,
                    header::REFERER,
                    header::LOCATION,
                ];
                if HOLD_SECRETS.contains(h) {
                    return Some(h.as_str());
                }
                (h.as_str(), false)
            }
            _ => return None,
        };
        is_secret_name(name, strict).then_some(name)
    }

    /// Which bodies it reads.
    pub fn needs(&self) -> Needs {
        match self {
            Source::Form(_) | Source::Json(_) | Source::Graphql(_) | Source::XmlRpc(_) => {
                Needs { request_body: true, response_body: false }
            }
            Source::ResponseGraphql(_) => Needs { request_body: true, response_body: true },
            Source::ResponseJson(_) | Source::ResponseJwt(..) | Source::ResponseBody(_) => {
                Needs { request_body: false, response_body: true }
            }
            Source::Uid(_, inner) => inner.needs(),
            Source::JwtIn(token, _) => token.needs(),
            _ => Needs::default(),
        }
    }

    /// How much of an exchange it speaks of.
    pub fn scope(&self) -> Scope {
        match self {
            Source::Graphql(_) | Source::XmlRpc(_) | Source::ResponseGraphql(_) => Scope::Field,
            Source::Json(_) | Source::ResponseJson(_) | Source::ResponseJwt(..) => Scope::Entry,
            Source::JwtIn(token, _) => token.scope(),
            _ => Scope::Exchange,
        }
    }

    /// The value, if the exchange has a non-empty one. `paths` are the route's.
    pub fn read(&self, facts: &Facts<'_>, paths: &[PathPattern]) -> Option<String> {
        let value = match self {
            Source::Form(name) => facts.request_body()?.fields()?.last(name)?.to_owned(),
            Source::Json(pointer) => json_value(facts.request_json()?, pointer)?,
            Source::Query(name) => facts.query().last(name)?.to_owned(),
            Source::Path(name) => paths.iter().find_map(|p| p.parameter(&facts.path, name))?.to_owned(),
            Source::Header(name) => header_value(facts.headers, name)?,
            Source::Cookie(name) => String::from_utf8_lossy(cookie::request_cookie(facts.headers, name)?).into_owned(),
            Source::CookiePart(name, regex) => part_of_cookie(regex, cookie::request_cookie(facts.headers, name)?)?,
            Source::ResponseCookiePart(name, regex) => {
                part_of_cookie(regex, cookie::handed_out(facts.response?.1, name, facts.at)?)?
            }
            Source::BasicUser => credentials::basic_user(facts.headers)?,
            Source::Jwt(claim) => claim_of(credentials::bearer(facts.headers)?, claim)?,
            Source::JwtIn(token, claim) => claim_of(&token.read(facts, paths)?, claim)?,
            Source::ResponseJson(pointer) => json_value(facts.response_json()?, pointer)?,
            Source::Graphql(pointer) => graphql::argument(facts, pointer)?,
            Source::XmlRpc(pointer) => xmlrpc::param(facts, pointer)?,
            Source::ResponseGraphql(pointer) => graphql::result_text(facts, pointer)?,
            Source::ResponseHeader(name) => header_value(facts.response?.1, name)?,
            Source::ResponseCookie(name) => {
                String::from_utf8_lossy(cookie::handed_out(facts.response?.1, name, facts.at)?).into_owned()
            }
            Source::ResponseJwt(pointer, claim) => claim_of(&json_value(facts.response_json()?, pointer)?, claim)?,
            Source::ResponseBody(regex) => first_group(regex, &facts.response_body()?.text())?,
            Source::ResponseLocation(regex) => first_group(regex, &location_path(facts.response?.1, facts.uri)?)?,
            Source::ResponseLocationQuery(name) => location_fields(facts.response?.1).last(name)?.to_owned(),
            Source::Tls(part) => part.of(facts.tls?)?.to_owned(),
            Source::Const(text) => text.clone(),
            Source::Uid(form, inner) => form.decode(&inner.read(facts, paths)?)?,
        };
        (!value.trim().is_empty()).then_some(value)
    }
}

/// How a mailed link says whose it is, beside the token that proves it. Only the account's number
/// is ever read, and only from what has the form of such a link: no part of a token or code leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkUid {
    /// A number in base 36, a hyphen, and the token.
    Base36,
    /// A number as decimal digits in base 64, in a place of its own.
    Base64,
}

impl LinkUid {
    /// The shortest that may follow the hyphen; a code of a few characters is no link.
    const SHORTEST_REST: usize = 12;

    fn decode(self, text: &str) -> Option<String> {
        match self {
            LinkUid::Base36 => {
                let (number, rest) = text.split_once('-')?;
                let digits = number.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
                // Thirteen digits of base 36 are the most that 64 bits hold.
                let fits = digits && !number.is_empty() && number.len() <= 13 && rest.len() >= Self::SHORTEST_REST;
                fits.then(|| u64::from_str_radix(number, 36).ok()).flatten().map(|n| n.to_string())
            }
            LinkUid::Base64 => {
                let fits = text.len() <= 28;
                let bytes = fits.then(|| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()).flatten()?;
                let digits = bytes.iter().all(u8::is_ascii_digit);
                digits.then(|| String::from_utf8(bytes).ok()).flatten()
            }
        }
    }
}

/// Names under which applications keep what proves a person. `strict` is for cookies, where a
/// session goes by many names.
pub fn is_secret_name(name: &str, strict: bool) -> bool {
    let name = name.to_ascii_lowercase();
    // The last label of a nested name: `user[password]` and `user.password` are `password`.
    let label = name.trim_end_matches(']').rsplit(['[', '.']).next().unwrap_or_default().to_owned();
    const PARTS: [&str; 12] = [
        "passw",
        "passphrase",
        "passcode",
        "pwd",
        "secret",
        "token",
        "csrf",
        "credential",
        "private_key",
        "apikey",
        "authoriz",
        "kennwort",
    ];
    const WORDS: [&str; 14] = [
        "pass",
        "pw",
        "otp",
        "totp",
        "pin",
        "nonce",
        "signature",
        "jwt",
        "samlresponse",
        "assertion",
        "sid",
        "sessid",
        "sessionid",
        "senha",
    ];
    const WHOLE: [&str; 2] = ["code", "key"];
    // A code alone may be a country's; these make it one that proves somebody.
    const PROVES: [&str; 14] = [
        "auth",
        "verification",
        "verify",
        "backup",
        "recovery",
        "sms",
        "2fa",
        "mfa",
        "login",
        "confirmation",
        "security",
        "access",
        "otp",
        "reset",
    ];
    const COOKIE: [&str; 5] = ["sess", "sid", "auth", "remember", "login"];
    let words: Vec<&str> = label.split(['_', '-', ' ']).collect();
    let code = label.strip_suffix("code").or_else(|| label.contains("code").then_some(label.as_str()));
    PARTS.iter().any(|p| label.contains(p))
        || words.iter().any(|w| WORDS.contains(w))
        || WHOLE.contains(&label.as_str())
        || (words.contains(&"api") && words.contains(&"key"))
        || code.is_some_and(|before| PROVES.iter().any(|p| before.contains(p)))
        || (strict && COOKIE.iter().any(|p| label.contains(p)))
}

/// A pointer whose first step is a position.
fn position(pointer: String, node: &Node, problems: &mut Problems) -> Option<String> {
    let first = pointer.split('/').nth(1).unwrap_or_default();
    if first.parse::<u8>().is_err() {
        let hint = "parameters have no names, count them from 0: xmlrpc.0 is the first; xmlrpc:/0/user a member of it";
        problems.error_hint(node, format!("`{}` is not the position of a parameter", clip(first)), hint);
        return None;
    }
    Some(pointer)
}

fn json_value(json: &Value, pointer: &str) -> Option<String> {
    select(json, pointer).into_iter().find_map(|v| scalar_text(v).map(|t| t.into_owned()))
}

fn header_value(headers: &Headers, name: &HeaderName) -> Option<String> {
    headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
}

fn claim_of(token: &str, claim: &str) -> Option<String> {
    let claims = credentials::jwt_claims(token)?;
    select(&claims, claim).into_iter().find_map(|v| scalar_text(v).map(|t| t.into_owned()))
}

/// A part of a cookie's value that can be a name: not all of it, and nothing that looks like a token.
fn part_of_cookie(regex: &Regex, value: &[u8]) -> Option<String> {
    let value = String::from_utf8_lossy(value);
    let part = first_group(regex, &value)?;
    let whole = part.len() == value.len();
    let part = percent_encoding::percent_decode_str(&part).decode_utf8_lossy().into_owned();
    (!whole && !looks_like_a_token(&part)).then_some(part)
}

fn first_group(regex: &Regex, text: &str) -> Option<String> {
    let captures = regex.captures(text)?;
    captures.get(1).or_else(|| captures.get(0)).map(|m| m.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn of_whatever_link_only_a_number_is_read(text in ".{0,60}") {
            for form in [LinkUid::Base36, LinkUid::Base64] {
                let found = form.decode(&text).unwrap_or_default();
                proptest::prop_assert!(found.len() <= 21 && found.bytes().all(|b| b.is_ascii_digit()));
            }
        }
    }

    #[test]
    fn the_account_of_a_link_is_read_and_no_part_of_its_token() {
        for (text, number) in [
            ("2-set-password", Some("2")),
            ("14-dieu6g-0f3a5b7c9d1e2f30", Some("40")),
            ("123-456", None),
            ("2", None),
            ("-dieu6g-0f3a5b7c9d1e2f30", None),
            ("Secret-dieu6g-0f3a5b7c9d1e", None),
            ("zzzzzzzzzzzzzzzz-0f3a5b7c9d1e2f30", None),
        ] {
            assert_eq!(LinkUid::Base36.decode(text).as_deref(), number, "{text}");
        }
        for (text, number) in [("Mg", Some("2")), ("NDA=", Some("40")), ("c2VjcmV0", None), ("***", None)] {
            assert_eq!(LinkUid::Base64.decode(text).as_deref(), number, "{text}");
        }
    }

    #[test]
    fn names_of_secrets_are_known_and_names_of_people_are_not() {
        for secret in [
            "password",
            "user[password]",
            "Input.Password",
            "otp",
            "access_token",
            "csrfmiddlewaretoken",
            "pwd",
            "pw",
            "user_pass",
            "login_pw",
            "passphrase",
            "passcode",
            "otp_attempt",
            "auth_code",
            "verification_code",
            "smscode",
            "backup_code",
            "2fa_code",
            "authorization",
            "key",
            "api-key",
            "sid",
            "sessionid",
            "senha",
            "recovery_code",
        ] {
            assert!(is_secret_name(secret, false), "{secret}");
        }
        for fine in [
            "login",
            "email",
            "user[email]",
            "user_name",
            "identifier",
            "passenger",
            "country_code",
            "zip_code",
            "tokyo",
            "keyboard",
            "author",
            "inside",
        ] {
            assert!(!is_secret_name(fine, false), "{fine}");
        }
        assert!(is_secret_name("PHPSESSID", true) && !is_secret_name("tenant", true));
    }
}
