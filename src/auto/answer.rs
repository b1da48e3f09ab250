//! What an answer shows of how something went, each sign for itself.
//!
//! No sign here decides: [`super::verdict`] weighs them. What an answer hands out (cookies, tokens)
//! is kept as keyed hashes at most, by the caller. Must never keep or print a value of the answer
//! beyond the identifiers of its user.

use http::{StatusCode, header};
use serde_json::Value;

use super::page::Page;
use super::words::{
    ACTION, AGAIN_IN_SESSION, DESTINATION, LOGIN, LOGIN_PLACE, LOGOUT, OTHER_KEYS, REFRESH, RESET, SECOND_FACTOR,
    VERIFY, WRONG, Words,
};
use crate::body;
use crate::body::cookie::{self, CookieChange, MAX_SET_COOKIES, SetCookie};
use crate::event::{Actor, Text};
use crate::headers::Headers;
use crate::rules::facts::Facts;

/// How deep JSON is looked into.
const MAX_DEPTH: usize = 6;
/// The most members and elements of JSON that are looked at.
const MAX_VALUES: usize = 2_000;

/// How deep a key may stand that was made: `{"data": {"key": {"secret": …}}}`.
const MAX_KEY_DEPTH: usize = 3;
/// The most keys that one answer may hand out; more are a list of them.
pub const MAX_KEYS: usize = 3;

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No body, or none that was kept.
    Empty,
    /// A page.
    Html,
    /// JSON.
    Json,
    /// Anything else.
    Other,
}

/// A cookie that the answer sets.
pub struct Set<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value: a secret.
    pub value: &'a [u8],
    /// What it does to what the request brought.
    pub change: CookieChange,
    /// True if scripts cannot read it.
    pub http_only: bool,
}

/// A redirect.
#[derive(Debug, Default)]
pub struct Location {
    /// Where it leads, without the query.
    pub path: String,
    /// Its words, those of the query too, but not of where it will lead in the end.
    pub words: Words,
    /// The words of the path, and of an action that the query names.
    place: Words,
    /// The words of the query alone.
    pub query: Words,
    /// True if it leads to another host.
    pub elsewhere: bool,
}

/// What JSON says.
#[derive(Debug, Default)]
pub struct Said {
    /// An error, in one of the usual shapes.
    pub error: bool,
    /// `success`, `ok`, `status` and their like, if one is there.
    pub success: Option<bool>,
    /// Whether somebody is signed in now, if it says so.
    pub signed_in: Option<bool>,
    /// A second factor is spoken of.
    pub second_factor: bool,
    /// An address or account waits to be verified.
    pub unverified: bool,
    /// Whom it speaks of.
    pub actor: Actor,
    /// True if it names a place to go.
    pub redirect: bool,
    /// True if there is anything in it.
    pub something: bool,
}

/// An answer.
pub struct Answer<'a> {
    /// Status.
    pub status: StatusCode,
    /// What came back.
    pub kind: Kind,
    /// Where it leads.
    pub location: Option<Location>,
    /// Cookies it sets, the last of a name counting.
    pub cookies: Vec<Set<'a>>,
    /// The page, if it is one.
    pub page: Option<Page>,
    /// What its JSON says, if it is JSON.
    pub said: Option<Said>,
    /// Values that look like session tokens: secrets.
    pub tokens: Vec<&'a str>,
    /// Values that look like keys an account may have: secrets.
    pub keys: Vec<&'a str>,
    /// True for a plain text or a piece of a page that begins with the word for an error, or marks one.
    pub complains: bool,
}

