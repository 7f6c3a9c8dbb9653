//! Time as data. Nothing here reads a clock.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// Saturates at the end of time instead of wrapping into the past.
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

    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Reads an RFC 3339 instant with any number of fraction digits and any offset, to the millisecond.
    ///
    /// Strict: a space inside, a missing offset or trailing text is not an instant.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>()
            .ok()
            .map(|instant| Self(instant.as_millisecond()))
    }
}

/// RFC 3339 in UTC with milliseconds: what people and JSON see.
impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(instant) => write!(f, "{instant:.3}"),
            Err(_) => write!(f, "{} ms since 1970", self.0),
        }
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
            ("yesterday", None),
        ] {
            assert_eq!(UnixMillis::from_rfc3339(text), expect.map(UnixMillis), "{text}");
        }
        assert_eq!(UnixMillis(1_715_603_650_464).to_string(), "2024-05-13T12:34:10.464Z");
    }
}
