//! Compares runs: a recorded run with its repetition (promise W3), an old version with a new one (W4).
//!
//! What counts is meaning: which operation has which effect. The order of actions and the words of a refusal do not.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::action::{Action, ActionKind};
use crate::grant::{self, Grant};
use crate::ids::{OperationKey, TenantName};
use crate::outcome::{Fault, Outcome};

/// What one run came to, after the route's grants judged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// [`Outcome::name`].
    pub outcome: String,
    /// What the plugin or the host said about the end; empty for a completed run.
    pub message: String,
    /// The granted actions, in the order of the run.
    pub actions: Vec<(OperationKey, Action)>,
    /// The fuel that the run used.
    pub fuel: u64,
}

impl Said {
    /// What a run that ended with `outcome` comes to. `grants` judge what it proposed; without any it need only be well formed,
    /// for a route that is gone or a run whose proposals were granted once.
    pub fn of(outcome: Outcome, grants: Option<&[Grant]>, fuel: u64) -> Self {
        let (name, message) = (outcome.name().to_owned(), outcome.message().to_owned());
        let judged = match outcome {
            Outcome::Completed { proposals } => match grants {
                None => grant::well_formed(proposals),
                Some(grants) => grant::judge(proposals, grants).map(|granted| {
                    let each = granted.iter();
                    each.map(|granted| (granted.operation_key().clone(), granted.action().clone()))
                        .collect()
                }),
            },
            _ => Ok(Vec::new()),
        };
        match judged {
            Ok(actions) => Self {
                outcome: name,
                message,
                actions,
                fuel,
            },
            Err(violation) => Self {
                outcome: Fault::InvalidOutput.as_str().to_owned(),
                message: violation.to_string(),
                actions: Vec::new(),
                fuel,
            },
        }
    }
}

/// What the end of a run says of the state that it read, where another version wrote that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateUse {
    /// It went on: with actions, with none, or refusing the event as not its own.
    Used,
    /// It waits for a person, asks for another try, or failed. Another try of the same input ends in the same way.
    Stuck,
    /// The host's clock or health ended it, which says nothing of the state.
    Unknown,
}

impl StateUse {
    /// What this outcome says of it.
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Completed { .. } | Outcome::Refused { .. } => Self::Used,
            Outcome::Held { .. } | Outcome::RetryAfter { .. } => Self::Stuck,
            Outcome::Fault { fault, .. } if fault.is_deterministic() => Self::Stuck,
            Outcome::Fault { .. } => Self::Unknown,
        }
    }
}

/// One thing that one run did and the other did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "difference", rename_all = "kebab-case")]
pub enum Difference {
    /// The runs ended differently.
    Outcome {
        /// The name of the outcome that the first run had.
        before: String,
        /// The name of the outcome that the second run had.
        after: String,
    },
    /// Only the second run has this operation.
    Added {
        /// The name of the operation.
        operation_key: OperationKey,
        /// What the second run does.
        action: Action,
    },
    /// Only the first run has this operation.
    Removed {
        /// The name of the operation.
        operation_key: OperationKey,
        /// What the first run did.
        action: Action,
    },
    /// The same operation with another effect.
    Changed {
        /// The name of the operation.
        operation_key: OperationKey,
        /// What the first run did.
        before: Action,
        /// What the second run does.
        after: Action,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outcome { before, after } => write!(f, "ended {after}, not {before}"),
            Self::Added { operation_key, action } => write!(f, "+ {action}  ({operation_key})"),
            Self::Removed { operation_key, action } => write!(f, "- {action}  ({operation_key})"),
            Self::Changed {
                operation_key,
                before,
                after,
            } => write!(f, "~ {before} → {after}  ({operation_key})"),
        }
    }
}

