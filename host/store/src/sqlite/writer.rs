//! The writer: one thread that owns the end of the log and the one connection that changes the index, and works in groups.
//!
//! Whoever writes hands over a piece of work and waits. The thread takes what is waiting, a group, does it in the transaction under way,
//! and appends a record of it to the log. Then it answers. While it does, the next group gathers: no delay is ever added.
//!
//! What an answer `Ok` says:
//!
//! - the record of what was done is in the log. It outlives this process, and nothing of it is ever taken back;
//! - where somebody outside is told of it (an acknowledged event, an entry that is about to be delivered, whatever an operator did), the
//!   log is synced before the answer. All else is on the disk within [`UNSYNCED_MAX`];
//! - readers see all that was answered before they began: they have the thread commit first ([`Writer::show`]).
//!
//! The index is committed when it suits: within `commit_ms_max`, and never before the log is synced, so that it knows nothing that a loss
//! of power could take from the log. A transaction that fails is rolled back, and what was answered of it is applied again from the log,
//! as after a restart (see `recovery`). What an operator does can fail on a sound disk, so it has a transaction of its own.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tollgate_core::secret::Secret;

use super::checkpointer::{Checkpointer, checkpoint_failed};
use super::compressor::Compressor;
use super::fault::Fault;
use super::files::{SoleUse, StorePath};
use super::head::ChainHead;
use super::open::{self, LOCK_WAIT_MS, TRUNCATE_WAIT_MS, checkpoint, page_bytes};
use super::pin::{self, Pin};
use super::receipts::{self, Layout, MemoryBounds};
use super::recovery::{self, Recovered};
use super::shared::Shared;
use super::transaction::{Memory, Transaction};
use super::unfinished;
use super::wal::{Due, Wal};
use crate::StoreError;
use crate::log::{Applied, Contents, Group, Kind, Leaves, Log, Recording};
use crate::queue::{self, Done, Message, Queue, Work, answer_all};
use crate::sql::params;

/// Configuration texts whose digests are remembered as stored; beyond, they are asked for again.
const CONFIGS_REMEMBERED_MAX: usize = 4096;
/// After how long an index that could not follow the log tries again, if nobody makes it before.
const BEHIND_AGAIN: Duration = Duration::from_millis(250);
/// How long a record may be on no disk that nobody had to wait for.
const UNSYNCED_MAX: Duration = Duration::from_secs(1);

/// The writer as its callers see it.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Queue,
    shared: Arc<Shared>,
}

/// What bounds the writer.
#[derive(Debug, Clone, Copy)]
pub(super) struct WriterBounds {
    pub(super) queue_max: usize,
    pub(super) batch_max: usize,
    pub(super) wal_bytes_max: u64,
    pub(super) commit_max: Duration,
    pub(super) memory: MemoryBounds,
    /// Of a new store.
    pub(super) layout: Layout,
}

