//! What a commit admitted, as the file of bodies says it: all that is needed to admit it once more.
//!
//! Each commit appends one record: a head, what goes into rows, and the bodies. A commit that only admits is durable when its
//! record is, so the database's own log need not be synced for it; whatever of it the disk did not keep is taken from the
//! records when the store is opened. That is safe because a commit that is not synced holds nothing that another one was
//! decided by, but receipts themselves, and those come back in their order.
//!
//! A record is believed when a hash under the store's own key says that it was written for this place behind this receipt: bytes
//! that a sender put into a body cannot be taken for one, nor can those of a commit that was undone.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tollgate_core::admission::{JobSpec, NewJob};
use tollgate_core::ids::{Digest, RouteName};
use tollgate_core::route::Late;
use tollgate_core::secret::Secret;

use super::super::admit::{insert_jobs, lead_from_event_id};
use super::super::fault::Fault;
use super::super::open::{self, StorePath};
use super::super::transaction::{ChainHead, NewOrigin, read_chain_head, write_chain_head};
use super::Body;
use super::bodies::{self, Bodies};
use super::segments::{self, Segment};
use super::unrouted;
use crate::sql::{Connection, params};

/// The first bytes of a record that may be admitted again.
const REDO: [u8; 8] = *b"tgredo-1";
/// And of one whose commit is synced with all that it holds: it is there with its rows or was never acknowledged, unless the database
/// is older than the file. Only then its receipts are admitted again as well: they were decided beside what is in no record.
const PLAIN: [u8; 8] = *b"tgbody-1";
/// Those, the length of the plan, and the hash.
const HEAD_BYTES: usize = 8 + 4 + 32;
/// What the hash covers beside the record: the key, the place and the link behind which it stands.
const SEALED_BYTES: usize = 32 + 8 + 32;

/// How a record is to be read, and what of its rows stands nowhere else. The order of fields is the format.
#[derive(Debug, Serialize, Deserialize)]
struct Plan<'a> {
    /// Origins that the commit made.
    #[serde(borrow)]
    origins: Vec<(i64, &'a str, &'a str, &'a str)>,
    /// Of each segment: its first receipt, receipts, bytes of its bodies and of its facts.
    segments: Vec<(i64, i64, u64, u64)>,
    /// Bytes of the keys' entries.
    entries: u64,
    /// Of each job: its receipt, route and lane, and why it is held, if it is.
    jobs: Vec<(i64, &'a str, i64, Option<&'a str>)>,
}

/// A job that a commit makes.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) receipt: i64,
    pub(super) job: NewJob,
}

/// What one commit writes.
pub(super) struct Commit<'a> {
    /// The link of the receipt before its first.
    pub(super) previous: Digest,
    /// It holds more than admissions, and is synced as a whole.
    pub(super) is_synced: bool,
    pub(super) origins: &'a [NewOrigin],
    pub(super) segments: &'a [Segment],
    pub(super) entries: &'a [u8],
    pub(super) jobs: &'a [Job],
    pub(super) bodies: &'a [Bytes],
}

/// Builds records; keeps its memory from one to the next.
#[derive(Debug)]
pub(super) struct Recorder {
    key: Secret,
    buffer: Vec<u8>,
}

impl Recorder {
    pub(super) fn new(key: &Secret) -> Self {
        Self {
            key: key.clone(),
            buffer: Vec::new(),
        }
    }

