use http::header::{HOST, HeaderValue};
use proptest::prelude::*;

use super::*;

const CLAIM: HeaderName = HeaderName::from_static("x-forwarded-for");

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn map(pairs: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
    }
    headers
}

/// What reaches the application of `sent`, which came over `http` from 127.0.0.2.
fn told(sent: &[(&str, &str)], trusted_peer: bool, client: &str, policy: Policy) -> Headers {
    let peer = Peer::new(Some(ip("127.0.0.2")));
    let mut headers = map(sent);
    let host = Some(Bytes::from_static(b"app.test:8080"));
    let hop = Hop { peer: &peer, client_ip: ip(client), trusted_peer, claim: &CLAIM, scheme: "http", host };
    set_forwarded(&mut headers, &hop, policy);
    headers
}

const APPEND: Policy = Policy { mode: Mode::Append, rfc7239: false };
const REPLACE: Policy = Policy { mode: Mode::Replace, rfc7239: false };
const OFF: Policy = Policy { mode: Mode::Off, rfc7239: false };

/// What an application behind us learns of a client at 127.0.0.2 that forged nothing.
fn honest() -> Headers {
    map(&[
        ("x-forwarded-for", "127.0.0.2"),
        ("x-real-ip", "127.0.0.2"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "app.test:8080"),
    ])
}

/// One forged value for every claim there is, and for odd spellings of some.
fn forgeries() -> Vec<(String, &'static str)> {
    let family = [
        "x-forwarded",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-user",
        "x-forwarded-prefix",
    ];
    let odd = ["x_forwarded_for", "x-forwarded_for", "x.real.ip", "client_ip", "http_x_forwarded_for", "x_forwarded"];
    let rows = CLAIMS.iter().flat_map(|(_, row)| row.iter().copied());
    rows.chain(family).chain(odd).map(|name| (name.to_owned(), "6.6.6.6")).collect()
}

#[test]
fn an_untrusted_peer_tells_the_application_nothing() {
    for policy in [APPEND, REPLACE] {
        assert_eq!(told(&[], false, "127.0.0.2", policy), honest());
        for (name, value) in forgeries() {
            let sent = [(name.as_str(), value), (name.as_str(), "7.7.7.7")];
            assert_eq!(told(&sent, false, "127.0.0.2", policy), honest(), "{name}");
        }
    }
    for (name, value) in forgeries() {
        assert_eq!(told(&[(&name, value)], false, "127.0.0.2", OFF), Headers::new(), "{name}");
    }
}

#[test]
fn headers_that_only_look_alike_pass() {
    let alike = [
        ("x-forward", "1"),
        ("x-forwardedfor", "1"),
        ("client-ip-hint", "1"),
        ("x_real_ipv", "1"),
        ("x_a_b", "1"),
        ("via", "1.1 x"),
        ("proxy", "x"),
    ];
    let got = told(&alike, false, "127.0.0.2", OFF);
    assert_eq!(got, map(&alike));
}

#[test]
fn every_claim_stands_in_the_row_of_its_first_letter() {
    for (letter, row) in CLAIMS {
        for name in row {
            assert_eq!(name.bytes().next(), Some(letter), "{name}");
            assert!(is_client_claim(name) && is_client_claim(&name.to_uppercase().replace('-', "_")), "{name}");
        }
    }
}

#[test]
fn a_trusted_peers_chain_is_kept_and_joined_into_one_line() {
    for (lines, want) in [
        (&["9.9.9.9"][..], "9.9.9.9, 127.0.0.2"),
        (&["1.1.1.1, 9.9.9.9"], "1.1.1.1, 9.9.9.9, 127.0.0.2"),
        (&["1.1.1.1", "", " 9.9.9.9 "], "1.1.1.1, 9.9.9.9, 127.0.0.2"),
    ] {
        let sent: Vec<(&str, &str)> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        let got = told(&sent, true, "9.9.9.9", APPEND);
        assert_eq!(got.get_all(X_FORWARDED_FOR).iter().collect::<Vec<_>>(), [want]);
        assert_eq!(got.get("x-real-ip").unwrap(), "9.9.9.9");
        let got = told(&sent, true, "9.9.9.9", REPLACE);
        assert_eq!(got.get_all(X_FORWARDED_FOR).iter().collect::<Vec<_>>(), ["9.9.9.9"]);
    }
}

#[test]
fn a_client_named_by_another_header_begins_the_chain() {
    for sent in [&[][..], &[("x-forwarded-for", "")]] {
        assert_eq!(told(sent, true, "2001:db8::7", APPEND).get("x-forwarded-for").unwrap(), "2001:db8::7, 127.0.0.2");
    }
}

