//! Further deliveries of events whose receipts exist: counted, and kept one by one up to a bound.
//!
//! Redeliveries are kept without their bytes, which are the receipt's own. What is not the receipt's event, a conflict or a suspected
//! replay, is kept once with its body and the event as it was read, so that a person can give it effect; when it comes again, that
//! is counted.

use tollgate_core::admission::{Admission, Kept};
use tollgate_core::event::Event;
use tollgate_core::ids::{DeliveryId, Digest};

use super::fault::Fault;
use super::receipts::{self, Body, View};
use super::reviewed;
use super::rows::{self, get, millis, signed, to_json};
use crate::sql::{Connection, Row, params};
use crate::{DeliveryView, KeptDelivery, Redelivered};

/// In `redelivered_in_all`, and in `deliveries.conflict`.
const SAME: i64 = 0;
const CONFLICT: i64 = 1;
const SUSPECTED_REPLAY: i64 = 2;

/// A delivery that is not the event of its receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Other {
    /// It has the receipt's event id and other bytes.
    Conflict,
    /// It has the signed message of the receipt, whose body has this commitment, and another id or type.
    SuspectedReplay { body_commitment: Digest },
}

impl Other {
    fn code(self) -> i64 {
        match self {
            Self::Conflict => CONFLICT,
            Self::SuspectedReplay { .. } => SUSPECTED_REPLAY,
        }
    }
}

/// How often a receipt was delivered again so far.
#[derive(Default)]
struct Totals {
    same: u64,
    conflicts: u64,
    suspected: u64,
    kept: Kept,
}

fn totals(connection: &Connection, seq: i64) -> Result<Totals, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT same, conflicts, suspected, kept_same, kept_conflicts, kept_bytes FROM redelivered WHERE receipt = ?1",
    )?;
    let mut found = statement.query([seq])?;
    let Some(row) = found.next()? else {
        return Ok(Totals::default());
    };
    Ok(Totals {
        same: rows::unsigned(row, "same")?,
        conflicts: rows::unsigned(row, "conflicts")?,
        suspected: rows::unsigned(row, "suspected")?,
        kept: Kept {
            same: rows::unsigned(row, "kept_same")?,
            conflicts: rows::unsigned(row, "kept_conflicts")?,
            conflict_bytes: rows::unsigned(row, "kept_bytes")?,
        },
    })
}

/// Writes the totals, to which one delivery of the kind `what` was added. Returns that delivery's number.
fn write(connection: &Connection, admission: &Admission, seq: i64, totals: &Totals, what: i64) -> Result<u32, Fault> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO redelivered (receipt, same, conflicts, suspected, kept_same, kept_conflicts, kept_bytes, last_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            seq,
            signed(totals.same),
            signed(totals.conflicts),
            signed(totals.suspected),
            signed(totals.kept.same),
            signed(totals.kept.conflicts),
            signed(totals.kept.conflict_bytes),
            admission.event.received_at.0,
        ])?;
    connection
        .prepare_cached("UPDATE redelivered_in_all SET count = count + 1 WHERE what = ?1")?
        .execute([what])?;
    Ok(number(totals))
}

/// The receipt itself is the first.
fn number(totals: &Totals) -> u32 {
    u32::try_from(totals.same + totals.conflicts + totals.suspected + 1).unwrap_or(u32::MAX)
}

/// The receipt's own event came again. Returns which delivery of it this is.
pub(crate) fn note_same(connection: &Connection, admission: &Admission, seq: i64) -> Result<u32, Fault> {
    let mut totals = totals(connection, seq)?;
    totals.same += 1;
    if totals.kept.keeps_same() {
        totals.kept.same += 1;
        append(connection, admission, seq, number(&totals), None)?;
    }
    write(connection, admission, seq, &totals, SAME)
}

/// A delivery of another event as it was noted.
pub(crate) struct Noted {
    /// Which delivery of the receipt this is.
    pub(crate) number: u32,
    /// The kept delivery of this event, if there is one and nobody decided about it.
    pub(crate) open: Option<DeliveryId>,
}

