//! One route of a draft: what it matches, who did it, its rules, and a test for each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::observe::{Call, Observed, Seen, names_of};
use super::place::{self, At, Place, Topic, Went, pattern, topic};
use super::rules::{Example, Telling, list};
use super::sign::{Part, Sign, condition};
use super::yaml::Yaml;
use crate::event::{Event, Outcome};

/// What a made-up person is called in a test.
const WHO: &str = "alice@example.test";
/// The most sources of one name.
const MAX_SOURCES: usize = 4;
/// How many exchanges back a step is looked for that said who somebody is.
const STEPS_BACK: usize = 400;

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

    /// The route as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a text cannot fail.
        let _ = match self.examples.len() {
            0 | 1 => writeln!(out, "  # Seen once."),
            times => writeln!(out, "  # Seen {times} times."),
        };
        let _ = writeln!(out, "  - id: {}\n    match: {}", self.id, self.matched());
        if !self.actor.is_empty() {
            let mut actor = Yaml::map();
            for (key, sources) in &self.actor {
                actor.put(&[key], one_or_list(sources));
            }
            let _ = writeln!(out, "    actor: {actor}");
        }
        if let Some(method) = &self.method {
            let _ = writeln!(out, "    method: {method}");
        }
        let mut session = Yaml::map();
        let tokens: Vec<String> = self.tokens.iter().map(|pointer| format!("response.json:{pointer}")).collect();
        for (key, sources) in [("token", &tokens), ("carried", &self.carried)] {
            if !sources.is_empty() {
                session.put(&[key], one_or_list(sources));
            }
        }
        if !session.is_empty() {
            let _ = writeln!(out, "    session: {session}");
        }
        if let Some((name, keys)) = &self.flow {
            let _ = writeln!(out, "    flow: {{ name: {name}, key: {}, ttl: 1h }}", one_or_list(keys));
        }
        if self.step {
            out.push_str("    rules: [ { name: no-event, outcome: ignore } ]\n    emit: user.login.success\n");
            return out;
        }
        let emit = self.emit();
        out.push_str("    rules:\n");
        for (signs, then) in &self.rules {
            let mut rule = Yaml::map();
            // Two signs that contradict each other were never in one list.
            rule.put(&["when"], condition(signs, Part::When).unwrap_or(Yaml::map()));
            match then {
                Then::Decides(went) => decides(&mut rule, went, &emit),
                Then::Follows(next) => {
                    let rules = next.iter().map(|telling| {
                        let when = condition(&telling.signs, Part::When).unwrap_or(Yaml::map());
                        let mut rule = Yaml::map().with("when", when);
                        decides(&mut rule, &telling.class, &emit);
                        rule
                    });
                    let follow = Yaml::map().with("within", Yaml::word("15s"));
                    rule.put(&["follow"], follow.with("rules", Yaml::List(rules.collect())));
                }
            }
            let _ = writeln!(out, "      - {rule}");
        }
        let default = if self.topic.name == "login" { "unknown" } else { "ignore" };
        let mut types = Yaml::map();
        for (outcome, name) in &emit {
            types.put(&[outcome.as_str()], Yaml::word(name));
        }
        let _ = writeln!(out, "    default: {default}\n    emit: {types}\n    tests:");
        for test in self.tests() {
            let _ = writeln!(out, "      - {test}");
        }
        out
    }

    fn matched(&self) -> Yaml {
        let (path, _) = pattern(&self.place.path);
        let mut matched = Yaml::map().with("method", Yaml::word(&self.place.method)).with("path", Yaml::text(&path));
        match &self.place.call {
            Some(Call::GraphQl(operation, field)) => {
                matched.put(&["graphql", "operation"], Yaml::word(operation));
                matched.put(&["graphql", "field"], Yaml::text(field));
            }
            Some(Call::XmlRpc(method)) => {
                matched.put(&["xmlrpc", "method"], Yaml::text(method));
            }
            None => {}
        }
        self.narrowed.iter().for_each(|sign| {
            sign.put(Part::Match, &mut matched);
        });
        matched
    }

    /// The type of each outcome, unless a rule says otherwise.
    fn emit(&self) -> BTreeMap<Outcome, String> {
        let mut emit = BTreeMap::new();
        for (_, example) in &self.examples {
            if let Went::Said { outcome, types, .. } = &example.class
                && let Some(first) = types.first()
            {
                emit.entry(*outcome).or_insert_with(|| first.clone());
            }
        }
        emit
    }

    fn tests(&self) -> Vec<Yaml> {
        let mut tests = Vec::new();
        let mut classes = BTreeSet::new();
        for (seen, example) in &self.examples {
            if !classes.insert(&example.class) {
                continue;
            }
            let followed = self.rules.iter().find(|(signs, _)| signs.iter().all(|sign| example.signs.contains(sign)));
            let followed = matches!(followed, Some((_, Then::Follows(_))));
            let (name, expect) = self.expected(&example.class, tests.len());
            let mut test =
                Yaml::map().with("name", Yaml::text(&name)).with("request", self.request(seen, &example.signs));
            test.put(&["response"], response(self.place.call.as_ref(), &example.signs));
            if let Some(next) = seen.next.as_ref().filter(|_| followed) {
                test.put(&["next", "response"], response(None, next));
                let at = next.iter().find_map(|sign| if let Sign::At(path) = sign { Some(path) } else { None });
                if let Some(path) = at {
                    test.put(&["next", "request", "path"], Yaml::text(path));
                }
            }
            tests.push(test.with("expect", expect));
        }
        tests
    }

    fn expected(&self, went: &Went, number: usize) -> (String, Yaml) {
        let Went::Said { outcome, types, .. } = went else { return ("nothing happened".into(), Yaml::word("none")) };
        let mut expect = Yaml::map();
        if let Some(first) = types.first() {
            expect.put(&["event_type"], Yaml::word(first));
        }
        expect.put(&["outcome"], Yaml::word(outcome.as_str()));
        let typed = |source: &String| ["form.", "json:", "query."].iter().any(|kind| source.starts_with(kind));
        let known = self.actor.iter().find(|(key, sources)| *key == "login" && sources.iter().all(typed));
        if known.is_some_and(|(_, sources)| sources.len() == 1) {
            expect.put(&["actor", "login"], Yaml::text(WHO));
        }
        if types.len() > 1 {
            expect.put(&["also"], Yaml::List(types.iter().skip(1).map(|name| Yaml::word(name)).collect()));
        }
        (format!("{outcome} ({})", number + 1), expect)
    }

    /// The request of a test: the names that were seen, with made-up values.
    fn request(&self, seen: &Seen, signs: &BTreeSet<Sign>) -> Yaml {
        let value = |source: &str| {
            let named = self.actor.iter().any(|(_, sources)| sources.iter().any(|known| known == source));
            Yaml::text(if named { WHO } else { "made-up" })
        };
        let mut request = Yaml::map();
        let (pattern, path) = pattern(&self.place.path);
        if pattern != path {
            request.put(&["path"], Yaml::text(&path));
        }
        for sign in signs {
            match sign {
                Sign::Does(name, word) => request.put(&["form", name], Yaml::text(word)),
                Sign::Filled(name) => request.put(&["form", name], value(&format!("form.{name}"))),
                Sign::QueryDoes(name, word) => request.put(&["query", name], Yaml::text(word)),
                Sign::Query(name) => request.put(&["query", name], value(&format!("query.{name}"))),
                Sign::CookieGone(name) => {
                    request.put(&["cookies", &name.replace('*', "made-up")], Yaml::text("made-up"))
                }
                Sign::SessionKnown(true) => request.put(&["session", "login"], Yaml::text(WHO)),
                _ => continue,
            };
        }
        match &self.place.call {
            Some(Call::GraphQl(operation, field)) => {
                request.put(&["json", "query"], Yaml::text(&format!("{operation} {{ {field} }}")));
            }
            Some(Call::XmlRpc(method)) => {
                let body = format!(
                    "<?xml version=\"1.0\"?><methodCall><methodName>{method}</methodName><params></params></methodCall>"
                );
                request.put(&["headers", "content-type"], Yaml::text("text/xml"));
                request.put(&["body"], Yaml::text(&body));
            }
            None if !seen.json.is_empty() => {
                let mut json = serde_json::Value::Null;
                for pointer in &seen.json {
                    let word = signs.iter().find_map(|sign| match sign {
                        Sign::Says(at, word) if at == pointer => Some(word.as_str()),
                        _ => None,
                    });
                    let named = self.actor.iter().any(|(_, all)| all.iter().any(|s| *s == format!("json:{pointer}")));
                    put(&mut json, pointer, word.unwrap_or(if named { WHO } else { "made-up" }).into());
                }
                request.put(&["json"], Yaml::Word(json.to_string()));
            }
            None => {}
        }
        request
    }
}

