//! Brings events from the spool to the sinks: one task a sink, each with its own position.
//!
//! A sink's outage, slowness or panic delays that sink and no other. The invariant: a sink's
//! position moves past an event only when the sink has it, has refused it, does not want it, or
//! the spool gave it up, and each but the first and third is counted as a drop. Delivery is at
//! least once and in order; what was sent in an unknown state is sent again. Where the spool keeps
//! positions, one batch is noted there before the next is sent, so that a crash repeats at most one
//! batch, and what a sink refused becomes a dead letter. It must never look into an event beyond
//! its type, and never log one.

mod feeder;
pub mod retry;

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use self::feeder::Feeder;
use crate::sinks::batch::BatchLimits;
use crate::sinks::{Filter, Sink};
use crate::spool::Spool;
use crate::telemetry::{Drop, Metrics};

/// How long a sink that was taken out may still take for what was there at that moment.
const REMOVED: Duration = Duration::from_secs(10);
/// How long [`Delivery::drain`] waits, past its deadline, for tasks to count what they leave.
const GRACE: Duration = Duration::from_secs(1);
/// No clock is asked for a moment beyond this.
const LONGEST_DRAIN: Duration = Duration::from_secs(86_400);

/// A sink that is ready to run.
pub struct RunningSinkSpec {
    /// Its name in metrics and logs; one of its own among the sinks.
    pub name: String,
    /// The sink.
    pub sink: Arc<dyn Sink>,
    /// Which events it gets.
    pub filter: Filter,
    /// How many at once.
    pub batch: BatchLimits,
}

/// What [`Delivery::drain`] could not deliver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Name and number of events, for each sink with something left; empty if all were delivered.
    pub left: Vec<(String, u64)>,
    /// True if the spool keeps them for the next start; otherwise they are lost.
    pub kept: bool,
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
    batch: BatchLimits,
    /// Counts replacements, so that a task can tell one from an order to finish.
    generation: u64,
    /// Counts replays, and says where the last of them begins.
    replay: (u64, u64),
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
    /// Starts a task for each sink on `handle`, from the position it had before, or the beginning of
    /// this process, so that nothing that came before the sinks were ready is lost.
    pub fn start(
        handle: &Handle,
        spool: Arc<dyn Spool>,
        metrics: Arc<Metrics>,
        sinks: Vec<RunningSinkSpec>,
    ) -> Delivery {
        let mut delivery =
            Delivery { handle: handle.clone(), spool, metrics, running: Vec::new(), leaving: Vec::new() };
        let beginning = delivery.spool.beginning();
        delivery.running = sinks.into_iter().map(|spec| delivery.spawn(spec, beginning)).collect();
        delivery.hold();
        delivery
    }

    /// Retention waits for the sinks that there are, and no others.
    fn hold(&self) {
        let names: Vec<String> = self.running.iter().map(|running| running.name.clone()).collect();
        self.spool.wait_for(&names);
    }

    /// Sends a sink again what comes after `position`, and its dead letters if asked. False if there
    /// is no such sink.
    pub fn replay(&self, sink: &str, position: Option<u64>, dead_letters: bool) -> bool {
        let Some(running) = self.running.iter().find(|running| running.name == sink) else { return false };
        let position = position.map(|position| position.min(self.spool.newest()));
        self.spool.rewind(sink, position.unwrap_or(running.position.load(Relaxed)), dead_letters);
        running.orders.send_modify(|orders| {
            if let Some(position) = position {
                orders.replay = (orders.replay.0.wrapping_add(1), position);
            }
        });
        true
    }

    /// The names of the sinks.
    pub fn names(&self) -> Vec<String> {
        self.running.iter().map(|running| running.name.clone()).collect()
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
                        orders.batch = spec.batch;
                        orders.generation = orders.generation.wrapping_add(1);
                    });
                    running
                }
                None => self.spawn(spec, newest),
            };
            self.running.push(running);
        }
        self.hold();
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
    /// comes first. What is left is counted as [`Drop::Shutdown`], unless the spool keeps it for the
    /// next start. Nothing may be appended any more. Returns at most a second after the deadline, even if a sink does not let go.
    pub async fn drain(mut self, deadline: Duration) -> Drained {
        let by = Instant::now() + deadline.min(LONGEST_DRAIN);
        let mut drained = Drained { left: Vec::new(), kept: self.spool.outlives_the_process() };
        self.show_the_last(by).await;
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
                    if !drained.kept {
                        self.metrics.dropped(Drop::Shutdown, left);
                    }
                    left
                }
            };
            if left > 0 {
                drained.left.push((running.name, left));
            }
        }
        drained
    }

    /// Readers see an event once it is on disk: what came last is to be seen before the sinks are told
    /// to finish with what they see.
    async fn show_the_last(&self, by: Instant) {
        let (tell, told) = oneshot::channel();
        self.spool.when_on_disk(vec![tell]);
        // Dropped by a spool that shows at once, or whose disk failed; a disk that hangs ends the wait.
        let _ = timeout_at(by, told).await;
    }

    /// Starts a task at the sink's position; a new sink's is `otherwise`.
    fn spawn(&self, spec: RunningSinkSpec, otherwise: u64) -> Running {
        let position = self.spool.resume(&spec.name, otherwise);
        let orders = Orders {
            sink: spec.sink,
            filter: spec.filter,
            batch: spec.batch,
            generation: 0,
            replay: (0, 0),
            finish: None,
        };
        let (orders, receive) = watch::channel(orders);
        let position = Arc::new(AtomicU64::new(position));
        let feeder = Feeder::new(&spec.name, self.spool.clone(), self.metrics.clone(), receive, position.clone());
        Running { name: spec.name, orders, position, task: self.handle.spawn(feeder.run()) }
    }
}
