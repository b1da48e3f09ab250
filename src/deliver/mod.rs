//! Brings events from the spool to the sinks: one task a sink, each with its own position.
//!
//! A sink's outage, slowness or panic delays that sink and no other. The invariant: a sink's
//! position moves past an event only when the sink has it, has refused it, does not want it, or
//! the spool gave it up, and each but the first and third is counted as a drop. Delivery is at
//! least once and in order; what was sent in an unknown state is sent again. It must never look
//! into an event beyond its type, and never log one.

pub mod retry;

#[cfg(test)]
mod tests;

use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use self::retry::Backoff;
use crate::sinks::{Filter, Sink, SinkError, Verdict};
use crate::spool::{Spool, Stored};
use crate::telemetry::{Drop, Metrics};

/// The most events a sink is given at once.
pub const MAX_BATCH: usize = 500;
/// How long a sink that was replaced may still take for the batch it is sending.
const REPLACED: Duration = Duration::from_secs(5);
/// How long a sink that was taken out may still take for what was there at that moment.
const REMOVED: Duration = Duration::from_secs(10);
/// How long [`Delivery::drain`] waits, past its deadline, for tasks to count what they leave.
const GRACE: Duration = Duration::from_secs(1);
/// No clock is asked for a moment beyond this.
const LONGEST_DRAIN: Duration = Duration::from_secs(86_400);
/// A loss that goes on is logged at once, and then at most this often, with its sum.
const QUIET: Duration = Duration::from_secs(600);
/// How often the lag is stated while a sink takes its time.
const LAG: Duration = Duration::from_secs(1);

/// A sink that is ready to run.
pub struct RunningSinkSpec {
    /// Its name in metrics and logs; one of its own among the sinks.
    pub name: String,
    /// The sink.
    pub sink: Arc<dyn Sink>,
    /// Which events it gets.
    pub filter: Filter,
}

/// What [`Delivery::drain`] could not deliver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Name and number of events, for each sink with something left; empty if all were delivered.
    pub left: Vec<(String, u64)>,
}

/// The running deliveries. Dropped without [`Delivery::drain`] it stops them at once, and counts
/// what is left.
pub struct Delivery {
    handle: Handle,
    spool: Arc<dyn Spool>,
    metrics: Arc<Metrics>,
    running: Vec<Running>,
    /// Taken out of the configuration, and given a moment to finish.
    leaving: Vec<Running>,
}

struct Running {
    name: String,
    orders: watch::Sender<Orders>,
    position: Arc<AtomicU64>,
    task: JoinHandle<u64>,
}

/// What a task is to do; it looks at every wait whether this has changed.
#[derive(Clone)]
struct Orders {
    sink: Arc<dyn Sink>,
    filter: Filter,
    /// Counts replacements, so that a task can tell one from an order to finish.
    generation: u64,
    finish: Option<Finish>,
}

#[derive(Clone, Copy)]
struct Finish {
    /// Deliver up to this position,
    until: u64,
    /// but no longer than this.
    by: Instant,
}

impl Delivery {
    /// Starts a task for each sink on `handle`, from the beginning of the spool, so that nothing
    /// that came before the sinks were ready is lost.
    pub fn start(
        handle: &Handle,
        spool: Arc<dyn Spool>,
        metrics: Arc<Metrics>,
        sinks: Vec<RunningSinkSpec>,
    ) -> Delivery {
        let mut delivery =
            Delivery { handle: handle.clone(), spool, metrics, running: Vec::new(), leaving: Vec::new() };
        delivery.running = sinks.into_iter().map(|spec| delivery.spawn(spec, 0)).collect();
        delivery
    }

