//! The rule: one reservation per operation, and its way from reserved to consumed or released.

use serde::{Deserialize, Serialize};
use tollgate_plugin::{Event, Failure, Proposal, State, log, operation_key, state};

use crate::config::{Article, Config, Step};

/// What is known of one operation's reservation.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reservation {
    /// None when the operation was rolled back before anything was reserved.
    article: Option<Held>,
    released: bool,
    /// What a newer version keeps beside it.
    #[serde(flatten)]
    unknown: state::Unknown,
}

/// What was reserved, as it was proposed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    sku: String,
    quantity: u32,
}

pub(crate) fn process(event: &Event, config: &Config, state: &mut dyn State) -> Result<Vec<Proposal>, Failure> {
    let Some(step) = config.step(event) else {
        return Err(Failure::refuse(match (&event.family, &event.status) {
            (Some(_), Some(status)) => format!("status `{status}` moves no stock"),
            _ => format!("type `{}` moves no stock", event.event_type),
        }));
    };
    let operation = event.operation();
    let state_key = state::key("reservation", operation)?;
    let known: Option<Reservation> = state.get_json(&state_key)?;
    match step {
        Step::Reserve => {
            let held = match known {
                None => {
                    let held = wanted(event, config)?;
                    state.set_json(
                        &state_key,
                        &Reservation {
                            article: Some(held.clone()),
                            released: false,
                            unknown: state::Unknown::new(),
                        },
                    )?;
                    held
                }
                Some(Reservation {
                    article: Some(held),
                    released: false,
                    ..
                }) => held,
                Some(_) => return Err(Failure::refuse(format!("{operation} was rolled back already"))),
            };
            let key = operation_key("inventory:reserve", operation)?;
            Ok(vec![Proposal::reserve_stock(key, held.sku, held.quantity, operation)])
        }
        Step::Consume => {
            // A released reservation is remembered for ever; a consumed one has nothing left to guard.
            if matches!(known, Some(Reservation { released: false, .. })) {
                state.delete(&state_key);
            }
            Ok(Vec::new())
        }
        Step::Release => {
            let Some(Reservation {
                article: Some(held),
                released,
                unknown,
            }) = known
            else {
                // Not a refusal: only a run that completes commits what it wrote, and this must be remembered.
                log::info(&format!("nothing was reserved for {operation}; nothing will be"));
                state.set_json(
                    &state_key,
                    &Reservation {
                        article: None,
                        released: true,
                        unknown: state::Unknown::new(),
                    },
                )?;
                return Ok(Vec::new());
            };
            if !released {
                state.set_json(
                    &state_key,
                    &Reservation {
                        article: Some(held.clone()),
                        released: true,
                        unknown,
                    },
                )?;
            }
            let key = operation_key("inventory:release", operation)?;
            Ok(vec![Proposal::release_stock(key, held.sku, held.quantity, operation)])
        }
    }
}

