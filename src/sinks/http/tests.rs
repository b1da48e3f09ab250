use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

use super::client::Outgoing;
use super::receiver::{Receiver, Says, problems, says};
use super::*;
use crate::config::node::Node;
use crate::config::shape::joined;
use crate::ports::nobody;
use crate::tls::fixture::{Authority, replace};
use crate::tls::provider::provider;

const ALL: &[Field] = joined!(&[Field::required("url", Kind::Str, "")], TOKEN, BASIC, &fields(&Usual::BEARER));

pub(super) fn client(yaml: &str, base: &std::path::Path) -> Result<Client, SinkError> {
    let mut problems = Problems::new("t.yaml", yaml);
    let node = Node::parse(yaml, &mut problems).unwrap();
    let map = node.map(ALL, &mut problems).unwrap();
    let plan = HttpPlan::check(&map, &Usual::BEARER, &mut problems);
    assert!(problems.is_empty(), "{problems}");
    plan.unwrap().build(&BuildCx::new(base.to_owned(), false))
}

fn post(body: &str) -> Outgoing {
    Outgoing::post("text/plain", body.into())
}

#[tokio::test]
async fn a_warm_connection_is_used_again_and_a_dead_one_is_replaced_once() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, turn| Says { hang_up: turn == 2, ..says(200, "ok") }).await;
    let client = client(&format!("url: {}\n", receiver.url()), folder.path()).unwrap();
    for _ in 0..4 {
        assert_eq!(&client.send(post("x")).await.unwrap().body[..], b"ok");
    }
    assert_eq!((receiver.got().len(), receiver.connections()), (4, 2));
}

#[tokio::test]
async fn an_empty_body_has_a_length_too() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, _| says(200, "")).await;
    client(&format!("url: {}\n", receiver.url()), folder.path()).unwrap().send(post("")).await.unwrap();
    assert_eq!(receiver.got()[0].header("content-length"), Some("0"));
}

#[tokio::test]
async fn a_receiver_that_never_answers_costs_the_timeout_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, _| Says { never: true, ..says(200, "") }).await;
    let client = client(&format!("url: {}/in?token=hunter2\ntimeout: 50ms\n", receiver.url()), folder.path()).unwrap();
    let error = client.send(post("x")).await.unwrap_err().to_string();
    assert!(error.contains("no answer within 50ms") && !error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn an_answer_is_read_up_to_its_bound() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat((4 << 20) + 1);
    let receiver = Receiver::start(move |_, _| says(200, &long)).await;
    let client = client(&format!("url: {}\n", receiver.url()), folder.path()).unwrap();
    let reply = client.send(post("x")).await.unwrap();
    assert_eq!((reply.body.len(), reply.whole), (4 << 20, false));
}

#[tokio::test]
async fn nobody_there_is_told_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let gone = nobody();
    let client = client(&format!("url: http://{gone}/in\n"), folder.path()).unwrap();
    let error = client.send(post("x")).await.unwrap_err().to_string();
    assert!(error.contains(&format!("http://{gone}/in: no connection")), "{error}");
    assert!(client.connects().await.is_err());
}

#[tokio::test]
async fn secrets_and_further_headers_are_sent_and_a_password_may_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    replace(folder.path(), "password", "hunter2\n");
    replace(folder.path(), "key", "k-123");
    let receiver = Receiver::start(|_, _| says(200, "")).await;
    let yaml = format!(
        "url: {}\nuser: alice\npassword_file: password\nheaders: {{ x-api-key: {{ file: key }} }}\n",
        receiver.url()
    );
    client(&yaml, folder.path()).unwrap().send(post("x")).await.unwrap();
    let yaml = format!("url: {}\ntoken_file: key\n", receiver.url());
    client(&yaml, folder.path()).unwrap().send(post("x")).await.unwrap();
    let got = receiver.got();
    assert_eq!(got[0].header("authorization"), Some("Basic YWxpY2U6aHVudGVyMg=="));
    assert_eq!(got[0].header("x-api-key"), Some("k-123"));
    assert_eq!(got[1].header("authorization"), Some("Bearer k-123"));
    assert_eq!(got[1].header("host"), Some(receiver.address.to_string().as_str()));
}

