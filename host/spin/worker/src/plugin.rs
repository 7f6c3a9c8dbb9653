//! Runs a plugin by service chaining: sends the event and the state, and reads what the run came to.

use std::cell::RefCell;

use tollgate_core::action::{
    Extension, Flag, Notice, Proposal, Stock, UncheckedAction, UncheckedMoney, UncheckedTransfer,
};
use tollgate_core::event::Event;
use tollgate_core::habits::Habits;
use tollgate_core::ids::{PluginDigest, PluginName};
use tollgate_core::limits;
use tollgate_core::mask;
use tollgate_core::outcome::{Fault, LogLevel, LogLine, Outcome};
use tollgate_core::state::{StateRead, StateWrite};
use tollgate_spin_protocol as protocol;
use tollgate_spin_protocol::{Answer, DIGEST_HEADER, DIGEST_PATH, Ended, Request};
use tollgate_store::{GuestStore, StoreError};

use tollgate_spin_shell::clock::{self, Stopwatch};
use tollgate_spin_shell::web::{self, BodyEnd};
use tollgate_tenants::Route;

/// The most bytes of state that are sent whole with the first request.
const STATE_BYTES_SENT: usize = 1024;
/// The most bytes of state that are sent whole after a run failed while keys were not at hand.
const STATE_BYTES_SENT_MAX: usize = 2 * 1024 * 1024;
/// Rounds of one run at most: each brings at least one key more.
const ROUNDS_MAX: usize = limits::STATE_KEYS_PER_RUN_MAX + 2;
/// An answer: the largest output and the largest state, as JSON and base64.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a chained call may take beside the plugin's own time.
const CHAINING_MS: u64 = 250;

/// What came of a run.
pub(crate) struct Run {
    pub(crate) outcome: Outcome,
    /// Known as soon as the plugin's component answered anything.
    pub(crate) digest: Option<PluginDigest>,
    /// 0 where the plugin's component did not say.
    pub(crate) fuel: u64,
    pub(crate) reads: Vec<StateRead>,
    pub(crate) writes: Vec<StateWrite>,
    pub(crate) logs: Vec<LogLine>,
}

impl Run {
    fn fault(digest: Option<PluginDigest>, fault: Fault, message: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Fault {
                fault,
                message: message.into(),
            },
            digest,
            fuel: 0,
            reads: Vec::new(),
            writes: Vec::new(),
            logs: Vec::new(),
        }
    }
}

/// Where a plugin's component answers. Its name is a component's: `_` is not allowed there.
pub(crate) fn host(plugin: &PluginName) -> String {
    format!("plugin-{}.spin.internal", plugin.as_str().replace('_', "-"))
}

/// Which plugin a route's component is, without a run of it. None when it does not say.
pub(crate) async fn digest(route: &Route) -> Option<PluginDigest> {
    let url = format!("http://{}{DIGEST_PATH}", host(&route.plugin));
    let begun = clock::within(
        route.limits.deadline_ms + CHAINING_MS,
        web::begin(&url, Vec::new(), Vec::new()),
    )
    .await?;
    begun.ok()?.header(DIGEST_HEADER)?.parse().ok()
}

