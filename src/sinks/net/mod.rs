//! What sinks that do not speak HTTP share: where the receiver is, TLS to it, a stream of bytes.
//!
//! Not a sink. [`address`] reads `HOST:PORT`, [`link`] connects (with TLS where it is configured),
//! [`stream`] keeps one connection on which nothing comes back, and `redis` signs in to Redis. Nothing here knows what is in
//! an event.

pub mod address;
pub mod link;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(test)]
pub(crate) mod service;
pub mod stream;
pub mod topic;

use std::ops::RangeInclusive;
use std::time::Duration;

use self::address::Address;
use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::tls::client::RECEIVER;

/// TLS, off unless it is asked for.
pub const TLS: Field = Field::new(
    "tls",
    Kind::Any(&[Kind::Bool, RECEIVER]),
    "off",
    "TLS to the receiver: `on` trusts the system's authorities; or its settings",
);
/// The time for one batch.
pub const TIMEOUT: Field = Field::new("timeout", Kind::Duration, "10s", "for one batch, connecting included");
/// The name to sign in with.
pub const USER: Field = Field::new("user", Kind::Str, "", "name to sign in with");
/// The variable of its password.
pub const PASSWORD_ENV: Field =
    Field::new("password_env", Kind::Str, "", "environment variable that holds the password");
/// The file of the same.
pub const PASSWORD_FILE: Field =
    Field::new("password_file", Kind::Str, "", "file that holds it instead, read at the start and at each reload");

/// The bounds of `timeout`.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(600);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads `timeout`.
pub fn check_timeout(map: &Map<'_>, problems: &mut Problems) -> Option<Duration> {
    let Some(at) = map.get("timeout") else { return Some(DEFAULT_TIMEOUT) };
    let timeout = at.duration(problems)?;
    if !TIMEOUTS.contains(&timeout) {
        problems.error_hint(at, format!("`timeout` cannot be {}", at.describe()), "from 10ms to 10m");
        return None;
    }
    Some(timeout)
}

/// Reads a list of addresses that must not be empty. `None` if there was an error.
pub fn check_addresses(
    map: &Map<'_>,
    key: &str,
    usual_port: u16,
    most: usize,
    problems: &mut Problems,
) -> Option<Vec<Address>> {
    let node = map.get(key)?;
    let items = node.some(problems);
    if let Some(beyond) = items.get(most) {
        problems.error_hint(beyond, format!("more than {most} addresses"), "a few to begin with are enough");
        return None;
    }
    let found: Vec<Address> = items.iter().filter_map(|at| Address::check(at, Some(usual_port), problems)).collect();
    (!found.is_empty() && found.len() == items.len()).then_some(found)
}
