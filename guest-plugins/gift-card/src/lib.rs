//! Gift card: issues a card for a completed reward or order.
//!
//! # Configuration
//!
//! A JSON object; unknown fields are refused. All amounts are integers in the minor unit of `currency` (cents, paise).
//!
//! | field | unit | default | meaning |
//! |---|---|---|---|
//! | `currency` | ISO 4217, upper case | – | the cards' currency; an event in another one is refused |
//! | `cards` | list of cards, 1 to 16 | – | what may be issued: of the cards whose minimum the event's amount reaches, the one with the highest |
//! | `cards[].value_minor_units` | minor units, ≥ 1 | – | what the card is worth |
//! | `cards[].template` | 1 to 1024 bytes | – | which design or product, in the tenant's own terms |
//! | `cards[].minimum_minor_units` | minor units, ≥ 1 | none | the least amount that earns it; a card without one is for every event |
//! | `recipient` | JSON pointer or attribute name | `customer` | who gets the card |
//! | `recipient_cards_max` | cards, 1 to 1000 | none | the most that one recipient is issued, ever |
//! | `statuses` | list of statuses | `["completed"]` | which statuses earn, where the event has a family; an event without one always does |
//! | `types` | list of types or prefixes (`customer.*`) | all | which event types earn |
//!
//! ```json
//! {"currency": "USD", "cards": [{"value_minor_units": 1000, "template": "birthday"}], "recipient_cards_max": 1}
//! {"currency": "EUR", "recipient": "/customer/email", "cards": [
//!   {"minimum_minor_units": 5000, "value_minor_units": 500, "template": "small"},
//!   {"minimum_minor_units": 20000, "value_minor_units": 2500, "template": "large"}]}
//! ```
//!
//! # Rule
//!
//! The operation key is `gift-card:` and the attribute `operation`, else the subject, else the event's id. Two cards with one
//! minimum are refused with the configuration. An event whose amount reaches no minimum, or that has no amount where every card
//! asks for one, is refused.
//!
//! # State
//!
//! One value per recipient, `recipient/{recipient}`: how many cards were issued, and the newest 32 operations with the card of
//! each. A second event for a remembered operation proposes the same card and counts nothing, even after the configuration
//! changed; for one that is forgotten, the host's ledger still gives one effect per operation key.

mod config;
mod rule;

use tollgate_plugin::{Event, Failure, Plugin, Proposal, State};

/// The shipped plugin `gift-card`.
pub struct GiftCards;

impl Plugin for GiftCards {
    fn process(event: &Event, config: &str, state: &mut dyn State) -> Result<Vec<Proposal>, Failure> {
        let config = config::Config::parse(config)?;
        rule::process(event, &config, state)
    }
}

tollgate_plugin::plugin!(GiftCards, manifest = "manifest.json");
