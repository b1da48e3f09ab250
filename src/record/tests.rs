use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;

use super::*;
use crate::app::offline::Offline;
use crate::capture::Limits;
use crate::config::settings;
use crate::event::Timestamp;
use crate::exchange::{Ended, Kept, Request, Response};
use crate::har;
use crate::rules::RuleSet;
use crate::rules::facts::Facts;
use crate::rules::presets::PRESETS;

fn kept(body: String) -> Kept {
    Kept { bytes: Bytes::from(body), cut: false, asked: true }
}

fn fields(lines: &[(&str, &str)]) -> crate::headers::Headers {
    let one = |(name, value): &(&str, &str)| {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        (name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"))
    };
    lines.iter().map(one).collect()
}

fn exchange(target: &str, asked: (&[(&str, &str)], String), answer: (u16, &[(&str, &str)], String)) -> Exchange {
    let at = Timestamp::from_millis(1_768_469_537_000);
    Exchange {
        began: at,
        answered: at.plus(Duration::from_millis(5)),
        duration: Duration::from_millis(7),
        client_ip: Ipv4Addr::new(203, 0, 113, 42).into(),
        scheme: "https",
        tls: None,
        request_id: "r-1".into(),
        request: Request {
            method: Method::POST,
            uri: target.parse().expect("a target"),
            host: "app.customer.example".into(),
            headers: fields(asked.0),
            body: kept(asked.1),
        },
        response: Some(Response {
            status: StatusCode::from_u16(answer.0).expect("a status"),
            headers: fields(answer.1),
            body: kept(answer.2),
        }),
        ended: Ended::Complete,
    }
}

fn recorder() -> Recorder {
    Recorder {
        folder: PathBuf::new(),
        scrubber: Scrubber::new([3; 32], Vocabulary::default()),
        waiting: Vec::new(),
        bytes: 0,
        written: Written::default(),
        failed: None,
    }
}

fn escaped(secret: &str) -> String {
    form_urlencoded::byte_serialize(secret.as_bytes()).collect()
}

/// Exchanges that have the secret in every part of request and answer.
fn everywhere(secret: &str) -> Vec<Exchange> {
    let url = escaped(secret);
    let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    let json = serde_json::Value::from(secret).to_string();
    let cookie = format!("sid={url}; other={url}%7C17");
    let basic = format!("Basic {}", STANDARD.encode(format!("alice:{secret}")));
    let claims = URL_SAFE_NO_PAD.encode(format!("{{\"sub\":{json},\"n\":1}}"));
    let jwt = format!("{}.{claims}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode("{\"alg\":\"none\"}"));
    let bearer = format!("Bearer {jwt}");
    let target = format!("/accounts/reset/{url}/?code={url}&q={url}&{url}");
    let set = format!("sid={url}; Path=/reset/{url}; HttpOnly; Comment={url}");
    let location = format!("https://user:{url}@app.customer.example/confirm/{url}?token={url}#access_token={url}");
    let page = format!(
        "<!-- {html} --><p id=a title=\"{html}\">your code is {html}</p><form action=\"/reset/{url}?k={url}\"><input type=password name=pw value=\"{html}\">\
         <input type=hidden name=state value='{html}'></form><script>var nonce = {json}; let a = \"{url}\"</script><a href='/confirm/{url}'>{html}</a>"
    );
    let answer =
        format!("{{\"access_token\":{json},\"user\":{{\"note\":{json},\"list\":[{json}]}},\"url\":\"/reset/{url}\"}}");
    let multipart = format!(
        "--b\r\nContent-Disposition: form-data; name=\"pw\"\r\n\r\n{secret}\r\n--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n{secret}\r\n--b--\r\n"
    );
    let query = format!("mutation {{ login(user: \"a\", password: {json}) {{ token }} }} # {url}");
    let graphql = serde_json::json!({"query": query, "variables": {"p": secret, "password": secret}}).to_string();
    let xml = format!(
        "<?xml version=\"1.0\"?><methodCall><methodName>blog.login</methodName><params><param><value><string>{html}</string></value></param></params></methodCall>"
    );
    let fault = format!("<methodResponse><fault><value><string>no {html}</string></value></fault></methodResponse>");
    let form = ("content-type", "application/x-www-form-urlencoded");
    let as_json = ("content-type", "application/json");
    vec![
        exchange(
            &target,
            (
                &[
                    form,
                    ("cookie", &cookie),
                    ("authorization", &basic),
                    ("referer", &location),
                    ("x-csrf-token", &url),
                    ("x-note", &url),
                    ("host", "app.customer.example"),
                ],
                format!("pw={url}&note={url}&{url}"),
            ),
            (200, &[("content-type", "text/html"), ("set-cookie", &set), ("x-token", &url)], page),
        ),
        exchange(
            "/api/login",
            (
                &[as_json, ("authorization", &bearer), ("user-agent", &url)],
                format!("{{\"password\":{json},\"comment\":{json},\"deep\":[{{\"a\":{json}}}]}}"),
            ),
            (401, &[as_json, ("location", &location)], answer),
        ),
        exchange(
            "/upload",
            (&[("content-type", "multipart/form-data; boundary=b")], multipart),
            (302, &[("location", &location)], String::new()),
        ),
        exchange(
            "/graphql",
            (&[as_json], graphql),
            (200, &[as_json], format!("{{\"errors\":[{{\"message\":{json}}}]}}")),
        ),
        exchange("/xmlrpc.php", (&[("content-type", "text/xml")], xml), (200, &[("content-type", "text/xml")], fault)),
        exchange(
            "/text",
            (&[("content-type", "text/plain")], secret.to_owned()),
            (200, &[("content-type", "text/plain")], secret.to_owned()),
        ),
        exchange(
            "/cut",
            (&[as_json], format!("{{\"password\":{json},")),
            (200, &[as_json], format!("{{\"token\":{json},")),
        ),
    ]
}

/// Secrets as people and programs choose them. One that is a single word of the vocabulary cannot be hidden.
fn secret() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{3,6}[0-9]{2,4}[A-Za-z0-9]{2,10}",
        "[A-Za-z0-9]{20,60}",
        "[A-Za-z0-9_-]{10,20}\\.[A-Za-z0-9_-]{10,20}",
        "[0-9]{6,8}",
        "[A-Z][a-z]{3,7}[!$&%/=?+#-][0-9a-z]{3,6}[!\"<>]?",
        "[bcdfghjklmnpqrstvwxz]{9,14}",
        "(login|password|admin|user)-(ok|next|home)-[0-9]{2}",
        "(login|secret|passwort){2}[a-z]{0,2}",
        "[äöüß]{2,4}[a-z]{3,5}[0-9]{3}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_secret_in_any_part_of_an_exchange_is_written(secret in secret()) {
        let mut recorder = recorder();
        let mut written = String::new();
        for exchange in everywhere(&secret) {
            written.push_str(&recorder.entry(&exchange));
            written.push('\n');
        }
        let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
        let json = serde_json::Value::from(secret.as_str()).to_string();
        let forms = [secret.clone(), escaped(&secret), html, json.trim_matches('"').to_owned(),
                     STANDARD.encode(&secret).trim_end_matches('=').to_owned(), STANDARD.encode(format!("alice:{secret}"))];
        for form in forms {
            prop_assert!(!written.contains(&form), "{form} in\n{written}");
        }
        for told in ["203.0.113.42", "customer"] {
            prop_assert!(!written.contains(told), "{told}");
        }
    }

    #[test]
    fn any_exchange_is_survived_and_read_again(target in "/[A-Za-z0-9%?&=;:@/._~!$'()*+,-]{0,40}", value in "[ -~]{0,60}", body in "\\PC{0,200}", kind in "(text/html|application/json|application/x-www-form-urlencoded|text/xml)") {
        prop_assume!(target.parse::<http::Uri>().is_ok());
        let kind = ("content-type", kind.as_str());
        let one = exchange(&target, (&[kind, ("cookie", &value), ("authorization", &value)], body.clone()), (302, &[kind, ("location", &value), ("set-cookie", &value)], body));
        let text = recorder().entry(&one);
        let har = format!("{{\"log\":{{\"entries\":[{text}]}}}}");
        let read = har::read(har.as_bytes(), Limits::default()).expect("what was written is HAR");
        prop_assert_eq!(read.exchanges.len(), 1, "{}", har);
    }
}

