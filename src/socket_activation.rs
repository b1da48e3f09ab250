//! What a service manager such as systemd hands over and wants to be told: sockets that it opened
//! before us (`sd_listen_fds(3)`), and when we are ready, reloading and stopping (`sd_notify(3)`).
//!
//! With sockets of the service manager a restart refuses no connection, and a port below 1024 needs
//! no capability. This module must never take a descriptor that was not meant for this process, and
//! never let a failed notification stop anything. Without the variables it does nothing.
//!
//! The invariant: every descriptor that was handed over becomes one listener, or the start fails
//! with its name; none is left open unnoticed.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use socket2::SockRef;

#[cfg(test)]
mod tests;

/// The most descriptors that are taken. More is a slip, not a configuration.
const MAX_DESCRIPTORS: usize = 64;
/// The longest name of a descriptor, in characters (`FileDescriptorName=` in systemd.socket(5)).
const MAX_NAME: usize = 255;
/// The name of a descriptor that has none (`sd_listen_fds_with_names(3)`).
const UNNAMED: &str = "unknown";
/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Why the sockets handed over cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// A variable cannot be read; it is named.
    #[error("{variable} is not what a service manager writes: {why}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A descriptor is no listening TCP socket.
    #[error(
        "socket `{name}` (number {index}) cannot be used: {source}; it must be ListenStream= of an address and port, with Accept=no"
    )]
    Socket {
        /// Its name.
        name: String,
        /// Its place, from 0.
        index: usize,
        /// The operating system's answer.
        source: io::Error,
    },
}

/// One socket that was handed over.
#[derive(Debug)]
pub struct Inherited {
    /// `FileDescriptorName=` of its unit, by which a listener can be told from another; the name of
    /// the unit if none is set, `unknown` if the manager gives no names.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The socket, listening and not blocking.
    pub listener: TcpListener,
}

/// Reads `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES`: the names of the descriptors handed over,
/// in order. None if they are for another process, or there are no variables.
///
/// # Errors
/// A variable that is meant for this process and cannot be read.
pub fn parse(variable: impl Fn(&str) -> Option<String>, pid: u32) -> Result<Vec<String>, ActivationError> {
    let wrong = |variable, why| ActivationError::Variable { variable, why };
    let number = |name| variable(name).map(|text| number(&text));
    let meant_for = match number("LISTEN_PID") {
        // Without it nobody says that they are for us, whatever else stands there.
        None => return Ok(Vec::new()),
        Some(None) => return Err(wrong("LISTEN_PID", "expected a process id")),
        Some(Some(meant_for)) => meant_for,
    };
    if meant_for != u64::from(pid) {
        return Ok(Vec::new());
    }
    let count = match number("LISTEN_FDS") {
        None => return Ok(Vec::new()),
        Some(count) => count.and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= MAX_DESCRIPTORS),
    };
    let count = count.ok_or(wrong("LISTEN_FDS", "expected a number of at most 64 sockets"))?;
    let Some(names) = variable("LISTEN_FDNAMES") else { return Ok(vec![UNNAMED.to_owned(); count]) };
    let names: Vec<String> = match count {
        0 => Vec::new(),
        _ => names.split(':').map(str::to_owned).collect(),
    };
    if names.len() != count {
        return Err(wrong("LISTEN_FDNAMES", "expected as many names, divided by colons, as LISTEN_FDS says"));
    }
    if names.iter().any(|name| name.len() > MAX_NAME || name.contains(char::is_control)) {
        return Err(wrong("LISTEN_FDNAMES", "expected names of at most 255 plain characters"));
    }
    Ok(names)
}

/// Digits only: no sign, no space.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Takes the sockets that were handed over; empty if there are none. They are closed for programs
/// started later.
///
/// Call it once, at the very start: before any file is opened, lest a number that the variables
/// name belongs to it, and before any thread is started, because the variables are removed.
///
/// # Errors
/// The variables cannot be read, or a socket is no listening TCP socket.
pub fn take() -> Result<Vec<Inherited>, ActivationError> {
    let names = parse(|name| std::env::var(name).ok(), std::process::id())?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut handed = ListenFd::from_env();
    let take = |(index, name): (usize, String)| match take_one(&mut handed, index) {
        Ok((address, listener)) => Ok(Inherited { name, address, listener }),
        Err(source) => Err(ActivationError::Socket { name, index, source }),
    };
    names.into_iter().enumerate().map(take).collect()
}

fn take_one(handed: &mut ListenFd, index: usize) -> io::Result<(SocketAddr, TcpListener)> {
    let listener = handed.take_tcp_listener(index)?.ok_or(io::ErrorKind::NotFound)?;
    // Fails for a connection (Accept=yes); of a listening socket it only sets the backlog.
    SockRef::from(&listener).listen(BACKLOG)?;
    listener.set_nonblocking(true)?;
    Ok((listener.local_addr()?, listener))
}

/// The same socket once a thread. Its connections go to whichever thread is first.
///
/// # Errors
/// The descriptor cannot be duplicated.
pub fn share(listener: TcpListener, threads: usize) -> io::Result<Vec<TcpListener>> {
    let mut shared = Vec::with_capacity(threads);
    for _ in 1..threads {
        shared.push(listener.try_clone()?);
    }
    shared.push(listener);
    Ok(shared)
}

/// What a service manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Traffic is served; after a reload too.
    Ready,
    /// The configuration is being read again; say `Ready` after it, whatever came of it.
    Reloading,
    /// The end has begun.
    Stopping,
}

/// Tells the service manager, if there is one (`NOTIFY_SOCKET`). A failure is logged: it may make
/// the manager impatient, and that is for it to say.
pub fn notify(state: State) {
    let told = match state {
        State::Ready => sd_notify::notify(&[NotifyState::Ready]),
        State::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        // Type=notify-reload demands the time with it (systemd.service(5)).
        State::Reloading => {
            NotifyState::monotonic_usec_now().and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now]))
        }
    };
    if let Err(error) = told {
        tracing::warn!(?state, "cannot notify the service manager: {error}");
    }
}
