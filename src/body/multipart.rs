//! Multipart forms (RFC 7578): the text parts of a kept prefix, as the same list that
//! [`form`](super::form) gives.
//!
//! Must never hand out a file or a part that may be half: what has a file name or a media type
//! other than text is skipped, and a part counts only once the delimiter after it was seen. The
//! parser is asynchronous by nature, but its input is all there, so that it is never waited for.
//!
//! The invariant: the fields of a prefix are a prefix of the fields of the whole.

use std::borrow::Cow;
use std::convert::Infallible;

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, stream};
use http::header;
use multer::{Field, Multipart};

use super::{Fields, encoding, media_type, param};

/// How many parts are looked at, files included.
pub const MAX_PARTS: usize = 200;
/// How much of a value is kept, in bytes.
pub const MAX_VALUE: usize = 16 << 10;
/// The longest boundary (RFC 2046 section 5.1.1), in bytes.
const MAX_BOUNDARY: usize = 70;

/// Reads a multipart form, or the prefix of one. `None` if `content_type` is not that of a
/// multipart form with a boundary. [`Fields::complete`] is false if its end was not seen; parts
/// that are skipped because they are files do not count as missing.
pub fn parse(bytes: &[u8], content_type: &str) -> Option<Fields<'static>> {
    let boundary = boundary(content_type)?;
    let mut fields = Fields::new();
    let body = stream::iter([Ok::<_, Infallible>(Bytes::copy_from_slice(bytes))]);
    let mut parts = Multipart::new(body, boundary);
    for _ in 0..MAX_PARTS {
        match parts.next_field().now_or_never() {
            Some(Ok(Some(part))) => {
                let Some(name) = text_name(&part) else { continue };
                let Some((value, cut)) = value(part) else { break };
                if cut {
                    fields.set_incomplete();
                }
                fields.push(Cow::Owned(name), Cow::Owned(value), MAX_PARTS, MAX_VALUE);
            }
            Some(Ok(None)) => return Some(fields),
            Some(Err(_)) | None => break,
        }
    }
    fields.set_incomplete();
    Some(fields)
}

fn boundary(content_type: &str) -> Option<String> {
    if !media_type(content_type).eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = param(content_type, "boundary")?;
    (1..=MAX_BOUNDARY).contains(&boundary.len()).then(|| boundary.into_owned())
}

/// The name of a part that is a plain text field.
fn text_name(part: &Field<'_>) -> Option<String> {
    let disposition = String::from_utf8_lossy(part.headers().get(header::CONTENT_DISPOSITION)?.as_bytes());
    if !media_type(&disposition).eq_ignore_ascii_case("form-data")
        || param(&disposition, "filename").is_some()
        || param(&disposition, "filename*").is_some()
        || !is_text(part_type(part))
    {
        return None;
    }
    Some(param(&disposition, "name")?.into_owned())
}

