//! The traits of a store, one for each kind of caller. A backend implements them, and nothing outside of this crate knows more of it.
//!
//! [`Intake`] is the edge's, [`Work`] the worker's, [`Outbox`] the delivery's, [`Views`] and [`Control`] the operators'. [`Changes`]
//! tells whoever keeps something of the store in memory when it is out of date. [`Store`] is all of them.
//!
//! A method that returns `Ok` has committed; what it returns was decided by `tollgate-core` from what the commit's own transaction
//! found. No method blocks the calling thread, but those of [`BlockingReads`], which say so.

use std::collections::BTreeMap;
use std::future::Future;

use tokio::sync::watch;
use tollgate_core::admission::Admission;
use tollgate_core::event::Event;
use tollgate_core::ids::{
    ActionId, DeliveryId, HostName, JobId, LeaseEpoch, OutboxId, PluginDigest, PluginName, ReceiptId, RouteName,
    SecretName, TenantName, TokenId,
};
use tollgate_core::review::Target;
use tollgate_core::secret::Secret;
use tollgate_core::state::StateValue;
use tollgate_core::time::UnixMillis;

use crate::registry::{
    Act, Answered, ApiRoute, BindingChange, BoundRoute, ChangeRequest, ConfiguredRoute, HistoryFilter, KeyRegistered,
    NamespaceChange, NewPublisherKey, NewVersion, PluginVersion, PublisherKeyView, RegistryLine, RevokePublisherKey,
    RouteNamespace, SetRoute, ShadowFilter, ShadowRecord, ShadowReport, StepRequest, TrialRecord, VersionFilter,
};
use crate::{
    Admitted, AskedList, AttemptRecord, AttemptRecorded, BudgetAsked, BudgetView, Bulk, BulkAbort, BulkFilter,
    BulkStep, ChainView, ClaimRequest, Count, Counts, DeadLetter, DeadLetterFilter, Drain, DrainReport, GroupFailures,
    HostView, IssueChange, IssueFilter, IssueRecord, Item, JobClaim, KeptDelivery, NewBulk, NewSettings, NewToken,
    NextDue, Notified, OldestWaiting, OutboxClaims, OutboxHold, Page, Pause, Place, PullEnd, PullEnded, PullRequest,
    Quarantine, Quotas, RecordedRun, RecordedRunFilter, ReplayReport, ReplayRequest, ResendRequest, ReviewAnswer,
    ReviewRequest, Revocation, Routable, RoutableFilter, SealedSecret, SecretReseal, Sent, SentFilter, SetAside,
    SetAsideCount, SetAsideFilter, SettingsLine, SettingsPut, SettingsVersion, Settled, Settlement, StateEdit,
    StateEditView, StateEdited, StateEntry, StateFilter, StoreError, TokenRecord, Topic, Trace, TraceQuery,
};

/// The durable store of a host. Cheap to clone; all clones are one store.
pub trait Store: Intake + Work + Outbox + Views + Control + Changes {
    /// Finishes what is queued and closes. Later calls get [`StoreError::Closed`].
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// Has the key under which receipt ids are made.
pub trait ReceiptKey: Clone + Send + Sync + 'static {
    /// Drawn once, when the store is created.
    fn receipt_key(&self) -> &Secret;
}

/// Takes verified events in.
pub trait Intake: ReceiptKey {
    /// Admits verified events, those of one request, in their order and in one commit: all of them or none. On `Ok` each has a
    /// durable receipt or delivery row, and an accepted event its jobs.
    ///
    /// # Errors
    /// [`StoreError::Full`] when the queue is full, [`StoreError::NoSpace`], [`StoreError::Fatal`]; in each case do not acknowledge.
    fn admit(&self, admissions: Vec<Admission>) -> impl Future<Output = Result<Vec<Admitted>, StoreError>> + Send;
}

/// Leases jobs and settles them.
pub trait Work: Clone + Send + Sync + 'static {
    /// Leases jobs that are due: ready or with an expired lease, the oldest first, at most one per lane at a time and none
    /// while an older job of its lane is unfinished.
    fn claim_jobs(&self, request: ClaimRequest) -> impl Future<Output = Result<Vec<JobClaim>, StoreError>> + Send;

    /// Moves the end of a job's lease to `until`, for a run that waits or takes longer than its lease. Returns false when the lease is
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

    /// Puts a version of a plugin into quarantine on a route, if it is not there.
    fn quarantine(&self, quarantine: Quarantine) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Keeps what a shadow did. It has no other effect.
    fn record_shadow_run(&self, record: ShadowRecord) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Completes when jobs may have become ready since it last did. What comes while nobody waits is kept for the next who does.
    /// It carries no data: whoever wakes reads the store again.
    fn work_ready(&self) -> impl Future<Output = ()> + Send;

    /// What a run reads while its plugin waits, for threads that may block.
    fn blocking(&self) -> &impl BlockingReads;
}

