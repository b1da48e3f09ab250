//! An application that resets, stalls, lies about lengths, dies inside bodies, dies as a whole and
//! returns, all under load: every request gets the right answer or one that says that there is none,
//! never a byte that belongs to another, and nothing is left behind.
//!
//! Bounded by a count in the normal run; `AUTHTAP_SLOW=1` makes a minute of each.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::binary::Running;
use crate::harness::faulty::{Fault, Faulty, HTTP2, STREAMS, body_of, fault_of};
use crate::harness::{Client, Message, at, eventually, get, slow, tell};

/// How long the application may take to begin an answer, and to go on with it.
const PATIENT: Duration = Duration::from_millis(400);
const CLIENTS: usize = 16;
/// How many requests of a run are in the normal one.
const REQUESTS: u64 = 1_500;

/// What came of a request.
#[derive(Debug, PartialEq)]
enum Came {
    Whole(Message),
    /// The answer, or its connection, ended before its end.
    Cut(Option<Message>),
}

/// The application's life, in numbers that grow: it lives, dies, is dead, rises, lives.
struct Life<'f> {
    faulty: &'f Faulty,
    stage: AtomicUsize,
}

impl Life<'_> {
    fn die_and_return(&self, while_dead: impl FnOnce()) {
        self.stage.fetch_add(1, SeqCst);
        self.faulty.die();
        self.stage.fetch_add(1, SeqCst);
        while_dead();
        self.stage.fetch_add(1, SeqCst);
        self.faulty.rise();
        self.stage.fetch_add(1, SeqCst);
    }
}

/// One run: its numbers, shared by all clients.
struct Storm<'f> {
    proxy: SocketAddr,
    faults: &'static [(Fault, u32)],
    /// Whether one request's fault may take others with it.
    shared_fate: bool,
    life: Life<'f>,
    next: AtomicU64,
    done: AtomicU64,
    until: Option<Instant>,
}

/// What a client saw, by fault: how many in all, whole, cut, refused.
type Tally = BTreeMap<Fault, [u64; 4]>;

fn method_of(id: u64) -> &'static str {
    match id % 10 {
        0..=5 => "GET",
        6..=7 => "POST",
        8 => "DELETE",
        _ => "HEAD",
    }
}

fn request(id: u64) -> Vec<u8> {
    let method = method_of(id);
    let head = format!("{method} /n/{id} HTTP/1.1\r\nHost: app.example.test\r\n");
    if method != "POST" {
        return format!("{head}\r\n").into_bytes();
    }
    let body = [format!("user=u{id}&").as_bytes(), &body_of(id, "up")].concat();
    let head =
        format!("{head}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), &body].concat()
}

fn exchange(client: &mut Client, id: u64) -> Came {
    if client.try_send(request(id)).is_err() {
        return Came::Cut(None);
    }
    loop {
        match client.try_answer(method_of(id)) {
            Ok(Some(interim)) if interim.status() / 100 == 1 => {}
            Ok(Some(answer)) if answer.whole => return Came::Whole(answer),
            Ok(cut) => return Came::Cut(cut),
            Err(error) => {
                let hangs = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!hangs, "request {id} is never answered");
                return Came::Cut(None);
            }
        }
    }
}

