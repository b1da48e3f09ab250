//! Which events a sink gets.
//!
//! It must never leave out what authtap says of itself because of a sample, and silence no sink by a slip in
//! a pattern without a word. The invariant: whether an event is in a sample follows from its id alone, so
//! that it is the same after a restart and for every sink.

use crate::config::node::{Map, Node, clip, suggest};
use crate::config::problem::Problems;
use crate::event::kind::{EventType, VOCABULARY};
use crate::event::{Event, EventId, Outcome};

use super::OUTCOMES;

/// The most organizations of one list.
const MAX_ORGANIZATIONS: usize = 256;

/// Which events a sink gets: those of `only` (all if it is empty) without those of `except`.
/// Types are compared by their canonical names, whatever names the sink writes.
///
/// [`Filter::wants`] asks for the type alone, [`Filter::takes`] for all that was configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    only: Vec<Glob>,
    except: Vec<Glob>,
    outcomes: Vec<Outcome>,
    organizations: Vec<String>,
    /// The share that is taken, in parts of `u32::MAX`; `None` is all.
    sample: Option<u32>,
}

impl Filter {
    /// A filter of these globs; `None` if one of them could match no event type.
    pub fn new(only: &[&str], except: &[&str]) -> Option<Filter> {
        let globs = |list: &[&str]| list.iter().map(|text| Glob::parse(text)).collect::<Option<Vec<_>>>();
        Some(Filter { only: globs(only)?, except: globs(except)?, ..Filter::default() })
    }

    /// True if the sink gets this event: by its type, outcome, organization, and the sample.
    pub fn takes(&self, event: &Event) -> bool {
        let event_type = event.event_type.as_str();
        let organization = event.organization.as_ref().map(|o| o.id.as_str());
        self.wants(event_type)
            && (self.outcomes.is_empty() || self.outcomes.contains(&event.outcome))
            && (self.organizations.is_empty()
                || organization.is_some_and(|id| self.organizations.iter().any(|o| o == id)))
            && self.sample.is_none_or(|share| is_told_always(event_type) || chance(&event.id) < share)
    }

    /// True if the sink gets events of this type.
    pub fn wants(&self, event_type: &str) -> bool {
        (self.only.is_empty() || self.only.iter().any(|g| g.matches(event_type)))
            && !self.except.iter().any(|g| g.matches(event_type))
    }

    /// Reads what a sink's configuration says of it.
    pub(super) fn check(map: &Map<'_>, problems: &mut Problems) -> Filter {
        let mut globs = |key| map.items(key).iter().filter_map(|item| Glob::check(item, problems)).collect();
        let (only, except) = (globs("only"), globs("except"));
        let outcomes = map.items("outcome").iter();
        let outcomes = outcomes.filter_map(|item| item.one_of(OUTCOMES, problems).and_then(Outcome::parse)).collect();
        let organizations = map.items("organization");
        if let Some(beyond) = organizations.get(MAX_ORGANIZATIONS) {
            problems.error(beyond, format!("more than {MAX_ORGANIZATIONS} organizations"));
        }
        let organizations = organizations
            .iter()
            .filter_map(|item| item.str(problems).map(str::to_owned))
            .take(MAX_ORGANIZATIONS)
            .collect();
        Filter { only, except, outcomes, organizations, sample: map.get("sample").and_then(|at| share(at, problems)) }
    }
}

/// `sample:`; `None` is all, also after an error.
fn share(at: &Node, problems: &mut Problems) -> Option<u32> {
    match at.scalar().and_then(|text| text.parse::<f64>().ok()) {
        Some(share) if (0.0..1.0).contains(&share) => Some((share * f64::from(u32::MAX)) as u32),
        Some(1.0) => None,
        _ => {
            let hint = "write a share from 0 to 1: 0.1 is every tenth";
            problems.error_hint(at, format!("`sample` cannot be {}", at.describe()), hint);
            None
        }
    }
}

/// What authtap says of itself and what it found must not be lost to a sample.
fn is_told_always(event_type: &str) -> bool {
    event_type.starts_with("authtap.") || event_type.starts_with("detection.")
}

/// A number that follows from the id alone, spread evenly.
fn chance(id: &EventId) -> u32 {
    let hash = blake3::hash(id.to_string().as_bytes());
    hash.as_bytes().first_chunk().map_or(0, |four| u32::from_le_bytes(*four))
}

/// A pattern for event types: `*` stands for any run of characters, dots included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob(String);

impl Glob {
    /// No event type is longer ([`EventType::parse`]).
    const MAX: usize = 100;

    pub(super) fn parse(text: &str) -> Option<Glob> {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'*');
        (!text.is_empty() && text.len() <= Glob::MAX && text.bytes().all(known)).then(|| Glob(text.to_owned()))
    }

    fn check(at: &Node, problems: &mut Problems) -> Option<Glob> {
        let text = at.str(problems)?;
        let Some(glob) = Glob::parse(text) else {
            let message = format!("`{}` matches no event type", clip(text));
            problems.error_hint(at, message, "write a type like user.login.failed, or a pattern like user.login.*");
            return None;
        };
        if let Some(hint) = glob.misspelling() {
            let message = format!("`{}` matches no event type of the vocabulary", clip(text));
            problems.warn(at, message, &format!("{hint} (fine if a route of yours emits it)"));
        }
        Some(glob)
    }

    /// A hint if this matches nothing known by name but looks like something that is: a filter
    /// with a slip in it would silence a sink without a word.
    fn misspelling(&self) -> Option<String> {
        if VOCABULARY.iter().any(|k| self.matches(k.name)) || self.0.starts_with("detection.") {
            return None;
        }
        let stem = self.0.trim_end_matches('*').trim_end_matches('.');
        if stem.contains('*') || EventType::parse(stem).is_some_and(|t| t.is_known()) {
            return None;
        }
        let mut names: Vec<&str> = Vec::new();
        for known in VOCABULARY {
            let ends = known.name.match_indices('.').map(|(at, _)| at).chain([known.name.len()]);
            names.extend(ends.filter_map(|end| known.name.get(..end)));
        }
        let hint = suggest(stem, &names);
        hint.starts_with("did you mean").then_some(hint)
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        let Some((head, tail)) = self.0.split_once('*') else { return self.0 == name };
        let (middle, end) = tail.rsplit_once('*').unwrap_or(("", tail));
        let Some(mut rest) = name.strip_prefix(head).and_then(|rest| rest.strip_suffix(end)) else { return false };
        // The earliest place for each piece leaves the most room for the next.
        for piece in middle.split('*') {
            let Some((_, after)) = rest.split_once(piece) else { return false };
            rest = after;
        }
        true
    }
}
