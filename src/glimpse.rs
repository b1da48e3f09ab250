//! A look at a few answers, so that an application whose preset is not in use can be named.
//!
//! The traffic threads hand over the head of an answer: of the first ones, then of one in many, and
//! never wait for anybody to take it. The pipeline hands over the beginning of a page that auto has
//! read anyway. A task on the control runtime looks for signs (see
//! [`recognise`](crate::rules::presets::recognise)), says once what it found, in the log and as
//! `authtap.preset.suggested`, and drops the rest; nothing of an answer is kept. When a reload
//! changes the presets in use, the first answers after it are looked at again.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use http::{StatusCode, Uri};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::event::Outcome;
use crate::event::notice::{SUGGESTED, notice};
use crate::headers::Headers;
use crate::rules::presets::recognise::{Glimpse, Recogniser};
use crate::spool::Spool;
use crate::telemetry::Traffic;

/// How many answers of a thread are looked at from its beginning.
pub const FIRST: u64 = 2_000;
/// After those, one in so many, and not more than one a second: each wakes another thread.
pub const THEN_EVERY: u64 = 1_024;
/// How many pages are looked at from the beginning.
const FIRST_PAGES: u64 = 200;
/// After those, one in so many.
const THEN_EVERY_PAGE: u64 = 64;
/// How much of a page is looked at, in bytes: signs stand in its head, or where it includes what it needs.
const MAX_PAGE: usize = 32 << 10;
/// How many may wait; what finds no room is not looked at.
const WAITING: usize = 64;
/// The longest path that is looked at; signs are short.
const MAX_PATH: usize = 128;

/// The sending side, one clone a traffic thread.
#[derive(Clone)]
pub struct Glimpses {
    sender: mpsc::Sender<Look>,
    /// Counts the changes of the presets in use.
    round: Arc<AtomicU64>,
    began: Instant,
}

/// What is looked at.
enum Look {
    /// An answer's head.
    Head(Glimpse),
    /// The beginning of a page.
    Page(String),
}

/// The receiving side.
pub struct Looks {
    looks: mpsc::Receiver<Look>,
    in_use: watch::Receiver<Vec<&'static str>>,
}

/// Says which presets are in use.
pub struct InUse {
    presets: watch::Sender<Vec<&'static str>>,
    round: Arc<AtomicU64>,
}

impl InUse {
    /// These are in use from now on.
    pub fn follow(&self, presets: Vec<&'static str>) {
        let differ = |now: &mut Vec<&'static str>| {
            let differ = *now != presets;
            *now = presets;
            differ
        };
        if self.presets.send_if_modified(differ) {
            self.round.fetch_add(1, Relaxed);
        }
    }
}

impl Glimpses {
    /// A way from the traffic threads and the pipeline, its receiving side, and who says what is in use.
    pub fn new(in_use: Vec<&'static str>) -> (Glimpses, Looks, InUse) {
        let (sender, looks) = mpsc::channel(WAITING);
        let (presets, in_use) = watch::channel(in_use);
        let round: Arc<AtomicU64> = Arc::default();
        (
            Glimpses { sender, round: round.clone(), began: Instant::now() },
            Looks { looks, in_use },
            InUse { presets, round },
        )
    }

    /// The path, if the answer to this request, at `now`, is to be looked at. Allocates nothing to say no.
    pub fn turn(&self, uri: &Uri, stats: &Traffic, now: Instant) -> Option<String> {
        // The thread's own counters: nobody else writes them.
        let round = self.round.load(Relaxed);
        if stats.glimpse_round.load(Relaxed) != round {
            stats.glimpse_round.store(round, Relaxed);
            stats.glimpsed.store(0, Relaxed);
        }
        let before = stats.glimpsed.load(Relaxed);
        stats.glimpsed.store(before.wrapping_add(1), Relaxed);
        let looked_at = before < FIRST || (before.is_multiple_of(THEN_EVERY) && self.is_first_of_second(stats, now));
        (looked_at && uri.path().len() <= MAX_PATH && self.sender.capacity() > 0).then(|| uri.path().to_owned())
    }

    fn is_first_of_second(&self, stats: &Traffic, now: Instant) -> bool {
        let second = now.saturating_duration_since(self.began).as_secs();
        stats.glimpse_second.swap(second, Relaxed) != second
    }

    /// Hands an answer's head over, or drops it if nobody has time.
    pub fn offer(&self, path: String, status: StatusCode, headers: &Headers) {
        if let Ok(place) = self.sender.try_reserve() {
            place.send(Look::Head(Glimpse { path, status, headers: headers.clone() }));
        }
    }

    /// Hands the beginning of a page over, if it is its turn and somebody has time. `seen` is how many
    /// there were before.
    pub fn offer_page<'p>(&self, seen: u64, page: impl FnOnce() -> Cow<'p, str>) {
        let looked_at = seen < FIRST_PAGES || seen.is_multiple_of(THEN_EVERY_PAGE);
        if looked_at && let Ok(place) = self.sender.try_reserve() {
            let page = page();
            let end = page.floor_char_boundary(MAX_PAGE);
            place.send(Look::Page(page.get(..end).unwrap_or_default().to_owned()));
        }
    }
}

/// Looks at what comes, until the traffic threads and the pipeline are gone.
pub async fn watch(mut from: Looks, spool: Arc<dyn Spool>) {
    let mut recogniser: Option<Recogniser> = None;
    while let Some(look) = from.looks.recv().await {
        let changed = from.in_use.has_changed().unwrap_or(false);
        let in_use = from.in_use.borrow_and_update();
        // Made with the first answer, so that a start does not wait for it.
        let recogniser = recogniser.get_or_insert_with(|| Recogniser::new(&in_use));
        if changed {
            recogniser.follow(&in_use);
        }
        drop(in_use);
        let found = match &look {
            Look::Head(glimpse) => recogniser.see(glimpse),
            Look::Page(page) => recogniser.read(page),
        };
        for found in found {
            let signs = found.signs.join(", ");
            tracing::info!(
                preset = found.preset,
                signs,
                "this looks like an application there is a preset for: try `presets: [{}]`",
                found.preset
            );
            let fields = [("preset", found.preset.to_owned()), ("signs", signs)];
            spool.append(vec![notice(SUGGESTED, Outcome::Success, &fields)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn after_the_first_answers_a_flood_is_looked_at_once_a_second() {
        let (glimpses, looks, _) = Glimpses::new(Vec::new());
        let (stats, uri, second) = (Traffic::default(), Uri::from_static("/a"), Duration::from_secs(1));
        let looked_at = |from: Instant, requests: u64| {
            (0..requests).filter(|_| glimpses.turn(&uri, &stats, from).is_some()).count() as u64
        };
        assert_eq!(looked_at(glimpses.began, FIRST), FIRST);
        assert_eq!(looked_at(glimpses.began + second, 100 * THEN_EVERY), 1);
        assert_eq!(looked_at(glimpses.began + 2 * second, 100 * THEN_EVERY), 1);
        assert_eq!(looked_at(glimpses.began + 3 * second, 10), 0);
        drop(looks);
    }
}