impl<'a> Answer<'a> {
    /// Reads an answer; `None` if none came.
    pub fn read(facts: &'a Facts<'_>) -> Option<Answer<'a>> {
        let (status, headers) = facts.response?;
        let mut answer = Answer {
            status,
            kind: Kind::Empty,
            location: location(headers, facts.host).filter(|_| status.is_redirection()),
            cookies: cookies(facts.headers, headers, facts.at),
            page: None,
            said: None,
            tokens: Vec::new(),
            keys: Vec::new(),
            complains: false,
        };
        let kind = body::media_type(body::content_type(headers));
        let Some(body) = facts.response_body().filter(|b| !b.decoded().trim_ascii().is_empty()) else {
            return Some(answer);
        };
        let begins = body.decoded().trim_ascii_start().first().copied();
        answer.kind = Kind::Other;
        if kind.to_ascii_lowercase().contains("json") || (matches!(begins, Some(b'{' | b'[')) && !kind.contains("html"))
        {
            if let Some(json) = body.json() {
                answer.kind = Kind::Json;
                let mut said = Said::default();
                let mut left = MAX_VALUES;
                look(json, 0, &mut left, &mut said, &mut answer.tokens);
                find_keys(json, 0, &mut MAX_VALUES.clone(), &mut answer.keys);
                answer.said = Some(said);
            }
        } else if kind.to_ascii_lowercase().contains("html") || (kind.is_empty() && begins == Some(b'<')) {
            answer.kind = Kind::Html;
            answer.page = Some(Page::read(&body.text(), !body.cut()));
        }
        if answer.kind == Kind::Other && !kind.contains("xml") {
            answer.complains = complains(&body.text());
        }
        Some(answer)
    }

    /// True if a cookie carries a message to the next page that speaks of an error.
    pub fn flashes_error(&self) -> bool {
        self.cookies.iter().any(|c| {
            let name = c.name.to_ascii_lowercase();
            let carries = ["flash", "message", "notice", "alert", "toast"].iter().any(|n| name.contains(n));
            let value = c.value.get(..c.value.len().min(2048)).unwrap_or_default().to_ascii_lowercase();
            let speaks = |word: &[u8]| value.windows(word.len()).any(|w| w == word);
            carries && c.change != CookieChange::Deleted && (speaks(b"error") || speaks(b"danger"))
        })
    }

    /// True if it is a redirect.
    pub fn redirects(&self) -> bool {
        self.location.is_some()
    }

    /// Cookies that are new or changed and look like a session.
    pub fn sessions(&self) -> impl Iterator<Item = &Set<'a>> {
        let any_hidden = self.cookies.iter().any(|c| fresh(c) && c.http_only);
        self.cookies.iter().filter(move |c| fresh(c) && (c.http_only || !any_hidden))
    }
}

/// Answers to scripts may be neither JSON nor a page: `ERROR: …`, or a box to be shown.
fn complains(text: &str) -> bool {
    let text = text.trim_start();
    let text = text.get(..text.floor_char_boundary(4096)).unwrap_or_default();
    let mut shown = text;
    while let Some((_, rest)) = shown.strip_prefix('<').and_then(|tag| tag.split_once('>')) {
        shown = rest.trim_start();
    }
    let first = shown.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
    Words::of(first).say(&WRONG) || (text.contains('<') && Page::read(text, true).marks_error)
}

fn fresh(set: &Set<'_>) -> bool {
    set.change == CookieChange::Changed && looks_like_a_session(set.name, set.value)
}

/// True for a cookie that may carry a session: long and mixed enough, and not named as something else.
pub fn looks_like_a_session(name: &str, value: &[u8]) -> bool {
    const NO_SESSION: [&str; 14] = [
        "csrf",
        "xsrf",
        "flash",
        "messages",
        "lang",
        "locale",
        "theme",
        "consent",
        "_ga",
        "_gid",
        "timezone",
        "test_cookie",
        "redirect",
        "return",
    ];
    let name = name.to_ascii_lowercase();
    !NO_SESSION.iter().any(|n| name.contains(n)) && looks_like_a_secret(value)
}

