//! Signs weighed into an outcome, with how sure it is and the strongest sign for its name.
//!
//! Each sign adds to a sum of log-odds, for or against; the sum becomes a confidence between 0 and
//! one. What is not sure enough is `unknown`: better no claim than a wrong one. The weights are set
//! by what frameworks of many languages do, none by what one application does.

use http::StatusCode;

use super::answer::{Answer, Kind, Location};
use super::request::{Request, Role};

/// The least confidence with which an outcome is claimed.
pub const SURE: f64 = 0.7;

/// The rule of a page that lets somebody go on only with a new password.
pub const NEW_PASSWORD_DEMANDED: &str = "new-password-demanded";

/// How something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Accepted,
    /// It was refused on its merits.
    Refused,
    /// It was refused before it was looked at, for this reason.
    Rejected(&'static str),
    /// The password was right, a second factor is awaited, or a new password.
    SecondFactor,
    /// The signs do not decide.
    Open,
}

/// An outcome, how sure it is, and the sign that weighed most.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// How it went.
    pub outcome: Outcome,
    /// 0 to 1.
    pub confidence: f64,
    /// The strongest sign.
    pub rule: &'static str,
}

/// The sum of signs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scale {
    sum: f64,
    heaviest: (f64, &'static str),
    against: (f64, &'static str),
}

impl Scale {
    /// Adds a sign: above zero for acceptance, below for refusal.
    pub fn add(&mut self, weight: f64, rule: &'static str) {
        self.sum += weight;
        if weight > self.heaviest.0 {
            self.heaviest = (weight, rule);
        }
        if weight < self.against.0 {
            self.against = (weight, rule);
        }
    }

    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        let odds = 1.0 / (1.0 + (-self.sum).exp());
        let (outcome, confidence, rule) = if odds >= SURE {
            (Outcome::Accepted, odds, self.heaviest.1)
        } else if odds <= 1.0 - SURE {
            (Outcome::Refused, 1.0 - odds, self.against.1)
        } else {
            (Outcome::Open, odds.max(1.0 - odds), "undecided")
        };
        Verdict { outcome, confidence, rule: if rule.is_empty() { "undecided" } else { rule } }
    }

    /// True if no next page could make it anything else than a refusal.
    pub fn is_refusal(&self) -> bool {
        self.sum <= -5.0
    }
}

fn surely(outcome: Outcome, confidence: f64, rule: &'static str) -> Verdict {
    Verdict { outcome, confidence, rule }
}

/// What is known of the application beside the answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// Path of the request.
    pub path: &'a str,
    /// Path of its `Referer`, if it has one.
    pub referer: Option<&'a str>,
    /// The answer sets a new value of a cookie that is not known to change all the time.
    pub fresh_session: bool,
    /// That cookie was never given to anybody but by signing in.
    pub session_by_name: bool,
    /// What this kind of answer meant before: above zero acceptance.
    pub learned: f64,
    /// Somebody signs in at the path that the answer leads to.
    pub leads_to_login: bool,
    /// The application shows a refused form again instead of redirecting.
    pub shows_forms_again: bool,
    /// True if a page after this one may be waited for.
    pub may_wait: bool,
}

