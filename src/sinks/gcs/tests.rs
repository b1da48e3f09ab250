// Behind a feature clippy does not see that this is a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::sinks::http::receiver::problems;

#[test]
fn settings_that_cannot_be_are_told() {
    for (yaml, expected) in [
        ("prefix: auth", "`bucket` is missing"),
        ("bucket: 'Security'", "`bucket` cannot be"),
        ("bucket: a/b", "`bucket` cannot be"),
        ("bucket: security, credentials_env: '{\"private_key\": \"hunter2\"}'", "no name of an environment variable"),
        ("bucket: security, anonymous: on, credentials_env: KEY", "`anonymous` has no credentials"),
    ] {
        let told = problems(&format!("{{ type: gcs, {yaml} }}"));
        assert!(told.contains(expected) && !told.contains("hunter2"), "{yaml}: {told}");
    }
}

#[cfg(feature = "object-store")]
mod built {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::process::Command;

    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
    use serde_json::{Value, json};

    use crate::sinks::http::receiver::{Receiver, Says, built, says};
    use crate::sinks::net::service::{Service, batch, free_port, wanted_large};
    use crate::sinks::objects::tests::{curl, curl_text, days, held, of_two_days, sink};
    use crate::sinks::{Sink, Verdict};
    use crate::tls::fixture::replace;

    fn anonymous(url: &str, more: &str) -> Box<dyn Sink> {
        let yaml = format!(
            "{{ type: gcs, bucket: security, prefix: auth, url: '{url}', anonymous: on, interval: 0, {more} }}"
        );
        sink(&yaml, Path::new("."))
    }

    #[tokio::test]
    async fn an_object_is_put_with_a_token_that_the_accounts_key_has_signed() {
        let receiver = Receiver::start(|_, _| says(200, "")).await;
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let account = json!({
            "type": "service_account", "client_email": "authtap@acme.iam.test", "private_key_id": "k1",
            "private_key": key.serialize_pem(),
        });
        replace(folder.path(), "account.json", &account.to_string());
        let yaml = format!(
            "{{ type: gcs, bucket: security, prefix: auth, url: '{}', credentials_file: account.json, interval: 0 }}",
            receiver.url()
        );
        let sink = sink(&yaml, folder.path());
        // The library wants an ETag, which this receiver does not give: the object is there all the same.
        assert!(matches!(sink.send(&batch(3)).await, Verdict::Delivered));
        let got = receiver.got().remove(0);
        let name = "/security/auth/date=2026-01-15/";
        let target = percent_encoding::percent_decode_str(&got.target).decode_utf8_lossy();
        assert!(target.starts_with(name) && target.ends_with(".jsonl.gz"), "{target}");
        assert_eq!((got.method.as_str(), got.header("content-type")), ("PUT", Some("application/gzip")));
        let token = got.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap();
        let [head, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
        let decoded = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        let claims_read: Value = serde_json::from_slice(&decoded(claims)).unwrap();
        assert_eq!(claims_read["iss"], "authtap@acme.iam.test");
        let verified =
            crate::tls::provider::provider().unwrap().signature_verification_algorithms.all.iter().any(|with| {
                with.signature_alg_id() == rustls::pki_types::alg_id::RSA_PKCS1_SHA256
                    && with
                        .verify_signature(
                            key.public_key_raw(),
                            format!("{head}.{claims}").as_bytes(),
                            &decoded(signature),
                        )
                        .is_ok()
            });
        assert!(verified);
    }

    #[tokio::test]
    async fn credentials_that_are_none_are_told_without_a_part_of_them() {
        let folder = tempfile::tempdir().unwrap();
        for text in [
            "hunter2",
            r#"{"private_key": "hunter2"}"#,
            r#"{"private_key":"hunter2","private_key_id":"hunter2","client_email":"hunter2"}"#,
        ] {
            replace(folder.path(), "account.json", text);
            let error =
                built("{ type: gcs, bucket: security, credentials_file: account.json }", folder.path()).err().unwrap();
            let error = error.to_string();
            assert!(error.contains("no key of a service account") && !error.contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn no_answer_refuses_an_event_but_for_its_size_and_none_is_repeated_or_asked_for_twice() {
        for (status, error, expected) in [
            (401, "AuthenticationRequired", "check the credentials"),
            (403, "AccessDenied", "storage.objects.create"),
            (404, "NoSuchBucket", "check `bucket`"),
            (429, "SlowDown", "429"),
            (503, "alice <b>", "503"),
        ] {
            let body = format!("<Error><Code>{error}</Code><Message>alice</Message></Error>");
            let receiver =
                Receiver::start(move |_, _| Says { headers: vec![("retry-after", "7".into())], ..says(status, &body) })
                    .await;
            let sink = anonymous(&receiver.url(), "timeout: 5s");
            match sink.send(&batch(3)).await {
                Verdict::Retry { after, why } => {
                    let why = why.to_string();
                    assert_eq!(after.map(|after| after.as_secs()), Some(7));
                    assert!(why.contains(expected) && !why.contains("alice"), "{why}");
                }
                verdict => panic!("{status} {error}: {verdict:?}"),
            }
            assert_eq!(receiver.got().len(), 1);
            assert_eq!(sink.probe().await.is_ok(), error == "AccessDenied", "{error}");
        }
        let receiver = Receiver::start(|_, _| says(400, "<Error><Code>EntityTooLarge</Code></Error>")).await;
        match anonymous(&receiver.url(), "").send(&batch(2)).await {
            Verdict::Refused { which, .. } => assert_eq!(which, [0, 1]),
            verdict => panic!("{verdict:?}"),
        }
        let nobody = anonymous("http://127.0.0.1:1", "timeout: 1s");
        match nobody.send(&batch(1)).await {
            Verdict::Retry { why, .. } => assert!(why.to_string().contains("no connection"), "{why}"),
            verdict => panic!("{verdict:?}"),
        }
        assert!(nobody.probe().await.is_err());
    }

    #[tokio::test]
    async fn a_store_holds_every_event_in_objects_of_its_day() {
        if !wanted_large() {
            return;
        }
        let port = free_port();
        let mut command = Command::new("gcp-storage-emulator");
        command.args(["start", "--host", "127.0.0.1", "--in-memory", "--default-bucket", "security", "--port"]);
        let _store = Service::at(port, command.arg(port.to_string()), "PyPI: gcp-storage-emulator");
        let url = format!("http://127.0.0.1:{port}");
        let sink = anonymous(&url, "batch: { max_events: 100 }");
        sink.probe().await.unwrap();
        let all = of_two_days(250);
        for _ in 0..2 {
            let verdict = sink.send(&all).await;
            assert!(matches!(verdict, Verdict::Delivered), "the second time replaces the first: {verdict:?}");
        }
        let listing: Value = serde_json::from_str(&curl_text(&[], &format!("{url}/storage/v1/b/security/o"))).unwrap();
        let names: Vec<&str> =
            listing["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
        assert_eq!(days(&names), BTreeMap::from([("2026-01-15", 3), ("2026-01-16", 1)]));
        let objects: Vec<Vec<u8>> = names.iter().map(|name| curl(&[], &format!("{url}/security/{name}"))).collect();
        held(&objects, &all);
    }
}
