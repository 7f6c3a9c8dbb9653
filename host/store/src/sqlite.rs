//! The embedded store: SQLite in one file, with the bodies of receipts in another beside it; one process at a time writes.
//!
//! Cast: the `writer` thread owns the connection that writes and commits in groups; `readers` lends connections that
//! cannot write; `open` makes the file ready; the other modules say what happens inside a transaction, one per concern.
//! Decisions come from `tollgate-core`, called inside the transaction with what that transaction found.

mod audit;
mod backup;
mod carrier;
mod connection;
mod open;
mod pin;
mod readers;
mod receipts;
mod state;
mod writer;

pub use self::writer::ReplyBatcher;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tollgate_core::admission::Admission;
use tollgate_core::checkpoint::Checkpoint;
use tollgate_core::event::Event;
use tollgate_core::ids::{
    ActionId, DeliveryId, JobId, LeaseEpoch, OutboxId, PluginDigest, PluginName, ReceiptId, RouteName, TenantName,
    TokenId,
};
use tollgate_core::limits;
use tollgate_core::review::Target;
use tollgate_core::secret::Secret;
use tollgate_core::state::StateValue;
use tollgate_core::time::UnixMillis;

use self::open::{SoleUse, StorePath};
use self::readers::Readers;
use self::receipts::{Layout, MemoryBounds, View, Whole};
use self::writer::{Shared, Writer, WriterBounds};
use crate::audit::{AuditProgress, AuditReport};
use crate::backup::{BackupError, BackupProgress, Manifest};
use crate::registry::rows::RegistryRows as _;
use crate::registry::{
    Act, Answered, ApiRoute, BindingChange, BoundRoute, ChangeRequest, ConfiguredRoute, HistoryFilter, KeyRegistered,
    NamespaceChange, NewPublisherKey, NewVersion, PluginVersion, PublisherKeyView, RegistryLine, RevokePublisherKey,
    RouteNamespace, SetRoute, ShadowFilter, ShadowRecord, ShadowReport, StepRequest, TrialRecord, VersionFilter, rules,
};
use crate::sql::Connection;
use crate::statements::fault::Fault;
use crate::statements::transaction::{self, Transaction};
use crate::statements::{
    admit, counts, deliveries, fault, jobs, outbox, quarantine, registry, relations, replay, resends, reviews, rows,
    runs, schema, set_aside, state_edits, tokens, trace,
};
use crate::{
    Admitted, AttemptRecord, AttemptRecorded, BlockingReads, Changes, ClaimRequest, Control, Counts, DeadLetter,
    DeadLetterFilter, Intake, JobClaim, KeptDelivery, LogStanding, NewToken, NextDue, Outbox, OutboxClaims, OutboxHold,
    Quarantine, Quotas, ReceiptKey, RecordedRun, RecordedRunFilter, ReplayReport, ReplayRequest, ResendRequest,
    ReviewAnswer, ReviewRequest, Revocation, Routable, RoutableFilter, Sent, SentFilter, SetAside, SetAsideCount,
    SetAsideFilter, Settled, Settlement, StateEdit, StateEditView, StateEdited, StateEntry, StateFilter, Store,
    StoreError, TokenRecord, Topic, Trace, TraceQuery, Views, Work,
};
/// Bounds of a [`SqliteStore`].
#[derive(Debug, Clone, Copy)]
pub struct OpenOptions {
    /// Writes that wait at most; one more is answered [`StoreError::Full`]. Together with the largest body this bounds the
    /// memory that waiting takes. Default 4096.
    pub write_queue_max: usize,
    /// Writes in one commit at most. A commit takes what is waiting and never waits for more. Default 512.
    pub write_batch_max: usize,
    /// The WAL is moved into the file when it is longer than this. Twice this is the most it grows to, and a disk that cannot follow makes
    /// whoever writes wait; unless a reader keeps an old snapshot: then it grows until that ends, and the host says who it is. Default 64 MiB: pages that many events touch are then moved once for all of them.
    pub wal_bytes_max: u64,
    /// What was answered is committed within so many milliseconds, where nobody needs it sooner: what comes meanwhile shares the commit.
    /// Acknowledged events are durable before their answer, whatever this is. Default 25.
    pub commit_ms_max: u64,
    /// The file is never made larger than this; then writes answer [`StoreError::NoSpace`]. The WAL is not counted.
    /// Default: as large as the disk.
    pub file_bytes_max: Option<u64>,
    /// How a new store keeps its receipts; one that exists keeps the layout that it was made with.
    pub layout: Layout,
    /// Receipts whose keys wait in memory until they are carried into the indexes, twice as many at most: about 150 bytes each, beside
    /// 8 MiB that say which keys the indexes lack.
    /// Only for [`Layout::Segments`]. Default 65,536.
    pub keys_in_memory_max: usize,
    /// Bytes of newest receipts that are kept in memory for their jobs. Only for [`Layout::Segments`]. Default 16 MiB.
    pub recent_bytes_max: usize,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            write_queue_max: 4096,
            write_batch_max: 512,
            wal_bytes_max: limits::WAL_BYTES_MAX,
            commit_ms_max: 25,
            file_bytes_max: None,
            layout: Layout::default(),
            keys_in_memory_max: limits::KEYS_IN_MEMORY_MAX,
            recent_bytes_max: 16 * 1024 * 1024,
        }
    }
}