/// How a sign-in went, by its answer alone: a verdict, or signs that a next page may add to.
pub fn login(request: &Request<'_>, answer: &Answer<'_>, cx: &Context<'_>) -> Result<Verdict, Scale> {
    if let Some(verdict) = before_the_merits(request, answer) {
        return Ok(verdict);
    }
    let mut scale = Scale::default();
    if cx.fresh_session {
        scale.add(if cx.session_by_name { 4.5 } else { 2.5 }, "session-cookie-set");
    }
    if answer.cookies.iter().any(|c| c.change == crate::body::cookie::CookieChange::Deleted && c.http_only)
        && !cx.fresh_session
    {
        scale.add(-1.0, "session-cookie-deleted");
    }
    scale.add(cx.learned, if cx.learned > 0.0 { "learned-success" } else { "learned-failure" });
    let status = answer.status;
    if let Some(location) = &answer.location {
        if location.is_second_factor() {
            return Ok(surely(Outcome::SecondFactor, 0.9, "redirected-to-second-factor"));
        }
        if location.is_unverified() {
            return Ok(surely(Outcome::Rejected("unverified"), 0.8, "redirected-to-verification"));
        }
        let back = is_back(location, cx) || cx.leads_to_login;
        if location.is_wrong() || answer.flashes_error() {
            scale.add(-5.5, "redirected-with-error");
        } else if back {
            scale.add(-3.0, "redirected-back");
        } else if location.is_login() {
            scale.add(-1.0, "redirected-to-login");
        } else {
            scale.add(2.5, "redirected-away");
        }
    } else if let Some(said) = &answer.said {
        // A cookie may carry the sign-in from the password to the code; whoever is in is named.
        let not_in = !cx.fresh_session || (said.actor.is_empty() && !cx.session_by_name);
        if said.second_factor
            && (!status.is_success() || (answer.tokens.is_empty() && not_in) || said.signed_in == Some(false))
        {
            return Ok(second_factor(request));
        }
        if said.unverified && !status.is_success() {
            return Ok(surely(Outcome::Rejected("unverified"), 0.8, "unverified-in-json"));
        }
        if !answer.tokens.is_empty() && status.is_success() {
            scale.add(4.0, "token-in-json");
        }
        match (said.success, said.signed_in) {
            (Some(false), _) | (_, Some(false)) => scale.add(-4.0, "json-says-no"),
            (Some(true), _) | (_, Some(true)) => scale.add(3.0, "json-says-yes"),
            _ => {}
        }
        if said.error {
            scale.add(-4.0, "error-in-json");
        } else if status.is_success() {
            scale.add(if said.actor.is_empty() { 1.8 } else { 3.5 }, "json-without-error");
        }
    } else if let Some(page) = &answer.page {
        let again = shows_again(request, answer);
        if page.asks_code() && status.is_success() {
            return Ok(surely(Outcome::SecondFactor, 0.85, "page-asks-for-code"));
        }
        // Whoever is to choose a new password gave the right one, which may well be asked for under the
        // same name.
        let demanded = status.is_success() && sent_one_password(request) && page.demands_new_password();
        if demanded && !page.offers_logout && !cx.session_by_name {
            return Ok(surely(Outcome::SecondFactor, 0.8, NEW_PASSWORD_DEMANDED));
        }
        if (again && !demanded) || page.shows_login() {
            scale.add(-4.5, "form-again");
        } else if status.is_success() {
            scale.add(1.0, "no-form-again");
            if page.marks_error {
                scale.add(-2.5, "page-marks-error");
            }
        }
        if page.offers_logout {
            scale.add(3.0, "way-out-shown");
        }
    } else if answer.complains {
        scale.add(-3.5, "text-says-error");
    } else if status.is_success() {
        scale.add(if answer.kind == Kind::Empty { 2.5 } else { 0.6 }, "accepted");
    }
    match status.as_u16() {
        401 => scale.add(-4.5, "status-401"),
        403 => scale.add(-3.5, "status-403"),
        400 | 422 => scale.add(-4.0, "status-400"),
        404 | 409 | 423 => scale.add(-1.5, "status-4xx"),
        _ => {}
    }
    // Where one address serves everything, a way back may be a way in: the next page tells.
    if answer.redirects() && cx.may_wait && !scale.is_refusal() { Err(scale) } else { Ok(scale.verdict()) }
}

fn second_factor(request: &Request<'_>) -> Verdict {
    match request.with(Role::Code).next() {
        // The code came along and is what is wrong.
        Some(_) => surely(Outcome::SecondFactor, 0.85, "second-factor-refused"),
        None => surely(Outcome::SecondFactor, 0.9, "second-factor-asked"),
    }
}

/// Refused before anybody looked at the password.
fn before_the_merits(request: &Request<'_>, answer: &Answer<'_>) -> Option<Verdict> {
    let rejected = |reason, rule| Some(surely(Outcome::Rejected(reason), 0.8, rule));
    if answer.page.as_ref().is_some_and(|p| p.speaks_of_csrf) {
        return rejected("csrf", "page-speaks-of-csrf");
    }
    let form_again = answer.page.as_ref().is_some_and(|p| p.shows_password()) || shows_again(request, answer);
    let page = matches!(answer.kind, Kind::Html | Kind::Other | Kind::Empty);
    match answer.status {
        StatusCode::TOO_MANY_REQUESTS => rejected("rate_limited", "status-429"),
        s if s.as_u16() == 419 => rejected("csrf", "status-419"),
        // A page without the form: the guard before the application spoke, not the application.
        StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST if answer.kind == Kind::Html && !form_again => {
            rejected("forbidden", "refused-without-form")
        }
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_FOUND | StatusCode::GONE if page => {
            rejected("no_such_place", "status-404")
        }
        s if s.is_server_error() => rejected("server_error", "status-5xx"),
        _ => None,
    }
}

