//! Which events somebody wants to see: one filter for `GET /events` and for `authtap tail`.
//!
//! A filter is read from query pairs and written back to them, so that the client and the server
//! cannot mean different things. It never changes an event, reads no body, and its size is bounded
//! whatever a stranger sends. Invariant: `Filter::parse(&filter.to_query())` is `filter` again.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::node::{parse_duration, suggest};
use crate::event::{Event, Outcome, Text, Timestamp, text};

/// The keys a filter understands, in the order they are written.
pub const KEYS: [&str; 6] = ["type", "actor", "ip", "outcome", "since", "limit"];

/// The most entries of one list.
const MAX_LIST: usize = 64;
/// The longest event type pattern, in bytes; the longest event type is as long.
const MAX_TYPE: usize = 100;

/// What an event must be to be shown. Parts that are absent or empty let everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Event types, any of them: `user.login.*`.
    pub types: Vec<Glob>,
    /// The actor's id, address or login, compared without regard to case; lower case here.
    pub actor: Option<Glob>,
    /// Networks of the client's address, any of them.
    pub ips: Vec<IpNet>,
    /// Outcomes, any of them.
    pub outcomes: Vec<Outcome>,
    /// The earliest moment.
    pub since: Option<Since>,
    /// The most events to show, 1 or more; counting is the work of whoever shows them.
    pub limit: Option<u64>,
}

/// The earliest moment of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long before now, in whole milliseconds.
    Ago(Duration),
    /// At a moment.
    At(Timestamp),
}

/// Why a filter was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The key is none of [`KEYS`].
    #[error("there is no filter `{key}`; {hint}")]
    UnknownKey {
        /// The key, cleaned and cut.
        key: String,
        /// What may have been meant.
        hint: String,
    },
    /// A key that takes one value came twice.
    #[error("`{key}` is given twice; give it once")]
    Twice {
        /// The key.
        key: &'static str,
    },
    /// The value is not one.
    #[error("`{key}` cannot be `{value}`; {hint}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value, cleaned and cut.
        value: String,
        /// What it may be.
        hint: String,
    },
    /// A list is too long.
    #[error("`{key}` has more than {MAX_LIST} entries; use `*` or a wider network")]
    TooMany {
        /// The key.
        key: &'static str,
    },
}

impl Filter {
    /// Reads decoded query pairs. `type`, `ip` and `outcome` are comma separated lists and may be
    /// repeated; the others are single values.
    pub fn from_query<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Filter, FilterError>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let mut filter = Filter::default();
        for (key, value) in pairs {
            filter.add(key.as_ref(), value.as_ref())?;
        }
        Ok(filter)
    }

    /// Reads the query of a URL (without `?`), percent-encoded as a form.
    pub fn parse(query: &str) -> Result<Filter, FilterError> {
        Filter::from_query(form_urlencoded::parse(query.as_bytes()))
    }

    fn add(&mut self, key: &str, value: &str) -> Result<(), FilterError> {
        match key {
            "type" => list("type", value, &mut self.types, |item| {
                let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'*');
                if item.is_empty() || item.len() > MAX_TYPE || !item.bytes().all(valid) {
                    return Err("write event types in lower case, such as user.login.* or api_key.created".into());
                }
                Ok(Glob::new(item))
            }),
            "ip" => list("ip", value, &mut self.ips, |item| {
                network(item).ok_or_else(|| "write an address or a network, such as 203.0.113.7 or 10.0.0.0/8".into())
            }),
            "outcome" => list("outcome", value, &mut self.outcomes, |item| {
                Outcome::parse(item).ok_or_else(|| suggest(&shown(item), &Outcome::ALL.map(Outcome::as_str)))
            }),
            "actor" => {
                let name = value.trim();
                if name.is_empty() || name.chars().count() > text::IDENTIFIER {
                    return Err(bad("actor", value, "write an id, an address or a login of at most 254 characters"));
                }
                once("actor", &mut self.actor, Glob::new(&name.to_lowercase()))
            }
            "since" => {
                let hint = "write how long ago (10m, 12h, 7d) or a moment in RFC 3339 (2026-01-15T09:30:00Z)";
                let since = Since::parse(value).ok_or_else(|| bad("since", value, hint))?;
                once("since", &mut self.since, since)
            }
            "limit" => {
                let number = value.trim().parse().ok().filter(|n| *n > 0);
                let number = number.ok_or_else(|| bad("limit", value, "write a whole number, 1 or more"))?;
                once("limit", &mut self.limit, number)
            }
            _ => Err(FilterError::UnknownKey { key: shown(key), hint: suggest(&shown(key), &KEYS) }),
        }
    }

    /// The filter as a percent-encoded query without `?`; empty if it lets everything pass.
    pub fn to_query(&self) -> String {
        let mut out = form_urlencoded::Serializer::new(String::new());
        let joined = |items: Vec<String>| items.join(",");
        if !self.types.is_empty() {
            out.append_pair("type", &joined(self.types.iter().map(ToString::to_string).collect()));
        }
        if let Some(actor) = &self.actor {
            out.append_pair("actor", actor.as_str());
        }
        if !self.ips.is_empty() {
            out.append_pair("ip", &joined(self.ips.iter().map(ToString::to_string).collect()));
        }
        if !self.outcomes.is_empty() {
            out.append_pair("outcome", &joined(self.outcomes.iter().map(ToString::to_string).collect()));
        }
        if let Some(since) = &self.since {
            out.append_pair("since", &since.to_string());
        }
        if let Some(limit) = self.limit {
            out.append_pair("limit", &limit.to_string());
        }
        out.finish()
    }

    /// True if the event passes. Reads the clock if `since` is a duration; see [`Filter::from_now`].
    pub fn matches(&self, event: &Event) -> bool {
        if let Some(since) = &self.since
            && event.timestamp < since.moment()
        {
            return false;
        }
        if !self.types.is_empty() && !self.types.iter().any(|glob| glob.matches(event.event_type.as_str())) {
            return false;
        }
        if !self.outcomes.is_empty() && !self.outcomes.contains(&event.outcome) {
            return false;
        }
        if !self.ips.is_empty() {
            let Some(address) = event.metadata.ip_address.map(|ip| ip.to_canonical()) else { return false };
            if !self.ips.iter().any(|net| net.contains(&address)) {
                return false;
            }
        }
        let Some(wanted) = &self.actor else { return true };
        let names = [&event.actor.id, &event.actor.email, &event.actor.login];
        names.into_iter().flatten().any(|name| wanted.matches(&name.as_str().to_lowercase()))
    }

    /// The same filter with a `since` that no longer moves with the clock.
    pub fn from_now(mut self) -> Filter {
        self.since = self.since.map(|since| Since::At(since.moment()));
        self
    }
}

