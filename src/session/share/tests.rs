use std::collections::HashMap;
use std::sync::Mutex;

use super::*;
use crate::event::{Actor, Text, Timestamp};
use crate::session::{Carried, SessionConfig, Sessions, Via};

/// What replicas share, without Redis: the values, and where news go.
#[derive(Default)]
struct Town {
    values: HashMap<Handle, (Room, Entry)>,
    replicas: Vec<mpsc::Sender<News>>,
}

/// A replica, and the thread that stands for its connection; it ends with the replica.
fn replica(town: &Arc<Mutex<Town>>) -> Sessions {
    let (share, mut ends) = Share::new(Duration::from_secs(20), Arc::default());
    ends.up.store(true, Relaxed);
    let number = {
        let mut town = town.lock().expect("no panic");
        town.replicas.push(ends.news.clone());
        town.replicas.len() - 1
    };
    let town = town.clone();
    std::thread::spawn(move || {
        while let Some(op) = ends.ops.blocking_recv() {
            let mut town = town.lock().expect("no panic");
            let news = match op {
                Op::Put { handle, room, entry, news, .. } => {
                    town.values.insert(handle, (room, entry));
                    news.then_some(handle)
                }
                Op::Remove(handle) => {
                    town.values.remove(&handle);
                    Some(handle)
                }
                Op::Ask { handles, answer, .. } => {
                    let of = |h: &Handle| town.values.get(h).map(|(room, entry)| (*h, *room, entry.clone()));
                    let _ = answer.try_send(handles.iter().filter_map(of).collect());
                    None
                }
            };
            for (i, other) in town.replicas.iter().enumerate() {
                if let Some(handle) = news.filter(|_| i != number) {
                    let _ = other.try_send(News::Stale(handle));
                }
            }
        }
    });
    let config = SessionConfig { cookies: vec!["sid".into()], revoked: true, ..SessionConfig::default() };
    let mut sessions = Sessions::new(config, [7; 32]);
    sessions.share_through(share);
    sessions
}

