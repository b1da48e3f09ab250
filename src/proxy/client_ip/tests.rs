use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn believing(header: &'static str, trusted: &[&str]) -> ClientIp {
    let nets: Vec<IpNet> =
        trusted.iter().map(|t| t.parse().unwrap_or_else(|_| IpNet::from(t.parse::<IpAddr>().unwrap()))).collect();
    ClientIp::new(&nets, HeaderName::from_static(header))
}

fn headers(name: &'static str, lines: &[&str]) -> Headers {
    let mut headers = Headers::new();
    for line in lines {
        headers.append(HeaderName::from_static(name), line);
    }
    headers
}

/// The peer is 127.0.0.2, and 127.0.0.0/8 and 10.0.0.0/8 are trusted.
fn decided(name: &'static str, lines: &[&str]) -> IpAddr {
    believing(name, &["127.0.0.0/8", "10.0.0.0/8", "::1"]).decide(Some(ip("127.0.0.2")), &headers(name, lines))
}

#[test]
fn x_forwarded_for_of_a_trusted_peer_is_walked_from_the_right() {
    for (lines, want) in [
        (&[][..], "127.0.0.2"),
        (&["9.9.9.9"], "9.9.9.9"),
        (&["1.1.1.1, 9.9.9.9"], "9.9.9.9"),
        (&["1.1.1.1", "9.9.9.9"], "9.9.9.9"),
        (&["1.1.1.1,2.2.2.2", "9.9.9.9 ,10.1.2.3", "127.0.0.1"], "9.9.9.9"),
        (&["6.6.6.6, 9.9.9.9, 127.0.0.2"], "9.9.9.9"),
        (&["10.0.0.1, 10.0.0.2, 127.0.0.1"], "10.0.0.1"),
        (&["  9.9.9.9\t "], "9.9.9.9"),
        (&["9.9.9.9:4321"], "9.9.9.9"),
        (&["\"9.9.9.9\""], "9.9.9.9"),
        (&["2001:DB8:0:0::0007"], "2001:db8::7"),
        (&["[2001:db8::7]"], "2001:db8::7"),
        (&["[2001:db8::7]:443"], "2001:db8::7"),
        (&["[fe80::1%eth0]:80"], "fe80::1"),
        (&["fe80::1%25"], "fe80::1"),
        (&["::ffff:9.9.9.9"], "9.9.9.9"),
        (&["6.6.6.6, ::ffff:10.0.0.1"], "6.6.6.6"),
        // RFC 9110 section 5.6.1.2: empty elements do not count.
        (&["6.6.6.6, , 9.9.9.9"], "9.9.9.9"),
        (&["9.9.9.9,"], "9.9.9.9"),
        (&["", " , "], "127.0.0.2"),
    ] {
        assert_eq!(decided("x-forwarded-for", lines), ip(want), "{lines:?}");
    }
}

#[test]
fn an_unreadable_entry_ends_the_walk_at_its_right_neighbour() {
    for junk in [
        "junk",
        "999.1.1.1",
        "010.010.010.010",
        "9.9",
        "151587081",
        "0x9090909",
        "unknown",
        "_hidden",
        "9.9.9.9.",
        "9.9.9.9/8",
        "9.9.9.9:99999",
        "9.9.9.9:+80",
        "9.9.9.9:",
        "[2001:db8::7",
        "[2001:db8::7]80",
        "2001:db8::7]",
        "[9.9.9.9]",
        "fe80::1%",
        "\"9.9.9.9",
        "9.9.9.9 8.8.8.8",
        "1.1.1.1' or '1'='1",
        "café",
        "::ffff:999.9.9.9",
    ] {
        assert_eq!(decided("x-forwarded-for", &[junk]), ip("127.0.0.2"), "{junk}");
        assert_eq!(decided("x-forwarded-for", &[&format!("6.6.6.6, {junk}")]), ip("127.0.0.2"), "{junk}");
        assert_eq!(decided("x-forwarded-for", &[&format!("6.6.6.6, {junk}, 10.7.7.7")]), ip("10.7.7.7"), "{junk}");
    }
}

