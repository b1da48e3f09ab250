//! TLS on a listener: its settings, its certificates and their reload, and the handshake.
//!
//! One [`ServerTls`] serves a listener on every traffic thread. A handshake takes what is in force
//! at its beginning: new certificates, and new authorities for those of clients, are made ready
//! aside and swapped in whole. It must never be left without a working certificate: what cannot be
//! used is reported, and what was in use stays.
//!
//! Versions before TLS 1.2 are not there to be switched on: rustls has none (RFC 8996).

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, ServerConfig, ServerConnection, SignatureScheme, SupportedProtocolVersion, version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use super::acme::{self, AcmePlan, Issuer};
use super::files::{self, Stamp};
use super::recorder::Recorder;
use super::{HandshakeError, Refreshed, TlsError, TlsFacts, alpn_names, client_hello, der, path, provider};
use crate::config::node::{Map, Node};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};

/// How many sessions can be resumed without a ticket. They are kept in memory.
const SESSION_CACHE: usize = 2048;

const CERTIFICATE: &[Field] = &[
    Field::required("cert", Kind::Str, "PEM file of the certificate, followed by those of its chain"),
    Field::required("key", Kind::Str, "PEM file of its private key"),
    Field::new("ocsp", Kind::Str, "", "DER file of an OCSP response to staple; whoever renews it, authtap follows"),
];

const MODES: &[&str] = &["required", "optional"];

const CLIENT_AUTH: &[Field] = &[
    Field::required("ca", Kind::Str, "PEM file of the authorities that issue the clients' certificates"),
    Field::new("mode", Kind::Word(MODES), "required", "optional: clients without a certificate are served too"),
];

const VERSIONS: &[&str] = &["1.2", "1.3"];

/// The keys of a listener's `tls:`.
pub const FIELDS: &[Field] = &[
    Field::new("cert", Kind::Str, "", "PEM file of the certificate, followed by those of its chain"),
    Field::new("key", Kind::Str, "", "PEM file of its private key"),
    Field::new("ocsp", Kind::Str, "", "DER file of an OCSP response to staple"),
    Field::new(
        "certificates",
        Kind::List(&Kind::Map(CERTIFICATE)),
        "",
        "several, in place of cert and key: chosen by the DNS names in them, and the first for any other name",
    ),
    Field::new("acme", Kind::Map(acme::FIELDS), "", "a certificate by ACME, in place of cert and key"),
    Field::new("min_version", Kind::Word(VERSIONS), "\"1.2\"", "the lowest version of TLS that is spoken"),
    Field::new(
        "alpn",
        Kind::OneOrList(&Kind::Word(super::PROTOCOLS)),
        "[h2, http/1.1]",
        "protocols offered to clients, the preferred one first",
    ),
    Field::new("client_auth", Kind::Map(CLIENT_AUTH), "", "certificates of clients"),
    Field::new(
        "session_tickets",
        Kind::Bool,
        "on",
        "off: sessions are resumed only from memory, and no key outlives its session",
    ),
];

/// A listener's checked `tls:`. No file was looked at yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPlan {
    /// Empty with `acme`.
    certificates: Vec<Source>,
    acme: Option<AcmePlan>,
    min_version: MinVersion,
    alpn: Vec<&'static str>,
    client_auth: Option<ClientAuth>,
    session_tickets: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MinVersion {
    Tls12,
    Tls13,
}

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    cert: PathBuf,
    key: PathBuf,
    ocsp: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ClientAuth {
    ca: PathBuf,
    optional: bool,
}

