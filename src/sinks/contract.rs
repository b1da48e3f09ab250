//! What every sink over HTTP must do, whatever it speaks: deliver all in order, wait while the
//! receiver is away, refuse what it will never take, and keep its secret to itself.

use std::path::Path;

use serde_json::json;

use super::http::receiver::{Got, Receiver, Says, built, says, spec};
use super::{BuildCx, SINKS, Sink, Verdict};
use crate::config::shape::Kind;
use crate::ports::nobody;
use crate::spool::Stored;
use crate::spool::sample::stored;

/// A sink with its configuration (`URL` stands for the receiver), and how its receiver says yes.
struct Party {
    kind: &'static str,
    yaml: &'static str,
    yes: fn(&Got) -> Says,
}

const SECRET: &str = "whsec_c3VwZXItc2VjcmV0LXRva2VuLTE3";

const PARTIES: &[Party] = &[
    Party { kind: "webhook", yaml: "url: URL, secret_file: secret, token_file: secret", yes: |_| says(204, "") },
    Party {
        kind: "litesoc",
        yaml: "url: URL, token_file: secret",
        yes: |got| {
            let count = got.json()["events"].as_array().map_or(1, Vec::len);
            says(202, &json!({"success": true, "events_accepted": count}).to_string())
        },
    },
    Party { kind: "otlp", yaml: "url: URL, token_file: secret", yes: |_| says(200, r#"{"partialSuccess":{}}"#) },
    Party {
        kind: "elasticsearch",
        yaml: "url: URL, token_file: secret",
        yes: |_| says(200, r#"{"errors":false,"items":[]}"#),
    },
    Party {
        kind: "opensearch",
        yaml: "url: URL, user: a, password_file: secret",
        yes: |_| says(200, r#"{"errors":false,"items":[]}"#),
    },
    Party {
        kind: "splunk_hec",
        yaml: "url: URL, token_file: secret",
        yes: |_| says(200, r#"{"text":"Success","code":0}"#),
    },
    Party { kind: "loki", yaml: "url: URL, token_file: secret", yes: |_| says(204, "") },
    Party { kind: "datadog", yaml: "url: URL, token_file: secret", yes: |_| says(202, "{}") },
    Party { kind: "clickhouse", yaml: "url: URL, user: a, password_file: secret", yes: |_| says(200, "") },
];

/// Sinks that do not speak HTTP, with tests of their own.
const OTHERS: &[&str] = &[
    "stdout",
    "file",
    "syslog",
    "tcp",
    "unix",
    "exec",
    "redis",
    "nats",
    "mqtt",
    "amqp",
    "kafka",
    "postgres",
    "s3",
    "gcs",
    "azure_blob",
];

impl Party {
    fn yaml(&self, url: &str) -> String {
        format!("{{ type: {}, {} }}", self.kind, self.yaml.replace("URL", url))
    }

    fn sink(&self, receiver: &Receiver, base: &Path) -> Box<dyn Sink> {
        built(&self.yaml(&receiver.url()), base).unwrap_or_else(|e| panic!("{}: {e}", self.kind))
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    folder
}

fn batch(count: u64) -> Vec<Stored> {
    (1..=count).map(|seq| stored(seq, "alice")).collect()
}

#[test]
fn every_sink_is_held_to_the_contract() {
    for kind in SINKS {
        let known = PARTIES.iter().any(|party| party.kind == kind.name) || OTHERS.contains(&kind.name);
        assert!(known, "{} is in neither list", kind.name);
    }
}

#[tokio::test]
async fn a_batch_is_delivered_whole_and_in_order_and_carries_the_secret() {
    let folder = folder();
    for party in PARTIES {
        let yes = party.yes;
        let receiver = Receiver::start(move |got, _| yes(got)).await;
        let batch = batch(120);
        let verdict = party.sink(&receiver, folder.path()).send(&batch).await;
        assert!(matches!(verdict, Verdict::Delivered), "{}: {verdict:?}", party.kind);
        let got = receiver.got();
        let bodies: String = got.iter().map(|got| got.body.as_str()).collect();
        let mut from = 0;
        for one in &batch {
            let id = one.event.id.to_string();
            let at =
                bodies[from..].find(&id).unwrap_or_else(|| panic!("{}: {id} is missing or out of order", party.kind));
            from += at + id.len();
        }
        assert_eq!(receiver.connections(), 1, "{}", party.kind);
        let carried = |got: &Got| {
            let plain = got.headers.values().any(|value| value.as_bytes().ends_with(SECRET.as_bytes()));
            plain || got.header("authorization").is_some_and(|value| value.starts_with("Basic "))
        };
        assert!(got.iter().all(carried), "{}: without the secret", party.kind);
        assert!(got.iter().all(|got| !got.target.contains(SECRET) && !got.body.contains(SECRET)), "{}", party.kind);
    }
}

/// The words of a sink's `compression:`.
fn compressions(kind: &str) -> &'static [&'static str] {
    let fields = SINKS.iter().find(|sink| sink.name == kind).map(|sink| sink.fields).unwrap_or_default();
    match fields.iter().find(|field| field.name == "compression").map(|field| field.kind) {
        Some(Kind::Word(words)) => words,
        _ => panic!("{kind} has no `compression`"),
    }
}

#[tokio::test]
async fn every_compression_that_a_sink_offers_is_what_its_receiver_unpacks() {
    let folder = folder();
    for party in PARTIES {
        for word in compressions(party.kind) {
            let yes = party.yes;
            let receiver = Receiver::start(move |got, _| yes(got)).await;
            let yaml = party.yaml(&receiver.url()).replace(" }", &format!(", compression: {word} }}"));
            let batch = batch(40);
            let verdict = built(&yaml, folder.path()).unwrap().send(&batch).await;
            assert!(matches!(verdict, Verdict::Delivered), "{} {word}: {verdict:?}", party.kind);
            let got = receiver.got();
            let encoding = Some(*word).filter(|word| *word != "off");
            assert!(got.iter().all(|got| got.header("content-encoding") == encoding), "{} {word}", party.kind);
            let bodies: String = got.iter().map(|got| got.body.as_str()).collect();
            assert!(batch.iter().all(|one| bodies.contains(&one.event.id.to_string())), "{} {word}", party.kind);
        }
    }
}

#[tokio::test]
async fn what_batch_says_is_what_one_request_holds() {
    let folder = folder();
    for party in PARTIES {
        let most = async |batch_says: &str| {
            let yes = party.yes;
            let receiver = Receiver::start(move |got, _| yes(got)).await;
            let yaml = party.yaml(&receiver.url()).replace(" }", &format!(", body: lines, batch: {batch_says} }}"));
            let yaml = if party.kind == "webhook" { yaml } else { yaml.replace(", body: lines", "") };
            let batch = batch(130);
            assert!(matches!(built(&yaml, folder.path()).unwrap().send(&batch).await, Verdict::Delivered));
            let ids: Vec<String> = batch.iter().map(|one| one.event.id.to_string()).collect();
            let held = receiver.got().iter().map(|got| ids.iter().filter(|id| got.body.contains(*id)).count()).max();
            held.unwrap_or_default()
        };
        assert_eq!(most("{ max_events: 7 }").await, 7, "{}", party.kind);
        assert_eq!(most("{ max_bytes: 1B }").await, 1, "{}", party.kind);
        let bound = if party.kind == "litesoc" { 100 } else { 130 };
        assert_eq!(most("{ max_events: 1000 }").await, bound, "{}", party.kind);
        let usual = if matches!(party.kind, "litesoc" | "webhook") { 100 } else { 130 };
        assert_eq!(most("{}").await, usual, "{}", party.kind);
    }
}

#[tokio::test]
async fn a_receiver_that_is_away_gets_everything_when_it_is_back() {
    let folder = folder();
    for party in PARTIES {
        for status in [429, 500, 503, 401, 403, 404, 302] {
            let yes = party.yes;
            let receiver = Receiver::start(move |got, turn| {
                if turn == 1 {
                    Says { headers: vec![("retry-after", "3".into())], ..says(status, "secret body") }
                } else {
                    yes(got)
                }
            })
            .await;
            let sink = party.sink(&receiver, folder.path());
            let batch = batch(3);
            match sink.send(&batch).await {
                Verdict::Retry { after, why } => {
                    assert_eq!(after.map(|after| after.as_secs()), Some(3), "{} {status}", party.kind);
                    let why = why.to_string();
                    assert!(why.contains(&status.to_string()) && !why.contains("secret body"), "{}: {why}", party.kind);
                }
                verdict => panic!("{} {status}: {verdict:?}", party.kind),
            }
            assert!(matches!(sink.send(&batch).await, Verdict::Delivered), "{} {status}", party.kind);
        }
        let sink = built(&party.yaml(&format!("http://{}", nobody())), folder.path()).unwrap();
        assert!(matches!(sink.send(&batch(2)).await, Verdict::Retry { .. }), "{}", party.kind);
        assert!(sink.probe().await.is_err(), "{}", party.kind);
    }
}

#[tokio::test]
async fn what_will_never_be_taken_is_refused_and_the_rest_delivered() {
    let folder = folder();
    for party in PARTIES {
        let batch = batch(5);
        let (poison, yes) = (batch[3].event.id.to_string(), party.yes);
        let receiver =
            Receiver::start(
                move |got, _| {
                    if got.body.contains(&poison) { says(400, "the event of alice is bad") } else { yes(got) }
                },
            )
            .await;
        match party.sink(&receiver, folder.path()).send(&batch).await {
            Verdict::Refused { which, why } => {
                assert_eq!(which, [3], "{}", party.kind);
                assert!(!why.to_string().contains("alice"), "{}: {why}", party.kind);
            }
            verdict => panic!("{}: {verdict:?}", party.kind),
        }
    }
}

#[tokio::test]
async fn no_secret_and_no_event_is_in_what_a_sink_says_of_itself() {
    let folder = folder();
    for party in PARTIES {
        let receiver = Receiver::start(|got, _| says(418, &format!("{:?} {}", got.headers, got.body))).await;
        let spec = spec(&party.yaml(&format!("{}/in?key=hunter2", receiver.url())));
        let sink = spec.build(&BuildCx::new(folder.path().to_owned(), false)).unwrap();
        let mut said = format!("{spec:?} {:?}", sink.send(&batch(2)).await);
        if let Err(error) = sink.probe().await {
            said.push_str(&error.to_string());
        }
        for secret in [SECRET, "hunter2", "alice", "Basic ", "203.0.113.42"] {
            assert!(!said.contains(secret), "{}: {secret}: {said}", party.kind);
        }
    }
}

#[tokio::test]
async fn a_sink_without_its_secret_is_not_built() {
    let empty = tempfile::tempdir().unwrap();
    for party in PARTIES {
        let error = built(&party.yaml("http://127.0.0.1:1"), empty.path()).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("secret")), "{}", party.kind);
    }
}

#[tokio::test]
async fn a_probe_sends_no_event_and_sees_a_refused_secret_where_the_receiver_can_be_asked() {
    let folder = folder();
    for party in PARTIES {
        let receiver = Receiver::start(|_, _| says(200, "{}")).await;
        party.sink(&receiver, folder.path()).probe().await.unwrap_or_else(|e| panic!("{}: {e}", party.kind));
        assert!(receiver.got().iter().all(|got| got.body.len() < 30), "{}", party.kind);
        let receiver = Receiver::start(|_, _| says(401, "{}")).await;
        let told = party.sink(&receiver, folder.path()).probe().await;
        let asks = !matches!(party.kind, "webhook" | "litesoc");
        assert_eq!(told.is_err(), asks, "{}", party.kind);
    }
}
