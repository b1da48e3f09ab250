//! The PROXY protocol towards the application: one connection, one client.

use crate::harness::{Client, Origin, Proxy, answer, post};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// An application that takes a line of version 1 and says it back in every answer of the connection.
fn application() -> Origin {
    Origin::raw(|conn| {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut one = [0; 1];
            if conn.some(&mut one) == 0 {
                return;
            }
            line.push(one[0]);
        }
        while conn.request().is_some_and(|request| request.whole) {
            if !conn.send(&answer("200 OK", &[], line.trim_ascii_end())) {
                return;
            }
        }
    })
}

fn before(origin: &Origin, yaml: &str) -> Proxy {
    Proxy::of(&format!("upstream: {{ servers: http://{}, proxy_protocol: v1 }}\n{yaml}", origin.address))
}

#[test]
fn each_client_has_connections_of_its_own_and_keeps_them() {
    let origin = application();
    let proxy = before(&origin, "");
    let mut seen = Vec::new();
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(proxy.address)).collect();
    for _ in 0..2 {
        for client in &mut clients {
            let here = client.writer().local_addr().expect("its address");
            let said = client.send(GET).answer("GET").text();
            let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}", here.port(), proxy.address.port());
            assert_eq!(said, expected);
            seen.push(said);
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

#[test]
fn clients_behind_one_balancer_are_told_apart() {
    let origin = application();
    let proxy = before(&origin, "client_ip: { trusted_proxies: [127.0.0.1] }");
    let mut balancer = Client::connect(proxy.address);
    for client in ["203.0.113.1", "203.0.113.2", "203.0.113.1"] {
        let said = balancer.send(post("/", &format!("X-Forwarded-For: {client}\r\n"), "x")).answer("POST").text();
        // The port of a client behind another proxy is not known.
        assert_eq!(said, format!("PROXY TCP4 {client} 127.0.0.1 0 {}", proxy.address.port()));
    }
}

#[test]
fn version_two_goes_before_the_first_request() {
    let origin = Origin::raw(|conn| {
        let mut head = [0; 28];
        let mut filled = 0;
        while filled < head.len() {
            match conn.some(&mut head[filled..]) {
                0 => return,
                n => filled += n,
            }
        }
        while conn.request().is_some() {
            if !conn.send(&answer("200 OK", &[], head)) {
                return;
            }
        }
    });
    let proxy = Proxy::of(&format!("upstream: {{ servers: http://{}, proxy_protocol: v2 }}", origin.address));
    let mut client = Client::connect(proxy.address);
    let here = client.writer().local_addr().expect("its address");
    let said = client.send(GET).answer("GET").body;
    assert_eq!(said[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
    assert_eq!(said[16..24], [127, 0, 0, 1, 127, 0, 0, 1]);
    assert_eq!(said[24..], [here.port().to_be_bytes(), proxy.address.port().to_be_bytes()].concat());
}