impl ServerPlan {
    /// Checks a listener's `tls:`. `None` if there was an error.
    pub fn check(node: &Node, problems: &mut Problems) -> Option<ServerPlan> {
        let map = node.map(FIELDS, problems)?;
        provider::check(node, problems);
        let acme = match map.get("acme") {
            Some(at) => AcmePlan::check(at, problems).map(Some),
            None => Some(None),
        };
        let certificates = check_certificates(&map, problems);
        let min_version = check_min_version(&map, problems);
        let alpn = alpn_names(&map, &["h2", "http/1.1"], problems);
        let client_auth = match map.get("client_auth") {
            Some(at) => check_client_auth(at, problems).map(Some),
            None => Some(None),
        };
        let session_tickets = map.get("session_tickets").map_or(Some(true), |on| on.bool(problems));
        Some(ServerPlan {
            certificates: certificates?,
            acme: acme?,
            min_version: min_version?,
            alpn: alpn?,
            client_auth: client_auth?,
            session_tickets: session_tickets?,
        })
    }

    /// The protocols offered to clients, the preferred one first.
    pub fn alpn(&self) -> &[&'static str] {
        &self.alpn
    }

    /// The certificate is got by ACME, and what that needs is kept in `data`.
    pub fn keep_in(&mut self, data: &Path) {
        if let Some(acme) = &mut self.acme {
            acme.keep_in(data);
        }
    }

    /// True if it needs a listener without TLS to prove its names.
    pub fn needs_plain_listener(&self) -> bool {
        self.acme.as_ref().is_some_and(AcmePlan::needs_plain_listener)
    }

    /// Reads the files. Relative paths are relative to `base`.
    ///
    /// # Errors
    /// A file cannot be used; the error names it and says what to do.
    pub fn build(&self, base: &Path) -> Result<ServerTls, TlsError> {
        let provider = provider::provider()?;
        let mut plan = self.clone();
        for source in &mut plan.certificates {
            source.resolve(base);
        }
        let mut warnings = Vec::new();
        let issuer = plan.acme.as_ref().map(|acme| Issuer::new(acme, base, &provider)).transpose()?.map(Arc::new);
        let (resolver, certificates): (Arc<dyn ResolvesServerCert>, _) = match &issuer {
            Some(issuer) => (issuer.resolver(), None),
            None => {
                let (certificates, warned) = Certificates::load(plan.certificates.clone(), provider.clone())?;
                warnings = warned;
                let certificates = Arc::new(certificates);
                (certificates.clone(), Some(certificates))
            }
        };
        let authority = plan.client_auth.take().map(|auth| Authority {
            seen: Mutex::new(Stamp::of(&base.join(&auth.ca))),
            file: base.join(auth.ca),
            optional: auth.optional,
        });
        let config = plan.config(&provider, &resolver, authority.as_ref())?;
        let config = ArcSwap::from_pointee(config);
        Ok(ServerTls { config, resolver, certificates, issuer, authority, plan, provider, warnings })
    }

