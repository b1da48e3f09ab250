use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::timeout;

use super::*;
use crate::event::{Event, Outcome};
use crate::filter::tests::event;
use crate::spool::Spool;
use crate::spool::memory::MemorySpool;
use crate::telemetry::Metrics;

/// After this a test has failed; longer than a heartbeat.
const PATIENCE: Duration = Duration::from_secs(30);

/// A state as the program would wire it, on loopback without a token.
pub(crate) fn state(spool: Arc<MemorySpool>) -> AdminState {
    AdminState {
        metrics: Arc::new(Metrics::new()),
        spool,
        readiness: Readiness::new(),
        config: Arc::new(|| "version: 1\n".to_owned()),
        reload: Arc::new(|| Box::pin(async { Ok("reloaded\n".to_owned()) })),
        replay: Arc::new(|sink, from, dead| Ok(format!("{sink} {} {dead}\n", from.is_some()))),
        auth: AdminAuth::for_listener(([127, 0, 0, 1], 0).into(), None).expect("loopback"),
    }
}

fn demanding() -> AdminAuth {
    AdminAuth::for_listener(([0, 0, 0, 0], 0).into(), Some("t0ken".into())).expect("a token")
}

/// A failed login.
pub(crate) fn failed(login: &str) -> Event {
    event("user.login.failed", Outcome::Failure, login, "203.0.113.42")
}

/// The routes without a network.
struct Bench {
    spool: Arc<MemorySpool>,
    state: AdminState,
    router: Router,
    close: watch::Sender<bool>,
}

impl Bench {
    fn new(capacity: usize) -> Bench {
        Bench::with(capacity, |_| {})
    }

    fn with(capacity: usize, change: impl FnOnce(&mut AdminState)) -> Bench {
        let spool = Arc::new(MemorySpool::new(capacity));
        let mut state = state(spool.clone());
        change(&mut state);
        let (close, closing) = watch::channel(false);
        Bench { spool, router: server::router(state.clone(), closing), state, close }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "localhost");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        TowerToHyperService::new(self.router.clone()).call(request).await.expect("no error is possible")
    }

    async fn text(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let response = self.ask(method, path, headers).await;
        let status = response.status().as_u16();
        let body = timeout(PATIENCE, response.into_body().collect()).await.expect("the body ends in time");
        let body = body.expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    /// A viewer that has been greeted, and its position.
    async fn view(&self, query: &str, headers: &[(&str, &str)]) -> (Body, u64) {
        let response = self.ask("GET", &format!("/events?{query}"), headers).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        let mut body = response.into_body();
        let greeting = piece(&mut body).await.expect("a greeting");
        let id = greeting.trim().rsplit_once("id: ").expect("a position").1;
        (body, id.parse().expect("a number"))
    }
}

/// The next piece of a stream.
async fn piece(body: &mut Body) -> Option<String> {
    let frame =
        timeout(PATIENCE, body.frame()).await.expect("it comes in time")?.expect("no error").into_data().expect("data");
    Some(String::from_utf8(frame.to_vec()).expect("text"))
}

fn ids(piece: &str) -> Vec<u64> {
    piece.lines().filter_map(|line| line.strip_prefix("id: ")).map(|id| id.parse().expect("a number")).collect()
}

#[tokio::test]
async fn healthz_is_ok_and_readyz_names_what_is_awaited() {
    let bench = Bench::new(8);
    let guards = (bench.state.readiness.guard("spool"), bench.state.readiness.guard("sink webhook"));
    assert_eq!(bench.text("GET", "/healthz", &[]).await, (200, "ok".into()));
    assert_eq!(bench.text("GET", "/readyz", &[]).await, (503, "spool\nsink webhook".into()));
    drop(guards);
    assert_eq!(bench.text("GET", "/readyz", &[]).await, (200, "ready".into()));
    bench.state.readiness.drain();
    assert_eq!(bench.text("GET", "/readyz", &[]).await, (503, "draining".into()));
    assert_eq!(bench.text("GET", "/healthz", &[]).await, (200, "ok".into()));
}

