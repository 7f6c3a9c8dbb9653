//! Cashback: credits a customer with a share of what an event is worth, or with a fixed amount.
//!
//! # Configuration
//!
//! A JSON object; unknown fields are refused. All amounts are integers in the minor unit of their currency (cents, paise).
//!
//! | field | unit | default | meaning |
//! |---|---|---|---|
//! | `rate_bps` | basis points, 1 to 10000 | – | share of the amount: 500 is 5 %. This or `fixed_minor_units`, not both |
//! | `fixed_minor_units` | minor units, ≥ 1 | – | the same credit for every operation |
//! | `cap_minor_units` | minor units, ≥ 1 | none | the most that one operation earns |
//! | `minimum_amount_minor_units` | minor units, ≥ 1 | none | an amount below it earns nothing |
//! | `currency` | ISO 4217, upper case | the event's | needed where the event has no amount of its own; an event in another currency is refused |
//! | `amount` | JSON pointer or attribute name | none | where the amount is read when the event has none of its own |
//! | `points` | `{"from": pointer or attribute, "value_minor_units": ≥ 1}` | none | the amount is points × value, when the event has none of its own. This or `amount`, not both |
//! | `statuses` | list of statuses | `["completed"]` | which statuses earn, where the event has a family; an event without one always does |
//! | `types` | list of types or prefixes (`customer.*`) | all | which event types earn |
//! | `limit` | `{"amount_minor_units": ≥ 1, "window_days": 1 to 366}` | none | the most that one customer earns per window, per currency |
//!
//! Without `currency`, fixed amounts, caps, minimums and limits are minor units of whatever currency the event has; name it
//! where events of several currencies may come.
//!
//! ```json
//! {"rate_bps": 500, "cap_minor_units": 2000, "currency": "INR", "limit": {"amount_minor_units": 10000, "window_days": 30}}
//! {"rate_bps": 250, "currency": "USD", "amount": "/redemption/order/amount", "types": ["customer.rewarded"]}
//! {"rate_bps": 10000, "currency": "EUR", "points": {"from": "/voucher/redemption/redeemed_points", "value_minor_units": 2}}
//! ```
//!
//! # Rule
//!
//! The account is the attribute `customer`. The operation key is `cashback:` and the attribute `operation`, else the subject,
//! else the event's id. The share is rounded to the nearest minor unit, an exact half down. When the customer's limit leaves
//! less than was earned, what is left is credited; when nothing is left, the event is refused.
//!
//! Windows are `window_days` long, begin at the Unix epoch and follow one another (UTC); an event falls into the one of its own
//! time (when it happened, but not after it was received; else when it was received), in whatever order events come. An event that happened more than two
//! windows before the customer's newest one is held, as its window is no longer known.
//!
//! # State
//!
//! One value per customer, `customer/{customer}`: credited totals per day, and the newest operations with what each was
//! granted. A second event for a remembered operation proposes the same credit and counts nothing. Totals and operations are
//! kept for two windows (60 days without a limit), operations at most 64; for one that is forgotten, the host's ledger still
//! gives one effect per operation key.

mod config;
mod rule;

use tollgate_plugin::{Event, Failure, Plugin, Proposal, State};

/// The shipped plugin `cashback`.
pub struct Cashback;

impl Plugin for Cashback {
    fn process(event: &Event, config: &str, state: &mut dyn State) -> Result<Vec<Proposal>, Failure> {
        let config = config::Config::parse(config)?;
        rule::process(event, &config, state)
    }
}

tollgate_plugin::plugin!(Cashback, manifest = "manifest.json");
