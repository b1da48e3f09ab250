use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use tokio::sync::Barrier;

use super::*;
use crate::sinks::http::receiver::{Receiver, built, problems, says};
use crate::sinks::net::service::batch;

/// What a scripted lane answers to one send.
#[derive(Clone, Debug)]
enum Says {
    Taken,
    /// So many seconds.
    Later(Option<u64>),
    /// The events at these places.
    Refused(Vec<usize>),
}

/// One lane: answers by a script, then takes everything. Writes down what it was sent and said.
struct Scripted {
    script: Mutex<Vec<Says>>,
    log: Log,
}

/// Positions that were sent, and the answer.
type Log = Arc<Mutex<Vec<(Vec<u64>, Says)>>>;

impl Sink for Scripted {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let says = self.script.lock().unwrap().pop().unwrap_or(Says::Taken);
            self.log.lock().unwrap().push((batch.iter().map(|one| one.seq).collect(), says.clone()));
            match says {
                Says::Taken => Verdict::Delivered,
                Says::Later(seconds) => {
                    Verdict::Retry { after: seconds.map(Duration::from_secs), why: SinkError::Other("busy".into()) }
                }
                Says::Refused(which) => Verdict::Refused { which, why: SinkError::Other("no".into()) },
            }
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }
}

fn lanes(scripts: Vec<Vec<Says>>) -> (Lanes, Vec<Log>) {
    let logs: Vec<Log> = scripts.iter().map(|_| Log::default()).collect();
    let sinks = scripts
        .into_iter()
        .zip(&logs)
        .map(|(script, log)| Box::new(Scripted { script: Mutex::new(script), log: log.clone() }) as Box<dyn Sink>);
    (Lanes::new(sinks.collect()), logs)
}

fn says_of() -> impl Strategy<Value = Says> {
    prop_oneof![
        2 => Just(Says::Taken),
        3 => prop::option::of(0_u64..100).prop_map(Says::Later),
        2 => prop::collection::vec(0_usize..40, 1..4).prop_map(Says::Refused),
    ]
}

proptest! {
    /// The delivery sends a batch until it is settled, then the next one. Whatever the lanes answer,
    /// each event is settled exactly once, in the order of its lane, and its fate is the one told.
    #[test]
    fn every_event_is_settled_once_and_its_fate_is_told(
        scripts in prop::collection::vec(prop::collection::vec(says_of(), 0..6), 1..6),
        sizes in prop::collection::vec(1_u64..30, 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (lanes, logs) = lanes(scripts);
        for size in sizes {
            let batch = batch(size);
            let mut told: Option<Vec<usize>> = None;
            for _ in 0..100 {
                match runtime.block_on(lanes.send(&batch)) {
                    Verdict::Retry { .. } => {}
                    Verdict::Delivered => told = Some(Vec::new()),
                    Verdict::Refused { which, .. } => told = Some(which),
                }
                if told.is_some() {
                    break;
                }
            }
            let mut told: Vec<u64> = told.expect("settled").into_iter().map(|at| at as u64 + 1).collect();
            let (mut settled, mut refused): (HashMap<u64, u32>, Vec<u64>) = Default::default();
            for log in &logs {
                let mut last = 0;
                for (sent, says) in std::mem::take(&mut *log.lock().unwrap()) {
                    prop_assert!(sent.is_sorted() && sent[0] > last, "in order, and nothing settled comes again");
                    if let Says::Refused(which) = &says {
                        let mut which: Vec<u64> = which.iter().filter_map(|at| sent.get(*at).copied()).collect();
                        which.sort_unstable();
                        which.dedup();
                        refused.extend(which);
                    }
                    if !matches!(says, Says::Later(_)) {
                        last = *sent.last().unwrap();
                        sent.into_iter().for_each(|seq| *settled.entry(seq).or_default() += 1);
                    }
                }
            }
            prop_assert_eq!(settled.len() as u64, size);
            prop_assert!(settled.values().all(|times| *times == 1));
            refused.sort_unstable();
            told.sort_unstable();
            told.dedup();
            prop_assert_eq!(told, refused);
            prop_assert!(lanes.settled().iter().all(Option::is_none), "nothing is remembered beyond the batch");
        }
    }
}

#[tokio::test]
async fn the_longest_wait_that_a_lane_asks_for_counts_and_another_batch_forgets_the_first() {
    let (lanes, logs) = lanes(vec![vec![Says::Later(Some(3))], vec![Says::Later(Some(7))], vec![]]);
    let first = batch(3);
    match lanes.send(&first).await {
        Verdict::Retry { after, .. } => assert_eq!(after, Some(Duration::from_secs(7))),
        verdict => panic!("{verdict:?}"),
    }
    // A reload may have changed what the sink gets.
    assert!(matches!(lanes.send(&batch(3)).await, Verdict::Delivered));
    assert_eq!(logs[2].lock().unwrap().len(), 2, "what the third lane had of the other batch is not of this one");
}

#[tokio::test]
async fn a_send_that_is_given_up_keeps_what_was_settled() {
    struct Never;
    impl Sink for Never {
        fn send<'a>(&'a self, _: &'a [Stored]) -> BoxFuture<'a, Verdict> {
            Box::pin(std::future::pending())
        }
        fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
            Box::pin(async { Ok(()) })
        }
    }
    let log = Log::default();
    let scripted = Box::new(Scripted { script: Mutex::default(), log: log.clone() });
    let lanes = Lanes::new(vec![scripted, Box::new(Never)]);
    let all = batch(4);
    for _ in 0..2 {
        tokio::select! {
            biased;
            _ = lanes.send(&all) => panic!("the second lane never answers"),
            () = async { for _ in 0..10 { tokio::task::yield_now().await; } } => {}
        }
    }
    assert_eq!(log.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn all_lanes_are_under_way_at_once() {
    struct Meets(Arc<Barrier>);
    impl Sink for Meets {
        fn send<'a>(&'a self, _: &'a [Stored]) -> BoxFuture<'a, Verdict> {
            Box::pin(async {
                self.0.wait().await;
                Verdict::Delivered
            })
        }
        fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
            Box::pin(async { Ok(()) })
        }
    }
    let barrier = Arc::new(Barrier::new(4));
    let lanes = Lanes::new((0..4).map(|_| Box::new(Meets(barrier.clone())) as Box<dyn Sink>).collect());
    let sent = tokio::time::timeout(Duration::from_secs(20), lanes.send(&batch(10))).await;
    assert!(matches!(sent, Ok(Verdict::Delivered)), "each waits for the other three: {sent:?}");
}

#[tokio::test]
async fn a_configured_sink_has_a_connection_for_each_lane() {
    let receiver = Receiver::start(|_, _| says(204, "")).await;
    let yaml = format!("{{ type: webhook, url: '{}', concurrency: 3 }}", receiver.url());
    let sink = built(&yaml, std::path::Path::new(".")).unwrap();
    let all = batch(30);
    for _ in 0..2 {
        assert!(matches!(sink.send(&all).await, Verdict::Delivered));
    }
    assert_eq!((receiver.connections(), receiver.got().len()), (3, 60));
    let told = problems("{ type: webhook, url: 'https://a.test/', concurrency: 17 }");
    assert!(told.contains("from 1 to 16"), "{told}");
    let told = problems("{ type: file, path: x, concurrency: 2 }");
    assert!(told.contains("unknown key `concurrency`"), "a file has one order: {told}");
}
