//! Capture without configuration: an unknown application's logins, by what requests carry and
//! answers show.
//!
//! In steps, one file each: [`gate`] decides on the traffic path what is kept, [`request`] reads
//! what a request carries, [`intent`] says what it is about, [`answer`] reads the signs of how it
//! went, [`verdict`] weighs them, `sign_in` and `deeds` make the events. [`learn`] remembers names
//! (of fields, cookies, paths) for each host, [`flow`] who a client without a session says to be,
//! and [`waiting`] holds what only the next page decides. [`words`] are the tables of stems; no
//! table knows an application.
//!
//! Lives on the pipeline's thread. Must never name an outcome that the signs do not support: below
//! a threshold a sign-in is `user.login.unknown`, and everything else is silent. Extraction is by
//! allow-list: identifiers only. The invariant: every map and list here is bounded, and nothing
//! held beyond an exchange is a secret, for sessions and tokens are keyed hashes.

pub mod answer;
mod deeds;
pub mod flow;
pub mod gate;
pub mod intent;
pub mod learn;
pub mod page;
pub mod request;
mod seen;
mod sign_in;
pub mod verdict;
pub mod waiting;
pub mod words;

use http::{Method, header};

use crate::body::cookie::{self, CookieChange};
use crate::event::{Event, EventId, EventType, Outcome as Went, Text, Timestamp};
use crate::exchange::Exchange;
use crate::rules::extract;
use crate::rules::facts::Facts;
use crate::session::{Handle, Sessions};
use answer::Answer;
use flow::Flows;
use intent::{Intent, Known, Stage};
use learn::Learned;
use request::{Request, Shape};
pub use seen::brought;
use seen::{Seen, actor_of, agent, carried, resolved, shape};
use verdict::{Outcome, Verdict};
use waiting::{Next, Waiting, WaitingRoom};

/// Capture without configuration.
#[derive(Default)]
pub struct Auto {
    learned: Learned,
    flows: Flows,
    waiting: WaitingRoom,
}

/// What the pipeline lends for one exchange.
pub struct Lent<'a> {
    /// The memory of sessions.
    pub sessions: &'a mut Sessions,
    /// Adds what is known of address and client.
    pub enrich: &'a dyn Fn(&mut Event),
    /// True where a preset is about the place and chose to say nothing: auto learns, and is silent.
    pub covered: bool,
}

/// What an event needs that may be made later than its exchange.
pub struct Draft {
    event: Event,
    host: String,
    place: String,
    shape: u64,
    stage: Option<Stage>,
    with_code: bool,
    presented: Vec<Handle>,
    fresh: Vec<Handle>,
    all: Vec<Handle>,
    fresh_names: Vec<String>,
}

impl Auto {
    /// The events of an exchange that no route took, and of earlier ones that it decides.
    pub fn observe(&mut self, facts: &Facts<'_>, exchange: &Exchange, lent: &mut Lent<'_>) -> Vec<Event> {
        let asks = |name: &str| self.learned.peek(facts.host).and_then(|h| h.asks(name));
        let request = Request::read(facts, &asks);
        let Some(answer) = Answer::read(facts) else { return Vec::new() };
        let waited = self.waiting.len();
        let mut events = self.decide_earlier(facts, exchange, &answer, lent);
        let seen = self.see(facts, exchange, &request, &answer, lent.sessions);
        let decided = waited != self.waiting.len();
        let (intent, of_this) = self.of(&seen, lent);
        events.extend(of_this);
        let signing_in = matches!(intent, Intent::Login | Intent::LoginWithCode | Intent::NewPassword | Intent::Code);
        self.take_in(&seen, lent.sessions, decided, signing_in);
        events
    }

    /// True if the request belongs to a session whose actor is known here.
    pub fn knows(&self, facts: &Facts<'_>, sessions: &mut Sessions) -> bool {
        let Some(host) = self.learned.peek(facts.host) else { return false };
        let request = Request::read(facts, &|name| host.asks(name));
        let presented = seen::presented(facts, &request, host, sessions);
        sessions.recall(&carried(&presented), facts.at).is_some_and(|known| !known.pending)
    }

