//! The life of a request, top to bottom.
//!
//! [`handle`] never fails: an error becomes the one answer that `error` has for it. Nothing here
//! waits on capture, and no lock is held across an await.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Version, header};
use http_body::Body;

use super::access_log::AccessLog;
use super::body::{RequestBody, ResponseBody, Watch};
use super::client_ip::ClientIp;
use super::clock;

use super::error::{ProxyError, Side};
use super::expect::{self, Gate};
use super::forwarded::{Hop, Peer, Policy, client_scheme, set_forwarded};
use super::http1::server::Wire;
use super::http2;
use super::idle::Busy;
use super::in_force::InForce;
use super::inbound::Inbound;
use super::limits::{Limits, Permit};
use super::listener::Opened;
use super::message::{Parts, Request, Response};
use super::observed::Observed;
use super::passage::Passage;
use super::request_id::RequestId;
use super::spans::Tracer;
use super::stream::Watched;
use super::upstream::{Client, Pool, Timeouts, Upstream};
use super::{client_tls, framing, headers, host, request_id, upgrade};
use crate::capture::CaptureConfig;
use crate::capture::pending::{Head, Pending};
use crate::capture::queue::Outlet;
use crate::capture::rotation::Rotation;
use crate::exchange::{ClientTls, Ended};
use crate::glimpse::Glimpses;
use crate::headers::Headers;
use crate::telemetry::Traffic;
use crate::tls::acme::{self, Issuer};

/// What the traffic path needs of the configuration; replaced as a whole at a reload.
#[derive(Debug)]
pub struct Live {
    /// The application.
    pub upstream: Arc<Upstream>,
    /// What `Host` says to it where the client sent none.
    pub upstream_host: HeaderValue,
    /// Who the client is.
    pub client_ip: ClientIp,
    /// What the application is told about the client.
    pub forwarded: Policy,
    /// What is believed and told about the client's TLS.
    pub client_tls: client_tls::Policy,
    /// Times allowed.
    pub timeouts: Timeouts,
    /// What is allowed of connections and requests.
    pub limits: Limits,
    /// What is captured.
    pub capture: CaptureConfig,
    /// The access log, if it is on.
    pub access_log: Option<AccessLog>,
    /// Which requests are recorded in traces, if any are.
    pub tracer: Option<Tracer>,
}

/// What the requests of one traffic thread share.
pub struct Shared {
    /// The configuration.
    pub live: InForce,
    /// Connections to the application.
    pub pool: Rc<Pool>,
    /// The way to the pipeline.
    pub outlet: Rc<Outlet>,
    /// A look at some answers.
    pub glimpses: Glimpses,
    /// Counters.
    pub stats: Arc<Traffic>,
}

/// The place of a connection: it counts as open until this is dropped.
pub struct Place {
    /// Against the limits of all threads.
    pub permit: Permit,
    /// On its own thread, for the drain and the metrics.
    pub opened: Opened,
}

/// Our end of a connection.
pub enum Local {
    /// As a PROXY header has it.
    Told(SocketAddr),
    /// As the system has it, which is asked only where somebody wants to know.
    Of(Watched),
}

impl Local {
    /// Its address and port.
    fn address(&self) -> Option<SocketAddr> {
        match self {
            Local::Told(address) => Some(*address),
            Local::Of(stream) => stream.local(),
        }
    }
}

/// What the requests of one connection share.
pub struct Connection {
    /// The other end.
    pub peer: Peer,
    /// Both ends with their ports: the client's and ours. `None` over a Unix socket.
    pub ends: Option<(SocketAddr, Local)>,
    /// `http` or `https`: what it speaks.
    pub scheme: &'static str,
    /// What is known of its TLS.
    pub tls: Option<Arc<ClientTls>>,
    /// Who proves names by HTTP on its listener.
    pub challenges: Vec<Arc<Issuer>>,
    /// Tells its stream that a request is being answered.
    pub busy: Busy,
    /// The way to its client, if it speaks HTTP/1; over HTTP/2 each stream has its own.
    pub wire: Option<Rc<Wire>>,
    /// How many requests it has carried.
    pub served: Cell<u64>,
    /// Its place among the connections; given back with the last of its requests and tunnels.
    pub place: Place,
}

