//! Sessions shared between replicas: two processes before one application, and a real Redis that
//! dies, hangs and comes back. Run with AUTHTAP_TEST_SERVICES=1 in a build with the feature `redis`.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::binary::{Running, authtap};
use crate::harness::{Client, Origin, answer, at, eventually, form, get, tell};

fn wanted() -> bool {
    let wanted = std::env::var_os("AUTHTAP_TEST_SERVICES").is_some_and(|on| on == "1");
    if !wanted {
        tell("not run: AUTHTAP_TEST_SERVICES=1 switches it on\n");
    }
    wanted
}

/// A Redis that keeps nothing; ended with the test.
struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    /// On a port of its own: below those that the system gives out by itself, and another for each test.
    fn start(folder: &Path) -> Redis {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let begin = std::process::id() as u16;
        let ports = || 12_000 + begin.wrapping_mul(41).wrapping_add(NEXT.fetch_add(1, Relaxed)) % 20_000;
        let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let port = std::iter::repeat_with(ports).take(20_000).find(free).expect("a free port");
        Redis::at(port, folder)
    }

    fn at(port: u16, folder: &Path) -> Redis {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port"]).arg(port.to_string()).arg("--dir").arg(folder);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut redis = Redis { child: child.expect("redis-server is missing (Debian: redis-server)"), port };
        eventually("Redis answers", || {
            assert!(matches!(redis.child.try_wait(), Ok(None)), "redis-server ended at once");
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        let itself = format!("process_id:{}\r", redis.child.id());
        assert!(redis.ask(&["INFO", "server"]).contains(&itself), "another Redis has this port");
        redis
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status();
        assert!(sent.is_ok_and(|s| s.success()), "SIG{name} was not sent");
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let out = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(arguments).output();
        String::from_utf8_lossy(&out.expect("redis-cli").stdout).into_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // A stopped one takes this too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Signs anybody in under a session that tells who it is of; the value never changes.
fn application() -> Origin {
    Origin::answering(|request| {
        let text = request.text();
        let name = text.split("username=").nth(1).unwrap_or_default().to_owned();
        let cookie = format!("Set-Cookie: SID=s3ss10n-v4lu3-of-{name}; HttpOnly");
        match request.target().as_str() {
            "/login" => answer("302 Found", &["Location: /home", &cookie], ""),
            _ => answer("302 Found", &["Location: /"], ""),
        }
    })
}

const ROUTES: &str = r#"
routes:
  - id: login
    match: { method: POST, path: /login }
    actor: { login: form.username }
    rules: [ { when: { status: 302 }, outcome: success }, { when: { status: 200 }, outcome: failure } ]
    emit: { success: user.login.success, failure: user.login.failed }
  - { id: password, match: { method: POST, path: /password }, when: { status: 302 }, emit: user.password.changed }
  - { id: logout, match: { method: POST, path: /logout }, when: { all: [ { status: 302 }, { session: known } ] }, emit: user.logout }
"#;

/// One of the processes behind the balancer.
struct Replica {
    process: Running,
    address: SocketAddr,
    admin: SocketAddr,
    folder: TempDir,
}

impl Replica {
    fn start(origin: &Origin, redis: u16, session: &str) -> Replica {
        let folder = tempfile::tempdir().expect("a folder");
        let share = format!("{{ redis: 'redis://127.0.0.1:{redis}/1', secret_env: SHARED, prefix: 'app' }}");
        let yaml = format!(
            "version: 1\nupstream: http://{}\nworkers: 1\nidentity: {{ on_success: hmac, key_env: SHARED }}\n\
             session: {{ cookies: [SID], {session} share: {share} }}\nsinks: [ {{ type: file, path: events.jsonl }} ]\n{ROUTES}",
            origin.address
        );
        std::fs::write(folder.path().join("routes.yaml"), yaml).expect("written");
        let arguments = ["run", "--config", "routes.yaml", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let mut command = authtap(folder.path(), &arguments);
        let process = Running::spawn(command.env("SHARED", "a-secret-of-all-replicas-of-this-test"));
        let address = process.await_address("listening");
        let admin = process.await_address("admin listening");
        let replica = Replica { process, address, admin, folder };
        replica.await_metric("authtap_session_share_up 1");
        replica
    }

    fn await_metric(&self, line: &str) {
        eventually(line, || get(self.admin, "/metrics").text().contains(&format!("\n{line}\n")));
    }

    fn login(&self, name: &str) {
        let answer = Client::connect(self.address).send(form("/login", format!("username={name}"))).answer("POST");
        assert_eq!(answer.status(), 302);
    }

    /// A POST inside the session of somebody.
    fn post(&self, path: &str, name: &str) {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: app.example.test\r\nCookie: SID=s3ss10n-v4lu3-of-{name}\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(Client::connect(self.address).send(request).answer("POST").status(), 302);
    }

    /// Its events so far, without notices.
    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("events.jsonl")).unwrap_or_default();
        // The last line may be under way.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let events = whole.lines().map(|line| serde_json::from_str(line).expect("an event is JSON"));
        events.filter(|e| !at(e, "/event_type").starts_with("authtap.")).collect()
    }

    fn await_events(&self, count: usize) -> Vec<Value> {
        eventually("events", || self.events().len() >= count);
        self.events()
    }

    /// Posts a change of a password until an event says, or no longer says, who it was.
    fn await_actor(&self, name: &str, known: bool) -> Value {
        let mut last = Value::Null;
        eventually("the actor", || {
            let before = self.events().len();
            self.post("/password", name);
            last = self.await_events(before + 1).last().cloned().expect("an event");
            last.pointer("/actor/login").is_some() == known
        });
        last
    }

    fn stop(mut self) -> Vec<Value> {
        self.process.signal("TERM");
        assert!(self.process.await_end().success());
        self.events()
    }
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|e| at(e, "/event_type")).collect()
}

#[test]
fn a_session_of_one_replica_is_known_at_the_other_and_over_everywhere_after_its_logout_there() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (redis, origin) = (Redis::start(folder.path()), application());
    let a = Replica::start(&origin, redis.port, "events: [created, revoked],");
    let b = Replica::start(&origin, redis.port, "events: [created, revoked],");
    a.login("alice");
    let login = a.await_events(2);
    assert_eq!(types(&login), ["user.login.success", "session.created"]);
    let seen = b.await_actor("alice", true);
    assert_eq!(at(&seen, "/actor/login"), at(&login[0], "/actor/login"));
    assert_eq!(at(&seen, "/metadata/session_id"), at(&login[0], "/metadata/session_id"));
    assert!(at(&seen, "/metadata/session_id").starts_with("s_"), "{seen}");

    // Nothing in Redis says who it is, or lets anybody in.
    let keys = redis.ask(&["-n", "1", "--scan"]);
    assert!(keys.lines().count() >= 3 && keys.lines().all(|key| key.starts_with("app:")), "{keys}");
    let values: String =
        keys.lines().filter(|k| k.contains(":s:")).map(|k| redis.ask(&["-n", "1", "GET", k])).collect();
    let others = redis.ask(&["-n", "1", "XRANGE", "app:news", "-", "+"])
        + &redis.ask(&["-n", "1", "ZRANGE", "app:ends", "0", "-1"]);
    assert!(!values.is_empty() && !others.is_empty());
    for secret in ["alice", "s3ss10n"] {
        assert!(![&keys, &values, &others].iter().any(|text| text.contains(secret)), "{secret}");
    }
    let lives: u64 = redis
        .ask(&["-n", "1", "TTL", keys.lines().find(|k| k.contains(":s:")).expect("a session")])
        .trim()
        .parse()
        .expect("seconds");
    assert!((12 * 3600..14 * 3600).contains(&lives), "{lives}");

    let before = b.events().len();
    b.post("/logout", "alice");
    let ended = b.await_events(before + 2)[before..].to_vec();
    assert_eq!(types(&ended), ["user.logout", "session.revoked"]);
    assert!(ended.iter().all(|e| at(e, "/actor/login") == at(&login[0], "/actor/login")));
    a.await_actor("alice", false);
    a.post("/logout", "alice");
    assert!(!redis.ask(&["-n", "1", "--scan"]).contains(":s:"), "what was unbound is removed");
    let (a, b) = (a.stop(), b.stop());
    let ends =
        types(&a).into_iter().chain(types(&b)).filter(|t| ["user.logout", "session.revoked"].contains(t)).count();
    assert_eq!(ends, 2, "the second logout was nobody's");
}

