//! `spin:sqlite`: one connection per opened handle, one statement per call, values by position.

use std::path::Path;

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, params_from_iter};

use crate::guest::bindings::spin::sqlite::sqlite::{Error, QueryResult, RowResult, Value};

/// As Spin opens it: rusqlite's defaults.
pub fn open(path: &Path) -> Result<Connection, Error> {
    Connection::open(path).map_err(|error| Error::Io(error.to_string()))
}

/// Executes the first statement of `sql`. Like Spin's, it leaves out what follows it.
pub fn execute(connection: &Connection, sql: &str, parameters: Vec<Value>) -> Result<QueryResult, Error> {
    let fail = |error: rusqlite::Error| match error {
        rusqlite::Error::SqliteFailure(error, _) if error.code == rusqlite::ErrorCode::DiskFull => Error::DatabaseFull,
        other => Error::Io(other.to_string()),
    };
    let mut statement = connection.prepare_cached(sql).map_err(fail)?;
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut found = statement
        .query(params_from_iter(parameters.into_iter().map(to_sql)))
        .map_err(fail)?;
    let mut rows = Vec::new();
    while let Some(row) = found.next().map_err(fail)? {
        let values = (0..columns.len())
            .map(|at| row.get::<_, SqlValue>(at).map(of_sql))
            .collect::<Result<_, _>>()
            .map_err(fail)?;
        rows.push(RowResult { values });
    }
    Ok(QueryResult { columns, rows })
}

fn to_sql(value: Value) -> SqlValue {
    match value {
        Value::Integer(number) => SqlValue::Integer(number),
        Value::Real(number) => SqlValue::Real(number),
        Value::Text(text) => SqlValue::Text(text),
        Value::Blob(bytes) => SqlValue::Blob(bytes),
        Value::Null => SqlValue::Null,
    }
}

fn of_sql(value: SqlValue) -> Value {
    match value {
        SqlValue::Integer(number) => Value::Integer(number),
        SqlValue::Real(number) => Value::Real(number),
        SqlValue::Text(text) => Value::Text(text),
        SqlValue::Blob(bytes) => Value::Blob(bytes),
        SqlValue::Null => Value::Null,
    }
}
