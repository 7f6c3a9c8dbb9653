//! What a store holds, in the parts in which it is copied: receipts, subjects, and every other table, row by row in the order of its key.
//!
//! Which tables and columns there are is read off the schema itself, so that one that is added later is copied as well. What a native store's
//! index has for itself is left out: the other side makes it anew.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tollgate_core::commitment::body_commitment;
use tollgate_core::ids::Digest;
use tollgate_core::secret::Secret;

use crate::sql::{ToSql, Value, ValueRef};
use crate::statements::fault::Fault;
use crate::statements::head::{ChainHead, read_chain_head};
use crate::statements::receipts::{self, Moved, Near, Receipt, SubjectKey, SubjectState, View};
use crate::statements::schema::MIGRATIONS;
use crate::statements::transaction::Transaction;

/// Tables that are no part of what a store holds: what each says of itself, and what a native store finds its receipts with.
const LEFT_OUT: [&str; 6] = [
    "meta",
    "chain_heads",
    "pieces",
    "receipt_keys",
    "recent",
    "not_accepted",
];
/// The same of a column.
const LEFT_OUT_COLUMN: (&str, &str) = ("origins", "newest");
/// Rows of one statement: a server is asked less often.
const ROWS_PER_INSERT: usize = 16;
/// Receipts that are copied at once at most, and about how many bytes of bodies.
const RECEIPTS_MAX: usize = 256;
const BODY_BYTES: usize = 8 * 1024 * 1024;
/// Subjects that are copied at once at most. A native store looks through its newest keys for each such piece.
const SUBJECTS_MAX: usize = 8 * 1024;

/// A part of a store.
#[derive(Debug)]
pub(super) enum Part {
    Receipts,
    Subjects,
    Table(Table),
}

#[derive(Debug)]
pub(super) struct Table {
    name: String,
    columns: Vec<String>,
    /// Where in a row its key stands.
    key: Vec<usize>,
}

/// Every part, in an order in which what is referred to comes first.
pub(super) fn all() -> Result<Vec<Arc<Part>>, Fault> {
    let schema = rusqlite::Connection::open_in_memory()?;
    for step in MIGRATIONS {
        schema.execute_batch(step)?;
    }
    let names = schema
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<Vec<String>, _>>()?;
    let mut parts = Vec::new();
    for name in names.into_iter().filter(|name| !LEFT_OUT.contains(&name.as_str())) {
        parts.push(Arc::new(match name.as_str() {
            "receipts" => Part::Receipts,
            "subjects" => Part::Subjects,
            _ => Part::Table(Table::of(&schema, name)?),
        }));
    }
    // Receipts name their origins.
    parts.sort_by_key(|part| match part.name() {
        "origins" => 0,
        "receipts" => 1,
        "subjects" => 2,
        _ => 3,
    });
    Ok(parts)
}

impl Table {
    fn of(schema: &rusqlite::Connection, name: String) -> Result<Self, Fault> {
        let found = schema
            .prepare(&format!("PRAGMA table_info({name})"))?
            .query_map([], |row| Ok((row.get(1)?, row.get(5)?)))?
            .collect::<Result<Vec<(String, i64)>, _>>()?;
        let (mut columns, mut key) = (Vec::new(), Vec::new());
        for (column, of_key) in found {
            if (name.as_str(), column.as_str()) == LEFT_OUT_COLUMN {
                continue;
            }
            if of_key > 0 {
                key.push((of_key, columns.len()));
            }
            columns.push(column);
        }
        key.sort_unstable();
        if key.is_empty() {
            return Err(Fault::damaged("schema", format_args!("the table {name} has no key")));
        }
        let key = key.into_iter().map(|(_, at)| at).collect();
        Ok(Self { name, columns, key })
    }

    /// So few that a piece of them fits into memory, whatever they hold.
    fn rows_max(&self) -> usize {
        match self.name.as_str() {
            "components" => 1,
            "deliveries" => 4,
            "shadow_runs" => 16,
            "plugin_state" | "run_reads" | "state_edits" => 64,
            _ => 512,
        }
    }

    fn keys(&self) -> String {
        let names: Vec<&str> = self.key.iter().map(|at| self.columns[*at].as_str()).collect();
        names.join(", ")
    }

