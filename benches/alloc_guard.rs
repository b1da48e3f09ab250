//! A guard, not a measurement: fails if capture allocates for a request that no route is about, or
//! tracing for one that is not recorded.
//!
//! "The cost on unmatched traffic is that of a bare proxy" is kept by one line of code after the
//! other that does not allocate, and lost by one that does, which no timing on a shared machine
//! would show. So allocations are counted, and the count must be exactly zero.
//!
//! A counting allocator in this file would need `unsafe`, which this package forbids. Therefore the
//! program runs itself under glibc's `libmemusage.so`, which counts the calls of the C allocator:
//! once with few repetitions and once with many. The difference is what the repetitions cost; what
//! the start allocates, and what the regexes build when first used, falls out of it. A matched
//! request is counted too and must allocate, or else it would be the counting that is broken.
//!
//! Linux with glibc only. Exits 0 if all is as it must be, 1 if it cannot be counted, 3 if an
//! allocation is too many.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::sync::Arc;

use authtap::capture::CaptureConfig;
use authtap::capture::pending::{Head, Pending};
use authtap::capture::queue::{Outlet, Queue};
use authtap::capture::rotation::Rotation;
use authtap::config::settings;
use authtap::headers::Headers;
use authtap::proxy::http1::head::{Allowed, HeadReader, RequestHead};
use authtap::proxy::spans::Tracer;
use authtap::rules::presets;
use authtap::telemetry::Traffic;
use bytes::BytesMut;
use http::{HeaderValue, Method, Uri, header};
use prometheus_client::metrics::counter::Counter;

const HEAD: &str = "GET / HTTP/1.1\r\nHost: app.example.test\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Cookie: sid=0123456789abcdef; theme=dark\r\nContent-Type: application/x-www-form-urlencoded\r\n\
    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\r\n\r\n";

/// How the program is told that it is the one whose allocations are counted.
const COUNTED: &str = "--counted";
const FEW: u64 = 1_000;
const MANY: u64 = 11_000;

const ROUTES: &str = r#"
version: 1
session: { cookies: [sid] }
routes:
  - { id: login, match: { method: POST, path: /login }, actor: { login: form.username }, when: { status: 30x }, emit: user.login.success }
  - { id: role, match: { method: POST, path: "template:/admin/users/{name}/role" }, when: { status: 30x }, emit: user.role.updated }
  - { id: export, match: { method: GET, path: "glob:/exports/*.csv" }, when: { status: 200 }, emit: data.exported }
"#;

/// A request, and whether capture is to take it.
struct Case {
    name: &'static str,
    method: Method,
    target: &'static str,
    captured: bool,
    /// Every preset at once, instead of `ROUTES`.
    presets: bool,
}

const CASES: [Case; 7] = [
    Case { name: "a page", method: Method::GET, target: "/items/42?page=2", captured: false, presets: false },
    Case { name: "another form", method: Method::POST, target: "/items/42/comments", captured: false, presets: false },
    Case { name: "the login page, looked at", method: Method::GET, target: "/login", captured: false, presets: false },
    Case { name: "a login", method: Method::POST, target: "/login", captured: true, presets: false },
    Case {
        name: "every preset: a page",
        method: Method::GET,
        target: "/items/42?page=2",
        captured: false,
        presets: true,
    },
    Case { name: "every preset: the front page", method: Method::GET, target: "/", captured: false, presets: true },
    Case {
        name: "every preset: the login page",
        method: Method::GET,
        target: "/login",
        captured: false,
        presets: true,
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, counted, case, times] = args.as_slice()
        && counted == COUNTED
    {
        return match (case.parse().ok().and_then(|n: usize| CASES.get(n)), times.parse()) {
            (Some(case), Ok(times)) => repeat(case, times),
            _ => ExitCode::from(2),
        };
    }
    let mut out = std::io::stdout();
    let mut code = ExitCode::SUCCESS;
    for (n, case) in CASES.iter().enumerate() {
        let (few, many) = match (count(n, FEW), count(n, MANY)) {
            (Ok(few), Ok(many)) => (few, many),
            (Err(why), _) | (_, Err(why)) => {
                let _ = writeln!(out, "cannot count allocations: {why}");
                return ExitCode::FAILURE;
            }
        };
        let allocations = many.saturating_sub(few) as f64 / (MANY - FEW) as f64;
        let good = if case.captured { many >= few + (MANY - FEW) } else { many == few };
        let verdict = match (good, case.captured) {
            (true, _) => "as it must be",
            (false, false) => "must be 0: something on the way of every request allocates",
            (false, true) => "a captured request must allocate: the counting does not work",
        };
        let _ = writeln!(out, "{}: {allocations} allocations a request ({verdict})", case.name);
        if !good {
            code = ExitCode::from(3);
        }
    }
    code
}

