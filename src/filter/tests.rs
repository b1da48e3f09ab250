use proptest::prelude::*;

use super::*;
use crate::event::{Actor, sample};

/// An event made by hand, for the tests here and of the admin listener.
pub(crate) fn event(kind: &str, outcome: Outcome, login: &str, ip: &str) -> Event {
    let mut event = sample::of_type(kind, login);
    event.timestamp = Timestamp::now();
    event.outcome = outcome;
    event.metadata.ip_address = Some(ip.parse().expect("an address"));
    event
}

fn filter(query: &str) -> Filter {
    Filter::parse(query).expect("a valid filter")
}

fn failed() -> Event {
    event("user.login.failed", Outcome::Failure, "Alice", "203.0.113.42")
}

#[test]
fn an_empty_filter_lets_everything_pass() {
    assert!(filter("").matches(&failed()));
    assert_eq!(filter("").to_query(), "");
}

#[test]
fn a_type_is_any_pattern_of_the_list_and_the_whole_name() {
    assert!(filter("type=api_key.*,user.login.*").matches(&failed()));
    assert!(filter("type=api_key.*&type=*.failed").matches(&failed()));
    assert!(!filter("type=user.login").matches(&failed()));
    assert!(!filter("type=login.*").matches(&failed()));
}

#[test]
fn an_actor_is_any_of_its_three_names_without_regard_to_case() {
    let mut event = failed();
    event.actor.email = Text::identifier("Alice@Acme.com");
    event.actor.id = Text::identifier("USR_9");
    for yes in ["aLICE", "alice@acme.com", "usr_9", "*@acme.com", "usr_*"] {
        assert!(filter(&format!("actor={yes}")).matches(&event), "{yes}");
    }
    for no in ["lice", "bob", "*@acme"] {
        assert!(!filter(&format!("actor={no}")).matches(&event), "{no}");
    }
    event.actor = Actor::default();
    assert!(!filter("actor=*").matches(&event), "nobody is named");
}

#[test]
fn an_ip_is_an_address_or_a_network_and_mapped_addresses_are_ipv4() {
    let mapped = event("user.login.failed", Outcome::Failure, "a", "::ffff:203.0.113.42");
    for yes in ["203.0.113.42", "10.0.0.0/8,203.0.113.0/24", "::ffff:203.0.113.42", "::ffff:203.0.113.0/120"] {
        assert!(filter(&format!("ip={yes}")).matches(&failed()), "{yes}");
        assert!(filter(&format!("ip={yes}")).matches(&mapped), "{yes}");
    }
    assert!(!filter("ip=203.0.113.43,2001:db8::/32").matches(&failed()));
}

#[test]
fn an_outcome_is_one_of_the_list() {
    assert!(filter("outcome=success,failure").matches(&failed()));
    assert!(!filter("outcome=success,unknown").matches(&failed()));
}

#[test]
fn since_is_a_duration_back_from_now_or_a_moment() {
    let mut event = failed();
    assert!(filter("since=10m").matches(&event));
    event.timestamp = Timestamp::now().minus(Duration::from_secs(3600));
    assert!(!filter("since=10m").matches(&event));
    event.timestamp = Timestamp::from_millis(1_768_469_537_000);
    assert!(filter("since=2026-01-15T09:32:17Z").matches(&event));
    assert!(!filter("since=2026-01-15T09:32:17.001Z").matches(&event));
    // A plus sign that was not percent-encoded is a space by the time it is here.
    assert_eq!(filter("since=2026-01-15T11:32:17+02:00"), filter("since=2026-01-15T09:32:17Z"));
}

#[test]
fn a_moving_since_can_be_fixed() {
    let Some(Since::At(moment)) = filter("since=10m").from_now().since else { panic!("still moving") };
    assert!(moment <= Timestamp::now().minus(Duration::from_secs(600)));
}

