//! An exchange with everything that is known of it before anything is decided: whose session it
//! carries, which sign-in it goes on with, what its answer hands out.
//!
//! Secrets are hashed here, and only their hashes go further.

use std::hash::{Hash, Hasher};

use http::header;

use super::answer::{self, Answer};
use super::flow::Flow;
use super::intent::Stage;
use super::request::{Request, Role, looks_like_an_address};
use super::words::{IDENTIFIER, NAME, Words};
use super::{Auto, learn, page};
use crate::body::cookie::{self, CookieChange};
use crate::body::credentials;
use crate::event::{Actor, Text};
use crate::exchange::Exchange;
use crate::headers::{Headers, Value};
use crate::rules::extract;
use crate::rules::facts::Facts;
use crate::session::{Carried, Handle, Sessions, Via};

/// What an exchange is, as the parts of this module see it.
pub(super) struct Seen<'a, 'f> {
    pub(super) facts: &'a Facts<'f>,
    pub(super) exchange: &'a Exchange,
    pub(super) request: &'a Request<'a>,
    pub(super) answer: &'a Answer<'a>,
    /// Sessions that the request brought, most telling first.
    pub(super) presented: Vec<Handle>,
    /// Sessions and tokens that the answer hands out.
    pub(super) fresh: Vec<Handle>,
    /// Names of the cookies among them.
    pub(super) fresh_names: Vec<String>,
    /// Everything that may tell this client from others, brought or handed out.
    pub(super) all: Vec<Handle>,
    pub(super) session: Option<Actor>,
    pub(super) flow: Option<Flow>,
    pub(super) place: String,
    pub(super) referer: Option<String>,
    pub(super) fresh_session: bool,
    pub(super) session_by_name: bool,
}

impl Auto {
    pub(super) fn see<'a, 'f>(
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
        let mut session = sessions.recall(&carried(&presented), now).filter(|k| !k.pending).map(|k| k.actor);
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
        // Who may be signed in by now is nobody's step before something.
        let flow = self.flows.recall(&all, now).filter(|flow| flow.stage != Stage::Entered);
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
}

/// Whom a typed identifier names.
pub(super) fn actor_of(who: &str) -> Actor {
    let login = Text::identifier(who);
    Actor { email: login.clone().filter(|_| looks_like_an_address(who)), login, ..Actor::default() }
}

/// Whom a form that asks for several things about somebody names: an address, and a name beside it.
pub(super) fn described(request: &Request<'_>) -> Actor {
    let mut actor = Actor::default();
    for field in request.with(Role::Identifier).filter(|f| f.value.len() <= 254) {
        let value = field.value.trim();
        if looks_like_an_address(value) {
            actor.email = actor.email.take().or_else(|| Text::identifier(value));
        } else if Words::of(&field.name).say(&NAME) {
            actor.login = actor.login.take().or_else(|| Text::identifier(value));
        }
    }
    actor
}

/// True if a request names somebody, and nobody that it names is this one.
pub(super) fn names_another(request: &Request<'_>, actor: &Actor) -> bool {
    let own = |value: &str| {
        let local = |text: &str| text.split('@').next().unwrap_or_default().to_lowercase();
        let known = [&actor.id, &actor.login, &actor.email];
        known.into_iter().flatten().any(|k| local(k.as_str()) == local(value.trim()))
    };
    // By its own name: what is only taken for an identifier, for want of another, names nobody here.
    let mut named = request.with(Role::Identifier).filter(|f| Words::of(&f.name).say(&IDENTIFIER)).peekable();
    named.peek().is_some() && !named.any(|f| own(&f.value))
}

/// These values for the memory. Which header carried one does not matter here: what moves and what
/// ends is concluded from the exchange, not from the carrier.
pub(super) fn carried(handles: &[Handle]) -> Vec<Carried> {
    handles.iter().map(|handle| Carried { via: Via::Token, handle: *handle }).collect()
}

/// The values by which a request may bring a session, whatever else is known of its application.
pub fn brought(headers: &Headers) -> impl Iterator<Item = &[u8]> {
    tokens_of(headers).chain(cookies_of(headers).map(|(_, value)| value))
}

fn tokens_of(headers: &Headers) -> impl Iterator<Item = &[u8]> {
    let named = headers.iter().take(100).filter(|(name, value)| {
        let has =
            |word: &str| name.as_bytes().windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()));
        (has("token") || has("session") || has("api-key"))
            && !has("csrf")
            && !has("xsrf")
            && answer::looks_like_a_secret(value.as_bytes())
    });
    credentials::bearer(headers).map(str::as_bytes).into_iter().chain(named.map(|(_, value)| value.as_bytes()))
}

