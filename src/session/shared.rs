//! What the memory says to other replicas, asks them, and hears of them. Where none are configured,
//! nothing.

use std::time::Duration;

use super::entry::Entry;
use super::share::{News, Op, Room, Share};
use super::{GRACE, Handle, Over, SessionConfig, Sessions, seconds};
use crate::event::Timestamp;

/// How much longer than it counts a shared session is kept, so that its end can be told.
const END_MARGIN: Duration = Duration::from_secs(3600);

impl Sessions {
    /// Asks the other replicas for those of these that are not known here, or only as pending: a code
    /// may have been right elsewhere.
    pub fn fetch(&mut self, wanted: impl IntoIterator<Item = Handle>, now: Timestamp) {
        if self.share.is_none() {
            return;
        }
        let unknown = |handle: &Handle| self.bound.get(handle).is_none() && self.replaced.get(handle).is_none();
        let mut unknown: Vec<Handle> = wanted.into_iter().filter(unknown).collect();
        unknown.sort_unstable_by_key(|handle| handle.0);
        unknown.dedup();
        let found = self.share.as_mut().map(|share| share.ask(unknown)).unwrap_or_default();
        let (at, ttl) = (seconds(now), self.config.ttl_seconds());
        for (handle, room, mut entry) in found {
            // It may have been used since it was last told of.
            entry.used = entry.used.saturating_add(lag(ttl)).min(at.max(entry.used));
            self.pending.remove(&handle);
            match room {
                Room::Bound => self.bound.insert(handle, entry),
                Room::Pending => self.pending.insert(handle, entry),
                Room::Replaced => self.replaced.insert(handle, entry),
            };
            self.changed = true;
        }
    }

    /// Takes in what other replicas said; answers the sessions that were used nowhere for too long and
    /// are this replica's to tell.
    pub fn hear(&mut self) -> Vec<Over> {
        let mut over = Vec::new();
        while let Some(news) = self.share.as_mut().and_then(Share::heard) {
            match news {
                News::Stale(handle) => {
                    let bound = self.bound.remove(&handle).is_some();
                    let beside = self.pending.remove(&handle).is_some() | self.replaced.remove(&handle).is_some();
                    self.changed |= bound || beside;
                }
                News::Expired(entry) => over.push(entry.over()),
            }
        }
        over
    }

    pub(super) fn say(&self, handle: &Handle, room: Room, entry: &Entry, news: bool) {
        tell(self.share.as_ref(), &self.config, handle, room, entry, news);
    }
}

/// Tells the other replicas of a value, if there are any.
pub(super) fn tell(
    share: Option<&Share>,
    config: &SessionConfig,
    handle: &Handle,
    room: Room,
    entry: &Entry,
    news: bool,
) {
    let Some(share) = share else { return };
    let ttl = config.ttl_seconds();
    // Used here and told later: so much later it ends elsewhere.
    let until = u64::from(entry.used) + u64::from(ttl) + u64::from(lag(ttl));
    let told = room == Room::Bound && !entry.further && config.revoked;
    let ends = told.then(|| i64::try_from(until * 1000).unwrap_or(i64::MAX));
    let lives = match room {
        Room::Replaced => GRACE,
        // Whoever tells of its end must still find whose it was.
        Room::Bound | Room::Pending => Duration::from_secs(u64::from(ttl) + u64::from(lag(ttl))) + END_MARGIN,
    };
    share.say(Op::Put { handle: *handle, room, entry: entry.clone(), lives, ends, news });
}

/// How far the others may be behind in what they know of a session's use, in seconds.
pub(super) fn lag(ttl: u32) -> u32 {
    (ttl / 16).clamp(1, 300)
}
