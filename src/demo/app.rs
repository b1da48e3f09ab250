//! The demo application: "Acme Intranet 2009", with the habits of the real ones.
//!
//! A failed sign-in is answered 200 with the form again, a success and a failure of a change are
//! both redirects, the session cookie is set before the second factor, and a reset is answered
//! alike for known and unknown addresses. It must never read more of a body than [`MAX_BODY`],
//! and never hold its state locked while it waits: a request is read whole, then answered in one
//! synchronous step.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::pages;
use super::state::{Login, MIN_PASSWORD_CHARS, NewPassword, Role, State, TokenLogin, User, Who};

/// The name of the session cookie.
pub const SESSION_COOKIE: &str = "ACMESESSID";
/// The longest request body that is read, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// The most fields of a form that are read.
const MAX_FIELDS: usize = 64;
/// The most connections at a time.
const MAX_CONNECTIONS: usize = 256;
/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait when the system has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

type Answer = Response<Full<Bytes>>;

/// Serves the application on `listener` for as long as the future is polled; dropping it closes
/// every connection. The state is new with each call and gone with it. Needs a tokio runtime with
/// I/O and time.
pub async fn serve(listener: TcpListener) {
    let state = Arc::new(State::new());
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // The semaphore is never closed, so that this cannot fail.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let _permit = permit;
            let service = service_fn(|request| handle(&state, request));
            // A client that leaves or sends nonsense is its own affair.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn handle(state: &State, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let body = match tokio::time::timeout(PATIENCE, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Ok(html(StatusCode::PAYLOAD_TOO_LARGE, pages::notice("Too long", "That is too much at once.")));
        }
        Ok(Err(_)) | Err(_) => {
            return Ok(html(StatusCode::BAD_REQUEST, pages::notice("Sorry", "The request did not arrive whole.")));
        }
    };
    let ask = Ask::new(&head.method, head.uri.path(), head.uri.query(), &head.headers, &body);
    Ok(answer(state, &ask))
}

/// A request, read.
struct Ask {
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    session: Option<String>,
    bearer: Option<String>,
    fields: Vec<(String, String)>,
    json: Value,
}