/// What `after` did otherwise than `before`. Empty when both mean the same.
pub fn differences(before: &Said, after: &Said) -> Vec<Difference> {
    let mut found = Vec::new();
    if before.outcome != after.outcome {
        found.push(Difference::Outcome {
            before: before.outcome.clone(),
            after: after.outcome.clone(),
        });
    }
    // The ledger knows one effect per operation key and kind.
    let by_operation = |said: &Said| -> BTreeMap<(OperationKey, ActionKind), Action> {
        let each = said.actions.iter();
        each.map(|(key, action)| ((key.clone(), action.kind()), action.clone()))
            .collect()
    };
    let (old, mut new) = (by_operation(before), by_operation(after));
    for ((operation_key, kind), was) in old {
        let operation = (operation_key, kind);
        match new.remove(&operation) {
            Some(is) if is == was => {}
            Some(is) => found.push(Difference::Changed {
                operation_key: operation.0,
                before: was,
                after: is,
            }),
            None => found.push(Difference::Removed {
                operation_key: operation.0,
                action: was,
            }),
        }
    }
    found.extend(
        new.into_iter()
            .map(|((operation_key, _), action)| Difference::Added { operation_key, action }),
    );
    found
}

/// Compares many runs of one version with the same runs of another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tally {
    /// Runs that were compared.
    pub runs: u64,
    /// Of those, how many differ in meaning.
    pub differing: u64,
    /// Of those, how many read state that the recorded run had not read, so that nobody knows what it held then.
    pub beyond_record: u64,
    /// Operations that only the new version has, by kind of action.
    pub actions_added: BTreeMap<ActionKind, u64>,
    /// Operations that only the old version has, by kind of action.
    pub actions_removed: BTreeMap<ActionKind, u64>,
    /// Operations with another effect, by kind of action.
    pub actions_changed: BTreeMap<ActionKind, u64>,
    /// How often one outcome became another, by `before → after`.
    pub outcomes_changed: BTreeMap<String, u64>,
    /// What is moved in all, before and after.
    pub money: Vec<MoneyLine>,
    /// Fuel of the recorded runs.
    pub fuel_before: Percentiles,
    /// Fuel of the repeated runs.
    pub fuel_after: Percentiles,
    /// Of the repeated runs, in microseconds of this machine.
    pub micros_after: Percentiles,
}

impl Tally {
    /// What somebody may be told who may not read receipts. A candidate can be made to use fuel, to take time and to move money by what it
    /// reads in an event, so none of that is told; and how many runs differ is told up to the next power of two.
    pub fn coarse(self) -> Self {
        let up = |count: u64| count.checked_next_power_of_two().unwrap_or(u64::MAX) * u64::from(count > 0);
        let each =
            |counts: BTreeMap<ActionKind, u64>| counts.into_iter().map(|(kind, count)| (kind, up(count))).collect();
        Self {
            runs: self.runs,
            differing: up(self.differing).min(self.runs),
            beyond_record: up(self.beyond_record).min(self.runs),
            actions_added: each(self.actions_added),
            actions_removed: each(self.actions_removed),
            actions_changed: each(self.actions_changed),
            outcomes_changed: self
                .outcomes_changed
                .into_iter()
                .map(|(change, count)| (change, up(count)))
                .collect(),
            money: Vec::new(),
            fuel_before: Percentiles::default(),
            fuel_after: Percentiles::default(),
            micros_after: Percentiles::default(),
        }
    }
}

/// What one tenant's actions of one kind and currency move in all, in minor units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MoneyLine {
    /// Whose actions these are.
    pub tenant: TenantName,
    /// Their kind.
    pub kind: ActionKind,
    /// Their currency.
    pub currency: String,
    /// What the recorded runs move.
    pub before: i64,
    /// What the repeated runs move.
    pub after: i64,
}

/// Percentiles of the values that were seen. All are 0 when there were none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Percentiles {
    /// Half of the values are at most this.
    pub p50: u64,
    /// 95 of 100 values are at most this.
    pub p95: u64,
    /// 99 of 100 values are at most this.
    pub p99: u64,
    /// The largest value.
    pub max: u64,
}

impl Percentiles {
    /// The percentiles of these values, by the nearest rank.
    pub fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let at = |per_cent: usize| {
            let rank = (values.len() * per_cent).div_ceil(100);
            values.get(rank.max(1) - 1).copied().unwrap_or(0)
        };
        Self {
            p50: at(50),
            p95: at(95),
            p99: at(99),
            max: at(100),
        }
    }
}

