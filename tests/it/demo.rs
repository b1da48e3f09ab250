//! The demo as a whole program: the tour comes out right, and its events are what the schema says.

use serde_json::Value;

use crate::harness::binary::run;

/// As many as the tour has.
const EVENTS: usize = 28;

fn demo(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(folder.path(), arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(std::fs::read_dir(folder.path()).expect("the folder").next().is_none(), "it leaves nothing behind");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn the_tour_gives_every_event_and_exits_with_0() {
    let shown = demo(&["demo", "--drive"]);
    assert_eq!(shown.lines().count(), EVENTS, "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colours where no terminal is");
    assert!(shown.contains("user.login.success") && shown.contains("user.login.failed"), "{shown}");
}

#[test]
fn the_events_are_what_the_schema_says() {
    let schema: Value = serde_json::from_str(&demo(&["schema", "event"])).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is one");
    assert!(
        !validator.is_valid(&serde_json::json!({"event_type": "user.login.success"})),
        "not everything is an event"
    );

    let lines = demo(&["demo", "--drive", "--json"]);
    let mut ids = std::collections::HashSet::new();
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).expect("an event is JSON");
        let wrong: Vec<String> = validator.iter_errors(&event).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(wrong.is_empty(), "{wrong:?} in {line}");
        assert!(ids.insert(event["id"].to_string()), "an id stands twice: {line}");
    }
    assert_eq!(ids.len(), EVENTS);
}

#[test]
fn an_event_with_a_key_that_the_schema_does_not_know_is_refused() {
    let schema: Value = serde_json::from_str(&demo(&["schema", "event"])).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is one");
    let lines = demo(&["demo", "--drive", "--json"]);
    let mut event: Value = serde_json::from_str(lines.lines().next().unwrap_or_default()).expect("an event is JSON");
    event["password"] = "x".into();
    assert!(!validator.is_valid(&event), "the schema is strict, or the test above shows little");
}
