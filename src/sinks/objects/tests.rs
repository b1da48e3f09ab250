use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use crate::config::node::Node;
use crate::config::problem::Problems;
use crate::event::Timestamp;
use crate::sinks::http::receiver::problems;
use crate::sinks::net::service::{batch, lines, output};
use crate::sinks::{BuildCx, Sink, check};
use crate::spool::Stored;

/// A sink without an interval, whatever is warned of.
pub(crate) fn sink(yaml: &str, base: &Path) -> Box<dyn Sink> {
    let mut problems = Problems::new("routes.yaml", yaml);
    let node = Node::parse(yaml, &mut problems).unwrap();
    let spec = check(&node, &mut problems);
    assert!(problems.is_empty(), "{problems}");
    spec.unwrap().build(&BuildCx::new(base.to_owned(), false)).unwrap()
}

/// So many events, the last of which is of the next day.
pub(crate) fn of_two_days(count: u64) -> Vec<Stored> {
    let mut all = batch(count);
    let last = all.last_mut().unwrap();
    let mut event = (*last.event).clone();
    event.timestamp = Timestamp::parse("2026-01-16T00:00:00Z").unwrap();
    *last = Stored { seq: last.seq, line: event.to_line().into(), event: event.into() };
    all
}

/// What a store holds under `auth/`, by day: how many objects.
pub(crate) fn days<'n>(names: &[&'n str]) -> BTreeMap<&'n str, usize> {
    let mut days = BTreeMap::new();
    for name in names {
        let day = name.strip_prefix("auth/date=").and_then(|rest| rest.get(..10)).unwrap_or_else(|| panic!("{name}"));
        *days.entry(day).or_default() += 1;
    }
    days
}

/// All events of gzipped objects are these.
pub(crate) fn held(objects: &[Vec<u8>], expected: &[Stored]) {
    let mut held: Vec<String> = objects.iter().flat_map(|object| unpacked(object)).collect();
    let mut expected = lines(expected);
    expected.sort();
    held.sort();
    assert_eq!(held, expected);
}

