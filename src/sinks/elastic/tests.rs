use std::time::Duration;

use super::*;
use crate::sinks::http::receiver::{Receiver, built, problems, says};
use crate::spool::sample::stored;

fn batch(count: u64) -> Vec<Stored> {
    (1..=count).map(|seq| stored(seq, "alice")).collect()
}

/// The shape of a bulk answer with failed items, as Elasticsearch 8 documents it.
const PARTIAL: &str = r#"{"errors":true,"items":[
    {"create":{"status":201}},
    {"create":{"status":409,"error":{"type":"version_conflict_engine_exception"}}},
    {"create":{"status":400,"error":{"type":"document_parsing_exception"}}},
    {"create":{"status":429,"error":{"type":"es_rejected_execution_exception"}}}]}"#;

#[tokio::test]
async fn each_item_decides_about_its_own_event() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, turn| match turn {
        1 => says(200, PARTIAL),
        _ => says(200, r#"{"errors":false,"items":[]}"#),
    })
    .await;
    let sink = built(
        &format!("{{ type: elasticsearch, url: {}, index: logs-x-y, pipeline: p }}", receiver.url()),
        folder.path(),
    );
    let (sink, batch) = (sink.unwrap(), batch(4));
    match sink.send(&batch).await {
        Verdict::Retry { after, why } => {
            assert_eq!(after, None::<Duration>);
            assert!(why.to_string().contains("429 (es_rejected_execution_exception)"), "{why}");
        }
        verdict => panic!("{verdict:?}"),
    }
    match sink.send(&batch).await {
        Verdict::Refused { which, why } => {
            assert_eq!(which, [2], "what was there already counts as delivered");
            assert!(why.to_string().contains("400 (document_parsing_exception)"), "{why}");
        }
        verdict => panic!("{verdict:?}"),
    }
    let got = receiver.got();
    assert!(got[0].target.starts_with("/logs-x-y/_bulk?filter_path=") && got[0].target.ends_with("&pipeline=p"));
    let (first, second) = (got[0].lines(), got[1].lines());
    assert_eq!((first.len(), second.len()), (8, 2), "only the item that was told to wait is sent again");
    assert_eq!(second[0]["create"]["_id"], batch[3].event.id.to_string());
    assert_eq!(first[1]["@timestamp"], "2026-01-15T09:32:17.123Z");
    assert_eq!(first[1]["user"]["name"], "alice");
}

#[tokio::test]
async fn every_format_makes_a_document_with_a_timestamp() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, _| says(200, r#"{"errors":false,"items":[]}"#)).await;
    for (format, key) in [("native", "event_type"), ("ecs", "ecs"), ("ocsf", "class_uid"), ("cef", "message")] {
        let yaml = format!("{{ type: opensearch, url: {}/prefix, format: {format} }}", receiver.url());
        assert!(matches!(built(&yaml, folder.path()).unwrap().send(&batch(1)).await, Verdict::Delivered));
        let got = receiver.got().pop().unwrap();
        let document = got.lines().remove(1);
        assert_eq!(document["@timestamp"], "2026-01-15T09:32:17.123Z", "{format}");
        assert!(!document[key].is_null(), "{format}");
        assert!(got.target.starts_with("/prefix/logs-authtap-default/_bulk"));
    }
}

#[tokio::test]
async fn what_is_no_bulk_answer_settles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for body in [
        "",
        "ok",
        "{}",
        "[]",
        r#"{"errors":true}"#,
        r#"{"errors":true,"items":[]}"#,
        r#"{"errors":true,"items":[{"create":{}}]}"#,
    ] {
        let receiver = Receiver::start(move |_, _| says(200, body)).await;
        let sink = built(&format!("{{ type: elasticsearch, url: {} }}", receiver.url()), folder.path()).unwrap();
        assert!(matches!(sink.send(&batch(1)).await, Verdict::Retry { .. }), "{body}");
    }
}

#[test]
fn a_name_that_elasticsearch_would_not_take_is_refused() {
    for name in ["Logs", "a b", "-a", "_a", "a/b", "\"\""] {
        let told = problems(&format!("{{ type: elasticsearch, url: https://a.test/, index: {name} }}"));
        assert!(told.contains("`index` cannot be"), "{name}: {told}");
    }
}
