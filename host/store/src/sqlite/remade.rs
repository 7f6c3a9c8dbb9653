//! Whether the index says what the log says.
//!
//! Receipts have a chain of their own. Runs, actions, the outbox, attempts, reviews, state and the registry stand in the log as the
//! statements that made them, each record sealed over the one before. So an index that is made from the log again must have the same
//! rows, and a row that somebody edited, removed or brought in behind the host's back is found, whatever it is about.

use std::cmp::Ordering;

use rusqlite::types::Value;

use super::files::StorePath;
use super::open;
use super::recovery;
use crate::StoreError;
use crate::audit::AuditProgress;
use crate::log::Applied;
use crate::statements::fault::Fault;

/// What the index keeps for itself and the log does not say (`FORMAT.md`): how far keys are carried, the chain's head, which the audit of receipts
/// holds against them, and its own place in the log.
const OF_THE_INDEX: [&str; 5] = ["receipt_keys", "recent", "subjects", "chain_heads", "meta"];
/// The same of a table: its newest receipt whose keys are carried.
const OF_ORIGINS: &str = "newest";

/// Makes an index anew beside the store, up to where the store's own came, and says in words where the two differ; nothing where there is no log
/// to make one from, because no native host has opened the store yet. Takes as much room as the index, and gives it back.
pub(super) fn differences(
    path: &StorePath,
    watch: &mut dyn FnMut(AuditProgress),
) -> Result<Option<Vec<String>>, StoreError> {
    let index = open::open_reader(path)?;
    open::check_schema(path, &index)?;
    // One snapshot: a host may go on writing.
    index
        .execute_batch("BEGIN")
        .map_err(|error| path.opening(error.into()))?;
    let end = recovery::read_applied(&index).map_err(|fault| path.opening(fault))?;
    if end == Applied::NOTHING {
        return Ok(None);
    }
    let fresh = path.beside_as_store(&format!(".audit-{}", std::process::id()))?;
    let made = recovery::make_up_to(path, &fresh, end, &mut |done, of| {
        watch(AuditProgress::Index { done, of })
    });
    let found = made.and_then(|(made, applied)| {
        if applied != end {
            return Ok(vec![format!(
                "log: its records can be believed up to {}, and the index was made from them up to {}",
                applied.end.position, end.end.position
            )]);
        }
        compare(&index, &made).map_err(|fault| path.opening(fault))
    });
    fresh.remove_index().map_err(|error| path.failed(&error))?;
    found.map(Some)
}

fn compare(index: &rusqlite::Connection, made: &rusqlite::Connection) -> Result<Vec<String>, Fault> {
    let (here, there) = (tables(index)?, tables(made)?);
    let strangers = here.iter().filter(|table| !there.contains(table));
    let mut found: Vec<String> = strangers
        .map(|table| format!("index: the table `{table}` is not of this store"))
        .collect();
    for table in &there {
        if !here.contains(table) {
            found.push(format!("index: the table `{table}` is missing"));
            continue;
        }
        let columns = Columns::of(made, table)?;
        found.extend(
            Table {
                table,
                columns: &columns,
            }
            .compare(index, made)?,
        );
    }
    Ok(found)
}

fn tables(database: &rusqlite::Connection) -> Result<Vec<String>, Fault> {
    let mut statement = database
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    let names = names.collect::<Result<Vec<_>, _>>()?;
    Ok(names
        .into_iter()
        .filter(|name| !OF_THE_INDEX.contains(&name.as_str()))
        .collect())
}

/// Columns by name, those of the key first.
struct Columns {
    names: Vec<String>,
    of_key: usize,
}

impl Columns {
    fn of(database: &rusqlite::Connection, table: &str) -> Result<Self, Fault> {
        let mut statement = database.prepare("SELECT name, pk FROM pragma_table_info(?1) ORDER BY pk = 0, pk, cid")?;
        let columns = statement.query_map([table], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        let mut columns = columns.collect::<Result<Vec<_>, _>>()?;
        columns.retain(|(name, _)| !(table == "origins" && name == OF_ORIGINS));
        let of_key = columns.iter().filter(|(_, pk)| *pk > 0).count();
        let names: Vec<_> = columns.into_iter().map(|(name, _)| name).collect();
        Ok(Self {
            // Rows of a table without a key are known by all that they say.
            of_key: if of_key == 0 { names.len() } else { of_key },
            names,
        })
    }
}

struct Table<'a> {
    table: &'a str,
    columns: &'a Columns,
}

