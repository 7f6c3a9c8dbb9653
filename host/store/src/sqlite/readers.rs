//! Readers: connections that cannot write, lent out one at a time.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use super::fault::Fault;
use super::files::StorePath;
use super::open::open_reader;
use crate::StoreError;

/// Idle connections kept open; more are opened while more read at once, and closed after.
const IDLE_MAX: usize = 8;

#[derive(Debug, Clone)]
pub(super) struct Readers {
    path: StorePath,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn new(path: StorePath) -> Self {
        Self {
            path,
            idle: Arc::default(),
        }
    }

    /// Reads on this thread, in a read transaction: every statement of `work` sees the same commit.
    pub(super) fn read_here<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_reader(&self.path)?,
        };
        let result = connection
            .prepare_cached("BEGIN")
            .and_then(|mut begin| begin.execute([]))
            .map_err(Fault::from)
            .and_then(|_| work(&connection));
        // A connection that cannot end its transaction would hold an old snapshot for ever: it is closed instead.
        let reusable = connection.is_autocommit()
            || connection
                .prepare_cached("COMMIT")
                .and_then(|mut end| end.execute([]))
                .is_ok();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if reusable && idle.len() < IDLE_MAX {
            idle.push(connection);
        }
        drop(idle);
        result.map_err(Fault::of_reader)
    }

    /// Reads on a thread that may block.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let readers = self.clone();
        match tokio::task::spawn_blocking(move || readers.read_here(work)).await {
            Ok(result) => result,
            Err(error) => Err(StoreError::Database {
                detail: format!("a read did not finish: {error}"),
            }),
        }
    }

    /// Closes what is idle, so that the writer is the last to close and can empty the WAL.
    pub(super) fn close_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