fn sent_one_password(request: &Request<'_>) -> bool {
    request.with(Role::Password).count() == 1
        && [Role::Old, Role::New, Role::Again].into_iter().all(|role| request.with(role).next().is_none())
}

/// True if the page asks again for the password that was just sent.
pub fn shows_again(request: &Request<'_>, answer: &Answer<'_>) -> bool {
    let Some(page) = &answer.page else { return false };
    let mut passwords =
        request.fields.iter().filter(|f| matches!(f.role, Role::Password | Role::Old | Role::New | Role::Again));
    passwords.any(|f| page.asks_for(&f.name))
}

/// True if a redirect leads back to where the request came from.
pub fn is_back(location: &Location, cx: &Context<'_>) -> bool {
    let bare = |path: &str| path.trim_end_matches('/').to_owned();
    let to = bare(&location.path);
    !location.elsewhere && (to == bare(cx.path) || cx.referer.is_some_and(|r| r != "/" && bare(r) == to))
}

/// How something else went that is asked for by a form or call: a reset, a change, a new account.
pub fn deed(request: &Request<'_>, answer: &Answer<'_>, cx: &Context<'_>, fields_again: bool) -> Verdict {
    let status = answer.status;
    if let Some(location) = &answer.location {
        if location.is_wrong() || answer.flashes_error() {
            return surely(Outcome::Refused, 0.85, "redirected-with-error");
        }
        if location.asks_again() && !is_back(location, cx) {
            return surely(Outcome::Rejected("password_asked_again"), 0.8, "redirected-to-password");
        }
        return match is_back(location, cx) {
            true if cx.shows_forms_again => surely(Outcome::Accepted, 0.85, "redirected"),
            true => surely(Outcome::Accepted, 0.7, "redirected-back"),
            false => surely(Outcome::Accepted, 0.9, "redirected-away"),
        };
    }
    if let Some(said) = &answer.said {
        if said.error || said.success == Some(false) {
            return surely(Outcome::Refused, 0.9, "error-in-json");
        }
        if status.is_success() {
            return surely(Outcome::Accepted, 0.9, "json-without-error");
        }
        // Done, and now sign in: some answer that with 401 and no error.
        if status == StatusCode::UNAUTHORIZED && said.signed_in == Some(false) {
            return surely(Outcome::Accepted, 0.75, "unauthenticated-without-error");
        }
        return surely(Outcome::Refused, 0.9, "status-4xx");
    }
    if !status.is_success() {
        return surely(Outcome::Refused, 0.9, "status-4xx");
    }
    if let Some(page) = &answer.page {
        if fields_again || shows_again(request, answer) {
            return surely(Outcome::Refused, 0.85, "form-again");
        }
        if page.marks_error {
            return surely(Outcome::Refused, 0.7, "page-marks-error");
        }
        return surely(Outcome::Accepted, 0.75, "no-form-again");
    }
    if answer.complains {
        return surely(Outcome::Refused, 0.85, "text-says-error");
    }
    surely(Outcome::Accepted, if answer.kind == Kind::Empty { 0.95 } else { 0.75 }, "accepted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_add_up_and_what_is_balanced_stays_open() {
        let mut scale = Scale::default();
        assert_eq!(scale.verdict().outcome, Outcome::Open);
        scale.add(2.5, "redirected-away");
        assert_eq!((scale.verdict().outcome, scale.verdict().rule), (Outcome::Accepted, "redirected-away"));
        scale.add(-2.5, "form-again");
        assert_eq!(scale.verdict().outcome, Outcome::Open);
        scale.add(-2.0, "status-401");
        assert_eq!((scale.verdict().outcome, scale.verdict().rule), (Outcome::Refused, "form-again"));
        assert!((0.5..=1.0).contains(&scale.verdict().confidence));
    }
}
