//! Reload: a new file is in force without a restart, a bad one changes nothing.

use std::path::{Path, PathBuf};

use crate::harness::binary::Running;
use crate::harness::{Client, Message, Origin, Proxy, answer, ask, at, eventually, form, get};

fn application(name: &'static str) -> Origin {
    Origin::answering(move |_| answer("302 Found", &["Location: /home"], name))
}

/// A file with one route of this id about this path.
fn write(file: &Path, upstream: &Origin, id: &str, path: &str, more: &str) {
    let text = format!(
        "version: 1\nupstream: http://{}\nworkers: 1\n{more}\nroutes:\n  - {{ id: {id}, match: {{ method: POST, path: {path} }}, \
         actor: {{ login: form.username }}, emit: user.login.success }}\n",
        upstream.address
    );
    std::fs::write(file, text).expect("the file is written");
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("routes.yaml");
    (folder, file)
}

fn config(proxy: &Proxy) -> String {
    get(proxy.admin, "/config").text()
}

fn reload(proxy: &Proxy) -> Message {
    ask(proxy.admin, "POST /reload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n")
}

#[test]
fn a_changed_file_is_in_force_soon_and_its_routes_are_used() {
    let (old, new) = (application("old"), application("new"));
    let (_folder, file) = folder();
    write(&file, &old, "first", "/one", "sinks: []");
    let proxy = Proxy::with_file(file.clone());
    let mut client = Client::connect(proxy.address);
    assert_eq!(client.send(form("/one", "username=a")).answer("POST").text(), "old");

    write(&file, &new, "second", "/two", "sinks: []");
    eventually("the new file is in force", || config(&proxy).contains("\"second\""));
    assert!(!config(&proxy).contains("\"first\""));
    // The same connection goes on, with the new routes and the new application.
    assert_eq!(client.send(form("/one", "username=b")).answer("POST").text(), "new");
    assert_eq!(client.send(form("/two", "username=c")).answer("POST").text(), "new");

    let events = proxy.stop();
    let said: Vec<(&str, &str)> = events.iter().map(|e| (at(e, "/source/route"), at(e, "/actor/login"))).collect();
    assert_eq!(said, [("first", "a"), ("second", "c")]);
}

#[test]
fn a_bad_file_keeps_the_old_rules_and_says_why() {
    let origin = application("app");
    let (_folder, file) = folder();
    write(&file, &origin, "first", "/one", "sinks: []");
    let proxy = Proxy::with_file(file.clone());
    let before = config(&proxy);

    write(&file, &origin, "second", "/two", "sinks: []\nsesion: {}");
    let refused = "authtap_config_reloads_total{result=\"refused\"} ";
    eventually("the bad file is noticed", || get(proxy.admin, "/metrics").text().contains(refused));
    assert_eq!(config(&proxy), before, "the old configuration is in force");
    assert!(get(proxy.admin, "/metrics").text().contains("authtap_config_current 0"));
    assert_eq!(get(proxy.admin, "/readyz").status(), 200, "and it serves");

    let answer = reload(&proxy);
    assert_eq!(answer.status(), 422);
    for has in ["sesion", "did you mean `session`?", "routes.yaml:5:1"] {
        assert!(answer.text().contains(has), "{has} is missing in {}", answer.text());
    }
    ask(proxy.address, form("/one", "username=a"));
    ask(proxy.address, form("/two", "username=b"));
    assert_eq!(at(&proxy.await_events(1)[0], "/source/route"), "first");

    write(&file, &origin, "third", "/three", "sinks: []");
    let answer = reload(&proxy);
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert!(answer.text().contains("1 routes, 0 sinks, 0 warnings"), "{}", answer.text());
    assert!(config(&proxy).contains("\"third\"") && !config(&proxy).contains("\"second\""));
    assert!(get(proxy.admin, "/metrics").text().contains("authtap_config_current 1"));
    assert_eq!(proxy.stop().len(), 1);
}

