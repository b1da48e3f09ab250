//! One traffic thread's connections to the application, and one request's way there.
//!
//! Each traffic thread has a pool of its own (stacks, so that warm connections stay warm and cold
//! ones grow old), which no other thread sees and no lock guards. An idle connection is kept for
//! less time than common servers keep theirs, because the one who closes first wins a race that
//! costs a request. A request is sent a second time, to the same address or another, only if nothing
//! of it can have had an effect (RFC 9110 section 9.2.2).
//!
//! The invariant: a connection serves again only for the address it was made to, and never after a
//! reload that changed where or how the application is reached.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::{Method, Request, Response};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::SendRequest;

use super::{Timeouts, Upstream, connect};
use crate::proxy::balance::{Tried, Turn};
use crate::proxy::body::{BodyError, RequestBody};
use crate::proxy::error::ProxyError;
use crate::telemetry::Traffic;

#[cfg(test)]
mod tests;

/// The most idle connections a traffic thread keeps to one address.
const MAX_IDLE: usize = 512;

/// One traffic thread's connections to the application.
pub struct Pool {
    upstream: RefCell<Arc<Upstream>>,
    generation: Cell<u64>,
    /// One stack for each address.
    idle: RefCell<Vec<Vec<Idle>>>,
    turn: Turn,
    stats: Arc<Traffic>,
}

struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

/// An address, by its number in the addresses of one generation.
#[derive(Clone, Copy)]
struct Place {
    server: usize,
    generation: u64,
}

/// A connection in use; gives itself back or closes.
pub struct Lease {
    sender: SendRequest<RequestBody>,
    pool: Rc<Pool>,
    place: Place,
}

