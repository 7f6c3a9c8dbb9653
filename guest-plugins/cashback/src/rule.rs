//! The rule: what an event earns, and what the customer's limit leaves of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_plugin::limits::MINOR_UNITS_MAX;
use tollgate_plugin::{Event, Failure, Money, Proposal, State, operation_key, state};

use crate::config::{BPS_MAX, Basis, Config, Earning};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Operations remembered per customer. With the longest operation names they take about a third of what a state value may hold.
const OPERATIONS_MAX: usize = 64;
/// How long operations are remembered when there is no limit with a window.
const KEEP_DAYS_WITHOUT_LIMIT: i64 = 60;

/// What is known of one customer.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Customer {
    /// Credited minor units by day (since the Unix epoch) and currency.
    days: BTreeMap<i64, BTreeMap<String, i64>>,
    /// The newest operations with what each was granted, oldest first.
    operations: Vec<Granted>,
}

/// The whole content of a credit, so that a second event for its operation can repeat it to the letter.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Granted {
    operation: String,
    day: i64,
    minor_units: i64,
    currency: String,
    reason: String,
}

pub(crate) fn process(event: &Event, config: &Config, state: &mut dyn State) -> Result<Vec<Proposal>, Failure> {
    check_is_ours(event, config)?;
    let account = event.required_attribute("customer")?;
    let operation = event.operation();
    let key = operation_key("cashback", operation)?;
    let state_key = state::key("customer", account)?;
    let mut customer: Customer = state.get_json(&state_key)?.unwrap_or_default();

    if let Some(granted) = customer
        .operations
        .iter()
        .find(|granted| granted.operation == operation)
    {
        let amount = Money::new(granted.minor_units, granted.currency.clone());
        return Ok(vec![Proposal::credit(key, account, amount, granted.reason.clone())]);
    }

    let (earned, basis) = earn(event, config)?;
    let day = event.time_ms().div_euclid(DAY_MS);
    let granted = customer.within_limit(config, day, earned)?;
    let reason = reason(config, &basis, &granted);
    customer.remember(config, operation, day, &granted, &reason);
    state.set_json(&state_key, &customer)?;
    Ok(vec![Proposal::credit(key, account, granted, reason)])
}

fn check_is_ours(event: &Event, config: &Config) -> Result<(), Failure> {
    if !event.type_is_one_of(&config.types) {
        return Err(Failure::refuse(format!(
            "type `{}` earns no cashback",
            event.event_type
        )));
    }
    match (&event.family, &event.status) {
        (None, _) => Ok(()),
        (Some(_), Some(status)) if config.statuses.contains(status) => Ok(()),
        (Some(_), Some(status)) => Err(Failure::refuse(format!("status `{status}` earns no cashback"))),
        (Some(family), None) => Err(Failure::refuse(format!(
            "an event of family `{family}` without a status earns no cashback"
        ))),
    }
}

/// What the operation earns after its cap, and the amount that it was judged by (none for a fixed credit whose event has none).
fn earn(event: &Event, config: &Config) -> Result<(Money, Option<Money>), Failure> {
    let basis = basis(event, config)?;
    if let Some(basis) = &basis {
        if let Some(currency) = &config.currency
            && *currency != basis.currency
        {
            return Err(Failure::refuse(format!(
                "the amount is in {}; cashback is for {currency}",
                basis.currency
            )));
        }
        if basis.minor_units <= 0 {
            return Err(Failure::refuse(format!("{basis} is no amount that earns")));
        }
        if let Some(minimum) = config.minimum_amount_minor_units
            && basis.minor_units < minimum
        {
            let minimum = Money::new(minimum, basis.currency.clone());
            return Err(Failure::refuse(format!("{basis} is below the minimum of {minimum}")));
        }
    }
    let (minor_units, currency) = match (&config.earning, &basis) {
        (Earning::Rate(rate_bps), Some(basis)) => (share(basis.minor_units, *rate_bps), basis.currency.clone()),
        (Earning::Fixed(fixed), Some(basis)) => (*fixed, basis.currency.clone()),
        (Earning::Fixed(fixed), None) if config.minimum_amount_minor_units.is_none() => match &config.currency {
            Some(currency) => (*fixed, currency.clone()),
            None => {
                return Err(Failure::hold(
                    "the event has no amount and the configuration no `currency`",
                ));
            }
        },
        (Earning::Rate(_) | Earning::Fixed(_), None) => {
            return Err(Failure::hold(
                "the event has no amount; say with `amount` or `points`, and `currency`, where to read it",
            ));
        }
    };
    let minor_units = config.cap_minor_units.map_or(minor_units, |cap| minor_units.min(cap));
    if minor_units == 0 {
        return Err(Failure::refuse("the cashback rounds to nothing"));
    }
    Ok((Money::new(minor_units, currency), basis))
}

