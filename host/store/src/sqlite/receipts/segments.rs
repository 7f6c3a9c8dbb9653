//! Receipts in segments: what one commit admitted, packed into as few rows as its bytes take.
//!
//! A segment's facts are read without its bodies, and one body without the others.

use std::collections::BinaryHeap;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, MAIN_DB, Row, params};
use serde::{Deserialize, Serialize};
use tollgate_core::event::{ENVELOPE_VERSION, Event, Proof, StatusReading};
use tollgate_core::ids::{Digest, FamilyName, ReceiptId, TenantName};
use tollgate_core::money::{Currency, Money};
use tollgate_core::time::UnixMillis;

use super::super::fault::Fault;
use super::super::rows::{disposition_codes, disposition_of, reading_codes};
use super::{Body, Receipt, keys, origin_names};

/// A segment is closed when its bodies have this many bytes. Long enough that its last page is a small part of it, short
/// enough that its last body is found in a few pages.
const BODY_BYTES_MIN: usize = 128 * 1024;
/// And when it has so many receipts: finding one reads the facts of those before it.
const RECEIPTS_MAX: i64 = 64;
/// The first byte of a segment's facts.
const FORMAT: u8 = 1;

/// A receipt but for its body, as it is packed. The order of fields is the format.
#[derive(Serialize, Deserialize)]
struct Facts<'a> {
    id: [u8; 16],
    origin: i64,
    event_id: &'a str,
    event_type: &'a str,
    subject: Option<&'a str>,
    /// The subject's receipt before this one, and the origin's.
    previous: Option<i64>,
    previous_of_origin: Option<i64>,
    reading: i64,
    status: Option<&'a str>,
    lifecycle_version: Option<u32>,
    occurred_at: Option<i64>,
    received_at: i64,
    amount: Option<(i64, &'a str)>,
    #[serde(borrow)]
    attributes: Vec<(&'a str, &'a str)>,
    provider: &'a str,
    profile_version: u32,
    scheme: &'a str,
    key_id: &'a str,
    signed_at: Option<i64>,
    envelope_version: u32,
    disposition: i64,
    disposition_detail: Option<&'a str>,
    body_digest: [u8; 32],
    link: [u8; 32],
    body_bytes: usize,
}

/// The segments of a transaction under way.
#[derive(Debug, Default)]
pub(super) struct Building {
    segments: Vec<Segment>,
    /// How many of them are in use; the others keep their memory for later.
    used: usize,
}

#[derive(Debug, Default)]
struct Segment {
    first: i64,
    count: i64,
    facts: Vec<u8>,
    bodies: Vec<u8>,
}

impl Building {
    pub(super) fn push(
        &mut self,
        receipt: &Receipt,
        origin: i64,
        previous_of_origin: Option<i64>,
    ) -> Result<(), Fault> {
        let (event, proof) = (&receipt.event, &receipt.proof);
        let (reading, status) = reading_codes(&event.reading);
        let (disposition, disposition_detail) = disposition_codes(&receipt.disposition);
        let currency = event.amount.as_ref().map(Money::currency);
        let facts = Facts {
            id: receipt.id.0,
            origin,
            event_id: event.id.as_str(),
            event_type: event.event_type.as_str(),
            subject: event.subject.as_ref().map(|subject| subject.as_str()),
            previous: receipt.previous,
            previous_of_origin,
            reading,
            status,
            lifecycle_version: receipt.lifecycle_version,
            occurred_at: event.occurred_at.map(|at| at.0),
            received_at: event.received_at.0,
            amount: event
                .amount
                .zip(currency.as_ref())
                .map(|(amount, currency)| (amount.minor_units(), currency.as_str())),
            attributes: event
                .attributes
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect(),
            provider: proof.provider.as_str(),
            profile_version: proof.profile_version,
            scheme: &proof.scheme,
            key_id: proof.key_id.as_str(),
            signed_at: proof.signed_at.map(|at| at.0),
            envelope_version: ENVELOPE_VERSION,
            disposition,
            disposition_detail,
            body_digest: receipt.body_digest.0,
            link: receipt.link.0,
            body_bytes: receipt.body_bytes,
        };
        let segment = self.open_segment(receipt.seq);
        segment.facts = postcard::to_extend(&facts, std::mem::take(&mut segment.facts))
            .map_err(|error| Fault::damaged("a receipt to be written", error))?;
        segment.bodies.extend_from_slice(&event.payload);
        segment.count += 1;
        Ok(())
    }

    fn open_segment(&mut self, seq: i64) -> &mut Segment {
        let is_full = |segment: &Segment| segment.bodies.len() >= BODY_BYTES_MIN || segment.count >= RECEIPTS_MAX;
        if self.used == 0 || is_full(&self.segments[self.used - 1]) {
            if self.used == self.segments.len() {
                self.segments.push(Segment::default());
            }
            let segment = &mut self.segments[self.used];
            self.used += 1;
            segment.first = seq;
            segment.count = 0;
            segment.facts.clear();
            segment.facts.push(FORMAT);
            segment.bodies.clear();
        }
        &mut self.segments[self.used - 1]
    }

