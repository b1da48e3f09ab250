//! The end: what is in flight ends well, what is new is turned away, and no one waits for ever.

use std::time::{Duration, Instant};

use crate::harness::{Client, Gate, LOGIN, Origin, PATIENCE, Proxy, answer, at, eventually, form, get};

/// An application that answers as soon as the gate is open.
fn slow(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::answering(move |_| {
        gate.pass();
        answer("302 Found", &["Location: /home"], "")
    })
}

#[test]
fn a_slow_request_ends_well_while_new_ones_are_turned_away() {
    let gate = Gate::default();
    let origin = slow(&gate);
    let mut proxy = Proxy::before(origin.address, LOGIN);
    eventually("it is ready", || get(proxy.admin, "/readyz").status() == 200);
    let mut client = Client::connect(proxy.address);
    client.send(form("/login", "username=alice&password=x"));
    origin.await_heads(1);

    proxy.tell_to_stop();
    eventually("readiness is red", || get(proxy.admin, "/readyz").status() == 503);
    assert_eq!(get(proxy.admin, "/readyz").text(), "draining");
    assert_eq!(get(proxy.admin, "/healthz").status(), 200, "it lives while it drains");
    eventually("new connections are refused", || Client::try_connect(proxy.address).is_err());

    gate.open();
    let last = client.answer("POST");
    assert_eq!(last.status(), 302);
    assert!(client.ends(), "its connection is closed after the answer");
    proxy.await_end();
    let events = proxy.events();
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(at(&events[0], "/event_type"), "user.login.success");
    assert!(Client::try_connect(proxy.admin).is_err(), "the admin listener is gone at the end");
}

#[test]
fn idle_connections_are_closed_and_delay_nothing() {
    let origin = Origin::answering(|_| answer("200 OK", &[], "ok"));
    let mut proxy = Proxy::before(origin.address, "timeouts: { drain: 20s, header: 20s }");
    let mut used = Client::connect(proxy.address);
    assert_eq!(used.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").answer("GET").status(), 200);
    let mut unused = Client::connect(proxy.address);
    eventually("both are accepted", || get(proxy.admin, "/metrics").text().contains("authtap_connections_open 2"));

    let told = Instant::now();
    proxy.tell_to_stop();
    assert!(used.ends() && unused.ends(), "both are closed");
    proxy.await_end();
    assert!(told.elapsed() < Duration::from_secs(10), "nobody waited for the deadline");
}

#[test]
fn a_request_that_never_ends_is_cut_at_the_deadline() {
    let origin = Origin::raw(|conn| {
        conn.request();
        conn.await_end();
    });
    let mut proxy = Proxy::before(origin.address, &format!("timeouts: {{ drain: 200ms }}\n{LOGIN}"));
    let mut client = Client::connect(proxy.address);
    client.send(form("/login", "username=alice&password=x"));
    origin.await_heads(1);

    let told = Instant::now();
    proxy.tell_to_stop();
    assert!(client.ends(), "cut without an answer");
    proxy.await_end();
    assert!(told.elapsed() >= Duration::from_millis(200), "it had its time");
    assert!(told.elapsed() < PATIENCE / 2, "and no more than that");
    let events = proxy.events();
    assert_eq!(events.len(), 1, "what was cut is not lost: {events:#?}");
    assert_eq!((at(&events[0], "/event_type"), at(&events[0], "/reason")), ("user.login.unknown", "no_answer"));
}

/// An application that switches protocols and says every byte back until the other side ends.
fn switching() -> Origin {
    Origin::raw(|conn| {
        conn.request();
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
        let mut some = [0; 64];
        loop {
            let n = conn.some(&mut some);
            if n == 0 || !conn.send(&some[..n]) {
                return;
            }
        }
    })
}

/// A client whose tunnel through the proxy is open.
fn tunnel(proxy: &Proxy) -> Client {
    let mut client = Client::connect(proxy.address);
    client.send("GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    assert_eq!(client.head().status(), 101);
    client
}

fn echoes(client: &mut Client, word: &str) {
    client.send(word);
    let mut back = vec![0; word.len()];
    let mut filled = 0;
    while filled < back.len() {
        let n = client.some(&mut back[filled..]);
        assert!(n > 0, "the tunnel ended within {word:?}");
        filled += n;
    }
    assert_eq!(back, word.as_bytes());
}

#[test]
fn a_tunnel_is_an_open_connection_and_may_end_by_itself_while_draining() {
    let origin = switching();
    let mut proxy = Proxy::before(origin.address, "timeouts: { drain: 20s }");
    let mut client = tunnel(&proxy);
    echoes(&mut client, "before");
    let metrics = get(proxy.admin, "/metrics").text();
    assert!(metrics.contains("authtap_connections_open 1\n"), "{metrics}");
    assert!(metrics.contains("authtap_tunnels_open 1\n"), "{metrics}");

    let told = Instant::now();
    proxy.tell_to_stop();
    eventually("new connections are refused", || Client::try_connect(proxy.address).is_err());
    // Well after the connection's own task has seen the end of its HTTP.
    for n in 0..20 {
        echoes(&mut client, &format!("while draining {n}"));
    }
    client.half_close();
    assert!(client.ends(), "the application's end arrives");
    proxy.await_end();
    assert!(told.elapsed() < Duration::from_secs(10), "nobody waited for the deadline");
}

#[test]
fn a_tunnel_that_stays_is_cut_at_the_deadline() {
    let origin = switching();
    let mut proxy = Proxy::before(origin.address, "timeouts: { drain: 300ms }");
    let mut client = tunnel(&proxy);
    let told = Instant::now();
    proxy.tell_to_stop();
    assert!(client.ends(), "cut");
    proxy.await_end();
    assert!(told.elapsed() >= Duration::from_millis(300), "it had its time");
    assert!(told.elapsed() < PATIENCE / 2, "and no more than that");
}

#[test]
fn a_tunnel_keeps_its_place_among_the_connections_allowed() {
    let origin = switching();
    let proxy = Proxy::before(origin.address, "limits: { connections: 1 }");
    let mut client = tunnel(&proxy);
    echoes(&mut client, "hello");
    assert!(Client::connect(proxy.address).ends(), "there is no second place");
    client.half_close();
    assert!(client.ends());
    eventually("the place is given back", || {
        let mut next = Client::connect(proxy.address);
        next.try_send("GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").is_ok()
            && matches!(next.try_answer("HEAD"), Ok(Some(answer)) if answer.status() == 101)
    });
}

#[test]
fn sigterm_lets_the_program_end_with_0() {
    let gate = Gate::default();
    let origin = slow(&gate);
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(
        folder.path().join("routes.yaml"),
        format!("version: 1\nsinks: [ {{ type: file, path: events.jsonl }} ]\n{LOGIN}"),
    )
    .expect("a file");
    let upstream = format!("http://{}", origin.address);
    let (mut running, address, admin) =
        crate::harness::binary::Running::start(folder.path(), &["--config", "routes.yaml", "--upstream", &upstream]);
    let mut client = Client::connect(address);
    client.send(form("/login", "username=alice&password=x"));
    origin.await_heads(1);
    running.signal("TERM");
    eventually("readiness is red", || get(admin, "/readyz").status() == 503);
    gate.open();
    assert_eq!(client.answer("POST").status(), 302);
    assert_eq!(running.await_end().code(), Some(0));
    let written = std::fs::read_to_string(folder.path().join("events.jsonl")).expect("the sink's file");
    assert_eq!(written.matches("\"user.login.success\"").count(), 1, "{written}");
}
