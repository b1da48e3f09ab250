//! What is left when the process is killed, and what a person can do with it: the real program, its
//! data folder, and a file sink that shows what was delivered.
//!
//! `AUTHTAP_KILLS=100` kills more often than an ordinary run does.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use serde_json::Value;

use crate::harness::binary::{Running, authtap, run};
use crate::harness::{Client, LOGIN, Origin, Proxy, answer, at, eventually, form, get};

/// As many events as a sink is given at once: what a kill may repeat.
const BATCH: u64 = 500;

fn configure(folder: &Path, origin: &Origin, more: &str) {
    let text = format!("version: 1\nupstream: http://{}\nworkers: 1\n{more}\n{LOGIN}", origin.address);
    std::fs::write(folder.join("routes.yaml"), text).expect("a file");
}

/// The lines of a file that are whole.
fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn ids(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| at(event, "/id").to_owned()).collect()
}

/// What the store has, in order, by `authtap events --json`.
fn history(folder: &Path, more: &[&str]) -> Vec<Value> {
    let output = run(folder, &[&["events", "--json"], more].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|l| serde_json::from_str(l).expect("an event is JSON"))
        .collect()
}

/// Signs in again and again until told to stop or turned away; notes who saw the whole answer.
fn sign_in(address: SocketAddr, name: &str, stop: &AtomicBool, answered: &Mutex<Vec<String>>, count: &AtomicUsize) {
    let Ok(mut client) = Client::try_connect(address) else { return };
    for n in 0.. {
        let user = format!("{name}-{n}");
        // A break off is what the test is about.
        let sent = client.try_send(form("/login", format!("username={user}&password=x")));
        match sent.and_then(|()| client.try_answer("POST")) {
            Ok(Some(message)) if message.whole && message.status() == 302 => {}
            _ => return,
        }
        answered.lock().expect("no panic").push(user);
        count.fetch_add(1, SeqCst);
        if stop.load(SeqCst) {
            return;
        }
    }
}