/// The name at the beginning of a session that is made of several parts (`alice|1700000000|…`), as
/// applications write it that keep their sessions in signed cookies. Never one of the other parts.
pub fn name_in_session(cookie: &str, value: &[u8]) -> Option<Text> {
    let value = std::str::from_utf8(value).ok()?.replace("%7C", "|").replace("%7c", "|");
    let (name, rest) = value.split_once('|')?;
    let words = Words::of(cookie);
    let plausible = (2..=60).contains(&name.len())
        && name.bytes().any(|b| b.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@+".contains(&b))
        && !looks_like_a_secret(name.as_bytes())
        && rest.contains('|');
    let named =
        words.say(&LOGIN) || words.say(&super::words::IDENTIFIER) || cookie.to_ascii_lowercase().contains("logged");
    Text::identifier(name).filter(|_| plausible && named)
}

/// True for a value that could not be guessed: sixteen or more characters of a token's alphabet,
/// letters and digits among them.
pub fn looks_like_a_secret(value: &[u8]) -> bool {
    value.len() >= 16
        && value.len() <= 8192
        && value.iter().any(u8::is_ascii_digit)
        && value.iter().any(u8::is_ascii_alphabetic)
        && !value.contains(&b' ')
}

fn cookies<'a>(request: &Headers, answer: &'a Headers, at: crate::event::Timestamp) -> Vec<Set<'a>> {
    let mut found: Vec<Set<'a>> = Vec::new();
    for line in answer.get_all(header::SET_COOKIE).iter().take(MAX_SET_COOKIES) {
        let Some(set) = SetCookie::parse(line.as_bytes(), at) else { continue };
        let Ok(name) = std::str::from_utf8(set.name) else { continue };
        let change = if set.deleted {
            CookieChange::Deleted
        } else if cookie::request_cookies(request).any(|brought| brought == (set.name, set.value)) {
            CookieChange::Same
        } else {
            CookieChange::Changed
        };
        let line = line.as_bytes().to_ascii_lowercase();
        let http_only = line.split(|b| *b == b';').skip(1).any(|a| a.trim_ascii() == b"httponly");
        let set = Set { name, value: set.value, change, http_only };
        match found.iter_mut().find(|known| known.name == set.name) {
            Some(known) => *known = set,
            None => found.push(set),
        }
    }
    found
}

fn location(headers: &Headers, host: &str) -> Option<Location> {
    let value = headers.get(header::LOCATION)?;
    read_location(&String::from_utf8_lossy(value.as_bytes()), host)
}

fn read_location(text: &str, host: &str) -> Option<Location> {
    let text = text.get(..text.floor_char_boundary(4096)).unwrap_or_default();
    let (rest, elsewhere) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.len() <= 8 && !scheme.contains(['/', '?']) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, rest) = rest.split_at_checked(end)?;
            let named = authority.rsplit_once(':').map_or(authority, |(name, _)| name);
            (rest, !named.eq_ignore_ascii_case(host))
        }
        _ => match text.strip_prefix("//") {
            Some(rest) => (rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"), true),
            None => (text, false),
        },
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut found = Location { path: path.to_owned(), elsewhere, ..Location::default() };
    if found.path.is_empty() {
        found.path.push('/');
    }
    found.words.add_path(path);
    found.place.add_path(path);
    for (name, value) in form_urlencoded::parse(query.as_bytes()).take(32) {
        found.query.add(&name);
        found.words.add(&name);
        if value.len() <= 64 && !Words::of(&name).say(&DESTINATION) {
            found.query.add_path(&value);
            found.words.add_path(&value);
            if Words::of(&name).say(&ACTION) || value.is_empty() {
                found.place.add_path(if value.is_empty() { &name } else { &value });
            }
        }
    }
    Some(found)
}

impl Location {
    /// True if it leads to where one signs in.
    pub fn is_login(&self) -> bool {
        self.place.say(&LOGIN_PLACE) && !self.words.say(&LOGOUT) && !self.is_second_factor()
    }

    /// True if it leads to where a second factor is asked for.
    pub fn is_second_factor(&self) -> bool {
        self.words.say(&SECOND_FACTOR)
    }

    /// True if it leads to where an address waits to be verified.
    pub fn is_unverified(&self) -> bool {
        self.words.say(&VERIFY)
    }

    /// True if it leads to where the session's password is asked for again.
    pub fn asks_again(&self) -> bool {
        self.words.say(&AGAIN_IN_SESSION)
    }

    /// True if it speaks of an error.
    pub fn is_wrong(&self) -> bool {
        self.words.say(&WRONG)
    }

    /// True if it leads to where a forgotten or expired password is set.
    pub fn is_reset(&self) -> bool {
        self.words.say(&RESET)
    }
}

