//! The configuration, raw and checked. `lib.rs` documents each field.

use std::collections::BTreeMap;

use serde::Deserialize;
use tollgate_plugin::{Event, Failure, Lookup, config};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    reserve_on: Option<Vec<String>>,
    consume_on: Option<Vec<String>>,
    release_on: Option<Vec<String>>,
    #[serde(default)]
    reserve_types: Vec<String>,
    #[serde(default)]
    consume_types: Vec<String>,
    #[serde(default)]
    release_types: Vec<String>,
    products: Option<BTreeMap<String, Article>>,
    quantity: Option<u32>,
    quantity_from: Option<Lookup>,
}

/// What a product is in the warehouse.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Article {
    pub(crate) sku: String,
    /// Pieces that make one product, at least 1.
    #[serde(default = "one")]
    pub(crate) quantity: u32,
}

fn one() -> u32 {
    1
}

/// What an event asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Reserve,
    Consume,
    Release,
}

/// When a step is taken.
struct When {
    step: Step,
    statuses: Vec<String>,
    types: Vec<String>,
}

/// A configuration that makes sense.
pub(crate) struct Config {
    steps: [When; 3],
    /// None when every product is its own article.
    pub(crate) products: Option<BTreeMap<String, Article>>,
    pub(crate) quantity: u32,
    pub(crate) quantity_from: Lookup,
}

impl Config {
    /// # Errors
    /// [`Failure::Hold`] that names the field that is wrong.
    pub(crate) fn parse(json: &str) -> Result<Self, Failure> {
        let raw: RawConfig = config::parse(json)?;
        let or = |list: Option<Vec<String>>, default: &[&str]| {
            list.unwrap_or_else(|| default.iter().map(|&status| status.to_owned()).collect())
        };
        let steps = [
            When {
                step: Step::Reserve,
                statuses: or(raw.reserve_on, &["created", "pending"]),
                types: raw.reserve_types,
            },
            When {
                step: Step::Consume,
                statuses: or(raw.consume_on, &["completed"]),
                types: raw.consume_types,
            },
            When {
                step: Step::Release,
                statuses: or(raw.release_on, &["rolledback"]),
                types: raw.release_types,
            },
        ];
        for (at, when) in steps.iter().enumerate() {
            for other in &steps[at + 1..] {
                let twice = |mine: &[String], theirs: &[String]| mine.iter().find(|one| theirs.contains(one)).cloned();
                if let Some(twice) = twice(&when.statuses, &other.statuses).or_else(|| twice(&when.types, &other.types))
                {
                    return Err(config::invalid(format_args!(
                        "`{twice}` can {} or {}, not both",
                        when.step.verb(),
                        other.step.verb()
                    )));
                }
            }
        }
        for (product, article) in raw.products.iter().flatten() {
            if article.sku.is_empty() || article.quantity == 0 {
                return Err(config::invalid(format_args!(
                    "`products.{product}` needs a `sku` that is not empty and a `quantity` of at least 1"
                )));
            }
        }
        if raw.quantity == Some(0) {
            return Err(config::invalid("`quantity` is 0; it must be at least 1"));
        }
        Ok(Self {
            steps,
            products: raw.products,
            quantity: raw.quantity.unwrap_or(1),
            quantity_from: raw
                .quantity_from
                .unwrap_or_else(|| Lookup::Attribute("quantity".to_owned())),
        })
    }

    /// What the event asks for: by its status where it has a family, else by its type.
    pub(crate) fn step(&self, event: &Event) -> Option<Step> {
        let asks = |when: &&When| match (&event.family, &event.status) {
            (Some(_), Some(status)) => when.statuses.contains(status),
            (Some(_), None) => false,
            (None, _) => event.type_is_one_of(&when.types),
        };
        self.steps.iter().find(asks).map(|when| when.step)
    }
}

impl Step {
    fn verb(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Consume => "consume",
            Self::Release => "release",
        }
    }
}

#[cfg(test)]
mod tests {
    use tollgate_plugin::serde_json::{Value, from_str};

    use super::*;
    use tollgate_plugin::testing::EventBuilder;

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

    #[test]
    fn events_ask_by_status_or_by_type() {
        let config = Config::parse(r#"{"reserve_types": ["order.placed"], "release_types": ["order.c*"]}"#).unwrap();
        let staged = |status| {
            EventBuilder::new("order.placed")
                .status("reward-redemption", status)
                .build()
        };
        for (status, expect) in [
            ("created", Some(Step::Reserve)),
            ("pending", Some(Step::Reserve)),
            ("completed", Some(Step::Consume)),
            ("rolledback", Some(Step::Release)),
            ("other", None),
        ] {
            assert_eq!(config.step(&staged(status)), expect, "{status}");
        }
        for (event_type, expect) in [
            ("order.placed", Some(Step::Reserve)),
            ("order.canceled", Some(Step::Release)),
            ("order.paid", None),
        ] {
            assert_eq!(
                config.step(&EventBuilder::new(event_type).build()),
                expect,
                "{event_type}"
            );
        }
    }
}
