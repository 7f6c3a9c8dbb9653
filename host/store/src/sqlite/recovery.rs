//! Makes the index say what the log says: after a restart, after a transaction that failed, and where there is no index at all. All three
//! are the same: records behind those that the index has are applied again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tollgate_core::secret::Secret;

use super::fault::Fault;
use super::files::{self, SoleUse, StorePath};
use super::head::write_chain_head;
use super::open;
use super::receipts::{self, Layout};
use crate::StoreError;
use crate::log::{self, Applied, Contents, Log, Place, Scan};
use crate::sql::{Connection as Index, OptionalExtension as _, params};

/// How long a reader waits for a host to commit what it has acknowledged, and how often it looks.
const HOST_WAIT_MAX: Duration = Duration::from_secs(2);
const HOST_LOOK_EVERY: Duration = Duration::from_millis(5);
/// Records that one transaction applies.
const RECORDS_PER_COMMIT: usize = 1024;
/// Records after which the keys that wait are carried into their indexes.
const RECORDS_PER_CARRY: u64 = 8 * 1024;

/// Up to where the index was made from the log.
pub(super) fn read_applied(index: &Index) -> Result<Applied, Fault> {
    match read_meta(index, "applied_to")? {
        None => Ok(Applied::NOTHING),
        Some(bytes) => {
            Applied::from_bytes(&bytes).ok_or_else(|| Fault::damaged("index", "its place in the log is none"))
        }
    }
}

/// Last before a commit.
pub(super) fn write_applied(index: &Index, applied: Applied) -> Result<(), Fault> {
    write_meta(index, "applied_to", &applied.to_bytes())
}

/// The texts of the statements that the segment holds up to there.
fn read_texts(index: &Index) -> Result<Vec<String>, Fault> {
    let texts = read_meta(index, "log_texts")?.unwrap_or_else(|| vec![0]);
    postcard::from_bytes(&texts).map_err(|error| Fault::damaged("index", format_args!("its statements: {error}")))
}

/// With [`write_applied`], when there are others than before.
pub(super) fn write_texts(index: &Index, texts: &[String]) -> Result<(), Fault> {
    let texts = postcard::to_extend(texts, Vec::new());
    let texts = texts.map_err(|error| Fault::damaged("index", format_args!("its statements: {error}")))?;
    write_meta(index, "log_texts", &texts)
}

fn read_meta(index: &Index, name: &str) -> Result<Option<Vec<u8>>, Fault> {
    let found = index
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([name], |row| row.get(0));
    Ok(found.optional()?)
}

fn write_meta(index: &Index, name: &str, value: &[u8]) -> Result<(), Fault> {
    index
        .prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")?
        .execute(params![name, value])?;
    Ok(())
}

/// Puts the index as it was when the log began where there is none: what came since is in the log.
pub(super) fn put_back_beginning(path: &StorePath) -> Result<(), StoreError> {
    let beginning = path.snapshot();
    if path.path().metadata().is_ok_and(|index| index.len() > 0) || !beginning.exists() {
        return Ok(());
    }
    let unfinished = path.path().with_extension("new");
    std::fs::copy(&beginning, &unfinished)
        .and_then(|_| std::fs::File::open(&unfinished)?.sync_all())
        .and_then(|()| std::fs::rename(&unfinished, path.path()))
        .map_err(|error| path.failed(&error))
}

/// Sees to it that whoever reads from now on sees what was acknowledged before. Beside a host that runs it waits until that has committed
/// it, which is never long; of one that died it takes in what that could not commit. Where the files may not be written, or do not tell,
/// they are read as they are.
pub(super) fn take_in(path: &StorePath) {
    let Ok(key) = open::receipt_key(path) else { return };
    let place = Place::new(path.log(), &key);
    let Ok(bytes) = log::bytes(&place) else { return };
    let is_behind = || {
        let connection = open::open_reader(path).ok()?;
        open::check_schema(path, &connection).ok()?;
        let applied = read_applied(&connection).ok()?.end.position;
        // A new segment has a header and no record yet.
        Some(applied + log::HEADER_BYTES < bytes)
    };
    let begun = Instant::now();
    while is_behind() == Some(true) && begun.elapsed() < HOST_WAIT_MAX {
        if let Ok(_sole_use) = SoleUse::take(path) {
            // Only now it is sure that no host is about to commit them.
            if is_behind() == Some(true)
                && let Err(error) = take_in_here(path, &place)
            {
                tracing::warn!(path = %path.text, %error, "what the last host acknowledged at its end is not shown; start a host");
            }
            return;
        }
        std::thread::sleep(HOST_LOOK_EVERY);
    }
}

