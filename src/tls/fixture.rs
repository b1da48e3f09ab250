//! Certificates and files for the tests of this folder.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate authority of our own.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub(crate) struct Issued {
    pub der: CertificateDer<'static>,
    pub cert_pem: String,
    pub key: KeyPair,
}

impl Issued {
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }

    /// Writes both files, each replaced in one step, and names them.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let key = replace(folder, &format!("{name}.key"), &self.key.serialize_pem());
        (replace(folder, &format!("{name}.pem"), &self.cert_pem), key)
    }
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    /// A server's certificate for these names or addresses.
    pub fn server(&self, names: &[&str]) -> Issued {
        self.server_with(names, KeyPair::generate().unwrap())
    }

    /// The same with a key that was made before.
    pub fn server_with(&self, names: &[&str], key: KeyPair) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(&params, key)
    }

    /// A client's certificate for this person.
    pub fn client(&self, name: &str, organization: &str) -> Issued {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, organization);
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&params, KeyPair::generate().unwrap())
    }

    fn issue(&self, params: &CertificateParams, key: KeyPair) -> Issued {
        let cert = params.signed_by(&key, &self.0).unwrap();
        Issued { der: cert.der().clone(), cert_pem: cert.pem(), key }
    }
}

/// Puts a file in place of another in one step, readable by its owner only.
pub(crate) fn replace(folder: &Path, name: &str, content: &str) -> PathBuf {
    let (file, new) = (folder.join(name), folder.join(format!("{name}.new")));
    std::fs::write(&new, content).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::rename(&new, &file).unwrap();
    file
}
