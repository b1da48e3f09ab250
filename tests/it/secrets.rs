//! No secret of a login leaves: whatever the passwords, tokens, codes and cookies are, and wherever
//! in the exchange they stand, none is in an event, in the metrics or in the shown configuration,
//! neither as it is nor in an encoding it had on the wire.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::harness::{Client, Origin, Proxy, answer, at, form, get, post};

/// Routes that extract as much as the configuration lets them.
const ROUTES: &str = r#"
session: { cookies: [SID, "remember*"], bearer: true, headers: [x-session-token] }
routes:
  - id: login
    match: { method: POST, path: [/login, /multipart] }
    actor: { login: form.username }
    method: password
    fields: { remember: form.remember, language: header.accept-language, agent: header.user-agent }
    rules:
      - { when: { status: 302, set_cookie: { SID: changed } }, outcome: success }
      - { when: { body: { contains: wrong } }, outcome: failure, reason: invalid_credentials }
    emit: { success: user.login.success, failure: user.login.failed }
  - id: json
    match: { method: POST, path: /api/login }
    actor: { login: json:/user, id: "response.jwt:/token#/sub" }
    session: { token: response.json:/token }
    rules: [ { when: { json: { /token: present } }, outcome: success } ]
    emit: user.login.success
  - id: basic
    match: { path: /basic }
    actor: { login: basic.user }
    rules: [ { when: { status: 401 }, outcome: failure } ]
    emit: { failure: user.login.failed }
  - id: bearer
    match: { path: /api/me }
    actor: { id: "jwt:/sub" }
    emit: api_key.used
  - id: reset
    match: { path: "template:/reset/{user}/{token}" }
    target: { id: path.user }
    emit: user.password.reset_completed
  - id: magic
    match: { path: /magic }
    emit: user.login.success
  - id: graphql
    match: { path: /graphql, graphql: { field: login } }
    actor: { login: graphql.user }
    session: { carried: graphql.refresh }
    emit: user.login.success
  - id: xmlrpc
    match: { path: /xmlrpc, xmlrpc: { method: wp.getUsersBlogs } }
    actor: { login: xmlrpc.0 }
    emit: user.login.success
"#;

/// What a login holds that nobody else may learn.
#[derive(Clone, Debug)]
struct Secrets {
    password: String,
    token: String,
    cookie: String,
    code: String,
}

fn secrets() -> impl Strategy<Value = Secrets> {
    // Long enough to stand nowhere by chance.
    let password = prop_oneof![
        "[a-zA-Z0-9]{12,40}",
        "[ -~]{14,60}",
        "[a-z]{4,8}[&=+%;\"'<>\\\\/?# ]{1,4}[a-z0-9]{8,20}",
        "[à-ÿа-я]{10,30}",
        "[a-z0-9]{6}@[a-z0-9]{8}\\.example",
    ];
    (password, "[A-Za-z0-9_-]{20,60}", "[A-Za-z0-9._~-]{16,48}", "[0-9a-f]{32,40}")
        .prop_map(|(password, token, cookie, code)| Secrets { password, token, cookie, code })
}

/// The application: it repeats what it was told, as careless ones do.
fn application() -> Origin {
    Origin::answering(|request| {
        let header = |name: &str| request.field(name).unwrap_or_default();
        let (cookie, location) = (format!("Set-Cookie: {}", header("x-test-cookie")), header("x-test-location"));
        match request.target().split('?').next().unwrap_or_default() {
            "/login" | "/multipart" if header("x-test-wrong").is_empty() => {
                answer("302 Found", &[&cookie, &format!("Location: {location}")], "")
            }
            "/login" => answer("200 OK", &["Content-Type: text/html"], format!("wrong: {}", request.text())),
            "/api/login" => answer("200 OK", &["Content-Type: application/json", &cookie], header("x-test-answer")),
            "/basic" => answer("401 Unauthorized", &["WWW-Authenticate: Basic"], "wrong"),
            _ => answer("302 Found", &[&cookie, &format!("Location: {location}")], ""),
        }
    })
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn jwt(secrets: &Secrets) -> String {
    let claims = serde_json::json!({"sub": "usr_1", "jti": secrets.code, "nonce": secrets.token}).to_string();
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part("{\"alg\":\"HS256\"}"), part(&claims), part(&secrets.cookie))
}

