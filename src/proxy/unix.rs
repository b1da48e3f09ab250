//! Listening on a Unix socket: a file that stands for it while somebody listens.
//!
//! It must never take the place of a file that is no socket, nor of a socket on which somebody
//! listens; and never let anybody in before the file has its mode. The invariant: the file that is
//! removed at the end is the one that was made at the start.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

#[cfg(test)]
mod tests;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;
/// Who may connect: owner and group. Whoever may is believed about the client.
const MODE: u32 = 0o660;

/// The file of a socket; dropping it removes the file, unless another has taken its place. Drop it
/// before the listeners: while one lives, no other file can get the same inode.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(file = %self.path.display(), "cannot remove the socket: {error}");
        }
    }
}

/// Device and inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Listens on a new socket, once a thread; its connections go to whichever thread is first. A
/// socket that nobody listens on any more, as a process that was killed leaves it, is replaced.
///
/// # Errors
/// `AddrInUse` if somebody listens there, `AlreadyExists` if the file is no socket; else the
/// operating system's answer.
pub fn bind(path: &Path, threads: usize) -> io::Result<(Vec<UnixListener>, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    let file = SocketFile { path: path.to_owned(), identity: identity(path)? };
    // Before it listens nobody can connect, so the mode holds from the first connection on.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE))?;
    socket.listen(BACKLOG)?;
    let listener = UnixListener::from(socket);
    let mut listeners = Vec::with_capacity(threads);
    for _ in 1..threads {
        listeners.push(listener.try_clone()?);
    }
    listeners.push(listener);
    Ok((listeners, file))
}

fn remove_stale(path: &Path) -> io::Result<()> {
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there"));
    }
    match UnixStream::connect(path) {
        // Nobody accepts on it: its process is gone.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}
