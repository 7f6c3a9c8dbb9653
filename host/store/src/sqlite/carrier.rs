//! Carries the log into the database's file beside the writer. A checkpoint of a long log takes as long as a disk takes for
//! thousands of pages, and everybody who wants an answer would wait for it; what came meanwhile is little, and the writer carries that
//! itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::fault::Fault;
use super::open::{self, StorePath};
use super::writer::Shared;
use crate::StoreError;

/// The thread that carries, and how far it is.
pub(super) struct Carrier {
    asks: Option<SyncSender<()>>,
    is_done: Arc<AtomicBool>,
    /// It was asked, and what it did was not taken note of yet.
    was_asked: bool,
    thread: Option<JoinHandle<()>>,
}

/// What has become of a log that is to be carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carried {
    /// It is being carried.
    NotYet,
    /// As far as it went when it was asked for; or nobody carries it, and the writer has to.
    Mostly,
}

impl Carrier {
    pub(super) fn start(path: &StorePath, shared: &Arc<Shared>) -> Result<Self, StoreError> {
        let (asks, asked) = sync_channel(1);
        let is_done = Arc::new(AtomicBool::new(false));
        let connection = open::open_carrier(path)?;
        let thread = std::thread::Builder::new()
            .name("store-carrier".into())
            .spawn({
                let (path, shared, is_done) = (path.text.clone(), Arc::clone(shared), Arc::clone(&is_done));
                move || carry(&connection, &asked, &path, &shared, &is_done)
            })
            .map_err(|error| path.cannot_open(format_args!("a thread cannot be started: {error}")))?;
        Ok(Self {
            asks: Some(asks),
            is_done,
            was_asked: false,
            thread: Some(thread),
        })
    }

    /// Has the log carried as far as it goes now. Asked again and again, it says once when that is done.
    pub(super) fn carry(&mut self) -> Carried {
        if self.was_asked {
            if !self.is_done.swap(false, Ordering::AcqRel) {
                return Carried::NotYet;
            }
            self.was_asked = false;
            return Carried::Mostly;
        }
        match self.asks.as_ref().map(|asks| asks.try_send(())) {
            Some(Ok(())) => {
                self.was_asked = true;
                Carried::NotYet
            }
            _ => Carried::Mostly,
        }
    }

    /// Lets the log be.
    pub(super) fn stop(&mut self) {
        self.asks = None;
        if let Some(thread) = self.thread.take() {
            // What it found is in the log of the host.
            let _ = thread.join();
        }
    }
}

fn carry(connection: &Connection, asked: &Receiver<()>, path: &str, shared: &Shared, is_done: &AtomicBool) {
    while asked.recv().is_ok() {
        if shared.check_disk().is_ok()
            && let Err(fault) = checkpoint(connection, "PASSIVE")
        {
            checkpoint_failed(fault, path, shared);
        }
        is_done.store(true, Ordering::Release);
    }
}

/// Answers whether the whole log is in the file now.
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
