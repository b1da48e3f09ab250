//! A batch in parts: what a receiver takes at once, and what became of each event so far.
//!
//! A batch that was sent in part is tried again whole by the delivery; what was settled the first
//! time is remembered here and not sent twice, nor is a refusal forgotten. A part that is refused
//! without saying which event is the reason is halved until the event is found. It must never
//! remember more than one batch. The invariant: an event counts as delivered only after a receiver
//! took it, alone or in a part that it took whole.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::answer::{Answer, Fate};
use crate::event::EventId;
use crate::sinks::{BoxFuture, SinkError, Verdict};
use crate::spool::Stored;

/// How much a receiver takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events, at least 1.
    pub events: usize,
    /// Bytes of their lines; a single longer event goes alone.
    pub bytes: usize,
}

impl Limits {
    /// The same with no more events than this, whatever was configured.
    pub fn at_most(self, events: usize) -> Limits {
        Limits { events: self.events.min(events), ..self }
    }
}

/// Whoever brings one part to the receiver.
pub trait Courier: Send + Sync {
    /// Sends one part (never empty) and says what became of it.
    fn carry<'a>(&'a self, part: &'a [Stored]) -> BoxFuture<'a, Answer>;
}

/// What became of the events of the batch under way.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Why it was refused, or nothing if it was taken.
    settled: Mutex<HashMap<EventId, Option<String>>>,
}

impl Ledger {
    /// Sends what of a batch is not settled yet, part by part and in order.
    pub async fn deliver(&self, courier: &dyn Courier, limits: Limits, batch: &[Stored]) -> Verdict {
        let open: Vec<Stored> = {
            let mut settled = self.settled();
            settled.retain(|id, _| batch.iter().any(|one| one.event.id == *id));
            batch.iter().filter(|one| !settled.contains_key(&one.event.id)).cloned().collect()
        };
        let mut parts: VecDeque<&[Stored]> = cut(&open, limits).into();
        while let Some(part) = parts.pop_front() {
            match courier.carry(part).await {
                Answer::Taken => self.settle(part.iter().map(|one| (one, None))),
                Answer::Refused { divisible: true, .. } if part.len() > 1 => {
                    let (left, right) = part.split_at(part.len() / 2);
                    parts.push_front(right);
                    parts.push_front(left);
                }
                Answer::Refused { why, .. } => {
                    let why = why.to_string();
                    self.settle(part.iter().map(|one| (one, Some(why.clone()))));
                }
                Answer::Later { after, why } => return Verdict::Retry { after, why },
                Answer::Items(fates) => {
                    let mut later = (fates.len() < part.len()).then(|| "the answer lacks events".to_owned());
                    self.settle(part.iter().zip(&fates).filter_map(|(one, fate)| match fate {
                        Fate::Taken => Some((one, None)),
                        Fate::Refused(why) => Some((one, Some(why.clone()))),
                        Fate::Later(_) => None,
                    }));
                    if let Some(Fate::Later(why)) = fates.into_iter().find(|fate| matches!(fate, Fate::Later(_))) {
                        later = Some(why);
                    }
                    if let Some(why) = later {
                        return Verdict::Retry { after: None, why: SinkError::Other(why) };
                    }
                }
            }
        }
        self.conclude(batch)
    }

    /// The verdict on a batch of which everything is settled.
    fn conclude(&self, batch: &[Stored]) -> Verdict {
        let settled = std::mem::take(&mut *self.settled());
        let refusal = |one: &Stored| settled.get(&one.event.id).and_then(|why| why.as_deref());
        let which: Vec<usize> = (0..batch.len()).filter(|i| batch.get(*i).and_then(refusal).is_some()).collect();
        match batch.iter().find_map(refusal) {
            None => Verdict::Delivered,
            Some(why) => Verdict::Refused { which, why: SinkError::Other(why.to_owned()) },
        }
    }

    fn settle<'p>(&self, events: impl Iterator<Item = (&'p Stored, Option<String>)>) {
        self.settled().extend(events.map(|(one, why)| (one.event.id, why)));
    }

    fn settled(&self) -> MutexGuard<'_, HashMap<EventId, Option<String>>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Consecutive parts within the limits, each of at least one event.
fn cut(mut batch: &[Stored], limits: Limits) -> Vec<&[Stored]> {
    let mut parts = Vec::new();
    while !batch.is_empty() {
        let mut bytes = 0_usize;
        let fits = |one: &&Stored| {
            bytes = bytes.saturating_add(one.line.len());
            bytes <= limits.bytes
        };
        let count = batch.iter().take(limits.events).take_while(fits).count().max(1);
        let (part, rest) = batch.split_at(count);
        parts.push(part);
        batch = rest;
    }
    parts
}

/// A key that stays the same when the same part is sent again: the id of a single event, else a
/// hash of all of them.
pub fn key_of(part: &[Stored]) -> String {
    if let [one] = part {
        return one.event.id.to_string();
    }
    let mut hasher = blake3::Hasher::new();
    for one in part {
        hasher.update(one.event.id.to_string().as_bytes());
    }
    hasher.finalize().to_hex().chars().take(32).collect()
}

#[cfg(test)]
mod tests;
