//! A receiver is away while events come in their thousands: traffic does not notice, memory does not
//! grow, and when the receiver is back it gets every one.
//!
//! Three thousand events in the normal run; a million with `AUTHTAP_SLOW=1`, or as many as
//! `AUTHTAP_OUTAGE` says.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::binary::Running;
use crate::harness::{Client, LOGIN, Origin, answer, at, eventually, form, get, slow, tell};

/// Clients at once.
const CLIENTS: usize = 4;
/// After so many requests a client waits until what was answered has become events: a flood without a
/// bound would measure the queue of what is captured, which loses what does not fit.
const AHEAD: usize = 400;
/// What memory may grow by between a tenth of the outage and its end, in KiB: the bounds of what waits
/// for a slow disk and of what readers find in memory. A million events are some 750 MiB.
const GROWTH_KIB: u64 = 96 << 10;

/// How many logins have become events so far.
fn logins(admin: SocketAddr) -> usize {
    let metrics = get(admin, "/metrics").text();
    let line = metrics.lines().find(|l| l.starts_with("authtap_events_total{") && l.contains("user.login.success"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

/// Each of the clients signs in so often; how long each answer took.
fn sign_in((proxy, admin): (SocketAddr, SocketAddr), phase: &'static str, each: usize) -> Vec<Duration> {
    // What an earlier phase left on its way only makes this one wait for less.
    let answered = Arc::new(AtomicUsize::new(logins(admin)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let answered = answered.clone();
            std::thread::spawn(move || {
                let mut connection = Client::connect(proxy);
                let one = |n: usize| {
                    if n % AHEAD == AHEAD - 1 {
                        let due = answered.load(SeqCst);
                        eventually("what was answered is an event", || logins(admin) >= due);
                    }
                    let began = Instant::now();
                    let body = format!("username={phase}-{client}-{n}&password=x");
                    let status = connection.send(form("/login", body)).answer("POST").status();
                    let took = began.elapsed();
                    assert_eq!(status, 302);
                    answered.fetch_add(1, SeqCst);
                    took
                };
                (0..each).map(one).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut took: Vec<Duration> = clients.into_iter().flat_map(|c| c.join().expect("served")).collect();
    took.sort_unstable();
    took
}

/// The time that this share of requests stayed under.
fn percentile(took: &[Duration], share: f64) -> Duration {
    let at = (took.len() as f64 * share) as usize;
    took[at.min(took.len() - 1)]
}

#[test]
fn a_receiver_that_was_away_gets_every_event_and_nobody_noticed_meanwhile() {
    let wanted = std::env::var("AUTHTAP_OUTAGE").ok().and_then(|n| n.parse().ok());
    let events: usize = wanted.unwrap_or(if slow() { 1_000_000 } else { 3_000 });
    let each = events / CLIENTS;
    let application = Origin::forgetting(|_| answer("302 Found", &["Location: /home"], ""));
    let (back, received) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(HashSet::new())));
    let receiver = {
        let (back, received) = (back.clone(), received.clone());
        Origin::forgetting(move |request| {
            if !back.load(SeqCst) {
                return answer("503 Service Unavailable", &[], "");
            }
            let batch: Value = serde_json::from_slice(&request.body).expect("a batch is JSON");
            let mut received = received.lock().expect("no panic");
            for event in batch.as_array().expect("a batch is an array") {
                if at(event, "/event_type") == "user.login.success" {
                    received.insert(at(event, "/actor/login").to_owned());
                }
            }
            answer("200 OK", &[], "")
        })
    };
    let folder = tempfile::tempdir().expect("a folder");
    let configured = |sinks: &str| {
        let yaml = format!("version: 1\nupstream: http://{}\nworkers: 1\n{sinks}\n{LOGIN}", application.address);
        std::fs::write(folder.path().join("routes.yaml"), yaml).expect("a file");
        Running::start(folder.path(), &["--config", "routes.yaml"])
    };

    // The measure of noise: the same without a sink.
    let (mut running, proxy, admin) = configured("sinks: []");
    sign_in((proxy, admin), "warm", each / 10);
    let alone = sign_in((proxy, admin), "alone", each / 10);
    running.signal("TERM");
    assert_eq!(running.await_end().code(), Some(0));

    let sink = format!("sinks: {{ type: webhook, name: away, url: \"http://{}/\", body: array }}", receiver.address);
    let (mut running, proxy, admin) = configured(&sink);
    let mut took = sign_in((proxy, admin), "first", each / 10);
    let early = running.resident_kib();
    took.extend(sign_in((proxy, admin), "rest", each - each / 10));
    let late = running.resident_kib();
    took.sort_unstable();
    assert!(late.saturating_sub(early) < GROWTH_KIB, "{early} KiB after a tenth of the outage, {late} KiB at its end");
    assert_eq!(get(admin, "/readyz").status(), 200, "readiness is not tied to sinks");
    let lost = || -> Vec<String> {
        let metrics = get(admin, "/metrics").text();
        let dropped = ["authtap_events_dropped_total", "authtap_exchanges_dropped_total"];
        let lost = metrics.lines().filter(|l| dropped.iter().any(|name| l.starts_with(name)) && !l.ends_with(" 0"));
        lost.map(str::to_owned).collect()
    };
    assert_eq!(lost(), Vec::<String>::new());

    let returned = Instant::now();
    back.store(true, SeqCst);
    // Held by nothing: the next try comes within the longest wait between two, or at once when asked.
    running.signal("HUP");
    eventually("all have arrived", || received.lock().expect("no panic").len() >= each * CLIENTS);
    let delivered = returned.elapsed();
    let names = received.lock().expect("no panic").clone();
    assert_eq!(names.len(), each * CLIENTS, "and no other");
    let after = running.resident_kib();
    assert!(after.saturating_sub(early) < GROWTH_KIB, "{early} KiB before, {after} KiB after the delivery");
    assert_eq!(lost(), Vec::<String>::new());
    running.signal("TERM");
    assert_eq!(running.await_end().code(), Some(0));

    let (p50, p99) = (percentile(&took, 0.5), percentile(&took, 0.99));
    let (alone50, alone99) = (percentile(&alone, 0.5), percentile(&alone, 0.99));
    if slow() {
        tell(&format!(
            "{} events in the outage; resident {early} KiB after a tenth, {late} KiB at its end, {after} KiB after the delivery\n\
             latency p50 {p50:?} p99 {p99:?}; without a sink {alone50:?} and {alone99:?}\n\
             all delivered {delivered:?} after the return\n",
            each * CLIENTS
        ));
        // Only here nothing else runs beside it.
        assert!(p99 < alone99 * 3 + Duration::from_millis(50), "p99 {p99:?}, without a sink {alone99:?}");
    }
}
