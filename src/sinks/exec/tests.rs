use std::path::Path;

use super::*;
use crate::sinks::Sink;
use crate::sinks::http::receiver::{built, problems};
use crate::sinks::net::service::{batch, lines};

fn running(script: &str, more: &str, base: &Path) -> Box<dyn Sink> {
    std::fs::write(base.join("script"), script).unwrap();
    built(&format!("{{ type: exec, command: [sh, script], {more} }}"), base).unwrap()
}

fn written(base: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(base.join("out")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_program_gets_every_event_in_order_and_one_program_serves_all_batches() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"echo x >> starts; while IFS= read -r line; do printf '%s\n' "$line" >> out; echo ok; done"#;
    let sink = running(script, "", folder.path());
    let batch = batch(200);
    for part in batch.chunks(80) {
        let verdict = sink.send(part).await;
        assert!(matches!(verdict, Verdict::Delivered), "{verdict:?}");
    }
    assert_eq!(written(folder.path()), lines(&batch));
    assert_eq!(std::fs::read_to_string(folder.path().join("starts")).unwrap(), "x\n");
}

#[tokio::test]
async fn each_answer_is_about_its_own_event() {
    let folder = tempfile::tempdir().unwrap();
    let script = "n=0; while IFS= read -r line; do n=$((n+1)); printf '%s\\n' \"$line\" >> out; case $n in 2) echo refused bad;; 3) echo retry;; *) echo ok;; esac; done";
    let sink = running(script, "", folder.path());
    let batch = batch(4);
    let verdict = sink.send(&batch).await;
    assert!(
        matches!(&verdict, Verdict::Retry { why, .. } if why.to_string().contains("asks to try again")),
        "{verdict:?}"
    );
    match sink.send(&batch).await {
        Verdict::Refused { which, .. } => assert_eq!(which, [1]),
        verdict => panic!("{verdict:?}"),
    }
    let all = lines(&batch);
    let expected = [all.clone(), vec![all[2].clone()]].concat();
    assert_eq!(written(folder.path()), expected, "only the third was given to it again");
}

/// Lets the wait before the next start pass.
async fn later() {
    tokio::time::pause();
    tokio::time::advance(LONGEST_WAIT).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_program_that_ends_is_started_again_after_a_wait_and_gets_what_it_had_not_answered() {
    let folder = tempfile::tempdir().unwrap();
    let script = "for i in 1 2; do IFS= read -r line; printf '%s\\n' \"$line\" >> out; echo ok; done";
    let sink = running(script, "", folder.path());
    let batch = batch(5);
    let mut retries = 0;
    let mut waited = false;
    while let Verdict::Retry { after, why } = sink.send(&batch).await {
        assert!(!why.to_string().contains("alice"), "{why}");
        waited |= after.is_some_and(|after| after > Duration::ZERO);
        retries += 1;
        assert!(retries < 20, "{why}");
        if after.is_some() {
            later().await;
        }
    }
    assert!(waited, "a program that has just failed is not started at once");
    assert_eq!(written(folder.path()), lines(&batch));
}

#[tokio::test]
async fn a_program_that_says_something_else_is_ended_and_never_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let sink = running("read -r line; echo \"got $line\"; cat > /dev/null", "", folder.path());
    match sink.send(&batch(2)).await {
        Verdict::Retry { why, .. } => {
            let why = why.to_string();
            assert!(
                why.contains("something else than `ok`") && !why.contains("alice") && !why.contains("got"),
                "{why}"
            );
        }
        verdict => panic!("{verdict:?}"),
    }
    let sink = running("cat > /dev/null", "timeout: 100ms", folder.path());
    match sink.send(&batch(1)).await {
        Verdict::Retry { why, .. } => assert!(why.to_string().contains("ack: off"), "{why}"),
        verdict => panic!("{verdict:?}"),
    }
}

#[tokio::test]
async fn a_program_is_given_no_variables_but_those_named() {
    let folder = tempfile::tempdir().unwrap();
    // Cargo sets these for tests.
    let sink = running("env > out; while read -r line; do echo ok; done", "env: CARGO_PKG_NAME", folder.path());
    assert!(matches!(sink.send(&batch(1)).await, Verdict::Delivered));
    let names: Vec<String> =
        written(folder.path()).iter().filter_map(|l| l.split_once('=')).map(|(name, _)| name.to_owned()).collect();
    assert!(names.iter().any(|name| name == "CARGO_PKG_NAME"), "{names:?}");
    assert!(!names.iter().any(|name| name == "CARGO_MANIFEST_DIR"), "{names:?}");
}

#[tokio::test]
async fn without_answers_what_was_written_counts_and_the_program_may_finish() {
    let folder = tempfile::tempdir().unwrap();
    let sink = running("cat > part; mv part out", "ack: off", folder.path());
    let batch = batch(20);
    assert!(matches!(sink.send(&batch).await, Verdict::Delivered));
    drop(sink);
    while !folder.path().join("out").exists() {
        tokio::task::yield_now().await;
    }
    assert_eq!(written(folder.path()), lines(&batch));
}

#[tokio::test]
async fn a_probe_looks_for_the_program_and_does_not_start_it() {
    let folder = tempfile::tempdir().unwrap();
    running("echo > out", "", folder.path()).probe().await.unwrap();
    assert!(!folder.path().join("out").exists());
    for missing in ["no-such-program-anywhere", "./script"] {
        let sink = built(&format!("{{ type: exec, command: [{missing}] }}"), folder.path()).unwrap();
        assert!(sink.probe().await.unwrap_err().to_string().contains("no such program"), "{missing}");
        assert!(matches!(sink.send(&batch(1)).await, Verdict::Retry { .. }));
    }
}

#[test]
fn a_command_is_a_list_and_variables_are_names() {
    for (yaml, expected) in [
        ("command: 'forward --to siem'", "no shell reads it"),
        ("command: []", "names no program"),
        ("command: ['']", "names no program"),
        ("command: [a], env: ['TOKEN=hunter2']", "no name of an environment variable"),
    ] {
        let told = problems(&format!("{{ type: exec, {yaml} }}"));
        assert!(told.contains(expected) && !told.contains("hunter2"), "{yaml}: {told}");
    }
}
