//! Handshakes with an application that is a rustls server.

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls::fixture::{Authority, Issued, replace};

/// Long enough never to be what ends a handshake here.
const LONG: Duration = Duration::from_secs(60);

fn check(yaml: &str) -> (Option<ClientPlan>, Problems) {
    let mut problems = Problems::new("t.yaml", yaml);
    let plan = Node::parse(yaml, &mut problems).and_then(|node| ClientPlan::check(&node, &mut problems));
    (plan, problems)
}

fn build(folder: &TempDir, yaml: &str) -> Result<ClientTls, TlsError> {
    check(yaml).0.unwrap().build(folder.path())
}

/// An application with this certificate; with `people` it demands one of the client.
fn application(issued: &Issued, people: Option<&Authority>) -> TlsAcceptor {
    let provider = provider::provider().unwrap();
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match people {
        None => builder.with_no_client_auth(),
        Some(people) => {
            let roots = Arc::new(people.roots());
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap(),
            )
        }
    };
    let mut config = builder.with_single_cert(vec![issued.der.clone()], issued.key_der()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// What the application says of a handshake is what counts: it has the last word.
async fn meet(
    client: &ClientTls,
    application: &TlsAcceptor,
    host: &str,
) -> (Result<TlsStream<DuplexStream>, HandshakeError>, bool) {
    meet_with(client, application, host, &["http/1.1"]).await
}

async fn meet_with(
    client: &ClientTls,
    application: &TlsAcceptor,
    host: &str,
    alpn: &[&str],
) -> (Result<TlsStream<DuplexStream>, HandshakeError>, bool) {
    let (far, near) = tokio::io::duplex(64 << 10);
    let (connected, accepted) = tokio::join!(client.connect(near, host, alpn, LONG), application.accept(far));
    (connected, accepted.is_ok())
}

fn folder_with(authority: &Authority) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    replace(folder.path(), "ca.pem", &authority.pem());
    folder
}

#[tokio::test]
async fn an_application_over_loopback_is_verified_by_name_and_by_address() {
    let authority = Authority::new("inside");
    let folder = folder_with(&authority);
    let client = build(&folder, "ca: ca.pem").unwrap();
    assert!(client.warnings().is_empty());
    let application = application(&authority.server(&["app.test", "127.0.0.1"]), None);
    for host in ["app.test", "127.0.0.1"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let serving = async {
            let mut stream = application.accept(listener.accept().await.unwrap().0).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let asking = async {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let mut stream = client.connect(stream, host, &["http/1.1"], LONG).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
            let mut got = String::new();
            stream.read_to_string(&mut got).await.unwrap();
            assert_eq!(got, "hello");
        };
        tokio::join!(serving, asking);
    }
}

#[tokio::test]
async fn another_authority_and_another_name_are_refused() {
    let authority = Authority::new("inside");
    let folder = folder_with(&authority);
    let client = build(&folder, "ca: ca.pem").unwrap();
    let stranger = application(&Authority::new("elsewhere").server(&["app.test"]), None);
    let error = meet(&client, &stranger, "app.test").await.0.unwrap_err();
    assert!(error.is_certificate(), "{error}");
    let ours = application(&authority.server(&["app.test"]), None);
    let error = meet(&client, &ours, "127.0.0.1").await.0.unwrap_err();
    assert!(error.is_certificate(), "{error}");
    let error = meet(&client, &ours, "no name").await.0.unwrap_err();
    assert!(matches!(&error, HandshakeError::Name(name) if name == "no name"), "{error}");

    let named = build(&folder, "{ ca: ca.pem, sni: app.test }").unwrap();
    for host in ["127.0.0.1", "no name"] {
        assert!(meet(&named, &ours, host).await.0.is_ok());
    }
}

#[tokio::test]
async fn a_self_signed_certificate_can_be_its_own_authority() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["app.test".to_owned()]).unwrap();
    replace(folder.path(), "ca.pem", &made.cert.pem());
    let issued = Issued { der: made.cert.der().clone(), cert_pem: made.cert.pem(), key: made.signing_key };
    let client = build(&folder, "ca: ca.pem").unwrap();
    meet(&client, &application(&issued, None), "app.test").await.0.unwrap();
}