/// Every request of the visit; each has secrets somewhere.
fn requests(s: &Secrets) -> Vec<Vec<u8>> {
    let (password, jwt) = (encoded(&s.password), jwt(s));
    let answers = format!(
        "Cookie: theme=dark; SID={}; remember_web={}\r\nX-Session-Token: {}\r\n\
         X-Test-Cookie: SID={}{}; HttpOnly\r\nX-Test-Location: /home?token={}&code={}#access_token={}\r\n\
         Referer: http://a.test/reset?token={}\r\n",
        s.cookie, s.token, s.token, s.token, s.cookie, s.token, s.code, s.token, s.token
    );
    let urlencoded = format!("{answers}Content-Type: application/x-www-form-urlencoded\r\n");
    let multipart = format!(
        "--edge\r\nContent-Disposition: form-data; name=\"username\"\r\n\r\nalice\r\n\
         --edge\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n{}\r\n--edge--\r\n",
        s.password
    );
    let json = serde_json::json!({"user": "alice", "password": s.password, "otp": s.code}).to_string();
    // JSON's escapes are GraphQL's.
    let inline = format!(
        "mutation {{ login(user: \"alice\", password: {}, refresh: \"{}\") {{ token }} }}",
        serde_json::Value::from(s.password.as_str()),
        s.token
    );
    let inline = serde_json::json!({"query": inline}).to_string();
    let variables = serde_json::json!({
        "query": "mutation($u: String, $p: String) { login(user: $u, password: $p) { token } }",
        "variables": {"u": "alice", "p": s.password},
    });
    let xml = format!(
        "<methodCall><methodName>wp.getUsersBlogs</methodName><params><param><value>alice</value></param>\
         <param><value>{}</value></param></params></methodCall>",
        s.password.replace('&', "&amp;").replace('<', "&lt;")
    );
    let json_type = format!("{answers}Content-Type: application/json\r\n");
    let answered = serde_json::json!({"token": jwt, "refresh": s.token, "echo": s.code}).to_string();
    let basic = STANDARD.encode(format!("alice:{}", s.password));
    let asking =
        |line: &str, fields: &str| format!("{line} HTTP/1.1\r\nHost: a.test\r\n{answers}{fields}\r\n").into_bytes();
    vec![
        post("/login", &urlencoded, format!("username=alice&password={password}&csrf={}&remember=on", s.token)),
        post("/login", &format!("{urlencoded}X-Test-Wrong: yes\r\n"), format!("username=alice&password={password}")),
        post("/multipart", &format!("{answers}Content-Type: multipart/form-data; boundary=edge\r\n"), multipart),
        post("/api/login", &format!("{answers}Content-Type: application/json\r\nX-Test-Answer: {answered}\r\n"), json),
        asking("GET /basic", &format!("Authorization: Basic {basic}\r\n")),
        asking("GET /api/me", &format!("Authorization: Bearer {jwt}\r\n")),
        asking("GET /api/me", &format!("Authorization: Bearer {}\r\n", s.token)),
        asking(&format!("GET /reset/alice/{}", s.token), ""),
        asking(&format!("GET /reset/alice/{}?key={}", s.code, s.token), ""),
        asking(&format!("GET /magic?token={}&code={}&password={password}", s.token, s.code), ""),
        post("/graphql", &json_type, inline),
        post("/graphql", &json_type, variables.to_string()),
        post("/xmlrpc", &format!("{answers}Content-Type: text/xml\r\n"), xml),
    ]
}

fn method_of(request: &[u8]) -> &'static str {
    if request.starts_with(b"GET") { "GET" } else { "POST" }
}

/// Each secret in every spelling it had on the wire.
fn spellings(s: &Secrets) -> Vec<(&'static str, String)> {
    let json = serde_json::Value::from(s.password.as_str()).to_string();
    let claims = jwt(s);
    let mut all = vec![
        ("the password", s.password.clone()),
        ("the password, encoded", encoded(&s.password)),
        ("the password, in JSON", json.trim_matches('"').to_owned()),
        ("Basic credentials", STANDARD.encode(format!("alice:{}", s.password))),
        ("the token", s.token.clone()),
        ("the cookie", s.cookie.clone()),
        ("the code", s.code.clone()),
    ];
    all.extend(claims.split('.').skip(1).map(|part| ("a part of the JWT", part.to_owned())));
    all
}

