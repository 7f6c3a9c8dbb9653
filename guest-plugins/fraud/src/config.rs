//! The configuration, raw and checked. `lib.rs` documents each field.

use serde::{Deserialize, Serialize};
use tollgate_plugin::limits::MINOR_UNITS_MAX;
use tollgate_plugin::{Failure, Lookup, config};

/// Bounds the size of a customer's state: each rule may have counters of its own.
const RULES_MAX: usize = 8;
/// One text of a rule or a notice; bounds the size of a remembered flag.
const TEXT_BYTES_MAX: usize = 48;
const WINDOW_MINUTES_MAX: i64 = 30 * 24 * 60;
const EVENTS_MAX_MAX: i64 = 1_000_000;
const SCORE_MAX: i64 = 100;
const FLAG_AT: i64 = 50;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    rules: Vec<RawRule>,
    flag_at: Option<i64>,
    notify: Option<RawNotify>,
    currency: Option<String>,
    amount: Option<Lookup>,
    statuses: Option<Vec<String>>,
    types: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: String,
    window_minutes: i64,
    events_max: Option<i64>,
    amount_max_minor_units: Option<i64>,
    points: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNotify {
    at: i64,
    channel: String,
    recipient: String,
    template: String,
}

/// A configuration that makes sense.
pub(crate) struct Config {
    pub(crate) rules: Vec<Rule>,
    pub(crate) flag_at: u32,
    /// The score from which somebody is told, and how.
    pub(crate) notify: Option<(u32, Address)>,
    /// There whenever a rule is about amounts.
    pub(crate) currency: Option<String>,
    pub(crate) amount: Option<Lookup>,
    /// None counts all.
    pub(crate) statuses: Option<Vec<String>>,
    /// None counts all.
    pub(crate) types: Option<Vec<String>>,
}

pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) window_minutes: i64,
    pub(crate) limit: Limit,
    pub(crate) points: u32,
}

/// What a rule counts, and how much of it is still harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    Events(i64),
    /// Minor units of the configuration's currency.
    Amount(i64),
}

/// Whom a notice is for. Kept with a flag, so that its notice can be repeated to the letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Address {
    pub(crate) channel: String,
    pub(crate) recipient: String,
    pub(crate) template: String,
}

impl Config {
    /// # Errors
    /// [`Failure::Hold`] that names the field that is wrong.
    pub(crate) fn parse(json: &str) -> Result<Self, Failure> {
        let raw: RawConfig = config::parse(json)?;
        if raw.rules.is_empty() || raw.rules.len() > RULES_MAX {
            return Err(config::invalid(format_args!(
                "`rules` has {} entries; write 1 to {RULES_MAX}",
                raw.rules.len()
            )));
        }
        if let Some(currency) = &raw.currency
            && !(currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase()))
        {
            return Err(config::invalid(format_args!(
                "`currency` is {currency:?}; write a code such as \"USD\""
            )));
        }
        let rules = raw
            .rules
            .into_iter()
            .enumerate()
            .map(|(at, rule)| rule.check(at))
            .collect::<Result<Vec<_>, _>>()?;
        let about_amounts = rules.iter().any(|rule| matches!(rule.limit, Limit::Amount(_)));
        if raw.currency.is_none() && (about_amounts || raw.amount.is_some()) {
            return Err(config::invalid("amounts are counted in `currency`; set it"));
        }
        if raw.amount.is_some() && !about_amounts {
            return Err(config::invalid(
                "`amount` is read by rules with `amount_max_minor_units`, and there is none",
            ));
        }
        let flag_at = within("flag_at", raw.flag_at.unwrap_or(FLAG_AT), 1, SCORE_MAX)?;
        let notify = match raw.notify {
            None => None,
            Some(notify) => {
                let at = within("notify.at", notify.at, flag_at, SCORE_MAX)?;
                for (name, value) in [
                    ("channel", &notify.channel),
                    ("recipient", &notify.recipient),
                    ("template", &notify.template),
                ] {
                    text(&format!("notify.{name}"), value)?;
                }
                let RawNotify {
                    channel,
                    recipient,
                    template,
                    ..
                } = notify;
                Some((
                    score(at),
                    Address {
                        channel,
                        recipient,
                        template,
                    },
                ))
            }
        };
        for (name, list) in [("statuses", &raw.statuses), ("types", &raw.types)] {
            if list.as_ref().is_some_and(Vec::is_empty) {
                return Err(config::invalid(format_args!(
                    "`{name}` is empty: nothing would ever be counted"
                )));
            }
        }
        Ok(Self {
            rules,
            flag_at: score(flag_at),
            notify,
            currency: raw.currency,
            amount: raw.amount,
            statuses: raw.statuses,
            types: raw.types,
        })
    }
}

impl RawRule {
    fn check(self, at: usize) -> Result<Rule, Failure> {
        let field = |name: &str| format!("rules[{at}].{name}");
        text(&field("name"), &self.name)?;
        let limit = match (self.events_max, self.amount_max_minor_units) {
            (Some(events), None) => Limit::Events(within(&field("events_max"), events, 1, EVENTS_MAX_MAX)?),
            (None, Some(amount)) => {
                Limit::Amount(within(&field("amount_max_minor_units"), amount, 1, MINOR_UNITS_MAX)?)
            }
            _ => {
                return Err(config::invalid(format_args!(
                    "`rules[{at}]` needs one of `events_max` and `amount_max_minor_units`"
                )));
            }
        };
        Ok(Rule {
            window_minutes: within(&field("window_minutes"), self.window_minutes, 1, WINDOW_MINUTES_MAX)?,
            points: score(within(&field("points"), self.points, 1, SCORE_MAX)?),
            name: self.name,
            limit,
        })
    }
}

/// A checked score; the check has bounded it to 100.
fn score(checked: i64) -> u32 {
    u32::try_from(checked).unwrap_or(100)
}

fn within(name: &str, value: i64, min: i64, max: i64) -> Result<i64, Failure> {
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        Err(config::invalid(format_args!(
            "`{name}` is {value}; it must be {min} to {max}"
        )))
    }
}

fn text(name: &str, value: &str) -> Result<(), Failure> {
    if (1..=TEXT_BYTES_MAX).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    {
        Ok(())
    } else {
        Err(config::invalid(format_args!(
            "`{name}` is {value:?}; write 1 to {TEXT_BYTES_MAX} visible ASCII characters or spaces"
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