    pub(super) fn write(&self, connection: &Connection) -> Result<(), Fault> {
        for segment in &self.segments[..self.used] {
            connection
                .prepare_cached("INSERT INTO segments (first, count, facts, bodies) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![segment.first, segment.count, segment.facts, segment.bodies])?;
        }
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.used = 0;
        // A commit's bodies are bounded by the write queue; what an unusually large one took is given back.
        self.segments.truncate(8);
        for segment in &mut self.segments {
            segment.bodies.clear();
            segment.bodies.shrink_to(4 * BODY_BYTES_MIN);
        }
    }
}

/// Reads a segment's facts one after the other.
struct Reader<'a> {
    seq: i64,
    end: i64,
    rest: &'a [u8],
    /// Where the next receipt's body begins.
    body_at: usize,
}

impl<'a> Reader<'a> {
    fn new(first: i64, count: i64, facts: &'a [u8]) -> Result<Self, Fault> {
        match facts.split_first() {
            Some((&FORMAT, rest)) => Ok(Self {
                seq: first,
                end: first.saturating_add(count),
                rest,
                body_at: 0,
            }),
            Some((other, _)) => Err(Fault::damaged(
                "segment",
                format_args!("{first} has the format {other}"),
            )),
            None => Err(Fault::damaged("segment", format_args!("{first} is empty"))),
        }
    }

    /// The next receipt's number, facts and the place of its body.
    fn next(&mut self) -> Result<Option<(i64, Facts<'a>, usize)>, Fault> {
        if self.seq >= self.end {
            return if self.rest.is_empty() {
                Ok(None)
            } else {
                Err(Fault::damaged(
                    "segment",
                    format_args!("more facts than receipts before {}", self.end),
                ))
            };
        }
        let (facts, rest) = postcard::take_from_bytes::<Facts<'_>>(self.rest)
            .map_err(|error| Fault::damaged("receipt", format_args!("number {}: {error}", self.seq)))?;
        let (seq, body_at) = (self.seq, self.body_at);
        self.seq += 1;
        self.rest = rest;
        self.body_at = self.body_at.saturating_add(facts.body_bytes);
        Ok(Some((seq, facts, body_at)))
    }

    fn skip_to(&mut self, seq: i64) -> Result<Option<(Facts<'a>, usize)>, Fault> {
        while let Some((here, facts, body_at)) = self.next()? {
            if here == seq {
                return Ok(Some((facts, body_at)));
            }
        }
        Ok(None)
    }
}

/// The row that would hold a receipt: its first, its count and its facts.
fn with_facts_of<T>(
    connection: &Connection,
    seq: i64,
    work: impl FnOnce(i64, Reader<'_>) -> Result<Option<T>, Fault>,
) -> Result<Option<T>, Fault> {
    let mut statement = connection
        .prepare_cached("SELECT first, count, facts FROM segments WHERE first <= ?1 ORDER BY first DESC LIMIT 1")?;
    let mut found = statement.query([seq])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let (first, count): (i64, i64) = (row.get(0)?, row.get(1)?);
    if seq >= first.saturating_add(count) {
        return Ok(None);
    }
    work(first, Reader::new(first, count, blob(row, 2)?)?)
}

fn blob<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r [u8], Fault> {
    row.get_ref(column)?
        .as_blob()
        .map_err(|error| Fault::damaged("segment", error))
}

pub(super) fn get(connection: &Connection, seq: i64, body: Body) -> Result<Option<Receipt>, Fault> {
    with_facts_of(connection, seq, |first, mut reader| {
        let Some((facts, body_at)) = reader.skip_to(seq)? else {
            return Ok(None);
        };
        let body = match body {
            Body::Without => Bytes::new(),
            Body::With => read_body(connection, first, body_at, facts.body_bytes)?,
        };
        unpack(connection, seq, facts, body).map(Some)
    })
}

/// Of a receipt that exists.
pub(super) fn body_digest(connection: &Connection, seq: i64) -> Result<Digest, Fault> {
    with_facts_of(connection, seq, |_, mut reader| {
        Ok(reader.skip_to(seq)?.map(|(facts, _)| Digest(facts.body_digest)))
    })?
    .ok_or_else(|| Fault::damaged("receipt", format_args!("number {seq} does not exist")))
}

fn read_body(connection: &Connection, segment: i64, at: usize, bytes: usize) -> Result<Bytes, Fault> {
    let bodies = connection.blob_open(MAIN_DB, "segments", "bodies", segment, true)?;
    if at.checked_add(bytes).is_none_or(|end| end > bodies.len()) {
        return Err(Fault::damaged(
            "segment",
            format_args!("the bodies of {segment} are too short"),
        ));
    }
    let mut body = vec![0; bytes];
    bodies.read_at_exact(&mut body, at)?;
    Ok(body.into())
}

/// All receipts of the segment that holds `seq`, with their bodies.
pub(super) fn segment_of(connection: &Connection, seq: i64) -> Result<Vec<Receipt>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT first, count, facts, bodies FROM segments WHERE first <= ?1 ORDER BY first DESC LIMIT 1",
    )?;
    let mut found = statement.query([seq])?;
    let Some(row) = found.next()? else {
        return Ok(Vec::new());
    };
    let bodies = Bytes::copy_from_slice(blob(row, 3)?);
    let mut reader = Reader::new(row.get(0)?, row.get(1)?, blob(row, 2)?)?;
    let mut receipts = Vec::new();
    while let Some((seq, facts, at)) = reader.next()? {
        let body = slice(&bodies, seq, at, facts.body_bytes)?;
        receipts.push(unpack(connection, seq, facts, body)?);
    }
    Ok(receipts)
}

