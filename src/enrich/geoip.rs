//! Where an address is and whose network it belongs to, by databases in the MaxMind DB format.
//!
//! Databases are held in memory and looked at without a lock; a changed file is read and checked
//! aside and swapped in whole, so that an event sees the old database or the new one and never a
//! half of each. They are not mapped: a file that is truncated under a live map is undefined
//! behaviour, and updaters do that. A record that reads wrongly costs its own values only.
//!
//! Two shapes of record are read: MaxMind's nested one (`country.iso_code`) and the flat one of
//! redistributed databases (`country_code`).

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use maxminddb::PathElement::{self, Index, Key};
use maxminddb::{LookupResult, MaxMindDbError, Reader, WithinOptions};
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{EnrichError, Enricher, EnricherKind, EnricherPlan, Refreshed, switch};
use crate::config::node::Node;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::event::{Event, Geo, Network, Text};
use crate::exchange::Exchange;

/// The entry of [`super::ENRICHERS`].
pub const KIND: EnricherKind = EnricherKind {
    name: "geoip",
    doc: "where addresses are: MaxMind DB files, or `off`",
    default: "on",
    fields: GEOIP_FIELDS,
    check: |node, problems| Box::new(check(node, problems)),
};

/// The top-level key with its shape.
pub const FIELD: Field = KIND.field(&[Kind::Word(&["on", "off"]), Kind::Map(GEOIP_FIELDS)]);

/// The keys of `geoip:`.
pub const GEOIP_FIELDS: &[Field] = &[
    Field::new("country", Kind::Str, "", "a country database, in place of the built-in one"),
    Field::new("city", Kind::Str, "", "a city database, in place of the built-in country database"),
    Field::new("asn", Kind::Str, "", "a database of networks: their numbers and who runs them"),
    Field::new("anonymous", Kind::Str, "", "a database of hosting providers, VPNs, proxies and Tor exits"),
];

/// The largest file that is read: several times the largest database sold.
const MAX_DATABASE_BYTES: u64 = 1 << 30;

/// Records whose content is remembered, for each database.
const RECORDS: usize = 512;

#[cfg(feature = "geoip-embedded")]
static BUILT_IN: &[u8] = include_bytes!("../../data/iptoasn-country.mmdb");

/// What a database is asked for. They are asked in this order, and the first that knows wins: the
/// special one knows more about a network than the general one, and a city includes its country.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Anonymous,
    Asn,
    City,
    Country,
}

impl Role {
    const ALL: [Role; 4] = [Role::Anonymous, Role::Asn, Role::City, Role::Country];

    const fn key(self) -> &'static str {
        match self {
            Role::Anonymous => "anonymous",
            Role::Asn => "asn",
            Role::City => "city",
            Role::Country => "country",
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Role::Anonymous => "geoip.anonymous",
            Role::Asn => "geoip.asn",
            Role::City => "geoip.city",
            Role::Country => "geoip.country",
        }
    }

    /// Databases of networks may name countries too (of registration); those are not places.
    const fn knows_places(self) -> bool {
        matches!(self, Role::City | Role::Country)
    }
}

/// The checked `geoip:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GeoIpPlan {
    off: bool,
    files: Vec<(Role, PathBuf)>,
}

/// Checks the value of `geoip:`, which may be absent.
pub fn check(node: Option<&Node>, problems: &mut Problems) -> GeoIpPlan {
    let Some(node) = node else { return GeoIpPlan::default() };
    match switch(node) {
        Some(true) => {
            if cfg!(not(feature = "geoip-embedded")) {
                let hint = "name a database: geoip: { country: FILE }";
                problems.warn(node, "this build has no built-in country database".into(), hint);
            }
            return GeoIpPlan::default();
        }
        Some(false) => return GeoIpPlan { off: true, files: Vec::new() },
        None => {}
    }
    let Some(map) = node.map(GEOIP_FIELDS, problems) else { return GeoIpPlan::default() };
    let mut files = Vec::new();
    for role in Role::ALL {
        let Some(value) = map.get(role.key()) else { continue };
        match value.str(problems) {
            Some(file) if file.trim().is_empty() => {
                problems.error_hint(value, "the path is empty".into(), "name a MaxMind DB file (.mmdb)");
            }
            Some(file) => files.push((role, PathBuf::from(file))),
            None => {}
        }
    }
    GeoIpPlan { off: false, files }
}