#[tokio::test]
async fn without_verification_anything_goes_and_that_is_said_twice() {
    let (plan, problems) = check("verify: off");
    assert!(!problems.has_errors() && problems.to_string().contains("is not verified"), "{problems}");
    let folder = tempfile::tempdir().unwrap();
    let client = plan.unwrap().build(folder.path()).unwrap();
    assert!(matches!(client.warnings(), [one] if one.contains("is not verified")));
    let stranger = application(&Authority::new("elsewhere").server(&["other.test"]), None);
    assert!(meet(&client, &stranger, "app.test").await.0.is_ok());
}

#[tokio::test]
async fn a_certificate_is_shown_to_an_application_that_demands_one() {
    let (authority, people) = (Authority::new("inside"), Authority::new("people"));
    let folder = folder_with(&authority);
    people.client("authtap", "Acme").write(folder.path(), "me");
    let application = application(&authority.server(&["app.test"]), Some(&people));
    let with = build(&folder, "{ ca: ca.pem, cert: me.pem, key: me.key }").unwrap();
    assert!(meet(&with, &application, "app.test").await.1);
    let without = build(&folder, "ca: ca.pem").unwrap();
    assert!(!meet(&without, &application, "app.test").await.1);
}

#[tokio::test]
async fn protocols_are_offered_as_asked_for() {
    let authority = Authority::new("inside");
    let folder = folder_with(&authority);
    let application = application(&authority.server(&["app.test"]), None);
    let client = build(&folder, "ca: ca.pem").unwrap();
    let offers: [(&[&str], _); 3] =
        [(&["h2", "http/1.1"], Some(&b"h2"[..])), (&["http/1.1"], Some(b"http/1.1")), (&[], None)];
    for (alpn, agreed) in offers {
        let stream = meet_with(&client, &application, "app.test", alpn).await.0.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed, "{alpn:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_that_says_nothing_is_given_up() {
    let authority = Authority::new("inside");
    let client = build(&folder_with(&authority), "ca: ca.pem").unwrap();
    let (_far, near) = tokio::io::duplex(4096);
    let error = client.connect(near, "app.test", &[], Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(error, HandshakeError::TimedOut(_)), "{error}");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new("inside");
    let folder = folder_with(&authority);
    people_files(&folder);
    for (yaml, named, says) in [
        ("ca: gone.pem", "gone.pem", "check the path"),
        ("ca: me.key", "me.key", "no certificate in it"),
        ("{ ca: ca.pem, cert: me.pem, key: you.key }", "you.key", "does not belong to the certificate"),
    ] {
        let text = build(&folder, yaml).unwrap_err().to_string();
        assert!(text.contains(named) && text.contains(says), "{yaml}: {text}");
    }
}

fn people_files(folder: &TempDir) {
    let people = Authority::new("people");
    for name in ["me", "you"] {
        people.client(name, "Acme").write(folder.path(), name);
    }
}

#[test]
fn settings_are_checked_without_looking_at_a_file() {
    assert_eq!(check("{}").0, Some(ClientPlan::default()));
    for (yaml, says) in [
        ("{ ca: '' }", "the path is empty"),
        ("{ cert: a }", "`key` is missing"),
        ("{ key: a }", "`cert` is missing"),
        ("{ sni: 'https://app.test' }", "is no name that a certificate could have"),
        ("{ alpn: [h2] }", "alpn"),
        ("{ verify: maybe }", "expected true or false"),
        ("{ verfy: off }", "did you mean `verify`?"),
    ] {
        let (_, problems) = check(yaml);
        assert!(problems.has_errors() && problems.to_string().contains(says), "{yaml}: {problems}");
    }
    let (_, problems) = check("{ verify: off, ca: a.pem }");
    assert_eq!(problems.counts(), (0, 2), "{problems}");
}
