//! The task of one sink: takes from the spool, sends, and says what became of it.
//!
//! It never waits for another sink. The invariant is that of [`super`]: its position moves past what
//! is dealt with, and nothing else.

use std::borrow::Cow;
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::retry::Backoff;
use super::{Finish, Orders};
use crate::event::Outcome;
use crate::event::notice::{DROPPED, SINK_DOWN, SINK_UP, notice};
use crate::sinks::batch;
use crate::sinks::{Sink, SinkError, Verdict};
use crate::spool::{Ack, Backlog, Batch, DeadLetter, Spool, Stored};
use crate::telemetry::{Drop, Metrics};

/// How long a sink that was replaced may still take for the batch it is sending.
pub(super) const REPLACED: Duration = Duration::from_secs(5);
/// A loss that goes on is logged at once, and then at most this often, with its sum.
const QUIET: Duration = Duration::from_secs(600);
/// How often the lag is stated while a sink takes its time.
pub(super) const LAG: Duration = Duration::from_secs(1);
/// A sink that has failed for so long is down, and the stream of events says so.
pub(super) const DOWN: Duration = Duration::from_secs(30);
/// How long a sink waits until its position is on disk before it goes on regardless.
const NOTED: Duration = Duration::from_secs(1);
/// Dead letters sent again at once.
const DEAD_LETTERS: usize = 100;
/// The longest reason that is kept with a dead letter, in characters.
const MAX_REASON: usize = 500;

/// The task of one sink.
pub(super) struct Feeder {
    name: String,
    spool: Arc<dyn Spool>,
    metrics: Arc<Metrics>,
    appended: watch::Receiver<u64>,
    orders: watch::Receiver<Orders>,
    /// Everything up to here is dealt with. Written by this task only.
    position: Arc<AtomicU64>,
    backoff: Backoff,
    failing: Option<Failing>,
    refused: Loss,
    skipped: Loss,
    /// The last replay that was begun.
    replayed: u64,
    /// Events given up by the spool that its notes do not have yet.
    unnoted: u64,
    /// The last dead letter that was sent again.
    dead_letter: i64,
}

/// Since when and how often in a row a sink has failed.
struct Failing {
    since: Instant,
    attempts: u64,
    /// Why, as it was the first time.
    why: String,
    /// True once the stream of events says so.
    told: bool,
}

/// Lost events of one kind, gathered between two lines of the log.
#[derive(Default)]
struct Loss {
    count: u64,
    told: Option<Instant>,
}