impl EnricherPlan for GeoIpPlan {
    fn build(&self, base: &Path) -> Result<Option<Box<dyn Enricher>>, EnrichError> {
        if self.off {
            return Ok(None);
        }
        let mut databases = Vec::new();
        for (role, file) in &self.files {
            databases.push(Database::open(*role, base.join(file))?);
        }
        let built_in = if self.files.iter().any(|(role, _)| role.knows_places()) { None } else { built_in()? };
        if databases.is_empty() && built_in.is_none() {
            return Ok(None);
        }
        Ok(Some(Box::new(GeoIp { databases, built_in: built_in.map(Known::new) })))
    }
}

/// The built-in database, read in place: no page of it is in memory before it is looked at. It is
/// not verified here, since a test has verified the very bytes that were compiled in.
#[cfg(feature = "geoip-embedded")]
fn built_in() -> Result<Option<Reader<&'static [u8]>>, EnrichError> {
    Reader::from_source(BUILT_IN).map(Some).map_err(|source| EnrichError::Damaged {
        what: Role::Country.what(),
        file: PathBuf::from("(built in)"),
        source,
    })
}

#[cfg(not(feature = "geoip-embedded"))]
fn built_in() -> Result<Option<Reader<&'static [u8]>>, EnrichError> {
    Ok(None)
}

struct GeoIp {
    /// Sorted by role.
    databases: Vec<Database>,
    built_in: Option<Known<&'static [u8]>>,
}

/// A database, and what was read of its records: the addresses of a day are of few networks, and what a
/// record holds is the same until its file is replaced, which replaces this too.
struct Known<S: AsRef<[u8]>> {
    reader: Reader<S>,
    /// By the record's place in the file.
    records: Cache<usize, Record>,
}

/// What a record tells.
#[derive(Clone, Default)]
struct Record {
    place: Option<Geo>,
    network: Option<Network>,
}

impl<S: AsRef<[u8]>> Known<S> {
    fn new(reader: Reader<S>) -> Known<S> {
        Known { reader, records: Cache::new(RECORDS) }
    }
}

impl Enricher for GeoIp {
    fn enrich(&self, _facts: &Exchange, event: &mut Event) {
        // `::ffff:192.0.2.1` is the IPv4 address; not every database has the alias.
        let Some(address) = event.metadata.ip_address.map(|ip| ip.to_canonical()) else { return };
        for database in &self.databases {
            ask(&database.current.load(), database.role, address, event);
        }
        if let Some(known) = &self.built_in {
            ask(known, Role::Country, address, event);
        }
    }

    fn refresh(&self) -> Vec<Refreshed> {
        self.databases.iter().filter_map(Database::refresh).collect()
    }
}

/// One configured file.
struct Database {
    role: Role,
    file: PathBuf,
    current: ArcSwap<Known<Vec<u8>>>,
    /// The state of the file that was last looked at, whether it was any good or not; `None` if
    /// there was no file.
    seen: Mutex<Option<Stamp>>,
}

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Stamp {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Stamp { modified: metadata.modified().ok(), len: metadata.len(), inode }
    }
}

impl Database {
    fn open(role: Role, file: PathBuf) -> Result<Database, EnrichError> {
        let (stamp, reader) = load(role, &file);
        Ok(Database { role, file, current: ArcSwap::from_pointee(Known::new(reader?)), seen: Mutex::new(stamp) })
    }

