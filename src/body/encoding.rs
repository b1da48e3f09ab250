//! Content codings and character sets: from the bytes on the wire to bytes and text to read.
//!
//! Must never give out more than the cap, whatever a few compressed bytes claim to hold: decoders
//! are asked for one byte more than the cap and stopped there, and a Zstandard window is bounded
//! as RFC 9659 demands. A prefix of a compressed body yields the prefix that can be decoded.
//!
//! The invariant: `bytes` is a prefix of the decoded body, and `cut` is false only if it is all
//! of it.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io::{self, Read};

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use http::header;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::param;
use crate::headers::Headers;

/// How many codings may be stacked. Nobody stacks more than two.
const MAX_CODINGS: usize = 3;
/// How many gzip members or Zstandard frames are read one after the other; each costs a reset of
/// the decoder, which a stranger could ask for every twenty bytes.
const MAX_MEMBERS: usize = 16;
/// The largest window a Zstandard body may ask for, in bytes (RFC 9659 section 3).
const ZSTD_WINDOW: u64 = 8 << 20;
/// Output space offered to a decoder at a time, in bytes.
const CHUNK: usize = 16 << 10;
/// What a gzip member begins with (RFC 1952 section 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// An empty last block (RFC 8878 section 3.1.1.2) and room for a checksum: a decoder that is given
/// these believes the frame ended, and hands over what it was holding back as its window.
const ZSTD_LAST_BLOCK: [u8; 7] = [0x01, 0, 0, 0, 0, 0, 0];

/// A body without its content codings.
pub struct Decoded<'a> {
    /// The body, or a prefix of it; borrowed if it was not encoded.
    pub bytes: Cow<'a, [u8]>,
    /// True if `bytes` is not all of the body: the cap was hit, the input ended early, or decoding
    /// failed.
    pub cut: bool,
    /// Why it could not be decoded to its end, if something other than the end of the input
    /// or the cap was the reason; `bytes` is what came before, often nothing.
    pub failed: Option<&'static str>,
}

/// Shows sizes, not contents: a body may hold a password.
impl fmt::Debug for Decoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Decoded { bytes, cut, failed } = self;
        f.debug_struct("Decoded").field("len", &bytes.len()).field("cut", cut).field("failed", failed).finish()
    }
}

#[derive(Clone, Copy)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// How decoding ended.
enum End {
    Whole,
    Cut,
    Broken(&'static str),
}

/// Takes the codings of `Content-Encoding` off, the last applied first (RFC 9110 section 8.4), and
/// gives at most `cap` bytes. No layer on the way may be larger than the cap either.
pub fn decode<'a>(bytes: &'a [u8], headers: &Headers, cap: usize) -> Decoded<'a> {
    // An answer without a body often carries the coding it would have had.
    let codings = if bytes.is_empty() { Ok(Vec::new()) } else { codings(headers) };
    let codings = match codings {
        Ok(codings) => codings,
        Err(why) => return Decoded { bytes: Cow::Borrowed(&[]), cut: true, failed: Some(why) },
    };
    let mut decoded = Decoded { bytes: Cow::Borrowed(bytes), cut: false, failed: None };
    for coding in codings.into_iter().rev() {
        let (out, end) = match coding {
            Coding::Gzip => gzip(&decoded.bytes, cap),
            Coding::Deflate => deflate(&decoded.bytes, cap),
            Coding::Brotli => brotli(&decoded.bytes, cap),
            Coding::Zstd => zstd(&decoded.bytes, cap),
        };
        decoded.bytes = Cow::Owned(out);
        match end {
            End::Whole => {}
            End::Cut => decoded.cut = true,
            End::Broken(why) => {
                decoded.cut = true;
                decoded.failed = decoded.failed.or(Some(why));
            }
        }
    }
    match &mut decoded.bytes {
        Cow::Borrowed(all) if all.len() > cap => {
            decoded.cut = true;
            *all = all.get(..cap).unwrap_or_default();
        }
        _ => {}
    }
    decoded
}

