//! Uses everything that contract 1.0.0 has, each as the event's type says. Ends as its fixtures in tests/contract-1.0.0 say; the
//! component there was built from this file when 1.0.0 was released, and stays as it is.

use tollgate_guests::bindings::tollgate::plugin::types::{Debit, Extension, GiftCard, Notice, Stock};
use tollgate_guests::{Action, Credit, Event, Failure, Flag, Guest, Money, Proposal, RetryLater, log, state};

struct Component;

impl Guest for Component {
    fn process(event: Event, config: String) -> Result<Vec<Proposal>, Failure> {
        match event.event_type.as_str() {
            "retry" => Err(Failure::Retry(RetryLater {
                after_ms: Some(1500),
                message: "later".to_owned(),
            })),
            "retry-soon" => Err(Failure::Retry(RetryLater {
                after_ms: None,
                message: "soon".to_owned(),
            })),
            "refuse" => Err(Failure::Refuse("not mine".to_owned())),
            "hold" => Err(Failure::Hold("a person".to_owned())),
            "read" => Ok(vec![proposal("read", extension(&format!("{event:?}|{config}")))]),
            "state" => {
                let before = state::get("a").map(|bytes| bytes.len() as u32);
                state::set("a", b"new");
                state::delete("b");
                log::write(log::Level::Debug, "debug");
                log::write(log::Level::Info, "info");
                log::write(log::Level::Warn, "warn");
                log::write(log::Level::Error, "error");
                let after = state::get("a").map(|bytes| bytes.len() as u32);
                Ok(vec![proposal(
                    "state",
                    extension(&format!("{before:?} {after:?} {:?}", state::get("b"))),
                )])
            }
            _ => Ok(actions()),
        }
    }
}

fn actions() -> Vec<Proposal> {
    let amount = || Money {
        minor_units: 9_007_199_254_740_991,
        currency: "USD".to_owned(),
    };
    let stock = || Stock {
        sku: "sku_1".to_owned(),
        quantity: 7,
        reference: "r_1".to_owned(),
    };
    let text = str::to_owned;
    let all = [
        Action::Credit(Credit {
            account: text("a"),
            amount: amount(),
            reason: text("é"),
        }),
        Action::Debit(Debit {
            account: text("a"),
            amount: amount(),
            reason: text("r"),
        }),
        Action::ReserveStock(stock()),
        Action::ReleaseStock(stock()),
        Action::IssueGiftCard(GiftCard {
            recipient: text("c"),
            amount: amount(),
            template: text("t"),
        }),
        Action::Flag(Flag {
            subject: text("s"),
            score: 100,
            reasons: vec![text("one"), text("two")],
        }),
        Action::Notify(Notice {
            channel: text("email"),
            recipient: text("c"),
            template: text("t"),
            values: vec![(text("k"), text("v"))],
        }),
        extension("all"),
    ];
    all.into_iter()
        .enumerate()
        .map(|(at, action)| proposal(&format!("all-{at}"), action))
        .collect()
}

fn proposal(operation: &str, action: Action) -> Proposal {
    Proposal {
        operation_key: format!("everything:{operation}"),
        action,
    }
}

fn extension(said: &str) -> Action {
    Action::Extension(Extension {
        kind: "tests/said".to_owned(),
        schema: "1".to_owned(),
        body: format!("\"{}\"", said.replace('\\', "\\\\").replace('"', "\\\"")),
    })
}

tollgate_guests::guest!(Component, "everything");
