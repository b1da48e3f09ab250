//! The draft itself: places, the signs that tell their outcomes apart, and text.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Sign;
use super::observe::{Observed, Seen, names_of};
use crate::event::text::MASK;
use crate::event::{Event, Outcome};

/// What a made-up person is called in a test.
const WHO: &str = "alice@example.test";

/// Events that a route can be written for; what belongs to a flow of several steps is left to auto.
const FAMILIES: &[(&str, &[&str])] = &[
    (
        "login",
        &[
            "user.login.success",
            "user.login.failed",
            "user.login.rejected",
            "user.login.unknown",
            "user.mfa.challenge.requested",
        ],
    ),
    ("logout", &["user.logout"]),
    ("password-change", &["user.password.changed"]),
    ("reset-request", &["user.password.reset_requested"]),
    ("reset", &["user.password.reset_completed"]),
    ("sign-up", &["user.created"]),
];

/// One exchange's outcome at a place, as a rule would name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Went {
    Ignored,
    Said(usize),
}

/// What the draft says beside its routes.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The application.
    pub upstream: &'a str,
    /// Where clients came in, if the traffic was live.
    pub listen: Option<&'a str>,
    /// What it was learnt from, in a few words.
    pub from: &'a str,
    /// False if routes are wanted even where there is a preset.
    pub presets: bool,
}

/// Writes the draft of a configuration.
pub fn draft(observed: &Observed, head: &Head<'_>) -> String {
    let mut out = format!(
        "# A draft, written by `authtap learn` from {}. Read it before you use it; then:\n\
         #   authtap check routes.yaml && authtap test routes.yaml\n\
         version: 1\n",
        comment(head.from)
    );
    // Writing to a text cannot fail.
    let _ = head.listen.map(|listen| writeln!(out, "listen: {}", quoted(listen)));
    let _ = writeln!(out, "upstream: {}", quoted(head.upstream));
    if let Some(found) = observed.presets.first().filter(|_| head.presets) {
        let _ = writeln!(
            out,
            "\n# This is an application that there is a preset for, by: {}.",
            comment(&found.signs.join(", "))
        );
        out.push_str("# Its routes are better than any that could be learnt from a recording.\n");
        let names: Vec<&str> = observed.presets.iter().map(|found| found.preset).collect();
        let _ = writeln!(out, "presets: [{}]", names.join(", "));
        out.push_str("\n# A preset is silent on purpose where auto would guess.\nauto: off\n");
        return out;
    }
    // What no route takes is still recognised by itself.
    out.push_str("\n# What no route below takes is recognised by what it looks like.\nauto: on\n");
    let mut routes = String::new();
    let mut left = Vec::new();
    let mut ids = BTreeMap::new();
    for ((method, path), place) in places(observed) {
        match route(&method, &path, &place, &mut ids) {
            Ok(Some(text)) => routes.push_str(&text),
            Ok(None) => {}
            Err(why) => left.push(format!("# {method} {}: {why}\n", comment(&path))),
        }
    }
    if !left.is_empty() {
        out.push_str("#\n# Left to that, as no rule could be written:\n");
        left.iter().for_each(|line| out.push_str(line));
    }
    match routes.is_empty() {
        true => out.push_str("\nroutes: []\n"),
        false => {
            out.push_str("\nroutes:\n");
            out.push_str(&routes);
        }
    }
    out
}

/// The exchanges of each place at which something happened.
fn places(observed: &Observed) -> BTreeMap<(String, String), Vec<&Seen>> {
    let mut places: BTreeMap<(String, String), Vec<&Seen>> = BTreeMap::new();
    for seen in &observed.seen {
        places.entry((seen.method.clone(), seen.path.clone())).or_default().push(seen);
    }
    places.retain(|_, all| all.iter().any(|seen| !seen.events.is_empty()));
    places
}

