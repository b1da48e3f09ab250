use std::sync::mpsc::Sender;

use serde_json::Value;

use super::*;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 42));

fn checked(yaml: &str) -> (Option<Target>, bool) {
    let mut problems = Problems::new("t.yaml", yaml);
    let node = Node::parse(yaml, &mut problems).expect("parses");
    (check(Some(&node), &mut problems), problems.has_errors())
}

#[test]
fn it_is_off_unless_it_has_a_path() {
    assert_eq!(check(None, &mut Problems::new("t.yaml", "")), None);
    assert_eq!(checked("off"), (None, false));
    assert_eq!(checked("{ path: stdout }"), (Some(Target::Stdout), false));
    assert_eq!(checked("{ path: a.jsonl }"), (Some(Target::File("a.jsonl".into())), false));
    for wrong in ["on", "{ path: logs/ }", "{ path: '' }", "{ file: a }", "{}", "[a]"] {
        assert_eq!(checked(wrong), (None, true), "{wrong}");
    }
}

#[test]
fn a_line_has_these_keys_and_nothing_of_a_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, thread) =
        AccessLog::start(&Target::File("a.jsonl".into()).within(folder.path()), Counter::default()).expect("starts");
    let token = "c5x8k2-0a1b2c3d4e5f60718293a4b5c6d7e8f9";
    let path = format!("/reset/MQ/{token}/?code=hunter2");
    let mut entry = log.begin(CLIENT, &Method::POST, "app.test", &path, Version::HTTP_11);
    entry.request_id("0193b0a2");
    entry.answered(StatusCode::FOUND, Some(Duration::from_micros(41_234)));
    entry.sent(7);
    entry.sent(3);
    entry.finish(Ended::Complete);
    drop(entry);
    // One that never got an answer, with a host that tries to forge a line.
    drop(log.begin(CLIENT, &Method::GET, "a\r\n{\"x\":1}\u{1b}[31m\"", "/", Version::HTTP_2));
    drop(log);
    thread.join().expect("ends");

    let text = std::fs::read_to_string(folder.path().join("a.jsonl")).expect("written");
    assert!(!text.contains(token) && !text.contains("hunter2") && !text.contains('\u{1b}'), "{text}");
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(lines.len(), 2);
    let mut first = lines[0].clone();
    let shown = first.as_object_mut().expect("an object");
    assert!(shown.remove("time").is_some_and(|t| t.as_str().is_some_and(|t| Timestamp::parse(t).is_some())));
    assert!(shown.remove("duration_ms").is_some_and(|d| d.as_f64().is_some()));
    assert_eq!(
        first,
        serde_json::json!({
            "client_ip": "203.0.113.42", "method": "POST", "host": "app.test", "path": "/reset/MQ/***/",
            "status": 302, "bytes": 10, "upstream_ms": 41.2, "request_id": "0193b0a2", "version": "1.1",
            "ended": "complete"
        })
    );
    assert_eq!(lines[1]["ended"], "client_gone");
    assert_eq!(lines[1]["version"], "2");
    assert!(lines[1].get("status").is_none() && lines[1].get("upstream_ms").is_none());
}

#[test]
fn paths_keep_words_and_lose_tokens_and_queries() {
    for (path, shown) in [
        ("/accounts/login/?next=/x", "/accounts/login/"),
        ("/blog/how-to-reset-a-forgotten-password", "/blog/how-to-reset-a-forgotten-password"),
        ("/users/12345678", "/users/12345678"),
        ("/m/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x/go", "/m/***/go"),
        ("/m/QWERTYUIOPASDFGHJKLZXCVBNM", "/m/***"),
        ("/m/550e8400-e29b-41d4-a716-446655440000", "/m/***"),
        ("", "/"),
        ("*", "*"),
    ] {
        assert_eq!(shown_path(path).as_str(), shown);
    }
    assert!(shown_path(&"/ü".repeat(100_000)).as_str().chars().count() <= MAX_PATH);
}

/// A target that says when it is written to and then waits for leave.
struct Gated {
    wrote: Sender<Vec<u8>>,
    leave: Receiver<io::Result<()>>,
}