    fn refresh(&self) -> Option<Refreshed> {
        let now = fs::metadata(&self.file).ok().map(|m| Stamp::of(&m));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return None;
        }
        let (stamp, reader) = load(self.role, &self.file);
        *seen = stamp;
        let result = reader.map(|reader| self.current.store(Arc::new(Known::new(reader))));
        Some(Refreshed { what: self.role.what(), file: self.file.clone(), result })
    }
}

/// Reads a file whole and verifies it. The stamp is that of the bytes read, so that a file
/// replaced meanwhile counts as changed at the next look.
fn load(role: Role, file: &Path) -> (Option<Stamp>, Result<Reader<Vec<u8>>, EnrichError>) {
    let (what, path) = (role.what(), || file.to_path_buf());
    let unreadable = |source: io::Error| EnrichError::Read { what, file: path(), source };
    let metadata = match fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) => return (None, Err(unreadable(error))),
    };
    let stamp = Stamp::of(&metadata);
    if !metadata.is_file() {
        // Not opened at all: opening a pipe would wait for its writer.
        return (Some(stamp), Err(EnrichError::NoDatabase { what, file: path(), why: "not a file" }));
    }
    let read = || -> io::Result<(Stamp, Vec<u8>)> {
        let handle = File::open(file)?;
        let metadata = handle.metadata()?;
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(MAX_DATABASE_BYTES)).unwrap_or(0));
        handle.take(MAX_DATABASE_BYTES + 1).read_to_end(&mut bytes)?;
        Ok((Stamp::of(&metadata), bytes))
    };
    let (stamp, bytes) = match read() {
        Ok(read) => read,
        Err(error) => return (Some(stamp), Err(unreadable(error))),
    };
    if bytes.len() as u64 > MAX_DATABASE_BYTES {
        return (Some(stamp), Err(EnrichError::NoDatabase { what, file: path(), why: "larger than 1 GiB" }));
    }
    let reader = Reader::from_source(bytes).and_then(|reader| verify(&reader).map(|()| reader));
    (Some(stamp), reader.map_err(|source| EnrichError::Damaged { what, file: path(), source }))
}

/// Verifies tree and records before use.
///
/// `Reader::verify` also demands a description, which the flat redistributed databases do not
/// have; those are walked here instead, with the same bound against cycles.
fn verify<S: AsRef<[u8]>>(reader: &Reader<S>) -> Result<(), MaxMindDbError> {
    let metadata = reader.metadata();
    if !metadata.description.is_empty() {
        return reader.verify();
    }
    let most = u64::from(metadata.node_count).saturating_mul(3);
    let mut checked = std::collections::HashSet::new();
    let networks = reader.networks(WithinOptions::default().include_networks_without_data())?;
    for (count, network) in (0u64..).zip(networks) {
        let found = network?;
        if count > most {
            return Err(MaxMindDbError::invalid_database("the search tree runs in a circle"));
        }
        if found.offset().is_some_and(|offset| checked.insert(offset)) {
            found.decode::<IgnoredAny>()?;
        }
    }
    Ok(())
}

/// Adds what one database knows about an address and nobody before it knew.
fn ask<S: AsRef<[u8]>>(known: &Known<S>, role: Role, address: IpAddr, event: &mut Event) {
    // An IPv6 address asked of an IPv4 database is an error of the reader's, and no news of ours.
    let Ok(found) = known.reader.lookup(address) else { return };
    let Some(at) = found.offset() else { return };
    let record = known.records.get(&at).unwrap_or_else(|| {
        let place = if role.knows_places() { place(&found) } else { None };
        let record = Record { place, network: network(&found) };
        known.records.insert(at, record.clone());
        record
    });
    let metadata = &mut event.metadata;
    if metadata.geo.is_none() {
        metadata.geo = record.place;
    }
    // The built-in database and its like hold nothing but a country.
    if let Some(network) = record.network {
        let known = metadata.network.get_or_insert_default();
        if known.asn.is_none() && known.organization.is_none() {
            known.asn = network.asn;
            known.organization = network.organization;
        }
        if known.hosting.is_none() && known.anonymous.is_none() && known.tor.is_none() {
            known.hosting = network.hosting;
            known.anonymous = network.anonymous;
            known.tor = network.tor;
        }
    }
}