#[test]
fn forwarded_is_read_as_rfc_7239_section_4_says() {
    for (lines, want) in [
        (&["for=9.9.9.9"][..], "9.9.9.9"),
        (&["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
        (&["for=9.9.9.9;proto=http;by=203.0.113.43"], "9.9.9.9"),
        (&["proto=http; FOR=9.9.9.9 ;by=\"a,b;for=6.6.6.6\""], "9.9.9.9"),
        (&["for=6.6.6.6, for=9.9.9.9, for=10.0.0.1"], "9.9.9.9"),
        (&["for=6.6.6.6", "for=9.9.9.9, for=10.0.0.1"], "9.9.9.9"),
        (&["for=\"9.9.9.9:_port\""], "9.9.9.9"),
        (&["for=9.9.9.9:80, ,"], "9.9.9.9"),
        (&["for=10.0.0.1, for=10.0.0.2"], "10.0.0.1"),
        (&["for=6.6.6.6, for=unknown"], "127.0.0.2"),
        (&["for=6.6.6.6, for=_hidden, for=10.0.0.1"], "10.0.0.1"),
        // An element that names nobody hides whoever stands left of it.
        (&["for=6.6.6.6, proto=https"], "127.0.0.2"),
        (&["for=6.6.6.6;for=7.7.7.7"], "127.0.0.2"),
        (&["for=6.6.6.6, for =9.9.9.9"], "127.0.0.2"),
        (&["6.6.6.6"], "127.0.0.2"),
        (&["for=\"6.6.6\\.6\""], "127.0.0.2"),
        // Only a separator may follow a value.
        (&["for=\"6.6.6.6\"x=y"], "127.0.0.2"),
        (&["for=6.6.6.6 proto=http"], "127.0.0.2"),
    ] {
        assert_eq!(decided("forwarded", lines), ip(want), "{lines:?}");
    }
}

#[test]
fn a_stray_quote_of_the_client_cannot_swallow_what_a_proxy_appends() {
    for forged in ["for=6.6.6.6;x=\"", "for=6.6.6.6;x=\"\\", "for=\"6.6.6.6", "for=6.6.6.6;x=\"a\"b\""] {
        for appended in ["for=9.9.9.9", "for=\"[2001:db8::7]\"", "for=9.9.9.9;host=\"a.test\";by=\"b\""] {
            let found = decided("forwarded", &[&format!("{forged}, {appended}")]);
            assert_ne!(found, ip("6.6.6.6"), "{forged}, {appended}");
        }
    }
}

#[test]
fn a_single_value_header_must_stand_there_once() {
    for (lines, want) in [
        (&["9.9.9.9"][..], "9.9.9.9"),
        (&[" [2001:db8::7]:80 "], "2001:db8::7"),
        (&["9.9.9.9", "8.8.8.8"], "127.0.0.2"),
        (&["9.9.9.9, 8.8.8.8"], "127.0.0.2"),
        (&["unknown"], "127.0.0.2"),
        (&[], "127.0.0.2"),
    ] {
        assert_eq!(decided("cf-connecting-ip", lines), ip(want), "{lines:?}");
    }
}

#[test]
fn only_the_configured_header_is_believed() {
    let client_ip = believing("x-real-ip", &["127.0.0.2"]);
    assert_eq!(client_ip.decide(Some(ip("127.0.0.2")), &headers("x-forwarded-for", &["9.9.9.9"])), ip("127.0.0.2"));
}

#[test]
fn no_more_than_64_entries_are_walked() {
    let trusted = |n: usize| vec!["10.0.0.1"; n].join(", ");
    let elements = |n: usize| vec!["for=10.0.0.1"; n].join(", ");
    assert_eq!(decided("x-forwarded-for", &[&format!("9.9.9.9, {}", trusted(63))]), ip("9.9.9.9"));
    assert_eq!(decided("x-forwarded-for", &[&format!("9.9.9.9, {}", trusted(64))]), ip("10.0.0.1"));
    assert_eq!(decided("forwarded", &[&format!("for=9.9.9.9, {}", elements(63))]), ip("9.9.9.9"));
    assert_eq!(decided("forwarded", &[&format!("for=9.9.9.9, {}", elements(64))]), ip("10.0.0.1"));
    assert_eq!(decided("forwarded", &["for=9.9.9.9", &elements(60), &elements(3)]), ip("9.9.9.9"));
    assert_eq!(decided("forwarded", &["for=9.9.9.9", &elements(60), &elements(4)]), ip("10.0.0.1"));
}

#[test]
fn mapped_addresses_are_the_addresses_they_map() {
    let client_ip = believing("x-forwarded-for", &["::ffff:10.0.0.0/104", "::ffff:192.0.2.1"]);
    let sent = headers("x-forwarded-for", &["9.9.9.9"]);
    for peer in ["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1"] {
        assert_eq!(client_ip.decide(Some(ip(peer)), &sent), ip("9.9.9.9"), "{peer}");
    }
    assert_eq!(client_ip.decide(Some(ip("::ffff:192.0.2.2")), &sent), ip("192.0.2.2"));
}

#[test]
fn a_unix_socket_is_trusted_and_stands_for_loopback() {
    let client_ip = ClientIp::default();
    assert!(client_ip.trusts(None));
    assert_eq!(client_ip.decide(None, &headers("x-forwarded-for", &["9.9.9.9"])), ip("9.9.9.9"));
    assert_eq!(client_ip.decide(None, &Headers::new()), LOCALHOST);
}

/// What `check` says of a `client_ip:` value: the setting, and the problems as text.
fn checked(source: &str) -> (Option<ClientIp>, String, (usize, usize)) {
    let mut problems = Problems::new("routes.yaml", source);
    let node = Node::parse(source, &mut problems).expect("YAML");
    let found = ClientIp::check(Some(&node), &mut problems);
    let counts = problems.counts();
    (found, problems.to_string(), counts)
}

#[test]
fn nothing_configured_trusts_nobody() {
    let mut problems = Problems::new("routes.yaml", "");
    let client_ip = ClientIp::check(None, &mut problems).expect("a default");
    assert!(problems.is_empty() && !client_ip.trusts(Some(LOCALHOST)));
}

#[test]
fn a_good_configuration_is_taken_without_a_word() {
    let (client_ip, text, counts) =
        checked("{ trusted_proxies: [10.0.0.0/8, 127.0.0.1, '::1', '2001:db8::/32'], header: CF-Connecting-IP }");
    assert_eq!(counts, (0, 0), "{text}");
    let client_ip = client_ip.expect("checked");
    assert_eq!(client_ip.header().as_str(), "cf-connecting-ip");
    for (peer, trusted) in [
        ("10.255.0.1", true),
        ("11.0.0.0", false),
        ("127.0.0.1", true),
        ("127.0.0.2", false),
        ("::1", true),
        ("2001:db8:ffff::", true),
        ("2001:db9::", false),
    ] {
        assert_eq!(client_ip.trusts(Some(ip(peer))), trusted, "{peer}");
    }
}

#[test]
fn every_error_is_reported_and_named() {
    for (source, errors, says) in [
        ("{ trusted_proxies: [lb.internal, 10.0.0.0/33] }", 2, "neither an address nor a network"),
        ("{ trusted_proxies: 10.0.0.1, header: 'x forwarded' }", 1, "cannot be a header's name"),
        ("{ trusted_proxies: 10.0.0.1, header: Cookie }", 1, "does not name a client"),
        ("{ trusted_proxies: 10.0.0.1, header: connection }", 1, "does not name a client"),
        ("{ trusted_proxy: 10.0.0.1 }", 1, "did you mean `trusted_proxies`?"),
        ("[10.0.0.1]", 1, "expected a mapping"),
    ] {
        let (client_ip, text, counts) = checked(source);
        assert!(counts.0 == errors && text.contains(says), "{source}: {text}");
        // An unknown key alone leaves a usable setting; the file is refused all the same.
        assert!(client_ip.is_none() || source.contains("trusted_proxy:"), "{source}");
    }
}

#[test]
fn what_is_hardly_meant_is_warned_about() {
    for (source, says) in [
        ("{ trusted_proxies: 0.0.0.0/0 }", "this trusts everybody"),
        ("{ trusted_proxies: '::ffff:0:0/96' }", "this trusts everybody"),
        ("{ trusted_proxies: 10.0.0.5/8 }", "the network is 10.0.0.0/8"),
        ("{ header: x-real-ip }", "no proxy is trusted"),
        ("{ trusted_proxies: 10.0.0.1, header: x-forwared-for }", "did you mean `x-forwarded-for`?"),
    ] {
        let (client_ip, text, counts) = checked(source);
        assert!(client_ip.is_some() && counts == (0, 1) && text.contains(says), "{source}: {text}");
    }
}

/// Text as proxies and forgers write it: likely pieces, and any other header bytes.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "for=",
            "9.9.9.9",
            "10.0.0.1",
            "127.0.0.2",
            "[::1]",
            "::ffff:10.0.0.1",
            ":80",
            "\"",
            "\\",
            ",",
            ";",
            " ",
            "unknown",
            "_x",
            "%eth0",
            "proto=https",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        prop::collection::vec(0x20u8..=0xff, 0..4).prop_map(|bytes| bytes.into_iter().filter(|b| *b != 0x7f).collect()),
    ];
    prop::collection::vec(piece, 0..90).prop_map(|pieces| pieces.concat())
}

