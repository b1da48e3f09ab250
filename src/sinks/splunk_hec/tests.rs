use super::*;
use crate::sinks::http::receiver::{Got, Receiver, Says, built, problems, says};
use crate::spool::sample::stored;

const YAML: &str = "token_file: token, index: auth, ack: on, ack_interval: 1ms, ack_timeout: 20ms";

async fn with(
    script: impl Fn(&Got, usize) -> Says + Send + Sync + 'static,
    yaml: &str,
) -> (Receiver, Box<dyn Sink>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "t-1").unwrap();
    let receiver = Receiver::start(script).await;
    let sink = built(&format!("{{ type: splunk_hec, url: {}, {yaml} }}", receiver.url()), folder.path()).unwrap();
    (receiver, sink, folder)
}

#[tokio::test]
async fn events_are_wrapped_with_their_own_time() {
    let (receiver, sink, _folder) =
        with(|_, _| says(200, r#"{"text":"Success","code":0}"#), "token_file: token, host: h").await;
    assert!(matches!(sink.send(&[stored(1, "alice"), stored(2, "bob")]).await, Verdict::Delivered));
    let got = &receiver.got()[0];
    assert_eq!((got.target.as_str(), got.header("authorization")), (PATH, Some("Splunk t-1")));
    let wrapped = got.lines();
    assert_eq!(wrapped[1]["time"], 1_768_469_537.123);
    assert_eq!((&wrapped[1]["sourcetype"], &wrapped[1]["host"]), (&json!("authtap:event"), &json!("h")));
    assert_eq!(wrapped[1]["event"]["actor"]["login"], "bob");
    let (receiver, sink, _folder) = with(|_, _| says(200, "{}"), "token_file: token, format: cef").await;
    assert!(matches!(sink.send(&[stored(1, "alice")]).await, Verdict::Delivered));
    assert!(receiver.got()[0].json()["event"].as_str().unwrap().starts_with("CEF:0|"));
}

#[tokio::test]
async fn with_acknowledgement_an_event_is_delivered_when_an_indexer_says_so() {
    let script = |got: &Got, turn: usize| match got.target.starts_with("/services/collector/ack?channel=") {
        true => says(200, &format!(r#"{{"acks":{{"7":{}}}}}"#, turn >= 4)),
        false => says(200, r#"{"text":"Success","code":0,"ackId":7}"#),
    };
    let (receiver, sink, _folder) = with(script, "token_file: token, ack: on, ack_interval: 1ms").await;
    assert!(matches!(sink.send(&[stored(1, "alice")]).await, Verdict::Delivered));
    let got = receiver.got();
    assert_eq!(got.len(), 4, "sent once, asked three times");
    assert_eq!(got[1].json(), json!({"acks": [7]}));
    let channel = got[0].header("x-splunk-request-channel").unwrap();
    assert!(got[1].target.ends_with(channel));
}

#[tokio::test]
async fn what_is_never_acknowledged_is_tried_again() {
    let never = |got: &Got, _: usize| match got.target.starts_with(PATH) {
        true => says(200, r#"{"code":0,"ackId":0}"#),
        false => says(200, r#"{"acks":{"0":false}}"#),
    };
    let (_receiver, sink, _folder) = with(never, YAML).await;
    match sink.send(&[stored(1, "alice")]).await {
        Verdict::Retry { why, .. } => assert!(why.to_string().contains("no indexer acknowledged"), "{why}"),
        verdict => panic!("{verdict:?}"),
    }
    let (_receiver, sink, _folder) = with(|_, _| says(200, r#"{"code":0}"#), YAML).await;
    assert!(matches!(sink.send(&[stored(1, "alice")]).await, Verdict::Retry { .. }), "no promise is no delivery");
}

#[tokio::test]
async fn a_wrong_index_is_the_configurations_fault_and_a_bad_event_its_own() {
    for (code, retried) in [(7, true), (10, true), (14, true), (6, false), (12, false)] {
        let answer = format!(r#"{{"text":"x","code":{code}}}"#);
        let (_receiver, sink, _folder) = with(move |_, _| says(400, &answer), "token_file: token").await;
        let verdict = sink.send(&[stored(1, "alice")]).await;
        assert_eq!(matches!(verdict, Verdict::Retry { .. }), retried, "{code}: {verdict:?}");
    }
}

#[test]
fn a_token_is_needed_and_times_must_fit() {
    let told = problems("{ type: splunk_hec, url: https://a.test/ }");
    assert!(told.contains("a token is needed"), "{told}");
    let told = problems("{ type: splunk_hec, url: https://a.test/, token_env: A, ack: on, ack_interval: 2m }");
    assert!(told.contains("do not fit together"), "{told}");
}
