//! Opening the index: connections and their settings, migrations, what a dead holder left behind.

use std::fs::OpenOptions as FileOptions;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tollgate_core::secret::Secret;
use tollgate_core::work::{EntryEvent, EntryState, JobEvent, JobState};

use super::fault::Fault;
use super::files::{StorePath, keep_private, private, sync_directory};
use super::jobs;
use super::order;
use super::receipts::Layout;
use super::rows;
use super::schema::{MIGRATIONS, SCHEMA_VERSION};
use crate::StoreError;
use crate::sql::params;

/// Bytes of a new store's pages. Half as many levels as with 4 KiB; larger ones make small commits write too much.
const PAGE_BYTES: u64 = 8 * 1024;
/// SQLite before this version has a WAL-reset bug that can corrupt the file.
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// How long a connection waits for another's lock: only opening and checkpoints ever meet one.
pub(super) const LOCK_WAIT_MS: u64 = 5_000;
/// A truncating checkpoint waits this long for readers before it lets them be. Writers, or a start, wait meanwhile.
pub(super) const TRUNCATE_WAIT_MS: u64 = 50;
/// Statements kept prepared per connection; more than there are.
const STATEMENTS_MAX: usize = 128;

/// Moves into the file what the WAL of a process holds that did not end by itself, and removes that WAL.
///
/// Where it stopped because a sync had failed, part of its WAL, or the WAL's name, may be in the kernel's memory alone, and no later sync
/// would write it; what stands behind such a part is lost with it, synced or not. So the WAL is written again as it is, and a new one is
/// begun. What is amiss with the files is said where they are opened; a WAL without space to move to, or that somebody reads, stays.
///
/// # Errors
/// When the disk fails.
pub(super) fn end_wal(path: &StorePath) -> Result<(), StoreError> {
    let wal = path.beside("-wal");
    if !wal.exists() {
        return Ok(());
    }
    let ended = write_again(&wal)
        .map_err(Fault::Io)
        .and_then(|()| sync_directory(path).map_err(Fault::Io))
        .and_then(|()| {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path.path(), flags)?;
            configure(&connection)?;
            checkpoint_on_close(&connection, false)?;
            // Nobody else writes; whoever reads may do so for ever.
            connection.busy_timeout(Duration::from_millis(TRUNCATE_WAIT_MS))?;
            if checkpoint(&connection, "TRUNCATE")? {
                // Now the WAL may go with the connection.
                checkpoint_on_close(&connection, true)?;
            }
            Ok(())
        });
    match ended {
        Ok(()) => Ok(()),
        Err(fault) if fault.is_of_disk() => Err(path.opening(fault)),
        Err(fault) => {
            let detail = fault.detail();
            tracing::warn!(path = %path.text, detail, "the WAL of the last process could not be moved into the file");
            Ok(())
        }
    }
}

/// Writes a whole file again as it is, durably.
fn write_again(path: &Path) -> std::io::Result<()> {
    let bytes = std::fs::read(path)?;
    let mut file = FileOptions::new().write(true).open(path)?;
    std::io::Write::write_all(&mut file, &bytes)?;
    // The same for its size.
    file.set_len(bytes.len() as u64 + 1)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_data()
}

/// Opens the writer's connection: makes the index if there is none, and migrates it.
pub(super) fn open_writer(path: &StorePath, file_bytes_max: Option<u64>) -> Result<Connection, StoreError> {
    check_version(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path.path(), flags).map_err(|error| path.opening(error.into()))?;
    let known = configure(&connection)
        .and_then(|()| checkpoint_on_close(&connection, false))
        .and_then(|()| prepare_file(&connection, file_bytes_max))
        .map_err(|fault| path.opening(fault))?;
    if known > SCHEMA_VERSION {
        return Err(StoreError::NewerSchema {
            path: path.text.clone(),
            found: known,
            known: SCHEMA_VERSION,
        });
    }
    let mut made_ready = migrate(&mut connection, known);
    if made_ready.as_ref().is_err_and(Fault::is_no_space) {
        // What the last process left in the WAL takes less space in the file.
        connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(|error| path.opening(error.into()))?;
        // Some steps may have been taken.
        let known = user_version(&connection).map_err(|fault| path.opening(fault))?;
        made_ready = migrate(&mut connection, known);
    }
    made_ready.map_err(|fault| path.opening(fault))?;
    // SQLite syncs the directory when it has made a WAL, but takes no notice when that fails; and what is in a WAL without a name is lost.
    sync_directory(path).map_err(|error| path.cannot_open(format_args!("its directory: {error}")))?;
    Ok(connection)
}