fn slice(bodies: &Bytes, seq: i64, at: usize, bytes: usize) -> Result<Bytes, Fault> {
    match at.checked_add(bytes) {
        Some(end) if end <= bodies.len() => Ok(bodies.slice(at..end)),
        _ => Err(Fault::damaged("receipt", format_args!("number {seq} lacks its body"))),
    }
}

pub(super) fn walk(
    connection: &Connection,
    mut each: impl FnMut(&Receipt, &[u8]) -> Result<bool, Fault>,
) -> Result<(), Fault> {
    let mut statement = connection.prepare("SELECT first, count, facts, bodies FROM segments ORDER BY first")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let bodies = Bytes::copy_from_slice(blob(row, 3)?);
        let mut reader = Reader::new(row.get(0)?, row.get(1)?, blob(row, 2)?)?;
        while let Some((seq, facts, at)) = reader.next()? {
            let body = slice(&bodies, seq, at, facts.body_bytes)?;
            if !each(&unpack(connection, seq, facts, Bytes::new())?, &body)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn unpack(connection: &Connection, seq: i64, facts: Facts<'_>, body: Bytes) -> Result<Receipt, Fault> {
    fn text<T: std::str::FromStr<Err: std::fmt::Display>>(what: &str, text: &str) -> Result<T, Fault> {
        text.parse().map_err(|error| Fault::damaged(what, error))
    }
    let (tenant, source, family) = origin_names(connection, facts.origin)?;
    let family = || text::<FamilyName>("family", &family);
    let status = facts.status;
    let reading = match facts.reading {
        0 => StatusReading::Stateless,
        1 => StatusReading::Mapped {
            family: family()?,
            status: text("status", status.unwrap_or_default())?,
        },
        2 => StatusReading::Unmapped {
            family: family()?,
            label: status.map(str::to_owned),
        },
        other => return Err(Fault::damaged("reading", other)),
    };
    let amount = match facts.amount {
        None => None,
        Some((units, code)) => Some(
            Currency::new(code)
                .and_then(|currency| Money::new(units, currency))
                .ok_or_else(|| Fault::damaged("amount", format_args!("{units} {code}")))?,
        ),
    };
    let event = Event {
        tenant,
        source,
        id: text("event_id", facts.event_id)?,
        event_type: text("event_type", facts.event_type)?,
        subject: facts.subject.map(|subject| text("subject", subject)).transpose()?,
        reading,
        occurred_at: facts.occurred_at.map(UnixMillis),
        received_at: UnixMillis(facts.received_at),
        amount,
        attributes: facts
            .attributes
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        payload: body,
    };
    Ok(Receipt {
        seq,
        id: ReceiptId(facts.id),
        event: Arc::new(event),
        proof: Proof {
            provider: text("provider", facts.provider)?,
            profile_version: facts.profile_version,
            scheme: facts.scheme.to_owned(),
            key_id: text("key_id", facts.key_id)?,
            signed_at: facts.signed_at.map(UnixMillis),
        },
        lifecycle_version: facts.lifecycle_version,
        disposition: disposition_of(facts.disposition, facts.disposition_detail)?,
        previous: facts.previous,
        body_digest: Digest(facts.body_digest),
        body_bytes: facts.body_bytes,
        link: Digest(facts.link),
    })
}

/// Follows the tenant's origins back from their newest receipts, all at once.
pub(super) fn newest(connection: &Connection, tenant: &TenantName, receipts_max: usize) -> Result<Vec<i64>, Fault> {
    let mut next: BinaryHeap<i64> = keys::newest_of_origins(connection, tenant)?.into();
    let mut found = Vec::new();
    while found.len() < receipts_max
        && let Some(seq) = next.pop()
    {
        found.push(seq);
        let before = with_facts_of(connection, seq, |_, mut reader| {
            Ok(reader.skip_to(seq)?.and_then(|(facts, _)| facts.previous_of_origin))
        })?;
        // Links lead to older receipts; in a damaged file they could lead in a circle.
        next.extend(before.filter(|before| *before < seq));
    }
    Ok(found)
}
