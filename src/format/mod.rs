//! How an event is written for a receiver: the formats, and what is chosen of an event for one sink.
//!
//! A format turns one event into one text. Which parts of the event it may see (`fields`) and how
//! its type is spelt (`names`) is decided before, so that what a sink leaves out is left out of
//! every format. It must never let a client's text break a record: each format escapes for its own
//! syntax, and the result never holds a line end. The invariant: the same event and the same
//! choice give the same text.
//!
//! To add one: a file in this folder with its `KIND`, and a line in [`FORMATS`].

pub mod cef;
pub mod cloudevents;
pub mod ecs;
pub mod leef;
pub mod line;
pub mod litesoc;
pub mod native;
pub mod ocsf;
pub mod shaped;
pub mod template;
pub mod tree;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;

use self::tree::Tree;
use crate::config::node::{Map, Node, Value, clip, suggest};
use crate::config::problem::{Problem, Problems};
use crate::config::shape::{Field, Kind};
use crate::event::Event;
use crate::event::names::{self, Names};
use crate::spool::Stored;

/// Every format there is, in the order of the documentation.
pub const FORMATS: &[FormatKind] = &[
    native::KIND,
    ocsf::KIND,
    ecs::KIND,
    cloudevents::KIND,
    cef::KIND,
    leef::KIND,
    litesoc::KIND,
    line::KIND,
    template::KIND,
];

/// What stands under `format:`; a format that needs no settings may be named by its word alone.
pub const KIND: Kind = Kind::Any(&[
    Kind::Word(&["native", "json", "ocsf", "ecs", "cloudevents", "cef", "leef", "litesoc", "line"]),
    Kind::Tagged("format", schema_table),
]);

/// The field of a sink that writes any format; `default` is what it writes without it.
pub const fn field(default: &'static str) -> Field {
    Field::new("format", KIND, default, "how an event is written: a word, or `{ type: …, … }` with settings")
}

/// The fields of a choice that every sink has.
pub const NAMES: Field = Field::new(
    "names",
    Kind::Word(names::WORDS),
    "canonical",
    "how event types are spelt: `auth` is the second spelling (auth.login.failure); filters keep to the canonical one",
);

/// The field that chooses parts of an event.
pub const SELECT: Field = Field::new(
    "fields",
    Kind::Named("sink_fields", || &Kind::Map(SELECT_FIELDS)),
    "",
    "the parts of an event this sink may see, by JSON pointer: only those of `keep`, and none of `drop`",
);

const SELECT_FIELDS: &[Field] = &[
    Field::new("keep", Kind::OneOrList(&Kind::Str), "", "pointers to what stays: /actor, /metadata/ip_address"),
    Field::new("drop", Kind::OneOrList(&Kind::Str), "", "pointers to what goes: /metadata/user_agent"),
];

/// What no choice can take away: without these nobody could tell events apart.
const ALWAYS: &[&str] = &["/schema_version", "/id", "/event_type", "/timestamp", "/outcome"];

/// The most pointers of one list.
const MAX_POINTERS: usize = 64;

/// One entry of [`FORMATS`].
pub struct FormatKind {
    /// The word of `format:`.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub doc: &'static str,
    /// Its settings besides `type`.
    pub fields: &'static [Field],
    /// What its texts are.
    pub media: Media,
    /// Reads its settings; the mapping holds no `type`.
    pub check: fn(&Map<'_>, &mut Problems) -> Option<Arc<dyn Format>>,
}

/// What a text is when it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media {
    /// The word of the format.
    pub format: &'static str,
    /// The media type of one event.
    pub one: &'static str,
    /// The media type of a JSON array of events; `None` if an event is not JSON.
    pub list: Option<&'static str>,
}

impl Media {
    /// JSON without a media type of its own.
    pub const fn json(format: &'static str) -> Media {
        Media { format, one: "application/json", list: Some("application/json") }
    }

    /// Plain text.
    pub const fn text(format: &'static str) -> Media {
        Media { format, one: "text/plain; charset=utf-8", list: None }
    }

    /// The media type of one event a line.
    pub fn lines(&self) -> &'static str {
        if self.list.is_some() { "application/x-ndjson" } else { "text/plain; charset=utf-8" }
    }
}

