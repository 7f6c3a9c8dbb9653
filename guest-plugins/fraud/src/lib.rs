//! Fraud: counts what a customer does over sliding windows, and flags the operation that goes over a limit.
//!
//! # Configuration
//!
//! A JSON object; unknown fields are refused.
//!
//! | field | unit | default | meaning |
//! |---|---|---|---|
//! | `rules` | list of 1 to 8 | – | see below |
//! | `flag_at` | score, 1 to 100 | 50 | the score from which an operation is flagged |
//! | `notify` | `{"at": score ≥ flag_at, "channel", "recipient", "template"}` | none | the score from which somebody is told, and how |
//! | `currency` | ISO 4217, upper case | – | needed by rules about amounts; amounts in another currency are not counted |
//! | `amount` | JSON pointer or attribute name | none | where the amount (minor units of `currency`) is read when the event has none of its own |
//! | `statuses` | list of statuses | all | which statuses are counted, where the event has a family |
//! | `types` | list of types or prefixes (`customer.*`) | all | which event types are counted |
//!
//! A rule has:
//!
//! | field | unit | meaning |
//! |---|---|---|
//! | `name` | 1 to 48 visible ASCII characters or spaces | begins the reason |
//! | `window_minutes` | minutes, 1 to 43200 (30 days) | how far back it counts |
//! | `events_max` | operations, 1 to 1000000 | it fires when there are more in the window, this one included |
//! | `amount_max_minor_units` | minor units, ≥ 1 | it fires when they sum up to more. This or `events_max`, not both |
//! | `points` | 1 to 100 | what it adds to the score |
//!
//! ```json
//! {
//!   "currency": "INR",
//!   "rules": [
//!     {"name": "burst", "window_minutes": 60, "events_max": 5, "points": 40},
//!     {"name": "daily spend", "window_minutes": 1440, "amount_max_minor_units": 500000, "points": 60}
//!   ],
//!   "flag_at": 40,
//!   "notify": {"at": 100, "channel": "ops", "recipient": "risk-desk", "template": "fraud-alert"}
//! }
//! ```
//!
//! # Rule
//!
//! The customer is the attribute `customer`. The operation is the attribute `operation`, else the subject, else the event's id. The
//! operation keys are `fraud:{operation}` and `fraud:notify:{operation}`: a receiver may tell effects apart by the key alone. The
//! score is the sum of the points of the rules that fire, at most 100, with one reason per rule. The flag is about the event's subject, or the operation where it has none. The notice's values
//! are `customer`, `operation`, `score` and `reasons`.
//!
//! A window ends at the event's own time (when it happened, but not after it was received; else when it was received), never at
//! a clock's. It is counted in 60 parts of equal length, so it reaches back between 59 and 60 parts. Late events are counted
//! where they belong: an event up to one window late is judged exactly, one more than two windows late is judged alone and not
//! counted.
//!
//! An operation is counted and judged once, at its first event: a second one gives the same answer.
//!
//! # State
//!
//! One value per customer, `customer/{customer}`: the counters of two windows (at most 120 parts per window and measure), the
//! newest 64 operations, and the newest 12 flags as they were raised. For an operation that is forgotten, the host's ledger
//! still gives one effect per operation key.

mod config;
mod counters;
mod rule;

use tollgate_plugin::{Event, Failure, Plugin, Proposal, State};

/// The shipped plugin `fraud`.
pub struct Fraud;

impl Plugin for Fraud {
    fn process(event: &Event, config: &str, state: &mut dyn State) -> Result<Vec<Proposal>, Failure> {
        let config = config::Config::parse(config)?;
        rule::process(event, &config, state)
    }
}

tollgate_plugin::plugin!(Fraud, manifest = "manifest.json");
