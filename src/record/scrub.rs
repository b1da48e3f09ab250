//! Text without secrets: what is not known to be harmless is replaced, run by run of letters and digits.
//!
//! Punctuation, length and the kinds of characters stay, so that rules and auto read what is left as they
//! read the original; and since each run has one placeholder within a recording, a name, cookie or token is
//! found again wherever it stood. Must never let a value through because of where it stands: a value is
//! kept if its words are harmless, a name if it looks like one, a segment of a path if it looks like a word.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value as Json;

use super::placeholder::Placeholders;
use super::vocabulary::{Vocabulary, runs};
use crate::auto::words::{CODE, CONFIRM, EMAIL, IDENTIFIER, PASSWORD, RESET, TOKEN, VERIFY, Words};
use crate::body::{credentials, form};
use crate::event::text::looks_like_a_token;
use crate::rules::source::is_secret_name;

/// What need not be escaped in a segment of a path (RFC 3986 section 3.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');
/// Values that say yes, no or nothing, whatever they are called.
const PLAIN: [&str; 12] = ["", "true", "false", "on", "off", "yes", "no", "1", "0", "null", "deleted", "undefined"];
/// Statuses of HTTP that stand in answers as text.
const STATUSES: [&str; 21] = [
    "200", "201", "204", "301", "302", "303", "304", "307", "308", "400", "401", "403", "404", "405", "409", "410",
    "419", "422", "423", "429", "500",
];
/// The most hosts, clients and agents that are told apart.
const MAX_TOLD_APART: usize = 10_000;
/// The most names of fields that pages declare as secret.
const MAX_FIELDS: usize = 2_000;
/// The most secrets made of harmless words that are looked for in texts.
const MAX_SPELLED: usize = 200;

/// How a text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// Nothing of it is kept.
    Secret,
    /// Harmless words are kept.
    Value,
    /// Harmless words are kept, and stems of names within words.
    Text,
}

/// Replaces secrets.
pub struct Scrubber {
    placeholders: Placeholders,
    vocabulary: Vocabulary,
    secret_fields: HashSet<String>,
    /// Names of fields that had a value, or that a page has.
    names: HashSet<String>,
    /// Secrets that consist of harmless words only.
    spelled: Vec<String>,
    /// Segments of paths that were kept, and so are always.
    kept: HashSet<String>,
    hosts: HashMap<String, usize>,
    clients: HashMap<IpAddr, u32>,
    agents: HashMap<String, usize>,
}

impl Scrubber {
    /// One recording's, under a key of its own.
    pub fn new(key: [u8; 32], vocabulary: Vocabulary) -> Scrubber {
        Scrubber {
            placeholders: Placeholders::new(key),
            vocabulary,
            secret_fields: HashSet::new(),
            names: HashSet::new(),
            spelled: Vec::new(),
            kept: HashSet::new(),
            hosts: HashMap::new(),
            clients: HashMap::new(),
            agents: HashMap::new(),
        }
    }

    /// How many secrets are looked for in texts by now.
    pub fn spelled(&self) -> usize {
        self.spelled.len()
    }

    /// Notes that a page asks for a secret under this name.
    pub fn asks_a_secret(&mut self, name: &str) {
        if self.secret_fields.len() < MAX_FIELDS {
            self.secret_fields.insert(name.to_owned());
        }
    }

    /// True for names of what proves a person, and of who one is.
    pub fn is_secret(&self, name: &str) -> bool {
        self.proves(name) || names_a_code(name) || names_somebody(name)
    }

    /// True for names of what proves a person.
    fn proves(&self, name: &str) -> bool {
        // A code may as well say how something went.
        (is_secret_name(name, false) && !names_a_code(name))
            || self.secret_fields.contains(name)
            || Words::of(name).say(&PASSWORD)
    }

    /// True for what programs write: harmless words alone, and no number among them.
    fn is_constant(&self, value: &str) -> bool {
        value.len() <= 64
            && value.chars().any(char::is_alphabetic)
            && value.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-' || c == '.')
            && runs(value).all(|run| !is_digits(run) && self.vocabulary.knows(run))
    }

