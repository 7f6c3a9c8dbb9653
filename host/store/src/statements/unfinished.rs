//! The mark of a copy that is not finished: nobody goes on with a part of a store.

use super::fault::Fault;
#[cfg(not(target_family = "wasm"))]
use crate::sql::params;
use crate::sql::{Connection, OptionalExtension as _};

/// The row of `meta` that a copy keeps while it is under way: how far it is.
const NAME: &str = "copying";
/// Why a store that has the row is not opened.
pub(crate) const REFUSED: &str =
    "a copy into it was begun and is not finished: repeat `tollgate copy` to go on with it, or remove it";

/// Whether the store is a copy that is not finished.
pub(crate) fn is_there(connection: &Connection) -> Result<bool, Fault> {
    Ok(read(connection)?.is_some())
}

/// How far the copy is.
pub(crate) fn read(connection: &Connection) -> Result<Option<Vec<u8>>, Fault> {
    let found = connection
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([NAME], |row| row.get(0));
    Ok(found.optional()?)
}

/// In the transaction that brings the copy so far.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn write(connection: &Connection, progress: &[u8]) -> Result<(), Fault> {
    put(connection, NAME, progress)
}

/// The copy is whole.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn remove(connection: &Connection) -> Result<(), Fault> {
    connection
        .prepare_cached("DELETE FROM meta WHERE name = ?1")?
        .execute([NAME])?;
    Ok(())
}

/// What the copy knows about itself under another name.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn put(connection: &Connection, name: &str, value: &[u8]) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )?
        .execute(params![name, value])?;
    Ok(())
}
