//! Lines held against a map of headers, which is the other opinion.

use http::header;
use proptest::prelude::*;

use super::*;

const HEAD: &str =
    "GET / HTTP/1.1\r\nHOST: a\r\nX-Custom-ID: 12\r\nodd:b\r\nEmpty:\r\naCCEPT: b\r\nhost: c\r\nlone: c\n\r\n";

fn lines(head: &'static str) -> Headers {
    let bytes = Bytes::from_static(head.as_bytes());
    let mut read = [httparse::EMPTY_HEADER; 32];
    let start = head.find("\r\n").unwrap() + 2;
    let parsed = httparse::parse_headers(&head.as_bytes()[start..], &mut read);
    let Ok(httparse::Status::Complete((_, fields))) = parsed else { panic!("a head") };
    let mut headers = Headers::new();
    headers.begin(bytes.clone(), fields.len());
    for field in fields {
        headers.found(field.name, field.value).unwrap();
    }
    headers
}

fn written(headers: &Headers, titled: bool) -> String {
    let mut out = Vec::new();
    headers.write(&mut out, titled);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_nobody_changed_is_written_as_it_was_sent() {
    let headers = lines(HEAD);
    let want = "HOST: a\r\nX-Custom-ID: 12\r\nodd: b\r\nEmpty: \r\naCCEPT: b\r\nhost: c\r\nlone: c\r\n";
    assert_eq!(written(&headers, true), want, "a space after the colon and CR LF at the end are all that is made");
    assert_eq!(headers.get_all(header::HOST).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(headers.get("X-CUSTOM-id").unwrap(), "12");
    assert!(headers.get("custom-id").is_none() && headers.get("hos").is_none());
}

#[test]
fn what_is_added_is_in_the_usual_case_and_what_is_replaced_stays_in_its_place() {
    let mut headers = lines(HEAD);
    headers.insert(header::HOST, "new");
    headers.remove("odd");
    headers.append(HeaderName::from_static("x-made-here"), "1");
    let rest = "X-Custom-ID: 12\r\nEmpty: \r\naCCEPT: b\r\nlone: c\r\n";
    assert_eq!(written(&headers, true), format!("Host: new\r\n{rest}X-Made-Here: 1\r\n"));
    assert_eq!(written(&headers, false), format!("host: new\r\n{rest}x-made-here: 1\r\n"));
}

#[test]
fn no_value_ends_its_line() {
    let mut headers = Headers::new();
    headers.append(header::VIA, "a\r\nX-Forged: 1\0\n");
    assert_eq!(written(&headers, false), "via: a  X-Forged: 1  \r\n");
}

#[test]
fn no_value_is_shown_where_headers_are() {
    let headers = Headers::from_iter([(header::COOKIE, "session=secret")]);
    assert_eq!(format!("{headers:?} {:?}", headers.get("cookie")), "[cookie] Some(14 bytes)");
}

#[test]
fn what_is_no_part_of_the_head_is_no_line() {
    let mut headers = lines(HEAD);
    assert_eq!(headers.found("host", b"elsewhere"), Err(TooLong));
    assert!(headers.span(b"elsewhere").is_none());
}

#[derive(Clone, Debug)]
enum Change {
    Append(usize, String),
    Insert(usize, String),
    Remove(usize),
}

const NAMES: [&str; 8] = ["host", "cookie", "x-a", "x-b", "ab", "x-c", "content-length", "x-forwarded-for"];

fn change() -> impl Strategy<Value = Change> {
    let (name, value) = (0..NAMES.len(), "[ -~]{0,6}");
    prop_oneof![
        (name.clone(), value).prop_map(|(n, v)| Change::Append(n, v)),
        (name.clone(), value).prop_map(|(n, v)| Change::Insert(n, v)),
        name.prop_map(Change::Remove),
    ]
}

proptest! {
    #[test]
    fn lines_say_what_a_map_says_whatever_is_done_to_both(
        sent in prop::collection::vec((0..NAMES.len(), "[!-~]{0,6}", prop::bool::ANY), 0..8),
        changes in prop::collection::vec(change(), 0..24),
    ) {
        let mut map = HeaderMap::new();
        let mut head = String::new();
        let mut places = Vec::new();
        for (name, value, upper) in &sent {
            let spelled = if *upper { NAMES[*name].to_uppercase() } else { NAMES[*name].to_owned() };
            let start = head.len();
            head.push_str(&format!("{spelled}: {value}\r\n"));
            places.push((start, spelled.len(), value.len()));
            map.append(HeaderName::from_static(NAMES[*name]), HeaderValue::from_str(value).unwrap());
        }
        let head = Bytes::from(head);
        let mut headers = Headers::new();
        headers.begin(head.clone(), sent.len());
        for (start, name, value) in places {
            let name_text = std::str::from_utf8(&head[start..start + name]).unwrap();
            headers.found(name_text, &head[start + name + 2..start + name + 2 + value]).unwrap();
        }
        for change in changes {
            match change {
                Change::Append(name, value) => {
                    let name = HeaderName::from_static(NAMES[name]);
                    headers.append(&name, &value);
                    map.append(name, HeaderValue::from_str(&value).unwrap());
                }
                Change::Insert(name, value) => {
                    let name = HeaderName::from_static(NAMES[name]);
                    headers.insert(&name, &value);
                    map.insert(name, HeaderValue::from_str(&value).unwrap());
                }
                Change::Remove(name) => {
                    prop_assert_eq!(headers.remove(NAMES[name]), map.remove(NAMES[name]).is_some());
                }
            }
            prop_assert_eq!(headers.len(), map.len());
            for name in NAMES {
                let of_map: Vec<&[u8]> = map.get_all(name).iter().map(HeaderValue::as_bytes).collect();
                let mut of_lines: Vec<&[u8]> = headers.get_all(name).map(Value::as_bytes).collect();
                prop_assert_eq!(&of_lines, &of_map);
                of_lines.reverse();
                prop_assert_eq!(headers.get_all(name).rev().map(Value::as_bytes).collect::<Vec<_>>(), of_lines);
                prop_assert_eq!(headers.contains_key(name), map.contains_key(name));
            }
        }
        // One way and back.
        prop_assert_eq!(&headers.to_map(), &map);
        prop_assert_eq!(&Headers::from(&map), &headers);
        // And what is written is read alike.
        let mut out = Vec::new();
        headers.write(&mut out, true);
        out.extend_from_slice(b"\r\n");
        let mut read = [httparse::EMPTY_HEADER; 64];
        let parsed = httparse::parse_headers(&out, &mut read);
        let Ok(httparse::Status::Complete((_, fields))) = parsed else { panic!("what is written is no head") };
        prop_assert_eq!(fields.len(), headers.len());
        for (field, (name, value)) in fields.iter().zip(headers.iter()) {
            prop_assert!(name.is(field.name));
            // White space around a value is none of it.
            prop_assert_eq!(field.value.trim_ascii(), value.as_bytes().trim_ascii());
        }
    }

    #[test]
    fn names_are_compared_as_if_letter_by_letter(
        a in prop::collection::vec(any::<u8>(), 0..30),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![Just(0x20_u8), any::<u8>()]), 0..4),
    ) {
        let mut b = a.clone();
        for (at, change) in &changes {
            if !b.is_empty() {
                let at = at.index(b.len());
                b[at] ^= change;
            }
        }
        prop_assert_eq!(same(&a, &b), a.eq_ignore_ascii_case(&b));
        let letters: Vec<u8> = a.iter().map(|byte| b'A' + byte % 58).collect();
        let swapped: Vec<u8> = letters.iter().enumerate().map(|(n, byte)| byte ^ if n % 2 == 0 { 0x20 } else { 0 }).collect();
        prop_assert_eq!(same(&letters, &swapped), letters.eq_ignore_ascii_case(&swapped));
    }

    #[test]
    fn any_bytes_as_a_value_are_one_line(value in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut headers = Headers::new();
        headers.append(header::VIA, &value);
        let mut out = Vec::new();
        headers.write(&mut out, false);
        prop_assert_eq!(out.iter().filter(|byte| matches!(byte, b'\r' | b'\n')).count(), 2);
    }
}
