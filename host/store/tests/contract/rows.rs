//! The store of rows, as a guest has it: each call opens the database anew, as each invocation does, and a query gives whole rows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::types::Value as Sqlite;
use rusqlite::{Connection, params_from_iter};
use tempfile::TempDir;
use tokio::sync::watch;
use tollgate_core::admission::Admission;
use tollgate_core::event::Event;
use tollgate_core::ids::{
    ActionId, DeliveryId, HostName, JobId, LeaseEpoch, OutboxId, PluginDigest, PluginName, ReceiptId, RouteName,
    SecretName, TenantName, TokenId,
};
use tollgate_core::registry::Refused;
use tollgate_core::review::Target;
use tollgate_core::secret::Secret;
use tollgate_core::state::StateValue;
use tollgate_core::time::UnixMillis;
use tollgate_store::registry::{
    Act, ApiRoute, BindingChange, BoundRoute, ChangeRequest, ConfiguredRoute, HistoryFilter, KeyRegistered,
    NamespaceChange, NewPublisherKey, NewVersion, PluginVersion, PublisherKeyView, RegistryLine, RevokePublisherKey,
    RouteNamespace, SetRoute, ShadowFilter, ShadowRecord, ShadowReport, StepRequest, TrialRecord, VersionFilter,
};
use tollgate_store::{
    Admitted, Answer, AskedList, AttemptRecord, AttemptRecorded, BlockingReads, BudgetAsked, BudgetView, Bulk,
    BulkAbort, BulkFilter, BulkStep, ChainView, Changes, ClaimRequest, Control, Count, Counts, DeadLetter,
    DeadLetterFilter, Drain, DrainReport, Driver, DriverError, GroupFailures, GuestStore, HostView, Intake,
    IssueChange, IssueFilter, IssueRecord, Item, JobClaim, KeptDelivery, NewBulk, NewSettings, NewToken, NextDue,
    Notified, OldestWaiting, Outbox, OutboxClaims, OutboxHold, Page, Pause, Place, PullEnd, PullEnded, PullRequest,
    Quarantine, Quotas, ReceiptKey, RecordedRun, RecordedRunFilter, ReplayReport, ReplayRequest, ResendRequest,
    ReviewAnswer, ReviewRequest, Revocation, Routable, RoutableFilter, SealedSecret, SecretReseal, Sent, SentFilter,
    SetAside, SetAsideCount, SetAsideFilter, SettingsLine, SettingsPut, SettingsVersion, Settled, Settlement,
    SqliteStore, StateEdit, StateEditView, StateEdited, StateEntry, StateFilter, Store, StoreError, TokenRecord, Topic,
    Trace, TraceQuery, Value, Views, Work,
};

use crate::support::Backend;

/// A place for one store of rows.
pub(crate) struct Rows(TempDir);

impl Rows {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap()))
    }
}

impl Backend for Rows {
    type Store = RowStore;

    fn open(&self) -> RowStore {
        let path = self.0.path().join("sqlite_db.db");
        let store = GuestStore::open(Host::open(&path)).unwrap();
        RowStore {
            key: Arc::new(Secret::new(store.receipt_key().expose().to_vec())),
            path,
        }
    }

    /// A native host reads a guest's database as its own.
    fn problems(&self, store: &RowStore) -> Vec<String> {
        SqliteStore::open_read_only(&store.path)
            .unwrap()
            .audited()
            .unwrap()
            .in_words()
    }
}

/// What a guest's host makes of SQLite: one statement per call, and every row of its answer.
struct Host(Connection);

impl Host {
    fn open(path: &Path) -> Self {
        Self(Connection::open(path).unwrap())
    }
}

impl Driver for Host {
    fn execute(&self, sql: &str, parameters: Vec<Value>) -> Result<Answer, DriverError> {
        let failed = |error: rusqlite::Error| DriverError::Other(error.to_string());
        let mut statement = self.0.prepare(sql).map_err(failed)?;
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let parameters = params_from_iter(parameters.into_iter().map(to_sqlite));
        let mut found = statement.query(parameters).map_err(failed)?;
        let mut rows = Vec::new();
        while let Some(row) = found.next().map_err(failed)? {
            let values = (0..columns.len()).map(|at| row.get(at).map(of_sqlite));
            rows.push(values.collect::<Result<_, _>>().map_err(failed)?);
        }
        Ok(Answer { columns, rows })
    }

