//! A body that comes in over HTTP/2.
//!
//! Room in the windows is given back for a piece when it is taken, and it is taken only when there is
//! somebody to pass it on to: whoever sends is held up by whoever reads.
//!
//! It must never take a body that was cut for a whole one: a reset before the end is an error,
//! whatever reason it gives. (After a whole body NO_ERROR only asks us not to send on, RFC 9113
//! section 8.1, and `h2` does not count it against the body.)

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};

/// A length that was not said; none is as long.
const UNSAID: u64 = u64::MAX;

/// See the module.
#[derive(Debug)]
pub struct Received {
    stream: RecvStream,
    /// How much of it is still to come, or [`UNSAID`]: an `Option` would make every request larger.
    left: u64,
    /// Only trailers may follow.
    data_ended: bool,
}

impl Received {
    /// The body of a message with these headers. That `Content-Length` is one number, and that it is
    /// right at the end of the body, `h2` sees to.
    pub fn new(stream: RecvStream, headers: &HeaderMap) -> Received {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let left = length.and_then(|length| length.parse().ok()).unwrap_or(UNSAID);
        Received { stream, left, data_ended: false }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        while !self.data_ended {
            match ready!(self.stream.poll_data(cx)).transpose()? {
                // Passed on, an empty piece would only cost.
                Some(data) if data.is_empty() => {}
                Some(data) => {
                    // Fails only for more than was received.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    if self.left != UNSAID {
                        self.left = self.left.saturating_sub(data.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                None => self.data_ended = true,
            }
        }
        self.stream.poll_trailers(cx).map(|trailers| trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            _ if self.is_end_stream() => SizeHint::with_exact(0),
            UNSAID => SizeHint::new(),
            left => SizeHint::with_exact(left),
        }
    }
}
