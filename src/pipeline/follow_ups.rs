//! Events that wait for their client's next request, and what becomes of them.
//!
//! The invariant: each that was put aside is concluded once, by a decision, by time or because there
//! is no room, and what the memory learns of it is learnt then, not before.

use http::header;

use super::decided::also;
use super::sessions::complete;
use super::{LOGIN, Pipeline};
use crate::capture::queue::Captured;
use crate::event::{Event, EventId, Outcome, Text};
use crate::flow::follow_up::{Next, Waiting};
use crate::rules::facts::Facts;
use crate::rules::follow::Follow;
use crate::rules::{Decision, RuleSet, condition};
use crate::session::{Carried, Handle};

impl Pipeline {
    /// Puts an event aside until its client's next request.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn wait(
        &mut self,
        captured: &Captured,
        decision: &Decision<'_>,
        follow: &Follow,
        event: Event,
        facts: &Facts<'_>,
        presented: Vec<Carried>,
        handed_out: Vec<Carried>,
        flow: Vec<Handle>,
    ) -> Vec<Event> {
        let rules = &captured.rules;
        let is_it = |rule: &crate::rules::route::Rule| rule.follow.as_ref().is_some_and(|f| std::ptr::eq(f, follow));
        let place = rules.place_of(decision).zip(decision.route.rules.iter().position(is_it));
        let Some(place) = place else { return vec![event] };
        let leads_to = facts.response.and_then(|(_, answer)| condition::location_path(answer, facts.uri));
        let gave = self.follow_ups.open(Waiting {
            client: self.current.watch.client(captured.exchange.client_ip, facts.headers),
            event,
            rules: rules.clone(),
            place,
            leads_to,
            answered: facts.at,
            until: facts.at.plus(follow.within),
            presented,
            handed_out,
            flow,
        });
        if gave.repeated {
            self.metrics.follow_up("repeated");
        }
        let Some(undecided) = gave.undecided else { return Vec::new() };
        self.metrics.follow_up("no_room");
        self.concluded(*undecided, None, "no_room")
    }

    /// An exchange that another may have waited for.
    pub(super) fn followed(&mut self, captured: &Captured, facts: &Facts<'_>, presented: &[Carried]) -> Vec<Event> {
        let client = self.current.watch.client(captured.exchange.client_ip, facts.headers);
        let next =
            Next { client, presented, path: &facts.path, page: is_a_page(facts), began: captured.exchange.began };
        let Some(waiting) = self.follow_ups.meet(&next) else { return Vec::new() };
        let rules = waiting.rules.clone();
        let decision =
            waiting.place_in(&rules).and_then(|(route, follow)| RuleSet::decide_followed(route, follow, facts));
        self.metrics.follow_up(if decision.is_some() { "decided" } else { "undecided" });
        self.concluded(waiting, decision.as_ref(), "not_shown")
    }

    /// An event that waited has its outcome; without a decision it is unknown, for this reason.
    pub(super) fn concluded(
        &mut self,
        waiting: Waiting,
        decision: Option<&Decision<'_>>,
        reason: &'static str,
    ) -> Vec<Event> {
        let rules = waiting.rules.clone();
        let Some((route, _)) = waiting.place_in(&rules) else { return Vec::new() };
        let Waiting { mut event, presented, handed_out, flow, .. } = waiting;
        let mut say = Vec::new();
        let types = match decision {
            Some(decision) => {
                (event.outcome, event.reason) = (decision.outcome, decision.reason.clone());
                event.source.rule = Some(decision.rule.clone());
                decision.types.clone()
            }
            None => {
                self.metrics.undecided(route.id.as_str());
                (event.outcome, event.reason) = (Outcome::Unknown, Some(Text::fixed(reason)));
                route.type_of(Outcome::Unknown).cloned().into_iter().collect()
            }
        };
        let host = event.metadata.request.as_ref().and_then(|r| r.host.clone());
        let host = host.as_ref().map_or("", Text::as_str);
        let login = types.iter().any(|t| t.as_str() == LOGIN);
        match event.outcome {
            Outcome::Success if login && !event.actor.is_empty() => {
                let actor = event.actor.clone();
                self.bind(host, &actor, &presented, &handed_out, event.timestamp, &mut say);
            }
            Outcome::Challenge if !event.actor.is_empty() => {
                let fresh = if handed_out.is_empty() { &presented } else { &handed_out };
                self.sessions.bind_pending(fresh, &event.actor, event.timestamp);
            }
            _ => {}
        }
        if event.outcome == Outcome::Success {
            self.flows.finish(&flow);
        }
        let Some((first, further)) = types.split_first() else { return Vec::new() };
        // The event is made now: its id orders it among those appended before and after it, its
        // timestamp says when it happened.
        (event.id, event.event_type) = (EventId::new(), first.clone());
        let mut all = vec![event];
        let further: Vec<Event> = further.iter().map(|t| also(&all[0], t)).collect();
        all.extend(further);
        let rest = complete(say, all.first());
        all.extend(rest);
        all
    }
}

/// True if a person looks at the answer: what browsers say of it, else what is asked for.
fn is_a_page(facts: &Facts<'_>) -> bool {
    let says = |name: &str| facts.headers.get(name).map(|v| v.as_bytes());
    match says("sec-fetch-dest") {
        Some(dest) => dest == b"document",
        None => {
            let accept = facts.headers.get(header::ACCEPT).map(|v| v.as_bytes());
            facts.method == http::Method::GET
                && says("x-requested-with").is_none()
                && accept.is_none_or(|a| a.windows(9).any(|w| w == b"text/html") || a == b"*/*")
        }
    }
}