    /// Appends a commit's record, durably. Returns where its bodies begin.
    pub(super) fn write(&mut self, file: &mut Bodies, commit: &Commit<'_>) -> Result<u64, Fault> {
        let plan = Plan {
            origins: commit
                .origins
                .iter()
                .map(|origin| {
                    let family = origin.family.as_ref().map_or("", |family| family.as_str());
                    (origin.id, origin.tenant.as_str(), origin.source.as_str(), family)
                })
                .collect(),
            segments: commit
                .segments
                .iter()
                .map(|segment| {
                    let (bodies, facts) = (segment.bytes as u64, segment.facts.len() as u64);
                    (segment.first, segment.count, bodies, facts)
                })
                .collect(),
            entries: commit.entries.len() as u64,
            jobs: commit
                .jobs
                .iter()
                .map(|Job { receipt, job }| {
                    let held = job.held.as_deref();
                    (*receipt, job.spec.route.as_str(), job.spec.lane, held)
                })
                .collect(),
        };
        self.buffer.clear();
        seal(&mut self.buffer, &self.key, file.end(), &commit.previous);
        self.buffer = postcard::to_extend(&plan, std::mem::take(&mut self.buffer))
            .map_err(|error| Fault::damaged("a record to be written", error))?;
        let plan_bytes = u32::try_from(self.buffer.len() - SEALED_BYTES)
            .map_err(|error| Fault::damaged("a record to be written", error))?;
        for segment in commit.segments {
            self.buffer.extend_from_slice(&segment.facts);
        }
        self.buffer.extend_from_slice(commit.entries);
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(if commit.is_synced { &PLAIN } else { &REDO });
        head[8..12].copy_from_slice(&plan_bytes.to_le_bytes());
        head[12..].copy_from_slice(&Digest::of(&self.buffer).0);
        let rows = &self.buffer[SEALED_BYTES..];
        let mut pieces = Vec::with_capacity(2 + commit.bodies.len());
        pieces.extend([IoSlice::new(&head), IoSlice::new(rows)]);
        pieces.extend(commit.bodies.iter().map(|body| IoSlice::new(body)));
        let at = file.append(&mut pieces)?;
        Ok(at + (HEAD_BYTES + rows.len()) as u64)
    }
}

/// Begins what a record's hash covers.
fn seal(buffer: &mut Vec<u8>, key: &Secret, at: u64, previous: &Digest) {
    buffer.extend_from_slice(key.expose());
    buffer.resize(32, 0);
    buffer.extend_from_slice(&at.to_le_bytes());
    buffer.extend_from_slice(&previous.0);
}

/// Marks a record as one of a commit that was undone. If that does not reach the disk, an event that nobody acknowledged may be
/// there after all, which its sender's next delivery will find.
pub(super) fn undo(file: &File, at: u64) {
    let _ = file.write_all_at(&[0; 8], at);
}

/// What was found behind what the database knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub(in crate::sqlite) struct Redone {
    /// Receipts that were admitted again.
    pub(in crate::sqlite) receipts: i64,
    /// A record whose commit was synced stood before another one. No crash leaves that: somebody put an older database beside the file.
    pub(in crate::sqlite) passed_a_synced_commit: bool,
}

/// Whether the records say what the database does not.
pub(super) fn is_ahead(connection: &Connection, path: &StorePath, key: &Secret) -> Result<bool, Fault> {
    let (at, head) = (bodies::known_end(connection)?, read_chain_head(connection)?);
    match File::open(path.bodies()) {
        Ok(file) => Ok(Record::read(&file, at, &head, key).map_err(Fault::Io)?.is_some()),
        Err(_) => Ok(false),
    }
}

/// Whether [`redo`] would come to [`Redone::passed_a_synced_commit`]. Writes nothing.
pub(super) fn is_past_a_synced_commit(connection: &Connection, path: &StorePath, key: &Secret) -> Result<bool, Fault> {
    let (mut at, mut head) = (bodies::known_end(connection)?, read_chain_head(connection)?);
    let Ok(file) = File::open(path.bodies()) else {
        return Ok(false);
    };
    while let Some(record) = Record::read(&file, at, &head, key).map_err(Fault::Io)? {
        let Some(next) = record.head_after(head)? else {
            break;
        };
        at = record.end(at);
        if record.is_plain {
            let next = Record::read(&file, at, &next, key).map_err(Fault::Io)?;
            return Ok(next.is_some());
        }
        head = next;
    }
    Ok(false)
}

