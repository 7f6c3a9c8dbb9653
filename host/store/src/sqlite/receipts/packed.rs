//! What the writer remembers of receipts of the log.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tollgate_core::ids::{Digest, ReceiptId, TenantName};

use super::super::fault::Fault;
use super::super::head::ChainHead;
use super::super::rows::{disposition_codes, signed};
use super::filter::Indexed;
use super::keys::Keys;
use super::pieces::{self, Building};
use super::{Body, MemoryBounds, Moved, Receipt, Receipts, ReceiptsWriter, SubjectKey, SubjectState, unrouted};
use crate::log::Contents;
use crate::sql::{Connection, params};

#[derive(Debug)]
pub(super) struct Packed {
    recent: Recent,
    keys: Keys,
    building: Building,
    /// Of the group's receipts those that no route took: number and origin.
    unrouted: Vec<(i64, i64)>,
    log: Arc<Contents>,
}

impl Packed {
    pub(super) fn load(
        connection: &Connection,
        log: &Arc<Contents>,
        bounds: MemoryBounds,
        indexed: Indexed,
    ) -> Result<Self, Fault> {
        Ok(Self {
            recent: Recent::new(bounds.recent_bytes_max),
            keys: Keys::load(connection, bounds.keys_max, indexed)?,
            building: Building::default(),
            unrouted: Vec::new(),
            log: Arc::clone(log),
        })
    }
}

impl Receipts for Packed {
    fn get(&self, connection: &Connection, seq: i64, body: Body) -> Result<Option<Arc<Receipt>>, Fault> {
        if let Some(receipt) = self.recent.get(seq) {
            return Ok(Some(Arc::clone(receipt)));
        }
        Ok(pieces::get(connection, &self.log, seq, body)?.map(Arc::new))
    }

    fn find(&self, connection: &Connection, ids: &[ReceiptId]) -> Result<Vec<i64>, Fault> {
        let find = |id: &ReceiptId| self.keys.receipt(connection, *id).transpose();
        ids.iter().filter_map(find).collect()
    }

    fn newest_of_subjects(&self, connection: &Connection, subjects: &[SubjectKey]) -> Result<Vec<i64>, Fault> {
        let find = |key| self.keys.subject(connection, key).transpose();
        let found = subjects.iter().filter_map(find);
        found.map(|state| Ok(state?.newest)).collect()
    }

    fn newest(
        &self,
        connection: &Connection,
        tenant: &TenantName,
        before: i64,
        receipts_max: usize,
    ) -> Result<Vec<i64>, Fault> {
        pieces::newest(connection, &self.log, tenant, before, receipts_max)
    }

    fn subject(&self, connection: &Connection, key: &SubjectKey) -> Result<Option<SubjectState>, Fault> {
        self.keys.subject(connection, key)
    }

    fn not_accepted(&self) -> &'static str {
        pieces::NOT_ACCEPTED
    }

    fn head(&self, connection: &Connection) -> Result<ChainHead, Fault> {
        pieces::head(connection, &self.log)
    }
}

impl ReceiptsWriter for Packed {
    fn existing(&self, connection: &Connection, id: ReceiptId) -> Result<Option<(i64, Digest)>, Fault> {
        let Some(seq) = self.keys.receipt(connection, id)? else {
            return Ok(None);
        };
        let digest = match self.recent.get(seq) {
            Some(receipt) => receipt.body_commitment,
            None => pieces::body_commitment(connection, &self.log, seq)?,
        };
        Ok(Some((seq, digest)))
    }

    /// Remembers the piece that holds it.
    fn read_ahead(&mut self, connection: &Connection, seq: i64) -> Result<(), Fault> {
        if self.recent.get(seq).is_none() {
            let piece = pieces::piece_of(connection, &self.log, seq)?;
            self.recent.older = piece.into_iter().map(Arc::new).collect();
        }
        Ok(())
    }

    fn append(
        &mut self,
        connection: &Connection,
        receipt: Receipt,
        origin: i64,
        moved: Option<Moved>,
    ) -> Result<(), Fault> {
        let moved = moved.map(|moved| (moved.key, moved.state.status));
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

    fn move_subject(&mut self, _connection: &Connection, moved: Moved) -> Result<(), Fault> {
        self.keys.move_subject(moved.key, moved.state)
    }

    fn unrouted(&mut self) -> Option<&mut Vec<(i64, i64)>> {
        Some(&mut self.unrouted)
    }

    fn gathered(&self) -> (Vec<&[u8]>, &[Bytes]) {
        (self.building.facts(), self.building.bodies())
    }

    fn write(&mut self, connection: &Connection, index: &Connection, facts_at: u64) -> Result<(), Fault> {
        self.building.write(connection, facts_at)?;
        unrouted::insert(connection, &self.unrouted)?;
        // A position comes only once, so it numbers what the keys keep of this group.
        self.keys.write(connection, index, signed(facts_at))
    }

    fn kept(&mut self) {
        self.building.clear();
        self.unrouted.clear();
        self.keys.kept();
        self.recent.kept();
    }

    fn rolled_back(&mut self) {
        self.building.clear();
        self.unrouted.clear();
        self.keys.rolled_back();
        self.recent.rolled_back();
    }

    fn close(&mut self) {
        self.keys.close();
    }
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
    /// An older piece, unpacked: claims come in the order of receipts, so the next is likely to be in the same.
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