    fn config(
        &self,
        provider: &Arc<CryptoProvider>,
        resolver: &Arc<dyn ResolvesServerCert>,
        authority: Option<&Authority>,
    ) -> Result<ServerConfig, TlsError> {
        let versions: &[&SupportedProtocolVersion] = match self.min_version {
            MinVersion::Tls12 => &[&version::TLS13, &version::TLS12],
            MinVersion::Tls13 => &[&version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
        let builder = match authority {
            None => builder.with_no_client_auth(),
            Some(authority) => builder.with_client_cert_verifier(authority.verifier(provider)?),
        };
        let mut config = builder.with_cert_resolver(resolver.clone());
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        // Both are this configuration's own: a session resumed under other demands on the client's
        // certificate would escape them.
        config.session_storage = ServerSessionMemoryCache::new(SESSION_CACHE);
        if self.session_tickets {
            config.ticketer = provider::ticketer()?;
        }
        Ok(config)
    }
}

fn check_certificates(map: &Map<'_>, problems: &mut Problems) -> Option<Vec<Source>> {
    let single = ["cert", "key", "ocsp"].iter().find_map(|key| map.get(key));
    if map.get("acme").is_some() {
        if let Some(other) = map.get("certificates").or(single) {
            let hint = "leave one of the two out; another listener may have the other";
            problems.error_hint(other, "a certificate stands beside `acme`".into(), hint);
            return None;
        }
        return Some(Vec::new());
    }
    match (map.get("certificates"), single) {
        (Some(_), Some(single)) => {
            let hint = "move it into the list: certificates: [{ cert: FILE, key: FILE }]";
            problems.error_hint(single, "a certificate stands beside `certificates`".into(), hint);
            None
        }
        (Some(list), None) => {
            if list.items().is_empty() {
                problems.error_hint(list, "the list is empty".into(), "name at least one: { cert: FILE, key: FILE }");
                return None;
            }
            let sources: Vec<Option<Source>> = list
                .items()
                .iter()
                .map(|item| item.map(CERTIFICATE, problems).and_then(|map| Source::check(&map, problems)))
                .collect();
            sources.into_iter().collect()
        }
        (None, _) => {
            for key in ["cert", "key"] {
                if map.get(key).is_none() {
                    let hint = "a listener needs both: tls: { cert: FILE, key: FILE }";
                    problems.error_hint(map.node, format!("`{key}` is missing"), hint);
                }
            }
            Some(vec![Source::check(map, problems)?])
        }
    }
}

fn check_min_version(map: &Map<'_>, problems: &mut Problems) -> Option<MinVersion> {
    let Some(at) = map.get("min_version") else { return Some(MinVersion::Tls12) };
    if let Some(old @ ("1.0" | "1.1")) = at.scalar() {
        let hint = "write \"1.2\"; who still needs an older version needs another proxy in front";
        problems.error_hint(at, format!("TLS {old} is not spoken: it is broken (RFC 8996)"), hint);
        return None;
    }
    Some(if at.one_of(VERSIONS, problems)? == "1.3" { MinVersion::Tls13 } else { MinVersion::Tls12 })
}

fn check_client_auth(at: &Node, problems: &mut Problems) -> Option<ClientAuth> {
    let map = at.map(CLIENT_AUTH, problems)?;
    let mode = map.get("mode").map_or(Some("required"), |mode| mode.one_of(MODES, problems));
    let ca = path(&map, "ca", problems)?;
    Some(ClientAuth { ca, optional: mode? == "optional" })
}

impl Source {
    fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Source> {
        let (cert, key) = (path(map, "cert", problems), path(map, "key", problems));
        let ocsp = match map.get("ocsp") {
            Some(_) => Some(path(map, "ocsp", problems)?),
            None => None,
        };
        Some(Source { cert: cert?, key: key?, ocsp })
    }

    fn resolve(&mut self, base: &Path) {
        for file in [Some(&mut self.cert), Some(&mut self.key), self.ocsp.as_mut()].into_iter().flatten() {
            *file = base.join(&*file);
        }
    }

    fn stamps(&self) -> Stamps {
        [Stamp::of(&self.cert), Stamp::of(&self.key), self.ocsp.as_deref().and_then(Stamp::of)]
    }

    fn load(&self, provider: &CryptoProvider) -> Result<(CertifiedKey, Vec<String>), TlsError> {
        let (mut certified, warnings) = files::certified_key(&self.cert, &self.key, provider)?;
        if let Some(ocsp) = &self.ocsp {
            certified.ocsp = Some(files::read("OCSP response", ocsp)?);
        }
        Ok((certified, warnings))
    }
}

type Stamps = [Option<Stamp>; 3];

/// A listener's certificates, chosen by the name that the client asks for.
pub struct Certificates {
    sources: Vec<Source>,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<Chosen>,
    /// The state of the files that was last looked at, whether they were any good or not.
    seen: Mutex<Vec<Stamps>>,
}

/// Certificates by name. Never empty.
struct Chosen {
    /// In the order of the configuration.
    keys: Vec<Arc<CertifiedKey>>,
    /// Indexes into `keys`, by whole name.
    exact: HashMap<String, Vec<usize>>,
    /// Indexes into `keys`, by what follows `*.`.
    wildcard: HashMap<String, Vec<usize>>,
}

impl Certificates {
    fn load(sources: Vec<Source>, provider: Arc<CryptoProvider>) -> Result<(Certificates, Vec<String>), TlsError> {
        let (mut keys, mut warnings) = (Vec::new(), Vec::new());
        let seen = sources.iter().map(Source::stamps).collect();
        for source in &sources {
            let (key, warned) = source.load(&provider)?;
            if !keys.is_empty() && names(&key).is_empty() {
                warnings.push(unreachable(source));
            }
            warnings.extend(warned);
            keys.push(Arc::new(key));
        }
        let current = ArcSwap::from_pointee(Chosen::new(keys));
        Ok((Certificates { sources, provider, current, seen: Mutex::new(seen) }, warnings))
    }

    /// Reads the files that changed since the last call and puts them to use for new connections;
    /// a bad file is reported once a change and leaves the old certificate in use.
    ///
    /// Blocks on reading files: call it every few seconds, away from traffic.
    pub fn refresh(&self) -> Vec<Refreshed> {
        // Held throughout, so that two refreshes cannot overwrite each other's news.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys: Option<Vec<Arc<CertifiedKey>>> = None;
        let mut refreshed = Vec::new();
        for (at, (source, seen)) in self.sources.iter().zip(seen.iter_mut()).enumerate() {
            let now = source.stamps();
            if *seen == now {
                continue;
            }
            *seen = now;
            let mut warnings = Vec::new();
            let result = source.load(&self.provider).map(|(key, warned)| {
                warnings = warned;
                if at > 0 && names(&key).is_empty() {
                    warnings.push(unreachable(source));
                }
                let keys = keys.get_or_insert_with(|| self.current.load().keys.clone());
                if let Some(old) = keys.get_mut(at) {
                    *old = Arc::new(key);
                }
            });
            refreshed.push(Refreshed { what: "tls.cert", file: source.cert.clone(), result, warnings });
        }
        if let Some(keys) = keys {
            self.current.store(Arc::new(Chosen::new(keys)));
        }
        refreshed
    }
}

fn names(key: &CertifiedKey) -> Vec<String> {
    key.cert.first().map(|cert| der::dns_names(cert)).unwrap_or_default()
}

fn unreachable(source: &Source) -> String {
    format!(
        "the certificate in {} names no DNS name, so no client is ever shown it; put it first to make it the default",
        source.cert.display()
    )
}

impl Chosen {
    fn new(keys: Vec<Arc<CertifiedKey>>) -> Chosen {
        let (mut exact, mut wildcard) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (at, key) in keys.iter().enumerate() {
            for name in names(key) {
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()).or_default().push(at),
                    None => exact.entry(name).or_default().push(at),
                }
            }
        }
        Chosen { keys, exact, wildcard }
    }

