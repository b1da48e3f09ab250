//! Places: what was asked for where, and which of several things was meant.
//!
//! A place is a method and a path, in which numbers and tokens stand for any, and the GraphQL field or
//! XML-RPC method that was called. What happens at one place may be several topics (signing in and asking
//! for a reset at one address); signs of the request tell them apart.

use std::collections::{BTreeMap, BTreeSet};

use super::observe::{Call, Observed, Seen};
use super::rules::Example;
use super::sign::{Part, Sign, condition};
use crate::event::text::MASK;
use crate::event::{Event, Outcome};

/// The most signs that are combined to tell topics apart.
const MAX_TOGETHER: usize = 40;

/// What stands in a path for a number.
const NUMBER: &str = "#";

/// How an exchange went, as a rule would say it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Went {
    /// Nothing happened.
    Nothing,
    /// Something did.
    Said {
        /// The outcome.
        outcome: Outcome,
        /// Event types, the primary one first.
        types: Vec<String>,
        /// Why, in a word of auto's.
        reason: Option<String>,
    },
}

/// What events are about, and the id that a route of theirs has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Topic {
    /// The id.
    pub name: &'static str,
}

/// Ids by the type of the primary event; all of a login is one topic.
const TOPICS: &[(&str, &str)] = &[
    ("user.login.", "login"),
    ("user.mfa.challenge.", "login"),
    ("user.logout", "logout"),
    ("user.password.changed", "password-change"),
    ("user.password.reset_requested", "reset-request"),
    ("user.password.reset_completed", "reset"),
    ("user.created", "sign-up"),
    ("user.mfa.enabled", "second-factor-on"),
    ("user.mfa.disabled", "second-factor-off"),
    ("user.email.changed", "address-change"),
    ("api_key.created", "key-made"),
    ("api_key.used", "key-used"),
];

/// Where something was asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// Method.
    pub method: String,
    /// Path, with `***` for tokens and `#` for numbers.
    pub path: String,
    /// What was called there.
    pub call: Option<Call>,
}

/// A place with its exchanges.
pub struct Place<'s> {
    /// Where.
    pub at: At,
    /// What was seen there, with all its signs, also those that others have and it has not.
    pub seen: Vec<(&'s Seen, BTreeSet<Sign>)>,
}

/// The place of an exchange.
pub fn at(seen: &Seen) -> At {
    let number = |segment: &str| !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit());
    let path: Vec<&str> = seen.path.split('/').map(|part| if number(part) { NUMBER } else { part }).collect();
    At { method: seen.method.clone(), path: path.join("/"), call: seen.call.clone() }
}

/// The places at which something happened.
pub fn places(observed: &Observed) -> Vec<Place<'_>> {
    let mut places: BTreeMap<At, Vec<&Seen>> = BTreeMap::new();
    for seen in &observed.seen {
        places.entry(at(seen)).or_default().push(seen);
    }
    places.retain(|_, all| all.iter().any(|seen| !seen.events.is_empty()));
    places.into_iter().map(|(at, all)| Place::new(at, all)).collect()
}