    fn last_insert_rowid(&self) -> i64 {
        self.0.last_insert_rowid()
    }

    fn changes(&self) -> u64 {
        self.0.changes()
    }
}

fn to_sqlite(value: Value) -> Sqlite {
    match value {
        Value::Null => Sqlite::Null,
        Value::Integer(number) => Sqlite::Integer(number),
        Value::Real(number) => Sqlite::Real(number),
        Value::Text(text) => Sqlite::Text(text),
        Value::Blob(bytes) => Sqlite::Blob(bytes),
    }
}

fn of_sqlite(value: Sqlite) -> Value {
    match value {
        Sqlite::Null => Value::Null,
        Sqlite::Integer(number) => Value::Integer(number),
        Sqlite::Real(number) => Value::Real(number),
        Sqlite::Text(text) => Value::Text(text),
        Sqlite::Blob(bytes) => Value::Blob(bytes),
    }
}

#[derive(Clone)]
pub(crate) struct RowStore {
    path: PathBuf,
    key: Arc<Secret>,
}

impl RowStore {
    fn of_guest(&self) -> Result<GuestStore, StoreError> {
        GuestStore::open(Host::open(&self.path))
    }
}

/// What a store of rows cannot do, because nothing that a guest offers needs it. The contract's tests of it are not run.
macro_rules! cannot {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {$(
        async fn $name(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
            let _ = ($($argument,)*);
            unreachable!("a store of rows cannot {}", stringify!($name))
        }
    )*};
}

impl ReceiptKey for RowStore {
    fn receipt_key(&self) -> &Secret {
        &self.key
    }
}

impl Intake for RowStore {
    async fn admit(&self, admissions: Vec<Admission>) -> Result<Vec<Admitted>, StoreError> {
        let now = admissions
            .first()
            .map_or(UnixMillis(0), |first| first.event.received_at);
        Ok(self.of_guest()?.admit_all(&admissions, now)?.0)
    }
}

impl Work for RowStore {
    async fn claim_jobs(&self, request: ClaimRequest) -> Result<Vec<JobClaim>, StoreError> {
        self.of_guest()?.claim_jobs(&request)
    }

    async fn extend_lease(&self, job: JobId, epoch: LeaseEpoch, until: UnixMillis) -> Result<bool, StoreError> {
        Ok(self.of_guest()?.extend_leases("w", &[(job, epoch)], until)? == [true])
    }

    async fn settle(&self, settlement: Settlement) -> Result<Settled, StoreError> {
        let (mut settled, begun) = self
            .of_guest()?
            .settle_all(&[(settlement, None)], 0, "w", UnixMillis(0))?;
        assert_eq!(begun, []);
        Ok(settled.remove(0))
    }

    /// Nobody is ever woken: a guest looks again.
    async fn work_ready(&self) {
        std::future::pending().await
    }

    fn blocking(&self) -> &impl BlockingReads {
        self
    }

    cannot! {
        quarantine(quarantine: Quarantine) -> ();
        record_shadow_run(record: ShadowRecord) -> ();
    }
}

impl BlockingReads for RowStore {
    fn read_state(&self, tenant: &TenantName, plugin: &PluginName, key: &str) -> Result<StateValue, StoreError> {
        self.of_guest()?.read_state(tenant, plugin, key)
    }
}

impl Outbox for RowStore {
    async fn claim_outbox(&self, request: ClaimRequest, quotas: Quotas) -> Result<OutboxClaims, StoreError> {
        self.of_guest()?.claim_outbox(&request, &quotas)
    }

    async fn record_attempt(&self, attempt: AttemptRecord) -> Result<AttemptRecorded, StoreError> {
        Ok(self.of_guest()?.record_attempts(&[attempt])?.remove(0))
    }

    async fn release_outbox(&self, claims: Vec<OutboxHold>, at: UnixMillis) -> Result<(), StoreError> {
        self.of_guest()?.release_outbox(&claims, at)
    }

    async fn outbox_ready(&self) {
        std::future::pending().await
    }

    cannot! {
        pull(request: PullRequest) -> OutboxClaims;
        end_pulled(end: PullEnd) -> Vec<PullEnded>;
    }
}

