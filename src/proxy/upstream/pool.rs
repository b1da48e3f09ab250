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
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use http::uri::Scheme;
use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::client::conn::http2;

use super::again::{Again, is_idempotent};
use super::connect::{Allowed, Dial, MAX_STREAMS, Multi, Opened};
use super::translate::{to_http1, to_http2};
use super::{Address, Protocol, Timeouts, Upstream};
use crate::proxy::balance::{Tried, Turn};
use crate::proxy::body::{BodyError, Broke, RequestBody, Watch};
use crate::proxy::error::ProxyError;
use crate::proxy::idle::{Alarm, after};
use crate::proxy::limits::USUAL_HEADERS;
use crate::telemetry::Traffic;

#[cfg(test)]
mod tests;

/// The most idle connections a traffic thread keeps to one address.
const MAX_IDLE: usize = 512;

/// One traffic thread's connections to the application.
pub struct Pool {
    upstream: RefCell<Arc<Upstream>>,
    generation: Cell<u64>,
    /// The most headers of an answer over HTTP/1, for connections made from now on.
    answer_headers: Cell<usize>,
    /// The connections to each address.
    stations: RefCell<Vec<Station>>,
    turn: Turn,
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
    http1: Http1,
    since: Instant,
    owner: Owner,
}

/// An HTTP/1.1 connection.
struct Http1 {
    sender: SendRequest<RequestBody>,
    /// For the time that an answer may take. It stays with the connection, because entering a timer in
    /// the runtime for each request and taking it out costs more than all waiting it is for.
    alarm: Alarm,
}

impl Http1 {
    fn new(sender: SendRequest<RequestBody>) -> Http1 {
        Http1 { sender, alarm: Alarm::default() }
    }
}

/// An HTTP/2 connection.
struct Shared {
    sender: http2::SendRequest<RequestBody>,
    allowed: Rc<Allowed>,
    streams: Cell<usize>,
    /// When its last stream ended.
    since: Cell<Instant>,
    owner: Owner,
    /// True once it has refused a request (hyper itself notices only with the next one) or has not
    /// answered in time: it gets no further ones.
    spent: Cell<bool>,
}

impl Shared {
    fn has_room_for(&self, owner: Owner) -> bool {
        // An application that allows none for now is waited for on the first.
        let room = self.allowed.streams().clamp(1, MAX_STREAMS);
        self.owner == owner && !self.spent.get() && !self.sender.is_closed() && self.streams.get() < room
    }
}

/// One stream of a shared connection; ends with its answer.
struct Stream(Rc<Shared>);

impl Stream {
    fn on(shared: &Rc<Shared>) -> Stream {
        shared.streams.set(shared.streams.get().saturating_add(1));
        Stream(shared.clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get().saturating_sub(1));
        self.0.since.set(Instant::now());
        self.0.allowed.look_again();
    }
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
    Http1(Http1),
    /// Its end is the stream's; the connection serves the others on.
    Http2(#[expect(dead_code, reason = "counts as long as it lives")] Stream),
}

impl Lease {
    /// Which of the application's addresses it is, by its place in [`Upstream::servers`].
    pub fn server(&self) -> usize {
        self.place.server
    }

