use std::fs;
use std::io::{Seek, SeekFrom, Write};

use proptest::prelude::*;

use super::super::sample::{login, of_type};
use super::super::settings::Retention;
use super::*;

fn settings(interval_ms: u64) -> SpoolSettings {
    let durability = Durability::Interval(Duration::from_millis(interval_ms));
    // The sample's events are of a day that is past.
    SpoolSettings { durability, retention: Retention { age: Duration::from_secs(50 * 365 * 86_400), size: 2 << 30 } }
}

fn open(folder: &Path) -> EventStore {
    EventStore::open(folder, settings(1), Arc::new(Metrics::new())).unwrap()
}

fn users(batch: &Batch) -> Vec<(u64, String)> {
    let one = |s: &Stored| (s.seq, s.event.actor.label().unwrap_or(s.event.event_type.as_str()).to_owned());
    batch.events.iter().map(one).collect()
}

fn expected(list: &[String], after: u64, max: usize) -> Vec<(u64, String)> {
    (1_u64..).zip(list.iter().cloned()).filter(|(seq, _)| *seq > after).take(max).collect()
}

/// All events, however many reads it takes.
fn all(store: &EventStore) -> (Vec<(u64, String)>, u64) {
    let (mut found, mut after, mut skipped) = (Vec::new(), 0, 0);
    loop {
        let batch = store.read(after, 100);
        skipped += batch.skipped;
        let Some(last) = batch.events.last() else { return (found, skipped) };
        after = last.seq;
        found.extend(users(&batch));
    }
}

fn append(store: &EventStore, list: &mut Vec<String>, count: usize) {
    let names: Vec<String> = (0..count).map(|i| format!("u{}", list.len() + i)).collect();
    store.append(names.iter().map(|name| login(name)).collect());
    list.extend(names);
}

/// Asks until it is so; the writer announces commits, but not what it does when it is idle.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn query<T: rusqlite::types::FromSql>(folder: &Path, sql: &str) -> T {
    schema::open_to_read(&folder.join(FILE)).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Read {
        after: u64,
        max: usize,
    },
    Ack {
        sink: usize,
        by: u64,
    },
    /// Stop in order and start again.
    Restart,
    /// A copy of the files as they are at this moment: what a crash would leave.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let after = prop_oneof![8 => 0_u64..60, 1 => Just(u64::MAX)];
    prop_oneof![
        4 => (0_usize..9).prop_map(Step::Append),
        4 => (after, prop_oneof![1_usize..12, Just(usize::MAX)]).prop_map(|(after, max)| Step::Read { after, max }),
        3 => (0_usize..2, 0_u64..12).prop_map(|(sink, by)| Step::Ack { sink, by }),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn the_store_is_a_plain_list_with_a_position_for_each_sink(steps in prop::collection::vec(step(), 0..30)) {
        let root = tempfile::tempdir().unwrap();
        let mut folder = root.path().join("0");
        let mut store = open(&folder);
        let mut list: Vec<String> = Vec::new();
        let mut positions = [0_u64; 2];
        for name in ["a", "b"] {
            prop_assert_eq!(store.resume(name, 0), 0);
            store.acknowledge(Ack { sink: name.into(), ..Ack::default() }).wait_blocking();
        }
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append(count) => {
                    append(&store, &mut list, count);
                    store.on_disk().wait_blocking();
                }
                Step::Read { after, max } => {
                    let batch = store.read(after, max);
                    prop_assert_eq!(users(&batch), expected(&list, after, max));
                    prop_assert_eq!(batch.skipped, 0);
                    prop_assert!(batch.events.iter().all(|e| *e.line == *e.event.to_line()));
                }
                Step::Ack { sink, by } => {
                    positions[sink] = (positions[sink] + by).min(list.len() as u64);
                    let ack = Ack { sink: ["a", "b"][sink].into(), position: positions[sink], ..Ack::default() };
                    store.acknowledge(ack).wait_blocking();
                }
                Step::Restart => {
                    drop(store);
                    store = open(&folder);
                }
                Step::Crash => {
                    let copy = root.path().join((number + 1).to_string());
                    fs::create_dir(&copy).unwrap();
                    for file in [FILE, "events.db-wal"] {
                        fs::copy(folder.join(file), copy.join(file)).unwrap();
                    }
                    store = open(&copy);
                    folder = copy;
                }
            }
            prop_assert_eq!(store.newest(), list.len() as u64);
            prop_assert_eq!(*store.appended().borrow(), list.len() as u64);
            for (name, position) in ["a", "b"].into_iter().zip(positions) {
                prop_assert_eq!(store.resume(name, 999), position);
                prop_assert_eq!(store.backlog(position).events, list.len() as u64 - position);
            }
        }
        prop_assert_eq!(all(&store).0, expected(&list, 0, usize::MAX));
    }
}

