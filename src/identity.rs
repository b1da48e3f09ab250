//! How much of who somebody is an event says.
//!
//! Identifiers of people are shown as they are, masked, replaced by a keyed hash, or left out: apart
//! for what succeeded and what failed, and field by field. Applied in the pipeline before an event is
//! appended, so no log, store or sink ever has more. A password that was typed into the user field of
//! a login that failed is masked whatever the policy says.
//!
//! The invariant: after [`Identity::apply`] no identifier that the policy changes stands in the event,
//! neither as actor or target nor as a further value or a segment of the path.

use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use unicode_normalization::UnicodeNormalization;

use crate::config::node::{Node, Value};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::event::text::MASK;
use crate::event::{Event, Outcome, Text};

const POLICIES: &[&str] = &["raw", "mask", "hmac", "drop"];
const POLICY: Kind = Kind::Word(POLICIES);

const APART: &[Field] = &[
    Field::new("on_success", POLICY, "", "where it succeeded"),
    Field::new("on_failure", POLICY, "", "where it did not"),
];
const EACH: Kind = Kind::Any(&[POLICY, Kind::Map(APART)]);

const BY_FIELD: &[Field] = &[
    Field::new("id", EACH, "", "ids of actors and targets: a policy, or one for each of on_success and on_failure"),
    Field::new("login", EACH, "", "what was typed into the user field"),
    Field::new("email", EACH, "", "addresses of actors and targets"),
];

/// The keys of `identity:`.
pub const FIELDS: &[Field] = &[
    Field::new(
        "on_success",
        POLICY,
        "raw",
        "identifiers of what succeeded, or was right so far: raw, mask (a***@example.test), hmac or drop",
    ),
    Field::new("on_failure", POLICY, "raw", "identifiers of everything else: whatever a stranger typed"),
    Field::new("fields", Kind::Map(BY_FIELD), "", "other policies for single fields"),
    Field::new("key_env", Kind::Str, "", "environment variable that holds the key of hmac, 16 characters or more"),
    Field::new("key_file", Kind::Str, "", "file that holds it; without either, hashes differ in each data directory"),
    Field::new(
        "hide_passwords",
        Kind::Bool,
        "on",
        "mask what looks like a password in the user field of a login that failed",
    ),
];

/// The fewest bytes of a key that is worth its name.
const MIN_KEY: usize = 16;

/// What becomes of an identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// It stays.
    #[default]
    Raw,
    /// Its first character stays, and the host of an address.
    Mask,
    /// A keyed hash takes its place, the same for every spelling.
    Hmac,
    /// It is left out.
    Drop,
}

impl Policy {
    const fn as_str(self) -> &'static str {
        match self {
            Policy::Raw => "raw",
            Policy::Mask => "mask",
            Policy::Hmac => "hmac",
            Policy::Drop => "drop",
        }
    }
}

/// A field's policy where it succeeded, and where it did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pair {
    success: Policy,
    failure: Policy,
}

/// Policies as the configuration has them; the key is not read yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityPlan {
    id: Pair,
    login: Pair,
    email: Pair,
    key_env: Option<String>,
    key_file: Option<PathBuf>,
    show_passwords: bool,
}

/// Why the key of `hmac` cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The variable is not set, or is too short.
    #[error("identity.key_env: the variable {0} must hold a key of {MIN_KEY} characters or more")]
    Env(String),
    /// The file cannot be read.
    #[error("identity.key_file: cannot read {}: {source}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The file is too short.
    #[error("identity.key_file: {} must hold a key of {MIN_KEY} bytes or more", .0.display())]
    Short(PathBuf),
}

/// The policies in force.
#[derive(Default)]
pub struct Identity {
    plan: IdentityPlan,
    key: Option<Vec<u8>>,
}

