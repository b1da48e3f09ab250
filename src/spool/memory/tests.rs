use proptest::prelude::*;

use super::super::sample::login;
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Read { after: u64, max: usize },
}

fn step() -> impl Strategy<Value = Step> {
    // Positions around what can be there, and the end of the number's range.
    let after = prop_oneof![8 => 0_u64..60, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1)];
    prop_oneof![
        (0_usize..9).prop_map(Step::Append),
        (after, prop_oneof![0_usize..12, Just(usize::MAX)]).prop_map(|(after, max)| Step::Read { after, max }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn the_ring_is_the_end_of_a_plain_list(capacity in 0_usize..12, steps in prop::collection::vec(step(), 0..40)) {
        let spool = MemorySpool::new(capacity);
        let held = capacity.max(1);
        let mut list: Vec<String> = Vec::new();
        for step in steps {
            match step {
                Step::Append(count) => {
                    let names: Vec<String> = (0..count).map(|i| format!("u{}", list.len() + i)).collect();
                    spool.append(names.iter().map(|name| login(name)).collect());
                    list.extend(names);
                }
                Step::Read { after, max } => {
                    let gone = list.len().saturating_sub(held) as u64;
                    let batch = spool.read(after, max);
                    let expected: Vec<(u64, &str)> = (1_u64..)
                        .zip(list.iter().map(String::as_str))
                        .filter(|(seq, _)| *seq > after.max(gone))
                        .take(max)
                        .collect();
                    let found: Vec<(u64, &str)> =
                        batch.events.iter().map(|e| (e.seq, e.event.actor.label().unwrap())).collect();
                    prop_assert_eq!(found, expected);
                    prop_assert_eq!(batch.skipped, gone.saturating_sub(after));
                    prop_assert!(batch.events.iter().all(|e| *e.line == *e.event.to_line()));
                }
            }
            prop_assert_eq!(spool.newest(), list.len() as u64);
            prop_assert_eq!(spool.before_oldest(), list.len().saturating_sub(held) as u64);
            prop_assert_eq!(*spool.appended().borrow(), list.len() as u64);
        }
    }
}

#[test]
fn appends_from_many_threads_lose_nothing_and_the_watch_ends_at_the_newest() {
    let spool = MemorySpool::new(1000);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let spool = &spool;
            scope.spawn(move || {
                for i in 0..50 {
                    spool.append(vec![login(&format!("t{thread}-{i:02}"))]);
                }
            });
        }
    });
    let batch = spool.read(0, usize::MAX);
    assert!(batch.events.iter().map(|e| e.seq).eq(1..=200));
    for thread in 0..4 {
        let own = format!("t{thread}-");
        let mine: Vec<&str> =
            batch.events.iter().filter_map(|e| e.event.actor.label()).filter(|l| l.starts_with(&own)).collect();
        assert!(mine.len() == 50 && mine.is_sorted(), "{mine:?}");
    }
    assert_eq!(*spool.appended().borrow(), 200);
}

#[test]
fn what_every_sink_has_taken_is_read_back_from_its_line_and_what_one_has_not_is_held_whole() {
    let spool = MemorySpool::new(1000);
    spool.wait_for(&["slow".to_owned(), "quick".to_owned()]);
    let ack = |sink: &str, position| drop(spool.acknowledge(Ack { sink: sink.into(), position, ..Ack::default() }));
    let lines = || spool.ring().lines.len();
    for i in 0..700 {
        spool.append(vec![login(&format!("u{i}"))]);
        ack("quick", i + 1);
    }
    assert_eq!(lines(), 0, "one has taken nothing");
    ack("slow", 300);
    spool.append(vec![login("u700")]);
    assert_eq!(lines(), 300);
    ack("slow", 700);
    spool.append(vec![login("u701")]);
    assert_eq!(lines(), 702 - WHOLE);
    for (after, max) in [(0, usize::MAX), (444, 4), (100, 50), (446, 1), (701, 9)] {
        let batch = spool.read(after, max);
        let expected: Vec<(u64, String)> =
            (after + 1..=702).take(max).map(|seq| (seq, format!("u{}", seq - 1))).collect();
        let found: Vec<(u64, String)> =
            batch.events.iter().map(|e| (e.seq, e.event.actor.label().unwrap().to_owned())).collect();
        assert_eq!(found, expected, "after {after}, at most {max}");
        assert!(batch.events.iter().all(|e| *e.line == *e.event.to_line()) && batch.skipped == 0);
    }
}

#[test]
fn long_events_fill_the_ring_before_many_do() {
    let one = crate::spool::sample::login("alice").to_line().len();
    let spool = MemorySpool::bounded(1000, one * 3 + one / 2);
    for _ in 0..10 {
        spool.append(vec![crate::spool::sample::login("alice")]);
    }
    let batch = spool.read(0, usize::MAX);
    assert_eq!((batch.events.len(), batch.skipped), (3, 7));

    let tight = MemorySpool::bounded(1000, 1);
    tight.append(vec![crate::spool::sample::login("alice")]);
    assert_eq!(tight.read(0, usize::MAX).events.len(), 1, "the newest is always there");
}
