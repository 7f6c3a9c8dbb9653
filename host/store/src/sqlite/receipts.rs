//! How receipts are kept. Two layouts answer the same questions, and nobody outside this room knows which one a store has.
//!
//! [`rows`] is the plain one: a row per receipt, a unique index over its id, a row per subject. It needs no memory, so any
//! number of processes may write it; it is the reference that the other is tested against.
//!
//! [`segments`] packs what one commit admits into few rows, [`bodies`] appends its bodies to a file, and [`keys`] holds the newest ids and subjects in memory and
//! carries them into their indexes in key order, so that an event does not touch a random page of each index. It needs the
//! one writer that a native host has.

mod bodies;
mod filter;
mod keys;
mod rows;
mod segments;

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Deref;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};
use tollgate_core::admission::{Admission, Disposition};
use tollgate_core::chain::{self, Coverage, ReceiptFacts};
use tollgate_core::event::{ENVELOPE_VERSION, Event, Proof};
use tollgate_core::ids::{Digest, ReceiptId, SourceName, Status, TenantName};

use super::fault::Fault;
use super::open::StorePath;
use super::rows::{disposition_codes, id, unsigned};
use super::writer::{ChainHead, Transaction};
use bodies::Bodies;
use keys::Keys;
use segments::Building;

/// How a store keeps its receipts. Chosen when the store is made; see [`super::OpenOptions::layout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// Packed by commit: the cheaper one.
    #[default]
    Segments,
    /// A row per receipt: the plain one, which the other is tested against.
    Rows,
}

impl Layout {
    /// As `meta` has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Segments => "segments",
            Self::Rows => "rows",
        }
    }

    pub(super) fn read(connection: &Connection) -> Result<Self, Fault> {
        let name: Option<Vec<u8>> = connection
            .query_row("SELECT value FROM meta WHERE name = 'layout'", [], |row| row.get(0))
            .optional()?;
        match name.as_deref() {
            None | Some(b"rows") => Ok(Self::Rows),
            Some(b"segments") => Ok(Self::Segments),
            Some(other) => Err(Fault::damaged("layout", String::from_utf8_lossy(other))),
        }
    }
}

/// What the links of the store's chain cover. A store of schema 1 says nothing of its layout, and linked less.
pub(super) fn coverage(connection: &Connection) -> Result<Coverage, Fault> {
    let says_layout = connection.query_row("SELECT EXISTS (SELECT 1 FROM meta WHERE name = 'layout')", [], |row| {
        row.get(0)
    })?;
    Ok(if says_layout { Coverage::Whole } else { Coverage::Core })
}

/// A connection inside a transaction, with what is known beside the file: how it keeps receipts, and in the writer the
/// receipts that are not written yet.
#[derive(Clone, Copy)]
pub(super) struct View<'c> {
    connection: &'c Connection,
    layout: Layout,
    bodies: Option<&'c File>,
    memory: Option<&'c Memory>,
}

impl<'c> View<'c> {
    /// What a reader sees: commits only.
    pub(super) fn of_reader(connection: &'c Connection, layout: Layout, bodies: Option<&'c File>) -> Self {
        Self {
            connection,
            layout,
            bodies,
            memory: None,
        }
    }
}

impl Deref for View<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

/// A receipt as it is kept.
#[derive(Debug)]
pub(super) struct Receipt {
    pub(super) seq: i64,
    pub(super) id: ReceiptId,
    /// With an empty payload where the body was not asked for.
    pub(super) event: Arc<Event>,
    pub(super) proof: Proof,
    pub(super) envelope_version: u32,
    pub(super) lifecycle_version: Option<u32>,
    pub(super) disposition: Disposition,
    /// The subject's receipt before this one.
    pub(super) previous: Option<i64>,
    pub(super) body_digest: Digest,
    pub(super) body_bytes: usize,
    pub(super) link: Digest,
    /// Whether it was admitted with jobs; of a receipt that was read back it is not known, and true.
    has_jobs: bool,
}

