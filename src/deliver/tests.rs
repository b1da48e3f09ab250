use std::collections::VecDeque;
use std::future::pending;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use tokio::time::{sleep, timeout};

use super::feeder::{DOWN, LAG, REPLACED};
use super::*;
use crate::sinks::{BoxFuture, SinkError, Verdict, batch};
use crate::spool::Stored;
use crate::spool::memory::MemorySpool;
use crate::spool::sample::{login, of_type};
use crate::spool::settings::{Durability, SpoolSettings};
use crate::spool::store::EventStore;

/// Longer than anything here takes on the paused clock.
const AGES: Duration = Duration::from_secs(100_000);

#[derive(Clone)]
enum Answer {
    Deliver,
    Retry(Option<Duration>),
    Refuse(Vec<usize>),
    Panic,
    PanicLater,
    Hang,
    /// Retry no sooner than in an hour, said after a second.
    RetryLate,
}

/// One call of `send`: when, with what, and whether it was taken.
#[derive(Clone)]
struct Call {
    at: Instant,
    seqs: Vec<u64>,
    taken: bool,
}

/// A sink that answers by a script, then always the same.
struct Scripted {
    script: Mutex<VecDeque<Answer>>,
    then: Answer,
    calls: watch::Sender<Vec<Call>>,
    reopened: AtomicU64,
}

impl Scripted {
    fn new(script: &[Answer], then: Answer) -> Arc<Scripted> {
        Arc::new(Scripted {
            script: Mutex::new(script.iter().cloned().collect()),
            then,
            calls: watch::channel(Vec::new()).0,
            reopened: AtomicU64::new(0),
        })
    }

    fn good() -> Arc<Scripted> {
        Scripted::new(&[], Answer::Deliver)
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.borrow().clone()
    }

    fn taken(&self) -> Vec<u64> {
        self.calls().into_iter().filter(|call| call.taken).flat_map(|call| call.seqs).collect()
    }

    /// Waits until it was called this often.
    async fn called(&self, times: usize) {
        let mut calls = self.calls.subscribe();
        timeout(AGES, calls.wait_for(|calls| calls.len() >= times)).await.expect("called in time").unwrap();
    }

    /// Waits until it took the event at this position.
    async fn took(&self, seq: u64) {
        let mut calls = self.calls.subscribe();
        let done = |calls: &Vec<Call>| calls.iter().any(|call| call.taken && call.seqs.contains(&seq));
        timeout(AGES, calls.wait_for(done)).await.expect("taken in time").unwrap();
    }
}

impl Sink for Scripted {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        assert!(!batch.is_empty(), "a batch is never empty");
        let next = self.script.lock().unwrap().pop_front();
        let answer = next.unwrap_or_else(|| self.then.clone());
        let taken = matches!(answer, Answer::Deliver | Answer::Refuse(_));
        let call = Call { at: Instant::now(), seqs: batch.iter().map(|one| one.seq).collect(), taken };
        self.calls.send_modify(|calls| calls.push(call));
        if matches!(answer, Answer::Panic) {
            panic!("a sink of a test panics");
        }
        Box::pin(async move {
            let why = SinkError::Other("the test says so".into());
            match answer {
                Answer::Deliver => Verdict::Delivered,
                Answer::Retry(after) => Verdict::Retry { after, why },
                Answer::Refuse(which) => Verdict::Refused { which, why },
                Answer::Hang => pending().await,
                Answer::RetryLate => {
                    sleep(Duration::from_secs(1)).await;
                    Verdict::Retry { after: Some(Duration::from_secs(3600)), why }
                }
                Answer::Panic | Answer::PanicLater => {
                    tokio::task::yield_now().await;
                    panic!("a sink of a test panics later")
                }
            }
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }

    fn reopen(&self) {
        self.reopened.fetch_add(1, Relaxed);
        if matches!(self.then, Answer::Panic) {
            panic!("a sink of a test panics");
        }
    }
}

fn spec(name: &str, sink: &Arc<Scripted>) -> RunningSinkSpec {
    RunningSinkSpec { name: name.into(), sink: sink.clone(), filter: Filter::default(), batch: BatchLimits::default() }
}

struct Bench {
    spool: Arc<MemorySpool>,
    metrics: Arc<Metrics>,
}

impl Bench {
    fn new(capacity: usize) -> Bench {
        Bench { spool: Arc::new(MemorySpool::new(capacity)), metrics: Arc::new(Metrics::new()) }
    }