/// One way of writing an event.
pub trait Format: fmt::Debug + Send + Sync {
    /// The event as one text without a line end.
    ///
    /// # Errors
    /// The event cannot be written; only a template has a reason to.
    fn write(&self, record: &Record<'_>) -> Result<String, FormatError>;
}

/// Why an event cannot be written. Carries nothing of the event.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The line of an event does not read back.
    #[error("an event cannot be read back")]
    Unreadable,
    /// The template failed.
    #[error("the template fails: {0}")]
    Template(String),
    /// The template wrote too much.
    #[error("the template writes more than {0} bytes for one event")]
    TooLong(usize),
}

/// An event as a format sees it.
pub struct Record<'r> {
    /// The event itself, for what no choice can take away: id, time, type, outcome.
    pub event: &'r Event,
    /// What the sink may see of it, its type spelt as chosen.
    pub tree: &'r Tree,
}

impl Record<'_> {
    /// The type as the sink spells it.
    pub fn event_type(&self) -> &str {
        self.tree.str("/event_type").unwrap_or_else(|| self.event.event_type.as_str())
    }
}

/// What one sink makes of an event: format, spelling and choice of parts.
#[derive(Clone, Debug)]
pub struct Shape {
    format: Arc<dyn Format>,
    media: Media,
    /// The format is the stored line itself.
    native: bool,
    names: Names,
    select: Select,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            format: Arc::new(native::Native),
            media: native::KIND.media,
            native: true,
            names: Names::Canonical,
            select: Select::default(),
        }
    }
}

impl Shape {
    /// Reads `names`, `fields`, and the format: what stands at `format`, or the one called `default`.
    /// A word of `own` belongs to the sink, which is given the native form.
    pub fn check(
        common: &Map<'_>,
        format: Option<&Node>,
        default: &str,
        own: &'static [&'static str],
        problems: &mut Problems,
    ) -> Option<Shape> {
        let names = common.one_of("names", names::WORDS, problems).map_or(Names::Canonical, Names::of);
        let select = Select::check(common.get("fields"), problems);
        let word = format.map_or(Some(default), Node::scalar);
        if let Some(word) = word.and_then(|word| own.iter().find(|w| **w == word)) {
            let media = Media { format: word, ..native::KIND.media };
            return Some(Shape { names, select: select?, media, ..Shape::default() });
        }
        let (format, media) = match format {
            Some(node) => check_format(node, own, problems)?,
            None => by_name(default)?,
        };
        let native = media == native::KIND.media;
        Some(Shape { format, media, native, names, select: select? })
    }

    /// What its texts are.
    pub fn media(&self) -> Media {
        self.media
    }

    /// True if the stored line is already what is wanted.
    pub fn is_plain(&self) -> bool {
        self.native && self.names == Names::Canonical && self.select.is_all()
    }

    /// The event in this shape.
    ///
    /// # Errors
    /// The format cannot write it.
    pub fn write(&self, stored: &Stored) -> Result<String, FormatError> {
        let mut tree = Tree::parse(&stored.line).map_err(|_| FormatError::Unreadable)?;
        let canonical = stored.event.event_type.as_str();
        if self.names != Names::Canonical {
            if let Some(reason) = self.names.reason(canonical)
                && tree.at("/reason").is_none()
            {
                tree.set("reason", reason, "outcome");
            }
            tree.set("event_type", self.names.spell(canonical), "id");
        }
        if !self.select.is_all() {
            tree.retain(&|pointer| self.select.keeps(pointer));
        }
        self.format.write(&Record { event: &stored.event, tree: &tree })
    }
}

/// Every format with its settings, for the schema and the reference.
pub fn schema_table() -> Vec<(&'static str, Vec<&'static Field>)> {
    const TYPE: &Field = &Field::required("type", Kind::Str, "which format this is");
    FORMATS.iter().map(|kind| (kind.name, std::iter::once(TYPE).chain(kind.fields).collect())).collect()
}

/// The word that a `format:` names, wherever it stands; reports nothing.
pub fn word_of(node: &Node) -> Option<&str> {
    node.scalar().or_else(|| node.child("type").and_then(Node::scalar))
}

