//! Presets: routes that are shipped, one YAML file an application.
//!
//! To add one: `NAME.yaml` in this folder and its line in [`PRESETS`]; `docs/writing-a-preset.md`
//! says what stands in the file. A preset is compiled only where a configuration names it. It must
//! never be about another application's requests more than it can help: each of its routes names
//! a path, or a field that tells it. The invariant: a preset that is shipped has no problem and its tests hold, wherever it
//! is mounted (the tests of this module see to that), so that a user is never told of one.

mod mount;
pub mod recognise;
#[cfg(test)]
mod tests;

use http::HeaderName;

use super::declared;
use super::route::{self, Route};
use crate::config::node::{Map, Node, Value, clip, suggest};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::event::Text;
use crate::session::SessionConfig;

/// One file of this folder.
#[derive(Debug)]
pub struct Preset {
    /// Its name in `presets:`.
    pub name: &'static str,
    /// The file.
    pub source: &'static str,
}

macro_rules! preset {
    ($name:literal) => {
        Preset { name: $name, source: include_str!(concat!($name, ".yaml")) }
    };
}

/// Every preset, by name.
pub const PRESETS: &[Preset] = &[
    preset!("aspnet-identity"),
    preset!("authjs"),
    preset!("better-auth"),
    preset!("devise"),
    preset!("directus"),
    preset!("discourse"),
    preset!("django"),
    preset!("django-allauth"),
    preset!("dokuwiki"),
    preset!("drupal"),
    preset!("ghost"),
    preset!("gitea"),
    preset!("gitlab"),
    preset!("grafana"),
    preset!("jenkins"),
    preset!("joomla"),
    preset!("jupyterhub"),
    preset!("keycloak"),
    preset!("laravel"),
    preset!("mattermost"),
    preset!("mediawiki"),
    preset!("moodle"),
    preset!("n8n"),
    preset!("nextcloud"),
    preset!("oidc"),
    preset!("ory-kratos"),
    preset!("passport"),
    preset!("phoenix"),
    preset!("phpmyadmin"),
    preset!("redmine"),
    preset!("roundcube"),
    preset!("sonarqube"),
    preset!("spring-security"),
    preset!("strapi"),
    preset!("supabase-auth"),
    preset!("superset"),
    preset!("symfony"),
    preset!("wordpress"),
];

/// The names, in the order of [`PRESETS`].
pub const NAMES: &[&str] = &{
    let mut names = [""; PRESETS.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = PRESETS[i].name;
        i += 1;
    }
    names
};

/// The keys of an entry of `presets:` that says more than a name.
pub const FIELDS: &[Field] = &[
    Field::required("name", Kind::Word(NAMES), "which one: a name that `authtap presets` lists"),
    Field::new("base", Kind::Str, "/", "where the application is mounted, like /blog: stands before every path"),
    Field::new("host", Kind::OneOrList(&Kind::Str), "any", "only requests for these hosts, as in a route's `match`"),
    Field::new("without", Kind::OneOrList(&Kind::Str), "[]", "routes of it to leave out, by their id in the preset"),
];

/// What stands in `preset:`.
pub const ONE: Kind = Kind::Any(&[Kind::Word(NAMES), Kind::Named("preset", || &Kind::Map(FIELDS))]);
/// What stands in `presets:`.
pub const SEVERAL: Kind = Kind::OneOrList(&ONE);

const HOW: &[&str] = &["run", "source", "docs"];

const VERIFIED: &[Field] = &[
    Field::required("how", Kind::Word(HOW), "run (held against the running application), source or docs (read)"),
    Field::new("versions", Kind::OneOrList(&Kind::Str), "[]", "the versions of the application that were looked at"),
    Field::new("note", Kind::Str, "", "what else a reader should know"),
];

const SESSION: &[Field] = &[
    Field::new("cookies", Kind::OneOrList(&Kind::Str), "[]", "as in `session:` of the configuration"),
    Field::new("bearer", Kind::Bool, "", "false: `Authorization` carries no session of this application"),
    Field::new("headers", Kind::OneOrList(&Kind::Str), "[]", "as in `session:` of the configuration"),
];

/// The keys of a preset's file, in this order; `routes` is the last, so that the rest can be read alone.
const FILE: &[Field] = &[
    Field::required("preset", Kind::Str, "its name"),
    Field::required("title", Kind::Str, "the application's name"),
    Field::required("verified", Kind::Map(VERIFIED), "how it is known that it is true"),
    Field::new("recognise", Kind::Map(recognise::FIELDS), "", "signs by which the application is recognised"),
    Field::new("session", Kind::Map(SESSION), "", "where the application carries its sessions"),
    Field::new("routes", Kind::List(&Kind::Map(route::FIELDS)), "[]", "as in the configuration, tests beside each"),
];

