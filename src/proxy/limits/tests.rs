use http::Request;
use proptest::prelude::*;

use super::*;

fn limited(connections: u64, connections_per_ip: u64) -> Arc<Connections> {
    Connections::new(&Limits { connections, connections_per_ip, ..Limits::default() })
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn checked(yaml: &str) -> (Limits, Problems) {
    let mut problems = Problems::new("t.yaml", yaml);
    let node = Node::parse(yaml, &mut problems).expect("parses");
    let limits = Limits::check(Some(&node), &mut problems);
    (limits, problems)
}

#[test]
fn the_defaults_in_the_table_are_those_in_force() {
    let yaml: String = FIELDS.iter().map(|f| format!("{}: {}\n", f.name, f.default)).collect();
    let (limits, problems) = checked(&yaml);
    assert!(problems.is_empty(), "{problems}");
    assert_eq!(limits, Limits::default());
}

#[test]
fn what_cannot_be_is_an_error_and_what_contradicts_itself_a_warning() {
    for wrong in [
        "header_bytes: 4KiB",
        "uri_bytes: 1MiB",
        "headers: 3",
        "streams_per_connection: 0",
        "body_idle: 30",
        "conections: 1",
    ] {
        assert!(checked(wrong).1.has_errors(), "{wrong}");
    }
    for odd in ["{ header_bytes: 8KiB, uri_bytes: 16KiB }", "{ connections: 10, connections_per_ip: 10 }"] {
        let (_, problems) = checked(odd);
        assert!(!problems.has_errors() && !problems.is_empty(), "{odd}");
    }
}

#[test]
fn a_place_is_given_back_when_its_connection_ends() {
    let connections = limited(2, 0);
    let (first, _second) = (connections.try_enter(ip("::1")), connections.try_enter_unnamed());
    assert_eq!(connections.try_enter(ip("192.0.2.1")).err(), Some(Full::Total));
    assert_eq!((connections.open.load(Relaxed), connections.refused_total.load(Relaxed)), (2, 1));
    drop(first);
    assert!(connections.try_enter(ip("192.0.2.1")).is_ok());
    assert_eq!(connections.open.load(Relaxed), 1);
}

#[test]
fn one_address_has_its_own_limit_and_a_64_of_ipv6_is_one_address() {
    let connections = limited(0, 2);
    let mut held = Vec::new();
    for same in ["2001:db8::1", "2001:db8::ffff:2"] {
        held.push(connections.try_enter(ip(same)).expect("a place"));
    }
    assert_eq!(connections.try_enter(ip("2001:db8::3")).err(), Some(Full::Address));
    assert!(connections.try_enter(ip("2001:db8:0:1::3")).is_ok());
    // The refused one has left no trace.
    assert_eq!((connections.open.load(Relaxed), connections.of(ip("2001:db8::3"))), (2, 2));
    held.clear();
    assert_eq!(connections.of(ip("2001:db8::1")), 0);

    let _v4 = connections.try_enter(ip("192.0.2.1"));
    assert_eq!(connections.of(ip("::ffff:192.0.2.1")), 1);
}

#[test]
fn a_connection_that_gets_a_name_later_is_counted_for_that_one() {
    let connections = limited(0, 1);
    let mut permit = connections.try_enter(ip("10.0.0.1")).expect("a place");
    assert!(permit.name(ip("192.0.2.1")).is_ok());
    assert_eq!((connections.of(ip("10.0.0.1")), connections.of(ip("192.0.2.1"))), (0, 1));
    let mut other = connections.try_enter_unnamed().expect("a place");
    assert_eq!(other.name(ip("192.0.2.1")), Err(Full::Address));
    drop(other);
    assert_eq!(connections.of(ip("192.0.2.1")), 1);
    drop(permit);
    assert_eq!((connections.of(ip("192.0.2.1")), connections.open.load(Relaxed)), (0, 0));
}

#[test]
fn a_reload_changes_the_limit_and_keeps_the_count() {
    let connections = limited(1, 0);
    let uncounted = connections.try_enter(ip("192.0.2.1")).expect("a place");
    connections.follow(&Limits { connections: 3, connections_per_ip: 1, ..Limits::default() });
    let counted = connections.try_enter(ip("192.0.2.1")).expect("a place");
    assert_eq!(connections.try_enter(ip("192.0.2.1")).err(), Some(Full::Address));
    drop(uncounted);
    assert_eq!(connections.of(ip("192.0.2.1")), 1);
    // The limit is lifted: the counted one still finds its entry.
    connections.follow(&Limits { connections_per_ip: 0, ..Limits::default() });
    drop(counted);
    assert_eq!((connections.of(ip("192.0.2.1")), connections.open.load(Relaxed)), (0, 0));
}

#[test]
fn many_threads_never_pass_the_limit_and_leave_nothing_behind() {
    let connections = limited(40, 15);
    let most = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8u8 {
            let (connections, most) = (&connections, &most);
            scope.spawn(move || {
                for round in 0..500u16 {
                    let address = IpAddr::from([192, 0, 2, thread % 4]);
                    let held: Vec<_> = (0..round % 9).map(|_| connections.try_enter(address)).collect();
                    most.fetch_max(connections.of(address), Relaxed);
                    drop(held);
                }
            });
        }
    });
    assert!(most.load(Relaxed) <= 15 && most.load(Relaxed) > 0);
    assert_eq!(connections.open.load(Relaxed), 0);
    assert!(connections.shards.iter().all(|shard| shard.lock().expect("not poisoned").is_empty()));
}

