//! Recorded traffic with the real program: what it gives, and why.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::harness::binary::{Running, run};
use crate::harness::{Origin, answer, ask, form};

const CONFIG: &str = "version: 1
session: { cookies: [sid] }
routes:
  - id: login
    match: { method: POST, path: /login }
    actor: { login: form.user }
    rules:
      - { name: back, when: { location.path: /login }, outcome: failure, reason: invalid_credentials }
      - { name: in, when: { status: 30x, set_cookie: { sid: changed } }, outcome: success }
    emit: { success: user.login.success, failure: user.login.failed }
  - { id: logout, match: { method: POST, path: /logout }, emit: user.logout, when: { status: 30x } }
";

/// One entry: when, what was sent and what came.
fn entry(second: u32, path: &str, form: &str, cookie: &str, answer: &str) -> String {
    format!(
        r#"{{"startedDateTime":"2026-01-15T09:32:{second:02}.000Z","time":10,"request":{{"method":"POST","url":"https://app.example.test{path}",
        "headers":[{{"name":"cookie","value":"{cookie}"}},{{"name":"content-type","value":"application/x-www-form-urlencoded"}}],
        "postData":{{"mimeType":"application/x-www-form-urlencoded","text":"{form}"}}}},
        "response":{{"status":302,"headers":[{answer}],"content":{{"size":0}}}}}}"#
    )
}

