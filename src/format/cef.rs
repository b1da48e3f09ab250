//! ArcSight Common Event Format, revision 25: `CEF:0|vendor|product|version|class|name|severity|…`.
//!
//! A receiver splits at `|` and at ` key=`, so both kinds of field are escaped apart, and only keys
//! of this file stand before a `=`. It must never let a value end its field or begin another one.

use std::fmt::Write;
use std::sync::Arc;

use super::{Format, FormatError, FormatKind, Media, Record};

/// The table's entry.
pub const KIND: FormatKind = FormatKind {
    name: "cef",
    doc: "ArcSight Common Event Format, one line an event",
    fields: &[],
    media: Media::text("cef"),
    check: |_, _| Some(Arc::new(Cef)),
};

/// Key of the extension dictionary, and where its value stands in an event.
const EXTENSION: &[(&str, &str)] = &[
    ("suser", "/actor/login"),
    ("suid", "/actor/id"),
    ("duid", "/target/id"),
    ("duser", "/target/email"),
    ("reason", "/reason"),
    ("outcome", "/outcome"),
    ("requestMethod", "/metadata/request/method"),
    ("request", "/metadata/request/path"),
    ("dhost", "/metadata/request/host"),
    ("requestClientApplication", "/metadata/user_agent"),
];

/// Custom strings: key, label, and where the value stands.
const CUSTOM: &[(&str, &str, &str)] = &[
    ("cs1", "email", "/actor/email"),
    ("cs2", "method", "/metadata/method"),
    ("cs3", "provider", "/metadata/provider"),
    ("cs4", "country", "/metadata/geo/country"),
    ("cs5", "sessionId", "/metadata/session_id"),
    ("cs6", "organization", "/organization/id"),
];

#[derive(Debug)]
struct Cef;

impl Format for Cef {
    fn write(&self, record: &Record<'_>) -> Result<String, FormatError> {
        let mut out = String::from("CEF:0|authtap|authtap|");
        header(&mut out, env!("CARGO_PKG_VERSION"));
        header(&mut out, record.event_type());
        header(&mut out, record.event.event_type.meaning());
        let _ = write!(out, "{}|", severity(record));
        extension(&mut out, "rt", &record.event.timestamp.as_millis().to_string());
        extension(&mut out, "externalId", &record.event.id.to_string());
        extension(&mut out, "cat", record.event_type());
        if let Some(address) = record.tree.str("/metadata/ip_address") {
            // `src` is IPv4 only; IPv6 has a custom field of its own.
            if address.contains(':') {
                extension(&mut out, "c6a2", address);
                extension(&mut out, "c6a2Label", "Source IPv6 Address");
            } else {
                extension(&mut out, "src", address);
            }
        }
        for (key, pointer) in EXTENSION {
            if let Some(value) = record.tree.str(pointer) {
                extension(&mut out, key, value);
            }
        }
        for (key, label, pointer) in CUSTOM {
            if let Some(value) = record.tree.str(pointer) {
                extension(&mut out, key, value);
                extension(&mut out, &format!("{key}Label"), label);
            }
        }
        if out.ends_with(' ') {
            out.pop();
        }
        Ok(out)
    }
}

/// 0 to 10: what went well is 3, what was refused 5, a finding 8.
pub(super) fn severity(record: &Record<'_>) -> u8 {
    use crate::event::Outcome;
    match record.event.outcome {
        _ if record.event.event_type.as_str().starts_with("detection.") => 8,
        Outcome::Failure | Outcome::Rejected => 5,
        Outcome::Success | Outcome::Challenge | Outcome::Requested | Outcome::Unknown | Outcome::Ignore => 3,
    }
}

/// A field of the header: `\` and `|` are escaped, line ends are none.
fn header(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' | '|' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('|');
}

/// A pair of the extension: `\` and `=` are escaped, line ends are none.
fn extension(out: &mut String, key: &str, value: &str) {
    let _ = write!(out, "{key}=");
    for c in value.chars() {
        match c {
            '\\' | '=' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push(' ');
}
