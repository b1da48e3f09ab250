use super::filter::Glob;
use super::*;
use crate::event::{Event, Outcome};

fn read(yaml: &str) -> (Vec<SinkSpec>, String) {
    let mut problems = Problems::new("routes.yaml", yaml);
    let node = Node::parse(yaml, &mut problems).expect("parses");
    let specs = check_all(&node, &mut problems);
    (specs, problems.to_string())
}

fn names(specs: &[SinkSpec]) -> Vec<&str> {
    specs.iter().map(|spec| spec.name.as_str()).collect()
}

#[test]
fn sinks_without_a_name_get_one_of_their_own_that_passes_over_given_ones() {
    let (specs, problems) = read(
        "- { type: file, path: a }\n- { type: stdout }\n- { type: file, path: b }\n- { type: file, path: c, name: file-2 }\n",
    );
    assert_eq!((names(&specs), problems.as_str()), (vec!["file", "stdout", "file-3", "file-2"], ""));
    let (specs, _) = read("- { type: file, path: a }\n- { type: stdout, name: file }\n");
    assert_eq!(names(&specs), ["file-2", "file"]);
    let (specs, problems) = read("type: stdout\n");
    assert_eq!((names(&specs), problems.as_str()), (vec!["stdout"], ""), "one sink needs no list");
}

#[test]
fn a_name_given_twice_or_unfit_for_a_metric_is_an_error() {
    let (_, problems) = read("- { type: stdout, name: siem }\n- { type: file, path: a, name: siem }\n");
    assert!(problems.contains("two sinks are called `siem`") && problems.contains("routes.yaml:2:"), "{problems}");
    for name in ["\"a b\"", "\"\"", "\"a\\nb\"", &"x".repeat(65), "[a]"] {
        let (specs, problems) = read(&format!("- {{ type: stdout, name: {name} }}\n"));
        assert!(specs.is_empty() && problems.contains("error"), "{name}: {problems}");
    }
}

/// What a sink cannot do without.
fn needed(kind: &str) -> &'static str {
    match kind {
        "file" => "path: x, ",
        "stdout" => "",
        "amqp" | "mqtt" | "syslog" | "tcp" => "address: siem.example:514, ",
        "unix" => "path: collector.sock, ",
        "redis" => "address: siem.example, ",
        "gcs" => "bucket: security, ",
        "azure_blob" => "account: acme, container: security, ",
        "nats" => "servers: siem.example, ",
        "kafka" => "brokers: siem.example, ",
        "postgres" => "address: siem.example, database: d, user: u, ",
        "exec" => "command: [forward], ",
        "litesoc" | "datadog" => "token_env: NAME, ",
        "splunk_hec" => "url: https://siem.example/, token_env: NAME, ",
        _ => "url: https://siem.example/, ",
    }
}

#[test]
fn every_sink_takes_the_common_fields_and_refuses_unknown_ones_with_a_suggestion_from_both_tables() {
    for kind in SINKS.iter().filter(|kind| missing_feature(kind.name).is_none()) {
        let needed = needed(kind.name);
        let (specs, problems) =
            read(&format!("- {{ type: {}, {needed}name: n, only: user.*, except: [a.b, c.*] }}\n", kind.name));
        assert_eq!(problems, "", "{}", kind.name);
        assert_eq!(specs[0].filter, Filter::new(&["user.*"], &["a.b", "c.*"]).unwrap());
        let (specs, problems) = read(&format!(
            "- {{ type: {}, {needed}names: auth, outcome: [failure, rejected], organization: acme, sample: 0.5, fields: {{ drop: /actor }} }}\n",
            kind.name
        ));
        assert_eq!(problems, "", "{}", kind.name);
        assert!(!specs[0].shape.is_plain());
        let (_, problems) = read(&format!("- {{ type: {}, {needed}onyl: a.b }}\n", kind.name));
        assert!(problems.contains("unknown key `onyl`") && problems.contains("did you mean `only`?"), "{problems}");
    }
    let (_, problems) = read("- { type: stdout, fromat: json }\n");
    assert!(problems.contains("did you mean `format`?"), "{problems}");
}

