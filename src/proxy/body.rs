//! The bodies that go through: forwarded frame by frame, watched, never held back.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::clock;
use super::expect::Gate;
use super::http2::sending::Fails;
use super::idle::{Hold, IdleBody, IdleError};
use super::inbound::{Cut, Inbound};
use super::limits::Limits;
use super::observed::Observed;
use super::upstream::Lease;
use crate::capture::hold::OnDisk;
use crate::capture::pending::{Pending, RequestCopy};
use crate::exchange::Ended;

/// Why a request's body did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It stood still for longer than allowed.
    #[error("the request's body stood still for longer than allowed")]
    Idle,
    /// It is longer than allowed.
    #[error("the request's body is longer than allowed")]
    TooLarge,
    /// It broke off.
    #[error(transparent)]
    Broken(Cut),
}

/// How a request's body ended early, without what the error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broke {
    /// It stood still for longer than allowed.
    Idle,
    /// It is longer than allowed.
    TooLarge,
    /// It broke off.
    Off,
}

impl BodyError {
    /// Which it is.
    pub fn broke(&self) -> Broke {
        match self {
            BodyError::Idle => Broke::Idle,
            BodyError::TooLarge => Broke::TooLarge,
            BodyError::Broken(_) => Broke::Off,
        }
    }
}

impl Fails for BodyError {
    fn reason(&self) -> Option<h2::Reason> {
        match self {
            BodyError::Broken(cut) => cut.reason(),
            // The request is taken back (RFC 9113 section 7).
            BodyError::Idle | BodyError::TooLarge => Some(h2::Reason::CANCEL),
        }
    }
}

impl Fails for IdleError<Cut> {
    fn reason(&self) -> Option<h2::Reason> {
        match self {
            IdleError::Body(cut) => cut.reason(),
            IdleError::Idle => None,
        }
    }
}

/// What is to be known of a request's body while it is on its way.
#[derive(Debug, Default)]
pub struct Watch {
    broke: Cell<Option<Broke>>,
    moved: Cell<Option<Instant>>,
    answered: Cell<bool>,
    ended: Cell<bool>,
}

impl Watch {
    /// How it ended early, if it did: over HTTP/2 the error itself does not come back.
    pub fn broke(&self) -> Option<Broke> {
        self.broke.get()
    }

    /// When a piece of it was last passed on.
    pub fn moved(&self) -> Option<Instant> {
        self.moved.get()
    }

    /// Whether it was read to its end.
    pub fn ended(&self) -> bool {
        self.ended.get()
    }

    /// The application has begun to answer, so both talk now and either may be silent: from here on
    /// the body may stand still.
    pub fn answered(&self) {
        self.answered.set(true);
    }

    /// A piece of it is passed on.
    pub(super) fn moves(&self) {
        self.moved.set(Some(clock::recent()));
    }
}

/// A request's body on its way to the application.
pub struct RequestBody {
    inner: Option<IdleBody<Inbound>>,
    copy: Option<RequestCopy>,
    /// How many more bytes are allowed; `None` is no limit.
    room: Option<u64>,
    /// Keeps the body back while the client waits to be told to go on.
    gate: Option<Gate>,
    /// Told how it goes, if somebody asked.
    watched: Option<Rc<Watch>>,
    /// Its first piece, until that is sent.
    kept: Option<Bytes>,
    /// The kept piece is to be passed on once more.
    rewound: bool,
}

impl RequestBody {
    /// A body as it comes in, without limits yet.
    pub fn incoming(inner: Inbound) -> RequestBody {
        RequestBody { inner: Some(IdleBody::new(inner, Duration::ZERO)), ..RequestBody::empty() }
    }

