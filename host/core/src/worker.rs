//! The steps of a worker, without its I/O: what a claimed job is settled with, and what follows from the store's answer.
//!
//! A host claims a job and finds its route ([`Terms`]). Where nothing is to be run, [`Rules::unrun`] and its like say what it settles;
//! else it runs the plugin, and [`Rules::judge`] says so. It hands that to the store, and [`Rules::after`] says what is next.
//! Every settlement is made here, for every host.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::action::ForwardForm;
use crate::action::{GrantedAction, Verdict};
use crate::budget::{self, Budget, Over};
use crate::event::Event;
use crate::forward;
use crate::grant::{self, Grant};
use crate::ids::{
    DestinationName, Digest, JobId, LeaseEpoch, Namespace, PluginDigest, PluginName, ReceiptId, RouteName, RunId,
};
use crate::outcome::{Fault, JobEnd, LogLine, Outcome, job_end, job_end_unstopped, judged_with};
use crate::retry::{Moment, RetryPolicy};
use crate::state::{StateRead, StateWrite};
use crate::subject::Sharing;
use crate::time::UnixMillis;

/// A leased job, with all that its run needs.
#[derive(Debug, Clone)]
pub struct JobClaim {
    /// The job that is leased.
    pub job: JobId,
    /// The lease; a settlement takes effect only while it is the newest.
    pub epoch: LeaseEpoch,
    /// The route that the job is on.
    pub route: RouteName,
    /// Which attempt this is, from 1. Counts since the job was made or last replayed.
    pub attempt: u32,
    /// Since when the job could be leased: when it was due, or when the lease before this one ended.
    pub due_at: UnixMillis,
    /// The receipt that the job is for.
    pub receipt: ReceiptId,
    /// What the plugin is given.
    pub event: Arc<Event>,
}

/// What is kept of one run (promises T6, W3): all that it read, and how it ended.
#[derive(Debug, Clone)]
pub struct RunRecord {
    /// The plugin that was run.
    pub plugin: PluginName,
    /// The version that was run.
    pub digest: PluginDigest,
    /// SHA-256 of the route's configuration as the plugin saw it.
    pub config_digest: Digest,
    /// That configuration, as JSON.
    pub config: String,
    /// The runtime that ran it, for example `wasmtime 48.0.8`; of a job that no plugin was run for, the host.
    pub runtime: String,
    /// When the run began.
    pub started_at: UnixMillis,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// The fuel that it used.
    pub fuel: u64,
    /// [`Outcome::name`].
    pub outcome: String,
    /// What the plugin or the host said about the end; empty for a completed run.
    pub message: String,
    /// The state that it read.
    pub reads: Vec<StateRead>,
    /// What the plugin logged.
    pub logs: Vec<LogLine>,
}

impl RunRecord {
    /// How the run failed, if it did.
    pub fn fault(&self) -> Option<Fault> {
        Fault::ALL.into_iter().find(|fault| fault.as_str() == self.outcome)
    }
}

/// All that one run changes.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The job that is settled.
    pub job: JobId,
    /// The lease under which it was run.
    pub epoch: LeaseEpoch,
    /// What is kept of the run.
    pub run: RunRecord,
    /// What becomes of the job.
    pub end: JobEnd,
    /// Committed only with [`JobEnd::Done`], and only if the run proposed nothing or at least one of its actions is recorded:
    /// a run that repeats what was done has no effect on state either.
    pub writes: Vec<StateWrite>,
    /// Bytes of keys and values that the plugin may have for the tenant, all together. None for no bound.
    pub state_total_max: Option<u64>,
    /// Committed only with [`JobEnd::Done`].
    pub actions: Vec<GrantedAction>,
    /// Whose operation keys the actions' are.
    pub namespace: Namespace,
    /// Where each action goes that is recorded, or was before: a destination that an action was not sent to yet is added.
    pub targets: Targets,
    /// What the route's actions may come to. What is recorded is counted in the commit that records it.
    pub budgets: Vec<Budget>,
}

impl Settlement {
    /// Whether the store may refuse it because of the plugin's state or of a budget: then [`Rules::after`] must be given it again.
    pub fn may_be_refused(&self) -> bool {
        !self.run.reads.is_empty() || !self.writes.is_empty() || !self.budgets.is_empty()
    }
}

