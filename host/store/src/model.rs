//! What goes into the store and what comes out of it, in the words of the core.

use std::collections::BTreeMap;
use std::sync::Arc;

pub use tollgate_api::counts::Counts;
pub use tollgate_api::dead_letters::{DeadLetter, DeadLetterFilter, DeadWork};
pub use tollgate_api::quarantines::Quarantine;
pub use tollgate_api::replay::{
    MissingDelivery, ReplayReport, Replayed, ReplayedWork, RoutableFilter, RoutableStanding,
};
pub use tollgate_api::resend::{Sent, SentFilter, SentOf, SentState};
pub use tollgate_api::set_aside::{ReviewReport, ReviewView, SetAside, SetAsideCount, SetAsideFilter, SetAsideKind};
pub use tollgate_api::state::{StateEdit, StateFilter};
pub use tollgate_api::tokens::Revocation;
use tollgate_api::tokens::TokenView;
pub use tollgate_api::trace::{
    ActionView, AttemptView, DeliveryView, HistoryView, JobView, OutboxView, ReceiptView, Redelivered, ResendView,
    RunView, Trace, TraceBy, TraceQuery,
};
use tollgate_core::access::Role;
use tollgate_core::action::Action;
use tollgate_core::admission::{Admission, Disposition, JobSpec, NewJob};
use tollgate_core::answer::Happening;
pub use tollgate_core::delivery::AttemptRecord;
use tollgate_core::event::{Event, Proof};
use tollgate_core::forward;
use tollgate_core::ids::{
    ActionId, DeliveryId, DestinationName, Digest, LeaseEpoch, OperationKey, OutboxId, PluginDigest, PluginName,
    ReceiptId, RouteName, RunId, Status, TenantName, TokenId,
};
use tollgate_core::lifecycle::Lifecycle;
pub use tollgate_core::outbox::OutboxClaim;
use tollgate_core::outcome::Fault;
use tollgate_core::quarantine;
use tollgate_core::review::{Target, Unmappable, Word};
use tollgate_core::state::StateRead;
use tollgate_core::subject::Scope;
use tollgate_core::time::UnixMillis;
pub use tollgate_core::worker::{JobClaim, RunRecord, Settled, Settlement, Targets};

/// What an admission became.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Admitted {
    New(Disposition),
    /// The receipt's disposition, and which delivery of it this is (the first is 1).
    Same {
        delivery: u32,
    },
    Conflict {
        delivery: u32,
    },
    SuspectedReplay {
        delivery: u32,
    },
    /// The event's receipt was held, and this delivery in another form took its place as an event of its own.
    Replaced {
        own: ReceiptId,
        disposition: Disposition,
    },
}

impl Admitted {
    /// What the sender is told happened.
    pub fn happening(&self, receipt: ReceiptId) -> Happening {
        match self {
            Self::New(Disposition::Accepted) => Happening::Accepted(receipt),
            Self::New(Disposition::Superseded { .. }) => Happening::Superseded(receipt),
            Self::New(Disposition::Held { .. }) => Happening::Held(receipt),
            Self::Same { .. } => Happening::Same(receipt),
            Self::Conflict { .. } => Happening::Conflict(receipt),
            Self::SuspectedReplay { .. } => Happening::SuspectedReplay(receipt),
            Self::Replaced { own, disposition } => Self::New(disposition.clone()).happening(*own),
        }
    }
}

/// Asks for leases.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// Who claims, for the person who reads the row.
    pub worker: String,
    pub now: UnixMillis,
    pub lease_ms: i64,
    pub rows_max: usize,
    /// Of jobs: these tenants get none now.
    pub passed_over: Vec<TenantName>,
}

/// How many outbox entries each destination may be given.
#[derive(Debug, Clone)]
pub struct Quotas {
    /// To one that `of` does not name.
    pub each_max: usize,
    /// To these: 0 while nothing may be sent there. Their entries stay due and cost nothing.
    pub of: BTreeMap<(TenantName, DestinationName), usize>,
}

impl Quotas {
    /// As many to each as there are.
    pub const fn unlimited() -> Self {
        Self {
            each_max: usize::MAX,
            of: BTreeMap::new(),
        }
    }
}

/// Leased outbox entries.
#[derive(Debug, Clone)]
pub struct OutboxClaims {
    pub claims: Vec<OutboxClaim>,
    /// When the next entry is due of a destination that has room left, as far as the claim came to look.
    pub next_due: Option<UnixMillis>,
}

/// A leased outbox entry that its holder gives back.
#[derive(Debug, Clone, Copy)]
pub struct OutboxHold {
    pub entry: OutboxId,
    pub epoch: LeaseEpoch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum AttemptRecorded {
    Recorded,
    /// Another deliverer holds a newer lease; the attempt is kept as history, the entry is the other's.
    LeaseLost,
}

/// When the earliest waiting work is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NextDue {
    pub job: Option<UnixMillis>,
    pub outbox: Option<UnixMillis>,
}

/// Delivered entries that are to be sent again.
#[derive(Debug, Clone)]
pub struct ResendRequest {
    pub entries: Vec<OutboxId>,
    pub now: UnixMillis,
    /// Who asked, and why, for the history.
    pub actor: String,
    pub why: String,
}