/// Reads that block the calling thread: for plugin threads, and never where futures are polled.
pub trait BlockingReads: Sync {
    /// Reads one value of a plugin's state with its version.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn read_state(&self, tenant: &TenantName, plugin: &PluginName, key: &str) -> Result<StateValue, StoreError>;
}

/// Leases outbox entries and records what became of them.
pub trait Outbox: Clone + Send + Sync + 'static {
    /// Leases outbox entries that are due, destinations by turns, the oldest of each first, and at most a destination's quota of its entries.
    fn claim_outbox(
        &self,
        request: ClaimRequest,
        quotas: Quotas,
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

    /// Leases entries of one destination that are due for whoever owns it, the oldest first, and records an attempt that failed for each whose
    /// lease ran out. The leases are on the disk, and outlive the host.
    fn pull(&self, request: PullRequest) -> impl Future<Output = Result<OutboxClaims, StoreError>> + Send;

    /// Appends an attempt and ends its entry for each lease that is still its entry's newest; says of the others why not.
    fn end_pulled(&self, end: PullEnd) -> impl Future<Output = Result<Vec<PullEnded>, StoreError>> + Send;

    /// As [`Work::work_ready`], for outbox entries.
    fn outbox_ready(&self) -> impl Future<Output = ()> + Send;
}

/// Shows what is there. Nothing is changed.
pub trait Views: Clone + Send + Sync + 'static {
    /// Finds receipts by any one identifier, newest first, with everything that became of them.
    fn trace(&self, query: TraceQuery) -> impl Future<Output = Result<Vec<Trace>, StoreError>> + Send;

    /// The event of a receipt, as it was admitted.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such receipt.
    fn event(&self, receipt: ReceiptId) -> impl Future<Output = Result<Event, StoreError>> + Send;

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

    /// A page of a list, newest first: what fits the filter of what one page looks at.
    fn list(&self, asked: AskedList) -> impl Future<Output = Result<Page<Item>, StoreError>> + Send;

    /// How many of a list fit, of what one count looks at.
    fn count(&self, asked: AskedList) -> impl Future<Output = Result<Count, StoreError>> + Send;

    /// Bulk actions, newest first.
    fn bulks(&self, filter: BulkFilter) -> impl Future<Output = Result<Vec<Bulk>, StoreError>> + Send;

    /// Issues, those that failed last in front.
    fn issues(&self, filter: IssueFilter) -> impl Future<Output = Result<Vec<IssueRecord>, StoreError>> + Send;

    /// How many dead letters are not grouped into issues yet.
    fn ungrouped_failures(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Lists dead letters, newest first.
    fn dead_letters(
        &self,
        filter: DeadLetterFilter,
    ) -> impl Future<Output = Result<Vec<DeadLetter>, StoreError>> + Send;

    /// Lists deliveries, the oldest first: those of what the filter names, in whatever state, or those delivered that match it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when what the filter names is not there, or is not the tenant's.
    fn sent(&self, filter: SentFilter) -> impl Future<Output = Result<Vec<Sent>, StoreError>> + Send;

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

    /// What is spent of budgets in the windows of `at`, in their order. Of budgets that each account has: what `account` has spent, or
    /// without one the [`BUDGET_ACCOUNTS_MAX`](crate::BUDGET_ACCOUNTS_MAX) accounts that have spent most.
    fn budgets(
        &self,
        asked: Vec<BudgetAsked>,
        account: Option<String>,
        at: UnixMillis,
    ) -> impl Future<Output = Result<Vec<BudgetView>, StoreError>> + Send;

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

    /// Lists recorded runs with all that they read, the oldest first.
    fn recorded_runs(
        &self,
        filter: RecordedRunFilter,
    ) -> impl Future<Output = Result<Vec<RecordedRun>, StoreError>> + Send;

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

    /// What is in quarantine, the newest first.
    fn quarantines(&self) -> impl Future<Output = Result<Vec<Quarantine>, StoreError>> + Send;

    /// What is paused, the longest first.
    fn pauses(&self) -> impl Future<Output = Result<Vec<Pause>, StoreError>> + Send;

    /// How often each tenant's settings or secrets changed: whoever knows them at a number knows them still while it stays.
    fn settings_changes(&self) -> impl Future<Output = Result<BTreeMap<TenantName, u64>, StoreError>> + Send;

    /// A version of a tenant's settings, or the newest; none where there is no such version, or it is no longer kept.
    fn settings(
        &self,
        tenant: TenantName,
        version: Option<u64>,
    ) -> impl Future<Output = Result<Option<SettingsVersion>, StoreError>> + Send;

    /// A tenant's versions of settings without their texts, the newest first.
    fn settings_versions(
        &self,
        tenant: TenantName,
        rows_max: usize,
    ) -> impl Future<Output = Result<Vec<SettingsLine>, StoreError>> + Send;

    /// A tenant's secrets as they are kept: sealed, by name.
    fn sealed_secrets(&self, tenant: TenantName) -> impl Future<Output = Result<Vec<SealedSecret>, StoreError>> + Send;

    /// All tokens, the newest first; ended ones too.
    fn tokens(&self) -> impl Future<Output = Result<Vec<TokenRecord>, StoreError>> + Send;

    /// Versions, the newest first.
    fn plugin_versions(
        &self,
        filter: VersionFilter,
    ) -> impl Future<Output = Result<Vec<PluginVersion>, StoreError>> + Send;

    /// The bytes of a component.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is not in the registry.
    fn component(&self, digest: PluginDigest) -> impl Future<Output = Result<Vec<u8>, StoreError>> + Send;

    /// What each route runs; of one tenant or of all.
    fn bindings(&self, tenant: Option<TenantName>) -> impl Future<Output = Result<Vec<BoundRoute>, StoreError>> + Send;

    /// The routes that were set by API, of all tenants.
    fn api_routes(&self) -> impl Future<Output = Result<Vec<ApiRoute>, StoreError>> + Send;

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

    /// What a route's shadow did.
    fn shadow_runs(&self, filter: ShadowFilter) -> impl Future<Output = Result<ShadowReport, StoreError>> + Send;

    /// The due time of the earliest job or outbox entry that waits for its time, for whoever sleeps until then.
    fn next_due(&self) -> impl Future<Output = Result<NextDue, StoreError>> + Send;

    /// Since when the oldest job and the oldest delivery wait that are not finished, whenever they are due.
    fn oldest_waiting(&self) -> impl Future<Output = Result<OldestWaiting, StoreError>> + Send;

    /// The hosts that share the store, by name; none where one host has it alone.
    fn hosts(&self) -> impl Future<Output = Result<Vec<HostView>, StoreError>> + Send;

    /// How far the chain of receipts goes.
    fn chain(&self) -> impl Future<Output = Result<ChainView, StoreError>> + Send;

    /// How much of everything there is.
    fn counts(&self) -> impl Future<Output = Result<Counts, StoreError>> + Send;
}

