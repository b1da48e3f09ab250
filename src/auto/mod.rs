//! Capture without configuration: an unknown application's logins, by what requests carry and
//! answers show.
//!
//! In five steps, one file each: [`gate`] decides on the traffic path what is kept, [`request`]
//! reads what a request carries, [`intent`] says what it is about, [`answer`] reads the signs of
//! how it went, [`verdict`] weighs them. [`learn`] remembers names (of fields, cookies, paths) for
//! each host, [`flow`] who a client without a session says to be, and [`waiting`] holds what only
//! the next page decides. [`words`] are the tables of stems; no table knows an application.
//!
//! Lives on the pipeline's thread. Must never name an outcome that the signs do not support: below
//! a threshold a sign-in is `user.login.unknown`, and everything else is silent. Extraction is by
//! allow-list: identifiers only. The invariant: every map and list here is bounded, and nothing
//! held beyond an exchange is a secret, for sessions and tokens are keyed hashes.

pub mod answer;
pub mod flow;
pub mod gate;
pub mod intent;
pub mod learn;
pub mod page;
pub mod request;
pub mod verdict;
pub mod waiting;
pub mod words;

use http::{Method, header};
use std::hash::{Hash, Hasher};

use crate::body::cookie::{self, CookieChange};
use crate::body::credentials;
use crate::event::{Actor, Event, EventId, EventType, Outcome as Went, Target, Text, Timestamp};
use crate::exchange::Exchange;
use crate::rules::extract;
use crate::rules::facts::Facts;
use crate::session::{Handle, Sessions};
use answer::{Answer, Kind};
use flow::{Flow, Flows};
use intent::{Intent, Known, Stage};
use learn::Learned;
use request::{Request, Role, Shape, looks_like_an_address};
use verdict::{Context, Outcome, Scale, Verdict};
use waiting::{Next, Waiting, WaitingRoom};
use words::{CONFIRM, EMAIL, LOGIN, Words};

/// How long a key's or password's use with each request is not told again, in milliseconds.
const USE_AGAIN_AFTER_MS: i64 = 600_000;

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

/// What an exchange is, as the parts of this module see it.
struct Seen<'a, 'f> {
    facts: &'a Facts<'f>,
    exchange: &'a Exchange,
    request: &'a Request<'a>,
    answer: &'a Answer<'a>,
    /// Sessions that the request brought, most telling first.
    presented: Vec<Handle>,
    /// Sessions and tokens that the answer hands out.
    fresh: Vec<Handle>,
    /// Names of the cookies among them.
    fresh_names: Vec<String>,
    /// Everything that may tell this client from others, brought or handed out.
    all: Vec<Handle>,
    session: Option<Actor>,
    flow: Option<Flow>,
    place: String,
    referer: Option<String>,
    fresh_session: bool,
    session_by_name: bool,
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
        let signing_in = matches!(intent, Intent::Login | Intent::LoginWithCode | Intent::Code);
        self.take_in(&seen, lent.sessions, decided, signing_in);
        events
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

    fn see<'a, 'f>(
        &mut self,
        facts: &'a Facts<'f>,
        exchange: &'a Exchange,
        request: &'a Request<'a>,
        answer: &'a Answer<'a>,
        sessions: &mut Sessions,
    ) -> Seen<'a, 'f> {
        let host = self.learned.host(facts.host);
        let now = exchange.answered;
        let presented = presented(facts, request, host, sessions);
        let mut session = sessions.recall(&presented, now).filter(|k| !k.pending).map(|k| k.actor);
        if session.is_none()
            && let Some(token) = credentials::bearer(facts.headers)
        {
            let named = answer::actor_of_token(token);
            session = Some(named).filter(|a| !a.is_empty() && answer.status.is_success());
        }
        let stable = |name: &str| !host.changes_always(name);
        let fresh_cookies: Vec<_> = answer.sessions().collect();
        let fresh_session = fresh_cookies.iter().any(|c| stable(c.name));
        let session_by_name = fresh_cookies.iter().any(|c| stable(c.name) && host.proves_login(c.name));
        let mut fresh: Vec<Handle> = fresh_cookies.iter().map(|c| sessions.handle(c.value)).collect();
        fresh.extend(answer.tokens.iter().map(|t| sessions.handle(t.as_bytes())));
        let mut all: Vec<Handle> = secrets(facts, request).map(|v| sessions.handle(v)).collect();
        let flow = self.flows.recall(&all, now);
        let handed = answer.cookies.iter().filter(|c| c.change != CookieChange::Deleted);
        all.extend(handed.filter(|c| answer::looks_like_a_secret(c.value)).map(|c| sessions.handle(c.value)));
        all.extend(&fresh);
        let place = place(facts, request);
        let referer = facts.headers.get(header::REFERER).and_then(|v| v.to_str().ok());
        let referer =
            referer.and_then(|r| r.split_once("://")).and_then(|(_, r)| r.find('/').and_then(|at| r.get(at..)));
        Seen {
            facts,
            exchange,
            request,
            answer,
            fresh_names: fresh_cookies.iter().map(|c| c.name.to_owned()).collect(),
            presented,
            fresh,
            all,
            session,
            flow,
            place,
            referer: referer.and_then(|r| r.split(['?', '#']).next()).map(str::to_owned),
            fresh_session,
            session_by_name,
        }
    }

