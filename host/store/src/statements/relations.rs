//! Rows that are in no chain, held against each other: what refers to a row that is not there, what lacks a number in its row,
//! and what is not what its own digest says.
//!
//! This finds damage and careless hands. Whoever changes such rows and all that they lead to consistently is not found: only
//! receipts are linked.

use tollgate_core::commitment::body_commitment;
use tollgate_core::ids::Digest;
use tollgate_core::secret::Secret;

use super::fault::Fault;
use super::rows;
use crate::sql::{Connection, ValueRef};

/// Appended and never removed, so their numbers are 1, 2, 3 …
const WITHOUT_GAPS: [&str; 11] = [
    "deliveries",
    "jobs",
    "runs",
    "actions",
    "outbox",
    "attempts",
    "dead_letters",
    "history",
    "work_reviews",
    "state_edits",
    "resends",
];

/// What each row of a table refers to: the table, what names its row, what the row lacks, and the condition under which it does.
const REFERENCES: [(&str, &str, &str, &str); 14] = [
    (
        "runs",
        "id",
        "its job",
        "NOT EXISTS (SELECT 1 FROM jobs p WHERE p.id = c.job)",
    ),
    (
        "runs",
        "id",
        "its route's settings",
        "NOT EXISTS (SELECT 1 FROM configs p WHERE p.digest = c.config_digest)",
    ),
    (
        "run_reads",
        "run",
        "its run",
        "NOT EXISTS (SELECT 1 FROM runs p WHERE p.id = c.run)",
    ),
    (
        "actions",
        "id",
        "its run",
        "NOT EXISTS (SELECT 1 FROM runs p WHERE p.id = c.run)",
    ),
    (
        "actions",
        "id",
        "a run of its receipt",
        "NOT EXISTS (SELECT 1 FROM runs p JOIN jobs j ON j.id = p.job WHERE p.id = c.run AND j.receipt = c.receipt)",
    ),
    (
        "repeats",
        "run",
        "its run",
        "NOT EXISTS (SELECT 1 FROM runs p WHERE p.id = c.run)",
    ),
    (
        "repeats",
        "run",
        "the action that it repeats",
        "NOT EXISTS (SELECT 1 FROM actions p WHERE p.id = c.action)",
    ),
    (
        "outbox",
        "id",
        "its action",
        "NOT EXISTS (SELECT 1 FROM actions p WHERE p.id = c.action)",
    ),
    (
        "attempts",
        "id",
        "its outbox entry",
        "NOT EXISTS (SELECT 1 FROM outbox p WHERE p.id = c.entry)",
    ),
    (
        "outbox",
        "id",
        "its resend",
        "c.resend IS NOT NULL AND NOT EXISTS (SELECT 1 FROM resends p WHERE p.id = c.resend)",
    ),
    (
        "attempts",
        "id",
        "its resend",
        "c.resend IS NOT NULL AND NOT EXISTS (SELECT 1 FROM resends p WHERE p.id = c.resend)",
    ),
    (
        "dead_letters",
        "id",
        "what died",
        "NOT EXISTS (SELECT 1 FROM jobs p WHERE p.id = c.job) AND NOT EXISTS (SELECT 1 FROM outbox p WHERE p.id = c.entry)",
    ),
    (
        "jobs",
        "id",
        "the run that ended it",
        "c.state = 3 AND NOT EXISTS (SELECT 1 FROM runs p WHERE p.job = c.id)",
    ),
    (
        "outbox",
        "id",
        "the attempt that delivered it",
        "c.state = 3 AND NOT EXISTS (SELECT 1 FROM attempts p WHERE p.entry = c.id)",
    ),
];

/// What names a receipt by its number.
const OF_RECEIPTS: [(&str, &str); 7] = [
    ("deliveries", "id"),
    ("jobs", "id"),
    ("actions", "id"),
    ("dead_letters", "id"),
    ("history", "id"),
    ("reviews", "receipt"),
    ("redelivered", "receipt"),
];

