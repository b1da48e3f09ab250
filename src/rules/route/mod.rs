//! One entry of `routes:`, compiled, and the questions that are asked of it.
//!
//! `fields` has its keys, and `read` compiles it when a configuration is loaded; `emit` and `warnings`
//! are parts of that.

mod emit;
mod fields;
mod read;
mod warnings;

use std::collections::HashSet;

use http::Method;
use http::header::AUTHORIZATION;

use super::Carries;
use super::calls::Scope;
use super::case::Case;
use super::condition::{Condition, Needs};
use super::facts::Facts;
use super::follow::{FlowPlan, Follow};
use super::path::PathPattern;
use super::sample::Sample;
use super::source::Source;
use crate::event::{EventType, Outcome, Text};

pub use fields::FIELDS;

pub(super) use emit::event_type;
pub(super) use fields::OUTCOMES;
pub(super) use read::outcome_of;

/// A compiled route.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub id: Text,
    /// The preset it came from.
    pub preset: Option<Text>,
    /// The path patterns, apart so that the index can use them; empty means any path.
    pub paths: Vec<PathPattern>,
    /// All demands on the request, cheapest first (the paths among them).
    pub demands: Vec<Condition>,
    /// Who did it.
    pub actor: ActorSources,
    /// Whom or what it was done to.
    pub target: Option<TargetSources>,
    /// The tenant.
    pub organization: Vec<Source>,
    /// How the person proved themselves.
    pub method: Option<Source>,
    /// The identity provider.
    pub provider: Option<Source>,
    /// Further values.
    pub fields: Vec<(Text, Vec<Source>)>,
    /// Tokens that the answer hands out.
    pub tokens: Vec<Source>,
    /// Where the request carries a token that an earlier answer handed out.
    pub carried: Vec<Source>,
    /// The login of several steps that this is one of.
    pub flow: Option<FlowPlan>,
    /// The form that its requests send back, if it is held against the page.
    pub compare: Option<Compare>,
    /// How successes are sampled, if they are.
    pub sample: Option<Sample>,
    /// The rules in order.
    pub rules: Vec<Rule>,
    /// The outcome if none holds.
    pub default: Outcome,
    /// Event types by outcome.
    pub emit: Vec<(Outcome, EventType)>,
    /// The tests written beside it.
    pub cases: Vec<Case>,
    /// How much of an exchange it is about: each call of a batch, if it looks at calls.
    pub scope: Scope,
    /// Which bodies the demands read.
    pub demand_needs: Needs,
    /// Which bodies the sources read.
    pub source_needs: Needs,
    /// Which bodies the rules may read.
    pub rule_needs: Needs,
}

/// Sources of an actor.
#[derive(Debug, Default)]
pub struct ActorSources {
    /// Immutable id.
    pub id: Vec<Source>,
    /// What was typed.
    pub login: Vec<Source>,
    /// Address.
    pub email: Vec<Source>,
    /// Kind.
    pub kind: Option<Text>,
}

/// Sources of a target.
#[derive(Debug, Default)]
pub struct TargetSources {
    /// Kind.
    pub kind: Option<Text>,
    /// Id.
    pub id: Vec<Source>,
    /// Address.
    pub email: Vec<Source>,
}

/// A form that is held against the page as it was served.
#[derive(Debug)]
pub struct Compare {
    /// The fields.
    pub fields: Vec<String>,
    /// What tells one form of the path from another.
    pub key: Vec<Source>,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name.
    pub name: Text,
    /// What must hold; `None` holds always.
    pub when: Option<Condition>,
    /// What it decides.
    pub outcome: Outcome,
    /// Decided by the next request instead; `outcome` is `unknown` then.
    pub follow: Option<Follow>,
    /// Why.
    pub reason: Option<Text>,
    /// Event type instead of the route's.
    pub emit: Option<EventType>,
    /// Further event types.
    pub also: Vec<EventType>,
}

impl Route {
    /// A POST counts as the method that it names, where this route demands methods that one may name.
    pub fn honour_overrides(&mut self) {
        for demand in &mut self.demands {
            // No framework takes a POST for a GET; such a route need not read forms.
            if let Condition::Method(methods) = demand
                && methods.iter().any(|m| ![Method::GET, Method::HEAD, Method::OPTIONS].contains(m))
            {
                *demand = Condition::Overridden(std::mem::take(methods));
            }
        }
        self.demands.sort_by_key(|c| c.needs().request_body);
        self.demand_needs = self.demands.iter().map(Condition::needs).fold(Needs::default(), Needs::or);
    }

