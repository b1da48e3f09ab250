//! A connection to the application over HTTP/1.1: one request after the other, and its answer.
//!
//! There is no task beside it and no channel: whoever asks writes the request and reads the head of the
//! answer, and the connection goes along with the answer's body, which whoever passes that on reads out of
//! it. So a connection that idles is not watched; it is looked at before it is used again.
//!
//! An application may answer before it has read the request. What is left of the request's body is written
//! while its answer is read, and beyond.
//!
//! It must never be used again after an answer whose end is not certain. The invariant: [`Http1`] is given
//! back only if the answer was read to its end, the request was written to its end, and neither side said
//! that the connection ends.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};

use super::Timeouts;
use super::deadline::within;
use super::wire::Counted;
use crate::proxy::body::{BodyError, RequestBody, Watch};
use crate::proxy::clock;
use crate::proxy::error::ProxyError;
use crate::proxy::http1::decode::{Decoder, Peer, Step};
use crate::proxy::http1::encode::Encoder;
use crate::proxy::http1::head::{self, Allowed, AnswerHead, Framing, HeadFault, HeadReader, digits};
use crate::proxy::http1::reader::Reader;
use crate::proxy::http1::server::Cut;
use crate::proxy::http1::writer::Writer;
use crate::proxy::idle::Alarm;
use crate::proxy::inbound::Inbound;
use crate::proxy::message::{Request, Response};
use crate::proxy::passage::Passage;

/// The most bytes of the head of an answer.
const MAX_HEAD: usize = 400 << 10;
/// So many interim answers are read in one go, before others have their turn.
const AT_ONCE: usize = 64;

/// A connection over HTTP/1.1.
pub struct Http1 {
    wire: Counted,
    reader: Reader,
    heads: HeadReader,
    /// Of the answer's body.
    decoder: Decoder,
    writer: Writer,
    /// What is left of the request's body when the answer has begun.
    sending: Option<Box<Sending>>,
    /// For the time that an answer may take. It stays with the connection, because entering a timer in
    /// the runtime for each request and taking it out costs more than all waiting it is for.
    alarm: Alarm,
    /// True as long as nothing speaks against another request.
    reusable: bool,
}

/// A request's body on its way.
struct Sending {
    body: RequestBody,
    encoder: Encoder,
    ended: bool,
    /// When a piece of it was last passed on.
    watch: Option<Rc<Watch>>,
    /// How long none may be, once the answer has ended.
    allowed: Duration,
}

/// Why there is no answer.
pub(super) enum Failed {
    /// Nothing was written; the request is whole.
    NotSent(ProxyError),
    /// It was written, and may be written again: it has no body and can do nothing twice, and nothing was
    /// answered.
    Again(ProxyError),
    /// It may have had an effect.
    Lost(ProxyError),
}

/// What ends an exchange.
enum Fault {
    /// Reading or writing failed, or the application has closed the connection.
    Io(io::Error),
    /// The answer cannot be read.
    Head(HeadFault),
    /// The client's body failed.
    Client(BodyError),
    /// The client's body is not as long as announced.
    Misframed,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Io(error)
    }
}

impl From<Fault> for ProxyError {
    fn from(fault: Fault) -> ProxyError {
        match fault {
            Fault::Io(error) => ProxyError::Closed(error.into()),
            Fault::Head(HeadFault::TooLarge) => ProxyError::AnswerHeadTooLarge(HeadFault::TooLarge.into()),
            Fault::Head(fault) => ProxyError::Invalid(fault.into()),
            Fault::Client(error) => ProxyError::of_the_client(Some(error.broke())),
            Fault::Misframed => ProxyError::of_the_client(None),
        }
    }
}

impl fmt::Debug for Http1 {
    /// Never what goes over it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1")
            .field("decoder", &self.decoder)
            .field("reusable", &self.reusable)
            .finish_non_exhaustive()
    }
}

impl Http1 {
    /// Over a connection that nobody has used.
    pub(super) fn over(wire: Counted) -> Http1 {
        Http1 {
            wire,
            reader: Reader::default(),
            heads: HeadReader::default(),
            decoder: Decoder::none(),
            writer: Writer::default(),
            sending: None,
            alarm: Alarm::default(),
            reusable: true,
        }
    }

    /// True if the application has closed the connection or said something unasked: it cannot be used.
    /// This asks the system only if something has happened on it.
    pub(super) fn is_spent(&mut self) -> bool {
        // Whoever waits for it later says so anew.
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        !self.reader.is_empty() || !self.wire.is_quiet() && self.reader.poll_more(cx, &mut self.wire).is_ready()
    }

    /// True if it may carry another request, as far as the last answer tells.
    pub(super) fn is_reusable(&self) -> bool {
        self.reusable && self.sending.is_none() && self.decoder.is_end() && self.writer.is_empty()
    }

    /// Gives back the memory it does not need while nobody uses it.
    pub(super) fn rest(&mut self) {
        self.reader.shrink();
    }