/// Where actions go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// Empty when the route leaves them in the ledger.
    pub destinations: Vec<DestinationName>,
    /// Names that destinations had before, each with the one that took its place: what was sent to the first is not sent again.
    pub renamed: Vec<(DestinationName, DestinationName)>,
    /// Those of the destinations that ask for order: what belongs to one subject leaves for them one after the other.
    pub ordered: BTreeSet<DestinationName>,
    /// The families that sources of the tenant share: who means the same by a subject.
    pub sharing: Sharing,
}

/// What a settlement became.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Settled {
    /// Committed; one verdict per action, in their order.
    Committed {
        /// The run's number.
        run: RunId,
        /// What the ledger said to each action.
        verdicts: Vec<Verdict>,
    },
    /// Another worker holds a newer lease. Nothing was written.
    LeaseLost,
    /// Some of the state that the run read has changed since. Nothing was written: run again.
    StaleState,
    /// The plugin's state would grow to so many bytes, over its bound. Nothing was written.
    OverQuota {
        /// What the state would come to, keys and values.
        bytes: u64,
    },
    /// What would be recorded is more than a budget has left. Nothing was written.
    OverBudget(Box<Over>),
}

/// What a route prescribes for the jobs on it.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'r> {
    /// The plugin that the route runs.
    pub plugin: &'r PluginName,
    /// Set where it runs no plugin, and hands the event itself on in this form.
    pub forward: Option<ForwardForm>,
    /// The configuration that the plugin is given, as JSON.
    pub config_json: &'r str,
    /// SHA-256 of that configuration.
    pub config_digest: Digest,
    /// What the plugin may propose.
    pub grants: &'r [Grant],
    /// Whose operation keys the actions are recorded under.
    pub namespace: &'r Namespace,
    /// Bytes of state that the plugin may have for the tenant, all together. None for no bound.
    pub state_total_max: Option<u64>,
    /// Where the actions go.
    pub targets: &'r Targets,
}

/// What one run of a plugin came to.
#[derive(Debug, Clone)]
pub struct Ran {
    /// How it ended.
    pub outcome: Outcome,
    /// The version that was run.
    pub digest: PluginDigest,
    /// When it began.
    pub started_at: UnixMillis,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// The fuel that it used.
    pub fuel: u64,
    /// The state that it read.
    pub reads: Vec<StateRead>,
    /// The state that it would write.
    pub writes: Vec<StateWrite>,
    /// What the plugin logged.
    pub logs: Vec<LogLine>,
}

/// The rules by which a host works.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The host's name and version, which the record of a job without a run shows.
    pub host: &'static str,
    /// The runtime's name and version, which the record of a run shows.
    pub runtime: &'static str,
    /// How often and how soon a job is run again.
    pub retry: RetryPolicy,
    /// What happens at a run's deadline.
    pub deadlines: Deadlines,
    /// How often a job is run again under one lease because its state changed under it; then it gives way.
    pub stale_reruns_max: u32,
}

/// What a deadline does on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadlines {
    /// It ends the run. Another try may find the host less busy.
    Stop,
    /// It ends the waiting only. The run may still compute, and another try would take a second thread: it is the job's end.
    StopWaiting,
}

/// A run as it was judged.
#[derive(Debug, Clone)]
pub struct Judged {
    /// What the store is to commit.
    pub settlement: Settlement,
    /// The rule that its proposals broke.
    pub violation: Option<&'static str>,
}

/// What a worker does next.
#[derive(Debug, Clone)]
#[must_use]
pub enum Next {
    /// Nothing: the job is settled.
    Settled {
        /// The run's number.
        run: RunId,
        /// What the ledger said to each action.
        verdicts: Vec<Verdict>,
    },
    /// Nothing: another worker has the job, and this run was not committed.
    Leave,
    /// Run the job again under the same lease; it reads the state as it is now.
    Run,
    /// Settle this instead.
    Settle(Box<Settlement>),
}

/// What a job leaves behind beside its run's record.
#[derive(Default)]
struct Effects {
    writes: Vec<StateWrite>,
    actions: Vec<GrantedAction>,
}

