//! The rule: what an event earns, and what the customer's limit leaves of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_plugin::limits::MINOR_UNITS_MAX;
use tollgate_plugin::{Event, Failure, Money, Proposal, State, log, operation_key, state};

use crate::config::{BPS_MAX, Basis, Config, Earning};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Operations remembered per customer. With the longest operation names they take about a third of what a state value may hold.
const OPERATIONS_MAX: usize = 64;
/// How long operations are remembered when there is no limit with a window.
const KEEP_DAYS_WITHOUT_LIMIT: i64 = 60;
/// How long operations are remembered for what may be given back of them: chargebacks come within 120 days, and a little later.
const RETURNS_DAYS: i64 = 180;
/// Returns remembered per operation, and per customer those that came before what they return.
const BACKS_MAX: usize = 16;
const EARLY_MAX: usize = 32;

/// What is known of one customer.
#[derive(Default, Serialize, Deserialize)]
struct Customer {
    /// Credited minor units by day (since the Unix epoch) and currency.
    days: BTreeMap<i64, BTreeMap<String, i64>>,
    /// The newest operations with what each was granted, oldest first.
    operations: Vec<Granted>,
    /// What was given back before anything was granted for it, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    early: Vec<Early>,
    /// What a newer version keeps beside it.
    #[serde(flatten)]
    unknown: state::Unknown,
}

/// The whole content of a credit, so that a second event for its operation can repeat it to the letter.
#[derive(Serialize, Deserialize)]
struct Granted {
    operation: String,
    day: i64,
    minor_units: i64,
    currency: String,
    reason: String,
    /// The amount that it was granted for, if the event had one. What an older version wrote has none.
    #[serde(default)]
    basis: Option<i64>,
    /// How much of `basis` was given back, and of what was earned taken back.
    #[serde(default)]
    returned: i64,
    #[serde(default)]
    taken: i64,
    /// What was taken back before it was credited: part of `taken`, and no part of `minor_units`.
    #[serde(default)]
    never_credited: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    backs: Vec<Back>,
}

/// One return of an operation, with what it took back.
#[derive(Clone, Serialize, Deserialize)]
struct Back {
    id: String,
    minor_units: i64,
    reason: String,
}

/// A return that came before what it returns.
#[derive(Clone, Serialize, Deserialize)]
struct Early {
    operation: String,
    id: String,
    day: i64,
    /// None: all of it.
    minor_units: Option<i64>,
}

/// How much a status gives back of what its operation was worth.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// As much as the event's amount.
    Part,
    /// All that is left.
    Whole,
    /// All; and it is instead of what earns, never before it.
    Instead,
}

pub(crate) fn process(event: &Event, config: &Config, state: &mut dyn State) -> Result<Vec<Proposal>, Failure> {
    if let Some(extent) = gives_back(event, config)? {
        return take_back(event, config, extent, state);
    }
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
    let whole = customer.within_limit(config, day, earned)?;
    let mut reason = reason(config, &basis, &whole);
    let mut entry = Granted {
        operation: operation.to_owned(),
        day,
        minor_units: whole.minor_units,
        currency: whole.currency.clone(),
        reason: String::new(),
        basis: basis.map(|basis| basis.minor_units),
        returned: 0,
        taken: 0,
        never_credited: 0,
        backs: Vec::new(),
    };
    // What came back before is no longer credited.
    for early in customer.early_of(operation) {
        let minor_units = entry.give_back(early.minor_units);
        entry.never_credited += minor_units;
        entry.minor_units -= minor_units;
        entry.backs.push(Back {
            id: early.id,
            minor_units: 0,
            reason: String::new(),
        });
    }
    if entry.never_credited > 0 {
        reason.push_str(", less what was given back before");
    }
    entry.reason.clone_from(&reason);
    let granted = Money::new(entry.minor_units, whole.currency);
    customer.remember(config, entry);
    state.set_json(&state_key, &customer)?;
    if granted.minor_units == 0 {
        log::info(&format!(
            "all of {operation} was given back before: nothing is credited"
        ));
        return Ok(Vec::new());
    }
    Ok(vec![Proposal::credit(key, account, granted, reason)])
}