impl Ask {
    fn new(method: &Method, path: &str, query: Option<&str>, headers: &HeaderMap, body: &[u8]) -> Ask {
        let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let kind = text(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let fields = if kind == "application/x-www-form-urlencoded" { pairs(body) } else { Vec::new() };
        let json = if kind == "application/json" { serde_json::from_slice(body).ok() } else { None };
        let mut cookies = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
        let session = cookies.find_map(|line| {
            line.split(';').filter_map(|c| c.trim().split_once('=')).find(|(name, _)| *name == SESSION_COOKIE)
        });
        Ask {
            // RFC 9110 section 9.3.2: HEAD is GET without the content, which hyper leaves out.
            method: if method == Method::HEAD { Method::GET } else { method.clone() },
            path: path.to_owned(),
            query: pairs(query.unwrap_or_default().as_bytes()),
            session: session.map(|(_, value)| value.to_owned()),
            bearer: text(header::AUTHORIZATION).strip_prefix("Bearer ").map(|t| t.trim().to_owned()),
            fields,
            json: json.unwrap_or_default(),
        }
    }

    fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    fn asks(&self, name: &str) -> bool {
        self.query.iter().any(|(n, _)| n == name)
    }

    fn json(&self, name: &str) -> Option<&str> {
        self.json.get(name).and_then(Value::as_str)
    }
}

fn pairs(bytes: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(bytes).take(MAX_FIELDS).map(|(n, v)| (n.into_owned(), v.into_owned())).collect()
}

/// Why a request goes no further.
enum Refusal {
    /// Nobody is signed in.
    SignIn,
    /// The code is still missing.
    Code,
    /// The form is not of this session.
    Csrf,
    /// Not for this role.
    Forbidden,
    /// No such thing.
    Missing,
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Answer {
        let (status, title, sentence) = match refusal {
            Refusal::SignIn => return redirect("/login"),
            Refusal::Code => return redirect("/mfa"),
            Refusal::Csrf => (StatusCode::FORBIDDEN, "Forbidden", "CSRF check failed: reload the form and try again."),
            Refusal::Forbidden => (StatusCode::FORBIDDEN, "Forbidden", "This page is for administrators."),
            Refusal::Missing => (StatusCode::NOT_FOUND, "Not found", "There is nothing here (any more)."),
        };
        html(status, pages::notice(title, sentence))
    }
}

fn answer(state: &State, ask: &Ask) -> Answer {
    let segments: Vec<&str> = ask.path.split('/').skip(1).take(6).collect();
    let done = match (&ask.method, segments.as_slice()) {
        (&Method::GET, [""]) => home(state, ask),
        (&Method::GET, ["login"]) => Ok(login_page(state, ask)),
        (&Method::POST, ["login"]) => login(state, ask),
        (&Method::GET, ["mfa"]) => mfa_page(state, ask),
        (&Method::POST, ["mfa"]) => mfa(state, ask),
        (&Method::POST, ["logout"]) => logout(state, ask),
        (&Method::GET, ["password"]) => password_page(state, ask),
        (&Method::POST, ["password"]) => password(state, ask),
        (&Method::GET, ["reset"]) => Ok(with_session(state, ask, pages::reset_request)),
        (&Method::POST, ["reset"]) => reset_request(state, ask),
        (&Method::GET, ["reset", "sent"]) => Ok(html(StatusCode::OK, pages::reset_sent())),
        (&Method::GET, ["reset", token]) => reset_page(state, ask, token),
        (&Method::POST, ["reset", token]) => reset(state, ask, token),
        (&Method::GET, ["outbox"]) => Ok(html(StatusCode::OK, pages::outbox(&state.outbox()))),
        (&Method::GET, ["export.csv"]) => export(state, ask),
        (&Method::GET, ["admin", "users"]) => users_page(state, ask, None),
        (&Method::POST, ["admin", "users"]) => create_user(state, ask),
        (&Method::POST, ["admin", "users", name, "role"]) => set_role(state, ask, &decoded(name)),
        (&Method::POST, ["admin", "users", name, "delete"]) => delete_user(state, ask, &decoded(name)),
        (&Method::GET, ["api-keys"]) => keys_page(state, ask),
        (&Method::POST, ["api-keys"]) => create_key(state, ask),
        (&Method::POST, ["api-keys", id, "revoke"]) => revoke_key(state, ask, &decoded(id)),
        (&Method::POST, ["api", "login"]) => Ok(api_login(state, ask)),
        (&Method::GET, ["api", "me"]) => Ok(api_me(state, ask)),
        (&Method::GET | &Method::POST, _) => Err(Refusal::Missing),
        _ => {
            let mut answer = html(StatusCode::METHOD_NOT_ALLOWED, pages::notice("Sorry", "That method is not known."));
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
            Ok(answer)
        }
    };
    done.unwrap_or_else(Answer::from)
}

type Done = Result<Answer, Refusal>;

/// The user and the form value of a signed-in session.
fn signed_in(state: &State, ask: &Ask) -> Result<(User, String), Refusal> {
    match (state.who(ask.session.as_deref()), &ask.session) {
        (Who::SignedIn(user), Some(session)) => Ok((user, state.csrf(session))),
        (Who::Pending(_), _) => Err(Refusal::Code),
        _ => Err(Refusal::SignIn),
    }
}

fn administrator(state: &State, ask: &Ask) -> Result<(User, String), Refusal> {
    let (user, csrf) = signed_in(state, ask)?;
    if user.role == Role::Admin { Ok((user, csrf)) } else { Err(Refusal::Forbidden) }
}

fn form_holds(state: &State, ask: &Ask) -> Result<(), Refusal> {
    if state.csrf_holds(ask.session.as_deref(), ask.field("csrf")) { Ok(()) } else { Err(Refusal::Csrf) }
}

/// A page with a form for somebody who may have no session yet: gives them one.
fn with_session(state: &State, ask: &Ask, page: impl FnOnce(&str) -> String) -> Answer {
    match ask.session.as_deref().filter(|s| state.is_open(s)) {
        Some(session) => html(StatusCode::OK, page(&state.csrf(session))),
        None => {
            let session = state.open();
            set_session(html(StatusCode::OK, page(&state.csrf(&session))), &session)
        }
    }
}

fn home(state: &State, ask: &Ask) -> Done {
    let (user, csrf) = signed_in(state, ask)?;
    Ok(html(StatusCode::OK, pages::home(&csrf, &user)))
}

fn login_page(state: &State, ask: &Ask) -> Answer {
    if matches!(state.who(ask.session.as_deref()), Who::SignedIn(_)) {
        return redirect("/");
    }
    let done = ask.asks("reset").then_some("The new password is in force.");
    with_session(state, ask, |csrf| pages::login(csrf, "", None, done))
}

fn login(state: &State, ask: &Ask) -> Done {
    // A form left open in another tab: the same redirect as a success, and the cookie stays.
    if matches!(state.who(ask.session.as_deref()), Who::SignedIn(_)) {
        return Ok(redirect("/"));
    }
    form_holds(state, ask)?;
    let name = ask.field("username");
    Ok(match state.sign_in(ask.session.as_deref(), name, ask.field("password")) {
        Login::SignedIn(session) => set_session(redirect("/"), &session),
        Login::CodeNeeded(session) => set_session(redirect("/mfa"), &session),
        Login::Wrong => {
            with_session(state, ask, |csrf| pages::login(csrf, name, Some("Wrong user name or password."), None))
        }
        Login::NowLocked => html(StatusCode::OK, pages::notice("Account locked", pages::NOW_LOCKED)),
        Login::Locked => html(StatusCode::OK, pages::notice("Account locked", pages::LOCKED)),
    })
}

/// The session that waits for a code, and whose it is.
fn pending<'a>(state: &State, ask: &'a Ask) -> Result<(&'a str, User), Refusal> {
    match (state.who(ask.session.as_deref()), ask.session.as_deref()) {
        (Who::Pending(user), Some(session)) => Ok((session, user)),
        _ => Err(Refusal::SignIn),
    }
}

