use std::time::Duration;

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

/// 2026-01-15T09:32:17Z.
const AT: Timestamp = Timestamp::from_millis(1_768_469_537_000);

fn cookies(lines: &[&str]) -> Headers {
    lines.iter().map(|line| (header::COOKIE, HeaderValue::from_str(line).unwrap())).collect()
}

fn answer(lines: &[&str]) -> Headers {
    lines.iter().map(|line| (header::SET_COOKIE, HeaderValue::from_str(line).unwrap())).collect()
}

#[test]
fn cookies_are_found_over_several_lines_and_unquoted() {
    let headers = cookies(&["a=1; b=\"two\";c = 3 ;; =x; d", "e=a=b; a=9; f=\""]);
    let cases =
        [("a", Some("1")), ("b", Some("two")), ("c", Some("3")), ("d", None), ("e", Some("a=b")), ("f", Some("\""))];
    for (name, expected) in cases {
        assert_eq!(request_cookie(&headers, name), expected.map(str::as_bytes), "{name}");
    }
    assert_eq!(request_cookie(&headers, ""), None);
    assert_eq!(request_cookies(&headers).filter(|(name, _)| *name == b"a").count(), 2);
}

#[test]
fn lines_that_take_a_cookie_away_are_known() {
    let cases = [
        ("sid=x", false),
        ("sid=x; Max-Age=0", true),
        ("sid=x; max-age=-1; Path=/", true),
        ("sid=x; Max-Age=000", true),
        ("sid=x; Max-Age=3600", false),
        ("sid=x; Max-Age=99999999999999999999999", false),
        ("sid=x; Max-Age=; Expires=Thu, 01 Jan 1970 00:00:00 GMT", true),
        ("sid=x; Max-Age=1x", false),
        ("sid=x; Max-Age=+1", false),
        ("sid=x; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", false),
        ("sid=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0", true),
        ("sid=x; Max-Age=0; Max-Age=5", false),
        ("sid=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT", true),
        ("sid=x; expires=Thu, 01-Jan-1970 00:00:10 GMT", true),
        ("sid=x; expires=Thu, 01-Jan-70 00:00:10 GMT", true),
        ("sid=x; Expires=Thursday, 01-Jan-70 00:00:00 GMT", true),
        ("sid=x; Expires=Thu Jan  1 00:00:00 1970", true),
        ("sid=x; Expires=Mon, 01-Jan-1990 00:00:00 GMT", true),
        ("sid=x; Expires=Thu, 15 Jan 2026 09:32:17 GMT", true),
        ("sid=x; Expires=Thu, 15 Jan 2026 09:32:18 GMT", false),
        ("sid=x; Expires=Wed, 15-Jan-2026 09:32:18 GMT", false),
        ("sid=x; Expires=Fri, 31-Dec-9999 23:59:59 GMT", false),
        ("sid=x; Expires=1 jan 1999 1:2:3", true),
        ("sid=x; Expires=\"Thu, 01 Jan 1970 00:00:00 GMT\"", true),
        ("sid=x; Expires=Thu, 01 Jan 1600 00:00:00 GMT", false),
        ("sid=x; Expires=Thu, 31 Feb 2020 00:00:00 GMT", false),
        ("sid=x; Expires=0", false),
        ("sid=x; Expires=-1", false),
        ("sid=", true),
        ("sid=\"\"; Path=/", true),
        ("sid=deleted", true),
        ("sid=deleted-not", false),
    ];
    for (line, deleted) in cases {
        assert_eq!(SetCookie::parse(line.as_bytes(), AT).map(|set| set.deleted), Some(deleted), "{line}");
    }
    for nameless in ["", "sid", "=x", " ; sid=x"] {
        assert_eq!(SetCookie::parse(nameless.as_bytes(), AT), None, "{nameless}");
    }
}

#[test]
fn a_recording_is_judged_by_its_own_time() {
    let line = b"sid=x; Expires=Thu, 15 Jan 2026 10:00:00 GMT";
    let later = Timestamp::from_millis(AT.as_millis() + 3_600_000);
    assert_eq!(SetCookie::parse(line, AT).map(|set| set.deleted), Some(false));
    assert_eq!(SetCookie::parse(line, later).map(|set| set.deleted), Some(true));
}