/// Does what people and their configuration ask for.
pub trait Control: ReceiptKey {
    /// Puts dead jobs or deliveries and held jobs back to work, runs a receipt's jobs again, or makes jobs that receipts lack. Operation keys keep a replay from having a
    /// second effect. With `dry_run` nothing is written and the answer says what would be.
    fn replay(&self, request: ReplayRequest) -> impl Future<Output = Result<ReplayReport, StoreError>> + Send;

    /// Has delivered entries sent again, under the names that they had, and writes who asked for it and why into their receipts'
    /// history. Returns which: one that is no longer delivered is left as it is.
    fn resend(&self, request: ResendRequest) -> impl Future<Output = Result<Vec<OutboxId>, StoreError>> + Send;

    /// Groups the next dead letters into issues, each once, and sends a notice of what is opened by that. Returns how many it grouped.
    fn group_failures(&self, request: GroupFailures) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Sets what a person says of an issue, sends a notice where that changes anything, and returns what it is then.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such issue.
    fn change_issue(
        &self,
        change: IssueChange,
        notified: Notified,
    ) -> impl Future<Output = Result<IssueRecord, StoreError>> + Send;

    /// Begins a bulk action. Nothing is done yet.
    fn start_bulk(&self, bulk: NewBulk) -> impl Future<Output = Result<Bulk, StoreError>> + Send;

    /// Does a step of a bulk action, and returns how far it is now: where it did not go on from the step's place any more, nothing was done.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such bulk action.
    fn step_bulk(&self, step: BulkStep) -> impl Future<Output = Result<Bulk, StoreError>> + Send;

    /// Ends a bulk action, and returns how far it came. One that has ended is left as it is.
    ///
    /// # Errors
    /// As [`Control::step_bulk`].
    fn abort_bulk(&self, abort: BulkAbort) -> impl Future<Output = Result<Bulk, StoreError>> + Send;