    /// True if the request is for the page whose form this route's requests send back.
    pub fn is_page(&self, facts: &Facts<'_>) -> bool {
        self.compare.is_some()
            && *facts.method == Method::GET
            && self.demands.iter().all(|demand| match demand {
                Condition::Path(_) | Condition::Host(_) => demand.holds(facts) == Some(true),
                _ => true,
            })
    }

    /// True if it is about the place and method of the request, whatever else it demands.
    pub fn is_about(&self, facts: &Facts<'_>) -> bool {
        self.paths.iter().any(|path| path.names_a_place() && path.matches(&facts.path))
            && self.demands.iter().all(|demand| match demand {
                Condition::Method(_) | Condition::Overridden(_) | Condition::Host(_) => {
                    demand.holds(facts) == Some(true)
                }
                _ => true,
            })
    }

    /// True if a GET may belong to it, or serve the page of its form.
    pub fn allows_get(&self) -> bool {
        self.compare.is_some()
            || self.demands.iter().all(|demand| match demand {
                Condition::Method(methods) | Condition::Overridden(methods) => methods.contains(&Method::GET),
                _ => true,
            })
    }

    /// What a GET must carry to belong to it.
    pub(super) fn carries_of_get(&self) -> Carries<'_> {
        if self.compare.is_some() {
            return Carries::Anything;
        }
        fn carries(demand: &Condition) -> Option<Carries<'_>> {
            match demand {
                Condition::Query(name, matcher) if !matcher.matches(None) => Some(Carries::Query(name)),
                Condition::RequestHeader(name, matcher) if *name == AUTHORIZATION && !matcher.matches(None) => {
                    Some(Carries::Credentials)
                }
                _ => None,
            }
        }
        self.demands.iter().find_map(carries).unwrap_or(Carries::Anything)
    }

    /// True if it says which methods it is about.
    pub fn names_methods(&self) -> bool {
        self.demands.iter().any(|d| matches!(d, Condition::Method(_) | Condition::Overridden(_)))
    }

    /// The event type of an outcome, if the route emits it.
    pub fn type_of(&self, outcome: Outcome) -> Option<&EventType> {
        self.emit.iter().find(|(o, _)| *o == outcome).map(|(_, t)| t)
    }

    /// The event types that some exchange can get from the route: those of rules that are reached, of
    /// the default where no rule always holds, and of what is left open. What `emit` names for an
    /// outcome that nothing decides is none of them.
    pub fn possible_types(&self) -> Vec<&EventType> {
        let mut types = Vec::new();
        // What is not known of an exchange (no answer, a cut body) leaves a condition open.
        let mut open = false;
        for rule in reached(&self.rules) {
            open |= rule.when.is_some() || rule.follow.is_some();
            match &rule.follow {
                Some(follow) => types.extend(reached(&follow.rules).flat_map(|rule| self.types_by(rule))),
                None => types.extend(self.types_by(rule)),
            }
        }
        if self.rules.iter().all(|rule| rule.when.is_some()) {
            types.extend(self.type_of(self.default));
        }
        if open {
            types.extend(self.type_of(Outcome::Unknown));
        }
        types
    }

    /// What a rule of the route emits when it decides.
    fn types_by<'r>(&'r self, rule: &'r Rule) -> impl Iterator<Item = &'r EventType> {
        let emits = rule.outcome != Outcome::Ignore;
        let first = rule.emit.as_ref().or_else(|| self.type_of(rule.outcome));
        first.into_iter().chain(&rule.also).filter(move |_| emits)
    }
}

/// The rules that can decide: up to the first that always holds, without those that repeat the
/// condition of an earlier one.
fn reached(rules: &[Rule]) -> impl Iterator<Item = &Rule> {
    let mut seen = HashSet::new();
    let always = rules.iter().position(|rule| rule.when.is_none());
    let until = always.map_or(rules.len(), |last| last + 1);
    rules.iter().take(until).filter(move |rule| seen.insert(format!("{:?}", rule.when)))
}