    /// Writes a request and reads the head of the answer. If there is none and the request may be sent
    /// again, it is as it was but for what frames its body.
    pub(super) async fn ask(
        mut self: Box<Self>,
        request: &mut Request<RequestBody>,
        passage: &Passage,
        timeouts: &Timeouts,
        answer_headers: usize,
    ) -> Result<Response<Inbound>, Failed> {
        let allowed = Allowed { headers: answer_headers, bytes: MAX_HEAD };
        let watch = request.body_mut().watch();
        let bodiless = watch.is_none();
        let mut encoder = Encoder::None;
        if bodiless {
            // Nothing follows that would need a framing of its own.
            request.headers_mut().remove(header::TRANSFER_ENCODING);
        } else {
            encoder = framing(request);
        }
        head::write_request(self.writer.head(), request.head());
        let mut sent = false;
        let mut ended = bodiless;
        let mut alarm = std::mem::take(&mut self.alarm);
        let answered = within(
            clock::recent(),
            timeouts.answer,
            &mut alarm,
            watch.as_deref(),
            poll_fn(|cx| self.poll_ask(cx, request, &mut encoder, &mut ended, &mut sent, passage, allowed)),
        );
        let answered = answered.await;
        self.alarm = alarm;
        let AnswerHead { parts, framing, keep_alive } = match answered {
            None => return Err(Failed::Lost(ProxyError::UpstreamTimeout)),
            Some(Ok(head)) => head,
            Some(Err(fault)) => {
                let closed = matches!(fault, Fault::Io(_)) && self.reader.is_empty() && !self.heads.has_begun();
                let error = ProxyError::from(fault);
                return Err(if closed && !sent {
                    request.body_mut().rewind();
                    Failed::NotSent(error)
                } else if closed && bodiless {
                    Failed::Again(error)
                } else {
                    Failed::Lost(error)
                });
            }
        };
        self.reusable = keep_alive && framing != Framing::UntilClose && parts.status != StatusCode::SWITCHING_PROTOCOLS;
        self.decoder = match framing {
            Framing::Length(length) => Decoder::length(length),
            Framing::Chunked => Decoder::chunked(Peer::Application),
            Framing::UntilClose => Decoder::until_close(),
        };
        self.heads.recycle(std::mem::take(request.headers_mut()));
        if !ended || !self.writer.is_empty() {
            if let Some(watch) = &watch {
                watch.answered();
            }
            let (body, allowed) = (std::mem::replace(request.body_mut(), RequestBody::empty()), timeouts.answer);
            self.sending = Some(Box::new(Sending { body, encoder, ended, watch, allowed }));
        }
        Ok(Response::from_parts(parts, Inbound::Answer(Answer { http1: Some(self) })))
    }

    /// Ready with the head of the answer.
    #[expect(clippy::too_many_arguments, reason = "what one exchange is made of, which lives on its caller's stack")]
    fn poll_ask(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut Request<RequestBody>,
        encoder: &mut Encoder,
        ended: &mut bool,
        sent: &mut bool,
        passage: &Passage,
        allowed: Allowed,
    ) -> Poll<Result<AnswerHead, Fault>> {
        let mut broken = None;
        match poll_send(&mut self.writer, &mut self.wire, cx, request.body_mut(), encoder, ended, sent) {
            Poll::Ready(Err(Fault::Io(error))) => broken = Some(error),
            Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
            _ => {}
        }
        let mut told = 0;
        loop {
            if !self.reader.is_empty() {
                match self.heads.answer(self.reader.buf(), request.method(), allowed).map_err(Fault::Head)? {
                    Some(head) if is_interim(head.parts.status) => {
                        passage.say(head.parts.status, &head.parts.headers);
                        // The gate of the body may be open now.
                        cx.waker().wake_by_ref();
                        told += 1;
                        if told == AT_ONCE {
                            return Poll::Pending;
                        }
                        continue;
                    }
                    Some(head) => return Poll::Ready(Ok(head)),
                    None => {}
                }
            }
            match self.reader.poll_more(cx, &mut self.wire) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Fault::Io(broken.unwrap_or_else(closed)))),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::Io(error))),
                // An application that answers without reading closes its side: its answer may still come.
                Poll::Pending if broken.is_some() && !*sent => {
                    return Poll::Ready(Err(Fault::Io(broken.unwrap_or_else(closed))));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Writes on what is left of the request. Ready when there is nothing left, or it cannot be written.
    fn poll_sending(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(sending) = &mut self.sending else { return Poll::Ready(()) };
        let Sending { body, encoder, ended, .. } = &mut **sending;
        let done = ready!(poll_send(&mut self.writer, &mut self.wire, cx, body, encoder, ended, &mut true));
        self.reusable &= done.is_ok();
        self.sending = None;
        Poll::Ready(())
    }

    /// Writes on what is left of the request after the end of its answer, until there is nothing left, it
    /// cannot be written, or nothing of it has moved for too long: an application that neither reads nor
    /// closes must not keep its client, and both connections, for ever.
    pub(super) async fn send_rest(&mut self) {
        let Some(sending) = &self.sending else { return };
        let (allowed, watch) = (sending.allowed, sending.watch.clone());
        let mut alarm = std::mem::take(&mut self.alarm);
        let sent =
            within(clock::recent(), allowed, &mut alarm, watch.as_deref(), poll_fn(|cx| self.poll_sending(cx))).await;
        self.alarm = alarm;
        self.reusable &= sent.is_some();
    }

    /// True if all of the request was written, as it must be before the connection becomes a tunnel.
    pub fn has_sent(&self) -> bool {
        self.sending.is_none() && self.writer.is_empty()
    }

    /// True if it will carry another request once all of this one is written.
    pub(super) fn is_sending(&self) -> bool {
        self.reusable && self.sending.is_some()
    }

    /// True if what is left of the request waits for a word that cannot come any more.
    pub(super) fn is_held_back(&self) -> bool {
        self.sending.as_ref().is_some_and(|sending| sending.body.is_held_back())
    }

    /// The next piece of the answer's body.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.sending.is_some() {
            let _ = self.poll_sending(cx);
        }
        loop {
            match self.decoder.next(self.reader.buf())? {
                Step::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Step::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Step::End => return Poll::Ready(None),
                Step::Wait => {
                    if ready!(self.reader.poll_more(cx, &mut self.wire))? == 0 {
                        self.reusable = false;
                        self.decoder.end()?;
                    }
                }
            }
        }
    }
}

