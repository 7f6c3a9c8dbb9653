//! What goes into the store and what comes out of it, in the words of the core.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tollgate_core::access::Role;
use tollgate_core::action::{Action, Verdict};
use tollgate_core::admission::{Admission, Disposition, JobSpec, NewJob};
use tollgate_core::answer::Happening;
use tollgate_core::delivery::AttemptEnd;
pub use tollgate_core::delivery::{AttemptRecord, OutboxClaim};
use tollgate_core::event::{Event, Proof};
use tollgate_core::forward;
use tollgate_core::ids::{
    ActionId, DeadLetterId, DeliveryId, DestinationName, Digest, JobId, LeaseEpoch, Namespace, OperationKey, OutboxId,
    PluginDigest, PluginName, ReceiptId, ResendId, RouteName, RunId, SourceName, Status, Subject, TenantName, TokenId,
};
use tollgate_core::lifecycle::Lifecycle;
use tollgate_core::outcome::Fault;
use tollgate_core::quarantine;
use tollgate_core::review::{Reviewed, Target, Unmappable, Word};
use tollgate_core::route::TypePattern;
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

/// Any one identifier (promise T7). Narrowed to a tenant where the asker may see only one.
#[derive(Debug, Clone)]
pub struct TraceQuery {
    pub by: TraceBy,
    pub tenant: Option<TenantName>,
    /// Only receipts that were admitted before this one: a list goes on where the last one ended.
    pub after: Option<ReceiptId>,
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
    /// How often the event was delivered again in all; `None` where it never was.
    pub redelivered: Option<Redelivered>,
    /// Further deliveries of the same event that are kept one by one, in their order; see [`tollgate_core::admission::Kept`].
    pub deliveries: Vec<DeliveryView>,
    pub jobs: Vec<JobView>,
    /// What people did to it: replays, reviews. The newest, at most [`tollgate_core::limits::TRACE_ROWS_MAX`].
    pub history: Vec<HistoryView>,
}

impl Trace {
    /// How often the event was delivered again with other bytes.
    pub fn conflicts(&self) -> u64 {
        self.redelivered.as_ref().map_or(0, |again| again.conflicts)
    }
}

/// How often an event was delivered again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redelivered {
    /// With the receipt's own bytes.
    pub same: u64,
    /// With other bytes.
    pub conflicts: u64,
    /// With its signed message, under another id or type.
    #[serde(default)]
    pub suspected_replays: u64,
    /// When it came the last time; RFC 3339, UTC.
    pub last_at: String,
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
    /// Headers of the request that the source keeps, by name. No signature holds them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kept_headers: BTreeMap<String, String>,
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
    pub id: DeliveryId,
    /// Counts from 2: the first delivery is the receipt itself.
    pub number: u32,
    pub received_at: String,
    /// `same`, `conflict` or `suspected-replay`.
    pub decision: String,
    pub key_id: String,
    pub body_digest: Digest,
    /// How often it came; more than once only for what is not the receipt's event.
    pub times: u64,
    pub last_at: Option<String>,
    /// What a person decided about a conflict.
    pub review: Option<ReviewView>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobView {
    pub id: JobId,
    pub route: RouteName,
    /// `ready`, `leased`, `done`, `held`, `dismissed` or `dead`.
    pub state: String,
    pub attempts: u32,
    /// When a waiting job is due.
    pub due_at: Option<String>,
    pub reason: Option<String>,
    pub replays: u32,
    /// The newest, at most [`tollgate_core::limits::TRACE_ROWS_MAX`], in their order.
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
    /// Whose operation key it is.
    pub namespace: Namespace,
    pub operation_key: String,
    pub verdict: Verdict,
    pub action: Action,
    /// In words, for people.
    pub summary: String,
    /// Of a conflict: what a person decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<ReviewView>,
    pub deliveries: Vec<OutboxView>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutboxView {
    pub id: OutboxId,
    /// The `webhook-id` that its destination sees.
    pub message_id: String,
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
    /// Set when it was delivered before, and somebody had it sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resend: Option<ResendView>,
}

/// Who had deliveries sent again, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResendView {
    pub id: ResendId,
    pub at: String,
    pub actor: String,
    pub why: String,
}

/// Which deliveries. Absent fields take everything.
#[derive(Debug, Clone, Default)]
pub struct SentFilter {
    /// Those of one thing, in whatever state they are; without it, only what was delivered.
    pub of: Option<SentOf>,
    pub tenant: Option<TenantName>,
    pub source: Option<SourceName>,
    pub destination: Option<DestinationName>,
    /// Only those delivered at or after this instant, and before that one.
    pub since: Option<UnixMillis>,
    pub until: Option<UnixMillis>,
    /// Only those behind this one in the list: it goes on where the last one ended.
    pub after: Option<OutboxId>,
    pub rows_max: usize,
}

/// What deliveries are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SentOf {
    Entry(OutboxId),
    Action(ActionId),
    /// All that the receipt's runs recorded.
    Receipt(ReceiptId),
}