/// What to replay.
#[derive(Debug, Clone)]
pub struct ReplayRequest {
    pub what: ReplayWhat,
    pub dry_run: bool,
    /// Of the configuration of now, as far as the caller knows it: then the answer says which deliveries are missing.
    pub routes: Vec<RouteTargets>,
    pub now: UnixMillis,
    /// Who asked, and why, for the history.
    pub actor: String,
    pub why: Option<String>,
}

/// Where a route's actions go, by the configuration of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTargets {
    pub tenant: TenantName,
    pub route: RouteName,
    pub targets: Targets,
}

#[derive(Debug, Clone)]
pub enum ReplayWhat {
    /// Open dead letters that match; `id` set replays one.
    DeadLetters(DeadLetterFilter),
    /// Jobs that their plugins held and that match; other kinds in the filter are passed over.
    HeldJobs(SetAsideFilter),
    /// Runs a receipt's finished, held or dead jobs again, and makes those that routing gives to it now and that it has not.
    Receipt { receipt: ReceiptId, jobs: Vec<NewJob> },
    /// Makes the jobs that routing gives to these receipts now and that they have not. A receipt has one job per route at most.
    Routed(Vec<(ReceiptId, Vec<NewJob>)>),
}

/// A receipt that may be routed.
#[derive(Debug, Clone)]
pub struct Routable {
    pub receipt: ReceiptId,
    /// As plugins see it, without its payload.
    pub event: Arc<Event>,
    /// The status that its subject already had when it came, if it came late.
    pub late_after: Option<Status>,
    /// The routes that it has a job of.
    pub routes: Vec<RouteName>,
}

/// A conflicting delivery as it is kept, with its body.
#[derive(Debug, Clone)]
pub struct KeptDelivery {
    pub id: DeliveryId,
    /// Whose id it has.
    pub receipt: ReceiptId,
    pub event: Event,
    pub proof: Proof,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEntry {
    pub key: String,
    /// Positive: the run that wrote it. Negative: the edit.
    pub version: i64,
    pub value: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum StateEdited {
    /// Committed; the key has this version now. With `dry_run`: it would be, and has this version yet.
    Done { version: i64 },
    /// The key has another version than the person saw. Nothing was changed.
    OtherVersion { version: i64 },
}

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEditView {
    pub version: i64,
    pub at: UnixMillis,
    pub actor: String,
    pub why: String,
    pub before: Option<Vec<u8>>,
    pub after: Option<Vec<u8>>,
}

/// A decision to be taken about something that is set aside.
#[derive(Debug, Clone)]
pub struct ReviewRequest {
    pub target: Target,
    pub decision: ReviewDecision,
    /// Who decided, and why: for the history.
    pub actor: String,
    pub why: Option<String>,
    pub now: UnixMillis,
    pub dry_run: bool,
}

#[derive(Debug, Clone)]
pub enum ReviewDecision {
    /// The event has this status. `jobs` are those that routing gives to the event with it; made only if the status applies.
    Map {
        status: Status,
        word: Word,
        /// Of the event's family, when it is declared.
        lifecycle: Option<Arc<Lifecycle>>,
        /// Whose the event's subject is.
        scope: Scope,
        jobs: Vec<JobSpec>,
    },
    /// A held job runs again.
    Run,
    /// A conflicting delivery is admitted as this event of its own, by the ordinary rules; see [`Admission::on_its_own`].
    Admit(Box<Admission>),
    /// The same, and it takes the place of the held receipt that it conflicts with.
    ReplaceWith {
        delivery: DeliveryId,
        admission: Box<Admission>,
    },
    /// Nothing is to be done.
    Dismiss,
    /// Of a conflict with the ledger: what is recorded stands.
    Keep,
    /// A conflicting proposal is recorded under this key too, and sent there.
    Record {
        operation_key: OperationKey,
        targets: Targets,
    },
}

/// What became of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum ReviewAnswer {
    /// Committed, or with `dry_run` what would be.
    Reviewed(ReviewReport),
    /// It is not set aside: the receipt was accepted or superseded, the job is not held, the delivery is no conflict.
    NotHeld,
    /// The delivery is not one of the receipt's conflicts.
    NotItsDelivery,
    /// Somebody decided before.
    AlreadyReviewed(ReviewView),
    /// The status cannot be given to this event.
    Unmappable(Unmappable),
    /// The operation key under which a proposal was to be recorded is that of this action.
    KeyTaken(ActionId),
}

impl ReviewAnswer {
    /// The report, or in words why there is none.
    ///
    /// # Errors
    /// When nothing was decided.
    pub fn report(self) -> Result<ReviewReport, String> {
        match self {
            Self::Reviewed(report) => Ok(report),
            Self::NotHeld => Err("it is not held: there is nothing to decide".to_owned()),
            Self::NotItsDelivery => Err("the delivery is not another form of this receipt's event".to_owned()),
            Self::AlreadyReviewed(view) => {
                Err(format!("it was reviewed before: {} decided on {}", view.actor, view.at))
            }
            Self::Unmappable(unmappable) => Err(unmappable.to_string()),
            Self::KeyTaken(action) => Err(format!(
                "{action} is recorded under this operation key; name one under which nothing is"
            )),
        }
    }
}

/// The write-ahead log of a store on this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogStanding {
    pub bytes: u64,
    /// How long a reader has kept it over twice its bound; none while nobody does.
    pub pinned_for: Option<std::time::Duration>,
}

