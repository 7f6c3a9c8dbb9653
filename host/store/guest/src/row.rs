//! Rows of an answer.

use std::marker::PhantomData;

use crate::types::{FromSql, Value, ValueRef};
use crate::{Answer, Error, Result};

/// The rows of one answer, one at a time. `'s` is the statement's, which rusqlite's rows borrow.
pub struct Rows<'s> {
    columns: Vec<String>,
    waiting: std::vec::IntoIter<Vec<Value>>,
    row: Option<Row<'static>>,
    statement: PhantomData<&'s ()>,
}

impl Rows<'_> {
    pub(crate) fn new(answer: Answer) -> Self {
        Self {
            columns: answer.columns,
            waiting: answer.rows.into_iter(),
            row: None,
            statement: PhantomData,
        }
    }

    /// # Errors
    /// Never; rusqlite's can.
    #[expect(clippy::should_implement_trait, reason = "rusqlite's name")]
    pub fn next(&mut self) -> Result<Option<&Row<'_>>> {
        let values = self.waiting.next();
        // The names move from row to row.
        let columns = match self.row.take() {
            Some(row) => row.columns,
            None => std::mem::take(&mut self.columns),
        };
        match values {
            Some(values) => {
                self.row = Some(Row {
                    columns,
                    values,
                    statement: PhantomData,
                });
                Ok(self.row.as_ref())
            }
            None => {
                self.columns = columns;
                Ok(None)
            }
        }
    }
}

/// One row.
pub struct Row<'s> {
    columns: Vec<String>,
    values: Vec<Value>,
    statement: PhantomData<&'s ()>,
}

impl Row<'_> {
    /// # Errors
    /// When there is no such column, or its value is not a `T`.
    pub fn get<I: RowIndex, T: FromSql>(&self, index: I) -> Result<T> {
        let value = self.value(&index)?;
        T::column_result(value).map_err(|error| error.in_column(&index.name()))
    }

    /// # Errors
    /// When there is no such column.
    pub fn get_ref<I: RowIndex>(&self, index: I) -> Result<ValueRef<'_>> {
        self.value(&index)
    }

    fn value<I: RowIndex>(&self, index: &I) -> Result<ValueRef<'_>> {
        index
            .position(&self.columns)
            .and_then(|at| self.values.get(at))
            .map(ValueRef::from)
            .ok_or_else(|| Error::InvalidColumnName(index.name()))
    }
}

/// How a column is named: by its position from 0, or by its name.
pub trait RowIndex {
    fn position(&self, columns: &[String]) -> Option<usize>;
    /// For messages.
    fn name(&self) -> String;
}

impl RowIndex for usize {
    fn position(&self, _columns: &[String]) -> Option<usize> {
        Some(*self)
    }

    fn name(&self) -> String {
        self.to_string()
    }
}

impl RowIndex for &str {
    fn position(&self, columns: &[String]) -> Option<usize> {
        columns.iter().position(|column| column.eq_ignore_ascii_case(self))
    }

    fn name(&self) -> String {
        (*self).to_owned()
    }
}

/// Rows, each read by a function.
pub struct MappedRows<'s, F> {
    rows: Rows<'s>,
    read: F,
}

impl<'s, F> MappedRows<'s, F> {
    pub(crate) fn new(rows: Rows<'s>, read: F) -> Self {
        Self { rows, read }
    }
}

impl<T, F: FnMut(&Row<'_>) -> Result<T>> Iterator for MappedRows<'_, F> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        match self.rows.next() {
            Ok(Some(row)) => Some((self.read)(row)),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }
}
