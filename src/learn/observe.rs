//! What a recording shows, exchange by exchange: the events that auto gives, and the signs beside them.
//!
//! Values are held only to find out where an actor's name came from; they end with the observation.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use http::{Method, header};
use serde_json::Value as Json;

use super::sign::Sign;
use crate::app::offline::Offline;
use crate::auto::answer::{looks_like_a_secret, looks_like_a_session};
use crate::auto::page::Page;
use crate::auto::request::Request;
use crate::auto::words::{ACTION, Words};
use crate::body::cookie::{self, CookieChange, SetCookie};
use crate::body::json::scalar_text;
use crate::body::wanted::fits;
use crate::body::{credentials, form, xmlrpc};
use crate::event::text::looks_like_a_token;
use crate::event::{Actor, Event};
use crate::exchange::Exchange;
use crate::rules::condition::location_path;
use crate::rules::extract::shown_path;
use crate::rules::facts::Facts;
use crate::rules::graphql;
use crate::rules::presets::recognise::{Glimpse, Recognised, Recogniser};
use crate::rules::source::is_secret_name;

/// What the id of a recorded exchange begins with here, before its number.
const ID: &str = "seen-";
/// The most places of a JSON document that are looked at.
const MAX_PLACES: usize = 200;
/// How deep they may lie.
const MAX_DEPTH: usize = 4;
/// The most signs of an exchange.
const MAX_SIGNS: usize = 120;
/// The most parameters of a call that are looked at.
const MAX_PARAMS: usize = 8;
/// The most claims of a token that are looked at.
const MAX_CLAIMS: usize = 50;
/// How many exchanges of traffic are held.
const MAX_SEEN: usize = 10_000;
/// How many of the newest may still get an event: more than are under way while one waits for its next page.
const YOUNG: usize = 2_000;
/// How many exchanges of one kind teach something.
const ALIKE: usize = 20;
/// How many redirects may wait for their page.
const MAX_AWAITED: usize = 256;
/// How many tokens are followed.
const MAX_TOKENS: usize = 20_000;
/// The source of a name at the beginning of a cookie of several parts.
const FIRST_PART: &str = "^(.+?)(?:%7C|[|]|%3A|:)";
/// The longest value that may name somebody, in bytes.
const MAX_VALUE: usize = 254;
/// The longest name of a field, cookie or key that may stand in a draft, in bytes.
const MAX_NAME: usize = 64;

/// What a recording shows.
#[derive(Debug, Default)]
pub struct Observed {
    /// Each exchange that something may be learnt from.
    pub seen: Vec<Seen>,
    /// Applications that there is a preset for.
    pub presets: Vec<Recognised>,
    /// Headers in which tokens came back that an answer had handed out.
    pub token_headers: BTreeSet<String>,
}

/// What is called by an exchange whose address does not say it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// A field of a GraphQL operation: what the operation does, and the field.
    GraphQl(&'static str, String),
    /// A method of XML-RPC.
    XmlRpc(String),
}

/// One exchange.
#[derive(Debug)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path; segments that look like a token are `***`.
    pub path: String,
    /// What is called.
    pub call: Option<Call>,
    /// Names of the form's fields.
    pub form: Vec<String>,
    /// Pointers into the request's JSON.
    pub json: Vec<String>,
    /// What request and answer show.
    pub signs: BTreeSet<Sign>,
    /// What the page shows to which the answer redirected.
    pub next: Option<BTreeSet<Sign>>,
    /// Pointers to tokens that the answer hands out.
    pub tokens: Vec<String>,
    /// Sources in the request that had a token which an answer had handed out.
    pub carried: Vec<String>,
    /// What auto made of it, in order.
    pub events: Vec<Event>,
    /// Sources of the configuration with what they had.
    sources: Vec<(String, String)>,
    /// Cookies that the request brought or the answer set, with hashes of their values.
    cookies: Vec<(String, u64)>,
}

impl Seen {
    /// The sources in which a name of the actor stood.
    pub fn sources_of<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        self.sources.iter().filter(move |(_, value)| value == name).map(|(source, _)| source.as_str())
    }

    /// What these sources name, the first that has something.
    pub fn first_of(&self, sources: &[&String]) -> Option<&str> {
        let value = |source: &&String| self.sources.iter().find(|(name, _)| name == *source);
        sources.iter().find_map(value).map(|(_, value)| value.as_str())
    }

    /// The cookies that both exchanges have with one value.
    pub fn shared_cookies<'s>(&'s self, later: &'s Seen) -> impl Iterator<Item = &'s str> {
        self.cookies.iter().filter(|cookie| later.cookies.contains(cookie)).map(|(name, _)| name.as_str())
    }
}

