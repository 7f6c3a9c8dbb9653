//! How rows say what the core says: codes of states, and columns parsed back into the core's types.

use std::fmt::Display;
use std::str::FromStr;

use crate::sql::{Connection, FromSql, Row, params};
use tollgate_core::admission::Disposition;
use tollgate_core::event::{Event, Proof, StatusReading};
use tollgate_core::ids::{Digest, ReceiptId, Status};
use tollgate_core::money::{Currency, Money};
use tollgate_core::secret::Secret;
use tollgate_core::time::UnixMillis;
use tollgate_core::work::{EntryState, JobState};

use super::fault::Fault;

/// A job's state, as its column has it. The numbers are in the schema's indexes: never change them.
pub(crate) fn job_code(state: JobState) -> i64 {
    match state {
        JobState::Blocked => 0,
        JobState::Ready => 1,
        JobState::Leased => 2,
        JobState::Done => 3,
        JobState::Held => 4,
        JobState::Dead => 5,
        JobState::Dismissed => 6,
    }
}

pub(crate) fn job_state(row: &Row<'_>, column: &str) -> Result<JobState, Fault> {
    let code: i64 = get(row, column)?;
    let mut states = JobState::ALL.into_iter();
    states
        .find(|state| job_code(*state) == code)
        .ok_or_else(|| Fault::damaged("state", code))
}

/// The same of an outbox entry.
pub(crate) fn entry_code(state: EntryState) -> i64 {
    match state {
        EntryState::Blocked => 0,
        EntryState::Ready => 1,
        EntryState::Leased => 2,
        EntryState::Delivered => 3,
        EntryState::Dead => 5,
    }
}

pub(crate) fn entry_state(row: &Row<'_>, column: &str) -> Result<EntryState, Fault> {
    let code: i64 = get(row, column)?;
    let mut states = EntryState::ALL.into_iter();
    states
        .find(|state| entry_code(*state) == code)
        .ok_or_else(|| Fault::damaged("state", code))
}

/// A column of a row, by name: the queries are long, and a shifted number would read the wrong column silently.
pub(crate) fn get<T: FromSql>(row: &Row<'_>, column: &str) -> Result<T, Fault> {
    Ok(row.get(column)?)
}

/// A text column as an identifier.
pub(crate) fn id<T>(row: &Row<'_>, column: &str) -> Result<T, Fault>
where
    T: FromStr,
    T::Err: Display,
{
    let text = row
        .get_ref(column)?
        .as_str()
        .map_err(|error| Fault::damaged(column, error))?;
    text.parse().map_err(|error| Fault::damaged(column, error))
}

/// The same for a column that may be NULL.
pub(crate) fn id_opt<T>(row: &Row<'_>, column: &str) -> Result<Option<T>, Fault>
where
    T: FromStr,
    T::Err: Display,
{
    match row
        .get_ref(column)?
        .as_str_or_null()
        .map_err(|error| Fault::damaged(column, error))?
    {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|error| Fault::damaged(column, error)),
    }
}

/// A BLOB column of exactly N bytes.
pub(crate) fn bytes<const N: usize>(row: &Row<'_>, column: &str) -> Result<[u8; N], Fault> {
    let blob = row
        .get_ref(column)?
        .as_blob()
        .map_err(|error| Fault::damaged(column, error))?;
    blob.try_into()
        .map_err(|_| Fault::damaged(column, format_args!("{} bytes instead of {N}", blob.len())))
}

pub(crate) fn digest(row: &Row<'_>, column: &str) -> Result<Digest, Fault> {
    Ok(Digest(bytes(row, column)?))
}

pub(crate) fn receipt_id(row: &Row<'_>, column: &str) -> Result<ReceiptId, Fault> {
    Ok(ReceiptId(bytes(row, column)?))
}

pub(crate) fn millis(row: &Row<'_>, column: &str) -> Result<UnixMillis, Fault> {
    Ok(UnixMillis(get(row, column)?))
}

pub(crate) fn millis_opt(row: &Row<'_>, column: &str) -> Result<Option<UnixMillis>, Fault> {
    Ok(get::<Option<i64>>(row, column)?.map(UnixMillis))
}

/// A count or a duration. SQLite has no unsigned integers; what does not fit saturates on the way in and cannot be negative
/// on the way out.
pub(crate) fn unsigned(row: &Row<'_>, column: &str) -> Result<u64, Fault> {
    let number: i64 = get(row, column)?;
    u64::try_from(number).map_err(|_| Fault::damaged(column, number))
}

pub(crate) fn unsigned32(row: &Row<'_>, column: &str) -> Result<u32, Fault> {
    let number: i64 = get(row, column)?;
    u32::try_from(number).map_err(|_| Fault::damaged(column, number))
}

pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<T, Fault> {
    let text = row
        .get_ref(column)?
        .as_str()
        .map_err(|error| Fault::damaged(column, error))?;
    serde_json::from_str(text).map_err(|error| Fault::damaged(column, error))
}

/// JSON of a value whose types cannot fail to serialise: strings, numbers and lists of them.
pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|error| Fault::damaged("a value to be written", error))
}