#[tokio::test]
async fn metrics_are_openmetrics_text() {
    let bench = Bench::new(8);
    bench.state.metrics.events("user.login.failed", "failure", 1);
    let response = bench.ask("GET", "/metrics", &[]).await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(response.headers()[header::CONTENT_TYPE], kind);
    let (_, text) = bench.text("GET", "/metrics", &[]).await;
    assert!(text.contains("authtap_events_total{event_type=\"user.login.failed\"") && text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn config_says_what_it_is_and_nothing_is_cached() {
    let bench = Bench::new(8);
    let response = bench.ask("GET", "/config", &[]).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/yaml");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    assert_eq!(bench.text("GET", "/config", &[]).await, (200, "version: 1\n".into()));
    let json = Bench::with(8, |state| state.config = Arc::new(|| "{\"version\":1}".into()));
    assert_eq!(json.ask("GET", "/config", &[]).await.headers()[header::CONTENT_TYPE], "application/json");
}

#[tokio::test]
async fn reload_answers_what_became_of_it() {
    let bench = Bench::with(8, |state| {
        let calls = AtomicUsize::new(0);
        state.reload = Arc::new(move || {
            let call = calls.fetch_add(1, SeqCst);
            Box::pin(async move {
                match call {
                    0 => Ok("reloaded\n".to_owned()),
                    1 => Err("error: routes[0]: no id\n".to_owned()),
                    _ => panic!("a broken reload"),
                }
            })
        });
    });
    assert_eq!(bench.text("GET", "/reload", &[]).await.0, 405);
    assert_eq!(bench.text("POST", "/reload", &[("origin", "http://evil.test")]).await.0, 403);
    assert_eq!(bench.text("POST", "/reload", &[("origin", "http://localhost")]).await, (200, "reloaded\n".into()));
    assert_eq!(bench.text("POST", "/reload", &[]).await, (422, "error: routes[0]: no id\n".into()));
    assert_eq!(bench.text("POST", "/reload", &[]).await.0, 500);
}

#[tokio::test]
async fn a_reload_goes_on_when_the_client_hangs_up() {
    let (begun, go, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let bench = Bench::with(8, |state| {
        let (begun, go, done) = (begun.clone(), go.clone(), done.clone());
        state.reload = Arc::new(move || {
            let (begun, go, done) = (begun.clone(), go.clone(), done.clone());
            Box::pin(async move {
                begun.notify_one();
                go.notified().await;
                done.notify_one();
                Ok(String::new())
            })
        });
    });
    tokio::select! {
        _ = bench.text("POST", "/reload", &[]) => panic!("the reload waits"),
        () = begun.notified() => {}
    }
    go.notify_one();
    done.notified().await;
}

#[tokio::test]
async fn an_unknown_path_lists_the_paths() {
    let (status, text) = Bench::new(8).text("GET", "/metric", &[]).await;
    assert_eq!(status, 404);
    for path in ["/healthz", "/readyz", "/metrics", "/events", "/config", "/reload"] {
        assert!(text.contains(path), "{path}");
    }
}

#[tokio::test]
async fn everything_but_health_and_readiness_demands_the_token() {
    let bench = Bench::with(8, |state| state.auth = demanding());
    for path in ["/healthz", "/readyz"] {
        assert_eq!(bench.text("GET", path, &[]).await.0, 200, "{path}");
    }
    for (method, path) in
        [("GET", "/metrics"), ("GET", "/events"), ("GET", "/config"), ("POST", "/reload"), ("GET", "/nothing")]
    {
        let response = bench.ask(method, path, &[("authorization", "Bearer wrong")]).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }
    assert_eq!(bench.text("GET", "/config", &[("authorization", "Bearer t0ken")]).await.0, 200);
}

#[tokio::test]
async fn a_rebound_name_reaches_nothing_but_health() {
    let bench = Bench::new(8);
    let evil = [("host", "evil.test")];
    for path in ["/metrics", "/events", "/config", "/nothing"] {
        assert_eq!(bench.text("GET", path, &evil).await.0, 421, "{path}");
    }
    assert_eq!(bench.text("POST", "/reload", &evil).await.0, 421);
    assert_eq!(bench.text("GET", "/healthz", &evil).await.0, 200);
}

#[tokio::test]
async fn bad_filters_are_json_errors() {
    let bench = Bench::new(8);
    let (status, text) = bench.text("GET", "/events?outcome=sucess", &[]).await;
    let error: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, error["error"].as_str()), (400, Some("`outcome` cannot be `sucess`; did you mean `success`?")));
    assert_eq!(bench.text("GET", "/events", &[("last-event-id", "x")]).await.0, 400);
}

#[tokio::test]
async fn without_a_position_only_new_events_are_shown() {
    let bench = Bench::new(8);
    bench.spool.append(vec![failed("old")]);
    let (mut body, position) = bench.view("", &[]).await;
    assert_eq!(position, 1);
    let new = failed("new");
    let line = new.to_line();
    bench.spool.append(vec![new]);
    assert_eq!(piece(&mut body).await, Some(format!("id: 2\nevent: event\ndata: {line}\n\n")));
}

#[tokio::test]
async fn since_shows_history_first_and_then_what_is_new() {
    let bench = Bench::new(8);
    let mut old = failed("a");
    old.timestamp = old.timestamp.minus(Duration::from_secs(3600));
    bench.spool.append(vec![old, failed("b"), event("user.logout", Outcome::Success, "b", "::1"), failed("c")]);
    let (mut body, position) = bench.view("since=10m&type=user.login.*", &[]).await;
    assert_eq!(position, 0);
    assert_eq!(ids(&piece(&mut body).await.expect("history")), [2, 4]);
    bench.spool.append(vec![failed("d")]);
    assert_eq!(ids(&piece(&mut body).await.expect("new")), [5]);
}

#[tokio::test]
async fn last_event_id_goes_on_where_it_left_off_whatever_since_says() {
    let bench = Bench::new(8);
    let mut events = vec![failed("a"), failed("b"), failed("c")];
    for event in &mut events {
        event.timestamp = event.timestamp.minus(Duration::from_secs(3600));
    }
    bench.spool.append(events);
    let (mut body, _) = bench.view("since=1m", &[("last-event-id", "1")]).await;
    assert_eq!(ids(&piece(&mut body).await.expect("the rest")), [2, 3]);
    // A position from before the spool began anew, however large: everything it holds is new.
    let (mut body, position) = bench.view("", &[("last-event-id", &u64::MAX.to_string())]).await;
    assert_eq!(position, 0);
    assert_eq!(ids(&piece(&mut body).await.expect("everything")), [1, 2, 3]);
}

#[tokio::test]
async fn a_limit_ends_the_stream() {
    let bench = Bench::new(8);
    bench.spool.append(vec![failed("a"), failed("b"), failed("c")]);
    let (mut body, _) = bench.view("since=1h&limit=2", &[]).await;
    assert_eq!(ids(&piece(&mut body).await.expect("history")), [1, 2]);
    assert_eq!(piece(&mut body).await, None);
}

#[tokio::test]
async fn a_slow_viewer_is_told_how_much_it_missed() {
    let bench = Bench::new(4);
    let (mut body, _) = bench.view("", &[]).await;
    bench.spool.append((0..10).map(|n| failed(&n.to_string())).collect());
    let text = piece(&mut body).await.expect("a piece");
    assert!(text.starts_with("id: 6\nevent: skipped\ndata: {\"skipped\": 6}\n\nid: 7\nevent: event\n"), "{text}");
    assert_eq!(ids(&text), [6, 7, 8, 9, 10]);
}

#[tokio::test]
async fn much_history_comes_in_pieces_of_bounded_size() {
    let bench = Bench::new(10_000);
    bench.spool.append((0..2000).map(|n| failed(&format!("{n}-{}", "x".repeat(200)))).collect());
    let (mut body, _) = bench.view("since=1h", &[]).await;
    let mut seen = Vec::new();
    while seen.len() < 2000 {
        let text = piece(&mut body).await.expect("a piece");
        assert!(text.len() < 40_000, "{}", text.len());
        seen.extend(ids(&text));
    }
    assert_eq!(seen, (1..=2000).collect::<Vec<u64>>());
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_a_comment_that_carries_the_position() {
    let bench = Bench::new(8);
    let (mut body, _) = bench.view("type=user.logout", &[]).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(piece(&mut body).await.as_deref(), Some(": heartbeat\n\n"));
    assert_eq!(begun.elapsed().as_secs(), events::HEARTBEAT.as_secs());
    // Held back by the filter, but gone by: whoever comes back need not read it again.
    bench.spool.append(vec![failed("a"), failed("b")]);
    assert_eq!(piece(&mut body).await.as_deref(), Some(": heartbeat\nid: 2\n\n"));
}

#[tokio::test]
async fn viewers_beyond_the_most_are_refused_until_one_leaves() {
    let bench = Bench::new(8);
    let mut viewers = Vec::new();
    for _ in 0..events::MAX_VIEWERS {
        viewers.push(bench.view("", &[]).await);
    }
    assert_eq!(bench.text("GET", "/events", &[]).await.0, 503);
    assert_eq!(bench.text("GET", "/healthz", &[]).await.0, 200);
    viewers.pop();
    let _ = bench.view("", &[]).await;
}

#[tokio::test]
async fn viewers_end_when_the_listener_does() {
    let bench = Bench::new(8);
    let (mut body, _) = bench.view("", &[]).await;
    bench.close.send_replace(true);
    assert_eq!(piece(&mut body).await, None);
}

#[tokio::test]
async fn serve_refuses_to_stand_open_to_other_machines() {
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let refused = serve(listener, state(Arc::new(MemorySpool::new(1))), async {}).await;
    assert!(matches!(refused, Err(AdminError::NoToken { .. })));
}

#[tokio::test]
async fn a_connection_is_closed_after_one_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = serve(listener, state(Arc::new(MemorySpool::new(8))), std::future::pending());
    let client = async {
        let mut client = TcpStream::connect(address).await.expect("a connection");
        let request = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";
        client.write_all(request).await.expect("sent");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("an orderly end");
        answer
    };
    tokio::select! {
        _ = server => panic!("nothing ends it"),
        answer = client => assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("connection: close"), "{answer}"),
    }
}