impl Write for Gated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wrote.send(bytes.to_vec()).map_err(io::Error::other)?;
        self.leave.recv().map_err(io::Error::other)??;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Gate {
    log: AccessLog,
    thread: JoinHandle<()>,
    wrote: Receiver<Vec<u8>>,
    leave: SyncSender<io::Result<()>>,
}

fn gated(capacity: usize) -> Gate {
    let (wrote_to, wrote) = {
        #[expect(clippy::disallowed_methods, reason = "a test's own, with a few messages")]
        std::sync::mpsc::channel()
    };
    let (leave, leave_from) = sync_channel(16);
    let out = Out::Other(Box::new(Gated { wrote: wrote_to, leave: leave_from }));
    let (log, thread) = AccessLog::to(out, Target::Stdout, capacity, Counter::default()).expect("starts");
    Gate { log, thread, wrote, leave }
}

fn request(log: &AccessLog, path: &str) {
    log.begin(CLIENT, &Method::GET, "a.test", path, Version::HTTP_11).finish(Ended::Complete);
}

#[test]
fn a_writer_that_is_stuck_costs_lines_and_no_time() {
    let gate = gated(2);
    request(&gate.log, "/1");
    gate.wrote.recv().expect("the writer has the first and is stuck");
    for path in ["/2", "/3", "/4", "/5"] {
        request(&gate.log, path);
    }
    assert_eq!((gate.log.written(), gate.log.dropped()), (0, 2));
    for _ in 0..4 {
        gate.leave.send(Ok(())).expect("waits");
    }
    let log = gate.log.clone();
    drop(gate.log);
    let shared = log.shared.clone();
    drop(log);
    gate.thread.join().expect("ends");
    assert_eq!((shared.written.load(Relaxed), shared.dropped.get()), (3, 2));
}

#[test]
fn after_a_failed_write_the_torn_line_is_ended_and_the_loss_counted() {
    let gate = gated(8);
    gate.leave.send(Err(io::ErrorKind::StorageFull.into())).expect("room");
    request(&gate.log, "/1");
    gate.wrote.recv().expect("tried");
    gate.leave.send(Ok(())).expect("room");
    request(&gate.log, "/2");
    let second = gate.wrote.recv().expect("tried again");
    assert!(second.starts_with(b"\n{") && second.ends_with(b"}\n"));
    let shared = gate.log.shared.clone();
    drop(gate.log);
    gate.thread.join().expect("ends");
    assert_eq!((shared.written.load(Relaxed), shared.dropped.get()), (1, 1));
}

#[test]
fn reopen_writes_to_the_path_again_after_the_file_was_moved() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.jsonl");
    let count = |path: &Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();

    let (log, thread) = AccessLog::start(&Target::File(path.clone()).within(Path::new("/nowhere")), Counter::default())
        .expect("starts");
    request(&log, "/1");
    drop(log);
    thread.join().expect("ends");
    // The file is moved away while a log has it open.
    let (log, thread) =
        AccessLog::start(&Target::File(path.clone()).within(folder.path()), Counter::default()).expect("starts");
    let moved = folder.path().join("a.jsonl.1");
    std::fs::rename(&path, &moved).expect("moved");
    log.reopen();
    request(&log, "/2");
    drop(log);
    thread.join().expect("ends");
    assert_eq!((count(&moved), count(&path)), (1, 1));
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(
        AccessLog::start(&Target::File("no/such/folder/a".into()).within(folder.path()), Counter::default()).is_err()
    );
}

#[test]
fn told_to_end_it_writes_what_was_offered_and_counts_what_comes_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let lost = Counter::default();
    let (log, thread) =
        AccessLog::start(&Target::File("a.jsonl".into()).within(folder.path()), lost.clone()).expect("starts");
    for _ in 0..600 {
        drop(log.begin(CLIENT, &Method::GET, "app.test", "/", Version::HTTP_11));
    }
    log.end();
    thread.join().expect("ends, although the log is still there");
    drop(log.begin(CLIENT, &Method::GET, "app.test", "/late", Version::HTTP_11));
    let text = std::fs::read_to_string(folder.path().join("a.jsonl")).expect("written");
    assert_eq!((text.lines().count(), lost.get()), (600, 1));
    // A second end finds nobody, and does not wait.
    log.end();
}
