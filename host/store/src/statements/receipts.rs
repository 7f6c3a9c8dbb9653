//! How receipts are kept. Two layouts answer the same questions, and nobody outside this module knows which one a store has.
//!
//! [`Rows`] is the plain one: a row per receipt, a unique index over its id, a row per subject. It needs no memory, so any
//! number of processes may write it; it is the reference that the other is tested against. That of the log, which needs the
//! one writer that a native host has, is in `sqlite::receipts`.

pub(crate) mod rows;
pub(crate) mod unrouted;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use tollgate_core::admission::Disposition;
use tollgate_core::chain::{self, ReceiptFacts};
use tollgate_core::commitment::body_commitment;
use tollgate_core::event::{Event, Proof};
use tollgate_core::ids::{Digest, ReceiptId, Status, TenantName};
use tollgate_core::limits::COUNTED_MAX;
use tollgate_core::secret::Secret;

use super::fault::Fault;
use super::head::{ChainHead, read_chain_head};
use super::rows::{signed, unsigned};
use crate::sql::{Connection, OptionalExtension as _, params};

pub(crate) use self::rows::Rows;

/// How a store keeps its receipts; see [`crate::OpenOptions::layout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// Packed by commit: the cheaper one. Only a native host has it.
    #[default]
    Log,
    /// A row per receipt: the plain one, which the other is tested against.
    Rows,
}

impl Layout {
    /// As `meta` has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Rows => "rows",
        }
    }

    pub(crate) fn read(connection: &Connection) -> Result<Self, Fault> {
        let name: Option<Vec<u8>> = connection
            .query_row("SELECT value FROM meta WHERE name = 'layout'", [], |row| row.get(0))
            .optional()?;
        match name.as_deref() {
            None | Some(b"rows") => Ok(Self::Rows),
            Some(b"log") => Ok(Self::Log),
            Some(other) => Err(Fault::damaged("layout", String::from_utf8_lossy(other))),
        }
    }
}

/// What is kept of receipts, for whoever asks. `connection` is inside a transaction.
pub(crate) trait Receipts: Debug + Send + Sync {
    /// The receipt of that number.
    fn get(&self, connection: &Connection, seq: i64, body: Body) -> Result<Option<Arc<Receipt>>, Fault>;

    /// The receipt of that number with its body, and those around it that cost nothing more to read, without a gap.
    fn around(&self, connection: &Connection, seq: i64) -> Result<Vec<Arc<Receipt>>, Fault> {
        Ok(self.get(connection, seq, Body::With)?.into_iter().collect())
    }

    /// As [`Receipts::around`], without bodies.
    fn facts_around(&self, connection: &Connection, seq: i64) -> Result<Vec<Arc<Receipt>>, Fault> {
        Ok(self.get(connection, seq, Body::Without)?.into_iter().collect())
    }

    /// The numbers of those of `ids` that exist, in no order.
    fn find(&self, connection: &Connection, ids: &[ReceiptId]) -> Result<Vec<i64>, Fault>;

    /// The newest receipts of those of `subjects` that exist, in no order.
    fn newest_of_subjects(&self, connection: &Connection, subjects: &[SubjectKey]) -> Result<Vec<i64>, Fault>;

    /// A tenant's newest receipts before a number.
    fn newest(
        &self,
        connection: &Connection,
        tenant: &TenantName,
        before: i64,
        receipts_max: usize,
    ) -> Result<Vec<i64>, Fault>;

    fn subject(&self, connection: &Connection, key: &SubjectKey) -> Result<Option<SubjectState>, Fault>;

    /// The subjects behind a key, or the first, in the order of their keys.
    #[cfg(not(target_family = "wasm"))]
    fn subjects(
        &self,
        connection: &Connection,
        after: Option<&SubjectKey>,
        subjects_max: usize,
    ) -> Result<Vec<(SubjectKey, SubjectState)>, Fault> {
        rows::subjects(connection, after, subjects_max)
    }

    /// Where the receipts stand that were not accepted: what follows `FROM`, up to a condition more.
    fn not_accepted(&self) -> &'static str;

    /// The newest receipt and its link, as the receipts themselves say.
    fn head(&self, connection: &Connection) -> Result<ChainHead, Fault>;
}

