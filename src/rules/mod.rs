//! The rule set: which exchanges are looked at, what of them, and what they mean.
//!
//! Three questions, in the order of an exchange's life. [`RuleSet::candidates`] runs on the traffic
//! path for every request and says no without allocating. [`RuleSet::wants_answer`] runs when the
//! answer's head is there and says whether its body can still matter. [`RuleSet::decide`] runs in
//! the pipeline with everything known. The first route that matches decides; within it, the first
//! rule that holds; what no rule decides takes the route's default.

pub mod calls;
pub mod case;
pub mod condition;
pub mod declared;
pub mod extract;
pub mod facts;
pub mod follow;
pub mod graphql;
pub mod matcher;
mod method;
pub mod path;
mod places;
pub mod presets;
pub mod route;
pub mod sample;
pub mod source;
pub mod trace;
pub mod xmlrpc;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use http::Method;
use http::header::AUTHORIZATION;

use crate::body::wanted::Wanted;
use crate::config::node::Node;
use crate::config::problem::Problems;
use crate::event::{EventType, Outcome, Text};
use calls::Scope;
use condition::{Condition, Needs, is_plain, may_have, may_have_any};
use facts::Facts;
use follow::Follow;
use places::Places;
use route::Route;

/// The most routes a set may have.
pub const MAX_ROUTES: usize = 10_000;

/// The most pairs of paths that are compared for shadowed routes: a warning is not worth more.
const MAX_COMPARED: usize = 60_000_000;

/// Compiled routes with an index over their paths.
#[derive(Debug, Default)]
pub struct RuleSet {
    routes: Vec<Route>,
    /// Where all routes are.
    places: Places,
    /// Where those are that a GET without credentials may belong to: few, where most requests are.
    of_get: Places,
    /// Where those are that any GET may belong to, if they are more.
    of_get_with_credentials: Option<Places>,
    /// Routes that name no path.
    anywhere: Vec<u16>,
    /// Those of them that a GET may belong to.
    anywhere_of_get: AnywhereOfGet,
    /// Which bodies of a next request the follow-ups read, all together.
    follow_needs: Needs,
}

/// Routes without a path that a GET may belong to, by what it must carry. Most carry none of it, and
/// asking each route is what many would cost.
#[derive(Debug, Default)]
struct AnywhereOfGet {
    /// Nothing in particular.
    always: Vec<u16>,
    /// A query field of this name.
    with_query: Vec<(u16, String)>,
    /// Those names.
    queries: Wanted,
    /// `Authorization`.
    with_credentials: Vec<u16>,
}

/// What a GET must carry to belong to a route.
pub(crate) enum Carries<'r> {
    Anything,
    Query(&'r str),
    Credentials,
}

/// Routes that a request may belong to, in order.
#[derive(Debug, Default)]
pub struct Candidates {
    routes: Vec<u16>,
    /// True if the request's body can matter.
    pub wants_request_body: bool,
}

impl Candidates {
    /// True if no route is about the request.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

/// What an exchange was decided to be.
#[derive(Debug)]
pub struct Decision<'r> {
    /// The route that decided.
    pub route: &'r Route,
    /// The rule that decided, or `default`, or `undecided` where a cut body left it open.
    pub rule: Text,
    /// How it went.
    pub outcome: Outcome,
    /// Why.
    pub reason: Option<Text>,
    /// What is emitted: the primary type first; empty if nothing is.
    pub types: Vec<EventType>,
    /// The client's next request decides; until it comes, the outcome is unknown.
    pub follow: Option<&'r Follow>,
}

impl RuleSet {
    /// Reads `routes:`. `cookies` are the names of session cookies.
    pub fn check(nodes: &[Node], cookies: &[String], problems: &mut Problems) -> RuleSet {
        RuleSet::check_with(nodes, Vec::new(), cookies, false, problems)
    }

