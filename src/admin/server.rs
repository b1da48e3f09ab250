//! The admin listener itself: routes, limits, and an orderly end.
//!
//! It must never be able to hurt the traffic: connections, request heads and waiting times are
//! bounded, and a reload goes on to its end even if whoever asked for it hangs up. Invariant: when
//! `serve` returns, its port is free and none of its connections lives.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::auth::{self, AdminAuth, AdminError};
use super::events::{self, MAX_VIEWERS};
use super::health::Readiness;
use crate::event::Timestamp;
use crate::spool::Spool;
use crate::telemetry::Metrics;

/// The most connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 256;
/// How long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Buffer of one connection, each way, and so the longest request head, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;
/// How long open connections may take to end after the shutdown.
const END_TIMEOUT: Duration = Duration::from_secs(3);
/// How long to wait when the operating system refuses a connection (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The paths there are, for whoever asks for another.
const PATHS: &str = "there is nothing here; there is:
GET /healthz
GET /readyz
GET /metrics
GET /events
GET /config
POST /reload
POST /replay?sink=NAME&from=TIME&dead_letters=true
";

/// Gives the effective configuration as YAML or JSON, secrets masked.
pub type ConfigText = Arc<dyn Fn() -> String + Send + Sync>;

/// Reloads the configuration: a line for a person, or the rendered problems.
pub type Reload = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>> + Send + Sync>;

/// Sends a sink again what came since a moment, and its dead letters if asked: a line for a person,
/// or why not.
pub type Replay = Arc<dyn Fn(&str, Option<Timestamp>, bool) -> Result<String, String> + Send + Sync>;

/// What the admin listener is handed.
#[derive(Clone)]
pub struct AdminState {
    /// Every metric of the program.
    pub metrics: Arc<Metrics>,
    /// Where events are read from; nothing is appended here.
    pub spool: Arc<dyn Spool>,
    /// What is awaited.
    pub readiness: Arc<Readiness>,
    /// The effective configuration, secrets masked.
    pub config: ConfigText,
    /// Reloads the configuration.
    pub reload: Reload,
    /// Sends a sink again what it had.
    pub replay: Replay,
    /// Who may use the listener.
    pub auth: AdminAuth,
}

/// What the handlers share.
pub(super) struct Shared {
    pub(super) state: AdminState,
    pub(super) viewers: Arc<Semaphore>,
    /// True once the listener is ending.
    pub(super) closing: watch::Receiver<bool>,
}

/// Serves until `shutdown` is ready, then lets open requests end for a moment and closes the rest.
///
/// Fails at once if `state.auth` would leave the listener open to other machines, or if the
/// operating system does not say where it listens.
pub async fn serve(
    listener: TcpListener,
    state: AdminState,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AdminError> {
    state.auth.suits(listener.local_addr()?)?;
    let (close, closing) = watch::channel(false);
    let router = router(state, closing.clone());
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&listener, &permits) => {
                if let Some((stream, permit)) = accepted {
                    connections.spawn(connection(stream, router.clone(), closing.clone(), permit));
                }
            }
        }
    }
    drop(listener);
    close.send_replace(true);
    let ended = timeout(END_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        connections.shutdown().await;
    }
    Ok(())
}

/// The next connection, as soon as there is room for it; `None` after a refusal and a pause.
async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            tracing::warn!(%error, "the admin listener cannot accept a connection");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    mut closing: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    // Live events are small writes that should not wait for company; without it they are only later.
    let _ = stream.set_nodelay(true);
    // One request a connection: otherwise whoever asks on and on and never reads an answer would hold
    // a connection for ever, without a token.
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    // A client that breaks off is its own affair: nothing to report.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = closing.wait_for(|closing| *closing) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// All routes. Health and readiness are open to whoever reaches the port.
pub(super) fn router(state: AdminState, closing: watch::Receiver<bool>) -> Router {
    let auth = Arc::new(state.auth.clone());
    let shared = Arc::new(Shared { state, viewers: Arc::new(Semaphore::new(MAX_VIEWERS)), closing });
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/events", get(events::events))
        .route("/config", get(config))
        .route("/reload", post(reload))
        .route("/replay", post(replay))
        .fallback(async || (StatusCode::NOT_FOUND, PATHS))
        .layer(middleware::from_fn_with_state(auth, auth::guard));
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .merge(guarded)
        .layer(middleware::map_response(careful))
        .with_state(shared)
}

/// Nothing from here belongs into a cache, or is anything but what it says it is.
async fn careful(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Alive. What does not work as it should is said, and is no reason to end the process; as JSON for
/// whoever asks for that.
async fn healthz(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let degraded = shared.state.spool.degraded();
    let wants_json = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("json"));
    match (degraded, wants_json) {
        (None, false) => "ok".into_response(),
        (None, true) => axum::Json(serde_json::json!({ "status": "ok" })).into_response(),
        (Some(why), false) => format!("degraded: events are not kept on disk: {why}").into_response(),
        (Some(why), true) => axum::Json(serde_json::json!({ "status": "degraded", "store": why })).into_response(),
    }
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let awaited = shared.state.readiness.awaited();
    if awaited.is_empty() {
        return "ready".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, awaited.join("\n")).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.state.metrics.render()).into_response()
}

async fn config(State(shared): State<Arc<Shared>>) -> Response {
    let text = (shared.state.config)();
    let kind = if text.trim_start().starts_with('{') { "application/json" } else { "application/yaml" };
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn reload(State(shared): State<Arc<Shared>>) -> Response {
    // A task of its own: a reload must not stop half way because the client hung up.
    match tokio::spawn((shared.state.reload)()).await {
        Ok(Ok(done)) => done.into_response(),
        Ok(Err(problems)) => (StatusCode::UNPROCESSABLE_ENTITY, problems).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the reload broke off; see the log\n").into_response(),
    }
}

async fn replay(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    let (mut sink, mut from, mut dead_letters) = (None, None, false);
    for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*key {
            "sink" => sink = Some(value.into_owned()),
            "from" => match Timestamp::parse(&value) {
                Some(moment) => from = Some(moment),
                None => return (StatusCode::BAD_REQUEST, "`from` is no time in RFC 3339\n").into_response(),
            },
            "dead_letters" => dead_letters = value == "true",
            _ => return (StatusCode::BAD_REQUEST, "the keys are sink, from and dead_letters\n").into_response(),
        }
    }
    let Some(sink) = sink.filter(|_| from.is_some() || dead_letters) else {
        return (StatusCode::BAD_REQUEST, "say which sink, and from when or its dead letters\n").into_response();
    };
    // The store is asked for a moment: that reads a file.
    let order = shared.state.replay.clone();
    match tokio::task::spawn_blocking(move || order(&sink, from, dead_letters)).await {
        Ok(Ok(done)) => done.into_response(),
        Ok(Err(why)) => (StatusCode::UNPROCESSABLE_ENTITY, why).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the replay broke off; see the log\n").into_response(),
    }
}