/// The same in the writer, which adds to it.
pub(crate) trait ReceiptsWriter: Receipts {
    /// The receipt of that id: its number, and the digest of its body.
    fn existing(&self, connection: &Connection, id: ReceiptId) -> Result<Option<(i64, Digest)>, Fault>;

    /// Says that a receipt will be asked for, with its body.
    fn will_get(&self, _connection: &Connection, _seq: i64) -> Result<(), Fault> {
        Ok(())
    }

    /// Reads a receipt and what is likely to be asked for after it, if it is not remembered.
    fn read_ahead(&mut self, _connection: &Connection, _seq: i64) -> Result<(), Fault> {
        Ok(())
    }

    /// Adds a receipt. Its subject is moved to it.
    fn append(
        &mut self,
        connection: &Connection,
        receipt: Receipt,
        origin: i64,
        moved: Option<Moved>,
    ) -> Result<(), Fault>;

    /// Changes a subject without a receipt.
    fn move_subject(&mut self, connection: &Connection, moved: Moved) -> Result<(), Fault>;

    /// Where the receipts wait for the commit that were accepted and that no route took: number and origin. None where they are
    /// written at once.
    fn unrouted(&mut self) -> Option<&mut Vec<(i64, i64)>> {
        None
    }

    /// What the group admitted, for its record: facts, and bodies.
    fn gathered(&self) -> (Vec<&[u8]>, &[Bytes]) {
        (Vec::new(), &[])
    }

    /// Writes the rows of what was gathered, whose facts will begin at a position of the log. Last before the group's record. `index` is
    /// the same database, for what can be made again from all else: it is in no record.
    fn write(&mut self, _connection: &Connection, _index: &Connection, _facts_at: u64) -> Result<(), Fault> {
        Ok(())
    }

    /// The group's record is in the log.
    fn kept(&mut self) {}

    /// Forgets what was gathered.
    fn rolled_back(&mut self) {}

    /// Nothing more is written. What was still read for it beside has ended when this returns.
    fn close(&mut self) {}
}

/// A connection inside a transaction, and how its receipts are kept.
#[derive(Clone, Copy)]
pub(crate) struct View<'c> {
    pub(crate) connection: &'c Connection,
    receipts: &'c dyn Receipts,
}

impl<'c> View<'c> {
    pub(crate) fn new(connection: &'c Connection, receipts: &'c dyn Receipts) -> Self {
        Self { connection, receipts }
    }
}

impl Deref for View<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

/// A receipt as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct Receipt {
    pub(crate) seq: i64,
    pub(crate) id: ReceiptId,
    /// With an empty payload where the body was not asked for.
    pub(crate) event: Arc<Event>,
    pub(crate) proof: Proof,
    pub(crate) envelope_version: u32,
    pub(crate) lifecycle_version: Option<u32>,
    pub(crate) disposition: Disposition,
    /// The subject's receipt before this one.
    pub(crate) previous: Option<i64>,
    pub(crate) body_commitment: Digest,
    pub(crate) body_bytes: usize,
    pub(crate) link: Digest,
    /// Whether it was admitted with jobs; of a receipt that was read back it is not known, and true.
    pub(crate) has_jobs: bool,
}

impl Receipt {
    /// The link that the receipt has behind `previous`.
    pub(crate) fn link_after(&self, previous: &Digest) -> Digest {
        chain::link(previous, &self.digest())
    }

    /// Whether that is the body that was admitted.
    pub(crate) fn has_body(&self, key: &Secret, body: &[u8]) -> bool {
        body_commitment(key, &self.event.tenant, body) == self.body_commitment
    }

    /// Of all that it says.
    pub(crate) fn digest(&self) -> Digest {
        let facts = ReceiptFacts {
            receipt: self.id,
            event: &self.event,
            proof: &self.proof,
            envelope_version: self.envelope_version,
            lifecycle_version: self.lifecycle_version,
            body_commitment: self.body_commitment,
            disposition: &self.disposition,
        };
        facts.digest()
    }
}

/// Whether a receipt is wanted with its body, which is most of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    With,
    Without,
}

/// What is known of an event's subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SubjectState {
    /// The status that the lifecycle has reached.
    pub(crate) status: Option<Status>,
    /// The newest receipt.
    pub(crate) newest: i64,
}