#[test]
fn readers_see_an_event_only_when_it_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = EventStore::open(folder.path(), settings(10_000), Arc::new(Metrics::new())).unwrap();
    store.append(vec![login("alice")]);
    assert_eq!((store.newest(), store.read(0, 10).events.len()), (0, 0), "it waits for its interval");
    let written = store.on_disk();
    written.wait_blocking();
    assert_eq!(store.newest(), 1, "whoever waits for the disk ends the interval");
    assert_eq!(query::<i64>(folder.path(), "SELECT count(*) FROM events"), 1);
}

#[test]
fn more_than_memory_keeps_is_read_from_disk_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut list = Vec::new();
    for _ in 0..12 {
        append(&store, &mut list, 1000);
        store.on_disk().wait_blocking();
    }
    assert!(store.recent(0, 1).is_none(), "the first are not in memory any more");
    let (found, skipped) = all(&store);
    assert_eq!((found == expected(&list, 0, usize::MAX), skipped), (true, 0));
    assert_eq!(store.backlog(11_999).events, 1);
    let lines: i64 = query(folder.path(), "SELECT sum(length(CAST(event AS BLOB))) FROM events");
    assert_eq!(store.backlog(0).bytes, lines as u64);
}

#[test]
fn a_burst_beyond_the_bound_is_counted_and_the_rest_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new());
    let store = EventStore::open(folder.path(), settings(1), metrics.clone()).unwrap();
    let mut list = Vec::new();
    // One call, so that the writer cannot come between.
    append(&store, &mut list, MAX_WAITING + 1000);
    store.on_disk().wait_blocking();
    let lost = metrics.dropped_so_far(Drop::StoreFull);
    assert!(lost >= 1000, "{lost}");
    let (found, skipped) = all(&store);
    assert_eq!((found.len() as u64 + lost, skipped), (list.len() as u64, lost));
    assert_eq!(found.last().map(|(seq, _)| *seq), Some(list.len() as u64));
}

#[test]
fn what_names_people_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("a/data");
    let store = open(&data);
    store.append(vec![login("alice")]);
    store.on_disk().wait_blocking();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for file in [FILE, "events.db-wal", "events.db-shm"] {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
}

#[test]
fn two_processes_cannot_have_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let second = EventStore::open(folder.path(), settings(1), Arc::new(Metrics::new()));
    let error = second.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("another authtap") && error.contains("--data"), "{error}");
    drop(first);
    open(folder.path());
}

/// Spoils the file with `how` while nobody has it open, and starts again.
fn spoiled(how: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let mut list = Vec::new();
    let store = open(folder.path());
    append(&store, &mut list, 3000);
    drop(store);
    how(&folder.path().join(FILE));

    let store = open(folder.path());
    append(&store, &mut Vec::new(), 2);
    store.on_disk().wait_blocking();
    // Some damage shows only when the place is read.
    eventually("the damage is found and the new file has what memory has", || {
        let found = all(&store).0;
        store.degraded().is_none() && found.iter().any(|(_, what)| what == "authtap.store.damaged")
    });
    append(&store, &mut Vec::new(), 1);
    store.on_disk().wait_blocking();
    drop(store);
    let names: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("events.db.damaged-"))
        .collect();
    assert!(!names.is_empty(), "the old file is kept");
    assert_eq!(query::<String>(folder.path(), "PRAGMA integrity_check"), "ok");
    assert!(query::<i64>(folder.path(), "SELECT count(*) FROM events") >= 3);
}

#[test]
fn a_file_that_is_no_database_is_set_aside() {
    spoiled(|file| fs::write(file, "not a database, but longer than its header would be: ".repeat(100)).unwrap());
}

#[test]
fn a_truncated_file_is_set_aside() {
    spoiled(|file| {
        let length = fs::metadata(file).unwrap().len();
        fs::OpenOptions::new().write(true).open(file).unwrap().set_len(length / 3).unwrap();
    });
}

#[test]
fn an_overwritten_file_is_set_aside() {
    spoiled(|file| {
        let mut file = fs::OpenOptions::new().write(true).open(file).unwrap();
        file.seek(SeekFrom::Start(8192)).unwrap();
        file.write_all(&vec![0xA5; 600_000]).unwrap();
    });
}