impl Storm<'_> {
    /// Whether another request is to be made; its number.
    fn another(&self) -> Option<u64> {
        let id = self.next.fetch_add(1, SeqCst);
        match self.until {
            Some(until) => Instant::now() < until,
            None => id < REQUESTS,
        }
        .then_some(id)
    }

    fn client(&self) -> Tally {
        let mut tally = Tally::new();
        let mut client = Client::connect(self.proxy);
        let mut last = "none".to_owned();
        while let Some(id) = self.another() {
            let (stage, began) = (self.life.stage.load(SeqCst), Instant::now());
            let came = exchange(&mut client, id);
            let stage = (stage, self.life.stage.load(SeqCst));
            let counts = tally.entry(fault_of(self.faults, id)).or_default();
            counts[0] += 1;
            counts[match &came {
                Came::Whole(answer) if answer.status() < 500 => 1,
                Came::Cut(_) => 2,
                Came::Whole(_) => 3,
            }] += 1;
            self.judge(id, &came, stage, began.elapsed(), &last);
            last = format!("{id} {} {:?} {}", method_of(id), fault_of(self.faults, id), shown(&came));
            let closes = |answer: &Message| answer.field("connection").is_some_and(|v| v.contains("close"));
            if !matches!(&came, Came::Whole(answer) if !closes(answer)) {
                client = Client::connect(self.proxy);
            }
            self.done.fetch_add(1, SeqCst);
        }
        tally
    }

    /// Fails if this must not have come of this request.
    fn judge(&self, id: u64, came: &Came, (before, after): (usize, usize), took: Duration, last: &str) {
        let (fault, method) = (fault_of(self.faults, id), method_of(id));
        let what = || {
            format!(
                "request {id}, {method}, {fault:?}, after {took:?}: {}; before it on this connection: {last}",
                shown(came)
            )
        };
        let mine = if method == "HEAD" { Vec::new() } else { body_of(id, "down") };
        // Whatever else happens: only bytes of its own.
        let whole = match came {
            Came::Whole(answer) if matches!(answer.status(), 502 | 504) => {
                assert!(answer.field("x-id").is_none(), "{}", what());
                false
            }
            Came::Whole(answer) => {
                assert_eq!(answer.field("x-id"), Some(id.to_string()), "{}", what());
                let empty = fault == Fault::BodyOf204;
                assert_eq!(answer.status(), if empty { 204 } else { 200 }, "{}", what());
                assert!(empty && answer.body.is_empty() || !empty && answer.body == mine, "{}", what());
                true
            }
            Came::Cut(None) => false,
            Came::Cut(Some(answer)) => {
                assert_eq!(answer.field("x-id"), Some(id.to_string()), "{}", what());
                // Of lies about lengths the announced part may have gone out before they showed.
                assert!(mine.starts_with(&answer.body), "{}", what());
                false
            }
        };
        let status = match came {
            Came::Whole(answer) => answer.status(),
            Came::Cut(_) => 0,
        };
        if !matches!(method, "GET" | "HEAD") {
            // RFC 9110 section 9.2.2: what may have had an effect is never sent again; a refused stream had none.
            let most = if fault == Fault::Refuses { 2 } else { 1 };
            assert!(self.life.faulty.came(id) <= most, "{}", what());
        }
        if before != after || before % 2 == 1 {
            // It lived for a part of the time only.
            return;
        }
        if before % 4 == 2 {
            assert_eq!(status, 502, "nobody listens: {}", what());
            return;
        }
        // This machine may be slower than the time that the application is given.
        if took >= PATIENT && matches!(status, 0 | 504) {
            return;
        }
        // A warm connection may just have been closed: then only what is idempotent is sent again. And
        // over HTTP/2 another's fault may have taken the connection.
        let unlucky = self.shared_fate || !matches!(method, "GET" | "HEAD");
        let http2 = self.life.faulty.is_http2();
        let right = match fault {
            Fault::None | Fault::Unsized | Fault::ClosesAfter | Fault::SaysMore | Fault::BodyOf204 => whole,
            // Nothing of what was announced is missing, but the lie may show before the end.
            Fault::TwoLengths if http2 => whole || status == 0 || status == 502,
            // A reset right behind the head of an answer may overtake it.
            Fault::BodyCut | Fault::ChunkCut if http2 && method != "HEAD" => status == 0 || status == 502,
            Fault::BodyCut | Fault::ChunkCut | Fault::StallsInside if method != "HEAD" => status == 0,
            Fault::BodyCut | Fault::ChunkCut | Fault::StallsInside => whole,
            Fault::Stalls => status == 504,
            Fault::Drops | Fault::GoesAway => matches!(status, 502 | 504),
            _ => status == 502,
        };
        let excused = unlucky && (status == 502 || self.shared_fate && status == 0);
        assert!(right || excused, "{}", what());
    }
}

fn shown(came: &Came) -> String {
    let (how, answer) = match came {
        Came::Whole(answer) => ("whole", Some(answer)),
        Came::Cut(answer) => ("cut", answer.as_ref()),
    };
    let Some(answer) = answer else { return "ended without an answer".into() };
    let start: String = answer.text().chars().take(60).collect();
    format!("{how}, {}, X-Id {:?}, {} bytes: {start:?}", answer.start(), answer.field("x-id"), answer.body.len())
}

/// What the program holds: descriptors, threads.
fn holds(running: &Running) -> (usize, usize) {
    let count = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", running.id())).expect("/proc").count();
    (count("fd"), count("task"))
}

fn configured(folder: &Path, upstream: &str) {
    let yaml = format!(
        "version: 1\nworkers: 1\nupstream: {upstream}\n\
         timeouts: {{ answer: {0}ms, upstream_idle: 500ms }}\nlimits: {{ answer_idle: {0}ms }}\n\
         sinks: [{{ type: file, path: events.jsonl }}]\n\
         routes:\n  - id: login\n    match: {{ method: POST, path: \"template:/n/{{id}}\" }}\n    \
         actor: {{ login: form.user }}\n    when: {{ status: 200 }}\n    emit: user.login.success\n",
        PATIENT.as_millis()
    );
    std::fs::write(folder.join("routes.yaml"), yaml).expect("a file");
}

