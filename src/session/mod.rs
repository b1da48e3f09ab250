//! Session memory: which actor a session belongs to.
//!
//! A session cookie, bearer token or token header is never kept: only its keyed hash is, beside
//! the actor that a login bound to it. Later exchanges that carry the same session then know who
//! acts. The memory is bounded, forgets after a time without use, and lives on the pipeline's
//! thread alone, so it takes no lock. A session whose login still waits for a second factor is
//! pending: it names the actor of the challenge, but counts as nobody's session.
//!
//! Three rooms, each bounded for itself, so that nothing in one can push out what stands in another:
//! bound sessions, pending ones, and values that an answer replaced, which live on for a short time
//! because requests that were under way still carry them.
//!
//! Where replicas share sessions ([`share`]), this memory is what one of them knows at the moment:
//! every change is said to the others, and what is not known is asked for before it is needed.

pub mod config;
pub mod entry;
pub mod key;
pub mod lru;
pub mod packed;
pub mod recognise;
pub mod sealed;
pub mod share;
mod shared;
pub mod snapshot;

use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::body::wanted::fits;
use crate::body::{cookie, credentials};
use crate::event::{Actor, Text, Timestamp};
use crate::headers::Headers;
pub use config::{CAPACITY, FIELDS, SessionConfig};
use entry::Entry;
use lru::Lru;
use packed::Packed;
use recognise::Learnt;
use share::{Op, Room, Share};
use shared::{lag, tell};

/// The most accounts whose names are remembered by id.
pub const ACCOUNTS: usize = 50_000;
/// How long a value that an answer replaced is still known: requests under way carry it.
pub const GRACE: Duration = Duration::from_secs(30);
/// The most sessions that one look at the clock ends.
const EXPIRED_AT_ONCE: usize = 10_000;

/// Keyed hash of a session; the only form in which one is ever held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle(pub(crate) [u8; 16]);

impl Hash for Handle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (first, _) = self.0.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        state.write_u64(u64::from_be_bytes(*first));
    }
}

impl Handle {
    /// The part that events show.
    pub fn shown(self) -> Shown {
        Shown(*self.0.first_chunk::<8>().unwrap_or(&[0; 8]))
    }
}

/// What an event shows of a session; it stays when the session's value is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown(pub(crate) [u8; 8]);

impl Shown {
    /// `s_` and 16 hexadecimal digits.
    pub fn text(self) -> Option<Text> {
        let mut text = *b"s_0000000000000000";
        for (digit, place) in text.iter_mut().skip(2).enumerate() {
            let number = u64::from_be_bytes(self.0) >> (60 - 4 * digit) & 0xf;
            *place = *b"0123456789abcdef".get(number as usize).unwrap_or(&b'0');
        }
        Text::other_bytes(&text)
    }
}

/// By what a session is carried; of values carried alike, the newer replaces the older.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The header of that place in `session.headers`.
    Header(usize),
    /// `Authorization`.
    Bearer,
    /// The cookie of that place in `session.cookies`, or among those learnt.
    Cookie(usize),
    /// A token that a route reads.
    Token,
}

/// A session as a request or an answer carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// By what.
    pub via: Via,
    /// Which.
    pub handle: Handle,
}

/// What is remembered of a session.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// Whose it is.
    pub actor: Actor,
    /// True while a second factor is awaited.
    pub pending: bool,
    /// What events show of it.
    pub shown: Shown,
}

/// A session that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// Whose it was.
    pub actor: Actor,
    /// What events show of it.
    pub shown: Shown,
}

/// The memory itself.
pub struct Sessions {
    key: [u8; 32],
    config: SessionConfig,
    bound: Lru<Entry>,
    pending: Lru<Entry>,
    replaced: Lru<Entry>,
    accounts: Lru<Packed>,
    learnt: Learnt,
    changed: bool,
    share: Option<Share>,
}

/// Of pending and replaced values, each: a tenth of the bound ones.
fn beside(capacity: usize) -> usize {
    (capacity / 10).max(100)
}

impl Sessions {
    /// An empty memory whose hashes are keyed with `key`.
    pub fn new(config: SessionConfig, key: [u8; 32]) -> Sessions {
        let (most, beside) = (config.capacity, beside(config.capacity));
        Sessions {
            key,
            config,
            bound: Lru::new(most),
            pending: Lru::new(beside),
            replaced: Lru::new(beside),
            accounts: Lru::new(ACCOUNTS),
            learnt: Learnt::default(),
            changed: false,
            share: None,
        }
    }

    /// What is remembered is shared with other replicas from now on.
    pub fn share_through(&mut self, share: Share) {
        self.share = Some(share);
    }

