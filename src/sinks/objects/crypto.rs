//! The cryptography of requests to Google's and Azure's stores, by what the program has anyway.
//!
//! The client library would bring a library of its own; with this it does not, and tokens are
//! signed by whichever library TLS is built with.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use object_store::client::{CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, Signer, SigningAlgorithm};
use object_store::{Error, Result};
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use crate::tls::provider;

/// SHA-256 by the crates that sign requests to S3, RSA by the library of TLS.
#[derive(Debug)]
pub(super) struct Crypto;

/// What cannot be used, without showing it.
fn unusable(what: &'static str) -> Error {
    Error::Generic { store: "authtap", source: what.into() }
}

impl CryptoProvider for Crypto {
    fn digest(&self, _: DigestAlgorithm) -> Result<Box<dyn DigestContext>> {
        Ok(Box::new(Hash { state: Sha256::new(), result: Vec::new() }))
    }

    fn hmac(&self, _: DigestAlgorithm, secret: &[u8]) -> Result<Box<dyn HmacContext>> {
        let state = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| unusable("no key"))?;
        Ok(Box::new(Keyed { state, result: Vec::new() }))
    }

    fn sign(&self, _: SigningAlgorithm, pem: &[u8]) -> Result<Box<dyn Signer>> {
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| unusable("no private key in PEM"))?;
        let provider = provider::provider().map_err(|_| unusable("no TLS in this build"))?;
        let key = provider.key_provider.load_private_key(key).map_err(|_| unusable("no private key of RSA"))?;
        let signer = key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]);
        Ok(Box::new(Rsa(signer.ok_or_else(|| unusable("no private key of RSA"))?.into())))
    }
}

struct Hash {
    state: Sha256,
    result: Vec<u8>,
}

impl DigestContext for Hash {
    fn update(&mut self, data: &[u8]) {
        self.state.update(data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        self.result = self.state.finalize_reset().to_vec();
        Ok(&self.result)
    }
}

struct Keyed {
    state: Hmac<Sha256>,
    result: Vec<u8>,
}

impl HmacContext for Keyed {
    fn update(&mut self, data: &[u8]) {
        self.state.update(data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        self.result = self.state.clone().finalize().into_bytes().to_vec();
        Ok(&self.result)
    }
}

/// Never shows its key.
struct Rsa(Arc<dyn rustls::sign::Signer>);

impl Signer for Rsa {
    fn sign(&self, string_to_sign: &[u8]) -> Result<Vec<u8>> {
        self.0.sign(string_to_sign).map_err(|_| unusable("the private key does not sign"))
    }
}

impl fmt::Debug for Rsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rsa")
    }
}
