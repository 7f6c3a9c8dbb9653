//! Admission: one verified event becomes a receipt with its jobs, or one more delivery of a receipt that exists.

use std::collections::BTreeSet;

use tollgate_core::admission::{
    self, Admission, Decision, Existing, Identity, NewJob, OnHeld, OnReplay, decide, replaces,
};
use tollgate_core::event::Event;
use tollgate_core::ids::{FamilyName, ReceiptId, TenantName};
use tollgate_core::secret::Secret;
use tollgate_core::subject::{self, Scope};
use tollgate_core::time::UnixMillis;
use tollgate_core::work::JobState;

use super::append;
use super::deliveries::{self, Other};
use super::fault::Fault;
use super::receipts::{self, Body, Subject, View};
use super::reviewed;
use super::rows;
use super::transaction::Transaction;
use crate::Admitted;
use crate::sql::{Connection, params};

/// Whether anything of a lane waits or runs.
const IS_BUSY: &str = "SELECT EXISTS (SELECT 1 FROM jobs WHERE lane = ?1 AND state < 3)";
/// What the history says of an event that a route's filter left out.
pub(crate) const FILTERED: &str = "filtered";

pub(crate) fn admit(transaction: &mut Transaction<'_>, key: &Secret, admission: &Admission) -> Result<Admitted, Fault> {
    transaction.must_sync = true;
    if let Some((seq, body_commitment)) = transaction
        .memory
        .receipts
        .existing(transaction.connection, admission.receipt)?
    {
        let existing = match admission.identity {
            Identity::EventId => Existing::ById { body_commitment },
            Identity::SignedMessage(_) => {
                let known = append::get_ahead(transaction, seq)?;
                Existing::ByMessage {
                    id: known.event.id.clone(),
                    event_type: known.event.event_type.clone(),
                }
            }
        };
        let judged = decide(admission, Some(existing), None);
        return match judged {
            Decision::Same => Ok(Admitted::Same {
                delivery: deliveries::note_same(transaction.connection, admission, seq)?,
            }),
            Decision::Conflict => conflict(transaction, key, admission, seq),
            Decision::SuspectedReplay => {
                let noted = note_other(transaction, admission, seq, Other::SuspectedReplay { body_commitment })?;
                if let (OnReplay::Answer, Some(delivery)) = (admission.on_replay, noted.open) {
                    deliveries::mark_decided(transaction.connection, delivery)?;
                }
                Ok(Admitted::SuspectedReplay { delivery: noted.number })
            }
            Decision::New(_) => Err(Fault::damaged("admission", "an existing receipt was judged new")),
        };
    }
    let subject = find_subject(transaction.view(), key, &admission.event, admission.scope)?;
    match decide(admission, None, subject.as_ref().and_then(Subject::status)) {
        Decision::New(disposition) => {
            let jobs = admission.made(&disposition);
            let lanes = Lanes::of(transaction.connection, &jobs)?;
            let seq = append::append(transaction, admission, &disposition, &jobs, subject)?;
            lead_from_event_id(transaction.connection, key, admission.receipt, &admission.event, seq)?;
            let event = &admission.event;
            if let Some(why) = admission.why_filtered(&disposition) {
                rows::append_history(transaction.connection, seq, event.received_at, FILTERED, &why)?;
            }
            lanes.insert(transaction, &event.tenant, &jobs, seq, admission.due_at)?;
            Ok(Admitted::New(disposition))
        }
        Decision::Same | Decision::Conflict | Decision::SuspectedReplay => {
            Err(Fault::damaged("admission", "a new event was judged known"))
        }
    }
}

/// Lets a receipt be found by its event's id, where it is not named by it.
pub(crate) fn lead_from_event_id(
    connection: &Connection,
    key: &Secret,
    receipt: ReceiptId,
    event: &Event,
    seq: i64,
) -> Result<(), Fault> {
    let name = admission::receipt_id(key, &event.tenant, &event.source, &event.id);
    if name != receipt {
        connection
            .prepare_cached("INSERT OR IGNORE INTO event_ids (name, receipt) VALUES (?1, ?2)")?
            .execute(params![name.0.as_slice(), seq])?;
    }
    Ok(())
}

/// Keeps a delivery in another form. It takes the receipt's place by itself where the source says so and nothing has effect yet.
fn conflict(
    transaction: &mut Transaction<'_>,
    key: &Secret,
    admission: &Admission,
    seq: i64,
) -> Result<Admitted, Fault> {
    let noted = note_other(transaction, admission, seq, Other::Conflict)?;
    if admission.on_held == OnHeld::Replace
        && let Some(delivery) = noted.open
        && let Some(own) = replacement(transaction, key, admission, seq)?
    {
        let (own_receipt, admitted) = (own.receipt, admit(transaction, key, &own)?);
        if let Admitted::New(disposition) = admitted {
            reviewed::replaced_by_itself(transaction, seq, delivery, &own, &disposition)?;
            deliveries::mark_decided(transaction.connection, delivery)?;
            return Ok(Admitted::Replaced {
                own: own_receipt,
                disposition,
            });
        }
    }
    Ok(Admitted::Conflict { delivery: noted.number })
}