impl IdentityPlan {
    /// Reads `identity:`.
    pub fn check(node: Option<&Node>, problems: &mut Problems) -> IdentityPlan {
        let mut plan = IdentityPlan::default();
        let Some(map) = node.and_then(|n| n.map(FIELDS, problems)) else { return plan };
        let mut all = Pair::default();
        for (key, policy) in [("on_success", &mut all.success), ("on_failure", &mut all.failure)] {
            *policy = policy_of(map.get(key), problems).unwrap_or_default();
        }
        (plan.id, plan.login, plan.email) = (all, all, all);
        if let Some(fields) = map.get("fields").and_then(|n| n.map(BY_FIELD, problems)) {
            for (key, pair) in [("id", &mut plan.id), ("login", &mut plan.login), ("email", &mut plan.email)] {
                let Some(at) = fields.get(key) else { continue };
                if let Value::Map(_) = at.value {
                    let Some(inner) = at.map(APART, problems) else { continue };
                    pair.success = policy_of(inner.get("on_success"), problems).unwrap_or(pair.success);
                    pair.failure = policy_of(inner.get("on_failure"), problems).unwrap_or(pair.failure);
                } else if let Some(policy) = policy_of(Some(at), problems) {
                    *pair = Pair { success: policy, failure: policy };
                }
            }
        }
        plan.key_env = map.str("key_env", problems).map(str::to_owned);
        plan.key_file = map.str("key_file", problems).map(PathBuf::from);
        plan.show_passwords = map.bool("hide_passwords", problems) == Some(false);
        let key = map.get("key_env").or(map.get("key_file"));
        if let (Some(at), Some(_)) = (map.get("key_file"), map.get("key_env")) {
            problems.error_hint(at, "two keys".into(), "keep key_env or key_file");
        }
        let hashes = [plan.id, plan.login, plan.email].iter().any(|p| [p.success, p.failure].contains(&Policy::Hmac));
        if let Some(at) = key.filter(|_| !hashes) {
            problems.warn(at, "no policy is `hmac`, so the key does nothing".into(), "take it away");
        }
        plan
    }

    /// What is in force, for people to read; names the key's place, never the key.
    pub fn shown(&self) -> serde_json::Value {
        let pair = |p: Pair| serde_json::json!({"on_success": p.success.as_str(), "on_failure": p.failure.as_str()});
        serde_json::json!({
            "id": pair(self.id), "login": pair(self.login), "email": pair(self.email),
            "key_env": self.key_env, "key_file": self.key_file, "hide_passwords": !self.show_passwords,
        })
    }

    /// Reads the key; relative paths are relative to `base`.
    ///
    /// # Errors
    /// The key is named and cannot be had.
    pub fn build(&self, base: &Path) -> Result<Identity, IdentityError> {
        let mut key = None;
        if let Some(name) = &self.key_env {
            let found = std::env::var(name).ok().filter(|k| k.len() >= MIN_KEY);
            key = Some(found.ok_or_else(|| IdentityError::Env(name.clone()))?.into_bytes());
        } else if let Some(file) = &self.key_file {
            let file = base.join(file);
            let read = std::fs::read(&file).map_err(|source| IdentityError::Read { file: file.clone(), source })?;
            let trimmed = read.trim_ascii_end();
            if trimmed.len() < MIN_KEY {
                return Err(IdentityError::Short(file));
            }
            key = Some(trimmed.to_vec());
        }
        Ok(Identity { plan: self.clone(), key })
    }
}

fn policy_of(node: Option<&Node>, problems: &mut Problems) -> Option<Policy> {
    Some(match node?.one_of(POLICIES, problems)? {
        "mask" => Policy::Mask,
        "hmac" => Policy::Hmac,
        "drop" => Policy::Drop,
        _ => Policy::Raw,
    })
}

