//! The two things that are wanted of a certificate and that rustls does not give out: the DNS names
//! it is for, and its subject (RFC 5280 section 4.1).
//!
//! A walk along a fixed path through DER, not a parser of certificates: it proves nothing, and must
//! never be what a decision of trust rests on. Certificates come from configured files, or from
//! clients whose chain was verified before. Depth is fixed, every length is checked, and whatever
//! does not fit ends the walk.

use std::fmt::Write;

/// The most bytes of a subject that are written; a longer one ends in `…`.
const MAX_SUBJECT_BYTES: usize = 512;
/// The most attributes of a subject that are read.
const MAX_ATTRIBUTES: usize = 64;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
const BOOLEAN: u8 = 0x01;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const RFC822_NAME: u8 = 0x81;
const DNS_NAME: u8 = 0x82;

/// `subjectAltName`, 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// The most bytes of an address that is read (RFC 5321 section 4.5.3.1.3).
const MAX_EMAIL_BYTES: usize = 254;

/// `commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// The short names of RFC 4514 section 3.
const SHORT_NAMES: &[(&[u8], &str)] = &[
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
];

/// The subject of a certificate as RFC 4514 writes it, most specific part first:
/// `CN=alice,OU=Sales,O=Acme`. `None` if it is empty or cannot be read.
pub(super) fn subject(certificate: &[u8]) -> Option<String> {
    let mut parts = Der(fields(certificate)?.subject);
    let mut attributes = 0;
    let mut names = Vec::new();
    while !parts.0.is_empty() {
        let mut set = Der(parts.expect(SET)?);
        let mut name = String::new();
        while !set.0.is_empty() {
            attributes += 1;
            if attributes > MAX_ATTRIBUTES {
                return None;
            }
            if !name.is_empty() {
                name.push('+');
            }
            attribute(&mut name, set.expect(SEQUENCE)?)?;
        }
        names.push(name);
    }
    names.reverse();
    let mut subject = names.join(",");
    if let Some(end) = (0..=MAX_SUBJECT_BYTES).rev().find(|at| subject.is_char_boundary(*at))
        && end < subject.len()
    {
        subject.truncate(end);
        subject.push('…');
    }
    (!subject.is_empty()).then_some(subject)
}

/// The DNS names of a certificate's `subjectAltName`, in lower case, wildcards included. The common
/// name is none of them (RFC 9525 section 2).
pub(super) fn dns_names(certificate: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    if let Some(mut alternatives) = fields(certificate).and_then(|fields| fields.alternative_names) {
        while let Some((tag, value)) = alternatives.next() {
            if tag == DNS_NAME && value.is_ascii() {
                names.extend(std::str::from_utf8(value).map(str::to_ascii_lowercase));
            }
        }
    }
    names
}

/// The first e-mail address of a certificate's `subjectAltName` (RFC 5280 section 4.2.1.6).
pub(super) fn email(certificate: &[u8]) -> Option<String> {
    let mut alternatives = fields(certificate)?.alternative_names?;
    while let Some((tag, value)) = alternatives.next() {
        let fits = tag == RFC822_NAME && value.len() <= MAX_EMAIL_BYTES && value.contains(&b'@');
        if fits && value.iter().all(u8::is_ascii_graphic) {
            return std::str::from_utf8(value).ok().map(str::to_owned);
        }
    }
    None
}

/// The common name in a certificate's subject, the most specific one, as it is and without escapes.
/// `None` if there is none, or a long one.
pub(super) fn common_name(certificate: &[u8]) -> Option<String> {
    let mut parts = Der(fields(certificate)?.subject);
    let mut found = None;
    for _ in 0..MAX_ATTRIBUTES {
        let Some((SET, set)) = parts.next() else { break };
        let mut attribute = Der(Der(set).expect(SEQUENCE)?);
        if attribute.expect(OID)? == COMMON_NAME {
            let (tag, value) = attribute.next()?;
            found = text(tag, value).filter(|name| name.len() <= MAX_SUBJECT_BYTES);
        }
    }
    found.filter(|name| !name.trim().is_empty())
}

struct Fields<'a> {
    subject: &'a [u8],
    alternative_names: Option<Der<'a>>,
}

fn fields(certificate: &[u8]) -> Option<Fields<'_>> {
    let mut signed = Der(Der(certificate).expect(SEQUENCE)?);
    let mut body = Der(signed.expect(SEQUENCE)?);
    if body.0.first() == Some(&VERSION) {
        body.next()?;
    }
    // Serial number, algorithm, issuer, validity.
    for _ in 0..4 {
        body.next()?;
    }
    let subject = body.expect(SEQUENCE)?;
    let mut alternative_names = None;
    while let Some((tag, value)) = body.next() {
        if tag == EXTENSIONS {
            alternative_names = alternatives(value);
        }
    }
    Some(Fields { subject, alternative_names })
}

