//! Questions to the event store, for a person at a terminal: `authtap events`, `tail` without a
//! proxy, and `spool info | verify`.
//!
//! It opens the file to read only, beside a running proxy or without one, and never holds a
//! transaction longer than one question. Values of a question are bound, never written into SQL.
//! The invariant: what [`History::each`] shows is what [`Filter::matches`] says of the same events.

mod search;
pub mod sql;
pub mod state;
pub mod story;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use rusqlite::Connection;
use rusqlite::types::Value;

use self::search::Words;
use crate::event::Event;
use crate::filter::{Filter, Glob, Since};
use crate::spool::store::schema::{self, BLOCK};
use crate::spool::store::{self, address_key, lookup};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// There is no store in the folder.
    #[error("there is no event store at {0}: name the data folder with --data")]
    Missing(PathBuf),
    /// The file cannot be read.
    #[error("cannot read the event store: {0}")]
    Read(#[from] rusqlite::Error),
    /// What was found cannot be shown.
    #[error("cannot write the events: {0}")]
    Output(#[from] std::io::Error),
    /// The SQL would do more than read.
    #[error("{0}")]
    Refused(String),
}

/// A question.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Which events; `limit` asks for the newest so many.
    pub filter: Filter,
    /// The latest moment.
    pub until: Option<Since>,
    /// Words that all must be in the event's texts; `*` at the end of one stands for any ending.
    pub search: Option<String>,
    /// True to match the actor's name with whom something was done to as well.
    pub with_targets: bool,
}

/// One event as the file has it.
#[derive(Debug)]
pub struct Row<'r> {
    /// Position.
    pub seq: u64,
    /// Milliseconds since the Unix epoch.
    pub time: i64,
    /// Its type.
    pub event_type: &'r str,
    /// Its outcome.
    pub outcome: &'r str,
    /// The best single name of who did it.
    pub actor: Option<&'r str>,
    /// The client's address.
    pub ip: Option<&'r str>,
    /// Where that is said to be.
    pub country: Option<&'r str>,
    /// The event, one line of JSON.
    pub line: &'r str,
}

/// What is done with each event found: true to go on.
pub type Show<'a> = dyn FnMut(&Row<'_>) -> Result<bool, HistoryError> + 'a;

/// The file, open to read.
pub struct History {
    db: Connection,
    path: PathBuf,
}

