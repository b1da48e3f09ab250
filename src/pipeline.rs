//! From exchanges to events, on a thread of its own: decide, remember, extract, enrich, append.
//!
//! Regexes, decompression and parsing happen here, never on a traffic thread. A panic in a rule,
//! extractor or enricher costs that one exchange, is counted, and the pipeline goes on. Between
//! exchanges it looks at the clock: for events that waited long enough for their client's next
//! request, for sessions that expired, and for the snapshot of what is remembered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::header;
use tokio::sync::{mpsc, oneshot};

use crate::auto::{Auto, Lent};
use crate::capture::queue::Captured;
use crate::capture::watch::Watch;
use crate::enrich::Enrichers;
use crate::event::{
    Actor, Event, EventId, EventType, Metadata, Mode, Outcome, SCHEMA_VERSION, Source, Text, Timestamp,
};
use crate::exchange::Exchange;
use crate::flow::follow_up::{FollowUps, Next, Waiting};
use crate::flow::{self, Flows, Said};
use crate::hint::{Hint, Hinted};
use crate::identity::Identity;
use crate::rules::facts::Facts;
use crate::rules::follow::Follow;
use crate::rules::sample::Sampler;
use crate::rules::{Decision, RuleSet, condition, extract};
use crate::served::ServedForms;
use crate::session::snapshot::Keeper;
use crate::session::{Carried, Handle, Over, Remembered, SessionConfig, Sessions, Shown, Via};
use crate::spool::Spool;
use crate::telemetry::{Drop, Metrics};

/// The most exchanges worked on before their events are appended together.
const BATCH: usize = 256;
/// How often the clock is looked at where nothing waits.
const IDLE: Duration = Duration::from_secs(10);
/// How often what is remembered is written down, if it changed.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(60);

const LOGIN: &str = "user.login.success";

/// What the pipeline needs of the configuration; replaced as a whole at a reload.
pub struct PipelineConfig {
    /// What is added to events.
    pub enrichers: Arc<Enrichers>,
    /// Where sessions are carried.
    pub session: SessionConfig,
    /// What traffic looks at beyond the routes.
    pub watch: Arc<Watch>,
    /// How much of who somebody is an event says.
    pub identity: Identity,
    /// The header by which the application names events, if it is believed.
    pub hint: Option<Hint>,
}

