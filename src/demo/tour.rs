//! The tour: what the visitors do, in order, and the events that must come of it.
//!
//! [`play`] asserts every answer of the application, so that a wrong event is never the
//! application's doing; [`judge`] compares what came out with what was done. Neither may ever show
//! a password, a code or a token: steps have names, and errors tell statuses and paths.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::StatusCode;
use serde_json::{Value, json};

use super::state::DEMO_CODE;
use super::visitor::{Answer, Form, VisitError, Visitor};
use crate::event::Outcome;

#[cfg(test)]
mod tests;

const FIREFOX: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:146.0) Gecko/20100101 Firefox/146.0";
const CHROME: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36";
const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 \
                      (KHTML, like Gecko) Version/26.1 Mobile/15E148 Safari/604.1";
const ANDROID: &str =
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Mobile Safari/537.36";
const SCRIPT: &str = "python-requests/2.32.5";
const CURL: &str = "curl/8.17.0";

// Public addresses that everybody knows (name servers, registries), in many countries.
const GUESSER: IpAddr = v4(77, 88, 8, 8);
const STRANGER: IpAddr = v4(223, 5, 5, 5);
const FORGED: IpAddr = v4(9, 9, 9, 9);
const ALICE: IpAddr = v4(81, 2, 69, 142);
const PASSER_BY: IpAddr = v4(200, 3, 14, 10);
const ALICE_PHONE: IpAddr = v4(193, 0, 6, 139);
const CAROL: IpAddr = v4(101, 101, 101, 101);
const ADMIN: IpAddr = v4(208, 67, 222, 222);
const BOB_SCRIPT: IpAddr = v4(202, 12, 29, 175);
const LOCKER: IpAddr = v4(196, 216, 2, 6);

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(a, b, c, d))
}

/// Alice's passwords: at first and at the end, and between the change and the reset.
const ALICE_OWN: &str = "wonderland";
const ALICE_OTHER: &str = "looking-glass";
const ALICE_MAIL: &str = "alice@acme.example";

/// An event that a step must give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The step that gives it.
    pub step: &'static str,
    /// Its `event_type`.
    pub event_type: &'static str,
    /// Its `outcome`.
    pub outcome: Outcome,
    /// What the actor's id, email or login must be (one of the three); `None` if nobody may be
    /// named.
    pub actor: Option<&'static str>,
    /// Its `metadata.ip_address`.
    pub ip: IpAddr,
    /// Its `reason`; `None` if any will do.
    pub reason: Option<&'static str>,
}

/// Why the tour did not come to its end. Names the step, never what was typed.
#[derive(Debug, thiserror::Error)]
pub enum TourError {
    /// No answer.
    #[error("step `{step}` got no answer")]
    Visit {
        /// The step.
        step: &'static str,
        /// What went wrong.
        #[source]
        source: VisitError,
    },
    /// Another answer than the application gives.
    #[error("step `{step}`: expected {wanted}, got {got}; is the demo application new and unused?")]
    Answer {
        /// The step.
        step: &'static str,
        /// What the application should have answered.
        wanted: String,
        /// Status and path of the redirect, if any.
        got: String,
    },
    /// A form, link or value that the page should have is not there.
    #[error("step `{step}`: the page has no {what}; is the demo application new and unused?")]
    Missing {
        /// The step.
        step: &'static str,
        /// What was looked for.
        what: &'static str,
    },
}

/// Plays the whole tour against `proxy`; `on_step` hears the name of each step before it begins.
/// The application behind must be new: one account is locked at the end. Gives the events that
/// must have come out, in order.
///
/// # Errors
/// [`TourError`] at the first answer that is not the application's.
pub async fn play(proxy: SocketAddr, mut on_step: impl FnMut(&'static str)) -> Result<Vec<Expected>, TourError> {
    let mut tour = Tour { proxy, on_step: &mut on_step, step: "", expected: Vec::new() };
    tour.refusals().await?;
    tour.alice().await?;
    tour.anonymous_logout().await?;
    tour.reset().await?;
    tour.carol().await?;
    tour.admin().await?;
    tour.api().await?;
    tour.lockout().await?;
    Ok(tour.expected)
}

struct Tour<'a> {
    proxy: SocketAddr,
    on_step: &'a mut dyn FnMut(&'static str),
    step: &'static str,
    expected: Vec<Expected>,
}

