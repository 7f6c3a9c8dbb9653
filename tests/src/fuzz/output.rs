//! What a plugin answers: any proposals, against any grants. Nothing is granted beyond the route's bounds, and every outcome is an end
//! for its job.

use std::collections::BTreeSet;

use tollgate_core::action::{
    Action, ActionKind, Extension, Flag, Notice, Proposal, Stock, UncheckedAction, UncheckedMoney, UncheckedTransfer,
};
use tollgate_core::grant::Grant;
use tollgate_core::host_calls::{HostCallLimits, HostCalls};
use tollgate_core::limits;
use tollgate_core::money::Currency;
use tollgate_core::outcome::{Fault, JobEnd, LogLevel, Outcome, job_end, judged};
use tollgate_core::retry::{Jitter, RetryPolicy};
use tollgate_core::state::StateValue;
use tollgate_core::time::UnixMillis;

use super::{Input, Target};

pub(super) const TARGET: Target = Target {
    name: "output",
    what: "plugin output: proposals against grants, outcomes to ends of jobs, host calls",
    seeds,
    run,
    short: 20_000,
};

const AMOUNT_MAX: i64 = 5_000;
const QUANTITY_MAX: u32 = 3;
const PREFIX: &str = "sku_";

/// One proposal of each kind, well formed and granted.
fn seeds() -> Vec<Vec<u8>> {
    let proposal = |kind: u8| {
        let mut seed = vec![kind];
        for text in ["order:1:credit", "account", "reason", "USD", "{\"a\":1}"] {
            seed.extend(text.as_bytes());
            seed.push(0xFF);
        }
        seed.extend(500_i64.to_le_bytes());
        seed
    };
    let mut seeds: Vec<_> = (0..8)
        .map(|kind| [&[0, 1], proposal(kind).as_slice()].concat())
        .collect();
    seeds.push([vec![0, 8], (0..8).flat_map(proposal).collect()].concat());
    seeds.extend((1..=5).map(|outcome| [&[outcome], proposal(0).as_slice()].concat()));
    seeds
}

fn run(input: &[u8]) {
    let mut input = Input(input);
    let outcome = match input.byte() % 6 {
        0 => {
            let count = input.byte();
            Outcome::Completed {
                proposals: (0..count).map(|_| proposal(&mut input)).collect(),
            }
        }
        1 => Outcome::Refused { message: input.text() },
        2 => Outcome::Held { message: input.text() },
        3 => Outcome::RetryAfter {
            after_ms: Some(input.number()),
            message: input.text(),
        },
        4 => return host_calls(&mut input),
        _ => Outcome::Fault {
            fault: Fault::ALL[usize::from(input.byte()) % Fault::ALL.len()],
            message: input.text(),
        },
    };
    let grants = grants();
    let proposed = match &outcome {
        Outcome::Completed { proposals } => proposals.len(),
        _ => 0,
    };
    let (outcome, actions) = judged(outcome, &grants);
    let is_completed = matches!(outcome, Outcome::Completed { .. });
    assert_eq!(
        actions.len(),
        if is_completed { proposed } else { 0 },
        "all or none: {outcome:?}"
    );
    let mut operations = BTreeSet::new();
    for granted in &actions {
        let action = granted.action();
        assert!(
            operations.insert((action.kind(), granted.operation_key().clone())),
            "one effect per operation"
        );
        if let Some(amount) = action.amount() {
            assert!(
                (1..=AMOUNT_MAX).contains(&amount.minor_units()) && amount.currency().as_str() == "USD",
                "{amount}"
            );
        }
        match action {
            Action::ReserveStock(stock) | Action::ReleaseStock(stock) => {
                assert!(
                    (1..=QUANTITY_MAX).contains(&stock.quantity) && stock.sku.starts_with(PREFIX),
                    "{stock:?}"
                );
            }
            Action::Flag(flag) => assert!(flag.score <= 100),
            Action::Extension(extension) => assert_eq!(extension.name, "points"),
            _ => {}
        }
        let json = action.to_json();
        assert!(json.len() <= limits::ACTION_BYTES_MAX);
        let read: serde_json::Value = serde_json::from_str(&json).expect("an action is JSON");
        assert!(read.is_object() && !action.to_string().is_empty());
    }
    let now = UnixMillis(1_790_000_000_000);
    for attempt in [0, 1, u32::MAX] {
        match job_end(&outcome, &RetryPolicy::JOBS, attempt, now, Jitter::FULL) {
            JobEnd::RetryAt { at, .. } => {
                assert!(at > now && at.since(now) <= limits::RETRY_AFTER_MS_MAX, "{at}");
            }
            JobEnd::Done => assert!(is_completed || matches!(outcome, Outcome::Refused { .. })),
            JobEnd::Held { .. } | JobEnd::Dead { .. } => {}
        }
    }
}