pub(crate) fn unpacked(bytes: &[u8]) -> Vec<String> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// What curl gets.
pub(crate) fn curl(arguments: &[&str], url: &str) -> Vec<u8> {
    let done = Command::new("curl").args(["-sSfk", "--globoff"]).args(arguments).arg(url).output().unwrap();
    assert!(done.status.success(), "{url}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

/// The same as text.
pub(crate) fn curl_text(arguments: &[&str], url: &str) -> String {
    output(Command::new("curl").args(["-sSfk", "--globoff"]).args(arguments).arg(url))
}

#[test]
fn what_every_store_of_objects_refuses_is_told() {
    for kind in ["gcs, bucket: security", "azure_blob, account: acme, container: security, access_key_env: KEY"] {
        for (yaml, expected) in [
            ("interval: 2h", "`interval` cannot be"),
            ("prefix: 'a b'", "`prefix` cannot be"),
            ("prefix: a/../b", "`prefix` cannot be"),
            ("prefix: a//b", "`prefix` cannot be"),
            ("tls: { sni: a.test }", "`sni` cannot be chosen"),
            ("url: 'https://u:hunter2@a.test'", "a user and password in the URL"),
            ("url: 'https://a.test/?sig=hunter2'", "the URL has a query"),
        ] {
            let told = problems(&format!("{{ type: {kind}, {yaml} }}"));
            assert!(told.contains(expected) && !told.contains("hunter2"), "{kind}, {yaml}: {told}");
        }
    }
}

#[test]
fn parquet_is_of_the_native_event_and_a_build_without_it_says_so() {
    let told = problems("{ type: s3, url: 'https://a.test/b', encoding: parquet }");
    assert_eq!(told.contains("it lacks the feature `parquet`"), cfg!(not(feature = "parquet")), "{told}");
    let told = problems("{ type: s3, url: 'https://a.test/b', encoding: parquet, format: ecs }");
    assert!(told.contains("columns of the native event alone") || cfg!(not(feature = "parquet")), "{told}");
}

#[cfg(feature = "parquet")]
mod parquet {
    use ::parquet::basic::LogicalType;
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use ::parquet::record::Field;
    use bytes::Bytes;
    use serde_json::Value;

    use super::*;
    use crate::sinks::objects::parquet::{COLUMNS, Holds, file};
    use crate::spool::sample::stored;

    /// The rows of a file, each value by its column.
    fn rows(bytes: Vec<u8>) -> Vec<Vec<(String, Field)>> {
        let reader = SerializedFileReader::new(Bytes::from(bytes)).unwrap();
        reader.get_row_iter(None).unwrap().map(|row| row.unwrap().into_columns()).collect()
    }

    fn value(field: &Field) -> Value {
        match field {
            Field::Str(text) => Value::from(text.as_str()),
            Field::Bytes(bytes) => Value::from(bytes.as_utf8().unwrap()),
            Field::TimestampMillis(time) => Value::from(*time),
            Field::Int(number) => Value::from(*number),
            Field::Long(number) => Value::from(*number),
            Field::Double(number) => Value::from(*number),
            Field::Bool(truth) => Value::from(*truth),
            Field::Null => Value::Null,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_column_of_every_event_is_read_back_as_it_stands_in_the_event() {
        let mut events = batch(600);
        events[7].line = with_everything().to_string().into();
        let bytes = file(&events).unwrap();
        assert_eq!(bytes, file(&events).unwrap(), "the same events make the same bytes");
        let rows = rows(bytes);
        assert_eq!(rows.len(), events.len());
        for (nth, (row, one)) in rows.iter().zip(&events).enumerate() {
            let event: Value = serde_json::from_str(&one.line).unwrap();
            assert_eq!(row.len(), COLUMNS.len());
            for ((name, field), (column, holds, pointer)) in row.iter().zip(COLUMNS) {
                assert_eq!(name, column);
                let expected = match holds {
                    Holds::Event => Value::from(&*one.line),
                    Holds::Time => Value::from(one.event.timestamp.as_millis()),
                    _ => event.pointer(pointer).cloned().unwrap_or_default(),
                };
                assert_eq!(value(field), expected, "{name}");
                assert!(nth != 7 || !expected.is_null(), "{name}");
            }
        }
    }

    /// An event that has a value for every column.
    fn with_everything() -> Value {
        let mut event: Value = serde_json::from_str(&stored(1, "alice").line).unwrap();
        for (name, holds, pointer) in COLUMNS {
            let value = match holds {
                Holds::Time | Holds::Event => continue,
                Holds::Text => Value::from(*name),
                Holds::Int => Value::from(200),
                Holds::Long => Value::from(4_200_000_000_u64),
                Holds::Double => Value::from(0.5),
                Holds::Truth => Value::from(true),
            };
            // Indexing makes what is missing on the way.
            *pointer.split('/').skip(1).fold(&mut event, |at, key| &mut at[key]) = value;
        }
        event
    }

    #[test]
    fn every_type_of_column_takes_a_value_and_one_of_another_type_is_null() {
        let mut one = stored(1, "alice");
        one.line = concat!(
            r#"{"schema_version":1,"id":7,"timestamp":"soon","metadata":{"geo":{"latitude":51.5},"#,
            r#""network":{"asn":4200000000},"client":{"bot":true},"request":{"status":99999999999}}}"#
        )
        .into();
        let row = rows(file(&[one]).unwrap()).remove(0);
        let get = |name: &str| value(&row.iter().find(|(column, _)| column == name).unwrap().1);
        assert_eq!(get("latitude"), Value::from(51.5));
        assert_eq!(get("asn"), Value::from(4_200_000_000_u64));
        assert_eq!((get("bot"), get("schema_version")), (Value::from(true), Value::from(1)));
        for other in ["id", "timestamp", "status", "actor_login"] {
            assert_eq!(get(other), Value::Null, "{other}");
        }
        let bytes = file(&batch(1)).unwrap();
        let reader = SerializedFileReader::new(Bytes::from(bytes)).unwrap();
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let logical = |name: &str| {
            let column = schema.columns().iter().find(|column| column.name() == name).unwrap();
            column.logical_type_ref().cloned()
        };
        assert_eq!((logical("id"), logical("event")), (Some(LogicalType::String), Some(LogicalType::Json)));
        assert!(matches!(logical("timestamp"), Some(LogicalType::Timestamp(_))));
    }

    #[test]
    fn every_column_is_in_the_document() {
        let text = include_str!("../../../docs/sinks.md");
        for (name, _, pointer) in COLUMNS {
            assert!(text.contains(&format!("`{name}`")), "{name} ({pointer})");
        }
    }
}
