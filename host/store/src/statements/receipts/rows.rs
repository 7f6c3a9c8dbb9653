//! Receipts as rows: one each, with a unique index over ids and a row per subject.

use std::sync::Arc;

use tollgate_core::event::Event;
use tollgate_core::ids::{Digest, ReceiptId, TenantName};

use super::super::fault::Fault;
use super::super::head::ChainHead;
use super::super::rows::{self, EVENT_COLUMNS, disposition_codes, get as column, reading_codes, to_json};
use super::{Body, Moved, Receipt, Receipts, ReceiptsWriter, SubjectKey, SubjectState};
use crate::sql::{Connection, OptionalExtension as _, Row, params};

/// Receipts that are read with one that others before it are likely to be asked for after.
const FACTS_AROUND: i64 = 256;

/// The layout of rows. It remembers nothing.
#[derive(Debug)]
pub(crate) struct Rows;

impl Receipts for Rows {
    fn get(&self, connection: &Connection, seq: i64, body: Body) -> Result<Option<Arc<Receipt>>, Fault> {
        let mut statement = connection.prepare_cached(&by_number(body))?;
        let mut found = statement.query([seq])?;
        match found.next()? {
            None => Ok(None),
            Some(row) => Ok(Some(Arc::new(read(row, column(row, "body")?)?))),
        }
    }

    /// Those before it, as lists go.
    fn facts_around(&self, connection: &Connection, seq: i64) -> Result<Vec<Arc<Receipt>>, Fault> {
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {RECEIPT_COLUMNS}, {EVENT_COLUMNS} FROM receipts r JOIN origins o ON o.id = r.origin \
             WHERE r.seq > ?1 AND r.seq <= ?2 ORDER BY r.seq"
        ))?;
        let mut found = statement.query(params![seq - FACTS_AROUND, seq])?;
        let mut receipts = Vec::new();
        while let Some(row) = found.next()? {
            receipts.push(Arc::new(read(row, Vec::new())?));
        }
        Ok(receipts)
    }

    fn find(&self, connection: &Connection, ids: &[ReceiptId]) -> Result<Vec<i64>, Fault> {
        let mut found = Vec::new();
        for id in ids {
            found.extend(self.existing(connection, *id)?.map(|(seq, _)| seq));
        }
        Ok(found)
    }

    fn newest_of_subjects(&self, connection: &Connection, subjects: &[SubjectKey]) -> Result<Vec<i64>, Fault> {
        let mut found = Vec::new();
        for key in subjects {
            found.extend(subject(connection, key)?.map(|state| state.newest));
        }
        Ok(found)
    }

    fn newest(
        &self,
        connection: &Connection,
        tenant: &TenantName,
        before: i64,
        receipts_max: usize,
    ) -> Result<Vec<i64>, Fault> {
        let limit = i64::try_from(receipts_max).unwrap_or(i64::MAX);
        let mut statement = connection.prepare_cached(
            "SELECT r.seq FROM origins o JOIN receipts r ON r.origin = o.id WHERE o.tenant = ?1 AND r.seq < ?3 ORDER BY r.seq DESC LIMIT ?2",
        )?;
        let found = statement
            .query_map(params![tenant.as_str(), limit, before], |row| row.get(0))?
            .collect::<Result<Vec<_>, _>>()?;
        Ok(found)
    }

    fn subject(&self, connection: &Connection, key: &SubjectKey) -> Result<Option<SubjectState>, Fault> {
        subject(connection, key)
    }

    /// A partial index has them.
    fn not_accepted(&self) -> &'static str {
        "receipts WHERE disposition <> 0 AND"
    }

    fn head(&self, connection: &Connection) -> Result<ChainHead, Fault> {
        let newest = connection
            .prepare_cached("SELECT seq, link FROM receipts ORDER BY seq DESC LIMIT 1")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(ChainHead::of(newest))
    }
}

/// The statement that asks for the receipt of a number.
fn by_number(body: Body) -> String {
    let body = match body {
        Body::With => "r.body",
        Body::Without => "x'' AS body",
    };
    format!(
        "SELECT {RECEIPT_COLUMNS}, {EVENT_COLUMNS}, {body} FROM receipts r JOIN origins o ON o.id = r.origin WHERE r.seq = ?1"
    )
}

impl ReceiptsWriter for Rows {
    fn will_get(&self, connection: &Connection, seq: i64) -> Result<(), Fault> {
        Ok(connection.will_ask(&by_number(Body::With), &[&seq])?)
    }

    fn existing(&self, connection: &Connection, id: ReceiptId) -> Result<Option<(i64, Digest)>, Fault> {
        let mut statement = connection.prepare_cached("SELECT seq, body_commitment FROM receipts WHERE id = ?1")?;
        let row = |row: &Row<'_>| Ok((row.get(0)?, Digest(row.get::<_, [u8; 32]>(1)?)));
        Ok(statement.query_row([id.0.as_slice()], row).optional()?)
    }

    fn append(
        &mut self,
        connection: &Connection,
        receipt: Receipt,
        origin: i64,
        moved: Option<Moved>,
    ) -> Result<(), Fault> {
        insert(connection, &receipt, &receipt.event, origin)?;
        match moved {
            Some(moved) => self.move_subject(connection, moved),
            None => Ok(()),
        }
    }

