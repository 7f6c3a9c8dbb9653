//! Order at a destination (promise P8): entries of one subject leave one after the other, in the order in which they were recorded.
//!
//! They are a lane, as jobs of one subject are: of each lane at most one entry is ready or leased, the oldest, and the others are blocked
//! until it ends. So a claim looks at entries that may be leased and at no others, however long a lane is. An entry whose destination asks for
//! no order, or whose event is about nothing, has no lane and waits for no other.

use tollgate_core::ids::{DestinationName, FamilyName, TenantName};
use tollgate_core::outbox;
use tollgate_core::subject;
use tollgate_core::time::UnixMillis;
use tollgate_core::work::{EntryEvent, EntryState};

use super::fault::Fault;
use super::receipts::{self, Body};
use super::rows::{self, get, id};
use super::transaction::Transaction;
use crate::Targets;
use crate::sql::{Connection, params};

/// Whether anything of a lane is on its way or waits.
const IS_BUSY: &str = "SELECT EXISTS (SELECT 1 FROM outbox WHERE lane = ?1 AND state < 3)";
/// The one of a lane that is ready or leased, if it is another.
const ON_ITS_WAY: &str = "SELECT id, state FROM outbox WHERE lane = ?1 AND state < 3 AND state IN (1, 2) AND id <> ?2";
/// The oldest of a lane that waits for its turn.
const NEXT: &str = "SELECT id, tenant, destination, due_at FROM outbox WHERE lane = ?1 AND state < 3 AND state = 0 ORDER BY id LIMIT 1";

/// What an action's event is about, as lanes are named by it; none where none of `destinations` asks for order, or it is about nothing.
pub(crate) fn subject(
    transaction: &Transaction<'_>,
    action: i64,
    targets: &Targets,
    destinations: &[&DestinationName],
) -> Result<Option<[u8; 16]>, Fault> {
    if !destinations.iter().any(|name| targets.ordered.contains(*name)) {
        return Ok(None);
    }
    let connection = transaction.connection;
    let receipt = connection
        .prepare_cached("SELECT receipt FROM actions WHERE id = ?1")?
        .query_row([action], |row| row.get(0))?;
    let receipt = receipts::get_known(transaction.view(), receipt, Body::Without)?;
    let event = &receipt.event;
    let Some(of) = &event.subject else { return Ok(None) };
    let family = event.reading.family().map(FamilyName::as_str);
    let source = targets.sharing.scope(event).source(event);
    let key = rows::store_key(connection)?;
    Ok(Some(subject::key(&key, &event.tenant, family, source, of.as_str())))
}

/// The lane of a new entry, and its state behind what is in the lane. What waits under a name that the destination had before goes first.
pub(crate) fn place(
    connection: &Connection,
    targets: &Targets,
    destination: &DestinationName,
    subject: &[u8; 16],
) -> Result<(i64, EntryState), Fault> {
    let before = targets.renamed.iter().filter(|(_, now)| now == destination);
    let names = [destination].into_iter().chain(before.map(|(old, _)| old));
    for name in names {
        let lane = outbox::lane(name, subject);
        let is_busy: bool = connection
            .prepare_cached(IS_BUSY)?
            .query_row([lane], |row| row.get(0))?;
        if is_busy {
            return Ok((lane, EntryState::Blocked));
        }
    }
    Ok((outbox::lane(destination, subject), EntryState::Ready))
}

/// Lets the next of a lane go on, whose entry that was on its way has ended.
pub(crate) fn next(transaction: &mut Transaction<'_>, lane: i64) -> Result<(), Fault> {
    let connection = transaction.connection;
    if let Some(next) = oldest_blocked(connection, lane)? {
        change(connection, next.entry, EntryState::Blocked, EntryEvent::TurnComes)?;
        transaction.entry_is_ready(&next.tenant, &next.destination, next.due_at);
    }
    Ok(())
}

/// While an entry was leased, somebody may have put an older one back behind it. When the lease ends without an end of the entry, the older
/// goes first, and is due since it was put back. Returns it, ready now, if there was one. `state` is the entry's.
pub(crate) fn yield_to_older(
    connection: &Connection,
    entry: i64,
    lane: i64,
    state: EntryState,
) -> Result<Option<Waiting>, Fault> {
    match oldest_blocked(connection, lane)? {
        Some(older) if older.entry < entry => {
            change(connection, entry, state, EntryEvent::GiveWay)?;
            change(connection, older.entry, EntryState::Blocked, EntryEvent::TurnComes)?;
            Ok(Some(older))
        }
        _ => Ok(None),
    }
}

