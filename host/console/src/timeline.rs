//! One event's whole story in the order in which it happened: how it was proved, its receipt, each run with the actions that it recorded,
//! each attempt to deliver them, and what people did. Below it stands how everything is now.

use tollgate_api::set_aside::ReviewView;
use tollgate_api::trace::{ActionView, AttemptView, DeliveryView, JobView, OutboxView, RunView, Trace};
use tollgate_core::access::Permission;
use tollgate_core::action::Verdict;
use tollgate_core::admission::Disposition;
use tollgate_core::delivery::AttemptEnd;
use tollgate_core::mask;
use tollgate_core::review::Reviewed;
use tollgate_core::time::UnixMillis;

use crate::table::{Part, address};
use crate::words::{after, counted, instant, mark, number, span, took};

/// The most bytes of a text that came from outside.
const TEXT_BYTES_MAX: usize = 600;
/// Lines of a run's log that are shown.
const LOG_LINES_MAX: usize = 100;

/// Something that happened.
#[derive(Default)]
pub(crate) struct Step {
    at: Option<UnixMillis>,
    /// When, short and whole.
    pub(crate) time: String,
    pub(crate) whole: String,
    /// How long after the event came in.
    pub(crate) after: String,
    /// What kind of step it is, in a word.
    pub(crate) kind: &'static str,
    pub(crate) mark: &'static str,
    pub(crate) title: String,
    /// Quieter, behind the title.
    pub(crate) beside: String,
    pub(crate) facts: Vec<(&'static str, String)>,
    pub(crate) actions: Vec<Done>,
    /// What somebody said: a plugin's message, a destination's answer.
    pub(crate) said: String,
    pub(crate) log: Vec<String>,
}

/// An action of a run.
pub(crate) struct Done {
    pub(crate) id: String,
    pub(crate) verdict: Part,
    pub(crate) summary: String,
    pub(crate) key: String,
    pub(crate) review: String,
}

/// How something is now, and what may be done with it.
pub(crate) struct Now {
    pub(crate) state: Part,
    pub(crate) what: String,
    pub(crate) id: String,
    pub(crate) says: String,
    pub(crate) act: Option<Part>,
}

/// The steps in their order.
pub(crate) fn steps(trace: &Trace, now: UnixMillis) -> Vec<Step> {
    let receipt = &trace.receipt;
    let began = UnixMillis::from_rfc3339(&receipt.received_at);
    let mut steps = vec![proof(trace), kept(trace)];
    steps.extend(trace.deliveries.iter().map(again));
    for job in &trace.jobs {
        for run in &job.runs {
            steps.push(ran(job, run));
            for action in &run.actions {
                for entry in &action.deliveries {
                    steps.extend(entry.attempts.iter().map(|attempt| tried(action, entry, attempt)));
                }
            }
        }
    }
    if let Some(review) = &trace.review {
        steps.push(decided("The receipt", review));
    }
    for line in &trace.history {
        steps.push(Step {
            kind: "person",
            mark: "none",
            title: mask::line(&line.what, 120),
            said: mask::line(&line.detail, TEXT_BYTES_MAX),
            ..at(&line.at)
        });
    }
    // A stable sort: of one millisecond, what is written first came first.
    steps.sort_by_key(|step| step.at.unwrap_or(UnixMillis(i64::MAX)));
    for step in &mut steps {
        step.time = instant(&step.whole, now);
        if let (Some(at), Some(began)) = (step.at, began) {
            step.after = after(at.since(began));
        }
    }
    steps
}

fn at(text: &str) -> Step {
    Step {
        at: UnixMillis::from_rfc3339(text),
        whole: mask::line(text, 60),
        ..Step::default()
    }
}

fn proof(trace: &Trace) -> Step {
    let (receipt, proof) = (&trace.receipt, &trace.receipt.proof);
    let mut facts = vec![
        ("Scheme", mask::line(&proof.scheme, 80)),
        ("Secret", proof.key_id.to_string()),
        ("Profile", format!("{} v{}", proof.provider, proof.profile_version)),
    ];
    if let Some(signed_at) = proof.signed_at {
        facts.push(("Signed at", signed_at.to_string()));
    }
    facts.push(("Body", format!("{} bytes", number(receipt.body_bytes as u64))));
    Step {
        kind: "proof",
        mark: "good",
        title: format!("Proved by {}", proof.provider),
        beside: format!("at {}/{}", receipt.tenant, receipt.source),
        facts,
        ..at(&receipt.received_at)
    }
}

fn kept(trace: &Trace) -> Step {
    let receipt = &trace.receipt;
    let (word, title, said) = match &receipt.disposition {
        Disposition::Accepted => ("accepted", "Kept and accepted", String::new()),
        Disposition::Superseded { current } => (
            "superseded",
            "Kept, and came late",
            format!("its subject is already {current}"),
        ),
        Disposition::Held { reason } => ("held", "Kept, and held", mask::line(reason, TEXT_BYTES_MAX)),
    };
    let routes = match trace.jobs.len() {
        0 if word == "held" => String::new(),
        0 => "no route took it".to_owned(),
        count => counted(count as u64, "job"),
    };
    Step {
        kind: "receipt",
        mark: mark(word),
        title: title.to_owned(),
        beside: routes,
        facts: vec![
            ("Receipt", receipt.id.to_string()),
            ("Number", number(receipt.seq)),
            ("SHA-256", receipt.body_digest.to_string()),
        ],
        said,
        ..at(&receipt.received_at)
    }
}

fn again(delivery: &DeliveryView) -> Step {
    let mut facts = vec![
        ("Delivery", format!("{}, number {}", delivery.id, delivery.number)),
        ("Secret", mask::line(&delivery.key_id, 80)),
    ];
    if let (2.., Some(last)) = (delivery.times, &delivery.last_at) {
        facts.push(("Came", format!("{} times, the last {last}", number(delivery.times))));
    }
    let (title, beside) = match delivery.decision.as_str() {
        "same" => ("Came again, the same bytes", "nothing happens twice"),
        "conflict" => ("Came again with other bytes", "kept beside it, without effect"),
        _ => (
            "Its signed message came under another name",
            "kept beside it, without effect",
        ),
    };
    Step {
        kind: "again",
        mark: mark(&delivery.decision),
        title: title.to_owned(),
        beside: beside.to_owned(),
        facts,
        said: delivery.review.as_ref().map(decision).unwrap_or_default(),
        ..at(&delivery.received_at)
    }
}

fn ran(job: &JobView, run: &RunView) -> Step {
    let version = run
        .version
        .as_ref()
        .map(|version| format!(" {}", mask::line(version, 40)));
    let actions = run.actions.iter().map(|action| Done {
        id: action.id.to_string(),
        verdict: match action.verdict {
            Verdict::Recorded => Part::state("recorded"),
            Verdict::AlreadyDone => Part::said("already done").marked("none"),
            Verdict::Conflict => Part::state("conflict"),
        },
        summary: mask::line(&action.summary, TEXT_BYTES_MAX),
        key: mask::line(&format!("{}/{}", action.namespace, action.operation_key), 300),
        review: action.review.as_ref().map(decision).unwrap_or_default(),
    });
    Step {
        kind: "run",
        mark: mark(&run.outcome),
        title: format!(
            "{}{} {}",
            run.plugin,
            version.unwrap_or_default(),
            mask::line(&run.outcome, 60)
        ),
        beside: format!("on {}", job.route),
        facts: vec![
            ("Run", format!("{}, try {}", run.id, run.attempt)),
            ("Took", took(run.duration_us)),
            ("Fuel", number(run.fuel)),
            ("Runtime", mask::line(&run.runtime, 80)),
        ],
        actions: actions.collect(),
        said: mask::line(&run.message, TEXT_BYTES_MAX),
        log: log(&run.logs),
        ..at(&run.started_at)
    }
}

/// What a plugin logged, line by line, whatever form a line has.
fn log(logs: &serde_json::Value) -> Vec<String> {
    let lines = logs.as_array().map(Vec::as_slice).unwrap_or_default();
    let shown = lines.iter().take(LOG_LINES_MAX).map(|line| {
        let part = |name: &str| line.get(name).and_then(serde_json::Value::as_str);
        let text = match (line.as_str(), part("level"), part("message")) {
            (Some(text), _, _) => text.to_owned(),
            (None, Some(level), Some(message)) => format!("{level}  {message}"),
            _ => line.to_string(),
        };
        mask::line(&text, TEXT_BYTES_MAX)
    });
    shown.collect()
}

fn tried(action: &ActionView, entry: &OutboxView, attempt: &AttemptView) -> Step {
    let (word, title) = match &attempt.end {
        AttemptEnd::Answered { http_status, .. } => {
            let word = if (200..300).contains(http_status) {
                "delivered"
            } else {
                "failed"
            };
            (word, format!("{} answered {http_status}", entry.destination))
        }
        AttemptEnd::Mailed { smtp_status, .. } => {
            let word = if attempt.end.is_success() {
                "delivered"
            } else {
                "failed"
            };
            (
                word,
                format!("The mail server answered {smtp_status} for {}", entry.destination),
            )
        }
        AttemptEnd::Confirmed => ("delivered", format!("{} was pulled and confirmed", entry.destination)),
        AttemptEnd::GivenBack { reason, .. } => (
            "failed",
            format!(
                "{} was pulled and given back: {}",
                entry.destination,
                mask::line(reason, 200)
            ),
        ),
        AttemptEnd::Failed { reason } => (
            "failed",
            format!("{} did not answer: {}", entry.destination, mask::line(reason, 200)),
        ),
        AttemptEnd::Forbidden { reason } => (
            "failed",
            format!("{} may not be asked: {}", entry.destination, mask::line(reason, 200)),
        ),
    };
    let mut facts = vec![
        ("Attempt", format!("{} of {}", attempt.number, entry.id)),
        ("Took", took(attempt.duration_us)),
        ("Message", mask::line(&entry.message_id, 120)),
    ];
    if let Some(resend) = &attempt.resend {
        facts.push((
            "Sent again",
            format!(
                "by {}: {}",
                mask::line(&resend.actor, 100),
                mask::line(&resend.why, 200)
            ),
        ));
    }
    if let AttemptEnd::Answered {
        retry_after_ms: Some(ms),
        ..
    }
    | AttemptEnd::GivenBack {
        retry_after_ms: Some(ms),
        ..
    } = attempt.end
    {
        facts.push(("Asks for", span(u64::try_from(ms / 1000).unwrap_or(0))));
    }
    Step {
        kind: "attempt",
        mark: mark(word),
        title,
        beside: mask::line(&action.summary, 120),
        facts,
        said: mask::line(&attempt.answer, TEXT_BYTES_MAX),
        ..at(&attempt.started_at)
    }
}

fn decided(what: &str, review: &ReviewView) -> Step {
    Step {
        kind: "person",
        mark: "none",
        title: format!("{what} was reviewed"),
        beside: format!("by {}", mask::line(&review.actor, 100)),
        said: decision(review),
        ..at(&review.at)
    }
}

/// A decision, in words.
fn decision(review: &ReviewView) -> String {
    let why = review.why.as_deref().map(|why| format!(": {}", mask::line(why, 300)));
    format!(
        "{} by {}{}",
        reviewed(&review.reviewed),
        mask::line(&review.actor, 100),
        why.unwrap_or_default()
    )
}

/// What something became by a decision, in words.
pub(crate) fn reviewed(reviewed: &Reviewed) -> String {
    match reviewed {
        Reviewed::Accepted { status } => format!("accepted, mapped to {status}"),
        Reviewed::Superseded { status, current } => {
            format!("superseded, mapped to {status}; the subject is already {current}")
        }
        Reviewed::Dismissed => "dismissed".to_owned(),
        Reviewed::RunAgain => "run again".to_owned(),
        Reviewed::RunBeyondBudget => "run again beyond its budgets".to_owned(),
        Reviewed::Replaced {
            delivery, own_receipt, ..
        } => format!("replaced with {delivery}, which has the receipt {own_receipt}"),
        Reviewed::Admitted { own_receipt, .. } => format!("made an event of its own: {own_receipt}"),
        Reviewed::Kept { action } => format!("left without effect: {action} stands"),
        Reviewed::Recorded { operation_key, .. } => {
            format!("recorded under {}", mask::line(operation_key.as_str(), 200))
        }
    }
}

/// How each part of the event stands, and what can be done about it by somebody who may.
pub(crate) fn standing(trace: &Trace, may: &dyn Fn(Permission) -> bool, now: UnixMillis) -> Vec<Now> {
    let receipt = trace.receipt.id.to_string();
    let act = |name: &str, what: &str, pairs: &[(&str, &str)]| {
        let needs = match what {
            "resend" => Permission::DeliveryResend,
            _ => Permission::ReviewWrite,
        };
        may(needs).then(|| Part::said(name).to(address(&format!("/act/{what}"), pairs)))
    };
    let tenant = trace.receipt.tenant.to_string();
    // What was given up is put back where it is listed, alone or with its like.
    let letters = |name, value: &str| {
        Part::said("Dead letters").to(address("/dead-letters", &[("tenant", &tenant), (name, value)]))
    };
    let mut all = Vec::new();
    if matches!(trace.receipt.disposition, Disposition::Held { .. }) && trace.review.is_none() {
        all.push(Now {
            state: Part::state("held"),
            what: "The receipt".to_owned(),
            id: receipt.clone(),
            says: "waits until somebody decides".to_owned(),
            act: act("Decide", "review", &[("id", &receipt)]),
        });
    }
    if matches!(trace.receipt.disposition, Disposition::Accepted) && trace.jobs.is_empty() {
        let add = || Part::said("Add a route").to(address("/set/route", &[("tenant", &tenant)]));
        all.push(Now {
            state: Part::said("kept").marked("none"),
            what: "No route took it".to_owned(),
            id: String::new(),
            says: "Nothing follows from it. Once a route is there, replay the event: the routes of then take it."
                .to_owned(),
            act: may(Permission::SettingsWrite).then(add),
        });
    }
    for delivery in trace.deliveries.iter().filter(|delivery| delivery.decision != "same") {
        if delivery.review.is_none() {
            let id = delivery.id.to_string();
            all.push(Now {
                state: Part::state(&delivery.decision),
                what: "A delivery of it".to_owned(),
                says: "waits until somebody decides".to_owned(),
                act: act("Decide", "review", &[("id", &id)]),
                id,
            });
        }
    }
    for job in &trace.jobs {
        let id = job.id.to_string();
        let mut says = job
            .reason
            .as_deref()
            .map(|reason| mask::line(reason, TEXT_BYTES_MAX))
            .unwrap_or_default();
        if let Some(due) = &job.due_at {
            says = format!(
                "due {}{}",
                instant(due, now),
                if says.is_empty() { says } else { format!("; {says}") }
            );
        }
        all.push(Now {
            state: Part::state(&job.state),
            what: format!("Route {}", job.route),
            act: match job.state.as_str() {
                "held" => act("Decide", "review", &[("id", &id)]),
                "dead" => Some(letters("route", job.route.as_str())),
                _ => None,
            },
            id,
            says,
        });
        for action in job.runs.iter().flat_map(|run| &run.actions) {
            if action.verdict == Verdict::Conflict && action.review.is_none() {
                let id = action.id.to_string();
                all.push(Now {
                    state: Part::state("conflict"),
                    what: format!("Operation {}", mask::line(&action.operation_key, 120)),
                    says: "the ledger has it with other content".to_owned(),
                    act: act("Decide", "review", &[("id", &id)]),
                    id,
                });
            }
            for entry in &action.deliveries {
                let id = entry.id.to_string();
                all.push(Now {
                    state: Part::state(&entry.state),
                    what: format!("To {}", entry.destination),
                    says: match (&entry.due_at, entry.attempts.len()) {
                        (Some(due), tries) => {
                            format!("{}; due {}", counted(tries as u64, "attempt"), instant(due, now))
                        }
                        (None, tries) => counted(tries as u64, "attempt"),
                    },
                    act: match entry.state.as_str() {
                        "delivered" => act("Send again", "resend", &[("id", &id)]),
                        "dead" => Some(letters("destination", entry.destination.as_str())),
                        _ => None,
                    },
                    id,
                });
            }
        }
    }
    all
}