/// Something of the store that hosts keep in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Tokens of the private listener.
    Tokens,
    /// What is in quarantine.
    Quarantines,
    /// Versions, bindings, routes that were set by API, and publishers' keys.
    Registry,
}

/// A token to be kept.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// [`tollgate_core::access::token_digest`] of it.
    pub digest: Digest,
    /// What it is for, for people and the history.
    pub name: String,
    pub role: Role,
    /// None for the whole host.
    pub tenant: Option<TenantName>,
    pub created_by: String,
    /// Empty where nobody said.
    pub why: String,
    pub now: UnixMillis,
    /// From this instant on it proves nothing.
    pub expires_at: Option<UnixMillis>,
}

/// A token as the store knows it.
#[derive(Debug, Clone)]
pub struct TokenRecord {
    pub id: TokenId,
    pub digest: Digest,
    pub name: String,
    pub role: Role,
    pub tenant: Option<TenantName>,
    pub created_at: UnixMillis,
    pub created_by: String,
    /// Why it was made; empty where nobody said.
    pub why: String,
    pub expires_at: Option<UnixMillis>,
    pub revoked: Option<Revocation>,
}

impl From<TokenRecord> for TokenView {
    fn from(token: TokenRecord) -> Self {
        Self {
            id: token.id,
            name: token.name,
            role: token.role.to_string(),
            tenant: token.tenant,
            created_at: token.created_at.to_string(),
            created_by: token.created_by,
            why: token.why,
            expires_at: token.expires_at.map(|at| at.to_string()),
            revoked_at: token.revoked.as_ref().map(|end| end.at.to_string()),
            revoked_by: token.revoked.as_ref().map(|end| end.by.clone()),
            revoked_why: token.revoked.map(|end| end.why).filter(|why| !why.is_empty()),
        }
    }
}

/// Which recorded runs, the oldest first.
#[derive(Debug, Clone, Default)]
pub struct RecordedRunFilter {
    /// This one only.
    pub run: Option<RunId>,
    pub tenant: Option<TenantName>,
    pub route: Option<RouteName>,
    pub plugin: Option<PluginName>,
    pub digest: Option<PluginDigest>,
    /// Only those that started at or after this instant.
    pub since: Option<UnixMillis>,
    /// Only those behind this one: a list goes on where the last one ended.
    pub after: Option<RunId>,
    pub rows_max: usize,
}

/// A run as it was recorded, with all that it read: what repeating it takes (promise W3).
#[derive(Debug, Clone)]
pub struct RecordedRun {
    pub id: RunId,
    pub route: RouteName,
    /// As the plugin saw it.
    pub event: Arc<Event>,
    pub plugin: PluginName,
    pub digest: PluginDigest,
    /// The route's configuration as the plugin saw it.
    pub config: String,
    pub runtime: String,
    pub started_at: UnixMillis,
    pub fuel: u64,
    /// [`tollgate_core::outcome::Outcome::name`].
    pub outcome: String,
    pub message: String,
    pub reads: Vec<StateRead>,
    /// What it proposed, whatever became of that; only of a run whose job is done.
    pub actions: Vec<(OperationKey, Action)>,
}

/// How a run of a plugin ended, as far as quarantine goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    pub tenant: TenantName,
    pub route: RouteName,
    pub plugin: PluginName,
    pub digest: PluginDigest,
    pub at: UnixMillis,
    /// Absent: it ended in no fault.
    pub fault: Option<Fault>,
    /// What the plugin or its host said of the fault.
    pub message: String,
}

impl RunEnd {
    /// How the run that a settlement tells of ended. None for what was not run, and for what the host itself failed in.
    pub fn of(claim: &JobClaim, settlement: &Settlement, now: UnixMillis) -> Option<Self> {
        let run = &settlement.run;
        let fault = run.fault();
        let was_run =
            run.outcome != quarantine::OUTCOME && run.outcome != forward::OUTCOME && fault != Some(Fault::HostFault);
        was_run.then(|| Self {
            tenant: claim.event.tenant.clone(),
            route: claim.route.clone(),
            plugin: run.plugin.clone(),
            digest: run.digest,
            at: now,
            fault,
            message: fault.map_or_else(String::new, |_| run.message.clone()),
        })
    }

    /// The quarantine that this run, the last of so many faults in a row, brings its version into. None when it ended in no fault.
    pub fn quarantine(self, faults: u32) -> Option<Quarantine> {
        let fault = self.fault?;
        Some(Quarantine {
            tenant: self.tenant,
            route: self.route,
            plugin: self.plugin,
            digest: self.digest,
            at: self.at,
            faults,
            reason: format!("{fault}: {}", self.message),
        })
    }
}
