//! Traps that real applications set for whoever matches requests with answers: each test is named
//! after one and shows what tells the outcomes apart. `docs/traps.md` lists all of them, also those
//! whose tests stand elsewhere.

use serde_json::{Value, json};

use crate::harness::message::Message;
use crate::harness::{Client, Origin, Proxy, answer, at, form, post};

/// What became of these requests, sent one after the other by one client.
fn lines(
    yaml: &str,
    application: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static,
    requests: &[Vec<u8>],
) -> Vec<String> {
    let origin = Origin::answering(application);
    let proxy = Proxy::before(origin.address, yaml);
    let mut client = Client::connect(proxy.address);
    for request in requests {
        client.send(request).answer("POST");
    }
    proxy.stop_for_lines()
}

fn seen(
    yaml: &str,
    application: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static,
    requests: &[Vec<u8>],
) -> Vec<Value> {
    lines(yaml, application, requests)
        .iter()
        .map(|line| serde_json::from_str(line).expect("an event is JSON"))
        .collect()
}

/// Type and reason of each event.
fn said(events: &[Value]) -> Vec<(&str, &str)> {
    events.iter().map(|e| (at(e, "/event_type"), at(e, "/reason"))).collect()
}

/// Type of each event and whom it is about.
fn about(events: &[Value]) -> Vec<(&str, &str)> {
    events.iter().map(|e| (at(e, "/event_type"), at(e, "/actor/login"))).collect()
}

fn page(text: &str) -> Vec<u8> {
    answer("200 OK", &["Content-Type: text/html; charset=utf-8"], text)
}

fn to(location: &str, more: &[&str]) -> Vec<u8> {
    let location = format!("Location: {location}");
    answer("302 Found", &[&[location.as_str()], more].concat(), "")
}

fn json_answer(status: &str, body: &Value) -> Vec<u8> {
    answer(status, &["Content-Type: application/json"], body.to_string())
}

fn sent(method: &str, target: &str, headers: &str) -> Vec<u8> {
    format!("{method} {target} HTTP/1.1\r\nHost: app.example.test\r\n{headers}Content-Length: 0\r\n\r\n").into_bytes()
}

fn get_page(target: &str) -> Vec<u8> {
    sent("GET", target, "")
}