/// Whether an event gives back what an operation was worth, and how much of it.
fn gives_back(event: &Event, config: &Config) -> Result<Option<Extent>, Failure> {
    let (Some(family), Some(status)) = (&event.family, &event.status) else {
        return Ok(None);
    };
    if config.earns(family) && config.statuses.contains(status) {
        return Ok(None);
    }
    if let Some(statuses) = config.take_back.families.as_ref() {
        let is_listed = statuses.get(family).is_some_and(|listed| listed.contains(status));
        let extent = if status.starts_with("partially-") || family == "refund" {
            Extent::Part
        } else {
            Extent::Whole
        };
        return Ok(is_listed.then_some(extent));
    }
    Ok(match (family.as_str(), status.as_str()) {
        ("order" | "payment", "partially-refunded") | ("refund", "completed") => Some(Extent::Part),
        ("order" | "payment", "refunded") | ("payment", "lost") => Some(Extent::Whole),
        ("reward-redemption", "rolledback") => Some(Extent::Instead),
        ("refund", "failed") => {
            return Err(Failure::hold(
                "a refund failed: if cashback was taken back for it, a person gives it again",
            ));
        }
        _ => None,
    })
}

/// Debits what an operation was credited, as far as this event gives back what it was worth: once for each return, and never more in all
/// than was credited.
fn take_back(event: &Event, config: &Config, extent: Extent, state: &mut dyn State) -> Result<Vec<Proposal>, Failure> {
    let account = event.required_attribute("customer")?;
    let operation = credited_operation(event, config)?;
    let own = event.operation();
    let id = match extent {
        _ if own != operation => own,
        Extent::Whole | Extent::Instead => "whole",
        Extent::Part => &event.id,
    };
    let key = operation_key("cashback-back", &format!("{operation}/{id}"))?;
    let state_key = state::key("customer", account)?;
    let mut customer: Customer = state.get_json(&state_key)?.unwrap_or_default();
    let returned = match extent {
        Extent::Whole | Extent::Instead => None,
        Extent::Part => Some(
            event
                .amount
                .as_ref()
                .filter(|amount| amount.minor_units > 0)
                .ok_or_else(|| {
                    Failure::hold(
                        "the event does not say how much is given back, so nothing says how much cashback goes with it",
                    )
                })?,
        ),
    };
    let day = event.time_ms().div_euclid(DAY_MS);
    let Some(granted) = customer
        .operations
        .iter_mut()
        .find(|granted| granted.operation == operation)
    else {
        if extent == Extent::Instead {
            return Err(Failure::refuse(format!("nothing was credited for `{operation}`")));
        }
        customer.note_early(Early {
            operation,
            id: id.to_owned(),
            day,
            minor_units: returned.map(|amount| amount.minor_units),
        });
        state.set_json(&state_key, &customer)?;
        return Ok(Vec::new());
    };
    if let Some(back) = granted.backs.iter().find(|back| back.id == id) {
        if back.minor_units == 0 {
            return Ok(Vec::new());
        }
        let amount = Money::new(back.minor_units, granted.currency.clone());
        return Ok(vec![Proposal::debit(key, account, amount, back.reason.clone())]);
    }
    if let Some(amount) = returned {
        if amount.currency != granted.currency {
            return Err(Failure::hold(format!(
                "{amount} is given back, but the cashback of `{operation}` was in {}",
                granted.currency
            )));
        }
        match granted.basis {
            None => {
                return Err(Failure::hold(format!(
                    "nothing says of what amount `{operation}` was credited, so no part of it can be taken back"
                )));
            }
            Some(basis) if own == operation && amount.minor_units >= basis => {
                return Err(Failure::hold(format!(
                    "{amount} is what all of `{operation}` was worth, though only a part of it is said to be given back: the event's amount is not \
                     that of the refund"
                )));
            }
            Some(_) => {}
        }
    }
    let minor_units = granted.give_back(returned.map(|amount| amount.minor_units));
    let of = match returned {
        Some(amount) => format!("{amount} of `{operation}`"),
        None => format!("`{operation}`"),
    };
    let reason = format!("cashback taken back: {of} was given back");
    let amount = Money::new(minor_units, granted.currency.clone());
    granted.backs.push(Back {
        id: id.to_owned(),
        minor_units,
        reason: reason.clone(),
    });
    let surplus = granted.backs.len().saturating_sub(BACKS_MAX);
    granted.backs.drain(..surplus);
    let (of_day, currency) = (granted.day, granted.currency.clone());
    // What was taken back no longer counts for the customer's limit.
    if let Some(total) = customer
        .days
        .get_mut(&of_day)
        .and_then(|totals| totals.get_mut(&currency))
    {
        *total = total.saturating_sub(minor_units);
    }
    state.set_json(&state_key, &customer)?;
    if minor_units == 0 {
        return Ok(Vec::new());
    }
    Ok(vec![Proposal::debit(key, account, amount, reason)])
}

