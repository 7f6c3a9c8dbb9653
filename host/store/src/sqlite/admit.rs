//! Admission: one verified event becomes a receipt with its jobs, or one more delivery of a receipt that exists.

use rusqlite::{Connection, OptionalExtension as _, params};
use tollgate_core::admission::{Admission, Decision, Disposition, Existing, JobSpec, decide};
use tollgate_core::chain;
use tollgate_core::event::{ENVELOPE_VERSION, Event};
use tollgate_core::ids::{Digest, FamilyName, SourceName, Status, TenantName};
use tollgate_core::secret::Secret;
use tollgate_core::time::UnixMillis;

use super::fault::Fault;
use super::rows::{WorkState, disposition_codes, reading_codes, to_json};
use super::writer::{ChainHead, Transaction};
use crate::Admitted;

/// What the store has under the receipt's id.
struct Found {
    seq: i64,
    existing: Existing,
}

/// What the store knows of an event's subject.
pub(super) struct SubjectRow {
    pub(super) key: [u8; 16],
    /// Its status and its newest receipt; `None` when the subject is new to the store.
    known: Option<(Option<Status>, i64)>,
}

impl SubjectRow {
    /// The status that the lifecycle has reached.
    pub(super) fn status(&self) -> Option<&Status> {
        self.known.as_ref().and_then(|(status, _)| status.as_ref())
    }
}

pub(super) fn admit(transaction: &mut Transaction<'_>, key: &Secret, admission: &Admission) -> Result<Admitted, Fault> {
    let found = find_receipt(transaction.connection, admission)?;
    if let Some(found) = found {
        return match decide(admission, Some(found.existing), None) {
            Decision::Same => Ok(Admitted::Same {
                delivery: append_delivery(transaction, admission, found.seq, false)?,
            }),
            Decision::Conflict => Ok(Admitted::Conflict {
                delivery: append_delivery(transaction, admission, found.seq, true)?,
            }),
            Decision::New(_) => Err(Fault::damaged("admission", "an existing receipt was judged new")),
        };
    }
    let subject = find_subject(transaction.connection, key, &admission.event)?;
    match decide(admission, None, subject.as_ref().and_then(SubjectRow::status)) {
        Decision::New(disposition) => {
            let seq = insert_receipt(transaction, admission, &disposition, subject.as_ref())?;
            if let Some(subject) = &subject {
                move_subject(transaction.connection, subject, admission, &disposition, seq)?;
            }
            if disposition == Disposition::Accepted {
                insert_jobs(transaction, &admission.jobs, seq, admission.event.received_at)?;
            }
            Ok(Admitted::New(disposition))
        }
        Decision::Same | Decision::Conflict => Err(Fault::damaged("admission", "a new event was judged known")),
    }
}

fn find_receipt(connection: &Connection, admission: &Admission) -> Result<Option<Found>, Fault> {
    let mut statement = connection.prepare_cached("SELECT seq, body_digest FROM receipts WHERE id = ?1")?;
    let row = |row: &rusqlite::Row<'_>| {
        Ok(Found {
            seq: row.get(0)?,
            existing: Existing {
                body_digest: Digest(row.get::<_, [u8; 32]>(1)?),
            },
        })
    };
    Ok(statement.query_row([admission.receipt.0.as_slice()], row).optional()?)
}

/// Names a subject within its (tenant, family). Keyed with the store's own key, so that a sender cannot choose two subjects
/// that share one row.
pub(super) fn subject_key(key: &Secret, tenant: &TenantName, family: Option<&str>, subject: &str) -> [u8; 16] {
    let parts = [tenant.as_str(), family.unwrap_or(""), subject];
    let mut bytes = Vec::with_capacity(32 + parts.iter().map(|part| 4 + part.len()).sum::<usize>());
    bytes.extend_from_slice(key.expose());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    let mut name = [0; 16];
    name.copy_from_slice(&Digest::of(&bytes).0[..16]);
    name
}

pub(super) fn find_subject(connection: &Connection, key: &Secret, event: &Event) -> Result<Option<SubjectRow>, Fault> {
    let Some(subject) = &event.subject else { return Ok(None) };
    let key = subject_key(
        key,
        &event.tenant,
        event.reading.family().map(FamilyName::as_str),
        subject.as_str(),
    );
    let mut statement = connection.prepare_cached("SELECT status, newest FROM subjects WHERE key = ?1")?;
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<String>>(0)?, row.get(1)?));
    let known = match statement.query_row([key.as_slice()], row).optional()? {
        None => None,
        Some((None, newest)) => Some((None, newest)),
        Some((Some(status), newest)) => {
            let status = status
                .parse()
                .map_err(|error| Fault::damaged("a subject's status", error))?;
            Some((Some(status), newest))
        }
    };
    Ok(Some(SubjectRow { key, known }))
}