/// Admits what the records say and the database does not, inside a transaction. Where the last process did not close the store
/// (`was_left_open`), a record at the end whose commit was to be synced is one that nobody was answered for.
pub(super) fn redo(
    connection: &Connection,
    path: &StorePath,
    key: &Secret,
    was_left_open: bool,
) -> Result<Redone, Fault> {
    let mut at = bodies::known_end(connection)?;
    let mut head = read_chain_head(connection)?;
    let before = head.seq;
    let file = match OpenOptions::new().read(true).write(true).open(path.bodies()) {
        Ok(file) => file,
        // Nothing was ever admitted, or what is amiss is said where the file is opened to be written.
        Err(_) => return Ok(Redone::default()),
    };
    let (mut passed_plain, mut passed_a_synced_commit) = (false, false);
    while let Some(record) = Record::read(&file, at, &head, key).map_err(Fault::Io)? {
        if record.is_plain && was_left_open {
            let is_last = match record.head_after(head)? {
                Some(next) => Record::read(&file, record.end(at), &next, key)
                    .map_err(Fault::Io)?
                    .is_none(),
                None => true,
            };
            if is_last {
                // Were it left there, a later process that ends by itself would make it look like a record of an older database.
                undo(&file, at);
                file.sync_data().map_err(Fault::Io)?;
                break;
            }
        }
        let Some(next) = record.admit(connection, key, at, head)? else {
            break;
        };
        rewrite(&file, at..record.end(at)).map_err(Fault::Io)?;
        head = next;
        at = record.end(at);
        passed_a_synced_commit |= passed_plain;
        passed_plain |= record.is_plain;
    }
    if head.seq != before {
        let found = file.metadata().map_err(Fault::Io)?.len();
        set_aside(&file, path, at..found)?;
        renew_size(&file, at)
            .and_then(|()| file.sync_data())
            .map_err(Fault::Io)?;
        write_chain_head(connection, &head)?;
    }
    Ok(Redone {
        receipts: head.seq - before,
        passed_a_synced_commit,
    })
}

/// Keeps what stands behind the last record that can be believed, when more records stand there: then it is not what a crash leaves of
/// one write, but another history of this store, and nothing of it may be overwritten unseen.
///
/// # Errors
/// When it cannot be read or kept.
pub(super) fn set_aside(file: &File, path: &StorePath, tail: Range<u64>) -> Result<(), Fault> {
    if !holds_records(file, &tail).map_err(Fault::Io)? {
        return Ok(());
    }
    let mut name = path.bodies().into_os_string();
    name.push(format!(".tail-{}", tail.start));
    let kept = std::path::PathBuf::from(name);
    let bytes = tail.end - tail.start;
    copy_range(file, tail, &kept).map_err(Fault::Io)?;
    tracing::error!(
        kept = %kept.display(),
        bytes,
        "the bodies reach further than what the database and its records account for, and hold records there: this is another \
         history of the store. It was set aside, not overwritten; if a database that belongs to it exists, stop and restore that"
    );
    Ok(())
}

/// Whether a record begins behind the one that a write may have been stopped in.
fn holds_records(file: &File, tail: &Range<u64>) -> io::Result<bool> {
    let mut at = tail.start + 1;
    let mut bytes = Vec::new();
    while at + REDO.len() as u64 <= tail.end {
        bytes.resize((tail.end - at).min(REWRITTEN_BYTES) as usize, 0);
        file.read_exact_at(&mut bytes, at)?;
        if bytes.windows(REDO.len()).any(|piece| piece == REDO || piece == PLAIN) {
            return Ok(true);
        }
        // A magic may stand across two pieces.
        at += (bytes.len() - (REDO.len() - 1)) as u64;
    }
    Ok(false)
}

/// Copies a piece of a file into one of its own, durably.
fn copy_range(file: &File, mut piece: Range<u64>, to: &Path) -> io::Result<()> {
    use std::io::Write as _;
    let mut copy = open::private().write(true).create(true).truncate(true).open(to)?;
    let mut bytes = Vec::new();
    while piece.start < piece.end {
        bytes.resize((piece.end - piece.start).min(REWRITTEN_BYTES) as usize, 0);
        file.read_exact_at(&mut bytes, piece.start)?;
        copy.write_all(&bytes)?;
        piece.start += bytes.len() as u64;
    }
    copy.sync_all()
}

/// Bytes that are written again at once.
const REWRITTEN_BYTES: u64 = 1024 * 1024;

