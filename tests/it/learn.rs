//! Learning from live traffic with the real program: the draft, the recording beside it, and folders of
//! recordings as tests.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::binary::{Running, authtap, run};
use crate::harness::{Client, Origin, answer, form};

/// An application with a login form at a place and with names of its own.
fn application() -> Origin {
    Origin::answering(|request| {
        let page = "<form method=post><input name=wer><input type=password name=kennung></form>";
        let body = request.text();
        match (request.target().as_str(), body.contains("r1ght-hunter22")) {
            ("/tor", true) => answer(
                "302 Found",
                &["Location: /innen", "Set-Cookie: laden=0a1b2c3d4e5f60718293a4b5c6; HttpOnly; Path=/"],
                "",
            ),
            ("/tor", false) => answer("200 OK", &["Content-Type: text/html"], page),
            ("/abmelden", _) => answer("302 Found", &["Location: /", "Set-Cookie: laden=; Max-Age=0; Path=/"], ""),
            _ => answer("200 OK", &["Content-Type: text/html"], "<a href=/abmelden>x</a>"),
        }
    })
}

fn visit(client: &mut Client) {
    let cookie = "Cookie: laden=0a1b2c3d4e5f60718293a4b5c6\r\n";
    client.send("GET /tor HTTP/1.1\r\nHost: app.example.test\r\nAccept: text/html\r\n\r\n").answer("GET");
    client.send(form("/tor", "wer=zenobia&kennung=wr0ng-hunter22")).answer("POST");
    client.send(form("/tor", "wer=zenobia&kennung=r1ght-hunter22")).answer("POST");
    client
        .send(format!("GET /innen HTTP/1.1\r\nHost: app.example.test\r\nAccept: text/html\r\n{cookie}\r\n"))
        .answer("GET");
    client
        .send(format!("POST /abmelden HTTP/1.1\r\nHost: app.example.test\r\nContent-Length: 0\r\n{cookie}\r\n"))
        .answer("POST");
}

#[test]
fn what_was_seen_once_was_not_seen_1_times() {
    let folder = tempfile::tempdir().expect("a folder");
    crate::recorded::recording(folder.path());
    let traffic = std::fs::read_to_string(folder.path().join("traffic.har")).expect("the recording");
    let mut traffic: serde_json::Value = serde_json::from_str(&traffic).expect("JSON");
    // The login that was right alone.
    traffic["log"]["entries"].as_array_mut().expect("entries").drain(..1);
    std::fs::write(folder.path().join("once.har"), traffic.to_string()).expect("written");
    for (recording, seen) in [("traffic.har", "# Seen 2 times."), ("once.har", "# Seen once.")] {
        let output = format!("{recording}.yaml");
        let (ended, said) = code(folder.path(), &["learn", "--from", recording, "-o", &output]);
        assert_eq!(ended, Some(0), "{said}");
        let draft = std::fs::read_to_string(folder.path().join(output)).expect("the draft");
        assert!(draft.contains(seen) && !draft.contains("Seen 1 times"), "{draft}");
    }
}

fn code(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(folder, arguments);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_visit_becomes_a_draft_whose_tests_hold_and_a_recording_without_secrets() {
    let origin = application();
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let upstream = format!("http://{}", origin.address);
    let arguments =
        ["learn", "--listen", "127.0.0.1:0", "--upstream", &upstream, "--out", "draft.yaml", "--record", "seen"];
    let mut running = Running::spawn(&mut authtap(at, &arguments));
    let mut client = Client::connect(running.await_address("listening"));
    visit(&mut client);
    running.await_line("user.login.failed was recognised");
    running.signal("TERM");
    running.await_line("recorded 5 exchanges without their secrets in 1 files");
    assert_eq!(running.await_end().code(), Some(0));
    assert_eq!(origin.requests().len(), 5, "everything passed");

    let draft = std::fs::read_to_string(at.join("draft.yaml")).expect("the draft");
    assert!(draft.contains("match: { method: POST, path: \"/tor\" }"), "{draft}");
    assert!(
        draft.contains("actor: { login: \"form.wer\" }")
            && draft.contains("emit: { success: user.login.success, failure: user.login.failed }"),
        "{draft}"
    );
    assert_eq!(code(at, &["test", "draft.yaml"]).0, Some(0));
    let recording = at.join("seen/00001.har");
    assert_eq!(std::fs::metadata(&recording).expect("recorded").permissions().mode() & 0o777, 0o600);
    let recorded = std::fs::read_to_string(&recording).expect("recorded");
    for secret in ["hunter22", "zenobia", "0a1b2c3d4e5f", "93a4b5c6"] {
        assert!(!recorded.contains(secret) && !draft.contains(secret), "{secret}");
    }

    // The recording decides as the traffic did, under the draft too.
    let (verified, said) = code(at, &["learn", "--from", "seen", "-o", "draft.yaml", "--verify"]);
    assert_eq!(verified, Some(0), "{said}");
    assert!(said.contains("3 of the 3 events that auto sees, 0 missed"), "{said}");
}

#[test]
fn learn_verify_says_what_a_file_misses() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    crate::recorded::recording(at);
    std::fs::write(at.join("poor.yaml"), "version: 1\nroutes:\n  - { id: login, match: { method: POST, path: /login }, when: { location: { path: / } }, emit: user.login.success }\n").expect("written");
    let (ended, said) = code(at, &["learn", "--from", "traffic.har", "-o", "poor.yaml", "--verify"]);
    assert_eq!(ended, Some(3), "{said}");
    assert!(said.contains("1 POST /login\n  missed       user.login.failed failure by alice\n"), "{said}");
    let (ended, said) = code(at, &["learn", "--from", "traffic.har", "-o", "poor.yaml", "--verify", "--json"]);
    assert_eq!(ended, Some(3), "{said}");
    let last: serde_json::Value = serde_json::from_str(said.lines().last().expect("a line")).expect("JSON");
    assert!(last["missed"].as_u64() > Some(0), "{last}");
}

