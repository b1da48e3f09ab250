//! Sessions, flows and follow-ups from outside: whose they are, over requests, values and restarts.
//! The application of each test is one that exists: a cookie that changes with every answer, a
//! login in three steps, a redirect that says nothing.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::harness::message::Message;
use crate::harness::{Client, Origin, Proxy, answer, at, form, get};

/// A form with further headers.
fn form_with(path: &str, body: &str, headers: &[&str]) -> Vec<u8> {
    let headers: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
    format!(
        "POST {path} HTTP/1.1\r\nHost: app.example.test\r\n{headers}Content-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn page_with(path: &str, headers: &[&str]) -> Vec<u8> {
    let headers: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
    format!("GET {path} HTTP/1.1\r\nHost: app.example.test\r\n{headers}\r\n").into_bytes()
}

fn path(request: &Message) -> String {
    request.target()
}

/// The value of a cookie that the answer sets.
fn set(answer: &Message, name: &str) -> String {
    let line = answer.field("set-cookie").unwrap_or_default();
    let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')).unwrap_or_default();
    value.split(';').next().unwrap_or_default().to_owned()
}

fn said(events: &[Value]) -> Vec<(&str, &str, &str)> {
    events.iter().map(|e| (at(e, "/event_type"), at(e, "/reason"), at(e, "/actor/login"))).collect()
}

const ROUTES: &str = r#"
routes:
  - id: login
    match: { method: POST, path: /login }
    actor: { login: form.username }
    rules: [ { when: { status: 302 }, outcome: success }, { when: { status: 200 }, outcome: failure } ]
    emit: { success: user.login.success, failure: user.login.failed }
  - { id: password, match: { method: POST, path: /password }, when: { status: 302 }, emit: user.password.changed }
  - { id: logout, match: { method: POST, path: /logout }, when: { all: [ { status: 302 }, { session: known } ] }, emit: user.logout }
"#;

/// Signs anybody in, with a session whose value changes with every answer; knows no page without.
fn rotating(name: &'static str) -> Origin {
    let count = AtomicU64::new(0);
    Origin::answering(move |request| {
        let cookie = format!(
            "Set-Cookie: {name}=v4lu3-{:016x}-of-a-session; HttpOnly",
            count.fetch_add(0x9e37_79b9, Ordering::Relaxed)
        );
        let status = if request.start().starts_with("POST") { "302 Found" } else { "200 OK" };
        answer(status, &["Location: /home", &cookie], "")
    })
}

#[test]
fn session_cookies_whose_value_changes_with_every_answer_keep_their_actor() {
    let origin = rotating("SID");
    let proxy = Proxy::before(origin.address, &format!("session: {{ cookies: [SID] }}\n{ROUTES}"));
    let mut client = Client::connect(proxy.address);
    let mut cookie = set(&client.send(form("/login", "username=alice")).answer("POST"), "SID");
    // No route is about these pages.
    for _ in 0..20 {
        cookie = set(&client.send(page_with("/page", &[&format!("Cookie: SID={cookie}")])).answer("GET"), "SID");
    }
    client.send(form_with("/password", "new=x", &[&format!("Cookie: SID={cookie}")])).answer("POST");
    let events = proxy.stop();
    assert_eq!(said(&events), [("user.login.success", "", "alice"), ("user.password.changed", "", "alice")]);
    assert_eq!(at(&events[0], "/metadata/session_id"), at(&events[1], "/metadata/session_id"), "one session");
}

#[test]
fn without_named_cookies_the_session_is_recognised_and_followed() {
    let origin = rotating("appsess");
    let proxy = Proxy::before(origin.address, ROUTES);
    let mut client = Client::connect(proxy.address);
    let first = set(&client.send(form("/login", "username=alice")).answer("POST"), "appsess");
    // The name is learnt by the pipeline; until then no page of its session is looked at.
    proxy.await_newest(1);
    let page = page_with("/page", &[&format!("Cookie: appsess={first}")]);
    let second = set(&client.send(page).answer("GET"), "appsess");
    client.send(form_with("/password", "new=x", &[&format!("Cookie: appsess={second}")])).answer("POST");
    let events = proxy.stop();
    assert_eq!(said(&events), [("user.login.success", "", "alice"), ("user.password.changed", "", "alice")]);
}

#[test]
fn an_anonymous_logout_is_nobodys_and_a_known_one_ends_the_session_once() {
    let origin = Origin::answering(|_| answer("302 Found", &["Location: /", "Set-Cookie: SID=fixed"], ""));
    let yaml = format!("session: {{ cookies: [SID], events: [created, revoked] }}\n{ROUTES}");
    let proxy = Proxy::before(origin.address, &yaml);
    let mut client = Client::connect(proxy.address);
    client.send(form_with("/logout", "", &["Cookie: SID=stranger"])).answer("POST");
    client.send(form("/login", "username=alice")).answer("POST");
    for _ in 0..2 {
        client.send(form_with("/logout", "", &["Cookie: SID=fixed"])).answer("POST");
    }
    let events = proxy.stop();
    assert_eq!(
        said(&events),
        [
            ("user.login.success", "", "alice"),
            ("session.created", "", "alice"),
            ("user.logout", "", "alice"),
            ("session.revoked", "user", "alice"),
        ]
    );
    assert!(events.iter().all(|e| at(e, "/metadata/session_id") == at(&events[0], "/metadata/session_id")));
}

#[test]
fn a_login_posted_while_signed_in_as_another_ends_nothing_unless_it_succeeds() {
    let origin = Origin::answering(|request| match request.text().contains("username=bob&password=right") {
        true => answer("302 Found", &["Location: /", "Set-Cookie: SID=of-bob"], ""),
        false if request.text().contains("alice") => {
            answer("302 Found", &["Location: /", "Set-Cookie: SID=of-alice"], "")
        }
        false if path(request) == "/password" => answer("302 Found", &["Location: /"], ""),
        false => answer("200 OK", &[], "wrong"),
    });
    let proxy = Proxy::before(origin.address, &format!("session: {{ cookies: [SID] }}\n{ROUTES}"));
    let mut client = Client::connect(proxy.address);
    let alice = &["Cookie: SID=of-alice"];
    client.send(form("/login", "username=alice")).answer("POST");
    client.send(form_with("/login", "username=bob&password=wrong", alice)).answer("POST");
    client.send(form_with("/password", "", alice)).answer("POST");
    client.send(form_with("/login", "username=bob&password=right", alice)).answer("POST");
    client.send(form_with("/password", "", &["Cookie: SID=of-bob"])).answer("POST");
    client.send(form_with("/password", "", alice)).answer("POST");
    let events = proxy.stop();
    let who: Vec<_> = said(&events).into_iter().map(|(kind, _, who)| (kind, who)).collect();
    assert_eq!(
        who,
        [
            ("user.login.success", "alice"),
            ("user.login.failed", "bob"),
            ("user.password.changed", "alice"),
            ("user.login.success", "bob"),
            ("user.password.changed", "bob"),
            ("user.password.changed", ""),
        ]
    );
}

#[test]
fn sessions_are_known_after_a_restart_and_neither_they_nor_names_stand_in_the_snapshot() {
    let origin = Origin::answering(|_| answer("302 Found", &["Location: /", "Set-Cookie: SID=s3ss10n-v4lu3"], ""));
    let yaml = format!("session: {{ cookies: [SID] }}\n{ROUTES}");
    let data = tempfile::tempdir().expect("a folder");
    let before = Proxy::keeping(origin.address, &yaml, data.path());
    Client::connect(before.address).send(form("/login", "username=alice")).answer("POST");
    let login = before.stop();

    let after = Proxy::keeping(origin.address, &yaml, data.path());
    Client::connect(after.address).send(form_with("/password", "", &["Cookie: SID=s3ss10n-v4lu3"])).answer("POST");
    let events = after.stop();
    // The history of the first run is still there.
    assert_eq!(said(&events), [("user.login.success", "", "alice"), ("user.password.changed", "", "alice")]);
    assert_eq!(at(&events[1], "/metadata/session_id"), at(&login[0], "/metadata/session_id"));
    for file in ["sessions.snapshot", "keys/session.key"] {
        let bytes = std::fs::read(data.path().join(file)).expect(file);
        assert!(!bytes.windows(7).any(|w| w == b"s3ss10n"), "{file}");
        assert!(!bytes.windows(5).any(|w| w == b"alice"), "{file}");
    }
}

#[test]
fn refreshed_tokens_are_no_login_and_stay_their_actors() {
    let count = AtomicU64::new(0);
    let origin = Origin::answering(move |request| {
        let n = count.fetch_add(1, Ordering::Relaxed);
        match path(request).as_str() {
            "/api/me" => answer("200 OK", &["Content-Type: application/json"], "{}"),
            _ => {
                let body = format!(r#"{{"access":"access-{n}","refresh":"refresh-{n}"}}"#);
                answer("200 OK", &["Content-Type: application/json"], &body)
            }
        }
    });
    let proxy = Proxy::before(
        origin.address,
        r#"
routes:
  - id: login
    match: { method: POST, path: /api/login }
    actor: { login: "json:/user" }
    session: { token: ["response.json:/access", "response.json:/refresh"] }
    when: { status: 200 }
    emit: user.login.success
  - id: refresh
    match: { method: POST, path: /api/refresh }
    session: { token: ["response.json:/access", "response.json:/refresh"], carried: "json:/refresh" }
    rules: [ { name: refreshed, outcome: ignore } ]
    emit: user.login.success
  - { id: export, match: { path: /api/me }, when: { status: 200 }, emit: data.exported }
"#,
    );
    let mut client = Client::connect(proxy.address);
    let json = |path: &str, body: &str| {
        let length = body.len();
        format!("POST {path} HTTP/1.1\r\nHost: app.example.test\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
    };
    client.send(json("/api/login", r#"{"user":"alice"}"#)).answer("POST");
    client.send(json("/api/refresh", r#"{"refresh":"refresh-0"}"#)).answer("POST");
    client.send(json("/api/refresh", r#"{"refresh":"refresh-1"}"#)).answer("POST");
    client.send(page_with("/api/me", &["Authorization: Bearer access-2"])).answer("GET");
    client.send(page_with("/api/me", &["Authorization: Bearer access-9"])).answer("GET");
    let events = proxy.stop();
    assert_eq!(
        said(&events),
        [("user.login.success", "", "alice"), ("data.exported", "", "alice"), ("data.exported", "", "")]
    );
}

#[test]
fn a_bearer_token_that_a_login_handed_out_or_an_api_key_names_its_owner() {
    let origin = Origin::answering(|request| match path(request).as_str() {
        "/login" => answer("302 Found", &["Location: /", "Set-Cookie: SID=of-alice"], ""),
        "/keys" => answer("201 Created", &["Content-Type: application/json"], r#"{"key":"k-4p1-0f-al1ce"}"#),
        _ => answer("200 OK", &[], ""),
    });
    let proxy = Proxy::before(
        origin.address,
        r#"
session: { cookies: [SID] }
routes:
  - { id: login, match: { method: POST, path: /login }, actor: { login: form.username }, emit: user.login.success }
  - id: key
    match: { method: POST, path: /keys }
    session: { token: "response.json:/key" }
    when: { status: 201 }
    emit: api_key.created
  - { id: export, match: { path: /export }, emit: data.exported }
"#,
    );
    let mut client = Client::connect(proxy.address);
    client.send(form("/login", "username=alice")).answer("POST");
    client.send(form_with("/keys", "name=ci", &["Cookie: SID=of-alice"])).answer("POST");
    for credential in ["Authorization: Bearer k-4p1-0f-al1ce", "Cookie: SID=of-alice", "Authorization: Bearer other"] {
        client.send(page_with("/export", &[credential])).answer("GET");
    }
    let events = proxy.stop();
    let who: Vec<_> = said(&events).into_iter().map(|(kind, _, who)| (kind, who)).collect();
    assert_eq!(
        who,
        [
            ("user.login.success", "alice"),
            ("api_key.created", "alice"),
            ("data.exported", "alice"),
            ("data.exported", "alice"),
            ("data.exported", ""),
        ]
    );
}

/// Name first, then password, then code; the flow's id stands in the URL, then in a cookie.
const STEPS: &str = r#"
session: { cookies: [SID] }
routes:
  - id: name
    match: { method: POST, path: /login/name }
    actor: { login: form.username }
    flow: { name: login, key: query.state }
    rules: [ { when: { status: 302 }, outcome: ignore } ]
    emit: user.login.success
  - id: password
    match: { method: POST, path: /login/password }
    method: password
    flow: { name: login, key: [query.state, cookie.pending] }
    rules:
      - { when: { location.path: /login/code }, outcome: challenge }
      - { when: { status: 200 }, outcome: failure, reason: invalid_credentials }
    emit: { success: user.login.success, failure: user.login.failed }
  - id: code
    match: { method: POST, path: /login/code }
    method: mfa
    flow: { name: login, key: cookie.pending }
    rules:
      - { when: { status: 302 }, outcome: success, also: user.login.success }
      - { when: { status: 200 }, outcome: failure, reason: invalid_code }
    emit: { success: user.mfa.challenge.success, failure: user.mfa.challenge.failed }
"#;

fn three_steps() -> Origin {
    Origin::answering(|request| {
        let (path, body) = (path(request), request.text());
        match path.split('?').next().unwrap_or_default() {
            "/login/name" => answer("302 Found", &["Location: /login/password?state=st4t3-two"], ""),
            "/login/password" if body.contains("right") => {
                answer("302 Found", &["Location: /login/code", "Set-Cookie: pending=p3nd1ng"], "")
            }
            "/login/code" if body.contains("123456") => {
                answer("302 Found", &["Location: /", "Set-Cookie: SID=s3ss10n"], "")
            }
            _ => answer("200 OK", &[], "again"),
        }
    })
}

#[test]
fn a_login_of_three_steps_is_one_success_and_every_step_knows_the_name() {
    let origin = three_steps();
    let proxy = Proxy::before(origin.address, STEPS);
    let mut client = Client::connect(proxy.address);
    client.send(form("/login/name?state=one", "username=alice")).answer("POST");
    client.send(form("/login/password?state=st4t3-two", "password=wrong")).answer("POST");
    client.send(form("/login/password?state=st4t3-two", "password=right")).answer("POST");
    let pending = &["Cookie: pending=p3nd1ng"];
    client.send(form_with("/login/code", "code=000000", pending)).answer("POST");
    client.send(form_with("/login/code", "code=123456", pending)).answer("POST");
    // The flow is over: a late copy of the last step is nobody's.
    client.send(form_with("/login/code", "code=000000", pending)).answer("POST");
    let metrics = get(proxy.admin, "/metrics").text();
    let events = proxy.stop();
    assert_eq!(
        said(&events),
        [
            ("user.login.failed", "invalid_credentials", "alice"),
            ("user.mfa.challenge.requested", "", "alice"),
            ("user.mfa.challenge.failed", "invalid_code", "alice"),
            ("user.mfa.challenge.success", "", "alice"),
            ("user.login.success", "", "alice"),
            ("user.mfa.challenge.failed", "invalid_code", ""),
        ]
    );
    assert!(metrics.contains("authtap_flows"), "{metrics}");
    let all = events.iter().map(Value::to_string).collect::<String>();
    assert!(!all.contains("p3nd1ng") && !all.contains("st4t3"), "keys are kept as hashes");
}

#[test]
fn two_logins_at_once_do_not_mix_their_names() {
    let origin = three_steps();
    let proxy = Proxy::before(origin.address, STEPS);
    let mut client = Client::connect(proxy.address);
    for (state, name) in [("a", "alice"), ("b", "bob")] {
        client.send(form(&format!("/login/name?state={state}"), format!("username={name}"))).answer("POST");
    }
    for state in ["b", "a", "c"] {
        client.send(form(&format!("/login/password?state={state}"), "password=wrong")).answer("POST");
    }
    let events = proxy.stop();
    let who: Vec<_> = said(&events).into_iter().map(|(_, _, who)| who).collect();
    assert_eq!(who, ["bob", "alice", ""]);
}

/// Success and failure are the same redirect; the page behind it tells.
const FOLLOWED: &str = r#"
session: { cookies: [SID] }
routes:
  - id: login
    match: { method: POST, path: /login }
    actor: { login: form.username }
    rules:
      - { name: csrf, when: { status: 403 }, outcome: rejected, reason: csrf }
      - name: next-page
        follow:
          within: 60s
          rules:
            - { name: form-again, when: { status: 403 }, outcome: failure, reason: invalid_credentials }
            - { name: inside, when: { status: 200, body: { contains: Welcome } }, outcome: success }
    emit: { success: user.login.success, failure: user.login.failed }
  - { id: logout, match: { method: POST, path: /logout }, when: { status: 2xx }, emit: user.logout }
"#;

/// A session from the first page on, that a login changes nothing of.
fn ambiguous() -> Origin {
    let inside: Mutex<HashMap<String, bool>> = Mutex::default();
    Origin::answering(move |request| {
        let session = request.field("cookie").unwrap_or_default();
        let mut inside = inside.lock().expect("no panic under the lock");
        match path(request).as_str() {
            "/login" => {
                inside.insert(session, request.text().contains("password=right"));
                answer("302 Found", &["Location: /home?welcome=1"], "")
            }
            "/home" | "/home?welcome=1" if inside.get(&session) == Some(&true) => {
                answer("200 OK", &[], "<h1>Welcome</h1>")
            }
            "/home" | "/home?welcome=1" => answer("403 Forbidden", &[], "sign in"),
            _ => answer("200 OK", &[], "nothing to see"),
        }
    })
}

#[test]
fn an_outcome_visible_only_by_the_next_page_is_decided_by_it() {
    let origin = ambiguous();
    let proxy = Proxy::before(origin.address, FOLLOWED);
    let mut client = Client::connect(proxy.address);
    for (name, password) in [("alice", "wrong"), ("alice", "right"), ("bob", "wrong")] {
        let cookie = format!("Cookie: SID=of-{name}");
        client.send(form_with("/login", &format!("username={name}&password={password}"), &[&cookie])).answer("POST");
        // What the page asks for in the background decides nothing.
        client.send(page_with("/poll", &[&cookie])).answer("GET");
        client.send(page_with("/home?welcome=1", &[&cookie])).answer("GET");
    }
    proxy.await_newest(3);
    let metrics = get(proxy.admin, "/metrics").text();
    let events = proxy.stop();
    assert_eq!(
        said(&events),
        [
            ("user.login.failed", "invalid_credentials", "alice"),
            ("user.login.success", "", "alice"),
            ("user.login.failed", "invalid_credentials", "bob"),
        ]
    );
    let rules: Vec<_> = events.iter().map(|e| (at(e, "/source/rule"), at(e, "/metadata/request/path"))).collect();
    assert_eq!(
        rules,
        [("form-again", "/login"), ("inside", "/login"), ("form-again", "/login")],
        "the event is about the login"
    );
    assert!(metrics.contains("authtap_follow_ups_total{result=\"decided\"} 3"), "{metrics}");
}

#[test]
fn a_session_that_a_follow_up_decided_is_known_afterwards() {
    let origin = ambiguous();
    let proxy = Proxy::before(
        origin.address,
        &FOLLOWED.replace("when: { status: 2xx }, emit: user.logout", "when: { session: known }, emit: user.logout"),
    );
    let mut client = Client::connect(proxy.address);
    let cookie = &["Cookie: SID=of-alice"];
    client.send(form_with("/login", "username=alice&password=right", cookie)).answer("POST");
    client.send(form_with("/logout", "", cookie)).answer("POST");
    client.send(page_with("/home", cookie)).answer("GET");
    client.send(form_with("/logout", "", cookie)).answer("POST");
    let events = proxy.stop();
    assert_eq!(
        said(&events),
        [("user.login.success", "", "alice"), ("user.logout", "", "alice")],
        "not before it was decided"
    );
}

#[test]
fn people_behind_one_address_do_not_decide_for_each_other() {
    let origin = ambiguous();
    let proxy = Proxy::before(origin.address, FOLLOWED);
    let mut client = Client::connect(proxy.address);
    let (alice, bob) = (&["Cookie: SID=of-alice"], &["Cookie: SID=of-bob"]);
    client.send(form_with("/login", "username=alice&password=right", alice)).answer("POST");
    client.send(form_with("/login", "username=bob&password=wrong", bob)).answer("POST");
    client.send(page_with("/home", bob)).answer("GET");
    client.send(page_with("/home", alice)).answer("GET");
    let events = proxy.stop();
    assert_eq!(
        said(&events),
        [("user.login.failed", "invalid_credentials", "bob"), ("user.login.success", "", "alice")]
    );
}

#[test]
fn a_form_sent_twice_is_one_login() {
    let origin = ambiguous();
    let proxy = Proxy::before(origin.address, FOLLOWED);
    let mut client = Client::connect(proxy.address);
    let cookie = &["Cookie: SID=of-alice"];
    for _ in 0..2 {
        client.send(form_with("/login", "username=alice&password=right", cookie)).answer("POST");
    }
    client.send(page_with("/home", cookie)).answer("GET");
    let events = proxy.stop();
    assert_eq!(said(&events), [("user.login.success", "", "alice")]);
}

#[test]
fn what_no_next_request_decides_is_unknown_and_keeps_its_time() {
    let origin = ambiguous();
    let proxy = Proxy::before(origin.address, &FOLLOWED.replace("within: 60s", "within: 50ms"));
    let mut client = Client::connect(proxy.address);
    client.send(form_with("/login", "username=alice&password=right", &["Cookie: SID=of-alice"])).answer("POST");
    let events = proxy.await_events(1);
    assert_eq!(said(&events), [("user.login.unknown", "no_next_request", "alice")]);
    // Its end by the clock, not by traffic, and no later than the request that ended it.
    client.send(form_with("/logout", "", &["Cookie: SID=of-alice"])).answer("POST");
    let events = proxy.stop();
    assert_eq!(said(&events)[1].0, "user.logout");
    assert!(at(&events[0], "/timestamp") < at(&events[1], "/timestamp"));
    assert!(at(&events[0], "/id") < at(&events[1], "/id"), "ids are in the order of the stream");
}

#[test]
fn what_still_waits_at_the_end_is_not_lost() {
    let origin = ambiguous();
    let proxy = Proxy::before(origin.address, FOLLOWED);
    let mut client = Client::connect(proxy.address);
    client.send(form_with("/login", "username=alice&password=right", &["Cookie: SID=of-alice"])).answer("POST");
    assert_eq!(said(&proxy.stop()), [("user.login.unknown", "no_next_request", "alice")]);
}

#[test]
fn a_page_that_does_not_decide_leaves_it_unknown() {
    let origin = Origin::answering(|request| match path(request).as_str() {
        "/login" => answer("302 Found", &["Location: /home"], ""),
        _ => answer("500 Oops", &[], ""),
    });
    let proxy = Proxy::before(origin.address, FOLLOWED);
    let mut client = Client::connect(proxy.address);
    client.send(form("/login", "username=alice")).answer("POST");
    client.send(page_with("/home", &[])).answer("GET");
    proxy.await_newest(1);
    assert_eq!(said(&proxy.stop()), [("user.login.unknown", "not_shown", "alice")]);
}

#[test]
fn oauth_callbacks_saml_posts_and_magic_links_are_routes_like_any_other() {
    let origin = Origin::answering(|request| {
        let (path, body) = (path(request), request.text());
        if path.contains("error=") || body.contains("SAMLResponse=denied") {
            answer("302 Found", &["Location: /login"], "")
        } else if path.starts_with("/auth/google/start") {
            answer("302 Found", &["Location: https://idp.example.test/authorize?state=st4t3"], "")
        } else if path.starts_with("/magic/ask") {
            answer("200 OK", &["Set-Cookie: browser=br0ws3r"], "look into your mail")
        } else {
            answer("302 Found", &["Location: /", "Set-Cookie: SID=s3ss10n"], "")
        }
    });
    let proxy = Proxy::before(
        origin.address,
        r#"
session: { cookies: [SID] }
routes:
  - id: oauth-callback
    match: { method: GET, path: "template:/auth/{provider}/callback" }
    method: sso
    provider: path.provider
    rules:
      - { name: refused-there, when: { query: { error: present } }, outcome: failure, reason: provider_error }
      - { name: signed-in, when: { status: 30x, session: changed }, outcome: success }
      - { name: refused-here, when: { status: 30x }, outcome: failure }
    emit: { success: user.login.success, failure: user.login.failed }
  - id: saml
    match: { method: POST, path: /saml/acs, form: { SAMLResponse: present } }
    method: sso
    provider: okta
    rules:
      - { name: signed-in, when: { status: 30x, session: changed }, outcome: success }
    default: failure
    emit: { success: user.login.success, failure: user.login.failed }
  - id: magic-asked
    match: { method: POST, path: /magic/ask }
    actor: { email: form.email }
    flow: { name: magic, key: cookie.browser }
    rules: [ { name: mailed, outcome: ignore } ]
    emit: user.login.success
  - id: magic-link
    match: { method: GET, path: "template:/magic/{token}" }
    method: magic_link
    flow: { name: magic, key: cookie.browser }
    rules: [ { name: signed-in, when: { session: changed }, outcome: success } ]
    default: failure
    emit: { success: user.login.success, failure: user.login.failed }
"#,
    );
    let mut client = Client::connect(proxy.address);
    client.send(page_with("/auth/google/callback?code=c0d3&state=st4t3", &[])).answer("GET");
    client.send(page_with("/auth/google/callback?error=access_denied&state=st4t3", &[])).answer("GET");
    client.send(form("/saml/acs", "SAMLResponse=ass3rt10n")).answer("POST");
    client.send(form("/saml/acs", "SAMLResponse=denied")).answer("POST");
    client.send(form("/magic/ask", "email=a%40x.test")).answer("POST");
    client.send(page_with("/magic/t0k3n-0f-4-m41l3d-l1nk", &["Cookie: browser=br0ws3r"])).answer("GET");
    let events = proxy.stop();
    let told: Vec<_> = events
        .iter()
        .map(|e| (at(e, "/event_type"), at(e, "/metadata/method"), at(e, "/metadata/provider"), at(e, "/actor/email")))
        .collect();
    assert_eq!(
        told,
        [
            ("user.login.success", "sso", "google", ""),
            ("user.login.failed", "sso", "google", ""),
            ("user.login.success", "sso", "okta", ""),
            ("user.login.failed", "sso", "okta", ""),
            ("user.login.success", "magic_link", "", "a@x.test"),
        ]
    );
    let all = events.iter().map(Value::to_string).collect::<String>();
    for secret in ["c0d3", "st4t3", "ass3rt10n", "t0k3n", "br0ws3r"] {
        assert!(!all.contains(secret), "{secret}");
    }
}