    /// A value of a field, key or header with this name.
    pub fn named(&mut self, name: &str, value: &str) -> String {
        if PLAIN.contains(&value) {
            return value.to_owned();
        }
        if self.proves(name) || names_somebody(name) || (names_a_code(name) && !self.is_constant(value)) {
            return self.secret(value);
        }
        self.told(value)
    }

    /// A value in an address to which an answer leads: nobody types it.
    fn led(&mut self, name: &str, value: &str) -> String {
        if PLAIN.contains(&value) {
            return value.to_owned();
        }
        let secret = self.proves(name) || (self.is_secret(name) && !self.is_constant(value));
        if secret { self.secret(value) } else { self.told(value) }
    }

    fn told(&mut self, value: &str) -> String {
        if let Some(jwt) = self.jwt(value) {
            return jwt;
        }
        if value.starts_with('/') || value.starts_with("http://") || value.starts_with("https://") {
            return self.url(value);
        }
        self.text(value, As::Value)
    }

    /// A secret.
    pub fn secret(&mut self, value: &str) -> String {
        if PLAIN.contains(&value) {
            return value.to_owned();
        }
        if let Some(jwt) = self.jwt(value) {
            return jwt;
        }
        if value.len() >= 6 && self.spelled.len() < MAX_SPELLED && !self.spelled.iter().any(|known| known == value) {
            let kept = self.runs(value, As::Text);
            // One harmless word cannot be hidden: it stands everywhere.
            if kept.contains(value) && runs(value).next().is_some() && !self.vocabulary.knows(value) {
                self.spelled.push(value.to_owned());
            }
        }
        self.runs(value, As::Secret)
    }

    /// A text.
    pub fn text(&mut self, text: &str, how: As) -> String {
        let secrets: Vec<String> =
            self.spelled.iter().filter(|secret| text.contains(secret.as_str())).cloned().collect();
        if secrets.is_empty() {
            return self.runs(text, how);
        }
        // Each piece, and whether it stands for a secret already.
        let mut pieces = vec![(text.to_owned(), false)];
        for secret in &secrets {
            let instead = self.runs(secret, As::Secret);
            let mut split = Vec::new();
            for (piece, done) in pieces {
                if done {
                    split.push((piece, true));
                    continue;
                }
                for (i, part) in piece.split(secret.as_str()).enumerate() {
                    if i > 0 {
                        split.push((instead.clone(), true));
                    }
                    split.push((part.to_owned(), false));
                }
            }
            pieces = split;
        }
        pieces.into_iter().map(|(piece, done)| if done { piece } else { self.runs(&piece, how) }).collect()
    }

    fn runs(&mut self, text: &str, how: As) -> String {
        let pieces: Vec<&str> = pieces(text).collect();
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        while let Some(piece) = pieces.get(at) {
            if let Some(address) = address(pieces.get(at..).unwrap_or_default()) {
                out.push_str(&self.client(address).to_string());
                at += 7;
                continue;
            }
            let is_run = piece.chars().next().is_some_and(char::is_alphanumeric);
            let before = at.checked_sub(2).and_then(|before| pieces.get(before));
            let digits = |piece: Option<&&str>| piece.is_some_and(|piece| is_digits(piece));
            let among_digits = digits(before) || digits(pieces.get(at + 2));
            match is_run {
                true => out.push_str(&self.run(piece, how, among_digits)),
                false => out.push_str(piece),
            }
            at += 1;
        }
        out
    }

    /// One run of letters and digits.
    fn run(&mut self, run: &str, how: As, among_digits: bool) -> String {
        if how == As::Secret {
            return self.placeholders.of(run);
        }
        if is_digits(run) {
            let small = run.len() <= 2 || STATUSES.contains(&run);
            return if small && !among_digits { run.to_owned() } else { self.placeholders.of(run) };
        }
        if self.vocabulary.knows(run) {
            return run.to_owned();
        }
        if how != As::Text {
            return self.placeholders.of(run);
        }
        let mut made = self.placeholders.of(run);
        for range in self.vocabulary.stems_in(run) {
            // As long in bytes only if every letter is.
            if made.len() == run.len()
                && let Some(stem) = run.get(range.clone())
            {
                made.replace_range(range, stem);
            }
        }
        made
    }

