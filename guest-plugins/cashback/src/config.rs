//! The configuration, raw and checked. `lib.rs` documents each field.

use std::collections::BTreeMap;

use serde::Deserialize;
use tollgate_plugin::limits::MINOR_UNITS_MAX;
use tollgate_plugin::{Failure, Lookup, config};

/// A rate of 100 %.
pub(crate) const BPS_MAX: i64 = 10_000;
const WINDOW_DAYS_MAX: i64 = 366;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    rate_bps: Option<i64>,
    fixed_minor_units: Option<i64>,
    cap_minor_units: Option<i64>,
    minimum_amount_minor_units: Option<i64>,
    currency: Option<String>,
    amount: Option<Lookup>,
    points: Option<Points>,
    statuses: Option<Vec<String>>,
    types: Option<Vec<String>>,
    limit: Option<Limit>,
    families: Option<Vec<String>>,
    take_back: Option<TakeBack>,
}

/// A configuration that makes sense.
pub(crate) struct Config {
    pub(crate) earning: Earning,
    pub(crate) cap_minor_units: Option<i64>,
    pub(crate) minimum_amount_minor_units: Option<i64>,
    pub(crate) currency: Option<String>,
    pub(crate) basis: Option<Basis>,
    pub(crate) statuses: Vec<String>,
    pub(crate) types: Vec<String>,
    pub(crate) limit: Option<Limit>,
    families: Option<Vec<String>>,
    pub(crate) take_back: TakeBack,
}

/// What takes back, and what it takes back.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TakeBack {
    /// By family the statuses that take back; absent: those that `lib.rs` lists.
    pub(crate) families: Option<BTreeMap<String, Vec<String>>>,
    /// Where an event that takes back names the operation that was credited.
    pub(crate) of: Option<Lookup>,
}

/// What an operation earns before cap and limit.
pub(crate) enum Earning {
    /// Basis points of the amount, 1 to [`BPS_MAX`].
    Rate(i64),
    /// Minor units.
    Fixed(i64),
}

/// Where the amount comes from when the event has none of its own.
pub(crate) enum Basis {
    Amount(Lookup),
    Points(Points),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Points {
    pub(crate) from: Lookup,
    pub(crate) value_minor_units: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    pub(crate) amount_minor_units: i64,
    pub(crate) window_days: i64,
}

impl Config {
    /// # Errors
    /// [`Failure::Hold`] that names the field that is wrong.
    pub(crate) fn parse(json: &str) -> Result<Self, Failure> {
        let raw: RawConfig = config::parse(json)?;
        let earning = match (raw.rate_bps, raw.fixed_minor_units) {
            (Some(rate_bps), None) => Earning::Rate(within("rate_bps", rate_bps, BPS_MAX)?),
            (None, Some(fixed)) => Earning::Fixed(within("fixed_minor_units", fixed, MINOR_UNITS_MAX)?),
            _ => return Err(config::invalid("set one of `rate_bps` and `fixed_minor_units`")),
        };
        let basis = match (raw.amount, raw.points) {
            (None, None) => None,
            (Some(amount), None) => Some(Basis::Amount(amount)),
            (None, Some(points)) => {
                within("points.value_minor_units", points.value_minor_units, MINOR_UNITS_MAX)?;
                Some(Basis::Points(points))
            }
            (Some(_), Some(_)) => return Err(config::invalid("set one of `amount` and `points`, not both")),
        };
        if let Some(currency) = &raw.currency
            && !(currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase()))
        {
            return Err(config::invalid(format_args!(
                "`currency` is {currency:?}; write a code such as \"USD\""
            )));
        }
        if basis.is_some() && raw.currency.is_none() {
            return Err(config::invalid(
                "`amount` and `points` need `currency`: they are for events that have none",
            ));
        }
        let optional = |name, value: Option<i64>| value.map(|value| within(name, value, MINOR_UNITS_MAX)).transpose();
        let cap_minor_units = optional("cap_minor_units", raw.cap_minor_units)?;
        let minimum_amount_minor_units = optional("minimum_amount_minor_units", raw.minimum_amount_minor_units)?;
        if let Some(limit) = &raw.limit {
            within("limit.amount_minor_units", limit.amount_minor_units, MINOR_UNITS_MAX)?;
            within("limit.window_days", limit.window_days, WINDOW_DAYS_MAX)?;
        }
        let some_of = |name, list: Option<Vec<String>>, default: &str| match list {
            None => Ok(vec![default.to_owned()]),
            Some(list) if list.is_empty() => Err(config::invalid(format_args!(
                "`{name}` is empty: nothing would ever earn"
            ))),
            Some(list) => Ok(list),
        };
        Ok(Self {
            earning,
            cap_minor_units,
            minimum_amount_minor_units,
            currency: raw.currency,
            basis,
            statuses: some_of("statuses", raw.statuses, "completed")?,
            types: some_of("types", raw.types, "*")?,
            limit: raw.limit,
            families: raw.families,
            take_back: raw.take_back.unwrap_or_default(),
        })
    }

    /// Whether events of a family may earn. Money that goes back or out earns nothing unless it is named.
    pub(crate) fn earns(&self, family: &str) -> bool {
        match &self.families {
            Some(families) => families.iter().any(|earning| earning == family),
            None => !matches!(family, "refund" | "payout"),
        }
    }
}

fn within(name: &str, value: i64, max: i64) -> Result<i64, Failure> {
    if (1..=max).contains(&value) {
        Ok(value)
    } else {
        Err(config::invalid(format_args!(
            "`{name}` is {value}; it must be 1 to {max}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use tollgate_plugin::serde_json::{Value, from_str};

    use super::*;

    /// Rows of `config.json`: a configuration, and how what is said of it begins; `null` where nothing is.
    #[test]
    fn what_makes_no_sense_is_named() {
        let rows: Vec<(Value, Option<String>)> = from_str(include_str!("config.json")).unwrap();
        for (config, says) in rows {
            let found = Config::parse(&config.to_string()).err();
            let fits = match (&found, &says) {
                (None, None) => true,
                (Some(Failure::Hold(said)), Some(says)) => said.starts_with(&format!("config: {says}")),
                _ => false,
            };
            assert!(fits, "{config}: {found:?}, not {says:?}");
        }
    }
}