/// What is counted: `times` requests, one like the other.
fn repeat(case: &Case, times: u64) -> ExitCode {
    let routes = match case.presets {
        true => format!("version: 1\npresets: [{}]\n", presets::NAMES.join(", ")),
        false => ROUTES.to_owned(),
    };
    let (Some(config), _) = settings::check("guard", &routes) else { return ExitCode::from(2) };
    let capture = CaptureConfig {
        rules: config.rules,
        limits: config.capture,
        session_cookies: authtap::body::wanted::Wanted::new(config.session.cookies),
        ..CaptureConfig::default()
    };
    let (queue, mut receiver) = Queue::new(8);
    let outlet = Rc::new(Outlet::new(queue, Arc::new(Traffic::default())));
    let uri = Uri::from_static(case.target);
    // As they come: lines of a head that was read.
    let mut head = BytesMut::from(HEAD);
    let allowed = Allowed { headers: 100, bytes: 16 << 10 };
    let Ok(Some(RequestHead { parts, .. })) = HeadReader::default().request(&mut head, allowed) else {
        return ExitCode::from(2);
    };
    let headers = parts.headers;
    let answer: Headers = [(header::CONTENT_TYPE, HeaderValue::from_static("text/html"))].into_iter().collect();
    // Traces are on, and this request's client does not record it.
    let (tracer, _spans) = Tracer::new(1.0, true, Counter::default());
    let head = Head {
        tls: None,
        method: &case.method,
        uri: &uri,
        host: "app.example.test",
        headers: &headers,
        client_ip: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 42)),
        scheme: "https",
    };
    for _ in 0..times {
        if tracer.sample(&headers).is_some() {
            return ExitCode::from(2);
        }
        let captured = Pending::begin(&capture, &head, &outlet).is_some();
        // A session cookie that is not changed costs no more.
        if let Some(rotation) = Rotation::begin(&capture, &headers, &uri) {
            rotation.answered(&capture, ("app.example.test", head.client_ip), &answer, &outlet);
        }
        if captured != case.captured || receiver.try_recv().is_ok() != captured {
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// How often this program asks for memory when it runs case `n` so many times.
fn count(n: usize, times: u64) -> Result<u64, String> {
    let this = std::env::current_exe().map_err(|e| format!("this program cannot be found: {e}"))?;
    let ran = Command::new(this)
        .args([COUNTED, &n.to_string(), &times.to_string()])
        .env("LD_PRELOAD", "libmemusage.so")
        .env("MEMUSAGE_NO_TIMER", "1")
        .env_remove("MEMUSAGE_OUTPUT")
        .env_remove("MEMUSAGE_PROG_NAME")
        .output()
        .map_err(|e| format!("this program cannot be started: {e}"))?;
    let said = String::from_utf8_lossy(&ran.stderr);
    if !ran.status.success() {
        return Err(format!("the counted run ended with {}", ran.status));
    }
    let row = |name: &str| {
        let row = said.lines().find_map(|line| line.split_once(name)).map(|(_, row)| row);
        // The names are coloured: an escape sequence may stand before the numbers.
        row.and_then(|row| row.split_whitespace().find_map(|word| word.parse::<u64>().ok()))
    };
    match (row("malloc|"), row("realloc|"), row("calloc|")) {
        (Some(malloc), Some(realloc), Some(calloc)) => Ok(malloc + realloc + calloc),
        _ => Err("there is no libmemusage.so (Debian: package libc6)".into()),
    }
}
