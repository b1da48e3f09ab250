//! From exchanges to events, on a thread of its own: decide, remember, extract, enrich, append.
//!
//! Regexes, decompression and parsing happen here, never on a traffic thread. A panic in a rule,
//! extractor or enricher costs that one exchange, is counted, and the pipeline goes on. Between
//! exchanges it looks at the clock: for events that waited long enough for their client's next
//! request, for sessions that expired, and for the snapshot of what is remembered.
//!
//! Here are the loop and the order of work. What a step does stands in a file of its own: the event
//! of an exchange that was decided, what becomes of its sessions, events that wait, forms as served.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use crate::auto::{Auto, Lent};
use crate::body;
use crate::capture::queue::Captured;
use crate::capture::watch::Watch;
use crate::enrich::Enrichers;
use crate::event::{Event, Timestamp};
use crate::flow::Flows;
use crate::flow::follow_up::FollowUps;
use crate::glimpse::Glimpses;
use crate::hint::Hint;
use crate::identity::Identity;
use crate::rules::facts::Facts;
use crate::rules::sample::Sampler;
use crate::served::ServedForms;
use crate::session::share::Share;
use crate::session::snapshot::Keeper;
use crate::session::{SessionConfig, Sessions};
use crate::spool::Spool;
use crate::telemetry::{Drop, Metrics};

mod decided;
mod follow_ups;
mod forms;
mod sessions;
#[cfg(test)]
mod tests;