/// Looks through JSON once.
fn look<'a>(value: &'a Value, depth: usize, left: &mut usize, said: &mut Said, tokens: &mut Vec<&'a str>) {
    if depth > MAX_DEPTH || *left == 0 {
        return;
    }
    match value {
        Value::Object(members) => {
            said.something |= !members.is_empty();
            if said.actor.is_empty() {
                said.actor = actor(value);
            }
            for (key, value) in members {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    return;
                }
                member(key, value, depth, said, tokens);
                look(value, depth + 1, left, said, tokens);
            }
        }
        Value::Array(items) => {
            for item in items {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    return;
                }
                if let Value::String(text) = item {
                    spoken(text, said);
                }
                look(item, depth + 1, left, said, tokens);
            }
        }
        Value::Bool(yes) if depth == 0 => said.success = Some(*yes),
        _ => {}
    }
}

/// Values that are called a key, token or secret and cannot be guessed.
fn find_keys<'a>(value: &'a Value, depth: usize, left: &mut usize, keys: &mut Vec<&'a str>) {
    if depth > MAX_KEY_DEPTH || *left == 0 || keys.len() > MAX_KEYS {
        return;
    }
    *left = left.saturating_sub(1);
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                if *left == 0 || keys.len() > MAX_KEYS {
                    return;
                }
                match value {
                    Value::String(text) if could_be_a_key(name, text) => keys.push(text),
                    Value::Object(_) | Value::Array(_) => find_keys(value, depth + 1, left, keys),
                    _ => *left = left.saturating_sub(1),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| find_keys(item, depth + 1, left, keys)),
        _ => {}
    }
}

fn could_be_a_key(name: &str, value: &str) -> bool {
    let alphabet = |b: u8| b.is_ascii_alphanumeric() || b"_-.=+/:~".contains(&b);
    if !looks_like_a_secret(value.as_bytes())
        || value.len() > 1024
        || !value.bytes().all(alphabet)
        || value.contains("://")
        || (value.contains('/') && value.contains('.'))
    {
        return false;
    }
    let words = Words::of(name);
    let named = words.last().is_some_and(|last| {
        ["key", "token", "secret", "apikey", "apitoken", "accesskey", "accesstoken", "pat"].contains(&last)
    });
    named && !words.say(&OTHER_KEYS) && !words.say(&REFRESH)
}

fn member<'a>(key: &str, value: &'a Value, depth: usize, said: &mut Said, tokens: &mut Vec<&'a str>) {
    let lower = key.to_ascii_lowercase();
    let words = Words::of(key);
    let there = match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::String(text) => !text.is_empty() && text != "0",
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Number(n) => n.as_f64() != Some(0.0),
    };
    // The outer shape says how it went; what lies deeper may be a list of past errors.
    if depth <= 1 {
        match lower.as_str() {
            "error" | "errors" | "err" | "error_description" | "non_field_errors" | "exception" | "error_code"
            | "errorcode" | "errormessage" | "error_message" | "errcode" | "fault" => {
                said.error |= there;
            }
            "authenticated" | "is_authenticated" | "isauthenticated" | "loggedin" | "logged_in" => {
                said.signed_in = value.as_bool().or(said.signed_in);
            }
            "success" | "ok" | "succeeded" => {
                said.success = match value {
                    Value::Bool(yes) => Some(*yes),
                    Value::Number(n) => Some(n.as_f64() != Some(0.0)),
                    Value::String(text) => Some(!matches!(text.as_str(), "" | "0" | "false" | "no")),
                    _ => said.success,
                };
            }
            "status" | "result" | "state" => {
                if let Value::String(text) = value {
                    match text.to_ascii_lowercase().as_str() {
                        "ok" | "success" | "successful" | "complete" | "completed" | "authenticated" => {
                            said.success = Some(true)
                        }
                        "fail" | "failed" | "failure" | "error" | "denied" | "invalid" | "unauthorized" => {
                            said.success = Some(false)
                        }
                        _ => {}
                    }
                }
            }
            "redirect" | "redirect_to" | "redirecturl" | "redirect_url" | "location" | "url" | "next" | "returnurl" => {
                said.redirect |= value.is_string() && there;
                // In place of a `Location`, with the error in its query. Its path may name anything.
                let leads = value.as_str().and_then(|text| read_location(text, ""));
                said.error |= leads.is_some_and(|location| location.query.say(&WRONG));
            }
            _ => {}
        }
    }
    if let Value::String(text) = value {
        let secret = looks_like_a_secret(text.as_bytes());
        let named = [
            "token",
            "jwt",
            "session",
            "sessionid",
            "session_id",
            "sid",
            "ticket",
            "bearer",
            "apikey",
            "api_key",
            "accesskey",
        ]
        .iter()
        .any(|n| lower == *n || lower.ends_with("token") || lower.ends_with("_session_id"));
        let jwt = body::credentials::jwt_claims(text).is_some();
        if (secret && named || jwt) && !lower.contains("csrf") && !lower.contains("xsrf") && tokens.len() < 8 {
            tokens.push(text);
        } else {
            spoken(text, said);
        }
    }
    if there && words.say(&SECOND_FACTOR) && !matches!(value, Value::Object(_)) {
        said.second_factor = true;
    }
    if !there && matches!(lower.as_str(), "verified" | "email_verified" | "emailverified" | "confirmed") && depth <= 2 {
        said.unverified |= value == &Value::Bool(false);
    }
}

