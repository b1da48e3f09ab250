//! One traffic thread's connections to the application, and one request's way there.
//!
//! Each traffic thread has a pool of its own, which no other thread sees and no lock guards: of
//! HTTP/1.1 stacks of idle connections, so that warm ones stay warm and cold ones grow old, of
//! HTTP/2 the few that all requests share. An idle connection is kept for less time than common
//! servers keep theirs, because the one who closes first wins a race that costs a request. A request
//! is sent a second time, to the same address or another, only if nothing of it can have had an
//! effect (RFC 9110 section 9.2.2, RFC 9113 section 8.7).
//!
//! The invariant: a connection serves again only for the address it was made to and, if it began
//! with a PROXY header, for the client that this names; and never after a reload that changed where
//! or how the application is reached.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::header;
use tokio::time::Instant;

use super::again::is_idempotent;
use super::connect::{Dial, Opened};
use super::http1::{Failed, Http1};
use super::{Protocol, Timeouts, Upstream, websocket};
use crate::descriptors::{Outgoing, Outward};
use crate::proxy::balance::{Tried, Turn};
use crate::proxy::body::RequestBody;
use crate::proxy::clock;
use crate::proxy::error::ProxyError;
use crate::proxy::inbound::Inbound;
use crate::proxy::limits::USUAL_HEADERS;
use crate::proxy::message::{Request, Response};
use crate::proxy::passage::Passage;
use crate::telemetry::Traffic;

use http2::{Shared, Stream};

mod http2;
#[cfg(test)]
mod tests;

/// The most idle connections a traffic thread keeps to one address.
const MAX_IDLE: usize = 512;

/// One traffic thread's connections to the application.
pub struct Pool {
    upstream: RefCell<Arc<Upstream>>,
    generation: Cell<u64>,
    /// The most headers of an answer over HTTP/1.
    answer_headers: Cell<usize>,
    /// The connections to each address.
    stations: RefCell<Vec<Station>>,
    turn: Turn,
    /// All connections to the application, of this thread and the others.
    outward: Arc<Outward>,
    stats: Arc<Traffic>,
}

/// The connections to one address.
#[derive(Default)]
struct Station {
    /// Those of HTTP/1.1 that nobody uses.
    idle: Vec<Idle>,
    /// Those of HTTP/2, in use or not.
    shared: Vec<Rc<Shared>>,
    /// Held by whoever makes a connection that others may share: they wait for it instead of
    /// making as many. Nothing but requests of this thread ever waits for it.
    making: Rc<tokio::sync::Mutex<()>>,
    /// How many connections of HTTP/2 were made.
    made: u64,
    /// True once the address has chosen HTTP/1.1 where it could have chosen.
    chose_http1: bool,
}

struct Idle {
    http1: Box<Http1>,
    since: Instant,
    owner: Owner,
}

/// Whose connection it is: everybody's, or that of the client whom its PROXY header names.
type Owner = Option<Client>;

/// The client of a request, as the application is told in a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address; port 0 if only its IP address is known.
    pub address: SocketAddr,
    /// Where it connected to.
    pub local: SocketAddr,
}

/// An address, by its number in the addresses of one generation.
#[derive(Clone, Copy)]
struct Place {
    server: usize,
    generation: u64,
}

/// A connection in use, or a stream of one; gives itself back or closes.
pub struct Lease {
    link: Link,
    pool: Rc<Pool>,
    place: Place,
    /// In a box, as it is large and seldom there.
    owner: Option<Box<Client>>,
}

/// What a request was sent over.
enum Link {
    /// The connection goes along with the answer's body.
    Http1,
    /// Its end is the stream's; the connection serves the others on.
    Http2(#[expect(dead_code, reason = "counts as long as it lives")] Stream),
}

impl Lease {
    /// Which of the application's addresses it is, by its place in [`Upstream::servers`].
    pub fn server(&self) -> usize {
        self.place.server
    }

    /// The answer was read to its end: the connection it came over, if that was HTTP/1, may serve again.
    pub fn give_back(self, http1: Option<Box<Http1>>) {
        let (Link::Http1, Some(mut http1)) = (&self.link, http1) else { return };
        if http1.is_reusable() {
            return self.keep(http1);
        }
        if http1.is_sending() && !http1.is_held_back() {
            // An early answer: the request goes on.
            tokio::task::spawn_local(async move {
                http1.send_rest().await;
                if http1.is_reusable() {
                    self.keep(http1);
                }
            });
        }
    }