/// What carries the digest of its own bytes: the table, what names its row, the bytes, the digest.
const DIGESTS: [(&str, &str, &str, &str); 3] = [
    ("actions", "id", "json", "content_digest"),
    ("configs", "hex(digest)", "text", "digest"),
    ("components", "hex(digest)", "bytes", "digest"),
];

/// What does not fit together, one line for each kind.
///
/// Without the store's key, bodies are passed over.
pub(crate) fn problems(connection: &Connection, key: Option<&Secret>, head: i64) -> Result<Vec<String>, Fault> {
    let mut problems = Vec::new();
    for table in WITHOUT_GAPS {
        let (rows, last): (i64, i64) = connection.query_row(
            &format!("SELECT count(*), coalesce(max(id), 0) FROM {table}"),
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        if rows != last {
            let first: i64 = connection.query_row(
                &format!(
                    "SELECT coalesce(min(n), 1) FROM (SELECT 1 AS n WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE id = 1) \
                     UNION ALL SELECT min(id) + 1 FROM {table} t WHERE NOT EXISTS (SELECT 1 FROM {table} p WHERE p.id = t.id + 1))"
                ),
                [],
                |row| row.get(0),
            )?;
            problems.push(format!("{table}: row {first} is missing; {rows} of {last} are there"));
        }
    }
    let mut lacking = |table: &str, name: &str, what: &str, condition: &str| -> Result<(), Fault> {
        let (rows, first): (i64, Option<i64>) = connection.query_row(
            &format!("SELECT count(*), min(c.{name}) FROM {table} c WHERE {condition}"),
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        if let Some(first) = first {
            problems.push(format!("{table}: row {first} lacks {what}; {rows} such rows"));
        }
        Ok(())
    };
    for (table, name) in OF_RECEIPTS {
        let outside = format!("c.receipt NOT BETWEEN 1 AND {head}");
        lacking(table, name, "its receipt", &outside)?;
    }
    for (table, name, what, condition) in REFERENCES {
        lacking(table, name, what, condition)?;
    }
    for (table, name, bytes, digest) in DIGESTS {
        problems.extend(not_its_digest(connection, table, name, bytes, digest)?);
    }
    if let Some(key) = key {
        problems.extend(not_its_body(connection, key)?);
    }
    Ok(problems)
}

/// The first delivery whose own body is not the one that came.
fn not_its_body(connection: &Connection, key: &Secret) -> Result<Option<String>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT d.id, d.body, d.body_commitment, o.tenant FROM deliveries d JOIN origins o ON o.id = d.origin \
         WHERE d.body IS NOT NULL ORDER BY d.id",
    )?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let (body, tenant) = (rows::get::<Vec<u8>>(row, "body")?, rows::id(row, "tenant")?);
        if body_commitment(key, &tenant, &body) != rows::digest(row, "body_commitment")? {
            let id: i64 = rows::get(row, "id")?;
            return Ok(Some(format!("deliveries: row {id} has another body than came")));
        }
    }
    Ok(None)
}

fn not_its_digest(
    connection: &Connection,
    table: &str,
    name: &str,
    bytes: &str,
    digest: &str,
) -> Result<Option<String>, Fault> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT CAST({bytes} AS BLOB), {digest}, {name} FROM {table} WHERE {bytes} IS NOT NULL"
    ))?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let blob = |column: usize| -> Result<&[u8], Fault> {
            row.get_ref(column)?
                .as_blob()
                .map_err(|error| Fault::damaged(table, error))
        };
        if Digest::of(blob(0)?).0.as_slice() != blob(1)? {
            let name = match row.get_ref(2)? {
                ValueRef::Integer(id) => id.to_string(),
                other => other.as_str().unwrap_or_default().to_lowercase(),
            };
            return Ok(Some(format!("{table}: row {name} is not what its digest says")));
        }
    }
    Ok(None)
}
