//! The same request in protobuf: the few messages of OTLP logs, written by hand.
//!
//! The numbers are those of opentelemetry-proto 1.x (`logs.proto`, `common.proto`,
//! `logs_service.proto`); a test has the official messages read what is written. Of an answer only
//! the count of rejected records is read; an answer that is no protobuf rejects nothing. Reading
//! must never panic nor read past its end, whatever came back.

use serde_json::Value;

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
    if let Some(number) = record["severityNumber"].as_u64() {
        key(out, 2, 0);
        varint(out, number);
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
        key(out, 2, 0);
        varint(out, truth.into());
    } else if let Some(number) = value["intValue"].as_str().and_then(|n| n.parse::<i64>().ok()) {
        key(out, 3, 0);
        varint(out, number.cast_unsigned());
    } else if let Some(number) = value["doubleValue"].as_f64() {
        key(out, 4, 1);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A number of nanoseconds, which is a text in JSON and a `fixed64` here.
fn nanos(out: &mut Vec<u8>, field: u64, value: &Value) {
    if let Some(number) = value.as_str().and_then(|n| n.parse::<u64>().ok()) {
        key(out, field, 1);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn text(out: &mut Vec<u8>, field: u64, value: &Value) {
    if let Some(value) = value.as_str() {
        bytes(out, field, value.as_bytes());
    }
}

fn message(out: &mut Vec<u8>, field: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    bytes(out, field, &inner);
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn key(out: &mut Vec<u8>, field: u64, wire: u64) {
    varint(out, field << 3 | wire);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)).collect()
}

/// How many records an answer (`ExportLogsServiceResponse`) says were rejected.
pub(super) fn rejected(answer: &[u8]) -> u64 {
    let partial = Fields(answer).find_map(|(field, value)| match (field, value) {
        (1, Field::Bytes(inner)) => Some(inner),
        _ => None,
    });
    let count = Fields(partial.unwrap_or_default()).find_map(|(field, value)| match (field, value) {
        (1, Field::Number(count)) => Some(count),
        _ => None,
    });
    count.unwrap_or(0)
}

enum Field<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

/// The fields of a message, to the first that cannot be read.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: u64) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(count).ok()?)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = (u64, Field<'b>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Field::Number(self.varint()?),
            1 => Field::Bytes(self.take(8)?),
            2 => {
                let count = self.varint()?;
                Field::Bytes(self.take(count)?)
            }
            5 => Field::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((key >> 3, value))
    }
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
            prop_assert!(Fields(&answer).count() <= answer.len());
        }
    }
}
