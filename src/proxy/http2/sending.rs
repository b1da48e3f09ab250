//! A body that goes out over HTTP/2, piece by piece as the windows allow it.
//!
//! A piece is asked for when the last one is gone, and goes into `h2` only as far as the windows of
//! stream and connection have room: what waits for a peer that does not read is that one piece. A
//! peer that takes nothing may be given up after a time (RFC 9113 section 10.5: it may hold our memory
//! and the application's connection that way for as long as we let it). It must never be taken for a
//! stream that stands still that the connection as a whole is slow: while the socket itself takes
//! nothing, no stream's time runs.
//!
//! The invariant: a stream of which one frame's worth of bytes moves in each span of the time allowed
//! is never given up.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::super::headers::strip_trailers;
use super::super::idle::{Alarm, Busy, after};

#[cfg(test)]
mod tests;

/// The most that is handed over at once, in bytes: the size of a frame that every peer takes (RFC 9113
/// section 6.5.2).
pub(super) const PIECE: usize = 16 << 10;

/// Why the other side gets no more of it. Its stream is reset then, by it or by us.
#[derive(Debug, thiserror::Error)]
pub enum Unsent {
    /// It reset the stream, or the connection is gone.
    #[error("the other side takes no more of it")]
    Refused,
    /// It stood still for longer than allowed.
    #[error("the other side takes nothing of it")]
    Stalled,
    /// The body broke off.
    #[error("the body broke off")]
    Broken,
}

/// How long the other side may take nothing.
#[derive(Debug)]
pub struct Patience {
    idle: Duration,
    connection: Busy,
    /// Since when a piece has been waiting.
    since: Option<Instant>,
    alarm: Alarm,
}

impl Patience {
    /// It may stand still for `idle`; zero is no limit. `connection` is the connection's.
    pub fn new(idle: Duration, connection: Busy) -> Patience {
        Patience { idle, connection, since: None, alarm: Alarm::default() }
    }

    /// Ready when a piece has waited for too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.idle.is_zero() {
            return Poll::Pending;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let Some(deadline) = after(since.max(self.connection.last_full()), self.idle) else { return Poll::Pending };
        self.alarm.poll(deadline, cx)
    }
}

/// What a body can say of why it failed.
pub trait Fails {
    /// The reason that the side it comes from gave, if it gave one.
    fn reason(&self) -> Option<Reason>;
}

pin_project! {
    /// See the module. Ready when all of it is on its way, or when nothing more will be.
    pub struct Sending<B> {
        #[pin]
        body: B,
        stream: SendStream<Bytes>,
        // What the body gave last and has not gone yet; `piece` is the part of it whose turn it is.
        rest: Bytes,
        piece: Bytes,
        // Nothing comes after `rest`.
        last: bool,
        patience: Option<Patience>,
    }
}

impl<B> Sending<B> {
    /// Sends `body` by `stream`, which has none of it yet.
    pub fn new(body: B, stream: SendStream<Bytes>, patience: Option<Patience>) -> Sending<B> {
        Sending { body, stream, rest: Bytes::new(), piece: Bytes::new(), last: false, patience }
    }
}

impl<B> Future for Sending<B>
where
    B: Body<Data = Bytes>,
    B::Error: Fails,
{
    type Output = Result<(), Unsent>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        let mut this = self.project();
        // Also so that a reset wakes whoever waits for the body.
        if this.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Unsent::Refused));
        }
        loop {
            while !this.piece.is_empty() {
                let room = match this.stream.capacity() {
                    0 => match this.stream.poll_capacity(cx) {
                        // Said again where it counts.
                        Poll::Ready(Some(Ok(_))) => continue,
                        Poll::Ready(_) => return Poll::Ready(Err(Unsent::Refused)),
                        Poll::Pending => {
                            let Some(patience) = this.patience else { return Poll::Pending };
                            ready!(patience.poll(cx));
                            this.stream.send_reset(Reason::CANCEL);
                            return Poll::Ready(Err(Unsent::Stalled));
                        }
                    },
                    room => room,
                };
                let part = this.piece.split_to(this.piece.len().min(room));
                let end = *this.last && this.piece.is_empty() && this.rest.is_empty();
                this.stream.send_data(part, end).map_err(|_| Unsent::Refused)?;
                if end {
                    return Poll::Ready(Ok(()));
                }
            }
            if !this.rest.is_empty() {
                *this.piece = this.rest.split_to(this.rest.len().min(PIECE));
                if let Some(patience) = this.patience {
                    patience.since = None;
                }
                // Asked for only now that it is there: room that is asked for and not used is taken
                // from the other streams of the connection.
                this.stream.reserve_capacity(this.piece.len());
                continue;
            }
            match ready!(this.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        *this.last = this.body.is_end_stream();
                        if data.is_empty() && *this.last {
                            return Poll::Ready(ended(this.stream));
                        }
                        *this.rest = data;
                    }
                    Err(frame) => {
                        let Ok(mut trailers) = frame.into_trailers() else { continue };
                        strip_trailers(&mut trailers);
                        let sent = this.stream.send_trailers(trailers).map_err(|_| Unsent::Refused);
                        return Poll::Ready(sent);
                    }
                },
                None => return Poll::Ready(ended(this.stream)),
                Some(Err(error)) => {
                    // What the one side says holds for the other too, unless it says that nothing was
                    // done, or nothing is wrong: something is.
                    let reason = match error.reason() {
                        None | Some(Reason::NO_ERROR | Reason::REFUSED_STREAM) => Reason::INTERNAL_ERROR,
                        Some(reason) => reason,
                    };
                    this.stream.send_reset(reason);
                    return Poll::Ready(Err(Unsent::Broken));
                }
            }
        }
    }
}

fn ended(stream: &mut SendStream<Bytes>) -> Result<(), Unsent> {
    stream.send_data(Bytes::new(), true).map_err(|_| Unsent::Refused)
}