impl Loss {
    /// Adds some; gives the sum if it is time to speak of it.
    fn add(&mut self, count: u64) -> Option<u64> {
        self.count = self.count.saturating_add(count);
        let now = Instant::now();
        if self.told.is_some_and(|told| now.duration_since(told) < QUIET) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

impl Feeder {
    /// A task that goes on at `position`.
    pub fn new(
        name: &str,
        spool: Arc<dyn Spool>,
        metrics: Arc<Metrics>,
        orders: watch::Receiver<Orders>,
        position: Arc<AtomicU64>,
    ) -> Feeder {
        Feeder {
            name: name.to_owned(),
            appended: spool.appended(),
            spool,
            metrics,
            orders,
            position,
            backoff: Backoff::seeded_by_chance(),
            failing: None,
            refused: Loss::default(),
            skipped: Loss::default(),
            replayed: 0,
            unnoted: 0,
            dead_letter: 0,
        }
    }

    /// Delivers until told to finish; gives the number of events that were left, which are counted.
    pub async fn run(mut self) -> u64 {
        let mut in_hand: Vec<Stored> = Vec::new();
        loop {
            let orders = self.read_orders();
            if orders.finish.is_some_and(|finish| finish.by <= Instant::now()) {
                break;
            }
            if self.begin_replay(&orders) {
                in_hand.clear();
            }
            self.resend_dead_letters(&orders).await;
            if in_hand.is_empty() {
                in_hand = self.take(&orders).await;
            }
            if in_hand.is_empty() {
                self.show_lag(Backlog::default());
                if orders.finish.is_some() {
                    break;
                }
                // More dead letters are no news that would end a wait.
                if !self.spool.wants_dead_letters(&self.name) && !self.wait_for_more().await {
                    break;
                }
            } else if self.attempt(&orders, &in_hand).await {
                in_hand.clear();
                // A sink that answers at once, or wants nothing, must not keep the thread from the others.
                consume_budget().await;
            }
        }
        self.leave(&in_hand)
    }

    /// The present orders. If nobody is left to give any, they are to stop.
    fn read_orders(&mut self) -> Orders {
        let mut orders = self.orders.borrow_and_update().clone();
        if self.orders.has_changed().is_err() {
            orders.finish = Some(Finish { until: 0, by: Instant::now() });
        }
        orders
    }

    /// Goes to where a replay begins, if one was ordered since.
    fn begin_replay(&mut self, orders: &Orders) -> bool {
        let (number, position) = orders.replay;
        if number == self.replayed {
            return false;
        }
        self.replayed = number;
        self.position.store(position, Relaxed);
        // Once more, because a batch that was under way has noted its own end meanwhile.
        drop(self.spool.acknowledge(Ack { sink: self.name.clone(), position, ..Ack::default() }));
        tracing::info!(sink = %self.name, position, "a replay begins");
        true
    }

    /// The next events from the spool; the position moves over those that are gone.
    async fn take(&mut self, orders: &Orders) -> Vec<Stored> {
        if !self.gather(orders).await {
            return Vec::new();
        }
        // Seen from here on: what is appended after this line wakes the wait.
        self.appended.borrow_and_update();
        let position = self.position.load(Relaxed);
        let until = orders.finish.map_or(u64::MAX, |finish| finish.until);
        if position >= until {
            return Vec::new();
        }
        let mut batch = self.read(position, orders.batch.max_events).await;
        if batch.skipped > 0 {
            self.position.store(position.saturating_add(batch.skipped), Relaxed);
            self.unnoted = self.unnoted.saturating_add(batch.skipped);
            self.count_skipped(batch.skipped);
        }
        batch.events.retain(|one| one.seq <= until);
        orders.batch.cut(&mut batch.events);
        batch.events
    }

    /// Reads from memory, or else from the disk without holding up the runtime.
    async fn read(&self, position: u64, max: usize) -> Batch {
        if let Some(batch) = self.spool.recent(position, max) {
            return batch;
        }
        let spool = self.spool.clone();
        tokio::task::spawn_blocking(move || spool.read(position, max)).await.unwrap_or_default()
    }

    /// Waits as long as is allowed until a batch is full; at the end of delivery for nothing. False if there are
    /// other orders meanwhile, for which it may be another sink's.
    async fn gather(&mut self, orders: &Orders) -> bool {
        let limits = orders.batch;
        if limits.max_wait.is_zero() || orders.finish.is_some() {
            return true;
        }
        let position = self.position.load(Relaxed);
        let until = Instant::now() + limits.max_wait;
        loop {
            self.appended.borrow_and_update();
            let waits = self.spool.backlog(position);
            // Nothing at all is waited for elsewhere.
            if waits.events == 0 || waits.events >= limits.max_events as u64 || waits.bytes >= limits.max_bytes as u64 {
                return true;
            }
            tokio::select! {
                changed = self.appended.changed() => if changed.is_err() { return true },
                () = sleep_until(until) => return true,
                _ = self.orders.changed() => {
                    // Not read yet.
                    self.orders.mark_changed();
                    return false;
                }
            }
        }
    }

    /// Waits for an event or an order; false if neither can come.
    async fn wait_for_more(&mut self) -> bool {
        let appended = async {
            if self.appended.changed().await.is_err() {
                pending::<()>().await;
            }
        };
        tokio::select! {
            () = appended => true,
            changed = self.orders.changed() => changed.is_ok(),
        }
    }

    /// Sends a batch once, and waits as long as a failure demands. True if the batch is dealt with.
    async fn attempt(&mut self, orders: &Orders, batch: &[Stored]) -> bool {
        // Most sinks take everything: then nothing is copied.
        let takes = |one: &&Stored| orders.filter.takes(&one.event);
        let wanted: Cow<'_, [Stored]> = match batch.iter().all(|one| takes(&one)) {
            true => batch.into(),
            false => batch.iter().filter(takes).cloned().collect(),
        };
        let refused = match wanted.is_empty() {
            true => Vec::new(),
            false => match self.verdict(orders, &wanted).await {
                Some(refused) => refused,
                None => return false,
            },
        };
        if !wanted.is_empty() {
            self.recover();
        }
        let filtered = batch.len().saturating_sub(wanted.len());
        let delivered = wanted.len().saturating_sub(refused.len());
        self.count("filtered", filtered);
        self.count("delivered", delivered);
        if let Some(last) = batch.last() {
            self.position.store(last.seq, Relaxed);
            let ack = Ack {
                sink: self.name.clone(),
                position: last.seq,
                delivered: delivered as u64,
                filtered: filtered as u64,
                skipped: std::mem::take(&mut self.unnoted),
                refused: refused.into_iter().filter_map(|(i, why)| Some((wanted.get(i)?.clone(), why))).collect(),
                ..Ack::default()
            };
            // A disk that hangs must not hold a sink up: then a crash repeats more than one batch.
            let _ = timeout(NOTED, self.spool.acknowledge(ack).wait()).await;
        }
        self.state_lag();
        true
    }

    /// Sends events once. Gives those that were refused, by index and with the reason; `None`, after
    /// the wait that the failure demands, if they must be sent again.
    async fn verdict(&mut self, orders: &Orders, wanted: &[Stored]) -> Option<Vec<(usize, String)>> {
        match self.send(orders, wanted).await? {
            Verdict::Delivered => Some(Vec::new()),
            Verdict::Refused { mut which, why } => {
                which.retain(|index| *index < wanted.len());
                which.sort_unstable();
                which.dedup();
                self.count_refused(which.len() as u64, &why);
                let why: String = why.to_string().chars().take(MAX_REASON).collect();
                Some(which.into_iter().map(|index| (index, why.clone())).collect())
            }
            Verdict::Retry { after, why } => {
                self.fail(wanted.len() as u64, &why);
                let delay = self.backoff.next(after);
                self.wait_to_retry(orders, delay).await;
                None
            }
        }
    }

    /// Sends the next dead letters again, if that was asked for. What is refused once more stays.
    async fn resend_dead_letters(&mut self, orders: &Orders) {
        if orders.finish.is_some() || !self.spool.wants_dead_letters(&self.name) {
            return;
        }
        let (spool, name, after) = (self.spool.clone(), self.name.clone(), self.dead_letter);
        let read = tokio::task::spawn_blocking(move || spool.dead_letters(&name, after, DEAD_LETTERS));
        let letters: Vec<DeadLetter> = read.await.unwrap_or_default();
        let mut ack = Ack { sink: self.name.clone(), position: self.position.load(Relaxed), ..Ack::default() };
        match letters.last() {
            None => {
                self.dead_letter = 0;
                ack.dead_letters_done = true;
            }
            Some(last) => {
                let events: Vec<Stored> = letters.iter().map(|letter| letter.stored.clone()).collect();
                let Some(refused) = self.verdict(orders, &events).await else { return };
                self.recover();
                self.dead_letter = last.id;
                let stays = |at: usize| refused.iter().any(|(index, _)| *index == at);
                let settled = letters.iter().enumerate().filter(|(at, _)| !stays(*at)).map(|(_, letter)| letter.id);
                ack.settled = settled.collect();
                ack.delivered = ack.settled.len() as u64;
                self.count("delivered", ack.settled.len());
            }
        }
        let _ = timeout(NOTED, self.spool.acknowledge(ack).wait()).await;
    }

    /// The sink's verdict on a batch; `None` if it took longer than an order allows. A panic is a
    /// reason to try again.
    async fn send(&mut self, orders: &Orders, batch: &[Stored]) -> Option<Verdict> {
        let mut sending = pin!(guarded(&*orders.sink, batch));
        let mut limit = orders.finish.map(|finish| finish.by);
        loop {
            tokio::select! {
                biased;
                verdict = &mut sending => return Some(verdict),
                () = at(limit) => return None,
                changed = self.orders.changed() => {
                    let now = Instant::now();
                    let new = self.orders.borrow_and_update();
                    let replaced = (new.generation != orders.generation).then(|| now + REPLACED);
                    let stopped = changed.is_err().then_some(now);
                    let finish = new.finish.map(|finish| finish.by);
                    limit = [limit, replaced, stopped, finish].into_iter().flatten().min();
                }
                () = sleep(LAG) => self.state_lag(),
            }
        }
    }

    /// Waits before a batch is tried again; an order ends the wait, and so does its deadline.
    async fn wait_to_retry(&mut self, orders: &Orders, delay: Duration) {
        let overtaken = {
            let new = self.orders.borrow();
            new.generation != orders.generation || new.finish.is_some() != orders.finish.is_some()
        };
        if overtaken {
            self.backoff.reset();
            return;
        }
        let until = Instant::now() + delay;
        let down = self.failing.as_ref().filter(|failing| !failing.told).map(|failing| failing.since + DOWN);
        tokio::select! {
            () = sleep_until(until) => {}
            () = at(orders.finish.map(|finish| finish.by)) => {}
            // A new sink, or little time left: begin with short waits.
            _ = self.orders.changed() => self.backoff.reset(),
            // Not at the next attempt, which may be an hour away.
            () = at(down) => {
                self.tell_down();
                tokio::select! {
                    () = sleep_until(until) => {}
                    () = at(orders.finish.map(|finish| finish.by)) => {}
                    _ = self.orders.changed() => self.backoff.reset(),
                }
            }
        }
    }

    /// Says in the stream of events that the sink is down.
    fn tell_down(&mut self) {
        let Some(failing) = &mut self.failing else { return };
        failing.told = true;
        let waits = self.spool.backlog(self.position.load(Relaxed)).events;
        let fields = [("sink", self.name.clone()), ("reason", failing.why.clone()), ("waiting", waits.to_string())];
        self.spool.append(vec![notice(SINK_DOWN, Outcome::Failure, &fields)]);
    }

    fn fail(&mut self, events: u64, why: &SinkError) {
        self.metrics.sink(&self.name, "retried", events);
        self.state_lag();
        match &mut self.failing {
            Some(failing) => failing.attempts = failing.attempts.saturating_add(1),
            None => {
                tracing::warn!(sink = %self.name, error = %why, "a sink fails; its events wait in the spool");
                let why = why.to_string();
                self.failing = Some(Failing { since: Instant::now(), attempts: 1, why, told: false });
            }
        }
        if self.failing.as_ref().is_some_and(|failing| !failing.told && failing.since.elapsed() >= DOWN) {
            self.tell_down();
        }
    }

    fn recover(&mut self) {
        self.backoff.reset();
        if let Some(Failing { since, attempts, told, .. }) = self.failing.take() {
            let seconds = since.elapsed().as_secs();
            if told {
                let fields = [("sink", self.name.clone()), ("seconds", seconds.to_string())];
                self.spool.append(vec![notice(SINK_UP, Outcome::Success, &fields)]);
            }
            tracing::info!(sink = %self.name, failed_attempts = attempts, seconds, "a sink takes events again");
        }
    }

    fn count(&self, result: &'static str, events: usize) {
        if events > 0 {
            self.metrics.sink(&self.name, result, events as u64);
        }
    }

    fn count_refused(&mut self, events: u64, why: &SinkError) {
        if events == 0 {
            return;
        }
        self.metrics.sink(&self.name, "refused", events);
        self.metrics.dropped(Drop::Refused, events);
        if let Some(events) = self.refused.add(events) {
            tracing::warn!(sink = %self.name, events, error = %why, "a sink refused events for good");
        }
    }

    fn count_skipped(&mut self, events: u64) {
        self.metrics.sink(&self.name, "skipped", events);
        self.metrics.dropped(Drop::SpoolFull, events);
        if let Some(events) = self.skipped.add(events) {
            tracing::warn!(sink = %self.name, events, "the spool was full: a sink was too slow or away, and lost events");
            if self.spool.outlives_the_process() {
                let fields = [("sink", self.name.clone()), ("spool_full", events.to_string())];
                self.spool.append(vec![notice(DROPPED, Outcome::Failure, &fields)]);
            }
        }
    }

    fn state_lag(&self) {
        self.show_lag(self.spool.backlog(self.position.load(Relaxed)));
    }

    fn show_lag(&self, waits: Backlog) {
        self.metrics.sink_lag(&self.name, waits.events, waits.bytes, waits.age);
    }

    /// Counts what will not be delivered any more: the batch in hand, and what comes after it.
    /// What the spool keeps for the next start is only told.
    fn leave(mut self, in_hand: &[Stored]) -> u64 {
        if self.spool.outlives_the_process() {
            let waits = self.spool.backlog(self.position.load(Relaxed)).events;
            if waits > 0 {
                tracing::info!(sink = %self.name, events = waits, "a sink ended before it had taken all events; they wait in the store");
            }
            return waits;
        }
        let filter = self.orders.borrow().filter.clone();
        let until = self.orders.borrow().finish.map_or(u64::MAX, |finish| finish.until).min(self.spool.newest());
        let wanted =
            |events: &[Stored]| events.iter().filter(|one| one.seq <= until && filter.takes(&one.event)).count() as u64;
        let mut left = wanted(in_hand);
        let mut position = in_hand.last().map_or(self.position.load(Relaxed), |last| last.seq);
        while position < until {
            let batch = self.spool.read(position, batch::MAX_EVENTS);
            if batch.skipped > 0 {
                self.count_skipped(batch.skipped);
            }
            let Some(last) = batch.events.last() else { break };
            position = last.seq;
            left = left.saturating_add(wanted(&batch.events));
        }
        for (loss, what) in [(&self.refused, "refused by the sink"), (&self.skipped, "given up by the spool")] {
            if loss.count > 0 {
                tracing::warn!(sink = %self.name, events = loss.count, "events were lost since last told: {what}");
            }
        }
        if left > 0 {
            self.metrics.dropped(Drop::Shutdown, left);
            tracing::warn!(sink = %self.name, events = left, "a sink ended before it had taken all events");
        }
        self.show_lag(Backlog::default());
        left
    }
}

/// Sends a batch; a panic, at once or later, is a verdict too.
async fn guarded(sink: &dyn Sink, batch: &[Stored]) -> Verdict {
    // The message of a panic may quote an event, so it is not repeated.
    let panicked = || Verdict::Retry { after: None, why: SinkError::Other("the sink panicked".into()) };
    let Ok(mut sending) = catch_unwind(AssertUnwindSafe(|| sink.send(batch))) else { return panicked() };
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| sending.as_mut().poll(cx))) {
        Ok(poll) => poll,
        Err(_) => Poll::Ready(panicked()),
    })
    .await
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}
