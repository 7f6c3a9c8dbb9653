//! What the store's statements need of a database, wherever it is: [`Sql`], in the shape of rusqlite's smallest part.
//!
//! Two databases give it: rusqlite's connection, in `sqlite`, and [`hosted`], one that belongs to a guest's host. A statement is
//! written once and runs on either.

mod hosted;
mod value;

pub(crate) use self::hosted::Hosted;
pub use self::hosted::{Answer, Driver, DriverError};
use self::value::NotThat;
pub use self::value::Value;
pub(crate) use self::value::{FromSql, ToSql, ValueRef};

/// A database, as a transaction's statements see it.
pub(crate) trait Sql {
    /// Makes a statement ready, and keeps it so for the next time where that saves work.
    ///
    /// # Errors
    /// When it is none, or the database has no such table.
    fn prepare(&self, sql: &str) -> Result<Box<dyn Prepared + '_>>;

    /// The row number of the last insert on this connection.
    fn last_insert_rowid(&self) -> i64;

    /// Says that a query will be asked for: where an answer takes a while, it is asked now, with others, and the query finds it. Costs nothing where
    /// answers are at hand.
    ///
    /// # Errors
    /// When the statement is none.
    fn will_ask(&self, _sql: &str, _parameters: &[&dyn ToSql]) -> Result<()> {
        Ok(())
    }
}

/// A statement that is ready.
pub(crate) trait Prepared {
    /// Executes it. Parameters are bound by position, from 1.
    ///
    /// # Errors
    /// When the statement fails. A server may say so only when something is asked of it again, or when the transaction ends: then that fails.
    fn execute(&mut self, parameters: &[&dyn ToSql]) -> Result<()> {
        self.changed(parameters).map(drop)
    }

    /// Executes it, and says how many rows it changed.
    ///
    /// # Errors
    /// When the statement fails.
    fn changed(&mut self, parameters: &[&dyn ToSql]) -> Result<usize>;

    /// Asks for its rows.
    ///
    /// # Errors
    /// When the statement fails.
    fn query(&mut self, parameters: &[&dyn ToSql]) -> Result<Rows<'_>>;
}

/// The rows of one answer, one at a time.
pub(crate) trait NextRow {
    /// # Errors
    /// When the database cannot read on.
    fn next(&mut self) -> Result<Option<&Row<'_>>>;
}

/// One row.
pub(crate) trait Columns {
    /// # Errors
    /// When there is no such column, or it holds a text that is not UTF-8.
    fn value(&self, column: Column<'_>) -> Result<ValueRef<'_>>;
}

/// How a column is named: by its position from 0, or by its name.
#[derive(Clone, Copy)]
pub(crate) enum Column<'n> {
    At(usize),
    Named(&'n str),
}

pub(crate) type Connection = dyn Sql;
pub(crate) type Rows<'s> = Box<dyn NextRow + 's>;
pub(crate) type Row<'r> = dyn Columns + 'r;
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl dyn Sql {
    pub(crate) fn prepare_cached(&self, sql: &str) -> Result<Statement<'_>> {
        self.prepare(sql).map(Statement)
    }

    pub(crate) fn execute(&self, sql: &str, parameters: impl Params) -> Result<()> {
        self.prepare_cached(sql)?.execute(parameters)
    }

    pub(crate) fn query_row<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<T> {
        self.prepare_cached(sql)?.query_row(parameters, read)
    }
}

/// [`Prepared`], with the ways to ask that the store uses.
pub(crate) struct Statement<'c>(Box<dyn Prepared + 'c>);

impl Statement<'_> {
    pub(crate) fn execute(&mut self, parameters: impl Params) -> Result<()> {
        parameters.bound(|parameters| self.0.execute(parameters))
    }

    /// Executes it, and says how many rows it changed.
    pub(crate) fn changed(&mut self, parameters: impl Params) -> Result<usize> {
        parameters.bound(|parameters| self.0.changed(parameters))
    }

    pub(crate) fn query(&mut self, parameters: impl Params) -> Result<Rows<'_>> {
        parameters.bound(|parameters| self.0.query(parameters))
    }

    /// The first row; [`Error::NoRow`] if there is none.
    pub(crate) fn query_row<T>(
        &mut self,
        parameters: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut rows = self.query(parameters)?;
        read(first(&mut *rows)?)
    }

    pub(crate) fn query_map<T, F>(&mut self, parameters: impl Params, read: F) -> Result<MappedRows<'_, F>>
    where
        F: FnMut(&Row<'_>) -> Result<T>,
    {
        let rows = self.query(parameters)?;
        Ok(MappedRows { rows, read })
    }
}

