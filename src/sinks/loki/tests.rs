use std::sync::Arc;

use super::*;
use crate::event::Outcome;
use crate::sinks::http::receiver::{Receiver, built, problems, says};
use crate::spool::sample::{login, stored};

#[tokio::test]
async fn labels_are_the_configured_ones_and_the_outcome_and_nothing_of_a_client() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, _| says(204, "")).await;
    let yaml = format!("{{ type: loki, url: {}, labels: {{ job: auth, env: prod }}, tenant: acme }}", receiver.url());
    let mut success = login("bob");
    success.outcome = Outcome::Success;
    let success = Stored { seq: 2, line: success.to_line().into(), event: Arc::new(success) };
    let batch = [stored(1, "alice"), success, stored(3, "eve")];
    assert!(matches!(built(&yaml, folder.path()).unwrap().send(&batch).await, Verdict::Delivered));
    let got = &receiver.got()[0];
    assert_eq!((got.target.as_str(), got.header("x-scope-orgid")), ("/loki/api/v1/push", Some("acme")));
    let body = got.json();
    let streams = body["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 2);
    assert_eq!(streams[0]["stream"], json!({"job": "auth", "env": "prod", "outcome": "failure"}));
    let values = streams[0]["values"].as_array().unwrap();
    assert_eq!(
        (values.len(), &values[1][0], &values[1][1]),
        (2, &json!("1768469537123000000"), &json!(&*batch[2].line))
    );
    assert_eq!(values[0][2], json!({"event_id": batch[0].event.id.to_string(), "event_type": "user.login.failed"}));
}

#[tokio::test]
async fn an_older_loki_gets_no_structured_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, _| says(204, "")).await;
    let sink = built(&format!("{{ type: loki, url: {}, metadata: off }}", receiver.url()), folder.path()).unwrap();
    assert!(matches!(sink.send(&[stored(1, "alice")]).await, Verdict::Delivered));
    assert_eq!(receiver.got()[0].json()["streams"][0]["values"][0].as_array().unwrap().len(), 2);
}

#[test]
fn labels_that_loki_would_not_take_are_refused() {
    let many: Vec<String> = (0..15).map(|n| format!("l{n}: x")).collect();
    for labels in ["{ 'a-b': x }", "{ outcome: x }", "{ 1a: x }", "{}", &format!("{{ {} }}", many.join(", "))] {
        let told = problems(&format!("{{ type: loki, url: https://a.test/, labels: {labels} }}"));
        assert!(told.contains("label"), "{labels}: {told}");
    }
}