type Row = Vec<Value>;

impl Table<'_> {
    /// Goes along both in the order of the key, a row of each in memory.
    fn compare(&self, index: &rusqlite::Connection, made: &rusqlite::Connection) -> Result<Vec<String>, Fault> {
        let Columns { names, of_key } = self.columns;
        let quoted: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
        let sql = format!(
            "SELECT {} FROM \"{}\" ORDER BY {}",
            quoted.join(", "),
            self.table,
            quoted[..*of_key].join(", ")
        );
        let (mut here, mut there) = (index.prepare(&sql)?, made.prepare(&sql)?);
        let (mut here, mut there) = (here.query([])?, there.query([])?);
        let (mut own, mut due) = (self.next(&mut here)?, self.next(&mut there)?);
        let mut found = Found::default();
        loop {
            let order = match (&own, &due) {
                (None, None) => return Ok(found.in_words(self.table)),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(own), Some(due)) => order(&own[..*of_key], &due[..*of_key]),
            };
            match (order, &own, &due) {
                (Ordering::Equal, Some(row), Some(other)) if row != other => {
                    let differs = |at: &usize| row[*at] != other[*at];
                    let columns: Vec<_> = (0..names.len()).filter(differs).map(|at| names[at].clone()).collect();
                    found.changed.note(&row[..*of_key], Some(columns.join(", ")));
                }
                (Ordering::Less, Some(row), _) => found.brought_in.note(&row[..*of_key], None),
                (Ordering::Greater, _, Some(row)) => found.missing.note(&row[..*of_key], None),
                _ => {}
            }
            if order.is_le() {
                own = self.next(&mut here)?;
            }
            if order.is_ge() {
                due = self.next(&mut there)?;
            }
        }
    }

    fn next(&self, rows: &mut rusqlite::Rows<'_>) -> Result<Option<Row>, Fault> {
        let Some(row) = rows.next()? else { return Ok(None) };
        let values = (0..self.columns.names.len()).map(|at| row.get(at));
        Ok(Some(values.collect::<Result<_, _>>()?))
    }
}

/// As SQLite orders what it compares byte by byte.
fn order(a: &[Value], b: &[Value]) -> Ordering {
    let kind = |value: &Value| match value {
        Value::Null => 0,
        Value::Integer(_) | Value::Real(_) => 1,
        Value::Text(_) => 2,
        Value::Blob(_) => 3,
    };
    let each = |(a, b): (&Value, &Value)| match (a, b) {
        (Value::Integer(a), Value::Integer(b)) => a.cmp(b),
        (Value::Real(a), Value::Real(b)) => a.total_cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Blob(a), Value::Blob(b)) => a.cmp(b),
        _ => kind(a).cmp(&kind(b)),
    };
    a.iter()
        .zip(b)
        .map(each)
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// What is wrong with a table.
#[derive(Default)]
struct Found {
    changed: Rows,
    brought_in: Rows,
    missing: Rows,
}

/// Rows with the same fault: how many, and the first in words.
#[derive(Default)]
struct Rows {
    count: u64,
    first: String,
}

impl Rows {
    /// Names and what senders wrote are not shown: numbers are enough to find the row.
    fn note(&mut self, key: &[Value], columns: Option<String>) {
        self.count += 1;
        if self.count > 1 {
            return;
        }
        if let [Value::Integer(number)] = key {
            self.first = format!(", the first is number {number}");
        }
        if let Some(columns) = columns {
            self.first.push_str(&format!(" ({columns})"));
        }
    }
}

impl Found {
    fn in_words(self, table: &str) -> Vec<String> {
        let say = |rows: Rows, what: &str| {
            let (count, noun) = (rows.count, if rows.count == 1 { "row" } else { "rows" });
            (count > 0).then(|| format!("index: {count} {noun} of `{table}` {what}{}", rows.first))
        };
        [
            say(self.changed, "say otherwise than the log"),
            say(self.brought_in, "are not in the log"),
            say(self.missing, "are missing, and are in the log"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
