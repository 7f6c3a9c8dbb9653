//! What the store uses of rusqlite, over a database that belongs to the guest's host.
//!
//! On wasm32 the store's statements and transactions are compiled against this crate under rusqlite's name, so that each is
//! written once. Behind it stands a [`Driver`]: on Spin, `spin:sqlite`, which takes one statement with positional parameters and
//! answers with whole rows. So a query reads all of its rows before the first is looked at; the store's bounds on rows hold here too.
//!
//! Only what the store uses is here, and it means what it means in rusqlite. Two things differ and are not used: a statement keeps
//! nothing prepared, and an error has no code of SQLite's own but the one that its text tells.
#![forbid(unsafe_code)]

mod error;
mod params;
mod row;
pub mod types;

pub use error::{Error, ErrorCode, ffi};
pub use params::Params;
pub use row::{MappedRows, Row, RowIndex, Rows};
pub use types::ToSql;

use types::Value;

pub type Result<T, E = Error> = std::result::Result<T, E>;

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
    pub columns: Vec<String>,
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

/// A connection of the host's database.
pub struct Connection {
    driver: Box<dyn Driver>,
}

impl Connection {
    pub fn new(driver: Box<dyn Driver>) -> Self {
        Self { driver }
    }

    /// Nothing is prepared: the host keeps its own cache.
    ///
    /// # Errors
    /// Never; rusqlite's can.
    pub fn prepare_cached(&self, sql: &str) -> Result<Statement<'_>> {
        self.prepare(sql)
    }

    /// # Errors
    /// Never; rusqlite's can.
    pub fn prepare(&self, sql: &str) -> Result<Statement<'_>> {
        Ok(Statement {
            connection: self,
            sql: sql.to_owned(),
        })
    }

    /// # Errors
    /// When the statement fails.
    pub fn execute(&self, sql: &str, params: impl Params) -> Result<usize> {
        self.ask(sql, &params)?;
        Ok(usize::try_from(self.driver.changes()).unwrap_or(usize::MAX))
    }

    /// # Errors
    /// When the statement fails, gives no row, or `read` refuses the row.
    pub fn query_row<T>(&self, sql: &str, params: impl Params, read: impl FnOnce(&Row<'_>) -> Result<T>) -> Result<T> {
        self.prepare(sql)?.query_row(params, read)
    }

    pub fn last_insert_rowid(&self) -> i64 {
        self.driver.last_insert_rowid()
    }

    fn ask(&self, sql: &str, params: &impl Params) -> Result<Answer> {
        let parameters = params.values(sql)?;
        self.driver.execute(sql, parameters).map_err(Error::of_driver)
    }
}

/// One statement of a connection.
pub struct Statement<'c> {
    connection: &'c Connection,
    sql: String,
}

impl Statement<'_> {
    /// # Errors
    /// When the statement fails.
    pub fn execute(&mut self, params: impl Params) -> Result<usize> {
        self.connection.execute(&self.sql, params)
    }

    /// # Errors
    /// When the statement fails.
    pub fn query(&mut self, params: impl Params) -> Result<Rows<'_>> {
        Ok(Rows::new(self.connection.ask(&self.sql, &params)?))
    }

    /// # Errors
    /// When the statement fails.
    pub fn query_map<T, F>(&mut self, params: impl Params, read: F) -> Result<MappedRows<'_, F>>
    where
        F: FnMut(&Row<'_>) -> Result<T>,
    {
        Ok(MappedRows::new(self.query(params)?, read))
    }

    /// # Errors
    /// When the statement fails, gives no row, or `read` refuses the row.
    pub fn query_row<T>(&mut self, params: impl Params, read: impl FnOnce(&Row<'_>) -> Result<T>) -> Result<T> {
        match self.query(params)?.next()? {
            Some(row) => read(row),
            None => Err(Error::QueryReturnedNoRows),
        }
    }
}

/// Makes "no rows" a value.
pub trait OptionalExtension<T> {
    /// # Errors
    /// Every error but [`Error::QueryReturnedNoRows`].
    fn optional(self) -> Result<Option<T>>;
}

impl<T> OptionalExtension<T> for Result<T> {
    fn optional(self) -> Result<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(Error::QueryReturnedNoRows) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
