//! Heads of HTTP/1 messages, read and written (RFC 9112 sections 2 to 6).
//!
//! The grammar is `httparse`'s; what a head says of its body and its connection is decided here, once,
//! and must never be read in two ways: what could be is refused. Reading is linear in what comes,
//! however small the pieces, and bounded in bytes and in headers.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header;
use http::uri::Uri;
use http::{Method, StatusCode, Version};
use httparse::{Header, ParserConfig, Status};

use crate::headers::Headers;
use crate::proxy::message::{AnswerParts, Parts};

#[cfg(test)]
mod tests;

/// The longest target that `http` can hold.
const MAX_TARGET: usize = 65_534;
/// Room for so many headers is taken without an allocation.
const USUAL: usize = 128;
/// Headers that hold more memory than this, in bytes, are not kept.
const KEPT: usize = 4 << 10;
/// Headers that are added on the way: room for them is taken at once.
const ADDED: usize = 6;

/// How large a head may be.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// Headers.
    pub headers: usize,
    /// Bytes, with the first line and the empty one.
    pub bytes: usize,
}

/// Why a head cannot be read. Carries nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// It is not HTTP/1.
    #[error("the head is not valid HTTP/1: {0}")]
    Syntax(&'static str),
    /// More bytes or headers than allowed.
    #[error("the head is larger than allowed")]
    TooLarge,
    /// A longer target than can be held.
    #[error("the target is longer than can be held")]
    TargetTooLong,
}

/// Where the body of a message ends (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes; 0 is no body.
    Length(u64),
    /// With its last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// The head of a request.
#[derive(Debug)]
pub struct RequestHead {
    /// What it says.
    pub parts: Parts,
    /// Where its body ends.
    pub framing: Framing,
    /// Whether the connection may carry another request.
    pub keep_alive: bool,
}

/// The head of an answer, interim or final.
#[derive(Debug)]
pub struct AnswerHead {
    /// What it says.
    pub parts: AnswerParts,
    /// Where its body ends.
    pub framing: Framing,
    /// Whether the connection may carry another exchange.
    pub keep_alive: bool,
}

/// Reads heads out of what has come, piece by piece.
#[derive(Debug, Default)]
pub struct HeadReader {
    /// Empty headers that were used before: their memory serves again.
    spare: Headers,
    /// So much was looked at, and the head does not end there.
    seen: usize,
}

