//! What the rules cost: [`RuleSet::candidates`] for every request on the traffic path, and what
//! follows for the few that a route is about.
//!
//! The first question matters most, since nearly all traffic is answered no: that answer must cost
//! the same with 500 routes as with ten. `wants_answer` still runs on the traffic path, once a
//! captured exchange; `decide` runs in the pipeline, on another thread.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use authtap::config::settings;
use authtap::event::Timestamp;
use authtap::exchange::{Ended, Exchange, Kept, Request, Response};
use authtap::headers::Headers;
use authtap::rules::RuleSet;
use authtap::rules::facts::Facts;
use bytes::Bytes;
use criterion::Criterion;
use http::{HeaderValue, Method, StatusCode, Uri, header};

const LOGINS: &str = r#"
  - id: form-login
    match: { method: POST, path: /login }
    actor: { login: form.username }
    rules:
      - { when: { status: 403, body: { contains: CSRF } }, outcome: rejected, reason: csrf }
      - { when: { status: 302, location: { path: / }, set_cookie: { sid: changed } }, outcome: success }
      - { when: { status: 200, body: { contains: 'type="password"' } }, outcome: failure, reason: invalid_credentials }
    emit: { success: user.login.success, failure: user.login.failed, rejected: user.login.rejected }
  - id: json-login
    match: { method: POST, path: /api/login }
    actor: { login: json:/username, id: response.json:/user/id }
    rules:
      - { when: { status: 200, json: { /token: { present: true } } }, outcome: success }
      - { when: { status: 401, json: { /error: invalid_credentials } }, outcome: failure }
    emit: { success: user.login.success, failure: user.login.failed }
  - id: role
    match: { method: POST, path: "template:/admin/users/{name}/role" }
    target: { type: user, id: path.name }
    when: { status: 302 }
    emit: user.role.updated
"#;

/// The three routes above and enough others, half of them with a pattern, to make `count`.
fn rules(count: usize) -> Arc<RuleSet> {
    let mut yaml = String::from("version: 1\nroutes:");
    if count == 0 {
        yaml.push_str(" []\n");
    } else {
        yaml.push_str(LOGINS);
        for n in 3..count {
            let path = if n % 2 == 0 { format!("/area-{n}/save") } else { format!("template:/area-{n}/{{id}}/save") };
            yaml.push_str(&format!(
                "  - {{ id: r{n}, match: {{ method: POST, path: \"{path}\" }}, when: {{ status: 302 }}, emit: settings.updated }}\n"
            ));
        }
    }
    let (config, problems) = settings::check("bench", &yaml);
    // A set that is not the one meant would be measured as a very fast one.
    let config = config.unwrap_or_else(|| panic!("the routes of the benchmark are wrong: {problems}"));
    assert_eq!(config.rules.routes().len(), count);
    config.rules
}

/// A request as capture sees it; the parts that [`Facts`] borrow.
struct Asked {
    method: Method,
    uri: Uri,
    headers: Headers,
}

impl Asked {
    fn new(method: Method, path: &'static str) -> Asked {
        let headers = headers(&[
            (header::HOST, "app.example.test"),
            (header::USER_AGENT, "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
            (header::ACCEPT, "text/html,application/xhtml+xml"),
            (header::COOKIE, "sid=0123456789abcdef; theme=dark"),
        ]);
        Asked { method, uri: Uri::from_static(path), headers }
    }

    fn facts(&self) -> Facts<'_> {
        Facts::of_request(&self.method, &self.uri, "app.example.test", &self.headers)
    }
}

