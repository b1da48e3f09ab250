//! The life of a request, top to bottom.
//!
//! [`handle`] never fails: an error becomes the one answer that `error` has for it. Nothing here
//! waits on capture, and no lock is held across an await.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use hyper::body::Incoming;

use super::body::{RequestBody, ResponseBody};
use super::client_ip::ClientIp;
use super::error::ProxyError;
use super::forwarded::{Hop, Peer, Policy, client_scheme, set_forwarded};
use super::upstream::{Address, Pool, Timeouts};
use super::{headers, host, request_id, upgrade};
use crate::capture::CaptureConfig;
use crate::capture::pending::{Head, Pending};
use crate::capture::queue::Queue;
use crate::exchange::Ended;
use crate::telemetry::Traffic;

/// What the traffic path needs of the configuration; replaced as a whole at a reload.
#[derive(Debug)]
pub struct Live {
    /// Where the application is.
    pub upstream: Arc<Address>,
    /// Who the client is.
    pub client_ip: ClientIp,
    /// What the application is told about the client.
    pub forwarded: Policy,
    /// Times allowed.
    pub timeouts: Timeouts,
    /// What is captured.
    pub capture: CaptureConfig,
}

/// What the requests of one traffic thread share.
pub struct Shared {
    /// Connections to the application.
    pub pool: Rc<Pool>,
    /// The way to the pipeline.
    pub queue: Queue,
    /// Counters.
    pub stats: Arc<Traffic>,
}

/// What the requests of one connection share.
pub struct Connection {
    /// The other end.
    pub peer: Peer,
    /// `http` or `https`: what it speaks.
    pub scheme: &'static str,
}

/// One request, from its head to the head of its answer.
pub async fn handle(
    shared: &Shared,
    live: &Live,
    connection: &Connection,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let started = Instant::now();
    let taste = request.headers().get(header::ACCEPT).cloned();
    let head_only = request.method() == Method::HEAD;
    let mut named = None;
    let response = match forward(shared, live, connection, request, &mut named).await {
        Ok(response) => response,
        Err(error) => refuse(&error, taste.as_ref(), head_only, named.as_ref(), shared),
    };
    shared.stats.request(response.status().as_u16(), started.elapsed());
    response
}

/// The one place where a failure becomes an answer.
fn refuse(
    error: &ProxyError,
    taste: Option<&HeaderValue>,
    head_only: bool,
    id: Option<&HeaderValue>,
    shared: &Shared,
) -> Response<ResponseBody> {
    if error.is_client_fault() {
        shared.stats.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        tracing::debug!(status = error.status().as_u16(), "request refused: {error}");
    } else {
        tracing::warn!(status = error.status().as_u16(), request_id = ?id, "request failed: {error}");
    }
    error.response(taste, head_only, id).map(ResponseBody::from)
}

async fn forward(
    shared: &Shared,
    live: &Live,
    connection: &Connection,
    mut request: Request<Incoming>,
    named: &mut Option<HeaderValue>,
) -> Result<Response<ResponseBody>, ProxyError> {
    // Who is asking, and for what: settled before anything believes it.
    let authority = host::settle(&mut request)?;
    let peer = connection.peer.ip();
    let trusted = live.client_ip.trusts(peer);
    let client_ip = live.client_ip.decide(peer, request.headers());
    let scheme = client_scheme(request.headers(), trusted, connection.scheme);
    let switching = request.version() == Version::HTTP_11 && headers::is_upgrade(request.headers());

    let head = Head {
        method: request.method(),
        uri: request.uri(),
        host: &authority.name(),
        headers: request.headers(),
        client_ip,
        scheme,
    };
    let mut pending = Pending::begin(&live.capture, &head, &shared.queue, &shared.stats);

    // What the application is told. A body of unknown length must be announced again, because its
    // announcement is hop-by-hop and the client side of hyper sends none with a GET.
    let unsized_body = !request.body().is_end_stream() && request.body().size_hint().exact().is_none();
    headers::strip_request(request.headers_mut(), switching);
    if unsized_body {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let host_sent = request.headers().get(header::HOST).cloned();
    let hop = Hop {
        peer: &connection.peer,
        client_ip,
        trusted_peer: trusted,
        claim: live.client_ip.header(),
        scheme: connection.scheme,
        host: host_sent,
    };
    set_forwarded(request.headers_mut(), &hop, live.forwarded);
    let id = request_id::keep_or_make(request.headers_mut());
    if let Some(pending) = &mut pending {
        pending.request_id(id.to_str().unwrap_or_default());
    }
    *named = Some(id);
    let client_side = switching.then(|| hyper::upgrade::on(&mut request));
    *request.version_mut() = Version::HTTP_11;

    let copy = pending.as_ref().and_then(Pending::request_copy);
    let request = request.map(|body| RequestBody::new(body, copy.clone()));
    shared.pool.point_at(&live.upstream);
    let (mut response, lease) = match shared.pool.send(request, &live.timeouts).await {
        Ok(answered) => answered,
        Err(error) => {
            if let Some(pending) = &mut pending {
                let broke = copy.is_some_and(|c| c.try_borrow().is_ok_and(|c| c.broke));
                pending.finish(if broke { Ended::RequestCut } else { Ended::UpstreamFailed });
            }
            return Err(error);
        }
    };

    if let Some(pending) = &mut pending {
        pending.answered(response.status(), response.headers());
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // An application that switches unasked would leave two readings of what follows.
        let client_side = client_side.ok_or(ProxyError::UpstreamInvalid)?;
        upgrade::tunnel(client_side, hyper::upgrade::on(&mut response), shared.stats.clone());
        headers::strip_response(response.headers_mut(), true);
        if let Some(pending) = &mut pending {
            pending.finish(Ended::Complete);
        }
        return Ok(response.map(|_| ResponseBody::Own(None)));
    }
    let asks_upgrade = response.status() == StatusCode::UPGRADE_REQUIRED;
    headers::strip_response(response.headers_mut(), asks_upgrade);
    *response.version_mut() = Version::HTTP_11;
    Ok(response.map(|body| ResponseBody::upstream(body, lease, pending)))
}
