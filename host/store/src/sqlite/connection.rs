//! rusqlite's connection as the store's database.

use rusqlite::types::{ToSqlOutput, ValueRef as Native};
use rusqlite::{ErrorCode, ffi};

use super::fault::Fault;
use crate::sql::{Column, Columns, Error, Kind, NextRow, Prepared, Result, Row, Rows, Sql, ToSql, ValueRef};

impl Sql for rusqlite::Connection {
    fn prepare(&self, sql: &str) -> Result<Box<dyn Prepared + '_>> {
        Ok(Box::new(self.prepare_cached(sql)?))
    }

    fn last_insert_rowid(&self) -> i64 {
        self.last_insert_rowid()
    }
}

impl Prepared for rusqlite::CachedStatement<'_> {
    fn changed(&mut self, parameters: &[&dyn ToSql]) -> Result<usize> {
        bind(self, parameters)?;
        Ok(self.raw_execute()?)
    }

    fn query(&mut self, parameters: &[&dyn ToSql]) -> Result<Rows<'_>> {
        bind(self, parameters)?;
        Ok(Box::new(self.raw_query()))
    }
}

fn bind(statement: &mut rusqlite::Statement<'_>, parameters: &[&dyn ToSql]) -> Result<()> {
    let expected = statement.parameter_count();
    if parameters.len() != expected {
        let found = parameters.len();
        return Err(Error::Misused(format!("{found} parameters instead of {expected}")));
    }
    for (parameter, at) in parameters.iter().zip(1..) {
        let value = match parameter.to_sql() {
            ValueRef::Null => Native::Null,
            ValueRef::Integer(number) => Native::Integer(number),
            ValueRef::Real(number) => Native::Real(number),
            ValueRef::Text(text) => Native::Text(text.as_bytes()),
            ValueRef::Blob(bytes) => Native::Blob(bytes),
        };
        statement.raw_bind_parameter::<usize, _>(at, ToSqlOutput::Borrowed(value))?;
    }
    Ok(())
}

impl NextRow for rusqlite::Rows<'_> {
    fn next(&mut self) -> Result<Option<&Row<'_>>> {
        Ok(rusqlite::Rows::next(self)?.map(|row| row as &Row<'_>))
    }
}

impl Columns for rusqlite::Row<'_> {
    fn value(&self, column: Column<'_>) -> Result<ValueRef<'_>> {
        let value = match column {
            Column::At(at) => self.get_ref(at),
            Column::Named(name) => self.get_ref(name),
        };
        Ok(match value? {
            Native::Null => ValueRef::Null,
            Native::Integer(number) => ValueRef::Integer(number),
            Native::Real(number) => ValueRef::Real(number),
            Native::Text(bytes) => ValueRef::Text(
                str::from_utf8(bytes).map_err(|error| Error::Column(format!("column {column}: {error}")))?,
            ),
            Native::Blob(bytes) => ValueRef::Blob(bytes),
        })
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::SqliteFailure(failure, text) => Self::Failed {
                kind: kind(failure),
                code: failure.extended_code,
                text: text.unwrap_or_else(|| ffi::code_to_str(failure.extended_code).to_owned()),
            },
            rusqlite::Error::QueryReturnedNoRows => Self::NoRow,
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..) => Self::Column(error.to_string()),
            other => Self::Misused(other.to_string()),
        }
    }
}

fn kind(failure: ffi::Error) -> Kind {
    match failure.code {
        ErrorCode::DiskFull => Kind::NoSpace,
        // The WAL's index that could not grow. It is memory of the running processes and is built anew from the WAL, so nothing on
        // the disk is in doubt; it is what a full disk looks like when the index is what does not fit.
        _ if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE => Kind::NoSpace,
        ErrorCode::SystemIoFailure => Kind::Disk,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Kind::Corrupt,
        ErrorCode::DatabaseBusy => Kind::Busy,
        _ => Kind::Other,
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Error::from(error).into()
    }
}
