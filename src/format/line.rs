//! One stable line of text for programs that read logs with regular expressions (fail2ban,
//! CrowdSec): time, `authtap`, type and address first and without quotes, then what a client may
//! have written, each as `key="…"` with `\`, `"` and whatever is not printable escaped.
//!
//! The first four words come from authtap alone, so a pattern anchored at the beginning cannot be
//! forged. Keys and their order are a contract: new ones are only added at the end. The invariant:
//! a line has no quote that does not open or close a value, and no line end.

use std::fmt::Write;
use std::sync::Arc;

use super::{Format, FormatError, FormatKind, Media, Record};

/// The table's entry.
pub const KIND: FormatKind = FormatKind {
    name: "line",
    doc: "one stable line of text, for fail2ban and CrowdSec",
    fields: &[],
    media: Media::text("line"),
    check: |_, _| Some(Arc::new(Line)),
};

/// Keys after the first four words, in order, and where their values stand.
pub(super) const KEYS: &[(&str, &str)] = &[
    ("reason", "/reason"),
    ("login", "/actor/login"),
    ("id", "/actor/id"),
    ("email", "/actor/email"),
    ("target", "/target/id"),
    ("organization", "/organization/id"),
    ("method", "/metadata/method"),
    ("country", "/metadata/geo/country"),
    ("session", "/metadata/session_id"),
    ("route", "/source/route"),
    ("user_agent", "/metadata/user_agent"),
];

#[derive(Debug)]
struct Line;

impl Format for Line {
    fn write(&self, record: &Record<'_>) -> Result<String, FormatError> {
        // An address comes from the connection or a trusted proxy and is always well formed.
        let address = record.tree.str("/metadata/ip_address").unwrap_or("-");
        let mut out = format!(
            "{} authtap {} ip={address} outcome={}",
            record.event.timestamp,
            record.event_type(),
            record.event.outcome
        );
        for (key, pointer) in KEYS {
            if let Some(value) = record.tree.str(pointer) {
                let _ = write!(out, " {key}=\"");
                for c in value.chars() {
                    match c {
                        '"' | '\\' => out.extend(['\\', c]),
                        c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                            let _ = write!(out, "\\u{:04x}", u32::from(c));
                        }
                        c => out.push(c),
                    }
                }
                out.push('"');
            }
        }
        Ok(out)
    }
}