    /// When the next event has waited long enough; `None` if none waits.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.waiting.deadline()
    }

    /// The events that have waited until `now`; all of them if that is `None`.
    pub fn overdue(&mut self, now: Option<Timestamp>, sessions: &mut Sessions) -> Vec<Event> {
        let due = self.waiting.overdue(now);
        let end = |w: Waiting| {
            let verdict = w.scale.verdict();
            self.end(w, verdict, sessions)
        };
        due.into_iter().flat_map(end).collect()
    }

    fn of(&mut self, seen: &Seen<'_, '_>, lent: &mut Lent<'_>) -> (Intent, Vec<Event>) {
        let host = self.learned.host(seen.facts.host);
        let known = Known {
            session: seen.session.is_some(),
            stage: seen.flow.as_ref().map(|f| f.stage),
            login_path: host.is_login(&seen.place),
            names_another: seen.session.as_ref().is_some_and(|actor| seen::names_another(seen.request, actor)),
        };
        let intent = intent::of(seen.request, seen.facts.method, known);
        tracing::trace!(?intent, method = %seen.facts.method, status = seen.answer.status.as_u16(), "auto");
        if lent.covered {
            return (intent, Vec::new());
        }
        let events = match intent {
            Intent::Login | Intent::LoginWithCode if seen.request.shape == Shape::XmlRpc => self.xml_rpc(seen, lent),
            Intent::Login | Intent::LoginWithCode | Intent::NewPassword => self.login(seen, intent, lent),
            Intent::Code => self.code(seen, lent),
            Intent::Identify => {
                let refused =
                    seen.answer.said.as_ref().is_some_and(|s| s.error) || seen.answer.status.is_client_error();
                if let (false, Some(who)) = (refused, seen.request.identifier()) {
                    self.flows.bind(&seen.all, Stage::Identified, actor_of(who), seen.exchange.answered);
                }
                Vec::new()
            }
            Intent::Logout => self.logout(seen, lent),
            Intent::Nothing if seen.facts.headers.contains_key(header::AUTHORIZATION) => {
                self.with_each_request(seen, lent)
            }
            Intent::Nothing if seen.session.is_some() => self.new_address(seen, lent),
            Intent::Nothing => {
                self.link(seen, lent.sessions);
                Vec::new()
            }
            _ => self.deed(seen, intent, lent),
        };
        (intent, events)
    }

    fn room_for(&mut self, waiting: Waiting, sessions: &mut Sessions) -> Vec<Event> {
        let Some(full) = self.waiting.take(waiting) else { return Vec::new() };
        let verdict = full.scale.verdict();
        self.end(full, verdict, sessions)
    }

    /// What waits for the page that this exchange is.
    fn decide_earlier(
        &mut self,
        facts: &Facts<'_>,
        exchange: &Exchange,
        answer: &Answer<'_>,
        lent: &mut Lent<'_>,
    ) -> Vec<Event> {
        if facts.method != Method::GET {
            return Vec::new();
        }
        let Some(mut earlier) = self.waiting.of(exchange.client_ip, agent(facts), &facts.path) else {
            return Vec::new();
        };
        let host = self.learned.host(facts.host);
        let to_login = answer.location.as_ref().map(|l| {
            let place = format!("{}?", l.path);
            place == earlier.draft.place || l.is_login() || (!l.elsewhere && host.is_login(&place))
        });
        let shown = extract::shown_path(&facts.path, &[]);
        let new_error = answer.page.as_ref().is_some_and(|p| p.marks_error) && !host.always_marks_error(&shown);
        let new_no = answer.page.as_ref().is_some_and(|p| p.says_no) && !host.always_says_no(&shown);
        match waiting::next(&mut earlier, answer, to_login, (new_error, new_no)) {
            Next::On(path) => {
                let path = resolved(&facts.path, &path);
                match self.waiting.take(earlier.on(path)) {
                    None => Vec::new(),
                    Some(full) => {
                        let verdict = full.scale.verdict();
                        self.end(full, verdict, lent.sessions)
                    }
                }
            }
            Next::Decided(verdict) => self.end(earlier, verdict, lent.sessions),
        }
    }

    /// The events of what has waited.
    fn end(&mut self, waiting: Waiting, verdict: Verdict, sessions: &mut Sessions) -> Vec<Event> {
        match waiting.deed {
            None => self.finish(waiting.draft, verdict, sessions),
            Some(name) if verdict.outcome == Outcome::Accepted => {
                if name == waiting::LOGOUT {
                    sessions.forget(&carried(&waiting.draft.presented));
                }
                let shown = waiting.draft.presented.first().copied();
                self.emit(waiting.draft, &[(name, Went::Success)], shown, verdict, sessions)
            }
            Some(_) => Vec::new(),
        }
    }

    /// Learns from an exchange, and follows sessions that it moved.
    ///
    /// `decided` is whether it was the next page of something, `signing_in` whether it is a sign-in.
    fn take_in(&mut self, seen: &Seen<'_, '_>, sessions: &mut Sessions, decided: bool, signing_in: bool) {
        let host = self.learned.host(seen.facts.host);
        if let Some(page) = &seen.answer.page {
            host.page(page);
            if (page.marks_error || page.says_no) && *seen.facts.method == Method::GET && !decided {
                host.page_says(&extract::shown_path(&seen.facts.path, &[]), page);
            }
        }
        for cookie in &seen.answer.cookies {
            if cookie.change == CookieChange::Changed {
                let replaced = cookie::request_cookie(seen.facts.headers, cookie.name).is_some();
                let looked = *seen.facts.method == Method::GET;
                host.cookie(cookie.name, cookie.http_only, replaced && !signing_in, looked);
            }
        }
        let now = seen.exchange.answered;
        // The answer moved a session: its actor goes along.
        if let Some(actor) = &seen.session
            && let Some(known) = sessions.recall(&carried(&seen.presented), now)
            && !known.pending
        {
            let brought = |name: &str| cookie::request_cookie(seen.facts.headers, name).is_some();
            let moved = seen.answer.sessions().filter(|c| brought(c.name)).map(|c| sessions.handle(c.value));
            let tokens = seen.answer.tokens.iter().map(|t| sessions.handle(t.as_bytes()));
            let moved: Vec<Handle> = moved.chain(tokens).collect();
            sessions.bind(&carried(&moved), actor, now);
        }
        if let Some(flow) = self.flows.recall(&seen.all, now) {
            let inside = seen.answer.page.as_ref().is_some_and(|p| p.offers_logout && !p.shows_login());
            if flow.stage == Stage::Entered && inside && seen.session.is_none() && !signing_in {
                let bound = if seen.fresh.is_empty() { &seen.presented } else { &seen.fresh };
                sessions.bind(&carried(bound), &flow.actor, now);
                self.flows.forget(&seen.all);
            } else if flow.stage == Stage::Entered && seen.answer.page.is_some() {
                // The first page decides: a later one may greet whom it was done to, and nobody is in.
                self.flows.forget(&seen.all);
            } else {
                self.flows.bind(&seen.all, flow.stage, flow.actor, now);
            }
        }
    }

    fn draft(&mut self, seen: &Seen<'_, '_>, lent: &mut Lent<'_>) -> Draft {
        let mut event = extract::bare(seen.facts, seen.exchange);
        event.actor = match seen.request.identifier() {
            Some(who) => actor_of(who),
            None => seen.flow.as_ref().map(|f| f.actor.clone()).unwrap_or_default(),
        };
        event.metadata.method = Some(Text::fixed("password"));
        if let Some(said) = seen.answer.said.as_ref().filter(|s| !s.error && seen.answer.status.is_success()) {
            event.actor.fill_from(&said.actor);
        }
        // A session may say in its first part whose it is: better than an address that may change.
        let named = seen.answer.sessions().find_map(|c| answer::name_in_session(c.name, c.value));
        if let Some(name) = named.filter(|_| seen.session.is_none() && event.actor.email == event.actor.login) {
            event.actor.login = Some(name);
        }
        (lent.enrich)(&mut event);
        Draft {
            event,
            host: seen.facts.host.to_owned(),
            place: seen.place.clone(),
            shape: shape(seen),
            stage: None,
            with_code: false,
            presented: seen.presented.clone(),
            fresh: seen.fresh.clone(),
            all: seen.all.clone(),
            fresh_names: seen.fresh_names.clone(),
        }
    }

    fn emit(
        &self,
        draft: Draft,
        types: &[(&'static str, Went)],
        session: Option<Handle>,
        verdict: Verdict,
        _sessions: &Sessions,
    ) -> Vec<Event> {
        let mut event = draft.event;
        event.source.rule = Some(Text::fixed(verdict.rule));
        event.source.confidence = (verdict.confidence * 100.0).round() / 100.0;
        event.metadata.session_id = session.and_then(|session| session.shown().text());
        let made = types.iter().enumerate().map(|(i, (name, outcome))| {
            let id = if i == 0 { event.id } else { EventId::new() };
            let mut event = Event { id, event_type: EventType::fixed(name), outcome: *outcome, ..event.clone() };
            // How somebody proved themselves is a matter of signing in; leaving or a reset proves nothing.
            if !["user.login.", "user.mfa.challenge.", "api_key.used"].iter().any(|proof| name.starts_with(proof)) {
                event.metadata.method = None;
            }
            event
        });
        made.collect()
    }
}