/// Writes a piece of the file again as it is. Where the last host stopped because a sync had failed, what can be read may be in the
/// kernel's memory alone, and no later sync would write it.
fn rewrite(file: &File, place: Range<u64>) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut at = place.start;
    while at < place.end {
        bytes.resize((place.end - at).min(REWRITTEN_BYTES) as usize, 0);
        file.read_exact_at(&mut bytes, at)?;
        file.write_all_at(&bytes, at)?;
        at += bytes.len() as u64;
    }
    Ok(())
}

/// The same for a file's size.
fn renew_size(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes + 1)?;
    file.set_len(bytes)
}

/// Writes a whole file again as it is, durably.
pub(in crate::sqlite) fn rewrite_file(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let bytes = file.metadata()?.len();
    rewrite(&file, 0..bytes)?;
    renew_size(&file, bytes)?;
    file.sync_data()
}

/// A record as it was read: the plan, and then the rest of the rows' bytes, and the bodies.
struct Record {
    /// Its commit was synced with all that it held.
    is_plain: bool,
    rows: Vec<u8>,
    plan_bytes: usize,
    bodies: Vec<u8>,
}

/// One segment of a record.
struct Piece<'r> {
    first: i64,
    count: i64,
    facts: &'r [u8],
    /// Among the record's bodies.
    bodies: Range<usize>,
}