    /// The same with routes of presets, which come after: a route of the file is asked first, and
    /// takes the place of one with its id. `overridden`: in the routes of the file a POST counts as the
    /// method that it names, but for those that say otherwise.
    pub fn check_with(
        nodes: &[Node],
        presets: Vec<Route>,
        cookies: &[String],
        overridden: bool,
        problems: &mut Problems,
    ) -> RuleSet {
        let mut routes: Vec<Route> = Vec::new();
        let mut places: Vec<&Node> = Vec::new();
        let mut ids: HashMap<Text, usize> = HashMap::new();
        for node in nodes.iter().take(MAX_ROUTES) {
            let Some(mut route) = Route::check(node, cookies, problems) else { continue };
            if overridden && node.child("match").is_none_or(|at| at.child("method_override").is_none()) {
                route.honour_overrides();
            }
            match ids.entry(route.id.clone()) {
                Entry::Vacant(free) => {
                    free.insert(node.span.start);
                }
                Entry::Occupied(first) => {
                    let (line, _) = problems.line_column(*first.get());
                    let message = format!("two routes are called `{}`", route.id);
                    let at = node.child("id").unwrap_or(node);
                    problems.error_hint(at, message, &format!("the first is in line {line}: give each its own id"));
                }
            }
            routes.push(route);
            places.push(node);
        }
        if nodes.len() > MAX_ROUTES {
            let hint = "a pattern may stand for many paths: template:/users/{id}";
            problems.error_hint(&nodes[MAX_ROUTES], format!("more than {MAX_ROUTES} routes"), hint);
        }
        shadowed_routes(&routes, &places, problems);
        let room = MAX_ROUTES.saturating_sub(routes.len());
        routes.extend(presets.into_iter().filter(|route| !ids.contains_key(&route.id)).take(room));
        RuleSet::new(routes)
    }

    /// A set of these routes.
    pub fn new(routes: Vec<Route>) -> RuleSet {
        let mut set = RuleSet::default();
        let numbered = || routes.iter().enumerate().map(|(i, route)| (i as u16, route));
        set.anywhere.extend(numbered().filter(|(_, route)| route.paths.is_empty()).map(|(i, _)| i));
        let of_get = || numbered().filter(|(_, route)| route.allows_get());
        let credited = |route: &Route| matches!(route.carries_of_get(), Carries::Credentials);
        let (of_all, of_few) = (Places::of(numbered()), Places::of(of_get().filter(|(_, route)| !credited(route))));
        let more = of_get().any(|(_, route)| !route.paths.is_empty() && credited(route)).then(|| Places::of(of_get()));
        let (more, much) = more.map_or((None, Vec::new()), |(more, much)| (Some(more), much));
        // Patterns that are too much together are tried one by one instead.
        set.anywhere.extend(of_all.1.into_iter().chain(of_few.1).chain(much));
        (set.places, set.of_get, set.of_get_with_credentials) = (of_all.0, of_few.0, more);
        set.anywhere.sort_unstable();
        set.anywhere.dedup();
        for (i, route) in set.anywhere.iter().filter_map(|i| Some((*i, routes.get(usize::from(*i))?))) {
            if route.allows_get() {
                let sorted = &mut set.anywhere_of_get;
                match route.carries_of_get() {
                    Carries::Anything => sorted.always.push(i),
                    Carries::Query(name) => sorted.with_query.push((i, name.to_owned())),
                    Carries::Credentials => sorted.with_credentials.push(i),
                }
            }
        }
        let asked = set.anywhere_of_get.with_query.iter().map(|(_, name)| name.as_str());
        // A name that may be written in several ways is not looked up, so then every one is asked for.
        let asked = asked.map(|name| if is_plain(name) { name } else { "*" }).map(str::to_owned);
        set.anywhere_of_get.queries = Wanted::new(asked.collect());
        let follows = routes.iter().flat_map(|r| &r.rules).filter_map(|r| r.follow.as_ref());
        set.follow_needs = follows.map(Follow::needs).fold(Needs::default(), Needs::or);
        set.routes = routes;
        set
    }

    /// The routes in order.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The routes that some request can reach: those whose requests no earlier one takes all.
    pub fn reachable(&self) -> impl Iterator<Item = &Route> {
        let mut work = 0_usize;
        let routes = self.routes.iter().enumerate();
        routes.filter(move |(i, route)| shadow_of(route, &self.routes[..*i], &mut work).is_none()).map(|(_, r)| r)
    }

