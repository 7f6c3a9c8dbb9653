//! Receipts of the log: what one group admitted, as few rows that say where in the log the receipts' facts and bodies stand.
//!
//! A piece's facts are read without its bodies, and one body without the others.

use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tollgate_core::event::{Event, Proof, StatusReading};
use tollgate_core::ids::{Digest, FamilyName, ReceiptId, SourceName, TenantName};
use tollgate_core::money::{Currency, Money};
use tollgate_core::time::UnixMillis;

use super::super::fault::Fault;
use super::super::head::ChainHead;
use super::super::rows::{disposition_codes, disposition_of, id, reading_codes, signed};
use super::{Body, Each, Receipt, keys};
use crate::log::Contents;
use crate::sql::{Connection, Row, params};

/// A piece is closed when its facts have this many bytes: most of a page. Finding a receipt reads the facts of those before it.
const FACTS_BYTES_MIN: usize = 6 * 1024;
/// Where the receipts stand that were not accepted.
pub(super) const NOT_ACCEPTED: &str = "not_accepted WHERE";
/// The first byte of a piece's facts.
const FORMAT: u8 = 1;
/// The bytes that came, neither encrypted nor erased.
const AS_RECEIVED: u8 = 0;

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
    body_commitment: [u8; 32],
    /// How the body is kept: [`AS_RECEIVED`], or what a newer Tollgate does with it; and under which key, 0 for the store's own.
    body_form: u8,
    body_key: u32,
    link: [u8; 32],
    body_bytes: usize,
}

/// The pieces of a transaction under way.
#[derive(Debug, Default)]
pub(super) struct Building {
    pieces: Vec<Piece>,
    /// How many of them are in use; the others keep their memory for later.
    used: usize,
    /// Of all pieces.
    bodies: Vec<Bytes>,
    body_bytes: usize,
}

#[derive(Debug, Default)]
struct Piece {
    first: i64,
    count: i64,
    facts: Vec<u8>,
    /// Where in the group's bodies its own begin, and how many bytes they are.
    at: usize,
    bytes: usize,
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
            envelope_version: receipt.envelope_version,
            disposition,
            disposition_detail,
            body_commitment: receipt.body_commitment.0,
            body_form: AS_RECEIVED,
            body_key: 0,
            link: receipt.link.0,
            body_bytes: receipt.body_bytes,
        };
        let piece = self.open_piece(receipt.seq);
        piece.facts = postcard::to_extend(&facts, std::mem::take(&mut piece.facts))
            .map_err(|error| Fault::damaged("a receipt to be written", error))?;
        piece.bytes += event.payload.len();
        piece.count += 1;
        self.bodies.push(event.payload.clone());
        self.body_bytes += event.payload.len();
        Ok(())
    }

    fn open_piece(&mut self, seq: i64) -> &mut Piece {
        if self.used == 0 || self.pieces[self.used - 1].facts.len() >= FACTS_BYTES_MIN {
            if self.used == self.pieces.len() {
                self.pieces.push(Piece::default());
            }
            let piece = &mut self.pieces[self.used];
            self.used += 1;
            piece.first = seq;
            piece.count = 0;
            piece.facts.clear();
            piece.facts.push(FORMAT);
            piece.at = self.body_bytes;
            piece.bytes = 0;
        }
        &mut self.pieces[self.used - 1]
    }

    fn pieces(&self) -> &[Piece] {
        &self.pieces[..self.used]
    }

    pub(super) fn facts(&self) -> Vec<&[u8]> {
        self.pieces().iter().map(|piece| &piece.facts[..]).collect()
    }

    pub(super) fn bodies(&self) -> &[Bytes] {
        &self.bodies
    }

    /// Writes the rows. In the log the facts begin at `facts_at`, and the bodies behind the last of them.
    pub(super) fn write(&self, connection: &Connection, facts_at: u64) -> Result<(), Fault> {
        let facts_bytes: usize = self.pieces().iter().map(|piece| piece.facts.len()).sum();
        let (mut at, bodies_at) = (facts_at, facts_at + facts_bytes as u64);
        for piece in self.pieces() {
            connection
                .prepare_cached(
                    "INSERT INTO pieces (first, count, facts_at, facts_bytes, bodies_at, bodies_bytes) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![
                    piece.first,
                    piece.count,
                    signed(at),
                    signed(piece.facts.len() as u64),
                    signed(bodies_at + piece.at as u64),
                    signed(piece.bytes as u64),
                ])?;
            at += piece.facts.len() as u64;
        }
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.bodies.clear();
        self.body_bytes = 0;
    }
}