    /// A name of a field, key, cookie or header: kept if it looks like one.
    pub fn name(&mut self, name: &str) -> String {
        let mut out = String::with_capacity(name.len());
        for piece in pieces(name) {
            let is_run = piece.chars().next().is_some_and(char::is_alphanumeric);
            let digits = piece.chars().filter(char::is_ascii_digit).count();
            let fits = digits <= 2 && piece.len() <= 24 || self.vocabulary.knows(piece);
            if fits || !is_run {
                out.push_str(piece);
                continue;
            }
            // What a name begins with says whose it is (`DW68700bf…`).
            let prefix = piece.find(|c: char| !c.is_alphabetic()).filter(|at| *at <= 6).unwrap_or(0);
            let (prefix, rest) = piece.split_at(prefix);
            out.push_str(prefix);
            out.push_str(&self.placeholders.of(rest));
        }
        out
    }

    /// The name of a field that has a value.
    pub fn name_of_value(&mut self, name: &str) -> String {
        self.knows_name(name);
        self.name(name)
    }

    /// Notes a name of a field.
    pub fn knows_name(&mut self, name: &str) {
        if self.names.len() < MAX_TOLD_APART && !self.names.contains(name) {
            self.names.insert(name.to_owned());
        }
    }

    /// A name without a value: a value may stand where a name is expected (`?4f3c…`).
    pub fn lone_name(&mut self, name: &str) -> String {
        if self.names.contains(name) { self.name(name) } else { self.text(name, As::Value) }
    }

    /// A path.
    pub fn path(&mut self, path: &str) -> String {
        let mut announced = false;
        let mut out = Vec::new();
        for segment in path.split('/') {
            let decoded = percent_decode_str(segment).decode_utf8_lossy().into_owned();
            let made = self.segment(&decoded, announced);
            out.push(if made == segment { made } else { utf8_percent_encode(&made, SEGMENT).to_string() });
            let words = Words::of(&decoded);
            announced |= [&RESET, &VERIFY, &CONFIRM, &TOKEN].into_iter().any(|meaning| words.say(meaning));
        }
        out.join("/")
    }

    /// A segment of a path; after one that speaks of links and codes only known words are kept.
    fn segment(&mut self, segment: &str, announced: bool) -> String {
        let known = runs(segment).all(|run| self.vocabulary.knows(run));
        if !known && looks_like_a_token(segment) {
            return self.secret(segment);
        }
        if let Some(secret) = self.spelled.iter().find(|secret| segment.contains(secret.as_str())).cloned() {
            return self.text(&secret, As::Secret);
        }
        let mut out = String::with_capacity(segment.len());
        for piece in pieces(segment) {
            let is_run = piece.chars().next().is_some_and(char::is_alphanumeric);
            let small = is_digits(piece) && piece.len() <= 2;
            if !is_run || small || self.vocabulary.knows(piece) {
                out.push_str(piece);
                continue;
            }
            // A word that was a value before stays one; one that was a word before stays one.
            let kept = self.kept.contains(piece) || (is_word(piece) && !announced && !self.placeholders.knows(piece));
            if kept && !announced {
                if self.kept.len() < MAX_TOLD_APART {
                    self.kept.insert(piece.to_owned());
                }
                out.push_str(piece);
            } else {
                out.push_str(&self.run(piece, if announced { As::Secret } else { As::Text }, false));
            }
        }
        out
    }

    /// A query; `led` is true for one to which an answer leads.
    fn query(&mut self, query: &str, led: bool) -> String {
        let fields = form::parse(query.as_bytes(), false);
        let mut made = form_urlencoded::Serializer::new(String::new());
        for (name, value) in fields.iter() {
            match (name.starts_with('/'), value.is_empty()) {
                (true, _) => made.append_key_only(&self.path(name)),
                (false, true) => made.append_pair(&self.lone_name(name), ""),
                (false, false) => {
                    let made_value = if led { self.led(name, value) } else { self.named(name, value) };
                    made.append_pair(&self.name_of_value(name), &made_value)
                }
            };
        }
        made.finish()
    }

    /// A path with its query.
    pub fn target(&mut self, target: &str) -> String {
        self.target_of(target, false)
    }

