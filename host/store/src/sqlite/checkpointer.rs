//! Moves the index's WAL into its file, beside the writer. It takes as long as a disk takes for thousands of pages, and everybody who
//! wants an answer would wait for it. What comes meanwhile is little, and the writer moves that itself.
//!
//! SQLite syncs the WAL before it moves it. Nothing else is synced of the index: what it has lost with the power is in the log.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use rusqlite::Connection;

use super::fault::Fault;
use super::files::StorePath;
use super::open::{self, checkpoint};
use super::shared::Shared;
use crate::StoreError;

/// The thread that moves, and how far it is.
pub(super) struct Checkpointer {
    asks: Option<SyncSender<()>>,
    ends: Receiver<()>,
    is_under_way: bool,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn start(path: &StorePath, shared: &Arc<Shared>) -> Result<Self, StoreError> {
        let (asks, asked) = sync_channel(1);
        let (ended, ends) = sync_channel(1);
        let connection = open::open_checkpointer(path)?;
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn({
                let (path, shared) = (path.text.clone(), Arc::clone(shared));
                move || serve(&connection, &asked, &ended, &path, &shared)
            })
            .map_err(|error| path.cannot_open(format_args!("a thread cannot be started: {error}")))?;
        Ok(Self {
            asks: Some(asks),
            ends,
            is_under_way: false,
            thread: Some(thread),
        })
    }

    /// Has the WAL moved as it is now. Returns whether that is on its way.
    pub(super) fn ask(&mut self) -> bool {
        self.is_under_way = self.asks.as_ref().is_some_and(|asks| asks.try_send(()).is_ok());
        self.is_under_way
    }

    /// Whether it is still at what it was asked for.
    pub(super) fn is_under_way(&mut self) -> bool {
        if self.is_under_way && self.ends.try_recv() != Err(TryRecvError::Empty) {
            self.is_under_way = false;
        }
        self.is_under_way
    }

    /// Returns when it does nothing more.
    pub(super) fn wait(&mut self) {
        if self.is_under_way {
            // A thread that is gone does nothing either.
            let _ = self.ends.recv();
            self.is_under_way = false;
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
    }
}

fn serve(connection: &Connection, asked: &Receiver<()>, ended: &SyncSender<()>, path: &str, shared: &Shared) {
    for () in asked {
        let _alone = shared.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.check_disk().is_ok()
            && let Err(fault) = checkpoint(connection, "PASSIVE")
        {
            checkpoint_failed(fault, path, shared);
        }
        // The writer takes note of each before it asks again, or is gone.
        let _ = ended.send(());
    }
}

/// A full disk is no harm here: the WAL keeps everything, and each group that finds no room tries again, so it is not said each time. A failing disk is.
pub(super) fn checkpoint_failed(fault: Fault, path: &str, shared: &Shared) {
    match fault.of_writer(path) {
        StoreError::Fatal { detail } => {
            shared.fail_for_good(path, format!("in a checkpoint: {detail}"));
        }
        error => {
            let mut reminder = shared
                .unfinished_checkpoint
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if reminder.is_due(Instant::now()) {
                tracing::warn!(path, %error, "a checkpoint did not finish; the WAL grows until one does");
            }
        }
    }
}
