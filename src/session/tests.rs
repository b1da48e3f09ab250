use proptest::prelude::*;

use super::*;
use crate::config::node::Node;
use crate::config::problem::Problems;

const HOST: &str = "app.example.test";

fn actor(login: &str) -> Actor {
    Actor { login: Text::identifier(login), ..Actor::default() }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn memory(yaml: &str) -> Sessions {
    let mut problems = Problems::new("t", yaml);
    let node = Node::parse(yaml, &mut problems);
    let config = SessionConfig::check(node.as_ref(), &mut problems);
    assert!(problems.is_empty(), "{problems}");
    Sessions::new(config, [7; 32])
}

fn request(cookies: &str) -> Headers {
    let value = http::HeaderValue::from_str(cookies).expect("a header");
    Headers::from_iter([(http::header::COOKIE, value)])
}

fn answer(lines: &[&str]) -> Headers {
    let lines = lines.iter().map(|l| (http::header::SET_COOKIE, http::HeaderValue::from_str(l).expect("a header")));
    lines.collect()
}

/// What an answer does to the sessions of a request, no login and no logout among it.
fn exchange(sessions: &mut Sessions, cookies: &str, set: &[&str], now: i64) -> Option<Over> {
    let (request, answer) = (request(cookies), answer(set));
    let presented = sessions.presented(&request, HOST);
    let handed_out = sessions.handed_out(&answer, HOST, at(now));
    sessions.follow(&presented, &handed_out, &answer, HOST, at(now))
}

fn log_in(sessions: &mut Sessions, login: &str, set: &[&str], now: i64) {
    let handed_out = sessions.handed_out(&answer(set), HOST, at(now));
    assert!(sessions.bind(&handed_out, &actor(login), at(now)));
}

fn who(sessions: &mut Sessions, cookies: &str, now: i64) -> Option<String> {
    let presented = sessions.presented(&request(cookies), HOST);
    sessions.recall(&presented, at(now)).and_then(|known| known.actor.label().map(str::to_owned))
}

#[test]
fn a_bound_session_is_recalled_until_it_is_forgotten_or_unused_too_long() {
    let mut sessions = memory("{ cookies: [sid], ttl: 60s }");
    assert_eq!(who(&mut sessions, "sid=a", 0), None);
    log_in(&mut sessions, "alice", &["sid=a"], 0);
    assert_eq!(who(&mut sessions, "sid=a", 50).as_deref(), Some("alice"));
    assert_eq!(who(&mut sessions, "sid=a", 100).as_deref(), Some("alice"), "use prolongs it");
    assert_eq!(who(&mut sessions, "sid=a", 200), None, "unused for longer than ttl");
    log_in(&mut sessions, "bob", &["sid=a"], 200);
    let presented = sessions.presented(&request("sid=a"), HOST);
    assert_eq!(sessions.forget(&presented).map(|over| over.actor), Some(actor("bob")));
    assert_eq!(who(&mut sessions, "sid=a", 200), None);
    assert_eq!(sessions.forget(&presented), None, "over already");
}

#[test]
fn session_cookies_whose_value_changes_with_every_answer_are_followed() {
    let mut sessions = memory("{ cookies: [sid] }");
    log_in(&mut sessions, "alice", &["sid=v0"], 0);
    let shown = sessions.recall(&sessions.presented(&request("sid=v0"), HOST), at(0)).map(|r| r.shown);
    for i in 0..100 {
        let (old, new) = (format!("sid=v{i}"), format!("sid=v{}; HttpOnly", i + 1));
        assert_eq!(exchange(&mut sessions, &old, &[&new], i), None);
    }
    let presented = sessions.presented(&request("sid=v100"), HOST);
    let known = sessions.recall(&presented, at(100)).expect("followed");
    assert_eq!((known.actor, Some(known.shown)), (actor("alice"), shown), "events show one session all along");
    assert_eq!(sessions.len(), 1);
}

#[test]
fn parallel_requests_that_carry_the_replaced_value_are_known_for_a_moment_and_lead_on() {
    let mut sessions = memory("{ cookies: [sid], ttl: 1h }");
    log_in(&mut sessions, "alice", &["sid=old"], 0);
    exchange(&mut sessions, "sid=old", &["sid=new"], 10);
    assert_eq!(who(&mut sessions, "sid=old", 39).as_deref(), Some("alice"));
    exchange(&mut sessions, "sid=old", &["sid=fork"], 39);
    assert_eq!(who(&mut sessions, "sid=fork", 100).as_deref(), Some("alice"));
    assert_eq!(who(&mut sessions, "sid=new", 100).as_deref(), Some("alice"));
    assert_eq!(who(&mut sessions, "sid=old", 100), None);
    assert_eq!(
        sessions.expire(at(10_000)),
        [Over { actor: actor("alice"), shown: sessions.handle(b"old").shown() }],
        "one session, whatever its values"
    );
}

#[test]
fn a_session_cookie_that_an_answer_deletes_ends_the_session() {
    let mut sessions = memory("{ cookies: [sid, remember] }");
    log_in(&mut sessions, "alice", &["sid=a", "remember=b"], 0);
    assert_eq!(exchange(&mut sessions, "sid=a; remember=b", &["remember=; Max-Age=0"], 1), None, "the session stays");
    assert_eq!(who(&mut sessions, "sid=a", 1).as_deref(), Some("alice"));
    let over = exchange(&mut sessions, "sid=a", &["sid=deleted; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], 2);
    assert_eq!(over.map(|over| over.actor), Some(actor("alice")));
    assert_eq!(exchange(&mut sessions, "sid=unknown", &["sid=; Max-Age=0"], 2), None, "nobody's");
}

#[test]
fn of_several_cookies_a_new_value_replaces_only_the_one_of_its_name() {
    let mut sessions = memory("{ cookies: [sid, remember] }");
    log_in(&mut sessions, "alice", &["sid=a", "remember=b"], 0);
    exchange(&mut sessions, "sid=a; remember=b", &["remember=c"], 1);
    for cookie in ["sid=a", "remember=c"] {
        assert_eq!(who(&mut sessions, cookie, 1000).as_deref(), Some("alice"), "{cookie}");
    }
}

#[test]
fn names_with_a_star_are_found_in_requests_too() {
    let mut sessions = memory("{ cookies: ['wordpress_logged_in_*'] }");
    log_in(&mut sessions, "alice", &["wordpress_logged_in_0f3a=alice|17|x"], 0);
    assert_eq!(who(&mut sessions, "a=b; wordpress_logged_in_0f3a=alice|17|x", 1).as_deref(), Some("alice"));
}

#[test]
fn a_challenge_makes_nobody_known_and_takes_no_session_from_anybody() {
    let mut sessions = memory("{ cookies: [sid] }");
    let carried = sessions.presented(&request("sid=a"), HOST);
    sessions.bind_pending(&carried, &actor("alice"), at(0));
    assert!(sessions.recall(&carried, at(1)).is_some_and(|known| known.pending && known.actor == actor("alice")));
    sessions.bind(&carried, &actor("alice"), at(2));
    assert!(sessions.recall(&carried, at(3)).is_some_and(|known| !known.pending));
    sessions.bind_pending(&carried, &actor("mallory"), at(4));
    assert!(sessions.recall(&carried, at(5)).is_some_and(|known| !known.pending && known.actor == actor("alice")));
}

#[test]
fn sessions_that_expire_are_told_once_pending_ones_never() {
    let mut sessions = memory("{ cookies: [sid, remember], ttl: 60s }");
    log_in(&mut sessions, "alice", &["sid=a", "remember=b"], 0);
    log_in(&mut sessions, "bob", &["sid=c"], 30);
    let carried = sessions.presented(&request("sid=d"), HOST);
    sessions.bind_pending(&carried, &actor("carol"), at(0));
    assert!(sessions.expire(at(60)).is_empty());
    let over: Vec<_> = sessions.expire(at(61)).into_iter().map(|over| over.actor).collect();
    assert_eq!(over, [actor("alice")], "both of her values, one session");
    assert_eq!(sessions.expire(at(91)).len(), 1);
    assert!(sessions.is_empty() && sessions.expire(at(1000)).is_empty());
}

#[test]
fn a_million_invented_sessions_push_out_no_bound_one_and_stay_bounded() {
    let mut sessions = memory("{ cookies: [sid], capacity: 1000 }");
    for i in 0..1000 {
        log_in(&mut sessions, "alice", &[&format!("sid=real-{i}")], 0);
    }
    // The first factor of strangers, as often as they like.
    for i in 0..lru::tests::STRANGERS {
        let mut invented = [0; 16];
        invented[..8].copy_from_slice(&i.to_be_bytes());
        let carried = [Carried { via: Via::Cookie(0), handle: Handle(invented) }];
        sessions.bind_pending(&carried, &actor("mallory"), at(1));
    }
    assert_eq!(sessions.len(), 1000 + 100);
    for i in 0..1000 {
        assert!(who(&mut sessions, &format!("sid=real-{i}"), 2).is_some(), "{i}");
    }
    log_in(&mut sessions, "bob", &["sid=one-more"], 3);
    assert_eq!(sessions.bound.len(), 1000);
    assert_eq!(who(&mut sessions, "sid=real-0", 3), None, "the longest unused went for a bound one");
}

#[test]
fn an_id_alone_is_named_by_what_a_login_showed_of_it() {
    let mut sessions = memory("{}");
    let dave = Actor { id: Text::identifier("5"), email: Text::identifier("dave@example.test"), ..Actor::default() };
    sessions.know_account(HOST, &dave);
    let mut found = Actor { id: Text::identifier("5"), ..Actor::default() };
    sessions.name_account("other.example.test", &mut found);
    assert_eq!(found.email, None, "ids of another host are other accounts");
    sessions.name_account(HOST, &mut found);
    assert_eq!(found, dave);
    let mut named = Actor { id: Text::identifier("5"), login: Text::identifier("typed"), ..Actor::default() };
    sessions.name_account(HOST, &mut named);
    assert_eq!(named.email, None, "what the exchange itself says is not mixed with older knowledge");
}

#[test]
fn without_named_cookies_the_session_is_learnt_from_the_login() {
    let mut sessions = memory("{}");
    let set = answer(&["app_session=q8v2n5xk0w3m7z1c; HttpOnly", "csrf=q8v2n5xk0w3m7z1c; HttpOnly"]);
    assert!(sessions.handed_out(&set, HOST, at(0)).is_empty());
    assert!(sessions.learn(HOST, &Headers::new(), &set, at(0)));
    let handed_out = sessions.handed_out(&set, HOST, at(0));
    assert_eq!(handed_out.len(), 1);
    sessions.bind(&handed_out, &actor("alice"), at(0));
    assert_eq!(who(&mut sessions, "app_session=q8v2n5xk0w3m7z1c", 1).as_deref(), Some("alice"));
    let mut named = memory("{ cookies: [sid] }");
    assert!(!named.learn(HOST, &Headers::new(), &set, at(0)), "named ones are believed");
}

proptest! {
    /// Whatever is done in whatever order, nobody is ever taken for somebody who did not sign in
    /// with that value, and no room grows beyond its bound.
    #[test]
    fn values_never_lead_to_another_actor(steps in prop::collection::vec((0..5_u8, 0..6_u8, 0..6_u8), 0..60)) {
        let mut sessions = memory("{ cookies: [sid], ttl: 1h }");
        let mut owner: [Option<u8>; 6] = [None; 6];
        for (now, (what, old, new)) in (0_i64..).map(|step| step / 10).zip(steps) {
            let (cookie, set) = (format!("sid=value{old}"), format!("sid=value{new}"));
            match what {
                0 => {
                    let handed_out = sessions.handed_out(&answer(&[&set]), HOST, at(now));
                    sessions.bind(&handed_out, &actor(&format!("user{old}")), at(now));
                    owner[usize::from(new)] = Some(old);
                }
                1 if owner[usize::from(new)].is_none() || old == new => {
                    exchange(&mut sessions, &cookie, &[&set], now);
                    owner[usize::from(new)] = owner[usize::from(old)];
                }
                2 => {
                    let presented = sessions.presented(&request(&cookie), HOST);
                    sessions.forget(&presented);
                    owner[usize::from(old)] = None;
                }
                _ => {
                    let found = who(&mut sessions, &cookie, now);
                    let expected = owner[usize::from(old)].map(|o| format!("user{o}"));
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}

/// Alone, since it looks at the memory of the whole process:
/// `cargo test --release --lib -- --ignored a_session_takes`.
#[test]
#[ignore = "measures the process; run it alone"]
fn a_session_takes_about_a_hundred_bytes() {
    let resident = || -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4096
    };
    let mut sessions = memory("{ cookies: [sid] }");
    let before = resident();
    for i in 0..CAPACITY {
        let carried = [Carried { via: Via::Cookie(0), handle: sessions.handle(&i.to_be_bytes()) }];
        sessions.bind(&carried, &actor(&format!("person{i}@example.test")), at(0));
    }
    let each = (resident() - before) / CAPACITY;
    assert_eq!(sessions.len(), CAPACITY);
    let snapshot = sessions.to_snapshot().expect("sealed").len() / CAPACITY;
    use std::io::Write;
    writeln!(std::io::stderr(), "{each} bytes a session in memory, {snapshot} in the snapshot").expect("said");
    assert!((40..=140).contains(&each), "{each} bytes a session");
    assert!(snapshot < 80, "{snapshot} bytes a session in the snapshot");
}
