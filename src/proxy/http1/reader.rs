//! What has come over a connection and nobody has taken yet.
//!
//! What is read is never moved: whoever takes a part of it shares its memory. The buffer grows with what
//! comes at once, up to a bound, and is given back when the connection idles.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What is read at once where nothing is known of what comes.
const USUAL: usize = 4 << 10;
/// The most that is read at once.
const MOST: usize = 64 << 10;

/// See the module.
#[derive(Debug, Default)]
pub struct Reader {
    buf: BytesMut,
    /// What is read at once.
    step: usize,
    /// Its memory may be more than the usual.
    grown: bool,
}

impl Reader {
    /// With what was read before.
    pub fn new(first: BytesMut) -> Reader {
        Reader { buf: first, step: USUAL, grown: false }
    }

    /// What has come.
    pub fn buf(&mut self) -> &mut BytesMut {
        &mut self.buf
    }

    /// True if nothing is left to take.
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// Reads more; ready with how much came, 0 at the end of the connection.
    pub fn poll_more<S: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, stream: &mut S) -> Poll<io::Result<usize>> {
        let step = self.step.max(USUAL);
        if self.buf.capacity() - self.buf.len() < step / 2 {
            self.buf.reserve(step);
            self.grown |= self.buf.len() + step > 2 * USUAL;
        }
        let room = self.buf.capacity() - self.buf.len();
        let read = ready!(pin!(stream.read_buf(&mut self.buf)).poll(cx))?;
        // A reader that was filled has more to come; one that was not, less.
        self.step = if read == room {
            (step * 2).min(MOST)
        } else if read < step / 4 {
            (step / 2).max(USUAL)
        } else {
            step
        };
        Poll::Ready(Ok(read))
    }

    /// Gives its memory back if that is more than the usual and nothing waits in it: what one request
    /// needed must not stay with an idle connection.
    pub fn shrink(&mut self) {
        if self.grown {
            self.rest();
        }
    }

    /// What has come and nobody has taken, to be kept for long: it has no more memory than it needs.
    pub fn take_rest(&mut self) -> Bytes {
        Bytes::copy_from_slice(&std::mem::take(self).buf)
    }

    /// Gives its memory back if nothing waits in it.
    pub fn rest(&mut self) {
        if self.buf.is_empty() {
            *self = Reader::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_large_body_needed_does_not_stay_with_an_idle_connection() {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let (mut reader, mut body) = (Reader::new(BytesMut::with_capacity(USUAL)), &[b'x'; 1 << 20][..]);
        reader.shrink();
        assert_eq!(reader.buf.capacity(), USUAL, "the usual stays: the next request needs it at once");
        while matches!(reader.poll_more(cx, &mut body), Poll::Ready(Ok(1..))) {
            reader.shrink();
            assert!(!reader.is_empty(), "nothing that waits is given back");
            reader.buf().clear();
        }
        assert!(reader.buf.capacity() > USUAL);
        reader.shrink();
        assert_eq!(reader.buf.capacity(), 0);
    }
}