type FieldPath = &'static [PathElement<'static>];

/// Where a shape of record keeps the values of a place.
struct Layout {
    country: FieldPath,
    region: &'static [FieldPath],
    city: FieldPath,
    latitude: FieldPath,
    longitude: FieldPath,
}

/// MaxMind's City, Country and Enterprise.
const NESTED: Layout = Layout {
    country: &[Key("country"), Key("iso_code")],
    region: &[&[Key("subdivisions"), Index(0), Key("iso_code")]],
    city: &[Key("city"), Key("names"), Key("en")],
    latitude: &[Key("location"), Key("latitude")],
    longitude: &[Key("location"), Key("longitude")],
};

/// The redistributed databases. They hold the region's name where MaxMind holds its code; there
/// is no table here to turn one into the other, so the name is what the event says.
const FLAT: Layout = Layout {
    country: &[Key("country_code")],
    region: &[&[Key("state1")], &[Key("state")]],
    city: &[Key("city")],
    latitude: &[Key("latitude")],
    longitude: &[Key("longitude")],
};

/// The place that a record tells; `None` if it tells nothing.
fn place<S: AsRef<[u8]>>(found: &LookupResult<'_, S>) -> Option<Geo> {
    // Each value is read by itself: one of a wrong type costs no other.
    let leaf = |path: FieldPath| found.decode_path::<Leaf<'_>>(path).ok().flatten().unwrap_or_default();
    let flat = leaf(FLAT.country);
    let (layout, country) = if flat.is_absent() { (&NESTED, leaf(NESTED.country)) } else { (&FLAT, flat) };
    let degrees = |path, most: f64| leaf(path).number().filter(|n| n.abs() <= most);
    let position = degrees(layout.latitude, 90.0).zip(degrees(layout.longitude, 180.0));
    let geo = Geo {
        country: country.text().and_then(country_code),
        region: layout.region.iter().find_map(|path| leaf(path).text().and_then(Text::other)),
        city: leaf(layout.city).text().and_then(Text::other),
        latitude: position.map(|(latitude, _)| latitude),
        longitude: position.map(|(_, longitude)| longitude),
    };
    (geo != Geo::default()).then_some(geo)
}

/// ISO 3166-1 alpha-2 in capitals; databases also say `ZZ`, `None` or `-` for "unknown".
fn country_code(text: &str) -> Option<Text> {
    let valid = text.len() == 2 && text.bytes().all(|b| b.is_ascii_alphabetic()) && !text.eq_ignore_ascii_case("zz");
    if valid { Text::other(&text.to_ascii_uppercase()) } else { None }
}

/// What a record says about a network: at its top in the databases of networks, under `traits` in
/// MaxMind's Enterprise.
#[derive(Default, Deserialize)]
#[serde(default)]
struct NetworkRecord<'a> {
    #[serde(borrow)]
    autonomous_system_number: Leaf<'a>,
    #[serde(borrow)]
    autonomous_system_organization: Leaf<'a>,
    #[serde(borrow)]
    isp: Leaf<'a>,
    #[serde(borrow)]
    is_anonymous: Leaf<'a>,
    #[serde(borrow)]
    is_anonymous_vpn: Leaf<'a>,
    #[serde(borrow)]
    is_hosting_provider: Leaf<'a>,
    #[serde(borrow)]
    is_public_proxy: Leaf<'a>,
    #[serde(borrow)]
    is_tor_exit_node: Leaf<'a>,
}

