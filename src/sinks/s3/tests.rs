use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::sinks::http::receiver::{Receiver, Says, problems, says};
use crate::sinks::net::service::{Service, batch, free_port, wanted};
use crate::sinks::objects::tests::{self as objects, curl, curl_text, days, held, of_two_days};
use crate::sinks::{Sink, Verdict};

/// A sink whose keys are in variables that Cargo sets for tests, so that no test sets any.
fn sink(yaml: &str) -> Box<dyn Sink> {
    let keys = "access_key_env: CARGO_PKG_NAME, secret_key_env: CARGO_PKG_DESCRIPTION";
    objects::sink(&format!("{{ type: s3, {keys}, interval: 0, {yaml} }}"), Path::new("."))
}

#[tokio::test]
async fn objects_are_named_by_day_and_content_and_a_part_sent_again_replaces_itself() {
    let receiver = Receiver::start(|_, turn| says(if turn == 2 { 503 } else { 200 }, "")).await;
    let sink = sink(&format!("url: '{}/bucket/logs/', batch: {{ max_events: 10 }}", receiver.url()));
    let all = batch(20);
    assert!(matches!(sink.send(&all).await, Verdict::Retry { .. }));
    assert!(matches!(sink.send(&all).await, Verdict::Delivered));
    let got = receiver.got();
    let targets: Vec<&str> = got.iter().map(|got| got.target.as_str()).collect();
    assert_eq!(targets.len(), 3, "the first part is not sent again: {targets:?}");
    assert_eq!(targets[1], targets[2], "the second is, under the same name");
    assert_ne!(targets[0], targets[1]);
    for (got, first) in got.iter().zip([&all[0], &all[10], &all[10]]) {
        assert_eq!(got.method, "PUT");
        let name = format!("/bucket/logs/date%3D2026-01-15/{}-", first.event.id);
        assert!(got.target.starts_with(&name) && got.target.ends_with(".jsonl.gz"), "{}", got.target);
        let authorization = got.header("authorization").unwrap();
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=authtap/"), "{authorization}");
        assert!(
            authorization.contains("/us-east-1/s3/aws4_request,SignedHeaders=host;x-amz-content-sha256;x-amz-date,")
        );
    }
}

#[cfg(feature = "parquet")]
#[tokio::test]
async fn an_object_may_be_parquet() {
    let receiver = Receiver::start(|_, _| says(200, "")).await;
    let sink = sink(&format!("url: '{}/bucket', encoding: parquet", receiver.url()));
    assert!(matches!(sink.send(&batch(3)).await, Verdict::Delivered));
    let got = receiver.got().remove(0);
    assert!(got.target.ends_with(".parquet"), "{}", got.target);
    assert_eq!(got.header("content-type"), Some("application/vnd.apache.parquet"));
}

#[tokio::test]
async fn no_answer_refuses_an_event_but_for_its_size_and_none_is_repeated() {
    for (status, error, expected) in [
        (400, "ExpiredToken", "check the keys"),
        (403, "SignatureDoesNotMatch", "check the keys"),
        (403, "AccessDenied", "s3:PutObject"),
        (404, "NoSuchBucket", "check the bucket"),
        (500, "alice <b>", "500"),
    ] {
        let body = format!("<Error><Code>{error}</Code><Message>alice</Message></Error>");
        let receiver =
            Receiver::start(move |_, _| Says { headers: vec![("retry-after", "7".into())], ..says(status, &body) })
                .await;
        let sink = sink(&format!("url: '{}/b'", receiver.url()));
        match sink.send(&batch(3)).await {
            Verdict::Retry { after, why } => {
                let why = why.to_string();
                assert_eq!(after.map(|after| after.as_secs()), Some(7));
                assert!(why.contains(expected) && !why.contains("alice"), "{why}");
            }
            verdict => panic!("{status} {error}: {verdict:?}"),
        }
        assert_eq!(sink.probe().await.is_ok(), error == "AccessDenied", "{error}");
    }
    let receiver = Receiver::start(|_, _| says(413, "")).await;
    match sink(&format!("url: '{}/b'", receiver.url())).send(&batch(2)).await {
        Verdict::Refused { which, .. } => assert_eq!(which, [0, 1]),
        verdict => panic!("{verdict:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn objects_are_at_least_the_interval_apart_unless_they_are_full() {
    let receiver = Receiver::start(|_, _| says(200, "")).await;
    let yaml = format!("url: '{}/b', batch: {{ max_events: 4 }}", receiver.url());
    let keys = "access_key_env: CARGO_PKG_NAME, secret_key_env: CARGO_PKG_NAME";
    let sink = objects::sink(&format!("{{ type: s3, {keys}, interval: 60s, {yaml} }}"), Path::new("."));
    let mut times = Vec::new();
    for count in [1, 1, 4, 1] {
        let began = tokio::time::Instant::now();
        // With the clock paused, whatever takes time on the wire counts as a timeout.
        let sent = sink.send(&batch(count)).await;
        assert!(matches!(sent, Verdict::Delivered | Verdict::Retry { .. }), "{sent:?}");
        times.push(began.elapsed() >= std::time::Duration::from_secs(60));
    }
    assert_eq!((times[1], times[3]), (true, true), "a small batch waits");
}

#[test]
fn settings_that_cannot_be_are_told() {
    for (yaml, expected) in [
        ("url: 'https://a.test/b c'", "no URL"),
        ("url: 'https://a.test/b?x=1'", "other characters"),
        ("url: 'https://a.test/b%20c'", "other characters"),
        ("url: 'https://a.test/b', interval: 2h", "`interval` cannot be"),
        ("url: 'https://a.test/b', secret_key_env: 'wJalr/x'", "no name of an environment variable"),
        ("region: r", "`url` is missing"),
    ] {
        let told = problems(&format!("{{ type: s3, {yaml} }}"));
        assert!(told.contains(expected) && !told.contains("wJalr"), "{yaml}: {told}");
    }
}

/// moto as the store, read by curl.
#[tokio::test]
async fn a_store_holds_every_event_in_objects_of_its_day() {
    if !wanted() {
        return;
    }
    let port = free_port();
    let port_text = port.to_string();
    let mut command = Command::new("moto_server");
    let _store = Service::at(port, command.args(["-H", "127.0.0.1", "-p", &port_text]), "PyPI: moto[s3,server]");
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let sink = sink(&format!("url: 'http://127.0.0.1:{port}/security/auth', batch: {{ max_events: 100 }}"));
    let all = batch(250);
    match sink.send(&all).await {
        Verdict::Retry { why, .. } => assert!(why.to_string().contains("NoSuchBucket"), "{why}"),
        verdict => panic!("{verdict:?}"),
    }
    curl(&["-X", "PUT"], &url("/security"));
    sink.probe().await.unwrap();
    let all = of_two_days(250);
    for _ in 0..2 {
        assert!(matches!(sink.send(&all).await, Verdict::Delivered), "the second time replaces the first");
    }
    let listing = curl_text(&[], &url("/security?list-type=2"));
    let names: Vec<&str> =
        listing.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>")).map(|(name, _)| name).collect();
    assert_eq!(days(&names), BTreeMap::from([("2026-01-15", 3), ("2026-01-16", 1)]));
    let signed = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", "reader:secret"];
    let object = |name: &&str| curl(&signed, &format!("http://127.0.0.1:{port}/security/{name}"));
    held(&names.iter().map(object).collect::<Vec<_>>(), &all);
}
