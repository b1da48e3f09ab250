//! What is said about the client's TLS: by a proxy in front that ends it, and to the application.
//!
//! A balancer that ends TLS is the only one that saw the ClientHello and the client's certificate;
//! `tls_header` names the headers by which it passes that on. `client_cert` names those by which the
//! application is told whose verified certificate the client has. An application that believes such
//! a header must never be reached by a client's own: every spelling of it that CGI folds into the
//! same variable (RFC 3875 section 4.1.18) is dropped, whoever sends it, and only what was verified
//! here, or vouched for by a trusted proxy, is written anew.
//!
//! The invariant: after [`Policy::tell`] each of the named headers is there at most once, and holds
//! what we or a trusted proxy know, or is not there at all.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};

use super::client_ip::ClientIp;
use super::forwarded::folds_to;
use super::headers::{is_end_to_end, is_hop_by_hop};
use crate::config::node::{Map, Node, clip};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::exchange::ClientTls;
use crate::headers::Headers;

/// The most bytes of a value that is believed.
const MAX_BYTES: usize = 512;
/// How many things a proxy can say.
const FACTS: usize = 5;

/// The keys of `tls_header:`; their order is that of [`Fact`].
pub const BELIEVED: &[Field; FACTS] = &[
    Field::new("version", Kind::Str, "", "the header with the version of TLS: 1.3, TLSv1.3"),
    Field::new("sni", Kind::Str, "", "the header with the name that the client asked for"),
    Field::new("ja4", Kind::Str, "", "the header with the JA4 fingerprint of the ClientHello"),
    Field::new("subject", Kind::Str, "", "the header with the subject of the client's verified certificate"),
    Field::new("email", Kind::Str, "", "the header with the e-mail address in that certificate"),
];

