//! Every class that is written is held against the published schema, of which `tests/ocsf/` has the
//! parts that matter here (made from github.com/ocsf/ocsf-schema, Apache-2.0; each file names its
//! commit): attributes with their types, what is required, constraints, and the values of enums.

use serde_json::Value;

use crate::event::kind::VOCABULARY;
use crate::format::tests::{full, write};

const SCHEMAS: &[(&str, &str)] = &[
    ("1.3.0", include_str!("../../../tests/ocsf/1.3.0.json")),
    ("1.8.0", include_str!("../../../tests/ocsf/1.8.0.json")),
    // Not released when this was written: the schema's state under the commit that the file names.
    ("1.9.0", include_str!("../../../tests/ocsf/1.9.0.json")),
];

/// What is wrong with `value` as an object of this shape.
fn faults(schema: &Value, shape: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let Some(object) = value.as_object() else {
        found.push(format!("{path}: no object"));
        return;
    };
    for required in shape["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(required) {
            found.push(format!("{path}: {required} is missing"));
        }
    }
    if let Some(any) = shape["constraints"]["at_least_one"].as_array()
        && !any.iter().filter_map(Value::as_str).any(|key| object.contains_key(key))
    {
        found.push(format!("{path}: none of {any:?}"));
    }
    for (key, value) in object {
        let path = format!("{path}.{key}");
        let Some(kind) = shape["attributes"][key.as_str()].as_str() else {
            found.push(format!("{path}: not in the schema"));
            continue;
        };
        let (kind, items) = match kind.strip_prefix('[') {
            Some(kind) => (kind, value.as_array().cloned().unwrap_or_else(|| vec![Value::Null])),
            None => (kind, vec![value.clone()]),
        };
        for item in &items {
            let fits = match kind {
                "s" => item.is_string(),
                "i" => item.is_i64() || item.is_u64(),
                "b" => item.is_boolean(),
                "n" => item.is_number(),
                "o:object" => item.is_object(),
                _ => true,
            };
            if !fits {
                found.push(format!("{path}: {item} is no {kind}"));
            }
            if let Some(name) = kind.strip_prefix("o:").filter(|name| *name != "object") {
                match schema["objects"].get(name) {
                    Some(shape) => faults(schema, shape, item, &path, found),
                    None => found.push(format!("{path}: the table has no object {name}")),
                }
            }
        }
        if let Some(values) = shape["enums"][key.as_str()].as_object() {
            let Some(caption) = values.get(&value.to_string()) else {
                found.push(format!("{path}: {value} is no value of it"));
                continue;
            };
            let sibling = match key.as_str() {
                "activity_id" => "activity_name".to_owned(),
                key => key.trim_end_matches("_id").to_owned(),
            };
            // A name beside the number must be the schema's, unless the number is Other.
            if value != 99
                && let Some(name) = object.get(&sibling)
                && name != caption
            {
                found.push(format!("{path}: {name} beside {caption}"));
            }
        }
    }
}

fn check(schema: &Value, event: &Value) -> Vec<String> {
    let class = &schema["classes"][event["class_uid"].to_string()];
    let mut found = Vec::new();
    if class.is_null() {
        return vec![format!("no class {}", event["class_uid"])];
    }
    for (key, expected) in [
        ("class_name", &class["name"]),
        ("category_uid", &class["category_uid"]),
        ("category_name", &class["category_name"]),
    ] {
        if event[key] != *expected {
            found.push(format!("{key}: {} instead of {expected}", event[key]));
        }
    }
    let (class_uid, activity) = (event["class_uid"].as_u64().unwrap(), event["activity_id"].as_u64().unwrap());
    if event["type_uid"] != class_uid * 100 + activity {
        found.push("type_uid is not class and activity".into());
    }
    faults(schema, class, event, "", &mut found);
    found
}

#[test]
fn every_event_of_the_vocabulary_is_valid_in_every_version() {
    let mut types: Vec<&str> = VOCABULARY.iter().map(|known| known.name).collect();
    types.extend(["detection.brute_force", "acme.badge.printed"]);
    for (version, schema) in SCHEMAS {
        let schema: Value = serde_json::from_str(schema).unwrap();
        for event_type in &types {
            for bare in [false, true] {
                let event = full(event_type, bare);
                let written = write(&format!("{{ type: ocsf, version: {version} }}"), &event);
                let written: Value = serde_json::from_str(&written).unwrap();
                let found = check(&schema, &written);
                assert!(found.is_empty(), "{version} {event_type} bare: {bare}: {found:#?}\n{written:#}");
            }
        }
    }
}

#[test]
fn the_check_can_fail() {
    let schema: Value = serde_json::from_str(SCHEMAS[1].1).unwrap();
    let written = write("ocsf", &full("user.login.failed", false));
    let valid: Value = serde_json::from_str(&written).unwrap();
    let broken = |change: &dyn Fn(&mut Value)| {
        let mut event = valid.clone();
        change(&mut event);
        !check(&schema, &event).is_empty()
    };
    assert!(!broken(&|_| {}));
    assert!(broken(&|e| e["time"] = "now".into()));
    assert!(broken(&|e| e["users"] = "x".into()));
    assert!(broken(&|e| drop(e.as_object_mut().unwrap().remove("user"))));
    assert!(broken(&|e| drop(e.as_object_mut().unwrap().remove("service"))));
    assert!(broken(&|e| e["user"]["type_id"] = 77.into()));
    assert!(broken(&|e| e["status"] = "Failed".into()));
    assert!(broken(&|e| e["class_uid"] = 3003.into()));
}

#[test]
fn a_change_of_an_account_is_of_the_class_that_its_version_has() {
    for (version, class, activity) in [("1.3.0", 3001, 3), ("1.8.0", 3001, 3), ("1.9.0", 3007, 8)] {
        let written = write(&format!("{{ type: ocsf, version: {version} }}"), &full("user.password.changed", false));
        let written: Value = serde_json::from_str(&written).unwrap();
        assert_eq!((&written["class_uid"], &written["activity_id"]), (&class.into(), &activity.into()), "{version}");
        assert_eq!(written["metadata"]["version"], version);
    }
    let written: Value = serde_json::from_str(&write("ocsf", &full("user.login.failed", false))).unwrap();
    assert_eq!(written["type_uid"], 300_201);
    assert_eq!(written["status_id"], 2);
    assert_eq!(written["user"]["email_addr"], "alice@acme.test");
}