#[test]
fn killed_at_any_moment_it_loses_nothing_that_was_committed_and_repeats_at_most_one_batch() {
    let kills: u32 = std::env::var("AUTHTAP_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    // With a body and without one: both ends of an answer are held in `sync`.
    let origin = Origin::answering(|request| {
        let body = if request.text().contains("-1") { "see /home" } else { "" };
        answer("302 Found", &["Location: /home"], body)
    });
    let folder = tempfile::tempdir().expect("a folder");
    let mut promised: Vec<String> = Vec::new();
    let mut random = u64::from(std::process::id());
    for round in 0..kills {
        let sync = round % 2 == 0;
        let durability = if sync { "sync" } else { "interval 5ms" };
        configure(
            folder.path(),
            &origin,
            &format!("durability: {durability}\nsinks: {{ type: file, path: out.jsonl }}"),
        );
        let (running, address, _) = Running::start(folder.path(), &["--config", "routes.yaml"]);
        let (stop, count, answered) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let after = usize::try_from(random >> 33).unwrap_or(0) % 60;
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (stop, count, answered) = (&stop, &count, &answered);
                scope.spawn(move || sign_in(address, &format!("u{round}-{thread}"), stop, answered, count));
            }
            eventually("some have signed in", || count.load(SeqCst) >= after);
            running.signal("KILL");
            stop.store(true, SeqCst);
        });
        drop(running);
        if sync {
            promised.extend(answered.into_inner().expect("no panic"));
        }
    }

    // The last start delivers what is left, and ends in order.
    let (mut running, _, admin) = Running::start(folder.path(), &["--config", "routes.yaml"]);
    eventually("the sink has everything", || {
        let metrics = get(admin, "/metrics").text();
        metrics.lines().any(|l| l == "authtap_sink_lag_events{sink=\"file\"} 0")
    });
    running.signal("TERM");
    assert_eq!(running.await_end().code(), Some(0));

    let stored = history(folder.path(), &[]);
    let delivered = ids(&lines(&folder.path().join("out.jsonl")));
    let place: HashMap<String, u64> = ids(&stored).into_iter().zip(1..).collect();
    assert_eq!(place.len(), stored.len(), "an id stands once");
    let (mut before, mut back) = (0, 0);
    for id in &delivered {
        let now = *place.get(id).unwrap_or_else(|| panic!("{id} was delivered and is not in the store"));
        if now <= before {
            back += 1;
            assert!(before - now < BATCH, "{} events were repeated at once", before - now + 1);
        } else {
            assert_eq!(now, before + 1, "out of order or missing");
        }
        before = now;
    }
    assert_eq!(before, stored.len() as u64, "all were delivered");
    assert!(back <= kills, "repeated {back} times in {kills} kills");

    let there: BTreeSet<&str> = stored.iter().map(|event| at(event, "/actor/login")).collect();
    let lost: Vec<&String> = promised.iter().filter(|user| !there.contains(user.as_str())).collect();
    assert!(lost.is_empty(), "answered in `sync` and not in the store: {lost:?}");
    assert!(promised.len() > 20, "the test saw too little: {}", promised.len());
    let verified = run(folder.path(), &["spool", "verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[test]
fn what_a_sink_did_not_take_goes_out_at_the_next_start_and_can_be_sent_again() {
    let origin = Origin::answering(|_| answer("302 Found", &["Location: /home"], ""));
    let folder = tempfile::tempdir().expect("a folder");
    let sink = "timeouts: { drain: 100ms }\nsinks: { type: file, path: there/out.jsonl }";
    std::fs::create_dir(folder.path().join("there")).expect("a folder");
    configure(folder.path(), &origin, sink);
    let (mut running, address, _) = Running::start(folder.path(), &["--config", "routes.yaml"]);
    let file = folder.path().join("there/out.jsonl");
    eventually("the first notice is there", || lines(&file).len() == 1);
    // The folder goes away: the sink fails from here on.
    std::fs::remove_dir_all(folder.path().join("there")).expect("removed");
    std::fs::write(folder.path().join("there"), "").expect("a file in its place");
    running.signal("HUP");
    // Until then it is still the removed file that is written to. The configuration itself is refused.
    running.await_line("the old one stays in force");
    let signed = Client::connect(address).send(form("/login", "username=alice&password=x")).answer("POST");
    assert_eq!(signed.status(), 302);
    running.signal("TERM");
    assert_eq!(running.await_end().code(), Some(0));
    assert_eq!(history(folder.path(), &["--actor", "alice"]).len(), 1);

    std::fs::remove_file(folder.path().join("there")).expect("removed");
    std::fs::create_dir(folder.path().join("there")).expect("a folder");
    let (mut running, _, admin) = Running::start(folder.path(), &["--config", "routes.yaml"]);
    let alices = || lines(&file).iter().filter(|event| at(event, "/actor/login") == "alice").count();
    eventually("it is delivered after all", || alices() > 0);
    let once = alices();

    // A replay, in the running proxy.
    let admin = admin.to_string();
    let replay = ["spool", "replay", "--sink", "file", "--from", "1h"];
    let output = run(folder.path(), &[&replay[..], &["--admin", &admin]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    // At least: on a slow disk the order to stop or to replay may meet a batch that is still being sent.
    eventually("it is delivered once more", || alices() > once);
    let output = run(folder.path(), &["spool", "replay", "--sink", "nobody", "--from", "1h", "--admin", &admin]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there are: file"));
    running.signal("TERM");
    assert_eq!(running.await_end().code(), Some(0));

    // And while none runs: at the next start.
    let before = alices();
    let output = run(folder.path(), &replay);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let info = run(folder.path(), &["spool", "info", "--json"]);
    let info: Value = serde_json::from_slice(&info.stdout).expect("JSON");
    assert!(info.pointer("/sinks/0/lag_events").and_then(Value::as_u64) > Some(0), "{info:#}");
    let (mut running, ..) = Running::start(folder.path(), &["--config", "routes.yaml"]);
    eventually("it is delivered a third time", || alices() > before);
    running.signal("TERM");
    assert_eq!(running.await_end().code(), Some(0));
}

#[test]
fn a_second_process_on_the_same_data_folder_is_refused_and_the_first_goes_on() {
    let origin = Origin::answering(|_| answer("200 OK", &[], "hello"));
    let folder = tempfile::tempdir().expect("a folder");
    configure(folder.path(), &origin, "sinks: []");
    let (_running, address, _) = Running::start(folder.path(), &["--config", "routes.yaml"]);
    let second = ["run", "--config", "routes.yaml", "--listen", "127.0.0.1:0", "--admin", "off"];
    let output = run(folder.path(), &second);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("another authtap (process") && said.contains("--data"), "{said}");
    assert_eq!(get(address, "/").status(), 200);
}

#[test]
fn a_data_folder_that_cannot_be_written_to_costs_no_request_and_shows_in_health() {
    let origin = Origin::answering(|_| answer("302 Found", &["Location: /home"], ""));
    let folder = tempfile::tempdir().expect("a folder");
    configure(folder.path(), &origin, "data: data\ndurability: sync\nsinks: { type: file, path: out.jsonl }");
    // A file in the place of the folder: refused for root too.
    std::fs::write(folder.path().join("data"), "").expect("a file");
    let (mut running, address, admin) = Running::start(folder.path(), &["--config", "routes.yaml"]);
    let signed = Client::connect(address).send(form("/login", "username=alice&password=x")).answer("POST");
    assert_eq!(signed.status(), 302);
    let out = folder.path().join("out.jsonl");
    eventually("the sink has it", || lines(&out).iter().any(|event| at(event, "/actor/login") == "alice"));
    assert!(lines(&out).iter().any(|event| at(event, "/event_type") == "authtap.store.degraded"));
    let health = get(admin, "/healthz");
    assert_eq!((health.status(), health.text().starts_with("degraded")), (200, true));
    assert_eq!(get(admin, "/readyz").status(), 200);
    assert!(get(admin, "/metrics").text().contains("\nauthtap_store_healthy 0\n"));
    running.signal("TERM");
    assert_eq!(running.await_end().code(), Some(0));
}

#[test]
fn an_answer_in_sync_mode_ends_only_when_its_event_is_on_disk() {
    let origin = Origin::answering(|request| {
        let body = if request.text().contains("bob") { "see /home" } else { "" };
        answer("302 Found", &["Location: /home"], body)
    });
    let proxy = Proxy::before(origin.address, &format!("durability: sync\n{LOGIN}"));
    for (n, user) in ["alice", "bob", "carol", "bob2"].into_iter().enumerate() {
        let message =
            Client::connect(proxy.address).send(form("/login", format!("username={user}&password=x"))).answer("POST");
        assert_eq!((message.status(), message.whole), (302, true));
        // Readers see only what is on disk, so this is no race.
        assert_eq!(proxy.events().len(), n + 1, "{user}");
    }
    assert_eq!(get(proxy.address, "/other").status(), 302, "what no route is about is never held");
    assert!(get(proxy.admin, "/metrics").text().contains("authtap_answers_let_go_total 0\n"));
}

#[test]
fn the_history_is_searched_counted_and_read_when_no_proxy_runs() {
    let origin = Origin::answering(|request| match request.text().contains("wrong") {
        true => answer("200 OK", &[], "wrong password"),
        false => answer("302 Found", &["Location: /home"], ""),
    });
    let folder = tempfile::tempdir().expect("a folder");
    configure(folder.path(), &origin, "sinks: []\nclient_ip: { trusted_proxies: [127.0.0.0/8] }");
    let (mut running, address, admin) = Running::start(folder.path(), &["--config", "routes.yaml"]);
    for (user, password) in [("alice", "x"), ("bob", "wrong"), ("alice", "wrong")] {
        Client::connect(address).send(form("/login", format!("username={user}&password={password}"))).answer("POST");
    }
    eventually("they are in the store while it runs", || {
        history(folder.path(), &["--type", "user.login.*"]).len() == 3
    });
    running.signal("TERM");
    assert_eq!(running.await_end().code(), Some(0));

    let text = |arguments: &[&str]| {
        let output = authtap(folder.path(), arguments).output().expect("it runs");
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {complaint}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(history(folder.path(), &["--actor", "alice"]).len(), 2);
    assert_eq!(history(folder.path(), &["--search", "bob invalid_credentials"]).len(), 1);
    assert_eq!(history(folder.path(), &["--limit", "1", "--outcome", "failure"]).len(), 1);
    assert_eq!(
        text(&["events", "--count-by", "actor", "--type", "user.login.*"]),
        "         2  alice\n         1  bob\n"
    );
    let csv = text(&["events", "--csv", "--actor", "bob"]);
    assert!(
        csv.starts_with("timestamp,event_type,outcome,")
            && csv.contains(",user.login.failed,failure,invalid_credentials,"),
        "{csv}"
    );
    let counted = text(&[
        "events",
        "--sql",
        "SELECT outcome, count(*) AS n FROM events WHERE actor = 'alice' GROUP BY 1",
        "--json",
    ]);
    assert_eq!(counted, "{\"n\":1,\"outcome\":\"failure\"}\n{\"n\":1,\"outcome\":\"success\"}\n");
    assert_eq!(text(&["events", "--actor", "alice", "--story"]).lines().count(), 3, "a day and two events");
    let tail = text(&["tail", "--actor", "alice", "--admin", &admin.to_string()]);
    assert_eq!(tail.lines().count(), 2, "{tail}");
    let refused = run(folder.path(), &["events", "--sql", "DELETE FROM events"]);
    assert_eq!(refused.status.code(), Some(2));
    let nowhere = run(folder.path(), &["events", "--data", "elsewhere"]);
    assert_eq!(nowhere.status.code(), Some(1));
}

/// Needs root and a mount of its own, so it runs only where test services do.
#[test]
fn a_full_disk_costs_no_request_and_what_waited_is_written_when_there_is_room() {
    if std::env::var_os("AUTHTAP_TEST_SERVICES").is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let small = folder.path().join("small");
    std::fs::create_dir(&small).expect("a folder");
    let mount = |arguments: &[&str]| std::process::Command::new(arguments[0]).args(&arguments[1..]).status();
    let path = small.to_string_lossy().into_owned();
    let mounted = mount(&["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", &path]);
    assert!(mounted.is_ok_and(|s| s.success()), "a tmpfs can be mounted");
    let _unmount = Unmount(path);
    let origin = Origin::answering(|_| answer("302 Found", &["Location: /home"], ""));
    configure(folder.path(), &origin, "sinks: { type: file, path: out.jsonl }");
    let data = small.join("data");
    let arguments = ["--config", "routes.yaml", "--data", &data.to_string_lossy()];
    let (mut running, address, admin) = Running::start(folder.path(), &arguments);
    let health = || get(admin, "/healthz").text();
    eventually("it is well", || health() == "ok");
    let filler = small.join("filler");
    let mut file = std::fs::File::create(&filler).expect("a file");
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    let signed = Arc::new(AtomicUsize::new(0));
    eventually("the disk is full for the store too", || {
        let n = signed.fetch_add(1, SeqCst);
        let message = Client::connect(address).send(form("/login", format!("username=u{n}&password=x"))).answer("POST");
        assert_eq!(message.status(), 302);
        health().starts_with("degraded")
    });
    std::fs::remove_file(filler).expect("removed");
    eventually("it is well again", || health() == "ok");
    running.signal("TERM");
    assert_eq!(running.await_end().code(), Some(0));
    let count = signed.load(SeqCst);
    let data = data.to_string_lossy();
    assert_eq!(
        history(folder.path(), &["--data", &data, "--type", "user.login.success"]).len(),
        count,
        "nothing was lost"
    );
    let out = lines(&folder.path().join("out.jsonl"));
    assert_eq!(out.iter().filter(|e| at(e, "/event_type") == "user.login.success").count(), count);
}

struct Unmount(String);

impl Drop for Unmount {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there ends soon.
        let _ = std::process::Command::new("umount").args(["-l", &self.0]).status();
    }
}