impl Tour<'_> {
    async fn refusals(&mut self) -> Result<(), TourError> {
        self.begin("wrong password");
        let mut guesser = self.visitor(GUESSER, SCRIPT);
        self.guess(&mut guesser, "alice", "Wrong user name or password").await?;
        self.expect(&guesser, "user.login.failed", Outcome::Failure, Some("alice"), Some("invalid_credentials"));

        self.begin("unknown user");
        let mut stranger = self.visitor(STRANGER, CHROME);
        self.guess(&mut stranger, "mallory", "Wrong user name or password").await?;
        self.expect(&stranger, "user.login.failed", Outcome::Failure, Some("mallory"), Some("invalid_credentials"));

        self.begin("right password, forged form");
        let mut forger = self.visitor(FORGED, CHROME);
        let form = self.form(&mut forger, "/login", "/login").await?;
        let typed = [("csrf", "forged"), ("username", "alice"), ("password", ALICE_OWN)];
        let answer = self.submit(&mut forger, &form, &typed).await?;
        self.wants(&answer, StatusCode::FORBIDDEN, "CSRF")?;
        self.expect(&forger, "user.login.rejected", Outcome::Rejected, Some("alice"), Some("csrf"));
        Ok(())
    }

    async fn alice(&mut self) -> Result<(), TourError> {
        self.begin("login");
        let mut alice = self.visitor(ALICE, FIREFOX);
        let stale = self.form(&mut alice, "/login", "/login").await?;
        let typed = [("username", "alice"), ("password", ALICE_OWN)];
        let answer = self.submit(&mut alice, &stale, &typed).await?;
        self.wants_redirect(&answer, "/")?;
        self.opens(&mut alice, "/").await?;
        self.expect(&alice, "user.login.success", Outcome::Success, Some("alice"), None);

        self.begin("login again while signed in (no event)");
        let answer = self.submit(&mut alice, &stale, &typed).await?;
        self.wants_redirect(&answer, "/")?;

        self.begin("export");
        let answer = self.opens(&mut alice, "/export.csv").await?;
        if !answer.content_type.starts_with("text/csv") {
            return Err(self.unlike("text/csv", &answer));
        }
        self.expect(&alice, "data.exported", Outcome::Success, Some("alice"), None);

        self.begin("password change");
        let form = self.form(&mut alice, "/password", "/password").await?;
        let answer = self.submit(&mut alice, &form, &[("old", ALICE_OWN), ("new", ALICE_OTHER)]).await?;
        self.wants_redirect(&answer, "/password")?;
        self.expect(&alice, "user.password.changed", Outcome::Success, Some("alice"), None);

        self.begin("logout");
        let form = self.form(&mut alice, "/", "/logout").await?;
        let answer = self.submit(&mut alice, &form, &[]).await?;
        self.wants_redirect(&answer, "/login")?;
        self.expect(&alice, "user.logout", Outcome::Success, Some("alice"), None);
        Ok(())
    }

    async fn anonymous_logout(&mut self) -> Result<(), TourError> {
        self.begin("anonymous logout (no event)");
        let mut passer_by = self.visitor(PASSER_BY, ANDROID);
        self.opens(&mut passer_by, "/login").await?;
        let form = Form { action: "/logout".to_owned(), hidden: Vec::new() };
        let answer = self.submit(&mut passer_by, &form, &[]).await?;
        self.wants_redirect(&answer, "/login")
    }

    async fn reset(&mut self) -> Result<(), TourError> {
        self.begin("reset requested");
        let mut alice = self.visitor(ALICE_PHONE, IPHONE);
        let form = self.form(&mut alice, "/reset", "/reset").await?;
        let answer = self.submit(&mut alice, &form, &[("email", ALICE_MAIL)]).await?;
        self.wants_redirect(&answer, "/reset/sent")?;
        self.expect(&alice, "user.password.reset_requested", Outcome::Requested, None, None);

        self.begin("reset completed");
        let outbox = self.opens(&mut alice, "/outbox").await?;
        let link = outbox.links().into_iter().find(|link| link.starts_with("/reset/"));
        let link = link.ok_or_else(|| self.missing("reset link"))?;
        let form = self.form(&mut alice, &link, &link).await?;
        let answer = self.submit(&mut alice, &form, &[("password", ALICE_OWN)]).await?;
        self.wants_redirect(&answer, "/login")?;
        self.expect(&alice, "user.password.reset_completed", Outcome::Success, Some(ALICE_MAIL), None);

        self.begin("login with the new password");
        self.sign_in(&mut alice, "alice", ALICE_OWN, "/").await?;
        self.expect(&alice, "user.login.success", Outcome::Success, Some("alice"), None);

        self.begin("API key created");
        let form = self.form(&mut alice, "/api-keys", "/api-keys").await?;
        let answer = self.submit(&mut alice, &form, &[("label", "backup")]).await?;
        self.wants(&answer, StatusCode::OK, super::pages::COPY_NOW)?;
        self.expect(&alice, "api_key.created", Outcome::Success, Some("alice"), None);

        self.begin("API key revoked");
        let revoke = answer.forms().into_iter().find(|form| form.action.ends_with("/revoke"));
        let revoke = revoke.ok_or_else(|| self.missing("form that revokes the key"))?;
        let answer = self.submit(&mut alice, &revoke, &[]).await?;
        self.wants_redirect(&answer, "/api-keys")?;
        self.expect(&alice, "api_key.revoked", Outcome::Success, Some("alice"), None);
        Ok(())
    }

    async fn carol(&mut self) -> Result<(), TourError> {
        self.begin("second factor asked for");
        let mut carol = self.visitor(CAROL, ANDROID);
        self.sign_in(&mut carol, "carol", "christmas1843", "/mfa").await?;
        self.expect(&carol, "user.mfa.challenge.requested", Outcome::Challenge, Some("carol"), None);

        self.begin("wrong code");
        let form = self.form(&mut carol, "/mfa", "/mfa").await?;
        let answer = self.submit(&mut carol, &form, &[("code", "000000")]).await?;
        self.wants(&answer, StatusCode::OK, "That code is wrong")?;
        self.expect(&carol, "user.mfa.challenge.failed", Outcome::Failure, Some("carol"), Some("wrong_code"));

        self.begin("right code");
        let answer = self.submit(&mut carol, &form, &[("code", DEMO_CODE)]).await?;
        self.wants_redirect(&answer, "/")?;
        self.opens(&mut carol, "/").await?;
        self.expect(&carol, "user.mfa.challenge.success", Outcome::Success, Some("carol"), None);
        self.expect(&carol, "user.login.success", Outcome::Success, Some("carol"), None);
        Ok(())
    }

    async fn admin(&mut self) -> Result<(), TourError> {
        self.begin("administrator login");
        let mut admin = self.visitor(ADMIN, CHROME);
        self.sign_in(&mut admin, "admin", "letmein-2009", "/").await?;
        self.expect(&admin, "user.login.success", Outcome::Success, Some("admin"), None);

        self.begin("role change");
        let form = self.form(&mut admin, "/admin/users", "/admin/users/alice/role").await?;
        let answer = self.submit(&mut admin, &form, &[("role", "editor")]).await?;
        self.wants_redirect(&answer, "/admin/users")?;
        self.expect(&admin, "user.role.updated", Outcome::Success, Some("admin"), None);

        self.begin("user created");
        let form = self.form(&mut admin, "/admin/users", "/admin/users").await?;
        let typed = [("username", "dora"), ("email", "dora@acme.example"), ("password", "explorer2000")];
        let answer = self.submit(&mut admin, &form, &typed).await?;
        self.wants_redirect(&answer, "/admin/users")?;
        self.expect(&admin, "user.created", Outcome::Success, Some("admin"), None);

        self.begin("user deleted");
        let form = self.form(&mut admin, "/admin/users", "/admin/users/dora/delete").await?;
        let answer = self.submit(&mut admin, &form, &[]).await?;
        self.wants_redirect(&answer, "/admin/users")?;
        self.expect(&admin, "user.deleted", Outcome::Success, Some("admin"), None);
        Ok(())
    }

    async fn api(&mut self) -> Result<(), TourError> {
        self.begin("API login failed");
        let mut script = self.visitor(BOB_SCRIPT, CURL);
        let answer = self.post_json(&mut script, &json!({"username": "bob", "password": "a-guess"})).await?;
        self.wants(&answer, StatusCode::UNAUTHORIZED, "invalid_credentials")?;
        self.expect(&script, "user.login.failed", Outcome::Failure, Some("bob"), Some("invalid_credentials"));

        self.begin("API login");
        let answer = self.post_json(&mut script, &json!({"username": "bob", "password": "builder2009"})).await?;
        self.wants(&answer, StatusCode::OK, "token")?;
        self.expect(&script, "user.login.success", Outcome::Success, Some("bob"), None);

        self.begin("API call with the token (no event)");
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let token = body.get("token").and_then(Value::as_str).ok_or_else(|| self.missing("token"))?;
        let answer = script.get_with_token("/api/me", token).await.map_err(|e| self.visit(e))?;
        self.wants(&answer, StatusCode::OK, "bob")
    }

    async fn lockout(&mut self) -> Result<(), TourError> {
        self.begin("lockout");
        let mut locker = self.visitor(LOCKER, SCRIPT);
        for _ in 1..5 {
            self.guess(&mut locker, "bob", "Wrong user name or password").await?;
            self.expect(&locker, "user.login.failed", Outcome::Failure, Some("bob"), Some("invalid_credentials"));
        }
        self.guess(&mut locker, "bob", super::pages::NOW_LOCKED).await?;
        self.expect(&locker, "user.login.failed", Outcome::Failure, Some("bob"), Some("locked"));
        self.expect(&locker, "user.locked", Outcome::Failure, Some("bob"), Some("locked"));
        Ok(())
    }

    fn begin(&mut self, step: &'static str) {
        self.step = step;
        (self.on_step)(step);
    }

    fn visitor(&self, ip: IpAddr, agent: &'static str) -> Visitor {
        Visitor::new(self.proxy, ip, agent)
    }

    fn expect(
        &mut self,
        visitor: &Visitor,
        event_type: &'static str,
        outcome: Outcome,
        actor: Option<&'static str>,
        reason: Option<&'static str>,
    ) {
        let (step, ip) = (self.step, visitor.ip());
        self.expected.push(Expected { step, event_type, outcome, actor, ip, reason });
    }

    /// A sign-in with a wrong password; `told` is what the page says.
    async fn guess(&self, visitor: &mut Visitor, name: &str, told: &str) -> Result<(), TourError> {
        let form = self.form(visitor, "/login", "/login").await?;
        let answer = self.submit(visitor, &form, &[("username", name), ("password", "a-guess")]).await?;
        self.wants(&answer, StatusCode::OK, told)
    }

    async fn sign_in(&self, visitor: &mut Visitor, name: &str, password: &str, to: &str) -> Result<(), TourError> {
        let form = self.form(visitor, "/login", "/login").await?;
        let answer = self.submit(visitor, &form, &[("username", name), ("password", password)]).await?;
        self.wants_redirect(&answer, to)?;
        self.opens(visitor, to).await.map(drop)
    }

    async fn opens(&self, visitor: &mut Visitor, path: &str) -> Result<Answer, TourError> {
        let answer = visitor.get(path).await.map_err(|e| self.visit(e))?;
        self.wants(&answer, StatusCode::OK, "")?;
        Ok(answer)
    }

    async fn form(&self, visitor: &mut Visitor, path: &str, action: &str) -> Result<Form, TourError> {
        let page = self.opens(visitor, path).await?;
        let found = page.forms().into_iter().find(|form| form.action == action);
        found.ok_or_else(|| self.missing("such form"))
    }

    async fn submit(&self, visitor: &mut Visitor, form: &Form, typed: &[(&str, &str)]) -> Result<Answer, TourError> {
        visitor.submit(form, typed).await.map_err(|e| self.visit(e))
    }

    async fn post_json(&self, visitor: &mut Visitor, value: &Value) -> Result<Answer, TourError> {
        visitor.post_json("/api/login", value).await.map_err(|e| self.visit(e))
    }

    fn wants(&self, answer: &Answer, status: StatusCode, text: &str) -> Result<(), TourError> {
        if answer.status == status && answer.body.contains(text) {
            return Ok(());
        }
        let said = if text.is_empty() { String::new() } else { format!(" saying `{text}`") };
        Err(self.unlike(&format!("{}{said}", status.as_u16()), answer))
    }

    fn wants_redirect(&self, answer: &Answer, path: &str) -> Result<(), TourError> {
        if answer.status == StatusCode::FOUND && path_of(answer) == Some(path) {
            return Ok(());
        }
        Err(self.unlike(&format!("302 to {path}"), answer))
    }

    fn unlike(&self, wanted: &str, answer: &Answer) -> TourError {
        let mut got = answer.status.as_u16().to_string();
        if let Some(path) = path_of(answer) {
            got = format!("{got} to {path}");
        }
        TourError::Answer { step: self.step, wanted: wanted.to_owned(), got }
    }

    fn missing(&self, what: &'static str) -> TourError {
        TourError::Missing { step: self.step, what }
    }

    fn visit(&self, source: VisitError) -> TourError {
        TourError::Visit { step: self.step, source }
    }
}