impl Lease {
    /// The answer was read to its end: the connection may serve again.
    pub fn give_back(self) {
        let Lease { sender, pool, place } = self;
        if place.generation != pool.generation.get() || sender.is_closed() {
            return;
        }
        if let Some(idle) = pool.idle.borrow_mut().get_mut(place.server)
            && idle.len() < MAX_IDLE
        {
            idle.push(Idle { sender, since: Instant::now() });
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
        let idle = RefCell::new(stacks(&upstream));
        let turn = Turn::starting_at(thread);
        Rc::new(Pool { upstream: RefCell::new(upstream), generation: Cell::new(0), idle, turn, stats })
    }

    /// Follows a reload: connections to what is now another application are not used again.
    pub fn point_at(&self, upstream: &Arc<Upstream>) {
        if !Arc::ptr_eq(&self.upstream.borrow(), upstream) {
            if !self.upstream.borrow().same_connections(upstream) {
                self.generation.set(self.generation.get() + 1);
                *self.idle.borrow_mut() = stacks(upstream);
            }
            *self.upstream.borrow_mut() = upstream.clone();
        }
    }

    /// Closes connections that have been idle for too long.
    pub fn sweep(&self, idle: Duration) {
        for stack in self.idle.borrow_mut().iter_mut() {
            stack.retain(|c| c.since.elapsed() < idle && !c.sender.is_closed());
        }
    }

    /// Sends a request and waits for the head of the answer. If an address takes nothing of it, one
    /// other is tried.
    ///
    /// # Errors
    /// No address answered; the failure is counted.
    pub async fn send(
        self: &Rc<Self>,
        mut request: Request<RequestBody>,
        timeouts: &Timeouts,
    ) -> Result<(Response<Incoming>, Lease), ProxyError> {
        let mut tried = Tried::default();
        let mut place = self.choose(tried).unwrap_or(Place { server: 0, generation: self.generation.get() });
        let mut first_try = true;
        loop {
            let missed = match self.send_to(place, request, timeouts).await {
                Ok((response, sender)) => {
                    self.answered(place);
                    return Ok((response, Lease { sender, pool: self.clone(), place }));
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

    /// Sends a request to one address, over a warm connection if there is one.
    async fn send_to(
        &self,
        place: Place,
        mut request: Request<RequestBody>,
        timeouts: &Timeouts,
    ) -> Result<(Response<Incoming>, SendRequest<RequestBody>), Missed> {
        if let Some(mut sender) = self.warm(place, timeouts.upstream_idle) {
            let again = replay(&request);
            request = match exchange(&mut sender, request, timeouts).await {
                Ok(response) => return Ok((response, sender)),
                // Nothing of it was written: the connection had been closed meanwhile.
                Err(Failed::NotSent(unsent, _)) => *unsent,
                // Closed just as it was used again: repeated if that cannot do a thing twice.
                Err(Failed::Lost(error)) => match again.filter(|_| matches!(error, ProxyError::Closed(_))) {
                    Some(again) => again,
                    None => return Err(error.into()),
                },
            };
        }
        let mut sender = match self.connect(place, timeouts).await {
            Ok(sender) => sender,
            Err(error) => return Err(Missed { error, unsent: Some(Box::new(request)) }),
        };
        match exchange(&mut sender, request, timeouts).await {
            Ok(response) => Ok((response, sender)),
            Err(Failed::NotSent(unsent, error)) => {
                Err(Missed { error: ProxyError::Closed(error.into()), unsent: Some(unsent) })
            }
            Err(Failed::Lost(error)) => Err(error.into()),
        }
    }

    /// The warmest idle connection that is still good.
    fn warm(&self, place: Place, idle_for: Duration) -> Option<SendRequest<RequestBody>> {
        if place.generation != self.generation.get() {
            return None;
        }
        let mut idle = self.idle.borrow_mut();
        let idle = idle.get_mut(place.server)?;
        let mut busy = Vec::new();
        let found = loop {
            let Some(last) = idle.pop() else { break None };
            if last.sender.is_closed() || last.since.elapsed() >= idle_for {
                continue;
            }
            if last.sender.is_ready() {
                break Some(last.sender);
            }
            // Its last answer is not quite read yet (a request's body still on its way).
            busy.push(last);
        };
        idle.extend(busy);
        found
    }

    async fn connect(&self, place: Place, timeouts: &Timeouts) -> Result<SendRequest<RequestBody>, ProxyError> {
        let upstream = self.upstream.borrow().clone();
        // A reload in between may have left fewer addresses: then the first of those that are.
        let address = upstream.servers.get(place.server).or(upstream.servers.first());
        let Some(address) = address else { return Err(ProxyError::Connect("no address of the application".into())) };
        connect::connect(address, upstream.tls.as_ref(), timeouts).await
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

fn stacks(upstream: &Upstream) -> Vec<Vec<Idle>> {
    upstream.servers.iter().map(|_| Vec::new()).collect()
}

async fn exchange(
    sender: &mut SendRequest<RequestBody>,
    request: Request<RequestBody>,
    timeouts: &Timeouts,
) -> Result<Response<Incoming>, Failed> {
    match tokio::time::timeout(timeouts.answer, sender.try_send_request(request)).await {
        Err(_) => Err(Failed::Lost(ProxyError::UpstreamTimeout)),
        Ok(Ok(response)) => Ok(response),
        Ok(Err(mut error)) => Err(match error.take_message() {
            Some(unsent) => Failed::NotSent(Box::new(unsent), error.into_error()),
            None => Failed::Lost(lost(error.into_error())),
        }),
    }
}

/// What a failed exchange means.
fn lost(error: hyper::Error) -> ProxyError {
    if error.is_parse() {
        ProxyError::Invalid(error.into())
    } else if error.is_user() {
        // The only thing we do to the client side of hyper is to feed it the client's body.
        match std::error::Error::source(&error).and_then(|source| source.downcast_ref::<BodyError>()) {
            Some(BodyError::Idle) => ProxyError::RequestTimeout,
            Some(BodyError::TooLarge) => ProxyError::BodyTooLarge,
            _ => ProxyError::BadRequest("the body broke off"),
        }
    } else {
        ProxyError::Closed(error.into())
    }
}

/// A second copy of a request that may be sent twice: idempotent and without a body.
fn replay(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let idempotent = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    if !idempotent || !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(RequestBody::empty());
    again.method_mut().clone_from(request.method());
    again.uri_mut().clone_from(request.uri());
    again.headers_mut().clone_from(request.headers());
    again.extensions_mut().clone_from(request.extensions());
    Some(again)
}