#[test]
fn the_admin_port_shows_what_is_in_force_and_not_what_the_file_has() {
    let (origin, named) = (application("app"), application("named"));
    let (folder, file) = folder();
    let of_start = "listen: 127.0.0.1:1\ndata: kept-here\nadmin: { listen: 127.0.0.1:2, token_env: SOME_NAME }\nauto: off\ndurability: memory";
    write(&file, &origin, "first", "/one", &format!("{of_start}\nsinks: []"));
    let upstream = format!("http://{}", named.address);
    let arguments =
        ["--config", "routes.yaml", "--upstream", &upstream, "--auto", "on", "--workers", "2", "--data", "d"];
    let (mut running, address, admin) = Running::start(folder.path(), &arguments);
    let shown = || serde_json::from_str::<serde_json::Value>(&get(admin, "/config").text()).expect("JSON");
    let in_force = |shown: &serde_json::Value| {
        assert_eq!(shown["listen"][0]["address"], address.to_string(), "the real port, from the command line");
        assert_eq!(shown["listen"].as_array().map(Vec::len), Some(1));
        assert_eq!(shown["upstream"], upstream);
        assert_eq!(shown["auto"], true);
        assert_eq!(shown["workers"], 2);
        assert_eq!(shown["data"], "d");
        assert_eq!(shown["admin"]["listen"], admin.to_string());
        assert_eq!(shown["admin"]["token_env"], "SOME_NAME");
        assert_eq!(shown["durability"], "memory");
    };
    in_force(&shown());
    assert_eq!(shown()["routes"][0]["id"], "first");

    // A reload puts the routes in force, and nothing that takes a restart or that a flag said.
    let other =
        of_start.replace("127.0.0.1:1", "127.0.0.1:3").replace("kept-here", "there").replace("memory", "interval 5ms");
    write(&file, &origin, "second", "/two", &format!("{other}\nsinks: []"));
    eventually("the new file is in force", || shown()["routes"][0]["id"] == "second");
    in_force(&shown());
    running.signal("TERM");
    assert_eq!(running.await_end().code(), Some(0));
}

#[test]
fn a_file_that_goes_away_changes_nothing() {
    let origin = application("app");
    let (_folder, file) = folder();
    write(&file, &origin, "first", "/one", "sinks: []");
    let proxy = Proxy::with_file(file.clone());
    let before = config(&proxy);
    std::fs::remove_file(&file).expect("removed");
    let answer = reload(&proxy);
    assert_eq!(answer.status(), 422);
    assert!(answer.text().contains("cannot read"), "{}", answer.text());
    assert_eq!(config(&proxy), before);
}

#[test]
fn without_a_file_there_is_nothing_to_reload() {
    let origin = application("app");
    let proxy = Proxy::before(origin.address, "");
    let answer = reload(&proxy);
    assert_eq!(answer.status(), 422);
    assert!(answer.text().contains("no configuration file"), "{}", answer.text());
}

#[test]
fn a_request_in_flight_keeps_the_rules_it_began_with() {
    let gate = crate::harness::Gate::default();
    let door = gate.clone();
    let origin = Origin::answering(move |_| {
        door.pass();
        answer("302 Found", &["Location: /home"], "")
    });
    let (_folder, file) = folder();
    write(&file, &origin, "first", "/one", "sinks: []");
    let proxy = Proxy::with_file(file.clone());
    let mut client = Client::connect(proxy.address);
    client.send(form("/one", "username=a"));
    origin.await_heads(1);
    write(&file, &origin, "second", "/two", "sinks: []");
    assert_eq!(reload(&proxy).status(), 200);
    gate.open();
    assert_eq!(client.answer("POST").status(), 302);
    let events = proxy.stop();
    assert_eq!(events.iter().map(|e| at(e, "/source/route")).collect::<Vec<_>>(), ["first"]);
}

#[test]
fn sighup_opens_the_file_of_events_anew_after_a_rename() {
    let origin = application("app");
    let (folder, file) = folder();
    write(&file, &origin, "first", "/one", "sinks: [ { type: file, path: events.jsonl } ]");
    let (events, rotated) = (folder.path().join("events.jsonl"), folder.path().join("events.jsonl.old"));
    let (mut running, address, _) = Running::start(folder.path(), &["--config", "routes.yaml"]);
    let has = |file: &Path, who: &str| std::fs::read_to_string(file).is_ok_and(|t| t.contains(who));

    ask(address, form("/one", "username=before"));
    eventually("the first event is written", || has(&events, "before"));
    std::fs::rename(&events, &rotated).expect("renamed");
    running.signal("HUP");
    running.await_line("new configuration in force");
    ask(address, form("/one", "username=after"));
    eventually("the second event is in the new file", || has(&events, "after"));
    assert!(!has(&rotated, "after") && !has(&events, "before"));

    running.signal("TERM");
    assert_eq!(running.await_end().code(), Some(0));
}

#[test]
fn a_configuration_file_that_is_gone_is_said_once_and_changes_nothing() {
    let origin = application("app");
    let (folder, file) = folder();
    write(&file, &origin, "first", "/one", "sinks: []");
    let (running, address, admin) = Running::start(folder.path(), &["--config", "routes.yaml"]);
    let away = folder.path().join("away.yaml");
    std::fs::rename(&file, &away).expect("renamed");
    running.await_line("the configuration file is gone");
    assert_eq!(ask(address, form("/one", "username=a")).text(), "app");
    assert!(get(admin, "/metrics").text().contains("authtap_config_current 1"));
    // The next that is said is that it changed, not again that it is gone.
    write(&away, &origin, "second", "/two", "sinks: []");
    std::fs::rename(&away, &file).expect("renamed");
    let next = running.await_line("configuration file");
    assert!(next.contains("changed"), "{next}");
}