/// Each kind, as narrowly as it can be granted.
fn grants() -> Vec<Grant> {
    ActionKind::ALL
        .into_iter()
        .map(|kind| Grant {
            amount_max: Some(AMOUNT_MAX),
            currencies: Currency::new("USD").into_iter().collect(),
            quantity_max: Some(QUANTITY_MAX),
            sku_prefix: Some(PREFIX.to_owned()),
            extensions: vec!["points".to_owned()],
            ..Grant::of(kind)
        })
        .collect()
}

fn proposal(input: &mut Input<'_>) -> Proposal {
    let kind = input.byte() % 8;
    let operation_key = input.text();
    let (first, second, third, fourth) = (input.text(), input.text(), input.text(), input.text());
    let minor_units = input.number() as i64;
    let quantity = (minor_units as u32) % 5;
    let amount = UncheckedMoney {
        minor_units,
        currency: third.clone(),
    };
    let transfer = || UncheckedTransfer {
        account: first.clone(),
        amount: amount.clone(),
        reason: second.clone(),
    };
    let stock = || Stock {
        sku: format!("{}{first}", if minor_units % 3 == 0 { "" } else { PREFIX }),
        quantity,
        reference: second.clone(),
    };
    let action = match kind {
        0 => UncheckedAction::Credit(transfer()),
        1 => UncheckedAction::Debit(transfer()),
        2 => UncheckedAction::ReserveStock(stock()),
        3 => UncheckedAction::ReleaseStock(stock()),
        4 => UncheckedAction::IssueGiftCard {
            recipient: first.clone(),
            amount: amount.clone(),
            template: second.clone(),
        },
        5 => UncheckedAction::Flag(Flag {
            subject: first.clone(),
            score: minor_units as u32 % 120,
            reasons: vec![second.clone(); quantity as usize],
        }),
        6 => UncheckedAction::Notify(Notice {
            channel: first.clone(),
            recipient: second.clone(),
            template: third.clone(),
            values: vec![(second.clone(), fourth.clone()); quantity as usize],
        }),
        _ => UncheckedAction::Extension(Extension {
            name: if minor_units % 3 == 0 {
                first.clone()
            } else {
                "points".to_owned()
            },
            schema: second.clone(),
            body: fourth.clone(),
        }),
    };
    Proposal { operation_key, action }
}

/// Host calls in any order, until one stops the run.
fn host_calls(input: &mut Input<'_>) {
    let mut host_calls = HostCalls::new(HostCallLimits::default());
    let stored = |key: &str| -> Result<StateValue, String> {
        match key.len() % 4 {
            0 => Err("the store is closed".to_owned()),
            version => Ok(StateValue {
                version: version as i64,
                value: Some(key.as_bytes().repeat(version)),
            }),
        }
    };
    while !input.0.is_empty() {
        let call = input.byte();
        let text = input.text();
        let stop = match call % 4 {
            0 => host_calls.get(text, &stored).err(),
            1 => host_calls
                .put(text.clone(), Some(text.into_bytes().repeat(usize::from(call))))
                .err(),
            2 => host_calls.put(text, None).err(),
            _ => host_calls.log(LogLevel::Info, &text).err(),
        };
        if let Some(stop) = stop {
            assert!(!stop.message.is_empty());
            break;
        }
    }
    let remains = host_calls.into_remains();
    let most = limits::STATE_KEYS_PER_RUN_MAX;
    assert!(
        remains.reads.len() <= most
            && remains.writes.len() <= most
            && remains.logs.len() <= limits::RUN_LOG_LINES_MAX + 1
    );
    let bytes: usize = remains
        .writes
        .iter()
        .filter_map(|write| write.value.as_ref())
        .map(Vec::len)
        .sum();
    assert!(bytes <= limits::STATE_BYTES_PER_RUN_MAX, "{bytes} bytes of state");
}