fn note_other(
    transaction: &mut Transaction<'_>,
    admission: &Admission,
    seq: i64,
    other: Other,
) -> Result<deliveries::Noted, Fault> {
    let event = &admission.event;
    let origin = transaction.origin(&event.tenant, &event.source, event.reading.family())?;
    deliveries::note_other(transaction.connection, admission, seq, origin, other)
}

/// The event of its own that takes a held receipt's place, if it does.
fn replacement(
    transaction: &Transaction<'_>,
    key: &Secret,
    admission: &Admission,
    seq: i64,
) -> Result<Option<Admission>, Fault> {
    let view = transaction.view();
    let receipt = receipts::get_known(view, seq, Body::Without)?;
    let is_reviewed = reviewed::view(view, seq)?.is_some();
    let own = admission.on_its_own(key);
    let decision = foresee(view, key, &own)?;
    Ok(replaces(admission.on_held, &receipt.disposition, is_reviewed, &decision).then_some(own))
}

/// What an admission would be decided to be, if it came now.
pub(crate) fn foresee(view: View<'_>, key: &Secret, admission: &Admission) -> Result<Decision, Fault> {
    let existing = match receipts::find(view, &[admission.receipt])?.pop() {
        Some(seq) => {
            let known = receipts::get_known(view, seq, Body::Without)?;
            Some(match admission.identity {
                Identity::EventId => Existing::ById {
                    body_commitment: known.body_commitment,
                },
                Identity::SignedMessage(_) => Existing::ByMessage {
                    id: known.event.id.clone(),
                    event_type: known.event.event_type.clone(),
                },
            })
        }
        None => None,
    };
    let subject = find_subject(view, key, &admission.event, admission.scope)?;
    Ok(decide(admission, existing, subject.as_ref().and_then(Subject::status)))
}

/// What is known of an event's subject, if it has one.
pub(crate) fn find_subject(
    view: View<'_>,
    key: &Secret,
    event: &Event,
    scope: Scope,
) -> Result<Option<Subject>, Fault> {
    let Some(subject) = &event.subject else { return Ok(None) };
    let family = event.reading.family().map(FamilyName::as_str);
    let key = subject::key(key, &event.tenant, family, scope.source(event), subject.as_str());
    receipts::subject(view, key).map(Some)
}

/// Makes a receipt's jobs, each behind what waits in its lane.
pub(crate) fn insert_jobs(
    transaction: &mut Transaction<'_>,
    tenant: &TenantName,
    jobs: &[NewJob],
    receipt_seq: i64,
    due_at: UnixMillis,
) -> Result<(), Fault> {
    Lanes::of(transaction.connection, jobs)?.insert(transaction, tenant, jobs, receipt_seq, due_at)
}

/// The lanes of new jobs in which something waits or runs.
struct Lanes {
    busy: BTreeSet<i64>,
}

impl Lanes {
    fn of(connection: &Connection, jobs: &[NewJob]) -> Result<Self, Fault> {
        let mut busy = BTreeSet::new();
        let lanes = || jobs.iter().filter(|job| job.held.is_none()).map(|job| job.spec.lane);
        for lane in lanes() {
            connection.will_ask(IS_BUSY, &[&lane])?;
        }
        for lane in lanes() {
            if connection
                .prepare_cached(IS_BUSY)?
                .query_row([lane], |row| row.get(0))?
            {
                busy.insert(lane);
            }
        }
        Ok(Self { busy })
    }

    /// Inserts the jobs; what is held waits for nobody but a person.
    fn insert(
        mut self,
        transaction: &mut Transaction<'_>,
        tenant: &TenantName,
        jobs: &[NewJob],
        receipt_seq: i64,
        due_at: UnixMillis,
    ) -> Result<(), Fault> {
        let connection = transaction.connection;
        for NewJob { spec: job, held } in jobs {
            if let Some(reason) = held {
                connection
                    .prepare_cached(
                        "INSERT INTO jobs (receipt, route, lane, state, due_at, tenant, reason, ended_at) \
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?5)",
                    )?
                    .execute(params![
                        receipt_seq,
                        job.route.as_str(),
                        job.lane,
                        rows::job_code(JobState::Held),
                        due_at.0,
                        tenant.as_str(),
                        reason,
                    ])?;
                continue;
            }
            let state = match self.busy.insert(job.lane) {
                true => JobState::Ready,
                false => JobState::Blocked,
            };
            connection
                .prepare_cached(
                    "INSERT INTO jobs (receipt, route, lane, state, due_at, tenant) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![
                    receipt_seq,
                    job.route.as_str(),
                    job.lane,
                    rows::job_code(state),
                    due_at.0,
                    tenant.as_str(),
                ])?;
            if state == JobState::Ready {
                transaction.job_is_ready(tenant, due_at);
            }
        }
        Ok(())
    }
}
