//! The Open Cybersecurity Schema Framework (schema.ocsf.io): which class an event is of, and where
//! its parts stand there.
//!
//! `version` is the schema the receiver reads. Up to 1.8 changes of accounts are Account Change
//! (3001), from 1.9 on User Management (3007), which replaced it. What has no place in the schema
//! stands under `unmapped`. It must never claim more than the event does: an outcome that the
//! evidence does not decide is status 0, a user nobody named is of type 0. The invariant: every
//! object here is valid by the schema of its version; a test holds each against it.

use std::sync::Arc;

use serde_json::{Map as Object, Value, json};

use super::{Format, FormatError, FormatKind, Media, Record};
use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::event::Outcome;

#[cfg(test)]
mod tests;

/// The table's entry.
pub const KIND: FormatKind = FormatKind {
    name: "ocsf",
    doc: "the Open Cybersecurity Schema Framework",
    fields: &[Field::new(
        "version",
        Kind::Word(VERSIONS),
        "1.8.0",
        "the version of the schema that the receiver reads",
    )],
    media: Media::json("ocsf"),
    check,
};

const VERSIONS: &[&str] = &["1.3.0", "1.4.0", "1.5.0", "1.6.0", "1.7.0", "1.8.0", "1.9.0"];

/// From here on there is User Management, and Account Change is deprecated.
const USER_MANAGEMENT: &str = "1.9.0";
/// From here on events of this category say how the request was answered.
const HTTP_RESPONSE: &str = "1.4.0";

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Arc<dyn Format>> {
    let version = match map.get("version") {
        Some(node) => node.one_of(VERSIONS, problems)?,
        None => "1.8.0",
    };
    Some(Arc::new(Ocsf { version }))
}

#[derive(Debug)]
struct Ocsf {
    version: &'static str,
}

/// What an event is in the schema.
struct Class {
    uid: u32,
    name: &'static str,
    activity: (u32, &'static str),
}

/// An activity that the class has no number for, in words of our own.
const OTHER: u32 = 99;

const fn authentication(id: u32, name: &'static str) -> Class {
    Class { uid: 3002, name: "Authentication", activity: (id, name) }
}

const fn entity(id: u32, name: &'static str) -> Class {
    Class { uid: 3004, name: "Entity Management", activity: (id, name) }
}

impl Ocsf {
    fn class(&self, canonical: &str) -> Class {
        match canonical {
            t if t.starts_with("user.login.") => authentication(1, "Logon"),
            "user.logout" | "session.revoked" => authentication(2, "Logoff"),
            "session.created" => authentication(OTHER, "Session Created"),
            t if t.starts_with("user.mfa.challenge.") => authentication(OTHER, "MFA Challenge"),
            "user.created" => self.account((1, "Create"), (1, "Create")),
            "user.deleted" => self.account((6, "Delete"), (3, "Delete")),
            "user.locked" => self.account((9, "Lock"), (6, "Lock")),
            "user.password.changed" => self.account((3, "Password Change"), (8, "Password Change")),
            "user.password.reset_requested" | "user.password.reset_completed" => {
                self.account((4, "Password Reset"), (9, "Password Reset"))
            }
            "user.mfa.enabled" => self.account((10, "MFA Factor Enable"), (12, "Enable MFA Factors")),
            "user.mfa.disabled" => self.account((11, "MFA Factor Disable"), (13, "Disable MFA Factors")),
            "user.email.changed" => self.account((OTHER, "Email Changed"), (2, "Update")),
            "user.role.updated" => self.account((OTHER, "Role Updated"), (OTHER, "Role Updated")),
            "user.email.verified" => self.account((OTHER, "Email Verified"), (OTHER, "Email Verified")),
            "user.invited" => self.account((OTHER, "Invited"), (OTHER, "Invited")),
            "user.removed" => self.account((OTHER, "Removed"), (OTHER, "Removed")),
            "api_key.created" | "webhook.created" | "oauth.authorized" => entity(1, "Create"),
            "api_key.revoked" | "webhook.deleted" | "oauth.revoked" | "data.deleted" => entity(4, "Delete"),
            "api_key.used" | "data.viewed" | "data.exported" => entity(2, "Read"),
            "settings.updated" | "billing.plan.changed" | "team.member.added" | "team.member.removed" => {
                entity(3, "Update")
            }
            t if t.starts_with("detection.") => Class { uid: 2004, name: "Detection Finding", activity: (1, "Create") },
            _ => Class { uid: 0, name: "Base Event", activity: (OTHER, "Other") },
        }
    }