#[test]
fn a_sink_that_this_build_lacks_is_known_and_its_feature_named() {
    for kind in SINKS {
        let (_, problems) = read(&format!("- {{ type: {}, {}onyl: a.b }}\n", kind.name, needed(kind.name)));
        let told = problems.contains(&format!("has no sink `{}`", kind.name)) && problems.contains("--features");
        assert_eq!(told, missing_feature(kind.name).is_some(), "{problems}");
        assert!(problems.contains("unknown key `onyl`"), "the rest is checked all the same: {problems}");
    }
    let known = |name: &str| SINKS.iter().any(|kind| kind.name == name);
    assert!(FEATURES.iter().all(|(sink, _, _)| known(sink)));
}

#[test]
fn what_is_no_sink_is_told_once_with_the_remedy() {
    for (yaml, expected) in [
        ("- stdout\n", "expected a mapping, found `stdout`"),
        ("- { path: x }\n", "a sink needs a `type`"),
        ("- { type: stdotu }\n", "did you mean `stdout`?"),
        ("- { type: [stdout] }\n", "expected a text"),
        ("- { type: file }\n", "`path` is missing"),
    ] {
        let (specs, problems) = read(yaml);
        assert!(specs.is_empty() && problems.contains(expected), "{yaml}: {problems}");
        assert_eq!(problems.matches("error").count(), 1, "{yaml}: {problems}");
    }
}

#[test]
fn a_filter_takes_what_only_names_without_what_except_names() {
    let filter = |only: &[&str], except: &[&str]| Filter::new(only, except).unwrap();
    assert!(filter(&[], &[]).wants("user.login.failed"));
    let some = filter(&["user.login.*", "detection.*"], &["*.success"]);
    for (event_type, wanted) in [
        ("user.login.failed", true),
        ("user.login.success", false),
        ("detection.brute_force", true),
        ("user.logins.failed", false),
        ("api_key.created", false),
    ] {
        assert_eq!(some.wants(event_type), wanted, "{event_type}");
    }
    assert_eq!(Filter::new(&["User.*"], &[]), None);
}

#[test]
fn a_filter_goes_by_outcome_and_organization_too() {
    use crate::event::{Organization, Text};
    use crate::spool::sample::{login, of_type};
    let (specs, problems) = read("- { type: stdout, outcome: [failure, unknown], organization: [acme, umbrella] }\n");
    assert_eq!(problems, "");
    let takes = |event: &Event| specs[0].filter.takes(event);
    let mut event = login("alice");
    assert!(!takes(&event), "an event of nobody's organization is not one of acme's");
    event.organization = Some(Organization { id: Text::fixed("umbrella") });
    assert!(takes(&event));
    event.outcome = Outcome::Success;
    assert!(!takes(&event));
    let (_, problems) = read("- { type: stdout, outcome: failed, sample: 2 }\n");
    assert!(problems.contains("`failed` is not known here") && problems.contains("`sample` cannot be"), "{problems}");
    let (specs, _) = read("- { type: stdout, sample: 0 }\n");
    for (event_type, taken) in [("user.login.failed", false), ("authtap.started", true), ("detection.x", true)] {
        assert_eq!(specs[0].filter.takes(&of_type(event_type, "a")), taken, "{event_type}");
    }
}

