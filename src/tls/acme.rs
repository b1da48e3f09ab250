//! Certificates by ACME (RFC 8555): what a listener's `tls: { acme: … }` asks for.
//!
//! The protocol is rustls-acme's; here are its settings, where its keys are kept ([`cache`]), and the
//! task that orders and renews ([`issuer`]). A challenge is answered only while an order is under
//! way, and only for what that order asks: by TLS-ALPN-01 (RFC 8737) in the handshake, or by HTTP-01
//! (RFC 8555 section 8.3) on listeners without TLS. The start never waits for the authority: what is
//! cached is served, and without that handshakes are refused until there is a certificate.
//!
//! A build without the feature `acme` knows the settings, so that it can say what it lacks.

#[cfg(feature = "acme")]
mod cache;
#[cfg(feature = "acme")]
mod issuer;
#[cfg(not(feature = "acme"))]
mod none;

use std::path::{Path, PathBuf};

use rustls::pki_types::DnsName;

#[cfg(feature = "acme")]
pub use issuer::Issuer;
#[cfg(not(feature = "acme"))]
pub use none::Issuer;

use super::path;
use crate::config::node::{Map, Node};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};

/// What a connection speaks that only proves a name (RFC 8737 section 6.2).
pub const ALPN: &str = "acme-tls/1";
/// Where HTTP-01 is asked for (RFC 8555 section 8.3).
pub const WELL_KNOWN: &str = "/.well-known/acme-challenge/";

/// Said where ACME is configured and cannot be had.
pub const MISSING: &str = "this build of authtap has no ACME";

const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// The most names in one certificate: Let's Encrypt's bound.
const MAX_DOMAINS: usize = 100;

const CHALLENGES: &[&str] = &["tls-alpn-01", "http-01"];

/// The keys of `acme:`.
pub const FIELDS: &[Field] = &[
    Field::required("domains", Kind::OneOrList(&Kind::Str), "the DNS names that the certificate is for, no wildcards"),
    Field::new("contact", Kind::OneOrList(&Kind::Str), "", "e-mail addresses that the authority may write to"),
    Field::new("directory", Kind::Str, LETS_ENCRYPT, "the authority's directory; using it agrees to its terms"),
    Field::new("cache", Kind::Str, "acme, within `data`", "folder for the account's key and certificates, mode 0600"),
    Field::new(
        "challenge",
        Kind::Word(CHALLENGES),
        "tls-alpn-01",
        "how a name is proved: on this listener's TLS (port 443), or on a listener without TLS (port 80)",
    ),
    Field::new("ca", Kind::Str, "", "PEM file of the authorities that the directory's own certificate is from"),
];

/// A checked `acme:`. Nothing was asked of anybody yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmePlan {
    domains: Vec<String>,
    contact: Vec<String>,
    directory: String,
    cache: Option<PathBuf>,
    http: bool,
    ca: Option<PathBuf>,
}

impl AcmePlan {
    /// Checks `acme:`. `None` if there was an error.
    pub fn check(node: &Node, problems: &mut Problems) -> Option<AcmePlan> {
        let map = node.map(FIELDS, problems)?;
        if !cfg!(feature = "acme") {
            let hint = "build it with the feature `acme`, or name a certificate: tls: { cert: FILE, key: FILE }";
            problems.error_hint(node, MISSING.into(), hint);
        }
        let domains = check_domains(&map, problems);
        let contact: Vec<_> = map.items("contact").iter().map(|item| check_contact(item, problems)).collect();
        let directory = check_directory(&map, problems);
        let challenge = map.get("challenge").map_or(Some("tls-alpn-01"), |word| word.one_of(CHALLENGES, problems));
        let (cache, ca) = (optional(&map, "cache", problems), optional(&map, "ca", problems));
        Some(AcmePlan {
            domains: domains?,
            contact: contact.into_iter().collect::<Option<_>>()?,
            directory: directory?,
            cache: cache?,
            http: challenge? == "http-01",
            ca: ca?,
        })
    }

    /// Keeps what it must in `data`, unless the file names another folder.
    pub fn keep_in(&mut self, data: &Path) {
        self.cache.get_or_insert_with(|| data.join("acme"));
    }

    /// True if names are proved on a listener without TLS.
    pub fn needs_plain_listener(&self) -> bool {
        self.http
    }
}

