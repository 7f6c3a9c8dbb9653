//! How changes of the index stand in a record: as the statements that made them, with their values.
//!
//! A connection that records ([`Recording`]) keeps every statement that changed a row, so the index is a function of the log by
//! construction: nothing reaches it that is not in the log. Statements rather than facts of our own making, because then a binary of any
//! later version makes the same index from an old log without the old rules, and because nobody can forget to record one.
//!
//! A statement's text stands once in each segment, at its first use, and is a number from then on.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::sql::{Error, Prepared, Result as SqlResult, Rows, Sql, ToSql, ValueRef};
use crate::statements::fault::Fault;

/// What follows in a record is of this kind.
const KIND: u8 = 0;
/// The next statement's text; its number is how many came before it in its segment.
const TEXT: u8 = 1;
/// A statement by its number, and its values.
const EXECUTE: u8 = 2;

const NULL: u8 = 0;
const INTEGER: u8 = 1;
const REAL: u8 = 2;
const STRING: u8 = 3;
const BLOB: u8 = 4;

/// What changes came from, for whoever reads the log. The numbers are the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The store was made.
    Created = 0,
    /// A host opened it, and took back what the last one had leased.
    Opened = 1,
    /// Events were admitted, or delivered again.
    Admitted = 2,
    /// Jobs were leased, or a lease was extended.
    Claimed = 3,
    /// A run was recorded with its actions, its state and its job's end.
    Settled = 4,
    /// Outbox entries were leased or given back.
    Taken = 5,
    /// An attempt at a delivery was recorded.
    Attempted = 6,
    /// A person put work back, made jobs or had something sent again.
    Replayed = 7,
    /// A person decided about something that was set aside.
    Reviewed = 8,
    /// A person changed a plugin's state.
    StateEdited = 9,
    /// A version went into quarantine or came out of it.
    Quarantined = 10,
    /// A token was issued or revoked.
    TokenChanged = 11,
    /// Versions, bindings, routes, publishers' keys; routes and destinations that were paused or go on.
    RegistryChanged = 12,
    /// A shadow or a trial ran.
    Tried = 13,
    /// Something was copied from another store.
    Copied = 14,
    /// Dead letters were grouped into issues, or a person said something of one.
    Grouped = 15,
    /// A tenant's settings or one of its secrets.
    Configured = 16,
}

impl Kind {
    const ALL: [Self; 17] = [
        Self::Created,
        Self::Opened,
        Self::Admitted,
        Self::Claimed,
        Self::Settled,
        Self::Taken,
        Self::Attempted,
        Self::Replayed,
        Self::Reviewed,
        Self::StateEdited,
        Self::Quarantined,
        Self::TokenChanged,
        Self::RegistryChanged,
        Self::Tried,
        Self::Copied,
        Self::Grouped,
        Self::Configured,
    ];

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// The writer's connection: what is executed through it is kept for the log.
#[derive(Debug)]
pub(crate) struct Recording {
    connection: rusqlite::Connection,
    kept: RefCell<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Of every statement that was ever executed here.
    known: HashMap<Box<str>, usize>,
    /// By the same numbers: the text, and the number that it has in the current segment.
    texts: Vec<(Box<str>, Option<u64>)>,
    /// How many have a number, and how many of these had one before the group under way.
    numbered: u64,
    numbered_before: u64,
    bytes: Vec<u8>,
}

impl Recording {
    /// `texts` are those that the current segment holds already, in their order.
    pub(crate) fn new(connection: rusqlite::Connection, texts: &[String]) -> Self {
        let mut kept = Kept::default();
        for text in texts {
            let known = kept.know(text);
            kept.number(known);
        }
        kept.numbered_before = kept.numbered;
        Self {
            connection,
            kept: RefCell::new(kept),
        }
    }

    /// What goes into no record.
    pub(crate) fn apart(&self) -> &rusqlite::Connection {
        &self.connection
    }

    /// The same, for what needs it alone.
    pub(crate) fn apart_mut(&mut self) -> &mut rusqlite::Connection {
        &mut self.connection
    }

