use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::event::sample::of_type;
use crate::event::{Actor, Client, Geo, Metadata, Network, Organization, Outcome, Request, Target, Text, Tls};
use crate::sinks::http::receiver::{problems, spec};

/// An event in which everything is set, or, bare, nothing that may be absent.
pub(crate) fn full(event_type: &str, bare: bool) -> Event {
    let mut event = of_type(event_type, "alice");
    let text = |text: &'static str| Some(Text::fixed(text));
    if bare {
        event.actor = Actor::default();
        event.reason = None;
        event.metadata = Metadata::default();
        event.outcome = Outcome::Unknown;
        return event;
    }
    event.actor.id = text("u1");
    event.actor.email = text("alice@acme.test");
    event.actor.kind = text("user");
    event.target = Some(Target { kind: text("user"), id: text("u2"), email: text("bob@acme.test") });
    event.organization = Some(Organization { id: Text::fixed("acme") });
    event.metadata.user_agent = text("Mozilla/5.0 (X11)");
    event.metadata.method = text("password");
    event.metadata.provider = text("okta");
    event.metadata.session_id = text("s_9f2c");
    event.metadata.geo = Some(Geo {
        country: text("GB"),
        region: text("ENG"),
        city: text("London"),
        latitude: Some(51.5),
        longitude: Some(-0.1),
    });
    event.metadata.network = Some(Network {
        asn: Some(64500),
        organization: text("Example ISP"),
        hosting: Some(false),
        anonymous: Some(true),
        tor: Some(false),
    });
    event.metadata.client =
        Some(Client { browser: text("Firefox"), os: text("Linux"), device: text("desktop"), bot: false });
    event.metadata.tls =
        Some(Tls { version: Some(Text::fixed("1.3")), sni: text("a.test"), ja4: text("t13d"), subject: None });
    if let Some(request) = &mut event.metadata.request {
        *request = Request { host: text("app.acme.test"), trace_id: text("0af7"), ..request.clone() };
    }
    event.metadata.fields = vec![(Text::fixed("remember"), Text::fixed("on"))];
    event
}

fn shape(format: &str) -> Shape {
    spec(&format!("type: file\npath: x\nformat: {format}\n")).shape
}

fn stored(event: &Event) -> Stored {
    Stored { seq: 1, line: event.to_line().into(), event: Arc::new(event.clone()) }
}

/// The event in a format given as YAML.
pub(crate) fn write(format: &str, event: &Event) -> String {
    shape(format).write(&stored(event)).expect("can be written")
}

fn json_of(format: &str, event: &Event) -> serde_json::Value {
    serde_json::from_str(&write(format, event)).expect("JSON")
}

#[test]
fn every_format_is_known_by_its_word_and_stands_once() {
    let Kind::Any([Kind::Word(words), _]) = &KIND else { panic!("the kind has words") };
    for kind in FORMATS {
        assert_eq!(kind.media.format, kind.name);
        assert_eq!(words.contains(&kind.name), kind.fields.iter().all(|field| !field.required), "{}", kind.name);
        assert_eq!(FORMATS.iter().filter(|other| other.name == kind.name).count(), 1);
    }
}

#[test]
fn native_is_the_stored_line_and_keeps_the_order_of_its_keys() {
    let event = full("user.login.failed", false);
    assert!(shape("native").is_plain() && shape("json").is_plain());
    assert_eq!(write("native", &event), event.to_line());
}

#[test]
fn what_a_sink_may_not_see_is_in_no_format() {
    let event = full("user.login.failed", false);
    let hidden = ["alice", "203.0.113.42", "Mozilla", "London", "s_9f2c", "bob@"];
    let choice = "fields: { drop: [/actor, /target, /metadata] }\n";
    for kind in FORMATS {
        let format =
            if kind.name == "template" { "{ type: template, template: '{{ event|tojson }}' }" } else { kind.name };
        let spec = spec(&format!("type: file\npath: x\nformat: {format}\n{choice}"));
        let text = spec.shape.write(&stored(&event)).unwrap();
        for hidden in hidden {
            assert!(!text.contains(hidden), "{}: {hidden}: {text}", kind.name);
        }
        assert!(
            text.contains("invalid_credentials") || kind.name == "leef",
            "{}: the rest is there: {text}",
            kind.name
        );
    }
}

