//! One connection, over TCP or a Unix socket, and how it is read and written.
//!
//! Reads and writes go to the kernel by themselves. The C library's are points where a thread may be
//! cancelled: in a program of several threads it marks that before each and takes the mark back after it,
//! which is one of a hundred parts of what a passed-through request takes. Nobody is cancelled here.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags};
use socket2::SockRef;
use tokio::io::{Interest, ReadBuf};
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

/// The most that is read by way of the stack: heads and small bodies.
const SMALL: usize = 8 << 10;

/// Calls the same method of whichever it is.
macro_rules! either {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            Socket::Tcp($stream) => $call,
            Socket::Unix($stream) => $call,
        }
    };
}

impl Socket {
    /// Its own address; `None` over a Unix socket.
    pub fn local(&self) -> Option<SocketAddr> {
        match self {
            Socket::Tcp(stream) => stream.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    /// Ready when the other end has reset the connection: nothing can reach it any more. An
    /// orderly end of its sending side is no reset; a client may half-close and wait.
    pub async fn reset(&self) {
        let look = |error: io::Result<Option<io::Error>>| error?.ok_or(io::Error::from(io::ErrorKind::WouldBlock));
        let errored = either!(self, s => s.async_io(Interest::ERROR, || look(s.take_error())).await);
        // Not being able to watch is no reset.
        if errored.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Ready when there is something to read, or the end. No system call.
    ///
    /// # Errors
    /// The runtime ends.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, s => s.poll_read_ready(cx))
    }

    /// True if nothing has come that nobody has read, not even its end; false may be wrong. No system
    /// call, and whoever waits for the socket still does.
    pub fn is_quiet(&self) -> bool {
        either!(self, s => s.try_io(Interest::READABLE, || Ok(()))).is_err()
    }

    /// Reads what has come.
    ///
    /// # Errors
    /// Those of recv(2).
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
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
            let looked = either!(self, s => s.try_io(Interest::READABLE, || {
                drained(if room <= SMALL { recv(s, buf) } else { s.try_read_buf(buf) })
            }));
            match looked {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !read => {
                    ready!(self.poll_read_ready(cx))?;
                }
                Err(error) if !read => return Poll::Ready(Err(error)),
                _ => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Writes what there is room for; a broken connection is an error and no signal.
    ///
    /// # Errors
    /// Those of send(2).
    pub fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let send = |s: rustix::fd::BorrowedFd<'_>| Ok(rustix::net::send(s, buf, SendFlags::NOSIGNAL)?);
        self.write_when_ready(cx, || either!(self, s => s.try_io(Interest::WRITABLE, || send(s.as_fd()))))
    }

    /// Writes what there is room for of several pieces.
    ///
    /// # Errors
    /// Those of writev(2).
    pub fn poll_write_vectored(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.write_when_ready(cx, || either!(self, s => s.try_write_vectored(bufs)))
    }

    /// Says that nothing more will be written.
    ///
    /// # Errors
    /// Those of shutdown(2).
    pub fn end(&self) -> io::Result<()> {
        match either!(self, s => SockRef::from(s).shutdown(Shutdown::Write)) {
            // The other end has reset it: what came before that can still be read.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            ended => ended,
        }
    }

    fn write_when_ready(&self, cx: &mut Context<'_>, write: impl Fn() -> io::Result<usize>) -> Poll<io::Result<usize>> {
        loop {
            ready!(either!(self, s => s.poll_write_ready(cx)))?;
            match write() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

/// Reads into `buf`, whose room is at most [`SMALL`]. By way of the stack: memory that was never written
/// can be lent to the kernel by its owner only, and a `ReadBuf` is lent itself.
fn recv(socket: impl AsFd, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
    let mut room = [MaybeUninit::uninit(); SMALL];
    let room = room.get_mut(..buf.remaining()).unwrap_or_default();
    let ((came, _), len) = rustix::net::recv(socket, room, RecvFlags::empty())?;
    buf.put_slice(came);
    Ok(len)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::io::AsyncWriteExt;

    use super::*;

    /// What one look reads, with `room` for it; `None` if nothing has come.
    fn read(socket: &Socket, room: usize) -> Option<Vec<u8>> {
        let mut room = vec![0; room];
        let mut buf = ReadBuf::new(&mut room);
        match socket.poll_read(&mut Context::from_waker(Waker::noop()), &mut buf) {
            Poll::Pending => None,
            Poll::Ready(read) => {
                read.unwrap();
                Some(buf.filled().to_vec())
            }
        }
    }

    async fn is_ready(socket: &Socket) -> bool {
        socket.poll_read_ready(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn after_a_short_read_the_next_look_asks_the_system_nothing_and_what_comes_later_is_read() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = Socket::Unix(ours);
        for room in [16, SMALL, SMALL + 1] {
            theirs.write_all(b"some").await.unwrap();
            poll_fn(|cx| ours.poll_read_ready(cx)).await.unwrap();
            assert_eq!(read(&ours, room).unwrap(), b"some");
            assert!(!is_ready(&ours).await, "{room}: it was drained");
        }
        theirs.write_all(b"more").await.unwrap();
        poll_fn(|cx| ours.poll_read_ready(cx)).await.unwrap();
        assert_eq!(read(&ours, 4).unwrap(), b"more");
        assert!(is_ready(&ours).await, "more may have come than there was room for");
        assert_eq!(read(&ours, 4), None);
        // What came just before the end is read, and then the end.
        theirs.write_all(b"end").await.unwrap();
        drop(theirs);
        poll_fn(|cx| ours.poll_read_ready(cx)).await.unwrap();
        assert_eq!(read(&ours, 16).unwrap(), b"end");
        assert_eq!(read(&ours, 16).unwrap(), b"");
    }

    #[tokio::test]
    async fn what_is_written_arrives_and_a_broken_connection_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (ours, theirs) = (Socket::Unix(ours), Socket::Unix(theirs));
        assert_eq!(poll_fn(|cx| ours.poll_write(cx, b"one")).await.unwrap(), 3);
        let two = [IoSlice::new(b" and"), IoSlice::new(b" two")];
        assert_eq!(poll_fn(|cx| ours.poll_write_vectored(cx, &two)).await.unwrap(), 8);
        poll_fn(|cx| theirs.poll_read_ready(cx)).await.unwrap();
        assert_eq!(read(&theirs, 64).unwrap(), b"one and two");
        drop(theirs);
        let broken = poll_fn(|cx| ours.poll_write(cx, b"x")).await.unwrap_err();
        assert_eq!(broken.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn what_finds_no_room_waits_and_is_written_when_there_is_some() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (ours, theirs) = (Socket::Unix(ours), Socket::Unix(theirs));
        let (piece, mut written) = (vec![b'x'; 32 << 10], 0);
        let cx = &mut Context::from_waker(Waker::noop());
        while let Poll::Ready(more) = ours.poll_write(cx, &piece) {
            written += more.unwrap();
        }
        let mut came = 0;
        poll_fn(|cx| theirs.poll_read_ready(cx)).await.unwrap();
        while came < written {
            came += read(&theirs, 64 << 10).unwrap().len();
        }
        assert!(poll_fn(|cx| ours.poll_write(cx, &piece)).await.unwrap() > 0);
    }
}