impl Views for RowStore {
    async fn hosts(&self) -> Result<Vec<HostView>, StoreError> {
        Ok(Vec::new())
    }

    async fn trace(&self, query: TraceQuery) -> Result<Vec<Trace>, StoreError> {
        self.of_guest()?.trace(&query)
    }

    async fn event(&self, receipt: ReceiptId) -> Result<Event, StoreError> {
        self.of_guest()?.event(receipt)
    }

    async fn receipt_of(&self, target: Target) -> Result<ReceiptId, StoreError> {
        self.of_guest()?.receipt_of(target)
    }

    async fn route_of(&self, action: ActionId) -> Result<(TenantName, RouteName), StoreError> {
        self.of_guest()?.route_of(action)
    }

    async fn list(&self, asked: AskedList) -> Result<Page<Item>, StoreError> {
        self.of_guest()?.list(&asked)
    }

    async fn count(&self, asked: AskedList) -> Result<Count, StoreError> {
        self.of_guest()?.count(&asked)
    }

    async fn dead_letters(&self, filter: DeadLetterFilter) -> Result<Vec<DeadLetter>, StoreError> {
        self.of_guest()?.dead_letters(&filter)
    }

    async fn sent(&self, filter: SentFilter) -> Result<Vec<Sent>, StoreError> {
        self.of_guest()?.sent(&filter)
    }

    async fn set_aside(&self, filter: SetAsideFilter) -> Result<Vec<SetAside>, StoreError> {
        self.of_guest()?.set_aside(&filter)
    }

    async fn set_aside_counts(&self, tenant: Option<TenantName>) -> Result<Vec<SetAsideCount>, StoreError> {
        self.of_guest()?.set_aside_counts(tenant.as_ref())
    }

    async fn budgets(
        &self,
        asked: Vec<BudgetAsked>,
        account: Option<String>,
        at: UnixMillis,
    ) -> Result<Vec<BudgetView>, StoreError> {
        self.of_guest()?.budgets(&asked, account.as_deref(), at)
    }

    async fn kept_delivery(&self, delivery: DeliveryId) -> Result<KeptDelivery, StoreError> {
        self.of_guest()?.kept_delivery(delivery)
    }

    async fn routable(&self, filter: RoutableFilter) -> Result<Vec<Routable>, StoreError> {
        self.of_guest()?.routable(&filter)
    }

    async fn recorded_runs(&self, filter: RecordedRunFilter) -> Result<Vec<RecordedRun>, StoreError> {
        SqliteStore::open_read_only(&self.path)?.recorded_runs(filter).await
    }

    async fn quarantines(&self) -> Result<Vec<Quarantine>, StoreError> {
        self.of_guest()?.quarantines()
    }

    async fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        self.of_guest()?.pauses()
    }

    async fn issues(&self, filter: IssueFilter) -> Result<Vec<IssueRecord>, StoreError> {
        self.of_guest()?.issues(&filter)
    }

    async fn ungrouped_failures(&self) -> Result<u64, StoreError> {
        self.of_guest()?.ungrouped_failures()
    }

    async fn bulks(&self, filter: BulkFilter) -> Result<Vec<Bulk>, StoreError> {
        self.of_guest()?.bulks(&filter)
    }

    async fn next_due(&self) -> Result<NextDue, StoreError> {
        self.of_guest()?.next_due()
    }

    async fn oldest_waiting(&self) -> Result<OldestWaiting, StoreError> {
        self.of_guest()?.oldest_waiting()
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.of_guest()?.counts()
    }

    cannot! {
        plugin_state(filter: StateFilter) -> Vec<StateEntry>;
        state_edits(tenant: TenantName, plugin: PluginName, key: String) -> Vec<StateEditView>;
        tokens() -> Vec<TokenRecord>;
        settings_changes() -> BTreeMap<TenantName, u64>;
        settings(tenant: TenantName, version: Option<u64>) -> Option<SettingsVersion>;
        settings_versions(tenant: TenantName, rows_max: usize) -> Vec<SettingsLine>;
        sealed_secrets(tenant: TenantName) -> Vec<SealedSecret>;
        plugin_versions(filter: VersionFilter) -> Vec<PluginVersion>;
        component(digest: PluginDigest) -> Vec<u8>;
        bindings(tenant: Option<TenantName>) -> Vec<BoundRoute>;
        api_routes() -> Vec<ApiRoute>;
        publisher_keys(tenant: Option<TenantName>) -> Vec<PublisherKeyView>;
        registry_history(filter: HistoryFilter) -> Vec<RegistryLine>;
        shadow_runs(filter: ShadowFilter) -> ShadowReport;
        chain() -> ChainView;
    }
}

