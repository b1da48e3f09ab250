//! Learning from live traffic: takes the place of the pipeline behind the proxy.
//!
//! Runs on a thread of its own; traffic goes on whatever happens here, and what finds no room in the
//! queue is dropped and counted as in `run`. Nothing is stored: an exchange is looked at, recorded
//! without its secrets if that is wanted, and dropped. A panic costs one exchange.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::{Observed, Observer};
use crate::app::offline::Offline;
use crate::capture::queue::Captured;
use crate::event::Event;
use crate::record::{Recorder, Written};

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Exchanges that were looked at.
    pub exchanges: usize,
    /// Events, by type.
    pub events: BTreeMap<String, u64>,
    /// Presets of the application, as far as it was recognised.
    pub presets: Vec<&'static str>,
    /// Exchanges that were lost by a panic.
    pub lost: usize,
}

/// What came of it.
pub struct Learnt {
    /// For the draft.
    pub observed: Observed,
    /// What was seen.
    pub progress: Progress,
    /// What was recorded, if that was wanted.
    pub recorded: Option<std::io::Result<Written>>,
}

impl Progress {
    fn note(&mut self, events: &[Event]) {
        for event in events {
            *self.events.entry(event.event_type.to_string()).or_default() += 1;
        }
    }
}

/// Starts the thread; it hands what it observed to `done` when every sender of the queue is gone.
///
/// `show` is told of each exchange; it must not wait for long, since the queue fills meanwhile.
///
/// # Errors
/// The thread cannot be started.
pub fn start(
    mut queue: mpsc::Receiver<Box<Captured>>,
    mut offline: Offline,
    mut show: impl FnMut(&Progress) + Send + 'static,
    mut recorder: Option<Recorder>,
    done: impl FnOnce(Learnt) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("learn".into()).spawn(move || {
        let mut observer = Observer::of_traffic();
        let mut progress = Progress::default();
        while let Some(captured) = queue.blocking_recv() {
            // Its share of the queue is given back before the work.
            let Captured { exchange, held, .. } = *captured;
            drop(held);
            let looked = catch_unwind(AssertUnwindSafe(|| {
                recorder.iter_mut().for_each(|recorder| recorder.record(&exchange));
                observer.see(&mut offline, exchange)
            }));
            match looked {
                Ok(events) => progress.note(&events),
                Err(_) => progress.lost += 1,
            }
            progress.exchanges = observer.count();
            if progress.presets.len() < observer.presets().len() {
                progress.presets = observer.presets().iter().map(|found| found.preset).collect();
            }
            show(&progress);
        }
        let (observed, events) = observer.end(&mut offline);
        progress.note(&events);
        done(Learnt { observed, progress, recorded: recorder.map(Recorder::finish) });
    })
}
