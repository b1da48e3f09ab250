//! Framing: one reading of where a message ends, or none.
//!
//! Whoever reads heads refuses most of what two readers could read differently (`http1/head.rs`, `h2`);
//! these are the cases they leave.
//! A request that breaks them is answered 400 and its connection closed; an answer that does is a
//! 502, and its connection is never used again (RFC 9112 sections 6 and 11.1).

use http::{Method, StatusCode, header};

use super::error::ProxyError;
use super::http1::head::digits;
use crate::headers::Headers;

/// The longest method, in bytes. Registered ones have at most 17 (`BASELINE-CONTROL`).
const MAX_METHOD: usize = 32;

/// Checks what a request says of itself.
pub fn check_request(method: &Method, headers: &Headers) -> Result<(), ProxyError> {
    if method.as_str().len() > MAX_METHOD {
        return Err(ProxyError::NotImplemented("a method of that length"));
    }
    if !only_chunked(headers) {
        // RFC 9112 section 6.1: an unknown or repeated coding cannot be framed.
        return Err(ProxyError::BadRequest("its transfer coding is not `chunked`, once"));
    }
    Ok(())
}

/// Checks what an answer says of itself.
pub fn check_answer(status: StatusCode, headers: &Headers) -> Result<(), ProxyError> {
    if !one_length(headers) {
        // Whoever reads heads looks at it only where a body follows.
        return Err(ProxyError::Ambiguous("its Content-Length is not one number"));
    }
    if !headers.contains_key(header::TRANSFER_ENCODING) {
        return Ok(());
    }
    if headers.contains_key(header::CONTENT_LENGTH) {
        return Err(ProxyError::Ambiguous("it has Content-Length and Transfer-Encoding"));
    }
    if !only_chunked(headers) {
        return Err(ProxyError::Ambiguous("its transfer coding is not `chunked`, once"));
    }
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        return Err(ProxyError::Ambiguous("it has a transfer coding where no body can be"));
    }
    Ok(())
}

/// True if all lengths are the same number, or there is none (RFC 9110 section 8.6).
fn one_length(headers: &Headers) -> bool {
    let mut lines = headers.get_all(header::CONTENT_LENGTH);
    match (lines.next(), lines.next()) {
        (None, _) => return true,
        (Some(one), None) if digits(one.as_bytes()).is_some() => return true,
        _ => {}
    }
    let lines = headers.get_all(header::CONTENT_LENGTH);
    let mut numbers = lines.flat_map(|line| line.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii);
    let Some(first) = numbers.next() else { return true };
    !first.is_empty() && first.iter().all(u8::is_ascii_digit) && numbers.all(|number| number == first)
}

/// True if there is no transfer coding, or the one everybody understands, once.
fn only_chunked(headers: &Headers) -> bool {
    let mut lines = headers.get_all(header::TRANSFER_ENCODING);
    match (lines.next(), lines.next()) {
        (None, _) => true,
        (Some(one), None) => one.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> Headers {
        let lines = lines.iter().map(|(n, v)| (http::HeaderName::from_static(n), http::HeaderValue::from_static(v)));
        let mut map = Headers::new();
        lines.for_each(|(n, v)| {
            map.append(n, v);
        });
        map
    }

    #[test]
    fn a_transfer_coding_is_chunked_once_or_refused() {
        for (value, good) in [
            ("chunked", true),
            ("Chunked", true),
            ("chunked, chunked", false),
            ("gzip, chunked", false),
            ("identity", false),
        ] {
            let headers = headers(&[("transfer-encoding", value)]);
            assert_eq!(check_request(&Method::POST, &headers).is_ok(), good, "{value}");
            assert_eq!(check_answer(StatusCode::OK, &headers).is_ok(), good, "{value}");
        }
        let twice = headers(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]);
        assert!(check_request(&Method::POST, &twice).is_err());
    }

    #[test]
    fn an_answer_with_two_framings_is_refused() {
        let both = headers(&[("transfer-encoding", "chunked"), ("content-length", "3")]);
        assert!(check_answer(StatusCode::OK, &both).is_err());
        assert!(check_answer(StatusCode::NO_CONTENT, &headers(&[("transfer-encoding", "chunked")])).is_err());
        assert!(check_answer(StatusCode::OK, &headers(&[("content-length", "3")])).is_ok());
    }

    #[test]
    fn an_answer_with_two_lengths_is_refused_even_where_no_body_follows() {
        for (lengths, good) in [
            (&[("content-length", "5"), ("content-length", "6")][..], false),
            (&[("content-length", "5"), ("content-length", "5")], true),
            (&[("content-length", "5, 5")], true),
            (&[("content-length", "5, 6")], false),
            (&[("content-length", "-5")], false),
            (&[("content-length", "")], false),
        ] {
            for status in [StatusCode::OK, StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED] {
                assert_eq!(check_answer(status, &headers(lengths)).is_ok(), good, "{lengths:?}");
            }
        }
    }

    #[test]
    fn a_method_of_any_length_is_not_passed_on() {
        let long = Method::from_bytes(&[b'A'; 200]).expect("a token");
        assert!(check_request(&long, &Headers::new()).is_err());
        assert!(check_request(&Method::GET, &Headers::new()).is_ok());
    }
}
