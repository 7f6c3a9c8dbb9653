//! The stores of this machine at rest, to be copied: a native one by its own door, so that its log has all that comes into it, and a guest's
//! rows in the guest's own file.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::runtime::Runtime;
use tollgate_core::secret::Secret;

use super::fault::Fault;
use super::files::{self, SoleUse, StorePath};
use super::open;
use super::receipts::{Layout, View};
use super::transaction::Transaction;
use super::{OpenOptions, SqliteStore, recovery};
use crate::log::{self, Kind};
use crate::sql::Kind as Failed;
use crate::statements::operators::Transacts as _;
use crate::{Store as _, StoreError};

/// For how long a file that somebody else may just have let go is tried.
const HELD_WAIT: Duration = Duration::from_millis(500);

/// Whether the file at a path is a guest's: a database with all that its store has. A native store has a key and a log beside it.
pub(crate) fn is_of_guest(path: &Path) -> Result<bool, StoreError> {
    let path = StorePath::new(path)?;
    Ok(path.path().exists() && !path.key().exists() && !has_log(&path))
}

fn has_log(path: &StorePath) -> bool {
    // Which files there are does not depend on the key.
    let place = log::Place::new(path.log(), &Secret::new([0; 32]));
    log::segments(&place).is_ok_and(|segments| !segments.is_empty())
}

/// Whether two paths lead to one store.
pub(crate) fn is_same(one: &Path, other: &Path) -> Result<bool, StoreError> {
    Ok(StorePath::new(one)?.path() == StorePath::new(other)?.path())
}

/// A native store that no host has.
pub(crate) struct LogStore {
    store: SqliteStore,
    path: StorePath,
    runtime: Runtime,
    /// Where the store's own writer does not hold it.
    _sole_use: Option<SoleUse>,
}

impl LogStore {
    /// To be read.
    ///
    /// # Errors
    /// [`StoreError::InUse`], and as [`SqliteStore::open_read_only`].
    pub(crate) fn source(path: &Path) -> Result<Self, StoreError> {
        let path = StorePath::new(path)?;
        if !path.path().exists() && !has_log(&path) {
            return Err(path.cannot_open("there is no store"));
        }
        let sole_use = SoleUse::take(&path)?;
        recovery::take_in_alone(&path)?;
        Ok(Self {
            store: SqliteStore::open_read_only(path.path())?,
            runtime: runtime(&path)?,
            path,
            _sole_use: Some(sole_use),
        })
    }

    /// To be written: made with a key where there is none.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub(crate) fn target(path: &Path, key: &Secret) -> Result<Self, StoreError> {
        let path = StorePath::new(path)?;
        if !path.key().exists() {
            open::keep_key(&path, key)?;
        }
        Ok(Self {
            store: SqliteStore::open_unfinished(path.path(), OpenOptions::default())?,
            runtime: runtime(&path)?,
            path,
            _sole_use: None,
        })
    }

    /// For people.
    pub(crate) fn shown(&self) -> &str {
        &self.path.text
    }

    pub(crate) fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(View<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.runtime.block_on(self.store.read(work))
    }

    pub(crate) fn write(
        &self,
        work: impl Fn(&mut Transaction<'_>) -> Result<(), Fault> + Send + 'static,
    ) -> Result<(), StoreError> {
        self.runtime.block_on(self.store.write(Kind::Copied, work))
    }

    /// What an audit finds to be wrong, in words.
    pub(crate) fn problems(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.store.audited()?.in_words())
    }

    /// Everything is on the disk then, and others may open it.
    pub(crate) fn close(self) {
        self.runtime.block_on(self.store.close());
    }
}

fn runtime(path: &StorePath) -> Result<Runtime, StoreError> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| path.cannot_open(error))
}

/// What stands at a path where a native store is to be made.
pub(crate) enum Standing {
    Nothing,
    /// A store of that key. It is for the caller to look whether it is one that was begun by a copy.
    OfThatKey(Connection),
    Something,
}

/// Looks, and changes nothing.
pub(crate) fn standing(path: &Path, key: &Secret) -> Result<Standing, StoreError> {
    let path = StorePath::new(path)?;
    let is_keys = path.key().exists() && open::receipt_key(&path).is_ok_and(|found| found.matches(key.expose()));
    let is_empty = match is_keys {
        true => has_no_schema(&path)?,
        false => path.path().metadata().map_or(true, |index| index.len() == 0),
    };
    if is_empty {
        // A key, and a file without a schema, are what a copy leaves that was ended at its first steps.
        let is_free = !has_log(&path) && (is_keys || !path.key().exists());
        return Ok(if is_free {
            Standing::Nothing
        } else {
            Standing::Something
        });
    }
    if !is_keys {
        return Ok(Standing::Something);
    }
    let connection = open::open_reader(&path)?;
    open::check_schema(&path, &connection)?;
    Ok(Standing::OfThatKey(connection))
}

/// Opens a guest's file for this connection alone, for as long as it lives; with `make`, makes it if there is none.
///
/// # Errors
/// [`StoreError::Open`], also when an app has the file open, or it is no guest's.
pub(crate) fn open_rows(path: &Path, make: bool) -> Result<(Connection, String), StoreError> {
    let path = StorePath::new(path)?;
    if make {
        files::keep_private(&path)?;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path.path(), flags).map_err(|error| path.opening(error.into()));
    let connection = opened?;
    let alone = || -> Result<(), Fault> {
        open::configure(&connection)?;
        connection.busy_timeout(HELD_WAIT)?;
        // Whoever has a database open in WAL mode keeps a lock on it that this one cannot share, and gets none beside it.
        connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; COMMIT;")?;
        Ok(())
    };
    alone().map_err(|fault| match fault.kind() {
        Some(Failed::Busy) => path.cannot_open("an app has it open: stop it first"),
        _ => path.opening(fault),
    })?;
    if make {
        open::make_rows(&path, &connection)?;
        // What is copied is moved into the file as it comes, not all of it at the end.
        connection
            .execute_batch("PRAGMA wal_autocheckpoint = 1000;")
            .map_err(|error| path.opening(error.into()))?;
    }
    open::check_schema(&path, &connection)?;
    match Layout::read(&connection) {
        Ok(Layout::Rows) => Ok((connection, path.text)),
        Ok(_) => Err(path.cannot_open(
            "it is the index of a native store, and the log and the key are not beside it: without them it cannot be copied",
        )),
        Err(fault) => Err(path.opening(fault)),
    }
}

/// Whether there is nothing yet at a path where a guest's file is to be made.
pub(crate) fn is_nothing(path: &Path) -> Result<bool, StoreError> {
    has_no_schema(&StorePath::new(path)?)
}

/// Whether there is no file, or one in which nothing was made yet: whoever was ended between opening it and its first transaction leaves
/// SQLite's header.
fn has_no_schema(path: &StorePath) -> Result<bool, StoreError> {
    if path.path().metadata().map_or(true, |file| file.len() == 0) {
        return Ok(true);
    }
    let connection = open::open_reader(path)?;
    let objects = || -> Result<i64, Fault> {
        Ok(connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?)
    };
    let made = open::user_version(&connection).map_err(|fault| path.opening(fault))? > 0;
    Ok(!made && objects().map_err(|fault| path.opening(fault))? == 0)
}
