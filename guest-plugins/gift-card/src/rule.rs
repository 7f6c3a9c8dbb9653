//! The rule: which card an event earns, and whether its recipient may have another.

use serde::{Deserialize, Serialize};
use tollgate_plugin::{Event, Failure, Money, Proposal, State, operation_key, state};

use crate::config::{Card, Config};

/// Operations remembered per recipient. With the longest names and templates they fill a state value by two thirds.
const OPERATIONS_MAX: usize = 32;

/// What is known of one recipient.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Recipient {
    /// Cards issued, ever.
    cards: u32,
    /// The newest operations with the card of each, oldest first.
    operations: Vec<Issued>,
    /// What a newer version keeps beside it.
    #[serde(flatten)]
    unknown: state::Unknown,
}

/// The whole content of a card, so that a second event for its operation can repeat it to the letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Issued {
    operation: String,
    minor_units: i64,
    currency: String,
    template: String,
}

pub(crate) fn process(event: &Event, config: &Config, state: &mut dyn State) -> Result<Vec<Proposal>, Failure> {
    check_is_ours(event, config)?;
    let name = config
        .recipient
        .text(event)?
        .filter(|recipient| !recipient.is_empty())
        .ok_or_else(|| Failure::hold(format!("the event has no recipient at {}", config.recipient)))?;
    let operation = event.operation();
    let key = operation_key("gift-card", operation)?;
    let state_key = state::key("recipient", &name)?;
    let mut recipient: Recipient = state.get_json(&state_key)?.unwrap_or_default();

    let known = recipient.operations.iter().find(|issued| issued.operation == operation);
    let issued = match known {
        Some(issued) => issued.clone(),
        None => {
            let card = earned(event, config)?;
            if let Some(max) = config.recipient_cards_max
                && recipient.cards >= max
            {
                return Err(Failure::refuse(format!(
                    "the recipient has had {max} cards, which is the most"
                )));
            }
            let issued = Issued {
                operation: operation.to_owned(),
                minor_units: card.value_minor_units,
                currency: config.currency.clone(),
                template: card.template.clone(),
            };
            recipient.remember(issued.clone());
            state.set_json(&state_key, &recipient)?;
            issued
        }
    };
    let amount = Money::new(issued.minor_units, issued.currency);
    Ok(vec![Proposal::issue_gift_card(key, name, amount, issued.template)])
}

fn check_is_ours(event: &Event, config: &Config) -> Result<(), Failure> {
    if !event.type_is_one_of(&config.types) {
        return Err(Failure::refuse(format!("type `{}` earns no card", event.event_type)));
    }
    match (&event.family, &event.status) {
        (None, _) => Ok(()),
        (Some(_), Some(status)) if config.statuses.contains(status) => Ok(()),
        (Some(_), Some(status)) => Err(Failure::refuse(format!("status `{status}` earns no card"))),
        (Some(family), None) => Err(Failure::refuse(format!(
            "an event of family `{family}` without a status earns no card"
        ))),
    }
}

/// The card with the highest minimum that the event's amount reaches.
fn earned<'a>(event: &Event, config: &'a Config) -> Result<&'a Card, Failure> {
    if let Some(amount) = &event.amount
        && amount.currency != config.currency
    {
        return Err(Failure::refuse(format!(
            "the amount is in {}; cards are in {}",
            amount.currency, config.currency
        )));
    }
    let reached = |card: &&Card| match (card.minimum_minor_units, &event.amount) {
        (None, _) => true,
        (Some(minimum), Some(amount)) => amount.minor_units >= minimum,
        (Some(_), None) => false,
    };
    config.cards.iter().find(reached).ok_or_else(|| {
        Failure::refuse(match &event.amount {
            Some(amount) => format!("{amount} earns no card"),
            None => "an event without an amount earns no card".to_owned(),
        })
    })
}

