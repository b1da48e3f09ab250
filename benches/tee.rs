//! What capture adds to an exchange on the traffic threads: [`Pending`] from the request's head to
//! the end of the answer, and [`Copier`], which every frame of a wanted body goes by.
//!
//! The case that matters is the one where no route is about the request: it is nearly all traffic,
//! and what it costs here is what authtap adds to a bare proxy. The matched case is compared with
//! it. Handing the exchange over to the queue, and dropping it, are part of the matched case;
//! deciding is not (see `rules.rs`).

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use authtap::capture::CaptureConfig;
use authtap::capture::pending::{Head, Pending};
use authtap::capture::queue::{Outlet, Queue};
use authtap::capture::tee::Copier;
use authtap::config::settings;
use authtap::exchange::Ended;
use authtap::headers::Headers;
use authtap::telemetry::Traffic;
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use http::{HeaderValue, Method, StatusCode, Uri, header};

const ROUTES: &str = r#"
version: 1
routes:
  - id: login
    match: { method: POST, path: /login }
    actor: { login: form.username }
    rules:
      - { when: { status: 30x }, outcome: success }
      - { when: { status: 200, body: { contains: 'type="password"' } }, outcome: failure }
    emit: { success: user.login.success, failure: user.login.failed }
"#;

fn headers(pairs: &[(header::HeaderName, &'static str)]) -> Headers {
    pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    exchanges(&mut criterion);
    copies(&mut criterion);
    criterion.final_summary();
}

fn exchanges(criterion: &mut Criterion) {
    let (config, problems) = settings::check("bench", ROUTES);
    let config = config.unwrap_or_else(|| panic!("the routes of the benchmark are wrong: {problems}"));
    let capture = CaptureConfig { rules: config.rules, limits: config.capture, ..CaptureConfig::default() };
    let (queue, mut receiver) = Queue::new(8);
    let outlet = Rc::new(Outlet::new(queue, Arc::new(Traffic::default())));
    let request = headers(&[
        (header::HOST, "app.example.test"),
        (header::USER_AGENT, "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        (header::ACCEPT, "text/html,application/xhtml+xml"),
        (header::COOKIE, "sid=0123456789abcdef; theme=dark"),
        (header::CONTENT_TYPE, "application/x-www-form-urlencoded"),
    ]);
    let answer = headers(&[(header::LOCATION, "/"), (header::SET_COOKIE, "sid=fedcba9876543210; HttpOnly; Path=/")]);
    let body = Bytes::from_static(b"username=alice%40example.test&password=not-a-secret&csrf=0123456789abcdef");

    let mut group = criterion.benchmark_group("pending");
    for (name, method, path, status, matches) in [
        ("no_route", Method::GET, "/items/42", StatusCode::OK, false),
        ("redirected_login", Method::POST, "/login", StatusCode::FOUND, true),
        ("refused_login", Method::POST, "/login", StatusCode::OK, true),
    ] {
        let uri = Uri::from_static(path);
        let head = Head {
            tls: None,
            method: &method,
            uri: &uri,
            host: "app.example.test",
            headers: &request,
            client_ip: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 42)),
            scheme: "https",
        };
        group.bench_function(name, |b| {
            b.iter(|| {
                let pending = Pending::begin(&capture, black_box(&head), &outlet);
                assert_eq!(pending.is_some(), matches);
                let Some(mut pending) = pending else { return };
                if let Some(copy) = pending.request_copy() {
                    copy.borrow_mut().see(&body);
                    copy.borrow_mut().end();
                }
                pending.answered(status, &answer);
                pending.see(&body);
                pending.finish(Ended::Complete);
                // Emptied at once: a full queue would make the handing over look cheap.
                assert!(receiver.try_recv().is_ok());
            });
        });
    }
    group.finish();
}

fn copies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("copier");
    for (name, limit, frame, frames) in [
        ("form_in_one_frame", 64 << 10, 120, 1),
        ("page_in_16k_frames", 256 << 10, 16 << 10, 8),
        // What goes by after the limit must cost nothing.
        ("download_past_the_limit", 256 << 10, 16 << 10, 256),
    ] {
        let data = Bytes::from(vec![b'x'; frame]);
        group.throughput(Throughput::Bytes((frame * frames) as u64));
        group.bench_function(name, |b| {
            b.iter_batched(
                || Copier::new(limit),
                |mut copier| {
                    for _ in 0..frames {
                        copier.see(black_box(&data));
                    }
                    copier.end();
                    copier.kept()
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}