fn json_with(method: &str, target: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!(
        "{method} {target} HTTP/1.1\r\nHost: app.example.test\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A form of a browser that has this cookie.
fn form_in_session(target: &str, cookie: &str, body: &str) -> Vec<u8> {
    post(target, &format!("Cookie: {cookie}\r\nContent-Type: application/x-www-form-urlencoded\r\n"), body)
}

const SUCCESS: &str = "user.login.success";
const FAILED: &str = "user.login.failed";
const WRONG: &str = "invalid_credentials";

/// A route for a login with these rules.
fn login(rules: &str) -> String {
    format!(
        "session: {{ cookies: [SID] }}\nroutes:\n  - id: login\n    match: {{ method: POST, path: /login }}\n    \
         actor: {{ login: [form.username, \"json:/username\"] }}\n    rules:\n{rules}\n    \
         emit: {{ success: user.login.success, failure: user.login.failed }}\n"
    )
}

// ---- what an answer looks like ---------------------------------------------------------------------

#[test]
fn a_failure_answered_200_is_told_from_a_success_answered_200() {
    let rules = "      - { when: { status: 200, set_cookie: { SID: changed } }, outcome: success }\n      \
                 - { when: { status: 200, body: { contains: 'type=\"password\"' } }, outcome: failure, reason: invalid_credentials }";
    let application = |request: &Message| match request.text().as_str() {
        text if text.contains("right") => answer("200 OK", &["Set-Cookie: SID=n3w"], "<a href=/out>"),
        text if text.contains("wrong") => page("<input type=\"password\">"),
        _ => page("<p>maintenance</p>"),
    };
    let tries = ["right", "wrong", "neither"].map(|p| form("/login", format!("username=alice&password={p}")));
    let events = seen(&login(rules), application, &tries);
    assert_eq!(said(&events), [(SUCCESS, ""), (FAILED, WRONG), ("user.login.unknown", "")]);
}

#[test]
fn success_and_failure_that_are_both_redirects_are_told_apart_by_where_they_lead() {
    let rules = "      - { when: { status: 30x, location.path: /login, location.query: { error: present } }, outcome: failure, reason: invalid_credentials }\n      \
                 - { when: { status: 30x, set_cookie: { SID: changed } }, outcome: success }";
    let application = |request: &Message| match request.text().contains("right") {
        true => to("/", &["Set-Cookie: SID=n3w"]),
        // A new session stands on the way back too, as Spring gives one to whoever has none.
        false => to("/login?error", &["Set-Cookie: SID=anonymous"]),
    };
    let tries = ["wrong", "right"].map(|p| form("/login", format!("username=alice&password={p}")));
    assert_eq!(said(&seen(&login(rules), application, &tries)), [(FAILED, WRONG), (SUCCESS, "")]);
}

#[test]
fn json_200_with_an_error_inside_is_a_failed_login() {
    let rules = "      - { when: { json: { /error/code: present } }, outcome: failure, reason: invalid_credentials }\n      \
                 - { when: { status: 200, json: { /token: present } }, outcome: success }";
    let application = |request: &Message| match request.text().contains("right") {
        true => json_answer("200 OK", &json!({"error": null, "token": "t0k3n0123456789abcdef"})),
        false => json_answer("200 OK", &json!({"error": {"code": 7}, "token": null})),
    };
    let tries = ["wrong", "right"].map(|p| json_with("POST", "/login", &json!({"username": "alice", "password": p})));
    for yaml in [login(rules).as_str(), "auto: on"] {
        assert_eq!(said(&seen(yaml, application, &tries)), [(FAILED, WRONG), (SUCCESS, "")], "{yaml}");
    }
}

#[test]
fn a_json_url_in_place_of_a_location_decides_like_one() {
    let rules = "      - { when: { json: { /url: { contains: 'error=' } } }, outcome: failure, reason: invalid_credentials }\n      \
                 - { when: { json: { /url: present }, set_cookie: { SID: changed } }, outcome: success }";
    let application = |request: &Message| match request.text().contains("right") {
        true => answer(
            "200 OK",
            &["Content-Type: application/json", "Set-Cookie: SID=s3ss10n0123456789abcdef; HttpOnly"],
            r#"{"url":"http://app.example.test/"}"#,
        ),
        false => json_answer("200 OK", &json!({"url": "http://app.example.test/login?error=CredentialsSignin"})),
    };
    let tries = ["wrong", "right"].map(|p| form("/login", format!("username=alice&password={p}")));
    assert_eq!(said(&seen(&login(rules), application, &tries)), [(FAILED, WRONG), (SUCCESS, "")]);
    let without_routes = seen("auto: on", application, &tries);
    assert_eq!(about(&without_routes), [(FAILED, "alice"), (SUCCESS, "alice")]);
}

#[test]
fn localised_error_texts_do_not_matter_where_the_form_decides() {
    let rules = "      - { when: { status: 200, body: { contains: 'class=\"errorlist' } }, outcome: failure, reason: invalid_credentials }\n      \
                 - { when: { status: 302 }, outcome: success }";
    let application = |request: &Message| {
        let text = match request.field("accept-language").unwrap_or_default().as_str() {
            "de" => "Bitte einen g\u{fc}ltigen Benutzernamen eingeben",
            "ja" => "\u{6b63}\u{3057}\u{3044}\u{30e6}\u{30fc}\u{30b6}\u{30fc}\u{540d}",
            _ => "please enter a correct user name",
        };
        page(&format!(
            "<ul class=\"errorlist nonfield\"><li>{text}</li></ul><form><input type=\"password\" name=\"password\"></form>"
        ))
    };
    let tries = ["en", "de", "ja"].map(|language| {
        let fields = format!("Accept-Language: {language}\r\nContent-Type: application/x-www-form-urlencoded\r\n");
        post("/login", &fields, "username=alice&password=x")
    });
    assert_eq!(said(&seen(&login(rules), application, &tries)), [(FAILED, WRONG); 3]);
    assert_eq!(about(&seen("auto: on", application, &tries)), [(FAILED, "alice"); 3]);
}

// ---- what only looks like a login, or like none --------------------------------------------------------

#[test]
fn a_login_posted_while_already_signed_in_is_no_second_login() {
    let rules = "      - { when: { status: 302, set_cookie: { SID: changed } }, outcome: success }\n      \
                 - { name: from-an-old-tab, when: { status: 302 }, outcome: ignore }";
    // The same redirect each time; whoever has a session keeps it, and may be sent it again.
    let application = |request: &Message| match request.field("cookie") {
        _ if request.target() == "/home" => page("<a href=/logout>Log out</a>"),
        None => to("/home", &["Set-Cookie: SID=s3ss10n0123456789abcdef; HttpOnly"]),
        Some(_) if request.text().contains("quiet") => to("/home", &[]),
        Some(_) => to("/home", &["Set-Cookie: SID=s3ss10n0123456789abcdef; HttpOnly"]),
    };
    let cookie = "SID=s3ss10n0123456789abcdef";
    let home = || sent("GET", "/home", &format!("Cookie: {cookie}\r\n"));
    let requests = [
        form("/login", "username=alice&password=right"),
        home(),
        form_in_session("/login", cookie, "username=alice&password=again"),
        home(),
        form_in_session("/login", cookie, "username=mallory&password=quiet"),
        home(),
    ];
    assert_eq!(about(&seen(&login(rules), application, &requests)), [(SUCCESS, "alice")]);
    let without_routes = seen("auto: on", application, &requests);
    assert_eq!(about(&without_routes), [(SUCCESS, "alice")]);
}

#[test]
fn a_csrf_rejection_with_the_right_password_is_neither_success_nor_failure() {
    let rules = "      - { when: { status: 403 }, outcome: rejected, reason: csrf }\n      \
                 - { when: { status: 302 }, outcome: success }\n      - { when: { status: 200 }, outcome: failure }";
    let application = |request: &Message| match request.text().contains("csrf=fresh") {
        true => to("/home", &["Set-Cookie: SID=n3w"]),
        false => answer("403 Forbidden", &["Content-Type: text/html"], "<h1>403</h1>"),
    };
    let tries = ["stale", "fresh"].map(|c| form("/login", format!("csrf={c}&username=alice&password=right")));
    let events = seen(&login(rules), application, &tries);
    assert_eq!(said(&events), [("user.login.rejected", "csrf"), (SUCCESS, "")]);
}

#[test]
fn confirming_a_password_inside_a_session_is_no_login() {
    let application = |request: &Message| match request.target().as_str() {
        "/login" => to("/home", &["Set-Cookie: SID=s3ss10n0123456789abcdef; HttpOnly"]),
        "/home" => page("<a href=/logout>Log out</a>"),
        _ if request.text().contains("right") => to("/settings", &[]),
        _ => page("<form method=post><input type=password name=password></form>"),
    };
    let cookie = "SID=s3ss10n0123456789abcdef";
    let requests = [
        form("/login", "username=alice&password=right"),
        sent("GET", "/home", &format!("Cookie: {cookie}\r\n")),
        form_in_session("/user/confirm-password", cookie, "password=right"),
        form_in_session("/user/confirm-password", cookie, "password=wrong"),
    ];
    let rules = "      - { when: { status: 302 }, outcome: success }";
    assert_eq!(about(&seen(&login(rules), application, &requests)), [(SUCCESS, "alice")]);
    assert_eq!(about(&seen("auto: on", application, &requests)), [(SUCCESS, "alice")]);
}

#[test]
fn the_password_of_a_single_page_is_no_login() {
    let application = |_: &Message| to("/secret-page", &["Set-Cookie: wp-postpass_0a=0123456789abcdef0123; HttpOnly"]);
    let requests = [form("/wp-login.php?action=postpass", "post_password=sesame&Submit=Enter")];
    assert_eq!(about(&seen("preset: wordpress", application, &requests)), []);
    assert_eq!(about(&seen("auto: on", application, &requests)), []);
}

#[test]
fn a_bookmark_answered_403_is_silent() {
    let application = |_: &Message| answer("403 Forbidden", &["Content-Type: text/html"], "<h1>not for you</h1>");
    let requests =
        [get_page("/admin/users"), sent("GET", "/settings", "Cookie: SID=0ld\r\n"), get_page("/login?next=/admin")];
    assert_eq!(about(&seen("auto: on", application, &requests)), []);
    let rules = "      - { when: { status: 403 }, outcome: rejected }";
    assert_eq!(about(&seen(&login(rules), application, &requests)), []);
}

#[test]
fn an_application_password_is_the_use_of_a_key_and_no_login() {
    let application = |request: &Message| match request.field("authorization").is_some_and(|v| v.ends_with("==")) {
        true => json_answer("401 Unauthorized", &json!({"code": "incorrect_password"})),
        false => json_answer("200 OK", &json!({"id": 1})),
    };
    // alice:keykey, and alice:guess12.
    let requests = ["YWxpY2U6a2V5a2V5", "YWxpY2U6Z3Vlc3MxMg=="]
        .map(|basic| sent("GET", "/wp-json/wp/v2/users/me", &format!("Authorization: Basic {basic}\r\n")));
    let events = seen("preset: wordpress", application, &requests);
    assert_eq!(about(&events).first(), Some(&("api_key.used", "alice")));
    assert!(events.iter().all(|e| at(e, "/event_type") != SUCCESS), "{events:#?}");
}

// ---- second factors and headless interfaces ---------------------------------------------------------------

#[test]
fn a_second_factor_on_the_same_path_is_told_by_its_fields() {
    let rules = "      - { when: { form: { otp: present }, set_cookie: { SID: changed } }, outcome: success, also: user.mfa.challenge.success }\n      \
                 - { when: { form: { otp: present } }, outcome: failure, reason: invalid_code, emit: user.mfa.challenge.failed }\n      \
                 - { when: { form: { password: present }, body: { contains: 'name=\"otp\"' } }, outcome: challenge }\n      \
                 - { when: { form: { password: present } }, outcome: failure, reason: invalid_credentials }";
    let application = |request: &Message| match request.text().as_str() {
        text if text.contains("otp=1") => to("/home", &["Set-Cookie: SID=n3w"]),
        text if text.contains("otp=") || text.contains("right") => page("<input name=\"otp\">"),
        _ => page("<input name=\"password\">"),
    };
    let requests = ["password=wrong", "password=right", "otp=0", "otp=1"]
        .map(|fields| form("/login", format!("username=alice&{fields}")));
    let events = seen(&login(rules), application, &requests);
    assert_eq!(
        said(&events),
        [
            (FAILED, WRONG),
            ("user.mfa.challenge.requested", ""),
            ("user.mfa.challenge.failed", "invalid_code"),
            (SUCCESS, ""),
            ("user.mfa.challenge.success", "")
        ]
    );
}

#[test]
fn a_401_that_means_success_or_a_pending_factor_is_no_failure() {
    let yaml = r#"
routes:
  - id: login
    match: { method: POST, path: /_allauth/browser/v1/auth/login }
    actor: { login: "json:/username" }
    rules:
      - { when: { status: 401, json: { /data/flows/*/is_pending: true } }, outcome: challenge }
      - { when: { status: 200 }, outcome: success }
      - { when: { status: 400 }, outcome: failure, reason: invalid_credentials }
    emit: { success: user.login.success, failure: user.login.failed }
  - { id: logout, match: { method: DELETE, path: /_allauth/browser/v1/auth/session }, when: { status: 401, json: { /meta/is_authenticated: false } }, emit: user.logout }
"#;
    let application = |request: &Message| match request.text().as_str() {
        "" => json_answer(
            "401 Unauthorized",
            &json!({"status": 401, "data": {"flows": [{"id": "login"}]}, "meta": {"is_authenticated": false}}),
        ),
        text if text.contains("right") => json_answer(
            "401 Unauthorized",
            &json!({"data": {"flows": [{"id": "login"}, {"id": "mfa_authenticate", "is_pending": true}]}}),
        ),
        text if text.contains("wrong") => json_answer("400 Bad Request", &json!({"errors": [{"code": "mismatch"}]})),
        _ => json_answer("401 Unauthorized", &json!({"data": {"flows": [{"id": "login"}]}})),
    };
    let try_with =
        |p: &str| json_with("POST", "/_allauth/browser/v1/auth/login", &json!({"username": "alice", "password": p}));
    let logout = sent("DELETE", "/_allauth/browser/v1/auth/session", "");
    let events = seen(yaml, application, &[try_with("right"), try_with("wrong"), try_with("other"), logout]);
    assert_eq!(
        said(&events),
        [("user.mfa.challenge.requested", ""), (FAILED, WRONG), ("user.login.unknown", ""), ("user.logout", "")]
    );
}

// ---- what may be claimed, and what may be shown -------------------------------------------------------------

#[test]
fn a_reset_and_a_sign_up_that_answer_alike_never_say_that_the_account_exists() {
    let yaml = r#"
routes:
  - { id: reset, match: { method: POST, path: /forgot }, actor: { email: form.email }, outcome: requested, emit: user.password.reset_requested }
  - { id: sign-up, match: { method: POST, path: /join }, actor: { email: form.email }, outcome: requested, emit: user.created }
"#;
    let application = |_: &Message| page("<p>If there is such an account, we have sent a mail.</p>");
    let requests = ["/forgot", "/join"]
        .iter()
        .flat_map(|path| ["known", "unknown"].map(|who| form(path, format!("email={who}%40example.test"))))
        .collect::<Vec<_>>();
    let events = seen(yaml, application, &requests);
    let outcomes: Vec<_> =
        events.iter().map(|e| (at(e, "/event_type"), at(e, "/outcome"), at(e, "/target/id"))).collect();
    let (reset, joined) = (("user.password.reset_requested", "requested", ""), ("user.created", "requested", ""));
    assert_eq!(outcomes, [reset, reset, joined, joined]);
    // Without routes too: asked for, and no more.
    let events = seen("auto: on", application, &requests);
    let outcomes: Vec<_> = events.iter().map(|e| (at(e, "/event_type"), at(e, "/outcome"))).collect();
    assert_eq!(outcomes.first(), Some(&("user.password.reset_requested", "requested")), "{outcomes:?}");
    assert!(outcomes.iter().all(|(_, outcome)| *outcome != "success"), "{outcomes:?}");
}

#[test]
fn of_names_and_codes_inside_a_location_only_the_path_is_kept() {
    let yaml = r#"
routes:
  - id: login
    match: { method: POST, path: /login }
    actor: { login: form.username }
    target: { id: 'response.location:(\d+)' }
    rules: [ { when: { location.path: { glob: "/users/*" } }, outcome: success } ]
    emit: user.login.success
"#;
    let application = |request: &Message| match request.text().contains("alice") {
        true => to("/users/7?code=4711-s3cr3t&next=/users/8&name=hidden-name#access_token=s3cr3t", &[]),
        false => to("/users/me?id=4711&code=s3cr3t&name=hidden-name", &[]),
    };
    let lines = lines(yaml, application, &["alice", "bob"].map(|who| form("/login", format!("username={who}"))));
    let targets: Vec<Value> = lines.iter().map(|l| serde_json::from_str(l).expect("an event is JSON")).collect();
    assert_eq!(targets.iter().map(|e| at(e, "/target/id")).collect::<Vec<_>>(), ["7", ""]);
    assert!(lines.iter().all(|l| !["s3cr3t", "4711", "hidden-name"].iter().any(|s| l.contains(s))), "{lines:?}");
}

#[test]
fn an_answer_that_echoes_the_new_password_is_not_repeated() {
    let yaml = r#"
auto: on
routes:
  - { id: change, match: { method: POST, path: /me/password }, actor: { login: "response.json:/user/name" }, when: { json: { /user: present } }, emit: user.password.changed }
"#;
    let application = |_: &Message| {
        let user =
            json!({"id": 7, "name": "alice", "username": "alice", "password": "n3w-p4ssw0rd", "hash": "n3w-p4ssw0rd"});
        json_answer("200 OK", &json!({"user": user, "newPassword": "n3w-p4ssw0rd", "message": "now n3w-p4ssw0rd"}))
    };
    let change = json!({"oldPassword": "0ld-p4ssw0rd", "newPassword": "n3w-p4ssw0rd"});
    // The second has no route: it is auto's.
    let requests = ["/me/password", "/account/password"].map(|target| json_with("POST", target, &change));
    let lines = lines(yaml, application, &requests);
    assert!(lines.first().is_some_and(|l| l.contains("user.password.changed") && l.contains("alice")), "{lines:?}");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|l| !l.contains("p4ssw0rd")), "{lines:?}");
}

#[test]
fn a_token_in_a_path_is_not_shown() {
    let yaml = r#"
routes:
  - { id: reset, match: { method: POST, path: "template:/reset/{token}/form" }, emit: user.password.reset_completed }
  - { id: confirm, match: { path: "prefix:/confirm/" }, emit: user.email.verified }
"#;
    let requests = [
        form("/reset/c0ffee1234567890abcdef/form?token=t0k3n1234567890", "password=x"),
        get_page("/confirm/MTA:1uKx9Y:Zm9vYmFyYmF6c0ffee"),
    ];
    let lines = lines(yaml, |_| to("/done", &[]), &requests);
    assert!(lines[0].contains("/reset/***/form") && lines[1].contains("/confirm/***"), "{lines:?}");
    assert!(lines.iter().all(|l| !l.contains("c0ffee") && !l.contains("t0k3n")), "{lines:?}");
}

// ---- one address for many things ------------------------------------------------------------------------------

#[test]
fn one_form_for_name_role_email_and_password_says_only_what_changed() {
    let yaml = r#"
session: { cookies: [SID] }
routes:
  - id: edit
    match: { method: POST, path: "template:/users/{id}" }
    target: { id: path.id }
    compare: { fields: [role, email] }
    rules:
      - { when: { status: 302, form: { password: { empty: false } } }, outcome: success, emit: user.password.changed }
      - { when: { status: 302, form_changed: role }, outcome: success, emit: user.role.updated }
      - { when: { status: 302, form_changed: email }, outcome: success, emit: user.email.changed }
    default: ignore
    emit: user.updated
"#;
    let application = |request: &Message| match request.start().starts_with("GET ") {
        true => page(
            "<form method=post><input name=name value=Carol><input name=email value=c@x.test>\
             <select name=role><option value=reader selected>R</option><option value=admin>A</option></select>\
             <input type=password name=password></form>",
        ),
        false => to("/users", &[]),
    };
    let edit = |fields: &str| form_in_session("/users/4", "SID=boss", fields);
    let requests = [
        // Not seen served: nothing is claimed of a role.
        edit("name=Carol&email=c%40x.test&role=admin&password="),
        sent("GET", "/users/4", "Cookie: SID=boss\r\n"),
        edit("name=Caroline&email=c%40x.test&role=reader&password="),
        edit("name=Carol&email=c%40x.test&role=admin&password="),
        sent("GET", "/users/4", "Cookie: SID=boss\r\n"),
        edit("name=Carol&email=new%40x.test&role=reader&password="),
        edit("name=Carol&email=c%40x.test&role=reader&password=n3w"),
    ];
    let types: Vec<String> =
        seen(yaml, application, &requests).iter().map(|e| at(e, "/event_type").to_owned()).collect();
    assert_eq!(types, ["user.role.updated", "user.email.changed", "user.password.changed"]);
}

#[test]
fn the_keys_of_a_json_patch_tell_what_changed() {
    let yaml = r#"
routes:
  - id: edit
    match: { method: PATCH, path: "template:/api/users/{id}" }
    target: { id: path.id }
    rules:
      - { when: { status: 200, request: { json: { /password: present } } }, outcome: success, emit: user.password.changed }
      - { when: { status: 200, request: { json: { /role: present } } }, outcome: success, emit: user.role.updated }
      - { when: { status: 200, request: { json: { /email: present } } }, outcome: success, emit: user.email.changed }
    default: ignore
    emit: user.updated
"#;
    // The whole account comes back each time, so the answer tells nothing.
    let whole = json!({"name": "Carol", "role": "admin", "email": "c@x.test"});
    let application = move |_: &Message| json_answer("200 OK", &whole);
    let requests =
        [json!({"name": "C"}), json!({"role": "admin"}), json!({"email": "d@x.test"}), json!({"password": "n"})]
            .map(|body| json_with("PATCH", "/api/users/4", &body));
    let types: Vec<String> =
        seen(yaml, application, &requests).iter().map(|e| at(e, "/event_type").to_owned()).collect();
    assert_eq!(types, ["user.role.updated", "user.email.changed", "user.password.changed"]);
}

#[test]
fn a_get_that_changes_state_is_seen_and_the_page_of_the_same_path_is_not() {
    let yaml = r#"
routes:
  - { id: logout, match: { method: GET, path: /logout }, when: { set_cookie: { SID: deleted } }, emit: user.logout }
  - { id: roles, match: { method: GET, path: /users, query: { action: promote, new_role: present } }, fields: { role: query.new_role }, when: { status: 302 }, emit: user.role.updated }
  - { id: confirm, match: { method: GET, path: /confirm, query: { key: present } }, when: { status: 302 }, emit: user.email.verified }
  - { id: consent, match: { method: GET, path: /authorize, query: { approve: "1" } }, when: { status: 302, location.query: { code: present } }, emit: oauth.authorized }
"#;
    let application = |request: &Message| match request.target().as_str() {
        "/logout" => to("/", &["Set-Cookie: SID=; Max-Age=0"]),
        "/authorize?approve=1" => to("https://other.example.test/back?code=c", &[]),
        target if target.contains('?') => to("/users", &[]),
        _ => page("<p>a page</p>"),
    };
    let targets = [
        "/users",
        "/users?action=promote&new_role=editor&users[]=4&users[]=5",
        "/users?action=search&new_role=",
        "/confirm",
        "/confirm?key=k",
        "/authorize",
        "/authorize?approve=1",
        "/authorize?approve=0",
        "/logout",
    ];
    let events = seen(yaml, application, &targets.map(get_page));
    let types: Vec<&str> = events.iter().map(|e| at(e, "/event_type")).collect();
    assert_eq!(types, ["user.role.updated", "user.email.verified", "oauth.authorized", "user.logout"]);
}

#[test]
fn routes_hidden_in_do_route_or_rest_route_of_the_query_are_told_apart() {
    let yaml = r#"
routes:
  - { id: by-do, match: { path: /doku.php, query: { do: logout } }, emit: user.logout }
  - { id: by-route, match: { method: POST, path: /index.php, query: { route: account/password } }, emit: user.password.changed }
  - { id: by-rest-route, match: { method: POST, path: /index.php, query: { rest_route: { glob: /wp/v2/users/* } } }, emit: user.role.updated }
"#;
    let requests = [
        get_page("/doku.php?id=start&do=logout&sectok=x"),
        get_page("/doku.php?id=logout&do=show"),
        form("/index.php?route=account%2Fpassword", "a=b"),
        form("/index.php?route=product%2Fsearch&q=account%2Fpassword", "a=b"),
        form("/index.php?rest_route=%2Fwp%2Fv2%2Fusers%2F5", "roles=editor"),
        form("/index.php?rest_route=/wp/v2/posts/5", "roles=editor"),
    ];
    let events = seen(yaml, |_| page("ok"), &requests);
    let types: Vec<&str> = events.iter().map(|e| at(e, "/event_type")).collect();
    assert_eq!(types, ["user.logout", "user.password.changed", "user.role.updated"]);
}