/// The operation that was credited, by the event that gives it back.
fn credited_operation(event: &Event, config: &Config) -> Result<String, Failure> {
    if let Some(lookup) = &config.take_back.of {
        return lookup
            .text(event)?
            .filter(|operation| !operation.is_empty())
            .ok_or_else(|| Failure::hold(format!("the event does not say at {lookup} what is given back")));
    }
    if event.family.as_deref() != Some("refund") {
        return Ok(event.operation().to_owned());
    }
    let named = ["payment", "order"]
        .into_iter()
        .filter_map(|name| event.attribute(name))
        .find(|operation| !operation.is_empty());
    named.map(str::to_owned).ok_or_else(|| {
        Failure::hold(
            "the refund has no attribute `payment` or `order` that says what is given back; say with `take_back.of` where it stands",
        )
    })
}

fn check_is_ours(event: &Event, config: &Config) -> Result<(), Failure> {
    if !event.type_is_one_of(&config.types) {
        return Err(Failure::refuse(format!(
            "type `{}` earns no cashback",
            event.event_type
        )));
    }
    match (&event.family, &event.status) {
        (None, _) if config.types.iter().all(|pattern| pattern == "*") && is_of_money_going_back(&event.event_type) => {
            Err(Failure::refuse(format!(
                "type `{}` tells of money that goes back; name it in `types` if it earns",
                event.event_type
            )))
        }
        (None, _) => Ok(()),
        (Some(family), _) if !config.earns(family) => {
            Err(Failure::refuse(format!("family `{family}` earns no cashback")))
        }
        (Some(_), Some(status)) if config.statuses.contains(status) => Ok(()),
        (Some(_), Some(status)) => Err(Failure::refuse(format!("status `{status}` earns no cashback"))),
        (Some(family), None) => Err(Failure::refuse(format!(
            "an event of family `{family}` without a status earns no cashback"
        ))),
    }
}