/// Plays a recording through capture without routes.
pub fn observe(offline: &mut Offline, exchanges: Vec<Exchange>) -> Observed {
    let mut observer = Observer::of_all();
    for exchange in exchanges {
        observer.see(offline, exchange);
    }
    observer.end(offline).0
}

/// Learns exchange by exchange.
pub struct Observer {
    recogniser: Recogniser,
    presets: Vec<Recognised>,
    /// What was seen, by its number.
    seen: BTreeMap<usize, Seen>,
    numbered: usize,
    /// Redirects whose page was not asked for yet: by whom, the path, and the exchange.
    awaited: VecDeque<(IpAddr, String, usize)>,
    /// Hashes of tokens that answers handed out.
    handed_out: HashSet<u64>,
    token_headers: BTreeSet<String>,
    cookie_names: BTreeSet<String>,
    /// How often a cookie's value was given to somebody who did not have it, by hashes.
    given: HashMap<u64, u32>,
    hasher: RandomState,
    /// How many may be held; beyond, what teaches nothing new is let go.
    room: usize,
}

impl Observer {
    /// Holds everything: for recordings, which are bounded themselves.
    pub fn of_all() -> Observer {
        Observer::with_room(usize::MAX)
    }

    /// Holds as much as a draft needs: for traffic, which does not end.
    pub fn of_traffic() -> Observer {
        Observer::with_room(MAX_SEEN)
    }

    fn with_room(room: usize) -> Observer {
        Observer {
            recogniser: Recogniser::new(&[]),
            presets: Vec::new(),
            seen: BTreeMap::new(),
            numbered: 0,
            awaited: VecDeque::new(),
            handed_out: HashSet::new(),
            token_headers: BTreeSet::new(),
            cookie_names: BTreeSet::new(),
            given: HashMap::new(),
            hasher: RandomState::new(),
            room,
        }
    }

    /// How many exchanges it was shown.
    pub fn count(&self) -> usize {
        self.numbered
    }

    /// How many of them it holds.
    pub fn held(&self) -> usize {
        self.seen.len()
    }

    /// Applications that were recognised so far.
    pub fn presets(&self) -> &[Recognised] {
        &self.presets
    }

    /// Learns from an exchange; answers the events that it decided, its own and earlier ones.
    pub fn see(&mut self, offline: &mut Offline, mut exchange: Exchange) -> Vec<Event> {
        // Whatever id it had may be a stranger's, and not its own alone.
        exchange.request_id = format!("{ID}{}", self.numbered);
        self.presets.extend(recognise(&mut self.recogniser, &exchange));
        let captured = offline.captured(exchange);
        let mut events = offline.before(&captured);
        let facts = offline.facts(&captured);
        let mut seen = seen(&facts, &self.hasher);
        self.note_cookies(&facts);
        self.follow_tokens(&facts, &mut seen);
        self.follow_redirect(&facts, captured.exchange.client_ip, &seen);
        drop(facts);
        self.seen.insert(self.numbered, seen);
        self.numbered += 1;
        events.extend(offline.events_of(&captured));
        self.note(&events);
        if self.seen.len() > self.room {
            self.thin();
        }
        events
    }

    /// What was observed, and the events that waited until now.
    pub fn end(mut self, offline: &mut Offline) -> (Observed, Vec<Event>) {
        let events = offline.end();
        self.note(&events);
        self.keep_telling_cookies();
        let seen = self.seen.into_values().collect();
        (Observed { seen, presets: self.presets, token_headers: self.token_headers }, events)
    }

    /// A name with `*` that other cookies fit too tells nothing of one of them; and what is given to
    /// everybody alike holds nobody's steps together.
    fn keep_telling_cookies(&mut self) {
        let loose = |pattern: &str| {
            let others = self.cookie_names.iter().filter(|name| cookie_name(name).as_deref() != Some(pattern));
            pattern.ends_with('*') && others.into_iter().any(|name| fits(pattern, name.as_bytes()))
        };
        for seen in self.seen.values_mut() {
            seen.signs.retain(|sign| !matches!(sign, Sign::Cookie(name) | Sign::CookieGone(name) if loose(name)));
            seen.cookies.retain(|(_, hash)| self.given.get(hash).is_none_or(|times| *times < 2));
        }
    }