/// The same, for whoever holds the store: no host is beside.
pub(super) fn take_in_alone(path: &StorePath) -> Result<(), StoreError> {
    let key = open::receipt_key(path)?;
    put_back_beginning(path)?;
    files::keep_private(path)?;
    open::end_wal(path)?;
    let mut connection = open::open_writer(path, None)?;
    let (place, contents) = (Place::new(path.log(), &key), Arc::new(Contents::new(path.log())));
    keep_key(&connection, path, &key)
        .and_then(|()| follow(&mut connection, &place, &contents, &mut |_, _| {}))
        .map_err(|fault| path.opening(fault))?;
    Ok(())
}

/// Makes the index anew from the log, and puts it in the place of the one that is there, if there is one. Blocks. Returns how many records it
/// was made from.
pub(super) fn rebuild(path: &StorePath, watch: &mut dyn FnMut(u64, u64)) -> Result<u64, StoreError> {
    let _sole_use = SoleUse::take(path)?;
    let key = open::receipt_key(path)?;
    let place = Place::new(path.log(), &key);
    let fresh = path.beside_as_store(".rebuilt")?;
    let mut connection = begin_anew(path, &fresh, &key)?;
    let contents = Arc::new(Contents::new(path.log()));
    let made = follow(&mut connection, &place, &contents, watch).and_then(|caught| {
        open::checkpoint(&connection, "TRUNCATE")?;
        open::checkpoint_on_close(&connection, true)?;
        Ok(caught.records)
    });
    drop(connection);
    let records = made.map_err(|fault| path.opening(fault))?;
    // The WAL of the old index would be taken for the new one's.
    path.remove_wal()
        .and_then(|()| std::fs::File::open(fresh.path())?.sync_all())
        .and_then(|()| std::fs::rename(fresh.path(), path.path()))
        .and_then(|()| files::sync_directory(path))
        .map_err(|error| path.failed(&error))?;
    Ok(records)
}

/// Makes an index of its own at `fresh` from the log up to a place, beside a host that may go on writing. Returns how far it came: less than
/// asked where a record cannot be believed.
pub(super) fn make_up_to(
    path: &StorePath,
    fresh: &StorePath,
    end: Applied,
    watch: &mut dyn FnMut(u64, u64),
) -> Result<(Connection, Applied), StoreError> {
    let key = open::receipt_key(path)?;
    let mut connection = begin_anew(path, fresh, &key)?;
    let (place, contents) = (Place::new(path.log(), &key), Arc::new(Contents::new(path.log())));
    let caught = catch_up(&mut connection, &place, &contents, Some(end), watch).map_err(|fault| path.opening(fault))?;
    Ok((connection, caught.applied))
}

/// An index as it is before the first record, in place of what may be at `fresh`.
fn begin_anew(path: &StorePath, fresh: &StorePath, key: &Secret) -> Result<Connection, StoreError> {
    fresh.remove_index().map_err(|error| path.failed(&error))?;
    if path.snapshot().exists() {
        std::fs::copy(path.snapshot(), fresh.path()).map_err(|error| path.failed(&error))?;
    }
    files::keep_private(fresh)?;
    let connection = open::open_writer(fresh, None)?;
    keep_key(&connection, path, key).map_err(|fault| path.opening(fault))?;
    Ok(connection)
}

fn take_in_here(path: &StorePath, place: &Place) -> Result<(), StoreError> {
    let mut connection = open::open_writer(path, None)?;
    let contents = Arc::new(Contents::new(path.log()));
    follow(&mut connection, place, &contents, &mut |_, _| {}).map_err(|fault| path.opening(fault))?;
    Ok(())
}

/// Makes the log's end durable, and the index follow it. What the last process wrote may be on no disk.
fn follow(
    connection: &mut Connection,
    place: &Place,
    contents: &Arc<Contents>,
    watch: &mut dyn FnMut(u64, u64),
) -> Result<Caught, Fault> {
    let from = read_applied(&*connection)?.end.position;
    let newest = log::segments(place).map_err(Fault::Io)?.pop();
    if let Some(newest) = newest
        && log::bytes(place).map_err(Fault::Io)? > from
    {
        // The segments before the newest were on the disk before that was begun.
        log::write_again(place, from.max(newest.start)).map_err(Fault::Io)?;
    }
    catch_up(connection, place, contents, None, watch)
}

/// A log that the index follows, ready to be appended to.
pub(super) struct Recovered {
    pub(super) log: Log,
    /// The statements' texts of its last segment.
    pub(super) texts: Vec<String>,
}