#[test]
fn a_broken_log_costs_what_was_in_it_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let mut list = Vec::new();
    let store = open(folder.path());
    append(&store, &mut list, 500);
    drop(store);
    let store = open(folder.path());
    append(&store, &mut list, 500);
    store.on_disk().wait_blocking();
    // The second half is in the log only.
    for file in [FILE, "events.db-wal"] {
        fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
    }
    let log = copy.path().join("events.db-wal");
    let length = fs::metadata(&log).unwrap().len();
    assert!(length > 100_000);
    let mut file = fs::OpenOptions::new().write(true).open(&log).unwrap();
    file.seek(SeekFrom::Start(length / 2)).unwrap();
    file.write_all(&vec![0xA5; (length / 2) as usize]).unwrap();
    drop(file);
    let store = open(copy.path());
    let found = all(&store).0;
    assert!(found.len() >= 500, "{}", found.len());
    assert_eq!(found, expected(&list, 0, found.len()), "what is there is a beginning of what was");
    assert_eq!(store.degraded(), None);
}

#[test]
fn a_folder_that_cannot_be_made_leaves_the_events_in_memory_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    // A file in the place of the folder: fails for root too.
    let place = folder.path().join("data");
    fs::write(&place, "x").unwrap();
    let metrics = Arc::new(Metrics::new());
    let store = EventStore::open(&place, settings(1), metrics.clone()).unwrap();
    store.append(vec![login("alice")]);
    assert!(store.degraded().is_some_and(|why| why.contains("data folder")));
    assert_eq!(metrics.store_healthy.get(), 0);
    assert!(!store.outlives_the_process());
    let told: Vec<String> = users(&store.read(0, 10)).into_iter().map(|(_, what)| what).collect();
    assert_eq!(told, ["authtap.store.degraded", "alice"], "sinks get them all the same");

    // Once the place is free the store begins there, with everything that memory has.
    fs::remove_file(&place).unwrap();
    eventually("the store recovers", || store.degraded().is_none());
    store.on_disk().wait_blocking();
    assert_eq!(query::<i64>(&place, "SELECT count(*) FROM events WHERE actor = 'alice'"), 1);
    eventually("it is said", || all(&store).0.iter().any(|(_, what)| what == "authtap.store.recovered"));
}

#[test]
fn a_file_held_by_another_program_is_waited_for_without_losing_anything() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.append(vec![login("first")]);
    store.on_disk().wait_blocking();
    let other = rusqlite::Connection::open(folder.path().join(FILE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.append(vec![login("second")]);
    eventually("it is said", || store.degraded().is_some_and(|why| why.contains("locked")));
    assert!(users(&store.read(0, 10)).iter().any(|(_, what)| what == "second"), "sinks get it meanwhile");
    other.execute_batch("ROLLBACK").unwrap();
    eventually("it is written", || store.degraded().is_none());
    assert_eq!(query::<i64>(folder.path(), "SELECT count(*) FROM events WHERE actor = 'second'"), 1);
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let db = rusqlite::Connection::open(folder.path().join(FILE)).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let store = open(folder.path());
    assert!(store.degraded().is_some_and(|why| why.contains("newer authtap")));
    assert_eq!(query::<i64>(folder.path(), "PRAGMA user_version"), 99);
}

#[test]
fn refused_events_become_dead_letters_that_can_be_settled() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.append(vec![login("alice"), login("bob")]);
    store.on_disk().wait_blocking();
    let events = store.read(0, 10).events;
    let refused = events.iter().map(|one| (one.clone(), "no such index".to_owned())).collect();
    store.acknowledge(Ack { sink: "siem".into(), position: 2, refused, ..Ack::default() }).wait_blocking();
    let letters = store.dead_letters("siem", 0, 10);
    let shown: Vec<(&str, &str)> =
        letters.iter().map(|l| (l.stored.event.actor.label().unwrap(), l.reason.as_str())).collect();
    assert_eq!(shown, [("alice", "no such index"), ("bob", "no such index")]);
    assert!(store.dead_letters("other", 0, 10).is_empty());

    store.rewind("siem", 1, true);
    assert!(store.wants_dead_letters("siem"));
    let settled = vec![letters[0].id];
    let ack = Ack { sink: "siem".into(), position: 1, settled, dead_letters_done: true, ..Ack::default() };
    store.acknowledge(ack).wait_blocking();
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.dead_letters("siem", 0, 10).len(), 1);
    assert_eq!(store.resume("siem", 9), 1);
    assert!(!store.wants_dead_letters("siem"));
    assert_eq!(query::<i64>(folder.path(), "SELECT refused FROM cursors WHERE sink = 'siem'"), 2);
}

