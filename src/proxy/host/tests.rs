use http::Request;
use proptest::prelude::*;

use super::*;

fn request(method: &str, target: &str, version: Version, hosts: &[&str]) -> Parts {
    let mut request = Request::builder().method(method).uri(target).version(version);
    for host in hosts {
        request = request.header(HOST, http::HeaderValue::from_bytes(host.as_bytes()).unwrap());
    }
    request.body(()).expect("a request that hyper would hand on").into_parts().0.into()
}

/// The target and the host that are passed on.
fn settled(method: &str, target: &str, version: Version, hosts: &[&str]) -> Result<(String, Vec<String>), TargetError> {
    let mut parts = request(method, target, version, hosts);
    settle(&mut parts)?;
    let hosts = parts.headers.get_all(HOST).iter().map(|host| host.to_str().unwrap().to_owned()).collect();
    Ok((parts.uri.to_string(), hosts))
}

const H10: Version = Version::HTTP_10;
const H11: Version = Version::HTTP_11;
const H2: Version = Version::HTTP_2;

#[test]
fn one_host_and_a_path_pass_as_they_are() {
    for (method, target, version, hosts) in [
        ("GET", "/", H11, &["localhost"][..]),
        ("GET", "/a?b=http://c/", H11, &["App.Example:8443"]),
        ("GET", "//a//b", H11, &["[::1]:80"]),
        ("OPTIONS", "*", H11, &["localhost"]),
        ("GET", "/", H11, &[""]),
        ("GET", "/", H10, &["localhost"]),
        ("GET", "/", H10, &[]),
    ] {
        let want = hosts.iter().map(|host| (*host).to_owned()).collect();
        assert_eq!(
            settled(method, target, version, hosts),
            Ok((target.to_owned(), want)),
            "{method} {target} {hosts:?}"
        );
    }
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    // RFC 9112 section 3.2 unless another section is named; the cases of the conformance bench.
    for (method, target, version, hosts, want) in [
        ("GET", "/", H11, &[][..], TargetError::NoHost),
        ("GET", "http://a.test/", H11, &[], TargetError::NoHost),
        ("GET", "/", H11, &["localhost", "evil.test"], TargetError::ManyHosts),
        ("GET", "/", H11, &["localhost", "localhost"], TargetError::ManyHosts),
        ("GET", "/", H10, &["localhost", "evil.test"], TargetError::ManyHosts),
        ("GET", "/", H11, &["local host"], TargetError::BadHost),
        ("GET", "/", H11, &["localhost/evil"], TargetError::BadHost),
        ("GET", "/", H11, &["a@localhost"], TargetError::BadHost),
        ("GET", "/", H11, &["a.test,b.test"], TargetError::BadHost),
        ("GET", "/", H10, &["a@localhost"], TargetError::BadHost),
        ("GET", "http://u:p@localhost/abs", H11, &["localhost"], TargetError::BadHost),
        ("GET", "http://localhost/abs", H11, &["a b"], TargetError::BadHost),
        ("GET", "ftp://localhost/abs", H11, &["localhost"], TargetError::BadTarget),
        // Section 3.2.3: the authority-form is for CONNECT; section 3.2.4: the asterisk for OPTIONS.
        ("GET", "evil", H11, &["localhost"], TargetError::BadTarget),
        ("GET", "evil.test:80", H11, &["localhost"], TargetError::BadTarget),
        ("GET", "*", H11, &["localhost"], TargetError::BadTarget),
        ("CONNECT", "evil.test:443", H11, &["evil.test:443"], TargetError::Connect),
        // RFC 9113 section 8.3.1.
        ("GET", "https://a.test/", H2, &["b.test"], TargetError::BadHost),
        ("GET", "/", H2, &[], TargetError::NoHost),
    ] {
        assert_eq!(settled(method, target, version, hosts), Err(want), "{method} {target} {hosts:?}");
    }
}

#[test]
fn the_host_of_an_absolute_target_wins() {
    // RFC 9112 section 3.2.2; the last two as in RFC 9113 section 8.3.1.
    for (target, version, hosts, path, host) in [
        ("http://localhost/abs?q=1", H11, &["localhost"][..], "/abs?q=1", "localhost"),
        ("http://a.test/abs", H11, &["b.test"], "/abs", "a.test"),
        ("https://a.test:8443", H11, &["a.test"], "/", "a.test:8443"),
        ("http://a.test?q", H11, &["b.test"], "/?q", "a.test"),
        ("http://a.test#fragment", H11, &["b.test"], "/", "a.test"),
        ("http://[2001:db8::7]:80/", H11, &[""], "/", "[2001:db8::7]:80"),
        ("http://a.test/", H10, &[], "/", "a.test"),
        ("https://a.test/x", H2, &[], "/x", "a.test"),
        ("https://a.test/x", H2, &["A.test"], "/x", "a.test"),
    ] {
        assert_eq!(settled("GET", target, version, hosts), Ok((path.to_owned(), vec![host.to_owned()])), "{target}");
    }
}