#[test]
fn a_session_that_expires_is_told_by_one_replica_once() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (redis, origin) = (Redis::start(folder.path()), application());
    let a = Replica::start(&origin, redis.port, "ttl: 1s, events: [revoked],");
    let b = Replica::start(&origin, redis.port, "ttl: 1s, events: [revoked],");
    a.login("alice");
    let login = a.await_events(1);
    b.post("/password", "alice");
    let expired = |replica: &Replica| replica.events().iter().filter(|e| at(e, "/reason") == "expired").count();
    eventually("the end of the session", || {
        // A pipeline with nothing to do looks at the clock every ten seconds only.
        a.post("/password", "nobody");
        b.post("/password", "nobody");
        expired(&a) + expired(&b) > 0
    });
    let (a, b) = (a.stop(), b.stop());
    let ends: Vec<&Value> = a.iter().chain(&b).filter(|e| at(e, "/event_type") == "session.revoked").collect();
    assert_eq!(ends.len(), 1, "{ends:?}");
    assert_eq!(at(ends[0], "/actor/login"), at(&login[0], "/actor/login"));
    assert_eq!(at(ends[0], "/metadata/session_id"), at(&login[0], "/metadata/session_id"));
}

#[test]
fn redis_that_dies_hangs_and_comes_back_costs_no_request_and_what_was_said_meanwhile_arrives() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (redis, origin) = (Redis::start(folder.path()), application());
    let port = redis.port;
    let (a, b) = (Replica::start(&origin, port, ""), Replica::start(&origin, port, ""));
    a.login("alice");
    b.await_actor("alice", true);

    drop(redis);
    a.await_metric("authtap_session_share_up 0");
    b.await_metric("authtap_session_share_up 0");
    a.login("bob");
    a.await_actor("bob", true);
    // Known there before: still known. Not known there: nobody, at once.
    b.await_actor("alice", true);
    b.await_actor("bob", false);
    let redis = Redis::at(port, folder.path());
    a.await_metric("authtap_session_share_up 1");
    b.await_metric("authtap_session_share_up 1");
    b.await_actor("bob", true);

    redis.signal("STOP");
    a.login("carol");
    let (began, before) = (Instant::now(), b.events().len());
    for _ in 0..50 {
        b.post("/password", "carol");
    }
    b.await_events(before + 50);
    // Three questions of 50 ms in vain, then none for a second, and so on.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(get(b.admin, "/metrics").text().contains("authtap_session_share_lookups_total{result=\"failed\"}"));
    redis.signal("CONT");
    b.await_actor("carol", true);
    let events = a.stop().len() + b.stop().len();
    let requests = origin.requests().iter().filter(|r| r.start().starts_with("POST")).count();
    assert_eq!(events, requests, "one event each");
}
