//! Several of one sink side by side, each with its own connection: `concurrency:`.
//!
//! A batch is cut into consecutive runs, one a lane, and is done when every lane is. So the position
//! of the sink still moves over whole batches, and nothing after a gap ever counts as delivered. The
//! price is that a batch takes as long as its slowest lane, and that the receiver gets runs in any
//! order. The invariant: what a lane has settled is not sent again while the same batch is tried
//! again. It must never remember more than one batch.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use super::{BoxFuture, Sink, SinkError, Verdict};
use crate::config::shape::{Field, Kind};
use crate::event::EventId;
use crate::spool::Stored;

/// How many lanes; for sinks whose receiver does not go by the order.
pub const CONCURRENCY: Field = Field::new(
    "concurrency",
    Kind::Int(1, MOST),
    "1",
    "parts of a batch that are on their way at once, each over its own connection; with more than 1 they arrive in any order",
);
/// The most lanes.
pub const MOST: u64 = 16;

/// The lanes, as one sink.
pub struct Lanes {
    sinks: Vec<Box<dyn Sink>>,
    /// What became of each lane's run, while others of the batch are not done.
    settled: Mutex<Vec<Option<Settled>>>,
}

/// A run that is done.
struct Settled {
    ids: Vec<EventId>,
    /// Indexes into the run, and why.
    refused: Option<(Vec<usize>, String)>,
}

impl Lanes {
    /// These, at least one, as one.
    pub fn new(sinks: Vec<Box<dyn Sink>>) -> Lanes {
        let settled = Mutex::new(sinks.iter().map(|_| None).collect());
        Lanes { sinks, settled }
    }

    fn settled(&self) -> MutexGuard<'_, Vec<Option<Settled>>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a verdict that settles a run; gives back one that does not.
    fn note(&self, lane: usize, run: &[Stored], verdict: Verdict) -> Option<(Option<Duration>, SinkError)> {
        let refused = match verdict {
            Verdict::Retry { after, why } => return Some((after, why)),
            Verdict::Delivered => None,
            Verdict::Refused { which, why } => Some((which, why.to_string())),
        };
        if let Some(slot) = self.settled().get_mut(lane) {
            *slot = Some(Settled { ids: ids(run), refused });
        }
        None
    }

    /// The verdict on a batch of which every lane is done.
    fn conclude(&self, size: usize) -> Verdict {
        let mut all = Vec::new();
        let mut reason = None;
        for (lane, settled) in self.settled().iter_mut().enumerate() {
            let Some(Settled { ids, refused: Some((which, why)) }) = settled.take() else { continue };
            all.extend(which.into_iter().filter(|index| *index < ids.len()).map(|index| lane * size + index));
            reason.get_or_insert(why);
        }
        match reason {
            None => Verdict::Delivered,
            Some(why) => Verdict::Refused { which: all, why: SinkError::Other(why) },
        }
    }
}

fn ids(run: &[Stored]) -> Vec<EventId> {
    run.iter().map(|one| one.event.id).collect()
}

impl Sink for Lanes {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            let size = batch.len().div_ceil(self.sinks.len().max(1)).max(1);
            // The same batch is always cut alike, so that each lane gets back what it began.
            let runs: Vec<&[Stored]> = batch.chunks(size).collect();
            let done: Vec<bool> = {
                let mut settled = self.settled();
                for (lane, slot) in settled.iter_mut().enumerate() {
                    let same = |one: &Settled| runs.get(lane).is_some_and(|run| ids(run) == one.ids);
                    if !slot.as_ref().is_some_and(same) {
                        *slot = None;
                    }
                }
                settled.iter().map(Option::is_some).collect()
            };
            let mut sending: Vec<(usize, &[Stored], BoxFuture<'_, Verdict>)> = Vec::with_capacity(runs.len());
            for ((lane, sink), run) in self.sinks.iter().enumerate().zip(runs) {
                if !done.get(lane).copied().unwrap_or(false) {
                    sending.push((lane, run, sink.send(run)));
                }
            }
            let mut later: Option<(Option<Duration>, SinkError)> = None;
            poll_fn(|cx| {
                sending.retain_mut(|(lane, run, under_way)| {
                    let Poll::Ready(verdict) = under_way.as_mut().poll(cx) else { return true };
                    // Noted at once: whoever drops the rest has this for the next time.
                    if let Some((after, why)) = self.note(*lane, run, verdict) {
                        later = Some(match later.take() {
                            Some((before, first)) => (before.max(after), first),
                            None => (after, why),
                        });
                    }
                    false
                });
                if sending.is_empty() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            match later {
                Some((after, why)) => Verdict::Retry { after, why },
                None => self.conclude(size),
            }
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        match self.sinks.first() {
            Some(sink) => sink.probe(),
            None => Box::pin(async { Ok(()) }),
        }
    }

    fn reopen(&self) {
        self.sinks.iter().for_each(|sink| sink.reopen());
    }
}

#[cfg(test)]
mod tests;