#[test]
fn no_secret_is_in_an_event_the_metrics_or_the_shown_configuration() {
    let origin = application();
    let proxy = Proxy::before(origin.address, ROUTES);
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&secrets(), |s| {
        let before = proxy.lines().len();
        let requests = requests(&s);
        let mut client = Client::connect(proxy.address);
        for request in &requests {
            client.send(request).answer(method_of(request));
        }
        proxy.await_newest((before + requests.len()) as u64);
        let stored = proxy.lines().split_off(before);
        prop_assert_eq!(stored.len(), requests.len(), "each of these is an event");
        let metrics = get(proxy.admin, "/metrics").text();
        let config = get(proxy.admin, "/config").text();
        for (what, secret) in spellings(&s) {
            for one in &stored {
                prop_assert!(!one.contains(&secret), "{} is in {}", what, one);
            }
            prop_assert!(!metrics.contains(&secret), "{} is in the metrics", what);
            prop_assert!(!config.contains(&secret), "{} is in the configuration", what);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn the_visit_above_is_seen_for_what_it_is() {
    let origin = application();
    let proxy = Proxy::before(origin.address, ROUTES);
    let known = Secrets {
        password: "correct horse battery".into(),
        token: "tokentokentokentokentoken1".into(),
        cookie: "cookiecookiecookie2".into(),
        code: "0123456789abcdef0123456789abcdef".into(),
    };
    let mut client = Client::connect(proxy.address);
    for request in requests(&known) {
        client.send(&request).answer(method_of(&request));
    }
    let events = proxy.stop();
    let said: Vec<(&str, &str)> = events.iter().map(|e| (at(e, "/source/route"), at(e, "/outcome"))).collect();
    assert_eq!(
        said,
        [
            ("login", "success"),
            ("login", "failure"),
            ("login", "success"),
            ("json", "success"),
            ("basic", "failure"),
            ("bearer", "success"),
            ("bearer", "success"),
            ("reset", "success"),
            ("reset", "success"),
            ("magic", "success"),
            ("graphql", "success"),
            ("graphql", "success"),
            ("xmlrpc", "success"),
        ]
    );
    let names: Vec<&str> = events.iter().map(|e| at(e, "/actor/login")).collect();
    assert_eq!(names[..5], ["alice"; 5]);
    assert_eq!(names[10..], ["alice"; 3]);
    assert_eq!(at(&events[5], "/actor/id"), "usr_1");
    assert_eq!(at(&events[7], "/metadata/request/path"), "/reset/alice/***");
    assert_eq!(at(&events[9], "/metadata/request/path"), "/magic");
    for event in &events {
        let session = at(event, "/metadata/session_id");
        assert!(session.starts_with("s_") && session.len() == 18, "a session is a hash: {event}");
    }
}

#[test]
fn a_route_that_would_extract_a_secret_is_refused() {
    for source in [
        "form.password",
        "form.user[password]",
        "json:/auth/secret",
        "query.token",
        "header.authorization",
        "header.cookie",
        "cookie.PHPSESSID",
        "response.json:/access_token",
        "response.cookie.sessionid",
        "response.header.set-cookie",
        "form.otp",
        "graphql.password",
        "graphql:/data/token",
        "response.graphql:/access_token",
    ] {
        let yaml = format!(
            "version: 1\nroutes:\n  - id: a\n    match: {{ path: /a }}\n    actor: {{ login: \"{source}\" }}\n    emit: user.login.success\n"
        );
        let (config, problems) = authtap::config::settings::check("routes.yaml", &yaml);
        assert!(config.is_none(), "{source} is let through");
        assert!(problems.to_string().contains("never extracted"), "{source}: {problems}");
    }
}

#[test]
fn a_failed_form_is_passed_on_with_its_password_and_reported_without() {
    let origin = application();
    let proxy = Proxy::before(origin.address, ROUTES);
    let mut client = Client::connect(proxy.address);
    client.send(form("/login", "username=alice&password=hunter2hunter2")).answer("POST");
    assert!(origin.requests()[0].text().contains("hunter2hunter2"), "the application needs it");
    assert!(!proxy.stop_for_lines().concat().contains("hunter2"));
}