/// Gathers a [`Tally`]. Holds three numbers for each run.
#[derive(Debug, Default)]
pub struct Tallying {
    tally: Tally,
    money: BTreeMap<(TenantName, ActionKind, String), (i64, i64)>,
    fuel_before: Vec<u64>,
    fuel_after: Vec<u64>,
    micros_after: Vec<u64>,
}

impl Tallying {
    /// Adds one run and its repetition, which took `micros` microseconds. Returns how they differ.
    pub fn add(
        &mut self,
        tenant: &TenantName,
        before: &Said,
        after: &Said,
        beyond_record: bool,
        micros: u64,
    ) -> Vec<Difference> {
        let found = differences(before, after);
        let tally = &mut self.tally;
        tally.runs += 1;
        tally.differing += u64::from(!found.is_empty());
        tally.beyond_record += u64::from(beyond_record);
        for difference in &found {
            match difference {
                Difference::Outcome { before, after } => {
                    *tally.outcomes_changed.entry(format!("{before} → {after}")).or_default() += 1;
                }
                Difference::Added { action, .. } => *tally.actions_added.entry(action.kind()).or_default() += 1,
                Difference::Removed { action, .. } => *tally.actions_removed.entry(action.kind()).or_default() += 1,
                Difference::Changed { after, .. } => *tally.actions_changed.entry(after.kind()).or_default() += 1,
            }
        }
        for (said, is_after) in [(before, false), (after, true)] {
            for (_, action) in &said.actions {
                let Some(amount) = action.amount() else { continue };
                let line = (tenant.clone(), action.kind(), amount.currency().as_str().to_owned());
                let sums = self.money.entry(line).or_default();
                let sum = if is_after { &mut sums.1 } else { &mut sums.0 };
                *sum = sum.saturating_add(amount.minor_units());
            }
        }
        self.fuel_before.push(before.fuel);
        self.fuel_after.push(after.fuel);
        self.micros_after.push(micros);
        found
    }

    /// Closes the tally.
    pub fn finish(self) -> Tally {
        let lines = self.money.into_iter();
        Tally {
            money: lines
                .map(|((tenant, kind, currency), (before, after))| MoneyLine {
                    tenant,
                    kind,
                    currency,
                    before,
                    after,
                })
                .collect(),
            fuel_before: Percentiles::of(self.fuel_before),
            fuel_after: Percentiles::of(self.fuel_after),
            micros_after: Percentiles::of(self.micros_after),
            ..self.tally
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Transfer;
    use crate::money::{Currency, Money};

    fn credit(key: &str, minor_units: i64) -> (OperationKey, Action) {
        let amount = Money::new(minor_units, Currency::new("USD").unwrap()).unwrap();
        let transfer = Transfer {
            account: "cust_1".to_owned(),
            amount,
            reason: "cashback".to_owned(),
        };
        (key.parse().unwrap(), Action::Credit(transfer))
    }

    fn said(outcome: &str, actions: &[(OperationKey, Action)]) -> Said {
        Said {
            outcome: outcome.to_owned(),
            message: String::new(),
            actions: actions.to_vec(),
            fuel: 10 + actions.len() as u64,
        }
    }

    #[test]
    fn w4_a_run_that_a_person_or_a_repair_must_end_is_stuck_on_its_state() {
        let message = || "unknown field `tier`".to_owned();
        let fault = |fault| Outcome::Fault {
            fault,
            message: message(),
        };
        let check = |outcome: &Outcome, expect| assert_eq!(StateUse::of(outcome), expect, "{}", outcome.name());
        check(&Outcome::Completed { proposals: vec![] }, StateUse::Used);
        check(&Outcome::Refused { message: message() }, StateUse::Used);
        check(&Outcome::Held { message: message() }, StateUse::Stuck);
        let later = Outcome::RetryAfter {
            after_ms: None,
            message: message(),
        };
        check(&later, StateUse::Stuck);
        for kind in Fault::ALL {
            let expect = match kind {
                Fault::Deadline | Fault::HostFault => StateUse::Unknown,
                Fault::InvalidOutput | Fault::OutOfFuel | Fault::Memory | Fault::OutputTooBig | Fault::Trap => {
                    StateUse::Stuck
                }
            };
            check(&fault(kind), expect);
        }
    }

    #[test]
    fn w4_the_order_of_actions_and_the_words_of_a_refusal_are_no_difference() {
        let one = said("completed", &[credit("a", 1), credit("b", 2)]);
        let other = said("completed", &[credit("b", 2), credit("a", 1)]);
        assert_eq!(differences(&one, &other), []);
        let reworded = Said {
            message: "not for me".to_owned(),
            ..said("refused", &[])
        };
        assert_eq!(differences(&said("refused", &[]), &reworded), []);
    }

    #[test]
    fn w4_what_was_added_removed_and_changed_is_named() {
        let before = said("completed", &[credit("a", 1), credit("b", 2)]);
        let after = said("completed", &[credit("b", 3), credit("c", 4)]);
        let lines: Vec<_> = differences(&before, &after).iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "- credit 0.01 USD to cust_1  (a)",
                "~ credit 0.02 USD to cust_1 → credit 0.03 USD to cust_1  (b)",
                "+ credit 0.04 USD to cust_1  (c)",
            ]
        );
        let ended = differences(&before, &said("trap", &[]));
        assert_eq!(ended[0].to_string(), "ended trap, not completed");
        assert_eq!(ended.len(), 3);
    }