/// The amount that a share is taken of: the event's own, else what the configuration says.
fn basis(event: &Event, config: &Config) -> Result<Option<Money>, Failure> {
    if let Some(amount) = &event.amount {
        return Ok(Some(amount.clone()));
    }
    let (Some(basis), Some(currency)) = (&config.basis, &config.currency) else {
        return Ok(None);
    };
    let minor_units = match basis {
        Basis::Amount(lookup) => lookup.integer(event)?,
        Basis::Points(points) => match points.from.integer(event)? {
            Some(count) => Some(
                count
                    .checked_mul(points.value_minor_units)
                    .ok_or_else(|| too_much(count))?,
            ),
            None => None,
        },
    };
    let Some(minor_units) = minor_units else {
        let (Basis::Amount(lookup) | Basis::Points(crate::config::Points { from: lookup, .. })) = basis;
        return Err(Failure::hold(format!("the event has no amount at {lookup}")));
    };
    if minor_units > MINOR_UNITS_MAX {
        return Err(too_much(minor_units));
    }
    Ok(Some(Money::new(minor_units, currency.clone())))
}

fn too_much(count: i64) -> Failure {
    Failure::hold(format!("{count} gives an amount over {MINOR_UNITS_MAX} minor units"))
}

/// `rate_bps` of `minor_units`, to the nearest minor unit, an exact half down. Neither is negative.
fn share(minor_units: i64, rate_bps: i64) -> i64 {
    let (parts, whole) = (i128::from(minor_units) * i128::from(rate_bps), i128::from(BPS_MAX));
    let rounded_up = parts % whole * 2 > whole;
    // At most `minor_units`, as the rate is at most 100 %.
    i64::try_from(parts / whole + i128::from(rounded_up)).unwrap_or(minor_units)
}

/// For the person who reads the ledger: `cashback of 5 % on 29.00 USD, capped`.
fn reason(config: &Config, basis: &Option<Money>, granted: &Money) -> String {
    let uncut = match (&config.earning, basis) {
        (Earning::Rate(rate_bps), Some(basis)) => share(basis.minor_units, *rate_bps),
        (Earning::Rate(_), None) => granted.minor_units,
        (Earning::Fixed(fixed), _) => *fixed,
    };
    let mut reason = match (&config.earning, basis) {
        (Earning::Rate(rate_bps), Some(basis)) => format!("cashback of {} on {basis}", percent(*rate_bps)),
        _ => "cashback".to_owned(),
    };
    if granted.minor_units < config.cap_minor_units.map_or(uncut, |cap| uncut.min(cap)) {
        reason.push_str(", cut to what the customer's limit leaves");
    } else if granted.minor_units < uncut {
        reason.push_str(", capped");
    }
    reason
}

/// `5 %`, `2.5 %`, `0.05 %`.
fn percent(bps: i64) -> String {
    match (bps / 100, bps % 100) {
        (whole, 0) => format!("{whole} %"),
        (whole, part) if part % 10 == 0 => format!("{whole}.{} %", part / 10),
        (whole, part) => format!("{whole}.{part:02} %"),
    }
}

impl Customer {
    /// What the limit leaves of `earned` in the window of `day`.
    fn within_limit(&self, config: &Config, day: i64, earned: Money) -> Result<Money, Failure> {
        let Some(limit) = &config.limit else { return Ok(earned) };
        if let Some(newest) = self.newest_day()
            && day < newest.saturating_sub(keep_days(config))
        {
            return Err(Failure::hold(
                "the event is more than two windows late: what its window had left is no longer known",
            ));
        }
        let first = day.div_euclid(limit.window_days) * limit.window_days;
        let credited: i128 = self
            .days
            .range(first..first + limit.window_days)
            .filter_map(|(_, totals)| totals.get(&earned.currency))
            .map(|total| i128::from(*total))
            .sum();
        let left = i64::try_from(i128::from(limit.amount_minor_units) - credited)
            .unwrap_or(0)
            .max(0);
        if left == 0 {
            let amount = Money::new(limit.amount_minor_units, earned.currency);
            return Err(Failure::refuse(format!(
                "the customer's limit of {amount} per {} days is used up",
                limit.window_days
            )));
        }
        Ok(Money {
            minor_units: earned.minor_units.min(left),
            ..earned
        })
    }