/// What came of it, without what was asked for.
fn answered(example: &Example<Went>) -> Example<Went> {
    let signs = example.signs.iter().filter(|sign| !sign.is_asked()).cloned().collect();
    Example { class: example.class.clone(), signs }
}

fn plain(rules: Vec<Telling<Went>>) -> Vec<(Vec<Sign>, Then)> {
    rules.into_iter().map(|rule| (rule.signs, Then::Decides(rule.class))).collect()
}

/// The same without rules for nothing that the default says too, and with an answer's status beside what
/// was only asked for: that it was asked for does not show that it was done.
fn shown(mut rules: Vec<(Vec<Sign>, Then)>, all: &[Example<Went>], topic: Topic) -> Vec<(Vec<Sign>, Then)> {
    let nothing = |rule: Option<&(Vec<Sign>, Then)>| matches!(rule, Some((_, Then::Decides(Went::Nothing))));
    while topic.name != "login" && nothing(rules.last()) {
        rules.pop();
    }
    for (signs, then) in &mut rules {
        let Then::Decides(went) = then else { continue };
        if *went != Went::Nothing && signs.iter().all(|sign| sign.is_asked() || matches!(sign, Sign::SessionKnown(_))) {
            let mine = || all.iter().filter(|example| example.class == *went);
            let status = mine().next().and_then(|example| example.signs.iter().find(|s| matches!(s, Sign::Status(_))));
            signs.extend(status.filter(|status| mine().all(|example| example.signs.contains(*status))).cloned());
        }
    }
    rules
}