fn cookies_of(headers: &Headers) -> impl Iterator<Item = (&str, &[u8])> {
    cookie::request_cookies(headers)
        .filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)))
        .filter(|(name, value)| answer::looks_like_a_session(name, value))
        .take(32)
}

/// Sessions that a request brings: tokens, then cookies, those that the application hides from
/// scripts before others.
pub(super) fn presented(
    facts: &Facts<'_>,
    request: &Request<'_>,
    host: &learn::Host,
    sessions: &Sessions,
) -> Vec<Handle> {
    let mut found: Vec<Handle> = tokens_of(facts.headers).map(|t| sessions.handle(t)).collect();
    let cookies: Vec<(&str, &[u8])> = cookies_of(facts.headers).collect();
    let hidden = cookies.iter().any(|(name, _)| host.is_hidden(name));
    let telling = cookies.iter().filter(|(name, _)| !hidden || host.is_hidden(name));
    found.extend(telling.map(|(_, value)| sessions.handle(value)));
    let tokens = request.fields.iter().chain(&request.query).filter(|f| f.role == Role::Token);
    found.extend(tokens.take(8).map(|f| sessions.handle(f.value.as_bytes())));
    found
}

/// Everything in a request that tells one client from others.
pub(super) fn secrets<'s>(facts: &'s Facts<'_>, request: &'s Request<'_>) -> impl Iterator<Item = &'s [u8]> {
    let cookies = cookie::request_cookies(facts.headers).map(|(_, value)| value);
    let fields = request.fields.iter().chain(&request.query);
    let tokens = fields
        .filter(|f| f.role == Role::Token || f.name.to_ascii_lowercase().contains("state"))
        .map(|f| f.value.as_bytes());
    let bearer = credentials::bearer(facts.headers).map(str::as_bytes);
    cookies.chain(tokens).chain(bearer).filter(|v| answer::looks_like_a_secret(v)).take(40)
}

/// Where something is done: the path without secrets, and the action if one is named.
pub(super) fn place(facts: &Facts<'_>, request: &Request<'_>) -> String {
    format!("{}?{}", extract::shown_path(&facts.path, &[]), request.action.key())
}

/// What the answer to a sign-in looked like, so that the next one of its kind says more.
pub(super) fn shape(seen: &Seen<'_, '_>) -> u64 {
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

pub(super) fn agent(facts: &Facts<'_>) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    facts.headers.get(header::USER_AGENT).map(Value::as_bytes).hash(&mut hasher);
    hasher.finish()
}

pub(super) fn accepts_pages(facts: &Facts<'_>) -> bool {
    facts.headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|a| a.contains("text/html"))
}

/// A path that may be relative, as the client resolves it (RFC 3986 section 5.2, without dots).
pub(super) fn resolved(base: &str, path: &str) -> String {
    if path.starts_with('/') {
        return crate::rules::path::compared(path).into_owned();
    }
    let folder = base.rsplit_once('/').map_or("", |(folder, _)| folder);
    let joined = format!("{folder}/{}", path.trim_start_matches("./"));
    crate::rules::path::compared(&joined).into_owned()
}
