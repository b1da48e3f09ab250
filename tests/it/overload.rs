//! The application stands still while a crowd waits for it: memory stays within a bound for each who
//! waits, health stays green, and when the application goes on, everybody gets their own answer.
//!
//! A thousand clients in the normal run, ten thousand with `AUTHTAP_SLOW=1`.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::harness::binary::Running;
use crate::harness::h2::{AnyBody, H2Origin, whole};
use crate::harness::{eventually, get, slow};

/// What one who waits may cost, in KiB: two connections, the request, and the copy of what is captured.
const EACH_KIB: u64 = 96;
/// What may be added whatever the number.
const BASE_KIB: u64 = 16 << 10;
/// The longest that health may take.
const HEALTHY: Duration = Duration::from_secs(5);

/// Waits until the application goes on.
async fn goes_on(mut gate: watch::Receiver<bool>) {
    // The other end closes with the test.
    let _ = gate.wait_for(|open| *open).await;
}

/// An application over HTTP/1.1 that answers when `gate` opens, with the target.
async fn http1(gate: watch::Receiver<bool>, heads: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (gate, heads) = (gate.clone(), heads.clone());
            tokio::spawn(async move {
                let mut head = Vec::new();
                loop {
                    match stream.read_buf(&mut head).await {
                        Ok(read) if read > 0 => {}
                        _ => return,
                    }
                    if !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"password=x") {
                        continue;
                    }
                    let target = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
                    head.clear();
                    heads.fetch_add(1, SeqCst);
                    goes_on(gate.clone()).await;
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len());
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// The same over HTTP/2.
async fn http2(gate: watch::Receiver<bool>, heads: Arc<AtomicUsize>) -> SocketAddr {
    let answer = move |request: http::Request<hyper::body::Incoming>| {
        let (gate, heads) = (gate.clone(), heads.clone());
        async move {
            heads.fetch_add(1, SeqCst);
            goes_on(gate).await;
            Response::<AnyBody>::new(whole(request.uri().path().to_owned()))
        }
    };
    H2Origin::serving(100, answer).await.address
}

/// One client; the answer's body, or `None` if it was turned away.
async fn client(proxy: SocketAddr, n: usize, door: Arc<Semaphore>) -> Option<String> {
    // All at once would only measure the kernel's queue of connections.
    let turn = door.acquire().await.expect("never closed");
    let mut stream = TcpStream::connect(proxy).await.ok()?;
    let request = match n % 2 {
        0 => format!("GET /n/{n} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"),
        _ => {
            let body = format!("username=u{n}&password=x");
            format!(
                "POST /n/{n} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: {}\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
                body.len()
            )
        }
    };
    let sent = stream.write_all(request.as_bytes()).await;
    drop(turn);
    let mut answer = String::new();
    match (sent, stream.read_to_string(&mut answer).await) {
        (Ok(()), Ok(_)) if !answer.is_empty() => {
            let (head, body) = answer.split_once("\r\n\r\n")?;
            Some(if head.starts_with("HTTP/1.1 200 ") { body } else { head }.to_owned())
        }
        _ => None,
    }
}

/// A counter of the proxy's.
fn metric(admin: SocketAddr, name: &str) -> usize {
    let text = get(admin, "/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn overload(clients: usize, speaks_http2: bool) {
    authtap::descriptors::raise();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (open, gate) = watch::channel(false);
    let heads = Arc::new(AtomicUsize::new(0));
    let (origin, protocol) = match speaks_http2 {
        true => (runtime.block_on(http2(gate, heads.clone())), "h2"),
        false => (runtime.block_on(http1(gate, heads.clone())), "http1"),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let yaml = format!(
        "version: 1\nworkers: 2\nupstream: {{ servers: http://{origin}, protocol: {protocol} }}\n\
         timeouts: {{ answer: 10m, header: 5m }}\nsinks: []\nroutes:\n  - id: login\n    \
         match: {{ method: POST, path: \"template:/n/{{id}}\" }}\n    actor: {{ login: form.username }}\n    \
         when: {{ status: 200 }}\n    emit: user.login.success\n"
    );
    std::fs::write(folder.path().join("routes.yaml"), yaml).expect("a file");
    let (mut running, proxy, admin) = Running::start(folder.path(), &["--config", "routes.yaml"]);
    let before = running.resident_kib();

    let door = Arc::new(Semaphore::new(64));
    let crowd: Vec<_> = (0..clients).map(|n| runtime.spawn(client(proxy, n, door.clone()))).collect();
    let turned_away = || metric(admin, "authtap_connections_refused_total");
    eventually("all wait, or were turned away", || heads.load(SeqCst) + turned_away() == clients);
    let waiting = heads.load(SeqCst);
    let peak = running.resident_kib();
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let asked = Instant::now();
        assert_eq!(get(admin, "/healthz").status(), 200);
        assert_eq!(get(admin, "/readyz").status(), 200);
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < HEALTHY, "health took {slowest:?}");
    assert!(
        peak.saturating_sub(before) < BASE_KIB + EACH_KIB * clients as u64,
        "{waiting} clients that wait cost {} KiB",
        peak - before
    );

    let went_on = Instant::now();
    open.send(true).expect("the application waits");
    let mut served = 0;
    for (n, one) in crowd.into_iter().enumerate() {
        if let Some(body) = runtime.block_on(one).expect("no panic") {
            assert_eq!(body, format!("/n/{n}"), "everybody gets their own");
            served += 1;
        }
    }
    let went_on = went_on.elapsed();
    assert_eq!(served, waiting, "whoever was let in is served");
    assert_eq!(get(proxy, "/n/after").text(), "/n/after");
    eventually("all have gone", || metric(admin, "authtap_connections_open") == 0);
    let after = running.resident_kib();
    running.signal("TERM");
    assert_eq!(running.await_end().code(), Some(0));
    if slow() {
        let mut text = String::new();
        let _ = writeln!(text, "{protocol}: {clients} clients, {waiting} waiting, {} turned away", clients - waiting);
        let _ = writeln!(text, "resident: {before} KiB before, {peak} KiB at the peak, {after} KiB after");
        let _ = writeln!(text, "health at most {slowest:?}; all served {went_on:?} after the application went on");
        crate::harness::tell(&text);
    }
}

#[test]
fn a_crowd_that_waits_for_a_stalled_application_costs_bounded_memory_and_no_health() {
    overload(if slow() { 10_000 } else { 1_000 }, false);
}

#[test]
fn a_crowd_that_waits_on_streams_of_http2_costs_no_more() {
    overload(if slow() { 10_000 } else { 1_000 }, true);
}
