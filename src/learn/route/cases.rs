//! The tests of a route: for each way it went one exchange that was seen, with made-up values.
//!
//! Nothing that somebody typed may get into one.

use std::collections::BTreeSet;

use super::{Route, Then};
use crate::learn::observe::{Call, Seen};
use crate::learn::place::{Went, pattern};
use crate::learn::sign::Sign;
use crate::learn::yaml::Yaml;

/// What a made-up person is called in a test.
const WHO: &str = "alice@example.test";

impl Route<'_> {
    pub(super) fn tests(&self) -> Vec<Yaml> {
        let mut tests = Vec::new();
        let mut classes = BTreeSet::new();
        for (seen, example) in &self.examples {
            if !classes.insert(&example.class) {
                continue;
            }
            let followed = self.rules.iter().find(|(signs, _)| signs.iter().all(|sign| example.signs.contains(sign)));
            let followed = matches!(followed, Some((_, Then::Follows(_))));
            let (name, expect) = self.expected(&example.class, tests.len());
            let mut test =
                Yaml::map().with("name", Yaml::text(&name)).with("request", self.request(seen, &example.signs));
            test.put(&["response"], response(self.place.call.as_ref(), &example.signs));
            if let Some(next) = seen.next.as_ref().filter(|_| followed) {
                test.put(&["next", "response"], response(None, next));
                let at = next.iter().find_map(|sign| if let Sign::At(path) = sign { Some(path) } else { None });
                if let Some(path) = at {
                    test.put(&["next", "request", "path"], Yaml::text(path));
                }
            }
            tests.push(test.with("expect", expect));
        }
        tests
    }

    fn expected(&self, went: &Went, number: usize) -> (String, Yaml) {
        let Went::Said { outcome, types, .. } = went else { return ("nothing happened".into(), Yaml::word("none")) };
        let mut expect = Yaml::map();
        if let Some(first) = types.first() {
            expect.put(&["event_type"], Yaml::word(first));
        }
        expect.put(&["outcome"], Yaml::word(outcome.as_str()));
        let typed = |source: &String| ["form.", "json:", "query."].iter().any(|kind| source.starts_with(kind));
        let known = self.actor.iter().find(|(key, sources)| *key == "login" && sources.iter().all(typed));
        if known.is_some_and(|(_, sources)| sources.len() == 1) {
            expect.put(&["actor", "login"], Yaml::text(WHO));
        }
        if types.len() > 1 {
            expect.put(&["also"], Yaml::List(types.iter().skip(1).map(|name| Yaml::word(name)).collect()));
        }
        (format!("{outcome} ({})", number + 1), expect)
    }

    /// The request of a test: the names that were seen, with made-up values.
    fn request(&self, seen: &Seen, signs: &BTreeSet<Sign>) -> Yaml {
        let value = |source: &str| {
            let named = self.actor.iter().any(|(_, sources)| sources.iter().any(|known| known == source));
            Yaml::text(if named { WHO } else { "made-up" })
        };
        let mut request = Yaml::map();
        let (pattern, path) = pattern(&self.place.path);
        if pattern != path {
            request.put(&["path"], Yaml::text(&path));
        }
        for sign in signs {
            match sign {
                Sign::Does(name, word) => request.put(&["form", name], Yaml::text(word)),
                Sign::Filled(name) => request.put(&["form", name], value(&format!("form.{name}"))),
                Sign::QueryDoes(name, word) => request.put(&["query", name], Yaml::text(word)),
                Sign::Query(name) => request.put(&["query", name], value(&format!("query.{name}"))),
                Sign::CookieGone(name) => {
                    request.put(&["cookies", &name.replace('*', "made-up")], Yaml::text("made-up"))
                }
                Sign::SessionKnown(true) => request.put(&["session", "login"], Yaml::text(WHO)),
                _ => continue,
            };
        }
        match &self.place.call {
            Some(Call::GraphQl(operation, field)) => {
                request.put(&["json", "query"], Yaml::text(&format!("{operation} {{ {field} }}")));
            }
            Some(Call::XmlRpc(method)) => {
                let body = format!(
                    "<?xml version=\"1.0\"?><methodCall><methodName>{method}</methodName><params></params></methodCall>"
                );
                request.put(&["headers", "content-type"], Yaml::text("text/xml"));
                request.put(&["body"], Yaml::text(&body));
            }
            None if !seen.json.is_empty() => {
                let mut json = serde_json::Value::Null;
                for pointer in &seen.json {
                    let word = signs.iter().find_map(|sign| match sign {
                        Sign::Says(at, word) if at == pointer => Some(word.as_str()),
                        _ => None,
                    });
                    let named = self.actor.iter().any(|(_, all)| all.iter().any(|s| *s == format!("json:{pointer}")));
                    put(&mut json, pointer, word.unwrap_or(if named { WHO } else { "made-up" }).into());
                }
                request.put(&["json"], Yaml::Word(json.to_string()));
            }
            None => {}
        }
        request
    }
}

