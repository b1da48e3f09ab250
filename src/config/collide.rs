//! Places that two parts of a configuration both claim: a file, a port, the application's own address.
//!
//! Judged by the text alone: no name is looked up and no link followed. Must never refuse what could
//! work: an address that may be another machine's is none of ours. The invariant: of two that collide,
//! the later one is told, with the line of the first or the name of the other key.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use super::node::{Map, Node, Value, clip};
use super::problem::Problems;
use super::settings::{DEFAULT_ADMIN, DEFAULT_LISTEN, ListenAt, parse_listen};
use crate::proxy::upstream::Address;

/// Looks at the whole file. What cannot be read is told by the part it belongs to.
pub(super) fn check(map: &Map<'_>, base: &Path, problems: &mut Problems) {
    files(map, base, problems);
    listeners(map, problems);
}

/// Two sinks in one file would cut each other's lines and rotate it away under each other.
fn files(map: &Map<'_>, base: &Path, problems: &mut Problems) {
    let mut seen: HashMap<PathBuf, usize> = HashMap::new();
    let of_files = map.items("sinks").iter().filter(|sink| word(sink, "type") == Some("file"));
    for at in of_files.filter_map(|sink| sink.child("path")) {
        let Some(text) = at.scalar() else { continue };
        let path = resolved(&base.join(text));
        // Devices take lines from anybody.
        if path.starts_with("/dev") {
            continue;
        }
        match seen.get(&path) {
            Some(first) => {
                let (line, _) = problems.line_column(*first);
                let message = format!("two sinks write the file `{}`", clip(text));
                let hint = format!("the first is in line {line}: give each a file of its own");
                problems.error_hint(at, message, &hint);
            }
            None => {
                seen.insert(path, at.span.start);
            }
        }
    }
}

/// The path without `.` and `..`, as far as the text says.
fn resolved(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

fn listeners(map: &Map<'_>, problems: &mut Problems) {
    let usual = parse_listen(DEFAULT_LISTEN).ok().map(|at| (None, ListenAt::Tcp(at)));
    let written = map.items("listen").iter().filter_map(|item| {
        let text = item.scalar().or_else(|| word(item, "address"))?;
        Some((Some(item), ListenAt::parse(text).ok()?))
    });
    let listens: Vec<(Option<&Node>, ListenAt)> = match map.get("listen") {
        Some(_) => written.collect(),
        None => usual.into_iter().collect(),
    };
    let upstream = map.get("upstream").map_or(&[][..], |at| match &at.value {
        Value::Map(_) => at.child("servers").map_or(&[][..], Node::items),
        _ => at.items(),
    });
    for at in upstream {
        let Some(address) = at.scalar().and_then(|text| Address::parse(text).ok()) else { continue };
        if let Some((place, listen)) = listens.iter().find(|(_, listen)| leads_to(&address, listen)) {
            let message = format!("the upstream `{address}` is authtap itself, which listens on {listen}");
            tell(at, place.is_some(), message, "name the address of the application, or listen elsewhere", problems);
        }
    }
    let Some((at, admin)) = admin(map) else { return };
    for (place, listen) in &listens {
        let ListenAt::Tcp(address) = listen else { continue };
        if let (true, Some(at)) = (overlap(*address, admin), at.or(*place)) {
            let message = format!("the admin listener ({admin}) and the one for clients ({listen}) have the same port");
            let hint = "give one of them another port, or switch the admin listener off with `admin: off`";
            tell(at, place.is_some(), message, hint, problems);
        }
    }
}

/// An error; a warning where the file leaves it to the command line where to listen.
fn tell(at: &Node, in_file: bool, message: String, hint: &str, problems: &mut Problems) {
    match in_file {
        true => problems.error_hint(at, message, hint),
        false => problems.warn(at, message, &format!("{hint}; without `listen:` or --listen it is {DEFAULT_LISTEN}")),
    }
}

/// Where the admin listener is, if it is on, and where the file says so.
fn admin<'n>(map: &Map<'n>) -> Option<(Option<&'n Node>, SocketAddr)> {
    let usual = parse_listen(DEFAULT_ADMIN).ok();
    let Some(node) = map.get("admin") else { return Some((None, usual?)) };
    if matches!(node.scalar(), Some("off" | "false" | "no")) {
        return None;
    }
    match node.child("listen") {
        Some(at) => Some((Some(at), parse_listen(at.scalar()?).ok()?)),
        None => Some((Some(node), usual?)),
    }
}