/// Where a piece stands in the log, as its row says.
struct Place {
    first: i64,
    count: i64,
    facts: Range<u64>,
    bodies: Range<u64>,
}

const COLUMNS: &str = "first, count, facts_at, facts_bytes, bodies_at, bodies_bytes";

impl Place {
    /// Of [`COLUMNS`].
    fn read(row: &Row<'_>) -> Result<Self, Fault> {
        let first: i64 = row.get(0)?;
        let range = |column: usize| -> Result<Range<u64>, Fault> {
            let (at, bytes): (i64, i64) = (row.get(column)?, row.get(column + 1)?);
            match (u64::try_from(at), u64::try_from(bytes)) {
                (Ok(at), Ok(bytes)) => Ok(at..at.saturating_add(bytes)),
                _ => Err(Fault::damaged(
                    "piece",
                    format_args!("{first} has {bytes} bytes at {at}"),
                )),
            }
        };
        Ok(Self {
            first,
            count: row.get(1)?,
            facts: range(2)?,
            bodies: range(4)?,
        })
    }
}

/// Reads a piece's facts one after the other.
struct Reader<'a> {
    seq: i64,
    end: i64,
    rest: &'a [u8],
    /// Where in the log the next receipt's body begins, and where the piece's end.
    body_at: u64,
    bodies_end: u64,
}

impl<'a> Reader<'a> {
    /// `facts` are those that stand at the place.
    fn new(place: &Place, facts: &'a [u8]) -> Result<Self, Fault> {
        let first = place.first;
        match facts.split_first() {
            Some((&FORMAT, rest)) => Ok(Self {
                seq: first,
                end: first.saturating_add(place.count),
                rest,
                body_at: place.bodies.start,
                bodies_end: place.bodies.end,
            }),
            Some((other, _)) => Err(Fault::damaged("piece", format_args!("{first} has the format {other}"))),
            None => Err(Fault::damaged("piece", format_args!("{first} is empty"))),
        }
    }

    /// The next receipt's number, facts and the place of its body.
    fn next(&mut self) -> Result<Option<(i64, Facts<'a>, Range<u64>)>, Fault> {
        let of_piece = |what: &str| Fault::damaged("piece", format_args!("{what} before receipt {}", self.end));
        if self.seq >= self.end {
            return match (self.rest, self.body_at == self.bodies_end) {
                ([], true) => Ok(None),
                ([], false) => Err(of_piece("other bodies than its receipts have")),
                _ => Err(of_piece("more facts than receipts")),
            };
        }
        let (facts, rest) = postcard::take_from_bytes::<Facts<'_>>(self.rest)
            .map_err(|error| Fault::damaged("receipt", format_args!("number {}: {error}", self.seq)))?;
        let body_at = self.body_at;
        let body_end = body_at.saturating_add(facts.body_bytes as u64);
        if body_end > self.bodies_end {
            return Err(Fault::damaged(
                "receipt",
                format_args!("number {} lacks its body", self.seq),
            ));
        }
        let seq = self.seq;
        self.seq += 1;
        self.rest = rest;
        self.body_at = body_end;
        Ok(Some((seq, facts, body_at..body_end)))
    }

    fn skip_to(&mut self, seq: i64) -> Result<Option<(Facts<'a>, Range<u64>)>, Fault> {
        while let Some((here, facts, body)) = self.next()? {
            if here == seq {
                return Ok(Some((facts, body)));
            }
        }
        Ok(None)
    }
}

