//! `spin:sqlite` as the store's database.

use spin_sdk::sqlite3::{Connection, Error, Value as SpinValue};
use tollgate_store::{Answer, Driver, DriverError, GuestStore, StoreError, Value};

/// Opens the store in the app's default database.
///
/// # Errors
/// As [`GuestStore::open`].
pub fn open() -> Result<GuestStore, StoreError> {
    let connection = Connection::open_default().map_err(|error| StoreError::Open {
        path: "the app's default database".to_owned(),
        detail: error.to_string(),
    })?;
    GuestStore::open(SpinSqlite(connection))
}

struct SpinSqlite(Connection);

impl Driver for SpinSqlite {
    fn execute(&self, sql: &str, parameters: Vec<Value>) -> Result<Answer, DriverError> {
        let parameters: Vec<_> = parameters.into_iter().map(to_spin).collect();
        let result = self.0.execute(sql, &parameters).map_err(|error| match error {
            Error::DatabaseFull => DriverError::Full,
            Error::Io(text) => DriverError::Other(text),
            other => DriverError::Other(other.to_string()),
        })?;
        Ok(Answer {
            columns: result.columns,
            rows: result
                .rows
                .into_iter()
                .map(|row| row.values.into_iter().map(of_spin).collect())
                .collect(),
        })
    }

    fn last_insert_rowid(&self) -> i64 {
        self.0.last_insert_rowid()
    }

    fn changes(&self) -> u64 {
        self.0.changes()
    }
}

fn to_spin(value: Value) -> SpinValue {
    match value {
        Value::Null => SpinValue::Null,
        Value::Integer(number) => SpinValue::Integer(number),
        Value::Real(number) => SpinValue::Real(number),
        Value::Text(text) => SpinValue::Text(text),
        Value::Blob(bytes) => SpinValue::Blob(bytes),
    }
}

fn of_spin(value: SpinValue) -> Value {
    match value {
        SpinValue::Null => Value::Null,
        SpinValue::Integer(number) => Value::Integer(number),
        SpinValue::Real(number) => Value::Real(number),
        SpinValue::Text(text) => Value::Text(text),
        SpinValue::Blob(bytes) => Value::Blob(bytes),
    }
}
