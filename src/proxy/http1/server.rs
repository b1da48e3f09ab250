//! One client's connection over HTTP/1: its requests handed to the handler one after the other, and the
//! answers written.
//!
//! Everything happens on the connection's own task: reading a head, asking, writing the answer; a
//! request's body is read by whoever passes it on, out of the same stream. So there are no channels,
//! and nothing is woken that does not wait for the socket. The way to the client is a [`Wire`], which
//! the request's body and whoever tells interim answers share with the task.
//!
//! It must never take what is left of a body for the next request, nor write anything between the head
//! of an answer and its end. The invariant: a connection goes on to the next request only if this one's
//! body was read to its end and its answer written to its end.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header;
use http::{Method, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use tokio::io::AsyncWrite;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::decode::{BodyFault, Decoder, Peer, Step};
use super::encode::{Encoder, Misframed};
use super::head::{self, Framing, HeadFault, HeadReader, RequestHead, digits};
use super::reader::Reader;
use super::stream::ClientStream;
use super::writer::Writer;
use crate::headers::Headers;
use crate::proxy::aside::Aside;
use crate::proxy::body::{RequestBody, ResponseBody};
use crate::proxy::error::ProxyError;
use crate::proxy::headers::strip_hop_by_hop;
use crate::proxy::idle::{Alarm, after};
use crate::proxy::inbound::Inbound;
use crate::proxy::message::{AnswerParts, Request, Response};
use crate::proxy::passage::{MAX_BYTES, MAX_HEADS};
use crate::telemetry::Traffic;

/// How much of a body that nobody wants is read, for the connection to serve on or to end in order.
const DISCARDED: usize = 256 << 10;
/// For how long.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a connection is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// How large the head of a request may be.
    pub head: head::Allowed,
    /// How long it may take, once it has begun.
    pub within: Duration,
}

/// Why a body was cut.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// Its framing is wrong, or the connection ended before it.
    #[error(transparent)]
    Fault(#[from] BodyFault),
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

/// A client's connection.
pub struct Wire {
    io: RefCell<Io>,
    /// The task of the connection, for those who tell it something from another one.
    task: RefCell<Option<Waker>>,
    /// True while somebody holds the body of the request and may read on.
    held: Cell<bool>,
    /// The request that may be told interim answers, by its number; 0 is none.
    open: Cell<u64>,
    /// How many requests there were.
    requests: Cell<u64>,
    /// How many interim answers this one was told.
    told: Cell<usize>,
    /// Whether one of them was 100: the body may come.
    continued: Cell<bool>,
    /// Who goes on with the stream after a 101.
    switch: Cell<Option<oneshot::Sender<Switched>>>,
}

/// A connection that has switched protocols: what was read beyond the request, and the stream.
pub type Switched = (Bytes, ClientStream);

struct Io {
    stream: ClientStream,
    reader: Reader,
    heads: HeadReader,
    /// Of the request's body.
    decoder: Decoder,
    writer: Writer,
    /// An interim answer may not have reached the socket.
    owes: bool,
    alarm: Alarm,
}

impl fmt::Debug for Wire {
    /// Never what goes over it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("requests", &self.requests.get()).finish_non_exhaustive()
    }
}

impl Io {
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.writer.poll_flush(cx, Pin::new(&mut self.stream)))?;
        // TLS keeps records back that the socket did not take.
        if let ClientStream::Tls(stream) = &mut self.stream {
            ready!(Pin::new(stream).poll_flush(cx))?;
        }
        self.owes = false;
        Poll::Ready(Ok(()))
    }
}

/// What came instead of a request, or one.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every one is the large one; a box would be an allocation a request"
)]
enum Next {
    Request(RequestHead),
    Refused(HeadFault),
    End,
}

impl Wire {
    /// A connection of which `first` was read already.
    pub fn new(stream: ClientStream, first: BytesMut) -> Rc<Wire> {
        let (reader, alarm) = (Reader::new(first), Alarm::default());
        let (heads, decoder, writer) = (HeadReader::default(), Decoder::none(), Writer::default());
        Rc::new(Wire {
            io: RefCell::new(Io { stream, reader, heads, decoder, writer, owes: false, alarm }),
            task: RefCell::default(),
            held: Cell::new(false),
            open: Cell::new(0),
            requests: Cell::new(0),
            told: Cell::new(0),
            continued: Cell::new(false),
            switch: Cell::default(),
        })
    }

