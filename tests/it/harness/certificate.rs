//! Certificates of an authority that nobody else knows, written as files. Keys are made anew in each
//! test and end with its folder.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// An authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// What a client needs to believe its certificates.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority");
        roots
    }

    /// Writes its own certificate, for others to believe.
    pub fn write_itself(&self, folder: &Path, name: &str) {
        std::fs::write(folder.join(name), self.0.pem()).expect("written");
    }

    /// A client's certificate, with its key.
    pub fn client(&self, name: &str, email: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::Rfc822Name(email.try_into().expect("an address"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).expect("a key"))
    }

    /// A certificate for these names or addresses as `NAME.pem` and `NAME.key`, replaced in one step
    /// each if they are there.
    pub fn write(&self, folder: &Path, name: &str, names: &[&str]) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        for (ending, content) in [("key", key.serialize_pem()), ("pem", certificate.pem())] {
            let (file, new) = (folder.join(format!("{name}.{ending}")), folder.join(format!("{name}.{ending}.new")));
            std::fs::write(&new, content).expect("written");
            std::fs::rename(&new, &file).expect("renamed");
        }
        certificate.der().clone()
    }
}

/// The mapping that names a certificate and its key in a configuration.
pub fn named(folder: &Path, name: &str) -> String {
    format!("{{ cert: {0}/{name}.pem, key: {0}/{name}.key }}", folder.display())
}
