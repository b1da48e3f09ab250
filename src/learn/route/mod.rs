//! One route of a draft: what it matches, who did it, its rules, and a test for each.
//!
//! It is learnt here, of its `rules` and its `actor`; `steps` joins it with others, `text` writes it down and
//! `cases` its tests.

mod actor;
mod cases;
mod rules;
mod steps;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use super::observe::Seen;
use super::place::{At, Place, Topic, Went, pattern};
use super::rules::{Example, Telling, list};
use super::sign::Sign;
use crate::event::{Event, Outcome};
use actor::{actor, method, of_sessions};
use rules::{answered, follow, plain, shown};

pub use steps::{connect, renewals};

/// The most sources of one name.
const MAX_SOURCES: usize = 4;

/// What a rule does.
enum Then {
    /// It decides.
    Decides(Went),
    /// The next request does.
    Follows(Vec<Telling<Went>>),
}

/// A route.
pub struct Route<'s> {
    /// Where.
    pub place: At,
    topic: Topic,
    id: String,
    narrowed: Vec<Sign>,
    actor: Vec<(&'static str, Vec<String>)>,
    method: Option<String>,
    tokens: Vec<String>,
    carried: Vec<String>,
    flow: Option<(String, Vec<String>)>,
    rules: Vec<(Vec<Sign>, Then)>,
    examples: Vec<(&'s Seen, Example<Went>)>,
    /// True if it is here only for what it says to later steps.
    step: bool,
}

impl<'s> Route<'s> {
    /// The route of a topic at a place, or why there can be none.
    pub fn learn(place: &Place<'s>, topic: &Topic) -> Result<Route<'s>, &'static str> {
        if topic.name == "key-used" {
            return Err("told once in a while, not each time");
        }
        let several = place.topics().len() > 1;
        let narrowed = if several { place.narrow(*topic, false) } else { Some(Vec::new()) };
        let Some(mut narrowed) = narrowed.or_else(|| place.narrow(*topic, true)) else {
            return Err("no sign of the request tells it from other things that are done there");
        };
        for sign in place.says(*topic) {
            if !narrowed.contains(&sign) {
                narrowed.push(sign);
            }
        }
        let tried = Route::of(place, *topic, narrowed);
        match (tried, place.narrow(*topic, true).filter(|signs| !signs.is_empty())) {
            (Some(route), _) => Ok(route),
            (None, Some(narrower)) => Route::of(place, *topic, narrower).ok_or("no sign tells its outcomes apart"),
            (None, None) => Err("no sign tells its outcomes apart"),
        }
    }

    fn of(place: &Place<'s>, topic: Topic, narrowed: Vec<Sign>) -> Option<Route<'s>> {
        let examples = place.examples(topic, &narrowed);
        let all: Vec<Example<Went>> = examples.iter().map(|(_, example)| answered(example)).collect();
        let (rules, left) = list(&all);
        let rules = match left.is_empty() {
            true => plain(rules),
            false => follow(&examples, &all, rules).or_else(|| {
                // What was asked for tells as well, if nothing that came of it does.
                let whole: Vec<Example<Went>> = examples.iter().map(|(_, example)| example.clone()).collect();
                let (rules, left) = list(&whole);
                left.is_empty().then(|| plain(rules))
            })?,
        };
        let rules = shown(rules, &all, topic);
        if rules.is_empty() {
            return None;
        }
        let events: Vec<(&Seen, &Event)> =
            examples.iter().filter_map(|(seen, _)| Some((*seen, seen.events.first()?))).collect();
        let succeeded = |seen: &&Seen| seen.events.first().is_some_and(|event| event.outcome == Outcome::Success);
        let handed: Vec<&Seen> = events.iter().map(|(seen, _)| *seen).filter(succeeded).collect();
        let union = |of: fn(&Seen) -> &Vec<String>| {
            let all: BTreeSet<&String> = handed.iter().flat_map(|seen| of(seen)).collect();
            all.into_iter().take(MAX_SOURCES).cloned().collect::<Vec<_>>()
        };
        Some(Route {
            place: place.at.clone(),
            topic,
            id: String::new(),
            actor: if of_sessions(topic, &events) { Vec::new() } else { actor(&events) },
            method: method(&events),
            tokens: if topic.name == "login" { union(|seen| &seen.tokens) } else { Vec::new() },
            carried: union(|seen| &seen.carried),
            flow: None,
            rules,
            examples,
            narrowed,
            step: false,
        })
    }

    /// Narrow ones first: plain paths before patterns, and those that ask for more of the request.
    pub fn order(&self) -> (String, bool, At, std::cmp::Reverse<usize>) {
        let (pattern, one) = pattern(&self.place.path);
        (self.place.method.clone(), pattern != one, self.place.clone(), std::cmp::Reverse(self.narrowed.len()))
    }

    /// True if a name stands in a cookie.
    pub fn reads_a_cookie(&self) -> bool {
        let mut sources = self.actor.iter().flat_map(|(_, sources)| sources);
        sources.any(|source| source.starts_with("cookie.") || source.starts_with("response.cookie."))
    }
}

/// Gives each route an id of its own.
pub fn name(routes: &mut [Route<'_>]) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for route in routes {
        let count = counts.entry(route.topic.name).or_default();
        *count += 1;
        let name = route.topic.name;
        route.id = if *count == 1 { name.to_owned() } else { format!("{name}-{count}") };
    }
}
