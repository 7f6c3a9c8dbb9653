//! Tollgate's durable store: the only crate that knows SQL.
//!
//! [`Store`] is what the rest of the host sees. A method that returns `Ok` has committed; what it returns was decided by
//! `tollgate-core` from what the commit's own transaction found. The commit is on the disk when somebody outside is told of it: an
//! admission, what an operator changed, a settlement before its actions are delivered. Other settlements, claims and attempts
//! reach the disk within a second: a process that dies loses none of them, and after a loss of power they are done again from
//! the receipts, which are all there. Nothing here knows HTTP, plugins or clocks.
#![forbid(unsafe_code)]

#[cfg(not(target_family = "wasm"))]
pub mod audit;
#[cfg(not(target_family = "wasm"))]
pub mod backup;
mod guest;
mod model;
pub mod registry;
mod sql;
#[cfg(not(target_family = "wasm"))]
pub mod sqlite;
#[cfg_attr(
    target_family = "wasm",
    expect(dead_code, reason = "part of it serves only what a native writer remembers")
)]
mod statements;

use std::future::Future;

use tollgate_core::admission::Admission;
use tollgate_core::event::Event;
use tollgate_core::ids::{
    ActionId, DeliveryId, JobId, LeaseEpoch, OutboxId, PluginDigest, PluginName, ReceiptId, RouteName, TenantName,
    TokenId,
};
use tollgate_core::review::Target;
use tollgate_core::secret::Secret;
use tollgate_core::state::StateValue;
use tollgate_core::time::UnixMillis;
use tollgate_core::work::IllegalEvent;

pub use guest::{GuestStore, StateSnapshot};
pub use model::*;
use registry::{
    Act, Answered, ApiRoute, BindingChange, BoundRoute, ChangeRequest, ConfiguredRoute, HistoryFilter, KeyRegistered,
    NamespaceChange, NewPublisherKey, NewVersion, PluginVersion, PublisherKeyView, RegistryLine, RevokePublisherKey,
    RouteNamespace, SetRoute, ShadowFilter, ShadowRecord, ShadowReport, StepRequest, TrialRecord, VersionFilter,
};
pub use sql::{Answer, Driver, DriverError, Value};
#[cfg(not(target_family = "wasm"))]
pub use sqlite::{OpenOptions, ReplyBatcher, SqliteStore};
pub use statements::Layout;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another writer holds the database, and did not let go in time. Nothing was written; try again later.
    #[error("another writer holds the store")]
    Busy,
    /// More writes are waiting than the queue takes. Nothing was written; try again later.
    #[error("the store's write queue is full")]
    Full,
    /// No space left. Nothing was written; works again when space returns.
    #[error("no space left for the store at {path}: free some; nothing more is taken in until then")]
    NoSpace { path: String },
    /// A write or fsync failed. What is on the disk is unknown: the host must stop and not acknowledge.
    #[error("the store's disk failed: {detail}")]
    Fatal { detail: String },
    /// Another process has the store open.
    #[error("another process already uses the store {path}; one process at a time may write it")]
    InUse { path: String },
    /// The store was written by a newer Tollgate.
    #[error("the store {path} has schema {found}, but this Tollgate knows up to {known}; use the newer Tollgate")]
    NewerSchema { path: String, found: u32, known: u32 },
    /// The store was opened for reading only.
    #[error("the store {path} is open for reading only here")]
    ReadOnly { path: String },
    /// The file cannot be opened as a store.
    #[error("cannot open the store {path}: {detail}")]
    Open { path: String, detail: String },
    /// The file is damaged in a place without which nothing of it can be read.
    #[error("the store {path} is damaged: {detail}; `tollgate audit verify` says what is left of it")]
    Corrupt { path: String, detail: String },
    /// Something of that id does not exist.
    #[error("{what} does not exist")]
    NotFound { what: String },
    /// The job or the delivery has moved on, or was never where it would have to be. Nothing was written.
    #[error("{0}; nothing was changed")]
    Illegal(IllegalEvent),
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
    /// Stored bytes that cannot be what they should be.
    #[error("damaged row: {detail}")]
    Damaged { detail: String },
    /// Any other database trouble. Nothing was written.
    #[error("database: {detail}")]
    Database { detail: String },
}

