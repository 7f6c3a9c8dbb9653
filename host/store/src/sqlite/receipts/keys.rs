//! The keys of receipts of the log: from a receipt's id to its number, and from a subject to its status and newest receipt.
//!
//! Keys are hashes, so each would land on a random page of its index, and that page would be written for this one key. So new
//! keys wait in memory, where they are looked up first; each commit appends its own to `recent`, from which a restart reads
//! them again. When enough wait they are sorted, and the commits that follow carry them into the indexes in key order, a
//! slice each: then many keys share a page.
//!
//! `recent` holds what the indexes may lack, exactly: its rows go in the transaction that carries the last of their keys. How
//! far a load has come is durable too: processes that end before a load is through would else begin it again for ever. What is carried,
//! and how far, is in no record of the log: an index that is made again carries its keys by itself.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Serialize};
use tollgate_core::ids::{ReceiptId, Status, TenantName};

use super::super::fault::Fault;
use super::super::rows::disposition_codes;
use super::filter::Indexed;
use super::{Receipt, SubjectKey, SubjectState, rows};
use crate::sql::{Connection, OptionalExtension as _, params};

/// Keys that a commit carries into the indexes for each receipt that it admits: more than come, so that one load is through
/// before the next is full.
const CARRIED_PER_RECEIPT: usize = 4;
/// And at least so many, so that a load gets through when few receipts come.
const CARRIED_MIN: usize = 32;

/// One step, as `recent` has it. The order of variants and fields is the format.
#[derive(Debug, Serialize, Deserialize)]
enum Entry<'a> {
    /// The next receipt.
    Receipt {
        id: [u8; 16],
        origin: i64,
        /// The subject, and the status that it has now.
        #[serde(borrow)]
        subject: Option<(SubjectKey, Option<&'a str>)>,
    },
    /// A subject whose status was changed without a receipt.
    Subject {
        key: SubjectKey,
        status: Option<&'a str>,
        newest: i64,
    },
}

/// A map whose keys begin with a keyed hash's bytes: hashing them again would add nothing.
type KeyMap<V> = HashMap<[u8; 16], V, BuildHasherDefault<FirstBytes>>;

#[derive(Debug, Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    /// The length of the array, which every key shares.
    fn write_usize(&mut self, _: usize) {}
}

/// Keys in memory.
#[derive(Debug, Default)]
struct Table {
    receipts: KeyMap<i64>,
    subjects: KeyMap<SubjectState>,
}

/// Keys on their way into the indexes.
#[derive(Debug)]
struct Load {
    table: Table,
    /// In key order.
    receipts: Vec<[u8; 16]>,
    subjects: Vec<SubjectKey>,
    /// Rows of `recent` up to this one say nothing that is not in the load or in the indexes.
    through: i64,
    /// How many keys are carried: by what is committed, and by the transaction under way.
    carried: usize,
    carrying: usize,
}

impl Table {
    /// Adds what an entry says; `seq` is the entry's own receipt.
    fn take(&mut self, seq: i64, entry: &Entry<'_>) -> Result<(), Fault> {
        if let Entry::Receipt { id, .. } = entry {
            self.receipts.insert(*id, seq);
        }
        if let Some((key, status, newest)) = entry.subject(seq) {
            self.subjects.insert(key, state(status, newest)?);
        }
        Ok(())
    }

    fn is_full(&self, receipts_max: usize) -> bool {
        // Reviews bring subjects without receipts.
        receipts_max > 0 && self.receipts.len().max(self.subjects.len()) >= receipts_max
    }
}

impl Load {
    fn new(table: Table, through: i64) -> Self {
        let sorted = |mut keys: Vec<[u8; 16]>| {
            keys.sort_unstable();
            keys
        };
        Self {
            receipts: sorted(table.receipts.keys().copied().collect()),
            subjects: sorted(table.subjects.keys().copied().collect()),
            table,
            through,
            carried: 0,
            carrying: 0,
        }
    }

    fn len(&self) -> usize {
        self.receipts.len() + self.subjects.len()
    }
}

/// What undoes one step of a transaction.
#[derive(Debug)]
enum Undo {
    Receipt([u8; 16]),
    Subject(SubjectKey, Option<SubjectState>),
    Origin(i64, Option<i64>),
}