    /// Passes it on within the limits from now on, feeding `copy` if there is one.
    pub fn pass_on(&mut self, copy: Option<RequestCopy>, gate: Option<Gate>, limits: &Limits) {
        if let Some(inner) = &mut self.inner {
            inner.limit(limits.body_idle);
        }
        self.room = (limits.request_body > 0).then_some(limits.request_body);
        (self.copy, self.gate) = (copy, gate);
        if self.is_end_stream() {
            self.note(|copy| copy.end());
        }
    }

    /// No body.
    pub fn empty() -> RequestBody {
        RequestBody { inner: None, copy: None, room: None, gate: None, watched: None, kept: None, rewound: false }
    }

    /// Where it will say how it goes. `None` if it has ended.
    pub fn watch(&mut self) -> Option<Rc<Watch>> {
        if self.is_end_stream() {
            return None;
        }
        Some(self.watched.get_or_insert_default().clone())
    }

    /// True while it is kept back for a client that waits to be told to go on.
    pub fn is_held_back(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| !gate.is_open())
    }

    /// Keeps its first piece, which is not sent yet.
    pub fn keep(&mut self, piece: &Bytes) {
        // A second piece is only asked for when the first is sent.
        self.kept = Some(piece.clone());
    }

    /// True until the piece that it keeps was sent, or is asked for again.
    pub fn keeps(&self) -> bool {
        self.kept.is_some()
    }

    /// The piece that was kept was not sent: it is passed on once more.
    pub fn rewind(&mut self) {
        self.rewound = self.kept.is_some();
    }

    fn fails(&self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.note(|copy| copy.broke = true);
        if let Some(watched) = &self.watched {
            watched.broke.set(Some(error.broke()));
        }
        Poll::Ready(Some(Err(error)))
    }

    fn note(&self, what: impl FnOnce(&mut crate::capture::tee::Copier)) {
        // Only this body and the guard, at its very end, borrow the copy, both on one thread.
        if let Some(mut copy) = self.copy.as_ref().and_then(|c| c.try_borrow_mut().ok()) {
            what(&mut copy);
        }
    }

    /// Counts data against the limit.
    fn fits(&mut self, data: &Bytes) -> bool {
        let Some(room) = &mut self.room else { return true };
        match room.checked_sub(data.len() as u64) {
            Some(left) => {
                *room = left;
                true
            }
            None => false,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(gate) = &self.gate {
            ready!(gate.poll_open(cx));
            self.gate = None;
        }
        if let Some(kept) = self.kept.take()
            && std::mem::take(&mut self.rewound)
        {
            return Poll::Ready(Some(Ok(Frame::data(kept))));
        }
        let Self { inner, watched, .. } = &mut *self;
        let Some(inner) = inner else { return Poll::Ready(None) };
        if watched.as_ref().is_some_and(|watched| watched.answered.get()) {
            inner.limit(Duration::ZERO);
        }
        let frame = ready!(Pin::new(inner).poll_frame(cx)).map(|frame| {
            frame.map_err(|error| match error {
                IdleError::Idle => BodyError::Idle,
                IdleError::Body(error) => BodyError::Broken(error),
            })
        });
        let frame = match frame {
            Some(Err(error)) => return self.fails(error),
            frame => frame,
        };
        if let Some(watched) = &self.watched {
            watched.moves();
            watched.ended.set(frame.is_none() || self.is_end_stream());
        }
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    if !self.fits(data) {
                        return self.fails(BodyError::TooLarge);
                    }
                    self.note(|copy| copy.see(data));
                }
                if self.is_end_stream() {
                    self.note(|copy| copy.end());
                }
            }
            None => self.note(|copy| copy.end()),
            Some(Err(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        !self.rewound && self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

/// The end of an answer that waits for the disk (`durability: sync`).
pub struct Held {
    on_disk: OnDisk,
    last: Option<Frame<Bytes>>,
}

/// An answer's body on its way to the client.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every answer is the large one; a box would be an allocation a request"
)]
pub enum ResponseBody {
    /// The application's.
    Upstream {
        /// The body itself.
        inner: IdleBody<Inbound>,
        /// The connection it comes from; goes back to the pool at the end of the body.
        lease: Option<Lease>,
        /// The exchange in the making, if it is captured.
        pending: Option<Pending>,
        /// Who is told of it.
        seen: Observed,
        /// While it lives, the client waits for us and is not idle.
        hold: Hold,
        /// The last piece, until the event that the answer gave is on disk.
        held: Option<Box<Held>>,
    },
    /// One of our own.
    Own(Option<Bytes>),
}