/// A subject's key, and what is known under it.
pub(crate) struct Subject {
    pub(crate) key: SubjectKey,
    pub(crate) known: Option<SubjectState>,
}

impl Subject {
    /// The status that the lifecycle has reached.
    pub(crate) fn status(&self) -> Option<&Status> {
        self.known.as_ref()?.status.as_ref()
    }
}

/// A keyed hash of (tenant, family, subject).
pub(crate) type SubjectKey = [u8; 16];

/// A subject, and what becomes of it.
pub(crate) struct Moved {
    pub(crate) key: SubjectKey,
    pub(crate) state: SubjectState,
    /// Nothing was known of it.
    pub(crate) is_new: bool,
}

/// The receipt of that number.
pub(crate) fn get(view: View<'_>, seq: i64, body: Body) -> Result<Option<Arc<Receipt>>, Fault> {
    view.receipts.get(view.connection, seq, body)
}

/// The same, where its absence is damage: another row refers to it.
pub(crate) fn get_known(view: View<'_>, seq: i64, body: Body) -> Result<Arc<Receipt>, Fault> {
    get(view, seq, body)?.ok_or_else(|| Fault::damaged("receipt", format_args!("number {seq} does not exist")))
}

/// The receipt of that id.
pub(crate) fn get_named(view: View<'_>, receipt: ReceiptId, body: Body) -> Result<Arc<Receipt>, Fault> {
    match find(view, &[receipt])?.pop() {
        Some(seq) => get_known(view, seq, body),
        None => Err(Fault::NotFound(receipt.to_string())),
    }
}

/// For readers who go along receipts: the last one, and what was read with it.
#[derive(Default)]
pub(crate) struct Near(Vec<Arc<Receipt>>);

impl Near {
    /// Like [`get_known`] with the body.
    pub(crate) fn get(&mut self, view: View<'_>, seq: i64) -> Result<Arc<Receipt>, Fault> {
        if self.of(seq).is_none() {
            self.0 = view.receipts.around(view.connection, seq)?;
        }
        self.of(seq)
            .cloned()
            .ok_or_else(|| Fault::damaged("receipt", format_args!("number {seq} does not exist")))
    }

    /// Like [`get_known`] without the body. `close` says that those around it are likely to be asked for next.
    pub(crate) fn facts(&mut self, view: View<'_>, seq: i64, close: bool) -> Result<Arc<Receipt>, Fault> {
        if self.of(seq).is_none() {
            if !close {
                return get_known(view, seq, Body::Without);
            }
            self.0 = view.receipts.facts_around(view.connection, seq)?;
        }
        self.of(seq)
            .cloned()
            .ok_or_else(|| Fault::damaged("receipt", format_args!("number {seq} does not exist")))
    }

    fn of(&self, seq: i64) -> Option<&Arc<Receipt>> {
        let first = self.0.first()?.seq;
        self.0.get(usize::try_from(seq - first).ok()?)
    }
}

/// The numbers of those of `ids` that exist, in no order.
pub(crate) fn find(view: View<'_>, ids: &[ReceiptId]) -> Result<Vec<i64>, Fault> {
    view.receipts.find(view.connection, ids)
}

/// What is known of subjects, as their newest receipts, in no order.
pub(crate) fn newest_of_subjects(view: View<'_>, subjects: &[SubjectKey]) -> Result<Vec<i64>, Fault> {
    view.receipts.newest_of_subjects(view.connection, subjects)
}

/// The newest receipts before a number, of one tenant or of all.
pub(crate) fn newest(
    view: View<'_>,
    tenant: Option<&TenantName>,
    before: i64,
    receipts_max: usize,
) -> Result<Vec<i64>, Fault> {
    match tenant {
        None => {
            let last = read_chain_head(view.connection)?.seq.min(before - 1);
            let count = i64::try_from(receipts_max).unwrap_or(i64::MAX);
            Ok(((last - count).max(0) + 1..=last).rev().collect())
        }
        Some(tenant) => view.receipts.newest(view.connection, tenant, before, receipts_max),
    }
}

/// How many receipts were not accepted.
pub(crate) struct NotAccepted {
    /// Up to [`COUNTED_MAX`].
    pub(crate) superseded: u64,
    /// Whatever became of them since.
    pub(crate) held: u64,
}

