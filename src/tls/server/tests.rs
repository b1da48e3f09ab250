//! Handshakes between a listener's TLS and a rustls client, over loopback or in memory.

use std::io;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;

use super::*;
use crate::tls::fixture::{Authority, replace};

/// Long enough never to be what ends a handshake here.
const LONG: Duration = Duration::from_secs(60);

fn check(yaml: &str) -> (Option<ServerPlan>, Problems) {
    let mut problems = Problems::new("t.yaml", yaml);
    let plan = Node::parse(yaml, &mut problems).and_then(|node| ServerPlan::check(&node, &mut problems));
    (plan, problems)
}

fn build(folder: &TempDir, yaml: &str) -> Result<ServerTls, TlsError> {
    let (plan, problems) = check(yaml);
    assert!(problems.is_empty(), "{problems}");
    plan.unwrap().build(folder.path())
}

/// A client that trusts these authorities and offers these protocols.
fn client(roots: RootCertStore, alpn: &[&str]) -> ClientConfig {
    client_with(roots, alpn, None)
}

fn client_with(
    roots: RootCertStore,
    alpn: &[&str],
    identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider::provider().unwrap())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((cert, key)) => builder.with_client_auth_cert(vec![cert], key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

type Served = (TlsStream<Recorder<DuplexStream>>, TlsFacts);

/// A handshake, both sides of it. A refusal after the client's last message reaches the client only
/// when it reads, so what the server says is what counts.
async fn meet(
    server: &ServerTls,
    config: &Arc<ClientConfig>,
    name: &str,
) -> (Result<Served, HandshakeError>, io::Result<ClientStream<DuplexStream>>) {
    let (far, near) = tokio::io::duplex(64 << 10);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connecting = TlsConnector::from(config.clone()).connect(name, far);
    tokio::join!(server.accept(near, LONG), connecting)
}

async fn met(server: &ServerTls, config: &Arc<ClientConfig>, name: &str) -> (Served, ClientStream<DuplexStream>) {
    let (served, connected) = meet(server, config, name).await;
    (served.unwrap(), connected.unwrap())
}

/// Something said in each direction, after which the client also has its tickets.
async fn talk<A, B>(server: &mut A, client: &mut B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut got = [0; 4];
    client.write_all(b"ping").await.unwrap();
    client.flush().await.unwrap();
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"ping");
    server.write_all(b"pong").await.unwrap();
    server.flush().await.unwrap();
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"pong");
}

fn shown<S>(stream: &ClientStream<S>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

/// A folder with one certificate for `app.test` in it, and its authority.
fn one_certificate() -> (TempDir, Authority) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("test authority");
    authority.server(&["app.test"]).write(folder.path(), "app");
    (folder, authority)
}

const ONE: &str = "{ cert: app.pem, key: app.key }";

#[test]
fn one_is_shared_by_all_traffic_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<ServerTls>();
    shared::<crate::tls::client::ClientTls>();
}

#[tokio::test]
async fn a_connection_over_loopback_has_its_facts() {
    let (folder, authority) = one_certificate();
    let server = build(&folder, ONE).unwrap();
    assert!(server.warnings().is_empty());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = async { server.accept(listener.accept().await.unwrap().0, LONG).await.unwrap() };
    let far = async {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let name = ServerName::try_from("App.Test").unwrap();
        let config = Arc::new(client(authority.roots(), &["http/1.1", "h2"]));
        TlsConnector::from(config).connect(name, stream).await.unwrap()
    };
    let ((mut near, facts), mut far) = tokio::join!(near, far);
    talk(&mut near, &mut far).await;
    assert_eq!(facts.version, "1.3");
    assert_eq!(facts.sni.as_deref(), Some("app.test"));
    assert_eq!(facts.alpn.as_deref(), Some("h2"));
    assert_eq!(facts.client_subject, None);
    let cipher = facts.cipher.unwrap();
    assert!(cipher.starts_with("TLS_") && cipher.contains("_SHA"), "{cipher}");
    let ja4 = facts.ja4.unwrap();
    // The client's first protocol, not the one agreed on.
    assert!(ja4.starts_with("t13d") && &ja4[8..10] == "h1", "{ja4}");
}

