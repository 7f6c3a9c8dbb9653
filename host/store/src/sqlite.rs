//! The embedded store: a log, which is the truth (see `crate::log`), and SQLite in one file as the index of it; one process at a time
//! writes.
//!
//! Cast: the `writer` thread owns the end of the log and the connection that changes the index, and works in groups; `recovery` makes the
//! index follow the log; `readers` lends connections that cannot write; `open` makes the files ready; the other modules say what happens
//! inside a transaction, one per concern.
//! Decisions come from `tollgate-core`, called inside the transaction with what that transaction found.

mod audit;
mod backup;
mod checkpointer;
mod compressor;
mod connection;
mod files;
pub(crate) mod copy;
mod open;
mod pin;
mod readers;
mod receipts;
mod recovery;
mod remade;
mod shared;
mod state;
mod wal;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tollgate_core::admission::Admission;
use tollgate_core::checkpoint::Checkpoint;
use tollgate_core::ids::{JobId, LeaseEpoch, PluginName, TenantName};
use tollgate_core::limits;
use tollgate_core::secret::Secret;
use tollgate_core::state::StateValue;
use tollgate_core::time::UnixMillis;

use self::files::{SoleUse, StorePath};
use self::readers::Readers;
use self::receipts::{Layout, MemoryBounds, View, Whole};
use self::shared::Shared;
use self::writer::{Writer, WriterBounds};
use crate::audit::{AuditProgress, AuditReport};
use crate::backup::{BackupError, BackupProgress, Manifest};
use crate::log::{self, Contents, Kind};
use crate::registry::ShadowRecord;
use crate::statements::fault::Fault;
use crate::statements::operators::Transacts;
use crate::statements::transaction::{self, Transaction};
use crate::statements::{
    admit, counts, fault, head, jobs, order, outbox, pulls, quarantine, registry, relations, rows, schema, unfinished,
};
use crate::{
    Admitted, AttemptRecord, AttemptRecorded, BlockingReads, Changes, ClaimRequest, Intake, JobClaim, NextDue, Outbox,
    OutboxClaims, OutboxHold, PullEnd, PullEnded, PullRequest, Quarantine, Quotas, ReceiptKey, Settled, Settlement,
    Store, StoreError, Topic, WalStanding, Work,
};
/// Bounds of a [`SqliteStore`].
#[derive(Debug, Clone, Copy)]
pub struct OpenOptions {
    /// Writes that wait at most; one more is answered [`StoreError::Full`]. Together with the largest body this bounds the
    /// memory that waiting takes. Default 4096.
    pub write_queue_max: usize,
    /// Writes in one commit at most. A commit takes what is waiting and never waits for more. Default 512.
    pub write_batch_max: usize,
    /// The index's WAL is moved into its file when it is longer than this. Twice this is the most it grows to, and a disk that cannot follow makes
    /// whoever writes wait; unless a reader keeps an old snapshot: then it grows until that ends, and the host says who it is. Default 64 MiB: pages that many events touch are then moved once for all of them.
    pub wal_bytes_max: u64,
    /// The index is committed within so many milliseconds after the log was synced, where nobody needs it sooner: what comes meanwhile shares
    /// the commit. What was answered is in the log before the answer, whatever this is. Default 25.
    pub commit_ms_max: u64,
    /// Neither the index nor the log is ever made larger than this; then writes answer [`StoreError::NoSpace`]. The WAL is not counted.
    /// Default: as large as the disk.
    pub file_bytes_max: Option<u64>,
    /// How a new store keeps its receipts; one that exists keeps the layout that it was made with.
    pub layout: Layout,
    /// Receipts whose keys wait in memory until they are carried into the indexes, twice as many at most: about 150 bytes each, beside
    /// 8 MiB that say which keys the indexes lack (and as many more while a start reads them).
    /// Only for [`Layout::Log`]. Default 65,536.
    pub keys_in_memory_max: usize,
    /// A segment of the log that has this many bytes is followed by a new one. Default 64 MiB.
    pub log_segment_bytes: u64,
    /// Bytes of newest receipts that are kept in memory for their jobs. Only for [`Layout::Log`]. Default 16 MiB.
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
            log_segment_bytes: 64 * 1024 * 1024,
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
        Self::open_unfinished(path, options)?.finished()
    }

    /// As [`Self::open`], of a store into which something is still copied. Nothing that is leased becomes free.
    fn open_unfinished(path: impl AsRef<Path>, options: OpenOptions) -> Result<Self, StoreError> {
        let path = StorePath::new(path.as_ref())?;
        let mut sole_use = SoleUse::take(&path)?;
        recovery::put_back_beginning(&path)?;
        files::keep_private(&path)?;
        let was_left_open = path.was_left_open();
        open::end_wal(&path)?;
        let mut connection = open::open_writer(&path, options.file_bytes_max)?;
        open::begin_log(&path, &connection)?;
        sole_use.lock_key(&path)?;
        let receipt_key = Arc::new(open::receipt_key(&path)?);
        let of_log = log::Bounds {
            segment_bytes: options.log_segment_bytes,
            bytes_max: options.file_bytes_max.unwrap_or(u64::MAX),
        };
        let recovered = recovery::recover(&mut connection, &path, &receipt_key, was_left_open, of_log)
            .map_err(|fault| path.opening(fault))?;
        let bounds = WriterBounds {
            queue_max: options.write_queue_max,
            batch_max: options.write_batch_max,
            wal_bytes_max: options.wal_bytes_max,
            commit_max: Duration::from_millis(options.commit_ms_max),
            memory: MemoryBounds {
                keys_max: options.keys_in_memory_max,
                recent_bytes_max: options.recent_bytes_max,
            },
            layout: options.layout,
        };
        let contents = Arc::new(Contents::new(path.log()));
        let writer = Writer::start(connection, recovered, sole_use, &path, &receipt_key, &contents, bounds)?;
        Self::with(path, receipt_key, &contents, Access::ReadWrite(writer))
    }

    fn with(
        path: StorePath,
        receipt_key: Arc<Secret>,
        contents: &Arc<Contents>,
        access: Access,
    ) -> Result<Self, StoreError> {
        let readers = Readers::new(path.clone());
        let layout = readers.read_here(|connection| Layout::read(connection))?;
        Ok(Self {
            inner: Arc::new(Inner {
                receipts: receipts::of_readers(layout, contents),
                path,
                receipt_key,
                readers,
                access,
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
        recovery::take_in(&path);
        let connection = open::open_reader(&path)?;
        open::check_schema(&path, &connection)?;
        let receipt_key = Arc::new(open::key_of_index(&path, &connection)?);
        let contents = Arc::new(Contents::new(path.log()));
        Self::with(path, receipt_key, &contents, Access::ReadOnly(Arc::default()))?.finished()
    }

    /// # Errors
    /// [`StoreError::Open`] when it is a copy that is not finished.
    fn finished(self) -> Result<Self, StoreError> {
        match self
            .inner
            .readers
            .read_here(|connection| unfinished::is_there(connection))?
        {
            true => Err(self.inner.path.cannot_open(unfinished::REFUSED)),
            false => Ok(self),
        }
    }

    /// Backs the store up into a folder that does not exist or is empty, beside a host that goes on writing. Every event that was
    /// acknowledged before the call is in it. What the backup in `previous` has as well of the log is linked where it can be. Blocks. Meanwhile the host's log cannot be emptied and grows with what it takes in.
    ///
    /// # Errors
    /// [`StoreError::Open`] when the folder is not empty or cannot be written, or `previous` is no backup of this store; [`StoreError::NoSpace`]. Then the folder has no manifest.
    pub fn backup_to(
        &self,
        folder: &Path,
        previous: Option<&Path>,
        version: &str,
        begun_at: UnixMillis,
        watch: &mut dyn FnMut(BackupProgress),
    ) -> Result<Manifest, StoreError> {
        self.shared().check()?;
        self.shared().wait_until_shown();
        backup::backup(&self.inner.path, folder, previous, version, begun_at, watch)
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

    /// Makes the index of a store anew from its log, and puts it in the place of the one that is there, if there is one. Blocks. `watch` is told
    /// up to which byte of the log it is made, and of how many. Returns how many records it was made from.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while a process has the store open, and when the log or the key cannot be read; the old index is in its place then.
    pub fn rebuild(path: impl AsRef<Path>, watch: &mut dyn FnMut(u64, u64)) -> Result<u64, StoreError> {
        recovery::rebuild(&StorePath::new(path.as_ref())?, watch)
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

    /// Makes an index anew from the log, beside the store and beside a process that may be writing it, and says in words where the store's own
    /// differs from it: what an audit by the receipts' chain cannot see. None where there is no log, because no native host has opened the store yet. Takes
    /// the room of the index meanwhile. Blocks, for as long as it takes to apply the whole log.
    ///
    /// # Errors
    /// As [`Self::audit`], and when nothing can be written beside the store.
    pub fn audit_index(
        path: impl AsRef<Path>,
        watch: &mut dyn FnMut(AuditProgress),
    ) -> Result<Option<Vec<String>>, StoreError> {
        remade::differences(&StorePath::new(path.as_ref())?, watch)
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

    /// What [`Self::audited`] and [`Self::audit_index`] find of the store, in words; empty when all of it is whole. Blocks.
    ///
    /// # Errors
    /// As those.
    pub fn problems(&self) -> Result<Vec<String>, StoreError> {
        let mut problems = self.audited()?.in_words();
        let of_index = Self::audit_index(self.inner.path.path(), &mut |_| {})?;
        problems.extend(of_index.unwrap_or_default());
        Ok(problems)
    }

    /// How long the write-ahead log is.
    pub fn wal_standing(&self) -> WalStanding {
        self.shared().wal_standing()
    }

    fn shared(&self) -> &Arc<Shared> {
        match &self.inner.access {
            Access::ReadWrite(writer) => writer.shared(),
            Access::ReadOnly(shared) => shared,
        }
    }

    /// A write that answers when it is done; it is committed and synced later, unless it marks itself as one that must be.
    async fn write_unsynced<T, F>(&self, kind: Kind, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        match &self.inner.access {
            Access::ReadWrite(writer) => writer.write_unsynced(kind, work).await,
            Access::ReadOnly(_) => Err(StoreError::ReadOnly {
                path: self.inner.path.text.clone(),
            }),
        }
    }
}

impl Transacts for SqliteStore {
    async fn write<T, F>(&self, kind: Kind, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        match &self.inner.access {
            Access::ReadWrite(writer) => writer.write(kind, work).await,
            Access::ReadOnly(_) => Err(StoreError::ReadOnly {
                path: self.inner.path.text.clone(),
            }),
        }
    }

    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
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

    async fn due_next(&self) -> Result<NextDue, StoreError> {
        // The writer answers, so that whoever only asks has nothing committed for it.
        let asked = self.write_unsynced(Kind::Claimed, |transaction| counts::next_due(transaction.connection));
        match asked.await {
            Err(StoreError::Full | StoreError::ReadOnly { .. }) => {
                self.read(|view| counts::next_due(view.connection)).await
            }
            answered => answered,
        }
    }
}

impl Store for SqliteStore {
    async fn close(&self) {
        self.inner.readers.close_idle();
        match &self.inner.access {
            Access::ReadWrite(writer) => writer.close().await,
            Access::ReadOnly(shared) => shared.signals.stop(),
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
        self.write_unsynced(Kind::Admitted, move |transaction| {
            let admit = |admission| admit::admit(transaction, &key, admission);
            admissions.iter().map(admit).collect()
        })
        .await
    }
}

impl Work for SqliteStore {
    async fn claim_jobs(&self, request: ClaimRequest) -> Result<Vec<JobClaim>, StoreError> {
        self.write_unsynced(Kind::Claimed, move |transaction| jobs::claim(transaction, &request))
            .await
    }

    async fn extend_lease(&self, job: JobId, epoch: LeaseEpoch, until: UnixMillis) -> Result<bool, StoreError> {
        self.write_unsynced(Kind::Claimed, move |transaction| {
            jobs::extend_lease(transaction, job, epoch, until)
        })
        .await
    }

    async fn settle(&self, settlement: Settlement) -> Result<Settled, StoreError> {
        self.write_unsynced(Kind::Settled, move |transaction| jobs::settle(transaction, &settlement))
            .await
    }

    async fn quarantine(&self, quarantine: Quarantine) -> Result<(), StoreError> {
        self.write(Kind::Quarantined, move |transaction| {
            quarantine::put(transaction, &quarantine)
        })
        .await
    }

    async fn record_shadow_run(&self, record: ShadowRecord) -> Result<(), StoreError> {
        self.write_unsynced(Kind::Tried, move |transaction| {
            registry::record_shadow(transaction.connection, &record)
        })
        .await
    }

    fn work_ready(&self) -> impl Future<Output = ()> + Send {
        self.shared().signals.work.notified()
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
        self.write_unsynced(Kind::Taken, move |transaction| {
            outbox::claim(transaction, &request, &quotas)
        })
        .await
    }

    async fn record_attempt(&self, attempt: AttemptRecord) -> Result<AttemptRecorded, StoreError> {
        self.write_unsynced(Kind::Attempted, move |transaction| {
            outbox::record_attempt(transaction, &attempt)
        })
        .await
    }

    async fn release_outbox(&self, claims: Vec<OutboxHold>, at: UnixMillis) -> Result<(), StoreError> {
        self.write_unsynced(Kind::Taken, move |transaction| {
            outbox::release(transaction, &claims, at)
        })
        .await
    }

    async fn pull(&self, request: PullRequest) -> Result<OutboxClaims, StoreError> {
        self.write_unsynced(Kind::Taken, move |transaction| pulls::pull(transaction, &request))
            .await
    }

    async fn end_pulled(&self, end: PullEnd) -> Result<Vec<PullEnded>, StoreError> {
        self.write_unsynced(Kind::Attempted, move |transaction| pulls::end(transaction, &end))
            .await
    }

    fn outbox_ready(&self) -> impl Future<Output = ()> + Send {
        self.shared().signals.outbox.notified()
    }
}

impl Changes for SqliteStore {
    fn subscribe(&self, topic: Topic) -> watch::Receiver<u64> {
        self.shared().signals.changes_of(topic).subscribe()
    }
}
