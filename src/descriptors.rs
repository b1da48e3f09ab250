//! How many file descriptors this process may have open, and how many client connections that is.
//!
//! A process that has none left cannot accept, connect or open a file, and its health checks fail with
//! the rest. So the soft limit is raised to the hard one at the start, and connections are let in only
//! while what each may need is there. Must never lower a limit, and never fail a start.

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
}
