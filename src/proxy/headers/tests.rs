use proptest::prelude::*;

use super::*;

fn map(pairs: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        headers.append(name, value);
    }
    headers
}

#[test]
fn what_ends_at_every_hop_is_removed() {
    // RFC 9110 section 7.6.1, and 11.7 for the proxy credentials.
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
        "proxy-authorization",
        "proxy-authenticate",
        "proxy-authentication-info",
    ] {
        assert!(is_hop_by_hop(&name.to_ascii_uppercase()));
        for strip in
            [strip_hop_by_hop, |h: &mut Headers| strip_request(h, false), |h: &mut Headers| strip_response(h, false)]
        {
            let mut headers = map(&[(name, "x"), ("x-kept", "1"), (name, "y")]);
            strip(&mut headers);
            assert_eq!(headers, map(&[("x-kept", "1")]), "{name}");
        }
    }
}

#[test]
fn what_connection_names_is_removed() {
    for lines in [
        &["X-Foo"][..],
        &["x-FOO , close"],
        &["keep-alive,,X-foo"],
        &["close", "x-bar, x-foo"],
        &["x-foo, X-Foo,x-foo"],
    ] {
        let mut headers = map(&[("x-foo", "1"), ("x-foo", "2"), ("x-other", "3")]);
        for line in lines {
            headers.append(header::CONNECTION, line);
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("x-other", "3")]), "{lines:?}");
    }
}

#[test]
fn connection_cannot_take_away_what_is_meant_for_the_application() {
    let mut headers = map(&[
        ("connection", "Host, CONTENT-LENGTH, Cookie, Authorization, X-Forwarded-For, x_forwarded_for, X-Real-IP"),
        ("connection", "content-type, set-cookie, location, sec-fetch-site, cf-connecting-ip, x-request-id, forwarded"),
        ("host", "a.test"),
        ("content-length", "5"),
        ("cookie", "a=b"),
        ("authorization", "Basic x"),
        ("x-forwarded-for", "9.9.9.9"),
        ("x_forwarded_for", "9.9.9.9"),
        ("x-real-ip", "9.9.9.9"),
        ("content-type", "text/plain"),
        ("set-cookie", "a=b"),
        ("location", "/"),
        ("sec-fetch-site", "same-origin"),
        ("cf-connecting-ip", "9.9.9.9"),
        ("x-request-id", "1"),
        ("forwarded", "for=9.9.9.9"),
    ]);
    let mut want = headers.clone();
    want.remove("connection");
    strip_hop_by_hop(&mut headers);
    assert_eq!(headers, want);
}

#[test]
fn te_keeps_trailers_and_says_so_in_connection() {
    // RFC 9110 section 10.1.4.
    for (te, kept) in [
        ("trailers", true),
        ("gzip;q=0.5, Trailers", true),
        ("gzip;q=0.5", false),
        ("trailers;q=0", false),
        ("", false),
    ] {
        let mut headers = map(&[("te", te), ("connection", "TE, close")]);
        strip_request(&mut headers, false);
        assert_eq!(
            headers,
            if kept { map(&[("te", "trailers"), ("connection", "te")]) } else { Headers::new() },
            "{te}"
        );
    }
}

#[test]
fn an_upgrade_is_kept_when_it_was_asked_to_stay() {
    let asked = map(&[
        ("connection", "keep-alive, Upgrade, x-foo"),
        ("upgrade", "websocket"),
        ("x-foo", "1"),
        ("te", "trailers"),
    ]);
    let want = map(&[("connection", "upgrade"), ("upgrade", "websocket")]);
    for strip in [strip_request, strip_response] {
        let mut headers = asked.clone();
        strip(&mut headers, true);
        assert_eq!(headers, want);
        let mut headers = asked.clone();
        strip(&mut headers, false);
        assert!(!headers.contains_key("upgrade") && !headers.contains_key("x-foo"));
        let mut headers = map(&[("connection", "close")]);
        strip(&mut headers, true);
        assert!(headers.is_empty(), "no Connection: upgrade without an Upgrade");
    }
}

#[test]
fn an_upgrade_is_one_protocol_that_is_neither_http_nor_tls() {
    for (connection, upgrade, want) in [
        ("Upgrade", &["websocket"][..], true),
        ("keep-alive, uPGRADE", &["WebSocket"], true),
        ("upgrade", &["SPDY/3.1"], true),
        ("keep-alive", &["websocket"], false),
        ("xupgrade", &["websocket"], false),
        ("upgrade", &[], false),
        ("upgrade", &[""], false),
        ("upgrade", &["websocket, h2c"], false),
        ("upgrade", &["websocket", "h2c"], false),
        ("upgrade", &["web socket"], false),
        ("upgrade", &["websocket/"], false),
        ("Upgrade, HTTP2-Settings", &["h2c"], false),
        ("upgrade", &["H2C"], false),
        ("upgrade", &["HTTP/2.0"], false),
        ("upgrade", &["TLS/1.0"], false),
    ] {
        let mut headers = map(&[("connection", connection)]);
        for line in upgrade {
            headers.append(header::UPGRADE, line);
        }
        assert_eq!(is_upgrade(&headers), want, "{connection} / {upgrade:?}");
    }
}

#[test]
fn the_list_of_end_to_end_headers_is_made_of_lower_case_names_and_no_hop_by_hop_one() {
    for name in END_TO_END {
        assert_eq!(HeaderName::from_bytes(name.as_bytes()).expect("a name").as_str(), name);
        assert!(!is_hop_by_hop(name), "{name}");
    }
}

proptest! {
    #[test]
    fn no_connection_header_removes_host_length_cookie_or_authorization(
        options in prop::collection::vec(prop_oneof![
            "(?i)host|content-length|cookie|authorization|x-forwarded-for|x-a|close|upgrade|te",
            "[ -~]{0,12}",
        ], 0..12),
        upgrade: bool,
    ) {
        let kept = [("host", "a.test"), ("content-length", "5"), ("cookie", "a=b"), ("authorization", "x"), ("x-forwarded-for", "9.9.9.9")];
        let mut headers = map(&kept);
        headers.append(HeaderName::from_static("x-a"), "1");
        for option in &options {
            headers.append(header::CONNECTION, option);
        }
        let named = options.iter().flat_map(|o| o.split(',')).any(|o| o.trim_ascii().eq_ignore_ascii_case("x-a"));
        strip_request(&mut headers, upgrade);
        for (name, value) in kept {
            prop_assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), [value]);
        }
        prop_assert_eq!(headers.contains_key("x-a"), !named);
        prop_assert!(!headers.contains_key(header::CONNECTION));
    }
}

#[test]
fn the_one_pass_finds_what_the_list_names() {
    for (place, name) in HOP_BY_HOP.iter().chain([&header::UPGRADE]).enumerate() {
        let lines = Headers::from_iter([(name.clone(), "1")]);
        assert_eq!(Found::of(&lines).0, 1 << place, "{name}");
    }
    assert_eq!(Found::of(&Headers::from_iter([(header::HOST, "a")])).0, 0);
}