/// Rules where the page behind a redirect tells what the redirect does not.
fn follow(
    examples: &[(&Seen, Example<Went>)],
    all: &[Example<Went>],
    rules: Vec<Telling<Went>>,
) -> Option<Vec<(Vec<Sign>, Then)>> {
    let decided =
        |example: &Example<Went>| rules.iter().any(|rule| rule.signs.iter().all(|sign| example.signs.contains(sign)));
    let open: Vec<(&Seen, &Example<Went>)> =
        examples.iter().map(|(seen, _)| *seen).zip(all).filter(|(_, example)| !decided(example)).collect();
    let next = open
        .iter()
        .filter_map(|(seen, example)| Some(Example { class: example.class.clone(), signs: seen.next.clone()? }));
    let next: Vec<Example<Went>> = next.collect();
    // Nothing may have happened without a page behind it; an event was decided by one.
    let all_told = open.iter().all(|(seen, example)| seen.next.is_some() || example.class == Went::Nothing);
    let (told, left) = list(&next);
    if !all_told || next.is_empty() || !left.is_empty() || told.is_empty() {
        return None;
    }
    let status = open
        .iter()
        .find_map(|(_, example)| example.signs.iter().find(|sign| matches!(sign, Sign::Status(_))).cloned())?;
    let same = open.iter().all(|(_, example)| example.signs.contains(&status));
    let mut made = plain(rules);
    made.push((vec![status], Then::Follows(told)));
    same.then_some(made)
}

/// What a rule says beside its condition.
fn decides(rule: &mut Yaml, went: &Went, emit: &BTreeMap<Outcome, String>) {
    let Went::Said { outcome, types, reason } = went else {
        rule.put(&["outcome"], Yaml::word("ignore"));
        return;
    };
    rule.put(&["outcome"], Yaml::word(outcome.as_str()));
    if let Some(reason) = reason {
        rule.put(&["reason"], Yaml::word(reason));
    }
    if let Some((first, further)) = types.split_first() {
        if emit.get(outcome) != Some(first) {
            rule.put(&["emit"], Yaml::word(first));
        }
        if !further.is_empty() {
            rule.put(&["also"], Yaml::List(further.iter().map(|name| Yaml::word(name)).collect()));
        }
    }
}

fn one_or_list(sources: &[String]) -> Yaml {
    match sources {
        [one] => Yaml::text(one),
        several => Yaml::List(several.iter().map(|source| Yaml::text(source)).collect()),
    }
}