fn check_domains(map: &Map<'_>, problems: &mut Problems) -> Option<Vec<String>> {
    let at = map.get("domains")?;
    let items = at.some(problems);
    if items.len() > MAX_DOMAINS {
        let hint = "several listeners may each have their own certificate";
        problems.error_hint(at, format!("more than {MAX_DOMAINS} names are in no certificate"), hint);
        return None;
    }
    let names: Vec<_> = items.iter().map(|item| check_domain(item, problems)).collect();
    names.into_iter().collect::<Option<Vec<_>>>().filter(|names| !names.is_empty())
}

fn check_domain(item: &Node, problems: &mut Problems) -> Option<String> {
    let name = item.str(problems)?.to_ascii_lowercase();
    if name.starts_with("*.") {
        let hint = "name each host; a wildcard takes a change of DNS (DNS-01), and `cert` with another client";
        problems.error_hint(item, format!("{} cannot be proved by this server", item.describe()), hint);
        return None;
    }
    if DnsName::try_from(name.as_str()).is_err() || name.parse::<std::net::IpAddr>().is_ok() {
        let hint = "write a host name, without scheme and port: app.example.test";
        problems.error_hint(item, format!("{} is no DNS name", item.describe()), hint);
        return None;
    }
    Some(name)
}

/// RFC 8555 section 7.3: contacts are URLs.
fn check_contact(item: &Node, problems: &mut Problems) -> Option<String> {
    let text = item.str(problems)?;
    let address = text.strip_prefix("mailto:").unwrap_or(text);
    if !address.contains('@') || address.contains(|c: char| c.is_whitespace() || c.is_control()) {
        let hint = "write an address: ops@example.test";
        problems.error_hint(item, format!("{} is no e-mail address", item.describe()), hint);
        return None;
    }
    Some(format!("mailto:{address}"))
}

fn check_directory(map: &Map<'_>, problems: &mut Problems) -> Option<String> {
    let Some(at) = map.get("directory") else { return Some(LETS_ENCRYPT.to_owned()) };
    let text = at.str(problems)?;
    let sound = text.parse::<http::Uri>().is_ok_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some());
    if !sound {
        let hint = "write the authority's directory, https://HOST/PATH (RFC 8555 section 6.1)";
        problems.error_hint(at, format!("{} is no address of a directory", at.describe()), hint);
        return None;
    }
    Some(text.to_owned())
}

/// `Some(None)` if the key is absent, `None` if there was an error.
fn optional(map: &Map<'_>, key: &str, problems: &mut Problems) -> Option<Option<PathBuf>> {
    match map.get(key) {
        Some(_) => path(map, key, problems).map(Some),
        None => Some(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str) -> (Option<AcmePlan>, String) {
        let mut problems = Problems::new("t.yaml", source);
        let node = Node::parse(source, &mut problems).expect("YAML");
        let plan = AcmePlan::check(&node, &mut problems);
        let shown = problems.sorted().into_iter().map(|problem| problems.render(problem, false)).collect();
        (plan, shown)
    }

    #[test]
    fn a_short_plan_goes_to_lets_encrypt_by_tls_alpn() {
        let (plan, shown) = check("{ domains: App.Example.test, contact: ops@example.test }");
        let mut plan = plan.expect("a plan");
        assert_eq!(
            (plan.domains, plan.contact),
            (vec!["app.example.test".into()], vec!["mailto:ops@example.test".into()])
        );
        assert_eq!((plan.directory.as_str(), plan.http), (LETS_ENCRYPT, false));
        assert_eq!(shown.contains(MISSING), !cfg!(feature = "acme"), "{shown}");
        plan = check("{ domains: a.test }").0.expect("a plan");
        plan.keep_in(Path::new("/data"));
        assert_eq!(plan.cache.as_deref(), Some(Path::new("/data/acme")));
    }

    #[test]
    fn what_no_authority_would_take_is_refused_here() {
        for (source, told) in [
            ("{ domains: '*.example.test' }", "cannot be proved"),
            ("{ domains: 192.0.2.1 }", "is no DNS name"),
            ("{ domains: [] }", "name at least one"),
            ("{ domains: a.test, contact: ops }", "is no e-mail address"),
            ("{ domains: a.test, directory: 'http://a.test/' }", "is no address of a directory"),
            ("{ domains: a.test, challenge: dns-01 }", "dns-01"),
        ] {
            let (plan, shown) = check(source);
            assert!(plan.is_none() && shown.contains(told), "{source}: {shown}");
        }
    }
}