fn insert_receipt(
    transaction: &mut Transaction<'_>,
    admission: &Admission,
    disposition: &Disposition,
    subject: Option<&SubjectRow>,
) -> Result<i64, Fault> {
    let event = &admission.event;
    let proof = &admission.proof;
    let origin = origin(transaction, &event.tenant, &event.source, event.reading.family())?;
    let head = transaction.memory.head;
    let seq = head.seq + 1;
    let link = chain::link(&head.link, &chain::receipt_digest(admission, disposition));
    let (reading, status) = reading_codes(&event.reading);
    let (disposition, detail) = disposition_codes(disposition);
    let attributes = if event.attributes.is_empty() {
        None
    } else {
        Some(to_json(&event.attributes)?)
    };
    transaction
        .connection
        .prepare_cached(
            "INSERT INTO receipts (seq, id, origin, event_id, event_type, subject, previous, reading, status, lifecycle_version, \
             occurred_at, received_at, amount, currency, attributes, provider, profile_version, scheme, key_id, signed_at, \
             envelope_version, disposition, disposition_detail, body_digest, link, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, \
             ?24, ?25, ?26)",
        )?
        .execute(params![
            seq,
            admission.receipt.0.as_slice(),
            origin,
            event.id.as_str(),
            event.event_type.as_str(),
            event.subject.as_ref().map(|subject| subject.as_str()),
            subject.and_then(|row| row.known.as_ref()).map(|(_, newest)| newest),
            reading,
            status,
            admission.lifecycle.as_ref().map(|lifecycle| lifecycle.version),
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
            ENVELOPE_VERSION,
            disposition,
            detail,
            admission.body_digest.0.as_slice(),
            link.0.as_slice(),
            &event.payload[..],
        ])?;
    transaction.memory.head = ChainHead { seq, link };
    Ok(seq)
}

/// The number of an origin, made when it is new.
fn origin(
    transaction: &mut Transaction<'_>,
    tenant: &TenantName,
    source: &SourceName,
    family: Option<&FamilyName>,
) -> Result<i64, Fault> {
    let name = (tenant.clone(), source.clone(), family.cloned());
    if let Some(id) = transaction.memory.origins.get(&name) {
        return Ok(*id);
    }
    let texts = params![
        tenant.as_str(),
        source.as_str(),
        family.map_or("", |family| family.as_str())
    ];
    transaction
        .connection
        .prepare_cached("INSERT INTO origins (tenant, source, family) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
        .execute(texts)?;
    let id = transaction
        .connection
        .prepare_cached("SELECT id FROM origins WHERE tenant = ?1 AND source = ?2 AND family = ?3")?
        .query_row(texts, |row| row.get(0))?;
    transaction.memory.origins.insert(name, id);
    Ok(id)
}

/// The subject's newest receipt is this one; its status is the event's only if the event was accepted.
fn move_subject(
    connection: &Connection,
    subject: &SubjectRow,
    admission: &Admission,
    disposition: &Disposition,
    seq: i64,
) -> Result<(), Fault> {
    let status = admission
        .event
        .reading
        .status()
        .filter(|_| *disposition == Disposition::Accepted)
        .map(|status| status.as_str());
    let sql = match (&subject.known, status) {
        (None, _) => "INSERT INTO subjects (key, status, newest) VALUES (?1, ?2, ?3)",
        (Some(_), Some(_)) => "UPDATE subjects SET status = ?2, newest = ?3 WHERE key = ?1",
        (Some(_), None) => "UPDATE subjects SET status = coalesce(?2, status), newest = ?3 WHERE key = ?1",
    };
    connection
        .prepare_cached(sql)?
        .execute(params![subject.key.as_slice(), status, seq])?;
    Ok(())
}

/// Makes a receipt's jobs, each behind what waits in its lane.
pub(super) fn insert_jobs(
    transaction: &mut Transaction<'_>,
    jobs: &[JobSpec],
    receipt_seq: i64,
    due_at: UnixMillis,
) -> Result<(), Fault> {
    for job in jobs {
        let lane_is_busy: bool = transaction
            .connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM jobs WHERE lane = ?1 AND state IN (0, 1, 2))")?
            .query_row([job.lane], |row| row.get(0))?;
        let state = if lane_is_busy {
            WorkState::Blocked
        } else {
            WorkState::Ready
        };
        transaction
            .connection
            .prepare_cached("INSERT INTO jobs (receipt, route, lane, state, due_at) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![receipt_seq, job.route.as_str(), job.lane, state, due_at.0])?;
        transaction.jobs_ready |= state == WorkState::Ready;
    }
    Ok(())
}

fn append_delivery(
    transaction: &Transaction<'_>,
    admission: &Admission,
    seq: i64,
    conflict: bool,
) -> Result<u32, Fault> {
    let number: i64 = transaction
        .connection
        .prepare_cached("SELECT coalesce(max(number), 1) + 1 FROM deliveries WHERE receipt = ?1")?
        .query_row([seq], |row| row.get(0))?;
    let proof = &admission.proof;
    transaction
        .connection
        .prepare_cached(
            "INSERT INTO deliveries (receipt, number, received_at, conflict, provider, profile_version, scheme, key_id, signed_at, \
             body_digest, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            seq,
            number,
            admission.event.received_at.0,
            conflict,
            proof.provider.as_str(),
            proof.profile_version,
            proof.scheme,
            proof.key_id.as_str(),
            proof.signed_at.map(|at| at.0),
            admission.body_digest.0.as_slice(),
            // A redelivery's body is the receipt's own.
            conflict.then_some(&admission.event.payload[..]),
        ])?;
    u32::try_from(number).map_err(|_| Fault::damaged("delivery number", number))
}