    /// The certificates for a name: those with the name itself, else those with the wildcard that
    /// stands for its first label (RFC 9525 section 6.3), else the first of all.
    ///
    /// Of several, the first whose key the client can verify: one of RSA beside one of ECDSA.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // Without the dot of an absolute name, which is not to be sent (RFC 6066 section 3).
        let name = name.map(|name| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()).unwrap_or_default();
        let parent = name.split_once('.').map(|(_, parent)| parent);
        let found = self.exact.get(&name).or_else(|| self.wildcard.get(parent?));
        let found = found.map_or(&[0][..], Vec::as_slice);
        let mut keys = found.iter().filter_map(|at| self.keys.get(*at));
        keys.clone().find(|key| key.key.choose_scheme(schemes).is_some()).or_else(|| keys.next()).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load().choose(hello.server_name(), hello.signature_schemes())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("sources", &self.sources).finish_non_exhaustive()
    }
}

/// Who issues the clients' certificates.
struct Authority {
    file: PathBuf,
    optional: bool,
    seen: Mutex<Option<Stamp>>,
}

impl Authority {
    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
        let roots = files::roots("client_auth.ca", &self.file)?;
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        if self.optional {
            builder = builder.allow_unauthenticated();
        }
        builder.build().map_err(|error| TlsError::Setup(rustls::Error::General(error.to_string())))
    }
}

