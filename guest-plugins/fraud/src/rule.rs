//! The rule: count, judge, flag; once per operation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_plugin::{Event, Failure, Money, Proposal, State, operation_key, state};

use crate::config::{Address, Config, Limit, Rule};
use crate::counters::Counters;

/// Operations remembered per customer.
const OPERATIONS_MAX: usize = 64;
/// Flags remembered per customer. With the longest names, reasons and counters a state value is about three quarters full.
const FLAGS_MAX: usize = 12;
const SCORE_MAX: u32 = 100;

/// What is known of one customer.
#[derive(Default, Serialize, Deserialize)]
struct Customer {
    /// By window and measure, for example `60 events` or `1440 INR`. Rules with the same share them.
    counters: BTreeMap<String, Counters>,
    /// The newest operations, oldest first: judged, and not to be counted again.
    operations: Vec<String>,
    /// The newest flags, oldest first.
    flags: Vec<Raised>,
    /// What a newer version keeps beside it.
    #[serde(flatten)]
    unknown: state::Unknown,
}

/// The whole content of a flag, so that a second event for its operation can repeat it to the letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Raised {
    operation: String,
    subject: String,
    score: u32,
    reasons: Vec<String>,
    notify: Option<Address>,
}

pub(crate) fn process(event: &Event, config: &Config, state: &mut dyn State) -> Result<Vec<Proposal>, Failure> {
    check_is_counted(event, config)?;
    let name = event.required_attribute("customer")?;
    let operation = event.operation();
    let keys = Keys {
        flag: operation_key("fraud", operation)?,
        notify: operation_key("fraud:notify", operation)?,
    };
    let state_key = state::key("customer", name)?;
    let mut customer: Customer = state.get_json(&state_key)?.unwrap_or_default();

    if let Some(raised) = customer.flags.iter().find(|raised| raised.operation == operation) {
        return Ok(raised.proposals(&keys, name));
    }
    if customer.operations.iter().any(|judged| judged == operation) {
        return Ok(Vec::new());
    }

    let amount = amount(event, config)?;
    let (score, reasons) = customer.count_and_judge(event, config, amount);
    let raised = (score >= config.flag_at).then(|| Raised {
        operation: operation.to_owned(),
        subject: event.subject.as_deref().unwrap_or(operation).to_owned(),
        score,
        reasons,
        notify: config
            .notify
            .as_ref()
            .filter(|(at, _)| score >= *at)
            .map(|(_, address)| address.clone()),
    });
    let proposals = raised
        .as_ref()
        .map(|raised| raised.proposals(&keys, name))
        .unwrap_or_default();
    customer.remember(operation, raised);
    state.set_json(&state_key, &customer)?;
    Ok(proposals)
}

fn check_is_counted(event: &Event, config: &Config) -> Result<(), Failure> {
    if let Some(types) = &config.types
        && !event.type_is_one_of(types)
    {
        return Err(Failure::refuse(format!("type `{}` is not counted", event.event_type)));
    }
    match (&config.statuses, &event.family, &event.status) {
        (Some(statuses), Some(_), Some(status)) if !statuses.contains(status) => {
            Err(Failure::refuse(format!("status `{status}` is not counted")))
        }
        (Some(_), Some(family), None) => Err(Failure::refuse(format!(
            "an event of family `{family}` without a status is not counted"
        ))),
        _ => Ok(()),
    }
}

/// What the event adds to rules about amounts, in minor units: nothing when it has no amount, one in another currency, or money
/// that goes back.
fn amount(event: &Event, config: &Config) -> Result<i64, Failure> {
    let Some(currency) = &config.currency else { return Ok(0) };
    let minor_units = match (&event.amount, &config.amount) {
        (Some(amount), _) if amount.currency == *currency => amount.minor_units,
        (Some(_), _) | (None, None) => 0,
        (None, Some(lookup)) => lookup.integer(event)?.unwrap_or(0),
    };
    Ok(minor_units.max(0))
}