    fn read(&self, view: View<'_>, after: Option<&[Value]>) -> Result<Vec<Vec<Value>>, Fault> {
        let keys = self.keys();
        let places: Vec<String> = (1..=self.key.len()).map(|number| format!("?{number}")).collect();
        let (behind, limit) = match after {
            Some(_) => (format!(" WHERE ({keys}) > ({})", places.join(", ")), self.key.len() + 1),
            None => (String::new(), 1),
        };
        let sql = format!(
            "SELECT {} FROM {}{behind} ORDER BY {keys} LIMIT ?{limit}",
            self.columns.join(", "),
            self.name
        );
        let rows_max = i64::try_from(self.rows_max()).unwrap_or(i64::MAX);
        let after: Vec<ValueRef<'_>> = after.unwrap_or_default().iter().map(ValueRef::from).collect();
        let mut parameters: Vec<&dyn ToSql> = after.iter().map(|value| value as &dyn ToSql).collect();
        parameters.push(&rows_max);
        let mut statement = view.prepare_cached(&sql)?;
        let mut found = statement.query(&parameters[..])?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            let values = (0..self.columns.len()).map(|at| Ok(Value::from(row.get_ref(at)?)));
            rows.push(values.collect::<Result<_, Fault>>()?);
        }
        Ok(rows)
    }

    fn insert(&self, transaction: &Transaction<'_>, rows: &[Vec<Value>]) -> Result<(), Fault> {
        let mut number = 0;
        let places: Vec<String> = rows
            .iter()
            .map(|row| {
                let places: Vec<String> = row
                    .iter()
                    .map(|_| {
                        number += 1;
                        format!("?{number}")
                    })
                    .collect();
                format!("({})", places.join(", "))
            })
            .collect();
        let sql = format!(
            "INSERT INTO {} ({}) VALUES {}",
            self.name,
            self.columns.join(", "),
            places.join(", ")
        );
        let values: Vec<ValueRef<'_>> = rows.iter().flatten().map(ValueRef::from).collect();
        let parameters: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
        transaction.connection.prepare_cached(&sql)?.execute(&parameters[..])?;
        Ok(())
    }
}

impl Part {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Receipts => "receipts",
            Self::Subjects => "subjects",
            Self::Table(table) => &table.name,
        }
    }

    /// About how many items it has, for whoever watches. Of a native store's subjects some may not be counted.
    pub(super) fn count(&self, view: View<'_>) -> Result<u64, Fault> {
        let count = match self {
            Self::Receipts => read_chain_head(view.connection)?.seq,
            _ => view.query_row(&format!("SELECT count(*) FROM {}", self.name()), [], |row| row.get(0))?,
        };
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Whether a new store could have what is in it.
    pub(super) fn is_new(&self, view: View<'_>) -> Result<bool, Fault> {
        let condition = match self.name() {
            "redelivered_in_all" => " WHERE count <> 0",
            _ => "",
        };
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {}{condition})", self.name());
        Ok(!view.query_row(&sql, [], |row| row.get::<_, bool>(0))? && read_chain_head(view.connection)?.seq == 0)
    }

    /// The items behind `after`, which is the last that was read; none at the end.
    pub(super) fn read(&self, view: View<'_>, after: Option<&Key>) -> Result<Items, Fault> {
        Ok(match (self, after) {
            (Self::Table(table), None) => Items::Rows(table.read(view, None)?),
            (Self::Table(table), Some(Key::Row(key))) => Items::Rows(table.read(view, Some(key))?),
            (Self::Receipts, None) => Items::Receipts(read_receipts(view, 0)?),
            (Self::Receipts, Some(Key::Receipt(seq))) => Items::Receipts(read_receipts(view, *seq)?),
            (Self::Subjects, None) => Items::Subjects(receipts::subjects(view, None, SUBJECTS_MAX)?),
            (Self::Subjects, Some(Key::Subject(key))) => {
                Items::Subjects(receipts::subjects(view, Some(key), SUBJECTS_MAX)?)
            }
            _ => return Err(Fault::damaged(self.name(), "another part's key")),
        })
    }

    /// Adds items of another store. What is written for them is what an admission, or whoever else makes such rows, writes.
    pub(super) fn write(&self, transaction: &mut Transaction<'_>, items: &Items) -> Result<(), Fault> {
        match (self, items) {
            (Self::Table(table), Items::Rows(rows)) => rows
                .chunks(ROWS_PER_INSERT)
                .try_for_each(|rows| table.insert(transaction, rows)),
            (Self::Receipts, Items::Receipts(receipts)) => receipts
                .iter()
                .try_for_each(|receipt| append(transaction, Receipt::clone(receipt))),
            (Self::Subjects, Items::Subjects(subjects)) => subjects.iter().try_for_each(|(key, state)| {
                let moved = Moved {
                    key: *key,
                    state: state.clone(),
                    is_new: true,
                };
                let receipts = &mut transaction.memory.receipts;
                receipts.move_subject(transaction.connection, moved)
            }),
            _ => Err(Fault::damaged(self.name(), "another part's items")),
        }
    }

    /// Where an item stands.
    fn key(&self, items: &Items) -> Option<Key> {
        match (self, items) {
            (Self::Table(table), Items::Rows(rows)) => {
                let last = rows.last()?;
                Some(Key::Row(table.key.iter().map(|at| last[*at].clone()).collect()))
            }
            (_, Items::Receipts(receipts)) => Some(Key::Receipt(receipts.last()?.seq)),
            (_, Items::Subjects(subjects)) => Some(Key::Subject(subjects.last()?.0)),
            _ => None,
        }
    }
}