/// What a short text says: an error's code, the id of a step.
fn spoken(text: &str, said: &mut Said) {
    // Prose is in some language; a code is one word.
    if text.len() > 48 || text.contains(char::is_whitespace) && text.len() > 32 {
        return;
    }
    let words = Words::of(text);
    said.second_factor |= words.say(&SECOND_FACTOR);
    said.unverified |= words.say(&VERIFY);
}

/// Whom an object speaks of, if it looks like an account.
pub fn actor(value: &Value) -> Actor {
    let text = |names: &[&str]| {
        names.iter().find_map(|n| value.get(*n)).and_then(body::json::scalar_text).and_then(|t| Text::identifier(&t))
    };
    let email = text(&["email", "emailAddress", "email_address", "mail"])
        .filter(|e| super::request::looks_like_an_address(e.as_str()));
    let login = text(&["username", "login", "userName", "user_name", "preferred_username"]);
    if email.is_none() && login.is_none() {
        return Actor::default();
    }
    let id = text(&["id", "_id", "uuid", "userId", "user_id", "uid", "sub"]);
    Actor { id, email, login, kind: None }
}

/// Whom the unverified claims of a token speak of.
pub fn actor_of_token(token: &str) -> Actor {
    let Some(claims) = body::credentials::jwt_claims(token) else { return Actor::default() };
    let claim = |name: &str| body::credentials::claim(&claims, name).and_then(|t| Text::identifier(&t));
    let email = claim("email").filter(|e| super::request::looks_like_an_address(e.as_str()));
    Actor {
        id: claim("sub").or_else(|| claim("id")).or_else(|| claim("user_id")),
        login: claim("preferred_username").or_else(|| claim("username")),
        email,
        kind: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(json: &str) -> Said {
        let value: Value = serde_json::from_str(json).expect("json");
        let (mut said, mut tokens) = (Said::default(), Vec::new());
        look(&value, 0, &mut MAX_VALUES.clone(), &mut said, &mut tokens);
        said
    }

    #[test]
    fn shapes_of_errors_are_known() {
        for json in [
            r#"{"error":"x"}"#,
            r#"{"errors":[{"code":"a"}]}"#,
            r#"{"non_field_errors":["a"]}"#,
            r#"{"data":{"errors":["a"]}}"#,
            r#"{"error":{"status":400}}"#,
            r#"{"url":"https://app.example.test/login?error=CredentialsSignin&code=credentials"}"#,
        ] {
            assert!(said(json).error, "{json}");
        }
        for json in [
            r#"{"error":null}"#,
            r#"{"errors":[]}"#,
            r#"{"error":false,"user":{"email":"a@b.c"}}"#,
            r#"{"data":{}}"#,
            r#"{"url":"https://app.example.test/errors/1?tab=home"}"#,
        ] {
            assert!(!said(json).error, "{json}");
        }
        assert_eq!(said(r#"{"success":false}"#).success, Some(false));
        assert_eq!(said(r#"{"status":"fail"}"#).success, Some(false));
        assert_eq!(said(r#"{"meta":{"is_authenticated":true}}"#).signed_in, Some(true));
    }

    #[test]
    fn keys_are_known_by_their_names_and_by_being_secret() {
        let keys = |json: &str| {
            let value: Value = serde_json::from_str(json).expect("json");
            let mut keys = Vec::new();
            find_keys(&value, 0, &mut MAX_VALUES.clone(), &mut keys);
            keys.len()
        };
        for json in [
            r#"{"key":"sk_live_0123456789abcdef"}"#,
            r#"{"token":"0123456789abcdef0123"}"#,
            r#"{"id":7,"name":"ci","secret":"0123456789abcdef0123"}"#,
            r#"{"data":{"attributes":{"apiKey":"0123456789abcdef0123"}}}"#,
            r#"{"api_key":{"id":1,"plain_text_token":"1|x","secret_key":"0123456789abcdef0123"}}"#,
            r#"{"key":"q83v/q83v+q83vq83vq83vQ1=="}"#,
        ] {
            assert_eq!(keys(json), 1, "{json}");
        }
        for json in [
            r#"{"key":"PROJ-1234"}"#,
            r#"{"key":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA1 me"}"#,
            r#"{"public_key":"0123456789abcdef0123"}"#,
            r#"{"key":"uploads/2024/a-photo-of-me.png"}"#,
            r#"{"key":"https://cdn.example.test/0123456789abcdef"}"#,
            r#"{"name":"0123456789abcdef0123","id":"0123456789abcdef0123"}"#,
            r#"{"csrf_token":"0123456789abcdef0123","refreshToken":"0123456789abcdef0123"}"#,
            r#"{"a":{"b":{"c":{"d":{"key":"0123456789abcdef0123"}}}}}"#,
        ] {
            assert_eq!(keys(json), 0, "{json}");
        }
        let many = format!("[{}]", vec![r#"{"key":"0123456789abcdef0123"}"#; 50].join(","));
        assert!(keys(&many) > MAX_KEYS && keys(&many) < 50, "a list, not read to its end");
    }

    #[test]
    fn a_second_factor_is_heard_in_codes_and_flags_not_in_prose() {
        assert!(said(r#"{"errors":[{"extensions":{"code":"INVALID_OTP"}}]}"#).second_factor);
        assert!(said(r#"{"mfa_required":true}"#).second_factor);
        assert!(said(r#"{"flows":[{"id":"mfa_authenticate","is_pending":true}]}"#).second_factor);
        assert!(!said(r#"{"user":{"two_factor_enabled":false}}"#).second_factor);
        assert!(!said(r#"{"message":"you should think about turning on a totp app for the account"}"#).second_factor);
    }

    #[test]
    fn whom_an_answer_speaks_of_is_read_from_an_account_only() {
        let found = said(r#"{"data":{"user":{"id":7,"email":"a@example.test","username":"a"}}}"#).actor;
        assert_eq!((found.id.as_ref().map(Text::as_str), found.label()), (Some("7"), Some("a@example.test")));
        assert!(said(r#"{"id":7,"title":"x"}"#).actor.is_empty());
    }

    #[test]
    fn a_session_in_parts_may_begin_with_its_name_and_nothing_else_of_it_is_read() {
        let name = |value: &[u8]| name_in_session("app_user", value).map(|n| n.to_string());
        assert_eq!(name(b"alice|1700000000|c0ffee1234567890").as_deref(), Some("alice"));
        assert_eq!(name(b"c0ffee1234567890ab|1700000000|x"), None);
        assert_eq!(name(b"17|1700000000|x"), None);
        assert_eq!(name(b"c0ffee"), None);
    }

    #[test]
    fn what_looks_like_a_session_is_long_and_mixed_and_not_named_otherwise() {
        assert!(looks_like_a_session("sid", b"k3j4h5k3j4h5k3j4h5"));
        assert!(!looks_like_a_session("csrftoken", b"k3j4h5k3j4h5k3j4h5"));
        assert!(!looks_like_a_session("seen", b"WP%20Cookie%20check "));
        assert!(!looks_like_a_session("lang", b"de"));
    }
}
