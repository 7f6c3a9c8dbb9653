//! The contract's types, made from `wit/` by wasmtime, and their translation to and from the core's. They stop at this crate.

use tollgate_core::action::{
    Extension, Flag, Notice, Proposal, Stock, UncheckedAction, UncheckedMoney, UncheckedTransfer,
};
use tollgate_core::event::Event;
use tollgate_core::money::Currency;
use tollgate_core::outcome::LogLevel;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "processor",
        imports: { default: trappable },
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub(crate) use bindings::tollgate::plugin::{log, state, types};
pub(crate) use bindings::{Processor, ProcessorPre};

/// The function that a plugin exports.
pub(crate) const PROCESS: &str = "process";

/// The parameters and the result of [`PROCESS`], for the check of a component's own type.
pub(crate) type ProcessParams<'a> = (types::Event<'a>, &'a str);
pub(crate) type ProcessResult = (Result<Vec<types::Proposal>, types::Failure>,);

/// An event in the contract's types, borrowing all of its text; `attributes` and `amount` come from the functions below, of the
/// same event.
///
/// # Errors
/// When the payload is not UTF-8, which no profile lets through.
pub(crate) fn event<'a>(
    event: &'a Event,
    attributes: &'a [(&'a str, &'a str)],
    amount: Option<&'a (i64, Currency)>,
) -> Result<types::Event<'a>, std::str::Utf8Error> {
    Ok(types::Event {
        tenant: event.tenant.as_str(),
        source: event.source.as_str(),
        id: event.id.as_str(),
        event_type: event.event_type.as_str(),
        subject: event.subject.as_ref().map(|subject| subject.as_str()),
        family: event.reading.family().map(|family| family.as_str()),
        status: event.reading.status().map(|status| status.as_str()),
        occurred_at_ms: event.occurred_at.map(|at| at.0),
        received_at_ms: event.received_at.0,
        amount: amount.map(|(minor_units, currency)| types::MoneyParam {
            minor_units: *minor_units,
            currency: currency.as_str(),
        }),
        attributes,
        payload: std::str::from_utf8(&event.payload)?,
    })
}

/// The amount with its currency's text in a place of its own, to be borrowed from.
pub(crate) fn amount(event: &Event) -> Option<(i64, Currency)> {
    event.amount.map(|amount| (amount.minor_units(), amount.currency()))
}

pub(crate) fn attribute_pairs(event: &Event) -> Vec<(&str, &str)> {
    event
        .attributes
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

pub(crate) fn proposal(proposal: types::Proposal) -> Proposal {
    Proposal {
        operation_key: proposal.operation_key,
        action: action(proposal.action),
    }
}

fn action(action: types::Action) -> UncheckedAction {
    match action {
        types::Action::Credit(credit) => UncheckedAction::Credit(UncheckedTransfer {
            account: credit.account,
            amount: money(credit.amount),
            reason: credit.reason,
        }),
        types::Action::Debit(debit) => UncheckedAction::Debit(UncheckedTransfer {
            account: debit.account,
            amount: money(debit.amount),
            reason: debit.reason,
        }),
        types::Action::ReserveStock(held) => UncheckedAction::ReserveStock(stock(held)),
        types::Action::ReleaseStock(released) => UncheckedAction::ReleaseStock(stock(released)),
        types::Action::IssueGiftCard(card) => UncheckedAction::IssueGiftCard {
            recipient: card.recipient,
            amount: money(card.amount),
            template: card.template,
        },
        types::Action::Flag(flag) => UncheckedAction::Flag(Flag {
            subject: flag.subject,
            score: flag.score,
            reasons: flag.reasons,
        }),
        types::Action::Notify(notice) => UncheckedAction::Notify(Notice {
            channel: notice.channel,
            recipient: notice.recipient,
            template: notice.template,
            values: notice.values,
        }),
        types::Action::Extension(extension) => UncheckedAction::Extension(Extension {
            name: extension.kind,
            schema: extension.schema,
            body: extension.body,
        }),
    }
}

fn money(money: types::MoneyResult) -> UncheckedMoney {
    UncheckedMoney {
        minor_units: money.minor_units,
        currency: money.currency,
    }
}

fn stock(stock: types::Stock) -> Stock {
    Stock {
        sku: stock.sku,
        quantity: stock.quantity,
        reference: stock.reference,
    }
}

pub(crate) fn log_level(level: log::Level) -> LogLevel {
    match level {
        log::Level::Debug => LogLevel::Debug,
        log::Level::Info => LogLevel::Info,
        log::Level::Warn => LogLevel::Warn,
        log::Level::Error => LogLevel::Error,
    }
}