/// How people proved themselves, if it is always the same.
fn method(events: &[(&Seen, &Event)]) -> Option<String> {
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
fn of_sessions(topic: Topic, events: &[(&Seen, &Event)]) -> bool {
    let names_somebody = ["login", "sign-up", "reset", "reset-request", "address-change"].contains(&topic.name);
    !names_somebody && events.iter().all(|(seen, _)| seen.signs.contains(&Sign::SessionKnown(true)))
}

/// Where the names of actors stood: for each key the fewest sources that have them all, or else most.
fn actor(events: &[(&Seen, &Event)]) -> Vec<(&'static str, Vec<String>)> {
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
fn rank(source: &str) -> usize {
    let order = ["form.", "json:", "graphql:", "xmlrpc.", "basic.", "query.", "jwt:", "response.", "cookie."];
    order.iter().position(|kind| source.starts_with(kind)).unwrap_or(order.len())
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
}

/// The answer of a test, with every sign that the one had that was seen.
fn response(call: Option<&Call>, signs: &BTreeSet<Sign>) -> Yaml {
    let mut response = Yaml::map();
    let mut json = serde_json::Value::Null;
    let mut body = None;
    let (mut location, mut query) = (None, Vec::new());
    let status = signs.iter().find_map(|sign| if let Sign::Status(status) = sign { Some(*status) } else { None });
    response.put(&["status"], Yaml::word(&status.unwrap_or(200).to_string()));
    // A word is put where what is only known to be there was put before.
    for sign in signs
        .iter()
        .filter(|sign| !matches!(sign, Sign::Code(..)))
        .chain(signs.iter().filter(|sign| matches!(sign, Sign::Code(..))))
    {
        match sign {
            Sign::Location(path) => location = Some(path.as_str()),
            Sign::LocationQuery(name) => query.push(format!("{name}=made-up")),
            Sign::AsksPassword => body = Some("<input type=\"password\">".to_owned()),
            Sign::Json(pointer, yes) => put(&mut json, pointer, yes.map_or_else(|| "made-up".into(), Into::into)),
            Sign::Code(pointer, word) => put(&mut json, pointer, word.as_str().into()),
            Sign::Cookie(name) => {
                response.put(&["set_cookie", &name.replace('*', "made-up")], Yaml::text("made-up"));
            }
            Sign::CookieGone(name) => {
                response.put(&["set_cookie", &name.replace('*', "made-up")], Yaml::word("deleted"));
            }
            Sign::Fault(yes) => {
                let inner = if *yes {
                    "<fault><value><struct></struct></value></fault>"
                } else {
                    "<params><param><value><string>made-up</string></value></param></params>"
                };
                body = Some(format!("<?xml version=\"1.0\"?><methodResponse>{inner}</methodResponse>"));
                response.put(&["headers", "content-type"], Yaml::text("text/xml"));
            }
            _ => {}
        }
    }
    if let Some(Call::GraphQl(_, field)) = call {
        let code = signs.iter().find_map(|sign| if let Sign::ErrorCode(code) = sign { Some(code) } else { None });
        json = match signs.contains(&Sign::Errors(true)) {
            true => serde_json::json!({"errors": [{"extensions": {"code": code}}]}),
            false => serde_json::json!({"data": {field: "made-up"}}),
        };
    }
    if location.is_some() || !query.is_empty() {
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        response.put(&["location"], Yaml::text(&format!("{}{query}", location.unwrap_or("/made-up"))));
    }
    match body {
        Some(body) => response.put(&["body"], Yaml::text(&body)),
        None if !json.is_null() => response.put(&["json"], Yaml::Word(json.to_string())),
        None => true,
    };
    response
}

/// Puts a value at a pointer, where `*` is the first of a list; what stood above it becomes a mapping or list.
fn put(json: &mut serde_json::Value, pointer: &str, value: serde_json::Value) {
    use serde_json::Value;
    let mut at = json;
    for name in pointer.split('/').skip(1) {
        if name == "*" {
            if !at.is_array() {
                *at = Value::Array(vec![Value::Null]);
            }
            let Some(first) = at.as_array_mut().and_then(|items| items.first_mut()) else { return };
            at = first;
            continue;
        }
        if !at.is_object() {
            *at = Value::Object(serde_json::Map::new());
        }
        let Value::Object(members) = at else { return };
        at = members.entry(name).or_insert(Value::Null);
    }
    // Its members came first.
    if !at.is_object() && !at.is_array() {
        *at = value;
    }
}