    fn append(&self, count: usize) {
        self.spool.append((0..count).map(|_| login("alice")).collect());
    }

    fn start(&self, sinks: Vec<RunningSinkSpec>) -> Delivery {
        Delivery::start(&Handle::current(), self.spool.clone(), self.metrics.clone(), sinks)
    }

    /// A line of the metrics, as a number; 0 if there is none.
    fn metric(&self, series: &str) -> u64 {
        let text = self.metrics.render();
        let line = text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    fn sink(&self, name: &str, result: &str) -> u64 {
        self.metric(&format!("authtap_sink_events_total{{sink=\"{name}\",result=\"{result}\"}}"))
    }

    fn lag(&self, name: &str) -> u64 {
        self.metric(&format!("authtap_sink_lag_events{{sink=\"{name}\"}}"))
    }
}

fn nothing() -> Drained {
    Drained::default()
}

#[tokio::test(start_paused = true)]
async fn events_arrive_in_order_in_batches_of_bounded_size() {
    let bench = Bench::new(5000);
    bench.append(1201);
    let sink = Scripted::good();
    let delivery = bench.start(vec![spec("a", &sink)]);
    sink.took(1201).await;
    bench.append(3);
    assert_eq!(delivery.drain(AGES).await, nothing());
    assert!(sink.taken().into_iter().eq(1..=1204));
    assert!(sink.calls().iter().all(|call| call.seqs.len() <= batch::MAX_EVENTS));
    assert_eq!((bench.sink("a", "delivered"), bench.sink("a", "retried"), bench.lag("a")), (1204, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failing_sink_gets_the_same_batch_until_it_takes_it() {
    let bench = Bench::new(100);
    bench.append(3);
    let script = [Answer::Retry(None), Answer::Retry(None), Answer::Retry(None)];
    let sink = Scripted::new(&script, Answer::Deliver);
    let delivery = bench.start(vec![spec("a", &sink)]);
    sink.called(1).await;
    bench.append(4);
    sink.took(3).await;
    assert_eq!(delivery.drain(AGES).await, nothing());
    let calls = sink.calls();
    assert!(calls.iter().take(4).all(|call| call.seqs == [1, 2, 3]));
    assert!(sink.taken().into_iter().eq(1..=7));
    for (n, (one, next)) in calls.iter().zip(calls.iter().skip(1)).take(3).enumerate() {
        // Timers of tokio round up to the millisecond.
        let bound = retry::FIRST * 2_u32.pow(n as u32) + Duration::from_millis(2);
        assert!(next.at - one.at <= bound, "wait {n}: {:?}", next.at - one.at);
    }
    assert_eq!((bench.sink("a", "retried"), bench.sink("a", "delivered")), (9, 7));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_asks_for_time_is_given_it() {
    let bench = Bench::new(100);
    bench.append(1);
    let asked = Duration::from_secs(120);
    let sink = Scripted::new(&[Answer::Retry(Some(asked))], Answer::Deliver);
    let delivery = bench.start(vec![spec("a", &sink)]);
    sink.took(1).await;
    let calls = sink.calls();
    assert!(calls[1].at - calls[0].at >= asked);
    assert_eq!(delivery.drain(AGES).await, nothing());
}

#[tokio::test(start_paused = true)]
async fn refused_events_are_counted_and_the_others_go_on() {
    let bench = Bench::new(100);
    bench.append(5);
    // The second index stands twice and the last is none of this batch.
    let sink = Scripted::new(&[Answer::Refuse(vec![3, 1, 1, 99])], Answer::Deliver);
    let delivery = bench.start(vec![spec("a", &sink)]);
    sink.called(1).await;
    bench.append(2);
    assert_eq!(delivery.drain(AGES).await, nothing());
    assert_eq!(sink.calls().iter().map(|c| c.seqs.clone()).collect::<Vec<_>>(), [vec![1, 2, 3, 4, 5], vec![6, 7]]);
    assert_eq!((bench.sink("a", "refused"), bench.sink("a", "delivered")), (2, 5));
    assert_eq!(bench.metrics.dropped_so_far(Drop::Refused), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dead_sink_delays_no_other() {
    let bench = Bench::new(100);
    let (good, hangs) = (Scripted::good(), Scripted::new(&[], Answer::Hang));
    let (fails, panics) = (Scripted::new(&[], Answer::Retry(None)), Scripted::new(&[], Answer::Panic));
    let all = vec![spec("hangs", &hangs), spec("fails", &fails), spec("panics", &panics), spec("good", &good)];
    let delivery = bench.start(all);
    let began = Instant::now();
    for seq in 1..=20 {
        bench.append(1);
        good.took(seq).await;
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    let drained = delivery.drain(Duration::from_secs(5)).await;
    assert_eq!(drained.left, [("hangs".into(), 20), ("fails".into(), 20), ("panics".into(), 20)]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_at_once_or_later_is_a_reason_to_try_again() {
    let bench = Bench::new(100);
    bench.append(2);
    let sink = Scripted::new(&[Answer::Panic, Answer::PanicLater], Answer::Deliver);
    let delivery = bench.start(vec![spec("a", &sink)]);
    sink.took(2).await;
    assert_eq!(delivery.drain(AGES).await, nothing());
    assert_eq!((sink.calls().len(), sink.taken()), (3, vec![1, 2]));
    assert_eq!((bench.sink("a", "retried"), bench.sink("a", "delivered")), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn a_filter_lets_through_what_is_wanted_and_counts_the_rest() {
    let bench = Bench::new(100);
    let types = ["user.login.failed", "user.logout", "user.login.success", "api_key.created", "user.logout"];
    let sink = Scripted::good();
    let filter = Filter::new(&["user.*"], &["*.success"]).unwrap();
    let delivery = bench.start(vec![RunningSinkSpec { filter, ..spec("a", &sink) }]);
    bench.spool.append(types.iter().map(|t| of_type(t, "alice")).collect());
    sink.took(5).await;
    // A batch of which nothing is wanted is never sent: the sink asserts it.
    bench.spool.append(vec![of_type("api_key.created", "alice")]);
    assert_eq!(delivery.drain(AGES).await, nothing());
    assert_eq!(sink.taken(), [1, 2, 5]);
    assert_eq!((bench.sink("a", "filtered"), bench.sink("a", "delivered")), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn what_the_spool_gave_up_is_counted_but_not_what_is_in_hand() {
    let bench = Bench::new(10);
    bench.append(15);
    let sink = Scripted::new(&[Answer::Retry(None)], Answer::Deliver);
    let delivery = bench.start(vec![spec("a", &sink)]);
    sink.called(1).await;
    assert_eq!(bench.sink("a", "skipped"), 5);
    bench.append(30);
    assert_eq!(delivery.drain(AGES).await, nothing());
    assert!(sink.taken().into_iter().eq((6..=15).chain(36..=45)));
    assert_eq!((bench.sink("a", "skipped"), bench.sink("a", "delivered")), (25, 20));
    assert_eq!(bench.metrics.dropped_so_far(Drop::SpoolFull), 25);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_sink_goes_on_at_once_from_its_position_and_a_new_one_starts_with_the_next_event() {
    let bench = Bench::new(100);
    bench.append(3);
    let hour = Some(Duration::from_secs(3600));
    let (bad, gone) = (Scripted::new(&[Answer::Deliver], Answer::Retry(hour)), Scripted::good());
    let mut delivery = bench.start(vec![spec("a", &bad), spec("gone", &gone)]);
    bad.took(3).await;
    gone.took(3).await;
    bench.append(2);
    bad.called(2).await;
    let (better, new) = (Scripted::good(), Scripted::good());
    let began = Instant::now();
    bench.append(1);
    delivery.replace(vec![spec("new", &new), spec("a", &better)]);
    bench.append(1);
    better.took(7).await;
    assert_eq!(began.elapsed(), Duration::ZERO, "the hour the old sink asked for is not waited for");
    assert_eq!(delivery.drain(AGES).await, nothing());
    assert_eq!((bad.taken(), better.taken()), (vec![1, 2, 3], vec![4, 5, 6, 7]));
    assert_eq!(new.taken(), [7]);
    assert_eq!(gone.taken(), [1, 2, 3, 4, 5, 6], "what was there when it was taken out, and no more");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_is_let_go_when_it_is_replaced_and_one_that_finishes_is_not_sent_twice() {
    let bench = Bench::new(100);
    bench.append(1);
    let hangs = Scripted::new(&[], Answer::Hang);
    let mut delivery = bench.start(vec![spec("a", &hangs)]);
    hangs.called(1).await;
    let better = Scripted::good();
    let began = Instant::now();
    delivery.replace(vec![spec("a", &better)]);
    better.took(1).await;
    assert_eq!(began.elapsed(), REPLACED);
    delivery.replace(vec![spec("a", &better)]);
    assert_eq!(delivery.drain(AGES).await, nothing());
    assert_eq!(better.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_sink_replaced_while_it_sends_does_not_make_its_successor_wait() {
    let bench = Bench::new(100);
    bench.append(1);
    let slow = Scripted::new(&[], Answer::RetryLate);
    let mut delivery = bench.start(vec![spec("a", &slow)]);
    slow.called(1).await;
    let better = Scripted::good();
    let began = Instant::now();
    delivery.replace(vec![spec("a", &better)]);
    better.took(1).await;
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    assert_eq!(delivery.drain(AGES).await, nothing());
}

#[tokio::test(start_paused = true)]
async fn a_sink_taken_out_while_it_fails_gets_its_moment_and_its_loss_is_counted() {
    let bench = Bench::new(100);
    bench.append(4);
    let fails = Scripted::new(&[], Answer::Retry(None));
    let mut delivery = bench.start(vec![spec("a", &fails)]);
    fails.called(1).await;
    delivery.replace(Vec::new());
    bench.append(9);
    assert_eq!(delivery.drain(AGES).await.left, [("a".to_owned(), 4)]);
    assert_eq!(bench.metrics.dropped_so_far(Drop::Shutdown), 4);
}

#[tokio::test(start_paused = true)]
async fn draining_ends_with_the_deadline_and_counts_what_is_left() {
    let bench = Bench::new(1000);
    bench.append(700);
    let (good, fails) = (Scripted::good(), Scripted::new(&[Answer::Deliver], Answer::Retry(None)));
    let only = Scripted::new(&[], Answer::Hang);
    let filter = Filter::new(&["user.logout"], &[]).unwrap();
    bench.spool.append(vec![of_type("user.logout", "alice")]);
    let delivery = bench.start(vec![
        spec("good", &good),
        spec("fails", &fails),
        RunningSinkSpec { filter, ..spec("only", &only) },
    ]);
    let began = Instant::now();
    let drained = delivery.drain(Duration::from_secs(8)).await;
    assert_eq!(began.elapsed(), Duration::from_secs(8));
    assert_eq!(drained.left, [("fails".into(), 201), ("only".into(), 1)]);
    assert_eq!(bench.metrics.dropped_so_far(Drop::Shutdown), 202);
    assert_eq!(good.taken().len(), 701);
}

#[tokio::test(start_paused = true)]
async fn draining_tries_at_once_what_was_waiting_to_be_tried_again() {
    let bench = Bench::new(100);
    bench.append(1);
    let sink = Scripted::new(&[Answer::Retry(Some(Duration::from_secs(3000)))], Answer::Deliver);
    let delivery = bench.start(vec![spec("a", &sink)]);
    sink.called(1).await;
    let began = Instant::now();
    assert_eq!(delivery.drain(Duration::from_secs(5)).await, nothing());
    assert_eq!((began.elapsed(), sink.taken()), (Duration::ZERO, vec![1]));
}

#[tokio::test]
async fn draining_delivers_what_was_not_on_disk_yet_when_it_began() {
    let folder = tempfile::tempdir().unwrap();
    let durability = Durability::Interval(AGES);
    let metrics = Arc::new(Metrics::new());
    let settings = SpoolSettings { durability, ..SpoolSettings::default() };
    let spool = Arc::new(EventStore::open(folder.path(), settings, metrics.clone()).unwrap());
    let sink = Scripted::good();
    let delivery = Delivery::start(&Handle::current(), spool.clone(), metrics, vec![spec("a", &sink)]);
    spool.append(vec![login("alice")]);
    assert_eq!(delivery.drain(AGES).await, Drained { left: Vec::new(), kept: true });
    assert_eq!(sink.taken(), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_does_not_wait_for_a_sink_that_blocks_its_thread() {
    /// Blocks until its channel is closed.
    struct Blocks(Mutex<std::sync::mpsc::Receiver<()>>, watch::Sender<bool>);
    impl Sink for Blocks {
        fn send<'a>(&'a self, _: &'a [Stored]) -> BoxFuture<'a, Verdict> {
            self.1.send_replace(true);
            let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).recv();
            Box::pin(async { Verdict::Delivered })
        }

        fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
            Box::pin(async { Ok(()) })
        }
    }
    let (release, blocked) = std::sync::mpsc::sync_channel(1);
    let (called, mut entered) = watch::channel(false);
    let bench = Bench::new(100);
    bench.append(2);
    let sink = Arc::new(Blocks(Mutex::new(blocked), called));
    let delivery = bench.start(vec![RunningSinkSpec {
        name: "a".into(),
        sink,
        filter: Filter::default(),
        batch: BatchLimits::default(),
    }]);
    entered.wait_for(|entered| *entered).await.unwrap();
    assert_eq!(delivery.drain(Duration::ZERO).await.left, [("a".to_owned(), 2)]);
    drop(release);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_dropped_stops_and_counts_what_is_left() {
    let bench = Bench::new(100);
    bench.append(3);
    let sink = Scripted::new(&[], Answer::Hang);
    let delivery = bench.start(vec![spec("a", &sink)]);
    sink.called(1).await;
    let mut calls = sink.calls.subscribe();
    drop(sink);
    drop(delivery);
    // The task held the last handle of the sink, and lets go of it when it ends.
    timeout(AGES, async { while calls.changed().await.is_ok() {} }).await.expect("the task ends");
    assert_eq!(bench.metrics.dropped_so_far(Drop::Shutdown), 3);
}

#[tokio::test(start_paused = true)]
async fn reopening_reaches_every_sink_even_if_one_panics() {
    let bench = Bench::new(100);
    let (panics, good) = (Scripted::new(&[], Answer::Panic), Scripted::good());
    let delivery = bench.start(vec![spec("panics", &panics), spec("good", &good)]);
    delivery.reopen();
    assert_eq!((panics.reopened.load(Relaxed), good.reopened.load(Relaxed)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_outage_shows_as_lag_while_it_lasts() {
    let bench = Bench::new(100);
    let sink = Scripted::new(&[], Answer::Hang);
    let delivery = bench.start(vec![spec("a", &sink)]);
    bench.append(1);
    sink.called(1).await;
    bench.append(6);
    sleep(LAG * 2).await;
    assert_eq!(bench.lag("a"), 7);
    drop(delivery);
}

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_logged_when_it_begins_and_when_it_ends_and_events_are_not() {
    let log = Log::default();
    let to = log.clone();
    // With one subscriber alone, whichever thread is first at a place in the code is asked whether anybody
    // listens there; the threads of other tests have nobody. With two, all subscribers are asked.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || to.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let bench = Bench::new(100);
    bench.append(2);
    let mut script = vec![Answer::Retry(None); 5];
    script.extend([Answer::Refuse(vec![0]), Answer::Refuse(vec![0]), Answer::Refuse(vec![0])]);
    let sink = Scripted::new(&script, Answer::Deliver);
    let delivery = bench.start(vec![spec("siem", &sink)]);
    sink.called(6).await;
    for calls in [7, 8] {
        bench.append(1);
        sink.called(calls).await;
    }
    assert_eq!(delivery.drain(AGES).await, nothing());

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let count = |what: &str| text.lines().filter(|l| l.contains(what) && l.contains("sink=siem")).count();
    assert_eq!(count("a sink fails; its events wait in the spool"), 1, "{text}");
    assert_eq!(count("failed_attempts=5"), 1, "{text}");
    // At once for the first; the two after it with the end of the task.
    assert_eq!((count("refused events for good"), count("events=1"), count("events=2")), (1, 1, 1), "{text}");
    assert!(text.contains("the test says so") && !text.contains("alice") && !text.contains("203.0.113"), "{text}");
}

fn types(spool: &dyn Spool) -> Vec<String> {
    spool.read(0, usize::MAX).events.iter().map(|one| one.event.event_type.as_str().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_for_half_a_minute_is_told_once_and_told_again_when_it_is_back() {
    let bench = Bench::new(100);
    bench.append(1);
    let hour = Some(Duration::from_secs(3600));
    let sink = Scripted::new(&[Answer::Retry(hour), Answer::Retry(hour)], Answer::Deliver);
    let delivery = bench.start(vec![spec("siem", &sink)]);
    let began = Instant::now();
    let mut appended = bench.spool.appended();
    appended.wait_for(|newest| *newest == 2).await.unwrap();
    assert_eq!(began.elapsed(), DOWN, "not only at the next attempt");
    appended.wait_for(|newest| *newest == 3).await.unwrap();
    assert_eq!(types(&*bench.spool), ["user.login.failed", "authtap.sink.down", "authtap.sink.up"]);
    let down = bench.spool.read(1, 1).events.remove(0);
    assert!(down.line.contains("\"sink\":\"siem\"") && down.line.contains("\"waiting\":\"1\""), "{}", down.line);
    assert_eq!(delivery.drain(AGES).await, nothing());
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_as_long_as_it_may_to_fill_up_and_no_longer() {
    let bench = Bench::new(100);
    let sink = Scripted::good();
    let limits = BatchLimits { max_events: 3, max_wait: Duration::from_secs(10), ..BatchLimits::default() };
    let delivery = bench.start(vec![RunningSinkSpec { batch: limits, ..spec("a", &sink) }]);
    let began = Instant::now();
    bench.append(2);
    sink.took(2).await;
    assert_eq!(began.elapsed(), Duration::from_secs(10), "two of three wait for the third");
    bench.append(4);
    sink.took(5).await;
    assert_eq!(began.elapsed(), Duration::from_secs(10), "a full batch goes at once");
    assert_eq!(delivery.drain(AGES).await, nothing(), "the end waits for nothing");
    assert_eq!(sink.calls().iter().map(|c| c.seqs.len()).collect::<Vec<_>>(), [2, 3, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_replaced_while_its_batch_fills_up_is_not_sent_that_batch() {
    let bench = Bench::new(100);
    let (old, new) = (Scripted::new(&[], Answer::Hang), Scripted::good());
    let limits = BatchLimits { max_wait: Duration::from_secs(3600), ..BatchLimits::default() };
    let mut delivery = bench.start(vec![RunningSinkSpec { batch: limits, ..spec("a", &old) }]);
    bench.append(2);
    tokio::time::advance(Duration::from_secs(60)).await;
    let began = Instant::now();
    delivery.replace(vec![spec("a", &new)]);
    new.took(2).await;
    assert_eq!((old.calls().len(), began.elapsed()), (0, Duration::ZERO));
    assert_eq!(delivery.drain(AGES).await, nothing());
}

/// A spool on disk, as the program has it.
fn on_disk(folder: &std::path::Path) -> Arc<crate::spool::store::EventStore> {
    let settings = crate::spool::settings::SpoolSettings {
        retention: crate::spool::settings::Retention { age: Duration::MAX, size: 1 << 30 },
        ..Default::default()
    };
    Arc::new(crate::spool::store::EventStore::open(folder, settings, Arc::new(Metrics::new())).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_was_refused_is_kept_over_a_restart_and_sent_again_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new());
    let store = on_disk(folder.path());
    let sink = Scripted::new(&[Answer::Refuse(vec![1])], Answer::Deliver);
    store.append(["alice", "bob", "carol"].map(login).into());
    store.on_disk().wait().await;
    let delivery = Delivery::start(&Handle::current(), store.clone(), metrics.clone(), vec![spec("siem", &sink)]);
    sink.called(1).await;
    assert_eq!(delivery.drain(AGES).await, Drained { left: Vec::new(), kept: true });
    store.close();
    drop(store);

    let store = on_disk(folder.path());
    assert_eq!(store.dead_letters("siem", 0, 10).len(), 1);
    let sink = Scripted::good();
    let delivery = Delivery::start(&Handle::current(), store.clone(), metrics.clone(), vec![spec("siem", &sink)]);
    assert!(!delivery.replay("other", None, true), "no such sink");
    assert!(delivery.replay("siem", None, true));
    sink.took(2).await;
    assert_eq!(sink.taken(), [2], "what was delivered is not sent again");
    let done = async {
        while store.wants_dead_letters("siem") {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), done).await.expect("the replay ends");
    assert_eq!(delivery.drain(AGES).await.left, []);
    assert!(store.dead_letters("siem", 0, 10).is_empty() && !store.wants_dead_letters("siem"));
    store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_was_not_taken_waits_for_the_next_start_and_a_new_sink_begins_where_the_process_did() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new());
    let store = on_disk(folder.path());
    let dead = Scripted::new(&[], Answer::Retry(None));
    let delivery = Delivery::start(&Handle::current(), store.clone(), metrics.clone(), vec![spec("siem", &dead)]);
    store.append(["alice", "bob"].map(login).into());
    store.on_disk().wait().await;
    dead.called(1).await;
    let drained = delivery.drain(Duration::from_millis(10)).await;
    assert_eq!(drained, Drained { left: vec![("siem".into(), 2)], kept: true });
    assert_eq!(metrics.dropped_so_far(Drop::Shutdown), 0);
    store.close();
    drop(store);

    let store = on_disk(folder.path());
    let (siem, new) = (Scripted::good(), Scripted::good());
    let sinks = vec![spec("siem", &siem), spec("new", &new)];
    let delivery = Delivery::start(&Handle::current(), store.clone(), metrics, sinks);
    store.append(vec![login("carol")]);
    siem.took(3).await;
    new.took(3).await;
    assert_eq!((siem.taken(), new.taken()), (vec![1, 2, 3], vec![3]));
    assert_eq!(delivery.drain(AGES).await.left, []);
    store.close();
}