fn parts(uri: &str, length: Option<&str>) -> Parts {
    let mut request = Request::get(uri);
    if let Some(length) = length {
        request = request.header(CONTENT_LENGTH, length);
    }
    request.body(()).expect("a request").into_parts().0.into()
}

#[test]
fn long_targets_and_bodies_are_refused_with_their_own_status() {
    let limits = Limits { uri_bytes: 256, request_body: 10, ..Limits::default() };
    let status = |parts: Parts| limits.admit(&parts).err().map(|e| e.status().as_u16());
    assert_eq!(status(parts(&format!("/{}", "a".repeat(255)), None)), None);
    assert_eq!(status(parts(&format!("/?{}", "a".repeat(255)), None)), Some(414));
    assert_eq!(status(parts("/", Some("10"))), None);
    assert_eq!(status(parts("/", Some("11"))), Some(413));
    assert!(Limits::default().admit(&parts("/", Some("18446744073709551615"))).is_ok());
    assert!(limits.body_allows(11).is_err());
}

proptest! {
    #[test]
    fn counts_are_those_of_a_simple_list(steps in proptest::collection::vec((any::<bool>(), 0u8..4, any::<usize>()), 0..60)) {
        let connections = limited(8, 3);
        let mut held: Vec<(u8, Permit)> = Vec::new();
        for (enter, host, pick) in steps {
            let address = IpAddr::from([192, 0, 2, host]);
            if enter {
                let own = held.iter().filter(|(h, _)| *h == host).count();
                let expected = if held.len() >= 8 { Some(Full::Total) } else { (own >= 3).then_some(Full::Address) };
                match connections.try_enter(address) {
                    Ok(permit) => {
                        prop_assert_eq!(expected, None);
                        held.push((host, permit));
                    }
                    Err(full) => prop_assert_eq!(Some(full), expected),
                }
            } else if !held.is_empty() {
                held.swap_remove(pick % held.len());
            }
            let own = held.iter().filter(|(h, _)| *h == host).count() as u64;
            prop_assert_eq!(connections.of(address), own);
            prop_assert_eq!(connections.open.load(Relaxed), held.len() as u64);
        }
    }
}

#[test]
fn a_head_over_http2_is_limited_in_size_and_lines_and_a_split_cookie_is_one() {
    let limits = Limits { header_bytes: 8 << 10, headers: 20, ..Limits::default() };
    let admitted = |lines: &[(&'static str, usize)]| {
        let mut request = http::Request::get("https://app.example.test/").body(()).unwrap();
        for (name, length) in lines {
            request.headers_mut().append(*name, "x".repeat(*length).parse::<http::HeaderValue>().unwrap());
        }
        limits.admit_head(&request.into_parts().0.into()).is_ok()
    };
    assert!(admitted(&[("x-a", 8000)]));
    assert!(!admitted(&[("x-a", 8 << 10)]));
    assert!(!admitted(&[("x-a", 4000), ("x-b", 4200)]));
    assert!(admitted(&[("x-a", 1); 20]));
    assert!(!admitted(&[("x-a", 1); 21]));
    assert!(admitted(&[("cookie", 1); 21]));
    assert!(!admitted(&[("cookie", 1); 300]), "each counts with its share (32 bytes)");
}