    /// The answer was read to its end: the connection may serve again.
    pub fn give_back(self) {
        let Lease { link: Link::Http1(http1), pool, place, owner } = self else { return };
        if place.generation != pool.generation.get() || http1.sender.is_closed() {
            return;
        }
        if let Some(Station { idle, .. }) = pool.stations.borrow_mut().get_mut(place.server)
            && idle.len() < MAX_IDLE
        {
            idle.push(Idle { http1, since: Instant::now(), owner: owner.map(|owner| *owner) });
        }
    }
}

/// A request that one address did not answer.
struct Missed {
    error: ProxyError,
    /// The whole request, if nothing of it can have had an effect.
    unsent: Option<Box<Request<RequestBody>>>,
}

impl From<ProxyError> for Missed {
    fn from(error: ProxyError) -> Missed {
        Missed { error, unsent: None }
    }
}

impl Pool {
    /// No connections yet. `thread` is the number of the traffic thread: each begins its round at
    /// another address.
    pub fn new(upstream: Arc<Upstream>, thread: usize, stats: Arc<Traffic>) -> Rc<Pool> {
        let stations = RefCell::new(stations(&upstream));
        let turn = Turn::starting_at(thread);
        let answer_headers = Cell::new(USUAL_HEADERS);
        Rc::new(Pool {
            upstream: RefCell::new(upstream),
            generation: Cell::new(0),
            answer_headers,
            stations,
            turn,
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
        for station in self.stations.borrow_mut().iter_mut() {
            station.idle.retain(|c| c.since.elapsed() < idle && !c.http1.sender.is_closed());
            // Of one that is closed the streams in flight may still end (RFC 9113 section 6.8); they
            // hold it themselves.
            station.shared.retain(|c| {
                !c.spent.get() && !c.sender.is_closed() && (c.streams.get() > 0 || c.since.get().elapsed() < idle)
            });
        }
    }

    /// Sends a request and waits for the head of the answer. If an address takes nothing of it, one
    /// other is tried. `client` is whom a PROXY header names, if the application wants one.
    ///
    /// # Errors
    /// No address answered; the failure is counted.
    pub async fn send(
        self: &Rc<Self>,
        mut request: Request<RequestBody>,
        client: Option<Client>,
        timeouts: &Timeouts,
    ) -> Result<(Response<Incoming>, Lease), ProxyError> {
        let mut tried = Tried::default();
        let mut place = self.choose(tried).unwrap_or(Place { server: 0, generation: self.generation.get() });
        let mut first_try = true;
        loop {
            let missed = match self.send_to(place, request, client, timeouts).await {
                Ok((response, link)) => {
                    self.answered(place);
                    return Ok((response, Lease { link, pool: self.clone(), place, owner: client.map(Box::new) }));
                }
                Err(missed) => missed,
            };
            self.missed(place, &missed.error);
            tried.add(place.server);
            let Missed { error, unsent } = missed;
            let Some(unsent) = unsent.filter(|_| first_try) else { return Err(self.failed(error)) };
            let Some(other) = self.choose(tried) else { return Err(self.failed(error)) };
            tracing::debug!("another address of the application is tried: {error}");
            (request, place, first_try) = (*unsent, other, false);
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
        request: Request<RequestBody>,
        owner: Owner,
        timeouts: &Timeouts,
    ) -> Result<(Response<Incoming>, Link), Missed> {
        match self.protocol(place) {
            Protocol::Http1 => self.send_http1(place, request, owner, timeouts).await,
            // A connection switches protocols in HTTP/1.1 only (RFC 9113 section 8.6).
            Protocol::Auto if request.headers().contains_key(header::UPGRADE) => {
                self.send_http1(place, request, owner, timeouts).await
            }
            Protocol::Http2 if request.headers().contains_key(header::UPGRADE) => {
                Err(ProxyError::NotImplemented("an upgrade, as the application speaks HTTP/2 only").into())
            }
            // In a box, as is connecting: what is seldom must take no room in each request's way.
            protocol => Box::pin(self.send_http2(place, request, owner, protocol, timeouts)).await,
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
        mut request: Request<RequestBody>,
        owner: Owner,
        timeouts: &Timeouts,
    ) -> Result<(Response<Incoming>, Link), Missed> {
        if let Some(mut http1) = self.warm(place, owner, timeouts.upstream_idle) {
            let again = is_idempotent(request.method()).then(|| Again::of(&request)).flatten();
            request = match exchange(&mut http1, request, timeouts).await {
                Ok(response) => return Ok((response, Link::Http1(http1))),
                // Nothing of it was written: the connection had been closed meanwhile.
                Err(Failed::NotSent(unsent, _)) => *unsent,
                // Closed just as it was used again: repeated if that cannot do a thing twice.
                Err(Failed::Lost(error)) => match again.filter(|_| matches!(error, ProxyError::Closed(_))) {
                    Some(again) => again.request(),
                    None => return Err(error.into()),
                },
            };
        }
        match Box::pin(self.connect(place, owner, Protocol::Http1, timeouts)).await {
            Ok(Opened::Http1(sender)) => Box::pin(over_new_http1(sender, request, timeouts)).await,
            // Cannot be: HTTP/1.1 was asked for.
            Ok(Opened::Http2(_)) => Err(ProxyError::Connect("it speaks HTTP/2 unasked".into()).into()),
            Err(error) => Err(Missed { error, unsent: Some(Box::new(request)) }),
        }
    }

    /// The warmest idle connection that is still good.
    fn warm(&self, place: Place, owner: Owner, idle_for: Duration) -> Option<Http1> {
        if place.generation != self.generation.get() {
            return None;
        }
        let mut stations = self.stations.borrow_mut();
        let idle = &mut stations.get_mut(place.server)?.idle;
        let mut kept = Vec::new();
        let found = loop {
            let Some(last) = idle.pop() else { break None };
            if last.http1.sender.is_closed() || last.since.elapsed() >= idle_for {
                continue;
            }
            if last.owner == owner && last.http1.sender.is_ready() {
                break Some(last.http1);
            }
            // Another client's, or its last answer is not quite read yet (a request's body still on
            // its way).
            kept.push(last);
        };
        idle.extend(kept);
        found
    }

    /// Sends a request as one stream of a connection that others use too. `protocol` is HTTP/2, or
    /// what the address chooses.
    async fn send_http2(
        &self,
        place: Place,
        mut request: Request<RequestBody>,
        owner: Owner,
        protocol: Protocol,
        timeouts: &Timeouts,
    ) -> Result<(Response<Incoming>, Link), Missed> {
        let mut first_try = true;
        loop {
            let (stream, warm) = match self.stream(place, owner, protocol, timeouts).await {
                Ok(Reached::Warm(stream)) => (stream, true),
                Ok(Reached::New(stream)) => (stream, false),
                Ok(Reached::Http1(Some(sender))) => return over_new_http1(sender, request, timeouts).await,
                Ok(Reached::Http1(None)) => return self.send_http1(place, request, owner, timeouts).await,
                Err(error) => return Err(Missed { error, unsent: Some(Box::new(request)) }),
            };
            let again = Again::of(&request);
            to_http2(&mut request, self.scheme(place))?;
            let (error, unsent) = match exchange_http2(&stream.0, request, timeouts).await {
                Ok(response) => return Ok((response, Link::Http2(stream))),
                Err(FailedStream::NotSent(mut unsent, error)) => {
                    stream.0.spent.set(true);
                    to_http1(&mut *unsent);
                    (ProxyError::Closed(error.into()), Some(*unsent))
                }
                // The application says that it has done nothing with it: safe whatever it asks for.
                Err(FailedStream::Lost(error, Processed::No)) => {
                    stream.0.spent.set(true);
                    (error, again.map(Again::request))
                }
                Err(FailedStream::Lost(error, Processed::Maybe)) => {
                    // Whoever does not answer may be gone without a word: those that come next do
                    // not wait for the same.
                    if matches!(error, ProxyError::UpstreamTimeout) {
                        stream.0.spent.set(true);
                    }
                    let closed_as_it_was_used = warm && matches!(error, ProxyError::Closed(_));
                    let again = again.filter(|again| closed_as_it_was_used && again.is_idempotent());
                    (error, again.map(Again::request))
                }
            };
            match unsent {
                Some(unsent) if first_try => (request, first_try) = (unsent, false),
                unsent => return Err(Missed { error, unsent: unsent.map(Box::new) }),
            }
        }
    }

    /// A stream of a connection with room, or of a new one.
    async fn stream(
        &self,
        place: Place,
        owner: Owner,
        protocol: Protocol,
        timeouts: &Timeouts,
    ) -> Result<Reached, ProxyError> {
        let current = place.generation == self.generation.get();
        let making = self.with_station(place, |station| station.making.clone()).filter(|_| current);
        let Some(making) = making else { return self.new_stream(place, owner, protocol, timeouts).await };
        if let Some(stream) = self.room(place, owner) {
            return Ok(Reached::Warm(stream));
        }
        let mut turn = std::pin::pin!(making.lock());
        let _making = loop {
            let made = self.with_station(place, |station| station.made);
            if let Ok(turn) = tokio::time::timeout(timeouts.connect, turn.as_mut()).await {
                break turn;
            }
            // A crowd needs many connections, made one after the other: while they come it may wait.
            if self.with_station(place, |station| station.made) == made {
                return Err(ProxyError::UpstreamTimeout);
            }
        };
        // Whoever was here before may have made one.
        if let Some(stream) = self.room(place, owner) {
            return Ok(Reached::Warm(stream));
        }
        if protocol == Protocol::Auto && self.with_station(place, |station| station.chose_http1) == Some(true) {
            return Ok(Reached::Http1(None));
        }
        self.new_stream(place, owner, protocol, timeouts).await
    }

    fn room(&self, place: Place, owner: Owner) -> Option<Stream> {
        let found = |station: &mut Station| station.shared.iter().find(|c| c.has_room_for(owner)).map(Stream::on);
        self.with_station(place, found).flatten()
    }

    async fn new_stream(
        &self,
        place: Place,
        owner: Owner,
        protocol: Protocol,
        timeouts: &Timeouts,
    ) -> Result<Reached, ProxyError> {
        match self.connect(place, owner, protocol, timeouts).await? {
            Opened::Http1(sender) => {
                self.with_station(place, |station| station.chose_http1 = true);
                Ok(Reached::Http1(Some(sender)))
            }
            Opened::Http2(Multi { sender, allowed }) => {
                let (streams, since) = (Cell::new(0), Cell::new(Instant::now()));
                let shared = Rc::new(Shared { sender, allowed, streams, since, owner, spent: Cell::new(false) });
                let stream = Stream::on(&shared);
                self.with_station(place, |station| {
                    station.shared.push(shared);
                    station.made = station.made.wrapping_add(1);
                });
                Ok(Reached::New(stream))
            }
        }
    }

    /// Does something with an address's connections; nothing after a reload that made others of them.
    fn with_station<T>(&self, place: Place, does: impl FnOnce(&mut Station) -> T) -> Option<T> {
        if place.generation != self.generation.get() {
            return None;
        }
        self.stations.borrow_mut().get_mut(place.server).map(does)
    }

    fn scheme(&self, place: Place) -> Scheme {
        match self.upstream.borrow().servers.get(place.server) {
            Some(Address::Tls(..)) => Scheme::HTTPS,
            _ => Scheme::HTTP,
        }
    }

    async fn connect(
        &self,
        place: Place,
        owner: Owner,
        protocol: Protocol,
        timeouts: &Timeouts,
    ) -> Result<Opened, ProxyError> {
        let upstream = self.upstream.borrow().clone();
        // A reload in between may have left fewer addresses: then the first of those that are.
        let address = upstream.servers.get(place.server).or(upstream.servers.first());
        let Some(address) = address else { return Err(ProxyError::Connect("no address of the application".into())) };
        let first = match (upstream.proxy_protocol, owner) {
            (None, _) => Vec::new(),
            (Some(version), Some(client)) => version.encode(client.address, client.local),
            (Some(version), None) => version.encode_local(),
        };
        let (within, answer_headers) = (timeouts.connect, self.answer_headers.get());
        let dial = Dial { address, tls: upstream.tls(), protocol, first: &first, within, answer_headers };
        dial.open().await
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

enum Failed {
    /// Nothing was written; the request is whole.
    NotSent(Box<Request<RequestBody>>, hyper::Error),
    /// It may have had an effect.
    Lost(ProxyError),
}

/// What a stream was asked for and what was found.
enum Reached {
    /// A stream of a connection that was there.
    Warm(Stream),
    /// The first of a new one.
    New(Stream),
    /// The address chose HTTP/1.1, just now on a new connection or before.
    Http1(Option<SendRequest<RequestBody>>),
}

enum FailedStream {
    /// Nothing was written; the request is whole.
    NotSent(Box<Request<RequestBody>>, hyper::Error),
    /// It was, or may have been.
    Lost(ProxyError, Processed),
}

/// Whether a request that failed may have had an effect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Processed {
    /// The application has said that it had none (RFC 9113 sections 6.8 and 8.7).
    No,
    Maybe,
}

fn stations(upstream: &Upstream) -> Vec<Station> {
    upstream.servers.iter().map(|_| Station::default()).collect()
}

/// Sends a request over a connection that nobody else has used.
async fn over_new_http1(
    sender: SendRequest<RequestBody>,
    request: Request<RequestBody>,
    timeouts: &Timeouts,
) -> Result<(Response<Incoming>, Link), Missed> {
    let mut http1 = Http1::new(sender);
    match exchange(&mut http1, request, timeouts).await {
        Ok(response) => Ok((response, Link::Http1(http1))),
        Err(Failed::NotSent(unsent, error)) => {
            Err(Missed { error: ProxyError::Closed(error.into()), unsent: Some(unsent) })
        }
        Err(Failed::Lost(error)) => Err(error.into()),
    }
}

async fn exchange_http2(
    shared: &Shared,
    mut request: Request<RequestBody>,
    timeouts: &Timeouts,
) -> Result<Response<Incoming>, FailedStream> {
    let body = request.body_mut().watch();
    let mut sender = shared.sender.clone();
    match within(timeouts.answer, &mut Alarm::default(), body.as_deref(), sender.try_send_request(request)).await {
        None => Err(FailedStream::Lost(ProxyError::UpstreamTimeout, Processed::Maybe)),
        Some(Ok(response)) => {
            if let Some(body) = body {
                body.answered();
            }
            Ok(response)
        }
        Some(Err(mut error)) => Err(match error.take_message() {
            Some(unsent) => FailedStream::NotSent(Box::new(unsent), error.into_error()),
            None => lost_stream(error.into_error(), body.and_then(|body| body.broke())),
        }),
    }
}

/// What a failed stream means; `broke` is how the request's body ended early, if it did.
fn lost_stream(error: hyper::Error, broke: Option<Broke>) -> FailedStream {
    if let Some(broke) = broke {
        return FailedStream::Lost(of_the_client(Some(broke)), Processed::Maybe);
    }
    let mut source = std::error::Error::source(&error);
    let cause = loop {
        match source {
            Some(found) => match found.downcast_ref::<h2::Error>() {
                Some(cause) => break Some(cause),
                None => source = found.source(),
            },
            None => break None,
        }
    };
    let refused = |e: &h2::Error| {
        e.is_remote() && (e.is_go_away() || (e.is_reset() && e.reason() == Some(h2::Reason::REFUSED_STREAM)))
    };
    let processed = if cause.is_some_and(refused) { Processed::No } else { Processed::Maybe };
    let invalid = cause.is_some_and(h2::Error::is_library);
    let error = if invalid { ProxyError::Invalid(error.into()) } else { ProxyError::Closed(error.into()) };
    FailedStream::Lost(error, processed)
}

/// Waits for the head of an answer for at most `allowed`, from when the last piece of the request was
/// passed on: an upload may take longer than an answer.
async fn within<T>(
    allowed: Duration,
    alarm: &mut Alarm,
    body: Option<&Watch>,
    exchange: impl Future<Output = T>,
) -> Option<T> {
    let mut exchange = std::pin::pin!(exchange);
    // Its beginning; `None` if the time allowed is longer than any clock runs.
    let mut deadline = after(tokio::time::Instant::now(), allowed);
    let answered = std::future::poll_fn(|cx| {
        if let Poll::Ready(answered) = exchange.as_mut().poll(cx) {
            return Poll::Ready(Some(answered));
        }
        loop {
            let Some(due) = deadline else { return Poll::Pending };
            ready!(alarm.poll(due, cx));
            let moved = body.and_then(Watch::moved).and_then(|moved| after(moved, allowed));
            match moved {
                Some(later) if later > due => deadline = moved,
                _ => return Poll::Ready(None),
            }
        }
    });
    answered.await
}

async fn exchange(
    http1: &mut Http1,
    mut request: Request<RequestBody>,
    timeouts: &Timeouts,
) -> Result<Response<Incoming>, Failed> {
    let body = request.body_mut().watch();
    let Http1 { sender, alarm } = http1;
    match within(timeouts.answer, alarm, body.as_deref(), sender.try_send_request(request)).await {
        None => Err(Failed::Lost(ProxyError::UpstreamTimeout)),
        Some(Ok(response)) => Ok(response),
        Some(Err(mut error)) => Err(match error.take_message() {
            Some(unsent) => Failed::NotSent(Box::new(unsent), error.into_error()),
            None => Failed::Lost(lost(error.into_error())),
        }),
    }
}

/// What a failed exchange means.
fn lost(error: hyper::Error) -> ProxyError {
    if error.is_parse_too_large() {
        ProxyError::AnswerHeadTooLarge(error.into())
    } else if error.is_parse() {
        ProxyError::Invalid(error.into())
    } else if error.is_user() {
        // The only thing we do to the client side of hyper is to feed it the client's body.
        let body = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<BodyError>());
        of_the_client(body.map(BodyError::broke))
    } else {
        ProxyError::Closed(error.into())
    }
}

/// What it means that the client's body ended early.
fn of_the_client(broke: Option<Broke>) -> ProxyError {
    match broke {
        Some(Broke::Idle) => ProxyError::RequestTimeout,
        Some(Broke::TooLarge) => ProxyError::BodyTooLarge,
        _ => ProxyError::BadRequest("the body broke off"),
    }
}
