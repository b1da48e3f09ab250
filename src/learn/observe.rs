//! What a recording shows, exchange by exchange: the events that auto gives, and the signs beside them.
//!
//! Values are held only to find out where an actor's name came from; they end with the observation.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::Sign;
use crate::app::offline::Offline;
use crate::auto::answer::looks_like_a_session;
use crate::auto::page::Page;
use crate::body::cookie::{self, CookieChange, SetCookie};
use crate::event::text::{MASK, looks_like_a_token};
use crate::event::{Actor, Event};
use crate::exchange::Exchange;
use crate::rules::condition::location_path;
use crate::rules::extract::shown_path;
use crate::rules::facts::Facts;
use crate::rules::presets::recognise::{Glimpse, Recognised, Recogniser};
use crate::rules::source::is_secret_name;

/// What the id of a recorded exchange begins with here, before its number.
const ID: &str = "seen-";
/// The most places of a JSON document that are looked at.
const MAX_PLACES: usize = 200;
/// How deep they may lie.
const MAX_DEPTH: usize = 4;
/// The most signs of an answer.
const MAX_SIGNS: usize = 60;
/// How many exchanges of traffic are held.
const MAX_SEEN: usize = 10_000;
/// How many of the newest may still get an event: more than are under way while one waits for its next page.
const YOUNG: usize = 2_000;
/// How many exchanges of one kind teach something.
const ALIKE: usize = 20;
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
}

/// One exchange.
#[derive(Debug)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path; segments that look like a token are `***`.
    pub path: String,
    /// Names of the form's fields.
    pub form: Vec<String>,
    /// Pointers into the request's JSON.
    pub json: Vec<String>,
    /// What the answer shows, sorted.
    pub signs: Vec<Sign>,
    /// Pointers to tokens that the answer hands out.
    pub tokens: Vec<String>,
    /// What auto made of it, in order.
    pub events: Vec<Event>,
    /// Sources of the configuration with what they had.
    sources: Vec<(String, String)>,
}

impl Seen {
    /// The sources in which a name of the actor stood.
    pub fn sources_of<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        self.sources.iter().filter(move |(_, value)| value == name).map(|(source, _)| source.as_str())
    }

    /// True if the path holds what looks like a token.
    pub fn hides_a_token(&self) -> bool {
        self.path.contains(MASK)
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
            room,
        }
    }

    /// How many exchanges it was shown.
    pub fn count(&self) -> usize {
        self.numbered
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
        self.seen.insert(self.numbered, seen(&facts));
        drop(facts);
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
        (Observed { seen: self.seen.into_values().collect(), presets: self.presets }, events)
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

fn seen(facts: &Facts<'_>) -> Seen {
    let mut sources = Vec::new();
    let mut form = Vec::new();
    let body = facts.request_body();
    for (name, value) in body.and_then(|b| b.fields()).into_iter().flat_map(|fields| fields.iter()) {
        if is_name(name) && !form.iter().any(|known| known == name) {
            form.push(name.to_owned());
            if !is_secret_name(name, false) {
                sources.push((format!("form.{name}"), value.to_owned()));
            }
        }
    }
    let mut json = Vec::new();
    walk(facts.request_json(), &mut |pointer, value| {
        if let Json::String(text) = value {
            if !is_secret_name(last(pointer), false) {
                sources.push((format!("json:{pointer}"), text.clone()));
            }
            json.push(pointer.to_owned());
        }
    });
    let mut signs = Vec::new();
    let mut tokens = Vec::new();
    walk(facts.response_json(), &mut |pointer, value| match value {
        Json::Bool(yes) => signs.push(Sign::Json(pointer.to_owned(), Some(*yes))),
        Json::Null => {}
        value => {
            signs.push(Sign::Json(pointer.to_owned(), None));
            let text = match value {
                Json::String(text) => text.clone(),
                Json::Number(number) => number.to_string(),
                _ => return,
            };
            if is_secret_name(last(pointer), false) {
                if text.len() >= 16 {
                    tokens.push(pointer.to_owned());
                }
            } else {
                sources.push((format!("response.json:{pointer}"), text));
            }
        }
    });
    if let Some((status, headers)) = facts.response {
        signs.push(Sign::Status(status.as_u16()));
        let to = location_path(headers, facts.uri).filter(|to| shown_path(to, &[]) == *to);
        signs.extend(to.map(Sign::Location));
        for line in headers.get_all(http::header::SET_COOKIE).iter().take(cookie::MAX_SET_COOKIES) {
            let Some(set) = SetCookie::parse(line.as_bytes(), facts.at) else { continue };
            let Ok(name) = std::str::from_utf8(set.name) else { continue };
            let changed = cookie::change(facts.headers, headers, name, facts.at) == CookieChange::Changed;
            if changed && is_name(name) && looks_like_a_session(name, set.value) {
                signs.push(Sign::Cookie(name.to_owned()));
            }
        }
    }
    if let Some(body) = facts.response_body()
        && Page::read(&body.text(), !body.cut()).shows_password()
    {
        signs.push(Sign::AsksPassword);
    }
    signs.extend(facts.session_known.map(Sign::SessionKnown));
    sources.retain(|(_, value): &(String, String)| !value.is_empty() && value.len() <= MAX_VALUE);
    signs.sort();
    signs.dedup();
    signs.truncate(MAX_SIGNS);
    Seen {
        method: facts.method.to_string(),
        path: shown_path(&facts.path, &[]),
        form,
        json,
        signs,
        tokens,
        events: Vec::new(),
        sources,
    }
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
        let Json::Object(members) = value else { continue };
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
