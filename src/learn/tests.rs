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