fn first<'r>(rows: &'r mut dyn NextRow) -> Result<&'r Row<'r>> {
    rows.next()?.ok_or(Error::NoRow)
}

/// Rows, each read by a function.
pub(crate) struct MappedRows<'s, F> {
    rows: Rows<'s>,
    read: F,
}

impl<T, F: FnMut(&Row<'_>) -> Result<T>> Iterator for MappedRows<'_, F> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        let row = self.rows.next().transpose()?;
        Some(row.and_then(&mut self.read))
    }
}

impl dyn Columns + '_ {
    pub(crate) fn get<'n, C: Into<Column<'n>>, T: FromSql>(&self, column: C) -> Result<T> {
        let column = column.into();
        T::of(self.value(column)?).map_err(|error| column.lacks(&error))
    }

    pub(crate) fn get_ref<'n>(&self, column: impl Into<Column<'n>>) -> Result<ValueRef<'_>> {
        self.value(column.into())
    }
}

impl Column<'_> {
    fn lacks(self, error: &NotThat) -> Error {
        Error::Column(format!("column {self}: {error}"))
    }
}

impl From<usize> for Column<'_> {
    fn from(at: usize) -> Self {
        Self::At(at)
    }
}

impl<'n> From<&'n str> for Column<'n> {
    fn from(name: &'n str) -> Self {
        Self::Named(name)
    }
}

impl std::fmt::Display for Column<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(at) => at.fmt(f),
            Self::Named(name) => name.fmt(f),
        }
    }
}

/// The parameters of one statement, in the shapes in which the store writes them.
pub(crate) trait Params {
    fn bound<R>(self, bind: impl FnOnce(&[&dyn ToSql]) -> R) -> R;
}

/// `[]` is no parameters.
impl Params for [&dyn ToSql; 0] {
    fn bound<R>(self, bind: impl FnOnce(&[&dyn ToSql]) -> R) -> R {
        bind(&self)
    }
}

impl<T: ToSql> Params for [T; 1] {
    fn bound<R>(self, bind: impl FnOnce(&[&dyn ToSql]) -> R) -> R {
        bind(&[&self[0]])
    }
}

impl Params for &[&dyn ToSql] {
    fn bound<R>(self, bind: impl FnOnce(&[&dyn ToSql]) -> R) -> R {
        bind(self)
    }
}

/// Parameters of several types: `params![a, b]`.
macro_rules! params {
    ($($param:expr),+ $(,)?) => { &[$(&$param as &dyn $crate::sql::ToSql),+] as &[&dyn $crate::sql::ToSql] };
}
pub(crate) use params;

/// Why a database did not do what it was asked, as far as the store tells it apart.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum Error {
    #[error("{text} (SQLite code {code})")]
    Failed { kind: Kind, code: i32, text: String },
    /// A server said so, or is not there to say anything.
    #[error("{text}")]
    #[cfg(not(target_family = "wasm"))]
    Server { kind: Kind, text: String },
    #[error("the query returned no rows")]
    NoRow,
    /// Whoever looks ahead has asked for it, and has no answer yet.
    #[error("the answer is on its way")]
    #[cfg(not(target_family = "wasm"))]
    OnItsWay,
    /// What a column holds is not what was asked for.
    #[error("{0}")]
    Column(String),
    /// The statement and what was asked of it do not fit together.
    #[error("{0}")]
    Misused(String),
}

/// What a failure was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Another connection holds the lock.
    Busy,
    /// Nothing was written and nothing is in doubt.
    NoSpace,
    /// The disk failed.
    Disk,
    /// The file is not a database, or not whole.
    Corrupt,
    /// A server cannot be reached, or has ended the connection. What was not committed is not written.
    #[cfg(not(target_family = "wasm"))]
    Away,
    Other,
}

/// Makes "no rows" a value.
pub(crate) trait OptionalExtension<T> {
    /// # Errors
    /// Every error but [`Error::NoRow`].
    fn optional(self) -> Result<Option<T>>;
}

impl<T> OptionalExtension<T> for Result<T> {
    fn optional(self) -> Result<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(Error::NoRow) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