/// The writer's keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    active: Table,
    load: Option<Load>,
    /// Of every key that is in the indexes or on its way there.
    indexed: Indexed,
    /// Each origin's newest receipt.
    origins: HashMap<i64, i64>,
    /// Receipts or subjects in `active` from which on it becomes a load.
    receipts_max: usize,
    /// Of the transaction under way.
    undo: Vec<Undo>,
    entries: Vec<u8>,
    first: i64,
    receipts: usize,
    /// The newest row of `recent`, in the file and with the transaction under way.
    committed: i64,
    newest: i64,
}

impl Keys {
    /// Reads what the indexes lack. `indexed` is of what the connection sees.
    pub(super) fn load(connection: &Connection, receipts_max: usize, indexed: Indexed) -> Result<Self, Fault> {
        let mut keys = Self {
            receipts_max: receipts_max.max(1),
            indexed,
            ..Self::default()
        };
        let mut statement = connection.prepare_cached("SELECT id, newest FROM origins WHERE newest IS NOT NULL")?;
        let mut origins = statement.query([])?;
        while let Some(row) = origins.next()? {
            keys.origins.insert(row.get(0)?, row.get(1)?);
        }
        keys.committed = each_recent(connection, |_, _, _| Ok(()))?;
        // Without progress, and when that load is through, no row belongs to it.
        let (through, carried) = read_progress(connection)?;
        let mut table = Table::default();
        each_recent(connection, |row, seq, entry| {
            if let Entry::Receipt { origin, .. } = entry {
                keys.origins.insert(*origin, seq);
            }
            if row <= through { &mut table } else { &mut keys.active }.take(seq, entry)
        })?;
        if !(table.receipts.is_empty() && table.subjects.is_empty()) {
            let mut load = Load::new(table, through);
            if carried >= load.len() {
                let detail = format_args!("{carried} of {} are carried", load.len());
                return Err(Fault::damaged("recent keys", detail));
            }
            load.carried = carried;
            load.carrying = load.carried;
            keys.expect_in_indexes(&load);
            keys.load = Some(load);
        }
        keys.newest = keys.committed;
        keys.begin_load_if_full();
        Ok(keys)
    }

    pub(super) fn receipt(&self, connection: &Connection, id: ReceiptId) -> Result<Option<i64>, Fault> {
        let waiting = self.active.receipts.get(&id.0);
        match waiting.or_else(|| self.load.as_ref()?.table.receipts.get(&id.0)) {
            Some(seq) => Ok(Some(*seq)),
            None if self.indexed.surely_lacks(&id.0) => Ok(None),
            None => indexed_receipt(connection, id),
        }
    }

    pub(super) fn subject(&self, connection: &Connection, key: &SubjectKey) -> Result<Option<SubjectState>, Fault> {
        let waiting = self.active.subjects.get(key);
        match waiting.or_else(|| self.load.as_ref()?.table.subjects.get(key)) {
            Some(state) => Ok(Some(state.clone())),
            None if self.indexed.surely_lacks(key) => Ok(None),
            None => rows::subject(connection, key),
        }
    }

    /// What is on its way counts as indexed from the start: a key that is not there yet is then asked for in vain, no more.
    fn expect_in_indexes(&mut self, load: &Load) {
        self.indexed.expect(load.receipts.iter().chain(&load.subjects));
    }

    /// Ends what is read of the indexes beside.
    pub(super) fn close(&mut self) {
        self.indexed = Indexed::Unknown;
    }

    /// Adds a receipt's keys; answers its origin's receipt before it.
    pub(super) fn append(
        &mut self,
        seq: i64,
        id: ReceiptId,
        origin: i64,
        subject: Option<(SubjectKey, Option<Status>)>,
    ) -> Result<Option<i64>, Fault> {
        self.note(&Entry::Receipt {
            id: id.0,
            origin,
            subject: subject
                .as_ref()
                .map(|(key, status)| (*key, status.as_ref().map(|status| status.as_str()))),
        })?;
        if self.receipts == 0 {
            self.first = seq;
        }
        self.receipts += 1;
        self.active.receipts.insert(id.0, seq);
        self.undo.push(Undo::Receipt(id.0));
        if let Some((key, status)) = subject {
            let before = self.active.subjects.insert(key, SubjectState { status, newest: seq });
            self.undo.push(Undo::Subject(key, before));
        }
        let before = self.origins.insert(origin, seq);
        self.undo.push(Undo::Origin(origin, before));
        Ok(before)
    }