fn read_receipts(view: View<'_>, after: i64) -> Result<Vec<Arc<Receipt>>, Fault> {
    let head = read_chain_head(view.connection)?.seq;
    let (mut near, mut found, mut bytes) = (Near::default(), Vec::new(), 0);
    for seq in after + 1..=head {
        let receipt = near.get(view, seq)?;
        bytes += receipt.body_bytes;
        found.push(receipt);
        if found.len() == RECEIPTS_MAX || bytes >= BODY_BYTES {
            break;
        }
    }
    Ok(found)
}

/// Adds a receipt behind the newest. Its link, and what it says of those before it, are its own already.
fn append(transaction: &mut Transaction<'_>, receipt: Receipt) -> Result<(), Fault> {
    let event = &receipt.event;
    let origin = transaction.origin(&event.tenant, &event.source, event.reading.family())?;
    let head = ChainHead {
        seq: receipt.seq,
        link: receipt.link,
    };
    // No job of it is claimed before the copy is over.
    let receipt = Receipt {
        has_jobs: false,
        ..receipt
    };
    let receipts = &mut transaction.memory.receipts;
    receipts.append(transaction.connection, receipt, origin, None)?;
    transaction.memory.head = head;
    Ok(())
}

/// The last item that was read of a part.
#[derive(Debug, Clone)]
pub(super) enum Key {
    Row(Vec<Value>),
    Receipt(i64),
    Subject(SubjectKey),
}

/// A piece of a part, in its order.
#[derive(Debug)]
pub(super) enum Items {
    Rows(Vec<Vec<Value>>),
    Receipts(Vec<Arc<Receipt>>),
    Subjects(Vec<(SubjectKey, SubjectState)>),
}

