//! Stands in front of an enclosed plugin's export: lays the state out for the host calls, calls the plugin, and takes away what it left.

use tollgate_spin_protocol as protocol;
use tollgate_spin_protocol::{Answer, Ended, Outcome, Request};

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit", "../wit"],
        world: "tollgate:runner/caller@1.0.0",
        generate_all,
    });
}

use bindings::exports::tollgate::runner::plugin::Guest;
use bindings::tollgate::plugin::{handler, types};
use bindings::tollgate::runner::{host_calls, meter};

/// Where enclosing writes the plugin's digest; see `host/enclose`.
static DIGEST: [u8; 71] = *b"sha256:----------------tollgate:digest-of-the-enclosed-plugin----------";

struct Caller;

impl Guest for Caller {
    fn digest() -> String {
        // The compiler must not know the text: it is another one by the time this runs.
        String::from_utf8_lossy(std::hint::black_box(&DIGEST)).into_owned()
    }

    fn run(request: Vec<u8>) -> Vec<u8> {
        let answer = match serde_json::from_slice(&request) {
            Ok(request) => run(request),
            Err(error) => Answer::Unreadable(error.to_string()),
        };
        // An answer is strings, numbers and lists: that cannot fail, and an empty answer would be read as a broken one.
        serde_json::to_vec(&answer).unwrap_or_default()
    }
}

fn run(request: Request) -> Answer {
    let values: Vec<_> = request
        .state
        .into_iter()
        .map(|value| {
            (
                value.key,
                value.version,
                value.value.map_or_else(Vec::new, |bytes| bytes.0),
            )
        })
        .collect();
    host_calls::open(&values, request.complete);
    meter::begin(request.fuel, request.memory_bytes);
    let result = handler::process(&event(request.event), &request.config);
    let fuel = meter::fuel_used();
    let remains = host_calls::close();
    // What the host calls stopped was stopped first: nothing that came after it counted.
    let proposals = result.as_ref().map_or(0, Vec::len);
    let stopped = match (remains.stop, meter::ended_by()) {
        (Some(stop), _) => Some((stop.fault, stop.message)),
        // An ended run answers nothing. So this was answered whole, and the fuel was gone only when it was cleared away.
        (None, _) if proposals > request.proposals_max => Some((
            "output-too-big".to_owned(),
            format!(
                "{proposals} proposals in one run; at most {} are allowed",
                request.proposals_max
            ),
        )),
        (None, 0) => None,
        (None, 1) => Some((
            "out-of-fuel".to_owned(),
            format!("the budget of {} fuel is used up", request.fuel),
        )),
        (None, _) => Some((
            "memory".to_owned(),
            format!(
                "more than {} bytes wanted for all memories and tables together",
                request.memory_bytes
            ),
        )),
    };
    // A run that did not see its state may have gone astray because of that.
    if !remains.missing.is_empty() {
        return Answer::Missing(remains.missing);
    }
    if let Some((fault, message)) = stopped {
        return Answer::Ended(Ended {
            result: Outcome::Stopped { fault, message },
            fuel,
            reads: remains.reads.into_iter().map(read).collect(),
            writes: Vec::new(),
            logs: remains.logs.into_iter().map(line).collect(),
        });
    }
    Answer::Ended(Ended {
        result: match result {
            Ok(proposals) => Outcome::Proposals(proposals.into_iter().map(proposal).collect()),
            Err(types::Failure::Refuse(message)) => Outcome::Refused(message),
            Err(types::Failure::Hold(message)) => Outcome::Held(message),
            Err(types::Failure::Retry(later)) => Outcome::Retry {
                after_ms: later.after_ms,
                message: later.message,
            },
        },
        fuel,
        reads: remains.reads.into_iter().map(read).collect(),
        writes: remains
            .writes
            .into_iter()
            .map(|(key, value)| protocol::Write {
                key,
                value: value.map(protocol::Bytes),
            })
            .collect(),
        logs: remains.logs.into_iter().map(line).collect(),
    })
}

fn event(event: protocol::Event) -> types::Event {
    types::Event {
        tenant: event.tenant,
        source: event.source,
        id: event.id,
        event_type: event.event_type,
        subject: event.subject,
        family: event.family,
        status: event.status,
        occurred_at_ms: event.occurred_at_ms,
        received_at_ms: event.received_at_ms,
        amount: event.amount.map(|amount| types::Money {
            minor_units: amount.minor_units,
            currency: amount.currency,
        }),
        attributes: event.attributes,
        payload: event.payload,
    }
}

fn read((key, version, value): (String, i64, Option<Vec<u8>>)) -> protocol::Value {
    protocol::Value {
        key,
        version,
        value: value.map(protocol::Bytes),
    }
}

fn line(line: host_calls::Line) -> protocol::Line {
    protocol::Line {
        level: line.level,
        message: line.message,
    }
}

fn money(money: types::Money) -> protocol::Money {
    protocol::Money {
        minor_units: money.minor_units,
        currency: money.currency,
    }
}

fn proposal(proposal: types::Proposal) -> protocol::Proposal {
    let stock = |stock: types::Stock| protocol::Stock {
        sku: stock.sku,
        quantity: stock.quantity,
        reference: stock.reference,
    };
    let action = match proposal.action {
        types::Action::Credit(credit) => protocol::Action::Credit(protocol::Transfer {
            account: credit.account,
            amount: money(credit.amount),
            reason: credit.reason,
        }),
        types::Action::Debit(debit) => protocol::Action::Debit(protocol::Transfer {
            account: debit.account,
            amount: money(debit.amount),
            reason: debit.reason,
        }),
        types::Action::ReserveStock(reserved) => protocol::Action::ReserveStock(stock(reserved)),
        types::Action::ReleaseStock(released) => protocol::Action::ReleaseStock(stock(released)),
        types::Action::IssueGiftCard(card) => protocol::Action::IssueGiftCard(protocol::GiftCard {
            recipient: card.recipient,
            amount: money(card.amount),
            template: card.template,
        }),
        types::Action::Flag(flag) => protocol::Action::Flag(protocol::Flag {
            subject: flag.subject,
            score: flag.score,
            reasons: flag.reasons,
        }),
        types::Action::Notify(notice) => protocol::Action::Notify(protocol::Notice {
            channel: notice.channel,
            recipient: notice.recipient,
            template: notice.template,
            values: notice.values,
        }),
        types::Action::Extension(extension) => protocol::Action::Extension(protocol::Extension {
            kind: extension.kind,
            schema: extension.schema,
            body: extension.body,
        }),
    };
    protocol::Proposal {
        operation_key: proposal.operation_key,
        action,
    }
}

bindings::export!(Caller with_types_in bindings);
