//! One connection on which whole records go out and nothing comes back.
//!
//! Such a receiver acknowledges nothing: a write has only reached the system's buffers. So a
//! connection is looked at before each batch, and if it broke since the last one, that last batch
//! is written again in front of the new one, unless it is older than [`DOUBT`]. It must never write
//! the rest of a record to a connection that did not get its beginning. The invariant: every
//! connection begins with a whole record.

use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::link::{Link, Wire};
use crate::sinks::SinkError;

/// What was written this long ago is believed to have arrived.
pub const DOUBT: Duration = Duration::from_secs(30);
/// The largest batch that is kept to be written again, in bytes.
const MAX_KEPT: usize = 1 << 20;
/// The most that is read of a receiver that talks, in one go: buffers of 4 KiB.
const MAX_TALK: usize = 64;

/// Whom to connect to.
#[derive(Debug)]
pub enum To {
    /// A receiver over TCP, with or without TLS.
    Tcp(Link),
    /// A Unix socket, and the time for one batch.
    Unix(PathBuf, Duration),
}

impl To {
    async fn dial(&self) -> Result<Box<dyn Wire>, SinkError> {
        match self {
            To::Tcp(link) => link.dial().await,
            To::Unix(path, within) => match timeout(*within, tokio::net::UnixStream::connect(path)).await {
                Ok(Ok(stream)) => Ok(Box::new(stream)),
                Ok(Err(error)) => Err(self.told(&format!("no connection: {error}"))),
                Err(_) => Err(self.told(&format!("no connection within {within:?}"))),
            },
        }
    }

    fn within(&self) -> Duration {
        match self {
            To::Tcp(link) => link.timeout(),
            To::Unix(_, within) => *within,
        }
    }

    fn told(&self, what: &str) -> SinkError {
        match self {
            To::Tcp(link) => link.told(what),
            To::Unix(path, _) => SinkError::Other(format!("{}: {what}", path.display())),
        }
    }
}

/// A stream to one receiver, connected when there is something to write.
pub struct Stream {
    to: To,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    wire: Option<Box<dyn Wire>>,
    /// The last batch that was written, and when.
    last: Option<(Vec<u8>, Instant)>,
}

impl Stream {
    /// A stream that is not connected yet.
    pub fn new(to: To) -> Stream {
        Stream { to, state: Mutex::default() }
    }

    /// Writes whole records.
    ///
    /// # Errors
    /// There is no connection, or it broke or stood still; the records have to be written again.
    pub async fn write(&self, records: Vec<u8>) -> Result<(), SinkError> {
        let mut state = self.state.lock().await;
        let wire = match state.wire.take() {
            Some(mut wire) => is_open(&mut wire).await.then_some(wire),
            None => None,
        };
        let mut again = Vec::new();
        let mut wire = match wire {
            Some(wire) => wire,
            None => {
                let wire = self.to.dial().await?;
                if let Some((last, at)) = &state.last
                    && at.elapsed() <= DOUBT
                {
                    again.clone_from(last);
                }
                wire
            }
        };
        let writing = async {
            wire.write_all(&again).await?;
            wire.write_all(&records).await?;
            wire.flush().await
        };
        match timeout(self.to.within(), writing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(self.to.told(&format!("the connection broke: {error}"))),
            Err(_) => return Err(self.to.told(&format!("the receiver takes nothing within {:?}", self.to.within()))),
        }
        state.wire = Some(wire);
        state.last = (records.len() <= MAX_KEPT).then(|| (records, Instant::now()));
        Ok(())
    }

    /// Connects, and writes nothing.
    ///
    /// # Errors
    /// There is no connection.
    pub async fn probe(&self) -> Result<(), SinkError> {
        match &self.to {
            To::Tcp(link) => link.probe().await,
            To::Unix(..) => self.to.dial().await.map(drop),
        }
    }
}

/// False if the receiver has closed the connection. What it says is thrown away.
async fn is_open(wire: &mut Box<dyn Wire>) -> bool {
    for _ in 0..MAX_TALK {
        let mut space = [0_u8; 4096];
        let mut buffer = ReadBuf::new(&mut space);
        let read = poll_fn(|cx| Poll::Ready(Pin::new(&mut *wire).poll_read(cx, &mut buffer))).await;
        match read {
            Poll::Pending => return true,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
            Poll::Ready(_) => return false,
        }
    }
    true
}
