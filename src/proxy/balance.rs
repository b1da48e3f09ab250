//! Which of several addresses of the application gets the next request.
//!
//! Round robin over those that are in. An address goes out by itself after three failures in a row
//! (passively), or when its health checks say so (actively), and comes back the same way. All of it
//! is state and arithmetic: time is passed in, nothing here connects, waits or locks, and a choice
//! reads atomics without writing any, because each traffic thread has its own [`Turn`].
//!
//! It must never leave a request without an address: if all are out, all are tried. The invariant:
//! a success brings an address back from a passive ejection at once, whatever came before.

use std::cell::Cell;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use std::time::Duration;

use super::proxy_protocol;
use super::upstream::{Address, Protocol};
use crate::config::node::{Node, Value};
use crate::config::problem::{Problem, Problems};
use crate::config::shape::{Field, Kind};

#[cfg(test)]
mod tests;

/// The most addresses: what was tried for a request is a set of 64 bits.
pub const MAX_SERVERS: usize = 64;
/// So many failures in a row take an address out.
pub const FAILURES: u32 = 3;
/// For how long at first, in milliseconds; doubled each time it fails when it is back.
pub const FIRST_OUT_MS: u64 = 10_000;
/// The longest time out, in milliseconds.
pub const LONGEST_OUT_MS: u64 = 60_000;
/// The most of `healthy_after` and `unhealthy_after`.
const CHECKS: u64 = 1000;

/// The fields of `upstream.health:`.
pub const HEALTH_FIELDS: &[Field] = &[
    Field::required("path", Kind::Str, "what is asked with GET; an answer of 200 to 399 is good"),
    Field::new("interval", Kind::Duration, "5s", "from one check of an address to the next"),
    Field::new("timeout", Kind::Duration, "2s", "for a connection and the head of the answer"),
    Field::new("healthy_after", Kind::Int(1, CHECKS), "2", "so many good checks in a row bring an address back"),
    Field::new("unhealthy_after", Kind::Int(1, CHECKS), "3", "so many bad checks in a row take an address out"),
];

/// The fields of `upstream:` in its long form.
pub const FIELDS: &[Field] = &[
    Field::required(
        "servers",
        Kind::OneOrList(&Kind::Str),
        "addresses of the application, used in turn: http://HOST:PORT, https://HOST:PORT or unix:/run/app.sock",
    ),
    Field::new(
        "protocol",
        Kind::Word(Protocol::NAMES),
        "http1",
        "http1; h2: HTTP/2, agreed on in TLS (ALPN) or by prior knowledge (h2c) without; auto: what an https: address chooses",
    ),
    Field::new(
        "proxy_protocol",
        proxy_protocol::OUT_KIND,
        "off",
        "tell each connection's client in a PROXY header; connections then serve one client only",
    ),
    Field::new("health", Kind::Map(HEALTH_FIELDS), "", "checks of each address, beside the failures of requests"),
];

/// What `upstream:` may be: an address, a list of them, or a mapping.
pub const KIND: Kind = Kind::Any(&[Kind::OneOrList(&Kind::Str), Kind::Map(FIELDS)]);

/// `upstream:`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstreams {
    /// The addresses in the order of the file; at least one, no two alike.
    pub servers: Vec<Address>,
    /// What is spoken with them.
    pub protocol: Protocol,
    /// In which version they are told whose connection it is, if they are.
    pub proxy_protocol: Option<proxy_protocol::Version>,
    /// How their health is checked, if it is.
    pub health: Option<Health>,
}

impl From<Vec<Address>> for Upstreams {
    /// These addresses with the usual settings.
    fn from(servers: Vec<Address>) -> Upstreams {
        Upstreams { servers, protocol: Protocol::Http1, proxy_protocol: None, health: None }
    }
}

/// `upstream.health:`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What is asked for: a path, maybe with a query.
    pub path: String,
    /// From one check of an address to the next.
    pub interval: Duration,
    /// For a connection and the head of the answer.
    pub timeout: Duration,
    /// So many good checks in a row bring an address back.
    pub healthy_after: u32,
    /// So many bad checks in a row take an address out.
    pub unhealthy_after: u32,
}

impl Upstreams {
    /// Checks `upstream:` in any of its forms. `None` if it cannot be used.
    pub fn check(node: &Node, problems: &mut Problems) -> Option<Upstreams> {
        let mut upstreams = Upstreams::from(Vec::new());
        let list = match &node.value {
            Value::Map(_) => {
                let map = node.map(FIELDS, problems)?;
                if let Some(at) = map.get("health") {
                    upstreams.health = Some(Health::check(at, problems)?);
                }
                if let Some(at) = map.get("protocol") {
                    upstreams.protocol = Protocol::check(at, problems)?;
                }
                upstreams.proxy_protocol = proxy_protocol::Version::check(map.get("proxy_protocol"), problems);
                map.get("servers")?
            }
            _ => node,
        };
        let servers = &mut upstreams.servers;
        let mut good = true;
        for item in list.items() {
            match item.str(problems).map(Address::parse) {
                Some(Ok(address)) if servers.contains(&address) => {
                    problems.error(item, format!("`{address}` stands twice"));
                    good = false;
                }
                Some(Ok(address)) => servers.push(address),
                Some(Err(error)) => {
                    let mut problem = Problem::error(item.span.clone(), &item.path, error.why).hint(&error.hint);
                    // What stands before an `@` is a password as often as not.
                    problem.blotted = item.scalar().is_some_and(|text| text.contains('@'));
                    problems.push(problem);
                    good = false;
                }
                None => good = false,
            }
        }
        if good && servers.is_empty() {
            problems.error_hint(list, "no address of the application".into(), "write one like http://127.0.0.1:8000");
            good = false;
        }
        if servers.len() > MAX_SERVERS {
            problems.error(list, format!("at most {MAX_SERVERS} addresses, found {}", servers.len()));
            good = false;
        }
        good.then_some(upstreams)
    }
}