#[test]
fn a_trusted_peers_scheme_host_and_port_stay() {
    let sent = [
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "public.test"),
        ("x-forwarded-port", "443"),
        ("true-client-ip", "9.9.9.9"),
    ];
    for policy in [APPEND, REPLACE] {
        let got = told(&sent, true, "127.0.0.2", policy);
        for (name, value) in sent {
            assert_eq!(got.get_all(name).iter().collect::<Vec<_>>(), [value]);
        }
    }
    let got = told(&[("x-forwarded-proto", ""), ("x-forwarded-host", "")], true, "127.0.0.2", APPEND);
    assert_eq!(
        (got.get("x-forwarded-proto").unwrap().as_bytes(), got.get("x-forwarded-host").unwrap().as_bytes()),
        (&b"http"[..], &b"app.test:8080"[..])
    );
}

#[test]
fn a_spelling_that_a_trusted_proxy_would_overlook_is_dropped() {
    let sent = [("x_forwarded_for", "6.6.6.6"), ("x-real_ip", "6.6.6.6"), ("x-forwarded-for", "9.9.9.9")];
    for policy in [APPEND, REPLACE, OFF] {
        let got = told(&sent, true, "9.9.9.9", policy);
        assert!(
            !got.contains_key("x_forwarded_for")
                && !got.contains_key("x-real_ip")
                && got.contains_key("x-forwarded-for")
        );
    }
}

#[test]
fn the_header_that_is_believed_is_a_claim_under_any_name() {
    let claim = HeaderName::from_static("x-edge-visitor");
    let peer = Peer::new(Some(ip("127.0.0.2")));
    for trusted_peer in [true, false] {
        let hop =
            Hop { peer: &peer, client_ip: ip("9.9.9.9"), trusted_peer, claim: &claim, scheme: "http", host: None };
        let mut headers = map(&[("x-edge-visitor", "9.9.9.9"), ("x_edge_visitor", "6.6.6.6")]);
        set_forwarded(&mut headers, &hop, OFF);
        assert_eq!(headers.contains_key("x-edge-visitor"), trusted_peer);
        assert!(!headers.contains_key("x_edge_visitor"));
    }
}

#[test]
fn forwarded_gets_our_element_if_it_is_in_use() {
    let wanted = Policy { rfc7239: true, ..APPEND };
    let ours = "for=127.0.0.2;proto=http;host=\"app.test:8080\"";
    assert!(!told(&[], true, "127.0.0.2", APPEND).contains_key(FORWARDED));
    assert_eq!(told(&[], true, "127.0.0.2", wanted).get("forwarded").unwrap(), ours);
    let got = told(&[("forwarded", "for=6.6.6.6")], false, "127.0.0.2", wanted);
    assert_eq!(got.get_all(FORWARDED).iter().collect::<Vec<_>>(), [ours]);
    let sent = [("forwarded", "for=1.1.1.1"), ("forwarded", "for=9.9.9.9;proto=https")];
    let got = told(&sent, true, "9.9.9.9", APPEND);
    assert_eq!(
        got.get_all(FORWARDED).iter().collect::<Vec<_>>(),
        [format!("for=1.1.1.1, for=9.9.9.9;proto=https, {ours}").as_str()]
    );
    let got = told(&sent, true, "2001:db8::7", REPLACE);
    assert_eq!(
        got.get_all(FORWARDED).iter().collect::<Vec<_>>(),
        ["for=\"[2001:db8::7]\";proto=http;host=\"app.test:8080\""]
    );
}

#[test]
fn a_host_that_would_need_an_escape_is_left_out_of_forwarded() {
    let peer = Peer::new(None);
    for host in ["a\"b", "a\\", "", "\u{e9}"] {
        let host = Some(Bytes::from_static(host.as_bytes()));
        let hop = Hop { peer: &peer, client_ip: LOCALHOST, trusted_peer: true, claim: &CLAIM, scheme: "https", host };
        let mut headers = Headers::new();
        set_forwarded(&mut headers, &hop, Policy { rfc7239: true, ..APPEND });
        assert_eq!(headers.get("forwarded").unwrap(), "for=127.0.0.1;proto=https");
    }
}

