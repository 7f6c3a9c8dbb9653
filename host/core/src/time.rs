//! Time as data. Nothing here reads a clock.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// The instant `ms` milliseconds later. Saturates at the largest value.
    #[must_use]
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to `self`; negative when `earlier` is later.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds, rounded down.
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// So many whole seconds since the Unix epoch, saturating.
    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// The first instant after this one that is a multiple of `ms` milliseconds from the Unix epoch. `ms` is positive.
    #[must_use]
    pub fn next_multiple_of(self, ms: i64) -> Self {
        Self((self.0.div_euclid(ms) + 1).saturating_mul(ms))
    }

    /// The first instant of the next month, in UTC.
    #[must_use]
    pub fn next_month(self) -> Self {
        let (year, month, _) = date_of(self.0.div_euclid(86_400_000));
        let (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        Self(days_since_1970(year, month, 1).saturating_mul(86_400_000))
    }

    /// Reads an RFC 3339 instant with any number of fraction digits and any offset, to the millisecond. A leap second is the
    /// second before it. As ISO 8601 has them, the offset may go without its colon or its minutes.
    ///
    /// Strict: a space at the wrong place, a missing offset or trailing text is not an instant.
    ///
    /// By hand, because a guest pays for each byte of code, and a library for dates brings time zones with it.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let mut rest = Rest(text.as_bytes());
        let (year, month, day) = (
            rest.number(4)?,
            rest.after(b"-")?.number(2)?,
            rest.after(b"-")?.number(2)?,
        );
        if !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day) {
            return None;
        }
        let (hour, minute, second) = (
            rest.after(b"Tt ")?.number(2)?,
            rest.after(b":")?.number(2)?,
            rest.after(b":")?.number(2)?,
        );
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let millis = if rest.after(b".").is_some() {
            rest.fraction()?
        } else {
            0
        };
        let offset_minutes = rest.offset()?;
        let seconds =
            ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset_minutes) * 60 + second.min(59);
        rest.0.is_empty().then_some(Self(seconds * 1000 + millis))
    }
}

/// What of a text is still to be read. What cannot be read is left as it is.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// Passes one of these bytes.
    fn after(&mut self, bytes: &[u8]) -> Option<&mut Self> {
        let (first, rest) = self.0.split_first()?;
        bytes.contains(first).then(|| {
            self.0 = rest;
            self
        })
    }

    /// A number of exactly so many digits.
    fn number(&mut self, digits: usize) -> Option<i64> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        number.iter().try_fold(0, |sum, byte| {
            byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0'))
        })
    }

    /// One to nine digits of a fraction of a second, in whole milliseconds.
    fn fraction(&mut self) -> Option<i64> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (fraction, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        let digit = |at: usize| fraction.get(at).map_or(0, |byte| i64::from(byte - b'0'));
        (1..=9)
            .contains(&digits)
            .then(|| digit(0) * 100 + digit(1) * 10 + digit(2))
    }

    /// `Z`, or the distance from UTC, in minutes.
    fn offset(&mut self) -> Option<i64> {
        if self.after(b"Zz").is_some() {
            return Some(0);
        }
        let sign = if self.after(b"+").is_some() {
            1
        } else {
            self.after(b"-").map(|_| -1)?
        };
        let hours = self.number(2)?;
        let minutes = if self.0.is_empty() {
            0
        } else {
            let _ = self.after(b":");
            self.number(2)?
        };
        (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
    }
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar. Years begin in March here, so that a leap day is the last of its year;
/// 719468 is the number of days from 0000-03-01 to 1970-01-01, and 400 years have 146097.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The way back: year, month and day.
fn date_of(days_since_1970: i64) -> (i64, i64, i64) {
    let days = days_since_1970 + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = (shifted + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// RFC 3339 in UTC with milliseconds: what people and JSON see. It has no way to write years outside 0 to 9999.
impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, of_day) = (self.0.div_euclid(86_400_000), self.0.rem_euclid(86_400_000));
        let (year, month, day) = date_of(days);
        if !(0..=9999).contains(&year) {
            return write!(f, "{} ms since 1970", self.0);
        }
        let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
        let millis = of_day % 1000;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_instants_that_providers_send() {
        for (text, expect) in [
            ("2026-05-05T10:00:00Z", Some(1_777_975_200_000)),
            ("2024-05-13T12:34:10.464Z", Some(1_715_603_650_464)),
            ("2024-01-18T15:27:56.175354Z", Some(1_705_591_676_175)),
            ("2024-01-18T15:27:56.123456789+01:00", Some(1_705_588_076_123)),
            ("2024-05-13T10: 24: 01.084Z", None),
            ("2024-05-13T10:24:01", None),
            ("2024-02-29t00:00:00.1+0530", Some(1_709_144_999_900 + 200)),
            ("2016-12-31T23:59:60Z", Some(1_483_228_799_000)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000)),
            ("1900-02-29T00:00:00Z", None),
            ("2023-02-29T00:00:00Z", None),
            ("2023-13-01T00:00:00Z", None),
            ("2023-01-01T24:00:00Z", None),
            ("2023-01-01T00:00:00.Z", None),
            ("2023-01-01T00:00:00Z ", None),
            ("yesterday", None),
        ] {
            assert_eq!(UnixMillis::from_rfc3339(text), expect.map(UnixMillis), "{text}");
        }
        assert_eq!(UnixMillis(1_715_603_650_464).to_string(), "2024-05-13T12:34:10.464Z");
    }

    /// As a library for dates has them, over all years that can be written.
    #[test]
    fn dates_are_those_of_the_calendar() {
        let (first, last) = (-62_167_219_200_000, 253_402_300_799_999);
        let step = 7_919 * 86_399_983;
        for at in (first..=last).step_by(step / 64) {
            let text = UnixMillis(at).to_string();
            let known = jiff::Timestamp::from_millisecond(at);
            if let Ok(known) = known {
                assert_eq!(text, format!("{known:.3}"));
            }
            assert_eq!(UnixMillis::from_rfc3339(&text), Some(UnixMillis(at)), "{text}");
        }
        for at in [i64::MIN, first - 1, last + 1, i64::MAX] {
            assert_eq!(UnixMillis(at).to_string(), format!("{at} ms since 1970"));
        }
    }
}