/// The keys of `client_cert:`.
pub const TOLD: &[Field] = &[
    Field::new(
        "header",
        Kind::Str,
        "",
        "the request header that carries the certificate's subject (RFC 4514), in ASCII: other bytes as \\xx",
    ),
    Field::new("email_header", Kind::Str, "", "the request header that carries its first e-mail address"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fact {
    Version,
    Sni,
    Ja4,
    Subject,
    Email,
}

/// `tls_header:` and `client_cert:`, checked.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// By [`Fact`].
    believed: [Option<HeaderName>; FACTS],
    subject_to: Option<HeaderName>,
    email_to: Option<HeaderName>,
    /// Any of these: nearly nobody names one.
    names: bool,
}

/// What a trusted proxy said, by [`Fact`]: each value as it came, sharing its bytes.
#[derive(Clone, Debug, Default)]
pub struct Said([Option<Bytes>; FACTS]);

impl Policy {
    /// Checks `tls_header:` and `client_cert:` of the file; what is wrong with them is reported.
    pub fn check(file: &Map<'_>, client_ip: &ClientIp, problems: &mut Problems) -> Policy {
        let mut policy = Policy::default();
        if let Some(node) = file.get("tls_header")
            && let Some(map) = node.map(BELIEVED, problems)
        {
            if client_ip.trusted().is_empty() {
                let hint = "name the proxies in front of authtap in `client_ip: { trusted_proxies: … }`";
                problems.warn(node, "these headers are never believed, because no proxy is trusted".into(), hint);
            }
            for (slot, field) in BELIEVED.iter().enumerate() {
                let Some((at, name)) = header(&map, field.name, problems) else { continue };
                if policy.believed.iter().flatten().any(|other| *other == name) {
                    let hint = "each says one thing: name another header";
                    problems.error_hint(at, format!("the header `{name}` is named twice"), hint);
                }
                if let Some(slot) = policy.believed.get_mut(slot) {
                    *slot = Some(name);
                }
            }
        }
        if let Some(map) = file.get("client_cert").and_then(|node| node.map(TOLD, problems)) {
            policy.subject_to = header(&map, "header", problems).map(|(_, name)| name);
            policy.email_to = header(&map, "email_header", problems).map(|(_, name)| name);
            if policy.subject_to.is_some() && policy.subject_to == policy.email_to {
                let hint = "each says one thing: name another header";
                problems.error_hint(map.node, "both go into the same header".into(), hint);
            }
        }
        policy.names = policy.believed.iter().chain([&policy.subject_to, &policy.email_to]).any(Option::is_some);
        policy
    }

    /// What a trusted peer says of its client's TLS; `None` if it is not believed, or not asked.
    /// A header that is there twice says nothing: somebody added one. To be called before the strip
    /// of hop-by-hop headers.
    ///
    /// If such headers are configured, the TLS between that peer and us is not the client's, so
    /// even a peer that says nothing takes its place.
    pub fn read(&self, headers: &Headers, trusted_peer: bool) -> Option<Said> {
        if !trusted_peer || !self.names || self.believed.iter().all(Option::is_none) {
            return None;
        }
        let mut said = Said::default();
        for (name, slot) in self.believed.iter().zip(&mut said.0) {
            let Some(name) = name else { continue };
            let mut lines = headers.get_all(name).iter();
            let first = lines.next().filter(|line| !line.is_empty() && line.len() <= MAX_BYTES);
            *slot = first.map(|line| headers.shared(line));
            if lines.next().is_some() {
                *slot = None;
            }
        }
        Some(said)
    }

    /// Drops what the client may have written into the named headers, and writes what is known. To be
    /// called after the strip of hop-by-hop headers. `own` is what our own connection says; `said`,
    /// where there is any, goes before it.
    pub fn tell(&self, headers: &mut Headers, said: Option<&Said>, own: Option<&ClientTls>) {
        let named = || self.believed.iter().chain([&self.subject_to, &self.email_to]).flatten();
        if !self.names {
            return;
        }
        headers.retain(|name, _| !named().any(|ours| folds_to(name.as_bytes(), ours.as_str().as_bytes())));
        let (subject, email) = match said {
            Some(said) => {
                for (name, value) in self.believed.iter().zip(&said.0) {
                    if let (Some(name), Some(value)) = (name, value) {
                        headers.insert(name, value);
                    }
                }
                (said.text(Fact::Subject), said.text(Fact::Email))
            }
            None => (own.and_then(|tls| tls.subject.as_deref()), own.and_then(|tls| tls.email.as_deref())),
        };
        for (name, value) in [(&self.subject_to, subject), (&self.email_to, email)] {
            if let (Some(name), Some(value)) = (name, value.and_then(ascii)) {
                headers.insert(name.clone(), value);
            }
        }
    }
}

impl Said {
    /// For events; `None` if nothing was said that can be read.
    pub fn facts(&self) -> Option<ClientTls> {
        let fingerprint = |text: &&str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let facts = ClientTls {
            version: self.text(Fact::Version).and_then(version),
            sni: self.text(Fact::Sni).map(str::to_ascii_lowercase),
            ja4: self.text(Fact::Ja4).filter(fingerprint).map(str::to_owned),
            subject: self.text(Fact::Subject).map(str::to_owned),
            name: None,
            email: self.text(Fact::Email).filter(|text| text.contains('@')).map(str::to_owned),
        };
        (facts != ClientTls::default()).then_some(facts)
    }

    /// Proxies write a hyphen or `(null)` where they know nothing.
    fn text(&self, fact: Fact) -> Option<&str> {
        let value = self.0.get(fact as usize)?.as_ref()?;
        let text = std::str::from_utf8(value).ok()?.trim();
        (!matches!(text, "" | "-" | "(null)")).then_some(text)
    }
}

/// `TLSv1.3`, `TLS 1.3`, `tls1.3` and `1.3` are the same.
fn version(text: &str) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    let number = lower.strip_prefix("tls").unwrap_or(&lower).trim_start_matches([' ', 'v', '_']);
    match number {
        "1.3" => Some("1.3"),
        "1.2" => Some("1.2"),
        "1.1" => Some("1.1"),
        "1.0" | "1" => Some("1.0"),
        _ => None,
    }
}

/// A text as a header that every application reads alike: bytes beyond ASCII in the form that
/// RFC 4514 section 2.4 has for them. `None` for a text that was cut, which could be taken for
/// another.
fn ascii(text: &str) -> Option<HeaderValue> {
    if text.ends_with('…') {
        return None;
    }
    if text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return HeaderValue::from_str(text).ok();
    }
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\{byte:02x}")),
        }
    }
    HeaderValue::from_str(&out).ok()
}

/// The header that a key names.
fn header<'n>(map: &Map<'n>, key: &str, problems: &mut Problems) -> Option<(&'n Node, HeaderName)> {
    let at = map.get(key)?;
    let text = at.str(problems)?;
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        let message = format!("`{}` cannot be a header's name", clip(text));
        problems.error_hint(at, message, "write one name, such as x-client-cert-subject");
        return None;
    };
    // Of everybody else it is dropped as a forgery, which these must never be.
    if is_end_to_end(name.as_str()) || is_hop_by_hop(name.as_str()) {
        let hint = "write a header that nothing else uses, such as x-client-cert-subject";
        problems.error_hint(at, format!("`{name}` means something else"), hint);
        return None;
    }
    Some((at, name))
}

#[cfg(test)]
mod tests;
