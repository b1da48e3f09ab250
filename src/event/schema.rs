//! The JSON Schema of an event (`authtap schema event`, draft 2020-12).
//!
//! Written by hand beside the struct, in the same order; a test holds real events against it, so
//! that the two cannot drift apart.

use serde_json::{Value, json};

use super::kind::VOCABULARY;
use super::outcome::Outcome;
use super::{SCHEMA_VERSION, text};

/// The schema of one event.
pub fn json_schema() -> Value {
    let types: Vec<&str> = VOCABULARY.iter().map(|k| k.name).collect();
    let outcomes: Vec<&str> = Outcome::ALL.iter().filter(|o| **o != Outcome::Ignore).map(|o| o.as_str()).collect();
    let identifier = json!({"type": "string", "minLength": 1, "maxLength": text::IDENTIFIER});
    let other = json!({"type": "string", "minLength": 1, "maxLength": text::OTHER});
    let named = |properties: Value| json!({"type": "object", "additionalProperties": false, "properties": properties});
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "authtap event",
        "type": "object",
        "additionalProperties": false,
        "required": ["schema_version", "id", "event_type", "timestamp", "outcome", "metadata", "source"],
        "properties": {
            "schema_version": {"const": SCHEMA_VERSION},
            "id": {"type": "string", "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
                   "description": "UUID version 7 (RFC 9562); stable over every delivery"},
            "event_type": {"type": "string", "pattern": "^[a-z0-9_]+(\\.[a-z0-9_]+)+$", "examples": types},
            "timestamp": {"type": "string", "pattern": "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z$",
                          "description": "when the response began (RFC 3339, UTC)"},
            "outcome": {"enum": outcomes},
            "reason": other,
            "actor": named(json!({"id": identifier, "email": identifier, "login": identifier, "type": other})),
            "target": named(json!({"type": other, "id": identifier, "email": identifier})),
            "organization": {"type": "object", "additionalProperties": false, "required": ["id"],
                             "properties": {"id": identifier}},
            "metadata": metadata(&named, &other),
            "source": {
                "type": "object",
                "additionalProperties": false,
                "required": ["mode", "confidence"],
                "properties": {
                    "route": identifier, "rule": other, "preset": other,
                    "mode": {"enum": ["routes", "preset", "auto", "internal"]},
                    "confidence": {"type": "number", "minimum": 0, "maximum": 1}
                }
            }
        }
    })
}

fn metadata(named: &dyn Fn(Value) -> Value, other: &Value) -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
                "properties": {
            "ip_address": {"type": "string"},
            "user_agent": {"type": "string", "maxLength": text::USER_AGENT},
            "method": other,
            "provider": other,
            "session_id": {"type": "string", "pattern": "^s_[0-9a-f]{16}$",
                           "description": "keyed hash of the session, never the session"},
            "geo": named(json!({
                "country": other, "region": other, "city": other,
                "latitude": {"type": "number", "minimum": -90, "maximum": 90},
                "longitude": {"type": "number", "minimum": -180, "maximum": 180}
            })),
            "network": named(json!({
                "asn": {"type": "integer", "minimum": 0, "maximum": u32::MAX},
                "organization": other,
                "hosting": {"type": "boolean"}, "anonymous": {"type": "boolean"}, "tor": {"type": "boolean"}
            })),
            "client": named(json!({"browser": other, "os": other, "device": other, "bot": {"type": "boolean"}})),
            "tls": named(json!({"version": {"enum": ["1.0", "1.1", "1.2", "1.3"]}, "sni": other, "ja4": other, "subject": other})),
            "request": {
                "type": "object",
                "additionalProperties": false,
                "required": ["id", "method", "path", "duration_ms"],
                "properties": {
                    "id": other, "method": other, "host": other, "path": other,
                    "status": {"type": "integer", "minimum": 100, "maximum": 999},
                    "duration_ms": {"type": "number", "minimum": 0},
                    "ended": {"enum": ["client_gone", "upstream_failed", "request_cut"]},
                    "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"}
                }
            },
            "fields": {"type": "object", "maxProperties": super::MAX_FIELDS, "additionalProperties": other}
        }
    })
}
