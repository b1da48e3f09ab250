// Behind a feature clippy does not see that this is a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::sinks::http::receiver::problems;

#[test]
fn settings_that_cannot_be_are_told() {
    for (yaml, expected) in [
        ("container: security", "`account` is missing"),
        ("account: acme", "`container` is missing"),
        ("account: 'https://acme.blob.core.windows.net', container: security", "`account` cannot be"),
        ("account: acme, container: Security", "`container` cannot be"),
        ("account: acme, container: security, access_key_env: 'hunter2=='", "no name of an environment variable"),
        ("account: acme, container: security, access_key_env: A, sas_token_env: B", "more than one way to sign in"),
        ("account: acme, container: security, access_key_env: A, client_id: B", "more than one way to sign in"),
    ] {
        let told = problems(&format!("{{ type: azure_blob, {yaml} }}"));
        assert!(told.contains(expected) && !told.contains("hunter2"), "{yaml}: {told}");
    }
}

#[cfg(feature = "object-store")]
mod built {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::process::Command;

    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::Sha256;

    use crate::sinks::http::receiver::{Receiver, Says, built, says};
    use crate::sinks::net::service::{Service, batch, free_port, wanted_large};
    use crate::sinks::objects::tests::{curl, curl_text, days, held, of_two_days, sink};
    use crate::sinks::{Sink, Verdict};
    use crate::tls::fixture::{Authority, replace};

    const KEY: &[u8] = b"hunter2hunter2hunter2hunter2";

    fn with(url: &str, folder: &Path, more: &str) -> Box<dyn Sink> {
        let yaml = format!(
            "{{ type: azure_blob, account: acme, container: security, prefix: auth/, url: '{url}', interval: 0, {more} }}"
        );
        sink(&yaml, folder)
    }

    /// A shared access signature of the account for everything, or for these rights.
    fn signature(rights: &str) -> String {
        let (services, kinds, end, version) = ("b", "sco", "2099-01-01T00:00:00Z", "2018-11-09");
        let text = format!("acme\n{rights}\n{services}\n{kinds}\n\n{end}\n\n\n{version}\n");
        let mut mac = Hmac::<Sha256>::new_from_slice(KEY).unwrap();
        mac.update(text.as_bytes());
        let signed = BASE64_STANDARD.encode(mac.finalize().into_bytes());
        let signed: String = form_urlencoded::byte_serialize(signed.as_bytes()).collect();
        format!("sv={version}&ss={services}&srt={kinds}&sp={rights}&se={end}&sig={signed}")
    }