/// Gives an entry that is ready again its old place in its lane: before a younger one that only waits, behind one that is on its way.
pub(crate) fn put_back(connection: &Connection, entry: i64, lane: i64) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached(ON_ITS_WAY)?;
    let mut found = statement.query(params![lane, entry])?;
    let Some(row) = found.next()? else { return Ok(()) };
    let (other, state) = (get::<i64>(row, "id")?, rows::entry_state(row, "state")?);
    if state == EntryState::Ready && entry < other {
        change(connection, other, state, EntryEvent::GiveWay)
    } else {
        change(connection, entry, EntryState::Ready, EntryEvent::GiveWay)
    }
}

/// The processes that held leases are gone, and what they held is ready again: in each lane the oldest goes first. `released` are entries
/// with their lanes.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn after_release(connection: &Connection, released: &[(i64, i64)]) -> Result<(), Fault> {
    for (entry, lane) in released {
        yield_to_older(connection, *entry, *lane, EntryState::Ready)?;
    }
    Ok(())
}

/// The entries of lanes that are leased, with their lanes.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn leased(connection: &Connection) -> Result<Vec<(i64, i64)>, Fault> {
    let leased = rows::entry_code(EntryState::Leased);
    Ok(connection
        .prepare_cached(
            "SELECT id, lane FROM outbox WHERE state = ?1 AND state < 3 AND lane IS NOT NULL AND pulled_at IS NULL",
        )?
        .query_map([leased], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<crate::sql::Result<_>>()?)
}

/// An entry that waited for its lane.
pub(crate) struct Waiting {
    pub(crate) entry: i64,
    pub(crate) tenant: TenantName,
    pub(crate) destination: DestinationName,
    pub(crate) due_at: UnixMillis,
}

fn oldest_blocked(connection: &Connection, lane: i64) -> Result<Option<Waiting>, Fault> {
    let mut statement = connection.prepare_cached(NEXT)?;
    let mut found = statement.query([lane])?;
    let Some(row) = found.next()? else { return Ok(None) };
    Ok(Some(Waiting {
        entry: get(row, "id")?,
        tenant: id(row, "tenant")?,
        destination: id(row, "destination")?,
        due_at: rows::millis(row, "due_at")?,
    }))
}

/// Something happens to an entry that changes nothing but its state.
///
/// # Errors
/// [`Fault::Illegal`] when that cannot happen to it.
fn change(connection: &Connection, entry: i64, state: EntryState, event: EntryEvent) -> Result<(), Fault> {
    connection
        .prepare_cached("UPDATE outbox SET state = ?2 WHERE id = ?1")?
        .execute(params![entry, rows::entry_code(state.next(event)?)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::super::outbox::{DUE, EARLIEST};
    use super::super::schema::MIGRATIONS;
    use super::*;

    /// A lane of so many entries, of which one is ready and the others wait, and behind them a short one of another subject.
    fn waiting(entries: i64) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        connection.execute_batch(&MIGRATIONS.concat()).unwrap();
        let insert = "INSERT INTO outbox (action, tenant, destination, state, due_at, lane) VALUES (?1, 'acme', 'ledger', ?2, 0, ?3)";
        for entry in 0..entries {
            let state = i64::from(entry == 0);
            connection.execute(insert, [entry, state, 7]).unwrap();
        }
        for (entry, state) in [(0, 1), (1, 0), (2, 0)] {
            connection.execute(insert, [entries + entry, state, 8]).unwrap();
        }
        connection
    }

    /// The steps of SQLite's machine that a statement takes.
    fn steps(connection: &rusqlite::Connection, sql: &str, values: &[&dyn rusqlite::ToSql]) -> i32 {
        let mut statement = connection.prepare(sql).unwrap();
        let mut rows = statement.query(values).unwrap();
        while rows.next().unwrap().is_some() {}
        drop(rows);
        statement.get_status(StatementStatus::VmStep)
    }

    #[test]
    fn p8_what_a_claim_and_an_end_look_at_does_not_grow_with_a_line() {
        let (short, long) = (waiting(10), waiting(10_000));
        let of: [(&str, &[&dyn rusqlite::ToSql]); 8] = [
            (EARLIEST, &[&"acme", &"ledger", &i64::MIN]),
            (DUE, &[&"acme", &"ledger", &i64::MIN, &1, &64]),
            (IS_BUSY, &[&7]),
            (IS_BUSY, &[&8]),
            (ON_ITS_WAY, &[&7, &5]),
            (ON_ITS_WAY, &[&8, &5]),
            (NEXT, &[&7]),
            (NEXT, &[&8]),
        ];
        for (sql, values) in of {
            let (few, many) = (steps(&short, sql, values), steps(&long, sql, values));
            assert_eq!(few, many, "{sql}");
            assert!(many < 100, "{many} steps: {sql}");
        }
    }
}
