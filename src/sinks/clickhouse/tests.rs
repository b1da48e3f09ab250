use super::*;
use crate::sinks::http::receiver::{Receiver, built, problems, says};
use crate::spool::sample::stored;

#[tokio::test]
async fn a_part_is_one_insert_with_a_token_that_stays_the_same() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pw"), "p").unwrap();
    let receiver = Receiver::start(|_, turn| says(if turn == 1 { 500 } else { 200 }, "")).await;
    let yaml = format!(
        "{{ type: clickhouse, url: {}, table: security.events, user: a, password_file: pw, async_insert: on }}",
        receiver.url()
    );
    let (sink, batch) = (built(&yaml, folder.path()).unwrap(), [stored(1, "alice"), stored(2, "bob")]);
    assert!(matches!(sink.send(&batch).await, Verdict::Retry { .. }));
    assert!(matches!(sink.send(&batch).await, Verdict::Delivered));
    let got = receiver.got();
    assert_eq!(got[0].target, got[1].target);
    let query: Vec<(String, String)> =
        form_urlencoded::parse(got[1].target.split_once('?').unwrap().1.as_bytes()).into_owned().collect();
    let value = |key: &str| query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    assert_eq!(value("query"), Some("INSERT INTO security.events FORMAT JSONEachRow"));
    assert_eq!(value("insert_deduplication_token"), Some(key_of(&batch).as_str()));
    assert_eq!(value("wait_for_async_insert"), Some("1"));
    let rows = got[1].lines();
    assert_eq!((rows.len(), &rows[1]["actor_login"], &rows[1]["status"]), (2, &json!("bob"), &json!(200)));
    assert_eq!(rows[1]["event"], *batch[1].line);
}

/// The shipped table has every column that is written, and no other.
#[test]
fn the_table_of_the_example_has_the_columns_that_are_written() {
    let sql = include_str!("../../../examples/clickhouse/table.sql");
    let body = sql.split_once("\n(\n").unwrap().1.split_once("\n)\n").unwrap().0;
    let columns: Vec<&str> = body.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let mut written = vec!["id", "timestamp", "event_type", "outcome"];
    written.extend(COLUMNS.iter().map(|(column, _)| *column));
    written.extend(["bot", "fields", "event"]);
    let sorted = |mut list: Vec<&'static str>| {
        list.sort_unstable();
        list
    };
    assert_eq!(sorted(columns), sorted(written));
}

#[test]
fn a_table_that_is_no_name_is_refused() {
    for table in ["a.b.c", "\"a; DROP TABLE b\"", "1a", "\"a b\"", "\"\""] {
        let told = problems(&format!("{{ type: clickhouse, url: http://a.test/, table: {table} }}"));
        assert!(told.contains("`table` cannot be"), "{table}: {told}");
    }
}