    fn keep(self, mut http1: Box<Http1>) {
        let Lease { pool, place, owner, .. } = self;
        if place.generation != pool.generation.get() {
            return;
        }
        if let Some(Station { idle, .. }) = pool.stations.borrow_mut().get_mut(place.server)
            && idle.len() < MAX_IDLE
        {
            http1.rest();
            idle.push(Idle { http1, since: clock::recent(), owner: owner.map(|owner| *owner) });
        }
    }
}

/// A request that one address did not answer.
struct Missed {
    error: ProxyError,
    /// The request is whole, and nothing of it can have had an effect.
    unsent: bool,
}

impl From<ProxyError> for Missed {
    fn from(error: ProxyError) -> Missed {
        Missed { error, unsent: false }
    }
}

impl Pool {
    /// No connections yet. `thread` is the number of the traffic thread: each begins its round at
    /// another address.
    pub fn new(upstream: Arc<Upstream>, thread: usize, outward: Arc<Outward>, stats: Arc<Traffic>) -> Rc<Pool> {
        let stations = RefCell::new(stations(&upstream));
        let turn = Turn::starting_at(thread);
        let answer_headers = Cell::new(USUAL_HEADERS);
        Rc::new(Pool {
            upstream: RefCell::new(upstream),
            generation: Cell::new(0),
            answer_headers,
            stations,
            turn,
            outward,
            stats,
        })
    }

    /// Follows a reload: connections to what is now another application are not used again.
    pub fn point_at(&self, upstream: &Arc<Upstream>, answer_headers: usize) {
        self.answer_headers.set(answer_headers);
        if !Arc::ptr_eq(&self.upstream.borrow(), upstream) {
            if !self.upstream.borrow().same_connections(upstream) {
                self.generation.set(self.generation.get() + 1);
                *self.stations.borrow_mut() = stations(upstream);
            }
            *self.upstream.borrow_mut() = upstream.clone();
        }
    }

    /// Closes connections that have been idle for too long.
    pub fn sweep(&self, idle: Duration) {
        let now = clock::recent();
        for station in self.stations.borrow_mut().iter_mut() {
            station.idle.retain_mut(|c| now.duration_since(c.since) < idle && !c.http1.is_spent());
            station.shared.retain(|c| c.is_kept(idle));
        }
    }

    /// Sends a request and waits for the head of the answer. If an address takes nothing of it, one
    /// other is tried. Interim answers go to `passage`. `client` is whom a PROXY header names, if the
    /// application wants one.
    ///
    /// # Errors
    /// No address answered; the failure is counted.
    pub async fn send(
        self: &Rc<Self>,
        request: &mut Request<RequestBody>,
        passage: &Passage,
        client: Option<Client>,
        timeouts: &Timeouts,
    ) -> Result<(Response<Inbound>, Lease), ProxyError> {
        let mut tried = Tried::default();
        let mut place = self.choose(tried).unwrap_or(Place { server: 0, generation: self.generation.get() });
        let mut first_try = true;
        loop {
            let missed = match self.send_to(place, request, passage, client, timeouts).await {
                Ok((response, link)) => {
                    self.answered(place);
                    return Ok((response, Lease { link, pool: self.clone(), place, owner: client.map(Box::new) }));
                }
                Err(missed) => missed,
            };
            self.missed(place, &missed.error);
            tried.add(place.server);
            let Missed { error, unsent } = missed;
            // Where there is no place for a connection, another address needs one too.
            let elsewhere = first_try && !matches!(error, ProxyError::Overloaded(_));
            if !unsent || !elsewhere {
                return Err(self.failed(error));
            }
            let Some(other) = self.choose(tried) else { return Err(self.failed(error)) };
            tracing::debug!("another address of the application is tried: {error}");
            (place, first_try) = (other, false);
        }
    }

