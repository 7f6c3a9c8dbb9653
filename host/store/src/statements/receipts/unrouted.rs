//! Accepted receipts that no route took, packed by commit: a tenant may route few of the types that its provider sends, and an event
//! that nobody wants must not cost a row.

use super::super::fault::Fault;
use crate::sql::{Connection, OptionalExtension as _, params};

/// Bytes of one receipt: how far it is from the row's first, and its origin.
const ENTRY_BYTES: usize = 4 + 8;

/// Adds what one commit has, in the order of its receipts: number and origin.
pub(crate) fn insert(connection: &Connection, receipts: &[(i64, i64)]) -> Result<(), Fault> {
    let Some(&(first, _)) = receipts.first() else {
        return Ok(());
    };
    connection
        .prepare_cached("INSERT INTO unrouted (first, entries) VALUES (?1, ?2)")?
        .execute(params![first, pack(first, receipts)])?;
    Ok(())
}

/// Adds an older receipt, which a review accepted: to the row of the receipts around it, so that it is found there.
pub(crate) fn put(connection: &Connection, seq: i64, origin: i64) -> Result<(), Fault> {
    let Some((first, entries)) = row_of(connection, seq)? else {
        return insert(connection, &[(seq, origin)]);
    };
    let mut receipts = unpack(first, &entries)?;
    receipts.push((seq, origin));
    receipts.sort_unstable();
    receipts.dedup();
    update(connection, first, &receipts)
}

/// The row that has a receipt, if one has.
fn row_of(connection: &Connection, seq: i64) -> Result<Option<(i64, Vec<u8>)>, Fault> {
    let row = connection
        .prepare_cached("SELECT first, entries FROM unrouted WHERE first <= ?1 ORDER BY first DESC LIMIT 1")?
        .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(row)
}

fn update(connection: &Connection, first: i64, receipts: &[(i64, i64)]) -> Result<(), Fault> {
    connection
        .prepare_cached("UPDATE unrouted SET entries = ?2 WHERE first = ?1")?
        .execute(params![first, pack(first, receipts)])?;
    Ok(())
}

fn pack(first: i64, receipts: &[(i64, i64)]) -> Vec<u8> {
    let mut entries = Vec::with_capacity(receipts.len() * ENTRY_BYTES);
    for (seq, origin) in receipts {
        // One commit admits far fewer than four billion.
        entries.extend_from_slice(&u32::try_from(seq - first).unwrap_or(u32::MAX).to_le_bytes());
        entries.extend_from_slice(&origin.to_le_bytes());
    }
    entries
}

fn unpack(first: i64, entries: &[u8]) -> Result<Vec<(i64, i64)>, Fault> {
    let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() {
        return Err(Fault::damaged(
            "unrouted",
            format_args!("row {first} has a broken entry"),
        ));
    }
    Ok(entries
        .iter()
        .map(|[a, b, c, d, origin @ ..]| {
            let distance = u32::from_le_bytes([*a, *b, *c, *d]);
            (first.saturating_add(distance.into()), i64::from_le_bytes(*origin))
        })
        .collect())
}

/// Takes a receipt out, if it is there. A row without entries is removed.
pub(crate) fn remove(connection: &Connection, seq: i64) -> Result<(), Fault> {
    let Some((first, entries)) = row_of(connection, seq)? else {
        return Ok(());
    };
    let mut receipts = unpack(first, &entries)?;
    let before = receipts.len();
    receipts.retain(|(unrouted, _)| *unrouted != seq);
    if receipts.is_empty() {
        connection
            .prepare_cached("DELETE FROM unrouted WHERE first = ?1")?
            .execute([first])?;
    } else if receipts.len() < before {
        update(connection, first, &receipts)?;
    }
    Ok(())
}

/// Calls `each` with the number and origin of every such receipt before `before`, the newest first, until it says to stop.
pub(crate) fn each_before(
    connection: &Connection,
    before: i64,
    mut each: impl FnMut(i64, i64) -> Result<bool, Fault>,
) -> Result<(), Fault> {
    let mut statement =
        connection.prepare_cached("SELECT first, entries FROM unrouted WHERE first < ?1 ORDER BY first DESC")?;
    let mut found = statement.query([before])?;
    while let Some(row) = found.next()? {
        let entries: Vec<u8> = row.get("entries")?;
        let receipts = unpack(row.get("first")?, &entries)?;
        for (seq, origin) in receipts.into_iter().rev().filter(|(seq, _)| *seq < before) {
            if !each(seq, origin)? {
                return Ok(());
            }
        }
    }
    Ok(())
}
