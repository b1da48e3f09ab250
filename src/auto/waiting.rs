//! Sign-ins that only the next page decides: the answer was a redirect, and where it leads shows
//! whether somebody is signed in.
//!
//! Bounded in number and time: what is full or late is decided by what was seen so far. The
//! invariant: whatever is taken in comes out exactly once, by its next page, its time, or the end.

use std::net::IpAddr;

use super::Draft;
use super::answer::Answer;
use super::verdict::{Outcome, Scale, Verdict};
use crate::body::cookie::CookieChange;
use crate::event::Timestamp;

/// The most sign-ins that wait.
const CAPACITY: usize = 1_000;
/// The deed that ends a session.
pub const LOGOUT: &str = "user.logout";
/// How long each waits, in milliseconds.
const PATIENCE_MS: i64 = 5_000;
/// The most redirects that are followed.
const MAX_HOPS: u8 = 5;

/// One sign-in that waits.
pub struct Waiting {
    /// The event to be.
    pub draft: Draft,
    /// What is told when it was done, if it is no sign-in.
    pub deed: Option<&'static str>,
    /// What was seen so far.
    pub scale: Scale,
    client: IpAddr,
    agent: u64,
    path: String,
    until: Timestamp,
    hops: u8,
}

/// What the next page says.
pub enum Next {
    /// It is decided.
    Decided(Verdict),
    /// The next page is another redirect, to this path.
    On(String),
}

impl Waiting {
    /// Waits for `client` to ask for `path`.
    pub fn new(draft: Draft, scale: Scale, client: IpAddr, agent: u64, path: String, now: Timestamp) -> Waiting {
        let until = Timestamp::from_millis(now.as_millis().saturating_add(PATIENCE_MS));
        Waiting { draft, deed: None, scale, client, agent, path, until, hops: 0 }
    }

    /// Waits on, for another path.
    pub fn on(mut self, path: String) -> Waiting {
        self.path = path;
        self.hops += 1;
        self
    }
}

/// All that wait.
#[derive(Default)]
pub struct WaitingRoom {
    waiting: Vec<Waiting>,
}

impl WaitingRoom {
    /// Takes one in; gives back one that has to go for it.
    pub fn take(&mut self, waiting: Waiting) -> Option<Waiting> {
        let oldest = (self.waiting.len() >= CAPACITY).then(|| self.waiting.remove(0));
        self.waiting.push(waiting);
        oldest
    }

    /// The one that waits for this request.
    pub fn of(&mut self, client: IpAddr, agent: u64, path: &str) -> Option<Waiting> {
        let at = self.waiting.iter().position(|w| w.client == client && w.agent == agent && w.path == path)?;
        Some(self.waiting.remove(at))
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True if none does.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When the first has waited long enough.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.waiting.iter().map(|w| w.until).min()
    }

    /// Those that have waited until `now`; all if that is `None`.
    pub fn overdue(&mut self, now: Option<Timestamp>) -> Vec<Waiting> {
        let (due, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition(|w| now.is_none_or(|now| w.until <= now));
        self.waiting = waiting;
        due
    }
}

/// What the page after a redirect says. `to_login` is whether it redirects to where one signs in,
/// if it redirects.
/// `new_error` is whether it marks an error that it does not mark for everybody, `new_no` whether a
/// message of it says no that it does not say to everybody.
pub fn next(
    waiting: &mut Waiting,
    answer: &Answer<'_>,
    to_login: Option<bool>,
    (new_error, new_no): (bool, bool),
) -> Next {
    let scale = &mut waiting.scale;
    if waiting.deed == Some(LOGOUT) {
        match &answer.page {
            Some(page) if page.offers_logout => scale.add(-5.0, "way-out-shown"),
            Some(page) if page.shows_login() => scale.add(5.0, "login-form-after"),
            _ => scale.add(1.0, "no-way-out-shown"),
        }
        return Next::Decided(scale.verdict());
    }
    if waiting.deed.is_some() {
        if new_error {
            scale.add(-4.0, "page-marks-error");
        } else if new_no {
            scale.add(-3.0, "message-says-no");
        }
        return Next::Decided(scale.verdict());
    }
    let taken_back =
        |name: &String| answer.cookies.iter().any(|c| c.change == CookieChange::Deleted && c.name == name.as_str());
    if waiting.draft.fresh_names.iter().any(taken_back) {
        scale.add(-6.0, "session-taken-back");
    }
    if let (Some(to_login), Some(location)) = (to_login, &answer.location) {
        if location.is_second_factor() {
            return Next::Decided(Verdict {
                outcome: Outcome::SecondFactor,
                confidence: 0.9,
                rule: "redirected-to-second-factor",
            });
        }
        if to_login {
            scale.add(-4.5, "sent-to-login-again");
        } else if waiting.hops < MAX_HOPS && !location.elsewhere {
            return Next::On(location.path.clone());
        }
        return Next::Decided(scale.verdict());
    }
    if let Some(page) = &answer.page {
        if page.asks_code() && !page.offers_logout {
            return Next::Decided(Verdict {
                outcome: Outcome::SecondFactor,
                confidence: 0.85,
                rule: "page-asks-for-code",
            });
        }
        match (page.shows_login(), page.offers_logout) {
            (_, true) => scale.add(5.5, "way-out-shown"),
            (true, false) => scale.add(-5.0, "login-form-after"),
            (false, false) if answer.status.is_success() => scale.add(1.5, "page-after"),
            _ => {}
        }
        if new_error {
            scale.add(-1.0, "page-marks-error");
        }
    }
    match answer.status.as_u16() {
        401 | 403 => scale.add(-3.5, "refused-after"),
        _ => {}
    }
    Next::Decided(scale.verdict())
}