fn part_type<'p>(part: &'p Field<'_>) -> &'p str {
    part.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn is_text(content_type: &str) -> bool {
    let kind = media_type(content_type).split('/').next().unwrap_or_default();
    kind.is_empty() || kind.eq_ignore_ascii_case("text")
}

/// A part's text, as far as it is kept, and whether that was all; `None` if the part was not whole.
fn value(mut part: Field<'_>) -> Option<(String, bool)> {
    let mut kept = BytesMut::new();
    let mut cut = false;
    while let Some(chunk) = part.chunk().now_or_never()?.ok()? {
        // One byte too many, so that `Fields` shortens what is too long between characters.
        let room = (MAX_VALUE + 1).saturating_sub(kept.len());
        cut |= chunk.len() > room;
        kept.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
    }
    Some((encoding::text(&kept, part_type(&part)).into_owned(), cut))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=XX";

    fn part(head: &str, value: &str) -> String {
        format!("--XX\r\n{head}\r\n\r\n{value}\r\n")
    }

    fn field(name: &str, value: &str) -> String {
        part(&format!("Content-Disposition: form-data; name=\"{name}\""), value)
    }

    fn pairs(fields: &Fields<'_>) -> Vec<(String, String)> {
        fields.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }

    #[test]
    fn text_parts_are_fields_and_files_are_skipped() {
        let body = [
            field("user[login]", "alice"),
            part("Content-Disposition: form-data; name=\"f\"; filename=\"a; name=x.txt\"", "secret file"),
            part("Content-Disposition: form-data; name=\"f\"; filename*=UTF-8''a.txt", "secret file"),
            part("Content-Disposition: form-data; name=\"f\"; filename=\"\"\r\nContent-Type: text/plain", ""),
            part("Content-Disposition: form-data; name=\"blob\"\r\nContent-Type: application/json", "{}"),
            part("content-disposition: FORM-DATA; NAME=plain\r\ncontent-type: Text/Plain; charset=latin1", "a"),
            part("Content-Disposition: attachment; name=\"no\"", "a"),
            part("Content-Type: text/plain", "nameless"),
            field("empty", ""),
            field("lines", "1\r\n--X\r\n2"),
            "--XX--\r\n".into(),
        ];
        let fields = parse(body.concat().as_bytes(), TYPE).unwrap();
        let expected = [("user[login]", "alice"), ("plain", "a"), ("empty", ""), ("lines", "1\r\n--X\r\n2")];
        assert_eq!(pairs(&fields), expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        assert!(fields.complete());
        assert_eq!(fields.first("user.login"), Some("alice"));
    }

    #[test]
    fn the_character_set_of_a_part_is_heeded() {
        let head = "Content-Disposition: form-data; name=a\r\nContent-Type: text/plain; charset=iso-8859-1";
        let body = [format!("--XX\r\n{head}\r\n\r\nJ").as_bytes(), b"\xf6rg\r\n--XX--"].concat();
        assert_eq!(parse(&body, TYPE).unwrap().first("a"), Some("Jörg"));
    }

    #[test]
    fn a_cut_body_gives_the_parts_that_were_whole() {
        let body = [field("a", "1"), field("b", "2")].concat();
        for (cut, expected) in [(0, 1), (1, 1), (5, 1), (body.len(), 0)] {
            let fields = parse(&body.as_bytes()[..body.len() - cut], TYPE).unwrap();
            assert_eq!((fields.len(), fields.complete()), (expected, false), "{cut}");
        }
    }

    #[test]
    fn only_multipart_forms_with_a_sane_boundary_are_read() {
        let body = format!("{}--XX--", field("a", "1"));
        for good in ["Multipart/Form-Data;boundary=\"XX\"", "multipart/form-data; charset=utf-8; Boundary=XX"] {
            assert_eq!(
                parse(body.as_bytes(), good).and_then(|f| f.first("a").map(str::to_owned)).as_deref(),
                Some("1")
            );
        }
        let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
        for bad in ["", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=XX", &long]
        {
            assert_eq!(parse(body.as_bytes(), bad), None, "{bad}");
        }
        let odd = body.replace("XX", "----=_Part(1)");
        let fields = parse(odd.as_bytes(), "multipart/form-data; boundary=----=_Part(1)").unwrap();
        assert_eq!(fields.len(), 1);
    }

    #[test]
    fn too_many_and_too_large_parts_are_bounded_and_said() {
        let many = parse(field("a", "1").repeat(MAX_PARTS + 5).as_bytes(), TYPE).unwrap();
        assert_eq!((many.len(), many.complete()), (MAX_PARTS, false));
        for letter in ["x", "ü"] {
            let body = [field("a", &letter.repeat(3 * MAX_VALUE)), field("b", "2"), "--XX--".into()].concat();
            let fields = parse(body.as_bytes(), TYPE).unwrap();
            assert_eq!(fields.first("a"), Some(&*letter.repeat(MAX_VALUE / letter.len())));
            assert_eq!((fields.first("b"), fields.complete()), (Some("2"), false));
        }
        let just = [field("a", &"x".repeat(MAX_VALUE)), "--XX--".into()].concat();
        assert!(parse(just.as_bytes(), TYPE).unwrap().complete());
    }

    proptest! {
        #[test]
        fn any_bytes_are_some_form(bytes in proptest::collection::vec(any::<u8>(), 0..300), content_type in ".*") {
            let _ = parse(&bytes, &content_type);
            let framed = [b"--XX\r\nContent-Disposition: ", &bytes[..]].concat();
            prop_assert!(parse(&framed, TYPE).is_some());
        }

        #[test]
        fn a_prefix_yields_a_prefix_of_the_fields(
            values in proptest::collection::vec("[a\r\n-X]{0,12}", 0..5), at: proptest::sample::Index,
        ) {
            let mut body: String = values.iter().enumerate().map(|(n, v)| field(&n.to_string(), v)).collect();
            body.push_str("--XX--\r\n");
            let whole = pairs(&parse(body.as_bytes(), TYPE).unwrap());
            let prefix = pairs(&parse(&body.as_bytes()[..at.index(body.len() + 1)], TYPE).unwrap());
            prop_assert!(whole.starts_with(&prefix), "{:?} {:?}", whole, prefix);
        }
    }
}