/// Runs a route's plugin on an event, in as many rounds as its state needs.
///
/// # Errors
/// When the store cannot be read.
pub(crate) async fn run(
    store: &GuestStore,
    habits: &RefCell<Habits>,
    route: &Route,
    event: &Event,
) -> Result<Run, StoreError> {
    let url = format!("http://{}/run", host(&route.plugin));
    let keys = habits.borrow().keys(&route.plugin, event);
    let snapshot = store.snapshot_state(&event.tenant, &route.plugin, STATE_BYTES_SENT, keys)?;
    let mut request = Request {
        event: event_of(event),
        config: route.config_json.clone(),
        state: snapshot.values.into_iter().map(value_of).collect(),
        complete: snapshot.complete,
        fuel: route.limits.fuel,
        memory_bytes: route.limits.memory_bytes_max as u64,
        proposals_max: limits::ACTIONS_PER_RUN_MAX,
    };
    for _ in 0..ROUNDS_MAX {
        let (digest, called) = call(&url, &request, route.limits.deadline_ms).await;
        match called {
            Called::Answered(Answer::Ended(ended)) => {
                let run = ended_run(digest, ended);
                habits.borrow_mut().note(&route.plugin, event, &run.reads);
                return Ok(run);
            }
            Called::Answered(Answer::Missing(keys)) => {
                for key in keys {
                    let value = store.read_state(&event.tenant, &route.plugin, &key)?;
                    request.state.push(protocol::Value {
                        key,
                        version: value.version,
                        value: value.value.map(protocol::Bytes),
                    });
                }
            }
            Called::Answered(Answer::Unreadable(reason)) => {
                let message = format!("the plugin's component could not read the request: {reason}");
                return Ok(Run::fault(digest, Fault::HostFault, message));
            }
            // It failed without all of its state at hand, so perhaps because of that.
            Called::Failed(fault @ (Fault::Trap | Fault::Deadline), message) if !request.complete => {
                let snapshot = store.snapshot_state(&event.tenant, &route.plugin, STATE_BYTES_SENT_MAX, Vec::new())?;
                if !snapshot.complete {
                    let message = format!("{message}; its state is too large to be handed over whole");
                    return Ok(Run::fault(digest, fault, message));
                }
                request.state = snapshot.values.into_iter().map(value_of).collect();
                request.complete = true;
            }
            Called::Failed(fault, message) => return Ok(Run::fault(digest, fault, message)),
        }
    }
    Ok(Run::fault(
        None,
        Fault::OutputTooBig,
        format!("more than {} state keys in one run", limits::STATE_KEYS_PER_RUN_MAX),
    ))
}

enum Called {
    Answered(Answer),
    Failed(Fault, String),
}

/// One round. The clock starts here and ends the waiting, not the plugin: Spin gives nobody a way to stop a guest. That it ends
/// is the meter's doing, which it was enclosed with.
async fn call(url: &str, request: &Request, deadline_ms: u64) -> (Option<PluginDigest>, Called) {
    let failed = |fault, message: &str| (None, Called::Failed(fault, message.to_owned()));
    let Ok(body) = serde_json::to_vec(request) else {
        return failed(Fault::HostFault, "the event cannot be handed over");
    };
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    let watch = Stopwatch::start();
    let ms_max = deadline_ms + CHAINING_MS;
    let late = || Called::Failed(Fault::Deadline, format!("no answer within {deadline_ms} ms"));
    let begun = match clock::within(ms_max, web::begin(url, headers, body)).await {
        None => return (None, late()),
        Some(Err(reason)) => {
            let reason = mask::line(&reason, limits::RUN_MESSAGE_BYTES_MAX);
            return failed(
                Fault::HostFault,
                &format!("the plugin's component cannot be called: {reason}"),
            );
        }
        Some(Ok(begun)) => begun,
    };
    // Said before the plugin is started: it is known of one that never answers, too.
    let digest = begun.header(DIGEST_HEADER).and_then(|text| text.parse().ok());
    let left_ms = ms_max.saturating_sub(watch.micros() / 1000);
    let Some(reply) = clock::within(left_ms, begun.read(ANSWER_BYTES_MAX)).await else {
        return (digest, late());
    };
    if reply.status != 200 || digest.is_none() {
        let message = format!(
            "the plugin's component answered {}: it is missing, or could not be started",
            reply.status
        );
        return (digest, Called::Failed(Fault::HostFault, message));
    }
    let called = match reply.end {
        BodyEnd::Cut => Called::Failed(
            Fault::OutputTooBig,
            format!("an answer of more than {ANSWER_BYTES_MAX} bytes"),
        ),
        BodyEnd::Whole | BodyEnd::Broken => match serde_json::from_slice(&reply.body) {
            Ok(answer) => Called::Answered(answer),
            Err(_) => Called::Failed(
                Fault::Trap,
                "it ended without an answer: a trap, more memory or stack than Spin allows it, or calls without end"
                    .to_owned(),
            ),
        },
    };
    (digest, called)
}