    /// Begins a group. In a new segment no statement has a number.
    pub(crate) fn begin(&self, is_new_segment: bool) {
        let kept = &mut *self.kept.borrow_mut();
        kept.bytes.clear();
        if is_new_segment {
            kept.texts.iter_mut().for_each(|(_, number)| *number = None);
            kept.numbered = 0;
        }
        kept.numbered_before = kept.numbered;
    }

    /// How many statements have a number in the current segment.
    pub(crate) fn numbered(&self) -> u64 {
        self.kept.borrow().numbered
    }

    /// Their texts, by their numbers.
    pub(crate) fn texts(&self) -> Vec<String> {
        let kept = self.kept.borrow();
        let mut texts: Vec<_> = kept
            .texts
            .iter()
            .filter_map(|(text, number)| Some(((*number)?, text)))
            .collect();
        texts.sort_unstable();
        texts.into_iter().map(|(_, text)| text.to_string()).collect()
    }

    /// What follows is of this kind.
    pub(crate) fn note(&self, kind: Kind) {
        self.kept.borrow_mut().bytes.extend_from_slice(&[KIND, kind as u8]);
    }

    /// Lends the changes of the group, nothing when there are none.
    pub(crate) fn with_changes<T>(&self, work: impl FnOnce(Option<&[u8]>) -> T) -> T {
        let kept = self.kept.borrow();
        work(kept.has_changes().then_some(&kept.bytes))
    }

    /// The group is not in the log: neither are the texts that it brought.
    pub(crate) fn forget(&self) {
        let kept = &mut *self.kept.borrow_mut();
        kept.bytes.clear();
        let before = kept.numbered_before;
        for (_, number) in &mut kept.texts {
            number.take_if(|number| *number >= before);
        }
        kept.numbered = before;
    }
}

impl Kept {
    fn know(&mut self, sql: &str) -> usize {
        if let Some(known) = self.known.get(sql) {
            return *known;
        }
        let known = self.texts.len();
        self.known.insert(sql.into(), known);
        self.texts.push((sql.into(), None));
        known
    }

    fn number(&mut self, known: usize) -> u64 {
        let number = self.numbered;
        self.texts[known].1 = Some(number);
        self.numbered += 1;
        number
    }

    /// Kinds alone change nothing.
    fn has_changes(&self) -> bool {
        self.bytes.chunks(2).any(|pair| pair[0] != KIND)
    }

    fn executed(&mut self, known: usize, parameters: &[&dyn ToSql]) {
        let number = match self.texts[known].1 {
            Some(number) => number,
            None => {
                self.bytes.push(TEXT);
                let text = std::mem::take(&mut self.texts[known].0);
                put_bytes(&mut self.bytes, text.as_bytes());
                self.texts[known].0 = text;
                self.number(known)
            }
        };
        self.bytes.push(EXECUTE);
        put_number(&mut self.bytes, number);
        put_number(&mut self.bytes, parameters.len() as u64);
        for parameter in parameters {
            match parameter.to_sql() {
                ValueRef::Null => self.bytes.push(NULL),
                ValueRef::Integer(number) => {
                    self.bytes.push(INTEGER);
                    // Small numbers of either sign are short.
                    put_number(&mut self.bytes, ((number << 1) ^ (number >> 63)) as u64);
                }
                ValueRef::Real(number) => {
                    self.bytes.push(REAL);
                    self.bytes.extend_from_slice(&number.to_le_bytes());
                }
                ValueRef::Text(text) => {
                    self.bytes.push(STRING);
                    put_bytes(&mut self.bytes, text.as_bytes());
                }
                ValueRef::Blob(bytes) => {
                    self.bytes.push(BLOB);
                    put_bytes(&mut self.bytes, bytes);
                }
            }
        }
    }
}

impl Sql for Recording {
    fn prepare(&self, sql: &str) -> SqlResult<Box<dyn Prepared + '_>> {
        let inner = self.connection.prepare_cached(sql)?;
        if sql.starts_with("SELECT") || inner.readonly() {
            return Ok(Box::new(inner));
        }
        let known = self.kept.borrow_mut().know(sql);
        Ok(Box::new(Recorded {
            inner,
            known,
            kept: &self.kept,
        }))
    }

    fn last_insert_rowid(&self) -> i64 {
        self.connection.last_insert_rowid()
    }
}