impl Health {
    fn check(node: &Node, problems: &mut Problems) -> Option<Health> {
        let map = node.map(HEALTH_FIELDS, problems)?;
        let at = map.get("path")?;
        let path = at.str(problems)?;
        let target = path.parse::<http::uri::PathAndQuery>();
        if !path.starts_with('/') || path.contains('#') || target.is_err() {
            problems.error_hint(at, "`path` is not the path of a URL".into(), "write one like /healthz");
            return None;
        }
        let interval = time(&map, "interval", Duration::from_secs(5), problems)?;
        let timeout = time(&map, "timeout", Duration::from_secs(2), problems)?;
        let count = |key, default, problems: &mut Problems| match map.get(key) {
            Some(at) => at.int(1..=CHECKS, problems).and_then(|n| u32::try_from(n).ok()),
            None => Some(default),
        };
        let (healthy_after, unhealthy_after) =
            (count("healthy_after", 2, problems)?, count("unhealthy_after", 3, problems)?);
        Some(Health { path: path.to_owned(), interval, timeout, healthy_after, unhealthy_after })
    }
}

fn time(map: &crate::config::node::Map<'_>, key: &str, default: Duration, problems: &mut Problems) -> Option<Duration> {
    let Some(at) = map.get(key) else { return Some(default) };
    let found = at.duration(problems)?;
    if found < Duration::from_millis(100) {
        problems.error_hint(at, format!("`{key}` is too short"), "the least is 100ms");
        return None;
    }
    Some(found)
}

/// Where a traffic thread is in the round. Each thread has one, begun elsewhere, so that few
/// requests in many threads do not all go to the first address.
#[derive(Debug, Default)]
pub struct Turn(Cell<usize>);

impl Turn {
    /// Begins at an address; the thread's number is a good one.
    pub fn starting_at(at: usize) -> Turn {
        Turn(Cell::new(at))
    }

    fn next(&self, of: usize) -> usize {
        let now = self.0.get();
        self.0.set(now.wrapping_add(1));
        now.checked_rem(of).unwrap_or(0)
    }
}

/// The addresses that were tried for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried(u64);

impl Tried {
    /// Adds one.
    pub fn add(&mut self, server: usize) {
        self.0 |= bit(server);
    }
}

fn bit(server: usize) -> u64 {
    u32::try_from(server).ok().and_then(|by| 1u64.checked_shl(by)).unwrap_or(0)
}

/// The state of the addresses, shared by all threads. They are known by their place in the list.
///
/// Times are milliseconds since any moment that stays the same, the program's start for example.
#[derive(Debug)]
pub struct Balancer {
    servers: Box<[Server]>,
}

#[derive(Debug, Default)]
struct Server {
    /// Failures since the last success.
    failures: AtomicU32,
    /// Passive ejection, see [`Out`].
    out: AtomicU64,
    /// Active health, see [`Checked`].
    checked: AtomicU32,
}

/// Until when an address is out, and how often in a row it has been put out: one word, so that both
/// change together. Zero is "in, and never failed".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Out {
    until_ms: u64,
    times: u64,
}

impl Out {
    const TIMES_BITS: u32 = 8;

    fn unpack(word: u64) -> Out {
        Out { until_ms: word >> Out::TIMES_BITS, times: word & 0xff }
    }

    fn pack(self) -> u64 {
        (self.until_ms << Out::TIMES_BITS) | self.times.min(0xff)
    }

    /// Out once more, longer than before.
    fn again(self, now_ms: u64) -> Out {
        let doublings = u32::try_from(self.times).unwrap_or(u32::MAX).min(16);
        let span = (FIRST_OUT_MS << doublings).min(LONGEST_OUT_MS);
        Out { until_ms: now_ms.saturating_add(span), times: self.times.saturating_add(1) }
    }
}

/// What health checks have said: whether the address is down, and how many checks in a row have
/// said the opposite. Zero is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Checked {
    down: bool,
    streak: u32,
}

impl Checked {
    const DOWN: u32 = 1 << 31;

    fn unpack(word: u32) -> Checked {
        Checked { down: word & Checked::DOWN != 0, streak: word & !Checked::DOWN }
    }

    fn pack(self) -> u32 {
        self.streak | if self.down { Checked::DOWN } else { 0 }
    }