/// The pipeline's state.
pub struct Pipeline {
    config: Arc<ArcSwap<PipelineConfig>>,
    current: Arc<PipelineConfig>,
    sessions: Sessions,
    flows: Flows,
    follow_ups: FollowUps,
    keeper: Keeper,
    kept: Instant,
    sampler: Sampler,
    /// The key of hashed identifiers where none is configured.
    identity_key: [u8; 32],
    served: ServedForms,
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
        Pipeline {
            sessions: Sessions::new(current.session.clone(), key),
            config,
            current,
            auto: Auto::default(),
            flows: Flows::default(),
            follow_ups: FollowUps::default(),
            keeper: Keeper::none(),
            served: ServedForms::new(key),
            sampler: Sampler::new(blake3::derive_key("authtap 2026 sampled keys", &key)),
            identity_key: blake3::derive_key("authtap 2026 hashed identifiers", &key),
            kept: Instant::now(),
            spool,
            metrics,
        }
    }

    /// What is remembered comes from and goes to this keeper.
    #[must_use]
    pub fn kept_by(mut self, keeper: Keeper) -> Pipeline {
        keeper.load(&mut self.sessions);
        self.current.watch.learn(self.sessions.learnt_names());
        self.keeper = keeper;
        self
    }

    /// Runs on a thread of its own until every sender of the queue is gone, then ends with
    /// everything appended.
    pub fn start(self, queue: mpsc::Receiver<Captured>) -> std::io::Result<JoinHandle<()>> {
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new().name("pipeline".into()).spawn(move || self.run(&clock, queue))
    }

    fn run(mut self, clock: &tokio::runtime::Runtime, mut queue: mpsc::Receiver<Captured>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let wait = self.until_next(Timestamp::now());
            let received = async { tokio::time::timeout(wait, queue.recv_many(&mut batch, BATCH)).await };
            if clock.block_on(received) == Ok(0) {
                break;
            }
            self.follow_reload();
            let mut events = Vec::with_capacity(batch.len());
            let mut awaited = Vec::new();
            for mut captured in batch.drain(..) {
                let written = captured.written.take();
                // State touched before a panic is a map entry at worst, never half-written.
                match catch_unwind(AssertUnwindSafe(|| self.events_of(&captured))) {
                    Ok(found) => {
                        // Without an event there is nothing to wait for: dropped here.
                        awaited.extend(written.filter(|_| !found.is_empty()));
                        events.extend(found);
                    }
                    Err(_) => {
                        self.metrics.dropped(Drop::Panic, 1);
                        tracing::error!(exchange = ?captured.exchange, "a rule, extractor or enricher panicked; the exchange is lost");
                    }
                }
            }
            events.extend(self.events_of_time(Timestamp::now()));
            self.append(events, awaited);
            self.keep();
        }
        // No request will come any more: what waits for one is undecided now.
        let left = self.events_of_time(Timestamp::from_millis(i64::MAX));
        self.append(left, Vec::new());
        let last = self.sessions.take_changed().then(|| self.sessions.to_snapshot());
        self.keeper.end(last);
    }

    /// `awaited` are told once these events are on disk.
    fn append(&mut self, events: Vec<Event>, awaited: Vec<oneshot::Sender<()>>) {
        for event in &events {
            self.metrics.event(event.event_type.as_str(), event.outcome.as_str());
        }
        self.metrics.sessions.set(self.sessions.len() as i64);
        self.metrics.flows.set(self.flows.len() as i64);
        self.metrics.follow_ups_waiting.set(self.follow_ups.len() as i64);
        let ends = self.flows.take_ends();
        for (result, count) in [("finished", ends.finished), ("abandoned", ends.abandoned), ("evicted", ends.evicted)] {
            if count > 0 {
                self.metrics.flows_ended(result, count);
            }
        }
        if !events.is_empty() {
            self.spool.make_room();
            self.spool.append(events);
            self.spool.when_on_disk(awaited);
        }
    }

    /// How long nothing has to be done, unless an exchange comes.
    fn until_next(&self, now: Timestamp) -> Duration {
        let until = self.follow_ups.first_until().into_iter().chain(self.auto.deadline()).min();
        let Some(until) = until else { return IDLE };
        // One millisecond beyond, since until then the next request may come.
        let wait = until.as_millis().saturating_sub(now.as_millis()).saturating_add(1);
        Duration::from_millis(u64::try_from(wait).unwrap_or(0)).min(IDLE)
    }

    /// Hands a snapshot over, if it is time and there is something new in it.
    fn keep(&mut self) {
        if self.keeper.keeps() && self.kept.elapsed() >= SNAPSHOT_EVERY && self.sessions.take_changed() {
            self.kept = Instant::now();
            if !self.keeper.save(self.sessions.to_snapshot()) {
                // The disk is slow: the next one holds all of it.
                self.sessions.keep_changed();
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

    /// The events of one exchange: none, one, or one with further ones beside it, and of a batch those
    /// of each of its calls; before them those of an earlier exchange that waited for this one.
    pub fn events_of(&mut self, captured: &Captured) -> Vec<Event> {
        let exchange = &captured.exchange;
        let mut facts = Facts::of_exchange(exchange);
        let presented = self.sessions.presented(&exchange.request.headers, facts.host);
        let mut events = Vec::new();
        if captured.follows {
            events.extend(self.followed(captured, &facts, &presented));
        }
        let known = self.sessions.recall(&presented, exchange.answered);
        facts.session_known = Some(known.as_ref().is_some_and(|k| !k.pending));
        if let Some(hint) = self.current.clone().hint.as_ref() {
            let (hinted, unread) = facts.response.map(|(_, answer)| hint.read(answer)).unwrap_or_default();
            if unread > 0 {
                self.metrics.dropped(Drop::Hint, unread as u64);
            }
            for said in &hinted {
                let known = self.sessions.recall(&presented, exchange.answered);
                let decision = hint.decision(said);
                events.extend(self.decided(captured, &decision, Some(said), &facts, presented.clone(), known));
            }
            // The application knows what happened; the routes only conclude it.
            if !hinted.is_empty() {
                return self.identified(events);
            }
        }
        let mut decided = false;
        self.compare_forms(captured, &mut facts, &presented, known.as_ref().map(|k| &k.actor));
        let left_out = captured.rules.decide_each(&captured.candidates, &facts, |decision| {
            // A later call of a batch knows what an earlier one did to the session.
            let known = if decided { self.sessions.recall(&presented, exchange.answered) } else { known.clone() };
            decided = true;
            events.extend(self.decided(captured, &decision, None, &facts, presented.clone(), known));
        });
        if left_out > 0 {
            self.metrics.dropped(Drop::Batch, left_out as u64);
        }
        if !decided {
            events.extend(match captured.auto {
                true => self.without_a_route(&facts, exchange),
                false => self.moved(&facts, &presented),
            });
        }
        self.identified(events)
    }

    /// What is known of an exchange when its rules are asked, for whoever explains them. Nothing is
    /// decided by it, and [`Pipeline::events_of`] may follow.
    pub fn looked_up<'e>(&mut self, captured: &'e Captured) -> Facts<'e> {
        let exchange = &captured.exchange;
        let mut facts = Facts::of_exchange(exchange);
        let presented = self.sessions.presented(&exchange.request.headers, facts.host);
        let known = self.sessions.recall(&presented, exchange.answered);
        let by_auto = captured.auto && self.auto.knows(&facts, &mut self.sessions);
        facts.session_known = Some(known.as_ref().is_some_and(|k| !k.pending) || by_auto);
        self.compare_forms(captured, &mut facts, &presented, known.as_ref().map(|k| &k.actor));
        facts
    }

    /// What is to be said because time went by.
    pub fn events_of_time(&mut self, now: Timestamp) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(waiting) = self.follow_ups.expired(now) {
            self.metrics.follow_up("timeout");
            events.extend(self.concluded(waiting, None, "no_next_request"));
        }
        let ends = now == Timestamp::from_millis(i64::MAX);
        events.extend(self.auto.overdue((!ends).then_some(now), &mut self.sessions));
        // The end of the process is no end of sessions and flows.
        if now < Timestamp::from_millis(i64::MAX) {
            self.flows.expire(now);
            for over in self.sessions.expire(now) {
                if self.sessions.config().revoked {
                    events.push(revoked(over, "expired", now));
                }
            }
        }
        self.identified(events)
    }

    /// Last of all: the memory knows people by whole names, what leaves here may not.
    fn identified(&self, mut events: Vec<Event>) -> Vec<Event> {
        for event in &mut events {
            self.current.identity.apply(event, &self.identity_key);
        }
        events
    }

    /// The events of an exchange that no route took.
    fn without_a_route(&mut self, facts: &Facts<'_>, exchange: &Exchange) -> Vec<Event> {
        let enrichers = &self.current.enrichers;
        let enrich = |event: &mut Event| enrichers.enrich(exchange, event);
        self.auto.observe(facts, exchange, &mut Lent { sessions: &mut self.sessions, enrich: &enrich })
    }

    /// An exchange that a route decided.
    fn decided(
        &mut self,
        captured: &Captured,
        decision: &Decision<'_>,
        hinted: Option<&Hinted>,
        facts: &Facts<'_>,
        mut presented: Vec<Carried>,
        mut known: Option<Remembered>,
    ) -> Vec<Event> {
        let (route, now) = (decision.route, facts.at);
        for source in &route.carried {
            let token = source.read(facts, &route.paths);
            presented.extend(token.map(|t| Carried { via: Via::Token, handle: self.sessions.handle(t.as_bytes()) }));
        }
        if known.is_none() && !route.carried.is_empty() {
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
            return self.wait(captured, decision, follow, event, facts, presented, handed_out, flow);
        }

        let mut events = Vec::new();
        if decision.outcome == Outcome::Unknown {
            self.metrics.undecided(decision.route.id.as_str());
        }
        let bound =
            self.remember(decision, event.as_ref(), facts, (&presented, &handed_out), known.as_ref(), &mut events);
        self.step(decision, &said, &flow, now);
        let Some(mut event) = event else { return complete(events, None) };
        if !self.sampler.due(decision, facts, &captured.exchange) {
            self.metrics.sampled.inc();
            return complete(events, None);
        }
        let session = if bound { None } else { known.as_ref().map(|k| k.shown) };
        event.metadata.session_id = shown(session, &presented, &handed_out).and_then(Shown::text);
        self.current.enrichers.enrich(&captured.exchange, &mut event);
        let mut all = vec![event];
        let further: Vec<Event> = decision.types.iter().skip(1).map(|t| also(&all[0], t)).collect();
        all.extend(further);
        let rest = complete(events, all.first());
        all.extend(rest);
        all
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
            event.organization = said.organization.clone().map(|id| crate::event::Organization { id });
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

    /// Remembers a form that is served, and recalls the one that is sent back. Whose it is says the
    /// actor, where known, else the session itself.
    fn compare_forms(
        &mut self,
        captured: &Captured,
        facts: &mut Facts<'_>,
        presented: &[Carried],
        actor: Option<&Actor>,
    ) {
        let (rules, candidates) = (&captured.rules, &captured.candidates);
        let page = rules.serves(candidates, facts);
        let Some(route) = page.or_else(|| rules.compares(candidates, facts)) else { return };
        let Some(compare) = &route.compare else { return };
        let named = actor.and_then(|a| a.id.as_ref().or(a.login.as_ref()).or(a.email.as_ref()));
        let session = presented.first().and_then(|carried| carried.handle.shown().text());
        let Some(whose) = named.or(session.as_ref()) else { return };
        let which = compare.key.iter().find_map(|source| source.read(facts, &route.paths)).unwrap_or_default();
        let parts = [whose.as_str(), facts.host, &facts.path, route.id.as_str(), &which].map(str::as_bytes);
        let at = self.served.key(&parts);
        match page.and_then(|_| facts.response_body()) {
            Some(body) => self.served.keep(at, &body.text(), &compare.fields),
            None => facts.served = self.served.recall(&at),
        }
    }

    /// Sessions and tokens that the answer hands out.
    fn handed_out(&self, decision: &Decision<'_>, facts: &Facts<'_>) -> Vec<Carried> {
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
    fn remember(
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
    fn bind(
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

    fn tell_over(&self, over: Option<Over>, reason: &'static str, now: Timestamp, say: &mut Vec<Session>) {
        if let Some(over) = over.filter(|_| self.sessions.config().revoked) {
            say.push(Session::Revoked(Box::new(revoked(over, reason, now))));
        }
    }

    /// An exchange that no route decided: its session may still have moved.
    fn moved(&mut self, facts: &Facts<'_>, presented: &[Carried]) -> Vec<Event> {
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

    /// Puts an event aside until its client's next request.
    #[allow(clippy::too_many_arguments)]
    fn wait(
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
    fn followed(&mut self, captured: &Captured, facts: &Facts<'_>, presented: &[Carried]) -> Vec<Event> {
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
    fn concluded(&mut self, waiting: Waiting, decision: Option<&Decision<'_>>, reason: &'static str) -> Vec<Event> {
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

/// What is to be said of a session beside the event of the exchange.
enum Session {
    Created,
    Revoked(Box<Event>),
}

/// The events about sessions, completed from the event of the same exchange.
fn complete(say: Vec<Session>, event: Option<&Event>) -> Vec<Event> {
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
fn revoked(over: Over, reason: &'static str, now: Timestamp) -> Event {
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

/// True if the event is about the own address of whoever acts.
fn changes_own_address(event: &Event) -> bool {
    event.event_type.as_str() == "user.email.changed" && event.outcome == Outcome::Success && event.target.is_none()
}

/// What an event shows of the session: that of the memory, else the freshest one.
fn shown(known: Option<Shown>, presented: &[Carried], handed_out: &[Carried]) -> Option<Shown> {
    let fresh = if handed_out.is_empty() { presented } else { handed_out };
    known.or_else(|| fresh.first().map(|c| c.handle.shown()))
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

/// A further event of the same exchange.
fn also(event: &Event, event_type: &EventType) -> Event {
    Event { id: EventId::new(), event_type: event_type.clone(), ..event.clone() }
}

#[cfg(test)]
mod tests;