fn actor(login: &str) -> Actor {
    Actor { login: Text::identifier(login), ..Actor::default() }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn cookie(sessions: &Sessions, value: &str) -> [Carried; 1] {
    [Carried { via: Via::Cookie(0), handle: sessions.handle(value.as_bytes()) }]
}

/// Waits until everything that this replica said is done, and what the others said is heard.
fn settle(sessions: &mut Sessions) {
    let nobody = sessions.handle(b"nobody");
    sessions.fetch([nobody], at(0));
    sessions.hear();
}

/// Who a request at this replica would be: heard, fetched, recalled. With a mark if a code is awaited.
fn who(sessions: &mut Sessions, value: &str, now: i64) -> String {
    let carried = cookie(sessions, value);
    sessions.hear();
    sessions.fetch(carried.iter().map(|c| c.handle), at(now));
    let known = sessions.recall(&carried, at(now));
    known.map_or("nobody".into(), |k| format!("{}{}", k.actor.label().unwrap_or(""), if k.pending { "?" } else { "" }))
}

fn two() -> (Sessions, Sessions) {
    let town = Arc::default();
    (replica(&town), replica(&town))
}

#[test]
fn a_login_at_one_replica_is_known_at_the_other_and_its_logout_there_is_known_at_the_first() {
    let (mut a, mut b) = two();
    let session = cookie(&a, "one");
    assert!(a.bind(&session, &actor("alice"), at(100)));
    settle(&mut a);
    assert_eq!(who(&mut b, "one", 110), "alice");
    assert!(!b.bind(&session, &actor("alice"), at(110)), "it is no new session there");
    let over = b.forget(&session).expect("it was somebody's");
    assert_eq!((over.actor, over.shown), (actor("alice"), session[0].handle.shown()));
    settle(&mut b);
    assert_eq!(who(&mut a, "one", 120), "nobody");
    assert_eq!(who(&mut b, "one", 120), "nobody", "what it removed itself it does not find again");
}

#[test]
fn a_code_that_was_right_at_one_replica_signs_in_at_the_one_that_asked_for_it() {
    let (mut a, mut b) = two();
    let session = cookie(&a, "one");
    a.bind_pending(&session, &actor("alice"), at(100));
    settle(&mut a);
    assert_eq!(who(&mut b, "one", 110), "alice?");
    b.bind(&session, &actor("alice"), at(110));
    settle(&mut b);
    assert_eq!(who(&mut a, "one", 120), "alice");
}

#[test]
fn another_login_over_the_same_session_replaces_the_actor_everywhere() {
    let (mut a, mut b) = two();
    let session = cookie(&a, "one");
    a.bind(&session, &actor("alice"), at(100));
    settle(&mut a);
    b.bind(&session, &actor("bob"), at(110));
    settle(&mut b);
    assert_eq!(who(&mut a, "one", 120), "bob");
    a.rename(&session, &actor("robert"));
    settle(&mut a);
    assert_eq!(who(&mut b, "one", 130), "robert");
}

#[test]
fn a_session_whose_value_changes_at_another_replica_stays_one_session() {
    let (mut a, mut b) = two();
    a.bind(&cookie(&a, "one"), &actor("alice"), at(100));
    settle(&mut a);
    assert_eq!(who(&mut b, "one", 110), "alice");
    let (old, new) = (cookie(&b, "one"), cookie(&b, "two"));
    assert!(b.follow(&old, &new, &crate::headers::Headers::new(), "app.example.test", at(110)).is_none());
    settle(&mut b);
    assert_eq!(who(&mut a, "two", 120), "alice");
    let known = a.recall(&new, at(120)).expect("known");
    assert_eq!(known.shown, old[0].handle.shown(), "events show the same session");
}

#[test]
fn the_end_of_a_shared_session_is_told_by_whoever_is_chosen_and_by_nobody_else() {
    let town = Arc::default();
    let (mut a, mut b) = (replica(&town), replica(&town));
    a.bind(&cookie(&a, "one"), &actor("alice"), at(100));
    settle(&mut a);
    assert_eq!(who(&mut b, "one", 110), "alice");
    let late = at(100 + 13 * 3600);
    assert!(a.expire(late).is_empty() && b.expire(late).is_empty(), "another may have seen it used");
    let entry = town.lock().expect("no panic").values.values().next().expect("written").1.clone();
    town.lock().expect("no panic").replicas[1].try_send(News::Expired(entry)).expect("room");
    let over = b.hear();
    assert_eq!(over.len(), 1);
    assert_eq!((&over[0].actor, over[0].shown), (&actor("alice"), cookie(&a, "one")[0].handle.shown()));
    assert!(a.hear().is_empty());
}

#[test]
fn a_use_is_told_now_and_then_so_that_a_used_session_does_not_end_elsewhere() {
    let (share, mut ends) = Share::new(Duration::from_millis(1), Arc::default());
    let mut sessions = Sessions::new(SessionConfig { revoked: true, ..SessionConfig::default() }, [7; 32]);
    sessions.share_through(share);
    let session = cookie(&sessions, "one");
    sessions.bind(&session, &actor("alice"), at(0));
    for second in 0..3600 {
        sessions.recall(&session, at(second));
    }
    let mut told = Vec::new();
    while let Ok(Op::Put { ends, lives, .. }) = ends.ops.try_recv() {
        told.push(ends.expect("its end is to be told") / 1000);
        assert!(lives > Duration::from_secs(12 * 3600));
    }
    // Every five minutes; so much later it ends.
    let ttl = 12 * 3600 + 300;
    assert_eq!(told, (0..12).map(|i| 300 * i + ttl).collect::<Vec<_>>());
}

#[test]
fn without_an_answer_the_pipeline_waits_a_bounded_time_and_then_asks_no_more() {
    let metrics: Arc<Metrics> = Arc::default();
    let (mut share, mut ends) = Share::new(Duration::from_millis(1), metrics.clone());
    let asked = |ends: &mut Ends| std::iter::from_fn(|| ends.ops.try_recv().ok()).count();
    let nobody = Handle([1; 16]);
    assert!(share.ask(vec![nobody]).is_empty());
    assert_eq!(asked(&mut ends), 0, "there is no connection");
    ends.up.store(true, Relaxed);
    let began = Instant::now();
    for _ in 0..100 {
        assert!(share.ask(vec![nobody]).is_empty());
    }
    // Unless the machine stood still for a second, which is the pause.
    if began.elapsed() < PAUSE {
        assert_eq!(asked(&mut ends), PATIENT as usize);
        let text = metrics.render();
        assert!(text.contains("session_share_lookups_total{result=\"failed\"} 3"), "{text}");
        assert!(text.contains("session_share_lookups_total{result=\"skipped\"} 98"), "{text}");
    }
    assert!(share.is_unsure());
}

#[test]
fn what_finds_no_room_to_wait_is_counted_and_blocks_nobody() {
    let metrics: Arc<Metrics> = Arc::default();
    let (share, _ends) = Share::new(Duration::from_millis(1), metrics.clone());
    for _ in 0..WAITING + 7 {
        share.say(Op::Remove(Handle([1; 16])));
    }
    assert!(metrics.render().contains("session_share_writes_total{result=\"dropped\"} 7"));
}

#[test]
fn more_sessions_than_are_asked_for_at_once_are_left_out() {
    let metrics: Arc<Metrics> = Arc::default();
    let (mut share, ends) = Share::new(Duration::from_millis(1), metrics.clone());
    ends.up.store(true, Relaxed);
    share.ask(vec![Handle([1; 16]); ASKED_AT_ONCE + 5]);
    assert!(metrics.render().contains("session_share_lookups_total{result=\"skipped\"} 5"));
}
