//! Follow-ups: logins whose outcome the client's next request shows.
//!
//! A redirect may mean anything; where it leads and what is answered there says which. Until then
//! the event waits here, with what is needed to finish it and nothing of the bodies. It ends with
//! the next request of the same client, or with its time: undecided is `unknown`, and never lost.
//! Bounded in number, in all and for one client: the oldest is undecided then, and counted.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::event::{Event, Timestamp};
use crate::rules::RuleSet;
use crate::rules::follow::Follow;
use crate::rules::route::Route;
use crate::session::{Carried, Handle};

/// The most that wait at once.
pub const CAPACITY: usize = 10_000;
/// The most that wait for one client.
pub const PER_CLIENT: usize = 64;

/// An event that waits for its outcome.
#[derive(Debug)]
pub struct Waiting {
    /// The event as far as it is known.
    pub event: Event,
    /// The rules that were in force.
    pub rules: Arc<RuleSet>,
    /// The places of route and rule in them.
    pub place: (usize, usize),
    /// The client, as traffic tells clients apart.
    pub client: u64,
    /// The path that the answer leads to, if it leads anywhere.
    pub leads_to: Option<String>,
    /// When the answer was given: the next request begins later.
    pub answered: Timestamp,
    /// Until when the next request is waited for.
    pub until: Timestamp,
    /// The sessions its request carried.
    pub presented: Vec<Carried>,
    /// The sessions its answer handed out.
    pub handed_out: Vec<Carried>,
    /// The keys of its flow.
    pub flow: Vec<Handle>,
}

impl Waiting {
    /// Its route and what it waits for, in its own rules.
    pub fn place_in<'r>(&self, rules: &'r RuleSet) -> Option<(&'r Route, &'r Follow)> {
        let route = rules.routes().get(self.place.0)?;
        Some((route, route.rules.get(self.place.1)?.follow.as_ref()?))
    }

    /// True for a repetition of the same attempt: the form was sent twice.
    fn repeats(&self, other: &Waiting) -> bool {
        self.leads_to == other.leads_to
            && self.event.actor == other.event.actor
            && self.event.source.route == other.event.source.route
            && self.presented == other.presented
    }

    /// True if that is the request it waits for.
    fn is_met_by(&self, next: &Next<'_>) -> bool {
        if next.began < self.answered || next.began > self.until {
            return false;
        }
        // Another session at the same address is another person behind it.
        let mine = if self.handed_out.is_empty() { &self.presented } else { &self.handed_out };
        let same_session = mine.iter().any(|c| next.presented.iter().any(|p| p.handle == c.handle));
        let strange = !mine.is_empty() && !next.presented.is_empty() && !same_session;
        let same_client = next.client == self.client && !strange;
        match &self.leads_to {
            Some(path) => *path == next.path && (same_session || same_client),
            None => next.page && (same_session || same_client),
        }
    }
}

/// A request that may be the one waited for.
#[derive(Debug)]
pub struct Next<'a> {
    /// The client, as traffic tells clients apart.
    pub client: u64,
    /// The sessions it carries.
    pub presented: &'a [Carried],
    /// Its path in the compared form.
    pub path: &'a str,
    /// True if a person looks at the answer, as far as the request says.
    pub page: bool,
    /// When it began.
    pub began: Timestamp,
}

/// Everything that waits.
#[derive(Default)]
pub struct FollowUps {
    waiting: HashMap<u64, Waiting>,
    by_client: HashMap<u64, Vec<u64>>,
    by_session: HashMap<Handle, Vec<u64>>,
    by_time: BTreeSet<(i64, u64)>,
    next_id: u64,
}

/// What became of those that had to make room.
#[derive(Debug, Default)]
pub struct Gave {
    /// Undecided, because too many wait.
    pub undecided: Option<Box<Waiting>>,
    /// True if one was the same attempt, sent before.
    pub repeated: bool,
}

impl FollowUps {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True if none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When the first of them has waited long enough.
    pub fn first_until(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(until, _)| Timestamp::from_millis(*until))
    }

    /// One more waits.
    pub fn open(&mut self, waiting: Waiting) -> Gave {
        let mut gave = Gave::default();
        let of_client = self.by_client.get(&waiting.client).map_or(&[][..], Vec::as_slice);
        let repeated = of_client.iter().copied().find(|id| self.waiting.get(id).is_some_and(|w| w.repeats(&waiting)));
        let crowded = (of_client.len() >= PER_CLIENT).then(|| of_client.first().copied()).flatten();
        let full = self.by_time.first().filter(|_| self.waiting.len() >= CAPACITY).map(|(_, id)| *id);
        if let Some(id) = repeated {
            gave.repeated = self.take(id).is_some();
        } else if let Some(id) = crowded.or(full) {
            gave.undecided = self.take(id).map(Box::new);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.by_time.insert((waiting.until.as_millis(), id));
        self.by_client.entry(waiting.client).or_default().push(id);
        for carried in waiting.presented.iter().chain(&waiting.handed_out) {
            let of_session = self.by_session.entry(carried.handle).or_default();
            if of_session.len() < PER_CLIENT {
                of_session.push(id);
            }
        }
        self.waiting.insert(id, waiting);
        gave
    }

    /// The one that waited for this request: of several, the newest.
    pub fn meet(&mut self, next: &Next<'_>) -> Option<Waiting> {
        let sessions = next.presented.iter().filter_map(|p| self.by_session.get(&p.handle)).flatten();
        let all = sessions.chain(self.by_client.get(&next.client).into_iter().flatten());
        let met = all.filter(|id| self.waiting.get(id).is_some_and(|w| w.is_met_by(next))).max().copied()?;
        self.take(met)
    }

    /// One that has waited long enough.
    pub fn expired(&mut self, now: Timestamp) -> Option<Waiting> {
        let (until, id) = *self.by_time.first()?;
        if until >= now.as_millis() {
            return None;
        }
        self.take(id)
    }

    fn take(&mut self, id: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        self.by_time.remove(&(waiting.until.as_millis(), id));
        remove_from(&mut self.by_client, &waiting.client, id);
        for carried in waiting.presented.iter().chain(&waiting.handed_out) {
            remove_from(&mut self.by_session, &carried.handle, id);
        }
        Some(waiting)
    }
}

