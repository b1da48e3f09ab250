use super::*;
use crate::app::offline::Offline;
use crate::config::settings;
use crate::har;

fn entry(number: usize, path: &str, body: (&str, &str), cookie: &str, answer: (u16, &str, &str)) -> String {
    let (kind, text) = body;
    let (status, headers, page) = answer;
    let (text, page) = (serde_json::Value::from(text), serde_json::Value::from(page));
    format!(
        r#"{{"startedDateTime":"2026-01-15T09:{number:02}:00.000Z","time":10,"request":{{"method":"POST","url":"http://app.example.test{path}",
        "headers":[{{"name":"Cookie","value":"{cookie}"}},{{"name":"Content-Type","value":"{kind}"}}],"postData":{{"mimeType":"{kind}","text":{text}}}}},
        "response":{{"status":{status},"headers":[{headers}],"content":{{"mimeType":"","size":1,"text":{page}}}}}}}"#
    )
}

const HEAD: Head<'_> = Head { upstream: "http://127.0.0.1:8000", listen: None, from: "t.har", presets: true };

fn draft_of(entries: &[String]) -> String {
    let har = format!(r#"{{"log":{{"entries":[{}]}}}}"#, entries.join(","));
    let (config, _) = settings::check("t", "version: 1\nauto: on\n");
    let mut offline = Offline::new(&config.expect("defaults")).expect("offline");
    let recorded = har::read(har.as_bytes(), offline.limits()).expect("HAR");
    draft(&observe(&mut offline, recorded.exchanges), &HEAD)
}

const FORM: &str = "application/x-www-form-urlencoded";
const PAGE: &str = r#"{"name":"Content-Type","value":"text/html"}"#;

fn form_login() -> Vec<String> {
    let again = "<form method=post><input name=who><input type=password name=pw></form>";
    let signed_in =
        r#"{"name":"Location","value":"/home"},{"name":"Set-Cookie","value":"sid=0a1b2c3d4e5f60718293a4b5; HttpOnly"}"#;
    vec![
        entry(1, "/enter", (FORM, "who=alice&pw=wr0ng-hunter22"), "", (200, PAGE, again)),
        entry(2, "/enter", (FORM, "who=alice&pw=hunter22-right"), "", (302, signed_in, "")),
        entry(3, "/enter", (FORM, "who=bob&pw=hunter22-bob"), "", (200, PAGE, again)),
    ]
}

#[test]
fn a_draft_tells_the_outcomes_of_a_login_apart_and_its_own_tests_hold() {
    let text = draft_of(&form_login());
    let (config, problems) = settings::check("t", &text);
    let config = config.unwrap_or_else(|| panic!("{problems}\n{text}"));
    assert!(problems.is_empty(), "{problems}\n{text}");
    assert_eq!(config.rules.routes().len(), 1, "{text}");
    let report = crate::cmd::test::report("t", &config, false);
    assert_eq!((report.ran, report.failed), (2, 0), "{}\n{text}", report.text);
    assert!(text.contains("actor: { login: \"form.who\" }"), "{text}");
    assert!(text.contains("emit: { success: user.login.success, failure: user.login.failed }"), "{text}");
}

#[test]
fn nothing_that_somebody_typed_and_no_cookie_gets_into_a_draft() {
    let json = r#"{"login":"carol@example.test","password":"hunter22-json"}"#;
    let token = r#"{"access_token":"eyJhbGciOiJIUzI1NiJ9.c2VjcmV0LXRva2Vu.c2ln","user":{"id":4711}}"#;
    let kind = r#"{"name":"Content-Type","value":"application/json"}"#;
    let mut entries = form_login();
    entries.push(entry(4, "/api/login", ("application/json", json), "", (200, kind, token)));
    entries.push(entry(5, "/api/login", ("application/json", json), "", (401, kind, r#"{"error":"no"}"#)));
    let text = draft_of(&entries);
    for secret in ["hunter22", "0a1b2c3d", "eyJhbG", "alice&", "carol", "bob", "4711"] {
        assert!(!text.contains(secret), "{secret} in\n{text}");
    }
    let (config, problems) = settings::check("t", &text);
    let config = config.unwrap_or_else(|| panic!("{problems}\n{text}"));
    let report = crate::cmd::test::report("t", &config, false);
    assert!(report.ran >= 4 && report.failed == 0, "{}\n{text}", report.text);
    assert!(text.contains("token: \"response.json:/access_token\""), "{text}");
}

#[test]
fn an_application_with_a_preset_is_given_it() {
    let signed_in = r#"{"name":"Location","value":"/wp-admin/"},{"name":"Set-Cookie","value":"wordpress_logged_in_0a=alice%7C1; path=/; HttpOnly"},
        {"name":"Set-Cookie","value":"wordpress_test_cookie=x"}"#;
    let text = draft_of(&[entry(1, "/wp-login.php", (FORM, "log=alice&pwd=hunter22"), "", (302, signed_in, ""))]);
    assert!(text.contains("presets: [wordpress]"), "{text}");
    let (config, problems) = settings::check("t", &text);
    assert!(config.is_some() && problems.is_empty(), "{problems}");
}

/// An entry of any method, with headers as they are.
fn any(number: usize, asked: (&str, &str, &str, &str), answer: (u16, &[(&str, &str)], &str)) -> String {
    let (method, path, cookie, body) = asked;
    let (status, headers, page) = answer;
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| serde_json::json!({"name": name, "value": value})).collect();
    let kind = if body.starts_with('{') { "application/json" } else { FORM };
    let mut entry = serde_json::json!({
        "startedDateTime": format!("2026-01-15T09:{number:02}:00.000Z"), "time": 10,
        "request": {"method": method, "url": format!("http://app.example.test{path}"), "headers": [
            {"name": "Cookie", "value": cookie}, {"name": "Content-Type", "value": kind}, {"name": "Accept", "value": "text/html"}]},
        "response": {"status": status, "headers": headers, "content": {"mimeType": "", "size": 1, "text": page}},
    });
    if !body.is_empty() {
        entry["request"]["postData"] = serde_json::json!({"mimeType": kind, "text": body});
    }
    entry.to_string()
}

/// A draft that is a configuration without problems, whose tests hold.
fn sound(entries: &[String]) -> String {
    let text = draft_of(entries);
    let (config, problems) = settings::check("t", &text);
    let config = config.unwrap_or_else(|| panic!("{problems}\n{text}"));
    assert!(problems.is_empty(), "{problems}\n{text}");
    let report = crate::cmd::test::report("t", &config, false);
    assert!(report.ran > 0 && report.failed == 0, "{}\n{text}", report.text);
    text
}

const SESSION: &str = "sid=0a1b2c3d4e5f60718293a4b5; HttpOnly; Path=/";
const AGAIN: &str = "<form method=post><input name=who><input type=password name=pw></form>";

#[test]
fn what_is_done_at_one_address_is_told_apart_by_what_was_asked_for() {
    let html = ("Content-Type", "text/html");
    let text = sound(&[
        any(1, ("POST", "/index.php", "", "action=login&who=alice&pw=wr0ng-hunter22"), (200, &[html], AGAIN)),
        any(
            2,
            ("POST", "/index.php", "", "action=login&who=alice&pw=r1ght-hunter22"),
            (302, &[("Location", "/"), ("Set-Cookie", SESSION)], ""),
        ),
        any(
            3,
            ("POST", "/index.php", "", "action=forgot-password&email=alice@x.test"),
            (302, &[("Location", "/sent")], ""),
        ),
        any(
            4,
            ("POST", "/index.php", "sid=0a1b2c3d4e5f60718293a4b5", "action=search&term=boots"),
            (200, &[html], "<a href=/logout>x</a>"),
        ),
        any(
            5,
            ("GET", "/index.php?action=logout", "sid=0a1b2c3d4e5f60718293a4b5", ""),
            (302, &[("Location", "/"), ("Set-Cookie", "sid=; Max-Age=0; Path=/")], ""),
        ),
    ]);
    for expected in [
        "match: { method: POST, path: \"/index.php\", form: { action: \"login\" } }",
        "match: { method: POST, path: \"/index.php\", form: { action: \"forgot-password\" } }",
        "emit: { requested: user.password.reset_requested }",
        "match: { method: GET, path: \"/index.php\" }",
        "{ when: { cookie: { sid: present }, set_cookie: { sid: deleted }, status: 302 }, outcome: success }",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
    for typed in ["boots", "alice@x", "hunter22"] {
        assert!(!text.contains(typed), "{typed} in\n{text}");
    }
}

#[test]
fn where_answers_are_alike_the_page_behind_the_redirect_decides() {
    let html = ("Content-Type", "text/html");
    let login = |number, password: &str| {
        any(
            number,
            ("POST", "/enter", "sid=0a1b2c3d4e5f60718293a4b5", &format!("who=alice&pw={password}")),
            (302, &[("Location", "/next")], ""),
        )
    };
    let page =
        |number, page: &str| any(number, ("GET", "/next", "sid=0a1b2c3d4e5f60718293a4b5", ""), (200, &[html], page));
    let second = |entry: String, at: &str| entry.replace(":00.000Z", at);
    let text = sound(&[
        second(login(1, "wr0ng-hunter22"), ":00.000Z"),
        second(page(1, AGAIN), ":01.000Z"),
        second(login(2, "r1ght-hunter22"), ":00.000Z"),
        second(page(2, "<a href=/logout>out</a>"), ":01.000Z"),
    ]);
    assert!(text.contains("follow: { within: 15s, rules: ["), "{text}");
    assert!(text.contains("next: { response: { status: 200, body: "), "{text}");
}

#[test]
fn a_step_that_does_not_say_who_it_is_is_joined_to_the_one_that_did_by_a_cookie_of_ones_own() {
    let browser = "browser=q8v2n5xk0w3m7z1c4d";
    let asked = |number, cookie: &str, who: &str| {
        any(number, ("POST", "/password/forgot", cookie, &format!("email={who}")), (302, &[("Location", "/sent")], ""))
    };
    let text = sound(&[
        any(
            1,
            ("GET", "/password/forgot", "", ""),
            (200, &[("Content-Type", "text/html"), ("Set-Cookie", "browser=q8v2n5xk0w3m7z1c4d; Path=/")], ""),
        ),
        asked(2, browser, "alice@x.test"),
        any(
            3,
            (
                "POST",
                "/password/reset/9f8e7d6c5b4a39281706",
                browser,
                "new_password=n3w-hunter22&new_password2=n3w-hunter22",
            ),
            (302, &[("Location", "/login")], ""),
        ),
    ]);
    assert_eq!(text.matches("flow: { name: reset, key: \"cookie.browser\", ttl: 1h }").count(), 2, "{text}");
    assert!(text.contains("path: \"template:/password/reset/{token}\""), "{text}");
    assert!(!text.contains("9f8e7d6c") && !text.contains("q8v2n5xk"), "{text}");
}

#[test]
fn fields_of_graphql_are_places_of_their_own() {
    let call = |number, password: &str, answer: &str| {
        let query = format!("mutation {{ signIn(email: \"alice@x.test\", password: \"{password}\") {{ token }} }}");
        any(
            number,
            ("POST", "/graphql", "", &serde_json::json!({"query": query}).to_string()),
            (200, &[("Content-Type", "application/json")], answer),
        )
    };
    let text = sound(&[
        call(
            1,
            "wr0ng-hunter22",
            r#"{"data":{"signIn":null},"errors":[{"message":"no","extensions":{"code":"BAD_CREDENTIALS"}}]}"#,
        ),
        call(2, "r1ght-hunter22", r#"{"data":{"signIn":{"token":"9f8e7d6c5b4a392817061122"}}}"#),
    ]);
    assert!(text.contains("graphql: { operation: mutation, field: \"signIn\" }"), "{text}");
    assert!(text.contains("actor: { login: \"graphql:/email\", email: \"graphql:/email\" }"), "{text}");
    assert!(text.contains("{ when: { graphql: { errors: present } }, outcome: failure"), "{text}");
}

#[test]
fn of_endless_traffic_a_bounded_part_is_held_and_the_draft_is_the_same() {
    let (config, _) = settings::check("t", "version: 1\nauto: on\n");
    let mut offline = Offline::new(&config.expect("defaults")).expect("offline");
    let limits = offline.limits();
    let read = |entries: &[String]| {
        let har = format!(r#"{{"log":{{"entries":[{}]}}}}"#, entries.join(","));
        har::read(har.as_bytes(), limits).expect("HAR").exchanges
    };
    let mut observer = Observer::of_traffic();
    for exchange in read(&form_login()) {
        observer.see(&mut offline, exchange);
    }
    let noise = any(9, ("POST", "/noise/1", "", "a=b"), (200, &[("Content-Type", "application/json")], "{\"n\":1}"));
    for number in 0..12_000 {
        let one = noise.replace("/noise/1", &format!("/noise/n{}", number % 7_000));
        read(&[one]).into_iter().for_each(|exchange| {
            observer.see(&mut offline, exchange);
        });
        assert!(observer.held() <= 10_001);
    }
    assert_eq!(observer.count(), 12_003);
    let (observed, _) = observer.end(&mut offline);
    assert!(observed.seen.len() < 10_000);
    let text = draft(&observed, &HEAD);
    assert!(text.contains("actor: { login: \"form.who\" }"), "{text}");
}