impl Writer {
    pub(super) fn start(
        mut connection: Connection,
        recovered: Recovered,
        sole_use: SoleUse,
        path: &StorePath,
        key: &Secret,
        contents: &Arc<Contents>,
        bounds: WriterBounds,
    ) -> Result<Self, StoreError> {
        let page_bytes = page_bytes(&connection).map_err(|fault| path.opening(fault))?;
        let Recovered { log, texts } = recovered;
        let memory = receipts::of_writer(&connection, path, open::open_reader, contents, bounds.memory)
            .and_then(|receipts| Memory::load(&connection, receipts))
            .map_err(|fault| path.opening(fault))?;
        let shared = Arc::new(Shared::default());
        let wal = Wal::new(bounds.wal_bytes_max, page_bytes, Instant::now());
        let length = wal.length();
        connection
            .wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
                length.store(u64::try_from(pages).unwrap_or(0), Ordering::Relaxed);
                Ok(())
            }))
            .map_err(|error| path.opening(error.into()))?;
        let (sender, waiting) = queue::channel(bounds.queue_max);
        let mut thread = Thread {
            connection: Recording::new(connection, &texts),
            log,
            contents: Arc::clone(contents),
            compressor: Compressor::start(path, crate::log::Place::new(path.log(), key), Arc::clone(contents))?,
            memory,
            shared: Arc::clone(&shared),
            waiting,
            path: path.clone(),
            key: key.clone(),
            checkpointer: Checkpointer::start(path, &shared)?,
            open: None,
            behind: None,
            unsynced: None,
            committed: Applied::NOTHING,
            texts_committed: (u64::MAX, 0),
            bounds: bounds.memory,
            place: Place::of(path).map_err(|error| path.cannot_open(error))?,
            batch_max: bounds.batch_max.max(1),
            commit_max: bounds.commit_max,
            wal,
            pin: None,
        };
        thread.begin(bounds.layout)?;
        let queue = Queue::start(sender, move || {
            thread.run();
            // In this order: the file is closed, then others may open it, then whoever waits for the end goes on.
            drop(sole_use);
        })?;
        Ok(Self { queue, shared })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Waits until readers see all that was answered so far.
    pub(super) async fn show(&self) {
        if !self.shared.open.load(Ordering::Acquire) {
            return;
        }
        // Before the thread is asked: whatever it commits from here on is what is waited for.
        let mut shown = self.shared.shown.subscribe();
        self.shared.show.store(true, Ordering::Release);
        self.queue.look();
        let mut ended = self.queue.ended();
        tokio::select! {
            _ = shown.changed() => {}
            // The last commit of all.
            _ = ended.changed() => {}
        }
    }

    /// Does `work` and answers when its record is on the disk. Never blocks: a full queue is an answer.
    ///
    /// `work` may run twice, the first time's effects being rolled back; so it takes its input by reference.
    pub(super) async fn write<T, F>(&self, kind: Kind, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.hand_over(kind, work, true).await
    }

    /// The same, but answers when the record is in the log, unless `work` marks the transaction as one that must be synced.
    pub(super) async fn write_unsynced<T, F>(&self, kind: Kind, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.hand_over(kind, work, false).await
    }

    async fn hand_over<T, F>(&self, kind: Kind, work: F, must_sync: bool) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.shared.check()?;
        match self.queue.hand_over(kind, must_sync, work).await {
            // A thread that is gone may have been ended by its disk.
            Err(StoreError::Closed) => Err(self.shared.check().err().unwrap_or(StoreError::Closed)),
            done => done,
        }
    }

    /// Takes no more work, and waits until what was queued is committed and the file is closed.
    pub(super) async fn close(&self) {
        self.shared.signals.stop();
        self.queue.close().await;
    }
}

/// Dropping the last handle closes as [`Writer::close`] does, and blocks for as long: at most the queued commits.
impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.signals.stop();
    }
}

struct Thread {
    connection: Recording,
    log: Log,
    /// The log, to be read.
    contents: Arc<Contents>,
    compressor: Compressor,
    memory: Memory,
    shared: Arc<Shared>,
    waiting: Receiver<Message>,
    path: StorePath,
    key: Secret,
    place: Place,
    checkpointer: Checkpointer,
    /// Since when groups share the transaction under way.
    open: Option<Instant>,
    /// A transaction failed that had groups in it whose records are in the log. The index lacks them, and is to follow from this instant on.
    behind: Option<Instant>,
    /// Since when there are records that are not synced.
    unsynced: Option<Instant>,
    /// What the index was made from, at its last commit.
    committed: Applied,
    /// Of how many statements the index has the texts, and of which segment.
    texts_committed: (u64, u64),
    bounds: MemoryBounds,
    batch_max: usize,
    commit_max: Duration,
    wal: Wal,
    /// A reader keeps the WAL from being emptied.
    pin: Option<Pin>,
}

/// Which files the index was opened as. A file that was removed or replaced while it is open still takes writes and syncs, and
/// all of them are gone with the process: so it is compared, as the log's own is, before anybody is answered.
struct Place {
    database: PathBuf,
    database_file: FileId,
}

/// Device and inode.
type FileId = (u64, u64);

impl Place {
    fn of(path: &StorePath) -> std::io::Result<Self> {
        let database = path.path().to_owned();
        Ok(Self {
            database_file: file_id(&database)?,
            database,
        })
    }