impl HeadReader {
    /// The head of a request, once all of it is in `buf`; it is taken out then.
    ///
    /// # Errors
    /// It can never become one.
    pub fn request(&mut self, buf: &mut BytesMut, allowed: Allowed) -> Result<Option<RequestHead>, HeadFault> {
        let begins = |begun: &[u8]| {
            let mut usual = [const { MaybeUninit::uninit() }; USUAL];
            let mut parsed = httparse::Request::new(&mut []);
            ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, begun, &mut usual)
        };
        let Some(head) = self.next(buf, allowed, begins)? else { return Ok(None) };
        let mut usual = [const { MaybeUninit::uninit() }; USUAL];
        let mut more = Vec::new();
        let room = room(&mut usual, &mut more, allowed.headers);
        let mut parsed = httparse::Request::new(&mut []);
        let read = ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, &head, room);
        the_whole(read, &head)?;
        let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(HeadFault::Syntax("its first line"));
        };
        if target.len() > MAX_TARGET {
            return Err(HeadFault::TargetTooLong);
        }
        let version = if version == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| HeadFault::Syntax("its method"))?;
        let target = head.slice_ref(target.as_bytes());
        let uri = Uri::from_maybe_shared(target).map_err(|_| HeadFault::Syntax("its target"))?;
        let mut headers = std::mem::take(&mut self.spare);
        let said = fill(&mut headers, parsed.headers, &head)?;
        let mut keep_alive = said.keep_alive(version);
        let length = if said.measured {
            // Another reader may take the first number of a list, or the last.
            let listed = headers.get_all(header::CONTENT_LENGTH).any(|line| line.as_bytes().contains(&b','));
            let length = if listed { None } else { length(&mut headers) };
            Some(length.ok_or(HeadFault::Syntax("its Content-Length"))?)
        } else {
            None
        };
        let framing = if said.coded {
            if version == Version::HTTP_10 {
                return Err(HeadFault::Syntax("a transfer coding in HTTP/1.0"));
            }
            if !is_chunked(&headers) {
                return Err(HeadFault::Syntax("a transfer coding that does not end with `chunked`"));
            }
            // RFC 9112 section 6.3: the coding overrides the length, which must not be passed on; who
            // sends both may have meant two messages.
            if headers.remove(header::CONTENT_LENGTH) {
                keep_alive = false;
            }
            Framing::Chunked
        } else {
            Framing::Length(length.unwrap_or(0))
        };
        let parts = Parts { method, uri, version, headers, protocol: None };
        Ok(Some(RequestHead { parts, framing, keep_alive }))
    }

    /// The head of an answer to a request of this method, once all of it is in `buf`; it is taken out
    /// then.
    ///
    /// # Errors
    /// It can never become one.
    pub fn answer(
        &mut self,
        buf: &mut BytesMut,
        asked: &Method,
        allowed: Allowed,
    ) -> Result<Option<AnswerHead>, HeadFault> {
        let begins = |begun: &[u8]| {
            let mut usual = [const { MaybeUninit::uninit() }; USUAL];
            let mut parsed = httparse::Response::new(&mut []);
            ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, begun, &mut usual)
        };
        let Some(head) = self.next(buf, allowed, begins)? else { return Ok(None) };
        let mut usual = [const { MaybeUninit::uninit() }; USUAL];
        let mut more = Vec::new();
        let room = room(&mut usual, &mut more, allowed.headers);
        let mut parsed = httparse::Response::new(&mut []);
        let read = ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, &head, room);
        the_whole(read, &head)?;
        let (Some(code), Some(version), Some(reason)) = (parsed.code, parsed.version, parsed.reason) else {
            return Err(HeadFault::Syntax("its first line"));
        };
        let version = if version == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
        let status = StatusCode::from_u16(code).map_err(|_| HeadFault::Syntax("its status"))?;
        let mut headers = std::mem::take(&mut self.spare);
        let said = fill(&mut headers, parsed.headers, &head)?;
        let reason = headers.span(reason.as_bytes());
        let keep_alive = said.keep_alive(version);
        let framing = match code {
            100..=199 | 204 | 304 => Framing::Length(0),
            _ if asked == Method::HEAD => Framing::Length(0),
            _ if said.coded => {
                if version == Version::HTTP_10 {
                    return Err(HeadFault::Syntax("a transfer coding in HTTP/1.0"));
                }
                // Any other coding ends with the connection; the handler refuses it.
                if is_chunked(&headers) { Framing::Chunked } else { Framing::UntilClose }
            }
            _ if said.measured => Framing::Length(length(&mut headers).ok_or(HeadFault::Syntax("its Content-Length"))?),
            _ => Framing::UntilClose,
        };
        let parts = AnswerParts { status, reason, headers };
        Ok(Some(AnswerHead { parts, framing, keep_alive }))
    }

    /// Gives headers that have served their turn back, for the next head.
    pub fn recycle(&mut self, mut headers: Headers) {
        // Those that have grown keep no memory.
        if headers.capacity() <= KEPT {
            headers.clear();
            self.spare = headers;
        }
    }

    /// True while something of a head has come, but not all.
    pub fn has_begun(&self) -> bool {
        self.seen > 0
    }

    /// True if there is something of a head. Empty lines before it are ignored (RFC 9112 section 2.2),
    /// in however many pieces they come.
    fn begins(&self, buf: &mut BytesMut) -> bool {
        if self.seen > 0 {
            return true;
        }
        loop {
            match buf[..] {
                [b'\r', b'\n', ..] => buf.advance(2),
                [b'\n', ..] => buf.advance(1),
                // It may become an empty line.
                [] | [b'\r'] => return false,
                _ => return true,
            }
        }
    }

    /// The bytes of the next head, once all of it has come. What has come of one is read by `begins` at the
    /// first look, so that nonsense is refused at once.
    fn next(
        &mut self,
        buf: &mut BytesMut,
        allowed: Allowed,
        begins: impl FnOnce(&[u8]) -> httparse::Result<usize>,
    ) -> Result<Option<Bytes>, HeadFault> {
        if !self.begins(buf) {
            return Ok(None);
        }
        let head = self.whole(buf, allowed)?;
        if head.is_none() {
            if self.seen == 0 {
                refuse_nonsense(begins(buf))?;
            }
            self.seen = buf.len();
        }
        Ok(head)
    }

    /// Takes out what ends with the first empty line.
    fn whole(&mut self, buf: &mut BytesMut, allowed: Allowed) -> Result<Option<Bytes>, HeadFault> {
        // The end may straddle what was seen.
        let from = self.seen.saturating_sub(2);
        let mut last = None;
        for end in memchr::memchr_iter(b'\n', buf.get(from..).unwrap_or_default()) {
            let empty = match last {
                None => false,
                Some(last) => end == last + 1 || (end == last + 2 && buf.get(from + last + 1) == Some(&b'\r')),
            };
            if empty {
                let len = from + end + 1;
                if len > allowed.bytes {
                    return Err(HeadFault::TooLarge);
                }
                self.seen = 0;
                return Ok(Some(buf.split_to(len).freeze()));
            }
            last = Some(end);
        }
        if buf.len() >= allowed.bytes { Err(HeadFault::TooLarge) } else { Ok(None) }
    }
}

/// A head that has begun wrongly need not come to its end.
fn refuse_nonsense(read: httparse::Result<usize>) -> Result<(), HeadFault> {
    match read {
        // More headers than were looked for are counted when all are there.
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Ok(()),
        Err(error) => Err(fault(error)),
    }
}

/// What was read must be all of the head: two opinions of where it ends are one too many.
fn the_whole(read: httparse::Result<usize>, head: &[u8]) -> Result<(), HeadFault> {
    match read.map_err(fault)? {
        Status::Complete(len) if len == head.len() => Ok(()),
        _ => Err(HeadFault::Syntax("its end")),
    }
}

