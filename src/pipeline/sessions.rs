//! What an exchange does to the sessions it carries: bind, move, forget; and the events that say so.
//!
//! The invariant: a session gets an actor only from a success (or, pending, from a challenge); a
//! failure of somebody else leaves it as it was.

use super::decided::{also, changes_own_address};
use super::{LOGIN, Pipeline};
use crate::capture::queue::Captured;
use crate::event::{
    Actor, Event, EventId, EventType, Metadata, Mode, Outcome, SCHEMA_VERSION, Source, Text, Timestamp,
};
use crate::rules::Decision;
use crate::rules::facts::Facts;
use crate::session::{Carried, Over, Remembered, Via};

impl Pipeline {
    /// Where sessions are shared: what other replicas said is taken in; the events of it.
    pub(super) fn events_of_others(&mut self, now: Timestamp) -> Vec<Event> {
        let over = self.sessions.hear().into_iter().filter(|_| self.sessions.config().revoked);
        let events = over.map(|over| revoked(over, "expired", now)).collect();
        self.identified(events)
    }

    /// Where sessions are shared: asks once for all that these exchanges carry and nobody here knows.
    pub(super) fn ask_others(&mut self, batch: &[Box<Captured>]) {
        let Some(last) = batch.last().filter(|_| self.sessions.is_shared()) else { return };
        let mut wanted = Vec::new();
        for Captured { exchange, auto, .. } in batch.iter().map(AsRef::as_ref) {
            let headers = &exchange.request.headers;
            wanted
                .extend(self.sessions.presented(headers, &exchange.request.host).iter().map(|carried| carried.handle));
            if *auto {
                wanted.extend(crate::auto::brought(headers).map(|value| self.sessions.handle(value)));
            }
        }
        self.sessions.fetch(wanted, last.exchange.answered);
    }

    /// Sessions and tokens that the answer hands out.
    pub(super) fn handed_out(&self, decision: &Decision<'_>, facts: &Facts<'_>) -> Vec<Carried> {
        let Some((_, answer)) = facts.response else { return Vec::new() };
        let mut found = self.sessions.handed_out(answer, facts.host, facts.at);
        for source in &decision.route.tokens {
            let token = source.read(facts, &decision.route.paths);
            found.extend(token.map(|t| Carried { via: Via::Token, handle: self.sessions.handle(t.as_bytes()) }));
        }
        found
    }

    /// Binds, moves and forgets sessions as the decision says; true if one was bound. What is to be
    /// said of it is added to `say`, to be completed from the event itself.
    pub(super) fn remember(
        &mut self,
        decision: &Decision<'_>,
        event: Option<&Event>,
        facts: &Facts<'_>,
        (presented, handed_out): (&[Carried], &[Carried]),
        known: Option<&Remembered>,
        say: &mut Vec<Session>,
    ) -> bool {
        let says = |name: &str| decision.types.iter().any(|t| t.as_str() == name);
        let actor = event.map(|e| &e.actor).filter(|a| !a.is_empty());
        match (decision.outcome, actor) {
            (Outcome::Success, _) if says("user.logout") || says("session.revoked") => {
                let over = self.sessions.forget(presented);
                if !says("session.revoked") {
                    self.tell_over(over, "user", facts.at, say);
                }
            }
            (Outcome::Success, Some(actor)) if says(LOGIN) => {
                return self.bind(facts.host, actor, presented, handed_out, facts.at, say);
            }
            (Outcome::Challenge, Some(actor)) => {
                let fresh = if handed_out.is_empty() { presented } else { handed_out };
                self.sessions.bind_pending(fresh, actor, facts.at);
            }
            // Somebody else failed to sign in: whose the session is that he was given is not shown.
            (Outcome::Failure, Some(actor)) if says("user.login.failed") && known.is_none_or(|k| k.actor != *actor) => {
            }
            (outcome, actor) => {
                let (tokens, rest): (Vec<Carried>, Vec<Carried>) = handed_out
                    .iter()
                    .partition(|c| c.via == Via::Token && outcome == Outcome::Success && actor.is_some());
                if let Some((_, answer)) = facts.response {
                    let over = self.sessions.follow(presented, &rest, answer, facts.host, facts.at);
                    self.tell_over(over, "deleted", facts.at, say);
                }
                if let (Outcome::Success, Some(actor), Some(event)) = (outcome, actor, event) {
                    // A key that was made, say: it is the actor's, beside the session that made it.
                    self.sessions.bind(&tokens, actor, facts.at);
                    if changes_own_address(event) {
                        self.sessions.rename(&[presented, handed_out].concat(), actor);
                    }
                }
            }
        }
        false
    }