    fn target_of(&mut self, target: &str, led: bool) -> String {
        match target.split_once('?') {
            Some((path, query)) => format!("{}?{}", self.path(path), self.query(query, led)),
            None => self.path(target),
        }
    }

    /// An address, absolute or not.
    pub fn url(&mut self, url: &str) -> String {
        let (url, fragment) = url.split_once('#').map_or((url, None), |(url, fragment)| (url, Some(fragment)));
        let made = match url.split_once("://").filter(|(scheme, _)| scheme.bytes().all(|b| b.is_ascii_alphabetic())) {
            Some((scheme, rest)) => {
                let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                format!("{}://{}{}", self.text(scheme, As::Value), self.host(authority), self.target_of(target, true))
            }
            None if url.starts_with("//") => {
                let rest = url.get(2..).unwrap_or_default();
                let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                format!("//{}{}", self.host(authority), self.target_of(target, true))
            }
            None if url.split(['/', '?']).next().is_some_and(|first| first.contains(':')) => self.text(url, As::Value),
            None => self.target_of(url, true),
        };
        match fragment {
            Some(fragment) => format!("{made}#{}", self.text(fragment, As::Value)),
            None => made,
        }
    }

    /// A host with or without its port: that of this machine, or a name made up for it.
    pub fn host(&mut self, authority: &str) -> String {
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if is_digits(port) && port.len() <= 5 => (host, format!(":{port}")),
            _ => (authority, String::new()),
        };
        if host.is_empty() {
            return String::new();
        }
        if host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback()) {
            return format!("{host}{port}");
        }
        let known = self.hosts.len();
        let number = match self.hosts.get(&host.to_ascii_lowercase()) {
            Some(number) => *number,
            None if known < MAX_TOLD_APART => *self.hosts.entry(host.to_ascii_lowercase()).or_insert(known + 1),
            None => 0,
        };
        format!("host{number}.example.test{port}")
    }

    /// A client's address: one for each, of the range for benchmarks (RFC 2544, 198.18.0.0/15).
    pub fn client(&mut self, client: IpAddr) -> IpAddr {
        let known = u32::try_from(self.clients.len()).unwrap_or(u32::MAX);
        let number = match self.clients.get(&client) {
            Some(number) => *number,
            None if (known as usize) < MAX_TOLD_APART => *self.clients.entry(client).or_insert(known + 1),
            None => 0,
        };
        IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + number))
    }

    /// A user agent: told from others, and whether it is a browser.
    pub fn agent(&mut self, agent: &str) -> String {
        let known = self.agents.len();
        let number = match self.agents.get(agent) {
            Some(number) => *number,
            None if known < MAX_TOLD_APART => *self.agents.entry(agent.to_owned()).or_insert(known + 1),
            None => 0,
        };
        match agent.starts_with("Mozilla/") {
            true => format!("Mozilla/5.0 (recorded {number})"),
            false => format!("recorded/{number}"),
        }
    }

    /// The value of a cookie. What is escaped in it and is no letter or digit stays as it is; so do the
    /// harmless words of one that is a message.
    pub fn cookie(&mut self, name: &str, value: &str) -> String {
        if PLAIN.contains(&value) || (self.is_constant(value) && !self.proves(name)) {
            return value.to_owned();
        }
        let message = name.to_ascii_lowercase().contains("flash");
        if let Some(jwt) = self.jwt(value) {
            return jwt;
        }
        let mut out = String::new();
        let mut rest = value;
        while let Some(at) = rest.find('%') {
            let (before, after) = rest.split_at(at);
            out.push_str(&if message { self.text(before, As::Value) } else { self.secret(before) });
            let escape = after.get(..3).filter(|escape| {
                let decoded = percent_decode_str(escape).next();
                decoded.is_some_and(|byte| byte.is_ascii() && !byte.is_ascii_alphanumeric()) && escape.len() == 3
            });
            let plain = escape.is_some_and(|escape| percent_decode_str(escape).count() == 1);
            match escape.filter(|_| plain) {
                Some(escape) => {
                    out.push_str(escape);
                    rest = after.get(3..).unwrap_or_default();
                }
                None => {
                    // Letters in disguise: read as they are meant.
                    let decoded = percent_decode_str(after).decode_utf8_lossy().into_owned();
                    let made = self.secret(&decoded);
                    return out + &utf8_percent_encode(&made, SEGMENT).to_string();
                }
            }
        }
        out + &if message { self.text(rest, As::Value) } else { self.secret(rest) }
    }

    /// The value of `Authorization`.
    pub fn credentials(&mut self, value: &str) -> String {
        let Some((scheme, rest)) = value.split_once(' ') else { return self.secret(value) };
        let shown = self.text(scheme, As::Value);
        if scheme.eq_ignore_ascii_case("basic") {
            let decoded = STANDARD.decode(rest.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
            return match pair {
                Some((user, password)) => {
                    let pair = format!("{}:{}", self.secret(user), self.secret(password));
                    format!("{shown} {}", STANDARD.encode(pair))
                }
                None => format!("{shown} {}", self.secret(rest)),
            };
        }
        format!("{shown} {}", self.secret(rest))
    }

    /// A token whose claims can be read, with other claims; `None` if it is none.
    fn jwt(&mut self, token: &str) -> Option<String> {
        let claims = credentials::jwt_claims(token)?;
        let claims = self.claims(&claims);
        let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
        let signature = token.rsplit('.').next().unwrap_or_default();
        let signature = self.runs(signature, As::Secret);
        Some(format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.to_string())))
    }

    fn claims(&mut self, value: &Json) -> Json {
        match value {
            Json::Object(members) => members
                .iter()
                .map(|(name, value)| {
                    let moment = ["exp", "iat", "nbf", "auth_time"].contains(&name.as_str()) && value.is_number();
                    (self.name(name), if moment { value.clone() } else { self.claims(value) })
                })
                .collect(),
            Json::Array(items) => items.iter().map(|item| self.claims(item)).collect(),
            Json::String(text) => Json::String(self.runs(text, As::Secret)),
            Json::Number(_) => self.number("", value),
            other => other.clone(),
        }
    }

    /// A number: a small one stays, unless its name says that it is a secret.
    pub fn number(&mut self, name: &str, number: &Json) -> Json {
        let text = number.to_string();
        let small = number.as_i64().is_some_and(|n| (-999..=999).contains(&n));
        if (small && !self.proves(name)) || self.vocabulary.knows(&text) {
            return number.clone();
        }
        let made = self.runs(&text, As::Secret);
        // An exponent has letters, and those are none any more.
        let number = serde_json::from_str(&made).ok().filter(Json::is_number);
        number.unwrap_or_else(|| Json::from(0))
    }
}