/// How a preset is known to be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// `run`, `source` or `docs`.
    pub how: &'static str,
    /// The versions of the application that were looked at.
    pub versions: Vec<String>,
    /// What else a reader should know.
    pub note: String,
}

/// What a preset's file says before its routes.
#[derive(Debug)]
pub struct Head {
    /// The application's name.
    pub title: String,
    /// How it is known to be true.
    pub verified: Verified,
}

/// A preset that a configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Which.
    pub name: &'static str,
    /// Where the application is mounted; empty is the root.
    pub base: String,
    /// How many routes it brought.
    pub routes: usize,
}

impl Chosen {
    /// Where the application is mounted, as it is written.
    pub fn base(&self) -> &str {
        if self.base.is_empty() { "/" } else { &self.base }
    }
}

impl Preset {
    /// What stands before `routes:`, which is the last key and most of the file.
    fn before_routes(&self, problems: &mut Problems) -> Option<Node> {
        let before = self.source.find("\nroutes:").and_then(|end| self.source.get(..end))?;
        Node::parse(before, problems)
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<&'static Preset> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// What the file says before its routes, read without them. `None` only of a broken file, which
    /// is not shipped.
    pub fn head(&self) -> Option<Head> {
        let mut problems = Problems::new(self.name, self.source);
        let root = self.before_routes(&mut problems)?;
        let map = root.map(FILE, &mut problems)?;
        let verified = map.get("verified")?.map(VERIFIED, &mut problems)?;
        Some(Head {
            title: map.str("title", &mut problems)?.to_owned(),
            verified: Verified {
                how: verified.one_of("how", HOW, &mut problems)?,
                versions: texts(&verified, "versions", &mut problems),
                note: verified.str("note", &mut problems).unwrap_or_default().to_owned(),
            },
        })
    }
}

/// A preset as a configuration asks for it, read but not yet compiled.
#[derive(Debug)]
pub struct Asked {
    /// Which, and where it is mounted.
    pub chosen: Chosen,
    root: Node,
    /// What is wrong with the file itself; nothing, of what is shipped.
    problems: Problems,
}

/// Reads `preset:` and `presets:` of the configuration.
pub fn check(map: &Map<'_>, problems: &mut Problems) -> Vec<Asked> {
    let mut found: Vec<Asked> = Vec::new();
    for node in map.items("preset").iter().chain(map.items("presets")) {
        let Some(asked) = ask(node, problems) else { continue };
        let twice =
            |before: &&Asked| before.chosen.name == asked.chosen.name && before.chosen.base == asked.chosen.base;
        if found.iter().find(twice).is_some() && node.child("host").is_none() {
            let message = format!("the preset `{}` stands twice", asked.chosen.name);
            problems.error_hint(node, message, "give one of them another `base` or a `host`, or take it away");
            continue;
        }
        found.push(asked);
    }
    found
}

fn ask(node: &Node, problems: &mut Problems) -> Option<Asked> {
    let (at, base, hosts, without) = match &node.value {
        Value::Map(_) => {
            let map = node.map(FIELDS, problems)?;
            let base = map.get("base").map_or(Some(String::new()), |at| base(at, problems));
            let hosts: Vec<Node> = map.get("host").map_or(&[][..], |at| at.some(problems)).to_vec();
            (map.get("name")?, base?, hosts, map.items("without"))
        }
        _ => (node, String::new(), Vec::new(), &[][..]),
    };
    let name = at.str(problems)?;
    let Some(preset) = Preset::named(name) else {
        let hint = match suggest(name, NAMES) {
            meant if meant.starts_with("did you mean") => meant,
            _ => "`authtap presets` lists them; an application without one needs `routes:` of its own".into(),
        };
        problems.error_hint(at, format!("there is no preset `{}`", clip(name)), &hint);
        return None;
    };
    let mut own = Problems::new(&format!("preset {name}"), preset.source);
    let Some(mut root) = Node::parse(preset.source, &mut own) else {
        problems.error(at, format!("the preset `{name}` cannot be read: {own}"));
        return None;
    };
    root.map(FILE, &mut own);
    if let Some(signs) = root.child("recognise") {
        recognise::read(signs, &mut own);
    }
    leave_out(&mut root, name, without, problems);
    if !base.is_empty() || !hosts.is_empty() {
        mount::mount(&mut root, &base, &hosts);
    }
    Some(Asked { chosen: Chosen { name: preset.name, base, routes: 0 }, root, problems: own })
}

/// Reads the path under which an application is mounted; the root is empty.
fn base(node: &Node, problems: &mut Problems) -> Option<String> {
    let text = node.str(problems)?;
    let base = text.trim_end_matches('/');
    if base.is_empty() && text.starts_with('/') {
        return Some(String::new());
    }
    if !base.starts_with('/') || base.contains(['*', '{', '}', '?', '#', '%', ':']) || base.contains("//") {
        let hint = "write the path before which the application's own begin, like /blog";
        problems.error_hint(node, format!("`{}` is not where an application is mounted", clip(text)), hint);
        return None;
    }
    Some(base.to_owned())
}

/// Takes routes out of a preset's file.
fn leave_out(root: &mut Node, name: &str, without: &[Node], problems: &mut Problems) {
    for at in without {
        let Some(unwanted) = at.str(problems) else { continue };
        let Some(routes) = mount::list_mut(root, "routes") else { return };
        let id = |route: &Node| route.child("id").and_then(Node::scalar).unwrap_or_default().to_owned();
        let unwanted = unwanted.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')).unwrap_or(unwanted);
        let before = routes.len();
        let ids: Vec<String> = routes.iter().map(id).collect();
        routes.retain(|route| id(route) != unwanted);
        if routes.len() == before {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let message = format!("the preset `{name}` has no route `{}`", clip(unwanted));
            problems.error_hint(at, message, &suggest(unwanted, &ids));
        }
    }
}

impl Asked {
    /// Adds where this application carries its sessions.
    fn add_session(&mut self, session: &mut SessionConfig) {
        let Some(map) = self.root.child("session").and_then(|node| node.map(SESSION, &mut self.problems)) else {
            return;
        };
        for cookie in texts(&map, "cookies", &mut self.problems) {
            if !session.cookies.contains(&cookie) {
                session.cookies.push(cookie);
            }
        }
        for text in texts(&map, "headers", &mut self.problems) {
            match HeaderName::from_bytes(text.as_bytes()) {
                Ok(name) if !session.headers.contains(&name) => session.headers.push(name),
                Ok(_) => {}
                Err(_) => self.problems.error(map.node, format!("`{}` is not a header name", clip(&text))),
            }
        }
    }

