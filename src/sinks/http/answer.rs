//! What a receiver's answer means for the events it was sent.
//!
//! | answer | meaning |
//! | --- | --- |
//! | 2xx | taken |
//! | 408, 425, 429, 5xx, no answer | later; `Retry-After` is honoured |
//! | 401, 402, 403, 404, 405, 407, 421, 3xx | later: the configuration or the account is wrong, not the event, and somebody will mend it; nothing is thrown away meanwhile |
//! | 400, 413, 415, 422 | refused; of several events, each is tried by itself |
//! | any other 4xx | refused |
//!
//! It must never repeat a body: a receiver may quote an event in it.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};

use super::client::Reply;
use crate::sinks::SinkError;

/// What became of a part of a batch.
#[derive(Debug)]
pub enum Answer {
    /// The receiver has all of it.
    Taken,
    /// The receiver answered for each event, in order.
    Items(Vec<Fate>),
    /// None of it will ever be taken.
    Refused {
        /// Why.
        why: SinkError,
        /// One of several events may be the reason: each is worth a try by itself.
        divisible: bool,
    },
    /// None of it, or an unknown part of it, is there; try again.
    Later {
        /// Not before this, if the receiver said so.
        after: Option<Duration>,
        /// Why.
        why: SinkError,
    },
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The receiver has it.
    Taken,
    /// The receiver will never take it, and why.
    Refused(String),
    /// Try it again, and why.
    Later(String),
}

impl Answer {
    /// What an answer means by its status alone. `place` names the receiver.
    pub fn by_status(reply: &Reply, place: &str) -> Answer {
        let status = reply.status;
        if status.is_success() {
            return Answer::Taken;
        }
        let why = |remedy: &str| SinkError::Other(format!("{place} answered {}{remedy}", shown(status)));
        match status.as_u16() {
            401 | 402 | 403 | 407 => {
                Answer::Later { after: reply.retry_after, why: why("; check the secret and what it is allowed to do") }
            }
            404 | 405 | 421 => Answer::Later { after: reply.retry_after, why: why("; check the URL") },
            300..=399 => Answer::Later {
                after: reply.retry_after,
                why: why("; redirects are not followed: write the URL that it leads to"),
            },
            408 | 425 | 429 => Answer::Later { after: reply.retry_after, why: why("") },
            400 | 413 | 415 | 422 => Answer::Refused { why: why(""), divisible: true },
            400..=499 => Answer::Refused { why: why(""), divisible: false },
            _ => Answer::Later { after: reply.retry_after, why: why("") },
        }
    }

    /// Nothing came back.
    pub fn lost(why: SinkError) -> Answer {
        Answer::Later { after: None, why }
    }
}

/// A status with its usual phrase, for messages; the receiver's own phrase is not repeated.
pub fn shown(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(phrase) => format!("{} {phrase}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// `Retry-After` (RFC 9110 section 10.2.3) in seconds or as a date; a date that has passed is zero.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Answer {
        let reply = Reply {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: Some(Duration::from_secs(7)),
            headers: HeaderMap::new(),
            body: b"alice@example.test is not allowed".as_slice().into(),
            whole: true,
        };
        Answer::by_status(&reply, "https://siem.example/in")
    }

    #[test]
    fn a_status_means_what_the_table_says_and_no_body_is_repeated() {
        let kind = |status| match answer(status) {
            Answer::Taken => "taken".to_owned(),
            Answer::Later { after, why } => {
                assert_eq!(after, Some(Duration::from_secs(7)));
                assert!(!why.to_string().contains("alice"));
                "later".to_owned()
            }
            Answer::Refused { divisible, why } => {
                assert!(why.to_string().contains(&status.to_string()) && !why.to_string().contains("alice"), "{why}");
                format!("refused {divisible}")
            }
            Answer::Items(_) => unreachable!(),
        };
        for status in [200, 201, 202, 204] {
            assert_eq!(kind(status), "taken", "{status}");
        }
        for status in [301, 302, 307, 401, 403, 404, 405, 407, 408, 421, 425, 429, 500, 502, 503, 504, 529] {
            assert_eq!(kind(status), "later", "{status}");
        }
        for status in [400, 413, 415, 422] {
            assert_eq!(kind(status), "refused true", "{status}");
        }
        for status in [406, 409, 410, 418, 451] {
            assert_eq!(kind(status), "refused false", "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = httpdate::parse_http_date("Fri, 31 Dec 1999 23:59:00 GMT").unwrap();
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::from_secs(59)));
        assert_eq!(read("Fri, 31 Dec 1999 23:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        assert_eq!(read("99999999999999999999999"), None);
    }
}
