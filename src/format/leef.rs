//! QRadar's Log Event Extended Format 2.0, attributes set apart by tabs.
//!
//! LEEF has no escape within attributes, so what could end one (a tab, a line end) becomes a space,
//! and keys are those of this file. It must never let a value begin another attribute.

use std::fmt::Write;
use std::sync::Arc;

use super::{Format, FormatError, FormatKind, Media, Record, cef};

/// The table's entry.
pub const KIND: FormatKind = FormatKind {
    name: "leef",
    doc: "QRadar Log Event Extended Format 2.0, one line an event",
    fields: &[],
    media: Media::text("leef"),
    check: |_, _| Some(Arc::new(Leef)),
};

/// Attribute, and where its value stands in an event; predefined ones first.
pub(super) const ATTRIBUTES: &[(&str, &str)] = &[
    ("src", "/metadata/ip_address"),
    ("usrName", "/actor/login"),
    ("accountName", "/actor/id"),
    ("url", "/metadata/request/path"),
    ("email", "/actor/email"),
    ("targetId", "/target/id"),
    ("targetEmail", "/target/email"),
    ("outcome", "/outcome"),
    ("reason", "/reason"),
    ("authMethod", "/metadata/method"),
    ("provider", "/metadata/provider"),
    ("country", "/metadata/geo/country"),
    ("sessionId", "/metadata/session_id"),
    ("organization", "/organization/id"),
    ("httpMethod", "/metadata/request/method"),
    ("httpHost", "/metadata/request/host"),
    ("userAgent", "/metadata/user_agent"),
];

#[derive(Debug)]
struct Leef;

impl Format for Leef {
    fn write(&self, record: &Record<'_>) -> Result<String, FormatError> {
        let mut out = format!("LEEF:2.0|authtap|authtap|{}|", env!("CARGO_PKG_VERSION"));
        plain(&mut out, record.event_type(), '|');
        out.push_str("|x09|");
        // The time in milliseconds needs no devTimeFormat.
        let _ = write!(out, "devTime={}", record.event.timestamp.as_millis());
        let _ = write!(out, "\tsev={}\teventId={}\tcat=", cef::severity(record), record.event.id);
        plain(&mut out, record.event_type(), '\t');
        for (key, pointer) in ATTRIBUTES {
            if let Some(value) = record.tree.str(pointer) {
                let _ = write!(out, "\t{key}=");
                plain(&mut out, value, '\t');
            }
        }
        Ok(out)
    }
}

/// A value without line ends and without what separates it from the next.
fn plain(out: &mut String, value: &str, separator: char) {
    out.extend(value.chars().map(|c| if c.is_control() || c == separator { ' ' } else { c }));
}