    /// True if other replicas may know more.
    pub fn is_shared(&self) -> bool {
        self.share.is_some()
    }

    /// Takes a new configuration over; what is remembered stays, as far as there is room.
    pub fn reconfigure(&mut self, config: SessionConfig) {
        self.bound.set_capacity(config.capacity);
        self.pending.set_capacity(beside(config.capacity));
        self.replaced.set_capacity(beside(config.capacity));
        self.config = config;
    }

    /// How many sessions are remembered, pending ones too.
    pub fn len(&self) -> usize {
        self.bound.len() + self.pending.len()
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The configuration in force.
    pub fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// The names learnt from logins, of whatever host.
    pub fn learnt_names(&self) -> Vec<String> {
        self.learnt.names()
    }

    /// The hash of a session or token.
    pub fn handle(&self, value: &[u8]) -> Handle {
        self.keyed(b"", value)
    }

    /// The hash of a value within a space of its own: equal values of two spaces stay apart.
    pub fn keyed(&self, space: &[u8], value: &[u8]) -> Handle {
        let hash = if space.is_empty() {
            blake3::keyed_hash(&self.key, value)
        } else {
            // No session value begins with a zero byte, so no space can be mistaken for one.
            let mut hasher = blake3::Hasher::new_keyed(&self.key);
            hasher.update(&[0]).update(space).update(&[0]).update(value).finalize()
        };
        Handle(*hash.as_bytes().first_chunk::<16>().unwrap_or(&[0; 16]))
    }

    /// The names of the session cookies of a host.
    fn cookies(&self, host: &str) -> &[String] {
        if self.config.cookies.is_empty() { self.learnt.of(host) } else { &self.config.cookies }
    }

    /// The sessions a request carries, most telling first.
    pub fn presented(&self, headers: &Headers, host: &str) -> Vec<Carried> {
        let mut found = Vec::new();
        for (i, name) in self.config.headers.iter().enumerate() {
            let value = headers.get(name).filter(|v| !v.is_empty());
            found.extend(value.map(|v| Carried { via: Via::Header(i), handle: self.handle(v.as_bytes()) }));
        }
        if self.config.bearer {
            let token = credentials::bearer(headers);
            found.extend(token.map(|t| Carried { via: Via::Bearer, handle: self.handle(t.as_bytes()) }));
        }
        for (i, name) in self.cookies(host).iter().enumerate() {
            let value = cookie::request_cookies(headers).find(|(found, _)| fits(name, found));
            let value = value.map(|(_, value)| value).filter(|v| !v.is_empty());
            found.extend(value.map(|v| Carried { via: Via::Cookie(i), handle: self.handle(v) }));
        }
        found
    }

    /// The sessions an answer hands out in cookies.
    pub fn handed_out(&self, answer: &Headers, host: &str, at: Timestamp) -> Vec<Carried> {
        let cookies = self.cookies(host).iter().enumerate();
        let set = cookies.filter_map(|(i, name)| Some((i, cookie::handed_out(answer, name, at)?)));
        set.map(|(i, value)| Carried { via: Via::Cookie(i), handle: self.handle(value) }).collect()
    }

    /// By what of these an answer takes a session away.
    fn taken_away(&self, presented: &[Carried], answer: &Headers, host: &str, at: Timestamp) -> Vec<Handle> {
        let names = self.cookies(host);
        let gone = presented.iter().filter(|p| match p.via {
            Via::Cookie(i) => names.get(i).is_some_and(|name| {
                let nothing = Headers::new();
                cookie::change(&nothing, answer, name, at) == cookie::CookieChange::Deleted
            }),
            _ => false,
        });
        gone.map(|p| p.handle).collect()
    }

    /// Learns the session cookies of a host from the answer to a login that succeeded, where the
    /// configuration names none. True if something was learnt.
    pub fn learn(&mut self, host: &str, request: &Headers, answer: &Headers, at: Timestamp) -> bool {
        let learnt = self.config.cookies.is_empty() && self.learnt.see_login(host, request, answer, at);
        self.changed |= learnt;
        learnt
    }

    /// What is remembered of the first of these that is known; counts as a use.
    pub fn recall(&mut self, carried: &[Carried], now: Timestamp) -> Option<Remembered> {
        let at = seconds(now);
        let ttl = self.config.ttl_seconds();
        for Carried { handle, .. } in carried {
            for (room, ttl, pending, used) in [
                (&mut self.bound, ttl, false, true),
                (&mut self.replaced, GRACE.as_secs() as u32, false, false),
                (&mut self.pending, ttl, true, true),
            ] {
                // An expired one is left for `expire`, which says so; until then it is nobody's.
                if room.get(handle).is_none_or(|entry| at.saturating_sub(entry.used) > ttl) {
                    continue;
                }
                let entry = if used { room.touch(handle).map(|e| &*e) } else { room.get(handle) };
                let Some(entry) = entry else { continue };
                let found = Remembered { actor: entry.actor.actor(), pending, shown: entry.shown };
                if used && let Some(entry) = room.touch(handle) {
                    let before = entry.used;
                    entry.used = before.max(at);
                    self.changed = true;
                    // The others are told of a use now and then, not of each.
                    if !pending && before / lag(ttl) != at / lag(ttl) {
                        tell(self.share.as_ref(), &self.config, handle, Room::Bound, entry, false);
                    }
                }
                return Some(found);
            }
        }
        None
    }

    /// Binds sessions to their actor after a login; the first is the one that events show. True if
    /// it was not bound to this actor before.
    pub fn bind(&mut self, carried: &[Carried], actor: &Actor, now: Timestamp) -> bool {
        let Some(first) = carried.first() else { return false };
        let mut packed = Packed::new(actor);
        let new = self.bound.get(&first.handle).is_none_or(|known| known.actor != packed);
        for (i, Carried { handle, .. }) in carried.iter().enumerate() {
            self.pending.remove(handle);
            self.replaced.remove(handle);
            let shown = first.handle.shown();
            let last = i + 1 == carried.len();
            let actor = if last { std::mem::take(&mut packed) } else { packed.clone() };
            let entry = Entry { actor, shown, used: seconds(now), further: i > 0 };
            if self.bound.get(handle).is_none_or(|known| !known.is_but_for_its_use(&entry)) {
                self.say(handle, Room::Bound, &entry, true);
            }
            self.bound.insert(*handle, entry);
        }
        self.changed = true;
        new
    }

    /// Remembers who is asked for a second factor. A session that is somebody's already stays so.
    pub fn bind_pending(&mut self, carried: &[Carried], actor: &Actor, now: Timestamp) {
        for (i, Carried { handle, .. }) in carried.iter().enumerate() {
            if self.bound.get(handle).is_none() {
                let actor = Packed::new(actor);
                let entry = Entry { actor, shown: handle.shown(), used: seconds(now), further: i > 0 };
                self.say(handle, Room::Pending, &entry, false);
                self.pending.insert(*handle, entry);
                self.changed = true;
            }
        }
    }

    /// What is known of a session's actor changed: its address, say.
    pub fn rename(&mut self, carried: &[Carried], actor: &Actor) {
        for Carried { handle, .. } in carried {
            if let Some(entry) = self.bound.touch(handle) {
                entry.actor = Packed::new(actor);
                self.changed = true;
                let entry = entry.clone();
                self.say(handle, Room::Bound, &entry, true);
            }
        }
    }

    /// Forgets sessions; answers the one that is over by it, if one was bound.
    pub fn forget(&mut self, carried: &[Carried]) -> Option<Over> {
        let handles: Vec<Handle> = carried.iter().map(|c| c.handle).collect();
        self.forget_handles(&handles)
    }

    fn forget_handles(&mut self, handles: &[Handle]) -> Option<Over> {
        let mut over = None;
        for handle in handles {
            let bound = self.bound.remove(handle).map(|entry| entry.over());
            // Removed a moment ago, but for requests under way: not a session of its own.
            let known = self.pending.remove(handle).is_some() | self.replaced.remove(handle).is_some();
            self.changed |= known || bound.is_some();
            // Another may know it where this replica could not ask.
            if let Some(share) = self.share.as_ref().filter(|share| known || bound.is_some() || share.is_unsure()) {
                share.say(Op::Remove(*handle));
            }
            over = over.or(bound);
        }
        over
    }

    /// Values of a login that an answer replaced: those that were carried by the same means, and
    /// whatever was pending.
    pub fn replace(&mut self, presented: &[Carried], handed_out: &[Carried]) {
        for old in presented.iter().filter(|p| handed_out.iter().all(|new| new.handle != p.handle)) {
            let replaced = handed_out.iter().any(|new| new.via == old.via);
            if replaced || self.pending.get(&old.handle).is_some() {
                self.forget_handles(&[old.handle]);
            }
        }
    }

    /// An answer gave a known session new values, or took some away: its actor moves along. A value
    /// that was replaced is known for [`GRACE`] more. Answers the session that is over because its
    /// last value was taken away.
    pub fn follow(
        &mut self,
        presented: &[Carried],
        handed_out: &[Carried],
        answer: &Headers,
        host: &str,
        now: Timestamp,
    ) -> Option<Over> {
        for new in handed_out.iter().filter(|new| presented.iter().all(|p| p.handle != new.handle)) {
            let alike = presented.iter().filter(|p| p.via == new.via);
            let known = alike.chain(presented).find_map(|p| Some((*p, self.entry(&p.handle)?)));
            let Some((old, (mut entry, room))) = known else { continue };
            entry.used = entry.used.max(seconds(now));
            // A fork of a value replaced a moment ago, or a further value beside one that stays.
            entry.further |= room == Room::Replaced || old.via != new.via;
            let (room, into) = match room {
                Room::Pending => (Room::Pending, &mut self.pending),
                Room::Bound | Room::Replaced => (Room::Bound, &mut self.bound),
            };
            into.insert(new.handle, entry.clone());
            self.say(&new.handle, room, &entry, false);
            self.changed = true;
            let stays = old.via != new.via;
            if !stays {
                self.retire(&old.handle, now);
            }
        }
        let gone = self.taken_away(presented, answer, host, now);
        let over = self.forget_handles(&gone);
        // One of several values may go while the session stays.
        over.filter(|_| presented.iter().all(|p| self.bound.get(&p.handle).is_none()))
    }

    fn entry(&self, handle: &Handle) -> Option<(Entry, Room)> {
        let rooms = [(&self.bound, Room::Bound), (&self.pending, Room::Pending), (&self.replaced, Room::Replaced)];
        rooms.into_iter().find_map(|(room, name)| Some((room.get(handle)?.clone(), name)))
    }

    fn retire(&mut self, handle: &Handle, now: Timestamp) {
        let entry = self.bound.remove(handle);
        if self.pending.remove(handle).is_some()
            && let Some(share) = &self.share
        {
            share.say(Op::Remove(*handle));
        }
        if let Some(mut entry) = entry {
            (entry.used, entry.further) = (seconds(now), true);
            self.say(handle, Room::Replaced, &entry, false);
            self.replaced.insert(*handle, entry);
        }
    }

    /// Forgets what was unused for too long; answers the bound sessions among it. Of shared ones none:
    /// another replica may have seen them used, and only one is to tell ([`Sessions::hear`]).
    pub fn expire(&mut self, now: Timestamp) -> Vec<Over> {
        let at = seconds(now);
        let ttl = self.config.ttl_seconds();
        let mut over = Vec::new();
        while over.len() < EXPIRED_AT_ONCE
            && let Some(entry) = pop_expired(&mut self.bound, at, ttl)
        {
            self.changed = true;
            over.push(entry);
        }
        for (room, ttl) in [(&mut self.pending, ttl), (&mut self.replaced, GRACE.as_secs() as u32)] {
            while pop_expired(room, at, ttl).is_some() {}
        }
        over.iter().filter(|entry| !entry.further && self.share.is_none()).map(Entry::over).collect()
    }

    /// Remembers the names of an account by the application's own id, as a login showed them.
    pub fn know_account(&mut self, host: &str, actor: &Actor) {
        let Some(id) = &actor.id else { return };
        if actor.login.is_some() || actor.email.is_some() {
            let handle = self.account(host, id);
            let packed = Packed::new(actor);
            if self.accounts.get(&handle) != Some(&packed) {
                self.accounts.insert(handle, packed);
                self.changed = true;
            }
        }
    }

    /// Adds to an actor of whom only the id is known what a login showed of that id.
    pub fn name_account(&mut self, host: &str, actor: &mut Actor) {
        let Some(id) = actor.id.as_ref().filter(|_| actor.login.is_none() && actor.email.is_none()) else { return };
        let handle = self.account(host, id);
        if let Some(known) = self.accounts.touch(&handle) {
            actor.fill_from(&known.actor());
        }
    }

    fn account(&self, host: &str, id: &Text) -> Handle {
        self.keyed(b"account", format!("{host}\0{id}").as_bytes())
    }

    /// What changed is not in a snapshot yet.
    pub fn keep_changed(&mut self) {
        self.changed = true;
    }

    /// True once after something changed that a snapshot would keep.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

fn pop_expired(room: &mut Lru<Entry>, at: u32, ttl: u32) -> Option<Entry> {
    room.oldest().filter(|(_, entry)| at.saturating_sub(entry.used) > ttl)?;
    room.pop_oldest().map(|(_, entry)| entry)
}

fn seconds(at: Timestamp) -> u32 {
    u32::try_from(at.as_millis().max(0) / 1000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
