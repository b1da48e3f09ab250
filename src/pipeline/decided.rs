//! The event of an exchange that a route or a hint decided: who it is about, what it shows, what comes beside it.
//!
//! The order is part of the meaning: cookies are learnt before the answer's are read, the actor is
//! completed before its session is bound, and the event is enriched last, once nothing else can
//! still leave it out.

use std::sync::Arc;

use super::sessions::complete;
use super::{LOGIN, Pipeline, add};
use crate::capture::queue::Captured;
use crate::event::{Actor, Event, EventId, EventType, Organization, Outcome, Timestamp};
use crate::flow::{self, Said};
use crate::hint::Hinted;
use crate::rules::facts::Facts;
use crate::rules::{Decision, extract};
use crate::session::{Carried, Handle, Remembered, Shown, Via};

impl Pipeline {
    /// An exchange that a route decided; its events are added to `all`.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn decided(
        &mut self,
        captured: &Captured,
        decision: &Decision<'_>,
        hinted: Option<&Hinted>,
        facts: &Facts<'_>,
        mut presented: Vec<Carried>,
        mut known: Option<Remembered>,
        all: &mut Vec<Arc<Event>>,
    ) {
        let (route, now) = (decision.route, facts.at);
        for source in &route.carried {
            let token = source.read(facts, &route.paths);
            presented.extend(token.map(|t| Carried { via: Via::Token, handle: self.sessions.handle(t.as_bytes()) }));
        }
        if known.is_none() && !route.carried.is_empty() {
            self.sessions.fetch(presented.iter().map(|carried| carried.handle), now);
            known = self.sessions.recall(&presented, now);
        }
        let follow = decision.follow.filter(|_| facts.response.is_some());
        let says_login = decision.types.iter().any(|t| t.as_str() == LOGIN) || follow.is_some();
        let signs_in = decision.outcome == Outcome::Success && says_login;
        if let Some((_, answer)) = facts.response
            && (signs_in || follow.is_some() || decision.outcome == Outcome::Challenge)
            && self.sessions.learn(facts.host, facts.headers, answer, now)
        {
            self.current.watch.learn(self.sessions.learnt_names());
        }
        let handed_out = self.handed_out(decision, facts);

        let mut event = extract::event(decision, facts, &captured.exchange);
        if let (Some(event), Some(hinted)) = (&mut event, hinted) {
            hinted.fill(event);
        }
        let flow = route.flow.as_ref().map_or(Vec::new(), |plan| {
            flow::keys(plan, facts, &route.paths, &[&presented, &handed_out], &self.sessions)
        });
        let said = self.said(decision, event.as_ref(), facts, &flow);
        if let Some(event) = &mut event {
            self.name(event, &said, known.as_ref(), facts);
        }
        if let Some(follow) = follow {
            let placeholder = EventType::fixed("user.login.unknown");
            let mut event =
                event.unwrap_or_else(|| extract::event_called(placeholder, decision, facts, &captured.exchange));
            self.name(&mut event, &said, known.as_ref(), facts);
            event.metadata.session_id = shown(None, &presented, &handed_out).and_then(Shown::text);
            self.current.enrichers.enrich(&captured.exchange, &mut event);
            if let Some(plan) = &route.flow {
                self.flows.remember(&flow, &said, plan, now);
            }
            return add(all, self.wait(captured, decision, follow, event, facts, presented, handed_out, flow));
        }

        let mut say = Vec::new();
        if decision.outcome == Outcome::Unknown {
            self.metrics.undecided(decision.route.id.as_str());
        }
        let bound = self.remember(decision, event.as_ref(), facts, (&presented, &handed_out), known.as_ref(), &mut say);
        self.step(decision, &said, &flow, now);
        let Some(mut event) = event else { return add(all, complete(say, None)) };
        if !self.sampler.due(decision, facts, &captured.exchange) {
            self.metrics.sampled.inc();
            return add(all, complete(say, None));
        }
        let session = if bound { None } else { known.as_ref().map(|k| k.shown) };
        event.metadata.session_id = shown(session, &presented, &handed_out).and_then(Shown::text);
        self.current.enrichers.enrich(&captured.exchange, &mut event);
        // What comes beside the event is made of it.
        let further: Vec<Event> = decision.types.iter().skip(1).map(|t| also(&event, t)).collect();
        let rest = if say.is_empty() { Vec::new() } else { complete(say, Some(&event)) };
        all.push(Arc::new(event));
        add(all, further);
        add(all, rest);
    }

    /// What this step and those before it say of the person.
    fn said(&self, decision: &Decision<'_>, event: Option<&Event>, facts: &Facts<'_>, flow: &[Handle]) -> Said {
        let mut said = match event {
            Some(event) => Said {
                actor: event.actor.clone(),
                provider: event.metadata.provider.clone(),
                organization: event.organization.as_ref().map(|o| o.id.clone()),
            },
            None => Said { actor: extract::actor(decision.route, facts), ..Said::default() },
        };
        if let Some(earlier) = self.flows.recall(flow, facts.at) {
            said.fill_from(&earlier);
        }
        said
    }

    /// Names the actor by all that is known: the exchange, its flow, its session, its account.
    fn name(&mut self, event: &mut Event, said: &Said, known: Option<&Remembered>, facts: &Facts<'_>) {
        event.actor = said.actor.clone();
        event.metadata.provider = event.metadata.provider.take().or_else(|| said.provider.clone());
        if event.organization.is_none() {
            event.organization = said.organization.clone().map(|id| Organization { id });
        }
        if let Some(known) = known {
            match &event.actor.email {
                // Who changes an own address has two: the session knows who it is, this is the new one.
                Some(address) if changes_own_address(event) && !known.pending => {
                    let (email, kind) = (Some(address.clone()), event.actor.kind.take());
                    event.actor = Actor { email, kind: kind.or(known.actor.kind.clone()), ..known.actor.clone() };
                }
                _ => event.actor_of_session(&known.actor),
            }
        }
        self.sessions.name_account(facts.host, &mut event.actor);
    }

    /// Where this step leaves its flow.
    fn step(&mut self, decision: &Decision<'_>, said: &Said, flow: &[Handle], now: Timestamp) {
        let Some(plan) = decision.route.flow.as_ref() else { return };
        let last = decision.types.iter().any(|t| t.as_str() != "user.mfa.challenge.success");
        if decision.outcome == Outcome::Success && last {
            self.flows.finish(flow);
        } else if !said.is_empty() {
            self.flows.remember(flow, said, plan, now);
        }
    }
}

/// True if the event is about the own address of whoever acts.
pub(super) fn changes_own_address(event: &Event) -> bool {
    event.event_type.as_str() == "user.email.changed" && event.outcome == Outcome::Success && event.target.is_none()
}

/// What an event shows of the session: that of the memory, else the freshest one.
fn shown(known: Option<Shown>, presented: &[Carried], handed_out: &[Carried]) -> Option<Shown> {
    let fresh = if handed_out.is_empty() { presented } else { handed_out };
    known.or_else(|| fresh.first().map(|c| c.handle.shown()))
}

/// A further event of the same exchange.
pub(super) fn also(event: &Event, event_type: &EventType) -> Event {
    Event { id: EventId::new(), event_type: event_type.clone(), ..event.clone() }
}
