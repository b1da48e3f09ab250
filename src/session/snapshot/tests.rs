use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;
use crate::event::{Actor, Text, Timestamp};
use crate::session::{Carried, SessionConfig, Via};

fn actor(login: &str) -> Actor {
    Actor { login: Text::identifier(login), email: Text::identifier(login), ..Actor::default() }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn carried(sessions: &Sessions, value: &str) -> [Carried; 1] {
    [Carried { via: Via::Bearer, handle: sessions.handle(value.as_bytes()) }]
}

fn memory(key: u8) -> Sessions {
    Sessions::new(SessionConfig::default(), [key; 32])
}

fn filled() -> Sessions {
    let mut sessions = memory(7);
    for name in ["alice", "bob"] {
        let handle = carried(&sessions, name);
        sessions.bind(&handle, &actor(name), at(100));
    }
    let waiting = carried(&sessions, "carol");
    sessions.bind_pending(&waiting, &actor("carol"), at(100));
    let account = Actor { id: Text::identifier("5"), email: Text::identifier("dave@example.test"), ..Actor::default() };
    sessions.know_account("app.example.test", &account);
    sessions.learnt.add("app.example.test", "sid");
    sessions
}

#[test]
fn what_was_remembered_is_known_after_a_restart() {
    let bytes = filled().to_snapshot().expect("sealed");
    let mut back = memory(7);
    assert_eq!(back.load_snapshot(&bytes), Ok(3));
    for (name, pending) in [("alice", false), ("bob", false), ("carol", true)] {
        let handle = carried(&back, name);
        let known = back.recall(&handle, at(200)).expect(name);
        assert_eq!((known.actor, known.pending), (actor(name), pending));
        assert_eq!(known.shown, handle[0].handle.shown());
    }
    let mut dave = Actor { id: Text::identifier("5"), ..Actor::default() };
    back.name_account("app.example.test", &mut dave);
    assert_eq!(dave.label(), Some("dave@example.test"));
    assert_eq!(back.learnt_names(), ["sid"]);
    assert_eq!(back.to_snapshot().expect("sealed").len(), bytes.len());
}

#[test]
fn a_snapshot_holds_no_name_in_the_clear_and_no_session_at_all() {
    let mut sessions = memory(7);
    let handle = carried(&sessions, "s3cr3t-s3ss10n-v4lu3");
    sessions.bind(&handle, &actor("alice"), at(100));
    let bytes = sessions.to_snapshot().expect("sealed");
    assert!(sessions.records().windows(5).any(|w| w == b"alice"), "names are there, sealed");
    assert!(!bytes.windows(5).any(|w| w == b"alice"));
    assert!(!sessions.records().windows(6).any(|w| w == b"s3cr3t"));
}

#[test]
fn every_damage_is_seen_and_nothing_of_it_believed() {
    let bytes = filled().to_snapshot().expect("sealed");
    for cut in [0, 1, 7, 8, 39, bytes.len() / 2, bytes.len() - 1] {
        assert!(memory(7).load_snapshot(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    for flipped in [0, 7, 9, 40, bytes.len() - 1] {
        let mut bytes = bytes.clone();
        bytes[flipped] ^= 1;
        let mut back = memory(7);
        assert!(back.load_snapshot(&bytes).is_err() && back.is_empty(), "changed at {flipped}");
    }
    assert_eq!(memory(8).load_snapshot(&bytes), Err(Damage::Seal), "another key");
}

#[test]
fn a_larger_snapshot_is_taken_over_as_far_as_there_is_room_the_newest_first() {
    let mut large = memory(7);
    for i in 0..300 {
        let handle = carried(&large, &i.to_string());
        large.bind(&handle, &actor("x"), at(i));
    }
    let mut small = Sessions::new(SessionConfig { capacity: 100, ..SessionConfig::default() }, [7; 32]);
    assert_eq!(small.load_snapshot(&large.to_snapshot().expect("sealed")), Ok(300));
    assert_eq!(small.len(), 100);
    let (oldest, newest) = (carried(&small, "199"), carried(&small, "200"));
    assert!(small.recall(&oldest, at(300)).is_none() && small.recall(&newest, at(300)).is_some());
}

#[test]
fn the_file_is_replaced_whole_for_its_owner_alone_and_a_damaged_one_is_set_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    let (key, mut keeper) = Keeper::open(folder.path()).expect("opened");
    let mut sessions = Sessions::new(SessionConfig::default(), key);
    let handle = carried(&sessions, "alice");
    sessions.bind(&handle, &actor("alice"), at(100));
    assert!(keeper.save(sessions.to_snapshot().expect("sealed")));
    keeper.end(sessions.to_snapshot());
    let path = folder.path().join("sessions.snapshot");
    assert_eq!(fs::metadata(&path).expect("written").permissions().mode() & 0o777, 0o600);
    assert!(!path.with_extension("snapshot.new").exists());

    let (key, keeper) = Keeper::open(folder.path()).expect("opened again");
    let mut back = Sessions::new(SessionConfig::default(), key);
    keeper.load(&mut back);
    assert!(back.recall(&handle, at(200)).is_some());

    fs::write(&path, b"something else").expect("written");
    let mut none = Sessions::new(SessionConfig::default(), key);
    keeper.load(&mut none);
    assert!(none.is_empty() && !path.exists());
    assert_eq!(fs::read(path.with_extension("snapshot.damaged")).expect("aside"), b"something else");
}

#[test]
fn without_a_usable_folder_the_memory_lives_as_long_as_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, b"").expect("written");
    let (_, mut keeper) = Keeper::open(&file.join("data")).expect("a key at least");
    assert!(keeper.save(vec![1]));
    keeper.end(Some(vec![1]));
    assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
}

proptest! {
    /// Under a right seal, as one who has the key could make it.
    #[test]
    fn strange_records_under_a_right_seal_never_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut sessions = memory(7);
        let sealed = sessions.seal().and_then(|seal| seal.seal(MAGIC, body)).expect("sealed");
        prop_assert!(sessions.load_snapshot(&[&MAGIC[..], &sealed].concat()).is_ok());
    }
}