/// What is not the receipt's event came under its identity.
pub(crate) fn note_other(
    connection: &Connection,
    admission: &Admission,
    seq: i64,
    origin: i64,
    other: Other,
) -> Result<Noted, Fault> {
    let mut totals = totals(connection, seq)?;
    match other {
        Other::Conflict => totals.conflicts += 1,
        Other::SuspectedReplay { .. } => totals.suspected += 1,
    }
    // What was signed is the same; only where more than that was sent is there a body of its own.
    let body = match other {
        Other::SuspectedReplay { body_commitment } if body_commitment == admission.body_commitment => None,
        Other::Conflict | Other::SuspectedReplay { .. } => Some(&admission.event.payload[..]),
    };
    let bytes = body.map_or(0, |body| body.len() as u64);
    let open = match known(connection, admission, seq, other)? {
        Some((delivery, is_decided)) => {
            connection
                .prepare_cached("UPDATE deliveries SET times = times + 1, last_at = ?2 WHERE id = ?1")?
                .execute(params![delivery.0, admission.event.received_at.0])?;
            (!is_decided).then_some(delivery)
        }
        None if totals.kept.keeps_conflict(bytes) => {
            totals.kept.conflicts += 1;
            totals.kept.conflict_bytes += bytes;
            let kept = Some((other, origin, body));
            Some(append(connection, admission, seq, number(&totals), kept)?)
        }
        None => None,
    };
    let number = write(connection, admission, seq, &totals, other.code())?;
    Ok(Noted { number, open })
}

/// The kept delivery of the same event with the same body, and whether somebody decided about it. There are few to look at.
fn known(
    connection: &Connection,
    admission: &Admission,
    seq: i64,
    other: Other,
) -> Result<Option<(DeliveryId, bool)>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT id, decided, event FROM deliveries WHERE receipt = ?1 AND conflict = ?2 AND body_commitment = ?3 ORDER BY number",
    )?;
    let mut found = statement.query(params![seq, other.code(), admission.body_commitment.0.as_slice()])?;
    while let Some(row) = found.next()? {
        let is_the_same = match get::<Option<String>>(row, "event")? {
            Some(_) => {
                let event = event(row)?;
                event.id == admission.event.id && event.event_type == admission.event.event_type
            }
            // Of an older schema.
            None => true,
        };
        if is_the_same {
            return Ok(Some((DeliveryId(get(row, "id")?), get(row, "decided")?)));
        }
    }
    Ok(None)
}

/// `other` is set for what is not the receipt's event: which, where it came in, and the body where it is not the receipt's own.
fn append(
    connection: &Connection,
    admission: &Admission,
    seq: i64,
    number: u32,
    other: Option<(Other, i64, Option<&[u8]>)>,
) -> Result<DeliveryId, Fault> {
    let proof = &admission.proof;
    let event = match other {
        Some(_) => Some(to_json(&*admission.event)?),
        None => None,
    };
    let (code, origin, body) = other.map_or((SAME, 0, None), |(other, origin, body)| (other.code(), origin, body));
    connection
        .prepare_cached(
            "INSERT INTO deliveries (receipt, number, received_at, conflict, provider, profile_version, scheme, key_id, signed_at, \
             body_commitment, body, event, origin) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            seq,
            number,
            admission.event.received_at.0,
            code,
            proof.provider.as_str(),
            proof.profile_version,
            proof.scheme,
            proof.key_id.as_str(),
            proof.signed_at.map(|at| at.0),
            admission.body_commitment.0.as_slice(),
            body,
            event,
            origin,
        ])?;
    Ok(DeliveryId(connection.last_insert_rowid()))
}

/// How often a receipt was delivered again; `None` for never.
pub(crate) fn redelivered(connection: &Connection, seq: i64) -> Result<Option<Redelivered>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT same, conflicts, suspected, last_at FROM redelivered WHERE receipt = ?1")?;
    let mut found = statement.query([seq])?;
    let Some(row) = found.next()? else {
        return Ok(None);
    };
    Ok(Some(Redelivered {
        same: rows::unsigned(row, "same")?,
        conflicts: rows::unsigned(row, "conflicts")?,
        suspected_replays: rows::unsigned(row, "suspected")?,
        last_at: millis(row, "last_at")?.to_string(),
    }))
}

/// What a delivery's code in `conflict` is called.
pub(crate) fn decision(code: i64) -> Result<&'static str, Fault> {
    match code {
        SAME => Ok("same"),
        CONFLICT => Ok("conflict"),
        SUSPECTED_REPLAY => Ok("suspected-replay"),
        other => Err(Fault::damaged("conflict", other)),
    }
}