/// TLS of one listener, for all traffic threads.
pub struct ServerTls {
    config: ArcSwap<ServerConfig>,
    resolver: Arc<dyn ResolvesServerCert>,
    /// `None` with an issuer.
    certificates: Option<Arc<Certificates>>,
    issuer: Option<Arc<Issuer>>,
    authority: Option<Authority>,
    plan: ServerPlan,
    provider: Arc<CryptoProvider>,
    warnings: Vec<String>,
}

impl ServerTls {
    /// What works, but hardly as meant, as it was when the files were first read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Who gets its certificate by ACME, if anybody does.
    pub fn issuer(&self) -> Option<&Arc<Issuer>> {
        self.issuer.as_ref()
    }

    /// What is in force for the next connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Reads the files that changed since the last call and puts them to use for new connections;
    /// a bad file is reported once a change and leaves the old one in use. Connections that exist
    /// are not touched.
    ///
    /// With new authorities for clients, no session of before can be resumed: their holders have to
    /// show a certificate again.
    ///
    /// Blocks on reading files: call it every few seconds, away from traffic.
    pub fn refresh(&self) -> Vec<Refreshed> {
        let mut refreshed = self.certificates.as_ref().map(|files| files.refresh()).unwrap_or_default();
        refreshed.extend(self.refresh_authority());
        refreshed
    }

    fn refresh_authority(&self) -> Option<Refreshed> {
        let authority = self.authority.as_ref()?;
        let mut seen = authority.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Stamp::of(&authority.file);
        if *seen == now {
            return None;
        }
        *seen = now;
        let result = self
            .plan
            .config(&self.provider, &self.resolver, Some(authority))
            .map(|config| self.config.store(Arc::new(config)));
        Some(Refreshed { what: "tls.client_auth.ca", file: authority.file.clone(), result, warnings: Vec::new() })
    }

    /// Performs the handshake with a client and says what came of it.
    ///
    /// # Errors
    /// The client speaks no TLS, agrees to nothing that is offered, has no certificate where one is
    /// required, breaks off, or takes longer than `within`.
    pub async fn accept<S>(
        &self,
        stream: S,
        within: Duration,
    ) -> Result<(TlsStream<Recorder<S>>, TlsFacts), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepting = async {
            let Some(challenge) = self.issuer.as_ref().and_then(|issuer| issuer.challenge()) else {
                return TlsAcceptor::from(self.config()).accept(Recorder::new(stream)).await;
            };
            let start = LazyConfigAcceptor::new(Acceptor::default(), Recorder::new(stream)).await?;
            let proves = Issuer::is_challenge(&start.client_hello());
            start.into_stream(if proves { challenge.clone() } else { self.config() }).await
        };
        let mut stream = tokio::time::timeout(within, accepting)
            .await
            .map_err(|_| HandshakeError::TimedOut(within))?
            .map_err(HandshakeError::Failed)?;
        let (recorder, connection) = stream.get_mut();
        let facts = facts(connection, &recorder.stop());
        Ok((stream, facts))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// What is known of a connection after its handshake; `first` is what the client sent in it.
fn facts(connection: &ServerConnection, first: &[u8]) -> TlsFacts {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        _ => "1.2",
    };
    let cipher = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    let alpn = connection.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    let client = connection.peer_certificates().and_then(|chain| chain.first());
    TlsFacts {
        version,
        sni: connection.server_name().map(str::to_ascii_lowercase),
        alpn,
        // rustls says TLS13_ where IANA says TLS_.
        cipher: cipher.map(|name| name.replacen("TLS13_", "TLS_", 1)),
        client_subject: client.and_then(|cert| der::subject(cert)),
        client_name: client.and_then(|cert| der::common_name(cert)),
        client_email: client.and_then(|cert| der::email(cert)),
        ja4: client_hello::parse(first).ok().map(|hello| hello.ja4()),
    }
}

#[cfg(test)]
mod tests;
