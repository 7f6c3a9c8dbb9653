//! The configuration, raw and checked. `lib.rs` documents each field.

use serde::Deserialize;
use tollgate_plugin::limits::{ACTION_TEXT_BYTES_MAX, MINOR_UNITS_MAX};
use tollgate_plugin::{Failure, Lookup, config};

const CARDS_MAX: usize = 16;
const RECIPIENT_CARDS_MAX: u32 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    currency: String,
    cards: Vec<Card>,
    recipient: Option<Lookup>,
    recipient_cards_max: Option<u32>,
    statuses: Option<Vec<String>>,
    types: Option<Vec<String>>,
}

/// A card that may be issued.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Card {
    pub(crate) minimum_minor_units: Option<i64>,
    pub(crate) value_minor_units: i64,
    pub(crate) template: String,
}

/// A configuration that makes sense.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) currency: String,
    /// The highest minimum first; one without comes last.
    pub(crate) cards: Vec<Card>,
    pub(crate) recipient: Lookup,
    pub(crate) recipient_cards_max: Option<u32>,
    pub(crate) statuses: Vec<String>,
    pub(crate) types: Vec<String>,
}

impl Config {
    /// # Errors
    /// [`Failure::Hold`] that names the field that is wrong.
    pub(crate) fn parse(json: &str) -> Result<Self, Failure> {
        let RawConfig {
            currency,
            mut cards,
            recipient,
            recipient_cards_max,
            statuses,
            types,
        } = config::parse(json)?;
        if !(currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase())) {
            return Err(config::invalid(format_args!(
                "`currency` is {currency:?}; write a code such as \"USD\""
            )));
        }
        if cards.is_empty() || cards.len() > CARDS_MAX {
            return Err(config::invalid(format_args!(
                "`cards` lists {}; 1 to {CARDS_MAX} can be",
                cards.len()
            )));
        }
        for (at, card) in cards.iter().enumerate() {
            for (field, value) in [
                ("value_minor_units", Some(card.value_minor_units)),
                ("minimum_minor_units", card.minimum_minor_units),
            ] {
                if let Some(value) = value
                    && !(1..=MINOR_UNITS_MAX).contains(&value)
                {
                    return Err(config::invalid(format_args!(
                        "`cards[{at}].{field}` is {value}; it must be 1 to {MINOR_UNITS_MAX}"
                    )));
                }
            }
            if card.template.is_empty() || card.template.len() > ACTION_TEXT_BYTES_MAX {
                return Err(config::invalid(format_args!(
                    "`cards[{at}].template` must be 1 to {ACTION_TEXT_BYTES_MAX} bytes long"
                )));
            }
        }
        cards.sort_by_key(|card| std::cmp::Reverse(card.minimum_minor_units));
        if let Some(twice) = cards
            .windows(2)
            .find(|pair| pair[0].minimum_minor_units == pair[1].minimum_minor_units)
        {
            let minimum = twice[0].minimum_minor_units.unwrap_or(0);
            return Err(config::invalid(format_args!(
                "two of `cards` have the minimum {minimum}"
            )));
        }
        if let Some(max) = recipient_cards_max
            && !(1..=RECIPIENT_CARDS_MAX).contains(&max)
        {
            return Err(config::invalid(format_args!(
                "`recipient_cards_max` is {max}; it must be 1 to {RECIPIENT_CARDS_MAX}"
            )));
        }
        let some_of = |name, list: Option<Vec<String>>, default: &str| match list {
            None => Ok(vec![default.to_owned()]),
            Some(list) if list.is_empty() => Err(config::invalid(format_args!(
                "`{name}` is empty: nothing would ever earn"
            ))),
            Some(list) => Ok(list),
        };
        Ok(Self {
            currency,
            cards,
            recipient: recipient.unwrap_or_else(|| Lookup::Attribute("customer".into())),
            recipient_cards_max,
            statuses: some_of("statuses", statuses, "completed")?,
            types: some_of("types", types, "*")?,
        })
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