    /// # Errors
    /// In words, when a file at the store's path is no longer the one that was opened.
    fn check(&self, log: &Log) -> Result<(), String> {
        let moved = |path: &Path| {
            let path = path.display();
            format!(
                "{path} was removed or replaced while the store was open: what was written since may be lost; restore it and start again"
            )
        };
        if !log.is_in_place() {
            return Err(moved(log.path()));
        }
        match file_id(&self.database) {
            Ok(now) if now == self.database_file => Ok(()),
            _ => Err(moved(&self.database)),
        }
    }
}

fn file_id(path: &Path) -> std::io::Result<FileId> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Makes a panic of the writer thread fatal instead of silent.
struct PanicIsFatal(Arc<Shared>);

impl Drop for PanicIsFatal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self
                .0
                .fatal
                .set("the writer thread panicked; this is a bug in Tollgate".into());
        }
    }
}

impl Thread {
    fn run(mut self) {
        let _guard = PanicIsFatal(Arc::clone(&self.shared));
        let mut group = Vec::with_capacity(self.batch_max);
        // Ends when every sender is gone and the queue is empty.
        loop {
            match self.next() {
                Ok(first) => queue::gather(&mut group, first, &self.waiting, self.batch_max),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if !group.is_empty() {
                self.serve(&mut group);
            }
            self.finish_what_is_due();
        }
        self.checkpointer.stop();
        self.compressor.stop();
        self.memory.receipts.close();
        // What could not be committed is in the log.
        let committed = self.shared.fatal.get().is_none() && self.catch_up().and_then(|()| self.commit()).is_ok();
        if committed
            && self.truncate_wal()
            && let Err(fault) = super::open::checkpoint_on_close(self.connection.apart(), true)
        {
            checkpoint_failed(fault, &self.path.text, &self.shared);
        }
    }

    /// The first records: what a new store is, and that what the last host had leased is free. What is copied into one that is not finished
    /// stays as it is.
    fn begin(&mut self, layout: Layout) -> Result<(), StoreError> {
        let is_new = self.log.applied().last == crate::log::Mark::BEGIN;
        let kind = if is_new { Kind::Created } else { Kind::Opened };
        let done = self.record(|transaction, connection| {
            connection.note(kind);
            if is_new {
                transaction.connection.execute(
                    "INSERT OR IGNORE INTO meta (name, value) VALUES ('layout', ?1)",
                    params![layout.name().as_bytes()],
                )?;
            }
            match unfinished::is_there(transaction.connection)? {
                true => Ok(()),
                false => open::release_leases(transaction.connection),
            }
        });
        done.map_err(|fault| self.path.opening(fault))?;
        self.commit()?;
        if is_new {
            self.reload().map_err(|fault| self.path.opening(fault))?;
        }
        Ok(())
    }

    /// Waits for work, but for no longer than what is not committed or not synced may wait.
    fn next(&self) -> Result<Message, RecvTimeoutError> {
        let due = self.due();
        match due {
            Some(due) => self.waiting.recv_timeout(due.saturating_duration_since(Instant::now())),
            None => self.waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// When the transaction under way is to be committed, or the log to be synced. A commit needs a sync, so one that nobody waits for
    /// waits for that.
    fn due(&self) -> Option<Instant> {
        match (self.behind, self.open, self.unsynced) {
            (Some(behind), ..) => Some(behind),
            (None, _, Some(unsynced)) => Some(unsynced + UNSYNCED_MAX),
            (None, Some(open), None) => Some(open + self.commit_max),
            (None, None, None) => None,
        }
    }

    /// Does a group. What can fail on a sound disk is done alone, behind a commit: when it is taken back, nothing else goes with it.
    fn serve(&mut self, group: &mut Vec<Box<dyn Work>>) {
        let (alone, mut together): (Vec<_>, Vec<_>) = group.drain(..).partition(|work| work.may_fail());
        if !together.is_empty() {
            self.serve_together(&mut together);
        }
        for work in alone {
            let mut one = vec![work];
            match self.catch_up().and_then(|()| self.commit()) {
                Ok(()) => self.serve_together(&mut one),
                Err(error) => one.into_iter().for_each(|work| work.fail(copy(&error))),
            }
        }
    }

    /// Does a group; if that fails, each of its pieces alone.
    fn serve_together(&mut self, group: &mut Vec<Box<dyn Work>>) {
        if let Err(StoreError::Fatal { detail }) = self.shared.check() {
            return group
                .drain(..)
                .for_each(|work| work.fail(StoreError::Fatal { detail: detail.clone() }));
        }
        let mut done = self.do_group(group);
        if matches!(done, Err(StoreError::NoSpace { .. })) && self.wal_made_room() {
            done = self.do_group(group);
        }
        match done {
            Ok(()) => answer_all(group),
            Err(error) if group.len() == 1 || matches!(error, StoreError::Fatal { .. }) => {
                for work in group.drain(..) {
                    work.fail(copy(&error));
                }
            }
            Err(_) => {
                let mut alone = Vec::with_capacity(1);
                for work in std::mem::take(group) {
                    alone.push(work);
                    self.serve_together(&mut alone);
                }
            }
        }
    }

    /// Does all of `group`, and syncs where one of them must not be answered before. On an error nothing of it is in the log, unless the
    /// error is fatal.
    fn do_group(&mut self, group: &mut [Box<dyn Work>]) -> Result<(), StoreError> {
        self.catch_up()?;
        let done = self.record(|transaction, connection| {
            for work in group {
                connection.note(work.kind());
                work.apply(transaction)?;
            }
            Ok(())
        });
        let done = done.map_err(|fault| self.failed(fault))?;
        if let Err(detail) = self.place.check(&self.log) {
            return Err(self.fail_for_good(detail));
        }
        if done.must_sync {
            self.sync()?;
        }
        if !done.changed.is_empty() {
            // Whoever is told of a change reads it.
            self.commit()?;
        }
        self.shared.signals.tell(&done);
        Ok(())
    }

    /// Does `work` in the transaction under way, and appends its record. On an error both are as they were, or the index is behind.
    fn record(
        &mut self,
        work: impl FnOnce(&mut Transaction<'_>, &Recording) -> Result<(), Fault>,
    ) -> Result<Done, Fault> {
        let head = self.memory.head;
        let done = self.append(work);
        if done.is_err() {
            self.take_back(head);
        }
        done
    }

    fn append(
        &mut self,
        work: impl FnOnce(&mut Transaction<'_>, &Recording) -> Result<(), Fault>,
    ) -> Result<Done, Fault> {
        let (facts_at, is_new_segment) = self.log.begin().map_err(Fault::Io)?;
        self.connection.begin(is_new_segment);
        if is_new_segment {
            self.compressor.ask();
        }
        if self.open.is_none() {
            self.connection.apart().prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            self.open = Some(Instant::now());
        }
        let mut transaction = Transaction::new(&self.connection, &mut self.memory);
        work(&mut transaction, &self.connection)?;
        let done = Done::of(&mut transaction);
        let state = transaction.state;
        if self.memory.configs.len() > CONFIGS_REMEMBERED_MAX {
            self.memory.configs.clear();
        }
        self.memory
            .receipts
            .write(&self.connection, self.connection.apart(), facts_at)?;
        let (facts, bodies) = self.memory.receipts.gathered();
        // The first record of a process.
        let is_opening = self.committed == Applied::NOTHING;
        let log = &mut self.log;
        let appended = self.connection.with_changes(|changes| match changes {
            None => Ok(false),
            Some(changes) => {
                let leaves = match (is_opening, facts.is_empty()) {
                    (true, _) => Leaves::Nothing,
                    (false, true) => Leaves::Restart,
                    (false, false) => Leaves::RestartAndWork,
                };
                let group = Group {
                    facts,
                    bodies,
                    changes,
                    leaves,
                };
                log.append(&group).map(|()| true)
            }
        });
        if appended.map_err(Fault::Io)? {
            self.unsynced.get_or_insert_with(Instant::now);
            self.shared.open.store(true, Ordering::Release);
        }
        self.memory.receipts.kept();
        self.shared.state.put(state);
        Ok(done)
    }

    /// Takes back what a group did whose record is not in the log. The transaction goes, and with it what other groups did in it: that is
    /// in the log.
    fn take_back(&mut self, head: ChainHead) {
        self.connection.forget();
        self.memory.forget(head);
        let had_others = self.shared.open.load(Ordering::Acquire);
        self.roll_back();
        if had_others {
            self.behind.get_or_insert_with(Instant::now);
        }
    }

    fn roll_back(&mut self) {
        self.open = None;
        // After some errors SQLite has already rolled back by itself.
        if !self.connection.apart().is_autocommit()
            && let Err(error) = self.connection.apart().execute_batch("ROLLBACK")
        {
            self.fail_for_good(format!("rollback failed: {error}"));
        }
    }

    /// Commits the groups that share a transaction, if there are any. The log is synced first.
    fn commit(&mut self) -> Result<(), StoreError> {
        if self.open.is_none() {
            return Ok(());
        }
        self.sync()?;
        let index = self.connection.apart();
        let texts = (self.log.start(), self.connection.numbered());
        let committed = self
            .memory
            .write_head(index)
            .and_then(|()| match self.log.applied() == self.committed {
                // Whoever only looked has nothing written.
                true => Ok(()),
                false => recovery::write_applied(index, self.log.applied()),
            })
            .and_then(|()| match texts == self.texts_committed {
                true => Ok(()),
                false => recovery::write_texts(index, &self.connection.texts()),
            })
            .and_then(|()| Ok(index.prepare_cached("COMMIT")?.execute([])?));
        if let Err(fault) = committed {
            let error = self.failed(fault);
            self.roll_back();
            self.behind = Some(Instant::now());
            return Err(error);
        }
        self.open = None;
        self.texts_committed = texts;
        self.committed = self.log.applied();
        self.memory.committed();
        self.shared.state.committed();
        self.shared.open.store(false, Ordering::Release);
        self.show();
        self.place.check(&self.log).map_err(|detail| self.fail_for_good(detail))
    }

    /// Commits, syncs and moves the WAL where that is due.
    fn finish_what_is_due(&mut self) {
        if self.shared.fatal.get().is_some() {
            return self.show();
        }
        let show = self.shared.show.swap(false, Ordering::AcqRel);
        // Behind a sync that somebody waited for a commit costs no sync of its own.
        let is_due = self.due().is_some_and(|due| due <= Instant::now());
        if show || is_due {
            // What was answered is in the log, so there is nobody to tell.
            let done = self.catch_up().and_then(|()| self.commit());
            if show || done.is_err() {
                // Also when there was nothing to commit, or it could not be: whoever waits reads what there is.
                self.show();
            }
        }
        if self.open.is_some() || self.behind.is_some() || self.shared.fatal.get().is_some() {
            return;
        }
        self.checkpoint_if_due();
        self.note_pin();
    }

    /// Says who keeps the WAL from being emptied, when it has grown to what only a reader can make of it.
    fn note_pin(&mut self) {
        let (bytes, bound) = (self.wal.bytes(), self.wal.bytes_max());
        self.shared.wal_bytes.store(bytes, Ordering::Relaxed);
        if bytes < bound * 2 {
            if let Some(pin) = self.pin.take() {
                self.shared.note_pinned_since(None);
                let seconds = pin.since().elapsed().as_secs();
                tracing::info!(path = %self.path.text, seconds, "the store's WAL is moved again: its reader is gone");
            }
            return;
        }
        // Only what kept a checkpoint from its end is a pin, and the checkpointer's own is not meant.
        if !self.wal.is_kept() || self.checkpointer.is_under_way() {
            return;
        }
        let pin = self.pin.get_or_insert_with(Pin::new);
        self.shared.note_pinned_since(Some(pin.since()));
        if pin.is_to_be_said() {
            let readers = pin::readers(&self.path.wal_index());
            tracing::warn!(
                path = %self.path.text,
                bytes,
                bound,
                "the store's WAL cannot be emptied and grows with every event, because somebody reads an old state of the store: {readers}; \
                 end that reader"
            );
        }
    }

    fn show(&self) {
        self.shared.shown.send_modify(|times| *times = times.wrapping_add(1));
    }

    /// After a transaction was lost, does what a restart would: applies from the log what the index lacks, and learns anew what it holds.
    fn catch_up(&mut self) -> Result<(), StoreError> {
        if self.behind.is_none() {
            return Ok(());
        }
        self.sync()?;
        let place = crate::log::Place::new(self.path.log(), &self.key);
        let caught = recovery::catch_up(
            self.connection.apart_mut(),
            &place,
            &self.contents,
            None,
            &mut |_, _| {},
        )
        .and_then(|_| self.reload());
        if let Err(fault) = caught {
            self.behind = Some(Instant::now() + BEHIND_AGAIN);
            return Err(self.failed(fault));
        }
        self.texts_committed = (u64::MAX, 0);
        tracing::warn!(path = %self.path.text, "a transaction of the index failed; what was answered was applied again from the log");
        self.behind = None;
        self.shared.open.store(false, Ordering::Release);
        self.show();
        Ok(())
    }

    /// Learns anew what the index holds.
    fn reload(&mut self) -> Result<(), Fault> {
        let index = self.connection.apart();
        let receipts = receipts::of_writer(index, &self.path, open::open_reader, &self.contents, self.bounds)?;
        self.memory = Memory::load(index, receipts)?;
        Ok(())
    }

    /// What a fault means; the host stops after some.
    fn failed(&self, fault: Fault) -> StoreError {
        match fault.of_writer(&self.path.text) {
            StoreError::Fatal { detail } => self.fail_for_good(detail),
            other => other,
        }
    }

    /// Makes every record durable.
    fn sync(&mut self) -> Result<(), StoreError> {
        self.shared.check_disk()?;
        self.log
            .sync()
            .map_err(|error| self.fail_for_good(format!("{} cannot be synced: {error}", self.log.path().display())))?;
        self.unsynced = None;
        Ok(())
    }

    fn fail_for_good(&self, detail: String) -> StoreError {
        self.shared.fail_for_good(&self.path.text, detail)
    }

    /// Has the WAL moved into the file where that is due. A reader can keep it from being emptied: [`Thread::note_pin`] says who.
    fn checkpoint_if_due(&mut self) {
        if self.file_would_not_fit() {
            self.truncate_wal();
            return;
        }
        let due = self.wal.due(self.checkpointer.is_under_way(), Instant::now());
        if due != Due::Nothing {
            self.checkpointer.wait();
        }
        match due {
            Due::Nothing => {}
            Due::Move => {
                self.checkpointer.ask();
            }
            Due::MoveRest => match self.checkpoint("PASSIVE") {
                Some(true) => self.wal.is_empty_now(),
                Some(false) | None => self.wal.is_kept_now(4),
            },
            Due::Empty => {
                if !self.truncate_wal() {
                    self.wal.is_kept_now(1);
                }
            }
        }
    }

    /// Moves the WAL into the file, and returns whether all of it is there now; or nothing, when it failed. On a disk that failed it is
    /// left alone: a sync that goes well after another did not says nothing of what was lost.
    fn checkpoint(&self, mode: &str) -> Option<bool> {
        self.shared.check_disk().ok()?;
        checkpoint(self.connection.apart(), mode)
            .map_err(|fault| checkpoint_failed(fault, &self.path.text, &self.shared))
            .ok()
    }

    /// Whether the disk has less space than the file could need to take in the WAL. Asked after every few pages.
    fn file_would_not_fit(&mut self) -> bool {
        // Where the disk does not say, a full one is noticed when it is full.
        self.wal.space_to_ask_for().is_some_and(|bytes| {
            let disk = rustix::fs::statvfs(&self.place.database);
            disk.is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < bytes)
        })
    }

    /// On a full disk the WAL is space as well: its pages stand there many times, and in the file once. Returns whether it gave some.
    fn wal_made_room(&mut self) -> bool {
        // A transaction under way keeps the WAL.
        let _ = self.catch_up().and_then(|()| self.commit());
        self.wal.bytes() > 0 && self.truncate_wal()
    }

    /// Returns whether the WAL is empty now.
    fn truncate_wal(&mut self) -> bool {
        self.checkpointer.wait();
        if let Err(fault) = self.wait_for_locks(TRUNCATE_WAIT_MS) {
            checkpoint_failed(fault, &self.path.text, &self.shared);
            return false;
        }
        let emptied = self.checkpoint("TRUNCATE") == Some(true);
        if emptied {
            self.wal.is_empty_now();
        }
        if let Err(fault) = self.wait_for_locks(LOCK_WAIT_MS) {
            checkpoint_failed(fault, &self.path.text, &self.shared);
        }
        emptied
    }

    fn wait_for_locks(&self, ms: u64) -> Result<(), Fault> {
        Ok(self.connection.apart().busy_timeout(Duration::from_millis(ms))?)
    }
}

/// A group's error, once for each of its pieces.
fn copy(error: &StoreError) -> StoreError {
    match error {
        StoreError::Full => StoreError::Full,
        StoreError::NoSpace { path } => StoreError::NoSpace { path: path.clone() },
        StoreError::Fatal { detail } => StoreError::Fatal { detail: detail.clone() },
        StoreError::NotFound { what } => StoreError::NotFound { what: what.clone() },
        StoreError::Illegal(event) => StoreError::Illegal(*event),
        StoreError::Damaged { detail } => StoreError::Damaged { detail: detail.clone() },
        StoreError::Closed => StoreError::Closed,
        other => StoreError::Database {
            detail: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::PoisonError;

    use super::super::{Access, OpenOptions, SqliteStore};
    use super::*;

    #[test]
    fn the_log_keeps_its_bound_on_a_disk_that_does_not_follow() {
        let folder = tempfile::tempdir().unwrap();
        // A new store's WAL is half of this.
        let bound = 2 * 1024 * 1024;
        let options = OpenOptions {
            wal_bytes_max: bound,
            ..OpenOptions::default()
        };
        let store = SqliteStore::open(folder.path().join("t.db"), options).unwrap();
        let Access::ReadWrite(writer) = &store.inner.access else {
            panic!("it was opened to be written");
        };
        let log_bytes = || std::fs::metadata(folder.path().join("t.db-wal")).unwrap().len();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let write = |sql: &'static str| {
            runtime.block_on(async {
                let write = writer.write_unsynced(Kind::Copied, move |transaction| {
                    transaction.changed.push(crate::Topic::Tokens);
                    Ok(transaction.connection.execute(sql, [])?)
                });
                tokio::time::timeout(Duration::from_secs(5), write).await
            })
        };
        let ballast = "INSERT INTO ballast VALUES (zeroblob(20000))";
        write("CREATE TABLE ballast (x)").unwrap().unwrap();
        {
            // Nothing is moved beside the writer.
            let _disk = writer
                .shared
                .checkpointing
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let mut written = 0;
            while let Ok(answer) = write(ballast) {
                answer.unwrap();
                written += 1;
                assert!(written < 1000, "nobody waits for the disk");
            }
            assert!(log_bytes() > bound * 3 / 2, "{} bytes: it waits too soon", log_bytes());
            assert!(log_bytes() < bound * 2, "{} bytes", log_bytes());
        }
        for _ in 0..100 {
            write(ballast).unwrap().unwrap();
        }
        assert!(log_bytes() < bound * 2, "{} bytes", log_bytes());
    }

    /// Whoever reads the index's keys for a writer that ends would keep its WAL, and the next start would have to take it in.
    #[test]
    fn a_host_that_ends_soon_leaves_no_wal_however_many_keys_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        drop(SqliteStore::open(&path, OpenOptions::default()).unwrap());
        let index = Connection::open(&path).unwrap();
        index
            .execute_batch(
                "WITH RECURSIVE n (at) AS (SELECT 1 UNION ALL SELECT at + 1 FROM n WHERE at < 1000000) \
                 INSERT INTO receipt_keys (id, seq) SELECT randomblob(16), -at FROM n",
            )
            .unwrap();
        drop(index);
        for _ in 0..3 {
            let store = SqliteStore::open(&path, OpenOptions::default()).unwrap();
            let Access::ReadWrite(writer) = &store.inner.access else {
                panic!("it was opened to be written");
            };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                // The keys are being read by now, and for a while longer.
                std::thread::sleep(Duration::from_millis(20));
                let write = writer.write(Kind::Copied, |transaction| {
                    let sql = "INSERT OR REPLACE INTO meta (name, value) VALUES ('ballast', zeroblob(20000))";
                    Ok(transaction.connection.execute(sql, [])?)
                });
                write.await.unwrap();
                crate::Store::close(&store).await;
            });
            drop(store);
            let wal = std::fs::metadata(folder.path().join("t.db-wal")).map_or(0, |wal| wal.len());
            assert_eq!(wal, 0);
        }
    }
}