    /// Names of cookies, and how often a value was given to somebody who did not have it.
    fn note_cookies(&mut self, facts: &Facts<'_>) {
        let Some((_, headers)) = facts.response else { return };
        for line in headers.get_all(header::SET_COOKIE).iter().take(cookie::MAX_SET_COOKIES) {
            let Some(set) = SetCookie::parse(line.as_bytes(), facts.at) else { continue };
            let Ok(name) = std::str::from_utf8(set.name) else { continue };
            if self.cookie_names.len() < MAX_PLACES && name.len() <= MAX_NAME * 2 {
                self.cookie_names.insert(name.to_owned());
            }
            let brought = cookie::request_cookies(facts.headers).any(|pair| pair == (set.name, set.value));
            if !brought && self.given.len() < MAX_TOKENS {
                *self.given.entry(self.hasher.hash_one((name, set.value))).or_default() += 1;
            }
        }
    }

    /// Where tokens come back that an answer handed out.
    fn follow_tokens(&mut self, facts: &Facts<'_>, seen: &mut Seen) {
        let hash = |text: &str| self.hasher.hash_one(text);
        for (name, value) in facts.headers.iter().take(MAX_PLACES) {
            let known = value.to_str().is_ok_and(|value| self.handed_out.contains(&hash(value)));
            if known && !name.is(header::AUTHORIZATION) && !name.is(header::COOKIE) && is_name(name.as_sent()) {
                self.token_headers.insert(name.as_sent().to_ascii_lowercase());
            }
        }
        let held = secrets(facts).filter(|(_, value)| self.handed_out.contains(&hash(value)));
        seen.carried = held.map(|(source, _)| source).collect();
        // Whose session it is that such a source names is not known yet when rules are asked.
        if !seen.carried.is_empty() {
            seen.signs.retain(|sign| !matches!(sign, Sign::SessionKnown(_)));
        }
        for pointer in &seen.tokens {
            let token = facts.response_json().and_then(|json| json.pointer(pointer)?.as_str());
            if let Some(token) = token.filter(|_| self.handed_out.len() < MAX_TOKENS) {
                self.handed_out.insert(self.hasher.hash_one(token));
            }
        }
    }

    /// Puts what a page shows beside the exchange that redirected to it.
    fn follow_redirect(&mut self, facts: &Facts<'_>, client: IpAddr, seen: &Seen) {
        if *facts.method == Method::GET {
            let asked = |(who, path, _): &(IpAddr, String, usize)| *who == client && *path == facts.path;
            if let Some(at) = self.awaited.iter().rposition(asked)
                && let Some((.., number)) = self.awaited.remove(at)
                && let Some(earlier) = self.seen.get_mut(&number)
            {
                let mut signs: BTreeSet<Sign> = seen.signs.iter().filter(|sign| shows_a_page(sign)).cloned().collect();
                if shown_path(&facts.path, &[]) == facts.path {
                    signs.insert(Sign::At(facts.path.to_string()));
                }
                earlier.next = Some(signs);
            }
        }
        let to = facts.response.and_then(|(_, headers)| location_path(headers, facts.uri));
        if let Some(to) = to {
            self.awaited.push_back((client, to, self.numbered));
            if self.awaited.len() > MAX_AWAITED {
                self.awaited.pop_front();
            }
        }
    }

    /// Puts each event beside the exchange that it tells of.
    fn note(&mut self, events: &[Event]) {
        for event in events {
            let id = event.metadata.request.as_ref().and_then(|request| request.id.as_str().strip_prefix(ID));
            let number = id.and_then(|number| number.parse::<usize>().ok());
            if let Some(seen) = number.and_then(|number| self.seen.get_mut(&number)) {
                seen.events.push(event.clone());
            }
        }
    }