/// The durable store of one host. Cheap to clone; all clones are one store.
pub trait Store: Clone + Send + Sync + 'static {
    /// The key under which receipt ids are made; drawn once, when the store is created.
    fn receipt_key(&self) -> &Secret;

    /// Admits one verified event. On `Ok` a receipt or delivery row is durable, and the jobs of an accepted event with it.
    ///
    /// # Errors
    /// [`StoreError::Full`] when the queue is full, [`StoreError::NoSpace`], [`StoreError::Fatal`]; in each case do not acknowledge.
    fn admit(&self, admission: Admission) -> impl Future<Output = Result<Admitted, StoreError>> + Send;

    /// Admits several verified events, those of one request, in their order and in one commit: all of them or none.
    ///
    /// # Errors
    /// As [`Store::admit`].
    fn admit_all(&self, admissions: Vec<Admission>) -> impl Future<Output = Result<Vec<Admitted>, StoreError>> + Send;

    /// Leases jobs that are due: ready or with an expired lease, the oldest first, at most one per lane at a time and none
    /// while an older job of its lane is unfinished.
    fn claim_jobs(&self, request: ClaimRequest) -> impl Future<Output = Result<Vec<JobClaim>, StoreError>> + Send;

    /// Moves the end of a job's lease to `until`, for a run that waits or takes longer than its lease. Answers false when the lease is
    /// no longer the job's newest: somebody else has the job, or it has ended.
    fn extend_lease(
        &self,
        job: JobId,
        epoch: LeaseEpoch,
        until: UnixMillis,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Commits a run, its plugin state, its actions, their outbox entries and the job's end in one transaction, if the claim's
    /// lease epoch is still the newest and no state that the run read has changed.
    fn settle(&self, settlement: Settlement) -> impl Future<Output = Result<Settled, StoreError>> + Send;

    /// Leases outbox entries that are due, destinations by turns, the oldest of each first.
    fn claim_outbox(&self, request: ClaimRequest) -> impl Future<Output = Result<Vec<OutboxClaim>, StoreError>> + Send;

    /// The same, and no more of a destination's than it has room for.
    fn claim_outbox_within(
        &self,
        request: ClaimRequest,
        rooms: Rooms,
    ) -> impl Future<Output = Result<OutboxClaims, StoreError>> + Send;

    /// Appends an attempt and ends its outbox entry, if the claim's lease epoch is still the newest.
    fn record_attempt(
        &self,
        attempt: AttemptRecord,
    ) -> impl Future<Output = Result<AttemptRecorded, StoreError>> + Send;

    /// Gives leased outbox entries back without an attempt (breaker open, concurrency cap), due again at `at`.
    fn release_outbox(
        &self,
        claims: Vec<OutboxHold>,
        at: UnixMillis,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads one value of a plugin's state with its version. Blocks; called from plugin threads.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn read_state(&self, tenant: &TenantName, plugin: &PluginName, key: &str) -> Result<StateValue, StoreError>;

    /// The due time of the earliest job or outbox entry that waits for its time, for whoever sleeps until then.
    fn next_due(&self) -> impl Future<Output = Result<NextDue, StoreError>> + Send;

    /// Wakes when work may have become ready. Carries no data: whoever wakes reads the store again.
    #[cfg(not(target_family = "wasm"))]
    fn work_signal(&self) -> &tokio::sync::Notify;
    /// The same for outbox entries.
    #[cfg(not(target_family = "wasm"))]
    fn outbox_signal(&self) -> &tokio::sync::Notify;

    /// Finds receipts by any one identifier, newest first, with everything that became of them.
    fn trace(&self, query: TraceQuery) -> impl Future<Output = Result<Vec<Trace>, StoreError>> + Send;

    /// Lists dead letters, newest first.
    fn dead_letters(
        &self,
        filter: DeadLetterFilter,
    ) -> impl Future<Output = Result<Vec<DeadLetter>, StoreError>> + Send;

    /// Puts dead jobs or deliveries and held jobs back to work, runs a receipt's jobs again, or makes jobs that receipts lack. Operation keys keep a replay from having a
    /// second effect. With `dry_run` nothing is written and the answer says what would be.
    fn replay(&self, request: ReplayRequest) -> impl Future<Output = Result<ReplayReport, StoreError>> + Send;

    /// Lists deliveries, the oldest first: those of what the filter names, in whatever state, or those delivered that match it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when what the filter names is not there, or is not the tenant's.
    fn sent(&self, filter: SentFilter) -> impl Future<Output = Result<Vec<Sent>, StoreError>> + Send;

    /// Has delivered entries sent again, under the names that they had, and writes who asked for it and why into their receipts'
    /// history. Answers which: one that is no longer delivered is left as it is.
    fn resend(&self, request: ResendRequest) -> impl Future<Output = Result<Vec<OutboxId>, StoreError>> + Send;

    /// A plugin's state for a tenant, in the order of its keys.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn plugin_state(&self, filter: StateFilter) -> impl Future<Output = Result<Vec<StateEntry>, StoreError>> + Send;

    /// What people changed at one key of it, the newest first, at most a hundred.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn state_edits(
        &self,
        tenant: TenantName,
        plugin: PluginName,
        key: String,
    ) -> impl Future<Output = Result<Vec<StateEditView>, StoreError>> + Send;

    /// Sets or removes one key by a person's word, if it still has the version that the person saw. Runs that read it before are begun
    /// again.
    ///
    /// # Errors
    /// When the store cannot be written; nothing is changed then.
    fn edit_state(&self, edit: StateEdit) -> impl Future<Output = Result<StateEdited, StoreError>> + Send;

    /// Lists what is set aside, kind by kind, of each the newest first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when `after` names nothing.
    fn set_aside(&self, filter: SetAsideFilter) -> impl Future<Output = Result<Vec<SetAside>, StoreError>> + Send;

    /// How much is set aside, by kind and place; of one tenant or of all.
    fn set_aside_counts(
        &self,
        tenant: Option<TenantName>,
    ) -> impl Future<Output = Result<Vec<SetAsideCount>, StoreError>> + Send;

    /// A delivery that conflicts with its receipt, with the event as it was read when it came.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such delivery, or it is no conflict.
    fn kept_delivery(&self, delivery: DeliveryId) -> impl Future<Output = Result<KeptDelivery, StoreError>> + Send;

    /// Receipts that may be routed again, the oldest first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the filter names a receipt that is not there.
    fn routable(&self, filter: RoutableFilter) -> impl Future<Output = Result<Vec<Routable>, StoreError>> + Send;

    /// The receipt that a job or a delivery belongs to.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such thing.
    fn receipt_of(&self, target: Target) -> impl Future<Output = Result<ReceiptId, StoreError>> + Send;

    /// The route whose job proposed an action.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such action.
    fn route_of(&self, action: ActionId) -> impl Future<Output = Result<(TenantName, RouteName), StoreError>> + Send;

    /// The event of a receipt, as it was admitted.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such receipt.
    fn event(&self, receipt: ReceiptId) -> impl Future<Output = Result<Event, StoreError>> + Send;

    /// Records what a person decided about something that is set aside. In one commit: the decision, what follows from it (the
    /// subject's status and the receipt's jobs, the job that runs again, the event or the action that a conflict becomes) and a line of history.
    /// The receipt itself is not changed. With `dry_run` nothing is written and the answer says what would be.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such thing. A decision that cannot be taken is an answer, not an error.
    fn review(&self, request: ReviewRequest) -> impl Future<Output = Result<ReviewAnswer, StoreError>> + Send;

    /// Lists recorded runs with all that they read, the oldest first.
    fn recorded_runs(
        &self,
        filter: RecordedRunFilter,
    ) -> impl Future<Output = Result<Vec<RecordedRun>, StoreError>> + Send;

    /// Puts a version of a plugin into quarantine on a route, if it is not there.
    fn quarantine(&self, quarantine: Quarantine) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What is in quarantine, the newest first.
    fn quarantines(&self) -> impl Future<Output = Result<Vec<Quarantine>, StoreError>> + Send;

    /// Lets the versions that are in quarantine on a route run again, or with a dry run changes nothing. Answers which those were.
    fn lift_quarantine(
        &self,
        tenant: TenantName,
        route: RouteName,
        act: registry::Act,
    ) -> impl Future<Output = Result<Vec<Quarantine>, StoreError>> + Send;

    /// Keeps a token of the private listener.
    fn issue_token(&self, token: NewToken) -> impl Future<Output = Result<TokenId, StoreError>> + Send;

    /// All tokens, the newest first; ended ones too.
    fn tokens(&self) -> impl Future<Output = Result<Vec<TokenRecord>, StoreError>> + Send;

    /// Ends a token for good. Answers whether it was not ended before.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such token.
    fn revoke_token(&self, id: TokenId, end: Revocation) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Takes a vetted component into the registry. One that is there already is answered as it is.
    fn add_version(&self, version: NewVersion, act: Act) -> impl Future<Output = Answered<PluginVersion>> + Send;

    /// Versions, the newest first.
    fn plugin_versions(
        &self,
        filter: VersionFilter,
    ) -> impl Future<Output = Result<Vec<PluginVersion>, StoreError>> + Send;

    /// The bytes of a component. Blocks.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is not in the registry.
    fn component(&self, digest: PluginDigest) -> Result<Vec<u8>, StoreError>;

    /// Publishes or retires a version.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such version.
    fn step_version(&self, request: StepRequest) -> impl Future<Output = Answered<PluginVersion>> + Send;

    /// Changes what a route runs: the rules, the tenant's gate and the swap in one commit.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such route, or no such version for its tenant.
    fn change_binding(&self, request: ChangeRequest) -> impl Future<Output = Answered<BindingChange>> + Send;

    /// Lets routes that nobody bound by hand run what the configuration names. Answers those that could not, because the version
    /// is not published any more.
    fn follow_configuration(
        &self,
        routes: Vec<ConfiguredRoute>,
        act: Act,
    ) -> impl Future<Output = Result<Vec<ConfiguredRoute>, StoreError>> + Send;

    /// Keeps under which namespaces these routes record from now on, and answers those that did so under another before: what was
    /// recorded there is not recognised under the new one. Each of them is a line of the registry's history. A dry run changes nothing.
    fn follow_namespaces(
        &self,
        routes: Vec<RouteNamespace>,
        act: Act,
    ) -> impl Future<Output = Result<Vec<NamespaceChange>, StoreError>> + Send;

    /// What each route runs; of one tenant or of all.
    fn bindings(&self, tenant: Option<TenantName>) -> impl Future<Output = Result<Vec<BoundRoute>, StoreError>> + Send;

    /// The routes that were set by API, of all tenants.
    fn api_routes(&self) -> impl Future<Output = Result<Vec<ApiRoute>, StoreError>> + Send;

    /// Sets a route and what it runs.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when no version of its plugin is there to be bound.
    fn set_route(&self, request: SetRoute) -> impl Future<Output = Answered<BindingChange>> + Send;

    /// Removes a route that was set by API. The file's route of that name, which runs `configured`, comes back.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when no such route was set by API.
    fn remove_route(
        &self,
        tenant: TenantName,
        route: RouteName,
        configured: Option<ConfiguredRoute>,
        act: Act,
    ) -> impl Future<Output = Answered<BindingChange>> + Send;

    /// Believes a publisher's key from now on.
    fn register_publisher_key(
        &self,
        key: NewPublisherKey,
    ) -> impl Future<Output = Result<KeyRegistered, StoreError>> + Send;

    /// Believes a publisher's key no more. Answers whether it was believed before.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such key.
    fn revoke_publisher_key(
        &self,
        request: RevokePublisherKey,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Publishers' keys of one tenant or of all, revoked ones too.
    fn publisher_keys(
        &self,
        tenant: Option<TenantName>,
    ) -> impl Future<Output = Result<Vec<PublisherKeyView>, StoreError>> + Send;

    /// The registry's history, the newest first.
    fn registry_history(
        &self,
        filter: HistoryFilter,
    ) -> impl Future<Output = Result<Vec<RegistryLine>, StoreError>> + Send;

    /// Keeps what a shadow did. It has no other effect.
    fn record_shadow_run(&self, record: ShadowRecord) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What a route's shadow did.
    fn shadow_runs(&self, filter: ShadowFilter) -> impl Future<Output = Result<ShadowReport, StoreError>> + Send;

    /// Keeps the result of a trial, for the gate of a promotion.
    fn record_trial(&self, trial: TrialRecord) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// How much of everything there is.
    fn counts(&self) -> impl Future<Output = Result<Counts, StoreError>> + Send;

    /// How long the write-ahead log of the store's own is. Zero where there is none.
    fn log_standing(&self) -> LogStanding {
        LogStanding::default()
    }

    /// Checks the database's own integrity and the receipts' hash chain.
    fn check_integrity(&self) -> impl Future<Output = Result<IntegrityReport, StoreError>> + Send;

    /// Finishes what is queued, checkpoints and closes. Later calls get [`StoreError::Closed`].
    fn close(&self) -> impl Future<Output = ()> + Send;
}
