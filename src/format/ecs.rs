//! Elastic Common Schema 8: `@timestamp`, `event.*`, `user.*`, `source.*` and the rest of it.
//!
//! What ECS has no place for goes under `authtap.*`, a namespace of its own as the schema asks for.
//! The invariant: every key outside of `authtap.` is one of ECS, with the type it has there.

use std::sync::Arc;

use serde_json::{Map as Object, Value, json};

use super::{Format, FormatError, FormatKind, Media, Record};
use crate::event::Outcome;

/// The table's entry.
pub const KIND: FormatKind = FormatKind {
    name: "ecs",
    doc: "Elastic Common Schema 8.11",
    fields: &[],
    media: Media::json("ecs"),
    check: |_, _| Some(Arc::new(Ecs)),
};

/// The version that `ecs.version` states.
const VERSION: &str = "8.11.0";

/// Where a value stands in an event, and where in ECS.
const PLACES: &[(&str, &str)] = &[
    ("/reason", "event.reason"),
    ("/actor/id", "user.id"),
    ("/actor/login", "user.name"),
    ("/actor/email", "user.email"),
    ("/target/id", "user.target.id"),
    ("/target/email", "user.target.email"),
    ("/organization/id", "organization.id"),
    ("/metadata/ip_address", "source.ip"),
    ("/metadata/geo/country", "source.geo.country_iso_code"),
    ("/metadata/geo/city", "source.geo.city_name"),
    ("/metadata/network/asn", "source.as.number"),
    ("/metadata/network/organization", "source.as.organization.name"),
    ("/metadata/user_agent", "user_agent.original"),
    ("/metadata/client/browser", "user_agent.name"),
    ("/metadata/client/os", "user_agent.os.name"),
    ("/metadata/client/device", "user_agent.device.name"),
    ("/metadata/tls/version", "tls.version"),
    ("/metadata/tls/sni", "tls.client.server_name"),
    ("/metadata/tls/subject", "tls.client.subject"),
    ("/metadata/request/id", "http.request.id"),
    ("/metadata/request/method", "http.request.method"),
    ("/metadata/request/status", "http.response.status_code"),
    ("/metadata/request/path", "url.path"),
    ("/metadata/request/host", "url.domain"),
    ("/metadata/request/trace_id", "trace.id"),
    // Of our own.
    ("/outcome", "authtap.outcome"),
    ("/actor/type", "authtap.actor_type"),
    ("/target/type", "authtap.target_type"),
    ("/metadata/method", "authtap.method"),
    ("/metadata/provider", "authtap.provider"),
    ("/metadata/session_id", "authtap.session_id"),
    ("/metadata/network/hosting", "authtap.network.hosting"),
    ("/metadata/network/anonymous", "authtap.network.anonymous"),
    ("/metadata/network/tor", "authtap.network.tor"),
    ("/metadata/client/bot", "authtap.bot"),
    ("/metadata/tls/ja4", "authtap.ja4"),
    ("/metadata/request/ended", "authtap.ended"),
    ("/source/route", "authtap.route"),
    ("/source/rule", "authtap.rule"),
    ("/source/preset", "authtap.preset"),
    ("/source/mode", "authtap.mode"),
    ("/source/confidence", "authtap.confidence"),
];

#[derive(Debug)]
struct Ecs;

