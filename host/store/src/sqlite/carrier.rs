//! Syncs the log, and carries it into the database's file, beside the writer. Either takes as long as a disk takes for thousands of
//! pages, and everybody who wants an answer would wait for it. What comes while the log is carried is little, and the writer carries that
//! itself.
//!
//! Two threads that sync one log must not trust each other's luck: a sync that goes well right after another's failed covers nothing of
//! what that one lost, and a file with half of a commit in it is damaged. So they sync one after the other, neither after a failure;
//! and only that is carried which was synced before.

use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::fault::Fault;
use super::open::{self, StorePath};
use super::writer::Shared;
use crate::StoreError;

/// The thread that carries, and how far it is.
pub(super) struct Carrier {
    asks: Option<SyncSender<Ask>>,
    ends: Receiver<()>,
    /// Reads as long as the thread carries: SQLite moves nothing that is newer than what somebody reads.
    pin: Option<Connection>,
    is_under_way: bool,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is to do with the log.
enum Ask {
    Sync(Arc<File>),
    Carry(Arc<File>),
}

impl Carrier {
    pub(super) fn start(path: &StorePath, shared: &Arc<Shared>) -> Result<Self, StoreError> {
        let (asks, asked) = sync_channel(1);
        let (ended, ends) = sync_channel(1);
        let connection = open::open_carrier(path)?;
        let pin = open::open_reader(path)?;
        let thread = std::thread::Builder::new()
            .name("store-carrier".into())
            .spawn({
                let (path, shared) = (path.text.clone(), Arc::clone(shared));
                move || serve(&connection, &asked, &ended, &path, &shared)
            })
            .map_err(|error| path.cannot_open(format_args!("a thread cannot be started: {error}")))?;
        Ok(Self {
            asks: Some(asks),
            ends,
            pin: Some(pin),
            is_under_way: false,
            thread: Some(thread),
        })
    }

    /// Has what is committed in the log made durable. Returns whether that is on its way.
    pub(super) fn sync(&mut self, log: &Arc<File>) -> bool {
        self.ask(Ask::Sync(Arc::clone(log)))
    }

    /// Has the log carried as it is now, while nobody writes. Returns whether that is on its way.
    pub(super) fn carry(&mut self, log: &Arc<File>) -> bool {
        let pinned = self
            .pin
            .as_ref()
            .is_some_and(|pin| pin.execute_batch("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1").is_ok());
        let asked = pinned && self.ask(Ask::Carry(Arc::clone(log)));
        if !asked {
            self.let_go();
        }
        asked
    }

    fn ask(&mut self, ask: Ask) -> bool {
        self.is_under_way = self.asks.as_ref().is_some_and(|asks| asks.try_send(ask).is_ok());
        self.is_under_way
    }

    /// Whether it is still at what it was asked for.
    pub(super) fn is_under_way(&mut self) -> bool {
        if self.is_under_way && self.ends.try_recv() != Err(TryRecvError::Empty) {
            self.let_go();
        }
        self.is_under_way
    }

    /// Returns when it does nothing more.
    pub(super) fn wait(&mut self) {
        if self.is_under_way {
            // A thread that is gone does nothing either.
            let _ = self.ends.recv();
            self.let_go();
        }
    }

    /// Does what it was asked for, and nothing more.
    pub(super) fn stop(&mut self) {
        self.asks = None;
        if let Some(thread) = self.thread.take() {
            // What it found is in the log of the host.
            let _ = thread.join();
        }
        self.is_under_way = false;
        self.pin = None;
    }

    fn let_go(&mut self) {
        self.is_under_way = false;
        // A pin that cannot be let go would keep the log for ever; without one the writer carries by itself.
        if self
            .pin
            .as_ref()
            .is_some_and(|pin| !pin.is_autocommit() && pin.execute_batch("ROLLBACK").is_err())
        {
            self.pin = None;
        }
    }
}

fn serve(connection: &Connection, asked: &Receiver<Ask>, ended: &SyncSender<()>, path: &str, shared: &Shared) {
    for ask in asked {
        let (Ask::Sync(log) | Ask::Carry(log)) = &ask;
        if shared.sync_log(log, path).is_ok()
            && matches!(ask, Ask::Carry(_))
            && let Err(fault) = checkpoint(connection, "PASSIVE")
        {
            checkpoint_failed(fault, path, shared);
        }
        // The writer takes note of each before it asks again, or is gone.
        let _ = ended.send(());
    }
}

/// Returns whether the whole log is in the file now.
pub(super) fn checkpoint(connection: &Connection, mode: &str) -> Result<bool, Fault> {
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    let (busy, in_wal, moved) = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], row)?;
    Ok(busy == 0 && in_wal == moved)
}

