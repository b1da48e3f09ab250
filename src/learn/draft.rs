//! The draft itself: its head, a route for each place and topic, and what is left to auto.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::observe::Observed;
use super::place::{self, Topic};
use super::route::{self, Route};
use super::sign::Sign;
use super::yaml::{Yaml, comment, quoted};

/// The most session cookies that a draft names.
const MAX_COOKIES: usize = 4;

/// What the draft says beside its routes.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The application.
    pub upstream: &'a str,
    /// Where clients came in, if the traffic was live.
    pub listen: Option<&'a str>,
    /// What it was learnt from, in a few words.
    pub from: &'a str,
    /// False if routes are wanted even where there is a preset.
    pub presets: bool,
}

/// Writes the draft of a configuration.
pub fn draft(observed: &Observed, head: &Head<'_>) -> String {
    let mut out = format!(
        "# A draft, written by `authtap learn` from {}. Read it before you use it; then:\n\
         #   authtap check routes.yaml && authtap test routes.yaml\n\
         version: 1\n",
        comment(head.from)
    );
    // Writing to a text cannot fail.
    let _ = head.listen.map(|listen| writeln!(out, "listen: {}", quoted(listen)));
    let _ = writeln!(out, "upstream: {}", quoted(head.upstream));
    if let Some(found) = observed.presets.first().filter(|_| head.presets) {
        let _ = writeln!(
            out,
            "\n# This is an application that there is a preset for, by: {}.",
            comment(&found.signs.join(", "))
        );
        out.push_str("# Its routes are better than any that could be learnt from a recording.\n");
        let names: Vec<&str> = observed.presets.iter().map(|found| found.preset).collect();
        let _ = writeln!(out, "presets: [{}]", names.join(", "));
        out.push_str("\n# A preset is silent on purpose where auto would guess.\nauto: off\n");
        return out;
    }
    let mut left = Vec::new();
    let mut routes = Vec::new();
    for place in place::places(observed) {
        for topic in place.topics() {
            match Route::learn(&place, &topic) {
                Ok(route) => routes.push(route),
                Err(why) => left.push(format!("# {} ({}): {why}\n", comment(&place.name()), name_of(&topic))),
            }
        }
    }
    route::connect(&mut routes, observed);
    route::renewals(&mut routes, observed);
    // Narrow ones first: the first route that matches decides.
    routes.sort_by_key(Route::order);
    route::name(&mut routes);
    let session = session(observed, &routes);
    if !session.is_empty() {
        let _ =
            writeln!(out, "\n# What changed when somebody signed in, and where tokens came back.\nsession: {session}");
    }
    // What no route takes is still recognised by itself.
    out.push_str("\n# What no route below takes is recognised by what it looks like.\nauto: on\n");
    if !left.is_empty() {
        out.push_str("#\n# Left to that, as no rule could be written:\n");
        left.iter().for_each(|line| out.push_str(line));
    }
    match routes.is_empty() {
        true => out.push_str("\nroutes: []\n"),
        false => {
            out.push_str("\nroutes:\n");
            routes.iter().for_each(|route| out.push_str(&route.text()));
        }
    }
    out
}

fn name_of(topic: &Topic) -> &str {
    topic.name
}

/// Cookies that changed at logins that succeeded, and headers in which tokens came back.
///
/// A cookie that says whose it is in its first part may be read by a route, or be declared a session, but
/// not both: then the cookies are left to be recognised at the first login.
fn session(observed: &Observed, routes: &[Route<'_>]) -> Yaml {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for seen in &observed.seen {
        let signed_in = seen.events.iter().any(|event| event.event_type.as_str() == "user.login.success");
        for sign in seen.signs.iter().filter(|_| signed_in) {
            if let Sign::Cookie(name) = sign {
                *counts.entry(name).or_default() += 1;
            }
        }
    }
    let mut names: Vec<(&str, usize)> = counts.into_iter().collect();
    names.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    let list = |names: &mut dyn Iterator<Item = &str>| Yaml::List(names.map(Yaml::text).collect());
    let cookies = list(&mut names.iter().map(|(name, _)| *name).take(MAX_COOKIES));
    let headers: BTreeSet<&str> = observed.token_headers.iter().map(String::as_str).collect();
    let headers = list(&mut headers.into_iter().take(MAX_COOKIES));
    let cookies = if routes.iter().any(Route::reads_a_cookie) { Yaml::List(Vec::new()) } else { cookies };
    let mut session = Yaml::map();
    for (key, value) in [("cookies", cookies), ("headers", headers)] {
        if !value.is_empty() {
            session.put(&[key], value);
        }
    }
    session
}
