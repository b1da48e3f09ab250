//! placeholder
use super::*;
/// x
pub const KIND: SinkKind = SinkKind { name: "file", doc: "", fields: &[], check: |_, _| None };