/// A full disk is no harm here: the log keeps everything. A failing disk is.
pub(super) fn checkpoint_failed(fault: Fault, path: &str, shared: &Shared) {
    match fault.of_writer(path) {
        StoreError::Fatal { detail } => {
            shared.fail_for_good(path, format!("in a checkpoint: {detail}"));
        }
        error => tracing::warn!(path, %error, "a checkpoint did not finish; the log grows until one does"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::PoisonError;

    use super::*;

    /// A store of one table whose changes are all in the log.
    struct Stage {
        folder: tempfile::TempDir,
        writer: Connection,
        shared: Arc<Shared>,
        carrier: Carrier,
    }

    impl Stage {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = StorePath::new(&folder.path().join("t.db")).unwrap();
            let writer = Connection::open(path.path()).unwrap();
            writer
                .execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x);")
                .unwrap();
            let shared = Arc::new(Shared::default());
            let carrier = Carrier::start(&path, &shared).unwrap();
            Self {
                folder,
                writer,
                shared,
                carrier,
            }
        }

        fn log(&self) -> Arc<File> {
            Arc::new(File::open(self.folder.path().join("t.db-wal")).unwrap())
        }

        fn write(&self) {
            self.writer
                .execute_batch("INSERT INTO t VALUES (zeroblob(20000))")
                .unwrap();
        }

        /// Pages in the log, and of these in the file.
        fn moved(&self) -> (i64, i64) {
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(1)?, row.get(2)?));
            self.writer.query_row("PRAGMA wal_checkpoint(NOOP)", [], row).unwrap()
        }
    }

    /// A file of which the system says that it cannot be synced.
    fn cannot_be_synced() -> Arc<File> {
        let (_, pipe) = std::io::pipe().unwrap();
        Arc::new(File::from(std::os::fd::OwnedFd::from(pipe)))
    }

    #[test]
    fn what_was_there_is_carried_and_nothing_later() {
        let mut stage = Stage::new();
        stage.write();
        let (pages, _) = stage.moved();
        let log = stage.log();
        {
            let shared = Arc::clone(&stage.shared);
            // The thread cannot begin before this is dropped.
            let _nobody_syncs = shared.syncing.lock().unwrap_or_else(PoisonError::into_inner);
            assert!(stage.carrier.carry(&log));
            stage.write();
        }
        stage.carrier.wait();
        let (more, moved) = stage.moved();
        assert!(more > pages);
        assert_eq!(moved, pages, "what came later was not synced");
        // The rest is not held back for ever.
        assert!(stage.carrier.carry(&log));
        stage.carrier.wait();
        assert_eq!(stage.moved(), (more, more));
    }

    #[test]
    fn nothing_is_carried_that_cannot_be_synced() {
        let mut stage = Stage::new();
        assert!(stage.carrier.carry(&cannot_be_synced()));
        stage.carrier.wait();
        assert!(matches!(stage.shared.check_disk(), Err(StoreError::Fatal { .. })));
        assert_eq!(stage.moved().1, 0);
    }

    #[test]
    fn after_a_sync_that_failed_no_other_is_believed() {
        let mut stage = Stage::new();
        let log = stage.log();
        stage.shared.sync_log(&cannot_be_synced(), "t.db").unwrap_err();
        assert!(matches!(
            stage.shared.sync_log(&log, "t.db"),
            Err(StoreError::Fatal { .. })
        ));
        assert!(stage.carrier.carry(&log));
        stage.carrier.wait();
        assert_eq!(stage.moved().1, 0);
    }
}