    /// Lets go of what a draft would not look at: exchanges of places where nothing happened, then of
    /// each kind of exchange all but the newest. What is young stays, since its event may be to come.
    fn thin(&mut self) {
        let young = self.numbered.saturating_sub(YOUNG);
        let at = |seen: &Seen| (seen.method.clone(), seen.path.clone());
        let happened: BTreeSet<_> = self.seen.values().filter(|seen| !seen.events.is_empty()).map(at).collect();
        self.seen.retain(|number, seen| *number >= young || happened.contains(&at(seen)));
        let mut alike: BTreeMap<_, usize> = BTreeMap::new();
        let mut surplus = Vec::new();
        for (number, seen) in self.seen.iter().rev() {
            let types: Vec<String> = seen.events.iter().map(|event| event.event_type.to_string()).collect();
            let count = alike.entry((at(seen), seen.signs.clone(), types)).or_default();
            *count += 1;
            if *count > ALIKE && *number < young {
                surplus.push(*number);
            }
        }
        surplus.iter().for_each(|number| {
            self.seen.remove(number);
        });
        // Still too many different ones: the oldest go.
        while self.seen.len() > self.room / 2 {
            self.seen.pop_first();
        }
        for seen in self.seen.range_mut(..young).map(|(_, seen)| seen).filter(|seen| seen.events.is_empty()) {
            seen.sources = Vec::new();
        }
    }
}

fn recognise(recogniser: &mut Recogniser, exchange: &Exchange) -> Vec<Recognised> {
    let Some(response) = &exchange.response else { return Vec::new() };
    let path = exchange.request.uri.path().to_owned();
    let mut found = recogniser.see(&Glimpse { path, status: response.status, headers: response.headers.clone() });
    let facts = Facts::of_exchange(exchange);
    if let Some(body) = facts.response_body() {
        found.extend(recogniser.read(&body.text()));
    }
    found
}

/// Signs that a next request can show.
fn shows_a_page(sign: &Sign) -> bool {
    matches!(sign, Sign::Status(_) | Sign::AsksPassword | Sign::Location(_) | Sign::Json(..))
}

fn seen(facts: &Facts<'_>, hasher: &RandomState) -> Seen {
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

/// Cookies that change or go, what they begin with, and what may hold steps together.
fn cookies(facts: &Facts<'_>, hasher: &RandomState, seen: &mut Seen) {
    let mut note = |name: &str, value: &[u8]| {
        if looks_like_a_secret(value) && is_name(name) && seen.cookies.len() < MAX_PLACES {
            seen.cookies.push((name.to_owned(), hasher.hash_one((name, value))));
        }
    };
    let mut parts = Vec::new();
    for (name, value) in cookie::request_cookies(facts.headers).take(MAX_PLACES) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        note(name, value);
        parts.extend(cookie_name(name).zip(first_part(value)).map(|(name, part)| (format!("cookie.{name}"), part)));
    }
    if let Some((_, headers)) = facts.response {
        for line in headers.get_all(header::SET_COOKIE).iter().take(cookie::MAX_SET_COOKIES) {
            let Some(set) = SetCookie::parse(line.as_bytes(), facts.at) else { continue };
            let Ok(name) = std::str::from_utf8(set.name) else { continue };
            let Some(shown) = cookie_name(name) else { continue };
            let brought = cookie::request_cookies(facts.headers).any(|(brought, _)| fits(&shown, brought));
            // Asked as a rule would ask it.
            match cookie::change(facts.headers, headers, &shown, facts.at) {
                CookieChange::Changed if looks_like_a_session(name, set.value) => {
                    note(name, set.value);
                    let part = first_part(set.value).map(|part| (format!("response.cookie.{shown}"), part));
                    parts.extend(part);
                    seen.signs.insert(Sign::Cookie(shown));
                }
                CookieChange::Deleted if brought => {
                    seen.signs.insert(Sign::CookieGone(shown));
                }
                _ => {}
            }
        }
    }
    for (source, part) in parts {
        let name = source.rsplit("cookie.").next().unwrap_or_default();
        if !is_secret_name(name, true) {
            seen.sources.push((format!("{source}:{FIRST_PART}"), part));
        }
    }
}

/// What a cookie of several parts begins with, as [`FIRST_PART`] reads it.
fn first_part(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let ends = ["%7C", "|", "%3A", ":"];
    let at = ends.iter().filter_map(|end| text.find(end)).min()?;
    text.get(..at).filter(|part| (2..=MAX_VALUE).contains(&part.len())).map(str::to_owned)
}