#[test]
fn the_last_line_of_a_name_decides_what_changed() {
    use CookieChange::{Absent, Changed, Deleted, Same};
    let cases: [(&[&str], &[&str], CookieChange); 11] = [
        (&["sid=a"], &[], Absent),
        (&["sid=a"], &["other=a"], Absent),
        (&["sid=a"], &["sid=a; Path=/"], Same),
        (&["sid=a"], &["sid=\"a\""], Same),
        (&["sid=a", "sid=b"], &["sid=b"], Same),
        (&["sid=a"], &["sid=b"], Changed),
        (&[], &["sid=b"], Changed),
        (&["SID=a"], &["sid=a"], Changed),
        (&["sid=a"], &["sid=; Max-Age=0", "sid=b"], Changed),
        (&["sid=a"], &["sid=b", "sid=a"], Same),
        (&[], &["sid=b", "sid=deleted; Max-Age=0"], Deleted),
    ];
    for (request, response, expected) in cases {
        assert_eq!(change(&cookies(request), &answer(response), "sid", AT), expected, "{request:?} {response:?}");
    }
}

#[test]
fn a_trailing_star_fits_any_rest_and_a_change_outweighs_a_deletion() {
    use CookieChange::{Absent, Changed, Deleted, Same};
    let pattern = "wordpress_logged_in_*";
    let cases: [(&[&str], CookieChange); 5] = [
        (&["wordpress_logged_in_1f=a|1", "wordpress_sec_1f=x"], Changed),
        (&["wordpress_logged_in_1f=+; Max-Age=0"], Deleted),
        (&["wordpress_logged_in_2=x", "wordpress_logged_in_1=; Max-Age=0"], Changed),
        (&["wordpress_logged_in_3=old", "wordpress_logged_in_1=; Max-Age=0"], Deleted),
        (&["wordpress_test_cookie=1"], Absent),
    ];
    let request = cookies(&["wordpress_logged_in_3=old"]);
    for (response, expected) in cases {
        assert_eq!(change(&request, &answer(response), pattern, AT), expected, "{response:?}");
    }
    assert_eq!(change(&request, &answer(&["wordpress_logged_in_3=old"]), pattern, AT), Same);
    assert!(fits("*", b"x") && !fits("a*b", b"axb"));
}

#[test]
fn only_so_many_set_cookie_lines_are_read() {
    let mut headers = Headers::new();
    for n in 0..MAX_SET_COOKIES {
        headers.append(header::SET_COOKIE, HeaderValue::from_str(&format!("c{n}=x")).unwrap());
    }
    assert_eq!(change(&Headers::new(), &headers, "c127", AT), CookieChange::Changed);
    headers.append(header::SET_COOKIE, HeaderValue::from_static("sid=x"));
    assert_eq!(change(&Headers::new(), &headers, "sid", AT), CookieChange::Absent);
}

#[test]
fn debug_shows_no_value() {
    let shown = format!("{:?}", SetCookie::parse(b"sid=hunter2", AT));
    assert_eq!(shown, "Some(SetCookie { name: \"sid\", value_len: 7, deleted: false })");
}

proptest! {
    #[test]
    fn a_cookie_of_a_wanted_name_is_seen_exactly_where_it_is_read(
        lines in proptest::collection::vec("([ab=;\" ]|a=|; b=){0,10}", 0..3),
        names in proptest::collection::vec("[ab]{1,2}[*]?", 0..3),
    ) {
        let headers = cookies(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let wanted = Wanted::new(names);
        let read = request_cookies(&headers).any(|(name, _)| wanted.has(name));
        prop_assert_eq!(brings_any(&headers, &wanted), read);
    }

    #[test]
    fn any_bytes_are_some_cookie(bytes in proptest::collection::vec(any::<u8>(), 0..200), name in ".*") {
        let _ = (SetCookie::parse(&bytes, AT), date(&bytes), lenient_date(&bytes));
        let expires = [b"sid=x; Expires=", &bytes[..]].concat();
        prop_assert!(SetCookie::parse(&expires, AT).is_some());
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            let request: Headers = [(header::COOKIE, value.clone())].into_iter().collect();
            let response: Headers = [(header::SET_COOKIE, value)].into_iter().collect();
            let _ = (request_cookie(&request, &name), change(&request, &response, &name, AT));
        }
    }

    #[test]
    fn date_like_text_never_panics(text in "[A-Za-z]{0,3},? ?[0-9]{0,5}[- ](Jan|feb|DEC|x)[- ][0-9]{0,6} [0-9:]{0,9} ?G?") {
        let _ = date(text.as_bytes());
    }

    #[test]
    fn the_lenient_reading_agrees_with_httpdate(seconds in 0_u64..253_402_300_800) {
        let moment = UNIX_EPOCH + Duration::from_secs(seconds);
        let text = httpdate::fmt_http_date(moment);
        let expected = Some(Timestamp::from_millis(i64::try_from(seconds * 1000).unwrap()));
        prop_assert_eq!(lenient_date(text.as_bytes()), expected);
        prop_assert_eq!(lenient_date(text.replacen(' ', "-", 3).as_bytes()), expected);
        prop_assert_eq!(date(text.as_bytes()), expected);
    }
}