impl History {
    /// Opens the store of a data folder.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn open(folder: &Path) -> Result<History, HistoryError> {
        let path = folder.join(store::FILE);
        if !path.exists() {
            return Err(HistoryError::Missing(path));
        }
        Ok(History { db: schema::open_to_read(&path)?, path })
    }

    /// Shows what matches, oldest first. With a limit, the newest so many, oldest first.
    ///
    /// # Errors
    /// The file cannot be read, or `show` failed.
    pub fn each(&self, query: &Query, show: &mut Show<'_>) -> Result<(), HistoryError> {
        let Some(limit) = query.filter.limit else { return self.walk(query, false, show) };
        // Found from the newest on, shown the other way round.
        let mut found: Vec<(u64, i64, String)> = Vec::new();
        self.walk(query, true, &mut |row| {
            found.push((row.seq, row.time, row.line.to_owned()));
            Ok((found.len() as u64) < limit)
        })?;
        for (seq, time, line) in found.iter().rev() {
            let event = Event::from_line(line).ok();
            let event = event.as_ref();
            let ip = event.and_then(|e| e.metadata.ip_address).map(|ip| ip.to_string());
            let row = Row {
                seq: *seq,
                time: *time,
                event_type: event.map_or("", |e| e.event_type.as_str()),
                outcome: event.map_or("", |e| e.outcome.as_str()),
                actor: event.and_then(|e| e.actor.label()),
                ip: ip.as_deref(),
                country: event.and_then(|e| e.metadata.geo.as_ref()?.country.as_ref()).map(|c| c.as_str()),
                line,
            };
            if !show(&row)? {
                break;
            }
        }
        Ok(())
    }

    fn walk(&self, query: &Query, newest_first: bool, show: &mut Show<'_>) -> Result<(), HistoryError> {
        let filter = query.filter.clone().from_now();
        let words = query.search.as_deref().map(Words::parse);
        let progress = |name: &str, otherwise: i64| {
            let asked = "SELECT coalesce(max(seq), ?2) FROM progress WHERE name = ?1";
            self.db.query_row(asked, rusqlite::params![name, otherwise], |row| row.get::<_, i64>(0))
        };
        // A file of before there was such a number has every name and address.
        let (indexed, looked_up) = (progress("search", 0)?, progress("lookup", i64::MAX)?);
        let conditions = self.conditions(query, &filter, words.as_ref(), (indexed, looked_up))?;
        let Some((condition, values)) = conditions else { return Ok(()) };
        let anybody = Filter { actor: None, ..filter.clone() };
        let order = if newest_first { "DESC" } else { "ASC" };
        let statement = format!(
            "SELECT e.seq, e.time, e.type, e.outcome, e.actor, e.ip, e.country, e.event FROM events e \
             WHERE {condition} ORDER BY e.seq {order}"
        );
        let mut statement = self.db.prepare(&statement)?;
        let mut rows = statement.query(rusqlite::params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            let text = |column: usize| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_str_or_null()?);
            let found = Row {
                seq: u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0),
                time: row.get(1)?,
                event_type: text(2)?.unwrap_or_default(),
                outcome: text(3)?.unwrap_or_default(),
                actor: text(4)?,
                ip: text(5)?,
                country: text(6)?,
                line: text(7)?.unwrap_or_default(),
            };
            // The index of names has targets too, and no order of names within an event; of the newest
            // events neither names nor addresses are in an index yet.
            let new = row.get::<_, i64>(0)? > looked_up && (filter.actor.is_some() || !filter.ips.is_empty());
            if new || (filter.actor.is_some() && !query.with_targets) {
                let Ok(event) = Event::from_line(found.line) else { continue };
                let named = match &filter.actor {
                    Some(actor) if query.with_targets => {
                        let mut named = false;
                        store::names(&event, |name| named |= actor.matches(name));
                        named
                    }
                    _ => filter.matches(&event),
                };
                if !named || !anybody.matches(&event) {
                    continue;
                }
            }
            if let Some(words) = &words
                && row.get::<_, i64>(0)? > indexed
                && !words.are_in(&store::texts(found.line))
            {
                continue;
            }
            if !show(&found)? {
                break;
            }
        }
        Ok(())
    }

    /// What the statement demands; `None` if nothing can match.
    #[allow(clippy::type_complexity, reason = "a condition and its values, used once")]
    fn conditions(
        &self,
        query: &Query,
        filter: &Filter,
        words: Option<&Words>,
        (indexed, looked_up): (i64, i64),
    ) -> Result<Option<(String, Vec<Value>)>, HistoryError> {
        let mut all: Vec<String> = vec!["1".into()];
        let mut values: Vec<Value> = Vec::new();
        let mut bind = |value: Value| {
            values.push(value);
            format!("?{}", values.len())
        };
        // The sparse index of time: blocks that can hold such a moment.
        let (mut first, mut last) = (None, None);
        if let Some(since) = &filter.since {
            let at = since.moment().as_millis();
            first = self.db.query_row("SELECT min(block) FROM blocks WHERE last_time >= ?1", [at], |row| {
                row.get::<_, Option<i64>>(0)
            })?;
            if first.is_none() {
                return Ok(None);
            }
            all.push(format!("e.time >= {}", bind(at.into())));
        }
        if let Some(until) = &query.until {
            let at = until.moment().as_millis();
            last = self.db.query_row("SELECT max(block) FROM blocks WHERE first_time <= ?1", [at], |row| {
                row.get::<_, Option<i64>>(0)
            })?;
            if last.is_none() {
                return Ok(None);
            }
            all.push(format!("e.time <= {}", bind(at.into())));
        }
        let block = i64::try_from(BLOCK).unwrap_or(i64::MAX);
        let mut blocks = String::from("1");
        if let Some(first) = first {
            let from = bind(first.saturating_mul(block).into());
            all.push(format!("e.seq >= {from}"));
            blocks.push_str(&format!(" AND b.block >= {from} / {block}"));
        }
        if let Some(last) = last {
            let end = bind(last.saturating_add(1).saturating_mul(block).into());
            all.push(format!("e.seq < {end}"));
            blocks.push_str(&format!(" AND b.block < {end} / {block}"));
        }
        let rows = self.rows_of_before()?;
        if let Some(actor) = &filter.actor {
            let found = self.named(actor, first, last)?;
            let (how, value) = match actor.as_str().contains('*') {
                false => ("=", actor.as_str().to_owned()),
                true => ("GLOB", glob(actor)),
            };
            // CROSS JOIN keeps the order: for each block one look at its names.
            all.push(format!(
                "e.seq IN (SELECT n.seq FROM blocks b CROSS JOIN {} n ON n.block = b.block AND n.name {how} {} WHERE {blocks} \
                 UNION ALL SELECT value FROM json_each({}) UNION ALL SELECT seq FROM events WHERE seq > {})",
                rows.names,
                bind(value.into()),
                bind(found.into()),
                bind(looked_up.into())
            ));
        }
        if !filter.ips.is_empty() {
            let mut ranges = Vec::new();
            for net in &filter.ips {
                let (low, high) = range(net);
                let found = self.within(low, high, first, last)?;
                ranges.push(format!(
                    "e.seq IN (SELECT a.seq FROM blocks b CROSS JOIN {} a ON a.block = b.block \
                     AND a.address BETWEEN {} AND {} WHERE {blocks} \
                     UNION ALL SELECT value FROM json_each({}) UNION ALL SELECT seq FROM events WHERE seq > {})",
                    rows.addresses,
                    bind(low.to_vec().into()),
                    bind(high.to_vec().into()),
                    bind(found.into()),
                    bind(looked_up.into())
                ));
            }
            all.push(format!("({})", ranges.join(" OR ")));
        }
        if !filter.types.is_empty() {
            let types: Vec<String> =
                filter.types.iter().map(|g| format!("e.type GLOB {}", bind(glob(g).into()))).collect();
            all.push(format!("({})", types.join(" OR ")));
        }
        if !filter.outcomes.is_empty() {
            let outcomes: Vec<String> = filter.outcomes.iter().map(|o| bind(o.as_str().to_owned().into())).collect();
            all.push(format!("e.outcome IN ({})", outcomes.join(", ")));
        }
        if let Some(words) = words {
            let Some(matching) = words.query() else { return Ok(None) };
            all.push(format!(
                "(e.seq > {} OR e.seq IN (SELECT rowid FROM search WHERE search MATCH {}))",
                bind(indexed.into()),
                bind(matching.into())
            ));
        }
        Ok(Some((all.join(" AND "), values)))
    }
}