    /// The address that is next; `None` if all were tried.
    fn choose(&self, tried: Tried) -> Option<Place> {
        let upstream = self.upstream.borrow();
        // One address needs no clock.
        let now = if upstream.servers.len() > 1 { upstream.now_ms() } else { 0 };
        let server = upstream.balancer.choose(&self.turn, tried, now)?;
        Some(Place { server, generation: self.generation.get() })
    }

    fn answered(&self, place: Place) {
        let upstream = self.upstream.borrow();
        if upstream.servers.len() > 1 && place.generation == self.generation.get() {
            upstream.balancer.succeeded(place.server);
        }
    }

    /// Tells the balancer of a failure that is the address's: no connection, or no answer in time.
    fn missed(&self, place: Place, error: &ProxyError) {
        if !matches!(error, ProxyError::Connect(_) | ProxyError::UpstreamTimeout) {
            return;
        }
        let upstream = self.upstream.borrow();
        if upstream.servers.len() > 1
            && place.generation == self.generation.get()
            && upstream.balancer.failed(place.server, upstream.now_ms())
        {
            self.stats.ejections.fetch_add(1, Relaxed);
            if let Some(server) = upstream.servers.get(place.server) {
                tracing::warn!(%server, "out for a while after failures in a row: {error}");
            }
        }
    }

    /// Sends a request to one address, in the protocol that it speaks.
    async fn send_to(
        &self,
        place: Place,
        request: &mut Request<RequestBody>,
        passage: &Passage,
        owner: Owner,
        timeouts: &Timeouts,
    ) -> Result<(Response<Inbound>, Link), Missed> {
        match self.protocol(place) {
            Protocol::Http1 => self.send_http1(place, request, passage, owner, timeouts).await,
            // A connection switches protocols in HTTP/1.1 only (RFC 9113 section 8.6).
            Protocol::Auto if request.headers().contains_key(header::UPGRADE) => {
                self.send_http1(place, request, passage, owner, timeouts).await
            }
            Protocol::Http2 if request.headers().contains_key(header::UPGRADE) && !websocket::is_asked(request) => {
                Err(ProxyError::NotImplemented("an upgrade, as the application speaks HTTP/2 only").into())
            }
            // In a box, as is connecting: what is seldom must take no room in each request's way.
            protocol => Box::pin(self.send_http2(place, request, passage, owner, protocol, timeouts)).await,
        }
    }

    /// What to speak with an address; `Auto` if that is to be agreed on.
    fn protocol(&self, place: Place) -> Protocol {
        let upstream = self.upstream.borrow();
        let Some(address) = upstream.servers.get(place.server) else { return Protocol::Http1 };
        match upstream.protocol.towards(address) {
            Protocol::Auto if place.generation == self.generation.get() => {
                let chose_http1 = self.stations.borrow().get(place.server).is_some_and(|station| station.chose_http1);
                if chose_http1 { Protocol::Http1 } else { Protocol::Auto }
            }
            protocol => protocol,
        }
    }

    /// Sends a request over a warm connection if there is one, else over a new one.
    async fn send_http1(
        &self,
        place: Place,
        request: &mut Request<RequestBody>,
        passage: &Passage,
        owner: Owner,
        timeouts: &Timeouts,
    ) -> Result<(Response<Inbound>, Link), Missed> {
        let answer_headers = self.answer_headers.get();
        if let Some(http1) = self.warm(place, owner, timeouts.upstream_idle) {
            match http1.ask(request, passage, timeouts, answer_headers).await {
                Ok(response) => return Ok((response, Link::Http1)),
                // Nothing of it was written: the connection had been closed meanwhile.
                Err(Failed::NotSent(_)) => {}
                // Closed just as it was used again: repeated if that cannot do a thing twice.
                Err(Failed::Again(_)) if is_idempotent(request.method()) => {}
                Err(Failed::Again(error) | Failed::Lost(error)) => return Err(error.into()),
            }
        }
        match Box::pin(self.connect(place, owner, Protocol::Http1, timeouts)).await {
            Ok(Opened::Http1(http1)) => over_new_http1(http1, request, passage, timeouts, answer_headers).await,
            // Cannot be: HTTP/1.1 was asked for.
            Ok(Opened::Http2(_)) => Err(ProxyError::Connect("it speaks HTTP/2 unasked".into()).into()),
            Err(error) => Err(Missed { error, unsent: true }),
        }
    }

