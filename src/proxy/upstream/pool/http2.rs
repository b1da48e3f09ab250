//! The half of the pool that shares connections: which of them a request goes over, when another is
//! made, and when a request is sent again.
//!
//! The invariant: at most one connection to an address is being made at a time by those who could
//! share it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::uri::Scheme;
use tokio::time::Instant;

use super::{Link, Missed, Owner, Place, Pool, Station, Timeouts, over_new_http1};
use crate::proxy::body::RequestBody;
use crate::proxy::clock;
use crate::proxy::error::ProxyError;
use crate::proxy::inbound::Inbound;
use crate::proxy::message::{Parts, Request, Response};
use crate::proxy::passage::Passage;
use crate::proxy::upstream::again::Again;
use crate::proxy::upstream::connect::Opened;
use crate::proxy::upstream::http1::Http1;
use crate::proxy::upstream::http2::{self, Connection, Failed, Processed};
use crate::proxy::upstream::translate::{to_http1, to_http2};
use crate::proxy::upstream::{Address, Protocol, websocket};

/// How long the settings of a new connection are waited for.
const SETTLED: Duration = Duration::from_secs(1);

/// An HTTP/2 connection in a pool.
pub(super) struct Shared {
    connection: Connection,
    /// When its last stream ended.
    since: Cell<Instant>,
    owner: Owner,
    /// True once it has refused a request or has not answered in time: it gets no further ones.
    spent: Cell<bool>,
}

impl Shared {
    fn has_room_for(&self, owner: Owner) -> bool {
        self.owner == owner && !self.spent.get() && self.connection.has_room()
    }

    /// Whether it may still be of use to requests to come. Of one that is dropped the streams in
    /// flight may still end (RFC 9113 section 6.8); they hold it themselves.
    pub(super) fn is_kept(&self, idle: Duration) -> bool {
        let used = self.connection.streams() > 0 || self.since.get().elapsed() < idle;
        used && !self.spent.get() && !self.connection.has_ended()
    }
}

/// One stream of a shared connection; ends with its answer.
pub(super) struct Stream {
    shared: Rc<Shared>,
    _place: http2::Place,
}

impl Stream {
    fn on(shared: &Rc<Shared>) -> Stream {
        Stream { shared: shared.clone(), _place: shared.connection.enter() }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.since.set(clock::recent());
    }
}

/// What a stream was asked for and what was found.
enum Reached {
    /// A stream of a connection that was there.
    Warm(Stream),
    /// The first of a new one.
    New(Stream),
    /// The address chose HTTP/1.1, just now on a new connection or before.
    Http1(Option<Box<Http1>>),
}

impl Pool {
    /// Sends a request as one stream of a connection that others use too. `protocol` is HTTP/2, or
    /// what the address chooses.
    pub(super) async fn send_http2(
        &self,
        place: Place,
        whole: &mut Request<RequestBody>,
        passage: &Passage,
        owner: Owner,
        protocol: Protocol,
        timeouts: &Timeouts,
    ) -> Result<(Response<Inbound>, Link), Missed> {
        let mut first_try = true;
        loop {
            let (stream, warm) = match self.stream(place, owner, protocol, timeouts).await {
                Ok(Reached::Warm(stream)) => (stream, true),
                Ok(Reached::New(stream)) => (stream, false),
                Ok(Reached::Http1(Some(sender))) => {
                    return over_new_http1(sender, whole, passage, timeouts, self.answer_headers.get()).await;
                }
                Ok(Reached::Http1(None)) => return self.send_http1(place, whole, passage, owner, timeouts).await,
                Err(error) => return Err(Missed { error, unsent: true }),
            };
            // A stream keeps what it is given; what is left of it comes back if it was not sent.
            let mut request = std::mem::replace(whole, Request::from_parts(Parts::default(), RequestBody::empty()));
            let again = Again::of(&request);
            let websocket = websocket::is_asked(&request);
            to_http2(&mut request, self.scheme(place))?;
            let Shared { connection, spent, .. } = &*stream.shared;
            let exchanged = match websocket {
                true => Box::pin(connection.websocket(request, passage, timeouts.answer)).await,
                false => connection.exchange(request, passage, timeouts.answer).await,
            };
            let (error, unsent) = match exchanged {
                Ok(response) => return Ok((response, Link::Http2(stream))),
                Err(Failed::NotSent(mut unsent, error)) => {
                    spent.set(true);
                    to_http1(&mut *unsent);
                    if warm {
                        // It had been closed meanwhile, and may not be the only one. There is an end
                        // to it: a spent one is not found again, and a new one is not warm.
                        *whole = *unsent;
                        continue;
                    }
                    (ProxyError::Closed(error.into()), Some(*unsent))
                }
                // The application says that it has done nothing with it: safe whatever it asks for.
                Err(Failed::Lost(error, Processed::No)) => {
                    spent.set(true);
                    (error, again.map(Again::request))
                }
                Err(Failed::Lost(error, Processed::Maybe)) => {
                    // Whoever does not answer may be gone without a word: those that come next do
                    // not wait for the same.
                    if matches!(error, ProxyError::UpstreamTimeout) {
                        spent.set(true);
                    }
                    let closed_as_it_was_used = warm && matches!(error, ProxyError::Closed(_));
                    let again = again.filter(|again| closed_as_it_was_used && again.is_idempotent());
                    (error, again.map(Again::request))
                }
            };
            let Some(unsent) = unsent else { return Err(error.into()) };
            *whole = unsent;
            if !first_try {
                return Err(Missed { error, unsent: true });
            }
            first_try = false;
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
            Opened::Http2(connection) => {
                // Until the application has said how many streams it allows, a crowd would queue up
                // on this one. It says so at once (RFC 9113 section 3.4), or waits for us no longer.
                let _ = tokio::time::timeout(SETTLED.min(timeouts.connect), connection.settled()).await;
                let (since, spent) = (Cell::new(clock::recent()), Cell::new(false));
                let shared = Rc::new(Shared { connection, since, owner, spent });
                let stream = Stream::on(&shared);
                self.with_station(place, |station| {
                    station.shared.push(shared);
                    station.made = station.made.wrapping_add(1);
                });
                Ok(Reached::New(stream))
            }
        }
    }

    fn scheme(&self, place: Place) -> Scheme {
        match self.upstream.borrow().servers.get(place.server) {
            Some(Address::Tls(..)) => Scheme::HTTPS,
            _ => Scheme::HTTP,
        }
    }
}