    /// Changes a subject without a receipt.
    pub(super) fn move_subject(&mut self, key: SubjectKey, state: SubjectState) -> Result<(), Fault> {
        self.note(&Entry::Subject {
            key,
            status: state.status.as_ref().map(|status| status.as_str()),
            newest: state.newest,
        })?;
        let before = self.active.subjects.insert(key, state);
        self.undo.push(Undo::Subject(key, before));
        Ok(())
    }

    fn note(&mut self, entry: &Entry<'_>) -> Result<(), Fault> {
        self.entries = postcard::to_extend(entry, std::mem::take(&mut self.entries))
            .map_err(|error| Fault::damaged("a key to be written", error))?;
        Ok(())
    }

    /// Writes the group's entries, in the row of a number that only grows, and carries a slice of the load.
    pub(super) fn write(&mut self, connection: &Connection, index: &Connection, row: i64) -> Result<(), Fault> {
        if self.entries.is_empty() {
            return Ok(());
        }
        if let Some(load) = &mut self.load {
            let keys = (self.receipts * CARRIED_PER_RECEIPT).max(CARRIED_MIN);
            load.carrying = (load.carried + keys).min(load.len());
            load.carry(index)?;
            if load.carrying == load.len() {
                load.finish(index, &self.origins)?;
                write_progress(index, 0, 0)?;
            } else {
                write_progress(index, load.through, load.carrying)?;
            }
        }
        self.newest = row;
        connection
            .prepare_cached("INSERT INTO recent (id, first, entries) VALUES (?1, ?2, ?3)")?
            .execute(params![self.newest, self.first, self.entries])?;
        Ok(())
    }

    pub(super) fn kept(&mut self) {
        self.undo.clear();
        self.committed = self.newest;
        self.forget_transaction();
        if let Some(load) = &mut self.load {
            load.carried = load.carrying;
        }
        self.load.take_if(|load| load.carried == load.len());
        self.indexed.look();
        self.begin_load_if_full();
    }

    fn begin_load_if_full(&mut self) {
        if self.load.is_none() && self.active.is_full(self.receipts_max) {
            let load = Load::new(std::mem::take(&mut self.active), self.committed);
            self.expect_in_indexes(&load);
            self.load = Some(load);
        }
    }

    pub(super) fn rolled_back(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Receipt(id) => {
                    self.active.receipts.remove(&id);
                }
                Undo::Subject(key, before) => restore(&mut self.active.subjects, key, before),
                Undo::Origin(origin, before) => restore(&mut self.origins, origin, before),
            }
        }
        self.forget_transaction();
        if let Some(load) = &mut self.load {
            load.carrying = load.carried;
        }
    }

    fn forget_transaction(&mut self) {
        self.entries.clear();
        self.receipts = 0;
        self.newest = self.committed;
    }
}

fn restore<K: Eq + std::hash::Hash, V, S: std::hash::BuildHasher>(
    map: &mut HashMap<K, V, S>,
    key: K,
    before: Option<V>,
) {
    match before {
        Some(before) => map.insert(key, before),
        None => map.remove(&key),
    };
}

impl Load {
    /// Carries the keys between `carried` and `carrying`: receipts first, then subjects.
    fn carry(&self, connection: &Connection) -> Result<(), Fault> {
        let receipts = self.receipts.len();
        let range = |keys: usize, before: usize| {
            let at = |carried: usize| carried.saturating_sub(before).min(keys);
            at(self.carried)..at(self.carrying)
        };
        let mut statement =
            connection.prepare_cached("INSERT OR REPLACE INTO receipt_keys (id, seq) VALUES (?1, ?2)")?;
        for id in &self.receipts[range(receipts, 0)] {
            if let Some(seq) = self.table.receipts.get(id) {
                statement.execute(params![id.as_slice(), seq])?;
            }
        }
        let mut statement =
            connection.prepare_cached("INSERT OR REPLACE INTO subjects (key, status, newest) VALUES (?1, ?2, ?3)")?;
        for key in &self.subjects[range(self.subjects.len(), receipts)] {
            if let Some(state) = self.table.subjects.get(key) {
                let status = state.status.as_ref().map(|status| status.as_str());
                statement.execute(params![key.as_slice(), status, state.newest])?;
            }
        }
        Ok(())
    }