impl Control for RowStore {
    async fn drain_host(&self, name: HostName, _: Option<Drain>, _: bool) -> Result<DrainReport, StoreError> {
        Err(StoreError::NotFound { what: name.to_string() })
    }

    async fn replay(&self, request: ReplayRequest) -> Result<ReplayReport, StoreError> {
        self.of_guest()?.replay(&request)
    }

    async fn group_failures(&self, request: GroupFailures) -> Result<usize, StoreError> {
        self.of_guest()?.group_failures(&request)
    }

    async fn change_issue(&self, change: IssueChange, notified: Notified) -> Result<IssueRecord, StoreError> {
        self.of_guest()?.change_issue(&change, &notified)
    }

    async fn start_bulk(&self, bulk: NewBulk) -> Result<Bulk, StoreError> {
        self.of_guest()?.start_bulk(&bulk)
    }

    async fn step_bulk(&self, step: BulkStep) -> Result<Bulk, StoreError> {
        self.of_guest()?.step_bulk(&step)
    }

    async fn abort_bulk(&self, abort: BulkAbort) -> Result<Bulk, StoreError> {
        self.of_guest()?.abort_bulk(&abort)
    }

    async fn resend(&self, request: ResendRequest) -> Result<Vec<OutboxId>, StoreError> {
        self.of_guest()?.resend(&request)
    }

    async fn review(&self, request: ReviewRequest) -> Result<ReviewAnswer, StoreError> {
        self.of_guest()?.review(&request)
    }

    async fn lift_quarantine(
        &self,
        tenant: TenantName,
        route: RouteName,
        act: Act,
    ) -> Result<Vec<Quarantine>, StoreError> {
        self.of_guest()?.lift_quarantine(&tenant, &route, &act)
    }

    async fn pause(&self, tenant: TenantName, place: Place, act: Act) -> Result<Pause, StoreError> {
        self.of_guest()?.pause(&tenant, &place, &act)
    }

    async fn resume(&self, tenant: TenantName, place: Place, act: Act) -> Result<Option<Pause>, StoreError> {
        self.of_guest()?.resume(&tenant, &place, &act)
    }

    cannot! {
        edit_state(edit: StateEdit) -> StateEdited;
        issue_token(token: NewToken) -> TokenId;
        put_settings(new: NewSettings) -> SettingsPut;
        put_secret(tenant: TenantName, secret: SealedSecret) -> bool;
        reseal_secret(tenant: TenantName, reseal: SecretReseal, act: Act) -> bool;
        remove_secret(tenant: TenantName, name: SecretName, act: Act) -> bool;
        revoke_token(id: TokenId, end: Revocation) -> bool;
        add_version(version: NewVersion, act: Act) -> Result<PluginVersion, Refused>;
        step_version(request: StepRequest) -> Result<PluginVersion, Refused>;
        change_binding(request: ChangeRequest) -> Result<BindingChange, Refused>;
        follow_configuration(routes: Vec<ConfiguredRoute>, act: Act) -> Vec<ConfiguredRoute>;
        follow_namespaces(routes: Vec<RouteNamespace>, act: Act) -> Vec<NamespaceChange>;
        set_route(request: SetRoute) -> Result<BindingChange, Refused>;
        remove_route(tenant: TenantName, route: RouteName, configured: Option<ConfiguredRoute>, act: Act) -> Result<BindingChange, Refused>;
        register_publisher_key(key: NewPublisherKey) -> KeyRegistered;
        revoke_publisher_key(request: RevokePublisherKey) -> bool;
        record_trial(trial: TrialRecord) -> ();
    }
}

impl Changes for RowStore {
    fn subscribe(&self, _topic: Topic) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

impl Store for RowStore {
    /// Nothing is open between two calls.
    async fn close(&self) {}
}