pub fn recording(folder: &Path) {
    let header = |name: &str, value: &str| format!(r#"{{"name":"{name}","value":"{value}"}}"#);
    let entries = [
        entry(1, "/login", "user=alice&pw=wrong-hunter22", "sid=a", &header("location", "/login")),
        entry(
            2,
            "/login",
            "user=alice&pw=hunter22",
            "sid=a",
            &format!("{},{}", header("location", "/"), header("set-cookie", "sid=b-secret; Path=/")),
        ),
        entry(3, "/logout", "", "sid=b-secret", &header("location", "/")),
    ];
    let har = format!(r#"{{"log":{{"version":"1.2","entries":[{}]}}}}"#, entries.join(","));
    std::fs::write(folder.join("traffic.har"), har).expect("written");
    std::fs::write(folder.join("routes.yaml"), CONFIG).expect("written");
}

fn lines(output: &Output) -> Vec<Value> {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("hunter22") && !text.contains("b-secret"), "{text}");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_recording_gives_the_events_that_its_traffic_would_have_given_at_its_time() {
    let folder = tempfile::tempdir().expect("a folder");
    recording(folder.path());
    let events = lines(&run(folder.path(), &["replay", "traffic.har", "--config", "routes.yaml"]));
    let said: Vec<_> = events
        .iter()
        .map(|e| {
            ["/timestamp", "/event_type", "/actor/login"].map(|p| e.pointer(p).and_then(Value::as_str).unwrap_or("-"))
        })
        .collect();
    assert_eq!(
        said,
        [
            ["2026-01-15T09:32:01.000Z", "user.login.failed", "alice"],
            ["2026-01-15T09:32:02.000Z", "user.login.success", "alice"],
            ["2026-01-15T09:32:03.000Z", "user.logout", "alice"],
        ]
    );
}

#[test]
fn explain_names_the_leaf_that_failed_and_what_was_there_instead() {
    let folder = tempfile::tempdir().expect("a folder");
    recording(folder.path());
    let output = run(folder.path(), &["explain", "traffic.har", "--config", "routes.yaml", "--only", "/login"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("1 POST /login -> 302\n  route login: decided by back, failure"), "{text}");
    assert!(text.contains("    rule back (failure (invalid_credentials)) does not hold\n      location.path: expected `/login`, found /\n"), "{text}");
    assert!(!text.contains("/logout"), "{text}");
    let told = lines(&run(folder.path(), &["explain", "traffic.har", "--config", "routes.yaml", "--json"]));
    assert_eq!(told.len(), 3);
    assert_eq!(told[1]["routes"][0]["decided"], "in, success");
    assert_eq!(told[1]["events"][0]["event_type"], "user.login.success");
}

#[test]
fn explain_says_that_no_exchange_has_the_path() {
    let folder = tempfile::tempdir().expect("a folder");
    recording(folder.path());
    let output = run(folder.path(), &["explain", "traffic.har", "--config", "routes.yaml", "--only", "/nowhere"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{said}");
    assert!(said.contains("no exchange of traffic.har has the path /nowhere: --only takes the whole path"), "{said}");
    let found = run(folder.path(), &["explain", "traffic.har", "--only", "/logout"]);
    assert!(!found.stdout.is_empty() && found.stderr.is_empty(), "{}", String::from_utf8_lossy(&found.stderr));
}

#[test]
fn coverage_says_which_names_a_configuration_can_emit_and_by_what() {
    let folder = tempfile::tempdir().expect("a folder");
    recording(folder.path());
    let rows = lines(&run(folder.path(), &["coverage", "--config", "routes.yaml", "--json"]));
    let by = |name: &str| rows.iter().find(|row| row["event_type"] == name).expect("a row").clone();
    assert_eq!(by("user.login.failed")["by"], serde_json::json!(["login"]));
    assert_eq!(by("user.login.failed")["tier"], "must");
    assert_eq!(by("api_key.created")["covered"], false);
    let table = run(folder.path(), &["coverage"]);
    let text = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(text.starts_with("must: 2 of "), "{text}");
    assert!(text.contains("  + user.logout ") && text.contains("  - user.deleted "), "{text}");
}

#[test]
fn coverage_counts_only_what_a_reachable_rule_can_give() {
    let folder = tempfile::tempdir().expect("a folder");
    let routes = "version: 1
session: { cookies: [sid], events: [created, revoked] }
routes:
  - id: login
    match: { method: POST, path: /login }
    rules:
      - { when: { location.path: /login }, outcome: failure }
      - { when: { status: 30x }, outcome: success, also: session.created }
      - { outcome: ignore, also: user.locked }
      - { outcome: challenge }
    emit: { success: user.login.success, failure: user.login.failed, rejected: user.locked }
  - { id: late, match: { method: POST, path: /login }, emit: user.created }
  - id: followed
    match: { method: POST, path: /in }
    rules:
      - when: { status: 30x }
        follow: { rules: [{ when: { path: /home }, outcome: success }, { outcome: failure, emit: user.login.rejected }, { outcome: failure, emit: user.deleted }] }
    default: ignore
    emit: { success: user.password.changed, unknown: user.login.unknown }
  - { id: out, match: { method: POST, path: /logout }, rules: [{ when: { status: 403 }, outcome: failure }], emit: { success: user.logout } }
";
    std::fs::write(folder.path().join("routes.yaml"), routes).expect("written");
    let rows = lines(&run(folder.path(), &["coverage", "--config", "routes.yaml", "--json"]));
    let covered: Vec<_> = rows.iter().filter(|row| row["covered"] == true).collect();
    let by: Vec<_> = covered.iter().map(|row| (row["event_type"].as_str(), row["by"].clone())).collect();
    for (name, who) in [
        ("user.login.success", "login"),
        ("user.login.failed", "login"),
        ("user.login.rejected", "followed"),
        ("user.password.changed", "followed"),
    ] {
        assert!(by.contains(&(Some(name), serde_json::json!([who]))), "{name}: {by:?}");
    }
    // A cut body or a missing answer leaves it open.
    assert!(by.contains(&(Some("user.login.unknown"), serde_json::json!(["login", "followed"]))), "{by:?}");
    assert!(by.iter().any(|(name, _)| *name == Some("session.revoked")), "{by:?}");
    let cannot = ["user.mfa.challenge.requested", "user.locked", "user.created", "user.deleted", "user.logout"];
    assert!(by.iter().all(|(name, _)| !cannot.contains(&name.unwrap_or_default())), "{by:?}");
}

#[test]
fn coverage_without_a_login_has_no_sessions() {
    let folder = tempfile::tempdir().expect("a folder");
    let routes = "version: 1\nsession: { events: [created, revoked] }\nroutes: [{ id: out, match: { method: POST, path: /logout }, emit: user.logout }]\n";
    std::fs::write(folder.path().join("routes.yaml"), routes).expect("written");
    let rows = lines(&run(folder.path(), &["coverage", "--config", "routes.yaml", "--json"]));
    let covered: Vec<_> = rows.iter().filter(|row| row["covered"] == true).map(|row| &row["event_type"]).collect();
    assert_eq!(covered, ["user.logout"]);
}

#[test]
fn explain_shows_every_call_of_a_batch() {
    let folder = tempfile::tempdir().expect("a folder");
    let routes = "version: 1
routes:
  - id: login
    match: { method: POST, path: /graphql, graphql: { field: signIn } }
    actor: { login: graphql.email }
    rules:
      - { name: wrong, when: { graphql: { errors: present } }, outcome: failure, reason: invalid_credentials }
      - { name: signed-in, when: { graphql: { data: present } }, outcome: success }
    emit: { success: user.login.success, failure: user.login.failed }
";
    std::fs::write(folder.path().join("routes.yaml"), routes).expect("written");
    let query = "mutation { hello a: signIn(email: \"a@x.test\", password: \"hunter22\") { id } b: signIn(email: \"b@x.test\", password: \"hunter22\") { id } }";
    let har = serde_json::json!({"log": {"version": "1.2", "entries": [{
        "startedDateTime": "2026-01-15T09:32:01.000Z", "time": 10,
        "request": {"method": "POST", "url": "https://app.example.test/graphql",
                    "headers": [{"name": "content-type", "value": "application/json"}],
                    "postData": {"mimeType": "application/json", "text": serde_json::json!({"query": query}).to_string()}},
        "response": {"status": 200, "headers": [{"name": "content-type", "value": "application/json"}],
                     "content": {"size": 1, "mimeType": "application/json",
                                 "text": "{\"data\":{\"hello\":1,\"a\":null,\"b\":{\"id\":7}},\"errors\":[{\"path\":[\"a\"],\"message\":\"no\"}]}"}},
    }]}});
    std::fs::write(folder.path().join("traffic.har"), har.to_string()).expect("written");
    let output = run(folder.path(), &["explain", "traffic.har", "--config", "routes.yaml"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("  call 1 of 3: hello\n  route login: not about this request\n"), "{text}");
    assert!(
        text.contains("  call 2 of 3: signIn\n  route login: decided by wrong, failure (invalid_credentials)\n"),
        "{text}"
    );
    assert!(text.contains("  call 3 of 3: signIn\n  route login: decided by signed-in, success\n"), "{text}");
    let told = lines(&run(folder.path(), &["explain", "traffic.har", "--config", "routes.yaml", "--json"]));
    assert_eq!(told[0]["routes"][2]["call"], serde_json::json!({"number": 3, "of": 3, "name": "signIn"}));
    assert_eq!(told[0]["events"].as_array().map(Vec::len), Some(2));
}

#[test]
fn coverage_counts_what_the_history_has_since_then() {
    let origin = Origin::answering(|_| answer("302 Found", &["Location: /", "Set-Cookie: sid=b; Path=/"], ""));
    let folder = tempfile::tempdir().expect("a folder");
    recording(folder.path());
    let upstream = format!("http://{}", origin.address);
    let (mut running, address, _) =
        Running::start(folder.path(), &["--config", "routes.yaml", "--upstream", &upstream, "--data", "data"]);
    for _ in 0..2 {
        ask(address, form("/login", "user=alice&pw=hunter22"));
    }
    running.signal("TERM");
    assert_eq!(running.await_end().code(), Some(0));
    let observed_in = |of: &[&str], since: &str| {
        let arguments = [&["coverage", "--observed", "--since", since, "--json"], of].concat();
        let rows = lines(&run(folder.path(), &arguments));
        let count = |name: &str| rows.iter().find(|row| row["event_type"] == name).expect("a row")["observed"].clone();
        (count("user.login.success"), count("user.login.failed"))
    };
    let observed = |since: &str| observed_in(&["--config", "routes.yaml", "--data", "data"], since);
    assert_eq!(observed("1d"), (2.into(), 0.into()));
    // The folder that the file names, beside the file.
    std::fs::create_dir(folder.path().join("conf")).expect("a folder");
    let beside = format!("{CONFIG}data: ../data\n");
    std::fs::write(folder.path().join("conf/routes.yaml"), beside).expect("written");
    assert_eq!(observed_in(&["--config", "conf/routes.yaml"], "1d"), (2.into(), 0.into()));
    assert_eq!(observed("2999-01-01T00:00:00Z"), (0.into(), 0.into()), "nothing since then");
    let table = run(folder.path(), &["coverage", "--config", "routes.yaml", "--observed", "--data", "data"]);
    let table = String::from_utf8_lossy(&table.stdout);
    assert!(
        table.lines().any(|line| line.contains("+ user.login.success") && line.contains("       2  login")),
        "{table}"
    );
}

#[test]
fn a_file_that_is_no_recording_is_wrong_usage() {
    let folder = tempfile::tempdir().expect("a folder");
    recording(folder.path());
    for wrong in ["routes.yaml", "missing.har"] {
        assert_eq!(run(folder.path(), &["replay", wrong]).status.code(), Some(2), "{wrong}");
    }
    let empty = tempfile::tempdir().expect("a folder");
    assert_eq!(run(empty.path(), &["replay", "."]).status.code(), Some(2));
}

#[test]
fn of_a_folder_the_recording_that_is_broken_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    recording(folder.path());
    std::fs::write(folder.path().join("zz-broken.har"), "{\"log\":\nhunter22").expect("written");
    for command in
        [&["replay", "."][..], &["explain", "."], &["test", "."], &["learn", "--from", ".", "-o", "draft.yaml"]]
    {
        let output = run(folder.path(), command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {said}");
        assert!(said.contains("zz-broken.har is not a HAR file (line 2, column 1)"), "{command:?}: {said}");
        assert!(!said.contains("hunter22"), "{said}");
    }
}