/// The network that a record tells; `None` if it tells nothing.
fn network<S: AsRef<[u8]>>(found: &LookupResult<'_, S>) -> Option<Network> {
    let top = found.decode::<NetworkRecord<'_>>().ok().flatten().and_then(|record| record.network());
    top.or_else(|| found.decode_path::<NetworkRecord<'_>>(&[Key("traits")]).ok().flatten()?.network())
}

impl NetworkRecord<'_> {
    fn network(&self) -> Option<Network> {
        let flags = [
            self.is_anonymous,
            self.is_anonymous_vpn,
            self.is_hosting_provider,
            self.is_public_proxy,
            self.is_tor_exit_node,
        ];
        // These databases write only the flags that hold. Where one stands, the record speaks of
        // anonymity and the missing ones are false; where none stands, it does not speak of it.
        let speaks = flags.iter().any(|flag| flag.flag().is_some());
        let says = |flag: Leaf<'_>| flag.flag() == Some(true);
        let flag = |value: bool| speaks.then_some(value);
        let organization = self.autonomous_system_organization.text().or(self.isp.text());
        let network = Network {
            asn: self.autonomous_system_number.whole(),
            organization: organization.and_then(Text::other),
            hosting: flag(says(self.is_hosting_provider)),
            anonymous: flag(says(self.is_anonymous) || says(self.is_anonymous_vpn) || says(self.is_public_proxy)),
            tor: flag(says(self.is_tor_exit_node)),
        };
        (network != Network::default()).then_some(network)
    }
}

/// A single value of whatever type the database chose for it; anything else reads as absent, so
/// that no type can spoil a record.
#[derive(Clone, Copy, Default)]
enum Leaf<'a> {
    #[default]
    Absent,
    Text(&'a str),
    Number(f64),
    Flag(bool),
}

impl<'a> Leaf<'a> {
    fn is_absent(self) -> bool {
        matches!(self, Leaf::Absent)
    }

    fn text(self) -> Option<&'a str> {
        match self {
            Leaf::Text(text) => Some(text.trim()).filter(|t| !t.is_empty()),
            _ => None,
        }
    }

    /// A finite number; some databases write numbers as texts.
    fn number(self) -> Option<f64> {
        let number = match self {
            Leaf::Number(number) => number,
            Leaf::Text(text) => text.trim().parse().ok()?,
            _ => return None,
        };
        number.is_finite().then_some(number)
    }

    /// A number of an autonomous system (RFC 6793: 32 bits), also as `AS64500`; 0 is no number.
    fn whole(self) -> Option<u32> {
        let number = match self {
            Leaf::Text(text) => text.trim().trim_start_matches(['A', 'S', 'a', 's']).parse().ok()?,
            Leaf::Number(number) if number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number) => {
                number as u32
            }
            _ => return None,
        };
        (number != 0).then_some(number)
    }

    fn flag(self) -> Option<bool> {
        match self {
            Leaf::Flag(flag) => Some(flag),
            _ => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Leaf<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct AnyLeaf;
        impl<'de> Visitor<'de> for AnyLeaf {
            type Value = Leaf<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("any value")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Leaf<'de>, E> {
                Ok(Leaf::Text(text))
            }
            fn visit_bool<E: Error>(self, flag: bool) -> Result<Leaf<'de>, E> {
                Ok(Leaf::Flag(flag))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Leaf<'de>, E> {
                Ok(Leaf::Number(number as f64))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Leaf<'de>, E> {
                Ok(Leaf::Number(number as f64))
            }
            fn visit_u128<E: Error>(self, _: u128) -> Result<Leaf<'de>, E> {
                Ok(Leaf::Absent)
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Leaf<'de>, E> {
                Ok(Leaf::Number(number))
            }
            fn visit_f32<E: Error>(self, number: f32) -> Result<Leaf<'de>, E> {
                // Widened as it is, 51.5074 would read 51.50740051269531: digits nobody wrote.
                Ok(Leaf::Number((f64::from(number) * 1e4).round() / 1e4))
            }
            fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Leaf<'de>, E> {
                Ok(Leaf::Absent)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Leaf<'de>, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Leaf::Absent)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Leaf<'de>, A::Error> {
                while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Leaf::Absent)
            }
        }
        from.deserialize_any(AnyLeaf)
    }
}

#[cfg(test)]
mod tests;