impl Receipt {
    /// The link that the receipt has behind `previous`.
    pub(super) fn link_after(&self, previous: &Digest, coverage: Coverage) -> Digest {
        let facts = ReceiptFacts {
            receipt: self.id,
            event: &self.event,
            proof: &self.proof,
            envelope_version: self.envelope_version,
            lifecycle_version: self.lifecycle_version,
            body_digest: self.body_digest,
            disposition: &self.disposition,
        };
        chain::link(previous, &facts.digest(coverage))
    }
}

/// Whether a receipt is wanted with its body, which is most of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    With,
    Without,
}

/// What is known of an event's subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SubjectState {
    /// The status that the lifecycle has reached.
    pub(super) status: Option<Status>,
    /// The newest receipt.
    pub(super) newest: i64,
}

/// A subject's key, and what is known under it.
pub(super) struct Subject {
    pub(super) key: SubjectKey,
    pub(super) known: Option<SubjectState>,
}

impl Subject {
    /// The status that the lifecycle has reached.
    pub(super) fn status(&self) -> Option<&Status> {
        self.known.as_ref()?.status.as_ref()
    }
}

/// A keyed hash of (tenant, family, subject).
pub(super) type SubjectKey = [u8; 16];

/// What the writer remembers of receipts. Of a store of rows it is empty.
#[derive(Debug)]
pub(super) struct Memory {
    layout: Layout,
    coverage: Coverage,
    recent: Recent,
    keys: Keys,
    building: Building,
    /// Of a store of segments.
    bodies: Option<Bodies>,
}

impl Memory {
    pub(super) fn load(
        connection: &Connection,
        path: &StorePath,
        layout: Layout,
        bounds: MemoryBounds,
    ) -> Result<Self, Fault> {
        let bodies = match layout {
            Layout::Segments => Some(Bodies::open(connection, path, bounds.file_bytes_max)?),
            Layout::Rows => None,
        };
        Ok(Self {
            layout,
            coverage: coverage(connection)?,
            bodies,
            recent: Recent::new(bounds.recent_bytes_max),
            keys: match layout {
                Layout::Segments => Keys::load(connection, bounds.keys_max)?,
                Layout::Rows => Keys::none(),
            },
            building: Building::default(),
        })
    }

    pub(super) fn view<'c>(&'c self, connection: &'c Connection) -> View<'c> {
        View {
            connection,
            layout: self.layout,
            bodies: self.bodies.as_ref().map(Bodies::file),
            memory: Some(self),
        }
    }

    /// Writes what the transaction has gathered. Last before the commit.
    pub(super) fn write(&mut self, connection: &Connection) -> Result<(), Fault> {
        if let Some(bodies) = &mut self.bodies {
            self.building.write(connection, bodies)?;
            self.keys.write(connection)?;
        }
        Ok(())
    }

    pub(super) fn committed(&mut self) {
        self.building.clear();
        self.keys.committed();
        self.recent.committed();
        if let Some(bodies) = &mut self.bodies {
            bodies.committed();
        }
    }

    /// Forgets what the transaction has gathered.
    pub(super) fn rolled_back(&mut self) {
        self.building.clear();
        self.keys.rolled_back();
        self.recent.rolled_back();
        if let Some(bodies) = &mut self.bodies {
            bodies.rolled_back();
        }
    }
}

/// Bounds of [`Memory`].
#[derive(Debug, Clone, Copy)]
pub(super) struct MemoryBounds {
    /// Receipts whose keys wait in memory for the indexes; twice as many at most.
    pub(super) keys_max: usize,
    /// Bytes of receipts that are remembered for the jobs that follow.
    pub(super) recent_bytes_max: usize,
    /// Bytes that the file of bodies may have.
    pub(super) file_bytes_max: Option<u64>,
}

/// The newest receipts, whole: their jobs are claimed soon, and a claim then reads nothing. Contiguous in seq; of those that have
/// no jobs only the place is kept once they are committed.
#[derive(Debug)]
struct Recent {
    /// The number of the first.
    first: i64,
    receipts: VecDeque<Option<Arc<Receipt>>>,
    /// How many at the end are not committed yet.
    uncommitted: usize,
    bytes: usize,
    bytes_max: usize,
    /// An older segment, unpacked: claims come in the order of receipts, so the next is likely to be in the same.
    older: Vec<Arc<Receipt>>,
}