    /// What it says of `Authorization`: whether it carries sessions.
    fn bearer(&mut self) -> Option<bool> {
        self.root.child("session")?.child("bearer")?.bool(&mut self.problems)
    }

    /// Its routes, compiled. `session` is that of the whole configuration. A problem of the preset's
    /// own is told at the place that asks for it.
    pub fn routes(&mut self, session: &SessionConfig, problems: &mut Problems) -> Vec<Route> {
        let name = self.chosen.name;
        let nodes = self.root.child("routes").map_or(&[][..], Node::items);
        let mut routes = Vec::with_capacity(nodes.len());
        for node in nodes {
            let Some(mut route) = Route::check(node, &session.cookies, &mut self.problems) else { continue };
            declared::check(node, session, true, &mut self.problems);
            route.id = Text::identifier(&format!("{name}.{}", route.id)).unwrap_or(route.id);
            route.preset = Some(Text::fixed(name));
            routes.push(route);
        }
        if self.problems.has_errors() {
            let told = self.problems.sorted().first().map(|p| format!("{}: {}", p.path, p.message)).unwrap_or_default();
            let message = format!("the preset `{name}` cannot be used with this configuration: {told}");
            problems.push(crate::config::problem::Problem::error(0..0, "presets", message));
        }
        self.chosen.routes = routes.len();
        routes
    }
}

/// Adds what the presets say of sessions to what the configuration says, which outweighs.
pub fn merge_sessions(asked: &mut [Asked], said: Option<&Node>, session: &mut SessionConfig) {
    for preset in asked.iter_mut() {
        preset.add_session(session);
    }
    let own = said.is_some_and(|node| node.child("bearer").is_some());
    if !own && !asked.is_empty() {
        session.bearer = asked.iter_mut().any(|preset| preset.bearer().unwrap_or(true));
    }
}

fn texts(map: &Map<'_>, key: &str, problems: &mut Problems) -> Vec<String> {
    map.items(key).iter().filter_map(|item| item.str(problems).map(str::to_owned)).collect()
}
