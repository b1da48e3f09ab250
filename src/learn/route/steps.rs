//! Routes of several steps: earlier ones that say who somebody is, and renewals of a token.

use super::Route;
use super::actor::rank;
use crate::event::Event;
use crate::learn::observe::{Observed, Seen, names_of};
use crate::learn::place::{self, At, Topic, Went, topic};
use crate::learn::rules::Example;
use crate::learn::sign::Sign;

/// How many exchanges back a step is looked for that said who somebody is.
const STEPS_BACK: usize = 400;

/// Lets earlier steps say who somebody is, where a route cannot: by a cookie that both have.
pub fn connect<'s>(routes: &mut Vec<Route<'s>>, observed: &'s Observed) {
    for later in 0..routes.len() {
        let Some((name, links)) = routes.get(later).and_then(|route| links(route, observed)) else { continue };
        let mut keys: Vec<String> = Vec::new();
        for (key, earlier, sources) in links {
            let place = place::at(earlier);
            let taken = routes.iter().any(|route| route.place == place);
            let known = routes.iter_mut().find(|route| {
                route.place == place && route.examples.iter().any(|(seen, _)| std::ptr::eq(*seen, earlier))
            });
            let flow = |keys: &mut Vec<String>| {
                if !keys.contains(&key) {
                    keys.push(key.clone());
                }
            };
            match known {
                Some(route) if route.flow.as_ref().is_none_or(|(flow, _)| *flow == name) => {
                    flow(&mut route.flow.get_or_insert_with(|| (name.clone(), Vec::new())).1);
                }
                // A step at a place where something else happens is no step of this flow alone.
                None if topic(earlier).is_none() && !taken => {
                    let mut step = Route::step(place, earlier, sources);
                    step.flow = Some((name.clone(), vec![key.clone()]));
                    routes.push(step);
                }
                _ => continue,
            }
            flow(&mut keys);
        }
        if let Some(route) = routes.get_mut(later).filter(|_| !keys.is_empty()) {
            route.flow.get_or_insert((name, keys));
        }
    }
}

/// The cookies, steps and sources by which the unnamed exchanges of a route may be named.
#[allow(clippy::type_complexity)]
fn links<'s>(
    route: &Route<'s>,
    observed: &'s Observed,
) -> Option<(String, Vec<(String, &'s Seen, Vec<(&'static str, String)>)>)> {
    let mut links = Vec::new();
    for seen in route.unnamed() {
        let number = observed.seen.iter().position(|one| std::ptr::eq(one, seen))?;
        let event = seen.events.first()?;
        let confirmed = route.topic.name == "address-change";
        let said = |earlier: &Seen| {
            let typed = |source: &&str| rank(source) <= rank("query.");
            let sources = names_of(&event.actor)
                .into_iter()
                .filter(|(key, _)| *key == "email" || !confirmed)
                .filter_map(|(key, name)| Some((key, earlier.sources_of(name?).find(typed)?.to_owned())));
            sources.collect::<Vec<_>>()
        };
        let before = observed.seen.iter().take(number).rev().take(STEPS_BACK);
        // Of an address that a link confirms: what somebody signed in with before is another one.
        let fits = |earlier: &&Seen| earlier.method != "GET" && (topic(earlier).is_none() || !confirmed);
        let found = before.filter(fits).find_map(|earlier| {
            let sources = said(earlier);
            let cookie = earlier.shared_cookies(seen).next().filter(|_| !sources.is_empty())?;
            Some((format!("cookie.{cookie}"), earlier, sources))
        });
        links.extend(found);
    }
    (!links.is_empty()).then(|| (route.topic.name.to_owned(), links))
}

/// A route for each place where a token is exchanged for another, so that its session goes on.
pub fn renewals<'s>(routes: &mut Vec<Route<'s>>, observed: &'s Observed) {
    let renews = |seen: &&Seen| seen.call.is_none() && !seen.carried.is_empty() && !seen.tokens.is_empty();
    for seen in observed.seen.iter().filter(renews) {
        let place = place::at(seen);
        if routes.iter().any(|route| route.place == place) {
            continue;
        }
        let mut route = Route::step(place, seen, Vec::new());
        route.topic = Topic { name: "renewal" };
        (route.tokens, route.carried) = (seen.tokens.clone(), seen.carried.clone());
        routes.push(route);
    }
}

impl<'s> Route<'s> {
    /// A route that only says who somebody is, to later steps.
    fn step(place: At, seen: &'s Seen, sources: Vec<(&'static str, String)>) -> Route<'s> {
        Route {
            place,
            topic: Topic { name: "step" },
            id: String::new(),
            narrowed: Vec::new(),
            actor: sources.into_iter().map(|(key, source)| (key, vec![source])).collect(),
            method: None,
            tokens: Vec::new(),
            carried: Vec::new(),
            flow: None,
            rules: Vec::new(),
            examples: vec![(seen, Example { class: Went::Nothing, signs: seen.signs.clone() })],
            step: true,
        }
    }

    /// The exchanges whose actor it could not name by itself.
    fn unnamed(&self) -> impl Iterator<Item = &'s Seen> {
        let named = |seen: &Seen, event: &Event| {
            let found = |(key, sources): &(&str, Vec<String>)| {
                let name = names_of(&event.actor).into_iter().find(|(k, _)| k == key).and_then(|(_, name)| name);
                name.is_some_and(|name| seen.sources_of(name).any(|source| sources.iter().any(|s| s == source)))
            };
            self.actor.iter().any(found)
        };
        self.examples.iter().filter_map(move |(seen, _)| {
            seen.events.first().filter(|event| !event.actor.is_empty() && !named(seen, event))?;
            // Of a session its memory knows the actor; but not the address that a link confirms.
            let known = seen.signs.contains(&Sign::SessionKnown(true));
            (!known || self.topic.name == "address-change").then_some(*seen)
        })
    }
}
