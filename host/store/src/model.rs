//! What goes into the store and what comes out of it, in the words of the core.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tollgate_core::access::Role;
use tollgate_core::action::{Action, ActionKind, GrantedAction, Verdict};
use tollgate_core::admission::{Disposition, JobSpec};
use tollgate_core::answer::Happening;
use tollgate_core::delivery::{AttemptEnd, EntryEnd};
use tollgate_core::event::{Event, Proof};
use tollgate_core::ids::{
    ActionId, DeadLetterId, DestinationName, Digest, JobId, LeaseEpoch, OperationKey, OutboxId, PluginDigest,
    PluginName, ReceiptId, RouteName, RunId, SourceName, Status, TenantName, TokenId,
};
use tollgate_core::lifecycle::Lifecycle;
use tollgate_core::outcome::{JobEnd, LogLine};
use tollgate_core::review::{Reviewed, Unmappable};
use tollgate_core::state::{StateRead, StateWrite};
use tollgate_core::time::UnixMillis;

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
pub struct Rooms {
    /// To one that `of` does not name.
    pub each_max: usize,
    /// To these: 0 while nothing may be sent there. Their entries stay due and cost nothing.
    pub of: BTreeMap<(TenantName, DestinationName), usize>,
}

impl Rooms {
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

/// A leased job, with all that its run needs.
#[derive(Debug, Clone)]
pub struct JobClaim {
    pub job: JobId,
    pub epoch: LeaseEpoch,
    pub route: RouteName,
    /// Which attempt this is, from 1. Counts since the job was made or last replayed.
    pub attempt: u32,
    pub receipt: ReceiptId,
    pub event: Arc<Event>,
}

/// What is kept of one run (promises T6, W3): all that it read, and how it ended.
#[derive(Debug, Clone)]
pub struct RunRecord {
    pub plugin: PluginName,
    pub digest: PluginDigest,
    /// SHA-256 of the route's configuration as the plugin saw it.
    pub config_digest: Digest,
    pub config: String,
    /// The runtime that ran it, for example `wasmtime 48.0.8`.
    pub runtime: String,
    pub started_at: UnixMillis,
    pub duration_us: u64,
    pub fuel: u64,
    /// [`tollgate_core::outcome::Outcome::name`].
    pub outcome: String,
    pub message: String,
    pub reads: Vec<StateRead>,
    pub logs: Vec<LogLine>,
}

/// All that one run changes.
#[derive(Debug, Clone)]
pub struct Settlement {
    pub job: JobId,
    pub epoch: LeaseEpoch,
    pub run: RunRecord,
    pub end: JobEnd,
    /// Committed only with [`JobEnd::Done`], and only if the run proposed nothing or at least one of its actions is recorded:
    /// a run that repeats what was done has no effect on state either.
    pub writes: Vec<StateWrite>,
    /// Bytes of keys and values that the plugin may have for the tenant, all together. None for no bound.
    pub state_total_max: Option<u64>,
    /// Committed only with [`JobEnd::Done`].
    pub actions: Vec<GrantedAction>,
    /// Where each recorded action goes; empty when the route leaves them in the ledger.
    pub destinations: Vec<DestinationName>,
}

/// What a settlement became.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Settled {
    /// Committed; one verdict per action, in their order.
    Committed { run: RunId, verdicts: Vec<Verdict> },
    /// Another worker holds a newer lease. Nothing was written.
    LeaseLost,
    /// Some of the state that the run read has changed since. Nothing was written: run again.
    StaleState,
    /// The plugin's state would grow to so many bytes, over its bound. Nothing was written.
    OverQuota { bytes: u64 },
}