    fn move_subject(&mut self, connection: &Connection, moved: Moved) -> Result<(), Fault> {
        let sql = if moved.is_new {
            "INSERT INTO subjects (key, status, newest) VALUES (?1, ?2, ?3)"
        } else {
            "UPDATE subjects SET status = ?2, newest = ?3 WHERE key = ?1"
        };
        let status = moved.state.status.as_ref().map(|status| status.as_str());
        connection
            .prepare_cached(sql)?
            .execute(params![moved.key.as_slice(), status, moved.state.newest])?;
        Ok(())
    }
}

pub(crate) const RECEIPT_COLUMNS: &str = "r.seq, r.id, r.envelope_version, r.lifecycle_version, r.provider, r.profile_version, r.scheme, r.key_id, r.signed_at, \
     r.disposition, r.disposition_detail, r.previous, r.body_commitment, r.link, length(r.body) AS body_bytes";

pub(crate) fn read(row: &Row<'_>, body: Vec<u8>) -> Result<Receipt, Fault> {
    Ok(Receipt {
        seq: column(row, "seq")?,
        id: rows::receipt_id(row, "id")?,
        event: Arc::new(rows::event(row, body)?),
        proof: rows::proof(row)?,
        envelope_version: rows::unsigned32(row, "envelope_version")?,
        lifecycle_version: column(row, "lifecycle_version")?,
        disposition: rows::disposition(row)?,
        previous: column(row, "previous")?,
        body_commitment: rows::digest(row, "body_commitment")?,
        body_bytes: usize::try_from(rows::unsigned(row, "body_bytes")?).unwrap_or(usize::MAX),
        link: rows::digest(row, "link")?,
        has_jobs: true,
    })
}

/// Also for the log: subjects that have left memory stand in the same table.
pub(crate) fn subject(connection: &Connection, key: &SubjectKey) -> Result<Option<SubjectState>, Fault> {
    let mut statement = connection.prepare_cached("SELECT status, newest FROM subjects WHERE key = ?1")?;
    let row = |row: &Row<'_>| Ok((row.get::<_, Option<String>>(0)?, row.get(1)?));
    let Some((status, newest)) = statement.query_row([key.as_slice()], row).optional()? else {
        return Ok(None);
    };
    subject_state(status.as_deref(), newest).map(Some)
}

fn subject_state(status: Option<&str>, newest: i64) -> Result<SubjectState, Fault> {
    let status = match status {
        None => None,
        Some(status) => Some(
            status
                .parse()
                .map_err(|error| Fault::damaged("a subject's status", error))?,
        ),
    };
    Ok(SubjectState { status, newest })
}

/// The subjects behind a key, or the first, in the order of their keys; of segments those that have left memory.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn subjects(
    connection: &Connection,
    after: Option<&SubjectKey>,
    subjects_max: usize,
) -> Result<Vec<(SubjectKey, SubjectState)>, Fault> {
    let limit = i64::try_from(subjects_max).unwrap_or(i64::MAX);
    // No key is shorter.
    let after = after.map_or(&[][..], |key| key.as_slice());
    let mut statement =
        connection.prepare_cached("SELECT key, status, newest FROM subjects WHERE key > ?1 ORDER BY key LIMIT ?2")?;
    let mut found = statement.query(params![after, limit])?;
    let mut subjects = Vec::new();
    while let Some(row) = found.next()? {
        let status: Option<String> = row.get("status")?;
        subjects.push((row.get("key")?, subject_state(status.as_deref(), row.get("newest")?)?));
    }
    Ok(subjects)
}

/// `event` is the receipt's, with its body.
pub(crate) fn insert(connection: &Connection, receipt: &Receipt, event: &Event, origin: i64) -> Result<(), Fault> {
    let proof = &receipt.proof;
    let (reading, status) = reading_codes(&event.reading);
    let (disposition, detail) = disposition_codes(&receipt.disposition);
    let attributes = if event.attributes.is_empty() {
        None
    } else {
        Some(to_json(&event.attributes)?)
    };
    connection
        .prepare_cached(
            "INSERT INTO receipts (seq, id, origin, event_id, event_type, subject, previous, reading, status, lifecycle_version, \
             occurred_at, received_at, amount, currency, attributes, provider, profile_version, scheme, key_id, signed_at, \
             envelope_version, disposition, disposition_detail, body_commitment, link, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, \
             ?24, ?25, ?26)",
        )?
        .execute(params![
            receipt.seq,
            receipt.id.0.as_slice(),
            origin,
            event.id.as_str(),
            event.event_type.as_str(),
            event.subject.as_ref().map(|subject| subject.as_str()),
            receipt.previous,
            reading,
            status,
            receipt.lifecycle_version,
            event.occurred_at.map(|at| at.0),
            event.received_at.0,
            event.amount.map(|amount| amount.minor_units()),
            event.amount.as_ref().map(|amount| amount.currency()).as_ref().map(|currency| currency.as_str()),
            attributes,
            proof.provider.as_str(),
            proof.profile_version,
            proof.scheme,
            proof.key_id.as_str(),
            proof.signed_at.map(|at| at.0),
            receipt.envelope_version,
            disposition,
            detail,
            receipt.body_commitment.0.as_slice(),
            receipt.link.0.as_slice(),
            &event.payload[..],
        ])?;
    Ok(())
}
