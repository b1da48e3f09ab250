//! The one place that knows which cryptographic library is compiled in.
//!
//! Every configuration is given its provider here. The default of the process must never be asked
//! for: with two libraries compiled in, rustls answers that by a panic.

use std::sync::{Arc, OnceLock};

#[cfg(feature = "tls-aws-lc")]
pub use aws_lc_rs::aead;
#[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc")))]
pub use ring::aead;
use rustls::crypto::CryptoProvider;
use rustls::server::ProducesTickets;

use super::TlsError;
use crate::config::node::Node;
use crate::config::problem::Problems;

/// Said where TLS is configured and cannot be had.
pub const MISSING: &str = "this build of authtap has no TLS; build it with the feature `tls-aws-lc` or `tls-ring`, or remove the TLS settings";

/// True if a cryptographic library is compiled in.
pub const COMPILED_IN: bool = cfg!(any(feature = "tls-aws-lc", feature = "tls-ring"));

/// The cryptographic library: aws-lc if it is compiled in, else ring.
///
/// # Errors
/// Neither is compiled in.
pub fn provider() -> Result<Arc<CryptoProvider>, TlsError> {
    static PROVIDER: OnceLock<Option<Arc<CryptoProvider>>> = OnceLock::new();
    PROVIDER.get_or_init(|| library().map(Arc::new)).clone().ok_or(TlsError::NoProvider)
}

/// Keys for session tickets: made at random, changed every six hours, never written anywhere.
///
/// # Errors
/// Neither library is compiled in, or the system gives no random bytes.
pub fn ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    new_ticketer()
}

/// Reports TLS settings that this build cannot fulfil.
pub(super) fn check(node: &Node, problems: &mut Problems) {
    if !COMPILED_IN {
        problems.error(node, MISSING.into());
    }
}

#[cfg(feature = "tls-aws-lc")]
fn library() -> Option<CryptoProvider> {
    Some(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(feature = "tls-aws-lc")]
fn new_ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    Ok(rustls::crypto::aws_lc_rs::Ticketer::new()?)
}

#[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc")))]
fn library() -> Option<CryptoProvider> {
    Some(rustls::crypto::ring::default_provider())
}

#[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc")))]
fn new_ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    Ok(rustls::crypto::ring::Ticketer::new()?)
}

#[cfg(not(any(feature = "tls-aws-lc", feature = "tls-ring")))]
fn library() -> Option<CryptoProvider> {
    None
}

#[cfg(not(any(feature = "tls-aws-lc", feature = "tls-ring")))]
fn new_ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    Err(TlsError::NoProvider)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_provider_is_there_if_and_only_if_a_library_is_compiled_in() {
        assert_eq!(provider().is_ok(), COMPILED_IN);
        assert_eq!(ticketer().is_ok(), COMPILED_IN);
    }

    #[test]
    fn the_error_without_a_library_names_the_features() {
        let text = TlsError::NoProvider.to_string();
        assert!(text.contains("tls-aws-lc") && text.contains("tls-ring"), "{text}");
    }
}