impl Recipient {
    fn remember(&mut self, issued: Issued) {
        self.cards = self.cards.saturating_add(1);
        self.operations.push(issued);
        let surplus = self.operations.len().saturating_sub(OPERATIONS_MAX);
        self.operations.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GiftCards;
    use tollgate_plugin::testing::{EventBuilder, MemoryState};
    use tollgate_plugin::{Plugin, limits};

    const TIERS: &str = r#"{"currency": "USD", "cards": [
        {"minimum_minor_units": 5000, "value_minor_units": 500, "template": "small"},
        {"minimum_minor_units": 20000, "value_minor_units": 2500, "template": "large"}]}"#;
    const ANY: &str = r#"{"currency": "USD", "cards": [{"value_minor_units": 1000, "template": "birthday"}], "recipient_cards_max": 2}"#;

    fn order(operation: &str) -> EventBuilder {
        EventBuilder::new("order.completed")
            .status("order", "completed")
            .subject(operation)
            .attribute("customer", "cust_1")
    }

    #[track_caller]
    fn check(event: EventBuilder, config: &str, state: &mut MemoryState, expect: Result<(i64, &str), &str>) {
        let event = event.build();
        let expect = match expect {
            Ok((minor_units, template)) => Ok(vec![Proposal::issue_gift_card(
                format!("gift-card:{}", event.operation()),
                "cust_1",
                Money::new(minor_units, "USD"),
                template,
            )]),
            Err(message) => Err(Failure::refuse(message)),
        };
        assert_eq!(GiftCards::process(&event, config, state), expect);
    }

    #[test]
    fn the_amount_decides_which_card() {
        for (minor_units, expect) in [
            (4999, Err("49.99 USD earns no card")),
            (5000, Ok((500, "small"))),
            (19_999, Ok((500, "small"))),
            (20_000, Ok((2500, "large"))),
        ] {
            check(
                order("o").amount(minor_units, "USD"),
                TIERS,
                &mut MemoryState::default(),
                expect,
            );
        }
        let state = &mut MemoryState::default();
        for (event, config, why) in [
            (order("o"), TIERS, "an event without an amount earns no card"),
            (
                order("o").amount(9000, "EUR"),
                TIERS,
                "the amount is in EUR; cards are in USD",
            ),
            (
                order("o").status("order", "pending"),
                ANY,
                "status `pending` earns no card",
            ),
        ] {
            check(event, config, state, Err(why));
        }
        assert_eq!(*state, MemoryState::default(), "what earns nothing counts nothing");
        check(order("o"), ANY, state, Ok((1000, "birthday")));
    }

    #[test]
    fn a_recipient_has_a_most_and_an_operation_one_card() {
        let state = &mut MemoryState::default();
        check(order("a"), ANY, state, Ok((1000, "birthday")));
        check(order("b"), ANY, state, Ok((1000, "birthday")));
        check(
            order("c"),
            ANY,
            state,
            Err("the recipient has had 2 cards, which is the most"),
        );
        let before = state.clone();
        check(
            order("a").id("evt_2").amount(20_000, "USD"),
            TIERS,
            state,
            Ok((1000, "birthday")),
        );
        assert_eq!(
            *state, before,
            "the same operation gives the same card, though the configuration is another"
        );
        let other = order("c").attribute("customer", "cust_2").build();
        assert!(
            matches!(GiftCards::process(&other, ANY, state), Err(Failure::Refuse(_))),
            "the first attribute counts"
        );
    }

    #[test]
    fn the_recipient_is_where_the_configuration_says() {
        let config = r#"{"currency": "USD", "cards": [{"value_minor_units": 5, "template": "t"}], "recipient": "/customer/email"}"#;
        let event = order("o")
            .payload(r#"{"customer": {"email": "a@example.com"}}"#)
            .build();
        let proposals = GiftCards::process(&event, config, &mut MemoryState::default());
        let expect = Proposal::issue_gift_card("gift-card:o", "a@example.com", Money::new(5, "USD"), "t");
        assert_eq!(proposals, Ok(vec![expect]));
        let nobody = GiftCards::process(&order("o").build(), config, &mut MemoryState::default());
        let expect = Failure::hold("the event has no recipient at `/customer/email` of the body");
        assert_eq!(nobody, Err(expect));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let state = &mut MemoryState::default();
        let template = "t".repeat(limits::ACTION_TEXT_BYTES_MAX);
        let config = format!(
            r#"{{"currency": "USD", "cards": [{{"value_minor_units": 9007199254740991, "template": "{template}"}}]}}"#
        );
        for number in 0..100 {
            let event = order(&format!("{}{number:04}", "o".repeat(180)));
            GiftCards::process(&event.build(), &config, state).unwrap();
        }
        let bytes = &state.values["recipient/cust_1"];
        let recipient: Recipient = tollgate_plugin::serde_json::from_slice(bytes).unwrap();
        assert_eq!((recipient.cards, recipient.operations.len()), (100, OPERATIONS_MAX));
        assert!(bytes.len() < limits::STATE_VALUE_BYTES_MAX, "{}", bytes.len());
    }
}
