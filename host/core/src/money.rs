//! Money: integers in minor units of a named currency. Never a float.

#[cfg(feature = "schema")]
use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::MINOR_UNITS_MAX;

/// Digits behind the point that any currency has at most.
pub const EXPONENT_MAX: u32 = 4;

/// An ISO 4217 alphabetic code. Checked for its shape (three upper-case letters), not against a list that would age.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// `None` unless the text is three ASCII letters; lower case is folded up, as Stripe sends `usd`.
    pub fn new(code: &str) -> Option<Self> {
        let bytes: [u8; 3] = code.as_bytes().try_into().ok()?;
        bytes
            .iter()
            .all(u8::is_ascii_alphabetic)
            .then(|| Self(bytes.map(|b| b.to_ascii_uppercase())))
    }

    /// The three letters, in upper case.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }

    /// Digits after the decimal point in the currency's major unit (ISO 4217 exponents; 2 where not listed).
    pub fn exponent(&self) -> u32 {
        match self.as_str() {
            "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND"
            | "VUV" | "XAF" | "XOF" | "XPF" => 0,
            "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
            "CLF" | "UYW" => 4,
            _ => 2,
        }
    }

    /// Whether ISO 4217 counts in fractions of which no one pays any more: providers count it in whole units (Adyen's CVE and IDR,
    /// Checkout.com's CLF, Stripe's MGA; each profile's `[amounts]` has the source).
    pub(crate) fn is_paid_whole(&self) -> bool {
        matches!(self.as_str(), "CLF" | "CVE" | "IDR" | "MGA")
    }
}
impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        Self::new(&code).ok_or_else(|| serde::de::Error::custom(format!("`{code}` is not a currency code such as USD")))
    }
}
crate::ids::text_schema!(Currency, "a currency code such as USD");

/// An amount within ±(2^53−1) minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Money {
    minor_units: i64,
    currency: Currency,
}

impl Money {
    /// `None` when the amount is outside ±(2^53−1).
    pub fn new(minor_units: i64, currency: Currency) -> Option<Self> {
        (-MINOR_UNITS_MAX..=MINOR_UNITS_MAX)
            .contains(&minor_units)
            .then_some(Self { minor_units, currency })
    }

    /// The amount; may be negative.
    pub fn minor_units(&self) -> i64 {
        self.minor_units
    }

    /// The currency whose minor units are counted.
    pub fn currency(&self) -> Currency {
        self.currency
    }
}

/// `50.00 USD`, `500 JPY`, `15000 IDR`: for people. A fraction is never left out, unless it is nothing of a currency that is paid whole.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exponent = self.currency.exponent();
        let scale = 10_i64.pow(exponent);
        let sign = if self.minor_units < 0 { "-" } else { "" };
        let (whole, part) = (self.minor_units.abs() / scale, self.minor_units.abs() % scale);
        if exponent == 0 || part == 0 && self.currency.is_paid_whole() {
            write!(f, "{sign}{whole} {}", self.currency)
        } else {
            write!(
                f,
                "{sign}{whole}.{part:0width$} {}",
                self.currency,
                width = exponent as usize
            )
        }
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            minor_units: i64,
            currency: Currency,
        }
        let raw = Raw::deserialize(deserializer)?;
        Self::new(raw.minor_units, raw.currency)
            .ok_or_else(|| serde::de::Error::custom("amount outside ±(2^53−1) minor units"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_prints_for_people_and_refuses_the_unrepresentable() {
        let check = |units, code, expect: &str| {
            assert_eq!(
                Money::new(units, Currency::new(code).unwrap()).unwrap().to_string(),
                expect
            );
        };
        check(5000, "USD", "50.00 USD");
        check(-5, "inr", "-0.05 INR");
        check(500, "JPY", "500 JPY");
        check(1, "KWD", "0.001 KWD");
        check(1_500_000, "IDR", "15000 IDR");
        check(-1_500_050, "IDR", "-15000.50 IDR");
        assert_eq!(Money::new(MINOR_UNITS_MAX + 1, Currency::new("USD").unwrap()), None);
        assert_eq!(Money::new(i64::MIN, Currency::new("USD").unwrap()), None);
        assert_eq!(Currency::new("US"), None);
        assert_eq!(Currency::new("U5D"), None);
    }
}
