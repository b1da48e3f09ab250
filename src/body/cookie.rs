//! Cookies: what a request brought, what a response set, and what that did to one of them
//! (RFC 6265, read as leniently as browsers do).
//!
//! Must never hand a cookie's value to a log: `Debug` shows lengths. Nothing here keeps a value;
//! whoever needs to recognise a session hashes it.
//!
//! The invariant: whether a date is in the past is decided against the moment of the answer, never
//! against the clock, so that a recording gives tomorrow what it gave today.

use std::fmt;
use std::time::UNIX_EPOCH;

use http::header;

use super::wanted::{Wanted, fits};
use crate::event::Timestamp;
use crate::headers::Headers;

/// How many `Set-Cookie` lines of a response are read.
pub const MAX_SET_COOKIES: usize = 128;

/// The cookies of a request, over all its `Cookie` lines, as names and unquoted values. Pieces
/// without a name are left out.
pub fn request_cookies(headers: &Headers) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = headers.get_all(header::COOKIE).iter();
    lines.flat_map(|line| pieces(line.as_bytes())).filter_map(pair)
}

/// True if a request brought a cookie of one of these names: as [`request_cookies`] would tell, which every
/// request with cookies is asked here.
pub fn brings_any(headers: &Headers, wanted: &Wanted) -> bool {
    headers.get_all(header::COOKIE).any(|line| names_any(line.as_bytes(), wanted))
}

fn names_any(line: &[u8], wanted: &Wanted) -> bool {
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        let Some(first) = rest.first() else { return false };
        if wanted.begins(*first) {
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'=' | b';')) else { return false };
            let (name, more) = rest.split_at_checked(end).unwrap_or_default();
            if more.first() == Some(&b'=') && wanted.has(name.trim_ascii_end()) {
                return true;
            }
            rest = more;
        }
        let Some(end) = memchr::memchr(b';', rest) else { return false };
        rest = rest.get(end + 1..).unwrap_or_default();
    }
}

/// What stands between semicolons.
fn pieces(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let end = memchr::memchr(b';', line);
        rest = end.and_then(|end| line.get(end + 1..));
        line.get(..end.unwrap_or(line.len()))
    })
}

/// The value of the first cookie of that name (see [`change`] for a trailing `*`), unquoted. Servers
/// differ in which of several they read; RFC 6265 section 5.4 makes browsers send the one with the
/// longest path first.
pub fn request_cookie<'h>(headers: &'h Headers, name: &str) -> Option<&'h [u8]> {
    request_cookies(headers).find(|(found, _)| fits(name, found)).map(|(_, value)| value)
}

/// One `Set-Cookie` line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SetCookie<'a> {
    /// The cookie's name, never empty.
    pub name: &'a [u8],
    /// Its value without surrounding quotes.
    pub value: &'a [u8],
    /// True if the line takes the cookie away: `Max-Age` of zero or less, else `Expires` not after
    /// the answer; or an empty value, or PHP's `deleted`.
    pub deleted: bool,
}

impl<'a> SetCookie<'a> {
    /// Reads the value of a `Set-Cookie` header of an answer given at `at` (RFC 6265 section 5.2);
    /// `None` if it has no name.
    pub fn parse(line: &'a [u8], at: Timestamp) -> Option<SetCookie<'a>> {
        let end = memchr::memchr(b';', line).unwrap_or(line.len());
        let (first, attributes) = line.split_at_checked(end)?;
        let (name, value) = pair(first)?;
        let (mut max_age, mut expires) = (None, None);
        // The last attribute of a kind that can be read counts, and `Max-Age` outweighs `Expires`:
        // RFC 6265 section 5.3, step 3.
        let mut rest = attributes;
        while let Some((_, after)) = rest.split_first() {
            let end = memchr::memchr(b';', after).unwrap_or(after.len());
            let (piece, more) = after.split_at_checked(end)?;
            rest = more;
            // Of the others nothing is wanted, and they are most.
            if !matches!(piece.trim_ascii_start().first(), Some(b'm' | b'M' | b'e' | b'E')) {
                continue;
            }
            let Some((attribute, value)) = pair(piece) else { continue };
            if attribute.eq_ignore_ascii_case(b"max-age") {
                max_age = is_over(value).or(max_age);
            } else if attribute.eq_ignore_ascii_case(b"expires") {
                expires = date(value).map(|date| date <= at).or(expires);
            }
        }
        let deleted = value.is_empty() || value == b"deleted" || max_age.or(expires).unwrap_or(false);
        Some(SetCookie { name, value, deleted })
    }
}

impl fmt::Debug for SetCookie<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetCookie")
            .field("name", &self.name.escape_ascii().to_string())
            .field("value_len", &self.value.len())
            .field("deleted", &self.deleted)
            .finish()
    }
}

/// What a response did to a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieChange {
    /// It does not mention the cookie.
    Absent,
    /// It sets the value that the request brought.
    Same,
    /// It sets a value that the request did not bring.
    Changed,
    /// It takes the cookie away, whether or not the request brought one.
    Deleted,
}

