//! What cookies show: which change or go, by the names that a configuration gives them.

use std::hash::{BuildHasher, RandomState};

use http::header;

use super::{MAX_PLACES, MAX_VALUE, Seen};
use crate::auto::answer::{looks_like_a_secret, looks_like_a_session};
use crate::body::cookie::{self, CookieChange, SetCookie};
use crate::body::wanted::fits;
use crate::learn::sign::Sign;
use crate::learn::words::is_name;
use crate::rules::facts::Facts;
use crate::rules::source::is_secret_name;

/// The source of a name at the beginning of a cookie of several parts.
const FIRST_PART: &str = "^(.+?)(?:%7C|[|]|%3A|:)";

/// Cookies that change or go, what they begin with, and what may hold steps together.
pub(super) fn cookies(facts: &Facts<'_>, hasher: &RandomState, seen: &mut Seen) {
    let mut note = |name: &str, value: &[u8]| {
        if looks_like_a_secret(value) && is_name(name) && seen.cookies.len() < MAX_PLACES {
            seen.cookies.push((name.to_owned(), hasher.hash_one((name, value))));
        }
    };
    let mut parts = Vec::new();
    for (name, value) in cookie::request_cookies(facts.headers).take(MAX_PLACES) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        note(name, value);
        parts.extend(cookie_name(name).zip(first_part(value)).map(|(name, part)| (format!("cookie.{name}"), part)));
    }
    if let Some((_, headers)) = facts.response {
        for line in headers.get_all(header::SET_COOKIE).iter().take(cookie::MAX_SET_COOKIES) {
            let Some(set) = SetCookie::parse(line.as_bytes(), facts.at) else { continue };
            let Ok(name) = std::str::from_utf8(set.name) else { continue };
            let Some(shown) = cookie_name(name) else { continue };
            let brought = cookie::request_cookies(facts.headers).any(|(brought, _)| fits(&shown, brought));
            // Asked as a rule would ask it.
            match cookie::change(facts.headers, headers, &shown, facts.at) {
                CookieChange::Changed if looks_like_a_session(name, set.value) => {
                    note(name, set.value);
                    let part = first_part(set.value).map(|part| (format!("response.cookie.{shown}"), part));
                    parts.extend(part);
                    seen.signs.insert(Sign::Cookie(shown));
                }
                CookieChange::Deleted if brought => {
                    seen.signs.insert(Sign::CookieGone(shown));
                }
                _ => {}
            }
        }
    }
    for (source, part) in parts {
        let name = source.rsplit("cookie.").next().unwrap_or_default();
        if !is_secret_name(name, true) {
            seen.sources.push((format!("{source}:{FIRST_PART}"), part));
        }
    }
}

/// What a cookie of several parts begins with, as [`FIRST_PART`] reads it.
fn first_part(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let ends = ["%7C", "|", "%3A", ":"];
    let at = ends.iter().filter_map(|end| text.find(end)).min()?;
    text.get(..at).filter(|part| (2..=MAX_VALUE).contains(&part.len())).map(str::to_owned)
}

/// A cookie's name as a configuration has it; with `*` for a part that is made anew for each installation.
pub(super) fn cookie_name(name: &str) -> Option<String> {
    if is_name(name) {
        return Some(name.to_owned());
    }
    // `wordpress_logged_in_5c01…`, `DW68700bf…`.
    let separator = name.char_indices().rev().find(|(_, c)| "_-.".contains(*c)).map(|(at, _)| at + 1);
    let letters = name.find(|c: char| !c.is_ascii_alphabetic()).filter(|at| name.len() - at >= 8);
    let stem = |at: usize, least: usize| name.get(..at).filter(|stem| stem.len() >= least && is_name(stem));
    let stem = separator.and_then(|at| stem(at, 5)).or_else(|| letters.and_then(|at| stem(at, 2)))?;
    Some(format!("{stem}*"))
}