    /// The number of the request that is being answered, for [`Wire::say`].
    pub fn number(&self) -> u64 {
        self.open.get()
    }

    /// Tells the client what the application said before its answer (RFC 9110 section 15.2) to the
    /// request of this number. What comes too late, or is too much, is left out.
    pub fn say(&self, number: u64, status: StatusCode, headers: &Headers) {
        // Who waits for the word to go on waits for nothing else: it is never one too many.
        let goes_on = status == StatusCode::CONTINUE && !self.continued.get();
        if number == 0 || self.open.get() != number || self.told.get() >= MAX_HEADS && !goes_on {
            return;
        }
        let Ok(mut io) = self.io.try_borrow_mut() else { return };
        let out = io.writer.head();
        let before = out.len();
        let mut parts = AnswerParts { status, reason: None, headers: headers.clone() };
        strip_hop_by_hop(&mut parts.headers);
        // There is no body to describe (RFC 9110 section 8.6).
        parts.headers.remove(header::CONTENT_LENGTH);
        head::write_answer(out, Version::HTTP_11, &parts);
        out.extend_from_slice(b"\r\n");
        if out.len() > MAX_BYTES && !goes_on {
            out.truncate(before);
            return;
        }
        io.owes = true;
        drop(io);
        self.told.set(self.told.get() + 1);
        self.continued.set(self.continued.get() || status == StatusCode::CONTINUE);
        self.wake();
    }

    /// Who will go on with the stream once the client has its 101.
    pub fn switches(&self) -> oneshot::Receiver<Switched> {
        let (sender, receiver) = oneshot::channel();
        self.switch.set(Some(sender));
        receiver
    }

    fn wake(&self) {
        if let Some(task) = self.task.borrow().as_ref() {
            task.wake_by_ref();
        }
    }

    /// Remembers the task, to be woken by others.
    fn attend(&self, cx: &Context<'_>) {
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
    }

