//! What goes into the store and what comes out of it, in the words of the core.

use std::collections::BTreeMap;
use std::sync::Arc;

pub use tollgate_api::audit::ChainView;
pub use tollgate_api::budgets::{AccountSpent, BUDGET_ACCOUNTS_MAX, BudgetView};
pub use tollgate_api::bulk::{Bulk, BulkAbort, BulkFilter, NewBulk};
pub use tollgate_api::counts::Counts;
pub use tollgate_api::dead_letters::{DeadLetter, DeadLetterFilter, DeadWork};
pub use tollgate_api::hosts::{Drain, DrainReport, HostState, HostView};
pub use tollgate_api::issues::{IssueChange, IssueFilter, IssueRecord};
pub use tollgate_api::lists::{AskedList, Count, Item, Page};
pub use tollgate_api::pauses::{Pause, Place};
pub use tollgate_api::quarantines::Quarantine;
pub use tollgate_api::replay::{
    MissingDelivery, ReplayReport, Replayed, ReplayedWork, RoutableFilter, RoutableStanding,
};
pub use tollgate_api::resend::{Sent, SentFilter, SentOf, SentState};
pub use tollgate_api::set_aside::{ReviewReport, ReviewView, SetAside, SetAsideCount, SetAsideFilter, SetAsideKind};
pub use tollgate_api::settings::{SecretView, SettingsLine, SettingsVersion};
pub use tollgate_api::state::{StateEdit, StateFilter};
pub use tollgate_api::tokens::Revocation;
use tollgate_api::tokens::TokenView;
pub use tollgate_api::trace::{
    ActionView, AttemptView, DeliveryView, HistoryView, JobView, OutboxView, ReceiptView, Redelivered, ResendView,
    RunView, Trace, TraceBy, TraceQuery,
};
use tollgate_api::whoami;
use tollgate_core::access::Role;
use tollgate_core::action::Action;
use tollgate_core::admission::{Admission, Disposition, JobSpec, NewJob};
use tollgate_core::answer::Happening;
use tollgate_core::budget::Budget;
pub use tollgate_core::delivery::AttemptRecord;
use tollgate_core::delivery::{AttemptEnd, EntryEnd};
use tollgate_core::event::{Event, Proof};
use tollgate_core::forward;
use tollgate_core::grant::{self, Grant};
use tollgate_core::ids::{
    ActionId, BulkId, DeliveryId, DestinationName, Digest, HostName, JobId, LeaseEpoch, OperationKey, OutboxId,
    PluginDigest, PluginName, ReceiptId, RouteName, RunId, SecretName, Status, TenantName, TokenId,
};
use tollgate_core::lifecycle::Lifecycle;
pub use tollgate_core::outbox::{OutboxClaim, PullLease};
use tollgate_core::outcome::Fault;
use tollgate_core::portal::Appearance;
use tollgate_core::quarantine;
use tollgate_core::retry::{Jitter, RetryPolicy};
use tollgate_core::review::{Target, Unmappable, Word};
use tollgate_core::state::StateRead;
use tollgate_core::subject::Scope;
use tollgate_core::time::UnixMillis;
use tollgate_core::work::EntryState;
pub use tollgate_core::worker::{JobClaim, RunRecord, Settled, Settlement, Targets};

/// What an admission became.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Admitted {
    /// It is the first of its event: a receipt was made, with this disposition.
    New(Disposition),
    /// The event was received before, with the same bytes.
    Same {
        /// Which delivery of the receipt this is; the first is 1.
        delivery: u32,
    },
    /// It has the id of a receipt and other bytes. It is kept beside the receipt and flagged.
    Conflict {
        /// Which delivery of the receipt this is; the first is 1.
        delivery: u32,
    },
    /// It has the signed message of a receipt under another id or type. It is flagged, and has no effect by itself.
    SuspectedReplay {
        /// Which delivery of the receipt this is; the first is 1.
        delivery: u32,
    },
    /// The event's receipt was held, and this delivery in another form took its place as an event of its own.
    Replaced {
        /// The receipt that it has as an event of its own.
        own: ReceiptId,
        /// What became of that receipt.
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
    /// When it is asked.
    pub now: UnixMillis,
    /// How long the leases last, in milliseconds.
    pub lease_ms: i64,
    /// The most rows that are leased.
    pub rows_max: usize,
    /// Tenants that are given no jobs now.
    pub passed_over: Vec<TenantName>,
}

