//! TLS towards the application and the receivers of events: its settings and the handshake.
//!
//! The application's certificate is verified against the system's authorities or a named one, and
//! its host name against the certificate. It must never fall back to less: verification ends only
//! where the configuration says `verify: off`, and that is warned of each time it is read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{HandshakeError, TlsError, files, path, provider};
use crate::config::node::{Map, Node};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};

/// The keys of `upstream_tls:`.
pub const FIELDS: &[Field] = &[
    Field::new("ca", Kind::Str, "", "PEM file of the authorities to trust, in place of the system's"),
    Field::new("sni", Kind::Str, "", "the name in the application's certificate, in place of the upstream's host"),
    Field::new("cert", Kind::Str, "", "PEM file of a certificate to show to the application"),
    Field::new("key", Kind::Str, "", "PEM file of that certificate's private key"),
    Field::new(
        "verify",
        Kind::Bool,
        "on",
        "off: any certificate will do, and anybody in between can read and change all",
    ),
];

/// The keys of a sink's `tls:`.
const RECEIVER_FIELDS: &[Field] = &[
    Field::new("ca", Kind::Str, "", "PEM file of the authorities to trust, in place of the system's"),
    Field::new(
        "sni",
        Kind::Str,
        "",
        "the name in the receiver's certificate, in place of the host that is connected to",
    ),
    Field::new("cert", Kind::Str, "", "PEM file of a certificate to show to the receiver"),
    Field::new("key", Kind::Str, "", "PEM file of that certificate's private key"),
    Field::new(
        "verify",
        Kind::Bool,
        "on",
        "off: any certificate will do, and anybody in between can read and change all",
    ),
];

/// What stands under a sink's `tls:`.
pub const RECEIVER: Kind = Kind::Named("sink_tls", || &Kind::Map(RECEIVER_FIELDS));

/// Said wherever verification of a receiver is off.
const UNVERIFIED_RECEIVER: &str = "the receiver's certificate is not verified: anybody on the way to it can read and change events, and learn the secret they are sent with";

/// Said wherever verification is off.
const UNVERIFIED: &str = "the application's certificate is not verified: anybody on the way to it can read and change everything, passwords included";

/// A checked `upstream_tls:`. No file was looked at yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPlan {
    ca: Option<PathBuf>,
    sni: Option<String>,
    identity: Option<(PathBuf, PathBuf)>,
    verify: bool,
    /// The configuration's word for where this stands.
    section: &'static str,
}

impl Default for ClientPlan {
    /// What is in force for an `https:` upstream without a configuration.
    fn default() -> ClientPlan {
        ClientPlan { ca: None, sni: None, identity: None, verify: true, section: "upstream_tls" }
    }
}

impl ClientPlan {
    /// Checks `upstream_tls:`. `None` if there was an error.
    pub fn check(node: &Node, problems: &mut Problems) -> Option<ClientPlan> {
        let map = node.map(FIELDS, problems)?;
        provider::check(node, problems);
        let ca = optional_path(&map, "ca", problems);
        let sni = check_name(&map, problems);
        let identity = check_identity(&map, problems);
        let verify = map.get("verify").map_or(Some(true), |on| on.bool(problems));
        if verify == Some(false)
            && let Some(at) = map.get("verify")
        {
            let hint = "name the authority of its certificate, or a self-signed certificate itself: ca: FILE";
            problems.warn(at, UNVERIFIED.into(), hint);
            if let Some(ca) = map.get("ca") {
                problems.warn(ca, "`ca` does nothing with `verify: off`".into(), "leave one of the two out");
            }
        }
        Some(ClientPlan { ca: ca?, sni: sni?, identity: identity?, verify: verify?, section: "upstream_tls" })
    }

    /// Checks a sink's `tls:`, or takes what is usual without one. `None` if
    /// there was an error.
    pub fn check_receiver(node: Option<&Node>, problems: &mut Problems) -> Option<ClientPlan> {
        let usual = ClientPlan { section: "tls", ..ClientPlan::default() };
        let Some(node) = node else { return Some(usual) };
        let map = node.map(RECEIVER_FIELDS, problems)?;
        provider::check(node, problems);
        let (ca, sni) = (optional_path(&map, "ca", problems), check_name(&map, problems));
        let identity = check_identity(&map, problems);
        let verify = map.get("verify").map_or(Some(true), |on| on.bool(problems));
        if verify == Some(false)
            && let Some(at) = map.get("verify")
        {
            let hint = "name the authority of its certificate, or a self-signed certificate itself: ca: FILE";
            problems.warn(at, UNVERIFIED_RECEIVER.into(), hint);
        }
        Some(ClientPlan { ca: ca?, sni: sni?, identity: identity?, verify: verify?, ..usual })
    }

