//! How it is operated: the access log, the service manager, and listening on a Unix socket.

use std::path::Path;

use serde_json::Value;

use crate::harness::binary::Running;
use crate::harness::{Origin, Proxy, answer, ask, at, eventually, get};

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
    let nowhere = Proxy::before(
        crate::harness::origin::nobody(),
        &format!("access_log: {{ path: {} }}", folder.path().join("other.jsonl").display()),
    );
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
