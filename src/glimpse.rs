//! A look at a few answers, so that an application whose preset is not in use can be named.
//!
//! The traffic threads hand over the head of an answer: of the first ones, then of one in many, and
//! never wait for anybody to take it. A task on the control runtime looks for signs (see
//! [`recognise`](crate::rules::presets::recognise)), says once what it found, in the log and as
//! `authtap.preset.suggested`, and drops the rest; nothing of an answer is kept.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::{HeaderMap, StatusCode, Uri};
use tokio::sync::mpsc;

use crate::event::Outcome;
use crate::event::notice::{SUGGESTED, notice};
use crate::rules::presets::recognise::{Glimpse, Recogniser};
use crate::spool::Spool;
use crate::telemetry::Traffic;

/// How many answers of a thread are looked at from its beginning.
pub const FIRST: u64 = 2_000;
/// After those, one in so many.
pub const THEN_EVERY: u64 = 1_024;
/// How many may wait; what finds no room is not looked at.
const WAITING: usize = 64;
/// The longest path that is looked at; signs are short.
const MAX_PATH: usize = 128;

/// The sending side, one clone a traffic thread.
#[derive(Clone)]
pub struct Glimpses {
    sender: mpsc::Sender<Glimpse>,
}

impl Glimpses {
    /// A way from the traffic threads, and its receiving side.
    pub fn new() -> (Glimpses, mpsc::Receiver<Glimpse>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Glimpses { sender }, receiver)
    }

    /// The path, if the answer to this request is to be looked at. Allocates nothing to say no.
    pub fn turn(&self, uri: &Uri, stats: &Traffic) -> Option<String> {
        // The thread's own counter: nobody else writes it.
        let before = stats.glimpsed.load(Relaxed);
        stats.glimpsed.store(before.wrapping_add(1), Relaxed);
        let looked_at = before < FIRST || before.is_multiple_of(THEN_EVERY);
        (looked_at && uri.path().len() <= MAX_PATH && self.sender.capacity() > 0).then(|| uri.path().to_owned())
    }

    /// Hands an answer's head over, or drops it if nobody has time.
    pub fn offer(&self, path: String, status: StatusCode, headers: &HeaderMap) {
        if let Ok(place) = self.sender.try_reserve() {
            place.send(Glimpse { path, status, headers: headers.clone() });
        }
    }
}

/// Looks at what comes, until the traffic threads are gone.
pub async fn watch(mut answers: mpsc::Receiver<Glimpse>, in_use: Vec<&'static str>, spool: Arc<dyn Spool>) {
    let mut recogniser: Option<Recogniser> = None;
    while let Some(glimpse) = answers.recv().await {
        // Made with the first answer, so that a start does not wait for it.
        let recogniser = recogniser.get_or_insert_with(|| Recogniser::new(&in_use));
        for found in recogniser.see(&glimpse) {
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