    /// Puts these sinks in the place of the present ones. A sink whose name is there already goes
    /// on from its position, with the batch it failed to send, at once; a new one starts with the
    /// next event; one that is no longer there may finish for [`REMOVED`] what the spool holds
    /// now, and what it leaves is counted as dropped.
    pub fn replace(&mut self, sinks: Vec<RunningSinkSpec>) {
        let newest = self.spool.newest();
        let mut before = std::mem::take(&mut self.running);
        for spec in sinks {
            let running = match before.iter().position(|r| r.name == spec.name) {
                Some(at) => {
                    let running = before.swap_remove(at);
                    running.orders.send_modify(|orders| {
                        orders.sink = spec.sink;
                        orders.filter = spec.filter;
                        orders.generation = orders.generation.wrapping_add(1);
                    });
                    running
                }
                None => self.spawn(spec, newest),
            };
            self.running.push(running);
        }
        self.leaving.retain(|running| !running.task.is_finished());
        let finish = Finish { until: newest, by: Instant::now() + REMOVED };
        for running in before {
            running.orders.send_modify(|orders| orders.finish = Some(finish));
            self.leaving.push(running);
        }
    }

    /// Has every sink open its file anew (SIGHUP after log rotation).
    pub fn reopen(&self) {
        for running in &self.running {
            let sink = running.orders.borrow().sink.clone();
            if catch_unwind(AssertUnwindSafe(|| sink.reopen())).is_err() {
                tracing::error!(sink = %running.name, "a sink panicked while it opened its file anew");
            }
        }
    }

    /// Delivers what the spool holds until all is delivered or the deadline has passed, whichever
    /// comes first. What is left is counted as [`Drop::Shutdown`]. Nothing may be appended any
    /// more. Returns at most a second after the deadline, even if a sink does not let go.
    pub async fn drain(mut self, deadline: Duration) -> Drained {
        let by = Instant::now() + deadline.min(LONGEST_DRAIN);
        let mut drained = Drained::default();
        for running in &self.running {
            running.orders.send_modify(|orders| orders.finish = Some(Finish { until: u64::MAX, by }));
        }
        for running in &self.leaving {
            running.orders.send_if_modified(|orders| {
                let sooner = orders.finish.as_mut().filter(|finish| finish.by > by);
                sooner.map(|finish| finish.by = by).is_some()
            });
        }
        for mut running in self.running.drain(..).chain(self.leaving.drain(..)) {
            let left = match timeout_at(by + GRACE, &mut running.task).await {
                Ok(Ok(left)) => left,
                // Blocked inside the sink, or broken: its last position is all that is known.
                Ok(Err(_)) | Err(_) => {
                    running.task.abort();
                    let left = self.spool.newest().saturating_sub(running.position.load(Relaxed));
                    self.metrics.dropped(Drop::Shutdown, left);
                    left
                }
            };
            if left > 0 {
                drained.left.push((running.name, left));
            }
        }
        drained
    }

    fn spawn(&self, spec: RunningSinkSpec, position: u64) -> Running {
        let orders = Orders { sink: spec.sink, filter: spec.filter, generation: 0, finish: None };
        let (orders, receive) = watch::channel(orders);
        let position = Arc::new(AtomicU64::new(position));
        let feeder = Feeder {
            name: spec.name.clone(),
            spool: self.spool.clone(),
            metrics: self.metrics.clone(),
            appended: self.spool.appended(),
            orders: receive,
            position: position.clone(),
            backoff: Backoff::seeded_by_chance(),
            failing: None,
            refused: Loss::default(),
            skipped: Loss::default(),
        };
        Running { name: spec.name, orders, position, task: self.handle.spawn(feeder.run()) }
    }
}

/// The task of one sink.
struct Feeder {
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
}