/// How many outbox entries each destination may be given.
#[derive(Debug, Clone)]
pub struct Quotas {
    /// The quota of a destination that `of` does not name.
    pub each_max: usize,
    /// The quotas of these destinations; 0 while nothing may be sent there. Their entries stay due and cost nothing.
    pub of: BTreeMap<(TenantName, DestinationName), usize>,
}

impl Quotas {
    /// No bound: each destination is handed as many entries as are due.
    pub const fn unlimited() -> Self {
        Self {
            each_max: usize::MAX,
            of: BTreeMap::new(),
        }
    }
}

/// The owner of a pulled destination asks for what waits there.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// Who asks, until when and for how much.
    pub claim: ClaimRequest,
    /// Whose destination it is.
    pub tenant: TenantName,
    /// Its name, and those that it had before.
    pub destinations: Vec<DestinationName>,
    /// How often and how soon an entry is tried again whose lease ran out.
    pub policy: RetryPolicy,
    /// For the times of those.
    pub jitter: Jitter,
}

/// The owner of a pulled destination says what became of what was fetched there.
#[derive(Debug, Clone)]
pub struct PullEnd {
    /// Whose destination it is.
    pub tenant: TenantName,
    /// Its name, and those that it had before.
    pub destinations: Vec<DestinationName>,
    /// Of what.
    pub leases: Vec<PullLease>,
    /// What became of all of them.
    pub end: AttemptEnd,
    /// When it is said.
    pub now: UnixMillis,
    /// How often and how soon what is given back is tried again.
    pub policy: RetryPolicy,
    /// For the times of those.
    pub jitter: Jitter,
}

/// What became of one lease that was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum PullEnded {
    /// The attempt is in the ledger.
    Recorded {
        /// What becomes of its entry.
        entry_end: EntryEnd,
    },
    /// The lease is over: its entry was ended, or leased anew. Nothing was written.
    Over {
        /// How far its entry has come.
        state: EntryState,
    },
    /// No such entry waits for the destination, or did.
    Unknown,
}

/// Who a host is among those that share a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostIdentity {
    /// What people call it.
    pub name: HostName,
    /// This process of it. Its claims are made as this worker.
    pub process: String,
    /// Its version.
    pub version: String,
}

/// Leased outbox entries.
#[derive(Debug, Clone)]
pub struct OutboxClaims {
    /// In the order in which they are to be delivered.
    pub claims: Vec<OutboxClaim>,
    /// When the next entry is due of a destination that has room left, as far as the claim came to look.
    pub next_due: Option<UnixMillis>,
}

/// A leased outbox entry that its holder gives back.
#[derive(Debug, Clone, Copy)]
pub struct OutboxHold {
    /// The entry.
    pub entry: OutboxId,
    /// The lease that is given back; an older one changes nothing.
    pub epoch: LeaseEpoch,
}

/// What recording an attempt did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum AttemptRecorded {
    /// The attempt and its consequence are committed.
    Recorded,
    /// Another deliverer holds a newer lease; the attempt is kept as history, the entry is the other's.
    LeaseLost,
}

/// When the earliest waiting work is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NextDue {
    /// When the earliest job is due; none when no job waits.
    pub job: Option<UnixMillis>,
    /// When the earliest outbox entry is due; none when no entry waits.
    pub outbox: Option<UnixMillis>,
}

/// Since when the oldest work waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OldestWaiting {
    /// When the event came in whose job has not ended, of the oldest such job; none when no job waits. A replay makes an old job wait.
    pub job: Option<UnixMillis>,
    /// When the action was recorded that its destination has not taken, of the oldest such outbox entry; none when no entry waits.
    pub delivery: Option<UnixMillis>,
}

/// Delivered entries that are to be sent again.
#[derive(Debug, Clone)]
pub struct ResendRequest {
    /// Their ids. Those that are not delivered are passed over.
    pub entries: Vec<OutboxId>,
    /// When it is asked.
    pub now: UnixMillis,
    /// Who asked, and why, for the history.
    pub actor: String,
    /// The reason.
    pub why: String,
}