    /// The routes a request may belong to, by its head; `None` for almost every request.
    /// Allocates nothing to say no (but for paths with escapes).
    pub fn candidates(&self, facts: &Facts<'_>) -> Option<Candidates> {
        let AnywhereOfGet { always, with_query, with_credentials, queries } = &self.anywhere_of_get;
        let query = facts.uri.query();
        let (places, anywhere, with_query, with_credentials): (_, &[u16], &[_], &[u16]) =
            match *facts.method == Method::GET {
                true => {
                    let more = self.of_get_with_credentials.as_ref();
                    let credentials =
                        (more.is_some() || !with_credentials.is_empty()) && facts.headers.contains_key(AUTHORIZATION);
                    let (places, with_credentials): (_, &[u16]) = match credentials {
                        true => (more.unwrap_or(&self.of_get), with_credentials),
                        false => (&self.of_get, &[]),
                    };
                    let asked = query.is_some_and(|query| may_have_any(query, queries));
                    (places, always, if asked { with_query } else { &[] }, with_credentials)
                }
                false => (&self.places, &self.anywhere, &[], &[]),
            };
        let exact = places.exact(&facts.path);
        let fits = places.fits(&facts.path);
        if exact.is_empty() && anywhere.is_empty() && with_query.is_empty() && with_credentials.is_empty() && !fits {
            return None;
        }
        // Filtered before it is collected: an empty collection is no allocation.
        // No login is asked for by a preflight: such methods count only where a route names them.
        let aside = [Method::HEAD, Method::OPTIONS, Method::TRACE, Method::CONNECT].contains(facts.method);
        let may_match = |i: &u16| {
            self.route(*i).is_some_and(|r| {
                ((!aside || r.names_methods()) && matched(&r.demands, facts) != Some(false)) || r.is_page(facts)
            })
        };
        let mut routes: Vec<u16> = {
            let with_query = with_query.iter().filter(|(_, name)| may_have(query, name)).map(|(i, _)| i);
            let all = exact.iter().chain(anywhere).chain(with_query).chain(with_credentials);
            all.copied().filter(may_match).collect()
        };
        if fits {
            routes.extend(places.patterned(&facts.path).filter(may_match));
        }
        routes.sort_unstable();
        routes.dedup();
        if routes.is_empty() {
            return None;
        }
        let wants_request_body = routes
            .iter()
            .filter_map(|i| self.route(*i))
            .any(|r| r.demand_needs.request_body || r.source_needs.request_body || r.rule_needs.request_body);
        Some(Candidates { routes, wants_request_body })
    }

    /// The patterns that make each GET be looked at by the automaton of all of them.
    #[cfg(test)]
    pub(in crate::rules) fn loose_patterns_of_get(&self) -> Vec<&str> {
        self.of_get.loose()
    }

    /// True if a preset is about the place and method of the request: where none of its routes took
    /// it, the preset is silent on purpose.
    pub fn preset_is_about(&self, facts: &Facts<'_>) -> bool {
        let exact = self.places.exact(&facts.path).iter().copied();
        // Patterns that were too much for one set stand here too.
        let mut routes = exact
            .chain(self.places.patterned(&facts.path))
            .chain(self.anywhere.iter().copied())
            .filter_map(|i| self.route(i));
        routes.any(|route| route.preset.is_some() && route.is_about(facts))
    }

    /// True if the answer's body can still matter, now that its head is known.
    pub fn wants_answer(&self, candidates: &Candidates, facts: &Facts<'_>) -> bool {
        candidates.routes.iter().filter_map(|i| self.route(*i)).any(|route| {
            if route.is_page(facts) {
                return is_served_page(facts);
            }
            // What is ignored may still tell the next step of a flow, or hand out a token.
            let silent = route.flow.is_none() && route.tokens.is_empty();
            let read = |outcome: Outcome| route.source_needs.response_body && !(silent && outcome == Outcome::Ignore);
            for rule in &route.rules {
                let held = rule.when.as_ref().map_or(Some(true), |c| c.holds(facts));
                match held {
                    Some(true) => return read(rule.outcome),
                    Some(false) => {}
                    None => {
                        // Open for another reason than the body (a form field, the session): it may decide.
                        if rule.when.as_ref().is_some_and(|c| c.needs().response_body) || read(rule.outcome) {
                            return true;
                        }
                    }
                }
            }
            read(route.default)
        })
    }