/// Opens a connection that moves the WAL into the file, beside the writer of this process.
pub(super) fn open_checkpointer(path: &StorePath) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path.path(), flags).map_err(|error| path.opening(error.into()))?;
    configure(&connection)
        .and_then(|()| checkpoint_on_close(&connection, false))
        .and_then(|()| Ok(connection.execute_batch("PRAGMA wal_autocheckpoint = 0;")?))
        .map_err(|fault| path.opening(fault))?;
    Ok(connection)
}

/// Opens a connection that cannot write, beside a writer in this process or another.
pub(super) fn open_reader(path: &StorePath) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path.path(), flags).map_err(|error| path.opening(error.into()))?;
    configure(&connection).map_err(|fault| path.opening(fault))?;
    Ok(connection)
}

/// Copies the database, as of one commit, into a file that does not exist yet. Beside it nothing is copied, and nothing is synced.
pub(super) fn copy_database(from: &StorePath, to: &StorePath) -> Result<(), StoreError> {
    if to.path().exists() {
        return Err(to.cannot_open("something is there already; name another place"));
    }
    let source = open_reader(from)?;
    // SQLite takes an empty file for none, and leaves its mode.
    keep_private(to)?;
    source
        .execute("VACUUM INTO ?1", [to.path().to_string_lossy()])
        .map_err(|error| to.opening(error.into()))?;
    Ok(())
}

/// Refuses a store that this Tollgate cannot read as it is; a reader does not migrate.
pub(super) fn check_schema(path: &StorePath, connection: &Connection) -> Result<(), StoreError> {
    check_version(path)?;
    let found = user_version(connection).map_err(|fault| path.opening(fault))?;
    match found {
        SCHEMA_VERSION => Ok(()),
        newer if newer > SCHEMA_VERSION => Err(StoreError::NewerSchema {
            path: path.text.clone(),
            found: newer,
            known: SCHEMA_VERSION,
        }),
        0 => Err(path.cannot_open("it holds no Tollgate store")),
        older => Err(path.cannot_open(format_args!(
            "it has schema {older}; start the server once to migrate it to {SCHEMA_VERSION}"
        ))),
    }
}

/// The store's key: receipt ids are made with it, and records are sealed with what is made from it. It stands in a file of its own, because
/// the index can be made again and it cannot.
pub(super) fn receipt_key(path: &StorePath) -> Result<Secret, StoreError> {
    let trouble = |detail: String| path.cannot_open(format_args!("its key, {}, {detail}", path.key().display()));
    let key = std::fs::read(path.key()).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => trouble(
            "is not there: the store was made by a Tollgate that was never released, or part of it is lost".to_owned(),
        ),
        _ => trouble(format!("cannot be read: {error}")),
    })?;
    match key.len() {
        32 => Ok(Secret::new(key)),
        bytes => Err(trouble(format!("has {bytes} bytes instead of 32"))),
    }
}

/// The store's key as the index has it, for its statements.
pub(super) fn key_of_index(path: &StorePath, connection: &Connection) -> Result<Secret, StoreError> {
    let key: Vec<u8> = connection
        .query_row("SELECT value FROM meta WHERE name = 'receipt_key'", [], |row| {
            row.get(0)
        })
        .map_err(|error| path.opening(error.into()))?;
    Ok(Secret::new(key))
}