/// Where an answer redirects to, without a query (RFC 9110 section 10.2.2: it may be absolute).
fn path_of(answer: &Answer) -> Option<&str> {
    let location = answer.location.as_deref()?;
    let path = match location.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => location,
    };
    path.split(['?', '#']).next()
}

/// What is wrong with the events of a played tour, one sentence each, without order; nothing if
/// all is right. Events are compared for each address as a multiset: the order in which they came
/// does not matter, their number does. Notices of authtap itself (`authtap.*`) are passed over;
/// everything else that no step asked for is reported, findings (`detection.*`) too.
pub fn judge(expected: &[Expected], events: &[Value]) -> Vec<String> {
    let mut seen: Vec<Option<Seen>> =
        events.iter().map(Seen::of).filter(|s| !s.event_type.starts_with("authtap.")).map(Some).collect();

    // Those that ask for a reason choose first; the others take what is left.
    let mut order: Vec<&Expected> = expected.iter().collect();
    order.sort_by_key(|e| e.reason.is_none());
    order.retain(|wanted| {
        let found = seen.iter_mut().find(|s| s.as_ref().is_some_and(|s| s.differences(wanted).is_empty()));
        found.map(Option::take).is_none()
    });

    let mut report = Vec::new();
    for wanted in order {
        let near = |s: &Seen| s.ip == Some(wanted.ip) && s.event_type == wanted.event_type;
        let nearest = seen
            .iter_mut()
            .filter(|s| s.as_ref().is_some_and(near))
            .min_by_key(|s| s.as_ref().map(|s| s.differences(wanted).len()));
        match nearest.and_then(Option::take) {
            Some(seen) => {
                let differences = seen.differences(wanted).join(" and ");
                let Expected { step, event_type, ip, .. } = wanted;
                report.push(format!("step `{step}`: {event_type} from {ip} has {differences}"));
            }
            None => report.push(format!("step `{}`: missed {wanted}", wanted.step)),
        }
    }
    for extra in seen.into_iter().flatten() {
        report.push(format!("nothing asked for {extra}"));
    }
    report
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) by {} from {}", self.event_type, self.outcome, self.actor.unwrap_or("nobody"), self.ip)
    }
}