impl Record {
    /// Nothing where no whole record stands that was written for this place.
    fn read(file: &File, at: u64, head: &ChainHead, key: &Secret) -> io::Result<Option<Self>> {
        let left = file.metadata()?.len().saturating_sub(at);
        let mut first = [0; HEAD_BYTES];
        if left < HEAD_BYTES as u64 {
            return Ok(None);
        }
        file.read_exact_at(&mut first, at)?;
        let (kind, rest) = first.split_at(8);
        let (length, hash) = rest.split_at(4);
        let plan_bytes = length.first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
        let left = left - HEAD_BYTES as u64;
        if (kind != REDO && kind != PLAIN) || u64::from(plan_bytes) > left {
            return Ok(None);
        }
        // No length is believed before it is known to be within the file.
        let plan_bytes = plan_bytes as usize;
        let mut rows = vec![0; plan_bytes];
        let rows_at = at + HEAD_BYTES as u64;
        file.read_exact_at(&mut rows, rows_at)?;
        let Ok(plan) = postcard::from_bytes::<Plan<'_>>(&rows) else {
            return Ok(None);
        };
        let sum = |of: fn(&(i64, i64, u64, u64)) -> u64| {
            plan.segments
                .iter()
                .try_fold(0_u64, |sum, segment| sum.checked_add(of(segment)))
        };
        let (Some(bodies), Some(facts)) = (sum(|segment| segment.2), sum(|segment| segment.3)) else {
            return Ok(None);
        };
        let Some(rest) = facts.checked_add(plan.entries) else {
            return Ok(None);
        };
        let all = rest
            .checked_add(bodies)
            .and_then(|all| all.checked_add(plan_bytes as u64));
        if all.is_none_or(|all| all > left) {
            return Ok(None);
        }
        rows.resize(plan_bytes + rest as usize, 0);
        file.read_exact_at(&mut rows[plan_bytes..], rows_at + plan_bytes as u64)?;
        let mut sealed = Vec::with_capacity(SEALED_BYTES + rows.len());
        seal(&mut sealed, key, at, &head.link);
        sealed.extend_from_slice(&rows);
        if Digest::of(&sealed).0 != *hash {
            return Ok(None);
        }
        let mut body_bytes = vec![0; bodies as usize];
        file.read_exact_at(&mut body_bytes, rows_at + rows.len() as u64)?;
        Ok(Some(Self {
            is_plain: kind == PLAIN,
            rows,
            plan_bytes,
            bodies: body_bytes,
        }))
    }

    fn bodies_at(&self, at: u64) -> u64 {
        at + (HEAD_BYTES + self.rows.len()) as u64
    }

    fn end(&self, at: u64) -> u64 {
        self.bodies_at(at) + self.bodies.len() as u64
    }

    fn plan(&self) -> Result<Plan<'_>, Fault> {
        postcard::from_bytes(&self.rows[..self.plan_bytes]).map_err(|error| Fault::damaged("a record", error))
    }

    /// Its segments with their facts and where their bodies are among its own, and the keys' entries behind the facts.
    fn pieces<'r>(&'r self, plan: &Plan<'_>) -> (Vec<Piece<'r>>, &'r [u8]) {
        let mut rest = &self.rows[self.plan_bytes..];
        let mut body_at = 0;
        let pieces = plan
            .segments
            .iter()
            .map(|&(first, count, body_bytes, facts_bytes)| {
                // Their sums were held against the record's length when it was read.
                let (facts, behind) = rest.split_at(facts_bytes as usize);
                rest = behind;
                let bodies = body_at..body_at + body_bytes as usize;
                body_at = bodies.end;
                Piece {
                    first,
                    count,
                    facts,
                    bodies,
                }
            })
            .collect();
        (pieces, rest)
    }

    /// The chain's head behind this record, or nothing when a body is not what its receipt says: then the power went before the
    /// record was whole, and nobody was told of it.
    fn head_after(&self, head: ChainHead) -> Result<Option<ChainHead>, Fault> {
        let mut next = head;
        for piece in self.pieces(&self.plan()?).0 {
            let bodies = &self.bodies[piece.bodies];
            let Some(link) = segments::last_link(piece.first, piece.count, piece.facts, bodies)? else {
                return Ok(None);
            };
            next = ChainHead {
                seq: piece.first + piece.count - 1,
                link,
            };
        }
        Ok(Some(next))
    }

    /// Writes the rows. Returns the chain's new head, or nothing as [`Record::head_after`].
    fn admit(
        &self,
        connection: &Connection,
        key: &Secret,
        at: u64,
        head: ChainHead,
    ) -> Result<Option<ChainHead>, Fault> {
        let Some(next) = self.head_after(head)? else {
            return Ok(None);
        };
        let plan = self.plan()?;
        for (id, tenant, source, family) in &plan.origins {
            connection
                .prepare_cached("INSERT OR IGNORE INTO origins (id, tenant, source, family) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![id, tenant, source, family])?;
        }
        let (pieces, entries) = self.pieces(&plan);
        let mut unrouted = Vec::new();
        for piece in pieces {
            let bodies_at = self.bodies_at(at) + piece.bodies.start as u64;
            let receipts = (piece.first, piece.count);
            segments::insert(
                connection,
                receipts,
                (bodies_at, piece.bodies.len() as u64),
                piece.facts,
            )?;
            for seq in piece.first..piece.first + piece.count {
                let receipt = segments::get(connection, None, seq, Body::Without)?
                    .ok_or_else(|| Fault::damaged("receipt", format_args!("number {seq} does not exist")))?;
                lead_from_event_id(connection, key, receipt.id, &receipt.event, seq)?;
            }
            for (seq, disposition, origin) in segments::dispositions(piece.first, piece.count, piece.facts)? {
                if disposition != 0 {
                    connection
                        .prepare_cached("INSERT INTO not_accepted (seq, disposition, origin) VALUES (?1, ?2, ?3)")?
                        .execute(params![seq, disposition, origin])?;
                } else if !plan.jobs.iter().any(|(receipt, ..)| *receipt == seq) {
                    unrouted.push((seq, origin));
                }
            }
        }
        unrouted::insert(connection, &unrouted)?;
        connection
            .prepare_cached(
                "INSERT INTO recent (id, first, entries) SELECT coalesce(max(id), 0) + 1, ?1, ?2 FROM recent",
            )?
            .execute(params![head.seq + 1, entries])?;
        for &(receipt, route, lane, held) in &plan.jobs {
            let route: RouteName = route
                .parse()
                .map_err(|error| Fault::damaged("a record's route", error))?;
            // Whether the job is made was decided when the record was written.
            let late = Late::default();
            let job = NewJob {
                spec: JobSpec { route, lane, late },
                held: held.map(str::to_owned),
            };
            let (tenant, received_at) = segments::tenant_and_time(connection, receipt)?;
            insert_jobs(connection, &tenant, &[job], receipt, received_at)?;
        }
        Ok(Some(next))
    }
}