/// Keeps the store's key beside the log, if it is not there: a new key, or that of the database, which a guest or a copy made.
pub(super) fn begin_log(path: &StorePath, connection: &Connection) -> Result<(), StoreError> {
    if path.key().exists() {
        return Ok(());
    }
    let known: Option<Vec<u8>> = connection
        .query_row("SELECT value FROM meta WHERE name = 'receipt_key'", [], |row| {
            row.get(0)
        })
        .map_or_else(no_row, |key| Ok(Some(key)))
        .map_err(|fault| path.opening(fault))?;
    let had = connection
        .query_row("SELECT count(*) FROM meta WHERE name = 'applied_to'", [], |row| {
            row.get::<_, i64>(0)
        })
        .map_err(|error| path.opening(error.into()))?;
    if had > 0 {
        return Err(path.cannot_open(format_args!(
            "its key and its log are not there ({}): restore them; the database alone is an index of the log",
            path.key().display()
        )));
    }
    let key = match known {
        Some(key) => key,
        None => {
            let mut key = vec![0; 32];
            getrandom::fill(&mut key)
                .map_err(|error| path.cannot_open(format_args!("the system's random source: {error}")))?;
            key
        }
    };
    keep_key(path, &Secret::new(key))
}

/// Writes a store's key into its file.
pub(super) fn keep_key(path: &StorePath, key: &Secret) -> Result<(), StoreError> {
    let make = || -> std::io::Result<()> {
        let unfinished = path.beside("-key.new");
        let mut file = private().write(true).create(true).truncate(true).open(&unfinished)?;
        std::io::Write::write_all(&mut file, key.expose())?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path.key())?;
        sync_directory(path)
    };
    make().map_err(|error| path.failed(&error))
}

/// Makes an empty file a guest's store but for its key, and brings one that was begun up to date.
pub(super) fn make_rows(path: &StorePath, connection: &Connection) -> Result<(), StoreError> {
    let make = || -> Result<(), Fault> {
        let known = prepare_file(connection, None)?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for sql in MIGRATIONS.iter().skip(known as usize) {
            connection.execute_batch(sql)?;
        }
        connection.execute(
            "INSERT OR IGNORE INTO meta (name, value) VALUES ('layout', ?1)",
            [Layout::Rows.name().as_bytes()],
        )?;
        connection.execute_batch(&format!("PRAGMA user_version = {}; COMMIT;", SCHEMA_VERSION.max(known)))?;
        Ok(())
    };
    make().map_err(|fault| path.opening(fault))?;
    sync_directory(path).map_err(|error| path.cannot_open(format_args!("its directory: {error}")))
}

/// Nothing, where there was no row.
fn no_row<T>(error: rusqlite::Error) -> Result<Option<T>, Fault> {
    match error {
        rusqlite::Error::QueryReturnedNoRows => Ok(None),
        other => Err(other.into()),
    }
}

fn check_version(path: &StorePath) -> Result<(), StoreError> {
    let version = rusqlite::version_number();
    if version < SQLITE_VERSION_MIN {
        let found = rusqlite::version();
        return Err(path.cannot_open(format_args!(
            "this build's SQLite is {found}; 3.51.3 is the oldest that is safe"
        )));
    }
    Ok(())
}

/// Settings of every connection.
pub(super) fn configure(connection: &Connection) -> Result<(), Fault> {
    connection.busy_timeout(Duration::from_millis(LOCK_WAIT_MS))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // Without it, this build's SQLite plans a statement anew for bound values that its statistics might favour: a tenth of
    // the store's CPU, for statements that have one good plan each.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.execute_batch(
        "PRAGMA foreign_keys = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;",
    )?;
    Ok(())
}

/// Returns whether the whole WAL is in the file now.
pub(super) fn checkpoint(connection: &Connection, mode: &str) -> Result<bool, Fault> {
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    let (busy, in_wal, moved) = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], row)?;
    Ok(busy == 0 && in_wal == moved)
}

