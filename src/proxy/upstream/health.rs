//! Health checks: each address of the application is asked how it is, whether or not there are
//! requests for it.
//!
//! The checks run on the control runtime, over connections of their own, so that no request waits
//! for one. They must never take a request's last address away: what they say only changes whom the
//! balancer prefers. They read no body and follow no redirect.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connect::Dial;
use super::translate::to_http2;
use super::{Address, Upstream};
use crate::proxy::balance::Health;
use crate::proxy::error::ProxyError;

#[cfg(test)]
mod tests;

/// What checks say they are.
const USER_AGENT: &str = concat!("authtap/", env!("CARGO_PKG_VERSION"), " (health check)");

/// The checks of one configuration; they end when this is dropped.
#[derive(Debug)]
pub struct Checks {
    tasks: JoinSet<()>,
    all_down: watch::Receiver<bool>,
}

impl Checks {
    /// Begins to check each address, if the configuration says so, and keeps `down` at the number of
    /// those that are down. To be called inside a runtime.
    pub fn start(upstream: &Arc<Upstream>, down: &Gauge) -> Option<Checks> {
        let state = State { upstream: upstream.clone(), down: down.clone(), all_down: watch::Sender::new(false) };
        state.count();
        let health = upstream.health.clone()?;
        let mut tasks = JoinSet::new();
        let all_down = state.all_down.subscribe();
        let state = Arc::new(state);
        for server in 0..upstream.servers.len() {
            tasks.spawn(check(server, health.clone(), state.clone()));
        }
        Some(Checks { tasks, all_down })
    }

    /// True while every address is down.
    pub fn all_down(&self) -> watch::Receiver<bool> {
        self.all_down.clone()
    }

    /// Runs something that ends with the checks.
    pub fn meanwhile(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }
}

/// What the checks of all addresses share.
struct State {
    upstream: Arc<Upstream>,
    down: Gauge,
    all_down: watch::Sender<bool>,
}

impl State {
    fn count(&self) {
        let down = self.upstream.balancer.down();
        self.down.set(i64::try_from(down).unwrap_or(i64::MAX));
        let all = down > 0 && down == self.upstream.balancer.len();
        self.all_down.send_if_modified(|before| std::mem::replace(before, all) != all);
    }
}

async fn check(server: usize, health: Health, state: Arc<State>) {
    let Some(address) = state.upstream.servers.get(server) else { return };
    let mut due = tokio::time::interval(health.interval);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        let said = ask(&state.upstream, address, &health).await;
        match state.upstream.balancer.checked(server, said.is_ok(), &health) {
            Some(true) => tracing::info!(server = %address, "back: its health checks are good again"),
            Some(false) => {
                let why = said.err().map(|why| why.to_string()).unwrap_or_default();
                tracing::warn!(server = %address, "out until its health checks are good again: {why}");
            }
            None => continue,
        }
        state.count();
    }
}

/// Why a check was bad.
#[derive(Debug)]
enum Bad {
    Slow(Duration),
    Status(StatusCode),
    Unreached(ProxyError),
    Broken(hyper::Error),
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bad::Slow(within) => write!(f, "no answer within {} ms", within.as_millis()),
            Bad::Status(status) => write!(f, "it answered {}", status.as_u16()),
            Bad::Unreached(error) => error.fmt(f),
            Bad::Broken(error) => write!(f, "the exchange failed: {error}"),
        }
    }
}

/// One check; good is an answer of 200 to 399.
async fn ask(upstream: &Upstream, address: &Address, health: &Health) -> Result<(), Bad> {
    let status = tokio::time::timeout(health.timeout, exchange(upstream, address, health)).await;
    match status.unwrap_or(Err(Bad::Slow(health.timeout)))? {
        status if (200..400).contains(&status.as_u16()) => Ok(()),
        status => Err(Bad::Status(status)),
    }
}

async fn exchange(upstream: &Upstream, address: &Address, health: &Health) -> Result<StatusCode, Bad> {
    // It is nobody's connection but authtap's own.
    let first = upstream.proxy_protocol.map(|version| version.encode_local()).unwrap_or_default();
    let protocol = upstream.protocol.towards(address);
    let dial = Dial { address, tls: upstream.tls(), protocol, first: &first, within: health.timeout };
    let (wire, h2) = dial.dial().await.map_err(Bad::Unreached)?;
    let mut request = Request::new(Empty::<Bytes>::new());
    // `Health::check` has seen that it is the path of a URL.
    *request.uri_mut() = health.path.parse().unwrap_or_default();
    request.headers_mut().insert(header::HOST, address.host_header());
    request.headers_mut().insert(header::USER_AGENT, header::HeaderValue::from_static(USER_AGENT));
    if h2 {
        let scheme = if matches!(address, Address::Tls(..)) { Scheme::HTTPS } else { Scheme::HTTP };
        let mut request = crate::proxy::message::Request::from(request);
        to_http2(&mut request, scheme).map_err(Bad::Unreached)?;
        let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(wire)).await;
        let (mut sender, connection) = shaken.map_err(Bad::Broken)?;
        let answered = with(connection, sender.send_request(request.into())).await;
        answered.map(|answer| answer.status()).map_err(Bad::Broken)
    } else {
        request.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        let (mut sender, connection) = http1::handshake(TokioIo::new(wire)).await.map_err(Bad::Broken)?;
        let answered = with(connection, sender.send_request(request)).await;
        answered.map(|answer| answer.status()).map_err(Bad::Broken)
    }
}

/// Drives a connection for as long as its one exchange takes; both end with the check.
async fn with<T>(connection: impl Future<Output = hyper::Result<()>>, exchange: impl Future<Output = T>) -> T {
    let (mut connection, mut exchange) = (std::pin::pin!(connection), std::pin::pin!(exchange));
    tokio::select! {
        answered = exchange.as_mut() => answered,
        // Whatever ended it, the exchange knows.
        _ = connection.as_mut() => exchange.await,
    }
}