#[test]
fn fields_keep_and_drop_parts_and_never_what_every_event_has() {
    let event = full("user.login.failed", false);
    let select = |choice: &str| {
        let spec = spec(&format!("type: file\npath: x\nfields: {choice}\n"));
        spec.shape.write(&stored(&event)).unwrap()
    };
    let kept = select("{ keep: [/actor/login, /metadata/geo], drop: /metadata/geo/city }");
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept["actor"], json!({"login": "alice"}));
    assert_eq!(
        kept["metadata"],
        json!({"geo": {"country": "GB", "region": "ENG", "latitude": 51.5, "longitude": -0.1}})
    );
    for always in ["schema_version", "id", "event_type", "timestamp", "outcome"] {
        assert!(!kept[always].is_null(), "{always}");
    }
    assert!(kept["source"].is_null());
    for (choice, expected) in [
        ("{ drop: /id }", "cannot be left out"),
        ("{ drop: [/event_type] }", "cannot be left out"),
        ("{ keep: actor }", "no pointer to a part of an event"),
        ("{ keep: [/a//b] }", "no pointer to a part of an event"),
        ("{ leave: [/a] }", "unknown key `leave`"),
    ] {
        let told = problems(&format!("type: file\npath: x\nfields: {choice}\n"));
        assert!(told.contains(expected), "{choice}: {told}");
    }
}

