//! How the writer adds to receipts, whatever their layout.

use std::sync::Arc;

use tollgate_core::admission::{Admission, Disposition, NewJob};
use tollgate_core::event::ENVELOPE_VERSION;
use tollgate_core::ids::{ReceiptId, Status};

use super::fault::Fault;
use super::head::ChainHead;
use super::receipts::{self, Body, Moved, Receipt, Subject, SubjectState, unrouted};
use super::transaction::Transaction;

/// Appends a receipt, moves its subject on, and returns its number.
pub(crate) fn append(
    transaction: &mut Transaction<'_>,
    admission: &Admission,
    disposition: &Disposition,
    jobs: &[NewJob],
    subject: Option<Subject>,
) -> Result<i64, Fault> {
    let event = &admission.event;
    let origin = transaction.origin(&event.tenant, &event.source, event.reading.family())?;
    let head = transaction.memory.head;
    let seq = head.seq + 1;
    let mut receipt = Receipt {
        seq,
        id: admission.receipt,
        event: Arc::clone(event),
        proof: admission.proof.clone(),
        envelope_version: ENVELOPE_VERSION,
        lifecycle_version: admission.lifecycle.as_ref().map(|lifecycle| lifecycle.version),
        disposition: disposition.clone(),
        previous: subject
            .as_ref()
            .and_then(|subject| subject.known.as_ref())
            .map(|known| known.newest),
        body_commitment: admission.body_commitment,
        body_bytes: event.payload.len(),
        link: head.link,
        has_jobs: !jobs.is_empty(),
    };
    let link = receipt.link_after(&head.link);
    receipt.link = link;
    // The subject's newest receipt is this one; its status is the event's only if the event was accepted.
    let moved = subject.map(|subject| {
        let status = event
            .reading
            .status()
            .filter(|_| *disposition == Disposition::Accepted)
            .cloned();
        let was = subject.known;
        let is_new = was.is_none();
        let state = SubjectState {
            status: status.or(was.and_then(|known| known.status)),
            newest: seq,
        };
        Moved {
            key: subject.key,
            state,
            is_new,
        }
    });
    let (connection, receipts) = (transaction.connection, &mut transaction.memory.receipts);
    if *disposition == Disposition::Accepted && jobs.is_empty() {
        match receipts.unrouted() {
            Some(waiting) => waiting.push((seq, origin)),
            None => unrouted::insert(connection, &[(seq, origin)])?,
        }
    }
    receipts.append(connection, receipt, origin, moved)?;
    transaction.memory.head = ChainHead { seq, link };
    Ok(seq)
}

/// The number of a receipt that is there, in this transaction or before it.
pub(crate) fn number_of(transaction: &Transaction<'_>, receipt: ReceiptId) -> Result<i64, Fault> {
    transaction
        .memory
        .receipts
        .existing(transaction.connection, receipt)?
        .map(|(seq, _)| seq)
        .ok_or_else(|| Fault::damaged("review", "what was admitted is not there"))
}

/// For the writer's claims, which come in the order of receipts: like [`receipts::get_known`] with the body, and reads ahead.
pub(crate) fn get_ahead(transaction: &mut Transaction<'_>, seq: i64) -> Result<Arc<Receipt>, Fault> {
    transaction.memory.receipts.read_ahead(transaction.connection, seq)?;
    receipts::get_known(transaction.view(), seq, Body::With)
}

/// Gives a subject another status, which no receipt of its own brings. `receipt` is one of the subject's: the only one that is
/// known of it, where sources did not share it, or shared it, when it came.
pub(crate) fn set_status(
    transaction: &mut Transaction<'_>,
    subject: Subject,
    receipt: i64,
    status: &Status,
) -> Result<(), Fault> {
    let Subject { key, known } = subject;
    let is_new = known.is_none();
    let state = SubjectState {
        status: Some(status.clone()),
        newest: known.map_or(receipt, |known| known.newest),
    };
    let receipts = &mut transaction.memory.receipts;
    receipts.move_subject(transaction.connection, Moved { key, state, is_new })
}

/// An older receipt was accepted by a review, and no route took it.
pub(crate) fn note_unrouted_later(transaction: &mut Transaction<'_>, seq: i64, origin: i64) -> Result<(), Fault> {
    // Its place may be among those that this commit will write.
    match transaction.memory.receipts.unrouted() {
        Some(waiting) if waiting.first().is_some_and(|(first, _)| *first <= seq) => {
            waiting.push((seq, origin));
            waiting.sort_unstable();
            Ok(())
        }
        _ => unrouted::put(transaction.connection, seq, origin),
    }
}

/// A route took it after all.
pub(crate) fn note_routed(transaction: &mut Transaction<'_>, seq: i64) -> Result<(), Fault> {
    if let Some(waiting) = transaction.memory.receipts.unrouted() {
        waiting.retain(|(unrouted, _)| *unrouted != seq);
    }
    unrouted::remove(transaction.connection, seq)
}
