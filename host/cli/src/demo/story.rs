//! The demo's story: which events are sent, what is expected of each, and which promise it shows.

use serde::Serialize;
use tollgate_core::action::Verdict;
use tollgate_core::admission::Disposition;
use tollgate_store::{ActionView, Counts, Trace};

use super::destination::Effect;
use crate::send::{SAMPLES, Shipped, set};

/// One request of the story.
pub(super) struct Step {
    pub(super) name: &'static str,
    /// For people.
    pub(super) what: &'static str,
    pub(super) tenant: &'static str,
    pub(super) source: &'static str,
    pub(super) sample: &'static Shipped,
    /// Changes before signing: the provider sends another event.
    pub(super) changes: &'static [&'static str],
    /// One byte changed after signing: somebody on the way.
    pub(super) tamper: bool,
    pub(super) expect: (u16, &'static str),
}

impl Step {
    /// The body as its provider signs it.
    pub(super) fn body(&self) -> anyhow::Result<Vec<u8>> {
        self.changes
            .iter()
            .try_fold(self.sample.body.as_bytes().to_vec(), |body, change| set(&body, change))
    }
}

/// One request and its answer.
#[derive(Debug, Serialize)]
pub(super) struct Sent {
    pub(super) step: &'static str,
    pub(super) what: &'static str,
    pub(super) source: String,
    pub(super) http_status: u16,
    pub(super) status: String,
    pub(super) receipt: Option<String>,
    pub(super) expected: (u16, &'static str),
}

impl Sent {
    pub(super) fn as_expected(&self) -> bool {
        (self.http_status, self.status.as_str()) == self.expected
    }
}

/// One promise, and whether it was kept.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) promise: &'static str,
    pub(super) ok: bool,
    pub(super) detail: String,
}

impl Check {
    pub(super) fn new(promise: &'static str, ok: bool, detail: &str) -> Self {
        Self {
            promise,
            ok,
            detail: detail.to_owned(),
        }
    }
}

/// The requests before the crash, and after it.
pub(super) fn steps() -> (Vec<Step>, Vec<Step>) {
    let [pending, completed, rewarded, redeemed] = &SAMPLES;
    let acme = |name, what, sample, expect| Step {
        name,
        what,
        tenant: "acme",
        source: "rewards",
        sample,
        changes: &[],
        tamper: false,
        expect,
    };
    let globex = |name, what, expect| Step {
        tenant: "globex",
        source: "shop",
        ..acme(name, what, redeemed, expect)
    };
    let before = vec![
        acme(
            "pending",
            "Voucherify: a reward's redemption is PENDING",
            pending,
            (202, "accepted"),
        ),
        acme(
            "duplicate",
            "the same event again, as providers do",
            pending,
            (200, "same"),
        ),
        Step {
            tamper: true,
            ..acme(
                "tampered",
                "a copy with one byte changed on the way",
                pending,
                (401, "unauthentic"),
            )
        },
        acme(
            "rewarded",
            "Voucherify: an order earned a reward",
            rewarded,
            (202, "accepted"),
        ),
        acme(
            "completed",
            "Voucherify: the redemption is COMPLETED",
            completed,
            (202, "accepted"),
        ),
        globex(
            "redeemed",
            "another tenant: reward.redeemed, 5.00 INR",
            (202, "accepted"),
        ),
    ];
    let after = vec![
        Step {
            changes: &["/event/id=evred_late_pending", "/id=whs_late_pending"],
            ..acme("late", "a late PENDING, after COMPLETED", pending, (202, "superseded"))
        },
        Step {
            changes: &["/data/reward_redemption/updated_at=2024-05-13T12:35:00.000Z"],
            ..acme(
                "conflict",
                "other bytes under the first event's id",
                pending,
                (202, "conflict"),
            )
        },
        Step {
            changes: &["/event/id=evcus_second_event", "/id=whs_second_event"],
            ..acme(
                "twin",
                "a second event for the same rewarded order",
                rewarded,
                (202, "accepted"),
            )
        },
        Step {
            changes: &["/event_id=evt_unknown_status", "/status=teleported"],
            ..globex("unknown", "a status that nobody mapped", (202, "held"))
        },
        globex(
            "redeemed-again",
            "reward.redeemed once more, after the crash",
            (200, "same"),
        ),
    ];
    (before, after)
}

