//! The rule set: which exchanges are looked at, what of them, and what they mean.
//!
//! Three questions, in the order of an exchange's life. [`RuleSet::candidates`] runs on the traffic
//! path for every request and says no without allocating. [`RuleSet::wants_answer`] runs when the
//! answer's head is there and says whether its body can still matter. [`RuleSet::decide`] runs in
//! the pipeline with everything known. The first route that matches decides; within it, the first
//! rule that holds; what no rule decides takes the route's default.

pub mod case;
pub mod condition;
pub mod extract;
pub mod facts;
pub mod matcher;
pub mod path;
pub mod route;
pub mod source;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use regex::RegexSet;

use crate::config::node::Node;
use crate::config::problem::Problems;
use crate::event::{EventType, Outcome, Text};
use condition::Condition;
use facts::Facts;
use path::PathPattern;
use route::Route;

/// The most routes a set may have.
pub const MAX_ROUTES: usize = 10_000;

/// The most pairs of paths that are compared for shadowed routes: a warning is not worth more.
const MAX_COMPARED: usize = 60_000_000;

/// Compiled routes with an index over their paths.
#[derive(Debug, Default)]
pub struct RuleSet {
    routes: Vec<Route>,
    /// Routes by literal path, in order.
    exact: HashMap<String, Vec<u16>>,
    /// All patterns at once, and the route each belongs to.
    patterns: RegexSet,
    pattern_routes: Vec<u16>,
    /// Routes that name no path.
    anywhere: Vec<u16>,
}

/// Routes that a request may belong to, in order.
#[derive(Debug)]
pub struct Candidates {
    routes: Vec<u16>,
    /// True if the request's body can matter.
    pub wants_request_body: bool,
}

impl Candidates {
    /// No route: for an exchange that is looked at without one.
    pub fn none(wants_request_body: bool) -> Candidates {
        Candidates { routes: Vec::new(), wants_request_body }
    }

    /// True if there is no route.
    pub fn is_none(&self) -> bool {
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
}

impl RuleSet {
    /// Reads `routes:`. `cookies` are the names of session cookies.
    pub fn check(nodes: &[Node], cookies: &[String], problems: &mut Problems) -> RuleSet {
        let mut routes: Vec<Route> = Vec::new();
        let mut places: Vec<&Node> = Vec::new();
        let mut ids: HashMap<Text, usize> = HashMap::new();
        for node in nodes.iter().take(MAX_ROUTES) {
            let Some(route) = Route::check(node, cookies, problems) else { continue };
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
        RuleSet::new(routes)
    }

    /// A set of these routes.
    pub fn new(routes: Vec<Route>) -> RuleSet {
        let mut set = RuleSet::default();
        let mut sources = Vec::new();
        for (i, route) in routes.iter().enumerate() {
            let i = i as u16;
            if route.paths.is_empty() {
                set.anywhere.push(i);
            }
            for path in &route.paths {
                match path {
                    PathPattern::Exact(exact) => set.exact.entry(exact.clone()).or_default().push(i),
                    PathPattern::Prefix(prefix) => {
                        sources.push(format!("^{}", regex::escape(prefix)));
                        set.pattern_routes.push(i);
                    }
                    PathPattern::Regex { regex, .. } => {
                        sources.push(regex.as_str().to_owned());
                        set.pattern_routes.push(i);
                    }
                }
            }
        }
        let built = regex::RegexSetBuilder::new(&sources).size_limit(256 << 20).dfa_size_limit(32 << 20).build();
        match built {
            Ok(patterns) => set.patterns = patterns,
            // Each compiled alone; together they are too much: try them one by one instead.
            Err(_) => set.anywhere.append(&mut set.pattern_routes),
        }
        set.anywhere.sort_unstable();
        set.anywhere.dedup();
        set.routes = routes;
        set
    }

    /// The routes in order.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The routes a request may belong to, by its head; `None` for almost every request.
    /// Allocates nothing to say no (but for paths with escapes).
    pub fn candidates(&self, facts: &Facts<'_>) -> Option<Candidates> {
        let exact = self.exact.get(&*facts.path);
        if exact.is_none() && self.anywhere.is_empty() && !self.patterns.is_match(&facts.path) {
            return None;
        }
        // Filtered before it is collected: an empty collection is no allocation.
        let may_match = |i: &u16| self.route(*i).is_some_and(|r| matched(&r.demands, facts) != Some(false));
        let mut routes: Vec<u16> =
            exact.into_iter().flatten().chain(&self.anywhere).copied().filter(may_match).collect();
        if self.patterns.is_match(&facts.path) {
            let hits = self.patterns.matches(&facts.path);
            routes.extend(hits.into_iter().filter_map(|p| self.pattern_routes.get(p).copied()).filter(may_match));
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

    /// True if the answer's body can still matter, now that its head is known.
    pub fn wants_answer(&self, candidates: &Candidates, facts: &Facts<'_>) -> bool {
        candidates.routes.iter().filter_map(|i| self.route(*i)).any(|route| {
            for rule in &route.rules {
                let held = rule.when.as_ref().map_or(Some(true), |c| c.holds(facts));
                match held {
                    Some(true) => return rule.outcome != Outcome::Ignore && route.source_needs.response_body,
                    Some(false) => {}
                    None => {
                        if rule.when.as_ref().is_some_and(|c| c.needs().response_body) {
                            return true;
                        }
                        // Open for another reason (a form field, the session): it may decide.
                        if rule.outcome != Outcome::Ignore && route.source_needs.response_body {
                            return true;
                        }
                    }
                }
            }
            route.default != Outcome::Ignore && route.source_needs.response_body
        })
    }

    /// What the exchange means; `None` if no route is about it.
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
                    });
                }
            }
        }
        Some(decision(route, None))
    }

    fn route(&self, index: u16) -> Option<&Route> {
        self.routes.get(usize::from(index))
    }
}

fn decision<'r>(route: &'r Route, rule: Option<&route::Rule>) -> Decision<'r> {
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
    for (i, route) in routes.iter().enumerate() {
        let shadow = routes[..i].iter().find(|before| {
            // Pairs of paths are compared; a file that would take minutes is only looked at so far.
            work = work.saturating_add(1 + route.paths.len().saturating_mul(before.paths.len()));
            if work > MAX_COMPARED {
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
            only_paths
                && !route.paths.is_empty()
                && route.paths.iter().all(|p| before.paths.iter().any(|b| b.covers(p)))
        });
        if let (Some(before), Some(node)) = (shadow, places.get(i)) {
            problems.warn(
                node,
                format!("the route `{}` is never reached: `{}` takes its requests first", route.id, before.id),
                "the first route that matches decides: put the narrower one first",
            );
        }
    }
}
