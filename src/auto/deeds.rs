//! Things that are told when they are done, and only then: the end of a session, resets, changes,
//! new accounts.
//!
//! Must never tell of what was only asked for: a refusal, a form shown again and a page that asks
//! whether one is sure are silent.

use http::{Method, StatusCode};

use super::answer::{self, Kind};
use super::intent::{Intent, Stage};
use super::request::{Role, looks_like_an_address};
use super::seen::{Seen, actor_of, agent, carried, described, resolved};
use super::verdict::{self, Context, Outcome, Scale, Verdict};
use super::waiting::{self, Waiting};
use super::words::{CONFIRM, EMAIL, KEY, RESET, Words};
use super::{Auto, Lent, page};
use crate::body::cookie::{self, CookieChange};
use crate::event::{Actor, Event, Outcome as Went, Target, Text};
use crate::session::Sessions;

impl Auto {
    pub(super) fn logout(&mut self, seen: &Seen<'_, '_>, lent: &mut Lent<'_>) -> Vec<Event> {
        let Some(actor) = seen.session.clone() else { return Vec::new() };
        let answer = seen.answer;
        let brought = |name: &str| cookie::request_cookie(seen.facts.headers, name).is_some();
        let deleted = answer.cookies.iter().any(|c| {
            c.change == CookieChange::Deleted && brought(c.name) && !c.name.to_ascii_lowercase().contains("flash")
        });
        let replaced = seen.fresh_names.iter().any(|n| brought(n));
        let moved = {
            let host = self.learned.host(seen.facts.host);
            seen.fresh_names.iter().any(|n| brought(n) && !host.changes_always(n))
        };
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
                let done = *seen.facts.method != Method::GET
                    || moved
                    || answer.page.as_ref().is_some_and(page::Page::shows_login);
                (done && !asks, if moved { "session-cookie-changed" } else { "no-way-out-shown" }, 0.75)
            }
            _ => (true, "accepted", 0.9),
        };
        if !done {
            return Vec::new();
        }
        let mut draft = self.draft(seen, lent);
        draft.event.actor = actor;
        let shown = seen.presented.first().copied();
        lent.sessions.forget(&carried(&seen.presented));
        self.flows.forget(&seen.all);
        let verdict = Verdict { outcome: Outcome::Accepted, confidence, rule };
        self.emit(draft, &[("user.logout", Went::Success)], shown, verdict, lent.sessions)
    }

    /// A reset, a change, a new account: things that are told when they are done, and only then.
    pub(super) fn deed(&mut self, seen: &Seen<'_, '_>, intent: Intent, lent: &mut Lent<'_>) -> Vec<Event> {
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
        let made = if intent == Intent::KeyMade { keys_made(seen) } else { Vec::new() };
        if intent == Intent::KeyMade && made.is_empty() {
            return Vec::new();
        }
        let mut draft = self.draft(seen, lent);
        let typed = draft.event.actor.clone();
        let now = seen.exchange.answered;
        let session = seen.session.clone();
        let in_session = session.is_some();
        let name = match intent {
            Intent::SignUp => {
                let described = described(seen.request);
                if described.login.is_some() && described.email.is_some() {
                    draft.event.actor = described;
                }
                draft.event.actor.fill_from(&seen.answer.said.as_ref().map(|s| s.actor.clone()).unwrap_or_default());
                self.fill_from_tokens(seen, &mut draft.event.actor);
                let waits = seen.answer.location.as_ref().is_some_and(|l| l.is_unverified() || l.is_login())
                    || seen.answer.said.as_ref().is_some_and(|s| s.unverified || s.signed_in == Some(false));
                if !draft.event.actor.is_empty() && !in_session {
                    // An account may wait for its address to be verified, and be signed in all the same.
                    if !seen.answer.tokens.is_empty() || (seen.fresh_session && !waits) {
                        lent.sessions.bind(&carried(&seen.fresh), &draft.event.actor, now);
                    } else if seen.answer.redirects() && !waits {
                        self.flows.bind(&seen.all, Stage::Entered, draft.event.actor.clone(), now);
                    }
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
                // Who is signed in by it is named by what it is signed in with.
                if draft.event.actor.is_empty() {
                    seen.answer.tokens.iter().for_each(|t| draft.event.actor.fill_from(&answer::actor_of_token(t)));
                }
                self.flows.forget(&seen.all);
                if !draft.event.actor.is_empty() && !in_session {
                    // A new cookie alone may carry no more than the message that it was done.
                    if !seen.answer.tokens.is_empty() {
                        lent.sessions.bind(&carried(&seen.fresh), &draft.event.actor, now);
                    } else if seen.answer.redirects() {
                        self.flows.bind(&seen.all, Stage::Entered, draft.event.actor.clone(), now);
                    }
                }
                "user.password.reset_completed"
            }
            Intent::PasswordChange => "user.password.changed",
            Intent::EmailChange => "user.email.changed",
            Intent::SecondFactorOn => "user.mfa.enabled",
            Intent::SecondFactorOff => "user.mfa.disabled",
            Intent::KeyMade => {
                // Whoever uses it is known by it.
                if let Some(actor) = &session {
                    let made: Vec<_> = made.iter().map(|key| lent.sessions.handle(key.as_bytes())).collect();
                    lent.sessions.bind(&carried(&made), actor, now);
                }
                "api_key.created"
            }
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
        let went = match intent {
            // Known and unknown addresses get the same answer: it was asked for, and no more is seen.
            Intent::ResetRequest => Went::Requested,
            Intent::SignUp if !shows_an_account(seen) => Went::Requested,
            _ => Went::Success,
        };
        self.emit(draft, &[(name, went)], shown, verdict, lent.sessions)
    }

    /// A new address is given inside a session, and later confirmed by the link that was mailed to it.
    pub(super) fn new_address(&mut self, seen: &Seen<'_, '_>, lent: &mut Lent<'_>) -> Vec<Event> {
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
        lent.sessions.bind(&carried(&seen.presented), &actor, now);
        self.flows.forget(&seen.all);
        let mut draft = self.draft(seen, lent);
        draft.event.actor = actor;
        let verdict = Verdict { outcome: Outcome::Accepted, confidence: 0.75, rule: "address-confirmed" };
        let shown = seen.presented.first().copied();
        self.emit(draft, &[("user.email.changed", Went::Success)], shown, verdict, lent.sessions)
    }

    /// The link of a reset names whom it is for.
    pub(super) fn link(&mut self, seen: &Seen<'_, '_>, sessions: &Sessions) {
        if seen.session.is_some() || seen.facts.method != Method::GET {
            return;
        }
        let Some(token) = seen.request.query.iter().find(|f| f.role == Role::Token) else { return };
        // So does what a page of scripts asks before it shows its form: whose link is this?
        let told = seen.answer.said.as_ref().filter(|s| !s.error && seen.answer.status.is_success());
        let told = told.map(|said| said.actor.clone()).filter(|a| !a.is_empty() && seen.request.hints(&RESET));
        if let Some(actor) = seen.request.identifier_in_query().map(actor_of).or(told) {
            let mut handles = seen.all.clone();
            handles.push(sessions.handle(token.value.as_bytes()));
            self.flows.bind(&handles, Stage::Reset, actor, seen.exchange.answered);
        }
    }

    pub(super) fn fill_from_tokens(&self, seen: &Seen<'_, '_>, actor: &mut Actor) {
        for field in seen.request.fields.iter().chain(&seen.request.query).filter(|f| f.role == Role::Token) {
            actor.fill_from(&answer::actor_of_token(&field.value));
        }
    }
}

/// The keys that an answer hands out: what the request brought is none, nor is a list of keys.
fn keys_made<'s>(seen: &Seen<'s, '_>) -> Vec<&'s str> {
    let tokens = seen.answer.tokens.iter().filter(|_| seen.request.hints(&KEY));
    let keys = seen.answer.keys.iter().filter(|_| seen.answer.keys.len() <= answer::MAX_KEYS);
    let brought = |key: &str| seen.request.fields.iter().any(|field| field.value == key);
    tokens.chain(keys).copied().filter(|key| !brought(key)).collect()
}

/// True if the answer to a sign-up shows that there is an account now, rather than being what
/// anybody would get for an address that has one already.
fn shows_an_account(seen: &Seen<'_, '_>) -> bool {
    seen.answer.status == StatusCode::CREATED
        || seen.fresh_session
        || !seen.answer.tokens.is_empty()
        || seen.answer.said.as_ref().is_some_and(|said| !said.actor.is_empty())
}
