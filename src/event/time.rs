//! A moment in UTC, to the millisecond.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since the Unix epoch; printed as RFC 3339 with three decimals and `Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Now, by the system clock.
    pub fn now() -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Timestamp {
        Timestamp(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This moment moved back by `by`.
    pub fn minus(self, by: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This moment moved on by `by`.
    pub fn plus(self, by: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// RFC 3339 with three decimals and `Z`, for a moment from 1970 to 9999.
    pub(super) fn plain(self) -> Option<[u8; 24]> {
        rfc3339(self.0)
    }

    /// Reads RFC 3339; `None` if it is not.
    pub fn parse(text: &str) -> Option<Timestamp> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Timestamp(t.as_millisecond()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match rfc3339(self.0) {
            Some(text) => f.write_str(std::str::from_utf8(&text).unwrap_or_default()),
            None => {
                let moment = jiff::Timestamp::from_millisecond(self.0).unwrap_or_default();
                write!(f, "{moment:.3}")
            }
        }
    }
}

/// A moment from 1970 to 9999, by hand: each event writes one, and the general way costs a fifth of its
/// line. Days become a date as in H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn rfc3339(millis: i64) -> Option<[u8; 24]> {
    const DAY: u64 = 86_400_000;
    // As far as jiff goes, which ends two days before the year does; no sum below can leave 64 bits.
    let millis = u64::try_from(millis).ok().filter(|millis| *millis < 253_402_207_200_000)?;
    let (days, in_day) = (millis / DAY + 719_468, millis % DAY);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March on, so that the day a leap year adds is the last of its year.
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut put = |mut at: usize, digits: usize, mut number: u64| {
        for _ in 0..digits {
            at -= 1;
            text[at] = b'0' + (number % 10) as u8;
            number /= 10;
        }
    };
    put(4, 4, year);
    put(7, 2, month);
    put(10, 2, day);
    put(13, 2, in_day / 3_600_000);
    put(16, 2, in_day / 60_000 % 60);
    put(19, 2, in_day / 1000 % 60);
    put(23, 3, in_day % 1000);
    Some(text)
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        Timestamp::parse(&text).ok_or_else(|| serde::de::Error::custom("no moment in RFC 3339"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_moment_is_written_as_jiff_writes_it(millis in -100_000_000_000_000_i64..300_000_000_000_000) {
            let moment = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
            prop_assert_eq!(Timestamp::from_millis(millis).to_string(), format!("{moment:.3}"));
        }
    }

    #[test]
    fn days_that_leap_years_have_and_lack_are_written_as_jiff_writes_them() {
        for day in ["1970-01-01", "1999-12-31", "2000-02-29", "2000-03-01", "2100-02-28", "2100-03-01", "9999-12-29"] {
            for time in ["00:00:00.000", "23:59:59.999"] {
                let text = format!("{day}T{time}Z");
                assert_eq!(Timestamp::parse(&text).map(|t| t.to_string()), Some(text));
            }
        }
    }

    #[test]
    fn prints_rfc_3339_with_milliseconds_and_reads_it_back() {
        let moment = Timestamp::from_millis(1_768_469_537_123);
        assert_eq!(moment.to_string(), "2026-01-15T09:32:17.123Z");
        assert_eq!(Timestamp::parse("2026-01-15T09:32:17.123Z"), Some(moment));
        assert_eq!(Timestamp::from_millis(1_768_469_537_000).to_string(), "2026-01-15T09:32:17.000Z");
    }
}
