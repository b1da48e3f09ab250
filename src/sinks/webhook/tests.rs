use std::path::Path;
use std::time::Duration;

use super::*;
use crate::sinks::http::receiver::{Got, Receiver, built, problems, says};
use crate::spool::sample::stored;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn batch(count: u64) -> Vec<Stored> {
    (1..=count).map(|seq| stored(seq, "alice")).collect()
}

fn secret_in(folder: &Path, content: &str) {
    std::fs::write(folder.join("secret"), content).unwrap();
}

/// What an independent verifier does, by the text of the specification.
fn verify(got: &Got, secret: &str) -> bool {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let (id, at) = (got.header("webhook-id").unwrap(), got.header("webhook-timestamp").unwrap());
    got.header("webhook-signature").unwrap().split(' ').filter_map(|s| s.strip_prefix("v1,")).any(|signature| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{id}.{at}.{}", got.body).as_bytes());
        mac.verify_slice(&STANDARD.decode(signature).unwrap()).is_ok()
    })
}

/// The example of the specification (standard-webhooks, Apache-2.0), computed by its own libraries.
#[test]
fn the_signature_is_that_of_the_specification() {
    let folder = tempfile::tempdir().unwrap();
    secret_in(folder.path(), SECRET);
    let keys = Keys::read(&SecretSource::File("secret".into()).read(folder.path()).unwrap()).unwrap();
    let signature = keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[tokio::test]
async fn each_event_is_a_request_of_its_own_signed_and_with_its_id() {
    let folder = tempfile::tempdir().unwrap();
    secret_in(folder.path(), &format!("{SECRET} whsec_bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3\n"));
    let receiver = Receiver::start(|_, _| says(204, "")).await;
    let yaml = format!("{{ type: webhook, url: {}/in, secret_file: secret, compression: gzip }}", receiver.url());
    let sink = built(&yaml, folder.path()).unwrap();
    let batch = batch(3);
    assert!(matches!(sink.send(&batch).await, Verdict::Delivered));
    let got = receiver.got();
    assert_eq!(got.len(), 3);
    for (one, got) in batch.iter().zip(&got) {
        assert_eq!(got.body, *one.line);
        let id = one.event.id.to_string();
        assert_eq!([got.header("webhook-id"), got.header("x-idempotency-key")], [Some(id.as_str()); 2]);
        assert!(verify(got, SECRET) && verify(got, "whsec_bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3"), "both secrets sign");
        assert_eq!((got.method.as_str(), got.target.as_str()), ("POST", "/in"));
        assert_eq!(got.header("content-type"), Some("application/json"));
        assert_eq!(got.header("content-encoding"), Some("gzip"));
        let at: i64 = got.header("webhook-timestamp").unwrap().parse().unwrap();
        assert!((Timestamp::now().as_millis() / 1000 - at).abs() < 60);
    }
    assert_eq!(receiver.connections(), 1, "the connection stays");
}

#[tokio::test]
async fn a_batch_is_an_array_or_lines_and_its_key_is_stable_over_a_retry() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, turn| says(if turn == 1 { 503 } else { 200 }, "")).await;
    let yaml = format!(
        "{{ type: webhook, url: {}, body: array, method: PUT, headers: {{ x-tenant: acme }} }}",
        receiver.url()
    );
    let sink = built(&yaml, folder.path()).unwrap();
    let batch = batch(3);
    assert!(matches!(sink.send(&batch).await, Verdict::Retry { .. }));
    assert!(matches!(sink.send(&batch).await, Verdict::Delivered));
    let got = receiver.got();
    assert_eq!(got[1].json().as_array().map(Vec::len), Some(3));
    assert_eq!((got[1].method.as_str(), got[1].header("x-tenant")), ("PUT", Some("acme")));
    assert_eq!(got[0].header("x-idempotency-key"), got[1].header("x-idempotency-key"));
    assert!(got[0].header("webhook-signature").is_none(), "no secret, no signature");

    for (format, media) in [("native", "application/x-ndjson"), ("cef", "text/plain; charset=utf-8")] {
        let yaml = format!("{{ type: webhook, url: {}, body: lines, format: {format} }}", receiver.url());
        assert!(matches!(built(&yaml, folder.path()).unwrap().send(&batch).await, Verdict::Delivered));
        let last = receiver.got().pop().unwrap();
        assert_eq!((last.body.lines().count(), last.header("content-type")), (3, Some(media)));
    }
    let yaml = format!("{{ type: webhook, url: {}, body: array, format: cloudevents }}", receiver.url());
    assert!(matches!(built(&yaml, folder.path()).unwrap().send(&batch).await, Verdict::Delivered));
    let last = receiver.got().pop().unwrap();
    assert_eq!(last.header("content-type"), Some("application/cloudevents-batch+json"));
    assert_eq!(last.json()[2]["id"], batch[2].event.id.to_string());
}

