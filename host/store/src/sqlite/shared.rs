//! What the writer's thread and its callers both see.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::state::StateAhead;
use crate::queue::Signals;
use crate::reminder::Reminder;
use crate::{StoreError, WalStanding};

/// What the thread and its callers both see.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) signals: Signals,
    /// Set once, when the disk failed.
    pub(super) fatal: OnceLock<String>,
    /// Held while the WAL is moved beside the writer.
    pub(super) checkpointing: Mutex<()>,
    /// That a checkpoint did not finish.
    pub(super) unfinished_checkpoint: Mutex<Reminder>,
    /// There are answered groups that readers do not see yet.
    pub(super) open: AtomicBool,
    /// Somebody waits to see them.
    pub(super) show: AtomicBool,
    /// Counts the times that everything was committed.
    pub(super) shown: watch::Sender<u64>,
    /// Plugin state as the writer left it.
    pub(super) state: StateAhead,
    /// Bytes of the WAL, as the last commit left it.
    pub(super) wal_bytes: AtomicU64,
    /// Since when a reader keeps the WAL from being emptied.
    pinned_since: Mutex<Option<Instant>>,
}

impl Shared {
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.check_disk()?;
        self.signals.check()
    }

    /// Whether the disk has not failed so far.
    pub(super) fn check_disk(&self) -> Result<(), StoreError> {
        match self.fatal.get() {
            Some(detail) => Err(StoreError::Fatal { detail: detail.clone() }),
            None => Ok(()),
        }
    }

    /// From here on every call is answered with this error.
    pub(super) fn fail_for_good(&self, path: &str, detail: String) -> StoreError {
        let _ = self.fatal.set(detail.clone());
        tracing::error!(path, detail, "the store's disk failed; nothing more is written");
        StoreError::Fatal { detail }
    }

    /// Blocks until readers see all that was answered so far: a commit is never far.
    pub(super) fn wait_until_shown(&self) {
        let times = *self.shown.borrow();
        while self.open.load(Ordering::Acquire) && *self.shown.borrow() == times && self.check().is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn note_pinned_since(&self, since: Option<Instant>) {
        *self.pinned_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// How long the WAL is, and for how long a reader has kept it so.
    pub(super) fn wal_standing(&self) -> WalStanding {
        let pinned_since = *self.pinned_since.lock().unwrap_or_else(PoisonError::into_inner);
        WalStanding {
            bytes: self.wal_bytes.load(Ordering::Relaxed),
            pinned_for: pinned_since.map(|since| since.elapsed()),
        }
    }
}