/// One action and one destination, as they stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    pub entry: OutboxId,
    pub destination: DestinationName,
    #[serde(flatten)]
    pub state: SentState,
    pub action: ActionId,
    pub namespace: Namespace,
    pub kind: String,
    pub operation_key: String,
    pub receipt: ReceiptId,
    pub tenant: TenantName,
    pub source: SourceName,
    pub event_id: String,
    pub event_type: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SentState {
    /// It is still on its way.
    Waiting,
    /// `at` is when it was the last time.
    Delivered { at: String },
    /// It was given up.
    Dead,
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
    /// Only those behind this one in the list: it goes on where the last one ended.
    pub after: Option<DeadLetterId>,
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
    /// The beginning of what its destination answered to the last attempt; of a delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
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

/// Receipts that may be routed again. Absent fields take everything.
#[derive(Debug, Clone, Default)]
pub struct RoutableFilter {
    pub receipt: Option<ReceiptId>,
    pub tenant: Option<TenantName>,
    pub source: Option<SourceName>,
    pub event_type: Option<TypePattern>,
    pub status: Option<Status>,
    pub subject: Option<Subject>,
    /// Only those received at or after this instant, and before that one.
    pub since: Option<UnixMillis>,
    pub until: Option<UnixMillis>,
    pub standing: RoutableStanding,
    /// Only those without any job.
    pub without_jobs: bool,
    /// Only those that were admitted after this one: a list goes on where the last one ended.
    pub after: Option<ReceiptId>,
    pub rows_max: usize,
}

/// Which receipts may be routed. What is held may not: a review says what it is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RoutableStanding {
    /// All, as they were judged: the late ones have effect where their routes and lifecycles say so.
    #[default]
    AsJudged,
    /// Accepted when they came, or by a review.
    Accepted,
    /// Superseded when they came: somebody wants their effect all the same, on every route that takes them.
    Superseded,
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

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayReport {
    pub dry_run: bool,
    pub replayed: Vec<Replayed>,
    /// Where there were more receipts than one answer is about: the last of them, behind which the next replay goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<ReceiptId>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Replayed {
    pub receipt: ReceiptId,
    pub tenant: TenantName,
    pub event_id: String,
    pub event_type: String,
    #[serde(flatten)]
    pub work: ReplayedWork,
    pub reason: String,
    /// Deliveries that are missing: the job recorded these actions, and its route of now names destinations that they never went to. The
    /// run that is repeated sends them there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adds: Vec<MissingDelivery>,
}

/// An action that was not sent to a destination which its route names now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingDelivery {
    pub action: ActionId,
    pub operation_key: String,
    pub destination: DestinationName,
}

/// What a replay puts to work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum ReplayedWork {
    /// A job that had ended.
    Job { job: JobId, route: RouteName },
    /// A delivery that had been given up.
    Delivery {
        entry: OutboxId,
        destination: DestinationName,
        action: ActionId,
        operation_key: String,
    },
    /// A job that the receipt did not have: its route came later, or takes it now.
    NewJob { route: RouteName },
}

impl From<DeadWork> for ReplayedWork {
    fn from(work: DeadWork) -> Self {
        match work {
            DeadWork::Job { job, route } => Self::Job { job, route },
            DeadWork::Delivery {
                entry,
                destination,
                action,
                operation_key,
            } => Self::Delivery {
                entry,
                destination,
                action,
                operation_key,
            },
        }
    }
}

/// Why something has not the effect that it would have had: what a list of set-aside work is of. In the order of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SetAsideKind {
    /// A receipt that waits for a person: its status is not mapped, or contradicts its subject's.
    HeldReceipt,
    /// A job that its plugin held.
    HeldJob,
    /// A delivery with the id of a receipt and other bytes.
    Conflict,
    /// A delivery with the signed message of a receipt under another id.
    SuspectedReplay,
    /// A proposal whose operation is recorded with other content.
    LedgerConflict,
    /// A receipt whose subject was already further. Nobody is asked.
    Superseded,
    /// An accepted receipt that no route took. Nobody is asked.
    NoRoute,
}

impl SetAsideKind {
    pub const ALL: [Self; 7] = [
        Self::HeldReceipt,
        Self::HeldJob,
        Self::Conflict,
        Self::SuspectedReplay,
        Self::LedgerConflict,
        Self::Superseded,
        Self::NoRoute,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HeldReceipt => "held-receipt",
            Self::HeldJob => "held-job",
            Self::Conflict => "conflict",
            Self::SuspectedReplay => "suspected-replay",
            Self::LedgerConflict => "ledger-conflict",
            Self::Superseded => "superseded",
            Self::NoRoute => "no-route",
        }
    }

    /// Whether it waits for a person's word.
    pub const fn waits(self) -> bool {
        match self {
            Self::HeldReceipt | Self::HeldJob | Self::Conflict | Self::SuspectedReplay | Self::LedgerConflict => true,
            Self::Superseded | Self::NoRoute => false,
        }
    }
}