#[tokio::test]
async fn the_certificate_is_chosen_by_the_name_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("test authority");
    let default = authority.server(&["default.test", "192.0.2.1"]);
    let exact = authority.server(&["www.app.test"]);
    let wildcard = authority.server(&["*.app.test"]);
    default.write(folder.path(), "a");
    exact.write(folder.path(), "b");
    wildcard.write(folder.path(), "c");
    let server = build(
        &folder,
        "certificates: [{ cert: a.pem, key: a.key }, { cert: c.pem, key: c.key }, { cert: b.pem, key: b.key }]",
    )
    .unwrap();
    // The client must take whatever it is shown, so that it can be looked at.
    let mut config = client(authority.roots(), &[]);
    config.dangerous().set_certificate_verifier(Arc::new(Everything));
    let config = Arc::new(config);
    for (name, expected) in [
        ("default.test", &default),
        ("www.app.test", &exact),
        ("WWW.App.test", &exact),
        ("other.app.test", &wildcard),
        ("two.labels.app.test", &default),
        ("app.test", &default),
        ("unknown.test", &default),
        // An address is not sent as a name.
        ("192.0.2.1", &default),
    ] {
        let (_, far) = met(&server, &config, name).await;
        assert_eq!(shown(&far), expected.der, "{name}");
    }
}

#[derive(Debug)]
struct Everything;

impl rustls::client::danger::ServerCertVerifier for Everything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.verify_tls12_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider::provider().unwrap().signature_verification_algorithms.supported_schemes()
    }
}

#[test]
fn of_several_certificates_for_a_name_one_is_chosen_that_the_client_can_verify() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("test authority");
    let usual = authority.server(&["app.test"]);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let other = authority.server_with(&["app.test"], key);
    usual.write(folder.path(), "a");
    other.write(folder.path(), "b");
    let server = build(&folder, "certificates: [{ cert: a.pem, key: a.key }, { cert: b.pem, key: b.key }]").unwrap();
    let (p256, p384) = (SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ECDSA_NISTP384_SHA384);
    let chosen = |name: &str, schemes: &[SignatureScheme]| {
        server.certificates.as_ref().unwrap().current.load().choose(Some(name), schemes).unwrap().cert[0].clone()
    };
    assert_eq!(chosen("app.test", &[p384, p256]), usual.der);
    assert_eq!(chosen("app.test", &[p384]), other.der);
    assert_eq!(chosen("app.test.", &[p384]), other.der);
    // With neither it is for the handshake to say so.
    assert_eq!(chosen("app.test", &[SignatureScheme::ED25519]), usual.der);
    assert_eq!(chosen("unknown.test", &[p384]), usual.der);
}

#[tokio::test]
async fn a_name_is_told_only_where_the_client_sent_one() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("test authority");
    authority.server(&["192.0.2.1"]).write(folder.path(), "app");
    let server = build(&folder, ONE).unwrap();
    let ((_, facts), _) = met(&server, &Arc::new(client(authority.roots(), &[])), "192.0.2.1").await;
    assert_eq!((facts.sni, facts.alpn), (None, None));
    assert!(facts.ja4.unwrap().starts_with("t13i"));
}

#[tokio::test]
async fn a_fingerprint_is_the_clients_and_not_the_connections() {
    let (folder, authority) = one_certificate();
    let server = build(&folder, ONE).unwrap();
    let mut fingerprints = Vec::new();
    for alpn in [&["h2"], &["h2"], &["http/1.1"]] {
        // A new configuration each, so that nothing is resumed; rustls shuffles its extensions.
        let ((_, facts), _) = met(&server, &Arc::new(client(authority.roots(), alpn)), "app.test").await;
        fingerprints.push(facts.ja4.unwrap());
    }
    assert_eq!(fingerprints[0], fingerprints[1]);
    assert_ne!(fingerprints[0], fingerprints[2]);
    assert_eq!(fingerprints[0][10..], fingerprints[2][10..]);
}