impl Items {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.len(),
            Self::Receipts(receipts) => receipts.len(),
            Self::Subjects(subjects) => subjects.len(),
        }
    }

    /// Behind the last of them the next are read.
    pub(super) fn last(&self, part: &Part) -> Option<Key> {
        part.key(self)
    }

    /// Without the first of them.
    pub(super) fn behind(self, count: usize) -> Self {
        match self {
            Self::Rows(rows) => Self::Rows(rows.into_iter().skip(count).collect()),
            Self::Receipts(receipts) => Self::Receipts(receipts.into_iter().skip(count).collect()),
            Self::Subjects(subjects) => Self::Subjects(subjects.into_iter().skip(count).collect()),
        }
    }

    /// Makes of each text what a store keeps that has no NUL in texts. Returns how many it changed.
    pub(super) fn without_nul(&mut self) -> u64 {
        let Self::Rows(rows) = self else { return 0 };
        let mut changed = 0;
        for value in rows.iter_mut().flatten() {
            if let Value::Text(text) = value
                && text.contains('\0')
            {
                *text = text.replace('\0', "\u{fffd}");
                changed += 1;
            }
        }
        changed
    }

    /// Adds `range` of them to what was counted so far.
    pub(super) fn tally(&self, range: std::ops::Range<usize>, key: &Secret, tally: &mut Tally) {
        for at in range {
            match self {
                Self::Rows(rows) => tally.add(rows[at].iter().map(ValueRef::from)),
                Self::Receipts(receipts) => tally.add_receipt(&receipts[at], key),
                Self::Subjects(subjects) => {
                    let (key, state) = &subjects[at];
                    let status = state.status.as_ref().map(|status| status.as_str());
                    tally.add([key.as_slice().to_sql(), status.to_sql(), state.newest.to_sql()].into_iter());
                }
            }
        }
    }
}

/// How many items of a part there are up to one, and a digest of all of them: SHA-256 of the digest before it and the item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) rows: u64,
    pub(super) digest: Digest,
}

impl Tally {
    pub(super) const NONE: Self = Self {
        rows: 0,
        digest: Digest([0; 32]),
    };

    fn add<'v>(&mut self, values: impl Iterator<Item = ValueRef<'v>>) {
        let mut hash = Sha256::new();
        hash.update(self.digest.0);
        let mut piece = |kind: u8, bytes: &[u8]| {
            hash.update([kind]);
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        for value in values {
            match value {
                ValueRef::Null => piece(0, &[]),
                ValueRef::Integer(number) => piece(1, &number.to_le_bytes()),
                ValueRef::Real(number) => piece(2, &number.to_le_bytes()),
                ValueRef::Text(text) => piece(3, text.as_bytes()),
                ValueRef::Blob(bytes) => piece(4, bytes),
            }
        }
        self.rows += 1;
        self.digest = Digest(hash.finalize().into());
    }

    /// All that a receipt says, where it stands, and its body, by what it is committed to with: a bare digest would confirm a guess of it.
    fn add_receipt(&mut self, receipt: &Receipt, key: &Secret) {
        let facts = receipt.digest();
        let body = body_commitment(key, &receipt.event.tenant, &receipt.event.payload);
        self.add(
            [
                receipt.seq.to_sql(),
                receipt.previous.to_sql(),
                facts.0.as_slice().to_sql(),
                body.0.as_slice().to_sql(),
                receipt.link.0.as_slice().to_sql(),
            ]
            .into_iter(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_of_the_schema_is_copied_or_left_out_by_name() {
        let parts = all().unwrap();
        let names: Vec<&str> = parts.iter().map(|part| part.name()).collect();
        assert_eq!(names[..3], ["origins", "receipts", "subjects"]);
        for name in [
            "jobs",
            "runs",
            "actions",
            "outbox",
            "attempts",
            "tokens",
            "components",
            "reviews",
        ] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        for name in LEFT_OUT {
            assert!(!names.contains(&name), "{name}");
        }
        let origins = parts.iter().find_map(|part| match &**part {
            Part::Table(table) if table.name == "origins" => Some(table),
            _ => None,
        });
        assert_eq!(origins.unwrap().columns, ["id", "tenant", "source", "family"]);
    }

    #[test]
    fn a_tally_tells_values_of_other_kinds_and_orders_apart() {
        let tally = |values: &[&[ValueRef<'_>]]| {
            let mut tally = Tally::NONE;
            values.iter().for_each(|row| tally.add(row.iter().copied()));
            tally
        };
        use ValueRef::{Blob, Integer, Null, Text};
        let all = [
            tally(&[]),
            tally(&[&[Null]]),
            tally(&[&[Integer(0)]]),
            tally(&[&[Text("")]]),
            tally(&[&[Blob(b"")]]),
            tally(&[&[Text("ab"), Text("c")]]),
            tally(&[&[Text("a"), Text("bc")]]),
            tally(&[&[Text("a")], &[Text("b")]]),
            tally(&[&[Text("b")], &[Text("a")]]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| other != one), "{at}");
        }
    }
}