fn alternatives(extensions: &[u8]) -> Option<Der<'_>> {
    let mut list = Der(Der(extensions).expect(SEQUENCE)?);
    while !list.0.is_empty() {
        let mut extension = Der(list.expect(SEQUENCE)?);
        if extension.expect(OID)? != SUBJECT_ALT_NAME {
            continue;
        }
        if extension.0.first() == Some(&BOOLEAN) {
            extension.next()?;
        }
        return Der(extension.expect(OCTET_STRING)?).expect(SEQUENCE).map(Der);
    }
    None
}

/// Writes `CN=alice`. Types without a short name are written by number, their values as bytes, so
/// that two different subjects never look alike (RFC 4514 sections 2.3 and 2.4).
fn attribute(out: &mut String, attribute: &[u8]) -> Option<()> {
    let mut fields = Der(attribute);
    let oid = fields.expect(OID)?;
    let encoded = fields.0;
    let (tag, value) = fields.next()?;
    let known = SHORT_NAMES.iter().find(|(known, _)| *known == oid).map(|(_, name)| *name);
    match (known, text(tag, value)) {
        (Some(name), Some(text)) => {
            out.push_str(name);
            out.push('=');
            escape(out, &text);
        }
        (name, _) => {
            match name {
                Some(name) => out.push_str(name),
                None => dotted(out, oid)?,
            }
            out.push_str("=#");
            // Twice as much as is kept, so that cutting it shows.
            for byte in encoded.iter().take(MAX_SUBJECT_BYTES) {
                let _ = write!(out, "{byte:02x}");
            }
        }
    }
    Some(())
}

fn text(tag: u8, value: &[u8]) -> Option<String> {
    match tag {
        // UTF8String, PrintableString, IA5String.
        0x0c | 0x13 | 0x16 => std::str::from_utf8(value).ok().map(str::to_owned),
        // TeletexString, which everybody fills with Latin-1.
        0x14 => Some(value.iter().copied().map(char::from).collect()),
        // BMPString.
        0x1e => {
            let pairs = value.chunks_exact(2);
            let odd = !pairs.remainder().is_empty();
            let units: Vec<u16> = pairs.filter_map(|pair| pair.try_into().ok().map(u16::from_be_bytes)).collect();
            if odd { None } else { String::from_utf16(&units).ok() }
        }
        _ => None,
    }
}

/// RFC 4514 section 2.4; control characters are escaped too, so that a subject stays on its line.
fn escape(out: &mut String, text: &str) {
    let last = text.chars().count().saturating_sub(1);
    for (at, c) in text.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', c]),
            ' ' if at == 0 || at == last => out.push_str("\\ "),
            '#' if at == 0 => out.push_str("\\#"),
            c if c.is_control() => {
                let mut utf8 = [0; 4];
                for byte in c.encode_utf8(&mut utf8).bytes() {
                    let _ = write!(out, "\\{byte:02x}");
                }
            }
            c => out.push(c),
        }
    }
}

/// Writes an object identifier with its dots (X.690 section 8.19).
fn dotted(out: &mut String, oid: &[u8]) -> Option<()> {
    let (mut number, mut first) = (0u64, true);
    for byte in oid {
        number = number.checked_mul(128)?.checked_add(u64::from(byte & 0x7f))?;
        if byte & 0x80 != 0 {
            continue;
        }
        if first {
            let root = (number / 40).min(2);
            let _ = write!(out, "{root}.{}", number - 40 * root);
            first = false;
        } else {
            let _ = write!(out, ".{number}");
        }
        number = 0;
    }
    (!first).then_some(())
}

