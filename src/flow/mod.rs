//! Flows: what the earlier steps of a login said, for the later ones.
//!
//! A login of several steps names the person in the first and proves it in the last. What a step
//! said is kept under a keyed hash of what the steps have in common (a cookie, an id in the URL or
//! the body) until the last step succeeds or too much time goes by. A flow that is never ended says
//! nothing: it is counted, and no event is made of it. Bounded in number; the longest unused go.

pub mod follow_up;

use crate::body::{cookie, form};
use crate::event::{Actor, Text, Timestamp};
use crate::rules::facts::Facts;
use crate::rules::follow::{FlowKey, FlowPlan};
use crate::rules::path::PathPattern;
use crate::rules::source::Source;
use crate::session::lru::Lru;
use crate::session::packed::Packed;
use crate::session::{Carried, Handle, Sessions};

/// The most flows that are remembered at once, each of their keys counting.
pub const CAPACITY: usize = 50_000;
/// The most that one look at the clock ends.
const EXPIRED_AT_ONCE: usize = 10_000;

/// What the earlier steps said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Who it is about.
    pub actor: Actor,
    /// The identity provider.
    pub provider: Option<Text>,
    /// The tenant.
    pub organization: Option<Text>,
}

impl Said {
    /// True if nothing was said.
    pub fn is_empty(&self) -> bool {
        self.actor.is_empty() && self.provider.is_none() && self.organization.is_none()
    }

    /// Takes over what an earlier step said and this one does not. Where the two name different
    /// people, nothing: the newer step is about somebody else.
    pub fn fill_from(&mut self, earlier: &Said) {
        let differ = |a: &Option<Text>, b: &Option<Text>| matches!((a, b), (Some(a), Some(b)) if a != b);
        let (mine, theirs) = (&self.actor, &earlier.actor);
        if differ(&mine.id, &theirs.id) || differ(&mine.login, &theirs.login) || differ(&mine.email, &theirs.email) {
            return;
        }
        self.actor.fill_from(theirs);
        self.provider = self.provider.take().or_else(|| earlier.provider.clone());
        self.organization = self.organization.take().or_else(|| earlier.organization.clone());
    }
}

struct Flow {
    actor: Packed,
    rest: Option<Box<(Option<Text>, Option<Text>)>>,
    until: Timestamp,
    /// A further key of a flow that has another: not counted.
    further: bool,
}

/// How many flows ended how, since the last question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The last step succeeded.
    pub finished: u64,
    /// The next step did not come in time.
    pub abandoned: u64,
    /// There was no room.
    pub evicted: u64,
}

/// Every flow under way.
pub struct Flows {
    flows: Lru<Flow>,
    ends: Ends,
}

impl Default for Flows {
    fn default() -> Self {
        Flows::new(CAPACITY)
    }
}