/// Whether the connection moves the log into the file when it is closed. Only after all went well: what of the log is on the disk after
/// a sync that failed nobody knows, and a file that has half of it is damaged. A WAL that is left is read at the next start.
pub(super) fn checkpoint_on_close(connection: &Connection, does: bool) -> Result<(), Fault> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !does)?;
    Ok(())
}

/// Settings of the writer and of the file. Returns the file's schema version, 0 for a new one.
fn prepare_file(connection: &Connection, file_bytes_max: Option<u64>) -> Result<u32, Fault> {
    connection.execute_batch(&format!("PRAGMA page_size = {PAGE_BYTES};"))?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Fault::Damaged(format!(
            "its file system gives journal mode `{mode}`; Tollgate needs `wal`"
        )));
    }
    // The host checkpoints by itself, between commits. Only a checkpoint syncs: what the index has lost with the power is in the log.
    connection
        .execute_batch("PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -65536;")?;
    if let Some(bytes) = file_bytes_max {
        let pages = bytes / page_bytes(connection)?;
        connection.execute_batch(&format!("PRAGMA max_page_count = {pages};"))?;
    }
    user_version(connection)
}

/// An older store keeps the page size that it was made with.
pub(super) fn page_bytes(connection: &Connection) -> Result<u64, Fault> {
    let bytes: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    u64::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| Fault::damaged("page size", bytes))
}

pub(super) fn user_version(connection: &Connection) -> Result<u32, Fault> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    u32::try_from(version).map_err(|_| Fault::damaged("schema version", version))
}

/// Brings the schema up to date. A new index is made in one transaction, so that it is there whole or not at all; one that has content is
/// brought on step by step, each in a transaction of its own, because a step may need the space that the one before has freed.
fn migrate(connection: &mut Connection, from: u32) -> Result<(), Fault> {
    let at_once = if from == 0 { MIGRATIONS.len() } else { 1 };
    let mut done = from as usize;
    while let Some(steps) = MIGRATIONS.get(done..).filter(|steps| !steps.is_empty()) {
        let steps = &steps[..at_once.min(steps.len())];
        done += steps.len();
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for sql in steps {
            transaction.execute_batch(sql)?;
        }
        transaction.execute_batch(&format!("PRAGMA user_version = {done};"))?;
        transaction.commit()?;
    }
    Ok(())
}

/// The process that held these leases is gone, so what it held may be claimed at once. Its attempts stay counted.
pub(super) fn release_leases(connection: &crate::sql::Connection) -> Result<(), Fault> {
    let (from, to) = (EntryState::Leased, EntryState::Leased.next(EntryEvent::Release)?);
    let in_lanes = order::leased(connection)?;
    // What somebody pulled is not this process's: it is theirs until its time is over.
    release(
        "outbox",
        " AND pulled_at IS NULL",
        rows::entry_code(from),
        rows::entry_code(to),
        connection,
    )?;
    order::after_release(connection, &in_lanes)?;
    let (from, to) = (JobState::Leased, JobState::Leased.next(JobEvent::Release)?);
    let leased = connection
        .prepare_cached("SELECT id, lane FROM jobs WHERE state = ?1 AND state IN (1, 2)")?
        .query_map([rows::job_code(from)], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<crate::sql::Result<Vec<(i64, i64)>>>()?;
    release("jobs", "", rows::job_code(from), rows::job_code(to), connection)?;
    for (job, lane) in leased {
        jobs::yield_to_older(connection, job, lane, to)?;
    }
    Ok(())
}

/// `and` narrows which.
fn release(table: &str, and: &str, from: i64, to: i64, connection: &crate::sql::Connection) -> Result<(), Fault> {
    connection.execute(
        &format!("UPDATE {table} SET state = ?2, due_at = 0, worker = NULL WHERE state = ?1 AND state IN (1, 2){and}"),
        params![from, to],
    )?;
    Ok(())
}
