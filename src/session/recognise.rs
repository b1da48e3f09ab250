//! Which cookie is the session, where the configuration names none.
//!
//! Asked only about an answer that signed somebody in: of the cookies it newly sets, those that a
//! session would look like. Names that other things go by (CSRF tokens, languages, themes,
//! consents) are never taken; the rest must carry a value that nobody could guess. Values are
//! looked at and never kept.

use std::collections::BTreeMap;

use http::header;

use crate::body::cookie::{MAX_SET_COOKIES, SetCookie, request_cookies};
use crate::event::Timestamp;
use crate::headers::Headers;

/// The most hosts whose cookies are remembered; an application has one or a few.
const MAX_HOSTS: usize = 256;
/// The most session cookies of one host.
const MAX_NAMES: usize = 4;
/// The longest name that is learnt.
const MAX_NAME: usize = 128;

/// What applications call cookies that hold no session, in lower case.
const NEVER: [&str; 23] = [
    "csrf", "xsrf", "nonce", "lang", "locale", "theme", "consent", "gdpr", "message", "flash", "_ga", "_gid", "_fbp",
    "utm", "track", "analytic", "timezone", "device", "visitor", "cart", "banner", "captcha", "state",
];

/// What they call those that do.
const OFTEN: [&str; 9] = ["sess", "sid", "auth", "login", "logged", "remember", "token", "jwt", "user"];

/// The session cookies of each host, learnt from logins.
#[derive(Debug, Default)]
pub struct Learnt {
    /// In order: nearly always there is one host, which is then found by one comparison.
    hosts: BTreeMap<String, Vec<String>>,
}

impl Learnt {
    /// The names learnt for a host.
    pub fn of(&self, host: &str) -> &[String] {
        self.hosts.get(host).map_or(&[], Vec::as_slice)
    }

    /// Every name, of whatever host.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.hosts.values().flatten().cloned().collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Every host with its names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.hosts.iter().map(|(host, names)| (host.as_str(), names.as_slice()))
    }

    /// Adds a name; false if it was known or there is no room.
    pub fn add(&mut self, host: &str, name: &str) -> bool {
        let room = self.hosts.len() < MAX_HOSTS;
        if !self.hosts.contains_key(host) && !room || name.len() > MAX_NAME || host.len() > 255 {
            return false;
        }
        let names = self.hosts.entry(host.to_owned()).or_default();
        let new = names.len() < MAX_NAMES && !names.iter().any(|n| n == name);
        if new {
            names.push(name.to_owned());
        }
        new
    }

    /// Looks at the answer to a login that succeeded; true if a name was learnt.
    pub fn see_login(&mut self, host: &str, request: &Headers, answer: &Headers, at: Timestamp) -> bool {
        let mut learnt = false;
        for name in session_cookies(self.of(host), request, answer, at) {
            learnt |= self.add(host, &name);
        }
        learnt
    }
}

/// The names of the cookies of a login's answer that look like a session, but for those that are known.
fn session_cookies(known: &[String], request: &Headers, answer: &Headers, at: Timestamp) -> Vec<String> {
    let mut found = Vec::new();
    for line in answer.get_all(header::SET_COOKIE).iter().take(MAX_SET_COOKIES) {
        // From the second login on nearly all of them: not read further. A name has no semicolon, so what
        // is before the first equals sign is one if it is the same as one.
        let name = line.as_bytes().split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
        if known.iter().any(|known| known.as_bytes() == name) {
            continue;
        }
        let Some(set) = SetCookie::parse(line.as_bytes(), at).filter(|set| !set.deleted) else { continue };
        let Ok(name) = std::str::from_utf8(set.name) else { continue };
        let brought = request_cookies(request).any(|pair| pair == (set.name, set.value));
        if !brought && looks_like_a_session(name, set.value, is_http_only(line.as_bytes())) {
            found.push(name.to_owned());
        }
    }
    found
}

/// True for a cookie that a session would look like: not by its name something else, and a value
/// that nobody could guess, hidden from scripts or called like a session.
pub fn looks_like_a_session(name: &str, value: &[u8], http_only: bool) -> bool {
    let name = name.to_ascii_lowercase();
    if NEVER.iter().any(|part| name.contains(part)) {
        return false;
    }
    let named = OFTEN.iter().any(|part| name.contains(part));
    // Sixteen characters of base 16 are 64 bits, the least that guidance allows for a session.
    let different = {
        let mut seen = [false; 256];
        value.iter().take(512).filter(|b| !std::mem::replace(&mut seen[usize::from(**b)], true)).count()
    };
    let unguessable = value.len() >= 16 && different >= 8;
    unguessable && (http_only || named)
}

fn is_http_only(line: &[u8]) -> bool {
    line.split(|b| *b == b';').skip(1).any(|piece| piece.trim_ascii().eq_ignore_ascii_case(b"httponly"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, lines: &[&'static str]) -> Headers {
        lines.iter().map(|line| (name.clone(), http::HeaderValue::from_static(line))).collect()
    }

    #[test]
    fn the_session_is_told_from_what_else_a_login_sets() {
        let answer = headers(
            header::SET_COOKIE,
            &[
                "csrftoken=Zx81kQ0bYw3nVt7uEr5iAo2pSd9fGh4j; Path=/",
                "sessionid=q8v2n5xk0w3m7z1c; HttpOnly; Path=/; SameSite=Lax",
                "messages=W1siX19qc29uX21lc3NhZ2UiLDAsMjUs; HttpOnly",
                "theme=dark; HttpOnly",
                "XSRF-TOKEN=eyJpdiI6IkJ4c1Z1a0p3; Path=/",
                "opaque=aGVsbG8td29ybGQtMTIzNDU2Nzg; httponly",
                "brought=aGVsbG8td29ybGQtMTIzNDU2Nzg; HttpOnly",
                "gone_session=q8v2n5xk0w3m7z1c; Max-Age=0; HttpOnly",
                "readable=q8v2n5xk0w3m7z1c",
                "session_flag=1111111111111111; HttpOnly",
            ],
        );
        let request = headers(header::COOKIE, &["brought=aGVsbG8td29ybGQtMTIzNDU2Nzg"]);
        let mut learnt = Learnt::default();
        assert!(learnt.see_login("app.example.test", &request, &answer, Timestamp::from_millis(0)));
        assert_eq!(learnt.of("app.example.test"), ["sessionid", "opaque"]);
        assert!(learnt.of("other.example.test").is_empty());
        assert!(!learnt.see_login("app.example.test", &request, &answer, Timestamp::from_millis(0)), "known already");
    }

    #[test]
    fn hosts_and_names_are_bounded() {
        let mut learnt = Learnt::default();
        for i in 0..2 * MAX_HOSTS {
            for name in ["a", "b", "c", "d", "e"] {
                learnt.add(&format!("h{i}"), name);
            }
        }
        assert_eq!(learnt.iter().count(), MAX_HOSTS);
        assert!(learnt.iter().all(|(_, names)| names.len() == MAX_NAMES));
    }
}