impl Since {
    /// Reads `10m` or RFC 3339.
    fn parse(text: &str) -> Option<Since> {
        let text = text.trim();
        if let Some(ago) = parse_duration(text) {
            let whole = u64::try_from(ago.as_millis()).ok()?;
            return Some(Since::Ago(Duration::from_millis(whole)));
        }
        let moment = Timestamp::parse(text).or_else(|| {
            // `+02:00` typed into a URL arrives with a space: forms decode `+` so.
            let (before, offset) = text.rsplit_once(' ')?;
            Timestamp::parse(&format!("{before}+{offset}"))
        });
        moment.map(Since::At)
    }

    /// The moment meant, as seen from now.
    pub fn moment(&self) -> Timestamp {
        match self {
            Since::Ago(ago) => Timestamp::now().minus(*ago),
            Since::At(moment) => *moment,
        }
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Since::Ago(ago) => write!(f, "{}ms", ago.as_millis()),
            Since::At(moment) => moment.fmt(f),
        }
    }
}

/// A pattern in which `*` stands for any run of characters, also for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// A pattern, taken as it is.
    pub fn new(pattern: &str) -> Glob {
        Glob(pattern.to_owned())
    }

    /// The pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if all of `text` fits. The leftmost fit of each piece is enough, so nothing is tried
    /// twice and the work is linear in the text.
    pub fn matches(&self, text: &str) -> bool {
        let mut pieces = self.0.split('*');
        let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            let Some((_, after)) = rest.split_once(piece) else { return false };
            rest = after;
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address or a network, IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2) as the IPv4 it is.
fn network(text: &str) -> Option<IpNet> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(IpNet::from(address.to_canonical()));
    }
    let net = text.parse::<IpNet>().ok()?.trunc();
    match (net.addr().to_canonical(), net.prefix_len().checked_sub(96)) {
        (address @ IpAddr::V4(_), Some(prefix)) if net.addr().is_ipv6() => IpNet::new(address, prefix).ok(),
        _ => Some(net),
    }
}

fn list<T>(
    key: &'static str,
    value: &str,
    into: &mut Vec<T>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<(), FilterError> {
    for item in value.split(',').map(str::trim) {
        if into.len() == MAX_LIST {
            return Err(FilterError::TooMany { key });
        }
        into.push(read(item).map_err(|hint| FilterError::Value { key, value: shown(item), hint })?);
    }
    Ok(())
}

fn once<T>(key: &'static str, slot: &mut Option<T>, value: T) -> Result<(), FilterError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(FilterError::Twice { key }),
    }
}

fn bad(key: &'static str, value: &str, hint: &str) -> FilterError {
    FilterError::Value { key, value: shown(value), hint: hint.to_owned() }
}

/// What somebody sent, fit for a message.
fn shown(value: &str) -> String {
    Text::capped(value, 60).map(|t| t.to_string()).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests;