    /// With the last key, what `recent` says of the load's receipts has its place elsewhere.
    fn finish(&self, connection: &Connection, origins: &HashMap<i64, i64>) -> Result<(), Fault> {
        connection
            .prepare_cached("DELETE FROM recent WHERE id <= ?1")?
            .execute([self.through])?;
        // Newer than the load, perhaps; what is still in `recent` says so as well.
        let mut statement = connection.prepare_cached("UPDATE origins SET newest = ?2 WHERE id = ?1")?;
        for (origin, newest) in origins {
            statement.execute(params![origin, newest])?;
        }
        Ok(())
    }
}

/// How far the load of the rows of `recent` up to one has come: that row, and how many of the load's keys are in the indexes.
fn read_progress(connection: &Connection) -> Result<(i64, usize), Fault> {
    let found: Option<Vec<u8>> = connection
        .query_row("SELECT value FROM meta WHERE name = 'keys_carried'", [], |row| {
            row.get(0)
        })
        .optional()?;
    match found.as_deref().map(postcard::from_bytes) {
        None => Ok((0, 0)),
        Some(Ok(progress)) => Ok(progress),
        Some(Err(error)) => Err(Fault::damaged("recent keys", error)),
    }
}

fn write_progress(connection: &Connection, through: i64, keys: usize) -> Result<(), Fault> {
    let progress = postcard::to_extend(&(through, keys), Vec::new());
    let progress = progress.map_err(|error| Fault::damaged("recent keys", error))?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES ('keys_carried', ?1)")?
        .execute(params![progress])?;
    Ok(())
}

/// Carries every key that waits into the indexes, inside a transaction.
pub(super) fn carry_all(connection: &Connection) -> Result<(), Fault> {
    let keys = Keys::load(connection, usize::MAX, Indexed::Unknown)?;
    let rest = Load::new(keys.active, keys.committed);
    for mut load in keys.load.into_iter().chain([rest]) {
        load.carrying = load.len();
        load.carry(connection)?;
        load.finish(connection, &keys.origins)?;
    }
    write_progress(connection, 0, 0)
}

fn state(status: Option<&str>, newest: i64) -> Result<SubjectState, Fault> {
    let status = status
        .map(|status| {
            status
                .parse::<Status>()
                .map_err(|error| Fault::damaged("a recent subject's status", error))
        })
        .transpose()?;
    Ok(SubjectState { status, newest })
}

pub(super) fn indexed_receipt(connection: &Connection, id: ReceiptId) -> Result<Option<i64>, Fault> {
    Ok(connection
        .prepare_cached("SELECT seq FROM receipt_keys WHERE id = ?1")?
        .query_row([id.0.as_slice()], |row| row.get(0))
        .optional()?)
}

impl Entry<'_> {
    /// The subject that it moves, with its status and its newest receipt; `seq` is the entry's own receipt.
    fn subject(&self, seq: i64) -> Option<(SubjectKey, Option<&str>, i64)> {
        match *self {
            Self::Receipt { subject, .. } => subject.map(|(key, status)| (key, status, seq)),
            Self::Subject { key, status, newest } => Some((key, status, newest)),
        }
    }
}