/// True for names of codes, keys and tokens as such.
fn names_a_code(name: &str) -> bool {
    let last = name.trim_end_matches(']').rsplit(['[', '.', '_', '-']).next().unwrap_or_default().to_ascii_lowercase();
    let words = Words::of(name);
    let code = words.say(&CODE) || words.say(&TOKEN) || last == "code" || last == "key";
    code && !["token", "secret", "nonce"].iter().any(|word| name.to_ascii_lowercase().contains(word))
}

/// True for names under which somebody says who one is.
fn names_somebody(name: &str) -> bool {
    let words = Words::of(name);
    let last = words.last().map(Words::of).unwrap_or_default();
    [&IDENTIFIER, &EMAIL].into_iter().any(|meaning| last.say(meaning))
}

/// Runs of letters and digits, and what stands between them, each as a piece.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let kind = first.is_alphanumeric();
        let end = rest.find(|c: char| c.is_alphanumeric() != kind).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// An address in four numbers.
fn address(pieces: &[&str]) -> Option<IpAddr> {
    let seven = pieces.get(..7)?;
    if !is_digits(seven.first()?) || seven.get(1) != Some(&".") {
        return None;
    }
    seven.concat().parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

/// A segment's word as people name places: letters, not too many; or a few with a digit (`v1`, `2fa`).
fn is_word(run: &str) -> bool {
    let letters = run.chars().all(char::is_alphabetic);
    let capitals = run.chars().skip(1).filter(|c| c.is_uppercase()).count();
    (letters && run.chars().count() <= 15 && capitals <= 2)
        || (run.len() <= 3 && run.bytes().any(|b| b.is_ascii_alphabetic()))
}