/// The deliveries of a receipt that are kept one by one.
///
/// `own` is the SHA-256 of the receipt's body, which is that of a delivery that has none of its own.
pub(crate) fn of_receipt(view: View<'_>, seq: i64, own: Digest) -> Result<Vec<DeliveryView>, Fault> {
    let mut statement = view.prepare_cached(
        "SELECT id, number, received_at, conflict, key_id, body, times, last_at FROM deliveries WHERE receipt = ?1 \
         ORDER BY number",
    )?;
    let mut found = statement.query([seq])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        let id = DeliveryId(get(row, "id")?);
        all.push(DeliveryView {
            id,
            number: rows::unsigned32(row, "number")?,
            received_at: millis(row, "received_at")?.to_string(),
            decision: decision(get(row, "conflict")?)?.to_owned(),
            key_id: get(row, "key_id")?,
            body_digest: get::<Option<Vec<u8>>>(row, "body")?.map_or(own, |body| Digest::of(&body)),
            times: rows::unsigned(row, "times")?,
            last_at: rows::millis_opt(row, "last_at")?.map(|at| at.to_string()),
            review: reviewed::of_delivery(view, id)?,
        });
    }
    Ok(all)
}

/// A delivery that is not its receipt's event, as far as a decision needs it.
pub(crate) struct Conflicting {
    pub(crate) receipt_seq: i64,
    pub(crate) is_decided: bool,
    /// A suspected replay, which a source's rule may have decided about; a person still may.
    pub(crate) is_suspected: bool,
    pub(crate) body_commitment: Digest,
}

/// None when it is its receipt's own event.
///
/// # Errors
/// When there is no such delivery.
pub(crate) fn conflicting(connection: &Connection, delivery: DeliveryId) -> Result<Option<Conflicting>, Fault> {
    let mut statement = connection
        .prepare_cached("SELECT receipt, conflict, decided, body_commitment FROM deliveries WHERE id = ?1")?;
    let mut found = statement.query([delivery.0])?;
    let Some(row) = found.next()? else {
        return Err(Fault::NotFound(delivery.to_string()));
    };
    let code = get::<i64>(row, "conflict")?;
    if code == SAME {
        return Ok(None);
    }
    Ok(Some(Conflicting {
        is_suspected: code == SUSPECTED_REPLAY,
        receipt_seq: get(row, "receipt")?,
        is_decided: get(row, "decided")?,
        body_commitment: rows::digest(row, "body_commitment")?,
    }))
}

/// Somebody, or the source's rule, decided about it.
pub(crate) fn mark_decided(connection: &Connection, delivery: DeliveryId) -> Result<(), Fault> {
    connection
        .prepare_cached("UPDATE deliveries SET decided = 1 WHERE id = ?1")?
        .execute([delivery.0])?;
    Ok(())
}

/// The event of such a delivery as it was read when it came, with its body.
pub(crate) fn kept(view: View<'_>, delivery: DeliveryId) -> Result<KeptDelivery, Fault> {
    let mut statement = view.prepare_cached(
        "SELECT receipt, event, body, provider, profile_version, scheme, key_id, signed_at FROM deliveries \
         WHERE id = ?1 AND conflict <> 0 AND event IS NOT NULL",
    )?;
    let mut found = statement.query([delivery.0])?;
    let Some(row) = found.next()? else {
        return Err(Fault::NotFound(format!("a conflicting delivery {delivery}")));
    };
    let seq = get(row, "receipt")?;
    let body: Option<Vec<u8>> = get(row, "body")?;
    let with = match body {
        Some(_) => Body::Without,
        None => Body::With,
    };
    let receipt = receipts::get_known(view, seq, with)?;
    Ok(KeptDelivery {
        id: delivery,
        receipt: receipt.id,
        event: Event {
            payload: body.map_or_else(|| receipt.event.payload.clone(), Into::into),
            ..event(row)?
        },
        proof: rows::proof(row)?,
    })
}

/// The event of such a delivery, without its body.
pub(crate) fn event(row: &Row<'_>) -> Result<Event, Fault> {
    rows::json(row, "event")
}