fn headers(pairs: &[(header::HeaderName, &'static str)]) -> Headers {
    pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
}

fn kept(body: &'static str) -> Kept {
    Kept { bytes: Bytes::from_static(body.as_bytes()), cut: false, asked: true }
}

fn exchange(asked: Asked, content_type: &'static str, body: &'static str, response: Response) -> Exchange {
    let mut headers = asked.headers;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Exchange {
        tls: None,
        began: Timestamp::from_millis(1_768_469_537_000),
        answered: Timestamp::from_millis(1_768_469_537_123),
        duration: Duration::from_millis(123),
        client_ip: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 42)),
        scheme: "https",
        request_id: String::new(),
        request: Request {
            method: asked.method,
            uri: asked.uri,
            host: "app.example.test".into(),
            headers,
            body: kept(body),
        },
        response: Some(response),
        ended: Ended::Complete,
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    candidates(&mut criterion);
    answers(&mut criterion);
    criterion.final_summary();
}

/// On the traffic path, for every request.
fn candidates(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("candidates");
    let page = Asked::new(Method::GET, "/items/42?page=2");
    let form = Asked::new(Method::POST, "/login");
    let looked_at = Asked::new(Method::GET, "/login");
    let role = Asked::new(Method::POST, "/admin/users/bob/role");
    for count in [0, 10, 500] {
        let rules = rules(count);
        assert!(rules.candidates(&page.facts()).is_none());
        group.bench_function(format!("miss_{count}_routes"), |b| {
            b.iter(|| rules.candidates(&black_box(&page).facts()).is_some());
        });
        if count == 0 {
            continue;
        }
        assert!(rules.candidates(&form.facts()).is_some() && rules.candidates(&role.facts()).is_some());
        group.bench_function(format!("exact_{count}_routes"), |b| {
            b.iter(|| rules.candidates(&black_box(&form).facts()));
        });
        group.bench_function(format!("exact_path_wrong_method_{count}_routes"), |b| {
            b.iter(|| rules.candidates(&black_box(&looked_at).facts()));
        });
        group.bench_function(format!("template_{count}_routes"), |b| {
            b.iter(|| rules.candidates(&black_box(&role).facts()));
        });
    }
    group.finish();
}

/// For captured exchanges: with the head of the answer, and with everything.
fn answers(criterion: &mut Criterion) {
    let rules = rules(10);
    let form = exchange(
        Asked::new(Method::POST, "/login"),
        "application/x-www-form-urlencoded",
        "username=alice%40example.test&password=not-a-secret&csrf=0123456789abcdef",
        Response {
            status: StatusCode::FOUND,
            headers: headers(&[
                (header::LOCATION, "/"),
                (header::SET_COOKIE, "sid=fedcba9876543210; HttpOnly; Path=/; Secure"),
            ]),
            body: Kept::default(),
        },
    );
    let json = exchange(
        Asked::new(Method::POST, "/api/login"),
        "application/json",
        r#"{"username":"alice@example.test","password":"not-a-secret"}"#,
        Response {
            status: StatusCode::OK,
            headers: headers(&[(header::CONTENT_TYPE, "application/json")]),
            body: kept(r#"{"user":{"id":"usr_1","email":"alice@example.test"},"token":"not-a-token"}"#),
        },
    );
    let mut group = criterion.benchmark_group("answer");
    for (name, exchange, wants_body) in [("form", &form, false), ("json", &json, true)] {
        let whole = Facts::of_exchange(exchange);
        let Some(candidates) = rules.candidates(&whole) else { panic!("no route is about the {name} login") };
        let mut head = Facts::of_request(
            &exchange.request.method,
            &exchange.request.uri,
            &exchange.request.host,
            &exchange.request.headers,
        );
        head.at = exchange.answered;
        head.response = exchange.response.as_ref().map(|r| (r.status, &r.headers));
        assert_eq!(rules.wants_answer(&candidates, &head), wants_body);
        group.bench_function(format!("wants_answer_{name}_login"), |b| {
            b.iter(|| rules.wants_answer(black_box(&candidates), black_box(&head)));
        });
        let decided = rules.decide(&candidates, &whole).map(|d| d.outcome.as_str());
        assert_eq!(decided, Some("success"));
        group.bench_function(format!("decide_{name}_login"), |b| {
            // Bodies are read once for all conditions: facts that were asked before would be cheaper.
            b.iter(|| {
                let facts = Facts::of_exchange(black_box(exchange));
                rules.decide(&candidates, &facts).map(|d| d.outcome)
            });
        });
    }
    group.finish();
}