impl Customer {
    /// Counts the event in every window and gives its score with one reason per rule that fires.
    fn count_and_judge(&mut self, event: &Event, config: &Config, amount: i64) -> (u32, Vec<String>) {
        let currency = config.currency.as_deref().unwrap_or_default();
        // Counters of a rule that is no longer configured would stand still for ever.
        let in_use: Vec<String> = config.rules.iter().map(|rule| rule.counters_name(currency)).collect();
        self.counters.retain(|name, _| in_use.contains(name));

        let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
        for (rule, name) in config.rules.iter().zip(&in_use) {
            if !sums.contains_key(name.as_str()) {
                let value = match rule.limit {
                    Limit::Events(_) => 1,
                    Limit::Amount(_) => amount,
                };
                let counters = self.counters.entry(name.clone()).or_default();
                sums.insert(name, counters.add(event.time_ms(), rule.window_minutes, value));
            }
        }

        let mut score: u32 = 0;
        let mut reasons = Vec::new();
        for (rule, name) in config.rules.iter().zip(&in_use) {
            let sum = sums.get(name.as_str()).copied().unwrap_or(0);
            if let Some(reason) = rule.reason(sum, currency) {
                score = score.saturating_add(rule.points).min(SCORE_MAX);
                reasons.push(reason);
            }
        }
        (score, reasons)
    }

    /// Keeps that the operation was judged, and forgets what is too much.
    fn remember(&mut self, operation: &str, raised: Option<Raised>) {
        self.operations.push(operation.to_owned());
        let surplus = self.operations.len().saturating_sub(OPERATIONS_MAX);
        self.operations.drain(..surplus);
        self.flags.extend(raised);
        let surplus = self.flags.len().saturating_sub(FLAGS_MAX);
        self.flags.drain(..surplus);
    }
}

impl Rule {
    fn counters_name(&self, currency: &str) -> String {
        match self.limit {
            Limit::Events(_) => format!("{} events", self.window_minutes),
            Limit::Amount(_) => format!("{} {currency}", self.window_minutes),
        }
    }

    /// Why the rule fires at this sum, or none.
    fn reason(&self, sum: i64, currency: &str) -> Option<String> {
        let (max, found, allowed) = match self.limit {
            Limit::Events(max) => (max, format!("{sum} operations"), max.to_string()),
            Limit::Amount(max) => (
                max,
                Money::new(sum, currency).to_string(),
                Money::new(max, currency).to_string(),
            ),
        };
        (sum > max).then(|| {
            format!(
                "{}: {found} in {}, more than {allowed}",
                self.name,
                span(self.window_minutes)
            )
        })
    }
}

