//! One event of the LiteSOC collect API, under the names that it knows.
//!
//! The server stamps its own time on what it receives, so the time of the event, its id and its
//! canonical type travel in `metadata`. A type without a standard name there is written the way its
//! custom names are: `category.action`, two words.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map as Object, Value, json};

use super::{Format, FormatError, FormatKind, Media, Record};

/// The table's entry.
pub const KIND: FormatKind = FormatKind {
    name: "litesoc",
    doc: "an event of the LiteSOC collect API",
    fields: &[],
    media: Media::json("litesoc"),
    check: |_, _| Some(Arc::new(LiteSoc)),
};

/// Canonical names and the standard names of the collect API. Only where both mean the same.
const NAMES: &[(&str, &str)] = &[
    ("user.login.success", "auth.login_success"),
    ("user.login.failed", "auth.login_failed"),
    ("user.logout", "auth.logout"),
    ("user.mfa.enabled", "auth.mfa_enabled"),
    ("user.mfa.disabled", "auth.mfa_disabled"),
    ("user.password.reset_completed", "auth.password_reset"),
    ("access.denied", "authz.access_denied"),
    ("user.role.updated", "authz.role_changed"),
    ("user.created", "admin.user_created"),
    ("user.deleted", "admin.user_deleted"),
    ("settings.updated", "admin.settings_changed"),
    ("api_key.created", "admin.api_key_created"),
    ("api_key.revoked", "admin.api_key_revoked"),
    ("data.exported", "data.export"),
    ("data.viewed", "data.sensitive_access"),
    ("detection.brute_force", "security.brute_force_detected"),
];

#[derive(Debug)]
struct LiteSoc;

impl Format for LiteSoc {
    fn write(&self, record: &Record<'_>) -> Result<String, FormatError> {
        let mut out = Object::new();
        out.insert("event".into(), name(record.event.event_type.as_str()).into());
        let text = |pointer: &str| record.tree.str(pointer);
        let id = ["/actor/id", "/actor/login", "/actor/email"].into_iter().find_map(text);
        if let Some(id) = id {
            let mut actor = Object::from_iter([("id".to_owned(), Value::from(id))]);
            actor.extend(text("/actor/email").map(|email| ("email".to_owned(), Value::from(email))));
            out.insert("actor".into(), actor.into());
        }
        if let Some(ip) = text("/metadata/ip_address") {
            out.insert("user_ip".into(), ip.into());
        }
        let mut metadata = Object::new();
        metadata.insert("event_id".into(), record.event.id.to_string().into());
        metadata.insert("event_type".into(), record.event_type().into());
        metadata.insert("occurred_at".into(), record.event.timestamp.to_string().into());
        metadata.insert("outcome".into(), record.event.outcome.as_str().into());
        for (key, pointer) in [
            ("reason", "/reason"),
            ("login", "/actor/login"),
            ("target_id", "/target/id"),
            ("organization", "/organization/id"),
            ("user_agent", "/metadata/user_agent"),
            ("method", "/metadata/method"),
            ("provider", "/metadata/provider"),
            ("session_id", "/metadata/session_id"),
            ("country", "/metadata/geo/country"),
            ("city", "/metadata/geo/city"),
            ("request_id", "/metadata/request/id"),
            ("route", "/source/route"),
        ] {
            metadata.extend(text(pointer).map(|value| (key.to_owned(), Value::from(value))));
        }
        let fields = record.tree.entries("/metadata/fields");
        if !fields.is_empty() {
            metadata.insert("fields".into(), json!(record.tree.at("/metadata/fields")));
        }
        out.insert("metadata".into(), metadata.into());
        out.insert("timestamp".into(), record.event.timestamp.to_string().into());
        Ok(Value::Object(out).to_string())
    }
}

/// The name of a type in the collect API.
fn name(canonical: &str) -> Cow<'_, str> {
    if let Some((_, name)) = NAMES.iter().find(|(ours, _)| *ours == canonical) {
        return (*name).into();
    }
    match canonical.split_once('.') {
        Some(("detection", action)) => format!("security.{}", action.replace('.', "_")).into(),
        Some((category, action)) => format!("{category}.{}", action.replace('.', "_")).into(),
        None => canonical.into(),
    }
}