/// Holds what became of it against what was promised.
pub(super) fn judge(sent: &[Sent], traces: &[Trace], counts: &Counts, effects: &[Effect]) -> Vec<Check> {
    let receipt_of = |step: &str| {
        sent.iter()
            .find(|sent| sent.step == step)
            .and_then(|sent| sent.receipt.clone())
    };
    let trace_of = |step: &str| {
        let receipt = receipt_of(step)?;
        traces.iter().find(|trace| trace.receipt.id.to_string() == receipt)
    };
    let recorded: Vec<&ActionView> = actions(traces)
        .filter(|action| action.verdict == Verdict::Recorded)
        .collect();

    let surprises: Vec<&str> = sent
        .iter()
        .filter(|sent| !sent.as_expected())
        .map(|sent| sent.step)
        .collect();
    let acknowledged: Vec<&Sent> = sent
        .iter()
        .filter(|sent| (200..300).contains(&sent.http_status))
        .collect();
    let lost = acknowledged.iter().filter(|sent| trace_of(sent.step).is_none()).count();
    let again = |step: &str, decision: &str| {
        trace_of(step).is_some_and(|trace| trace.deliveries.iter().any(|delivery| delivery.decision == decision))
    };
    let late = trace_of("late").is_some_and(|trace| {
        trace.jobs.is_empty() && matches!(trace.receipt.disposition, Disposition::Superseded { .. })
    });
    let held = trace_of("unknown")
        .is_some_and(|trace| trace.jobs.is_empty() && matches!(trace.receipt.disposition, Disposition::Held { .. }));
    let twin = trace_of("twin").is_some_and(|trace| {
        let mut credits =
            actions(std::slice::from_ref(trace)).filter(|action| action.operation_key.starts_with("cashback:"));
        credits.any(|action| action.verdict == Verdict::AlreadyDone)
    });
    let mut operations: Vec<(String, &str)> = recorded
        .iter()
        .map(|action| (action.action.kind().to_string(), action.operation_key.as_str()))
        .collect();
    operations.sort_unstable();
    let recorded_count = operations.len();
    operations.dedup();
    let arrived: Vec<(String, &str)> = effects
        .iter()
        .map(|effect| (effect.kind.clone(), effect.operation_key.as_str()))
        .collect();
    let missing = recorded
        .iter()
        .filter(|action| !action.deliveries.is_empty())
        .filter(|action| !arrived.contains(&(action.action.kind().to_string(), action.operation_key.as_str())))
        .count();
    let kinds: Vec<&str> = ["credit", "reserve-stock", "flag", "issue-gift-card"]
        .into_iter()
        .filter(|kind| recorded.iter().any(|action| action.action.kind().as_str() == *kind))
        .collect();
    let retried = effects.iter().filter(|effect| effect.arrivals > 1).count();

    vec![
        Check::new(
            "every request was answered as it should be",
            surprises.is_empty(),
            &surprises.join(", "),
        ),
        Check::new(
            "every acknowledged event is in the store",
            lost == 0,
            &format!("{} acknowledged, {} receipts", acknowledged.len(), counts.receipts),
        ),
        Check::new(
            "the tampered copy left nothing behind",
            receipt_of("tampered").is_none() && counts.receipts == 7,
            "",
        ),
        Check::new(
            "the duplicate is one more delivery of its receipt",
            again("duplicate", "same"),
            "",
        ),
        Check::new(
            "the conflict was kept and flagged, and changed nothing",
            again("conflict", "conflict"),
            "",
        ),
        Check::new(
            "the late PENDING did not undo COMPLETED: recorded as superseded, no jobs",
            late,
            "",
        ),
        Check::new("the unknown status waits for a person", held, ""),
        Check::new("two events that mean one operation gave one effect", twin, ""),
        Check::new("all four plugins acted", kinds.len() == 4, &kinds.join(", ")),
        Check::new(
            "each operation is recorded once",
            recorded_count == operations.len() && recorded_count > 0,
            &format!("{recorded_count} actions"),
        ),
        Check::new(
            "each action with a destination was delivered at least once, and applied once",
            missing == 0 && effects.iter().all(|effect| effect.applied == 1 && effect.same_content),
            &format!("{retried} came again after a 503"),
        ),
        Check::new("nothing was given up", counts.dead_letters_open == 0, ""),
    ]
}

fn actions(traces: &[Trace]) -> impl Iterator<Item = &ActionView> {
    traces
        .iter()
        .flat_map(|trace| &trace.jobs)
        .flat_map(|job| &job.runs)
        .flat_map(|run| &run.actions)
}
