//! What the event store costs: durable appends with one sink reading along, on one core, and a
//! question about one actor among a million events. `docs/store.md` says how to repeat it:
//! `taskset -c 1 cargo bench --bench spool`.
//!
//! Plain, not by criterion: each figure is one long run over a file that grows as in use.

#![allow(clippy::expect_used, reason = "a bench that cannot go on has nothing to say")]

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use authtap::event::{
    Actor, Client, Event, EventId, EventType, Geo, Metadata, Mode, Outcome, Request, SCHEMA_VERSION, Source, Text,
    Timestamp,
};
use authtap::spool::settings::{Durability, Retention, SpoolSettings};
use authtap::spool::store::EventStore;
use authtap::spool::{Ack, Spool};
use authtap::telemetry::Metrics;

const ACTORS: u64 = 20_000;
const BATCH: u64 = 256;

fn text(value: &str) -> Option<Text> {
    Text::other(value)
}

/// A login as a real one looks: about 600 bytes of JSON, one of 20,000 actors and many addresses.
fn login(number: u64) -> Event {
    // Spread over actors without an order that would help an index.
    let who = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % ACTORS;
    let [_, _, _, _, a, b, c, d] = number.wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes();
    Event {
        schema_version: SCHEMA_VERSION,
        id: EventId::new(),
        event_type: EventType::fixed("user.login.success"),
        timestamp: Timestamp::now(),
        outcome: Outcome::Success,
        reason: None,
        actor: Actor {
            id: text(&format!("usr_{who}")),
            email: text(&format!("user{who}@example.test")),
            login: None,
            kind: text("user"),
        },
        target: None,
        organization: None,
        metadata: Metadata {
            ip_address: Some([a, b, c, d].into()),
            user_agent: text("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
            method: text("password"),
            session_id: text("s_9f2c0b1d7a6e4f53"),
            geo: Some(Geo { country: text("GB"), ..Geo::default() }),
            client: Some(Client { browser: text("Firefox"), os: text("Linux"), device: text("desktop"), bot: false }),
            request: Some(Request {
                id: text("0193b0a2-7c3e-7000-8000-000000000000").unwrap_or_default(),
                method: Text::fixed("POST"),
                host: text("app.example.test"),
                path: Text::fixed("/accounts/login/"),
                status: Some(302),
                duration_ms: 41.2,
                ended: None,
                trace_id: None,
            }),
            ..Metadata::default()
        },
        source: Source {
            route: text("login"),
            rule: text("redirected-away"),
            preset: None,
            mode: Mode::Routes,
            confidence: 1.0,
        },
    }
}

/// User and system time of this process so far, in seconds (proc(5), fields 14 and 15).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum::<f64>();
    ticks / 100.0
}

fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn main() {
    let count: u64 = std::env::var("EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    // `cargo test --benches` only wants to know that it runs.
    let count = if std::env::args().any(|a| a == "--bench") { count } else { 2_000 };
    let folder = tempfile::tempdir_in(std::env::var("FOLDER").unwrap_or_else(|_| ".".into())).expect("a folder");
    let settings = SpoolSettings {
        durability: Durability::Interval(Duration::from_millis(5)),
        retention: Retention { size: 20 << 30, ..Retention::default() },
    };
    let metrics = Arc::new(Metrics::new());
    let store = Arc::new(EventStore::open(folder.path(), settings, metrics.clone()).expect("a store"));
    store.resume("sink", 0);

    let (began, cpu) = (Instant::now(), cpu_seconds());
    // One sink that takes what comes, as a delivery task does, noting every batch.
    let sink = {
        let store = store.clone();
        std::thread::spawn(move || {
            let (mut position, mut bytes) = (0, 0_usize);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let mut appended = store.appended();
            while position < count {
                let batch = store.read(position, 500);
                let Some(last) = batch.events.last() else {
                    let _ = runtime.block_on(appended.changed());
                    continue;
                };
                position = last.seq;
                bytes += batch.events.iter().map(|one| one.line.len()).sum::<usize>();
                let ack = Ack { sink: "sink".into(), position, delivered: batch.events.len() as u64, ..Ack::default() };
                store.acknowledge(ack).wait_blocking();
            }
            bytes
        })
    };
    let mut number = 0;
    while number < count {
        let until = (number + BATCH).min(count);
        let batch = (number..until).map(login).collect();
        store.make_room();
        store.append(batch);
        number = until;
    }
    let bytes = sink.join().expect("the sink ends");
    store.on_disk().wait_blocking();
    let (elapsed, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let lost = metrics.losses().iter().map(|(_, n)| n).sum::<u64>();
    let rate = count as f64 / elapsed;
    say(&format!("append+sink: {count} events of {} bytes in {elapsed:.1} s: {rate:.0}/s", bytes as u64 / count));
    say(&format!(
        "cpu: {:.1} us an event (making it, committing it, reading it), {lost} lost",
        cpu * 1e6 / count as f64
    ));
    store.close();

    let path = folder.path().join(authtap::spool::store::FILE);
    let size = std::fs::metadata(&path).map_or(0, |m| m.len());
    say(&format!("file: {} MB, {} bytes an event", size >> 20, size / count));
    let mut worst = Duration::ZERO;
    let mut total = Duration::ZERO;
    let mut found = 0;
    const QUESTIONS: u64 = 50;
    for n in 0..QUESTIONS {
        let name = format!("user{}@example.test", n * 331 % ACTORS);
        let began = Instant::now();
        let filter = authtap::filter::Filter::from_query([("actor", name.as_str())]).expect("a filter");
        let history = authtap::history::History::open(folder.path()).expect("the file");
        let query = authtap::history::Query { filter, ..authtap::history::Query::default() };
        history
            .each(&query, &mut |_| {
                found += 1;
                Ok(true)
            })
            .expect("an answer");
        let took = began.elapsed();
        worst = worst.max(took);
        total += took;
    }
    say(&format!(
        "one actor of {ACTORS}: {:.2} ms on average, {:.2} ms at worst, {found} events in {QUESTIONS} questions",
        total.as_secs_f64() * 1e3 / QUESTIONS as f64,
        worst.as_secs_f64() * 1e3
    ));
}