#[test]
fn a_refused_request_is_left_unchanged() {
    let mut parts = request("GET", "http://u@a.test/", H11, &["b.test"]);
    assert_eq!(settle(&mut parts), Err(TargetError::BadHost));
    assert_eq!(
        (parts.uri.to_string().as_str(), parts.headers.get(HOST).unwrap().as_bytes()),
        ("http://u@a.test/", &b"b.test"[..])
    );
}

#[test]
fn a_host_is_read_as_rfc_3986_section_3_2_2_says() {
    let long = "a".repeat(255);
    let longer = "a".repeat(256);
    for (text, want) in [
        ("a.test", Some(("a.test", None))),
        ("a_b.test:8080", Some(("a_b.test", Some(8080)))),
        ("a.test:", Some(("a.test", None))),
        ("a.test:00080", Some(("a.test", Some(80)))),
        ("192.0.2.1:1", Some(("192.0.2.1", Some(1)))),
        ("[::1]", Some(("[::1]", None))),
        ("[2001:db8::7]:65535", Some(("[2001:db8::7]", Some(65535)))),
        ("%41.test", Some(("%41.test", None))),
        ("", Some(("", None))),
        (":80", Some(("", Some(80)))),
        (&long, Some((&long, None))),
        (&longer, None),
        ("a.test:65536", None),
        ("a.test:+80", None),
        ("a.test:80:80", None),
        ("a.test:8o", None),
        ("2001:db8::7", None),
        ("[::1", None),
        ("[::1]x", None),
        ("[]", None),
        ("[a.test]", None),
        ("[fe80::1%25eth0]", None),
        ("[v1.x]", None),
        ("a]b", None),
        ("%4", None),
        ("%", None),
        ("%4g", None),
        ("%é", None),
        ("a\\b", None),
        ("a?b", None),
        ("a#b", None),
        ("a\"b", None),
        ("<a>", None),
        ("bücher.test", None),
        (" a.test", None),
    ] {
        let got = HostPort::read(text.as_bytes());
        assert_eq!(got.map(|read| (read.host, read.port)), want, "{text:?}");
    }
    assert_eq!(HostPort::read(b"caf\xe9.test"), None);
}

#[test]
fn one_host_has_one_name_for_matching() {
    for (sent, want) in [
        ("App.Example:8443", "app.example"),
        ("app.example", "app.example"),
        ("app.example.", "app.example"),
        ("APP.EXAMPLE.:80", "app.example"),
        ("[2001:DB8::7]:80", "[2001:db8::7]"),
        ("", ""),
        ("a@b", ""),
    ] {
        assert_eq!(host_without_port_lowercase(sent.as_bytes()), want, "{sent}");
    }
    assert!(matches!(host_without_port_lowercase(b"app.example.:80"), Cow::Borrowed(_)));
}

proptest! {
    #[test]
    fn no_host_that_is_read_holds_what_ends_a_host(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Some(read) = HostPort::read(&bytes) {
            prop_assert!(!read.host.contains(['@', '/', '\\', '?', '#', ',', ' ', '"', '\r', '\n', '\0']));
            prop_assert!(bytes.starts_with(read.host.as_bytes()));
        }
    }

    #[test]
    fn a_request_that_passes_has_one_valid_host_and_passes_again(
        target in prop_oneof!["/[a-z/?]{0,8}", "(http|https|ftp)://[a-zA-Z@:.0-9]{1,12}(/[a-z]{0,3})?", "[a-z]{1,6}"],
        hosts in prop::collection::vec("[a-zA-Z.:@, ]{0,8}", 0..3),
        version in prop::sample::select(vec![H10, H11, H2]),
    ) {
        prop_assume!(target.parse::<Uri>().is_ok());
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let mut parts = request("GET", &target, version, &hosts);
        if settle(&mut parts).is_ok() {
            prop_assert!(parts.uri.authority().is_none() && parts.uri.path().starts_with('/'));
            let sent: Vec<_> = parts.headers.get_all(HOST).iter().collect();
            prop_assert!(sent.len() == 1 || (sent.is_empty() && version == H10));
            prop_assert!(sent.iter().all(|host| HostPort::read(host.as_bytes()).is_some()));
            let before = parts.clone();
            prop_assert!(settle(&mut parts).is_ok());
            prop_assert_eq!((before.uri, before.headers), (parts.uri, parts.headers));
        }
    }
}