/// Since when and how often in a row a sink has failed.
struct Failing {
    since: Instant,
    attempts: u64,
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
    /// Delivers until told to finish; gives the number of events that were left, which are counted.
    async fn run(mut self) -> u64 {
        let mut in_hand: Vec<Stored> = Vec::new();
        loop {
            let orders = self.read_orders();
            if orders.finish.is_some_and(|finish| finish.by <= Instant::now()) {
                break;
            }
            if in_hand.is_empty() {
                in_hand = self.take(&orders);
            }
            if in_hand.is_empty() {
                self.metrics.sink_lag(&self.name, 0);
                if orders.finish.is_some() || !self.wait_for_more().await {
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

    /// The next events from the spool; the position moves over those that are gone.
    fn take(&mut self, orders: &Orders) -> Vec<Stored> {
        // Seen from here on: what is appended after this line wakes the wait.
        self.appended.borrow_and_update();
        let position = self.position.load(Relaxed);
        let until = orders.finish.map_or(u64::MAX, |finish| finish.until);
        if position >= until {
            return Vec::new();
        }
        let mut batch = self.spool.read(position, MAX_BATCH);
        if batch.skipped > 0 {
            self.position.store(position.saturating_add(batch.skipped), Relaxed);
            self.count_skipped(batch.skipped);
        }
        batch.events.retain(|one| one.seq <= until);
        batch.events
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
        let wanted: Vec<Stored> = batch.iter().filter(|one| orders.filter.takes(&one.event)).cloned().collect();
        let refused = if wanted.is_empty() {
            0
        } else {
            match self.send(orders, &wanted).await {
                Some(Verdict::Delivered) => 0,
                Some(Verdict::Refused { mut which, why }) => {
                    which.retain(|index| *index < wanted.len());
                    which.sort_unstable();
                    which.dedup();
                    self.count_refused(which.len() as u64, &why);
                    which.len()
                }
                Some(Verdict::Retry { after, why }) => {
                    self.fail(wanted.len() as u64, &why);
                    let delay = self.backoff.next(after);
                    self.wait_to_retry(orders, delay).await;
                    return false;
                }
                None => return false,
            }
        };
        if !wanted.is_empty() {
            self.recover();
        }
        self.count("filtered", batch.len().saturating_sub(wanted.len()));
        self.count("delivered", wanted.len().saturating_sub(refused));
        if let Some(last) = batch.last() {
            self.position.store(last.seq, Relaxed);
        }
        self.state_lag();
        true
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
        tokio::select! {
            () = sleep(delay) => {}
            () = at(orders.finish.map(|finish| finish.by)) => {}
            // A new sink, or little time left: begin with short waits.
            _ = self.orders.changed() => self.backoff.reset(),
        }
    }

    fn fail(&mut self, events: u64, why: &SinkError) {
        self.metrics.sink(&self.name, "retried", events);
        self.state_lag();
        match &mut self.failing {
            Some(failing) => failing.attempts = failing.attempts.saturating_add(1),
            None => {
                tracing::warn!(sink = %self.name, error = %why, "a sink fails; its events wait in the spool");
                self.failing = Some(Failing { since: Instant::now(), attempts: 1 });
            }
        }
    }

    fn recover(&mut self) {
        self.backoff.reset();
        if let Some(Failing { since, attempts }) = self.failing.take() {
            let seconds = since.elapsed().as_secs();
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
        }
    }

    fn state_lag(&self) {
        self.metrics.sink_lag(&self.name, self.spool.newest().saturating_sub(self.position.load(Relaxed)));
    }

    /// Counts what will not be delivered any more: the batch in hand, and what comes after it.
    fn leave(mut self, in_hand: &[Stored]) -> u64 {
        let filter = self.orders.borrow().filter.clone();
        let until = self.orders.borrow().finish.map_or(u64::MAX, |finish| finish.until).min(self.spool.newest());
        let wanted =
            |events: &[Stored]| events.iter().filter(|one| one.seq <= until && filter.takes(&one.event)).count() as u64;
        let mut left = wanted(in_hand);
        let mut position = in_hand.last().map_or(self.position.load(Relaxed), |last| last.seq);
        while position < until {
            let batch = self.spool.read(position, MAX_BATCH);
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
        self.metrics.sink_lag(&self.name, 0);
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