/// The most exchanges worked on before their events are appended together.
const BATCH: usize = 256;
/// How often the clock is looked at where nothing waits.
const IDLE: Duration = Duration::from_secs(10);
/// How long the next exchanges may gather while one batch follows another: whoever offers one meanwhile
/// wakes nobody, and what is done once a batch (waking the store and the sinks, a commit, a write) is
/// done once for all of them. The first after a quiet time never waits.
const LINGER: Duration = Duration::from_millis(24);
/// A batch that comes so soon after the one before it follows it.
const FOLLOWS: Duration = Duration::from_millis(32);
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
    /// Where pages go by which an application may be recognised, and how many there were.
    glimpses: Option<(Glimpses, u64)>,
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
            glimpses: None,
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

    /// What is remembered of sessions is shared with other replicas.
    #[must_use]
    pub fn shared_through(mut self, share: Share) -> Pipeline {
        self.sessions.share_through(share);
        self
    }

    /// Pages that auto has read go here too.
    #[must_use]
    pub fn glimpsed_by(mut self, glimpses: Glimpses) -> Pipeline {
        self.glimpses = Some((glimpses, 0));
        self
    }

    /// Runs on a thread of its own until every sender of the queue is gone, then ends with
    /// everything appended.
    pub fn start(self, queue: mpsc::Receiver<Box<Captured>>) -> std::io::Result<JoinHandle<()>> {
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new().name("pipeline".into()).spawn(move || self.run(&clock, queue))
    }

    fn run(mut self, clock: &tokio::runtime::Runtime, mut queue: mpsc::Receiver<Box<Captured>>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut done = Instant::now();
        loop {
            let wait = self.until_next(Timestamp::now());
            let received = async { tokio::time::timeout(wait, queue.recv_many(&mut batch, BATCH)).await };
            if clock.block_on(received) == Ok(0) {
                break;
            }
            // An answer that is held until its event is on disk must not wait for others; a full batch has
            // more behind it.
            let lingers = batch.len() < BATCH && done.elapsed() < FOLLOWS && batch.iter().all(|c| c.written.is_none());
            self.follow_reload();
            let mut events = Vec::new();
            add(&mut events, self.events_of_others(Timestamp::now()));
            self.ask_others(&batch);
            events.reserve(batch.len());
            let mut awaited = Vec::new();
            // Each is given up as soon as it was read: what it holds of the queue's bound is wanted.
            for mut captured in batch.drain(..) {
                let written = captured.written.take();
                let before = events.len();
                // State touched before a panic is a map entry at worst, never half-written.
                match catch_unwind(AssertUnwindSafe(|| self.add_events_of(&captured, &mut events))) {
                    // Without an event there is nothing to wait for: dropped here.
                    Ok(()) => awaited.extend(written.filter(|_| events.len() > before)),
                    Err(_) => {
                        events.truncate(before);
                        self.metrics.dropped(Drop::Panic, 1);
                        tracing::error!(exchange = ?captured.exchange, "a rule, extractor or enricher panicked; the exchange is lost");
                    }
                }
            }
            add(&mut events, self.events_of_time(Timestamp::now()));
            self.append(events, awaited);
            self.keep();
            if lingers {
                std::thread::sleep(LINGER);
            }
            done = Instant::now();
        }
        // No request will come any more: what waits for one is undecided now.
        let mut left = Vec::new();
        add(&mut left, self.events_of_time(Timestamp::from_millis(i64::MAX)));
        self.append(left, Vec::new());
        let last = self.sessions.take_changed().then(|| self.sessions.to_snapshot()).flatten();
        self.keeper.end(last);
    }

    /// `awaited` are told once these events are on disk.
    fn append(&mut self, events: Vec<Arc<Event>>, awaited: Vec<oneshot::Sender<()>>) {
        let alike =
            |one: &Arc<Event>, next: &Arc<Event>| one.event_type == next.event_type && one.outcome == next.outcome;
        for run in events.chunk_by(alike) {
            if let Some(event) = run.first() {
                self.metrics.events(event.event_type.as_str(), event.outcome.as_str(), run.len() as u64);
            }
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
            self.spool.append_shared(events);
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
            if !self.sessions.to_snapshot().is_some_and(|bytes| self.keeper.save(bytes)) {
                // The disk is slow, say: the next one holds all of it.
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
        let mut events = Vec::new();
        self.add_events_of(captured, &mut events);
        events.into_iter().map(Arc::unwrap_or_clone).collect()
    }

    /// The same, added to others: each where it stays, since an event is large to move.
    fn add_events_of(&mut self, captured: &Captured, events: &mut Vec<Arc<Event>>) {
        let before = events.len();
        self.add_whole_events_of(captured, events);
        for event in events.iter_mut().skip(before) {
            // Nobody else has it yet.
            if let Some(event) = Arc::get_mut(event) {
                self.identify(event);
            }
        }
    }

    fn add_whole_events_of(&mut self, captured: &Captured, events: &mut Vec<Arc<Event>>) {
        let exchange = &captured.exchange;
        let mut facts = Facts::of_exchange(exchange);
        let presented = self.sessions.presented(&exchange.request.headers, facts.host);
        if captured.follows {
            add(events, self.followed(captured, &facts, &presented));
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
                self.decided(captured, &decision, Some(said), &facts, presented.clone(), known, events);
            }
            // The application knows what happened; the routes only conclude it.
            if !hinted.is_empty() {
                return;
            }
        }
        let mut decided = false;
        self.compare_forms(captured, &mut facts, &presented, known.as_ref().map(|k| &k.actor));
        let left_out = captured.rules.decide_each(&captured.candidates, &facts, |decision| {
            // A later call of a batch knows what an earlier one did to the session.
            let known = if decided { self.sessions.recall(&presented, exchange.answered) } else { known.clone() };
            decided = true;
            self.decided(captured, &decision, None, &facts, presented.clone(), known, events);
        });
        if left_out > 0 {
            self.metrics.dropped(Drop::Batch, left_out as u64);
        }
        if !decided {
            let found = match captured.auto {
                true => self.without_a_route(&facts, captured),
                false => self.moved(&facts, &presented),
            };
            add(events, found);
        }
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
                    events.push(sessions::revoked(over, "expired", now));
                }
            }
        }
        self.identified(events)
    }

    fn identified(&self, mut events: Vec<Event>) -> Vec<Event> {
        events.iter_mut().for_each(|event| self.identify(event));
        events
    }

    /// Last of all: the memory knows people by whole names, what leaves here may not.
    fn identify(&self, event: &mut Event) {
        self.current.identity.apply(event, &self.identity_key);
    }

    /// The events of an exchange that no route took.
    fn without_a_route(&mut self, facts: &Facts<'_>, Captured { exchange, rules, .. }: &Captured) -> Vec<Event> {
        let enrichers = &self.current.enrichers;
        let enrich = |event: &mut Event| enrichers.enrich(exchange, event);
        let mut lent = Lent { sessions: &mut self.sessions, enrich: &enrich, covered: rules.preset_is_about(facts) };
        let events = self.auto.observe(facts, exchange, &mut lent);
        if let Some((glimpses, seen)) = &mut self.glimpses
            && let Some((_, headers)) = facts.response
            && body::media_type(body::content_type(headers)).eq_ignore_ascii_case("text/html")
            && let Some(page) = facts.response_body()
        {
            glimpses.offer_page(*seen, || page.text());
            *seen = seen.wrapping_add(1);
        }
        events
    }
}

/// Events that are seldom, or of others' making, put where they stay.
fn add(events: &mut Vec<Arc<Event>>, more: Vec<Event>) {
    events.extend(more.into_iter().map(Arc::new));
}
