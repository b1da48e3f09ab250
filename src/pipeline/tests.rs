use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Uri, header};

use super::*;
use crate::capture::queue::Held;
use crate::config::settings;
use crate::event::Text;
use crate::exchange::{Ended, Exchange, Kept, Request, Response};
use crate::headers::Headers;
use crate::rules::RuleSet;
use crate::spool::memory::MemorySpool;

/// A pipeline under a configuration, and its rules.
struct Bench {
    pipeline: Pipeline,
    rules: Arc<RuleSet>,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

impl Bench {
    fn of(yaml: &str) -> Bench {
        let (config, problems) = settings::check("t.yaml", &format!("version: 1\n{yaml}"));
        let config = config.unwrap_or_else(|| panic!("{problems}"));
        let enrichers = Arc::new(config.enrich.build(&config.base).expect("built in"));
        let of = PipelineConfig {
            enrichers,
            session: config.session.clone(),
            watch: Arc::default(),
            identity: config.identity.build(&config.base).expect("no key file"),
            hint: config.hint.clone(),
        };
        let spool: Arc<dyn Spool> = Arc::new(MemorySpool::new(10));
        let pipeline = Pipeline::new(Arc::new(ArcSwap::from_pointee(of)), [7; 32], spool, Arc::new(Metrics::new()));
        Bench { pipeline, rules: config.rules }
    }

