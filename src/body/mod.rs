//! Parsers of strangers' bytes: what a captured exchange carried, read into fields.
//!
//! Everything here is a pure function of its arguments and runs on the pipeline's thread, over the
//! bounded prefixes of an [`Exchange`](crate::exchange::Exchange). It must never panic, block, read
//! a clock, or hold or print a secret: the results borrow from the exchange, their `Debug` shows
//! sizes only, and whoever reads them copies the named fields and nothing else.
//!
//! The invariant: work and memory are linear in the input (and, for compressed bodies, in the
//! cap), and a prefix of a body never yields a field that the whole body would not have.

pub mod cookie;
pub mod credentials;
pub mod encoding;
pub mod form;
pub mod graphql;
pub mod html_form;
pub mod json;
pub mod multipart;
pub mod wanted;
pub mod xmlrpc;

use std::borrow::Cow;

use http::header;

use crate::exchange::Kept;
use crate::headers::Headers;
pub use encoding::Decoded;
pub use form::Fields;

/// A kept body without its content codings, at most `cap` bytes of it. `cut` is also true if
/// capture itself had kept only a prefix.
pub fn read<'a>(kept: &'a Kept, headers: &Headers, cap: usize) -> Decoded<'a> {
    let mut decoded = encoding::decode(&kept.bytes, headers, cap);
    decoded.cut |= kept.cut;
    decoded
}

/// The `Content-Type`, or an empty text if there is none that can be read.
pub fn content_type(headers: &Headers) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The media type of a `Content-Type`, without its parameters; compare it without regard to case
/// (RFC 9110 section 8.3.1).
pub fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// The first parameter of that name in a header value such as `Content-Type` or
/// `Content-Disposition` (RFC 9110 section 5.6.6), names compared without regard to case.
pub(crate) fn param<'a>(value: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let end = rest.find(['=', ';'])?;
        let (found, after) = rest.split_at_checked(end)?;
        let Some(after) = after.strip_prefix('=') else {
            rest = after.strip_prefix(';')?;
            continue;
        };
        let (text, after) = param_value(after.trim_start());
        if found.trim().eq_ignore_ascii_case(name) {
            return Some(text);
        }
        rest = after.split_once(';')?.1;
    }
}

/// A token or quoted string, and what follows it. In a quoted string only `\"` is an escape:
/// old browsers send file names with lone backslashes in them.
fn param_value(text: &str) -> (Cow<'_, str>, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (token, rest) = text.split_at_checked(text.find(';').unwrap_or(text.len())).unwrap_or((text, ""));
        return (Cow::Borrowed(token.trim()), rest);
    };
    let mut escaped = false;
    let mut before = '"';
    for (at, c) in quoted.char_indices() {
        if c == '"' {
            if before != '\\' {
                let (inner, rest) = quoted.split_at_checked(at).unwrap_or((quoted, ""));
                return (unescaped(inner, escaped), rest.strip_prefix('"').unwrap_or_default());
            }
            escaped = true;
        }
        before = c;
    }
    (unescaped(quoted, escaped), "")
}

fn unescaped(text: &str, escaped: bool) -> Cow<'_, str> {
    if escaped { Cow::Owned(text.replace("\\\"", "\"")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_are_found_quoted_or_not_and_in_any_case() {
        let cases = [
            ("text/html; charset=utf-8", "charset", Some("utf-8")),
            ("text/html;CharSet=\"utf-8\" ; x=y", "charset", Some("utf-8")),
            ("text/html; flag; charset = a", "charset", Some("a")),
            ("text/html", "charset", None),
            ("text/html; xcharset=a", "charset", None),
            (r#"form-data; filename="x; name=y"; name="z""#, "name", Some("z")),
            (r#"form-data; name="a\"b"; filename="C:\x""#, "name", Some(r#"a"b"#)),
            (r#"form-data; filename="C:\x.txt""#, "filename", Some(r"C:\x.txt")),
            (r#"form-data; name="never closed"#, "name", Some("never closed")),
            ("form-data; name=", "name", Some("")),
            ("multipart/form-data; boundary=--=_Part", "boundary", Some("--=_Part")),
        ];
        for (value, name, expected) in cases {
            assert_eq!(param(value, name).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn a_body_that_capture_cut_stays_cut() {
        let kept = Kept { bytes: Bytes::from_static(b"a=b"), cut: true, asked: true };
        let decoded = read(&kept, &Headers::new(), 100);
        assert_eq!((&*decoded.bytes, decoded.cut), (&b"a=b"[..], true));
    }

    proptest! {
        #[test]
        fn any_header_value_can_be_asked_for_a_parameter(value in ".*", name in "[a-z]{0,3}") {
            let _ = (param(&value, &name), media_type(&value));
        }
    }
}