/// Writes what waits, and the request's body behind it; ready when all is written.
fn poll_send(
    writer: &mut Writer,
    wire: &mut Counted,
    cx: &mut Context<'_>,
    body: &mut RequestBody,
    encoder: &mut Encoder,
    ended: &mut bool,
    sent: &mut bool,
) -> Poll<Result<(), Fault>> {
    loop {
        // The first piece is kept until something was sent, and only that one.
        let waits = !*sent && body.keeps();
        if !*ended && !writer.is_full() && !waits {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let over = body.is_end_stream();
                    match frame.into_data() {
                        Ok(data) => {
                            if !*sent {
                                body.keep(&data);
                            }
                            let around = if over { encoder.last_piece(data.len()) } else { encoder.piece(data.len()) };
                            writer.piece(around.map_err(|_| Fault::Misframed)?, data);
                            *ended = over;
                        }
                        Err(frame) => {
                            let trailers = frame.into_trailers().ok();
                            writer.end(&encoder.finish(trailers.as_ref()).map_err(|_| Fault::Misframed)?);
                            *ended = true;
                        }
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Fault::Client(error))),
                Poll::Ready(None) => {
                    writer.end(&encoder.finish(None).map_err(|_| Fault::Misframed)?);
                    *ended = true;
                }
                Poll::Pending => {
                    ready!(poll_write(writer, wire, cx, sent))?;
                    return Poll::Pending;
                }
            }
        }
        ready!(poll_write(writer, wire, cx, sent))?;
        if *ended {
            return Poll::Ready(Ok(()));
        }
    }
}

fn poll_write(
    writer: &mut Writer,
    wire: &mut Counted,
    cx: &mut Context<'_>,
    sent: &mut bool,
) -> Poll<Result<(), Fault>> {
    let waiting = writer.left();
    let written = writer.poll_flush(cx, Pin::new(&mut *wire));
    *sent |= writer.left() < waiting;
    ready!(written)?;
    // TLS keeps records back that the socket did not take.
    if wire.is_buffered() {
        ready!(tokio::io::AsyncWrite::poll_flush(Pin::new(wire), cx))?;
    }
    Poll::Ready(Ok(()))
}

/// How the body of a request is framed: as it says, or in chunks.
fn framing(request: &mut Request<RequestBody>) -> Encoder {
    let said = request.headers().get(header::CONTENT_LENGTH).and_then(|length| digits(length.as_bytes()));
    let headers = request.headers();
    if headers.contains_key(header::TRANSFER_ENCODING) {
        request.headers_mut().remove(header::CONTENT_LENGTH);
        return Encoder::Chunked;
    }
    if let Some(length) = said {
        return Encoder::Length(length);
    }
    let headers = request.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::TRANSFER_ENCODING, "chunked");
    Encoder::Chunked
}

fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")
}

/// The body of an answer, with the connection it comes over.
#[derive(Debug)]
pub struct Answer {
    /// Until it is taken out.
    http1: Option<Box<Http1>>,
}

impl Answer {
    /// The connection; what is left of the body is lost.
    pub fn connection(&mut self) -> Option<Box<Http1>> {
        self.http1.take()
    }

    /// Sends on what is left of the request, while nobody reads the answer.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(http1) = &mut self.http1 {
            let _ = http1.poll_sending(cx);
        }
    }
}

impl Http1 {
    /// What was read beyond the answer, and the stream: after a 101 it is a tunnel.
    pub fn into_tunnel(mut self) -> (Bytes, Counted) {
        (self.reader.take_rest(), self.wire)
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut self.get_mut().http1 {
            Some(http1) => http1.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.http1.as_ref().is_none_or(|http1| http1.decoder.is_end())
    }

    fn size_hint(&self) -> SizeHint {
        self.http1.as_ref().map_or(SizeHint::with_exact(0), |http1| http1.decoder.size_hint())
    }
}

#[cfg(test)]
mod tests;