/// The answer of a test, with every sign that the one had that was seen.
fn response(call: Option<&Call>, signs: &BTreeSet<Sign>) -> Yaml {
    let mut response = Yaml::map();
    let mut json = serde_json::Value::Null;
    let mut body = None;
    let (mut location, mut query) = (None, Vec::new());
    let status = signs.iter().find_map(|sign| if let Sign::Status(status) = sign { Some(*status) } else { None });
    response.put(&["status"], Yaml::word(&status.unwrap_or(200).to_string()));
    // A word is put where what is only known to be there was put before.
    for sign in signs
        .iter()
        .filter(|sign| !matches!(sign, Sign::Code(..)))
        .chain(signs.iter().filter(|sign| matches!(sign, Sign::Code(..))))
    {
        match sign {
            Sign::Location(path) => location = Some(path.as_str()),
            Sign::LocationQuery(name) => query.push(format!("{name}=made-up")),
            Sign::AsksPassword => body = Some("<input type=\"password\">".to_owned()),
            Sign::Json(pointer, yes) => put(&mut json, pointer, yes.map_or_else(|| "made-up".into(), Into::into)),
            Sign::Code(pointer, word) => put(&mut json, pointer, word.as_str().into()),
            Sign::Cookie(name) => {
                response.put(&["set_cookie", &name.replace('*', "made-up")], Yaml::text("made-up"));
            }
            Sign::CookieGone(name) => {
                response.put(&["set_cookie", &name.replace('*', "made-up")], Yaml::word("deleted"));
            }
            Sign::Fault(yes) => {
                let inner = if *yes {
                    "<fault><value><struct></struct></value></fault>"
                } else {
                    "<params><param><value><string>made-up</string></value></param></params>"
                };
                body = Some(format!("<?xml version=\"1.0\"?><methodResponse>{inner}</methodResponse>"));
                response.put(&["headers", "content-type"], Yaml::text("text/xml"));
            }
            _ => {}
        }
    }
    if let Some(Call::GraphQl(_, field)) = call {
        let code = signs.iter().find_map(|sign| if let Sign::ErrorCode(code) = sign { Some(code) } else { None });
        json = match signs.contains(&Sign::Errors(true)) {
            true => serde_json::json!({"errors": [{"extensions": {"code": code}}]}),
            false => serde_json::json!({"data": {field: "made-up"}}),
        };
    }
    if location.is_some() || !query.is_empty() {
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        response.put(&["location"], Yaml::text(&format!("{}{query}", location.unwrap_or("/made-up"))));
    }
    match body {
        Some(body) => response.put(&["body"], Yaml::text(&body)),
        None if !json.is_null() => response.put(&["json"], Yaml::Word(json.to_string())),
        None => true,
    };
    response
}

/// Puts a value at a pointer, where `*` is the first of a list; what stood above it becomes a mapping or list.
fn put(json: &mut serde_json::Value, pointer: &str, value: serde_json::Value) {
    use serde_json::Value;
    let mut at = json;
    for name in pointer.split('/').skip(1) {
        if name == "*" {
            if !at.is_array() {
                *at = Value::Array(vec![Value::Null]);
            }
            let Some(first) = at.as_array_mut().and_then(|items| items.first_mut()) else { return };
            at = first;
            continue;
        }
        if !at.is_object() {
            *at = Value::Object(serde_json::Map::new());
        }
        let Value::Object(members) = at else { return };
        at = members.entry(name).or_insert(Value::Null);
    }
    // Its members came first.
    if !at.is_object() && !at.is_array() {
        *at = value;
    }
}
