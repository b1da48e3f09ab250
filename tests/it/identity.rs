//! What the identifier policy hides stands nowhere in what leaves the program.

use serde_json::Value;

use crate::harness::{Client, LOGIN, Origin, Proxy, answer, at, form};

fn application() -> Origin {
    Origin::answering(|request| match request.text().contains("password=right") {
        true => answer("302 Found", &["Location: /home", "Set-Cookie: SID=n3w-s3ss10n"], ""),
        false => answer("200 OK", &["Content-Type: text/html"], "<p>Sorry, wrong password</p>"),
    })
}

fn lines(policy: &str, bodies: &[&str]) -> Vec<String> {
    let origin = application();
    let proxy = Proxy::before(origin.address, &format!("{policy}{LOGIN}"));
    let mut client = Client::connect(proxy.address);
    for body in bodies {
        client.send(form("/login", body)).answer("POST");
    }
    proxy.stop_for_lines()
}

fn logins(lines: &[String]) -> Vec<String> {
    let events = lines.iter().map(|l| serde_json::from_str::<Value>(l).expect("an event is JSON"));
    events.map(|e| at(&e, "/actor/login").to_owned()).collect()
}

#[test]
fn a_name_that_is_hashed_on_failure_stands_in_no_line_and_is_one_in_all_spellings() {
    let guesses = ["username=Alice.Smith&password=a", "username=+alice.smith+&password=b", "username=bob&password=c"];
    let lines = lines("identity: { on_failure: hmac }", &guesses);
    let shown = logins(&lines);
    assert!(shown[0].starts_with("h_") && shown[0] == shown[1] && shown[1] != shown[2], "{shown:?}");
    assert!(lines.iter().all(|l| !l.to_lowercase().contains("alice") && !l.contains("bob")), "{lines:?}");
}

#[test]
fn a_password_typed_into_the_user_field_stands_in_no_line() {
    let lines = lines("", &["username=Tr0ub4dor%263&password=x", "username=alice&password=right"]);
    assert_eq!(logins(&lines), ["***", "alice"]);
    assert!(lines.iter().all(|l| !l.contains("Tr0ub4dor")), "{lines:?}");
}

#[test]
fn a_session_knows_its_actor_though_events_may_not_say_it() {
    let policy = "identity: { on_success: drop, on_failure: mask }";
    let origin = application();
    let settings = LOGIN.replace(
        "routes:",
        "routes:\n  - { id: mail, match: { path: /mail }, when: { session: known }, emit: user.email.changed }",
    );
    let proxy = Proxy::before(origin.address, &format!("{policy}{settings}"));
    let mut client = Client::connect(proxy.address);
    client.send(form("/login", "username=alice&password=right")).answer("POST");
    client.send("GET /mail HTTP/1.1\r\nHost: a\r\nCookie: SID=n3w-s3ss10n\r\n\r\n").answer("GET");
    let lines = proxy.stop_for_lines();
    assert_eq!(lines.len(), 2, "the session is known: {lines:?}");
    assert!(lines.iter().all(|l| !l.contains("alice")), "{lines:?}");
}