/// How many receipts are superseded, and how many were held.
pub(crate) fn not_accepted(view: View<'_>) -> Result<NotAccepted, Fault> {
    let table = view.receipts.not_accepted();
    let mut statement = view.prepare_cached(&format!(
        "SELECT (SELECT count(*) FROM (SELECT 1 FROM {table} disposition = 1 LIMIT ?1) AS counted) AS superseded, \
         (SELECT count(*) FROM {table} disposition = 2) AS held"
    ))?;
    let mut found = statement.query([signed(COUNTED_MAX)])?;
    let row = found.next()?.ok_or_else(|| Fault::damaged("counts", "no row"))?;
    Ok(NotAccepted {
        superseded: unsigned(row, "superseded")?,
        held: unsigned(row, "held")?,
    })
}

/// What is known of a subject.
pub(crate) fn subject(view: View<'_>, key: SubjectKey) -> Result<Subject, Fault> {
    let known = view.receipts.subject(view.connection, &key)?;
    Ok(Subject { key, known })
}

/// The subjects behind a key, or the first, in the order of their keys.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn subjects(
    view: View<'_>,
    after: Option<&SubjectKey>,
    subjects_max: usize,
) -> Result<Vec<(SubjectKey, SubjectState)>, Fault> {
    view.receipts.subjects(view.connection, after, subjects_max)
}

/// Those who were not accepted and are still to be looked at: nobody decided, and no route ran them although they came late. `seq` is in the
/// surrounding statement.
const OPEN_ONLY: &str = "NOT EXISTS (SELECT 1 FROM reviews v WHERE v.receipt = seq) \
                         AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.receipt = seq)";

/// The numbers of receipts of one disposition before `before` with their origins, newest first, `count` at the most; those on which somebody
/// decided only if asked for.
pub(crate) fn not_accepted_before(
    view: View<'_>,
    disposition: i64,
    with_reviewed: bool,
    before: i64,
    count: usize,
) -> Result<Vec<(i64, i64)>, Fault> {
    let table = view.receipts.not_accepted();
    let open_only = if with_reviewed { "true" } else { OPEN_ONLY };
    let mut statement = view.prepare_cached(&format!(
        "SELECT seq, origin FROM {table} disposition = ?1 AND seq < ?2 AND {open_only} ORDER BY seq DESC LIMIT ?3"
    ))?;
    let limit = i64::try_from(count).unwrap_or(i64::MAX);
    let seqs = statement
        .query_map(params![disposition, before, limit], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<Result<_, _>>()?;
    Ok(seqs)
}

/// Receipts that are set aside, by origin: how many, and the oldest of them.
#[derive(Default)]
pub(crate) struct ByOrigin {
    pub(crate) origins: BTreeMap<i64, OfOrigin>,
    /// The oldest receipt that was looked at, where there are older ones.
    pub(crate) looked_back_to: Option<i64>,
}

pub(crate) struct OfOrigin {
    pub(crate) count: u64,
    pub(crate) oldest: i64,
}

/// By origin, how many of the newest [`COUNTED_MAX`] receipts that have a disposition nobody decided about.
pub(crate) fn not_accepted_by_origin(view: View<'_>, disposition: i64) -> Result<ByOrigin, Fault> {
    let table = view.receipts.not_accepted();
    let counted_max = signed(COUNTED_MAX);
    let looked_back_to = view
        .prepare_cached(&format!(
            "SELECT seq FROM {table} disposition = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2 - 1"
        ))?
        .query_row(params![disposition, counted_max], |row| row.get(0))
        .optional()?;
    let mut statement = view.prepare_cached(&format!(
        "SELECT origin, count(*) AS count, min(seq) AS oldest FROM \
         (SELECT seq, origin FROM {table} disposition = ?1 ORDER BY seq DESC LIMIT ?2) AS newest WHERE {OPEN_ONLY} GROUP BY origin"
    ))?;
    let mut found = statement.query(params![disposition, counted_max])?;
    let mut origins = BTreeMap::new();
    while let Some(row) = found.next()? {
        let of = OfOrigin {
            count: unsigned(row, "count")?,
            oldest: row.get("oldest")?,
        };
        origins.insert(row.get("origin")?, of);
    }
    Ok(ByOrigin {
        origins,
        looked_back_to,
    })
}
