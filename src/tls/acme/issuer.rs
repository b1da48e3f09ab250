//! The task that orders and renews a listener's certificate, and what handshakes take of it.
//!
//! Handshakes take a lock once a connection, for as long as it takes to clone a pointer; requests
//! take one only if their path is that of a challenge. An order that hangs is begun anew after
//! [`SILENCE`]; until its successor has a certificate, the old one is served.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, version};
use rustls_acme::{AcmeConfig, AcmeState, EventOk, ResolvesServerCertAcme, UseChallenge, is_tls_alpn_challenge};

use super::cache::Folder;
use super::{ALPN, AcmePlan};
use crate::tls::client::system_roots;
use crate::tls::{TlsError, files};

/// After so long without a word from an order, it is begun anew. A certificate that waits for its
/// renewal is silent too; then beginning anew reads the cache and asks nobody.
const SILENCE: Duration = Duration::from_secs(6 * 3600);
/// The most characters of an authority's answer that the log shows.
const MAX_TOLD: usize = 400;

type State = AcmeState<io::Error>;

/// Certificates of one listener, by ACME.
#[derive(Debug)]
pub struct Issuer {
    plan: AcmePlan,
    cache: Folder,
    client: Arc<ClientConfig>,
    slots: Arc<Slots>,
    challenge: Option<Arc<ServerConfig>>,
}

/// Where rustls-acme puts what it has: of the order in force, and of the one that is under way.
#[derive(Debug)]
struct Slots {
    serving: ArcSwap<ResolvesServerCertAcme>,
    ordering: ArcSwap<ResolvesServerCertAcme>,
}

impl ResolvesServerCert for Slots {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let slot = if is_tls_alpn_challenge(&hello) { &self.ordering } else { &self.serving };
        slot.load().resolve(hello)
    }
}

impl Issuer {
    /// Makes everything ready; nobody is asked for anything before [`Issuer::run`]. Relative paths are
    /// relative to `base`.
    ///
    /// # Errors
    /// The file with the directory's authorities cannot be used, or the system has none.
    pub fn new(plan: &AcmePlan, base: &Path, provider: &Arc<CryptoProvider>) -> Result<Issuer, TlsError> {
        let roots = match &plan.ca {
            Some(ca) => files::roots("tls.acme.ca", &base.join(ca))?,
            None => system_roots()?,
        };
        let versions = &[&version::TLS13, &version::TLS12];
        let client = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
        let client = Arc::new(client.with_root_certificates(roots).with_no_client_auth());
        let cache = Folder(base.join(plan.cache.as_deref().unwrap_or(Path::new("authtap-data/acme"))));
        let nothing = state(plan, &cache, &client).resolver();
        let slots = Slots { serving: ArcSwap::new(nothing.clone()), ordering: ArcSwap::new(nothing) };
        let slots = Arc::new(slots);
        let challenge = match plan.http {
            true => None,
            false => {
                let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
                let mut config = builder.with_no_client_auth().with_cert_resolver(slots.clone());
                config.alpn_protocols = vec![ALPN.as_bytes().to_vec()];
                Some(Arc::new(config))
            }
        };
        Ok(Issuer { plan: plan.clone(), cache, client, slots, challenge })
    }

    /// The certificates for handshakes.
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        self.slots.clone()
    }

    /// What is in force for a handshake that proves a name: its own configuration, because a client's
    /// certificate may be demanded of all others. `None` if names are proved by HTTP.
    pub fn challenge(&self) -> Option<&Arc<ServerConfig>> {
        self.challenge.as_ref()
    }

    /// True if a client only wants a name proved (RFC 8737 section 3).
    pub fn is_challenge(hello: &ClientHello<'_>) -> bool {
        is_tls_alpn_challenge(hello)
    }

    /// What is answered for a token of an order under way (RFC 8555 section 8.3).
    pub fn key_authorization(&self, token: &str) -> Option<String> {
        self.slots.ordering.load().get_http_01_key_auth(token)
    }

    /// Orders and renews, for ever. A failure is logged and tried again, ever more rarely, by
    /// rustls-acme.
    pub async fn run(self: Arc<Self>) {
        let names = self.plan.domains.join(", ");
        // A certificate that could not be kept would be ordered again, against the authority's limits.
        let (mut served, mut kept) = (false, false);
        loop {
            let mut state = state(&self.plan, &self.cache, &self.client);
            self.slots.ordering.store(state.resolver());
            loop {
                match tokio::time::timeout(SILENCE, state.next()).await {
                    Ok(Some(Ok(event))) => match event {
                        EventOk::DeployedCachedCert | EventOk::DeployedNewCert => {
                            let new = matches!(event, EventOk::DeployedNewCert);
                            self.slots.serving.store(self.slots.ordering.load_full());
                            if new || !served {
                                tracing::info!(%names, directory = %self.plan.directory, new, "ACME certificate in use");
                            }
                            (served, kept) = (true, !new);
                        }
                        EventOk::CertCacheStore => kept = true,
                        EventOk::AccountCacheStore => {
                            tracing::info!(directory = %self.plan.directory, "ACME account made")
                        }
                    },
                    Ok(Some(Err(error))) => {
                        let meanwhile = match served {
                            true => "the certificate in use stays",
                            false => "handshakes are refused until there is a certificate",
                        };
                        let error = told(&error.to_string());
                        tracing::error!(%names, directory = %self.plan.directory, "ACME failed and is tried again; {meanwhile}: {error}");
                    }
                    Ok(None) => break,
                    Err(_) if served && !kept => {}
                    Err(_) => break,
                }
            }
        }
    }
}

fn state(plan: &AcmePlan, cache: &Folder, client: &Arc<ClientConfig>) -> State {
    let challenge = if plan.http { UseChallenge::Http01 } else { UseChallenge::TlsAlpn01 };
    let config = AcmeConfig::new_with_client_config(&plan.domains, client.clone());
    let config = config.contact(&plan.contact).directory(&plan.directory).challenge_type(challenge);
    config.cache(cache.clone()).state()
}

/// An error as one line of the log: it may quote an answer of whoever calls itself the authority.
fn told(error: &str) -> String {
    let mut chars = error.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut told: String = chars.by_ref().take(MAX_TOLD).collect();
    if chars.next().is_some() {
        told.push('…');
    }
    told
}