#[test]
fn a_sample_is_the_share_it_says_and_the_same_events_each_time() {
    let share = |text: &str| read(&format!("- {{ type: stdout, sample: {text} }}\n")).0.remove(0).filter;
    let (half, tenth) = (share("0.5"), share("0.1"));
    let events: Vec<Event> = (0..4000).map(|_| crate::spool::sample::login("a")).collect();
    let taken = |filter: &Filter| events.iter().filter(|event| filter.takes(event)).count();
    // Six standard deviations of 4000 throws: chance fails this once in 10^9 runs.
    assert!((1810..=2190).contains(&taken(&half)), "{}", taken(&half));
    assert!((286..=514).contains(&taken(&tenth)), "{}", taken(&tenth));
    assert!(events.iter().all(|event| half.takes(event) || !tenth.takes(event)), "a smaller share is part of a larger");
    assert_eq!(taken(&share("1")), events.len());
}

#[test]
fn a_star_stands_for_any_run_of_characters_and_nothing_else_is_special() {
    for (glob, name, expected) in [
        ("*", "user.logout", true),
        ("*", "", true),
        ("**", "x", true),
        ("user.*", "user.", true),
        ("user.*", "user", false),
        ("*.failed", "user.mfa.challenge.failed", true),
        ("user.*.failed", "user.login.failed", true),
        ("user.*.failed", "user.failed", false),
        ("a*a", "a", false),
        ("a*b*c", "a.c.b.c", true),
        ("a*b*c", "a.c.b", false),
        ("*a*b*", "xbxaxbx", true),
        ("*a*b*", "xbxax", false),
        ("user.logout", "user_logout", false),
    ] {
        assert_eq!(Glob::parse(glob).unwrap().matches(name), expected, "{glob} {name}");
    }
}

#[test]
fn a_filter_that_looks_like_a_slip_is_warned_of_and_one_of_ones_own_is_not() {
    for slip in ["user.logn.*", "user.login.faild", "usr.*", "api_key.craeted"] {
        let (specs, problems) = read(&format!("- {{ type: stdout, only: {slip} }}\n"));
        assert!(problems.contains("warning") && problems.contains("did you mean"), "{slip}: {problems}");
        assert_eq!(specs.len(), 1, "it is a warning");
    }
    for fine in ["user.*", "\"*.failed\"", "detection.brute_force", "acme.badge.printed", "\"*\"", "\"*.printed.*\""] {
        let (_, problems) = read(&format!("- {{ type: stdout, only: {fine} }}\n"));
        assert_eq!(problems, "", "{fine}");
    }
    let (_, problems) = read("- { type: stdout, except: [User.Login, \"\"] }\n");
    assert_eq!(problems.matches("matches no event type").count(), 2, "{problems}");
}

#[test]
fn the_schema_has_every_sink_with_the_common_fields() {
    let table = schema_table();
    assert_eq!(table.len(), SINKS.len());
    for (_, fields) in &table {
        let names: Vec<&str> = fields.iter().map(|f| f.name).collect();
        assert!(["type", "name", "only", "except"].iter().all(|common| names.contains(common)));
        let mut unique = names.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), names.len(), "a field stands once: {names:?}");
    }
    static SINKS_FIELD: &[Field] = &[Field::new("sinks", Kind::List(&Kind::Tagged("sink", schema_table)), "", "")];
    let schema = crate::config::shape::json_schema("t", SINKS_FIELD);
    let validator = jsonschema::validator_for(&schema).expect("a valid schema");
    let file = serde_json::json!({"type": "file", "path": "x", "only": ["user.*"], "rotate": {"size": "1MB"}});
    assert!(validator.is_valid(&serde_json::json!({ "sinks": [file] })));
    for bad in [serde_json::json!({"type": "file"}), serde_json::json!({"type": "stdout", "path": "x"})] {
        assert!(!validator.is_valid(&serde_json::json!({ "sinks": [bad] })));
    }
}

#[tokio::test]
async fn a_worker_outlives_a_job_that_panics() {
    let worker = Worker::start("test", 1_u32).unwrap();
    let failed = worker.run(|_| -> u32 { panic!("a job of a test panics") }).await;
    assert!(failed.is_err());
    worker.run(|n| *n += 1).await.unwrap();
    assert_eq!(worker.run(|n| *n).await.unwrap(), 2);
}