/// A cookie's name as a configuration has it; with `*` for a part that is made anew for each installation.
fn cookie_name(name: &str) -> Option<String> {
    if is_name(name) {
        return Some(name.to_owned());
    }
    // `wordpress_logged_in_5c01…`, `DW68700bf…`.
    let separator = name.char_indices().rev().find(|(_, c)| "_-.".contains(*c)).map(|(at, _)| at + 1);
    let letters = name.find(|c: char| !c.is_ascii_alphabetic()).filter(|at| name.len() - at >= 8);
    let stem = |at: usize, least: usize| name.get(..at).filter(|stem| stem.len() >= least && is_name(stem));
    let stem = separator.and_then(|at| stem(at, 5)).or_else(|| letters.and_then(|at| stem(at, 2)))?;
    Some(format!("{stem}*"))
}

/// Secrets of the request by their sources: of fields, keys and the query.
fn secrets(facts: &Facts<'_>) -> impl Iterator<Item = (String, String)> {
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
fn claims(token: &str, mut found: impl FnMut(String, String)) {
    let claims = credentials::jwt_claims(token);
    let members = claims.as_ref().and_then(Json::as_object).into_iter().flatten();
    for (name, value) in members.take(MAX_CLAIMS).filter(|(name, _)| is_name(name)) {
        if let Some(text) = scalar_text(value) {
            found(format!("/{name}"), text.into_owned());
        }
    }
}

/// A key under which answers hand out what later requests carry.
fn carries_a_session(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["token", "session", "jwt"].iter().any(|word| name.contains(word))
        && !name.contains("csrf")
        && !name.contains("xsrf")
}

/// A word as programs choose them: no name of a person, no number, nothing typed at length.
pub fn is_word(text: &str) -> bool {
    (2..=40).contains(&text.len())
        && !looks_like_a_token(text)
        && text.bytes().all(|b| b.is_ascii_alphabetic() || b"_-./:".contains(&b))
        && text.bytes().any(|b| b.is_ascii_alphabetic())
}

/// A field that says which of several things is done.
pub fn says_what(name: &str) -> bool {
    const ALSO: [&str; 8] = ["mode", "method", "grant_type", "operationName", "page", "type", "step", "view"];
    Words::of(name).say(&ACTION) || ALSO.contains(&name)
}

/// True for a word by which a program says how something went, under a key for such words. A code may as
/// well be one that was mailed to somebody: then it has to be written like a constant.
pub fn says_how_it_went(key: &str, word: &str) -> bool {
    const ALWAYS: [&str; 8] = ["error", "errorcode", "error_code", "type", "reason", "status", "result", "kind"];
    let constant = word.contains('_') && !word.bytes().any(|b| b.is_ascii_lowercase());
    let key = key.to_ascii_lowercase();
    is_word(word) && (ALWAYS.contains(&key.as_str()) || (key == "code" && constant))
}

/// A name that somebody chose for a field, not a value that stands in a name's place.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && !looks_like_a_token(name)
        && name.chars().all(|c| c.is_alphanumeric() || "_-.[]:".contains(c))
}

fn last(pointer: &str) -> &str {
    pointer.rsplit('/').next().unwrap_or_default()
}

/// Every place of a document whose names are names, by its pointer.
fn walk(json: Option<&Json>, found: &mut dyn FnMut(&str, &Json)) {
    let mut left: Vec<(String, &Json)> = json.map(|json| (String::new(), json)).into_iter().collect();
    let mut looked_at = 0;
    while let Some((pointer, value)) = left.pop() {
        let members = match value {
            Json::Object(members) => members,
            // What one entry has, the others have.
            Json::Array(items) => {
                left.extend(items.first().map(|first| (format!("{pointer}/*"), first)));
                continue;
            }
            _ => continue,
        };
        for (name, value) in members {
            looked_at += 1;
            if looked_at > MAX_PLACES {
                return;
            }
            if !is_name(name) {
                continue;
            }
            let pointer = format!("{pointer}/{name}");
            found(&pointer, value);
            if pointer.matches('/').count() < MAX_DEPTH {
                left.push((pointer, value));
            }
        }
    }
}

/// The values by which an actor may be found again, each with its key in the configuration.
pub(super) fn names_of(actor: &Actor) -> [(&'static str, Option<&str>); 3] {
    [
        ("id", actor.id.as_ref().map(|v| v.as_str())),
        ("login", actor.login.as_ref().map(|v| v.as_str())),
        ("email", actor.email.as_ref().map(|v| v.as_str())),
    ]
}
