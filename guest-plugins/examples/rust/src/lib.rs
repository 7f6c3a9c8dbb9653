//! Loyalty: credits a customer with a share of what a completed order was worth, up to a limit per customer.

use serde::{Deserialize, Serialize};
use tollgate_plugin::{Event, Failure, Money, Plugin, Proposal, State, config, log, operation_key, state};

/// Operations remembered per customer. For one that is forgotten, the host's ledger still gives one effect per operation key.
const OPERATIONS_MAX: usize = 32;

/// The route's configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The share in basis points: 500 is 5 %.
    rate_bps: i64,
    /// The most that one customer earns, in minor units.
    customer_max_minor_units: i64,
    /// Orders in another currency earn nothing.
    currency: String,
}

/// What is kept of one customer.
#[derive(Default, Serialize, Deserialize)]
struct Customer {
    /// Minor units of all credits.
    credited: i64,
    /// The newest operations with what each was credited, oldest first.
    operations: Vec<(String, i64)>,
}

struct Loyalty;

impl Plugin for Loyalty {
    fn process(event: &Event, config: &str, state: &mut dyn State) -> Result<Vec<Proposal>, Failure> {
        let config: Config = config::parse(config)?;
        if !(1..=10_000).contains(&config.rate_bps) {
            return Err(config::invalid("`rate_bps` must be 1 to 10000"));
        }
        if event.status.as_deref() != Some("completed") {
            return Err(Failure::refuse("only completed orders earn"));
        }
        let Some(amount) = &event.amount else {
            return Err(Failure::hold("the event has no amount"));
        };
        if amount.currency != config.currency {
            return Err(Failure::refuse(format!("orders in {} earn nothing", amount.currency)));
        }
        let account = event.required_attribute("customer")?;
        let operation = event.operation();
        let key = operation_key("loyalty", operation)?;
        let state_key = state::key("customer", account)?;
        let mut customer: Customer = state.get_json(&state_key)?.unwrap_or_default();

        // The same operation has the same content each time, whatever the limit has left by now.
        let known = customer.operations.iter().find(|(known, _)| known == operation);
        let credit = match known {
            Some((_, credited)) => *credited,
            None => {
                let left = config.customer_max_minor_units - customer.credited;
                let credit = share(amount.minor_units, config.rate_bps).min(left);
                if credit < 1 {
                    return Err(Failure::refuse("nothing is left to earn"));
                }
                log::info(&format!("{operation} earns {credit} of {left} left"));
                customer.credited += credit;
                customer.operations.push((operation.to_owned(), credit));
                let surplus = customer.operations.len().saturating_sub(OPERATIONS_MAX);
                customer.operations.drain(..surplus);
                state.set_json(&state_key, &customer)?;
                credit
            }
        };
        let money = Money::new(credit, amount.currency.clone());
        Ok(vec![Proposal::credit(key, account, money, "loyalty")])
    }
}

/// `rate_bps` of an amount, rounded down. Wide enough in between for every amount.
fn share(minor_units: i64, rate_bps: i64) -> i64 {
    i64::try_from(i128::from(minor_units) * i128::from(rate_bps) / 10_000).unwrap_or(i64::MAX)
}

tollgate_plugin::plugin!(Loyalty, manifest = "manifest.json");

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_plugin::testing::{EventBuilder, MemoryState};

    #[test]
    fn a_completed_order_earns_its_share() {
        let event = EventBuilder::new("order.completed")
            .status("order", "completed")
            .amount(2900, "USD")
            .attribute("customer", "cust_1")
            .build();
        let config = r#"{"rate_bps": 500, "customer_max_minor_units": 1000, "currency": "USD"}"#;
        let proposals = Loyalty::process(&event, config, &mut MemoryState::default());
        let expect = Proposal::credit("loyalty:evt_1", "cust_1", Money::new(145, "USD"), "loyalty");
        assert_eq!(proposals, Ok(vec![expect]));
    }
}