/// `90 minutes`, `1 hour`, `24 hours`, `7 days`: whole units only.
fn span(minutes: i64) -> String {
    let (count, unit) = match minutes {
        days if days % 1440 == 0 && days > 1440 => (days / 1440, "day"),
        hours if hours % 60 == 0 => (hours / 60, "hour"),
        minutes => (minutes, "minute"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// The operation keys of one operation's two actions: a receiver may tell effects apart by the key alone.
struct Keys {
    flag: String,
    notify: String,
}

impl Raised {
    fn proposals(&self, keys: &Keys, customer: &str) -> Vec<Proposal> {
        let mut proposals = vec![Proposal::flag(
            keys.flag.as_str(),
            self.subject.as_str(),
            self.score,
            self.reasons.clone(),
        )];
        if let Some(Address {
            channel,
            recipient,
            template,
        }) = &self.notify
        {
            let values = vec![
                ("customer".to_owned(), customer.to_owned()),
                ("operation".to_owned(), self.operation.clone()),
                ("score".to_owned(), self.score.to_string()),
                ("reasons".to_owned(), self.reasons.join("; ")),
            ];
            proposals.push(Proposal::notify(
                keys.notify.as_str(),
                channel.as_str(),
                recipient.as_str(),
                template.as_str(),
                values,
            ));
        }
        proposals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fraud;
    use tollgate_plugin::limits::STATE_VALUE_BYTES_MAX;
    use tollgate_plugin::serde_json::{Value, from_slice, from_str, json};
    use tollgate_plugin::testing::{EventBuilder, MemoryState};
    use tollgate_plugin::{Action, Plugin};

    const MINUTE_MS: i64 = 60_000;
    const CONFIG: &str = r#"{
        "currency": "INR",
        "rules": [
            {"name": "burst", "window_minutes": 60, "events_max": 2, "points": 40},
            {"name": "spend", "window_minutes": 1440, "amount_max_minor_units": 1000, "points": 70}
        ],
        "flag_at": 40,
        "notify": {"at": 100, "channel": "ops", "recipient": "desk", "template": "fraud-alert"}
    }"#;
    const BURST: &str = "burst: 3 operations in 1 hour, more than 2";

    fn redeemed(operation: &str, minute: i64, minor_units: i64) -> EventBuilder {
        EventBuilder::new("reward.redeemed")
            .subject("r_1")
            .attribute("customer", "user_678")
            .attribute("operation", operation)
            .amount(minor_units, "INR")
            .occurred_at_ms(minute * MINUTE_MS)
    }

    /// What was flagged, as score and reasons, and whether somebody is told.
    fn run(
        event: EventBuilder,
        config: &str,
        state: &mut MemoryState,
    ) -> Result<Option<(u32, Vec<String>, bool)>, Failure> {
        let proposals = Fraud::process(&event.build(), config, state)?;
        Ok(match proposals.as_slice() {
            [] => None,
            [flag, rest @ ..] => match &flag.action {
                Action::Flag(flag) => Some((flag.score, flag.reasons.clone(), !rest.is_empty())),
                other => panic!("{other:?}"),
            },
        })
    }

    /// Each step is an operation, a minute and an amount, and what must come of it: a flag's score and reasons, and whether somebody is
    /// told.
    #[track_caller]
    fn check(steps: &[(&str, i64, i64, &str)]) {
        let state = &mut MemoryState::default();
        for (operation, minute, minor_units, expect) in steps {
            let found = run(redeemed(operation, *minute, *minor_units), CONFIG, state).unwrap();
            let found = found.map(|(score, reasons, told)| {
                let told = if told { " told" } else { "" };
                format!("{score}{told}: {}", reasons.join("; "))
            });
            let expect = expect
                .replace("BURST", BURST)
                .replace("SPEND", "in 24 hours, more than 10.00 INR");
            assert_eq!(found.unwrap_or_default(), expect, "operation {operation}");
        }
    }

    #[test]
    fn a_burst_is_flagged_until_the_window_has_passed() {
        check(&[
            ("a", 0, 1, ""),
            ("b", 30, 1, ""),
            ("c", 59, 1, "40: BURST"),
            ("d", 61, 1, "40: BURST"),
            ("e", 150, 1, ""),
        ]);
    }

    #[test]
    fn amounts_sum_up_and_points_add() {
        check(&[
            ("a", 0, 600, ""),
            ("b", 100, 401, "70: spend: 10.01 INR SPEND"),
            ("c", 101, 1, "70: spend: 10.02 INR SPEND"),
            ("d", 102, 1, "100 told: BURST; spend: 10.03 INR SPEND"),
            ("e", 2000, -5000, ""),
        ]);
    }

    #[test]
    fn late_events_count_where_they_belong() {
        check(&[
            ("a", 100, 1, ""),
            ("b", 120, 1, ""),
            ("late", 50, 1, ""),
            ("c", 121, 1, "40: BURST"),
            ("later", 105, 1, "40: BURST"),
        ]);
    }

    #[test]
    fn an_operation_is_counted_once_and_keeps_its_answer() {
        let state = &mut MemoryState::default();
        for (operation, minute) in [("a", 0), ("b", 1), ("a", 2), ("b", 3)] {
            assert_eq!(
                run(redeemed(operation, minute, 1), CONFIG, state),
                Ok(None),
                "{operation}"
            );
        }
        let flagged = run(redeemed("c", 4, 1), CONFIG, state);
        assert_eq!(flagged, Ok(Some((40, vec![BURST.to_owned()], false))));
        let before = state.clone();
        assert_eq!(
            run(redeemed("c", 9000, 99_999), CONFIG, state),
            flagged,
            "another event, the same operation"
        );
        assert_eq!(
            run(redeemed("a", 5, 99_999), CONFIG, state),
            Ok(None),
            "judged harmless once"
        );
        assert_eq!(*state, before);
    }

    #[test]
    fn flag_and_notice_say_what_and_why() {
        let config = r#"{"currency": "INR", "rules": [{"name": "any", "window_minutes": 1, "amount_max_minor_units": 300, "points": 100}],
                         "notify": {"at": 100, "channel": "ops", "recipient": "desk", "template": "t"}}"#;
        let proposals = Fraud::process(&redeemed("op_1", 0, 500).build(), config, &mut MemoryState::default()).unwrap();
        let reason = "any: 5.00 INR in 1 minute, more than 3.00 INR";
        let value = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let values = vec![
            value("customer", "user_678"),
            value("operation", "op_1"),
            value("score", "100"),
            value("reasons", reason),
        ];
        let expect = [
            Proposal::flag("fraud:op_1", "r_1", 100, vec![reason.to_owned()]),
            Proposal::notify("fraud:notify:op_1", "ops", "desk", "t", values),
        ];
        assert_eq!(proposals, expect);
    }

    /// Rows of `rule.json`: an event, what the configuration says beside its one rule, and the amount that is flagged, or why none is.
    #[test]
    fn what_is_counted_is_configured() {
        let rule = json!([{ "name": "s", "window_minutes": 2880, "amount_max_minor_units": 1, "points": 50 }]);
        let rows: Vec<(String, Value, String)> = from_str(include_str!("rule.json")).unwrap();
        for (event, mut config, expect) in rows {
            config["rules"] = rule.clone();
            let of = |status| redeemed("a", 0, 500).status("reward-redemption", status);
            let event = match event.as_str() {
                "redeemed" => redeemed("a", 0, 500),
                "dollars" => redeemed("a", 0, 500).amount(500, "USD"),
                "nobody" => EventBuilder::new("a.b"),
                "bare" => EventBuilder::new("customer.rewarded")
                    .attribute("customer", "c")
                    .payload(r#"{"order": {"amount": 700}}"#),
                status => of(status),
            };
            let found = match run(event, &config.to_string(), &mut MemoryState::default()) {
                Ok(None) => String::new(),
                Ok(Some((50, reasons, false))) => reasons.join("; "),
                Err(Failure::Refuse(reason)) => format!("refused: {reason}"),
                Err(Failure::Hold(reason)) => format!("held: {reason}"),
                other => panic!("{other:?}"),
            };
            let flagged = format!("s: {expect} INR in 2 days, more than 0.01 INR");
            let is_amount = expect.starts_with(|letter: char| letter.is_ascii_digit());
            assert_eq!(found, if is_amount { flagged } else { expect }, "{config}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let name = "n".repeat(48);
        let rules: Vec<String> = (1..=8)
            .map(|number| {
                format!(
                    r#"{{"name": "{name}", "window_minutes": {number}, "amount_max_minor_units": 1, "points": 100}}"#
                )
            })
            .collect();
        let config = format!(
            r#"{{"currency": "INR", "rules": [{}], "notify": {{"at": 50, "channel": "{name}", "recipient": "{name}", "template": "{name}"}}}}"#,
            rules.join(",")
        );
        let state = &mut MemoryState::default();
        for number in 0..1000_i64 {
            let mut event = redeemed(&format!("{number:0>187}"), 0, 9_007_199_254_740_991)
                .subject(&"s".repeat(255))
                .build();
            event.occurred_at_ms = Some(number * 1000);
            Fraud::process(&event, &config, state).unwrap();
        }
        assert_eq!(state.values.len(), 1);
        let bytes = state.values.values().next().unwrap();
        let customer: Customer = from_slice(bytes).unwrap();
        assert_eq!(
            (customer.operations.len(), customer.flags.len()),
            (OPERATIONS_MAX, FLAGS_MAX)
        );
        assert!(bytes.len() < STATE_VALUE_BYTES_MAX, "{}", bytes.len());
        // Another configuration's counters take the place of these.
        run(redeemed("other", 0, 1), CONFIG, state).unwrap();
        let customer: Customer = from_slice(state.values.values().next().unwrap()).unwrap();
        assert_eq!(customer.counters.keys().collect::<Vec<_>>(), ["1440 INR", "60 events"]);
    }
}