    fn of(&mut self, seen: &Seen<'_, '_>, lent: &mut Lent<'_>) -> (Intent, Vec<Event>) {
        let host = self.learned.host(seen.facts.host);
        let known = Known {
            session: seen.session.is_some(),
            stage: seen.flow.as_ref().map(|f| f.stage),
            login_path: host.is_login(&seen.place),
        };
        let intent = intent::of(seen.request, seen.facts.method, known);
        tracing::trace!(?intent, method = %seen.facts.method, status = seen.answer.status.as_u16(), "auto");
        let events = match intent {
            Intent::Login | Intent::LoginWithCode if seen.request.shape == Shape::XmlRpc => self.xml_rpc(seen, lent),
            Intent::Login | Intent::LoginWithCode => self.login(seen, intent, lent),
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

    fn login(&mut self, seen: &Seen<'_, '_>, intent: Intent, lent: &mut Lent<'_>) -> Vec<Event> {
        let draft = self.draft(seen, lent);
        let host = self.learned.host(seen.facts.host);
        // Signed in already: the application looks at nothing and sends the person on.
        let passed = seen.answer.status.is_success() || seen.answer.redirects();
        let asked_again = seen.answer.page.as_ref().is_some_and(page::Page::shows_login);
        // In a session only a cookie says something that does not move within sessions too.
        let stays = |name: &String| !host.moves(name) && !host.changes_always(name);
        let new_session = seen.session_by_name || (seen.fresh_session && seen.fresh_names.iter().any(stays));
        if seen.session.is_some()
            && !new_session
            && seen.answer.tokens.is_empty()
            && passed
            && !asked_again
            && !seen.answer.said.as_ref().is_some_and(|s| s.error || s.success == Some(false))
        {
            return Vec::new();
        }
        let leads_to_login =
            seen.answer.location.as_ref().is_some_and(|l| !l.elsewhere && host.is_login(&format!("{}?", l.path)));
        let cx = Context {
            path: &seen.facts.path,
            referer: seen.referer.as_deref(),
            fresh_session: seen.fresh_session,
            session_by_name: seen.session_by_name,
            learned: host.meant(draft.shape),
            leads_to_login,
            shows_forms_again: host.shows_forms_again(),
            may_wait: !seen.answer.location.as_ref().is_some_and(|l| l.elsewhere),
        };
        let draft = Draft { with_code: intent == Intent::LoginWithCode, ..draft };
        match verdict::login(seen.request, seen.answer, &cx) {
            Ok(verdict) => {
                if verdict.rule == "second-factor-refused" {
                    return self.emit(
                        draft,
                        &[("user.mfa.challenge.failed", Went::Failure)],
                        None,
                        verdict,
                        lent.sessions,
                    );
                }
                self.finish(draft, verdict, lent.sessions)
            }
            Err(scale) => self.wait(seen, draft, scale, lent.sessions),
        }
    }

    fn wait(&mut self, seen: &Seen<'_, '_>, draft: Draft, scale: Scale, sessions: &mut Sessions) -> Vec<Event> {
        let path = match &seen.answer.location {
            Some(location) => resolved(&seen.facts.path, &location.path),
            None => return self.finish(draft, scale.verdict(), sessions),
        };
        let waiting =
            Waiting::new(draft, scale, seen.exchange.client_ip, agent(seen.facts), path, seen.exchange.answered);
        self.room_for(waiting, sessions)
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
        let new_error = answer.page.as_ref().is_some_and(|p| p.marks_error)
            && !host.always_marks_error(&extract::shown_path(&facts.path, &[]));
        match waiting::next(&mut earlier, answer, to_login, new_error) {
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
                    sessions.forget(&waiting.draft.presented);
                }
                let shown = waiting.draft.presented.first().copied();
                self.emit(waiting.draft, &[(name, Went::Success)], shown, verdict, sessions)
            }
            Some(_) => Vec::new(),
        }
    }