fn is_of_money_going_back(event_type: &str) -> bool {
    let words = ["refund", "dispute", "chargeback", "revers", "payout"];
    let event_type = event_type.to_ascii_lowercase();
    words.iter().any(|word| event_type.contains(word))
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

impl Granted {
    /// Notes that `minor_units` of the basis, or all of it, were given back, and answers what is to be taken back for it: the share of what
    /// was earned that has been given back in all, less what was taken before. Never more in all than was earned.
    fn give_back(&mut self, minor_units: Option<i64>) -> i64 {
        let earned = self.minor_units + self.never_credited;
        let in_all = match (minor_units, self.basis) {
            (Some(minor_units), Some(basis)) if basis > 0 => {
                self.returned = self.returned.saturating_add(minor_units).min(basis);
                let parts = i128::from(earned) * i128::from(self.returned);
                let rounded_up = parts % i128::from(basis) * 2 > i128::from(basis);
                i64::try_from(parts / i128::from(basis) + i128::from(rounded_up)).unwrap_or(earned)
            }
            (Some(_) | None, basis) => {
                self.returned = basis.unwrap_or(0);
                earned
            }
        };
        let taken = (in_all - self.taken).clamp(0, earned - self.taken);
        self.taken += taken;
        taken
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

    /// The returns of an operation that came before it. They are no longer early.
    fn early_of(&mut self, operation: &str) -> Vec<Early> {
        let (of, others) = std::mem::take(&mut self.early)
            .into_iter()
            .partition(|early| early.operation == operation);
        self.early = others;
        of
    }

    fn note_early(&mut self, early: Early) {
        let is_known = |known: &Early| known.operation == early.operation && known.id == early.id;
        if !self.early.iter().any(is_known) {
            self.early.push(early);
        }
        let surplus = self.early.len().saturating_sub(EARLY_MAX);
        self.early.drain(..surplus);
    }

    /// Counts a credit, and forgets what is too old or too much.
    fn remember(&mut self, config: &Config, granted: Granted) {
        let day = granted.day;
        let total = self
            .days
            .entry(day)
            .or_default()
            .entry(granted.currency.clone())
            .or_default();
        *total = total.saturating_add(granted.minor_units);
        self.operations.push(granted);
        let newest = self.newest_day().unwrap_or(day);
        let oldest = newest.saturating_sub(keep_days(config));
        self.days.retain(|day, _| *day >= oldest);
        let oldest = newest.saturating_sub(keep_days(config).max(RETURNS_DAYS));
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
    use tollgate_plugin::serde_json::{Value, from_slice, from_str};
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

    /// Rows of `rule.json`: an event, a configuration, and what comes of them.
    #[test]
    fn which_events_earn_and_how_much() {
        let rows: Vec<(String, Value, String)> = from_str(include_str!("rule.json")).unwrap();
        for (event, config, expect) in rows {
            let customer = || EventBuilder::new("customer.rewarded").attribute("customer", "cust_1");
            let event = match event.as_str() {
                "redeemed" => redeemed(),
                "negative" => redeemed().amount(-500, "INR"),
                "pending" => redeemed().status("reward-redemption", "pending"),
                "stateless" => customer().amount(500, "INR"),
                "nobody" => EventBuilder::new("customer.rewarded").amount(500, "INR"),
                "rewarded" => customer().attribute("order_amount", "3000").payload(REWARDED),
                other => panic!("no event `{other}`"),
            };
            let found = match run(event, &config.to_string(), &mut MemoryState::default()) {
                Ok((minor_units, currency, reason)) => format!("{minor_units} {currency}: {reason}"),
                Err(Failure::Refuse(reason)) => format!("refused: {reason}"),
                Err(Failure::Hold(reason)) => format!("held: {reason}"),
                Err(other) => panic!("{other:?}"),
            };
            assert_eq!(found, expect, "{config}");
        }
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
        let customer: Customer = from_slice(bytes).unwrap();
        assert_eq!((customer.days.len(), customer.operations.len()), (61, OPERATIONS_MAX));
        assert!(
            bytes.len() < tollgate_plugin::limits::STATE_VALUE_BYTES_MAX,
            "{}",
            bytes.len()
        );
        for number in 0..100 {
            run(spend(&format!("{long}x{number:03}"), 100, 999), config, state).unwrap();
        }
        let customer: Customer = from_slice(state.values.values().next().unwrap()).unwrap();
        assert_eq!(customer.operations.len(), OPERATIONS_MAX);
        assert_eq!(customer.days[&999]["INR"], 101, "forgotten operations still count");
        let late = run(spend("late", 100, 938), config, state);
        assert!(matches!(late, Err(Failure::Hold(message)) if message.contains("two windows late")));
    }

    const RATE: &str = r#"{"rate_bps": 500, "statuses": ["paid", "completed"]}"#;

    fn order(event: &str, status: &str, minor_units: i64) -> EventBuilder {
        EventBuilder::new("orders/updated")
            .id(event)
            .subject("o_1")
            .status("order", status)
            .amount(minor_units, "USD")
            .attribute("customer", "c_1")
    }

    fn refund(id: &str, minor_units: i64) -> EventBuilder {
        EventBuilder::new("refund.updated")
            .id(&format!("evt_{id}_{minor_units}"))
            .subject(id)
            .status("refund", "completed")
            .amount(minor_units, "USD")
            .attribute("customer", "c_1")
            .attribute("payment", "o_1")
    }

    /// `+` a credit, `-` a debit, with amount and key; empty: nothing.
    fn effect(event: EventBuilder, state: &mut MemoryState) -> Result<String, Failure> {
        let proposals = Cashback::process(&event.build(), RATE, state)?;
        let said = proposals.into_iter().map(|proposal| match proposal.action {
            Action::Credit(credit) => format!("+{} {}", credit.amount.minor_units, proposal.operation_key),
            Action::Debit(debit) => format!("-{} {}", debit.amount.minor_units, proposal.operation_key),
            other => panic!("{other:?}"),
        });
        Ok(said.collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn refunds_take_cashback_back_in_part_once_and_never_more_than_was_credited() {
        let state = &mut MemoryState::default();
        assert_eq!(effect(order("e1", "paid", 10_000), state).unwrap(), "+500 cashback:o_1");
        assert_eq!(
            effect(refund("r_1", 2_500), state).unwrap(),
            "-125 cashback-back:o_1/r_1"
        );
        assert_eq!(
            effect(refund("r_1", 2_500), state).unwrap(),
            "-125 cashback-back:o_1/r_1",
            "the same to the letter"
        );
        assert_eq!(
            effect(order("e2", "partially-refunded", 1_000), state).unwrap(),
            "-50 cashback-back:o_1/e2"
        );
        assert_eq!(
            effect(order("e3", "refunded", 10_000), state).unwrap(),
            "-325 cashback-back:o_1/whole"
        );
        assert_eq!(effect(refund("r_9", 9_000), state).unwrap(), "", "nothing is left");
        assert_eq!(
            effect(order("e4", "paid", 10_000), state).unwrap(),
            "+500 cashback:o_1",
            "as it was"
        );
        let whole = "100.00 USD is what all of `o_1` was worth, though only a part of it is said to be given back: the event's amount is not that of \
                     the refund";
        assert_eq!(
            effect(order("e5", "partially-refunded", 10_000), state),
            Err(Failure::hold(whole))
        );
    }

    #[test]
    fn a_refund_earns_nothing_and_neither_does_what_goes_back_without_a_family() {
        let refused = |event: EventBuilder, reason: &str| {
            assert_eq!(effect(event, &mut MemoryState::default()), Err(Failure::refuse(reason)));
        };
        let payout = order("e1", "completed", 5).status("payout", "completed");
        refused(payout, "family `payout` earns no cashback");
        let charge = EventBuilder::new("charge.refunded")
            .amount(100, "USD")
            .attribute("customer", "c_1");
        refused(
            charge,
            "type `charge.refunded` tells of money that goes back; name it in `types` if it earns",
        );
        refused(
            order("e1", "rolledback", 5).status("reward-redemption", "rolledback"),
            "nothing was credited for `o_1`",
        );
        let nameless = order("e1", "completed", 5).status("refund", "completed");
        assert!(matches!(
            effect(nameless, &mut MemoryState::default()),
            Err(Failure::Hold(_))
        ));
    }

    #[test]
    fn a_refund_before_its_order_leaves_what_is_left_to_be_credited() {
        let state = &mut MemoryState::default();
        assert_eq!(effect(refund("r_1", 2_500), state).unwrap(), "");
        assert_eq!(effect(refund("r_1", 2_500), state).unwrap(), "");
        assert_eq!(effect(order("e1", "paid", 10_000), state).unwrap(), "+375 cashback:o_1");
        assert_eq!(effect(refund("r_1", 2_500), state).unwrap(), "", "counted before");
        assert_eq!(effect(order("e2", "paid", 10_000), state).unwrap(), "+375 cashback:o_1");
        assert_eq!(
            effect(refund("r_2", 7_500), state).unwrap(),
            "-375 cashback-back:o_1/r_2"
        );
        let state = &mut MemoryState::default();
        assert_eq!(effect(order("e1", "refunded", 10_000), state).unwrap(), "");
        assert_eq!(
            effect(order("e2", "paid", 10_000), state).unwrap(),
            "",
            "all of it was given back"
        );
    }

    #[test]
    fn what_is_taken_back_no_longer_counts_for_the_limit() {
        let state = &mut MemoryState::default();
        let rolled_back = spend("a", 1000, 60).status("reward-redemption", "rolledback");
        let completed = |operation, day| spend(operation, 1000, day).status("reward-redemption", "completed");
        assert_eq!(run(completed("a", 60), LIMITED, state).unwrap().0, 1000);
        assert!(matches!(
            run(completed("b", 61), LIMITED, state),
            Err(Failure::Refuse(_))
        ));
        let debit = Cashback::process(&rolled_back.build(), LIMITED, state).unwrap();
        assert!(matches!(&debit[0].action, Action::Debit(debit) if debit.amount.minor_units == 1000));
        assert_eq!(run(completed("b", 61), LIMITED, state).unwrap().0, 1000);
    }

    /// In whatever order credits and returns come, and however often: what is debited is a share of what was credited, and all of it when all was given back.
    #[test]
    fn returns_in_any_order_add_up_to_what_was_credited() {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut draw = |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        for round in 0..500 {
            let paid = 100 + i64::try_from(draw(100_000)).unwrap();
            let mut parts = Vec::new();
            let mut left = paid;
            while left > 0 && parts.len() < 6 {
                let part = 1 + i64::try_from(draw(u64::try_from(left).unwrap())).unwrap();
                parts.push(part);
                left -= part;
            }
            let all = left == 0;
            let mut events: Vec<Option<usize>> = (0..parts.len()).map(Some).chain([None]).collect();
            events.extend_from_within(..);
            for at in (1..events.len()).rev() {
                events.swap(at, usize::try_from(draw(at as u64 + 1)).unwrap());
            }
            let state = &mut MemoryState::default();
            let mut ledger: BTreeMap<String, i64> = BTreeMap::new();
            for event in events {
                let said = match event {
                    Some(part) => effect(refund(&format!("r_{part}"), parts[part]), state).unwrap(),
                    None => effect(order("e", "paid", paid), state).unwrap(),
                };
                if let Some((amount, key)) = said.split_once(' ') {
                    let amount: i64 = amount.parse().unwrap();
                    let before = ledger.insert(key.to_owned(), amount);
                    assert!(
                        before.is_none_or(|before| before == amount),
                        "{key} changed its content"
                    );
                }
            }
            let (net, full) = (ledger.values().sum::<i64>(), share(paid, 500));
            let given_back: i64 = parts.iter().sum();
            let expect = full - share_of(full, given_back, paid);
            assert_eq!(net, expect, "round {round}: {parts:?} of {paid}");
            assert!(!all || net == 0);
        }
    }

    fn share_of(full: i64, part: i64, whole: i64) -> i64 {
        let parts = i128::from(full) * i128::from(part);
        i64::try_from(parts / i128::from(whole) + i128::from(parts % i128::from(whole) * 2 > i128::from(whole)))
            .unwrap()
    }

    #[test]
    fn state_of_an_older_and_of_a_newer_version_is_read_and_what_is_not_known_is_kept() {
        let older = r#"{"days":{"20000":{"USD":500}},"operations":[{"operation":"o_1","day":20000,"minor_units":500,"currency":"USD","reason":"cashback"}]}"#;
        let state = &mut MemoryState::default();
        state.values.insert("customer/c_1".into(), older.into());
        assert_eq!(
            effect(order("e3", "refunded", 10_000), state).unwrap(),
            "-500 cashback-back:o_1/whole"
        );
        let newer = older
            .replacen('{', r#"{"tier":"gold","#, 1)
            .replace(r#""day""#, r#""channel":"app","day""#);
        state.values.insert("customer/c_1".into(), newer.into());
        assert_eq!(
            effect(order("e3", "refunded", 10_000), state).unwrap(),
            "-500 cashback-back:o_1/whole"
        );
        let kept = String::from_utf8(state.values["customer/c_1"].clone()).unwrap();
        assert!(kept.contains(r#""tier":"gold""#), "{kept}");
    }
}