#[test]
fn signs_alone_are_no_secret_and_a_spelled_one_has_one_placeholder_everywhere() {
    let mut scrubber = Scrubber::new([3; 32], Vocabulary::default());
    assert_eq!(scrubber.secret("......"), "......");
    assert_eq!(scrubber.text("a ...... login", scrub::As::Value), "a ...... login");
    let made = scrubber.secret("login-password-admin");
    assert_eq!(scrubber.text("no: login-password-admin!", scrub::As::Text), format!("no: {made}!"));
}

/// What was recorded, read again.
fn again(recorder: &mut Recorder, exchange: &Exchange) -> Exchange {
    let har = format!("{{\"log\":{{\"entries\":[{}]}}}}", recorder.entry(exchange));
    har::read(har.as_bytes(), Limits::default()).expect("HAR").exchanges.pop().unwrap_or_else(|| panic!("{har}"))
}

fn decisions(rules: &RuleSet, exchange: &Exchange, in_session: bool) -> Vec<String> {
    let head = Facts::of_request(
        &exchange.request.method,
        &exchange.request.uri,
        &exchange.request.host,
        &exchange.request.headers,
    );
    let Some(candidates) = rules.candidates(&head) else { return Vec::new() };
    let mut facts = Facts::of_exchange(exchange);
    facts.session_known = Some(in_session);
    let mut all = Vec::new();
    rules.decide_each(&candidates, &facts, |decision| {
        all.push(format!(
            "{} {} {:?} {:?} {:?}",
            decision.route.id, decision.rule, decision.outcome, decision.reason, decision.types
        ));
    });
    all
}