    fn after(self, good: bool, health: &Health) -> Checked {
        if good != self.down {
            return Checked { streak: 0, ..self };
        }
        let streak = self.streak.saturating_add(1);
        let enough = if self.down { health.healthy_after } else { health.unhealthy_after };
        if streak >= enough { Checked { down: !self.down, streak: 0 } } else { Checked { streak, ..self } }
    }
}

impl Balancer {
    /// All addresses in. More than [`MAX_SERVERS`] are cut off.
    pub fn new(servers: usize) -> Balancer {
        Balancer { servers: (0..servers.min(MAX_SERVERS)).map(|_| Server::default()).collect() }
    }

    /// Takes over what is known of an address under another number: after a reload that kept it.
    /// Whoever did not check it any more forgets what checks said.
    pub fn inherit(&self, server: usize, from: &Balancer, other: usize, checked: bool) {
        let (Some(to), Some(from)) = (self.servers.get(server), from.servers.get(other)) else { return };
        to.failures.store(from.failures.load(Relaxed), Relaxed);
        to.out.store(from.out.load(Relaxed), Relaxed);
        if checked {
            to.checked.store(from.checked.load(Relaxed), Relaxed);
        }
    }

    /// The address for a request, or for its next try; `None` once every address was tried.
    ///
    /// Those that are in take turns. If none of the untried is in, the untried are tried anyhow:
    /// a wrong verdict must not be the reason for an error.
    pub fn choose(&self, turn: &Turn, tried: Tried, now_ms: u64) -> Option<usize> {
        // One address: there is nothing to choose, and nothing is read.
        if self.servers.len() == 1 {
            return (tried.0 & 1 == 0).then_some(0);
        }
        let untried = self.mask(|_| true) & !tried.0;
        let usable = untried & self.mask(|server| server.is_in(now_ms));
        let from = if usable != 0 { usable } else { untried };
        let of = usize::try_from(from.count_ones()).unwrap_or(0);
        (of > 0).then(|| nth(from, turn.next(of)))
    }

    fn mask(&self, test: impl Fn(&Server) -> bool) -> u64 {
        self.servers.iter().enumerate().filter(|(_, s)| test(s)).fold(0, |mask, (i, _)| mask | bit(i))
    }

    /// The address took a connection and answered, be it with an error of its own.
    pub fn succeeded(&self, server: usize) {
        let Some(server) = self.servers.get(server) else { return };
        // Read before written: the words of a healthy address stay shared by all cores.
        if server.failures.load(Relaxed) != 0 {
            server.failures.store(0, Relaxed);
        }
        if server.out.load(Relaxed) != 0 {
            server.out.store(0, Relaxed);
        }
    }

    /// The address took no connection, or did not answer in time. True if this put it out.
    pub fn failed(&self, server: usize, now_ms: u64) -> bool {
        let Some(server) = self.servers.get(server) else { return false };
        let before = server.failures.fetch_update(Relaxed, Relaxed, |n| Some(n.saturating_add(1))).unwrap_or(0);
        if before.saturating_add(1) < FAILURES {
            return false;
        }
        let word = server.out.load(Acquire);
        let out = Out::unpack(word);
        // Those that were on their way when it went out say nothing new.
        if now_ms < out.until_ms {
            return false;
        }
        // If another thread was first, it has put the address out for the same reason.
        server.out.compare_exchange(word, out.again(now_ms).pack(), AcqRel, Relaxed).is_ok()
    }

    /// What a health check of the address said. `Some(up)` if this changed its health. A good check
    /// that brings it back ends a passive ejection too.
    pub fn checked(&self, server: usize, good: bool, health: &Health) -> Option<bool> {
        let at = self.servers.get(server)?;
        let step = |word| Some(Checked::unpack(word).after(good, health).pack());
        let before = Checked::unpack(at.checked.fetch_update(AcqRel, Acquire, step).ok()?);
        let after = before.after(good, health);
        if before.down == after.down {
            return None;
        }
        if !after.down {
            self.succeeded(server);
        }
        Some(!after.down)
    }

    /// True if the address is in: neither out for its failures nor down by its checks.
    pub fn is_in(&self, server: usize, now_ms: u64) -> bool {
        self.servers.get(server).is_some_and(|server| server.is_in(now_ms))
    }

    /// How many addresses are down by their health checks.
    pub fn down(&self) -> usize {
        self.servers.iter().filter(|server| Checked::unpack(server.checked.load(Relaxed)).down).count()
    }

    /// How many addresses there are.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// True if there is no address at all.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }
}

impl Server {
    fn is_in(&self, now_ms: u64) -> bool {
        !Checked::unpack(self.checked.load(Relaxed)).down && now_ms >= Out::unpack(self.out.load(Relaxed)).until_ms
    }
}

/// The place of the `n`-th set bit, from 0; the bits are at most 64.
fn nth(mut mask: u64, n: usize) -> usize {
    for _ in 0..n {
        mask &= mask.wrapping_sub(1);
    }
    usize::try_from(mask.trailing_zeros()).unwrap_or(0)
}