fn mfa_page(state: &State, ask: &Ask) -> Done {
    let (session, user) = pending(state, ask)?;
    Ok(html(StatusCode::OK, pages::mfa(&state.csrf(session), &user, None)))
}

fn mfa(state: &State, ask: &Ask) -> Done {
    let (session, user) = pending(state, ask)?;
    form_holds(state, ask)?;
    // The form repeats the name; one that was tampered with belongs to nobody.
    if ask.field("username") != user.name {
        return Err(Refusal::SignIn);
    }
    Ok(match state.second_factor(session, ask.field("code")) {
        Some(fresh) => set_session(redirect("/"), &fresh),
        None => html(StatusCode::OK, pages::mfa(&state.csrf(session), &user, Some("That code is wrong."))),
    })
}

fn logout(state: &State, ask: &Ask) -> Done {
    signed_in(state, ask)?;
    form_holds(state, ask)?;
    if let Some(session) = &ask.session {
        state.sign_out(session);
    }
    let mut answer = redirect("/login");
    let gone = format!("{SESSION_COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
    insert(answer.headers_mut(), header::SET_COOKIE, &gone);
    Ok(answer)
}

fn password_page(state: &State, ask: &Ask) -> Done {
    let (user, csrf) = signed_in(state, ask)?;
    let done = ask.asks("saved").then_some("The new password is in force.");
    Ok(html(StatusCode::OK, pages::password(&csrf, &user, None, done)))
}

fn password(state: &State, ask: &Ask) -> Done {
    let (user, csrf) = signed_in(state, ask)?;
    form_holds(state, ask)?;
    let wrong = match state.change_password(&user.name, ask.field("old"), ask.field("new")) {
        NewPassword::Set => return Ok(redirect("/password?saved=1")),
        NewPassword::Refused => "The old password is wrong.".to_owned(),
        NewPassword::TooShort => too_short(),
    };
    Ok(html(StatusCode::OK, pages::password(&csrf, &user, Some(&wrong), None)))
}

fn reset_request(state: &State, ask: &Ask) -> Done {
    form_holds(state, ask)?;
    state.request_reset(ask.field("email"));
    Ok(redirect("/reset/sent"))
}

fn reset_page(state: &State, ask: &Ask, token: &str) -> Done {
    let user = state.reset_owner(token).ok_or(Refusal::Missing)?;
    Ok(with_session(state, ask, |csrf| pages::reset_form(csrf, token, &user, None)))
}

fn reset(state: &State, ask: &Ask, token: &str) -> Done {
    form_holds(state, ask)?;
    let user = state.reset_owner(token).ok_or(Refusal::Missing)?;
    match state.complete_reset(token, ask.field("email"), ask.field("password")) {
        NewPassword::Set => Ok(redirect("/login?reset=1")),
        NewPassword::Refused => Err(Refusal::Missing),
        NewPassword::TooShort => {
            Ok(with_session(state, ask, |csrf| pages::reset_form(csrf, token, &user, Some(&too_short()))))
        }
    }
}

fn export(state: &State, ask: &Ask) -> Done {
    signed_in(state, ask)?;
    let mut answer = reply(StatusCode::OK, "text/csv; charset=utf-8", pages::export(&state.users()));
    insert(answer.headers_mut(), header::CONTENT_DISPOSITION, "attachment; filename=\"phone-list.csv\"");
    Ok(answer)
}

fn users_page(state: &State, ask: &Ask, wrong: Option<&str>) -> Done {
    let (user, csrf) = administrator(state, ask)?;
    Ok(html(StatusCode::OK, pages::users(&csrf, &user, &state.users(), wrong)))
}

fn create_user(state: &State, ask: &Ask) -> Done {
    administrator(state, ask)?;
    form_holds(state, ask)?;
    match state.create_user(ask.field("username"), ask.field("email"), ask.field("password")) {
        Ok(()) => Ok(redirect("/admin/users")),
        Err(sentence) => users_page(state, ask, Some(sentence)),
    }
}

fn set_role(state: &State, ask: &Ask, name: &str) -> Done {
    let (user, _) = administrator(state, ask)?;
    form_holds(state, ask)?;
    // So that there is always an administrator left.
    if user.name == name {
        return users_page(state, ask, Some("Ask another administrator to change your own role."));
    }
    let Some(role) = Role::parse(ask.field("role")) else {
        return users_page(state, ask, Some("There is no such role."));
    };
    if state.set_role(name, role) { Ok(redirect("/admin/users")) } else { Err(Refusal::Missing) }
}

fn delete_user(state: &State, ask: &Ask, name: &str) -> Done {
    let (user, _) = administrator(state, ask)?;
    form_holds(state, ask)?;
    if user.name == name {
        return users_page(state, ask, Some("Ask another administrator to delete your own account."));
    }
    if state.delete_user(name) { Ok(redirect("/admin/users")) } else { Err(Refusal::Missing) }
}

fn keys_page(state: &State, ask: &Ask) -> Done {
    let (user, csrf) = signed_in(state, ask)?;
    Ok(html(StatusCode::OK, pages::api_keys(&csrf, &user, &state.keys(&user.name), None, None)))
}

fn create_key(state: &State, ask: &Ask) -> Done {
    let (user, csrf) = signed_in(state, ask)?;
    form_holds(state, ask)?;
    let made = state.create_key(&user.name, ask.field("label"));
    let wrong = made.is_none().then_some("A label is needed, of 64 characters at most.");
    let keys = state.keys(&user.name);
    Ok(html(StatusCode::OK, pages::api_keys(&csrf, &user, &keys, made.as_deref(), wrong)))
}

fn revoke_key(state: &State, ask: &Ask, id: &str) -> Done {
    let (user, _) = signed_in(state, ask)?;
    form_holds(state, ask)?;
    if state.revoke_key(&user.name, id) { Ok(redirect("/api-keys")) } else { Err(Refusal::Missing) }
}

fn api_login(state: &State, ask: &Ask) -> Answer {
    let (Some(name), Some(password)) = (ask.json("username"), ask.json("password")) else {
        return json_reply(StatusCode::BAD_REQUEST, &json!({"error": "username_and_password_needed"}));
    };
    let error = match state.token_sign_in(name, password, ask.json("code")) {
        TokenLogin::Granted(token, user) => {
            let user = json!({"id": user.id, "email": user.email});
            return json_reply(StatusCode::OK, &json!({"token": token, "user": user}));
        }
        TokenLogin::CodeNeeded => "code_needed",
        TokenLogin::WrongCode => "wrong_code",
        TokenLogin::Wrong => "invalid_credentials",
        TokenLogin::NowLocked => "too_many_attempts",
        TokenLogin::Locked => "account_locked",
    };
    json_reply(StatusCode::UNAUTHORIZED, &json!({"error": error}))
}

fn api_me(state: &State, ask: &Ask) -> Answer {
    match ask.bearer.as_deref().and_then(|token| state.bearer(token)) {
        Some(user) => {
            let me = json!({"id": user.id, "username": user.name, "email": user.email, "role": user.role.as_str()});
            json_reply(StatusCode::OK, &me)
        }
        None => json_reply(StatusCode::UNAUTHORIZED, &json!({"error": "token_needed"})),
    }
}

fn too_short() -> String {
    format!("The new password needs {MIN_PASSWORD_CHARS} characters or more.")
}

fn decoded(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

fn html(status: StatusCode, page: String) -> Answer {
    let mut answer = reply(status, "text/html; charset=utf-8", page);
    let policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'";
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    // Reset links carry their token in the path.
    answer.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

fn json_reply(status: StatusCode, value: &Value) -> Answer {
    reply(status, "application/json", value.to_string())
}

fn redirect(to: &'static str) -> Answer {
    let mut answer = reply(StatusCode::FOUND, "text/plain; charset=utf-8", String::new());
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static(to));
    answer
}

fn set_session(mut answer: Answer, session: &str) -> Answer {
    let cookie = format!("{SESSION_COOKIE}={session}; Path=/; HttpOnly; SameSite=Lax");
    insert(answer.headers_mut(), header::SET_COOKIE, &cookie);
    answer
}

/// For values made here of harmless characters only; anything else would be left out.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
