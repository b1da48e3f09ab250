//! Who did it, and how they proved themselves: the sources in which the names of actors stood.

use std::collections::{BTreeMap, BTreeSet};

use super::MAX_SOURCES;
use crate::event::Event;
use crate::learn::observe::{Seen, names_of};
use crate::learn::place::Topic;
use crate::learn::sign::Sign;

/// How people proved themselves, if it is always the same.
pub(super) fn method(events: &[(&Seen, &Event)]) -> Option<String> {
    let proofs = events.iter().filter(|(_, event)| event.event_type.as_str().starts_with("user.login."));
    let methods: BTreeSet<&str> =
        proofs.filter_map(|(_, event)| event.metadata.method.as_ref().map(|method| method.as_str())).collect();
    let mut methods = methods.into_iter();
    match (methods.next(), methods.next()) {
        (Some(one), None) => Some(one.to_owned()),
        _ => None,
    }
}

/// True for what is done inside of sessions: whose they are is remembered, and what else is in the request
/// may have that name by chance.
pub(super) fn of_sessions(topic: Topic, events: &[(&Seen, &Event)]) -> bool {
    let names_somebody = ["login", "sign-up", "reset", "reset-request", "address-change"].contains(&topic.name);
    !names_somebody && events.iter().all(|(seen, _)| seen.signs.contains(&Sign::SessionKnown(true)))
}

/// Where the names of actors stood: for each key the fewest sources that have them all, or else most.
pub(super) fn actor(events: &[(&Seen, &Event)]) -> Vec<(&'static str, Vec<String>)> {
    let mut found = Vec::new();
    for key in ["id", "login", "email"] {
        // Of a session its memory knows the actor, unless the request itself names somebody.
        let mut named: Vec<(&Seen, &str)> = events
            .iter()
            .filter_map(|(seen, event)| Some((*seen, names_of(&event.actor).into_iter().find(|(k, _)| *k == key)?.1?)))
            .collect();
        let mut sources = Vec::new();
        while sources.len() < MAX_SOURCES {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for (seen, name) in &named {
                for source in seen.sources_of(name).filter(|source| *source != "response.json:") {
                    *counts.entry(source).or_default() += 1;
                }
            }
            let best = counts.into_iter().max_by_key(|(source, count)| (*count, std::cmp::Reverse(rank(source))));
            let Some((best, _)) = best else { break };
            let best = best.to_owned();
            named.retain(|(seen, name)| !seen.sources_of(name).any(|source| source == best));
            sources.push(best);
        }
        if !sources.is_empty() {
            found.push((key, in_order(sources, key, events)));
        }
    }
    found
}

/// The order in which the first source that has something is most often right.
fn in_order(sources: Vec<String>, key: &str, events: &[(&Seen, &Event)]) -> Vec<String> {
    let right = |order: &[&String]| {
        let named = events.iter().filter(|(seen, event)| {
            let name = names_of(&event.actor).into_iter().find(|(k, _)| *k == key).and_then(|(_, name)| name);
            name.is_some() && seen.first_of(order) == name
        });
        named.count()
    };
    let mut best: Vec<&String> = sources.iter().collect();
    let mut count = right(&best);
    // Each to the front in turn: a few sources need no better search.
    for source in &sources {
        let mut order = vec![source];
        order.extend(best.iter().filter(|other| **other != source));
        let now = right(&order);
        if now > count {
            (best, count) = (order, now);
        }
    }
    best.into_iter().cloned().collect()
}

/// What was typed comes before what was answered.
pub(super) fn rank(source: &str) -> usize {
    let order = ["form.", "json:", "graphql:", "xmlrpc.", "basic.", "query.", "jwt:", "response.", "cookie."];
    order.iter().position(|kind| source.starts_with(kind)).unwrap_or(order.len())
}