/// Opens a store's log, and makes the index follow it.
///
/// # Errors
/// [`Fault::Damaged`] in words that name the file, where the log and the index do not belong together; nothing was changed then.
pub(super) fn recover(
    connection: &mut Connection,
    path: &StorePath,
    key: &Secret,
    was_left_open: bool,
    bounds: log::Bounds,
) -> Result<Recovered, Fault> {
    let place = Place::new(path.log(), key);
    let segments = log::segments(&place).map_err(Fault::Io)?;
    let from = read_applied(&*connection)?;
    if segments.is_empty() && from == Applied::NOTHING && is_begun(&*connection)? {
        keep_beginning(connection, path)?;
    }
    keep_key(&*connection, path, key)?;
    let contents = Arc::new(Contents::new(path.log()));
    let caught = follow(connection, &place, &contents, &mut |_, _| {})?;
    if caught.records > 0 && was_left_open {
        let records = caught.records;
        tracing::info!(path = %path.text, records, "the last host did not end by itself: its last records were taken from the log");
    } else if caught.records > 0 {
        let records = caught.records;
        tracing::warn!(path = %path.text, records, "the index was older than the log, and follows it now");
    }
    match log::set_aside(&place, caught.applied.end).map_err(Fault::Io)? {
        None => {}
        Some(kept) => tracing::error!(
            kept = %kept.display(),
            "behind the last record that can be believed the log holds more: this is another history of the store. It was set aside, not \
             overwritten; if an index that belongs to it exists, stop and restore that"
        ),
    }
    let log = Log::open(place, caught.applied, bounds).map_err(Fault::Io)?;
    Ok(Recovered {
        log,
        texts: caught.texts,
    })
}

/// Whether the database holds a store already, which a guest or a copy made.
fn is_begun(index: &Index) -> Result<bool, Fault> {
    match read_meta(index, "layout")? {
        None => Ok(false),
        Some(_) if Layout::read(index)? == Layout::Rows => Ok(true),
        Some(_) => Err(Fault::damaged(
            "log",
            "its segments are not there: restore them; the database alone is an index of them",
        )),
    }
}

/// Keeps the database as it is before the first record: an index that is made again begins with it.
fn keep_beginning(connection: &Connection, path: &StorePath) -> Result<(), Fault> {
    let kept = path.snapshot();
    // One that was not finished is no beginning.
    let unfinished = kept.with_extension("new");
    let _ = std::fs::remove_file(&unfinished);
    files::private()
        .write(true)
        .create_new(true)
        .open(&unfinished)
        .map_err(Fault::Io)?;
    connection.execute("VACUUM INTO ?1", [unfinished.to_string_lossy()])?;
    std::fs::File::open(&unfinished)
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(&unfinished, &kept))
        .and_then(|()| files::sync_directory(path))
        .map_err(Fault::Io)
}

/// The index has the key as well, for those of its statements that are a guest's too.
fn keep_key(index: &Index, path: &StorePath, key: &Secret) -> Result<(), Fault> {
    match read_meta(index, "receipt_key")? {
        Some(known) if known == key.expose() => Ok(()),
        Some(_) => Err(Fault::damaged(
            "log",
            format_args!(
                "its key, {}, is of another store than the database",
                path.key().display()
            ),
        )),
        None => write_meta(index, "receipt_key", key.expose()),
    }
}

/// How far the index came.
pub(super) struct Caught {
    pub(super) applied: Applied,
    pub(super) texts: Vec<String>,
    pub(super) records: u64,
}

/// Applies every record that the index does not have, or those up to `end`; `watch` is told after each commit up to which position, of how
/// many bytes. What is not on the disk yet must not come into the index of a store: its caller has synced the log.
pub(super) fn catch_up(
    connection: &mut Connection,
    place: &Place,
    contents: &Arc<Contents>,
    end: Option<Applied>,
    watch: &mut dyn FnMut(u64, u64),
) -> Result<Caught, Fault> {
    let bytes = match end {
        Some(end) => end.end.position,
        None => log::bytes(place).map_err(Fault::Io)?,
    };
    let mut scan = Scan::new(place, read_applied(&*connection)?, read_texts(&*connection)?)?;
    let (mut records, mut is_through) = (0, false);
    while !is_through {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let before = records;
        for _ in 0..RECORDS_PER_COMMIT {
            is_through = Some(scan.applied()) == end;
            let Some(record) = (if is_through { None } else { scan.next()? }) else {
                is_through = true;
                break;
            };
            log::apply(&transaction, scan.texts_mut(), &record.changes)?;
            records += 1;
            if records % RECORDS_PER_CARRY == 0 {
                receipts::carry_keys(&*transaction)?;
            }
        }
        if records > before {
            let layout = Layout::read(&*transaction)?;
            let head = receipts::of_readers(layout, contents).head(&*transaction)?;
            write_chain_head(&*transaction, &head)?;
            write_applied(&*transaction, scan.applied())?;
            write_texts(&*transaction, scan.texts())?;
        }
        transaction.commit()?;
        watch(scan.applied().end.position, bytes);
    }
    Ok(Caught {
        applied: scan.applied(),
        texts: scan.texts().to_vec(),
        records,
    })
}
