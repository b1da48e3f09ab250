//! Sees one exchange after the other, and what joins them: events, cookies, tokens and redirects.
//!
//! What it holds of traffic is bounded, since that does not end.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use http::{Method, header};

use super::cookies::cookie_name;
use super::exchange::seen;
use super::tokens::secrets;
use super::{MAX_PLACES, Observed, Seen};
use crate::app::offline::Offline;
use crate::body::cookie::{self, SetCookie};
use crate::body::wanted::fits;
use crate::event::Event;
use crate::exchange::Exchange;
use crate::learn::sign::Sign;
use crate::learn::words::{MAX_NAME, is_name};
use crate::rules::condition::location_path;
use crate::rules::extract::shown_path;
use crate::rules::facts::Facts;
use crate::rules::presets::recognise::{Glimpse, Recognised, Recogniser};

/// What the id of a recorded exchange begins with here, before its number.
const ID: &str = "seen-";
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
