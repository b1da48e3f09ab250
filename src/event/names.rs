//! The second spelling of event types, for receivers that already know it: `names: auth`.
//!
//! A spelling changes how a type is written for one sink, never what it means: what has no name in
//! the second spelling keeps its canonical one, and filters always go by the canonical one. A reset
//! that was only asked for keeps its own name: `auth.password.reset` says that it was done.

/// How types are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// As in the vocabulary: `user.login.failed`.
    #[default]
    Canonical,
    /// The second spelling: `auth.login.failure`.
    Auth,
}

/// The words of `names:`.
pub const WORDS: &[&str] = &["canonical", "auth"];

/// A name of the second spelling.
struct Second {
    canonical: &'static str,
    auth: &'static str,
    /// Who or what did it, which the canonical name says and the second does not.
    reason: Option<&'static str>,
}

const fn second(canonical: &'static str, auth: &'static str, reason: Option<&'static str>) -> Second {
    Second { canonical, auth, reason }
}

const SECOND: &[Second] = &[
    second("user.login.success", "auth.login.success", None),
    second("user.login.failed", "auth.login.failure", None),
    second("user.logout", "auth.logout", Some("user")),
    second("user.mfa.enabled", "auth.mfa.enrolled", None),
    second("user.mfa.disabled", "auth.mfa.removed", None),
    second("user.password.changed", "auth.password.changed", Some("user")),
    second("user.password.reset_completed", "auth.password.reset", Some("reset")),
    second("user.role.updated", "user.role.changed", None),
];

impl Names {
    /// The spelling of that word of [`WORDS`].
    pub fn of(word: &str) -> Names {
        if word == "auth" { Names::Auth } else { Names::Canonical }
    }

    /// How this spelling writes a type.
    pub fn spell(self, canonical: &str) -> &str {
        self.find(canonical).map_or(canonical, |second| second.auth)
    }

    /// The `reason` that goes with the spelling where the event itself has none.
    pub fn reason(self, canonical: &str) -> Option<&'static str> {
        self.find(canonical).and_then(|second| second.reason)
    }

    fn find(self, canonical: &str) -> Option<&'static Second> {
        match self {
            Names::Canonical => None,
            Names::Auth => SECOND.iter().find(|second| second.canonical == canonical),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventType;

    #[test]
    fn every_canonical_name_is_of_the_vocabulary_and_every_second_one_a_valid_type() {
        for second in SECOND {
            assert!(EventType::parse(second.canonical).is_some_and(|t| t.is_known()), "{}", second.canonical);
            assert!(EventType::parse(second.auth).is_some(), "{}", second.auth);
        }
    }

    #[test]
    fn what_has_no_second_name_keeps_its_own() {
        assert_eq!(Names::Auth.spell("user.login.failed"), "auth.login.failure");
        assert_eq!(Names::Canonical.spell("user.login.failed"), "user.login.failed");
        for same in ["session.revoked", "api_key.created", "user.email.changed", "user.password.reset_requested"] {
            assert_eq!(Names::Auth.spell(same), same);
        }
        assert_eq!(Names::Auth.reason("user.password.reset_completed"), Some("reset"));
    }
}