/// A leased outbox entry, with all that its delivery needs.
#[derive(Debug, Clone)]
pub struct OutboxClaim {
    pub entry: OutboxId,
    pub epoch: LeaseEpoch,
    /// Which attempt this is, from 1. Counts since the entry was made or last replayed.
    pub attempt: u32,
    pub tenant: TenantName,
    pub destination: DestinationName,
    pub action: ActionId,
    pub operation_key: OperationKey,
    pub kind: ActionKind,
    /// [`Action::to_json`], byte for byte as recorded.
    pub action_json: String,
    pub receipt: ReceiptId,
    pub recorded_at: UnixMillis,
}

/// A leased outbox entry that its holder gives back.
#[derive(Debug, Clone, Copy)]
pub struct OutboxHold {
    pub entry: OutboxId,
    pub epoch: LeaseEpoch,
}

/// One attempt and its consequence.
#[derive(Debug, Clone)]
pub struct AttemptRecord {
    pub entry: OutboxId,
    pub epoch: LeaseEpoch,
    pub started_at: UnixMillis,
    pub duration_us: u64,
    pub end: AttemptEnd,
    /// The first bytes of the destination's answer, for people.
    pub answer: String,
    pub entry_end: EntryEnd,
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

/// Any one identifier (promise T7). Narrowed to a tenant where the asker may see only one.
#[derive(Debug, Clone)]
pub struct TraceQuery {
    pub by: TraceBy,
    pub tenant: Option<TenantName>,
    pub receipts_max: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceBy {
    Receipt(ReceiptId),
    Job(JobId),
    Run(RunId),
    Action(ActionId),
    Outbox(OutboxId),
    DeadLetter(DeadLetterId),
    /// A provider's event id, a subject or an operation key, whichever it turns out to be.
    Text(String),
    /// The newest receipts.
    Newest,
}

impl TraceBy {
    /// Tells from its look what an identifier names.
    pub fn named(id: &str) -> Self {
        fn typed(id: &str) -> Option<TraceBy> {
            Some(match id.split_once('_')?.0 {
                "rcpt" => TraceBy::Receipt(id.parse().ok()?),
                "job" => TraceBy::Job(id.parse().ok()?),
                "run" => TraceBy::Run(id.parse().ok()?),
                "act" => TraceBy::Action(id.parse().ok()?),
                "out" => TraceBy::Outbox(id.parse().ok()?),
                "dead" => TraceBy::DeadLetter(id.parse().ok()?),
                _ => return None,
            })
        }
        typed(id).unwrap_or_else(|| Self::Text(id.to_owned()))
    }
}

/// Everything that became of one receipt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trace {
    pub receipt: ReceiptView,
    /// What a person decided about it, when it was held.
    pub review: Option<ReviewView>,
    /// Further deliveries of the same event, in their order.
    pub deliveries: Vec<DeliveryView>,
    pub jobs: Vec<JobView>,
    /// What people did to it: replays, reviews.
    pub history: Vec<HistoryView>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReceiptView {
    pub id: ReceiptId,
    /// Position in the order of admission.
    pub seq: i64,
    pub tenant: TenantName,
    pub source: SourceName,
    pub event_id: String,
    pub event_type: String,
    pub subject: Option<String>,
    pub family: Option<String>,
    pub status: Option<String>,
    pub lifecycle_version: Option<u32>,
    pub amount: Option<String>,
    pub occurred_at: Option<String>,
    /// What of the event is not read as it was sent: shortened, or left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading_notes: Option<String>,
    pub received_at: String,
    pub proof: Proof,
    #[serde(flatten)]
    pub disposition: Disposition,
    pub body_digest: Digest,
    pub body_bytes: usize,
}

/// A redelivery of an event whose receipt exists.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveryView {
    /// Counts from 2: the first delivery is the receipt itself.
    pub number: u32,
    pub received_at: String,
    /// `same`, `conflict` or `suspected-replay`.
    pub decision: String,
    pub key_id: String,
    pub body_digest: Digest,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobView {
    pub id: JobId,
    pub route: RouteName,
    /// `ready`, `leased`, `done`, `held` or `dead`.
    pub state: String,
    pub attempts: u32,
    /// When a waiting job is due.
    pub due_at: Option<String>,
    pub reason: Option<String>,
    pub replays: u32,
    pub runs: Vec<RunView>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunView {
    pub id: RunId,
    pub attempt: u32,
    pub plugin: PluginName,
    /// As the registry has it for the digest; absent where it never had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub digest: PluginDigest,
    pub config_digest: Digest,
    pub runtime: String,
    pub started_at: String,
    pub duration_us: u64,
    pub fuel: u64,
    pub outcome: String,
    pub message: String,
    pub logs: serde_json::Value,
    pub actions: Vec<ActionView>,
}

/// What one run asked for and what the ledger said.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ActionView {
    /// The recorded action: this run's own, or the earlier one that this proposal repeats. For a conflict the kept proposal.
    pub id: ActionId,
    pub operation_key: String,
    pub verdict: Verdict,
    pub action: Action,
    /// In words, for people.
    pub summary: String,
    pub deliveries: Vec<OutboxView>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutboxView {
    pub id: OutboxId,
    pub destination: DestinationName,
    /// `ready`, `leased`, `delivered` or `dead`.
    pub state: String,
    pub due_at: Option<String>,
    pub attempts: Vec<AttemptView>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttemptView {
    pub number: u32,
    pub started_at: String,
    pub duration_us: u64,
    #[serde(flatten)]
    pub end: AttemptEnd,
    pub answer: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HistoryView {
    pub at: String,
    pub what: String,
    pub detail: String,
}

/// Narrows the dead-letter queue. Absent fields take everything.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterFilter {
    pub id: Option<DeadLetterId>,
    pub tenant: Option<TenantName>,
    pub source: Option<SourceName>,
    pub route: Option<RouteName>,
    pub destination: Option<DestinationName>,
    /// Only those that died at or after this instant.
    pub since: Option<UnixMillis>,
    /// Only those whose reason contains this text.
    pub reason: Option<String>,
    /// Those already replayed as well.
    pub with_replayed: bool,
    pub rows_max: usize,
}

/// What was given up, with its replay context.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadLetter {
    pub id: DeadLetterId,
    #[serde(flatten)]
    pub work: DeadWork,
    pub tenant: TenantName,
    pub source: SourceName,
    pub receipt: ReceiptId,
    pub event_id: String,
    pub event_type: String,
    pub subject: Option<String>,
    pub died_at: String,
    pub attempts: u32,
    pub reason: String,
    pub replayed_at: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum DeadWork {
    /// A job whose runs were exhausted or failed for good.
    Job { job: JobId, route: RouteName },
    /// An action that could not be delivered.
    Delivery {
        entry: OutboxId,
        destination: DestinationName,
        action: ActionId,
        operation_key: String,
    },
}

/// What to replay.
#[derive(Debug, Clone)]
pub struct ReplayRequest {
    pub what: ReplayWhat,
    pub dry_run: bool,
    pub now: UnixMillis,
    /// Who asked, for the history.
    pub actor: String,
}

#[derive(Debug, Clone)]
pub enum ReplayWhat {
    /// Open dead letters that match; `id` set replays one.
    DeadLetters(DeadLetterFilter),
    /// Runs a receipt's finished, held or dead jobs again.
    Receipt(ReceiptId),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayReport {
    pub dry_run: bool,
    pub replayed: Vec<Replayed>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Replayed {
    pub receipt: ReceiptId,
    pub tenant: TenantName,
    pub event_id: String,
    pub event_type: String,
    #[serde(flatten)]
    pub work: DeadWork,
    pub reason: String,
}

/// Narrows the list of held receipts. Absent fields take everything.
#[derive(Debug, Clone, Default)]
pub struct HeldFilter {
    pub tenant: Option<TenantName>,
    pub source: Option<SourceName>,
    /// Only those received at or after this instant.
    pub since: Option<UnixMillis>,
    /// Only those whose reason contains this text.
    pub reason: Option<String>,
    /// Those already reviewed as well.
    pub with_reviewed: bool,
    pub rows_max: usize,
}

/// A receipt that is held, and what was decided about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldReceipt {
    pub receipt: ReceiptId,
    pub tenant: TenantName,
    pub source: SourceName,
    pub event_id: String,
    pub event_type: String,
    pub subject: Option<String>,
    pub family: Option<String>,
    /// The provider's label, or a mapped status that contradicted the subject's.
    pub status: Option<String>,
    pub received_at: String,
    pub reason: String,
    pub review: Option<ReviewView>,
}

/// A decision as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewView {
    pub at: String,
    pub actor: String,
    pub why: Option<String>,
    #[serde(flatten)]
    pub reviewed: Reviewed,
    pub lifecycle_version: Option<u32>,
}

/// A decision to be taken about a held receipt.
#[derive(Debug, Clone)]
pub struct ReviewRequest {
    pub receipt: ReceiptId,
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
        /// Of the event's family, when it is declared.
        lifecycle: Option<Arc<Lifecycle>>,
        jobs: Vec<JobSpec>,
    },
    /// Nothing is to be done.
    Dismiss,
}

/// What became of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum ReviewAnswer {
    /// Committed, or with `dry_run` what would be.
    Reviewed(ReviewReport),
    /// The receipt is not held: it was accepted, or superseded.
    NotHeld,
    /// Somebody decided before.
    AlreadyReviewed(ReviewView),
    /// The status cannot be given to this event.
    Unmappable(Unmappable),
}

impl ReviewAnswer {
    /// The report, or in words why there is none.
    ///
    /// # Errors
    /// When nothing was decided.
    pub fn report(self) -> Result<ReviewReport, String> {
        match self {
            Self::Reviewed(report) => Ok(report),
            Self::NotHeld => Err("the receipt is not held: there is nothing to decide".to_owned()),
            Self::AlreadyReviewed(view) => Err(format!(
                "the receipt was reviewed before: {} decided on {}",
                view.actor, view.at
            )),
            Self::Unmappable(unmappable) => Err(unmappable.to_string()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewReport {
    pub dry_run: bool,
    pub receipt: ReceiptId,
    #[serde(flatten)]
    pub reviewed: Reviewed,
    /// The routes whose jobs are made.
    pub routes: Vec<RouteName>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub receipts: u64,
    pub redeliveries: u64,
    pub conflicts: u64,
    /// Deliveries of a signed message that was received before under another id or type.
    pub suspected_replays: u64,
    pub superseded: u64,
    /// Receipts that wait for review.
    pub held: u64,
    pub jobs_waiting: u64,
    pub jobs_done: u64,
    pub runs: u64,
    pub actions: u64,
    pub outbox_waiting: u64,
    pub delivered: u64,
    pub dead_letters_open: u64,
}

/// The write-ahead log of a store on this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogStanding {
    pub bytes: u64,
    /// How long a reader has kept it over twice its bound; none while nobody does.
    pub pinned_for: Option<std::time::Duration>,
}

#[derive(Debug, Clone, Serialize)]
pub struct IntegrityReport {
    pub receipts: u64,
    /// What is wrong, in words; empty when all is well.
    pub problems: Vec<String>,
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
    pub expires_at: Option<UnixMillis>,
    /// When and by whom it was revoked.
    pub revoked: Option<(UnixMillis, String)>,
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

/// A version that is not run on a route, because it failed there again and again (promise P6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    pub tenant: TenantName,
    pub route: RouteName,
    pub plugin: PluginName,
    pub digest: PluginDigest,
    /// Since when.
    pub at: UnixMillis,
    /// How many runs in a row had ended in a fault of the plugin's.
    pub faults: u32,
    /// How the last of them ended.
    pub reason: String,
}