impl Connection {
    /// Whom a PROXY header names for a request of this client. Its port is known only if the client
    /// is the other end.
    fn client(&self, ip: IpAddr) -> Option<Client> {
        let (peer, local) = self.ends.as_ref()?;
        let (peer, local) = (*peer, local.address()?);
        let address = if peer.ip().to_canonical() == ip { peer } else { SocketAddr::new(ip, 0) };
        Some(Client { address, local })
    }

    /// What proves to an authority that we answer for a name (RFC 8555 section 8.3), if the request
    /// asks for a token of ours; every other goes to the application.
    fn proof(&self, parts: &Parts) -> Option<String> {
        if self.challenges.is_empty() || parts.method != Method::GET {
            return None;
        }
        let token = parts.uri.path().strip_prefix(acme::WELL_KNOWN)?;
        self.challenges.iter().find_map(|issuer| issuer.key_authorization(token))
    }
}

/// One request, from its head to the head of its answer. `stream` is its stream over HTTP/2.
pub async fn handle(
    shared: &Shared,
    live: &Live,
    connection: &Rc<Connection>,
    request: &mut Request<RequestBody>,
    stream: Option<http2::server::Stream>,
) -> Response<ResponseBody> {
    let started = clock::recent();
    let accept = request.headers().get(header::ACCEPT).map(|accept| request.headers().shared(accept));
    let mut trace = Trace { id: None, body: None, seen: Observed::begin(live, connection, request) };
    let mut response = match forward(shared, live, connection, request, stream, &mut trace).await {
        Ok(response) => response,
        Err(error) => {
            let mut response = refuse(&error, accept, trace.id.as_ref(), shared);
            if trace.body.is_some_and(|body| !body.ended()) {
                // The rest of the body will not be read, so nothing can follow it: said, as RFC 9112
                // section 9.6 wants, for the client not to send its next request into a closing connection.
                response.headers_mut().insert(header::CONNECTION, "close");
            }
            let bytes = usize::try_from(response.body().size_hint().lower()).unwrap_or(usize::MAX);
            trace.seen.refused(&error, response.status(), bytes);
            response
        }
    };
    shared.stats.request(response.status().as_u16(), clock::recent().duration_since(started));
    let served = connection.served.get() + 1;
    connection.served.set(served);
    let most = live.limits.requests_per_connection;
    // A connection that switches protocols carries no further request, and needs its `Connection: upgrade`.
    if most > 0 && served >= most && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // HTTP/1 closes by saying so; HTTP/2 has no such header and strips it.
        response.headers_mut().insert(header::CONNECTION, "close");
    }
    response
}

/// What of a request must be known even where it fails.
struct Trace {
    /// Its id, once it has one.
    id: Option<RequestId>,
    /// How its body goes, if it has one.
    body: Option<Rc<Watch>>,
    /// Who is told of it; goes with the answer's body.
    seen: Observed,
}

/// The one place where a failure becomes an answer.
fn refuse(
    error: &ProxyError,
    accept: Option<Bytes>,
    id: Option<&RequestId>,
    shared: &Shared,
) -> Response<ResponseBody> {
    let status = error.status().as_u16();
    if error.side() == Side::Client {
        shared.stats.refused.fetch_add(1, Relaxed);
        tracing::debug!(status, "request refused: {error}");
    } else {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        let request_id = id.map(RequestId::as_str);
        tracing::warn!(status, request_id, cause, "request failed: {error}");
    }
    let taste = accept.map(|accept| Headers::from_iter([(header::ACCEPT, accept)])).unwrap_or_default();
    error
        .response(&taste, id.map(RequestId::as_str))
        .map(|body| ResponseBody::from(body.into_inner().unwrap_or_default()))
}