    /// Which bodies of a next request the follow-ups read.
    pub fn follow_needs(&self) -> Needs {
        self.follow_needs
    }

    /// How long the next request of the client may be waited for, now that the answer's head is
    /// known; `None` if nothing will wait for it.
    pub fn may_follow(&self, candidates: &Candidates, facts: &Facts<'_>) -> Option<Duration> {
        let routes = candidates.routes.iter().filter_map(|i| self.route(*i));
        let within = routes.filter_map(|route| {
            let mut rules =
                route.rules.iter().map(|rule| (rule, rule.when.as_ref().map_or(Some(true), |c| c.holds(facts))));
            let (rule, _) = rules.find(|(rule, held)| match held {
                Some(true) => true,
                Some(false) => false,
                None => rule.follow.is_some(),
            })?;
            rule.follow.as_ref().map(|follow| follow.within)
        });
        within.max()
    }

    /// What the next exchange says about the one that waited for it; `None` if it does not decide.
    pub fn decide_followed<'r>(route: &'r Route, follow: &'r Follow, facts: &Facts<'_>) -> Option<Decision<'r>> {
        for rule in &follow.rules {
            match rule.when.as_ref().map_or(Some(true), |c| c.holds(facts)) {
                Some(true) => return Some(decision(route, Some(rule))),
                Some(false) => {}
                None => return None,
            }
        }
        None
    }

    /// Decides each call of the exchange in turn: the one there usually is, or those of a batch that
    /// its routes tell apart. While `decided` runs, the facts are those of the call. Answers how many
    /// calls were left out, at the least: those beyond [`calls::MAX_EVENTS`] that emit, successes apart, or
    /// one if there were more than [`calls::MAX_CALLS`].
    pub fn decide_each<'r>(
        &'r self,
        candidates: &Candidates,
        facts: &Facts<'_>,
        mut decided: impl FnMut(Decision<'r>),
    ) -> usize {
        let scope = candidates.routes.iter().filter_map(|i| self.route(*i)).map(|r| r.scope).max();
        let several = scope.is_some_and(|scope| scope > Scope::Exchange);
        let calls = if several { facts.calls().len() } else { 1 };
        // A thousand guesses must not push out the one that was right.
        let mut emitted = [0_usize; 2];
        let mut left_out = usize::from(several && facts.calls().cut());
        for call in 0..calls {
            facts.look_at(call);
            let Some(decision) = self.decide(candidates, facts) else { continue };
            // The call of an exchange that is one to its route has been decided with the first.
            if decision.route.scope < facts.widest() {
                continue;
            }
            if !decision.types.is_empty() {
                let [guesses, successes] = &mut emitted;
                let count = if decision.outcome == Outcome::Success { successes } else { guesses };
                *count += 1;
                if *count > calls::MAX_EVENTS {
                    left_out += 1;
                    continue;
                }
            }
            decided(decision);
        }
        facts.look_at(0);
        left_out
    }

    /// What the call that is looked at means; `None` if no route is about it.
    pub fn decide<'r>(&'r self, candidates: &Candidates, facts: &Facts<'_>) -> Option<Decision<'r>> {
        let mut routes = candidates.routes.iter().filter_map(|i| self.route(*i));
        let route = routes.find(|r| matched(&r.demands, facts) == Some(true))?;
        for rule in &route.rules {
            let held = rule.when.as_ref().map_or(Some(true), |c| c.holds(facts));
            match held {
                Some(true) => return Some(decision(route, Some(rule))),
                Some(false) => {}
                // What is not known might have decided: nothing after it may (never claim what
                // was not seen).
                None => {
                    let types = route.type_of(Outcome::Unknown).cloned().into_iter().collect();
                    return Some(Decision {
                        route,
                        rule: Text::fixed("undecided"),
                        outcome: Outcome::Unknown,
                        reason: Some(Text::fixed(if facts.response.is_none() { "no_answer" } else { "body_cut" })),
                        types,
                        follow: None,
                    });
                }
            }
        }
        Some(decision(route, None))
    }

    /// The route that takes the request, if what is known already leaves no doubt.
    pub fn certain<'r>(&'r self, candidates: &Candidates, facts: &Facts<'_>) -> Option<&'r Route> {
        let routes = candidates.routes.iter().filter_map(|i| self.route(*i));
        let mut held = routes.map(|route| (route, matched(&route.demands, facts)));
        // One that is still open might come before one that is not.
        let (route, held) = held.find(|(_, held)| *held != Some(false))?;
        held.is_some().then_some(route)
    }

    /// The place of the route that decided.
    pub fn place_of(&self, decision: &Decision<'_>) -> Option<usize> {
        self.routes.iter().position(|route| std::ptr::eq(route, decision.route))
    }

    /// The route whose form the answer serves, if it is a page of one.
    pub fn serves<'r>(&'r self, candidates: &Candidates, facts: &Facts<'_>) -> Option<&'r Route> {
        let mut routes = candidates.routes.iter().filter_map(|i| self.route(*i));
        routes.find(|route| route.is_page(facts)).filter(|_| is_served_page(facts))
    }

    /// The route that takes the request and holds its form against the page.
    pub fn compares<'r>(&'r self, candidates: &Candidates, facts: &Facts<'_>) -> Option<&'r Route> {
        let mut routes = candidates.routes.iter().filter_map(|i| self.route(*i));
        routes.find(|r| matched(&r.demands, facts) == Some(true)).filter(|route| route.compare.is_some())
    }

    fn route(&self, index: u16) -> Option<&Route> {
        self.routes.get(usize::from(index))
    }
}