/// The route of a place; none if nothing was decided there, or why it cannot be written.
fn route(
    method: &str,
    path: &str,
    place: &[&Seen],
    ids: &mut BTreeMap<&'static str, usize>,
) -> Result<Option<String>, &'static str> {
    let types = || place.iter().flat_map(|seen| &seen.events).map(|event| event.event_type.as_str());
    let Some((family, _)) = FAMILIES.iter().find(|(_, names)| types().all(|name| names.contains(&name))) else {
        return Err("several kinds of events at one place, or steps of a flow");
    };
    if place.iter().any(|seen| seen.events.len() > 1) {
        return Err("several events of one exchange");
    }
    if place.iter().any(|seen| seen.events.iter().any(|event| event.outcome == Outcome::Unknown)) {
        return Err("the recording does not show every outcome");
    }
    // Outcomes in the order in which they were seen, each with its type and its exchanges.
    let mut outcomes: Vec<(Outcome, &str, Vec<&Seen>)> = Vec::new();
    let mut ignored: Vec<&Seen> = Vec::new();
    for seen in place {
        match seen.events.first() {
            None => ignored.push(seen),
            Some(event) => match outcomes.iter_mut().find(|(outcome, ..)| *outcome == event.outcome) {
                Some((_, name, all)) if *name == event.event_type.as_str() => all.push(seen),
                Some(_) => return Err("one outcome under two names"),
                None => outcomes.push((event.outcome, event.event_type.as_str(), vec![seen])),
            },
        }
    }
    let mut all: Vec<(Went, &[&Seen])> =
        outcomes.iter().enumerate().map(|(i, (.., seen))| (Went::Said(i), seen.as_slice())).collect();
    if !ignored.is_empty() {
        all.push((Went::Ignored, ignored.as_slice()));
    }
    let mut rules = Vec::new();
    for (went, mine) in &all {
        let others: Vec<&Seen> =
            all.iter().filter(|(other, _)| other != went).flat_map(|(_, seen)| seen.iter().copied()).collect();
        let Some(signs) = telling(mine, &others) else { return Err("no sign of the answer tells its outcomes apart") };
        rules.push((*went, signs));
    }
    let count = ids.entry(family).or_default();
    *count += 1;
    let id = if *count == 1 { (*family).to_owned() } else { format!("{family}-{count}") };

    let mut out = String::new();
    let shown = path_of(path);
    // Writing to a text cannot fail.
    let _ = writeln!(out, "  # Seen {} times.", place.len());
    let _ = writeln!(out, "  - id: {id}\n    match: {{ method: {method}, path: {} }}", quoted(&shown));
    let sources = actor(&outcomes);
    if !sources.is_empty() {
        let parts: Vec<String> = sources.iter().map(|(key, source)| format!("{key}: {}", quoted(source))).collect();
        let _ = writeln!(out, "    actor: {{ {} }}", parts.join(", "));
    }
    if *family == "login" {
        out.push_str("    method: password\n");
        if let Some(token) =
            outcomes.iter().find(|(o, ..)| *o == Outcome::Success).and_then(|(.., seen)| seen.first()?.tokens.first())
        {
            let _ = writeln!(out, "    session: {{ token: {} }}", quoted(&format!("response.json:{token}")));
        }
    }
    out.push_str("    rules:\n");
    for (went, signs) in &rules {
        let (outcome, reason) = match went {
            Went::Ignored => ("ignore", ""),
            Went::Said(i) => match outcomes.get(*i) {
                Some((Outcome::Failure, "user.login.failed", _)) => ("failure", ", reason: invalid_credentials"),
                Some((outcome, ..)) => (outcome.as_str(), ""),
                None => continue,
            },
        };
        let _ = writeln!(out, "      - {{ when: {}, outcome: {outcome}{reason} }}", when(signs));
    }
    let default = if *family == "login" { "unknown" } else { "ignore" };
    let emit: Vec<String> = outcomes.iter().map(|(outcome, name, _)| format!("{outcome}: {name}")).collect();
    let _ = writeln!(out, "    default: {default}\n    emit: {{ {} }}\n    tests:", emit.join(", "));
    for (went, _) in &rules {
        let (name, seen, expect) = match went {
            Went::Ignored => ("nothing happened", ignored.first(), "none".to_owned()),
            Went::Said(i) => {
                let Some((outcome, name, seen)) = outcomes.get(*i) else { continue };
                let known = sources.iter().find(|(key, source)| *key == "login" && !source.starts_with("response"));
                let who = known.map_or_else(String::new, |_| format!(", actor: {{ login: {WHO} }}"));
                (outcome.as_str(), seen.first(), format!("{{ event_type: {name}{who} }}"))
            }
        };
        if let Some(seen) = seen {
            let _ = writeln!(
                out,
                "      - {{ name: {name}, request: {}, response: {}, expect: {expect} }}",
                request(seen, &shown, &sources),
                response(seen)
            );
        }
    }
    Ok(Some(out))
}

