//! The same request in protobuf: the few messages of OTLP logs, written by hand.
//!
//! The numbers are those of opentelemetry-proto 1.x (`logs.proto`, `common.proto`,
//! `logs_service.proto`); a test has the official messages read what is written. Of an answer only
//! the count of rejected records is read; an answer that is no protobuf rejects nothing.

use serde_json::Value;

use crate::protobuf::{Fields, bytes, double, fixed64, message, number};

/// An export request that is given as its JSON.
pub(super) fn encode(request: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for resource in list(&request["resourceLogs"]) {
        message(&mut out, 1, |out| {
            message(out, 1, |out| attributes(out, 1, &resource["resource"]["attributes"]));
            for scope in list(&resource["scopeLogs"]) {
                message(out, 2, |out| {
                    message(out, 1, |out| {
                        text(out, 1, &scope["scope"]["name"]);
                        text(out, 2, &scope["scope"]["version"]);
                    });
                    for record in list(&scope["logRecords"]) {
                        message(out, 2, |out| log_record(out, record));
                    }
                });
            }
        });
    }
    out
}

fn log_record(out: &mut Vec<u8>, record: &Value) {
    nanos(out, 1, &record["timeUnixNano"]);
    if let Some(severity) = record["severityNumber"].as_u64() {
        number(out, 2, severity);
    }
    text(out, 3, &record["severityText"]);
    message(out, 5, |out| any_value(out, &record["body"]));
    attributes(out, 6, &record["attributes"]);
    if let Some(id) = record["traceId"].as_str().and_then(bytes_of_hex) {
        bytes(out, 9, &id);
    }
    nanos(out, 11, &record["observedTimeUnixNano"]);
    text(out, 12, &record["eventName"]);
}

fn attributes(out: &mut Vec<u8>, field: u64, attributes: &Value) {
    for attribute in list(attributes) {
        message(out, field, |out| {
            text(out, 1, &attribute["key"]);
            message(out, 2, |out| any_value(out, &attribute["value"]));
        });
    }
}

/// `AnyValue`.
fn any_value(out: &mut Vec<u8>, value: &Value) {
    if let Some(written) = value["stringValue"].as_str() {
        bytes(out, 1, written.as_bytes());
    } else if let Some(truth) = value["boolValue"].as_bool() {
        number(out, 2, truth.into());
    } else if let Some(whole) = value["intValue"].as_str().and_then(|n| n.parse::<i64>().ok()) {
        number(out, 3, whole.cast_unsigned());
    } else if let Some(broken) = value["doubleValue"].as_f64() {
        double(out, 4, broken);
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A number of nanoseconds, which is a text in JSON and a `fixed64` here.
fn nanos(out: &mut Vec<u8>, field: u64, value: &Value) {
    if let Some(nanos) = value.as_str().and_then(|n| n.parse::<u64>().ok()) {
        fixed64(out, field, nanos);
    }
}

fn text(out: &mut Vec<u8>, field: u64, value: &Value) {
    if let Some(value) = value.as_str() {
        bytes(out, field, value.as_bytes());
    }
}

fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)).collect()
}

/// How many records (or spans) an answer says were rejected: `ExportLogsServiceResponse` and
/// `ExportTraceServiceResponse` have the count in the same place.
pub(crate) fn rejected(answer: &[u8]) -> u64 {
    Fields::number_of(Fields::bytes_of(answer, 1), 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_what_the_encoding_of_protobuf_says() {
        let request = json!({"resourceLogs": [{
            "resource": {"attributes": [{"key": "a", "value": {"intValue": "300"}}]},
            "scopeLogs": [{"scope": {"name": "s"}, "logRecords": [{"severityNumber": 9, "traceId": "0a0B"}]}],
        }]});
        let expected = [
            0x0a, 0x1d, 0x0a, 0x0a, 0x0a, 0x08, 0x0a, 0x01, b'a', 0x12, 0x03, 0x18, 0xac, 0x02, 0x12, 0x0f, 0x0a, 0x03,
            0x0a, 0x01, b's', 0x12, 0x08, 0x10, 0x09, 0x2a, 0x00, 0x4a, 0x02, 0x0a, 0x0b,
        ];
        assert_eq!(encode(&request), expected);
        assert!(encode(&json!({"resourceLogs": []})).is_empty());
    }

    #[test]
    fn the_count_of_rejected_records_is_read_past_what_is_not_known() {
        assert_eq!(rejected(&[]), 0);
        assert_eq!(rejected(&[0x0a, 0x05, 0x12, 0x01, b'x', 0x08, 0x03]), 3);
        assert_eq!(rejected(&[0x15, 1, 2, 3, 4, 0x0a, 0x03, 0x08, 0xac, 0x02]), 300);
        assert_eq!(rejected(b"{}"), 0, "an answer in JSON rejects nothing");
        assert_eq!(rejected(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), 0);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(answer in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = rejected(&answer);
        }
    }
}