#[test]
fn the_second_spelling_says_who_did_it() {
    let spelt = |event_type: &str| {
        let mut event = full(event_type, false);
        event.reason = None;
        let spec = spec("type: file\npath: x\nnames: auth\n");
        let text = spec.shape.write(&stored(&event)).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        (value["event_type"].as_str().unwrap().to_owned(), value["reason"].as_str().unwrap_or("-").to_owned())
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(spelt("user.logout"), pair("auth.logout", "user"));
    assert_eq!(spelt("user.password.reset_completed"), pair("auth.password.reset", "reset"));
    assert_eq!(spelt("user.password.changed"), pair("auth.password.changed", "user"));
    assert_eq!(spelt("user.login.success"), pair("auth.login.success", "-"));
    assert_eq!(spelt("api_key.created"), pair("api_key.created", "-"));
}

#[test]
fn slips_in_a_format_are_told() {
    for (format, expected) in [
        ("osf", "did you mean `ocsf`?"),
        ("{ version: 1.8.0 }", "a format needs a `type`"),
        ("{ type: ocsf, version: 2.0.0 }", "`2.0.0` is not known here"),
        ("{ type: cef, version: 1 }", "the format cef has no settings"),
        ("{ type: ocsf, versoin: 1.8.0 }", "did you mean `version`?"),
        ("template", "`template` is missing"),
        ("{ type: template, template: '{{ event.' }", "the template cannot be read"),
        ("{ type: cloudevents, source: 'a b' }", "`source` cannot be"),
        ("[a]", "expected a text"),
    ] {
        let told = problems(&format!("type: file\npath: x\nformat: {format}\n"));
        assert!(told.contains(expected), "{format}: {told}");
    }
}

#[test]
fn cloudevents_have_the_attributes_that_the_specification_demands() {
    let event = full("user.login.failed", false);
    let written = json_of("{ type: cloudevents, source: /authtap/shop, prefix: test.acme. }", &event);
    assert_eq!(written["specversion"], "1.0");
    assert_eq!(written["id"], event.id.to_string());
    assert_eq!(written["source"], "/authtap/shop");
    assert_eq!(written["type"], "test.acme.user.login.failed");
    assert_eq!(written["time"], "2026-01-15T09:32:17.123Z");
    assert_eq!(written["subject"], "u1");
    assert_eq!(written["data"], serde_json::from_str::<serde_json::Value>(&event.to_line()).unwrap());
}

#[test]
fn ecs_has_its_own_names_and_the_rest_under_authtap() {
    let event = full("user.login.failed", false);
    let written = json_of("ecs", &event);
    assert_eq!(written["@timestamp"], "2026-01-15T09:32:17.123Z");
    assert_eq!(written["event"]["category"], json!(["authentication"]));
    assert_eq!(written["event"]["outcome"], "failure");
    assert_eq!(written["event"]["action"], "user.login.failed");
    assert_eq!(written["event"]["duration"], 1_500_000);
    assert_eq!(written["user"]["name"], "alice");
    assert_eq!(written["user"]["target"]["id"], "u2");
    assert_eq!(written["source"]["ip"], "203.0.113.42");
    assert_eq!(written["source"]["geo"]["location"], json!({"lat": 51.5, "lon": -0.1}));
    assert_eq!(written["source"]["geo"]["region_iso_code"], "GB-ENG");
    assert_eq!(written["source"]["as"]["number"], 64500);
    assert_eq!(written["related"]["user"], json!(["u1", "alice", "alice@acme.test"]));
    assert_eq!(written["authtap"]["fields"], json!([{"key": "remember", "value": "on"}]));
    // The values that ECS allows (github.com/elastic/ecs, Apache-2.0, 8.11: allowed values).
    let categories = ["authentication", "session", "iam", "configuration", "web", "database", "intrusion_detection"];
    let types = ["start", "end", "info", "user", "creation", "deletion", "change", "group", "access"];
    for known in crate::event::kind::VOCABULARY {
        let written = json_of("ecs", &full(known.name, true));
        for (key, allowed) in [("category", &categories[..]), ("type", &types[..])] {
            for value in written["event"][key].as_array().unwrap() {
                assert!(allowed.contains(&value.as_str().unwrap()), "{}: {value}", known.name);
            }
        }
    }
}

#[test]
fn litesoc_gets_its_own_names_and_the_time_of_the_event() {
    let written = json_of("litesoc", &full("user.login.failed", false));
    assert_eq!(written["event"], "auth.login_failed");
    assert_eq!(written["actor"], json!({"id": "u1", "email": "alice@acme.test"}));
    assert_eq!(written["user_ip"], "203.0.113.42");
    assert_eq!(written["metadata"]["occurred_at"], "2026-01-15T09:32:17.123Z");
    assert_eq!(written["metadata"]["event_type"], "user.login.failed");
    for known in crate::event::kind::VOCABULARY {
        let written = json_of("litesoc", &full(known.name, true));
        let name = written["event"].as_str().unwrap();
        assert_eq!(name.split('.').count(), 2, "{}: {name}", known.name);
    }
    assert_eq!(json_of("litesoc", &full("user.mfa.challenge.failed", true))["event"], "user.mfa_challenge_failed");
    assert_eq!(json_of("litesoc", &full("detection.impossible_travel", true))["event"], "security.impossible_travel");
}

#[test]
fn a_template_is_bounded_in_output_and_work_and_fails_without_quoting_the_event() {
    let event = full("user.login.failed", false);
    let fails = |template: &str| {
        let shape = shape(&format!("{{ type: template, template: '{template}' }}"));
        shape.write(&stored(&event)).expect_err("fails").to_string()
    };
    let long = fails("{% for a in range(99999) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}");
    assert!(long.contains("65536 bytes") || long.contains("fuel"), "{long}");
    let busy = fails("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}");
    assert!(busy.contains("fuel"), "{busy}");
    let wrong = fails("{{ event.actor.login|nosuchfilter }}");
    assert!(!wrong.contains("alice"), "{wrong}");
    let line = write("{ type: template, template: \"{{ event.actor.login }}\\n{{ event.no.such.thing }}!\" }", &event);
    assert_eq!(line, "alice !", "one event is one record, and what is absent is nothing");
}

#[test]
fn the_line_is_what_the_documents_say() {
    let event = full("user.login.failed", false);
    let written = write("line", &event);
    let expected = concat!(
        "2026-01-15T09:32:17.123Z authtap user.login.failed ip=203.0.113.42 outcome=failure ",
        "reason=\"invalid_credentials\" login=\"alice\" id=\"u1\" email=\"alice@acme.test\" target=\"u2\" ",
        "organization=\"acme\" method=\"password\" country=\"GB\" session=\"s_9f2c\" route=\"login\" ",
        "user_agent=\"Mozilla/5.0 (X11)\"",
    );
    assert_eq!(written, expected);
    let bare = write("line", &full("authtap.started", true));
    assert_eq!(bare, "2026-01-15T09:32:17.123Z authtap authtap.started ip=- outcome=unknown route=\"login\"");
}

#[test]
fn an_ipv6_address_has_its_own_field_in_cef() {
    let mut event = full("user.login.failed", false);
    event.metadata.ip_address = "2001:db8::7".parse().ok();
    let (_, pairs) = read_cef(&write("cef", &event));
    assert_eq!((pairs["c6a2"].as_str(), pairs.get("src")), ("2001:db8::7", None));
}

/// Reads an extension by the rules of the CEF revision: a key is a word before an `=` that no `\`
/// stands before, and its value goes on to the space before the next key.
fn read_cef(text: &str) -> (Vec<String>, BTreeMap<String, String>) {
    let mut header = vec![String::new()];
    let mut chars = text.chars();
    while header.len() < 8 {
        match chars.next().expect("a whole header") {
            '\\' => header.last_mut().unwrap().push(chars.next().unwrap()),
            '|' => header.push(String::new()),
            c => header.last_mut().unwrap().push(c),
        }
    }
    header.pop();
    let rest: Vec<char> = chars.collect();
    let mut equals = Vec::new();
    let mut at = 0;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 1,
            '=' => equals.push(at),
            _ => {}
        }
        at += 1;
    }
    let mut pairs = BTreeMap::new();
    for (n, equal) in equals.iter().enumerate() {
        let from = rest[..*equal].iter().rposition(|c| *c == ' ').map_or(0, |at| at + 1);
        let to = match equals.get(n + 1) {
            Some(next) => rest[..*next].iter().rposition(|c| *c == ' ').unwrap_or(*next),
            None => rest.len(),
        };
        let mut value = String::new();
        let mut raw = rest[(equal + 1).min(to)..to].iter();
        while let Some(c) = raw.next() {
            value.push(if *c == '\\' { *raw.next().unwrap() } else { *c });
        }
        let key: String = rest[from..*equal].iter().collect();
        assert!(pairs.insert(key.clone(), value).is_none(), "{key} twice: {text}");
    }
    (header, pairs)
}