/// The tables in which names and addresses of older blocks are rows.
struct RowsOfBefore {
    names: &'static str,
    addresses: &'static str,
    /// False for a file that has nothing but rows.
    with_lookup: bool,
}

impl History {
    fn rows_of_before(&self) -> rusqlite::Result<RowsOfBefore> {
        Ok(match schema::version(&self.db)? >= schema::WITH_LOOKUP {
            true => RowsOfBefore { names: "names_2", addresses: "addresses_2", with_lookup: true },
            false => RowsOfBefore { names: "names", addresses: "addresses", with_lookup: false },
        })
    }

    /// Positions of the events of whole blocks from `first` to `last` that name such an actor or target,
    /// as a list in JSON.
    fn named(&self, actor: &Glob, first: Option<i64>, last: Option<i64>) -> rusqlite::Result<String> {
        if actor.as_str().contains('*') {
            return self.looked_up(lookup::parts_of_names(), (first, last), |entries, tell| {
                lookup::each(entries).iter().filter(|(name, _)| actor.matches(name)).for_each(|(_, at)| tell(*at));
            });
        }
        let (part, begin) = lookup::place_of_name(actor.as_str());
        self.looked_up(part..part + 1, (first, last), |entries, tell| lookup::found(entries, &begin).for_each(tell))
    }

    /// The same, for addresses from `low` to `high`.
    fn within(&self, low: [u8; 16], high: [u8; 16], first: Option<i64>, last: Option<i64>) -> rusqlite::Result<String> {
        if low == high {
            let (part, begin) = lookup::place_of_address(low);
            return self.looked_up(part..part + 1, (first, last), |entries, tell| {
                lookup::found(entries, &begin).for_each(tell)
            });
        }
        let digits = |key: [u8; 16]| key.map(|byte| format!("{byte:02x}")).concat();
        let (low, high) = (digits(low), digits(high));
        self.looked_up(lookup::parts_of_addresses(), (first, last), |entries, tell| {
            let within = |address: &str| (low.as_str()..=high.as_str()).contains(&address);
            lookup::each(entries).iter().filter(|(address, _)| within(address)).for_each(|(_, at)| tell(*at));
        })
    }

    /// Asks these parts of the blocks from `first` to `last`.
    fn looked_up(
        &self,
        parts: std::ops::Range<usize>,
        (first, last): (Option<i64>, Option<i64>),
        ask: impl Fn(&str, &mut dyn FnMut(u64)),
    ) -> rusqlite::Result<String> {
        let mut found = String::from("[");
        if self.rows_of_before()?.with_lookup {
            let mut statement = self.db.prepare(
                "SELECT l.block, l.entries FROM blocks b CROSS JOIN lookup l ON l.block = b.block \
                 AND l.part >= ?1 AND l.part < ?2 WHERE b.block BETWEEN ?3 AND ?4",
            )?;
            let (first, last) = (first.unwrap_or(i64::MIN), last.unwrap_or(i64::MAX));
            let mut rows = statement.query(rusqlite::params![parts.start as i64, parts.end as i64, first, last])?;
            while let Some(row) = rows.next()? {
                let start = u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0).saturating_mul(BLOCK);
                ask(row.get_ref(1)?.as_str()?, &mut |at| {
                    if found.len() > 1 {
                        found.push(',');
                    }
                    found.push_str(&start.saturating_add(at).to_string());
                });
            }
        }
        found.push(']');
        Ok(found)
    }
}

/// A pattern as SQLite's GLOB has it: only the star is special to us.
fn glob(pattern: &Glob) -> String {
    let mut out = String::new();
    for c in pattern.as_str().chars() {
        match c {
            '[' | '?' => out.push_str(&format!("[{c}]")),
            _ => out.push(c),
        }
    }
    out
}

/// The keys of the first and the last address of a network.
fn range(net: &IpNet) -> ([u8; 16], [u8; 16]) {
    match net {
        IpNet::V4(net) => (address_key(IpAddr::V4(net.network())), address_key(IpAddr::V4(net.broadcast()))),
        // Not by way of `address_key`: a wide network must not become an IPv4 one.
        IpNet::V6(net) => (net.network().octets(), net.broadcast().octets()),
    }
}