impl Flows {
    /// None yet, and never more than `capacity`.
    pub fn new(capacity: usize) -> Flows {
        Flows { flows: Lru::new(capacity), ends: Ends::default() }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the earlier steps said.
    pub fn recall(&self, keys: &[Handle], now: Timestamp) -> Option<Said> {
        let flow = keys.iter().filter_map(|key| self.flows.get(key)).find(|flow| flow.until >= now)?;
        let (provider, organization) = flow.rest.as_deref().cloned().unwrap_or_default();
        Some(Said { actor: flow.actor.actor(), provider, organization })
    }

    /// Remembers what a step said, with what came before it.
    pub fn remember(&mut self, keys: &[Handle], said: &Said, plan: &FlowPlan, now: Timestamp) {
        let until = now.plus(plan.ttl);
        for (i, key) in keys.iter().enumerate() {
            let rest = (said.provider.clone(), said.organization.clone());
            let rest = (rest.0.is_some() || rest.1.is_some()).then(|| Box::new(rest));
            let flow = Flow { actor: Packed::new(&said.actor), rest, until, further: i > 0 };
            if let Some((_, gone)) = self.flows.insert(*key, flow)
                && !gone.further
            {
                *if gone.until < now { &mut self.ends.abandoned } else { &mut self.ends.evicted } += 1;
            }
        }
    }

    /// The last step succeeded.
    pub fn finish(&mut self, keys: &[Handle]) {
        let mut known = false;
        for key in keys {
            known |= self.flows.remove(key).is_some();
        }
        self.ends.finished += u64::from(known);
    }

    /// Forgets flows whose next step did not come.
    pub fn expire(&mut self, now: Timestamp) {
        for _ in 0..EXPIRED_AT_ONCE {
            if self.flows.oldest().is_none_or(|(_, flow)| flow.until >= now) {
                break;
            }
            let gone = self.flows.pop_oldest();
            self.ends.abandoned += u64::from(gone.is_some_and(|(_, flow)| !flow.further));
        }
    }

    /// How flows ended since this was last asked.
    pub fn take_ends(&mut self) -> Ends {
        std::mem::take(&mut self.ends)
    }
}

/// What an exchange has in common with the other steps: under what it came, and under what the
/// next will come.
pub fn keys(
    plan: &FlowPlan,
    facts: &Facts<'_>,
    paths: &[PathPattern],
    carried: &[&[Carried]],
    sessions: &Sessions,
) -> Vec<Handle> {
    let space = format!("flow\0{}", plan.name);
    let mut found: Vec<Handle> = Vec::new();
    let mut add = |value: &[u8]| {
        let handle = sessions.keyed(space.as_bytes(), value);
        // A form that posts to where it came from: two sources, one key.
        if !found.contains(&handle) {
            found.push(handle);
        }
    };
    for key in &plan.keys {
        match key {
            FlowKey::Session => carried.iter().copied().flatten().for_each(|carried| add(&carried.handle.0)),
            FlowKey::Source(source) => {
                source.read(facts, paths).iter().for_each(|value| add(value.as_bytes()));
                handed_on(source, facts).iter().for_each(|value| add(value));
            }
        }
    }
    found
}

/// The value under which the next step will come, where the answer says it.
fn handed_on(source: &Source, facts: &Facts<'_>) -> Option<Vec<u8>> {
    let (_, answer) = facts.response?;
    match source {
        Source::Cookie(name) => cookie::handed_out(answer, name, facts.at).map(<[u8]>::to_vec),
        Source::Query(name) => {
            let sent = answer.get(http::header::LOCATION)?;
            let query = sent.as_bytes().split(|b| *b == b'#').next()?.splitn(2, |b| *b == b'?').nth(1)?;
            form::parse(query, false).last(name).map(|value| value.as_bytes().to_vec())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionConfig;
    use crate::session::lru::tests::STRANGERS;

    fn said(login: &str) -> Said {
        Said { actor: Actor { login: Text::identifier(login), ..Actor::default() }, ..Said::default() }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn plan() -> FlowPlan {
        FlowPlan { name: Text::fixed("login"), keys: vec![FlowKey::Session], ttl: std::time::Duration::from_secs(60) }
    }

    fn handle(n: u64) -> Handle {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        Handle(bytes)
    }

    #[test]
    fn a_flow_that_is_abandoned_says_nothing_and_is_counted() {
        let mut flows = Flows::default();
        flows.remember(&[handle(1), handle(2)], &said("alice"), &plan(), at(0));
        assert_eq!(flows.recall(&[handle(2)], at(60)), Some(said("alice")));
        assert_eq!(flows.recall(&[handle(2)], at(61)), None);
        flows.expire(at(61));
        assert!(flows.is_empty());
        assert_eq!(flows.take_ends(), Ends { abandoned: 1, ..Ends::default() });
    }

    #[test]
    fn a_million_invented_flows_stay_bounded_and_are_counted() {
        let mut flows = Flows::new(1000);
        for n in 0..STRANGERS {
            flows.remember(&[handle(n)], &said("mallory"), &plan(), at(0));
        }
        assert_eq!((flows.len(), flows.take_ends().evicted), (1000, STRANGERS - 1000));
    }

    #[test]
    fn a_step_about_somebody_else_takes_nothing_over() {
        let mut mine = said("bob");
        mine.fill_from(&Said {
            actor: Actor { login: Text::identifier("alice"), email: Text::identifier("a@x"), ..Actor::default() },
            provider: Some(Text::fixed("okta")),
            organization: None,
        });
        assert_eq!(mine, said("bob"));
        let mut same = said("alice");
        same.fill_from(&Said { provider: Some(Text::fixed("okta")), ..said("alice") });
        assert_eq!(same.provider, Some(Text::fixed("okta")));
    }

    #[test]
    fn two_sources_that_say_the_same_are_one_key_and_its_end_is_counted() {
        let sessions = Sessions::new(SessionConfig::default(), [7; 32]);
        let (uri, headers) = (http::Uri::from_static("/confirm?key=a&again=a"), crate::headers::Headers::new());
        let facts = Facts::of_request(&http::Method::GET, &uri, "", &headers);
        let sources = ["key", "again"].map(|name| FlowKey::Source(Source::Query(name.into())));
        let plan = FlowPlan { keys: sources.to_vec(), ..plan() };
        let found = keys(&plan, &facts, &[], &[], &sessions);
        let mut flows = Flows::default();
        flows.remember(&found, &said("alice"), &plan, at(0));
        flows.expire(at(61));
        assert_eq!((found.len(), flows.take_ends().abandoned), (1, 1));
    }

    #[test]
    fn a_key_in_a_cookie_or_query_is_followed_when_the_answer_changes_it() {
        let sessions = Sessions::new(SessionConfig::default(), [7; 32]);
        let uri = http::Uri::from_static("/login?state=one");
        let headers =
            crate::headers::Headers::from_iter([(http::header::COOKIE, http::HeaderValue::from_static("p=a"))]);
        let answer = crate::headers::Headers::from_iter([
            (http::header::LOCATION, http::HeaderValue::from_static("/password?state=two#x")),
            (http::header::SET_COOKIE, http::HeaderValue::from_static("p=b")),
        ]);
        let mut facts = Facts::of_request(&http::Method::POST, &uri, "", &headers);
        facts.response = Some((http::StatusCode::FOUND, &answer));
        for source in [Source::Cookie("p".into()), Source::Query("state".into())] {
            let plan = FlowPlan { keys: vec![FlowKey::Source(source)], ..plan() };
            let found = keys(&plan, &facts, &[], &[], &sessions);
            assert_eq!(found.len(), 2, "what came and what comes next");
            let other = FlowPlan { name: Text::fixed("reset"), ..plan };
            assert!(keys(&other, &facts, &[], &[], &sessions).iter().all(|key| !found.contains(key)));
        }
    }
}
