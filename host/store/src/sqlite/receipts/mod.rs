//! Receipts of the log, which only the one writer of a native host makes, and what reads a store's receipts as a whole.
//!
//! `pieces` packs what one group admits into few rows that say where in the log the receipts stand, and `keys` holds the newest ids
//! and subjects in memory and carries them into their indexes in key order, so that an event does not touch a random page of
//! each index. `packed` is what the writer remembers of both.

mod filter;
mod keys;
mod packed;
mod pieces;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tollgate_core::ids::{ReceiptId, TenantName};

use self::filter::{Filter, Indexed};
pub(super) use self::keys::Ways;
use self::packed::Packed;
use super::fault::Fault;
use super::files::StorePath;
use super::head::ChainHead;
use super::rows::EVENT_COLUMNS;
use crate::StoreError;
use crate::log::Contents;
use crate::sql::Connection;
pub(super) use crate::statements::receipts::{
    Body, Layout, Moved, Receipt, Receipts, ReceiptsWriter, Rows, SubjectKey, SubjectState, View,
};
use crate::statements::receipts::{rows, unrouted};

/// What is done with each receipt and its body, or why the body cannot be read. It says whether to go on.
pub(super) type Each<'e> = dyn FnMut(&Receipt, Result<&[u8], Fault>) -> Result<bool, Fault> + 'e;

/// What readers find, who see commits only, and who reads all of it.
pub(super) trait Whole: Receipts {
    /// Reads every receipt with its body, in order. `each` gets what stands under each number, and says whether to go on; facts that
    /// cannot be read end it. A body that cannot be read is for `each` to judge.
    fn walk(&self, connection: &Connection, each: &mut Each<'_>) -> Result<(), Fault>;

    /// For the audit: what leads to receipts, to be held against the receipts themselves, which come one by one and in order. None
    /// for rows, whose indexes are part of the file's own integrity.
    fn ways(&self, connection: &Connection) -> Result<Option<Ways>, Fault>;
}

/// A store's receipts, for its readers.
pub(super) fn of_readers(layout: Layout, log: &Arc<Contents>) -> Arc<dyn Whole> {
    match layout {
        Layout::Rows => Arc::new(Rows),
        Layout::Log => Arc::new(OfLog(Arc::clone(log))),
    }
}

impl Whole for Rows {
    fn walk(&self, connection: &Connection, each: &mut Each<'_>) -> Result<(), Fault> {
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {}, {EVENT_COLUMNS}, r.body FROM receipts r LEFT JOIN origins o ON o.id = r.origin ORDER BY r.seq",
            rows::RECEIPT_COLUMNS
        ))?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let receipt = rows::read(row, Vec::new())?;
            let body = row
                .get_ref("body")?
                .as_blob()
                .map_err(|error| Fault::damaged("body", error));
            if !each(&receipt, body)? {
                break;
            }
        }
        Ok(())
    }

    fn ways(&self, _connection: &Connection) -> Result<Option<Ways>, Fault> {
        Ok(None)
    }
}

/// Receipts of the log, with the log in which they stand.
#[derive(Debug)]
pub(super) struct OfLog(Arc<Contents>);

impl Receipts for OfLog {
    fn get(&self, connection: &Connection, seq: i64, body: Body) -> Result<Option<Arc<Receipt>>, Fault> {
        Ok(pieces::get(connection, &self.0, seq, body)?.map(Arc::new))
    }

    /// The piece that holds it.
    fn around(&self, connection: &Connection, seq: i64) -> Result<Vec<Arc<Receipt>>, Fault> {
        let piece = pieces::piece_of(connection, &self.0, seq)?;
        Ok(piece.into_iter().map(Arc::new).collect())
    }

    fn facts_around(&self, connection: &Connection, seq: i64) -> Result<Vec<Arc<Receipt>>, Fault> {
        let piece = pieces::facts_of_piece(connection, &self.0, seq)?;
        Ok(piece.into_iter().map(Arc::new).collect())
    }