/// True if the answer is a page that may hold a form.
fn is_served_page(facts: &Facts<'_>) -> bool {
    facts.response.is_some_and(|(status, headers)| {
        let html = crate::body::media_type(crate::body::content_type(headers));
        status == http::StatusCode::OK && html.eq_ignore_ascii_case("text/html")
    })
}

fn decision<'r>(route: &'r Route, rule: Option<&'r route::Rule>) -> Decision<'r> {
    let outcome = rule.map_or(route.default, |r| r.outcome);
    let mut types: Vec<EventType> = Vec::new();
    if outcome != Outcome::Ignore {
        types.extend(rule.and_then(|r| r.emit.clone()).or_else(|| route.type_of(outcome).cloned()));
        types.extend(rule.into_iter().flat_map(|r| r.also.iter().cloned()));
    }
    Decision {
        route,
        rule: rule.map_or(Text::fixed("default"), |r| r.name.clone()),
        outcome,
        reason: rule.and_then(|r| r.reason.clone()),
        types,
        follow: rule.and_then(|r| r.follow.as_ref()),
    }
}

fn matched(demands: &[Condition], facts: &Facts<'_>) -> facts::Truth {
    let mut sure = true;
    for demand in demands {
        match demand.holds(facts) {
            Some(false) => return Some(false),
            Some(true) => {}
            None => sure = false,
        }
    }
    sure.then_some(true)
}

/// A route whose every request an earlier, undemanding route takes is never reached.
fn shadowed_routes(routes: &[Route], places: &[&Node], problems: &mut Problems) {
    let mut work = 0_usize;
    for (i, (route, node)) in routes.iter().zip(places).enumerate() {
        if let Some(before) = shadow_of(route, &routes[..i], &mut work) {
            problems.warn(
                node,
                format!("the route `{}` is never reached: `{}` takes its requests first", route.id, before.id),
                "the first route that matches decides: put the narrower one first",
            );
        }
    }
}

/// The first of the routes before it that takes all its requests. `work` counts the pairs of paths
/// that were compared; a file that would take minutes is only looked at so far.
fn shadow_of<'r>(route: &Route, before: &'r [Route], work: &mut usize) -> Option<&'r Route> {
    before.iter().find(|before| {
        *work = work.saturating_add(1 + route.paths.len().saturating_mul(before.paths.len()));
        if *work > MAX_COMPARED {
            return false;
        }
        let only_paths = before.demands.iter().all(|d| match d {
            Condition::Path(_) => true,
            Condition::Method(methods) => route
                .demands
                .iter()
                .any(|d| matches!(d, Condition::Method(mine) if mine.iter().all(|m| methods.contains(m)))),
            _ => false,
        });
        only_paths && !route.paths.is_empty() && route.paths.iter().all(|p| before.paths.iter().any(|b| b.covers(p)))
    })
}