/// Runs the storm; `shared_fate` if one request's fault may take others with it.
fn weather(faulty: &Faulty, faults: &'static [(Fault, u32)], upstream: &str, shared_fate: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    configured(folder.path(), upstream);
    let (mut running, proxy, admin) = Running::start(folder.path(), &["--config", "routes.yaml"]);
    let calm = (0..).find(|id| id % 10 == 0 && fault_of(faults, *id) == Fault::None).expect("one");
    assert_eq!(get(proxy, &format!("/n/{calm}")).status(), 200);
    let quiet = || get(admin, "/metrics").text().contains("authtap_connections_open 0\n");
    eventually("the first connection is gone", quiet);
    // One connection to the application may still be warm; at the end there may be none.
    let (before, resident) = (holds(&running), running.resident_kib());

    let storm = Storm {
        proxy,
        faults,
        shared_fate,
        life: Life { faulty, stage: AtomicUsize::new(0) },
        next: AtomicU64::new(10_000_000),
        done: AtomicU64::new(0),
        until: slow().then(|| Instant::now() + Duration::from_secs(60)),
    };
    storm.next.store(0, SeqCst);
    let mut tally = Tally::new();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| storm.client())).collect();
        let over = |n: u64| storm.done.load(SeqCst) >= n || clients.iter().all(|c| c.is_finished());
        let mut at = REQUESTS / 3;
        while !clients.iter().all(|c| c.is_finished()) {
            eventually("requests are done", || over(at));
            storm.life.die_and_return(|| eventually("requests are refused", || over(at + REQUESTS / 10)));
            at += REQUESTS / 3 + REQUESTS / 10;
        }
        for client in clients {
            for (fault, counts) in client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
                let sum = tally.entry(fault).or_default();
                sum.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
            }
        }
    });
    assert_eq!(faulty.wrong(), Vec::<String>::new(), "requests came as they were sent");
    for (fault, _) in faults {
        assert!(tally.contains_key(fault), "{fault:?} was never tried");
    }

    // It serves as before, and has let go of everything.
    faulty.calm_down();
    for n in 0..20 {
        let id = 10_000_000 + n * 10;
        let answer = get(proxy, &format!("/n/{id}"));
        assert_eq!((answer.status(), answer.body == body_of(id, "down")), (200, true), "{}", answer.start());
    }
    eventually("all clients are gone", quiet);
    eventually("no descriptor and no thread is left", || {
        let now = holds(&running);
        now.0 <= before.0 && now.1 <= before.1
    });
    let after = running.resident_kib();
    running.signal("TERM");
    assert_eq!(running.await_end().code(), Some(0));

    // Each event is about one request: the actor of the body belongs to the path.
    let events = std::fs::read_to_string(folder.path().join("events.jsonl")).expect("events");
    let mut logins = 0;
    for event in events.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")) {
        if at(&event, "/event_type").starts_with("user.login.") {
            logins += 1;
            let path = at(&event, "/metadata/request/path");
            assert_eq!(at(&event, "/actor/login").strip_prefix('u'), path.strip_prefix("/n/"), "{event}");
        }
    }
    assert!(logins > 0, "logins were seen");
    if slow() {
        report(&tally, logins, before, (resident, after));
    }
}

fn report(tally: &Tally, logins: u64, held: (usize, usize), (before, after): (u64, u64)) {
    let all: u64 = tally.values().map(|counts| counts[0]).sum();
    let mut text = String::new();
    let _ = writeln!(text, "{all} requests, {logins} events of logins; {} descriptors, {} threads", held.0, held.1);
    let _ = writeln!(text, "resident: {before} KiB before, {after} KiB after");
    for (fault, [all, whole, cut, refused]) in tally {
        let _ = writeln!(text, "{fault:?}: {all}, of them {whole} whole, {cut} cut, {refused} 502 or 504");
    }
    tell(&text);
}

#[test]
fn an_application_of_http1_that_fails_in_every_way_harms_no_other_request_and_leaves_nothing_behind() {
    let faulty = Faulty::http1();
    let upstream = format!("http://{}", faulty.address);
    weather(&faulty, crate::harness::faulty::HTTP1, &upstream, false);
}

#[test]
fn streams_of_http2_that_fail_in_every_way_harm_no_other_stream() {
    let faulty = Faulty::http2(STREAMS);
    let upstream = format!("{{ servers: http://{}, protocol: h2 }}", faulty.address);
    weather(&faulty, STREAMS, &upstream, false);
}

#[test]
fn connections_of_http2_that_are_dropped_take_no_request_to_a_wrong_answer() {
    let faulty = Faulty::http2(HTTP2);
    let upstream = format!("{{ servers: http://{}, protocol: h2 }}", faulty.address);
    weather(&faulty, HTTP2, &upstream, true);
}