impl Identity {
    /// Makes the event say no more than the policy allows. `own_key` is used where none is configured.
    pub fn apply(&self, event: &mut Event, own_key: &[u8; 32]) {
        let proven = matches!(event.outcome, Outcome::Success | Outcome::Challenge);
        let guard = !proven && !self.plan.show_passwords;
        let key = self.key.as_deref().unwrap_or(own_key);
        let policy = |pair: Pair| if proven { pair.success } else { pair.failure };
        if !guard && [self.plan.id, self.plan.login, self.plan.email].into_iter().all(|p| policy(p) == Policy::Raw) {
            // As it is unless somebody wants it otherwise.
            event.target.take_if(|target| target.is_empty());
            return;
        }
        let mut changed: Vec<(Text, Option<Text>)> = Vec::new();
        let mut change = |value: &mut Option<Text>, policy: Policy, typed: bool| {
            let Some(raw) = value.take() else { return };
            let new = match policy {
                Policy::Drop => None,
                _ if typed && looks_like_a_password(raw.as_str()) => Some(Text::fixed(MASK)),
                Policy::Raw => Some(raw.clone()),
                Policy::Mask => Text::identifier(&masked(raw.as_str())),
                Policy::Hmac => Text::identifier(&hashed(raw.as_str(), key)),
            };
            value.clone_from(&new);
            if new.as_ref() != Some(&raw) {
                changed.push((raw, new));
            }
        };
        change(&mut event.actor.id, policy(self.plan.id), false);
        change(&mut event.actor.login, policy(self.plan.login), guard);
        change(&mut event.actor.email, policy(self.plan.email), guard);
        if let Some(target) = &mut event.target {
            change(&mut target.id, policy(self.plan.id), false);
            change(&mut target.email, policy(self.plan.email), false);
        }
        if event.target.as_ref().is_some_and(crate::event::Target::is_empty) {
            event.target = None;
        }
        for (raw, new) in &changed {
            let same = |text: &str| normalised(text) == normalised(raw.as_str());
            event.metadata.fields.retain_mut(|(_, value)| {
                if same(value.as_str()) {
                    match new {
                        Some(new) => value.clone_from(new),
                        None => return false,
                    }
                }
                true
            });
            if let Some(request) = &mut event.metadata.request
                && request.path.as_str().split('/').any(same)
            {
                let shown = request.path.as_str().split('/').map(|segment| if same(segment) { MASK } else { segment });
                request.path = Text::other(&shown.collect::<Vec<_>>().join("/")).unwrap_or(Text::fixed("/"));
            }
        }
    }
}

/// The form in which two spellings of one identifier are equal: without white space around it, in
/// normalisation form KC (UAX #15), in lower case.
pub fn normalised(identifier: &str) -> String {
    identifier.trim().nfkc().collect::<String>().to_lowercase()
}

/// The first character, and the host of an address.
fn masked(identifier: &str) -> String {
    let first: String = identifier.chars().take(1).collect();
    match address(identifier) {
        Some((_, host)) => format!("{first}{MASK}@{host}"),
        None => format!("{first}{MASK}"),
    }
}

/// `h_` and the first 16 bytes of HMAC-SHA-256 (RFC 2104) over the normalised identifier.
fn hashed(identifier: &str, key: &[u8]) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return MASK.to_owned() };
    mac.update(normalised(identifier).as_bytes());
    let hash = mac.finalize().into_bytes();
    let hex: String = hash.iter().take(16).map(|b| format!("{b:02x}")).collect();
    format!("h_{hex}")
}

/// Local part and host, if the text has the shape of an address.
fn address(text: &str) -> Option<(&str, &str)> {
    let (local, host) = text.rsplit_once('@')?;
    let plain = |c: char| c.is_alphanumeric() || c == '.' || c == '-';
    (!local.is_empty() && !host.is_empty() && host.chars().all(plain)).then_some((local, host))
}

/// True for a text that people choose as a password and hardly ever as a name: eight or more
/// characters, no address and no path of a directory, and either a sign that names do not have beside
/// two kinds of letters and digits, or letters and digits mixed over and over (`xK9vQ2mP`).
/// Errs towards names: `JohnSmith42` and `alice-2024` are none.
pub fn looks_like_a_password(text: &str) -> bool {
    let length = text.chars().count();
    let structured = text.contains(['\\', '/', '=']) || text.contains(char::is_whitespace);
    if !(8..=128).contains(&length) || structured || address(text).is_some() {
        return false;
    }
    let kind = |c: char| match c {
        c if c.is_lowercase() => Some(0_usize),
        c if c.is_uppercase() => Some(1),
        c if c.is_numeric() => Some(2),
        _ => None,
    };
    let mut kinds = [false; 3];
    let mut changes = 0;
    let mut before = None;
    for now in text.chars().filter_map(kind) {
        if let Some(seen) = kinds.get_mut(now) {
            *seen = true;
        }
        // A capital before small letters begins a word.
        if before.is_some_and(|before| before != now && !(before == 1 && now == 0)) {
            changes += 1;
        }
        before = Some(now);
    }
    let kinds = kinds.into_iter().filter(|seen| *seen).count();
    let sign = text.contains(|c: char| "!#$%^&*()?<>[]{}|~;\"`".contains(c));
    (sign && kinds >= 2) || (kinds == 3 && changes >= 4)
}

#[cfg(test)]
mod tests;