    #[test]
    fn o2_a_coarse_tally_is_the_same_for_any_amount() {
        let acme: TenantName = "acme".parse().unwrap();
        let tally = |minor_units: i64| {
            let mut tallying = Tallying::default();
            for _ in 0..9 {
                let before = said("completed", &[credit("a", minor_units)]);
                let after = Said {
                    fuel: u64::try_from(minor_units).unwrap(),
                    ..said("completed", &[credit("a", 2 * minor_units)])
                };
                tallying.add(&acme, &before, &after, false, 7 * u64::try_from(minor_units).unwrap());
            }
            tallying.finish()
        };
        assert_ne!(tally(1), tally(999));
        assert_eq!(tally(1).coarse(), tally(999).coarse());
        let coarse = tally(5).coarse();
        assert_eq!((coarse.runs, coarse.differing), (9, 9), "16, but there were no more");
        assert_eq!(coarse.actions_changed[&ActionKind::Credit], 16);
        assert_eq!(Tally::default().coarse(), Tally::default());
    }

    #[test]
    fn w4_a_tally_sums_money_by_tenant_kind_and_currency() {
        let (acme, globex): (TenantName, TenantName) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        let mut tallying = Tallying::default();
        let one = said("completed", &[credit("a", 100)]);
        assert_eq!(tallying.add(&acme, &one, &one, false, 7), []);
        let more = said("completed", &[credit("a", 150), credit("b", 1)]);
        assert_eq!(tallying.add(&globex, &one, &more, true, 9).len(), 2);
        let tally = tallying.finish();
        assert_eq!((tally.runs, tally.differing, tally.beyond_record), (2, 1, 1));
        let lines: Vec<_> = tally
            .money
            .iter()
            .map(|line| (line.tenant.as_str(), line.before, line.after))
            .collect();
        assert_eq!(lines, [("acme", 100, 100), ("globex", 100, 151)]);
        assert_eq!(tally.actions_changed[&ActionKind::Credit], 1);
        assert_eq!(tally.actions_added[&ActionKind::Credit], 1);
        assert_eq!(
            tally.micros_after,
            Percentiles {
                p50: 7,
                p95: 9,
                p99: 9,
                max: 9
            }
        );
        assert_eq!((tally.fuel_before.max, tally.fuel_after.max), (11, 12));
    }

    #[test]
    fn percentiles_are_of_what_was_seen() {
        assert_eq!(Percentiles::of(Vec::new()), Percentiles::default());
        let hundred = Percentiles::of((1..=100).rev().collect());
        assert_eq!((hundred.p50, hundred.p95, hundred.p99, hundred.max), (50, 95, 99, 100));
    }
}
