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
//! | `families` | list of families | all but `refund` and `payout` | which families earn |
//! | `take_back` | `{"families": {FAMILY: [STATUS]}, "of": pointer or attribute}` | see below | which statuses take back, and where such an event names what was credited; `{"families": {}}`: nothing |
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
//! # What is taken back
//!
//! | family | status | takes back |
//! |---|---|---|
//! | `order`, `payment` | `partially-refunded` | the share that the event's amount is of what was paid |
//! | `order`, `payment` | `refunded` | all that is left |
//! | `payment` | `lost` (a chargeback) | all that is left |
//! | `refund` | `completed` | the share that its amount is of what the attribute `payment`, else `order`, names |
//! | `reward-redemption` | `rolledback` | all |
//!
//! It is a debit of the same account under a key of its own, `cashback-back:{operation}/{return}`, so each return counts once; all of them together take
//! exactly what was credited, and never more. The route's grants need `debit`. A return that comes before what it returns is remembered, and the credit
//! is then what is left. A partial return whose event does not say how much it is of, or says the whole, is held; so is a refund that fails
//! after all. Statuses of `take_back.families` take the event's amount where they begin with `partially-` or are of the family `refund`,
//! else all. What was taken back no longer counts for the customer's limit. An event without a family whose type speaks of a refund, a dispute, a reversal or a
//! payout earns nothing unless `types` names it.
//!
//! # State
//!
//! One value per customer, `customer/{customer}`: credited totals per day, and the newest operations with what each was granted and what of it was
//! taken back. A second event for a remembered operation or return proposes the same and counts nothing. Totals are kept for two windows (60 days
//! without a limit), operations at least 180 days and at most 64; for one that is forgotten, the host's ledger still gives one effect per operation key,
//! and nothing is taken back. Fields that a newer version wrote are passed over and kept.

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