/// The codings in the order they were applied, `identity` left out.
fn codings(headers: &Headers) -> Result<Vec<Coding>, &'static str> {
    let mut found = Vec::new();
    for line in headers.get_all(header::CONTENT_ENCODING) {
        for word in line.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            // `x-gzip` is a name of gzip: RFC 9110 section 8.4.1.3.
            let coding = match word {
                [] => continue,
                w if w.eq_ignore_ascii_case(b"identity") => continue,
                w if w.eq_ignore_ascii_case(b"gzip") || w.eq_ignore_ascii_case(b"x-gzip") => Coding::Gzip,
                w if w.eq_ignore_ascii_case(b"deflate") => Coding::Deflate,
                w if w.eq_ignore_ascii_case(b"br") => Coding::Brotli,
                w if w.eq_ignore_ascii_case(b"zstd") => Coding::Zstd,
                _ => return Err("the content coding is none of gzip, deflate, br, zstd"),
            };
            if found.len() == MAX_CODINGS {
                return Err("more than three content codings are stacked");
            }
            found.push(coding);
        }
    }
    Ok(found)
}

/// One byte more than the cap is asked for: if it comes, there was more.
fn capped(mut out: Vec<u8>, cap: usize, end: End) -> (Vec<u8>, End) {
    if out.len() <= cap {
        return (out, end);
    }
    out.truncate(cap);
    (out, End::Cut)
}

/// Room left before a decoder has given the one byte too many.
fn room(out: &[u8], cap: usize) -> u64 {
    u64::try_from(cap.saturating_sub(out.len())).unwrap_or(u64::MAX).saturating_add(1)
}

/// True if the reason, or a reason behind it, is that the input was at its end.
fn ran_out(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof) {
            return true;
        }
        next = error.source();
    }
    false
}

/// RFC 1952; several members are one body (section 2.2), other bytes after a member are padding.
fn gzip(mut input: &[u8], cap: usize) -> (Vec<u8>, End) {
    let mut out = Vec::new();
    for member in 0..MAX_MEMBERS {
        if member > 0 && !input.starts_with(&GZIP_MAGIC) {
            return (out, End::Whole);
        }
        let room = room(&out, cap);
        let read = GzDecoder::new(&mut input).take(room).read_to_end(&mut out);
        if out.len() > cap {
            return capped(out, cap, End::Cut);
        }
        match read {
            Ok(_) => {}
            Err(error) if ran_out(&error) => return (out, End::Cut),
            Err(_) => return (out, End::Broken("the body is not valid gzip")),
        }
    }
    let end = if input.is_empty() { End::Whole } else { End::Cut };
    (out, end)
}

/// The coding called `deflate` is zlib (RFC 1950), but some servers send raw deflate (RFC 1951),
/// as RFC 9110 section 8.4.1.2 notes.
fn deflate(input: &[u8], cap: usize) -> (Vec<u8>, End) {
    if !looks_like_zlib(input) {
        return inflate(input, false, cap);
    }
    let zlib = inflate(input, true, cap);
    if let (_, End::Broken(_)) = zlib {
        let raw = inflate(input, false, cap);
        if !matches!(raw.1, End::Broken(_)) {
            return raw;
        }
    }
    zlib
}

/// RFC 1950 section 2.2: method 8, a window of at most 32 KiB, a checksum over both bytes.
fn looks_like_zlib(input: &[u8]) -> bool {
    let [cmf, flg, ..] = *input else { return false };
    cmf & 0x0f == 8 && cmf >> 4 <= 7 && u16::from_be_bytes([cmf, flg]) % 31 == 0
}

fn inflate(input: &[u8], zlib: bool, cap: usize) -> (Vec<u8>, End) {
    let mut state = Decompress::new(zlib);
    let mut out = Vec::new();
    let end = loop {
        out.reserve(CHUNK);
        let before = (state.total_in(), state.total_out());
        let rest = usize::try_from(before.0).ok().and_then(|at| input.get(at..)).unwrap_or_default();
        let status = state.decompress_vec(rest, &mut out, FlushDecompress::None);
        if out.len() > cap {
            break End::Cut;
        }
        match status {
            Ok(Status::StreamEnd) => break End::Whole,
            Ok(_) if before == (state.total_in(), state.total_out()) => break End::Cut,
            Ok(_) => {}
            Err(_) => break End::Broken("the body is not valid deflate"),
        }
    };
    capped(out, cap, end)
}