fn room<'r, 'b>(
    usual: &'r mut [MaybeUninit<Header<'b>>; USUAL],
    more: &'r mut Vec<MaybeUninit<Header<'b>>>,
    headers: usize,
) -> &'r mut [MaybeUninit<Header<'b>>] {
    if let Some(room) = usual.get_mut(..headers) {
        return room;
    }
    more.resize_with(headers, MaybeUninit::uninit);
    more
}

fn fault(error: httparse::Error) -> HeadFault {
    match error {
        httparse::Error::TooManyHeaders => HeadFault::TooLarge,
        httparse::Error::Version => HeadFault::Syntax("its version"),
        httparse::Error::HeaderName => HeadFault::Syntax("the name of a header"),
        httparse::Error::HeaderValue => HeadFault::Syntax("the value of a header"),
        httparse::Error::NewLine => HeadFault::Syntax("the end of a line"),
        httparse::Error::Status => HeadFault::Syntax("its status"),
        httparse::Error::Token => HeadFault::Syntax("its first line"),
    }
}

/// What the headers say of framing and of the connection.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    /// There is a Transfer-Encoding.
    coded: bool,
    /// There is a Content-Length.
    measured: bool,
    /// `Connection: close`, in any of its lines.
    close: bool,
    /// `Connection: keep-alive`.
    keep: bool,
}

impl Said {
    /// RFC 9112 section 9.3.
    fn keep_alive(self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep)
    }
}

/// Notes where the lines lie.
fn fill(headers: &mut Headers, read: &[Header<'_>], head: &Bytes) -> Result<Said, HeadFault> {
    let mut said = Said::default();
    headers.begin(head.clone(), read.len() + ADDED);
    for field in read {
        // By length first: most names are none of these.
        match field.name.len() {
            10 if field.name.eq_ignore_ascii_case("connection") => {
                for option in field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    said.close |= option.eq_ignore_ascii_case(b"close");
                    said.keep |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 => said.measured |= field.name.eq_ignore_ascii_case("content-length"),
            17 => said.coded |= field.name.eq_ignore_ascii_case("transfer-encoding"),
            _ => {}
        }
        headers.found(field.name, field.value).map_err(|_| HeadFault::TooLarge)?;
    }
    Ok(said)
}

/// True if `chunked` is the last coding (RFC 9112 section 6.3).
fn is_chunked(headers: &Headers) -> bool {
    let last = headers.get_all(header::TRANSFER_ENCODING).next_back();
    let last = last.and_then(|line| line.as_bytes().rsplit(|byte| *byte == b',').next());
    last.is_some_and(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

/// The one length that all lines agree on (RFC 9110 section 8.6); further lines are taken out.
fn length(headers: &mut Headers) -> Option<u64> {
    let mut lines = headers.get_all(header::CONTENT_LENGTH);
    let first = lines.next()?.as_bytes();
    if let (Some(length), None) = (digits(first), lines.clone().next()) {
        return Some(length);
    }
    let mut numbers = first.split(|byte| *byte == b',').map(|number| digits(number.trim_ascii()));
    let length = numbers.next()??;
    if numbers.any(|number| number != Some(length)) {
        return None;
    }
    let alone = first.iter().all(u8::is_ascii_digit);
    let mut others = false;
    for line in lines {
        others = true;
        let mut numbers = line.as_bytes().split(|byte| *byte == b',').map(|number| digits(number.trim_ascii()));
        if numbers.any(|number| number != Some(length)) {
            return None;
        }
    }
    if others || !alone {
        headers.insert(header::CONTENT_LENGTH, length.to_string());
    }
    Some(length)
}

/// A number of digits alone: no sign, no space.
pub fn digits(number: &[u8]) -> Option<u64> {
    if number.is_empty() {
        return None;
    }
    number.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Writes the head of a request. The target is in origin-form or `*`.
pub fn write_request(out: &mut Vec<u8>, parts: &Parts) {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    // Of `http://a.test?b` the http crate keeps an empty path.
    let root = if target.starts_with('?') || target.is_empty() { "/" } else { "" };
    let method = parts.method.as_str();
    out.reserve(method.len() + target.len() + 16 + parts.headers.room());
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(root.as_bytes());
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    // What old applications expect.
    parts.headers.write(out, true);
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of an answer without the empty line at its end.
pub fn write_answer(out: &mut Vec<u8>, version: Version, parts: &AnswerParts) {
    out.reserve(64 + parts.headers.room());
    out.extend_from_slice(if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(parts.status.as_str().as_bytes());
    out.push(b' ');
    match parts.reason {
        Some(reason) => out.extend_from_slice(parts.headers.part(reason)),
        None => out.extend_from_slice(parts.status.canonical_reason().unwrap_or_default().as_bytes()),
    }
    out.extend_from_slice(b"\r\n");
    parts.headers.write(out, false);
}

/// Writes one field.
pub fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
