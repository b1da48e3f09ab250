//! JSON bodies: parsed whole or not at all.
//!
//! Must never be given an unbounded body: a parsed value takes up to about a hundred times the memory
//! of its text (objects of one key), so the caller's cap is the bound. Nesting ends at serde_json's
//! limit of 128. What is cut, or is several documents, is not JSON here; a half document proves
//! nothing.

use std::borrow::Cow;

use serde_json::Value;

/// Parses one document (RFC 8259). A byte order mark and the `)]}'` line that some applications
/// put before their JSON, so that it cannot be run as a script, are skipped.
pub fn parse(bytes: &[u8]) -> Option<Value> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(without_guard(bytes)).ok()
}

fn without_guard(bytes: &[u8]) -> &[u8] {
    let Some(rest) = bytes.trim_ascii_start().strip_prefix(b")]}'") else { return bytes };
    let rest = rest.strip_prefix(b",").unwrap_or(rest);
    rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")).unwrap_or(bytes)
}

/// The value that a JSON Pointer names (RFC 6901); an empty pointer is the document.
pub fn pointer<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    value.pointer(path)
}

/// A string, number or boolean as text; `None` for null, lists and objects.
pub fn scalar_text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(true) => Some(Cow::Borrowed("true")),
        Value::Bool(false) => Some(Cow::Borrowed("false")),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn marks_and_guards_before_the_document_are_skipped() {
        for text in
            ["{\"a\":1}", "\u{feff}{\"a\":1}", ")]}',\n{\"a\":1}", ")]}'\r\n {\"a\":1}", "\u{feff})]}'\n{\"a\":1}\n"]
        {
            assert_eq!(parse(text.as_bytes()), Some(json!({"a": 1})), "{text:?}");
        }
        for text in [")]}',{\"a\":1}", ")]}'", ")]}\n1"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn cut_repeated_and_deeply_nested_documents_are_none() {
        let deep = "[".repeat(100_000);
        let closed = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for text in ["", "{\"a\":1", "{\"a\":1}\n{\"a\":2}", "nul", "{\"a\":\"\u{0}\"}", &deep, &closed] {
            assert_eq!(parse(text.as_bytes()), None);
        }
        assert_eq!(parse(b"{\"a\":\"\xff\"}"), None);
        assert_eq!(parse(b"{\"a\":1,\"a\":2}"), Some(json!({"a": 2})));
    }

    #[test]
    fn pointers_follow_rfc_6901() {
        let value = json!({"a": {"b": [10, {"c": "x"}]}, "": 1, "m/n~": 2, "0": 3});
        let cases = [
            ("/a/b/0", Some(json!(10))),
            ("/a/b/1/c", Some(json!("x"))),
            ("/a/b/01", None),
            ("/a/b/-", None),
            ("/", Some(json!(1))),
            ("/m~1n~0", Some(json!(2))),
            ("/0", Some(json!(3))),
            ("a", None),
            ("/a/b/18446744073709551616", None),
        ];
        for (path, expected) in cases {
            assert_eq!(pointer(&value, path).cloned(), expected, "{path}");
        }
        assert_eq!(pointer(&value, ""), Some(&value));
    }

    #[test]
    fn only_scalars_have_a_text() {
        let cases = [
            (json!("x"), Some("x")),
            (json!(42), Some("42")),
            (json!(1.5), Some("1.5")),
            (json!(true), Some("true")),
            (json!(false), Some("false")),
            (json!(null), None),
            (json!([1]), None),
            (json!({}), None),
        ];
        for (value, expected) in cases {
            assert_eq!(scalar_text(&value).as_deref(), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_json_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..200), path in ".*") {
            if let Some(value) = parse(&bytes) {
                let _ = pointer(&value, &path).and_then(scalar_text);
            }
        }

        #[test]
        fn a_cut_object_is_never_a_document(text in "[a-z\"\\\\{}\\[\\]:,]{0,20}", at: proptest::sample::Index) {
            let whole = json!({"k": text, "n": [1, {"x": null}]}).to_string();
            prop_assert_eq!(parse(&whole.as_bytes()[..at.index(whole.len())]), None);
        }
    }
}
