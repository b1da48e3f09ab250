use serde_json::json;

use super::*;
use crate::sinks::http::receiver::{Got, Receiver, Says, built, problems, says};
use crate::spool::sample::stored;

async fn with(
    script: impl Fn(&Got, usize) -> Says + Send + Sync + 'static,
) -> (Receiver, Box<dyn Sink>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "lsk_1").unwrap();
    let receiver = Receiver::start(script).await;
    let sink = built(&format!("{{ type: litesoc, url: {}, token_file: key }}", receiver.url()), folder.path()).unwrap();
    (receiver, sink, folder)
}

#[tokio::test]
async fn a_request_has_at_most_a_hundred_events_under_the_names_of_the_api() {
    let (receiver, sink, _folder) = with(|_, _| says(202, r#"{"success":true}"#)).await;
    let batch: Vec<Stored> = (1..=201).map(|seq| stored(seq, "alice")).collect();
    assert!(matches!(sink.send(&batch).await, Verdict::Delivered));
    let got = receiver.got();
    let sizes: Vec<_> = got.iter().map(|got| got.json()["events"].as_array().map_or(1, Vec::len)).collect();
    assert_eq!(sizes, [100, 100, 1]);
    assert_eq!((got[0].target.as_str(), got[0].header("x-api-key")), ("/collect", Some("lsk_1")));
    let one = &got[2].json();
    assert_eq!((&one["event"], &one["actor"]["id"]), (&json!("auth.login_failed"), &json!("alice")));
    assert_eq!(one["metadata"]["occurred_at"], "2026-01-15T09:32:17.123Z");
    assert_eq!(got[2].header("x-idempotency-key"), Some(batch[200].event.id.to_string().as_str()));
}

#[tokio::test]
async fn an_event_that_is_not_accepted_is_found_and_no_success_is_no_delivery() {
    let script = |got: &Got, _: usize| {
        let count = got.json()["events"].as_array().map_or(1, Vec::len);
        let bad = got.body.matches("mallory").count().min(1);
        says(202, &json!({"success": true, "events_accepted": count - bad}).to_string())
    };
    let (_receiver, sink, _folder) = with(script).await;
    let batch = [stored(1, "alice"), stored(2, "mallory"), stored(3, "bob")];
    assert!(matches!(sink.send(&batch).await, Verdict::Refused { which, .. } if which == [1]));
    let (_receiver, sink, _folder) = with(|_, _| says(200, r#"{"success":false,"error":"busy"}"#)).await;
    assert!(matches!(sink.send(&batch).await, Verdict::Retry { .. }));
}

#[test]
fn another_format_is_refused() {
    let told = problems("{ type: litesoc, token_env: KEY, format: cef }");
    assert!(told.contains("unknown key `format`"), "{told}");
}
