//! How many file descriptors this process may have open, and how many connections that is, of clients
//! and to the application.
//!
//! A process that has none left cannot accept, connect or open a file, and its health checks fail with
//! the rest. So the soft limit is raised to the hard one at the start, and connections are let in only
//! while what each may need is there. Most clients need one connection to the application; one of HTTP/2
//! may need as many as it has requests at once before an application that speaks HTTP/1.1, so those are
//! counted too ([`Outward`]). Must never lower a limit, and never fail a start.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What else is open at most: listeners, files, databases, sinks, the admin listener's connections.
const RESERVE: u64 = 256;
/// A client's connection, and one to the application for its request.
const EACH: u64 = 2;

/// Lets this process open as many as it is allowed to. Where that is refused, less has to do.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        tracing::debug!("the limit of file descriptors stays as it is");
    }
}

/// For how many client connections there are descriptors; `u64::MAX` without a limit.
pub fn connections() -> u64 {
    getrlimit(Resource::Nofile).current.map_or(u64::MAX, connections_within)
}

/// At least one, however few there are.
fn connections_within(descriptors: u64) -> u64 {
    let reserve = RESERVE.min(descriptors / 2);
    (descriptors.saturating_sub(reserve) / EACH).max(1)
}

/// How many connections to the application there are descriptors for, besides those of so many
/// clients; `clients` is 0 without a limit of them.
fn outward_within(descriptors: Option<u64>, clients: u64) -> u64 {
    let Some(descriptors) = descriptors else { return u64::MAX };
    let clients = if clients == 0 { connections_within(descriptors) } else { clients };
    descriptors.saturating_sub(RESERVE.min(descriptors / 2)).saturating_sub(clients).max(1)
}

/// The connections to the application, of all threads together.
#[derive(Debug)]
pub struct Outward {
    limit: AtomicU64,
    open: AtomicU64,
}

impl Outward {
    /// As many as there are descriptors for besides those of so many clients; 0 is no limit of clients.
    pub fn beside(clients: u64) -> Arc<Outward> {
        let outward = Outward::at_most(0);
        outward.follow(clients);
        outward
    }

    /// So many.
    pub fn at_most(limit: u64) -> Arc<Outward> {
        Arc::new(Outward { limit: AtomicU64::new(limit), open: AtomicU64::new(0) })
    }

    /// Follows a change of how many clients are let in.
    pub fn follow(&self, clients: u64) {
        self.limit.store(outward_within(getrlimit(Resource::Nofile).current, clients), Relaxed);
    }

    /// A place for one more; `None` if there is none.
    pub fn try_enter(self: &Arc<Self>) -> Option<Outgoing> {
        let limit = self.limit.load(Relaxed);
        let taken = self.open.fetch_update(Relaxed, Relaxed, |open| (open < limit).then_some(open.saturating_add(1)));
        taken.is_ok().then(|| Outgoing(self.clone()))
    }
}

/// The place of one connection to the application; dropping it gives the place back.
#[derive(Debug)]
pub struct Outgoing(Arc<Outward>);

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_back_never_takes_all() {
        for (descriptors, connections) in
            [(0, 1), (1, 1), (64, 16), (1024, 384), (20_000, 9872), (1 << 30, (1 << 29) - 128)]
        {
            assert_eq!(connections_within(descriptors), connections, "{descriptors}");
        }
    }

    #[test]
    fn the_application_gets_what_the_clients_leave_and_never_nothing() {
        for (descriptors, clients, outward) in [
            (Some(20_000), 9872, 9872),
            (Some(20_000), 0, 9872),
            (Some(20_000), 100, 19_644),
            (Some(64), 16, 16),
            (Some(0), 1, 1),
            (None, 0, u64::MAX),
        ] {
            assert_eq!(outward_within(descriptors, clients), outward, "{descriptors:?} {clients}");
        }
    }

    #[test]
    fn a_place_is_given_back_when_it_is_dropped() {
        let outward = Outward::at_most(2);
        let (first, second) = (outward.try_enter(), outward.try_enter());
        assert!(first.is_some() && second.is_some() && outward.try_enter().is_none());
        drop(first);
        assert!(outward.try_enter().is_some());
    }
}