/// The parts of an event that are compared.
struct Seen<'e> {
    event_type: &'e str,
    outcome: &'e str,
    reason: Option<&'e str>,
    actor: [Option<&'e str>; 3],
    ip: Option<IpAddr>,
}

impl<'e> Seen<'e> {
    fn of(event: &'e Value) -> Seen<'e> {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
        Seen {
            event_type: text("/event_type").unwrap_or("an event without a type"),
            outcome: text("/outcome").unwrap_or("no outcome"),
            reason: text("/reason"),
            actor: [text("/actor/login"), text("/actor/email"), text("/actor/id")],
            ip: text("/metadata/ip_address").and_then(|ip| ip.parse().ok()),
        }
    }

    fn who(&self) -> &'e str {
        self.actor.iter().flatten().next().unwrap_or(&"nobody")
    }

    /// How this is not what was wanted; nothing if it is.
    fn differences(&self, wanted: &Expected) -> Vec<String> {
        let mut list = Vec::new();
        if self.event_type != wanted.event_type {
            list.push(format!("type {} instead of {}", self.event_type, wanted.event_type));
        }
        if self.ip != Some(wanted.ip) {
            list.push(format!("another address than {}", wanted.ip));
        }
        if self.outcome != wanted.outcome.as_str() {
            list.push(format!("outcome {} instead of {}", self.outcome, wanted.outcome));
        }
        let actor_fits = match wanted.actor {
            Some(name) => self.actor.contains(&Some(name)),
            None => self.actor == [None; 3],
        };
        if !actor_fits {
            list.push(format!("actor {} instead of {}", self.who(), wanted.actor.unwrap_or("nobody")));
        }
        if wanted.reason.is_some() && self.reason != wanted.reason {
            let (seen, wanted) = (self.reason.unwrap_or("none"), wanted.reason.unwrap_or("any"));
            list.push(format!("reason {seen} instead of {wanted}"));
        }
        list
    }
}

impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) by {}", self.event_type, self.outcome, self.who())?;
        match self.ip {
            Some(ip) => write!(f, " from {ip}"),
            None => write!(f, " from no address"),
        }
    }
}