fn word<'n>(node: &'n Node, key: &str) -> Option<&'n str> {
    node.child(key)?.scalar()
}

/// True if whoever connects to `address` reaches whoever listens there, for all that the texts say.
/// Names other than `localhost` are not looked up.
pub fn leads_to(address: &Address, listen: &ListenAt) -> bool {
    match (address, listen) {
        (Address::Unix(path), ListenAt::Unix(socket)) => resolved(path) == resolved(socket),
        (Address::Tcp(host, port) | Address::Tls(host, port), ListenAt::Tcp(listen)) => {
            let targets = match (host.eq_ignore_ascii_case("localhost"), host.parse::<IpAddr>()) {
                (true, _) => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
                // Connecting to every address is connecting to this machine (ip(7)).
                (_, Ok(IpAddr::V4(every))) if every.is_unspecified() => vec![Ipv4Addr::LOCALHOST.into()],
                (_, Ok(IpAddr::V6(every))) if every.is_unspecified() => vec![Ipv6Addr::LOCALHOST.into()],
                (_, Ok(one)) => vec![one.to_canonical()],
                (false, Err(_)) => Vec::new(),
            };
            let ours = listen.ip().to_canonical();
            // Whether another address than loopback is this machine's cannot be told from here.
            let reaches = |target: &IpAddr| ours == *target || (target.is_loopback() && takes(ours, *target));
            listen.port() == *port && targets.iter().any(reaches)
        }
        _ => false,
    }
}

/// True if one program cannot listen on both.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && one.port() != 0 && (a == b || takes(a, b) || takes(b, a))
}

/// True if `every` stands for every address and this is one of them; IPv6's takes IPv4's too.
fn takes(every: IpAddr, one: IpAddr) -> bool {
    every.is_unspecified() && (every.is_ipv6() || one.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(upstream: &str, listen: &str) -> bool {
        let address = Address::parse(upstream).expect("an upstream");
        leads_to(&address, &ListenAt::parse(listen).expect("an address to listen on"))
    }

    #[test]
    fn an_upstream_is_ourselves_where_the_texts_leave_no_doubt() {
        for (upstream, listen) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://localhost:8080", "127.0.0.1:8080"),
            ("http://LOCALHOST:8080", "[::1]:8080"),
            ("http://127.0.0.1:8080", "0.0.0.0:8080"),
            ("http://127.9.9.9:8080", ":8080"),
            ("http://127.0.0.1:8080", "[::]:8080"),
            ("http://[::1]:8080", "[::]:8080"),
            ("http://0.0.0.0:8080", "127.0.0.1:8080"),
            ("http://10.0.0.5:8080", "10.0.0.5:8080"),
            ("http://[::ffff:10.0.0.5]:8080", "10.0.0.5:8080"),
            ("https://127.0.0.1", "127.0.0.1:443"),
            ("http://localhost", "0.0.0.0:80"),
            ("unix:/run/./a.sock", "unix:/run/b/../a.sock"),
        ] {
            assert!(same(upstream, listen), "{upstream} {listen}");
        }
    }

    #[test]
    fn what_may_be_another_is_left_alone() {
        for (upstream, listen) in [
            ("http://127.0.0.1:8000", "127.0.0.1:8080"),
            ("http://127.0.0.2:8080", "127.0.0.1:8080"),
            ("http://app:8080", "0.0.0.0:8080"),
            ("http://10.0.0.5:8080", "0.0.0.0:8080"),
            ("http://10.0.0.5:8080", "127.0.0.1:8080"),
            ("http://[::1]:8080", "0.0.0.0:8080"),
            ("http://[2001:db8::1]:8080", "[::]:8080"),
            ("unix:/run/a.sock", "unix:/run/b.sock"),
            ("unix:/run/a.sock", "127.0.0.1:80"),
        ] {
            assert!(!same(upstream, listen), "{upstream} {listen}");
        }
    }

    #[test]
    fn ports_that_the_system_chooses_never_overlap() {
        let overlaps = |one: &str, other: &str| overlap(one.parse().expect("one"), other.parse().expect("other"));
        assert!(overlaps("0.0.0.0:9977", "127.0.0.1:9977") && overlaps("[::]:1", "127.0.0.1:1"));
        assert!(!overlaps("127.0.0.1:0", "127.0.0.1:0") && !overlaps("0.0.0.0:1", "[::1]:1"));
        assert!(!overlaps("10.0.0.1:1", "127.0.0.1:1"));
    }
}
