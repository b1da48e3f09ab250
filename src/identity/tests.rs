use proptest::prelude::*;

use super::*;
use crate::event::sample;

const KEY: [u8; 32] = [7; 32];

fn identity(yaml: &str) -> Identity {
    let mut problems = Problems::new("t", yaml);
    let node = Node::parse(yaml, &mut problems).expect("yaml");
    let plan = IdentityPlan::check(Some(&node), &mut problems);
    assert!(!problems.has_errors(), "{problems}");
    plan.build(Path::new(".")).expect("no key is named")
}

fn event(outcome: Outcome) -> Event {
    let mut event = sample::login("alice");
    event.outcome = outcome;
    event.actor.id = Text::identifier("usr_1");
    event.actor.login = Text::identifier("Alice");
    event.actor.email = Text::identifier("Alice@Acme.test");
    event
}

fn shown(yaml: &str, mut event: Event) -> [Option<String>; 3] {
    identity(yaml).apply(&mut event, &KEY);
    [event.actor.id, event.actor.login, event.actor.email].map(|v| v.map(|t| t.to_string()))
}

fn some(texts: [&str; 3]) -> [Option<String>; 3] {
    texts.map(|t| Some(t.to_owned()))
}

#[test]
fn each_policy_shows_what_it_says_apart_for_success_and_failure() {
    let raw = some(["usr_1", "Alice", "Alice@Acme.test"]);
    let yaml = "{ on_success: raw, on_failure: mask }";
    assert_eq!(shown(yaml, event(Outcome::Success)), raw);
    assert_eq!(shown(yaml, event(Outcome::Challenge)), raw);
    for outcome in [Outcome::Failure, Outcome::Unknown, Outcome::Rejected, Outcome::Requested] {
        assert_eq!(shown(yaml, event(outcome)), some(["u***", "A***", "A***@Acme.test"]), "{outcome}");
    }
    assert_eq!(shown("{ on_failure: drop }", event(Outcome::Failure)), [None, None, None]);
}

#[test]
fn single_fields_have_policies_of_their_own() {
    let yaml = "{ on_success: drop, fields: { id: raw, email: { on_failure: mask } } }";
    assert_eq!(shown(yaml, event(Outcome::Success)), [Some("usr_1".into()), None, None]);
    assert_eq!(shown(yaml, event(Outcome::Failure)), some(["usr_1", "Alice", "A***@Acme.test"]));
}

#[test]
fn a_hash_is_the_same_for_every_spelling_and_another_under_another_key() {
    let hash = |login: &str, key: &[u8; 32]| {
        let mut event = event(Outcome::Failure);
        event.actor.login = Text::identifier(login);
        identity("{ on_failure: hmac }").apply(&mut event, key);
        event.actor.login.map(|t| t.to_string()).unwrap_or_default()
    };
    let one = hash("alice", &KEY);
    assert!(one.starts_with("h_") && one.len() == 34 && one.bytes().skip(2).all(|b| b.is_ascii_hexdigit()), "{one}");
    for spelling in ["ALICE", " alice ", "ａlice"] {
        assert_eq!(hash(spelling, &KEY), one, "{spelling}");
    }
    assert_ne!(hash("alicia", &KEY), one);
    assert_ne!(hash("alice", &[8; 32]), one);
}

#[test]
fn hashes_are_those_that_anybody_with_the_key_computes() {
    // printf %s alice | openssl dgst -sha256 -hmac 0123456789abcdef | cut -c1-32, behind the `= `
    assert_eq!(hashed("Alice", b"0123456789abcdef"), "h_fdbf8b1cacd3d578e062d0e41104357d");
}

#[test]
fn what_is_hidden_is_hidden_in_further_values_and_in_the_path_too() {
    let mut event = event(Outcome::Failure);
    event.metadata.fields =
        vec![(Text::fixed("typed"), Text::fixed("alice")), (Text::fixed("other"), Text::fixed("malice"))];
    if let Some(request) = &mut event.metadata.request {
        request.path = Text::fixed("/users/alice/login");
    }
    identity("{ on_failure: mask }").apply(&mut event, &KEY);
    assert_eq!(event.metadata.fields[0].1.as_str(), "A***");
    assert_eq!(event.metadata.fields[1].1.as_str(), "malice");
    assert_eq!(event.metadata.request.map(|r| r.path.to_string()).as_deref(), Some("/users/***/login"));
}

#[test]
fn a_password_in_the_user_field_is_masked_where_the_login_failed() {
    let typed = |outcome: Outcome, yaml: &str| {
        let mut event = event(outcome);
        event.actor.login = Text::identifier("Tr0ub4dor&3");
        shown(yaml, event)[1].clone().unwrap_or_default()
    };
    assert_eq!(typed(Outcome::Failure, "{ on_failure: raw }"), "***");
    assert_eq!(typed(Outcome::Unknown, "{ on_failure: hmac }"), "***");
    assert_eq!(typed(Outcome::Failure, "{ hide_passwords: off }"), "Tr0ub4dor&3");
    assert_eq!(typed(Outcome::Success, "{ on_failure: raw }"), "Tr0ub4dor&3", "a name that works is a name");
}

#[test]
fn passwords_are_told_from_names() {
    for password in ["Tr0ub4dor&3", "hunter2!!", "P@ssw0rd!", "xK9vQ2mP", "aB3dE5fG7", "correct$horse9", "Ünsicher#1"]
    {
        assert!(looks_like_a_password(password), "{password}");
    }
    for name in [
        "alice",
        "alice.smith",
        "alice-2024",
        "JohnSmith42",
        "O'Brien-2024",
        "alice@acme.test",
        "Alice+Tag99@Acme.Test",
        "ACME\\alice99",
        "cn=Alice Smith,ou=People",
        "550e8400-e29b-41d4-a716-446655440000",
        "AKIAIOSFODNN7EXAMPLE",
        "Anna Maria van der Berg",
        "юзер2024",
        "+4915112345678",
        "a!1",
    ] {
        assert!(!looks_like_a_password(name), "{name}");
    }
}

#[test]
fn a_short_or_missing_key_is_an_error_that_names_the_remedy() {
    let plan = IdentityPlan { key_env: Some("AUTHTAP_NO_SUCH_KEY".into()), ..IdentityPlan::default() };
    let told = plan.build(Path::new(".")).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(told.contains("AUTHTAP_NO_SUCH_KEY") && told.contains("16"), "{told}");

    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("key"), "0123456789abcdef\n").expect("written");
    let plan = IdentityPlan { key_file: Some("key".into()), ..IdentityPlan::default() };
    assert_eq!(plan.build(folder.path()).expect("a key").key.as_deref(), Some(&b"0123456789abcdef"[..]));
    std::fs::write(folder.path().join("key"), "short\n").expect("written");
    assert!(matches!(plan.build(folder.path()), Err(IdentityError::Short(_))));
}

proptest! {
    #[test]
    fn no_text_survives_a_policy_that_hides_it(text in "\\PC{2,40}", policy in "mask|hmac|drop") {
        let mut event = event(Outcome::Failure);
        event.actor = Default::default();
        event.actor.login = Text::identifier(&text);
        event.metadata.fields.clear();
        let Some(raw) = event.actor.login.clone() else { return Ok(()) };
        identity(&format!("{{ on_failure: {policy} }}")).apply(&mut event, &KEY);
        let shown = event.actor.login.map(|t| t.to_string()).unwrap_or_default();
        prop_assert!(shown != raw.as_str() || raw.as_str().contains(MASK), "{shown}");
        let _ = looks_like_a_password(&text);
    }
}