    fn find(&self, connection: &Connection, ids: &[ReceiptId]) -> Result<Vec<i64>, Fault> {
        keys::find_receipts(connection, ids)
    }

    fn newest_of_subjects(&self, connection: &Connection, subjects: &[SubjectKey]) -> Result<Vec<i64>, Fault> {
        let found = keys::find_subjects(connection, subjects)?;
        Ok(found.into_iter().map(|state| state.newest).collect())
    }

    fn newest(
        &self,
        connection: &Connection,
        tenant: &TenantName,
        before: i64,
        receipts_max: usize,
    ) -> Result<Vec<i64>, Fault> {
        pieces::newest(connection, &self.0, tenant, before, receipts_max)
    }

    fn subject(&self, connection: &Connection, key: &SubjectKey) -> Result<Option<SubjectState>, Fault> {
        Ok(keys::find_subjects(connection, &[*key])?.pop())
    }

    fn subjects(
        &self,
        connection: &Connection,
        after: Option<&SubjectKey>,
        subjects_max: usize,
    ) -> Result<Vec<(SubjectKey, SubjectState)>, Fault> {
        keys::subjects(connection, after, subjects_max)
    }

    fn not_accepted(&self) -> &'static str {
        pieces::NOT_ACCEPTED
    }

    fn head(&self, connection: &Connection) -> Result<ChainHead, Fault> {
        pieces::head(connection, &self.0)
    }
}

impl Whole for OfLog {
    fn walk(&self, connection: &Connection, each: &mut Each<'_>) -> Result<(), Fault> {
        pieces::walk(connection, &self.0, each)
    }

    fn ways(&self, connection: &Connection) -> Result<Option<Ways>, Fault> {
        Ways::new(connection).map(Some)
    }
}

/// Bounds of what the writer remembers.
#[derive(Debug, Clone, Copy)]
pub(super) struct MemoryBounds {
    /// Receipts whose keys wait in memory for the indexes; twice as many at most.
    pub(super) keys_max: usize,
    /// Bytes of receipts that are remembered for the jobs that follow.
    pub(super) recent_bytes_max: usize,
}

/// Opens a connection.
type Open = fn(&StorePath) -> Result<rusqlite::Connection, StoreError>;

/// A store's receipts, for its writer. The connection has no transaction under way; `open_beside` opens another, which reads only.
pub(super) fn of_writer(
    connection: &Connection,
    path: &StorePath,
    open_beside: Open,
    log: &Arc<Contents>,
    bounds: MemoryBounds,
) -> Result<Box<dyn ReceiptsWriter>, Fault> {
    Ok(match Layout::read(connection)? {
        Layout::Log => {
            let path = path.clone();
            let indexed = Indexed::read(move |ends| read_beside(&path, open_beside, ends));
            Box::new(Packed::load(connection, log, bounds, indexed)?)
        }
        Layout::Rows => Box::new(Rows),
    })
}

/// Which keys the indexes hold. Nobody waits for it, so what keeps it from being read is said and no more.
fn read_beside(path: &StorePath, open: Open, ends: &AtomicBool) -> Option<Filter> {
    let read = open(path)
        .map_err(|error| error.to_string())
        .and_then(|connection| Filter::of_indexes(&connection, ends).map_err(|fault| fault.of_reader().to_string()));
    read.unwrap_or_else(|error| {
        tracing::warn!(path = %path.text, error, "the keys of the index could not be read: every new event is looked up in it, which is slower");
        None
    })
}

/// While an index is made again from its log: carries the keys that wait into their indexes, inside a transaction. They would all be in
/// memory otherwise when the store is opened.
pub(super) fn carry_keys(connection: &Connection) -> Result<(), Fault> {
    match Layout::read(connection)? {
        Layout::Rows => Ok(()),
        Layout::Log => keys::carry_all(connection),
    }
}