    /// The warmest idle connection that is still good.
    fn warm(&self, place: Place, owner: Owner, idle_for: Duration) -> Option<Box<Http1>> {
        if place.generation != self.generation.get() {
            return None;
        }
        let mut stations = self.stations.borrow_mut();
        let idle = &mut stations.get_mut(place.server)?.idle;
        let (mut kept, now) = (Vec::new(), clock::recent());
        let found = loop {
            let Some(mut last) = idle.pop() else { break None };
            if now.duration_since(last.since) >= idle_for || last.http1.is_spent() {
                continue;
            }
            if last.owner == owner {
                break Some(last.http1);
            }
            // Another client's.
            kept.push(last);
        };
        idle.extend(kept);
        found
    }

    /// Does something with an address's connections; nothing after a reload that made others of them.
    fn with_station<T>(&self, place: Place, does: impl FnOnce(&mut Station) -> T) -> Option<T> {
        if place.generation != self.generation.get() {
            return None;
        }
        self.stations.borrow_mut().get_mut(place.server).map(does)
    }

    async fn connect(
        &self,
        place: Place,
        owner: Owner,
        protocol: Protocol,
        timeouts: &Timeouts,
    ) -> Result<Opened, ProxyError> {
        let outgoing = self.outgoing().await?;
        let upstream = self.upstream.borrow().clone();
        // A reload in between may have left fewer addresses: then the first of those that are.
        let address = upstream.servers.get(place.server).or(upstream.servers.first());
        let Some(address) = address else { return Err(ProxyError::Connect("no address of the application".into())) };
        let first = match (upstream.proxy_protocol, owner) {
            (None, _) => Vec::new(),
            (Some(version), Some(client)) => version.encode(client.address, client.local),
            (Some(version), None) => version.encode_local(),
        };
        let within = timeouts.connect;
        let dial = Dial { address, tls: upstream.tls(), protocol, first: &first, within };
        dial.open(outgoing).await
    }

    /// A place for one more connection. If all are taken, the coldest idle connection of this thread
    /// gives way.
    async fn outgoing(&self) -> Result<Outgoing, ProxyError> {
        const FULL: ProxyError = ProxyError::Overloaded(
            "no file descriptor is left for a connection to the application: raise their limit (LimitNOFILE, ulimit -n)",
        );
        if let Some(outgoing) = self.outward.try_enter() {
            return Ok(outgoing);
        }
        if !self.drop_coldest() {
            return Err(FULL);
        }
        // Its task closes it; it is before this one in the line of those that are woken.
        tokio::task::yield_now().await;
        self.outward.try_enter().ok_or(FULL)
    }

    /// Closes the connection that has been idle for the longest; false if there is none.
    fn drop_coldest(&self) -> bool {
        let mut stations = self.stations.borrow_mut();
        // Those at the bottom of a stack are the oldest.
        let oldest = stations.iter().enumerate().filter_map(|(n, station)| Some((station.idle.first()?.since, n)));
        let Some((_, station)) = oldest.min() else { return false };
        stations[station].idle.remove(0);
        true
    }

    /// Counts a failure of the application.
    pub fn failed(&self, error: ProxyError) -> ProxyError {
        // What is the client's doing is no failure of the application.
        if let Some(kind) = error.upstream_error() {
            self.stats.upstream_error(kind);
        }
        error
    }
}

fn stations(upstream: &Upstream) -> Vec<Station> {
    upstream.servers.iter().map(|_| Station::default()).collect()
}

/// Sends a request over a connection that nobody else has used.
async fn over_new_http1(
    http1: Box<Http1>,
    request: &mut Request<RequestBody>,
    passage: &Passage,
    timeouts: &Timeouts,
    answer_headers: usize,
) -> Result<(Response<Inbound>, Link), Missed> {
    match http1.ask(request, passage, timeouts, answer_headers).await {
        Ok(response) => Ok((response, Link::Http1)),
        Err(Failed::NotSent(error)) => Err(Missed { error, unsent: true }),
        Err(Failed::Again(error) | Failed::Lost(error)) => Err(error.into()),
    }
}
