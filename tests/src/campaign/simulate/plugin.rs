//! The plugin of the simulation: a pure function of its event and its state, with every end that a run can have.

use tollgate_core::action::{ActionKind, Flag, Notice, Proposal, UncheckedAction, UncheckedMoney, UncheckedTransfer};
use tollgate_core::budget::{Budget, Most, Per, Window};
use tollgate_core::event::Event;
use tollgate_core::grant::Grant;
use tollgate_core::ids::Digest;
use tollgate_core::money::{Currency, Money};
use tollgate_core::outcome::{Fault, Outcome};
use tollgate_core::state::{StateRead, StateValue, StateWrite};
use tollgate_core::time::UnixMillis;
use tollgate_core::worker::Ran;

use crate::random::Random;

/// What an event makes the plugin do, in the attribute `do`.
pub(super) const DEEDS: [&str; 12] = [
    "credit", "credit", "credit", "both", "tally", "tally", "silent", "refuse", "hold", "later", "greedy", "hoard",
];

/// Bytes of state that the plugin may have for a tenant: a few hoards.
pub(super) const STATE_TOTAL_MAX: u64 = 1_500;
const HOARD_BYTES: usize = 400;

/// What each route may credit in an hour: less than what is asked for in some lives.
pub(super) const HOUR_MAX: i64 = 1_500;
/// How often it may credit one account in a day.
pub(super) const OF_ACCOUNT_MAX: u32 = 3;

/// The world says when it began and how long it took.
fn ended(outcome: Outcome) -> Ran {
    Ran {
        outcome,
        digest: Digest::of(b"the plugin"),
        started_at: UnixMillis(0),
        duration_us: 0,
        fuel: 1,
        reads: Vec::new(),
        writes: Vec::new(),
        logs: Vec::new(),
    }
}

fn proposed(proposals: Vec<Proposal>) -> Ran {
    ended(Outcome::Completed { proposals })
}

/// What both routes grant it. The credits of `greedy` are over it.
pub(super) fn grants() -> Vec<Grant> {
    let inr = Currency::new("INR");
    let an_hour = inr.and_then(|inr| Money::new(HOUR_MAX, inr)).map(|most| Budget {
        kind: ActionKind::Credit,
        window: Window::Hour,
        per: Per::Route,
        most: Most::Money(most),
    });
    let a_day = Budget {
        kind: ActionKind::Credit,
        window: Window::Day,
        per: Per::Account,
        most: Most::Actions(OF_ACCOUNT_MAX),
    };
    vec![
        Grant {
            amount_max: Some(5_000),
            currencies: inr.into_iter().collect(),
            budgets: an_hour.into_iter().chain([a_day]).collect(),
            ..Grant::of(ActionKind::Credit)
        },
        Grant::of(ActionKind::Flag),
        Grant::of(ActionKind::Notify),
    ]
}

/// One run.
pub(super) fn run<E>(event: &Event, mut state: impl FnMut(&str) -> Result<StateValue, E>) -> Result<Ran, E> {
    let attribute = |name: &str| {
        let found = event.attributes.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let mut read = |key: &str, reads: &mut Vec<StateRead>| -> Result<Option<Vec<u8>>, E> {
        let StateValue { version, value } = state(key)?;
        reads.push(StateRead {
            key: key.to_owned(),
            version,
            value: value.clone(),
        });
        Ok(value)
    };
    let (operation, account) = (attribute("operation"), attribute("account"));
    let amount = attribute("amount").parse().unwrap_or(0);
    let message = || attribute("do").to_owned();
    Ok(match attribute("do") {
        "credit" => proposed(vec![credit(operation, account, amount)]),
        "both" => proposed(vec![credit(operation, account, amount), notice(operation)]),
        "greedy" => proposed(vec![notice(operation), credit(operation, account, 5_001)]),
        "tally" => {
            let mut reads = Vec::new();
            let before = read("tally", &mut reads)?.unwrap_or_default();
            let count = String::from_utf8_lossy(&before).parse::<u64>().unwrap_or(0) + 1;
            Ran {
                reads,
                writes: vec![StateWrite {
                    key: "tally".to_owned(),
                    value: Some(count.to_string().into_bytes()),
                }],
                ..proposed(vec![tally(event.id.as_str(), count)])
            }
        }
        "hoard" => {
            let mut reads = Vec::new();
            let key = format!("hoard:{}", event.id);
            read(&key, &mut reads)?;
            Ran {
                reads,
                writes: vec![StateWrite {
                    key,
                    value: Some(vec![b'x'; HOARD_BYTES]),
                }],
                ..proposed(Vec::new())
            }
        }
        "refuse" => ended(Outcome::Refused { message: message() }),
        "hold" => ended(Outcome::Held { message: message() }),
        "later" => ended(Outcome::RetryAfter {
            after_ms: Some(2_000),
            message: message(),
        }),
        _ => proposed(Vec::new()),
    })
}

/// What the host may do to any run instead of letting it end.
pub(super) fn disturbed(ran: Ran, random: &mut Random) -> Ran {
    let fault = match random.below(20) {
        0 => Fault::Deadline,
        1 => Fault::HostFault,
        _ => return ran,
    };
    let message = "a busy machine".to_owned();
    ended(Outcome::Fault { fault, message })
}

fn credit(operation: &str, account: &str, minor_units: i64) -> Proposal {
    Proposal {
        operation_key: format!("cashback:{operation}"),
        action: UncheckedAction::Credit(UncheckedTransfer {
            account: account.to_owned(),
            amount: UncheckedMoney {
                minor_units,
                currency: "INR".to_owned(),
            },
            reason: "cashback".to_owned(),
        }),
    }
}

fn notice(operation: &str) -> Proposal {
    Proposal {
        operation_key: format!("cashback:{operation}"),
        action: UncheckedAction::Notify(Notice {
            channel: "mail".to_owned(),
            recipient: operation.to_owned(),
            template: "cashback".to_owned(),
            values: Vec::new(),
        }),
    }
}

/// Its content is what the state was: a run that was lost or doubled would show.
fn tally(event: &str, count: u64) -> Proposal {
    Proposal {
        operation_key: format!("tally:{event}"),
        action: UncheckedAction::Flag(Flag {
            subject: event.to_owned(),
            score: 1,
            reasons: vec![count.to_string()],
        }),
    }
}