/// The SQLite store. Clones share one writer and its files, which are closed when the last is dropped.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: StorePath,
    receipt_key: Arc<Secret>,
    layout: Layout,
    /// For readers.
    receipts: Arc<dyn Whole>,
    // Before the writer: readers are closed first, so that the writer is the last to close and leaves no WAL behind.
    readers: Readers,
    access: Access,
}

#[derive(Debug)]
enum Access {
    ReadWrite(Writer),
    /// Beside a running server. The signals never wake.
    ReadOnly(Arc<Shared>),
}

impl SqliteStore {
    /// Opens a store, makes it if it does not exist, and migrates it if it is older. Blocks.
    ///
    /// Jobs and outbox entries that were leased when the last process ended are free at once.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process (or this one) has it open, [`StoreError::NewerSchema`],
    /// [`StoreError::NoSpace`], [`StoreError::Corrupt`], and [`StoreError::Open`] for all else.
    pub fn open(path: impl AsRef<Path>, options: OpenOptions) -> Result<Self, StoreError> {
        let path = StorePath::new(path.as_ref())?;
        let sole_use = SoleUse::take(&path)?;
        open::keep_private(&path)?;
        let was_left_open = path.was_left_open();
        open::end_log(&path)?;
        let connection = open::open_writer(&path, options.file_bytes_max, options.layout)?;
        let receipt_key = Arc::new(open::receipt_key(&path, &connection)?);
        let layout = Layout::read(&connection).map_err(|fault| path.opening(fault))?;
        let bounds = WriterBounds {
            queue_max: options.write_queue_max,
            batch_max: options.write_batch_max,
            wal_bytes_max: options.wal_bytes_max,
            commit_max: Duration::from_millis(options.commit_ms_max),
            memory: MemoryBounds {
                keys_max: options.keys_in_memory_max,
                recent_bytes_max: options.recent_bytes_max,
                file_bytes_max: options.file_bytes_max,
            },
        };
        let writer = Writer::start(connection, sole_use, &path, &receipt_key, was_left_open, bounds)?;
        let readers = Readers::new(path.clone());
        let receipts = receipts::of_readers(layout, &path)?;
        Ok(Self {
            inner: Arc::new(Inner {
                path,
                receipt_key,
                layout,
                receipts,
                readers,
                access: Access::ReadWrite(writer),
            }),
        })
    }