/// RFC 7932, without the large windows that only an extension allows.
fn brotli(input: &[u8], cap: usize) -> (Vec<u8>, End) {
    let mut state =
        BrotliState::new_strict(StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default());
    let (mut available, mut at, mut total) = (input.len(), 0, 0);
    let mut out = Vec::new();
    let mut chunk = vec![0; CHUNK];
    let end = loop {
        let (mut free, mut filled) = (chunk.len(), 0);
        let result = BrotliDecompressStream(
            &mut available,
            &mut at,
            input,
            &mut free,
            &mut filled,
            &mut chunk,
            &mut total,
            &mut state,
        );
        out.extend_from_slice(chunk.get(..filled).unwrap_or_default());
        if out.len() > cap {
            break End::Cut;
        }
        match result {
            BrotliResult::ResultSuccess => break End::Whole,
            BrotliResult::NeedsMoreOutput if filled > 0 => {}
            BrotliResult::NeedsMoreInput => break End::Cut,
            BrotliResult::NeedsMoreOutput | BrotliResult::ResultFailure => {
                break End::Broken("the body is not valid brotli");
            }
        }
    };
    capped(out, cap, end)
}

/// RFC 8878; several frames are one body, skippable frames are skipped.
fn zstd(mut input: &[u8], cap: usize) -> (Vec<u8>, End) {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW);
    let mut out = Vec::new();
    for _ in 0..MAX_MEMBERS {
        if input.is_empty() {
            return (out, End::Whole);
        }
        match decoder.init(&mut input) {
            Ok(()) => {}
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let Some(after) = usize::try_from(length).ok().and_then(|length| input.get(length..)) else {
                    return (out, End::Cut);
                };
                input = after;
                continue;
            }
            Err(FrameDecoderError::WindowSizeTooBig { .. }) => {
                return (out, End::Broken("the zstd window is larger than 8 MiB"));
            }
            Err(error) if ran_out(&error) => return (out, End::Cut),
            Err(_) => return (out, End::Broken("the body is not valid zstd")),
        }
        let room = room(&out, cap);
        let blocks = BlockDecodingStrategy::UptoBytes(usize::try_from(room).unwrap_or(usize::MAX));
        let decoded = decoder.decode_blocks(&mut input, blocks);
        if !decoder.is_finished() {
            // What it says of this block changes nothing: the frame is over either way.
            let _ = decoder.decode_blocks(&ZSTD_LAST_BLOCK[..], BlockDecodingStrategy::All);
        }
        let drained = decoder.by_ref().take(room).read_to_end(&mut out);
        if out.len() > cap {
            return capped(out, cap, End::Cut);
        }
        match decoded {
            Ok(true) if drained.is_ok() => {}
            Err(error) if ran_out(&error) => return (out, End::Cut),
            _ => return (out, End::Broken("the body is not valid zstd")),
        }
    }
    let end = if input.is_empty() { End::Whole } else { End::Cut };
    (out, end)
}

/// The text of a body: windows-1252 where the content type says so (or ISO-8859-1 or ASCII, which
/// on the web mean the same), otherwise UTF-8 with what is invalid replaced. A byte order mark is
/// dropped and, as in browsers, outweighs the declaration.
pub fn text<'a>(bytes: &'a [u8], content_type: &str) -> Cow<'a, str> {
    if let Some(bytes) = bytes.strip_prefix(b"\xef\xbb\xbf") {
        return String::from_utf8_lossy(bytes);
    }
    match param(content_type, "charset") {
        Some(charset) if is_western(&charset) => western(bytes),
        _ => String::from_utf8_lossy(bytes),
    }
}

fn is_western(charset: &str) -> bool {
    ["iso-8859-1", "iso8859-1", "latin1", "windows-1252", "cp1252", "us-ascii"]
        .iter()
        .any(|name| charset.eq_ignore_ascii_case(name))
}

/// Bytes of windows-1252 as text.
pub(super) fn western(bytes: &[u8]) -> Cow<'_, str> {
    if bytes.is_ascii()
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        return Cow::Borrowed(text);
    }
    let text = bytes.iter().map(|byte| match byte {
        0x80..=0x9f => WINDOWS_1252.get(usize::from(byte & 0x1f)).copied().unwrap_or('\u{fffd}'),
        _ => char::from(*byte),
    });
    Cow::Owned(text.collect())
}

/// Where windows-1252 differs from ISO-8859-1: 0x80 to 0x9f. The five bytes it leaves undefined
/// are the control characters of ISO-8859-1, as in the WHATWG encoding standard.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

#[cfg(test)]
mod tests;