struct Recorded<'c> {
    inner: rusqlite::CachedStatement<'c>,
    known: usize,
    kept: &'c RefCell<Kept>,
}

impl Prepared for Recorded<'_> {
    /// What changed no row is not kept.
    fn changed(&mut self, parameters: &[&dyn ToSql]) -> SqlResult<usize> {
        let changed = Prepared::changed(&mut self.inner, parameters)?;
        if changed > 0 {
            self.kept.borrow_mut().executed(self.known, parameters);
        }
        Ok(changed)
    }

    /// # Errors
    /// Always: what a statement changes while its rows are asked for would be in no record, and lost with the index.
    fn query(&mut self, _parameters: &[&dyn ToSql]) -> SqlResult<Rows<'_>> {
        Err(Error::Misused(
            "a statement that changes something is executed, and its rows are not asked for".to_owned(),
        ))
    }
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn put_bytes(bytes: &mut Vec<u8>, piece: &[u8]) {
    put_number(bytes, piece.len() as u64);
    bytes.extend_from_slice(piece);
}

/// Makes a record's changes again. `texts` are those of its segment so far.
///
/// # Errors
/// [`Fault::Damaged`] when the bytes are no changes, and what the database says.
pub(crate) fn apply(connection: &rusqlite::Connection, texts: &mut Vec<String>, changes: &[u8]) -> Result<(), Fault> {
    let mut rest = Rest(changes);
    while let Some(what) = rest.byte() {
        match what {
            KIND => {
                let kind = rest.byte().and_then(Kind::of);
                kind.ok_or_else(|| broken("a kind that this Tollgate does not know"))?;
            }
            TEXT => {
                let text = rest.piece().and_then(|text| str::from_utf8(text).ok());
                texts.push(text.ok_or_else(|| broken("a statement that is no text"))?.to_owned());
            }
            EXECUTE => {
                let number = rest.number().and_then(|number| usize::try_from(number).ok());
                let text = number.and_then(|number| texts.get(number));
                let text = text.ok_or_else(|| broken("a statement without a text"))?;
                let values = rest.values().ok_or_else(|| broken("a value that is none"))?;
                let values: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
                let mut statement = connection.prepare_cached(text).map_err(Fault::from)?;
                Prepared::execute(&mut statement, &values)?;
            }
            _ => return Err(broken("a change of a kind that this Tollgate does not know")),
        }
    }
    Ok(())
}

fn broken(what: &str) -> Fault {
    Fault::damaged("log", format_args!("a record holds {what}"))
}

