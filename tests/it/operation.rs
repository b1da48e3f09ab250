//! How it is operated: the access log, the service manager, and listening on a Unix socket.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering::SeqCst;

use serde_json::Value;

use crate::harness::binary::{Running, authtap};
use crate::harness::ports::{free_port, nobody};
use crate::harness::{Client, Origin, PATIENCE, Proxy, answer, ask, at, eventually, get};

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

#[test]
fn the_access_log_has_a_line_for_each_request_refused_ones_included() {
    let origin = Origin::answering(|_| answer("200 OK", &[], "hello"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("access.jsonl");
    let proxy = Proxy::before(origin.address, &format!("access_log: {{ path: {} }}", file.display()));
    ask(proxy.address, "GET /shop?token=hunter2 HTTP/1.1\r\nHost: App.test:8080\r\nCookie: SID=hunter2\r\n\r\n");
    assert_eq!(ask(proxy.address, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n").status(), 400);
    let nowhere =
        Proxy::before(nobody(), &format!("access_log: {{ path: {} }}", folder.path().join("other.jsonl").display()));
    assert_eq!(get(nowhere.address, "/gone").status(), 502);
    proxy.stop();
    nowhere.stop();

    let written = lines(&file);
    assert_eq!(written.len(), 2, "all is written at the end: {written:#?}");
    assert_eq!((at(&written[0], "/path"), at(&written[0], "/host")), ("/shop", "app.test"));
    assert_eq!((written[0]["status"].as_u64(), written[0]["bytes"].as_u64()), (Some(200), Some(5)));
    assert_eq!(at(&written[0], "/ended"), "complete");
    assert!(written[0]["upstream_ms"].is_number() && written[0]["request_id"].is_string(), "{written:#?}");
    assert_eq!((written[1]["status"].as_u64(), at(&written[1], "/ended")), (Some(400), "complete"));
    assert!(written[1]["bytes"].as_u64() > Some(0) && written[1].get("request_id").is_none(), "{written:#?}");
    assert!(!std::fs::read_to_string(&file).expect("the log").contains("hunter2"));
    let failed = lines(&folder.path().join("other.jsonl"));
    assert_eq!((failed[0]["status"].as_u64(), at(&failed[0], "/ended")), (Some(502), "upstream_failed"));
}

#[test]
fn the_access_log_is_opened_anew_at_sighup_and_follows_a_reload() {
    let origin = Origin::answering(|_| answer("200 OK", &[], "hello"));
    let folder = tempfile::tempdir().expect("a folder");
    let write = |path: &str| {
        let text = format!(
            "version: 1\nupstream: http://{}\nworkers: 1\nsinks: []\naccess_log: {{ path: {path} }}\n",
            origin.address
        );
        std::fs::write(folder.path().join("routes.yaml"), text).expect("the file is written");
    };
    write("access.jsonl");
    let (mut running, address, _) = Running::start(folder.path(), &["--config", "routes.yaml"]);
    let has = |file: &str, path: &str| lines(&folder.path().join(file)).iter().any(|line| at(line, "/path") == path);
    get(address, "/one");
    eventually("the first line is written", || has("access.jsonl", "/one"));

    std::fs::rename(folder.path().join("access.jsonl"), folder.path().join("rotated")).expect("renamed");
    running.signal("HUP");
    running.await_line("new configuration in force");
    get(address, "/two");
    eventually("the second line is in the new file", || has("access.jsonl", "/two"));
    assert!(!has("rotated", "/two"));

    write("moved.jsonl");
    running.await_line("new configuration in force");
    get(address, "/three");
    running.signal("TERM");
    assert_eq!(running.await_end().code(), Some(0));
    assert!(has("moved.jsonl", "/three") && !has("access.jsonl", "/three"), "written before the end");
}

/// A folder with a configuration before this application.
fn configured(origin: &Origin, more: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!("version: 1\nupstream: http://{}\nsinks: []\n{more}\n", origin.address);
    std::fs::write(folder.path().join("routes.yaml"), text).expect("a file");
    folder
}

/// One request over a Unix socket; the whole answer.
fn ask_unix(socket: &Path, fields: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let request = format!("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn it_listens_on_a_unix_socket_whose_peers_are_believed_and_removes_it_at_the_end() {
    let origin = Origin::answering(|_| answer("200 OK", &[], "over unix"));
    let folder = configured(&origin, "workers: 2\naccess_log: { path: access.jsonl }");
    let socket = folder.path().join("in.sock");
    // What a process that was killed leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a stale socket"));
    let listen = format!("unix:{}", socket.display());
    let arguments = ["run", "--config", "routes.yaml", "--admin", "off", "--listen", &listen];
    let mut running = Running::spawn(&mut authtap(folder.path(), &arguments));
    running.await_line("\"message\":\"listening\"");
    assert_eq!(std::fs::metadata(&socket).expect("the socket").permissions().mode() & 0o777, 0o660);

    for _ in 0..4 {
        let answer = ask_unix(&socket, "X-Forwarded-For: 203.0.113.9\r\n");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("over unix"), "{answer}");
    }
    ask_unix(&socket, "");
    let second = crate::harness::binary::run(folder.path(), &arguments);
    assert_eq!(second.status.code(), Some(1), "somebody listens there");
    let complaint = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(complaint.contains("cannot listen on unix:") && complaint.contains("another program"), "{complaint}");

    running.signal("TERM");
    assert_eq!(running.await_end().code(), Some(0));
    assert!(!socket.exists(), "removed");
    let written = lines(&folder.path().join("access.jsonl"));
    let clients: Vec<&str> = written.iter().map(|line| at(line, "/client_ip")).collect();
    assert_eq!(clients.iter().filter(|ip| **ip == "203.0.113.9").count(), 4, "{clients:?}");
    assert_eq!(clients.last(), Some(&"127.0.0.1"));
}

#[test]
fn a_slow_answer_over_a_unix_socket_waits_for_a_client_that_half_closed() {
    let origin = Origin::answering(|_| answer("200 OK", &[], "late"));
    let folder = configured(&origin, "workers: 1");
    let socket = folder.path().join("in.sock");
    let listen = format!("unix:{}", socket.display());
    let arguments = ["run", "--config", "routes.yaml", "--admin", "off", "--listen", &listen];
    let running = Running::spawn(&mut authtap(folder.path(), &arguments));
    running.await_line("\"message\":\"listening\"");
    let mut stream = UnixStream::connect(&socket).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("a half close");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with("late"), "{answer}");
}

/// What the service manager was told next.
fn told(manager: &UnixDatagram) -> String {
    let mut text = [0; 1024];
    let n = manager.recv(&mut text).expect("it is told in time");
    String::from_utf8_lossy(&text[..n]).into_owned()
}

#[test]
fn the_service_manager_is_told_of_readiness_reloads_and_the_end() {
    let origin = Origin::answering(|_| answer("200 OK", &[], ""));
    let folder = configured(&origin, "workers: 1");
    let manager = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let arguments = ["run", "--config", "routes.yaml", "--admin", "off", "--listen", "127.0.0.1:0"];
    let mut command = authtap(folder.path(), &arguments);
    let mut running = Running::spawn(command.env("NOTIFY_SOCKET", folder.path().join("notify")));
    let address = running.await_address("listening");
    assert_eq!(told(&manager).trim(), "READY=1");
    assert_eq!(get(address, "/").status(), 200, "and it serves");
    running.signal("HUP");
    let reloading = told(&manager);
    assert!(reloading.contains("RELOADING=1") && reloading.contains("MONOTONIC_USEC="), "{reloading}");
    assert_eq!(told(&manager).trim(), "READY=1");
    running.signal("TERM");
    assert_eq!(told(&manager).trim(), "STOPPING=1");
    assert_eq!(running.await_end().code(), Some(0));
}

/// Only where systemd's own tool is there: without it a descriptor cannot be handed to a child by
/// safe code. What it does with the variables alone is tested beside the module.
#[test]
fn a_socket_of_the_service_manager_takes_the_place_of_listen() {
    const TOOL: &str = "systemd-socket-activate";
    if std::env::var_os("AUTHTAP_TEST_SERVICES").is_none_or(|on| on != "1") {
        eprintln!("not run: needs {TOOL}; AUTHTAP_TEST_SERVICES=1 switches it on");
        return;
    }
    assert!(Command::new(TOOL).arg("--version").output().is_ok(), "{TOOL} is missing (Debian: systemd)");
    let origin = Origin::answering(|_| answer("200 OK", &[], "inherited"));
    // If this were used, the start would fail: the port is taken.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let elsewhere = taken.local_addr().expect("its address");
    let folder = configured(&origin, &format!("listen: {elsewhere}\nworkers: 2"));
    // The tool takes no port 0: it gets one that was free a moment ago, and another if it is gone.
    let (mut running, address) = (0..5)
        .find_map(|_| {
            let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
            let mut command = Command::new(TOOL);
            command.args(["--setenv", "AUTHTAP_LOG_FORMAT", "--listen", &address.to_string()]);
            command.arg(env!("CARGO_BIN_EXE_authtap")).args(["run", "--config", "routes.yaml", "--admin", "off"]);
            let running = Running::spawn(command.current_dir(folder.path()));
            let said = running.await_line(&address.to_string());
            said.starts_with("Listening on").then_some((running, address))
        })
        .expect("a port for the tool");
    // It starts the program with the first connection, which is served then.
    assert_eq!(get(address, "/").text(), "inherited");
    assert_eq!(running.await_address("listening"), address);
    for _ in 0..4 {
        assert_eq!(get(address, "/").text(), "inherited");
    }
    running.signal("TERM");
    assert_eq!(running.await_end().code(), Some(0));
}

#[test]
fn while_every_address_fails_its_checks_the_process_is_not_ready_and_serves_on() {
    let status = Arc::new(AtomicU16::new(500));
    let said = status.clone();
    let origin = Origin::answering(move |request| match request.target().as_str() {
        "/up" => answer(&format!("{} Said", said.load(SeqCst)), &[], ""),
        _ => answer("200 OK", &[], "served"),
    });
    let health = "{ path: /up, interval: 100ms, healthy_after: 1, unhealthy_after: 1 }";
    let proxy = Proxy::of(&format!("upstream: {{ servers: http://{}, health: {health} }}", origin.address));
    let ready = || get(proxy.admin, "/readyz");
    // Red it is at the start too, for another reason.
    eventually("readiness turns red", || ready().text().contains("every address fails its health checks"));
    assert_eq!(ready().status(), 503);
    assert!(get(proxy.admin, "/metrics").text().contains("authtap_upstream_down 1\n"));
    assert_eq!(get(proxy.address, "/").text(), "served", "requests are tried anyhow");
    status.store(204, SeqCst);
    eventually("readiness turns green", || ready().status() == 200);
    assert!(get(proxy.admin, "/metrics").text().contains("authtap_upstream_down 0\n"));
    let check = origin.requests().into_iter().find(|request| request.target() == "/up").expect("a check");
    assert!(check.field("user-agent").is_some_and(|agent| agent.ends_with("(health check)")));
}

#[test]
fn a_log_that_nobody_reads_holds_up_no_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let routes = format!("version: 1\nworkers: 1\nupstream: http://{}\nsinks: []\n", nobody());
    std::fs::write(folder.path().join("routes.yaml"), routes).expect("a file");
    let (mut running, address, admin) = Running::start_unread(folder.path(), &["--config", "routes.yaml"]);
    // Each is a line of some 200 bytes; a pipe takes 64 KiB, and the program keeps 8192 lines.
    let mut client = Client::connect(address);
    for _ in 0..9_000 {
        assert_eq!(client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").answer("GET").status(), 502);
    }
    let metrics = get(admin, "/metrics").text();
    let lost = metrics.lines().find_map(|line| line.strip_prefix("authtap_log_lines_dropped_total "));
    assert!(lost.is_some_and(|n| n != "0"), "{lost:?}");
    running.signal("TERM");
    assert_eq!(running.await_end().code(), Some(0));
}