/// The key that only this store has; a copy of the store has it as well.
pub(crate) fn store_key(connection: &Connection) -> Result<Secret, Fault> {
    const KEY: &str = "SELECT value FROM meta WHERE name = 'receipt_key'";
    // Whoever needs it needs it more than once.
    connection.will_ask(KEY, &[])?;
    let key: Vec<u8> = connection.prepare_cached(KEY)?.query_row([], |row| row.get(0))?;
    Ok(Secret::new(key))
}

/// What somebody did to a receipt's work, for ever.
pub(crate) fn append_history(
    connection: &Connection,
    receipt_seq: i64,
    at: UnixMillis,
    what: &str,
    detail: &str,
) -> Result<(), Fault> {
    connection
        .prepare_cached("INSERT INTO history (at, receipt, what, detail) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![at.0, receipt_seq, what, detail])?;
    Ok(())
}

/// The columns of a receipt that make an [`Event`]; `o` is its origin, `r` the receipt.
pub(crate) const EVENT_COLUMNS: &str = "o.tenant, o.source, o.family, r.event_id, r.event_type, r.subject, r.reading, r.status, \
     r.occurred_at, r.received_at, r.amount, r.currency, r.attributes";

pub(crate) fn reading_codes(reading: &StatusReading) -> (i64, Option<&str>) {
    match reading {
        StatusReading::Stateless => (0, None),
        StatusReading::Mapped { status, .. } => (1, Some(status.as_str())),
        StatusReading::Unmapped { label, .. } => (2, label.as_deref()),
    }
}

pub(crate) fn reading(row: &Row<'_>) -> Result<StatusReading, Fault> {
    match get::<i64>(row, "reading")? {
        0 => Ok(StatusReading::Stateless),
        1 => Ok(StatusReading::Mapped {
            family: id(row, "family")?,
            status: id(row, "status")?,
        }),
        2 => Ok(StatusReading::Unmapped {
            family: id(row, "family")?,
            label: get(row, "status")?,
        }),
        other => Err(Fault::damaged("reading", other)),
    }
}

pub(crate) fn amount(row: &Row<'_>) -> Result<Option<Money>, Fault> {
    let (Some(units), Some(code)) = (
        get::<Option<i64>>(row, "amount")?,
        get::<Option<String>>(row, "currency")?,
    ) else {
        return Ok(None);
    };
    let money = Currency::new(&code).and_then(|currency| Money::new(units, currency));
    money
        .map(Some)
        .ok_or_else(|| Fault::damaged("amount", format_args!("{units} {code}")))
}

/// Reads the event back, given its body.
pub(crate) fn event(row: &Row<'_>, body: Vec<u8>) -> Result<Event, Fault> {
    let attributes = match row.get_ref("attributes")?.as_str_or_null() {
        Ok(None) => Vec::new(),
        _ => json(row, "attributes")?,
    };
    Ok(Event {
        tenant: id(row, "tenant")?,
        source: id(row, "source")?,
        id: id(row, "event_id")?,
        event_type: id(row, "event_type")?,
        subject: id_opt(row, "subject")?,
        reading: reading(row)?,
        occurred_at: millis_opt(row, "occurred_at")?,
        received_at: millis(row, "received_at")?,
        amount: amount(row)?,
        attributes,
        payload: body.into(),
    })
}

pub(crate) fn proof(row: &Row<'_>) -> Result<Proof, Fault> {
    Ok(Proof {
        provider: id(row, "provider")?,
        profile_version: unsigned32(row, "profile_version")?,
        scheme: get(row, "scheme")?,
        key_id: id(row, "key_id")?,
        signed_at: millis_opt(row, "signed_at")?,
    })
}

pub(crate) fn disposition_codes(disposition: &Disposition) -> (i64, Option<&str>) {
    match disposition {
        Disposition::Accepted => (0, None),
        Disposition::Superseded { current } => (1, Some(current.as_str())),
        Disposition::Held { reason } => (2, Some(reason)),
    }
}

pub(crate) fn disposition(row: &Row<'_>) -> Result<Disposition, Fault> {
    let detail: Option<String> = get(row, "disposition_detail")?;
    disposition_of(get(row, "disposition")?, detail.as_deref())
}

pub(crate) fn disposition_of(code: i64, detail: Option<&str>) -> Result<Disposition, Fault> {
    match (code, detail) {
        (0, _) => Ok(Disposition::Accepted),
        (1, Some(current)) => Ok(Disposition::Superseded {
            current: current
                .parse::<Status>()
                .map_err(|error| Fault::damaged("disposition_detail", error))?,
        }),
        (2, Some(reason)) => Ok(Disposition::Held {
            reason: reason.to_owned(),
        }),
        (other, _) => Err(Fault::damaged("disposition", other)),
    }
}