#[test]
fn what_is_not_understood_is_named_with_its_remedy() {
    let message = |query: &str| Filter::parse(query).expect_err(query).to_string();
    assert_eq!(message("typ=x"), "there is no filter `typ`; did you mean `type`?");
    assert_eq!(message("outcome=sucess"), "`outcome` cannot be `sucess`; did you mean `success`?");
    assert_eq!(message("limit=0"), "`limit` cannot be `0`; write a whole number, 1 or more");
    assert_eq!(message("actor=a&actor=b"), "`actor` is given twice; give it once");
    for query in ["type=", "type=User.*", "ip=10.0.0.0/33", "ip=localhost", "since=yesterday", "since=10", "actor=+"] {
        let key = query.split('=').next().expect("a key");
        assert!(message(query).starts_with(&format!("`{key}` cannot be")), "{}", message(query));
    }
    let many = vec!["a.b"; MAX_LIST + 1].join(",");
    assert!(message(&format!("type={many}")).contains("more than 64"));
    // What was sent cannot break a line or a terminal, and is cut.
    let message = message(&format!("%1b%0a{}=1", "x".repeat(500)));
    assert!(message.len() < 200 && !message.contains(['\u{1b}', '\n']), "{message}");
}

/// The obvious, slow meaning of a pattern.
fn slow(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|n| slow(rest, &text[n..])),
        Some((c, rest)) => text.first() == Some(c) && slow(rest, &text[1..]),
    }
}

prop_compose! {
    fn any_filter()(
        types in prop::collection::vec("[a-z0-9_.*]{1,20}", 0..4),
        actor in prop::option::of("\\PC{1,60}"),
        ips in prop::collection::vec((any::<[u8; 4]>(), 0u8..=32), 0..3),
        ips6 in prop::collection::vec((any::<u128>(), 0u8..=128), 0..3),
        outcomes in prop::collection::vec(prop::sample::select(Outcome::ALL.to_vec()), 0..4),
        since in prop::option::of(prop_oneof![
            (0u64..=10_000_000_000_000).prop_map(|ms| format!("{ms}ms")),
            (0i64..=253_402_300_799_999).prop_map(|ms| Timestamp::from_millis(ms).to_string()),
        ]),
        limit in prop::option::of(1u64..),
    ) -> Vec<(&'static str, String)> {
        let mut pairs: Vec<(&'static str, String)> = Vec::new();
        pairs.extend(types.into_iter().map(|t| ("type", t)));
        pairs.extend(actor.into_iter().filter(|a| !a.trim().is_empty()).map(|a| ("actor", a)));
        pairs.extend(ips.into_iter().map(|(a, n)| ("ip", format!("{}/{n}", std::net::Ipv4Addr::from(a)))));
        pairs.extend(ips6.into_iter().map(|(a, n)| ("ip", format!("{}/{n}", std::net::Ipv6Addr::from(a)))));
        pairs.extend(outcomes.into_iter().map(|o| ("outcome", o.to_string())));
        pairs.extend(since.into_iter().map(|s| ("since", s)));
        pairs.extend(limit.into_iter().map(|n| ("limit", n.to_string())));
        pairs
    }
}

proptest! {
    #[test]
    fn a_filter_survives_the_way_through_a_query(pairs in any_filter()) {
        let first = Filter::from_query(pairs).expect("made of valid parts");
        prop_assert_eq!(Filter::parse(&first.to_query()), Ok(first));
    }

    #[test]
    fn a_pattern_means_what_the_slow_matcher_means(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
        let chars = |s: &str| s.chars().collect::<Vec<_>>();
        prop_assert_eq!(Glob::new(&pattern).matches(&text), slow(&chars(&pattern), &chars(&text)));
    }

    #[test]
    fn no_query_panics(query in "\\PC{0,200}", key in prop::sample::select(KEYS.to_vec())) {
        let _ = Filter::parse(&query);
        let _ = Filter::from_query([(key, query.as_str())]);
    }
}
