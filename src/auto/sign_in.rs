//! Sign-ins: by password, by code, by call, and by credentials that go along with each request.
//!
//! Each ends in exactly one outcome, maybe after waiting for its next page; where the signs do not
//! decide it is `user.login.unknown`.

use http::header;

use super::answer::Kind;
use super::intent::{Intent, Stage};
use super::request::Role;
use super::seen::{Seen, accepts_pages, actor_of, agent, carried, resolved};
use super::verdict::{self, Context, Outcome, Scale, Verdict};
use super::waiting::Waiting;
use super::words::LOGIN;
use super::{Auto, Draft, Lent, page};
use crate::body::credentials;
use crate::event::{Event, Outcome as Went, Text};
use crate::session::Sessions;

/// How long a key's or password's use with each request is not told again, in milliseconds.
const USE_AGAIN_AFTER_MS: i64 = 600_000;

impl Auto {
    pub(super) fn login(&mut self, seen: &Seen<'_, '_>, intent: Intent, lent: &mut Lent<'_>) -> Vec<Event> {
        let mut draft = self.draft(seen, lent);
        if let Some(flow) = seen.flow.as_ref().filter(|_| intent == Intent::NewPassword) {
            // Who it is was said with the password that was right.
            (draft.event.actor, draft.stage) = (flow.actor.clone(), Some(Stage::NewPassword));
        }
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

    pub(super) fn wait(
        &mut self,
        seen: &Seen<'_, '_>,
        draft: Draft,
        scale: Scale,
        sessions: &mut Sessions,
    ) -> Vec<Event> {
        let path = match &seen.answer.location {
            Some(location) => resolved(&seen.facts.path, &location.path),
            None => return self.finish(draft, scale.verdict(), sessions),
        };
        let waiting =
            Waiting::new(draft, scale, seen.exchange.client_ip, agent(seen.facts), path, seen.exchange.answered);
        self.room_for(waiting, sessions)
    }

    /// The events of a sign-in that is decided.
    pub(super) fn finish(&mut self, draft: Draft, verdict: Verdict, sessions: &mut Sessions) -> Vec<Event> {
        let now = draft.event.timestamp;
        let host = self.learned.host(&draft.host);
        let named = !draft.event.actor.is_empty();
        // A new password that was not taken: it is asked for again, and nobody signed in or failed to.
        if draft.stage == Some(Stage::NewPassword) && verdict.outcome != Outcome::Accepted {
            self.flows.bind(&draft.all, Stage::NewPassword, draft.event.actor, now);
            return Vec::new();
        }
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
                        sessions.forget(&carried(&draft.presented));
                    }
                    sessions.bind(&carried(bound), &draft.event.actor, now);
                }
                let shown = bound.first().copied();
                let both = draft.with_code || draft.stage == Some(Stage::SecondFactor);
                let types: &[(&'static str, Went)] = if draft.stage == Some(Stage::NewPassword) {
                    &[("user.password.changed", Went::Success), ("user.login.success", Went::Success)]
                } else if both {
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
                let mut draft = draft;
                let demanded = verdict.rule == verdict::NEW_PASSWORD_DEMANDED;
                if demanded {
                    draft.event.reason = Some(Text::fixed("required_action"));
                }
                if named {
                    let stage = if demanded { Stage::NewPassword } else { Stage::SecondFactor };
                    self.flows.bind(&draft.all, stage, draft.event.actor.clone(), now);
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
    pub(super) fn code(&mut self, seen: &Seen<'_, '_>, lent: &mut Lent<'_>) -> Vec<Event> {
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

    pub(super) fn weigh_code(&mut self, seen: &Seen<'_, '_>, draft: &mut Draft) -> Verdict {
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

    /// Calls by position: only a refusal shows that they had been a sign-in.
    pub(super) fn xml_rpc(&mut self, seen: &Seen<'_, '_>, lent: &mut Lent<'_>) -> Vec<Event> {
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
    pub(super) fn with_each_request(&mut self, seen: &Seen<'_, '_>, lent: &mut Lent<'_>) -> Vec<Event> {
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
}
