//! Inventory: reserves the article of a reward when it is requested, and lets it go when the reward is rolled back.
//!
//! # Configuration
//!
//! A JSON object; unknown fields are refused. `{}` is a working configuration for the family `reward-redemption`.
//!
//! | field | unit | default | meaning |
//! |---|---|---|---|
//! | `reserve_on` | list of statuses | `["created", "pending"]` | the statuses that reserve |
//! | `consume_on` | list of statuses | `["completed"]` | the statuses after which the article is gone for good |
//! | `release_on` | list of statuses | `["rolledback"]` | the statuses that release |
//! | `reserve_types`, `consume_types`, `release_types` | lists of types or prefixes (`order.*`) | none | the same for events without a family, by event type |
//! | `products` | `{product: {"sku": text, "quantity": pieces, default 1}}` | none | which article a product is, and how many of it make one; without it the product is the article |
//! | `quantity` | pieces, ≥ 1 | 1 | how many products an event is about when nothing else says it |
//! | `quantity_from` | JSON pointer or attribute name | `quantity` (the attribute) | where an event says how many products it is about |
//!
//! ```json
//! {}
//! {"products": {"prod_0d460f397b92a82905": {"sku": "laptop-14", "quantity": 1}, "reward_999": {"sku": "bottle", "quantity": 6}}}
//! {"reserve_types": ["customer.rewarded"], "quantity_from": "/redemption/order/items/0/quantity"}
//! ```
//!
//! # Rule
//!
//! The product is the attribute `product`. The operation is the attribute `operation`, else the subject, else the event's id: it
//! is the reservation's reference, and the operation keys are `inventory:reserve:{operation}` and `inventory:release:{operation}`:
//! a receiver may tell effects apart by the key alone. The quantity is the number of products times the article's own quantity.
//!
//! A release names what its reservation named, whatever the event or a later configuration says. A completed reservation
//! stays consumed: nothing is proposed. A roll back that finds no reservation proposes nothing, and makes one that still comes
//! (a retried job, another worker) be refused. A product that `products` does not list is held.
//!
//! # State
//!
//! One value per operation, `reservation/{operation}`, under 2 KiB: what was reserved, and whether it was released. A
//! reservation is removed when it is consumed; a released one stays, so that it is never made again.

mod config;
mod rule;

use tollgate_plugin::{Event, Failure, Plugin, Proposal, State};

/// The shipped plugin `inventory`.
pub struct Inventory;

impl Plugin for Inventory {
    fn process(event: &Event, config: &str, state: &mut dyn State) -> Result<Vec<Proposal>, Failure> {
        let config = config::Config::parse(config)?;
        rule::process(event, &config, state)
    }
}

tollgate_plugin::plugin!(Inventory, manifest = "manifest.json");