fn event_of(event: &Event) -> protocol::Event {
    let text = |text: &dyn ToString| text.to_string();
    protocol::Event {
        tenant: text(&event.tenant),
        source: text(&event.source),
        id: text(&event.id),
        event_type: text(&event.event_type),
        subject: event.subject.as_ref().map(|subject| subject.to_string()),
        family: event.reading.family().map(|family| family.to_string()),
        status: event.reading.status().map(|status| status.to_string()),
        occurred_at_ms: event.occurred_at.map(|at| at.0),
        received_at_ms: event.received_at.0,
        amount: event.amount.map(|amount| protocol::Money {
            minor_units: amount.minor_units(),
            currency: amount.currency().as_str().to_owned(),
        }),
        attributes: event.attributes.clone(),
        // Every admitted body is UTF-8; see `envelope::read`.
        payload: String::from_utf8_lossy(&event.payload).into_owned(),
    }
}

fn value_of(read: StateRead) -> protocol::Value {
    protocol::Value {
        key: read.key,
        version: read.version,
        value: read.value.map(protocol::Bytes),
    }
}

fn ended_run(digest: Option<PluginDigest>, ended: Ended) -> Run {
    let line = |text: String| mask::line(&text, limits::RUN_MESSAGE_BYTES_MAX);
    let outcome = match ended.result {
        protocol::Outcome::Proposals(proposals) => Outcome::Completed {
            proposals: proposals.into_iter().map(proposal_of).collect(),
        },
        protocol::Outcome::Refused(message) => Outcome::Refused { message: line(message) },
        protocol::Outcome::Held(message) => Outcome::Held { message: line(message) },
        protocol::Outcome::Retry { after_ms, message } => Outcome::RetryAfter {
            after_ms,
            message: line(message),
        },
        protocol::Outcome::Stopped { fault, message } => Outcome::Fault {
            fault: Fault::ALL
                .into_iter()
                .find(|known| known.as_str() == fault)
                .unwrap_or(Fault::HostFault),
            message: line(message),
        },
    };
    let level = |level| match level {
        0 => LogLevel::Debug,
        1 => LogLevel::Info,
        2 => LogLevel::Warn,
        _ => LogLevel::Error,
    };
    Run {
        outcome,
        digest,
        fuel: ended.fuel,
        reads: ended
            .reads
            .into_iter()
            .map(|read| StateRead {
                key: read.key,
                version: read.version,
                value: read.value.map(|bytes| bytes.0),
            })
            .collect(),
        writes: ended
            .writes
            .into_iter()
            .map(|write| StateWrite {
                key: write.key,
                value: write.value.map(|bytes| bytes.0),
            })
            .collect(),
        logs: ended
            .logs
            .into_iter()
            .map(|line| LogLine {
                level: level(line.level),
                message: line.message,
            })
            .collect(),
    }
}

fn proposal_of(proposal: protocol::Proposal) -> Proposal {
    let money = |money: protocol::Money| UncheckedMoney {
        minor_units: money.minor_units,
        currency: money.currency,
    };
    let transfer = |transfer: protocol::Transfer| UncheckedTransfer {
        account: transfer.account,
        amount: money(transfer.amount),
        reason: transfer.reason,
    };
    let stock = |stock: protocol::Stock| Stock {
        sku: stock.sku,
        quantity: stock.quantity,
        reference: stock.reference,
    };
    let action = match proposal.action {
        protocol::Action::Credit(credit) => UncheckedAction::Credit(transfer(credit)),
        protocol::Action::Debit(debit) => UncheckedAction::Debit(transfer(debit)),
        protocol::Action::ReserveStock(reserved) => UncheckedAction::ReserveStock(stock(reserved)),
        protocol::Action::ReleaseStock(released) => UncheckedAction::ReleaseStock(stock(released)),
        protocol::Action::IssueGiftCard(card) => UncheckedAction::IssueGiftCard {
            recipient: card.recipient,
            amount: money(card.amount),
            template: card.template,
        },
        protocol::Action::Flag(flag) => UncheckedAction::Flag(Flag {
            subject: flag.subject,
            score: flag.score,
            reasons: flag.reasons,
        }),
        protocol::Action::Notify(notice) => UncheckedAction::Notify(Notice {
            channel: notice.channel,
            recipient: notice.recipient,
            template: notice.template,
            values: notice.values,
        }),
        protocol::Action::Extension(extension) => UncheckedAction::Extension(Extension {
            name: extension.kind,
            schema: extension.schema,
            body: extension.body,
        }),
    };
    Proposal {
        operation_key: proposal.operation_key,
        action,
    }
}