/// What to replay.
#[derive(Debug, Clone)]
pub struct ReplayRequest {
    /// Which work is put back.
    pub what: ReplayWhat,
    /// Whether nothing must be changed.
    pub dry_run: bool,
    /// The routes that the caller knows, as they are configured now: for them the answer says which deliveries are missing.
    pub routes: Vec<RouteTargets>,
    /// When it is asked.
    pub now: UnixMillis,
    /// Who asked, and why, for the history.
    pub actor: String,
    /// The reason, where one was given.
    pub why: Option<String>,
}

/// Where a route's actions go, by the configuration of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTargets {
    /// Whose route it is.
    pub tenant: TenantName,
    /// The route.
    pub route: RouteName,
    /// Where its actions go.
    pub targets: Targets,
}

/// Which work a replay puts back.
#[derive(Debug, Clone)]
pub enum ReplayWhat {
    /// Open dead letters that match; `id` set replays one.
    DeadLetters(DeadLetterFilter),
    /// Jobs that their plugins held and that match; other kinds in the filter are passed over.
    HeldJobs(SetAsideFilter),
    /// Runs a receipt's finished, held or dead jobs again, and makes those that routing gives to it now and that it has not.
    Receipt {
        /// The receipt.
        receipt: ReceiptId,
        /// The jobs that routing gives to it now.
        jobs: Vec<NewJob>,
    },
    /// Makes the jobs that routing gives to these receipts now and that they have not. A receipt has one job per route at most.
    Routed(Vec<(ReceiptId, Vec<NewJob>)>),
    /// Runs those of these jobs again that have ended.
    Jobs(Vec<JobId>),
    /// Tries those of these deliveries again that were given up.
    Entries(Vec<OutboxId>),
}

/// Dead letters that are to be grouped into issues.
#[derive(Debug, Clone)]
pub struct GroupFailures {
    /// Who is told of what is opened.
    pub notified: Notified,
    /// When.
    pub now: UnixMillis,
}

/// The destinations of each tenant that are told of its issues.
pub type Notified = BTreeMap<TenantName, Vec<DestinationName>>;

/// One step of a bulk action: what it does is done, and its place moves on, in one commit.
#[derive(Debug, Clone)]
pub struct BulkStep {
    /// Which bulk action.
    pub bulk: BulkId,
    /// The place at which the step begins. Where the bulk action is at another by now, somebody else did the step.
    pub from: i64,
    /// Where the next step begins; none where the list has ended.
    pub next: Option<i64>,
    /// To what it is done.
    pub items: Vec<BulkItem>,
    /// How many more fitted, and cannot be done.
    pub passed_over: u64,
    /// How many were looked at.
    pub looked_at: u64,
    /// When.
    pub now: UnixMillis,
}

/// Something that a bulk action is done to.
#[derive(Debug, Clone)]
pub enum BulkItem {
    /// A job, as long as it has this status.
    Job(JobId, String),
    /// A delivery, as long as it has this status.
    Entry(OutboxId, String),
    /// A receipt; where it is routed again, with the jobs that routing gives to it now.
    Receipt(ReceiptId, Vec<NewJob>),
    /// A held receipt, with the status that it is given.
    Held(ReceiptId, ReviewDecision),
}

/// A receipt that may be routed.
#[derive(Debug, Clone)]
pub struct Routable {
    /// Names the receipt.
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
    /// Names the delivery.
    pub id: DeliveryId,
    /// Whose id it has.
    pub receipt: ReceiptId,
    /// What was read of it.
    pub event: Event,
    /// How it was proved.
    pub proof: Proof,
}

/// One key of a plugin's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEntry {
    /// The plugin's name for the value.
    pub key: String,
    /// Positive: the run that wrote it. Negative: the edit.
    pub version: i64,
    /// The bytes that the plugin wrote, or a person.
    pub value: Vec<u8>,
}

/// What a person's change of one key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum StateEdited {
    /// Committed; the key has this version now. With `dry_run`: it would be, and has this version yet.
    Done {
        /// The version after the change.
        version: i64,
    },
    /// The key has another version than the person saw. Nothing was changed.
    OtherVersion {
        /// The version that the key has.
        version: i64,
    },
}

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEditView {
    /// The version that the edit made.
    pub version: i64,
    /// When it was made.
    pub at: UnixMillis,
    /// Who made it.
    pub actor: String,
    /// The reason.
    pub why: String,
    /// The value that was there; none when there was none.
    pub before: Option<Vec<u8>>,
    /// The value that is there since; none when it was removed.
    pub after: Option<Vec<u8>>,
}

