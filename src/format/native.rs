//! The event as it is: one line of JSON, its keys in the order of the public event.

use std::sync::Arc;

use super::{Format, FormatError, FormatKind, Media, Record};

/// The table's entry.
pub const KIND: FormatKind = FormatKind {
    name: "native",
    doc: "the public event as it is (`json` means the same)",
    fields: &[],
    media: Media::json("native"),
    check: |_, _| Some(Arc::new(Native)),
};

/// Writes the chosen parts as they are.
#[derive(Debug)]
pub(super) struct Native;

impl Format for Native {
    fn write(&self, record: &Record<'_>) -> Result<String, FormatError> {
        Ok(record.tree.to_string())
    }
}