/// A store with three whole blocks and a bit, of events as old as they say.
fn three_blocks(folder: &Path, settings: SpoolSettings) -> EventStore {
    let store = EventStore::open(folder, settings, Arc::new(Metrics::new())).unwrap();
    store.resume("slow", 0);
    store.wait_for(&["slow".to_owned()]);
    let mut list = Vec::new();
    for _ in 0..13 {
        append(&store, &mut list, 1000);
        store.on_disk().wait_blocking();
    }
    store
}

#[test]
fn old_blocks_go_when_every_sink_is_past_them_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(1);
    settings.retention.age = Duration::from_secs(3600);
    let store = three_blocks(folder.path(), settings);
    // The first block ends at 4095, the second at 8191.
    store.acknowledge(Ack { sink: "slow".into(), position: 8190, ..Ack::default() }).wait_blocking();
    eventually("the first block goes", || store.before_oldest() == 4095);
    store.append(vec![login("one more")]);
    store.on_disk().wait_blocking();
    assert_eq!(store.before_oldest(), 4095, "the second has an event that the sink still waits for");
    assert_eq!(store.read(0, 1).skipped, 4095);
    store.acknowledge(Ack { sink: "slow".into(), position: 8191, ..Ack::default() }).wait_blocking();
    eventually("the second block goes", || store.before_oldest() == 8191);
    assert_eq!(query::<i64>(folder.path(), "SELECT min(seq) FROM events"), 8192);
    assert_eq!(query::<i64>(folder.path(), "SELECT min(seq) FROM names"), 8192);
    assert_eq!(query::<i64>(folder.path(), "SELECT min(seq) FROM addresses"), 8192);
}

#[test]
fn the_hard_bound_takes_the_oldest_whoever_waits_for_them_and_tells_the_reader_how_many() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(1);
    settings.retention.size = 6 << 20;
    let store = three_blocks(folder.path(), settings);
    eventually("the file is within its bound", || store.before_oldest() > 0);
    let batch = store.read(0, 10);
    assert_eq!(batch.skipped, store.before_oldest());
    assert_eq!(batch.events.first().map(|e| e.seq), Some(store.before_oldest() + 1));
}

#[test]
fn a_clock_that_steps_back_changes_no_order_and_is_found_by_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let at = |millis, name: &str| Event { timestamp: Timestamp::from_millis(millis), ..of_type("user.logout", name) };
    store.append(vec![at(2_000_000, "late"), at(1_000_000, "early"), at(3_000_000, "latest")]);
    store.on_disk().wait_blocking();
    let found: Vec<String> = all(&store).0.into_iter().map(|(_, who)| who).collect();
    assert_eq!(found, ["late", "early", "latest"]);
    assert_eq!(query::<i64>(folder.path(), "SELECT first_time FROM blocks"), 1_000_000);
    assert_eq!(store.position_at(Timestamp::from_millis(2_500_000)), 2);
    assert_eq!(store.position_at(Timestamp::from_millis(1_500_000)), 0);
    assert_eq!(store.position_at(Timestamp::from_millis(9_000_000)), 3, "nothing is as young as that");
}

#[test]
fn what_comes_after_a_quiet_time_is_written_at_once_and_what_follows_waits_for_its_interval() {
    let folder = tempfile::tempdir().unwrap();
    let store = EventStore::open(folder.path(), settings(3_600_000), Arc::new(Metrics::new())).unwrap();
    store.append(vec![login("first")]);
    eventually("the first is there long before the hour is over", || store.newest() == 1);
    store.append(vec![login("second")]);
    assert_eq!(store.newest(), 1);
    store.close();
    assert_eq!(store.newest(), 2, "the end waits for nothing");
}

#[test]
fn texts_become_searchable_when_it_is_quiet() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.append(vec![login("alice@example.test"), login("bob")]);
    store.on_disk().wait_blocking();
    let found = || {
        let db = schema::open_to_read(&folder.path().join(FILE)).unwrap();
        db.query_row("SELECT count(*) FROM search WHERE search MATCH '\"alice example test\"'", [], |r| {
            r.get::<_, i64>(0)
        })
        .unwrap()
    };
    eventually("the text is indexed", || found() == 1);
}