    /// A change of an account: the activity up to 1.8, and from 1.9 on.
    fn account(&self, before: (u32, &'static str), since: (u32, &'static str)) -> Class {
        if self.version >= USER_MANAGEMENT {
            Class { uid: 3007, name: "User Management", activity: since }
        } else {
            Class { uid: 3001, name: "Account Change", activity: before }
        }
    }
}

impl Format for Ocsf {
    fn write(&self, record: &Record<'_>) -> Result<String, FormatError> {
        let canonical = record.event.event_type.as_str();
        let class = self.class(canonical);
        let mut out = Object::new();
        out.insert("class_uid".into(), class.uid.into());
        out.insert("class_name".into(), class.name.into());
        let (category, category_name) = match class.uid / 1000 {
            2 => (2, "Findings"),
            3 => (3, "Identity & Access Management"),
            _ => (0, "Uncategorized"),
        };
        out.insert("category_uid".into(), category.into());
        out.insert("category_name".into(), category_name.into());
        let (activity, activity_name) = class.activity;
        out.insert("activity_id".into(), activity.into());
        out.insert("activity_name".into(), if class.uid == 0 { record.event_type() } else { activity_name }.into());
        out.insert("type_uid".into(), (class.uid * 100 + activity).into());
        out.insert("time".into(), record.event.timestamp.as_millis().into());
        severity(record, &mut out);
        if class.uid == 2004 {
            // Of a finding this is where its handling stands.
            out.insert("status_id".into(), 1.into());
            out.insert("status".into(), "New".into());
        } else {
            status(record, &mut out);
        }
        out.insert("message".into(), record.event.event_type.meaning().into());
        out.insert("metadata".into(), self.metadata(record));
        match class.uid {
            3002 => {
                out.insert("user".into(), user(record, "/actor"));
                let host = record.tree.str("/metadata/request/host").unwrap_or("web application");
                out.insert("service".into(), json!({ "name": host }));
                if canonical.starts_with("user.mfa.challenge.") {
                    out.insert("is_mfa".into(), true.into());
                }
                session(record, &mut out);
            }
            3001 | 3007 => {
                // The account it was done to: the target where there is one, else the actor's own.
                let of = record.tree.at("/target").is_some_and(|_| record.tree.str("/target/type") != Some("api_key"));
                out.insert("user".into(), user(record, if of { "/target" } else { "/actor" }));
            }
            3004 => {
                let kind = record.tree.str("/target/type").or(canonical.split('.').next()).unwrap_or("entity");
                let mut entity =
                    Object::from_iter([("name".to_owned(), Value::from(kind)), ("type".to_owned(), Value::from(kind))]);
                entity.extend(record.tree.str("/target/id").map(|id| ("uid".to_owned(), Value::from(id))));
                out.insert("entity".into(), entity.into());
            }
            2004 => {
                let title = record.event_type();
                out.insert(
                    "finding_info".into(),
                    json!({ "uid": record.event.id.to_string(), "title": title, "types": [title] }),
                );
            }
            _ => {}
        }
        // The categories of findings and of nothing in particular have neither of these.
        if category == 3 {
            actor(record, &mut out);
            endpoint(record, &mut out);
            http(record, self.version >= HTTP_RESPONSE, &mut out);
        }
        unmapped(record, category, &mut out);
        Ok(Value::Object(out).to_string())
    }
}

impl Ocsf {
    fn metadata(&self, record: &Record<'_>) -> Value {
        let product = json!({"name": "authtap", "vendor_name": "authtap", "version": env!("CARGO_PKG_VERSION")});
        let mut metadata = json!({
            "version": self.version,
            "product": product,
            "uid": record.event.id.to_string(),
            "event_code": record.event_type(),
            "log_name": "authtap",
        });
        if let Some(tenant) = record.tree.str("/organization/id") {
            metadata["tenant_uid"] = tenant.into();
        }
        metadata
    }
}

fn severity(record: &Record<'_>, out: &mut Object<String, Value>) {
    let (id, word) = match record.event.outcome {
        _ if record.event.event_type.as_str().starts_with("detection.") => (4, "High"),
        Outcome::Failure | Outcome::Rejected => (2, "Low"),
        Outcome::Success | Outcome::Challenge | Outcome::Requested | Outcome::Unknown | Outcome::Ignore => {
            (1, "Informational")
        }
    };
    out.insert("severity_id".into(), id.into());
    out.insert("severity".into(), word.into());
}

fn status(record: &Record<'_>, out: &mut Object<String, Value>) {
    let (id, word) = match record.event.outcome {
        Outcome::Success => (1, "Success"),
        Outcome::Failure | Outcome::Rejected => (2, "Failure"),
        Outcome::Challenge | Outcome::Requested => (OTHER, record.event.outcome.as_str()),
        Outcome::Unknown | Outcome::Ignore => (0, "Unknown"),
    };
    out.insert("status_id".into(), id.into());
    out.insert("status".into(), word.into());
    if let Some(reason) = record.tree.str("/reason") {
        out.insert("status_detail".into(), reason.into());
    }
}

/// The user at `/actor` or `/target`.
fn user(record: &Record<'_>, at: &str) -> Value {
    let part = |key: &str| record.tree.str(&format!("{at}/{key}"));
    let mut user = Object::new();
    let mut put = |key: &str, value: Option<&str>| {
        user.extend(value.map(|value| (key.to_owned(), Value::from(value))));
    };
    put("uid", part("id"));
    put("name", part("login").or(part("email")));
    put("email_addr", part("email"));
    let known = part("id").or(part("login")).or(part("email")).is_some();
    if !known {
        put("name", Some("Unknown"));
    }
    let (id, word) = match part("type") {
        _ if !known => (0, "Unknown"),
        None => (0, "Unknown"),
        Some("user") => (1, "User"),
        Some("admin") => (2, "Admin"),
        Some(other) => (OTHER, other),
    };
    put("type", Some(word));
    user.insert("type_id".into(), id.into());
    user.into()
}

fn actor(record: &Record<'_>, out: &mut Object<String, Value>) {
    if record.tree.at("/actor").is_none() {
        return;
    }
    let mut actor = json!({ "user": user(record, "/actor") });
    if let Some(provider) = record.tree.str("/metadata/provider") {
        actor["idp"] = json!({ "name": provider });
    }
    if let Some(session) = record.tree.str("/metadata/session_id") {
        actor["session"] = json!({ "uid": session });
    }
    out.insert("actor".into(), actor);
}

fn session(record: &Record<'_>, out: &mut Object<String, Value>) {
    if let Some(session) = record.tree.str("/metadata/session_id") {
        out.insert("session".into(), json!({ "uid": session }));
    }
}

fn endpoint(record: &Record<'_>, out: &mut Object<String, Value>) {
    let Some(ip) = record.tree.str("/metadata/ip_address") else { return };
    let mut endpoint = json!({ "ip": ip });
    let mut location = Object::new();
    for (key, pointer) in [("country", "country"), ("region", "region"), ("city", "city")] {
        let value = record.tree.str(&format!("/metadata/geo/{pointer}"));
        location.extend(value.map(|value| (key.to_owned(), Value::from(value))));
    }
    if !location.is_empty() {
        endpoint["location"] = location.into();
    }
    let (number, name) = (record.tree.leaf("/metadata/network/asn"), record.tree.str("/metadata/network/organization"));
    if number.is_some() || name.is_some() {
        let mut system = Object::new();
        system.extend(number.map(|number| ("number".to_owned(), number.clone())));
        system.extend(name.map(|name| ("name".to_owned(), Value::from(name))));
        endpoint["autonomous_system"] = system.into();
    }
    out.insert("src_endpoint".into(), endpoint);
}

fn http(record: &Record<'_>, response: bool, out: &mut Object<String, Value>) {
    let text = |key: &str| record.tree.str(&format!("/metadata/request/{key}"));
    let mut request = Object::new();
    let mut put = |key: &str, value: Option<&str>| {
        request.extend(value.map(|value| (key.to_owned(), Value::from(value))));
    };
    put("uid", text("id"));
    put("http_method", text("method"));
    put("user_agent", record.tree.str("/metadata/user_agent"));
    if let Some(path) = text("path") {
        let mut url = json!({ "path": path });
        if let Some(host) = text("host") {
            url["hostname"] = host.into();
        }
        request.insert("url".into(), url);
    }
    if !request.is_empty() {
        out.insert("http_request".into(), request.into());
    }
    if let Some(status) = record.tree.leaf("/metadata/request/status").filter(|_| response) {
        let mut response = json!({ "code": status });
        if let Some(millis) = record.tree.number("/metadata/request/duration_ms") {
            response["latency"] = json!(millis.clamp(0.0, 1e12) as u64);
        }
        out.insert("http_response".into(), response);
    }
}

/// What the schema has no place for, under the names it has here.
fn unmapped(record: &Record<'_>, category: u32, out: &mut Object<String, Value>) {
    let mut rest = Object::new();
    let everything = [
        "/actor",
        "/metadata/ip_address",
        "/metadata/user_agent",
        "/metadata/geo",
        "/metadata/request",
        "/metadata/session_id",
        "/metadata/provider",
    ];
    let always = ["/target", "/metadata/method", "/metadata/client", "/metadata/tls", "/metadata/fields", "/source"];
    let chosen = if category == 3 { &[][..] } else { &everything[..] };
    for pointer in always.iter().chain(chosen) {
        if let Some(part) = record.tree.at(pointer) {
            let key = pointer.rsplit('/').next().unwrap_or_default();
            rest.insert(key.to_owned(), json!(part));
        }
    }
    rest.insert("outcome".into(), record.event.outcome.as_str().into());
    out.insert("unmapped".into(), rest.into());
}