/// The fewest signs that all of these have and none of the others; the most telling first.
fn telling(mine: &[&Seen], others: &[&Seen]) -> Option<Vec<Sign>> {
    let first = mine.first()?;
    let common: Vec<&Sign> =
        first.signs.iter().filter(|sign| mine.iter().all(|seen| seen.signs.contains(sign))).collect();
    let alone = |signs: &[&Sign]| !others.iter().any(|seen| signs.iter().all(|sign| seen.signs.contains(sign)));
    if others.is_empty() {
        // Nothing to be told from: what may come that was not recorded should not pass easily.
        let strongest = common.iter().find(|sign| !matches!(sign, Sign::Status(_)));
        let status = common.iter().find(|sign| matches!(sign, Sign::Status(_)));
        let both: Vec<Sign> = strongest.into_iter().chain(status).map(|sign| (*sign).clone()).collect();
        return (!both.is_empty()).then_some(both);
    }
    if let Some(one) = common.iter().find(|sign| alone(&[**sign])) {
        return Some(vec![(*one).clone()]);
    }
    for (i, one) in common.iter().enumerate() {
        for other in common.iter().skip(i + 1).filter(|other| key(one) != key(other)) {
            if alone(&[*one, *other]) {
                return Some(vec![(*one).clone(), (*other).clone()]);
            }
        }
    }
    None
}

/// The key of a condition, of which a mapping can have one only.
fn key(sign: &Sign) -> &'static str {
    match sign {
        Sign::Cookie(_) => "set_cookie",
        Sign::Json(..) => "json",
        Sign::AsksPassword => "body",
        Sign::Status(_) => "status",
        Sign::Location(_) => "location.path",
        Sign::SessionKnown(_) => "session",
    }
}