    /// Opens an existing store for reading only, beside a process that may be writing it. Blocks.
    /// What writes answers [`StoreError::ReadOnly`]; a replay may still be tried dry.
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`], and [`StoreError::Open`] when there is no store or it has an older schema.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = StorePath::new(path.as_ref())?;
        open::take_in_records(&path);
        let connection = open::open_reader(&path)?;
        open::check_schema(&path, &connection)?;
        let receipt_key = Arc::new(open::receipt_key(&path, &connection)?);
        let layout = Layout::read(&connection).map_err(|fault| path.opening(fault))?;
        let readers = Readers::new(path.clone());
        let receipts = receipts::of_readers(layout, &path)?;
        Ok(Self {
            inner: Arc::new(Inner {
                path,
                receipt_key,
                layout,
                receipts,
                readers,
                access: Access::ReadOnly(Arc::default()),
            }),
        })
    }

    /// Writes a whole copy of the store, as of one commit, to a path where nothing is yet. Blocks. The copy is synced, and no
    /// process holds it. It is one file, and in the layout that every host reads: [`Layout::Rows`].
    ///
    /// # Errors
    /// [`StoreError::Open`] when something is there already or it cannot be written, [`StoreError::NoSpace`].
    pub fn copy_to(&self, to: impl AsRef<Path>) -> Result<(), StoreError> {
        self.shared().check()?;
        self.shared().wait_until_shown();
        open::copy(&self.inner.path, &*self.inner.receipts, &StorePath::new(to.as_ref())?)
    }

    /// Backs the store up into a folder that does not exist or is empty, beside a host that goes on writing. Every event that was
    /// acknowledged before the call is in it. Blocks. Meanwhile the host's log cannot be emptied and grows with what it takes in.
    ///
    /// # Errors
    /// [`StoreError::Open`] when the folder is not empty or cannot be written, [`StoreError::NoSpace`]. Then the folder has no manifest.
    pub fn backup_to(
        &self,
        folder: &Path,
        version: &str,
        begun_at: UnixMillis,
        watch: &mut dyn FnMut(BackupProgress),
    ) -> Result<Manifest, StoreError> {
        self.shared().check()?;
        self.shared().wait_until_shown();
        backup::backup(&self.inner.path, self.inner.layout, folder, version, begun_at, watch)
    }

    /// Holds a backup's files against its manifest. Blocks, for as long as it takes to read all.
    ///
    /// # Errors
    /// The first file that is not as it was backed up.
    pub fn verify_backup(folder: &Path) -> Result<Manifest, BackupError> {
        backup::verify(folder)
    }

    /// Puts a backup where a store is to be, and nothing is yet. Blocks.
    ///
    /// # Errors
    /// When something is there, a file is not as it was backed up, or nothing can be written. Then nothing is left there.
    pub fn restore_backup(folder: &Path, store: &Path) -> Result<Manifest, BackupError> {
        backup::restore(folder, store)
    }

    /// Reads a store's files, beside a process that may be writing them, and says whether they are whole and still begin with
    /// what `checkpoints` say. Whatever is damaged in them is part of the answer. Blocks, for as long as it takes to read all.
    ///
    /// # Errors
    /// When there is no store, it has another schema, or its files may not be read.
    pub fn audit(
        path: impl AsRef<Path>,
        checkpoints: &[Checkpoint],
        watch: &mut dyn FnMut(AuditProgress),
    ) -> Result<AuditReport, StoreError> {
        audit::audit(path.as_ref(), checkpoints, watch)
    }

    /// As [`Self::audit`], of the store itself, with all that it has answered. Blocks.
    ///
    /// # Errors
    /// As [`Self::audit`], and when the store is closed.
    pub fn audited(&self) -> Result<AuditReport, StoreError> {
        self.shared().check()?;
        self.shared().wait_until_shown();
        audit::audit(self.inner.path.path(), &[], &mut |_| {})
    }

    /// How long the write-ahead log is.
    pub fn log_standing(&self) -> LogStanding {
        self.shared().log_standing()
    }

    fn shared(&self) -> &Arc<Shared> {
        match &self.inner.access {
            Access::ReadWrite(writer) => writer.shared(),
            Access::ReadOnly(shared) => shared,
        }
    }

    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        match &self.inner.access {
            Access::ReadWrite(writer) => writer.write(work).await,
            Access::ReadOnly(_) => Err(StoreError::ReadOnly {
                path: self.inner.path.text.clone(),
            }),
        }
    }

    /// A write that answers when it is done; it is committed and synced later, unless it marks itself as one that must be.
    async fn write_unsynced<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        match &self.inner.access {
            Access::ReadWrite(writer) => writer.write_unsynced(work).await,
            Access::ReadOnly(_) => Err(StoreError::ReadOnly {
                path: self.inner.path.text.clone(),
            }),
        }
    }

    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(View<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.shared().check()?;
        if let Access::ReadWrite(writer) = &self.inner.access {
            writer.show().await;
        }
        let receipts = Arc::clone(&self.inner.receipts);
        self.inner
            .readers
            .read(move |connection| work(View::new(connection, &*receipts)))
            .await
    }

    /// A change of the registry, which may be tried dry: then a reader does it, which could not write.
    async fn act<T, F>(&self, dry_run: bool, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        if dry_run {
            self.read(move |view| work(view.connection)).await
        } else {
            self.write(move |transaction| {
                transaction.changed.push(Topic::Registry);
                work(transaction.connection)
            })
            .await
        }
    }
}

impl Store for SqliteStore {
    async fn close(&self) {
        self.inner.readers.close_idle();
        match &self.inner.access {
            Access::ReadWrite(writer) => writer.close().await,
            Access::ReadOnly(shared) => shared.stop(),
        }
    }
}

impl ReceiptKey for SqliteStore {
    fn receipt_key(&self) -> &Secret {
        &self.inner.receipt_key
    }
}

impl Intake for SqliteStore {
    async fn admit(&self, admissions: Vec<Admission>) -> Result<Vec<Admitted>, StoreError> {
        let key = Arc::clone(&self.inner.receipt_key);
        self.write_unsynced(move |transaction| {
            let admit = |admission| admit::admit(transaction, &key, admission);
            admissions.iter().map(admit).collect()
        })
        .await
    }
}

impl Work for SqliteStore {
    async fn claim_jobs(&self, request: ClaimRequest) -> Result<Vec<JobClaim>, StoreError> {
        self.write_unsynced(move |transaction| jobs::claim(transaction, &request))
            .await
    }

    async fn extend_lease(&self, job: JobId, epoch: LeaseEpoch, until: UnixMillis) -> Result<bool, StoreError> {
        self.write_unsynced(move |transaction| jobs::extend_lease(transaction, job, epoch, until))
            .await
    }

    async fn settle(&self, settlement: Settlement) -> Result<Settled, StoreError> {
        self.write_unsynced(move |transaction| jobs::settle(transaction, &settlement))
            .await
    }

    async fn quarantine(&self, quarantine: Quarantine) -> Result<(), StoreError> {
        self.write(move |transaction| quarantine::put(transaction, &quarantine))
            .await
    }

    async fn record_shadow_run(&self, record: ShadowRecord) -> Result<(), StoreError> {
        self.write_unsynced(move |transaction| registry::record_shadow(transaction.connection, &record))
            .await
    }

    fn work_ready(&self) -> impl Future<Output = ()> + Send {
        self.shared().work_signal.notified()
    }

    fn blocking(&self) -> &impl BlockingReads {
        self
    }
}

impl BlockingReads for SqliteStore {
    fn read_state(&self, tenant: &TenantName, plugin: &PluginName, key: &str) -> Result<StateValue, StoreError> {
        self.shared().check()?;
        if let Some(value) = self.shared().state.get(tenant, plugin, key) {
            return Ok(value);
        }
        self.inner
            .readers
            .read_here(|connection| jobs::read_state(connection, tenant, plugin, key))
    }
}

impl Outbox for SqliteStore {
    async fn claim_outbox(&self, request: ClaimRequest, quotas: Quotas) -> Result<OutboxClaims, StoreError> {
        self.write_unsynced(move |transaction| outbox::claim(transaction, &request, &quotas))
            .await
    }

    async fn record_attempt(&self, attempt: AttemptRecord) -> Result<AttemptRecorded, StoreError> {
        self.write_unsynced(move |transaction| outbox::record_attempt(transaction, &attempt))
            .await
    }

    async fn release_outbox(&self, claims: Vec<OutboxHold>, at: UnixMillis) -> Result<(), StoreError> {
        self.write_unsynced(move |transaction| outbox::release(transaction, &claims, at))
            .await
    }

    fn outbox_ready(&self) -> impl Future<Output = ()> + Send {
        self.shared().outbox_signal.notified()
    }
}

impl Views for SqliteStore {
    async fn trace(&self, query: TraceQuery) -> Result<Vec<Trace>, StoreError> {
        let key = Arc::clone(&self.inner.receipt_key);
        self.read(move |view| trace::trace(view, &key, &query)).await
    }

    async fn event(&self, receipt: ReceiptId) -> Result<Event, StoreError> {
        self.read(move |view| reviews::event(view, receipt)).await
    }

    async fn receipt_of(&self, target: Target) -> Result<ReceiptId, StoreError> {
        self.read(move |view| reviews::receipt_of(view, target)).await
    }

    async fn route_of(&self, action: ActionId) -> Result<(TenantName, RouteName), StoreError> {
        self.read(move |view| reviews::route_of(view, action)).await
    }

    async fn dead_letters(&self, filter: DeadLetterFilter) -> Result<Vec<DeadLetter>, StoreError> {
        self.read(move |view| replay::dead_letters(view, &filter)).await
    }

    async fn sent(&self, filter: SentFilter) -> Result<Vec<Sent>, StoreError> {
        self.read(move |view| resends::sent(view, &filter)).await
    }

    async fn set_aside(&self, filter: SetAsideFilter) -> Result<Vec<SetAside>, StoreError> {
        self.read(move |view| set_aside::list(view, &filter)).await
    }

    async fn set_aside_counts(&self, tenant: Option<TenantName>) -> Result<Vec<SetAsideCount>, StoreError> {
        self.read(move |view| set_aside::counts(view, tenant.as_ref())).await
    }

    async fn kept_delivery(&self, delivery: DeliveryId) -> Result<KeptDelivery, StoreError> {
        self.read(move |view| deliveries::kept(view, delivery)).await
    }

    async fn routable(&self, filter: RoutableFilter) -> Result<Vec<Routable>, StoreError> {
        self.read(move |view| replay::routable(view, &filter)).await
    }

    async fn recorded_runs(&self, filter: RecordedRunFilter) -> Result<Vec<RecordedRun>, StoreError> {
        self.read(move |view| runs::recorded(view, &filter)).await
    }

    async fn plugin_state(&self, filter: StateFilter) -> Result<Vec<StateEntry>, StoreError> {
        self.read(move |view| state_edits::list(view, &filter)).await
    }

    async fn state_edits(
        &self,
        tenant: TenantName,
        plugin: PluginName,
        key: String,
    ) -> Result<Vec<StateEditView>, StoreError> {
        self.read(move |view| state_edits::edits(view, &tenant, &plugin, &key))
            .await
    }

    async fn quarantines(&self) -> Result<Vec<Quarantine>, StoreError> {
        self.read(quarantine::list).await
    }

    async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        self.read(tokens::list).await
    }

    async fn plugin_versions(&self, filter: VersionFilter) -> Result<Vec<PluginVersion>, StoreError> {
        self.read(move |view| registry::versions(view.connection, &filter))
            .await
    }

    async fn component(&self, digest: PluginDigest) -> Result<Vec<u8>, StoreError> {
        self.read(move |view| registry::component(view.connection, digest))
            .await
    }

    async fn bindings(&self, tenant: Option<TenantName>) -> Result<Vec<BoundRoute>, StoreError> {
        self.read(move |view| view.connection.bindings(tenant.as_ref())).await
    }

    async fn api_routes(&self) -> Result<Vec<ApiRoute>, StoreError> {
        self.read(|view| registry::api_routes(view.connection)).await
    }

    async fn publisher_keys(&self, tenant: Option<TenantName>) -> Result<Vec<PublisherKeyView>, StoreError> {
        self.read(move |view| view.connection.publisher_keys(tenant.as_ref()))
            .await
    }

    async fn registry_history(&self, filter: HistoryFilter) -> Result<Vec<RegistryLine>, StoreError> {
        self.read(move |view| registry::history(view.connection, &filter)).await
    }

    async fn shadow_runs(&self, filter: ShadowFilter) -> Result<ShadowReport, StoreError> {
        self.read(move |view| registry::shadow_report(view.connection, &filter))
            .await
    }

    async fn next_due(&self) -> Result<NextDue, StoreError> {
        // The writer answers, so that whoever only asks has nothing committed for it.
        let asked = self.write_unsynced(|transaction| counts::next_due(transaction.connection));
        match asked.await {
            Err(StoreError::Full | StoreError::ReadOnly { .. }) => {
                self.read(|view| counts::next_due(view.connection)).await
            }
            answered => answered,
        }
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.read(counts::counts).await
    }
}

impl Control for SqliteStore {
    async fn replay(&self, request: ReplayRequest) -> Result<ReplayReport, StoreError> {
        if request.dry_run {
            return self.read(move |view| replay::plan(view, &request)).await;
        }
        self.write(move |transaction| replay::replay(transaction, &request))
            .await
    }

    async fn resend(&self, request: ResendRequest) -> Result<Vec<OutboxId>, StoreError> {
        self.write(move |transaction| resends::resend(transaction, &request))
            .await
    }

    async fn review(&self, request: ReviewRequest) -> Result<ReviewAnswer, StoreError> {
        let key = Arc::clone(&self.inner.receipt_key);
        if request.dry_run {
            return self.read(move |view| reviews::plan(view, &key, &request)).await;
        }
        self.write(move |transaction| reviews::review(transaction, &key, &request))
            .await
    }

    async fn edit_state(&self, edit: StateEdit) -> Result<StateEdited, StoreError> {
        if edit.dry_run {
            return self.read(move |view| state_edits::plan(view, &edit)).await;
        }
        self.write(move |transaction| state_edits::edit(transaction, &edit))
            .await
    }

    async fn lift_quarantine(
        &self,
        tenant: TenantName,
        route: RouteName,
        act: Act,
    ) -> Result<Vec<Quarantine>, StoreError> {
        self.write(move |transaction| quarantine::lift(transaction, &tenant, &route, &act))
            .await
    }

    async fn issue_token(&self, token: NewToken) -> Result<TokenId, StoreError> {
        self.write(move |transaction| tokens::issue(transaction, &token)).await
    }

    async fn revoke_token(&self, id: TokenId, end: Revocation) -> Result<bool, StoreError> {
        self.write(move |transaction| tokens::revoke(transaction, id, &end))
            .await
    }

    async fn add_version(&self, version: NewVersion, act: Act) -> Answered<PluginVersion> {
        self.act(act.dry_run, move |connection| {
            rules::add_version(connection, &version, &act)
        })
        .await
    }

    async fn step_version(&self, request: StepRequest) -> Answered<PluginVersion> {
        self.act(request.act.dry_run, move |connection| rules::step(connection, &request))
            .await
    }

    async fn change_binding(&self, request: ChangeRequest) -> Answered<BindingChange> {
        self.act(request.act.dry_run, move |connection| {
            rules::change(connection, &request)
        })
        .await
    }

    async fn follow_configuration(
        &self,
        routes: Vec<ConfiguredRoute>,
        act: Act,
    ) -> Result<Vec<ConfiguredRoute>, StoreError> {
        self.act(false, move |connection| rules::follow(connection, &routes, &act))
            .await
    }

    async fn follow_namespaces(
        &self,
        routes: Vec<RouteNamespace>,
        act: Act,
    ) -> Result<Vec<NamespaceChange>, StoreError> {
        if act.dry_run {
            return self
                .read(move |view| rules::follow_namespaces(view.connection, &routes, &act))
                .await;
        }
        self.write(move |transaction| rules::follow_namespaces(transaction.connection, &routes, &act))
            .await
    }

    async fn set_route(&self, request: SetRoute) -> Answered<BindingChange> {
        self.act(request.act.dry_run, move |connection| {
            rules::set_route(connection, &request)
        })
        .await
    }

    async fn remove_route(
        &self,
        tenant: TenantName,
        route: RouteName,
        configured: Option<ConfiguredRoute>,
        act: Act,
    ) -> Answered<BindingChange> {
        self.act(act.dry_run, move |connection| {
            rules::remove_route(connection, &tenant, &route, configured.as_ref(), &act)
        })
        .await
    }

    async fn register_publisher_key(&self, key: NewPublisherKey) -> Result<KeyRegistered, StoreError> {
        self.act(key.act.dry_run, move |connection| rules::register_key(connection, &key))
            .await
    }

    async fn revoke_publisher_key(&self, request: RevokePublisherKey) -> Result<bool, StoreError> {
        self.act(request.act.dry_run, move |connection| {
            rules::revoke_key(connection, &request)
        })
        .await
    }

    async fn record_trial(&self, trial: TrialRecord) -> Result<(), StoreError> {
        self.write(move |transaction| registry::record_trial(transaction.connection, &trial))
            .await
    }
}

impl Changes for SqliteStore {
    fn subscribe(&self, topic: Topic) -> watch::Receiver<u64> {
        self.shared().changes.of(topic).subscribe()
    }
}