/// Works on the piece that holds a receipt, if there is one.
fn with_piece_of<T>(
    connection: &Connection,
    log: &Contents,
    seq: i64,
    work: impl FnOnce(Reader<'_>) -> Result<Option<T>, Fault>,
) -> Result<Option<T>, Fault> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM pieces WHERE first <= ?1 ORDER BY first DESC LIMIT 1"
    ))?;
    let mut found = statement.query([seq])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let place = Place::read(row)?;
    if seq >= place.first.saturating_add(place.count) {
        return Ok(None);
    }
    let facts = log.read(place.facts.clone())?;
    work(Reader::new(&place, &facts)?)
}

pub(super) fn get(connection: &Connection, log: &Contents, seq: i64, body: Body) -> Result<Option<Receipt>, Fault> {
    with_piece_of(connection, log, seq, |mut reader| {
        let Some((facts, place)) = reader.skip_to(seq)? else {
            return Ok(None);
        };
        let body = match body {
            Body::Without => Bytes::new(),
            Body::With => log.read(place)?,
        };
        unpack(connection, seq, facts, body).map(Some)
    })
}

/// Of a receipt that exists.
pub(super) fn body_commitment(connection: &Connection, log: &Contents, seq: i64) -> Result<Digest, Fault> {
    with_piece_of(connection, log, seq, |mut reader| {
        Ok(reader.skip_to(seq)?.map(|(facts, _)| Digest(facts.body_commitment)))
    })?
    .ok_or_else(|| Fault::damaged("receipt", format_args!("number {seq} does not exist")))
}

/// The newest receipt and its link.
pub(super) fn head(connection: &Connection, log: &Contents) -> Result<ChainHead, Fault> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM pieces ORDER BY first DESC LIMIT 1"))?;
    let mut found = statement.query([])?;
    let Some(row) = found.next()? else {
        return Ok(ChainHead::of(None));
    };
    let place = Place::read(row)?;
    let facts = log.read(place.facts.clone())?;
    let mut reader = Reader::new(&place, &facts)?;
    let mut newest = None;
    while let Some((seq, facts, _)) = reader.next()? {
        newest = Some((seq, facts.link));
    }
    Ok(ChainHead::of(newest))
}

/// All receipts of the piece that holds `seq`, with their bodies.
pub(super) fn piece_of(connection: &Connection, log: &Contents, seq: i64) -> Result<Vec<Receipt>, Fault> {
    let receipts = with_piece_of(connection, log, seq, |mut reader| {
        let mut receipts = Vec::new();
        let all = PieceBodies::read(log, &reader)?;
        while let Some((seq, facts, place)) = reader.next()? {
            receipts.push(unpack(connection, seq, facts, all.of(&place))?);
        }
        Ok(Some(receipts))
    })?;
    Ok(receipts.unwrap_or_default())
}

/// The same without their bodies.
pub(super) fn facts_of_piece(connection: &Connection, log: &Contents, seq: i64) -> Result<Vec<Receipt>, Fault> {
    let receipts = with_piece_of(connection, log, seq, |mut reader| {
        let mut receipts = Vec::new();
        let mut origins: BTreeMap<i64, OriginNames> = BTreeMap::new();
        while let Some((seq, facts, _)) = reader.next()? {
            let names = match origins.get(&facts.origin) {
                Some(names) => names.clone(),
                None => {
                    let names = origin_names(connection, facts.origin)?;
                    origins.insert(facts.origin, names.clone());
                    names
                }
            };
            receipts.push(unpack_of(names, seq, facts, Bytes::new())?);
        }
        Ok(Some(receipts))
    })?;
    Ok(receipts.unwrap_or_default())
}

/// The bodies of one piece, read at once.
struct PieceBodies {
    at: u64,
    bytes: Bytes,
}