impl Format for Ecs {
    fn write(&self, record: &Record<'_>) -> Result<String, FormatError> {
        let mut out = Object::new();
        put(&mut out, "@timestamp", record.event.timestamp.to_string().into());
        put(&mut out, "ecs.version", VERSION.into());
        put(&mut out, "event.id", record.event.id.to_string().into());
        put(&mut out, "event.kind", kind(record).into());
        put(&mut out, "event.category", json!(category(record.event.event_type.as_str())));
        put(&mut out, "event.type", json!(types(record)));
        put(&mut out, "event.action", record.event_type().into());
        put(&mut out, "event.outcome", outcome(record.event.outcome).into());
        put(&mut out, "event.dataset", "authtap.events".into());
        put(&mut out, "event.module", "authtap".into());
        for (from, to) in PLACES {
            if let Some(value) = record.tree.leaf(from) {
                put(&mut out, to, value.clone());
            }
        }
        if let Some(millis) = record.tree.number("/metadata/request/duration_ms") {
            // ECS wants whole nanoseconds; a request of a year would still fit.
            put(&mut out, "event.duration", json!((millis.clamp(0.0, 1e12) * 1e6) as u64));
        }
        if let (Some(country), Some(region)) =
            (record.tree.str("/metadata/geo/country"), record.tree.str("/metadata/geo/region"))
        {
            put(&mut out, "source.geo.region_iso_code", format!("{country}-{region}").into());
        }
        if let (Some(lat), Some(lon)) =
            (record.tree.number("/metadata/geo/latitude"), record.tree.number("/metadata/geo/longitude"))
        {
            put(&mut out, "source.geo.location", json!({"lat": lat, "lon": lon}));
        }
        let fields = record.tree.entries("/metadata/fields");
        if !fields.is_empty() {
            // A list of pairs: free keys as names of fields would fill an index with fields.
            let pairs: Vec<Value> = fields.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
            put(&mut out, "authtap.fields", pairs.into());
        }
        let related: Vec<&str> =
            ["/actor/id", "/actor/login", "/actor/email"].into_iter().filter_map(|p| record.tree.str(p)).collect();
        if !related.is_empty() {
            put(&mut out, "related.user", json!(related));
        }
        if let Some(ip) = record.tree.str("/metadata/ip_address") {
            put(&mut out, "related.ip", json!([ip]));
        }
        Ok(Value::Object(out).to_string())
    }
}

/// Puts a value at a dotted place, as nested objects.
fn put(into: &mut Object<String, Value>, place: &str, value: Value) {
    match place.split_once('.') {
        None => {
            into.insert(place.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = into.entry(first).or_insert_with(|| Value::Object(Object::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

fn kind(record: &Record<'_>) -> &'static str {
    if record.event.event_type.as_str().starts_with("detection.") { "alert" } else { "event" }
}

/// `event.category`, of the values that ECS allows.
fn category(canonical: &str) -> &'static [&'static str] {
    match canonical {
        t if t.starts_with("detection.") => &["intrusion_detection"],
        t if t.starts_with("user.login.") || t.starts_with("user.mfa.challenge.") => &["authentication"],
        "user.logout" => &["authentication", "session"],
        t if t.starts_with("session.") => &["session"],
        t if t.starts_with("user.") || t.starts_with("team.") || t.starts_with("api_key.") => &["iam"],
        t if t.starts_with("oauth.") => &["iam"],
        "settings.updated" | "webhook.created" | "webhook.deleted" => &["configuration"],
        "access.denied" => &["web"],
        t if t.starts_with("data.") => &["database"],
        _ => &["web"],
    }
}

/// `event.type`, of the values that ECS allows in that category.
fn types(record: &Record<'_>) -> &'static [&'static str] {
    match record.event.event_type.as_str() {
        "user.login.success" | "session.created" => &["start"],
        "user.login.failed" => &["start"],
        "user.logout" | "session.revoked" => &["end"],
        "user.created" | "user.invited" => &["user", "creation"],
        "user.deleted" | "user.removed" => &["user", "deletion"],
        "team.member.added" | "team.member.removed" => &["group", "change"],
        "access.denied" => &["access"],
        "data.viewed" | "data.exported" => &["access"],
        "data.deleted" => &["deletion"],
        "webhook.created" => &["creation"],
        "webhook.deleted" => &["deletion"],
        "settings.updated" => &["change"],
        "api_key.created" | "oauth.authorized" => &["creation"],
        "api_key.revoked" | "oauth.revoked" => &["deletion"],
        t if t.starts_with("user.mfa.challenge.") || t.starts_with("user.login.") => &["info"],
        t if t.starts_with("user.") => &["user", "change"],
        _ => &["info"],
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Failure | Outcome::Rejected => "failure",
        Outcome::Challenge | Outcome::Requested | Outcome::Unknown | Outcome::Ignore => "unknown",
    }
}