/// Elements that are still to be read.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element, its tag and content; `None` at the end or if it does not fit.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (length, rest) = rest.split_first()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(*length), rest),
            // Up to four bytes of length; 0x80 would be BER's indefinite form.
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
                let length = digits.iter().fold(0u32, |length, digit| length << 8 | u32::from(*digit));
                (usize::try_from(length).ok()?, rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, value))
    }

    /// The content of the next element, which must have this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::string::{BmpString, TeletexString};
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};

    use super::*;

    fn certificate(names: &[&str], subject: &[(DnType, DnValue)]) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn subject_of(parts: &[(DnType, &str)]) -> Option<String> {
        let parts: Vec<(DnType, DnValue)> = parts.iter().map(|(kind, value)| (kind.clone(), (*value).into())).collect();
        subject(&certificate(&[], &parts))
    }

    #[test]
    fn a_subject_is_written_most_specific_part_first() {
        let parts = [
            (DnType::CountryName, "GB"),
            (DnType::OrganizationName, "Acme"),
            (DnType::OrganizationalUnitName, "Sales"),
            (DnType::CommonName, "alice"),
        ];
        assert_eq!(subject_of(&parts).as_deref(), Some("CN=alice,OU=Sales,O=Acme,C=GB"));
        assert_eq!(subject_of(&[]), None);
    }

    #[test]
    fn what_would_make_one_subject_look_like_another_is_escaped() {
        let name = |value| subject_of(&[(DnType::CommonName, value)]).unwrap();
        assert_eq!(name("alice,OU=Admins"), "CN=alice\\,OU=Admins");
        assert_eq!(name("a+b\"c\\d;e<f>"), "CN=a\\+b\\\"c\\\\d\\;e\\<f\\>");
        assert_eq!(name(" #x "), "CN=\\ #x\\ ");
        assert_eq!(name("#x"), "CN=\\#x");
        assert_eq!(name("a\nb\u{85}"), "CN=a\\0ab\\c2\\85");
        assert_eq!(name("Łukasz"), "CN=Łukasz");
    }

    #[test]
    fn other_string_types_and_other_attributes_are_written_too() {
        let text = |value: DnValue| subject(&certificate(&[], &[(DnType::CommonName, value)]));
        let bmp = DnValue::BmpString(BmpString::try_from("Łukasz").unwrap());
        assert_eq!(text(bmp).as_deref(), Some("CN=Łukasz"));
        let teletex = DnValue::TeletexString(TeletexString::try_from("bob").unwrap());
        assert_eq!(text(teletex).as_deref(), Some("CN=bob"));
        let mail = DnType::from_oid(&[1, 2, 840, 113_549, 1, 9, 1]);
        assert_eq!(subject_of(&[(mail, "a")]).as_deref(), Some("1.2.840.113549.1.9.1=#0c0161"));
    }

    #[test]
    fn a_subject_has_a_greatest_length() {
        let long = subject_of(&[(DnType::CommonName, &"é".repeat(2000))]).unwrap();
        assert!(long.len() <= MAX_SUBJECT_BYTES + '…'.len_utf8() && long.ends_with('…'), "{}", long.len());
        let odd = subject_of(&[(DnType::from_oid(&[2, 999, 1]), &"é".repeat(2000))]).unwrap();
        assert!(odd.starts_with("2.999.1=#0c") && odd.ends_with('…'), "{odd}");
    }

    #[test]
    fn the_names_are_the_alternative_ones_and_not_the_common_one() {
        let cn = [(DnType::CommonName, DnValue::from("cn.test"))];
        let der = certificate(&["App.Example.test", "*.example.test", "192.0.2.1"], &cn);
        assert_eq!(dns_names(&der), ["app.example.test", "*.example.test"]);
        assert!(dns_names(&certificate(&[], &cn)).is_empty());
    }

    #[test]
    fn the_address_and_the_common_name_are_read_as_they_are() {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        let mail = |text: &str| rcgen::SanType::Rfc822Name(text.try_into().unwrap());
        let dns = rcgen::SanType::DnsName("a.test".try_into().unwrap());
        params.subject_alt_names = vec![dns, mail("no address"), mail("alice@acme.test"), mail("second@acme.test")];
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Acme");
        params.distinguished_name.push(DnType::CommonName, "Łukasz, the first");
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        assert_eq!(email(&der).as_deref(), Some("alice@acme.test"));
        assert_eq!(common_name(&der).as_deref(), Some("Łukasz, the first"));
        for end in 0..der.len() {
            assert_eq!((email(&der[..end]), common_name(&der[..end])), (None, None));
        }
        let without = certificate(&["a.test"], &[(DnType::OrganizationName, "Acme".into())]);
        assert_eq!((email(&without), common_name(&without)), (None, None));
    }

    #[test]
    fn a_certificate_cut_off_anywhere_is_read_without_a_panic() {
        let der = certificate(&["a.test"], &[(DnType::CommonName, "alice".into())]);
        for end in 0..der.len() {
            assert_eq!(subject(&der[..end]), None);
            assert!(dns_names(&der[..end]).is_empty());
        }
        for bad in [&[0x30, 0x80][..], &[0x30, 0x85, 1, 1, 1, 1, 1], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(subject(bad), None);
        }
    }

    proptest! {
        #[test]
        fn a_damaged_certificate_is_read_without_a_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            static DER: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            let der = DER.get_or_init(|| certificate(&["a.test", "*.b.test"], &[(DnType::CommonName, "alice".into())]));
            let mut der = der.clone();
            for (at, to) in changes {
                let at = at.index(der.len());
                der[at] = to;
            }
            let _ = (subject(&der), dns_names(&der), email(&der), common_name(&der));
        }
    }
}