    /// The files that it names.
    pub fn files(&self, base: &Path) -> Vec<PathBuf> {
        let identity = self.identity.iter().flat_map(|(cert, key)| [cert, key]);
        self.ca.iter().chain(identity).map(|file| base.join(file)).collect()
    }

    /// Reads the files, or the system's authorities. Relative paths are relative to `base`.
    ///
    /// # Errors
    /// A file cannot be used, or the system has no authorities; the error says what to do.
    pub fn build(&self, base: &Path) -> Result<ClientTls, TlsError> {
        let provider = provider::provider()?;
        let mut warnings = Vec::new();
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?;
        let builder = if self.verify {
            builder.with_root_certificates(match &self.ca {
                Some(ca) if self.section == "tls" => files::roots("tls.ca", &base.join(ca))?,
                Some(ca) => files::roots("upstream_tls.ca", &base.join(ca))?,
                None => system_roots()?,
            })
        } else {
            let said = if self.section == "tls" { UNVERIFIED_RECEIVER } else { UNVERIFIED };
            warnings.push(format!("{said}; set `ca` and remove `verify: off`"));
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider.clone())))
        };
        let config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let (identity, warned) = files::certified_key(&base.join(cert), &base.join(key), &provider)?;
                warnings.extend(warned);
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity)))
            }
        };
        let name = self.sni.as_ref().and_then(|name| ServerName::try_from(name.clone()).ok());
        Ok(ClientTls { config: Arc::new(config), name, warnings })
    }
}

/// `Some(None)` if the key is absent, `None` if there was an error.
fn optional_path(map: &Map<'_>, key: &str, problems: &mut Problems) -> Option<Option<PathBuf>> {
    match map.get(key) {
        Some(_) => path(map, key, problems).map(Some),
        None => Some(None),
    }
}

fn check_name(map: &Map<'_>, problems: &mut Problems) -> Option<Option<String>> {
    let Some(at) = map.get("sni") else { return Some(None) };
    let name = at.str(problems)?;
    if ServerName::try_from(name).is_err() {
        let hint = "write a host name or an address, without scheme and port: app.example.test";
        problems.error_hint(at, format!("{} is no name that a certificate could have", at.describe()), hint);
        return None;
    }
    Some(Some(name.to_owned()))
}

fn check_identity(map: &Map<'_>, problems: &mut Problems) -> Option<Option<(PathBuf, PathBuf)>> {
    let (cert, key) = (optional_path(map, "cert", problems)?, optional_path(map, "key", problems)?);
    match (cert, key) {
        (Some(cert), Some(key)) => Some(Some((cert, key))),
        (None, None) => Some(None),
        (cert, _) => {
            let missing = if cert.is_none() { "cert" } else { "key" };
            let hint = "a client certificate needs both: { cert: FILE, key: FILE }";
            problems.error_hint(map.node, format!("`{missing}` is missing"), hint);
            None
        }
    }
}

pub(super) fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry a few that no strict reader takes; those are left out, as browsers do.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(TlsError::NoRoots(why));
    }
    Ok(roots)
}

/// TLS towards the application, for all traffic threads. Sessions are resumed across them.
pub struct ClientTls {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
    warnings: Vec<String>,
}

impl ClientTls {
    /// What works, but hardly as meant.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What is in force for every connection.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// Performs the handshake with the application over a connection that was made to `host`,
    /// offering the protocols of `alpn`, the preferred one first. The one agreed on is in the
    /// answer: `stream.get_ref().1.alpn_protocol()`.
    ///
    /// # Errors
    /// The application's certificate cannot be trusted or is for another name, it speaks no TLS,
    /// refuses, breaks off, or takes longer than `within`.
    pub async fn connect<S>(
        &self,
        stream: S,
        host: &str,
        alpn: &[&str],
        within: Duration,
    ) -> Result<TlsStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(|_| HandshakeError::Name(host.to_owned()))?,
        };
        let alpn = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let connector = TlsConnector::from(self.config.clone());
        let connecting = connector.with_alpn(alpn).connect(name, stream);
        tokio::time::timeout(within, connecting)
            .await
            .map_err(|_| HandshakeError::TimedOut(within))?
            .map_err(HandshakeError::Failed)
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Takes any certificate. That the other side holds its key is still checked.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