#[tokio::test]
async fn retry_after_is_passed_on_and_what_was_taken_is_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, turn| match turn {
        2 => super::super::http::receiver::Says { headers: vec![("retry-after", "7".into())], ..says(429, "") },
        _ => says(200, ""),
    })
    .await;
    let sink = built(&format!("{{ type: webhook, url: {} }}", receiver.url()), folder.path()).unwrap();
    let batch = batch(3);
    match sink.send(&batch).await {
        Verdict::Retry { after, why } => {
            assert_eq!(after, Some(Duration::from_secs(7)));
            assert!(why.to_string().contains("429 Too Many Requests"), "{why}");
        }
        verdict => panic!("{verdict:?}"),
    }
    assert!(matches!(sink.send(&batch).await, Verdict::Delivered));
    let ids: Vec<_> = receiver.got().iter().map(|got| got.header("x-idempotency-key").unwrap().to_owned()).collect();
    let id = |at: usize| batch[at].event.id.to_string();
    assert_eq!(ids, [id(0), id(1), id(1), id(2)]);
}

#[tokio::test]
async fn names_and_fields_change_what_is_sent_and_a_template_writes_something_odd() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, _| says(200, "")).await;
    let yaml =
        format!("{{ type: webhook, url: {}, names: auth, fields: {{ drop: [/metadata, /source] }} }}", receiver.url());
    let sink = built(&yaml, folder.path()).unwrap();
    assert!(matches!(sink.send(&batch(1)).await, Verdict::Delivered));
    let body = receiver.got()[0].body.clone();
    let keys = body.split("\":").count();
    assert!(body.starts_with(r#"{"schema_version":1,"id":""#) && keys == 9, "{keys}: {body}");
    assert!(body.contains(r#""event_type":"auth.login.failure","timestamp":"#), "{body}");

    let yaml = format!(
        "type: webhook\nurl: {}\nheaders: {{ content-type: application/json }}\nformat: {{ type: template, template: '{{\"text\": {{{{ (event.actor.login ~ \" \" ~ event.event_type)|tojson }}}}}}' }}\n",
        receiver.url()
    );
    let sink = built(&yaml, folder.path()).unwrap();
    assert!(matches!(sink.send(&[stored(1, "o\"reilly")]).await, Verdict::Delivered));
    let last = receiver.got().pop().unwrap();
    assert_eq!(last.json()["text"], "o\"reilly user.login.failed");
    assert_eq!(last.header("content-type"), Some("application/json"), "a configured header wins");
}

#[test]
fn every_slip_is_told_at_once_and_no_secret_is_shown() {
    let told = problems(
        "type: webhook\nurl: https://user:hunter2@siem.example/\nsecret_env: 'whsec_abc/def'\nheaders:\n  authorization: Bearer hunter3\n  host: x\nbody: array\nformat: cef\ntimeout: 1ms\n",
    );
    for expected in [
        "`password_env`",
        "no name of an environment variable",
        "`authorization` carries a secret",
        "`host` is set by authtap itself",
        "format cef are no JSON",
        "`timeout` cannot be",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    for secret in ["hunter2", "hunter3", "abc/def"] {
        assert!(!told.contains(secret), "{secret}: {told}");
    }
}

#[test]
fn a_secret_that_cannot_sign_is_refused_when_the_sink_is_built() {
    let folder = tempfile::tempdir().unwrap();
    for bad in ["whsec_???", "whsec_c2hvcnQ=", "plain text secret"] {
        secret_in(folder.path(), bad);
        let error = built("{ type: webhook, url: https://a.test/, secret_file: secret }", folder.path());
        let error = error.err().expect("an error").to_string();
        assert!(error.contains("whsec_") && !error.contains(bad), "{error}");
    }
}