impl Recent {
    fn new(bytes_max: usize) -> Self {
        Self {
            first: 0,
            receipts: VecDeque::new(),
            uncommitted: 0,
            bytes: 0,
            bytes_max,
            older: Vec::new(),
        }
    }

    fn push(&mut self, receipt: Receipt) {
        if self.receipts.is_empty() {
            self.first = receipt.seq;
        }
        self.bytes += weight(&receipt);
        self.uncommitted += 1;
        self.receipts.push_back(Some(Arc::new(receipt)));
    }

    fn get(&self, seq: i64) -> Option<&Arc<Receipt>> {
        let within = |first: i64| usize::try_from(seq.checked_sub(first)?).ok();
        if let Some(at) = within(self.first)
            && let Some(Some(receipt)) = self.receipts.get(at)
        {
            return Some(receipt);
        }
        self.older.get(within(self.older.first()?.seq)?)
    }

    /// Keeps of the committed receipts those that `has_jobs` names, as far as the bound allows.
    fn committed(&mut self) {
        let from = self.receipts.len() - self.uncommitted;
        for place in self.receipts.range_mut(from..) {
            if let Some(receipt) = place.take_if(|receipt| !receipt.has_jobs) {
                self.bytes -= weight(&receipt);
            }
        }
        self.uncommitted = 0;
        while self
            .receipts
            .front()
            .is_some_and(|first| first.is_none() || self.bytes > self.bytes_max)
        {
            if let Some(Some(receipt)) = self.receipts.pop_front() {
                self.bytes -= weight(&receipt);
            }
            self.first += 1;
        }
    }

    fn rolled_back(&mut self) {
        for _ in 0..std::mem::take(&mut self.uncommitted) {
            if let Some(Some(receipt)) = self.receipts.pop_back() {
                self.bytes -= weight(&receipt);
            }
        }
    }
}

/// About what a receipt takes in memory.
fn weight(receipt: &Receipt) -> usize {
    receipt.body_bytes + 1024
}

/// The receipt of that number.
pub(super) fn get(view: View<'_>, seq: i64, body: Body) -> Result<Option<Arc<Receipt>>, Fault> {
    match view.layout {
        Layout::Rows => Ok(rows::get(view.connection, seq, body)?.map(Arc::new)),
        Layout::Segments => {
            if let Some(memory) = view.memory
                && let Some(receipt) = memory.recent.get(seq)
            {
                return Ok(Some(Arc::clone(receipt)));
            }
            Ok(segments::get(view.connection, view.bodies, seq, body)?.map(Arc::new))
        }
    }
}

/// The same, where its absence is damage: another row refers to it.
pub(super) fn get_known(view: View<'_>, seq: i64, body: Body) -> Result<Arc<Receipt>, Fault> {
    get(view, seq, body)?.ok_or_else(|| Fault::damaged("receipt", format_args!("number {seq} does not exist")))
}

/// For the writer's claims, which come in the order of receipts: like [`get_known`] with the body, and reads ahead.
pub(super) fn get_ahead(transaction: &mut Transaction<'_>, seq: i64) -> Result<Arc<Receipt>, Fault> {
    let memory = &mut transaction.memory.receipts;
    if memory.layout == Layout::Segments && memory.recent.get(seq).is_none() {
        let bodies = memory.bodies.as_ref().map(Bodies::file);
        memory.recent.older = segments::segment_of(transaction.connection, bodies, seq)?
            .into_iter()
            .map(Arc::new)
            .collect();
    }
    get_known(transaction.view(), seq, Body::With)
}

/// The numbers of those of `ids` that exist, in no order.
pub(super) fn find(view: View<'_>, ids: &[ReceiptId]) -> Result<Vec<i64>, Fault> {
    match (view.layout, view.memory) {
        (Layout::Rows, _) => rows::find(view.connection, ids),
        (Layout::Segments, Some(memory)) => ids
            .iter()
            .filter_map(|id| memory.keys.receipt(view.connection, *id).transpose())
            .collect(),
        (Layout::Segments, None) => keys::find_receipts(view.connection, ids),
    }
}

