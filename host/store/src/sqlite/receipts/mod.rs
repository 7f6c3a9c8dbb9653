//! How receipts are kept. Two layouts answer the same questions, and nobody outside this room knows which one a store has.
//!
//! [`rows`] is the plain one: a row per receipt, a unique index over its id, a row per subject. It needs no memory, so any
//! number of processes may write it; it is the reference that the other is tested against.
//!
//! `segments` packs what one commit admits into few rows, `bodies` appends its bodies to a file, and `keys` holds the newest ids
//! and subjects in memory and carries them into their indexes in key order, so that an event does not touch a random page of
//! each index. `packed` is what the writer remembers of all three. It needs the
//! one writer that a native host has; a guest has rows only.

#[cfg(not(target_family = "wasm"))]
mod bodies;
#[cfg(not(target_family = "wasm"))]
mod filter;
#[cfg(not(target_family = "wasm"))]
mod keys;
#[cfg(not(target_family = "wasm"))]
mod packed;
#[cfg(not(target_family = "wasm"))]
mod redo;
mod rows;
#[cfg(not(target_family = "wasm"))]
mod segments;
pub(super) mod unrouted;

#[cfg(not(target_family = "wasm"))]
use std::fs::File;
use std::ops::Deref;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};
use tollgate_core::admission::{Admission, Disposition, NewJob};
use tollgate_core::chain::{self, Coverage, ReceiptFacts};
use tollgate_core::event::{ENVELOPE_VERSION, Event, Proof};
use tollgate_core::ids::{Digest, ReceiptId, Status, TenantName};
#[cfg(not(target_family = "wasm"))]
use tollgate_core::secret::Secret;

use super::fault::Fault;
#[cfg(not(target_family = "wasm"))]
use super::open::StorePath;
use super::rows::unsigned;
#[cfg(not(target_family = "wasm"))]
use super::transaction::NewOrigin;
use super::transaction::{ChainHead, Transaction, read_chain_head};
#[cfg(not(target_family = "wasm"))]
use packed::Packed;

/// How a store keeps its receipts. Chosen when the store is made; see [`super::OpenOptions::layout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(
    target_family = "wasm",
    expect(unreachable_pub, reason = "a guest has no choice to offer")
)]
pub enum Layout {
    /// Packed by commit: the cheaper one.
    #[cfg(not(target_family = "wasm"))]
    #[default]
    Segments,
    /// A row per receipt: the plain one, which the other is tested against.
    #[cfg_attr(target_family = "wasm", default)]
    Rows,
}

impl Layout {
    /// As `meta` has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            #[cfg(not(target_family = "wasm"))]
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
            #[cfg(not(target_family = "wasm"))]
            Some(b"segments") => Ok(Self::Segments),
            #[cfg(target_family = "wasm")]
            Some(b"segments") => Err(Fault::damaged(
                "layout",
                "its receipts are in segments, which only a native host reads; `tollgate export` writes them as rows",
            )),
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
    #[cfg(not(target_family = "wasm"))]
    bodies: Option<&'c File>,
    #[cfg(not(target_family = "wasm"))]
    memory: Option<&'c Packed>,
}

impl<'c> View<'c> {
    /// What a reader sees: commits only.
    #[cfg(not(target_family = "wasm"))]
    pub(super) fn of_reader(connection: &'c Connection, layout: Layout, bodies: Option<&'c File>) -> Self {
        Self {
            connection,
            layout,
            bodies,
            memory: None,
        }
    }