    /// Records what a person decided about something that is set aside. In one commit: the decision, what follows from it (the
    /// subject's status and the receipt's jobs, the job that runs again, the event or the action that a conflict becomes) and a line of history.
    /// The receipt itself is not changed. With `dry_run` nothing is written and the answer says what would be.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such thing. A decision that cannot be taken is an answer, not an error.
    fn review(&self, request: ReviewRequest) -> impl Future<Output = Result<ReviewAnswer, StoreError>> + Send;

    /// Sets or removes one key because a person asks for it, if it still has the version that the person saw. Runs that read it before are
    /// made again.
    ///
    /// # Errors
    /// When the store cannot be written; nothing is changed then.
    fn edit_state(&self, edit: StateEdit) -> impl Future<Output = Result<StateEdited, StoreError>> + Send;

    /// Lets the versions that are in quarantine on a route run again, or with a dry run changes nothing. Returns which those were.
    fn lift_quarantine(
        &self,
        tenant: TenantName,
        route: RouteName,
        act: Act,
    ) -> impl Future<Output = Result<Vec<Quarantine>, StoreError>> + Send;

    /// Pauses a route or a destination: of what is not leased by then nothing begins, on any host, until it is resumed. One that is paused already stays
    /// as it is. Returns its pause.
    fn pause(
        &self,
        tenant: TenantName,
        place: Place,
        act: Act,
    ) -> impl Future<Output = Result<Pause, StoreError>> + Send;

    /// Ends a pause: what waited is due. Returns which it was; none where nothing was paused.
    fn resume(
        &self,
        tenant: TenantName,
        place: Place,
        act: Act,
    ) -> impl Future<Output = Result<Option<Pause>, StoreError>> + Send;
    /// Has the hosts of a name claim nothing from now on (on another host within a second), or with none again. A dry run says what that would
    /// change, and changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when no host of that name is known, as where one host has the store alone.
    fn drain_host(
        &self,
        name: HostName,
        drain: Option<Drain>,
        dry_run: bool,
    ) -> impl Future<Output = Result<DrainReport, StoreError>> + Send;

    /// Keeps a version of a tenant's settings, if the newest is still the one that it was made from.
    fn put_settings(&self, new: NewSettings) -> impl Future<Output = Result<SettingsPut, StoreError>> + Send;

    /// Keeps a tenant's secret in the place of the one of its name. Returns whether there was one.
    fn put_secret(
        &self,
        tenant: TenantName,
        secret: SealedSecret,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Puts a tenant's secret under another key, if it is still sealed as it was when it was read. Returns whether it did.
    fn reseal_secret(
        &self,
        tenant: TenantName,
        reseal: SecretReseal,
        act: Act,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Removes a tenant's secret. Returns whether there was one.
    fn remove_secret(
        &self,
        tenant: TenantName,
        name: SecretName,
        act: Act,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Keeps a token of the private listener.
    fn issue_token(&self, token: NewToken) -> impl Future<Output = Result<TokenId, StoreError>> + Send;

    /// Ends a token for good. Returns whether it was not ended before.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such token.
    fn revoke_token(&self, id: TokenId, end: Revocation) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Keeps a vetted component in the registry. One that is there already is returned as it is.
    fn add_version(&self, version: NewVersion, act: Act) -> impl Future<Output = Answered<PluginVersion>> + Send;

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

    /// Lets routes that nobody bound by hand run what the configuration names. Returns those that could not, because the version
    /// is not published any more.
    fn follow_configuration(
        &self,
        routes: Vec<ConfiguredRoute>,
        act: Act,
    ) -> impl Future<Output = Result<Vec<ConfiguredRoute>, StoreError>> + Send;

    /// Keeps under which namespaces these routes record from now on, and returns those that did so under another before: what was
    /// recorded there is not recognised under the new one. Each of them is a line of the registry's history. A dry run changes nothing.
    fn follow_namespaces(
        &self,
        routes: Vec<RouteNamespace>,
        act: Act,
    ) -> impl Future<Output = Result<Vec<NamespaceChange>, StoreError>> + Send;

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

    /// Believes a publisher's key no more. Returns whether it was believed before.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such key.
    fn revoke_publisher_key(
        &self,
        request: RevokePublisherKey,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Keeps the result of a trial, for the gate of a promotion.
    fn record_trial(&self, trial: TrialRecord) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Tells a host when something that it keeps in memory is out of date.
pub trait Changes: Clone + Send + Sync + 'static {
    /// The number of changes of a topic, by whomever: it moves once a change is committed, and before whoever asked for the change is
    /// answered. What is read after the number was looked at is at least as new as the number.
    fn subscribe(&self, topic: Topic) -> watch::Receiver<u64>;
}