/// What is left to be read.
struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn piece(&mut self) -> Option<&'b [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (piece, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(piece)
    }

    fn values(&mut self) -> Option<Vec<ValueRef<'b>>> {
        let count = self.number()?;
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(match self.byte()? {
                NULL => ValueRef::Null,
                INTEGER => {
                    let number = self.number()?;
                    ValueRef::Integer((number >> 1) as i64 ^ -((number & 1) as i64))
                }
                REAL => {
                    let (bytes, rest) = self.0.split_first_chunk()?;
                    self.0 = rest;
                    ValueRef::Real(f64::from_le_bytes(*bytes))
                }
                STRING => ValueRef::Text(str::from_utf8(self.piece()?).ok()?),
                BLOB => ValueRef::Blob(self.piece()?),
                _ => return None,
            });
        }
        Some(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Connection, params};

    const TABLE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b, c, d, e)";

    fn database() -> rusqlite::Connection {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLE).unwrap();
        connection
    }

    fn rows(connection: &rusqlite::Connection) -> Vec<String> {
        let mut statement = connection.prepare("SELECT * FROM t ORDER BY id").unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok(format!("{:?}", [0, 1, 2, 3, 4, 5].map(|at| row.get_ref(at).unwrap())));
        statement.query_map([], row).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn what_was_executed_is_made_again_with_every_value() {
        let recording = Recording::new(database(), &[]);
        let connection: &Connection = &recording;
        recording.begin(true);
        recording.note(Kind::Admitted);
        let insert = "INSERT INTO t (a, b, c, d, e) VALUES (?1, ?2, ?3, ?4, ?5)";
        for number in [0, 1, -1, i64::MAX, i64::MIN, 300] {
            let values = params![number, "text", &b"\x00blob"[..], None::<i64>, ValueRef::Real(-0.5)];
            connection.execute(insert, values).unwrap();
        }
        connection
            .execute("UPDATE t SET b = ?2 WHERE id > ?1", params![3, ""])
            .unwrap();
        connection.execute("DELETE FROM t WHERE id = ?1", [99]).unwrap();
        connection.query_row("SELECT count(*) FROM t", [], |_| Ok(())).unwrap();
        let other = database();
        let mut texts = Vec::new();
        recording.with_changes(|changes| apply(&other, &mut texts, changes.unwrap()).unwrap());
        assert_eq!(rows(&other), rows(recording.apart()));
        assert_eq!(
            texts.len(),
            2,
            "a statement that changed nothing is not kept: {texts:?}"
        );
    }

    #[test]
    fn a_text_stands_once_in_a_segment_and_one_of_a_group_that_failed_does_not_count() {
        let recording = Recording::new(database(), &[]);
        let connection: &Connection = &recording;
        let insert = |text: &str| connection.execute(text, []).unwrap();
        let changes = || recording.with_changes(|changes| changes.unwrap().to_vec());
        let (one, two) = ("INSERT INTO t (a) VALUES (1)", "INSERT INTO t (a) VALUES (2)");
        recording.begin(true);
        insert(one);
        let first = changes();
        recording.begin(false);
        insert(two);
        recording.forget();
        recording.begin(false);
        insert(one);
        insert(two);
        let second = changes();
        let mut texts = Vec::new();
        let other = database();
        apply(&other, &mut texts, &first).unwrap();
        apply(&other, &mut texts, &second).unwrap();
        assert_eq!(texts, [one, two]);
        assert_eq!(rows(&other).len(), 3);
        // A process that goes on in the same segment knows its texts.
        let next = Recording::new(database(), &texts);
        next.begin(false);
        (&next as &Connection).execute(two, []).unwrap();
        let third = next.with_changes(|changes| changes.unwrap().to_vec());
        assert!(third.len() < 8, "{third:?}");
        apply(&other, &mut texts, &third).unwrap();
        assert_eq!(rows(&other).len(), 4);
        next.begin(true);
        (&next as &Connection).execute(two, []).unwrap();
        assert!(next.with_changes(|changes| changes.unwrap().len()) > two.len());
    }

    #[test]
    fn what_changes_a_row_cannot_be_asked_for_its_rows_past_the_log() {
        let recording = Recording::new(database(), &[]);
        let connection: &Connection = &recording;
        recording.begin(true);
        let insert = "INSERT INTO t (a) VALUES (1) RETURNING id";
        let asked = connection.query_row(insert, [], |row| row.get::<_, i64>(0));
        assert!(matches!(asked, Err(Error::Misused(_))), "{asked:?}");
        assert_eq!(rows(recording.apart()).len(), 0);
        let with = "WITH numbers (n) AS (VALUES (1), (2)) SELECT sum(n) FROM numbers";
        assert_eq!(connection.query_row(with, [], |row| row.get::<_, i64>(0)), Ok(3));
        assert!(recording.with_changes(|changes| changes.is_none()));
    }

    #[test]
    fn bytes_that_are_no_changes_are_an_error_and_never_a_panic() {
        let recording = Recording::new(database(), &[]);
        recording.begin(true);
        recording.note(Kind::Settled);
        let connection: &Connection = &recording;
        let insert = "INSERT INTO t (a, b, c) VALUES (?1, ?2, ?3)";
        connection.execute(insert, params![7, "seven", &b"7"[..]]).unwrap();
        let whole = recording.with_changes(|changes| changes.unwrap().to_vec());
        for at in 0..whole.len() {
            let _ = apply(&database(), &mut Vec::new(), &whole[..at]);
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                let _ = apply(&database(), &mut Vec::new(), &changed);
            }
        }
        assert!(apply(&database(), &mut Vec::new(), &[9]).is_err());
        assert!(apply(&database(), &mut Vec::new(), &[EXECUTE, 0, 0]).is_err());
    }
}