impl Rules {
    /// What a job is settled with whose route is gone.
    pub fn without_route(&self, claim: &JobClaim, moment: Moment) -> Settlement {
        let why = "the route is no longer configured; restore it, or replay after rerouting";
        self.unrunnable(claim, None, why, moment)
    }

    /// What a job is settled with that its route runs no plugin for: because it hands the event itself on, or because too many
    /// attempts never came to their end. None when the plugin is to be run.
    pub fn unrun(&self, claim: &JobClaim, terms: &Terms<'_>, moment: Moment) -> Option<Settlement> {
        if self.retry.is_spent(claim.attempt) {
            let why = "no attempt came to its end: the host died or failed in each of them";
            return Some(self.unrunnable(claim, Some(terms), why, moment));
        }
        let form = terms.forward?;
        let record = self.record(Some(terms), (forward::OUTCOME, ""), moment);
        let effects = Effects {
            actions: vec![forward::action(claim.receipt, form)],
            ..Effects::default()
        };
        Some(settlement(claim, Some(terms), record, JobEnd::Done, effects))
    }

    /// What a job is settled with that cannot be run as the host is configured: a host fault, tried again as such. `terms` is none
    /// when the route is gone.
    pub fn unrunnable(&self, claim: &JobClaim, terms: Option<&Terms<'_>>, why: &str, moment: Moment) -> Settlement {
        let outcome = host_fault(why.to_owned());
        let record = self.record(terms, (outcome.name(), outcome.message()), moment);
        let end = self.end(&outcome, claim, moment);
        settlement(claim, terms, record, end, Effects::default())
    }

    /// What a job is settled with whose plugin must not be run: it is given up, under the outcome's name `outcome` and for the reason
    /// `why`. `digest` is the plugin's version.
    pub fn given_up(
        &self,
        claim: &JobClaim,
        terms: &Terms<'_>,
        digest: PluginDigest,
        (outcome, why): (&str, &str),
        moment: Moment,
    ) -> Settlement {
        let record = RunRecord {
            digest,
            ..self.record(Some(terms), (outcome, why), moment)
        };
        let reason = why.to_owned();
        settlement(claim, Some(terms), record, JobEnd::Dead { reason }, Effects::default())
    }

    /// What a run leaves to be settled. Proposals that the route does not grant are its fault.
    pub fn judge(&self, claim: &JobClaim, terms: &Terms<'_>, ran: Ran, moment: Moment) -> Judged {
        let mut violation = None;
        let (outcome, actions) = judged_with(ran.outcome, terms.grants, |broken| violation = Some(broken.rule()));
        let end = self.end(&outcome, claim, moment);
        let record = RunRecord {
            plugin: terms.plugin.clone(),
            digest: ran.digest,
            config_digest: terms.config_digest,
            config: terms.config_json.to_owned(),
            runtime: self.runtime.to_owned(),
            started_at: ran.started_at,
            duration_us: ran.duration_us,
            fuel: ran.fuel,
            outcome: outcome.name().to_owned(),
            message: outcome.message().to_owned(),
            reads: ran.reads,
            logs: ran.logs,
        };
        let writes = if end == JobEnd::Done { ran.writes } else { Vec::new() };
        Judged {
            settlement: settlement(claim, Some(terms), record, end, Effects { writes, actions }),
            violation,
        }
    }

    /// What follows from the store's answer to a settlement. `reruns` counts how often the job was run again under this lease;
    /// `tried` is the settlement, where it may be refused ([`Settlement::may_be_refused`]).
    pub fn after(
        &self,
        claim: &JobClaim,
        answer: Settled,
        reruns: u32,
        tried: Option<Settlement>,
        moment: Moment,
    ) -> Next {
        match answer {
            Settled::Committed { run, verdicts } => Next::Settled { run, verdicts },
            Settled::LeaseLost => Next::Leave,
            Settled::StaleState => match tried {
                // Another run wins every time, so the job takes the ordinary retry. What this run read has changed.
                Some(mut tried) if reruns >= self.stale_reruns_max => {
                    tried.run.reads.clear();
                    let outcome = host_fault(format!("its state kept changing under it ({reruns} times)"));
                    Next::Settle(Box::new(self.void(claim, tried, &outcome, moment)))
                }
                Some(_) | None => Next::Run,
            },
            Settled::OverQuota { bytes } => match tried {
                Some(tried) => {
                    let most = tried.state_total_max.unwrap_or_default();
                    let outcome = Outcome::Fault {
                        fault: Fault::OutputTooBig,
                        message: format!(
                            "its state for this tenant would come to {bytes} bytes, and the route's `state_total_bytes` is {most}; \
                             remove keys that are no longer needed, or raise the limit"
                        ),
                    };
                    Next::Settle(Box::new(self.void(claim, tried, &outcome, moment)))
                }
                None => Next::Run,
            },
            Settled::OverBudget(over) => match tried {
                Some(tried) => Next::Settle(Box::new(held_by(&over, tried))),
                None => Next::Run,
            },
        }
    }