impl ResponseBody {
    /// Forwards the application's answer.
    pub fn upstream(
        inner: Inbound,
        lease: Lease,
        pending: Option<Pending>,
        seen: Observed,
        hold: Hold,
        limits: &Limits,
    ) -> ResponseBody {
        let inner = IdleBody::new(inner, limits.answer_idle);
        let mut body = ResponseBody::Upstream { inner, lease: Some(lease), pending, seen, hold, held: None };
        if body.is_end_stream() {
            body.finish(Ended::Complete);
        }
        body
    }

    /// What the head of an answer without a body waits for, if it is to wait.
    pub fn held(&mut self) -> Option<OnDisk> {
        let ResponseBody::Upstream { held, .. } = self else { return None };
        held.take().map(|held| held.on_disk)
    }

    /// Sends on what is left of the request, while nobody reads the answer.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        if let ResponseBody::Upstream { inner, .. } = self {
            inner.get_mut().drive(cx);
        }
    }

    fn finish(&mut self, ended: Ended) {
        let ResponseBody::Upstream { inner, lease, pending, seen, held, .. } = self else { return };
        if let Some(lease) = lease.take()
            && ended == Ended::Complete
        {
            lease.give_back(inner.get_mut().connection());
        }
        if let Some(mut pending) = pending.take() {
            if ended == Ended::Complete {
                *held = pending.on_disk().map(|on_disk| Box::new(Held { on_disk, last: None }));
            }
            pending.finish(ended);
        }
        seen.finish(ended);
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = IdleError<Cut>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let (frame, over) = match &mut *self {
            ResponseBody::Own(data) => return Poll::Ready(data.take().map(|d| Ok(Frame::data(d)))),
            ResponseBody::Upstream { held: Some(held), .. } => {
                ready!(Pin::new(&mut held.on_disk).poll(cx));
                let last = held.last.take();
                self.held();
                return Poll::Ready(last.map(Ok));
            }
            ResponseBody::Upstream { inner, pending, seen, .. } => {
                let frame = ready!(Pin::new(&mut *inner).poll_frame(cx));
                if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
                    if let Some(pending) = pending {
                        pending.see(data);
                    }
                    seen.sent(data.len());
                }
                (frame, inner.is_end_stream())
            }
        };
        match &frame {
            Some(Ok(_)) if !over => {}
            Some(Ok(_)) | None => self.finish(Ended::Complete),
            Some(Err(_)) => self.finish(Ended::UpstreamFailed),
        }
        if let ResponseBody::Upstream { held: Some(held), .. } = &mut *self {
            held.last = frame.and_then(Result::ok);
            return self.poll_frame(cx);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Own(data) => data.is_none(),
            ResponseBody::Upstream { held: Some(_), .. } => false,
            ResponseBody::Upstream { inner, .. } => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Own(data) => SizeHint::with_exact(data.as_ref().map_or(0, |d| d.len() as u64)),
            ResponseBody::Upstream { held: Some(held), .. } => {
                let last = held.last.as_ref().and_then(Frame::data_ref);
                SizeHint::with_exact(last.map_or(0, |data| data.len() as u64))
            }
            ResponseBody::Upstream { inner, .. } => inner.size_hint(),
        }
    }
}

impl From<Bytes> for ResponseBody {
    fn from(data: Bytes) -> Self {
        ResponseBody::Own((!data.is_empty()).then_some(data))
    }
}
