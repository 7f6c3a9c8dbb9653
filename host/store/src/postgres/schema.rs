//! The numbered steps of the schema, and what a store is made with.

use tollgate_core::chain;
use tollgate_core::secret::Secret;

use super::client::Client;
use crate::StoreError;
use crate::sql::{Connection, OptionalExtension as _, params};
use crate::statements::fault::Fault;

/// Each in its order. What it says of others is in [`WORKS_WITH`].
const MIGRATIONS: [&str; 12] = [
    include_str!("migrations/0001_first.sql"),
    include_str!("migrations/0002_budgets.sql"),
    include_str!("migrations/0003_pauses.sql"),
    include_str!("migrations/0004_bulks.sql"),
    include_str!("migrations/0005_issues.sql"),
    include_str!("migrations/0006_hosts.sql"),
    include_str!("migrations/0007_order.sql"),
    include_str!("migrations/0008_pulls.sql"),
    include_str!("migrations/0009_settings.sql"),
    include_str!("migrations/0010_portal_links.sql"),
    include_str!("migrations/0011_rates.sql"),
    include_str!("migrations/0012_side_by_side.sql"),
];
/// The schema that this binary knows.
pub(super) const VERSION: u32 = MIGRATIONS.len() as u32;
/// The oldest schema whose hosts may work on in the one that this binary makes. Whoever adds a migration raises it to that one's number, unless
/// hosts that know nothing of the migration neither miss nor break anything: what it adds has defaults and is empty without harm, and what it
/// takes away nobody used any more. (A host asks for columns by their names, so new ones are no harm.)
const WORKS_WITH: u32 = 12;
/// Names the lock under which one host at a time migrates.
const MIGRATING: i64 = 0x746f_6c6c_6701;

/// The schema that is there; 0 where there is none.
pub(super) fn version(connection: &Connection) -> Result<u32, Fault> {
    let is_there: bool =
        connection.query_row("SELECT to_regclass('tollgate.schema_version') IS NOT NULL", [], |row| {
            row.get(0)
        })?;
    if !is_there {
        return Ok(0);
    }
    version_asked(connection)
}

const NEWEST: &str = "SELECT coalesce(max(version), 0) FROM schema_version";

/// Asks ahead for the schema's number: behind the lock on the chain's head, which whoever migrates has, it is that of the whole transaction.
pub(super) fn will_ask_version(connection: &Connection) -> Result<(), Fault> {
    Ok(connection.will_ask(NEWEST, &[])?)
}

/// The same number, where a store is known to be there.
pub(super) fn version_asked(connection: &Connection) -> Result<u32, Fault> {
    Ok(connection.prepare_cached(NEWEST)?.query_row([], |row| row.get(0))?)
}

/// What a host says that finds another schema than it began in.
pub(super) fn moved(found: u32) -> Fault {
    Fault::damaged(
        "schema",
        format_args!("it is {found} now, and this Tollgate knows {VERSION}"),
    )
}

/// Whether a host of this binary works in the schema that is there: it is its own, or newer and says so.
pub(super) fn is_workable(connection: &Connection, found: u32) -> Result<bool, Fault> {
    if found <= VERSION {
        return Ok(found == VERSION);
    }
    // What the newest says holds for all before it. One that says nothing works with itself.
    let oldest: i64 = connection.query_row(
        "SELECT coalesce(works_with, version) FROM schema_version ORDER BY version DESC LIMIT 1",
        [],
        |row| row.get(0),
    )?;
    Ok(oldest <= i64::from(VERSION))
}

/// Brings the schema up to date, in one transaction, and returns its number. Of several hosts that try at once, the first does it and the others
/// find it done. Those that work in it wait meanwhile.
///
/// # Errors
/// [`StoreError::NewerSchema`], and whatever else keeps it from being done. Then nothing was changed.
pub(super) fn migrate(client: &Client, shown: &str) -> Result<u32, StoreError> {
    let opening = |fault: Fault| match fault.of_writer(shown) {
        error @ (StoreError::Away { .. } | StoreError::Busy | StoreError::NoSpace { .. }) => error,
        error => StoreError::Open {
            path: shown.to_owned(),
            detail: error.to_string(),
        },
    };
    let newer = |found: u32| StoreError::NewerSchema {
        path: shown.to_owned(),
        found,
        known: VERSION,
    };
    let found = version(client).map_err(opening)?;
    if is_workable(client, found).map_err(opening)? {
        return Ok(found);
    }
    if found > VERSION {
        return Err(newer(found));
    }
    let step = || -> Result<Result<u32, StoreError>, Fault> {
        client.batch(&format!(
            "BEGIN; SELECT pg_advisory_xact_lock({MIGRATING}); CREATE SCHEMA IF NOT EXISTS tollgate; \
             CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY, at TIMESTAMPTZ NOT NULL DEFAULT now())"
        ))?;
        let from = version(client)?;
        if from > VERSION && !is_workable(client, from)? {
            return Ok(Err(newer(from)));
        }
        if from > 0 {
            client.batch("SELECT 1 FROM chain_heads WHERE chain = 0 FOR UPDATE")?;
        }
        for (number, sql) in (1_i64..).zip(MIGRATIONS).skip(from as usize) {
            tracing::info!(store = shown, schema = number, "migrating");
            client.batch(sql)?;
            let connection: &Connection = client;
            connection.execute("INSERT INTO schema_version (version) VALUES (?1)", [number])?;
            if number == 1 {
                make(connection)?;
            }
        }
        let connection: &Connection = client;
        connection.execute(
            "UPDATE schema_version SET works_with = ?1 WHERE version = ?2",
            params![WORKS_WITH, VERSION],
        )?;
        client.batch("COMMIT")?;
        Ok(Ok(VERSION.max(from)))
    };
    let done = step().map_err(opening).flatten();
    if done.is_err() {
        // Where the connection is gone, so is the transaction.
        let _ = client.batch("ROLLBACK");
    }
    done
}

/// What a new store begins with.
fn make(connection: &Connection) -> Result<(), Fault> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| Fault::damaged("the random source", error))?;
    connection.execute(
        "INSERT INTO meta (name, value) VALUES ('receipt_key', ?1)",
        params![key.as_slice()],
    )?;
    connection.execute(
        "INSERT INTO chain_heads (chain, seq, link) VALUES (0, 0, ?1)",
        params![chain::GENESIS.0.as_slice()],
    )?;
    Ok(())
}

pub(super) fn receipt_key(connection: &Connection) -> Result<Secret, Fault> {
    let key: Option<Vec<u8>> = connection
        .query_row("SELECT value FROM meta WHERE name = 'receipt_key'", [], |row| {
            row.get(0)
        })
        .optional()?;
    match key {
        Some(key) if key.len() == 32 => Ok(Secret::new(key)),
        Some(key) => Err(Fault::damaged(
            "receipt key",
            format_args!("{} bytes instead of 32", key.len()),
        )),
        None => Err(Fault::damaged("receipt key", "it is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every insert of the store's into a numbered table asks for the number, and every numbered table is known to the dialect.
    #[test]
    fn the_dialect_knows_every_numbered_table() {
        for line in MIGRATIONS.iter().flat_map(|sql| sql.lines()) {
            let Some(table) = line
                .split_once("DEFAULT next_")
                .and_then(|(_, rest)| rest.split_once("()"))
            else {
                continue;
            };
            let insert = format!("INSERT INTO {} (a) VALUES (?1)", table.0);
            // The one that is written here alone, which needs no number back.
            assert_eq!(
                super::super::dialect::translate(&insert).gives_number,
                table.0 != "hosts",
                "{insert}"
            );
        }
    }
}