/// What is known of subjects, as their newest receipts, in no order.
pub(super) fn newest_of_subjects(view: View<'_>, subjects: &[SubjectKey]) -> Result<Vec<i64>, Fault> {
    match view.layout {
        Layout::Rows => rows::newest_of_subjects(view.connection, subjects),
        Layout::Segments => Ok(keys::find_subjects(view.connection, subjects)?
            .into_iter()
            .map(|state| state.newest)
            .collect()),
    }
}

/// The newest receipts, of one tenant or of all.
pub(super) fn newest(view: View<'_>, tenant: Option<&TenantName>, receipts_max: usize) -> Result<Vec<i64>, Fault> {
    match (view.layout, tenant) {
        (_, None) => {
            let head = super::writer::read_chain_head(view.connection)?.seq;
            let count = i64::try_from(receipts_max).unwrap_or(i64::MAX);
            Ok(((head - count).max(0) + 1..=head).rev().collect())
        }
        (Layout::Rows, Some(tenant)) => rows::newest(view.connection, tenant, receipts_max),
        (Layout::Segments, Some(tenant)) => segments::newest(view.connection, tenant, receipts_max),
    }
}

/// How many receipts are superseded, and how many are held.
pub(super) fn not_accepted(view: View<'_>) -> Result<(u64, u64), Fault> {
    let sql = match view.layout {
        Layout::Rows => {
            "SELECT count(*) FILTER (WHERE disposition = 1) AS superseded, count(*) FILTER (WHERE disposition = 2) AS held \
             FROM receipts WHERE disposition <> 0"
        }
        Layout::Segments => {
            "SELECT count(*) FILTER (WHERE disposition = 1) AS superseded, count(*) FILTER (WHERE disposition = 2) AS held \
             FROM not_accepted"
        }
    };
    let mut statement = view.prepare_cached(sql)?;
    let mut found = statement.query([])?;
    let row = found.next()?.ok_or_else(|| Fault::damaged("counts", "no row"))?;
    Ok((unsigned(row, "superseded")?, unsigned(row, "held")?))
}

/// Reads every receipt with its body, in order. `each` gets what stands under each number; a gap or damage ends it.
pub(super) fn walk(view: View<'_>, each: impl FnMut(&Receipt, &[u8]) -> Result<bool, Fault>) -> Result<(), Fault> {
    match view.layout {
        Layout::Rows => rows::walk(view.connection, each),
        Layout::Segments => segments::walk(view.connection, view.bodies, each),
    }
}

/// For the audit: holds what leads to receipts against the receipts themselves, which come one by one and in order. Nothing
/// for rows, whose indexes are part of the file's own integrity.
pub(super) struct Ways(Option<keys::Ways>);

impl Ways {
    pub(super) fn new(view: View<'_>) -> Result<Self, Fault> {
        Ok(Self(match view.layout {
            Layout::Rows => None,
            Layout::Segments => Some(keys::Ways::new(view.connection)?),
        }))
    }

    pub(super) fn check(&mut self, view: View<'_>, receipt: &Receipt) -> Result<(), Fault> {
        self.0
            .as_mut()
            .map_or(Ok(()), |ways| ways.check(view.connection, receipt))
    }

    /// What was found, in words.
    pub(super) fn problems(&self, view: View<'_>) -> Result<Vec<String>, Fault> {
        self.0
            .as_ref()
            .map_or(Ok(Vec::new()), |ways| ways.problems(view.connection))
    }
}

/// In the writer: the receipt of that id.
pub(super) fn existing(transaction: &Transaction<'_>, receipt: ReceiptId) -> Result<Option<(i64, Digest)>, Fault> {
    let memory = &transaction.memory.receipts;
    match memory.layout {
        Layout::Rows => rows::existing(transaction.connection, receipt),
        Layout::Segments => match memory.keys.receipt(transaction.connection, receipt)? {
            None => Ok(None),
            Some(seq) => {
                let digest = match memory.recent.get(seq) {
                    Some(receipt) => receipt.body_digest,
                    None => segments::body_digest(transaction.connection, seq)?,
                };
                Ok(Some((seq, digest)))
            }
        },
    }
}