/// What the answer given at `at` did to the cookie `name`. Of several `Set-Cookie` lines of one
/// name the last decides. A trailing `*` stands for any rest (`wordpress_logged_in_*`); if several
/// names fit, a change outweighs a deletion, and a deletion a value that stayed.
pub fn change(request: &Headers, response: &Headers, name: &str, at: Timestamp) -> CookieChange {
    let mut last: Vec<SetCookie<'_>> = Vec::new();
    for line in response.get_all(header::SET_COOKIE).iter().take(MAX_SET_COOKIES) {
        let Some(set) = SetCookie::parse(line.as_bytes(), at).filter(|set| fits(name, set.name)) else { continue };
        match last.iter_mut().find(|known| known.name == set.name) {
            Some(known) => *known = set,
            None => last.push(set),
        }
    }
    let mut found = CookieChange::Absent;
    for set in last {
        found = match (found, one(request, &set)) {
            (CookieChange::Changed, _) | (_, CookieChange::Changed) => CookieChange::Changed,
            (CookieChange::Deleted, _) | (_, CookieChange::Deleted) => CookieChange::Deleted,
            (_, other) => other,
        };
    }
    found
}

/// The value that the answer given at `at` sets for the cookie `name` (see [`change`] for a
/// trailing `*`); `None` if it sets none or deletes it. Of several lines the last decides.
pub fn handed_out<'h>(response: &'h Headers, name: &str, at: Timestamp) -> Option<&'h [u8]> {
    let lines = response.get_all(header::SET_COOKIE).iter().take(MAX_SET_COOKIES);
    let mut last = None;
    for set in lines.filter_map(|line| SetCookie::parse(line.as_bytes(), at)).filter(|set| fits(name, set.name)) {
        last = (!set.deleted).then_some(set.value);
    }
    last
}

fn one(request: &Headers, set: &SetCookie<'_>) -> CookieChange {
    if set.deleted {
        CookieChange::Deleted
    } else if request_cookies(request).any(|brought| brought == (set.name, set.value)) {
        CookieChange::Same
    } else {
        CookieChange::Changed
    }
}

/// `name=value`, both trimmed, the value unquoted.
fn pair(piece: &[u8]) -> Option<(&[u8], &[u8])> {
    // Names are short, so looking at each byte is soon done.
    let equals = piece.iter().position(|b| *b == b'=')?;
    let (name, value) = piece.split_at_checked(equals)?;
    let (name, value) = (name.trim_ascii(), value.get(1..)?.trim_ascii());
    let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    (!name.is_empty()).then_some((name, unquoted.unwrap_or(value)))
}

/// Whether a `Max-Age` is zero or less; `None` if it is no number (RFC 6265 section 5.2.2).
fn is_over(value: &[u8]) -> Option<bool> {
    let (negative, digits) = match value {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    number.then(|| negative || digits.iter().all(|digit| *digit == b'0'))
}

/// A cookie's date: as HTTP writes it, else whatever browsers still make sense of.
fn date(value: &[u8]) -> Option<Timestamp> {
    let strict = std::str::from_utf8(value).ok().and_then(|text| httpdate::parse_http_date(text).ok());
    let Some(strict) = strict else { return lenient_date(value) };
    let millis = strict.duration_since(UNIX_EPOCH).ok()?.as_millis();
    i64::try_from(millis).ok().map(Timestamp::from_millis)
}

/// RFC 6265 section 5.1.1: a time, a day, a month and a year, in whatever order and between
/// whatever separators they stand; the day of the week and the time zone are not looked at.
fn lenient_date(value: &[u8]) -> Option<Timestamp> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in value.split(|b| is_date_delimiter(*b)).filter(|token| !token.is_empty()) {
        if time.is_none()
            && let Some(found) = clock(token)
        {
            time = Some(found);
        } else if day.is_none()
            && let Some(found) = digits(token, 1, 2)
        {
            day = Some(found);
        } else if month.is_none()
            && let Some(found) = month_number(token)
        {
            month = Some(found);
        } else if year.is_none()
            && let Some(found) = digits(token, 2, 4)
        {
            year = Some(found);
        }
    }
    let (hour, minute, second) = time?;
    let year = match year? {
        short @ 70..=99 => short + 1900,
        short @ 0..=69 => short + 2000,
        0..1601 => return None,
        full => full,
    };
    let small = |number: i16| i8::try_from(number).ok();
    let moment =
        jiff::civil::DateTime::new(year, month?, small(day?)?, small(hour)?, small(minute)?, small(second)?, 0);
    let moment = moment.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp::from_millis(moment.timestamp().as_millisecond()))
}

fn is_date_delimiter(byte: u8) -> bool {
    matches!(byte, 0x09 | 0x20..=0x2f | 0x3b..=0x40 | 0x5b..=0x60 | 0x7b..=0x7e)
}

/// The number at the start of a token, of `least` to `most` digits and no digit after them.
fn digits(token: &[u8], least: usize, most: usize) -> Option<i16> {
    let count = token.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(least..=most).contains(&count) {
        return None;
    }
    token
        .iter()
        .take(count)
        .try_fold(0_i16, |number, digit| number.checked_mul(10)?.checked_add(i16::from(digit - b'0')))
}

/// `hh:mm:ss`, with one or two digits each; what follows the seconds is not looked at.
fn clock(token: &[u8]) -> Option<(i16, i16, i16)> {
    let mut parts = token.splitn(3, |b| *b == b':');
    let mut whole =
        || parts.next().filter(|part| part.iter().all(u8::is_ascii_digit)).and_then(|part| digits(part, 1, 2));
    let (hour, minute) = (whole()?, whole()?);
    Some((hour, minute, digits(parts.next()?, 1, 2)?))
}

fn month_number(token: &[u8]) -> Option<i8> {
    const MONTHS: [&[u8; 3]; 12] =
        [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
    let start = token.get(..3)?;
    MONTHS.iter().zip(1..).find(|(month, _)| start.eq_ignore_ascii_case(**month)).map(|(_, number)| number)
}

#[cfg(test)]
mod tests;
