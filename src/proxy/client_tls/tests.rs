use super::*;

const FILE: &str = "tls_header: { version: x-tls-version, sni: x-tls-sni, ja4: x-ja4, subject: x-ssl-dn, email: x-ssl-mail }\n\
client_cert: { header: x-client-cert-subject, email_header: x-client-cert-email }\n";

const FIELDS: &[Field] =
    &[Field::new("tls_header", Kind::Map(BELIEVED), "", ""), Field::new("client_cert", Kind::Map(TOLD), "", "")];

fn checked(source: &str) -> (Policy, Problems) {
    let mut problems = Problems::new("t.yaml", source);
    let node = Node::parse(source, &mut problems).expect("YAML");
    let map = node.map(FIELDS, &mut problems).expect("a mapping");
    let policy = Policy::check(&map, &ClientIp::default(), &mut problems);
    (policy, problems)
}

fn shown(problems: &Problems) -> String {
    problems.sorted().into_iter().map(|problem| problems.render(problem, false)).collect()
}

fn headers(lines: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in lines {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
        headers.append(HeaderName::from_bytes(name.as_bytes()).expect("a name"), value);
    }
    headers
}

fn certificate(subject: &str) -> ClientTls {
    ClientTls { subject: Some(subject.into()), email: Some("alice@acme.test".into()), ..ClientTls::default() }
}

#[test]
fn a_trusted_proxy_is_believed_and_nobody_else() {
    let (policy, _) = checked(FILE);
    let sent = headers(&[
        ("x-tls-version", "TLSv1.3"),
        ("x-tls-sni", "App.Test"),
        ("x-ja4", "t13d1516h2_8daaf6152771_e5627efa2ab1"),
        ("x-ssl-dn", "CN=alice"),
        ("x-ssl-mail", "-"),
    ]);
    let facts = policy.read(&sent, true).and_then(|said| said.facts()).expect("believed");
    assert_eq!((facts.version, facts.sni.as_deref()), (Some("1.3"), Some("app.test")));
    assert_eq!(facts.ja4.as_deref(), Some("t13d1516h2_8daaf6152771_e5627efa2ab1"));
    assert_eq!((facts.subject.as_deref(), facts.email), (Some("CN=alice"), None));
    assert!(policy.read(&sent, false).is_none());
    let (none, _) = checked("{}");
    assert!(none.read(&sent, true).is_none(), "nobody asked");
}

#[test]
fn versions_are_read_in_the_words_of_the_usual_proxies() {
    for (text, known) in [
        ("TLSv1.2", Some("1.2")),
        ("TLS 1.3", Some("1.3")),
        ("tls1.1", Some("1.1")),
        ("TLSv1", Some("1.0")),
        ("1.3", Some("1.3")),
        ("SSLv3", None),
        ("13", None),
    ] {
        assert_eq!(version(text), known, "{text}");
    }
}

#[test]
fn a_header_that_is_there_twice_or_is_too_long_says_nothing_and_is_not_passed_on() {
    let (policy, _) = checked(FILE);
    let long = "a".repeat(MAX_BYTES + 1);
    let mut sent = headers(&[("x-ssl-dn", "CN=mallory"), ("x-ssl-dn", "CN=alice"), ("x-tls-sni", &long)]);
    let said = policy.read(&sent, true).expect("asked");
    assert_eq!(said.facts(), None);
    policy.tell(&mut sent, Some(&said), None);
    assert!(sent.is_empty(), "{sent:?}");
}

#[test]
fn what_a_client_writes_into_the_named_headers_never_arrives_in_any_spelling() {
    let (policy, _) = checked(FILE);
    let mut sent = headers(&[
        ("x-client-cert-subject", "CN=root"),
        ("X_Client_Cert_Subject", "CN=root"),
        ("x.client.cert.email", "root@acme.test"),
        ("x-ja4", "forged"),
        ("x_ssl-dn", "CN=root"),
        ("x-other", "stays"),
    ]);
    policy.tell(&mut sent, None, None);
    assert_eq!(sent, headers(&[("x-other", "stays")]));
    policy.tell(&mut sent, None, Some(&certificate("CN=alice,O=Łódź")));
    assert_eq!(sent.get("x-client-cert-subject").expect("told"), "CN=alice,O=\\c5\\81\\c3\\b3d\\c5\\ba");
    assert_eq!(sent.get("x-client-cert-email").expect("told"), "alice@acme.test");
}

#[test]
fn behind_a_trusted_proxy_its_own_certificate_is_not_taken_for_the_clients() {
    let (policy, _) = checked(FILE);
    let mut sent = headers(&[("x-tls-sni", "app.test")]);
    let said = policy.read(&sent, true).expect("asked");
    policy.tell(&mut sent, Some(&said), Some(&certificate("CN=the balancer")));
    assert_eq!(sent, headers(&[("x-tls-sni", "app.test")]));
}

#[test]
fn a_subject_that_was_cut_is_told_to_nobody() {
    let (policy, _) = checked(FILE);
    let mut sent = Headers::new();
    policy.tell(&mut sent, None, Some(&certificate(&format!("CN={}…", "a".repeat(500)))));
    assert!(!sent.contains_key("x-client-cert-subject"));
}

#[test]
fn names_that_mean_something_else_and_names_used_twice_are_refused() {
    for (source, told) in [
        ("client_cert: { header: cookie }", "means something else"),
        ("client_cert: { header: 'a b' }", "cannot be a header's name"),
        ("client_cert: { header: x-a, email_header: X-A }", "both go into the same header"),
        ("tls_header: { sni: x-a, ja4: x-a }", "named twice"),
    ] {
        let (_, problems) = checked(source);
        assert!(problems.has_errors() && shown(&problems).contains(told), "{source}");
    }
    let (_, problems) = checked("tls_header: { sni: x-a }");
    assert!(!problems.has_errors() && shown(&problems).contains("never believed"));
}