impl std::str::FromStr for SetAsideKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
            format!("`{text}` is no kind of set-aside work; there are: {}", known.join(", "))
        })
    }
}

/// Narrows the list of what is set aside. Absent fields take everything.
#[derive(Debug, Clone, Default)]
pub struct SetAsideFilter {
    /// None: the kinds that wait for a person.
    pub kind: Option<SetAsideKind>,
    pub tenant: Option<TenantName>,
    pub source: Option<SourceName>,
    /// Only held jobs of this route, and conflicts with the ledger that its jobs came into.
    pub route: Option<RouteName>,
    /// Only what was set aside at or after this instant.
    pub since: Option<UnixMillis>,
    /// Only those whose reason contains this text.
    pub reason: Option<String>,
    /// Those on which somebody decided as well.
    pub with_reviewed: bool,
    /// Only those behind this one in the list: it goes on where the last one ended.
    pub after: Option<Target>,
    pub rows_max: usize,
}

/// Something that is set aside, and what was decided about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SetAside {
    pub kind: SetAsideKind,
    /// What a review names, and where a list goes on: the receipt, the job, the delivery or the action.
    pub id: String,
    pub receipt: ReceiptId,
    pub tenant: TenantName,
    pub source: SourceName,
    /// Of a held job, and of a conflict with the ledger.
    pub route: Option<RouteName>,
    pub event_id: String,
    pub event_type: String,
    pub subject: Option<String>,
    pub family: Option<String>,
    /// The provider's label, or a mapped status.
    pub status: Option<String>,
    /// When the event came; of a conflict, when this delivery did.
    pub received_at: String,
    /// Since when it is set aside.
    pub since: String,
    pub reason: String,
    pub review: Option<ReviewView>,
}

/// How much is set aside of one kind, at one place: a source, or for held jobs and conflicts with the ledger a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAsideCount {
    pub kind: SetAsideKind,
    pub tenant: TenantName,
    pub source: Option<SourceName>,
    pub route: Option<RouteName>,
    pub count: u64,
    /// Since when the oldest of them is; as JSON, RFC 3339.
    #[serde(with = "as_text")]
    pub oldest_at: UnixMillis,
}

/// An instant as people read it.
mod as_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use tollgate_core::time::UnixMillis;

    pub(super) fn serialize<S: Serializer>(instant: &UnixMillis, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(instant)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnixMillis, D::Error> {
        let text = String::deserialize(deserializer)?;
        UnixMillis::from_rfc3339(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not an instant")))
    }
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

/// Which of a plugin's state is asked for.
#[derive(Debug, Clone)]
pub struct StateFilter {
    pub tenant: TenantName,
    pub plugin: PluginName,
    /// Only this key, or only those that begin so.
    pub key: Option<String>,
    pub prefix: Option<String>,
    /// Only keys behind this one: a list goes on where the last one ended.
    pub after: Option<String>,
    pub rows_max: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEntry {
    pub key: String,
    /// Positive: the run that wrote it. Negative: the edit.
    pub version: i64,
    pub value: Vec<u8>,
}

/// A person's change of one key.
#[derive(Debug, Clone)]
pub struct StateEdit {
    pub tenant: TenantName,
    pub plugin: PluginName,
    pub key: String,
    /// None removes the key.
    pub value: Option<Vec<u8>>,
    /// That the key has, as far as the person knows; 0: there is none.
    pub version: i64,
    pub actor: String,
    pub why: String,
    pub now: UnixMillis,
    pub dry_run: bool,
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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewReport {
    pub dry_run: bool,
    /// The receipt that it is about, or that the job or delivery belongs to.
    pub receipt: ReceiptId,
    #[serde(flatten)]
    pub reviewed: Reviewed,
    /// The routes whose jobs are made.
    pub routes: Vec<RouteName>,
    /// Where a proposal is sent that is recorded now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<DestinationName>,
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
    /// Jobs that their plugins held and that nobody decided about.
    pub held_jobs: u64,
    /// Conflicting deliveries that are kept and that nobody decided about.
    pub conflicts_open: u64,
    /// Proposals that conflict with the ledger and that nobody decided about.
    pub ledger_conflicts_open: u64,
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

/// Who ended a token, why, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    pub by: String,
    /// Empty where nobody said.
    pub why: String,
    pub at: UnixMillis,
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
    /// How the last of them ended: the fault, and after a colon what the plugin said, which may be of an event.
    pub reason: String,
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

impl Quarantine {
    /// Why a job whose plugin is in quarantine is given up; `mend` says how its version is let run again.
    pub fn why_dead(&self, mend: &str) -> String {
        format!(
            "{} is in quarantine on this route since {}, after {} faults in a row, the last {}; {mend}, and replay",
            self.digest, self.at, self.faults, self.reason
        )
    }

    /// How the last run ended, without anything of what it was about.
    pub fn fault(&self) -> &str {
        self.reason.split_once(": ").map_or(&self.reason, |(fault, _)| fault)
    }
}