    /// One exchange: method and path, cookies, form, status, `Set-Cookie` lines; when.
    fn see(&mut self, request: (&str, &str), form: &str, status: u16, set: &[&str], now: i64) -> Vec<Event> {
        let ((method, path), cookies) = (request.0.split_once(' ').expect("METHOD /path"), request.1);
        let header = |text: &str| HeaderValue::from_str(text).expect("a header");
        let mut headers = Headers::new();
        headers.insert(header::CONTENT_TYPE, header("application/x-www-form-urlencoded"));
        headers.insert(header::COOKIE, header(cookies));
        let kept = |text: &str| Kept { bytes: Bytes::from(text.to_owned()), cut: false, asked: true };
        let exchange = Exchange {
            began: at(now),
            answered: at(now),
            duration: Duration::ZERO,
            client_ip: std::net::Ipv4Addr::LOCALHOST.into(),
            scheme: "http",
            tls: None,
            request_id: "test".into(),
            request: Request {
                method: method.parse::<Method>().expect("a method"),
                uri: path.parse::<Uri>().expect("a path"),
                host: "app.example.test".into(),
                headers,
                body: kept(form),
            },
            response: Some(Response {
                status: StatusCode::from_u16(status).expect("a status"),
                headers: set.iter().map(|line| (header::SET_COOKIE, header(line))).collect(),
                body: kept(""),
            }),
            ended: Ended::Complete,
        };
        let request = &exchange.request;
        let candidates =
            self.rules.candidates(&Facts::of_request(&request.method, &request.uri, &request.host, &request.headers));
        let candidates = candidates.unwrap_or_default();
        let rules = self.rules.clone();
        self.pipeline.events_of(&Captured {
            exchange,
            candidates,
            rules,
            follows: false,
            auto: false,
            held: Held::default(),
            written: None,
        })
    }
}

fn said(events: &[Event]) -> Vec<(&str, &str, &str)> {
    let text = |t: &Option<Text>| t.as_ref().map_or("", |t| t.as_str()).to_owned().leak() as &str;
    events.iter().map(|e| (e.event_type.as_str(), text(&e.reason), e.actor.label().unwrap_or(""))).collect()
}

const ROUTES: &str = r#"
session: { cookies: [sid], ttl: 60s, events: [created, revoked] }
routes:
  - id: login
    match: { method: POST, path: /login }
    actor: { login: form.user }
    rules:
      - { when: { form: { code: present }, status: 302 }, outcome: success }
      - { when: { status: 302, form: { password: second } }, outcome: challenge }
      - { when: { status: 302 }, outcome: success }
      - { when: { form: { code: present } }, outcome: failure, emit: user.mfa.challenge.failed }
    default: failure
    emit: { success: user.login.success, failure: user.login.failed }
  - { id: password, match: { path: /password }, emit: user.password.changed }
  - { id: logout, match: { method: GET, path: /logout }, when: { session: known }, emit: user.logout }
  - id: address
    match: { path: /address }
    actor: { email: form.address }
    emit: user.email.changed
"#;

#[test]
fn a_session_that_was_not_used_is_told_as_expired() {
    let mut bench = Bench::of(ROUTES);
    let login = bench.see(("POST /login", ""), "user=alice", 302, &["sid=a"], 0);
    assert_eq!(said(&login), [("user.login.success", "", "alice"), ("session.created", "", "alice")]);
    assert!(bench.pipeline.events_of_time(at(60)).is_empty());
    let over = bench.pipeline.events_of_time(at(61));
    assert_eq!(said(&over), [("session.revoked", "expired", "alice")]);
    assert_eq!(over[0].metadata.session_id, login[0].metadata.session_id);
    assert!(over[0].metadata.ip_address.is_none() && over[0].metadata.request.is_none(), "nobody asked for it");
    assert!(bench.pipeline.events_of_time(at(62)).is_empty(), "once");
}

#[test]
fn a_session_cookie_set_before_the_second_factor_is_nobodys_until_the_code_is_right() {
    let mut bench = Bench::of(ROUTES);
    let step = bench.see(("POST /login", ""), "user=alice&password=second", 302, &["sid=a"], 0);
    assert_eq!(said(&step), [("user.mfa.challenge.requested", "", "alice")]);
    assert!(bench.see(("GET /logout", "sid=a"), "", 302, &[], 1).is_empty(), "nobody is signed in");
    // The second factor comes to the same path, told apart by its field.
    let wrong = bench.see(("POST /login", "sid=a"), "code=1", 200, &[], 2);
    assert_eq!(said(&wrong), [("user.mfa.challenge.failed", "", "alice")]);
    let right = bench.see(("POST /login", "sid=a"), "code=2", 302, &[], 3);
    assert_eq!(said(&right), [("user.login.success", "", "alice"), ("session.created", "", "alice")]);
    assert_eq!(said(&bench.see(("GET /password", "sid=a"), "", 302, &[], 4)), [("user.password.changed", "", "alice")]);
}

#[test]
fn a_get_that_logs_out_ends_the_session() {
    let mut bench = Bench::of(ROUTES);
    bench.see(("POST /login", ""), "user=alice", 302, &["sid=a"], 0);
    let out = bench.see(("GET /logout", "sid=a"), "", 302, &["sid=b"], 1);
    assert_eq!(said(&out), [("user.logout", "", "alice"), ("session.revoked", "user", "alice")]);
    for sid in ["sid=a", "sid=b"] {
        assert_eq!(
            said(&bench.see(("GET /password", sid), "", 302, &[], 2)),
            [("user.password.changed", "", "")],
            "{sid}"
        );
    }
}

#[test]
fn a_way_out_that_no_route_is_about_leads_nobody_into_the_next_session() {
    let mut bench = Bench::of(ROUTES);
    bench.see(("POST /login", ""), "user=alice", 302, &["sid=a"], 0);
    bench.see(("POST /users/sign_out", "sid=a"), "", 302, &["sid=b"], 1);
    assert_eq!(said(&bench.see(("GET /password", "sid=b"), "", 302, &[], 2)), [("user.password.changed", "", "")]);
}

#[test]
fn who_failed_to_sign_in_is_not_taken_for_who_was_signed_in() {
    let mut bench = Bench::of(ROUTES);
    bench.see(("POST /login", ""), "user=alice", 302, &["sid=a"], 0);
    bench.see(("POST /login", "sid=a"), "user=bob", 200, &["sid=b"], 1);
    assert_eq!(said(&bench.see(("GET /password", "sid=b"), "", 302, &[], 2)), [("user.password.changed", "", "")]);
    assert_eq!(said(&bench.see(("GET /password", "sid=a"), "", 302, &[], 3)), [("user.password.changed", "", "alice")]);
}

#[test]
fn who_changes_an_own_address_is_known_by_both_names() {
    let mut bench = Bench::of(ROUTES);
    bench.see(("POST /login", ""), "user=alice", 302, &["sid=a"], 0);
    let changed = bench.see(("POST /address", "sid=a"), "address=new%40x.test", 302, &[], 1);
    let later = bench.see(("GET /password", "sid=a"), "", 302, &[], 2);
    for event in [&changed[0], &later[0]] {
        let names = (event.actor.login.as_ref().map(Text::as_str), event.actor.email.as_ref().map(Text::as_str));
        assert_eq!(names, (Some("alice"), Some("new@x.test")), "{}", event.event_type);
    }
}

#[test]
fn double_submits_that_both_open_a_session_are_two_sessions() {
    let mut bench = Bench::of(ROUTES);
    for sid in ["sid=a", "sid=b"] {
        let login = bench.see(("POST /login", "sid=before"), "user=alice", 302, &[sid], 0);
        assert_eq!(login.len(), 2, "each answer gave out a session");
    }
    for sid in ["sid=a", "sid=b"] {
        assert_eq!(said(&bench.see(("GET /password", sid), "", 302, &[], 1)), [("user.password.changed", "", "alice")]);
    }
}

#[test]
fn one_url_that_serves_password_code_and_new_password_in_turn_is_one_login() {
    let mut bench = Bench::of(
        r#"
session: { cookies: [sid] }
routes:
  - id: signin
    match: { method: POST, path: /signin }
    actor: { login: form.user }
    flow: { name: signin, key: form.flow }
    rules:
      - { name: done, when: { set_cookie: { sid: present } }, outcome: success }
      - { name: code-right, when: { form: { code: present }, status: 303 }, outcome: success, emit: user.mfa.challenge.success }
      - { name: code-wrong, when: { form: { code: present } }, outcome: failure, emit: user.mfa.challenge.failed }
      - { name: code-asked-for, when: { form: { password: present }, status: 303 }, outcome: challenge }
      - { name: form-again, when: { form: { new_password: present } }, outcome: rejected, reason: validation }
    default: failure
    emit: { success: user.login.success, failure: user.login.failed }
"#,
    );
    let mut all = Vec::new();
    for (form, status, set) in [
        ("flow=f&user=alice&password=bad", 200, None),
        ("flow=f&user=alice&password=good", 303, None),
        ("flow=f&code=1", 200, None),
        ("flow=f&code=2", 303, None),
        ("flow=f&new_password=short", 200, None),
        ("flow=f&new_password=long-enough", 303, Some("sid=a")),
    ] {
        all.extend(bench.see(("POST /signin", ""), form, status, set.as_slice(), 0));
    }
    assert_eq!(
        said(&all),
        [
            ("user.login.failed", "", "alice"),
            ("user.mfa.challenge.requested", "", "alice"),
            ("user.mfa.challenge.failed", "", "alice"),
            ("user.mfa.challenge.success", "", "alice"),
            ("user.login.rejected", "validation", "alice"),
            ("user.login.success", "", "alice"),
        ]
    );
    assert!(bench.pipeline.flows.is_empty());
}
