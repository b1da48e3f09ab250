//! What traffic must look at beyond the routes: clients whose next request decides a login, and
//! session cookies that change on any answer.
//!
//! Written and read by all threads without a lock. The table has a fixed size, a slot holds a
//! client's fingerprint and until when it is waited for, and forgetting is by time alone: the
//! pipeline decides later than traffic goes on, and would close what the next login has opened. A slot
//! that is lost to another client costs a decision (`unknown` then), never a request. While nothing
//! is waited for, a request costs one read of a number that nobody writes.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::header;

use crate::headers::{Headers, Value};

/// Slots, in groups of [`WAYS`].
const SLOTS: usize = 4096;
/// In how many slots a client may stand.
const WAYS: usize = 4;

/// The table, and the session cookies that were learnt.
pub struct Watch {
    began: Instant,
    seed: RandomState,
    /// No slot is waited for beyond this, in seconds since `began`.
    until: AtomicU64,
    /// Fingerprint above, until when below, 32 bits each.
    slots: Box<[AtomicU64]>,
    learnt: ArcSwap<Vec<String>>,
}

impl Default for Watch {
    fn default() -> Self {
        Watch {
            began: Instant::now(),
            seed: RandomState::new(),
            until: AtomicU64::new(0),
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            learnt: ArcSwap::default(),
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// How clients are told apart: by address and user agent.
    pub fn client(&self, ip: IpAddr, headers: &Headers) -> u64 {
        self.seed.hash_one((ip, headers.get(header::USER_AGENT).map(Value::as_bytes)))
    }

    /// The client's next request is to be captured, if it comes within that time.
    pub fn open(&self, client: u64, within: Duration) {
        let now = self.now();
        let until = now.saturating_add(within.as_secs()).saturating_add(2).min(u64::from(u32::MAX));
        let fingerprint = client >> 32 << 32;
        let group = self.group(client);
        // Its own slot, else a free one, else the one that ends first.
        let best = group.iter().min_by_key(|slot| {
            let held = slot.load(Relaxed);
            let until = held & u64::from(u32::MAX);
            if held >> 32 << 32 == fingerprint {
                (0, 0)
            } else if until < now {
                (1, 0)
            } else {
                (2, until)
            }
        });
        if let Some(slot) = best {
            slot.store(fingerprint | until, Relaxed);
        }
        self.until.fetch_max(until, Relaxed);
    }

    /// True if the client's request may be one that is waited for.
    pub fn is_open(&self, ip: IpAddr, headers: &Headers) -> bool {
        let until = self.until.load(Relaxed);
        if until == 0 {
            return false;
        }
        let now = self.now();
        if now > until {
            return false;
        }
        let client = self.client(ip, headers);
        let fingerprint = client >> 32 << 32;
        self.group(client).iter().any(|slot| {
            let held = slot.load(Relaxed);
            held >> 32 << 32 == fingerprint && held & u64::from(u32::MAX) >= now
        })
    }

    /// The names of session cookies that were learnt.
    pub fn learnt(&self) -> Arc<Vec<String>> {
        self.learnt.load_full()
    }

    /// True if a learnt session cookie is called so.
    pub fn learnt_any(&self, holds: impl Fn(&[String]) -> bool) -> bool {
        holds(&self.learnt.load())
    }

    /// States the names of session cookies that were learnt.
    pub fn learn(&self, names: Vec<String>) {
        self.learnt.store(Arc::new(names));
    }

    fn group(&self, client: u64) -> &[AtomicU64] {
        let groups = SLOTS / WAYS;
        // The lower half says where, the upper half which.
        let start = (client as u32 as usize % groups) * WAYS;
        self.slots.get(start..start + WAYS).unwrap_or(&[])
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from(n).into()
    }

    #[test]
    fn a_client_is_waited_for_once_it_was_opened() {
        let (watch, headers) = (Watch::default(), Headers::new());
        assert!(!watch.is_open(ip(1), &headers));
        watch.open(watch.client(ip(1), &headers), Duration::from_secs(60));
        assert!(watch.is_open(ip(1), &headers) && !watch.is_open(ip(2), &headers));
        let browser = Headers::from_iter([(header::USER_AGENT, http::HeaderValue::from_static("Firefox"))]);
        assert!(!watch.is_open(ip(1), &browser), "another program at the same address");
    }

    #[test]
    fn strangers_in_any_number_take_no_more_room() {
        let (watch, headers) = (Watch::default(), Headers::new());
        for n in 0..100_000 {
            watch.open(watch.client(ip(n), &headers), Duration::from_secs(60));
        }
        assert!(watch.is_open(ip(99_999), &headers), "the newest is there");
        let open = (0..100_000).filter(|n| watch.is_open(ip(*n), &headers)).count();
        // Fingerprints of 32 bits may meet: seldom, and then a request is looked at for nothing.
        assert!(open <= SLOTS + 8, "{open}");
    }
}