    #[cfg(target_family = "wasm")]
    pub(super) fn of_guest(connection: &'c Connection) -> Self {
        Self {
            connection,
            layout: Layout::Rows,
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
    #[cfg_attr(target_family = "wasm", expect(dead_code, reason = "a guest remembers no receipts"))]
    has_jobs: bool,
}

impl Receipt {
    /// The link that the receipt has behind `previous`.
    pub(super) fn link_after(&self, previous: &Digest, coverage: Coverage) -> Digest {
        chain::link(previous, &self.digest(coverage))
    }

    /// Of all that it says.
    pub(super) fn digest(&self, coverage: Coverage) -> Digest {
        let facts = ReceiptFacts {
            receipt: self.id,
            event: &self.event,
            proof: &self.proof,
            envelope_version: self.envelope_version,
            lifecycle_version: self.lifecycle_version,
            body_digest: self.body_digest,
            disposition: &self.disposition,
        };
        facts.digest(coverage)
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
    #[cfg(not(target_family = "wasm"))]
    packed: Packed,
}

impl Memory {
    #[cfg(not(target_family = "wasm"))]
    pub(super) fn load(
        connection: &Connection,
        path: &StorePath,
        key: &Secret,
        bounds: MemoryBounds,
    ) -> Result<Self, Fault> {
        let layout = Layout::read(connection)?;
        Ok(Self {
            layout,
            coverage: coverage(connection)?,
            packed: match layout {
                Layout::Segments => Packed::load(connection, path, key, bounds)?,
                Layout::Rows => Packed::none(),
            },
        })
    }

    /// A guest's, whose host lets several instances write: it remembers nothing but what the store is.
    #[cfg(target_family = "wasm")]
    pub(super) fn of_guest(connection: &Connection) -> Result<Self, Fault> {
        Ok(Self {
            layout: Layout::Rows,
            coverage: coverage(connection)?,
        })
    }

    pub(super) fn view<'c>(&'c self, connection: &'c Connection) -> View<'c> {
        View {
            connection,
            layout: self.layout,
            #[cfg(not(target_family = "wasm"))]
            bodies: self.packed.bodies(),
            #[cfg(not(target_family = "wasm"))]
            memory: Some(&self.packed),
        }
    }

    /// Writes what the transaction has gathered. Last before the commit.
    #[cfg(not(target_family = "wasm"))]
    pub(super) fn write(&mut self, connection: &Connection, gathered: &Gathered<'_>) -> Result<(), Fault> {
        self.packed.write(connection, gathered)
    }

    /// Whether a commit that only admits is durable without a sync of the database's own log.
    pub(super) fn is_logged(&self) -> bool {
        match self.layout {
            #[cfg(not(target_family = "wasm"))]
            Layout::Segments => true,
            Layout::Rows => false,
        }
    }

    #[cfg(not(target_family = "wasm"))]
    pub(super) fn kept(&mut self) {
        self.packed.kept();
    }

    /// Forgets what the transaction has gathered.
    #[cfg(not(target_family = "wasm"))]
    pub(super) fn rolled_back(&mut self) {
        self.packed.rolled_back();
    }
}

/// What a commit gathered beside receipts.
#[cfg(not(target_family = "wasm"))]
pub(super) struct Gathered<'a> {
    /// The link of the newest receipt before it.
    pub(super) previous: Digest,
    /// The database's own log is synced before anybody is answered.
    pub(super) is_synced: bool,
    pub(super) origins: &'a [NewOrigin],
}

/// Admits again what was acknowledged and the database does not know, inside a transaction: its own log lost it with the power, or
/// somebody restored an older database.
#[cfg(not(target_family = "wasm"))]
pub(super) fn redo(
    connection: &Connection,
    path: &StorePath,
    key: &Secret,
    was_left_open: bool,
) -> Result<Redone, Fault> {
    match Layout::read(connection)? {
        Layout::Rows => Ok(Redone::default()),
        Layout::Segments => redo::redo(connection, path, key, was_left_open),
    }
}

/// Whether [`redo`] would find receipts.
#[cfg(not(target_family = "wasm"))]
pub(super) fn is_behind_its_records(connection: &Connection, path: &StorePath, key: &Secret) -> Result<bool, Fault> {
    match Layout::read(connection)? {
        Layout::Rows => Ok(false),
        Layout::Segments => redo::is_ahead(connection, path, key),
    }
}

/// How many bytes of the file of bodies the database knows.
#[cfg(not(target_family = "wasm"))]
pub(super) fn known_bodies_bytes(connection: &Connection) -> Result<u64, Fault> {
    bodies::known_end(connection)
}

/// Whether the database is older than its bodies: they hold records that no crash would leave behind what it knows.
#[cfg(not(target_family = "wasm"))]
pub(super) fn is_older_than_bodies(
    connection: &Connection,
    path: &StorePath,
    key: &Secret,
    was_left_open: bool,
) -> Result<bool, Fault> {
    match Layout::read(connection)? {
        Layout::Rows => Ok(false),
        Layout::Segments if was_left_open => redo::is_past_a_synced_commit(connection, path, key),
        Layout::Segments => redo::is_ahead(connection, path, key),
    }
}

#[cfg(not(target_family = "wasm"))]
pub(super) use redo::{Redone, rewrite_file};

/// Bounds of [`Memory`].
#[cfg(not(target_family = "wasm"))]
#[derive(Debug, Clone, Copy)]
pub(super) struct MemoryBounds {
    /// Receipts whose keys wait in memory for the indexes; twice as many at most.
    pub(super) keys_max: usize,
    /// Bytes of receipts that are remembered for the jobs that follow.
    pub(super) recent_bytes_max: usize,
    /// Bytes that the file of bodies may have.
    pub(super) file_bytes_max: Option<u64>,
}

/// Makes the store one of rows, inside a transaction, if it is not: the layout that every host reads.
#[cfg(not(target_family = "wasm"))]
pub(super) fn into_rows(connection: &Connection, bodies: Option<&File>) -> Result<(), Fault> {
    match Layout::read(connection)? {
        Layout::Rows => Ok(()),
        Layout::Segments => packed::into_rows(connection, bodies),
    }
}

/// The receipt of that number.
pub(super) fn get(view: View<'_>, seq: i64, body: Body) -> Result<Option<Arc<Receipt>>, Fault> {
    match view.layout {
        Layout::Rows => Ok(rows::get(view.connection, seq, body)?.map(Arc::new)),
        #[cfg(not(target_family = "wasm"))]
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
    #[cfg(not(target_family = "wasm"))]
    if transaction.memory.receipts.layout == Layout::Segments {
        let connection = transaction.connection;
        transaction.memory.receipts.packed.read_ahead(connection, seq)?;
    }
    get_known(transaction.view(), seq, Body::With)
}

/// For readers who go along receipts: the segment of the last one.
#[cfg(not(target_family = "wasm"))]
#[derive(Default)]
pub(super) struct Near(Vec<Arc<Receipt>>);

#[cfg(not(target_family = "wasm"))]
impl Near {
    /// Like [`get_known`] with the body.
    pub(super) fn get(&mut self, view: View<'_>, seq: i64) -> Result<Arc<Receipt>, Fault> {
        if view.layout == Layout::Rows {
            return get_known(view, seq, Body::With);
        }
        if self.of(seq).is_none() {
            let segment = segments::segment_of(view.connection, view.bodies, seq)?;
            self.0 = segment.into_iter().map(Arc::new).collect();
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
pub(super) fn find(view: View<'_>, ids: &[ReceiptId]) -> Result<Vec<i64>, Fault> {
    match view.layout {
        Layout::Rows => rows::find(view.connection, ids),
        #[cfg(not(target_family = "wasm"))]
        Layout::Segments => match view.memory {
            Some(memory) => ids
                .iter()
                .filter_map(|id| memory.keys.receipt(view.connection, *id).transpose())
                .collect(),
            None => keys::find_receipts(view.connection, ids),
        },
    }
}

/// What is known of subjects, as their newest receipts, in no order.
pub(super) fn newest_of_subjects(view: View<'_>, subjects: &[SubjectKey]) -> Result<Vec<i64>, Fault> {
    match view.layout {
        Layout::Rows => rows::newest_of_subjects(view.connection, subjects),
        #[cfg(not(target_family = "wasm"))]
        Layout::Segments => Ok(keys::find_subjects(view.connection, subjects)?
            .into_iter()
            .map(|state| state.newest)
            .collect()),
    }
}

/// The newest receipts before a number, of one tenant or of all.
pub(super) fn newest(
    view: View<'_>,
    tenant: Option<&TenantName>,
    before: i64,
    receipts_max: usize,
) -> Result<Vec<i64>, Fault> {
    match (view.layout, tenant) {
        (_, None) => {
            let last = read_chain_head(view.connection)?.seq.min(before - 1);
            let count = i64::try_from(receipts_max).unwrap_or(i64::MAX);
            Ok(((last - count).max(0) + 1..=last).rev().collect())
        }
        (Layout::Rows, Some(tenant)) => rows::newest(view.connection, tenant, before, receipts_max),
        #[cfg(not(target_family = "wasm"))]
        (Layout::Segments, Some(tenant)) => segments::newest(view.connection, tenant, before, receipts_max),
    }
}

/// How many receipts are superseded, and how many are held.
pub(super) fn not_accepted(view: View<'_>) -> Result<(u64, u64), Fault> {
    let sql = match view.layout {
        Layout::Rows => {
            "SELECT count(*) FILTER (WHERE disposition = 1) AS superseded, count(*) FILTER (WHERE disposition = 2) AS held \
             FROM receipts WHERE disposition <> 0"
        }
        #[cfg(not(target_family = "wasm"))]
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

/// Reads every receipt with its body, in order. `each` gets what stands under each number, and says whether to go on; facts that
/// cannot be read end it. A body that cannot be read is for `each` to judge.
#[cfg(not(target_family = "wasm"))]
pub(super) fn walk(
    view: View<'_>,
    each: impl FnMut(&Receipt, Result<&[u8], Fault>) -> Result<bool, Fault>,
) -> Result<(), Fault> {
    match view.layout {
        Layout::Rows => rows::walk(view.connection, each),
        #[cfg(not(target_family = "wasm"))]
        Layout::Segments => segments::walk(view.connection, view.bodies, each),
    }
}

/// For the audit: holds what leads to receipts against the receipts themselves, which come one by one and in order. Nothing
/// for rows, whose indexes are part of the file's own integrity.
#[cfg(not(target_family = "wasm"))]
pub(super) struct Ways(Option<keys::Ways>);

#[cfg(not(target_family = "wasm"))]
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
        #[cfg(not(target_family = "wasm"))]
        Layout::Segments => match memory.packed.keys.receipt(transaction.connection, receipt)? {
            None => Ok(None),
            Some(seq) => {
                let digest = match memory.packed.recent.get(seq) {
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
    let known = match view.layout {
        Layout::Rows => rows::subject(view.connection, &key)?,
        #[cfg(not(target_family = "wasm"))]
        Layout::Segments => match view.memory {
            Some(memory) => memory.keys.subject(view.connection, &key)?,
            None => keys::find_subjects(view.connection, &[key])?.pop(),
        },
    };
    Ok(Subject { key, known })
}

/// In the writer: gives a subject another status, which no receipt of its own brings. `receipt` is one of the subject's: the only one that is
/// known of it, where sources did not share it, or shared it, when it came.
pub(super) fn set_status(
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
    let memory = &mut transaction.memory.receipts;
    match memory.layout {
        Layout::Rows => rows::move_subject(transaction.connection, &key, &state, is_new),
        #[cfg(not(target_family = "wasm"))]
        Layout::Segments => memory.packed.keys.move_subject(key, state),
    }
}

/// Those who were not accepted and are still to be looked at: nobody decided, and no route ran them although they came late. `seq` is in the
/// surrounding statement.
const OPEN_ONLY: &str = "NOT EXISTS (SELECT 1 FROM reviews v WHERE v.receipt = seq) \
                         AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.receipt = seq)";

/// The numbers of receipts of one disposition before `before`, newest first, `count` at the most; those on which somebody decided
/// only if asked for.
pub(super) fn not_accepted_before(
    view: View<'_>,
    disposition: i64,
    with_reviewed: bool,
    before: i64,
    count: usize,
) -> Result<Vec<i64>, Fault> {
    // A partial index has the receipts that were not accepted.
    let table = match view.layout {
        Layout::Rows => "receipts WHERE disposition <> 0 AND",
        #[cfg(not(target_family = "wasm"))]
        Layout::Segments => "not_accepted WHERE",
    };
    let open_only = if with_reviewed { "true" } else { OPEN_ONLY };
    let mut statement = view.prepare_cached(&format!(
        "SELECT seq FROM {table} disposition = ?1 AND seq < ?2 AND {open_only} ORDER BY seq DESC LIMIT ?3"
    ))?;
    let limit = i64::try_from(count).unwrap_or(i64::MAX);
    let seqs = statement
        .query_map(params![disposition, before, limit], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(seqs)
}

/// How many receipts of one origin are set aside, and the oldest of them.
pub(super) struct OfOrigin {
    pub(super) count: u64,
    pub(super) oldest: i64,
}

/// By origin, how many receipts have a disposition and nobody decided about them.
pub(super) fn not_accepted_by_origin(view: View<'_>, disposition: i64) -> Result<Vec<OfOrigin>, Fault> {
    let table = match view.layout {
        Layout::Rows => "receipts WHERE disposition <> 0 AND",
        #[cfg(not(target_family = "wasm"))]
        Layout::Segments => "not_accepted WHERE",
    };
    let mut statement = view.prepare_cached(&format!(
        "SELECT count(*) AS count, min(seq) AS oldest FROM {table} disposition = ?1 AND {OPEN_ONLY} GROUP BY origin"
    ))?;
    let mut found = statement.query([disposition])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(OfOrigin {
            count: unsigned(row, "count")?,
            oldest: row.get("oldest")?,
        });
    }
    Ok(all)
}

/// In the writer: a receipt was accepted and no route took it.
pub(super) fn note_unrouted(transaction: &mut Transaction<'_>, seq: i64, origin: i64) -> Result<(), Fault> {
    let memory = &mut transaction.memory.receipts;
    match memory.layout {
        Layout::Rows => unrouted::insert(transaction.connection, &[(seq, origin)]),
        #[cfg(not(target_family = "wasm"))]
        Layout::Segments => {
            memory.packed.unrouted.push((seq, origin));
            Ok(())
        }
    }
}

/// In the writer: an older receipt was accepted by a review, and no route took it.
pub(super) fn note_unrouted_later(transaction: &mut Transaction<'_>, seq: i64, origin: i64) -> Result<(), Fault> {
    #[cfg(not(target_family = "wasm"))]
    {
        // Its place may be among those that this commit will write.
        let waiting = &mut transaction.memory.receipts.packed.unrouted;
        if waiting.first().is_some_and(|(first, _)| *first <= seq) {
            waiting.push((seq, origin));
            waiting.sort_unstable();
            return Ok(());
        }
    }
    unrouted::put(transaction.connection, seq, origin)
}

/// In the writer: a route took it after all.
pub(super) fn note_routed(transaction: &mut Transaction<'_>, seq: i64) -> Result<(), Fault> {
    #[cfg(not(target_family = "wasm"))]
    transaction
        .memory
        .receipts
        .packed
        .unrouted
        .retain(|(unrouted, _)| *unrouted != seq);
    unrouted::remove(transaction.connection, seq)
}

/// In the writer: appends a receipt, moves its subject on, and answers its number.
pub(super) fn append(
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
        body_digest: admission.body_digest,
        body_bytes: event.payload.len(),
        link: head.link,
        has_jobs: !jobs.is_empty(),
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
    if *disposition == Disposition::Accepted && jobs.is_empty() {
        note_unrouted(transaction, seq, origin)?;
    }
    let connection = transaction.connection;
    let memory = &mut transaction.memory.receipts;
    match memory.layout {
        Layout::Rows => {
            rows::insert(connection, &receipt, &receipt.event, origin)?;
            if let Some((key, state, is_new)) = &moved {
                rows::move_subject(connection, key, state, *is_new)?;
            }
        }
        #[cfg(not(target_family = "wasm"))]
        Layout::Segments => {
            let moved = moved.map(|(key, state, _)| (key, state.status));
            memory.packed.append(connection, receipt, origin, moved, jobs)?;
        }
    }
    transaction.memory.head = ChainHead { seq, link };
    Ok(seq)
}