#[test]
fn learning_ends_with_its_time_and_never_writes_over_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let arguments = ["learn", "--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:9", "--for", "50ms"];
    let (ended, said) = code(at, &arguments);
    assert_eq!(ended, Some(1), "{said}");
    assert!(said.contains("no exchange was seen, so nothing is written: send the application's traffic"), "{said}");
    assert!(!at.join("routes.yaml").exists(), "an empty draft helps nobody");
    std::fs::write(at.join("routes.yaml"), "version: 1\n").expect("written");
    let (ended, said) = code(at, &arguments);
    assert_eq!(ended, Some(2), "{said}");
    assert!(said.contains("it is there already; name another with -o"), "{said}");
    let (ended, said) = code(at, &["learn", "--verify", "--record", "seen"]);
    assert_eq!(ended, Some(2), "{said}");
    assert!(said.contains("authtap learn --from seen --output routes.yaml --verify"), "{said}");
    assert_eq!(code(at, &["learn", "-o", "other.yaml", "--for", "soon"]).0, Some(2));
    let (ended, said) = code(at, &["learn", "-o", "other.yaml", "--verify"]);
    assert_eq!(ended, Some(2), "there is nothing to verify with: {said}");
    assert!(said.contains("write one with --record DIR, or name one with --from"), "{said}");
}

#[test]
fn a_recording_without_an_exchange_is_no_draft() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("empty.har"), r#"{"log":{"entries":[]}}"#).expect("written");
    let (ended, said) = code(folder.path(), &["learn", "--from", "empty.har"]);
    assert_eq!(ended, Some(1), "{said}");
    assert!(said.contains("empty.har holds no exchange, so nothing is written"), "{said}");
    assert!(!folder.path().join("routes.yaml").exists());
}

#[test]
fn a_folder_of_recordings_is_a_test_of_the_routes() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let fixtures = at.join("fixtures");
    std::fs::create_dir(&fixtures).expect("a folder");
    crate::recorded::recording(&fixtures);
    let (ended, said) = code(at, &["test", "fixtures"]);
    assert_eq!(ended, Some(2), "{said}");
    assert!(said.contains("write it with --bless"), "{said}");
    assert_eq!(code(at, &["test", "fixtures", "--bless"]).0, Some(0));
    let (ended, said) = code(at, &["test", "fixtures"]);
    assert_eq!((ended, said.as_str()), (Some(0), "fixtures: 3 events expected of 3 exchanges, 0 exchanges differ\n"));

    // What a line does not name may be anything; what it names must be so.
    let expected = fixtures.join("expected.jsonl");
    let lines = "{\"exchange\":1,\"event_type\":\"user.login.failed\",\"actor\":{\"login\":\"alice\"}}\n{\"exchange\":2,\"event_type\":\"user.login.failed\"}\n{\"exchange\":3,\"rule\":\"logout/when\"}\n";
    std::fs::write(&expected, lines).expect("written");
    let (ended, said) = code(at, &["test", "fixtures", "--config", "fixtures/routes.yaml"]);
    assert_eq!(ended, Some(3), "{said}");
    assert!(said.starts_with("FAIL  2 POST /login\n      expected event_type user.login.failed\n      found    actor {\"login\":\"alice\"}, event_type user.login.success, "), "{said}");
    assert!(!said.contains("hunter22") && said.contains("1 exchanges differ"), "{said}");
    let (ended, said) = code(at, &["test", "fixtures", "--json"]);
    assert_eq!(ended, Some(3), "{said}");
    let told: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(told.iter().map(|line| line["ok"].as_bool()).collect::<Vec<_>>(), [Some(true), Some(false), Some(true)]);
    std::fs::write(&expected, "{\"exchange\":1,\"password\":\"x\"}\n").expect("written");
    assert_eq!(code(at, &["test", "fixtures"]).0, Some(2), "a key that is not compared");
}
