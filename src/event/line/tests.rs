use serde_json::json;

use super::*;

fn plain(event: &Value) -> String {
    anstream::adapter::strip_str(&pretty(event)).to_string()
}

fn login() -> Value {
    json!({
        "event_type": "user.login.failed", "timestamp": "2026-01-15T09:32:17.123Z", "outcome": "failure",
        "reason": "invalid_credentials",
        "actor": {"id": "usr_abc123", "email": "alice@acme.com", "login": "alice"},
        "target": {"type": "user", "id": "usr_xyz"},
        "metadata": {"ip_address": "203.0.113.42", "session_id": "s_9f2c4711aabbccdd", "geo": {"country": "GB"},
            "client": {"browser": "Firefox", "os": "Linux", "device": "desktop", "bot": false}},
        "source": {"route": "login", "rule": "redirected-away", "mode": "preset", "confidence": 1.0}
    })
}

#[test]
fn every_piece_stands_in_its_column() {
    let logout = json!({"event_type": "user.logout", "timestamp": "2026-01-15T23:00:00+02:00", "outcome": "success",
        "metadata": {"ip_address": "2001:db8::1"}, "source": {"route": "logout", "mode": "routes"}});
    let expected = "\
09:32:17 ✗ user.login.failed             alice@acme.com           203.0.113.42    GB Firefox/Linux      invalid_credentials → user usr_xyz s_9f2c4711 login/redirected-away
21:00:00 ✓ user.logout                   -                        2001:db8::1                           logout";
    assert_eq!(format!("{}\n{}", plain(&login()), plain(&logout)), expected);
}

#[test]
fn the_colour_follows_the_outcome_and_names_are_never_coloured_by_their_owner() {
    for (outcome, begins) in [
        ("success", "\u{1b}[32m✓"),
        ("failure", "\u{1b}[31m✗"),
        ("challenge", "\u{1b}[33m?"),
        ("requested", "\u{1b}[33m+"),
        ("rejected", "\u{1b}[35m!"),
        ("unknown", "\u{1b}[2m·"),
        ("something new", "\u{1b}[2m·"),
    ] {
        let mut event = login();
        event["outcome"] = json!(outcome);
        assert!(pretty(&event).contains(begins), "{outcome}: {:?}", pretty(&event));
    }
    let mut event = login();
    event["actor"]["email"] = json!("\u{1b}[31meve\u{1b}]0;owned\u{7}\r\n09:00:00 ✓\u{202e}\u{200b}");
    let line = pretty(&event);
    assert!(line.contains("[31meve]0;owned09:00:00 ✓"), "{line:?}");
    assert!(!line.contains("\u{1b}[31meve") && !line.contains(['\r', '\n', '\u{7}', '\u{202e}', '\u{200b}']));
}

#[test]
fn the_actor_is_the_address_then_the_login_then_the_id() {
    let mut event = login();
    event["actor"] = json!({"id": "usr_abc123", "login": "alice"});
    assert!(plain(&event).contains(" alice "));
    event["actor"] = json!({"id": "usr_abc123"});
    assert!(plain(&event).contains(" usr_abc123 "));
    event["actor"] = json!({"email": "\u{7}"});
    assert!(plain(&event).contains(" -  "));
}

#[test]
fn anything_at_all_gives_one_short_line() {
    let long = "é".repeat(100_000);
    let mut hostile = login();
    for pointer in ["/event_type", "/reason", "/actor/email", "/metadata/ip_address", "/source/route", "/outcome"] {
        *hostile.pointer_mut(pointer).unwrap() = json!(long);
    }
    hostile["timestamp"] = json!("\u{1b}c");
    for event in [hostile, json!(null), json!([1]), json!({"actor": 7, "metadata": {"geo": "x"}, "timestamp": {}})] {
        let line = plain(&event);
        assert!(line.starts_with("--:--:-- ·"), "{line}");
        assert!(line.chars().count() < 500 && !line.contains('\n') && !line.ends_with(' '), "{line}");
    }
    assert!(plain(&json!({"event_type": "a".repeat(60)})).contains(&format!(" {}… ", "a".repeat(47))));
}