fn sent(name: &HeaderName, lines: &[Vec<u8>]) -> Headers {
    let mut headers = Headers::new();
    for line in lines {
        headers.append(name, HeaderValue::from_bytes(line).expect("header bytes"));
    }
    headers
}

const FORMS: [&str; 3] = ["x-forwarded-for", "forwarded", "x-real-ip"];

proptest! {
    #[test]
    fn an_untrusted_peer_never_changes_the_answer(lines in prop::collection::vec(line(), 0..4), form in 0usize..3, peer: u32) {
        let client_ip = believing(FORMS[form], &["127.0.0.0/8", "10.0.0.0/8"]);
        let peer = IpAddr::V4(Ipv4Addr::from(peer));
        prop_assume!(!client_ip.trusts(Some(peer)));
        prop_assert_eq!(client_ip.decide(Some(peer), &sent(client_ip.header(), &lines)), peer);
    }

    #[test]
    fn the_answer_of_a_trusted_peer_is_the_peer_or_was_written_there(lines in prop::collection::vec(line(), 0..4), form in 0usize..3) {
        let client_ip = believing(FORMS[form], &["127.0.0.0/8", "10.0.0.0/8"]);
        let found = client_ip.decide(Some(ip("127.0.0.2")), &sent(client_ip.header(), &lines));
        prop_assert_eq!(found, found.to_canonical());
        if found.is_ipv4() && found != ip("127.0.0.2") {
            let text = found.to_string();
            prop_assert!(lines.iter().any(|line| String::from_utf8_lossy(line).contains(&text)));
        }
    }

    #[test]
    fn what_a_trusted_proxy_appends_decides(lines in prop::collection::vec(line(), 0..3), tail in line()) {
        let peer = Some(ip("127.0.0.2"));
        let list = believing("x-forwarded-for", &["127.0.0.2"]);
        let appended = [tail.as_slice(), b", 203.0.113.9"].concat();
        let all: Vec<Vec<u8>> = lines.iter().cloned().chain([appended]).collect();
        prop_assert_eq!(list.decide(peer, &sent(list.header(), &all)), ip("203.0.113.9"));

        // In Forwarded a stray quote may hide the appended entry; nothing forged may take its place.
        let forwarded = believing("forwarded", &["127.0.0.2"]);
        let appended = [tail.as_slice(), b", for=203.0.113.9"].concat();
        let all: Vec<Vec<u8>> = lines.iter().cloned().chain([appended]).collect();
        let found = forwarded.decide(peer, &sent(forwarded.header(), &all));
        prop_assert!(found == ip("203.0.113.9") || found == ip("127.0.0.2"), "{}", found);
    }

    #[test]
    fn networks_are_found_as_by_looking_at_each(nets in prop::collection::vec((any::<u32>(), 0u8..=32), 0..12), near in any::<u32>(), pick in 0usize..12) {
        let nets: Vec<IpNet> = nets.into_iter().map(|(a, len)| IpNet::V4(Ipv4Net::new(a.into(), len).unwrap())).collect();
        let ip = match nets.get(pick) {
            Some(IpNet::V4(net)) => Ipv4Addr::from(u32::from(net.broadcast()).wrapping_add(near % 3)),
            _ => near.into(),
        };
        let ip = IpAddr::V4(ip);
        prop_assert_eq!(Trusted::new(&nets).contains(ip), nets.iter().any(|net| net.contains(&ip)));
    }
}