/// Reads `recent` in the order of what happened: each entry with its row and, for a receipt, its number. Returns the newest row,
/// 0 if there is none.
fn each_recent(
    connection: &Connection,
    mut each: impl FnMut(i64, i64, &Entry<'_>) -> Result<(), Fault>,
) -> Result<i64, Fault> {
    let mut statement = connection.prepare_cached("SELECT id, first, entries FROM recent ORDER BY id")?;
    let mut found = statement.query([])?;
    let mut newest = 0;
    while let Some(row) = found.next()? {
        newest = row.get(0)?;
        let mut seq: i64 = row.get(1)?;
        let mut rest = row
            .get_ref(2)?
            .as_blob()
            .map_err(|error| Fault::damaged("recent keys", error))?;
        while !rest.is_empty() {
            let (entry, after) = postcard::take_from_bytes::<Entry<'_>>(rest)
                .map_err(|error| Fault::damaged("recent keys", format_args!("of receipt {seq}: {error}")))?;
            each(newest, seq, &entry)?;
            if matches!(entry, Entry::Receipt { .. }) {
                seq += 1;
            }
            rest = after;
        }
    }
    Ok(newest)
}

/// For readers, who have no memory of their own: one pass over `recent`, then the index.
pub(super) fn find_receipts(connection: &Connection, ids: &[ReceiptId]) -> Result<Vec<i64>, Fault> {
    let mut wanted: KeyMap<()> = ids.iter().map(|id| (id.0, ())).collect();
    let mut found = Vec::new();
    each_recent(connection, |_, seq, entry| {
        if let Entry::Receipt { id, .. } = entry
            && wanted.remove(id).is_some()
        {
            found.push(seq);
        }
        Ok(())
    })?;
    for id in wanted.keys() {
        found.extend(indexed_receipt(connection, ReceiptId(*id))?);
    }
    Ok(found)
}

/// What leads to receipts, held against them one by one: their ids, and the list of those that were not accepted.
#[derive(Debug)]
pub(in crate::sqlite) struct Ways {
    recent: KeyMap<i64>,
    /// How many ids each place has of those that were checked.
    found_recent: usize,
    found_indexed: i64,
    /// Would be admitted a second time, or be taken for another.
    lost: usize,
    not_accepted: i64,
    not_listed: usize,
}

impl Ways {
    pub(in crate::sqlite) fn new(connection: &Connection) -> Result<Self, Fault> {
        let mut recent = KeyMap::default();
        each_recent(connection, |_, seq, entry| {
            if let Entry::Receipt { id, .. } = entry {
                recent.insert(*id, seq);
            }
            Ok(())
        })?;
        Ok(Self {
            recent,
            found_recent: 0,
            found_indexed: 0,
            lost: 0,
            not_accepted: 0,
            not_listed: 0,
        })
    }

    pub(in crate::sqlite) fn check(&mut self, connection: &Connection, receipt: &Receipt) -> Result<(), Fault> {
        let places = [
            self.recent.get(&receipt.id.0).copied(),
            indexed_receipt(connection, receipt.id)?,
        ];
        self.found_recent += usize::from(places[0].is_some());
        self.found_indexed += i64::from(places[1].is_some());
        let leads_elsewhere = places.iter().flatten().any(|seq| *seq != receipt.seq);
        self.lost += usize::from(leads_elsewhere || places == [None, None]);
        if let (code @ 1.., _) = disposition_codes(&receipt.disposition) {
            self.not_accepted += 1;
            let listed: Option<i64> = connection
                .prepare_cached("SELECT disposition FROM not_accepted WHERE seq = ?1")?
                .query_row([receipt.seq], |row| row.get(0))
                .optional()?;
            self.not_listed += usize::from(listed != Some(code));
        }
        Ok(())
    }

    pub(in crate::sqlite) fn problems(&self, connection: &Connection) -> Result<Vec<String>, Fault> {
        let count = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let of_none = (self.recent.len() as i64 - self.found_recent as i64)
            + (count("SELECT count(*) FROM receipt_keys")? - self.found_indexed);
        let listed = count("SELECT count(*) FROM not_accepted")? - self.not_accepted;
        let mut problems = Vec::new();
        if self.lost > 0 {
            problems.push(format!("the ids of {} receipts do not lead to them", self.lost));
        }
        if of_none > 0 {
            // The event with such an id would be answered as a repetition, and never be kept.
            problems.push(format!("{of_none} ids are of no receipt"));
        }
        if self.not_listed > 0 || listed != 0 {
            problems.push("the list of superseded and held receipts is not what the receipts say".to_owned());
        }
        Ok(problems)
    }
}

/// What is known of those of `subjects` that exist, in no order.
pub(super) fn find_subjects(connection: &Connection, subjects: &[SubjectKey]) -> Result<Vec<SubjectState>, Fault> {
    let mut wanted: KeyMap<Option<SubjectState>> = subjects.iter().map(|key| (*key, None)).collect();
    each_recent(connection, |_, seq, entry| {
        if let Some((key, status, newest)) = entry.subject(seq)
            && let Some(found) = wanted.get_mut(&key)
        {
            *found = Some(state(status, newest)?);
        }
        Ok(())
    })?;
    let mut found = Vec::new();
    for (key, recent) in wanted {
        match recent {
            Some(state) => found.push(state),
            None => found.extend(rows::subject(connection, &key)?),
        }
    }
    Ok(found)
}

/// The subjects behind a key, or the first, in the order of their keys: those of the index, and over them what waits for it.
pub(super) fn subjects(
    connection: &Connection,
    after: Option<&SubjectKey>,
    subjects_max: usize,
) -> Result<Vec<(SubjectKey, SubjectState)>, Fault> {
    let indexed = rows::subjects(connection, after, subjects_max)?;
    // Behind the last of the index that is here, others of it may stand before what waits.
    let last = match indexed.len() == subjects_max {
        true => indexed.last().map(|(key, _)| *key),
        false => None,
    };
    let mut all: BTreeMap<SubjectKey, SubjectState> = indexed.into_iter().collect();
    each_recent(connection, |_, seq, entry| {
        if let Some((key, status, newest)) = entry.subject(seq)
            && after.is_none_or(|after| key > *after)
            && last.is_none_or(|last| key <= last)
        {
            all.insert(key, state(status, newest)?);
        }
        Ok(())
    })?;
    Ok(all.into_iter().take(subjects_max).collect())
}

/// The newest receipt of each of a tenant's origins.
pub(super) fn newest_of_origins(connection: &Connection, tenant: &TenantName) -> Result<Vec<i64>, Fault> {
    let mut origins: HashMap<i64, Option<i64>> = connection
        .prepare_cached("SELECT id, newest FROM origins WHERE tenant = ?1")?
        .query_map([tenant.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    each_recent(connection, |_, seq, entry| {
        if let Entry::Receipt { origin, .. } = entry
            && let Some(newest) = origins.get_mut(origin)
        {
            *newest = Some(seq);
        }
        Ok(())
    })?;
    Ok(origins.into_values().flatten().collect())
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    fn tables() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(include_str!("../../../migrations/0001_first.sql"))
            .unwrap();
        connection
    }

    fn id(number: i64) -> ReceiptId {
        ReceiptId(i128::from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64)).to_le_bytes())
    }

    /// What a transaction carried before it was rolled back is carried again, whatever is committed next.
    #[test]
    fn a_slice_that_was_rolled_back_is_carried_again() {
        let connection = tables();
        let mut keys = Keys::load(&connection, 64, Indexed::Unknown).unwrap();
        let mut row = 0;
        let mut commit = |keys: &mut Keys, numbers: std::ops::Range<i64>, fails: bool| {
            connection.execute_batch("BEGIN").unwrap();
            for number in numbers {
                keys.append(number, id(number), 1, Some((id(-number).0, None))).unwrap();
            }
            row += 1;
            keys.write(&connection, &connection, row).unwrap();
            if fails {
                connection.execute_batch("ROLLBACK").unwrap();
                keys.rolled_back();
            } else {
                connection.execute_batch("COMMIT").unwrap();
                keys.kept();
            }
        };
        commit(&mut keys, 1..65, false);
        commit(&mut keys, 65..71, true);
        // A commit without receipts.
        commit(&mut keys, 65..65, false);
        for number in (65..=200).step_by(5) {
            commit(&mut keys, number..number + 5, false);
        }
        let indexed: i64 = connection
            .query_row("SELECT count(*) FROM receipt_keys", [], |row| row.get(0))
            .unwrap();
        assert!(indexed >= 64, "{indexed}");
        for number in 1..=199 {
            assert_eq!(keys.receipt(&connection, id(number)).unwrap(), Some(number));
            let subject = keys.subject(&connection, &id(-number).0).unwrap().unwrap();
            assert_eq!(subject.newest, number);
        }
        assert_eq!(
            Keys::load(&connection, 64, Indexed::Unknown)
                .unwrap()
                .receipt(&connection, id(3))
                .unwrap(),
            Some(3)
        );
    }
}
