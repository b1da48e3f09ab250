//! The vocabulary: the event types known by name, each with its tier.
//!
//! The names are a contract. Any other dot-namespaced lower-case name is allowed in a route;
//! `check` warns when it looks like a misspelling of one of these.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

/// An event type: a dot-namespaced lower-case name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct EventType(Cow<'static, str>);

/// How strongly the vocabulary's source asks for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Must be recorded.
    Must,
    /// Should be recorded.
    Should,
    /// Nice to have.
    Nice,
}

/// One name of the vocabulary.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The name.
    pub name: &'static str,
    /// Its tier, where the source gives one.
    pub tier: Option<Tier>,
    /// What it means, in a few words.
    pub meaning: &'static str,
}

const fn known(name: &'static str, tier: Option<Tier>, meaning: &'static str) -> Known {
    Known { name, tier, meaning }
}

use Tier::{Must, Nice, Should};

/// The canonical names, then those of our own.
pub const VOCABULARY: &[Known] = &[
    known("user.login.success", Some(Must), "somebody signed in"),
    known("user.login.failed", Some(Must), "a sign-in was refused on its merits"),
    known("user.logout", Some(Nice), "a session was ended"),
    known("user.mfa.enabled", Some(Should), "a second factor was set up"),
    known("user.mfa.disabled", Some(Should), "a second factor was taken away"),
    known("user.mfa.challenge.success", None, "a second factor was given rightly"),
    known("user.mfa.challenge.failed", None, "a second factor was given wrongly"),
    known("user.created", Some(Should), "an account was made"),
    known("user.deleted", Some(Should), "an account was deleted"),
    known("user.email.changed", None, "an account's address took a new value"),
    known("user.password.changed", Some(Must), "a password was changed by its owner or an administrator"),
    known("user.password.reset_requested", Some(Must), "a reset was asked for"),
    known("user.password.reset_completed", None, "a reset set a new password"),
    known("user.role.updated", Some(Must), "roles, groups or permissions changed"),
    known("user.invited", Some(Nice), "somebody was invited"),
    known("user.removed", None, "somebody was removed from an organization"),
    known("team.member.added", None, "a team gained a member"),
    known("team.member.removed", None, "a team lost a member"),
    known("api_key.created", Some(Must), "a key or token was made"),
    known("api_key.revoked", Some(Must), "a key or token was taken away"),
    known("api_key.used", Some(Nice), "a key or token was used"),
    known("webhook.created", None, "a webhook was set up"),
    known("webhook.deleted", None, "a webhook was taken away"),
    known("oauth.authorized", Some(Should), "an application was given access"),
    known("oauth.revoked", Some(Should), "an application's access was taken away"),
    known("data.exported", Some(Should), "data left in bulk"),
    known("data.viewed", Some(Nice), "a sensitive record was looked at"),
    known("data.deleted", None, "data was deleted"),
    known("settings.updated", Some(Nice), "settings changed"),
    known("billing.plan.changed", None, "the plan changed"),
    known("session.created", None, "a session was bound to its actor"),
    known("session.revoked", None, "a session was ended, by the user or by expiry"),
    known("user.mfa.challenge.requested", None, "a second factor was asked for"),
    known("user.login.unknown", None, "a sign-in whose outcome the evidence does not decide"),
    known("user.login.rejected", None, "a sign-in refused before it was looked at (CSRF, validation, rate limit)"),
    known("user.locked", None, "an account was locked"),
    known("user.email.verified", None, "an address was verified"),
    known("access.denied", None, "access was refused"),
    known("authtap.started", None, "authtap began to serve"),
    known("authtap.config.reloaded", None, "the configuration was read again: success in force, failure refused"),
    known(
        "authtap.preset.suggested",
        None,
        "the application looks like one there is a preset for, which is not in use",
    ),
    known("authtap.events.dropped", None, "events were lost, and how many"),
    known("authtap.store.degraded", None, "events are not kept on disk, and why"),
    known("authtap.store.recovered", None, "events are kept on disk again"),
    known("authtap.store.damaged", None, "the event store was damaged and set aside"),
    known("authtap.sink.down", None, "a sink has failed for a while; its events wait"),
    known("authtap.sink.up", None, "a sink that was down takes events again"),
];

impl EventType {
    /// A type if `name` is dot-namespaced and lower-case (`[a-z0-9_]` labels, at least two).
    pub fn parse(name: &str) -> Option<EventType> {
        let label =
            |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let valid = name.len() <= 100 && name.contains('.') && name.split('.').all(label);
        if !valid {
            return None;
        }
        Some(match VOCABULARY.iter().find(|k| k.name == name) {
            Some(k) => EventType(Cow::Borrowed(k.name)),
            None => EventType(Cow::Owned(name.to_owned())),
        })
    }

    /// A constant of our own.
    pub const fn fixed(name: &'static str) -> EventType {
        EventType(Cow::Borrowed(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it means, in the words of the vocabulary; the name itself if it has none.
    pub fn meaning(&self) -> &str {
        VOCABULARY.iter().find(|k| k.name == self.0).map_or(&self.0, |k| k.meaning)
    }

    /// True if the vocabulary has it.
    pub fn is_known(&self) -> bool {
        VOCABULARY.iter().any(|k| k.name == self.0) || self.0.starts_with("detection.")
    }
}

impl<'de> serde::Deserialize<'de> for EventType {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<EventType, D::Error> {
        let name = <Cow<'de, str>>::deserialize(from)?;
        EventType::parse(&name).ok_or_else(|| serde::de::Error::custom("no event type"))
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_vocabulary_is_a_valid_type_and_stands_once() {
        for (i, k) in VOCABULARY.iter().enumerate() {
            assert!(EventType::parse(k.name).is_some_and(|t| t.is_known()), "{}", k.name);
            assert!(!VOCABULARY[..i].iter().any(|other| other.name == k.name), "{} twice", k.name);
        }
    }

    #[test]
    fn names_that_are_not_dot_namespaced_lower_case_are_refused() {
        for bad in ["", "login", "User.login", "user..login", ".login", "user.login ", "user-x.y"] {
            assert!(EventType::parse(bad).is_none(), "{bad}");
        }
        assert!(EventType::parse("acme.badge.printed").is_some_and(|t| !t.is_known()));
    }
}