#[test]
fn every_preset_decides_what_was_recorded_as_it_decided_the_original() {
    let (mut compared, mut different) = (0, Vec::new());
    for preset in PRESETS {
        let (config, problems) = settings::check("t", &format!("version: 1\npresets: [{}]\n", preset.name));
        let config = config.unwrap_or_else(|| panic!("{problems}"));
        for route in config.rules.routes() {
            for case in &route.cases {
                let mut original = case.whole();
                // The dates of a test's cookies are those of its clock, and a test has no client to tell.
                original.client_ip = Ipv4Addr::new(192, 0, 2, 1).into();
                let recorded = again(&mut recorder(), &original);
                let (was, is) = (
                    decisions(&config.rules, &original, case.in_session()),
                    decisions(&config.rules, &recorded, case.in_session()),
                );
                if was != is {
                    different.push(format!("{}: {}: {was:?} was, {is:?} is", route.id, case.name));
                }
                compared += 1;
            }
        }
    }
    assert!(different.is_empty(), "{} of {compared}:\n{}", different.len(), different.join("\n"));
    assert!(compared > 500, "{compared}");
}

#[test]
fn auto_sees_the_same_in_what_was_recorded_and_knows_sessions_again() {
    let form = ("content-type", "application/x-www-form-urlencoded");
    let html = ("content-type", "text/html");
    let page = "<form method=post><input name=who><input type=password name=pw></form>".to_owned();
    let signed_in = ("set-cookie", "sid=0a1b2c3d4e5f60718293a4b5; HttpOnly; Path=/");
    let mut exchanges = vec![
        exchange("/enter", (&[form], "who=zenobia&pw=wr0ng-hunter22".into()), (200, &[html], page)),
        exchange(
            "/enter",
            (&[form], "who=zenobia&pw=hunter22-right".into()),
            (302, &[("location", "/home"), signed_in], String::new()),
        ),
        exchange(
            "/konto/kennwort",
            (
                &[form, ("cookie", "sid=0a1b2c3d4e5f60718293a4b5")],
                "alt=hunter22-right&kennwort=hunter22-neu&kennwort2=hunter22-neu&old_password=x".into(),
            ),
            (302, &[("location", "/konto")], String::new()),
        ),
        exchange(
            "/logout",
            (&[form, ("cookie", "sid=0a1b2c3d4e5f60718293a4b5")], String::new()),
            (302, &[("location", "/"), ("set-cookie", "sid=; Max-Age=0")], String::new()),
        ),
    ];
    for (i, exchange) in exchanges.iter_mut().enumerate() {
        let at = Timestamp::from_millis(1_768_469_537_000 + 60_000 * i as i64);
        (exchange.began, exchange.answered) = (at, at);
    }
    let mut recorder = recorder();
    let recorded: Vec<Exchange> = exchanges.iter().map(|exchange| again(&mut recorder, exchange)).collect();
    let (config, _) = settings::check("t", "version: 1\nauto: on\n");
    let config = config.expect("defaults");
    let told = |exchanges: Vec<Exchange>| {
        let mut offline = Offline::new(&config).expect("offline");
        let mut events = Vec::new();
        for exchange in exchanges {
            let captured = offline.captured(exchange);
            events.extend(offline.before(&captured));
            events.extend(offline.events_of(&captured));
        }
        events.extend(offline.end());
        events
    };
    let (was, is) = (told(exchanges), told(recorded));
    let said = |events: &[crate::event::Event]| {
        events.iter().map(|e| format!("{} {} {:?}", e.event_type, e.outcome, e.source.rule)).collect::<Vec<_>>()
    };
    assert_eq!(said(&was), said(&is));
    assert!(said(&was).iter().any(|e| e.starts_with("user.logout")), "{:?}", said(&was));
    let who = |events: &[crate::event::Event]| {
        events.iter().filter_map(|e| e.actor.login.clone()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!((who(&was).len(), who(&is).len()), (1, 1), "{:?}", who(&is));
    assert!(!who(&is).iter().any(|who| who.as_str().contains("zenobia")));
}

#[test]
fn a_recording_is_its_owners_alone_bounded_and_never_written_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().join("recording");
    let mut recorder = Recorder::create(&at, None).expect("created");
    let one = exchange("/", (&[], String::new()), (200, &[], String::new()));
    for _ in 0..FILE_ENTRIES + 1 {
        recorder.record(&one);
    }
    recorder.written.bytes = MAX_BYTES;
    recorder.record(&one);
    let written = recorder.finish().expect("written");
    assert_eq!((written.entries, written.files, written.left_out), (FILE_ENTRIES + 1, 2, 1));
    for entry in std::fs::read_dir(&at).expect("listed") {
        let entry = entry.expect("an entry");
        assert_eq!(entry.metadata().expect("metadata").permissions().mode() & 0o777, 0o600);
        assert!(entry.file_name().to_string_lossy().ends_with(".har"));
        har::read_file(&entry.path(), Limits::default()).expect("HAR");
    }
    assert_eq!(Recorder::create(&at, None).map(|_| ()).expect_err("refused").kind(), ErrorKind::AlreadyExists);
}