/// What a client may get into an event: text that went through the hygiene of events.
fn hostile() -> impl Strategy<Value = Text> {
    let nasty = prop::sample::select(vec![
        "a|b",
        "src=1.2.3.4",
        " suser=root",
        "\\",
        "\\=",
        "=",
        "\" outcome=success x=\"",
        "\t",
        "x09",
        "é",
        "\"",
        "\\\"",
        "CEF:0|",
        " ",
        "outcome=success",
        "|x09|",
        "cat=",
        "\u{a0}",
        "]]",
        "{",
        "}",
        "'",
    ]);
    prop::collection::vec(prop_oneof![nasty.prop_map(str::to_owned), any::<char>().prop_map(String::from)], 1..8)
        .prop_filter_map("nothing left", |parts| Text::other(&parts.concat()))
}

proptest! {
    #[test]
    fn nothing_a_client_sends_breaks_a_cef_record(login in hostile(), agent in hostile(), path in hostile()) {
        let mut event = full("user.login.failed", false);
        event.actor.login = Some(login.clone());
        event.metadata.user_agent = Some(agent.clone());
        event.metadata.request.as_mut().unwrap().path = path.clone();
        let text = write("cef", &event);
        prop_assert!(!text.contains(['\n', '\r']));
        let (header, pairs) = read_cef(&text);
        prop_assert_eq!(header.len(), 7);
        prop_assert_eq!(&header[4], "user.login.failed");
        let reference = read_cef(&write("cef", &full("user.login.failed", false))).1;
        prop_assert_eq!(pairs.keys().collect::<Vec<_>>(), reference.keys().collect::<Vec<_>>());
        prop_assert_eq!(pairs["suser"].trim_end(), login.as_str().trim_end());
        prop_assert_eq!(pairs["requestClientApplication"].trim_end(), agent.as_str().trim_end());
        prop_assert_eq!(pairs["request"].trim_end(), path.as_str().trim_end());
        prop_assert_eq!(&pairs["outcome"], "failure");
        prop_assert_eq!(&pairs["src"], "203.0.113.42");
    }

    #[test]
    fn nothing_a_client_sends_breaks_a_leef_record(login in hostile(), agent in hostile()) {
        let mut event = full("user.login.failed", false);
        event.actor.login = Some(login.clone());
        event.metadata.user_agent = Some(agent.clone());
        let text = write("leef", &event);
        let head: Vec<&str> = text.splitn(7, '|').collect();
        prop_assert_eq!((head[0], head[4], head[5]), ("LEEF:2.0", "user.login.failed", "x09"));
        let keys: Vec<&str> = head[6].split('\t').map(|pair| pair.split_once('=').expect("a pair").0).collect();
        let mut expected = vec!["devTime", "sev", "eventId", "cat"];
        expected.extend(leef::ATTRIBUTES.iter().map(|(key, _)| *key));
        prop_assert_eq!(keys, expected);
        let login = format!("\tusrName={}\t", login.as_str());
        prop_assert!(text.contains(&login) && !text.contains(['\n', '\r']));
    }

    #[test]
    fn nothing_a_client_sends_breaks_a_line(login in hostile(), agent in hostile()) {
        let mut event = full("user.login.failed", false);
        event.actor.login = Some(login.clone());
        event.metadata.user_agent = Some(agent.clone());
        let text = write("line", &event);
        prop_assert!(text.starts_with("2026-01-15T09:32:17.123Z authtap user.login.failed ip=203.0.113.42 outcome=failure "));
        let mut rest = text.split_once("outcome=failure").unwrap().1;
        let mut keys = Vec::new();
        while !rest.is_empty() {
            let (key, after) = rest.strip_prefix(' ').expect("a space").split_once("=\"").expect("a value");
            let mut end = 0;
            let bytes = after.as_bytes();
            while bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            keys.push(key);
            if key == "login" {
                let read = after[..end].replace("\\\"", "\"").replace("\\\\", "\\");
                prop_assert_eq!(read.replace('\\', ""), login.as_str().replace('\\', ""));
            }
            rest = &after[end + 1..];
        }
        prop_assert_eq!(keys, line::KEYS.iter().map(|(key, _)| *key).collect::<Vec<_>>());
    }

    #[test]
    fn every_json_format_stays_json_and_every_format_one_line(login in hostile(), agent in hostile()) {
        let mut event = full("user.login.failed", false);
        event.actor.login = Some(login);
        event.metadata.user_agent = Some(agent);
        event.metadata.fields = vec![(Text::fixed("x"), event.actor.login.clone().unwrap())];
        for kind in FORMATS.iter().filter(|kind| kind.name != "template") {
            let text = write(kind.name, &event);
            prop_assert!(!text.contains(['\n', '\r']), "{}", kind.name);
            if kind.media.list.is_some() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", kind.name);
            }
        }
    }
}