    /// The events of a sign-in that is decided.
    fn finish(&mut self, draft: Draft, verdict: Verdict, sessions: &mut Sessions) -> Vec<Event> {
        let now = draft.event.timestamp;
        let host = self.learned.host(&draft.host);
        let named = !draft.event.actor.is_empty();
        match verdict.outcome {
            Outcome::Accepted => {
                host.login_at(&draft.place);
                if verdict.confidence >= 0.9 {
                    host.answered(draft.shape, true);
                }
                for name in &draft.fresh_names {
                    host.cookie_of_login(name);
                }
                self.flows.forget(&draft.all);
                let bound = if draft.fresh.is_empty() { &draft.presented } else { &draft.fresh };
                if named {
                    if !draft.fresh.is_empty() {
                        sessions.forget(&draft.presented);
                    }
                    sessions.bind(bound, &draft.event.actor, false, now);
                }
                let shown = bound.first().copied();
                let both = draft.with_code || draft.stage == Some(Stage::SecondFactor);
                let types: &[(&'static str, Went)] = if both {
                    &[("user.mfa.challenge.success", Went::Success), ("user.login.success", Went::Success)]
                } else {
                    &[("user.login.success", Went::Success)]
                };
                self.emit(draft, types, shown, verdict, sessions)
            }
            Outcome::Refused => {
                if named {
                    host.login_at(&draft.place);
                }
                if verdict.confidence >= 0.9 {
                    host.answered(draft.shape, false);
                }
                if verdict.rule == "form-again" {
                    host.showed_form_again();
                }
                for name in &draft.fresh_names {
                    host.cookie_of_refusal(name);
                }
                let mut draft = draft;
                draft.event.reason = Some(Text::fixed("invalid_credentials"));
                self.emit(draft, &[("user.login.failed", Went::Failure)], None, verdict, sessions)
            }
            Outcome::Rejected(reason) => {
                let mut draft = draft;
                draft.event.reason = Some(Text::fixed(reason));
                self.emit(draft, &[("user.login.rejected", Went::Rejected)], None, verdict, sessions)
            }
            Outcome::SecondFactor => {
                if named {
                    self.flows.bind(&draft.all, Stage::SecondFactor, draft.event.actor.clone(), now);
                }
                self.emit(draft, &[("user.mfa.challenge.requested", Went::Challenge)], None, verdict, sessions)
            }
            Outcome::Open => {
                let mut draft = draft;
                draft.event.reason = Some(Text::fixed("undecided"));
                self.emit(draft, &[("user.login.unknown", Went::Unknown)], None, verdict, sessions)
            }
        }
    }

    /// A code that somebody without a session gives.
    fn code(&mut self, seen: &Seen<'_, '_>, lent: &mut Lent<'_>) -> Vec<Event> {
        let stage = seen.flow.as_ref().map(|f| f.stage);
        if stage == Some(Stage::Reset) {
            return Vec::new();
        }
        let mut draft = self.draft(seen, lent);
        if let Some(flow) = &seen.flow {
            draft.event.actor = flow.actor.clone();
        }
        draft.event.metadata.method = Some(Text::fixed(if stage == Some(Stage::Identified) { "code" } else { "mfa" }));
        draft.stage = Some(stage.unwrap_or(Stage::SecondFactor));
        let verdict = self.weigh_code(seen, &mut draft);
        match verdict.outcome {
            Outcome::Accepted => self.finish(draft, verdict, lent.sessions),
            Outcome::Refused => {
                // The place of the code may have moved on to a new cookie.
                if let Some(flow) = &seen.flow {
                    self.flows.bind(&seen.all, flow.stage, flow.actor.clone(), seen.exchange.answered);
                }
                draft.event.reason = Some(Text::fixed("invalid_code"));
                let name = match stage {
                    Some(Stage::Identified) => "user.login.failed",
                    _ => "user.mfa.challenge.failed",
                };
                self.emit(draft, &[(name, Went::Failure)], None, verdict, lent.sessions)
            }
            _ => Vec::new(),
        }
    }

    fn weigh_code(&mut self, seen: &Seen<'_, '_>, draft: &mut Draft) -> Verdict {
        let answer = seen.answer;
        if answer.status.is_server_error() || answer.status.as_u16() == 429 {
            return Verdict { outcome: Outcome::Open, confidence: 0.5, rule: "undecided" };
        }
        let mut scale = Scale::default();
        if seen.fresh_session {
            scale.add(2.0, "session-cookie-set");
        }
        if let Some(said) = &answer.said {
            if !answer.tokens.is_empty() && answer.status.is_success() {
                scale.add(4.0, "token-in-json");
            }
            if said.error || said.success == Some(false) || said.signed_in == Some(false) {
                scale.add(-4.0, "error-in-json");
            } else if answer.status.is_success() {
                scale.add(2.5, "json-without-error");
            }
            draft.event.actor.fill_from(&said.actor);
        } else if let Some(location) = &answer.location {
            let cx = Context { path: &seen.facts.path, referer: seen.referer.as_deref(), ..Context::default() };
            let host = self.learned.host(seen.facts.host);
            let to_login = location.is_login() || host.is_login(&format!("{}?", location.path));
            if location.is_wrong() || verdict::is_back(location, &cx) || location.is_second_factor() {
                scale.add(-3.5, "redirected-back");
            } else if to_login {
                scale.add(-3.0, "redirected-to-login");
            } else {
                scale.add(2.5, "redirected-away");
            }
        } else if let Some(page) = &answer.page {
            let again = page.asks_code() || seen.request.with(Role::Code).any(|f| page.asks_for(&f.name));
            if again {
                scale.add(-5.0, "form-again");
            } else if page.shows_login() {
                scale.add(-3.0, "login-form");
            } else {
                scale.add(if page.marks_error { -1.0 } else { 1.0 }, "no-form-again");
            }
            if page.offers_logout {
                scale.add(3.0, "way-out-shown");
            }
        } else if answer.status.is_success() {
            scale.add(2.0, "accepted");
        }
        if answer.status.is_client_error() {
            scale.add(-4.0, "status-4xx");
        }
        scale.verdict()
    }

    fn logout(&mut self, seen: &Seen<'_, '_>, lent: &mut Lent<'_>) -> Vec<Event> {
        let Some(actor) = seen.session.clone() else { return Vec::new() };
        let answer = seen.answer;
        let brought = |name: &str| cookie::request_cookie(seen.facts.headers, name).is_some();
        let deleted = answer.cookies.iter().any(|c| {
            c.change == CookieChange::Deleted && brought(c.name) && !c.name.to_ascii_lowercase().contains("flash")
        });
        let replaced = seen.fresh_names.iter().any(|n| brought(n));
        let said_error = answer.said.as_ref().is_some_and(|s| s.error || s.success == Some(false));
        let cx = Context { path: &seen.facts.path, ..Context::default() };
        let (done, rule, confidence) = match answer.status.as_u16() {
            _ if deleted && !said_error => (true, "session-cookie-deleted", 0.98),
            401 => (answer.said.is_some() && !said_error, "unauthenticated-without-error", 0.75),
            400..=599 => (false, "", 0.0),
            _ if said_error => (false, "", 0.0),
            _ if answer.redirects() => {
                let location = answer.location.as_ref();
                if location.is_some_and(|l| l.is_wrong() || l.asks_again()) {
                    return Vec::new();
                }
                if let Some(back) = location.filter(|l| verdict::is_back(l, &cx) && !replaced) {
                    // One address for everything: the next page shows whether the session is over.
                    let path = resolved(&seen.facts.path, &back.path);
                    let mut draft = self.draft(seen, lent);
                    draft.event.actor = actor;
                    let (client, now) = (seen.exchange.client_ip, seen.exchange.answered);
                    let mut waiting = Waiting::new(draft, Scale::default(), client, agent(seen.facts), path, now);
                    waiting.deed = Some(waiting::LOGOUT);
                    return self.room_for(waiting, lent.sessions);
                }
                let rule = if replaced { "session-cookie-changed" } else { "redirected-away" };
                (true, rule, if replaced { 0.95 } else { 0.8 })
            }
            _ if answer.kind == Kind::Html => {
                // A page that asks whether one is sure ends nothing.
                let asks = answer.page.as_ref().is_some_and(|p| p.offers_logout);
                let done =
                    *seen.facts.method != Method::GET || answer.page.as_ref().is_some_and(page::Page::shows_login);
                (done && !asks, "no-way-out-shown", 0.75)
            }
            _ => (true, "accepted", 0.9),
        };
        if !done {
            return Vec::new();
        }
        let mut draft = self.draft(seen, lent);
        draft.event.actor = actor;
        let shown = seen.presented.first().copied();
        lent.sessions.forget(&seen.presented);
        self.flows.forget(&seen.all);
        let verdict = Verdict { outcome: Outcome::Accepted, confidence, rule };
        self.emit(draft, &[("user.logout", Went::Success)], shown, verdict, lent.sessions)
    }

    /// A reset, a change, a new account: things that are told when they are done, and only then.
    fn deed(&mut self, seen: &Seen<'_, '_>, intent: Intent, lent: &mut Lent<'_>) -> Vec<Event> {
        let host = self.learned.host(seen.facts.host);
        let cx = Context {
            path: &seen.facts.path,
            referer: seen.referer.as_deref(),
            shows_forms_again: host.shows_forms_again(),
            ..Context::default()
        };
        let identifier_again = intent == Intent::ResetRequest || intent == Intent::SignUp;
        let mut asked = seen.request.with(Role::Identifier).chain(seen.request.with(Role::Code));
        let fields_again = seen.answer.page.as_ref().is_some_and(|p| {
            (identifier_again || intent == Intent::SecondFactorOn) && asked.any(|f| p.asks_for(&f.name))
        });
        let verdict = verdict::deed(seen.request, seen.answer, &cx, fields_again);
        if verdict.rule == "form-again" {
            host.showed_form_again();
        }
        if verdict.outcome != Outcome::Accepted {
            return Vec::new();
        }
        if intent == Intent::KeyMade && seen.answer.tokens.is_empty() {
            return Vec::new();
        }
        let mut draft = self.draft(seen, lent);
        let typed = draft.event.actor.clone();
        let now = seen.exchange.answered;
        let session = seen.session.clone();
        let in_session = session.is_some();
        let name = match intent {
            Intent::SignUp => {
                draft.event.actor.fill_from(&seen.answer.said.as_ref().map(|s| s.actor.clone()).unwrap_or_default());
                self.fill_from_tokens(seen, &mut draft.event.actor);
                let waits = seen.answer.location.as_ref().is_some_and(|l| l.is_unverified() || l.is_login())
                    || seen.answer.said.as_ref().is_some_and(|s| s.unverified || s.signed_in == Some(false));
                if !draft.event.actor.is_empty()
                    && !waits
                    && !in_session
                    && (seen.fresh_session || !seen.answer.tokens.is_empty())
                {
                    lent.sessions.bind(&seen.fresh, &draft.event.actor, false, now);
                }
                "user.created"
            }
            Intent::ResetRequest => {
                if !in_session && !typed.is_empty() {
                    self.flows.bind(&seen.all, Stage::Reset, typed.clone(), now);
                }
                "user.password.reset_requested"
            }
            Intent::ResetComplete => {
                if draft.event.actor.is_empty() {
                    self.fill_from_tokens(seen, &mut draft.event.actor);
                }
                if let (true, Some(who)) = (draft.event.actor.is_empty(), seen.request.identifier_in_query()) {
                    draft.event.actor = actor_of(who);
                }
                if let Some(flow) =
                    seen.flow.as_ref().filter(|f| f.stage == Stage::Reset && draft.event.actor.is_empty())
                {
                    draft.event.actor = flow.actor.clone();
                }
                self.flows.forget(&seen.all);
                "user.password.reset_completed"
            }
            Intent::PasswordChange => "user.password.changed",
            Intent::EmailChange => "user.email.changed",
            Intent::SecondFactorOn => "user.mfa.enabled",
            Intent::SecondFactorOff => "user.mfa.disabled",
            Intent::KeyMade => "api_key.created",
            Intent::MakeUser => "user.created",
            _ => return Vec::new(),
        };
        if let Some(actor) = session
            && intent != Intent::SignUp
        {
            // Who is signed in did it; whom the form names is whom it was done to.
            if intent != Intent::ResetComplete || draft.event.actor.is_empty() {
                draft.event.actor = actor;
            }
            let target = Target { kind: Some(Text::fixed("user")), id: None, email: typed.email };
            draft.event.target = Some(target).filter(|t| t.email.is_some() && t.email != draft.event.actor.email);
        }
        // Back at the form: the next page shows whether it complains.
        let back = seen.answer.location.as_ref().filter(|l| verdict::is_back(l, &cx));
        if let (Some(location), Intent::PasswordChange | Intent::ResetComplete) = (back, intent) {
            let mut scale = Scale::default();
            scale.add(if self.learned.host(seen.facts.host).shows_forms_again() { 2.0 } else { 1.0 }, verdict.rule);
            let path = resolved(&seen.facts.path, &location.path);
            let mut waiting = Waiting::new(draft, scale, seen.exchange.client_ip, agent(seen.facts), path, now);
            waiting.deed = Some(name);
            return self.room_for(waiting, lent.sessions);
        }
        let shown = seen.presented.first().copied();
        self.emit(draft, &[(name, Went::Success)], shown, verdict, lent.sessions)
    }

    /// A new address is given inside a session, and later confirmed by the link that was mailed to it.
    fn new_address(&mut self, seen: &Seen<'_, '_>, lent: &mut Lent<'_>) -> Vec<Event> {
        let Some(before) = &seen.session else { return Vec::new() };
        let now = seen.exchange.answered;
        if seen.answer.status.is_client_error() || seen.answer.status.is_server_error() {
            return Vec::new();
        }
        let told = seen.request.fields.iter().filter(|f| f.role != Role::Machinery && !f.value.is_empty());
        let given =
            seen.request.fields.iter().find(|f| looks_like_an_address(&f.value) && Words::of(&f.name).say(&EMAIL));
        if let Some(given) = given.filter(|_| told.count() <= 4) {
            self.flows.bind(&seen.all, Stage::NewAddress, actor_of(&given.value), now);
            return Vec::new();
        }
        let done =
            seen.answer.redirects() && !seen.answer.location.as_ref().is_some_and(|l| l.is_wrong() || l.asks_again());
        let flow = seen.flow.as_ref().filter(|f| f.stage == Stage::NewAddress);
        let (true, true, true, Some(flow)) = (done, seen.request.has_token(), seen.request.hints(&CONFIRM), flow)
        else {
            return Vec::new();
        };
        let mut actor = before.clone();
        // Whoever signs in with an address signs in with the new one from now on.
        if actor.login == actor.email {
            actor.login.clone_from(&flow.actor.login);
        }
        actor.email.clone_from(&flow.actor.email);
        lent.sessions.bind(&seen.presented, &actor, false, now);
        self.flows.forget(&seen.all);
        let mut draft = self.draft(seen, lent);
        draft.event.actor = actor;
        draft.event.metadata.method = None;
        let verdict = Verdict { outcome: Outcome::Accepted, confidence: 0.75, rule: "address-confirmed" };
        let shown = seen.presented.first().copied();
        self.emit(draft, &[("user.email.changed", Went::Success)], shown, verdict, lent.sessions)
    }

    /// The link of a reset names whom it is for.
    fn link(&mut self, seen: &Seen<'_, '_>, sessions: &Sessions) {
        if seen.session.is_some() || seen.facts.method != Method::GET {
            return;
        }
        let token = seen.request.query.iter().find(|f| f.role == Role::Token);
        if let (Some(token), Some(who)) = (token, seen.request.identifier_in_query()) {
            let mut handles = seen.all.clone();
            handles.push(sessions.handle(token.value.as_bytes()));
            self.flows.bind(&handles, Stage::Reset, actor_of(who), seen.exchange.answered);
        }
    }

    /// Calls by position: only a refusal shows that they had been a sign-in.
    fn xml_rpc(&mut self, seen: &Seen<'_, '_>, lent: &mut Lent<'_>) -> Vec<Event> {
        let Some(body) = seen.facts.response_body() else { return Vec::new() };
        let text = body.text();
        let text = text.get(..text.floor_char_boundary(8192)).unwrap_or_default();
        let fault = text.contains("<fault>");
        let refused = fault && ["<int>401<", "<int>403<", "<i4>401<", "<i4>403<"].iter().any(|c| text.contains(c));
        let named = seen.request.action.say(&LOGIN);
        let verdict = match (refused || (fault && named), named) {
            (true, _) => Verdict { outcome: Outcome::Refused, confidence: 0.85, rule: "fault-in-answer" },
            (false, true) if !fault && seen.answer.status.is_success() => {
                Verdict { outcome: Outcome::Accepted, confidence: 0.8, rule: "no-fault-in-answer" }
            }
            _ => return Vec::new(),
        };
        if seen.request.with(Role::Password).next().is_none() {
            return Vec::new();
        }
        let draft = self.draft(seen, lent);
        self.finish(draft, verdict, lent.sessions)
    }

    /// Credentials that go along with each request: told once in a while.
    fn with_each_request(&mut self, seen: &Seen<'_, '_>, lent: &mut Lent<'_>) -> Vec<Event> {
        let Some(user) = credentials::basic_user(seen.facts.headers) else { return Vec::new() };
        let status = seen.answer.status;
        let refused = status.as_u16() == 401;
        if !(refused || status.is_success() || status.is_redirection()) {
            return Vec::new();
        }
        let credential = seen.facts.headers.get(header::AUTHORIZATION).map(|v| lent.sessions.handle(v.as_bytes()));
        let now = seen.exchange.answered;
        if !refused && credential.is_some_and(|c| !self.flows.first_use(c, now, USE_AGAIN_AFTER_MS)) {
            return Vec::new();
        }
        let mut draft = self.draft(seen, lent);
        draft.event.actor = actor_of(&user);
        draft.event.metadata.method = Some(Text::fixed("basic"));
        let outcome = if refused { Outcome::Refused } else { Outcome::Accepted };
        let verdict = Verdict { outcome, confidence: 0.9, rule: if refused { "status-401" } else { "accepted" } };
        // A person's browser asks for pages; a program that sends a name with each call uses a key.
        let program = !seen.answer.redirects() && seen.answer.kind != Kind::Html && !accepts_pages(seen.facts);
        if !refused && program {
            return self.emit(draft, &[("api_key.used", Went::Success)], None, verdict, lent.sessions);
        }
        if let (false, Some(credential)) = (refused, credential) {
            draft.fresh.push(credential);
        }
        self.finish(draft, verdict, lent.sessions)
    }

    /// Learns from an exchange, and follows sessions that it moved.
    ///
    /// `decided` is whether it was the next page of something, `signing_in` whether it is a sign-in.
    fn take_in(&mut self, seen: &Seen<'_, '_>, sessions: &mut Sessions, decided: bool, signing_in: bool) {
        let host = self.learned.host(seen.facts.host);
        if let Some(page) = &seen.answer.page {
            host.page(page);
            if page.marks_error && *seen.facts.method == Method::GET && !decided {
                host.page_marks_error(&extract::shown_path(&seen.facts.path, &[]));
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
            && let Some(known) = sessions.recall(&seen.presented, now)
            && !known.pending
        {
            let brought = |name: &str| cookie::request_cookie(seen.facts.headers, name).is_some();
            let moved = seen.answer.sessions().filter(|c| brought(c.name)).map(|c| sessions.handle(c.value));
            let tokens = seen.answer.tokens.iter().map(|t| sessions.handle(t.as_bytes()));
            let moved: Vec<Handle> = moved.chain(tokens).collect();
            sessions.bind(&moved, actor, false, now);
        }
        if let Some(flow) = self.flows.recall(&seen.all, now) {
            self.flows.bind(&seen.all, flow.stage, flow.actor, now);
        }
    }

    fn fill_from_tokens(&self, seen: &Seen<'_, '_>, actor: &mut Actor) {
        for field in seen.request.fields.iter().chain(&seen.request.query).filter(|f| f.role == Role::Token) {
            actor.fill_from(&answer::actor_of_token(&field.value));
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
        event.metadata.session_id = session.and_then(Handle::shown);
        let made = types.iter().enumerate().map(|(i, (name, outcome))| {
            let id = if i == 0 { event.id } else { EventId::new() };
            Event { id, event_type: EventType::fixed(name), outcome: *outcome, ..event.clone() }
        });
        made.collect()
    }
}

/// Whom a typed identifier names.
fn actor_of(who: &str) -> Actor {
    let login = Text::identifier(who);
    Actor { email: login.clone().filter(|_| looks_like_an_address(who)), login, ..Actor::default() }
}

/// Sessions that a request brings: tokens, then cookies, those that the application hides from
/// scripts before others.
fn presented(facts: &Facts<'_>, request: &Request<'_>, host: &learn::Host, sessions: &Sessions) -> Vec<Handle> {
    let mut found: Vec<Handle> = Vec::new();
    found.extend(credentials::bearer(facts.headers).map(|t| sessions.handle(t.as_bytes())));
    for (name, value) in facts.headers.iter().take(100) {
        let name = name.as_str();
        if (name.contains("token") || name.contains("session") || name.contains("api-key"))
            && !name.contains("csrf")
            && !name.contains("xsrf")
            && answer::looks_like_a_secret(value.as_bytes())
        {
            found.push(sessions.handle(value.as_bytes()));
        }
    }
    let cookies: Vec<(&str, &[u8])> = cookie::request_cookies(facts.headers)
        .filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)))
        .filter(|(name, value)| answer::looks_like_a_session(name, value))
        .take(32)
        .collect();
    let hidden = cookies.iter().any(|(name, _)| host.is_hidden(name));
    let telling = cookies.iter().filter(|(name, _)| !hidden || host.is_hidden(name));
    found.extend(telling.map(|(_, value)| sessions.handle(value)));
    let tokens = request.fields.iter().chain(&request.query).filter(|f| f.role == Role::Token);
    found.extend(tokens.take(8).map(|f| sessions.handle(f.value.as_bytes())));
    found
}

/// Everything in a request that tells one client from others.
fn secrets<'s>(facts: &'s Facts<'_>, request: &'s Request<'_>) -> impl Iterator<Item = &'s [u8]> {
    let cookies = cookie::request_cookies(facts.headers).map(|(_, value)| value);
    let fields = request.fields.iter().chain(&request.query);
    let tokens = fields
        .filter(|f| f.role == Role::Token || f.name.to_ascii_lowercase().contains("state"))
        .map(|f| f.value.as_bytes());
    let bearer = credentials::bearer(facts.headers).map(str::as_bytes);
    cookies.chain(tokens).chain(bearer).filter(|v| answer::looks_like_a_secret(v)).take(40)
}

/// Where something is done: the path without secrets, and the action if one is named.
fn place(facts: &Facts<'_>, request: &Request<'_>) -> String {
    format!("{}?{}", extract::shown_path(&facts.path, &[]), request.action.key())
}

/// What the answer to a sign-in looked like, so that the next one of its kind says more.
fn shape(seen: &Seen<'_, '_>) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    seen.place.hash(&mut hasher);
    seen.answer.status.hash(&mut hasher);
    if let Some(location) = &seen.answer.location {
        let path = extract::shown_path(&location.path, &[]);
        path.split('/').filter(|s| !s.bytes().any(|b| b.is_ascii_digit())).for_each(|s| s.hash(&mut hasher));
        location.query.key().hash(&mut hasher);
    }
    seen.fresh_session.hash(&mut hasher);
    (seen.answer.kind as u8).hash(&mut hasher);
    seen.answer.page.as_ref().map(page::Page::shows_password).hash(&mut hasher);
    hasher.finish()
}

fn agent(facts: &Facts<'_>) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    facts.headers.get(header::USER_AGENT).map(http::HeaderValue::as_bytes).hash(&mut hasher);
    hasher.finish()
}

fn accepts_pages(facts: &Facts<'_>) -> bool {
    facts.headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|a| a.contains("text/html"))
}

/// A path that may be relative, as the client resolves it (RFC 3986 section 5.2, without dots).
fn resolved(base: &str, path: &str) -> String {
    if path.starts_with('/') {
        return crate::rules::path::compared(path).into_owned();
    }
    let folder = base.rsplit_once('/').map_or("", |(folder, _)| folder);
    let joined = format!("{folder}/{}", path.trim_start_matches("./"));
    crate::rules::path::compared(&joined).into_owned()
}