    /// Counts a credit, and forgets what is too old or too much.
    fn remember(&mut self, config: &Config, operation: &str, day: i64, granted: &Money, reason: &str) {
        let total = self
            .days
            .entry(day)
            .or_default()
            .entry(granted.currency.clone())
            .or_default();
        *total = total.saturating_add(granted.minor_units);
        self.operations.push(Granted {
            operation: operation.to_owned(),
            day,
            minor_units: granted.minor_units,
            currency: granted.currency.clone(),
            reason: reason.to_owned(),
        });
        let oldest = self.newest_day().unwrap_or(day).saturating_sub(keep_days(config));
        self.days.retain(|day, _| *day >= oldest);
        self.operations.retain(|granted| granted.day >= oldest);
        let surplus = self.operations.len().saturating_sub(OPERATIONS_MAX);
        self.operations.drain(..surplus);
    }

    fn newest_day(&self) -> Option<i64> {
        self.days.last_key_value().map(|(day, _)| *day)
    }
}

fn keep_days(config: &Config) -> i64 {
    config
        .limit
        .as_ref()
        .map_or(KEEP_DAYS_WITHOUT_LIMIT, |limit| limit.window_days * 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cashback;
    use tollgate_plugin::testing::{EventBuilder, MemoryState};
    use tollgate_plugin::{Action, Plugin};

    const REWARDED: &str = include_str!("../../../tests/samples/voucherify-customer.rewarded.data.json");

    fn redeemed() -> EventBuilder {
        EventBuilder::new("reward.redeemed")
            .id("evt_12345")
            .subject("evt_12345")
            .status("reward-redemption", "completed")
            .amount(500, "INR")
            .attribute("customer", "user_678")
            .attribute("operation", "evt_12345")
    }

    fn run(event: EventBuilder, config: &str, state: &mut MemoryState) -> Result<(i64, String, String), Failure> {
        let mut proposals = Cashback::process(&event.build(), config, state)?;
        assert_eq!(proposals.len(), 1);
        match proposals.remove(0).action {
            Action::Credit(credit) => Ok((credit.amount.minor_units, credit.amount.currency, credit.reason)),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn check(event: EventBuilder, config: &str, expect: Result<(i64, &str, &str), Failure>) {
        let expect =
            expect.map(|(minor_units, currency, reason)| (minor_units, currency.to_owned(), reason.to_owned()));
        assert_eq!(run(event, config, &mut MemoryState::default()), expect, "{config}");
    }

    #[test]
    fn the_sample_earns_its_share() {
        let proposals =
            Cashback::process(&redeemed().build(), r#"{"rate_bps": 500}"#, &mut MemoryState::default()).unwrap();
        let expect = Proposal::credit(
            "cashback:evt_12345",
            "user_678",
            Money::new(25, "INR"),
            "cashback of 5 % on 5.00 INR",
        );
        assert_eq!(proposals, [expect]);
    }

    #[test]
    fn rates_fixed_amounts_caps_and_minimums() {
        check(
            redeemed(),
            r#"{"rate_bps": 250}"#,
            Ok((12, "INR", "cashback of 2.5 % on 5.00 INR")),
        );
        check(
            redeemed(),
            r#"{"rate_bps": 10000}"#,
            Ok((500, "INR", "cashback of 100 % on 5.00 INR")),
        );
        check(
            redeemed(),
            r#"{"rate_bps": 500, "cap_minor_units": 20}"#,
            Ok((20, "INR", "cashback of 5 % on 5.00 INR, capped")),
        );
        check(
            redeemed(),
            r#"{"rate_bps": 500, "cap_minor_units": 25}"#,
            Ok((25, "INR", "cashback of 5 % on 5.00 INR")),
        );
        check(redeemed(), r#"{"fixed_minor_units": 99}"#, Ok((99, "INR", "cashback")));
        check(
            redeemed(),
            r#"{"rate_bps": 9}"#,
            Err(Failure::refuse("the cashback rounds to nothing")),
        );
        check(
            redeemed(),
            r#"{"rate_bps": 5, "minimum_amount_minor_units": 500}"#,
            Err(Failure::refuse("the cashback rounds to nothing")),
        );
        check(
            redeemed(),
            r#"{"rate_bps": 500, "minimum_amount_minor_units": 501}"#,
            Err(Failure::refuse("5.00 INR is below the minimum of 5.01 INR")),
        );
        check(
            redeemed(),
            r#"{"rate_bps": 500, "currency": "USD"}"#,
            Err(Failure::refuse("the amount is in INR; cashback is for USD")),
        );
        check(
            redeemed().amount(-500, "INR"),
            r#"{"rate_bps": 500}"#,
            Err(Failure::refuse("-5.00 INR is no amount that earns")),
        );
    }

    #[test]
    fn which_events_earn() {
        check(
            redeemed().status("reward-redemption", "pending"),
            r#"{"rate_bps": 500}"#,
            Err(Failure::refuse("status `pending` earns no cashback")),
        );
        let pending = r#"{"rate_bps": 500, "statuses": ["pending"]}"#;
        check(
            redeemed().status("reward-redemption", "pending"),
            pending,
            Ok((25, "INR", "cashback of 5 % on 5.00 INR")),
        );
        check(
            redeemed(),
            pending,
            Err(Failure::refuse("status `completed` earns no cashback")),
        );
        let typed = r#"{"rate_bps": 500, "types": ["customer.*"]}"#;
        check(
            redeemed(),
            typed,
            Err(Failure::refuse("type `reward.redeemed` earns no cashback")),
        );
        let stateless = EventBuilder::new("customer.rewarded")
            .amount(500, "INR")
            .attribute("customer", "c");
        check(stateless, typed, Ok((25, "INR", "cashback of 5 % on 5.00 INR")));
        let nobody = EventBuilder::new("customer.rewarded").amount(500, "INR");
        let expect = "the event has no attribute `customer`; the profile of source `test-source` must read it";
        check(nobody, typed, Err(Failure::hold(expect)));
    }

    #[test]
    fn an_event_without_an_amount_is_read_as_configured() {
        let rewarded = || {
            EventBuilder::new("customer.rewarded")
                .attribute("customer", "cust_1")
                .payload(REWARDED)
        };
        check(
            rewarded(),
            r#"{"rate_bps": 500, "currency": "USD", "amount": "/redemption/order/amount"}"#,
            Ok((145, "USD", "cashback of 5 % on 29.00 USD")),
        );
        check(
            rewarded().attribute("order_amount", "3000"),
            r#"{"rate_bps": 500, "currency": "USD", "amount": "order_amount"}"#,
            Ok((150, "USD", "cashback of 5 % on 30.00 USD")),
        );
        check(
            rewarded(),
            r#"{"rate_bps": 10000, "currency": "EUR", "points": {"from": "/redemption/amount", "value_minor_units": 2}}"#,
            Ok((100, "EUR", "cashback of 100 % on 1.00 EUR")),
        );
        check(
            rewarded(),
            r#"{"fixed_minor_units": 70, "currency": "EUR"}"#,
            Ok((70, "EUR", "cashback")),
        );
        let no_amount = "the event has no amount; say with `amount` or `points`, and `currency`, where to read it";
        check(
            rewarded(),
            r#"{"rate_bps": 500, "currency": "USD"}"#,
            Err(Failure::hold(no_amount)),
        );
        check(
            rewarded(),
            r#"{"fixed_minor_units": 70}"#,
            Err(Failure::hold(
                "the event has no amount and the configuration no `currency`",
            )),
        );
        check(
            rewarded(),
            r#"{"rate_bps": 500, "currency": "USD", "amount": "/redemption/order/tip"}"#,
            Err(Failure::hold(
                "the event has no amount at `/redemption/order/tip` of the body",
            )),
        );
        check(
            rewarded(),
            r#"{"rate_bps": 1, "currency": "USD", "points": {"from": "/redemption/amount", "value_minor_units": 9007199254740991}}"#,
            Err(Failure::hold(
                "450359962737049550 gives an amount over 9007199254740991 minor units",
            )),
        );
    }

    #[test]
    fn a_share_is_rounded_half_down_and_never_overflows() {
        for (minor_units, rate_bps, expect) in [
            (100, 500, 5),
            (110, 500, 5), // 5.5 exactly
            (111, 500, 6), // 5.55
            (1, 5000, 0),  // 0.5 exactly
            (3, 5000, 1),  // 1.5 exactly
            (1, 5001, 1),
            (MINOR_UNITS_MAX, 10_000, MINOR_UNITS_MAX),
            (MINOR_UNITS_MAX, 9_999, 9_006_298_534_815_517),
            (i64::MAX, 10_000, i64::MAX),
        ] {
            assert_eq!(share(minor_units, rate_bps), expect, "{rate_bps} bps of {minor_units}");
        }
    }

    const LIMITED: &str = r#"{"rate_bps": 10000, "limit": {"amount_minor_units": 1000, "window_days": 30}}"#;

    fn spend(operation: &str, minor_units: i64, day: i64) -> EventBuilder {
        let event = EventBuilder::new("reward.redeemed")
            .amount(minor_units, "INR")
            .attribute("customer", "user_678");
        event.attribute("operation", operation).occurred_at_ms(day * DAY_MS + 5)
    }

    #[test]
    fn a_limit_cuts_the_last_credit_and_then_refuses_until_the_next_window() {
        let state = &mut MemoryState::default();
        let mut amount =
            |operation, minor_units, day| run(spend(operation, minor_units, day), LIMITED, state).map(|found| found.0);
        let used_up = || {
            Err(Failure::refuse(
                "the customer's limit of 10.00 INR per 30 days is used up",
            ))
        };
        assert_eq!(amount("a", 600, 59), Ok(600));
        assert_eq!(amount("b", 600, 60), Ok(600), "day 60 begins a window");
        assert_eq!(amount("c", 600, 89), Ok(400), "the last day of that window");
        assert_eq!(amount("d", 600, 75), used_up());
        assert_eq!(amount("e", 600, 30), Ok(400), "late, into the first window");
        assert_eq!(amount("f", 1, 59), used_up());
        assert_eq!(amount("g", 600, 90), Ok(600));
    }

    #[test]
    fn limits_are_per_customer_and_currency() {
        let state = &mut MemoryState::default();
        assert_eq!(run(spend("a", 1000, 60), LIMITED, state).unwrap().0, 1000);
        assert_eq!(
            run(spend("b", 1000, 60).amount(1000, "USD"), LIMITED, state).unwrap().0,
            1000
        );
        let mut other = spend("c", 1000, 60).build();
        other.attributes[0].1 = "user_9".into();
        assert!(Cashback::process(&other, LIMITED, state).is_ok());
        assert!(matches!(
            run(spend("d", 1, 60), LIMITED, state),
            Err(Failure::Refuse(_))
        ));
    }

    #[test]
    fn one_operation_counts_once_and_keeps_its_content() {
        let state = &mut MemoryState::default();
        let first = run(spend("a", 600, 60), LIMITED, state).unwrap();
        let cut = run(spend("b", 600, 61), LIMITED, state).unwrap();
        assert_eq!(
            cut,
            (
                400,
                "INR".into(),
                "cashback of 100 % on 6.00 INR, cut to what the customer's limit leaves".into()
            )
        );
        let before = state.clone();
        assert_eq!(
            run(spend("a", 900, 62), LIMITED, state).unwrap(),
            first,
            "another amount, the same operation"
        );
        assert_eq!(
            run(spend("b", 600, 61).id("evt_2"), LIMITED, state).unwrap(),
            cut,
            "though nothing is left"
        );
        assert_eq!(*state, before, "a repetition counts nothing");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let state = &mut MemoryState::default();
        let config = r#"{"fixed_minor_units": 1, "currency": "INR", "limit": {"amount_minor_units": 100000, "window_days": 30}}"#;
        let long = "o".repeat(186);
        for number in 0..1000_i64 {
            run(spend(&format!("{long}{number:04}"), 100, number), config, state).unwrap();
        }
        assert_eq!(state.values.len(), 1);
        let bytes = state.values.values().next().unwrap();
        let customer: Customer = serde_json_from(bytes);
        assert_eq!((customer.days.len(), customer.operations.len()), (61, 61));
        assert!(
            bytes.len() < tollgate_plugin::limits::STATE_VALUE_BYTES_MAX,
            "{}",
            bytes.len()
        );
        for number in 0..100 {
            run(spend(&format!("{long}x{number:03}"), 100, 999), config, state).unwrap();
        }
        let customer: Customer = serde_json_from(state.values.values().next().unwrap());
        assert_eq!(customer.operations.len(), OPERATIONS_MAX);
        assert_eq!(customer.days[&999]["INR"], 101, "forgotten operations still count");
        let late = run(spend("late", 100, 938), config, state);
        assert!(matches!(late, Err(Failure::Hold(message)) if message.contains("two windows late")));
    }

    fn serde_json_from(bytes: &[u8]) -> Customer {
        tollgate_plugin::serde_json::from_slice(bytes).unwrap()
    }
}
