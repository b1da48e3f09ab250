//! From exchanges to events, on a thread of its own: decide, remember, extract, enrich, append.
//!
//! Regexes, decompression and parsing happen here, never on a traffic thread. A panic in a rule,
//! extractor or enricher costs that one exchange, is counted, and the pipeline goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::auto::{Auto, Lent};
use crate::capture::queue::Captured;
use crate::enrich::Enrichers;
use crate::event::{Event, EventId, EventType, Outcome, Timestamp};
use crate::exchange::Exchange;
use crate::rules::facts::Facts;
use crate::rules::{Decision, extract};
use crate::session::{Handle, SessionConfig, Sessions};
use crate::spool::Spool;
use crate::telemetry::{Drop, Metrics};

/// The most exchanges worked on before their events are appended together.
const BATCH: usize = 256;

/// What the pipeline needs of the configuration; replaced as a whole at a reload.
pub struct PipelineConfig {
    /// What is added to events.
    pub enrichers: Arc<Enrichers>,
    /// Where sessions are carried.
    pub session: SessionConfig,
}

/// How long the pipeline sleeps at most while a sign-in waits for its next page.
const TICK: Duration = Duration::from_millis(500);

/// The pipeline's state.
pub struct Pipeline {
    config: Arc<ArcSwap<PipelineConfig>>,
    current: Arc<PipelineConfig>,
    sessions: Sessions,
    auto: Auto,
    spool: Arc<dyn Spool>,
    metrics: Arc<Metrics>,
}

impl Pipeline {
    /// A pipeline whose session hashes are keyed with `key`.
    pub fn new(
        config: Arc<ArcSwap<PipelineConfig>>,
        key: [u8; 32],
        spool: Arc<dyn Spool>,
        metrics: Arc<Metrics>,
    ) -> Pipeline {
        let current = config.load_full();
        let sessions = Sessions::new(current.session.clone(), key);
        Pipeline { config, current, sessions, auto: Auto::default(), spool, metrics }
    }

    /// Runs on a thread of its own until every sender of the queue is gone, then ends with
    /// everything appended.
    pub fn start(self, queue: mpsc::Receiver<Captured>) -> std::io::Result<JoinHandle<()>> {
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new().name("pipeline".into()).spawn(move || self.run(queue, &clock))
    }

