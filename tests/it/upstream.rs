//! The way to the application: TLS with certificates of an authority of our own, and several
//! addresses of which some die.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::JoinHandle;

use authtap::tls::provider::provider;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::harness::binary::run;
use crate::harness::message::Wire;
use crate::harness::{Client, PATIENCE, Proxy, answer, ask, eventually, get, post};

/// An authority of our own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority"))
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.0).expect("a certificate"), key)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority");
        roots
    }
}

/// An application that speaks TLS with a certificate for `name`; with `people` it demands one.
fn secured(authority: &Authority, name: &str, people: Option<&Authority>) -> SocketAddr {
    let provider = provider().expect("TLS is compiled in");
    let (cert, key) = authority.issue(name, ExtendedKeyUsagePurpose::ServerAuth);
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = match people {
        None => builder.expect("versions").with_no_client_auth(),
        Some(people) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(people.roots()), provider);
            builder.expect("versions").with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = builder.with_single_cert(vec![CertificateDer::from(cert.der().to_vec())], key).expect("a pair");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let config = config.clone();
            std::thread::spawn(move || {
                stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                let connection = ServerConnection::new(config).expect("a connection");
                let mut wire = Wire::new(StreamOwned::new(connection, stream));
                // A handshake that fails ends here.
                while let Ok(Some(mut request)) = wire.head() {
                    if wire.request_body(&mut request).is_err() {
                        return;
                    }
                    let said = format!("{} {}", request.field("host").unwrap_or_default(), request.text());
                    if wire.inner.write_all(&answer("200 OK", &[], said)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn write(folder: &Path, name: &str, content: &str) -> String {
    let file = folder.join(name);
    std::fs::write(&file, content).expect("the file is written");
    file.display().to_string()
}

/// What `authtap check --connect` says, and its exit code.
fn check(folder: &Path, upstream: &str) -> (String, Option<i32>) {
    write(folder, "routes.yaml", &format!("version: 1\nsinks: []\n{upstream}\n"));
    let output = run(folder, &["check", "routes.yaml", "--connect"]);
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}

#[test]
fn an_https_application_is_verified_by_name_and_serves_over_kept_connections() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("one");
    let ca = write(folder.path(), "ca.pem", &authority.0.pem());
    let application = secured(&authority, "app.example.test", None);
    let upstream = format!("upstream: https://{application}\nupstream_tls: {{ ca: {ca}, sni: app.example.test }}");
    let proxy = Proxy::of(&upstream);
    let mut client = Client::connect(proxy.address);
    for body in ["one", "two"] {
        let answer = client.send(post("/", "", body)).answer("POST");
        assert_eq!((answer.status(), answer.text()), (200, format!("app.example.test {body}")));
    }
    let (said, code) = check(folder.path(), &upstream);
    assert!(said.contains(&format!("ok    upstream https://{application}")), "{said}");
    assert_eq!(code, Some(0));
}

#[test]
fn a_new_authority_is_believed_as_soon_as_its_file_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (authority, other) = (Authority::new("one"), Authority::new("two"));
    let ca = write(folder.path(), "ca.pem", &other.0.pem());
    let application = secured(&authority, "app.example.test", None);
    let upstream = format!("upstream: https://{application}\nupstream_tls: {{ ca: {ca}, sni: app.example.test }}");
    write(folder.path(), "routes.yaml", &format!("version: 1\nworkers: 1\nsinks: []\n{upstream}\n"));
    let proxy = Proxy::with_file(folder.path().join("routes.yaml"));
    assert_eq!(get(proxy.address, "/").status(), 502);
    write(folder.path(), "ca.pem", &authority.0.pem());
    eventually("the new authority is believed", || get(proxy.address, "/").status() == 200);
}

#[test]
fn a_certificate_for_another_name_or_of_another_authority_is_a_502() {
    let folder = tempfile::tempdir().expect("a folder");
    let (authority, other) = (Authority::new("one"), Authority::new("two"));
    let ca = write(folder.path(), "ca.pem", &authority.0.pem());
    let other = write(folder.path(), "other.pem", &other.0.pem());
    let application = secured(&authority, "app.example.test", None);
    for (tls, why) in [
        (format!("{{ ca: {ca}, sni: shop.example.test }}"), "not valid for name"),
        // Without a name it must be the certificate of the address.
        (format!("{{ ca: {ca} }}"), "not valid for name"),
        (format!("{{ ca: {other}, sni: app.example.test }}"), "UnknownIssuer"),
    ] {
        let upstream = format!("upstream: https://{application}\nupstream_tls: {tls}");
        let proxy = Proxy::of(&upstream);
        let answer = get(proxy.address, "/");
        assert_eq!(answer.status(), 502, "{tls}");
        assert!(!answer.text().contains("certificate"), "nothing of the inside: {}", answer.text());
        let metrics = get(proxy.admin, "/metrics").text();
        assert!(metrics.contains("authtap_upstream_errors_total{reason=\"connect\"} 1"), "{metrics}");
        let (said, code) = check(folder.path(), &upstream);
        assert!(said.contains("fail  upstream https://") && said.contains(why), "{said}");
        assert_eq!(code, Some(3));
    }
    let unverified = Proxy::of(&format!("upstream: https://{application}\nupstream_tls: {{ verify: off }}"));
    assert_eq!(get(unverified.address, "/").status(), 200);
}

#[test]
fn an_application_that_demands_a_certificate_gets_ours() {
    let folder = tempfile::tempdir().expect("a folder");
    let (authority, people) = (Authority::new("one"), Authority::new("two"));
    let ca = write(folder.path(), "ca.pem", &authority.0.pem());
    let (cert, key) = people.issue("authtap", ExtendedKeyUsagePurpose::ClientAuth);
    let cert = write(folder.path(), "client.pem", &cert.pem());
    let key = write(folder.path(), "client.key", &key.serialize_pem());
    let application = secured(&authority, "127.0.0.1", Some(&people));
    let shown = format!("upstream: https://{application}\nupstream_tls: {{ ca: {ca}, cert: {cert}, key: {key} }}");
    assert_eq!(get(Proxy::of(&shown).address, "/").status(), 200);
    assert_eq!(check(folder.path(), &shown).1, Some(0));

    let hidden = format!("upstream: https://{application}\nupstream_tls: {{ ca: {ca} }}");
    assert_eq!(get(Proxy::of(&hidden).address, "/").status(), 502);
}

#[test]
fn an_application_that_speaks_no_tls_or_says_nothing_is_refused_in_time() {
    let plain = crate::harness::Origin::raw(|conn| {
        conn.send(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        conn.await_end();
    });
    let silent = crate::harness::Origin::raw(|conn| {
        conn.await_end();
    });
    for (origin, status) in [(plain, 502), (silent, 504)] {
        let tls = "upstream_tls: { verify: off }\ntimeouts: { connect: 300ms }";
        let proxy = Proxy::of(&format!("upstream: https://{}\n{tls}", origin.address));
        assert_eq!(get(proxy.address, "/").status(), status);
    }
}

/// An application on a Unix socket that can die and come back: nobody else can take its address
/// meanwhile. It answers with its name, one request a connection.
struct Mortal {
    path: PathBuf,
    dead: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Mortal {
    fn born(folder: &Path, name: &'static str) -> Mortal {
        let path = folder.join(name);
        let listener = UnixListener::bind(&path).expect("a socket");
        let dead = Arc::new(AtomicBool::new(false));
        let told = dead.clone();
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if told.load(SeqCst) {
                    return;
                }
                stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                let mut wire = Wire::new(stream);
                if let Ok(Some(mut request)) = wire.head()
                    && wire.request_body(&mut request).is_ok()
                {
                    // Whoever asked may be gone.
                    let _ = wire.inner.write_all(&answer("200 OK", &["Connection: close"], name));
                    let _ = wire.inner.read(&mut [0; 1]);
                }
            }
        });
        Mortal { path, dead, thread: Some(thread) }
    }

    fn die(mut self) {
        self.dead.store(true, SeqCst);
        // Wakes it, so that it sees.
        let _ = UnixStream::connect(&self.path);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
        std::fs::remove_file(&self.path).expect("the socket goes away");
    }
}

#[test]
fn of_two_addresses_one_may_die_without_a_failed_request_and_returns() {
    let folder = tempfile::tempdir().expect("a folder");
    let (a, b) = (Mortal::born(folder.path(), "a"), Mortal::born(folder.path(), "b"));
    let socket = |name: &str| folder.path().join(name).display().to_string();
    let upstream = format!("upstream: ['unix:{}', 'unix:{}']", socket("a"), socket("b"));
    let proxy = Proxy::of(&upstream);
    let who = || {
        let answer = get(proxy.address, "/");
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.text()
    };
    assert_ne!(who(), who(), "they take turns");

    a.die();
    let ejected = || get(proxy.admin, "/metrics").text().contains("authtap_upstream_ejections_total 1\n");
    assert!(!ejected());
    eventually("the dead one is put out", || {
        assert_eq!(who(), "b");
        assert_eq!(ask(proxy.address, post("/", "", "x")).text(), "b", "a POST too: nothing of it had been sent");
        ejected()
    });
    let (said, code) = check(folder.path(), &upstream);
    assert!(said.contains("fail  upstream unix:") && said.contains("ok    upstream unix:"), "{said}");
    assert_eq!(code, Some(3));

    // It is back, but out for a while; as soon as there is no other it is asked nevertheless, and in.
    let a = Mortal::born(folder.path(), "a");
    for _ in 0..4 {
        assert_eq!(who(), "b");
    }
    b.die();
    let _b = {
        for _ in 0..4 {
            assert_eq!(who(), "a");
        }
        Mortal::born(folder.path(), "b")
    };
    assert_eq!(who(), "a");
    a.die();
    assert_eq!(who(), "b");
    let metrics = get(proxy.admin, "/metrics").text();
    assert!(metrics.contains("authtap_upstream_errors_total{reason=\"connect\"} 0"), "{metrics}");
}

#[test]
fn if_every_address_is_dead_it_is_a_502() {
    let folder = tempfile::tempdir().expect("a folder");
    let none = |name: &str| format!("'unix:{}'", folder.path().join(name).display());
    let proxy = Proxy::of(&format!("upstream: {{ servers: [{}, {}] }}", none("a"), none("b")));
    for _ in 0..5 {
        assert_eq!(get(proxy.address, "/").status(), 502);
    }
    assert!(get(proxy.admin, "/metrics").text().contains("authtap_upstream_errors_total{reason=\"connect\"} 5"));
}