/// A budget of a route, as it is configured, whose standing is asked for.
#[derive(Debug, Clone)]
pub struct BudgetAsked {
    /// Whose route it is.
    pub tenant: TenantName,
    /// The route.
    pub route: RouteName,
    /// The budget.
    pub budget: Budget,
}

impl BudgetAsked {
    /// Every budget of a route.
    pub fn of_route(tenant: &TenantName, route: &RouteName, grants: &[Grant]) -> Vec<Self> {
        let budgets = grant::bounding(grants, |_| true).into_iter();
        budgets
            .map(|budget| Self {
                tenant: tenant.clone(),
                route: route.clone(),
                budget,
            })
            .collect()
    }
}

/// A decision to be taken about something that is set aside.
#[derive(Debug, Clone)]
pub struct ReviewRequest {
    /// What is decided about.
    pub target: Target,
    /// What is decided.
    pub decision: ReviewDecision,
    /// Who decided, and why: for the history.
    pub actor: String,
    /// The reason, where one was given.
    pub why: Option<String>,
    /// When it is decided.
    pub now: UnixMillis,
    /// Whether nothing must be changed.
    pub dry_run: bool,
}

/// A decision with what carrying it out takes.
#[derive(Debug, Clone)]
pub enum ReviewDecision {
    /// The event has this status. `jobs` are those that routing gives to the event with it; made only if the status applies.
    Map {
        /// The status that the event is given.
        status: Status,
        /// How the status is taken.
        word: Word,
        /// The lifecycle of the event's family, when there is one.
        lifecycle: Option<Arc<Lifecycle>>,
        /// Whether the event's subject is the tenant's or the source's own.
        scope: Scope,
        /// The jobs that routing gives to the event with that status.
        jobs: Vec<JobSpec>,
    },
    /// A held job runs again.
    Run,
    /// The same, and what it proposes is recorded whatever its budgets have left.
    RunBeyondBudget,
    /// A conflicting delivery is admitted as this event of its own, by the ordinary rules; see [`Admission::on_its_own`].
    Admit(Box<Admission>),
    /// The same, and it takes the place of the held receipt that it conflicts with.
    ReplaceWith {
        /// The delivery that takes the place.
        delivery: DeliveryId,
        /// The delivery as an event of its own.
        admission: Box<Admission>,
    },
    /// Nothing is to be done.
    Dismiss,
    /// Of a conflict with the ledger: what is recorded stands.
    Keep,
    /// A conflicting proposal is recorded under this key too, and sent there.
    Record {
        /// The key of its own.
        operation_key: OperationKey,
        /// Where it is sent.
        targets: Targets,
        /// The budgets of its route, from which it is taken: whatever they have left, since a person says so.
        budgets: Vec<Budget>,
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
pub struct WalStanding {
    /// How long the log is.
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
    /// Versions, bindings, routes that were set by API, publishers' keys, and tenants' settings with their secrets.
    Registry,
}

/// A version of a tenant's settings to be kept.
#[derive(Debug, Clone)]
pub struct NewSettings {
    /// Whose they are.
    pub tenant: TenantName,
    /// The whole text, checked.
    pub text: String,
    /// The version that this one is to follow; 0 where there is none yet.
    pub expects: u64,
    /// The version whose text it is again.
    pub text_of: Option<u64>,
    /// A new secret that they refer to: it is kept with them, or neither is.
    pub secret: Option<SealedSecret>,
    /// Who sets it.
    pub actor: String,
    /// Why.
    pub why: String,
    /// When.
    pub now: UnixMillis,
}

/// What became of a new version of settings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum SettingsPut {
    /// It is the newest now.
    Kept(SettingsLine),
    /// Somebody else set a version since the one that was expected: this one is the newest, and nothing was changed. None: there is no version at all.
    Overtaken(Option<SettingsLine>),
}

/// A tenant's secret, sealed.
#[derive(Clone)]
pub struct SealedSecret {
    /// Its name, and who set it when.
    pub view: SecretView,
    /// What only the operator's key opens.
    pub sealed: Vec<u8>,
}

impl std::fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SealedSecret").field(&self.view).finish()
    }
}