async fn forward(
    shared: &Shared,
    live: &Live,
    connection: &Rc<Connection>,
    request: &mut Request<RequestBody>,
    mut stream: Option<http2::server::Stream>,
    trace: &mut Trace,
) -> Result<Response<ResponseBody>, ProxyError> {
    // From here on the client waits for us, however long the application thinks.
    let hold = connection.busy.hold();
    let (parts, body) = request.split();
    // A client of HTTP/1.0 knows no interim answer (RFC 9110 section 15.2).
    let takes_interim = parts.version == Version::HTTP_11;
    let knows_expect = parts.version != Version::HTTP_10;
    if parts.version == Version::HTTP_2 {
        live.limits.admit_head(parts)?;
    }
    let h2_websocket = parts.version == Version::HTTP_2 && upgrade::translate_websocket(parts);
    // Who is asking, and for what: settled before anything believes it.
    host::settle(parts)?;
    framing::check_request(&parts.method, &parts.headers)?;
    live.limits.admit(parts)?;
    if let Some(proof) = connection.proof(parts) {
        let response = Response::new(ResponseBody::from(Bytes::from(proof)));
        trace.seen.answered(response.status(), None);
        trace.seen.finish(Ended::Complete);
        return Ok(response);
    }
    if parts.version == Version::HTTP_2 {
        headers::join_cookies(&mut parts.headers);
    }
    let peer = connection.peer.ip();
    let trusted = live.client_ip.trusts(peer);
    let client_ip = live.client_ip.decide(peer, &parts.headers);
    let scheme = client_scheme(&parts.headers, trusted, connection.scheme);
    let switching = h2_websocket || (parts.version == Version::HTTP_11 && headers::is_upgrade(&parts.headers));
    let host_sent = parts.headers.get(header::HOST).map(|host| parts.headers.shared(host));
    let host_name = host::settled_name(host_sent.as_deref().unwrap_or_default());

    let head = Head {
        method: &parts.method,
        uri: &parts.uri,
        host: &host_name,
        headers: &parts.headers,
        client_ip,
        scheme,
        tls: connection.tls.as_ref(),
    };
    // Read before the strip: what a proxy vouched for must not go on a word of the client's `Connection`.
    let tls_told = live.client_tls.read(&parts.headers, trusted);
    let mut pending = Pending::begin(&live.capture, &head, &shared.outlet);
    if let (Some(told), Some(pending)) = (&tls_told, &mut pending) {
        pending.tls_told(told.facts());
    }
    let rotation = if pending.is_none() { Rotation::begin(&live.capture, &parts.headers, &parts.uri) } else { None };

    // What the application is told. A body of unknown length must be announced again, because its
    // announcement is hop-by-hop.
    let unsized_body = !body.is_end_stream() && body.size_hint().exact().is_none();
    headers::strip_request(&mut parts.headers, switching);
    if unsized_body {
        parts.headers.insert(header::TRANSFER_ENCODING, "chunked");
    }
    if host_sent.is_none() {
        // HTTP/1.0 may leave it out, HTTP/1.1 may not (RFC 9112 section 3.2).
        parts.headers.insert(header::HOST, &live.upstream_host);
    }
    let hop = Hop {
        peer: &connection.peer,
        client_ip,
        trusted_peer: trusted,
        claim: live.client_ip.header(),
        scheme: connection.scheme,
        host: host_sent.clone(),
    };
    set_forwarded(&mut parts.headers, &hop, live.forwarded);
    live.client_tls.tell(&mut parts.headers, tls_told.as_ref(), connection.tls.as_deref());
    let id = request_id::ensure(&mut parts.headers);
    if let Some(pending) = &mut pending {
        pending.request_id(id.as_str());
    }
    trace.seen.request_id(&id);
    if trace.seen.is_traced() {
        let told = trace.seen.tell(&mut parts.headers);
        if let (Some(pending), Some(told)) = (&mut pending, told) {
            pending.traced(told);
            trace.seen.route(pending.route());
        }
    }
    trace.id = Some(id);
    parts.version = Version::HTTP_11;

    let glimpsed = shared.glimpses.turn(&parts.uri, &shared.stats, clock::recent());
    let copy = pending.as_ref().and_then(Pending::request_copy);
    // An expectation in HTTP/1.0 must be ignored (RFC 9110 section 10.1.1).
    let expects = knows_expect && expect::is_expected(&parts.headers);
    let gate = (!body.is_end_stream() && expects).then(Gate::default);
    body.pass_on(copy.clone(), gate.clone(), &live.limits);
    trace.body = body.watch();
    let expected = gate.is_some();
    let passage = match &stream {
        Some(stream) => Passage::http2(stream.interim.clone(), gate),
        None => match connection.wire.as_ref().filter(|_| takes_interim) {
            Some(wire) => Passage::http1(wire, gate),
            None => Passage::closed(gate),
        },
    };
    if expected {
        expect::go_on_late(&passage);
    }
    let client_side = switching.then(|| match stream.as_mut().and_then(|stream| stream.tunnel.take()) {
        Some(opened) => Some(upgrade::Side::Http2(opened)),
        None => connection.wire.as_ref().map(|wire| upgrade::Side::Client(wire.switches())),
    });
    shared.pool.point_at(&live.upstream, live.limits.answer_headers);
    let client = if live.upstream.tells_client() { connection.client(client_ip) } else { None };
    trace.seen.asks();
    let sent = shared.pool.send(request, &passage, client, &live.timeouts).await;
    let (mut response, lease) = match sent {
        Ok(answered) => answered,
        Err(error) => {
            if let Some(pending) = &mut pending {
                let broke = copy.is_some_and(|c| c.try_borrow().is_ok_and(|c| c.broke));
                let ended =
                    if broke || error.side() == Side::Client { Ended::RequestCut } else { Ended::UpstreamFailed };
                pending.finish(ended);
            }
            return Err(error);
        }
    };
    let server = live.upstream.servers().get(lease.server());

    if let Err(error) = framing::check_answer(response.status(), response.headers()) {
        if let Some(pending) = &mut pending {
            pending.finish(Ended::UpstreamFailed);
        }
        return Err(shared.pool.failed(error));
    }
    if let Some(path) = glimpsed {
        shared.glimpses.offer(path, response.status(), response.headers());
    }
    if let Some(pending) = &mut pending {
        pending.answered(response.status(), response.headers());
    }
    if let Some(rotation) = rotation {
        let from = (&*host_name, client_ip);
        rotation.answered(&live.capture, from, response.headers(), &shared.outlet);
    }
    if let Some(hint) = &live.capture.hint {
        response.headers_mut().remove(hint);
    }
    if h2_websocket && response.status().is_success() {
        // Success would open the tunnel (RFC 8441 section 4), and there is none.
        if let Some(pending) = &mut pending {
            pending.finish(Ended::UpstreamFailed);
        }
        return Err(shared.pool.failed(ProxyError::Ambiguous("it answers a WebSocket with success, and opens none")));
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // An application that switches unasked would leave two readings of what follows.
        let unasked = ProxyError::Ambiguous("it switches protocols unasked");
        let client_side = client_side.flatten().ok_or(unasked)?;
        let application = match std::mem::replace(response.body_mut(), Inbound::Http2(None)) {
            Inbound::Tunnel(stream) => upgrade::Side::Open(stream),
            mut body => match body.connection() {
                Some(http1) if http1.has_sent() => upgrade::Side::Application(http1),
                Some(_) => {
                    return Err(shared.pool.failed(ProxyError::Ambiguous("it switches before it has the request")));
                }
                None => return Err(shared.pool.failed(ProxyError::Ambiguous("it switches protocols it cannot"))),
            },
        };
        upgrade::tunnel(client_side, application, &shared.stats, hold, connection.clone(), lease);
        headers::strip_response(response.headers_mut(), true);
        if h2_websocket {
            upgrade::translate_answer(&mut response);
        }
        if let Some(pending) = &mut pending {
            pending.finish(Ended::Complete);
        }
        trace.seen.answered(response.status(), server);
        trace.seen.finish(Ended::Complete);
        return Ok(response.map(|_| ResponseBody::Own(None)));
    }
    let mut seen = std::mem::take(&mut trace.seen);
    seen.answered(response.status(), server);
    let asks_upgrade = response.status() == StatusCode::UPGRADE_REQUIRED;
    headers::strip_response(response.headers_mut(), asks_upgrade);
    let mut response = response.map(|body| ResponseBody::upstream(body, lease, pending, seen, hold, &live.limits));
    // Without a body there is no last piece to hold back, only the head.
    if let Some(on_disk) = response.body_mut().held() {
        on_disk.await;
    }
    Ok(response)
}