    /// A login succeeded: what it handed out is its actor's.
    pub(super) fn bind(
        &mut self,
        host: &str,
        actor: &Actor,
        presented: &[Carried],
        handed_out: &[Carried],
        now: Timestamp,
        say: &mut Vec<Session>,
    ) -> bool {
        self.sessions.replace(presented, handed_out);
        self.sessions.know_account(host, actor);
        let fresh = if handed_out.is_empty() { presented } else { handed_out };
        let new = self.sessions.bind(fresh, actor, now);
        if new && self.sessions.config().created {
            say.push(Session::Created);
        }
        !fresh.is_empty()
    }

    pub(super) fn tell_over(&self, over: Option<Over>, reason: &'static str, now: Timestamp, say: &mut Vec<Session>) {
        if let Some(over) = over.filter(|_| self.sessions.config().revoked) {
            say.push(Session::Revoked(Box::new(revoked(over, reason, now))));
        }
    }

    /// An exchange that no route decided: its session may still have moved.
    pub(super) fn moved(&mut self, facts: &Facts<'_>, presented: &[Carried]) -> Vec<Event> {
        let Some((_, answer)) = facts.response else { return Vec::new() };
        let handed_out = self.sessions.handed_out(answer, facts.host, facts.at);
        let changed = handed_out.iter().any(|new| presented.iter().all(|p| p.handle != new.handle));
        let over = match changed && leaves(&facts.path) {
            // A way out that no route is about: the new session is nobody's, so the actor stays behind.
            true => self.sessions.forget(presented),
            false => self.sessions.follow(presented, &handed_out, answer, facts.host, facts.at),
        };
        let mut say = Vec::new();
        self.tell_over(over, "deleted", facts.at, &mut say);
        complete(say, None)
    }
}

/// What is to be said of a session beside the event of the exchange.
pub(super) enum Session {
    Created,
    Revoked(Box<Event>),
}

/// The events about sessions, completed from the event of the same exchange.
pub(super) fn complete(say: Vec<Session>, event: Option<&Event>) -> Vec<Event> {
    let made = say.into_iter().filter_map(|session| match (session, event) {
        (Session::Created, Some(event)) => {
            let mut created = also(event, &EventType::fixed("session.created"));
            created.reason = None;
            Some(created)
        }
        (Session::Created, None) => None,
        (Session::Revoked(revoked), Some(event)) => Some(Event {
            metadata: Metadata { session_id: revoked.metadata.session_id, ..event.metadata.clone() },
            source: event.source.clone(),
            ..*revoked
        }),
        (Session::Revoked(revoked), None) => Some(*revoked),
    });
    made.collect()
}

/// A session is over.
pub(super) fn revoked(over: Over, reason: &'static str, now: Timestamp) -> Event {
    Event {
        schema_version: SCHEMA_VERSION,
        id: EventId::new(),
        event_type: EventType::fixed("session.revoked"),
        timestamp: now,
        outcome: Outcome::Success,
        reason: Some(Text::fixed(reason)),
        actor: over.actor,
        target: None,
        organization: None,
        metadata: Metadata { session_id: over.shown.text(), ..Metadata::default() },
        source: Source { route: None, rule: None, preset: None, mode: Mode::Internal, confidence: 1.0 },
    }
}

/// True for a path by which applications let people out.
fn leaves(path: &str) -> bool {
    let plain =
        |segment: &str| segment.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let out = ["logout", "logoff", "signout", "signoff"];
    path.split(['/', '.'])
        .map(plain)
        .any(|segment| out.iter().any(|word| segment.starts_with(word) || segment.ends_with(word)))
}
