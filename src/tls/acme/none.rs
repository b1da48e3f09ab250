//! What stands for the issuer in a build without the feature `acme`: nothing, so that no code
//! elsewhere has to know which build it is.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};

use super::{AcmePlan, MISSING};
use crate::tls::TlsError;

/// There is none in this build.
#[derive(Debug)]
pub struct Issuer(Infallible);

impl Issuer {
    /// # Errors
    /// Always: checking the configuration says so before.
    pub fn new(_plan: &AcmePlan, _base: &Path, _provider: &Arc<CryptoProvider>) -> Result<Issuer, TlsError> {
        Err(TlsError::Setup(rustls::Error::General(MISSING.into())))
    }

    /// The certificates for handshakes.
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        match self.0 {}
    }

    /// What is in force for a handshake that proves a name.
    pub fn challenge(&self) -> Option<&Arc<ServerConfig>> {
        match self.0 {}
    }

    /// True if a client only wants a name proved.
    pub fn is_challenge(_hello: &ClientHello<'_>) -> bool {
        false
    }

    /// What is answered for a token of an order under way.
    pub fn key_authorization(&self, _token: &str) -> Option<String> {
        match self.0 {}
    }

    /// Orders and renews, for ever.
    pub async fn run(self: Arc<Self>) {
        match self.0 {}
    }
}
