use super::*;
use crate::event::{Outcome, Timestamp};
use crate::spool::Spool;
use crate::spool::settings::{Retention, SpoolSettings};
use crate::spool::store::EventStore;
use crate::telemetry::Metrics;
use std::sync::Arc;

fn at(millis: i64, event_type: &str, user: &str, ip: &str, country: &str) -> Event {
    let mut event = crate::filter::tests::event(event_type, Outcome::Success, user, ip);
    event.timestamp = Timestamp::from_millis(millis);
    event.metadata.geo = Some(crate::event::Geo { country: crate::event::Text::other(country), ..Default::default() });
    event
}

fn append(folder: &Path, events: Vec<Event>) {
    let settings =
        SpoolSettings { retention: Retention { age: std::time::Duration::MAX, size: 1 << 30 }, ..Default::default() };
    let store = EventStore::open(folder, settings, Arc::new(Metrics::new())).unwrap();
    store.append(events);
    store.on_disk().wait_blocking();
}

fn history(events: Vec<Event>) -> (tempfile::TempDir, History) {
    let folder = tempfile::tempdir().unwrap();
    append(folder.path(), events);
    let history = History::open(folder.path()).unwrap();
    (folder, history)
}

fn sample() -> Vec<Event> {
    vec![
        at(1_000, "user.login.success", "alice", "203.0.113.7", "GB"),
        at(2_000, "user.login.success", "bob", "198.51.100.1", "US"),
        at(3_000, "user.logout", "Alice", "203.0.113.7", "GB"),
        at(4_000, "user.login.success", "alice", "2001:db8::1", "FR"),
    ]
}

fn asked(history: &History, pairs: &[(&str, &str)], change: impl FnOnce(&mut Query)) -> Vec<u64> {
    let mut query = Query { filter: Filter::from_query(pairs.iter().copied()).unwrap(), ..Query::default() };
    change(&mut query);
    let mut found = Vec::new();
    history
        .each(&query, &mut |row| {
            found.push(row.seq);
            Ok(true)
        })
        .unwrap();
    found
}

#[test]
fn each_filter_finds_what_the_live_filter_finds() {
    let events = sample();
    let (_folder, history) = history(events.clone());
    for pairs in [
        vec![],
        vec![("actor", "ALICE")],
        vec![("actor", "ali*")],
        vec![("ip", "203.0.113.0/24")],
        vec![("ip", "2001:db8::/32,198.51.100.1")],
        vec![("type", "user.login.*")],
        vec![("type", "user.logout"), ("actor", "alice")],
        vec![("outcome", "failure")],
        vec![("since", "1970-01-01T00:00:03Z")],
        vec![("actor", "nobody")],
    ] {
        let filter = Filter::from_query(pairs.iter().copied()).unwrap();
        let expected: Vec<u64> = (1..).zip(&events).filter(|(_, e)| filter.matches(e)).map(|(seq, _)| seq).collect();
        assert_eq!(asked(&history, &pairs, |_| {}), expected, "{pairs:?}");
    }
}

#[test]
fn people_and_networks_are_found_in_whole_blocks_and_in_the_newest_whose_names_are_not_indexed_yet() {
    let events: Vec<Event> = (1..=9000_i64)
        .map(|n| {
            let (user, ip) = if n % 700 == 0 { ("Alice", "203.0.113.7") } else { ("bob", "198.51.100.1") };
            at(n, "user.login.success", user, ip, "GB")
        })
        .collect();
    let expected: Vec<u64> = (1..=9000).filter(|n| n % 700 == 0).collect();
    let folder = tempfile::tempdir().unwrap();
    // The second process begins within the first block, and ends within the third.
    let (first, second) = events.split_at(3000);
    append(folder.path(), first.to_vec());
    append(folder.path(), second.to_vec());
    let history = History::open(folder.path()).unwrap();
    let number = |sql: &str| history.db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(number("SELECT seq FROM progress WHERE name = 'lookup'"), 8191, "two blocks are whole");
    assert_eq!(number("SELECT max(seq) FROM names"), 8191);
    assert_eq!(number("SELECT count(*) FROM addresses"), 8191);
    for pairs in [[("actor", "alice")], [("actor", "ali*")], [("ip", "203.0.113.0/24")]] {
        assert_eq!(asked(&history, &pairs, |_| {}), expected, "{pairs:?}");
        assert_eq!(asked(&history, &pairs, |q| q.with_targets = true), expected, "{pairs:?}");
    }
    let both = [("actor", "alice"), ("ip", "198.51.100.1")];
    assert!(asked(&history, &both, |q| q.with_targets = true).is_empty());
}

