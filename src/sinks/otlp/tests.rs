use std::sync::Arc;

use super::*;
use crate::event::Text;
use crate::event::sample::login;
use crate::protobuf::Fields;
use crate::sinks::http::receiver::{Receiver, built, says};
use crate::spool::sample::stored;

#[tokio::test]
async fn a_record_is_what_the_protocol_says_in_json() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, _| says(200, "{}")).await;
    let yaml = format!("{{ type: otlp, url: {}, resource: {{ deployment.environment.name: prod }} }}", receiver.url());
    let mut event = login("alice");
    if let Some(request) = &mut event.metadata.request {
        request.trace_id = Text::other("0af7651916cd43dd8448eb211c80319c");
    }
    event.metadata.fields = vec![(Text::fixed("remember"), Text::fixed("on"))];
    let one = Stored { seq: 1, line: event.to_line().into(), event: Arc::new(event) };
    assert!(matches!(built(&yaml, folder.path()).unwrap().send(std::slice::from_ref(&one)).await, Verdict::Delivered));
    let got = &receiver.got()[0];
    assert_eq!((got.target.as_str(), got.header("content-type")), ("/v1/logs", Some("application/json")));
    let body = got.json();
    let logs = &body["resourceLogs"][0];
    assert_eq!(logs["resource"]["attributes"][0]["key"], "deployment.environment.name");
    assert_eq!(logs["resource"]["attributes"][1], json!({"key": "service.name", "value": {"stringValue": "authtap"}}));
    let record = &logs["scopeLogs"][0]["logRecords"][0];
    assert_eq!(record["timeUnixNano"], "1768469537123000000", "64-bit numbers are texts");
    assert_eq!(record["eventName"], "user.login.failed");
    assert_eq!((&record["severityNumber"], &record["severityText"]), (&json!(13), &json!("WARN")));
    assert_eq!(record["traceId"], "0af7651916cd43dd8448eb211c80319c");
    let attributes = record["attributes"].as_array().unwrap();
    let value = |key: &str| attributes.iter().find(|a| a["key"] == key).map(|a| a["value"].clone());
    assert_eq!(value("user.name"), Some(json!({"stringValue": "alice"})));
    assert_eq!(value("http.response.status_code"), Some(json!({"intValue": "200"})));
    assert_eq!(value("authtap.id"), Some(json!({"stringValue": one.event.id.to_string()})));
    assert_eq!(value("authtap.fields.remember"), Some(json!({"stringValue": "on"})));
    assert_eq!(value("authtap.confidence"), Some(json!({"doubleValue": 1.0})));
}

#[tokio::test]
async fn rejected_records_are_found_and_a_warning_alone_rejects_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|got, _| {
        let rejected = got.body.matches("mallory").count().min(1);
        says(
            200,
            &json!({"partialSuccess": {"rejectedLogRecords": rejected.to_string(), "errorMessage": "x"}}).to_string(),
        )
    })
    .await;
    let sink = built(&format!("{{ type: otlp, url: {} }}", receiver.url()), folder.path()).unwrap();
    let batch = [stored(1, "alice"), stored(2, "mallory"), stored(3, "bob")];
    assert!(matches!(sink.send(&batch).await, Verdict::Refused { which, .. } if which == [1]));
    assert!(matches!(sink.send(&[stored(4, "carol")]).await, Verdict::Delivered));
}

#[tokio::test]
async fn records_in_protobuf_stand_in_one_request_with_their_resource() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, _| says(200, "")).await;
    let sink = built(&format!("{{ type: otlp, url: {}, encoding: protobuf }}", receiver.url()), folder.path()).unwrap();
    assert!(matches!(sink.send(&[stored(1, "alice"), stored(2, "bob")]).await, Verdict::Delivered));
    let got = &receiver.got()[0];
    assert_eq!(got.header("content-type"), Some("application/x-protobuf"));
    let logs = Fields::bytes_of(&got.bytes, 1);
    let attribute = Fields::bytes_of(Fields::bytes_of(logs, 1), 1);
    assert_eq!(Fields::bytes_of(attribute, 1), b"service.name");
    let records = Fields(Fields::bytes_of(logs, 2)).filter(|(number, _)| *number == 2);
    assert_eq!(records.count(), 2);
}

#[cfg(not(feature = "otlp-grpc"))]
#[test]
fn a_build_without_grpc_says_what_it_lacks() {
    let told = crate::sinks::http::receiver::problems("{ type: otlp, protocol: grpc, url: 'http://a.test:4317' }");
    assert!(told.contains("--features otlp-grpc"), "{told}");
}