#[test]
fn without_a_host_no_forwarded_host_is_made() {
    let peer = Peer::new(Some(ip("::ffff:203.0.113.9")));
    let hop = Hop {
        peer: &peer,
        client_ip: ip("203.0.113.9"),
        trusted_peer: false,
        claim: &CLAIM,
        scheme: "http",
        host: None,
    };
    let mut headers = map(&[("x-forwarded-host", "evil.test")]);
    set_forwarded(&mut headers, &hop, APPEND);
    assert!(!headers.contains_key(X_FORWARDED_HOST));
    assert_eq!(
        (peer.ip(), headers.get("x-real-ip").unwrap().as_bytes()),
        (Some(ip("203.0.113.9")), &b"203.0.113.9"[..])
    );
}

#[test]
fn off_leaves_a_trusted_peers_headers_as_they_came() {
    let sent = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "9.9.9.9"),
        ("forwarded", "for=9.9.9.9"),
        ("x-real-ip", "9.9.9.9"),
    ];
    assert_eq!(told(&sent, true, "9.9.9.9", Policy { mode: Mode::Off, rfc7239: true }), map(&sent));
}

#[test]
fn the_scheme_of_the_client_is_a_trusted_peers_word_or_our_own() {
    for (said, want) in [
        ("https", "https"),
        ("HTTPS, http", "https"),
        ("wss", "https"),
        ("http", "http"),
        ("ftp", "http"),
        ("", "http"),
    ] {
        let headers = map(&[("x-forwarded-proto", said)]);
        assert_eq!(client_scheme(&headers, true, "http"), want, "{said}");
        assert_eq!(client_scheme(&headers, false, "http"), "http", "{said}");
    }
    assert_eq!(client_scheme(&Headers::new(), true, "https"), "https");
}

#[test]
fn the_policy_is_read_in_its_short_and_its_long_form() {
    for (source, want) in [
        ("append", Some(APPEND)),
        ("replace", Some(REPLACE)),
        ("off", Some(OFF)),
        ("{ rfc7239: on }", Some(Policy { rfc7239: true, ..APPEND })),
        ("{ mode: replace, rfc7239: off }", Some(REPLACE)),
        ("prepend", None),
        ("{ mode: prepend }", None),
        ("{ rfc7239: maybe }", None),
        ("[append]", None),
    ] {
        let mut problems = Problems::new("routes.yaml", source);
        let node = Node::parse(source, &mut problems).expect("YAML");
        assert_eq!(Policy::check(Some(&node), &mut problems), want, "{source}");
        assert_eq!(problems.has_errors(), want.is_none(), "{source}");
    }
    assert_eq!(Policy::check(None, &mut Problems::new("routes.yaml", "")), Some(APPEND));
}

#[test]
fn a_setting_without_effect_is_warned_about() {
    let source = "{ mode: off, rfc7239: on }";
    let mut problems = Problems::new("routes.yaml", source);
    let node = Node::parse(source, &mut problems).expect("YAML");
    assert_eq!(Policy::check(Some(&node), &mut problems), Some(Policy { mode: Mode::Off, rfc7239: true }));
    assert_eq!(problems.counts(), (0, 1));
}

#[test]
fn the_longest_address_is_written_in_full() {
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255";
    for text in [longest, "2001:db8:1111:2222:3333:4444:5555:6666"] {
        let (written, expected) = (AddressText::of(ip(text)), ip(text).to_string());
        assert_eq!(written.as_bytes(), expected.as_bytes());
    }
}

proptest! {
    #[test]
    fn addresses_are_written_as_everybody_writes_them(ip in any::<IpAddr>()) {
        let (text, expected) = (AddressText::of(ip), ip.to_string());
        prop_assert_eq!(text.as_bytes(), expected.as_bytes());
    }

    #[test]
    fn nothing_an_untrusted_peer_forges_changes_what_the_application_reads(
        picks in prop::collection::vec((0usize..1000, "[ -~]{0,20}", prop::collection::vec(any::<bool>(), 24)), 0..12),
    ) {
        let names = forgeries();
        let mut sent = Headers::new();
        sent.insert(HOST, HeaderValue::from_static("app.test:8080"));
        let mut want = honest();
        want.insert(HOST, HeaderValue::from_static("app.test:8080"));
        for (pick, value, flips) in &picks {
            let (name, _) = &names[pick % names.len()];
            let name: String = name.chars().zip(flips.iter().chain(std::iter::repeat(&false))).map(|(c, flip)| if c == '-' && *flip { '_' } else { c }).collect();
            sent.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let peer = Peer::new(Some(ip("127.0.0.2")));
        let host = sent.get(HOST).map(|host| sent.shared(host));
        let hop = Hop { peer: &peer, client_ip: ip("127.0.0.2"), trusted_peer: false, claim: &CLAIM, scheme: "http", host };
        set_forwarded(&mut sent, &hop, APPEND);
        prop_assert_eq!(sent, want);
    }
}