fn remove_from<K: Eq + std::hash::Hash>(index: &mut HashMap<K, Vec<u64>>, key: &K, id: u64) {
    if let Some(ids) = index.get_mut(key) {
        ids.retain(|known| *known != id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::sample;
    use crate::session::Via;

    thread_local! {
        static NO_RULES: Arc<RuleSet> = Arc::default();
    }

    fn carried(n: u8) -> Vec<Carried> {
        vec![Carried { via: Via::Cookie(0), handle: Handle([n; 16]) }]
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn waiting(client: u64, handed_out: Vec<Carried>, answered: i64) -> Waiting {
        Waiting {
            event: sample::login("alice"),
            rules: NO_RULES.with(Arc::clone),
            place: (0, 0),
            client,
            leads_to: Some("/home".into()),
            answered: at(answered),
            until: at(answered + 1000),
            presented: Vec::new(),
            handed_out,
            flow: Vec::new(),
        }
    }

    fn next<'a>(client: u64, presented: &'a [Carried], path: &'a str, began: i64) -> Next<'a> {
        Next { client, presented, path, page: true, began: at(began) }
    }

    #[test]
    fn the_next_request_is_one_of_the_same_session_or_client_to_where_the_answer_leads() {
        let (mine, other) = (carried(1), carried(2));
        let met = |next: Next<'_>| {
            let mut all = FollowUps::default();
            all.open(waiting(7, carried(1), 100));
            all.meet(&next).is_some()
        };
        assert!(met(next(7, &mine, "/home", 100)));
        assert!(met(next(8, &mine, "/home", 101)), "the session is the same, whatever the address");
        assert!(met(next(7, &[], "/home", 101)), "no session, but the same client");
        assert!(!met(next(7, &mine, "/poll", 101)), "a background call of the page before");
        assert!(!met(next(7, &mine, "/home", 99)), "it was under way before the answer");
        assert!(!met(next(7, &other, "/home", 101)), "somebody else behind the same address");
        assert!(!met(next(8, &[], "/home", 101)));
        assert!(!met(next(7, &mine, "/home", 2000)), "too late");
    }

    #[test]
    fn without_a_location_the_next_page_counts_and_no_background_call() {
        let mut all = FollowUps::default();
        all.open(Waiting { leads_to: None, ..waiting(7, carried(1), 100) });
        let mine = carried(1);
        assert!(all.meet(&Next { page: false, ..next(7, &mine, "/poll", 101) }).is_none());
        assert!(all.meet(&next(7, &mine, "/any", 101)).is_some());
        assert!(all.is_empty());
    }

    #[test]
    fn double_submits_of_one_form_wait_as_one() {
        let mut all = FollowUps::default();
        assert!(!all.open(waiting(7, carried(1), 100)).repeated);
        assert!(all.open(waiting(7, carried(2), 101)).repeated);
        assert_eq!(all.len(), 1);
        assert!(all.meet(&next(7, &carried(2), "/home", 102)).is_some());
    }

    #[test]
    fn too_many_are_undecided_the_oldest_first_and_none_is_lost() {
        let mut all = FollowUps::default();
        let mut undecided = 0;
        for n in 0..30_000_u64 {
            let mut one = waiting(n, Vec::new(), i64::try_from(n).expect("small"));
            one.handed_out = vec![Carried { via: Via::Bearer, handle: Handle((u128::from(n) << 64).to_be_bytes()) }];
            undecided += usize::from(all.open(one).undecided.is_some());
        }
        assert_eq!((all.len(), undecided), (CAPACITY, 30_000 - CAPACITY));
        assert_eq!((all.by_client.len(), all.by_session.len(), all.by_time.len()), (CAPACITY, CAPACITY, CAPACITY));
        let mut expired = 0;
        while all.expired(at(i64::MAX)).is_some() {
            expired += 1;
        }
        assert_eq!(expired, CAPACITY);
        assert!(all.by_client.is_empty() && all.by_session.is_empty());
    }

    #[test]
    fn one_client_cannot_take_all_the_room() {
        let mut all = FollowUps::default();
        for n in 0..1000 {
            let mut one = waiting(7, Vec::new(), n);
            one.leads_to = Some(format!("/{n}"));
            all.open(one);
        }
        assert_eq!(all.len(), PER_CLIENT);
    }
}