impl<'s> Place<'s> {
    fn new(at: At, all: Vec<&'s Seen>) -> Place<'s> {
        let there: BTreeSet<&Sign> = all.iter().flat_map(|seen| &seen.signs).filter(|sign| sign.is_asked()).collect();
        let missing = |seen: &Seen| {
            let lacks = |sign: &&Sign| match sign {
                Sign::Filled(name) if !seen.signs.contains(*sign) => Some(Sign::Blank(name.clone())),
                Sign::Has(pointer) if !seen.signs.contains(*sign) => Some(Sign::Lacks(pointer.clone())),
                Sign::Query(name) | Sign::QueryDoes(name, _) if !has_query(seen, name) => {
                    Some(Sign::NoQuery(name.clone()))
                }
                _ => None,
            };
            there.iter().filter_map(lacks).collect::<Vec<Sign>>()
        };
        let seen = all.into_iter().map(|seen| (seen, seen.signs.iter().cloned().chain(missing(seen)).collect()));
        Place { at, seen: seen.collect() }
    }

    /// Method, path and call in a few words.
    pub fn name(&self) -> String {
        let call = match &self.at.call {
            Some(Call::GraphQl(_, name) | Call::XmlRpc(name)) => format!(" {name}"),
            None => String::new(),
        };
        format!("{} {}{call}", self.at.method, self.at.path)
    }

    /// What happens here.
    pub fn topics(&self) -> Vec<Topic> {
        let topics: BTreeSet<Topic> = self.seen.iter().filter_map(|(seen, _)| topic(seen)).collect();
        topics.into_iter().collect()
    }

    /// Examples of a topic, and of nothing, that have these signs of the request.
    pub fn examples(&self, wanted: Topic, narrowed: &[Sign]) -> Vec<(&'s Seen, Example<Went>)> {
        let counts = |seen: &Seen| topic(seen).is_none_or(|topic| topic == wanted) && !is_undecided(seen);
        let fits = self.seen.iter().filter(|(seen, signs)| counts(seen) && narrowed.iter().all(|s| signs.contains(s)));
        fits.map(|(seen, signs)| (*seen, Example { class: went(seen), signs: signs.clone() })).collect()
    }

    /// Words that say what is done, where all of a topic have them and others have not.
    pub fn says(&self, wanted: Topic) -> Vec<Sign> {
        let (mine, others): (Vec<_>, Vec<_>) = self.seen.iter().partition(|(seen, _)| topic(seen) == Some(wanted));
        let Some((_, first)) = mine.first() else { return Vec::new() };
        let says = |sign: &&Sign| matches!(sign, Sign::Does(..) | Sign::QueryDoes(..) | Sign::Says(..));
        let telling = |sign: &&Sign| {
            mine.iter().all(|(_, signs)| signs.contains(*sign))
                && others.iter().any(|(_, signs)| !signs.contains(*sign))
        };
        first.iter().filter(says).filter(telling).cloned().collect()
    }

    /// Signs of the request that a topic has and no other topic; also no exchange in which nothing
    /// happened, if `alone`. `None` if there are none; empty if none are needed.
    pub fn narrow(&self, wanted: Topic, alone: bool) -> Option<Vec<Sign>> {
        let (mine, rest): (Vec<_>, Vec<_>) = self.seen.iter().partition(|(seen, _)| topic(seen) == Some(wanted));
        let others: Vec<_> = rest.into_iter().filter(|(seen, _)| alone || topic(seen).is_some()).collect();
        if others.is_empty() {
            return Some(Vec::new());
        }
        let first = mine.first()?;
        let everywhere = |sign: &&Sign| sign.is_asked() && mine.iter().all(|(_, signs)| signs.contains(*sign));
        let mut common: Vec<&Sign> = first.1.iter().filter(everywhere).collect();
        common.sort_by_key(|sign| sign.weakness());
        common.truncate(MAX_TOGETHER);
        let tells = |signs: &[&Sign]| {
            !others.iter().any(|(_, has)| signs.iter().all(|sign| has.contains(*sign)))
                && condition(signs.iter().copied(), Part::Match).is_some()
        };
        let one = common.iter().find(|sign| tells(&[**sign])).map(|sign| vec![*sign]);
        let found = one.or_else(|| {
            let pairs = common
                .iter()
                .enumerate()
                .flat_map(|(i, one)| common.iter().skip(i + 1).map(move |two| vec![*one, *two]));
            pairs.into_iter().find(|pair| tells(pair))
        });
        found.map(|signs| signs.into_iter().cloned().collect())
    }
}

fn has_query(seen: &Seen, name: &str) -> bool {
    seen.signs.iter().any(|sign| matches!(sign, Sign::Query(n) | Sign::QueryDoes(n, _) if n == name))
}

/// What an exchange was about; `None` if nothing happened.
pub fn topic(seen: &Seen) -> Option<Topic> {
    let primary = seen.events.first()?;
    let named = TOPICS.iter().find(|(begins, _)| primary.event_type.as_str().starts_with(begins));
    Some(Topic { name: named.map_or("event", |(_, name)| name) })
}

/// True if auto did not know how it went: an example of nothing.
fn is_undecided(seen: &Seen) -> bool {
    seen.events.iter().any(|event| event.outcome == Outcome::Unknown)
}

/// How an exchange went.
pub fn went(seen: &Seen) -> Went {
    let Some(primary) = seen.events.first() else { return Went::Nothing };
    let types: Vec<String> = seen.events.iter().map(|event| event.event_type.to_string()).collect();
    Went::Said { outcome: outcome(primary), reason: reason(primary), types }
}

/// A reset may be asked for by anybody, and for nobody.
fn outcome(event: &Event) -> Outcome {
    match (event.event_type.as_str(), event.outcome) {
        ("user.password.reset_requested", Outcome::Success) => Outcome::Requested,
        (_, outcome) => outcome,
    }
}

fn reason(event: &Event) -> Option<String> {
    match event.event_type.as_str() {
        "user.login.failed" => Some("invalid_credentials".to_owned()),
        "user.mfa.challenge.failed" => Some("invalid_code".to_owned()),
        _ => event.reason.as_ref().map(|reason| reason.as_str().to_owned()).filter(|reason| {
            // Auto's own are such words; nothing else may come in by this way.
            reason.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        }),
    }
}

/// A path as a pattern, and one that fits it.
pub fn pattern(path: &str) -> (String, String) {
    if !path.split('/').any(|part| part == MASK || part == NUMBER) {
        return (path.to_owned(), path.to_owned());
    }
    let (mut tokens, mut numbers) = (0_usize, 0_usize);
    let mut one = Vec::new();
    let segments = path.split('/').map(|segment| {
        let (word, count, made) = match segment {
            MASK => ("token", &mut tokens, "made-up-1"),
            NUMBER => ("id", &mut numbers, "7"),
            other => {
                one.push(other.to_owned());
                return other.to_owned();
            }
        };
        *count += 1;
        one.push(made.to_owned());
        if *count == 1 { format!("{{{word}}}") } else { format!("{{{word}{count}}}") }
    });
    let pattern = format!("template:{}", segments.collect::<Vec<_>>().join("/"));
    (pattern, one.join("/"))
}