/// A secret that is put under another key.
#[derive(Clone)]
pub struct SecretReseal {
    /// Its name.
    pub name: SecretName,
    /// How it was sealed when it was read: whoever set it since has the last word.
    pub was: Vec<u8>,
    /// The same secret, sealed with the other key.
    pub sealed: Vec<u8>,
    /// Names that key.
    pub sealed_with: String,
}

impl std::fmt::Debug for SecretReseal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SecretReseal").field(&self.name).finish()
    }
}

/// A token to be kept.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// [`tollgate_core::access::token_digest`] of it.
    pub digest: Digest,
    /// What it is for, for people and the history.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// None for the whole host.
    pub tenant: Option<TenantName>,
    /// Who asked for it.
    pub created_by: String,
    /// Empty where nobody said.
    pub why: String,
    /// When it is made.
    pub now: UnixMillis,
    /// From this instant on it proves nothing.
    pub expires_at: Option<UnixMillis>,
    /// How the console looks to the holder of a portal link.
    pub look: Appearance,
}

/// A token as the store knows it.
#[derive(Debug, Clone)]
pub struct TokenRecord {
    /// Names the token.
    pub id: TokenId,
    /// [`tollgate_core::access::token_digest`] of it.
    pub digest: Digest,
    /// What it is for.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// The only tenant that its holder sees; none for the whole host.
    pub tenant: Option<TenantName>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// Who asked for it.
    pub created_by: String,
    /// Why it was made; empty where nobody said.
    pub why: String,
    /// From this instant on it proves nothing; none when it ends only by revocation.
    pub expires_at: Option<UnixMillis>,
    /// Who revoked it, if somebody did.
    pub revoked: Option<Revocation>,
    /// How the console looks to the holder of a portal link.
    pub look: Appearance,
}

impl TokenRecord {
    /// Whether it proves somebody at `now`.
    pub fn is_valid(&self, now: UnixMillis) -> bool {
        self.revoked.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

impl From<TokenRecord> for TokenView {
    fn from(token: TokenRecord) -> Self {
        Self {
            id: token.id,
            name: token.name,
            may: whoami::listed(token.role),
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
    /// Only this run.
    pub run: Option<RunId>,
    /// Only runs of this tenant.
    pub tenant: Option<TenantName>,
    /// Only runs on this route.
    pub route: Option<RouteName>,
    /// Only runs of this plugin.
    pub plugin: Option<PluginName>,
    /// Only runs of this version.
    pub digest: Option<PluginDigest>,
    /// Only those that started at or after this instant.
    pub since: Option<UnixMillis>,
    /// Only those behind this one: a list goes on where the last one ended.
    pub after: Option<RunId>,
    /// The most runs that are returned.
    pub rows_max: usize,
}

/// A run as it was recorded, with all that it read: what repeating it takes (promise W3).
#[derive(Debug, Clone)]
pub struct RecordedRun {
    /// Names the run.
    pub id: RunId,
    /// The route that the job was on.
    pub route: RouteName,
    /// As the plugin saw it.
    pub event: Arc<Event>,
    /// The plugin that was run.
    pub plugin: PluginName,
    /// The version that was run.
    pub digest: PluginDigest,
    /// The route's configuration as the plugin saw it.
    pub config: String,
    /// What ran it, for example `wasmtime 48.0.8`.
    pub runtime: String,
    /// When it began.
    pub started_at: UnixMillis,
    /// The fuel that it used.
    pub fuel: u64,
    /// [`tollgate_core::outcome::Outcome::name`].
    pub outcome: String,
    /// What the plugin or the host said about the end; empty for a completed run.
    pub message: String,
    /// The state that it read.
    pub reads: Vec<StateRead>,
    /// What it proposed, whatever became of that; only of a run whose job is done.
    pub actions: Vec<(OperationKey, Action)>,
}

/// How a run of a plugin ended, as far as quarantine goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// Whose route it is.
    pub tenant: TenantName,
    /// The route that the job was on.
    pub route: RouteName,
    /// The plugin that was run.
    pub plugin: PluginName,
    /// The version that was run.
    pub digest: PluginDigest,
    /// When it ended.
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
