//! Certificates by ACME, from Debian's `pebble` (Let's Encrypt's own authority for tests), with its
//! challenges checked for real. Only with `--features acme` and AUTHTAP_TEST_SERVICES=1.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use crate::harness::binary::{Running, authtap};
use crate::harness::certificate::Authority;
use crate::harness::ports::free_port;
use crate::harness::{Origin, answer, eventually, get};

/// The one name that is this machine without a name server.
const NAME: &str = "localhost";

#[allow(clippy::print_stderr)]
fn wanted() -> bool {
    let wanted = std::env::var_os("AUTHTAP_TEST_SERVICES").is_some_and(|on| on == "1");
    if wanted {
        assert!(Command::new("pebble").arg("-version").output().is_ok(), "pebble is missing (Debian: pebble)");
    } else {
        eprintln!("not run: needs pebble; AUTHTAP_TEST_SERVICES=1 switches it on");
    }
    wanted
}

/// The authority as a process.
struct Pebble(Child);

impl Drop for Pebble {
    fn drop(&mut self) {
        // Gone already: nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Pebble {
    /// Listens on `at`, and checks names at these ports.
    fn start(folder: &Path, at: SocketAddr, tls: SocketAddr, http: SocketAddr) -> Pebble {
        let config = serde_json::json!({"pebble": {
            "listenAddress": at.to_string(),
            "managementListenAddress": SocketAddr::from(([127, 0, 0, 1], free_port())).to_string(),
            "certificate": folder.join("ca.pem"),
            "privateKey": folder.join("ca.key"),
            "httpPort": http.port(),
            "tlsPort": tls.port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        std::fs::write(folder.join("pebble.json"), config.to_string()).expect("written");
        let mut command = Command::new("pebble");
        command.arg("-config").arg(folder.join("pebble.json")).env("PEBBLE_VA_NOSLEEP", "1");
        Pebble(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("pebble starts"))
    }
}

/// Starts authtap with ACME at an authority that is not there yet. Its two listeners, plain and TLS.
fn started(
    folder: &Path,
    directory: SocketAddr,
    challenge: &str,
    origin: &Origin,
) -> (Running, SocketAddr, SocketAddr) {
    let yaml = format!(
        "version: 1\nupstream: http://{}\nlisten:\n  - 127.0.0.1:0\n  - address: 127.0.0.1:0\n    tls: {{ acme: \
         {{ domains: {NAME}, contact: ops@example.test, directory: 'https://{NAME}:{}/dir', challenge: {challenge}, \
         ca: root.pem }} }}\n",
        origin.address,
        directory.port(),
    );
    std::fs::write(folder.join("routes.yaml"), yaml).expect("written");
    let mut command = authtap(folder, &["run", "--config", "routes.yaml", "--admin", "off", "--workers", "1"]);
    let running = Running::spawn(&mut command);
    let (plain, tls) = (running.await_address("listening"), running.await_address("listening"));
    (running, plain, tls)
}

/// Asks over TLS whoever is there; who it is, is what the tests look at.
fn shown(address: SocketAddr) -> Result<CertificateDer<'static>, String> {
    let provider = authtap::tls::provider::provider().expect("a build with TLS");
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").dangerous();
    let config = builder.with_custom_certificate_verifier(Arc::new(Anyone(provider))).with_no_client_auth();
    let name = ServerName::try_from(NAME).expect("a name");
    let mut tls = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = std::net::TcpStream::connect(address).expect("a connection");
    tls.complete_io(&mut stream).map_err(|error| error.to_string())?;
    let first = tls.peer_certificates().and_then(|chain| chain.first()).map(|cert| cert.clone().into_owned());
    first.ok_or_else(|| "no certificate".into())
}

#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn a_certificate_is_got_kept_and_served_again(challenge: &str) {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    authority.write(folder.path(), "ca", &[NAME, "127.0.0.1"]);
    authority.write_itself(folder.path(), "root.pem");
    let origin = Origin::answering(|_| answer("200 OK", &[], "the application"));
    let directory = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (running, plain, tls) = started(folder.path(), directory, challenge, &origin);

    // The authority is away: the start did not wait, plain requests are served, handshakes refused.
    running.await_line("handshakes are refused until there is a certificate");
    assert_eq!(get(plain, "/.well-known/acme-challenge/not-ours").text(), "the application");
    assert!(shown(tls).is_err());

    let pebble = Pebble::start(folder.path(), directory, tls, plain);
    running.await_line("ACME certificate in use");
    let first = shown(tls).expect("a certificate");
    assert_eq!(get(plain, "/").text(), "the application");
    // The authority asked us, and not the application.
    let asked: Vec<_> = origin.requests().iter().map(|request| request.target()).collect();
    assert_eq!(asked, ["/.well-known/acme-challenge/not-ours", "/"]);
    let cache = folder.path().join("authtap-data/acme");
    let files = || std::fs::read_dir(&cache).map_or(0, |files| files.count());
    eventually("both keys are kept", || files() == 2);
    for file in std::fs::read_dir(&cache).expect("the cache") {
        assert_eq!(file.and_then(|file| file.metadata()).expect("a file").permissions().mode() & 0o777, 0o600);
    }
    drop((running, pebble));

    // Without its authority the next start serves what was kept.
    let (running, _, tls) = started(folder.path(), directory, challenge, &origin);
    running.await_line("ACME certificate in use");
    assert_eq!(shown(tls).expect("the same certificate"), first);
}

#[test]
fn pebble_issues_a_certificate_by_tls_alpn_and_the_next_start_serves_it_without_pebble() {
    a_certificate_is_got_kept_and_served_again("tls-alpn-01");
}

#[test]
fn pebble_issues_a_certificate_by_http_and_the_next_start_serves_it_without_pebble() {
    a_certificate_is_got_kept_and_served_again("http-01");
}