/// What is known of a subject.
pub(super) fn subject(view: View<'_>, key: SubjectKey) -> Result<Subject, Fault> {
    let known = match (view.layout, view.memory) {
        (Layout::Rows, _) => rows::subject(view.connection, &key)?,
        (Layout::Segments, Some(memory)) => memory.keys.subject(view.connection, &key)?,
        (Layout::Segments, None) => keys::find_subjects(view.connection, &[key])?.pop(),
    };
    Ok(Subject { key, known })
}

/// In the writer: gives a subject another status, which no receipt of its own brings.
pub(super) fn set_status(transaction: &mut Transaction<'_>, subject: Subject, status: &Status) -> Result<(), Fault> {
    let Subject {
        key,
        known: Some(known),
    } = subject
    else {
        return Err(Fault::damaged("subject", "a subject with a receipt is not known"));
    };
    let state = SubjectState {
        status: Some(status.clone()),
        newest: known.newest,
    };
    let memory = &mut transaction.memory.receipts;
    match memory.layout {
        Layout::Rows => rows::move_subject(transaction.connection, &key, &state, false),
        Layout::Segments => memory.keys.move_subject(key, state),
    }
}

/// The numbers of held receipts, newest first; those on which somebody decided only if asked for.
pub(super) fn held(view: View<'_>, with_reviewed: bool) -> Result<Vec<i64>, Fault> {
    // A partial index has the receipts that were not accepted.
    let table = match view.layout {
        Layout::Rows => "receipts WHERE disposition <> 0 AND",
        Layout::Segments => "not_accepted WHERE",
    };
    let open_only = if with_reviewed {
        ""
    } else {
        "AND NOT EXISTS (SELECT 1 FROM reviews v WHERE v.receipt = seq)"
    };
    let mut statement = view.prepare_cached(&format!(
        "SELECT seq FROM {table} disposition = 2 {open_only} ORDER BY seq DESC"
    ))?;
    let seqs = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(seqs)
}

/// In the writer: appends a receipt, moves its subject on, and answers its number.
pub(super) fn append(
    transaction: &mut Transaction<'_>,
    admission: &Admission,
    disposition: &Disposition,
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
        body_digest: admission.body_digest,
        body_bytes: event.payload.len(),
        link: head.link,
        has_jobs: !admission.jobs.is_empty(),
    };
    let link = receipt.link_after(&head.link, transaction.memory.receipts.coverage);
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
        (subject.key, state, is_new)
    });
    let connection = transaction.connection;
    let memory = &mut transaction.memory.receipts;
    match memory.layout {
        Layout::Rows => {
            rows::insert(connection, &receipt, origin)?;
            if let Some((key, state, is_new)) = &moved {
                rows::move_subject(connection, key, state, *is_new)?;
            }
        }
        Layout::Segments => {
            let moved = moved.map(|(key, state, _)| (key, state.status));
            let before = memory.keys.append(seq, receipt.id, origin, moved)?;
            memory.building.push(&receipt, origin, before)?;
            if let (code @ 1.., _) = disposition_codes(disposition) {
                connection
                    .prepare_cached("INSERT INTO not_accepted (seq, disposition) VALUES (?1, ?2)")?
                    .execute(params![seq, code])?;
            }
            memory.recent.push(receipt);
        }
    }
    transaction.memory.head = ChainHead { seq, link };
    Ok(seq)
}

/// The names behind an origin's number; the family is empty where there is none.
fn origin_names(connection: &Connection, origin: i64) -> Result<(TenantName, SourceName, String), Fault> {
    let mut statement = connection.prepare_cached("SELECT tenant, source, family FROM origins WHERE id = ?1")?;
    let mut found = statement.query([origin])?;
    let row = found
        .next()?
        .ok_or_else(|| Fault::damaged("origin", format_args!("number {origin} does not exist")))?;
    Ok((id(row, "tenant")?, id(row, "source")?, row.get("family")?))
}
