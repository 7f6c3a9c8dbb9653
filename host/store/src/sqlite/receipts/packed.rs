//! What the writer remembers of receipts in segments.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, params};
use tollgate_core::admission::NewJob;
use tollgate_core::event::Event;
use tollgate_core::ids::Status;
use tollgate_core::secret::Secret;

use super::super::fault::Fault;
use super::super::open::StorePath;
use super::super::rows::disposition_codes;
use super::bodies::Bodies;
use super::keys::{self, Keys};
use super::redo::{Commit, Job, Recorder};
use super::segments::{self, Building};
use super::{Layout, MemoryBounds, Receipt, SubjectKey, rows, unrouted};

/// Of a store of rows it is empty.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) recent: Recent,
    pub(super) keys: Keys,
    building: Building,
    jobs: Vec<Job>,
    /// Of the commit's receipts those that no route took: number and origin.
    pub(super) unrouted: Vec<(i64, i64)>,
    /// Of a store of segments.
    log: Option<(Bodies, Recorder)>,
}

impl Packed {
    pub(super) fn none() -> Self {
        Self {
            recent: Recent::new(0),
            keys: Keys::none(),
            building: Building::default(),
            jobs: Vec::new(),
            unrouted: Vec::new(),
            log: None,
        }
    }

    pub(super) fn load(
        connection: &Connection,
        path: &StorePath,
        key: &Secret,
        bounds: MemoryBounds,
    ) -> Result<Self, Fault> {
        Ok(Self {
            recent: Recent::new(bounds.recent_bytes_max),
            keys: Keys::load(connection, bounds.keys_max)?,
            building: Building::default(),
            jobs: Vec::new(),
            unrouted: Vec::new(),
            log: Some((
                Bodies::open(connection, path, bounds.file_bytes_max)?,
                Recorder::new(key),
            )),
        })
    }

    pub(super) fn bodies(&self) -> Option<&File> {
        self.log.as_ref().map(|(bodies, _)| bodies.file())
    }

    /// Remembers the segment that holds a receipt, if the receipt is not remembered yet.
    pub(super) fn read_ahead(&mut self, connection: &Connection, seq: i64) -> Result<(), Fault> {
        if self.recent.get(seq).is_none() {
            self.recent.older = segments::segment_of(connection, self.bodies(), seq)?
                .into_iter()
                .map(Arc::new)
                .collect();
        }
        Ok(())
    }

    /// Adds a receipt. `moved` is its subject, with the status that the subject has now.
    pub(super) fn append(
        &mut self,
        connection: &Connection,
        receipt: Receipt,
        origin: i64,
        moved: Option<(SubjectKey, Option<Status>)>,
        jobs: &[NewJob],
    ) -> Result<(), Fault> {
        self.jobs.extend(jobs.iter().map(|job| Job {
            receipt: receipt.seq,
            job: job.clone(),
        }));
        let before = self.keys.append(receipt.seq, receipt.id, origin, moved)?;
        self.building.push(&receipt, origin, before)?;
        if let (code @ 1.., _) = disposition_codes(&receipt.disposition) {
            connection
                .prepare_cached("INSERT INTO not_accepted (seq, disposition, origin) VALUES (?1, ?2, ?3)")?
                .execute(params![receipt.seq, code, origin])?;
        }
        self.recent.push(receipt);
        Ok(())
    }

    /// The record first, and durably; then the rows that point at its bodies.
    pub(super) fn write(&mut self, connection: &Connection, commit: &super::Gathered<'_>) -> Result<(), Fault> {
        let Some((bodies, recorder)) = &mut self.log else {
            return Ok(());
        };
        if !self.building.is_empty() {
            let record = Commit {
                previous: commit.previous,
                is_synced: commit.is_synced,
                origins: commit.origins,
                segments: self.building.segments(),
                entries: self.keys.entries(),
                jobs: &self.jobs,
                bodies: self.building.bodies(),
            };
            let bodies_at = recorder.write(bodies, &record)?;
            self.building.write(connection, bodies_at)?;
        }
        unrouted::insert(connection, &self.unrouted)?;
        self.keys.write(connection)
    }

    /// The group's record is durable and its rows are in the transaction.
    pub(super) fn kept(&mut self) {
        self.building.clear();
        self.jobs.clear();
        self.unrouted.clear();
        self.keys.kept();
        self.recent.kept();
        if let Some((bodies, _)) = &mut self.log {
            bodies.kept();
        }
    }

    pub(super) fn rolled_back(&mut self) {
        self.building.clear();
        self.jobs.clear();
        self.unrouted.clear();
        self.keys.rolled_back();
        self.recent.rolled_back();
        if let Some((bodies, _)) = &mut self.log {
            bodies.rolled_back();
        }
    }
}

/// Makes a store of segments one of rows, inside a transaction. `bodies` is the file that its segments point into.
pub(super) fn into_rows(connection: &Connection, bodies: Option<&File>) -> Result<(), Fault> {
    let mut origin = connection.prepare("SELECT id FROM origins WHERE tenant = ?1 AND source = ?2 AND family = ?3")?;
    segments::walk(connection, bodies, |receipt, body| {
        let event = Event {
            payload: Bytes::copy_from_slice(body?),
            ..Event::clone(&receipt.event)
        };
        let family = event.reading.family().map_or("", |family| family.as_str());
        let origin = origin.query_row(params![event.tenant.as_str(), event.source.as_str(), family], |row| {
            row.get(0)
        })?;
        rows::insert(connection, receipt, &event, origin)?;
        Ok(true)
    })?;
    keys::carry_all(connection)?;
    connection.execute_batch(
        "DELETE FROM segments; DELETE FROM receipt_keys; DELETE FROM recent; DELETE FROM not_accepted; \
         UPDATE origins SET newest = NULL;",
    )?;
    connection.execute(
        "INSERT OR REPLACE INTO meta (name, value) VALUES ('layout', ?1)",
        [Layout::Rows.name().as_bytes()],
    )?;
    Ok(())
}

/// The newest receipts, whole: their jobs are claimed soon, and a claim then reads nothing. Contiguous in seq; of those that have
/// no jobs only the place is kept once they are committed.
#[derive(Debug)]
pub(super) struct Recent {
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

    pub(super) fn get(&self, seq: i64) -> Option<&Arc<Receipt>> {
        let within = |first: i64| usize::try_from(seq.checked_sub(first)?).ok();
        if let Some(at) = within(self.first)
            && let Some(Some(receipt)) = self.receipts.get(at)
        {
            return Some(receipt);
        }
        self.older.get(within(self.older.first()?.seq)?)
    }

    /// Keeps of the committed receipts those that `has_jobs` names, as far as the bound allows.
    fn kept(&mut self) {
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