#[tokio::test]
async fn a_session_is_resumed_with_tickets_and_without() {
    for tickets in ["on", "off"] {
        for (min_version, highest) in [("1.2", &version::TLS12), ("1.3", &version::TLS13)] {
            let (folder, authority) = one_certificate();
            let yaml = format!(
                "{{ cert: app.pem, key: app.key, min_version: \"{min_version}\", session_tickets: {tickets} }}"
            );
            let server = build(&folder, &yaml).unwrap();
            assert_eq!(server.config().ticketer.enabled(), tickets == "on");
            let config = ClientConfig::builder_with_provider(provider::provider().unwrap())
                .with_protocol_versions(&[highest])
                .unwrap()
                .with_root_certificates(authority.roots())
                .with_no_client_auth();
            let config = Arc::new(config);
            let mut kinds = Vec::new();
            for _ in 0..2 {
                let ((mut near, facts), mut far) = met(&server, &config, "app.test").await;
                talk(&mut near, &mut far).await;
                assert_eq!((facts.version, facts.sni.as_deref()), (min_version, Some("app.test")));
                kinds.push(near.get_ref().1.handshake_kind().unwrap());
            }
            let full = matches!(kinds[0], HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest);
            assert!(full && kinds[1] == HandshakeKind::Resumed, "{kinds:?} {min_version}, tickets {tickets}");
        }
    }
}

#[tokio::test]
async fn versions_below_the_lowest_are_refused() {
    let (folder, authority) = one_certificate();
    let server = build(&folder, "{ cert: app.pem, key: app.key, min_version: \"1.3\" }").unwrap();
    let old = ClientConfig::builder_with_provider(provider::provider().unwrap())
        .with_protocol_versions(&[&version::TLS12])
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    let (served, connected) = meet(&server, &Arc::new(old), "app.test").await;
    assert!(served.is_err() && connected.is_err());
}