    fn run(mut self, mut queue: mpsc::Receiver<Captured>, clock: &tokio::runtime::Runtime) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let ended = match self.auto.deadline() {
                None => queue.blocking_recv_many(&mut batch, BATCH) == 0,
                // Something waits for an exchange that may never come.
                Some(_) => {
                    let next = async { tokio::time::timeout(TICK, queue.recv_many(&mut batch, BATCH)).await };
                    clock.block_on(next) == Ok(0)
                }
            };
            self.follow_reload();
            let mut events = Vec::with_capacity(batch.len());
            let now = (!ended).then(Timestamp::now);
            events.extend(self.auto.overdue(now, &mut self.sessions));
            for captured in batch.drain(..) {
                // State touched before a panic is a map entry at worst, never half-written.
                match catch_unwind(AssertUnwindSafe(|| self.events_of(&captured))) {
                    Ok(found) => events.extend(found),
                    Err(_) => {
                        self.metrics.dropped(Drop::Panic, 1);
                        tracing::error!(exchange = ?captured.exchange, "a rule, extractor or enricher panicked; the exchange is lost");
                    }
                }
            }
            for event in &events {
                self.metrics.event(event.event_type.as_str(), event.outcome.as_str());
            }
            self.metrics.sessions.set(self.sessions.len() as i64);
            self.spool.append(events);
            if ended {
                return;
            }
        }
    }

    fn follow_reload(&mut self) {
        let newest = self.config.load();
        if !Arc::ptr_eq(&newest, &self.current) {
            self.sessions.reconfigure(newest.session.clone());
            self.current = newest.clone();
        }
    }

    /// The events of one exchange: none, one, or one with further ones beside it.
    pub fn events_of(&mut self, captured: &Captured) -> Vec<Event> {
        let exchange = &captured.exchange;
        let mut facts = Facts::of_exchange(exchange);
        let presented = self.sessions.presented(&exchange.request.headers);
        let known = self.sessions.recall(&presented, exchange.answered);
        facts.session_known = Some(known.as_ref().is_some_and(|k| !k.pending));
        let Some(decision) = captured.rules.decide(&captured.candidates, &facts) else {
            return if captured.auto { self.without_a_route(&facts, exchange) } else { Vec::new() };
        };
        let handed_out = self.handed_out(&decision, &facts);

        let mut event = extract::event(&decision, &facts, exchange);
        if let (Some(event), Some(known)) = (&mut event, &known) {
            event.actor_of_session(&known.actor);
        }
        let session =
            self.remember(&decision, event.as_ref(), &presented, &handed_out, known.is_some(), exchange.answered);

        if decision.outcome == Outcome::Unknown {
            self.metrics.undecided(decision.route.id.as_str());
        }
        let Some(mut event) = event else { return Vec::new() };
        event.metadata.session_id = session.and_then(Handle::shown);
        self.current.enrichers.enrich(exchange, &mut event);
        let further = decision.types[1..].iter().map(|event_type| also(&event, event_type));
        let further: Vec<Event> = further.collect();
        let mut events = vec![event];
        events.extend(further);
        events
    }

    /// The events of an exchange that no route took.
    fn without_a_route(&mut self, facts: &Facts<'_>, exchange: &Exchange) -> Vec<Event> {
        let enrichers = &self.current.enrichers;
        let enrich = |event: &mut Event| enrichers.enrich(exchange, event);
        self.auto.observe(facts, exchange, &mut Lent { sessions: &mut self.sessions, enrich: &enrich })
    }

    /// Sessions and tokens that the answer hands out.
    fn handed_out(&self, decision: &Decision<'_>, facts: &Facts<'_>) -> Vec<Handle> {
        let Some((_, answer)) = facts.response else { return Vec::new() };
        let mut found = self.sessions.handed_out(answer, facts.at);
        for source in &decision.route.tokens {
            let token = source.read(facts, &decision.route.paths);
            found.extend(token.map(|t| self.sessions.handle(t.as_bytes())));
        }
        found
    }

    /// Binds, moves and forgets sessions as the decision says; answers the one to show.
    fn remember(
        &mut self,
        decision: &Decision<'_>,
        event: Option<&Event>,
        presented: &[Handle],
        handed_out: &[Handle],
        known: bool,
        now: crate::event::Timestamp,
    ) -> Option<Handle> {
        let says = |name: &str| decision.types.iter().any(|t| t.as_str() == name);
        let fresh = if handed_out.is_empty() { presented } else { handed_out };
        let shown = fresh.first().copied();
        let actor = event.map(|e| &e.actor).filter(|a| !a.is_empty());
        match (decision.outcome, actor) {
            (Outcome::Success, _) if says("user.logout") || says("session.revoked") => {
                self.sessions.forget(presented);
                return presented.first().copied();
            }
            (Outcome::Success, Some(actor)) if says("user.login.success") || !decision.route.tokens.is_empty() => {
                if !handed_out.is_empty() {
                    self.sessions.forget(presented);
                }
                self.sessions.bind(fresh, actor, false, now);
            }
            (Outcome::Challenge, Some(actor)) => self.sessions.bind(fresh, actor, true, now),
            // The answer changed the session's cookie: its actor moves along.
            _ if known && !handed_out.is_empty() => {
                if let Some(before) = self.sessions.recall(presented, now) {
                    self.sessions.forget(presented);
                    self.sessions.bind(handed_out, &before.actor, before.pending, now);
                }
            }
            _ => {}
        }
        shown
    }
}

/// A further event of the same exchange.
fn also(event: &Event, event_type: &EventType) -> Event {
    Event { id: EventId::new(), event_type: event_type.clone(), ..event.clone() }
}