fn by_name(word: &str) -> Option<(Arc<dyn Format>, Media)> {
    let kind = FORMATS.iter().find(|kind| kind.name == word)?;
    let empty = Node { span: 0..0, path: String::new(), value: Value::Map(Vec::new()) };
    let mut none = Problems::new("", "");
    let map = empty.map(kind.fields, &mut none)?;
    Some(((kind.check)(&map, &mut none)?, kind.media))
}

fn check_format(node: &Node, own: &[&'static str], problems: &mut Problems) -> Option<(Arc<dyn Format>, Media)> {
    let names: Vec<&str> = own.iter().copied().chain(FORMATS.iter().map(|kind| kind.name)).collect();
    let at = match &node.value {
        Value::Map(_) => match node.child("type") {
            Some(at) => at,
            None => {
                problems.error_hint(
                    node,
                    "a format needs a `type`".into(),
                    &format!("known here: {}", names.join(", ")),
                );
                return None;
            }
        },
        _ => node,
    };
    let word = at.str(problems)?;
    let word = if word == "json" { "native" } else { word };
    let Some(kind) = FORMATS.iter().find(|kind| kind.name == word) else {
        problems.error_hint(at, format!("there is no format `{}`", clip(word)), &suggest(word, &names));
        return None;
    };
    let entries = match &node.value {
        Value::Map(entries) => entries.iter().filter(|(key, _)| key.text != "type").cloned().collect(),
        _ => Vec::new(),
    };
    let all: Vec<&str> = kind.fields.iter().map(|field| field.name).collect();
    if all.is_empty()
        && let Some((key, _)) = entries.first()
    {
        let problem = Problem::error(key.span.clone(), &node.path, format!("unknown key `{}`", clip(&key.text)));
        problems.push(problem.hint(&format!("the format {} has no settings", kind.name)));
        return None;
    }
    let settings = Node { span: node.span.clone(), path: node.path.clone(), value: Value::Map(entries) };
    let format = (kind.check)(&settings.map(kind.fields, problems)?, problems)?;
    Some((format, kind.media))
}

/// Which parts of an event a sink may see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Select {
    keep: Vec<String>,
    drop: Vec<String>,
}

impl Select {
    fn check(node: Option<&Node>, problems: &mut Problems) -> Option<Select> {
        let Some(node) = node else { return Some(Select::default()) };
        let map = node.map(SELECT_FIELDS, problems)?;
        let select = Select { keep: pointers(&map, "keep", problems)?, drop: pointers(&map, "drop", problems)? };
        for item in map.items("drop") {
            if let Some(text) = item.scalar()
                && ALWAYS.iter().any(|always| is_within(always, text))
            {
                let message = format!("`{}` cannot be left out", clip(text));
                problems.error_hint(item, message, "id, type, time, outcome and version belong to every event");
                return None;
            }
        }
        Some(select)
    }

    fn is_all(&self) -> bool {
        self.keep.is_empty() && self.drop.is_empty()
    }

    fn keeps(&self, pointer: &str) -> bool {
        if ALWAYS.contains(&pointer) {
            return true;
        }
        // On the way to a part that is kept, or inside of it.
        let kept = |keep: &String| is_within(pointer, keep) || is_within(keep, pointer);
        (self.keep.is_empty() || self.keep.iter().any(kept)) && !self.drop.iter().any(|drop| is_within(pointer, drop))
    }
}

/// True if `pointer` is `part` or lies inside of it.
fn is_within(pointer: &str, part: &str) -> bool {
    pointer.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn pointers(map: &Map<'_>, key: &str, problems: &mut Problems) -> Option<Vec<String>> {
    let items = map.items(key);
    if let Some(beyond) = items.get(MAX_POINTERS) {
        problems.error_hint(beyond, format!("more than {MAX_POINTERS} pointers"), "name a whole part: /metadata");
        return None;
    }
    let mut found = Vec::new();
    for item in items {
        let text = item.str(problems)?;
        let plain = |key: &str| !key.is_empty() && !key.contains('~');
        if !text.starts_with('/') || !text.split('/').skip(1).all(plain) {
            let message = format!("`{}` is no pointer to a part of an event", clip(text));
            problems.error_hint(item, message, "write /actor/email, as in docs/event-schema.md");
            return None;
        }
        found.push(text.to_owned());
    }
    Some(found)
}