pub(crate) fn acceptor(authority: &Authority, people: Option<&Authority>) -> TlsAcceptor {
    let issued = authority.server(&["127.0.0.1", "localhost"]);
    let provider = provider().unwrap();
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match people {
        None => builder.with_no_client_auth(),
        Some(people) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(people.roots()), provider).build().unwrap(),
        ),
    };
    let config = builder.with_single_cert(vec![issued.der.clone()], issued.key_der()).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn only_a_trusted_receiver_gets_anything() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    replace(folder.path(), "ours.pem", &ours.pem());
    replace(folder.path(), "other.pem", &other.pem());
    let receiver = Receiver::secured(acceptor(&ours, None), |_, _| says(200, "ok")).await;
    let with = |ca: &str| client(&format!("url: {}\ntls: {{ ca: {ca} }}\n", receiver.url()), folder.path()).unwrap();
    assert_eq!(with("ours.pem").send(post("x")).await.unwrap().status, 200);
    let error = with("other.pem").send(post("x")).await.unwrap_err().to_string();
    assert!(error.contains("no connection") && error.contains("certificate"), "{error}");
    assert!(with("other.pem").connects().await.is_err());
    assert_eq!(receiver.got().len(), 1);
    let error = client(&format!("url: {}\ntls: {{ ca: none.pem }}\n", receiver.url()), folder.path()).err().unwrap();
    assert!(error.to_string().contains("tls.ca"), "{error}");
}

#[tokio::test]
async fn a_receiver_that_demands_a_certificate_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, people) = (Authority::new("ours"), Authority::new("people"));
    replace(folder.path(), "ca.pem", &ours.pem());
    people.client("authtap", "acme").write(folder.path(), "me");
    let receiver = Receiver::secured(acceptor(&ours, Some(&people)), |_, _| says(200, "ok")).await;
    let yaml = format!("url: {}\ntls: {{ ca: ca.pem, cert: me.pem, key: me.key }}\n", receiver.url());
    let known = client(&yaml, folder.path()).unwrap();
    assert_eq!(known.send(post("x")).await.unwrap().status, 200);
    known.connects().await.unwrap();
    let unknown = client(&format!("url: {}\ntls: {{ ca: ca.pem }}\n", receiver.url()), folder.path()).unwrap();
    assert!(unknown.send(post("x")).await.is_err());
    assert!(unknown.connects().await.is_err(), "a probe sees the refusal too");
}

#[test]
fn settings_that_contradict_each_other_are_told() {
    for (yaml, expected) in [
        ("url: http://a.test/\ntls: { ca: x }", "`tls` does nothing"),
        ("url: https://a.test/\ntoken_env: A\ntoken_file: b", "both `token_env` and `token_file`"),
        ("url: https://a.test/\ntoken_env: A\nuser: b\npassword_env: C", "both a token and a user"),
        ("url: https://a.test/\npassword_env: C", "a password without a `user`"),
        ("url: https://a.test/\nuser: 'a:b'", "no user for HTTP Basic"),
        ("url: https://a.test/\ncompression: br", "is not known here"),
        ("url: https://a.test/\nbatch_events: 5", "unknown key `batch_events`"),
        ("url: https://a.test/\nheaders: { 'a b': c }", "no name of a header"),
        ("url: https://a.test/\ntls: { cert: x }", "`key` is missing"),
        ("url: ftp://a.test/", "begins with https://"),
    ] {
        let told = problems(&format!("type: webhook\n{yaml}\n"));
        assert!(told.contains(expected), "{yaml}: {told}");
    }
}