    /// The next request. `since` is when its head began to come; `idles` is asked when nothing of one
    /// has: ready if the connection is to end then.
    fn poll_next(
        &self,
        cx: &mut Context<'_>,
        allowed: &Allowed,
        since: &mut Option<Instant>,
        mut idles: impl FnMut(&mut Context<'_>) -> Poll<()>,
    ) -> Poll<io::Result<Next>> {
        let mut io = self.io.borrow_mut();
        let Io { stream, reader, heads, alarm, .. } = &mut *io;
        loop {
            if !reader.is_empty() {
                match heads.request(reader.buf(), allowed.head) {
                    Ok(Some(head)) => return Poll::Ready(Ok(Next::Request(head))),
                    Ok(None) => {}
                    Err(fault) => return Poll::Ready(Ok(Next::Refused(fault))),
                }
            }
            match reader.poll_more(cx, stream) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Next::End)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if reader.is_empty() && idles(cx).is_ready() => return Poll::Ready(Ok(Next::End)),
                Poll::Pending if reader.is_empty() && since.is_none() => {
                    reader.shrink();
                    return Poll::Pending;
                }
                Poll::Pending => {
                    let began = *since.get_or_insert_with(Instant::now);
                    if let Some(deadline) = after(began, allowed.within) {
                        ready!(alarm.poll(deadline, cx));
                        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Begins the next request, which from here on may be told interim answers. Gives its body.
    fn begin(self: &Rc<Self>, framing: Framing) -> Body {
        let decoder = match framing {
            Framing::Length(length) => Decoder::length(length),
            Framing::Chunked => Decoder::chunked(Peer::Client),
            Framing::UntilClose => Decoder::none(),
        };
        let wire = (!decoder.is_end()).then(|| self.clone());
        self.held.set(wire.is_some());
        self.io.borrow_mut().decoder = decoder;
        self.requests.set(self.requests.get().wrapping_add(1).max(1));
        self.open.set(self.requests.get());
        self.told.set(0);
        self.continued.set(false);
        Body { wire, number: self.requests.get() }
    }

    /// Ready when nobody reads on in the body of the request: what others take out of it would be missing
    /// in the middle of what is passed on.
    fn poll_let_go(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.held.get() {
            // Its end wakes the task.
            self.attend(cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Reads what is left of a body that nobody wants. Ready with true at its end, with false if that
    /// is too far away.
    fn poll_discard(&self, cx: &mut Context<'_>, left: &mut usize, deadline: Instant) -> Poll<bool> {
        let mut io = self.io.borrow_mut();
        let Io { stream, reader, decoder, alarm, .. } = &mut *io;
        loop {
            match decoder.next(reader.buf()) {
                Ok(Step::Data(data)) => match left.checked_sub(data.len()) {
                    Some(rest) => *left = rest,
                    None => return Poll::Ready(false),
                },
                Ok(Step::Trailers(_)) => {}
                Ok(Step::End) => return Poll::Ready(true),
                Err(_) => return Poll::Ready(false),
                Ok(Step::Wait) => match reader.poll_more(cx, stream) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(false),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => return alarm.poll(deadline, cx).map(|()| false),
                },
            }
        }
    }

    /// Reads and forgets whatever comes, so that the end of the connection does not destroy what the
    /// client has not read yet (RFC 9112 section 9.6).
    fn poll_linger(&self, cx: &mut Context<'_>, left: &mut usize, deadline: Instant) -> Poll<()> {
        let mut io = self.io.borrow_mut();
        let Io { stream, reader, alarm, .. } = &mut *io;
        loop {
            reader.buf().clear();
            match reader.poll_more(cx, stream) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(read)) => match left.checked_sub(read) {
                    Some(rest) => *left = rest,
                    None => return Poll::Ready(()),
                },
                Poll::Pending => return alarm.poll(deadline, cx),
            }
        }
    }

    /// Writes the answer's body behind its head; ready at its end.
    fn poll_answer(
        &self,
        cx: &mut Context<'_>,
        body: &mut ResponseBody,
        encoder: &mut Encoder,
        ended: &mut bool,
    ) -> Poll<io::Result<()>> {
        loop {
            let full = self.io.borrow().writer.is_full();
            if !*ended && !full {
                // Not borrowed meanwhile: an answer may read on in the request's body.
                let frame = match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(frame) => frame,
                    Poll::Pending => {
                        if let Poll::Ready(Err(error)) = self.io.borrow_mut().poll_flush(cx) {
                            return Poll::Ready(Err(error));
                        }
                        return Poll::Pending;
                    }
                };
                let over = body.is_end_stream();
                let writer = &mut self.io.borrow_mut().writer;
                if matches!(encoder, Encoder::Length(0)) && !matches!(&frame, Some(Ok(frame)) if frame.is_trailers()) {
                    // All that was announced is there; what else the application says changes nothing.
                    *ended = true;
                    continue;
                }
                match frame.transpose().map_err(io::Error::other)?.map(Frame::into_data) {
                    Some(Ok(data)) => {
                        let around = if over { encoder.last_piece(data.len()) } else { encoder.piece(data.len()) };
                        writer.piece(around.map_err(misframed)?, data);
                        *ended = over;
                    }
                    Some(Err(frame)) => {
                        let trailers = frame.into_trailers().ok();
                        writer.end(&encoder.finish(trailers.as_ref()).map_err(misframed)?);
                        *ended = true;
                    }
                    None => {
                        writer.end(&encoder.finish(None).map_err(misframed)?);
                        *ended = true;
                    }
                }
            }
            let flushed = self.io.borrow_mut().poll_flush(cx);
            match flushed {
                Poll::Ready(Ok(())) if *ended => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    // A client that reads only when it has sent everything must not be waited for.
                    body.drive(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Ends the connection when all was said on both sides: without TLS the system says so by itself when
    /// the stream is dropped, as it is now.
    async fn end(&self) -> io::Result<()> {
        let plain = matches!(self.io.borrow().stream, ClientStream::Plain(_));
        if plain { Ok(()) } else { self.shutdown().await }
    }

    async fn shutdown(&self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut self.io.borrow_mut().stream).poll_shutdown(cx)).await
    }

    /// Ends the connection so that what was written last is read.
    async fn close(&self) -> io::Result<()> {
        self.shutdown().await?;
        let (mut left, deadline) = (DISCARDED, Instant::now() + PATIENCE);
        poll_fn(|cx| self.poll_linger(cx, &mut left, deadline)).await;
        Ok(())
    }
}

fn misframed(error: Misframed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Serves a connection until it ends, or until told to stop and its request in flight has been answered.
///
/// # Errors
/// The connection failed, or stood still for too long.
pub async fn serve(
    wire: Rc<Wire>,
    allowed: Allowed,
    stats: Arc<Traffic>,
    mut stop: watch::Receiver<bool>,
    answer: impl AsyncFn(&mut Request<RequestBody>) -> Response<ResponseBody>,
) -> io::Result<()> {
    let told = stop.clone();
    let mut stopped = *told.borrow();
    // It ends once, and is not asked with each request.
    let mut stopping = pin!(Aside::new(stop.wait_for(|stop| *stop)));
    // Of the first head something has come.
    let mut since = Some(Instant::now());
    loop {
        let next = poll_fn(|cx| {
            wire.poll_next(cx, &allowed, &mut since, |cx| {
                // Who could tell us to stop and is gone has told us.
                stopped = stopped || stopping.as_mut().poll(cx).is_ready();
                if stopped { Poll::Ready(()) } else { Poll::Pending }
            })
        });
        let head = match next.await? {
            Next::Request(head) => head,
            Next::Refused(fault) => {
                stats.refused.fetch_add(1, Relaxed);
                return refuse(&wire, fault).await;
            }
            Next::End => return wire.end().await,
        };
        since = None;
        let RequestHead { parts, framing, keep_alive } = head;
        let body = wire.begin(framing);
        let (method, version) = (parts.method.clone(), parts.version);
        let waits = body.wire.is_some() && crate::proxy::expect::is_expected(&parts.headers);
        let mut request = Request::from_parts(parts, RequestBody::incoming(Inbound::Http1(body)));
        let answered = {
            let mut answering = pin!(answer(&mut request));
            let waiting = poll_fn(|cx| {
                wire.attend(cx);
                let answered = answering.as_mut().poll(cx);
                if answered.is_pending()
                    && wire.io.borrow().owes
                    && let Poll::Ready(Err(error)) = wire.io.borrow_mut().poll_flush(cx)
                {
                    return Poll::Ready(Err(error));
                }
                answered.map(Ok)
            });
            waiting.await?
        };
        // What is left of its body nobody reads on.
        drop(request);
        // A client that was not told to go on may send the body or not: nobody can tell what follows.
        let unasked = waits && !wire.continued.get() && !wire.io.borrow().decoder.is_end();
        wire.open.set(0);
        stopped = stopped || told.has_changed().unwrap_or(true);
        let (mut parts, mut body) = answered.into_parts();
        let switches = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        let mut keep_alive = keep_alive && !unasked && !stopped;
        let mut encoder = {
            let io = &mut *wire.io.borrow_mut();
            let encoder = write_head(io.writer.head(), &mut parts, &body, &method, version, &mut keep_alive);
            io.heads.recycle(parts.headers);
            encoder
        };
        let mut ended = encoder == Encoder::None || body.is_end_stream();
        if ended {
            let end = encoder.finish(None).map_err(misframed)?;
            wire.io.borrow_mut().writer.end(&end);
        }
        poll_fn(|cx| wire.poll_answer(cx, &mut body, &mut encoder, &mut ended)).await?;
        if switches {
            if let Some(switch) = wire.switch.take() {
                let mut io = wire.io.borrow_mut();
                let rest = io.reader.take_rest();
                let stream = std::mem::replace(&mut io.stream, ClientStream::Gone);
                // The wire lives as long as the tunnel, which needs none of its memory.
                (io.reader, io.heads, io.writer) = (Reader::default(), HeadReader::default(), Writer::default());
                // Who is gone needs no stream.
                let _ = switch.send((rest, stream));
                return Ok(());
            }
            return wire.shutdown().await;
        }
        // The connection to the application goes back to its pool here, if it did not before.
        drop(body);
        if unasked {
            return wire.close().await;
        }
        poll_fn(|cx| if wire.io.borrow().decoder.is_end() { Poll::Ready(()) } else { wire.poll_let_go(cx) }).await;
        if !wire.io.borrow().decoder.is_end() {
            if !keep_alive {
                return wire.close().await;
            }
            let (mut left, deadline) = (DISCARDED, Instant::now() + PATIENCE);
            if !poll_fn(|cx| wire.poll_discard(cx, &mut left, deadline)).await {
                return wire.close().await;
            }
        }
        if !keep_alive {
            return wire.end().await;
        }
    }
}

/// Answers a head that cannot be read.
async fn refuse(wire: &Wire, fault: HeadFault) -> io::Result<()> {
    let error = match fault {
        HeadFault::Syntax(what) => ProxyError::BadRequest(what),
        HeadFault::TooLarge => ProxyError::HeadTooLarge,
        HeadFault::TargetTooLong => ProxyError::UriTooLong,
    };
    tracing::debug!(status = error.status().as_u16(), "request refused: {error}");
    let response = error.response(&Headers::new(), None);
    let (mut parts, body) = response.map(|body| ResponseBody::from(body.into_inner().unwrap_or_default())).into_parts();
    let (mut body, mut ended, mut keep_alive) = (body, false, false);
    let mut encoder = {
        let out = &mut wire.io.borrow_mut().writer;
        write_head(out.head(), &mut parts, &body, &Method::GET, Version::HTTP_11, &mut keep_alive)
    };
    poll_fn(|cx| wire.poll_answer(cx, &mut body, &mut encoder, &mut ended)).await?;
    wire.close().await
}

/// Writes the head of an answer and decides how its body is framed (RFC 9112 section 6.3), and whether
/// the connection goes on after it.
fn write_head(
    out: &mut Vec<u8>,
    parts: &mut AnswerParts,
    body: &ResponseBody,
    method: &Method,
    version: Version,
    keep_alive: &mut bool,
) -> Encoder {
    let headers = &mut parts.headers;
    let status = parts.status;
    let bodiless = *method == Method::HEAD || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    let mut implied = None;
    let encoder = if switches || bodiless {
        if status == StatusCode::NO_CONTENT {
            // RFC 9110 section 8.6.
            headers.remove(header::CONTENT_LENGTH);
        }
        Encoder::None
    } else {
        let said = headers.get(header::CONTENT_LENGTH).and_then(|length| digits(length.as_bytes()));
        match said.or(body.size_hint().exact()) {
            Some(length) => {
                implied = said.is_none().then_some(length);
                Encoder::Length(length)
            }
            None if version == Version::HTTP_11 => Encoder::Chunked,
            None => Encoder::UntilClose,
        }
    };
    let closes = headers.get_all(header::CONNECTION).any(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
    *keep_alive = *keep_alive && !closes && encoder != Encoder::UntilClose;
    // A client of HTTP/1.0 is answered in it, as it may not know another.
    let version = if version == Version::HTTP_10 { version } else { Version::HTTP_11 };
    head::write_answer(out, version, parts);
    if let Some(length) = implied {
        head::write_field(out, b"content-length", length.to_string().as_bytes());
    }
    if encoder == Encoder::Chunked {
        head::write_field(out, b"transfer-encoding", b"chunked");
    }
    if !switches && !closes {
        if !*keep_alive {
            head::write_field(out, b"connection", b"close");
        } else if version == Version::HTTP_10 {
            head::write_field(out, b"connection", b"keep-alive");
        }
    }
    out.extend_from_slice(b"\r\n");
    encoder
}

/// The body of a request.
#[derive(Debug)]
pub struct Body {
    /// Where it comes from; `None` is no body.
    wire: Option<Rc<Wire>>,
    /// Whose body it is: what comes after its end is another's.
    number: u64,
}

impl Body {
    /// Where more of it comes from. Nowhere once the next request has begun: that was only after the end
    /// of this one, while its last piece was still being passed on.
    fn wire(&self) -> Option<&Wire> {
        self.wire.as_deref().filter(|wire| wire.requests.get() == self.number)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(wire) = self.wire() {
            wire.held.set(false);
            wire.wake();
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Some(wire) = self.wire() else { return Poll::Ready(None) };
        let mut io = wire.io.borrow_mut();
        let Io { stream, reader, decoder, .. } = &mut *io;
        loop {
            match decoder.next(reader.buf())? {
                Step::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Step::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Step::End => return Poll::Ready(None),
                Step::Wait => {
                    if ready!(reader.poll_more(cx, stream))? == 0 {
                        decoder.end()?;
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.wire().is_none_or(|wire| wire.io.borrow().decoder.is_end())
    }

    fn size_hint(&self) -> SizeHint {
        match self.wire() {
            Some(wire) => wire.io.borrow().decoder.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

#[cfg(test)]
pub(in crate::proxy) mod tests;