/// Makes of a file what an authtap of before version 3 would have written: each name and address a row.
fn as_version_2(folder: &Path) {
    let db = Connection::open(folder.join(store::FILE)).unwrap();
    db.execute_batch(
        "INSERT INTO names_2 SELECT block, name, seq FROM names WHERE block NOT IN (SELECT block FROM names_2);
         INSERT INTO addresses_2 SELECT block, address, seq FROM addresses WHERE block NOT IN (SELECT block FROM addresses_2);
         DROP VIEW names;
         DROP VIEW addresses;
         DROP TABLE lookup;
         ALTER TABLE names_2 RENAME TO names;
         ALTER TABLE addresses_2 RENAME TO addresses;
         PRAGMA user_version = 2;",
    )
    .unwrap();
}

#[test]
fn a_file_of_before_is_asked_as_it_is_and_with_what_was_added_to_it() {
    let event = |n: i64| {
        let (user, ip) = match n % 700 {
            0 => ("Al\"ice", "203.0.113.7"),
            1 => ("carol", "2001:db8::7"),
            _ => ("bob", "198.51.100.1"),
        };
        at(n, "user.login.success", user, ip, "GB")
    };
    let folder = tempfile::tempdir().unwrap();
    append(folder.path(), (1..=9000).map(event).collect());
    as_version_2(folder.path());
    let questions = [
        ("al\"ice", "203.0.113.7", 0),
        ("al\"*", "203.0.113.0/24", 0),
        ("carol", "2001:db8::7", 1),
        ("*ol", "2001:db8::/32", 1),
    ];
    let ask = |last: u64| {
        let history = History::open(folder.path()).unwrap();
        for (actor, ip, rest) in questions {
            let expected: Vec<u64> = (1..=last).filter(|n| n % 700 == rest).collect();
            assert_eq!(asked(&history, &[("actor", actor)], |q| q.with_targets = true), expected, "{actor}");
            assert_eq!(asked(&history, &[("ip", ip)], |_| {}), expected, "{ip}");
            let both = [("actor", actor), ("ip", ip), ("since", "1970-01-01T00:00:05Z")];
            let later: Vec<u64> = expected.into_iter().filter(|n| *n >= 5000).collect();
            assert_eq!(asked(&history, &both, |_| {}), later, "{actor} since");
        }
        history
    };
    let history = ask(9000);
    assert_eq!(history.info().unwrap().version, 2, "a question changes nothing");
    drop(history);

    append(folder.path(), (9001..=14_000).map(event).collect());
    let history = ask(14_000);
    assert_eq!(history.info().unwrap().version, 3);
    let number = |sql: &str| history.db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let counted = |table: &str| number(&format!("SELECT count(*) FROM {table}"));
    assert_eq!((counted("names_2"), counted("names"), counted("addresses")), (8191, 12_287, 12_287));
    assert_eq!(number("SELECT count(DISTINCT seq) FROM names"), 12_287);
    // As docs/store.md has it.
    let documented = "SELECT count(*) FROM (SELECT e.event FROM blocks b CROSS JOIN names n ON n.block = b.block \
                      AND n.name = 'al\"ice' JOIN events e ON e.seq = n.seq UNION ALL SELECT event FROM events \
                      WHERE actor = 'Al\"ice' AND seq > (SELECT seq FROM progress WHERE name = 'lookup'))";
    assert_eq!(number(documented), 20);
    let mapped = "SELECT count(*) FROM addresses WHERE address = x'00000000000000000000ffffcb007107'";
    assert_eq!(number(mapped), (1..=12_287).filter(|n| n % 700 == 0).count() as i64);
}

#[test]
fn a_limit_gives_the_newest_in_the_order_they_happened() {
    let (_folder, history) = history(sample());
    assert_eq!(asked(&history, &[("limit", "2")], |_| {}), [3, 4]);
    assert_eq!(asked(&history, &[("limit", "1"), ("actor", "bob")], |_| {}), [2]);
}