fn when(signs: &[Sign]) -> String {
    let one = |sign: &Sign| {
        let value = match sign {
            Sign::Cookie(name) => format!("{{ {}: changed }}", quoted(name)),
            Sign::Json(pointer, None) => format!("{{ {}: present }}", quoted(pointer)),
            Sign::Json(pointer, Some(yes)) => format!("{{ {}: \"{yes}\" }}", quoted(pointer)),
            Sign::AsksPassword => "{ regex: '(?i)type\\s*=\\s*[\"'']?password' }".to_owned(),
            Sign::Status(status) => status.to_string(),
            Sign::Location(path) => quoted(path),
            Sign::SessionKnown(true) => "known".to_owned(),
            Sign::SessionKnown(false) => "unknown".to_owned(),
        };
        format!("{}: {value}", key(sign))
    };
    format!("{{ {} }}", signs.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// Where the names of actors stood, in every exchange that has one.
fn actor(outcomes: &[(Outcome, &str, Vec<&Seen>)]) -> Vec<(&'static str, String)> {
    let events: Vec<(&Seen, &Event)> = outcomes
        .iter()
        .flat_map(|(.., seen)| seen)
        .flat_map(|seen| seen.events.first().map(|event| (*seen, event)))
        .collect();
    let mut found = Vec::new();
    for key in ["id", "login", "email"] {
        let named: Vec<(&Seen, &str)> = events
            .iter()
            .filter_map(|(seen, event)| Some((*seen, names_of(&event.actor).into_iter().find(|(k, _)| *k == key)?.1?)))
            .collect();
        let Some((seen, name)) = named.first() else { continue };
        let everywhere = |source: &&str| named.iter().all(|(seen, name)| seen.sources_of(name).any(|s| s == *source));
        if let Some(source) = seen.sources_of(name).find(everywhere) {
            found.push((key, source.to_owned()));
        }
    }
    found
}

/// The request of a test: the recording's names with made-up values.
fn request(seen: &Seen, path: &str, sources: &[(&'static str, String)]) -> String {
    let value = |source: String| if sources.iter().any(|(_, known)| *known == source) { WHO } else { "made-up" };
    let mut parts = Vec::new();
    if path.starts_with("template:") {
        parts.push(format!("path: {}", quoted(&seen.path.replace(MASK, "made-up-1"))));
    }
    if !seen.form.is_empty() {
        let fields = seen.form.iter().map(|name| format!("{}: {}", quoted(name), value(format!("form.{name}"))));
        parts.push(format!("form: {{ {} }}", fields.collect::<Vec<_>>().join(", ")));
    } else if !seen.json.is_empty() {
        let mut json = serde_json::Value::Null;
        for pointer in &seen.json {
            put(&mut json, pointer, value(format!("json:{pointer}")).into());
        }
        parts.push(format!("json: {json}"));
    }
    if seen.signs.contains(&Sign::SessionKnown(true)) {
        parts.push(format!("session: {{ login: {WHO} }}"));
    }
    format!("{{ {} }}", parts.join(", "))
}

/// The answer of a test, with every sign that the recorded one had.
fn response(seen: &Seen) -> String {
    let mut parts = vec!["status: 200".to_owned()];
    let mut json = serde_json::Value::Null;
    let mut cookies = Vec::new();
    for sign in &seen.signs {
        match sign {
            Sign::Status(status) => parts[0] = format!("status: {status}"),
            Sign::Location(path) => parts.push(format!("location: {}", quoted(path))),
            Sign::AsksPassword => parts.push("body: '<input type=\"password\">'".into()),
            Sign::Json(pointer, yes) => put(&mut json, pointer, yes.map_or_else(|| "made-up".into(), Into::into)),
            Sign::Cookie(name) => cookies.push(format!("{}: made-up", quoted(name))),
            Sign::SessionKnown(_) => {}
        }
    }
    if !json.is_null() {
        parts.push(format!("json: {json}"));
    }
    if !cookies.is_empty() {
        parts.push(format!("set_cookie: {{ {} }}", cookies.join(", ")));
    }
    format!("{{ {} }}", parts.join(", "))
}

/// Puts a value at a pointer; what stood above it and was no object becomes one.
fn put(json: &mut serde_json::Value, pointer: &str, value: serde_json::Value) {
    let mut at = json;
    for name in pointer.split('/').skip(1) {
        if !at.is_object() {
            *at = serde_json::Value::Object(serde_json::Map::new());
        }
        let serde_json::Value::Object(members) = at else { return };
        at = members.entry(name).or_insert(serde_json::Value::Null);
    }
    // Its members came first.
    if !at.is_object() {
        *at = value;
    }
}

/// A path as a pattern.
fn path_of(path: &str) -> String {
    if !path.contains(MASK) {
        return path.to_owned();
    }
    let mut number = 0;
    let segments = path.split('/').map(|segment| match segment {
        MASK => {
            number += 1;
            if number == 1 { "{token}".to_owned() } else { format!("{{token{number}}}") }
        }
        other => other.to_owned(),
    });
    format!("template:{}", segments.collect::<Vec<_>>().join("/"))
}

/// A text as YAML; JSON's quotes are YAML's too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A text that cannot end its comment.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}