#[tokio::test]
async fn the_end_closes_live_viewers_and_frees_the_port() {
    let spool = Arc::new(MemorySpool::new(8));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, state(spool.clone()), async {
        let _ = stopped.await;
    }));
    let mut client = TcpStream::connect(address).await.expect("a connection");
    client.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains("id: 0") {
        assert_ne!(client.read_buf(&mut answer).await.expect("an answer"), 0);
    }
    stop.send(()).expect("the server runs");
    client.read_to_end(&mut answer).await.expect("an orderly end");
    assert!(answer.ends_with(b"0\r\n\r\n"), "the last chunk says that nothing was cut");
    server.await.expect("no panic").expect("no error");
    TcpListener::bind(address).await.expect("the port is free");
}

#[tokio::test]
async fn a_replay_is_ordered_with_a_sink_and_a_moment_or_refused_with_the_reason() {
    let bench = Bench::new(10);
    let path = "/replay?sink=siem&from=2026-01-15T09:32:17Z&dead_letters=true";
    assert_eq!(bench.text("POST", path, &[]).await, (200, "siem true true\n".into()));
    assert_eq!(bench.text("POST", "/replay?sink=siem&dead_letters=true", &[]).await.0, 200);
    for wrong in ["/replay", "/replay?sink=siem", "/replay?sink=siem&from=now", "/replay?sink=a&dead_letters=true&x=1"]
    {
        assert_eq!(bench.text("POST", wrong, &[]).await.0, 400, "{wrong}");
    }
    assert_eq!(bench.text("GET", path, &[]).await.0, 405);
}

#[tokio::test]
async fn healthz_speaks_json_to_whoever_asks_for_it() {
    let bench = Bench::new(10);
    let answer = bench.text("GET", "/healthz", &[("accept", "application/json")]).await;
    assert_eq!(answer, (200, "{\"status\":\"ok\"}".into()));
}