    /// The same run without any effect, because of `outcome`.
    fn void(&self, claim: &JobClaim, tried: Settlement, outcome: &Outcome, moment: Moment) -> Settlement {
        Settlement {
            end: self.end(outcome, claim, moment),
            run: RunRecord {
                outcome: outcome.name().to_owned(),
                message: outcome.message().to_owned(),
                ..tried.run
            },
            writes: Vec::new(),
            actions: Vec::new(),
            budgets: Vec::new(),
            ..tried
        }
    }

    fn end(&self, outcome: &Outcome, claim: &JobClaim, moment: Moment) -> JobEnd {
        let end = match self.deadlines {
            Deadlines::Stop => job_end,
            Deadlines::StopWaiting => job_end_unstopped,
        };
        end(outcome, &self.retry, claim.attempt, moment.now, moment.jitter)
    }

    /// The record of a job that no plugin was run for; `outcome` and `message` say why. The digest is that of no component: zeros.
    fn record(&self, terms: Option<&Terms<'_>>, (outcome, message): (&str, &str), moment: Moment) -> RunRecord {
        RunRecord {
            plugin: terms.map_or_else(unknown_plugin, |terms| terms.plugin.clone()),
            digest: Digest([0; 32]),
            config_digest: terms.map_or_else(|| Digest::of(b""), |terms| terms.config_digest),
            config: terms.map_or("", |terms| terms.config_json).to_owned(),
            runtime: self.host.to_owned(),
            started_at: moment.now,
            duration_us: 0,
            fuel: 0,
            outcome: outcome.to_owned(),
            message: message.to_owned(),
            reads: Vec::new(),
            logs: Vec::new(),
        }
    }
}

/// The same run without any effect: its job waits for a person, who may let it go beyond its budget.
fn held_by(over: &Over, tried: Settlement) -> Settlement {
    let reason = over.to_string();
    Settlement {
        run: RunRecord {
            outcome: budget::OUTCOME.to_owned(),
            message: reason.clone(),
            ..tried.run
        },
        end: JobEnd::Held { reason },
        writes: Vec::new(),
        actions: Vec::new(),
        budgets: Vec::new(),
        ..tried
    }
}

fn settlement(
    claim: &JobClaim,
    terms: Option<&Terms<'_>>,
    run: RunRecord,
    end: JobEnd,
    effects: Effects,
) -> Settlement {
    Settlement {
        job: claim.job,
        epoch: claim.epoch,
        namespace: terms.map_or_else(|| Namespace::from(&run.plugin), |terms| terms.namespace.clone()),
        run,
        end,
        writes: effects.writes,
        state_total_max: terms.and_then(|terms| terms.state_total_max),
        budgets: budgets(terms, &effects.actions),
        actions: effects.actions,
        targets: terms.map(|terms| terms.targets.clone()).unwrap_or_default(),
    }
}

/// The budgets that bound these actions.
fn budgets(terms: Option<&Terms<'_>>, actions: &[GrantedAction]) -> Vec<Budget> {
    let grants = terms.map(|terms| terms.grants).unwrap_or_default();
    grant::bounding(grants, |kind| {
        actions.iter().any(|granted| granted.action().kind() == kind)
    })
}

fn host_fault(message: String) -> Outcome {
    Outcome::Fault {
        fault: Fault::HostFault,
        message,
    }
}