    #[tokio::test]
    async fn no_answer_refuses_an_event_but_for_its_size_and_neither_it_nor_the_key_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        replace(folder.path(), "key", &BASE64_STANDARD.encode(KEY));
        for (status, error, expected) in [
            (403, "AuthenticationFailed", "check the key"),
            (403, "AuthorizationPermissionMismatch", "rights c and w"),
            (404, "ContainerNotFound", "check `container`"),
            (503, "ServerBusy", "503"),
        ] {
            let body = format!("<?xml version=\"1.0\"?><Error><Code>{error}</Code><Message>alice</Message></Error>");
            let receiver =
                Receiver::start(move |_, _| Says { headers: vec![("retry-after", "7".into())], ..says(status, &body) })
                    .await;
            let sink = with(&receiver.url(), folder.path(), "access_key_file: key");
            match sink.send(&batch(3)).await {
                Verdict::Retry { after, why } => {
                    let why = why.to_string();
                    assert_eq!(after.map(|after| after.as_secs()), Some(7));
                    assert!(why.contains(expected) && !why.contains("alice") && !why.contains("hunter"), "{why}");
                }
                verdict => panic!("{status} {error}: {verdict:?}"),
            }
            let got = receiver.got();
            assert_eq!(got.len(), 1, "asked once");
            assert!(got[0].header("authorization").unwrap().starts_with("SharedKey acme:"));
            assert_eq!(sink.probe().await.is_ok(), error == "AuthorizationPermissionMismatch", "{error}");
        }
        let receiver = Receiver::start(|_, _| says(413, "<Error><Code>RequestBodyTooLarge</Code></Error>")).await;
        match with(&receiver.url(), folder.path(), "access_key_file: key").send(&batch(2)).await {
            Verdict::Refused { which, .. } => assert_eq!(which, [0, 1]),
            verdict => panic!("{verdict:?}"),
        }
        replace(folder.path(), "key", "hunter2, which is no base64");
        let yaml = "{ type: azure_blob, account: acme, container: security, access_key_file: key }";
        let error = built(yaml, folder.path()).err().unwrap().to_string();
        assert!(error.contains("an access key is base64") && !error.contains("hunter"), "{error}");
    }

    /// Microsoft's own emulator, over TLS.
    #[tokio::test]
    async fn a_store_holds_every_event_in_objects_of_its_day() {
        if !wanted_large() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("azure");
        replace(folder.path(), "ca.pem", &authority.pem());
        replace(folder.path(), "key", &BASE64_STANDARD.encode(KEY));
        replace(folder.path(), "sas", &format!("?{}\n", signature("cw")));
        replace(folder.path(), "read", &signature("rl"));
        let (cert, key) = authority.server(&["127.0.0.1"]).write(folder.path(), "server");
        let port = free_port();
        let mut command = Command::new("azurite-blob");
        command.env("AZURITE_ACCOUNTS", format!("acme:{}", BASE64_STANDARD.encode(KEY))).current_dir(folder.path());
        command.args([
            "--silent",
            "--disableTelemetry",
            "--skipApiVersionCheck",
            "--inMemoryPersistence",
            "--blobPort",
        ]);
        command.arg(port.to_string()).arg("--cert").arg(cert).arg("--key").arg(key);
        let _store = Service::at(port, &mut command, "npm: azurite");
        let url = format!("https://127.0.0.1:{port}/acme");
        let all_rights = signature("rwdlac");
        let by_key = with(&url, folder.path(), "access_key_file: key, batch: { max_events: 100 }, tls: { ca: ca.pem }");
        let error = by_key.probe().await.unwrap_err().to_string();
        assert!(error.contains("ContainerNotFound"), "{error}");
        curl(&["-X", "PUT", "-H", "content-length: 0"], &format!("{url}/security?restype=container&{all_rights}"));
        by_key.probe().await.unwrap();
        let all = of_two_days(250);
        for _ in 0..2 {
            let verdict = by_key.send(&all).await;
            assert!(matches!(verdict, Verdict::Delivered), "the second time replaces the first: {verdict:?}");
        }
        let listing = curl_text(&[], &format!("{url}/security?restype=container&comp=list&{all_rights}"));
        let names: Vec<&str> = listing
            .split("<Name>")
            .skip(1)
            .filter_map(|rest| rest.split_once("</Name>"))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(days(&names), BTreeMap::from([("2026-01-15", 3), ("2026-01-16", 1)]));
        let object = |name: &&str| curl(&[], &format!("{url}/security/{name}?{all_rights}"));
        held(&names.iter().map(object).collect::<Vec<_>>(), &all);

        // By a signature that may only write, and by one that may not.
        let by_signature = with(&url, folder.path(), "sas_token_file: sas, tls: { ca: ca.pem }");
        assert!(matches!(by_signature.send(&batch(1)).await, Verdict::Delivered));
        match with(&url, folder.path(), "sas_token_file: read, tls: { ca: ca.pem }").send(&batch(1)).await {
            Verdict::Retry { why, .. } => assert!(why.to_string().contains("rights c and w"), "{why}"),
            verdict => panic!("{verdict:?}"),
        }
        replace(folder.path(), "key", &BASE64_STANDARD.encode("another key"));
        let error = with(&url, folder.path(), "access_key_file: key, tls: { ca: ca.pem }").probe().await.unwrap_err();
        assert!(error.to_string().contains("403"), "{error}");
        let stranger = with(&url, folder.path(), "sas_token_file: sas").probe().await.unwrap_err().to_string();
        assert!(stranger.contains("no connection") && !stranger.contains("sig="), "{stranger}");
    }
}
