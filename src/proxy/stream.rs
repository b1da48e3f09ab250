//! The stream under the protocols: a connection that can be watched while it is served.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connection of either kind. An enum and no type parameter: the protocols above are compiled
/// once, and the branch is nothing beside the system call.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// Calls the same method of whichever it is.
macro_rules! either {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            Socket::Tcp($stream) => $call,
            Socket::Unix($stream) => $call,
        }
    };
}

/// A connection that its server and a watcher share.
#[derive(Clone, Debug)]
pub struct Watched(Arc<Socket>);

impl Watched {
    /// Shares a connection.
    pub fn new(socket: Socket) -> Watched {
        Watched(Arc::new(socket))
    }

    /// Where the client connected to; `None` over a Unix socket.
    pub fn local(&self) -> Option<SocketAddr> {
        match &*self.0 {
            Socket::Tcp(stream) => stream.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    /// Ready when the other end has reset the connection: nothing can reach it any more. An
    /// orderly end of its sending side is no reset; a client may half-close and wait.
    pub async fn reset(&self) {
        let look = |error: io::Result<Option<io::Error>>| error?.ok_or(io::Error::from(io::ErrorKind::WouldBlock));
        let errored = either!(&*self.0, s => s.async_io(Interest::ERROR, || look(s.take_error())).await);
        // Not being able to watch is no reset.
        if errored.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buf.remaining();
        loop {
            // Tried before it is asked whether it is ready: that costs more than the answer "not yet".
            //
            // A read that did not fill its room has drained the socket, as tokio's own `poll_read` knows:
            // "would block" takes the readiness back that was there before it, and the next look costs no
            // system call.
            let mut read = false;
            let mut drained = |done: io::Result<usize>| {
                let len = done?;
                read = true;
                if len == 0 || len == room { Ok(()) } else { Err(io::Error::from(io::ErrorKind::WouldBlock)) }
            };
            let looked = either!(&*self.0, s => s.try_io(Interest::READABLE, || drained(s.try_read_buf(buf))));
            match looked {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !read => {
                    ready!(either!(&*self.0, s => s.poll_read_ready(cx)))?;
                }
                Err(error) if !read => return Poll::Ready(Err(error)),
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.write_when_ready(cx, |socket| either!(socket, s => s.try_write(buf)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write_when_ready(cx, |socket| either!(socket, s => s.try_write_vectored(bufs)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(either!(&*self.0, s => SockRef::from(s).shutdown(Shutdown::Write)))
    }
}

impl Watched {
    fn write_when_ready(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&Socket) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(either!(&*self.0, s => s.poll_write_ready(cx)))?;
            match write(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn after_a_short_read_the_next_look_asks_the_system_nothing_and_what_comes_later_is_read() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut watched = Watched::new(Socket::Unix(ours));
        let is_ready = |watched: &Watched| {
            let cx = &mut Context::from_waker(std::task::Waker::noop());
            either!(&*watched.0, s => s.poll_read_ready(cx)).is_ready()
        };
        for round in 0..3 {
            theirs.write_all(b"some").await.unwrap();
            let mut room = [0; 16];
            assert_eq!(watched.read(&mut room).await.unwrap(), 4, "{round}");
            assert!(!is_ready(&watched), "{round}: it was drained");
        }
        theirs.write_all(b"more").await.unwrap();
        assert_eq!(watched.read(&mut [0; 4]).await.unwrap(), 4);
        assert!(is_ready(&watched), "more may have come than there was room for");
        let mut left = [0; 4];
        let mut left = ReadBuf::new(&mut left);
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut watched).poll_read(cx, &mut left).is_pending());
        // What came just before the end is read, and then the end.
        theirs.write_all(b"end").await.unwrap();
        drop(theirs);
        let mut all = Vec::new();
        poll_fn(|cx| either!(&*watched.0, s => s.poll_read_ready(cx))).await.unwrap();
        watched.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"end");
    }
}