/// The plugin's name in the record of a job whose route is gone.
fn unknown_plugin() -> PluginName {
    PluginName::new("unknown").expect("a constant name")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Flag, Proposal, UncheckedAction};
    use crate::event::StatusReading;
    use crate::retry::Jitter;

    const NOW: UnixMillis = UnixMillis(1_000_000);
    const MOMENT: Moment = Moment {
        now: NOW,
        jitter: Jitter::NONE,
    };
    const RULES: Rules = Rules {
        host: "tollgate test",
        runtime: "wasmtime test",
        retry: RetryPolicy::JOBS,
        deadlines: Deadlines::Stop,
        stale_reruns_max: 2,
    };

    fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
        text.parse().unwrap()
    }

    fn claim(attempt: u32) -> JobClaim {
        let event = Event {
            tenant: name("acme"),
            source: name("shop"),
            id: name("e1"),
            event_type: name("order.paid"),
            subject: None,
            reading: StatusReading::Stateless,
            occurred_at: None,
            received_at: NOW,
            amount: None,
            attributes: Vec::new(),
            payload: b"{}".as_slice().into(),
        };
        JobClaim {
            job: JobId(7),
            epoch: LeaseEpoch(3),
            route: name("loyalty"),
            attempt,
            due_at: NOW,
            receipt: ReceiptId([1; 16]),
            event: Arc::new(event),
        }
    }

    /// A route that grants flags.
    fn with_terms<T>(forward: Option<ForwardForm>, with: impl FnOnce(&Terms<'_>) -> T) -> T {
        let (plugin, namespace, targets) = (
            name("cashback"),
            name("points"),
            Targets {
                destinations: vec![name("books")],
                renamed: vec![(name("ledger"), name("books"))],
                ..Targets::default()
            },
        );
        with(&Terms {
            plugin: &plugin,
            forward,
            config_json: "{\"rate\":1}",
            config_digest: Digest::of(b"{\"rate\":1}"),
            grants: &[Grant::of(crate::action::ActionKind::Flag)],
            namespace: &namespace,
            state_total_max: Some(100),
            targets: &targets,
        })
    }

    fn ran(outcome: Outcome) -> Ran {
        Ran {
            outcome,
            digest: Digest([9; 32]),
            started_at: UnixMillis(999_000),
            duration_us: 1_000,
            fuel: 5,
            reads: vec![StateRead {
                key: "k".to_owned(),
                version: 1,
                value: None,
            }],
            writes: vec![StateWrite {
                key: "k".to_owned(),
                value: Some(b"v".to_vec()),
            }],
            logs: Vec::new(),
        }
    }

    fn flags() -> Outcome {
        let proposal = Proposal {
            operation_key: "op".to_owned(),
            action: UncheckedAction::Flag(Flag {
                subject: "s".to_owned(),
                score: 1,
                reasons: vec!["r".to_owned()],
            }),
        };
        Outcome::Completed {
            proposals: vec![proposal],
        }
    }

    fn fault(fault: Fault) -> Outcome {
        Outcome::Fault {
            fault,
            message: "m".to_owned(),
        }
    }

    fn outcomes() -> Vec<Outcome> {
        let message = || "m".to_owned();
        let mut all = vec![
            Outcome::Completed { proposals: Vec::new() },
            flags(),
            Outcome::Refused { message: message() },
            Outcome::Held { message: message() },
            Outcome::RetryAfter {
                after_ms: None,
                message: message(),
            },
        ];
        all.extend(Fault::ALL.map(fault));
        all
    }

    #[test]
    fn a_settlement_names_its_job_its_lease_and_its_route_whatever_the_outcome() {
        let claim = claim(1);
        for outcome in outcomes() {
            let judged = with_terms(None, |terms| RULES.judge(&claim, terms, ran(outcome.clone()), MOMENT));
            let Settlement {
                job,
                epoch,
                run,
                namespace,
                targets,
                state_total_max,
                ..
            } = judged.settlement;
            assert_eq!((job, epoch), (JobId(7), LeaseEpoch(3)), "{outcome:?}");
            assert_eq!(
                (namespace.as_str(), state_total_max),
                ("points", Some(100)),
                "{outcome:?}"
            );
            assert_eq!(targets.destinations, [name("books")], "{outcome:?}");
            assert_eq!(
                (run.outcome.as_str(), run.fuel, run.reads.len()),
                (outcome.name(), 5, 1)
            );
            assert_eq!(
                (run.runtime.as_str(), run.config.as_str()),
                ("wasmtime test", "{\"rate\":1}")
            );
        }
    }

    #[test]
    fn only_a_job_that_is_done_has_effects() {
        let claim = claim(1);
        for outcome in outcomes() {
            let judged = with_terms(None, |terms| RULES.judge(&claim, terms, ran(outcome.clone()), MOMENT));
            let has_effects = !judged.settlement.writes.is_empty() || !judged.settlement.actions.is_empty();
            assert_eq!(has_effects, judged.settlement.end == JobEnd::Done, "{outcome:?}");
        }
    }

    #[test]
    fn what_is_not_granted_is_a_fault_and_says_which_rule_was_broken() {
        let claim = claim(1);
        let judged = with_terms(None, |terms| {
            let none = Terms { grants: &[], ..*terms };
            RULES.judge(&claim, &none, ran(flags()), MOMENT)
        });
        assert!(judged.violation.is_some());
        assert_eq!(judged.settlement.run.fault(), Some(Fault::InvalidOutput));
        assert!(matches!(judged.settlement.end, JobEnd::Dead { .. }));
        assert!(judged.settlement.actions.is_empty() && judged.settlement.writes.is_empty());
    }

    #[test]
    fn a_deadline_is_final_only_where_it_stops_no_run() {
        let claim = claim(1);
        let ends = [Deadlines::Stop, Deadlines::StopWaiting].map(|deadlines| {
            let rules = Rules { deadlines, ..RULES };
            with_terms(None, |terms| {
                rules.judge(&claim, terms, ran(fault(Fault::Deadline)), MOMENT)
            })
            .settlement
            .end
        });
        assert!(matches!(ends[0], JobEnd::RetryAt { .. }), "{ends:?}");
        assert!(matches!(ends[1], JobEnd::Dead { .. }), "{ends:?}");
    }

    #[test]
    fn a_route_that_forwards_is_settled_without_a_run() {
        let form = ForwardForm::Body;
        let settlement = with_terms(Some(form), |terms| RULES.unrun(&claim(1), terms, MOMENT)).unwrap();
        assert_eq!(settlement.end, JobEnd::Done);
        assert_eq!(settlement.actions, [forward::action(ReceiptId([1; 16]), form)]);
        assert_eq!(
            (settlement.run.outcome.as_str(), settlement.run.runtime.as_str()),
            (forward::OUTCOME, "tollgate test")
        );
        assert_eq!(settlement.targets.destinations, [name("books")]);
        assert!(!settlement.may_be_refused());
    }

    #[test]
    fn what_never_came_to_its_end_is_given_up_unrun_also_where_it_would_be_forwarded() {
        let spent = RetryPolicy::JOBS.attempts_max + 1;
        for forward in [None, Some(ForwardForm::Body)] {
            let settlement = with_terms(forward, |terms| RULES.unrun(&claim(spent), terms, MOMENT)).unwrap();
            assert!(
                matches!(&settlement.end, JobEnd::Dead { reason } if reason.contains("no attempt came to its end"))
            );
            assert!(settlement.actions.is_empty());
        }
        let last = with_terms(None, |terms| RULES.unrun(&claim(spent - 1), terms, MOMENT));
        assert!(last.is_none(), "its last attempt is run");
    }

    #[test]
    fn what_cannot_be_run_is_tried_again_until_its_attempts_are_spent() {
        for attempt in 1..=RetryPolicy::JOBS.attempts_max {
            let settlement = RULES.without_route(&claim(attempt), MOMENT);
            let is_last = attempt == RetryPolicy::JOBS.attempts_max;
            assert_eq!(matches!(settlement.end, JobEnd::Dead { .. }), is_last, "{attempt}");
            assert_eq!(settlement.run.fault(), Some(Fault::HostFault));
            assert_eq!(settlement.run.plugin.as_str(), "unknown");
        }
    }

    #[test]
    fn who_is_given_up_unrun_says_the_outcome_the_version_and_why() {
        let digest = Digest([4; 32]);
        let settlement = with_terms(None, |terms| {
            RULES.given_up(&claim(1), terms, digest, ("quarantined", "it failed"), MOMENT)
        });
        assert_eq!(
            settlement.end,
            JobEnd::Dead {
                reason: "it failed".to_owned()
            }
        );
        assert_eq!(
            (settlement.run.outcome.as_str(), settlement.run.digest),
            ("quarantined", digest)
        );
        assert_eq!(settlement.run.fault(), None);
    }

    #[test]
    fn stale_state_is_run_again_so_often_and_then_gives_way_without_what_it_read() {
        let claim = claim(1);
        let judged = with_terms(None, |terms| RULES.judge(&claim, terms, ran(flags()), MOMENT));
        for reruns in 0..5 {
            let tried = Some(judged.settlement.clone());
            match RULES.after(&claim, Settled::StaleState, reruns, tried, MOMENT) {
                Next::Run => assert!(reruns < 2, "{reruns}"),
                Next::Settle(void) => {
                    assert!(reruns >= 2, "{reruns}");
                    assert!(!void.may_be_refused() && void.actions.is_empty());
                    assert!(matches!(void.end, JobEnd::RetryAt { .. }));
                    assert_eq!((void.run.fault(), void.run.fuel), (Some(Fault::HostFault), 5));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn too_much_state_is_settled_as_a_fault_of_the_plugin_that_names_the_bound() {
        let claim = claim(1);
        let judged = with_terms(None, |terms| RULES.judge(&claim, terms, ran(flags()), MOMENT));
        let answer = Settled::OverQuota { bytes: 120 };
        let Next::Settle(void) = RULES.after(&claim, answer, 0, Some(judged.settlement), MOMENT) else {
            panic!("it is settled");
        };
        assert!(void.writes.is_empty() && void.actions.is_empty());
        assert_eq!(void.run.fault(), Some(Fault::OutputTooBig));
        assert!(void.run.message.contains("120 bytes") && void.run.message.contains("`state_total_bytes` is 100"));
        assert_eq!(void.run.reads.len(), 1, "what it read is kept");
    }

    #[test]
    fn w6_a_run_beyond_a_budget_has_no_effect_and_its_job_waits_for_a_person() {
        let claim = claim(1);
        let budget = Budget {
            kind: crate::action::ActionKind::Flag,
            window: budget::Window::Day,
            per: budget::Per::Route,
            most: budget::Most::Actions(3),
        };
        let judged = |outcome| {
            with_terms(None, |terms| {
                let grants = [Grant {
                    budgets: vec![budget],
                    ..terms.grants[0].clone()
                }];
                let terms = Terms {
                    grants: &grants,
                    ..*terms
                };
                RULES.judge(&claim, &terms, ran(outcome), MOMENT).settlement
            })
        };
        assert!(
            judged(Outcome::Completed { proposals: Vec::new() }).budgets.is_empty(),
            "what has no action of the kind asks for nothing"
        );
        let mut tried = judged(flags());
        assert_eq!(tried.budgets, [budget]);
        tried.run.reads.clear();
        tried.writes.clear();
        assert!(tried.may_be_refused());
        let actions = tried.actions.iter().map(GrantedAction::action);
        let over = budget::spendings(&tried.budgets, actions)[0]
            .over(3, MOMENT.now)
            .unwrap();
        let answer = Settled::OverBudget(Box::new(over));
        let Next::Settle(held) = RULES.after(&claim, answer, 0, Some(tried), MOMENT) else {
            panic!("it is settled");
        };
        assert!(held.writes.is_empty() && held.actions.is_empty() && !held.may_be_refused());
        assert!(
            matches!(&held.end, JobEnd::Held { reason } if reason.starts_with("over the budget of 3 actions a day for `flag`"))
        );
        assert_eq!((held.run.outcome.as_str(), held.run.fault()), (budget::OUTCOME, None));
    }

    #[test]
    fn a_lost_lease_is_left_and_a_commit_is_the_end() {
        let claim = claim(1);
        let lost = RULES.after(&claim, Settled::LeaseLost, 0, None, MOMENT);
        assert!(matches!(lost, Next::Leave));
        let (run, verdicts) = (RunId(4), vec![Verdict::Recorded]);
        let committed = RULES.after(&claim, Settled::Committed { run, verdicts }, 0, None, MOMENT);
        assert!(matches!(committed, Next::Settled { run: RunId(4), verdicts } if verdicts == [Verdict::Recorded]));
    }
}
