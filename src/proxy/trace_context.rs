//! `traceparent` (W3C Trace Context, www.w3.org/TR/trace-context): read from a request, written for
//! the application.
//!
//! What a client writes into it is a stranger's: it names a trace and nothing else, and whoever
//! reads it must not let it decide more. A header that stands there twice, or is not valid, is as if
//! there were none (section 3.2). The invariant: what [`Context::header`] writes is read back as the
//! same context.

use http::header::{HeaderName, HeaderValue};

use crate::headers::Headers;

/// The header.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What vendors add to it; it belongs to a valid `traceparent` (section 3.3).
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The flag of a request that is recorded (section 3.2.2.5.1).
const SAMPLED: u8 = 0x01;
/// The flag of a trace id that was made at random (Level 2, section 3.2.2.5.2): it goes on with the id.
const RANDOM: u8 = 0x02;

/// Where a request stands in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace; never all zeros.
    pub trace: [u8; 16],
    /// The span that asks; never all zeros.
    pub span: [u8; 8],
    flags: u8,
}

impl Context {
    /// A context that is recorded, in a trace of this context or in one of its own.
    pub fn recorded(trace: [u8; 16], span: [u8; 8], within: Option<&Context>) -> Context {
        let random = within.map_or(0, |parent| parent.flags & RANDOM);
        Context { trace, span, flags: SAMPLED | random }
    }

    /// That of a request, if it has one.
    pub fn of(headers: &Headers) -> Option<Context> {
        let [trace, span, flags] = parts(headers)?;
        let [flags] = bytes_of_hex::<1>(flags)?;
        Some(Context { trace: bytes_of_hex(trace)?, span: bytes_of_hex(span)?, flags })
    }

    /// True if whoever asks records the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The flags as version 00 knows them.
    pub fn flags(&self) -> u8 {
        self.flags & (SAMPLED | RANDOM)
    }

    /// The header's value, in version 00: of a later version no more can be passed on than is
    /// understood (section 4.3).
    pub fn header(&self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(text.get_mut(3..35), &self.trace);
        write_hex(text.get_mut(36..52), &self.span);
        write_hex(text.get_mut(53..55), &[self.flags()]);
        // Hexadecimal digits and hyphens are a header value.
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// The trace id of a valid `traceparent`: 32 lower-case hexadecimal digits.
pub fn trace_id(headers: &Headers) -> Option<&str> {
    parts(headers).map(|[trace, ..]| trace)
}

/// Trace id, parent id and flags of a valid `traceparent` (section 3.2.2).
fn parts(headers: &Headers) -> Option<[&str; 3]> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let text = lines.next().filter(|_| lines.next().is_none())?.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // Section 3.2.4: a later version may go on after a hyphen; version 00 ends here.
    let ends = version != "00" || parts.next().is_none();
    let valid = is_hex(version, 2) && version != "ff" && is_hex(flags, 2) && ends;
    let named = is_hex(trace, 32) && !is_zero(trace) && is_hex(parent, 16) && !is_zero(parent);
    (valid && named).then_some([trace, parent, flags])
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_zero(text: &str) -> bool {
    text.bytes().all(|b| b == b'0')
}

/// The bytes of twice as many lower-case digits; `None` if they are none.
fn bytes_of_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

fn write_hex(into: Option<&mut [u8]>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| DIGITS.get(usize::from(half & 0xf)).copied().unwrap_or(b'0');
    for (pair, byte) in into.into_iter().flat_map(|into| into.chunks_exact_mut(2)).zip(bytes) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(*byte)]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn with(values: &[&str]) -> Headers {
        values.iter().map(|value| (TRACEPARENT, HeaderValue::from_bytes(value.as_bytes()).unwrap())).collect()
    }

    #[test]
    fn a_context_is_read_as_section_3_2_says() {
        let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
        for (value, valid) in [
            (good.clone(), true),
            (format!("01-{TRACE}-00f067aa0ba902b7-01"), true),
            (format!("cc-{TRACE}-00f067aa0ba902b7-01-what-comes-later"), true),
            (format!("{good}-"), false),
            (format!("{good}-more"), false),
            (format!("{good}00"), false),
            (format!("cc-{TRACE}-00f067aa0ba902b7-01.later"), false),
            (format!("ff-{TRACE}-00f067aa0ba902b7-01"), false),
            (format!("0-{TRACE}-00f067aa0ba902b7-01"), false),
            (format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()), false),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), false),
            (format!("00-{TRACE}-0000000000000000-01"), false),
            (format!("00-{TRACE}-00f067aa0ba902b7-0g"), false),
            (format!("00-{TRACE}-00f067aa0ba902b7"), false),
            (format!("00-{TRACE}0-0f067aa0ba902b7-01"), false),
            (String::new(), false),
            ("-".repeat(4000), false),
        ] {
            let headers = with(&[&value]);
            assert_eq!(trace_id(&headers), valid.then_some(TRACE), "{value}");
            assert_eq!(Context::of(&headers).is_some(), valid, "{value}");
        }
        assert_eq!(trace_id(&with(&[&good, &good])), None);
        assert_eq!(Context::of(&Headers::new()), None);
    }

    #[test]
    fn of_the_flags_those_that_are_known_go_on() {
        let context = |flags: &str| Context::of(&with(&[&format!("cc-{TRACE}-00f067aa0ba902b7-{flags}-x")])).unwrap();
        for (flags, sampled, goes_on) in
            [("00", false, "00"), ("01", true, "01"), ("ff", true, "03"), ("02", false, "02")]
        {
            let context = context(flags);
            assert_eq!(context.is_sampled(), sampled, "{flags}");
            assert_eq!(context.header(), format!("00-{TRACE}-00f067aa0ba902b7-{goes_on}").as_str());
        }
        let child = Context::recorded(context("02").trace, [1; 8], Some(&context("02")));
        assert_eq!(child.header(), format!("00-{TRACE}-{}-03", "01".repeat(8)).as_str());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_and_no_bytes_make_it_panic(
            trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), any in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let context = Context::recorded(trace, span, None);
            let mut headers = Headers::new();
            headers.insert(TRACEPARENT, context.header());
            let zero = trace == [0; 16] || span == [0; 8];
            prop_assert_eq!(Context::of(&headers), (!zero).then_some(context));
            if let Ok(value) = HeaderValue::from_bytes(&any) {
                headers.insert(TRACEPARENT, value);
                let _ = Context::of(&headers);
            }
        }
    }
}