/// What the event asks to reserve.
fn wanted(event: &Event, config: &Config) -> Result<Held, Failure> {
    let product = event.required_attribute("product")?;
    let article = match &config.products {
        None => Article {
            sku: product.to_owned(),
            quantity: 1,
        },
        Some(products) => products
            .get(product)
            .cloned()
            .ok_or_else(|| Failure::hold(format!("the product {product:?} is not listed in `products`")))?,
    };
    let count = config
        .quantity_from
        .integer(event)?
        .unwrap_or_else(|| i64::from(config.quantity));
    let quantity = count
        .checked_mul(i64::from(article.quantity))
        .and_then(|quantity| u32::try_from(quantity).ok());
    match quantity {
        None | Some(0) => Err(Failure::hold(format!(
            "{count} × {} of {} is no quantity",
            article.quantity, article.sku
        ))),
        Some(quantity) => Ok(Held {
            sku: article.sku,
            quantity,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Inventory;
    use tollgate_plugin::Plugin;
    use tollgate_plugin::serde_json::{Value, from_str};
    use tollgate_plugin::testing::{EventBuilder, MemoryState};

    fn redemption(status: &str) -> EventBuilder {
        EventBuilder::new("customer.reward_redemptions")
            .subject("rewr_1")
            .status("reward-redemption", status)
            .attribute("operation", "r_1")
            .attribute("product", "prod_1")
    }

    fn run(event: EventBuilder, config: &str, state: &mut MemoryState) -> Result<Vec<Proposal>, Failure> {
        Inventory::process(&event.build(), config, state)
    }

    fn reserved(sku: &str, quantity: u32) -> Result<Vec<Proposal>, Failure> {
        Ok(vec![Proposal::reserve_stock(
            "inventory:reserve:r_1",
            sku,
            quantity,
            "r_1",
        )])
    }

    fn released(sku: &str, quantity: u32) -> Result<Vec<Proposal>, Failure> {
        Ok(vec![Proposal::release_stock(
            "inventory:release:r_1",
            sku,
            quantity,
            "r_1",
        )])
    }

    /// Rows of `rule.json`: an event, a configuration, and what is reserved.
    #[test]
    fn article_and_quantity_are_read_as_configured() {
        let rows: Vec<(String, Value, String)> = from_str(include_str!("rule.json")).unwrap();
        for (event, config, expect) in rows {
            let event = match event.as_str() {
                "pending" => redemption("pending").payload(r#"{"order": {"items": [{"quantity": 4}]}}"#),
                "odd" => redemption("odd"),
                "stateless" => EventBuilder::new("order.placed")
                    .id("r_1")
                    .attribute("product", "prod_1"),
                quantity => redemption("pending").attribute("quantity", quantity),
            };
            let found = run(event, &config.to_string(), &mut MemoryState::default());
            let expect = match (expect.split_once(" of "), expect.split_once(": ")) {
                (_, Some(("held", reason))) => Err(Failure::hold(reason)),
                (_, Some(("refused", reason))) => Err(Failure::refuse(reason)),
                (Some((quantity, sku)), _) => reserved(sku, quantity.parse().unwrap()),
                (None, _) => panic!("{expect}"),
            };
            assert_eq!(found, expect, "{config}");
        }
    }

    /// Each step is a status, with what it must propose.
    #[test]
    fn a_reservation_goes_its_way() {
        for way in [
            "created hold, pending hold, completed nothing",
            "pending hold, rolledback free, rolledback free, pending too-late",
            "rolledback nothing, pending too-late, rolledback nothing",
            "completed nothing, rolledback nothing",
            "pending hold, rolledback free, completed nothing, pending too-late",
        ] {
            let state = &mut MemoryState::default();
            for step in way.split(", ") {
                let (status, expect) = step.split_once(' ').unwrap();
                let expect = match expect {
                    "hold" => reserved("prod_1", 1),
                    "free" => released("prod_1", 1),
                    "nothing" => Ok(Vec::new()),
                    _ => Err(Failure::refuse("r_1 was rolled back already")),
                };
                assert_eq!(run(redemption(status), "{}", state), expect, "{way}: {step}");
            }
        }
    }

    #[test]
    fn a_release_names_what_was_reserved() {
        let state = &mut MemoryState::default();
        assert_eq!(
            run(redemption("pending").attribute("quantity", "3"), "{}", state),
            reserved("prod_1", 3)
        );
        let changed = r#"{"products": {"prod_1": {"sku": "other", "quantity": 9}}}"#;
        assert_eq!(
            run(redemption("pending"), changed, state),
            reserved("prod_1", 3),
            "the same content again"
        );
        assert_eq!(run(redemption("rolledback"), changed, state), released("prod_1", 3));
    }

    #[test]
    fn a_consumed_reservation_leaves_nothing_behind() {
        let state = &mut MemoryState::default();
        run(redemption("pending"), "{}", state).unwrap();
        assert_eq!(state.values.len(), 1);
        run(redemption("completed"), "{}", state).unwrap();
        assert_eq!(*state, MemoryState::default());
    }
}
