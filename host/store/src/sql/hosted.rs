//! A database that belongs to a guest's host, as `spin:sqlite` is: it takes one statement with positional parameters, and gives
//! whole rows. So a query reads all of its rows before the first is looked at; the store's bounds on rows hold here too.

use super::{Column, Columns, Error, Kind, NextRow, Prepared, Result, Row, Rows, Sql, ToSql, Value, ValueRef};

/// The host's database, one statement at a time.
pub trait Driver {
    /// Executes one statement. Parameters are bound by position, from 1.
    ///
    /// # Errors
    /// As the host says it.
    fn execute(&self, sql: &str, parameters: Vec<Value>) -> std::result::Result<Answer, DriverError>;

    /// The row number of the last insert on this connection.
    fn last_insert_rowid(&self) -> i64;

    /// The rows that the last statement changed.
    fn changes(&self) -> u64;
}

/// All that a statement gave.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The names of the result's columns.
    pub columns: Vec<String>,
    /// One value for each column, row by row.
    pub rows: Vec<Vec<Value>>,
}

/// Why the host did not execute a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverError {
    /// The database has reached its capacity.
    Full,
    /// Anything else, in the host's words.
    Other(String),
}

pub(crate) struct Hosted<D>(pub(crate) D);

/// Nothing is prepared: the host keeps its own cache.
struct Asked<'d> {
    driver: &'d dyn Driver,
    sql: String,
}

impl<D: Driver> Sql for Hosted<D> {
    fn prepare(&self, sql: &str) -> Result<Box<dyn Prepared + '_>> {
        Ok(Box::new(Asked {
            driver: &self.0,
            sql: sql.to_owned(),
        }))
    }

    fn last_insert_rowid(&self) -> i64 {
        self.0.last_insert_rowid()
    }
}

impl Asked<'_> {
    fn ask(&self, parameters: &[&dyn ToSql]) -> Result<Answer> {
        let values = parameters.iter().map(|parameter| parameter.to_sql().into());
        self.driver.execute(&self.sql, values.collect()).map_err(failed)
    }
}

impl Prepared for Asked<'_> {
    fn changed(&mut self, parameters: &[&dyn ToSql]) -> Result<usize> {
        self.ask(parameters)?;
        Ok(usize::try_from(self.driver.changes()).unwrap_or(usize::MAX))
    }

    fn query(&mut self, parameters: &[&dyn ToSql]) -> Result<Rows<'_>> {
        let Answer { columns, rows } = self.ask(parameters)?;
        Ok(Box::new(Answered {
            columns,
            waiting: rows.into_iter(),
            row: Vec::new(),
        }))
    }
}

/// An answer that is read row by row.
struct Answered {
    columns: Vec<String>,
    waiting: std::vec::IntoIter<Vec<Value>>,
    row: Vec<Value>,
}

impl NextRow for Answered {
    fn next(&mut self) -> Result<Option<&Row<'_>>> {
        let Some(row) = self.waiting.next() else {
            return Ok(None);
        };
        self.row = row;
        Ok(Some(self))
    }
}

impl Columns for Answered {
    fn value(&self, column: Column<'_>) -> Result<ValueRef<'_>> {
        let at = match column {
            Column::At(at) => Some(at),
            Column::Named(name) => self.columns.iter().position(|found| found.eq_ignore_ascii_case(name)),
        };
        let value = at.and_then(|at| self.row.get(at));
        value
            .map(ValueRef::from)
            .ok_or_else(|| Error::Misused(format!("there is no column {column}")))
    }
}

/// A host passes SQLite's message on, and nothing else. The messages are SQLite's own (`sqlite3_errstr`), and part of its
/// documented interface.
fn failed(error: DriverError) -> Error {
    let (kind, code, text) = match error {
        DriverError::Full => (Kind::NoSpace, 13, "the database is full".to_owned()),
        DriverError::Other(text) => {
            let said = |words: &str| text.contains(words);
            let (kind, code) = if said("database is locked") || said("database table is locked") {
                (Kind::Busy, 5)
            } else if said("database or disk is full") {
                (Kind::NoSpace, 13)
            } else if said("disk I/O error") {
                (Kind::Disk, 10)
            } else if said("database disk image is malformed") {
                (Kind::Corrupt, 11)
            } else if said("file is not a database") {
                (Kind::Corrupt, 26)
            } else {
                (Kind::Other, 1)
            };
            (kind, code, text)
        }
    };
    Error::Failed { kind, code, text }
}
