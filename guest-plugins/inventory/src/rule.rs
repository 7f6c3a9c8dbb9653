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

    #[test]
    fn article_and_quantity_are_read_as_configured() {
        let check = |event: EventBuilder, config: &str, expect| {
            assert_eq!(run(event, config, &mut MemoryState::default()), expect, "{config}");
        };
        let pending = || redemption("pending");
        let six = r#"{"products": {"prod_1": {"sku": "bottle", "quantity": 6}}}"#;
        check(pending(), "{}", reserved("prod_1", 1));
        check(pending(), r#"{"quantity": 3}"#, reserved("prod_1", 3));
        check(
            pending().attribute("quantity", "2"),
            r#"{"quantity": 3}"#,
            reserved("prod_1", 2),
        );
        check(pending(), six, reserved("bottle", 6));
        check(pending().attribute("quantity", "2"), six, reserved("bottle", 12));
        check(
            pending().payload(r#"{"order": {"items": [{"quantity": 4}]}}"#),
            r#"{"quantity_from": "/order/items/0/quantity"}"#,
            reserved("prod_1", 4),
        );
        let hold = |message: &str| Err(Failure::hold(message));
        check(
            pending(),
            r#"{"products": {}}"#,
            hold("the product \"prod_1\" is not listed in `products`"),
        );
        check(
            pending().attribute("quantity", "0"),
            "{}",
            hold("0 × 1 of prod_1 is no quantity"),
        );
        check(
            pending().attribute("quantity", "-1"),
            "{}",
            hold("-1 × 1 of prod_1 is no quantity"),
        );
        check(
            pending().attribute("quantity", "4294967295"),
            six,
            hold("4294967295 × 6 of bottle is no quantity"),
        );
        check(
            pending().attribute("quantity", "two"),
            "{}",
            hold("attribute `quantity` is \"two\", which is not a whole number"),
        );
        check(
            redemption("odd"),
            "{}",
            Err(Failure::refuse("status `odd` moves no stock")),
        );
        let stateless = EventBuilder::new("order.placed").attribute("product", "prod_1");
        check(
            stateless.clone(),
            "{}",
            Err(Failure::refuse("type `order.placed` moves no stock")),
        );
        check(
            stateless,
            r#"{"reserve_types": ["order.*"]}"#,
            Ok(vec![Proposal::reserve_stock(
                "inventory:reserve:evt_1",
                "prod_1",
                1,
                "evt_1",
            )]),
        );
    }

    /// Each step is a status, with what it must propose.
    #[test]
    fn a_reservation_goes_its_way() {
        let check = |name: &str, steps: &[(&str, Result<Vec<Proposal>, Failure>)]| {
            let state = &mut MemoryState::default();
            for (at, (status, expect)) in steps.iter().enumerate() {
                assert_eq!(&run(redemption(status), "{}", state), expect, "{name}, step {at}");
            }
        };
        let nothing = || Ok(Vec::new());
        let too_late = || Err(Failure::refuse("r_1 was rolled back already"));
        let (hold, free) = (|| reserved("prod_1", 1), || released("prod_1", 1));
        check(
            "the good way",
            &[("created", hold()), ("pending", hold()), ("completed", nothing())],
        );
        check(
            "rolled back",
            &[
                ("pending", hold()),
                ("rolledback", free()),
                ("rolledback", free()),
                ("pending", too_late()),
            ],
        );
        check(
            "rolled back first",
            &[
                ("rolledback", nothing()),
                ("pending", too_late()),
                ("rolledback", nothing()),
            ],
        );
        check(
            "completed first",
            &[("completed", nothing()), ("rolledback", nothing())],
        );
        check(
            "completed after a roll back",
            &[
                ("pending", hold()),
                ("rolledback", free()),
                ("completed", nothing()),
                ("pending", too_late()),
            ],
        );
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