#[test]
fn until_and_free_text_narrow_it_down() {
    let (_folder, history) = history(sample());
    let until = Some(Since::At(Timestamp::from_millis(2_000)));
    assert_eq!(asked(&history, &[], |q| q.until = until), [1, 2]);
    let search = |text: &str| asked(&history, &[], |q| q.search = Some(text.to_owned()));
    assert_eq!(search("ALICE"), [1, 3, 4]);
    assert_eq!(search("203.0.113.7 logout"), [3]);
    assert_eq!(search("al* 2001:db8::1"), [4]);
    assert!(search("nothing \" OR 1").is_empty());
}

#[test]
fn the_story_marks_what_is_new_and_a_failure_makes_nothing_ordinary() {
    let mut events = sample();
    let mut foreign = at(5_000, "user.login.failed", "alice", "192.0.2.1", "KP");
    foreign.outcome = Outcome::Failure;
    events.push(foreign.clone());
    events.push(foreign);
    let (_folder, history) = history(events);
    let query = Query { filter: Filter::from_query([("actor", "alice")]).unwrap(), ..Query::default() };
    let mut text = String::new();
    let told = story::tell(&history, &query, &mut |line| {
        text.push_str(line);
        Ok(())
    });
    assert_eq!(told.unwrap(), 5);
    assert!(text.starts_with("1970-01-01\n"), "{text}");
    assert_eq!(text.matches("new place: FR").count(), 1, "{text}");
    assert_eq!(text.matches("new place: KP").count(), 2, "{text}");
    assert!(!text.contains("new place: GB"), "{text}");
}

#[test]
fn sql_reads_and_does_nothing_else() {
    let (folder, mut history) = history(sample());
    let mut ask = |question: &str| {
        let mut rows = Vec::new();
        let done = history.sql(question, &mut |_| Ok(()), &mut |row| {
            rows.push(row);
            Ok(())
        });
        done.map(|()| rows)
    };
    assert_eq!(
        ask("SELECT actor, count(*) FROM events WHERE actor = 'bob' GROUP BY actor").unwrap(),
        [vec![serde_json::json!("bob"), serde_json::json!(1)]]
    );
    let outside = folder.path().join("other.db");
    for forbidden in [
        "DELETE FROM events".to_owned(),
        format!("ATTACH '{}' AS x", outside.display()),
        "PRAGMA journal_mode=DELETE".to_owned(),
        "SELECT load_extension('x')".to_owned(),
        "DROP TABLE events".to_owned(),
    ] {
        assert!(ask(&forbidden).is_err(), "{forbidden}");
    }
    assert!(!outside.exists());
}

#[test]
fn info_and_verify_say_what_is_there_and_what_is_wrong() {
    let (folder, history) = history(sample());
    let info = history.info().unwrap();
    assert_eq!((info.events, info.oldest, info.newest, info.in_use), (4, 1, 4, false));
    assert_eq!(history.verify().unwrap(), Vec::<String>::new());
    drop(history);
    let db = rusqlite::Connection::open(folder.path().join(store::FILE)).unwrap();
    db.execute_batch(
        "DELETE FROM events WHERE seq = 2; UPDATE events SET event = '{}' WHERE seq = 3;
         INSERT INTO cursors (sink, seq, updated) VALUES ('siem', 99, 0)",
    )
    .unwrap();
    drop(db);
    let wrong = History::open(folder.path()).unwrap().verify().unwrap().join("\n");
    for said in ["sink `siem` is at 99", "should have 4 events and has 3", "1 events cannot", "1 positions"] {
        assert!(wrong.contains(said), "{said}: {wrong}");
    }
}

#[test]
fn a_position_is_moved_while_nobody_runs() {
    let (folder, history) = history(sample());
    drop(history);
    let unknown = state::rewind(folder.path(), "siem", None, true).unwrap_err().to_string();
    assert!(unknown.contains("no sink `siem`"), "{unknown}");
    let db = rusqlite::Connection::open(folder.path().join(store::FILE)).unwrap();
    db.execute_batch("INSERT INTO cursors (sink, seq, updated) VALUES ('siem', 4, 0)").unwrap();
    drop(db);
    let since = Some(Timestamp::from_millis(2_500));
    assert_eq!(state::rewind(folder.path(), "siem", since, false).unwrap(), 2);
}