impl PieceBodies {
    fn read(log: &Contents, piece: &Reader<'_>) -> Result<Self, Fault> {
        Ok(Self {
            at: piece.body_at,
            bytes: log.read(piece.body_at..piece.bodies_end)?,
        })
    }

    /// The body at a place that [`Reader::next`] found inside the piece.
    fn of(&self, place: &Range<u64>) -> Bytes {
        let from = (place.start - self.at) as usize;
        self.bytes.slice(from..from + (place.end - place.start) as usize)
    }
}

pub(super) fn walk(connection: &Connection, log: &Contents, each: &mut Each<'_>) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM pieces ORDER BY first"))?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let place = Place::read(row)?;
        let facts = log.read(place.facts.clone())?;
        let mut reader = Reader::new(&place, &facts)?;
        let all = PieceBodies::read(log, &reader).ok();
        while let Some((seq, facts, place)) = reader.next()? {
            // Where the log ends inside the piece, the bodies before its end are still there.
            let body = all
                .as_ref()
                .map_or_else(|| log.read(place.clone()), |all| Ok(all.of(&place)));
            let receipt = unpack(connection, seq, facts, Bytes::new())?;
            let body = body.as_deref().map_err(|fault| Fault::Damaged(fault.detail()));
            if !each(&receipt, body)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn unpack(connection: &Connection, seq: i64, facts: Facts<'_>, body: Bytes) -> Result<Receipt, Fault> {
    unpack_of(origin_names(connection, facts.origin)?, seq, facts, body)
}

fn unpack_of((tenant, source, family): OriginNames, seq: i64, facts: Facts<'_>, body: Bytes) -> Result<Receipt, Fault> {
    fn text<T: std::str::FromStr<Err: std::fmt::Display>>(what: &str, text: &str) -> Result<T, Fault> {
        text.parse().map_err(|error| Fault::damaged(what, error))
    }
    if (facts.body_form, facts.body_key) != (AS_RECEIVED, 0) {
        let form = facts.body_form;
        return Err(Fault::damaged(
            "receipt",
            format_args!("number {seq} has a body of the form {form}, which a newer Tollgate writes; use that"),
        ));
    }
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
        envelope_version: facts.envelope_version,
        lifecycle_version: facts.lifecycle_version,
        disposition: disposition_of(facts.disposition, facts.disposition_detail)?,
        previous: facts.previous,
        body_commitment: Digest(facts.body_commitment),
        body_bytes: facts.body_bytes,
        link: Digest(facts.link),
        has_jobs: true,
    })
}

/// Tenant, source and family; the family is empty where there is none.
type OriginNames = (TenantName, SourceName, String);

/// The names behind an origin's number.
fn origin_names(connection: &Connection, origin: i64) -> Result<OriginNames, Fault> {
    let mut statement = connection.prepare_cached("SELECT tenant, source, family FROM origins WHERE id = ?1")?;
    let mut found = statement.query([origin])?;
    let row = found
        .next()?
        .ok_or_else(|| Fault::damaged("origin", format_args!("number {origin} does not exist")))?;
    Ok((id(row, "tenant")?, id(row, "source")?, row.get("family")?))
}

/// Follows the tenant's origins back from their newest receipts, all at once.
pub(super) fn newest(
    connection: &Connection,
    log: &Contents,
    tenant: &TenantName,
    wanted_before: i64,
    receipts_max: usize,
) -> Result<Vec<i64>, Fault> {
    let mut next: BinaryHeap<i64> = keys::newest_of_origins(connection, tenant)?.into();
    let mut found = Vec::new();
    while found.len() < receipts_max
        && let Some(seq) = next.pop()
    {
        if seq < wanted_before {
            found.push(seq);
        }
        let before = with_piece_of(connection, log, seq, |mut reader| {
            Ok(reader.skip_to(seq)?.and_then(|(facts, _)| facts.previous_of_origin))
        })?;
        // Links lead to older receipts; in a damaged file they could lead in a circle.
        next.extend(before.filter(|before| *before < seq));
    }
    Ok(found)
}