#[tokio::test]
async fn a_client_of_tls_1_1_or_1_0_is_told_that_its_version_is_not_spoken() {
    let (folder, _) = one_certificate();
    let server = build(&folder, ONE).unwrap();
    for legacy_version in [0x0302, 0x0301] {
        let hello = client_hello::tests::Offer {
            legacy_version,
            cipher_suites: vec![0xc013, 0x002f],
            extensions: vec![0x000d, 0x0017],
            supported_versions: Vec::new(),
            signature_algorithms: vec![0x0403, 0x0401],
            alpn: Vec::new(),
        };
        let (mut far, near) = tokio::io::duplex(4096);
        far.write_all(&hello.records(16_384)).await.unwrap();
        assert!(server.accept(near, LONG).await.is_err());
        let mut answer = Vec::new();
        far.read_to_end(&mut answer).await.unwrap();
        // An alert, fatal, `protocol_version` (RFC 8446 section 6).
        assert_eq!((answer[0], &answer[5..]), (21, &[2, 70][..]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_let_go() {
    let (folder, _) = one_certificate();
    let server = build(&folder, ONE).unwrap();
    let (_far, near) = tokio::io::duplex(64);
    let error = server.accept(near, Duration::from_secs(10)).await.unwrap_err();
    assert!(matches!(error, HandshakeError::TimedOut(_)), "{error}");
}

#[tokio::test]
async fn what_is_no_tls_is_an_error_and_no_panic() {
    let (folder, _) = one_certificate();
    let server = build(&folder, ONE).unwrap();
    let (mut far, near) = tokio::io::duplex(4096);
    far.write_all(b"GET / HTTP/1.1\r\nhost: app.test\r\n\r\n").await.unwrap();
    let error = server.accept(near, LONG).await.unwrap_err();
    assert!(matches!(error, HandshakeError::Failed(_)) && !error.is_certificate(), "{error}");
}

#[tokio::test]
async fn the_preferred_protocol_is_agreed_on_and_none_in_common_is_refused() {
    let (folder, authority) = one_certificate();
    let alpn_of = async |server: &ServerTls, offered: &[&str]| {
        let (served, _) = meet(server, &Arc::new(client(authority.roots(), offered)), "app.test").await;
        served.map(|(_, facts)| facts.alpn)
    };
    let both = build(&folder, ONE).unwrap();
    assert_eq!(alpn_of(&both, &["http/1.1", "h2"]).await.unwrap().as_deref(), Some("h2"));
    assert_eq!(alpn_of(&both, &["http/1.1"]).await.unwrap().as_deref(), Some("http/1.1"));
    assert_eq!(alpn_of(&both, &[]).await.unwrap(), None);
    assert!(alpn_of(&both, &["smtp"]).await.is_err());
    let one = build(&folder, "{ cert: app.pem, key: app.key, alpn: http/1.1 }").unwrap();
    assert_eq!(alpn_of(&one, &["h2", "http/1.1"]).await.unwrap().as_deref(), Some("http/1.1"));
    let none = build(&folder, "{ cert: app.pem, key: app.key, alpn: [] }").unwrap();
    assert_eq!(alpn_of(&none, &["h2"]).await.unwrap(), None);
}

#[tokio::test]
async fn certificates_of_clients_are_demanded_or_welcome() {
    let (folder, authority) = one_certificate();
    let people = Authority::new("people");
    replace(folder.path(), "people.pem", &people.pem());
    let alice = people.client("alice", "Acme, Inc.");
    let stranger = Authority::new("elsewhere").client("alice", "Acme, Inc.");
    let with = |issued: &crate::tls::fixture::Issued| {
        Arc::new(client_with(authority.roots(), &[], Some((issued.der.clone(), issued.key_der()))))
    };
    let without = Arc::new(client(authority.roots(), &[]));
    let yaml = "cert: app.pem\nkey: app.key\nclient_auth: { ca: people.pem";

    let required = build(&folder, &format!("{yaml} }}")).unwrap();
    let ((_, facts), _) = met(&required, &with(&alice), "app.test").await;
    assert_eq!(facts.client_subject.as_deref(), Some("CN=alice,O=Acme\\, Inc."));
    let error = meet(&required, &without, "app.test").await.0.unwrap_err();
    assert!(error.is_certificate(), "{error}");
    let error = meet(&required, &with(&stranger), "app.test").await.0.unwrap_err();
    assert!(error.is_certificate(), "{error}");

    let optional = build(&folder, &format!("{yaml}, mode: optional }}")).unwrap();
    let ((_, facts), _) = met(&optional, &with(&alice), "app.test").await;
    assert!(facts.client_subject.is_some());
    let ((_, facts), _) = met(&optional, &without, "app.test").await;
    assert_eq!(facts.client_subject, None);
    // A certificate that is shown must be good, even where none is demanded.
    assert!(meet(&optional, &with(&stranger), "app.test").await.0.is_err());
}

#[tokio::test]
async fn a_resumed_session_still_knows_its_clients_certificate() {
    let (folder, authority) = one_certificate();
    let people = Authority::new("people");
    replace(folder.path(), "people.pem", &people.pem());
    let alice = people.client("alice", "Acme");
    let server = build(&folder, "cert: app.pem\nkey: app.key\nclient_auth: { ca: people.pem }").unwrap();
    let config = Arc::new(client_with(authority.roots(), &[], Some((alice.der.clone(), alice.key_der()))));
    for resumed in [false, true] {
        let ((mut near, facts), mut far) = met(&server, &config, "app.test").await;
        talk(&mut near, &mut far).await;
        assert_eq!(near.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed), resumed);
        assert_eq!(facts.client_subject.as_deref(), Some("CN=alice,O=Acme"));
    }
}

#[tokio::test]
async fn new_authorities_for_clients_end_the_sessions_of_the_old() {
    let (folder, authority) = one_certificate();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    replace(folder.path(), "people.pem", &old.pem());
    let server = build(&folder, "cert: app.pem\nkey: app.key\nclient_auth: { ca: people.pem }").unwrap();
    let config = |authority_of_client: &Authority| {
        let issued = authority_of_client.client("alice", "Acme");
        Arc::new(client_with(authority.roots(), &[], Some((issued.der.clone(), issued.key_der()))))
    };
    let (olds, news) = (config(&old), config(&new));
    let ((mut near, _), mut far) = met(&server, &olds, "app.test").await;
    talk(&mut near, &mut far).await;
    assert!(meet(&server, &news, "app.test").await.0.is_err());

    replace(folder.path(), "people.pem", &new.pem());
    let refreshed = server.refresh();
    assert!(matches!(refreshed.as_slice(), [Refreshed { what: "tls.client_auth.ca", result: Ok(()), .. }]));
    // Its ticket would still be good, had the keys been kept.
    assert!(meet(&server, &olds, "app.test").await.0.is_err());
    met(&server, &news, "app.test").await;
    talk(&mut near, &mut far).await;

    replace(folder.path(), "people.pem", "nothing");
    let refreshed = server.refresh();
    assert!(matches!(refreshed.as_slice(), [Refreshed { result: Err(TlsError::NoCertificate { .. }), .. }]));
    assert!(server.refresh().is_empty());
    met(&server, &news, "app.test").await;
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_while_old_ones_go_on() {
    let (folder, authority) = one_certificate();
    let server = build(&folder, ONE).unwrap();
    assert!(server.refresh().is_empty());
    let config = || Arc::new(client(authority.roots(), &[]));
    let ((mut near, _), mut far) = met(&server, &config(), "app.test").await;
    talk(&mut near, &mut far).await;

    let renewed = authority.server(&["app.test", "new.test"]);
    renewed.write(folder.path(), "app");
    let refreshed = server.refresh();
    assert!(matches!(refreshed.as_slice(), [Refreshed { what: "tls.cert", result: Ok(()), .. }]), "{refreshed:?}");
    assert_eq!(refreshed[0].file, folder.path().join("app.pem"));
    assert!(server.refresh().is_empty());

    for name in ["app.test", "new.test"] {
        let (_, later) = met(&server, &config(), name).await;
        assert_eq!(shown(&later), renewed.der);
    }
    talk(&mut near, &mut far).await;
    assert_ne!(shown(&far), renewed.der);
}

#[tokio::test]
async fn a_certificate_is_found_by_the_names_of_its_renewal() {
    let (folder, authority) = one_certificate();
    authority.server(&["old.test"]).write(folder.path(), "b");
    let server =
        build(&folder, "certificates: [{ cert: app.pem, key: app.key }, { cert: b.pem, key: b.key }]").unwrap();
    let renewed = authority.server(&["new.test"]);
    renewed.write(folder.path(), "b");
    assert_eq!(server.refresh().len(), 1);
    let config = Arc::new(client(authority.roots(), &[]));
    let (_, far) = met(&server, &config, "new.test").await;
    assert_eq!(shown(&far), renewed.der);
    // Nobody has the old name any more: the first certificate is shown, and the client refuses it.
    assert!(meet(&server, &config, "old.test").await.1.is_err());
}

#[tokio::test]
async fn a_bad_replacement_is_reported_once_and_the_old_certificate_stays() {
    let (folder, authority) = one_certificate();
    let server = build(&folder, ONE).unwrap();
    let config = Arc::new(client(authority.roots(), &[]));
    let (_, far) = met(&server, &config, "app.test").await;
    let first = shown(&far);

    // A renewal whose key was not written yet.
    let renewed = authority.server(&["app.test"]);
    replace(folder.path(), "app.pem", &renewed.cert_pem);
    let refreshed = server.refresh();
    assert!(
        matches!(refreshed.as_slice(), [Refreshed { result: Err(TlsError::Mismatch { .. }), .. }]),
        "{refreshed:?}"
    );
    assert!(server.refresh().is_empty());
    let fresh = || Arc::new(client(authority.roots(), &[]));
    assert_eq!(shown(&met(&server, &fresh(), "app.test").await.1), first);

    std::fs::remove_file(folder.path().join("app.key")).unwrap();
    let refreshed = server.refresh();
    assert!(matches!(refreshed.as_slice(), [Refreshed { result: Err(TlsError::Read { .. }), .. }]), "{refreshed:?}");
    assert!(server.refresh().is_empty());
    assert_eq!(shown(&met(&server, &fresh(), "app.test").await.1), first);

    renewed.write(folder.path(), "app");
    assert!(server.refresh().iter().all(|one| one.result.is_ok()));
    assert_eq!(shown(&met(&server, &fresh(), "app.test").await.1), renewed.der);
}

#[tokio::test]
async fn a_stapled_response_is_sent_as_it_stands_in_its_file() {
    let (folder, authority) = one_certificate();
    replace(folder.path(), "app.ocsp", "a response");
    let server = build(&folder, "{ cert: app.pem, key: app.key, ocsp: app.ocsp }").unwrap();
    let stapled = |server: &ServerTls| server.certificates.as_ref().unwrap().current.load().keys[0].ocsp.clone();
    assert_eq!(stapled(&server).as_deref(), Some(&b"a response"[..]));
    replace(folder.path(), "app.ocsp", "a later response");
    assert_eq!(server.refresh().len(), 1);
    assert_eq!(stapled(&server).as_deref(), Some(&b"a later response"[..]));
    met(&server, &Arc::new(client(authority.roots(), &[])), "app.test").await;
}

#[test]
fn files_that_cannot_be_used_are_named_with_the_remedy() {
    let (folder, authority) = one_certificate();
    let other = authority.server(&["app.test"]);
    let (other_cert, other_key) = other.write(folder.path(), "other");
    let key = other.key.serialize_pem();
    replace(folder.path(), "empty.pem", "");
    replace(folder.path(), "cut.key", &key[..key.len() / 2]);
    replace(folder.path(), "locked.key", &key.replace("PRIVATE", "ENCRYPTED PRIVATE"));
    replace(folder.path(), "mad.key", "-----BEGIN PRIVATE KEY-----\nMAAwc2VjcmV0\n-----END PRIVATE KEY-----\n");
    replace(folder.path(), "mad.pem", "-----BEGIN CERTIFICATE-----\nMAAwc2VjcmV0\n-----END CERTIFICATE-----\n");
    replace(folder.path(), "torn.key", "-----BEGIN PRIVATE KEY\nc2VjcmV0\n");
    replace(folder.path(), "huge.pem", &"x".repeat(5 << 20));
    for (cert, key, named, says) in [
        ("gone.pem", "app.key", "gone.pem", "check the path"),
        ("app.pem", "gone.key", "gone.key", "check the path"),
        ("empty.pem", "app.key", "empty.pem", "no certificate in it"),
        ("app.key", "app.key", "app.key", "no certificate in it"),
        ("app.pem", "app.pem", "app.pem", "no private key in it"),
        ("app.pem", "cut.key", "cut.key", "no END line"),
        ("app.pem", "torn.key", "torn.key", "BEGIN line is not well formed"),
        ("app.pem", "locked.key", "locked.key", "unlock it"),
        ("app.pem", "mad.key", "mad.key", "damaged or of a kind"),
        ("mad.pem", "app.key", "mad.pem", "cannot be read"),
        ("app.pem", "other.key", "other.key", "does not belong to the certificate"),
        ("huge.pem", "app.key", "huge.pem", "larger than 4 MiB"),
        (".", "app.key", "certificate file", "no file"),
    ] {
        let error = build(&folder, &format!("{{ cert: {cert}, key: {key} }}")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(named) && text.contains(says) && text.contains("; "), "{cert} {key}: {text}");
        assert!(!text.ends_with('.') && !text.contains("c2VjcmV0") && !text.contains("secret"), "{text}");
    }
    let wrong = build(&folder, "{ cert: app.pem, key: other.key }").unwrap_err();
    assert_eq!(
        wrong.to_string(),
        format!(
            "the key in {} does not belong to the certificate in {}; name the key it was made with, \
             and let the server's own certificate stand first in its file",
            other_key.display(),
            folder.path().join("app.pem").display()
        )
    );
    assert!(other_cert.exists());
    let none = build(&folder, "cert: app.pem\nkey: app.key\nclient_auth: { ca: app.key }").unwrap_err();
    assert!(none.to_string().contains("client_auth.ca file"), "{none}");
}

#[cfg(unix)]
#[test]
fn a_key_that_everybody_can_read_is_warned_of() {
    let (folder, _) = one_certificate();
    let key = folder.path().join("app.key");
    let mode = |mode| std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    mode(0o640);
    assert!(build(&folder, ONE).unwrap().warnings().is_empty());
    mode(0o644);
    let server = build(&folder, ONE).unwrap();
    assert!(matches!(server.warnings(), [one] if one.contains("app.key") && one.contains("chmod")));
}

#[test]
fn a_certificate_that_no_name_leads_to_is_warned_of() {
    let (folder, authority) = one_certificate();
    authority.client("alice", "Acme").write(folder.path(), "nameless");
    let yaml = |first, second| {
        format!(
            "certificates: [{{ cert: {first}.pem, key: {first}.key }}, {{ cert: {second}.pem, key: {second}.key }}]"
        )
    };
    let server = build(&folder, &yaml("app", "nameless")).unwrap();
    assert!(matches!(server.warnings(), [one] if one.contains("nameless.pem")));
    assert!(build(&folder, &yaml("nameless", "app")).unwrap().warnings().is_empty());
}

#[test]
fn settings_are_checked_without_looking_at_a_file() {
    let (plan, problems) = check("{ cert: nowhere.pem, key: nowhere.key }");
    assert!(problems.is_empty());
    let plan = plan.unwrap();
    assert_eq!(plan.alpn(), ["h2", "http/1.1"]);
    assert_eq!((plan.min_version, plan.session_tickets), (MinVersion::Tls12, true));
    for (yaml, says) in [
        ("{}", "`cert` is missing"),
        ("{ cert: a }", "`key` is missing"),
        ("{ cert: '', key: b }", "the path is empty"),
        ("{ certificates: [] }", "the list is empty"),
        ("{ certificates: [{ cert: a }] }", "`key` is missing"),
        ("{ cert: a, key: b, certificates: [{ cert: a, key: b }] }", "stands beside `certificates`"),
        ("{ cert: a, key: b, min_version: '1.0' }", "TLS 1.0 is not spoken"),
        ("{ cert: a, key: b, min_version: 1.1 }", "TLS 1.1 is not spoken"),
        ("{ cert: a, key: b, min_version: '2' }", "`2` is not known here"),
        ("{ cert: a, key: b, alpn: [h3] }", "did you mean `h2`?"),
        ("{ cert: a, key: b, client_auth: {} }", "`ca` is missing"),
        ("{ cert: a, key: b, client_auth: { ca: c, mode: maybe } }", "`maybe` is not known here"),
        ("{ cert: a, key: b, session_tickets: some }", "expected true or false"),
        ("{ cert: a, key: b, sni: strict }", "unknown key `sni`"),
    ] {
        let (_, problems) = check(yaml);
        assert!(problems.has_errors() && problems.to_string().contains(says), "{yaml}: {problems}");
    }
    let (plan, problems) = check("{ cert: a, key: b, alpn: [h2, h2], min_version: 1.3 }");
    assert!(!problems.has_errors() && problems.to_string().contains("stands twice"), "{problems}");
    let plan = plan.unwrap();
    assert_eq!((plan.alpn(), plan.min_version), (&["h2"][..], MinVersion::Tls13));
}
